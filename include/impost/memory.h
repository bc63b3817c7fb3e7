/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: regions, and checked access to them. A map belongs to a VM (impost_vm_memory()),
 * where each region is a slot of the hypervisor, or stands alone (impost_memory_create()), for
 * tools and tests.
 *
 * Any thread may access, add and remove, at any time, while vCPUs run. Access takes no lock and
 * sees either all of a change or none; adding and removing are serialised inside, and removal waits
 * until nobody looks at the region any more. Many accesses in a row, and small ones, are cheaper
 * through a view (view.h).
 *
 * In a fork of the process that opened the context, all calls that can fail return -IMPOST_EFORKED,
 * impost_memory_create() and impost_region_fill() too, but for impost_memory_destroy(), which frees
 * the fork's copy. A view that was begun before the fork may be ended there, and nothing else.
 */
#ifndef IMPOST_MEMORY_H
#define IMPOST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>

struct impost_memory;

/* Granule of regions: bytes. */
#define IMPOST_PAGE_SIZE 4096u

/* Sizes of huge pages of the host, for `page_bytes`. */
#define IMPOST_PAGE_2M (UINT64_C(2) << 20)
#define IMPOST_PAGE_1G (UINT64_C(1) << 30)

/* Where a region's memory comes from. */

/*
 * Private anonymous memory, made and unmapped by the map; for some that others can share, take
 * MEMFD. In a VM whose backend has no mem-host but mem-backend it is the hypervisor's, and
 * impost_memory_get() tells IMPOST_REGION_BACKEND.
 */
#define IMPOST_REGION_ANONYMOUS 0u
/*
 * The host's own, at `hva`; must outlive the region. All of it lies where a process can have
 * memory, and is taken to be readable and writable: access through this map to what is not, or is
 * no more, is the signal that a pointer's would be.
 */
#define IMPOST_REGION_POINTER 1u
/* Allocated by the hypervisor; only in a VM whose backend has mem-backend. */
#define IMPOST_REGION_BACKEND 2u
/*
 * A memfd (memfd_create(2)) that the map makes, sealed so that nobody can change its length, and
 * always shared: impost_memory_get() tells its descriptor, for processes that are to share the
 * guest's memory (vhost-user).
 */
#define IMPOST_REGION_MEMFD 3u
/* The file `path`, from `fd_offset` on. */
#define IMPOST_REGION_FILE 4u
/* What `fd` is open on, from `fd_offset` on. The map takes a duplicate; the caller keeps `fd`. */
#define IMPOST_REGION_FD 5u

/* The guest cannot write; the host can, through this map. What a guest's write does is the
 * backend's: an MMIO exit (mem-readonly), or else nothing (mem-rom-drop). */
#define IMPOST_REGION_READONLY 1u
/* Do not ask the host's kernel for the whole amount up front. Huge pages always are: the touch of
 * one that there is not would be SIGBUS. */
#define IMPOST_REGION_NORESERVE 2u
/*
 * MEMFD, FILE and FD: what is written goes into the file, and is seen by all who have it mapped;
 * without it a write makes a copy of the page, which is the region's own. A file that may only be
 * read, or is sealed against writing, can be shared with IMPOST_REGION_READONLY alone; then the
 * host's writes fail too (-EACCES). With READONLY a file at `path` is opened for reading if it may
 * not be opened for writing.
 */
#define IMPOST_REGION_SHARED 4u
/*
 * All pages are there when impost_memory_add() returns, which takes as long as it takes to zero or
 * read them; where the host has not as many, it fails. Private pages of a file are read, and copied
 * only when they are written.
 */
#define IMPOST_REGION_PREFAULT 8u
/*
 * FILE and FD: nobody will make the file shorter while the region is there; the host vouches for
 * it. Without this word, and without a seal (F_SEAL_SHRINK) that makes it true, access takes the
 * slower way that IMPOST_REGION_IS_DIRECT tells of. If it is broken, access is SIGBUS.
 */
#define IMPOST_REGION_TRUST_FILE 16u

/* How pages are placed on the host's NUMA nodes: set_mempolicy(2). */
#define IMPOST_NUMA_DEFAULT    0u /* as the thread's that touches first */
#define IMPOST_NUMA_PREFERRED  1u /* on one node while it has some */
#define IMPOST_NUMA_BIND       2u /* on these nodes alone */
#define IMPOST_NUMA_INTERLEAVE 3u /* on these in turn */

/* `state` of a region, as impost_memory_get() tells it. */

