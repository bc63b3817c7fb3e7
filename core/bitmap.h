/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps of pages that several threads write; the public part is impost/range.h. */
#ifndef CORE_BITMAP_H
#define CORE_BITMAP_H

#include <stdatomic.h>
#include <stdint.h>

/* 64-bit words of a bitmap for PAGES pages. */
static inline uint64_t bitmap_words(uint64_t pages)
{
	return pages / 64 + (pages % 64 != 0);
}

/* The bits of page PAGE and those behind it, before page END, that are in PAGE's word. PAGE is
 * below END. */
static inline uint64_t bitmap_mask(uint64_t page, uint64_t end)
{
	uint64_t mask = UINT64_MAX << page % 64;

	return end / 64 == page / 64 ? mask & ~(UINT64_MAX << end % 64) : mask;
}

/*
 * Takes the set bits out of SHARED, of WORDS words, and ORs them into INTO, which is the caller's
 * alone. Others may set bits in SHARED meanwhile with atomic ORs: each bit is taken now or stays
 * for the next time, and what its setter wrote before it is seen by who takes it. Returns how many
 * bits were taken, those that INTO had already among them.
 */
uint64_t bitmap_take(_Atomic uint64_t *shared, uint64_t words, uint64_t *into);

#endif
