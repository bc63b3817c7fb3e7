/* SPDX-License-Identifier: Apache-2.0 */
/* Each general register and each flag by itself: at its edges, and in the guest's own eyes. */
#include "section.h"

static const uint64_t edges[] = {0,
				 1,
				 UINT64_MAX,
				 UINT64_C(0x7fffffffffffffff),
				 UINT64_C(0x8000000000000000),
				 UINT32_MAX,
				 UINT64_C(0x5555aaaa12345678)};
#define EDGES (sizeof(edges) / sizeof(edges[0]))

/* All registers differ from each other. */
static struct impost_x86_regs all_different(struct box *box)
{
	struct impost_x86_regs regs = regs_of(box, box->vcpu);
	uint64_t *reg = &regs.rax;

	for (uint64_t i = 0; i < 16; i++)
		reg[i] = (i + 1) * UINT64_C(0x0101010101010101);
	regs.rip = CODE;
	regs.rflags = 2;
	return regs;
}

static void expect_regs(struct box *box, const struct impost_x86_regs *want)
{
	struct impost_x86_regs got = regs_of(box, box->vcpu);

	for (size_t i = 0; i < 18; i++)
		cr_assert_eq((&got.rax)[i], (&want->rax)[i], "register %zu: 0x%llx, not 0x%llx", i,
			     (unsigned long long)(&got.rax)[i],
			     (unsigned long long)(&want->rax)[i]);
}

/*
 * The number of a register in instructions, in whose order struct impost_x86_regs has only the last
 * eight (SDM vol. 2, table 2-2).
 */
static unsigned number_of(size_t offset)
{
	static const uint8_t first[] = {0, 3, 1, 2, 6, 7, 4, 5};
	size_t index = (offset - offsetof(struct impost_x86_regs, rax)) / 8;

	return index < 8 ? first[index] : (unsigned)index;
}

/* The guest stores the register at DATA and loads it from DATA + 8. */
static void guest_has_it(struct box *box, size_t offset, struct impost_x86_regs *regs)
{
	const unsigned number = number_of(offset);
	const uint8_t rex = (uint8_t)(0x48 | (number >= 8 ? 4 : 0));
	const uint8_t modrm = (uint8_t)(0x04 | (number & 7) << 3);
	const uint8_t code[] = {rex,  0x89, modrm, 0x25,
				0x00, 0x00, 0x01,  0x00, /* mov [DATA], reg */
				rex,  0x8b, modrm, 0x25,
				0x08, 0x00, 0x01,  0x00, /* mov reg, [DATA + 8] */
				0xe6, 0x80};
	uint64_t *reg = (void *)((uint8_t *)regs + offset), cell[2] = {0, ~*reg ^ 0x1234};
	struct impost_exit exit;

	OK(box, impost_memory_write(box->memory, CODE, code, sizeof(code)));
	OK(box, impost_memory_write(box->memory, DATA, cell, sizeof(cell)));
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
	OK(box, impost_memory_read(box->memory, DATA, cell, sizeof(cell)));
	cr_assert_eq(cell[0], *reg, "the guest had 0x%llx in it", (unsigned long long)cell[0]);
	*reg = cell[1];
	regs->rip = CODE + sizeof(code);
	expect_regs(box, regs);
}

static void general_register(size_t offset)
{
	struct impost_x86_regs regs;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	for (size_t i = 0; i < EDGES; i++) {
		regs = all_different(&box);
		memcpy((uint8_t *)&regs + offset, &edges[i], sizeof(edges[i]));
		set_regs(&box, box.vcpu, &regs);
		expect_regs(&box, &regs);
		if (impost_caps_has(box.caps, IMPOST_CAP_EXECUTES))
			guest_has_it(&box, offset, &regs);
	}
	box_close(&box);
}

#define GENERAL(name)                                                     \
	Test(registers, name)                                             \
	{                                                                 \
		general_register(offsetof(struct impost_x86_regs, name)); \
	}
GENERAL(rax)
GENERAL(rbx)
GENERAL(rcx)
GENERAL(rdx)
GENERAL(rsi)
GENERAL(rdi)
GENERAL(rsp)
GENERAL(rbp)
GENERAL(r8)
GENERAL(r9)
GENERAL(r10)
GENERAL(r11)
GENERAL(r12)
GENERAL(r13)
GENERAL(r14)
GENERAL(r15)

