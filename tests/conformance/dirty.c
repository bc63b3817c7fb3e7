/* SPDX-License-Identifier: Apache-2.0 */
/* The dirty log tells the pages that the guest has written: those and no others. */
#include "writer.h"

#define PAGES 131u /* no multiple of 64 */
#define WORDS 3u

/* Opens BOX for CPUS vCPUs, and has its first one write. None waits for a startup IPI. */
static void open_writer(struct box *box, struct writer *w, uint32_t cpus)
{
	box_open(box, cpus, IMPOST_IRQCHIP_NONE);
	box_need(box, IMPOST_CAP_DIRTY_LOG);
	writer_init(w, box, box->vcpu);
}

/* The same with a region of its own at HOLE, so that page tables and code do not count, with a
 * clean log that has begun. */
static void start(struct box *box, struct writer *w)
{
	open_writer(box, w, 1);
	add_region(box, HOLE, PAGES);
	log_start(box, HOLE, PAGES);
}

/* Lets the guest write somewhere in each page of SET, of the region at GPA. */
static void write_set(struct writer *w, uint64_t gpa, const uint64_t *set)
{
	uint64_t list[WORDS * 64];
	uint32_t n = 0;

	for (uint32_t i = 0; i < WORDS * 64; i++)
		if (has_bit(set, i))
			list[n++] = gpa + i * PAGE + random64() % (PAGE - WRITER_BYTES);
	writer_write(w, list, n);
}

static void random_set(uint64_t *set)
{
	for (uint32_t i = 0; i < WORDS; i++)
		set[i] = random64() & random64();
	set[0] |= 1;
	set[WORDS - 1] &= (UINT64_C(1) << (PAGES % 64)) - 1;
}

/* Fetches, compares and clears. */
static void expect_at(struct box *box, uint64_t gpa, const uint64_t *set)
{
	uint64_t got[WORDS] = {0};

	log_take(box, gpa, PAGES, got);
	for (uint32_t i = 0; i < WORDS * 64; i++)
		cr_assert_eq(has_bit(got, i), has_bit(set, i), "page %u is %s", i,
			     has_bit(got, i) ? "dirty, and was not written"
					     : "clean, and was written");
}

static void expect(struct box *box, const uint64_t *set)
{
	expect_at(box, HOLE, set);
}

static const uint64_t nothing[WORDS];

Test(dirty, exactly_what_the_guest_wrote, .timeout = 120)
{
	struct writer w;
	struct box box;

	start(&box, &w);
	expect(&box, nothing);
	for (int i = 0; i < 20; i++) {
		uint64_t set[WORDS];

		random_set(set);
		write_set(&w, HOLE, set);
		expect(&box, set);
		expect(&box, nothing);
	}
	box_close(&box);
}

Test(dirty, fetching_adds_to_the_bitmap, .timeout = 120)
{
	uint64_t set[WORDS] = {0x10}, got[WORDS] = {UINT64_C(0xff00000000000000)};
	struct writer w;
	struct box box;

	start(&box, &w);
	write_set(&w, HOLE, set);
	REFUSED(&box, ENOSPC, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS - 1));
	OK(&box, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS));
	cr_assert_eq(got[0], UINT64_C(0xff00000000000010));
	box_close(&box);
}

#define MOST_PAGES 1024u

/* Regions of all lengths around a word's border: their first and last pages, and single ones. */
static void region_of(uint32_t pages)
{
	const uint32_t single[] = {0, pages / 2, pages - 1};
	uint64_t got[MOST_PAGES / 64];
	struct writer w;
	struct box box;

	open_writer(&box, &w, 1);
	add_region(&box, HOLE, pages);
	log_start(&box, HOLE, pages);
	for (size_t i = 0; i < 3; i++) {
		const uint64_t gpa = HOLE + single[i] * PAGE + (i == 2 ? PAGE - WRITER_BYTES : 0);

		writer_write(&w, &gpa, 1);
		memset(got, 0, sizeof(got));
		log_take(&box, HOLE, pages, got);
		for (uint32_t page = 0; page < MOST_PAGES; page++)
			cr_assert_eq(has_bit(got, page), page == single[i],
				     "page %u, of %u, with page %u written", page, pages,
				     single[i]);
	}
	box_close(&box);
}

