/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: building it, against a model that divides it as Linux does, and writing it. */
#include "x86_64.h"

/* --- building --- */

/* A line in BUF for a kernel that takes MAX bytes. */
static struct impost_x86_cmdline cmdline_make(char *buf, size_t bytes, uint32_t max)
{
	struct impost_x86_kernel kernel = {.cmdline_max = max};
	struct impost_x86_cmdline cmdline = {.size = sizeof(cmdline)};

	cr_assert_eq(impost_x86_cmdline_init(&cmdline, &kernel, buf, bytes), 0);
	cr_assert_eq(cmdline.length, 0u);
	cr_assert_str_empty(cmdline.text);
	return cmdline;
}

Test(cmdline, the_smaller_limit_counts)
{
	static const struct {
		uint32_t kernel;
		size_t buf;
		uint32_t capacity;
	} limits[] = {
		{2047, 4096, 2048},
		{2047, 100, 100},
		{0, 100, 1},
		{2047, 1, 1},
		{UINT32_MAX, 1 << 17, IMPOST_X86_CMDLINE_MAX},
	};
	static char buf[1 << 17];
	struct impost_x86_cmdline cmdline = {.size = sizeof(cmdline)};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		cr_assert_eq(cmdline_make(buf, limits[i].buf, limits[i].kernel).capacity,
			     limits[i].capacity);
	cr_assert_eq(impost_x86_cmdline_init(&cmdline, NULL, buf, sizeof(buf)), 0);
	cr_assert_eq(cmdline.capacity, 2048u);
	cr_assert_eq(impost_x86_cmdline_init(&cmdline, NULL, buf, 0), -EINVAL);
	cr_assert_eq(impost_x86_cmdline_init(&cmdline, NULL, NULL, 10), -EINVAL);
	cmdline.size--;
	cr_assert_eq(impost_x86_cmdline_init(&cmdline, NULL, buf, sizeof(buf)), -EINVAL);
}

Test(cmdline, parameters_go_before_what_is_for_init)
{
	static const struct {
		const char *words, *key, *value, *want;
	} lines[] = {
		{"", "quiet", NULL, "quiet"},
		{"a", "b", "c", "a b=c"},
		{"a ", "b", "", "a b="},
		{"a -- x", "b", "c", "a b=c -- x"},
		{"-- x", "b", NULL, "b -- x"},
		{"a --", "b", NULL, "a b --"},
		{"--", "b", "c d", "b=\"c d\" --"},
		{"a --b", "c", NULL, "a --b c"},
		{"a=-- b", "c", NULL, "a=-- b c"},
		{"a=\"x -- y\"", "c", NULL, "a=\"x -- y\" c"},
		{"a \"--\" x", "c", NULL, "a c \"--\" x"},
		{"a", "b", "c=d", "a b=c=d"},
		{"a", "b",
		 "c\xa0"
		 "d",
		 "a b=\"c\xa0"
		 "d\""},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char buf[64];
		struct impost_x86_cmdline cmdline = cmdline_make(buf, sizeof(buf), 2047);

		cr_assert_eq(impost_x86_cmdline_append(NULL, &cmdline, lines[i].words), 0);
		cr_assert_eq(impost_x86_cmdline_set(NULL, &cmdline, lines[i].key, lines[i].value),
			     0);
		cr_assert_str_eq(cmdline.text, lines[i].want);
		cr_assert_eq(cmdline.length, strlen(lines[i].want));
	}
}

Test(cmdline, words_are_kept_as_they_were_written)
{
	char buf[64];
	struct impost_x86_cmdline cmdline = cmdline_make(buf, sizeof(buf), 2047);

	cr_assert_eq(impost_x86_cmdline_append(NULL, &cmdline, ""), 0);
	cr_assert_eq(impost_x86_cmdline_append(NULL, &cmdline, "quiet  x=\"a b\""), 0);
	cr_assert_eq(impost_x86_cmdline_append(NULL, &cmdline, ""), 0);
	cr_assert_eq(impost_x86_cmdline_append(NULL, &cmdline, "root=/dev/vda -- -s"), 0);
	cr_assert_str_eq(cmdline.text, "quiet  x=\"a b\" root=/dev/vda -- -s");
}

