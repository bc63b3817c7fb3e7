/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory that is handed over as descriptors. */
#include "migrate_local.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/view.h>

#include "memory.h"
#include "migrate_send.h"
#include "pager.h"
#include "text.h"

/* --- the source --- */

/* What a region is that has no descriptor for others, and what would give it one. */
static const struct {
	const char *what, *advice;
} others[] = {
	[IMPOST_REGION_ANONYMOUS] = {"is anonymous memory",
				     "set [memory] backing = memfd (--memory-backing memfd)"},
	[IMPOST_REGION_POINTER] = {"is the host program's own memory",
				   "give it a descriptor (IMPOST_REGION_FD, shared)"},
	[IMPOST_REGION_BACKEND] = {"is the hypervisor's memory", "migrate without local"},
	[IMPOST_REGION_MEMFD] = {"", ""},
	[IMPOST_REGION_FILE] = {"is a private copy of a file",
				"set [memory] shared = yes (--memory-shared)"},
	[IMPOST_REGION_FD] = {"is a private copy of a file",
			      "share it (IMPOST_REGION_SHARED); a snapshot that is restored by "
			      "copying has [memory]'s backing"},
};

static int check_region(struct impost_context *ctx, const struct impost_region *region)
{
	if (region->fd >= 0 && region->flags & IMPOST_REGION_SHARED)
		return 0;
	return impost_error_set(ctx, -ENOTSUP,
				"memory at 0x%" PRIx64
				" %s, and cannot be handed over to another process: %s",
				region->gpa, others[region->kind].what,
				others[region->kind].advice);
}

static int check_guard(struct impost_memory *memory)
{
	if (!atomic_load(&memory->guard))
		return 0;
	return impost_error_set(memory->ctx, -EBUSY,
				"a snapshot of this VM is being written from memory that the "
				"migration would hand over: wait for its end");
}

/* Where region number COUNT begins in its file, behind COUNT others in OFFSETS. */
static int add_offset(struct impost_context *ctx, uint64_t **offsets, uint32_t count,
		      const struct impost_region *region)
{
	int err = check_region(ctx, region);
	uint64_t *more;

	if (err)
		return err;
	more = realloc(*offsets, ((size_t)count + 1) * sizeof(*more));
	if (!more)
		return impost_error_set(ctx, -ENOMEM, "no memory for a migration");
	more[count] = region->fd_offset;
	*offsets = more;
	return 0;
}

int local_describe(struct impost_migration *migration, struct impost_memory *memory,
		   struct migrate_config *config)
{
	const struct link *link = &migration->links[0];
	struct impost_region region = {.size = sizeof(region)};
	uint64_t *offsets = NULL, bytes = 0;
	uint32_t count = 0;
	int err = link_is_unix(link) ? 0
				     : impost_error_set(link->ctx, -ENOTSUP,
							"memory can be handed over through a UNIX "
							"socket only");

	if (!err)
		err = check_guard(memory);
	for (; !err && impost_memory_get(memory, count, &region) == 0; count++) {
		err = add_offset(link->ctx, &offsets, count, &region);
		bytes += region.bytes;
	}
	if (err) {
		free(offsets);
		return err;
	}
	config->local = 1;
	config->noffsets = count;
	config->offsets = offsets;
	migration->guest_bytes = bytes;
	return 0;
}

int local_recheck(struct link *link, struct impost_memory *memory,
		  const struct migrate_config *config)
{
	struct impost_region region = {.size = sizeof(region)};
	bool same = true;
	int err = check_guard(memory);

	if (err)
		return err;
	for (uint32_t slot = 0; same && slot < config->noffsets; slot++)
		same = impost_memory_get(memory, slot, &region) == 0 && region.fd >= 0 &&
		       region.fd_offset == config->offsets[slot];
	if (same && impost_memory_get(memory, config->noffsets, &region) != 0)
		return 0;
	return impost_error_set(link->ctx, -EBUSY,
				"regions of memory were added or removed while it was handed over");
}

