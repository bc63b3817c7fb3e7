/* SPDX-License-Identifier: Apache-2.0 */
/* The dirty log tells the pages that the guest has written: those and no others. */
#include "common.h"

#define PAGES 131u /* no multiple of 64 */
#define WORDS 3u
#define PAGE  IMPOST_PAGE_SIZE

/* A region of its own at HOLE, so that page tables and code do not count, with a clean log that has
 * begun. */
static void start(struct box *box)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = HOLE,
				       .bytes = PAGES * PAGE};
	uint64_t all[WORDS] = {0};

	box_open(box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(box, IMPOST_CAP_EXECUTES);
	box_need(box, IMPOST_CAP_DIRTY_LOG);
	OK(box, impost_memory_add(box->memory, &region));
	OK(box, impost_vm_dirty_start(box->vm, HOLE));
	OK(box, impost_vm_dirty_fetch(box->vm, HOLE, all, WORDS));
	for (uint32_t i = 0; i < PAGES; i++)
		cr_assert_eq(all[i / 64] >> (i % 64) & 1,
			     (uint64_t)impost_caps_has(box->caps, IMPOST_CAP_DIRTY_INITIALLY_SET));
	cr_assert_eq(all[PAGES / 64] >> (PAGES % 64), 0u, "bits beyond the region");
	if (impost_caps_has(box->caps, IMPOST_CAP_DIRTY_MANUAL))
		OK(box, impost_vm_dirty_clear(box->vm, HOLE, 0, PAGES, all));
	/* again: lodsq; mov byte [rax], 1; dec ecx; jnz again; out 0x80, al */
	enter_long(box, box->vcpu,
		   GUEST(0x48, 0xad, 0xc6, 0x00, 0x01, 0xff, 0xc9, 0x75, 0xf7, 0xe6, 0x80));
}

/* Lets the guest write a byte in each page of SET. */
static void guest_writes(struct box *box, const uint64_t *set)
{
	struct impost_x86_regs regs = regs_of(box, box->vcpu);
	struct impost_exit exit;
	uint64_t list[PAGES];
	uint32_t n = 0;

	for (uint32_t i = 0; i < PAGES; i++)
		if (set[i / 64] >> (i % 64) & 1)
			list[n++] = HOLE + i * PAGE + random64() % PAGE;
	OK(box, impost_memory_write(box->memory, DATA, list, n * sizeof(list[0])));
	regs.rip = CODE;
	regs.rsi = DATA;
	regs.rcx = n;
	set_regs(box, box->vcpu, &regs);
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
}

static void random_set(uint64_t *set)
{
	for (uint32_t w = 0; w < WORDS; w++)
		set[w] = random64() & random64();
	set[0] |= 1;
	set[WORDS - 1] &= (UINT64_C(1) << (PAGES % 64)) - 1;
}

/* Fetches, compares and clears. */
static void expect(struct box *box, const uint64_t *set)
{
	uint64_t got[WORDS] = {0};

	OK(box, impost_vm_dirty_fetch(box->vm, HOLE, got, WORDS));
	cr_assert_arr_eq(got, set, sizeof(got));
	if (impost_caps_has(box->caps, IMPOST_CAP_DIRTY_MANUAL))
		OK(box, impost_vm_dirty_clear(box->vm, HOLE, 0, PAGES, got));
}

Test(dirty, exactly_what_the_guest_wrote)
{
	const uint64_t nothing[WORDS] = {0};
	struct box box;

	start(&box);
	expect(&box, nothing);
	for (int i = 0; i < 20; i++) {
		uint64_t set[WORDS];

		random_set(set);
		guest_writes(&box, set);
		expect(&box, set);
		expect(&box, nothing);
	}
	box_close(&box);
}

Test(dirty, fetching_adds_to_the_bitmap)
{
	uint64_t set[WORDS] = {0x10}, got[WORDS] = {UINT64_C(0xff00000000000000)};
	struct box box;

	start(&box);
	guest_writes(&box, set);
	REFUSED(&box, ENOSPC, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS - 1));
	OK(&box, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS));
	cr_assert_eq(got[0], UINT64_C(0xff00000000000010));
	box_close(&box);
}

/* Clearing takes the bits that are set, in the range that is given, and no others. */
Test(dirty, clearing_by_the_page)
{
	const uint64_t ones[WORDS] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
	struct box box;

	start(&box);
	box_need(&box, IMPOST_CAP_DIRTY_MANUAL);
	for (int i = 0; i < 30; i++) {
		uint32_t first = (uint32_t)(random64() % WORDS) * 64;
		uint32_t n = (uint32_t)(random64() % (PAGES - first + 1));
		uint64_t mask[WORDS], left[WORDS] = {0}, all[WORDS] = {0};

		for (uint32_t w = 0; w < WORDS; w++)
			mask[w] = random64();
		memcpy(all, ones, sizeof(all));
		all[WORDS - 1] = (UINT64_C(1) << (PAGES % 64)) - 1;
		guest_writes(&box, all);
		OK(&box, impost_vm_dirty_fetch(box.vm, HOLE, left, WORDS));
		OK(&box, impost_vm_dirty_clear(box.vm, HOLE, first, n, mask));
		for (uint32_t p = 0; p < n; p++)
			if (mask[p / 64] >> (p % 64) & 1)
				left[(first + p) / 64] &= ~(UINT64_C(1) << ((first + p) % 64));
		expect(&box, left);
	}
	REFUSED(&box, EINVAL, impost_vm_dirty_clear(box.vm, HOLE, 1, 64, ones));
	REFUSED(&box, EINVAL, impost_vm_dirty_clear(box.vm, HOLE, 64, PAGES, ones));
	box_close(&box);
}

Test(dirty, starts_and_stops_while_the_guest_lives)
{
	uint64_t set[WORDS] = {0x7}, got[WORDS] = {0};
	struct box box;

	start(&box);
	guest_writes(&box, set);
	OK(&box, impost_vm_dirty_stop(box.vm, HOLE));
	cr_assert_lt(impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS), 0);
	cr_assert_eq(got[0], 0u, "a refused fetch has written");
	guest_writes(&box, set);
	OK(&box, impost_vm_dirty_start(box.vm, HOLE));
	OK(&box, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS));
	cr_assert_eq(got[1] & 1,
		     (uint64_t)impost_caps_has(box.caps, IMPOST_CAP_DIRTY_INITIALLY_SET));
	REFUSED(&box, ENOENT, impost_vm_dirty_start(box.vm, HOLE + PAGE));
	box_close(&box);
}
