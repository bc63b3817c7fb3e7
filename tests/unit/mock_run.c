/* SPDX-License-Identifier: Apache-2.0 */
/* Playing: answers, divergence, kicks, waits, time, pause, several vCPUs. */
#include "mock.h"

#include <pthread.h>
#include <time.h>

static const struct impost_mock_step halt = {.size = sizeof(halt), .op = IMPOST_MOCK_HALT};

static struct impost_mock_step exit_step(uint32_t kind)
{
	return (struct impost_mock_step){
		.size = sizeof(struct impost_mock_step), .op = IMPOST_MOCK_EXIT, .exit.kind = kind};
}

/* --- answers --- */

Test(mock_run, an_answer_goes_to_rax_in_its_size)
{
	static const struct {
		const char *step;
		uint64_t answer, rax;
	} rows[] = {
		{"in = 1 1", 0x7f, UINT64_C(0x112233445566777f)},
		{"in = 1 2", 0x7f7f, UINT64_C(0x1122334455667f7f)},
		{"in = 1 4", 0x7f7f7f7f, 0x7f7f7f7f},
		{"mmio-read = 0xfee00000 1", 0x7f, UINT64_C(0x112233445566777f)},
		{"mmio-read = 0xfee00000 4", 0x7f7f7f7f, 0x7f7f7f7f},
		{"mmio-read = 0xfee00000 8", UINT64_C(0xff00000000000001),
		 UINT64_C(0xff00000000000001)},
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char script[128];
		struct impost_exit x;
		struct mock m;

		snprintf(script, sizeof(script), "[vcpu 0]\nset = rax 0x1122334455667788\n%s\n",
			 rows[i].step);
		mock_open(&m, script);
		cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), 0);
		memcpy(x.kind == IMPOST_EXIT_IO ? x.u.io.data : x.u.mmio.data, &rows[i].answer,
		       x.kind == IMPOST_EXIT_IO ? x.u.io.size : x.u.mmio.size);
		cr_assert_eq(impost_vcpu_complete(m.cpu[0], &x), 0);
		cr_assert_eq(x.kind, IMPOST_EXIT_NONE);
		cr_expect_eq(rax(&m), rows[i].rax, "%s", rows[i].step);
		mock_close(&m);
	}
}

Test(mock_run, state_waits_for_complete)
{
	struct impost_x86_regs regs;
	struct impost_exit x;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nin = 1 1\n");
	run_to(&m, IMPOST_EXIT_IO);
	cr_assert_eq(impost_vcpu_get_regs(m.cpu[0], &regs), -EBUSY);
	cr_assert_eq(impost_vcpu_complete(m.cpu[0], &x), 0);
	cr_assert_eq(impost_vcpu_get_regs(m.cpu[0], &regs), 0);
	cr_assert_eq(impost_vcpu_complete(m.cpu[0], &x), 0);
	cr_assert_eq(x.kind, IMPOST_EXIT_NONE);
	mock_close(&m);
}

Test(mock_run, another_answer_than_expected_diverges_and_can_be_put_right)
{
	struct impost_exit x, y;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nin = 1 1 expect 0x60\nmmio-read = 0 2 expect 1\nhlt =\n");
	x = run_to(&m, IMPOST_EXIT_IO);
	*(uint8_t *)x.u.io.data = 0x61;
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &y), -IMPOST_EDIVERGED);
	cr_assert(strstr(impost_error(m.ctx), "answered 0x61, the script expects 0x60"), "%s",
		  impost_error(m.ctx));
	cr_assert_eq(impost_vcpu_complete(m.cpu[0], &y), -IMPOST_EDIVERGED);
	*(uint8_t *)x.u.io.data = 0x60;
	run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &y), -IMPOST_EDIVERGED); /* not answered: 0 */
	mock_close(&m);
}

