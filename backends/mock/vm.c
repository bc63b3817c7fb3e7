/* SPDX-License-Identifier: Apache-2.0 */
/* The VM: life, pause, events, I/O claims. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mock.h"

static void free_tapes(struct mock_vm *vm)
{
	while (vm->tapes) {
		struct mock_tape *tape = vm->tapes;

		vm->tapes = tape->next;
		mock_steps_free(&tape->steps);
		pthread_mutex_destroy(&tape->lock);
		free(tape);
	}
}

void mock_vm_destroy(struct mock_vm *vm)
{
	mock_play_end(vm);
	mock_eventfd_free(vm);
	mock_mem_free(vm);
	free_tapes(vm);
	while (vm->events) {
		struct mock_event *event = vm->events;

		vm->events = event->next;
		free(event);
	}
	if (vm->event_fd >= 0)
		close(vm->event_fd);
	free(vm->routes);
	free(vm->irqs);
	free(vm->msr_ranges);
	free(vm->cpuid);
	free(vm->opaque);
	pthread_cond_destroy(&vm->left_run);
	pthread_mutex_destroy(&vm->irqfd_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

static void destroy(void *handle)
{
	mock_vm_destroy(handle);
}

/* The tape of vCPU ID, made if it is not there yet. */
int32_t mock_vm_tape(struct mock_vm *vm, uint32_t id, struct mock_tape **ret_tape)
{
	struct mock_tape *tape;
	int32_t err = 0;

	if (id > MOCK_MAX_VCPU_ID)
		return mock_error(vm, -EINVAL, "vCPU %u: ids end at %u", id, MOCK_MAX_VCPU_ID);
	pthread_mutex_lock(&vm->lock);
	for (tape = vm->tapes; tape && tape->id != id; tape = tape->next)
		;
	if (!tape) {
		tape = calloc(1, sizeof(*tape));
		if (tape) {
			tape->id = id;
			pthread_mutex_init(&tape->lock, NULL);
			tape->next = vm->tapes;
			vm->tapes = tape;
		} else {
			err = mock_error(vm, -ENOMEM, "out of memory");
		}
	}
	pthread_mutex_unlock(&vm->lock);
	if (!err)
		*ret_tape = tape;
	return err;
}

/* Each VM plays its backend's script from the start. */
static int32_t copy_script(struct mock_vm *vm, const struct mock_script *script)
{
	uint32_t i, k;

	for (i = 0; script && i < script->count; i++) {
		const struct mock_part *part = &script->part[i];
		struct mock_tape *tape;
		int32_t err = mock_vm_tape(vm, part->id, &tape);

		if (err)
			return err;
		tape->ends = true;
		for (k = 0; k < part->steps.count; k++)
			if (mock_steps_add(&tape->steps, &part->steps.step[k]))
				return mock_error(vm, -ENOMEM, "out of memory");
	}
	return 0;
}

static uint32_t choose_irqchip(uint32_t asked)
{
	return asked == IMPOST_IRQCHIP_DEFAULT ? IMPOST_IRQCHIP_FULL : asked;
}

int32_t mock_vm_create(void *backend, const struct impost_vm_args *args, void **ret_vm)
{
	struct mock_backend *b = backend;
	const struct impost_host *host = args->host;
	struct mock_vm *vm;
	int32_t err;

	if (!b->cassette && (!args->max_vcpus || args->max_vcpus > MOCK_MAX_VCPUS))
		return impost_host_error(host, -EINVAL, "%u vCPUs: the mock has 1 to %u",
					 args->max_vcpus, MOCK_MAX_VCPUS);
	if (args->irqchip > IMPOST_IRQCHIP_FULL)
		return impost_host_error(host, -EINVAL, "irqchip %u is not known", args->irqchip);
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return impost_host_error(host, -ENOMEM, "out of memory");
	vm->ops = &mock_own_vm_ops;
	vm->backend = b;
	vm->host = host;
	vm->max_vcpus = args->max_vcpus;
	vm->irqchip = choose_irqchip(args->irqchip);
	vm->irqfd_epoll = -1;
	vm->irqfd_stop = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->irqfd_lock, NULL);
	pthread_cond_init(&vm->left_run, NULL);
	vm->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->event_fd < 0)
		err = mock_error(vm, -errno, "eventfd: %s", strerror(errno));
	else
		err = copy_script(vm, b->script);
	if (!err)
		err = mock_irq_default_routes(vm);
	if (!err)
		err = mock_cpuid_default_vm(vm);
	if (!err && b->cassette)
		err = mock_play_begin(vm, args);
	if (err) {
		mock_vm_destroy(vm);
		return err;
	}
	mock_reset_vm(vm);
	*ret_vm = vm;
	return 0;
}

/* --- pause --- */

