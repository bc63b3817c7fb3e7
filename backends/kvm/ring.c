/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty rings: each vCPU puts the pages that it writes into a ring of its own, in memory that it
 * shares with us. They are harvested into one bitmap for each slot when a log is fetched and when a
 * ring is full, so that to the core a ring is a bitmap log that fetching clears.
 *
 * The order is: take the entries, KVM_RESET_DIRTY_RINGS, which protects their pages again, and only
 * then tell anybody that they are dirty: a write that comes after the page was read is logged anew.
 * What the processor's own buffer still holds (Intel's page-modification log) comes into the ring
 * when the vCPU next leaves guest mode, and so with a later fetch: a ring has all that a vCPU wrote
 * once it is out of run.
 *
 * A kernel ends KVM_RUN while there is room for all that it may still write (kernel,
 * virt/kvm/dirty_ring.c, soft_limit). One that does not, as when it emulates long stretches of
 * guest code, overwrites entries: then every entry is filled, which else does not happen, or the
 * kernel takes back fewer than it was given, since it stops at one that it has filled anew. What
 * the guest wrote is not known any more, nor would all of its pages be logged from then on:
 * fetching fails, and harvesting ends, until no slot has a log and one is started. Starting
 * protects all of the slot's pages, and without logs the kernel leaves the rings alone, so then
 * they can be set right; only how far the kernel's two counts are apart stays unknown
 * (ring_entries.c).
 *
 * Until then, and where the counts are apart by more than the ring is long, the guest runs on
 * because each KVM_EXIT_DIRTY_RING_FULL after which there was nothing to take gives some entries
 * back, filled or not.
 */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/* Calls in a row that take nothing back, until it is clear that there is nothing to take back. */
#define FRUITLESS  4

#define LENT_PARTS 16u

static const char overrun[] = "this kernel's KVM has overrun a dirty ring",
		  torn[] = "the kernel was interrupted while it took back entries of dirty rings";

static size_t ring_bytes(const struct vm *vm)
{
	return vm->backend->ring_entries * sizeof(struct kvm_dirty_gfn);
}

