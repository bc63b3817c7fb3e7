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

/* How many parts of the regions are tried as what the table covers. */
#define ROUNDS 8u

static uint32_t buckets_for(uint32_t count)
{
	uint32_t buckets = BUCKETS_LEAST;

	while (buckets / BUCKETS_EACH < count)
		buckets *= 2;
	return buckets;
}

struct map *map_new(uint32_t count)
{
	struct map *map =
		calloc(1, sizeof(*map) + count * (sizeof(map->region[0]) + sizeof(map->end[0])));

	if (!map)
		return NULL;
	map->count = count;
	map->end = (uint64_t *)(void *)&map->region[count];
	if (count == 0)
		return map;
	map->room = buckets_for(count);
	map->bucket = calloc(map->room, sizeof(*map->bucket));
	map->window = calloc(map->room, sizeof(*map->window));
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

/* The first region from AT on that ends at OFFSET of the table or behind it; at the end, the last.
 */
static uint32_t ends_from(const struct map *map, uint32_t at, uint64_t offset)
{
	while (at < map->count - 1 && map->end[at] - map->gpa < offset)
		at++;
	return at;
}

/* --- what the table covers --- */

/* Regions that a table may be made of. */
struct part {
	uint32_t from, to;
	uint64_t weight; /* of all its regions */
};

/*
 * How much it matters that a region has a bucket of its own: large ones are used more than small
 * ones, but not by as much as they are larger. One more for each doubling, a page 1.
 */
static uint64_t weight_of(const struct mapped *region)
{
	return 64 - (uint64_t)__builtin_clzll((region->last - region->gpa) >> 11 | 1);
}

/* The size of buckets for PART. */
static uint32_t shift_of(const struct map *map, const struct part *part)
{
	uint64_t span = map->region[part->to].last - map->region[part->from].gpa;
	uint32_t shift = 12;

	while (span >> shift >= map->room)
		shift++;
	return shift;
}

/* Whose bucket one is, while regions are gone through in order. */
struct owner {
	uint64_t bucket, most; /* its number, and the most that a region has of it */
	uint32_t at;	       /* the region that does */
	uint32_t counted;      /* the last that was counted, and one */
	uint64_t weight;       /* of all that were */
};

static void count_owner(const struct map *map, struct owner *owner)
{
	if (owner->counted != owner->at + 1)
		owner->weight += weight_of(&map->region[owner->at]);
	owner->counted = owner->at + 1;
}

/* Region AT has so many BYTES of a bucket. */
static void claim(const struct map *map, struct owner *owner, uint32_t at, uint64_t bucket,
		  uint64_t bytes)
{
	if (bucket != owner->bucket) {
		count_owner(map, owner);
		owner->bucket = bucket;
		owner->most = 0;
	}
	if (bytes > owner->most) {
		owner->most = bytes;
		owner->at = at;
	}
}

/* The weight of the regions of PART that would have a bucket. */
static uint64_t owners_of(const struct map *map, const struct part *part)
{
	uint64_t base = map->region[part->from].gpa;
	uint32_t shift = shift_of(map, part);
	uint64_t size = UINT64_C(1) << shift;
	struct owner owner = {.at = part->from};

	for (uint32_t at = part->from; at <= part->to; at++) {
		uint64_t first = map->region[at].gpa - base, last = map->region[at].last - base;

		if (first >> shift == last >> shift) {
			claim(map, &owner, at, first >> shift, last - first + 1);
			continue;
		}
		claim(map, &owner, at, first >> shift, size - first % size);
		if ((last >> shift) - (first >> shift) > 1)
			claim(map, &owner, at, (first >> shift) + 1, size);
		claim(map, &owner, at, last >> shift, last % size + 1);
	}
	count_owner(map, &owner);
	return owner.weight;
}

/* PART, of more than a region, without what is on one side of its largest gap: the lighter one. */
static struct part cut(const struct map *map, const struct part *part)
{
	uint64_t most = 0, below = 0, sum = 0;
	uint32_t at = part->to;

	for (uint32_t i = part->from; i < part->to; i++) {
		uint64_t gap = map->region[i + 1].gpa - map->region[i].last;

		sum += weight_of(&map->region[i]);
		if (gap <= most)
			continue;
		most = gap;
		below = sum;
		at = i;
	}
	if (below >= part->weight - below)
		return (struct part){part->from, at, below};
	return (struct part){at + 1, part->to, part->weight - below};
}

/*
 * The table is of all regions if seven of eight, by weight, get a bucket. If not, which is so where
 * a few are far from the others, it is tried without those; the part is taken that has buckets for
 * the most, by weight. One that cannot have more than the best is not tried.
 */
static struct part choose_table(const struct map *map)
{
	struct part part = {.to = map->count - 1}, best = part;
	uint64_t most = 0, enough;

	for (uint32_t at = 0; at < map->count; at++)
		part.weight += weight_of(&map->region[at]);
	enough = part.weight - part.weight / 8;
	for (uint32_t round = 0; round < ROUNDS && part.weight > most && most < enough; round++) {
		uint64_t weight = owners_of(map, &part);

		if (weight > most) {
			most = weight;
			best = part;
		}
		if (part.weight > most)
			part = cut(map, &part);
	}
	return best;
}

/* To be called when the regions are filled in, in order. */
static void make_index(struct map *map)
{
	struct part part;
	uint32_t at;

	if (map->count == 0)
		return;
	part = choose_table(map);
	map->from = part.from;
	map->to = part.to;
	map->gpa = map->region[part.from].gpa;
	map->last = map->region[part.to].last;
	map->shift = shift_of(map, &part);
	map->buckets = (uint32_t)((map->last - map->gpa) >> map->shift) + 1;
	for (uint32_t i = 0; i < map->count; i++)
		map->end[i] = map->region[i].last;
	at = part.from;
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
