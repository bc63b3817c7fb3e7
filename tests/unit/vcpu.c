/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU: its life, one thread inside, the loop and its handlers, and checks before the backend.
 */
#include <pthread.h>
#include <stdlib.h>

#include "core.h"

#define PLAIN "mem-host,irqchip-none,complete,nmi,irq-inject"

static struct impost_context *ctx;
static struct impost_vm *vm;
static struct fake *fake;
static struct impost_vcpu *vcpu;

static void begin(void)
{
	ctx = open_context();
	expect_ok(ctx, impost_context_set(ctx, "vm", "cpus", "2"));
	vm = make_vm(ctx, PLAIN, &fake);
	expect_ok(ctx, impost_vcpu_create(vm, 0, &vcpu));
}

static void end(void)
{
	cr_expect(impost_vcpu_destroy(vcpu) == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
	cr_expect(impost_context_close(ctx) == 0);
}

TestSuite(vcpu, .init = begin, .fini = end);

static const struct impost_handlers no_handlers = {.size = sizeof(no_handlers)};

Test(vcpu, lives)
{
	struct impost_vcpu *other = NULL;

	cr_expect(impost_vcpu_id(vcpu) == 0 && impost_vcpu_vm(vcpu) == vm);
	expect_error(ctx, impost_vcpu_create(vm, 0, &other), -EEXIST, "vCPU 0 is there already");
	expect_error(ctx, impost_vcpu_create(vm, 8, &other), -EINVAL, "ids 0 to 7");
	fake->fail_op = "vcpu_create";
	fake->fail_with = -ENOMEM;
	expect_error(ctx, impost_vcpu_create(vm, 7, &other), -ENOMEM, "vcpu_create failed");
	fake->fail_op = NULL;
	expect_ok(ctx, impost_vcpu_create(vm, 7, &other));
	cr_expect(impost_vcpu_id(other) == 7);
	expect_error(ctx, impost_vcpu_create(vm, 1, &other), -ENOSPC, "was made for 2");
	cr_expect(impost_vcpu_destroy(other) == 0);
	expect_ok(ctx, impost_vcpu_create(vm, 1, &other));
	cr_expect(impost_vcpu_destroy(other) == 0);
	cr_expect(impost_vcpu_destroy(NULL) == 0);
}

static void *run_blocked(void *arg)
{
	struct impost_exit exit;

	return impost_vcpu_run(vcpu, &exit) ? arg : NULL;
}

Test(vcpu, one_thread_is_inside)
{
	struct impost_x86_regs regs;
	struct impost_exit exit;
	pthread_t thread;
	void *failed;

	fake->block = 1;
	cr_assert(pthread_create(&thread, NULL, run_blocked, vm) == 0);
	sem_wait(&fake->inside);
	expect_error(ctx, impost_vcpu_run(vcpu, &exit), -EBUSY, "another call is inside");
	expect_error(ctx, impost_vcpu_complete(vcpu, &exit), -EBUSY, "inside");
	expect_error(ctx, impost_vcpu_get_regs(vcpu, &regs), -EBUSY, "inside");
	expect_error(ctx, impost_vcpu_nmi(vcpu), -EBUSY, "inside");
	expect_error(ctx, impost_vcpu_destroy(vcpu), -EBUSY, "inside");
	expect_error(ctx, impost_vcpu_loop(vcpu, &no_handlers, NULL, &exit), -EBUSY, "inside");
	cr_expect(impost_vcpu_kick(vcpu) == 0 && fake->kicks == 1); /* the exception */
	sem_post(&fake->go[0]);
	pthread_join(thread, &failed);
	cr_expect(!failed);
	fake->block = 0;
	expect_ok(ctx, impost_vcpu_run(vcpu, &exit));
}

Test(vcpu, what_run_fails_with_is_told)
{
	struct impost_exit exit;

	fake->fail_op = "run";
	fake->fail_with = -EFAULT;
	fake->fail_text = "the hypervisor is not well";
	expect_error(ctx, impost_vcpu_run(vcpu, &exit), -EFAULT, "the hypervisor is not well");
	expect_error(ctx, impost_vcpu_loop(vcpu, &no_handlers, NULL, &exit), -EFAULT, "not well");
	fake->fail_text = NULL;
	fake->fail_with = 3;
	expect_error(ctx, impost_vcpu_run(vcpu, &exit), -EIO, "run returned 3, which is no result");
	fake->fail_op = NULL;
	expect_ok(ctx, impost_vcpu_run(vcpu, &exit));
}

/* --- the loop --- */

struct seen {
	uint32_t kinds[64];
	uint32_t count;
	int result; /* of the handler for `last` */
	uint32_t last;
};

static int see(void *opaque, struct impost_vcpu *of, struct impost_exit *exit)
{
	struct seen *seen = opaque;

	cr_expect(of == vcpu);
	seen->kinds[seen->count++] = exit->kind;
	return exit->kind == seen->last ? seen->result : 0;
}

static const struct impost_handlers all = {
	.size = sizeof(all),
	.io = see,
	.mmio = see,
	.msr = see,
	.hypercall = see,
	.intr = see,
	.other = see,
};

static void script(const uint32_t *kinds, uint32_t count)
{
	fake->exits = count;
	fake->played = 0;
	for (uint32_t i = 0; i < count; i++)
		fake->exit[i] =
			(struct impost_exit){.size = sizeof(fake->exit[i]), .kind = kinds[i]};
}

Test(vcpu, each_exit_has_its_handler)
{
	static const uint32_t kinds[] = {IMPOST_EXIT_IO,	IMPOST_EXIT_MMIO,
					 IMPOST_EXIT_RDMSR,	IMPOST_EXIT_WRMSR,
					 IMPOST_EXIT_HYPERCALL, IMPOST_EXIT_INTR,
					 IMPOST_EXIT_HLT,	IMPOST_EXIT_SHUTDOWN};
	struct seen seen = {.last = IMPOST_EXIT_SHUTDOWN, .result = 1};
	struct impost_exit exit = {0};

	script(kinds, 8);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &all, &seen, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_SHUTDOWN);
	cr_expect(seen.count == 8 && memcmp(seen.kinds, kinds, sizeof(kinds)) == 0);

	seen = (struct seen){.last = IMPOST_EXIT_MMIO, .result = -ENXIO};
	exit.kind = 77;
	script(kinds, 8);
	cr_expect(impost_vcpu_loop(vcpu, &all, &seen, &exit) == -ENXIO);
	cr_expect(seen.count == 2 && exit.kind == 77);
}

