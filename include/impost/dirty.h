/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking: which pages of guest memory were written, by the guest or by the host.
 *
 * An object of this header is one reader's view. There may be several of one memory at once (a diff
 * snapshot and a migration), opened and closed at any time while vCPUs run, and none sees what
 * another has taken. While there is at least one, the hypervisor's log is on and what is written
 * through memory.h and view.h is marked; without any neither costs anything.
 *
 * Work goes in passes: impost_dirty_sync() pulls what was written since the last time from the
 * hypervisor and from the host's marks, and impost_dirty_take() hands it out in ranges, in order of
 * address. A page that was taken is out of the view; written again, it comes again in a later pass.
 * What a pass tells is exact at sync: each page that was written since it was last taken (or, if it
 * never was, since the reader was created) and, but for the cases below, no other.
 *
 * A range's contents may be copied at any time after take returned it: they are as new as the mark,
 * or newer, and what is written after take returned is told by a later pass. So the copies of all
 * passes, each over the one before, are the memory itself once nobody writes any more. When vCPUs
 * stand, and no thread of the host writes, one pass that begins with a sync gives all that is left:
 * the last of a migration, to be made after the vCPUs' state was read, for reading state can write
 * guest memory.
 *
 * Pages are IMPOST_PAGE_SIZE. What counts as written:
 *  - by the guest, what the hypervisor logs: some log a page when only its accessed state changes,
 *    or a large page whole. A page that is written between sync and take may, where fetching and
 *    clearing the log are two steps (dirty-manual), come in this pass or in the next;
 *  - by the host, what goes through impost_memory_* and impost_view_* calls that write. What is
 *    written through a pointer from impost_memory_ptr() is not seen; impost_view_mark_dirty() tells
 *    of it;
 *  - regions added while a reader lives: all of their pages. Removed ones are gone from the view,
 *    also in the middle of a pass.
 *
 * Any thread may make these calls, several at once, on the same reader too (they wait for each
 * other; of what is taken by several threads each page goes to one of them). sync and take may be
 * called by a thread that has a view of the memory; create and destroy, which wait for views to
 * end, may not: -EDEADLK. In a fork every call returns -IMPOST_EFORKED.
 */
#ifndef IMPOST_DIRTY_H
#define IMPOST_DIRTY_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>
#include <impost/memory.h>
#include <impost/range.h>

struct impost_dirty;

/* Every page is in the view at first. With dirty-initially-set that costs nothing: pages are
 * protected one take after the other. Without this flag none is, and all are protected at once. */
#define IMPOST_DIRTY_ALL 1u
/* The host's writes alone; the hypervisor's log is not used, and need not be there. For memory
 * without a VM it makes no difference. */
#define IMPOST_DIRTY_HOST_ONLY 2u

struct impost_dirty_config {
	uint32_t size;	/* set by the caller to sizeof(struct impost_dirty_config) */
	uint32_t flags; /* IMPOST_DIRTY_* */
};

/* Counts of a reader. Pages, unless said otherwise. */
struct impost_dirty_stats {
	uint32_t size;	  /* set by the caller to sizeof(struct impost_dirty_stats) */
	uint32_t readers; /* of the memory, this one among them */
	uint64_t pending; /* in the view */
	uint64_t taken;	  /* by this reader, since it was created */
	uint64_t syncs;	  /* intervals that were measured: calls of impost_dirty_sync() */
	uint64_t passes;  /* that came to their end */
	/*
	 * Found written since the reader was created, by whichever reader's sync: in the
	 * hypervisor's log, and in the host's marks. A page counts once between two takes of it
	 * (dirty-manual) or two syncs (otherwise), and in both if both wrote. With
	 * IMPOST_DIRTY_HOST_ONLY the log's are 0.
	 */
	uint64_t from_log, from_host;
	uint64_t protects; /* calls that had the hypervisor protect pages again (dirty-manual) */
	/*
	 * The interval between this reader's last two syncs (the first begins with create), and the
	 * sum of all: nanoseconds, pages found written, and pages per second. A page counts once in
	 * an interval, though it be in the log and in the marks, or found by several readers'
	 * syncs.
	 */
	uint64_t last_ns, last_pages, last_rate;
	uint64_t all_ns, all_pages, all_rate;
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Makes a reader of MEMORY, which must outlive it. CONFIG NULL: no flags. The first one, and the
 * first without IMPOST_DIRTY_HOST_ONLY, switches tracking on in every region; where that fails it
 * is off again. Free with impost_dirty_destroy().
 *
 * -EINVAL: unknown flags, or a bad size; -E2BIG: as error.h has it; -ENOTSUP: the VM's backend has
 * no dirty-log, and IMPOST_DIRTY_HOST_ONLY is not given; -EDEADLK: the calling thread has a view;
 * -ENOMEM: none for the bitmaps (two bits a page for each reader, and three more); or what the
 * backend says, such as -EEXIST when the log is on already by impost_vm_dirty_start().
 */
IMPOST_API int impost_dirty_create(struct impost_memory *memory,
				   const struct impost_dirty_config *config,
				   struct impost_dirty **ret_dirty);

/*
 * Ends a reader; the last one switches tracking off. NULL is fine. No other thread may use it.
 * -EDEADLK: the calling thread has a view; -ENOMEM: none for a map without tracking:
 * in both cases the reader lives on. What a backend says that cannot stop its log is returned, too,
 * but by then the reader is gone.
 */
IMPOST_API int impost_dirty_destroy(struct impost_dirty *dirty);

/* The memory that DIRTY is a reader of. */
IMPOST_API struct impost_memory *impost_dirty_memory(const struct impost_dirty *dirty);

/*
 * Pulls what was written into the view, and into that of every other reader. System calls: one for
 * each region. To be called when a pass begins, and never needed within one. Fails with what the
 * backend says; what was pulled until then stays in the views, and the rest in the log.
 *
 * -EIO: the hypervisor has lost track of what was written, and the views lack it. They always will:
 * when all readers have ended, new ones can be trusted again.
 */
IMPOST_API int impost_dirty_sync(struct impost_dirty *dirty);

/*
 * Takes the next ranges, at most CAPACITY (not 0), out of the view and puts them into RANGES, in
 * order of address, each as long as can be, also across adjoining regions. *RET_COUNT below
 * CAPACITY means that the pass is over: the next call begins again at the lowest address. The last
 * range of one call and the first of the next may adjoin.
 *
 * With dirty-manual the hypervisor protects pages again just before they are returned, some 64 MiB
 * of memory at a time.
 *
 * -EINVAL: RANGES is NULL, or CAPACITY 0; or what the backend says. Then nothing has left the view,
 * *RET_COUNT is untouched, and RANGES undefined; the next call begins where this one did.
 */
IMPOST_API int impost_dirty_take(struct impost_dirty *dirty, struct impost_range *ranges,
				 uint64_t capacity, uint64_t *ret_count);

/* Counts. -EINVAL: a bad size. */
IMPOST_API int impost_dirty_stats(struct impost_dirty *dirty, struct impost_dirty_stats *ret_stats);

/* How many pages of the region that starts at GPA are in the view. -ENOENT: none starts there. */
IMPOST_API int impost_dirty_region(struct impost_dirty *dirty, uint64_t gpa, uint64_t *ret_pages);

#ifdef __cplusplus
}
#endif

#endif
