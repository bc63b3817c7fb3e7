/* SPDX-License-Identifier: Apache-2.0 */
/* What of a machine a cassette must tell, so that `impost replay` can make the same one. */
#ifndef TOOLS_RECORDING_H
#define TOOLS_RECORDING_H

#include "machine.h"

/* A setting that makes the machine. */
struct recording_key {
	const char *section;
	const char *key;
	bool is_path;
};

/* Ends with a row of NULLs. */
extern const struct recording_key recording_keys[];

/* Not a setting: the VM generation id, which is made at random at each boot, in hexadecimal. */
#define RECORDING_BOOT "boot"
#define RECORDING_ID   "generation_id"

/*
 * Where MACHINE is recorded, makes a setting of what its guest would else be given of this CPU: a
 * replay on another machine has to give it the same. Before the guest is set up. Returns 0 or a
 * negative error with its text.
 */
int recording_prepare(const struct machine *machine);

/*
 * Tells the layer `record` over MACHINE's VM, if there is one, what machine it is. The guest is in
 * memory and has not run. Returns 0 or a negative error with its text.
 */
int recording_note(const struct machine *machine);

#endif