/* What must be refused, with what; an append where KEY is NULL. */
static const struct {
	const char *key, *value;
	int err;
	const char *words;
} bad[] = {
	{NULL, "a\tb", EINVAL, "control character"},
	{NULL, "a\n", EINVAL, "control character"},
	{NULL, "\x7f", EINVAL, "control character"},
	{NULL, "a=\"b c", EINVAL, "not closed"},
	{NULL, "1234567890123", E2BIG, "would have 21 bytes: there is room for 20"},
	{"", "x", EINVAL, "an empty name"},
	{"a b", "x", EINVAL, "in its name"},
	{"a=b", NULL, EINVAL, "in its name"},
	{"a\"b", NULL, EINVAL, "in its name"},
	{"a\xa0", NULL, EINVAL, "in its name"},
	{"a\nb", NULL, EINVAL, "in its name"},
	{"--", NULL, EINVAL, "ends the kernel's parameters"},
	{"a", "b\"c", EINVAL, "in its value"},
	{"a", "b\nc", EINVAL, "control character in its value"},
	{"a", "34567890123", E2BIG, "would have 21 bytes: there is room for 20"},
	{"a", "34567 901", E2BIG, "would have 21 bytes: there is room for 20"},
	{"a2345678901234", NULL, E2BIG, "would have 22 bytes: there is room for 20"},
};

Test(cmdline, a_refusal_leaves_the_text)
{
	struct ram ram = ram_make(0);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char buf[32];
		struct impost_x86_cmdline cmdline = cmdline_make(buf, sizeof(buf), 20);

		cr_assert_eq(impost_x86_cmdline_append(NULL, &cmdline, "abcdefg"), 0);
		if (bad[i].key)
			assert_refused(&ram,
				       impost_x86_cmdline_set(ram.ctx, &cmdline, bad[i].key,
							      bad[i].value),
				       bad[i].err, bad[i].words);
		else
			assert_refused(&ram,
				       impost_x86_cmdline_append(ram.ctx, &cmdline, bad[i].value),
				       bad[i].err, bad[i].words);
		cr_assert_str_eq(buf, "abcdefg");
		cr_assert_eq(cmdline.length, 7u);
	}
	ram_free(&ram);
}

Test(cmdline, null_is_refused)
{
	struct ram ram = ram_make(0);
	char buf[32];
	struct impost_x86_cmdline cmdline = cmdline_make(buf, sizeof(buf), 20);

	assert_refused(&ram, impost_x86_cmdline_append(ram.ctx, NULL, "a"), EINVAL, "NULL");
	assert_refused(&ram, impost_x86_cmdline_append(ram.ctx, &cmdline, NULL), EINVAL, "NULL");
	assert_refused(&ram, impost_x86_cmdline_set(ram.ctx, NULL, "a", "b"), EINVAL, "NULL");
	assert_refused(&ram, impost_x86_cmdline_set(ram.ctx, &cmdline, NULL, "b"), EINVAL, "NULL");
	cr_assert_str_empty(buf);
	ram_free(&ram);
}

/*
 * Model: divides TEXT as Linux does (lib/cmdline.c, next_arg()): at blanks that are not in quotes.
 * Returns how many words there are before one that is "--", and appends them to WORDS, each with a
 * newline; quotes around a value or a word are dropped.
 */
static unsigned int divide(const char *text, char *words)
{
	unsigned int count = 0;
	char *out = words;

	while (*text) {
		char word[256], *at = word;
		int quoted = 0;

		for (; *text == ' '; text++)
			;
		for (; *text && (quoted || *text != ' '); text++) {
			if (*text == '"')
				quoted = !quoted;
			else
				*at++ = *text;
		}
		*at = '\0';
		if (!strcmp(word, "--"))
			break;
		if (at == word)
			continue;
		count++;
		out = stpcpy(stpcpy(out, word), "\n");
	}
	*out = '\0';
	return count;
}

