/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that comes when it is touched: a thread is told of who touches what is not there.
 * Where that comes from is a source's: the files of a snapshot, which the thread reads, chunk by
 * chunk; or the other side of a migration, which is asked for it, and sends it. The thread ends by
 * itself when all is there.
 *
 * While it is at work, regions are not MAPPED_DIRECT: where something cannot be brought, which is
 * logged as an error, it is mapped so that nobody can touch it, and access is -EIO, and no signal.
 * The VM is lost then: a guest whose instruction is emulated would read ones there, and go on.
 */
#ifndef CORE_PAGER_H
#define CORE_PAGER_H

#include <stdbool.h>
#include <stdint.h>

#include <impost/range.h>

#include "memory.h"
#include "snapshot_memory.h"

struct pager;

/*
 * A source of contents. Either READ, or ASK and END. The functions are called by the pager's
 * thread, but for END and RELEASE.
 */
struct pager_source {
	/* For texts: what cannot be done, "memory cannot be ..."; and what has become of memory of
	 * which some could not be brought. */
	const char *fails, *lost;
	uint64_t unit; /* bytes that are there or not: of a page, or a chunk (CHUNK_BYTES) */

	/* Reads BYTES, whole chunks but for the last of a region, at OFFSET in region number REGION
	 * to TO. What is not data is left alone; *RET_DATA: which pages of the last chunk are. */
	int (*read)(void *opaque, uint32_t region, uint64_t offset, uint8_t *to, uint64_t bytes,
		    uint64_t *ret_data);

	/* Somebody waits for RANGES, in no order, none of which was asked for before. */
	void (*ask)(void *opaque, const struct impost_range *ranges, uint32_t count);
	/* Nobody wants anything any more: ASK is to return soon. */
	void (*end)(void *opaque);

	void (*release)(void *opaque); /* frees OPAQUE; NULL: there is nothing to free */
	void *opaque;
};

/*
 * Brings the contents of all regions of MEMORY, which nobody has touched yet, by SOURCE's read.
 * PREFETCH: also what is not touched. On failure SOURCE is released. -ENOTSUP: userfaultfd(2)
 * cannot be had, or not for this memory; -EMFILE; -ENOMEM.
 */
int pager_start(struct impost_memory *memory, const struct pager_source *source, bool prefetch);

/* pager_layers.c: the same with the contents of LAYERS' regions, which MEMORY has. The descriptors
 * are duplicated, and the tables copied. */
int pager_start_layers(struct impost_memory *memory, const struct memory_layer *layers, uint32_t n,
		       bool prefetch);

/* Ends MEMORY's pager, if it has one, whatever is there by now. Nobody looks at the memory. */
void pager_stop(struct impost_memory *memory);

/* The region at GPA is out of the map, nobody looks at it any more, and it is about to be unmapped:
 * what lies there from now on is not the pager's. */
void pager_forget(struct impost_memory *memory, uint64_t gpa);

/* Waits until all of MEMORY is there: at once, where it has no pager. -EIO: some of it could not be
 * brought. May be called in a view. */
int memory_settle(struct impost_memory *memory);

/* The same, for TIMEOUT_MS: -ETIMEDOUT, with no text, if it is not yet. */
int memory_settle_within(struct impost_memory *memory, uint32_t timeout_ms);

/* Bytes of MEMORY that are still to be brought; and what the first failure was, or 0. */
void memory_paging(const struct impost_memory *memory, uint64_t *ret_left, int *ret_err);

/* --- for a source that is asked: what it holds outlives the memory, and says nothing then --- */

/* Whether this process can have a pager at all: -ENOTSUP. */
int pager_probe(struct impost_context *ctx, const char *fails);

/* Whether all of MEMORY is of a kind whose pages can be missing, by UNIT. */
bool pager_takes(struct impost_memory *memory, uint64_t unit);

/* Makes MEMORY's pager, by which all is there. To be given back with pager_unref(). Fails as
 * pager_start() does. */
int pager_open(struct impost_memory *memory, const struct pager_source *source,
	       struct pager **ret_pager);

/* Throws away what is in RANGE, of whole pages that lie in one region: it is to be brought. No vCPU
 * runs, and pager_begin() has not been called. -EFAULT: no such region; -ENOTSUP: not for this kind
 * of memory; or what the kernel says. */
int pager_postpone(struct pager *pager, const struct impost_range *range);

/* Starts the thread. Where it fails nothing can be brought any more. */
int pager_begin(struct pager *pager);

/* Brings BYTES at GPA, of whole pages: DATA, or NULL for zeros. What is there already, or was not
 * postponed, is passed over. */
void pager_bring(struct pager *pager, uint64_t gpa, const uint8_t *data, uint64_t bytes);

/* The next pages at or after *GPA that are not there or, with ASKED, those of them that were asked
 * for; *GPA becomes their end. False: there are no more. */
bool pager_missing(struct pager *pager, bool asked, uint64_t *gpa, struct impost_range *ret_range);

/* Bytes that are still to be brought. */
uint64_t pager_left(const struct pager *pager);

/* What is missing will never come, for ERR; ASK is not called any more when this has returned. Also
 * when nothing is missing, or the memory is gone. Not for the pager's own thread. */
void pager_fail(struct pager *pager, int err);

/* What has kept something from being brought, with no text; 0: nothing has. */
int pager_error(const struct pager *pager);

/* 0; -EIO, with no text: something could not be brought, or the memory is gone before all was. */
int pager_result(struct pager *pager);
void pager_unref(struct pager *pager);

#endif
