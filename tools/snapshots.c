// SPDX-License-Identifier: Apache-2.0
/* Snapshot files, opened as the command line has it. impost flatten and impost check. */
#include "snapshots.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "progress.h"
#include "row.h"

int snapshots_key(struct impost_context *ctx, struct impost_snapshot_key *key,
		  const struct impost_snapshot_key **ret_key)
{
	const char *path = impost_context_get(ctx, "snapshot", "key_file");
	int err;

	*ret_key = NULL;
	if (!path)
		return 0;
	if (!HAS_STATE)
		return impost_error_set(ctx, -ENOTSUP, "[snapshot] key_file: " NO_STATE_TEXT);
	key->size = sizeof(*key);
	err = impost_snapshot_key_read(ctx, path, key);
	if (err == 0)
		*ret_key = key;
	return err;
}

int snapshots_open(const struct invocation *invocation, const char *path, uint32_t flags,
		   struct impost_snapshot **ret_snapshot)
{
	struct impost_snapshot_open_options options = {.size = sizeof(options), .flags = flags};
	struct impost_snapshot_key key;
	int err = snapshots_key(invocation->ctx, &key, &options.key);

	if (err == 0)
		err = impost_snapshot_open(invocation->ctx, path, &options, ret_snapshot);
	explicit_bzero(&key, sizeof(key));
	return err < 0 ? complain_error(invocation, err) : STATUS_OK;
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
	err = snapshots_key(invocation->ctx, &key, &options.key);
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

void snapshots_mismatch(void *opaque, const char *kind, const char *name, const char *reason)
{
	const struct snapshots_findings *findings = opaque;

	ROW_TELL(findings->mismatches, findings->file, {"kind", kind, 11, " ", false},
		 {"name", name, 0, ": ", true}, {"reason", reason, 0, "", false});
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
	struct snapshots_findings findings = {.file = stdout};
	int count = verify(invocation, snapshot);

	if (count < 0)
		return complain_error(invocation, count);
	if (invocation_has(invocation, OPTION_JSON))
		findings.mismatches = json_object_new_array();
	/* On the first backend of the configuration, which --backend has set. */
	count = impost_snapshot_check(snapshot, NULL, snapshots_mismatch, &findings);
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
