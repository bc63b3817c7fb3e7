/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of guest memory: what is asked for, checked, and what they are made of. */
#include "region.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "text.h"
#include "vm.h"

int region_check(struct impost_memory *memory, const struct impost_region *region)
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

int region_choose_kind(struct impost_memory *memory, struct mapped *region)
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
			bytes += mapped_bytes(&map->region[i]);
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
	uint64_t bytes = mapped_bytes(region);
	uint64_t more = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
	uint64_t before;
	uint8_t *at;

	if (reserve && beyond_host(memory, bytes))
		return no_memory(memory, bytes);
	at = mmap(NULL, bytes + more, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | (reserve ? 0 : MAP_NORESERVE), -1, 0);
	if (at == MAP_FAILED)
		return no_memory(memory, bytes);
	before = more ? (region->gpa - (uintptr_t)at) % HUGE_PAGE : 0;
	if (before)
		munmap(at, before);
	if (more - before)
		munmap(at + before + bytes, more - before);
	region->hva = at + before;
	return 0;
}

void backing_name(const struct backing *backing, char *buf, size_t bytes)
{
	char link[32];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", backing->fd);
	len = readlink(link, buf, bytes - 1);
	if (len > 0)
		buf[len] = '\0';
	else
		snprintf(buf, bytes, "its file");
	text_clean(buf);
}

int region_map(struct impost_memory *memory, struct mapped *region)
{
	region->access = MAPPED_WRITE | MAPPED_DIRECT;
	return region->kind == IMPOST_REGION_ANONYMOUS ? map_anonymous(memory, region) : 0;
}

void region_unmap(const struct mapped *region)
{
	if (region->kind == IMPOST_REGION_ANONYMOUS)
		munmap(region->hva, mapped_bytes(region));
}
