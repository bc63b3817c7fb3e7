/* SPDX-License-Identifier: Apache-2.0 */
/* Giving the host back the memory behind pages that a guest does not need. */
#include <impost/pages.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "guard.h"
#include "map.h"
#include "memory.h"
#include "pager.h"
#include "pages.h"
#include "view.h"

/* Bytes that are discarded in one view. A multiple of all page sizes. */
#define CHUNK (UINT64_C(1) << 30)

/* Since Linux 5.18: like MADV_DONTNEED, of memory that is locked too. */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* Whether the part of REGION with BYTES at GPA can be discarded. */
static int judge(struct impost_memory *memory, const struct mapped *region, uint64_t gpa,
		 uint64_t bytes, uint32_t flags)
{
	const uint64_t page = region_page_bytes(region);
	const char *why = NULL;

	if (region->flags & IMPOST_REGION_READONLY)
		return impost_error_set(memory->ctx, -EACCES,
					"0x%" PRIx64 ": the region at 0x%" PRIx64
					" is read-only: a guest has nothing to give back there",
					gpa, region->gpa);
	if (gpa % page || bytes % page)
		return impost_error_set(memory->ctx, -EINVAL,
					"0x%" PRIx64 ", %" PRIu64
					" bytes in the region at 0x%" PRIx64
					": the host has pages of %" PRIu64
					" bytes there, and can take back whole ones only",
					gpa, bytes, region->gpa, page);
	if (region->kind == IMPOST_REGION_POINTER)
		why = "is the host's own pointer: the host knows what it is, and can discard it";
	else if (region->kind == IMPOST_REGION_BACKEND)
		why = "is the hypervisor's memory, which has no such operation";
	else if (region_has_file(region) && region_is_private(region) &&
		 !(flags & IMPOST_DISCARD_ANY_CONTENT))
		why = "is a private file: what is discarded would read as the file again; "
		      "IMPOST_DISCARD_ANY_CONTENT says that this will do";
	if (why)
		return impost_error_set(memory->ctx, -ENOTSUP,
					"0x%" PRIx64 ": the region at 0x%" PRIx64 " %s", gpa,
					region->gpa, why);
	return 0;
}

static int drop_private(uint8_t *hva, uint64_t bytes)
{
	if (!madvise(hva, bytes, MADV_DONTNEED))
		return 0;
	return errno == EINVAL && !madvise(hva, bytes, MADV_DONTNEED_LOCKED) ? 0 : -errno;
}

static int drop_shared(const struct backing *backing, uint64_t offset, uint64_t bytes)
{
	int err;

	do
		err = fallocate(backing->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)(backing->offset + offset), (off_t)bytes);
	while (err && errno == EINTR);
	return err ? -errno : 0;
}

static int drop(struct impost_memory *memory, const struct mapped *region, uint64_t gpa,
		uint8_t *hva, uint64_t bytes)
{
	int err = region_is_private(region)
			  ? drop_private(hva, bytes)
			  : drop_shared(region->backing, gpa - region->gpa, bytes);

	if (!err)
		return 0;
	return impost_error_set(memory->ctx, err == -EOPNOTSUPP ? -ENOTSUP : err,
				"0x%" PRIx64 ", %" PRIu64 " bytes in the region at 0x%" PRIx64
				": the host's kernel cannot discard it: %s",
				gpa, bytes, region->gpa, strerror(-err));
}

int pages_drop(struct impost_memory *memory, const struct mapped *region, uint64_t gpa,
	       uint64_t bytes)
{
	return drop(memory, region, gpa, region->hva + (gpa - region->gpa), bytes);
}

static int check_all(struct impost_view *view, uint64_t gpa, uint64_t bytes, uint32_t flags)
{
	int err = view_check(view, gpa, bytes, true);
	uint64_t len = 0;

	for (; !err && bytes > 0; bytes -= len, gpa += len) {
		const struct mapped *region = map_at(view->map, gpa);

		map_span(region, gpa, bytes, &len);
		err = judge(view->memory, region, gpa, len, flags);
	}
	return err;
}

/* Discards as many bytes, at most a chunk, as lie in one region. */
static int discard_chunk(struct impost_view *view, uint64_t gpa, uint64_t bytes, uint32_t flags,
			 uint64_t *ret_bytes)
{
	int err = check_all(view, gpa, bytes, flags);
	const struct mapped *region;
	uint64_t len;
	uint8_t *hva;
	int told;

	if (err)
		return err;
	region = map_at(view->map, gpa);
	hva = map_span(region, gpa, bytes < CHUNK ? bytes : CHUNK, &len);
	guard_save(view->memory, region, gpa, len);
	err = drop(view->memory, region, gpa, hva, len);
	view_mark(region, gpa, len); /* also where an error came after a part of it */
	told = view_tell(view, gpa, len);
	*ret_bytes = len;
	return err ? err : told;
}

int impost_pages_discard(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, uint32_t flags)
{
	struct impost_view view;
	uint64_t len = 0;
	int err = 0;

	if (flags & ~IMPOST_DISCARD_ANY_CONTENT)
		return impost_error_set(memory->ctx, -EINVAL,
					"flags 0x%x: unknown to this version of the library",
					flags);
	if (bytes == 0 || gpa % IMPOST_PAGE_SIZE || bytes % IMPOST_PAGE_SIZE)
		return impost_error_set(memory->ctx, -EINVAL,
					"0x%" PRIx64 ", %" PRIu64
					" bytes: it must be whole pages, of %u bytes",
					gpa, bytes, IMPOST_PAGE_SIZE);
	err = memory_settle(memory); /* what has not come yet would come after it was discarded */
	for (; !err && bytes > 0; gpa += len, bytes -= len) {
		err = impost_view_begin(memory, &view);
		if (err)
			return err;
		err = discard_chunk(&view, gpa, bytes, flags, &len);
		impost_view_end(&view);
	}
	return err;
}
