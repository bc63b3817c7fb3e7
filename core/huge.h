/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huge pages for guest memory that is about to be filled: the kernel is asked for them before it is
 * touched first, so that it costs one fault for each 2 MiB and not 512. Advice, which the kernel
 * need not take, for anonymous memory alone.
 */
#ifndef CORE_HUGE_H
#define CORE_HUGE_H

#include <stdint.h>

#include <impost/range.h>

#include "map.h"

struct impost_memory;

/* For BYTES at GPA of REGION, and what else lies in the first and the last page; not for less than
 * one page. */
void huge_advise(const struct mapped *region, uint64_t gpa, uint64_t bytes);

/*
 * For those huge pages of which at least half is to be filled: what RANGES have of it, which are in
 * order of address and lie in memory. Not for more, since a guest that has touched little is to
 * stay small.
 */
void huge_advise_ranges(struct impost_memory *memory, const struct impost_range *ranges,
			uint64_t count);

#endif