Test(vcpu, exits_without_handlers_have_defaults)
{
	struct impost_handlers none = {.size = sizeof(none)};
	uint32_t in = 0, out = 0x1234, mmio = 0;
	uint64_t result = 0;
	uint8_t refused = 0;
	struct impost_exit exit;

	script((uint32_t[]){IMPOST_EXIT_IO, IMPOST_EXIT_IO, IMPOST_EXIT_MMIO, IMPOST_EXIT_RDMSR,
			    IMPOST_EXIT_HYPERCALL, IMPOST_EXIT_INTR, IMPOST_EXIT_HLT},
	       7);
	fake->exit[0].u.io = (struct impost_exit_io){1, 2, IMPOST_EXIT_READ, 1, &in};
	fake->exit[1].u.io = (struct impost_exit_io){1, 2, IMPOST_EXIT_WRITE, 1, &out};
	fake->exit[2].u.mmio = (struct impost_exit_mmio){
		.size = 1, .dir = IMPOST_EXIT_READ, .count = 3, .data = &mmio};
	fake->exit[3].u.msr = (struct impost_exit_msr){.value = &result, .refused = &refused};
	fake->exit[4].u.hypercall.result = &result;
	expect_ok(ctx, impost_vcpu_loop(vcpu, &none, NULL, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_INTR);
	cr_expect(in == 0xffff && out == 0x1234 && mmio == 0xffffff);
	cr_expect(refused == 1 && result == (uint64_t)-ENOSYS);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &none, NULL, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_HLT);
}

/* Handlers of an older host, whose struct was shorter. */
Test(vcpu, shorter_handlers)
{
	struct seen seen = {.last = IMPOST_EXIT_IO, .result = 1};
	struct impost_handlers shorter = all;
	struct impost_exit exit;

	shorter.size = offsetof(struct impost_handlers, mmio);
	script((uint32_t[]){IMPOST_EXIT_MMIO, IMPOST_EXIT_IO}, 2);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &shorter, &seen, &exit));
	cr_expect(seen.count == 1 && seen.kinds[0] == IMPOST_EXIT_IO);
}

/* --- answers in the middle of a run --- */

