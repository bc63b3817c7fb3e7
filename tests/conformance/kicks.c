/* SPDX-License-Identifier: Apache-2.0 */
/* A kick is never lost, whenever it comes, and no signal reaches anybody. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "common.h"

static void sleep_ms(long ms)
{
	const struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

static void *kick_late(void *vcpu)
{
	sleep_ms(30);
	return impost_vcpu_kick(vcpu) ? vcpu : NULL;
}

/* Kicks the vCPU from another thread after a while, and runs meanwhile. */
static void kicked_run(struct box *box)
{
	struct impost_exit exit;
	pthread_t thread;
	void *failed;

	cr_assert_eq(pthread_create(&thread, NULL, kick_late, box->vcpu), 0);
	run_to(box, box->vcpu, IMPOST_EXIT_INTR, &exit);
	pthread_join(thread, &failed);
	cr_assert_null(failed, "the kick failed");
}

Test(kicks, before_run, .timeout = 60)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	/* Many kicks are one. */
	for (int i = 0; i < 10; i++)
		OK(&box, impost_vcpu_kick(box.vcpu));
	if (!impost_caps_has(box.caps, IMPOST_CAP_EXECUTES)) {
		run_to(&box, box.vcpu, IMPOST_EXIT_INTR, &exit);
		box_close(&box);
		return;
	}
	enter_real(&box, box.vcpu, GUEST(0xe6, 0x80, 0xeb, 0xfc));
	run_to(&box, box.vcpu, IMPOST_EXIT_INTR, &exit);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE);
	for (int i = 0; i < 3; i++)
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	box_close(&box);
}

Test(kicks, during_a_busy_loop, .timeout = 60)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xeb, 0xfe));
	for (int i = 0; i < 5; i++)
		kicked_run(&box);
	box_close(&box);
}

static void during_halt(uint32_t irqchip)
{
	struct box box;

	box_open(&box, 1, irqchip);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xf4, 0xeb, 0xfd));
	for (int i = 0; i < 5; i++)
		kicked_run(&box);
	box_close(&box);
}

Test(kicks, during_a_halt_with_the_full_irqchip, .timeout = 60)
{
	during_halt(IMPOST_IRQCHIP_FULL);
}

Test(kicks, during_a_halt_with_local_apics, .timeout = 60)
{
	during_halt(IMPOST_IRQCHIP_LAPIC);
}

/* An application processor that nobody has started is inside run, too. */
Test(kicks, while_waiting_for_init, .timeout = 60)
{
	struct impost_vcpu *second;
	struct impost_exit exit;
	pthread_t thread;
	struct box box;

	box_open(&box, 2, IMPOST_IRQCHIP_FULL);
	box_need(&box, IMPOST_CAP_EXECUTES);
	OK(&box, impost_vcpu_create(box.vm, 1, &second));
	cr_assert_eq(pthread_create(&thread, NULL, kick_late, second), 0);
	run_to(&box, second, IMPOST_EXIT_INTR, &exit);
	pthread_join(thread, NULL);
	OK(&box, impost_vcpu_destroy(second));
	box_close(&box);
}

struct load {
	struct impost_vcpu *vcpu;
	_Atomic uint64_t seen; /* INTR exits */
	_Atomic int stop;
	_Atomic int failed;
	uint64_t others;
	uint32_t signal;
	int left_pending;
};

static void *run_until_stopped(void *arg)
{
	struct load *load = arg;
	sigset_t pending;

	while (!atomic_load(&load->stop)) {
		struct impost_exit exit;

		if (impost_vcpu_run(load->vcpu, &exit)) {
			atomic_store(&load->failed, 1);
			break;
		}
		if (exit.kind == IMPOST_EXIT_INTR)
			atomic_fetch_add(&load->seen, 1);
		else
			load->others++;
	}
	sigpending(&pending);
	load->left_pending = sigismember(&pending, (int)load->signal);
	return NULL;
}

static _Atomic uint64_t handled;

static void count_signal(int number)
{
	(void)number;
	atomic_fetch_add(&handled, 1);
}

/* KICKS kicks, each of which must be seen before the next is sent: one that were lost would be
 * waited for in vain. */
