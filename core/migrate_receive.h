/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM that is being received. In which order things come, in migrate_receive.c; memory, in
 * migrate_receive_memory.c; further connections, in migrate_receive_joined.c. Calls are 0 or an
 * error with a text.
 */
#ifndef CORE_MIGRATE_RECEIVE_H
#define CORE_MIGRATE_RECEIVE_H

#include "migrate.h"

/* What has come to be in a region: pages, bit 0 the first, that are no more as they were when the
 * region was made, all zero. */
struct touched {
	uint64_t gpa, bytes;
	_Atomic uint64_t *words;
};

/* How long is waited before who wants to be told is told; milliseconds. */
#define RECEIVE_SLICE_MS 100u

struct receiving {
	struct impost_migration *migration;
	struct impost_context *ctx;
	struct link *link; /* the first */
	uint32_t phase;	   /* migrate_receive.c's */
	struct migrate_config config;
	struct impost_state *first; /* as Config has it */
	struct impost_state *state; /* that is to be loaded; NULL: it has not come */
	struct impost_vm *vm;
	bool prepared, abandoned;
	struct touched *touched; /* of each region of `first`, in their order */
	uint32_t ntouched;
	struct intake *intake; /* of the first connection */
	char *reasons;	       /* why the VM cannot run here, a line each; NULL: no such */
	uint64_t state_ns;     /* when the state came */
	uint64_t rated_ns, rated_bytes;
};

/* --- migrate_receive_memory.c --- */

/* When the regions of `first` are there. -ENOMEM. */
int receiving_begin_memory(struct receiving *receiving);
void receiving_end_memory(struct receiving *receiving);

/* What one connection takes memory in with: for one thread at a time. */
struct intake;
int intake_create(struct receiving *receiving, struct link *link, struct intake **ret_intake);
void intake_free(struct intake *intake);

/*
 * Reads what is behind a Memory's head, into guest memory; does not answer. TELL, unless NULL, is
 * called now and then while there is much, and ends it with its error. -EPROTO: a table that makes
 * no sense; or what the connection says.
 */
int intake_memory(struct intake *intake, const struct wire_head *head,
		  int (*tell)(struct receiving *receiving));

/* --- migrate_receive_joined.c --- */

struct joined;

/* After Config's Ok: takes the further connections that there are to be, which take memory in from
 * then on: migration->joined. -EAGAIN: before all are there the first connection has something to
 * say. An error on one of them cancels the migration: joined_stop() tells which it was. */
int joined_begin(struct receiving *receiving);

/* No more memory comes: guest memory is not touched from here on. An error of one of them; -EPROTO:
 * some is coming. NULL is fine. */
int joined_close(struct joined *joined);

/* Ends all threads, after ERR of the whole: returns that, or the error of theirs that has led to
 * it. NULL is fine. */
int joined_stop(struct joined *joined, int err);
void joined_free(struct joined *joined);

#endif
