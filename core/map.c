/* SPDX-License-Identifier: Apache-2.0 */
/* Making maps of guest memory, and the index that look-ups go by. */
#include "map.h"

#include <stdlib.h>
#include <string.h>

#include <impost/view.h>

/* Of buckets for each region, and at the least. More cost memory, 40 bytes each, and time when the
 * map is made; fewer cost look-ups a step. */
#define BUCKETS_EACH  4u
#define BUCKETS_LEAST 128u

static uint32_t buckets_for(uint32_t count)
{
	uint32_t buckets = BUCKETS_LEAST;

	while (buckets / BUCKETS_EACH < count)
		buckets *= 2;
	return buckets;
}

struct map *map_new(uint32_t count)
{
	struct map *map = calloc(1, sizeof(*map) + count * sizeof(map->region[0]));

	if (!map)
		return NULL;
	map->count = count;
	map->buckets = count ? buckets_for(count) : 0;
	if (count == 0)
		return map;
	map->bucket = calloc(map->buckets, sizeof(*map->bucket));
	map->window = calloc(map->buckets, sizeof(*map->window));
	if (map->bucket && map->window)
		return map;
	map_free(map);
	return NULL;
}

void map_free(struct map *map)
{
	if (!map)
		return;
	free(map->bucket);
	free(map->window);
	free(map);
}

/* The first region from AT on that ends at OFFSET of the map or behind it; at the end, the last. */
static uint32_t ends_from(const struct map *map, uint32_t at, uint64_t offset)
{
	while (at < map->count - 1 && map->region[at].last - map->gpa < offset)
		at++;
	return at;
}

/* To be called when the regions are filled in, in order. */
static void make_index(struct map *map)
{
	uint32_t at = 0;

	if (map->count == 0)
		return;
	map->gpa = map->region[0].gpa;
	map->last = map->region[map->count - 1].last;
	for (map->shift = 12; (map->last - map->gpa) >> map->shift >= map->buckets; map->shift++)
		;
	for (uint32_t i = 0; i < map->buckets; i++) {
		uint64_t offset = (uint64_t)i << map->shift;

		at = ends_from(map, at, offset);
		map->bucket[i].low = at;
		at = ends_from(map, at, offset | ((UINT64_C(1) << map->shift) - 1));
		map->bucket[i].high = at;
	}
}

/* How many bytes of bucket number I lie in REGION. */
static uint64_t share(const struct map *map, uint32_t i, const struct mapped *region)
{
	uint64_t first = (uint64_t)i << map->shift;
	uint64_t last = first | ((UINT64_C(1) << map->shift) - 1);

	if (region->gpa - map->gpa > first)
		first = region->gpa - map->gpa;
	if (region->last - map->gpa < last)
		last = region->last - map->gpa;
	return first <= last ? last - first + 1 : 0;
}

static void open_window(struct impost_window *window, const struct mapped *region, bool told)
{
	window->gpa = region->gpa;
	window->hva = region->hva;
	window->readable = region->access & MAPPED_DIRECT ? mapped_bytes(region) : 0;
	window->writable =
		region->access & MAPPED_WRITE && !region->dirty && !told ? window->readable : 0;
}

void map_open_windows(struct map *map, bool told)
{
	for (uint32_t i = 0; i < map->buckets; i++) {
		uint32_t most = map->bucket[i].low;

		for (uint32_t at = most + 1; at <= map->bucket[i].high; at++)
			if (share(map, i, &map->region[at]) > share(map, i, &map->region[most]))
				most = at;
		open_window(&map->window[i], &map->region[most], told);
	}
}

void map_copy(struct map *map, const struct map *from)
{
	memcpy(map->region, from->region, from->count * sizeof(from->region[0]));
	make_index(map);
}

void map_insert(struct map *map, const struct map *from, const struct mapped *region)
{
	uint32_t at = map_find(from, region->gpa);

	memcpy(map->region, from->region, at * sizeof(*region));
	map->region[at] = *region;
	memcpy(map->region + at + 1, from->region + at, (from->count - at) * sizeof(*region));
	make_index(map);
}

void map_omit(struct map *map, const struct map *from, uint32_t at)
{
	memcpy(map->region, from->region, at * sizeof(from->region[0]));
	memcpy(map->region + at, from->region + at + 1,
	       (map->count - at) * sizeof(from->region[0]));
	make_index(map);
}
