/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of guest memory as Memory requests on one connection: rows of zeros, rows that are
 * compressed, and rows whose contents follow as they are. One thread at a time for each. Calls are
 * 0 or a negative errno, with a text.
 */
#ifndef CORE_MIGRATE_ROWS_H
#define CORE_MIGRATE_ROWS_H

#include "migrate.h"

/* Of guest memory in one request. As many pages are as many rows at the most. */
#define ROWS_BYTES (UINT64_C(4) << 20)
#define ROWS_MOST  (ROWS_BYTES / IMPOST_PAGE_SIZE)

struct rows;

/* -ENOMEM. Free with rows_free(), NULL too. */
int rows_create(struct impost_migration *migration, struct link *link, struct impost_memory *memory,
		struct rows **ret_rows);
void rows_free(struct rows *rows);

/* Sends RANGES, ROWS_MOST at the most and ROWS_BYTES in all, each in one region. The answer is
 * waited for by a later call. */
int rows_send(struct rows *rows, const struct impost_range *ranges, uint64_t count);

/* Likewise over LINK, in the place of the connection, where Memory is not answered. */
int rows_push(struct rows *rows, struct link *link, const struct impost_range *ranges,
	      uint64_t count);

/* Waits for all answers. */
int rows_settle(struct rows *rows);

#endif
