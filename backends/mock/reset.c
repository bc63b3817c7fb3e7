/* SPDX-License-Identifier: Apache-2.0 */
/* The state that a vCPU and a VM start with (SDM vol. 3, table 10-1), and that after a startup IPI.
 */
#include "internal.h"

#include <string.h>

#include "rules.h"

#define AR_CODE 0x9bu
#define AR_DATA 0x93u
#define AR_LDT	0x82u
#define AR_TSS	0x8bu

static struct impost_x86_segment segment(uint32_t access)
{
	return (struct impost_x86_segment){.limit = 0xffff, .access = access};
}

static void reset_sregs(struct mock_vcpu *v)
{
	struct impost_x86_sregs *s = &v->sregs;

	*s = (struct impost_x86_sregs){
		.size = sizeof(*s),
		.cs = segment(AR_CODE),
		.ds = segment(AR_DATA),
		.es = segment(AR_DATA),
		.fs = segment(AR_DATA),
		.gs = segment(AR_DATA),
		.ss = segment(AR_DATA),
		.tr = segment(AR_TSS),
		.ldtr = segment(AR_LDT),
		.gdtr = {.limit = 0xffff},
		.idtr = {.limit = 0xffff},
		.cr0 = 0x60000010,
		.apic_base = UINT64_C(0xfee00000) | APIC_ENABLE | (v->id ? 0 : 0x100),
	};
	s->cs.selector = 0xf000;
	s->cs.base = 0xffff0000;
}

static void put32(uint8_t *regs, unsigned offset, uint32_t value)
{
	memcpy(regs + offset, &value, sizeof(value));
}

/* SDM vol. 3, 11.4.7.1 */
static void reset_lapic(struct mock_vcpu *v)
{
	static const uint16_t lvt[] = {0x320, 0x330, 0x340, 0x350, 0x360, 0x370};
	uint8_t *regs = v->lapic.regs;
	size_t i;

	v->lapic = (struct impost_x86_lapic){.size = sizeof(v->lapic)};
	put32(regs, 0x20, v->id << 24);
	put32(regs, 0x30, 0x00050014); /* integrated APIC, six LVT entries */
	put32(regs, 0xe0, 0xffffffff);
	put32(regs, 0xf0, 0xff);
	for (i = 0; i < ARRAY_LEN(lvt); i++)
		put32(regs, lvt[i], 0x10000);
}

static void reset_xsave(struct mock_vcpu *v)
{
	struct impost_x86_xsave *x = mock_vcpu_xsave(v);
	uint16_t fcw = 0x40;

	memset(v->xsave, 0, sizeof(v->xsave));
	x->size = sizeof(v->xsave);
	x->area_size = MOCK_XSAVE_AREA;
	x->xcr0 = 1;
	x->ncomponents = 1;
	x->component[0] = (struct impost_x86_xcomponent){.id = 2, .offset = 576, .bytes = 256};
	memcpy(x->area, &fcw, sizeof(fcw));
	put32(x->area, 24, 0x1f80);
	put32(x->area, 28, 0xffff); /* MXCSR_MASK */
	x->area[512] = 3;	    /* x87 and SSE */
}

/* vCPU 0 is the bootstrap processor; the others wait for INIT and SIPI, where there is a local
 * APIC. */
void mock_reset_vcpu(struct mock_vcpu *v)
{
	bool waits = v->id && v->vm->irqchip != IMPOST_IRQCHIP_NONE;

	v->regs = (struct impost_x86_regs){
		.size = sizeof(v->regs), .rdx = 0x611, .rip = 0xfff0, .rflags = 2};
	reset_sregs(v);
	reset_lapic(v);
	reset_xsave(v);
	v->debugregs = (struct impost_x86_debugregs){
		.size = sizeof(v->debugregs), .dr6 = 0xffff0ff0, .dr7 = 0x400};
	v->events = (struct impost_x86_events){.size = sizeof(v->events)};
	v->runstate = (struct impost_x86_runstate){.size = sizeof(v->runstate),
						   .state = waits ? IMPOST_X86_WAIT_FOR_INIT
								  : IMPOST_X86_RUNNING};
	v->tsc_khz = MOCK_TSC_KHZ;
	mock_msr_reset(v);
}

/*
 * SDM vol. 3, 9.4.3: CS is the vector's page, the rest is as after INIT, which leaves the APIC in
 * the mode that it has (11.12.5.1).
 */
void mock_reset_sipi(struct mock_vcpu *v, uint8_t vector)
{
	uint64_t apic_base = v->sregs.apic_base;

	v->regs = (struct impost_x86_regs){.size = sizeof(v->regs), .rdx = 0x611, .rflags = 2};
	reset_sregs(v);
	v->sregs.apic_base = apic_base;
	v->sregs.cs.selector = (uint16_t)(vector << 8);
	v->sregs.cs.base = (uint64_t)vector << 12;
	v->runstate.state = IMPOST_X86_RUNNING;
	v->checked = false;
}

void mock_reset_vm(struct mock_vm *vm)
{
	unsigned i;

	vm->pic = (struct impost_x86_pic){.size = sizeof(vm->pic)};
	vm->pic.chip[0].elcr_mask = 0xf8;
	vm->pic.chip[1].elcr_mask = 0xde;
	vm->ioapic = (struct impost_x86_ioapic){.size = sizeof(vm->ioapic), .base = 0xfec00000};
	for (i = 0; i < IMPOST_X86_IOAPIC_PINS; i++)
		vm->ioapic.redirect[i] = 0x10000;
	vm->pit = (struct impost_x86_pit){.size = sizeof(vm->pit)};
	for (i = 0; i < 3; i++) {
		vm->pit.channel[i].count = 0x10000;
		vm->pit.channel[i].mode = 0xff;
		vm->pit.channel[i].gate = i != 2;
	}
}
