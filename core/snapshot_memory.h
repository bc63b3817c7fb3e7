/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a snapshot: what of it is written, how, and how it comes back.
 *
 * A file has a *table*, which says of each page of guest memory where its content is, and an
 * *area*, which has the content of those pages that are not zero, laid out as the regions are: page
 * N of a region lies N pages from where the region's part of the area begins, and where there is
 * nothing to say the file has a hole. So a region is one stretch of the file that can be mapped.
 *
 * Files make *layers*: a full one, of which each page is in the area (data) or zero, and above it
 * any number of diffs, in which a page can also be absent: it is as in the layer below.
 *
 * Everything is in *chunks* of 256 KiB of a region: one 64-bit word of a bitmap of pages. A chunk
 * is what has a digest, what is copied at once when a guest wants to write while it is being saved,
 * and what is brought at once when memory is restored lazily.
 *
 * The table: little-endian, aligned to 8 bytes. 32 bytes: u32 number of regions, u32 log2 of a
 * chunk's bytes (18), u64 bytes of the area, u32 flags (1: of a diff), and zeros. Then a row of 64
 * bytes for each region, in order of address: u64 gpa, bytes, offset in the area (of whole pages),
 * offsets in the table of the bitmap of data, the bitmap of zeros (in a diff; else 0) and the
 * digests, u32 flags (IMPOST_REGION_READONLY or 0), and zeros. Then, for each region, those three:
 * bitmaps as in impost/range.h, and 16 bytes for each chunk, which are the digest
 * (snapshot_hashing.h) of the chunk's pages that are data, in order of address, or zeros where
 * there are none.
 *
 * Calls are 0 or a negative errno, with a text on the context, or on the memory's.
 */
#ifndef CORE_SNAPSHOT_MEMORY_H
#define CORE_SNAPSHOT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/dirty.h>
#include <impost/memory.h>

#include "snapshot_hashing.h"

struct impost_context;

/* DONE of TOTAL bytes of guest memory have been seen to. Called by the thread that made the call
 * that takes so long, some hundred times at the most. Not 0: the call ends with -ECANCELED. */
typedef int memory_progress_fn(void *opaque, uint64_t done, uint64_t total);

/* --- tables --- */

struct memory_table;

/* A region, as a table has it. */
struct memory_place {
	uint64_t gpa, bytes;
	uint64_t area_offset;
	uint32_t flags; /* IMPOST_REGION_READONLY, or 0 */
};

enum memory_kind {
	MEMORY_DATA, /* its content is in the area */
	MEMORY_ZERO,
	MEMORY_ABSENT, /* as in the layer below */
};

/* Pages of one kind, as many as adjoin in one region. */
struct memory_extent {
	uint64_t gpa, bytes;
	uint64_t area_offset;
	enum memory_kind kind;
};

/*
 * Reads the table of BYTES at TABLE, which must outlive what is returned, and may be anybody's
 * invention. AREA_BYTES: the area's length, as the file has it; DIFF: whether it is a diff's. What
 * is allocated is no longer than the table. Free with memory_table_free(), for which NULL is fine.
 *
 * -IMPOST_EFORMAT, with a text that says what is wrong; -ENOMEM.
 */
int memory_table_decode(struct impost_context *ctx, const void *table, uint64_t bytes,
			uint64_t area_bytes, bool diff, struct memory_table **ret_table);
void memory_table_free(struct memory_table *table);

/* Region number INDEX; false: there are no more. */
bool memory_table_region(const struct memory_table *table, uint32_t index,
			 struct memory_place *ret_place);

/* How many pages there are in all, how many of them are in the area, and how many are said to be
 * zero. */
void memory_table_pages(const struct memory_table *table, uint64_t *ret_all, uint64_t *ret_data,
			uint64_t *ret_zero);

/* The extent at *GPA or, where there is no memory, the next one; *GPA becomes its end. Begin with
 * 0. False: there are no more. */
bool memory_table_next(const struct memory_table *table, uint64_t *gpa,
		       struct memory_extent *ret_extent);

/* --- writing --- */

/* What is to be written, from what, and how. */
struct memory_write {
	struct impost_dirty *since; /* see memory_plan_make() */
	bool diff;
	bool background;
	bool populate;	  /* BACKGROUND: as where only pages that are there can be protected */
	uint32_t threads; /* that read and write, the caller's among them; 0: chosen */
	const struct snapshot_hash *hash;
	memory_progress_fn *progress; /* NULL: none */
	void *opaque;
};

struct memory_plan;

