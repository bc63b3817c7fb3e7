/* SPDX-License-Identifier: Apache-2.0 */
/* Making maps of guest memory, and the index that look-ups go by. */
#include "map.h"

#include <stdlib.h>
#include <string.h>

/* Of buckets for each region, and at the least. More cost a little memory; fewer cost look-ups a
 * step. */
#define BUCKETS_EACH  4u
#define BUCKETS_LEAST 64u

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
	uint32_t *index = calloc(buckets_for(count) + 1, sizeof(*index));

	if (!map || !index) {
		free(map);
		free(index);
		return NULL;
	}
	map->count = count;
	map->index = index;
	return map;
}

void map_free(struct map *map)
{
	if (map)
		free(map->index);
	free(map);
}

/* To be called when the regions are filled in, in order. */
static void make_index(struct map *map)
{
	uint32_t buckets = buckets_for(map->count), at = 0;

	if (map->count == 0)
		return; /* gpa and last are 0, and map_find() gives 0, which is the count */
	map->gpa = map->region[0].gpa;
	map->last = map->region[map->count - 1].last;
	for (map->shift = 12; (map->last - map->gpa) >> map->shift >= buckets; map->shift++)
		;
	for (uint32_t bucket = 0; bucket < buckets; bucket++) {
		uint64_t offset = (uint64_t)bucket << map->shift;

		while (at < map->count - 1 && map->region[at].last - map->gpa < offset)
			at++;
		map->index[bucket] = at;
	}
	map->index[buckets] = map->count - 1;
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
