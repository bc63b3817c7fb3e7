/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of bench-memory: what dirty tracking costs who writes, and a pass of who reads it. */
#include "memory.h"

#include <stdio.h>

#include "timing.h"

#define PASS_BYTES (UINT64_C(64) << 30)
#define PASS_PAGES (PASS_BYTES / IMPOST_PAGE_SIZE)
#define AT_ONCE	   4096u

static struct impost_memory *tracked_memory, *pass_memory;
static struct impost_dirty *tracker, *passes;

void dirty_cases_end(void)
{
	impost_dirty_destroy(tracker);
	impost_dirty_destroy(passes);
	impost_memory_destroy(tracked_memory);
	impost_memory_destroy(pass_memory);
}

static int make_tracked(struct impost_context *ctx, uint32_t count, uint64_t bytes,
			struct impost_memory **memory, struct impost_dirty **dirty)
{
	if (!*memory && make_regions(ctx, count, bytes, memory))
		return -1;
	return !*dirty && impost_dirty_create(*memory, NULL, dirty) ? failed(ctx, "tracking") : 0;
}

/* Nanoseconds of an 8-byte object that is written while somebody tracks. */
static int take_tracked_write(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_view view;
	double start;
	int err = 0;

	(void)arg;
	if (make_tracked(ctx, COPY_REGIONS, COPY_REGION, &tracked_memory, &tracker))
		return -1;
	if (impost_view_begin(tracked_memory, &view))
		return failed(ctx, "a view");
	start = now_ns();
	for (uint32_t turn = 0; turn < OBJECT_TURNS; turn++)
		for (uint64_t i = 0; i < OBJECTS; i++)
			err |= impost_view_write_u64(&view, opaque(i * 8), i);
	ret[0] = (now_ns() - start) / (OBJECT_TURNS * OBJECTS);
	impost_view_end(&view);
	return err ? failed(ctx, "an object") : 0;
}

/* Marks pages at random, as if they were written, without touching them. */
static int mark(struct impost_context *ctx, uint64_t pages)
{
	struct impost_view view;
	uint64_t state = 1;
	int err;

	if (impost_view_begin(pass_memory, &view))
		return failed(ctx, "a view");
	for (err = 0; pages > 0 && !err; pages--)
		err = impost_view_mark_dirty(
			&view, random_below(&state, PASS_PAGES) * IMPOST_PAGE_SIZE, 1);
	impost_view_end(&view);
	return err ? failed(ctx, "a mark") : 0;
}

/* Milliseconds of a whole pass over 64 GiB, of which PER_MILLE pages or a few less are dirty. */
static int take_pass(struct impost_context *ctx, uint32_t per_mille, double ret[MAX_NUMBERS])
{
	static struct impost_range ranges[AT_ONCE];
	uint64_t count, pages = 0;
	double start;
	int err;

	if (make_tracked(ctx, 1, PASS_BYTES, &pass_memory, &passes) ||
	    mark(ctx, PASS_PAGES * per_mille / 1000))
		return -1;
	start = now_ns();
	err = impost_dirty_sync(passes);
	do {
		err = err ? err : impost_dirty_take(passes, ranges, AT_ONCE, &count);
		for (uint64_t i = 0; !err && i < count; i++)
			pages += ranges[i].bytes / IMPOST_PAGE_SIZE;
	} while (!err && count == AT_ONCE);
	ret[0] = (now_ns() - start) / 1e6;
	ret[1] = (double)pages;
	return err ? failed(ctx, "a pass") : 0;
}

const struct bench_case dirty_cases[] = {
	{"tracked-write", take_tracked_write, 0},
	{"pass-1", take_pass, 1},
	{"pass-10", take_pass, 10},
	{"pass-500", take_pass, 500},
	{NULL, NULL, 0},
};
