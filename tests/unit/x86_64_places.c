/* SPDX-License-Identifier: Apache-2.0 */
/* Claiming and finding places in guest memory: against a model that asks every page. */
#include "random.h"
#include "x86_64.h"

#define PAGE  UINT64_C(4096)
#define PAGES 512u /* of the model: 2 MiB, so that the EBDA and ROM area is within */

/* Places are in order, apart, and have names and ranges. */
static void assert_sound(const struct impost_x86_layout *layout)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		const struct impost_x86_place *place = &layout->place[i];

		cr_assert_gt(place->bytes, 0u);
		cr_assert(*place->what);
		cr_assert(i == 0 ||
			  layout->place[i - 1].gpa + layout->place[i - 1].bytes <= place->gpa);
	}
}

static int claim(struct ram *ram, struct impost_x86_layout *layout, const char *what, uint64_t gpa,
		 uint64_t bytes)
{
	return impost_x86_layout_claim(ram->ctx, layout, what, gpa, bytes, 0);
}

Test(claim, agrees_with_a_model_and_names_both_sides)
{
	static uint16_t owner[PAGES]; /* number of the claim + 1; 0: free */
	struct ram ram = ram_make(0);
	uint32_t taken = 0, refused = 0;
	uint64_t seed = 7;

	for (uint32_t round = 0; round < 60; round++) {
		struct impost_x86_layout layout, before;

		impost_x86_layout_init(&layout);
		memset(owner, 0, sizeof(owner));
		for (uint16_t number = 1; number <= 40; number++) {
			uint32_t first = random_below(&seed, PAGES - 20),
				 pages = 1 + random_below(&seed, 20);
			char what[32], other[48];
			uint16_t clash = 0;
			int err;

			for (uint32_t p = first; p < first + pages && !clash; p++)
				clash = owner[p];
			snprintf(what, sizeof(what), "thing %u", number);
			before = layout;
			err = claim(&ram, &layout, what, first * PAGE, pages * PAGE);
			cr_assert_eq(err, clash ? -EEXIST : 0, "%s", impost_error(ram.ctx));
			assert_sound(&layout);
			if (!clash) {
				taken++;
				for (uint32_t p = first; p < first + pages; p++)
					owner[p] = number;
				continue;
			}
			refused++;
			snprintf(what, sizeof(what), "the thing %u (0x", number);
			cr_assert(strstr(impost_error(ram.ctx), what));
			snprintf(other, sizeof(other), "would lie over the thing %u (0x", clash);
			cr_assert(strstr(impost_error(ram.ctx), other), "%s",
				  impost_error(ram.ctx));
			cr_assert_arr_eq(&layout, &before, sizeof(layout));
		}
	}
	cr_assert(taken > 200 && refused > 200, "%u taken, %u refused", taken, refused);
	ram_free(&ram);
}

Test(claim, text_has_both_ranges)
{
	struct impost_x86_layout layout;
	struct ram ram = ram_make(0);

	impost_x86_layout_init(&layout);
	cr_assert_eq(claim(&ram, &layout, "kernel", 0x1000000, 0x200000), 0);
	assert_refused(&ram, claim(&ram, &layout, "ROM", 0x11fffff, 1), EEXIST,
		       "the ROM (0x11fffff to 0x11fffff) would lie over the kernel (0x1000000 to "
		       "0x11fffff)");
	cr_assert_eq(claim(&ram, &layout, "ROM", 0x1200000, 1), 0);
	cr_assert_eq(claim(&ram, &layout, "low ROM", 0xffffff, 1), 0);
	cr_assert_eq(layout.count, 3u);
	cr_assert_str_eq(layout.place[0].what, "low ROM");
	cr_assert_str_eq(layout.place[2].what, "ROM");
	ram_free(&ram);
}

Test(claim, what_cannot_be)
{
	static const struct {
		const char *what;
		uint64_t gpa, bytes;
		uint32_t type;
		const char *words;
	} wrong[] = {
		{"", 0, 1, 0, "1 to 31 can be"},
		{"a name that has one byte too many", 0, 1, 0, "1 to 31 can be"},
		{"x", 0, 0, 0, "0 bytes"},
		{"x", UINT64_MAX, 1, 0, "wraps around"},
		{"x", 1, UINT64_MAX, 0, "wraps around"},
		{"x", 0, 1, IMPOST_X86_E820_RAM, "a region of the memory map"},
		{"x", 0, 1, 6, "unknown e820 type"},
		{"x", 0, 1, 8, "unknown e820 type"},
		{"x", 0, 1, UINT32_MAX, "unknown e820 type"},
	};
	struct impost_x86_layout layout;
	struct ram ram = ram_make(0);

	impost_x86_layout_init(&layout);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused(&ram,
			       impost_x86_layout_claim(ram.ctx, &layout, wrong[i].what,
						       wrong[i].gpa, wrong[i].bytes, wrong[i].type),
			       EINVAL, wrong[i].words);
	cr_assert_eq(layout.count, 0u);
	cr_assert_eq(impost_x86_layout_claim(NULL, &layout, "x", 0, 0, 0), -EINVAL);
	assert_refused(&ram, claim(&ram, NULL, "x", 0, 1), EINVAL, "no layout");
	assert_refused(&ram, claim(&ram, &layout, NULL, 0, 1), EINVAL, "a name of 0 bytes");
	layout.size = 8;
	assert_refused(&ram, claim(&ram, &layout, "x", 0, 1), EINVAL, "impost_x86_layout_init");
	ram_free(&ram);
}

