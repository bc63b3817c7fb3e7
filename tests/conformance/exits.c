/* SPDX-License-Identifier: Apache-2.0 */
/* Each kind of exit that a guest can bring about, and what becomes of the host's answer. */
#include <cpuid.h>

#include "common.h"

#define PORT 0x510u

/* The value of SIZE bytes at DATA. */
static uint64_t value_at(const void *data, uint32_t size)
{
	uint64_t value = 0;

	memcpy(&value, data, size);
	return value;
}

static uint64_t low(uint64_t value, uint32_t size)
{
	return size == 8 ? value : value & ((UINT64_C(1) << (size * 8)) - 1);
}

/* What RAX is after SIZE bytes of NEW have been put in it (SDM vol. 1, 3.4.1.1). */
static uint64_t merged(uint64_t old, uint64_t new, uint32_t size)
{
	return size >= 4 ? low(new, size) : (old & ~low(UINT64_MAX, size)) | low(new, size);
}

/* Instructions that read or write AL, AX, EAX, RAX. */
struct access {
	uint32_t size;
	uint8_t insn[4];
	uint32_t bytes;
};

static const struct access out[] = {{1, {0xee}, 1}, {2, {0xef}, 1}, {4, {0x66, 0xef}, 2}};
static const struct access in[] = {{1, {0xec}, 1}, {2, {0xed}, 1}, {4, {0x66, 0xed}, 2}};
static const struct access store[] = {{1, {0x88, 0x07}, 2},
				      {2, {0x66, 0x89, 0x07}, 3},
				      {4, {0x89, 0x07}, 2},
				      {8, {0x48, 0x89, 0x07}, 3}};
static const struct access load[] = {{1, {0x8a, 0x07}, 2},
				     {2, {0x66, 0x8b, 0x07}, 3},
				     {4, {0x8b, 0x07}, 2},
				     {8, {0x48, 0x8b, 0x07}, 3}};

/* Puts ACCESS before the vCPU again, with random RAX, and DX and RDI at the ADDRESS. */
static uint64_t prepare(struct box *box, const struct access *access, uint64_t address)
{
	struct impost_x86_regs regs = {
		.rip = CODE, .rflags = 2, .rsp = STACK_TOP, .rdx = address, .rdi = address};

	regs.rax = random64();
	OK(box, impost_memory_write(box->memory, CODE, access->insn, access->bytes));
	set_regs(box, box->vcpu, &regs);
	return regs.rax;
}

Test(exits, port_writes_of_every_size)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xf4));
	for (uint32_t i = 0; i < 30; i++) {
		const struct access *a = &out[i % 3];
		uint16_t port = (uint16_t)(0x1000 | (random64() & 0x7ffc));
		uint64_t rax = prepare(&box, a, port);

		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.port, port);
		cr_assert_eq(exit.u.io.size, a->size);
		cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_WRITE);
		cr_assert_eq(exit.u.io.count, 1u);
		cr_assert_eq(value_at(exit.u.io.data, a->size), low(rax, a->size));
		finish(&box, box.vcpu);
		cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + a->bytes);
		cr_assert_eq(regs_of(&box, box.vcpu).rax, rax);
	}
	box_close(&box);
}

Test(exits, port_reads_of_every_size)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xf4));
	for (uint32_t i = 0; i < 30; i++) {
		const struct access *a = &in[i % 3];
		uint64_t rax = prepare(&box, a, PORT), answer = random64();

		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.port, PORT);
		cr_assert_eq(exit.u.io.size, a->size);
		cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_READ);
		memcpy(exit.u.io.data, &answer, a->size);
		finish(&box, box.vcpu);
		cr_assert_eq(regs_of(&box, box.vcpu).rax, merged(rax, answer, a->size), "size %u",
			     a->size);
	}
	box_close(&box);
}

Test(exits, memory_mapped_writes_of_every_size)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	for (uint32_t i = 0; i < 40; i++) {
		const struct access *a = &store[i % 4];
		uint64_t gpa = HOLE + (random64() & 0xffff8);
		uint64_t rax = prepare(&box, a, gpa);

		run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
		cr_assert_eq(exit.u.mmio.gpa, gpa);
		cr_assert_eq(exit.u.mmio.size, a->size);
		cr_assert_eq(exit.u.mmio.dir, IMPOST_EXIT_WRITE);
		cr_assert_eq(exit.u.mmio.count, 1u);
		cr_assert_eq(value_at(exit.u.mmio.data, a->size), low(rax, a->size));
		finish(&box, box.vcpu);
		cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + a->bytes);
	}
	box_close(&box);
}

