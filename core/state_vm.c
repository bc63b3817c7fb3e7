/* SPDX-License-Identifier: Apache-2.0 */
/* A VM made from what a state says of it. */
#include "state_vm.h"

#include <stdio.h>

#include <impost/vcpu.h>

#include "state.h"
#include "text.h"

/* What is kept free, for how many more there are. */
#define MORE_ROOM 32u

void hindrances_add(void *opaque, const char *kind, const char *name, const char *reason)
{
	struct hindrances *all = opaque;
	size_t room = all->room - MORE_ROOM - all->len;
	int len;

	if (all->more > 0) {
		all->more++;
		return;
	}
	len = snprintf(all->text + all->len, room, "%s%s %s: %s", all->len ? all->between : "",
		       kind, name, reason);
	if (len > 0 && (size_t)len < room) {
		all->len += (size_t)len;
	} else if (all->len > 0) {
		all->text[all->len] = '\0';
		all->more = 1;
	} else if (len > 0) {
		all->len = room - 1;
	}
}

void hindrances_end(struct hindrances *all)
{
	if (all->more > 0)
		snprintf(all->text + all->len, all->room - all->len, "%sand %u more", all->between,
			 all->more);
}

int state_vm_configure(const struct impost_state *state, const struct impost_vm_config *given,
		       const char *backend, struct impost_vm_config *ret_config)
{
	struct impost_vm_config config;
	int err = impost_vm_config_init(state->ctx, &config);

	if (!err && given)
		err = abi_take(state->ctx, "impost_vm_config", &config, sizeof(config), given,
			       ABI_UP_TO(struct impost_vm_config, backend));
	if (!err)
		err = impost_state_config(state, &config);
	if (err)
		return err;
	if (backend)
		config.backend = backend;
	*ret_config = config;
	return 0;
}

int state_vm_add_vcpus(const struct impost_state *state, struct impost_vm *vm)
{
	const struct state_machine *machine = state_machine(state);
	struct impost_vcpu *vcpu;
	int err = 0;

	for (uint32_t i = 0; !err && i < machine->nvcpus; i++)
		err = impost_vcpu_create(vm, machine->vcpus[i], &vcpu);
	return err;
}

void state_vm_unmake(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;

	while ((vcpu = impost_vm_vcpu(vm, 0)) && impost_vcpu_destroy(vcpu) == 0)
		;
	impost_vm_destroy(vm);
}
