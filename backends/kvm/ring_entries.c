/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes entries out of a dirty ring: the protocol with the kernel, without any system call.
 *
 * An entry goes through three states (<linux/kvm.h>, struct kvm_dirty_gfn): empty (0), DIRTY once
 * the kernel has filled it in, RESET once it has been read. The kernel makes it empty again in
 * KVM_RESET_DIRTY_RINGS, from the oldest on and up to the first that is not RESET, so none may be
 * passed over.
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

uint32_t kvm_ring_take(struct ring *ring, struct slot *slots, uint32_t nslots, uint32_t *stray)
{
	uint32_t count;

	/* Once round at the most: a vCPU may go on writing meanwhile. */
	for (count = 0; count <= ring->mask; count++) {
		struct kvm_dirty_gfn *e = &ring->entry[ring->next & ring->mask];

		/* What the kernel wrote into the entry before it set DIRTY is seen after it. */
		if (__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		if (!mark(slots, nslots, e->slot, e->offset))
			++*stray;
		/* And has been read before the kernel may write it anew. */
		__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		ring->next++;
	}
	return count;
}

uint32_t kvm_ring_skip(struct ring *ring)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i <= ring->mask; i++)
		if (ring->entry[(ring->next + i) & ring->mask].flags == KVM_DIRTY_GFN_F_DIRTY)
			end = i + 1;
	for (uint32_t i = 0; i < end; i++)
		__atomic_store_n(&ring->entry[(ring->next + i) & ring->mask].flags,
				 KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	ring->next += end;
	return end;
}
