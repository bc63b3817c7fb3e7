/* SPDX-License-Identifier: Apache-2.0 */
/* The flat file: bytes that say nothing of themselves, loaded and entered where the caller says. */
#include "formats.h"

#include <inttypes.h>

#define REAL_ADDR    UINT64_C(0x10000)
#define PARAGRAPH    16u /* what a segment register counts in (SDM vol. 3, 21.1.1) */
#define LIMIT_32_BIT UINT64_C(0x100000000)

/* The first address that a file for MODE must leave alone. */
static uint64_t limit_of(uint32_t mode)
{
	switch (mode) {
	case IMPOST_X86_MODE_REAL:
		return IMPOST_X86_EBDA_ADDR;
	case IMPOST_X86_MODE_PROTECTED:
		return LIMIT_32_BIT;
	default:
		return UINT64_MAX;
	}
}

int flat_read(const struct image *image, const struct impost_x86_kernel_want *want,
	      struct impost_x86_kernel *ret_kernel)
{
	uint32_t mode = want->mode ? want->mode : IMPOST_X86_MODE_LONG;
	int real = mode == IMPOST_X86_MODE_REAL;
	uint64_t start = want->address, limit = limit_of(mode);

	if (!start)
		start = real ? REAL_ADDR : IMPOST_X86_HIGH_RAM;
	if (real && start % PARAGRAPH)
		return impost_error_set(image->ctx, -EINVAL,
					"a flat kernel cannot be entered at 0x%" PRIx64
					" in real mode: a multiple of %u is needed",
					start, PARAGRAPH);
	if (start >= limit || image->bytes > limit - start)
		return impost_error_set(image->ctx, -IMPOST_EIMAGE,
					"the flat kernel has %" PRIu64 " bytes: at 0x%" PRIx64
					" it does not end below 0x%" PRIx64 ", as %s mode needs",
					image->bytes, start, limit, impost_x86_mode_name(mode));
	*ret_kernel = (struct impost_x86_kernel){
		.format = IMPOST_X86_FORMAT_FLAT,
		.protocol = IMPOST_X86_PROTOCOL_FLAT,
		.mode = mode,
		.cmdline_max = (uint32_t)IMPOST_X86_CMDLINE_MAX - 1,
		.entry = start,
		.start = start,
		.end = start + image->bytes,
		.payload_bytes = image->bytes,
		.initrd_max = mode == IMPOST_X86_MODE_LONG ? UINT64_MAX : INITRD_MAX,
	};
	return 0;
}
