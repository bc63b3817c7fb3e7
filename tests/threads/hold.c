/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that hold a VM, kick its vCPUs, look at their state and run them, all at once; then 64
 * vCPUs that are held together. A plain program (plain.h).
 *
 * Usage: hold PLUGIN-DIR BACKEND GUEST, where GUEST is a static ELF64 that never stops.
 */
#include <string.h>
#include <time.h>

#include "plain.h"

#define CPUS	3
#define MANY	64
#define HOLDERS 2
#define HOLDS	300
#define MOST_MS 20000

static const char *guest;

struct machine {
	struct impost_vm *vm;
	uint32_t count;
	struct impost_vcpu *vcpu[MANY];
	pthread_t thread[MANY];
	atomic_uint intrs[MANY], stop;
	atomic_uint ended;    /* those who hold and kick */
	uint64_t plain[MANY]; /* of the thread that runs, and of the holder: no race */
};

struct of {
	struct machine *m;
	uint32_t number;
};

static void sleep_ns(long ns)
{
	const struct timespec t = {.tv_nsec = ns};

	nanosleep(&t, NULL);
}

/* On the mock vCPUs read a port again and again. */
static void make(struct machine *m, uint32_t count)
{
	static const struct impost_mock_step step = {
		.size = sizeof(step),
		.op = IMPOST_MOCK_EXIT,
		.exit = {.kind = IMPOST_EXIT_IO,
			 .u.io = {.port = 0x60, .size = 1, .dir = IMPOST_EXIT_READ, .count = 1}}};

	memset(m, 0, sizeof(*m));
	m->count = count;
	m->vm = make_vm(m->vcpu, count, 32 << 20, guest, NULL);
	script(m->vm, count, &step, 20);
}

static void *run(void *arg)
{
	struct of *of = arg;
	struct machine *m = of->m;
	struct impost_exit exit;

	while (!atomic_load(&m->stop)) {
		int err = impost_vcpu_run(m->vcpu[of->number], &exit);

		if (err) {
			printf("# run: %s\n", impost_error(ctx));
			CHECK(!err);
			break;
		}
		if (exit.kind == IMPOST_EXIT_INTR)
			atomic_fetch_add(&m->intrs[of->number], 1);
		else /* in hand, and so nobody holds the VM */
			m->plain[of->number]++;
	}
	return NULL;
}

static void run_all(struct machine *m, struct of *of)
{
	for (uint32_t i = 0; i < m->count; i++) {
		of[i] = (struct of){m, i};
		start(&m->thread[i], run, &of[i]);
	}
}

static void end_all(struct machine *m)
{
	atomic_store(&m->stop, 1);
	for (uint32_t i = 0; i < m->count; i++)
		CHECK(impost_vcpu_kick(m->vcpu[i]) == 0);
	for (uint32_t i = 0; i < m->count; i++) {
		pthread_join(m->thread[i], NULL);
		CHECK(impost_vcpu_destroy(m->vcpu[i]) == 0);
	}
	CHECK(impost_vm_destroy(m->vm) == 0);
}

/* --- several hold, and kick, at once --- */

/* What only one holder at a time may do. */
static void look(struct machine *m)
{
	struct impost_x86_regs before, after;

	for (uint32_t i = 0; i < m->count; i++) {
		int err = impost_vcpu_get_regs(m->vcpu[i], &before);

		if (err)
			printf("# vCPU %u: %s\n", i, impost_error(ctx));
		CHECK(!err);
		CHECK(impost_vcpu_set_regs(m->vcpu[i], &before) == 0);
		CHECK(impost_vcpu_get_regs(m->vcpu[i], &after) == 0);
		CHECK(memcmp(&before, &after, sizeof(before)) == 0);
		m->plain[i]++;
	}
}

static void *hold(void *arg)
{
	struct machine *m = arg;

	for (int i = 0; i < HOLDS; i++) {
		int err = impost_vm_hold(m->vm, i % 3 ? MOST_MS : (uint32_t)(i % 5));

		CHECK(!err || err == -EALREADY || (err == -ETIMEDOUT && i % 3 == 0));
		if (err) {
			sleep_ns(50000);
			continue;
		}
		look(m);
		CHECK(impost_vm_release(m->vm) == 0);
	}
	atomic_fetch_add(&m->ended, 1);
	return NULL;
}

/* Each kick is seen, whether or not the VM is held. */
static void *kick(void *arg)
{
	struct machine *m = arg;

	for (unsigned i = 0; atomic_load(&m->ended) < HOLDERS; i++) {
		unsigned seen = atomic_load(&m->intrs[0]);
		int ms;

		CHECK(impost_vcpu_kick(m->vcpu[0]) == 0);
		for (ms = 0; ms < MOST_MS && atomic_load(&m->intrs[0]) == seen; ms++)
			sleep_ns(i % 2 ? 1000000 : 100000);
		CHECK(ms < MOST_MS);
		if (ms == MOST_MS)
			break;
	}
	return NULL;
}

static void storm(void)
{
	pthread_t holders[HOLDERS], kicker;
	static struct machine m;
	struct of of[CPUS];

	make(&m, CPUS);
	run_all(&m, of);
	for (int i = 0; i < HOLDERS; i++)
		start(&holders[i], hold, &m);
	start(&kicker, kick, &m);
	for (int i = 0; i < HOLDERS; i++)
		pthread_join(holders[i], NULL);
	pthread_join(kicker, NULL);
	CHECK(atomic_load(&m.intrs[1]) == 0);
	end_all(&m);
}

/* --- many at once --- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void many(void)
{
	uint64_t best = UINT64_MAX;
	static struct machine m;
	struct of of[MANY];

	make(&m, MANY);
	run_all(&m, of);
	sleep_ns(50000000);
	for (int i = 0; i < 20; i++) {
		uint64_t began = now_ns(), took;

		CHECK(impost_vm_hold(m.vm, MOST_MS) == 0);
		took = now_ns() - began;
		best = took < best ? took : best;
		look(&m);
		CHECK(impost_vm_release(m.vm) == 0);
		sleep_ns(5000000);
	}
	printf("# %u vCPUs held in %.3f ms, best of 20\n", MANY, (double)best / 1e6);
	end_all(&m);
}

/* --- */

static const struct test tests[] = {
	{"several threads hold, kick and look at once", storm, NULL},
	{"64 vCPUs are held together", many, NULL},
};

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: hold PLUGIN-DIR BACKEND GUEST\n");
		return 1;
	}
	guest = argv[3];
	if (open_context("hold", argv[1], argv[2]))
		return 1;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), argv[2]);
}
