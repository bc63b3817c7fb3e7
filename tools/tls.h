/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS over a connected socket, as a migration's channel: `tls:` addresses. Version 1.3 alone. Both
 * sides show a certificate that comes from `[migration] tls_ca`, or have a key of `tls_psk`.
 */
#ifndef TOOLS_TLS_H
#define TOOLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/context.h>

struct tls_credentials;
struct tls;

/* Reads what `[migration]` names. Returns 0 or a negative error with its text on CTX. Freed with
 * _free(), for which NULL is fine, after the last connection is. */
int tls_credentials_read(struct impost_context *ctx, struct tls_credentials **ret_credentials);
void tls_credentials_free(struct tls_credentials *credentials);

/* Who is who in a handshake. */
struct tls_peer {
	int fd; /* connected, and nonblocking; stays the caller's */
	const char
		*host; /* the other side's name, which its certificate must have; NULL: we serve */
	int stop;      /* a descriptor that ends the wait when it can be read; -1: none */
	uint32_t timeout_ms;
};

/*
 * Shakes hands. Returns 0, or a negative error with its text on CTX: -ETIMEDOUT, -ECANCELED,
 * -EACCES: the other side is not who it should be, or could not say that it is; -EPROTO.
 */
int tls_open(struct impost_context *ctx, const struct tls_credentials *credentials,
	     const struct tls_peer *peer, struct tls **ret_tls);

/* Says goodbye, if that goes at once. The socket stays open. NULL is fine. */
void tls_close(struct tls *tls);

/*
 * A channel's functions (migrate.h); OPAQUE is the struct tls. One thread may be reading and
 * another writing. After a write that wrote less, or -EAGAIN, the next one is to go on where it
 * ended.
 */
int64_t tls_read(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms);
int64_t tls_write(void *opaque, const void *buf, uint64_t bytes, uint32_t timeout_ms);

/* What ended the connection, in words; false: nothing that TLS knows of. When no other thread uses
 * it any more. */
bool tls_failure(const struct tls *tls, char *text, size_t size);

#endif
