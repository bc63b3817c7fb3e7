/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter: what an instruction does (SDM vol. 2). It knows a few dozen, in real mode and in
 * 64-bit mode, without user mode; what it does not know is an exit.
 */
#include "insn.h"

#define CF   UINT64_C(1)
#define PF   UINT64_C(4)
#define AF   UINT64_C(0x10)
#define ZF   UINT64_C(0x40)
#define SF   UINT64_C(0x80)
#define TF   UINT64_C(0x100)
#define DF   UINT64_C(0x400)
#define OF   UINT64_C(0x800)
#define MOST UINT64_C(0x247fd5) /* of RFLAGS: what IRET and POPF load */

/* --- arithmetic (SDM vol. 1, 3.4.3.1 has the flags) --- */

enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

static void set_flags(struct insn *in, uint64_t result, uint64_t carries, uint64_t overflow,
		      uint64_t keep)
{
	unsigned top = in->size * 8 - 1;
	uint64_t flags = 0;

	flags |= carries >> top & 1 ? CF : 0;
	flags |= carries >> 3 & 1 ? AF : 0;
	flags |= overflow >> top & 1 ? OF : 0;
	flags |= result >> top & 1 ? SF : 0;
	flags |= result & insn_mask_of(in->size) ? 0 : ZF;
	flags |= __builtin_parityll(result & 0xff) ? 0 : PF;
	keep |= ~(CF | PF | AF | ZF | SF | OF);
	in->v->next.rflags = (in->v->next.rflags & keep) | (flags & ~keep);
}

static uint64_t compute(struct insn *in, unsigned op, uint64_t a, uint64_t b, uint64_t keep)
{
	uint64_t carry = (op == ADC || op == SBB) && (in->v->next.rflags & CF), r;

	switch (op) {
	case ADD:
	case ADC:
		r = a + b + carry;
		set_flags(in, r, (a & b) | ((a | b) & ~r), (a ^ r) & (b ^ r), keep);
		return r;
	case SBB:
	case SUB:
	case CMP:
		r = a - b - carry;
		set_flags(in, r, (~a & b) | (~(a ^ b) & r), (a ^ b) & (a ^ r), keep);
		return r;
	default:
		r = op == OR ? a | b : op == AND ? a & b : a ^ b;
		set_flags(in, r, 0, 0, keep);
		return r;
	}
}

/* rm OP= value. */
static enum toy_next change_rm(struct insn *in, unsigned op, uint64_t value, uint64_t keep)
{
	enum toy_next next;
	uint64_t old;

	next = insn_load_rm(in, &old);
	if (next != TOY_GO_ON)
		return next;
	value = compute(in, op, old, value & insn_mask_of(in->size), keep);
	return op == CMP ? TOY_GO_ON : insn_store_rm(in, value);
}

/* 00 to 3D: rm, reg; reg, rm; AL or AX, imm. */
static enum toy_next do_arithmetic(struct insn *in)
{
	unsigned op = in->op >> 3 & 7, form = in->op & 7;
	enum toy_next next;
	uint64_t value;

	if (form < 2)
		return change_rm(in, op, insn_get_reg(in, in->reg, in->size), 0);
	if (form < 4) {
		next = insn_load_rm(in, &value);
		if (next != TOY_GO_ON)
			return next;
	} else {
		in->reg = AX;
		value = in->imm & insn_mask_of(in->size);
	}
	value = compute(in, op, insn_get_reg(in, in->reg, in->size), value, 0);
	if (op != CMP)
		insn_set_reg(in, in->reg, value, in->size);
	return TOY_GO_ON;
}

static enum toy_next do_group1(struct insn *in)
{
	return change_rm(in, in->reg & 7, in->imm, 0);
}

/* 40 to 4F in real mode. */
static enum toy_next do_inc_dec(struct insn *in)
{
	in->rm = in->op & 7;
	return change_rm(in, in->op & 8 ? SUB : ADD, 1, CF);
}

static enum toy_next do_group5(struct insn *in)
{
	if ((in->reg & 7) > 1)
		return toy_give_up(in->v, "FE and FF: the toy knows INC and DEC alone");
	return change_rm(in, in->reg & 7 ? SUB : ADD, 1, CF);
}

static enum toy_next do_group3(struct insn *in)
{
	enum toy_next next;
	uint64_t value;

	if ((in->reg & 7) != 2)
		return toy_give_up(in->v, "F6 and F7: the toy knows NOT alone");
	next = insn_load_rm(in, &value);
	return next == TOY_GO_ON ? insn_store_rm(in, ~value) : next;
}

