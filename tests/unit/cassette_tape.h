/* SPDX-License-Identifier: Apache-2.0 */
/* Cassettes that tests make by hand, call by call. */
#ifndef TESTS_UNIT_CASSETTE_TAPE_H
#define TESTS_UNIT_CASSETTE_TAPE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cassette.h>
#include <impost/impost.h>

#define TAPE_CAP(NAME) (UINT64_C(1) << IMPOST_CAP_##NAME)
#define TAPE_CAPS                                                                                 \
	(TAPE_CAP(EXECUTES) | TAPE_CAP(MEM_HOST) | TAPE_CAP(DIRTY_LOG) | TAPE_CAP(IRQCHIP_NONE) | \
	 TAPE_CAP(IRQCHIP_FULL) | TAPE_CAP(IRQ_LINE) | TAPE_CAP(MSI) | TAPE_CAP(NMI) |            \
	 TAPE_CAP(GSI_ROUTES) | TAPE_CAP(CPUID_PER_VCPU) | TAPE_CAP(MSR_EXITS) |                  \
	 TAPE_CAP(TRANSLATE) | TAPE_CAP(COMPLETE) | TAPE_CAP(XSAVE) | TAPE_CAP(CLOCK) |           \
	 TAPE_CAP(DEBUGREGS) | TAPE_CAP(VM_EVENTS))

struct tape {
	struct cassette_writer *writer;
	struct cassette_values args, results;
	struct cassette_pieces pieces;
	struct impost_exit last; /* of vCPU 0 */
	int err;		 /* the first */
};

static inline void tape_note(struct tape *t, int err)
{
	if (!t->err)
		t->err = err;
}

/* A hypervisor that is not the mock: other limits, other CPUID, another name. */
static inline void tape_open(struct tape *t, const char *path)
{
	static struct impost_x86_cpuid cpuid[] = {{.leaf = 0, .eax = 1}, {.leaf = 1, .ecx = 0x77}};
	static uint32_t msrs[] = {0x10, 0x1234};
	static struct impost_x86_msr features[] = {{.index = 0x10a, .value = 3}};
	const struct cassette_header header = {
		.backend = "kvm",
		.version = "1.0",
		.caps = {.size = sizeof(struct impost_caps),
			 .irqchip = IMPOST_IRQCHIP_FULL,
			 .bits = {TAPE_CAPS},
			 .max_vcpus = 4096,
			 .max_vcpu_id = 5000,
			 .max_slots = 32764,
			 .max_gsis = 64,
			 .max_cpuid = 80,
			 .tsc_khz = 3000000,
			 .phys_bits = 52},
		.cpuid = cpuid,
		.ncpuid = 2,
		.msrs = msrs,
		.nmsrs = 2,
		.feature_msrs = features,
		.nfeature_msrs = 1,
	};

	memset(t, 0, sizeof(*t));
	t->err = cassette_writer_open(path, &header, &t->writer);
}

static inline void tape_close(struct tape *t)
{
	tape_note(t, cassette_writer_close(t->writer));
	cassette_values_free(&t->args);
	cassette_values_free(&t->results);
	cassette_pieces_free(&t->pieces);
}

/* Begins the arguments, or the results. */
static inline struct cassette_values *tape_args(struct tape *t)
{
	cassette_values_begin(&t->args);
	cassette_values_begin(&t->results);
	return &t->args;
}

/* Ends a call of LANE, with the results that were begun. */
static inline void tape_call(struct tape *t, uint32_t lane, enum cassette_op op, int32_t error,
			     const char *text, uint32_t memory)
{
	struct cassette_span args, results;

	tape_note(t, cassette_values_end(&t->args, &args));
	tape_note(t, cassette_values_end(&t->results, &results));
	tape_note(t, cassette_write_call(t->writer, lane, op, args, error, text, results, memory));
}

static inline void tape_vm(struct tape *t, enum cassette_op op)
{
	tape_call(t, CASSETTE_LANE_VM, op, 0, NULL, 0);
}

/* A run of vCPU ID that ended with EXIT; the answer to the exit before is ANSWERED. */
static inline void tape_run(struct tape *t, uint32_t id, const struct impost_exit *answered,
			    const struct impost_exit *exit, uint32_t memory)
{
	cassette_args_run(tape_args(t), answered);
	cassette_results_exit(&t->results, exit);
	tape_call(t, id, CASSETTE_RUN, 0, NULL, memory);
}

static inline void tape_sums(struct tape *t, uint32_t lane, enum cassette_when when,
			     const void *ram, uint64_t bytes)
{
	const struct cassette_memory memory = {.bytes = bytes, .hva = ram};
	struct cassette_sum *sums = NULL;
	size_t count = 0;

	tape_note(t, cassette_sum(&memory, 1, &sums, &count));
	tape_note(t, cassette_write_sums(t->writer, lane, when, sums, count));
	free(sums);
}

/* --- exits --- */

static inline struct impost_exit tape_in(uint16_t port, uint8_t *answer)
{
	return (struct impost_exit){.size = sizeof(struct impost_exit),
				    .kind = IMPOST_EXIT_IO,
				    .u.io = {.port = port, .size = 1, .count = 1, .data = answer}};
}

static inline struct impost_exit tape_out(uint16_t port, uint8_t *data)
{
	struct impost_exit exit = tape_in(port, data);

	exit.u.io.dir = IMPOST_EXIT_WRITE;
	return exit;
}

static inline struct impost_exit tape_plain(uint32_t kind)
{
	return (struct impost_exit){.size = sizeof(struct impost_exit), .kind = kind};
}

static inline struct impost_exit tape_shutdown(void)
{
	struct impost_exit exit = tape_plain(IMPOST_EXIT_SHUTDOWN);

	exit.u.shutdown.reason = IMPOST_SHUTDOWN_GUEST;
	return exit;
}

#endif
