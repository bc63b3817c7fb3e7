/* SPDX-License-Identifier: Apache-2.0 */
/* What the host of the cassette fuzz target does, and a cassette of it: both sides of a replay. */
#ifndef TESTS_FUZZ_CASSETTE_SESSION_H
#define TESTS_FUZZ_CASSETTE_SESSION_H

#include <stdlib.h>

#include "../unit/cassette_tape.h"

#define SESSION_RAM  UINT64_C(0x10000)
#define SESSION_RUNS 8u

static const struct impost_vm_args session_vm = {
	.size = sizeof(session_vm), .max_vcpus = 1, .irqchip = IMPOST_IRQCHIP_FULL};

static inline struct impost_slot session_slot(void *ram)
{
	return (struct impost_slot){
		.size = sizeof(struct impost_slot), .bytes = SESSION_RAM, .hva = ram, .fd = -1};
}

/* The exit of run I; reads are answered by zeroes. */
static inline struct impost_exit session_exit(uint32_t i, uint64_t zeroes[2])
{
	struct impost_exit exit = tape_in(0x60, (uint8_t *)zeroes);

	switch (i) {
	case 1:
		exit.u.io.dir = IMPOST_EXIT_WRITE;
		break;
	case 2:
		exit.kind = IMPOST_EXIT_MMIO;
		exit.u.mmio = (struct impost_exit_mmio){
			.gpa = 0xd0000000, .size = 8, .count = 1, .data = zeroes};
		break;
	case 3:
		exit.kind = IMPOST_EXIT_RDMSR;
		exit.u.msr = (struct impost_exit_msr){
			.index = 0x1b, .value = zeroes, .refused = (uint8_t *)(zeroes + 1)};
		break;
	case 4:
		exit.kind = IMPOST_EXIT_HYPERCALL;
		exit.u.hypercall = (struct impost_exit_hypercall){.number = 5, .result = zeroes};
		break;
	case 5:
		exit = tape_plain(IMPOST_EXIT_INTR);
		break;
	case 6:
		exit.kind = IMPOST_EXIT_OTHER;
		exit.u.other = (struct impost_exit_other){
			.number = 9, .name = "ODD", .payload = zeroes, .payload_size = 16};
		break;
	default:
		if (i)
			exit = tape_shutdown();
	}
	return exit;
}

static inline void session_write(struct tape *t, bool memory, bool sums, bool state)
{
	uint64_t zeroes[2] = {0};
	uint8_t *ram = calloc(1, SESSION_RAM);
	struct impost_exit before, exit = tape_plain(IMPOST_EXIT_NONE);
	struct impost_slot slot = session_slot(ram);
	const struct impost_x86_regs regs = {.size = sizeof(regs), .rip = 7};
	const struct impost_x86_msr msr = {.index = 0x10, .value = 3}, asked = {.index = 0x10};

	cassette_write_host(t->writer, "vm", "cpus", "1");
	cassette_args_vm_create(tape_args(t), &session_vm);
	tape_vm(t, CASSETTE_VM_CREATE);
	cassette_args_slot(tape_args(t), &slot);
	tape_vm(t, CASSETTE_MEM_ADD);
	cassette_args_vcpu_create(tape_args(t), 0);
	tape_vm(t, CASSETTE_VCPU_CREATE);
	if (sums)
		tape_sums(t, 0, CASSETTE_BEFORE, ram, SESSION_RAM);
	for (uint32_t i = 0; i < SESSION_RUNS; i++) {
		before = exit;
		exit = session_exit(i, zeroes);
		tape_run(t, 0, &before, &exit, memory && i % 2 == 0);
		if (!memory || i % 2)
			continue;
		cassette_pieces_begin(&t->pieces);
		cassette_pieces_data(&t->pieces, 0x1000 * i + 5, "some bytes", 10);
		cassette_pieces_zero(&t->pieces, 0x8000, 0x2000);
		tape_note(t, cassette_write_memory(t->writer, &t->pieces));
	}
	if (state) {
		cassette_args_state_get(tape_args(t), IMPOST_SECTION_REGS);
		cassette_results_state_get(&t->results, 0, &regs, sizeof(regs));
		tape_call(t, 0, CASSETTE_STATE_GET, 0, NULL, 0);
		cassette_args_msrs_get(tape_args(t), &asked, 1);
		cassette_results_msrs_get(&t->results, &msr, 1);
		tape_call(t, 0, CASSETTE_MSRS_GET, 0, NULL, 0);
		cassette_args_translate(tape_args(t), 0x1234);
		tape_call(t, 0, CASSETTE_TRANSLATE, -EFAULT, "nothing there", 0);
		tape_args(t);
		cassette_results_cpuid_get(&t->results, 0, &(struct impost_x86_cpuid){.leaf = 1},
					   1);
		tape_call(t, 0, CASSETTE_CPUID_GET, 0, NULL, 0);
	}
	tape_args(t);
	tape_call(t, 0, CASSETTE_VCPU_DESTROY, 0, NULL, 0);
	tape_args(t);
	tape_vm(t, CASSETTE_VM_DESTROY);
	free(ram);
}

#endif
