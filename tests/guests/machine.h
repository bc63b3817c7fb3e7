/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that is moved at random instants, and what it must have said and left at its end: that
 * of a run which nobody disturbed. Its vCPU is run by a thread; its memory is that of keep.c.
 */
#ifndef IMPOST_TESTS_GUESTS_MACHINE_H
#define IMPOST_TESTS_GUESTS_MACHINE_H

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/impost.h>

#define MACHINE_MEMORY (UINT64_C(8) << 20)
#define MACHINE_LOG    65536

/* Of guest memory, what depends on time: see keep.c. */
#define MACHINE_SCRATCH	    0x3fe000u
#define MACHINE_SCRATCH_END 0x400000u

struct machine {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
	pthread_t thread;
	bool running;
	int left_with;		  /* what the loop of the thread that was joined returned */
	char output[MACHINE_LOG]; /* on the serial port, of all that the guest was */
	size_t said;
	atomic_ulong exits; /* since machine_run_for() began, if it ever did */
	atomic_bool stop;
	atomic_bool ended; /* by the guest itself */
};

/* What a run leaves. */
struct outcome {
	char output[MACHINE_LOG];
	uint8_t memory[MACHINE_MEMORY];
	unsigned long exits;
};

#define OK(m, call) cr_assert_eq((call), 0, #call ": %s", impost_error((m)->ctx))

/* --- random instants --- */

/* How many, and of which random numbers: IMPOST_INSTANTS and IMPOST_SEED in the environment. */
unsigned long instants_wanted(unsigned long otherwise);
void seed_from_environment(void);
uint64_t seed_now(void);
unsigned long draw(unsigned long limit); /* below LIMIT */
void nap(long ns);

/* --- the machine --- */

void machine_open(struct machine *m, const char *backend, const char *script);
void machine_close(struct machine *m); /* with its VM */
void machine_boot(struct machine *m, const char *cmdline);
void machine_destroy_vm(struct machine *m);

/* The thread that runs the vCPU. It ends when the guest has come to its end, after a kick when
 * `stop` is set, or when the vCPU cannot be run any more. */
void machine_start(struct machine *m);
void machine_join(struct machine *m);

/* Lets the guest run for about EXITS exits and a bit, by its thread, which is started if there is
 * none. Says whether it lives. */
bool machine_run_for(struct machine *m, unsigned long exits);

/* --- outcomes --- */

void outcome_take(struct machine *m, struct outcome *outcome);
void outcome_expect(const struct outcome *got, const struct outcome *want, const char *how);

/* A guest that is left alone, twice: but for MACHINE_SCRATCH nothing depends on when. */
void outcome_learn(const char *backend, const char *script, const char *cmdline,
		   struct outcome *outcome);

/* --- backends --- */

/* Skips the test, saying why, where BACKEND cannot run. */
void need_backend(const char *backend);

/* Makes a script for the mock: rounds, each with its own number in memory, in a register and on the
 * serial port. PATH is a template as for mkstemp(). */
void write_rounds(char *path);

#endif
