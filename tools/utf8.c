// SPDX-License-Identifier: Apache-2.0
/* What is UTF-8 and what is not. */
#include "utf8.h"

#include <stdint.h>
#include <string.h>

/* The well-formed sequences by their first byte (RFC 3629, 4): of those behind it the second alone
 * is bound to more than 0x80 to 0xbf. */
static const struct {
	uint8_t first, last;
	uint8_t length;
	uint8_t low, high; /* of the second byte */
} sequences[] = {
	{0x00, 0x7f, 1, 0, 0},	     {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf},
	{0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf},
	{0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f},
};

size_t utf8_length(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t i = 0, length;

	while (i < sizeof(sequences) / sizeof(sequences[0]) && *at > sequences[i].last)
		i++;
	if (i == sizeof(sequences) / sizeof(sequences[0]) || *at < sequences[i].first)
		return 0;
	length = sequences[i].length;
	if (length > 1 && (at[1] < sequences[i].low || at[1] > sequences[i].high))
		return 0;
	for (size_t j = 2; j < length; j++)
		if ((at[j] & 0xc0u) != 0x80u)
			return 0;
	return length;
}

bool utf8_is_valid(const char *text)
{
	return utf8_cut(text, SIZE_MAX) == strlen(text);
}

bool utf8_is_control(const char *text, size_t length)
{
	const unsigned char *at = (const unsigned char *)text;

	return length == 1 ? *at < 0x20 || *at == 0x7f : *at == 0xc2 && at[1] < 0xa0;
}

size_t utf8_cut(const char *text, size_t most)
{
	size_t at = 0, length;

	while (text[at] && (length = utf8_length(text + at)) != 0 && length <= most - at)
		at += length;
	return at;
}
