/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers for strings and ABI structs. */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

char *text_format(const char *fmt, ...)
{
	char *text;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	return len < 0 ? NULL : text;
}

/* Bytes of the UTF-8 sequence that BYTE begins; 1 for what begins none. */
static size_t sequence_length(unsigned char byte)
{
	return byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
}

void text_clean(char *text)
{
	size_t len = strlen(text), tail = len;

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
	while (tail > 0 && len - tail < 3 && ((unsigned char)text[tail - 1] & 0xc0) == 0x80)
		tail--;
	if (tail > 0 && tail - 1 + sequence_length((unsigned char)text[tail - 1]) > len)
		text[tail - 1] = '\0';
}

char *text_join(const char *base, const char *text)
{
	if (text[0] == '/')
		return strdup(text);
	return text_format("%s/%s", strcmp(base, "/") == 0 ? "" : base, text);
}

void abi_copy(void *dst, size_t room, const void *src, uint32_t size)
{
	memset(dst, 0, room);
	size &= ~UINT32_C(7);
	memcpy(dst, src, size < room ? size : room);
}

static uint32_t size_of(const void *structure)
{
	uint32_t size;

	memcpy(&size, structure, sizeof(size));
	return size;
}

int abi_check(struct impost_context *ctx, const char *name, const void *structure, size_t least)
{
	uint32_t size = size_of(structure);

	if (size >= least)
		return 0;
	return impost_error_set(ctx, -EINVAL, "struct %s has size %u: set it to its sizeof", name,
				size);
}

int abi_take(struct impost_context *ctx, const char *name, void *dst, size_t room, const void *src,
	     size_t least)
{
	uint32_t size = (uint32_t)room;
	int err = abi_check(ctx, name, src, least);

	if (err)
		return err;
	abi_copy(dst, room, src, size_of(src));
	memcpy(dst, &size, sizeof(size));
	return 0;
}

void abi_give(void *dst, const void *src, size_t room)
{
	uint32_t size = size_of(dst);

	memset(dst, 0, size);
	memcpy(dst, src, size < room ? size : room);
	memcpy(dst, &size, sizeof(size));
}
