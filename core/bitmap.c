/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bitmaps of pages: set bits to ranges, counting, and taking from a shared one.
 *
 * Where the next set bit is cannot be predicted, so a branch on each word, let alone each bit,
 * would cost more than the work does. Words are taken in blocks: which of them are not zero is
 * found without a branch, and of those a few ranges are always written, though there may be fewer.
 * The rest of a branch that is left is on what is rare or common: a word in which all ranges are
 * one page.
 */
#include "bitmap.h"

#include <errno.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>

#include <impost/range.h>

#include "text.h"

#define WORD_BITS    64u
#define BLOCK	     64u /* words */
#define SINGLES	     2u	 /* ranges that are written at once, whether they are there or not */
#define RUNS	     4u	 /* the same, in words with longer ranges */
#define ROOM	     (WORD_BITS / 2 + RUNS) /* ranges that a word may need room for */
#define LEAST_BITMAP ABI_UP_TO(struct impost_bitmap, page_bytes)

/* A walk over a bitmap. */
struct walk {
	const uint64_t *words;
	uint64_t whole; /* words of which every bit counts */
	struct impost_range *ranges;
	uint64_t count, capacity;
	uint64_t gpa;
	unsigned shift; /* log2 of page_bytes */
};

/* How many bits from bit 0 on are set. */
static inline unsigned low_ones(uint64_t word)
{
	return ~word ? (unsigned)__builtin_ctzll(~word) : WORD_BITS;
}

/* If the page before WORD is set (CARRY, 0 or 1), its range, the last, takes what adjoins it.
 * Returns what is left of WORD. */
static inline uint64_t extend(struct impost_range *last, uint64_t word, uint64_t carry,
			      unsigned shift)
{
	last->bytes += (low_ones(word) & (0 - carry)) << shift;
	return word & (word + carry);
}

/* --- a word at a time, where the bitmap or the array ends --- */

/* WORD, whose first bit is page BASE. Returns false, and the page, if there was no room for the
 * range that begins there. */
static bool take_word(struct walk *walk, uint64_t word, uint64_t carry, uint64_t base,
		      uint64_t *ret_page)
{
	if (carry)
		word = extend(&walk->ranges[walk->count - 1], word, carry, walk->shift);
	while (word) {
		unsigned start = (unsigned)__builtin_ctzll(word);

		if (walk->count == walk->capacity) {
			*ret_page = base + start;
			return false;
		}
		walk->ranges[walk->count++] = (struct impost_range){
			.gpa = walk->gpa + ((base + start) << walk->shift),
			.bytes = (uint64_t)low_ones(word >> start) << walk->shift,
		};
		word &= word + (UINT64_C(1) << start);
	}
	return true;
}

/* --- a block of words at a time --- */

#define FAST	    __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define FAST_INLINE FAST static inline __attribute__((always_inline))

/* Bit N of the result: WORDS[N] is not 0. */
FAST_INLINE uint64_t not_zero(const uint64_t *words)
{
	const __m256i zero = _mm256_setzero_si256();
	uint64_t zeros = 0;

	for (unsigned i = 0; i < BLOCK; i += 4) {
		__m256i four = _mm256_loadu_si256((const __m256i *)(const void *)(words + i));
		__m256i same = _mm256_cmpeq_epi64(four, zero);

		zeros |= (uint64_t)(uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(same)) << i;
	}
	return ~zeros;
}

/* Writes SINGLES ranges of one page to RANGES, for the lowest bits of WORD, whose first bit is at
 * address GPA. Where there are fewer bits, what is written means nothing. Returns the bits that are
 * left. */
FAST_INLINE uint64_t write_singles(struct impost_range *ranges, uint64_t word, uint64_t gpa,
				   unsigned shift)
{
	for (unsigned i = 0; i < SINGLES; i++) {
		ranges[i].gpa = gpa + (_tzcnt_u64(word) << shift);
		ranges[i].bytes = UINT64_C(1) << shift;
		word = _blsr_u64(word);
	}
	return word;
}

/* The ranges of WORD, in which no two bits adjoin. Returns where the next range goes. */
FAST_INLINE struct impost_range *singles(struct impost_range *ranges, uint64_t word, uint64_t gpa,
					 unsigned shift)
{
	struct impost_range *end = ranges + _mm_popcnt_u64(word);

	word = write_singles(ranges, word, gpa, shift);
	while (__builtin_expect(word != 0, 0)) {
		ranges += SINGLES;
		word = write_singles(ranges, word, gpa, shift);
	}
	return end;
}

/* The same, of a word in which bits may adjoin. */
FAST_INLINE struct impost_range *runs(struct impost_range *ranges, uint64_t word, uint64_t gpa,
				      unsigned shift)
{
	uint64_t starts = word & ~(word << 1), ends = ~word & word << 1;
	struct impost_range *end = ranges + _mm_popcnt_u64(starts);

	while (starts) {
		for (unsigned i = 0; i < RUNS; i++) {
			uint64_t start = _tzcnt_u64(starts);

			ranges[i].gpa = gpa + (start << shift);
			ranges[i].bytes = (_tzcnt_u64(ends) - start) << shift;
			starts = _blsr_u64(starts);
			ends = _blsr_u64(ends);
		}
		ranges += RUNS;
	}
	return end;
}

/* Takes blocks from word AT on, before which there is another word, while there are whole ones, and
 * room. Returns the word to go on with. The capacity is ROOM at least. */
