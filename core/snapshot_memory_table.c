/* SPDX-License-Identifier: Apache-2.0 */
/* The table of a snapshot's memory: made, read and asked. */
#include "snapshot_memory_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <impost/error.h>
#include <impost/range.h>

#include "bitmap.h"

/* What the bytes begin with, and a region's row: see snapshot_memory.h. */
struct head {
	uint32_t regions, chunk_shift;
	uint64_t area_bytes;
	uint32_t flags, reserved;
	uint64_t reserved2;
};

struct row {
	uint64_t gpa, bytes;
	uint64_t area_offset;
	uint64_t data, zero, digests;
	uint32_t flags, reserved;
	uint64_t reserved2;
};

_Static_assert(sizeof(struct head) == 32 && sizeof(struct row) == 64, "as in the file");

#define HEAD_DIFF 1u

/* What agrees with it modulo this can be mapped with huge pages. */
#define HUGE_PAGE (UINT64_C(2) << 20)

static struct memory_table *new_table(struct impost_context *ctx, uint32_t count)
{
	struct memory_table *table = calloc(1, sizeof(*table) + count * sizeof(table->region[0]));

	if (!table)
		impost_error_set(ctx, -ENOMEM, "no memory for the table of %u regions", count);
	return table;
}

void memory_table_free(struct memory_table *table)
{
	free(table);
}

static void set_size(struct table_region *region)
{
	region->pages = region->bytes / IMPOST_PAGE_SIZE;
	region->chunks = bitmap_words(region->pages);
}

/* --- making --- */

/* Lays the bitmaps and digests of REGION out from offset AT on; returns where they end. */
static uint64_t lay_out(const struct table_region *region, bool diff, uint64_t at, struct row *row)
{
	row->data = at;
	at += region->chunks * sizeof(uint64_t);
	row->zero = diff ? at : 0;
	at += diff ? region->chunks * sizeof(uint64_t) : 0;
	row->digests = at;
	return at + region->chunks * SNAPSHOT_DIGEST;
}

/* Where BYTES for address GPA can go in an area that has END bytes so far. */
static uint64_t place_in_area(uint64_t end, uint64_t gpa, uint64_t bytes)
{
	return bytes < HUGE_PAGE ? end : end + (gpa - end) % HUGE_PAGE;
}

static void point(struct table_region *region, uint8_t *bytes, const struct row *row)
{
	region->data = (uint64_t *)(void *)(bytes + row->data);
	region->zero = row->zero ? (uint64_t *)(void *)(bytes + row->zero) : NULL;
	region->digest = (uint8_t(*)[SNAPSHOT_DIGEST])(bytes + row->digests);
}

static void fill_row(const struct table_region *region, struct row *row)
{
	row->gpa = region->gpa;
	row->bytes = region->bytes;
	row->area_offset = region->area_offset;
	row->flags = region->flags;
}

/* Fills in what TABLE's regions are, and how many bytes the whole has. */
static void fill_table(struct memory_table *table, const struct memory_place *places)
{
	struct row row = {0};
	uint64_t at = sizeof(struct head) + table->count * sizeof(row), area = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		struct table_region *region = &table->region[i];

		region->gpa = places[i].gpa;
		region->bytes = places[i].bytes;
		region->flags = places[i].flags & IMPOST_REGION_READONLY;
		set_size(region);
		region->area_offset = place_in_area(area, region->gpa, region->bytes);
		area = region->area_offset + region->bytes;
		at = lay_out(region, table->diff, at, &row);
	}
	table->area_bytes = area;
	table->bytes = at;
}

int memory_table_make(struct impost_context *ctx, const struct memory_place *places, uint32_t count,
		      bool diff, void **ret_bytes, struct memory_table **ret_table)
{
	struct memory_table *table = new_table(ctx, count);
	uint64_t at = sizeof(struct head) + count * sizeof(struct row);
	uint8_t *bytes;
	struct row *row;

	if (!table)
		return -ENOMEM;
	table->diff = diff;
	table->count = count;
	fill_table(table, places);
	bytes = calloc(1, table->bytes);
	if (!bytes) {
		free(table);
		return impost_error_set(ctx, -ENOMEM, "no memory for the table of %u regions",
					count);
	}
	*(struct head *)(void *)bytes = (struct head){
		.regions = count,
		.chunk_shift = CHUNK_SHIFT,
		.area_bytes = table->area_bytes,
		.flags = diff ? HEAD_DIFF : 0,
	};
	row = (struct row *)(void *)(bytes + sizeof(struct head));
	for (uint32_t i = 0; i < count; i++) {
		fill_row(&table->region[i], &row[i]);
		at = lay_out(&table->region[i], diff, at, &row[i]);
		point(&table->region[i], bytes, &row[i]);
	}
	table->head = bytes;
	*ret_bytes = bytes;
	*ret_table = table;
	return 0;
}

