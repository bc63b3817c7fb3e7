/* SPDX-License-Identifier: Apache-2.0 */
/* Taking the state of a VM: what it is, and then all steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "record.h"
#include "state_steps.h"
#include "text.h"
#include "vm.h"

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for a VM's state");
}

/* --- the work --- */

int state_work_begin(struct state_work *work, struct impost_vm *vm, struct state_parts *parts)
{
	uint32_t count;

	pthread_mutex_lock(&vm->lock);
	count = vm->nvcpus;
	pthread_mutex_unlock(&vm->lock);
	*work = (struct state_work){.ctx = vm->ctx, .vm = vm, .nvcpus = count, .parts = parts};
	work->scratch = malloc(STATE_SCRATCH);
	work->vcpus = calloc((size_t)count + 1, sizeof(struct impost_vcpu *));
	if (!work->scratch || !work->vcpus)
		return no_memory(work->ctx);
	for (uint32_t i = 0; i < count; i++) {
		work->vcpus[i] = impost_vm_vcpu(vm, i);
		if (!work->vcpus[i])
			return impost_error_set(work->ctx, -EBUSY,
						"a vCPU was destroyed while state was reached");
	}
	return 0;
}

void state_work_end(struct state_work *work)
{
	free(work->scratch);
	free(work->vcpus);
}

/* How often a step of OBJECT is done: for each vCPU, if it is one of a vCPU's. */
static uint32_t times(const struct state_work *work, uint32_t object)
{
	return object == STATE_OF_VM ? 1 : work->parts->machine.nvcpus;
}

int state_run_steps(struct state_work *work, bool load)
{
	const struct state_step *order[STATE_STEPS];
	uint32_t count = state_order(load, order);
	int err = 0;

	for (uint32_t i = 0; !err && i < count; i++)
		for (uint32_t k = 0; !err && k < times(work, order[i]->object); k++)
			err = load ? order[i]->load(work, k) : order[i]->take(work, k);
	return err;
}

void state_put_back(struct state_work *work)
{
	const struct state_step *order[STATE_STEPS];
	uint32_t count = state_order(true, order);

	for (uint32_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < times(work, order[i]->object); k++)
			(void)order[i]->load(work, k);
}

/* --- steps --- */

int take_complete(struct state_work *work, uint32_t i)
{
	struct impost_exit exit = {.size = sizeof(exit)};
	int err;

	if (!impost_caps_has(impost_vm_caps(work->vm), IMPOST_CAP_COMPLETE))
		return 0;
	err = impost_vcpu_complete(work->vcpus[i], &exit);
	if (err || exit.kind == IMPOST_EXIT_NONE)
		return err;
	return impost_error_set(work->ctx, -EBUSY,
				"vCPU %u: its instruction needs a further answer of the host: "
				"answer it, and complete it",
				impost_vcpu_id(work->vcpus[i]));
}

int take_routes(struct state_work *work, uint32_t i)
{
	struct state_machine *m = &work->parts->machine;
	struct impost_vm *vm = work->vm;
	int err = 0;

	(void)i;
	pthread_mutex_lock(&vm->lock);
	m->routes = calloc(vm->nroutes + 1, sizeof(*m->routes));
	if (!m->routes)
		err = no_memory(work->ctx);
	else if (vm->nroutes)
		memcpy(m->routes, vm->routes, vm->nroutes * sizeof(*m->routes));
	m->nroutes = err ? 0 : vm->nroutes;
	pthread_mutex_unlock(&vm->lock);
	return err;
}

static int add_device(void *opaque, const char *name, uint32_t instance, const void *data,
		      size_t len)
{
	char section[IMPOST_STATE_NAME_MAX];

	snprintf(section, sizeof(section), "device.%s.%u", name, instance);
	return impost_state_add(opaque, section, data, len);
}

int take_devices(struct state_work *work, uint32_t i)
{
	(void)i;
	return work->into ? devices_save(work->vm, add_device, work->into) : 0;
}

/* --- what the VM is --- */

static int take_regions(struct state_work *work, struct state_machine *m)
{
	struct impost_memory *memory = impost_vm_memory(work->vm);
	struct impost_region r = {.size = sizeof(r)};

	for (; impost_memory_get(memory, m->nregions, &r) == 0; m->nregions++) {
		struct impost_state_region *grown =
			realloc(m->regions, (m->nregions + 1) * sizeof(*grown));

		if (!grown)
			return no_memory(work->ctx);
		m->regions = grown;
		grown[m->nregions] = (struct impost_state_region){
			.gpa = r.gpa,
			.bytes = r.bytes,
			.flags = r.flags & IMPOST_REGION_READONLY,
		};
	}
	return 0;
}

static int take_machine(struct state_work *work)
{
	const struct impost_vm_config *config = impost_vm_config(work->vm);
	struct state_machine *m = &work->parts->machine;

	*m = (struct state_machine){
		.cpus = config->cpus,
		.irqchip = impost_vm_irqchip(work->vm),
		.memory = config->memory,
		.host_tsc_khz = impost_vm_caps(work->vm)->tsc_khz,
	};
	snprintf(m->backend, sizeof(m->backend), "%s", impost_vm_backend(work->vm));
	snprintf(m->library, sizeof(m->library), "%s", impost_version());
	m->vcpus = calloc((size_t)work->nvcpus + 1, sizeof(*m->vcpus));
	work->parts->vcpus = calloc((size_t)work->nvcpus + 1, sizeof(*work->parts->vcpus));
	if (!m->vcpus || !work->parts->vcpus)
		return no_memory(work->ctx);
	for (; m->nvcpus < work->nvcpus; m->nvcpus++) {
		m->vcpus[m->nvcpus] = impost_vcpu_id(work->vcpus[m->nvcpus]);
		work->parts->vcpus[m->nvcpus].id = m->vcpus[m->nvcpus];
	}
	return take_regions(work, m);
}

int state_take_parts(struct impost_vm *vm, struct state_parts *parts, struct impost_state *into)
{
	struct state_work work;
	int err = state_work_begin(&work, vm, parts);

	work.into = into;
	if (!err)
		err = take_machine(&work);
	if (!err)
		err = state_run_steps(&work, false);
	state_work_end(&work);
	return err;
}
