/* SPDX-License-Identifier: Apache-2.0 */
/* A migration of a run, out of it or into it: the part that both have, and that others look at. */
#ifndef TOOLS_MIGRATION_H
#define TOOLS_MIGRATION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <impost/impost.h>
#include <json-c/json.h>

#include "connection.h"

struct migration {
	struct impost_context *ctx;
	struct endpoint endpoint;
	int stop; /* eventfd: the endpoint's */
	atomic_bool cancelled;
	/* Called by the thread of send or receive. NULL: none. */
	void (*told)(void *opaque, const struct impost_migration_status *status);
	void *opaque;

	pthread_mutex_t lock;		       /* of what follows */
	struct impost_migration *handle;       /* NULL: there is none */
	struct impost_migration_status status; /* what was told last */
	char where[ADDRESS_TEXT_SIZE];	       /* the other side's address, or ours; "": none yet */
	bool incoming;
};

/* Returns 0 or a negative error with its text on CTX. _release() follows in both cases. */
int migration_init(struct migration *migration, struct impost_context *ctx);
void migration_release(struct migration *migration);

/* Opens the endpoint at ADDRESS, which is empty. */
int migration_open(struct migration *migration, const char *address, enum address_use use);

/*
 * Makes the library's object on the endpoint, for which there is a first connection within
 * TIMEOUT_MS. CONFIG's channel, connect, progress, opaque and silence_ms are filled in here.
 */
int migration_make(struct migration *migration, struct impost_migration_config *config,
		   uint32_t timeout_ms);

/* Frees it with its connections; what is known of it stays to be told. */
void migration_unmake(struct migration *migration);

/* The same, but who listens still does, as if nobody had come. */
void migration_drop(struct migration *migration);

/* Ends what is under way, or about to be. Any thread. */
void migration_cancel(struct migration *migration);

/* Takes that back, when nothing is under way. */
void migration_rearm(struct migration *migration);

/* The error ERR and its text, with what TLS has to say besides. Returns ERR. */
int migration_explain(struct migration *migration, int err);

/* What is known of it: impost-control(7). NULL: nothing. */
struct json_object *migration_describe(struct migration *migration);

/* Adds its numbers to OBJECT. */
void migration_add_status(struct json_object *object, const struct impost_migration_status *status);

/* What was told last. */
void migration_get_status(struct migration *migration, struct impost_migration_status *ret_status);

#endif