Test(mock_run, msr_answers_are_compared_too)
{
	static const struct impost_msr_range range = {0x4b564d00, 16, 3, 0};
	struct impost_exit x;
	struct mock m;

	mock_open(&m, "[vcpu 0]\n"
		      "rdmsr = 0x4b564d00 expect 0x1122334455\n"
		      "rdmsr = 0x4b564d01 expect refused\n"
		      "wrmsr = 0x4b564d02 77 expect accepted\n"
		      "wrmsr = 0x4b564d03 88 expect refused\n"
		      "hlt =\n");
	cr_assert_eq(impost_vm_set_msr_exits(m.vm, &range, 1, 0), 0);
	x = run_to(&m, IMPOST_EXIT_RDMSR);
	cr_assert(x.u.msr.index == 0x4b564d00 && x.u.msr.reason == IMPOST_MSR_REASON_ASKED &&
		  *x.u.msr.refused == 0);
	*x.u.msr.value = UINT64_C(0x1122334455);
	x = run_to(&m, IMPOST_EXIT_RDMSR);
	*x.u.msr.refused = 1;
	x = run_to(&m, IMPOST_EXIT_WRMSR);
	cr_assert_eq(*x.u.msr.value, 77);
	x = run_to(&m, IMPOST_EXIT_WRMSR);
	cr_assert_eq(*x.u.msr.value, 88);
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), -IMPOST_EDIVERGED);
	cr_assert(strstr(impost_error(m.ctx), "the host accepts"), "%s", impost_error(m.ctx));
	mock_close(&m);
}

Test(mock_run, an_msr_exits_only_when_the_host_asked)
{
	static const struct impost_msr_range range = {0x10, 1, IMPOST_MSR_EXIT_READ, 0};
	struct impost_x86_msr star = {.index = 0xc0000081};
	struct impost_x86_regs regs;
	struct impost_exit x;
	struct mock m;

	mock_open(&m, "[vcpu 0]\n"
		      "wrmsr = 0xc0000081 0x1122334455667788\n"
		      "rdmsr = 0xc0000081\n"
		      "rdmsr = 0x10\n"
		      "rdmsr = 0x9999\n"
		      "rdmsr = 0x9999\n");
	cr_assert_eq(impost_vm_set_msr_exits(m.vm, &range, 1, 1), 0);
	x = run_to(&m, IMPOST_EXIT_RDMSR);
	cr_assert_eq(x.u.msr.index, 0x10);
	cr_assert_eq(impost_vcpu_complete(m.cpu[0], &x), 0);
	cr_assert_eq(impost_vcpu_get_msrs(m.cpu[0], &star, 1, NULL), 0);
	cr_assert_eq(star.value, UINT64_C(0x1122334455667788));
	x = run_to(&m, IMPOST_EXIT_RDMSR);
	cr_assert(x.u.msr.index == 0x9999 && x.u.msr.reason == IMPOST_MSR_REASON_UNKNOWN);
	*x.u.msr.value = UINT64_C(0xaaaaaaaabbbbbbbb);
	cr_assert_eq(impost_vcpu_complete(m.cpu[0], &x), 0);
	cr_assert_eq(impost_vcpu_get_regs(m.cpu[0], &regs), 0);
	cr_assert(regs.rax == 0xbbbbbbbb && regs.rdx == 0xaaaaaaaa);
	cr_assert_eq(impost_vm_set_msr_exits(m.vm, NULL, 0, 0), 0);
	run_expecting(&m, IMPOST_EXIT_INTERNAL_ERROR, "#GP: the script reads MSR 0x9999");
	mock_close(&m);
}

/* Steps for MSRs that do not exit, and what run's error says; NULL: the expectation is met. */
static const struct {
	const char *step;
	const char *error;
} own_msrs[] = {
	{"rdmsr = 0xc0000081 expect 0x1234", NULL},
	{"rdmsr = 0x9999 expect refused", NULL},
	{"wrmsr = 0xc0000081 5 expect accepted", NULL},
	{"wrmsr = 0x9999 5 expect refused", NULL},
	{"wrmsr = 0xc0000080 2 expect refused", NULL},
	{"rdmsr = 0xc0000081 expect 0x1235",
	 "vCPU 0, step 2: RDMSR: the mock's own MSR 0xc0000081, which does not exit to the host, "
	 "gives 0x1234, the script expects 0x1235"},
	{"rdmsr = 0xc0000081 expect refused", "gives 0x1234, the script expects that it refuses"},
	{"rdmsr = 0x9999 expect 0", "refuses, the script expects 0"},
	{"wrmsr = 0xc0000081 5 expect refused", "accepts 0x5, the script expects that it refuses"},
	{"wrmsr = 0x9999 5 expect accepted", "refuses, the script expects that it accepts"},
};

