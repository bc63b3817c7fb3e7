/* SPDX-License-Identifier: Apache-2.0 */
/* What the builders share: callers' structs in and out, checks, checksums. */
#include "structure.h"

#include <string.h>

/* More than any struct of ours will ever have: such a size was never set. */
#define SIZE_MOST 4096u

/* Public structs begin with their size. */
static uint32_t size_of(const void *structure)
{
	uint32_t size;

	memcpy(&size, structure, sizeof(size));
	return size;
}

int structure_check_size(struct impost_context *ctx, const char *name, const void *structure,
			 size_t least)
{
	if (!structure)
		return impost_error_set(ctx, -EINVAL, "struct %s: the pointer to it is NULL", name);
	if (size_of(structure) < least || size_of(structure) > SIZE_MOST)
		return impost_error_set(ctx, -EINVAL, "struct %s has size %u: set it to its sizeof",
					name, size_of(structure));
	return 0;
}

int structure_check_known(struct impost_context *ctx, const char *name, const void *structure,
			  size_t room, size_t least)
{
	int err = structure_check_size(ctx, name, structure, least);
	const uint8_t *bytes = structure;

	if (err < 0)
		return err;
	for (size_t at = room; at < size_of(structure); at++)
		if (bytes[at])
			return impost_error_set(ctx, -E2BIG,
						"struct %s asks for something that this version of "
						"the library does not know: its byte %zu is not 0, "
						"and %zu are known",
						name, at, room);
	return 0;
}

int structure_take(struct impost_context *ctx, const char *name, void *dst, size_t room,
		   const void *src, size_t least)
{
	int err = structure_check_known(ctx, name, src, room, least);

	if (err < 0)
		return err;
	memset(dst, 0, room);
	memcpy(dst, src, size_of(src) < room ? size_of(src) : room);
	return 0;
}

void structure_give(void *dst, const void *src, size_t bytes)
{
	uint32_t size = size_of(dst);

	memset(dst, 0, size);
	memcpy(dst, src, size < bytes ? size : bytes);
	memcpy(dst, &size, sizeof(size));
}

int structure_check_reserved(struct impost_context *ctx, const char *name, uint32_t reserved)
{
	if (reserved)
		return impost_error_set(ctx, -EINVAL, "struct %s: reserved is %u: it must be 0",
					name, reserved);
	return 0;
}

uint8_t structure_checksum(const void *data, size_t bytes)
{
	const uint8_t *at = data;
	unsigned int sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum += at[i];
	return (uint8_t)-sum;
}

int structure_check_text(struct impost_context *ctx, const char *name, const char *text, size_t max)
{
	size_t bytes = strlen(text);

	if (bytes > max)
		return impost_error_set(ctx, -EINVAL, "%s has %zu characters, it may have %zu",
					name, bytes, max);
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < ' ' || c > '~')
			return impost_error_set(ctx, -EINVAL,
						"%s: character %zu is 0x%02x, not printable ASCII",
						name, i, c);
	}
	return 0;
}

int structure_check_counted(struct impost_context *ctx, const char *table, const char *what,
			    uint32_t count, const void *at)
{
	if (count && !at)
		return impost_error_set(ctx, -EINVAL, "%s: %u %s, but the pointer is NULL", table,
					count, what);
	return 0;
}

int structure_check_room(struct impost_context *ctx, const char *table, size_t bytes,
			 const void *buf, size_t capacity)
{
	if (buf && bytes > capacity)
		return impost_error_set(ctx, -ENOSPC,
					"%s: it needs %zu bytes, there is room for %zu", table,
					bytes, capacity);
	return 0;
}
