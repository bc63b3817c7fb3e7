/* SPDX-License-Identifier: Apache-2.0 */
/* The identity map: a walker of the test's own reads what was written, for all kinds of guests. */
#include "random.h"
#include "x86_64.h"

#include <impost/x86_64/registers.h>

#define TIB	  (UINT64_C(1) << 40)
#define PAGE_2M	  (2 * MIB)
#define PAGE_1G	  GIB
#define ADDRESSES 500 /* at random, for each map */

/* What a walk found. */
struct walk {
	int mapped;
	uint64_t physical;
	uint64_t page_bytes;
};

/*
 * Walks the tables at CR3 for ADDRESS (SDM vol. 3, 4.5.4 and figure 4-8 on). Each entry on the way
 * must allow writing and execution, belong to the supervisor, and have no reserved bit set.
 */
static struct walk walk(struct ram *ram, uint64_t cr3, unsigned int levels, uint64_t address)
{
	uint64_t table = cr3, entry;

	for (unsigned int level = levels; level > 0; level--) {
		unsigned int shift = 12 + 9 * (level - 1);
		uint64_t offset = (UINT64_C(1) << shift) - 1;

		cr_assert_eq(impost_memory_read(ram->memory, table + (address >> shift & 511) * 8,
						&entry, 8),
			     0);
		if (!(entry & 1)) {
			cr_assert_eq(entry, 0u);
			return (struct walk){0, 0, 0};
		}
		cr_assert_eq(entry & 0xffe, entry & 0x80 ? 0x82u : 2u, "flags: 0x%lx",
			     (unsigned long)entry);
		cr_assert_eq(entry >> 52, 0u, "execute-disable or ignored bits");
		if (entry & 0x80) {
			cr_assert(level == 2 || level == 3, "a page at level %u", level);
			cr_assert_eq(entry & offset & ~UINT64_C(0xfff), 0u, "reserved bits");
			return (struct walk){
				1, (entry & ~offset & ~UINT64_C(0xfff)) | (address & offset),
				offset + 1};
		}
		table = entry & ~UINT64_C(0xfff);
	}
	cr_assert_fail("a page of 4 KiB");
	return (struct walk){0, 0, 0};
}

/* A guest with BYTES of RAM as a PC has it, none of which is touched. */
static struct ram pc_make(uint64_t bytes)
{
	struct ram ram = ram_make(0);

	cr_assert_eq(impost_x86_add_ram(ram.memory, bytes), 0, "%s", impost_error(ram.ctx));
	return ram;
}

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) / to * to;
}

/* Is ADDRESS mapped to itself, by pages that have one memory type each, if it is below TOP? */
static void check_address(struct ram *ram, const struct impost_x86_paging *paging, uint64_t cr3,
			  uint64_t address)
{
	struct walk w = walk(ram, cr3, paging->levels, address);
	uint64_t large = address < 4 * GIB ? PAGE_2M : paging->page_bytes;

	cr_assert_eq(w.mapped, address < round_up(paging->end, large), "0x%lx",
		     (unsigned long)address);
	if (w.mapped) {
		cr_assert_eq(w.physical, address);
		cr_assert_eq(w.page_bytes, large);
	}
}

static void check_map(struct ram *ram, const struct impost_x86_paging *paging, uint64_t *seed)
{
	const uint64_t space = UINT64_C(1) << (paging->levels == 4 ? 48 : 57);
	struct impost_x86_layout layout;
	uint64_t cr3, bytes;

	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_write_page_tables(ram->memory, &layout, paging, &cr3), 0, "%s",
		     impost_error(ram->ctx));
	cr_assert_eq(impost_x86_page_tables_bytes(paging, &bytes), 0);
	cr_assert_eq(layout.count, 1u);
	cr_assert_eq(layout.place[0].gpa, cr3);
	cr_assert_eq(layout.place[0].bytes, bytes);
	for (int i = 0; i < ADDRESSES; i++) {
		uint64_t random = random_number(seed);

		check_address(ram, paging, cr3, random % paging->end);
		check_address(ram, paging, cr3, random % space);
		/* Near the end, and near a power of two. */
		check_address(ram, paging, cr3,
			      (paging->end + random % (8 * MIB) - 4 * MIB) % space);
		check_address(ram, paging, cr3,
			      ((UINT64_C(1) << random % 48) + (random >> 32) % 4096) % space);
	}
	check_address(ram, paging, cr3, 0);
	check_address(ram, paging, cr3, paging->end - 1);
}

