/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken out of a dirty ring, against a model of the kernel's side of it. */
#include <criterion/criterion.h>
#include <string.h>

#include "internal.h"

#define ENTRIES 16u
#define NSLOTS	5u
#define PAGES	200u /* of each slot */
#define WORDS	((PAGES + 63) / 64)

/* The kernel's side: virt/kvm/dirty_ring.c. */
struct kernel {
	struct kvm_dirty_gfn entry[ENTRIES];
	uint32_t dirty, reset; /* indices, counting on */
};

static void push(struct kernel *k, uint32_t slot, uint64_t offset)
{
	struct kvm_dirty_gfn *e = &k->entry[k->dirty++ % ENTRIES];

	e->slot = slot;
	e->offset = offset;
	e->flags = KVM_DIRTY_GFN_F_DIRTY;
}

static uint32_t reset(struct kernel *k)
{
	uint32_t count = 0;

	for (; k->entry[k->reset % ENTRIES].flags & KVM_DIRTY_GFN_F_RESET; count++)
		k->entry[k->reset++ % ENTRIES].flags = 0;
	return count;
}

/* A sequence that is the same each time (Marsaglia's xorshift32). */
static uint32_t random32(void)
{
	static uint32_t x = 7;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

struct setup {
	struct kernel kernel;
	struct ring ring;
	struct slot slots[NSLOTS];
	uint64_t log[NSLOTS][WORDS], want[NSLOTS][WORDS];
};

/* Slot 2 has no log, slot 3 is not there. */
static void set_up(struct setup *s)
{
	memset(s, 0, sizeof(*s));
	s->ring = (struct ring){.entry = s->kernel.entry, .mask = ENTRIES - 1};
	for (uint32_t i = 0; i < NSLOTS; i++)
		if (i != 3)
			s->slots[i] = (struct slot){.bytes = PAGES * KVM_PAGE,
						    .used = true,
						    .log = i == 2 ? NULL : s->log[i],
						    .first_word = WORDS};
}

static void compare(const struct setup *s)
{
	for (uint32_t i = 0; i < NSLOTS; i++) {
		if (!s->slots[i].log)
			continue;
		cr_assert_arr_eq(s->log[i], s->want[i], sizeof(s->want[i]));
		for (uint32_t w = 0; w < WORDS; w++)
			cr_assert(!s->log[i][w] ||
					  (w >= s->slots[i].first_word && w < s->slots[i].end_word),
				  "word %u is outside what is fetched", w);
	}
}

Test(kvm_ring, every_entry_is_taken_once_and_in_order)
{
	struct setup s;

	set_up(&s);
	s.ring.next = s.kernel.dirty = s.kernel.reset = UINT32_MAX - 40; /* they wrap around */
	for (int round = 0; round < 1000; round++) {
		uint32_t n = random32() % ENTRIES, stray = 0;

		for (uint32_t i = 0; i < n; i++) {
			uint32_t slot = random32() % NSLOTS;
			uint64_t page = random32() % PAGES;

			push(&s.kernel, slot, page);
			s.want[slot][page / 64] |= UINT64_C(1) << (page % 64);
		}
		cr_assert_eq(kvm_ring_take(&s.ring, s.slots, NSLOTS, &stray), n);
		cr_assert_eq(stray, 0u);
		cr_assert_eq(kvm_ring_take(&s.ring, s.slots, NSLOTS, &stray), 0u);
		cr_assert_eq(reset(&s.kernel), n);
		compare(&s);
	}
}

/* Pages beyond their slot, slots beyond the table, other address spaces: nothing is written. */
Test(kvm_ring, what_names_no_page_is_refused)
{
	uint32_t stray = 0;
	struct setup s;

	set_up(&s);
	push(&s.kernel, 0, PAGES);
	push(&s.kernel, 1, UINT64_MAX);
	push(&s.kernel, 2, PAGES); /* no log: none of our business */
	push(&s.kernel, 3, 0);
	push(&s.kernel, NSLOTS, 0);
	push(&s.kernel, 1u << 16, 1);
	push(&s.kernel, UINT32_MAX, 1);
	push(&s.kernel, 4, PAGES - 1);
	s.want[4][(PAGES - 1) / 64] = UINT64_C(1) << ((PAGES - 1) % 64);
	cr_assert_eq(kvm_ring_take(&s.ring, s.slots, NSLOTS, &stray), 8u);
	cr_assert_eq(stray, 2u);
	cr_assert_eq(reset(&s.kernel), 8u);
	compare(&s);
}

/* A ring that the kernel has overrun by K entries comes to itself, and the vCPU can go on. */
Test(kvm_ring, an_overrun_is_seen_and_passed_over)
{
	for (uint32_t k = 0; k < ENTRIES; k++) {
		uint32_t stray = 0, more = 3;
		struct setup s;

		set_up(&s);
		for (uint32_t i = 0; i < ENTRIES + k; i++)
			push(&s.kernel, 0, i);
		/* As many as there are: that is how it is seen. */
		cr_assert_eq(kvm_ring_take(&s.ring, s.slots, NSLOTS, &stray), ENTRIES);
		cr_assert_eq(reset(&s.kernel), ENTRIES);
		for (uint32_t i = 0; i < more && k + more <= ENTRIES; i++)
			push(&s.kernel, 0, i);
		kvm_ring_skip(&s.ring);
		reset(&s.kernel);
		if (k + more <= ENTRIES)
			cr_assert_eq(s.kernel.reset, s.kernel.dirty, "overrun by %u", k);
		cr_assert_eq(s.ring.next, s.kernel.reset);
	}
}
