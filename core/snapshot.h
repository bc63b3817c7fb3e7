/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot as the core sees it: a chain of files, newest first, and what was decoded of them.
 */
#ifndef CORE_SNAPSHOT_H
#define CORE_SNAPSHOT_H

#include "snapshot_file.h"
#include "snapshot_memory.h"

#define SNAPSHOT_CHAIN 64u

/* Files that were opened: a diff, its base, that one's, and so on to a full one. */
struct snapshot_chain {
	uint32_t count;
	char *base; /* name of the first one's base; NULL: it is full */
	struct snapshot_file *file[SNAPSHOT_CHAIN];
};

struct impost_snapshot {
	struct impost_context *ctx;
	struct snapshot_chain chain;
	struct impost_state *state; /* NULL: only the header was read */
	/* Of each file: */
	void *raw[SNAPSHOT_CHAIN]; /* section "memory" */
	struct memory_table *table[SNAPSHOT_CHAIN];
	struct memory_layer layer[SNAPSHOT_CHAIN];
};

/* --- snapshot_chain.c --- */

/* How a chain is opened. */
struct snapshot_open {
	const struct impost_snapshot_key *key;
	const char *base_dir; /* NULL: each diff's folder */
	bool look;	      /* the first file's header alone */
	bool alone;	      /* no bases */
};

/* Opens PATH, and what it is a diff to. On failure nothing is open. */
int snapshot_chain_open(struct impost_context *ctx, const char *path,
			const struct snapshot_open *how, struct snapshot_chain *ret_chain);
void snapshot_chain_close(struct snapshot_chain *chain);

/* The number of section NAME of FILE; file->head.sections: there is none. */
uint32_t snapshot_find_section(const struct snapshot_file *file, const char *name);

/* --- snapshot.c --- */

/* Whether a call that takes more than the header can be made, and with MEMORY one that takes the
 * memory of the whole chain: -IMPOST_EFORKED, -EINVAL, -ESTALE. */
int snapshot_check_open(struct impost_snapshot *snapshot, bool memory);

/* Whether STATE and TABLE say the same of which guest memory there is. */
bool snapshot_same_regions(const struct impost_state *state, const struct memory_table *table);

#endif
