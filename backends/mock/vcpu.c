/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU: life, kicks, time, and the small operations. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Async-signal-safe. Keeps errno, which a signal handler must not change. */
void mock_vcpu_wake(struct mock_vcpu *v)
{
	static const uint64_t one = 1;
	int saved = errno;

	(void)!write(v->wake_fd, &one, sizeof(one));
	errno = saved;
}

static int32_t kick(void *handle)
{
	struct mock_vcpu *v = handle;

	atomic_store(&v->kicked, true);
	mock_vcpu_wake(v);
	return 0;
}

void mock_vcpu_interrupt(struct mock_vcpu *v)
{
	atomic_store(&v->irq_pending, true);
	mock_vcpu_wake(v);
}

static void free_vcpu(struct mock_vcpu *v)
{
	if (v->wake_fd >= 0)
		close(v->wake_fd);
	free(v->cpuid);
	free(v->opaque);
	free(v);
}

static void destroy(void *handle)
{
	struct mock_vcpu *v = handle;
	struct mock_vm *vm = v->vm;
	struct mock_vcpu **link;

	pthread_mutex_lock(&vm->lock);
	for (link = &vm->vcpus; *link; link = &(*link)->next)
		if (*link == v) {
			*link = v->next;
			vm->nvcpus--;
			break;
		}
	pthread_mutex_unlock(&vm->lock);
	free_vcpu(v);
}

/* Puts V among the VM's vCPUs. The lock is held. */
static int32_t join_vm(struct mock_vm *vm, struct mock_vcpu *v)
{
	const struct mock_vcpu *other;

	for (other = vm->vcpus; other; other = other->next)
		if (other->id == v->id)
			return mock_error(vm, -EEXIST, "vCPU %u exists already", v->id);
	if (vm->nvcpus == vm->max_vcpus)
		return mock_error(vm, -ENOSPC, "the VM was made for %u vCPUs", vm->max_vcpus);
	v->next = vm->vcpus;
	vm->vcpus = v;
	vm->nvcpus++;
	return 0;
}

static int32_t prepare(struct mock_vcpu *v)
{
	int32_t err = mock_vm_tape(v->vm, v->id, &v->tape);

	if (err)
		return err;
	v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->wake_fd < 0)
		return mock_error(v->vm, -errno, "eventfd: %s", strerror(errno));
	mock_reset_vcpu(v);
	v->tsc_ns = atomic_load(&v->vm->clock_ns);
	return mock_cpuid_default(v);
}

int32_t mock_vcpu_create(void *handle, uint32_t id, void **ret_vcpu)
{
	struct mock_vm *vm = handle;
	struct mock_vcpu *v;
	int32_t err;

	if (id > MOCK_MAX_VCPU_ID)
		return mock_error(vm, -EINVAL, "vCPU %u: ids end at %u", id, MOCK_MAX_VCPU_ID);
	v = aligned_alloc(_Alignof(struct mock_vcpu), sizeof(*v));
	if (!v)
		return mock_error(vm, -ENOMEM, "out of memory");
	memset(v, 0, sizeof(*v));
	v->ops = &mock_own_vcpu_ops;
	v->vm = vm;
	v->id = id;
	v->wake_fd = -1;
	v->vector = MOCK_NO_VECTOR;
	err = prepare(v);
	if (!err) {
		pthread_mutex_lock(&vm->lock);
		err = join_vm(vm, v);
		pthread_mutex_unlock(&vm->lock);
	}
	if (err)
		free_vcpu(v);
	else
		*ret_vcpu = v;
	return err;
}

/* --- time: ticks since tsc_ns on the mock's clock --- */

static uint64_t ticks(uint64_t ns, uint32_t khz)
{
	return (uint64_t)((unsigned __int128)ns * khz / 1000000);
}

uint64_t mock_vcpu_tsc(const struct mock_vcpu *v)
{
	return v->tsc_base + ticks(atomic_load(&v->vm->clock_ns) - v->tsc_ns, v->tsc_khz);
}

void mock_vcpu_set_tsc(struct mock_vcpu *v, uint64_t value)
{
	v->tsc_ns = atomic_load(&v->vm->clock_ns);
	v->tsc_base = value;
}

/* --- interrupts and debugging --- */

static int32_t nmi(void *handle)
{
	struct mock_vcpu *v = handle;
	struct impost_mock_irq irq = {.kind = IMPOST_MOCK_IRQ_NMI, .vcpu = v->id};
	int32_t err = mock_irq_log(v->vm, &irq);

	if (err)
		return mock_error(v->vm, err, "the interrupt log is full");
	v->events.nmi.pending = 1;
	/* A halt that is still to come ends, too; one that has begun, when the NMI is delivered. */
	if (v->runstate.state == IMPOST_X86_RUNNING && !v->events.nmi.masked)
		mock_vcpu_interrupt(v);
	return 0;
}

/* The vector waits until the guest can take it, as KVM's does. */
static int32_t irq_inject(void *handle, uint32_t vector)
{
	struct mock_vcpu *v = handle;
	struct impost_mock_irq irq = {
		.kind = IMPOST_MOCK_IRQ_INJECT, .vcpu = v->id, .data = vector};
	int32_t err;

	if (v->vm->irqchip != IMPOST_IRQCHIP_NONE)
		return mock_error(v->vm, -ENOTSUP,
				  "vector %u: the host injects in a VM without an irqchip only",
				  vector);
	if (vector > 0xff)
		return mock_error(v->vm, -EINVAL, "vector %u: they are 0 to 255", vector);
	if (v->vector != MOCK_NO_VECTOR)
		return mock_error(v->vm, -EBUSY, "vector %u: vector %d waits already", vector,
				  v->vector);
	err = mock_irq_log(v->vm, &irq);
	if (err)
		return mock_error(v->vm, err, "the interrupt log is full");
	v->vector = (int32_t)vector;
	return 0;
}

static int32_t irq_window(void *handle, uint32_t on)
{
	((struct mock_vcpu *)handle)->irq_window = on;
	return 0;
}

static int32_t guest_debug(void *handle, const struct impost_guest_debug *debug)
{
	struct mock_vcpu *v = handle;
	uint32_t known = IMPOST_DEBUG_SINGLE_STEP | IMPOST_DEBUG_SW_BREAK | IMPOST_DEBUG_HW_BREAK;

	if (debug->flags & ~known)
		return mock_error(v->vm, -EINVAL, "guest_debug: unknown flags %#x",
				  debug->flags & ~known);
	v->debug = *debug;
	return 0;
}

const struct impost_vcpu_ops mock_own_vcpu_ops = {
	.size = sizeof(mock_own_vcpu_ops),
	.destroy = destroy,
	.run = mock_run,
	.complete = mock_complete,
	.kick = kick,
	.nmi = nmi,
	.irq_inject = irq_inject,
	.irq_window = irq_window,
	.guest_debug = guest_debug,
	.translate = mock_translate,
	.state_get = mock_state_get,
	.state_set = mock_state_set,
	.msrs_get = mock_msrs_get,
	.msrs_set = mock_msrs_set,
	.cpuid_set = mock_cpuid_set,
	.cpuid_get = mock_cpuid_get,
};
