/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty tracking: against a model, with the mock's log and with none; failures in the middle. */
#include <sys/wait.h>

#include "../dirty_model.h"
#include "core.h"

#define PAGE   IMPOST_PAGE_SIZE
#define LOG    "mem-host,mem-readonly,irqchip-none,dirty-log"
#define MANUAL LOG ",dirty-manual,dirty-initially-set"

static struct impost_context *ctx;

static void begin(void)
{
	ctx = open_context();
}

static void end(void)
{
	cr_expect(impost_context_close(ctx) == 0);
}

TestSuite(dirty, .init = begin, .fini = end);

static int add(struct impost_memory *to, uint64_t gpa, uint64_t pages)
{
	struct impost_region region = {.size = sizeof(region), .gpa = gpa, .bytes = pages * PAGE};

	return impost_memory_add(to, &region);
}

static struct impost_dirty *open_reader(struct impost_memory *memory, uint32_t flags)
{
	const struct impost_dirty_config config = {.size = sizeof(config), .flags = flags};
	struct impost_dirty *dirty = NULL;

	expect_ok(ctx, impost_dirty_create(memory, &config, &dirty));
	cr_assert(dirty && impost_dirty_memory(dirty) == memory);
	return dirty;
}

/* Takes with room for CAPACITY; the ranges are those that follow: gpa, pages, gpa, pages, ... */
static void expect_take(struct impost_dirty *dirty, uint64_t capacity, uint64_t count,
			const uint64_t *wanted)
{
	struct impost_range ranges[16];
	uint64_t got = UINT64_MAX;

	expect_ok(ctx, impost_dirty_take(dirty, ranges, capacity, &got));
	cr_assert(got == count, "%lu ranges, not %lu", (unsigned long)got, (unsigned long)count);
	for (uint64_t i = 0; i < count; i++)
		cr_assert(ranges[i].gpa == wanted[2 * i] &&
				  ranges[i].bytes == wanted[2 * i + 1] * PAGE,
			  "range %lu is 0x%lx, %lu bytes", (unsigned long)i,
			  (unsigned long)ranges[i].gpa, (unsigned long)ranges[i].bytes);
}

#define EXPECT_TAKE(dirty, capacity, ...)                                               \
	expect_take(dirty, capacity, sizeof((const uint64_t[]){0, ##__VA_ARGS__}) / 16, \
		    (const uint64_t[]){0, ##__VA_ARGS__} + 1)

static void touch(struct impost_memory *memory, uint64_t gpa)
{
	expect_ok(ctx, impost_memory_fill(memory, gpa, 1, 1));
}

/* --- without a VM --- */

Test(dirty, ranges_merge_over_borders_and_calls)
{
	struct impost_memory *memory;
	struct impost_dirty *dirty;

	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, add(memory, 0, 3));
	expect_ok(ctx, add(memory, 3 * PAGE, 64));
	expect_ok(ctx, add(memory, 100 * PAGE, 2));
	dirty = open_reader(memory, 0);
	EXPECT_TAKE(dirty, 4);
	expect_ok(ctx, impost_memory_fill(memory, 2 * PAGE + 5, 1, 2 * PAGE));
	touch(memory, 66 * PAGE);
	touch(memory, 101 * PAGE);
	EXPECT_TAKE(dirty, 4); /* not pulled yet */
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 4, 2 * PAGE, 3, 66 * PAGE, 1, 101 * PAGE, 1);
	EXPECT_TAKE(dirty, 4);
	/* Room for one: what was taken is gone, and the pass goes on. */
	touch(memory, 0);
	touch(memory, 2 * PAGE);
	touch(memory, 3 * PAGE);
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 1, 0, 1);
	touch(memory, 0);
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 1, 2 * PAGE, 2);
	EXPECT_TAKE(dirty, 1); /* over */
	EXPECT_TAKE(dirty, 1, 0, 1);
	EXPECT_TAKE(dirty, 1);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_memory_destroy(memory));
}

/* Where the last page ends the address space, there is no page behind it to go on with. */
Test(dirty, the_last_page_of_the_address_space)
{
	const uint64_t last = UINT64_MAX - PAGE + 1;
	struct impost_memory *memory;
	struct impost_dirty *dirty;

	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, add(memory, 0, 1));
	expect_ok(ctx, add(memory, last, 1));
	dirty = open_reader(memory, IMPOST_DIRTY_ALL);
	EXPECT_TAKE(dirty, 2, 0, 1, last, 1);
	EXPECT_TAKE(dirty, 2);
	touch(memory, UINT64_MAX);
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 1, last, 1);
	EXPECT_TAKE(dirty, 1);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_memory_destroy(memory));
}

