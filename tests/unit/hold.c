/* SPDX-License-Identifier: Apache-2.0 */
/* impost_vm_hold(): when a VM is held, what may be done meanwhile, and what failure leaves. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "mock.h"

#define LONG_MS 20000u

/* A thread that runs a vCPU until it is told to stop, and answers reads with 0x5a. */
struct runner {
	struct mock *m;
	struct impost_vcpu *cpu;
	pthread_t thread;
	atomic_uint exits, intrs, stop;
	atomic_int failed; /* what run has returned */
	atomic_int tid;
};

static void *run_on(void *arg)
{
	struct runner *r = arg;
	struct impost_exit x;

	atomic_store(&r->tid, gettid());
	while (!atomic_load(&r->stop)) {
		int err = impost_vcpu_run(r->cpu, &x);

		if (err) {
			atomic_store(&r->failed, err);
			break;
		}
		if (x.kind == IMPOST_EXIT_IO && x.u.io.dir == IMPOST_EXIT_READ)
			memset(x.u.io.data, 0x5a, x.u.io.size);
		atomic_fetch_add(x.kind == IMPOST_EXIT_INTR ? &r->intrs : &r->exits, 1);
	}
	return NULL;
}

static void sleep_ms(long ms)
{
	const struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

/* The state of a thread, as proc_pid_stat(5) has it behind the name: 'S' sleeps. */
static char thread_state(int tid)
{
	char path[64], text[256] = "";
	const char *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	cr_assert_not_null(file);
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	end = strrchr(text, ')');
	return end && end[1] == ' ' ? end[2] : '?';
}

/* Comes back when the thread waits inside run: it sleeps nowhere else. */
static void start(struct runner *r, struct mock *m, uint32_t cpu)
{
	memset(r, 0, sizeof(*r));
	r->m = m;
	r->cpu = m->cpu[cpu];
	cr_assert_eq(pthread_create(&r->thread, NULL, run_on, r), 0);
	for (unsigned i = 0; i < LONG_MS; i++) {
		int tid = atomic_load(&r->tid);

		if (tid && thread_state(tid) == 'S')
			return;
		sleep_ms(1);
	}
	cr_assert_fail("the thread does not come to wait");
}

static void stop(struct runner *r)
{
	atomic_store(&r->stop, 1);
	cr_assert_eq(impost_vcpu_kick(r->cpu), 0);
	pthread_join(r->thread, NULL);
	cr_assert_eq(atomic_load(&r->failed), 0);
}

static void wait_for(atomic_uint *counter, unsigned least)
{
	for (unsigned i = 0; i < LONG_MS && atomic_load(counter) < least; i++)
		sleep_ms(1);
	cr_assert_geq(atomic_load(counter), least);
}

static void hold(struct mock *m)
{
	cr_assert_eq(impost_vm_hold(m->vm, LONG_MS), 0, "%s", impost_error(m->ctx));
}

static void let_go(struct mock *m)
{
	cr_assert_eq(impost_vm_release(m->vm), 0, "%s", impost_error(m->ctx));
}

static void expect(struct mock *m, int got, int err, const char *text)
{
	cr_assert_eq(got, err, "%d, not %d", got, err);
	cr_assert(strstr(impost_error(m->ctx), text), "%s", impost_error(m->ctx));
}

static const struct impost_mock_step in_port = {
	.size = sizeof(in_port),
	.op = IMPOST_MOCK_EXIT,
	.exit = {.kind = IMPOST_EXIT_IO,
		 .u.io = {.port = 0x60, .size = 1, .dir = IMPOST_EXIT_READ, .count = 1}}};

Test(hold, once_at_a_time)
{
	struct mock m;

	mock_open(&m, NULL);
	expect(&m, impost_vm_release(m.vm), -EINVAL, "not held");
	hold(&m);
	expect(&m, impost_vm_hold(m.vm, 0), -EALREADY, "held already");
	let_go(&m);
	expect(&m, impost_vm_release(m.vm), -EINVAL, "not held");
	hold(&m);
	/* A VM may end as it is. */
	mock_close(&m);
}

/* Threads wait inside run; nothing of the guest happens, and nobody hears of it. */
Test(hold, threads_wait_inside_run)
{
	struct impost_x86_regs regs;
	struct runner r[3];
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 3, NULL, NULL);
	for (uint32_t i = 0; i < 3; i++)
		start(&r[i], &m, i);
	for (int round = 0; round < 50; round++) {
		hold(&m);
		for (uint32_t i = 0; i < 3; i++) {
			unsigned exits = atomic_load(&r[i].exits);

			append(&m, i, &in_port, 1);
			cr_assert_eq(impost_vcpu_get_regs(m.cpu[i], &regs), 0, "%s",
				     impost_error(m.ctx));
			cr_assert_eq(impost_vcpu_set_regs(m.cpu[i], &regs), 0);
			cr_assert_eq(atomic_load(&r[i].exits), exits);
		}
		let_go(&m);
		for (uint32_t i = 0; i < 3; i++)
			wait_for(&r[i].exits, (unsigned)round + 1);
	}
	for (uint32_t i = 0; i < 3; i++) {
		cr_assert_eq(atomic_load(&r[i].intrs), 0, "an INTR that nobody asked for");
		stop(&r[i]);
	}
	mock_close(&m);
}