Test(vcpu, a_backend_may_ask_in_the_middle)
{
	struct seen seen = {.last = IMPOST_EXIT_SHUTDOWN, .result = 1};
	struct impost_exit exit;

	fake->ask = 1; /* the first exit of each run is asked for, the second returned */
	script((uint32_t[]){IMPOST_EXIT_IO, IMPOST_EXIT_HLT, IMPOST_EXIT_MMIO,
			    IMPOST_EXIT_SHUTDOWN},
	       4);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &all, &seen, &exit));
	cr_expect(seen.count == 4 && seen.kinds[0] == IMPOST_EXIT_IO &&
		  seen.kinds[1] == IMPOST_EXIT_HLT);
	cr_expect(fake->answered == 0 && fake->kicks == 0);
}

Test(vcpu, leaving_in_the_middle)
{
	struct seen seen = {.last = IMPOST_EXIT_IO, .result = 1};
	struct impost_exit exit;

	fake->ask = 1;
	script((uint32_t[]){IMPOST_EXIT_IO}, 1);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &all, &seen, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_IO && seen.count == 1);
	cr_expect(fake->answered == 0 && fake->kicks == 1, "run is to end soon");
	seen = (struct seen){.last = IMPOST_EXIT_IO, .result = -ENXIO};
	script((uint32_t[]){IMPOST_EXIT_IO}, 1);
	cr_expect(impost_vcpu_loop(vcpu, &all, &seen, &exit) == -ENXIO);
	cr_expect(fake->answered == -ENXIO);
}

/* What the run itself ends with is not lost. */
Test(vcpu, leaving_in_the_middle_of_a_run_that_ends_otherwise)
{
	struct seen seen = {.last = IMPOST_EXIT_IO, .result = 1};
	struct impost_exit exit;

	fake->ask = 1;
	script((uint32_t[]){IMPOST_EXIT_IO, IMPOST_EXIT_MMIO}, 2);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &all, &seen, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_IO);
	cr_expect(seen.count == 2 && seen.kinds[1] == IMPOST_EXIT_MMIO);

	/* This exit leaves too, having no handler; told is that one. */
	seen.count = 0;
	script((uint32_t[]){IMPOST_EXIT_IO, IMPOST_EXIT_SHUTDOWN}, 2);
	expect_ok(ctx,
		  impost_vcpu_loop(vcpu, &(struct impost_handlers){.size = sizeof(all), .io = see},
				   &seen, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_SHUTDOWN && seen.count == 1);
}

static int spoil_run(void *opaque, struct impost_vcpu *of, struct impost_exit *exit)
{
	(void)opaque;
	(void)of;
	(void)exit;
	fake->fail_op = "kick";
	fake->fail_with = -EIO;
	return 1;
}

Test(vcpu, a_run_that_fails_after_a_handler_left_has_failed)
{
	struct impost_handlers handlers = {.size = sizeof(handlers), .io = spoil_run};
	struct impost_exit exit = {.kind = 77};

	fake->ask = 1;
	script((uint32_t[]){IMPOST_EXIT_IO}, 1);
	cr_expect(impost_vcpu_loop(vcpu, &handlers, NULL, &exit) == -EIO);
	cr_expect(exit.kind == 77);
}

Test(vcpu, a_host_without_callbacks_is_not_asked)
{
	struct impost_exit exit;

	fake->ask = 1;
	script((uint32_t[]){IMPOST_EXIT_IO}, 1);
	expect_ok(ctx, impost_vcpu_run(vcpu, &exit));
	cr_expect(fake->answered == -ENOTSUP && exit.kind == IMPOST_EXIT_INTR);
	cr_expect(fake->host->answer(fake->host->ctx, 5, &exit) == -ENOTSUP);
}

static int use_inside(void *opaque, struct impost_vcpu *of, struct impost_exit *exit)
{
	(void)exit;
	*(int *)opaque = impost_vcpu_nmi(of);
	return 1;
}

/* In the middle of a run the vCPU is busy; after it, it is not. */
Test(vcpu, handlers_and_the_vcpu)
{
	struct impost_handlers handlers = {.size = sizeof(handlers), .io = use_inside};
	struct impost_exit exit;
	int result = 7;

	script((uint32_t[]){IMPOST_EXIT_IO}, 1);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &handlers, &result, &exit));
	cr_expect(result == 0);
	fake->ask = 1;
	script((uint32_t[]){IMPOST_EXIT_IO}, 1);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &handlers, &result, &exit));
	cr_expect(result == -EBUSY);
}

struct inside {
	int loop, destroy, regs;
};