/* --- moving --- */

/* What the register had goes to memory at last: until then nothing has changed. */
static enum toy_next do_exchange(struct insn *in)
{
	uint64_t reg = insn_get_reg(in, in->reg, in->size), value;
	enum toy_next next = insn_load_rm(in, &value);

	if (next == TOY_GO_ON)
		next = insn_store_rm(in, reg);
	if (next == TOY_GO_ON)
		insn_set_reg(in, in->reg, value, in->size);
	return next;
}

/* MOVZX and MOVSX, of a byte or of two. */
static enum toy_next do_extend(struct insn *in)
{
	unsigned to = in->size;
	enum toy_next next;
	uint64_t value;

	in->size = in->op & 1 ? 2 : 1;
	next = insn_load_rm(in, &value);
	if (next == TOY_GO_ON)
		insn_set_reg(in, in->reg, in->op & 8 ? insn_sign_extend(value, in->size) : value,
			     to);
	return next;
}

static enum toy_next do_mov(struct insn *in)
{
	enum toy_next next;
	uint64_t value;

	if (!(in->op & 2))
		return insn_store_rm(in, insn_get_reg(in, in->reg, in->size));
	next = insn_load_rm(in, &value);
	if (next == TOY_GO_ON)
		insn_set_reg(in, in->reg, value, in->size);
	return next;
}

static enum toy_next do_mov_imm(struct insn *in)
{
	return insn_store_rm(in, in->imm);
}

static enum toy_next do_mov_reg_imm(struct insn *in)
{
	insn_set_reg(in, (in->op & 7) | (in->rex & 1u) << 3, in->imm, in->size);
	return TOY_GO_ON;
}

static enum toy_next do_mov_reg_imm8(struct insn *in)
{
	in->size = 1;
	return do_mov_reg_imm(in);
}

static enum toy_next do_push_pop(struct insn *in)
{
	unsigned number = (in->op & 7) | (in->rex & 1u) << 3;
	unsigned size = in->lm && in->size == 4 ? 8 : in->size;
	enum toy_next next;
	uint64_t value;

	if (in->op < 0x58)
		return insn_push(in, insn_get_reg(in, number, size), size);
	next = insn_pop(in, &value, size);
	if (next == TOY_GO_ON)
		insn_set_reg(in, number, value, size);
	return next;
}

/* CWD, CDQ, CQO. */
static enum toy_next do_sign(struct insn *in)
{
	uint64_t top = insn_get_reg(in, AX, in->size) >> (in->size * 8 - 1);

	insn_set_reg(in, DX, top ? UINT64_MAX : 0, in->size);
	return TOY_GO_ON;
}

/* --- ports and strings --- */

/* E4 to E7 name the port, EC to EF have it in DX. An access has 4 bytes at the most. */
static enum toy_next do_port(struct insn *in)
{
	uint16_t port = (uint16_t)(in->op & 8 ? insn_get_reg(in, DX, 2) : in->imm & 0xff);
	uint8_t dir = in->op & 2 ? IMPOST_EXIT_WRITE : IMPOST_EXIT_READ;
	unsigned size = in->size == 8 ? 4 : in->size;
	uint64_t value = insn_get_reg(in, AX, size);
	enum toy_next next = toy_port(in->v, port, &value, size, dir);

	if (next == TOY_GO_ON && dir == IMPOST_EXIT_READ)
		insn_set_reg(in, AX, value, size);
	return next;
}

/* One round of INS, OUTS, MOVS, STOS or LODS. */
static enum toy_next string_round(struct insn *in)
{
	const struct impost_x86_sregs *s = &in->v->sregs;
	uint64_t to = insn_linear(in, &s->es, insn_get_wide(in, DI));
	uint64_t from = in->segment ? in->segment->base + insn_get_wide(in, SI)
				    : insn_linear(in, &s->ds, insn_get_wide(in, SI));
	uint16_t port = (uint16_t)insn_get_reg(in, DX, 2);
	unsigned kind = in->op & 0xfe;
	enum toy_next next = TOY_GO_ON;
	uint64_t value = insn_get_reg(in, AX, in->size);

