/* SPDX-License-Identifier: Apache-2.0 */
/* The GDT of the 64-bit entry. */
#include "segments.h"

#include <assert.h>

#include <impost/x86_64/boot.h>

static_assert(IMPOST_X86_GDT_ADDR + GDT_LIMIT < IMPOST_X86_IDT_ADDR, "the IDT lies behind the GDT");

/* Encodes a segment descriptor, of a TSS the lower half (SDM vol. 3, figure 3-8 and 8.2.3). */
static uint64_t descriptor(const struct impost_x86_segment *segment)
{
	uint64_t limit = segment->access & IMPOST_X86_AR_G ? segment->limit >> 12 : segment->limit;
	uint64_t base = segment->base;

	return (limit & 0xffff) | (base & 0xffffff) << 16 |
	       (uint64_t)(segment->access & 0xf0ff) << 40 | (limit >> 16 & 0xf) << 48 |
	       (base >> 24 & 0xff) << 56;
}

int impost_x86_write_gdt(struct impost_memory *memory)
{
	uint64_t gdt[GDT_ENTRIES] = {0};

	gdt[boot_cs.selector / 8] = descriptor(&boot_cs);
	gdt[boot_ds.selector / 8] = descriptor(&boot_ds);
	gdt[boot_tr.selector / 8] = descriptor(&boot_tr);
	gdt[boot_tr.selector / 8 + 1] = boot_tr.base >> 32;
	return impost_memory_write(memory, IMPOST_X86_GDT_ADDR, gdt, sizeof(gdt));
}
