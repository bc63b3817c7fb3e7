/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that look at snapshot files share. */
#ifndef TOOLS_SNAPSHOTS_H
#define TOOLS_SNAPSHOTS_H

#include <stddef.h>
#include <stdint.h>

#include "tool.h"

/*
 * Opens the snapshot at PATH with FLAGS, IMPOST_SNAPSHOT_HEADER or _ALONE, and the key of
 * --key-file. Returns STATUS_OK or another status, with a message printed.
 */
int snapshots_open(const struct invocation *invocation, const char *path, uint32_t flags,
		   struct impost_snapshot **ret_snapshot);

/* An impost_write_fn to a FILE. */
int snapshots_write(void *file, const char *text, size_t len);

#endif
