/* SPDX-License-Identifier: Apache-2.0 */
/* Where guest RAM lies: writable regions of a map, adjoining ones taken together. */
#ifndef ARCH_X86_64_RAM_H
#define ARCH_X86_64_RAM_H

#include <stdint.h>

#include <impost/memory.h>

/* Guest-physical addresses from `start` to below `end`. */
struct range {
	uint64_t start;
	uint64_t end;
};

/*
 * Gives the run of RAM that begins with region *CURSOR or later, and moves *CURSOR behind it.
 * Returns 1, 0 when there is no more, or what impost_memory_get() says.
 */
int ram_next(struct impost_memory *memory, uint32_t *cursor, struct range *ret_run);

/* 0 if all of WANT is RAM; else -EFAULT with a text that names WHAT, its range and where RAM is. */
int ram_check(struct impost_memory *memory, const char *what, struct range want);

#endif
