/* SPDX-License-Identifier: Apache-2.0 */
/* The rules by which hardware refuses a guest's state; rules.def has them. */
#ifndef MOCK_RULES_H
#define MOCK_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/x86_64/state.h>

#define CR0_PE	    (UINT64_C(1) << 0)
#define CR0_NW	    (UINT64_C(1) << 29)
#define CR0_CD	    (UINT64_C(1) << 30)
#define CR0_PG	    (UINT64_C(1) << 31)
#define CR4_PSE	    (UINT64_C(1) << 4)
#define CR4_PAE	    (UINT64_C(1) << 5)
#define CR4_LA57    (UINT64_C(1) << 12)
#define CR4_PCIDE   (UINT64_C(1) << 17)
#define CR4_SMEP    (UINT64_C(1) << 20)
#define EFER_LME    (UINT64_C(1) << 8)
#define EFER_LMA    (UINT64_C(1) << 10)
#define EFER_NXE    (UINT64_C(1) << 11)
#define RFLAGS_IF   (UINT64_C(1) << 9)
#define RFLAGS_VM   (UINT64_C(1) << 17)
#define APIC_EXTD   (UINT64_C(1) << 10)
#define APIC_ENABLE (UINT64_C(1) << 11)

/* Whether ADDRESS is canonical with as many bits as CR4.LA57 says (SDM vol. 1, 3.3.7.1). */
static inline bool is_canonical(uint64_t address, uint64_t cr4)
{
	unsigned shift = cr4 & CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(address << shift) >> shift) == address;
}

/* A guest's state as far as rules look at it; sections that a set of rules does not need may be
 * NULL. */
struct mock_guest {
	const struct impost_x86_regs *regs;
	const struct impost_x86_sregs *sregs;
	const struct impost_x86_debugregs *debugregs;
	const struct impost_x86_events *events;
	const struct impost_x86_runstate *runstate;
	const struct impost_x86_xsave *xsave;
	const uint8_t *area; /* of xsave */
	uint64_t phys;	     /* bits above the address width */
	bool v86;	     /* judge segments as those of virtual-8086 mode */
	bool la57;	     /* CPUID has 57-bit linear addresses */
	uint32_t hidden_id;  /* APIC id that only x2APIC mode can tell; 0: it is none such */
};

/* Sets of rules. */
#define RULES_REGS	1u
#define RULES_SREGS	2u
#define RULES_SEGMENTS	4u
#define RULES_DEBUGREGS 8u
#define RULES_EVENTS	16u
#define RULES_RUNSTATE	32u
#define RULES_XSAVE	64u
#define RULES_LAPIC	128u
#define RULES_ENTRY	256u /* between sections: they hold when the guest is entered */

/* Whether the state obeys SETS of rules. If not, TEXT names register, value, rule and section. */
bool mock_rules_obeyed(const struct mock_guest *g, unsigned sets, char *text, size_t size);

/* Whether the segments are meant for virtual-8086 mode: all six have its one kind of access. */
bool mock_rules_v86(const struct impost_x86_sregs *s);

#endif
