/* SPDX-License-Identifier: Apache-2.0 */
/* Host pointers to guest memory, one by one and as iovecs, and marks for what is written through
 * them. */
#include <impost/view.h>

#include <inttypes.h>

#include "access.h"
#include "memory.h"
#include "readers.h"
#include "view.h"

int impost_view_span(struct impost_view *view, uint64_t gpa, uint64_t bytes, void **ret_hva,
		     uint64_t *ret_len)
{
	const struct mapped *region = NULL;
	uint8_t *hva = NULL;
	uint64_t len = 0;
	int err = view_piece(view, gpa, bytes, &region, &hva, &len);

	if (!err)
		err = access_check(view->memory, region, hva, len, false);
	if (err)
		return err;
	*ret_hva = hva;
	*ret_len = len;
	return 0;
}

int impost_view_ptr_any(struct impost_view *view, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	uint64_t len = 0;
	void *hva = NULL;
	int err = impost_view_span(view, gpa, bytes, &hva, &len);

	if (err)
		return err;
	if (len < bytes)
		return impost_error_set(view->memory->ctx, -EFAULT,
					"0x%" PRIx64 ", %" PRIu64
					" bytes: not within one region of memory",
					gpa, bytes);
	*ret_hva = hva;
	return 0;
}

/* Elements for RANGE, which are iov[*count] and on as far as there is room; *COUNT grows by all. */
static int add_range(struct impost_view *view, const struct impost_range *range, struct iovec *iov,
		     uint64_t capacity, uint64_t *count)
{
	uint64_t done, len;
	int err = 0;

	for (done = 0; !err && done < range->bytes; done += len) {
		const struct mapped *region = view_region(view, range->gpa, done);
		uint8_t *hva;

		if (!region)
			return view_fault(view, range->gpa, range->bytes, range->gpa + done);
		hva = map_span(region, range->gpa + done, range->bytes - done, &len);
		if (*count < capacity)
			iov[*count] = (struct iovec){hva, len};
		(*count)++;
		err = access_check(view->memory, region, hva, len, false);
	}
	return err;
}

int impost_view_iovec(struct impost_view *view, const struct impost_range *ranges, uint64_t count,
		      struct iovec *iov, uint64_t capacity, uint64_t *ret_count)
{
	uint64_t need = 0;
	int err = view_map(view) ? 0 : -EINVAL;

	for (uint64_t i = 0; !err && i < count; i++)
		err = add_range(view, &ranges[i], iov, capacity, &need);
	if (err)
		return err;
	*ret_count = need;
	if (need > capacity)
		return impost_error_set(view->memory->ctx, -ENOSPC,
					"%" PRIu64 " ranges are %" PRIu64
					" elements: there is room for %" PRIu64,
					count, need, capacity);
	return 0;
}

int impost_view_mark_dirty(struct impost_view *view, uint64_t gpa, uint64_t bytes)
{
	uint64_t done, len;
	int err;

	if (!view_map(view))
		return -EINVAL;
	for (done = 0; done < bytes; done += len) {
		const struct mapped *region = view_region(view, gpa, done);

		if (!region)
			break;
		map_span(region, gpa + done, bytes - done, &len);
		view_mark(region, gpa + done, len);
	}
	err = view_tell(view, gpa, done);
	return done < bytes ? view_fault(view, gpa, bytes, gpa + done) : err;
}

int memory_lookup(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	struct reader *reader = reader_enter(memory);
	const struct mapped *region;
	uint8_t *hva = NULL;
	uint64_t len = 0;
	int err = 0;

	if (!reader)
		return -ENOMEM;
	region = map_at(atomic_load_explicit(&memory->map, memory_order_acquire), gpa);
	if (region)
		hva = map_span(region, gpa, bytes, &len);
	if (len < bytes || bytes == 0)
		err = -EFAULT;
	else
		err = access_check(memory, region, hva, bytes, false);
	reader_leave(reader);
	if (!err)
		*ret_hva = hva;
	return err;
}