/* The host may write. */
#define IMPOST_REGION_IS_WRITABLE 1u
/*
 * Access through a host pointer cannot fault. It can where the region's file may become shorter:
 * the touch of a page that the file has no more is SIGBUS. The calls of this header and of view.h
 * return -EIO instead: they have the kernel copy (process_vm_readv(2)), which costs a system call.
 * That is so of all that copies, whatever its length. Only the typed calls of view.h
 * (impost_view_read_u16() and its like) for an aligned number, and the atomic ones, access it
 * directly, for no system call does so on our behalf, once the kernel has said that the page is
 * there: a file that becomes shorter in that very moment is still SIGBUS.
 */
#define IMPOST_REGION_IS_DIRECT 2u

/* For impost_memory_load_fd() and store_fd(): as offset, the descriptor's own position; as a flag,
 * less than all will do. */
#define IMPOST_FD_STREAM UINT64_MAX
#define IMPOST_FD_SOME	 1u

/* A region: as it is to be (add), and as it is (get). */
struct impost_region {
	uint32_t size;	/* set by the caller to sizeof(struct impost_region) */
	uint32_t kind;	/* IMPOST_REGION_* */
	uint64_t gpa;	/* multiple of IMPOST_PAGE_SIZE, and of page_bytes */
	uint64_t bytes; /* likewise, and not 0 */
	void *hva; /* in: for IMPOST_REGION_POINTER, page-aligned; out: where the host sees it */
	uint32_t flags;
	uint32_t reserved;
	/*
	 * In: IMPOST_PAGE_2M or IMPOST_PAGE_1G: of huge pages, which the host must have set aside
	 * (hugetlbfs); 0 or IMPOST_PAGE_SIZE: what the kernel, or the file, chooses. ANONYMOUS and
	 * MEMFD; for FILE and FD what the file must have. Out: IMPOST_PAGE_SIZE, or of huge pages.
	 */
	uint64_t page_bytes;
	int32_t fd; /* in: for FD; out: MEMFD, FILE, FD: the map's own, until removed; else -1 */
	uint32_t numa_policy; /* IMPOST_NUMA_*; not for POINTER and BACKEND */
	uint64_t fd_offset;   /* FILE, FD: where in the file; multiple of page_bytes */
	uint64_t numa_nodes;  /* bit N: the host's node N; 0 with IMPOST_NUMA_DEFAULT */
	const char *path;     /* in: for FILE, the caller's, not kept; out: NULL */
	uint32_t state;	      /* in: ignored; out: IMPOST_REGION_IS_* */
	uint32_t reserved2;
};

