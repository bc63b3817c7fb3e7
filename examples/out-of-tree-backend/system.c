/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions on control, debug, segment and model-specific registers, and CPUID. */
#include "insn.h"

#define EFER                                                                                \
	UINT32_C(0xc0000080) /* of a vCPU's segments and control registers, not of its MSRs \
			      */

/* What the guest may not load is what the host may not set. */
static enum toy_next load_sregs(struct insn *in, struct impost_x86_sregs *s)
{
	s->efer &= ~EFER_LMA;
	if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG))
		s->efer |= EFER_LMA;
	if (toy_sregs_wrong(s))
		return toy_fault(in->v, TOY_GP, true, 0);
	in->v->sregs = *s;
	return TOY_GO_ON;
}

static uint64_t *control_register(struct impost_x86_sregs *s, unsigned number)
{
	uint64_t *const all[] = {&s->cr0, NULL, &s->cr2, &s->cr3, &s->cr4,
				 NULL,	  NULL, NULL,	 &s->cr8};

	return number < ARRAY_LEN(all) ? all[number] : NULL;
}

/* 0F 20 reads, 0F 22 writes. */
enum toy_next insn_mov_control(struct insn *in)
{
	struct impost_x86_sregs s = in->v->sregs;
	uint64_t *place = control_register(&s, in->reg);
	unsigned size = in->lm ? 8 : 4;

	if (!place || in->in_memory)
		return toy_fault(in->v, TOY_UD, false, 0);
	if (in->op == 0x120) {
		insn_set_reg(in, in->rm, *place, size);
		return TOY_GO_ON;
	}
	*place = insn_get_reg(in, in->rm, size);
	if (in->reg == 0)
		*place |= 0x10; /* ET, which stays (SDM vol. 3, 2.5) */
	return load_sregs(in, &s);
}

/* 0F 21 reads, 0F 23 writes. DR4 and DR5 are DR6 and DR7. */
enum toy_next insn_mov_debug(struct insn *in)
{
	struct impost_x86_debugregs *d = &in->v->debugregs;
	uint64_t *const all[] = {&d->dr[0], &d->dr[1], &d->dr[2], &d->dr[3],
				 &d->dr6,   &d->dr7,   &d->dr6,	  &d->dr7};
	unsigned size = in->lm ? 8 : 4;
	uint64_t value = insn_get_reg(in, in->rm, size);

	if (in->reg >= ARRAY_LEN(all) || in->in_memory)
		return toy_fault(in->v, TOY_UD, false, 0);
	if (in->op == 0x121)
		insn_set_reg(in, in->rm, *all[in->reg], size);
	else if (in->reg > 3 && value >> 32)
		return toy_fault(in->v, TOY_GP, true, 0);
	else
		*all[in->reg] = value;
	return TOY_GO_ON;
}

/* --- segments --- */

static struct impost_x86_segment *segment_register(struct insn *in)
{
	struct impost_x86_sregs *s = &in->v->sregs;
	struct impost_x86_segment *const all[] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs};

	return (in->reg & 7) < ARRAY_LEN(all) ? all[in->reg & 7] : NULL;
}

/* A selector has 16 bits in memory, and as many as asked for in a register. */
static enum toy_next store_selector(struct insn *in, uint16_t selector)
{
	if (in->in_memory)
		in->size = 2;
	return insn_store_rm(in, selector);
}

enum toy_next insn_store_segment(struct insn *in)
{
	const struct impost_x86_segment *s = segment_register(in);

	return s ? store_selector(in, s->selector) : toy_fault(in->v, TOY_UD, false, 0);
}

enum toy_next insn_load_segment(struct insn *in)
{
	struct impost_x86_segment *s = segment_register(in);
	enum toy_next next;
	uint64_t selector;

	if (!s || s == &in->v->sregs.cs)
		return toy_fault(in->v, TOY_UD, false, 0);
	if (in->lm)
		return toy_give_up(in->v, "segments are loaded in real mode alone");
	in->size = 2;
	next = insn_load_rm(in, &selector);
	if (next != TOY_GO_ON)
		return next;
	s->selector = (uint16_t)selector;
	s->base = selector << 4;
	if (s == &in->v->sregs.ss)
		in->v->events.interrupt.shadow = IMPOST_X86_SHADOW_MOV_SS;
	return next;
}

