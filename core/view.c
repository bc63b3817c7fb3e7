/* SPDX-License-Identifier: Apache-2.0 */
/* Access to guest memory: what the inline calls of view.h fall back on, and calls that are views of
 * their own. */
#include <impost/view.h>

#include <inttypes.h>
#include <stdbool.h>

#include "access.h"
#include "context.h"
#include "memory.h"
#include "readers.h"
#include "view.h"
#include "vm.h"

int impost_view_begin(struct impost_memory *memory, struct impost_view *ret_view)
{
	struct impost_view view = {.memory = memory};
	const struct map *map;
	int err = memory_check(memory);

	if (err)
		return err;
	view.reader = reader_enter(memory);
	if (!view.reader)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a view");
	map = atomic_load_explicit(&memory->map, memory_order_acquire);
	view.map = map;
	view.windows = map->window;
	view.gpa = map->gpa;
	view.count = map->buckets;
	view.shift = map->shift;
	*ret_view = view;
	return 0;
}

void impost_view_end(struct impost_view *view)
{
	if (view->reader)
		reader_leave(view->reader);
	view->reader = NULL;
	view->map = NULL;
	view->count = 0;
}

/* The view's map. NULL, with a text: the view has not begun, or has ended. */
static const struct map *map_of(const struct impost_view *view)
{
	if (!view->map && view->memory)
		impost_error_set(view->memory->ctx, -EINVAL, "the view has ended");
	return view->map;
}

bool view_tells(const struct impost_memory *memory)
{
	return memory->vm && impost_caps_has(&memory->vm->caps, IMPOST_CAP_MARK_DIRTY);
}

static int fault(const struct impost_memory *memory, uint64_t gpa, uint64_t bytes, uint64_t at)
{
	return impost_error_set(memory->ctx, -EFAULT,
				"0x%" PRIx64 ", %" PRIu64
				" bytes: there is no memory at 0x%" PRIx64,
				gpa, bytes, at);
}

int view_check(const struct impost_view *view, uint64_t gpa, uint64_t bytes, bool write)
{
	const struct map *map = map_of(view);
	const struct mapped *region;
	uint64_t at = gpa, left = bytes, len;
	const uint8_t *hva;
	int err = map ? 0 : -EINVAL;

	for (; !err && left > 0; at += len, left -= len) {
		region = at == 0 && left != bytes ? NULL : map_at(map, at);
		if (!region)
			return fault(view->memory, gpa, bytes, at);
		hva = map_span(region, at, left, &len);
		err = access_check(view->memory, region, hva, len, write);
	}
	return err;
}

void view_mark(const struct mapped *region, uint64_t gpa, uint64_t bytes)
{
	uint64_t page = (gpa - region->gpa) / IMPOST_PAGE_SIZE;
	uint64_t last = (gpa - region->gpa + bytes - 1) / IMPOST_PAGE_SIZE;

	while (region->dirty && page <= last) {
		uint64_t most = 64 - page % 64,
			 pages = last - page + 1 < most ? last - page + 1 : most;

		atomic_fetch_or(&region->dirty[page / 64], (UINT64_MAX >> (64 - pages))
								   << (page % 64));
		page += pages;
	}
}

int view_tell(const struct impost_view *view, uint64_t gpa, uint64_t bytes)
{
	struct impost_vm *vm = view->memory->vm;

	if (bytes == 0 || !view_tells(view->memory))
		return 0;
	return VM_CALL(vm, vm->ops, vm->handle, mark_dirty, gpa, bytes);
}

int impost_view_ptr_any(struct impost_view *view, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	int err = view_check(view, gpa, bytes, false);
	const struct mapped *region = !err && bytes > 0 ? map_at(view->map, gpa) : NULL;
	uint64_t len = 0;
	uint8_t *hva = region ? map_span(region, gpa, bytes, &len) : NULL;

	if (err)
		return err;
	if (len < bytes || bytes == 0)
		return impost_error_set(view->memory->ctx, -EFAULT,
					"0x%" PRIx64 ", %" PRIu64
					" bytes: not within one region of memory",
					gpa, bytes);
	*ret_hva = hva;
	return 0;
}