/* --- reading --- */

static int check_head(struct impost_context *ctx, const struct head *head, uint64_t bytes,
		      uint64_t area_bytes, bool diff)
{
	const char *wrong = NULL;

	if (head->chunk_shift != CHUNK_SHIFT)
		wrong = "its chunks are not of 256 KiB";
	else if (head->flags != (diff ? HEAD_DIFF : 0))
		wrong = "its flags are not those of the file";
	else if (head->reserved || head->reserved2)
		wrong = "what is reserved is not 0";
	else if (head->area_bytes != area_bytes)
		wrong = "its area is not as long as the file's";
	else if (head->regions > (bytes - sizeof(*head)) / sizeof(struct row))
		wrong = "it has not as many rows as it says";
	return wrong ? impost_error_set(ctx, -IMPOST_EFORMAT, "the memory table: %s", wrong) : 0;
}

/* What is wrong with a row by itself, and behind what the one before it reached; NULL: nothing. */
static const char *judge_row(const struct row *row, uint64_t above, uint64_t area_from,
			     uint64_t area_bytes)
{
	if (row->bytes == 0 || row->bytes % IMPOST_PAGE_SIZE || row->gpa % IMPOST_PAGE_SIZE)
		return "is not made of whole pages";
	/* Not up to it either: who walks would begin again at 0. */
	if (row->gpa + row->bytes <= row->gpa)
		return "goes beyond 2^64";
	if (row->gpa < above)
		return "is not behind the one before it";
	if (row->flags & ~IMPOST_REGION_READONLY || row->reserved || row->reserved2)
		return "has flags that are unknown";
	if (row->area_offset % IMPOST_PAGE_SIZE || row->area_offset < area_from ||
	    row->area_offset > area_bytes || row->bytes > area_bytes - row->area_offset)
		return "is not in the area, or in what is another's of it";
	return NULL;
}

/* What is wrong with the bits of chunk CHUNK; NULL: nothing. */
static const char *judge_bits(const struct table_region *region, uint64_t chunk)
{
	static const uint8_t none[SNAPSHOT_DIGEST];
	uint64_t data = region->data[chunk], zero = region->zero ? region->zero[chunk] : 0;

	if ((data | zero) & ~chunk_pages(region, chunk))
		return "has bits for pages that are not its own";
	if (data & zero)
		return "has pages that are both data and zero";
	if (!data && memcmp(region->digest[chunk], none, sizeof(none)) != 0)
		return "has a digest for no data";
	return NULL;
}

static const char *judge_region(const struct table_region *region)
{
	const char *wrong = NULL;

	for (uint64_t chunk = 0; !wrong && chunk < region->chunks; chunk++)
		wrong = judge_bits(region, chunk);
	return wrong;
}

/*
 * Makes region I of TABLE what ROW says, which has been judged by itself. Its bitmaps and digests
 * are to begin at *AT, which becomes their end. Returns what is wrong; NULL: nothing.
 */
static const char *read_row(struct memory_table *table, uint32_t i, const struct row *row,
			    uint8_t *bytes, uint64_t *at)
{
	struct table_region *region = &table->region[i];
	struct row wanted = {0};

	region->gpa = row->gpa;
	region->bytes = row->bytes;
	region->area_offset = row->area_offset;
	region->flags = row->flags;
	set_size(region);
	/* No sum of these overflows: pages are 2^52 at the most, and a table in memory is much
	 * shorter than 2^63. */
	if (region->chunks > (table->bytes - *at) / (sizeof(uint64_t) + SNAPSHOT_DIGEST))
		return "has more pages than the table has bits";
	*at = lay_out(region, table->diff, *at, &wanted);
	if (*at > table->bytes || row->data != wanted.data || row->zero != wanted.zero ||
	    row->digests != wanted.digests)
		return "has its bitmaps elsewhere than they must be";
	point(region, bytes, row);
	return judge_region(region);
}

/* Reads the rows. Each region's bitmaps and digests follow those of the one before it, and the last
 * ones end with the table. */
static int read_rows(struct impost_context *ctx, struct memory_table *table, uint8_t *bytes)
{
	const struct row *row = (const struct row *)(void *)(bytes + sizeof(struct head));
	uint64_t at = sizeof(struct head) + table->count * sizeof(*row), above = 0, area = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		const char *wrong = judge_row(&row[i], above, area, table->area_bytes);

		if (!wrong)
			wrong = read_row(table, i, &row[i], bytes, &at);
		if (wrong)
			return impost_error_set(ctx, -IMPOST_EFORMAT,
						"the memory table: region %u, at 0x%" PRIx64 ", %s",
						i, row[i].gpa, wrong);
		above = row[i].gpa + row[i].bytes;
		area = row[i].area_offset + row[i].bytes;
	}
	if (at != table->bytes)
		return impost_error_set(ctx, -IMPOST_EFORMAT,
					"the memory table: %" PRIu64 " bytes, of which %" PRIu64
					" are known",
					table->bytes, at);
	return 0;
}

