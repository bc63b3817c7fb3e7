/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source of a post-copy: it sends what is left in order of address, and from there on where the
 * guest has last waited. Between two requests it looks whether the destination wants something.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <impost/vm.h>

#include "clock.h"
#include "context.h"
#include "migrate_postcopy.h"
#include "migrate_rows.h"
#include "migrate_send.h"
#include "migrate_supply.h"
#include "text.h"

/* What one Memory has at the most: who waits for a page waits for no more than this before it. */
#define BATCH_BYTES (UINT64_C(256) << 10)
#define BATCH_ROWS  (BATCH_BYTES / IMPOST_PAGE_SIZE)
/* Of a destination that ends: it may have asked for much before. */
#define LAST_WORDS 256u
/* Between two tries to connect; milliseconds. */
#define AGAIN_MS 20L

static uint64_t left_bytes(const struct leaving *leaving)
{
	return leaving->left->pages * IMPOST_PAGE_SIZE;
}

static void count_left(struct leaving *leaving)
{
	atomic_store(&leaving->migration->left_bytes, left_bytes(leaving));
}

/* --- memory --- */

/* Sends what is left at or after *GPA and before END, as much as one Memory has; *GPA becomes what
 * comes then. */
static int send_some(struct leaving *leaving, uint64_t *gpa, uint64_t end)
{
	struct impost_range ranges[BATCH_ROWS];
	uint64_t at = *gpa, count = 0, bytes = 0;
	int err;

	while (bytes < BATCH_BYTES &&
	       left_next(leaving->left, &at, BATCH_BYTES - bytes, &ranges[count]) &&
	       ranges[count].gpa < end) {
		struct impost_range *range = &ranges[count++];

		if (range->bytes > end - range->gpa)
			range->bytes = end - range->gpa;
		bytes += range->bytes;
		*gpa = range->gpa + range->bytes;
	}
	if (count == 0) {
		*gpa = end;
		return 0;
	}
	err = rows_push(leaving->rows, leaving->link, ranges, count);
	for (uint64_t i = 0; !err && i < count; i++)
		left_set(leaving->left, &ranges[i], false);
	count_left(leaving);
	return err;
}

/* --- what the destination says --- */

/* Sends the rows that the destination waits for, as far as they have not been sent. */
static int send_wanted(struct leaving *leaving, const struct wire_row *rows, uint64_t count)
{
	int err = 0;

	for (uint64_t i = 0; !err && i < count; i++) {
		uint64_t gpa = rows[i].gpa;
		const uint64_t end = gpa + rows[i].bytes, before = leaving->left->pages;

		while (!err && gpa < end)
			err = send_some(leaving, &gpa, end);
		leaving->at = end;
		atomic_fetch_add(&leaving->migration->faults, before - leaving->left->pages);
	}
	return err;
}

static int serve_fault(struct leaving *leaving, const struct wire_head *head)
{
	uint64_t count = head->length / sizeof(struct wire_row);
	void *rows;
	int err = wire_check_request(leaving->link, head);

	if (!err)
		err = wire_read_payload(leaving->link, "a table of memory", head->length, &rows);
	if (err)
		return err;
	err = left_check(leaving->left, rows, count, 0);
	if (!err)
		err = send_wanted(leaving, rows, count);
	free(rows);
	return err;
}

/* Reads the destination's next word, and does as it says if that is Fault: 1 if it was; 0: it is
 * the Ok to Complete. */
static int hear(struct leaving *leaving)
{
	struct wire_head head;
	char *text = NULL;
	int err = link_read(leaving->link, &head, sizeof(head));

	if (err)
		return err;
	if (head.code == WIRE_FAULT) {
		err = serve_fault(leaving, &head);
		return err ? err : 1;
	}
	err = wire_judge_answer(leaving->link, WIRE_COMPLETE, &head, &text);
	source_keep_refusal(leaving->migration, text);
	return err;
}

/* While there is memory left, it can be nothing but Fault. */
static int hear_fault(struct leaving *leaving)
{
	int err = hear(leaving);

	if (err)
		return err > 0 ? 0 : err;
	return impost_error_set(leaving->ctx, -EPROTO,
				"the other side of the migration says Ok, and was not asked");
}

