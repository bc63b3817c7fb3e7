/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages are asked for where most of one is to be filled, and nowhere else. */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#include "huge.h"

#define MIB  (UINT64_C(1) << 20)
#define HUGE (2 * MIB)
#define PAGE IMPOST_PAGE_SIZE

struct fixture {
	struct impost_context *ctx;
	struct impost_memory *memory;
};

static void add(struct fixture *f, uint32_t kind, uint64_t gpa, uint64_t bytes)
{
	const struct impost_region region = {.size = sizeof(region),
					     .kind = kind,
					     .gpa = gpa,
					     .bytes = bytes,
					     .flags = IMPOST_REGION_NORESERVE,
					     .fd = -1};

	cr_assert_eq(impost_memory_add(f->memory, &region), 0, "%s", impost_error(f->ctx));
}

static void open_memory(struct fixture *f, uint32_t kind, uint64_t bytes)
{
	cr_assert_eq(impost_context_open(NULL, NULL, &f->ctx), 0);
	cr_assert_eq(impost_memory_create(f->ctx, &f->memory), 0);
	add(f, kind, 0, bytes);
}

static void close_memory(struct fixture *f)
{
	impost_memory_destroy(f->memory);
	impost_context_close(f->ctx);
}

/* Whether the mapping that GPA lies in has been asked for huge pages: flag "hg" (proc(5), smaps).
 */
static bool is_asked(struct fixture *f, uint64_t gpa)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long long first, end;
	char line[4096];
	bool here = false, asked = false;
	void *hva;

	cr_assert(smaps);
	cr_assert_eq(impost_memory_ptr(f->memory, gpa, 1, &hva), 0);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%llx-%llx ", &first, &end) == 2)
			here = first <= (uintptr_t)hva && (uintptr_t)hva < end;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			asked = strstr(line, " hg") != NULL;
	}
	fclose(smaps);
	return asked;
}

/* Those of the first huge pages of which MASK has a bit, and no other. */
static void expect_asked(struct fixture *f, uint32_t pages, uint64_t mask)
{
	for (uint32_t i = 0; i < pages; i++)
		cr_expect_eq(is_asked(f, i * HUGE), (mask >> i & 1) != 0, "huge page %u", i);
}

/* A kernel that has no huge pages of this kind takes no such advice. */
static bool can_ask(void)
{
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0)
		return true;
	cr_skip("this kernel has no transparent huge pages");
	return false;
}

Test(huge, most_of_a_page)
{
	struct impost_range ranges[2 + 256] = {{2 * HUGE, 2 * HUGE}, {5 * HUGE + PAGE, HUGE / 2}};
	struct fixture f;

	if (!can_ask())
		return;
	open_memory(&f, IMPOST_REGION_ANONYMOUS, 10 * HUGE);
	for (uint32_t i = 0; i < 256; i++)
		ranges[2 + i] = (struct impost_range){8 * HUGE + 2 * i * PAGE, PAGE};
	huge_advise_ranges(f.memory, ranges, 2 + 256);
	expect_asked(&f, 10, 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8);
	close_memory(&f);
}

Test(huge, less_than_half)
{
	struct impost_range ranges[1 + 255] = {{2 * HUGE + HUGE / 2 + PAGE, HUGE - 2 * PAGE}};
	struct fixture f;

	open_memory(&f, IMPOST_REGION_ANONYMOUS, 10 * HUGE);
	for (uint32_t i = 0; i < 255; i++)
		ranges[1 + i] = (struct impost_range){8 * HUGE + 2 * i * PAGE, PAGE};
	huge_advise_ranges(f.memory, ranges, 1 + 255);
	expect_asked(&f, 10, 0);
	huge_advise_ranges(f.memory, ranges, 0);
	expect_asked(&f, 10, 0);
	close_memory(&f);
}

/* A huge page that is not all the region's is not asked for, and two regions are asked one by one.
 */
Test(huge, borders)
{
	const struct impost_range ranges[] = {{0, 5 * MIB}, {5 * MIB, 6 * MIB}};
	struct fixture f;

	if (!can_ask())
		return;
	open_memory(&f, IMPOST_REGION_ANONYMOUS, 5 * MIB);
	add(&f, IMPOST_REGION_ANONYMOUS, 5 * MIB, 6 * MIB);
	huge_advise_ranges(f.memory, ranges, 2);
	expect_asked(&f, 5, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4);
	close_memory(&f);
}

/* Of files it is for their owner to say. */
Test(huge, shared_memory)
{
	const struct impost_range range = {0, 2 * HUGE};
	struct fixture f;

	open_memory(&f, IMPOST_REGION_MEMFD, 2 * HUGE);
	huge_advise_ranges(f.memory, &range, 1);
	expect_asked(&f, 2, 0);
	close_memory(&f);
}
