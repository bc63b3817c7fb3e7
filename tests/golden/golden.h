/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden bytes: what a table in guest memory must be, byte for byte, written down by hand from the
 * rule that says so. A golden file is text; each line describes the bytes that follow those of the
 * line before, so that none is left out:
 *
 *	0x00: 52 53 44 20 "PTR "        # ACPI 6.5, table 5.3: signature
 *	0x08: u32:0x1000 00*12          # a little-endian number; twelve zero bytes
 *
 * An offset, then hex bytes, `BYTE*COUNT`, u16:, u32:, u64: (little-endian) or "text" without
 * escapes; behind # the rule. Empty lines and those that begin with # say nothing. GOLDEN_DIR, the
 * folder of the files, is defined on the compiler's command line.
 */
#ifndef TESTS_GOLDEN_GOLDEN_H
#define TESTS_GOLDEN_GOLDEN_H

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A golden file as it is compared, and what differs so far. */
struct golden {
	const char *file;
	unsigned int line;
	const uint8_t *bytes;
	size_t count;
	size_t at;	      /* offset that the file has come to */
	unsigned int differ;  /* bytes */
	char text[1024 * 16]; /* the differences, for the reader */
	size_t used;
};

static inline void golden_say(struct golden *golden, const char *line)
{
	int n = snprintf(golden->text + golden->used, sizeof(golden->text) - golden->used, "\n%s",
			 line);

	if (n > 0 && (size_t)n < sizeof(golden->text) - golden->used)
		golden->used += (size_t)n;
}

/* Takes the token at *TEXT and appends its bytes; returns how many, or -1: it is none. */
static inline long golden_token(const char **text, uint8_t *buf, size_t room)
{
	const char *at = *text;
	char *end;
	unsigned long long value, times = 1;
	size_t width = 1, done = 0;

	if (*at == '"') {
		for (at++; *at && *at != '"' && done < room; at++)
			buf[done++] = (uint8_t)*at;
		*text = at + 1;
		return *at == '"' ? (long)done : -1;
	}
	if (*at == 'u') {
		width = strtoul(at + 1, &end, 10) / 8;
		if (end[0] != ':' || !isdigit((unsigned char)end[1]) ||
		    (width != 2 && width != 4 && width != 8))
			return -1;
		value = strtoull(end + 1, &end, 0);
	} else {
		value = strtoull(at, &end, 16);
		if (end - at != 2 || !isxdigit((unsigned char)at[0]))
			return -1;
	}
	if (*end == '*')
		times = strtoull(end + 1, &end, 0);
	if ((*end && !isspace((unsigned char)*end)) || !times || times > room / width)
		return -1;
	for (; times; times--, done += width)
		for (size_t i = 0; i < width; i++)
			buf[done + i] = (uint8_t)(value >> 8 * i);
	*text = end;
	return (long)done;
}

/* Compares what one line wants, COUNT bytes, with what there is; tells the differences by runs. */
static inline void golden_judge(struct golden *golden, const uint8_t *want, size_t count,
				const char *rule)
{
	char line[400];

	for (size_t i = 0, end; i < count; i = end) {
		size_t left = golden->count > golden->at + i ? golden->count - golden->at - i : 0;
		const uint8_t *got = golden->bytes + golden->at + i;
		int n;

		end = i + 1;
		if (left && *got == want[i])
			continue;
		while (end < count && end < i + 8 && end - i < left && got[end - i] != want[end])
			end++;
		golden->differ += (unsigned int)(end - i);
		n = snprintf(line, sizeof(line), "%s:%u: at 0x%zx want", golden->file, golden->line,
			     golden->at + i);
		for (size_t k = i; k < end; k++)
			n += snprintf(line + n, sizeof(line) - (size_t)n, " %02x", want[k]);
		n += snprintf(line + n, sizeof(line) - (size_t)n, ", got%s",
			      left ? "" : " nothing");
		for (size_t k = i; left && k < end; k++)
			n += snprintf(line + n, sizeof(line) - (size_t)n, " %02x", got[k - i]);
		snprintf(line + n, sizeof(line) - (size_t)n, "   # %.200s", rule);
		golden_say(golden, line);
	}
	golden->at += count;
}

/* Reads one line and compares what it describes. A line that is none fails the test. */
static inline void golden_line(struct golden *golden, const char *text)
{
	static uint8_t want[1 << 16];
	size_t count = 0;
	char *rest;
	long n;

	text += strspn(text, " \t\r\n");
	if (!*text || *text == '#')
		return;
	cr_assert_eq(strtoull(text, &rest, 16), golden->at,
		     "%s:%u: the line must describe offset 0x%zx", golden->file, golden->line,
		     golden->at);
	cr_assert_eq(*rest, ':', "%s:%u: OFFSET: BYTES is needed", golden->file, golden->line);
	for (text = rest + 1;; count += (size_t)n) {
		text += strspn(text, " \t\r\n");
		if (!*text || *text == '#')
			break;
		n = golden_token(&text, want + count, sizeof(want) - count);
		cr_assert_geq(n, 0, "%s:%u: these are no bytes: %s", golden->file, golden->line,
			      text);
	}
	text += strspn(text, "# \t");
	cr_assert(*text, "%s:%u: the rule is missing", golden->file, golden->line);
	golden_judge(golden, want, count, text);
}

/* Asserts that the COUNT bytes at BYTES are those of the golden file NAME. */
static inline void golden_compare(const char *name, const void *bytes, size_t count)
{
	static struct golden golden;
	char path[4096], line[8192], *newline;
	FILE *file;

	golden = (struct golden){.file = name, .bytes = bytes, .count = count};
	snprintf(path, sizeof(path), "%s/%s", GOLDEN_DIR, name);
	file = fopen(path, "re");
	cr_assert_not_null(file, "no golden file %s", path);
	while (fgets(line, sizeof(line), file)) {
		golden.line++;
		newline = strchr(line, '\n');
		cr_assert(newline || feof(file), "%s:%u is too long", name, golden.line);
		if (newline)
			*newline = '\0';
		golden_line(&golden, line);
	}
	fclose(file);
	cr_assert_eq(golden.differ, 0u, "%u bytes differ from %s:%s", golden.differ, name,
		     golden.text);
	cr_assert_eq(golden.at, count, "%s describes %zu bytes, there are %zu", name, golden.at,
		     count);
}

#endif
