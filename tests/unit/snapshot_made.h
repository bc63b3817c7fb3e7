/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots as a stranger makes them, by what docs/snapshot-format.md says and with nothing of the
 * library's: read into memory or built there, edited, and given new checksums and tags.
 */
#ifndef TESTS_UNIT_SNAPSHOT_MADE_H
#define TESTS_UNIT_SNAPSHOT_MADE_H

#include <fcntl.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <criterion/criterion.h>

/* Offsets in the header, and in a row of the section table. */
enum {
	H_MAGIC = 0,
	H_VERSION = 8,
	H_COMPATIBLE = 12,
	H_HEAD_BYTES = 16,
	H_ENTRY_BYTES = 20,
	H_SECTIONS = 24,
	H_FLAGS = 28,
	H_HEADER_BYTES = 32,
	H_FILE_BYTES = 40,
	H_MEMORY_OFFSET = 48,
	H_MEMORY_BYTES = 56,
	H_CREATED = 64,
	H_ID = 72,
	H_BASE_ID = 88,
	H_BASE_DIGEST = 104,
	H_RESERVED = 120,
	H_TAG = 208,
	H_CHECKSUM = 240,
	H_END = 256,
	E_NAME = 0,
	E_KIND = 64,
	E_FLAGS = 68,
	E_OFFSET = 72,
	E_BYTES = 80,
	E_RESERVED = 88,
	E_CHECKSUM = 96,
	E_TAG = 112,
	E_END = 144,
};

/* A file in memory. */
struct made {
	uint8_t *bytes;
	size_t len;
	const uint8_t *key; /* 32 bytes; NULL: none */
};

static inline uint64_t get(const struct made *made, size_t offset, size_t width)
{
	uint64_t value = 0;

	cr_assert(offset + width <= made->len);
	memcpy(&value, made->bytes + offset, width);
	return value;
}

static inline void put(struct made *made, size_t offset, size_t width, uint64_t value)
{
	cr_assert(offset + width <= made->len);
	memcpy(made->bytes + offset, &value, width);
}

static inline void resize(struct made *made, size_t len)
{
	made->bytes = realloc(made->bytes, len ? len : 1);
	if (len > made->len)
		memset(made->bytes + made->len, 0, len - made->len);
	made->len = len;
}

/* Where member WHAT of row INDEX of the section table is. */
static inline size_t entry(const struct made *made, uint32_t index, size_t what)
{
	return get(made, H_HEAD_BYTES, 4) + index * get(made, H_ENTRY_BYTES, 4) + what;
}

/* The row of section NAME. */
static inline uint32_t find(const struct made *made, const char *name)
{
	for (uint32_t i = 0; i < get(made, H_SECTIONS, 4); i++)
		if (strcmp((char *)made->bytes + entry(made, i, E_NAME), name) == 0)
			return i;
	cr_assert(false, "no section %s", name);
	return 0;
}

/* Where byte AT of section NAME is. */
static inline size_t inside(const struct made *made, const char *name, size_t at)
{
	return get(made, entry(made, find(made, name), E_OFFSET), 8) + at;
}

static inline void checksum_of(const void *data, size_t bytes, uint8_t *ret)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
	memcpy(ret, canonical.digest, sizeof(canonical.digest));
}

static inline void tag_of(const uint8_t *key, const char person[16], const void *data, size_t bytes,
			  uint8_t *ret, size_t len)
{
	crypto_generichash_blake2b_salt_personal(ret, len, data, bytes, key, 32, NULL,
						 (const unsigned char *)person);
}

/* Checksum and tag of section number INDEX. */
static inline void seal_section(struct made *made, uint32_t index)
{
	const uint8_t *data = made->bytes + get(made, entry(made, index, E_OFFSET), 8);
	size_t bytes = get(made, entry(made, index, E_BYTES), 8);

	checksum_of(data, bytes, made->bytes + entry(made, index, E_CHECKSUM));
	if (made->key)
		tag_of(made->key, "impost section\0", data, bytes,
		       made->bytes + entry(made, index, E_TAG), 32);
}

/* Checksum and tag of the header, as it is. */
static inline void seal_header(struct made *made)
{
	size_t bytes = get(made, H_HEADER_BYTES, 8);
	uint8_t sum[16], tag[32];

	if (bytes > made->len)
		return;
	memset(made->bytes + H_CHECKSUM, 0, 16);
	if (made->key) {
		memset(made->bytes + H_TAG, 0, 32);
		tag_of(made->key, "impost header\0\0", made->bytes, bytes, tag, sizeof(tag));
		memcpy(made->bytes + H_TAG, tag, sizeof(tag));
	}
	checksum_of(made->bytes, bytes, sum);
	memcpy(made->bytes + H_CHECKSUM, sum, sizeof(sum));
}

static inline void seal(struct made *made)
{
	for (uint32_t i = 0; i < get(made, H_SECTIONS, 4); i++)
		seal_section(made, i);
	seal_header(made);
}

/* --- other sections: the file is laid out anew --- */

