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

/* One access of a guest's to a port or to memory that is not there, and what is seen of it. */
struct seen {
	uint32_t size, dir, count;
	uint64_t address;
	void *data;
};

static struct seen run_to_access(struct box *box, uint32_t kind)
{
	struct impost_exit exit;

	run_to(box, box->vcpu, kind, &exit);
	if (kind == IMPOST_EXIT_IO)
		return (struct seen){exit.u.io.size, exit.u.io.dir, exit.u.io.count, exit.u.io.port,
				     exit.u.io.data};
	return (struct seen){exit.u.mmio.size, exit.u.mmio.dir, exit.u.mmio.count, exit.u.mmio.gpa,
			     exit.u.mmio.data};
}

static uint64_t random_address(uint32_t kind)
{
	if (kind == IMPOST_EXIT_IO)
		return 0x1000 | (random64() & 0x7ffc);
	return HOLE + (random64() & 0xffff8);
}

static void access_of(uint32_t kind, uint32_t dir, const struct access *a)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	for (int i = 0; i < 10; i++) {
		const uint64_t address = random_address(kind), answer = random64();
		uint64_t rax = prepare(&box, a, address);
		struct seen seen = run_to_access(&box, kind);

		cr_assert_eq(seen.address, address);
		cr_assert_eq(seen.size, a->size);
		cr_assert_eq(seen.dir, dir);
		cr_assert_eq(seen.count, 1u);
		if (dir == IMPOST_EXIT_WRITE) {
			cr_assert_eq(value_at(seen.data, a->size), low(rax, a->size));
		} else {
			memcpy(seen.data, &answer, a->size);
			rax = merged(rax, answer, a->size);
		}
		finish(&box, box.vcpu);
		cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + a->bytes);
		cr_assert_eq(regs_of(&box, box.vcpu).rax, rax);
	}
	box_close(&box);
}

#define ACCESS(name, kind, dir, bytes, length, ...)                            \
	Test(exits, name)                                                      \
	{                                                                      \
		static const struct access a = {bytes, {__VA_ARGS__}, length}; \
                                                                               \
		access_of(IMPOST_EXIT_##kind, IMPOST_EXIT_##dir, &a);          \
	}
ACCESS(port_write_of_1, IO, WRITE, 1, 1, 0xee)
ACCESS(port_write_of_2, IO, WRITE, 2, 2, 0x66, 0xef)
ACCESS(port_write_of_4, IO, WRITE, 4, 1, 0xef)
ACCESS(port_read_of_1, IO, READ, 1, 1, 0xec)
ACCESS(port_read_of_2, IO, READ, 2, 2, 0x66, 0xed)
ACCESS(port_read_of_4, IO, READ, 4, 1, 0xed)
ACCESS(memory_write_of_1, MMIO, WRITE, 1, 2, 0x88, 0x07)
ACCESS(memory_write_of_2, MMIO, WRITE, 2, 3, 0x66, 0x89, 0x07)
ACCESS(memory_write_of_4, MMIO, WRITE, 4, 2, 0x89, 0x07)
ACCESS(memory_write_of_8, MMIO, WRITE, 8, 3, 0x48, 0x89, 0x07)
ACCESS(memory_read_of_1, MMIO, READ, 1, 2, 0x8a, 0x07)
ACCESS(memory_read_of_2, MMIO, READ, 2, 3, 0x66, 0x8b, 0x07)
ACCESS(memory_read_of_4, MMIO, READ, 4, 2, 0x8b, 0x07)
ACCESS(memory_read_of_8, MMIO, READ, 8, 3, 0x48, 0x8b, 0x07)

/* movzx and movsx: the access has one width, the register another. */
static void extended(const uint8_t insn[4], uint32_t size, uint64_t answer, uint64_t want)
{
	struct access a = {size, {0}, 4};
	struct seen seen;
	struct box box;

	memcpy(a.insn, insn, sizeof(a.insn));
	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	prepare(&box, &a, HOLE);
	seen = run_to_access(&box, IMPOST_EXIT_MMIO);
	cr_assert_eq(seen.size, size);
	cr_assert_eq(seen.dir, IMPOST_EXIT_READ);
	memcpy(seen.data, &answer, size);
	finish(&box, box.vcpu);
	cr_assert_eq(regs_of(&box, box.vcpu).rax, want);
	box_close(&box);
}

#define EXTENDED(name, opcode, size, answer, want)                                         \
	Test(exits, name)                                                                  \
	{                                                                                  \
		extended((const uint8_t[]){0x48, 0x0f, opcode, 0x07}, size, answer, want); \
	}
EXTENDED(zero_extended_read_of_1, 0xb6, 1, 0x80, 0x80)
EXTENDED(zero_extended_read_of_2, 0xb7, 2, 0x8000, 0x8000)
EXTENDED(sign_extended_read_of_1, 0xbe, 1, 0x80, UINT64_C(0xffffffffffffff80))
EXTENDED(sign_extended_read_of_2, 0xbf, 2, 0x8000, UINT64_C(0xffffffffffff8000))

/* An instruction that reads memory and writes it back is an exit for each. */
static void read_modify_write(const struct access *a, uint64_t rax, uint64_t read, uint64_t written,
			      uint64_t want)
{
	struct impost_x86_regs regs;
	struct seen seen;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	prepare(&box, a, HOLE);
	regs = regs_of(&box, box.vcpu);
	regs.rax = rax;
	set_regs(&box, box.vcpu, &regs);
	seen = run_to_access(&box, IMPOST_EXIT_MMIO);
	cr_assert_eq(seen.dir, IMPOST_EXIT_READ);
	cr_assert_eq(seen.size, a->size);
	memcpy(seen.data, &read, a->size);
	seen = run_to_access(&box, IMPOST_EXIT_MMIO);
	cr_assert_eq(seen.dir, IMPOST_EXIT_WRITE);
	cr_assert_eq(seen.size, a->size);
	cr_assert_eq(seen.address, HOLE);
	cr_assert_eq(value_at(seen.data, a->size), written);
	finish(&box, box.vcpu);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + a->bytes);
	cr_assert_eq(regs_of(&box, box.vcpu).rax, want);
	box_close(&box);
}

