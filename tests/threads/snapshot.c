/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory is saved while threads write it, as a guest does: what is saved is the memory at the
 * instant of the plan. A plain program (plain.h). Prints TAP.
 *
 * Usage: snapshot PLUGIN-DIR GUEST, where GUEST is a static ELF64 that writes without end; on KVM.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <impost/pages.h>

#include "../unit/random.h"
#include "pager.h"
#include "plain.h"
#include "snapshot_file.h"
#include "snapshot_memory.h"
#include "uffd.h"

#define PAGE	IMPOST_PAGE_SIZE
#define RAM	(UINT64_C(24) << 20)
#define WRITERS 3
#define ROUNDS	8

static const struct snapshot_hash plain;

/* Writers, as vCPUs are: they stop when they are asked to, and go on. */
struct work {
	struct impost_memory *memory;
	struct impost_vcpu *vcpu;
	uint8_t *ram;
	atomic_int stop, hold, held;
	atomic_uint writes;
	bool discards;
};

/* What a guest does is nothing that a sanitizer sees. */
__attribute__((no_sanitize("thread"))) static void guest_write(uint8_t *ram, uint64_t state)
{
	*(volatile uint64_t *)(void *)(ram + state % (RAM / 8) * 8) = state;
}

static void wait_while_held(struct work *work)
{
	if (!atomic_load(&work->hold))
		return;
	atomic_fetch_add(&work->held, 1);
	while (atomic_load(&work->hold))
		sched_yield();
	atomic_fetch_sub(&work->held, 1);
}

static void *guest(void *arg)
{
	struct work *work = arg;
	uint64_t state = 1 + (uint64_t)atomic_fetch_add(&work->writes, 1);

	while (!atomic_load(&work->stop)) {
		wait_while_held(work);
		for (int i = 0; i < 20; i++)
			guest_write(work->ram, random_number(&state));
		if (work->discards && random_number(&state) % 50 == 0)
			CHECK(impost_pages_discard(work->memory,
						   random_number(&state) % (RAM / PAGE) * PAGE,
						   PAGE, 0) == 0);
		if (random_number(&state) % 50 == 0) { /* and the kernel, for it */
			uint64_t at = random_number(&state) % (RAM / PAGE) * PAGE;
			int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

			CHECK(syscall(SYS_read, fd, work->ram + at, PAGE) == PAGE);
			close(fd);
		}
		atomic_fetch_add(&work->writes, 1);
	}
	return NULL;
}

static void hold(struct work *work)
{
	atomic_store(&work->hold, 1);
	while (atomic_load(&work->held) < WRITERS)
		sched_yield();
}

static void release(struct work *work)
{
	atomic_store(&work->hold, 0);
	while (atomic_load(&work->held) > 0)
		sched_yield();
}