static int intrude(void *opaque, struct impost_vcpu *of, struct impost_exit *exit)
{
	struct inside *inside = opaque;
	struct impost_x86_regs regs;

	inside->loop = impost_vcpu_loop(of, &all, NULL, exit);
	inside->destroy = impost_vcpu_destroy(of);
	inside->regs = impost_vcpu_get_regs(of, &regs);
	return 1;
}

/* A handler may use the vCPU, but not take it away from the loop that it is in. */
Test(vcpu, one_loop_is_under_way)
{
	struct impost_handlers handlers = {.size = sizeof(handlers), .io = intrude};
	struct inside inside = {0};
	struct impost_exit exit;

	script((uint32_t[]){IMPOST_EXIT_IO}, 1);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &handlers, &inside, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_IO);
	cr_expect(inside.loop == -EBUSY && inside.destroy == -EBUSY && inside.regs == 0);
	expect_ok(ctx, impost_vcpu_loop(vcpu, &no_handlers, NULL, &exit));
}

/* --- checks --- */

Test(vcpu, what_a_backend_has_not)
{
	struct impost_guest_debug debug = {.size = sizeof(debug)};
	uint64_t gpa, buf[512];
	uint32_t size;

	expect_error(ctx, impost_vcpu_irq_window(vcpu, 1), -ENOTSUP, "has no irq-window");
	expect_error(ctx, impost_vcpu_guest_debug(vcpu, &debug), -ENOTSUP, "has no guest-debug");
	expect_error(ctx, impost_vcpu_translate(vcpu, 0, &gpa), -ENOTSUP, "has no translate");
	expect_error(ctx, impost_vcpu_set_cpuid(vcpu, NULL, 0), -ENOTSUP, "has no cpuid-per-vm");
	expect_error(ctx, impost_vcpu_get_msrs(vcpu, NULL, 0, NULL), -ENOTSUP,
		     "no operation msrs_get");
	expect_error(ctx, impost_vcpu_get(vcpu, IMPOST_SECTION_DEBUGREGS, buf, sizeof(buf), &size),
		     -ENOTSUP, "has no debugregs");
	expect_error(ctx, impost_vcpu_get(vcpu, IMPOST_SECTION_EVENTS, buf, sizeof(buf), &size),
		     -ENOTSUP, "has no events");
	expect_error(ctx, impost_vcpu_get(vcpu, 77, buf, sizeof(buf), &size), -EINVAL,
		     "state section 77");
	expect_error(ctx, impost_vcpu_irq_inject(vcpu, 256), -EINVAL, "vector 256");
	expect_ok(ctx, impost_vcpu_irq_inject(vcpu, 255));
	cr_expect(fake->arg[0] == 255);
	expect_ok(ctx, impost_vcpu_nmi(vcpu));
}

Test(vcpu, registers_are_typed)
{
	struct impost_x86_regs regs = {.size = 0, .rax = 1, .rip = 0x1000}, got = {0};
	struct impost_x86_sregs sregs;
	uint32_t size;

	expect_ok(ctx, impost_vcpu_set_regs(vcpu, &regs));
	cr_expect(fake->arg[0] == IMPOST_SECTION_REGS && fake->state_bytes == sizeof(regs));
	expect_ok(ctx, impost_vcpu_get_regs(vcpu, &got));
	cr_expect(got.size == sizeof(got) && got.rax == 1 && got.rip == 0x1000);

	/* A backend of an older minor knows less: the rest reads as zero. */
	memset(&got, 0xee, sizeof(got));
	fake->state_bytes = 16;
	expect_ok(ctx, impost_vcpu_get_regs(vcpu, &got));
	cr_expect(got.size == sizeof(got) && got.rax == 1 && got.rbx == 0 && got.rflags == 0);

	/* One of a newer minor knows more: what there is no room for here goes. */
	fake->state_bytes = 400;
	expect_ok(ctx, impost_vcpu_get_sregs(vcpu, &sregs));
	cr_expect(sregs.size == sizeof(sregs));
	expect_error(ctx, impost_vcpu_get(vcpu, IMPOST_SECTION_REGS, &got, sizeof(got), &size),
		     -ENOSPC, "state_get failed: ENOSPC");
	cr_expect(size == 400);

	memset(&got, 0xee, sizeof(got));
	fake->fail_op = "state_get";
	fake->fail_with = -EBUSY;
	expect_error(ctx, impost_vcpu_get_regs(vcpu, &got), -EBUSY, "state_get failed");
	cr_expect(got.rax == UINT64_C(0xeeeeeeeeeeeeeeee), "touched on failure");
}

