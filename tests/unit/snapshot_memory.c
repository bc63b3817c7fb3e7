/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's memory: what is written and restored, in all ways, is what a model has. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <impost/pages.h>

#include "snapshot_memory.h"

#include "../../core/pager.h"

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