	if (kind == 0x6c)
		next = toy_port(in->v, port, &value, in->size, IMPOST_EXIT_READ);
	else if (kind != 0xaa)
		next = toy_load(in->v, from, &value, in->size);
	if (next != TOY_GO_ON)
		return next;
	if (kind == 0x6e)
		return toy_port(in->v, port, &value, in->size, IMPOST_EXIT_WRITE);
	if (kind == 0xac)
		insn_set_reg(in, AX, value, in->size);
	else
		next = toy_store(in->v, to, &value, in->size);
	return next;
}

/* Each round is an instruction, so that kicks and events come in between. */
static enum toy_next do_string(struct insn *in)
{
	uint64_t by = in->v->next.rflags & DF ? -(uint64_t)in->size : in->size;
	unsigned kind = in->op & 0xfe;
	enum toy_next next;

	if (in->rep && !insn_get_wide(in, CX))
		return TOY_GO_ON;
	next = string_round(in);
	if (next != TOY_GO_ON)
		return next;
	if (kind != 0x6e && kind != 0xac)
		insn_add_wide(in, DI, by);
	if (kind != 0x6c && kind != 0xaa)
		insn_add_wide(in, SI, by);
	if (in->rep) {
		insn_add_wide(in, CX, UINT64_MAX);
		if (insn_get_wide(in, CX))
			in->v->next.rip = in->v->regs.rip;
	}
	return TOY_GO_ON;
}

/* --- where to go on --- */

/* SDM vol. 1, appendix B: condition codes; the lowest bit negates. */
static bool holds(const struct insn *in, unsigned condition)
{
	uint64_t f = in->v->next.rflags;
	bool less = !(f & SF) != !(f & OF);
	const bool table[] = {
		(f & OF) != 0, (f & CF) != 0, (f & ZF) != 0, (f & (CF | ZF)) != 0,
		(f & SF) != 0, (f & PF) != 0, less,	     less || (f & ZF),
	};

	return table[condition >> 1] != (condition & 1);
}

static enum toy_next do_jump(struct insn *in)
{
	enum toy_next next = TOY_GO_ON;
	uint64_t back = in->v->next.rip;

	if (in->op >= 0x70 && in->op < 0x80 && !holds(in, in->op & 15))
		return TOY_GO_ON;
	if (in->op == 0xe8)
		next = insn_push(in, back, in->lm ? 8 : 2);
	insn_jump(in, back + in->imm);
	return next;
}

static enum toy_next do_ret(struct insn *in)
{
	uint64_t rip;
	enum toy_next next = insn_pop(in, &rip, in->lm ? 8 : 2);

	insn_jump(in, rip);
	return next;
}

static void load_real_cs(struct toy_vcpu *v, uint64_t selector)
{
	v->sregs.cs.selector = (uint16_t)selector;
	v->sregs.cs.base = selector << 4;
}

/* Of 16 bits the upper ones stay. */
static void load_flags(struct insn *in, uint64_t value, unsigned size)
{
	uint64_t loaded = MOST & insn_mask_of(size);

	in->v->next.rflags = (in->v->next.rflags & ~loaded) | (value & loaded);
}

/* PUSHF and POPF; VM and RF are pushed as 0 (SDM vol. 2, PUSHF). */
static enum toy_next do_flags(struct insn *in)
{
	unsigned size = in->lm && in->size == 4 ? 8 : in->size;
	enum toy_next next;
	uint64_t value;

	if (in->op == 0x9c)
		return insn_push(in, in->v->next.rflags & UINT64_C(0xfcffff), size);
	next = insn_pop(in, &value, size);
	if (next == TOY_GO_ON)
		load_flags(in, value, size);
	return next;
}

/* In 64-bit mode the toy's guests have one code segment and one stack segment, which stay. */
static enum toy_next do_iret(struct insn *in)
{
	unsigned words = in->lm ? 5 : 3, size = in->lm ? 8 : 2;
	enum toy_next next = TOY_GO_ON;
	uint64_t w[5];

	if (in->size != size)
		return toy_give_up(in->v, "IRET of another size than the mode's");
	for (unsigned i = 0; i < words && next == TOY_GO_ON; i++)
		next = insn_pop(in, &w[i], size);
	if (next != TOY_GO_ON)
		return next;
	insn_jump(in, w[0]);
	if (in->lm)
		in->v->next.rsp = w[3];
	else
		load_real_cs(in->v, w[1]);
	load_flags(in, w[2], size);
	in->v->events.nmi.masked = 0;
	return TOY_GO_ON;
}

/* --- the rest --- */

static enum toy_next do_nothing(struct insn *in)
{
	(void)in;
	return TOY_GO_ON;
}

