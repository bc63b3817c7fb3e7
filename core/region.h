/* SPDX-License-Identifier: Apache-2.0 */
/* Regions: what they are made of. */
#ifndef CORE_REGION_H
#define CORE_REGION_H

#include <stdbool.h>

#include "memory.h"

/* A huge page: memory is placed so that gpa and hva agree modulo this, or the hypervisor cannot use
 * huge pages for it. */
#define HUGE_PAGE (UINT64_C(2) << 20)

/* What is behind a region that the map itself made. */
struct backing {
	int fd;		 /* the file; -1: anonymous memory */
	uint32_t policy; /* IMPOST_NUMA_* */
	uint64_t offset; /* in the file, of the region's first byte */
	uint64_t page;	 /* bytes of a page */
	uint64_t nodes;
	bool mixed; /* parts of it are mapped from other files: see snapshot_memory_restore.c */
};

/* A name of the file for texts, as the kernel tells it. */
void backing_name(const struct backing *backing, char *buf, size_t bytes);

/* --- region.c --- */

/* Kinds that the backend cannot do, and the one that takes the place of anonymous memory where the
 * hypervisor wants to allocate. -ENOTSUP. */
int region_choose_kind(struct impost_memory *memory, const struct impost_region *want,
		       struct mapped *region);

/* Gives REGION the memory that is its kind's, if that is the host's; and takes it back. On failure
 * there is nothing to take back. */
int region_map(struct impost_memory *memory, const struct impost_region *want,
	       struct mapped *region);
void region_unmap(const struct mapped *region);

/* What impost_memory_get() tells. */
void region_tell(const struct mapped *region, struct impost_region *ret_region);

/* Whether it is all zero when it is new. */
bool region_is_fresh(const struct mapped *region);

/* --- region_config.c --- */

/*
 * Adds a region to a VM that is made again: the guest's RAM as [memory] says, but for its flags
 * WITHOUT, and with IMPOST_REGION_READONLY in FLAGS anonymous memory. Several regions of one file
 * lie there one behind the other: *FILE_OFFSET is where the next one begins, 0 for the first.
 */
int region_add_configured(struct impost_memory *memory, uint64_t gpa, uint64_t bytes,
			  uint32_t flags, uint32_t without, uint64_t *file_offset);

/* --- region_check.c --- */

/* Whether REGION, as the host wants it, is one that could be. -EINVAL. */
int region_check(struct impost_memory *memory, const struct impost_region *region);

/* Whether it can have pages of PAGE bytes. -EINVAL. */
int region_check_pages(struct impost_memory *memory, const struct impost_region *region,
		       uint64_t page);

/* The list of NODES as the configuration writes it, such as 0-1,3. Room: REGION_NODES. */
#define REGION_NODES 192
const char *region_nodes(uint64_t nodes, char *buf);

/* --- region_file.c: each opens a file for BACKING, checks it, and tells what the host may do with
 * it; on failure nothing is open --- */

int region_make_memfd(struct impost_memory *memory, const struct impost_region *want,
		      struct backing *backing, uint32_t *ret_access);
int region_open_path(struct impost_memory *memory, const struct impost_region *want,
		     struct backing *backing, uint32_t *ret_access);
int region_take_fd(struct impost_memory *memory, const struct impost_region *want,
		   struct backing *backing, uint32_t *ret_access);

/* --- region_place.c --- */

/* Maps REGION's memory from its backing, as WANT says, and has it placed and populated. */
int region_place(struct impost_memory *memory, const struct impost_region *want,
		 struct mapped *region);

/* Whether so much memory more is beyond what the host has: -ENOMEM. */
int region_check_amount(struct impost_memory *memory, const struct impost_region *want);

#endif
