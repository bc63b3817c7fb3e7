/* SPDX-License-Identifier: Apache-2.0 */
/* Takes an instruction apart (SDM vol. 2, chapter 2), and reads and writes its operands. */
#include "insn.h"

/* --- registers --- */

uint64_t insn_mask_of(unsigned size)
{
	return size == 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

uint64_t insn_sign_extend(uint64_t value, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* Registers lie in struct impost_x86_regs in the order of their names. */
static uint64_t *gpr(struct insn *in, unsigned number)
{
	struct impost_x86_regs *r = &in->v->next;
	uint64_t *const low[] = {&r->rax, &r->rcx, &r->rdx, &r->rbx,
				 &r->rsp, &r->rbp, &r->rsi, &r->rdi};

	return number < 8 ? low[number] : &r->r8 + (number - 8);
}

/* Without REX numbers 4 to 7 of a byte are AH to BH (SDM vol. 2, 3.1.1.1). */
static bool is_high_byte(const struct insn *in, unsigned number, unsigned size)
{
	return size == 1 && !in->rex && number >= 4 && number < 8;
}

uint64_t insn_get_reg(struct insn *in, unsigned number, unsigned size)
{
	if (is_high_byte(in, number, size))
		return *gpr(in, number - 4) >> 8 & 0xff;
	return *gpr(in, number) & insn_mask_of(size);
}

/* Four bytes take the upper four away, fewer leave the rest (SDM vol. 1, 3.4.1.1). */
void insn_set_reg(struct insn *in, unsigned number, uint64_t value, unsigned size)
{
	bool high = is_high_byte(in, number, size);
	uint64_t *reg = gpr(in, high ? number - 4 : number);
	uint64_t mask = size == 4 ? UINT64_MAX : insn_mask_of(size) << (high ? 8 : 0);

	value = size == 4 ? value & UINT32_MAX : value << (high ? 8 : 0);
	*reg = (*reg & ~mask) | (value & mask);
}

/* Addresses and counts: 16 bits in real mode, else 64. */
uint64_t insn_get_wide(struct insn *in, unsigned number)
{
	return insn_get_reg(in, number, in->lm ? 8 : 2);
}

void insn_add_wide(struct insn *in, unsigned number, uint64_t value)
{
	insn_set_reg(in, number, insn_get_wide(in, number) + value, in->lm ? 8 : 2);
}

uint64_t insn_linear(const struct insn *in, const struct impost_x86_segment *s, uint64_t offset)
{
	return in->lm ? offset : s->base + offset;
}

/* --- decoding --- */

static uint64_t take(struct insn *in, unsigned bytes)
{
	uint64_t value = 0;

	if (in->at + bytes > in->v->ninsn) {
		in->missing = true;
		return 0;
	}
	memcpy(&value, in->v->insn + in->at, bytes);
	in->at += bytes;
	return value;
}

/* SDM vol. 2, table 2-1. */
static void decode_address16(struct insn *in, unsigned mod, unsigned rm)
{
	static const uint8_t first[] = {BX, BX, BP, BP, SI, DI, BP, BX};
	const struct impost_x86_sregs *s = &in->v->sregs;
	bool direct = mod == 0 && rm == 6;
	uint64_t offset = direct ? 0 : insn_get_reg(in, first[rm], 2);

	if (rm < 4)
		offset += insn_get_reg(in, rm & 1 ? DI : SI, 2);
	if (mod == 1)
		offset += insn_sign_extend(take(in, 1), 1);
	else if (mod == 2 || direct)
		offset += take(in, 2);
	in->address = (offset & 0xffff) + (in->segment			? in->segment->base
					   : !direct && first[rm] == BP ? s->ss.base
									: s->ds.base);
}

/* SDM vol. 2, tables 2-2 and 2-3. RIP-relative ones lack the instruction's end still. */
static void decode_address64(struct insn *in, unsigned mod, unsigned rm, bool *ret_relative)
{
	uint64_t address = 0;

	*ret_relative = mod == 0 && rm == 5;
	if (rm == 4) {
		uint64_t sib = take(in, 1);
		unsigned index = (sib >> 3 & 7) | (in->rex & 2u) << 2;
		unsigned base = (sib & 7) | (in->rex & 1u) << 3;

		if (index != SP)
			address = insn_get_reg(in, index, 8) << (sib >> 6);
		if (mod == 0 && (sib & 7) == 5)
			address += insn_sign_extend(take(in, 4), 4);
		else
			address += insn_get_reg(in, base, 8);
	} else if (!*ret_relative) {
		address = insn_get_reg(in, rm | (in->rex & 1u) << 3, 8);
	}
	if (mod == 1)
		address += insn_sign_extend(take(in, 1), 1);
	else if (mod == 2 || *ret_relative)
		address += insn_sign_extend(take(in, 4), 4);
	in->address = address + (in->segment ? in->segment->base : 0);
}

static void decode_modrm(struct insn *in, bool *ret_relative)
{
	unsigned modrm = (unsigned)take(in, 1);

	in->reg = (modrm >> 3 & 7) | (in->rex & 4u) << 1;
	in->rm = (modrm & 7) | (in->rex & 1u) << 3;
	in->in_memory = modrm >> 6 != 3;
	if (in->in_memory && in->lm)
		decode_address64(in, modrm >> 6, modrm & 7, ret_relative);
	else if (in->in_memory)
		decode_address16(in, modrm >> 6, modrm & 7);
}

/* Prefixes and the opcode. */
void insn_decode_op(struct insn *in)
{
	in->size = in->lm ? 4 : 2;
	for (;;) {
		in->op = (uint16_t)take(in, 1);
		if (in->op == 0x66)
			in->size = in->lm ? 2 : 4;
		else if (in->op == 0xf3)
			in->rep = true;
		else if (in->op == 0x64 || in->op == 0x65)
			in->segment = in->op == 0x64 ? &in->v->sregs.fs : &in->v->sregs.gs;
		else
			break;
	}
	if (in->lm && in->op >> 4 == 4) {
		in->rex = (uint8_t)in->op;
		if (in->rex & 8)
			in->size = 8;
		in->op = (uint16_t)take(in, 1);
	}
	if (in->op == 0x0f)
		in->op = (uint16_t)(0x100 + take(in, 1));
}

/* --- operands --- */

enum toy_next insn_load_rm(struct insn *in, uint64_t *ret_value)
{
	*ret_value = 0;
	if (in->in_memory)
		return toy_load(in->v, in->address, ret_value, in->size);
	*ret_value = insn_get_reg(in, in->rm, in->size);
	return TOY_GO_ON;
}

enum toy_next insn_store_rm(struct insn *in, uint64_t value)
{
	if (in->in_memory)
		return toy_store(in->v, in->address, &value, in->size);
	insn_set_reg(in, in->rm, value, in->size);
	return TOY_GO_ON;
}

enum toy_next insn_push(struct insn *in, uint64_t value, unsigned size)
{
	insn_add_wide(in, SP, -(uint64_t)size);
	return toy_store(in->v, insn_linear(in, &in->v->sregs.ss, insn_get_wide(in, SP)), &value,
			 size);
}

enum toy_next insn_pop(struct insn *in, uint64_t *ret_value, unsigned size)
{
	enum toy_next next;

	*ret_value = 0;
	next = toy_load(in->v, insn_linear(in, &in->v->sregs.ss, insn_get_wide(in, SP)), ret_value,
			size);
	insn_add_wide(in, SP, size);
	return next;
}

void insn_jump(struct insn *in, uint64_t rip)
{
	in->v->next.rip = in->lm ? rip : rip & 0xffff;
}

/* Operands, once it is known which there are. */
void insn_decode_operands(struct insn *in, uint8_t shape)
{
	bool relative = false;
	unsigned bytes = 0;

	if ((shape & BYTE) && !(in->op & 1))
		in->size = 1;
	if (shape & MODRM)
		decode_modrm(in, &relative);
	if (shape & IMM8)
		bytes = 1;
	else if (shape & (IMMZ | IMMV))
		bytes = in->size == 8 && !(shape & IMMV) ? 4 : in->size;
	if (bytes)
		in->imm = insn_sign_extend(take(in, bytes), bytes);
	if (relative)
		in->address += in->v->regs.rip + in->at;
}
