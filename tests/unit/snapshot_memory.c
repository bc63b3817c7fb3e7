/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's memory: what is written and restored, in all ways, is what a model has. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <impost/pages.h>

#include "crew.h"
#include "pager.h"
#include "snapshot_machine.h"

static const struct snapshot_hash plain;

static struct impost_dirty *make_reader(struct machine *machine)
{
	struct impost_dirty *dirty;

	expect_ok(machine->ctx, impost_dirty_create(machine->memory, NULL, &dirty));
	return dirty;
}

/* --- full --- */

/* KIND of memory, saved by THREADS with KEY, comes back; holes are zero pages. */
static void round_trip(struct impost_context *ctx, const struct impost_region *made,
		       uint32_t threads, const struct snapshot_hash *hash, uint64_t state)
{
	const struct memory_write want = {.hash = hash, .threads = threads};
	struct belongings before = count_own();
	uint64_t all, data, zero;
	struct machine machine;
	struct memory_layer layer;
	struct saved saved;
	struct stat status;

	make_machine(&machine, ctx, made);
	scribble(&machine, &state, 40);
	save(&machine, &want, &saved);
	memory_table_pages(saved.table, &all, &data, &zero);
	cr_expect(data + zero == all);
	cr_assert(fstat(saved.fd, &status) == 0);
	cr_expect((uint64_t)status.st_blocks * 512 == data * PAGE, "%llu pages, %llu bytes",
		  (unsigned long long)data, (unsigned long long)status.st_blocks * 512);
	expect_memory(ctx, machine.memory, &machine, "after saving");
	layer = layer_of(&saved);
	expect_restored(&machine, &layer, 1);
	destroy_machine(&machine);
	free_saved(&saved);
	expect_same_own(before);
}

Test(snapshot_memory, full)
{
	struct impost_context *ctx = open_context();
	struct snapshot_hash keyed = {.keyed = true, .key = {1, 2, 3}};
	const struct impost_region anonymous = {.kind = IMPOST_REGION_ANONYMOUS};
	const struct impost_region memfd = {.kind = IMPOST_REGION_MEMFD};

	for (uint32_t i = 0; i < 4; i++) {
		round_trip(ctx, &anonymous, i, &plain, i + 1);
		round_trip(ctx, &memfd, i, &keyed, i + 10);
	}
	impost_context_close(ctx);
}

/* Memory that may not be touched: a file that could become shorter. */
Test(snapshot_memory, careful)
{
	struct impost_context *ctx = open_context();
	const struct memory_write want = {.hash = &plain, .threads = 2};
	struct impost_region file = {.size = sizeof(file),
				     .kind = IMPOST_REGION_FD,
				     .flags = IMPOST_REGION_SHARED,
				     .bytes = 300 * PAGE};
	uint8_t *page = malloc(300 * PAGE);
	struct impost_memory *memory, *copy;
	const struct memory_restore map = {.how = MEMORY_RESTORE_MAP};
	struct machine machine = {.ctx = ctx};
	struct memory_layer layer;
	struct memory_plan *plan;
	struct saved saved;

	file.fd = file_without_name("/dev/shm");
	cr_assert(ftruncate(file.fd, 300 * PAGE) == 0);
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, impost_memory_add(memory, &file));
	expect_ok(ctx, impost_memory_fill(memory, 70 * PAGE, 7, 100 * PAGE));
	machine.memory = memory;
	save(&machine, &want, &saved);
	layer = layer_of(&saved);
	expect_ok(ctx, impost_memory_create(ctx, &copy));
	expect_ok(ctx, memory_layers_restore(copy, &layer, 1, &map));
	expect_ok(ctx, impost_memory_read(copy, 0, page, 300 * PAGE));
	for (uint64_t i = 0; i < 300 * PAGE; i++)
		cr_assert(page[i] == (i >= 70 * PAGE && i < 170 * PAGE ? 7 : 0));
	impost_memory_destroy(copy);
	free_saved(&saved);

	expect_ok(ctx, memory_plan_make(memory, &want, &plan));
	cr_assert(ftruncate(file.fd, 100 * PAGE) == 0);
	saved.fd = file_without_name("/dev/shm");
	expect_error(ctx, memory_plan_write(plan, saved.fd, 0), -EIO, "lost memory");
	memory_plan_free(plan);
	impost_memory_destroy(memory);
	close(saved.fd);
	close(file.fd);
	free(page);
	impost_context_close(ctx);
}

