/* SPDX-License-Identifier: Apache-2.0 */
/* Saving a VM, and making one file of a chain: what there is goes into a new file. */
#include "snapshot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"
#include "context.h"
#include "dirty.h"
#include "pager.h"
#include "text.h"
#include "vm.h"

#define SAVE_FLAGS	(IMPOST_SNAPSHOT_BACKGROUND | IMPOST_SNAPSHOT_NO_SYNC)
#define DEFAULT_HOLD_MS 10000u

/* A file that is being made. */
struct save {
	struct impost_context *ctx;
	struct impost_snapshot_save_options options;
	struct snapshot_writer *writer;
	const struct impost_state *state;
	struct memory_plan *plan;
	struct impost_snapshot_saved saved;
	/* Of a VM: */
	struct impost_vm *vm;
	struct impost_snapshot *base; /* of a diff */
	struct impost_state *taken;
	bool held; /* by this call */
	uint64_t held_at;
};

static int take_options(struct save *save, const struct impost_snapshot_save_options *options,
			const struct impost_snapshot_saved *ret_saved, const char *path)
{
	struct impost_snapshot_save_options *taken = &save->options;
	int err = 0;

	if (options)
		err = abi_take(save->ctx, "impost_snapshot_save_options", taken, sizeof(*taken),
			       options, ABI_UP_TO(struct impost_snapshot_save_options, opaque));
	if (!err && ret_saved)
		err = abi_check(save->ctx, "impost_snapshot_saved", ret_saved,
				ABI_UP_TO(struct impost_snapshot_saved, digest));
	if (err)
		return err;
	if (!path)
		return impost_error_set(save->ctx, -EINVAL, "a snapshot needs a path");
	if (taken->flags & ~SAVE_FLAGS)
		return impost_error_set(save->ctx, -EINVAL, "saving a snapshot: unknown flags %#x",
					taken->flags & ~SAVE_FLAGS);
	return 0;
}

/* --- what is written --- */

static int add_state(struct save *save)
{
	const char *name;
	const void *data;
	size_t len;
	int err = 0;

	for (uint32_t i = 0; !err && !impost_state_at(save->state, i, &name, &data, &len); i++)
		err = snapshot_writer_add(save->writer, name, IMPOST_SNAPSHOT_STATE, data, len);
	return err;
}

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int add_sections(struct save *save)
{
	const char *name;
	int err = add_state(save);

	if (!err && save->base) {
		name = file_name(save->base->chain.file[0]->path);
		snapshot_writer_base(save->writer, save->base->chain.file[0]);
		err = snapshot_writer_add(save->writer, "base", IMPOST_SNAPSHOT_BASE, name,
					  strlen(name));
	}
	/* It is known when memory has been written. */
	if (!err)
		err = snapshot_writer_add(save->writer, "memory", IMPOST_SNAPSHOT_MEMORY, NULL,
					  memory_plan_table_bytes(save->plan));
	return err;
}

static int write_memory(struct save *save)
{
	uint64_t offset;
	int err, fd;

	err = snapshot_writer_begin_memory(save->writer, memory_plan_area_bytes(save->plan), &fd,
					   &offset);
	if (!err)
		err = memory_plan_write(save->plan, fd, offset);
	if (!err)
		snapshot_writer_fill(save->writer, "memory", memory_plan_table(save->plan));
	return err;
}

/* Reads the table as one who opens the file will: what is refused there is refused here. */
static int count_pages(struct save *save)
{
	struct memory_table *table;
	uint64_t all, data, zero;
	int err = memory_table_decode(save->ctx, memory_plan_table(save->plan),
				      memory_plan_table_bytes(save->plan),
				      memory_plan_area_bytes(save->plan), save->base, &table);

	if (err)
		return err;
	if (!snapshot_same_regions(save->state, table)) {
		memory_table_free(table);
		return impost_error_set(save->ctx, -EFAULT,
					"regions of memory were added or removed while the VM was "
					"being saved");
	}
	memory_table_pages(table, &all, &data, &zero);
	memory_table_free(table);
	save->saved.data_bytes = data * IMPOST_PAGE_SIZE;
	save->saved.zero_bytes = zero * IMPOST_PAGE_SIZE;
	return 0;
}

