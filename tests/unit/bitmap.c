/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps of pages to ranges: against a loop that tests each bit in turn. And taking from one that
 * other threads write. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <impost/range.h>

#include "bitmap.h"
#include "random.h"

#define MOST_PAGES 40000u
#define WORDS	   (MOST_PAGES / 64)
#define PAGE	   UINT64_C(4096)
#define SENTINEL   UINT64_C(0x5a5a5a5a5a5a5a5a)

static uint64_t seed = 0x1234567;
static uint64_t words[WORDS];
static struct impost_range ranges[MOST_PAGES / 2 + 2], model[MOST_PAGES / 2 + 2];

static bool bit(uint64_t page)
{
	return words[page / 64] >> page % 64 & 1;
}

static void set(uint64_t page, uint64_t count)
{
	for (; count; page++, count--)
		words[page / 64] |= UINT64_C(1) << page % 64;
}

/* The loop that says what is right: appends to the COUNT ranges in `model`. */
static uint64_t by_bits(const struct impost_bitmap *bitmap, uint64_t count)
{
	for (uint64_t page = 0; page < bitmap->pages; page++) {
		uint64_t gpa = bitmap->gpa + page * bitmap->page_bytes;

		if (!bit(page))
			continue;
		if (count && model[count - 1].gpa + model[count - 1].bytes == gpa)
			model[count - 1].bytes += bitmap->page_bytes;
		else
			model[count++] = (struct impost_range){gpa, bitmap->page_bytes};
	}
	return count;
}

static struct impost_bitmap bitmap_of(uint64_t pages)
{
	return (struct impost_bitmap){
		.size = sizeof(struct impost_bitmap),
		.words = words,
		.pages = pages,
		.gpa = UINT64_C(7) << 32,
		.page_bytes = PAGE,
	};
}

static void expect_same(uint64_t count, uint64_t expected, const char *what)
{
	cr_assert(count == expected, "%s: %lu ranges, not %lu", what, count, expected);
	for (uint64_t i = 0; i < count; i++)
		cr_assert(ranges[i].gpa == model[i].gpa && ranges[i].bytes == model[i].bytes,
			  "%s: range %lu is 0x%lx+0x%lx, not 0x%lx+0x%lx", what, i, ranges[i].gpa,
			  ranges[i].bytes, model[i].gpa, model[i].bytes);
}

/* All at once, and by arrays of each of some capacities, which are never written beyond. */
static void check(const struct impost_bitmap *bitmap)
{
	static const uint64_t capacities[] = {1, 2, 3, 35, 36, 37, 64, 100, 1000};
	uint64_t expected = by_bits(bitmap, 0), next = 0, count = 0, set_bits = 0;

	cr_assert(impost_bitmap_ranges(bitmap, &next, ranges, MOST_PAGES / 2 + 1, &count) == 0);
	cr_assert(next == bitmap->pages);
	expect_same(count, expected, "at once");
	for (uint64_t i = 0; i < expected; i++)
		set_bits += model[i].bytes / bitmap->page_bytes;
	cr_assert(impost_bitmap_count(words, bitmap->pages) == set_bits);

	for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
		uint64_t total = 0;

		next = 0;
		do {
			ranges[total + capacities[i]].gpa = SENTINEL;
			count = 0;
			cr_assert(impost_bitmap_ranges(bitmap, &next, ranges + total, capacities[i],
						       &count) == 0);
			cr_assert(count <= capacities[i]);
			cr_assert(ranges[total + capacities[i]].gpa == SENTINEL);
			cr_assert(count == capacities[i] || next == bitmap->pages);
			total += count;
		} while (next < bitmap->pages && total + 1000 < MOST_PAGES / 2);
		if (next == bitmap->pages)
			expect_same(total, expected, "in parts");
	}
}

/* Pages of which each is set with a chance of PER_MILLE, in runs of up to LONGEST. */
static void scatter(uint64_t pages, uint32_t per_mille, uint32_t longest)
{
	memset(words, 0, sizeof(words));
	for (uint64_t page = 0; page < pages; page++) {
		uint64_t run = 1 + random_below(&seed, longest);

		if (random_below(&seed, 1000) < per_mille)
			set(page, run < pages - page ? run : pages - page);
	}
}

