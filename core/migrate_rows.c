/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of guest memory as Memory requests. */
#include "migrate_rows.h"

#include <stdlib.h>

#include <impost/memory.h>
#include <impost/pages.h>

#include "migrate_send.h"
#include "migrate_squeeze.h"

/* Ranges of zeros that are looked for at a time. */
#define ZEROS 64u

struct request {
	struct wire_head head;
	struct wire_row rows[ROWS_MOST];
};

struct rows {
	struct impost_migration *migration;
	struct link *link;
	struct impost_memory *memory;
	struct squeezer *squeezer; /* NULL: nothing is compressed */
	uint32_t unanswered;
	struct request request;
	uint32_t nrows;
	struct impost_range contents[ROWS_MOST]; /* of the last rows */
	uint32_t ncontents;
	uint64_t data_bytes, zero_bytes; /* of the request */
};

int rows_create(struct impost_migration *migration, struct link *link, struct impost_memory *memory,
		struct rows **ret_rows)
{
	struct rows *rows = calloc(1, sizeof(*rows));
	int err = rows ? 0 : impost_error_set(migration->ctx, -ENOMEM, "no memory for a migration");

	if (!err && migration->features & IMPOST_MIGRATION_ZSTD)
		err = squeezer_create(migration->ctx, ROWS_BYTES, &rows->squeezer);
	if (err) {
		free(rows);
		return err;
	}
	rows->migration = migration;
	rows->link = link;
	rows->memory = memory;
	*ret_rows = rows;
	return 0;
}

void rows_free(struct rows *rows)
{
	if (!rows)
		return;
	squeezer_free(rows->squeezer);
	free(rows);
}

/* --- a request --- */

static void add_row(struct rows *rows, uint64_t gpa, uint64_t bytes, uint32_t flags)
{
	rows->request.rows[rows->nrows++] = (struct wire_row){.gpa = gpa | flags, .bytes = bytes};
}

static void add_zeros(struct rows *rows, uint64_t gpa, uint64_t bytes)
{
	add_row(rows, gpa, bytes, WIRE_ROW_ZERO);
	rows->zero_bytes += bytes;
}

/* Contents as they are. Their rows are the last, so that what is compressed goes in one piece. */
static void add_plain(struct rows *rows, uint64_t gpa, uint64_t bytes)
{
	rows->contents[rows->ncontents++] = (struct impost_range){.gpa = gpa, .bytes = bytes};
}

/* Contents that get smaller, and those that do not. */
static int add_squeezed(struct rows *rows, uint64_t gpa, uint64_t bytes)
{
	int added = 0;

	for (uint64_t n; added >= 0 && bytes > 0; gpa += n, bytes -= n) {
		n = bytes < WIRE_ZSTD_MOST ? bytes : WIRE_ZSTD_MOST;
		added = squeezer_add(rows->squeezer, rows->memory, gpa, n);
		if (added > 0)
			add_row(rows, gpa, n, WIRE_ROW_ZSTD);
		else if (added == 0)
			add_plain(rows, gpa, n);
	}
	return added < 0 ? added : 0;
}

static int add_contents(struct rows *rows, uint64_t gpa, uint64_t bytes)
{
	if (bytes == 0)
		return 0;
	rows->data_bytes += bytes;
	if (rows->squeezer)
		return add_squeezed(rows, gpa, bytes);
	add_plain(rows, gpa, bytes);
	return 0;
}

/* A range, of which pages of zeros have none. */
static int split(struct rows *rows, struct impost_range left)
{
	struct impost_range zeros[ZEROS];
	uint64_t at = left.gpa, count;
	int err = 0;

	while (!err && left.bytes > 0) {
		count = 0;
		err = impost_pages_zero(rows->memory, &left, zeros, ZEROS, &count);
		for (uint64_t i = 0; !err && i < count; i++) {
			err = add_contents(rows, at, zeros[i].gpa - at);
			add_zeros(rows, zeros[i].gpa, zeros[i].bytes);
			at = zeros[i].gpa + zeros[i].bytes;
		}
		if (!err) /* what was looked at behind the last */
			err = add_contents(rows, at, left.gpa - at);
		at = left.gpa;
	}
	return err;
}

static int make_request(struct rows *rows, const struct impost_range *ranges, uint64_t count)
{
	bool zero = rows->migration->features & IMPOST_MIGRATION_ZERO_PAGES;
	int err = 0;

	rows->nrows = rows->ncontents = 0;
	rows->data_bytes = rows->zero_bytes = 0;
	for (uint64_t i = 0; !err && i < count; i++)
		err = zero ? split(rows, ranges[i])
			   : add_contents(rows, ranges[i].gpa, ranges[i].bytes);
	for (uint32_t i = 0; i < rows->ncontents; i++)
		add_row(rows, rows->contents[i].gpa, rows->contents[i].bytes, 0);
	rows->request.head = (struct wire_head){
		.code = WIRE_MEMORY,
		.length = rows->nrows * sizeof(rows->request.rows[0]),
	};
	return err;
}

static int send_request(struct rows *rows)
{
	const void *head = &rows->request;
	uint64_t bytes = sizeof(rows->request.head) + rows->request.head.length;
	int err = 0;

	if (rows->squeezer) {
		err = link_write(rows->link, head, bytes);
		bytes = squeezer_take(rows->squeezer, &head);
	}
	return err ? err
		   : link_write_memory(rows->link, head, bytes, rows->memory, rows->contents,
				       rows->ncontents);
}

/* --- */

static int read_answer(struct rows *rows)
{
	rows->unanswered--;
	return source_read_answer(rows->migration, rows->link, WIRE_MEMORY);
}

static void count_sent(struct rows *rows)
{
	atomic_fetch_add(&rows->migration->data_bytes, rows->data_bytes);
	atomic_fetch_add(&rows->migration->zero_bytes, rows->zero_bytes);
}

/* It is not left any more. */
static void count_left(struct rows *rows)
{
	struct impost_migration *migration = rows->migration;
	uint64_t sent = rows->data_bytes + rows->zero_bytes, left = migration->left_bytes;

	/* With a log that is fetched late, more can come than was known of. */
	while (!atomic_compare_exchange_weak(&migration->left_bytes, &left,
					     left > sent ? left - sent : 0))
		;
}

int rows_send(struct rows *rows, const struct impost_range *ranges, uint64_t count)
{
	int err = make_request(rows, ranges, count);

	while (!err && rows->unanswered >= UNANSWERED_MOST)
		err = read_answer(rows);
	if (!err)
		err = send_request(rows);
	if (err)
		return source_hear(rows->migration, rows->link, WIRE_MEMORY, err);
	rows->unanswered++;
	count_sent(rows);
	count_left(rows);
	return 0;
}

int rows_push(struct rows *rows, struct link *link, const struct impost_range *ranges,
	      uint64_t count)
{
	int err = make_request(rows, ranges, count);

	rows->link = link;
	if (!err)
		err = send_request(rows);
	if (!err)
		count_sent(rows);
	return err;
}

int rows_settle(struct rows *rows)
{
	int err = 0;

	while (!err && rows->unanswered > 0)
		err = read_answer(rows);
	return err;
}