static enum toy_next do_flag(struct insn *in)
{
	uint64_t *flags = &in->v->next.rflags;

	if (in->op == 0xfb && !(*flags & RFLAGS_IF))
		in->v->events.interrupt.shadow = IMPOST_X86_SHADOW_STI;
	*flags = in->op == 0xfb ? *flags | RFLAGS_IF : *flags & ~RFLAGS_IF;
	return TOY_GO_ON;
}

/* With no interrupt controller in the backend it is the host that knows what to wait for. */
static enum toy_next do_hlt(struct insn *in)
{
	return toy_exit(in->v, IMPOST_EXIT_HLT);
}

static enum toy_next do_ud2(struct insn *in)
{
	return toy_fault(in->v, TOY_UD, false, 0);
}

/* --- all of them --- */

static const struct row {
	uint16_t first, last;
	uint8_t shape;
	enum toy_next (*run)(struct insn *in);
} rows[] = {
	{0x40, 0x4f, REAL, do_inc_dec},
	{0x50, 0x5f, 0, do_push_pop},
	{0x6c, 0x6f, BYTE, do_string},
	{0x70, 0x7f, IMM8, do_jump},
	{0x80, 0x80, MODRM | IMM8 | BYTE, do_group1},
	{0x81, 0x81, MODRM | IMMZ, do_group1},
	{0x83, 0x83, MODRM | IMM8, do_group1},
	{0x86, 0x87, MODRM | BYTE, do_exchange},
	{0x88, 0x8b, MODRM | BYTE, do_mov},
	{0x8c, 0x8c, MODRM, insn_store_segment},
	{0x8e, 0x8e, MODRM, insn_load_segment},
	{0x90, 0x90, 0, do_nothing},
	{0x99, 0x99, 0, do_sign},
	{0x9c, 0x9d, 0, do_flags},
	{0xa4, 0xa5, BYTE, do_string},
	{0xaa, 0xad, BYTE, do_string},
	{0xb0, 0xb7, IMM8, do_mov_reg_imm8},
	{0xb8, 0xbf, IMMV, do_mov_reg_imm},
	{0xc3, 0xc3, 0, do_ret},
	{0xc6, 0xc6, MODRM | IMM8 | BYTE, do_mov_imm},
	{0xc7, 0xc7, MODRM | IMMZ, do_mov_imm},
	{0xcf, 0xcf, 0, do_iret},
	{0xe4, 0xe7, IMM8 | BYTE, do_port},
	{0xe8, 0xe9, IMMZ, do_jump},
	{0xeb, 0xeb, IMM8, do_jump},
	{0xec, 0xef, BYTE, do_port},
	{0xf4, 0xf4, 0, do_hlt},
	{0xf6, 0xf7, MODRM | BYTE, do_group3},
	{0xfa, 0xfb, 0, do_flag},
	{0xfe, 0xff, MODRM | BYTE, do_group5},
	{0x100, 0x100, MODRM, insn_group6},
	{0x101, 0x101, MODRM, insn_group7},
	{0x10b, 0x10b, 0, do_ud2},
	{0x120, 0x120, MODRM, insn_mov_control},
	{0x121, 0x121, MODRM, insn_mov_debug},
	{0x122, 0x122, MODRM, insn_mov_control},
	{0x123, 0x123, MODRM, insn_mov_debug},
	{0x130, 0x130, 0, insn_msr},
	{0x131, 0x131, 0, insn_rdtsc},
	{0x132, 0x132, 0, insn_msr},
	{0x1a2, 0x1a2, 0, insn_cpuid},
	{0x1b6, 0x1b7, MODRM, do_extend},
	{0x1be, 0x1bf, MODRM, do_extend},
};

static const struct row *find_row(const struct insn *in)
{
	/* Eight operations in six forms each. */
	static const struct row registers = {0, 0x3b, MODRM | BYTE, do_arithmetic};
	static const struct row al = {4, 0x3c, IMM8 | BYTE, do_arithmetic};
	static const struct row ax = {5, 0x3d, IMMZ, do_arithmetic};

	if (in->op < 0x40 && (in->op & 7) < 6)
		return (in->op & 7) < 4 ? &registers : (in->op & 7) == 4 ? &al : &ax;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (in->op >= rows[i].first && in->op <= rows[i].last &&
		    !(in->lm && (rows[i].shape & REAL)))
			return &rows[i];
	return NULL;
}