#define READ_MODIFY_WRITE(name, bytes, rax, read, written, want, length, ...)  \
	Test(exits, name)                                                      \
	{                                                                      \
		static const struct access a = {bytes, {__VA_ARGS__}, length}; \
                                                                               \
		read_modify_write(&a, rax, read, written, want);               \
	}
READ_MODIFY_WRITE(add_to_memory, 4, 5, 0x100, 0x105, 5, 2, 0x01, 0x07)
READ_MODIFY_WRITE(or_to_memory, 1, 0x0f, 0xf0, 0xff, 0x0f, 2, 0x08, 0x07)
READ_MODIFY_WRITE(not_of_memory, 2, 9, 0x00ff, 0xff00, 9, 3, 0x66, 0xf7, 0x17)
READ_MODIFY_WRITE(exchange_with_memory, 8, 0x1122334455667788, 0x99, 0x1122334455667788, 0x99, 3,
		  0x48, 0x87, 0x07)

/* An access across a border of pages is two exits, of which complete hands out the second. */
static void access_across_pages(const struct access *a, uint32_t dir, uint32_t before)
{
	const uint64_t gpa = HOLE + 0x1000 - before, answer = random64();
	struct impost_exit exit;
	uint64_t rax, sent = 0;
	uint32_t done = 0;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	rax = prepare(&box, a, gpa);
	run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
	while (exit.kind == IMPOST_EXIT_MMIO) {
		cr_assert_eq(exit.u.mmio.gpa, gpa + done);
		cr_assert_eq(exit.u.mmio.dir, dir);
		cr_assert_leq(done + exit.u.mmio.size, a->size);
		if (dir == IMPOST_EXIT_READ)
			memcpy(exit.u.mmio.data, (const uint8_t *)&answer + done, exit.u.mmio.size);
		else
			memcpy((uint8_t *)&sent + done, exit.u.mmio.data, exit.u.mmio.size);
		done += exit.u.mmio.size;
		OK(&box, impost_vcpu_complete(box.vcpu, &exit));
	}
	cr_assert_eq(exit.kind, IMPOST_EXIT_NONE);
	cr_assert_eq(done, a->size);
	if (dir == IMPOST_EXIT_READ)
		rax = merged(rax, answer, a->size);
	else
		cr_assert_eq(sent, low(rax, a->size));
	cr_assert_eq(regs_of(&box, box.vcpu).rax, rax);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + a->bytes);
	box_close(&box);
}

