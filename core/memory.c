/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: a sorted map of regions, replaced whole, and checked access to it. */
#include <impost/memory.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "context.h"
#include "memory.h"
#include "text.h"
#include "vm.h"

/* A huge page: memory is placed so that gpa and hva agree modulo this, or the hypervisor cannot use
 * huge pages for it. */
#define HUGE_PAGE    (UINT64_C(2) << 20)

#define LEAST_REGION ABI_UP_TO(struct impost_region, reserved)

struct mapped {
	uint64_t gpa, bytes;
	uint8_t *hva;
	uint32_t kind, flags;
	uint32_t slot;
};

/* Immutable once it is published. */
struct map {
	struct map *retired; /* the one before, which a reader may still be looking at */
	uint32_t count;
	struct mapped region[];
};

struct impost_memory {
	struct impost_context *ctx;
	struct impost_vm *vm;
	/* Who replaces the map. Recursive: mem_moved comes inside mem_remove. */
	pthread_mutex_t lock;
	struct map *_Atomic map;
};

static const struct map *map_of(struct impost_memory *memory)
{
	return atomic_load_explicit(&memory->map, memory_order_acquire);
}

/* The first region that ends above GPA; map->count if none does. */
static uint32_t position(const struct map *map, uint64_t gpa)
{
	uint32_t low = 0, high = map->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (map->region[middle].gpa + (map->region[middle].bytes - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Turns GPA into a host pointer that is good for *ret_len bytes, at most BYTES; NULL if there is no
 * memory. Nothing else in the library does this arithmetic. Regions do not wrap around: see
 * check_region().
 */
static uint8_t *span(const struct map *map, uint64_t gpa, uint64_t bytes, uint64_t *ret_len)
{
	uint32_t at = position(map, gpa);
	const struct mapped *region = &map->region[at];
	uint64_t offset;

	if (at == map->count || gpa < region->gpa)
		return NULL;
	offset = gpa - region->gpa;
	*ret_len = bytes < region->bytes - offset ? bytes : region->bytes - offset;
	return region->hva + offset;
}

/* --- replacing the map --- */

static void free_retired(struct map *map)
{
	struct map *retired = map->retired, *next;

	map->retired = NULL;
	for (; retired; retired = next) {
		next = retired->retired;
		free(retired);
	}
}

/* A map with room for COUNT regions; -ENOMEM is said here. */
static struct map *new_map(struct impost_memory *memory, uint32_t count)
{
	struct map *map = calloc(1, sizeof(*map) + count * sizeof(map->region[0]));

	if (!map)
		impost_error_set(memory->ctx, -ENOMEM, "no memory for a map of %u regions", count);
	else
		map->count = count;
	return map;
}

/* MAP takes the present map's place. Readers may go on looking at that one, so it is kept. */
static void publish(struct impost_memory *memory, struct map *map)
{
	map->retired = memory->map;
	atomic_store_explicit(&memory->map, map, memory_order_release);
}

/* --- adding --- */

static int check_region(struct impost_memory *memory, const struct impost_region *region)
{
	struct impost_context *ctx = memory->ctx;
	const uint32_t flags = IMPOST_REGION_READONLY | IMPOST_REGION_NORESERVE;
	uint32_t bits = memory->vm ? memory->vm->caps.phys_bits : 0;
	uint64_t last = region->gpa + (region->bytes - 1);

	if (region->bytes == 0 || region->bytes % IMPOST_PAGE_SIZE)
		return impost_error_set(ctx, -EINVAL,
					"a region of %" PRIu64
					" bytes: it must be a multiple of %u, and not 0",
					region->bytes, IMPOST_PAGE_SIZE);
	if (region->gpa % IMPOST_PAGE_SIZE)
		return impost_error_set(ctx, -EINVAL,
					"a region at 0x%" PRIx64
					": it must begin at a multiple of %u",
					region->gpa, IMPOST_PAGE_SIZE);
	if (last < region->gpa || region->bytes > SIZE_MAX / 2 ||
	    (bits > 0 && bits < 64 && last >> bits))
		return impost_error_set(ctx, -EINVAL,
					"a region of %" PRIu64 " bytes at 0x%" PRIx64
					" goes beyond the guest's address space",
					region->bytes, region->gpa);
	if (region->reserved)
		return impost_error_set(ctx, -EINVAL,
					"struct impost_region: reserved is %u: it must be 0",
					region->reserved);
	if (region->kind > IMPOST_REGION_BACKEND || region->flags & ~flags)
		return impost_error_set(ctx, -EINVAL,
					"a region of kind %u with flags 0x%x: unknown to this "
					"version of the library",
					region->kind, region->flags);
	if (region->kind == IMPOST_REGION_POINTER &&
	    (!region->hva || (uintptr_t)region->hva % IMPOST_PAGE_SIZE))
		return impost_error_set(ctx, -EINVAL,
					"a region at host address %p: it must be page-aligned, and "
					"not NULL",
					region->hva);
	return 0;
}

static int check_overlap(struct impost_memory *memory, const struct map *map,
			 const struct impost_region *region)
{
	uint32_t at = position(map, region->gpa);
	const struct mapped *other = &map->region[at];

	if (at == map->count || region->gpa + (region->bytes - 1) < other->gpa)
		return 0;
	return impost_error_set(memory->ctx, -EEXIST,
				"the region 0x%" PRIx64 "-0x%" PRIx64
				" overlaps the one that is there, 0x%" PRIx64 "-0x%" PRIx64,
				region->gpa, region->gpa + (region->bytes - 1), other->gpa,
				other->gpa + (other->bytes - 1));
}

/* Kinds that the backend cannot do, and the one that takes the place of anonymous memory where the
 * hypervisor wants to allocate. */
static int choose_kind(struct impost_memory *memory, struct mapped *region)
{
	const struct impost_caps *caps = memory->vm ? &memory->vm->caps : NULL;
	enum impost_cap need = IMPOST_CAP_MEM_HOST;

	if (caps && region->kind == IMPOST_REGION_ANONYMOUS &&
	    !impost_caps_has(caps, IMPOST_CAP_MEM_HOST))
		region->kind = IMPOST_REGION_BACKEND;
	if (region->kind == IMPOST_REGION_BACKEND)
		need = IMPOST_CAP_MEM_BACKEND;
	if (!caps)
		return need == IMPOST_CAP_MEM_HOST
			       ? 0
			       : impost_error_set(memory->ctx, -ENOTSUP,
						  "backend memory needs a VM: this map has none");
	if (!impost_caps_has(caps, need))
		return vm_lacks(memory->vm, need);
	if (region->flags & IMPOST_REGION_READONLY &&
	    !impost_caps_has(caps, IMPOST_CAP_MEM_READONLY) &&
	    !impost_caps_has(caps, IMPOST_CAP_MEM_ROM_DROP))
		return vm_lacks(memory->vm, IMPOST_CAP_MEM_READONLY);
	return 0;
}

/* How much of MEMORY the host's kernel was asked for up front. */
static uint64_t reserved_bytes(const struct map *map)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < map->count; i++)
		if (map->region[i].kind == IMPOST_REGION_ANONYMOUS &&
		    !(map->region[i].flags & IMPOST_REGION_NORESERVE))
			bytes += map->region[i].bytes;
	return bytes;
}

static int no_memory(struct impost_memory *memory, uint64_t bytes)
{
	struct sysinfo info = {0};
	struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
	char limited[64] = "";

	sysinfo(&info);
	getrlimit(RLIMIT_AS, &limit);
	if (limit.rlim_cur != RLIM_INFINITY)
		snprintf(limited, sizeof(limited), ", and lets this process have %" PRIu64 " MiB",
			 (uint64_t)limit.rlim_cur >> 20);
	return impost_error_set(memory->ctx, -ENOMEM,
				"%" PRIu64 " MiB of guest memory: more than the host gives; it has "
				"%" PRIu64 " MiB of RAM and %" PRIu64 " MiB of swap%s",
				(bytes + reserved_bytes(memory->map)) >> 20,
				(uint64_t)info.totalram * info.mem_unit >> 20,
				(uint64_t)info.totalswap * info.mem_unit >> 20, limited);
}

/* More than all RAM and swap, with the regions that are there: a host that overcommits would grant
 * it and kill us later. */
static bool beyond_host(const struct impost_memory *memory, uint64_t bytes)
{
	struct sysinfo info;

	return sysinfo(&info) == 0 && (bytes + reserved_bytes(memory->map)) / info.mem_unit >
					      (uint64_t)info.totalram + info.totalswap;
}

/* Maps anonymous memory so that huge pages can be used for it: some more is mapped, and what is too
 * much at both ends unmapped. */
static int map_anonymous(struct impost_memory *memory, struct mapped *region)
{
	bool reserve = !(region->flags & IMPOST_REGION_NORESERVE);
	uint64_t more = region->bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
	uint64_t before;
	uint8_t *at;

	if (reserve && beyond_host(memory, region->bytes))
		return no_memory(memory, region->bytes);
	at = mmap(NULL, region->bytes + more, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | (reserve ? 0 : MAP_NORESERVE), -1, 0);
	if (at == MAP_FAILED)
		return no_memory(memory, region->bytes);
	before = more ? (region->gpa - (uintptr_t)at) % HUGE_PAGE : 0;
	if (before)
		munmap(at, before);
	if (more - before)
		munmap(at + before + region->bytes, more - before);
	region->hva = at + before;
	return 0;
}

static int choose_slot(struct impost_memory *memory, const struct map *map, uint32_t *ret_slot)
{
	uint32_t slots = memory->vm->caps.max_slots;

	for (uint32_t slot = 0; slot < slots && slot <= map->count; slot++) {
		uint32_t i = 0;

		while (i < map->count && map->region[i].slot != slot)
			i++;
		if (i == map->count) {
			*ret_slot = slot;
			return 0;
		}
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
	slot.bytes = region->bytes;
	slot.hva = region->hva;
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

static void unmap(const struct mapped *region)
{
	if (region->kind == IMPOST_REGION_ANONYMOUS)
		munmap(region->hva, region->bytes);
}

/* Gives REGION memory and puts it into MAP, which has room for it, at its place among those that
 * are there. */
static int place(struct impost_memory *memory, struct map *map, struct mapped *region)
{
	uint32_t at = position(memory->map, region->gpa);
	const struct map *old;
	int err = choose_kind(memory, region);

	if (!err && region->kind == IMPOST_REGION_ANONYMOUS)
		err = map_anonymous(memory, region);
	if (err)
		return err;
	if (memory->vm)
		err = give_to_backend(memory, region);
	if (err) {
		unmap(region);
		return err;
	}
	old = memory->map; /* only now: memory that is there may have moved */
	memcpy(map->region, old->region, at * sizeof(*region));
	map->region[at] = *region;
	memcpy(map->region + at + 1, old->region + at, (old->count - at) * sizeof(*region));
	return 0;
}

static int add_locked(struct impost_memory *memory, const struct impost_region *region)
{
	struct mapped mapped = {
		.gpa = region->gpa,
		.bytes = region->bytes,
		.hva = region->kind == IMPOST_REGION_POINTER ? region->hva : NULL,
		.kind = region->kind,
		.flags = region->flags,
	};
	struct map *map;
	int err = check_overlap(memory, memory->map, region);

	if (err)
		return err;
	map = new_map(memory, map_of(memory)->count + 1);
	if (!map)
		return -ENOMEM;
	err = place(memory, map, &mapped);
	if (err)
		free(map);
	else
		publish(memory, map);
	return err;
}

static int refuse_fork(struct impost_memory *memory)
{
	return memory->vm && context_forked(memory->ctx) ? context_refuse_fork(memory->ctx) : 0;
}

int impost_memory_add(struct impost_memory *memory, const struct impost_region *region)
{
	struct impost_region copy;
	int err = refuse_fork(memory);

	if (err)
		return err;
	err = abi_take(memory->ctx, "impost_region", &copy, sizeof(copy), region, LEAST_REGION);
	if (!err)
		err = check_region(memory, &copy);
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
	uint32_t at = position(map, gpa);

	if (at < map->count && map->region[at].gpa == gpa)
		return &map->region[at];
	impost_error_set(memory->ctx, -ENOENT, "no region starts at 0x%" PRIx64, gpa);
	return NULL;
}

static int remove_locked(struct impost_memory *memory, uint64_t gpa)
{
	const struct map *old = map_of(memory);
	const struct mapped *region = region_at(memory, old, gpa);
	struct impost_vm *vm = memory->vm;
	struct map *map;
	uint32_t at;
	int err;

	if (!region)
		return -ENOENT;
	at = (uint32_t)(region - old->region);
	map = new_map(memory, old->count - 1);
	if (!map)
		return -ENOMEM;
	err = vm ? VM_CALL(vm, vm->ops, vm->handle, mem_remove, region->slot) : 0;
	if (err) {
		free(map);
		return err;
	}
	old = map_of(memory); /* what stays may have moved */
	memcpy(map->region, old->region, at * sizeof(*region));
	memcpy(map->region + at, old->region + at + 1, (map->count - at) * sizeof(*region));
	unmap(&old->region[at]);
	publish(memory, map);
	free_retired(map); /* nobody may be reading now: see the header */
	return 0;
}

int impost_memory_remove(struct impost_memory *memory, uint64_t gpa)
{
	int err = refuse_fork(memory);

	if (err)
		return err;
	pthread_mutex_lock(&memory->lock);
	err = remove_locked(memory, gpa);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

int impost_memory_get(struct impost_memory *memory, uint32_t index,
		      struct impost_region *ret_region)
{
	const struct map *map = map_of(memory);
	struct impost_region region = {0};
	int err = refuse_fork(memory);

	if (!err)
		err = abi_check(memory->ctx, "impost_region", ret_region, LEAST_REGION);
	if (err)
		return err;
	if (index >= map->count)
		return impost_error_set(memory->ctx, -ENOENT, "there are %u regions", map->count);
	region.kind = map->region[index].kind;
	region.gpa = map->region[index].gpa;
	region.bytes = map->region[index].bytes;
	region.hva = map->region[index].hva;
	region.flags = map->region[index].flags;
	abi_give(ret_region, &region, sizeof(region));
	return 0;
}

int memory_slot(struct impost_memory *memory, uint64_t gpa, uint32_t *ret_slot, uint64_t *ret_bytes)
{
	const struct mapped *region = region_at(memory, map_of(memory), gpa);

	if (!region)
		return -ENOENT;
	*ret_slot = region->slot;
	*ret_bytes = region->bytes;
	return 0;
}

int memory_moved(struct impost_memory *memory, uint32_t slot, void *hva)
{
	struct map *old, *map;
	int err = -ENOENT;

	pthread_mutex_lock(&memory->lock);
	old = memory->map;
	map = new_map(memory, old->count);
	if (map)
		memcpy(map->region, old->region, old->count * sizeof(old->region[0]));
	for (uint32_t i = 0; map && i < map->count; i++)
		if (map->region[i].slot == slot && map->region[i].kind == IMPOST_REGION_BACKEND) {
			map->region[i].hva = hva;
			err = 0;
		}
	if (!map || err)
		free(map);
	else
		publish(memory, map);
	pthread_mutex_unlock(&memory->lock);
	return map ? err : -ENOMEM;
}

/* --- access --- */

int memory_lookup(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	uint64_t len;
	uint8_t *hva = span(map_of(memory), gpa, bytes, &len);

	if (!hva || len < bytes || bytes == 0)
		return -EFAULT;
	*ret_hva = hva;
	return 0;
}

int impost_memory_ptr(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	int err = refuse_fork(memory);

	if (err)
		return err;
	if (memory_lookup(memory, gpa, bytes, ret_hva) == 0)
		return 0;
	return impost_error_set(memory->ctx, -EFAULT,
				"0x%" PRIx64 ", %" PRIu64 " bytes: not within one region of memory",
				gpa, bytes);
}

/* Whether all of BYTES at GPA is memory. */
static int check_range(struct impost_memory *memory, const struct map *map, uint64_t gpa,
		       uint64_t bytes)
{
	uint64_t at = gpa, left = bytes, len;
	int err = refuse_fork(memory);

	if (err)
		return err;
	for (; left > 0; at += len, left -= len)
		if ((at == 0 && left != bytes) || !span(map, at, left, &len))
			return impost_error_set(memory->ctx, -EFAULT,
						"0x%" PRIx64 ", %" PRIu64
						" bytes: there is no memory at 0x%" PRIx64,
						gpa, bytes, at);
	return 0;
}

static int mark_dirty(struct impost_memory *memory, uint64_t gpa, uint64_t bytes)
{
	struct impost_vm *vm = memory->vm;

	if (!vm || bytes == 0 || !impost_caps_has(&vm->caps, IMPOST_CAP_MARK_DIRTY))
		return 0;
	return VM_CALL(vm, vm->ops, vm->handle, mark_dirty, gpa, bytes);
}

int impost_memory_read(struct impost_memory *memory, uint64_t gpa, void *buf, size_t bytes)
{
	const struct map *map = map_of(memory);
	const uint8_t *hva;
	uint8_t *to = buf;
	uint64_t len;
	int err = check_range(memory, map, gpa, bytes);

	if (err)
		return err;
	for (; bytes > 0 && (hva = span(map, gpa, bytes, &len));
	     bytes -= len, gpa += len, to += len)
		memcpy(to, hva, len);
	return 0;
}

int impost_memory_write(struct impost_memory *memory, uint64_t gpa, const void *buf, size_t bytes)
{
	const struct map *map = map_of(memory);
	const uint8_t *from = buf;
	uint64_t len, done;
	uint8_t *hva;
	int err = check_range(memory, map, gpa, bytes);

	if (err)
		return err;
	for (done = 0; done < bytes && (hva = span(map, gpa + done, bytes - done, &len));
	     done += len)
		memcpy(hva, from + done, len);
	return mark_dirty(memory, gpa, bytes);
}

int impost_memory_fill(struct impost_memory *memory, uint64_t gpa, uint8_t byte, uint64_t bytes)
{
	const struct map *map = map_of(memory);
	uint64_t len, done;
	uint8_t *hva;
	int err = check_range(memory, map, gpa, bytes);

	if (err)
		return err;
	for (done = 0; done < bytes && (hva = span(map, gpa + done, bytes - done, &len));
	     done += len)
		memset(hva, byte, len);
	return mark_dirty(memory, gpa, bytes);
}

/* pread() until LEN bytes are there. */
static int load(struct impost_memory *memory, int fd, uint8_t *hva, uint64_t offset, uint64_t len)
{
	uint64_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, hva + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return impost_error_set(memory->ctx, -errno, "cannot read the file: %m");
		if (n == 0)
			return impost_error_set(memory->ctx, -ENODATA,
						"the file ends at %" PRIu64 ", %" PRIu64
						" bytes too early",
						offset + done, len - done);
		done += (uint64_t)n;
	}
	return 0;
}

/*
 * Asks for huge pages below BYTES at GPA of the region there, before they are touched first: a
 * large file then costs one fault for each 2 MiB and not 512. Advice, which the kernel need not
 * take.
 */
static void advise_huge(const struct map *map, uint64_t gpa, uint64_t bytes)
{
	const struct mapped *region = &map->region[position(map, gpa)];
	uint64_t first = gpa & ~(HUGE_PAGE - 1);
	uint64_t last = (gpa + bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	uint64_t end = region->gpa + region->bytes;

	if (region->kind != IMPOST_REGION_ANONYMOUS || bytes < HUGE_PAGE)
		return;
	if (first < region->gpa)
		first += HUGE_PAGE;
	if (!last || last > end)
		last = end & ~(HUGE_PAGE - 1);
	if (first < last)
		madvise(region->hva + (first - region->gpa), last - first, MADV_HUGEPAGE);
}

int impost_memory_load_fd(struct impost_memory *memory, uint64_t gpa, int fd, uint64_t offset,
			  uint64_t bytes)
{
	const struct map *map = map_of(memory);
	uint64_t len, done;
	uint8_t *hva;
	int err = check_range(memory, map, gpa, bytes), dirty;

	if (err)
		return err;
	if (offset > INT64_MAX || bytes > INT64_MAX - offset)
		return impost_error_set(memory->ctx, -EINVAL,
					"%" PRIu64 " bytes at file offset %" PRIu64
					": no file is that long",
					bytes, offset);
	for (done = 0; !err && done < bytes && (hva = span(map, gpa + done, bytes - done, &len));
	     done += len) {
		advise_huge(map, gpa + done, len);
		err = load(memory, fd, hva, offset + done, len);
	}
	dirty = mark_dirty(memory, gpa, bytes); /* also what an error left behind */
	return err ? err : dirty;
}

/* --- the map itself --- */

int memory_create(struct impost_context *ctx, struct impost_vm *vm,
		  struct impost_memory **ret_memory)
{
	struct impost_memory *memory = calloc(1, sizeof(*memory));
	struct map *map = calloc(1, sizeof(*map));
	pthread_mutexattr_t recursive;

	if (!memory || !map) {
		free(map);
		free(memory);
		return impost_error_set(ctx, -ENOMEM, "no memory for a memory map");
	}
	memory->ctx = ctx;
	memory->vm = vm;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&memory->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	atomic_init(&memory->map, map);
	*ret_memory = memory;
	return 0;
}

void memory_destroy(struct impost_memory *memory)
{
	struct map *map;

	if (!memory)
		return;
	map = memory->map;
	for (uint32_t i = 0; i < map->count; i++)
		unmap(&map->region[i]);
	free_retired(map);
	free(map);
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

int impost_memory_create(struct impost_context *ctx, struct impost_memory **ret_memory)
{
	return memory_create(ctx, NULL, ret_memory);
}

void impost_memory_destroy(struct impost_memory *memory)
{
	if (memory && !memory->vm)
		memory_destroy(memory);
}

struct impost_context *impost_memory_context(const struct impost_memory *memory)
{
	return memory->ctx;
}