Test(claim, full)
{
	struct impost_x86_layout layout;
	struct ram ram = ram_make(0);

	impost_x86_layout_init(&layout);
	for (uint32_t i = 0; i < IMPOST_X86_PLACES_MAX; i++)
		cr_assert_eq(claim(&ram, &layout, "x", (IMPOST_X86_PLACES_MAX - i) * PAGE, 1), 0);
	assert_sound(&layout);
	assert_refused(&ram, claim(&ram, &layout, "y", 0, 1), ENOSPC, "the y beside 64 places");
	assert_refused(&ram, claim(&ram, &layout, "y", PAGE, 1), EEXIST, "would lie over");
	ram_free(&ram);
}

/* --- finding --- */

static struct impost_x86_want want_of(uint64_t bytes)
{
	return (struct impost_x86_want){
		.size = sizeof(struct impost_x86_want), .bytes = bytes, .what = "thing"};
}

/* What the model knows of a page. */
struct page {
	uint8_t ram;
	uint8_t taken;
};

/* Is every byte of the range in free RAM? */
static int is_free(const struct page *pages, uint64_t gpa, uint64_t bytes)
{
	if (gpa < IMPOST_X86_HIGH_RAM && gpa + bytes > IMPOST_X86_EBDA_ADDR)
		return 0;
	for (uint64_t p = gpa / PAGE; p <= (gpa + bytes - 1) / PAGE; p++) {
		if (p >= PAGES || !pages[p].ram || pages[p].taken)
			return 0;
	}
	return 1;
}

/* The highest aligned address that will do, by trying each; -1: none. */
static int64_t model(const struct page *pages, const struct impost_x86_want *want)
{
	uint64_t align = want->align ? want->align : PAGE;
	uint64_t max = want->max ? want->max : UINT64_MAX;

	for (int64_t gpa = PAGES * PAGE; gpa >= 0; gpa -= (int64_t)align) {
		uint64_t start = (uint64_t)gpa;

		if (start >= want->min && start + want->bytes - 1 <= max &&
		    is_free(pages, start, want->bytes))
			return gpa;
	}
	return -1;
}

/* Makes a random map of RAM and read-only pages. */
static struct ram random_ram(uint64_t *seed, struct page *pages)
{
	struct ram ram = ram_make(0);

	memset(pages, 0, PAGES * sizeof(*pages));
	for (uint32_t p = 0, run; p < PAGES; p += run) {
		uint32_t kind = random_below(seed, 5);

		run = 1 + random_below(seed, 80);
		run = run < PAGES - p ? run : PAGES - p;
		if (kind == 0)
			continue;
		add_region(&ram, p * PAGE, run * PAGE, kind == 1 ? IMPOST_REGION_READONLY : 0);
		for (uint32_t i = p; i < p + run; i++)
			pages[i].ram = kind != 1;
	}
	return ram;
}

Test(place, agrees_with_trying_every_address)
{
	static struct page pages[PAGES];
	uint32_t found = 0, refused = 0;
	uint64_t seed = 99;

	for (uint32_t round = 0; round < 40; round++) {
		struct ram ram = random_ram(&seed, pages);
		struct impost_x86_layout layout, before;

		impost_x86_layout_init(&layout);
		for (uint32_t k = 0; k < 30; k++) {
			struct impost_x86_want want = want_of(1 + random_below(&seed, 40 * 4096));
			uint64_t gpa = PATTERN;
			int64_t right;
			int err;

			want.align = random_below(&seed, 2) ? PAGE << random_below(&seed, 5) : 0;
			want.min = random_below(&seed, 2) ? random_below(&seed, PAGES * 4096) : 0;
			want.max = random_below(&seed, 2) ? random_below(&seed, PAGES * 4096) : 0;
			right = model(pages, &want);
			before = layout;
			err = impost_x86_layout_place(ram.memory, &layout, &want, &gpa);
			cr_assert_eq(err, right < 0 ? -EFBIG : 0, "%d: %s", err,
				     impost_error(ram.ctx));
			if (right < 0) {
				refused++;
				cr_assert_eq(gpa, (uint64_t)PATTERN);
				cr_assert_arr_eq(&layout, &before, sizeof(layout));
				continue;
			}
			found++;
			cr_assert_eq(gpa, (uint64_t)right, "0x%lx, not 0x%lx", (unsigned long)gpa,
				     (unsigned long)right);
			assert_sound(&layout);
			for (uint64_t p = gpa / PAGE; p <= (gpa + want.bytes - 1) / PAGE; p++)
				pages[p].taken = 1;
		}
		ram_free(&ram);
	}
	cr_assert(found > 100 && refused > 100, "%u found, %u refused", found, refused);
}

