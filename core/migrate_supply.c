/* SPDX-License-Identifier: Apache-2.0 */
/* What of guest memory is to be sent next. */
#include "migrate_supply.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include <impost/pages.h>

#include "memory.h"
#include "pages.h"

/* Of which pages with memory are looked for in one call: it takes a few milliseconds. */
#define LOOK_BYTES (UINT64_C(256) << 20)

/* --- regions --- */

/* Whether what REGION has is in memory or in swap, where impost_pages_populated() finds it. */
static bool is_all_in_memory(const struct mapped *region)
{
	struct statfs system;

	if (!region->backing || region->backing->mixed)
		return false;
	return !region_has_file(region) ||
	       (fstatfs(region->backing->fd, &system) == 0 && system.f_type == TMPFS_MAGIC);
}

static int list_regions(struct impost_memory *memory, struct supply_region **ret_regions,
			uint32_t *ret_count)
{
	struct supply_region *regions;
	const struct map *map;

	pthread_mutex_lock(&memory->lock);
	map = atomic_load(&memory->map);
	regions = calloc((size_t)map->count + 1, sizeof(*regions));
	for (uint32_t i = 0; regions && i < map->count; i++)
		regions[i] = (struct supply_region){
			.gpa = map->region[i].gpa,
			.end = map->region[i].last + 1,
			.whole = !is_all_in_memory(&map->region[i]),
		};
	*ret_count = map->count;
	pthread_mutex_unlock(&memory->lock);
	*ret_regions = regions;
	return regions ? 0 : impost_error_set(memory->ctx, -ENOMEM, "no memory for a migration");
}

static int changed(const struct supply *supply)
{
	return impost_error_set(supply->memory->ctx, -EFAULT,
				"regions of memory were added or removed while the VM was being "
				"migrated");
}

int supply_check(struct supply *supply)
{
	struct supply_region *regions;
	uint32_t count;
	bool same;
	int err = list_regions(supply->memory, &regions, &count);

	if (err)
		return err;
	same = count == supply->nregions;
	for (uint32_t i = 0; same && i < count; i++)
		same = regions[i].gpa == supply->regions[i].gpa &&
		       regions[i].end == supply->regions[i].end;
	free(regions);
	return same ? 0 : changed(supply);
}

/* --- its life --- */

int supply_init(struct supply *supply, struct impost_memory *memory, _Atomic uint64_t *all,
		_Atomic uint64_t *left)
{
	uint64_t bytes = 0;
	int err;

	*supply = (struct supply){.memory = memory, .left = left, .first = true};
	pthread_mutex_init(&supply->lock, NULL);
	err = list_regions(memory, &supply->regions, &supply->nregions);
	if (!err)
		err = impost_dirty_create(memory, NULL, &supply->dirty);
	if (err) {
		supply_release(supply);
		return err;
	}
	for (uint32_t i = 0; i < supply->nregions; i++)
		bytes += supply->regions[i].end - supply->regions[i].gpa;
	supply->at = supply->nregions ? supply->regions[0].gpa : 0;
	atomic_store(all, bytes);
	atomic_store(left, bytes);
	return 0;
}

void supply_release(struct supply *supply)
{
	impost_dirty_destroy(supply->dirty);
	free(supply->regions);
	pthread_mutex_destroy(&supply->lock);
	*supply = (struct supply){0};
}

int supply_sync(struct supply *supply)
{
	int err = impost_dirty_sync(supply->dirty);

	supply->stats.size = sizeof(supply->stats);
	if (!err)
		err = impost_dirty_stats(supply->dirty, &supply->stats);
	if (err)
		return err;
	supply->first = false;
	supply->over = false;
	supply->count = supply->next = 0;
	atomic_store(supply->left, supply->stats.pending * IMPOST_PAGE_SIZE);
	return 0;
}

/* --- taking; with the lock --- */

static uint64_t sum(const struct impost_range *ranges, uint64_t count)
{
	uint64_t bytes = 0;

	for (uint64_t i = 0; i < count; i++)
		bytes += ranges[i].bytes;
	return bytes;
}

/* Looks for what has memory behind it, until something was found or all was looked at. */
static int find_populated(struct supply *supply)
{
	int err = 0;

	while (!err && supply->count == 0 && supply->region < supply->nregions) {
		const struct supply_region *region = &supply->regions[supply->region];
		uint64_t left = region->end - supply->at;
		uint64_t bytes = left < LOOK_BYTES ? left : LOOK_BYTES;
		struct impost_range range = {.gpa = supply->at, .bytes = bytes};

		if (region->whole) {
			supply->have[0] = range;
			supply->count = 1;
			range.bytes = 0;
		} else {
			err = impost_pages_populated(supply->memory, &range, supply->have,
						     SUPPLY_RANGES, &supply->count);
		}
		if (err)
			break;
		bytes -= range.bytes;
		supply->at += bytes;
		atomic_fetch_sub(supply->left, bytes - sum(supply->have, supply->count));
		if (supply->at == region->end && ++supply->region < supply->nregions)
			supply->at = supply->regions[supply->region].gpa;
	}
	supply->over = supply->region == supply->nregions;
	return err;
}

static int refill(struct supply *supply)
{
	int err;

	supply->count = supply->next = 0;
	if (supply->first)
		return find_populated(supply);
	err = impost_dirty_take(supply->dirty, supply->have, SUPPLY_RANGES, &supply->count);
	supply->over = supply->count < SUPPLY_RANGES;
	return err;
}

/* Where the region that GPA is in ends; 0: there is none. */
static uint64_t find_end(const struct supply *supply, uint64_t gpa)
{
	uint32_t low = 0, high = supply->nregions;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (supply->regions[middle].end <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low < supply->nregions && supply->regions[low].gpa <= gpa ? supply->regions[low].end
									 : 0;
}

/* Cuts BYTES at the most off the front of what there is, within one region. */
static int cut(struct supply *supply, uint64_t bytes, struct impost_range *ret_range)
{
	struct impost_range *range = &supply->have[supply->next];
	uint64_t end = find_end(supply, range->gpa);

	if (!end)
		return changed(supply);
	if (bytes > range->bytes)
		bytes = range->bytes;
	if (bytes > end - range->gpa)
		bytes = end - range->gpa;
	*ret_range = (struct impost_range){.gpa = range->gpa, .bytes = bytes};
	range->gpa += bytes;
	range->bytes -= bytes;
	if (range->bytes == 0)
		supply->next++;
	return 0;
}

static int take(struct supply *supply, struct impost_range *ranges, uint64_t capacity,
		uint64_t bytes, uint64_t *count)
{
	int err = 0;

	while (!err && *count < capacity && bytes > 0) {
		if (supply->next == supply->count) {
			if (supply->over)
				return 0;
			err = refill(supply);
			continue;
		}
		err = cut(supply, bytes, &ranges[*count]);
		if (!err)
			bytes -= ranges[(*count)++].bytes;
	}
	return err;
}

int supply_take(struct supply *supply, struct impost_range *ranges, uint64_t capacity,
		uint64_t bytes, uint64_t *ret_count)
{
	uint64_t count = 0;
	int err;

	pthread_mutex_lock(&supply->lock);
	err = take(supply, ranges, capacity, bytes, &count);
	pthread_mutex_unlock(&supply->lock);
	if (!err)
		*ret_count = count;
	return err;
}
