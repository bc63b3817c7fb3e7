/* SPDX-License-Identifier: Apache-2.0 */
/* What the source hears, on whichever connection. Any thread of it. */
#ifndef CORE_MIGRATE_SEND_H
#define CORE_MIGRATE_SEND_H

#include "migrate.h"

/* Requests on a connection that may be without an answer: docs/migration-format.md. */
#define UNANSWERED_MOST 2u

/* Waits for the answer to COMMAND on LINK, which is Ok. Keeps the peer's text: -EREMOTEIO. */
int source_read_answer(struct impost_migration *migration, struct link *link, uint16_t command);

/* TEXT, which may be NULL, is why the peer has refused. */
void source_keep_refusal(struct impost_migration *migration, char *text);

/*
 * COMMAND could not be said on LINK: ERR, whose text the calling thread has. Where the peer has
 * said why before it ended the connection, that is what failed: -EREMOTEIO; else ERR, with its
 * text.
 */
int source_hear(struct impost_migration *migration, struct link *link, uint16_t command, int err);

/* The same of a migration that ended on one of its connections: the peer may have said why on
 * another. Nobody else reads there any more. */
int source_hear_elsewhere(struct impost_migration *migration, int err);

#endif
