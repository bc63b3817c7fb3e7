/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding a VM: every vCPU is out of the hypervisor, no exit is in the host's hands, and threads
 * that run a vCPU wait inside run until the VM is released. A VM that was migrated stays held for
 * good, and those threads are told so.
 *
 * The holder marks all vCPUs, kicks those that have a thread inside, and waits until each is
 * settled: no thread is inside it, and it has no I/O pending. What a thread that runs one does
 * about the mark is in run_marked() in vcpu.c and in vcpu_wait() here; it costs run two loads.
 *
 * Marking and entering are each a store, to `attention` and `busy`, before a load of the other: one
 * of the two sides sees the other. A run that leaves without looking is not heard; this only costs
 * time, since the holder looks by itself now and then.
 */
#include <impost/vcpu.h>

#include <sched.h>
#include <stdio.h>

#include "clock.h"
#include "futex.h"
#include "text.h"
#include "vcpu.h"

/* So long the holder sleeps at the most, in ns. */
#define LOOK_AGAIN 10000000

/* --- the threads that run vCPUs --- */

static void leave_quietly(struct impost_vcpu *vcpu)
{
	atomic_store(&vcpu->busy, BUSY_NOT);
	if (atomic_load(&vcpu->wants_in))
		futex_advance(&vcpu->turn);
}

/* Something about a vCPU has changed that a holder waits for, if there is one. */
static void tell_holder(struct impost_vm *vm)
{
	if (atomic_load(&vm->hold) == HOLD_BEGUN)
		futex_advance(&vm->settling);
}

void vcpu_leave(struct impost_vcpu *vcpu)
{
	struct impost_vm *vm = vcpu->vm;

	leave_quietly(vcpu);
	tell_holder(vm);
}

/* So often a thread is waited for without sleeping. */
#define YIELDS 20

void vcpu_yield(unsigned turn)
{
	static const struct timespec a_little = {.tv_nsec = 10000};

	/* A real-time thread yields to none below it. */
	if (turn < YIELDS)
		sched_yield();
	else
		nanosleep(&a_little, NULL);
}

int vcpu_begin(struct impost_vcpu *vcpu)
{
	/* Once it is held, runs that begin are inside for moments, until they wait. Before, the
	 * holder is, when it looks whether this vCPU is settled. */
	for (unsigned turn = 0; !vcpu_enter(vcpu); turn++) {
		if (!vm_is_held(vcpu->vm) && atomic_load(&vcpu->busy) == BUSY_INSIDE)
			return vcpu_busy(vcpu);
		vcpu_yield(turn);
	}
	return 0;
}

void vcpu_mark_kick(struct impost_vcpu *vcpu)
{
	if (atomic_fetch_or(&vcpu->attention, ATTENTION_KICKED) & ATTENTION_HELD)
		futex_advance(&vcpu->turn);
}

static int give_intr(struct impost_exit *ret_exit)
{
	ret_exit->size = sizeof(*ret_exit);
	ret_exit->kind = IMPOST_EXIT_INTR;
	return 0;
}

/* Nothing to be returned yet. */
#define WAIT 2

/*
 * Finishes pending I/O. What the instruction needs next is the host's to answer: it is returned as
 * run would.
 */
static int settle(struct impost_vcpu *vcpu, struct impost_exit *ret_exit)
{
	struct impost_exit exit = {.kind = IMPOST_EXIT_NONE};
	int err = 0;

	atomic_store(&vcpu->wants_in, true);
	if (!vcpu_enter(vcpu))
		return WAIT;
	atomic_store(&vcpu->wants_in, false);
	if (impost_caps_has(&vcpu->vm->caps, IMPOST_CAP_COMPLETE))
		err = VCPU_CALL(vcpu, complete, &exit);
	atomic_store(&vcpu->settled, !err && exit.kind == IMPOST_EXIT_NONE);
	vcpu_leave(vcpu);
	if (!err && exit.kind == IMPOST_EXIT_NONE)
		return WAIT;
	if (!err)
		*ret_exit = exit;
	return err;
}

int vm_check_here(struct impost_vm *vm)
{
	uint32_t owner = atomic_load(&vm->owner);
	int err = vm_check(vm);

	if (err)
		return err;
	if (owner == OWNER_MOVED)
		return impost_error_set(vm->ctx, -IMPOST_EMOVED,
					"the VM goes on elsewhere: it was migrated, and can only "
					"be destroyed");
	if (owner == OWNER_LOST)
		return impost_error_set(vm->ctx, -EIO,
					"some of the VM's memory is lost: it cannot go on, and can "
					"only be destroyed");
	return 0;
}