/* The sections of a file, in memory of their own. */
struct parts {
	uint32_t count;
	struct {
		uint8_t row[E_END];
		uint8_t *data;
		size_t len;
	} part[64];
	uint8_t *memory;
	size_t memory_len;
};

static inline uint8_t *copy_of(const void *data, size_t len)
{
	uint8_t *copy = malloc(len + 1);

	if (len)
		memcpy(copy, data, len);
	return copy;
}

static inline struct parts take_apart(const struct made *made)
{
	struct parts parts = {.count = (uint32_t)get(made, H_SECTIONS, 4)};
	size_t memory = get(made, H_MEMORY_OFFSET, 8);

	cr_assert(parts.count < 63);
	for (uint32_t i = 0; i < parts.count; i++) {
		memcpy(parts.part[i].row, made->bytes + entry(made, i, 0), E_END);
		parts.part[i].len = get(made, entry(made, i, E_BYTES), 8);
		parts.part[i].data = copy_of(made->bytes + get(made, entry(made, i, E_OFFSET), 8),
					     parts.part[i].len);
	}
	parts.memory_len = get(made, H_MEMORY_BYTES, 8);
	parts.memory = copy_of(made->bytes + memory, parts.memory_len);
	return parts;
}

/* Makes MADE of PARTS, which are no more. */
static inline void put_together(struct made *made, struct parts *parts)
{
	size_t header = H_END + (size_t)parts->count * E_END, at = header;

	for (uint32_t i = 0; i < parts->count; i++)
		at = (at + 7) / 8 * 8 + parts->part[i].len;
	at = (at + 4095) / 4096 * 4096;
	resize(made, at + parts->memory_len);
	put(made, H_SECTIONS, 4, parts->count);
	put(made, H_HEADER_BYTES, 8, header);
	put(made, H_FILE_BYTES, 8, made->len);
	put(made, H_MEMORY_OFFSET, 8, at);
	memset(made->bytes + header, 0, at - header);
	memcpy(made->bytes + at, parts->memory, parts->memory_len);
	at = header;
	for (uint32_t i = 0; i < parts->count; i++) {
		at = (at + 7) / 8 * 8;
		memcpy(made->bytes + entry(made, i, 0), parts->part[i].row, E_END);
		put(made, entry(made, i, E_OFFSET), 8, at);
		put(made, entry(made, i, E_BYTES), 8, parts->part[i].len);
		memcpy(made->bytes + at, parts->part[i].data, parts->part[i].len);
		at += parts->part[i].len;
		free(parts->part[i].data);
	}
	free(parts->memory);
	seal(made);
}

/* Section NAME has DATA from now on; is there no more; is cut to, or lengthened by zeros to, LEN.
 */
static inline void set_section(struct made *made, const char *name, const void *data, size_t len)
{
	uint32_t index = find(made, name);
	struct parts parts = take_apart(made);

	free(parts.part[index].data);
	parts.part[index].data = copy_of(data, len);
	parts.part[index].len = len;
	put_together(made, &parts);
}

static inline void drop_section(struct made *made, const char *name)
{
	uint32_t index = find(made, name);
	struct parts parts = take_apart(made);

	free(parts.part[index].data);
	parts.count--;
	memmove(&parts.part[index], &parts.part[index + 1],
		(parts.count - index) * sizeof(parts.part[0]));
	put_together(made, &parts);
}

static inline void size_section(struct made *made, const char *name, size_t len)
{
	struct parts parts = take_apart(made);
	uint32_t index = find(made, name);
	size_t before = parts.part[index].len;

	parts.part[index].data = realloc(parts.part[index].data, len + 1);
	if (len > before)
		memset(parts.part[index].data + before, 0, len - before);
	parts.part[index].len = len;
	put_together(made, &parts);
}

static inline size_t section_len(const struct made *made, const char *name)
{
	return get(made, entry(made, find(made, name), E_BYTES), 8);
}

/* One more, at the end. */
static inline void add_section(struct made *made, const char *name, uint32_t kind, uint32_t flags,
			       const void *data, size_t len)
{
	struct parts parts = take_apart(made);
	uint8_t *row = parts.part[parts.count].row;

	memset(row, 0, E_END);
	memcpy(row + E_NAME, name, strlen(name));
	memcpy(row + E_KIND, &kind, sizeof(kind));
	memcpy(row + E_FLAGS, &flags, sizeof(flags));
	parts.part[parts.count].data = copy_of(data, len);
	parts.part[parts.count++].len = len;
	put_together(made, &parts);
}

static inline struct made made_read(const char *path)
{
	struct made made = {0};
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert(fd >= 0, "%s: %m", path);
	cr_assert(fstat(fd, &status) == 0);
	resize(&made, (size_t)status.st_size);
	cr_assert(read(fd, made.bytes, made.len) == (ssize_t)made.len);
	close(fd);
	return made;
}

static inline void made_write(const struct made *made, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert(fd >= 0, "%s: %m", path);
	cr_assert(write(fd, made->bytes, made->len) == (ssize_t)made->len);
	close(fd);
}

static inline void made_free(struct made *made)
{
	free(made->bytes);
	*made = (struct made){0};
}

#endif
