/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU: its life, running it, and its operations with their checks. */
#include <impost/vcpu.h>

#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "vcpu.h"

/* --- running --- */

int vcpu_busy(struct impost_vcpu *vcpu)
{
	return impost_error_set(vcpu->ctx, -EBUSY, "vCPU %u: another call is inside", vcpu->id);
}

/* One load: it is on the path of run. */
static inline bool forked(const struct impost_vcpu *vcpu)
{
	return __builtin_expect(*vcpu->alive == 0, 0);
}

static int no_result(struct impost_vcpu *vcpu, int result)
{
	return impost_error_set(vcpu->ctx, -EIO, "backend %s: run returned %d, which is no result",
				vcpu->vm->plugin->name, result);
}

/*
 * From here to impost_vcpu_run(): what is rarely gone, since somebody has kicked, or holds the VM.
 */
#define RARE __attribute__((noinline, cold))

/*
 * Goes inside VCPU when the guest may run. BUSY is what was there when this thread put BUSY_INSIDE
 * into its place. 0: inside; else what run returns is *RET_RESULT.
 */
static int enter_to_run(struct impost_vcpu *vcpu, unsigned busy, struct impost_exit *ret_exit,
			int *ret_result)
{
	for (unsigned turn = 0;; turn++, busy = atomic_exchange(&vcpu->busy, BUSY_INSIDE)) {
		unsigned inside = BUSY_INSIDE;

		if (busy == BUSY_HELD) /* what this thread has overwritten */
			atomic_compare_exchange_strong(&vcpu->busy, &inside, BUSY_HELD);
		if (atomic_load(&vcpu->attention) & ATTENTION_HELD) {
			if (busy == BUSY_NOT)
				vcpu_leave(vcpu);
			*ret_result = vcpu_wait(vcpu, ret_exit);
			if (*ret_result != VCPU_RELEASED)
				return 1;
		} else if (busy == BUSY_HELD) {
			/* The holder's last call: it was right to be inside, and so is this one. */
			vcpu_yield(turn);
		} else {
			*ret_result = busy == BUSY_NOT ? 0 : vcpu_busy(vcpu);
			return busy != BUSY_NOT;
		}
	}
}

/*
 * Whether a run that ended with ERR or EXIT ended because of a kick that the host knows nothing of.
 * INTR with no kick at all is a signal's, and the host's.
 */
static bool is_stray(struct impost_vcpu *vcpu, int err, const struct impost_exit *exit)
{
	unsigned was;

	if (err || exit->kind != IMPOST_EXIT_INTR)
		return false;
	was = atomic_fetch_and(&vcpu->attention, ~(unsigned)(ATTENTION_KICKED | ATTENTION_STRAY));
	return !(was & ATTENTION_KICKED) && (was & (ATTENTION_STRAY | ATTENTION_HELD));
}

/* The backend's run has ended with ERR or an exit, and there may be more to it. */
static RARE int end_run(struct impost_vcpu *vcpu, int err)
{
	struct impost_exit *exit = vcpu->exit;
	int result;

	if (vm_is_lost(vcpu->vm)) {
		/* This exit may come of memory that is not there. */
		vcpu_leave(vcpu);
		return vm_check_here(vcpu->vm);
	}
	while (is_stray(vcpu, err, exit)) {
		if (enter_to_run(vcpu, BUSY_NOT, exit, &result))
			return result;
		err = vcpu->run(vcpu->handle, exit);
	}
	vcpu_leave(vcpu);
	return err > 0 ? no_result(vcpu, err) : err;
}

/* BUSY: as enter_to_run() has it. */
static RARE int run_marked(struct impost_vcpu *vcpu, unsigned busy, struct impost_exit *ret_exit)
{
	int result;

	if (enter_to_run(vcpu, busy, ret_exit, &result))
		return result;
	vcpu->exit = ret_exit;
	return end_run(vcpu, vcpu->run(vcpu->handle, ret_exit));
}

/*
 * The hot path: nothing is allocated, copied or locked, and no text looked at, before the backend's
 * run. A run that fails has set its text itself. RET_EXIT is kept in the vCPU, and ERR is what is
 * returned, since each saves instructions.
 */
int impost_vcpu_run(struct impost_vcpu *vcpu, struct impost_exit *ret_exit)
{
	unsigned busy;
	int err;

	if (forked(vcpu))
		return context_refuse_fork(vcpu->ctx);
	busy = atomic_exchange(&vcpu->busy, BUSY_INSIDE);
	if (__builtin_expect(busy | atomic_load(&vcpu->attention), 0))
		return run_marked(vcpu, busy, ret_exit);
	vcpu->exit = ret_exit;
	err = vcpu->run(vcpu->handle, ret_exit);
	if (__builtin_expect((unsigned)err | atomic_load(&vcpu->attention), 0))
		return end_run(vcpu, err);
	atomic_store_explicit(&vcpu->busy, BUSY_NOT, memory_order_release);
	return err;
}