/* One look at what there is to do, and a sleep until that changes. */
static int wait_once(struct impost_vcpu *vcpu, struct impost_exit *ret_exit)
{
	unsigned turn = atomic_load(&vcpu->turn);
	int r = vm_check_here(vcpu->vm);

	if (!(atomic_load(&vcpu->attention) & ATTENTION_HELD))
		return VCPU_RELEASED;
	if (r)
		return r;
	if (!atomic_load(&vcpu->settled)) {
		r = settle(vcpu, ret_exit);
		if (r != WAIT)
			return r;
	}
	/* While another call is inside for a moment, finishing comes before a kick: who is kicked
	 * need not come back. */
	if (atomic_load(&vcpu->settled) && atomic_load(&vcpu->attention) & ATTENTION_KICKED) {
		/* The backend has heard of this kick too, or is about to. */
		atomic_fetch_or(&vcpu->attention, ATTENTION_STRAY);
		atomic_fetch_and(&vcpu->attention, ~(unsigned)ATTENTION_KICKED);
		return give_intr(ret_exit);
	}
	return futex_wait(&vcpu->turn, turn, NULL) == -EINTR ? give_intr(ret_exit) : WAIT;
}

int vcpu_wait(struct impost_vcpu *vcpu, struct impost_exit *ret_exit)
{
	int r;

	if (atomic_exchange(&vcpu->waiting, true))
		return vcpu_busy(vcpu);
	do
		r = wait_once(vcpu, ret_exit);
	while (r == WAIT);
	atomic_store(&vcpu->settled, false);
	atomic_store(&vcpu->wants_in, false);
	atomic_store(&vcpu->waiting, false);
	return r;
}

/* --- the holder --- */

void vcpu_join(struct impost_vcpu *vcpu)
{
	if (atomic_load(&vcpu->vm->hold) != HOLD_NONE || vm_is_lost(vcpu->vm))
		atomic_store(&vcpu->attention, ATTENTION_HELD);
}

/*
 * Makes a thread that is inside VCPU leave. Where the mark is there already, so is, or will be, a
 * kick whose INTR nobody has seen yet: one more could come when the mark is gone.
 */
static int chase(struct impost_vcpu *vcpu)
{
	int err;

	if (!atomic_load(&vcpu->busy) ||
	    atomic_fetch_or(&vcpu->attention, ATTENTION_STRAY) & ATTENTION_STRAY)
		return 0;
	err = VCPU_CALL(vcpu, kick);
	if (err)
		atomic_fetch_and(&vcpu->attention, ~(unsigned)ATTENTION_STRAY);
	return err;
}

/* Marks all vCPUs, then kicks: they leave at the same time, and not one after the other. */
static int mark_and_kick(struct impost_vm *vm)
{
	int err = 0;

	pthread_mutex_lock(&vm->lock);
	for (struct impost_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next)
		atomic_fetch_or(&vcpu->attention, ATTENTION_HELD);
	for (struct impost_vcpu *vcpu = vm->vcpus; vcpu && !err; vcpu = vcpu->next)
		err = chase(vcpu);
	pthread_mutex_unlock(&vm->lock);
	return err;
}

static void unmark(struct impost_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	for (struct impost_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next) {
		if (!vm_is_lost(vm))
			atomic_fetch_and(&vcpu->attention, ~(unsigned)ATTENTION_HELD);
		if (atomic_load(&vcpu->waiting))
			futex_advance(&vcpu->turn);
	}
	atomic_store(&vm->hold, HOLD_NONE);
	pthread_mutex_unlock(&vm->lock);
}

/* The text that the calling thread has on CTX, which is to be there again later. */
static void keep_text(struct impost_context *ctx, char *text, size_t room)
{
	snprintf(text, room, "%s", impost_error(ctx));
}

/*
 * Whether the exit that VCPU returned last is in the host's hands still. The backend knows: it has
 * no state to give then (backend.h). It is asked with no room for any, so that nothing is read, and
 * who records what is asked of a backend can tell this question, which comes as often as threads
 * happen to meet, from a host's. A thread is inside VCPU, which is this one.
 */
static bool has_pending(struct impost_vcpu *vcpu)
{
	struct impost_context *ctx = vcpu->ctx;
	struct impost_x86_regs regs;
	char text[1024];
	uint32_t size;
	int err;

	if (!impost_caps_has(&vcpu->vm->caps, IMPOST_CAP_COMPLETE))
		return false;
	keep_text(ctx, text, sizeof(text));
	err = VCPU_CALL(vcpu, state_get, IMPOST_SECTION_REGS, &regs, 0, &size);
	if (err) /* nobody failed: the host finds the text that it had */
		impost_error_set(ctx, err, "%s", text);
	return err == -EBUSY;
}

