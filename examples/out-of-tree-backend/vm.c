/* SPDX-License-Identifier: Apache-2.0 */
/* The VM: its memory, and the log of pages that the guest wrote. */
#include "toy.h"

#include <stdlib.h>

static void destroy(void *handle)
{
	struct toy_vm *vm = handle;

	for (uint32_t i = 0; i < TOY_SLOTS; i++)
		free(vm->slots[i].log);
	pthread_rwlock_destroy(&vm->slots_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int32_t toy_vm_create(void *backend, const struct impost_vm_args *args, void **ret_vm)
{
	struct toy_vm *vm = calloc(1, sizeof(*vm));
	pthread_rwlockattr_t attributes;

	(void)backend;
	if (!vm)
		return impost_host_error(args->host, -ENOMEM, "out of memory");
	vm->host = args->host;
	vm->max_vcpus = args->max_vcpus;
	pthread_mutex_init(&vm->lock, NULL);
	/* Guests are readers nearly all the time: who adds memory must not wait until none is. */
	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&vm->slots_lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	*ret_vm = vm;
	return 0;
}

/* --- memory; the core has checked alignment, overlap and numbers --- */

static int32_t mem_add(void *handle, const struct impost_slot *slot)
{
	struct toy_vm *vm = handle;

	if (slot->gpa + slot->bytes > UINT64_C(1) << TOY_PHYS)
		return impost_host_error(vm->host, -EINVAL,
					 "memory at %#llx: the toy's addresses have %u bits",
					 (unsigned long long)slot->gpa, TOY_PHYS);
	pthread_rwlock_wrlock(&vm->slots_lock);
	vm->slots[slot->slot] = (struct toy_slot){
		.gpa = slot->gpa, .bytes = slot->bytes, .hva = slot->hva, .flags = slot->flags};
	pthread_rwlock_unlock(&vm->slots_lock);
	return 0;
}

static int32_t mem_remove(void *handle, uint32_t slot)
{
	struct toy_vm *vm = handle;

	pthread_rwlock_wrlock(&vm->slots_lock); /* no guest is inside now */
	free(vm->slots[slot].log);
	vm->slots[slot] = (struct toy_slot){.bytes = 0};
	pthread_rwlock_unlock(&vm->slots_lock);
	return 0;
}

struct toy_slot *toy_slot_at(struct toy_vm *vm, uint64_t gpa)
{
	for (uint32_t i = 0; i < TOY_SLOTS; i++)
		if (gpa - vm->slots[i].gpa < vm->slots[i].bytes)
			return &vm->slots[i];
	return NULL;
}

/* --- dirty log --- */

static uint64_t words_of(const struct toy_slot *slot)
{
	return (slot->bytes / TOY_PAGE + 63) / 64;
}

/*
 * Called behind the write. Before it, a fetch could take the bit, the host read the old contents,
 * and the new ones be in no log.
 */
void toy_slot_written(struct toy_slot *slot, uint64_t gpa)
{
	uint64_t page = (gpa - slot->gpa) / TOY_PAGE;

	if (slot->log)
		atomic_fetch_or(&slot->log[page / 64], UINT64_C(1) << (page % 64));
}

static int32_t dirty_start(void *handle, uint32_t number)
{
	struct toy_vm *vm = handle;
	struct toy_slot *slot = &vm->slots[number];
	int32_t err = 0;

	pthread_rwlock_wrlock(&vm->slots_lock);
	if (!slot->bytes)
		err = impost_host_error(vm->host, -ENOENT, "there is no slot %u", number);
	else if (slot->log)
		err = impost_host_error(vm->host, -EEXIST, "slot %u has a dirty log", number);
	else if (!(slot->log = calloc(words_of(slot), sizeof(*slot->log))))
		err = impost_host_error(vm->host, -ENOMEM, "out of memory");
	pthread_rwlock_unlock(&vm->slots_lock);
	return err;
}

static int32_t no_log(struct toy_vm *vm, uint32_t number)
{
	return impost_host_error(vm->host, -ENOENT, "slot %u has no dirty log", number);
}

static int32_t dirty_stop(void *handle, uint32_t number)
{
	struct toy_vm *vm = handle;
	_Atomic uint64_t *log;

	pthread_rwlock_wrlock(&vm->slots_lock);
	log = vm->slots[number].log;
	vm->slots[number].log = NULL;
	pthread_rwlock_unlock(&vm->slots_lock);
	free(log);
	return log ? 0 : no_log(vm, number);
}

/* Clears what it takes: the toy claims no dirty-manual. Guests go on meanwhile. */
static int32_t dirty_fetch(void *handle, uint32_t number, uint64_t *bitmap, uint64_t nwords)
{
	struct toy_vm *vm = handle;
	const struct toy_slot *slot = &vm->slots[number];
	int32_t err = 0;

	pthread_rwlock_rdlock(&vm->slots_lock);
	if (!slot->log)
		err = no_log(vm, number);
	else if (nwords < words_of(slot))
		err = impost_host_error(vm->host, -ENOSPC, "the log of slot %u has %llu words",
					number, (unsigned long long)words_of(slot));
	for (uint64_t i = 0; !err && i < words_of(slot); i++)
		bitmap[i] |= atomic_exchange(&slot->log[i], 0);
	pthread_rwlock_unlock(&vm->slots_lock);
	return err;
}

/* --- state of the VM: it has none but its memory --- */

static int32_t state_get(void *handle, uint32_t section, void *buf, uint32_t capacity,
			 uint32_t *ret_size)
{
	const struct toy_vm *vm = handle;

	(void)buf;
	(void)capacity;
	(void)ret_size;
	if (section == IMPOST_SECTION_PIC || section == IMPOST_SECTION_IOAPIC ||
	    section == IMPOST_SECTION_PIT)
		return impost_host_error(vm->host, -ENOENT,
					 "section %u: the toy has no interrupt controllers",
					 section);
	return impost_host_error(vm->host, -ENOTSUP, "the toy has no VM section %u", section);
}

static int32_t state_set(void *handle, uint32_t section, const void *buf, uint32_t bytes)
{
	uint32_t size;

	(void)bytes;
	return state_get(handle, section, (void *)(uintptr_t)buf, 0, &size);
}

const struct impost_vm_ops toy_vm_ops = {
	.size = sizeof(toy_vm_ops),
	.destroy = destroy,
	.vcpu_create = toy_vcpu_create,
	.mem_add = mem_add,
	.mem_remove = mem_remove,
	.dirty_start = dirty_start,
	.dirty_stop = dirty_stop,
	.dirty_fetch = dirty_fetch,
	.state_get = state_get,
	.state_set = state_set,
};
