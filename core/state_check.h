/* SPDX-License-Identifier: Apache-2.0 */
/* A pre-flight under way, and how what is in the way is told. */
#ifndef CORE_STATE_CHECK_H
#define CORE_STATE_CHECK_H

#include "record.h"
#include "state.h"

/* Mismatches that are told at the most: a state can be made to have any number. */
#define CHECK_MISMATCHES_MAX 4096

struct check {
	struct impost_context *ctx;
	const struct impost_state *state;
	const struct state_machine *machine;
	const struct state_vm *vm;
	const struct backend *backend;
	const char *name; /* of the backend */
	struct impost_x86_cpuid *cpuid;
	uint32_t ncpuid;
	uint32_t *msrs; /* rising */
	uint32_t nmsrs;
	struct impost_x86_msr *features; /* by rising index: the most that guests have here */
	uint32_t nfeatures;
	uint32_t nfields; /* of CPUID that have a name */
	bool alone; /* no VM of the state follows: to load it would tell the rate of the TSC */
	bool made_vcpu;
	uint32_t new_vcpus_khz; /* of the one that was made; 0: not to be had */
	impost_state_mismatch_fn tell;
	void *opaque;
	char **told; /* "KIND NAME" of each that was told, in order */
	int count;
	int err;
};

/* Tells of one, unless it was told before: the same of several vCPUs is told once. */
void check_mismatch(struct check *c, const char *kind, const char *name, const char *fmt, ...)
	IMPOST_PRINTF(4, 5);

/* Whether no more is to be told: there was an error, or it is too much. */
bool check_is_over(const struct check *c);

/* The order of `msrs`, and of `features`, each of which begins with its index: for qsort() and
 * bsearch(). */
int check_by_number(const void *a, const void *b);

/* CPUID, and MSRs. */
void check_cpuid(struct check *c, const struct state_vcpu *v);
void check_msrs(struct check *c, const struct state_vcpu *v);

#endif