#define REGION_OF(pages)                                       \
	Test(dirty, regions_of_##pages##_pages, .timeout = 60) \
	{                                                      \
		region_of(pages);                              \
	}
REGION_OF(1)
REGION_OF(2)
REGION_OF(63)
REGION_OF(64)
REGION_OF(65)
REGION_OF(128)
REGION_OF(1000)

/* Where fetching leaves clearing to a second step, it takes nothing away. Else there is none. */
Test(dirty, who_clears, .timeout = 120)
{
	uint64_t set[WORDS] = {0x80, 1}, got[WORDS] = {0};
	struct writer w;
	struct box box;

	start(&box, &w);
	write_set(&w, HOLE, set);
	OK(&box, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS));
	cr_assert_arr_eq(got, set, sizeof(got));
	if (impost_caps_has(box.caps, IMPOST_CAP_DIRTY_MANUAL)) {
		expect(&box, set);
	} else {
		expect(&box, nothing);
		REFUSED(&box, ENOTSUP, impost_vm_dirty_clear(box.vm, HOLE, 0, PAGES, got));
	}
	expect(&box, nothing);
	write_set(&w, HOLE, set);
	expect(&box, set);
	box_close(&box);
}

/* Clearing takes the bits that are set, in the range that is given, and no others. */
Test(dirty, clearing_by_the_page, .timeout = 120)
{
	const uint64_t ones[WORDS] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
	struct writer w;
	struct box box;

	start(&box, &w);
	box_need(&box, IMPOST_CAP_DIRTY_MANUAL);
	for (int i = 0; i < 30; i++) {
		uint32_t first = (uint32_t)(random64() % WORDS) * 64;
		uint32_t n = (uint32_t)(random64() % (PAGES - first + 1));
		uint64_t mask[WORDS], left[WORDS] = {0}, all[WORDS] = {0};

		for (uint32_t k = 0; k < WORDS; k++)
			mask[k] = random64();
		memcpy(all, ones, sizeof(all));
		all[WORDS - 1] = (UINT64_C(1) << (PAGES % 64)) - 1;
		write_set(&w, HOLE, all);
		OK(&box, impost_vm_dirty_fetch(box.vm, HOLE, left, WORDS));
		OK(&box, impost_vm_dirty_clear(box.vm, HOLE, first, n, mask));
		for (uint32_t p = 0; p < n; p++)
			if (has_bit(mask, p))
				left[(first + p) / 64] &= ~(UINT64_C(1) << ((first + p) % 64));
		expect(&box, left);
	}
	REFUSED(&box, EINVAL, impost_vm_dirty_clear(box.vm, HOLE, 1, 64, ones));
	REFUSED(&box, EINVAL, impost_vm_dirty_clear(box.vm, HOLE, 64, PAGES, ones));
	box_close(&box);
}

/* A log that starts full is full in the kernel, too: what is cleared of it, and that alone, is
 * logged anew. */
Test(dirty, a_log_that_starts_full_is_cleared_by_the_page, .timeout = 120)
{
	uint64_t all[WORDS] = {0}, some[WORDS] = {0xf0, 0x3}, want[WORDS];
	struct writer w;
	struct box box;

	open_writer(&box, &w, 1);
	box_need(&box, IMPOST_CAP_DIRTY_INITIALLY_SET);
	box_need(&box, IMPOST_CAP_DIRTY_MANUAL);
	add_region(&box, HOLE, PAGES);
	OK(&box, impost_vm_dirty_start(box.vm, HOLE));
	OK(&box, impost_vm_dirty_clear(box.vm, HOLE, 0, PAGES, some));
	for (uint32_t i = 0; i < PAGES; i++)
		set_bit(all, i);
	for (uint32_t i = 0; i < WORDS; i++)
		want[i] = all[i] & ~some[i];
	set_bit(want, 5);
	write_set(&w, HOLE, (uint64_t[WORDS]){1 << 5});
	expect(&box, want);
	expect(&box, nothing);
	box_close(&box);
}