Test(paging, every_address_of_ram_is_mapped_to_itself, .timeout = 120)
{
	static const uint64_t ends[] = {0, 1, 4095, PAGE_2M + 1}; /* so far before a power of two */
	uint64_t seed = 20;

	for (uint64_t size = 16 * MIB; size <= TIB; size *= 2) {
		for (size_t i = 0; i < 16; i++) {
			struct ram ram = pc_make(size);
			struct impost_x86_paging paging = {.size = sizeof(paging)};

			cr_assert_eq(impost_x86_paging_for(ram.memory, NULL, 0, &paging), 0);
			paging.levels = i & 1 ? 5 : 4;
			paging.page_bytes = i & 2 ? PAGE_1G : PAGE_2M;
			paging.end -= ends[i / 4];
			check_map(&ram, &paging, &seed);
			ram_free(&ram);
		}
	}
}

/* All of a small map, so that no entry is left to chance. */
Test(paging, every_page_of_a_map_and_nothing_beyond)
{
	static const uint64_t ends[] = {1, PAGE_2M, 4 * GIB, 4 * GIB + 1, 9 * GIB + 6 * MIB};

	for (size_t i = 0; i < 2 * sizeof(ends) / sizeof(ends[0]); i++) {
		struct impost_x86_paging paging = {.size = sizeof(paging),
						   .levels = 4,
						   .page_bytes = i & 1 ? PAGE_1G : PAGE_2M,
						   .end = ends[i / 2]};
		struct ram ram = ram_make(MIB);
		uint64_t cr3;

		cr_assert_eq(impost_x86_write_page_tables(ram.memory, NULL, &paging, &cr3), 0);
		cr_assert_eq(cr3, IMPOST_X86_PAGE_TABLE_ADDR);
		for (uint64_t at = 0; at < 12 * GIB; at += PAGE_2M) {
			check_address(&ram, &paging, cr3, at);
			check_address(&ram, &paging, cr3, at + PAGE_2M - 1);
		}
		ram_free(&ram);
	}
}

/* --- what is chosen --- */

static const struct impost_x86_cpuid with_all[] = {
	{.leaf = 7, .flags = IMPOST_X86_CPUID_SUBLEAF, .ecx = 1u << 16},
	{.leaf = 7, .subleaf = 1, .flags = IMPOST_X86_CPUID_SUBLEAF},
	{.leaf = 0x80000001, .edx = 1u << 26},
};

Test(paging, chooses_what_the_cpu_has)
{
	struct impost_x86_paging paging = {.size = sizeof(paging)};
	struct ram ram = ram_make(MIB);

	cr_assert_eq(impost_x86_paging_for(ram.memory, NULL, 0, &paging), 0);
	cr_assert_eq(paging.size, sizeof(paging));
	cr_assert_eq(paging.levels, 4u);
	cr_assert_eq(paging.page_bytes, PAGE_2M);
	cr_assert_eq(paging.end, 4 * GIB); /* also the devices below 4 GiB */
	cr_assert_eq(impost_x86_paging_for(ram.memory, with_all, 3, &paging), 0);
	cr_assert_eq(paging.levels, 4u); /* what is not needed is not used */
	cr_assert_eq(paging.page_bytes, PAGE_1G);
	cr_assert_eq(impost_x86_paging_for(ram.memory, with_all, 2, &paging), 0);
	cr_assert_eq(paging.page_bytes, PAGE_2M);
	add_region(&ram, 5 * GIB + 4096, 4096, 0);
	add_region(&ram, 7 * GIB, 4096, IMPOST_REGION_READONLY);
	cr_assert_eq(impost_x86_paging_for(ram.memory, with_all, 3, &paging), 0);
	cr_assert_eq(paging.end, 5 * GIB + 8192);
	ram_free(&ram);
}

Test(paging, five_levels_where_four_do_not_reach)
{
	struct impost_x86_paging paging = {.size = sizeof(paging)}, before = paging;
	struct ram ram = ram_make(MIB);

	add_region(&ram, (UINT64_C(1) << 47) - 4096, 4096, 0);
	cr_assert_eq(impost_x86_paging_for(ram.memory, with_all, 3, &paging), 0);
	cr_assert_eq(paging.levels, 4u);
	add_region(&ram, UINT64_C(1) << 47, 4096, 0);
	cr_assert_eq(impost_x86_paging_for(ram.memory, with_all, 3, &paging), 0);
	cr_assert_eq(paging.levels, 5u);
	cr_assert_eq(paging.end, (UINT64_C(1) << 47) + 4096);
	paging = before;
	assert_refused(&ram, impost_x86_paging_for(ram.memory, with_all + 1, 2, &paging), ENOTSUP,
		       "LA57");
	assert_refused(&ram, impost_x86_paging_for(ram.memory, NULL, 0, &paging), ENOTSUP, "LA57");
	add_region(&ram, UINT64_C(1) << 52, 4096, 0);
	assert_refused(&ram, impost_x86_paging_for(ram.memory, with_all, 3, &paging), EINVAL,
		       "52 address bits");
	paging.size = 4;
	assert_refused(&ram, impost_x86_paging_for(ram.memory, NULL, 0, &paging), EINVAL,
		       "impost_x86_paging has size 4");
	paging.size = sizeof(paging);
	cr_assert_arr_eq(&paging, &before, sizeof(before));
	ram_free(&ram);
}

