/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy: the VM goes first, and the rest of its memory follows while it runs there. The
 * source's part is in migrate_postcopy_send.c, the destination's in migrate_postcopy_receive.c, and
 * what both keep of what is left, in migrate_postcopy_left.c. Calls are 0 or an error with a text.
 */
#ifndef CORE_MIGRATE_POSTCOPY_H
#define CORE_MIGRATE_POSTCOPY_H

#include "migrate.h"

struct rows;
struct supply;

/* --- what is left: pages of the regions that memory has when it is made --- */

struct left_region {
	uint64_t gpa, pages;
	uint64_t *words; /* a bit for each page */
};

struct left {
	struct impost_context *ctx;
	uint64_t pages; /* that are left */
	uint64_t bytes; /* of the regions */
	uint32_t count;
	struct left_region regions[];
};

/* Nothing is left at first. -ENOMEM. */
int left_create(struct impost_memory *memory, struct left **ret_left);
void left_free(struct left *left);

/* Judges COUNT rows of a table, which may have FLAGS: wire_check_rows(). */
int left_check(const struct left *left, const struct wire_row *rows, uint64_t count,
	       uint64_t flags);

/* RANGE, which is in one region, is left, or not any more. */
void left_set(struct left *left, const struct impost_range *range, bool on);
void left_clear(struct left *left);

/* The next pages at or after *GPA that are left, of BYTES at the most; *GPA becomes their end.
 * False: there are no more. */
bool left_next(const struct left *left, uint64_t *gpa, uint64_t bytes,
	       struct impost_range *ret_range);

/* A table of all that is left, which may become more, so that the table is no longer than may be.
 * To be freed; NULL: nothing is left. -ENOMEM. */
int left_rows(struct left *left, struct wire_row **ret_rows, uint64_t *ret_count);

/* Whether a connection is gone, by what was said of it, and the peer not in the wrong. */
bool postcopy_is_loss(int err);

/* --- the source --- */

struct leaving {
	struct impost_migration *migration;
	struct impost_context *ctx;
	struct impost_memory *memory;
	struct link *link; /* the present one */
	struct left *left; /* NULL: there is no post-copy */
	struct rows *rows;
	uint64_t at;   /* what comes next, when nobody waits */
	bool said_all; /* over the present connection, or the last that there was */
};

/* Of MEMORY, nothing of which is left yet. -ENOMEM. For leaving_release() in any case. */
int leaving_begin(struct leaving *leaving, struct impost_migration *migration,
		  struct impost_memory *memory);
void leaving_release(struct leaving *leaving);

/* What SUPPLY has is left, too. */
int leaving_take(struct leaving *leaving, struct supply *supply);

/* The VM is held, its state was sent, and all that has to be is left: has the destination throw
 * away what it has of that. */
int leaving_postpone(struct leaving *leaving);

/* Complete was said: waits for the Ok, and sends what the destination needs until then. */
int leaving_read_answer(struct leaving *leaving);

/*
 * The VM is the destination's: sends the rest of its memory. -EIO: the connection was lost, and no
 * other came, or the destination has failed: what has not come is lost. Where all was sent, and the
 * connection lost before the destination has said that it has come, and it does not listen any
 * more, that is a warning: it has no reason to listen when it has all.
 */
int leaving_finish(struct leaving *leaving);

/* --- the destination --- */

struct postcopy;

/* Whether this process can take memory that comes later at all: without a text. */
bool postcopy_is_possible(struct impost_context *ctx);

/* Whether MEMORY is of a kind that can come later. */
bool postcopy_takes(struct impost_memory *memory);

/*
 * Reads the table behind HEAD, which is Postpone's, and throws that memory of VM away. Does not
 * answer. No Memory is to be taken from any connection from now on. -EPROTO: a wrong table, or a
 * second one; -ENOTSUP: not for this memory.
 */
int postcopy_postpone(struct impost_migration *migration, struct impost_vm *vm,
		      const struct wire_head *head);

/* Complete has come: from now on memory may be touched, such as by loading state; what comes over
 * the first connection is read by a thread of the migration's. */
int postcopy_begin(struct impost_migration *migration);

/* All is loaded: says Ok, after which the VM is here, and the calling thread does nothing more with
 * the migration. An error: it is not here. */
int postcopy_answer(struct impost_migration *migration);

/* What has not come is lost; NULL is fine. Before the answer: the connection can be used again. */
void postcopy_free(struct postcopy *postcopy);

#endif
