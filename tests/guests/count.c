/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest that counts in memory: one counter a page, all of them raised once a round. It tells if
 * a counter is not what it left there, so it notices memory that was lost or mixed up.
 * Options: pages, rounds (0: no end), every (rounds between two reports).
 */
#include "guest.h"

#define ARENA	  0x1000000u /* 16 MiB */
#define PAGE_SIZE 4096u

/* A counter has its page's number in it: pages that were exchanged are noticed too. */
static uint64_t expected(uint64_t page, uint64_t round)
{
	return page << 32 | round;
}

static int raise_all(uint64_t pages, uint64_t round)
{
	for (uint64_t page = 0; page < pages; page++) {
		volatile uint64_t *counter = (volatile uint64_t *)(ARENA + page * PAGE_SIZE);

		if (round > 1 && *counter != expected(page, round - 1)) {
			put("page ");
			put_dec(page);
			put(" holds ");
			put_hex(*counter, 16);
			put_char('\n');
			return -1;
		}
		*counter = expected(page, round);
	}
	return 0;
}

void guest_main(const void *zero_page)
{
	uint64_t pages = option(zero_page, "pages", 256);
	uint64_t rounds = option(zero_page, "rounds", 32);
	uint64_t every = option(zero_page, "every", 8);

	serial_init();
	for (uint64_t round = 1; rounds == 0 || round <= rounds; round++) {
		if (raise_all(pages, round))
			return;
		if (every != 0 && round % every == 0) {
			put("round ");
			put_dec(round);
			put_char('\n');
		}
	}
}
