/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages are copied while guest and host write them, as a migration does: after a last pass with
 * nobody writing, the copy is the memory. A plain program (plain.h). Prints TAP.
 *
 * Usage: dirty PLUGIN-DIR BACKEND GUEST [KEY VALUE]..., where GUEST is a static ELF64 that writes
 * without end, and KEY an option of the backend.
 */
#include <string.h>
#include <time.h>

#include "../unit/random.h"
#include "plain.h"

#define PAGE	IMPOST_PAGE_SIZE
#define RAM	(UINT64_C(32) << 20)
#define HOST	(UINT64_C(24) << 20) /* from here on the host's threads write, and no guest */
#define ABOVE	(UINT64_C(1) << 30)  /* where a region comes and goes */
#define WRITERS 2
#define PASSES	25
#define RANGES	64

static const char *guest;

/* Everything at work on one memory. */
struct work {
	struct impost_memory *memory;
	struct impost_vcpu *vcpu; /* NULL: there is no VM */
	uint64_t *copy;		  /* of RAM bytes */
	atomic_int stop;
	atomic_uint writes;
};

/* --- who disturbs --- */

static void *host_writes(void *arg)
{
	struct work *work = arg;
	uint64_t state = 1 + (uint64_t)atomic_fetch_add(&work->writes, 1);
	struct impost_view view;

	while (!atomic_load(&work->stop)) {
		CHECK(impost_view_begin(work->memory, &view) == 0);
		for (int i = 0; i < 50; i++) {
			uint64_t gpa = HOST + random_number(&state) % ((RAM - HOST) / 8) * 8;

			CHECK(impost_view_write_u64(&view, gpa, state) == 0);
		}
		impost_view_end(&view);
		atomic_fetch_add(&work->writes, 1);
	}
	return NULL;
}

static void *guest_runs(void *arg)
{
	struct work *work = arg;
	struct impost_exit exit;

	while (!atomic_load(&work->stop))
		CHECK(impost_vcpu_run(work->vcpu, &exit) == 0);
	return NULL;
}

/* Readers that come, take something and go, and a region that does. */
static void *others_come_and_go(void *arg)
{
	const struct impost_region region = {
		.size = sizeof(region), .gpa = ABOVE, .bytes = 100 * PAGE};
	const struct impost_dirty_config config[] = {
		{.size = sizeof(config[0])},
		{.size = sizeof(config[0]), .flags = IMPOST_DIRTY_ALL},
		{.size = sizeof(config[0]), .flags = IMPOST_DIRTY_HOST_ONLY},
	};
	struct work *work = arg;
	struct impost_range ranges[RANGES];
	struct impost_dirty *dirty;
	uint64_t count;

	for (unsigned i = 0; !atomic_load(&work->stop); i++) {
		CHECK(impost_dirty_create(work->memory, &config[i % 3], &dirty) == 0);
		CHECK(impost_memory_add(work->memory, &region) == 0);
		CHECK(impost_memory_fill(work->memory, ABOVE + PAGE, 1, 3 * PAGE) == 0);
		CHECK(impost_dirty_sync(dirty) == 0);
		CHECK(impost_dirty_take(dirty, ranges, RANGES, &count) == 0);
		CHECK(impost_memory_remove(work->memory, ABOVE) == 0);
		CHECK(impost_dirty_destroy(dirty) == 0);
	}
	return NULL;
}

/* --- who copies --- */

/* A region that has just gone is not copied. */
static void copy_range(struct work *work, const struct impost_range *range)
{
	struct impost_view view;

	if (range->gpa >= RAM)
		return;
	CHECK(range->bytes <= RAM - range->gpa);
	CHECK(impost_view_begin(work->memory, &view) == 0);
	for (uint64_t at = range->gpa; at < range->gpa + range->bytes; at += 8)
		CHECK(impost_view_read_u64(&view, at, &work->copy[at / 8]) == 0);
	impost_view_end(&view);
}

static uint64_t copy_pass(struct work *work, struct impost_dirty *dirty)
{
	struct impost_range ranges[RANGES];
	uint64_t count, pages = 0;

	CHECK(impost_dirty_sync(dirty) == 0);
	do {
		count = 0;
		CHECK(impost_dirty_take(dirty, ranges, RANGES, &count) == 0);
		for (uint64_t i = 0; i < count; i++) {
			copy_range(work, &ranges[i]);
			pages += ranges[i].bytes / PAGE;
		}
	} while (count == RANGES);
	return pages;
}

