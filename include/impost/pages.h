/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pages of guest memory are, beside dirty: all zero, or with no memory of the host's behind
 * them; and giving that memory back, as balloons do.
 *
 * Pages are of IMPOST_PAGE_SIZE, whatever the host uses. What a call says is true of a moment
 * during the call: the guest, and other threads, may have changed it since.
 *
 * All calls may be made from any thread, while regions are added and removed and vCPUs run. They
 * take long for much memory, and let who removes a region in between, each 16 MiB at the latest, or
 * each 1 GiB of a discard: what is gone then is -EFAULT. A thread that has a view of its own keeps
 * it all the while. In a fork of the process that made the VM they return -IMPOST_EFORKED. Texts of
 * errors are on impost_memory_context().
 */
#ifndef IMPOST_PAGES_H
#define IMPOST_PAGES_H

#include <stdint.h>

#include <impost/error.h>
#include <impost/memory.h>
#include <impost/range.h>

/* impost_pages_discard(): what the pages read as afterwards does not matter. */
#define IMPOST_DISCARD_ANY_CONTENT 1u

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Appends the ranges of pages in *RANGE that are all zero to the *COUNT ranges that RANGES has
 * already, as impost_bitmap_ranges() does: in order of address, as long as can be, and the last
 * that was there is continued if it ends where they begin. RANGES has room for CAPACITY. *COUNT
 * becomes their number, and *RANGE what has not been looked at: with `bytes` 0 all has, else RANGES
 * was full, and the call can be made again with *COUNT 0.
 *
 * Memory with a handler of missing pages (userfaultfd(2)) is no case for this call: what the
 * handler has not brought yet is taken for zero.
 *
 * Pages are looked at only as far as their first byte that is not zero. Those of which the kernel
 * knows that nothing was ever stored there are not touched, so that no memory is given to them. It
 * knows that of private anonymous memory, and of files, where the file has a hole; not of what is
 * behind the host's own pointer, or is the hypervisor's.
 *
 * -EFAULT: not all of *RANGE is guest memory; -EINVAL: it is not made of whole pages, goes beyond
 * 2^64, or *COUNT is more than CAPACITY; -EIO: a file behind a region has become shorter; -ENOMEM.
 * *RANGE and *COUNT are then as they were, what lies in RANGES is undefined.
 */
IMPOST_API int impost_pages_zero(struct impost_memory *memory, struct impost_range *range,
				 struct impost_range *ranges, uint64_t capacity, uint64_t *count);

/*
 * The same for pages that have memory behind them, in the host's RAM or in its swap. They are not
 * touched. What that means depends on the memory:
 *
 * private (anonymous, or of a file): pages that were written, and those that were read and have
 *	stayed in RAM, though it be the kernel's shared zero page; of a file, also those that are in
 *	its cache;
 * a file or memfd, shared: pages in the file's cache, whoever brought them there. What an ordinary
 *	file has on disk alone does not count, what a memfd has in swap does. The kernel tells it
 *	to those who own the file or may write it, and to others says that all pages are there;
 * huge pages (hugetlb), shared: those that this process has touched, or its guest. What only
 *	another process that has the file has touched, it cannot tell;
 * the host's own pointer, and the hypervisor's memory: whichever of these it is. Of a memfd there,
 *	pages in swap are not seen.
 *
 * Where huge pages are in use all pages of one have memory as soon as one has. What cannot be known
 * counts as populated.
 *
 * Errors as above; and -EACCES, or another of open(2): /proc/self/pagemap cannot be read.
 * Rules: mincore(2); proc(5), /proc/pid/pagemap; lseek(2), SEEK_DATA.
 */
IMPOST_API int impost_pages_populated(struct impost_memory *memory, struct impost_range *range,
				      struct impost_range *ranges, uint64_t capacity,
				      uint64_t *count);

/*
 * Gives the host back the memory behind BYTES (not 0) at GPA, whole pages, across borders of
 * adjoining regions. They read as zero afterwards, for guest and host, and have memory again when
 * one of them writes there. Where somebody tracks, they are marked dirty: their content changed.
 *
 * Shared memory is cut out of its file (fallocate(2), FALLOC_FL_PUNCH_HOLE), for all that have it
 * mapped. Private memory of a file would read as the file again (madvise(2), MADV_DONTNEED): that
 * is -ENOTSUP, unless FLAGS has IMPOST_DISCARD_ANY_CONTENT, for guests that promised to expect
 * nothing, as with a balloon's pages. What is pinned for a device (VFIO) stays the device's, while
 * guest and host get other pages: keep balloons off guests that have such.
 *
 * All is checked first. -EFAULT: not all of it is guest memory; -EINVAL: not whole pages, of the
 * size that the host uses there (the text says which), or unknown FLAGS; -EACCES: in a region that
 * is IMPOST_REGION_READONLY, or a file that may not be written; -ENOTSUP: the host's own pointer,
 * of which only the host knows what it is, the hypervisor's memory, a private file as above, or a
 * file system that cannot do it. After an error that comes from the kernel, the part before it may
 * have been discarded.
 */
IMPOST_API int impost_pages_discard(struct impost_memory *memory, uint64_t gpa, uint64_t bytes,
				    uint32_t flags);

#ifdef __cplusplus
}
#endif

#endif
