/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU: its life, kicks, events on their way in, and the loop that runs it. */
#include "toy.h"

#include <stdlib.h>

/* Instructions between two looks at what comes from outside; memory cannot change meanwhile. */
#define BATCH 256

static void destroy(void *handle)
{
	struct toy_vcpu *v = handle;

	pthread_mutex_lock(&v->vm->lock);
	v->vm->ids &= ~(UINT64_C(1) << v->id);
	pthread_mutex_unlock(&v->vm->lock);
	free(v);
}

/* Takes ID, or says why not. */
static int32_t take_id(struct toy_vm *vm, uint32_t id)
{
	int32_t err = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->ids >> id & 1)
		err = impost_host_error(vm->host, -EEXIST, "vCPU %u exists already", id);
	else if ((uint32_t)__builtin_popcountll(vm->ids) == vm->max_vcpus)
		err = impost_host_error(vm->host, -ENOSPC, "the VM was made for %u vCPUs",
					vm->max_vcpus);
	else
		vm->ids |= UINT64_C(1) << id;
	pthread_mutex_unlock(&vm->lock);
	return err;
}

int32_t toy_vcpu_create(void *handle, uint32_t id, void **ret_vcpu)
{
	struct toy_vm *vm = handle;
	struct toy_vcpu *v;
	int32_t err;

	if (id >= TOY_VCPUS)
		return impost_host_error(vm->host, -EINVAL, "vCPU %u: ids end at %u", id,
					 TOY_VCPUS - 1);
	v = calloc(1, sizeof(*v));
	if (!v)
		return impost_host_error(vm->host, -ENOMEM, "out of memory");
	err = take_id(vm, id);
	if (err) {
		free(v);
		return err;
	}
	v->vm = vm;
	v->id = id;
	toy_reset(v);
	v->ncpuid = toy_cpuid_default(v->cpuid);
	*ret_vcpu = v;
	return 0;
}

/*
 * The interpreter looks at the flag before each instruction, so no signal is needed. A backend that
 * waits in the kernel sends kick_signal of struct impost_vm_args to the thread that is inside run.
 */
static int32_t kick(void *handle)
{
	struct toy_vcpu *v = handle;

	atomic_store(&v->kicked, true);
	return 0;
}

/* --- exits --- */

enum toy_next toy_exit(struct toy_vcpu *v, uint32_t kind)
{
	memset(&v->exit, 0, sizeof(v->exit));
	v->exit.size = sizeof(v->exit);
	v->exit.kind = kind;
	return TOY_EXIT;
}

/* An honest end: what the toy does not know it does not pass over. */
enum toy_next toy_give_up(struct toy_vcpu *v, const char *why)
{
	v->pending = false;
	toy_exit(v, IMPOST_EXIT_INTERNAL_ERROR);
	v->exit.u.failure.text = why;
	v->exit.u.failure.ninsn = v->ninsn;
	memcpy(v->exit.u.failure.insn, v->insn, v->ninsn);
	return TOY_EXIT;
}

/* --- running --- */

/* Whatever goes wrong while an event is delivered ends the guest: the toy has no double faults. */
static enum toy_next deliver(struct toy_vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	enum toy_next next;

	v->ninsn = v->naccesses = v->at = 0;
	next = toy_deliver(v, vector, has_error, error);
	if (next == TOY_EXIT && v->pending)
		return toy_give_up(v, "the stack or the table of an event is not in memory");
	if (next != TOY_FAULT)
		return next;
	toy_exit(v, IMPOST_EXIT_SHUTDOWN);
	v->exit.u.shutdown.reason = IMPOST_SHUTDOWN_TRIPLE_FAULT;
	return TOY_EXIT;
}

/* The instruction at hand, from its start, with the answers that there are. */
static enum toy_next execute(struct toy_vcpu *v)
{
	enum toy_next next;

	v->at = 0;
	next = toy_execute(v);
	if (next == TOY_EXIT && v->pending)
		return next;
	v->naccesses = 0;
	if (next == TOY_FAULT)
		next = deliver(v, v->fault.vector, v->fault.has_error, v->fault.error);
	return next;
}

/* An event that the guest can take now is delivered. True: *RET_NEXT says what became of it. */
static bool take_event(struct toy_vcpu *v, enum toy_next *ret_next)
{
	struct impost_x86_events *e = &v->events;
	bool open = (v->regs.rflags & RFLAGS_IF) && !e->interrupt.shadow;

	if (e->exception.injected) {
		e->exception.injected = 0;
		*ret_next =
			deliver(v, e->exception.vector, e->exception.has_error, e->exception.error);
	} else if (e->nmi.injected || (e->nmi.pending && !e->nmi.masked)) {
		e->nmi.injected = e->nmi.pending = 0;
		e->nmi.masked = 1; /* until IRET (SDM vol. 3, 6.7.1) */
		*ret_next = deliver(v, 2, false, 0);
	} else if (e->interrupt.injected) {
		e->interrupt.injected = 0;
		*ret_next = deliver(v, e->interrupt.vector, false, 0);
	} else if (e->waiting && open) {
		e->waiting = 0;
		*ret_next = deliver(v, e->waiting_vector, false, 0);
	} else if (v->irq_window && open) {
		*ret_next = toy_exit(v, IMPOST_EXIT_IRQ_WINDOW);
	} else {
		return false;
	}
	return true;
}