Test(bitmap, ranges_are_those_of_a_loop_over_bits)
{
	static const uint32_t chances[] = {0, 1, 10, 50, 200, 500, 900, 990, 1000};
	static const uint64_t sizes[] = {1, 63, 64, 65, 128, 4096, 4097, 8192, 12345, 20000};
	static const uint32_t longest[] = {1, 3, 200, 9000};

	for (size_t c = 0; c < sizeof(chances) / sizeof(chances[0]); c++)
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
			for (size_t l = 0; l < sizeof(longest) / sizeof(longest[0]); l++) {
				struct impost_bitmap bitmap = bitmap_of(sizes[s]);

				scatter(sizes[s], chances[c] / longest[l] + (chances[c] > 0),
					longest[l]);
				check(&bitmap);
			}
}

/* One range, from each place near the borders of words and of blocks of words to each other. */
Test(bitmap, ranges_go_over_words)
{
	struct impost_bitmap bitmap = bitmap_of(64 * 200);
	static const uint64_t borders[] = {0,	    64,	     128,      64 * 64,
					   64 * 65, 64 * 66, 64 * 128, 64 * 130};
	const size_t count = sizeof(borders) / sizeof(borders[0]);

	for (size_t i = 0; i < count * 5; i++)
		for (size_t j = i; j < count * 5; j++) {
			uint64_t from = borders[i / 5] + i % 5, to = borders[j / 5] + j % 5;
			uint64_t next = 0, found = 0;

			from -= from < 2 ? from : 2;
			to -= to < 2 ? to : 2;
			if (to <= from)
				continue;
			memset(words, 0, sizeof(words));
			set(from, to - from);
			cr_assert(impost_bitmap_ranges(&bitmap, &next, ranges, 1, &found) == 0);
			cr_assert(found == 1 && next == bitmap.pages);
			cr_assert(ranges[0].gpa == bitmap.gpa + from * PAGE);
			cr_assert(ranges[0].bytes == (to - from) * PAGE);
		}
}

Test(bitmap, bits_beyond_the_last_page_do_not_count)
{
	memset(words, 0xff, sizeof(words));
	for (uint64_t pages = 0; pages < 200; pages++) {
		struct impost_bitmap bitmap = bitmap_of(pages);
		uint64_t next = 0, count = 0;

		cr_assert(impost_bitmap_ranges(&bitmap, &next, ranges, 1, &count) == 0);
		cr_assert(next == pages && count == (pages > 0));
		cr_assert(count == 0 || ranges[0].bytes == pages * PAGE);
		cr_assert(impost_bitmap_count(words, pages) == pages);
	}
}

/* Regions that adjoin, and one that does not, with ranges over their borders. */
Test(bitmap, ranges_go_over_bitmaps)
{
	for (unsigned round = 0; round < 200; round++) {
		uint64_t expected = 0, count = 0, gpa = 0;

		for (unsigned i = 0; i < 5; i++) {
			struct impost_bitmap bitmap = bitmap_of(1 + random_below(&seed, 300));
			uint64_t next = 0;

			scatter(bitmap.pages, 100, 80);
			bitmap.gpa = gpa;
			expected = by_bits(&bitmap, expected);
			cr_assert(impost_bitmap_ranges(&bitmap, &next, ranges, MOST_PAGES / 2,
						       &count) == 0);
			cr_assert(next == bitmap.pages);
			gpa += (bitmap.pages + (i == 3)) * PAGE;
		}
		expect_same(count, expected, "several bitmaps");
	}
}

/* The last range is continued even where there is no room for another. */
Test(bitmap, a_full_array_takes_what_adjoins)
{
	struct impost_bitmap bitmap = bitmap_of(1000);
	uint64_t next = 0, count = 1;

	memset(words, 0, sizeof(words));
	set(0, 70);
	set(900, 1);
	ranges[0] = (struct impost_range){bitmap.gpa - PAGE, PAGE};
	cr_assert(impost_bitmap_ranges(&bitmap, &next, ranges, 1, &count) == 0);
	cr_expect(count == 1 && next == 900 && ranges[0].bytes == 71 * PAGE);
	cr_assert(impost_bitmap_ranges(&bitmap, &next, ranges, 1, &count) == 0);
	cr_expect(count == 1 && next == 900, "nothing adjoins and there is no room");
	cr_assert(impost_bitmap_ranges(&bitmap, &next, ranges, 2, &count) == 0);
	cr_expect(count == 2 && next == 1000 && ranges[1].gpa == bitmap.gpa + 900 * PAGE);
}

