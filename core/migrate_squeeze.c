/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory, compressed. */
#include "migrate_squeeze.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include <impost/memory.h>

#include "migrate_link.h"
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

/* --- the other way --- */

/* A frame's bytes at the most: what cannot be compressed grows a little. */
#define FRAME_MOST ZSTD_COMPRESSBOUND(WIRE_ZSTD_MOST)

struct unsqueezer {
	ZSTD_DCtx *zstd;
	uint8_t frame[FRAME_MOST];
	uint8_t contents[WIRE_ZSTD_MOST];
};

static int create(struct unsqueezer **unsqueezer, struct impost_context *ctx)
{
	struct unsqueezer *made = *unsqueezer ? *unsqueezer : calloc(1, sizeof(*made));

	if (made && !made->zstd)
		made->zstd = ZSTD_createDCtx();
	*unsqueezer = made;
	return made && made->zstd
		       ? 0
		       : impost_error_set(ctx, -ENOMEM, "no memory to receive memory with");
}

void unsqueezer_free(struct unsqueezer *unsqueezer)
{
	if (unsqueezer)
		ZSTD_freeDCtx(unsqueezer->zstd);
	free(unsqueezer);
}

static int wrong_frame(const struct link *link, uint64_t gpa, uint64_t bytes, const char *wrong)
{
	return impost_error_set(link->ctx, -EPROTO,
				"the compressed memory at %#llx, %llu bytes: %s",
				(unsigned long long)gpa, (unsigned long long)bytes, wrong);
}

int unsqueezer_read(struct unsqueezer **unsqueezer, struct link *link, uint64_t gpa, uint64_t bytes,
		    const uint8_t **ret_contents)
{
	struct unsqueezer *of;
	uint64_t len;
	size_t got;
	int err = link_read(link, &len, sizeof(len));

	if (!err && len > FRAME_MOST)
		err = wrong_frame(link, gpa, bytes, "its frame is longer than any can be");
	if (!err)
		err = create(unsqueezer, link->ctx);
	of = *unsqueezer;
	if (!err)
		err = link_read(link, of->frame, len);
	if (err)
		return err;
	if (ZSTD_getFrameContentSize(of->frame, len) != bytes)
		return wrong_frame(link, gpa, bytes, "its frame is of another length, or is none");
	got = ZSTD_decompressDCtx(of->zstd, of->contents, bytes, of->frame, len);
	if (ZSTD_isError(got))
		return wrong_frame(link, gpa, bytes, ZSTD_getErrorName(got));
	if (got != bytes)
		return wrong_frame(link, gpa, bytes, "its frame is too short");
	*ret_contents = of->contents;
	return 0;
}