/* A duplicate of the descriptor of region SLOT, which another thread may be removing. */
static int duplicate(struct impost_memory *memory, uint32_t slot, int *ret_fd)
{
	struct impost_region region = {.size = sizeof(region)};
	struct impost_view view;
	int err = impost_view_begin(memory, &view), fd;

	if (err)
		return err;
	err = impost_memory_get(memory, slot, &region);
	fd = err || region.fd < 0 ? -1 : fcntl(region.fd, F_DUPFD_CLOEXEC, 0);
	if (!err && fd < 0)
		err = impost_error_set(memory->ctx, region.fd < 0 ? -EBUSY : -errno,
				       "the descriptor of memory at 0x%" PRIx64 ": %s", region.gpa,
				       region.fd < 0 ? "it is gone" : strerror(errno));
	impost_view_end(&view);
	if (!err)
		*ret_fd = fd;
	return err;
}

static int send_slot(struct impost_migration *migration, struct impost_memory *memory,
		     uint32_t slot)
{
	struct link *link = &migration->links[0];
	const struct wire_head head = {.code = WIRE_MEMORY_FD, .length = sizeof(slot)};
	int fd, err = duplicate(memory, slot, &fd);

	if (err)
		return err;
	err = link_write(link, &head, sizeof(head));
	if (!err)
		err = link_write_fd(link, &slot, sizeof(slot), fd);
	close(fd);
	return err ? source_hear(migration, link, WIRE_MEMORY_FD, err)
		   : source_read_answer(migration, link, WIRE_MEMORY_FD);
}

int local_send(struct impost_migration *migration, struct impost_memory *memory,
	       const struct migrate_config *config)
{
	int err = 0;

	for (uint32_t slot = 0; !err && slot < config->noffsets; slot++)
		err = send_slot(migration, memory, slot);
	return err;
}

/* --- the destination --- */

int local_judge(const struct link *link)
{
	if (link_is_unix(link))
		return 0;
	return impost_error_set(link->ctx, -EPROTO,
				"memory was to be handed over through what is no UNIX socket");
}

/* What the map says of a descriptor is about a file; the peer's slot is what it came for. */
static int refuse(const struct link *link, uint32_t slot, int err)
{
	char reason[640];

	snprintf(reason, sizeof(reason), "%s", impost_error(link->ctx));
	return impost_error_set(link->ctx, err, "the descriptor of memory slot %u: %s", slot,
				reason);
}

static int add_slot(struct link *link, struct impost_memory *memory,
		    const struct impost_state *state, const struct migrate_config *config,
		    uint32_t slot, int fd)
{
	struct impost_state_region region;
	struct impost_region add = {
		.size = sizeof(add), .kind = IMPOST_REGION_FD, .flags = IMPOST_REGION_SHARED};
	uint64_t bytes;
	int err;

	if (slot >= config->noffsets || impost_state_region(state, slot, &region) != 0)
		return impost_error_set(link->ctx, -EPROTO,
					"memory slot %u was handed over: there are %u", slot,
					config->noffsets);
	if (memory_slot(memory, region.gpa, &(uint32_t){0}, &bytes) == 0)
		return impost_error_set(link->ctx, -EPROTO, "memory slot %u was handed over twice",
					slot);
	add.gpa = region.gpa;
	add.bytes = region.bytes;
	add.flags |= region.flags;
	add.fd = fd;
	add.fd_offset = config->offsets[slot];
	err = impost_memory_add(memory, &add);
	return err ? refuse(link, slot, err) : 0;
}

int local_receive(struct link *link, struct impost_memory *memory, const struct impost_state *state,
		  const struct migrate_config *config)
{
	uint32_t slot;
	int fd, err = link_read_fd(link, &slot, sizeof(slot), &fd);

	if (err)
		return err;
	err = add_slot(link, memory, state, config, slot, fd);
	close(fd);
	return err;
}

int local_check_whole(const struct link *link, struct impost_memory *memory,
		      const struct impost_state *state)
{
	struct impost_state_region region;
	uint64_t bytes;

	for (uint32_t slot = 0; impost_state_region(state, slot, &region) == 0; slot++)
		if (memory_slot(memory, region.gpa, &(uint32_t){0}, &bytes) != 0)
			return impost_error_set(link->ctx, -EPROTO,
						"memory slot %u was not handed over", slot);
	return 0;
}