int memory_table_decode(struct impost_context *ctx, const void *bytes, uint64_t length,
			uint64_t area_bytes, bool diff, struct memory_table **ret_table)
{
	const struct head *head = bytes;
	struct memory_table *table;
	int err;

	if (length < sizeof(*head))
		return impost_error_set(ctx, -IMPOST_EFORMAT,
					"the memory table: %" PRIu64 " bytes are no table", length);
	err = check_head(ctx, head, length, area_bytes, diff);
	if (err)
		return err;
	table = new_table(ctx, head->regions);
	if (!table)
		return -ENOMEM;
	table->diff = diff;
	table->count = head->regions;
	table->area_bytes = area_bytes;
	table->bytes = length;
	table->head = bytes;
	err = read_rows(ctx, table, (uint8_t *)(uintptr_t)bytes);
	if (err)
		free(table);
	else
		*ret_table = table;
	return err;
}

/* --- asking --- */

bool memory_table_region(const struct memory_table *table, uint32_t index,
			 struct memory_place *ret_place)
{
	const struct table_region *region = &table->region[index];

	if (index >= table->count)
		return false;
	*ret_place = (struct memory_place){
		.gpa = region->gpa,
		.bytes = region->bytes,
		.area_offset = region->area_offset,
		.flags = region->flags,
	};
	return true;
}

void memory_table_pages(const struct memory_table *table, uint64_t *ret_all, uint64_t *ret_data,
			uint64_t *ret_zero)
{
	uint64_t all = 0, data = 0, zero = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		const struct table_region *region = &table->region[i];
		uint64_t here = impost_bitmap_count(region->data, region->pages);

		all += region->pages;
		data += here;
		zero += region->zero ? impost_bitmap_count(region->zero, region->pages)
				     : region->pages - here;
	}
	*ret_all = all;
	*ret_data = data;
	*ret_zero = zero;
}

uint32_t memory_table_find(const struct memory_table *table, uint64_t gpa)
{
	uint32_t low = 0, high = table->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (table->region[middle].gpa + (table->region[middle].bytes - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The bits of chunk CHUNK that are of KIND. */
static uint64_t bits_of(const struct table_region *region, uint64_t chunk, enum memory_kind kind)
{
	uint64_t data = region->data[chunk], zero = region->zero ? region->zero[chunk] : ~data;

	switch (kind) {
	case MEMORY_DATA:
		return data;
	case MEMORY_ZERO:
		return zero;
	default:
		return ~(data | zero);
	}
}

static enum memory_kind kind_at(const struct table_region *region, uint64_t page)
{
	enum memory_kind kind = MEMORY_DATA;

	while (!(bits_of(region, page / 64, kind) >> page % 64 & 1))
		kind++;
	return kind;
}

/* The first page from PAGE on that is not of KIND, or the region's end. */
static uint64_t end_of_kind(const struct table_region *region, uint64_t page, enum memory_kind kind)
{
	uint64_t chunk = page / 64;
	uint64_t other = ~bits_of(region, chunk, kind) & UINT64_MAX << page % 64;

	while (!other && ++chunk < region->chunks)
		other = ~bits_of(region, chunk, kind);
	page = other ? chunk * 64 + (unsigned)__builtin_ctzll(other) : region->pages;
	return page < region->pages ? page : region->pages;
}

bool memory_table_next(const struct memory_table *table, uint64_t *gpa,
		       struct memory_extent *ret_extent)
{
	uint32_t at = memory_table_find(table, *gpa);
	const struct table_region *region = &table->region[at];
	uint64_t page = 0, end;

	if (at == table->count)
		return false;
	if (*gpa > region->gpa)
		page = (*gpa - region->gpa) / IMPOST_PAGE_SIZE;
	ret_extent->kind = kind_at(region, page);
	end = end_of_kind(region, page, ret_extent->kind);
	ret_extent->gpa = region->gpa + page * IMPOST_PAGE_SIZE;
	ret_extent->bytes = (end - page) * IMPOST_PAGE_SIZE;
	ret_extent->area_offset = region->area_offset + page * IMPOST_PAGE_SIZE;
	*gpa = region->gpa + end * IMPOST_PAGE_SIZE;
	return true;
}
