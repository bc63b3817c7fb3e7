/* SPDX-License-Identifier: Apache-2.0 */
/* The files that a restored run's memory is mapped from: memory that goes when they become shorter.
 */
#ifndef TOOLS_SOURCES_H
#define TOOLS_SOURCES_H

#include <stdint.h>

#include <impost/impost.h>

/* No chain is longer (snapshot.h). */
#define SOURCES_MOST 64u

struct sources {
	uint32_t count; /* 0: memory is mapped from no snapshot */
	struct source {
		char *path;
		int fd;		/* O_PATH: another file may take the name meanwhile */
		uint64_t bytes; /* its length at that time */
	} file[SOURCES_MOST];
};

/* The base of SNAPSHOT, which is the file PATH, where it lies; NULL: it has none. To be freed. */
char *sources_base(struct impost_snapshot *snapshot, const char *path);

/* The file PATH, a snapshot, and its bases. Returns 0 or a negative error with its text on CTX.
 * sources_close() follows in both cases. */
int sources_open(struct sources *sources, struct impost_context *ctx, const char *path,
		 const struct impost_snapshot_key *key);
void sources_close(struct sources *sources);

/* 0, or -EIO with a text on CTX that names a file which has become shorter. Then the guest's memory
 * must not be touched any more: that is SIGBUS. */
int sources_check(const struct sources *sources, struct impost_context *ctx);

#endif
