/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: who adds and removes regions, and replaces the map that readers look at. */
#include <impost/memory.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "context.h"
#include "memory.h"
#include "pager.h"
#include "readers.h"
#include "region.h"
#include "text.h"
#include "view.h"
#include "vm.h"

#define LEAST_REGION ABI_UP_TO(struct impost_region, reserved)

/* --- replacing the map --- */

struct map *memory_new_map(struct impost_memory *memory, uint32_t count)
{
	struct map *map = map_new(count);

	if (!map)
		impost_error_set(memory->ctx, -ENOMEM, "no memory for a map of %u regions", count);
	return map;
}

/* Frees the maps that nobody looks at any more. */
static void reap(struct impost_memory *memory)
{
	struct map **at = &memory->older, *map;

	while ((map = *at)) {
		if (!readers_left(memory, map->replaced)) {
			at = &map->older;
			continue;
		}
		*at = map->older;
		map_free(map);
	}
}

uint64_t memory_publish(struct impost_memory *memory, struct map *map)
{
	struct map *old;
	uint64_t epoch;

	map_open_windows(map, view_tells(memory));
	old = atomic_exchange(&memory->map, map);
	epoch = readers_tick();

	old->replaced = epoch;
	old->older = memory->older;
	memory->older = old;
	reap(memory);
	return epoch;
}

/* Lets others run, the longer the more often it was called. */
static void rest(uint32_t times)
{
	const struct timespec nap = {.tv_nsec = times < 100 ? 20000 : 1000000};

	if (times < 10)
		sched_yield();
	else
		nanosleep(&nap, NULL);
}

void memory_wait(struct impost_memory *memory, uint64_t epoch)
{
	for (uint32_t times = 0; !readers_left(memory, epoch); times++) {
		if (times == 2000) /* some two seconds */
			context_log(
				memory->ctx, IMPOST_LOG_WARN,
				"a change of guest memory waits for a thread that has had a "
				"view of it for seconds: end views before anything that blocks");
		rest(times);
	}
	reap(memory);
}

int memory_check_outside(struct impost_memory *memory, const char *what)
{
	if (!readers_self_inside())
		return 0;
	return impost_error_set(memory->ctx, -EDEADLK,
				"%s: this thread has a view, for whose end it, or another that "
				"changes memory, would wait: end the view first",
				what);
}

/* --- adding --- */

static int check_overlap(struct impost_memory *memory, const struct map *map,
			 const struct impost_region *region)
{
	uint32_t at = map_find(map, region->gpa);
	const struct mapped *other = &map->region[at];

	if (at == map->count || region->gpa + (region->bytes - 1) < other->gpa)
		return 0;
	return impost_error_set(memory->ctx, -EEXIST,
				"the region 0x%" PRIx64 "-0x%" PRIx64
				" overlaps the one that is there, 0x%" PRIx64 "-0x%" PRIx64,
				region->gpa, region->gpa + (region->bytes - 1), other->gpa,
				other->last);
}

/* The lowest free slot: among so many regions one of the first count + 1 is. */
static int choose_slot(struct impost_memory *memory, const struct map *map, uint32_t *ret_slot)
{
	uint32_t slots = memory->vm->caps.max_slots, slot = 0;
	bool *taken = calloc(map->count + 1, sizeof(*taken));

	if (!taken)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory to choose a slot");
	for (uint32_t i = 0; i < map->count; i++)
		if (map->region[i].slot < map->count)
			taken[map->region[i].slot] = true;
	while (taken[slot])
		slot++;
	free(taken);
	if (slot < slots) {
		*ret_slot = slot;
		return 0;
	}
	return impost_error_set(memory->ctx, -ENOSPC, "backend %s has %u memory slots: all taken",
				memory->vm->plugin->name, slots);
}

/* Tells the hypervisor of REGION, and where it allocates, learns the host's address. */
static int give_to_backend(struct impost_memory *memory, struct mapped *region)
{
	struct impost_vm *vm = memory->vm;
	struct impost_slot slot = {.size = sizeof(slot), .fd = -1};
	void *hva = NULL;
	int err = choose_slot(memory, memory->map, &region->slot);

	if (err)
		return err;
	slot.slot = region->slot;
	slot.gpa = region->gpa;
	slot.bytes = mapped_bytes(region);
	slot.hva = region->hva;
	if (region->backing && region->flags & IMPOST_REGION_SHARED) {
		slot.fd = region->backing->fd;
		slot.fd_offset = region->backing->offset;
	}
	if (region->flags & IMPOST_REGION_READONLY)
		slot.flags = impost_caps_has(&vm->caps, IMPOST_CAP_MEM_READONLY)
				     ? IMPOST_SLOT_READONLY
				     : IMPOST_SLOT_ROM_DROP;
	if (region->kind != IMPOST_REGION_BACKEND)
		return VM_CALL(vm, vm->ops, vm->handle, mem_add, &slot);
	err = VM_CALL(vm, vm->ops, vm->handle, mem_provide, &slot, &hva);
	if (!err)
		region->hva = hva;
	return err;
}