static void under_load(const uint8_t *code, size_t bytes, uint64_t kicks, uint32_t kick_by)
{
	const struct sigaction action = {.sa_handler = count_signal};
	struct load load = {.stop = 0};
	pthread_t thread;
	struct box box;

	box_open_kicked_by(&box, 1, IMPOST_IRQCHIP_DEFAULT, kick_by);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, code, bytes);
	load.vcpu = box.vcpu;
	load.signal = impost_vm_config(box.vm)->kick_signal;
	sigaction((int)load.signal, &action, NULL);
	cr_assert_eq(pthread_create(&thread, NULL, run_until_stopped, &load), 0);
	for (uint64_t i = 1; i <= kicks; i++) {
		uint64_t deadline = now_ns() + UINT64_C(20000000000);

		OK(&box, impost_vcpu_kick(box.vcpu));
		while (atomic_load(&load.seen) < i)
			cr_assert(now_ns() < deadline && !atomic_load(&load.failed),
				  "kick %llu was lost", (unsigned long long)i);
		/* Sometimes at once, sometimes when the guest is well under way. */
		for (uint64_t n = random64() % 2000; n; n--)
			__asm__ volatile("pause");
	}
	atomic_store(&load.stop, 1);
	OK(&box, impost_vcpu_kick(box.vcpu));
	pthread_join(thread, NULL);
	cr_assert_eq(atomic_load(&load.failed), 0);
	cr_assert_eq(load.left_pending, 0, "a signal stayed behind");
	/* What run sees is the kicks, each once: the last may be seen before the loop looks at
	 * stop. */
	cr_assert_leq(atomic_load(&load.seen), kicks + 1, "run was interrupted by no kick");
	if (kick_by == IMPOST_KICK_MASK)
		cr_assert_eq(atomic_load(&handled), 0, "a handler was called");
	else
		cr_assert_leq(atomic_load(&handled), kicks + 1, "more signals than kicks");
	box_close(&box);
}

Test(kicks, thousands_in_a_busy_loop, .timeout = 240)
{
	under_load(GUEST(0xeb, 0xfe), 3000, IMPOST_KICK_MASK);
}

Test(kicks, thousands_among_port_accesses, .timeout = 240)
{
	under_load(GUEST(0xe6, 0x80, 0xeb, 0xfc), 3000, IMPOST_KICK_MASK);
}

Test(kicks, thousands_by_a_handler_in_a_busy_loop, .timeout = 240)
{
	under_load(GUEST(0xeb, 0xfe), 3000, IMPOST_KICK_HANDLER);
}

Test(kicks, thousands_by_a_handler_among_port_accesses, .timeout = 240)
{
	under_load(GUEST(0xe6, 0x80, 0xeb, 0xfc), 3000, IMPOST_KICK_HANDLER);
}

/* A backend that kicks without the signal asks for no handler; and sends none, which would be the
 * end of the test. */
static void kicked_without_signal(struct box *box)
{
	enter_real(box, box->vcpu, GUEST(0xeb, 0xfe));
	for (int i = 0; i < 5; i++)
		kicked_run(box);
}

/* A host that does not keep its word is told so, and neither loses a kick nor its life. */
Test(kicks, a_handler_that_is_not_there, .timeout = 60)
{
	const struct sigaction action = {.sa_handler = count_signal};
	struct impost_exit exit;
	sigset_t set;
	struct box box;
	int number, err;

	box_open_kicked_by(&box, 1, IMPOST_IRQCHIP_DEFAULT, IMPOST_KICK_HANDLER);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xe6, 0x80, 0xeb, 0xfc));
	number = (int)impost_vm_config(box.vm)->kick_signal;
	err = impost_vcpu_run(box.vcpu, &exit);
	if (err == 0) {
		finish(&box, box.vcpu);
		kicked_without_signal(&box);
		box_close(&box);
		return;
	}
	cr_assert_eq(err, -EINVAL);
	cr_assert(strstr(impost_error(box.ctx), "has no handler"), "%s", impost_error(box.ctx));
	sigaction(number, &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, number);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	cr_assert_eq(impost_vcpu_run(box.vcpu, &exit), -EINVAL);
	cr_assert(strstr(impost_error(box.ctx), "is blocked"), "%s", impost_error(box.ctx));
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	box_close(&box);
}

struct kicker {
	struct impost_vcpu *vcpu;
	int failed;
};

static void *kick_often(void *arg)
{
	struct kicker *kicker = arg;

	for (int i = 0; i < 2000; i++)
		kicker->failed |= impost_vcpu_kick(kicker->vcpu) != 0;
	return NULL;
}

/* Kicks that meet count as one, and every exit beside them is there all the same. */
Test(kicks, several_kickers_lose_no_exit, .timeout = 240)
{
	struct kicker kickers[3];
	pthread_t threads[3];
	uint16_t expected = 0;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	/* again: out 0x80, ax; inc ax; jmp again */
	enter_real(&box, box.vcpu, GUEST(0xe7, 0x80, 0x40, 0xeb, 0xfb));
	for (int i = 0; i < 3; i++) {
		kickers[i] = (struct kicker){.vcpu = box.vcpu};
		cr_assert_eq(pthread_create(&threads[i], NULL, kick_often, &kickers[i]), 0);
	}
	while (expected < 5000) {
		OK(&box, impost_vcpu_run(box.vcpu, &exit));
		if (exit.kind == IMPOST_EXIT_INTR)
			continue;
		cr_assert_eq(exit.kind, IMPOST_EXIT_IO);
		cr_assert_eq(*(uint16_t *)exit.u.io.data, expected, "an exit was lost or doubled");
		expected++;
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_eq(kickers[i].failed, 0);
	}
	box_close(&box);
}