#ifdef __cplusplus
extern "C" {
#endif

/* Makes an empty map with no VM. Free with impost_memory_destroy(). -ENOMEM. */
IMPOST_API int impost_memory_create(struct impost_context *ctx, struct impost_memory **ret_memory);

/* Frees a map made by impost_memory_create(), and its regions, but for memory that is the host's
 * own. No view of it is under way any more. NULL is fine. Not for a VM's map. -EBUSY: it has
 * readers of dirty pages (dirty.h). */
IMPOST_API int impost_memory_destroy(struct impost_memory *memory);

/* The context that error texts about MEMORY go to. */
IMPOST_API struct impost_context *impost_memory_context(const struct impost_memory *memory);

/*
 * Fills REGION with what [memory] of CTX's configuration says that the guest's RAM is made of:
 * kind, flags, page_bytes, numa_policy, numa_nodes and path, which is the context's until the
 * configuration changes. What is left to set is gpa and bytes. -EINVAL: a key lacks another
 * that it needs: `backing = file` and `path` each other, `shared` a backing other than anonymous
 * memory, `numa_policy` and `numa_nodes` each other.
 */
IMPOST_API int impost_region_fill(struct impost_context *ctx, struct impost_region *region);

/*
 * Adds a region. -EINVAL: zero or misaligned size, address or offset, wrap-around, also of the
 * host's addresses or beyond what a process can have of them, unknown kind or flag, one that this
 * kind has not, a file that is none, no such NUMA node; -E2BIG: a member that is unknown to this
 * library is not 0 (error.h); -EEXIST: it overlaps another (the text names both); -ENOMEM: more
 * than the host has, of its memory or its huge pages (the text says how to reserve these); -ENOSPC:
 * the backend has no slot left; -ENOTSUP: the backend, or the host's kernel, cannot do this kind;
 * -ENODATA: the file is shorter than what is wanted of it; -EACCES: a shared file that may only be
 * read, without IMPOST_REGION_READONLY, or one that may not be read; -EISDIR: a folder; -ENOENT and
 * others: what open(2) says of `path`; -EBADF: `fd` is none; -EMFILE, -ENFILE: the process, or the
 * host, can open no more files, which MEMFD, FILE and FD each take one of; -EFBIG: a limit of the
 * process (RLIMIT_FSIZE); -EIO: prefaulting met a page that the file cannot give; -EDEADLK: as of
 * impost_memory_remove(); or what the backend says. On failure nothing has changed.
 */
IMPOST_API int impost_memory_add(struct impost_memory *memory, const struct impost_region *region);

/*
 * Removes the region that starts at GPA: out of the guest, out of the map, and, when the views that
 * could see it have ended, which is waited for, out of the host's address space. -ENOENT: none
 * starts there; -EDEADLK: the calling thread has a view (view.h), of whatever map, for which
 * another thread may be waiting; or what the backend says.
 */
IMPOST_API int impost_memory_remove(struct impost_memory *memory, uint64_t gpa);

/* Gives region number INDEX, in order of address, from 0. -ENOENT: no more. */
IMPOST_API int impost_memory_get(struct impost_memory *memory, uint32_t index,
				 struct impost_region *ret_region);

/*
 * The host address of BYTES (not 0) at GPA, all in one region: -EFAULT if not; -EIO: its file has
 * become shorter. The pointer is valid until the region is removed, and that no other thread
 * removes it is the caller's to know; a view (view.h) holds off removal. What is written through it
 * is not seen by dirty tracking, unless impost_view_mark_dirty() is called afterwards, and where
 * the region's `state` is not writable, or not direct, access may be a signal: use
 * impost_memory_write() unless there is a reason.
 */
IMPOST_API int impost_memory_ptr(struct impost_memory *memory, uint64_t gpa, uint64_t bytes,
				 void **ret_hva);

/*
 * Copies out of, into, and sets guest memory, across borders of adjoining regions. All or nothing:
 * -EFAULT, with the first address that is not memory in the text, -EACCES: a region there cannot be
 * written by the host neither, and -EIO: a region's file has become shorter: nothing is copied. A
 * file that becomes shorter, or of which a page cannot be read, in the middle of the copy is -EIO
 * too, and leaves the range's contents undefined.
 */
IMPOST_API int impost_memory_read(struct impost_memory *memory, uint64_t gpa, void *buf,
				  size_t bytes);
IMPOST_API int impost_memory_write(struct impost_memory *memory, uint64_t gpa, const void *buf,
				   size_t bytes);
IMPOST_API int impost_memory_fill(struct impost_memory *memory, uint64_t gpa, uint8_t byte,
				  uint64_t bytes);

/*
 * From a file descriptor straight into guest memory, and from guest memory into one: with no buffer
 * between, across borders of adjoining regions, by as many system calls as it takes. What a signal
 * interrupts goes on.
 *
 * OFFSET is where in the file; or IMPOST_FD_STREAM: where the descriptor stands, which then moves
 * on: for sockets, pipes and the like. There, waiting for the other side does not hold off removal
 * of regions, whether or not the descriptor blocks; only a descriptor of which the kernel knows no
 * way to ask without waiting, and that another thread empties or fills in the same moment, may. A
 * reader that has gone is -EPIPE, and no SIGPIPE.
 *
 * With IMPOST_FD_SOME, as much as one system call moves, which is at most 1 MiB, as far as there is
 * memory without a gap. A message is moved by one call. From a descriptor that does not block
 * (O_NONBLOCK): -EAGAIN if nothing can be moved now. Nothing moved, and no error, is the end of the
 * file.
 *
 * Without, all of BYTES, whatever that takes. -ENODATA: the file, or the stream, ends before.
 *
 * -EFAULT: not all of the range is memory; nothing is moved then, unless a region was removed in
 * the middle. -EINVAL: an unknown flag, or an OFFSET that no file can have. -EIO: the file behind
 * the guest's memory has become shorter. Or what read(2) or write(2) says: -ESPIPE for an offset in
 * a stream, and so on.
 *
 * *ret_done, unless NULL, is how many bytes were moved, also after an error. They are in the
 * guest's memory and marked as written; what lies behind them, up to BYTES, is undefined after an
 * error.
 */
IMPOST_API int impost_memory_load_fd(struct impost_memory *memory, uint64_t gpa, int fd,
				     uint64_t offset, uint64_t bytes, uint32_t flags,
				     uint64_t *ret_done);
IMPOST_API int impost_memory_store_fd(struct impost_memory *memory, uint64_t gpa, int fd,
				      uint64_t offset, uint64_t bytes, uint32_t flags,
				      uint64_t *ret_done);

#ifdef __cplusplus
}
#endif

#endif
