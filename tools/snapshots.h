/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that look at snapshot files share. */
#ifndef TOOLS_SNAPSHOTS_H
#define TOOLS_SNAPSHOTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <json-c/json.h>

#include "tool.h"

/*
 * Opens the snapshot at PATH with FLAGS, IMPOST_SNAPSHOT_HEADER or _ALONE, and the key of
 * --key-file. Returns STATUS_OK or another status, with a message printed.
 */
int snapshots_open(const struct invocation *invocation, const char *path, uint32_t flags,
		   struct impost_snapshot **ret_snapshot);

/* Reads the key that CTX has in `[snapshot]` into KEY; *RET_KEY is KEY, or NULL where there is
 * none. KEY is to be wiped in any case. Returns 0 or a negative error with its text on CTX. */
int snapshots_key(struct impost_context *ctx, struct impost_snapshot_key *key,
		  const struct impost_snapshot_key **ret_key);

/* Where mismatches go: an impost_state_mismatch_fn, and what it is called with. */
struct snapshots_findings {
	struct json_object *mismatches; /* NULL: they are printed to FILE */
	FILE *file;
};
void snapshots_mismatch(void *opaque, const char *kind, const char *name, const char *reason);

#endif
