// SPDX-License-Identifier: Apache-2.0
/* Fuzz target for the addresses of a migration: any text is one, which is written as it is read, or
 * is refused with a sentence. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct impost_context *ctx;

static void check(const struct address *address, enum address_use use)
{
	char text[ADDRESS_TEXT_SIZE], again[ADDRESS_TEXT_SIZE];
	struct address other;

	MODEL_CHECK(address->port <= 65535);
	MODEL_CHECK((address->kind == ADDRESS_FD) == (address->fd >= 3));
	MODEL_CHECK((address->kind == ADDRESS_UNIX) == (*address->path != '\0'));
	address_format(address, text);
	MODEL_CHECK(address_parse(ctx, text, use, &other) == 0);
	address_format(&other, again);
	MODEL_CHECK(strcmp(text, again) == 0);
	MODEL_CHECK(address->kind == other.kind && address->fd == other.fd &&
		    address->port == other.port && !strcmp(address->host, other.host) &&
		    !strcmp(address->path, other.path));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct address address = {.fd = -7};
	char *text = malloc(size + 1);

	MODEL_CHECK(text && (ctx || impost_context_open(NULL, NULL, &ctx) == 0));
	memcpy(text, data, size);
	text[size] = '\0';
	for (int use = 0; use < 2; use++) {
		enum address_use way = use ? ADDRESS_LISTENS : ADDRESS_CONNECTS;
		int err = address_parse(ctx, text, way, &address);

		if (err == 0)
			check(&address, way);
		else
			MODEL_CHECK((err == -EINVAL || err == -ENAMETOOLONG) && *impost_error(ctx));
	}
	free(text);
	return 0;
}
