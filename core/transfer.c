/* SPDX-License-Identifier: Apache-2.0 */
/* From a file straight into guest memory. */
#include <impost/view.h>

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "access.h"
#include "memory.h"
#include "region.h"
#include "view.h"

/* pread() until LEN bytes are there. */
static int load(struct impost_memory *memory, const struct mapped *region, int fd, uint8_t *hva,
		uint64_t offset, uint64_t len)
{
	uint64_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, hva + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EFAULT)
			return access_failed(memory, region, hva + done);
		if (n < 0)
			return impost_error_set(memory->ctx, -errno, "cannot read the file: %m");
		if (n == 0)
			return impost_error_set(memory->ctx, -ENODATA,
						"the file ends at %" PRIu64 ", %" PRIu64
						" bytes too early",
						offset + done, len - done);
		done += (uint64_t)n;
	}
	return 0;
}

/*
 * Asks for huge pages below BYTES at GPA of the region there, before they are touched first: a
 * large file then costs one fault for each 2 MiB and not 512. Advice, which the kernel need not
 * take.
 */
static void advise_huge(const struct mapped *region, uint64_t gpa, uint64_t bytes)
{
	uint64_t first = gpa & ~(HUGE_PAGE - 1);
	uint64_t last = (gpa + bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	uint64_t end = region->last + 1;

	if (region->kind != IMPOST_REGION_ANONYMOUS || bytes < HUGE_PAGE)
		return;
	if (first < region->gpa)
		first += HUGE_PAGE;
	if (!last || last > end)
		last = end & ~(HUGE_PAGE - 1);
	if (first < last)
		madvise(region->hva + (first - region->gpa), last - first, MADV_HUGEPAGE);
}

static int load_view(struct impost_view *view, uint64_t gpa, int fd, uint64_t offset,
		     uint64_t bytes)
{
	int err = view_check(view, gpa, bytes, true), told;
	uint64_t len, done;

	if (err)
		return err;
	for (done = 0; !err && done < bytes; done += len) {
		const struct mapped *region = map_at(view->map, gpa + done);
		uint8_t *hva = map_span(region, gpa + done, bytes - done, &len);

		advise_huge(region, gpa + done, len);
		err = load(view->memory, region, fd, hva, offset + done, len);
		view_mark(region, gpa + done, len);
	}
	told = view_tell(view, gpa, bytes); /* also of what an error left behind */
	return err ? err : told;
}

int impost_memory_load_fd(struct impost_memory *memory, uint64_t gpa, int fd, uint64_t offset,
			  uint64_t bytes)
{
	struct impost_view view;
	int err = impost_view_begin(memory, &view);

	if (err)
		return err;
	if (offset > INT64_MAX || bytes > INT64_MAX - offset)
		err = impost_error_set(memory->ctx, -EINVAL,
				       "%" PRIu64 " bytes at file offset %" PRIu64
				       ": no file is that long",
				       bytes, offset);
	else
		err = load_view(&view, gpa, fd, offset, bytes);
	impost_view_end(&view);
	return err;
}