/* Into memory of a file that holds something else. */
Test(snapshot_memory, over_old_content)
{
	struct impost_context *ctx = open_context();
	const struct memory_write want = {.hash = &plain};
	const struct memory_restore copy = {.how = MEMORY_RESTORE_COPY, .threads = 2};
	const struct memory_restore lazy = {.how = MEMORY_RESTORE_LAZY};
	const struct impost_region anonymous = {0};
	char path[] = "/dev/shm/impost-test-XXXXXX", junk[PAGE];
	struct impost_memory *memory;
	struct machine machine;
	struct memory_layer layer;
	struct saved saved;
	uint64_t state = 77;
	int fd = mkstemp(path);

	memset(junk, 5, sizeof(junk));
	for (int i = 0; i < 64 * 20 + 100; i++)
		cr_assert(write(fd, junk, PAGE) == PAGE);
	make_machine(&machine, ctx, &anonymous);
	scribble(&machine, &state, 20);
	save(&machine, &want, &saved);
	layer = layer_of(&saved);
	expect_ok(ctx, impost_context_set(ctx, "memory", "backing", "file"));
	expect_ok(ctx, impost_context_set(ctx, "memory", "path", path));
	expect_ok(ctx, impost_context_set(ctx, "memory", "shared", "yes"));
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_error(ctx, memory_layers_restore(memory, &layer, 1, &lazy), -ENOTSUP, "lazily");
	expect_ok(ctx, memory_layers_restore(memory, &layer, 1, &copy));
	expect_memory(ctx, memory, &machine, "over a file");
	expect_error(ctx, memory_layers_restore(memory, &layer, 1, &copy), -EEXIST, "already");
	impost_memory_destroy(memory);
	destroy_machine(&machine);
	free_saved(&saved);
	unlink(path);
	close(fd);
	impost_context_close(ctx);
}

/* --- chains --- */

#define CHAIN 6

static void expect_read(struct machine *machine, const struct memory_layer *layers, uint32_t n,
			uint64_t *state)
{
	uint8_t *buf = malloc(places[0].bytes);

	for (int i = 0; i < 20; i++) {
		uint64_t at = random_below(state, (uint32_t)places[0].bytes - 1);
		uint64_t len = 1 + random_below(state, (uint32_t)(places[0].bytes - at));

		len = i % 2 ? len : len % 100 + 1;
		len = len < places[0].bytes - at ? len : places[0].bytes - at;
		expect_ok(machine->ctx, memory_layers_read(machine->ctx, layers, n, at, buf, len));
		cr_expect(memcmp(buf, machine->model[0] + at, len) == 0);
	}
	expect_error(machine->ctx,
		     memory_layers_read(machine->ctx, layers, n, places[0].bytes - 1, buf, 2),
		     -EFAULT, "no memory at");
	free(buf);
}

static void expect_flattened(struct machine *machine, const struct memory_layer *layers, uint32_t n)
{
	const struct memory_write want = {.hash = &plain, .threads = 2};
	uint64_t all, data, zero, pages = 0;
	struct memory_plan *plan;
	struct memory_layer flat;
	struct saved saved;

	expect_ok(machine->ctx, memory_layers_plan(machine->ctx, layers, n, &want, &plan));
	write_plan(machine->ctx, plan, false, &plain, &saved);
	flat = layer_of(&saved);
	expect_restored(machine, &flat, 1);
	memory_table_pages(saved.table, &all, &data, &zero);
	for (uint32_t i = 0; i < REGIONS; i++)
		for (uint64_t at = 0; at < places[i].bytes; at += PAGE)
			for (uint64_t k = 0; k < PAGE; k++)
				if (machine->model[i][at + k]) {
					pages++;
					break;
				}
	cr_expect(data == pages, "%llu pages in the file, and %llu are not zero",
		  (unsigned long long)data, (unsigned long long)pages);
	free_saved(&saved);
}

