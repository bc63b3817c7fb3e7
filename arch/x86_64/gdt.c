/* SPDX-License-Identifier: Apache-2.0 */
/* The GDT, and the TSS that long mode has. */
#include "segments.h"

#include <assert.h>
#include <string.h>

#include <impost/x86_64/boot.h>

static_assert(IMPOST_X86_GDT_ADDR + GDT_LIMIT < IMPOST_X86_IDT_ADDR, "the IDT lies behind the GDT");
static_assert(IMPOST_X86_IDT_ADDR < IMPOST_X86_TSS_ADDR, "the TSS lies behind the IDT");

/* Encodes a segment descriptor, of a TSS the lower half (SDM vol. 3, figure 3-8 and 8.2.3). */
static uint64_t descriptor(const struct impost_x86_segment *segment)
{
	uint64_t limit = segment->access & IMPOST_X86_AR_G ? segment->limit >> 12 : segment->limit;
	uint64_t base = segment->base;

	return (limit & 0xffff) | (base & 0xffffff) << 16 |
	       (uint64_t)(segment->access & 0xf0ff) << 40 | (limit >> 16 & 0xf) << 48 |
	       (base >> 24 & 0xff) << 56;
}

/* No I/O port is allowed by a map that lies beyond the limit (SDM vol. 1, 19.5.2). */
static int write_tss(struct impost_memory *memory, uint64_t gpa)
{
	const uint16_t io_map = TSS_BYTES;
	uint8_t tss[TSS_BYTES] = {0};

	memcpy(tss + TSS_IO_MAP, &io_map, sizeof(io_map));
	return impost_memory_write(memory, gpa, tss, sizeof(tss));
}

int impost_x86_write_gdt(struct impost_memory *memory, uint32_t mode)
{
	const struct boot_segments *segments = boot_segments(mode);
	uint64_t gdt[GDT_ENTRIES] = {0};
	int err;

	if (mode == IMPOST_X86_MODE_REAL)
		return 0;
	if (!segments)
		return impost_error_set(
			impost_memory_context(memory), -EINVAL,
			"a GDT for mode %u: there are real (1), protected (2) and long (3)", mode);
	gdt[segments->code.selector / 8] = descriptor(&segments->code);
	gdt[segments->data.selector / 8] = descriptor(&segments->data);
	gdt[segments->task.selector / 8] = descriptor(&segments->task);
	gdt[segments->task.selector / 8 + 1] = segments->task.base >> 32;
	err = impost_memory_write(memory, IMPOST_X86_GDT_ADDR, gdt, sizeof(gdt));
	if (err == 0 && mode == IMPOST_X86_MODE_LONG)
		err = write_tss(memory, segments->task.base);
	return err;
}
