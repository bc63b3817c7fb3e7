/* SPDX-License-Identifier: Apache-2.0 */
/* Which identity map a guest needs, and can have. */
#include "page_tables.h"
#include "ram.h"

#include <inttypes.h>

#include <impost/x86_64/cpuid.h>

#define LEAF_FEATURES 7u
#define ECX_LA57      (1u << 16)
#define LEAF_EXTENDED 0x80000001u
#define EDX_PAGE1GB   (1u << 26)

/* The end of the highest run of RAM; 0 if there is none. */
static int end_of_ram(struct impost_memory *memory, uint64_t *ret_end)
{
	uint64_t end = 0;
	uint32_t cursor = 0;
	struct range run;
	int found;

	while ((found = ram_next(memory, &cursor, &run)) > 0)
		end = run.end;
	if (found == 0)
		*ret_end = end;
	return found;
}

int impost_x86_paging_for(struct impost_memory *memory, const struct impost_x86_cpuid *entries,
			  uint32_t count, struct impost_x86_paging *ret_paging)
{
	const uint32_t known = entries ? count : 0;
	const struct impost_x86_cpuid *features =
		impost_x86_cpuid_find(entries, known, LEAF_FEATURES, 0);
	const struct impost_x86_cpuid *extended =
		impost_x86_cpuid_find(entries, known, LEAF_EXTENDED, 0);
	struct impost_x86_paging paging = {
		.size = sizeof(paging),
		.levels = 4,
		.page_bytes = extended && (extended->edx & EDX_PAGE1GB) ? HUGE_PAGE : LARGE_PAGE,
	};
	int err = structure_check_size(impost_memory_context(memory), "impost_x86_paging",
				       ret_paging, LEAST_PAGING);

	if (err == 0)
		err = end_of_ram(memory, &paging.end);
	if (err < 0)
		return err;
	if (paging.end < TYPES_END)
		paging.end = TYPES_END;
	if (paging.end > END_LEVELS_4)
		paging.levels = 5;
	if (paging.end > END_LEVELS_5)
		return impost_error_set(impost_memory_context(memory), -EINVAL,
					"RAM ends at 0x%" PRIx64
					": an x86_64 CPU has at most 52 address bits",
					paging.end);
	if (paging.levels == 5 && (!features || !(features->ecx & ECX_LA57)))
		return impost_error_set(impost_memory_context(memory), -ENOTSUP,
					"RAM ends at 0x%" PRIx64 ": above 0x%" PRIx64
					" it takes 5-level paging, and CPUID "
					"has no LA57",
					paging.end, END_LEVELS_4);
	structure_give(ret_paging, &paging, sizeof(paging));
	return 0;
}
