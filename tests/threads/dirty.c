/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages are copied while guest and host write them, as a migration does: after a last pass with
 * nobody writing, the copy is the memory. A plain program, as threads.c is. Prints TAP.
 *
 * Usage: dirty PLUGIN-DIR BACKEND GUEST [KEY VALUE]..., where GUEST is a static ELF64 that writes
 * without end, and KEY an option of the backend.
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

#define CHECK(condition)                                                            \
	do {                                                                        \
		if (!(condition)) {                                                 \
			printf("# %s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
			       impost_error(ctx));                                  \
			atomic_store(&failed, 1);                                   \
		}                                                                   \
	} while (0)

#define PAGE	IMPOST_PAGE_SIZE
#define RAM	(UINT64_C(32) << 20)
#define HOST	(UINT64_C(24) << 20) /* from here on the host's threads write, and no guest */
#define ABOVE	(UINT64_C(1) << 30)  /* where a region comes and goes */
#define WRITERS 2
#define PASSES	25
#define RANGES	64

static atomic_int failed;
static struct impost_context *ctx;
static const char *guest;

static void start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	if (pthread_create(thread, NULL, fn, arg)) {
		perror("pthread_create");
		exit(1);
	}
}

/* Everything at work on one memory. */
struct work {
	struct impost_memory *memory;
	struct impost_vcpu *vcpu; /* NULL: there is no VM */
	uint64_t *copy;		  /* of RAM bytes */
	atomic_int stop;
	atomic_uint writes;
};

/* --- who disturbs --- */

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void *host_writes(void *arg)
{
	struct work *work = arg;
	uint64_t state = 1 + (uint64_t)atomic_fetch_add(&work->writes, 1);
	struct impost_view view;

	while (!atomic_load(&work->stop)) {
		CHECK(impost_view_begin(work->memory, &view) == 0);
		for (int i = 0; i < 50; i++) {
			uint64_t gpa = HOST + next(&state) % ((RAM - HOST) / 8) * 8;

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

static void boot(struct impost_vm *vm, struct impost_vcpu *vcpu)
{
	struct impost_x86_boot_config config;
	int fd = open(guest, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(impost_x86_add_ram(impost_vm_memory(vm), RAM) == 0);
	impost_x86_boot_config_init(ctx, &config);
	config.kernel_fd = fd;
	config.cmdline = "rounds=0 every=0 pages=1500";
	CHECK(impost_x86_boot(vm, &vcpu, 1, &config, NULL) == 0);
	close(fd);
}

/* The mock executes nothing: its vCPU halts. */
static void script_halt(struct impost_vm *vm)
{
	const struct impost_mock_step halt = {.size = sizeof(halt), .op = IMPOST_MOCK_HALT};
	const struct impost_mock_control *control;
	const void *table;
	void *handle;

	if (impost_vm_extension(vm, IMPOST_MOCK_CONTROL, &table, &handle))
		return;
	control = table;
	for (int i = 0; i < 10; i++)
		CHECK(control->append(handle, 0, &halt, 1) == 0);
}

static void in_a_vm(void)
{
	struct impost_vm_config config;
	struct work work = {0};
	struct impost_vm *vm;

	CHECK(impost_vm_config_init(ctx, &config) == 0);
	config.memory = RAM;
	CHECK(impost_vm_create(ctx, &config, &vm) == 0);
	CHECK(impost_vcpu_create(vm, 0, &work.vcpu) == 0);
	boot(vm, work.vcpu);
	script_halt(vm);
	work.memory = impost_vm_memory(vm);
	migrate(&work);
	CHECK(impost_vcpu_destroy(work.vcpu) == 0);
	CHECK(impost_vm_destroy(vm) == 0);
}

/* PLUGIN-DIR BACKEND [KEY VALUE]... */
static int open_context(const char *dir, const char *backend, char **options)
{
	char section[64];
	int err = impost_context_open(NULL, NULL, &ctx);

	if (!err)
		err = impost_context_set(ctx, "impost", "plugin_dir", dir);
	if (!err)
		err = impost_context_set(ctx, "impost", "backend", backend);
	snprintf(section, sizeof(section), "backend.%s", backend);
	for (; !err && options[0]; options += 2)
		err = impost_context_set(ctx, section, options[0], options[1]);
	return err;
}

int main(int argc, char **argv)
{
	struct impost_caps caps = {.size = sizeof(caps)};

	if (argc < 4 || argc % 2) {
		fprintf(stderr, "usage: dirty PLUGIN-DIR BACKEND GUEST [KEY VALUE]...\n");
		return 1;
	}
	guest = argv[3];
	if (open_context(argv[1], argv[2], argv + 4)) {
		fprintf(stderr, "dirty: %s\n", ctx ? impost_error(ctx) : "no context");
		return 1;
	}
	if (impost_backend_probe(ctx, argv[2], &caps)) {
		printf("1..0 # SKIP %s\n", impost_error(ctx));
		return impost_context_close(ctx) != 0;
	}
	printf("1..2\n");
	alone();
	printf("%sok 1 - memory alone is copied while it is written\n",
	       atomic_load(&failed) ? "not " : "");
	in_a_vm();
	printf("%sok 2 - a VM's memory is copied while it runs\n",
	       atomic_load(&failed) ? "not " : "");
	return atomic_load(&failed) || impost_context_close(ctx) != 0;
}