/* A host may be built against another release: what it does not know is not given. */
Test(paging, structs_of_other_releases)
{
	struct {
		struct impost_x86_paging paging;
		uint64_t more;
	} longer = {{.size = sizeof(longer)}, PATTERN};
	struct ram ram = ram_make(MIB);
	struct impost_x86_sregs sregs = {.size = sizeof(sregs)};
	uint64_t bytes;

	cr_assert_eq(impost_x86_paging_for(ram.memory, NULL, 0, &longer.paging), 0);
	cr_assert_eq(longer.paging.size, sizeof(longer));
	cr_assert_eq(longer.paging.end, 4 * GIB);
	cr_assert_eq(longer.more, 0u);
	cr_assert_eq(impost_x86_page_tables_bytes(&longer.paging, &bytes), 0);
	longer.more = 1;
	cr_assert_eq(impost_x86_page_tables_bytes(&longer.paging, &bytes), -E2BIG);
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, NULL, &longer.paging, &bytes),
		       E2BIG, "impost_x86_paging asks for something");
	cr_assert_eq(impost_x86_setup_sregs(&sregs, IMPOST_X86_MODE_LONG, 0, &longer.paging, 0),
		     -E2BIG);
	ram_free(&ram);
}

/* --- sizes and places --- */

Test(paging, sizes)
{
	static const struct {
		uint64_t end, page_bytes;
		uint32_t levels, tables;
	} rows[] = {
		{1, PAGE_2M, 4, 3},
		{4 * GIB, PAGE_2M, 4, 6},
		{4 * GIB, PAGE_1G, 4, 6},
		{4 * GIB + 1, PAGE_2M, 4, 7},
		{4 * GIB + 1, PAGE_1G, 4, 6},
		{TIB, PAGE_2M, 4, 1 + 2 + 1024},
		{TIB, PAGE_1G, 4, 1 + 2 + 4},
		{TIB, PAGE_2M, 5, 2 + 2 + 1024},
		{TIB, PAGE_1G, 5, 2 + 2 + 4},
		{UINT64_C(1) << 47, PAGE_1G, 4, 1 + 256 + 4},
		{UINT64_C(1) << 52, PAGE_1G, 5, 1 + 16 + 8192 + 4},
	};
	uint64_t bytes;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct impost_x86_paging paging = {sizeof(paging), rows[i].levels,
							 rows[i].page_bytes, rows[i].end};

		cr_assert_eq(impost_x86_page_tables_bytes(&paging, &bytes), 0);
		cr_assert_eq(bytes, rows[i].tables * UINT64_C(4096), "row %zu: %lu", i,
			     (unsigned long)bytes / 4096);
	}
}

Test(paging, what_cannot_be_is_refused)
{
	static const struct impost_x86_paging rows[] = {
		{0, 4, PAGE_2M, GIB},
		{sizeof(rows[0]) - 1, 4, PAGE_2M, GIB},
		{UINT32_MAX, 4, PAGE_2M, GIB},
		{sizeof(rows[0]), 3, PAGE_2M, GIB},
		{sizeof(rows[0]), 6, PAGE_2M, GIB},
		{sizeof(rows[0]), 4, 4096, GIB},
		{sizeof(rows[0]), 4, 0, GIB},
		{sizeof(rows[0]), 4, PAGE_2M, 0},
		{sizeof(rows[0]), 4, PAGE_2M, (UINT64_C(1) << 47) + 1},
		{sizeof(rows[0]), 5, PAGE_1G, (UINT64_C(1) << 52) + 1},
		{sizeof(rows[0]), 5, PAGE_1G, UINT64_MAX},
	};
	struct ram ram = ram_make(MIB);
	struct impost_x86_layout layout;
	uint64_t bytes = PATTERN, cr3 = PATTERN;

	impost_x86_layout_init(&layout);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_assert_eq(impost_x86_page_tables_bytes(&rows[i], &bytes), -EINVAL, "row %zu", i);
		assert_refused(&ram,
			       impost_x86_write_page_tables(ram.memory, &layout, &rows[i], &cr3),
			       EINVAL,
			       rows[i].size == sizeof(rows[i]) ? "4 levels reach"
							       : "set it to its sizeof");
	}
	cr_assert_eq(impost_x86_page_tables_bytes(NULL, &bytes), -EINVAL);
	cr_assert_eq(impost_x86_page_tables_bytes(&rows[0], NULL), -EINVAL);
	cr_assert_eq(bytes, (uint64_t)PATTERN);
	cr_assert_eq(cr3, (uint64_t)PATTERN);
	cr_assert_eq(layout.count, 0u);
	ram_free(&ram);
}

