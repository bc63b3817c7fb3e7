/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of what is in several pieces. */
#include "snapshot_hashing.h"

_Static_assert(SNAPSHOT_DIGEST >= crypto_generichash_blake2b_BYTES_MIN,
	       "libsodium makes no shorter one");
_Static_assert(SNAPSHOT_DIGEST == sizeof(XXH128_canonical_t), "XXH3-128's");

static const unsigned char person[crypto_generichash_blake2b_PERSONALBYTES] = "impost memory";

void snapshot_hashing_begin(struct snapshot_hashing *hashing, const struct snapshot_hash *hash)
{
	hashing->keyed = hash->keyed;
	if (hash->keyed) {
		crypto_generichash_blake2b_init_salt_personal(&hashing->state.keyed, hash->key,
							      sizeof(hash->key), SNAPSHOT_DIGEST,
							      NULL, person);
	} else {
		XXH3_128bits_reset(&hashing->state.plain);
	}
}

void snapshot_hashing_add(struct snapshot_hashing *hashing, const void *data, size_t bytes)
{
	if (hashing->keyed)
		crypto_generichash_blake2b_update(&hashing->state.keyed, data, bytes);
	else
		XXH3_128bits_update(&hashing->state.plain, data, bytes);
}

void snapshot_hashing_end(struct snapshot_hashing *hashing, uint8_t ret_digest[SNAPSHOT_DIGEST])
{
	if (hashing->keyed)
		crypto_generichash_blake2b_final(&hashing->state.keyed, ret_digest,
						 SNAPSHOT_DIGEST);
	else
		XXH128_canonicalFromHash((XXH128_canonical_t *)(void *)ret_digest,
					 XXH3_128bits_digest(&hashing->state.plain));
}
