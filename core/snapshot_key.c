/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums and authentication tags of snapshots, and the keys for these. */
#include "snapshot_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "text.h"

#define SECRET_LEAST 16u
#define SECRET_MOST  (64u << 10)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int sodium_error;

static void init_sodium(void)
{
	sodium_error = sodium_init() < 0;
}

static int check_sodium(struct impost_context *ctx)
{
	pthread_once(&once, init_sodium);
	return sodium_error ? impost_error_set(ctx, -EIO, "libsodium does not start") : 0;
}

int snapshot_hash_init(struct snapshot_hash *hash, struct impost_context *ctx,
		       const struct impost_snapshot_key *key)
{
	struct impost_snapshot_key taken;
	int err;

	memset(hash, 0, sizeof(*hash));
	if (!key)
		return 0;
	err = abi_take(ctx, "impost_snapshot_key", &taken, sizeof(taken), key,
		       ABI_UP_TO(struct impost_snapshot_key, bytes));
	if (!err)
		err = check_sodium(ctx);
	if (err)
		return err;
	hash->keyed = true;
	memcpy(hash->key, taken.bytes, sizeof(hash->key));
	sodium_memzero(&taken, sizeof(taken));
	return 0;
}

void snapshot_checksum(const void *data, size_t bytes, uint8_t ret[SNAPSHOT_DIGEST])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
	memcpy(ret, canonical.digest, SNAPSHOT_DIGEST);
}

/* RFC 7693 has no salt and person; BLAKE2's own specification, 2.5, has them in the parameter
 * block. */
void snapshot_tag(const struct snapshot_hash *hash, enum snapshot_part part, const void *data,
		  size_t bytes, uint8_t *ret, size_t len)
{
	static const unsigned char person[][crypto_generichash_blake2b_PERSONALBYTES] = {
		[SNAPSHOT_HEADER_PART] = "impost header",
		[SNAPSHOT_SECTION_PART] = "impost section",
	};

	crypto_generichash_blake2b_salt_personal(ret, len, data, bytes, hash->key,
						 sizeof(hash->key), NULL, person[part]);
}

int impost_snapshot_key_make(struct impost_context *ctx, const void *secret, uint64_t bytes,
			     struct impost_snapshot_key *ret_key)
{
	struct impost_snapshot_key key = {.size = sizeof(key)};
	int err = abi_check(ctx, "impost_snapshot_key", ret_key,
			    ABI_UP_TO(struct impost_snapshot_key, bytes));

	if (!err)
		err = check_sodium(ctx);
	if (err)
		return err;
	if (!secret || bytes < SECRET_LEAST)
		return impost_error_set(ctx, -EINVAL,
					"a key's secret has %u bytes at least: take 32 of "
					"/dev/urandom",
					SECRET_LEAST);
	crypto_generichash_blake2b(key.bytes, sizeof(key.bytes), secret, bytes, NULL, 0);
	abi_give(ret_key, &key, sizeof(key));
	sodium_memzero(&key, sizeof(key));
	return 0;
}

static int check_key_file(struct impost_context *ctx, const char *path, int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		return impost_error_set(ctx, -errno, "%.256s: %m", path);
	if (!S_ISREG(status.st_mode))
		return impost_error_set(ctx, -EINVAL, "%.256s: a key must be a regular file", path);
	if (status.st_mode & (S_IRWXG | S_IRWXO))
		return impost_error_set(ctx, -EPERM,
					"%.256s: a key that others may read or write is none: "
					"chmod 600",
					path);
	if (status.st_size > SECRET_MOST)
		return impost_error_set(ctx, -EINVAL,
					"%.256s: a key file has %u bytes at most, not %lld", path,
					SECRET_MOST, (long long)status.st_size);
	return 0;
}

static int read_secret(struct impost_context *ctx, const char *path, int fd,
		       uint8_t secret[SECRET_MOST], uint64_t *ret_bytes)
{
	uint64_t done = 0;
	ssize_t len;

	do {
		len = read(fd, secret + done, SECRET_MOST - done);
		if (len > 0)
			done += (uint64_t)len;
	} while (len > 0 || (len < 0 && errno == EINTR));
	if (len < 0)
		return impost_error_set(ctx, -errno, "%.256s: cannot be read: %m", path);
	*ret_bytes = done;
	return 0;
}

int impost_snapshot_key_read(struct impost_context *ctx, const char *path,
			     struct impost_snapshot_key *ret_key)
{
	uint8_t secret[SECRET_MOST];
	uint64_t bytes = 0;
	int err, fd;

	if (!path)
		return impost_error_set(ctx, -EINVAL, "a key file needs a path");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return impost_error_set(ctx, -errno, "%.256s: cannot be opened: %m", path);
	err = check_key_file(ctx, path, fd);
	if (!err)
		err = read_secret(ctx, path, fd, secret, &bytes);
	close(fd);
	if (!err)
		err = impost_snapshot_key_make(ctx, secret, bytes, ret_key);
	sodium_memzero(secret, sizeof(secret));
	return err;
}
