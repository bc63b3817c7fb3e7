/* SPDX-License-Identifier: Apache-2.0 */
/* Segments and control registers at each mode's entry. */
#include "page_tables.h"
#include "segments.h"

#include <impost/x86_64/boot.h>

/* SDM vol. 3, 2.5 and 2.2.1. ET is fixed to 1. */
#define CR0_PE	  (UINT64_C(1) << 0)
#define CR0_ET	  (UINT64_C(1) << 4)
#define CR0_PG	  (UINT64_C(1) << 31)
#define CR4_PAE	  (UINT64_C(1) << 5)
#define CR4_LA57  (UINT64_C(1) << 12)
#define EFER_LME  (UINT64_C(1) << 8)
#define EFER_LMA  (UINT64_C(1) << 10)

#define REAL_END  UINT64_C(0x100000) /* of what a segment can begin at */
#define PARAGRAPH UINT64_C(16)

/* Hidden parts in real mode, as at reset (SDM vol. 3, table 10-1). */
#define REAL_CODE    0x9bu
#define REAL_DATA    0x93u
#define REAL_LDT     0x82u
#define REAL_TSS     0x8bu
#define REAL_LIMIT   0xffffu
#define VECTOR_LIMIT 0x3ffu /* 256 vectors of 4 bytes (SDM vol. 3, 21.1.4) */

static struct impost_x86_segment real_segment(uint64_t base, uint32_t access)
{
	return (struct impost_x86_segment){
		.selector = (uint16_t)(base / PARAGRAPH),
		.base = base,
		.limit = REAL_LIMIT,
		.access = access,
	};
}

static void set_real(struct impost_x86_sregs *sregs, uint64_t entry)
{
	const struct impost_x86_segment data = real_segment(entry, REAL_DATA);

	sregs->cs = real_segment(entry, REAL_CODE);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = real_segment(0, REAL_TSS);
	sregs->ldtr = real_segment(0, REAL_LDT);
	sregs->gdtr.limit = REAL_LIMIT;
	sregs->idtr.limit = VECTOR_LIMIT;
	sregs->cr0 = CR0_ET;
}

static void set_flat(struct impost_x86_sregs *sregs, const struct boot_segments *segments)
{
	sregs->cs = segments->code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = segments->data;
	sregs->tr = segments->task;
	sregs->ldtr.access = IMPOST_X86_AR_UNUSABLE;
	sregs->gdtr.base = IMPOST_X86_GDT_ADDR;
	sregs->gdtr.limit = GDT_LIMIT;
	/* No vector fits: an exception before the guest has its own table shuts down. */
	sregs->idtr.base = IMPOST_X86_IDT_ADDR;
	sregs->cr0 = CR0_PE | CR0_ET;
}

static void set_long(struct impost_x86_sregs *sregs, uint32_t levels, uint64_t cr3)
{
	sregs->cr0 |= CR0_PG;
	sregs->cr3 = cr3;
	sregs->cr4 = CR4_PAE | (levels == 5 ? CR4_LA57 : 0);
	sregs->efer = EFER_LME | EFER_LMA;
}

int impost_x86_setup_sregs(struct impost_x86_sregs *sregs, uint32_t mode, uint64_t entry,
			   const struct impost_x86_paging *paging, uint64_t cr3)
{
	const struct boot_segments *segments = boot_segments(mode);
	const int is_real = mode == IMPOST_X86_MODE_REAL, is_long = mode == IMPOST_X86_MODE_LONG;
	int err = 0;

	if (!is_real && !segments)
		return -EINVAL;
	if (is_real && (entry % PARAGRAPH || entry >= REAL_END))
		return -EINVAL;
	if (is_long)
		err = structure_check_known(NULL, "impost_x86_paging", paging, sizeof(*paging),
					    LEAST_PAGING);
	if (err < 0)
		return err;
	if (is_long && paging->levels != 4 && paging->levels != 5)
		return -EINVAL;
	*sregs = (struct impost_x86_sregs){
		.size = sizeof(*sregs),
		.cr8 = sregs->cr8,
		.apic_base = sregs->apic_base,
	};
	if (is_real)
		set_real(sregs, entry);
	else
		set_flat(sregs, segments);
	if (is_long)
		set_long(sregs, paging->levels, cr3);
	return 0;
}
