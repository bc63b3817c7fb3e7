/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden snapshots: files of released versions of the format, which stay readable. A version's
 *files are made once, by the library of that version:
 *
 *	IMPOST_MAKE_GOLDEN=tests/golden build/tests/unit/test-snapshot_golden
 *
 * GOLDEN_DIR, the folder of the files, is defined on the compiler's command line.
 */
#ifndef TESTS_UNIT_SNAPSHOT_GOLDEN_H
#define TESTS_UNIT_SNAPSHOT_GOLDEN_H

#include "snapshot_made.h"
#include "snapshot_vm.h"

#define GOLDEN_FULL  "snapshot-1-full"
#define GOLDEN_DIFF  "snapshot-1-diff"
#define GOLDEN_KEYED "snapshot-1-keyed"

/* A key for everybody. */
#define GOLDEN_SECRET "the key of the golden snapshots is no secret"

static inline struct impost_snapshot_key golden_key(struct impost_context *ctx)
{
	struct impost_snapshot_key key = {.size = sizeof(key)};

	expect_ok(ctx, impost_snapshot_key_make(ctx, GOLDEN_SECRET, strlen(GOLDEN_SECRET), &key));
	return key;
}

/* Copies golden file NAME into the current folder as TO. */
static inline void golden_copy(const char *name, const char *to)
{
	char path[512];
	struct made made;

	snprintf(path, sizeof(path), "%s/%s", GOLDEN_DIR, name);
	made = made_read(path);
	made_write(&made, to);
	made_free(&made);
}

#endif
