/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs vCPUs and kicks them. One word for each vCPU sees to it that a signal is sent only to a
 * thread inside run, and is spent before that thread leaves:
 *
 *	runner, at start: IDLE -> RUNNING, or, if KICKED, -> IDLE and return INTR
 *	kicker: IDLE -> KICKED; RUNNING -> SENDING, tgkill, -> KICKED; else nothing
 *	runner, at end: RUNNING -> IDLE, or wait for KICKED, spend the signal, and if the exit
 *	is INTR -> IDLE; any other exit is returned, and the next run sees KICKED
 *
 * IMPOST_KICK_MASK: the thread has the signal blocked; only inside KVM_RUN is it let through
 * (KVM_SET_SIGNAL_MASK), where a pending signal makes the call return EINTR, and by the time
 * that it does the signal is blocked again. So no handler is called and the default action
 * never happens. The kernel changes the thread's mask twice in each KVM_RUN for it.
 *
 * IMPOST_KICK_HANDLER: the signal is not blocked. One that comes before KVM_RUN is entered does
 * not interrupt it: the kicker sets immediate_exit first, with which KVM_RUN returns EINTR at
 * once (kernel, Documentation/virt/kvm/api.rst, section 5).
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/*
 * A number of its own for each thread that has run a vCPU: unlike a thread's id it does not come
 * again. In the static TLS block, since a call to find it would cost as much as the rest of run.
 */
static _Thread_local uint64_t this_thread __attribute__((tls_model("initial-exec")));

/* The kernel's signal set: 64 bits, of which glibc's is a longer form (KVM_SET_SIGNAL_MASK wants 8
 * bytes). */
#define KERNEL_SIGSET_BYTES 8

static int32_t set_signal_mask(const struct vcpu *v, const sigset_t *mask)
{
	struct {
		uint32_t len;
		uint8_t sigset[KERNEL_SIGSET_BYTES];
	} arg = {.len = KERNEL_SIGSET_BYTES};

	memcpy(arg.sigset, mask, sizeof(arg.sigset));
	return KVM_IOCTL(v->host, v->fd, KVM_SET_SIGNAL_MASK, &arg);
}

/* IMPOST_KICK_MASK: blocks the signal in the calling thread, and lets it through inside KVM_RUN. */
static int32_t block_signal(const struct vcpu *v)
{
	sigset_t kick, mask;
	int32_t r;

	sigemptyset(&kick);
	sigaddset(&kick, (int)v->vm->kick_signal);
	r = pthread_sigmask(SIG_BLOCK, &kick, &mask);
	if (r)
		return kvm_error(v->host, r, "blocking the kick signal");
	sigdelset(&mask, (int)v->vm->kick_signal);
	return set_signal_mask(v, &mask);
}

/* IMPOST_KICK_HANDLER: what the host has promised, or a kick would be lost or end the process. */
static int32_t check_handler(const struct vcpu *v)
{
	int number = (int)v->vm->kick_signal;
	struct sigaction action;
	sigset_t mask;

	if (sigaction(number, NULL, &action) || pthread_sigmask(SIG_SETMASK, NULL, &mask))
		return kvm_error(v->host, errno, "looking at the kick signal");
	if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
		return impost_host_error(v->host, -EINVAL,
					 "signal %d has no handler: kicks by a handler need one",
					 number);
	if (sigismember(&mask, number))
		return impost_host_error(v->host, -EINVAL,
					 "signal %d is blocked in this thread: kicks by a handler "
					 "need it unblocked",
					 number);
	return 0;
}

/* Prepares the calling thread for running V, and V for being run by it. */
static int32_t adopt_thread(struct vcpu *v)
{
	static _Atomic uint64_t threads;
	int32_t r = v->vm->kick_by == IMPOST_KICK_HANDLER ? check_handler(v) : block_signal(v);

	if (r)
		return r;
	if (!this_thread)
		this_thread = atomic_fetch_add(&threads, 1) + 1;
	atomic_store(&v->tid, (pid_t)syscall(SYS_gettid));
	v->thread = this_thread;
	v->ran = 1;
	return 0;
}

static void exit_intr(struct impost_exit *exit)
{
	exit->size = sizeof(*exit);
	exit->kind = IMPOST_EXIT_INTR;
}

static void set_immediate_exit(const struct vcpu *v, uint8_t on)
{
	__atomic_store_n(&v->run->immediate_exit, on, __ATOMIC_SEQ_CST);
}