/* Whatever parameters are added, and however full it gets, Linux reads back those that were taken.
 */
Test(cmdline, linux_reads_what_was_added)
{
	static const char alphabet[] = "ab-= .,";
	uint32_t seed = 3, taken = 0, refused = 0;

	for (unsigned int round = 0; round < 400; round++) {
		char buf[200], want[1024] = "", got[1024], *end = want;
		struct impost_x86_cmdline cmdline =
			cmdline_make(buf, 20 + round % 180, 20 + round % 150);
		unsigned int count = 0;

		if (round % 2)
			cr_assert_eq(impost_x86_cmdline_append(NULL, &cmdline, "-- init args"), 0);
		for (unsigned int k = 0; k < 12; k++) {
			char value[16] = "", key[8];
			int err;

			snprintf(key, sizeof(key), "k%u", k);
			for (unsigned int i = 0; i < (seed >> 20) % 12; i++) {
				seed = seed * 1103515245 + 12345;
				value[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
			}
			seed = seed * 1103515245 + 12345;
			err = impost_x86_cmdline_set(NULL, &cmdline, key, value);
			cr_assert(err == 0 || err == -E2BIG);
			cr_assert_eq(strlen(buf), cmdline.length);
			cr_assert_lt(cmdline.length, cmdline.capacity);
			if (err == 0) {
				taken++;
				count++;
				end += sprintf(end, "%s=%s\n", key, value);
			}
			refused += err != 0;
		}
		cr_assert_eq(divide(buf, got), count, "%s", buf);
		cr_assert_str_eq(got, want);
	}
	cr_assert(taken > 500 && refused > 500, "%u taken, %u refused", taken, refused);
}

/* --- writing --- */

Test(write_cmdline, is_written_with_its_nul)
{
	struct impost_x86_kernel kernel = {.cmdline_max = 20};
	struct ram ram = ram_make(MIB);
	char got[16];

	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_CMDLINE_ADDR, PATTERN, 16), 0);
	cr_assert_eq(impost_x86_write_cmdline(ram.memory, &kernel, "console=ttyS0"), 0);
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_CMDLINE_ADDR, got, 16), 0);
	cr_assert_str_eq(got, "console=ttyS0");
	cr_assert_eq((uint8_t)got[14], PATTERN);
	ram_free(&ram);
}

Test(write_cmdline, one_byte_more_than_the_kernel_takes_is_refused)
{
	static const uint32_t limits[] = {0, 1, 255, 2047, IMPOST_X86_CMDLINE_MAX - 1, UINT32_MAX};
	static char text[IMPOST_X86_CMDLINE_MAX + 1];
	struct ram ram = ram_make(MIB);

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct impost_x86_kernel kernel = {.cmdline_max = limits[i]};
		size_t max = limits[i] < IMPOST_X86_CMDLINE_MAX ? limits[i]
								: IMPOST_X86_CMDLINE_MAX - 1;

		memset(text, 'x', sizeof(text));
		text[max] = '\0';
		cr_assert_eq(impost_x86_write_cmdline(ram.memory, &kernel, text), 0);
		text[max] = 'x';
		text[max + 1] = '\0';
		assert_refused(&ram, impost_x86_write_cmdline(ram.memory, &kernel, text), E2BIG,
			       "the kernel takes");
	}
	ram_free(&ram);
}

Test(write_cmdline, needs_memory)
{
	struct impost_x86_kernel kernel = {.cmdline_max = 20};
	struct ram ram = ram_make(IMPOST_X86_CMDLINE_ADDR);

	cr_assert_eq(impost_x86_write_cmdline(ram.memory, &kernel, ""), -EFAULT);
	ram_free(&ram);
}