Test(exits, memory_mapped_reads_of_every_size)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	for (uint32_t i = 0; i < 40; i++) {
		const struct access *a = &load[i % 4];
		uint64_t gpa = HOLE + (random64() & 0xffff8), answer = random64();
		uint64_t rax = prepare(&box, a, gpa);

		run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
		cr_assert_eq(exit.u.mmio.gpa, gpa);
		cr_assert_eq(exit.u.mmio.size, a->size);
		cr_assert_eq(exit.u.mmio.dir, IMPOST_EXIT_READ);
		memcpy(exit.u.mmio.data, &answer, a->size);
		finish(&box, box.vcpu);
		cr_assert_eq(regs_of(&box, box.vcpu).rax, merged(rax, answer, a->size), "size %u",
			     a->size);
	}
	box_close(&box);
}

/* An access across a border of pages is two exits, of which complete hands out the second. */
Test(exits, access_across_pages_is_completed_in_parts)
{
	struct impost_exit exit;
	uint64_t answer = random64();
	uint32_t done = 0;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	prepare(&box, &load[3], HOLE + 0xffc);
	run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
	while (exit.kind == IMPOST_EXIT_MMIO) {
		cr_assert_eq(exit.u.mmio.gpa, HOLE + 0xffc + done);
		cr_assert_leq(done + exit.u.mmio.size, 8u);
		memcpy(exit.u.mmio.data, (uint8_t *)&answer + done, exit.u.mmio.size);
		done += exit.u.mmio.size;
		OK(&box, impost_vcpu_complete(box.vcpu, &exit));
	}
	cr_assert_eq(exit.kind, IMPOST_EXIT_NONE);
	cr_assert_eq(done, 8u);
	cr_assert_eq(regs_of(&box, box.vcpu).rax, answer);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + 3u);
	box_close(&box);
}

/* REP OUTS: all bytes come, in order, in as few exits as the backend likes. */
Test(exits, string_output)
{
	static const struct access outs[] = {
		{1, {0xf3, 0x6e}, 2}, {2, {0xf3, 0x6f}, 2}, {4, {0x66, 0xf3, 0x6f}, 3}};
	uint8_t sent[600], got[600];
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	for (uint32_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)random64();
	enter_real(&box, box.vcpu, GUEST(0xf4));
	OK(&box, impost_memory_write(box.memory, 0x9000, sent, sizeof(sent)));
	for (int i = 0; i < 3; i++) {
		struct impost_x86_regs regs;
		struct impost_exit exit;
		uint32_t n = 0, count = 145;

		prepare(&box, &outs[i], PORT);
		regs = regs_of(&box, box.vcpu);
		regs.rcx = count;
		regs.rsi = 0x9000;
		set_regs(&box, box.vcpu, &regs);
		while (n < count * outs[i].size) {
			run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
			cr_assert_eq(exit.u.io.size, outs[i].size);
			cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_WRITE);
			cr_assert_geq(exit.u.io.count, 1u);
			cr_assert_leq(n + exit.u.io.count * outs[i].size, sizeof(got));
			memcpy(got + n, exit.u.io.data, exit.u.io.count * outs[i].size);
			n += exit.u.io.count * outs[i].size;
		}
		finish(&box, box.vcpu);
		cr_assert_arr_eq(got, sent, count * outs[i].size);
		regs = regs_of(&box, box.vcpu);
		cr_assert_eq(regs.rcx, 0u);
		cr_assert_eq(regs.rsi, 0x9000u + count * outs[i].size);
	}
	box_close(&box);
}

/* REP INS: what the host gives for each access lies in memory behind the last. */
Test(exits, string_input)
{
	static const struct access ins[] = {
		{1, {0xf3, 0x6c}, 2}, {2, {0xf3, 0x6d}, 2}, {4, {0x66, 0xf3, 0x6d}, 3}};
	uint8_t sent[600];
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	for (uint32_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)random64();
	enter_real(&box, box.vcpu, GUEST(0xf4));
	for (int i = 0; i < 3; i++) {
		struct impost_x86_regs regs;
		struct impost_exit exit;
		uint32_t n = 0, bytes = 145 * ins[i].size;
		uint8_t got[600];

		prepare(&box, &ins[i], PORT);
		regs = regs_of(&box, box.vcpu);
		regs.rcx = 145;
		regs.rdi = 0x9000;
		set_regs(&box, box.vcpu, &regs);
		while (n < bytes) {
			run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
			cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_READ);
			cr_assert_leq(n + exit.u.io.count * ins[i].size, bytes);
			memcpy(exit.u.io.data, sent + n, exit.u.io.count * ins[i].size);
			n += exit.u.io.count * ins[i].size;
		}
		finish(&box, box.vcpu);
		OK(&box, impost_memory_read(box.memory, 0x9000, got, bytes));
		cr_assert_arr_eq(got, sent, bytes);
		regs = regs_of(&box, box.vcpu);
		cr_assert_eq(regs.rdi, 0x9000u + bytes);
	}
	box_close(&box);
}

