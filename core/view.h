/* SPDX-License-Identifier: Apache-2.0 */
/* What ways of access to guest memory share: the check before, and the marks after. */
#ifndef CORE_VIEW_H
#define CORE_VIEW_H

#include <stdbool.h>

#include <impost/view.h>

#include "map.h"

/* Whether the backend is to be told of every write of the host's. */
bool view_tells(const struct impost_memory *memory);

/* Whether all of BYTES at GPA is memory that can be read, or written. -EFAULT; -EINVAL: the view
 * has ended; or what access_check() says. */
int view_check(const struct impost_view *view, uint64_t gpa, uint64_t bytes, bool write);

/*
 * Marks what was written, if somebody tracks, after it was written: who takes the marks and then
 * copies the pages either has the new bytes, or finds the mark next time. The OR is a full barrier,
 * so that the bytes are seen by whoever sees that the mark was there already.
 */
void view_mark(const struct mapped *region, uint64_t gpa, uint64_t bytes);

/* Tells a backend that must be told (IMPOST_CAP_MARK_DIRTY) of the whole of a write. */
int view_tell(const struct impost_view *view, uint64_t gpa, uint64_t bytes);

#endif
