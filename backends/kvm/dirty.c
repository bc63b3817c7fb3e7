/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty logs, in the three ways that kernels keep them (kernel, Documentation/virt/kvm/api.rst:
 * KVM_GET_DIRTY_LOG, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_DIRTY_LOG_RING):
 *
 *	bitmap	KVM_GET_DIRTY_LOG gives a slot's bits, clears them and protects the pages again
 *	manual	it only gives them; KVM_CLEAR_DIRTY_LOG clears, and protects. All bits are set at
 *		the start where the kernel can do that, which spares protecting the whole slot
 *	ring	each vCPU puts the pages that it writes into a ring: ring.c
 *
 * Which it is holds for the whole VM. Starting and stopping a log changes nothing but the slot's
 * flags, for which the kernel does not take the memory away: vCPUs may run.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "internal.h"

/* QEMU's recommendation, too; 64 KiB for each vCPU. */
#define RING_ENTRIES 4096u

/* --- which kind --- */

/* Makes dirty logs of the VM behind FD rings with B's number of entries: 0 or a positive errno. */
static int enable_ring(const struct backend *b, int fd)
{
	struct kvm_enable_cap cap = {
		.cap = b->ring_extension,
		.args = {(uint64_t)b->ring_entries * sizeof(struct kvm_dirty_gfn)},
	};

	return ioctl(fd, KVM_ENABLE_CAP, &cap) ? errno : 0;
}

/*
 * The kernel tells the largest ring; how many entries it keeps for itself, and so the smallest one,
 * is seen by trying: one page of them, and on Intel's processors more than the 512 that the
 * page-modification log holds.
 */
static int32_t check_entries(const struct backend *b, uint32_t bytes)
{
	uint32_t most = bytes / (uint32_t)sizeof(struct kvm_dirty_gfn);
	int fd, err;

	if (b->ring_entries & (b->ring_entries - 1) || b->ring_entries > most)
		return impost_host_error(b->host, -EINVAL,
					 "dirty_ring_entries = %u: a power of two is needed, and "
					 "this kernel's KVM has %u at the most",
					 b->ring_entries, most);
	fd = ioctl(b->fd, KVM_CREATE_VM, 0UL);
	if (fd < 0)
		return kvm_error(b->host, errno, "KVM_CREATE_VM, to try dirty rings");
	err = enable_ring(b, fd);
	close(fd);
	if (err == EINVAL)
		return impost_host_error(b->host, -EINVAL,
					 "dirty_ring_entries = %u: this kernel's KVM refuses so "
					 "small a ring: 256 are the least, on Intel's processors "
					 "1024",
					 b->ring_entries);
	return err ? kvm_error(b->host, err, "KVM_ENABLE_CAP KVM_CAP_DIRTY_LOG_RING") : 0;
}

/*
 * Rings come under two names: the newer one says that user space must order its accesses, which
 * ring_entries.c does anyway.
 */
static int32_t choose_ring(struct backend *b, uint32_t entries)
{
	static const uint32_t extensions[] = {KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
					      KVM_CAP_DIRTY_LOG_RING};

	for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
		uint32_t bytes = kvm_extension(b->fd, extensions[i]);

		if (!bytes)
			continue;
		b->ring_extension = extensions[i];
		b->ring_entries = entries ? entries : RING_ENTRIES;
		impost_caps_add(&b->caps, IMPOST_CAP_DIRTY_RING);
		return check_entries(b, bytes);
	}
	return impost_host_error(b->host, -ENOTSUP,
				 "dirty_log = ring: this kernel's KVM has no dirty rings "
				 "(KVM_CAP_DIRTY_LOG_RING: Linux 5.11 and later)");
}