Test(mock_run, what_an_msr_gives_is_compared_without_an_exit_too)
{
	size_t i;

	for (i = 0; i < sizeof(own_msrs) / sizeof(own_msrs[0]); i++) {
		struct impost_x86_msr star = {.index = 0xc0000081};
		const char *want = own_msrs[i].error;
		struct impost_exit x = {0};
		char script[128];
		struct mock m;
		int err;

		snprintf(script, sizeof(script), "[vcpu 0]\nwrmsr = 0xc0000081 0x1234\n%s\nhlt =\n",
			 own_msrs[i].step);
		mock_open(&m, script);
		err = impost_vcpu_run(m.cpu[0], &x);
		cr_expect_eq(err, want ? -IMPOST_EDIVERGED : 0, "%s: %d", own_msrs[i].step, err);
		cr_expect_eq(x.kind, want ? IMPOST_EXIT_NONE : IMPOST_EXIT_HLT, "%s: kind %u",
			     own_msrs[i].step, x.kind);
		if (want) { /* nothing was done, and the step is there still */
			cr_expect(strstr(impost_error(m.ctx), want), "\"%s\" has no \"%s\"",
				  impost_error(m.ctx), want);
			cr_assert_eq(impost_vcpu_get_msrs(m.cpu[0], &star, 1, NULL), 0);
			cr_expect_eq(star.value, 0x1234, "%s", own_msrs[i].step);
			cr_expect_eq(impost_vcpu_run(m.cpu[0], &x), -IMPOST_EDIVERGED);
		}
		mock_close(&m);
	}
}

/* --- kicks --- */

static void *kick_later(void *cpu)
{
	usleep(20000);
	impost_vcpu_kick(cpu);
	return NULL;
}

Test(mock_run, a_kick_ends_every_kind_of_wait)
{
	static const char *const scripts[] = {NULL, "[vcpu 0]\nhalt =\n",
					      "[vcpu 0]\ndelay = 1000 s\n"};
	size_t i;

	for (i = 0; i < 3; i++) {
		pthread_t thread;
		struct mock m;

		mock_open(&m, scripts[i]);
		pthread_create(&thread, NULL, kick_later, m.cpu[0]);
		run_to(&m, IMPOST_EXIT_INTR);
		pthread_join(thread, NULL);
		mock_close(&m);
	}
}

Test(mock_run, kicks_before_run_count_as_one)
{
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhlt =\nhlt =\n");
	impost_vcpu_kick(m.cpu[0]);
	impost_vcpu_kick(m.cpu[0]);
	run_to(&m, IMPOST_EXIT_INTR);
	run_to(&m, IMPOST_EXIT_HLT);
	impost_vcpu_kick(m.cpu[0]);
	run_to(&m, IMPOST_EXIT_INTR);
	run_to(&m, IMPOST_EXIT_HLT);
	mock_close(&m);
}

#define KICKS 2000

struct kicker {
	struct impost_vcpu *cpu;
	_Atomic unsigned sent, seen;
};

static void *kick_many(void *opaque)
{
	struct kicker *k = opaque;

	for (unsigned i = 0; i < KICKS; i++) {
		k->sent++;
		impost_vcpu_kick(k->cpu);
		while (k->seen < k->sent) /* each kick must be seen, or this never ends */
			sched_yield();
	}
	return NULL;
}

Test(mock_run, no_kick_is_lost, .timeout = 60)
{
	struct kicker k = {0};
	pthread_t thread;
	struct mock m;

	mock_open(&m, NULL);
	k.cpu = m.cpu[0];
	pthread_create(&thread, NULL, kick_many, &k);
	while (k.seen < KICKS) {
		run_to(&m, IMPOST_EXIT_INTR);
		k.seen++;
	}
	pthread_join(thread, NULL);
	mock_close(&m);
}

/* --- interrupts end halts --- */

enum send { LINE, MSI, OTHER_MSI_FIRST };

