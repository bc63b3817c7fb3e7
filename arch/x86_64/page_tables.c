/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of an identity map (SDM vol. 3, 4.5). */
#include "page_tables.h"

#include "places.h"
#include "ram.h"

#include <assert.h>
#include <inttypes.h>

#define ENTRIES	    512u
#define LEVELS_MAX  4u /* that have tables: no page has 4 KiB */
#define SHIFT_LARGE 21u
#define SHIFT_HUGE  30u

/* Bits of an entry (SDM vol. 3, tables 4-15 to 4-19). */
#define PTE_PRESENT UINT64_C(0x01)
#define PTE_WRITE   UINT64_C(0x02)
#define PTE_LARGE   UINT64_C(0x80)

struct table {
	uint64_t entry[ENTRIES];
};
static_assert(sizeof(struct table) == IMPOST_PAGE_SIZE, "SDM vol. 3, 4.5");

/* All tables of a level: entry number I of them, counted through, is for address I << shift. */
struct level {
	unsigned int shift;
	uint64_t first; /* number of its first table: they lie level by level, from the top down */
	uint64_t count;
};

/* Which tables there are. */
struct plan {
	uint64_t end;	    /* what is mapped */
	uint64_t huge_from; /* 1 GiB pages from here */
	uint64_t tables;
	unsigned int levels;
	struct level level[LEVELS_MAX];
};

static uint64_t divide_up(uint64_t x, unsigned int shift)
{
	return (x >> shift) + ((x & ((UINT64_C(1) << shift) - 1)) != 0);
}

static int is_possible(const struct impost_x86_paging *paging)
{
	if (paging->levels != 4 && paging->levels != 5)
		return 0;
	if (paging->page_bytes != LARGE_PAGE && paging->page_bytes != HUGE_PAGE)
		return 0;
	return paging->end && paging->end <= (paging->levels == 4 ? END_LEVELS_4 : END_LEVELS_5);
}

/* Counts the tables for PAGING, which is possible. */
static struct plan make_plan(const struct impost_x86_paging *paging)
{
	struct plan plan = {.end = paging->end, .huge_from = paging->end};
	unsigned int top = paging->levels == 5 ? 48 : 39;

	if (paging->page_bytes == HUGE_PAGE && plan.huge_from > TYPES_END)
		plan.huge_from = TYPES_END;
	for (unsigned int shift = top; shift >= SHIFT_LARGE; shift -= 9) {
		uint64_t end = shift == SHIFT_LARGE ? plan.huge_from : plan.end;
		struct level level = {shift, plan.tables, divide_up(end, shift + 9)};

		plan.level[plan.levels++] = level;
		plan.tables += level.count;
	}
	return plan;
}

/* How many of ENTRIES entries for 1 << SHIFT bytes each, from FIRST on, begin below END. */
static uint64_t entries_below(uint64_t first, unsigned int shift, uint64_t end)
{
	uint64_t count = end > first ? divide_up(end - first, shift) : 0;

	return count < ENTRIES ? count : ENTRIES;
}

/* Fills table number INDEX of level L, for tables that begin at GPA: first pointers, then pages. */
static void fill(const struct plan *plan, unsigned int l, uint64_t index, uint64_t gpa,
		 struct table *table)
{
	const unsigned int shift = plan->level[l].shift;
	const uint64_t first = index * ENTRIES << shift;
	uint64_t pages_from = shift > SHIFT_HUGE    ? plan->end
			      : shift == SHIFT_HUGE ? plan->huge_from
						    : 0;
	uint64_t pointers = entries_below(first, shift, pages_from);
	uint64_t used = entries_below(first, shift, plan->end), k = 0;

	if (pointers)
		gpa += (plan->level[l + 1].first + index * ENTRIES) * sizeof(struct table);
	for (; k < pointers; k++)
		table->entry[k] = (gpa + k * sizeof(struct table)) | PTE_PRESENT | PTE_WRITE;
	for (; k < used; k++)
		table->entry[k] = (first + (k << shift)) | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
	for (; k < ENTRIES; k++)
		table->entry[k] = 0;
}

static int write_tables(struct impost_memory *memory, const struct plan *plan, uint64_t gpa)
{
	uint64_t at = gpa;
	int err = 0;

	for (unsigned int l = 0; l < plan->levels; l++) {
		for (uint64_t i = 0; i < plan->level[l].count && err == 0; i++) {
			struct table table;

			fill(plan, l, i, gpa, &table);
			err = impost_memory_write(memory, at, &table, sizeof(table));
			at += sizeof(table);
		}
	}
	return err;
}

int impost_x86_page_tables_bytes(const struct impost_x86_paging *paging, uint64_t *ret_bytes)
{
	int err = structure_check_known(NULL, "impost_x86_paging", paging, sizeof(*paging),
					LEAST_PAGING);

	if (err < 0)
		return err;
	if (!ret_bytes || !is_possible(paging))
		return -EINVAL;
	*ret_bytes = make_plan(paging).tables * sizeof(struct table);
	return 0;
}

/* Finds and claims a place for BYTES of tables. */
static int find_place(struct impost_memory *memory, struct impost_x86_layout *layout,
		      uint64_t bytes, uint64_t *ret_gpa)
{
	static const char what[] = "page tables";
	const struct range low = {IMPOST_X86_PAGE_TABLE_ADDR, IMPOST_X86_PAGE_TABLE_ADDR + bytes};
	const struct impost_x86_want want = {
		.size = sizeof(want),
		.bytes = bytes,
		.min = IMPOST_X86_HIGH_RAM,
		.max = IMPOST_X86_HOLE_END - 1,
		.what = what,
	};
	struct impost_context *ctx = impost_memory_context(memory);
	int err;

	if (low.end <= IMPOST_X86_CMDLINE_ADDR) {
		err = ram_check(memory, what, low);
		if (err == 0 && layout)
			err = impost_x86_layout_claim(ctx, layout, what, low.start, bytes, 0);
		if (err == 0)
			*ret_gpa = low.start;
		return err;
	}
	if (layout)
		return impost_x86_layout_place(memory, layout, &want, ret_gpa);
	return impost_error_set(ctx, -EFBIG,
				"page tables of %" PRIu64 " bytes do not fit below 0x%" PRIx64
				": another place takes a layout",
				bytes, IMPOST_X86_CMDLINE_ADDR);
}

int impost_x86_write_page_tables(struct impost_memory *memory, struct impost_x86_layout *layout,
				 const struct impost_x86_paging *paging, uint64_t *ret_cr3)
{
	struct impost_context *ctx = impost_memory_context(memory);
	struct plan plan;
	uint64_t gpa;
	int err;

	err = structure_check_known(ctx, "impost_x86_paging", paging, sizeof(*paging),
				    LEAST_PAGING);
	if (err < 0)
		return err;
	if (!is_possible(paging))
		return impost_error_set(ctx, -EINVAL,
					"an identity map to 0x%" PRIx64 " by pages of 0x%" PRIx64
					" bytes and %u levels: 4 levels reach 0x%" PRIx64
					", 5 levels 0x%" PRIx64 "; pages have 2 MiB or 1 GiB",
					paging->end, paging->page_bytes, paging->levels,
					END_LEVELS_4, END_LEVELS_5);
	plan = make_plan(paging);
	err = find_place(memory, layout, plan.tables * sizeof(struct table), &gpa);
	if (err)
		return err;
	err = write_tables(memory, &plan, gpa);
	if (err == 0)
		*ret_cr3 = gpa;
	else if (layout)
		places_release(layout, gpa);
	return err;
}
