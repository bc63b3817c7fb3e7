/* SPDX-License-Identifier: Apache-2.0 */
/* Regions: what they are made of. */
#ifndef CORE_REGION_H
#define CORE_REGION_H

#include "memory.h"

/* A huge page: memory is placed so that gpa and hva agree modulo this, or the hypervisor cannot use
 * huge pages for it. */
#define HUGE_PAGE (UINT64_C(2) << 20)

/* The file behind a region. Its size is what it may lose: see access.h. */
struct backing {
	uint64_t offset; /* of the region's first byte */
	int fd;
};

/* A name of the file for texts, as the kernel tells it. */
void backing_name(const struct backing *backing, char *buf, size_t bytes);

/* Whether REGION, as the host wants it, is one that could be. -EINVAL. */
int region_check(struct impost_memory *memory, const struct impost_region *region);

/* Kinds that the backend cannot do, and the one that takes the place of anonymous memory where the
 * hypervisor wants to allocate. -ENOTSUP. */
int region_choose_kind(struct impost_memory *memory, struct mapped *region);

/* Gives REGION the memory that is its kind's, if that is the host's; and takes it back. */
int region_map(struct impost_memory *memory, struct mapped *region);
void region_unmap(const struct mapped *region);

#endif