enum toy_next toy_execute(struct toy_vcpu *v)
{
	struct insn in = {.v = v, .lm = toy_is_long(v)};
	uint64_t rip = insn_linear(&in, &v->sregs.cs, v->regs.rip);
	const struct row *row;
	enum toy_next next;

	v->next = v->regs;
	if (!v->naccesses)
		v->ninsn = toy_fetch(v, rip, v->insn, sizeof(v->insn));
	if (!in.lm && (v->sregs.cr0 & CR0_PE))
		return toy_give_up(v, "the toy knows real mode and 64-bit mode, and no other");
	if (v->regs.rflags & TF)
		return toy_give_up(v, "RFLAGS.TF: the toy has no single-step traps");
	insn_decode_op(&in);
	row = in.missing ? NULL : find_row(&in);
	if (row)
		insn_decode_operands(&in, row->shape);
	if (in.missing) {
		uint8_t byte;

		next = v->ninsn < sizeof(v->insn) ? toy_load(v, rip + v->ninsn, &byte, 1)
						  : TOY_EXIT;
		return next == TOY_FAULT ? next : toy_give_up(v, "there is no code at RIP");
	}
	if (!row)
		return toy_give_up(v, "an instruction that the toy does not know");
	insn_jump(&in, v->regs.rip + in.at);
	next = row->run(&in);
	/* HLT has been executed when it exits; what waits for the host has not. */
	if (next == TOY_GO_ON || (next == TOY_EXIT && v->exit.kind == IMPOST_EXIT_HLT))
		v->regs = v->next;
	return next;
}

/* --- events (SDM vol. 3, 6.14 and 21.1.4) --- */

static enum toy_next push_all(struct insn *in, const uint64_t *values, unsigned n, unsigned size)
{
	enum toy_next next = TOY_GO_ON;

	for (unsigned i = 0; i < n && next == TOY_GO_ON; i++)
		next = insn_push(in, values[i], size);
	return next;
}

static enum toy_next deliver_real(struct insn *in, uint8_t vector)
{
	struct toy_vcpu *v = in->v;
	const uint64_t frame[] = {v->regs.rflags, v->sregs.cs.selector, v->regs.rip};
	enum toy_next next;
	uint16_t entry[2];

	if (vector * 4u + 3 > v->sregs.idtr.limit)
		return TOY_FAULT;
	next = toy_load(v, v->sregs.idtr.base + vector * UINT64_C(4), entry, sizeof(entry));
	if (next == TOY_GO_ON)
		next = push_all(in, frame, 3, 2);
	if (next != TOY_GO_ON)
		return next;
	load_real_cs(v, entry[1]);
	insn_jump(in, entry[0]);
	v->next.rflags &= ~(RFLAGS_IF | TF);
	return TOY_GO_ON;
}

static enum toy_next deliver_long(struct insn *in, uint8_t vector, bool has_error, uint32_t error)
{
	struct toy_vcpu *v = in->v;
	const uint64_t frame[] = {v->sregs.ss.selector, v->regs.rsp, v->regs.rflags,
				  v->sregs.cs.selector, v->regs.rip, error};
	enum toy_next next;
	uint64_t gate[2];

	if (vector * 16u + 15 > v->sregs.idtr.limit)
		return TOY_FAULT;
	next = toy_load(v, v->sregs.idtr.base + vector * UINT64_C(16), gate, sizeof(gate));
	if (next != TOY_GO_ON)
		return next;
	if ((gate[0] >> 41 & 0x47) != 0x47) /* present, and an interrupt or trap gate */
		return TOY_FAULT;
	if (gate[0] >> 32 & 7)
		return toy_give_up(v, "a gate with a stack of its own (IST)");
	v->next.rsp &= ~UINT64_C(15);
	next = push_all(in, frame, has_error ? 6 : 5, 8);
	if (next != TOY_GO_ON)
		return next;
	insn_jump(in, (gate[0] & 0xffff) | (gate[0] >> 48 << 16) | gate[1] << 32);
	v->next.rflags &= ~(gate[0] >> 40 & 1 ? TF : TF | RFLAGS_IF);
	return TOY_GO_ON;
}

enum toy_next toy_deliver(struct toy_vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	struct insn in = {.v = v, .lm = toy_is_long(v)};
	enum toy_next next;

	v->next = v->regs;
	next = in.lm ? deliver_long(&in, vector, has_error, error) : deliver_real(&in, vector);
	if (next == TOY_GO_ON)
		v->regs = v->next;
	return next;
}