__attribute__((no_sanitize("thread"))) static void copy_ram(uint64_t *to, const uint8_t *ram)
{
	for (uint64_t i = 0; i < RAM / 8; i++)
		to[i] = ((const volatile uint64_t *)(const void *)ram)[i];
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* What FD has is what MODEL was. */
static void compare(struct memory_plan *plan, int fd, const uint64_t *model)
{
	const void *bytes = memory_plan_table(plan);
	struct memory_table *table;
	struct memory_layer layer = {.fd = fd, .hash = &plain, .name = "it"};
	uint64_t *read = malloc(RAM), wrong = 0;

	CHECK(memory_table_decode(ctx, bytes, memory_plan_table_bytes(plan),
				  memory_plan_area_bytes(plan), false, &table) == 0);
	layer.table = table;
	CHECK(memory_layers_read(ctx, &layer, 1, 0, read, RAM) == 0);
	for (uint64_t i = 0; i < RAM / 8; i++)
		if (read[i] != model[i] && wrong++ == 0)
			printf("# 0x%llx was 0x%llx, and 0x%llx was saved\n",
			       (unsigned long long)i * 8, (unsigned long long)model[i],
			       (unsigned long long)read[i]);
	CHECK(wrong == 0);
	memory_table_free(table);
	free(read);
}

/* One snapshot. */
static void take(struct work *work, uint64_t *model, bool populate, bool slowly, double *longest)
{
	const struct memory_write want = {
		.hash = &plain,
		.background = true,
		.populate = populate,
		.threads = slowly ? 1 : 2,
	};
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct memory_plan *plan;
	const char *why = "";
	unsigned seen;
	double began;

	hold(work);
	copy_ram(model, work->ram);
	began = now_ms();
	CHECK(memory_plan_make(work->memory, &want, &plan) == 0);
	if (now_ms() - began > *longest)
		*longest = now_ms() - began;
	CHECK(memory_plan_detached(plan, &why));
	release(work);
	seen = atomic_load(&work->writes);
	while (slowly && atomic_load(&work->writes) < seen + 200)
		sched_yield(); /* the guest gets through without the one who writes */
	CHECK(ftruncate(fd, (off_t)memory_plan_area_bytes(plan)) == 0);
	CHECK(memory_plan_write(plan, fd, 0) == 0);
	compare(plan, fd, model);
	memory_plan_commit(plan);
	memory_plan_free(plan);
	close(fd);
}

static void save_while_written(uint32_t kind, bool populate, bool discards)
{
	const struct impost_region region = {.size = sizeof(region), .kind = kind, .bytes = RAM};
	struct work work = {.discards = discards};
	uint64_t *model = malloc(RAM);
	pthread_t threads[WRITERS];
	double longest = 0;
	unsigned seen;
	void *ram = NULL;

	CHECK(impost_memory_create(ctx, &work.memory) == 0);
	CHECK(impost_memory_add(work.memory, &region) == 0);
	CHECK(impost_memory_ptr(work.memory, 0, RAM, &ram) == 0);
	work.ram = ram;
	for (int i = 0; i < WRITERS; i++)
		start(&threads[i], guest, &work);
	for (int i = 0; i < ROUNDS; i++) {
		take(&work, model, populate, i % 3 == 0, &longest);
		seen = atomic_load(&work.writes);
		while (atomic_load(&work.writes) < seen + 10)
			sched_yield();
	}
	atomic_store(&work.stop, 1);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	printf("# the longest plan took %.2f ms\n", longest);
	CHECK(impost_memory_destroy(work.memory) == 0);
	free(model);
}

static void anonymous(void)
{
	save_while_written(IMPOST_REGION_ANONYMOUS, false, false);
}

static void anonymous_populated(void)
{
	save_while_written(IMPOST_REGION_ANONYMOUS, true, false);
}

static void memfd(void)
{
	save_while_written(IMPOST_REGION_MEMFD, false, false);
}

static void balloon(void)
{
	save_while_written(IMPOST_REGION_ANONYMOUS, false, true);
	save_while_written(IMPOST_REGION_MEMFD, false, true);
}

/* Saving that fails lets the guest go on; so does a region that goes away in the middle of it. */
static void failures(void)
{
	const struct impost_region regions[] = {
		{.size = sizeof(regions[0]), .bytes = RAM},
		{.size = sizeof(regions[0]), .gpa = UINT64_C(1) << 32, .bytes = RAM},
	};
	const struct memory_write want = {.hash = &plain, .background = true, .threads = 2};
	struct work work = {0};
	pthread_t threads[WRITERS];
	struct memory_plan *plan;
	void *ram = NULL;

	CHECK(impost_memory_create(ctx, &work.memory) == 0);
	CHECK(impost_memory_add(work.memory, &regions[0]) == 0);
	CHECK(impost_memory_ptr(work.memory, 0, RAM, &ram) == 0);
	work.ram = ram;
	for (int i = 0; i < WRITERS; i++)
		start(&threads[i], guest, &work);
	for (int i = 0; i < ROUNDS; i++) {
		int fd = i % 2 ? open("/dev/full", O_WRONLY | O_CLOEXEC)
			       : open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		unsigned seen;

		CHECK(impost_memory_add(work.memory, &regions[1]) == 0);
		CHECK(impost_memory_fill(work.memory, regions[1].gpa, 1, RAM) == 0);
		hold(&work);
		CHECK(memory_plan_make(work.memory, &want, &plan) == 0);
		release(&work);
		CHECK(impost_memory_remove(work.memory, regions[1].gpa) == 0);
		CHECK(memory_plan_write(plan, fd, 0) == (i % 2 ? -ENOSPC : -EFAULT));
		memory_plan_free(plan);
		seen = atomic_load(&work.writes);
		while (atomic_load(&work.writes) < seen + 50)
			sched_yield();
		close(fd);
	}
	atomic_store(&work.stop, 1);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	CHECK(impost_memory_destroy(work.memory) == 0);
}

/* --- memory that comes while it is used --- */

static void *use(void *arg)
{
	struct work *work = arg;
	uint64_t state = 77 + (uint64_t)atomic_fetch_add(&work->writes, 1), value;

	for (int i = 0; i < 300; i++) {
		uint64_t at = random_number(&state) % (RAM / 8) * 8;

		CHECK(impost_memory_read(work->memory, at, &value, 8) == 0);
		CHECK(value == 0 || value == at + 1);
	}
	return NULL;
}

static void lazily(void)
{
	const struct impost_region region = {.size = sizeof(region), .bytes = RAM};
	const struct memory_write want = {.hash = &plain};
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct memory_layer layer = {.fd = fd, .hash = &plain, .name = "it"};
	struct impost_memory *memory;
	struct memory_table *table;
	struct memory_plan *plan;

	CHECK(impost_memory_create(ctx, &memory) == 0);
	CHECK(impost_memory_add(memory, &region) == 0);
	for (uint64_t at = 0; at < RAM; at += at % (3 * PAGE) ? 8 : PAGE + 8) {
		uint64_t value = at + 1;

		CHECK(impost_memory_write(memory, at, &value, 8) == 0);
	}
	CHECK(memory_plan_make(memory, &want, &plan) == 0);
	CHECK(ftruncate(fd, (off_t)memory_plan_area_bytes(plan)) == 0);
	CHECK(memory_plan_write(plan, fd, 0) == 0);
	CHECK(memory_table_decode(ctx, memory_plan_table(plan), memory_plan_table_bytes(plan),
				  memory_plan_area_bytes(plan), false, &table) == 0);
	impost_memory_destroy(memory);
	layer.table = table;
	for (int i = 0; i < ROUNDS; i++) {
		const struct memory_restore lazy = {.how = MEMORY_RESTORE_LAZY,
						    .no_prefetch = i % 3 == 0};
		pthread_t threads[WRITERS];
		struct work work = {0};

		CHECK(impost_memory_create(ctx, &work.memory) == 0);
		CHECK(memory_layers_restore(work.memory, &layer, 1, &lazy) == 0);
		for (int k = 0; k < WRITERS; k++)
			start(&threads[k], use, &work);
		if (i % 3 == 1)
			CHECK(memory_settle(work.memory) == 0);
		for (int k = 0; k < WRITERS; k++)
			pthread_join(threads[k], NULL);
		CHECK(impost_memory_destroy(work.memory) == 0);
	}
	memory_table_free(table);
	memory_plan_free(plan);
	close(fd);
}

/* --- a guest that KVM runs --- */

static const char *guest_path;

static void *run_guest(void *arg)
{
	struct work *work = arg;
	struct impost_exit exit;

	while (!atomic_load(&work->stop)) {
		CHECK(impost_vcpu_run(work->vcpu, &exit) == 0);
		atomic_fetch_add(&work->writes, 1);
	}
	return NULL;
}

/* How many pages of RAM are not what MODEL was. */
static uint64_t changed_pages(const uint8_t *ram, const uint64_t *model)
{
	uint64_t changed = 0;

	for (uint64_t at = 0; at < RAM; at += PAGE)
		changed += memcmp(ram + at, (const uint8_t *)model + at, PAGE) != 0;
	return changed;
}

/* Saves the running guest; what it writes meanwhile is in the memory, and not in the file. */
static void save_guest(struct impost_vm *vm, struct work *work, uint64_t *model, bool populate)
{
	const struct memory_write want = {
		.hash = &plain, .background = true, .populate = populate, .threads = 1};
	const struct timespec some = {.tv_nsec = 20000000};
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct memory_plan *plan;

	CHECK(impost_vm_hold(vm, 5000) == 0);
	copy_ram(model, work->ram);
	CHECK(memory_plan_make(work->memory, &want, &plan) == 0);
	CHECK(memory_plan_detached(plan, NULL));
	CHECK(impost_vm_release(vm) == 0);
	nanosleep(&some, NULL); /* the guest writes, and nobody else */
	CHECK(changed_pages(work->ram, model) > 100);
	CHECK(ftruncate(fd, (off_t)memory_plan_area_bytes(plan)) == 0);
	CHECK(memory_plan_write(plan, fd, 0) == 0);
	compare(plan, fd, model);
	memory_plan_commit(plan);
	memory_plan_free(plan);
	close(fd);
}

static void on_kvm(void)
{
	uint64_t *model = malloc(RAM);
	struct work work = {0};
	struct impost_vm *vm =
		make_vm(&work.vcpu, 1, RAM, guest_path, "rounds=0 every=0 pages=1500");
	pthread_t thread;
	void *ram = NULL;

	work.memory = impost_vm_memory(vm);
	CHECK(impost_memory_ptr(work.memory, 0, RAM, &ram) == 0);
	work.ram = ram;
	start(&thread, run_guest, &work);
	for (int i = 0; i < ROUNDS; i++)
		save_guest(vm, &work, model, i % 2);
	atomic_store(&work.stop, 1);
	CHECK(impost_vcpu_kick(work.vcpu) == 0);
	pthread_join(thread, NULL);
	CHECK(impost_vcpu_destroy(work.vcpu) == 0);
	CHECK(impost_vm_destroy(vm) == 0);
	free(model);
}

static const struct test tests[] = {
	{"anonymous memory is saved while it is written", anonymous, NULL},
	{"the same where pages must be there to be protected", anonymous_populated, NULL},
	{"a memfd is saved while it is written", memfd, NULL},
	{"memory is saved while a balloon takes some of it", balloon, NULL},
	{"a guest goes on when saving fails", failures, NULL},
	{"memory comes while threads use it", lazily, NULL},
	{"a guest on KVM is saved while it runs", on_kvm, "kvm"},
};

int main(int argc, char **argv)
{
	int fd = uffd_open(0);

	if (fd < 0) {
		printf("1..0 # SKIP this process may not have a userfaultfd: %s\n", strerror(-fd));
		return 0;
	}
	close(fd);
	if (argc != 3) {
		fprintf(stderr, "usage: snapshot PLUGIN-DIR GUEST\n");
		return 1;
	}
	guest_path = argv[2];
	if (open_context("snapshot", argv[1], "kvm"))
		return 1;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
