/* SPDX-License-Identifier: Apache-2.0 */
/* Where the memory of regions lies in the host: address, NUMA nodes, pages; and whether there is
 * so much. */
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "region.h"

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MAP_HUGE_2MB /* mmap(2): the logarithm of the page's size */
#define MAP_HUGE_2MB (21 << 26)
#define MAP_HUGE_1GB (30 << 26)
#endif

_Static_assert(IMPOST_NUMA_PREFERRED == MPOL_PREFERRED && IMPOST_NUMA_BIND == MPOL_BIND &&
		       IMPOST_NUMA_INTERLEAVE == MPOL_INTERLEAVE,
	       "mbind(2) takes them as they are");

/* --- how much there is --- */

/* Whether the kernel is asked for all of a region's memory up front, and it is to be counted. */
static bool is_counted(uint32_t kind, uint32_t flags, uint64_t page)
{
	return (kind == IMPOST_REGION_ANONYMOUS || kind == IMPOST_REGION_MEMFD) &&
	       page == IMPOST_PAGE_SIZE &&
	       (!(flags & IMPOST_REGION_NORESERVE) || flags & IMPOST_REGION_PREFAULT);
}

static uint64_t reserved_bytes(const struct map *map)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < map->count; i++) {
		const struct mapped *region = &map->region[i];

		if (region->backing &&
		    is_counted(region->kind, region->flags, region->backing->page))
			bytes += mapped_bytes(region);
	}
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

/* More than all RAM and swap, with the regions that are there, a host that overcommits would grant,
 * and kill us later. */
int region_check_amount(struct impost_memory *memory, const struct impost_region *want)
{
	uint64_t page = want->page_bytes ? want->page_bytes : IMPOST_PAGE_SIZE;
	struct sysinfo info;

	if (!is_counted(want->kind, want->flags, page) || sysinfo(&info) ||
	    (want->bytes + reserved_bytes(memory->map)) / info.mem_unit <=
		    (uint64_t)info.totalram + info.totalswap)
		return 0;
	return no_memory(memory, want->bytes);
}

/* A number in a file of /sys; 0 if there is none. */
static uint64_t huge_number(uint64_t page, const char *name)
{
	uint64_t number = 0;
	char text[96];
	FILE *file;

	snprintf(text, sizeof(text), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s",
		 page >> 10, name);
	file = fopen(text, "re");
	if (!file)
		return 0;
	if (fgets(text, sizeof(text), file))
		number = strtoull(text, NULL, 10);
	fclose(file);
	return number;
}

static int no_huge_pages(struct impost_memory *memory, uint64_t page, uint64_t bytes)
{
	uint64_t need = bytes / page, have = huge_number(page, "free_hugepages");
	uint64_t taken = huge_number(page, "resv_hugepages");

	have -= taken < have ? taken : have;
	return impost_error_set(memory->ctx, -ENOMEM,
				"%" PRIu64 " huge pages of %" PRIu64 " MiB: the host has %" PRIu64
				" free; reserve them, as root, by adding %" PRIu64
				" to /sys/kernel/mm/hugepages/hugepages-%" PRIu64
				"kB/nr_hugepages, or at boot with hugepagesz=%" PRIu64
				"M hugepages=%" PRIu64,
				need, page >> 20, have, need - (have < need ? have : need),
				page >> 10, page >> 20, need);
}

static int cannot_map(struct impost_memory *memory, const struct impost_region *want,
		      const struct backing *backing)
{
	char name[160] = "anonymous memory";

	if (errno == ENOMEM && backing->page != IMPOST_PAGE_SIZE)
		return no_huge_pages(memory, backing->page, want->bytes);
	if (errno == ENOMEM)
		return no_memory(memory, want->bytes);
	if (backing->fd >= 0) {
		int err = errno;

		backing_name(backing, name, sizeof(name));
		errno = err;
	}
	return impost_error_set(memory->ctx, -errno, "%s cannot be mapped, %" PRIu64 " bytes: %m",
				name, want->bytes);
}

/* --- the address --- */

