/* SPDX-License-Identifier: Apache-2.0 */
/* A run's guest sent elsewhere, as `impost ctl SOCKET migrate` asks for. */
#ifndef TOOLS_OUTGOING_H
#define TOOLS_OUTGOING_H

#include <stdbool.h>

#include "machine.h"
#include "migration.h"
#include "request.h"

struct outgoing {
	struct migration migration;
	struct machine *machine;
	/* Called when there is something to tell, by the thread that sends. */
	void (*told)(void *opaque);
	void *opaque;
	bool was_quiet;
	char *refusal; /* why the destination cannot have it, a line for each reason; NULL: nothing
			*/
};

/* MACHINE need not have been created yet; TOLD and OPAQUE are filled in later. Returns 0 or a
 * negative error with its text on CTX. _release() follows in both cases. */
int outgoing_init(struct outgoing *outgoing, struct impost_context *ctx, struct machine *machine);
void outgoing_release(struct outgoing *outgoing);

/*
 * Sends the guest to where REQUEST says, and adds to REPLY how it went. Returns 0, or what
 * impost_migration_send() and endpoint_connect() say with a text on the context. After
 * -IMPOST_EUNSETTLED outgoing_settle() is due.
 */
int outgoing_send(struct outgoing *outgoing, const struct request *request,
		  struct json_object *reply);

/* WHAT is "keep" or "leave". Returns 0 or a negative error with its text on the context. */
int outgoing_settle(struct outgoing *outgoing, const char *what);

/* Adds the reasons of the last refusal, if there are any, to REPLY. */
void outgoing_add_reasons(const struct outgoing *outgoing, struct json_object *reply);

#endif
