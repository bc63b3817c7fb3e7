/* SPDX-License-Identifier: Apache-2.0 */
/* A VM made from what a state says of it. Calls are 0 or a negative errno, with a text. */
#ifndef CORE_STATE_VM_H
#define CORE_STATE_VM_H

#include <stddef.h>

#include <impost/state.h>
#include <impost/vm.h>

/* What is in the way of a state, as one text in a buffer of the caller's, of ROOM bytes, 100 at
 * least. The first ones that there is room for; it is never cut in the middle of one but the first.
 */
struct hindrances {
	char *text;
	size_t room, len;
	const char *between; /* two of them */
	uint32_t more;	     /* that there is no room for */
};

/* Adds one: an impost_state_mismatch_fn, of which OPAQUE is a struct hindrances. */
void hindrances_add(void *opaque, const char *kind, const char *name, const char *reason);

/* All were added: says how many more there are. */
void hindrances_end(struct hindrances *all);

/* The configuration of the VM that STATE was taken from: for what that says nothing about GIVEN's
 * or, with NULL, as impost_vm_config_init() has it. BACKEND NULL: likewise. */
int state_vm_configure(const struct impost_state *state, const struct impost_vm_config *given,
		       const char *backend, struct impost_vm_config *ret_config);

/* Makes the vCPUs of STATE. */
int state_vm_add_vcpus(const struct impost_state *state, struct impost_vm *vm);

/* Destroys VM and its vCPUs, none of which runs. The error's text stays. */
void state_vm_unmake(struct impost_vm *vm);

#endif