/* The kernel's flags for clearing by hand; 0: it cannot. */
static uint32_t manual_flags(const struct backend *b)
{
	uint32_t has = kvm_extension(b->fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

	if (!(has & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE))
		return 0;
	return has & (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
}

int32_t kvm_dirty_choose(struct backend *b, enum dirty_kind kind, uint32_t ring_entries)
{
	uint32_t flags = manual_flags(b);

	if (kind == DIRTY_AUTO)
		kind = flags ? DIRTY_MANUAL : DIRTY_BITMAP;
	b->dirty = kind;
	if (kind == DIRTY_RING)
		return choose_ring(b, ring_entries);
	if (ring_entries)
		return impost_host_error(b->host, -EINVAL,
					 "dirty_ring_entries = %u: there are no rings without "
					 "dirty_log = ring",
					 ring_entries);
	if (kind == DIRTY_BITMAP)
		return 0;
	if (!flags)
		return impost_host_error(b->host, -ENOTSUP,
					 "dirty_log = manual: this kernel's KVM lacks "
					 "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 (Linux 5.2 and later)");
	b->manual_flags = flags;
	impost_caps_add(&b->caps, IMPOST_CAP_DIRTY_MANUAL);
	if (flags & KVM_DIRTY_LOG_INITIALLY_SET)
		impost_caps_add(&b->caps, IMPOST_CAP_DIRTY_INITIALLY_SET);
	return 0;
}

/*
 * Never both: with all bits set at the start the kernel leaves pages unprotected until they are
 * cleared, and with rings there is nothing to clear: it would log nothing.
 */
int32_t kvm_dirty_enable(const struct vm *vm)
{
	const struct backend *b = vm->backend;
	struct kvm_enable_cap manual = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
					.args = {b->manual_flags}};
	int err;

	switch (b->dirty) {
	case DIRTY_RING:
		err = enable_ring(b, vm->fd);
		return err ? kvm_error(vm->host, err, "KVM_ENABLE_CAP KVM_CAP_DIRTY_LOG_RING") : 0;
	case DIRTY_MANUAL:
		return kvm_ioctl(vm->host, vm->fd, KVM_ENABLE_CAP,
				 "KVM_ENABLE_CAP KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", &manual);
	default:
		return 0;
	}
}

/* --- starting and stopping --- */

static uint64_t words_of(const struct slot *s)
{
	return (s->bytes / KVM_PAGE + 63) / 64;
}

/* The lock is held. */
static int32_t start(struct vm *vm, uint32_t number, struct slot *s)
{
	struct slot logged = *s;
	int32_t r;

	if (s->log)
		return impost_host_error(vm->host, -EEXIST, "memory slot %u has a dirty log",
					 number);
	logged.flags |= KVM_MEM_LOG_DIRTY_PAGES;
	logged.first_word = words_of(s);
	logged.end_word = 0;
	logged.log = calloc(words_of(s), sizeof(*logged.log));
	if (!logged.log)
		return kvm_error(vm->host, ENOMEM, "starting a dirty log");
	r = kvm_slot_set(vm, number, &logged, logged.bytes);
	if (r)
		free(logged.log);
	else
		*s = logged;
	return r;
}

/* The lock is held. */
static bool any_log(const struct vm *vm)
{
	for (uint32_t i = 0; i < vm->nslots; i++)
		if (vm->slots[i].log)
			return true;
	return false;
}

int32_t kvm_dirty_start(void *handle, uint32_t number)
{
	struct vm *vm = handle;
	struct slot *s;
	int32_t r = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	s = kvm_slot_find(vm, number);
	if (s)
		r = any_log(vm) ? 0 : kvm_ring_renew(vm);
	if (!r)
		r = start(vm, number, s);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

/* The slot NUMBER with a log, or NULL with a text. The lock is held. */
static struct slot *find_logged(const struct vm *vm, uint32_t number)
{
	struct slot *s = kvm_slot_find(vm, number);

	if (!s || s->log)
		return s;
	impost_host_error(vm->host, -ENOENT, "memory slot %u has no dirty log: start it first",
			  number);
	return NULL;
}

int32_t kvm_dirty_stop(void *handle, uint32_t number)
{
	struct vm *vm = handle;
	struct slot *s, changed;
	uint64_t *log = NULL;
	int32_t r = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	s = find_logged(vm, number);
	if (s) {
		changed = *s;
		changed.flags &= ~(uint32_t)KVM_MEM_LOG_DIRTY_PAGES;
		changed.log = NULL;
		r = kvm_slot_set(vm, number, &changed, changed.bytes);
	}
	if (s && !r) {
		log = s->log;
		*s = changed;
		kvm_ring_drop(vm);
	}
	pthread_mutex_unlock(&vm->lock);
	free(log);
	return r;
}

/* --- fetching and clearing --- */

/* The kernel overwrites, and what is promised is to add. */
static int32_t fetch_bitmap(const struct vm *vm, uint32_t number, struct slot *s, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {.slot = number, .dirty_bitmap = s->log};
	int32_t r = KVM_IOCTL(vm->host, vm->fd, KVM_GET_DIRTY_LOG, &log);

	for (uint64_t i = 0; !r && i < words_of(s); i++)
		bitmap[i] |= s->log[i];
	return r;
}

static int32_t fetch_ring(struct vm *vm, struct slot *s, uint64_t *bitmap)
{
	int32_t r = kvm_ring_harvest(vm);

	if (r)
		return r;
	for (uint64_t i = s->first_word; i < s->end_word; i++) {
		bitmap[i] |= s->log[i];
		s->log[i] = 0;
	}
	s->first_word = words_of(s);
	s->end_word = 0;
	return 0;
}

static int32_t fetch(struct vm *vm, uint32_t number, struct slot *s, uint64_t *bitmap,
		     uint64_t nwords)
{
	if (nwords < words_of(s))
		return impost_host_error(vm->host, -ENOSPC,
					 "the dirty log of slot %u has %llu words of 64 pages, "
					 "not %llu",
					 number, (unsigned long long)words_of(s),
					 (unsigned long long)nwords);
	if (vm->backend->dirty == DIRTY_RING)
		return fetch_ring(vm, s, bitmap);
	return fetch_bitmap(vm, number, s, bitmap);
}

int32_t kvm_dirty_fetch(void *handle, uint32_t number, uint64_t *bitmap, uint64_t nwords)
{
	struct vm *vm = handle;
	struct slot *s;
	int32_t r = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	s = find_logged(vm, number);
	if (s)
		r = fetch(vm, number, s, bitmap, nwords);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static int32_t clear_words(const struct vm *vm, uint32_t number, uint64_t first, uint64_t npages,
			   const uint64_t *bitmap)
{
	struct kvm_clear_dirty_log log = {
		.slot = number,
		.first_page = first,
		.num_pages = (uint32_t)npages,
		.padding2 = (uintptr_t)bitmap,
	};

	return npages ? KVM_IOCTL(vm->host, vm->fd, KVM_CLEAR_DIRTY_LOG, &log) : 0;
}

/*
 * The kernel clears whole words, but for the slot's last: pages beyond the range in the range's
 * last word are masked out here. Its count has 32 bits, so a slot above 16 TiB is done in parts.
 */
static int32_t clear(const struct vm *vm, uint32_t number, const struct slot *s, uint64_t first,
		     uint64_t npages, const uint64_t *bitmap)
{
	const uint64_t part = UINT64_C(1) << 31;
	uint64_t pages = s->bytes / KVM_PAGE, whole = npages & ~UINT64_C(63), tail = npages & 63;
	uint64_t last, left;
	int32_t r = 0;

	if (first % 64 || first > pages || npages > pages - first)
		return impost_host_error(vm->host, -EINVAL,
					 "pages %llu and %llu more are not in slot %u or do not "
					 "start at a multiple of 64",
					 (unsigned long long)first, (unsigned long long)npages,
					 number);
	for (uint64_t at = 0; at < whole && !r; at += part)
		r = clear_words(vm, number, first + at, whole - at < part ? whole - at : part,
				bitmap + at / 64);
	if (r || !tail)
		return r;
	last = bitmap[whole / 64] & ((UINT64_C(1) << tail) - 1);
	left = pages - first - whole;
	return clear_words(vm, number, first + whole, left < 64 ? left : 64, &last);
}

int32_t kvm_dirty_clear(void *handle, uint32_t number, uint64_t first, uint64_t npages,
			const uint64_t *bitmap)
{
	struct vm *vm = handle;
	const struct slot *s;
	int32_t r = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	s = find_logged(vm, number);
	if (s && vm->backend->dirty != DIRTY_MANUAL)
		r = impost_host_error(vm->host, -ENOTSUP,
				      "this dirty log is cleared by fetching it: only dirty_log = "
				      "manual has a second step");
	else if (s)
		r = clear(vm, number, s, first, npages, bitmap);
	pthread_mutex_unlock(&vm->lock);
	return r;
}
