/* SPDX-License-Identifier: Apache-2.0 */
/* Looking up a host's name, with a limit: the resolver's own may be minutes. */
#ifndef TOOLS_LOOKUP_H
#define TOOLS_LOOKUP_H

#include <netdb.h>
#include <stdint.h>

#include <impost/context.h>

/* What is looked up, and for how long. */
struct lookup {
	const char *host;
	unsigned int port;
	int flags;	/* of getaddrinfo(3), besides */
	int stop;	/* a descriptor that ends the wait when it can be read; -1: none */
	uint64_t until; /* ready_deadline() */
};

/*
 * The addresses of stream sockets there; freed with freeaddrinfo(3). A number is not waited for.
 * Returns 0, or a negative error with its text on CTX: -ETIMEDOUT; -ECANCELED, -EHOSTUNREACH: there
 * is no such host; -ENOMEM; or another errno.
 */
int lookup(struct impost_context *ctx, const struct lookup *what, struct addrinfo **ret_list);

#endif