/* Random writes, each followed by a diff; after each the chain is what the memory is. */
static void chain(struct impost_context *ctx, uint64_t state)
{
	const struct impost_region anonymous = {.kind = state % 2 ? IMPOST_REGION_ANONYMOUS
								  : IMPOST_REGION_MEMFD};
	struct memory_layer layers[CHAIN + 1];
	struct saved saved[CHAIN + 1];
	struct impost_dirty *dirty;
	struct machine machine;

	make_machine(&machine, ctx, &anonymous);
	scribble(&machine, &state, 30);
	dirty = make_reader(&machine);
	scribble(&machine, &state, 10);
	for (uint32_t i = 0; i <= CHAIN; i++) {
		const struct memory_write want = {.hash = &plain,
						  .threads = 1 + i % 3,
						  .since = dirty,
						  .diff = i > 0,
						  .background = random_below(&state, 2),
						  .populate = random_below(&state, 2)};

		save(&machine, &want, &saved[CHAIN - i]);
		layers[CHAIN - i] = layer_of(&saved[CHAIN - i]);
		expect_restored(&machine, &layers[CHAIN - i], i + 1);
		expect_read(&machine, &layers[CHAIN - i], i + 1, &state);
		if (random_below(&state, 4))
			scribble(&machine, &state, 1 + random_below(&state, 25));
	}
	expect_error(ctx, memory_layers_check(ctx, layers, CHAIN), -IMPOST_EFORMAT, "needs one");
	expect_error(ctx, memory_layers_check(ctx, layers + CHAIN, 0), -IMPOST_EFORMAT, "chain");
	/* The model is of the memory now, and the chain of what was saved last. */
	{
		const struct memory_write want = {.hash = &plain, .since = dirty, .diff = true};
		struct memory_layer all[CHAIN + 2];
		struct saved last;

		save(&machine, &want, &last);
		all[0] = layer_of(&last);
		memcpy(all + 1, layers, sizeof(layers));
		expect_flattened(&machine, all, CHAIN + 2);
		free_saved(&last);
	}
	for (uint32_t i = 0; i <= CHAIN; i++)
		free_saved(&saved[i]);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	destroy_machine(&machine);
}

Test(snapshot_memory, chains, .timeout = 120)
{
	struct impost_context *ctx = open_context();

	for (uint64_t seed = 1; seed <= 6; seed++)
		chain(ctx, seed);
	impost_context_close(ctx);
}

/* --- what goes wrong --- */

static int cancel(void *opaque, uint64_t done, uint64_t total)
{
	unsigned *calls = opaque;

	cr_expect(done <= total);
	return ++*calls == 1;
}

static int count(void *opaque, uint64_t done, uint64_t total)
{
	uint64_t *last = opaque;

	cr_expect(done >= *last && done <= total && total > 0);
	*last = done;
	return 0;
}

/* A diff that cannot be written, by an error or because it is cancelled, takes nothing away: the
 * next one has it all. */
static void fails_and_goes_on(struct impost_context *ctx, bool background, bool cancelled)
{
	const struct impost_region anonymous = {0};
	unsigned calls = 0;
	struct memory_write want = {
		.hash = &plain, .threads = 2, .background = background, .opaque = &calls};
	struct memory_layer layers[2];
	struct belongings before;
	struct impost_dirty *dirty;
	struct memory_plan *plan;
	struct machine machine;
	struct saved saved[2];
	uint64_t state = 5;
	int fd = cancelled ? file_without_name("/dev/shm") : open("/dev/full", O_WRONLY);

	make_machine(&machine, ctx, &anonymous);
	dirty = make_reader(&machine);
	scribble(&machine, &state, 20);
	want.since = dirty;
	before = count_own();
	for (int i = 0; i < 2; i++) {
		if (cancelled)
			want.progress = cancel;
		calls = 0;
		expect_ok(ctx, memory_plan_make(machine.memory, &want, &plan));
		cr_expect(memory_plan_detached(plan, NULL) == (background && has_uffd()));
		if (cancelled)
			expect_error(ctx, memory_plan_write(plan, fd, 0), -ECANCELED, "cancelled");
		else
			expect_error(ctx, memory_plan_write(plan, fd, 0), -ENOSPC, "snapshot");
		memory_plan_free(plan);
		expect_memory(ctx, machine.memory, &machine, "after a failure");
		want.progress = NULL;
		if (i == 0)
			save(&machine, &want, &saved[1]);
		want.diff = true;
		scribble(&machine, &state, 20);
	}
	save(&machine, &want, &saved[0]);
	layers[0] = layer_of(&saved[0]);
	layers[1] = layer_of(&saved[1]);
	expect_restored(&machine, layers, 2);
	free_saved(&saved[0]);
	free_saved(&saved[1]);
	expect_same_own(before);
	/* A plan that is not carried out, too. */
	scribble(&machine, &state, 5);
	expect_ok(ctx, memory_plan_make(machine.memory, &want, &plan));
	memory_plan_free(plan);
	expect_same_own(before);
	scribble(&machine, &state, 5); /* nothing is protected any more */
	expect_memory(ctx, machine.memory, &machine, "after a plan");
	expect_ok(ctx, impost_dirty_destroy(dirty));
	destroy_machine(&machine);
	close(fd);
}

