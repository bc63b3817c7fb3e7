/* SPDX-License-Identifier: Apache-2.0 */
/* Random values for every register of every section that hardware, KVM and the mock alike take. */
#ifndef TESTS_UNIT_STATE_RANDOM_H
#define TESTS_UNIT_STATE_RANDOM_H

#include <criterion/criterion.h>
#include <string.h>

#include <impost/impost.h>

#include "../sections.h"
#include "random.h"

/* Calls that must succeed, with CTX's text if they do not. */
#define OK(ctx, call) cr_assert_eq((call), 0, "%s: %s", #call, impost_error(ctx))

static inline uint64_t random64(void)
{
	static uint64_t state = UINT64_C(0x5eed5eed);

	return random_number(&state);
}

static inline void get_section(struct impost_context *ctx, struct impost_vcpu *vcpu,
			       uint32_t section, union section *s)
{
	uint32_t size = 0;

	memset(s, 0, sizeof(*s));
	OK(ctx, impost_vcpu_get(vcpu, section, s, sizeof(*s), &size));
}

static inline void set_section(struct impost_context *ctx, struct impost_vcpu *vcpu,
			       uint32_t section, const union section *s)
{
	OK(ctx, impost_vcpu_set(vcpu, section, s, s->size));
}

static inline struct impost_x86_segment random_data(void)
{
	return (struct impost_x86_segment){
		.selector = (uint16_t)(random64() & 0xfff8),
		.limit = (uint32_t)random64() | 0xfff,
		.base = random64() & 0xffffffff,
		.access = 0xc093u | (random64() & 1 ? IMPOST_X86_AR_AVL : 0),
	};
}

/* 64-bit mode, which has the most registers. */
static inline void random_sregs(struct impost_context *ctx, struct impost_vcpu *vcpu)
{
	union section s;
	struct impost_x86_sregs *r = &s.sregs;

	get_section(ctx, vcpu, IMPOST_SECTION_SREGS, &s);
	r->ds = random_data();
	r->es = random_data();
	r->fs = random_data();
	r->gs = random_data();
	r->fs.base = canonical(random64());
	r->gs.base = canonical(random64());
	r->ss = (struct impost_x86_segment){.selector = 0x18, .limit = ~0u, .access = 0xc093};
	r->cs = (struct impost_x86_segment){.selector = 0x10, .limit = ~0u, .access = 0xa09b};
	r->tr = (struct impost_x86_segment){.selector = 0x20,
					    .base = canonical(random64()),
					    .limit = 0x67 + (uint32_t)(random64() & 0x7f),
					    .access = 0x8b};
	r->ldtr = (struct impost_x86_segment){.selector = 0x28,
					      .base = canonical(random64()),
					      .limit = (uint32_t)(random64() & 0xfff),
					      .access = 0x82};
	r->gdtr.base = canonical(random64());
	r->gdtr.limit = (uint16_t)random64();
	r->idtr.base = canonical(random64());
	r->idtr.limit = (uint16_t)random64();
	r->cr0 = 0x80000031;
	r->cr2 = canonical(random64());
	r->cr3 = random64() & 0x3ff000;
	r->cr4 = 0x20 | (random64() & 0x6c0);
	r->cr8 = random64() & 15;
	r->efer = 0xd01;
	set_section(ctx, vcpu, IMPOST_SECTION_SREGS, &s);
}

static inline void random_regs(struct impost_context *ctx, struct impost_vcpu *vcpu)
{
	struct impost_x86_regs r = {.rip = canonical(random64()),
				    .rflags = 2 | (random64() & 0xcd5)};
	uint64_t *reg = &r.rax;

	for (int i = 0; i < 16; i++)
		reg[i] = random64();
	OK(ctx, impost_vcpu_set_regs(vcpu, &r));
}

static inline void random_debugregs(struct impost_context *ctx, struct impost_vcpu *vcpu)
{
	union section s = {.debugregs = {.size = sizeof(s.debugregs)}};

	for (int i = 0; i < 4; i++)
		s.debugregs.dr[i] = canonical(random64());
	s.debugregs.dr6 = 0xffff0ff0 | (random64() & 0xe00f);
	s.debugregs.dr7 = 0x400 | (random64() & 0x2ff);
	set_section(ctx, vcpu, IMPOST_SECTION_DEBUGREGS, &s);
}