static int finish(struct save *save)
{
	const struct snapshot_header *head = snapshot_writer_head(save->writer);
	int err = count_pages(save);

	if (!err)
		err = snapshot_writer_finish(save->writer,
					     !(save->options.flags & IMPOST_SNAPSHOT_NO_SYNC));
	if (err)
		return err;
	memory_plan_commit(save->plan);
	save->saved.file_bytes = head->file_bytes;
	memcpy(save->saved.id, head->id, sizeof(head->id));
	memcpy(save->saved.digest, head->checksum, sizeof(head->checksum));
	return 0;
}

static struct memory_write memory_options(const struct save *save)
{
	return (struct memory_write){
		.since = save->options.since,
		.diff = save->base,
		.background = save->options.flags & IMPOST_SNAPSHOT_BACKGROUND,
		.threads = save->options.threads,
		.hash = snapshot_writer_hash(save->writer),
		.progress = save->options.progress,
		.opaque = save->options.opaque,
	};
}

/* --- a diff's base --- */

static int check_base(struct save *save)
{
	const struct snapshot_file *file = save->base->chain.file[0];
	const struct impost_dirty *since = save->options.since;
	const char *path = file->path;

	if (save->base->chain.count == SNAPSHOT_CHAIN)
		return impost_error_set(save->ctx, -ELOOP,
					"%.256s has %u bases already: flatten it first", path,
					SNAPSHOT_CHAIN - 1);
	if (!snapshot_writer_beside(save->writer, file_name(path), file))
		return impost_error_set(save->ctx, -EINVAL,
					"%.256s is not in the folder that the diff to it is to lie "
					"in",
					path);
	for (uint32_t i = 0; i < save->base->chain.count; i++)
		if (snapshot_writer_replaces(save->writer, save->base->chain.file[i]))
			return impost_error_set(save->ctx, -EINVAL,
						"a diff cannot take the place of its base, %.256s",
						save->base->chain.file[i]->path);
	if (since->saved && memcmp(since->saved_digest, file->head.checksum, SNAPSHOT_DIGEST) != 0)
		return impost_error_set(save->ctx, -ESTALE,
					"%.256s is not the snapshot after which the written pages "
					"were counted: save a diff to that one, or a full one",
					path);
	return 0;
}

/* PATH without a link for its last part: the diff has the name of a file, whatever becomes of the
 * link. NULL: errno. */
static char *resolve_link(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0 && S_ISLNK(status.st_mode) ? realpath(path, NULL)
								    : strdup(path);
}

static int open_base(struct save *save)
{
	const struct impost_snapshot_open_options options = {
		.size = sizeof(options),
		.key = save->options.key,
	};
	char *path;
	int err;

	if (!save->options.base)
		return 0;
	if (!save->options.since)
		return impost_error_set(save->ctx, -EINVAL,
					"a diff needs a reader of dirty pages (since)");
	path = resolve_link(save->options.base);
	if (!path)
		return impost_error_set(save->ctx, -errno, "%.256s: cannot be opened: %m",
					save->options.base);
	err = impost_snapshot_open(save->ctx, path, &options, &save->base);
	free(path);
	return err ? err : check_base(save);
}

/* --- a VM --- */

static int hold(struct save *save)
{
	uint32_t ms = save->options.hold_ms ? save->options.hold_ms : DEFAULT_HOLD_MS;
	int err = impost_vm_hold(save->vm, ms);

	if (err == -EALREADY && vm_is_held(save->vm))
		return 0;
	if (err)
		return err;
	save->held = true;
	save->held_at = clock_now_ns();
	return 0;
}

static int release(struct save *save)
{
	int err = 0;

	if (save->held) {
		save->held = false;
		err = impost_vm_release(save->vm);
		save->saved.held_ns = clock_now_ns() - save->held_at;
	}
	return err;
}

/* With the VM held: all that must be of one instant. */
static int take(struct save *save)
{
	const struct memory_write options = memory_options(save);
	int err = impost_state_take(save->vm, &save->taken);

	if (err)
		return err;
	save->state = save->taken;
	if (save->base && !snapshot_same_regions(save->state, save->base->table[0]))
		return impost_error_set(save->ctx, -EINVAL,
					"the regions of memory are not those of %.256s: save a "
					"full snapshot",
					save->options.base);
	return memory_plan_make(impost_vm_memory(save->vm), &options, &save->plan);
}

