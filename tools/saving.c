// SPDX-License-Identifier: Apache-2.0
/* Saves the VM of a run, and keeps in mind which snapshot its writes are tracked since. */
#include "saving.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"
#include "path.h"
#include "snapshots.h"
#include "tool.h"

/* Whether a setting that the library has found to be a boolean is on. */
static bool is_on(const char *value)
{
	static const char *const words[] = {"yes", "true", "on", "1"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (value && strcmp(value, words[i]) == 0)
			return true;
	return false;
}

int saving_configure(struct saving *saving, struct impost_context *ctx)
{
	const char *track = impost_context_get(ctx, "snapshot", "track");

	*saving = (struct saving){.ctx = ctx};
	saving->background = is_on(impost_context_get(ctx, "snapshot", "background"));
	saving->track = strcmp(track, "always") == 0  ? SAVING_TRACK_ALWAYS
			: strcmp(track, "never") == 0 ? SAVING_TRACK_NEVER
						      : SAVING_TRACK_AFTER_SAVE;
	return snapshots_key(ctx, &saving->secret, &saving->key);
}

void saving_release(struct saving *saving)
{
	impost_dirty_destroy(saving->dirty);
	saving->dirty = NULL;
	free(saving->file);
	saving->file = NULL;
	sources_close(&saving->sources);
	explicit_bzero(&saving->secret, sizeof(saving->secret));
}

void saving_digest_text(const uint8_t digest[16], char text[SAVING_DIGEST_TEXT])
{
	for (size_t i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

/* --- what a diff can be to --- */

/* Keeps in mind what the VM was at the instant that DIRTY's view begins with. */
static void remember(struct saving *saving, char *file, const uint8_t digest[16], bool is_diff)
{
	free(saving->file);
	saving->file = file;
	saving->at = clock_now_ns();
	saving->is_restored = false;
	saving->is_diff = is_diff;
	memcpy(saving->digest, digest, sizeof(saving->digest));
}

static int remember_restored(struct saving *saving, struct impost_snapshot *snapshot)
{
	struct impost_snapshot_info info = {.size = sizeof(info)};
	int err = impost_snapshot_info(snapshot, &info);
	char *file = err == 0 ? path_absolute(info.path) : NULL;

	if (err < 0)
		return err;
	if (!file)
		return impost_error_set(saving->ctx, -errno, "the current folder: %s",
					strerror(errno));
	remember(saving, file, info.digest, info.flags & IMPOST_SNAPSHOT_IS_DIFF);
	saving->is_restored = true;
	return 0;
}

static bool can_track(const struct saving *saving)
{
	return impost_caps_has(impost_vm_caps(saving->vm), IMPOST_CAP_DIRTY_LOG);
}

static int refuse_untracked(const struct saving *saving)
{
	const char *why;

	if (saving->track == SAVING_TRACK_NEVER)
		why = "what the guest writes is not tracked, for [snapshot] track is never";
	else if (!can_track(saving))
		why = "this backend cannot tell what the guest writes";
	else
		why = "what the guest has written since it was restored was not tracked, for "
		      "which [snapshot] track must be always";
	return impost_error_set(saving->ctx, -ENOTSUP, "%s: save it whole", why);
}

/* Whether what is tracked is what was written since BASE. */
static int check_base(struct saving *saving, const char *base)
{
	const struct impost_snapshot_open_options options = {
		.size = sizeof(options),
		.flags = IMPOST_SNAPSHOT_HEADER,
		.key = saving->key,
	};
	struct impost_snapshot_info info = {.size = sizeof(info)};
	struct impost_snapshot *snapshot;
	int err;

	if (!saving->file)
		return impost_error_set(saving->ctx, -ENOENT,
					"nothing was saved of this VM yet: save it whole first");
	if (!saving->dirty)
		return refuse_untracked(saving);
	err = impost_snapshot_open(saving->ctx, base, &options, &snapshot);
	if (err < 0)
		return err;
	err = impost_snapshot_info(snapshot, &info);
	if (err == 0 && memcmp(info.digest, saving->digest, sizeof(info.digest)) != 0)
		err = impost_error_set(
			saving->ctx, -ESTALE,
			"%s is not what was saved last, which is %s: only since then "
			"is it known what was written",
			base, saving->file);
	impost_snapshot_close(snapshot);
	return err;
}

/* --- what the last diff needs --- */

static bool is_same_file(const char *a, const char *b)
{
	struct stat one, other;

	return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

/* Whether the last one, if it is a diff that can still be opened, has FILE among its bases. */
static bool is_needed(const struct saving *saving, const char *file)
{
	struct impost_snapshot_open_options options = {
		.size = sizeof(options),
		.key = saving->key,
	};
	char *path = saving->is_diff ? strdup(saving->file) : NULL;
	bool found = false;

	for (uint32_t i = 0; path && !found && i < SOURCES_MOST; i++) {
		struct impost_snapshot *snapshot;
		char *base = NULL;

		if (impost_snapshot_open(saving->ctx, path, &options, &snapshot) == 0) {
			base = sources_base(snapshot, path);
			impost_snapshot_close(snapshot);
		}
		options.flags = IMPOST_SNAPSHOT_ALONE; /* the first one has opened all others */
		found = base && is_same_file(base, file);
		free(path);
		path = base;
	}
	free(path);
	return found;
}

/* A whole snapshot can be saved anywhere, but not where it makes the last one useless. */
static int check_place(const struct saving *saving, const char *file)
{
	if (!is_needed(saving, file))
		return 0;
	return impost_error_set(saving->ctx, -EINVAL,
				"%s cannot take the place of a base of the diff %s, which needs "
				"it: give it another name, or remove the diff first",
				file, saving->file);
}

/* --- saving --- */

static int start_tracking(struct saving *saving)
{
	if (saving->dirty || saving->track == SAVING_TRACK_NEVER || !can_track(saving))
		return 0;
	return impost_dirty_create(impost_vm_memory(saving->vm), NULL, &saving->dirty);
}

int saving_begin(struct saving *saving, struct impost_vm *vm, struct impost_snapshot *snapshot)
{
	int err;

	saving->vm = vm;
	if (!snapshot) /* there is nothing that a diff can be to */
		return 0;
	err = remember_restored(saving, snapshot);
	if (err == 0 && saving->track == SAVING_TRACK_ALWAYS)
		err = start_tracking(saving);
	return err;
}

/* Saves to FILE and keeps it in mind, for which there must be memory before. */
static int save(struct saving *saving, const char *file,
		const struct impost_snapshot_save_options *options,
		struct impost_snapshot_saved *ret_saved)
{
	char *name = strdup(file);
	int err;

	if (!name)
		return impost_error_set(saving->ctx, -ENOMEM, "no memory for a path");
	ret_saved->size = sizeof(*ret_saved);
	err = impost_snapshot_save(saving->vm, file, options, ret_saved);
	if (err == 0)
		remember(saving, name, ret_saved->digest, options->base != NULL);
	else
		free(name);
	return err;
}

int saving_save(struct saving *saving, const char *file, const char *base,
		impost_snapshot_progress_fn progress, void *opaque,
		struct impost_snapshot_saved *ret_saved)
{
	struct impost_snapshot_save_options options = {
		.size = sizeof(options),
		.flags = saving->background ? IMPOST_SNAPSHOT_BACKGROUND : 0,
		.base = base,
		.key = saving->key,
		.progress = progress,
		.opaque = opaque,
	};
	bool was_tracked = saving->dirty != NULL;
	int err;

	if (!HAS_STATE)
		return impost_error_set(saving->ctx, -ENOTSUP, NO_STATE_TEXT);
	err = sources_check(&saving->sources, saving->ctx);
	if (err == 0)
		err = base ? check_base(saving, base) : check_place(saving, file);
	if (err == 0 && !base)
		err = start_tracking(saving);
	if (err < 0)
		return err;
	options.since = saving->dirty;
	err = save(saving, file, &options, ret_saved);
	if (err < 0 && !was_tracked) {
		impost_dirty_destroy(saving->dirty);
		saving->dirty = NULL;
	}
	return err;
}
