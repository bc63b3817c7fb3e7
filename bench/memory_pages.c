/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of bench-memory: a bitmap's ranges, zero pages, and the plain loops they are held to. */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "timing.h"

#define PAGES	   (UINT64_C(64) << 30 >> 12)
#define ZERO_BYTES (UINT64_C(256) << 20)

static uint64_t *words;
static struct impost_range *ranges, *expected;
static uint32_t filled; /* how many pages of a thousand are set in `words`; 0: none yet */
static struct impost_memory *zero_memory;

void page_cases_end(void)
{
	free(words);
	free(ranges);
	free(expected);
	impost_memory_destroy(zero_memory);
}

/* Sets PER_MILLE of the pages, at random: one after the other where they are few. */
static void fill_words(uint32_t per_mille)
{
	uint64_t state = 1;

	memset(words, 0, PAGES / 8);
	for (uint64_t left = PAGES * per_mille / 1000; left > 0;) {
		uint64_t page = random_below(&state, PAGES), bit = UINT64_C(1) << page % 64;

		left -= !(words[page / 64] & bit);
		words[page / 64] |= bit;
	}
	filled = per_mille;
}

/*
 * The loop that the goal is set by: each bit is tested in turn, and what adjoins is merged. Returns
 * the number of ranges.
 */
static __attribute__((noinline)) uint64_t bit_by_bit(const uint64_t *from, struct impost_range *to)
{
	struct impost_range range = {0};
	uint64_t count = 0;

	for (uint64_t i = 0; i < PAGES / 64; i++) {
		uint64_t word = from[i];

		for (uint64_t bit = 0; bit < 64; bit++) {
			if (word >> bit & 1) {
				if (range.bytes == 0)
					range.gpa = (i * 64 + bit) * IMPOST_PAGE_SIZE;
				range.bytes += IMPOST_PAGE_SIZE;
			} else if (range.bytes) {
				to[count++] = range;
				range.bytes = 0;
			}
		}
	}
	if (range.bytes)
		to[count++] = range;
	return count;
}

static uint64_t by_library(struct impost_range *to)
{
	const struct impost_bitmap bitmap = {.size = sizeof(bitmap),
					     .words = words,
					     .pages = PAGES,
					     .page_bytes = IMPOST_PAGE_SIZE};
	uint64_t next = 0, count = 0;

	return impost_bitmap_ranges(&bitmap, &next, to, PAGES / 2, &count) ? 0 : count;
}

/* Memory that is there before it is measured. NULL: said here. */
static void *touched(size_t bytes)
{
	void *memory = aligned_alloc(64, bytes);

	if (!memory)
		perror("memory for ranges");
	else
		memset(memory, 1, bytes);
	return memory;
}

/* New pages set, in a bitmap whose ranges are the same by both ways. */
static int prepare_words(uint32_t per_mille)
{
	uint64_t count;

	if (!words)
		words = touched(PAGES / 8);
	if (!ranges)
		ranges = touched(PAGES / 2 * sizeof(*ranges));
	if (!expected)
		expected = touched(PAGES / 2 * sizeof(*expected));
	if (!words || !ranges || !expected)
		return -1;
	fill_words(per_mille);
	count = bit_by_bit(words, expected);
	if (by_library(ranges) == count && memcmp(ranges, expected, count * sizeof(*ranges)) == 0)
		return 0;
	fprintf(stderr, "ranges of %u pages in 1000: not those of the plain loop\n", per_mille);
	return -1;
}

/* Milliseconds; ARG is per mille, times two, and one for the library. */
static int take_ranges(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	double start;

	(void)ctx;
	if (filled != arg / 2 && prepare_words(arg / 2))
		return -1;
	start = now_ns();
	opaque(arg % 2 ? by_library(ranges) : bit_by_bit(words, ranges));
	ret[0] = (now_ns() - start) / 1e6;
	return 0;
}

/* --- zero pages --- */

/* Memory that was written, and is all zero: no page of it is the kernel's own zero page. */
static int prepare_zero(struct impost_context *ctx)
{
	if (zero_memory)
		return 0;
	if (make_regions(ctx, 1, ZERO_BYTES, &zero_memory))
		return -1;
	if (impost_memory_fill(zero_memory, 0, 1, ZERO_BYTES) ||
	    impost_memory_fill(zero_memory, 0, 0, ZERO_BYTES))
		return fprintf(stderr, "zero pages: %s\n", impost_error(ctx)), -1;
	return 0;
}

/* Four words at a time, and four such sums, so that no addition waits for another. */
static uint64_t sum(const void *from, uint64_t bytes)
{
	typedef uint64_t four __attribute__((vector_size(32), may_alias));
	const four *at = from, *end = at + bytes / sizeof(four);
	four totals[4] = {0};

	for (; at < end; at += 4)
		for (int i = 0; i < 4; i++)
			totals[i] += at[i];
	totals[0] += totals[1] + totals[2] + totals[3];
	return totals[0][0] + totals[0][1] + totals[0][2] + totals[0][3];
}

/* Bytes a nanosecond: GB/s. */
static int take_sum(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	void *hva = NULL;
	double start;

	(void)arg;
	if (prepare_zero(ctx) || impost_memory_ptr(zero_memory, 0, ZERO_BYTES, &hva))
		return -1;
	start = now_ns();
	opaque(sum(hva, ZERO_BYTES));
	ret[0] = (double)ZERO_BYTES / (now_ns() - start);
	return 0;
}

/* The same of the library's look for zero pages, all of which it must find. */
static int take_zero(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_range left = {.bytes = ZERO_BYTES}, found = {0};
	uint64_t count = 0;
	double start;

	(void)arg;
	if (prepare_zero(ctx))
		return -1;
	start = now_ns();
	if (impost_pages_zero(zero_memory, &left, &found, 1, &count))
		return fprintf(stderr, "zero pages: %s\n", impost_error(ctx)), -1;
	ret[0] = (double)ZERO_BYTES / (now_ns() - start);
	if (left.bytes == 0 && count == 1 && found.gpa == 0 && found.bytes == ZERO_BYTES)
		return 0;
	fprintf(stderr, "zero pages: not all were found\n");
	return -1;
}

#define RANGES_CASES(name, per_mille)                            \
	{"bits-" name, take_ranges, (per_mille)*2u},             \
	{                                                        \
		"ranges-" name, take_ranges, (per_mille)*2u + 1u \
	}

const struct bench_case page_cases[] = {
	RANGES_CASES("1", 1), RANGES_CASES("10", 10), RANGES_CASES("500", 500),
	{"sum", take_sum, 0}, {"zero", take_zero, 0}, {NULL, NULL, 0},
};