Test(place, small_alignments_share_pages)
{
	struct impost_x86_want want = want_of(3);
	struct impost_x86_layout layout;
	struct ram ram = ram_make(4 * MIB);
	uint64_t gpa;

	impost_x86_layout_init(&layout);
	want.align = 1;
	for (uint64_t i = 1; i <= 5; i++) {
		cr_assert_eq(impost_x86_layout_place(ram.memory, &layout, &want, &gpa), 0);
		cr_assert_eq(gpa, 4 * MIB - 3 * i);
	}
	want.align = 16;
	cr_assert_eq(impost_x86_layout_place(ram.memory, &layout, &want, &gpa), 0);
	cr_assert_eq(gpa, 4 * MIB - 32);
	ram_free(&ram);
}

Test(place, as_high_as_ram_goes)
{
	struct impost_x86_want want = want_of(PAGE);
	struct impost_x86_layout layout;
	struct ram ram = ram_make(4 * MIB);
	uint64_t gpa;

	impost_x86_layout_init(&layout);
	add_region(&ram, UINT64_C(1) << 50, MIB, 0);
	cr_assert_eq(impost_x86_layout_place(ram.memory, &layout, &want, &gpa), 0);
	cr_assert_eq(gpa, (UINT64_C(1) << 50) + MIB - PAGE);
	want.max = UINT32_MAX;
	cr_assert_eq(impost_x86_layout_place(ram.memory, &layout, &want, &gpa), 0);
	cr_assert_eq(gpa, 4 * MIB - PAGE);
	ram_free(&ram);
}

Test(place, text_says_what_is_free)
{
	struct impost_x86_want want = want_of(2 * MIB + 1);
	struct impost_x86_layout layout;
	struct ram ram = ram_make(4 * MIB);
	uint64_t gpa;

	impost_x86_layout_init(&layout);
	cr_assert_eq(claim(&ram, &layout, "kernel", 2 * MIB, PAGE), 0);
	assert_refused(&ram, impost_x86_layout_place(ram.memory, &layout, &want, &gpa), EFBIG,
		       "the thing needs 2097153 bytes of RAM from 0x0 to 0xffffffffffffffff; "
		       "beside what is taken there are 2093056 in one piece");
	want.align = 3;
	assert_refused(&ram, impost_x86_layout_place(ram.memory, &layout, &want, &gpa), EINVAL,
		       "alignment of 0x3");
	want = want_of(0);
	assert_refused(&ram, impost_x86_layout_place(ram.memory, &layout, &want, &gpa), EINVAL,
		       "0 bytes");
	want.size = 0;
	assert_refused(&ram, impost_x86_layout_place(ram.memory, &layout, &want, &gpa), EINVAL,
		       "impost_x86_want has size 0");
	ram_free(&ram);
}

/* A newer host's want is longer; only what asks for nothing there is taken. */
Test(place, a_want_of_another_size)
{
	struct {
		struct impost_x86_want known;
		uint64_t later;
	} want = {.known = want_of(PAGE), .later = 1};
	struct impost_x86_layout layout;
	struct ram ram = ram_make(4 * MIB);
	uint64_t gpa = 1;

	impost_x86_layout_init(&layout);
	want.known.size = sizeof(want);
	assert_refused(&ram, impost_x86_layout_place(ram.memory, &layout, &want.known, &gpa), E2BIG,
		       "impost_x86_want asks for something");
	cr_assert(gpa == 1 && layout.count == 0);
	want.later = 0;
	cr_assert_eq(impost_x86_layout_place(ram.memory, &layout, &want.known, &gpa), 0);
	ram_free(&ram);
}

/* --- e820 with places --- */

/* Model: the type of an address, asked by itself. */
static uint32_t type_at(const struct page *pages, const struct impost_x86_layout *layout,
			uint64_t at)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		const struct impost_x86_place *place = &layout->place[i];

		if (place->type && at >= place->gpa && at - place->gpa < place->bytes)
			return place->type;
	}
	if (at >= IMPOST_X86_EBDA_ADDR && at < IMPOST_X86_HIGH_RAM)
		return IMPOST_X86_E820_RESERVED;
	return at / PAGE < PAGES && pages[at / PAGE].ram ? IMPOST_X86_E820_RAM : 0;
}

