/* SPDX-License-Identifier: Apache-2.0 */
/* Finishing an exit: takes the answer, runs nothing of the guest, and is done once. */
#include "common.h"

/* Each guest's instruction is followed by one that would be seen: inc bl. */
#define BEHIND 0xfe, 0xc3, 0xf4

static void open_complete(struct box *box, const void *code, size_t bytes)
{
	struct impost_x86_regs regs;

	box_open(box, 1, IMPOST_IRQCHIP_NONE);
	box_need(box, IMPOST_CAP_EXECUTES);
	box_need(box, IMPOST_CAP_COMPLETE);
	enter_long(box, box->vcpu, code, bytes);
	regs = regs_of(box, box->vcpu);
	regs.rdx = 0x510;
	regs.rdi = HOLE;
	regs.rcx = 0xc0010200;
	set_regs(box, box->vcpu, &regs);
}

/* Nothing behind the instruction of LENGTH bytes has run, however often complete is called. */
static void expect_finished(struct box *box, uint64_t length)
{
	struct impost_x86_regs first, second;

	finish(box, box->vcpu);
	first = regs_of(box, box->vcpu);
	cr_assert_eq(first.rip, CODE + length, "RIP 0x%llx", (unsigned long long)first.rip);
	cr_assert_eq(first.rbx, 0u, "the guest has run");
	finish(box, box->vcpu);
	finish(box, box->vcpu);
	second = regs_of(box, box->vcpu);
	cr_assert_arr_eq(&first, &second, sizeof(first), "finished twice");
}

#define COMPLETE(name, kind, length, ...)                          \
	Test(complete, name)                                       \
	{                                                          \
		struct impost_exit exit;                           \
		struct box box;                                    \
                                                                   \
		open_complete(&box, GUEST(__VA_ARGS__, BEHIND));   \
		run_to(&box, box.vcpu, IMPOST_EXIT_##kind, &exit); \
		expect_finished(&box, length);                     \
		run_to(&box, box.vcpu, IMPOST_EXIT_HLT, &exit);    \
		cr_assert_eq(regs_of(&box, box.vcpu).rbx, 1u);     \
		box_close(&box);                                   \
	}
COMPLETE(port_write, IO, 1, 0xee)
COMPLETE(port_read, IO, 1, 0xec)
COMPLETE(memory_write, MMIO, 2, 0x88, 0x07)
COMPLETE(memory_read, MMIO, 2, 0x8a, 0x07)
COMPLETE(halt, HLT, 1, 0xf4)

static void complete_msr(uint8_t opcode, uint32_t kind)
{
	const struct impost_msr_range range = {0xc0010200, 1,
					       IMPOST_MSR_EXIT_READ | IMPOST_MSR_EXIT_WRITE, 0};
	struct impost_exit exit;
	struct box box;

	open_complete(&box, GUEST(0x0f, opcode, BEHIND));
	box_need(&box, IMPOST_CAP_MSR_EXITS);
	OK(&box, impost_vm_set_msr_exits(box.vm, &range, 1, 0));
	run_to(&box, box.vcpu, kind, &exit);
	if (kind == IMPOST_EXIT_RDMSR)
		*exit.u.msr.value = UINT64_C(0x0000000700000009);
	expect_finished(&box, 2);
	if (kind == IMPOST_EXIT_RDMSR) {
		cr_assert_eq(regs_of(&box, box.vcpu).rax, 9u);
		cr_assert_eq(regs_of(&box, box.vcpu).rdx, 7u);
	}
	box_close(&box);
}

Test(complete, msr_read)
{
	complete_msr(0x32, IMPOST_EXIT_RDMSR);
}

Test(complete, msr_write)
{
	complete_msr(0x30, IMPOST_EXIT_WRMSR);
}

Test(complete, nothing_is_pending_before_the_first_run)
{
	struct impost_x86_regs first, second;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_COMPLETE);
	first = regs_of(&box, box.vcpu);
	finish(&box, box.vcpu);
	second = regs_of(&box, box.vcpu);
	cr_assert_arr_eq(&first, &second, sizeof(first));
	box_close(&box);
}

Test(complete, nothing_is_pending_after_a_kick)
{
	struct impost_exit exit;
	struct box box;

	open_complete(&box, GUEST(0xeb, 0xfe));
	OK(&box, impost_vcpu_kick(box.vcpu));
	run_to(&box, box.vcpu, IMPOST_EXIT_INTR, &exit);
	finish(&box, box.vcpu);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE);
	box_close(&box);
}

/* The answer is taken by the next run just as well. */
Test(complete, run_takes_the_answer_too)
{
	struct impost_exit exit;
	struct box box;

	/* in al, dx; out dx, al */
	open_complete(&box, GUEST(0xec, 0xee, 0xf4));
	for (uint8_t answer = 1; answer < 20; answer++) {
		struct impost_x86_regs regs;

		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_READ);
		*(uint8_t *)exit.u.io.data = answer;
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_WRITE);
		cr_assert_eq(*(uint8_t *)exit.u.io.data, answer);
		finish(&box, box.vcpu);
		regs = regs_of(&box, box.vcpu);
		regs.rip = CODE;
		set_regs(&box, box.vcpu, &regs);
	}
	box_close(&box);
}

/* An exit says what it is about, and nothing of the one before it. */
Test(complete, exits_of_different_kinds_in_turn)
{
	struct impost_exit exit;
	struct box box;

	/* out dx, eax; mov [rdi], bl; in al, dx; mov rax, [rdi]; out 0x42, al; hlt */
	open_complete(&box, GUEST(0xef, 0x88, 0x1f, 0xec, 0x48, 0x8b, 0x07, 0xe6, 0x42, 0xf4));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert(exit.u.io.size == 4 && exit.u.io.dir == IMPOST_EXIT_WRITE);
	run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
	cr_assert(exit.u.mmio.size == 1 && exit.u.mmio.dir == IMPOST_EXIT_WRITE);
	cr_assert_eq(*(uint8_t *)exit.u.mmio.data, 0);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert(exit.u.io.size == 1 && exit.u.io.dir == IMPOST_EXIT_READ);
	*(uint8_t *)exit.u.io.data = 0x11;
	run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
	cr_assert(exit.u.mmio.size == 8 && exit.u.mmio.dir == IMPOST_EXIT_READ);
	memset(exit.u.mmio.data, 0x22, 8);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert(exit.u.io.size == 1 && exit.u.io.dir == IMPOST_EXIT_WRITE);
	cr_assert_eq(exit.u.io.port, 0x42);
	cr_assert_eq(*(uint8_t *)exit.u.io.data, 0x22);
	run_to(&box, box.vcpu, IMPOST_EXIT_HLT, &exit);
	box_close(&box);
}