void mock_vm_wake_all(struct mock_vm *vm)
{
	struct mock_vcpu *v;

	pthread_mutex_lock(&vm->lock);
	for (v = vm->vcpus; v; v = v->next)
		mock_vcpu_wake(v);
	pthread_mutex_unlock(&vm->lock);
}

/* Returns when no vCPU is inside run. */
static int32_t vm_pause(void *handle)
{
	struct mock_vm *vm = handle;

	pthread_mutex_lock(&vm->lock);
	atomic_store(&vm->paused, true);
	pthread_mutex_unlock(&vm->lock);
	mock_vm_wake_all(vm);
	pthread_mutex_lock(&vm->lock);
	while (vm->running)
		pthread_cond_wait(&vm->left_run, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static int32_t resume(void *handle)
{
	struct mock_vm *vm = handle;

	atomic_store(&vm->paused, false);
	return 0;
}

/* --- events --- */

static int32_t event(void *handle, struct impost_exit *ret_exit)
{
	struct mock_vm *vm = handle;
	struct mock_event *first;
	uint64_t count;

	pthread_mutex_lock(&vm->lock);
	first = vm->events;
	if (first)
		vm->events = first->next;
	if (first && !vm->events)
		(void)!read(vm->event_fd, &count, sizeof(count));
	pthread_mutex_unlock(&vm->lock);
	if (!first)
		return mock_error(vm, -EAGAIN, "the VM has no event");
	*ret_exit = first->exit;
	free(first);
	return 0;
}

static int32_t event_fd(void *handle, int32_t *ret_fd)
{
	*ret_fd = ((struct mock_vm *)handle)->event_fd;
	return 0;
}

/* --- I/O claims --- */

static int32_t io_claim(void *handle, uint32_t space, uint64_t first, uint64_t last)
{
	struct mock_vm *vm = handle;
	int32_t err = 0;
	uint32_t i;

	if ((space != IMPOST_SPACE_PIO && space != IMPOST_SPACE_MMIO) || first > last ||
	    (space == IMPOST_SPACE_PIO && last > UINT16_MAX))
		return mock_error(vm, -EINVAL, "no range of I/O can be %#llx to %#llx",
				  (unsigned long long)first, (unsigned long long)last);
	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < vm->nclaims; i++)
		if (vm->claims[i].space == space && first <= vm->claims[i].last &&
		    vm->claims[i].first <= last)
			err = -EEXIST;
	if (!err && vm->nclaims == MOCK_MAX_CLAIMS)
		err = -ENOSPC;
	if (!err)
		vm->claims[vm->nclaims++] = (struct mock_claim){space, first, last};
	pthread_mutex_unlock(&vm->lock);
	if (err)
		return mock_error(vm, err, "cannot claim %#llx to %#llx: %s",
				  (unsigned long long)first, (unsigned long long)last,
				  err == -EEXIST ? "part of it is claimed" : "too many claims");
	return 0;
}

static int32_t io_release(void *handle, uint32_t space, uint64_t first, uint64_t last)
{
	struct mock_vm *vm = handle;
	bool found = false;
	uint32_t i;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < vm->nclaims && !found; i++) {
		const struct mock_claim *c = &vm->claims[i];

		found = c->space == space && c->first == first && c->last == last;
		if (found)
			vm->claims[i] = vm->claims[--vm->nclaims];
	}
	pthread_mutex_unlock(&vm->lock);
	if (!found)
		return mock_error(vm, -ENOENT, "%#llx to %#llx is not claimed",
				  (unsigned long long)first, (unsigned long long)last);
	return 0;
}

static const void *extension(void *vm, const char *name, void **ret_handle)
{
	if (strcmp(name, IMPOST_MOCK_CONTROL))
		return NULL;
	*ret_handle = vm;
	return &mock_control;
}

const struct impost_vm_ops mock_own_vm_ops = {
	.size = sizeof(mock_own_vm_ops),
	.destroy = destroy,
	.vcpu_create = mock_vcpu_create,
	.mem_add = mock_mem_add,
	.mem_provide = mock_mem_provide,
	.mem_remove = mock_mem_remove,
	.mark_dirty = mock_mark_dirty,
	.dirty_start = mock_dirty_start,
	.dirty_stop = mock_dirty_stop,
	.dirty_fetch = mock_dirty_fetch,
	.dirty_clear = mock_dirty_clear,
	.pause = vm_pause,
	.resume = resume,
	.event = event,
	.event_fd = event_fd,
	.io_claim = io_claim,
	.io_release = io_release,
	.irq_line = mock_irq_line,
	.msi = mock_msi,
	.gsi_routes = mock_gsi_routes,
	.irqfd = mock_irqfd,
	.ioeventfd = mock_ioeventfd,
	.msr_exits = mock_msr_exits,
	.cpuid_set = mock_vm_cpuid_set,
	.state_get = mock_vm_state_get,
	.state_set = mock_vm_state_set,
	.extension = extension,
};
