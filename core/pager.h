/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that comes when it is touched: a thread that brings it from a snapshot's files,
 * chunk by chunk, verified, and the others meanwhile. It ends by itself when all is there.
 *
 * While it is at work, regions are not MAPPED_DIRECT: where a chunk cannot be brought, which is
 * logged as an error, it is mapped so that nobody can touch it, and access is -EIO, or a vCPU's run
 * fails with -EFAULT, and no signal.
 */
#ifndef CORE_PAGER_H
#define CORE_PAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"
#include "snapshot_memory.h"

struct pager;

/*
 * Brings the contents of LAYERS' regions, which MEMORY has and which nobody has touched yet. The
 * descriptors are duplicated, and the tables copied. PREFETCH: also what is not touched. -ENOTSUP:
 * userfaultfd(2) cannot be had, or not for this memory; -EMFILE; -ENOMEM.
 */
int pager_start(struct impost_memory *memory, const struct memory_layer *layers, uint32_t n,
		bool prefetch);

/* Ends MEMORY's pager, if it has one, whatever is there by now. Nobody looks at the memory. */
void pager_stop(struct impost_memory *memory);

/* The region at GPA is out of the map, nobody looks at it any more, and it is about to be unmapped:
 * what lies there from now on is not the pager's. */
void pager_forget(struct impost_memory *memory, uint64_t gpa);

/* Waits until all of MEMORY is there: at once, where it was not restored lazily. -EIO: some of it
 * could not be brought. May be called in a view. */
int memory_settle(struct impost_memory *memory);

/* Bytes of MEMORY that are still to be brought; and what the first failure was, or 0. */
void memory_paging(const struct impost_memory *memory, uint64_t *ret_left, int *ret_err);

#endif