Test(dirty, wrong_arguments)
{
	struct impost_dirty_config config = {.size = sizeof(config), .flags = 8};
	struct impost_memory *memory;
	struct impost_dirty *dirty = NULL;
	struct impost_range range;
	uint64_t count = 77;
	struct impost_view view;

	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, add(memory, 0, 1));
	expect_error(ctx, impost_dirty_create(memory, &config, &dirty), -EINVAL, "flags 0x8");
	config.size = 4;
	expect_error(ctx, impost_dirty_create(memory, &config, &dirty), -EINVAL, "size 4");
	expect_ok(ctx, impost_view_begin(memory, &view));
	expect_error(ctx, impost_dirty_create(memory, NULL, &dirty), -EDEADLK, "view");
	impost_view_end(&view);
	cr_expect(!dirty);
	expect_ok(ctx, impost_dirty_create(memory, NULL, &dirty));
	expect_error(ctx, impost_dirty_take(dirty, NULL, 1, &count), -EINVAL, "room for one");
	expect_error(ctx, impost_dirty_take(dirty, &range, 0, &count), -EINVAL, "room for one");
	expect_error(ctx, impost_dirty_region(dirty, PAGE, &count), -ENOENT, "0x1000");
	cr_expect(count == 77);
	expect_error(ctx, impost_memory_destroy(memory), -EBUSY, "1 reader of dirty pages");
	expect_ok(ctx, impost_view_begin(memory, &view));
	expect_error(ctx, impost_dirty_destroy(dirty), -EDEADLK, "view");
	expect_ok(ctx, impost_dirty_sync(dirty)); /* in the middle of a view */
	expect_ok(ctx, impost_dirty_take(dirty, &range, 1, &count));
	impost_view_end(&view);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_dirty_destroy(NULL));
	expect_ok(ctx, impost_memory_destroy(memory));
}

Test(dirty, counts)
{
	LONGER(struct impost_dirty_stats) stats = {.known = {.size = sizeof(stats.known)}};
	struct impost_memory *memory;
	struct impost_dirty *dirty, *second;
	uint64_t pages;

	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, add(memory, 0, 100));
	dirty = open_reader(memory, 0);
	expect_ok(ctx, impost_memory_fill(memory, 0, 1, 40 * PAGE));
	usleep(2000);
	expect_ok(ctx, impost_dirty_sync(dirty));
	second = open_reader(memory, IMPOST_DIRTY_ALL);
	expect_ok(ctx, impost_dirty_stats(dirty, &stats.known));
	cr_expect(stats.known.pending == 40 && stats.known.from_host == 40);
	cr_expect(stats.known.from_log == 0 && stats.known.protects == 0);
	cr_expect(stats.known.readers == 2 && stats.known.syncs == 1 && stats.known.passes == 0);
	cr_expect(stats.known.last_pages == 40 && stats.known.all_pages == 40);
	cr_expect(stats.known.last_ns >= 2000000 && stats.known.last_ns == stats.known.all_ns);
	cr_expect(stats.known.last_rate > 0 && stats.known.last_rate <= 20000);
	EXPECT_TAKE(dirty, 2, 0, 40);
	touch(memory, 0);
	usleep(1000);
	expect_ok(ctx, impost_dirty_sync(dirty));
	expect_fills(ctx, stats, impost_dirty_stats(dirty, &stats.known));
	cr_expect(stats.known.pending == 1 && stats.known.taken == 40);
	cr_expect(stats.known.syncs == 2 && stats.known.passes == 1);
	cr_expect(stats.known.last_pages == 1 && stats.known.all_pages == 41);
	cr_expect(stats.known.all_ns >= stats.known.last_ns + 2000000);
	cr_expect(stats.known.all_rate == stats.known.all_pages * 1000000000 / stats.known.all_ns);
	expect_ok(ctx, impost_dirty_region(second, 0, &pages));
	cr_expect(pages == 100);
	expect_ok(ctx, impost_dirty_stats(second, &stats.known));
	cr_expect(stats.known.from_host == 1 && stats.known.syncs == 0 && stats.known.all_ns == 0 &&
		  stats.known.all_rate == 0);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_dirty_destroy(second));
	expect_ok(ctx, impost_memory_destroy(memory));
}

/* --- backends that cannot, or fail --- */

Test(dirty, a_backend_without_log)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,irqchip-none", &fake);
	struct impost_memory *memory = impost_vm_memory(vm);
	struct impost_dirty *dirty = NULL;

	expect_ok(ctx, add(memory, 0, 10));
	expect_error(ctx, impost_dirty_create(memory, NULL, &dirty), -ENOTSUP,
		     "backend fake has no dirty-log");
	cr_expect(!dirty);
	dirty = open_reader(memory, IMPOST_DIRTY_HOST_ONLY);
	touch(memory, PAGE);
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 2, PAGE, 1);
	expect_error(ctx, impost_vm_destroy(vm), -EBUSY, "destroy it first");
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_vm_destroy(vm));
}

