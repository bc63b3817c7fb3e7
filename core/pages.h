/* SPDX-License-Identifier: Apache-2.0 */
/* What questions about pages, and discarding them, depend on. */
#ifndef CORE_PAGES_H
#define CORE_PAGES_H

#include <stdbool.h>

#include <impost/memory.h>

#include "map.h"
#include "region.h"

/* Whether a page, which may be touched, is all zero. Aligned to 16 bytes. */
bool page_is_zero(const uint8_t *page);

/* Whether there is a file behind REGION that the map has open. */
static inline bool region_has_file(const struct mapped *region)
{
	return region->backing && region->backing->fd >= 0;
}

/* Whether pages are the region's own once they are written. Not asked where the library did not map
 * the memory itself. */
static inline bool region_is_private(const struct mapped *region)
{
	return !(region->flags & IMPOST_REGION_SHARED);
}

/* Bytes of the host's pages there. */
static inline uint64_t region_page_bytes(const struct mapped *region)
{
	return region->backing ? region->backing->page : IMPOST_PAGE_SIZE;
}

/* Gives the memory behind BYTES at GPA, whole pages in REGION, back to the kernel: anonymous, or
 * shared. Tells nobody. What the kernel says, with a text. */
int pages_drop(struct impost_memory *memory, const struct mapped *region, uint64_t gpa,
	       uint64_t bytes);

#endif
