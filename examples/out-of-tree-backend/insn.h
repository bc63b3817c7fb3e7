/* SPDX-License-Identifier: Apache-2.0 */
/* An instruction, decoded, and what those that carry it out are given: cpu.c and system.c. */
#ifndef TOY_INSN_H
#define TOY_INSN_H

#include "toy.h"

#define TOY_UD 6u  /* invalid opcode */
#define TOY_GP 13u /* general protection */

/* Numbers of registers in an instruction. */
enum { AX, CX, DX, BX, SP, BP, SI, DI };

struct insn {
	struct toy_vcpu *v;
	bool lm;				  /* 64-bit mode; else real mode */
	bool rep;				  /* F3 */
	const struct impost_x86_segment *segment; /* FS or GS, where a prefix names it; or NULL */
	uint8_t rex;				  /* 0: none */
	unsigned at;				  /* bytes decoded */
	bool missing;				  /* it goes on where there is no memory */
	uint16_t op;				  /* 0x100 and up: behind 0F */
	unsigned size;				  /* of the operands: 1, 2, 4, 8 */
	unsigned reg, rm;			  /* registers that ModRM names */
	bool in_memory;				  /* rm is memory at linear address `address` */
	uint64_t address;
	uint64_t imm; /* sign-extended */
};

/* What follows an opcode. */
#define MODRM 1u
#define IMM8  2u
#define IMMZ  4u  /* 2 bytes, or 4 */
#define IMMV  8u  /* as IMMZ, or 8 */
#define BYTE  16u /* an opcode whose lowest bit is clear has operands of a byte */
#define REAL  32u /* in real mode only */

uint64_t insn_mask_of(unsigned size);
uint64_t insn_sign_extend(uint64_t value, unsigned size);

/* Registers by number; bytes as the instruction's REX prefix has them. */
uint64_t insn_get_reg(struct insn *in, unsigned number, unsigned size);
void insn_set_reg(struct insn *in, unsigned number, uint64_t value, unsigned size);

/* Addresses and counts: 16 bits in real mode, else 64. */
uint64_t insn_get_wide(struct insn *in, unsigned number);
void insn_add_wide(struct insn *in, unsigned number, uint64_t value);
uint64_t insn_linear(const struct insn *in, const struct impost_x86_segment *s, uint64_t offset);

/* Prefixes and the opcode; then the operands, once it is known which there are: what follows. */
void insn_decode_op(struct insn *in);
void insn_decode_operands(struct insn *in, uint8_t shape);

/* The operand that ModRM's rm names, of in->size bytes. */
enum toy_next insn_load_rm(struct insn *in, uint64_t *ret_value);
enum toy_next insn_store_rm(struct insn *in, uint64_t value);

enum toy_next insn_push(struct insn *in, uint64_t value, unsigned size);
enum toy_next insn_pop(struct insn *in, uint64_t *ret_value, unsigned size);
void insn_jump(struct insn *in, uint64_t rip);

/* system.c: instructions on control, debug, segment and model-specific registers, and CPUID. */
enum toy_next insn_mov_control(struct insn *in);
enum toy_next insn_mov_debug(struct insn *in);
enum toy_next insn_store_segment(struct insn *in);
enum toy_next insn_load_segment(struct insn *in);
enum toy_next insn_group6(struct insn *in);
enum toy_next insn_group7(struct insn *in);
enum toy_next insn_msr(struct insn *in);
enum toy_next insn_rdtsc(struct insn *in);
enum toy_next insn_cpuid(struct insn *in);

#endif
