/* SPDX-License-Identifier: Apache-2.0 */
/* What of memory is left to be sent, or to come, after the VM. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "memory.h"
#include "migrate_postcopy.h"

/* Rows of a table of what is left. */
#define ROWS_MOST (WIRE_PAYLOAD_MOST / sizeof(struct wire_row))

/* --- its life --- */

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for a migration");
}

/* With MEMORY's lock. */
static struct left *make(const struct map *map, struct impost_context *ctx)
{
	struct left *left = calloc(1, sizeof(*left) + map->count * sizeof(left->regions[0]));

	if (!left)
		return NULL;
	left->ctx = ctx;
	left->count = map->count;
	for (uint32_t i = 0; i < map->count; i++) {
		struct left_region *region = &left->regions[i];

		region->gpa = map->region[i].gpa;
		region->pages = mapped_bytes(&map->region[i]) / IMPOST_PAGE_SIZE;
		left->bytes += mapped_bytes(&map->region[i]);
		region->words = calloc(bitmap_words(region->pages), sizeof(*region->words));
		if (!region->words) {
			left_free(left);
			return NULL;
		}
	}
	return left;
}

int left_create(struct impost_memory *memory, struct left **ret_left)
{
	struct left *left;

	pthread_mutex_lock(&memory->lock);
	left = make(memory->map, memory->ctx);
	pthread_mutex_unlock(&memory->lock);
	if (!left)
		return no_memory(memory->ctx);
	*ret_left = left;
	return 0;
}

void left_free(struct left *left)
{
	for (uint32_t i = 0; left && i < left->count; i++)
		free(left->regions[i].words);
	free(left);
}

void left_clear(struct left *left)
{
	for (uint32_t i = 0; i < left->count; i++)
		memset(left->regions[i].words, 0,
		       bitmap_words(left->regions[i].pages) * sizeof(uint64_t));
	left->pages = 0;
}

/* --- pages --- */

/* The region with GPA, or else the first behind it; NULL: there is none. */
static const struct left_region *find(const struct left *left, uint64_t gpa)
{
	uint32_t low = 0, high = left->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct left_region *region = &left->regions[middle];

		if (region->gpa + (region->pages * IMPOST_PAGE_SIZE - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low < left->count ? &left->regions[low] : NULL;
}

/* Bytes from GPA to the end of its region; 0: there is none. */
static uint64_t room(const void *opaque, uint64_t gpa)
{
	const struct left_region *region = find(opaque, gpa);

	return region && gpa >= region->gpa ? region->pages * IMPOST_PAGE_SIZE - (gpa - region->gpa)
					    : 0;
}

int left_check(const struct left *left, const struct wire_row *rows, uint64_t count, uint64_t flags)
{
	const struct wire_space space = {.room = room, .opaque = left, .bytes = left->bytes};

	return wire_check_rows(left->ctx, rows, count, flags, &space);
}

void left_set(struct left *left, const struct impost_range *range, bool on)
{
	const struct left_region *region = find(left, range->gpa);
	uint64_t page = (range->gpa - region->gpa) / IMPOST_PAGE_SIZE;
	const uint64_t end = page + range->bytes / IMPOST_PAGE_SIZE;

	for (; page < end; page = (page / 64 + 1) * 64) {
		uint64_t *word = &region->words[page / 64], mask = bitmap_mask(page, end);

		left->pages -= (uint64_t)__builtin_popcountll(*word & mask);
		*word = on ? *word | mask : *word & ~mask;
		left->pages += (uint64_t)__builtin_popcountll(*word & mask);
	}
}

/* The first page at or after PAGE, and before END, whose bit is ON; END: none. */
static uint64_t find_bit(const struct left_region *region, uint64_t page, uint64_t end, bool on)
{
	while (page < end) {
		uint64_t word = on ? region->words[page / 64] : ~region->words[page / 64];

		word &= bitmap_mask(page, end);
		if (word)
			return page / 64 * 64 + (uint64_t)__builtin_ctzll(word);
		page = (page / 64 + 1) * 64;
	}
	return end;
}

bool left_next(const struct left *left, uint64_t *gpa, uint64_t bytes,
	       struct impost_range *ret_range)
{
	const struct left_region *region = find(left, *gpa);

	for (; region && region < left->regions + left->count; region++) {
		uint64_t page = *gpa > region->gpa ? (*gpa - region->gpa) / IMPOST_PAGE_SIZE : 0;
		const uint64_t most = bytes / IMPOST_PAGE_SIZE;
		uint64_t end;

		page = find_bit(region, page, region->pages, true);
		if (page == region->pages)
			continue;
		end = region->pages - page < most ? region->pages : page + most;
		end = find_bit(region, page, end, false);
		*ret_range = (struct impost_range){region->gpa + page * IMPOST_PAGE_SIZE,
						   (end - page) * IMPOST_PAGE_SIZE};
		*gpa = ret_range->gpa + ret_range->bytes;
		return true;
	}
	return false;
}

/* --- tables --- */

/* How many rows it takes to say what is left. */
static uint64_t count_rows(const struct left *left)
{
	struct impost_range range;
	uint64_t gpa = 0, count = 0;

	while (left_next(left, &gpa, UINT64_MAX, &range))
		count++;
	return count;
}

/* In each group of 2^SHIFT pages, all are left if one is. */
static void coarsen(struct left *left, uint32_t shift)
{
	const uint64_t group = IMPOST_PAGE_SIZE << shift;
	struct impost_range range;
	uint64_t gpa = 0;

	while (left_next(left, &gpa, UINT64_MAX, &range)) {
		const struct left_region *region = find(left, range.gpa);
		const uint64_t bytes = region->pages * IMPOST_PAGE_SIZE;
		uint64_t begin = (range.gpa - region->gpa) / group * group;
		uint64_t end = (range.gpa - region->gpa + range.bytes + group - 1) / group * group;

		if (end > bytes)
			end = bytes;
		range = (struct impost_range){region->gpa + begin, end - begin};
		left_set(left, &range, true);
		gpa = range.gpa + range.bytes;
	}
}

int left_rows(struct left *left, struct wire_row **ret_rows, uint64_t *ret_count)
{
	uint64_t count = count_rows(left), gpa = 0;
	struct wire_row *rows;
	struct impost_range range;

	for (uint32_t shift = 1; count > ROWS_MOST; shift++) {
		coarsen(left, shift);
		count = count_rows(left);
	}
	rows = count ? malloc(count * sizeof(*rows)) : NULL;
	if (count && !rows)
		return no_memory(left->ctx);
	for (uint64_t i = 0; i < count && left_next(left, &gpa, UINT64_MAX, &range); i++)
		rows[i] = (struct wire_row){range.gpa, range.bytes};
	*ret_rows = rows;
	*ret_count = count;
	return 0;
}

/* --- connections --- */

bool postcopy_is_loss(int err)
{
	static const int others[] = {-EPROTO, -EREMOTEIO, -ENOMEM, -ECANCELED, -EFAULT};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (err == others[i])
			return false;
	return true;
}