/* The answer to the exit before the kick is taken once, by the run that goes on. */
Test(kicks, between_an_exit_and_its_answer, .timeout = 60)
{
	struct impost_exit exit, none;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	/* again: in al, 0x80; inc al; out 0x81, al; jmp again */
	enter_real(&box, box.vcpu, GUEST(0xe4, 0x80, 0xfe, 0xc0, 0xe6, 0x81, 0xeb, 0xf8));
	for (uint8_t i = 0; i < 50; i++) {
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_READ);
		memcpy(exit.u.io.data, &i, 1);
		OK(&box, impost_vcpu_kick(box.vcpu));
		run_to(&box, box.vcpu, IMPOST_EXIT_INTR, &none);
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_WRITE);
		cr_assert_eq(*(uint8_t *)exit.u.io.data, i + 1);
	}
	box_close(&box);
}

struct signaller {
	pthread_t target;
	_Atomic int stop;
};

/* One that comes before run is entered does not end it: so again and again. */
static void *signal_often(void *arg)
{
	struct signaller *s = arg;

	while (!atomic_load(&s->stop)) {
		sleep_ms(30);
		if (pthread_kill(s->target, SIGUSR1))
			return arg;
	}
	return NULL;
}

Test(kicks, another_signal_ends_run_too, .timeout = 60)
{
	const struct sigaction action = {.sa_handler = count_signal};
	struct signaller signaller = {.target = pthread_self()};
	struct impost_exit exit;
	pthread_t thread;
	struct box box;
	void *failed;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xeb, 0xfe));
	sigaction(SIGUSR1, &action, NULL);
	cr_assert_eq(pthread_create(&thread, NULL, signal_often, &signaller), 0);
	run_to(&box, box.vcpu, IMPOST_EXIT_INTR, &exit);
	atomic_store(&signaller.stop, 1);
	pthread_join(thread, &failed);
	cr_assert_null(failed, "no signal could be sent");
	cr_assert_geq(atomic_load(&handled), 1, "the handler of the host's own signal");
	box_close(&box);
}

static void *run_once(void *arg)
{
	struct impost_exit exit;

	return impost_vcpu_run(arg, &exit) || exit.kind != IMPOST_EXIT_INTR ? arg : NULL;
}

/* A vCPU may move from thread to thread; each is prepared when it comes. */
Test(kicks, each_thread_that_runs_the_vcpu, .timeout = 60)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xeb, 0xfe));
	for (int i = 0; i < 5; i++) {
		pthread_t thread;
		void *failed;

		cr_assert_eq(pthread_create(&thread, NULL, run_once, box.vcpu), 0);
		sleep_ms(20);
		OK(&box, impost_vcpu_kick(box.vcpu));
		pthread_join(thread, &failed);
		cr_assert_null(failed);
		kicked_run(&box);
	}
	box_close(&box);
}

/* Puts the calling thread on the first CPU that the process may use. */
static void share_a_cpu(void)
{
	cpu_set_t may, one;

	CPU_ZERO(&one);
	cr_assert_eq(sched_getaffinity(0, sizeof(may), &may), 0);
	for (size_t cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &may))
			CPU_SET(cpu, &one);
	cr_assert_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

/*
 * A real-time thread that a kick wakes takes the CPU from the kicker before that one is done, and
 * must not wait for it in a way that keeps it from going on.
 */
Test(kicks, real_time_thread_on_the_kickers_cpu, .timeout = 120)
{
	const struct sched_param priority = {.sched_priority = 1};
	struct load load = {.stop = 0};
	struct timespec used;
	struct box box;
	pthread_t thread;
	clockid_t clock;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xf4, 0xeb, 0xfd));
	load.vcpu = box.vcpu;
	load.signal = impost_vm_config(box.vm)->kick_signal;
	share_a_cpu();
	cr_assert_eq(pthread_create(&thread, NULL, run_until_stopped, &load), 0);
	if (pthread_setschedparam(thread, SCHED_FIFO, &priority)) {
		atomic_store(&load.stop, 1);
		OK(&box, impost_vcpu_kick(box.vcpu));
		pthread_join(thread, NULL);
		box_close(&box);
		cr_skip_test("this user may make no real-time threads");
	}
	/*
	 * Only the scheduler's throttling ends such a wait, after 0.95 s of the thread's own time;
	 * for 0.05 s others run then. With longer pauses each kick meets a wait: 4.75 s in all.
	 */
	for (int i = 0; i < 5; i++) {
		sleep_ms(100);
		OK(&box, impost_vcpu_kick(box.vcpu));
	}
	cr_assert_eq(pthread_getcpuclockid(thread, &clock), 0);
	cr_assert_eq(clock_gettime(clock, &used), 0);
	cr_assert_lt(used.tv_sec, 2, "kickers are kept waiting");
	atomic_store(&load.stop, 1);
	OK(&box, impost_vcpu_kick(box.vcpu));
	pthread_join(thread, NULL);
	cr_assert_eq(atomic_load(&load.failed), 0);
	box_close(&box);
}