int32_t kvm_ring_map(struct vcpu *v)
{
	struct vm *vm = v->vm;
	void *entry;

	if (vm->backend->dirty != DIRTY_RING)
		return 0;
	entry = mmap(NULL, ring_bytes(vm), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd,
		     (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	if (entry == MAP_FAILED)
		return kvm_error(v->host, errno, "mapping a vCPU's dirty ring");
	v->ring = (struct ring){.entry = entry, .mask = vm->backend->ring_entries - 1};
	pthread_mutex_lock(&vm->lock);
	v->next_ringed = vm->ringed;
	vm->ringed = v;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

/* Takes V's entries. The lock is held. */
static void take(struct vm *vm, struct vcpu *v)
{
	struct taken t;

	if (vm->lost)
		return;
	t = kvm_ring_take(&v->ring, vm->slots, vm->nslots);
	vm->harvested += t.entries;
	if (t.filled > v->ring.mask)
		vm->lost = overrun;
	if (t.stray)
		impost_host_log(vm->host, IMPOST_LOG_WARN,
				"vCPU %u's dirty ring names %u pages that are not in their slot",
				v->id, t.stray);
}

/*
 * Has the kernel take back entries until it has *LEFT of them, or will not have more; counts *LEFT
 * down, and in *RET_PARTS the calls that it took. The lock is held.
 *
 * Since Linux 6.16 the kernel leaves off in the middle when a signal is pending, and says only how
 * many it has taken back; of up to 64 of these it then forgets to protect the pages. So no signal
 * may be pending: all are blocked meanwhile. What cannot be blocked (the process is stopped or
 * frozen, or the kernel has work for this thread) is over when the call has returned, and is seen
 * by there being another call; but for the moment after the last entry, when it looks like success.
 */
static int32_t take_back(const struct vm *vm, uint64_t *left, uint32_t *ret_parts)
{
	uint32_t parts = 0, fruitless = 0;
	sigset_t all, before;
	int32_t r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (*left && r >= 0 && fruitless < FRUITLESS) {
		r = KVM_IOCTL_VALUE(vm->host, vm->fd, KVM_RESET_DIRTY_RINGS, 0);
		if (r > 0) {
			*left -= (uint32_t)r < *left ? (uint32_t)r : *left;
			parts++;
		}
		fruitless = r ? 0 : fruitless + 1;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	*ret_parts = parts;
	return r < 0 ? r : 0;
}

/* Has the kernel protect the pages of all entries that were taken. The lock is held. */
static int32_t reset(struct vm *vm)
{
	uint32_t parts;
	int32_t r = take_back(vm, &vm->harvested, &parts);

	if (parts > 1)
		vm->lost = torn;
	if (r)
		return r;
	if (vm->harvested)
		vm->lost = overrun;
	vm->harvested = 0;
	return 0;
}

static int32_t check_lost(const struct vm *vm)
{
	if (!vm->lost)
		return 0;
	return impost_host_error(
		vm->host, -EIO,
		"%s: which pages the guest wrote is not known any more: stop the "
		"dirty logs of all slots and start them anew; if that happens again, "
		"use dirty_log = manual or bitmap, or a larger dirty_ring_entries "
		"than %u",
		vm->lost, vm->backend->ring_entries);
}

int32_t kvm_ring_harvest(struct vm *vm)
{
	int32_t r;

	for (struct vcpu *v = vm->ringed; v; v = v->next_ringed)
		take(vm, v);
	r = reset(vm);
	return r ? r : check_lost(vm);
}

void kvm_ring_drop(struct vm *vm)
{
	(void)kvm_ring_harvest(vm); /* a fetch that needs it tries again */
}

/*
 * Where the kernel stands in a ring is known, `next`, unless it took back fewer than it was given:
 * then it stands at an entry that it has filled. Of those any number may be given back.
 */
int32_t kvm_ring_renew(struct vm *vm)
{
	uint64_t left = UINT64_MAX;
	uint32_t parts;
	int32_t r;

	if (!vm->lost)
		return 0;
	for (struct vcpu *v = vm->ringed; v; v = v->next_ringed)
		kvm_ring_lend_filled(&v->ring);
	r = take_back(vm, &left, &parts);
	for (struct vcpu *v = vm->ringed; v; v = v->next_ringed)
		kvm_ring_settle(&v->ring);
	if (r)
		return r;
	vm->harvested = 0;
	vm->lost = NULL;
	return 0;
}

/*
 * Gives back some entries of a ring that the kernel has just called full, and out of which nothing
 * was taken: a part of the ring that is sure to be fewer than the kernel has in it (it keeps 64 for
 * itself of 256 or more, on Intel's processors 576 of 1024 or more), wherever the kernel stands.
 */
static int32_t lend(const struct vm *vm, struct vcpu *v)
{
	uint32_t part = (v->ring.mask + 1) / LENT_PARTS;

	for (uint32_t at = 0; at <= v->ring.mask; at += part) {
		uint64_t left = part;
		uint32_t parts;
		int32_t r;

		kvm_ring_lend(&v->ring, at, part);
		r = take_back(vm, &left, &parts);
		if (kvm_ring_settle(&v->ring) || r)
			return r;
	}
	return impost_host_error(vm->host, -EIO,
				 "this kernel's KVM calls vCPU %u's dirty ring full, and takes "
				 "nothing of it back: the vCPU cannot run on",
				 v->id);
}

int32_t kvm_ring_relieve(struct vcpu *v)
{
	struct vm *vm = v->vm;
	int32_t r;

	pthread_mutex_lock(&vm->lock);
	take(vm, v);
	r = reset(vm);
	/* Else it was somebody else who took the entries, after the vCPU had left the guest. */
	if (!r && v->ring.next == v->ring.full_at) {
		if (!v->ring.gaps)
			vm->lost = overrun;
		r = lend(vm, v);
	}
	v->ring.full_at = v->ring.next;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

void kvm_ring_unmap(struct vcpu *v)
{
	struct vm *vm = v->vm;
	struct vcpu **link;

	if (!v->ring.entry)
		return;
	pthread_mutex_lock(&vm->lock);
	take(vm, v);
	(void)reset(vm); /* the kernel keeps the ring as long as the VM: a later one does it */
	for (link = &vm->ringed; *link != v; link = &(*link)->next_ringed)
		;
	*link = v->next_ringed;
	pthread_mutex_unlock(&vm->lock);
	munmap(v->ring.entry, ring_bytes(vm));
}
