/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups in maps of any shape: regions from a page to gigabytes, with gaps from none to
 * terabytes, so that one bucket of the index has many regions, and one region many buckets; and
 * clusters, with other regions so far away that the index leaves them out. What the inline calls
 * find, and what the library does, is what a search from region to region finds.
 */
#include <errno.h>
#include <sys/mman.h>

#include "core.h"
#include "random.h"

#define MAPS	 60u
#define REGIONS	 24u
#define PROBES	 40u
#define MOST_LOG 34u /* log2 of bytes of a region: 16 GiB */
#define FAR	 4u  /* regions away from a cluster, at the most */

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

/* Adds pages far from each other: in a terabyte each, of those from number FIRST on. */
static void add_far(struct layout *layout, uint64_t first, uint32_t count)
{
	for (uint64_t i = 0; i < count; i++)
		add_region(layout, ((first + 2 * i) << 40) + (draw_bytes(layout, 32) & UINT32_MAX),
			   IMPOST_PAGE_SIZE);
}

/* Adds COUNT regions of 1 MiB each, with small gaps, from FIRST on. */
static void add_cluster(struct layout *layout, uint64_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		add_region(layout, first, 1 << 20);
		first += (1 << 20) + random_below(&layout->state, 4) * IMPOST_PAGE_SIZE;
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

/* Checks the layout, removes regions one by one, and checks what stays now and then. */
static void check_fewer(struct layout *layout)
{
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
}

/* Regions of LAYOUT's memory from FIRST on, and the same without some of them. */
static void check_from(struct impost_context *ctx, struct layout *layout, uint64_t first)
{
	layout->count = 0;
	cr_assert(impost_memory_create(ctx, &layout->memory) == 0);
	if (first > UINT64_MAX / 2)
		add_region(layout, 0, IMPOST_PAGE_SIZE); /* does not adjoin the last */
	add_regions(layout, first);
	check_fewer(layout);
	impost_memory_destroy(layout->memory);
}

/* Whether the inline calls find the middle of region number AT, which is where it has a bucket. */
static bool is_inline(const struct layout *layout, uint32_t at)
{
	uint64_t middle = layout->region[at].gpa + layout->region[at].bytes / 2;
	struct impost_view view;
	bool found;

	cr_assert(impost_view_begin(layout->memory, &view) == 0);
	found = impost_view_readable(&view, middle, 1) != NULL;
	impost_view_end(&view);
	return found;
}

static uint32_t count_inline(const struct layout *layout)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < layout->count; i++)
		count += is_inline(layout, i);
	return count;
}

/* A cluster with regions far below it and far above it, one of them at the end of all addresses. */
static void check_cluster(struct impost_context *ctx, struct layout *layout, uint32_t below,
			  uint32_t above)
{
	uint32_t far = below + above + 1, count = REGIONS - far;

	layout->count = 0;
	cr_assert(impost_memory_create(ctx, &layout->memory) == 0);
	add_far(layout, 0, below);
	add_cluster(layout, UINT64_C(1) << 50, count);
	add_far(layout, 1 << 12, above);
	add_region(layout, UINT64_MAX - (IMPOST_PAGE_SIZE - 1), IMPOST_PAGE_SIZE);
	cr_assert(count_inline(layout) >= count, "%u below, %u above: %u inline", below, above,
		  count_inline(layout));
	check_fewer(layout);
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

Test(map, a_few_regions_far_away_do_not_make_the_others_slow, .timeout = 60)
{
	struct impost_context *ctx = open_context();
	struct layout layout = {.state = 1};

	for (uint32_t below = 0; below < FAR; below++)
		for (uint32_t above = 0; above + below < FAR; above++)
			check_cluster(ctx, &layout, below, above);
	impost_context_close(ctx);
}

Test(map, memory_below_4_gib_and_far_up_is_all_found_inline)
{
	struct impost_context *ctx = open_context();
	struct layout layout = {.state = 1};

	cr_assert(impost_memory_create(ctx, &layout.memory) == 0);
	add_region(&layout, 0, UINT64_C(3) << 30);
	add_region(&layout, UINT64_C(1) << 40, UINT64_C(64) << 30);
	cr_assert(count_inline(&layout) == layout.count);
	check(&layout);
	impost_memory_destroy(layout.memory);
	impost_context_close(ctx);
}

Test(map, small_regions_do_not_take_the_table_from_large_ones)
{
	struct impost_context *ctx = open_context();
	struct layout layout = {.state = 1};

	cr_assert(impost_memory_create(ctx, &layout.memory) == 0);
	for (uint64_t i = 0; i < 6; i++)
		add_region(&layout, i << 17, 1 << 16);
	add_region(&layout, 1 << 20, UINT64_C(3) << 30);
	add_region(&layout, UINT64_C(4) << 30, UINT64_C(60) << 30);
	for (uint32_t i = 6; i < layout.count; i++)
		cr_assert(is_inline(&layout, i));
	check(&layout);
	impost_memory_destroy(layout.memory);
	impost_context_close(ctx);
}