/* Why VCPU is not settled, or NULL. */
static const char *unsettled(struct impost_vcpu *vcpu)
{
	bool pending;

	if (atomic_load(&vcpu->settled))
		return NULL;
	if (!vcpu_enter(vcpu))
		return "a thread is inside it";
	pending = has_pending(vcpu);
	leave_quietly(vcpu);
	return pending ? "its last exit has not come back" : NULL;
}

/* The first vCPU that is not settled. False: all are. */
static bool find_unsettled(struct impost_vm *vm, uint32_t *ret_id, const char **ret_why)
{
	struct impost_vcpu *vcpu;
	const char *why = NULL;

	pthread_mutex_lock(&vm->lock);
	for (vcpu = vm->vcpus; vcpu; vcpu = vcpu->next) {
		why = unsettled(vcpu);
		if (why)
			break;
	}
	if (why) {
		*ret_id = vcpu->id;
		*ret_why = why;
	}
	pthread_mutex_unlock(&vm->lock);
	return why != NULL;
}

static int wait_until_settled(struct impost_vm *vm, uint32_t timeout_ms)
{
	uint64_t begin = clock_now_ns(), limit = (uint64_t)timeout_ms * 1000000;

	for (;;) {
		unsigned settling = atomic_load(&vm->settling);
		struct timespec sleep = {.tv_nsec = LOOK_AGAIN};
		uint64_t passed;
		const char *why;
		uint32_t id;

		if (!find_unsettled(vm, &id, &why))
			return 0;
		passed = clock_now_ns() - begin;
		if (timeout_ms != IMPOST_HOLD_NO_LIMIT && passed >= limit)
			return impost_error_set(vm->ctx, -ETIMEDOUT,
						"the VM cannot be held within %u ms: vCPU %u: %s",
						timeout_ms, id, why);
		if (timeout_ms != IMPOST_HOLD_NO_LIMIT && limit - passed < LOOK_AGAIN)
			sleep.tv_nsec = (long)(limit - passed);
		futex_wait(&vm->settling, settling, &sleep);
	}
}

/* --- pausing in the hypervisor: the VM is paused while the host or a hold wants it so --- */

int vm_pause_by(struct impost_vm *vm, uint32_t who)
{
	int err = 0;

	pthread_mutex_lock(&vm->pause_lock);
	if (!vm->paused_by)
		err = VM_CALL(vm, vm->ops, vm->handle, pause);
	if (!err)
		vm->paused_by |= who;
	pthread_mutex_unlock(&vm->pause_lock);
	return err;
}

int vm_resume_by(struct impost_vm *vm, uint32_t who)
{
	int err = 0;

	pthread_mutex_lock(&vm->pause_lock);
	if (!(vm->paused_by & ~who))
		err = VM_CALL(vm, vm->ops, vm->handle, resume);
	if (!err)
		vm->paused_by &= ~who;
	pthread_mutex_unlock(&vm->pause_lock);
	return err;
}

static bool can_pause(const struct impost_vm *vm)
{
	return impost_caps_has(&vm->caps, IMPOST_CAP_VM_PAUSE);
}

static int pause_and_wait(struct impost_vm *vm, uint32_t timeout_ms)
{
	int err = can_pause(vm) ? vm_pause_by(vm, PAUSED_BY_HOLD) : 0;

	if (err)
		return err;
	err = wait_until_settled(vm, timeout_ms);
	if (err && can_pause(vm)) {
		char text[1024];

		keep_text(vm->ctx, text, sizeof(text));
		if (vm_resume_by(vm, PAUSED_BY_HOLD)) /* what failed first is told */
			impost_error_set(vm->ctx, err, "%s", text);
	}
	return err;
}

/* --- several that hold --- */

/* Waits until `hold` is not on its way any more; with the lock. -ETIMEDOUT. */
static int wait_turned(struct impost_vm *vm, uint32_t timeout_ms)
{
	uint64_t begin = clock_now_ns(), limit = (uint64_t)timeout_ms * 1000000;

	while (vm->hold_turns) {
		unsigned turned = atomic_load(&vm->hold_turned);
		struct timespec sleep = {.tv_nsec = LOOK_AGAIN};

		if (timeout_ms != IMPOST_HOLD_NO_LIMIT && clock_now_ns() - begin >= limit)
			return impost_error_set(vm->ctx, -ETIMEDOUT,
						"the VM cannot be held within %u ms: another "
						"thread is about to",
						timeout_ms);
		pthread_mutex_unlock(&vm->hold_lock);
		futex_wait(&vm->hold_turned, turned, &sleep);
		pthread_mutex_lock(&vm->hold_lock);
	}
	return 0;
}