#define ACROSS(name, dir, bytes, before, length, ...)                          \
	Test(exits, name)                                                      \
	{                                                                      \
		static const struct access a = {bytes, {__VA_ARGS__}, length}; \
                                                                               \
		access_across_pages(&a, IMPOST_EXIT_##dir, before);            \
	}
ACROSS(read_of_2_across_pages, READ, 2, 1, 3, 0x66, 0x8b, 0x07)
ACROSS(read_of_4_across_pages, READ, 4, 3, 2, 0x8b, 0x07)
ACROSS(read_of_8_across_pages, READ, 8, 4, 3, 0x48, 0x8b, 0x07)
ACROSS(write_of_2_across_pages, WRITE, 2, 1, 3, 0x66, 0x89, 0x07)
ACROSS(write_of_4_across_pages, WRITE, 4, 3, 2, 0x89, 0x07)
ACROSS(write_of_8_across_pages, WRITE, 8, 4, 3, 0x48, 0x89, 0x07)

#define STRING_BYTES 0x9000u
#define STRING_COUNT 145u

static void begin_string(struct box *box, const struct access *a, uint8_t *sent, size_t bytes)
{
	struct impost_x86_regs regs;

	box_open(box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(box, IMPOST_CAP_EXECUTES);
	for (size_t i = 0; i < bytes; i++)
		sent[i] = (uint8_t)random64();
	enter_real(box, box->vcpu, GUEST(0xf4));
	prepare(box, a, PORT);
	regs = regs_of(box, box->vcpu);
	regs.rcx = STRING_COUNT;
	regs.rsi = regs.rdi = STRING_BYTES;
	set_regs(box, box->vcpu, &regs);
}

/* REP OUTS: all bytes come, in order, in as few exits as the backend likes. */
static void string_output(const struct access *a)
{
	uint8_t sent[4 * STRING_COUNT], got[4 * STRING_COUNT];
	const uint32_t bytes = STRING_COUNT * a->size;
	struct impost_x86_regs regs;
	uint32_t n = 0;
	struct box box;

	begin_string(&box, a, sent, sizeof(sent));
	OK(&box, impost_memory_write(box.memory, STRING_BYTES, sent, sizeof(sent)));
	while (n < bytes) {
		struct seen seen = run_to_access(&box, IMPOST_EXIT_IO);

		cr_assert_eq(seen.address, PORT);
		cr_assert_eq(seen.size, a->size);
		cr_assert_eq(seen.dir, IMPOST_EXIT_WRITE);
		cr_assert_geq(seen.count, 1u);
		cr_assert_leq(n + seen.count * a->size, bytes);
		memcpy(got + n, seen.data, seen.count * a->size);
		n += seen.count * a->size;
	}
	finish(&box, box.vcpu);
	cr_assert_arr_eq(got, sent, bytes);
	regs = regs_of(&box, box.vcpu);
	cr_assert_eq(regs.rcx, 0u);
	cr_assert_eq(regs.rsi, STRING_BYTES + bytes);
	box_close(&box);
}

/* REP INS: what the host gives for each access lies in memory behind the last. */
static void string_input(const struct access *a)
{
	uint8_t sent[4 * STRING_COUNT], got[4 * STRING_COUNT];
	const uint32_t bytes = STRING_COUNT * a->size;
	uint32_t n = 0;
	struct box box;

	begin_string(&box, a, sent, sizeof(sent));
	while (n < bytes) {
		struct seen seen = run_to_access(&box, IMPOST_EXIT_IO);

		cr_assert_eq(seen.size, a->size);
		cr_assert_eq(seen.dir, IMPOST_EXIT_READ);
		cr_assert_leq(n + seen.count * a->size, bytes);
		memcpy(seen.data, sent + n, seen.count * a->size);
		n += seen.count * a->size;
	}
	finish(&box, box.vcpu);
	OK(&box, impost_memory_read(box.memory, STRING_BYTES, got, bytes));
	cr_assert_arr_eq(got, sent, bytes);
	cr_assert_eq(regs_of(&box, box.vcpu).rdi, STRING_BYTES + bytes);
	box_close(&box);
}

#define STRING(name, function, bytes, length, ...)                             \
	Test(exits, name)                                                      \
	{                                                                      \
		static const struct access a = {bytes, {__VA_ARGS__}, length}; \
                                                                               \
		function(&a);                                                  \
	}
STRING(string_output_of_1, string_output, 1, 2, 0xf3, 0x6e)
STRING(string_output_of_2, string_output, 2, 2, 0xf3, 0x6f)
STRING(string_output_of_4, string_output, 4, 3, 0x66, 0xf3, 0x6f)
STRING(string_input_of_1, string_input, 1, 2, 0xf3, 0x6c)
STRING(string_input_of_2, string_input, 2, 2, 0xf3, 0x6d)
STRING(string_input_of_4, string_input, 4, 3, 0x66, 0xf3, 0x6d)

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

/* That an answer is awaited is told before anything else is looked at. */
Test(exits, pending_comes_before_room)
{
	struct impost_x86_regs regs = {.size = 77};
	struct impost_exit exit;
	uint32_t size = 77;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_COMPLETE);
	enter_real(&box, box.vcpu, GUEST(0xec, 0xf4));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	for (uint32_t room = 0; room <= sizeof(regs); room += 8) {
		REFUSED(&box, EBUSY,
			impost_vcpu_get(box.vcpu, IMPOST_SECTION_REGS, &regs, room, &size));
		cr_assert_eq(size, 77u);
		cr_assert_eq(regs.size, 77u);
	}
	memset(exit.u.io.data, 1, 1);
	finish(&box, box.vcpu);
	REFUSED(&box, ENOSPC, impost_vcpu_get(box.vcpu, IMPOST_SECTION_REGS, &regs, 0, &size));
	cr_assert_eq(size, sizeof(regs));
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
