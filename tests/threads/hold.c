/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that hold a VM, kick its vCPUs, look at their state and run them, all at once; then 64
 * vCPUs that are held together. A plain program, as threads.c is.
 *
 * Usage: hold PLUGIN-DIR BACKEND GUEST, where GUEST is a static ELF64 that never stops.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <impost/impost.h>
#include <impost/mock.h>

#define CHECK(condition)                                                         \
	do {                                                                     \
		if (!(condition)) {                                              \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition); \
			atomic_store(&failed, 1);                                \
		}                                                                \
	} while (0)

#define CPUS	3
#define MANY	64
#define HOLDERS 2
#define HOLDS	300
#define MOST_MS 20000

static atomic_int failed;
static const char *guest;
static struct impost_context *ctx;

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

static void start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	if (pthread_create(thread, NULL, fn, arg)) {
		perror("pthread_create");
		exit(1);
	}
}

static void sleep_ns(long ns)
{
	const struct timespec t = {.tv_nsec = ns};

	nanosleep(&t, NULL);
}

/* The mock executes nothing: its vCPUs read a port again and again. */
static void script_reads(struct machine *m)
{
	static const struct impost_mock_step step = {
		.size = sizeof(step),
		.op = IMPOST_MOCK_EXIT,
		.exit = {.kind = IMPOST_EXIT_IO,
			 .u.io = {.port = 0x60, .size = 1, .dir = IMPOST_EXIT_READ, .count = 1}}};
	const struct impost_mock_control *control;
	const void *table;
	void *handle;

	if (impost_vm_extension(m->vm, IMPOST_MOCK_CONTROL, &table, &handle))
		return;
	control = table;
	for (uint32_t id = 0; id < m->count; id++)
		for (uint32_t i = 0; i < 20; i++)
			CHECK(control->append(handle, id, &step, 1) == 0);
}

static void boot(struct machine *m)
{
	struct impost_x86_boot_config boot;
	int fd = open(guest, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	impost_x86_boot_config_init(ctx, &boot);
	boot.kernel_fd = fd;
	CHECK(impost_x86_boot(m->vm, m->vcpu, m->count, &boot, NULL) == 0);
	close(fd);
}

static void make(struct machine *m, uint32_t count)
{
	struct impost_vm_config config;

	memset(m, 0, sizeof(*m));
	m->count = count;
	CHECK(impost_vm_config_init(ctx, &config) == 0);
	config.cpus = count;
	config.memory = 32 << 20;
	CHECK(impost_vm_create(ctx, &config, &m->vm) == 0);
	CHECK(impost_x86_add_ram(impost_vm_memory(m->vm), config.memory) == 0);
	for (uint32_t id = 0; id < count; id++)
		CHECK(impost_vcpu_create(m->vm, id, &m->vcpu[id]) == 0);
	boot(m);
	script_reads(m);
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

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
	{"several threads hold, kick and look at once", storm},
	{"64 vCPUs are held together", many},
};

#define COUNT (sizeof(tests) / sizeof(tests[0]))

int main(int argc, char **argv)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	int all = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: hold PLUGIN-DIR BACKEND GUEST\n");
		return 1;
	}
	guest = argv[3];
	if (impost_context_open(NULL, NULL, &ctx) ||
	    impost_context_set(ctx, "impost", "plugin_dir", argv[1]) ||
	    impost_context_set(ctx, "impost", "backend", argv[2])) {
		fprintf(stderr, "hold: %s\n", ctx ? impost_error(ctx) : "no context");
		return 1;
	}
	if (impost_backend_probe(ctx, argv[2], &caps)) {
		printf("1..0 # SKIP %s\n", impost_error(ctx));
		return impost_context_close(ctx) != 0;
	}
	printf("1..%zu\n", COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		atomic_store(&failed, 0);
		tests[i].fn();
		printf("%sok %zu - %s\n", atomic_load(&failed) ? "not " : "", i + 1, tests[i].name);
		fflush(stdout);
		all |= atomic_load(&failed);
	}
	return all || impost_context_close(ctx) != 0;
}
