/* SPDX-License-Identifier: Apache-2.0 */
/* Where the other side of a migration is, as the user writes it: unix:, tcp:, tls: or fd:. */
#ifndef TOOLS_ADDRESS_H
#define TOOLS_ADDRESS_H

#include <impost/context.h>

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP, ADDRESS_TLS, ADDRESS_FD };

/* Bytes, with a NUL behind: of sun_path (unix(7)), and of a host's name (RFC 1035, 2.3.4). */
#define ADDRESS_PATH_SIZE 108u
#define ADDRESS_HOST_SIZE 254u
/* Of what address_format() writes. */
#define ADDRESS_TEXT_SIZE 280u

struct address {
	enum address_kind kind;
	char path[ADDRESS_PATH_SIZE]; /* unix */
	char host[ADDRESS_HOST_SIZE]; /* tcp, tls: a name, or a number without brackets */
	unsigned int port;	      /* tcp, tls; 0: whichever is free */
	int fd;			      /* fd */
};

/* What an address is for. Only who listens may leave the port to the system. */
enum address_use { ADDRESS_CONNECTS, ADDRESS_LISTENS };

/*
 * Reads "unix:PATH", "tcp:HOST:PORT", "tls:HOST:PORT" (an IPv6 number in brackets) or "fd:N".
 * Returns 0, or -EINVAL or -ENAMETOOLONG with a text on CTX that says what is wrong.
 */
int address_parse(struct impost_context *ctx, const char *text, enum address_use use,
		  struct address *ret_address);

/* The address as it is written. */
void address_format(const struct address *address, char text[ADDRESS_TEXT_SIZE]);

#endif