Test(exits, state_waits_for_the_answer)
{
	struct impost_x86_regs regs = {.size = 0};
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_COMPLETE);
	enter_real(&box, box.vcpu, GUEST(0xec, 0xf4));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	REFUSED(&box, EBUSY, impost_vcpu_get_regs(box.vcpu, &regs));
	cr_assert_eq(regs.size, 0u, "a refused get has written");
	memset(exit.u.io.data, 0x5a, 1);
	finish(&box, box.vcpu);
	finish(&box, box.vcpu);
	OK(&box, impost_vcpu_get_regs(box.vcpu, &regs));
	cr_assert_eq(regs.rax, 0x5au);
	box_close(&box);
}

Test(exits, halt_comes_out_without_a_local_apic)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xf4));
	run_to(&box, box.vcpu, IMPOST_EXIT_HLT, &exit);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + 1u);
	box_close(&box);
}

Test(exits, triple_fault_is_a_shutdown)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	/* UD2 with an IDT that has no entries. */
	enter_long(&box, box.vcpu, GUEST(0x0f, 0x0b));
	run_to(&box, box.vcpu, IMPOST_EXIT_SHUTDOWN, &exit);
	cr_assert_eq(exit.u.shutdown.reason, IMPOST_SHUTDOWN_TRIPLE_FAULT);
	box_close(&box);
}

Test(exits, read_only_memory_traps_writes)
{
	uint8_t rom[4] = {1, 2, 3, 4}, now[4];
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = HOLE,
				       .bytes = 0x1000,
				       .flags = IMPOST_REGION_READONLY};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_MEM_READONLY);
	OK(&box, impost_memory_add(box.memory, &region));
	OK(&box, impost_memory_write(box.memory, HOLE, rom, sizeof(rom)));
	/* mov eax, [rdi]; mov [rdi], ebx; hlt */
	enter_long(&box, box.vcpu, GUEST(0x8b, 0x07, 0x89, 0x1f, 0xf4));
	regs = regs_of(&box, box.vcpu);
	regs.rdi = HOLE;
	regs.rbx = 0x55667788;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
	cr_assert_eq(exit.u.mmio.gpa, HOLE);
	cr_assert_eq(exit.u.mmio.dir, IMPOST_EXIT_WRITE);
	cr_assert_eq(value_at(exit.u.mmio.data, 4), 0x55667788u);
	finish(&box, box.vcpu);
	cr_assert_eq(regs_of(&box, box.vcpu).rax, 0x04030201u);
	OK(&box, impost_memory_read(box.memory, HOLE, now, sizeof(now)));
	cr_assert_arr_eq(now, rom, sizeof(rom));
	box_close(&box);
}

/* rdmsr; out 0x80, eax; wrmsr; out 0x80, eax */
#define MSR_GUEST GUEST(0x0f, 0x32, 0xe7, 0x80, 0x0f, 0x30, 0xe7, 0x80, 0xf4)

Test(exits, chosen_msrs_exit_both_ways)
{
	const struct impost_msr_range range = {0xc0010200, 2,
					       IMPOST_MSR_EXIT_READ | IMPOST_MSR_EXIT_WRITE, 0};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_MSR_EXITS);
	OK(&box, impost_vm_set_msr_exits(box.vm, &range, 1, 0));
	enter_long(&box, box.vcpu, MSR_GUEST);
	regs = regs_of(&box, box.vcpu);
	regs.rcx = 0xc0010201;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_RDMSR, &exit);
	cr_assert_eq(exit.u.msr.index, 0xc0010201u);
	cr_assert_eq(exit.u.msr.reason, IMPOST_MSR_REASON_ASKED);
	cr_assert_eq(*exit.u.msr.refused, 0u);
	*exit.u.msr.value = UINT64_C(0x1122334455667788);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(value_at(exit.u.io.data, 4), 0x55667788u);
	run_to(&box, box.vcpu, IMPOST_EXIT_WRMSR, &exit);
	cr_assert_eq(*exit.u.msr.value, UINT64_C(0x1122334455667788));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	box_close(&box);
}

