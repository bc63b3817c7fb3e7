/* SPDX-License-Identifier: Apache-2.0 */
/* Memory slots and their dirty logs. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define PAGE 4096u

/* Sets slot NUMBER in the kernel; bytes 0 removes it. */
static int32_t set_region(const struct vm *vm, uint32_t number, const struct slot *s,
			  uint64_t bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = number,
		.flags = s->flags,
		.guest_phys_addr = s->gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)s->hva,
	};

	return KVM_IOCTL(vm->host, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* Makes room for slot NUMBER in the table. The lock is held. */
static int32_t grow(struct vm *vm, uint32_t number)
{
	struct slot *slots;
	uint32_t n = vm->nslots ? vm->nslots : 16;

	if (number < vm->nslots)
		return 0;
	while (n <= number)
		n *= 2;
	slots = realloc(vm->slots, n * sizeof(*slots));
	if (!slots)
		return kvm_error(vm->host, ENOMEM, "adding memory");
	memset(slots + vm->nslots, 0, (n - vm->nslots) * sizeof(*slots));
	vm->slots = slots;
	vm->nslots = n;
	return 0;
}

/* The slot NUMBER, which must exist, or NULL with a text. The lock is held. */
static struct slot *find(const struct vm *vm, uint32_t number)
{
	if (number < vm->nslots && vm->slots[number].used)
		return &vm->slots[number];
	impost_host_error(vm->host, -ENOENT, "there is no memory slot %u", number);
	return NULL;
}

static int32_t check_slot(const struct vm *vm, const struct impost_slot *slot)
{
	const struct impost_caps *caps = &vm->backend->caps;

	if (slot->slot >= caps->max_slots)
		return impost_host_error(vm->host, -EINVAL, "memory slot %u: KVM has %u here",
					 slot->slot, caps->max_slots);
	if (slot->flags & IMPOST_SLOT_ROM_DROP)
		return impost_host_error(vm->host, -ENOTSUP,
					 "KVM cannot drop guest writes to memory (mem-rom-drop)");
	if (slot->flags & ~IMPOST_SLOT_READONLY)
		return impost_host_error(vm->host, -EINVAL, "unknown slot flags 0x%x", slot->flags);
	if ((slot->flags & IMPOST_SLOT_READONLY) && !impost_caps_has(caps, IMPOST_CAP_MEM_READONLY))
		return impost_host_error(vm->host, -ENOTSUP,
					 "this kernel's KVM has no read-only memory");
	return 0;
}

int32_t kvm_mem_add(void *handle, const struct impost_slot *slot)
{
	struct vm *vm = handle;
	struct slot s = {
		.gpa = slot->gpa,
		.bytes = slot->bytes,
		.hva = slot->hva,
		.flags = slot->flags & IMPOST_SLOT_READONLY ? KVM_MEM_READONLY : 0,
		.used = true,
	};
	int32_t r = check_slot(vm, slot);

	if (r)
		return r;
	pthread_mutex_lock(&vm->lock);
	r = grow(vm, slot->slot);
	if (!r && vm->slots[slot->slot].used)
		r = impost_host_error(vm->host, -EEXIST, "memory slot %u is in use", slot->slot);
	if (!r)
		r = set_region(vm, slot->slot, &s, s.bytes);
	if (!r)
		vm->slots[slot->slot] = s;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int32_t kvm_mem_remove(void *handle, uint32_t number)
{
	struct vm *vm = handle;
	struct slot *s;
	int32_t r = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	s = find(vm, number);
	if (s)
		r = set_region(vm, number, s, 0);
	if (s && !r)
		*s = (struct slot){0};
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static int32_t set_logging(struct vm *vm, uint32_t number, bool on)
{
	struct slot *s, changed;
	int32_t r = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	s = find(vm, number);
	if (s) {
		changed = *s;
		changed.flags &= ~(uint32_t)KVM_MEM_LOG_DIRTY_PAGES;
		if (on)
			changed.flags |= KVM_MEM_LOG_DIRTY_PAGES;
		r = set_region(vm, number, &changed, changed.bytes);
		if (!r)
			*s = changed;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int32_t kvm_dirty_start(void *vm, uint32_t slot)
{
	return set_logging(vm, slot, true);
}

int32_t kvm_dirty_stop(void *vm, uint32_t slot)
{
	return set_logging(vm, slot, false);
}

/* The slot NUMBER with a log, or NULL with a text. The lock is held. */
static const struct slot *find_logged(const struct vm *vm, uint32_t number)
{
	const struct slot *s = find(vm, number);

	if (!s || (s->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return s;
	impost_host_error(vm->host, -ENOENT, "memory slot %u has no dirty log: start it first",
			  number);
	return NULL;
}

static int32_t fetch(const struct vm *vm, uint32_t number, const struct slot *s, uint64_t *bitmap,
		     uint64_t nwords)
{
	uint64_t words = (s->bytes / PAGE + 63) / 64;
	struct kvm_dirty_log log = {.slot = number};
	uint64_t *fresh;
	int32_t r;

	if (nwords < words)
		return impost_host_error(vm->host, -ENOSPC,
					 "the dirty log of slot %u has %llu words of 64 pages, "
					 "not %llu",
					 number, (unsigned long long)words,
					 (unsigned long long)nwords);
	/* The kernel overwrites, and what is promised is to add. */
	fresh = malloc(words * sizeof(*fresh));
	if (!fresh)
		return kvm_error(vm->host, ENOMEM, "fetching the dirty log");
	log.dirty_bitmap = fresh;
	r = KVM_IOCTL(vm->host, vm->fd, KVM_GET_DIRTY_LOG, &log);
	for (uint64_t i = 0; !r && i < words; i++)
		bitmap[i] |= fresh[i];
	free(fresh);
	return r;
}

int32_t kvm_dirty_fetch(void *handle, uint32_t number, uint64_t *bitmap, uint64_t nwords)
{
	struct vm *vm = handle;
	const struct slot *s;
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
	uint64_t pages = s->bytes / PAGE, whole = npages & ~UINT64_C(63), tail = npages & 63;
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
	if (s && !impost_caps_has(&vm->backend->caps, IMPOST_CAP_DIRTY_MANUAL))
		r = impost_host_error(vm->host, -ENOTSUP,
				      "this kernel's dirty log is cleared by fetching it");
	else if (s)
		r = clear(vm, number, s, first, npages, bitmap);
	pthread_mutex_unlock(&vm->lock);
	return r;
}
