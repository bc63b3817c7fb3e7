/* SPDX-License-Identifier: Apache-2.0 */
/* What ways of access to guest memory share: the check before, the pieces, the marks after. */
#ifndef CORE_VIEW_H
#define CORE_VIEW_H

#include <stdbool.h>

#include <impost/view.h>

#include "access.h"
#include "context.h"
#include "map.h"
#include "memory.h"
#include "readers.h"

/* What impost_view_begin() and impost_view_end() do: inline for calls that are views of their own,
 * which are a few nanoseconds long. */
static inline int view_begin(struct impost_memory *memory, struct impost_view *ret_view)
{
	struct reader *reader;
	const struct map *map;

	if (context_forked(memory->ctx)) {
		context_refuse_fork(memory->ctx);
		return -IMPOST_EFORKED;
	}
	reader = reader_enter(memory);
	if (__builtin_expect(!reader, 0)) {
		impost_error_set(memory->ctx, -ENOMEM, "no memory for a view");
		return -ENOMEM;
	}
	map = atomic_load_explicit(&memory->map, memory_order_acquire);
	*ret_view = (struct impost_view){
		.memory = memory,
		.map = map,
		.reader = reader,
		.windows = map->window,
		.gpa = map->gpa,
		.count = map->buckets,
		.shift = map->shift,
		.serial = reader->serial,
	};
	return 0;
}

static inline void view_end(struct impost_view *view)
{
	struct reader *self = reader_self;

	/* One of another thread's, even of one that had our place, is not ours to end. */
	if (view->reader && view->reader == self && view->serial == self->serial)
		reader_leave(self);
	view->reader = NULL;
	view->map = NULL;
	view->count = 0;
}

/* Whether the backend is to be told of every write of the host's. */
bool view_tells(const struct impost_memory *memory);

/* The view's map. NULL, with a text: the view has not begun, or has ended. */
const struct map *view_map(const struct impost_view *view);

/* Whether all of BYTES at GPA can be read, or written: -EFAULT; -EINVAL: the view has ended; or
 * what access_check() says. */
int view_check(const struct impost_view *view, uint64_t gpa, uint64_t bytes, bool write);

/* The same, and how far they can, which is all if it returns 0. There is no text for -EFAULT. */
int view_reach(const struct impost_view *view, uint64_t gpa, uint64_t bytes, bool write,
	       uint64_t *ret_reach);

/* The same for BYTES that are all in REGION. */
static inline int view_check_piece(const struct impost_view *view, const struct mapped *region,
				   uint64_t gpa, uint64_t bytes, bool write)
{
	return access_check(view->memory, region, map_span(region, gpa, bytes, &bytes), bytes,
			    write);
}

/* -EFAULT, with a text: of BYTES at GPA, what is at AT is no memory. */
int view_fault(const struct impost_view *view, uint64_t gpa, uint64_t bytes, uint64_t at);

/*
 * The first piece of BYTES at GPA: its region, where the host sees it, and its length, which is
 * less than BYTES where the region ends. Whether it may be accessed is the caller's to check.
 * -EFAULT: no memory, or BYTES is 0; -EINVAL: the view has ended.
 */
static inline int view_piece(const struct impost_view *view, uint64_t gpa, uint64_t bytes,
			     const struct mapped **ret_region, uint8_t **ret_hva, uint64_t *ret_len)
{
	const struct map *map = view_map(view);
	const struct mapped *region;

	if (!map)
		return -EINVAL;
	region = bytes > 0 ? map_at(map, gpa) : NULL;
	if (!region) {
		view_fault(view, gpa, bytes, gpa);
		return -EFAULT;
	}
	*ret_region = region;
	*ret_hva = map_span(region, gpa, bytes, ret_len);
	return 0;
}

/* The region with the byte that is DONE bytes on from GPA. NULL: no memory is there, or the address
 * space has ended. */
static inline const struct mapped *view_region(const struct impost_view *view, uint64_t gpa,
					       uint64_t done)
{
	return gpa + done < gpa ? NULL : map_at(view->map, gpa + done);
}

/*
 * Marks what was written, if somebody tracks, after it was written: who takes the marks and then
 * copies the pages either has the new bytes, or finds the mark next time. The OR is a full barrier,
 * so that the bytes are seen by whoever sees that the mark was there already.
 */
void view_mark(const struct mapped *region, uint64_t gpa, uint64_t bytes);

/* Tells a backend that must be told (IMPOST_CAP_MARK_DIRTY) of the whole of a write. */
int view_tell(const struct impost_view *view, uint64_t gpa, uint64_t bytes);

#endif
