/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration as the core sees it. Who says what, in migrate_send.c and migrate_receive.c; what of
 * memory goes when, in migrate_passes.c; what the two sides tell each other, in migrate_config.c.
 */
#ifndef CORE_MIGRATE_H
#define CORE_MIGRATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <impost/migrate.h>
#include <impost/state.h>

#include "migrate_link.h"
#include "migrate_wire.h"

#define MIGRATE_CONNECTIONS_MOST 64u
/* With those that came in the place of others (post-copy): each try is one. */
#define MIGRATE_LINKS_MOST  1024u
#define MIGRATE_SILENCE_MS  10000u
#define MIGRATE_DOWNTIME_MS 300u
#define MIGRATE_HOLD_MS	    10000u
#define MIGRATE_PASSES	    30u
/* Of the time that there is for another connection, a stranger who says nothing has this part. */
#define MIGRATE_STRANGERS_PART 4u

struct impost_migration {
	struct impost_context *ctx;
	struct impost_migration_config config; /* with defaults filled in */
	struct impost_vm_config vm_config;     /* a copy, if there is one */
	struct cancel cancel;
	atomic_bool begun;    /* send or receive was called */
	atomic_bool received; /* a VM was, and is the host's */

	struct link *links; /* the first is the main one; config.connections, or what Config says */
	atomic_uint nlinks;
	atomic_uint features; /* agreed */
	uint8_t token[WIRE_TOKEN];

	struct impost_vm
		*vm; /* the source's while it may be unsettled; the destination's when made */
	bool held;   /* the source: by this migration */
	struct joined *joined;	   /* the destination's further connections; NULL: none */
	struct postcopy *postcopy; /* of either side; NULL: none. See migrate_postcopy.h */

	/* What the peer said with its Error, whole; NULL: nothing. */
	char *_Atomic refusal;

	/* Statistics: written by threads of the migration, read by anybody. */
	atomic_uint state, pass, throttle;
	_Atomic uint64_t guest_bytes, left_bytes, data_bytes, zero_bytes;
	_Atomic uint64_t rate, dirty_rate, begin_ns, end_ns, downtime_ns, faults;
	uint64_t told_ns; /* when progress was told last; the calling thread's */
};

/* --- migrate.c --- */

/* Goes into STATE, and tells it. -ECANCELED: who was told wants it to end, or somebody else does.
 */
int migrate_enter(struct impost_migration *migration, uint32_t state);

/* Tells how it goes, if it is time; only for the thread of send or receive. -ECANCELED. */
int migrate_tell(struct impost_migration *migration);

/* Asks the host for another channel and makes the next link of it. -ENOTSUP: it gives none. */
int migrate_connect(struct impost_migration *migration, uint32_t timeout_ms,
		    struct link **ret_link);

/* LINK, the last, turned out to be a stranger's, who is told TEXT, unless it is NULL: it is no link
 * any more. */
void migrate_disconnect(struct impost_migration *migration, struct link *link, const char *text);

/* --- migrate_config.c --- */

/* The configuration, as the two sides have it. */
struct migrate_config {
	uint32_t version;     /* decoded: of the record */
	uint32_t connections; /* that are to be, the first among them */
	uint32_t local;	      /* 1: memory comes as descriptors */
	uint8_t token[WIRE_TOKEN];
	uint32_t noffsets;
	uint64_t *offsets; /* local: where in its file each region begins, in order of address */
};

extern const struct impost_record *const migrate_config_record;

/* To be freed. -E2BIG: more than a payload may have; -EINVAL: a number that the record does not
 * take; -ENOMEM. */
int migrate_encode_config(struct impost_context *ctx, const struct migrate_config *config,
			  const struct impost_state *state, void **ret_data, uint64_t *ret_len);
int migrate_encode_state(struct impost_context *ctx, const struct impost_state *state,
			 void **ret_data, uint64_t *ret_len);

/* Of anybody's bytes: -IMPOST_EFORMAT; -ENOMEM. The state is whole: it has the sections that there
 * must be. What is returned is the caller's. */
int migrate_decode_config(struct impost_context *ctx, const void *data, uint64_t len,
			  struct migrate_config *ret_config, struct impost_state **ret_state);
void migrate_config_release(struct migrate_config *config);
int migrate_decode_state(struct impost_context *ctx, const void *data, uint64_t len,
			 struct impost_state **ret_state);

#endif
