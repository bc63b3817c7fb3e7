/* SPDX-License-Identifier: Apache-2.0 */
/* The map of guest memory: regions in order of address, immutable once it is published. */
#ifndef CORE_MAP_H
#define CORE_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backing;
struct impost_window;

/* What the host may do with a region's memory: bits of `access`. */
#define MAPPED_WRITE  1u /* write it */
#define MAPPED_DIRECT 2u /* touch it: no file can become shorter under it; see access.h */

struct mapped {
	uint64_t gpa, last; /* first and last address */
	uint8_t *hva;
	/* Pages that the host wrote, bit 0 the first; NULL: nobody tracks. See dirty.c. */
	_Atomic uint64_t *dirty;
	uint32_t kind, flags; /* IMPOST_REGION_* */
	uint32_t slot;
	uint32_t access;	 /* MAPPED_* */
	struct backing *backing; /* the file behind it; NULL: none. See region.h */
};

static inline uint64_t mapped_bytes(const struct mapped *region)
{
	return region->last - region->gpa + 1;
}

/* The first and the last region that an address in a bucket can be found by. */
struct bucket {
	uint32_t low, high;
};

/*
 * Where to look for an address: a table cuts a range of addresses into buckets of 2^shift bytes.
 * Where no region begins or ends in the middle of a bucket, which is so where regions are large or
 * alike in size, its two bounds are one region, and nothing is left to search. Each bucket has a
 * window too, for the inline calls of view.h: of the region that has most of it.
 *
 * The range is that of all regions, unless a few that are far from the others would make the
 * buckets too coarse for those: see choose_table(). What is outside is searched for.
 */
struct map {
	struct map *older; /* on the list of those that were replaced */
	uint64_t replaced; /* the epoch when it was */
	struct bucket *bucket;
	struct impost_window *window;
	uint64_t *end;	    /* the last address of each region, to search in */
	uint64_t gpa, last; /* first and last address of the table */
	uint32_t shift;
	uint32_t buckets;
	uint32_t room;	   /* for buckets */
	uint32_t from, to; /* first and last region of the table */
	uint32_t count;	   /* of regions */
	struct mapped region[];
};

/* A map of COUNT regions to be filled in; NULL: no memory. Free with map_free(). */
struct map *map_new(uint32_t count);
void map_free(struct map *map);

/*
 * Fill a new map in from another: the same regions; those and REGION, which overlaps none of them;
 * those without number AT. What is changed in the copy's regions must not be their addresses.
 */
void map_copy(struct map *map, const struct map *from);
void map_insert(struct map *map, const struct map *from, const struct mapped *region);
void map_omit(struct map *map, const struct map *from, uint32_t at);

/* Makes the windows, when the regions are as they are to be published. TOLD: somebody is to be told
 * of each write. */
void map_open_windows(struct map *map, bool told);

/* The first region of those from LOW on that ends at or above GPA; HIGH if none before it does. The
 * step is arithmetic, not a branch, which would be mispredicted every other time. */
static inline uint32_t map_search(const struct map *map, uint32_t low, uint32_t high, uint64_t gpa)
{
	uint32_t left = high - low;

	while (left > 0) {
		uint32_t half = left - left / 2;

		low += half & -(uint32_t)(map->end[low + half - 1] < gpa);
		left -= half;
	}
	return low;
}

/* The first region that ends at or above GPA; map->count if none does. */
static inline uint32_t map_find(const struct map *map, uint64_t gpa)
{
	const struct bucket *bucket;

	if (map->count == 0)
		return 0;
	if (gpa < map->gpa)
		return map_search(map, 0, map->from, gpa);
	if (gpa > map->last)
		return map_search(map, map->to + 1, map->count, gpa);
	bucket = &map->bucket[(gpa - map->gpa) >> map->shift];
	return map_search(map, bucket->low, bucket->high, gpa);
}

/* The region that GPA lies in; NULL: there is no memory. */
static inline const struct mapped *map_at(const struct map *map, uint64_t gpa)
{
	uint32_t at = map_find(map, gpa);

	return at < map->count && gpa >= map->region[at].gpa ? &map->region[at] : NULL;
}

/*
 * Turns GPA in REGION into a host pointer that is good for *ret_len bytes, at most BYTES. With
 * the windows of view.h, this is the only place that does so.
 */
static inline uint8_t *map_span(const struct mapped *region, uint64_t gpa, uint64_t bytes,
				uint64_t *ret_len)
{
	uint64_t left = region->last - gpa; /* and one */

	*ret_len = left < bytes ? left + 1 : bytes;
	return region->hva + (gpa - region->gpa);
}

#endif