Test(snapshot_memory, failures, .timeout = 120)
{
	struct impost_context *ctx = open_context();

	for (int i = 0; i < 4; i++)
		fails_and_goes_on(ctx, i & 1, i & 2);
	impost_context_close(ctx);
}

static int no_work(void *opaque, uint64_t part)
{
	(void)opaque;
	(void)part;
	return 0;
}

static int count_told(void *opaque, uint64_t done)
{
	uint64_t *told = opaque;

	cr_expect(done > told[1] || done == 100000);
	told[0]++;
	told[1] = done;
	return 0;
}

/* However much there is to do, who asks is told some hundred times, and of the end. */
Test(snapshot_memory, told_now_and_then)
{
	struct impost_context *ctx = open_context();
	uint64_t told[2] = {0};
	const struct crew crew = {
		.ctx = ctx,
		.threads = 1,
		.parts = 100000,
		.work = no_work,
		.told = count_told,
		.opaque = told,
	};

	expect_ok(ctx, crew_run(&crew));
	cr_expect(told[0] > 100 && told[0] < 300 && told[1] == 100000);
	impost_context_close(ctx);
}

Test(snapshot_memory, progress)
{
	struct impost_context *ctx = open_context();
	const struct impost_region anonymous = {0};
	uint64_t last = 0, state = 4;
	struct memory_write want = {.hash = &plain, .progress = count, .opaque = &last};
	struct memory_restore restore = {
		.how = MEMORY_RESTORE_COPY, .progress = count, .opaque = &last};
	struct impost_memory *memory;
	unsigned calls = 0;
	struct machine machine;
	struct memory_layer layer;
	struct saved saved;

	make_machine(&machine, ctx, &anonymous);
	scribble(&machine, &state, 10);
	save(&machine, &want, &saved);
	cr_expect(last == places[0].bytes + places[1].bytes + places[2].bytes);
	layer = layer_of(&saved);
	last = 0;
	expect_ok(ctx, memory_layers_verify(ctx, &layer, 1, 0, count, &last));
	cr_expect(last > 0);
	expect_error(ctx, memory_layers_verify(ctx, &layer, 1, 1, cancel, &calls), -ECANCELED,
		     "cancelled");
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	restore.progress = cancel;
	restore.opaque = &calls;
	calls = 0;
	expect_error(ctx, memory_layers_restore(memory, &layer, 1, &restore), -ECANCELED,
		     "cancelled");
	restore.progress = count;
	restore.opaque = &last;
	last = 0;
	expect_ok(ctx, memory_layers_restore(memory, &layer, 1, &restore));
	cr_expect(last > 0);
	expect_memory(ctx, memory, &machine, "after one that was cancelled");
	impost_memory_destroy(memory);
	destroy_machine(&machine);
	free_saved(&saved);
	impost_context_close(ctx);
}

/* The first page of region AT that is data, and what is then in the file another. */
static uint64_t spoil(const struct saved *saved, uint32_t at)
{
	struct memory_extent extent;
	uint64_t gpa = places[at].gpa;
	uint8_t byte;

	do
		cr_assert(memory_table_next(saved->table, &gpa, &extent));
	while (extent.kind != MEMORY_DATA);
	cr_assert(pread(saved->fd, &byte, 1, (off_t)(saved->offset + extent.area_offset)) == 1);
	byte ^= 1;
	cr_assert(pwrite(saved->fd, &byte, 1, (off_t)(saved->offset + extent.area_offset)) == 1);
	return extent.gpa;
}

