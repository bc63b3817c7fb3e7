/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes entries out of a dirty ring: the protocol with the kernel, without any system call.
 *
 * An entry goes through three states (<linux/kvm.h>, struct kvm_dirty_gfn): empty (0), DIRTY once
 * the kernel has filled it in, RESET once it has been read. The kernel makes it empty again in
 * KVM_RESET_DIRTY_RINGS, from the oldest on and up to the first that is not RESET, so none may be
 * passed over.
 *
 * The kernel counts what it filled and what it emptied, without end, and we see neither count. What
 * we see is that an entry that is not empty has been filled and not emptied since; so has, then,
 * each before it, from the oldest on. More must never be given back than was filled: the kernel
 * would find the ring full for ever.
 *
 * After an overrun the kernel has filled more than there are entries. When all are emptied, it
 * still has some to its account: gaps, empty and before those that it fills next. They are given
 * back together with these.
 */
#include "internal.h"

#define SLOT_BITS 16 /* above them is the address space: 1 is system-management mode */

static bool mark(struct slot *slots, uint32_t nslots, uint32_t number, uint64_t page)
{
	struct slot *s = number < nslots && !(number >> SLOT_BITS) ? &slots[number] : NULL;

	if (!s || !s->log)
		return true;
	if (page >= s->bytes / KVM_PAGE)
		return false;
	s->log[page / 64] |= UINT64_C(1) << (page % 64);
	if (page / 64 < s->first_word)
		s->first_word = page / 64;
	if (page / 64 >= s->end_word)
		s->end_word = page / 64 + 1;
	return true;
}

static struct kvm_dirty_gfn *entry_at(const struct ring *ring, uint32_t i)
{
	return &ring->entry[(ring->next + i) & ring->mask];
}

/* What the kernel wrote into the entry before it set DIRTY is seen after it. */
static bool is_filled(const struct kvm_dirty_gfn *e)
{
	return __atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) == KVM_DIRTY_GFN_F_DIRTY;
}

/* How many entries there are up to the last that is filled, gaps too. */
static uint32_t filled_end(const struct ring *ring)
{
	uint32_t end = ring->mask + 1;

	while (end && !is_filled(entry_at(ring, end - 1)))
		end--;
	return end;
}

/* Gives a gap to the kernel: false if it has been filled meanwhile. */
static bool give_gap(struct kvm_dirty_gfn *e)
{
	uint32_t empty = 0;

	return __atomic_compare_exchange_n(&e->flags, &empty, KVM_DIRTY_GFN_F_RESET, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

struct taken kvm_ring_take(struct ring *ring, struct slot *slots, uint32_t nslots)
{
	/* Once round at the most: a vCPU may go on writing meanwhile. */
	uint32_t end = ring->gaps ? filled_end(ring) : ring->mask + 1;
	struct taken t = {0};

	for (; t.entries < end; t.entries++, ring->next++) {
		struct kvm_dirty_gfn *e = entry_at(ring, 0);

		if (!is_filled(e)) {
			if (!ring->gaps)
				break;
			if (give_gap(e))
				continue;
		}
		t.filled++;
		t.stray += !mark(slots, nslots, e->slot, e->offset);
		/* It has been read before the kernel may write it anew. */
		__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	return t;
}

static void set_flags(struct kvm_dirty_gfn *e, uint32_t flags)
{
	__atomic_store_n(&e->flags, flags, __ATOMIC_RELEASE);
}

/* What is not lent is DIRTY, where the kernel stops, and so what is empty then was taken back. */
void kvm_ring_lend(struct ring *ring, uint32_t from, uint32_t count)
{
	for (uint32_t i = 0; i <= ring->mask; i++)
		set_flags(entry_at(ring, i),
			  i - from < count ? KVM_DIRTY_GFN_F_RESET : KVM_DIRTY_GFN_F_DIRTY);
}

/* With the one at `next` the kernel would go all the way round, which tells nothing. */
void kvm_ring_lend_filled(struct ring *ring)
{
	for (uint32_t i = 0; i <= ring->mask; i++)
		set_flags(entry_at(ring, i), i && entry_at(ring, i)->flags ? KVM_DIRTY_GFN_F_RESET
									   : KVM_DIRTY_GFN_F_DIRTY);
}

bool kvm_ring_settle(struct ring *ring)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i <= ring->mask; i++) {
		struct kvm_dirty_gfn *e = entry_at(ring, i);

		if (!__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE))
			end = i + 1;
		set_flags(e, 0);
	}
	ring->next += end;
	ring->gaps = true;
	return end;
}