static void compare(struct work *work)
{
	uint64_t value, wrong = 0;
	struct impost_view view;

	CHECK(impost_view_begin(work->memory, &view) == 0);
	for (uint64_t at = 0; at < RAM; at += 8) {
		CHECK(impost_view_read_u64(&view, at, &value) == 0);
		if (value != work->copy[at / 8] && wrong++ == 0)
			printf("# 0x%llx holds 0x%llx, and the copy 0x%llx\n",
			       (unsigned long long)at, (unsigned long long)value,
			       (unsigned long long)work->copy[at / 8]);
	}
	impost_view_end(&view);
	CHECK(wrong == 0);
}

static void migrate(struct work *work)
{
	const struct impost_dirty_config config = {.size = sizeof(config),
						   .flags = IMPOST_DIRTY_ALL};
	pthread_t writer[WRITERS], others, runner;
	struct impost_dirty *dirty;
	uint64_t pages = 0;

	work->copy = calloc(RAM / 8, 8);
	for (int i = 0; i < WRITERS; i++)
		start(&writer[i], host_writes, work);
	start(&others, others_come_and_go, work);
	if (work->vcpu)
		start(&runner, guest_runs, work);
	CHECK(impost_dirty_create(work->memory, &config, &dirty) == 0);
	CHECK(copy_pass(work, dirty) >= RAM / PAGE);
	for (int i = 0; i < PASSES; i++) {
		unsigned seen = atomic_load(&work->writes);

		while (atomic_load(&work->writes) == seen)
			sched_yield();
		pages += copy_pass(work, dirty);
	}
	CHECK(pages > 0);
	atomic_store(&work->stop, 1);
	if (work->vcpu) {
		CHECK(impost_vcpu_kick(work->vcpu) == 0);
		pthread_join(runner, NULL);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writer[i], NULL);
	pthread_join(others, NULL);
	printf("# the last pass had %llu pages\n", (unsigned long long)copy_pass(work, dirty));
	CHECK(copy_pass(work, dirty) == 0);
	compare(work);
	CHECK(impost_dirty_destroy(dirty) == 0);
	free(work->copy);
}

/* --- on what --- */

static void alone(void)
{
	const struct impost_region ram = {.size = sizeof(ram), .bytes = RAM};
	struct work work = {0};

	CHECK(impost_memory_create(ctx, &work.memory) == 0);
	CHECK(impost_memory_add(work.memory, &ram) == 0);
	migrate(&work);
	CHECK(impost_memory_destroy(work.memory) == 0);
}

/* On the mock the vCPU halts. */
static void in_a_vm(void)
{
	const struct impost_mock_step halt = {.size = sizeof(halt), .op = IMPOST_MOCK_HALT};
	struct work work = {0};
	struct impost_vm *vm = make_vm(&work.vcpu, 1, RAM, guest, "rounds=0 every=0 pages=1500");

	script(vm, 1, &halt, 10);
	work.memory = impost_vm_memory(vm);
	migrate(&work);
	CHECK(impost_vcpu_destroy(work.vcpu) == 0);
	CHECK(impost_vm_destroy(vm) == 0);
}

static const struct test tests[] = {
	{"memory alone is copied while it is written", alone, NULL},
	{"a VM's memory is copied while it runs", in_a_vm, NULL},
};

/* OPTIONS of BACKEND: [KEY VALUE]... */
static int set_options(const char *backend, char **options)
{
	char section[64];
	int err = 0;

	snprintf(section, sizeof(section), "backend.%s", backend);
	for (; !err && options[0]; options += 2)
		err = impost_context_set(ctx, section, options[0], options[1]);
	if (err)
		fprintf(stderr, "dirty: %s\n", impost_error(ctx));
	return err;
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc % 2) {
		fprintf(stderr, "usage: dirty PLUGIN-DIR BACKEND GUEST [KEY VALUE]...\n");
		return 1;
	}
	guest = argv[3];
	if (open_context("dirty", argv[1], argv[2]) || set_options(argv[2], argv + 4))
		return 1;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), argv[2]);
}
