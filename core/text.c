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

/* Bytes of the UTF-8 sequence that BYTE announces; 0: none begins so (Unicode, table 3-7). */
static size_t announced(unsigned char byte)
{
	if (byte < 0x80)
		return 1;
	if (byte < 0xc2 || byte > 0xf4)
		return 0;
	return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/* Whether the complete sequence at AT is no character: too long, a surrogate, or beyond the last.
 */
static bool is_malformed(const unsigned char *at)
{
	return (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
	       (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f);
}

/* Whether it is one that there must not be: none, or a control character: C0, DEL, and C1, which
 * terminals obey too. */
static bool is_bad(const unsigned char *at)
{
	return at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] < 0xa0) || is_malformed(at);
}

bool text_is_utf8(const void *text, size_t len)
{
	const unsigned char *at = text, *end = at + len;
	size_t want, have;

	for (; at < end; at += want) {
		want = announced(*at);
		if (!want || want > (size_t)(end - at))
			return false;
		for (have = 1; have < want; have++)
			if ((at[have] & 0xc0) != 0x80)
				return false;
		if (want > 1 && is_malformed(at))
			return false;
	}
	return true;
}

void text_clean(char *text)
{
	unsigned char *at = (unsigned char *)text;
	size_t want, have;

	for (; *at; at += have) {
		want = announced(*at);
		have = 1;
		while (have < want && (at[have] & 0xc0) == 0x80)
			have++;
		if (have < want && !at[have])
			*at = '\0';
		else if (have != want || is_bad(at))
			memset(at, '?', have);
		if (!*at)
			return;
	}
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
	uint32_t size = structure ? size_of(structure) : 0;

	if (!structure)
		return impost_error_set(ctx, -EINVAL, "struct %s: the pointer to it is NULL", name);
	if (size >= least && size <= ABI_MOST)
		return 0;
	return impost_error_set(ctx, -EINVAL, "struct %s has size %u: set it to its sizeof", name,
				size);
}

/* What SRC has beyond ROOM bytes is of a later minor. Zeroed, it asks for nothing. */
static int check_beyond(struct impost_context *ctx, const char *name, const void *src, size_t room)
{
	const uint8_t *bytes = src;

	for (uint32_t at = (uint32_t)room; at < size_of(src); at++)
		if (bytes[at])
			return impost_error_set(ctx, -E2BIG,
						"struct %s asks for something that this version of "
						"the library does not know: its byte %u is not 0, "
						"and %zu are known",
						name, at, room);
	return 0;
}

int abi_take(struct impost_context *ctx, const char *name, void *dst, size_t room, const void *src,
	     size_t least)
{
	uint32_t size = (uint32_t)room;
	int err = abi_check(ctx, name, src, least);

	if (!err)
		err = check_beyond(ctx, name, src, room);
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