/* WHO is to hold: *RET_MAKE: nobody does yet, and it has its turn. With the lock. */
static int begin_hold(struct impost_vm *vm, uint32_t who, uint32_t timeout_ms, bool *ret_make)
{
	int err;

	if ((vm->held_by | vm->holding_by) & who)
		return impost_error_set(vm->ctx, -EALREADY, "the VM is held already");
	vm->holding_by |= who;
	err = wait_turned(vm, timeout_ms);
	*ret_make = !err && atomic_load(&vm->hold) == HOLD_NONE;
	if (*ret_make) {
		vm->hold_turns = true;
		atomic_store(&vm->hold, HOLD_BEGUN);
		return 0;
	}
	vm->holding_by &= ~who;
	if (!err)
		vm->held_by |= who;
	return err;
}

/* WHO's turn is over; HOLDS: with the VM held by it. */
static void end_turn(struct impost_vm *vm, uint32_t who, bool holds)
{
	pthread_mutex_lock(&vm->hold_lock);
	vm->hold_turns = false;
	vm->holding_by &= ~who;
	if (holds)
		vm->held_by |= who;
	else
		vm->held_by &= ~who;
	pthread_mutex_unlock(&vm->hold_lock);
	futex_advance(&vm->hold_turned);
}

int vm_hold_by(struct impost_vm *vm, uint32_t who, uint32_t timeout_ms)
{
	bool make = false;
	int err = vm_check_here(vm);

	if (err)
		return err;
	pthread_mutex_lock(&vm->hold_lock);
	err = begin_hold(vm, who, timeout_ms, &make);
	pthread_mutex_unlock(&vm->hold_lock);
	if (!make)
		return err;
	err = mark_and_kick(vm);
	if (!err)
		err = pause_and_wait(vm, timeout_ms);
	if (err)
		unmark(vm);
	else
		atomic_store(&vm->hold, HOLD_DONE);
	end_turn(vm, who, !err);
	return err;
}

/* WHO is to release: *RET_MAKE: nobody else holds, and it has its turn. With the lock. */
static int begin_release(struct impost_vm *vm, uint32_t who, bool *ret_make)
{
	if (!(vm->held_by & who) || vm->holding_by & who)
		return impost_error_set(vm->ctx, -EINVAL, "the VM is not held");
	*ret_make = !(vm->held_by & ~who);
	if (*ret_make) {
		vm->hold_turns = true;
		vm->holding_by |= who;
		atomic_store(&vm->hold, HOLD_ENDS);
	} else {
		vm->held_by &= ~who;
	}
	return 0;
}

int vm_release_by(struct impost_vm *vm, uint32_t who)
{
	bool make = false;
	int err = vm_check_here(vm);

	if (err)
		return err;
	pthread_mutex_lock(&vm->hold_lock);
	err = begin_release(vm, who, &make);
	pthread_mutex_unlock(&vm->hold_lock);
	if (!make)
		return err;
	err = can_pause(vm) ? vm_resume_by(vm, PAUSED_BY_HOLD) : 0;
	if (err)
		atomic_store(&vm->hold, HOLD_DONE);
	else
		unmark(vm);
	end_turn(vm, who, err != 0);
	return err;
}

void vm_hand_hold(struct impost_vm *vm, uint32_t who)
{
	pthread_mutex_lock(&vm->hold_lock);
	vm->held_by = (vm->held_by & ~who) | HELD_BY_HOST;
	pthread_mutex_unlock(&vm->hold_lock);
}

int impost_vm_hold(struct impost_vm *vm, uint32_t timeout_ms)
{
	return vm_hold_by(vm, HELD_BY_HOST, timeout_ms);
}

int impost_vm_release(struct impost_vm *vm)
{
	return vm_release_by(vm, HELD_BY_HOST);
}

/* --- a VM that goes on elsewhere, or nowhere --- */

/* It stays held, so that each run comes to vcpu_wait(). */
void vm_give_up(struct impost_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	atomic_store(&vm->owner, OWNER_MOVED);
	for (struct impost_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next)
		futex_advance(&vcpu->turn);
	pthread_mutex_unlock(&vm->lock);
}

/* What is inside leaves, and what begins comes to vcpu_wait(): it is marked for good. */
void vm_lose(struct impost_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	atomic_store(&vm->owner, OWNER_LOST);
	for (struct impost_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next)
		atomic_fetch_or(&vcpu->attention, ATTENTION_HELD);
	for (struct impost_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next) {
		chase(vcpu); /* one that is not reached leaves by itself, at its next exit */
		futex_advance(&vcpu->turn);
	}
	pthread_mutex_unlock(&vm->lock);
}