struct sender {
	struct mock *m;
	enum send what;
};

static void *send_later(void *opaque)
{
	const struct sender *s = opaque;

	usleep(20000);
	if (s->what == OTHER_MSI_FIRST) {
		cr_assert_eq(impost_vm_msi(s->m->vm, 0xfee05000, 0x31), 0); /* to vCPU 5 */
		usleep(20000);
	}
	if (s->what == LINE)
		cr_assert_eq(impost_vm_irq_line(s->m->vm, 4, 1), 0);
	else
		cr_assert_eq(impost_vm_msi(s->m->vm, 0xfee00000, 0x30), 0);
	return NULL;
}

Test(mock_run, lines_and_messages_end_a_halt)
{
	struct impost_mock_irq irq;
	struct sender s;
	struct mock m;

	for (s.what = LINE; s.what <= OTHER_MSI_FIRST; s.what++) {
		pthread_t thread;

		s.m = &m;
		mock_open(&m, "[vcpu 0]\nhalt =\nhlt =\n");
		pthread_create(&thread, NULL, send_later, &s);
		run_to(&m, IMPOST_EXIT_HLT);
		pthread_join(thread, NULL);
		cr_assert_eq(m.control->irq(m.handle, 0, &irq), 0);
		cr_assert_eq(irq.kind, s.what == LINE ? IMPOST_MOCK_IRQ_LINE : IMPOST_MOCK_IRQ_MSI);
		mock_close(&m);
	}
}

Test(mock_run, an_interrupt_before_the_halt_counts_once)
{
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vcpu_nmi(m.cpu[0]), 0);
	append(&m, 0, (const struct impost_mock_step[]){halt, exit_step(IMPOST_EXIT_HLT), halt}, 3);
	run_to(&m, IMPOST_EXIT_HLT);
	impost_vcpu_kick(m.cpu[0]);
	run_to(&m, IMPOST_EXIT_INTR);
	mock_close(&m);
}

Test(mock_run, a_kicked_halt_stays_halted)
{
	struct impost_x86_runstate state;
	uint32_t size;
	pthread_t thread;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhalt =\nhlt =\n");
	pthread_create(&thread, NULL, kick_later, m.cpu[0]);
	run_to(&m, IMPOST_EXIT_INTR);
	pthread_join(thread, NULL);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_RUNSTATE, &state, sizeof(state),
				     &size),
		     0);
	cr_assert_eq(state.state, IMPOST_X86_HALTED);
	cr_assert_eq(impost_vcpu_nmi(m.cpu[0]), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	mock_close(&m);
}

Test(mock_run, injection_and_its_window)
{
	struct impost_mock_irq irq;
	struct mock m;

	mock_open_with(&m, "[vcpu 0]\nhlt =\nset = rflags 0x202\nhlt =\nhlt =\n",
		       IMPOST_IRQCHIP_NONE, 1, NULL, NULL);
	cr_assert_eq(impost_vcpu_irq_window(m.cpu[0], 1), 0);
	run_to(&m, IMPOST_EXIT_HLT); /* IF is 0 */
	run_to(&m, IMPOST_EXIT_IRQ_WINDOW);
	cr_assert_eq(impost_vcpu_irq_window(m.cpu[0], 0), 0);
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 256), -EINVAL);
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 0x55), 0);
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 0x56), -EBUSY);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(m.control->irq(m.handle, 0, &irq), 0);
	cr_assert(irq.kind == IMPOST_MOCK_IRQ_INJECT && irq.data == 0x55 && irq.vcpu == 0);
	cr_assert_eq(m.control->irq(m.handle, 1, &irq), -ENOENT);
	mock_close(&m);
}

Test(mock_run, an_injected_vector_waits_for_the_flag)
{
	struct mock m;

	mock_open_with(&m, "[vcpu 0]\nhlt =\nset = rflags 0x202\nhlt =\nhalt =\nhlt =\n",
		       IMPOST_IRQCHIP_NONE, 1, NULL, NULL);
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 0x57), 0);
	run_to(&m, IMPOST_EXIT_HLT); /* IF is 0 */
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 0x58), -EBUSY);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 0x58), 0, "the first one is delivered");
	impost_vcpu_kick(m.cpu[0]);
	run_to(&m, IMPOST_EXIT_INTR);
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 0x59), -EBUSY, "a kick delivers nothing");
	mock_close(&m);
}