/* The guest goes on where RIP says, and RIP says where the guest is. */
Test(registers, rip)
{
	static const uint64_t places[] = {CODE, CODE + 0x7ff, 0x9ffe, 0xfffff - 4};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	regs = all_different(&box);
	for (size_t i = 0; i < EDGES; i++) {
		regs.rip = canonical(edges[i]);
		set_regs(&box, box.vcpu, &regs);
		expect_regs(&box, &regs);
	}
	box_need(&box, IMPOST_CAP_EXECUTES);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		OK(&box, impost_memory_write(box.memory, places[i], (uint8_t[]){0xe6, 0x80}, 2));
		regs.rip = places[i];
		set_regs(&box, box.vcpu, &regs);
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		finish(&box, box.vcpu);
		cr_assert_eq(regs_of(&box, box.vcpu).rip, places[i] + 2);
	}
	box_close(&box);
}

/* pushfq; pop rax; push rbx; popfq; out 0x80, al: what the guest saw of the flags, and what it
 * makes of them. */
static void guest_flag(struct box *box, uint64_t flag)
{
	const uint8_t code[] = {0x9c, 0x58, 0x53, 0x9d, 0xe6, 0x80};
	struct impost_x86_regs regs = all_different(box);
	struct impost_exit exit;

	OK(box, impost_memory_write(box->memory, CODE, code, sizeof(code)));
	for (int set = 0; set < 2; set++) {
		regs.rip = CODE;
		regs.rsp = STACK_TOP;
		regs.rflags = 2 | (set ? flag : 0);
		regs.rbx = 2 | (set ? 0 : flag);
		set_regs(box, box->vcpu, &regs);
		run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
		finish(box, box->vcpu);
		cr_assert_eq(regs_of(box, box->vcpu).rax & flag, set ? flag : 0,
			     "what the guest sees");
		cr_assert_eq(regs_of(box, box->vcpu).rflags & flag, set ? 0 : flag,
			     "what the guest has set");
	}
}

static void one_flag(uint64_t flag)
{
	struct impost_x86_regs regs;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	regs = all_different(&box);
	regs.rflags = 2 | flag;
	set_regs(&box, box.vcpu, &regs);
	expect_regs(&box, &regs);
	regs.rflags = 2;
	set_regs(&box, box.vcpu, &regs);
	expect_regs(&box, &regs);
	if (impost_caps_has(box.caps, IMPOST_CAP_EXECUTES))
		guest_flag(&box, flag);
	box_close(&box);
}

/* SDM vol. 1, 3.4.3. */
#define FLAG(name, value)        \
	Test(rflags, name)       \
	{                        \
		one_flag(value); \
	}
FLAG(cf, 1u << 0)
FLAG(pf, 1u << 2)
FLAG(af, 1u << 4)
FLAG(zf, 1u << 6)
FLAG(sf, 1u << 7)
FLAG(if_, 1u << 9)
FLAG(df, 1u << 10)
FLAG(of, 1u << 11)
FLAG(iopl_1, 1u << 12)
FLAG(iopl_2, 2u << 12)
FLAG(iopl_3, 3u << 12)
FLAG(nt, 1u << 14)
FLAG(ac, 1u << 18)
FLAG(id, 1u << 21)

static void bad_flags(uint64_t value, const char *what)
{
	static union section s;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	section_get(&box, IMPOST_SECTION_REGS, &s);
	s.regs.rax = 77;
	s.regs.rflags = value;
	section_refuse(&box, IMPOST_SECTION_REGS, &s, IMPOST_ESTATE, what);
	cr_assert_not_null(strcasestr(impost_error(box.ctx), "rflags"), "names no register: %s",
			   impost_error(box.ctx));
	box_close(&box);
}

/* SDM vol. 3, 27.3.1.4. */
#define BAD_FLAGS(name, value)                     \
	Test(rflags, refuses_##name)               \
	{                                          \
		bad_flags(value, "RFLAGS " #name); \
	}
BAD_FLAGS(bit_1_clear, 0)
BAD_FLAGS(bit_3, 0x0a)
BAD_FLAGS(bit_5, 0x22)
BAD_FLAGS(bit_15, 0x8002)
BAD_FLAGS(bit_22, 0x400002)
BAD_FLAGS(bit_63, UINT64_C(0x8000000000000002))