/* The log of what the guest cannot write is left alone, and the host's other way to it is shut. */
Test(dirty, whose_log_it_is)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, LOG, &fake);
	struct impost_memory *memory = impost_vm_memory(vm);
	struct impost_region rom = {.size = sizeof(rom),
				    .gpa = 16 * PAGE,
				    .bytes = PAGE,
				    .flags = IMPOST_REGION_READONLY};
	struct impost_dirty *dirty, *host;
	uint32_t calls;

	expect_ok(ctx, impost_memory_add(memory, &rom));
	calls = fake->calls;
	host = open_reader(memory, IMPOST_DIRTY_HOST_ONLY);
	dirty = open_reader(memory, 0);
	cr_expect(fake->calls == calls);
	touch(memory, rom.gpa);
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 2, rom.gpa, 1);
	EXPECT_TAKE(host, 2, rom.gpa, 1);
	cr_expect(fake->calls == calls);
	expect_error(ctx, impost_vm_dirty_start(vm, rom.gpa), -EBUSY, "1 reader of dirty pages");
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_vm_dirty_start(vm, rom.gpa)); /* HOST has no use for it */
	expect_ok(ctx, impost_dirty_destroy(host));
	expect_ok(ctx, impost_vm_destroy(vm));
}

/* Who asks for the host's writes alone makes no call of the backend, whoever else reads its log. */
Test(dirty, the_hosts_writes_alone)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, MANUAL, &fake);
	struct impost_memory *memory = impost_vm_memory(vm);
	struct impost_dirty_stats stats = {.size = sizeof(stats)};
	struct impost_dirty *dirty, *host;
	uint32_t calls;

	fake->log_word = 1;
	expect_ok(ctx, add(memory, 0, 10));
	dirty = open_reader(memory, IMPOST_DIRTY_ALL);
	expect_ok(ctx, impost_dirty_sync(dirty));
	calls = fake->calls;
	host = open_reader(memory, IMPOST_DIRTY_HOST_ONLY);
	touch(memory, 5 * PAGE);
	expect_ok(ctx, impost_dirty_sync(host));
	EXPECT_TAKE(host, 2, 5 * PAGE, 1);
	cr_expect(fake->calls == calls);
	EXPECT_TAKE(dirty, 2, 0, 10);
	EXPECT_TAKE(dirty, 2);
	expect_ok(ctx, impost_dirty_sync(dirty));
	expect_ok(ctx, impost_dirty_stats(dirty, &stats));
	cr_expect(stats.from_log == 1 && stats.from_host == 1 && stats.protects == 1);
	calls = fake->calls;
	expect_ok(ctx, impost_dirty_sync(host));
	expect_ok(ctx, impost_dirty_stats(host, &stats));
	cr_expect(stats.from_log == 0 && stats.from_host == 1 && stats.protects == 0);
	cr_expect(stats.all_pages == 1 && stats.last_pages == 0);
	expect_ok(ctx, impost_dirty_destroy(host));
	cr_expect(fake->calls == calls);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_vm_destroy(vm));
}

/* Wherever it fails, tracking is as it was. */
Test(dirty, a_log_that_cannot_start_or_stop)
{
	static const char *const ops[] = {"dirty_start", "dirty_fetch", "dirty_clear"};
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, MANUAL, &fake);
	struct impost_memory *memory = impost_vm_memory(vm);
	struct impost_dirty *dirty = NULL;

	for (uint64_t i = 0; i < 3; i++)
		expect_ok(ctx, add(memory, i * 16 * PAGE, 10));
	fake->fail_with = -EIO;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		for (uint32_t skip = 0; skip < 3; skip++) {
			fake->fail_op = ops[i];
			fake->fail_skip = skip;
			expect_error(ctx, impost_dirty_create(memory, NULL, &dirty), -EIO, ops[i]);
			cr_expect(!dirty && fake->logs == 0, "%s: %u logs are on", ops[i],
				  fake->logs);
			cr_expect(fake->fail_skip == 0);
		}
	fake->fail_op = NULL;
	dirty = open_reader(memory, 0);
	cr_expect(fake->logs == 3);
	fake->fail_op = "dirty_stop";
	fake->fail_skip = 2;
	expect_error(ctx, impost_dirty_destroy(dirty), -EIO, "dirty_stop");
	cr_expect(fake->logs == 1); /* the others were stopped */
	fake->fail_op = NULL;
	expect_ok(ctx, impost_vm_destroy(vm)); /* there is no reader any more */
}