Test(mock_run, the_host_injects_only_without_an_irqchip)
{
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vcpu_irq_inject(m.cpu[0], 0x57), -ENOTSUP);
	mock_close(&m);
}

/* A halted vCPU with an event to deliver, as a snapshot may have it. */
Test(mock_run, an_event_that_was_set_ends_a_halt)
{
	struct impost_x86_runstate halted = {.size = sizeof(halted), .state = IMPOST_X86_HALTED};
	struct impost_x86_events e;
	uint32_t size;
	pthread_t thread;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhlt =\nhlt =\n");
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e), &size), 0);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_RUNSTATE, &halted, sizeof(halted)),
		     0);
	e.nmi.pending = e.nmi.masked = 1;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e)), 0);
	pthread_create(&thread, NULL, kick_later, m.cpu[0]);
	run_to(&m, IMPOST_EXIT_INTR);
	pthread_join(thread, NULL);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e), &size), 0);
	cr_assert_eq(e.nmi.pending, 1, "blocked while one is handled");
	e.nmi.masked = 0;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e)), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e), &size), 0);
	cr_assert_eq(e.nmi.pending, 0);
	mock_close(&m);
}

/* While an NMI is handled another one is remembered. */
Test(mock_run, an_nmi_waits_for_the_one_before)
{
	struct impost_x86_events e;
	uint32_t size;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhlt =\nhlt =\n");
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e), &size), 0);
	e.nmi.masked = 1;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e)), 0);
	cr_assert_eq(impost_vcpu_nmi(m.cpu[0]), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_EVENTS, &e, sizeof(e), &size), 0);
	cr_assert_eq(e.nmi.pending, 1);
	mock_close(&m);
}

/* --- time --- */

static uint64_t clock_ns(struct mock *m)
{
	struct impost_x86_clock clock;
	uint32_t size;

	cr_assert_eq(impost_vm_get(m->vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock), &size), 0);
	return clock.ns;
}

static struct impost_x86_tsc tsc(struct mock *m)
{
	struct impost_x86_tsc tsc;
	uint32_t size;

	cr_assert_eq(impost_vcpu_get(m->cpu[0], IMPOST_SECTION_TSC, &tsc, sizeof(tsc), &size), 0);
	return tsc;
}

Test(mock_run, time_moves_only_when_told)
{
	struct impost_x86_msr msr = {.index = 0x10};
	struct mock m;

	mock_open(&m, "[vcpu 0]\ndelay = 3 ms\nhlt =\n");
	usleep(5000);
	cr_assert_eq(clock_ns(&m), 0);
	cr_assert_eq(tsc(&m).value, 0);
	cr_assert_eq(m.control->advance(m.handle, 1000), 0);
	cr_assert_eq(clock_ns(&m), 1000);
	cr_assert_eq(tsc(&m).value, 2000); /* 2 GHz */
	cr_assert_eq(tsc(&m).khz, 2000000);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(clock_ns(&m), 3001000);
	cr_assert_eq(impost_vcpu_get_msrs(m.cpu[0], &msr, 1, NULL), 0);
	cr_assert_eq(msr.value, 6002000);
	mock_close(&m);
}

