/* SPDX-License-Identifier: Apache-2.0 */
/* What `impost run` tells after a run: why a guest failed, and the numbers of --stats. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include <stdint.h>

#include "machine.h"

/*
 * Tells why the guest failed, with the registers and the code of the vCPU. The machine is stopped.
 */
void report_failure(struct machine *machine);

/*
 * Tells of each file behind the guest's memory that has become shorter, or cannot be read, since:
 * of that no exit and no error of a hypervisor has a word.
 */
void report_lost_memory(struct machine *machine);

/* How long the phases took, in nanoseconds. */
struct report_times {
	uint64_t create;
	uint64_t setup;
	uint64_t run;
};

/* Tells which backend ran, under which layers, and why each other one did not, the times, the
 * exits by kind, and what the layer `trace` has counted. */
void report_stats(const struct machine *machine, const struct report_times *times);

#endif
