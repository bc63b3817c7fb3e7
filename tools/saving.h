/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of a run: how they are made, and what the next one can be a diff to. */
#ifndef TOOLS_SAVING_H
#define TOOLS_SAVING_H

#include <stdbool.h>
#include <stdint.h>

#include <impost/impost.h>

#include "sources.h"

/* `[snapshot] track`: when the guest's writes are tracked. */
enum saving_track { SAVING_TRACK_AFTER_SAVE, SAVING_TRACK_ALWAYS, SAVING_TRACK_NEVER };

struct saving {
	struct impost_context *ctx;
	bool background;
	enum saving_track track;
	struct impost_snapshot_key secret;
	const struct impost_snapshot_key *key; /* SECRET; NULL: none */
	struct impost_vm *vm;
	struct sources sources;	    /* what its memory is mapped from */
	struct impost_dirty *dirty; /* what was written since the last one; NULL: not tracked */
	/* The last one that was saved, or that the run began with. */
	char *file; /* an absolute path; NULL: none */
	uint8_t digest[16];
	uint64_t at;	  /* CLOCK_MONOTONIC, in ns: when it was saved, or restored */
	bool is_restored; /* the run began with it */
	bool is_diff;
};

/* Takes `[snapshot]` from CTX. Returns 0 or a negative error with its text on CTX.
 * saving_release() follows in both cases, before the VM's end. */
int saving_configure(struct saving *saving, struct impost_context *ctx);
void saving_release(struct saving *saving);

/* The VM, which begins with SNAPSHOT; NULL: which is booted. Before its state is loaded, which can
 * write memory. */
int saving_begin(struct saving *saving, struct impost_vm *vm, struct impost_snapshot *snapshot);

/*
 * Saves the VM to FILE, an absolute path, as a diff to BASE, or NULL: whole. Returns 0 or a
 * negative error with its text on the context, and all is as it was.
 */
int saving_save(struct saving *saving, const char *file, const char *base,
		impost_snapshot_progress_fn progress, void *opaque,
		struct impost_snapshot_saved *ret_saved);

/* DIGEST as text. */
#define SAVING_DIGEST_TEXT 33u
void saving_digest_text(const uint8_t digest[16], char text[SAVING_DIGEST_TEXT]);

#endif
