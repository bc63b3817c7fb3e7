/* SPDX-License-Identifier: Apache-2.0 */
/* impost_vm_hold() and _release() on a backend whose kick, pause or resume fails: the VM is as it
 * was, and runs on. And on one that takes long to be looked at. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "core.h"

#define LONG_MS 20000u

static struct impost_context *ctx;
static struct impost_vm *vm;
static struct fake *fake;

/* A thread that runs a vCPU until it is told to stop. The fake's run gives INTR alone. */
static struct runner {
	struct impost_vcpu *vcpu;
	pthread_t thread;
} runners[2];
static atomic_uint intrs, failures, leave;

static void *run(void *arg)
{
	const struct runner *runner = arg;
	struct impost_exit exit;

	while (!atomic_load(&leave)) {
		if (impost_vcpu_run(runner->vcpu, &exit))
			atomic_fetch_add(&failures, 1);
		else if (exit.kind == IMPOST_EXIT_INTR)
			atomic_fetch_add(&intrs, 1);
	}
	return NULL;
}

/* Each of COUNT vCPUs leaves once: who comes back does not leave in another's stead. */
static void go(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		sem_post(&fake->go[i]);
}

static void wait_inside(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		sem_wait(&fake->inside);
}

/* COUNT vCPUs, each with a thread that is inside run. */
static void begin(const char *caps, uint32_t count)
{
	ctx = open_context();
	expect_ok(ctx, impost_context_set(ctx, "vm", "cpus", "2"));
	vm = make_vm(ctx, caps, &fake);
	fake->block = 1;
	for (uint32_t i = 0; i < count; i++) {
		expect_ok(ctx, impost_vcpu_create(vm, i, &runners[i].vcpu));
		cr_assert_eq(pthread_create(&runners[i].thread, NULL, run, &runners[i]), 0);
	}
	wait_inside(count);
}

static void fail(const char *op, uint32_t skip)
{
	fake->fail_with = -EIO;
	fake->fail_skip = skip;
	fake->fail_op = op;
}

/* From now on run gives one INTR after the other. */
static void unblock(uint32_t count)
{
	fake->block = 0;
	go(count);
}

static void expect_running(void)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	unsigned before = atomic_load(&intrs);

	for (unsigned i = 0; i < LONG_MS && atomic_load(&intrs) == before; i++)
		nanosleep(&ms, NULL);
	cr_assert_neq(atomic_load(&intrs), before, "it does not run on");
}

/* The VM can be held, and let go, like any other. Its runs must not block. */
static void hold_and_release(void)
{
	unsigned before;

	expect_ok(ctx, impost_vm_hold(vm, LONG_MS));
	before = atomic_load(&intrs);
	expect_error(ctx, impost_vm_hold(vm, 0), -EALREADY, "held already");
	cr_assert_eq(atomic_load(&intrs), before);
	expect_ok(ctx, impost_vm_release(vm));
	expect_running();
}

static void end(uint32_t count)
{
	atomic_store(&leave, 1);
	for (uint32_t i = 0; i < count; i++) {
		pthread_join(runners[i].thread, NULL);
		cr_assert_eq(impost_vcpu_destroy(runners[i].vcpu), 0);
	}
	cr_assert_eq(atomic_load(&failures), 0);
	cr_assert_eq(fake->paused, 0);
	cr_assert_eq(impost_vm_destroy(vm), 0);
	cr_assert_eq(impost_context_close(ctx), 0);
}

TestSuite(hold_fails, .timeout = 120);

/* Of two vCPUs one was kicked: its INTR is nobody's. The other's is a signal's, and the host's. */
Test(hold_fails, at_a_kick)
{
	begin("mem-host,irqchip-none,complete", 2);
	fail("kick", 1);
	expect_error(ctx, impost_vm_hold(vm, LONG_MS), -EIO, "kick failed");
	cr_assert_eq(fake->kicks, 2);
	expect_error(ctx, impost_vm_release(vm), -EINVAL, "not held");
	go(2);
	wait_inside(2);
	cr_assert_eq(atomic_load(&intrs), 1);
	/* Who was not kicked has no kick to come: with the next one his INTR is not the host's. */
	fail("kick", 2);
	expect_error(ctx, impost_vm_hold(vm, 0), -ETIMEDOUT, "a thread is inside");
	go(2);
	wait_inside(2);
	cr_assert_eq(atomic_load(&intrs), 1);
	fail(NULL, 0);
	unblock(2);
	hold_and_release();
	end(2);
}