/* Spends the one signal that was sent to this thread. */
static void spend_signal(const struct vcpu *v)
{
	static const struct timespec at_once;
	sigset_t kick;

	if (v->vm->kick_by == IMPOST_KICK_HANDLER) {
		set_immediate_exit(v, 0);
		/* The signal is there: it is handled on the way out of a system call. */
		sched_yield();
		return;
	}
	sigemptyset(&kick);
	sigaddset(&kick, (int)v->vm->kick_signal);
	while (sigtimedwait(&kick, NULL, &at_once) < 0 && errno == EINTR)
		;
}

/* So often a kicker is waited for without sleeping: far longer than it takes on a CPU of its own.
 */
#define KICK_YIELDS 20

/* Leaves run after a kick has met it: no signal stays behind. */
static void leave_kicked(struct vcpu *v, int err)
{
	static const struct timespec a_little = {.tv_nsec = 10000};
	uint32_t running = KICK_RUNNING;

	for (int turn = 0; atomic_load(&v->kick) != KICK_KICKED; turn++) {
		/* A kicker whose signal could not be sent puts the state back. */
		if (atomic_compare_exchange_strong(&v->kick, &running, KICK_IDLE))
			return;
		running = KICK_RUNNING;
		/*
		 * The kicker has a few instructions to go. It must get a CPU for them even if this
		 * thread is a real-time one, which yields to none below it.
		 */
		if (turn < KICK_YIELDS)
			sched_yield();
		else
			nanosleep(&a_little, NULL);
	}
	spend_signal(v);
	if (err == EINTR)
		atomic_store(&v->kick, KICK_IDLE);
}

/*
 * From here to kvm_run(): the ways that are rarely gone. They are kept out of kvm_run(), and end in
 * calls that become jumps, so that its own way saves two registers and spills nothing.
 */
#define RARE __attribute__((noinline, cold))

/* No error and no exit for the host: run starts anew. */
#define RUN_AGAIN 1

/* Another thread than last time, or a vector to deliver. */
static RARE int32_t run_prepared(struct vcpu *v)
{
	int32_t r = adopt_thread(v);

	if (!r && v->vector != KVM_NO_VECTOR)
		r = kvm_vector_offer(v);
	if (r)
		v->thread = KVM_NO_THREAD;
	return r ? r : RUN_AGAIN;
}

static RARE int32_t run_kicked(struct vcpu *v, struct impost_exit *ret_exit)
{
	atomic_store(&v->kick, KICK_IDLE);
	exit_intr(ret_exit);
	return 0;
}

/* Anything but an access to a port or to memory. */
static RARE int32_t run_other(struct vcpu *v, struct impost_exit *ret_exit)
{
	v->pending = 0;
	if (v->vector != KVM_NO_VECTOR && v->run->exit_reason == KVM_EXIT_IRQ_WINDOW_OPEN) {
		int32_t r = kvm_vector_offer(v);

		/* The window was for the waiting vector: unless the host asked too, it hears
		 * nothing. */
		if (r)
			return r;
		if (!v->window)
			return RUN_AGAIN;
	}
	if (v->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
		int32_t r = kvm_ring_relieve(v);

		return r ? r : RUN_AGAIN;
	}
	kvm_exit_translate(v, ret_exit);
	return 0;
}

/* KVM_RUN returned no exit. */
static RARE int32_t run_failed(struct vcpu *v, int err, struct impost_exit *ret_exit)
{
	v->pending = 0;
	switch (err) {
	case EINTR:
		exit_intr(ret_exit);
		return 0;
	case EAGAIN:
		/* A waiting application processor has had its INIT or SIPI: now it can start. */
		return RUN_AGAIN;
	default:
		return kvm_error(v->host, err, "KVM_RUN");
	}
}

static RARE int32_t run_ended(struct vcpu *v, int err, struct impost_exit *ret_exit)
{
	uint32_t state = KICK_RUNNING;

	if (!atomic_compare_exchange_strong(&v->kick, &state, KICK_IDLE))
		leave_kicked(v, err);
	if (err)
		return run_failed(v, err, ret_exit);
	if (kvm_exit_access(v, ret_exit))
		return 0;
	return run_other(v, ret_exit);
}

/*
 * KVM_RUN: 0 or an errno value. The system call itself, since ioctl(), being variadic, spills its
 * arguments to memory: 20 instructions, a third of what an exit may cost.
 */
