/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of guest memory: what they are made of. */
#include "region.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "text.h"
#include "vm.h"

/* What BACKEND memory cannot be asked for, where it takes the place of anonymous memory. */
static int check_backend(struct impost_memory *memory, const struct impost_region *want)
{
	const char *what = NULL;

	if (want->flags & IMPOST_REGION_PREFAULT)
		what = "prefaulted";
	else if (want->page_bytes > IMPOST_PAGE_SIZE)
		what = "of huge pages";
	else if (want->numa_policy)
		what = "placed on NUMA nodes";
	if (!what)
		return 0;
	return impost_error_set(memory->ctx, -ENOTSUP,
				"backend %s allocates the guest's memory itself: it cannot be %s",
				memory->vm->plugin->name, what);
}

int region_choose_kind(struct impost_memory *memory, const struct impost_region *want,
		       struct mapped *region)
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
	return need == IMPOST_CAP_MEM_BACKEND ? check_backend(memory, want) : 0;
}

/* How a kind of region gets its file; NULL: it is anonymous memory. */
typedef int open_file(struct impost_memory *memory, const struct impost_region *want,
		      struct backing *backing, uint32_t *ret_access);

static open_file *const open_kind[] = {
	[IMPOST_REGION_MEMFD] = region_make_memfd,
	[IMPOST_REGION_FILE] = region_open_path,
	[IMPOST_REGION_FD] = region_take_fd,
};

static struct backing *new_backing(const struct impost_region *want)
{
	struct backing *backing = calloc(1, sizeof(*backing));

	if (!backing)
		return NULL;
	backing->fd = -1;
	backing->page = want->page_bytes ? want->page_bytes : IMPOST_PAGE_SIZE;
	backing->policy = want->numa_policy;
	backing->nodes = want->numa_nodes;
	return backing;
}

static void free_backing(struct backing *backing)
{
	if (backing->fd >= 0)
		close(backing->fd);
	free(backing);
}

int region_map(struct impost_memory *memory, const struct impost_region *want,
	       struct mapped *region)
{
	int err;

	region->access = MAPPED_WRITE | MAPPED_DIRECT;
	if (region->kind == IMPOST_REGION_POINTER || region->kind == IMPOST_REGION_BACKEND)
		return 0;
	if (region->kind == IMPOST_REGION_MEMFD)
		region->flags |= IMPOST_REGION_SHARED;
	err = region_check_amount(memory, want);
	if (err)
		return err;
	region->backing = new_backing(want);
	if (!region->backing)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a region");
	if (region->kind != IMPOST_REGION_ANONYMOUS)
		err = open_kind[region->kind](memory, want, region->backing, &region->access);
	if (err) {
		free(region->backing);
		return err;
	}
	err = region_place(memory, want, region);
	if (err)
		free_backing(region->backing);
	return err;
}

void region_unmap(const struct mapped *region)
{
	if (!region->backing)
		return;
	munmap(region->hva, mapped_bytes(region));
	free_backing(region->backing);
}

void region_tell(const struct mapped *region, struct impost_region *ret_region)
{
	const struct backing *backing = region->backing;

	*ret_region = (struct impost_region){
		.kind = region->kind,
		.gpa = region->gpa,
		.bytes = mapped_bytes(region),
		.hva = region->hva,
		.flags = region->flags,
		.page_bytes = backing ? backing->page : IMPOST_PAGE_SIZE,
		.fd = backing ? backing->fd : -1,
		.numa_policy = backing ? backing->policy : IMPOST_NUMA_DEFAULT,
		.fd_offset = backing ? backing->offset : 0,
		.numa_nodes = backing ? backing->nodes : 0,
	};
	if (region->access & MAPPED_WRITE)
		ret_region->state |= IMPOST_REGION_IS_WRITABLE;
	if (region->access & MAPPED_DIRECT)
		ret_region->state |= IMPOST_REGION_IS_DIRECT;
}

bool region_is_fresh(const struct mapped *region)
{
	return region->kind == IMPOST_REGION_ANONYMOUS || region->kind == IMPOST_REGION_MEMFD;
}