/* A stretch of addresses that are free now, and agree with GPA modulo ALIGN. NULL: none. */
static void *find_place(uint64_t gpa, uint64_t bytes, uint64_t align)
{
	uint8_t *at = mmap(NULL, bytes + align, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	munmap(at, bytes + align);
	return at + (gpa - (uintptr_t)at) % align;
}

/*
 * Maps so that gpa and hva agree modulo a huge page, if there is room for one. Another thread may
 * take the place in between: then again, and where that does not help, at any address.
 */
static void *map_aligned(const struct mapped *region, int prot, int flags, int fd, uint64_t offset,
			 uint64_t align)
{
	const uint64_t bytes = mapped_bytes(region);

	for (int tries = 0; align <= bytes && tries < 16; tries++) {
		void *place = find_place(region->gpa, bytes, align), *hva;

		if (!place)
			break;
		hva = mmap(place, bytes, prot, flags | MAP_FIXED_NOREPLACE, fd, (off_t)offset);
		if (hva != MAP_FAILED || errno != EEXIST)
			return hva;
	}
	return mmap(NULL, bytes, prot, flags, fd, (off_t)offset);
}

static int map_memory(struct impost_memory *memory, const struct impost_region *want,
		      struct mapped *region)
{
	const struct backing *backing = region->backing;
	bool huge = backing->page != IMPOST_PAGE_SIZE;
	int flags = region->flags & IMPOST_REGION_SHARED ? MAP_SHARED : MAP_PRIVATE;
	void *hva;

	if (huge)
		region->flags &= ~IMPOST_REGION_NORESERVE;
	if (region->flags & IMPOST_REGION_NORESERVE)
		flags |= MAP_NORESERVE;
	if (backing->fd < 0)
		flags |= MAP_ANONYMOUS;
	if (backing->fd < 0 && huge)
		flags |= MAP_HUGETLB |
			 (backing->page == IMPOST_PAGE_2M ? MAP_HUGE_2MB : MAP_HUGE_1GB);
	hva = map_aligned(region, PROT_READ | (region->access & MAPPED_WRITE ? PROT_WRITE : 0),
			  flags, backing->fd, backing->offset, huge ? backing->page : HUGE_PAGE);
	if (hva == MAP_FAILED)
		return cannot_map(memory, want, backing);
	region->hva = hva;
	return 0;
}

/* --- NUMA nodes --- */

/* Bits of the kernel's set of nodes: more than any has. */
#define MOST_NODES 4096u

/* The nodes below 64 that this process may have memory of; 0: not known. */
static uint64_t allowed_nodes(void)
{
	unsigned long mask[MOST_NODES / 64] = {0};

	return syscall(SYS_get_mempolicy, NULL, mask, (unsigned long)MOST_NODES, NULL,
		       (unsigned long)MPOL_F_MEMS_ALLOWED)
		       ? 0
		       : mask[0];
}

/* The kernel takes a policy for the shared pages of a file on disk, and goes by none: mbind(2). */
static bool ignores_policy(const struct mapped *region)
{
	const struct backing *backing = region->backing;
	struct statfs status;

	return backing->fd >= 0 && region->flags & IMPOST_REGION_SHARED &&
	       fstatfs(backing->fd, &status) == 0 && status.f_type != TMPFS_MAGIC &&
	       status.f_type != HUGETLBFS_MAGIC;
}

static int place_on_nodes(struct impost_memory *memory, const struct mapped *region)
{
	const struct backing *backing = region->backing;
	uint64_t allowed = allowed_nodes();
	unsigned long nodes = backing->nodes;
	char asked[REGION_NODES], may[REGION_NODES];
	int error;

	if (backing->policy == IMPOST_NUMA_DEFAULT)
		return 0;
	if (allowed && nodes & ~allowed)
		return impost_error_set(memory->ctx, -EINVAL,
					"NUMA nodes %s: this process may have memory of the host's "
					"nodes %s alone",
					region_nodes(nodes, asked), region_nodes(allowed, may));
	if (ignores_policy(region))
		return impost_error_set(memory->ctx, -ENOTSUP,
					"the shared pages of a file on a disk cannot be placed on "
					"NUMA nodes: take a private region, or a file on tmpfs or "
					"hugetlbfs");
	/* The kernel takes one bit less than it is told (mbind(2), BUGS). */
	error = syscall(SYS_mbind, region->hva, mapped_bytes(region),
			(unsigned long)backing->policy, &nodes, 8 * sizeof(nodes) + 1, 0ul)
			? errno
			: 0;
	if (error)
		return impost_error_set(memory->ctx, error == ENOSYS ? -ENOTSUP : -error,
					"cannot place memory on NUMA nodes %s: %s",
					region_nodes(nodes, asked), strerror(error));
	return 0;
}

/* --- pages --- */

/* Whether populating is to write: not private pages of a file, which would all be copied. */
static bool populates_by_writing(const struct mapped *region)
{
	return region->access & MAPPED_WRITE &&
	       (region->backing->fd < 0 || region->flags & IMPOST_REGION_SHARED);
}

/*
 * Touches each page, for kernels before 5.14: through process_vm_readv(2), where what cannot be
 * touched is an error. Fresh memory is zero, and zero is written to it; a file is only read, lest a
 * byte that another process writes be lost.
 */
static int touch(const struct mapped *region)
{
	bool write = populates_by_writing(region) && region->kind != IMPOST_REGION_FILE &&
		     region->kind != IMPOST_REGION_FD;
	uint64_t bytes = mapped_bytes(region);
	uint8_t byte = 0;

	for (uint64_t at = 0; at < bytes; at += region->backing->page) {
		const struct iovec ours = {&byte, 1}, guests = {region->hva + at, 1};
		ssize_t n = write ? process_vm_writev(getpid(), &ours, 1, &guests, 1, 0)
				  : process_vm_readv(getpid(), &ours, 1, &guests, 1, 0);

		if (n < 0)
			return -errno;
	}
	return 0;
}

static int populate(const struct mapped *region)
{
	int advice = populates_by_writing(region) ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	while (madvise(region->hva, mapped_bytes(region), advice))
		if (errno == EINVAL)
			return touch(region);
		else if (errno != EINTR)
			return -errno;
	return 0;
}

static int prefault(struct impost_memory *memory, const struct mapped *region)
{
	uint64_t bytes = mapped_bytes(region);
	int err = region->flags & IMPOST_REGION_PREFAULT ? populate(region) : 0;

	if (!err)
		return 0;
	if ((err == -EFAULT || err == -ENOMEM) && region->backing->page != IMPOST_PAGE_SIZE)
		return no_huge_pages(memory, region->backing->page, bytes);
	if (err == -ENOMEM)
		return no_memory(memory, bytes);
	if (err == -EFAULT)
		return impost_error_set(memory->ctx, -EIO,
					"%" PRIu64 " bytes cannot be prefaulted: the host has no "
					"memory, or the file's disk no space, for some page",
					bytes);
	errno = -err;
	return impost_error_set(memory->ctx, err, "%" PRIu64 " bytes cannot be prefaulted: %m",
				bytes);
}

int region_place(struct impost_memory *memory, const struct impost_region *want,
		 struct mapped *region)
{
	int err = map_memory(memory, want, region);

	if (err)
		return err;
	err = place_on_nodes(memory, region);
	if (!err)
		err = prefault(memory, region);
	if (err)
		munmap(region->hva, mapped_bytes(region));
	return err;
}