/* An exit in the host's hands is waited for, and finished when it comes back. */
Test(hold, waits_for_an_exit_in_hand)
{
	struct impost_exit x;
	struct mock m;

	mock_open(&m, NULL);
	append(&m, 0, (struct impost_mock_step[]){in_port, in_port}, 2);
	x = run_to(&m, IMPOST_EXIT_IO);
	impost_error_set(m.ctx, -EINVAL, "what was wrong before");
	expect(&m, impost_vm_hold(m.vm, 30), -ETIMEDOUT,
	       "within 30 ms: vCPU 0: its last exit has not come back");
	/* As it was: the answer is taken, and the guest runs. */
	memset(x.u.io.data, 0x11, 1);
	x = run_to(&m, IMPOST_EXIT_IO);
	memset(x.u.io.data, 0x22, 1);
	cr_assert_eq(impost_vcpu_complete(m.cpu[0], &x), 0);
	impost_error_set(m.ctx, -EINVAL, "what was wrong before");
	cr_assert_eq(impost_vm_hold(m.vm, 0), 0, "%s", impost_error(m.ctx));
	cr_assert_eq(rax(&m), 0x22);
	cr_assert_str_eq(impost_error(m.ctx), "what was wrong before");
	let_go(&m);
	mock_close(&m);
}

struct holder {
	struct mock *m;
	atomic_uint done;
	int result;
};

static void *hold_beside(void *arg)
{
	struct holder *h = arg;

	h->result = impost_vm_hold(h->m->vm, LONG_MS);
	atomic_store(&h->done, 1);
	return NULL;
}

Test(hold, finishes_what_comes_back)
{
	struct impost_mock_step expects = in_port;
	struct holder h = {0};
	struct impost_exit x;
	pthread_t thread;
	struct runner r;
	struct mock m;

	expects.has_expect = 1;
	expects.expect = 0x5a;
	mock_open(&m, NULL);
	append(&m, 0, &expects, 1);
	x = run_to(&m, IMPOST_EXIT_IO);
	h.m = &m;
	cr_assert_eq(pthread_create(&thread, NULL, hold_beside, &h), 0);
	sleep_ms(50);
	cr_assert_eq(atomic_load(&h.done), 0, "held while an exit was in hand");
	/* With a wrong answer the run fails, and is in hand still. */
	memset(x.u.io.data, 0x11, 1);
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), -IMPOST_EDIVERGED);
	sleep_ms(50);
	cr_assert_eq(atomic_load(&h.done), 0, "held while an exit was in hand");
	memset(x.u.io.data, 0x5a, 1);
	start(&r, &m, 0);
	pthread_join(thread, NULL);
	cr_assert_eq(h.result, 0);
	cr_assert_eq(rax(&m), 0x5a);
	let_go(&m);
	stop(&r);
	mock_close(&m);
}

/* A kick of the host's ends a run that waits, once. */
Test(hold, a_kick_is_not_lost)
{
	struct runner r;
	struct mock m;

	mock_open(&m, NULL);
	start(&r, &m, 0);
	hold(&m);
	for (unsigned i = 1; i <= 200; i++) {
		cr_assert_eq(impost_vcpu_kick(m.cpu[0]), 0);
		wait_for(&r.intrs, i);
	}
	let_go(&m);
	append(&m, 0, &in_port, 1);
	wait_for(&r.exits, 1);
	cr_assert_eq(atomic_load(&r.intrs), 200, "a kick was seen twice");
	stop(&r);
	mock_close(&m);
}