/* x87, SSE and, with AVX, the upper halves. Bytes that no processor keeps stay 0. */
static inline void random_xsave(struct impost_context *ctx, struct impost_vcpu *vcpu, int avx)
{
	union section s;
	struct impost_x86_xsave *x = &s.xsave;
	const uint64_t bv = avx ? 7 : 3;
	const uint32_t mxcsr = 0x1f80;

	get_section(ctx, vcpu, IMPOST_SECTION_XSAVE, &s);
	x->xcr0 = bv;
	set_section(ctx, vcpu, IMPOST_SECTION_XSAVE, &s);
	get_section(ctx, vcpu, IMPOST_SECTION_XSAVE, &s);
	for (uint32_t reg = 0; reg < 8; reg++)
		for (uint32_t i = 0; i < 10; i++)
			x->area[32 + reg * 16 + i] = (uint8_t)random64();
	for (uint32_t i = 160; i < 416; i++)
		x->area[i] = (uint8_t)random64();
	x->area[0] = 0x7f;
	x->area[1] = 3;
	x->area[4] = 0xff;
	memcpy(x->area + 24, &mxcsr, sizeof(mxcsr));
	memcpy(x->area + 512, &bv, sizeof(bv));
	for (uint32_t c = 0; avx && c < x->ncomponents; c++)
		for (uint32_t i = 0; x->component[c].id == 2 && i < x->component[c].bytes; i++)
			x->area[x->component[c].offset + i] = (uint8_t)random64();
	set_section(ctx, vcpu, IMPOST_SECTION_XSAVE, &s);
}

/* Register and the bits of it that may be anything (SDM vol. 3, 11.4 to 11.6). */
static inline void random_lapic(struct impost_context *ctx, struct impost_vcpu *vcpu)
{
	static const struct {
		uint32_t reg, random, fixed;
	} regs[] = {
		{0x0d0, 0xff000000, 0},	  {0x0f0, 0xff, 0x100},	    {0x310, 0xff000000, 0},
		{0x320, 0xff, 0x10010},	  {0x330, 0xff, 0x10010},   {0x340, 0xff, 0x10010},
		{0x350, 0xa0ff, 0x10010}, {0x360, 0xa0ff, 0x10010}, {0x370, 0xff, 0x10010},
		{0x3e0, 0xb, 0},
	};
	struct impost_x86_sregs sregs;
	union section s;

	OK(ctx, impost_vcpu_get_sregs(vcpu, &sregs));
	get_section(ctx, vcpu, IMPOST_SECTION_LAPIC, &s);
	s.lapic.regs[0x80] = (uint8_t)(sregs.cr8 << 4); /* the same bits (SDM vol. 3, 11.8.6) */
	for (size_t k = 0; k < sizeof(regs) / sizeof(regs[0]); k++) {
		uint32_t value = ((uint32_t)random64() & regs[k].random) | regs[k].fixed;

		memcpy(s.lapic.regs + regs[k].reg, &value, sizeof(value));
	}
	set_section(ctx, vcpu, IMPOST_SECTION_LAPIC, &s);
}

static inline void random_events(struct impost_context *ctx, struct impost_vcpu *vcpu)
{
	union section s;

	get_section(ctx, vcpu, IMPOST_SECTION_EVENTS, &s);
	s.events.nmi.masked = random64() & 1;
	s.events.nmi.pending = random64() & 1;
	s.events.exception.injected = random64() & 1;
	s.events.exception.vector = s.events.exception.injected ? 13 : 0;
	s.events.exception.has_error = s.events.exception.injected;
	s.events.exception.error = s.events.exception.injected ? (uint32_t)random64() & 0xfff8 : 0;
	set_section(ctx, vcpu, IMPOST_SECTION_EVENTS, &s);
}

