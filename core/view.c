/* SPDX-License-Identifier: Apache-2.0 */
/* Views: their begin and end, the check before an access, and the marks after. */
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
	return view_begin(memory, ret_view);
}

void impost_view_end(struct impost_view *view)
{
	view_end(view);
}

const struct map *view_map(const struct impost_view *view)
{
	if (!view->map && view->memory)
		impost_error_set(view->memory->ctx, -EINVAL, "the view has ended");
	return view->map;
}

bool view_tells(const struct impost_memory *memory)
{
	return memory->vm && impost_caps_has(&memory->vm->caps, IMPOST_CAP_MARK_DIRTY);
}

int view_fault(const struct impost_view *view, uint64_t gpa, uint64_t bytes, uint64_t at)
{
	return impost_error_set(view->memory->ctx, -EFAULT,
				"0x%" PRIx64 ", %" PRIu64
				" bytes: there is no memory at 0x%" PRIx64,
				gpa, bytes, at);
}

int view_reach(const struct impost_view *view, uint64_t gpa, uint64_t bytes, bool write,
	       uint64_t *ret_reach)
{
	int err = view_map(view) ? 0 : -EINVAL;
	uint64_t done = 0, len;

	while (!err && done < bytes) {
		const struct mapped *region = view_region(view, gpa, done);

		if (!region) {
			err = -EFAULT;
			break;
		}
		map_span(region, gpa + done, bytes - done, &len);
		err = view_check_piece(view, region, gpa + done, len, write);
		done += err ? 0 : len;
	}
	*ret_reach = done;
	return err;
}

int view_check(const struct impost_view *view, uint64_t gpa, uint64_t bytes, bool write)
{
	uint64_t reach;
	int err = view_reach(view, gpa, bytes, write, &reach);

	return err == -EFAULT ? view_fault(view, gpa, bytes, gpa + reach) : err;
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
