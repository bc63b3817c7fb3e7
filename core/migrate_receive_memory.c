/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that comes: its tables are checked, and contents go straight to where they belong. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <impost/memory.h>

#include "bitmap.h"
#include "map.h"
#include "memory.h"
#include "migrate_receive.h"
#include "migrate_squeeze.h"
#include "region.h"
#include "state.h"
#include "text.h"

/* Rows whose contents are read at once. One call of the kernel takes no more. */
#define BATCH_ROWS 256u
/* So much at once, so that who waits to be told is. */
#define BATCH_BYTES (UINT64_C(32) << 20)

struct intake {
	struct receiving *receiving;
	struct link *link;
	struct wire_row *rows; /* the table */
	struct unsqueezer *unsqueezer;
};

static int no_memory(const struct receiving *receiving)
{
	return impost_error_set(receiving->ctx, -ENOMEM, "no memory to receive memory with");
}

/* --- what is known to be zero --- */

static bool is_fresh(struct impost_memory *memory, uint64_t gpa)
{
	const struct mapped *mapped = map_at(memory->map, gpa);

	return mapped && region_is_fresh(mapped);
}

int receiving_begin_memory(struct receiving *receiving)
{
	const struct state_machine *machine = state_machine(receiving->first);
	struct impost_memory *memory = impost_vm_memory(receiving->vm);

	receiving->touched = calloc((size_t)machine->nregions + 1, sizeof(*receiving->touched));
	if (!receiving->touched)
		return no_memory(receiving);
	for (uint32_t i = 0; i < machine->nregions; i++) {
		const struct impost_state_region *region = &machine->regions[i];
		struct touched *touched = &receiving->touched[i];
		uint64_t words = bitmap_words(region->bytes / IMPOST_PAGE_SIZE);

		touched->gpa = region->gpa;
		touched->bytes = region->bytes;
		touched->words = calloc(words, sizeof(*touched->words));
		receiving->ntouched = i + 1;
		if (!touched->words)
			return no_memory(receiving);
		if (!is_fresh(memory, region->gpa))
			memset((void *)touched->words, 0xff, words * sizeof(*touched->words));
	}
	return 0;
}

void receiving_end_memory(struct receiving *receiving)
{
	for (uint32_t i = 0; i < receiving->ntouched; i++)
		free((void *)receiving->touched[i].words);
	free(receiving->touched);
	receiving->touched = NULL;
	receiving->ntouched = 0;
}

/* The region that GPA is in; NULL: none. */
static struct touched *find(const struct receiving *receiving, uint64_t gpa)
{
	uint32_t low = 0, high = receiving->ntouched;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (receiving->touched[middle].gpa <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || gpa - receiving->touched[low - 1].gpa >= receiving->touched[low - 1].bytes)
		return NULL;
	return &receiving->touched[low - 1];
}

/* RANGE, in one region, is about to be written. */
static void touch(const struct receiving *receiving, const struct impost_range *range)
{
	struct touched *touched = find(receiving, range->gpa);
	uint64_t page = (range->gpa - touched->gpa) / IMPOST_PAGE_SIZE;
	uint64_t end = page + range->bytes / IMPOST_PAGE_SIZE;

	for (; page < end; page = (page / 64 + 1) * 64) {
		_Atomic uint64_t *word = &touched->words[page / 64];
		uint64_t mask = bitmap_mask(page, end);

		/* Who sends a page on one connection after another waits for that one's answer. */
		if ((atomic_load_explicit(word, memory_order_relaxed) & mask) != mask)
			atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
	}
}

/* Makes RANGE zero, as far as it is not known to be: no memory is given to what was never touched,
 * and to say the same again costs no more than to look. */
static int clear(const struct receiving *receiving, const struct impost_range *range)
{
	struct touched *touched = find(receiving, range->gpa);
	uint64_t page = (range->gpa - touched->gpa) / IMPOST_PAGE_SIZE;
	uint64_t end = page + range->bytes / IMPOST_PAGE_SIZE;
	int err = 0;

	while (!err && page < end) {
		uint64_t bits = touched->words[page / 64] & bitmap_mask(page, end), run;

		if (!bits) {
			page = (page / 64 + 1) * 64;
			continue;
		}
		page = page / 64 * 64 + (uint64_t)__builtin_ctzll(bits);
		bits = ~(bits >> page % 64);
		run = bits ? (uint64_t)__builtin_ctzll(bits) : 64;
		err = impost_memory_fill(impost_vm_memory(receiving->vm),
					 touched->gpa + page * IMPOST_PAGE_SIZE, 0,
					 run * IMPOST_PAGE_SIZE);
		if (!err)
			atomic_fetch_and(&touched->words[page / 64],
					 ~bitmap_mask(page, page + run));
		page += run;
	}
	return err;
}

/* --- tables --- */

int intake_create(struct receiving *receiving, struct link *link, struct intake **ret_intake)
{
	struct intake *intake = calloc(1, sizeof(*intake));

	if (!intake)
		return no_memory(receiving);
	intake->receiving = receiving;
	intake->link = link;
	*ret_intake = intake;
	return 0;
}