Test(hold_fails, at_the_pause)
{
	begin("mem-host,irqchip-none,complete,vm-pause", 1);
	fail("pause", 0);
	expect_error(ctx, impost_vm_hold(vm, LONG_MS), -EIO, "pause failed");
	expect_error(ctx, impost_vm_release(vm), -EINVAL, "not held");
	go(1);
	wait_inside(1);
	cr_assert_eq(atomic_load(&intrs), 0);
	/* Nor does a thread that waits in run already, because it was kicked, wait for ever. */
	unblock(1);
	for (int i = 0; i < 200; i++) {
		expect_error(ctx, impost_vm_hold(vm, LONG_MS), -EIO, "pause failed");
		expect_running();
	}
	fail(NULL, 0);
	hold_and_release();
	end(1);
}

/* What is told is why it is not held. The VM is paused still; the next release resumes it. */
Test(hold_fails, at_the_resume_after_a_timeout)
{
	begin("mem-host,irqchip-none,complete,vm-pause", 1);
	fail("resume", 0);
	expect_error(ctx, impost_vm_hold(vm, 20), -ETIMEDOUT, "vCPU 0: a thread is inside");
	cr_assert_eq(fake->paused, 1);
	fail(NULL, 0);
	unblock(1);
	hold_and_release();
	end(1);
}

/* Held still, and so can be released again. */
Test(hold_fails, release)
{
	begin("mem-host,irqchip-none,complete,vm-pause", 1);
	unblock(1);
	expect_ok(ctx, impost_vm_hold(vm, LONG_MS));
	fail("resume", 0);
	expect_error(ctx, impost_vm_release(vm), -EIO, "resume failed");
	expect_error(ctx, impost_vm_hold(vm, 0), -EALREADY, "held already");
	fail(NULL, 0);
	expect_ok(ctx, impost_vm_release(vm));
	expect_running();
	hold_and_release();
	end(1);
}

static atomic_uint begun;

static int leave_loop(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	(void)opaque;
	(void)vcpu;
	(void)exit;
	return 1;
}

static void *loop_once(void *arg)
{
	const struct impost_handlers handlers = {.size = sizeof(handlers), .intr = leave_loop};
	struct impost_vcpu *vcpu = arg;
	struct impost_exit exit;

	atomic_store(&begun, 1);
	return (void *)(intptr_t)impost_vcpu_loop(vcpu, &handlers, NULL, &exit);
}

static void *hold_on(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)impost_vm_hold(vm, LONG_MS);
}

/* The holder asks the backend whether a vCPU is settled. Who begins a loop meanwhile waits. */
Test(hold_fails, not_for_a_loop_that_begins)
{
	const struct timespec a_while = {.tv_nsec = 20000000};
	pthread_t holder, looper;
	struct impost_vcpu *vcpu;
	void *result;

	ctx = open_context();
	vm = make_vm(ctx, "mem-host,irqchip-none,complete", &fake);
	expect_ok(ctx, impost_vcpu_create(vm, 0, &vcpu));
	fake->stare = 1;
	cr_assert_eq(pthread_create(&holder, NULL, hold_on, NULL), 0);
	wait_inside(1);
	cr_assert_eq(pthread_create(&looper, NULL, loop_once, vcpu), 0);
	while (!atomic_load(&begun))
		nanosleep(&a_while, NULL);
	nanosleep(&a_while, NULL);
	fake->stare = 0;
	go(1);
	pthread_join(holder, &result);
	cr_assert_null(result);
	expect_ok(ctx, impost_vm_release(vm));
	pthread_join(looper, &result);
	cr_assert_null(result, "%ld", (long)(intptr_t)result);
	expect_ok(ctx, impost_vcpu_destroy(vcpu));
	cr_assert_eq(impost_vm_destroy(vm), 0);
	cr_assert_eq(impost_context_close(ctx), 0);
}
