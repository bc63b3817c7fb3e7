/* SPDX-License-Identifier: Apache-2.0 */
/* The identity map that the 64-bit entry starts with (SDM vol. 3, 4.5; boot.rst wants it). */
#include "ram.h"

#include <assert.h>
#include <stdlib.h>

#include <impost/x86_64/boot.h>

#define ENTRIES	   512u
#define GIB	   (UINT64_C(1) << 30)
#define LARGE_PAGE (UINT64_C(2) << 20)
#define MAPPED_MIN 4u  /* GiB, whether there is memory or not */
#define MAPPED_MAX 16u /* GiB */

/* Bits of an entry (SDM vol. 3, tables 4-15 to 4-19). */
#define PTE_PRESENT UINT64_C(0x01)
#define PTE_WRITE   UINT64_C(0x02)
#define PTE_LARGE   UINT64_C(0x80)

struct table {
	uint64_t entry[ENTRIES];
};
static_assert(sizeof(struct table) == IMPOST_PAGE_SIZE, "SDM vol. 3, 4.5");
static_assert(IMPOST_X86_PAGE_TABLE_ADDR + (2 + MAPPED_MAX) * sizeof(struct table) <=
		      IMPOST_X86_CMDLINE_ADDR,
	      "the tables end before the command line");

/* The order of the tables in memory. */
enum { PML4, PDPT, PD };

/* Returns how many GiB are to be mapped, or an error. */
static int gigabytes(struct impost_memory *memory)
{
	uint64_t count = MAPPED_MIN;
	uint32_t cursor = 0;
	struct range run;
	int found;

	while ((found = ram_next(memory, &cursor, &run)) > 0) {
		if (run.start < MAPPED_MAX * GIB && (run.end - 1) / GIB + 1 > count)
			count = (run.end - 1) / GIB + 1;
	}
	if (found < 0)
		return found;
	return (int)(count < MAPPED_MAX ? count : MAPPED_MAX);
}

static uint64_t pointer_to(uint32_t table)
{
	return (IMPOST_X86_PAGE_TABLE_ADDR + table * sizeof(struct table)) | PTE_PRESENT |
	       PTE_WRITE;
}

static void fill(struct table *tables, uint32_t gib)
{
	tables[PML4].entry[0] = pointer_to(PDPT);
	for (uint32_t i = 0; i < gib; i++) {
		tables[PDPT].entry[i] = pointer_to(PD + i);
		for (uint32_t k = 0; k < ENTRIES; k++)
			tables[PD + i].entry[k] = (i * GIB + k * LARGE_PAGE) | PTE_PRESENT |
						  PTE_WRITE | PTE_LARGE;
	}
}

int impost_x86_write_page_tables(struct impost_memory *memory, uint64_t *ret_cr3)
{
	struct table *tables;
	int gib, err;

	gib = gigabytes(memory);
	if (gib < 0)
		return gib;
	tables = calloc(PD + (size_t)gib, sizeof(*tables));
	if (!tables)
		return impost_error_set(impost_memory_context(memory), -ENOMEM,
					"no memory for the guest's page tables");
	fill(tables, (uint32_t)gib);
	err = impost_memory_write(memory, IMPOST_X86_PAGE_TABLE_ADDR, tables,
				  (PD + (size_t)gib) * sizeof(*tables));
	free(tables);
	if (err == 0)
		*ret_cr3 = IMPOST_X86_PAGE_TABLE_ADDR;
	return err;
}