Test(mock_run, a_kicked_delay_goes_on_where_it_was)
{
	struct timespec before, after;
	pthread_t thread;
	struct mock m;

	mock_open(&m, "[vcpu 0]\ndelay = 500ms\nhlt =\n");
	pthread_create(&thread, NULL, kick_later, m.cpu[0]);
	clock_gettime(CLOCK_MONOTONIC, &before);
	run_to(&m, IMPOST_EXIT_INTR);
	cr_assert_eq(clock_ns(&m), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	clock_gettime(CLOCK_MONOTONIC, &after);
	cr_assert_eq(clock_ns(&m), 500000000);
	cr_assert_geq((after.tv_sec - before.tv_sec) * 1000 +
			      (after.tv_nsec - before.tv_nsec) / 1000000,
		      499);
	pthread_join(thread, NULL);
	mock_close(&m);
}

/* The host's TSC of a section may be still to come: then the guest's time is behind its value. */
Test(mock_run, tsc_and_clock_can_be_set_for_later)
{
	struct impost_x86_tsc t = {.size = sizeof(t),
				   .flags = IMPOST_X86_TSC_HOST,
				   .value = 1000000,
				   .host_tsc = 2000,
				   .khz = 1000000};
	struct impost_x86_clock c = {.size = sizeof(c),
				     .flags = IMPOST_X86_CLOCK_HOST_TSC,
				     .ns = 5000,
				     .host_tsc = 2000};
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_CLOCK, &c, sizeof(c)), 0);
	cr_assert_eq(clock_ns(&m), 4000);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_TSC, &t, sizeof(t)), 0);
	cr_assert_eq(tsc(&m).value, 999000); /* at half the host's rate */
	cr_assert_eq(m.control->advance(m.handle, 1000), 0);
	cr_assert_eq(tsc(&m).host_tsc, 2000);
	cr_assert_eq(tsc(&m).value, 1000000);
	t.flags |= 0x80;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_TSC, &t, sizeof(t)), -EINVAL);
	mock_close(&m);
}

Test(mock_run, tsc_and_clock_can_be_set_against_the_hosts)
{
	struct impost_x86_tsc t = {.size = sizeof(t), .value = 500, .khz = 1000000};
	struct impost_x86_clock c = {.size = sizeof(c), .ns = 7};
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(m.control->advance(m.handle, 1000000), 0);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_TSC, &t, sizeof(t)), 0);
	cr_assert_eq(tsc(&m).value, 500);
	cr_assert_eq(m.control->advance(m.handle, 1000), 0);
	cr_assert_eq(tsc(&m).value, 1500); /* at 1 GHz */
	t.flags = IMPOST_X86_TSC_HOST;
	t.host_tsc = tsc(&m).host_tsc - 2000; /* 1000 ns ago */
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_TSC, &t, sizeof(t)), 0);
	cr_assert_eq(tsc(&m).value, 1500);
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_CLOCK, &c, sizeof(c)), 0);
	cr_assert_eq(clock_ns(&m), 7);
	c.flags = IMPOST_X86_CLOCK_HOST_TSC;
	c.host_tsc = tsc(&m).host_tsc - 2000;
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_CLOCK, &c, sizeof(c)), 0);
	cr_assert_eq(clock_ns(&m), 1007);
	mock_close(&m);
}

/* --- several vCPUs --- */

struct runner {
	struct impost_vcpu *cpu;
	unsigned exits;
	uint32_t last;
};

static void *run_until_over(void *opaque)
{
	struct runner *r = opaque;
	struct impost_exit x;

	do {
		cr_assert_eq(impost_vcpu_run(r->cpu, &x), 0);
		r->exits++;
	} while (x.kind == IMPOST_EXIT_IO);
	r->last = x.kind;
	return NULL;
}

Test(mock_run, vcpus_play_on_threads_of_their_own)
{
	struct runner r[MOST] = {{0}};
	pthread_t thread[MOST];
	struct mock m;
	unsigned i;

	mock_open_with(&m,
		       "[vcpu 0]\nrepeat = 100\nout = 1 1 1\nwrite = 0x50000 01\nend =\n"
		       "[vcpu 1]\nrepeat = 200\nout = 1 1 1\nwrite = 0x51000 01\nend =\n"
		       "[vcpu 2]\nrepeat = 300\nout = 1 1 1\nwrite = 0x52000 01\nend =\n"
		       "[vcpu 3]\nrepeat = 400\nout = 1 1 1\nwrite = 0x53000 01\nend =\n",
		       IMPOST_IRQCHIP_FULL, MOST, NULL, NULL);
	for (i = 0; i < MOST; i++) {
		r[i].cpu = m.cpu[i];
		pthread_create(&thread[i], NULL, run_until_over, &r[i]);
	}
	for (i = 0; i < MOST; i++) {
		pthread_join(thread[i], NULL);
		cr_assert_eq(r[i].exits, (i + 1) * 100 + 1);
		cr_assert_eq(r[i].last, IMPOST_EXIT_INTERNAL_ERROR);
	}
	mock_close(&m);
}