/* 23 pages are free before the command line: tables for 20 GiB end there, for 21 they do not. */
Test(paging, large_tables_lie_high_and_clear_of_others)
{
	struct impost_x86_paging paging = {sizeof(paging), 4, PAGE_2M, 21 * GIB};
	struct ram ram = ram_make(16 * MIB);
	struct impost_x86_layout layout;
	uint64_t cr3 = PATTERN;

	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "initrd", 15 * MIB, MIB, 0), 0);
	cr_assert_eq(impost_x86_write_page_tables(ram.memory, &layout, &paging, &cr3), 0);
	cr_assert_eq(cr3, IMPOST_X86_PAGE_TABLE_ADDR);
	paging.end++;
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, NULL, &paging, &cr3), EFBIG,
		       "layout");
	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "initrd", 15 * MIB, MIB, 0), 0);
	cr_assert_eq(impost_x86_write_page_tables(ram.memory, &layout, &paging, &cr3), 0);
	cr_assert_eq(cr3, 15 * MIB - UINT64_C(24) * 4096);
	cr_assert_eq(layout.count, 2u);
	cr_assert_str_eq(layout.place[0].what, "page tables");
	cr_assert_eq(layout.place[0].type, 0u);
	ram_free(&ram);
}

/* CR3 is set in the 32-bit part of a kernel's start-up code, and what is below 1 MiB is small. */
Test(paging, large_tables_lie_between_1_mib_and_4_gib)
{
	const struct impost_x86_paging paging = {sizeof(paging), 4, PAGE_2M, 64 * GIB};
	struct impost_x86_layout layout;
	uint64_t cr3 = PATTERN, bytes;
	struct ram ram = ram_make(MIB); /* has room for them, between command line and EBDA */

	cr_assert_eq(impost_x86_page_tables_bytes(&paging, &bytes), 0);
	cr_assert_lt(bytes, IMPOST_X86_EBDA_ADDR - IMPOST_X86_CMDLINE_ADDR);
	impost_x86_layout_init(&layout);
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, &layout, &paging, &cr3),
		       EFBIG, "page tables");
	add_region(&ram, 4 * GIB, 16 * MIB, 0);
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, &layout, &paging, &cr3),
		       EFBIG, "page tables");
	cr_assert_eq(cr3, (uint64_t)PATTERN);
	cr_assert_eq(layout.count, 0u);
	add_region(&ram, 2 * MIB, 2 * MIB, 0);
	cr_assert_eq(impost_x86_write_page_tables(ram.memory, &layout, &paging, &cr3), 0);
	cr_assert_eq(cr3, 4 * MIB - bytes);
	ram_free(&ram);
}

Test(paging, all_or_nothing)
{
	const struct impost_x86_paging small = {sizeof(small), 4, PAGE_2M, 4 * GIB};
	const struct impost_x86_paging big = {sizeof(big), 4, PAGE_2M, TIB};
	struct ram ram = ram_make(IMPOST_X86_PAGE_TABLE_ADDR + UINT64_C(5) * 4096);
	struct impost_x86_layout layout, before;
	uint64_t cr3 = PATTERN, entry;

	impost_x86_layout_init(&layout);
	before = layout;
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, &layout, &small, &cr3),
		       EFAULT, "page tables");
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, &layout, &big, &cr3), EFBIG,
		       "page tables");
	cr_assert_eq(cr3, (uint64_t)PATTERN);
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_PAGE_TABLE_ADDR, &entry, 8), 0);
	cr_assert_eq(entry, 0u);
	cr_assert_eq(layout.count, before.count);
	ram_free(&ram);
}

Test(paging, two_sides_of_an_overlap_are_named)
{
	const struct impost_x86_paging paging = {sizeof(paging), 4, PAGE_2M, 4 * GIB};
	struct ram ram = ram_make(MIB);
	struct impost_x86_layout layout;
	uint64_t cr3;

	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "kernel", 0xa000, 4096, 0), 0);
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, &layout, &paging, &cr3),
		       EEXIST, "kernel");
	assert_refused(&ram, impost_x86_write_page_tables(ram.memory, &layout, &paging, &cr3),
		       EEXIST, "page tables");
	cr_assert_eq(layout.count, 1u);
	ram_free(&ram);
}
