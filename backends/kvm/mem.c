/* SPDX-License-Identifier: Apache-2.0 */
/* Memory slots. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

int32_t kvm_slot_set(const struct vm *vm, uint32_t number, const struct slot *s, uint64_t bytes)
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

struct slot *kvm_slot_find(const struct vm *vm, uint32_t number)
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
		r = kvm_slot_set(vm, slot->slot, &s, s.bytes);
	if (!r)
		vm->slots[slot->slot] = s;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int32_t kvm_mem_remove(void *handle, uint32_t number)
{
	struct vm *vm = handle;
	uint64_t *log = NULL;
	struct slot *s;
	int32_t r = -ENOENT;

	pthread_mutex_lock(&vm->lock);
	s = kvm_slot_find(vm, number);
	if (s)
		r = kvm_slot_set(vm, number, s, 0);
	if (s && !r) {
		log = s->log;
		*s = (struct slot){0};
		if (log)
			kvm_ring_drop(vm);
	}
	pthread_mutex_unlock(&vm->lock);
	free(log);
	return r;
}
