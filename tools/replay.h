/* SPDX-License-Identifier: Apache-2.0 */
/* A run whose hypervisor is a cassette. */
#ifndef TOOLS_REPLAY_H
#define TOOLS_REPLAY_H

#include "machine.h"
#include "tool.h"

struct replay {
	const char *path; /* of the cassette; NULL: it is no replay */
	bool has_id;
	uint8_t id[IMPOST_X86_VMGENID_BYTES];
};

/*
 * Makes INVOCATION's context one that replays the cassette that it names: backend and machine, but
 * for what the command line says. Returns STATUS_OK or another, with a message printed.
 */
int replay_open(const struct invocation *invocation, struct replay *replay);

/* The last of booting: what was random in the recorded guest's memory is as it was. */
int replay_finish_boot(const struct replay *replay, struct machine *machine);

/* Whether ERR is a host's that does otherwise than recorded. */
static inline bool replay_differs(const struct replay *replay, int err)
{
	return replay->path && err == -IMPOST_EDIVERGED;
}

/*
 * Tells whether all of the cassette was played, after MACHINE has stopped; its vCPUs are destroyed.
 * Returns STATUS_OK or another.
 */
int replay_judge(const struct replay *replay, struct machine *machine);

#endif
