/* SPDX-License-Identifier: Apache-2.0 */
/* Opening snapshots, what they are, and reading the memory in them. */
#include "snapshot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "snapshot_memory_table.h"
#include "text.h"

#define OPEN_FLAGS (IMPOST_SNAPSHOT_HEADER | IMPOST_SNAPSHOT_ALONE)

/* --- opening --- */

bool snapshot_same_regions(const struct impost_state *state, const struct memory_table *table)
{
	struct impost_state_region region;
	struct memory_place place;
	uint32_t index = 0;

	while (memory_table_region(table, index, &place)) {
		if (impost_state_region(state, index, &region) || region.gpa != place.gpa ||
		    region.bytes != place.bytes || region.flags != place.flags)
			return false;
		index++;
	}
	return impost_state_region(state, index, &region) == -ENOENT;
}

/* What state.c says of a section, with the file's name; a name that it does not have is the file's
 * fault. */
static int refused(struct snapshot_file *file, const char *name, int err)
{
	if (err == -EINVAL || err == -EEXIST || err == -ENOSPC)
		err = -IMPOST_EFORMAT;
	return snapshot_file_error(file, err, "section %s: %s", name, impost_error(file->ctx));
}

static int add_section(struct impost_snapshot *snapshot, uint32_t index)
{
	struct snapshot_file *file = snapshot->chain.file[0];
	const struct snapshot_entry *entry = &file->entries[index];
	void *data;
	int err;

	if (entry->kind != IMPOST_SNAPSHOT_STATE)
		return 0;
	err = snapshot_file_section(file, index, &data);
	if (err)
		return err;
	err = impost_state_add(snapshot->state, entry->name, data, entry->bytes);
	if (err)
		err = refused(file, entry->name, err);
	free(data);
	return err;
}

static int read_state(struct impost_snapshot *snapshot)
{
	struct snapshot_file *file = snapshot->chain.file[0];
	int err = impost_state_create(snapshot->ctx, &snapshot->state);

	for (uint32_t i = 0; i < file->head.sections && !err; i++)
		err = add_section(snapshot, i);
	return err;
}

static int read_table(struct impost_snapshot *snapshot, uint32_t number)
{
	struct snapshot_file *file = snapshot->chain.file[number];
	uint32_t index = snapshot_find_section(file, "memory");
	int err = snapshot_file_section(file, index, &snapshot->raw[number]);

	if (err)
		return err;
	err = memory_table_decode(snapshot->ctx, snapshot->raw[number], file->entries[index].bytes,
				  file->head.memory_bytes, file->head.flags & HEADER_DIFF,
				  &snapshot->table[number]);
	if (err)
		return refused(file, "memory", err);
	snapshot->layer[number] = (struct memory_layer){
		.table = snapshot->table[number],
		.fd = file->fd,
		.offset = file->head.memory_offset,
		.hash = &file->hash,
		.name = file->path,
	};
	return 0;
}

static bool has_bases(const struct impost_snapshot *snapshot)
{
	const struct snapshot_chain *chain = &snapshot->chain;

	return !(chain->file[chain->count - 1]->head.flags & HEADER_DIFF);
}

/* Nobody reads what lies between the sections, and in the area between the regions: so that nothing
 * can be there. What a region's own part has where its bitmap has nothing is for those who map it.
 */
static int check_padding(struct impost_snapshot *snapshot, uint32_t number)
{
	struct snapshot_file *file = snapshot->chain.file[number];
	const struct memory_table *table = snapshot->table[number];
	uint64_t end = file->head.memory_offset;
	int err = snapshot_file_padding(file);

	for (uint32_t i = 0; i < table->count && !err; i++) {
		uint64_t begin = file->head.memory_offset + table->region[i].area_offset;

		err = snapshot_file_zeros(file, end, begin);
		end = begin + table->region[i].bytes;
	}
	return err ? err : snapshot_file_zeros(file, end, file->head.file_bytes);
}

static int read_content(struct impost_snapshot *snapshot)
{
	struct snapshot_chain *chain = &snapshot->chain;
	int err = read_state(snapshot);

	for (uint32_t i = 0; i < chain->count && !err; i++)
		err = read_table(snapshot, i);
	for (uint32_t i = 0; i < chain->count && !err; i++)
		if (!snapshot_same_regions(snapshot->state, snapshot->table[i]))
			err = snapshot_file_error(chain->file[i], -IMPOST_EFORMAT,
						  "section memory has other regions than section "
						  "machine%s",
						  i ? " of the diff to it" : "");
	if (!err && has_bases(snapshot))
		err = memory_layers_check(snapshot->ctx, snapshot->layer, chain->count);
	for (uint32_t i = 0; i < chain->count && !err; i++)
		err = check_padding(snapshot, i);
	return err;
}