/* What was not delivered stays, whole. */
Test(dirty, a_log_that_fails_in_the_middle)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, MANUAL, &fake);
	struct impost_memory *memory = impost_vm_memory(vm);
	struct impost_dirty_stats stats = {.size = sizeof(stats)};
	struct impost_dirty *dirty, *other;
	struct impost_range ranges[8];
	uint64_t count = 77;

	for (uint64_t i = 0; i < 3; i++)
		expect_ok(ctx, add(memory, i * 16 * PAGE, 10));
	fake->log_word = 0;
	dirty = open_reader(memory, IMPOST_DIRTY_ALL);
	other = open_reader(memory, IMPOST_DIRTY_ALL);
	EXPECT_TAKE(dirty, 1, 0, 10);
	fake->fail_op = "dirty_clear";
	fake->fail_with = -EIO;
	fake->fail_skip = 1;
	expect_error(ctx, impost_dirty_take(dirty, ranges, 8, &count), -EIO, "dirty_clear");
	cr_expect(count == 77);
	expect_ok(ctx, impost_dirty_stats(dirty, &stats));
	cr_expect(stats.pending == 20 && stats.taken == 10);
	fake->fail_op = "dirty_fetch";
	touch(memory, 32 * PAGE);
	touch(memory, 0);
	expect_error(ctx, impost_dirty_sync(dirty), -EIO, "dirty_fetch");
	fake->fail_op = NULL;
	EXPECT_TAKE(dirty, 8, 16 * PAGE, 10, 32 * PAGE, 10);
	EXPECT_TAKE(dirty, 8, 0, 1);
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 8, 32 * PAGE, 1);
	EXPECT_TAKE(other, 8, 0, 10, 16 * PAGE, 10, 32 * PAGE, 10);
	/* A region that cannot be logged is not added; one that cannot be removed stays. */
	fake->fail_op = "dirty_start";
	expect_error(ctx, add(memory, 64 * PAGE, 1), -EIO, "dirty_start");
	cr_expect(fake->slot[3].bytes == 0);
	fake->fail_op = "mem_remove";
	touch(memory, 16 * PAGE);
	expect_error(ctx, impost_memory_remove(memory, 16 * PAGE), -EIO, "mem_remove");
	fake->fail_op = NULL;
	expect_ok(ctx, impost_dirty_sync(dirty));
	EXPECT_TAKE(dirty, 8, 16 * PAGE, 1);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_dirty_destroy(other));
	expect_ok(ctx, impost_vm_destroy(vm));
}

Test(dirty, a_reader_does_not_survive_fork)
{
	struct impost_memory *memory;
	struct impost_dirty *dirty, *more = NULL;
	struct impost_range range;
	uint64_t count;
	int status;
	pid_t child;

	expect_ok(ctx, impost_memory_create(ctx, &memory));
	dirty = open_reader(memory, 0);
	child = fork();
	if (child == 0)
		_exit(impost_dirty_sync(dirty) != -IMPOST_EFORKED ||
		      impost_dirty_take(dirty, &range, 1, &count) != -IMPOST_EFORKED ||
		      impost_dirty_create(memory, NULL, &more) != -IMPOST_EFORKED ||
		      impost_dirty_destroy(dirty) != -IMPOST_EFORKED);
	cr_assert(waitpid(child, &status, 0) == child && status == 0);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	expect_ok(ctx, impost_memory_destroy(memory));
}

Test(dirty, nothing_is_left)
{
	struct belongings before = {0};
	struct impost_memory *memory;

	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, add(memory, 0, 100000)); /* bitmaps of several pages */
	for (uint32_t i = 0; i < 1000; i++) {
		struct impost_dirty *first = open_reader(memory, i % 2 ? IMPOST_DIRTY_ALL : 0);
		struct impost_dirty *second = open_reader(memory, 0);

		expect_ok(ctx, add(memory, UINT64_C(1) << 40, 100000));
		touch(memory, UINT64_C(1) << 40);
		expect_ok(ctx, impost_dirty_sync(second));
		expect_ok(ctx, impost_dirty_destroy(first));
		expect_ok(ctx, impost_memory_remove(memory, UINT64_C(1) << 40));
		expect_ok(ctx, impost_dirty_destroy(second));
		if (i == 9)
			before = count_belongings();
	}
	expect_same_belongings(before);
	expect_ok(ctx, impost_memory_destroy(memory));
}

/* --- against the model --- */

static void walk(struct model *model)
{
	model_begin(model);
	model_walk(model, 1500);
	model_end(model);
	model_begin(model);
	model_loose_walk(model, 3000);
	model_end(model);
}

Test(dirty, without_a_vm_it_is_the_model)
{
	static struct model model = {.seed = 99, .rom = true};

	model.ctx = ctx;
	expect_ok(ctx, impost_memory_create(ctx, &model.memory));
	walk(&model);
	expect_ok(ctx, impost_memory_destroy(model.memory));
}
