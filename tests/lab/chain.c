/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of a guest that is migrated (tests/lab/migrated): writes a working set of blocks all the
 * time, each a page with the sum of the one before in it, and checks what it wrote a round ago
 * before it writes it anew; so a page that is lost, or from another time, breaks the chain. Blocks
 * that are written once and only checked from then on find what the first pass lost.
 *
 * For each round it prints, in one write:
 *
 *	@chain NUMBER ROUND SUM MONOTONIC REALTIME GAP
 *
 * Times are in microseconds. GAP is the longest time from the end of one block to that of the next
 * since the line before: how long it stood. NUMBER tells several chains apart. On what is not as it
 * was left it prints a line with @broken, and ends.
 *
 * Usage: chain NUMBER MIB
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PAGE	    4096
#define WORDS	    (PAGE / 8 - 3)
#define STILL_SHARE 2 /* one block in so many is written once */

struct block {
	uint64_t round;
	uint64_t previous; /* the sum of the block before, or of the last one of the round before */
	uint64_t words[WORDS];
	uint64_t sum;
};
_Static_assert(sizeof(struct block) == PAGE, "a block is a page");

struct chain {
	const char *number;
	struct block *blocks;
	size_t count;
	uint64_t last;	/* sum of the last block, and the one that its first block has */
	uint64_t first; /* as its previous */
};

static uint64_t now_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- gaps --- */

static uint64_t gap, seen;

static void see(void)
{
	uint64_t now = now_us(CLOCK_MONOTONIC);

	/* A clock that goes back makes a gap that nobody can take for one. */
	if (now - seen > gap)
		gap = now - seen;
	seen = now;
}

/* --- blocks --- */

static uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ sum >> 29;
}

static uint64_t sum_of(const struct block *block)
{
	uint64_t sum = mix(block->round, block->previous);

	for (size_t i = 0; i < WORDS; i++)
		sum = mix(sum, block->words[i]);
	return sum;
}

static void fill(struct block *block, uint64_t round, uint64_t previous)
{
	uint64_t word = mix(previous, round);

	block->round = round;
	block->previous = previous;
	for (size_t i = 0; i < WORDS; i++)
		block->words[i] = word += UINT64_C(0x9e3779b97f4a7c15);
	block->sum = sum_of(block);
}

/* ROUND: of now. The block is of WANTED. */
static bool check(const struct chain *chain, uint64_t round, size_t at, uint64_t wanted,
		  uint64_t previous)
{
	const struct block *block = chain->blocks + at;
	uint64_t sum = sum_of(block);

	if (block->round == wanted && block->previous == previous && block->sum == sum)
		return true;
	printf("@broken %s round %" PRIu64 " block %zu of %zu: round %" PRIu64 ", not %" PRIu64
	       "; previous %016" PRIx64 ", not %016" PRIx64 "; sum %016" PRIx64 ", not %016" PRIx64
	       "\n",
	       chain->number, round, at, chain->count, block->round, wanted, block->previous,
	       previous, block->sum, sum);
	return false;
}

/* --- chains --- */

static void forge(struct chain *chain, const char *number, size_t count)
{
	chain->number = number;
	chain->count = count;
	chain->blocks = aligned_alloc(PAGE, count * sizeof(*chain->blocks));
	if (!chain->blocks) {
		printf("@broken %s: no memory\n", number);
		exit(1);
	}
	chain->first = 0;
	for (size_t i = 0; i < count; i++) {
		fill(chain->blocks + i, 0, chain->last);
		chain->last = chain->blocks[i].sum;
	}
}

static bool check_still(const struct chain *chain, uint64_t round)
{
	uint64_t previous = chain->first;

	for (size_t i = 0; i < chain->count; i++) {
		if (!check(chain, round, i, 0, previous))
			return false;
		previous = chain->blocks[i].sum;
		see();
	}
	return true;
}

static bool renew(struct chain *chain, uint64_t round)
{
	uint64_t old = chain->first, previous = chain->last;

	chain->first = previous;
	for (size_t i = 0; i < chain->count; i++) {
		if (!check(chain, round, i, round - 1, old))
			return false;
		old = chain->blocks[i].sum;
		fill(chain->blocks + i, round, previous);
		previous = chain->blocks[i].sum;
		see();
	}
	chain->last = previous;
	return true;
}

int main(int argc, char **argv)
{
	size_t count = argc == 3 ? strtoul(argv[2], NULL, 10) * ((1 << 20) / PAGE) : 0;
	struct chain still = {0}, moving = {0};

	if (count < STILL_SHARE) {
		fprintf(stderr, "usage: chain NUMBER MIB\n");
		return 2;
	}
	/* One write a line: two chains have one terminal. */
	setvbuf(stdout, NULL, _IOFBF, 4096);
	forge(&still, argv[1], count / STILL_SHARE);
	forge(&moving, argv[1], count - count / STILL_SHARE);
	seen = now_us(CLOCK_MONOTONIC);
	for (uint64_t round = 1; check_still(&still, round) && renew(&moving, round); round++) {
		printf("@chain %s %" PRIu64 " %016" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
		       argv[1], round, moving.last, now_us(CLOCK_MONOTONIC), now_us(CLOCK_REALTIME),
		       gap);
		gap = 0;
		fflush(stdout);
		see();
	}
	fflush(stdout);
	return 1;
}
