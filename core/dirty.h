/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking as the core sees it: for each region the host's marks, what the hypervisor's log
 * has told, and what each reader has yet to take.
 *
 * Two locks. Who adds or removes regions or readers holds the memory's; the tracker's, taken inside
 * it, guards what is below against sync and take, which take it alone. It is never held while
 * waiting for views to end, so that a thread may sync and take in the middle of a view.
 */
#ifndef CORE_DIRTY_H
#define CORE_DIRTY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <impost/dirty.h>

#include "map.h"

/* What a reader has yet to take of a region: a bit a page. */
struct pending {
	struct pending *next;
	struct impost_dirty *dirty;
	uint64_t nfound; /* bits in `found` */
	uint64_t *found; /* pages found written since its last sync, taken or not: behind `bits` */
	uint64_t bits[];
};

/* A region, while there are readers. */
struct tracked {
	uint64_t gpa, pages, words;
	uint32_t slot;
	bool guest_writes;	/* it is a VM's, and not read-only */
	bool leaving;		/* it is being removed: sync and take pass it over */
	_Atomic uint64_t *host; /* struct mapped's dirty */
	/*
	 * NULL: the hypervisor's log is off. What was fetched from it and not given to readers:
	 * with dirty-manual, the pages that are not protected again yet; else all zero between two
	 * calls. Behind it are as many words that hold, during a fetch, what there was before.
	 */
	uint64_t *log;
	struct pending *pending; /* one for each reader */
};

/* Totals, from which each reader counts the difference. */
struct dirty_counts {
	uint64_t from_log, from_host, protects;
};

struct tracker {
	pthread_mutex_t lock;
	struct tracked **region; /* in order of address */
	uint32_t count, room;
	struct impost_dirty *readers;
	uint32_t nreaders, nlogging; /* all, and those that want the hypervisor's log */
	struct dirty_counts counts;
};

struct impost_dirty {
	struct impost_dirty *next;
	struct impost_memory *memory;
	uint32_t flags;
	uint64_t cursor; /* page (gpa / IMPOST_PAGE_SIZE) that the pass goes on with */
	uint64_t taken, syncs, passes;
	struct dirty_counts begin;    /* when it was created */
	uint64_t begin_ns;	      /* when that was */
	uint64_t sync_ns;	      /* the last sync */
	uint64_t last_ns, last_pages; /* between the last two */
	uint64_t all_pages;	      /* the sum of last_pages */
	/* The snapshot since which the view tells, by its digest, if it was emptied for one. */
	bool saved;
	uint8_t saved_digest[16];
};

/* --- dirty_region.c: regions that are tracked --- */

/* REGION is to be tracked: bitmaps, and REGION's `dirty`, but not the log. NULL, with a text: no
 * memory. */
struct tracked *tracked_new(struct impost_memory *memory, const struct mapped *region);
void tracked_free(struct tracked *tracked);

/* What DIRTY has to take of TRACKED. */
struct pending *tracked_pending(const struct tracked *tracked, const struct impost_dirty *dirty);

/* Adds an empty bitmap for DIRTY; and takes it away. The tracker's lock is held. -ENOMEM. */
int tracked_add_reader(struct tracked *tracked, struct impost_dirty *dirty);
void tracked_remove_reader(struct tracked *tracked, const struct impost_dirty *dirty);

/* The pages of BITS, of word number WORD, have been found written. */
static inline void pending_found(struct pending *pending, uint64_t word, uint64_t bits)
{
	pending->nfound += (uint64_t)__builtin_popcountll(bits & ~pending->found[word]);
	pending->found[word] |= bits;
}

/* How many pages were, since the last call. */
uint64_t tracked_end_interval(const struct tracked *tracked, struct pending *pending);

/* Every page of TRACKED is in PENDING; or none. No interval has begun. */
void tracked_fill(const struct tracked *tracked, struct pending *pending, bool all);

/* The first tracked region that ends at or above PAGE (gpa / IMPOST_PAGE_SIZE). */
uint32_t tracker_find(const struct tracker *tracker, uint64_t page);

/* Tracks all regions of the present map, and none. With the memory's lock, and nobody else inside.
 */
int tracker_start(struct impost_memory *memory);
void tracker_stop(struct impost_memory *memory);

/*
 * For memory.c, with the memory's lock held; nothing happens where nobody tracks.
 *
 * attach: REGION, which the backend has already and the map not yet, gets what it needs; *ret is
 * NULL where nobody tracks. On failure the caller takes the slot away, and the log with it.
 * attached: the map has it now.
 */
int dirty_attach(struct impost_memory *memory, struct mapped *region, struct tracked **ret_tracked);
void dirty_attached(struct impost_memory *memory, struct tracked *tracked);

/* The region at GPA is being removed; it stays after all; it is gone, and nobody writes it any
 * more. */
void dirty_leaving(struct impost_memory *memory, uint64_t gpa);
void dirty_stays(struct impost_memory *memory, uint64_t gpa);
void dirty_left(struct impost_memory *memory, uint64_t gpa);

/* -EBUSY, with a text that begins with WHAT: there are readers; LOGGING: of the hypervisor's log.
 */
int dirty_busy(struct impost_memory *memory, bool logging, const char *what);

/* Puts pages that DIRTY has taken, bits of WORDS, of the PAGES of the region that starts at GPA,
 * back into its view: who took them could do nothing with them. A region that has gone, or has
 * become another, is passed over. */
void dirty_give_back(struct impost_dirty *dirty, uint64_t gpa, uint64_t pages,
		     const uint64_t *words);

/* --- dirty_log.c: where marks come from; with the tracker's lock held --- */

/* Switches the hypervisor's log of TRACKED on; and off, which frees what it held whatever is
 * returned. Nothing to do where the guest does not write. */
int log_start(struct impost_memory *memory, struct tracked *tracked);
int log_stop(struct impost_memory *memory, struct tracked *tracked);

/* Pulls the hypervisor's log of TRACKED. */
int log_fetch(struct impost_memory *memory, struct tracked *tracked);

/* Has those of PAGES pages from FIRST (a multiple of 64) that the log holds protected again, and
 * gives them to the readers. */
int log_protect(struct impost_memory *memory, struct tracked *tracked, uint64_t first,
		uint64_t pages);

/* Gives the host's marks of TRACKED to the readers. */
void host_fetch(struct impost_memory *memory, struct tracked *tracked);

#endif