/* Lets the VM run on, if it need not wait for its memory to be written. */
static int detach(struct save *save)
{
	const char *why;

	if (!(save->options.flags & IMPOST_SNAPSHOT_BACKGROUND))
		return 0;
	if (!memory_plan_detached(save->plan, &why)) {
		context_log(save->ctx, IMPOST_LOG_WARN,
			    "the VM stands until its memory is saved: %s", why);
		return 0;
	}
	save->saved.flags |= IMPOST_SNAPSHOT_BACKGROUND;
	return release(save);
}

static int save_held(struct save *save)
{
	int err = take(save);

	if (!err)
		err = detach(save);
	if (!err)
		err = add_sections(save);
	if (!err)
		err = write_memory(save);
	return err;
}

static int save_vm(struct save *save, const char *path)
{
	int err, release_err;

	err = snapshot_writer_open(save->ctx, path, save->options.key, &save->writer);
	if (!err)
		err = open_base(save);
	/* What is still to be brought of a lazy restore is waited for while the guest runs. */
	if (!err)
		err = memory_settle(impost_vm_memory(save->vm));
	if (!err)
		err = hold(save);
	if (err)
		return err;
	err = save_held(save);
	if (err)
		memory_plan_free(save->plan); /* nothing is protected when the VM runs on */
	if (err)
		save->plan = NULL;
	release_err = release(save);
	if (!err)
		err = release_err;
	return err ? err : finish(save);
}

/* The next diff that goes by this reader is one to this snapshot. */
static void remember(const struct save *save)
{
	struct impost_dirty *since = save->options.since;

	if (!since)
		return;
	since->saved = true;
	memcpy(since->saved_digest, save->saved.digest, sizeof(since->saved_digest));
}

static void end(struct save *save)
{
	memory_plan_free(save->plan);
	snapshot_writer_free(save->writer);
	impost_snapshot_close(save->base);
	impost_state_free(save->taken);
}

int impost_snapshot_save(struct impost_vm *vm, const char *path,
			 const struct impost_snapshot_save_options *options,
			 struct impost_snapshot_saved *ret_saved)
{
	struct save save = {.ctx = vm->ctx, .vm = vm, .saved.size = sizeof(save.saved)};
	int err = vm_check(vm);

	if (!err)
		err = take_options(&save, options, ret_saved, path);
	if (!err)
		err = save_vm(&save, path);
	if (!err) {
		remember(&save);
		if (ret_saved)
			abi_give(ret_saved, &save.saved, sizeof(save.saved));
	}
	end(&save);
	return err;
}

/* --- a chain --- */

static int flatten(struct save *save, struct impost_snapshot *snapshot, const char *path)
{
	struct memory_write options;
	int err = snapshot_writer_open(save->ctx, path, save->options.key, &save->writer);

	if (err)
		return err;
	options = memory_options(save);
	err = memory_layers_plan(save->ctx, snapshot->layer, snapshot->chain.count, &options,
				 &save->plan);
	if (!err)
		err = add_sections(save);
	if (!err)
		err = write_memory(save);
	/* What was read is what was verified when it was opened. */
	if (!err)
		err = snapshot_check_open(snapshot, true);
	return err ? err : finish(save);
}

int impost_snapshot_flatten(struct impost_snapshot *snapshot, const char *path,
			    const struct impost_snapshot_save_options *options,
			    struct impost_snapshot_saved *ret_saved)
{
	struct save save = {
		.ctx = snapshot->ctx,
		.state = snapshot->state,
		.saved.size = sizeof(save.saved),
	};
	int err = snapshot_check_open(snapshot, true);

	if (!err)
		err = take_options(&save, options, ret_saved, path);
	if (!err && (save.options.base || save.options.since || save.options.hold_ms ||
		     save.options.flags & IMPOST_SNAPSHOT_BACKGROUND))
		err = impost_error_set(save.ctx, -EINVAL,
				       "a chain that is flattened has no base, no reader of dirty "
				       "pages, and no VM to be held");
	if (!err)
		err = flatten(&save, snapshot, path);
	if (!err && ret_saved)
		abi_give(ret_saved, &save.saved, sizeof(save.saved));
	end(&save);
	return err;
}
