/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups in maps of any shape: regions from a page to gigabytes, with gaps from none to
 * terabytes, so that one bucket of the index has many regions, and one region many buckets. What
 * the inline calls find, and what the library does, is what a search from region to region finds.
 */
#include <errno.h>
#include <sys/mman.h>

#include "core.h"
#include "random.h"

#define MAPS	 60u
#define REGIONS	 24u
#define PROBES	 40u
#define MOST_LOG 34u /* log2 of bytes of a region: 16 GiB */

struct layout {
	struct impost_memory *memory;
	struct impost_region region[REGIONS]; /* as impost_memory_get() tells them */
	uint32_t count;
	uint64_t state; /* of the numbers */
};

/* Whole pages: small numbers as likely as large ones. */
static uint64_t draw_bytes(struct layout *layout, uint32_t most_log)
{
	uint32_t bits = 12 + random_below(&layout->state, most_log - 12);

	return (UINT64_C(1) << bits | random_number(&layout->state) >> (64 - bits)) &
	       ~UINT64_C(4095);
}

/* Adds a region behind all others. */
static void add_region(struct layout *layout, uint64_t gpa, uint64_t bytes)
{
	const struct impost_region region = {.size = sizeof(region),
					     .kind = IMPOST_REGION_ANONYMOUS,
					     .flags = IMPOST_REGION_NORESERVE,
					     .gpa = gpa,
					     .bytes = bytes};
	struct impost_region *got = &layout->region[layout->count];

	got->size = sizeof(*got);
	cr_assert(impost_memory_add(layout->memory, &region) == 0);
	cr_assert(impost_memory_get(layout->memory, layout->count++, got) == 0);
}

/* Adds regions from FIRST on, as many as the address space has room for. */
static void add_regions(struct layout *layout, uint64_t first)
{
	uint64_t gpa = first;

	while (layout->count < REGIONS) {
		uint64_t bytes = draw_bytes(layout, MOST_LOG);
		uint64_t gap = random_below(&layout->state, 2) ? draw_bytes(layout, 42) : 0;

		if (bytes > UINT64_MAX - gpa)
			bytes = 0 - gpa; /* up to the last byte of all */
		add_region(layout, gpa, bytes);
		gpa += bytes;
		if (gpa == 0 || gap >= UINT64_MAX - gpa)
			return;
		gpa += gap;
	}
}

/* The region that GPA lies in. */
static const struct impost_region *search(const struct layout *layout, uint64_t gpa)
{
	for (uint32_t i = 0; i < layout->count; i++)
		if (gpa >= layout->region[i].gpa &&
		    gpa - layout->region[i].gpa < layout->region[i].bytes)
			return &layout->region[i];
	return NULL;
}

/* BYTES at GPA are found where they are, by both ways; or by none. */
static void probe(const struct layout *layout, struct impost_view *view, uint64_t gpa,
		  uint64_t bytes)
{
	const struct impost_region *region = search(layout, gpa);
	bool there = region && bytes <= region->bytes - (gpa - region->gpa);
	void *expected = there ? (uint8_t *)region->hva + (gpa - region->gpa) : NULL;
	void *in_line = NULL, *called = NULL, *of_memory = NULL;
	int err = there ? 0 : -EFAULT;

	cr_assert(impost_view_ptr(view, gpa, bytes, &in_line) == err);
	cr_assert(impost_view_ptr_any(view, gpa, bytes, &called) == err);
	cr_assert(impost_memory_ptr(layout->memory, gpa, bytes, &of_memory) == err);
	cr_assert(in_line == expected && called == expected && of_memory == expected);
}

/* The 32 bytes about the end of REGION are written and read as far as there is memory. */
static void cross(const struct layout *layout, struct impost_view *view,
		  const struct impost_region *region)
{
	uint64_t border = region->gpa + region->bytes;
	const struct impost_region *next = border ? search(layout, border) : NULL;
	uint8_t in[32], out[32] = {0};
	int err = next ? 0 : -EFAULT;

	for (uint32_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(random_number(&(uint64_t){border + i + 1}) >> 8);
	cr_assert(impost_view_write(view, border - 16, in, sizeof(in)) == err);
	cr_assert(impost_view_read(view, border - 16, out, sizeof(out)) == err);
	cr_assert(memcmp(out, next ? in : (uint8_t[32]){0}, sizeof(out)) == 0);
	if (!next)
		return;
	cr_assert(memcmp((uint8_t *)region->hva + region->bytes - 16, in, 16) == 0);
	cr_assert(memcmp(next->hva, in + 16, 16) == 0);
}

static void check(struct layout *layout)
{
	uint64_t end = layout->region[layout->count - 1].gpa +
		       (layout->region[layout->count - 1].bytes - 1);
	struct impost_view view;

	cr_assert(impost_view_begin(layout->memory, &view) == 0);
	for (uint32_t i = 0; i < layout->count; i++) {
		const struct impost_region *region = &layout->region[i];

		probe(layout, &view, region->gpa, 1);
		probe(layout, &view, region->gpa - 1, 1);
		probe(layout, &view, region->gpa + (region->bytes - 1), 1);
		probe(layout, &view, region->gpa + region->bytes, 1);
		probe(layout, &view, region->gpa, region->bytes);
		probe(layout, &view, region->gpa, region->bytes + 1);
		cross(layout, &view, region);
	}
	for (uint32_t i = 0; i < PROBES; i++) {
		uint64_t gpa = random_number(&layout->state);

		probe(layout, &view, gpa, 8);
		probe(layout, &view, gpa % end, 8);
	}
	impost_view_end(&view);
}

/* Regions of LAYOUT's memory from FIRST on, and the same without some of them. */
static void check_from(struct impost_context *ctx, struct layout *layout, uint64_t first)
{
	layout->count = 0;
	cr_assert(impost_memory_create(ctx, &layout->memory) == 0);
	if (first > UINT64_MAX / 2)
		add_region(layout, 0, IMPOST_PAGE_SIZE); /* does not adjoin the last */
	add_regions(layout, first);
	check(layout);
	while (layout->count > 1) {
		uint32_t gone = random_below(&layout->state, layout->count);

		cr_assert(impost_memory_remove(layout->memory, layout->region[gone].gpa) == 0);
		layout->count--;
		memmove(&layout->region[gone], &layout->region[gone + 1],
			(layout->count - gone) * sizeof(layout->region[0]));
		if (layout->count % 4 == 1)
			check(layout);
	}
	impost_memory_destroy(layout->memory);
}

Test(map, addresses_in_any_layout_are_found, .timeout = 60)
{
	struct impost_context *ctx = open_context();
	struct layout layout = {.state = 1};

	for (uint32_t i = 0; i < MAPS; i++) {
		check_from(ctx, &layout, 0);
		check_from(ctx, &layout, draw_bytes(&layout, 48));
		check_from(ctx, &layout, 0 - draw_bytes(&layout, 40));
	}
	impost_context_close(ctx);
}
