/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of golden files: that it takes what it should, and that each wrong byte is noticed. */
#include "../golden/golden.h"

static const uint8_t self[] = {0x00, 0x7f, 0xff, 0xaa, 0xaa, 0xaa, 0xaa, 'a', '#', 'b', ' ',
			       0x34, 0x12, 9,	 0,    0,    0,	   1,	 0,   0,   0,	0,
			       0,    0,	   0,	 1,    0,    0,	   0,	 0,   0,   0,	0};

Test(golden, each_notation)
{
	golden_compare("self.golden", self, sizeof(self));
}

/* Judges the line TEXT against BYTES without failing; returns how many differ. */
static unsigned int differing(const char *text, const void *bytes, size_t count)
{
	static struct golden golden;

	golden = (struct golden){.file = "text", .bytes = bytes, .count = count};
	golden_line(&golden, text);
	cr_assert_eq(golden.differ == 0, golden.used == 0);
	return golden.differ;
}

Test(golden, each_wrong_byte_is_told)
{
	const char *line = "0: 00 7f ff aa*4 # rule";

	cr_assert_eq(differing(line, self, 7), 0u);
	for (size_t i = 0; i < 7; i++) {
		uint8_t copy[7];

		memcpy(copy, self, sizeof(copy));
		copy[i] ^= 1;
		cr_assert_eq(differing(line, copy, 7), 1u, "byte %zu", i);
		cr_assert_eq(differing(line, self, i), 7u - (unsigned int)i, "cut at %zu", i);
	}
}

Test(golden, what_are_no_bytes)
{
	static const char *const wrong[] = {"0",      "zz",    "000",		"u8:1",
					    "u32:",   "u12:3", "00*0",		"00*x",
					    "\"open", "00x",   "00*0x100000000"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint8_t buf[64];
		const char *text = wrong[i];

		cr_assert_lt(golden_token(&text, buf, sizeof(buf)), 0, "%s", wrong[i]);
	}
}