/* SLDT and STR. */
enum toy_next insn_group6(struct insn *in)
{
	const struct impost_x86_sregs *s = &in->v->sregs;

	if ((in->reg & 7) > 1)
		return toy_give_up(in->v, "0F 00: the toy knows SLDT and STR alone");
	return store_selector(in, in->reg & 7 ? s->tr.selector : s->ldtr.selector);
}

/* SGDT, SIDT, LGDT, LIDT: the limit, and behind it the base. */
enum toy_next insn_group7(struct insn *in)
{
	struct impost_x86_sregs s = in->v->sregs;
	struct impost_x86_table *table = in->reg & 1 ? &s.idtr : &s.gdtr;
	unsigned bytes = in->lm ? 10 : 6;
	enum toy_next next;
	uint8_t data[10] = {0};

	if ((in->reg & 7) > 3 || !in->in_memory)
		return toy_give_up(in->v, "0F 01: the toy knows SGDT, SIDT, LGDT and LIDT alone");
	memcpy(data, &table->limit, 2);
	memcpy(data + 2, &table->base, 8);
	if (!(in->reg & 2))
		return toy_store(in->v, in->address, data, bytes);
	memset(data, 0, sizeof(data));
	next = toy_load(in->v, in->address, data, bytes);
	if (next != TOY_GO_ON)
		return next;
	memcpy(&table->limit, data, 2);
	memcpy(&table->base, data + 2, 8);
	return load_sregs(in, &s);
}

/* --- MSRs, TSC, CPUID --- */

static bool read_msr(struct toy_vcpu *v, struct impost_x86_msr *msr)
{
	if (msr->index != EFER)
		return toy_msr_read(v, msr);
	msr->value = v->sregs.efer;
	return true;
}

static bool write_msr(struct toy_vcpu *v, const struct impost_x86_msr *msr)
{
	struct impost_x86_sregs s = v->sregs;

	if (msr->index != EFER)
		return toy_msr_write(v, msr);
	/* LMA is the processor's (SDM vol. 3, 2.2.1). */
	s.efer = (msr->value & ~EFER_LMA) | (s.efer & EFER_LMA);
	if (toy_sregs_wrong(&s))
		return false;
	v->sregs = s;
	return true;
}

static void set_pair(struct insn *in, uint64_t value)
{
	insn_set_reg(in, AX, value, 4);
	insn_set_reg(in, DX, value >> 32, 4);
}

enum toy_next insn_msr(struct insn *in)
{
	struct impost_x86_msr msr = {.index = (uint32_t)insn_get_reg(in, CX, 4),
				     .value = insn_get_reg(in, DX, 4) << 32 |
					      insn_get_reg(in, AX, 4)};

	if (in->op == 0x130 ? !write_msr(in->v, &msr) : !read_msr(in->v, &msr))
		return toy_fault(in->v, TOY_GP, true, 0);
	if (in->op == 0x132)
		set_pair(in, msr.value);
	return TOY_GO_ON;
}

enum toy_next insn_rdtsc(struct insn *in)
{
	set_pair(in, toy_tsc(in->v));
	return TOY_GO_ON;
}

enum toy_next insn_cpuid(struct insn *in)
{
	uint32_t leaf = (uint32_t)insn_get_reg(in, AX, 4),
		 subleaf = (uint32_t)insn_get_reg(in, CX, 4);
	struct impost_x86_cpuid found = {.leaf = leaf};

	for (uint32_t i = 0; i < in->v->ncpuid; i++) {
		const struct impost_x86_cpuid *e = &in->v->cpuid[i];

		if (e->leaf == leaf &&
		    (!(e->flags & IMPOST_X86_CPUID_SUBLEAF) || e->subleaf == subleaf))
			found = *e;
	}
	insn_set_reg(in, AX, found.eax, 4);
	insn_set_reg(in, BX, found.ebx, 4);
	insn_set_reg(in, CX, found.ecx, 4);
	insn_set_reg(in, DX, found.edx, 4);
	return TOY_GO_ON;
}
