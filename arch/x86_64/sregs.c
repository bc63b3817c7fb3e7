/* SPDX-License-Identifier: Apache-2.0 */
/* Segments and control registers of the 64-bit entry. */
#include "segments.h"

#include <impost/x86_64/boot.h>

/* SDM vol. 3, 2.5 and 2.2.1. ET is fixed to 1. */
#define CR0_PE	 (UINT64_C(1) << 0)
#define CR0_ET	 (UINT64_C(1) << 4)
#define CR0_PG	 (UINT64_C(1) << 31)
#define CR4_PAE	 (UINT64_C(1) << 5)
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_LMA (UINT64_C(1) << 10)

void impost_x86_setup_sregs(struct impost_x86_sregs *sregs, uint64_t cr3)
{
	*sregs = (struct impost_x86_sregs){
		.size = sizeof(*sregs),
		.cs = boot_cs,
		.ds = boot_ds,
		.es = boot_ds,
		.fs = boot_ds,
		.gs = boot_ds,
		.ss = boot_ds,
		.tr = boot_tr,
		.ldtr = {.access = IMPOST_X86_AR_UNUSABLE},
		.gdtr = {.base = IMPOST_X86_GDT_ADDR, .limit = GDT_LIMIT},
		/* No vector fits: an exception before the kernel has its own table shuts down. */
		.idtr = {.base = IMPOST_X86_IDT_ADDR, .limit = 0},
		.cr0 = CR0_PE | CR0_ET | CR0_PG,
		.cr3 = cr3,
		.cr4 = CR4_PAE,
		.efer = EFER_LME | EFER_LMA,
		.cr8 = sregs->cr8,
		.apic_base = sregs->apic_base,
	};
}
