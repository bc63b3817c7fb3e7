/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of guest memory is to be sent next, for several threads to take from: first what has memory
 * behind it, then what was written since. Calls are 0 or a negative errno, with a text.
 */
#ifndef CORE_MIGRATE_SUPPLY_H
#define CORE_MIGRATE_SUPPLY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <impost/dirty.h>
#include <impost/memory.h>
#include <impost/range.h>

/* Ranges that are looked for at a time. */
#define SUPPLY_RANGES 512u

struct supply_region {
	uint64_t gpa, end;
	/* What it has is not all in memory, or cannot be known: all of it is looked at. */
	bool whole;
};

struct supply {
	struct impost_memory *memory;
	struct impost_dirty *dirty;
	struct impost_dirty_stats stats; /* of the last supply_sync() */
	_Atomic uint64_t *left;		 /* bytes that are known to be still to be sent */
	struct supply_region *regions;
	uint32_t nregions;
	pthread_mutex_t lock; /* what follows */
	bool first;	      /* nothing was sent yet: what has memory */
	bool over;	      /* there is no more than `have` */
	uint32_t region;      /* `first`: where the search goes on */
	uint64_t at;
	struct impost_range have[SUPPLY_RANGES];
	uint64_t count, next;
};

/*
 * Of all of MEMORY, from now on: makes a reader of what is written. *ALL is how many bytes that
 * are. *LEFT, which is set after it, is kept by the supply and by who sends. Free with
 * supply_release(). Errors are impost_dirty_create()'s; -ENOMEM.
 */
int supply_init(struct supply *supply, struct impost_memory *memory, _Atomic uint64_t *all,
		_Atomic uint64_t *left);
void supply_release(struct supply *supply);

/* Begins with what was written since, or was not yet taken: *LEFT becomes its length. */
int supply_sync(struct supply *supply);

/*
 * Takes the next ranges, CAPACITY at the most and BYTES in all, each in one region. *RET_COUNT 0:
 * there are no more until supply_sync(). Any thread.
 */
int supply_take(struct supply *supply, struct impost_range *ranges, uint64_t capacity,
		uint64_t bytes, uint64_t *ret_count);

/* -EFAULT: the regions of memory are not those of supply_init() any more. */
int supply_check(struct supply *supply);

#endif