/* A bit is another: who reads it is told where, and who does not goes on. */
static void corrupt(struct impost_context *ctx, bool key, bool shorter)
{
	const struct snapshot_hash hash = {.keyed = key, .key = {9}};
	const struct memory_write want = {.hash = &hash};
	const struct impost_region anonymous = {0};
	struct memory_restore restore = {.how = MEMORY_RESTORE_COPY};
	struct impost_memory *memory;
	struct machine machine;
	struct memory_layer layer;
	struct saved saved;
	uint64_t state = 8, spoilt, left;
	const int wrong = shorter ? -ENODATA : -EBADMSG;
	char text[64];
	uint8_t byte;
	int err;

	make_machine(&machine, ctx, &anonymous);
	write_pages(&machine, 0, 10, 10, false, &state);
	write_pages(&machine, 2, 1, 69, false, &state);
	save(&machine, &want, &saved);
	layer = layer_of(&saved);
	spoilt = spoil(&saved, 2);
	if (shorter)
		cr_assert(ftruncate(saved.fd, (off_t)(saved.offset + places[0].bytes)) == 0);
	snprintf(text, sizeof(text), "0x%llx",
		 (unsigned long long)(spoilt & ~(UINT64_C(64) * PAGE - 1)) + 3 * PAGE);
	expect_error(ctx, memory_layers_verify(ctx, &layer, 1, 1, NULL, NULL), wrong,
		     shorter ? "shorter" : text);
	expect_ok(ctx, memory_layers_read(ctx, &layer, 1, 10 * PAGE, &byte, 1));
	expect_error(ctx, memory_layers_read(ctx, &layer, 1, spoilt, &byte, 1), wrong,
		     shorter ? "shorter" : "checksum");
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_error(ctx, memory_layers_restore(memory, &layer, 1, &restore), wrong,
		     shorter ? "shorter" : "checksum");
	restore.how = MEMORY_RESTORE_MAP;
	restore.verify = true;
	expect_error(ctx, memory_layers_restore(memory, &layer, 1, &restore), wrong,
		     shorter ? "shorter" : "checksum");
	restore.how = MEMORY_RESTORE_LAZY;
	for (int i = 0; i < 2; i++) {
		restore.no_prefetch = i;
		expect_ok(ctx, memory_layers_restore(memory, &layer, 1, &restore));
		expect_error(ctx, impost_memory_read(memory, spoilt, &byte, 1), -EIO, "access");
		expect_ok(ctx, impost_memory_read(memory, 10 * PAGE, &byte, 1));
		cr_expect(byte == machine.model[0][10 * PAGE]);
		expect_error(ctx, memory_settle(memory), -EIO, "could not be read");
		memory_paging(memory, &left, &err);
		cr_expect(left == 0 && err == wrong);
		expect_error(ctx, impost_memory_read(memory, spoilt, &byte, 1), -EIO, "access");
		expect_ok(ctx, impost_memory_read(memory, 11 * PAGE, &byte, 1));
		impost_memory_destroy(memory);
		expect_ok(ctx, impost_memory_create(ctx, &memory));
	}
	impost_memory_destroy(memory);
	destroy_machine(&machine);
	free_saved(&saved);
}

Test(snapshot_memory, corrupt)
{
	struct impost_context *ctx = open_context();

	if (!has_uffd())
		cr_skip_test("this process may not have a userfaultfd");
	corrupt(ctx, false, false);
	corrupt(ctx, true, false);
	corrupt(ctx, false, true);
	impost_context_close(ctx);
}

/* --- lazily --- */

/* What is not touched is not brought; and the memory can be destroyed, its regions be removed, and
 * pages discarded, whatever is there by then. */
