/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of guest memory as the host wants them: which could be. */
#include <cpuid.h>
#include <inttypes.h>
#include <stdio.h>

#include "region.h"
#include "text.h"
#include "vm.h"

/* What a kind of region can have. */
struct kind_rules {
	uint32_t flags;
	bool pages; /* page_bytes, and a place on the host's nodes */
	bool file;  /* fd_offset */
	const char *name;
};

#define ANY	(IMPOST_REGION_READONLY | IMPOST_REGION_NORESERVE)
#define OWN	(ANY | IMPOST_REGION_PREFAULT)
#define OF_FILE (OWN | IMPOST_REGION_SHARED | IMPOST_REGION_TRUST_FILE)

static const struct kind_rules kinds[] = {
	[IMPOST_REGION_ANONYMOUS] = {OWN, true, false, "anonymous memory"},
	[IMPOST_REGION_POINTER] = {ANY, false, false, "the host's own memory"},
	[IMPOST_REGION_BACKEND] = {ANY, false, false, "the backend's memory"},
	[IMPOST_REGION_MEMFD] = {OWN | IMPOST_REGION_SHARED, true, false, "a memfd"},
	[IMPOST_REGION_FILE] = {OF_FILE, true, true, "a file"},
	[IMPOST_REGION_FD] = {OF_FILE, true, true, "a given file"},
};

static int check_range(struct impost_memory *memory, const struct impost_region *region)
{
	struct impost_context *ctx = memory->ctx;
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
	return 0;
}

static int check_known(struct impost_memory *memory, const struct impost_region *region)
{
	struct impost_context *ctx = memory->ctx;
	const uint32_t flags = OF_FILE;

	if (region->reserved || region->reserved2)
		return impost_error_set(ctx, -EINVAL,
					"struct impost_region: %s is %u: it must be 0",
					region->reserved ? "reserved" : "reserved2",
					region->reserved ? region->reserved : region->reserved2);
	if (region->kind >= ARRAY_SIZE(kinds) || region->flags & ~flags)
		return impost_error_set(ctx, -EINVAL,
					"a region of kind %u with flags 0x%x: unknown to this "
					"version of the library",
					region->kind, region->flags);
	if (region->numa_policy > IMPOST_NUMA_INTERLEAVE)
		return impost_error_set(ctx, -EINVAL,
					"a region with NUMA policy %u: unknown to this version of "
					"the library",
					region->numa_policy);
	return 0;
}