static inline int enter(const struct vcpu *v)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"((long)SYS_ioctl), "D"((long)v->fd), "S"(KVM_RUN), "d"(0L)
			 : "rcx", "r11", "memory");
	return (int)-ret;
}

/* What kvm_run() does, again and again until there is an exit for the host. In a loop, since a
 * guest can fill its dirty ring any number of times. R is how the last turn ended. */
static RARE int32_t run_on(struct vcpu *v, struct impost_exit *ret_exit, int32_t r)
{
	while (r == RUN_AGAIN) {
		uint32_t state = KICK_IDLE;

		if (v->thread != this_thread)
			r = run_prepared(v);
		else if (!atomic_compare_exchange_strong(&v->kick, &state, KICK_RUNNING))
			r = run_kicked(v, ret_exit);
		else
			r = run_ended(v, enter(v), ret_exit);
	}
	return r;
}

static RARE int32_t run_ended_on(struct vcpu *v, int err, struct impost_exit *ret_exit)
{
	return run_on(v, ret_exit, run_ended(v, err, ret_exit));
}

static RARE int32_t run_other_on(struct vcpu *v, struct impost_exit *ret_exit)
{
	return run_on(v, ret_exit, run_other(v, ret_exit));
}

int32_t kvm_run(void *handle, struct impost_exit *ret_exit)
{
	struct vcpu *v = handle;
	uint32_t state = KICK_IDLE;
	int err;

	if (KVM_UNLIKELY(v->thread != this_thread))
		return run_on(v, ret_exit, RUN_AGAIN);
	if (KVM_UNLIKELY(!atomic_compare_exchange_strong(&v->kick, &state, KICK_RUNNING)))
		return run_kicked(v, ret_exit);
	err = enter(v);
	if (KVM_UNLIKELY(err))
		return run_ended_on(v, err, ret_exit);
	state = KICK_RUNNING;
	if (KVM_UNLIKELY(!atomic_compare_exchange_strong(&v->kick, &state, KICK_IDLE)))
		return run_ended_on(v, 0, ret_exit);
	if (KVM_LIKELY(kvm_exit_access(v, ret_exit)))
		return 0;
	return run_other_on(v, ret_exit);
}

/* With immediate_exit KVM_RUN does what is left of the last instruction, and returns before the
 * next. */
int32_t kvm_complete(void *handle, struct impost_exit *ret_exit)
{
	struct vcpu *v = handle;
	int err = EINTR;

	if (v->pending) {
		v->pending = 0;
		v->run->immediate_exit = 1;
		err = enter(v);
		v->run->immediate_exit = 0;
	}
	if (!err) {
		if (!kvm_exit_access(v, ret_exit))
			kvm_exit_translate(v, ret_exit);
		return 0;
	}
	if (err != EINTR)
		return kvm_error(v->host, err, "KVM_RUN with immediate_exit");
	/* A host that completes is about to stop the guest for a while. */
	kvm_tell_stopped(v);
	ret_exit->size = sizeof(*ret_exit);
	ret_exit->kind = IMPOST_EXIT_NONE;
	return 0;
}

/* Sends the signal. The runner waits in leave_kicked() until this is over, so its thread is there.
 */
static int32_t send_signal(struct vcpu *v)
{
	bool handler = v->vm->kick_by == IMPOST_KICK_HANDLER;
	int saved = errno;
	int32_t r = 0;

	if (handler)
		set_immediate_exit(v, 1);
	if (syscall(SYS_tgkill, v->vm->pid, atomic_load(&v->tid), (int)v->vm->kick_signal))
		r = -errno;
	if (handler && r)
		set_immediate_exit(v, 0);
	errno = saved;
	atomic_store(&v->kick, r ? KICK_RUNNING : KICK_KICKED);
	return r;
}

int32_t kvm_kick(void *handle)
{
	struct vcpu *v = handle;

	for (;;) {
		uint32_t state = atomic_load(&v->kick);

		if (state == KICK_SENDING || state == KICK_KICKED)
			return 0;
		if (state == KICK_IDLE) {
			if (atomic_compare_exchange_weak(&v->kick, &state, KICK_KICKED))
				return 0;
		} else if (atomic_compare_exchange_weak(&v->kick, &state, KICK_SENDING)) {
			return send_signal(v);
		}
	}
}