/* Tells the hypervisor, and has the region tracked where somebody tracks. */
static int enter(struct impost_memory *memory, struct mapped *region, struct tracked **ret_tracked)
{
	struct impost_vm *vm = memory->vm;
	int err = vm ? give_to_backend(memory, region) : 0;

	if (err)
		return err;
	err = dirty_attach(memory, region, ret_tracked);
	if (err && vm)
		VM_CALL(vm, vm->ops, vm->handle, mem_remove, region->slot);
	return err;
}

/* Gives REGION memory and puts it into MAP, which has room for it, with those that are there. */
static int place(struct impost_memory *memory, struct map *map, const struct impost_region *want,
		 struct mapped *region, struct tracked **ret_tracked)
{
	int err = region_choose_kind(memory, want, region);

	if (!err)
		err = region_map(memory, want, region);
	if (err)
		return err;
	err = enter(memory, region, ret_tracked);
	if (err)
		region_unmap(region);
	else
		map_insert(map, memory->map, region); /* only now: what is there may have moved */
	return err;
}

static int add_locked(struct impost_memory *memory, const struct impost_region *region)
{
	struct mapped mapped = {
		.gpa = region->gpa,
		.last = region->gpa + (region->bytes - 1),
		.hva = region->kind == IMPOST_REGION_POINTER ? region->hva : NULL,
		.kind = region->kind,
		.flags = region->flags,
	};
	struct tracked *tracked;
	struct map *map;
	int err = check_overlap(memory, memory->map, region);

	if (err)
		return err;
	map = memory_new_map(memory, memory->map->count + 1);
	if (!map)
		return -ENOMEM;
	err = place(memory, map, region, &mapped, &tracked);
	if (err) {
		map_free(map);
		return err;
	}
	memory_publish(memory, map);
	dirty_attached(memory, tracked);
	return 0;
}

int memory_check(struct impost_memory *memory)
{
	return context_forked(memory->ctx) ? context_refuse_fork(memory->ctx) : 0;
}