Test(dirty, starts_and_stops_while_the_guest_lives, .timeout = 120)
{
	uint64_t set[WORDS] = {0x7}, other[WORDS] = {0x70}, got[WORDS] = {0};
	struct writer w;
	struct box box;

	start(&box, &w);
	REFUSED(&box, EEXIST, impost_vm_dirty_start(box.vm, HOLE));
	write_set(&w, HOLE, set);
	for (int i = 0; i < 3; i++) {
		OK(&box, impost_vm_dirty_stop(box.vm, HOLE));
		REFUSED(&box, ENOENT, impost_vm_dirty_stop(box.vm, HOLE));
		REFUSED(&box, ENOENT, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS));
		cr_assert_eq(got[0], 0u, "a refused fetch has written");
		write_set(&w, HOLE, set);
		log_start(&box, HOLE, PAGES); /* neither before it stopped nor between */
		write_set(&w, HOLE, other);
		expect(&box, other);
		write_set(&w, HOLE, set);
	}
	REFUSED(&box, ENOENT, impost_vm_dirty_start(box.vm, HOLE + PAGE));
	box_close(&box);
}

/* A write over the border of two pages is in both, also where they are two regions'. */
Test(dirty, writes_over_page_borders, .timeout = 120)
{
	const uint64_t next = HOLE + PAGES * PAGE;
	const uint64_t crossing[] = {HOLE + 3 * PAGE - 4, next - 1, next + PAGE - 7};
	const uint64_t ends[] = {HOLE, next - WRITER_BYTES};
	uint64_t first[WORDS] = {0xc}, second[WORDS] = {0x3}, both[WORDS] = {1};
	struct writer w;
	struct box box;

	start(&box, &w);
	add_region(&box, next, PAGES);
	log_start(&box, next, PAGES);
	writer_write(&w, crossing, 3);
	set_bit(first, PAGES - 1);
	expect(&box, first);
	expect_at(&box, next, second);
	writer_write(&w, ends, 2);
	set_bit(both, PAGES - 1);
	expect(&box, both);
	expect_at(&box, next, nothing);
	box_close(&box);
}

#define REGIONS	  4u
#define REGION(i) (HOLE + (uint64_t)(i)*2 * PAGES * PAGE)
#define SILENT	  2u /* the region that has no log */

/* Fetching and clearing one region's log leaves the others'. */
Test(dirty, each_region_has_its_own, .timeout = 120)
{
	uint64_t set[REGIONS][WORDS];
	struct writer w;
	struct box box;

	open_writer(&box, &w, 1);
	for (uint32_t i = 0; i < REGIONS; i++) {
		add_region(&box, REGION(i), PAGES);
		if (i != SILENT)
			log_start(&box, REGION(i), PAGES);
	}
	for (int round = 0; round < 10; round++) {
		uint64_t got[WORDS] = {0};

		for (uint32_t i = 0; i < REGIONS; i++) {
			random_set(set[i]);
			write_set(&w, REGION(i), set[i]);
		}
		for (uint32_t k = 0; k < REGIONS; k++) {
			uint32_t i = (k + (uint32_t)round) % REGIONS;

			if (i != SILENT)
				expect_at(&box, REGION(i), set[i]);
		}
		REFUSED(&box, ENOENT, impost_vm_dirty_fetch(box.vm, REGION(SILENT), got, WORDS));
	}
	box_close(&box);
}

/* A region's log goes with it: one in its place starts anew, and other logs go on. */
Test(dirty, removal_ends_the_log, .timeout = 120)
{
	uint64_t set[WORDS], got[WORDS] = {0};
	struct writer w;
	struct box box;

	open_writer(&box, &w, 1);
	add_region(&box, REGION(1), PAGES);
	log_start(&box, REGION(1), PAGES);
	for (int i = 0; i < 5; i++) {
		add_region(&box, HOLE, PAGES);
		log_start(&box, HOLE, PAGES);
		random_set(set);
		write_set(&w, HOLE, set);
		write_set(&w, REGION(1), set);
		OK(&box, impost_memory_remove(box.memory, HOLE));
		REFUSED(&box, ENOENT, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS));
		add_region(&box, HOLE, PAGES);
		REFUSED(&box, ENOENT, impost_vm_dirty_fetch(box.vm, HOLE, got, WORDS));
		log_start(&box, HOLE, PAGES);
		expect(&box, nothing);
		expect_at(&box, REGION(1), set);
		OK(&box, impost_memory_remove(box.memory, HOLE));
		/* Smaller: what is said of the former one's pages is beyond its end. */
		add_region(&box, HOLE, 1);
		log_start(&box, HOLE, 1);
		OK(&box, impost_memory_remove(box.memory, HOLE));
	}
	box_close(&box);
}

