/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests of what is in several pieces: 16 bytes that tell whether they are what was written.
 *
 * Without a key it is XXH3-128 in its canonical form, which finds accidents; with one it is keyed
 * BLAKE2b with 16 bytes of output and the person "impost memory", which nobody makes who has not
 * the key, and which is no tag of another part of the file (snapshot_tag()).
 */
#ifndef CORE_SNAPSHOT_HASHING_H
#define CORE_SNAPSHOT_HASHING_H

#define XXH_STATIC_LINKING_ONLY /* the state as a type, not behind a pointer */
#include <sodium/crypto_generichash_blake2b.h>
#include <xxhash.h>

#include "snapshot_file.h"

/* A digest that is being made of several pieces. */
struct snapshot_hashing {
	bool keyed;
	union {
		XXH3_state_t plain;
		crypto_generichash_blake2b_state keyed;
	} state;
};

/* HASH: made by snapshot_hash_init(). */
void snapshot_hashing_begin(struct snapshot_hashing *hashing, const struct snapshot_hash *hash);
void snapshot_hashing_add(struct snapshot_hashing *hashing, const void *data, size_t bytes);
void snapshot_hashing_end(struct snapshot_hashing *hashing, uint8_t ret_digest[SNAPSHOT_DIGEST]);

#endif