/* A refused access raises #GP(0): real-mode vector 13 writes to port 0x81. */
Test(exits, refused_msr_access_faults)
{
	const struct impost_msr_range range = {0xc0010200, 1, IMPOST_MSR_EXIT_READ, 0};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_MSR_EXITS);
	OK(&box, impost_vm_set_msr_exits(box.vm, &range, 1, 0));
	real_vector(&box, 13, HANDLER);
	enter_real(&box, box.vcpu, MSR_GUEST);
	OK(&box, impost_memory_write(box.memory, HANDLER, (uint8_t[]){0xe6, 0x81, 0xf4}, 3));
	regs = regs_of(&box, box.vcpu);
	regs.rcx = 0xc0010200;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_RDMSR, &exit);
	*exit.u.msr.refused = 1;
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x81u);
	box_close(&box);
}

Test(exits, unknown_msrs_exit_when_asked)
{
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_MSR_EXITS);
	OK(&box, impost_vm_set_msr_exits(box.vm, NULL, 0, 1));
	enter_long(&box, box.vcpu, MSR_GUEST);
	regs = regs_of(&box, box.vcpu);
	regs.rcx = 0xdead0001;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_RDMSR, &exit);
	cr_assert_eq(exit.u.msr.index, 0xdead0001u);
	cr_assert_eq(exit.u.msr.reason, IMPOST_MSR_REASON_UNKNOWN);
	box_close(&box);
}

Test(exits, bad_msr_ranges_are_refused)
{
	static const struct impost_msr_range bad[] = {
		{0x10, 0, IMPOST_MSR_EXIT_READ, 0},
		{0xfffffff0, 0x20, IMPOST_MSR_EXIT_READ, 0},
		{0x10, 1, 0, 0},
		{0x10, 1, 0x80, 0},
	};
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_MSR_EXITS);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		REFUSED(&box, EINVAL, impost_vm_set_msr_exits(box.vm, &bad[i], 1, 0));
	box_close(&box);
}

Test(exits, single_step)
{
	struct impost_guest_debug debug = {.size = sizeof(debug),
					   .flags = IMPOST_DEBUG_SINGLE_STEP};
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_GUEST_DEBUG);
	/* nop; nop; nop; out 0x80, al */
	enter_long(&box, box.vcpu, GUEST(0x90, 0x90, 0x90, 0xe6, 0x80, 0xf4));
	OK(&box, impost_vcpu_guest_debug(box.vcpu, &debug));
	for (uint32_t i = 1; i <= 3; i++) {
		run_to(&box, box.vcpu, IMPOST_EXIT_DEBUG, &exit);
		cr_assert_eq(exit.u.debug.rip, CODE + i);
		cr_assert_eq(exit.u.debug.vector, 1u);
		cr_assert(exit.u.debug.dr6 & 1u << 14, "DR6.BS");
	}
	debug.flags = 0;
	OK(&box, impost_vcpu_guest_debug(box.vcpu, &debug));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	debug.flags = 0x100;
	REFUSED(&box, EINVAL, impost_vcpu_guest_debug(box.vcpu, &debug));
	box_close(&box);
}

/* QEMU's emulation of SVM loads the guest's DR7 without arming the breakpoints in it. */
static bool breakpoints_are_emulated_away(void)
{
	uint32_t eax, signature[3];

	__cpuid(0x40000000, eax, signature[0], signature[1], signature[2]);
	return eax && memcmp(signature, "TCGTCGTCGTCG", sizeof(signature)) == 0;
}

Test(exits, hardware_breakpoint)
{
	struct impost_guest_debug debug = {.size = sizeof(debug),
					   .flags = IMPOST_DEBUG_HW_BREAK,
					   .dr = {CODE + 2},
					   .dr7 = 0x401};
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_GUEST_DEBUG);
	if (breakpoints_are_emulated_away()) {
		box_close(&box);
		cr_skip_test("the processor is QEMU's emulation, which arms no guest breakpoints");
	}
	enter_long(&box, box.vcpu, GUEST(0x90, 0x90, 0x90, 0xe6, 0x80, 0xf4));
	OK(&box, impost_vcpu_guest_debug(box.vcpu, &debug));
	run_to(&box, box.vcpu, IMPOST_EXIT_DEBUG, &exit);
	cr_assert_eq(exit.u.debug.rip, CODE + 2u);
	cr_assert_eq(exit.u.debug.vector, 1u);
	cr_assert(exit.u.debug.dr6 & 1, "DR6.B0");
	box_close(&box);
}

Test(exits, translation_follows_the_guests_paging)
{
	uint64_t gpa = 42;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_TRANSLATE);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	for (int i = 0; i < 20; i++) {
		uint64_t gva = random64() & 0x3fffffff;

		OK(&box, impost_vcpu_translate(box.vcpu, gva, &gpa));
		cr_assert_eq(gpa, gva);
	}
	gpa = 42;
	REFUSED(&box, EFAULT, impost_vcpu_translate(box.vcpu, UINT64_C(0x40000000), &gpa));
	cr_assert_eq(gpa, 42u);
	box_close(&box);
}
