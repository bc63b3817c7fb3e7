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
 * guest code, overwrites entries: then every entry is filled, which else does not happen. What the
 * guest wrote is not known any more, nor would all of its pages be logged from then on, so fetching
 * is refused for good; the guest runs on.
 */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

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
	uint32_t stray = 0;
	uint32_t count = kvm_ring_take(&v->ring, vm->slots, vm->nslots, &stray);

	vm->harvested += count;
	if (count > v->ring.mask)
		vm->overrun = true;
	if (stray)
		impost_host_log(vm->host, IMPOST_LOG_WARN,
				"vCPU %u's dirty ring names %u pages that are not in their slot",
				v->id, stray);
}

/*
 * Has the kernel protect the pages of all entries that were taken. The lock is held.
 *
 * Since Linux 6.16 the kernel leaves off in the middle when a signal is pending, and says only how
 * many it has taken back; of up to 64 of these it then forgets to protect the pages. So no signal
 * may be pending: all are blocked meanwhile.
 */
static int32_t reset(struct vm *vm)
{
	sigset_t all, before;
	int32_t r = 0;

	if (!vm->harvested)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (vm->harvested && r >= 0) {
		r = KVM_IOCTL_VALUE(vm->host, vm->fd, KVM_RESET_DIRTY_RINGS, 0);
		if (r > 0)
			vm->harvested -= (uint32_t)r < vm->harvested ? (uint32_t)r : vm->harvested;
		else if (!r)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		return r;
	/* Entries that were read are empty again, or the kernel has written over them. */
	if (vm->harvested)
		vm->overrun = true;
	vm->harvested = 0;
	return 0;
}

static int32_t check_overrun(const struct vm *vm)
{
	if (!vm->overrun)
		return 0;
	return impost_host_error(
		vm->host, -EIO,
		"this kernel's KVM has overrun a dirty ring: which pages the guest "
		"wrote is not known any more: use dirty_log = manual or bitmap, or "
		"a larger dirty_ring_entries than %u",
		vm->backend->ring_entries);
}

int32_t kvm_ring_harvest(struct vm *vm)
{
	int32_t r;

	for (struct vcpu *v = vm->ringed; v; v = v->next_ringed)
		take(vm, v);
	r = reset(vm);
	return r ? r : check_overrun(vm);
}

void kvm_ring_drop(struct vm *vm)
{
	(void)kvm_ring_harvest(vm); /* a fetch that needs it tries again */
}

int32_t kvm_ring_relieve(struct vcpu *v)
{
	struct vm *vm = v->vm;
	int32_t r;

	pthread_mutex_lock(&vm->lock);
	take(vm, v);
	if (vm->overrun)
		vm->harvested += kvm_ring_skip(&v->ring);
	r = reset(vm);
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
