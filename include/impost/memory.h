/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: regions, and checked access to them. A map belongs to a VM (impost_vm_memory()),
 * where each region is a slot of the hypervisor, or stands alone (impost_memory_create()), for
 * tools and tests.
 *
 * Any thread may access, add and remove, at any time, while vCPUs run. Access takes no lock and
 * sees either all of a change or none; adding and removing are serialised inside, and removal
 * waits until nobody looks at the region any more. Many accesses in a row, and small ones, are
 * cheaper through a view (view.h). In a fork of the process that opened the context, calls return
 * -IMPOST_EFORKED.
 */
#ifndef IMPOST_MEMORY_H
#define IMPOST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>

struct impost_memory;

/* Granule of regions: bytes. */
#define IMPOST_PAGE_SIZE 4096u

/* Where a region's memory comes from. */

/* Private anonymous memory, made and unmapped by the map. In a VM whose backend has no mem-host but
 * mem-backend it is the hypervisor's, and impost_memory_get() tells IMPOST_REGION_BACKEND. */
#define IMPOST_REGION_ANONYMOUS 0u
#define IMPOST_REGION_POINTER	1u /* the host's own, at `hva`; must outlive the region */
/* Allocated by the hypervisor; only in a VM whose backend has mem-backend. */
#define IMPOST_REGION_BACKEND 2u

/* The guest cannot write; the host can, through this map. What a guest's write does is the
 * backend's: an MMIO exit (mem-readonly), or else nothing (mem-rom-drop). */
#define IMPOST_REGION_READONLY 1u
/* Anonymous: do not ask the host's kernel for the whole amount up front. */
#define IMPOST_REGION_NORESERVE 2u

/* A region: as it is to be (add), and as it is (get). */
struct impost_region {
	uint32_t size;	/* set by the caller to sizeof(struct impost_region) */
	uint32_t kind;	/* IMPOST_REGION_* */
	uint64_t gpa;	/* multiple of IMPOST_PAGE_SIZE */
	uint64_t bytes; /* multiple of IMPOST_PAGE_SIZE, not 0 */
	void *hva; /* in: for IMPOST_REGION_POINTER, page-aligned; out: where the host sees it */
	uint32_t flags;
	uint32_t reserved;
};

#ifdef __cplusplus
extern "C" {
#endif

/* Makes an empty map with no VM. Free with impost_memory_destroy(). -ENOMEM. */
IMPOST_API int impost_memory_create(struct impost_context *ctx, struct impost_memory **ret_memory);

/* Frees a map made by impost_memory_create(), and its anonymous regions. NULL is fine. Not for a
 * VM's map. */
IMPOST_API void impost_memory_destroy(struct impost_memory *memory);

/* The context that error texts about MEMORY go to. */
IMPOST_API struct impost_context *impost_memory_context(const struct impost_memory *memory);

/*
 * Adds a region. -EINVAL: zero or misaligned size or address, wrap-around, unknown kind or flag;
 * -EEXIST: it overlaps another (the text names both); -ENOMEM: more than the host has; -ENOSPC: the
 * backend has no slot left; -ENOTSUP: the backend cannot do this kind; or what the backend says.
 */
IMPOST_API int impost_memory_add(struct impost_memory *memory, const struct impost_region *region);

/*
 * Removes the region that starts at GPA: out of the guest, out of the map, and, when the views that
 * could see it have ended, which is waited for, out of the host's address space. -ENOENT: none
 * starts there; -EDEADLK: the calling thread has a view of MEMORY; or what the backend says.
 */
IMPOST_API int impost_memory_remove(struct impost_memory *memory, uint64_t gpa);

/* Gives region number INDEX, in order of address, from 0. -ENOENT: no more. */
IMPOST_API int impost_memory_get(struct impost_memory *memory, uint32_t index,
				 struct impost_region *ret_region);

/*
 * The host address of BYTES (not 0) at GPA, all in one region: -EFAULT if not. The only place that
 * turns a guest address into a host pointer. The pointer is valid until the region is removed, and
 * that no other thread removes it is the caller's to know; a view (view.h) holds off removal. What
 * is written through it is not seen by dirty tracking: use impost_memory_write() unless there is a
 * reason.
 */
IMPOST_API int impost_memory_ptr(struct impost_memory *memory, uint64_t gpa, uint64_t bytes,
				 void **ret_hva);

/*
 * Copies out of, into, and sets guest memory, across borders of adjoining regions. All or nothing:
 * -EFAULT, with the first address that is not memory in the text, and nothing is copied.
 */
IMPOST_API int impost_memory_read(struct impost_memory *memory, uint64_t gpa, void *buf,
				  size_t bytes);
IMPOST_API int impost_memory_write(struct impost_memory *memory, uint64_t gpa, const void *buf,
				   size_t bytes);
IMPOST_API int impost_memory_fill(struct impost_memory *memory, uint64_t gpa, uint8_t byte,
				  uint64_t bytes);

/*
 * Reads BYTES from FD at file OFFSET straight into guest memory, with no bounce buffer. -EFAULT as
 * above, checked before anything is read; -ENODATA: the file ends before; or what pread says. After
 * an error in the middle the range's contents are undefined.
 */
IMPOST_API int impost_memory_load_fd(struct impost_memory *memory, uint64_t gpa, int fd,
				     uint64_t offset, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
