/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a state into a VM of the same shape: all steps, and what was before if one fails. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "state_steps.h"
#include "text.h"
#include "vm.h"

/* --- the shape --- */

static int check_irqchip(const struct state_work *work, const struct state_machine *m)
{
	static const char *const names[] = {"default", "none", "lapic", "full"};
	uint32_t have = impost_vm_irqchip(work->vm);

	return have == m->irqchip
		       ? 0
		       : impost_error_set(
				 work->ctx, -EINVAL,
				 "the state is of a VM with irqchip %s, and this one has %s",
				 names[m->irqchip], names[have]);
}

static int check_vcpus(const struct state_work *work, const struct state_machine *m)
{
	for (uint32_t i = 0; i < m->nvcpus; i++)
		if (!work->vcpus[i] || impost_vcpu_id(work->vcpus[i]) != m->vcpus[i])
			return impost_error_set(work->ctx, -EINVAL,
						"the state has vCPU %u, and the VM has not: create "
						"the vCPUs of the state, and no others",
						m->vcpus[i]);
	if (work->vcpus[m->nvcpus])
		return impost_error_set(work->ctx, -EINVAL,
					"the VM has vCPU %u, and the state has not: create the "
					"vCPUs of the state, and no others",
					impost_vcpu_id(work->vcpus[m->nvcpus]));
	return 0;
}

static int wrong_region(const struct state_work *work, uint64_t gpa)
{
	return impost_error_set(work->ctx, -EINVAL,
				"the VM's memory is not that of the state: its regions differ at "
				"0x%" PRIx64,
				gpa);
}

static int check_regions(const struct state_work *work, const struct state_machine *m)
{
	struct impost_memory *memory = impost_vm_memory(work->vm);
	struct impost_region have = {.size = sizeof(have)};

	for (uint32_t i = 0; i < m->nregions; i++) {
		const struct impost_state_region *want = &m->regions[i];

		if (impost_memory_get(memory, i, &have) != 0 || have.gpa != want->gpa ||
		    have.bytes != want->bytes ||
		    (have.flags & IMPOST_REGION_READONLY) != want->flags)
			return wrong_region(work, want->gpa);
	}
	return impost_memory_get(memory, m->nregions, &have) == 0 ? wrong_region(work, have.gpa)
								  : 0;
}

static int check_shape(const struct state_work *work)
{
	const struct state_machine *m = &work->parts->machine;
	int err = check_irqchip(work, m);

	if (!err)
		err = check_vcpus(work, m);
	return err ? err : check_regions(work, m);
}

/* --- steps --- */

/* Routes that no host has set are the hypervisor's own. */
int load_routes(struct state_work *work, uint32_t i)
{
	const struct state_machine *m = &work->parts->machine;

	(void)i;
	return m->nroutes ? impost_vm_set_gsi_routes(work->vm, m->routes, m->nroutes) : 0;
}

int load_devices(struct state_work *work, uint32_t i)
{
	(void)i;
	return work->devices ? devices_apply(work->devices) : 0;
}

/* --- the whole --- */

/* "device.NAME.INSTANCE", as the state has judged it; NAME is cut out of SECTION. */
static struct device_record device_record(char *section, const struct state_section *s)
{
	char *dot;

	memcpy(section, s->name, sizeof(s->name));
	dot = strrchr(section, '.');
	*dot = '\0';
	return (struct device_record){
		.name = section + strlen("device."),
		.instance = (uint32_t)strtoul(dot + 1, NULL, 10),
		.data = s->data,
		.len = s->len,
	};
}

/* Decodes the records of all devices, before anything is touched. */
static int prepare_devices(struct state_work *work, const struct impost_state *state)
{
	char(*names)[IMPOST_STATE_NAME_MAX] = calloc((size_t)state->count + 1, sizeof(*names));
	struct device_record *records = calloc((size_t)state->count + 1, sizeof(*records));
	uint32_t count = 0;
	int err;

	for (uint32_t i = 0; names && records && i < state->count; i++)
		if (state->sections[i].kind == STATE_DEVICE) {
			records[count] = device_record(names[count], &state->sections[i]);
			count++;
		}
	if (names && records)
		err = devices_prepare(work->vm, records, count, &work->devices);
	else
		err = impost_error_set(work->ctx, -ENOMEM, "no memory for a VM's state");
	free(names);
	free(records);
	return err;
}

/* Gathers what STATE has decoded; it stays the state's. */
static int gather(const struct impost_state *state, struct state_parts *parts)
{
	int err = state_whole(state);

	if (err)
		return err;
	parts->machine = *state_machine(state);
	parts->vm = *(const struct state_vm *)state_section(state, STATE_VM, 0)->decoded;
	parts->vcpus = calloc((size_t)parts->machine.nvcpus + 1, sizeof(*parts->vcpus));
	if (!parts->vcpus)
		return impost_error_set(state->ctx, -ENOMEM, "no memory for a VM's state");
	for (uint32_t i = 0; i < parts->machine.nvcpus; i++)
		parts->vcpus[i] = *(const struct state_vcpu *)state_section(state, STATE_VCPU,
									    parts->machine.vcpus[i])
					   ->decoded;
	return 0;
}

/* Puts back what was before a load that failed with ERR, whose text stays. What a backend does not
 * take back is past help. */
static int put_back(struct state_work *work, struct state_parts *before, int err)
{
	char reason[1024];

	snprintf(reason, sizeof(reason), "%s", impost_error(work->ctx));
	work->parts = before;
	work->devices = NULL;
	state_put_back(work);
	return impost_error_set(work->ctx, err, "%s", reason);
}

/* Reading what was before takes as long as loading does. */
static int load_or_put_back(struct state_work *work)
{
	struct state_parts before = {.vcpus = NULL};
	int err = state_take_parts(work->vm, &before, NULL);

	if (!err) {
		err = state_run_steps(work, true);
		if (err)
			err = put_back(work, &before, err);
	}
	state_parts_free(&before);
	return err;
}

static int load_and_end(struct state_work *work, bool fresh)
{
	struct devices_load *devices = work->devices;
	int err = fresh ? state_run_steps(work, true) : load_or_put_back(work);

	devices_end(devices);
	return err;
}

static int load(const struct impost_state *state, struct impost_vm *vm, bool fresh)
{
	struct state_parts parts = {.vcpus = NULL};
	struct state_work work = {.ctx = NULL};
	int err = vm_check(vm);

	if (!err && !state)
		err = impost_error_set(vm->ctx, -EINVAL, "impost_state_load: state is NULL");
	if (!err)
		err = gather(state, &parts);
	if (!err)
		err = state_work_begin(&work, vm, &parts);
	if (!err)
		err = check_shape(&work);
	if (!err)
		err = prepare_devices(&work, state);
	if (!err)
		err = load_and_end(&work, fresh);
	state_work_end(&work);
	free(parts.vcpus);
	return err;
}

int impost_state_load(const struct impost_state *state, struct impost_vm *vm)
{
	return load(state, vm, false);
}

int state_load_fresh(const struct impost_state *state, struct impost_vm *vm)
{
	return load(state, vm, true);
}