/*
 * Plans the writing of MEMORY as it is now: nobody writes it during the call, nor until
 * memory_plan_write() has returned, unless memory_plan_detached(). What is in WANT is copied, but
 * for what SINCE and OPAQUE point to. With DIFF, those pages are written that SINCE has to tell of;
 * without, all, and SINCE, if there is one, is emptied, so that the next diff tells what changes
 * from now on. Memory that is being restored lazily is waited for first.
 *
 * With BACKGROUND, the memory is protected against writing until it has been read: a write, also by
 * the guest, waits until the chunk has been copied. That takes userfaultfd(2) with what its
 * write-protection of kernel faults needs, and memory that it can be had for, which all of the
 * regions must be; else the plan is one that is not detached. What another process writes to shared
 * memory is not held up.
 *
 * -EDEADLK: the calling thread has a view; -EINVAL: SINCE is a reader of other memory; -ENOMEM; or
 * what impost_dirty_sync() and take say. Free with memory_plan_free().
 */
int memory_plan_make(struct impost_memory *memory, const struct memory_write *want,
		     struct memory_plan **ret_plan);

/* Whether the guest may run on while the plan is carried out; if not, why, for a log. */
bool memory_plan_detached(const struct memory_plan *plan, const char **ret_why);

/* The lengths of the table and of the area: whatever is found to be zero. The area should begin at
 * a multiple of 2 MiB in the file, so that what is mapped can be of huge pages. */
uint64_t memory_plan_table_bytes(const struct memory_plan *plan);
uint64_t memory_plan_area_bytes(const struct memory_plan *plan);

/*
 * Writes the area to FD, where it begins at OFFSET, and where the file has a hole of that length.
 * To be called once.
 *
 * -EFAULT: a region was removed meanwhile; -EIO: a file behind the guest's memory has become
 * shorter; -ECANCELED: the progress function said so; or what pwrite(2) says. The guest's memory is
 * no longer protected then.
 */
int memory_plan_write(struct memory_plan *plan, int fd, uint64_t offset);

/* The table, of memory_plan_table_bytes(), after memory_plan_write(): the plan's. */
const void *memory_plan_table(const struct memory_plan *plan);

/* The snapshot is there. Without this call, memory_plan_free() gives the pages that SINCE told of
 * back to it. */
void memory_plan_commit(struct memory_plan *plan);

/* Frees a plan at whatever stage, and ends what protection there is. NULL is fine. */
void memory_plan_free(struct memory_plan *plan);

/* --- layers --- */

/* A file of a chain. Arrays of them have the newest first, and a full one last. */
struct memory_layer {
	const struct memory_table *table;
	int fd;
	uint64_t offset; /* of the area in the file */
	const struct snapshot_hash *hash;
	const char *name; /* for texts */
};

/* Whether LAYERS go together: the last one alone is full, and what is absent from one can be in the
 * one below. -IMPOST_EFORMAT. The calls below take it for granted. */
int memory_layers_check(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n);

/* Whether all digests of LAYERS are right, and what is not in their areas is zero there. -EBADMSG:
 * it is not so, the text names file and address; -ECANCELED; -ENODATA: a file has become shorter;
 * or what pread(2) says. */
int memory_layers_verify(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
			 uint32_t threads, memory_progress_fn *progress, void *opaque);

/* Reads BYTES at GPA, all of which is memory. What is read is verified. -EFAULT, and as above. */
int memory_layers_read(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
		       uint64_t gpa, void *buf, uint64_t bytes);

/* A plan for a full snapshot of what LAYERS have, which must outlive it. WANT has hash, threads and
 * progress. Writing it fails as memory_layers_verify() does. */
int memory_layers_plan(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
		       const struct memory_write *want, struct memory_plan **ret_plan);

/* --- restoring --- */

#define MEMORY_RESTORE_MAP  0u
#define MEMORY_RESTORE_COPY 1u
#define MEMORY_RESTORE_LAZY 2u

struct memory_restore {
	uint32_t how;	  /* MEMORY_RESTORE_* */
	bool no_prefetch; /* LAZY: bring what is touched, and nothing else */
	bool verify; /* MAP: all digests first, which takes as long as reading the files does */
	uint32_t threads; /* as in struct memory_write */
	memory_progress_fn *progress;
	void *opaque;
};

/*
 * Adds the regions of LAYERS to MEMORY, which has none, with their contents.
 *
 * MAP: private mappings of the files, which must not become shorter while the memory is there; for
 * more than one layer, what is not worth a mapping is read. COPY: memory as [memory] of the
 * configuration has it (read-only regions: anonymous memory), into which the layers are read; all
 * that is read is verified. LAZY: such memory too, of which a chunk is read and verified when it is
 * touched, and the others by and by. The files' descriptors may be closed, and the tables freed,
 * when the call has returned.
 *
 * On failure no region is left. -ENOTSUP: the backend makes the memory itself, so that it cannot be
 * mapped or lazy; [memory] has a file behind it, and it is to be lazy; the kernel has no
 * userfaultfd, or not for this process; -EBADMSG and others as above; or what impost_memory_add()
 * says.
 */
int memory_layers_restore(struct impost_memory *memory, const struct memory_layer *layers,
			  uint32_t n, const struct memory_restore *want);

#endif
