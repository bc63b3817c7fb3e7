/* SPDX-License-Identifier: Apache-2.0 */
/* Memory types as a PC's firmware sets them (SDM vol. 3, 12.11). */
#include "structure.h"

#include <stddef.h>

#include <impost/memory.h>
#include <impost/x86_64/cpuid.h>
#include <impost/x86_64/registers.h>

/* SDM vol. 3, table 12-8 and 12.11.2. */
#define MTRR_PHYSBASE(n) (IMPOST_X86_MSR_IA32_MTRR_PHYSBASE0 + 2u * (n))
#define MTRR_PHYSMASK(n) (IMPOST_X86_MSR_IA32_MTRR_PHYSMASK0 + 2u * (n))
#define MASK_VALID	 UINT64_C(0x800)
#define DEF_FIXED	 UINT64_C(0x400)
#define DEF_ENABLE	 UINT64_C(0x800)

/* Types (SDM vol. 3, table 12-2); a fixed-range register has eight. */
#define UNCACHED   UINT64_C(0)
#define WRITE_BACK UINT64_C(6)
#define EIGHT(x)   (UINT64_C(0x0101010101010101) * (x))
#define UC	   EIGHT(UNCACHED)
#define WP	   EIGHT(UINT64_C(5))
#define WB	   EIGHT(WRITE_BACK)

#define FIXED_END  UINT64_C(0x100000)
#define PAIRS_MAX  40u /* the next would be where the fixed ranges are: MSR 0x250 */

/* Ranges of 64 KiB, of 16 KiB, and of 4 KiB. */
/* clang-format off */
#define FIXED(range, type) {.index = IMPOST_X86_MSR_IA32_MTRR_FIX##range, .value = (type)}
static const struct impost_x86_msr fixed_ranges[] = {
	FIXED(64K_00000, WB),
	FIXED(16K_80000, WB),
	FIXED(16K_A0000, UC), /* display memory */
	FIXED(4K_C0000, WP),  /* ROMs, up to 1 MiB */
	FIXED(4K_C8000, WP),
	FIXED(4K_D0000, WP),
	FIXED(4K_D8000, WP),
	FIXED(4K_E0000, WP),
	FIXED(4K_E8000, WP),
	FIXED(4K_F0000, WP),
	FIXED(4K_F8000, WP),
};
/* clang-format on */
#define FIXED_RANGES ((uint32_t)(sizeof(fixed_ranges) / sizeof(fixed_ranges[0])))
_Static_assert(IMPOST_X86_MTRRS(0) == FIXED_RANGES + 1, "the fixed ranges, and the default type");

static int is_possible(const struct impost_x86_mtrr_config *config)
{
	if (config->reserved)
		return 0;
	if (config->phys_bits < 32 || config->phys_bits > 52 || config->variable > PAIRS_MAX)
		return 0;
	if (config->hole_start % IMPOST_PAGE_SIZE || config->hole_end % IMPOST_PAGE_SIZE)
		return 0;
	if (config->hole_start == config->hole_end)
		return 1;
	return config->hole_start >= FIXED_END && config->hole_start < config->hole_end &&
	       config->hole_end <= UINT64_C(1) << config->phys_bits;
}

/* The largest power of two that an area from START to END can begin with, aligned to itself. */
static uint64_t first_block(uint64_t start, uint64_t end)
{
	uint64_t aligned = start & -start;
	uint64_t fits = UINT64_C(1) << (63 - __builtin_clzll(end - start));

	return aligned < fits ? aligned : fits;
}

static uint32_t pairs_needed(const struct impost_x86_mtrr_config *config)
{
	uint32_t pairs = 0;

	for (uint64_t at = config->hole_start; at < config->hole_end; pairs++)
		at += first_block(at, config->hole_end);
	return pairs;
}

/* Gives all pairs: first those that make up the hole, then the others, switched off. */
static void fill_variable(const struct impost_x86_mtrr_config *config, struct impost_x86_msr *msrs)
{
	const uint64_t addresses = (UINT64_C(1) << config->phys_bits) - 1;
	uint64_t at = config->hole_start;

	for (uint32_t i = 0; i < config->variable; i++) {
		struct impost_x86_msr base = {.index = MTRR_PHYSBASE(i)};
		struct impost_x86_msr mask = {.index = MTRR_PHYSMASK(i)};

		if (at < config->hole_end) {
			uint64_t bytes = first_block(at, config->hole_end);

			base.value = at | UNCACHED;
			mask.value = (addresses & ~(bytes - 1)) | MASK_VALID;
			at += bytes;
		}
		msrs[(size_t)i * 2] = base;
		msrs[(size_t)i * 2 + 1] = mask;
	}
}

/* What the first release knew of it: a caller's may be shorter or longer than ours. */
#define LEAST_CONFIG (offsetof(struct impost_x86_mtrr_config, hole_end) + sizeof(uint64_t))

int impost_x86_setup_mtrrs(const struct impost_x86_mtrr_config *config, struct impost_x86_msr *msrs,
			   uint32_t capacity, uint32_t *ret_count)
{
	struct impost_x86_mtrr_config whole;
	uint32_t count;
	int err = structure_take(NULL, "impost_x86_mtrr_config", &whole, sizeof(whole), config,
				 LEAST_CONFIG);

	if (err < 0)
		return err;
	if (!is_possible(&whole))
		return -EINVAL;
	count = IMPOST_X86_MTRRS(whole.variable);
	if (capacity < count || pairs_needed(&whole) > whole.variable)
		return -ENOSPC;
	for (uint32_t i = 0; i < FIXED_RANGES; i++)
		msrs[i] = fixed_ranges[i];
	fill_variable(&whole, msrs + FIXED_RANGES);
	msrs[count - 1] = (struct impost_x86_msr){
		.index = IMPOST_X86_MSR_IA32_MTRR_DEF_TYPE,
		.value = DEF_ENABLE | DEF_FIXED | WRITE_BACK,
	};
	*ret_count = count;
	return 0;
}