Test(snapshot_memory, lazy)
{
	struct impost_context *ctx = open_context();
	const struct impost_region anonymous = {0};
	const struct memory_write want = {.hash = &plain};
	const struct memory_restore lazy = {.how = MEMORY_RESTORE_LAZY, .no_prefetch = true};
	const uint64_t bytes = places[0].bytes + places[1].bytes + places[2].bytes;
	struct impost_region region = {.size = sizeof(region)};
	struct impost_memory *memory;
	struct machine machine;
	struct memory_layer layer;
	struct belongings before;
	struct saved saved;
	uint64_t state = 12, left;
	uint8_t byte;
	int err;

	if (!has_uffd())
		cr_skip_test("this process may not have a userfaultfd");
	make_machine(&machine, ctx, &anonymous);
	write_pages(&machine, 0, 0, 64 * 19, false, &state);
	before = count_own();
	save(&machine, &want, &saved);
	layer = layer_of(&saved);
	for (int i = 0; i < 5; i++) {
		expect_ok(ctx, impost_memory_create(ctx, &memory));
		expect_ok(ctx, memory_layers_restore(memory, &layer, 1, &lazy));
		memory_paging(memory, &left, &err);
		cr_expect(left == bytes && err == 0);
		expect_ok(ctx, impost_memory_get(memory, 0, &region));
		cr_expect(!(region.state & IMPOST_REGION_IS_DIRECT));
		expect_ok(ctx, impost_memory_read(memory, 100 * PAGE, &byte, 1));
		cr_expect(byte == machine.model[0][100 * PAGE]);
		cr_expect(*(const uint8_t *)region.hva == machine.model[0][0]);
		memory_paging(memory, &left, &err);
		cr_expect(left == bytes - 2 * 64 * PAGE);
		if (i == 1)
			expect_ok(ctx, impost_memory_remove(memory, 0));
		if (i == 2) {
			expect_ok(ctx, impost_pages_discard(memory, 0, 64 * PAGE, 0));
			memory_paging(memory, &left, &err);
			cr_expect(left == 0);
			expect_ok(ctx, impost_memory_read(memory, 0, &byte, 1));
			cr_expect(byte == 0);
		}
		if (i == 3) {
			expect_ok(ctx, impost_memory_write(memory, 200 * PAGE, "x", 1));
			machine.model[0][200 * PAGE] = 'x';
		}
		if (i > 2) {
			expect_ok(ctx, memory_settle(memory));
			machine.model[0][200 * PAGE] =
				i == 3 ? 'x' : *((uint8_t *)region.hva + 200 * PAGE);
			expect_memory(ctx, memory, &machine, "settled");
		}
		impost_memory_destroy(memory);
	}
	free_saved(&saved);
	expect_same_own(before);
	destroy_machine(&machine);
	impost_context_close(ctx);
}

/* A region that was removed is none of the pager's affair: neither what the file had for it, nor
 * what lies where it lay. */
Test(snapshot_memory, removed_while_it_comes)
{
	struct impost_context *ctx = open_context();
	const struct impost_region anonymous = {0};
	const struct memory_write want = {.hash = &plain};
	const struct memory_restore lazy = {.how = MEMORY_RESTORE_LAZY, .no_prefetch = true};
	struct impost_region region = {.size = sizeof(region)};
	struct impost_memory *memory;
	struct machine machine;
	struct memory_layer layer;
	struct saved saved;
	uint64_t state = 13, left;
	uint8_t *other;
	int err;

	if (!has_uffd())
		cr_skip_test("this process may not have a userfaultfd");
	make_machine(&machine, ctx, &anonymous);
	write_pages(&machine, 0, 0, 64 * 19, false, &state);
	save(&machine, &want, &saved);
	(void)spoil(&saved, 0);
	layer = layer_of(&saved);
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, memory_layers_restore(memory, &layer, 1, &lazy));
	expect_ok(ctx, impost_memory_get(memory, 0, &region));
	expect_ok(ctx, impost_memory_remove(memory, 0));
	other = mmap(region.hva, region.bytes, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	cr_assert_eq(other, region.hva);
	expect_ok(ctx, memory_settle(memory));
	memory_paging(memory, &left, &err);
	cr_expect(left == 0 && err == 0);
	memset(other, 1, region.bytes);
	munmap(other, region.bytes);
	impost_memory_destroy(memory);
	free_saved(&saved);
	destroy_machine(&machine);
	impost_context_close(ctx);
}

