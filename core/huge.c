/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages for memory that is about to be filled. */
#include "huge.h"

#include <sys/mman.h>

#include <impost/view.h>

#include "memory.h"
#include "region.h"
#include "view.h"

void huge_advise(const struct mapped *region, uint64_t gpa, uint64_t bytes)
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

/* Huge pages, by number, that are to be asked for together; and how much of the one behind them is
 * to be filled, as far as is known. */
struct run {
	const struct impost_view *view;
	uint64_t first, end;
	uint64_t filled;
};

static void ask(struct run *run)
{
	uint64_t gpa = run->first * HUGE_PAGE, left = (run->end - run->first) * HUGE_PAGE, len;

	for (; left > 0; gpa += len, left -= len) {
		const struct mapped *region = view_region(run->view, gpa, 0);

		len = left < HUGE_PAGE ? left : HUGE_PAGE;
		if (region) {
			map_span(region, gpa, left, &len);
			huge_advise(region, gpa, len);
		}
	}
}

/* Nothing more of the page at the run's end will come. */
static void close_page(struct run *run)
{
	if (run->filled >= HUGE_PAGE / 2) {
		run->end++;
	} else {
		ask(run);
		run->first = run->end = run->end + 1;
	}
	run->filled = 0;
}

static void add(struct run *run, uint64_t gpa, uint64_t bytes)
{
	while (bytes > 0) {
		uint64_t page = gpa / HUGE_PAGE, len = HUGE_PAGE - gpa % HUGE_PAGE;

		if (page != run->end) {
			close_page(run);
			if (page != run->end) {
				ask(run);
				run->first = run->end = page;
			}
		}
		if (len > bytes)
			len = bytes;
		run->filled += len;
		gpa += len;
		bytes -= len;
	}
}

void huge_advise_ranges(struct impost_memory *memory, const struct impost_range *ranges,
			uint64_t count)
{
	struct impost_view view;
	struct run run = {.view = &view};

	if (impost_view_begin(memory, &view))
		return;
	for (uint64_t i = 0; i < count; i++)
		add(&run, ranges[i].gpa, ranges[i].bytes);
	close_page(&run);
	ask(&run);
	impost_view_end(&view);
}