static int check_unchanged(struct impost_snapshot *snapshot)
{
	int err = 0;

	for (uint32_t i = 0; i < snapshot->chain.count && !err; i++)
		err = snapshot_file_unchanged(snapshot->chain.file[i]);
	return err;
}

int snapshot_check_open(struct impost_snapshot *snapshot, bool memory)
{
	struct snapshot_file *file = snapshot->chain.file[0];

	if (context_forked(snapshot->ctx))
		return context_refuse_fork(snapshot->ctx);
	if (!snapshot->state)
		return snapshot_file_error(file, -EINVAL,
					   "it was opened for a look at its header alone");
	if (memory && !has_bases(snapshot))
		return snapshot_file_error(file, -EINVAL, "it was opened without its bases");
	return memory ? check_unchanged(snapshot) : 0;
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
		err = read_content(snapshot);
	return err ? err : check_unchanged(snapshot);
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

void impost_snapshot_close(struct impost_snapshot *snapshot)
{
	if (!snapshot)
		return;
	for (uint32_t i = 0; i < snapshot->chain.count; i++) {
		memory_table_free(snapshot->table[i]);
		free(snapshot->raw[i]);
	}
	impost_state_free(snapshot->state);
	snapshot_chain_close(&snapshot->chain);
	free(snapshot);
}

/* --- what it is --- */

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

static void tell_pages(const struct memory_table *table, struct impost_snapshot_info *info)
{
	uint64_t all, data, zero;

	memory_table_pages(table, &all, &data, &zero);
	info->guest_bytes = all * IMPOST_PAGE_SIZE;
	info->data_bytes = data * IMPOST_PAGE_SIZE;
	info->zero_bytes = zero * IMPOST_PAGE_SIZE;
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
	if (snapshot->table[0])
		tell_pages(snapshot->table[0], &info);
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

const struct impost_state *impost_snapshot_state(const struct impost_snapshot *snapshot)
{
	return snapshot->state;
}

/* --- memory --- */

int impost_snapshot_region(struct impost_snapshot *snapshot, uint32_t index,
			   struct impost_snapshot_region *ret_region)
{
	struct impost_snapshot_region region = {.size = sizeof(region)};
	struct memory_place place;
	int err = snapshot_check_open(snapshot, false);

	if (!err)
		err = abi_check(snapshot->ctx, "impost_snapshot_region", ret_region,
				ABI_UP_TO(struct impost_snapshot_region, bytes));
	if (err)
		return err;
	if (!memory_table_region(snapshot->table[0], index, &place))
		return impost_error_set(snapshot->ctx, -ENOENT, "no region of number %u", index);
	region.flags = place.flags;
	region.gpa = place.gpa;
	region.bytes = place.bytes;
	abi_give(ret_region, &region, sizeof(region));
	return 0;
}

int impost_snapshot_extent(struct impost_snapshot *snapshot, uint64_t *gpa,
			   struct impost_snapshot_extent *ret_extent)
{
	static const uint32_t kinds[] = {
		[MEMORY_DATA] = IMPOST_SNAPSHOT_DATA,
		[MEMORY_ZERO] = IMPOST_SNAPSHOT_ZERO,
		[MEMORY_ABSENT] = IMPOST_SNAPSHOT_ABSENT,
	};
	struct impost_snapshot_extent extent = {.size = sizeof(extent)};
	struct memory_extent found;
	int err = snapshot_check_open(snapshot, false);

	if (!err)
		err = abi_check(snapshot->ctx, "impost_snapshot_extent", ret_extent,
				ABI_UP_TO(struct impost_snapshot_extent, bytes));
	if (err)
		return err;
	if (!memory_table_next(snapshot->table[0], gpa, &found))
		return impost_error_set(snapshot->ctx, -ENOENT, "no memory from %#" PRIx64 " on",
					*gpa);
	extent.kind = kinds[found.kind];
	extent.gpa = found.gpa;
	extent.bytes = found.bytes;
	abi_give(ret_extent, &extent, sizeof(extent));
	return 0;
}

int impost_snapshot_read(struct impost_snapshot *snapshot, uint64_t gpa, void *buf, uint64_t bytes)
{
	int err = snapshot_check_open(snapshot, true);

	return err ? err
		   : memory_layers_read(snapshot->ctx, snapshot->layer, snapshot->chain.count, gpa,
					buf, bytes);
}

int impost_snapshot_verify(struct impost_snapshot *snapshot, uint32_t threads,
			   impost_snapshot_progress_fn progress, void *opaque)
{
	int err = snapshot_check_open(snapshot, true);

	if (!err)
		err = memory_layers_verify(snapshot->ctx, snapshot->layer, snapshot->chain.count,
					   threads, progress, opaque);
	return err ? err : check_unchanged(snapshot);
}