/* Asserts that MAP agrees with the model at every KiB, which all borders are multiples of. */
static void assert_map(const struct impost_x86_e820 *map, uint32_t count, const struct page *pages,
		       const struct impost_x86_layout *layout)
{
	uint32_t at = 0;

	for (uint32_t i = 1; i < count; i++) {
		uint64_t end = map[i - 1].gpa + map[i - 1].bytes;

		cr_assert_leq(end, map[i].gpa, "entries overlap, or are out of order");
		cr_assert(end < map[i].gpa || map[i - 1].type != map[i].type, "not merged");
	}
	for (uint64_t gpa = 0; gpa < (PAGES + 64) * PAGE; gpa += 1024) {
		uint32_t type;

		while (at < count && gpa >= map[at].gpa + map[at].bytes)
			at++;
		type = at < count && gpa >= map[at].gpa ? map[at].type : 0;
		cr_assert_eq(type, type_at(pages, layout, gpa), "at 0x%lx", (unsigned long)gpa);
	}
	cr_assert_geq(at + 1, count, "entries behind all that there is");
}

Test(e820, model_of_places_in_ram_and_outside)
{
	static const uint32_t types[] = {0, IMPOST_X86_E820_RESERVED, IMPOST_X86_E820_ACPI,
					 IMPOST_X86_E820_NVS, IMPOST_X86_E820_PMEM};
	static struct page pages[PAGES];
	uint32_t typed = 0;
	uint64_t seed = 5;

	for (uint32_t round = 0; round < 100; round++) {
		struct ram ram = random_ram(&seed, pages);
		struct impost_x86_e820 map[IMPOST_X86_E820_MAX];
		struct impost_x86_layout layout;
		uint32_t count;

		impost_x86_layout_init(&layout);
		for (uint32_t k = 0; k < 30; k++) {
			uint64_t gpa = random_below(&seed, PAGES * 4 + 64) * UINT64_C(1024);
			uint32_t type = types[random_below(&seed, 5)];
			uint64_t bytes = (1 + random_below(&seed, 120)) * UINT64_C(1024);

			if (impost_x86_layout_claim(NULL, &layout, "x", gpa, bytes, type) == 0)
				typed += type != 0;
		}
		cr_assert_eq(impost_x86_e820(ram.memory, &layout, map, IMPOST_X86_E820_MAX, &count),
			     0, "%s", impost_error(ram.ctx));
		assert_map(map, count, pages, &layout);
		ram_free(&ram);
	}
	cr_assert_gt(typed, 500u);
}

Test(e820, what_a_pc_has)
{
	static const struct impost_x86_e820 want[] = {
		{0, 0x9fc00, IMPOST_X86_E820_RAM, 0},
		{0x9fc00, 0xe0000 - 0x9fc00, IMPOST_X86_E820_RESERVED, 0},
		{0xe0000, 0x2000, IMPOST_X86_E820_ACPI, 0},
		{0xe2000, 0x100000 - 0xe2000, IMPOST_X86_E820_RESERVED, 0},
		{0x100000, 0xb0000000 - 0x100000, IMPOST_X86_E820_RAM, 0},
		{0xb0000000, 0x10000000, IMPOST_X86_E820_RESERVED, 0},
		{0x100000000, 0x1000, IMPOST_X86_E820_RAM, 0},
	};
	struct impost_x86_e820 map[16];
	struct impost_x86_layout layout;
	struct ram ram = ram_make(0);
	uint32_t count;

	cr_assert_eq(impost_x86_add_ram(ram.memory, IMPOST_X86_HOLE_START + PAGE), 0);
	impost_x86_layout_init(&layout);
	cr_assert_eq(claim(&ram, &layout, "kernel", 16 * MIB, 64 * MIB), 0);
	cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "ACPI tables", IMPOST_X86_ACPI_ADDR,
					     0x2000, IMPOST_X86_E820_ACPI),
		     0);
	cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "ECAM", IMPOST_X86_ECAM_ADDR,
					     256 * MIB, IMPOST_X86_E820_RESERVED),
		     0);
	cr_assert_eq(impost_x86_e820(ram.memory, &layout, map, 16, &count), 0);
	cr_assert_eq(count, sizeof(want) / sizeof(want[0]));
	cr_assert_arr_eq(map, want, sizeof(want));
	layout.count = IMPOST_X86_PLACES_MAX + 1;
	assert_refused(&ram, impost_x86_e820(ram.memory, &layout, map, 16, &count), EINVAL,
		       "65 places");
	ram_free(&ram);
}
