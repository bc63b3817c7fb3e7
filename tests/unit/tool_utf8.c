// SPDX-License-Identifier: Apache-2.0
/* What the tool takes for UTF-8 is what RFC 3629 does: every character, and none of the rest. */
#include <string.h>

#include <criterion/criterion.h>

#include "random.h"
#include "utf8.h"

/* CODE as UTF-8, written from the definition; returns its bytes. */
static size_t encode(unsigned int code, char text[5])
{
	static const unsigned int firsts[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	memset(text, 0, 5);
	for (size_t i = length; --i > 0; code >>= 6)
		text[i] = (char)(0x80 | (code & 0x3f));
	text[0] = (char)(firsts[length] | code);
	return length;
}

Test(utf8, every_character_and_no_surrogate)
{
	char text[5];

	for (unsigned int code = 1; code <= 0x1fffff; code++) {
		size_t length = encode(code, text);
		bool is = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);

		cr_assert_eq(utf8_length(text), is ? length : 0, "U+%04X", code);
		cr_assert_eq(utf8_is_valid(text), is, "U+%04X", code);
		if (is)
			cr_assert_eq(utf8_is_control(text, length),
				     code < 0x20 || (code >= 0x7f && code < 0xa0), "U+%04X", code);
	}
}

/* Longer than need be: 0xc0, 0xe0, 0xf0 with zeros above. */
Test(utf8, shortest_form_alone)
{
	for (unsigned int code = 0; code < 0x10000; code++) {
		const char two[] = {(char)(0xc0 | code >> 6), (char)(0x80 | (code & 0x3f)), 0};
		const char three[] = {(char)0xe0, (char)(0x80 | code >> 6),
				      (char)(0x80 | (code & 0x3f)), 0};
		const char four[] = {(char)0xf0, (char)(0x80 | code >> 12),
				     (char)(0x80 | (code >> 6 & 0x3f)),
				     (char)(0x80 | (code & 0x3f)), 0};

		if (code < 0x80)
			cr_assert_eq(utf8_length(two), 0, "%x", code);
		if (code < 0x800)
			cr_assert_eq(utf8_length(three), 0, "%x", code);
		cr_assert_eq(utf8_length(four), 0, "%x", code);
	}
}

/* Of any bytes: what is cut off is whole characters, as many as go in, and nothing is read behind
 * the end. */
Test(utf8, cut_between_characters)
{
	static const char alphabet[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff";
	uint64_t state = 0x0075;

	for (int i = 0; i < 20000; i++) {
		char text[16] = "", part[16] = "";
		size_t len = random_below(&state, sizeof(text)), most = random_below(&state, 20);
		size_t cut;

		for (size_t j = 0; j < len; j++)
			text[j] = alphabet[random_below(&state, sizeof(alphabet) - 1)];
		cut = utf8_cut(text, most);
		cr_assert(cut <= most && cut <= len);
		memcpy(part, text, cut);
		cr_assert(utf8_is_valid(part));
		if (cut < len && utf8_length(text + cut))
			cr_assert_gt(cut + utf8_length(text + cut), most);
	}
}