/* What was restored lazily, and is not there yet, is there in the next snapshot. */
Test(snapshot_memory, saved_again)
{
	struct impost_context *ctx = open_context();
	const struct impost_region anonymous = {0};
	struct memory_write want = {.hash = &plain};
	struct machine machine, again;
	struct memory_layer layer, second;
	uint64_t state = 21;
	struct saved saved, twice;

	if (!has_uffd())
		cr_skip_test("this process may not have a userfaultfd");
	make_machine(&machine, ctx, &anonymous);
	scribble(&machine, &state, 30);
	save(&machine, &want, &saved);
	layer = layer_of(&saved);
	for (uint32_t how = 0; how < 6; how++) {
		const struct memory_restore restore = {.how = how % 3, .no_prefetch = true};

		want.background = how > 2;
		again = machine;
		expect_ok(ctx, impost_memory_create(ctx, &again.memory));
		expect_ok(ctx, memory_layers_restore(again.memory, &layer, 1, &restore));
		save(&again, &want, &twice);
		second = layer_of(&twice);
		expect_restored(&machine, &second, 1);
		free_saved(&twice);
		impost_memory_destroy(again.memory);
	}
	free_saved(&saved);
	destroy_machine(&machine);
	impost_context_close(ctx);
}

/* Huge pages are brought whole, and read like others; they are not saved in the background. */
Test(snapshot_memory, huge_pages)
{
	struct impost_context *ctx = open_context();
	struct impost_region made = {.size = sizeof(made), .bytes = 4 * IMPOST_PAGE_2M};
	struct memory_write want = {.hash = &plain, .background = true};
	uint8_t *read = malloc(made.bytes), *model = calloc(1, made.bytes);
	struct impost_memory *memory;
	struct memory_plan *plan;
	struct memory_layer layer;
	struct saved saved;
	const char *why;

	made.page_bytes = IMPOST_PAGE_2M;
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	if (impost_memory_add(memory, &made) == -ENOMEM || !has_uffd())
		cr_skip_test("the host has no 8 free huge pages of 2 MiB, or no userfaultfd");
	memset(model + 70 * PAGE, 3, 600 * PAGE);
	expect_ok(ctx, impost_memory_write(memory, 0, model, made.bytes));
	expect_ok(ctx, memory_plan_make(memory, &want, &plan));
	cr_expect(!memory_plan_detached(plan, &why) && strstr(why, "huge"));
	write_plan(ctx, plan, false, &plain, &saved);
	layer = layer_of(&saved);
	impost_memory_destroy(memory);
	expect_ok(ctx, impost_context_set(ctx, "memory", "pages", "2M"));
	for (uint32_t how = 0; how < 6; how++) {
		const struct memory_restore restore = {.how = how % 3, .no_prefetch = how > 2};

		expect_ok(ctx, impost_context_set(ctx, "memory", "backing",
						  how > 2 ? "memfd" : "anonymous"));
		expect_ok(ctx, impost_memory_create(ctx, &memory));
		expect_ok(ctx, memory_layers_restore(memory, &layer, 1, &restore));
		expect_ok(ctx, impost_memory_read(memory, 0, read, made.bytes));
		cr_expect(memcmp(read, model, made.bytes) == 0, "%u", how);
		impost_memory_destroy(memory);
	}
	free_saved(&saved);
	free(read);
	free(model);
	impost_context_close(ctx);
}

/* What another has written into a memfd before it was brought stays, and the rest is brought. Says
 * whether there is memory of such pages. */
static bool filled_by_another(struct impost_context *ctx, const char *pages, uint64_t page_bytes)
{
	const struct memory_write want = {.hash = &plain};
	const struct memory_restore lazy = {.how = MEMORY_RESTORE_LAZY, .no_prefetch = true};
	struct impost_region made = {.size = sizeof(made), .bytes = 4 * IMPOST_PAGE_2M};
	uint8_t *read = malloc(made.bytes), *model = malloc(made.bytes), *other;
	struct impost_memory *memory;
	struct memory_plan *plan;
	struct memory_layer layer;
	struct saved saved;
	bool there;

	expect_ok(ctx, impost_context_set(ctx, "memory", "backing", "memfd"));
	expect_ok(ctx, impost_context_set(ctx, "memory", "pages", pages));
	memset(model, 3, made.bytes);
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, impost_memory_add(memory, &made));
	expect_ok(ctx, impost_memory_write(memory, 0, model, made.bytes));
	expect_ok(ctx, memory_plan_make(memory, &want, &plan));
	write_plan(ctx, plan, false, &plain, &saved);
	impost_memory_destroy(memory);
	layer = layer_of(&saved);
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	there = memory_layers_restore(memory, &layer, 1, &lazy) != -ENOMEM;
	if (there) {
		expect_ok(ctx, impost_memory_get(memory, 0, &made));
		other = mmap(NULL, made.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);
		cr_assert_neq(other, MAP_FAILED);
		memset(other + 2 * page_bytes, 4, page_bytes);
		memset(model + 2 * page_bytes, 4, page_bytes);
		munmap(other, made.bytes);
		expect_ok(ctx, memory_settle(memory));
		expect_ok(ctx, impost_memory_read(memory, 0, read, made.bytes));
		cr_expect(memcmp(read, model, made.bytes) == 0, "of %s", pages);
	}
	impost_memory_destroy(memory);
	free_saved(&saved);
	free(read);
	free(model);
	return there;
}

