/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of guest memory, and how a bitmap of pages becomes ranges: for whoever has a bitmap, such
 * as a hypervisor's dirty log, and wants to copy what it names.
 *
 * These functions work on the caller's memory alone. They keep nothing, take no lock and need no
 * context; any thread may call them, and they say what is wrong by their error number only.
 */
#ifndef IMPOST_RANGE_H
#define IMPOST_RANGE_H

#include <stdint.h>

#include <impost/error.h>

/* BYTES of guest memory from GPA. It has no `size`: arrays of it are large, and it never grows. */
struct impost_range {
	uint64_t gpa;
	uint64_t bytes;
};

/*
 * A bitmap of pages. Page N, at gpa + N * page_bytes, is bit N % 64 of words[N / 64], with bit 0
 * the lowest: the layout of KVM_GET_DIRTY_LOG (Documentation/virt/kvm/api.rst, 4.8) on x86_64.
 */
struct impost_bitmap {
	uint32_t size; /* set by the caller to sizeof(struct impost_bitmap) */
	uint32_t reserved;
	const uint64_t *words; /* the caller's; (pages + 63) / 64 of them */
	uint64_t pages;	       /* bits of the last word beyond them do not count */
	uint64_t gpa;	       /* of page 0; any address */
	uint64_t page_bytes;   /* a power of two */
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Appends the ranges of set bits, from page *NEXT on, to the *COUNT ranges that RANGES has already,
 * in order of address. A range is as long as can be: bits that adjoin are one range, and so are the
 * first of them and the last range that was there, if it ends where they begin. That is how several
 * bitmaps of adjoining regions, given in order, yield ranges that go across their borders.
 *
 * RANGES has room for CAPACITY ranges. *COUNT becomes their number, and *NEXT the page that the
 * next call goes on with: it is bitmap->pages if none is left. Begin with *NEXT 0; when RANGES was
 * full and has been worked through, set *COUNT to 0 and call again. What lies in RANGES from
 * *COUNT on is undefined.
 *
 * The words must not change during the call; those of a log that is written meanwhile must be
 * copied first.
 *
 * -EINVAL: BITMAP's size is less than this version's first, reserved is not 0, page_bytes is no
 * power of two, the last page ends beyond 2^64, *NEXT is more than bitmap->pages, or *COUNT more
 * than CAPACITY. Nothing is written then.
 */
IMPOST_API int impost_bitmap_ranges(const struct impost_bitmap *bitmap, uint64_t *next,
				    struct impost_range *ranges, uint64_t capacity,
				    uint64_t *count);

/* How many of the first PAGES bits of WORDS, laid out as in struct impost_bitmap, are set. */
IMPOST_API uint64_t impost_bitmap_count(const uint64_t *words, uint64_t pages);

#ifdef __cplusplus
}
#endif

#endif
