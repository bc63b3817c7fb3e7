/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers for tests by properties: the same in every run. */
#ifndef TESTS_UNIT_RANDOM_H
#define TESTS_UNIT_RANDOM_H

#include <stdint.h>

/* Any number but 0. STATE is any number but 0 (Marsaglia's xorshift64). */
static inline uint64_t random_number(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A number below LIMIT, which is not 0. */
static inline uint32_t random_below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)((random_number(state) >> 32) % limit);
}

#endif
