/* SPDX-License-Identifier: Apache-2.0 */
/* The cases that bench-memory takes, their numbers, and what keeps the compiler from cheating. The
 * numbers are those of vm-memory/src/cases.rs, and change with them. */
#ifndef IMPOST_BENCH_MEMORY_H
#define IMPOST_BENCH_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "cases.h"

#define FIND_REGIONS   256u
#define FIND_BYTES     (UINT64_C(1) << 20)
#define FIND_TURNS     16u
#define FIND_RANDOM    4096u
#define FIND_FAR       (UINT64_C(1) << 46) /* of a page that is far from the others */

#define COPY_REGIONS   8u
#define COPY_REGION    (UINT64_C(2) << 30)
#define COPY_BYTES     512u
#define COPIES	       4096u

#define OBJECTS	       512u
#define OBJECT_TURNS   16u

#define SWAP_REGIONS   8u
#define SWAP_BYTES     (UINT64_C(1) << 20)
#define SWAP_READERS   8u
#define SWAP_ADDRESSES 64u
#define SWAP_NS	       400e6
#define SWAP_PACE      500.0 /* pairs of changes a second */

extern const struct bench_case access_cases[], page_cases[], dirty_cases[], swap_cases[];

/* Releases what the cases keep from one time to the next. */
void access_cases_end(void);
void page_cases_end(void);
void dirty_cases_end(void);

/* A value that the compiler knows nothing of; it must also take all memory for changed. The Rust
 * side has the same. */
static inline uint64_t opaque(uint64_t value)
{
	__asm__ volatile("" : "+r"(value) : : "memory");
	return value;
}

/* Marsaglia's xorshift64: the same numbers on both sides. Begin with *STATE 1. */
static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % limit;
}

/* Makes a map of COUNT regions of BYTES each, one behind the other from 0 on. Says what failed. */
int make_regions(struct impost_context *ctx, uint32_t count, uint64_t bytes,
		 struct impost_memory **ret_memory);

#endif