void intake_free(struct intake *intake)
{
	if (!intake)
		return;
	free(intake->rows);
	unsqueezer_free(intake->unsqueezer);
	free(intake);
}

/* Bytes from GPA to the end of its region; 0: there is none. */
static uint64_t room(const void *opaque, uint64_t gpa)
{
	const struct touched *touched = find(opaque, gpa);

	return touched ? touched->bytes - (gpa - touched->gpa) : 0;
}

static int check_rows(const struct intake *intake, uint64_t count)
{
	const struct receiving *receiving = intake->receiving;
	const struct impost_migration *migration = receiving->migration;
	const struct wire_space space = {room, receiving, migration->guest_bytes};

	return wire_check_rows(receiving->ctx, intake->rows, count,
			       WIRE_FLAGS_OF(migration->features), &space);
}

/* Reads the table of BYTES, which are whole rows and not too many, and checks it. */
static int read_table(struct intake *intake, uint64_t bytes)
{
	void *rows;
	int err = wire_read_payload(intake->link, "a table of memory", bytes, &rows);

	if (err)
		return err;
	free(intake->rows);
	intake->rows = rows;
	return check_rows(intake, bytes / sizeof(struct wire_row));
}

/* --- contents --- */

static uint64_t row_flags(const struct wire_row *row)
{
	return row->gpa & WIRE_ROW_FLAGS;
}

/* A batch of rows that are contents and no more, the first of COUNT rows at ROWS, of the first of
 * which DONE bytes have come. Returns how many bytes it has. */
static uint64_t gather(const struct wire_row *rows, uint64_t count, uint64_t done,
		       struct impost_range ranges[BATCH_ROWS], uint64_t *ret_count)
{
	uint64_t n = 0, bytes = 0;

	while (n < count && n < BATCH_ROWS && bytes < BATCH_BYTES && !row_flags(&rows[n])) {
		uint64_t len = rows[n].bytes - done;

		if (len > BATCH_BYTES - bytes)
			len = BATCH_BYTES - bytes;
		ranges[n] = (struct impost_range){rows[n].gpa + done, len};
		bytes += len;
		done = 0;
		n++;
	}
	*ret_count = n;
	return bytes;
}

/* Takes in the contents of rows, as many as come before one with flags: *ROW, which may be any
 * number of bytes into the first, becomes the next. */
static int take_plain(struct intake *intake, uint64_t count, uint64_t *row, uint64_t *done)
{
	struct receiving *receiving = intake->receiving;
	struct impost_range ranges[BATCH_ROWS];
	uint64_t n, bytes = gather(intake->rows + *row, count - *row, *done, ranges, &n);
	int err;

	for (uint64_t i = 0; i < n; i++)
		touch(receiving, &ranges[i]);
	err = link_read_memory(intake->link, impost_vm_memory(receiving->vm), ranges, n);
	if (err)
		return err;
	atomic_fetch_add(&receiving->migration->data_bytes, bytes);
	for (uint64_t i = 0; i < n; i++) {
		*done += ranges[i].bytes;
		if (*done < intake->rows[*row].bytes)
			break;
		*done = 0;
		++*row;
	}
	return 0;
}

static int take_zero(struct intake *intake, uint64_t *row)
{
	const struct wire_row *at = &intake->rows[*row];
	const struct impost_range range = {at->gpa - WIRE_ROW_ZERO, at->bytes};
	int err = clear(intake->receiving, &range);

	if (err)
		return err;
	atomic_fetch_add(&intake->receiving->migration->zero_bytes, range.bytes);
	++*row;
	return 0;
}

static int take_zstd(struct intake *intake, uint64_t *row)
{
	struct receiving *receiving = intake->receiving;
	const struct wire_row *at = &intake->rows[*row];
	const struct impost_range range = {at->gpa - WIRE_ROW_ZSTD, at->bytes};
	const uint8_t *contents;
	int err = unsqueezer_read(&intake->unsqueezer, intake->link, range.gpa, range.bytes,
				  &contents);

	if (err)
		return err;
	touch(receiving, &range);
	err = impost_memory_write(impost_vm_memory(receiving->vm), range.gpa, contents,
				  range.bytes);
	if (err)
		return err;
	atomic_fetch_add(&receiving->migration->data_bytes, range.bytes);
	++*row;
	return 0;
}

/* The next row, or as many as are read at once. */
static int take_rows(struct intake *intake, uint64_t count, uint64_t *row, uint64_t *done)
{
	switch (row_flags(&intake->rows[*row])) {
	case WIRE_ROW_ZERO:
		return take_zero(intake, row);
	case WIRE_ROW_ZSTD:
		return take_zstd(intake, row);
	default:
		return take_plain(intake, count, row, done);
	}
}

int intake_memory(struct intake *intake, const struct wire_head *head,
		  int (*tell)(struct receiving *receiving))
{
	uint64_t count = head->length / sizeof(struct wire_row), row = 0, done = 0;
	int err = read_table(intake, head->length);

	while (!err && row < count) {
		err = take_rows(intake, count, &row, &done);
		if (!err && tell)
			err = tell(intake->receiving);
	}
	return err;
}