/* What of REGION its kind has not; NULL: nothing. */
static const char *excess(const struct impost_region *region)
{
	const struct kind_rules *kind = &kinds[region->kind];
	const struct {
		uint32_t flag;
		const char *name;
	} flags[] = {
		{IMPOST_REGION_SHARED, "the flag IMPOST_REGION_SHARED"},
		{IMPOST_REGION_PREFAULT, "the flag IMPOST_REGION_PREFAULT"},
		{IMPOST_REGION_TRUST_FILE, "the flag IMPOST_REGION_TRUST_FILE"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (region->flags & flags[i].flag & ~kind->flags)
			return flags[i].name;
	if (!kind->pages && region->page_bytes && region->page_bytes != IMPOST_PAGE_SIZE)
		return "page_bytes";
	if (!kind->pages && (region->numa_policy || region->numa_nodes))
		return "a NUMA policy";
	if (!kind->file && region->fd_offset)
		return "fd_offset";
	if (region->kind != IMPOST_REGION_FILE && region->path)
		return "path";
	return NULL;
}

/*
 * The last host address that a process can have, but for its guard page. Addresses are of 48 bits,
 * or 57 (SDM vol. 1, 3.3.7.1), and the upper half is the kernel's. Where the CPU could do 57 and
 * the kernel does not, more is let pass than is there.
 */
static uint64_t last_host_address(void)
{
	uint32_t eax, ebx, ecx, edx, bits = 57;

	if (__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) && (eax >> 8 & 0xff))
		bits = eax >> 8 & 0xff;
	return (UINT64_C(1) << (bits - 1)) - IMPOST_PAGE_SIZE - 1;
}

static int check_pointer(struct impost_memory *memory, const struct impost_region *region)
{
	struct impost_context *ctx = memory->ctx;
	const uint64_t hva = (uintptr_t)region->hva, last = hva + (region->bytes - 1);

	if (region->kind != IMPOST_REGION_POINTER)
		return 0;
	if (!hva || hva % IMPOST_PAGE_SIZE)
		return impost_error_set(ctx, -EINVAL,
					"a region at host address %p: it must be page-aligned, and "
					"not NULL",
					region->hva);
	if (last < hva || last > last_host_address())
		return impost_error_set(ctx, -EINVAL,
					"a region of %" PRIu64
					" bytes at host address %p: it goes beyond what a process "
					"can have, 0x%" PRIx64,
					region->bytes, region->hva, last_host_address());
	return 0;
}

static int check_kind(struct impost_memory *memory, const struct impost_region *region)
{
	struct impost_context *ctx = memory->ctx;
	const char *what = excess(region);

	if (what)
		return impost_error_set(ctx, -EINVAL, "a region of %s cannot have %s",
					kinds[region->kind].name, what);
	if (region->kind == IMPOST_REGION_FILE && !region->path)
		return impost_error_set(ctx, -EINVAL, "a region of a file has no path");
	if (region->fd_offset % IMPOST_PAGE_SIZE ||
	    region->fd_offset > INT64_MAX - (region->bytes - 1))
		return impost_error_set(ctx, -EINVAL,
					"a region from file offset %" PRIu64
					": it must be a multiple of %u, and the end below 2^63",
					region->fd_offset, IMPOST_PAGE_SIZE);
	return 0;
}

const char *region_nodes(uint64_t nodes, char *buf)
{
	size_t len = 0;

	buf[0] = 0;
	for (unsigned first = 0; first < 64; first++) {
		unsigned last = first;

		if (!(nodes >> first & 1))
			continue;
		while (last < 63 && nodes >> (last + 1) & 1)
			last++;
		len += (size_t)snprintf(buf + len, REGION_NODES - len, "%s%u", len ? "," : "",
					first);
		if (last > first)
			len += (size_t)snprintf(buf + len, REGION_NODES - len, "-%u", last);
		first = last;
	}
	return buf;
}

static int check_numa(struct impost_memory *memory, const struct impost_region *region)
{
	uint64_t nodes = region->numa_nodes;
	bool one = nodes && !(nodes & (nodes - 1));
	char list[REGION_NODES];

	if (region->numa_policy == IMPOST_NUMA_DEFAULT && nodes)
		return impost_error_set(memory->ctx, -EINVAL,
					"a region with NUMA nodes %s and no policy: nothing says "
					"what they are for",
					region_nodes(nodes, list));
	if (region->numa_policy != IMPOST_NUMA_DEFAULT && !nodes)
		return impost_error_set(memory->ctx, -EINVAL,
					"a region with a NUMA policy and no nodes");
	if (region->numa_policy == IMPOST_NUMA_PREFERRED && !one)
		return impost_error_set(memory->ctx, -EINVAL,
					"a region that prefers NUMA nodes %s: only one can be "
					"preferred",
					region_nodes(nodes, list));
	return 0;
}

int region_check_pages(struct impost_memory *memory, const struct impost_region *region,
		       uint64_t page)
{
	const struct {
		const char *name;
		uint64_t value;
	} members[] = {
		{"address", region->gpa},
		{"length", region->bytes},
		{"file offset", region->fd_offset},
	};

	if (page == IMPOST_PAGE_SIZE)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (members[i].value % page)
			return impost_error_set(memory->ctx, -EINVAL,
						"a region of pages of %" PRIu64
						" MiB: its %s 0x%" PRIx64
						" must be a multiple of that",
						page >> 20, members[i].name, members[i].value);
	return 0;
}

static int check_pages(struct impost_memory *memory, const struct impost_region *region)
{
	uint64_t page = region->page_bytes ? region->page_bytes : IMPOST_PAGE_SIZE;

	if (page != IMPOST_PAGE_SIZE && page != IMPOST_PAGE_2M && page != IMPOST_PAGE_1G)
		return impost_error_set(memory->ctx, -EINVAL,
					"a region of pages of %" PRIu64
					" bytes: there are 4 KiB, 2 MiB and 1 GiB",
					page);
	return region_check_pages(memory, region, page);
}

int region_check(struct impost_memory *memory, const struct impost_region *region)
{
	int (*const checks[])(struct impost_memory *, const struct impost_region *) = {
		check_range, check_known, check_kind, check_pointer, check_numa, check_pages,
	};
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(checks); i++)
		err = checks[i](memory, region);
	return err;
}