/* MSRs that every 64-bit processor has, and what may be in them. */
static inline void random_msrs(struct impost_context *ctx, struct impost_vcpu *vcpu)
{
	const struct impost_x86_msr msrs[] = {
		{IMPOST_X86_MSR_IA32_SYSENTER_CS, 0, random64() & 0xffff},
		{IMPOST_X86_MSR_IA32_SYSENTER_ESP, 0, canonical(random64())},
		{IMPOST_X86_MSR_IA32_SYSENTER_EIP, 0, canonical(random64())},
		{IMPOST_X86_MSR_IA32_STAR, 0, random64()},
		{IMPOST_X86_MSR_IA32_LSTAR, 0, canonical(random64())},
		{IMPOST_X86_MSR_IA32_CSTAR, 0, canonical(random64())},
		{IMPOST_X86_MSR_IA32_FMASK, 0, random64() & 0x3f7fd7},
		{IMPOST_X86_MSR_IA32_KERNEL_GS_BASE, 0, canonical(random64())},
		{IMPOST_X86_MSR_IA32_PAT, 0, UINT64_C(0x0001040506000706)},
		{IMPOST_X86_MSR_IA32_MTRR_PHYSBASE1, 0, (random64() & 0xfff000) | 6},
		{IMPOST_X86_MSR_IA32_MTRR_PHYSMASK1, 0, (random64() & 0xfff000) | 0x800},
		{IMPOST_X86_MSR_IA32_MTRR_FIX64K_00000, 0, UINT64_C(0x0606060606060606)},
		{IMPOST_X86_MSR_IA32_MTRR_DEF_TYPE, 0, 0xc06},
	};
	uint32_t done = 0;

	OK(ctx, impost_vcpu_set_msrs(vcpu, msrs, sizeof(msrs) / sizeof(msrs[0]), &done));
}

static inline void random_vcpu(struct impost_vm *vm, struct impost_vcpu *vcpu, int avx)
{
	struct impost_context *ctx = impost_vm_context(vm);

	random_sregs(ctx, vcpu);
	random_regs(ctx, vcpu);
	random_debugregs(ctx, vcpu);
	random_xsave(ctx, vcpu, avx);
	if (impost_vm_irqchip(vm) != IMPOST_IRQCHIP_NONE)
		random_lapic(ctx, vcpu);
	random_msrs(ctx, vcpu);
	random_events(ctx, vcpu);
}

static inline void random_pic(struct impost_vm *vm)
{
	struct impost_x86_pic pic;
	uint32_t size;

	OK(impost_vm_context(vm), impost_vm_get(vm, IMPOST_SECTION_PIC, &pic, sizeof(pic), &size));
	for (int i = 0; i < 2; i++) {
		pic.chip[i].imr = (uint8_t)random64();
		pic.chip[i].isr = (uint8_t)random64();
		pic.chip[i].priority_add = random64() & 7;
		pic.chip[i].irq_base = random64() & 0xf8;
		pic.chip[i].special_mask = random64() & 1;
		pic.chip[i].auto_eoi = random64() & 1;
		pic.chip[i].elcr = (uint8_t)random64() & pic.chip[i].elcr_mask;
	}
	OK(impost_vm_context(vm), impost_vm_set(vm, IMPOST_SECTION_PIC, &pic, sizeof(pic)));
}

/* Masked pins, which deliver nothing. */
static inline void random_ioapic(struct impost_vm *vm)
{
	struct impost_x86_ioapic ioapic;
	uint32_t size;

	OK(impost_vm_context(vm),
	   impost_vm_get(vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic), &size));
	ioapic.id = random64() & 15;
	ioapic.ioregsel = random64() & 0x3f;
	for (int i = 0; i < IMPOST_X86_IOAPIC_PINS; i++)
		ioapic.redirect[i] = 0x10000 | (random64() & UINT64_C(0xff0000000000a0ff));
	OK(impost_vm_context(vm),
	   impost_vm_set(vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic)));
}

static inline void random_pit(struct impost_vm *vm)
{
	struct impost_x86_pit pit;
	uint32_t size;

	OK(impost_vm_context(vm), impost_vm_get(vm, IMPOST_SECTION_PIT, &pit, sizeof(pit), &size));
	for (int i = 0; i < 3; i++) {
		pit.channel[i].count = 1 + (uint32_t)(random64() & 0xffff);
		pit.channel[i].latched_count = (uint16_t)random64();
		pit.channel[i].status = (uint8_t)random64();
		pit.channel[i].write_latch = (uint8_t)random64();
		pit.channel[i].rw_mode = 3;
		pit.channel[i].mode = i == 0 ? 5 : 3; /* 5 raises no line */
	}
	OK(impost_vm_context(vm), impost_vm_set(vm, IMPOST_SECTION_PIT, &pit, sizeof(pit)));
}

static inline void random_vm(struct impost_vm *vm, int avx)
{
	struct impost_vcpu *vcpu;

	for (uint32_t i = 0; (vcpu = impost_vm_vcpu(vm, i)) != NULL; i++)
		random_vcpu(vm, vcpu, avx);
	if (impost_vm_irqchip(vm) != IMPOST_IRQCHIP_FULL)
		return;
	random_pic(vm);
	random_ioapic(vm);
	random_pit(vm);
}

#endif