Test(mock_run, a_sipi_starts_a_vcpu)
{
	struct impost_x86_runstate wait = {sizeof(wait), IMPOST_X86_WAIT_FOR_SIPI};
	struct runner r = {0};
	struct impost_x86_sregs s;
	pthread_t thread;
	struct mock m;

	mock_open_with(&m, "[vcpu 0]\nsipi = 1 0x10\nhlt =\n[vcpu 1]\nhlt =\n", IMPOST_IRQCHIP_FULL,
		       2, NULL, NULL);
	cr_assert_eq(impost_vcpu_set(m.cpu[1], IMPOST_SECTION_RUNSTATE, &wait, sizeof(wait)), 0);
	r.cpu = m.cpu[1];
	pthread_create(&thread, NULL, run_until_over, &r);
	usleep(10000);
	run_to(&m, IMPOST_EXIT_HLT);
	pthread_join(thread, NULL);
	cr_assert_eq(r.last, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_get_sregs(m.cpu[1], &s), 0);
	cr_assert(s.cs.base == 0x10000 && s.cs.selector == 0x1000 && !(s.cr0 & 1));
	mock_close(&m);
}

Test(mock_run, pause_lets_all_go_until_resume)
{
	struct runner r = {0};
	pthread_t thread;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhalt =\nhlt =\n");
	r.cpu = m.cpu[0];
	pthread_create(&thread, NULL, run_until_over, &r);
	usleep(20000);
	cr_assert_eq(impost_vm_pause(m.vm), 0);
	pthread_join(thread, NULL);
	cr_assert_eq(r.last, IMPOST_EXIT_INTR);
	run_to(&m, IMPOST_EXIT_INTR);
	run_to(&m, IMPOST_EXIT_INTR);
	cr_assert_eq(impost_vm_resume(m.vm), 0);
	cr_assert_eq(impost_vcpu_nmi(m.cpu[0]), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	mock_close(&m);
}

/* --- mock.control/1 --- */

static void *append_later(void *opaque)
{
	struct mock *m = opaque;
	struct impost_mock_step step = exit_step(IMPOST_EXIT_HLT);

	usleep(20000);
	append(m, 0, &step, 1);
	return NULL;
}

Test(mock_run, steps_can_be_appended_while_run_waits)
{
	pthread_t thread;
	uint64_t played;
	struct mock m;

	mock_open(&m, NULL);
	pthread_create(&thread, NULL, append_later, &m);
	run_to(&m, IMPOST_EXIT_HLT);
	pthread_join(thread, NULL);
	cr_assert_eq(m.control->played(m.handle, 0, &played), 0);
	cr_assert_eq(played, 1);
	cr_assert_eq(m.control->played(m.handle, 3, &played), 0);
	cr_assert_eq(played, 0);
	cr_assert_eq(m.control->played(m.handle, 4096, &played), -EINVAL);
	mock_close(&m);
}

Test(mock_run, what_is_appended_is_copied)
{
	uint8_t data[] = {1, 2, 3, 4};
	struct impost_mock_step step = exit_step(IMPOST_EXIT_IO);
	struct impost_exit x;
	struct mock m;

	mock_open(&m, NULL);
	step.exit.u.io.port = 0x3f8;
	step.exit.u.io.size = 2;
	step.exit.u.io.count = 2;
	step.exit.u.io.dir = IMPOST_EXIT_WRITE;
	step.data = data;
	step.bytes = 4;
	append(&m, 0, &step, 1);
	memset(data, 0xff, sizeof(data));
	x = run_to(&m, IMPOST_EXIT_IO);
	cr_assert_eq(memcmp(x.u.io.data, "\1\2\3\4", 4), 0);
	mock_close(&m);
}

Test(mock_run, malformed_steps_are_refused_and_nothing_is_added)
{
	static const uint8_t byte[8];
	struct impost_mock_step good = exit_step(IMPOST_EXIT_HLT);
	struct impost_mock_step bad[24];
	unsigned n = 0, i;
	struct mock m;

#define BAD(...)                                        \
	do {                                            \
		struct impost_mock_step *s = &bad[n++]; \
		*s = exit_step(IMPOST_EXIT_IO);         \
		s->exit.u.io.size = 1;                  \
		s->exit.u.io.count = 1;                 \
		__VA_ARGS__;                            \
	} while (0)
	BAD(s->size = 8);
	BAD(s->op = 0);
	BAD(s->op = 7);
	BAD(s->exit.kind = IMPOST_EXIT_NONE);
	BAD(s->exit.kind = IMPOST_EXIT_KINDS);
	BAD(s->exit.u.io.size = 8);
	BAD(s->exit.u.io.count = 0);
	BAD(s->exit.u.io.count = 4097);
	BAD(s->exit.u.io.dir = 2);
	BAD(s->exit.u.io.dir = 1);
	BAD(s->exit.u.io.dir = 1, s->data = byte, s->bytes = 2);
	BAD(s->exit.u.io.dir = 1, s->data = byte, s->bytes = 1, s->has_expect = 1);
	BAD(s->exit.u.io.count = 2, s->has_expect = 1);
	BAD(s->has_expect = 1, s->expect = 256);
	BAD(s->exit.kind = IMPOST_EXIT_MMIO, s->exit.u.mmio.size = 9, s->exit.u.mmio.count = 1);
	BAD(s->exit.kind = IMPOST_EXIT_WRMSR);
	BAD(s->exit.kind = IMPOST_EXIT_SHUTDOWN);
	BAD(s->exit.kind = IMPOST_EXIT_DEBUG);
	BAD(s->op = IMPOST_MOCK_WRITE);
	BAD(s->op = IMPOST_MOCK_WRITE, s->data = byte, s->bytes = 8, s->gpa = UINT64_MAX - 3);
	BAD(s->op = IMPOST_MOCK_DELAY, s->ns = UINT64_MAX);
	BAD(s->op = IMPOST_MOCK_SET, s->reg = 18);
	BAD(s->op = IMPOST_MOCK_SIPI, s->value = 256);
	BAD(s->op = 100);
	mock_open(&m, NULL);
	for (i = 0; i < n; i++) {
		const struct impost_mock_step both[] = {good, bad[i]};

		cr_expect_eq(m.control->append(m.handle, 0, both, 2), -EINVAL, "row %u", i);
		cr_expect(strstr(impost_error(m.ctx), "step 1: "), "row %u: %s", i,
			  impost_error(m.ctx));
	}
	impost_vcpu_kick(m.cpu[0]);
	run_to(&m, IMPOST_EXIT_INTR);
	append(&m, 0, &good, 1);
	run_to(&m, IMPOST_EXIT_HLT);
	mock_close(&m);
}

Test(mock_run, vm_events_come_in_order)
{
	struct impost_exit x = {.kind = IMPOST_EXIT_HLT}, y;
	struct mock m;
	uint64_t count;
	int fd;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_event_fd(m.vm, &fd), 0);
	cr_assert_eq(impost_vm_event(m.vm, &y), -EAGAIN);
	cr_assert_eq(read(fd, &count, sizeof(count)), -1);
	cr_assert_eq(m.control->post_event(m.handle, &x), -EINVAL);
	x.kind = IMPOST_EXIT_RESET;
	cr_assert_eq(m.control->post_event(m.handle, &x), 0);
	x.kind = IMPOST_EXIT_SHUTDOWN;
	x.u.shutdown.reason = IMPOST_SHUTDOWN_CRASH;
	cr_assert_eq(m.control->post_event(m.handle, &x), 0);
	cr_assert_eq(impost_vm_event(m.vm, &y), 0);
	cr_assert_eq(y.kind, IMPOST_EXIT_RESET);
	cr_assert_eq(impost_vm_event(m.vm, &y), 0);
	cr_assert(y.kind == IMPOST_EXIT_SHUTDOWN && y.u.shutdown.reason == IMPOST_SHUTDOWN_CRASH);
	cr_assert_eq(impost_vm_event(m.vm, &y), -EAGAIN);
	cr_assert_eq(read(fd, &count, sizeof(count)), -1);
	mock_close(&m);
}
