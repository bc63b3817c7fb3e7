/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of a migration to the other side: made to an address, or taken at one. */
#ifndef TOOLS_CONNECTION_H
#define TOOLS_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include <impost/migrate.h>

#include "address.h"
#include "socket.h"
#include "tls.h"

struct connection;

/* One side's end of things: where the other is, or comes to, and the connections there are. */
struct endpoint {
	struct impost_context *ctx;
	struct address address;
	struct tls_credentials *credentials; /* tls: */
	int stop; /* the caller's eventfd: readable when nothing is to be waited for any more */
	uint32_t silence_ms;		/* how long the other side may say nothing */
	int listener;			/* -1: this side connects, or has a descriptor */
	struct socket_name name;	/* unix: of the listener */
	struct connection *connections; /* newest first */
};

/*
 * Reads TEXT, and what is needed for it, and listens if that is the USE; then the port that was
 * left to the system is known. STOP is an eventfd that ends all waiting when it can be read.
 * Returns 0 or a negative error with its text on CTX, and nothing is to be closed then.
 */
int endpoint_open(struct impost_context *ctx, const char *text, enum address_use use, int stop,
		  struct endpoint *endpoint);

/* Closes all connections, and removes the socket. One that was not opened, of zeros, is fine. */
void endpoint_close(struct endpoint *endpoint);

/* Closes the connections alone: who listens still does. When none is used any more. */
void endpoint_drop(struct endpoint *endpoint);

/*
 * Another connection to the other side: connects, or accepts, and shakes hands where that is TLS.
 * *RET_CHANNEL is the endpoint's and lives as long. A handshake may take silence_ms of it. Returns
 * 0 or a negative error with its text on CTX: -ETIMEDOUT; -ECANCELED: for STOP; -ENOTSUP: fd: is
 * one connection; as tls_open(). One thread at a time.
 */
int endpoint_connect(struct endpoint *endpoint, uint32_t timeout_ms,
		     struct impost_migration_channel *ret_channel);

/* Whether there can be further connections. */
static inline bool endpoint_has_more(const struct endpoint *endpoint)
{
	return endpoint->address.kind != ADDRESS_FD;
}

/* What TLS has to say about the end of a connection; false: nothing. When none is used any more. */
bool endpoint_failure(const struct endpoint *endpoint, char *text, size_t size);

#endif