/* --- connections --- */

static int take_table(struct leaving *leaving, uint64_t length)
{
	uint64_t count = length / sizeof(struct wire_row);
	void *rows;
	int err = 0;

	if (length % sizeof(struct wire_row))
		return impost_error_set(leaving->ctx, -EPROTO,
					"the other side of the migration answers Resume with %llu "
					"bytes, which are no rows",
					(unsigned long long)length);
	err = wire_read_payload(leaving->link, "a table of what lacks", length, &rows);
	if (err)
		return err;
	err = left_check(leaving->left, rows, count, 0);
	if (!err)
		left_clear(leaving->left);
	for (uint64_t i = 0; !err && i < count; i++) {
		const struct wire_row *row = (const struct wire_row *)rows + i;
		const struct impost_range range = {row->gpa, row->bytes};

		left_set(leaving->left, &range, true);
	}
	count_left(leaving);
	free(rows);
	return err;
}

/* Goes on over a connection that was just made. */
static int resume(struct leaving *leaving)
{
	struct impost_migration *migration = leaving->migration;
	struct wire_head head;
	int err = wire_send(leaving->link, WIRE_RESUME, migration->token, sizeof(migration->token));

	if (!err)
		err = wire_read_answer(leaving->link, WIRE_RESUME, &head, NULL);
	if (!err)
		err = take_table(leaving, head.length);
	if (!err)
		leaving->said_all = false;
	return err;
}

/* Makes another connection in the place of the one that broke with ERR, which is returned where
 * there is none within the time of a silence. */
static int reconnect(struct leaving *leaving, int err)
{
	struct impost_migration *migration = leaving->migration;
	const uint64_t silence_ns = (uint64_t)migration->config.silence_ms * 1000000;
	const uint64_t until = clock_now_ns() + silence_ns;
	const struct timespec pause = {.tv_nsec = AGAIN_MS * 1000000};

	context_log(leaving->ctx, IMPOST_LOG_WARN,
		    "post-copy: the connection is lost (%s), with %llu bytes still here: trying to "
		    "connect again",
		    impost_error(leaving->ctx), (unsigned long long)left_bytes(leaving));
	for (;;) {
		uint64_t now = clock_now_ns();
		int again;

		if (now >= until)
			return err;
		again = migrate_connect(migration, (uint32_t)((until - now) / 1000000 + 1),
					&leaving->link);
		if (!again)
			again = resume(leaving);
		if (!again || !postcopy_is_loss(again))
			return again;
		if (again == -ENOTSUP)
			return err;
		nanosleep(&pause, NULL);
	}
}

/* --- the whole --- */

int leaving_begin(struct leaving *leaving, struct impost_migration *migration,
		  struct impost_memory *memory)
{
	int err;

	*leaving = (struct leaving){
		.migration = migration,
		.ctx = migration->ctx,
		.memory = memory,
		.link = &migration->links[0],
	};
	err = left_create(memory, &leaving->left);
	return err ? err : rows_create(migration, leaving->link, memory, &leaving->rows);
}

int leaving_take(struct leaving *leaving, struct supply *supply)
{
	struct impost_range ranges[SUPPLY_RANGES];
	uint64_t count;
	int err;

	for (;;) {
		err = supply_take(supply, ranges, SUPPLY_RANGES, UINT64_MAX, &count);
		if (err || count == 0)
			return err;
		for (uint64_t i = 0; i < count; i++)
			left_set(leaving->left, &ranges[i], true);
	}
}

int leaving_postpone(struct leaving *leaving)
{
	struct wire_row *rows;
	uint64_t count;
	int err = left_rows(leaving->left, &rows, &count);

	if (err)
		return err;
	err = wire_send(leaving->link, WIRE_POSTPONE, rows, count * sizeof(*rows));
	free(rows);
	count_left(leaving);
	return err ? source_hear(leaving->migration, leaving->link, WIRE_POSTPONE, err)
		   : source_read_answer(leaving->migration, leaving->link, WIRE_POSTPONE);
}

