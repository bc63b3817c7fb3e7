// SPDX-License-Identifier: Apache-2.0
/* Snapshot files, opened as the command line has it. impost flatten and impost check. */
#include "snapshots.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "progress.h"

/* The key that is configured. */
static int read_key(const struct invocation *invocation, struct impost_snapshot_key *key,
		    const struct impost_snapshot_key **ret_key)
{
	const char *path = impost_context_get(invocation->ctx, "snapshot", "key_file");

	*ret_key = NULL;
	if (!path)
		return 0;
	key->size = sizeof(*key);
	*ret_key = key;
	return impost_snapshot_key_read(invocation->ctx, path, key);
}

int snapshots_open(const struct invocation *invocation, const char *path, uint32_t flags,
		   struct impost_snapshot **ret_snapshot)
{
	struct impost_snapshot_open_options options = {.size = sizeof(options), .flags = flags};
	struct impost_snapshot_key key;
	int err = read_key(invocation, &key, &options.key);

	if (err == 0)
		err = impost_snapshot_open(invocation->ctx, path, &options, ret_snapshot);
	explicit_bzero(&key, sizeof(key));
	return err < 0 ? complain_error(invocation, err) : STATUS_OK;
}

int snapshots_write(void *file, const char *text, size_t len)
{
	return fwrite(text, 1, len, file) == len ? 0 : -EIO;
}

/* --- impost flatten --- */

static int on_progress(void *opaque, uint64_t done, uint64_t total)
{
	progress_show(opaque, done, total);
	return 0;
}

int command_flatten(const struct invocation *invocation)
{
	struct progress progress = {.what = "writing"};
	struct impost_snapshot_save_options options = {
		.size = sizeof(options),
		.progress = on_progress,
		.opaque = &progress,
	};
	struct impost_snapshot_key key;
	struct impost_snapshot *snapshot = NULL;
	int status = snapshots_open(invocation, invocation->operands[0], 0, &snapshot), err;

	if (status != STATUS_OK)
		return status;
	err = read_key(invocation, &key, &options.key);
	if (err == 0)
		err = impost_snapshot_flatten(snapshot, invocation->operands[1], &options, NULL);
	explicit_bzero(&key, sizeof(key));
	progress_wipe(&progress);
	if (err < 0)
		status = complain_error(invocation, err);
	impost_snapshot_close(snapshot);
	return status;
}

/* --- impost check --- */

/* What was found, and how it is told. */
struct findings {
	struct json_object *mismatches; /* NULL: text */
};

static void on_mismatch(void *opaque, const char *kind, const char *name, const char *reason)
{
	struct findings *findings = opaque;
	struct json_object *object;

	if (!findings->mismatches) {
		put_text(stdout, kind, 11);
		printf(" ");
		put_text(stdout, name, 0);
		printf(": ");
		put_text(stdout, reason, 0);
		printf("\n");
		return;
	}
	object = json_object_new_object();
	json_add_string(object, "kind", kind);
	json_add_string(object, "name", name);
	json_add_string(object, "reason", reason);
	json_object_array_add(findings->mismatches, object);
}

/* Memory's checksums, if they are asked for. */
static int verify(const struct invocation *invocation, struct impost_snapshot *snapshot)
{
	struct progress progress = {.what = "reading"};
	int err;

	if (!invocation_has(invocation, OPTION_VERIFY))
		return 0;
	err = impost_snapshot_verify(snapshot, 0, on_progress, &progress);
	progress_wipe(&progress);
	return err;
}

static int check(const struct invocation *invocation, struct impost_snapshot *snapshot)
{
	struct findings findings = {0};
	int count = verify(invocation, snapshot);

	if (count < 0)
		return complain_error(invocation, count);
	if (invocation_has(invocation, OPTION_JSON))
		findings.mismatches = json_object_new_array();
	/* On the first backend of the configuration, which --backend has set. */
	count = impost_snapshot_check(snapshot, NULL, on_mismatch, &findings);
	if (count < 0) {
		json_object_put(findings.mismatches);
		return complain_error(invocation, count);
	}
	if (findings.mismatches)
		json_print("mismatches", findings.mismatches);
	else if (count == 0)
		printf("can be restored here\n");
	return finish_output(count ? STATUS_FAILED : STATUS_OK);
}

int command_check(const struct invocation *invocation)
{
	struct impost_snapshot *snapshot = NULL;
	int status = snapshots_open(invocation, invocation->operands[0], 0, &snapshot);

	if (status != STATUS_OK)
		return status;
	status = check(invocation, snapshot);
	impost_snapshot_close(snapshot);
	return status;
}
