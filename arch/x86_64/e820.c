/* SPDX-License-Identifier: Apache-2.0 */
/* The e820 map: what a PC's firmware would say of its memory (kernel, zero-page.rst). */
#include "places.h"

/*
 * The map as it grows; `count` goes on beyond `capacity`, so that the text can say what is needed.
 */
struct map {
	struct impost_x86_e820 *entries;
	uint32_t capacity;
	uint32_t count;
	struct impost_x86_e820 last; /* entry number count - 1 */
};

/* Puts a range behind those before, and into the last one where that ends here. */
static void put(struct map *map, uint64_t start, uint64_t end, uint32_t type)
{
	if (start >= end)
		return;
	if (map->count && map->last.type == type && map->last.gpa + map->last.bytes == start) {
		map->last.bytes += end - start;
	} else {
		map->last = (struct impost_x86_e820){start, end - start, type, 0};
		map->count++;
	}
	if (map->count <= map->capacity)
		map->entries[map->count - 1] = map->last;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Puts what is taken, from AT to where RUN ends, and RUN between; returns how far that went. */
static uint64_t put_run(struct map *map, const struct impost_x86_layout *layout, uint64_t at,
			struct range run)
{
	struct range taken;
	uint32_t type;

	while (places_next(layout, PLACES_TYPED, at, &taken, &type) && taken.start < run.end) {
		put(map, max(at, run.start), taken.start, IMPOST_X86_E820_RAM);
		put(map, taken.start, taken.end, type);
		at = taken.end;
	}
	put(map, max(at, run.start), run.end, IMPOST_X86_E820_RAM);
	return max(at, run.end);
}

/* Puts the whole map, in order of address. */
static int build(struct map *map, struct impost_memory *memory,
		 const struct impost_x86_layout *layout)
{
	/* Behind all RAM: what is taken there. */
	const struct range nothing = {UINT64_MAX, UINT64_MAX};
	uint32_t cursor = 0;
	struct range run;
	uint64_t at = 0;
	int found;

	while ((found = ram_next(memory, &cursor, &run)) > 0)
		at = put_run(map, layout, at, run);
	if (found == 0)
		put_run(map, layout, at, nothing);
	return found;
}

int impost_x86_e820(struct impost_memory *memory, const struct impost_x86_layout *layout,
		    struct impost_x86_e820 *entries, uint32_t capacity, uint32_t *ret_count)
{
	struct impost_context *ctx = impost_memory_context(memory);
	struct map map = {0};
	int err;

	err = places_check(ctx, layout);
	/* Counted first, so that ENTRIES is left alone if it is too small. */
	if (err == 0)
		err = build(&map, memory, layout);
	if (err < 0)
		return err;
	if (map.count > capacity)
		return impost_error_set(ctx, -ENOSPC,
					"the e820 map needs %u entries, there is room for %u",
					map.count, capacity);
	map = (struct map){.entries = entries, .capacity = capacity};
	err = build(&map, memory, layout);
	if (err < 0)
		return err;
	*ret_count = map.count < capacity ? map.count : capacity;
	return 0;
}