Test(bitmap, the_last_pages_of_all)
{
	struct impost_bitmap bitmap = bitmap_of(128);
	uint64_t next = 0, count = 0;

	bitmap.page_bytes = UINT64_C(2) << 20;
	bitmap.gpa = 0 - 128 * bitmap.page_bytes;
	memset(words, 0, sizeof(words));
	set(100, 28);
	cr_assert(impost_bitmap_ranges(&bitmap, &next, ranges, 4, &count) == 0);
	cr_expect(count == 1 && ranges[0].gpa == 0 - 28 * bitmap.page_bytes);
	cr_expect(ranges[0].bytes == 28 * bitmap.page_bytes);
	bitmap.gpa += 1;
	next = count = 0;
	cr_expect(impost_bitmap_ranges(&bitmap, &next, ranges, 4, &count) == -EINVAL);
}

Test(bitmap, nonsense_is_refused)
{
	const struct impost_bitmap good = bitmap_of(64);
	struct impost_bitmap bad[] = {good, good, good, good, good, good};
	uint64_t next = 0, count = 0;

	bad[0].size = 8;
	bad[1].reserved = 1;
	bad[2].page_bytes = 0;
	bad[3].page_bytes = 4097;
	bad[4].words = NULL;
	bad[5].pages = UINT64_MAX / 2;
	ranges[0].gpa = SENTINEL;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect(impost_bitmap_ranges(&bad[i], &next, ranges, 4, &count) == -EINVAL,
			  "nonsense %zu was accepted", i);
	next = 65;
	cr_expect(impost_bitmap_ranges(&good, &next, ranges, 4, &count) == -EINVAL);
	next = 0;
	count = 5;
	cr_expect(impost_bitmap_ranges(&good, &next, ranges, 4, &count) == -EINVAL);
	cr_expect(next == 0 && count == 5 && ranges[0].gpa == SENTINEL);
}

Test(bitmap, taking_ors_and_clears)
{
	static _Atomic uint64_t shared[4];
	uint64_t into[4] = {1, 0, UINT64_C(1) << 63, 0};

	shared[0] = 3;
	shared[2] = 4;
	shared[3] = UINT64_MAX;
	cr_expect(bitmap_take(shared, 3, into) == 3);
	cr_expect(into[0] == 3 && into[1] == 0 && into[2] == (UINT64_C(1) << 63 | 4));
	cr_expect(shared[0] == 0 && shared[2] == 0);
	cr_expect(shared[3] == UINT64_MAX && into[3] == 0, "a word beyond was taken");
	cr_expect(bitmap_take(shared, 3, into) == 0);
}

#define SETTERS	     3u
#define SHARED_WORDS 7u

static _Atomic uint64_t shared[SHARED_WORDS];

/* Sets each bit whose number is ARG modulo SETTERS, once. */
static void *set_bits(void *arg)
{
	for (uint64_t page = (uintptr_t)arg; page < SHARED_WORDS * 64; page += SETTERS)
		atomic_fetch_or(&shared[page / 64], UINT64_C(1) << page % 64);
	return NULL;
}

Test(bitmap, each_bit_is_taken_once)
{
	for (unsigned round = 0; round < 200; round++) {
		uint64_t into[SHARED_WORDS] = {0}, taken = 0;
		pthread_t threads[SETTERS];

		for (uintptr_t i = 0; i < SETTERS; i++)
			cr_assert(pthread_create(&threads[i], NULL, set_bits, (void *)i) == 0);
		for (unsigned i = 0; i < 50; i++)
			taken += bitmap_take(shared, SHARED_WORDS, into);
		for (unsigned i = 0; i < SETTERS; i++)
			pthread_join(threads[i], NULL);
		taken += bitmap_take(shared, SHARED_WORDS, into);
		cr_assert(taken == SHARED_WORDS * 64, "%lu bits were taken", taken);
		for (unsigned i = 0; i < SHARED_WORDS; i++)
			cr_assert(into[i] == UINT64_MAX && shared[i] == 0);
	}
}