int leaving_read_answer(struct leaving *leaving)
{
	int err;

	do
		err = hear(leaving);
	while (err > 0);
	return err;
}

/* Sends what is left over the connection that there is, until the destination says that it has
 * all. */
static int send_rest(struct leaving *leaving)
{
	int err;

	while (leaving->left->pages > 0) {
		err = link_wait(leaving->link, 0);
		if (err > 0)
			err = hear_fault(leaving);
		else if (!err)
			err = send_some(leaving, &leaving->at, UINT64_MAX);
		if (err)
			return err;
		if (leaving->at == UINT64_MAX)
			leaving->at = 0;
		migrate_tell(leaving->migration); /* it is too late to cancel it */
	}
	err = wire_send(leaving->link, WIRE_COMPLETE, NULL, 0);
	leaving->said_all = !err;
	return err ? err : leaving_read_answer(leaving);
}

/* Reads one of the last words: 0: a Fault, which nobody can do anything about any more; or what it
 * is. */
static int read_last(struct leaving *leaving)
{
	struct wire_head head;
	char *text = NULL;
	void *rows;
	int err = link_read(leaving->link, &head, sizeof(head));

	if (err)
		return err;
	if (head.code != WIRE_FAULT) {
		err = wire_judge_answer(leaving->link, WIRE_COMPLETE, &head, &text);
		source_keep_refusal(leaving->migration, text);
		return err ? err : -EPROTO;
	}
	err = wire_check_request(leaving->link, &head);
	if (!err)
		err = wire_read_payload(leaving->link, "a table of memory", head.length, &rows);
	if (!err)
		free(rows);
	return err;
}

/* Nothing can be said any more, for ERR: the destination may have said why, behind what it has
 * asked for before. */
static int hear_last(struct leaving *leaving, int err)
{
	char text[512];
	int heard = 0;

	if (!postcopy_is_loss(err))
		return err;
	snprintf(text, sizeof(text), "%s", impost_error(leaving->ctx));
	for (uint32_t i = 0; i < LAST_WORDS && !heard && link_wait(leaving->link, 0) > 0; i++)
		heard = read_last(leaving);
	return heard == -EREMOTEIO ? heard : impost_error_set(leaving->ctx, err, "%s", text);
}

static int send_and_hear(struct leaving *leaving)
{
	int err = send_rest(leaving);

	return err ? hear_last(leaving, err) : 0;
}

/* The connection was lost with ERR, and there is no other. */
static int judge_loss(struct leaving *leaving, int err)
{
	if (!leaving->said_all || leaving->left->pages > 0 || !postcopy_is_loss(err))
		return err;
	context_log(
		leaving->ctx, IMPOST_LOG_WARN,
		"post-copy: all of the VM's memory was sent, and the connection lost (%s) before "
		"the destination said that it has all: if it has not, it says so there",
		impost_error(leaving->ctx));
	return 0;
}

int leaving_finish(struct leaving *leaving)
{
	char text[512];
	int err;

	if (leaving->left->pages > 0)
		context_log(
			leaving->ctx, IMPOST_LOG_WARN,
			"post-copy: the VM runs at the destination, and %llu bytes of its memory are "
			"still here: if the connection is lost, and no other can be made, so is the VM",
			(unsigned long long)left_bytes(leaving));
	err = send_and_hear(leaving);
	while (err && postcopy_is_loss(err)) {
		err = reconnect(leaving, err);
		if (err)
			break;
		err = send_and_hear(leaving);
	}
	if (err)
		err = judge_loss(leaving, err);
	if (!err)
		return 0;
	snprintf(text, sizeof(text), "%s", impost_error(leaving->ctx));
	return impost_error_set(leaving->ctx, -EIO,
				"the VM is the destination's, and what it has not got of its "
				"memory, some %llu bytes, is lost with the connection: %s",
				(unsigned long long)left_bytes(leaving), text);
}

void leaving_release(struct leaving *leaving)
{
	rows_free(leaving->rows);
	left_free(leaving->left);
	leaving->rows = NULL;
	leaving->left = NULL;
}