Test(vcpu, sections_are_checked)
{
	struct impost_x86_lapic lapic = {.size = sizeof(lapic)};

	expect_error(ctx, impost_vcpu_set(vcpu, IMPOST_SECTION_LAPIC, &lapic, 100), -EINVAL,
		     "state section lapic: its size member says 1032 in 100 bytes");
	expect_error(ctx, impost_vcpu_set(vcpu, IMPOST_SECTION_VCPU_OPAQUE, &lapic, 16), -EINVAL,
		     "must be 48 at least");
	cr_expect(fake->calls == 1);
	lapic.size = 512;
	expect_ok(ctx, impost_vcpu_set(vcpu, IMPOST_SECTION_LAPIC, &lapic, 512));
}

Test(vcpu, msrs_say_how_many_are_done)
{
	struct impost_x86_msr msrs[4] = {{.index = 0x10}};
	uint32_t done = 77;

	fake->fail_op = "msrs_set";
	fake->fail_with = -IMPOST_ESTATE;
	fake->fail_text = "MSR 0x10: no";
	expect_error(ctx, impost_vcpu_set_msrs(vcpu, msrs, 4, &done), -IMPOST_ESTATE,
		     "MSR 0x10: no");
	cr_expect(done == 2);
	expect_error(ctx, impost_vcpu_set_msrs(vcpu, msrs, 4, NULL), -IMPOST_ESTATE,
		     "MSR 0x10: no");
}

/* What a backend says of numbers is judged before anybody counts on it. */
Test(vcpu, a_loop_needs_handlers_and_an_exit)
{
	struct impost_handlers unsized = {0};
	struct impost_exit exit;

	expect_error(ctx, impost_vcpu_create(vm, 1, NULL), -EINVAL, "ret_vcpu is NULL");
	expect_error(ctx, impost_vcpu_loop(vcpu, NULL, NULL, &exit), -EINVAL, "NULL");
	expect_error(ctx, impost_vcpu_loop(vcpu, &unsized, NULL, &exit), -EINVAL,
		     "struct impost_handlers has size 0");
	expect_error(ctx, impost_vcpu_loop(vcpu, &no_handlers, NULL, NULL), -EINVAL,
		     "ret_exit is NULL");
	expect_ok(ctx, impost_vcpu_loop(vcpu, &no_handlers, NULL, &exit));
}

Test(vcpu, numbers_that_cannot_be)
{
	struct impost_x86_msr msrs[4] = {{.index = 0x10}};
	struct impost_x86_cpuid cpuid[2];
	uint64_t buf[4];
	uint32_t count = 77;

	fake->state_bytes = sizeof(buf);
	expect_ok(ctx, impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, buf, sizeof(buf), &count));
	cr_expect(count == sizeof(buf));
	expect_ok(ctx, impost_vcpu_get_cpuid(vcpu, cpuid, 2, &count));
	cr_expect(count == 2);
	count = 77;
	cr_expect(impost_vcpu_get_cpuid(vcpu, cpuid, 1, &count) == -ENOSPC && count == 2);
	expect_ok(ctx, impost_vcpu_set_msrs(vcpu, msrs, 4, &count));
	cr_expect(count == 4);

	count = 77;
	fake->lie = 1;
	expect_error(ctx, impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, buf, sizeof(buf), &count),
		     -EIO, "state_get says that it gave 33 where there is room for 32");
	expect_error(ctx, impost_vcpu_get_cpuid(vcpu, cpuid, 2, &count), -EIO,
		     "cpuid_get says that it gave 3");
	cr_expect(count == 77, "touched on failure");
	expect_error(ctx, impost_vcpu_set_msrs(vcpu, msrs, 4, &count), -EIO, "5 of 4 MSRs");
	cr_expect(count == 4);
	fake->lie = (uint32_t)-1;
	expect_error(ctx, impost_vcpu_set_msrs(vcpu, msrs, 4, &count), -EIO, "3 of 4 MSRs");
	cr_expect(count == 3);
}

Test(vcpu, complete)
{
	struct impost_exit exit = {.kind = 77};

	expect_ok(ctx, impost_vcpu_complete(vcpu, &exit));
	cr_expect(exit.kind == IMPOST_EXIT_NONE);
}
