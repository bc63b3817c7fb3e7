/* SPDX-License-Identifier: Apache-2.0 */
/* Opening snapshots, and what they are. */
#include "snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "text.h"

#define OPEN_FLAGS (IMPOST_SNAPSHOT_HEADER | IMPOST_SNAPSHOT_ALONE)

/* Reads every section of the newest file, so that none of them is damaged. */
static int verify_sections(struct snapshot_file *file)
{
	void *data;
	int err = 0;

	for (uint32_t i = 0; i < file->head.sections && !err; i++) {
		err = snapshot_file_section(file, i, &data);
		if (!err)
			free(data);
	}
	return err;
}

static int open_snapshot(struct impost_snapshot *snapshot, const char *path,
			 const struct impost_snapshot_open_options *options)
{
	const struct snapshot_open how = {
		.key = options->key,
		.base_dir = options->base_dir,
		.look = options->flags & IMPOST_SNAPSHOT_HEADER,
		.alone = options->flags & IMPOST_SNAPSHOT_ALONE,
	};
	int err = snapshot_chain_open(snapshot->ctx, path, &how, &snapshot->chain);

	if (!err && !how.look)
		err = verify_sections(snapshot->chain.file[0]);
	for (uint32_t i = 0; i < snapshot->chain.count && !err; i++)
		err = snapshot_file_unchanged(snapshot->chain.file[i]);
	return err;
}

int impost_snapshot_open(struct impost_context *ctx, const char *path,
			 const struct impost_snapshot_open_options *options,
			 struct impost_snapshot **ret_snapshot)
{
	struct impost_snapshot_open_options taken = {.size = sizeof(taken)};
	struct impost_snapshot *snapshot;
	int err = 0;

	if (context_forked(ctx))
		return context_refuse_fork(ctx);
	if (options)
		err = abi_take(ctx, "impost_snapshot_open_options", &taken, sizeof(taken), options,
			       ABI_UP_TO(struct impost_snapshot_open_options, base_dir));
	if (err)
		return err;
	if (!path || !ret_snapshot || taken.flags & ~OPEN_FLAGS)
		return impost_error_set(ctx, -EINVAL,
					"opening a snapshot: no path, or an unknown flag (%#x)",
					taken.flags & ~OPEN_FLAGS);
	snapshot = calloc(1, sizeof(*snapshot));
	if (!snapshot)
		return impost_error_set(ctx, -ENOMEM, "no memory for a snapshot");
	snapshot->ctx = ctx;
	err = open_snapshot(snapshot, path, &taken);
	if (err) {
		impost_snapshot_close(snapshot);
		return err;
	}
	*ret_snapshot = snapshot;
	return 0;
}

int impost_snapshot_close(struct impost_snapshot *snapshot)
{
	if (!snapshot)
		return 0;
	snapshot_chain_close(&snapshot->chain);
	free(snapshot);
	return 0;
}

static uint64_t sum_state(const struct snapshot_file *file)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < file->head.sections; i++)
		if (file->entries[i].kind == IMPOST_SNAPSHOT_STATE)
			sum += file->entries[i].bytes;
	return sum;
}

static uint32_t tell_flags(const struct snapshot_file *file)
{
	return (file->head.flags & HEADER_KEYED ? IMPOST_SNAPSHOT_IS_KEYED : 0) |
	       (file->head.flags & HEADER_DIFF ? IMPOST_SNAPSHOT_IS_DIFF : 0) |
	       (file->hash.keyed ? IMPOST_SNAPSHOT_IS_VERIFIED : 0);
}

int impost_snapshot_info(struct impost_snapshot *snapshot, struct impost_snapshot_info *ret_info)
{
	const struct snapshot_file *file = snapshot->chain.file[0];
	const struct snapshot_header *head = &file->head;
	struct impost_snapshot_info info = {
		.size = sizeof(info),
		.version = head->version,
		.compatible = head->compatible,
		.flags = tell_flags(file),
		.sections = head->sections,
		.chain = snapshot->chain.count,
		.created_ns = head->created_ns,
		.file_bytes = head->file_bytes,
		.disk_bytes = file->disk_bytes,
		.header_bytes = head->header_bytes,
		.state_bytes = sum_state(file),
		.memory_bytes = head->memory_bytes,
		.path = file->path,
		.base = snapshot->chain.base,
	};
	int err = abi_check(snapshot->ctx, "impost_snapshot_info", ret_info,
			    ABI_UP_TO(struct impost_snapshot_info, base));

	if (err)
		return err;
	memcpy(info.id, head->id, sizeof(info.id));
	memcpy(info.digest, head->checksum, sizeof(info.digest));
	memcpy(info.base_id, head->base_id, sizeof(info.base_id));
	memcpy(info.base_digest, head->base_digest, sizeof(info.base_digest));
	abi_give(ret_info, &info, sizeof(info));
	return 0;
}

int impost_snapshot_section(struct impost_snapshot *snapshot, uint32_t index,
			    struct impost_snapshot_section *ret_section)
{
	const struct snapshot_file *file = snapshot->chain.file[0];
	struct impost_snapshot_section section = {.size = sizeof(section)};
	int err = abi_check(snapshot->ctx, "impost_snapshot_section", ret_section,
			    ABI_UP_TO(struct impost_snapshot_section, name));

	if (err)
		return err;
	if (index >= file->head.sections)
		return impost_error_set(snapshot->ctx, -ENOENT,
					"it has %u sections, none of "
					"number %u",
					file->head.sections, index);
	section.kind = file->entries[index].kind;
	section.offset = file->entries[index].offset;
	section.bytes = file->entries[index].bytes;
	section.name = file->entries[index].name;
	abi_give(ret_section, &section, sizeof(section));
	return 0;
}
