/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers at a guest's entry, and the tables in its memory that they need. The
 * impost_x86_setup_*() functions are pure: each fills a section or a list that the caller sets on a
 * vCPU (impost_vcpu_set(), impost_vcpu_set_msrs()); they may be called from any thread and touch
 * nothing else. They give no error text, having no context: each error has one cause that is named
 * here. -E2BIG is as error.h has it.
 */
#ifndef IMPOST_X86_64_REGISTERS_H
#define IMPOST_X86_64_REGISTERS_H

#include <stdint.h>

#include <impost/error.h>
#include <impost/x86_64/kernel.h>
#include <impost/x86_64/state.h>

struct impost_memory;
struct impost_x86_layout;

#ifdef __cplusplus
extern "C" {
#endif

/* --- descriptor tables --- */

/*
 * Writes the GDT for MODE at IMPOST_X86_GDT_ADDR: null, null, code at selector 0x10 (64-bit in long
 * mode, 32-bit in protected mode), data at 0x18, TSS at 0x20; in long mode also an empty TSS, whose
 * I/O map lies beyond its limit, at IMPOST_X86_TSS_ADDR (SDM vol. 3, 3.4.5 and 8.7; boot.rst for
 * the selectors). In protected mode the TSS is at address 0, as PVH wants it, and nothing is
 * written there: a CPU at privilege level 0 does not read it. In real mode nothing is written.
 * -EINVAL: no such mode; -EFAULT: no memory there.
 */
IMPOST_API int impost_x86_write_gdt(struct impost_memory *memory, uint32_t mode);

/* --- paging --- */

/*
 * An identity map: the addresses from 0 to `end` are mapped to themselves, for reading, writing and
 * execution at privilege level 0. Below 4 GiB pages have 2 MiB at any rate, as memory types change
 * there: a page that had several would be undefined (SDM vol. 3, 12.11.9).
 */
struct impost_x86_paging {
	uint32_t size;	     /* set by the caller to sizeof(struct impost_x86_paging) */
	uint32_t levels;     /* 4, or 5 (CR4.LA57; CPUID 7.0:ECX[16]) */
	uint64_t page_bytes; /* from 4 GiB on: 2 MiB, or 1 GiB (CPUID 0x80000001:EDX[26]) */
	uint64_t end;	     /* gpa; rounded up to whole pages */
};

/*
 * Chooses the identity map of all RAM of MEMORY: up to its end, but at least 4 GiB; the largest
 * pages that the COUNT CPUID entries at ENTRIES have; 4 levels, or 5 where RAM ends above 128 TiB.
 * ENTRIES may be NULL: then nothing is known to be there. -ENOTSUP: it takes 5 levels, and CPUID
 * has no LA57; -EINVAL: RAM ends above 4 PiB, what 52 address bits reach, or RET_PAGING's size
 * cannot be; or as impost_memory_get().
 */
IMPOST_API int impost_x86_paging_for(struct impost_memory *memory,
				     const struct impost_x86_cpuid *entries, uint32_t count,
				     struct impost_x86_paging *ret_paging);

/*
 * How many bytes the tables for PAGING take: a multiple of 4096. -EINVAL: its size, neither 4 nor 5
 * levels, pages of neither 2 MiB nor 1 GiB, or an end that is 0 or beyond what can be mapped to
 * itself, 1
 * << 47 with 4 levels and 1 << 52 with 5 (SDM vol. 3, 4.5 and 4.1.4).
 */
IMPOST_API int impost_x86_page_tables_bytes(const struct impost_x86_paging *paging,
					    uint64_t *ret_bytes);

/*
 * Writes the tables for PAGING, and claims their place in LAYOUT (may be NULL) as "page tables": at
 * IMPOST_X86_PAGE_TABLE_ADDR if they end below the command line, else in the highest free RAM below
 * 4 GiB, for which a layout is needed. *ret_cr3 is the address for CR3, of the first table.
 * -EINVAL: as impost_x86_page_tables_bytes(); -EFAULT: no RAM at IMPOST_X86_PAGE_TABLE_ADDR;
 * -EFBIG: no room for them; or as impost_x86_layout_claim(). On failure LAYOUT is as it was.
 */
IMPOST_API int impost_x86_write_page_tables(struct impost_memory *memory,
					    struct impost_x86_layout *layout,
					    const struct impost_x86_paging *paging,
					    uint64_t *ret_cr3);

/* --- sections of a vCPU --- */

/* x87 after FNINIT and SSE as at reset (SDM vol. 3, table 10-1): FCW 0x37f, MXCSR 0x1f80; further
 * components in their initial state. Keeps XCR0, MXCSR_MASK and the layout that XSAVE has. */
IMPOST_API void impost_x86_setup_fpu(struct impost_x86_xsave *xsave);

/*
 * General registers at KERNEL's entry. INFO, the address of what tells the guest of its machine, is
 * in RSI for the Linux protocols, zero page (boot.rst, "64-bit Boot Protocol" and "32-bit Boot
 * Protocol"), and in RBX for PVH and for flat binaries in protected and long mode, start info (Xen,
 * docs/misc/pvh). In real mode IP is 0 and SP 0xfffe, and INFO does not count; else RIP is the
 * entry and RSP IMPOST_X86_BOOT_STACK. RFLAGS is 2, interrupts off, and all else 0.
 */
IMPOST_API void impost_x86_setup_regs(struct impost_x86_regs *regs,
				      const struct impost_x86_kernel *kernel, uint64_t info);

/*
 * Segments, tables and control registers for MODE. Keeps APIC base and CR8.
 *
 * Real: six segments of 64 KiB that begin at ENTRY, CR0 = ET, IDT as after reset, at 0 (SDM vol. 3,
 * 10.1.1 and 21.1.4). Protected: flat 32-bit segments from impost_x86_write_gdt()'s table, CR0 = PE
 * and ET, CR4 = 0, as both the 32-bit boot protocol and PVH want it. Long: flat segments from that
 * table, CR0 = PE, ET and PG, CR3 = CR3, CR4 = PAE, and LA57 where PAGING has 5 levels, EFER = LME
 * and LMA. In both the IDT has limit 0: an exception before the guest has its own shuts it down.
 *
 * ENTRY counts in real mode alone, CR3 and PAGING in long mode alone. -EINVAL: no such mode; real
 * mode with an ENTRY that is no multiple of 16 or not below 1 MiB; long mode where PAGING is NULL
 * or has a size that cannot be, or neither 4 nor 5 levels.
 */
IMPOST_API int impost_x86_setup_sregs(struct impost_x86_sregs *sregs, uint32_t mode, uint64_t entry,
				      const struct impost_x86_paging *paging, uint64_t cr3);

/*
 * Local APIC. Of the boot CPU (BOOT_CPU not 0): virtual wire mode as firmware leaves it, LINT0 =
 * ExtINT, LINT1 = NMI, both unmasked, and the APIC enabled in its spurious-interrupt register,
 * without which they would be masked (SDM vol. 3, 11.5.1 and 11.4.7.2; MP specification 1.4,
 * 3.6.2.2). Of another: as INIT leaves it, disabled, with LINT0 masked and LINT1 = NMI, masked. All
 * other registers are kept.
 */
IMPOST_API void impost_x86_setup_lapic(struct impost_x86_lapic *lapic, uint32_t boot_cpu);

/*
 * Switches to x2APIC mode, without which an APIC id above 254 cannot be addressed: EN and EXTD in
 * the APIC base of SREGS, and in LAPIC the 32-bit id and the logical id that follows from it
 * (SDM vol. 3, 11.12.1, 11.12.5.1 and 11.12.10.2). SREGS is to be set first: it decides how the
 * page is read.
 */
IMPOST_API void impost_x86_setup_x2apic(struct impost_x86_sregs *sregs,
					struct impost_x86_lapic *lapic, uint32_t apic_id);

/* --- MSRs --- */

/*
 * The MSRs that a kernel expects to be set (SDM vol. 4), but for the MTRRs; at most 32. -ENOSPC:
 * more than CAPACITY.
 */
IMPOST_API int impost_x86_setup_msrs(struct impost_x86_msr *msrs, uint32_t capacity,
				     uint32_t *ret_count);

/* What is to be uncached, and what there is to say it with. */
struct impost_x86_mtrr_config {
	uint32_t size;	     /* sizeof(struct impost_x86_mtrr_config) */
	uint32_t phys_bits;  /* width of physical addresses: CPUID 0x80000008:EAX[7:0] */
	uint32_t variable;   /* pairs of variable-range registers: IA32_MTRRCAP[7:0] */
	uint32_t reserved;   /* 0 */
	uint64_t hole_start; /* gpa, multiple of 4096: from here */
	uint64_t hole_end;   /* gpa, multiple of 4096: up to here, uncached; no hole if the same */
};

/* MSRs that impost_x86_setup_mtrrs() gives for VARIABLE pairs. */
#define IMPOST_X86_MTRRS(variable) (12u + 2u * (variable))

/*
 * Memory types (SDM vol. 3, 12.11.2): write-back, but uncached for the hole and for the display
 * memory from 0xa0000 to 0xbffff, and write-protected for the ROMs from 0xc0000 to 0xfffff. The
 * hole is made of as few variable ranges as its alignment allows; those that are left over are
 * switched off. IA32_MTRR_DEF_TYPE comes last, and switches all on. Every CPU must get the same
 * (SDM vol. 3, 12.11.8). -ENOSPC: more than CAPACITY, or the hole needs more pairs than there are;
 * -EINVAL: CONFIG's size or reserved cannot be; the hole is misaligned, ends before it starts,
 * starts below 1 MiB, where the fixed ranges are, or does not fit `phys_bits`, which is 32 to 52;
 * or there are more than 40 pairs, as many as have MSRs.
 */
IMPOST_API int impost_x86_setup_mtrrs(const struct impost_x86_mtrr_config *config,
				      struct impost_x86_msr *msrs, uint32_t capacity,
				      uint32_t *ret_count);

#ifdef __cplusplus
}
#endif

#endif