static enum toy_next step(struct toy_vcpu *v)
{
	uint8_t shadow = v->events.interrupt.shadow;
	enum toy_next next;

	if (atomic_load(&v->kicked) && atomic_exchange(&v->kicked, false))
		return toy_exit(v, IMPOST_EXIT_INTR);
	if (take_event(v, &next))
		return next;
	next = execute(v);
	if (shadow && !v->pending) /* for one instruction alone (SDM vol. 2, STI) */
		v->events.interrupt.shadow = 0;
	return next;
}

/* The answer to the exit before is taken by doing its instruction again. */
static enum toy_next finish(struct toy_vcpu *v)
{
	uint8_t shadow = v->events.interrupt.shadow;
	enum toy_next next;

	if (!v->pending)
		return TOY_GO_ON;
	v->pending = false;
	v->naccesses++;
	next = execute(v);
	if (shadow && !v->pending)
		v->events.interrupt.shadow = 0;
	return next;
}

/* Whether a signal waits that ends run: one that the thread does not block. */
static bool signal_waits(const sigset_t *mask)
{
	sigset_t pending;

	sigpending(&pending);
	for (int number = 1; number < NSIG; number++)
		if (sigismember(&pending, number) == 1 && sigismember(mask, number) == 0)
			return true;
	return false;
}

/*
 * The thread's signals wait while the guest runs, so that none is taken unseen; their handlers run
 * when the mask is what it was. Those that an instruction of our own could raise are let through.
 */
static void block_signals(sigset_t *ret_mask)
{
	static const int ours[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	sigset_t all;

	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		sigdelset(&all, ours[i]);
	pthread_sigmask(SIG_BLOCK, &all, ret_mask);
}

static int32_t run(void *handle, struct impost_exit *ret_exit)
{
	struct toy_vcpu *v = handle;
	enum toy_next next;
	sigset_t mask;

	block_signals(&mask);
	v->has_run = true;
	pthread_rwlock_rdlock(&v->vm->slots_lock);
	next = finish(v);
	while (next == TOY_GO_ON) {
		for (int n = 0; n < BATCH && next == TOY_GO_ON; n++)
			next = step(v);
		pthread_rwlock_unlock(&v->vm->slots_lock);
		if (next == TOY_GO_ON && signal_waits(&mask))
			next = toy_exit(v, IMPOST_EXIT_INTR);
		pthread_rwlock_rdlock(&v->vm->slots_lock);
	}
	pthread_rwlock_unlock(&v->vm->slots_lock);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	*ret_exit = v->exit;
	return 0;
}

static int32_t complete(void *handle, struct impost_exit *ret_exit)
{
	struct toy_vcpu *v = handle;

	pthread_rwlock_rdlock(&v->vm->slots_lock);
	if (finish(v) == TOY_GO_ON)
		toy_exit(v, IMPOST_EXIT_NONE);
	pthread_rwlock_unlock(&v->vm->slots_lock);
	*ret_exit = v->exit;
	return 0;
}

/* --- events --- */

static int32_t nmi(void *handle)
{
	struct toy_vcpu *v = handle;

	v->events.nmi.pending = 1;
	return 0;
}

static int32_t irq_inject(void *handle, uint32_t vector)
{
	struct toy_vcpu *v = handle;

	if (vector > 0xff)
		return impost_host_error(v->vm->host, -EINVAL, "vector %u: they are 0 to 255",
					 vector);
	if (v->events.waiting)
		return impost_host_error(v->vm->host, -EBUSY, "vector %u: vector %u waits already",
					 vector, v->events.waiting_vector);
	v->events.waiting = 1;
	v->events.waiting_vector = (uint8_t)vector;
	return 0;
}

static int32_t irq_window(void *handle, uint32_t on)
{
	struct toy_vcpu *v = handle;

	v->irq_window = on;
	return 0;
}

const struct impost_vcpu_ops toy_vcpu_ops = {
	.size = sizeof(toy_vcpu_ops),
	.destroy = destroy,
	.run = run,
	.complete = complete,
	.kick = kick,
	.nmi = nmi,
	.irq_inject = irq_inject,
	.irq_window = irq_window,
	.translate = toy_translate,
	.state_get = toy_state_get,
	.state_set = toy_state_set,
	.msrs_get = toy_msrs_get,
	.msrs_set = toy_msrs_set,
	.cpuid_set = toy_cpuid_set,
	.cpuid_get = toy_cpuid_get,
};