FAST static uint64_t take_blocks(struct walk *walk, uint64_t at)
{
	struct impost_range *range = walk->ranges + walk->count;
	const struct impost_range *last = walk->ranges + (walk->capacity - ROOM);
	unsigned shift = walk->shift, word_shift = shift + 6;

	for (; at + BLOCK <= walk->whole; at += BLOCK) {
		const uint64_t *words = walk->words + at;
		uint64_t gpa = walk->gpa + (at << word_shift);

		for (uint64_t left = not_zero(words); left; left = _blsr_u64(left)) {
			uint64_t i = _tzcnt_u64(left), word = words[i];
			uint64_t carry = words[(int64_t)i - 1] >> 63;
			uint64_t here = gpa + (i << word_shift);

			if (range > last) {
				walk->count = (uint64_t)(range - walk->ranges);
				return at + i;
			}
			if (word & (word << 1 | carry)) {
				if (carry)
					word = extend(range - 1, word, carry, shift);
				range = runs(range, word, here, shift);
			} else {
				range = singles(range, word, here, shift);
			}
		}
	}
	walk->count = (uint64_t)(range - walk->ranges);
	return at;
}

static bool is_fast(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
	       __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

/* --- the whole --- */

/* Walks from PAGE to page PAGES. Returns the page for which there was no room, or PAGES. */
static uint64_t walk_on(struct walk *walk, uint64_t page, uint64_t pages)
{
	uint64_t at = page / WORD_BITS, mask = UINT64_MAX << page % WORD_BITS, carry = 0, stop;
	bool fast = walk->capacity >= ROOM && is_fast();

	for (; at < walk->whole; at++, mask = UINT64_MAX) {
		uint64_t word = walk->words[at] & mask;

		if (!take_word(walk, word, carry, at * WORD_BITS, &stop))
			return stop;
		if (fast)
			at = take_blocks(walk, at + 1) - 1;
		carry = walk->words[at] >> 63;
	}
	if (pages % WORD_BITS && page < pages) {
		mask &= UINT64_MAX >> (WORD_BITS - pages % WORD_BITS);
		if (!take_word(walk, walk->words[at] & mask, carry, at * WORD_BITS, &stop))
			return stop;
	}
	return pages;
}

/* The first page from PAGE on that is not set, or PAGES. */
static uint64_t end_of_run(const struct impost_bitmap *bitmap, uint64_t page)
{
	uint64_t at = page / WORD_BITS;
	uint64_t clear = ~bitmap->words[at] & UINT64_MAX << page % WORD_BITS;

	while (!clear && ++at < bitmap_words(bitmap->pages))
		clear = ~bitmap->words[at];
	page = clear ? at * WORD_BITS + (unsigned)__builtin_ctzll(clear) : bitmap->pages;
	return page < bitmap->pages ? page : bitmap->pages;
}

static bool is_set(const struct impost_bitmap *bitmap, uint64_t page)
{
	return page < bitmap->pages && bitmap->words[page / WORD_BITS] >> page % WORD_BITS & 1;
}

static bool makes_sense(const struct impost_bitmap *bitmap)
{
	uint64_t bytes;

	return bitmap->size >= LEAST_BITMAP && bitmap->reserved == 0 && bitmap->page_bytes &&
	       !(bitmap->page_bytes & (bitmap->page_bytes - 1)) &&
	       (bitmap->words || bitmap->pages == 0) &&
	       !__builtin_mul_overflow(bitmap->pages, bitmap->page_bytes, &bytes) &&
	       (bytes == 0 || bitmap->gpa + (bytes - 1) >= bitmap->gpa);
}

int impost_bitmap_ranges(const struct impost_bitmap *bitmap, uint64_t *next,
			 struct impost_range *ranges, uint64_t capacity, uint64_t *count)
{
	struct walk walk;
	uint64_t page = *next;

	if (!makes_sense(bitmap) || page > bitmap->pages || *count > capacity)
		return -EINVAL;
	walk = (struct walk){
		.words = bitmap->words,
		.whole = bitmap->pages / WORD_BITS,
		.ranges = ranges + *count,
		.capacity = capacity - *count,
		.gpa = bitmap->gpa,
		.shift = (unsigned)__builtin_ctzll(bitmap->page_bytes),
	};
	if (*count && is_set(bitmap, page)) {
		struct impost_range *last = &ranges[*count - 1];
		uint64_t end = end_of_run(bitmap, page);

		if (last->gpa + last->bytes == walk.gpa + (page << walk.shift)) {
			last->bytes += (end - page) << walk.shift;
			page = end;
		}
	}
	*next = walk_on(&walk, page, bitmap->pages);
	*count += walk.count;
	return 0;
}

static inline __attribute__((always_inline)) uint64_t count_words(const uint64_t *words,
								  uint64_t whole)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < whole; i++)
		count += (unsigned)__builtin_popcountll(words[i]);
	return count;
}

FAST static uint64_t count_words_fast(const uint64_t *words, uint64_t whole)
{
	return count_words(words, whole);
}

uint64_t impost_bitmap_count(const uint64_t *words, uint64_t pages)
{
	uint64_t whole = pages / WORD_BITS;
	uint64_t count = is_fast() ? count_words_fast(words, whole) : count_words(words, whole);

	if (pages % WORD_BITS) {
		uint64_t word = words[whole] << (WORD_BITS - pages % WORD_BITS);

		count += (unsigned)__builtin_popcountll(word);
	}
	return count;
}

uint64_t bitmap_take(_Atomic uint64_t *shared, uint64_t words, uint64_t *into)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < words; i++) {
		uint64_t word;

		/* Most words are zero, and a locked exchange costs ten times what a load does. */
		if (!atomic_load_explicit(&shared[i], memory_order_relaxed))
			continue;
		word = atomic_exchange_explicit(&shared[i], 0, memory_order_acq_rel);
		count += (unsigned)__builtin_popcountll(word);
		into[i] |= word;
	}
	return count;
}