/* All vCPUs' writes are in the one log, also those of vCPUs that came after it or are gone. */
Test(dirty, of_all_vcpus, .timeout = 120)
{
	struct impost_vcpu *second, *third;
	uint64_t set[WORDS] = {0};
	struct writer w[3];
	struct box box;

	open_writer(&box, &w[0], 3);
	OK(&box, impost_vcpu_create(box.vm, 1, &second));
	writer_init(&w[1], &box, second);
	add_region(&box, HOLE, PAGES);
	log_start(&box, HOLE, PAGES);
	OK(&box, impost_vcpu_create(box.vm, 2, &third));
	writer_init(&w[2], &box, third);
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t its[WORDS] = {0, UINT64_C(1) << 20 << i};

		write_set(&w[i], HOLE, its);
		set[1] |= its[1];
	}
	OK(&box, impost_vcpu_destroy(third));
	expect(&box, set);
	write_set(&w[1], HOLE, set);
	OK(&box, impost_vcpu_destroy(second));
	expect(&box, set);
	expect(&box, nothing);
	write_set(&w[0], HOLE, set);
	expect(&box, set);
	box_close(&box);
}

/* String input over a page's border: the hypervisor writes what the host answered. */
Test(dirty, what_the_hypervisor_writes_for_the_guest, .timeout = 120)
{
	uint64_t set[WORDS] = {0x30};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	uint8_t back[2 * 16];
	struct writer w;
	struct box box;

	start(&box, &w);
	box_need(&box, IMPOST_CAP_EXECUTES);
	/* rep insb; out 0x80, al */
	enter_long(&box, box.vcpu, GUEST(0xf3, 0x6c, 0xe6, 0x80));
	regs = regs_of(&box, box.vcpu);
	regs.rdi = HOLE + 5 * PAGE - 16;
	regs.rcx = sizeof(back);
	regs.rdx = 0x60;
	set_regs(&box, box.vcpu, &regs);
	for (;;) {
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		if (exit.u.io.port == 0x80)
			break;
		cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_READ);
		memset(exit.u.io.data, 0x5a, (size_t)exit.u.io.size * exit.u.io.count);
	}
	OK(&box, impost_memory_read(box.memory, HOLE + 5 * PAGE - 16, back, sizeof(back)));
	for (size_t i = 0; i < sizeof(back); i++)
		cr_assert_eq(back[i], 0x5a);
	expect(&box, set);
	box_close(&box);
}

/* Written in finishing the exit, with no run after it. */
Test(dirty, what_completing_writes, .timeout = 120)
{
	uint64_t set[WORDS] = {0x40};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct writer w;
	struct box box;

	start(&box, &w);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_COMPLETE);
	/* insb; hlt */
	enter_long(&box, box.vcpu, GUEST(0x6c, 0xf4));
	regs = regs_of(&box, box.vcpu);
	regs.rdi = HOLE + 6 * PAGE;
	regs.rdx = 0x60;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	expect(&box, nothing);
	*(uint8_t *)exit.u.io.data = 0x77;
	finish(&box, box.vcpu);
	expect(&box, set);
	box_close(&box);
}

#define MANY 1500u /* many times what the smallest dirty ring holds */

/* However much is written between two fetches, all of it is told, and run has no exit for it. */
Test(dirty, more_than_a_ring_holds, .timeout = 120)
{
	static uint64_t list[MANY], want[(2 * MANY + 63) / 64], got[(2 * MANY + 63) / 64];
	struct writer w;
	struct box box;

	open_writer(&box, &w, 1);
	add_region(&box, HOLE, 2 * MANY);
	log_start(&box, HOLE, 2 * MANY);
	for (int round = 0; round < 3; round++) {
		memset(want, 0, sizeof(want));
		memset(got, 0, sizeof(got));
		for (uint32_t i = 0; i < MANY; i++) {
			uint64_t page = random64() % (2 * MANY);

			list[i] = HOLE + page * PAGE + 64;
			set_bit(want, page);
		}
		writer_write(&w, list, MANY);
		log_take(&box, HOLE, 2 * MANY, got);
		cr_assert_arr_eq(got, want, sizeof(got));
	}
	box_close(&box);
}