static int read_regions(struct impost_view *view, uint64_t gpa, void *buf, uint64_t bytes)
{
	int err = view_check(view, gpa, bytes, false);
	uint8_t *to = buf;
	uint64_t len;

	for (; !err && bytes > 0; bytes -= len, gpa += len, to += len) {
		const struct mapped *region = map_at(view->map, gpa);
		const uint8_t *hva = map_span(region, gpa, bytes, &len);

		err = access_read(view->memory, region, hva, to, len);
	}
	return err;
}

int impost_view_read_any(struct impost_view *view, uint64_t gpa, void *buf, uint64_t bytes)
{
	const uint8_t *hva = impost_view_readable(view, gpa, bytes);

	if (hva) {
		access_copy_out(buf, hva, bytes);
		return 0;
	}
	return read_regions(view, gpa, buf, bytes);
}

static int write_regions(struct impost_view *view, uint64_t gpa, const void *buf, uint64_t bytes)
{
	int err = view_check(view, gpa, bytes, true), told;
	const uint8_t *from = buf;
	uint64_t len, done;

	for (done = 0; !err && done < bytes; done += len) {
		const struct mapped *region = map_at(view->map, gpa + done);
		uint8_t *hva = map_span(region, gpa + done, bytes - done, &len);

		err = access_write(view->memory, region, hva, from + done, len);
		view_mark(region, gpa + done, len);
	}
	told = view_tell(view, gpa, done); /* also of what an error left behind */
	return err ? err : told;
}

int impost_view_write_any(struct impost_view *view, uint64_t gpa, const void *buf, uint64_t bytes)
{
	uint8_t *hva = impost_view_writable(view, gpa, bytes);

	if (hva) {
		access_copy_in(hva, buf, bytes);
		return 0;
	}
	return write_regions(view, gpa, buf, bytes);
}

static int view_fill(struct impost_view *view, uint64_t gpa, uint8_t byte, uint64_t bytes)
{
	int err = view_check(view, gpa, bytes, true), told;
	uint64_t len, done;

	for (done = 0; !err && done < bytes; done += len) {
		const struct mapped *region = map_at(view->map, gpa + done);
		uint8_t *hva = map_span(region, gpa + done, bytes - done, &len);

		err = access_fill(view->memory, region, hva, byte, len);
		view_mark(region, gpa + done, len);
	}
	told = view_tell(view, gpa, done); /* also of what an error left behind */
	return err ? err : told;
}

/* --- calls that are views of their own --- */

int impost_memory_read(struct impost_memory *memory, uint64_t gpa, void *buf, size_t bytes)
{
	struct impost_view view;
	int err = impost_view_begin(memory, &view);

	if (err)
		return err;
	err = impost_view_read_any(&view, gpa, buf, bytes);
	impost_view_end(&view);
	return err;
}

int impost_memory_write(struct impost_memory *memory, uint64_t gpa, const void *buf, size_t bytes)
{
	struct impost_view view;
	int err = impost_view_begin(memory, &view);

	if (err)
		return err;
	err = impost_view_write_any(&view, gpa, buf, bytes);
	impost_view_end(&view);
	return err;
}

int impost_memory_fill(struct impost_memory *memory, uint64_t gpa, uint8_t byte, uint64_t bytes)
{
	struct impost_view view;
	int err = impost_view_begin(memory, &view);

	if (err)
		return err;
	err = view_fill(&view, gpa, byte, bytes);
	impost_view_end(&view);
	return err;
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

int impost_memory_ptr(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	int err = memory_check(memory);

	if (err)
		return err;
	err = memory_lookup(memory, gpa, bytes, ret_hva);
	if (err == -EFAULT)
		impost_error_set(memory->ctx, err,
				 "0x%" PRIx64 ", %" PRIu64
				 " bytes: not within one region of memory",
				 gpa, bytes);
	else if (err == -ENOMEM)
		impost_error_set(memory->ctx, err, "no memory for a view");
	return err;
}