/* One that comes before the hold is seen, too, whatever the hold's own does. */
Test(hold, a_kick_before_is_not_lost)
{
	struct impost_exit x;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vcpu_kick(m.cpu[0]), 0);
	hold(&m);
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), 0);
	cr_assert_eq(x.kind, IMPOST_EXIT_INTR);
	let_go(&m);
	append(&m, 0, &in_port, 1);
	run_to(&m, IMPOST_EXIT_IO);
	mock_close(&m);
}

Test(hold, vcpus_come_and_go)
{
	struct impost_exit x;
	struct runner r;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	cr_assert_eq(impost_vcpu_destroy(m.cpu[1]), 0);
	start(&r, &m, 0);
	hold(&m);
	expect(&m, impost_vcpu_destroy(m.cpu[0]), -EBUSY, "another call is inside");
	expect(&m, impost_vcpu_run(m.cpu[0], &x), -EBUSY, "another call is inside");
	cr_assert_eq(impost_vcpu_create(m.vm, 1, &m.cpu[1]), 0);
	cr_assert_eq(impost_vcpu_destroy(m.cpu[1]), 0);
	cr_assert_eq(impost_vcpu_create(m.vm, 1, &m.cpu[1]), 0);
	stop(&r);
	start(&r, &m, 1); /* the new one is held */
	append(&m, 1, &in_port, 1);
	sleep_ms(20);
	cr_assert_eq(atomic_load(&r.exits), 0);
	stop(&r);
	cr_assert_eq(impost_vcpu_destroy(m.cpu[0]), 0);
	m.cpu[0] = NULL;
	let_go(&m);
	mock_close(&m);
}

/* The VM is paused in the hypervisor, and stays so if the host wants it. */
Test(hold, with_the_hosts_own_pause)
{
	struct impost_exit x;
	struct mock m;

	mock_open(&m, NULL);
	append(&m, 0, &in_port, 1);
	cr_assert_eq(impost_vm_pause(m.vm), 0);
	hold(&m);
	cr_assert_eq(impost_vm_resume(m.vm), 0);
	cr_assert_eq(impost_vm_pause(m.vm), 0);
	let_go(&m);
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), 0);
	cr_assert_eq(x.kind, IMPOST_EXIT_INTR, "paused by the host still");
	hold(&m);
	cr_assert_eq(impost_vm_resume(m.vm), 0);
	let_go(&m);
	run_to(&m, IMPOST_EXIT_IO);
	mock_close(&m);
}

static int leave_at_once(void *opaque, struct impost_vcpu *cpu, struct impost_exit *x)
{
	(void)cpu;
	memset(x->u.io.data, 0x33, 1);
	atomic_fetch_add((atomic_uint *)opaque, 1);
	return 0;
}

struct loop {
	struct impost_vcpu *cpu;
	atomic_uint handled;
	struct impost_exit last;
	int result;
};

static void *loop(void *arg)
{
	const struct impost_handlers handlers = {.size = sizeof(handlers), .io = leave_at_once};
	struct loop *l = arg;

	l->result = impost_vcpu_loop(l->cpu, &handlers, &l->handled, &l->last);
	return NULL;
}

/* A loop waits as a run does, and a kick ends it. */
Test(hold, a_loop)
{
	struct loop l = {0};
	pthread_t thread;
	struct mock m;

	mock_open(&m, NULL);
	l.cpu = m.cpu[0];
	cr_assert_eq(pthread_create(&thread, NULL, loop, &l), 0);
	for (unsigned i = 1; i <= 20; i++) {
		hold(&m);
		append(&m, 0, &in_port, 1);
		let_go(&m);
		wait_for(&l.handled, i);
	}
	hold(&m);
	cr_assert_eq(impost_vcpu_kick(m.cpu[0]), 0);
	pthread_join(thread, NULL);
	cr_assert_eq(l.result, 0);
	cr_assert_eq(l.last.kind, IMPOST_EXIT_INTR);
	cr_assert_eq(rax(&m) & 0xff, 0x33);
	let_go(&m);
	mock_close(&m);
}
