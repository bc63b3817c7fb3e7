// SPDX-License-Identifier: Apache-2.0
/* Addresses of a migration, read and written. */
#include "address.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PORT_MOST 65535u
/* Standard input, output and error are not for it. */
#define FD_LEAST 3u
#define FD_MOST	 1048575u

/* A number of decimal digits alone, at most MOST. */
static bool read_number(const char *text, unsigned int most, unsigned int *ret_number)
{
	unsigned int number = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		number = number * 10 + (unsigned int)(*text - '0');
		if (number > most)
			return false;
	}
	*ret_number = number;
	return true;
}

static int parse_unix(struct impost_context *ctx, const char *text, enum address_use use,
		      struct address *address)
{
	size_t len = strlen(text);

	(void)use;
	if (!len || len >= ADDRESS_PATH_SIZE)
		return impost_error_set(ctx, -ENAMETOOLONG,
					"unix:PATH: a socket's path has 1 to %u bytes, not %zu",
					ADDRESS_PATH_SIZE - 1, len);
	memcpy(address->path, text, len + 1);
	return 0;
}

/* Where HOST ends, and the text of the port; NULL: there is none. */
static const char *find_port(const char *text, const char **ret_host, size_t *ret_len)
{
	const char *end;

	if (text[0] == '[') {
		end = strchr(text, ']');
		*ret_host = text + 1;
		*ret_len = end ? (size_t)(end - text - 1) : 0;
		return end && end[1] == ':' ? end + 2 : NULL;
	}
	end = strrchr(text, ':');
	*ret_host = text;
	*ret_len = end ? (size_t)(end - text) : 0;
	return end ? end + 1 : NULL;
}

static int parse_host(struct impost_context *ctx, const char *text, enum address_use use,
		      struct address *address)
{
	const char *host, *port;
	size_t len = 0;

	port = find_port(text, &host, &len);
	if (!port || !len)
		return impost_error_set(ctx, -EINVAL,
					"'%.128s': give HOST:PORT, such as example.org:4444 or "
					"[::1]:4444",
					text);
	if (host == text && memchr(host, ':', len))
		return impost_error_set(ctx, -EINVAL,
					"'%.128s': an IPv6 number goes in brackets: [::1]:4444",
					text);
	if (host != text && !memchr(host, ':', len))
		return impost_error_set(ctx, -EINVAL,
					"'%.128s': in brackets there is an IPv6 number: [::1]:4444",
					text);
	if (len >= ADDRESS_HOST_SIZE)
		return impost_error_set(ctx, -ENAMETOOLONG,
					"a host's name has %u bytes at the most, not %zu",
					ADDRESS_HOST_SIZE - 1, len);
	if (!read_number(port, PORT_MOST, &address->port) ||
	    (!address->port && use == ADDRESS_CONNECTS))
		return impost_error_set(ctx, -EINVAL, "'%.128s': a port is a number from %u to %u",
					port, use == ADDRESS_CONNECTS, PORT_MOST);
	memcpy(address->host, host, len);
	address->host[len] = '\0';
	return 0;
}

static int parse_fd(struct impost_context *ctx, const char *text, enum address_use use,
		    struct address *address)
{
	unsigned int number;

	(void)use;
	if (!read_number(text, FD_MOST, &number) || number < FD_LEAST)
		return impost_error_set(ctx, -EINVAL,
					"fd:%.32s: give the number of a connected socket, %u or "
					"more, that the run was started with",
					text, FD_LEAST);
	address->fd = (int)number;
	return 0;
}

static const struct kind {
	const char *prefix;
	int (*parse)(struct impost_context *ctx, const char *text, enum address_use use,
		     struct address *address);
} kinds[] = {
	[ADDRESS_UNIX] = {"unix:", parse_unix},
	[ADDRESS_TCP] = {"tcp:", parse_host},
	[ADDRESS_TLS] = {"tls:", parse_host},
	[ADDRESS_FD] = {"fd:", parse_fd},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

int address_parse(struct impost_context *ctx, const char *text, enum address_use use,
		  struct address *ret_address)
{
	struct address address = {.fd = -1};
	int err;

	for (size_t i = 0; i < KINDS; i++) {
		size_t len = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, len) != 0)
			continue;
		address.kind = (enum address_kind)i;
		err = kinds[i].parse(ctx, text + len, use, &address);
		if (err == 0)
			*ret_address = address;
		return err;
	}
	return impost_error_set(ctx, -EINVAL,
				"'%.128s' is no address: give unix:PATH, tcp:HOST:PORT, "
				"tls:HOST:PORT or fd:N",
				text);
}

void address_format(const struct address *address, char text[ADDRESS_TEXT_SIZE])
{
	const char *prefix = kinds[address->kind].prefix;
	bool has_colon = strchr(address->host, ':') != NULL;

	if (address->kind == ADDRESS_UNIX)
		snprintf(text, ADDRESS_TEXT_SIZE, "%s%s", prefix, address->path);
	else if (address->kind == ADDRESS_FD)
		snprintf(text, ADDRESS_TEXT_SIZE, "%s%d", prefix, address->fd);
	else
		snprintf(text, ADDRESS_TEXT_SIZE, "%s%s%s%s:%u", prefix, has_colon ? "[" : "",
			 address->host, has_colon ? "]" : "", address->port);
}
