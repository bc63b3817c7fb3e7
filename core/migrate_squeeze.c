/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory, compressed. */
#include "migrate_squeeze.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include <impost/memory.h>

#include "migrate_wire.h"

/* The fastest of the levels that have names: the connection is to be kept busy. */
#define LEVEL 1

struct squeezer {
	ZSTD_CCtx *zstd;
	uint8_t *copy; /* of what is to be compressed next */
	uint8_t *out;
	uint64_t used; /* of OUT */
};

int squeezer_create(struct impost_context *ctx, uint64_t room, struct squeezer **ret_squeezer)
{
	struct squeezer *squeezer = calloc(1, sizeof(*squeezer));

	if (squeezer) {
		squeezer->zstd = ZSTD_createCCtx();
		squeezer->copy = malloc(WIRE_ZSTD_MOST);
		squeezer->out = malloc(room); /* what is not less than it was is not kept */
	}
	if (!squeezer || !squeezer->zstd || !squeezer->copy || !squeezer->out) {
		squeezer_free(squeezer);
		return impost_error_set(ctx, -ENOMEM, "no memory to compress in");
	}
	*ret_squeezer = squeezer;
	return 0;
}

void squeezer_free(struct squeezer *squeezer)
{
	if (!squeezer)
		return;
	ZSTD_freeCCtx(squeezer->zstd);
	free(squeezer->copy);
	free(squeezer->out);
	free(squeezer);
}

int squeezer_add(struct squeezer *squeezer, struct impost_memory *memory, uint64_t gpa,
		 uint64_t bytes)
{
	uint8_t *at = squeezer->out + squeezer->used;
	uint64_t length;
	size_t n;
	int err = impost_memory_read(memory, gpa, squeezer->copy, bytes);

	if (err)
		return err;
	n = ZSTD_compressCCtx(squeezer->zstd, at + sizeof(length), bytes - sizeof(length) - 1,
			      squeezer->copy, bytes, LEVEL);
	if (ZSTD_isError(n)) /* there is no room for it */
		return 0;
	length = n;
	memcpy(at, &length, sizeof(length));
	squeezer->used += sizeof(length) + length;
	return 1;
}

uint64_t squeezer_take(struct squeezer *squeezer, const void **ret_data)
{
	uint64_t used = squeezer->used;

	squeezer->used = 0;
	*ret_data = squeezer->out;
	return used;
}