int impost_memory_add(struct impost_memory *memory, const struct impost_region *region)
{
	struct impost_region copy;
	int err = memory_check(memory);

	if (!err)
		err = memory_check_outside(memory, "impost_memory_add");
	if (err)
		return err;
	err = abi_take(memory->ctx, "impost_region", &copy, sizeof(copy), region, LEAST_REGION);
	if (!err)
		err = region_check(memory, &copy);
	if (err)
		return err;
	pthread_mutex_lock(&memory->lock);
	err = add_locked(memory, &copy);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

/* --- removing and asking --- */

/* The region that starts at GPA; NULL, with a text: none does. */
static const struct mapped *region_at(struct impost_memory *memory, const struct map *map,
				      uint64_t gpa)
{
	uint32_t at = map_find(map, gpa);

	if (at < map->count && map->region[at].gpa == gpa)
		return &map->region[at];
	impost_error_set(memory->ctx, -ENOENT, "no region starts at 0x%" PRIx64, gpa);
	return NULL;
}

/*
 * Takes the memory out of the guest, then out of the map, and unmaps it when nobody looks at it any
 * more. Where it fails nobody has noticed.
 */
static int remove_host(struct impost_memory *memory, struct map *map, uint32_t at)
{
	struct impost_vm *vm = memory->vm;
	struct mapped region = memory->map->region[at];
	int err;

	dirty_leaving(memory, region.gpa); /* its log ends, and nobody shall ask for it */
	err = vm ? VM_CALL(vm, vm->ops, vm->handle, mem_remove, region.slot) : 0;
	if (err) {
		dirty_stays(memory, region.gpa);
		map_free(map);
		return err;
	}
	map_omit(map, memory->map, at); /* only now: what stays may have moved */
	memory_wait(memory, memory_publish(memory, map));
	dirty_left(memory, region.gpa);
	pager_forget(memory, region.gpa);
	region_unmap(&region);
	return 0;
}

/*
 * The hypervisor unmaps its own memory: it is taken out of the map first, and put back if that
 * fails.
 */
static int remove_backend(struct impost_memory *memory, struct map *map, uint32_t at)
{
	struct impost_vm *vm = memory->vm;
	struct mapped region = memory->map->region[at];
	struct map *back = memory_new_map(memory, memory->map->count);
	int err;

	if (!back) {
		map_free(map);
		return -ENOMEM;
	}
	dirty_leaving(memory, region.gpa);
	map_omit(map, memory->map, at);
	memory_wait(memory, memory_publish(memory, map));
	err = VM_CALL(vm, vm->ops, vm->handle, mem_remove, region.slot);
	if (!err) {
		dirty_left(memory, region.gpa);
		map_free(back);
		return 0;
	}
	dirty_stays(memory, region.gpa);
	map_insert(back, memory->map, &region);
	memory_publish(memory, back);
	return err;
}

static int remove_locked(struct impost_memory *memory, uint64_t gpa)
{
	const struct mapped *region = region_at(memory, memory->map, gpa);
	struct map *map;
	uint32_t at;

	if (!region)
		return -ENOENT;
	at = (uint32_t)(region - memory->map->region);
	map = memory_new_map(memory, memory->map->count - 1);
	if (!map)
		return -ENOMEM;
	return region->kind == IMPOST_REGION_BACKEND ? remove_backend(memory, map, at)
						     : remove_host(memory, map, at);
}

int impost_memory_remove(struct impost_memory *memory, uint64_t gpa)
{
	int err = memory_check(memory);

	if (!err)
		err = memory_check_outside(memory, "impost_memory_remove");
	if (err)
		return err;
	pthread_mutex_lock(&memory->lock);
	err = remove_locked(memory, gpa);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

/* Region number INDEX into *region, and their number. */
static int get(struct impost_memory *memory, uint32_t index, struct impost_region *region,
	       uint32_t *count)
{
	struct reader *reader = reader_enter(memory);
	const struct map *map;

	if (!reader)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a view");
	map = atomic_load_explicit(&memory->map, memory_order_acquire);
	*count = map->count;
	if (index < map->count)
		region_tell(&map->region[index], region);
	reader_leave(reader);
	return 0;
}

int impost_memory_get(struct impost_memory *memory, uint32_t index,
		      struct impost_region *ret_region)
{
	struct impost_region region = {0};
	uint32_t count = 0;
	int err = memory_check(memory);

	if (!err)
		err = abi_check(memory->ctx, "impost_region", ret_region, LEAST_REGION);
	if (!err)
		err = get(memory, index, &region, &count);
	if (err)
		return err;
	if (index >= count)
		return impost_error_set(memory->ctx, -ENOENT, "there are %u regions", count);
	abi_give(ret_region, &region, sizeof(region));
	return 0;
}

int memory_slot(struct impost_memory *memory, uint64_t gpa, uint32_t *ret_slot, uint64_t *ret_bytes)
{
	struct reader *reader = reader_enter(memory);
	const struct mapped *region;

	if (!reader)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a view");
	region = region_at(memory, atomic_load_explicit(&memory->map, memory_order_acquire), gpa);
	if (region) {
		*ret_slot = region->slot;
		*ret_bytes = mapped_bytes(region);
	}
	reader_leave(reader);
	return region ? 0 : -ENOENT;
}

static int moved_locked(struct impost_memory *memory, uint32_t slot, void *hva)
{
	struct map *map = memory_new_map(memory, memory->map->count);
	int err = -ENOENT;

	if (!map)
		return -ENOMEM;
	map_copy(map, memory->map);
	for (uint32_t i = 0; i < map->count; i++)
		if (map->region[i].slot == slot && map->region[i].kind == IMPOST_REGION_BACKEND) {
			map->region[i].hva = hva;
			err = 0;
		}
	if (err)
		map_free(map);
	else
		memory_wait(memory, memory_publish(memory, map));
	return err;
}

int memory_moved(struct impost_memory *memory, uint32_t slot, void *hva)
{
	int err = memory_check_outside(memory, "mem_moved");

	if (err)
		return err;
	pthread_mutex_lock(&memory->lock);
	err = moved_locked(memory, slot, hva);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

/* --- the map itself --- */

int memory_create(struct impost_context *ctx, struct impost_vm *vm,
		  struct impost_memory **ret_memory)
{
	struct impost_memory *memory = calloc(1, sizeof(*memory));
	struct map *map = map_new(0);
	pthread_mutexattr_t recursive;

	if (!memory || !map) {
		map_free(map);
		free(memory);
		return impost_error_set(ctx, -ENOMEM, "no memory for a memory map");
	}
	memory->ctx = ctx;
	memory->vm = vm;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&memory->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_mutex_init(&memory->tracker.lock, NULL);
	atomic_init(&memory->map, map);
	*ret_memory = memory;
	return 0;
}

void memory_destroy(struct impost_memory *memory)
{
	struct map *map;

	if (!memory)
		return;
	pager_stop(memory);
	map = memory->map;
	for (uint32_t i = 0; i < map->count; i++)
		region_unmap(&map->region[i]);
	map_free(map);
	while ((map = memory->older)) {
		memory->older = map->older;
		map_free(map);
	}
	pthread_mutex_destroy(&memory->tracker.lock);
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

int impost_memory_create(struct impost_context *ctx, struct impost_memory **ret_memory)
{
	if (context_forked(ctx))
		return context_refuse_fork(ctx);
	return memory_create(ctx, NULL, ret_memory);
}

int impost_memory_destroy(struct impost_memory *memory)
{
	int err = memory && !memory->vm ? dirty_busy(memory, false, "impost_memory_destroy") : 0;

	if (memory && !memory->vm && !err)
		memory_destroy(memory);
	return err;
}

struct impost_context *impost_memory_context(const struct impost_memory *memory)
{
	return memory->ctx;
}
