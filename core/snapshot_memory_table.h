/* SPDX-License-Identifier: Apache-2.0 */
/* The table of a snapshot's memory, as the calls of snapshot_memory.h share it. */
#ifndef CORE_SNAPSHOT_MEMORY_TABLE_H
#define CORE_SNAPSHOT_MEMORY_TABLE_H

#include <impost/memory.h>

#include "snapshot_memory.h"

#define CHUNK_SHIFT 18u
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_SHIFT)
#define CHUNK_PAGES UINT64_C(64)

_Static_assert(CHUNK_BYTES == CHUNK_PAGES * IMPOST_PAGE_SIZE, "a chunk is a word of a bitmap");

/* A region: what its row says, and where its bitmaps and digests are. */
struct table_region {
	uint64_t gpa, bytes;
	uint64_t area_offset;
	uint64_t pages, chunks; /* chunks: words of the bitmaps, and digests */
	uint32_t flags;
	uint64_t *data;
	uint64_t *zero; /* NULL: the table is not a diff's */
	uint8_t (*digest)[SNAPSHOT_DIGEST];
};

struct memory_table {
	bool diff;
	uint32_t count;
	uint64_t area_bytes, bytes;
	const void *head; /* the bytes */
	struct table_region region[];
};

/*
 * Makes the table for COUNT regions of which gpa, bytes and flags are given, in order, with room
 * for the bitmaps and digests, all zero, in *RET_BYTES, which is to be freed with free(3), after
 * memory_table_free(). -ENOMEM.
 */
int memory_table_make(struct impost_context *ctx, const struct memory_place *places, uint32_t count,
		      bool diff, void **ret_bytes, struct memory_table **ret_table);

/* The region that GPA lies in, or else the first behind it; count: none. */
uint32_t memory_table_find(const struct memory_table *table, uint64_t gpa);

/* Chunks that a thread takes at a time: 16 MiB, which is what the kernel is asked about at once. */
#define BATCH 64u

static inline uint64_t batches_of(const struct table_region *region)
{
	return (region->chunks + BATCH - 1) / BATCH;
}

/* The pages of chunk number CHUNK that there are: the last can have fewer than others. */
static inline uint64_t chunk_pages(const struct table_region *region, uint64_t chunk)
{
	uint64_t left = region->pages - chunk * CHUNK_PAGES;

	return left < CHUNK_PAGES ? UINT64_MAX >> (CHUNK_PAGES - left) : UINT64_MAX;
}

/* The next run of set bits of WORD from bit *FIRST on: its first bit there, and how many. 0: no
 * more. Go on from *FIRST and what is returned. */
static inline uint64_t next_run(uint64_t word, uint64_t *first)
{
	if (*first >= 64 || !(word >> *first))
		return 0;
	*first += (uint64_t)__builtin_ctzll(word >> *first);
	word = ~(word >> *first);
	return word ? (uint64_t)__builtin_ctzll(word) : 64;
}

#endif
