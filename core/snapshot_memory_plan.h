/* SPDX-License-Identifier: Apache-2.0 */
/* A plan for the writing of a snapshot's memory, as those who carry it out see it. */
#ifndef CORE_SNAPSHOT_MEMORY_PLAN_H
#define CORE_SNAPSHOT_MEMORY_PLAN_H

#include <stdatomic.h>

#include "memory.h"
#include "snapshot_memory_table.h"

struct guard;

struct memory_plan {
	struct impost_context *ctx;
	struct memory_table *table;
	void *bytes; /* of the table */
	struct snapshot_hash hash;
	uint32_t threads;
	memory_progress_fn *progress;
	void *opaque;
	int fd; /* while it is written */
	uint64_t offset;

	/* From a VM's memory. */
	struct impost_memory *memory; /* NULL: from layers */
	struct impost_dirty *since;
	uint64_t *
		*taken; /* what `since` told of, a bitmap for each region; NULL: it is not asked */
	struct guard *guard; /* NULL: nobody writes the memory */
	const char *why;     /* there is no guard */

	const struct memory_layer *layers;
	uint32_t nlayers;
};

/* The pages of a chunk that are to be written, be they data or zero. */
static inline uint64_t plan_pages(const struct memory_plan *plan, uint32_t region, uint64_t chunk)
{
	return plan->table->diff ? plan->taken[region][chunk]
				 : chunk_pages(&plan->table->region[region], chunk);
}

/*
 * Finds which of the pages to be written in COUNT chunks from FIRST on are zero: a word for each
 * chunk. Memory that was never touched is not touched.
 */
int plan_find_zero(const struct memory_plan *plan, uint32_t region, uint64_t first, uint64_t count,
		   uint64_t *ret_zero);

/*
 * Gives the host's address of a chunk, of which the pages PAGES are of interest, in *RET_AT: of the
 * guest's memory itself or, where that may not be touched, or with COPY, of BUFFER, of CHUNK_BYTES,
 * into which they are copied. To be called, and used, in a view of the memory.
 */
struct impost_view;
int plan_look(const struct memory_plan *plan, const struct impost_view *view, uint32_t region,
	      uint64_t chunk, uint64_t pages, bool copy, uint8_t *buffer, const uint8_t **ret_at);

/* Writes what a chunk has: pages DATA at AT, and ZERO, and notes it in the table. */
int plan_write_chunk(struct memory_plan *plan, uint32_t region, uint64_t chunk, uint64_t data,
		     uint64_t zero, const uint8_t *at);

/* --- snapshot_memory_guard.c --- */

/* Protects what PLAN is to write. NULL, with *ret_why: it cannot be done. */
struct guard *guard_make(struct memory_plan *plan, bool populate, const char **ret_why);

/* Writes COUNT chunks from FIRST on that nobody wanted to write, and before, what somebody did. */
int guard_write(struct guard *guard, uint32_t region, uint64_t first, uint64_t count);

/* Ends the protection, and writes what is left that somebody wanted to write. ERR is what writing
 * came to until now: if not 0, nothing more is written. Returns ERR, or the first error. */
int guard_finish(struct guard *guard, int err);

/* NULL is fine. */
void guard_free(struct guard *guard);

#endif