/* Enters VCPU for any other call, which leave() ends. */
static int begin(struct impost_vcpu *vcpu)
{
	int err = vm_check(vcpu->vm);

	if (err)
		return err;
	return vcpu_begin(vcpu);
}

/* The whole of a simple call. */
#define ENTER_AND_CALL(vcpu, op, ...)                                \
	({                                                           \
		int error_ = begin(vcpu);                            \
		if (!error_) {                                       \
			error_ = VCPU_CALL(vcpu, op, ##__VA_ARGS__); \
			vcpu_leave(vcpu);                            \
		}                                                    \
		error_;                                              \
	})

static int needs(struct impost_vcpu *vcpu, enum impost_cap cap)
{
	return vm_needs(vcpu->vm, cap);
}

int impost_vcpu_complete(struct impost_vcpu *vcpu, struct impost_exit *ret_exit)
{
	int err = needs(vcpu, IMPOST_CAP_COMPLETE);

	return err ? err : ENTER_AND_CALL(vcpu, complete, ret_exit);
}

int impost_vcpu_kick(struct impost_vcpu *vcpu)
{
	/* No text: a signal handler may be here. */
	if (forked(vcpu))
		return -IMPOST_EFORKED;
	vcpu_mark_kick(vcpu);
	return vcpu->ops->kick(vcpu->handle);
}

/* --- the loop --- */

static int fill_ones(void *data, uint8_t dir, uint32_t size, uint32_t count)
{
	if (dir == IMPOST_EXIT_READ && data)
		memset(data, 0xff, (size_t)size * count);
	return 0;
}

/* What happens to an exit that has no handler. */
static int unhandled(struct impost_exit *exit)
{
	switch (exit->kind) {
	case IMPOST_EXIT_IO:
		return fill_ones(exit->u.io.data, exit->u.io.dir, exit->u.io.size,
				 exit->u.io.count);
	case IMPOST_EXIT_MMIO:
		return fill_ones(exit->u.mmio.data, exit->u.mmio.dir, exit->u.mmio.size,
				 exit->u.mmio.count);
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		*exit->u.msr.refused = 1;
		return 0;
	case IMPOST_EXIT_HYPERCALL:
		*exit->u.hypercall.result = (uint64_t)-ENOSYS;
		return 0;
	default:
		return 1;
	}
}

/* Hands EXIT to its handler. */
static int handle(struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	const struct impost_handlers *handlers = vcpu->handlers;
	int (*handler)(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit);

	switch (exit->kind) {
	case IMPOST_EXIT_IO:
		handler = handlers->io;
		break;
	case IMPOST_EXIT_MMIO:
		handler = handlers->mmio;
		break;
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		handler = handlers->msr;
		break;
	case IMPOST_EXIT_HYPERCALL:
		handler = handlers->hypercall;
		break;
	case IMPOST_EXIT_INTR:
		handler = handlers->intr;
		break;
	default:
		handler = handlers->other;
	}
	return handler ? handler(vcpu->opaque, vcpu, exit) : unhandled(exit);
}

static struct impost_vcpu *find(struct impost_vm *vm, uint32_t id)
{
	struct impost_vcpu *vcpu = vm->vcpus;

	while (vcpu && vcpu->id != id)
		vcpu = vcpu->next;
	return vcpu;
}

/*
 * A handler that wants to leave in the middle of a run is heeded when the run is over, which a kick
 * makes soon. The exit's data do not live that long.
 */
int32_t vcpu_answer(void *opaque, uint32_t id, struct impost_exit *exit)
{
	struct impost_vm *vm = opaque;
	struct impost_vcpu *vcpu;
	int result;

	pthread_mutex_lock(&vm->lock);
	vcpu = find(vm, id);
	pthread_mutex_unlock(&vm->lock);
	if (!vcpu || !vcpu->handlers)
		return -ENOTSUP;
	result = handle(vcpu, exit);
	if (result == 0 || vcpu->answered)
		return result < 0 ? result : 0;
	vcpu->answered = result;
	vcpu->answered_exit = (struct impost_exit){.size = exit->size, .kind = exit->kind};
	if (result < 0)
		return result;
	return impost_vcpu_kick(vcpu);
}

/*
 * A handler left in the middle of a run, which then ended with ERR or with EXIT. That one is not
 * lost: it is handed on, unless it is what the kick made.
 */
static int left(struct impost_vcpu *vcpu, int err, struct impost_exit *exit)
{
	if (vcpu->answered < 0 || err)
		return vcpu->answered < 0 ? vcpu->answered : err;
	err = exit->kind == IMPOST_EXIT_INTR ? 0 : handle(vcpu, exit);
	if (err)
		return err;
	*exit = vcpu->answered_exit;
	return vcpu->answered;
}

/* Runs and handles until something says otherwise: 1 or a negative error. */
static int loop(struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	int err;

	do {
		vcpu->answered = 0;
		err = impost_vcpu_run(vcpu, exit);
		if (vcpu->answered)
			return left(vcpu, err, exit);
		if (!err)
			err = handle(vcpu, exit);
	} while (!err);
	return err;
}

/* Makes sure of being the only loop; clearing `looping` ends it. */
static int begin_loop(struct impost_vcpu *vcpu)
{
	int err = begin(vcpu);

	if (err)
		return err;
	if (atomic_exchange(&vcpu->looping, true))
		err = vcpu_busy(vcpu);
	vcpu_leave(vcpu);
	return err;
}

int impost_vcpu_loop(struct impost_vcpu *vcpu, const struct impost_handlers *handlers, void *opaque,
		     struct impost_exit *ret_exit)
{
	struct impost_handlers copy;
	struct impost_exit exit = {0};
	int err = abi_take(vcpu->ctx, "impost_handlers", &copy, sizeof(copy), handlers,
			   ABI_UP_TO(struct impost_handlers, reserved));

	if (!err && !ret_exit)
		err = impost_error_set(vcpu->ctx, -EINVAL, "impost_vcpu_loop: ret_exit is NULL");
	if (!err)
		err = begin_loop(vcpu);
	if (err)
		return err;
	vcpu->handlers = &copy;
	vcpu->opaque = opaque;
	err = loop(vcpu, &exit);
	vcpu->handlers = NULL;
	atomic_store(&vcpu->looping, false);
	if (err < 0)
		return err;
	*ret_exit = exit;
	return 0;
}

/* --- life --- */

static int check_id(struct impost_vm *vm, uint32_t id)
{
	const char *name = vm->plugin->name;

	if (id > vm->caps.max_vcpu_id)
		return impost_error_set(vm->ctx, -EINVAL, "vCPU %u: backend %s has ids 0 to %u", id,
					name, vm->caps.max_vcpu_id);
	if (find(vm, id))
		return impost_error_set(vm->ctx, -EEXIST, "vCPU %u is there already", id);
	if (vm->nvcpus >= vm->config.cpus)
		return impost_error_set(vm->ctx, -ENOSPC, "vCPU %u: the VM was made for %u", id,
					vm->config.cpus);
	return 0;
}

/* Makes the backend's vCPU and puts VCPU into its VM's list. */
static int attach(struct impost_vcpu *vcpu)
{
	struct impost_vm *vm = vcpu->vm;
	struct impost_vcpu **at = &vm->vcpus;
	int err = check_id(vm, vcpu->id);

	if (!err)
		err = VM_CALL(vm, vm->ops, vm->handle, vcpu_create, vcpu->id, &vcpu->handle);
	if (err)
		return err;
	vcpu_join(vcpu);
	while (*at && (*at)->id < vcpu->id)
		at = &(*at)->next;
	vcpu->next = *at;
	*at = vcpu;
	vm->nvcpus++;
	return 0;
}

int impost_vcpu_create(struct impost_vm *vm, uint32_t id, struct impost_vcpu **ret_vcpu)
{
	struct impost_vcpu *vcpu;
	int err = vm_check(vm);

	if (err)
		return err;
	if (!ret_vcpu)
		return impost_error_set(vm->ctx, -EINVAL, "impost_vcpu_create: ret_vcpu is NULL");
	vcpu = aligned_alloc(64, (sizeof(*vcpu) + 63) / 64 * 64);
	if (!vcpu)
		return impost_error_set(vm->ctx, -ENOMEM, "no memory for a vCPU");
	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->vm = vm;
	vcpu->ctx = vm->ctx;
	vcpu->alive = vm->ctx->alive;
	vcpu->id = id;
	vcpu->ops = vm->vcpu_ops;
	vcpu->run = vm->vcpu_ops->run;
	pthread_mutex_lock(&vm->lock);
	err = attach(vcpu);
	pthread_mutex_unlock(&vm->lock);
	if (err) {
		free(vcpu);
		return err;
	}
	*ret_vcpu = vcpu;
	return 0;
}

int impost_vcpu_destroy(struct impost_vcpu *vcpu)
{
	struct impost_vcpu **at;
	int err = vcpu ? begin(vcpu) : 0;

	if (!vcpu || err)
		return err;
	if (atomic_load(&vcpu->looping) || atomic_load(&vcpu->waiting)) {
		vcpu_leave(vcpu);
		return vcpu_busy(vcpu);
	}
	pthread_mutex_lock(&vcpu->vm->lock);
	vcpu->ops->destroy(vcpu->handle);
	for (at = &vcpu->vm->vcpus; *at != vcpu;)
		at = &(*at)->next;
	*at = vcpu->next;
	vcpu->vm->nvcpus--;
	pthread_mutex_unlock(&vcpu->vm->lock);
	free(vcpu->given.entries);
	free(vcpu);
	return 0;
}

struct impost_vcpu *impost_vm_vcpu(struct impost_vm *vm, uint32_t index)
{
	struct impost_vcpu *vcpu;

	pthread_mutex_lock(&vm->lock);
	for (vcpu = vm->vcpus; vcpu && index; vcpu = vcpu->next)
		index--;
	pthread_mutex_unlock(&vm->lock);
	return vcpu;
}

uint32_t impost_vcpu_id(const struct impost_vcpu *vcpu)
{
	return vcpu->id;
}

struct impost_vm *impost_vcpu_vm(const struct impost_vcpu *vcpu)
{
	return vcpu->vm;
}

/* --- interrupts and debugging --- */

int impost_vcpu_nmi(struct impost_vcpu *vcpu)
{
	int err = needs(vcpu, IMPOST_CAP_NMI);

	return err ? err : ENTER_AND_CALL(vcpu, nmi);
}

int impost_vcpu_irq_inject(struct impost_vcpu *vcpu, uint32_t vector)
{
	int err = needs(vcpu, IMPOST_CAP_IRQ_INJECT);

	if (!err && vector > UINT8_MAX)
		err = impost_error_set(vcpu->ctx, -EINVAL, "vector %u: vectors are 0 to 255",
				       vector);
	return err ? err : ENTER_AND_CALL(vcpu, irq_inject, vector);
}

int impost_vcpu_irq_window(struct impost_vcpu *vcpu, uint32_t on)
{
	int err = needs(vcpu, IMPOST_CAP_IRQ_WINDOW);

	return err ? err : ENTER_AND_CALL(vcpu, irq_window, on != 0);
}

int impost_vcpu_guest_debug(struct impost_vcpu *vcpu, const struct impost_guest_debug *debug)
{
	struct impost_guest_debug copy;
	int err = needs(vcpu, IMPOST_CAP_GUEST_DEBUG);

	if (!err)
		err = abi_take(vcpu->ctx, "impost_guest_debug", &copy, sizeof(copy), debug,
			       ABI_UP_TO(struct impost_guest_debug, dr7));
	return err ? err : ENTER_AND_CALL(vcpu, guest_debug, &copy);
}

int impost_vcpu_translate(struct impost_vcpu *vcpu, uint64_t gva, uint64_t *ret_gpa)
{
	int err = needs(vcpu, IMPOST_CAP_TRANSLATE);

	return err ? err : ENTER_AND_CALL(vcpu, translate, gva, ret_gpa);
}

/* --- state --- */

/* Capabilities that sections need. */
enum {
	NEED_REGS = -1,
	NEED_SREGS = -1,
	NEED_XSAVE = -1, /* the legacy region is there without the capability */
	NEED_DEBUGREGS = IMPOST_CAP_DEBUGREGS,
	NEED_LAPIC = -1,
	NEED_EVENTS = IMPOST_CAP_EVENTS,
	NEED_RUNSTATE = -1,
	NEED_TSC = -1,
	NEED_VCPU_OPAQUE = -1,
};

#define IMPOST_VCPU_SECTION(number, NAME, name, type, varies) \
	[number] = {#name, sizeof(type), varies, NEED_##NAME},
static const struct section sections[] = {
#include <impost/x86_64/sections.def>
};

int impost_vcpu_get(struct impost_vcpu *vcpu, uint32_t section, void *buf, uint32_t capacity,
		    uint32_t *ret_size)
{
	uint32_t size = 0;
	int err = section_check_get(vcpu->vm, sections, ARRAY_SIZE(sections), section);

	if (!err)
		err = ENTER_AND_CALL(vcpu, state_get, section, buf, capacity, &size);
	return vm_give_count(vcpu->vm, err, "state_get", size, capacity, ret_size);
}

int impost_vcpu_set(struct impost_vcpu *vcpu, uint32_t section, const void *buf, uint32_t bytes)
{
	int err = section_check_set(vcpu->vm, sections, ARRAY_SIZE(sections), section, buf, bytes);

	return err ? err : ENTER_AND_CALL(vcpu, state_set, section, buf, bytes);
}

/* Gets a section of fixed length. A backend of a later minor may know more of it than fits RET. */
static int get_typed(struct impost_vcpu *vcpu, uint32_t section, void *ret, uint32_t bytes)
{
	uint64_t buf[128] = {0};
	uint32_t size = 0;
	int err = impost_vcpu_get(vcpu, section, buf, sizeof(buf), &size);

	if (err)
		return err;
	abi_copy(ret, bytes, buf, size < sizeof(buf) ? size : (uint32_t)sizeof(buf));
	memcpy(ret, &bytes, sizeof(bytes));
	return 0;
}

/* Sets one; its first member is filled in. */
static int set_typed(struct impost_vcpu *vcpu, uint32_t section, const void *from, uint32_t bytes)
{
	uint64_t buf[128];

	memcpy(buf, from, bytes);
	memcpy(buf, &bytes, sizeof(bytes));
	return impost_vcpu_set(vcpu, section, buf, bytes);
}

int impost_vcpu_get_regs(struct impost_vcpu *vcpu, struct impost_x86_regs *ret_regs)
{
	return get_typed(vcpu, IMPOST_SECTION_REGS, ret_regs, sizeof(*ret_regs));
}

int impost_vcpu_set_regs(struct impost_vcpu *vcpu, const struct impost_x86_regs *regs)
{
	return set_typed(vcpu, IMPOST_SECTION_REGS, regs, sizeof(*regs));
}

int impost_vcpu_get_sregs(struct impost_vcpu *vcpu, struct impost_x86_sregs *ret_sregs)
{
	return get_typed(vcpu, IMPOST_SECTION_SREGS, ret_sregs, sizeof(*ret_sregs));
}

int impost_vcpu_set_sregs(struct impost_vcpu *vcpu, const struct impost_x86_sregs *sregs)
{
	return set_typed(vcpu, IMPOST_SECTION_SREGS, sregs, sizeof(*sregs));
}

/* Ends a call that did DONE of COUNT MSRs: ERR, or -EIO if that cannot be. */
static int give_done(struct impost_vcpu *vcpu, int err, uint32_t done, uint32_t count,
		     uint32_t *ret_done)
{
	if (done > count || (!err && done < count))
		err = impost_error_set(
			vcpu->ctx, -EIO,
			"backend %s says that %u of %u MSRs are done, which cannot be",
			vcpu->vm->plugin->name, done, count);
	if (ret_done)
		*ret_done = done < count ? done : count;
	return err;
}

int impost_vcpu_get_msrs(struct impost_vcpu *vcpu, struct impost_x86_msr *msrs, uint32_t count,
			 uint32_t *ret_done)
{
	uint32_t done = 0;
	int err = ENTER_AND_CALL(vcpu, msrs_get, msrs, count, &done);

	return give_done(vcpu, err, done, count, ret_done);
}

int impost_vcpu_set_msrs(struct impost_vcpu *vcpu, const struct impost_x86_msr *msrs,
			 uint32_t count, uint32_t *ret_done)
{
	uint32_t done = 0;
	int err = ENTER_AND_CALL(vcpu, msrs_set, msrs, count, &done);

	return give_done(vcpu, err, done, count, ret_done);
}

int impost_vcpu_set_cpuid(struct impost_vcpu *vcpu, const struct impost_x86_cpuid *entries,
			  uint32_t count)
{
	struct given_cpuid copy;
	int err;

	if (!impost_caps_has(&vcpu->vm->caps, IMPOST_CAP_CPUID_PER_VCPU))
		return impost_vm_set_cpuid(vcpu->vm, entries, count);
	err = cpuid_copy(vcpu->vm, entries, count, &copy);
	return err ? err
		   : cpuid_keep(vcpu->vm, &vcpu->given, copy,
				ENTER_AND_CALL(vcpu, cpuid_set, entries, count));
}

int impost_vcpu_get_cpuid(struct impost_vcpu *vcpu, struct impost_x86_cpuid *entries,
			  uint32_t capacity, uint32_t *ret_count)
{
	uint32_t count = 0;
	int err = ENTER_AND_CALL(vcpu, cpuid_get, entries, capacity, &count);

	return vm_give_count(vcpu->vm, err, "cpuid_get", count, capacity, ret_count);
}