Test(snapshot_memory, pages_that_another_has_filled)
{
	struct impost_context *ctx = open_context();

	if (!has_uffd())
		cr_skip_test("this process may not have a userfaultfd");
	cr_expect(filled_by_another(ctx, "4K", PAGE));
	impost_context_close(ctx);
}

Test(snapshot_memory, huge_pages_that_another_has_filled)
{
	struct impost_context *ctx = open_context();

	if (!has_uffd())
		cr_skip_test("this process may not have a userfaultfd");
	if (!filled_by_another(ctx, "2M", IMPOST_PAGE_2M))
		cr_skip_test("the host has no 4 free huge pages of 2 MiB");
	impost_context_close(ctx);
}

/* --- tables that are anybody's invention --- */

/* Every table is read, or refused; what is read can be gone through, and stays within its bounds.
 */
Test(snapshot_memory, tables, .timeout = 120)
{
	struct impost_context *ctx = open_context();
	const struct impost_region anonymous = {0};
	const struct memory_write want = {.hash = &plain};
	struct memory_table *table;
	struct machine machine;
	struct memory_plan *plan;
	uint64_t state = 99, bytes, area, read = 0;
	uint8_t *copy, *good;

	make_machine(&machine, ctx, &anonymous);
	scribble(&machine, &state, 30);
	expect_ok(ctx, memory_plan_make(machine.memory, &want, &plan));
	bytes = memory_plan_table_bytes(plan);
	area = memory_plan_area_bytes(plan);
	good = malloc(bytes);
	memcpy(good, memory_plan_table(plan), bytes);
	memory_plan_free(plan);
	for (int i = 0; i < 20000; i++) {
		uint64_t cut = random_below(&state, 8) ? bytes
						       : random_below(&state, (uint32_t)bytes + 1);
		struct memory_extent extent;
		uint64_t gpa = 0, pages = 0, all, data, zero, last = 0;

		copy = malloc(cut + 1);
		memcpy(copy, good, cut);
		for (uint32_t k = random_below(&state, 3); cut && k > 0; k--)
			copy[random_below(&state, (uint32_t)(cut < 300 ? cut : 300))] ^=
				(uint8_t)(1u << random_below(&state, 8));
		if (memory_table_decode(ctx, copy, cut, area, false, &table) == 0) {
			read++;
			memory_table_pages(table, &all, &data, &zero);
			cr_expect(data + zero == all);
			while (memory_table_next(table, &gpa, &extent)) {
				cr_assert(extent.gpa >= last && extent.bytes > 0);
				cr_assert(extent.area_offset + extent.bytes <= area);
				pages += extent.bytes / PAGE;
				last = extent.gpa + extent.bytes;
			}
			cr_expect(pages == all);
			memory_table_free(table);
		} else {
			cr_assert(strstr(impost_error(ctx), "memory table"));
		}
		free(copy);
	}
	cr_expect(read > 1000 && read < 19000, "%llu were read", (unsigned long long)read);
	expect_error(ctx, memory_table_decode(ctx, good, bytes, area, true, &table),
		     -IMPOST_EFORMAT, "flags");
	expect_error(ctx, memory_table_decode(ctx, good, bytes, area + PAGE, false, &table),
		     -IMPOST_EFORMAT, "area");
	free(good);
	destroy_machine(&machine);
	impost_context_close(ctx);
}
