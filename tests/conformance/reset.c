/* SPDX-License-Identifier: Apache-2.0 */
/* A new vCPU is a processor at reset (SDM vol. 3, table 9-1). */
#include "section.h"

static void open_new(struct box *box, uint32_t section, union section *s)
{
	box_open(box, 1, IMPOST_IRQCHIP_LAPIC);
	section_get(box, section, s);
}

Test(reset, general_registers)
{
	static union section s;
	struct box box;

	open_new(&box, IMPOST_SECTION_REGS, &s);
	cr_assert_eq(s.regs.rip, 0xfff0u);
	cr_assert_eq(s.regs.rflags, 2u);
	/* RDX has the processor's signature. */
	cr_assert_eq(s.regs.rax | s.regs.rbx | s.regs.rcx | s.regs.rsi | s.regs.rdi | s.regs.rsp |
			     s.regs.rbp | s.regs.r8 | s.regs.r15,
		     0u);
	box_close(&box);
}

Test(reset, code_segment)
{
	static union section s;
	struct box box;

	open_new(&box, IMPOST_SECTION_SREGS, &s);
	cr_assert_eq(s.sregs.cs.selector, 0xf000);
	cr_assert_eq(s.sregs.cs.base, 0xffff0000u);
	cr_assert_eq(s.sregs.cs.limit, 0xffffu);
	cr_assert(s.sregs.cs.access & IMPOST_X86_AR_P);
	box_close(&box);
}

Test(reset, data_segments)
{
	static union section s;
	struct box box;

	open_new(&box, IMPOST_SECTION_SREGS, &s);
	for (int i = 0; i < 5; i++) {
		const struct impost_x86_segment *segments[] = {
			&s.sregs.ds, &s.sregs.es, &s.sregs.fs, &s.sregs.gs, &s.sregs.ss};

		cr_assert_eq(segments[i]->selector, 0, "segment %d", i);
		cr_assert_eq(segments[i]->base, 0u, "segment %d", i);
		cr_assert_eq(segments[i]->limit, 0xffffu, "segment %d", i);
		/* Writable data; whether it was accessed SVM does not say of SS. */
		cr_assert_eq(segments[i]->access & (IMPOST_X86_AR_P | IMPOST_X86_AR_S | 0xa),
			     IMPOST_X86_AR_P | IMPOST_X86_AR_S | 2u, "segment %d", i);
	}
	box_close(&box);
}

Test(reset, tables)
{
	static union section s;
	struct box box;

	open_new(&box, IMPOST_SECTION_SREGS, &s);
	cr_assert(s.sregs.gdtr.base == 0 && s.sregs.gdtr.limit == 0xffff);
	cr_assert(s.sregs.idtr.base == 0 && s.sregs.idtr.limit == 0xffff);
	cr_assert(s.sregs.ldtr.base == 0 && s.sregs.ldtr.limit == 0xffff);
	cr_assert(s.sregs.tr.base == 0 && s.sregs.tr.limit == 0xffff);
	box_close(&box);
}

Test(reset, control_registers)
{
	static union section s;
	struct box box;

	open_new(&box, IMPOST_SECTION_SREGS, &s);
	cr_assert_eq(s.sregs.cr0, 0x60000010u);
	cr_assert_eq(s.sregs.cr2 | s.sregs.cr3 | s.sregs.cr4 | s.sregs.cr8 | s.sregs.efer, 0u);
	cr_assert_eq(s.sregs.apic_base, 0xfee00900u, "enabled, and the bootstrap processor's");
	box_close(&box);
}

Test(reset, debug_registers)
{
	static union section s;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_DEBUGREGS);
	section_get(&box, IMPOST_SECTION_DEBUGREGS, &s);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(s.debugregs.dr[i], 0u);
	cr_assert_eq(s.debugregs.dr6, 0xffff0ff0u);
	cr_assert_eq(s.debugregs.dr7, 0x400u);
	box_close(&box);
}

Test(reset, events)
{
	static union section s;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EVENTS);
	section_get(&box, IMPOST_SECTION_EVENTS, &s);
	cr_assert(!s.events.exception.injected && !s.events.exception.pending);
	cr_assert(!s.events.interrupt.injected && !s.events.interrupt.shadow);
	cr_assert(!s.events.nmi.injected && !s.events.nmi.pending && !s.events.nmi.masked);
	cr_assert(!s.events.waiting && !s.events.triple_fault_pending);
	box_close(&box);
}

/* The others have no bootstrap flag. */
Test(reset, bootstrap_processor)
{
	struct impost_x86_sregs sregs = {.size = 0};
	struct impost_vcpu *second;
	struct box box;

	box_open(&box, 2, IMPOST_IRQCHIP_LAPIC);
	OK(&box, impost_vcpu_create(box.vm, 1, &second));
	OK(&box, impost_vcpu_get_sregs(box.vcpu, &sregs));
	cr_assert_eq(sregs.apic_base, 0xfee00900u);
	OK(&box, impost_vcpu_get_sregs(second, &sregs));
	cr_assert_eq(sregs.apic_base, 0xfee00800u);
	OK(&box, impost_vcpu_destroy(second));
	box_close(&box);
}

/* RAM that nobody has written is zero. */
Test(reset, memory)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	for (uint32_t i = 0; i < RAM_BYTES; i++)
		cr_assert_eq(box.ram[i], 0, "byte 0x%x", i);
	box_close(&box);
}
