/* SPDX-License-Identifier: Apache-2.0 */
/* The e820 map: what a PC's firmware would say of its memory (kernel, zero-page.rst). */
#include "ram.h"

#include <impost/x86_64/boot.h>

/*
 * The map as it grows; `count` goes on beyond `capacity`, so that the text can say what is needed.
 */
struct map {
	struct impost_x86_e820 *entries;
	uint32_t capacity;
	uint32_t count;
};

static void put(struct map *map, uint64_t start, uint64_t end, uint32_t type)
{
	if (start >= end)
		return;
	if (map->count < map->capacity)
		map->entries[map->count] = (struct impost_x86_e820){start, end - start, type, 0};
	map->count++;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Puts the part of every run of RAM that lies between FROM and TO. */
static int put_ram(struct map *map, struct impost_memory *memory, uint64_t from, uint64_t to)
{
	uint32_t cursor = 0;
	struct range run;
	int found;

	while ((found = ram_next(memory, &cursor, &run)) > 0)
		put(map, max(run.start, from), min(run.end, to), IMPOST_X86_E820_RAM);
	return found;
}

/* Puts the whole map, in order of address. */
static int build(struct map *map, struct impost_memory *memory)
{
	int err;

	map->count = 0;
	err = put_ram(map, memory, 0, IMPOST_X86_EBDA_ADDR);
	if (err < 0)
		return err;
	put(map, IMPOST_X86_EBDA_ADDR, IMPOST_X86_HIGH_RAM, IMPOST_X86_E820_RESERVED);
	return put_ram(map, memory, IMPOST_X86_HIGH_RAM, UINT64_MAX);
}

int impost_x86_e820(struct impost_memory *memory, struct impost_x86_e820 *entries,
		    uint32_t capacity, uint32_t *ret_count)
{
	struct map map = {NULL, 0, 0};
	int err;

	/* Counted first, so that ENTRIES is left alone if it is too small. */
	err = build(&map, memory);
	if (err < 0)
		return err;
	if (map.count > capacity)
		return impost_error_set(impost_memory_context(memory), -ENOSPC,
					"the e820 map needs %u entries, there is room for %u",
					map.count, capacity);
	map = (struct map){entries, capacity, 0};
	err = build(&map, memory);
	if (err < 0)
		return err;
	*ret_count = map.count < capacity ? map.count : capacity;
	return 0;
}
