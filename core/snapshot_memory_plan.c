/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of what a snapshot is to have of memory. */
#include "snapshot_memory_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pager.h"
#include "view.h"

#define RANGES 512u

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for the plan of a snapshot");
}

/* --- which regions there are --- */

/* The regions of MEMORY, as they are now, in an array of the caller's. */
static int list_places(struct impost_memory *memory, struct memory_place **ret_places,
		       uint32_t *ret_count)
{
	struct memory_place *places;
	struct impost_view view;
	int err = view_begin(memory, &view);
	const struct map *map;

	if (err)
		return err;
	map = view_map(&view);
	places = calloc(map->count + 1, sizeof(*places));
	for (uint32_t i = 0; places && i < map->count; i++)
		places[i] = (struct memory_place){
			.gpa = map->region[i].gpa,
			.bytes = mapped_bytes(&map->region[i]),
			.flags = map->region[i].flags,
		};
	*ret_count = map->count;
	view_end(&view);
	*ret_places = places;
	return places ? 0 : no_memory(memory->ctx);
}

/* --- which pages were written --- */

static void free_taken(struct memory_plan *plan)
{
	for (uint32_t i = 0; plan->taken && i < plan->table->count; i++)
		free(plan->taken[i]);
	free(plan->taken);
	plan->taken = NULL;
}

static int make_taken(struct memory_plan *plan)
{
	const struct memory_table *table = plan->table;

	plan->taken = calloc(table->count + 1, sizeof(plan->taken[0]));
	for (uint32_t i = 0; plan->taken && i < table->count; i++) {
		plan->taken[i] = calloc(table->region[i].chunks, sizeof(uint64_t));
		if (!plan->taken[i])
			return no_memory(plan->ctx);
	}
	return plan->taken ? 0 : no_memory(plan->ctx);
}

/* Notes a range that was taken, which can go across borders of regions. */
static void note_range(struct memory_plan *plan, const struct impost_range *range)
{
	const struct memory_table *table = plan->table;
	uint64_t gpa = range->gpa, left = range->bytes / IMPOST_PAGE_SIZE;

	for (uint32_t i = memory_table_find(table, gpa); i < table->count && left > 0; i++) {
		const struct table_region *region = &table->region[i];
		uint64_t page = (gpa - region->gpa) / IMPOST_PAGE_SIZE;

		if (gpa < region->gpa) /* of a region that has only just been added */
			return;
		for (; left > 0 && page < region->pages; left--, page++)
			plan->taken[i][page / 64] |= UINT64_C(1) << page % 64;
		gpa = region->gpa + region->bytes;
	}
}

/* Takes all that SINCE has to tell. It may be in the middle of a pass: then that one's end comes
 * first. */
static int take_all(struct memory_plan *plan)
{
	struct impost_range ranges[RANGES];
	int err = impost_dirty_sync(plan->since);
	uint64_t count;

	for (uint32_t passes = 0; !err && passes < 2; passes += count < RANGES) {
		err = impost_dirty_take(plan->since, ranges, RANGES, &count);
		for (uint64_t i = 0; !err && i < count; i++)
			note_range(plan, &ranges[i]);
	}
	return err;
}

static void give_back(struct memory_plan *plan)
{
	for (uint32_t i = 0; i < plan->table->count; i++)
		dirty_give_back(plan->since, plan->table->region[i].gpa,
				plan->table->region[i].pages, plan->taken[i]);
}

static int ask_since(struct memory_plan *plan, struct impost_dirty *since)
{
	int err = make_taken(plan);

	if (err)
		return err;
	plan->since = since;
	return take_all(plan);
}

/* --- plans --- */

static void take_wishes(struct memory_plan *plan, const struct memory_write *want)
{
	plan->hash = *want->hash;
	plan->threads = want->threads;
	plan->progress = want->progress;
	plan->opaque = want->opaque;
}

static int check_wishes(struct impost_memory *memory, const struct memory_write *want)
{
	if (want->since && impost_dirty_memory(want->since) != memory)
		return impost_error_set(memory->ctx, -EINVAL,
					"the reader of dirty pages is of another memory");
	if (want->diff && !want->since)
		return impost_error_set(memory->ctx, -EINVAL,
					"a diff needs a reader of dirty pages");
	return 0;
}

static int plan_memory(struct memory_plan *plan, const struct memory_write *want)
{
	struct memory_place *places;
	uint32_t count;
	int err = list_places(plan->memory, &places, &count);

	if (err)
		return err;
	err = memory_table_make(plan->ctx, places, count, want->diff, &plan->bytes, &plan->table);
	free(places);
	if (!err && want->since)
		err = ask_since(plan, want->since);
	if (err || !want->background)
		return err;
	plan->guard = guard_make(plan, want->populate, &plan->why);
	return 0;
}

int memory_plan_make(struct impost_memory *memory, const struct memory_write *want,
		     struct memory_plan **ret_plan)
{
	struct memory_plan *plan;
	int err = memory_check(memory);

	if (!err)
		err = memory_check_outside(memory, "saving memory");
	if (!err)
		err = check_wishes(memory, want);
	if (!err)
		err = memory_settle(memory);
	if (err)
		return err;
	plan = calloc(1, sizeof(*plan));
	if (!plan)
		return no_memory(memory->ctx);
	plan->ctx = memory->ctx;
	plan->memory = memory;
	plan->why = "it was not asked for";
	take_wishes(plan, want);
	err = plan_memory(plan, want);
	if (err)
		memory_plan_free(plan);
	else
		*ret_plan = plan;
	return err;
}

int memory_layers_plan(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
		       const struct memory_write *want, struct memory_plan **ret_plan)
{
	const struct memory_table *newest = layers[0].table;
	struct memory_place *places = calloc(newest->count + 1, sizeof(*places));
	struct memory_plan *plan = calloc(1, sizeof(*plan));
	int err = places && plan ? 0 : no_memory(ctx);

	for (uint32_t i = 0; !err && i < newest->count; i++)
		memory_table_region(newest, i, &places[i]);
	if (!err) {
		plan->ctx = ctx;
		plan->layers = layers;
		plan->nlayers = n;
		plan->why = "it is a file's";
		take_wishes(plan, want);
		err = memory_table_make(ctx, places, newest->count, false, &plan->bytes,
					&plan->table);
	}
	free(places);
	if (err)
		memory_plan_free(plan);
	else
		*ret_plan = plan;
	return err;
}

bool memory_plan_detached(const struct memory_plan *plan, const char **ret_why)
{
	if (!plan->guard && ret_why)
		*ret_why = plan->why;
	return plan->guard;
}

uint64_t memory_plan_table_bytes(const struct memory_plan *plan)
{
	return plan->table->bytes;
}

uint64_t memory_plan_area_bytes(const struct memory_plan *plan)
{
	return plan->table->area_bytes;
}

const void *memory_plan_table(const struct memory_plan *plan)
{
	return plan->bytes;
}

void memory_plan_commit(struct memory_plan *plan)
{
	plan->since = NULL;
}

void memory_plan_free(struct memory_plan *plan)
{
	if (!plan)
		return;
	guard_free(plan->guard);
	if (plan->since)
		give_back(plan);
	if (plan->table)
		free_taken(plan);
	memory_table_free(plan->table);
	free(plan->bytes);
	explicit_bzero(&plan->hash, sizeof(plan->hash)); /* the key */
	free(plan);
}
