/* SPDX-License-Identifier: Apache-2.0 */
/* `impost run --restore`: a run that begins where a snapshot was taken. */
#ifndef TOOLS_RESTORE_H
#define TOOLS_RESTORE_H

#include <stdbool.h>

#include "machine.h"
#include "saving.h"
#include "tool.h"

/*
 * Checks the options, and opens the snapshot and, where memory is mapped from it, SAVING's sources;
 * *RET_SNAPSHOT is NULL when none is asked for. Returns STATUS_OK or another status, with a message
 * printed.
 */
int restore_open(const struct invocation *invocation, struct saving *saving,
		 struct impost_snapshot **ret_snapshot);

/*
 * Refuses, of what the command line gives, what a guest that is made already has settled: BY, an
 * option, brings it, and WHO is what it is called. COPIES: its memory is copied, so that what it is
 * made of can be chosen. Returns STATUS_OK, or STATUS_USAGE with a message printed.
 */
int restore_refuse_settled(const struct invocation *invocation, const char *by, const char *who,
			   bool copies);

/* Makes the VM, its memory and vCPUs. Returns 0 or a negative error with its text on the context.
 * machine_destroy() follows in both cases. */
int restore_machine(const struct invocation *invocation, struct impost_snapshot *snapshot,
		    struct machine *machine);

#endif
