/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a snapshot's file: header, section table, sections; each verified before it is used. */
#include "snapshot_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

/* A newer format may have longer ones. */
#define HEAD_MOST  4096u
#define ENTRY_MOST 4096u

int(snapshot_file_error)(struct snapshot_file *file, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	impost_error_vset(file->ctx, err, fmt, ap);
	va_end(ap);
	return impost_error_set(file->ctx, err, "%.200s: %s", file->path, impost_error(file->ctx));
}

bool snapshot_all_zero(const void *data, size_t bytes)
{
	const uint8_t *at = data;

	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

/* --- the file itself --- */

static struct snapshot_identity identify(const struct stat *status)
{
	return (struct snapshot_identity){
		.dev = status->st_dev,
		.ino = status->st_ino,
		.bytes = (uint64_t)status->st_size,
		.modified = status->st_mtim,
		.changed = status->st_ctim,
	};
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool snapshot_file_same(const struct snapshot_file *file, const struct stat *status)
{
	return file->identity.dev == status->st_dev && file->identity.ino == status->st_ino;
}

/* The time of change is not compared: a new name for the file, or one less, is no change of it. */
int snapshot_file_unchanged(struct snapshot_file *file)
{
	struct snapshot_identity now;
	struct stat status;

	if (fstat(file->fd, &status))
		return snapshot_file_error(file, -errno, "%m");
	now = identify(&status);
	if (now.bytes == file->identity.bytes && same_time(now.modified, file->identity.modified))
		return 0;
	return snapshot_file_error(file, -ESTALE,
				   "the file was changed after it was opened, when it had %" PRIu64
				   " bytes: it has %" PRIu64 " now",
				   file->identity.bytes, now.bytes);
}

/* All of BYTES at OFFSET. */
static int read_all(struct snapshot_file *file, void *buf, uint64_t bytes, uint64_t offset,
		    const char *what)
{
	uint64_t done = 0;
	ssize_t len;

	while (done < bytes) {
		len = pread(file->fd, (uint8_t *)buf + done, bytes - done, (off_t)(offset + done));
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return snapshot_file_error(file, -errno, "%s cannot be read: %m", what);
		if (len == 0)
			return snapshot_file_error(file, -ENODATA,
						   "it is truncated: %s ends at byte %" PRIu64,
						   what, offset + done);
		done += (uint64_t)len;
	}
	return 0;
}

static int open_file(struct snapshot_file *file)
{
	struct stat status;

	/* What is no file must not block. */
	file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (file->fd < 0)
		return snapshot_file_error(file, -errno, "cannot be opened: %m");
	if (fstat(file->fd, &status))
		return snapshot_file_error(file, -errno, "%m");
	if (!S_ISREG(status.st_mode))
		return snapshot_file_error(file, -EINVAL,
					   "it is no regular file, and so no snapshot");
	file->identity = identify(&status);
	file->disk_bytes = (uint64_t)status.st_blocks * 512;
	return 0;
}

/* --- the header --- */

static int malformed(struct snapshot_file *file, const char *what, uint64_t value)
{
	return snapshot_file_error(file, -IMPOST_EFORMAT, "the header is malformed: %s is %" PRIu64,
				   what, value);
}

static int read_head(struct snapshot_file *file)
{
	static const char magic[] = SNAPSHOT_MAGIC;
	uint64_t bytes = file->identity.bytes;
	int err;

	if (bytes == 0)
		return snapshot_file_error(file, -ENODATA, "it is empty");
	if (bytes > sizeof(file->head))
		bytes = sizeof(file->head);
	err = read_all(file, &file->head, bytes, 0, "the header");
	if (err)
		return err;
	if (memcmp(file->head.magic, magic, bytes < 8 ? bytes : 8) != 0)
		return snapshot_file_error(file, -IMPOST_EFORMAT,
					   "it is no snapshot: it does not begin with IMPOST");
	if (bytes < sizeof(file->head))
		return snapshot_file_error(
			file, -ENODATA,
			"it is truncated: the header has %zu bytes, the file %" PRIu64,
			sizeof(file->head), bytes);
	return 0;
}

/* The format comes first: what else is in the header is its to say. */
static int check_version(struct snapshot_file *file)
{
	const struct snapshot_header *head = &file->head;

	if (head->compatible > IMPOST_SNAPSHOT_VERSION)
		return snapshot_file_error(file, -EPROTONOSUPPORT,
					   "its format is version %u, which takes a reader of "
					   "version %u: this one is of %u, take a newer one",
					   head->version, head->compatible,
					   IMPOST_SNAPSHOT_VERSION);
	if (head->compatible == 0 || head->compatible > head->version)
		return malformed(file, "the oldest version that can read it", head->compatible);
	return 0;
}

static int check_sizes(struct snapshot_file *file)
{
	const struct snapshot_header *head = &file->head;
	bool newer = head->version > IMPOST_SNAPSHOT_VERSION;
	uint32_t head_most = newer ? HEAD_MOST : sizeof(*head);
	uint32_t entry_most = newer ? ENTRY_MOST : sizeof(struct snapshot_entry);

	if (head->head_bytes < sizeof(*head) || head->head_bytes > head_most ||
	    head->head_bytes % SNAPSHOT_ALIGN)
		return malformed(file, "the length of its fixed part", head->head_bytes);
	if (head->entry_bytes < sizeof(struct snapshot_entry) || head->entry_bytes > entry_most ||
	    head->entry_bytes % SNAPSHOT_ALIGN)
		return malformed(file, "the length of a row of the section table",
				 head->entry_bytes);
	if (head->sections == 0 || head->sections > SNAPSHOT_SECTIONS)
		return malformed(file, "the number of sections", head->sections);
	if (head->header_bytes != head->head_bytes + (uint64_t)head->sections * head->entry_bytes)
		return malformed(file, "its length", head->header_bytes);
	if (head->file_bytes > file->identity.bytes)
		return snapshot_file_error(file, -ENODATA,
					   "it is truncated: %" PRIu64 " bytes of %" PRIu64
					   " are there",
					   file->identity.bytes, head->file_bytes);
	if (head->file_bytes < file->identity.bytes)
		return malformed(file, "the file's length, which is more,", head->file_bytes);
	if (head->header_bytes > head->file_bytes)
		return malformed(file, "its length, beyond the file's,", head->header_bytes);
	return 0;
}

static int check_tag(struct snapshot_file *file, const uint8_t *want, const uint8_t *have,
		     const char *what)
{
	if (sodium_memcmp(want, have, SNAPSHOT_TAG) == 0)
		return 0;
	if (snapshot_all_zero(have, SNAPSHOT_TAG))
		return snapshot_file_error(file, -EKEYREJECTED, "%s has no authentication tag",
					   what);
	return snapshot_file_error(file, -EKEYREJECTED,
				   "%s: the authentication tag is not of this key: another key, "
				   "or somebody changed it",
				   what);
}

/* Of the whole header at RAW, whose checksum and tag are zeroed on the way. */
static int check_sums(struct snapshot_file *file, uint8_t *raw, bool look)
{
	uint8_t sum[SNAPSHOT_DIGEST], tag[SNAPSHOT_TAG];
	const struct snapshot_header *head = &file->head;

	memset(raw + offsetof(struct snapshot_header, checksum), 0, SNAPSHOT_DIGEST);
	snapshot_checksum(raw, head->header_bytes, sum);
	if (memcmp(sum, head->checksum, SNAPSHOT_DIGEST) != 0)
		return snapshot_file_error(file, -EBADMSG,
					   "the header is damaged: its checksum does not match");
	if (!(head->flags & HEADER_KEYED) && !snapshot_all_zero(head->tag, SNAPSHOT_TAG))
		return malformed(file, "it has a tag, and its word for having one", 0);
	if (!(head->flags & HEADER_KEYED) && file->hash.keyed)
		return snapshot_file_error(file, -EKEYREJECTED,
					   "it has no authentication tag, so the key says nothing "
					   "about it: open it without one if you trust it");
	if (!(head->flags & HEADER_KEYED) || (look && !file->hash.keyed))
		return 0;
	if (!file->hash.keyed)
		return snapshot_file_error(file, -ENOKEY,
					   "it has an authentication tag: give the key");
	memset(raw + offsetof(struct snapshot_header, tag), 0, SNAPSHOT_TAG);
	snapshot_tag(&file->hash, SNAPSHOT_HEADER_PART, raw, head->header_bytes, tag, sizeof(tag));
	return check_tag(file, tag, head->tag, "the header");
}

/* Whether what the header says of other files, and of memory, can be. */
static int check_head(struct snapshot_file *file)
{
	const struct snapshot_header *head = &file->head;
	bool diff = head->flags & HEADER_DIFF;

	if (head->flags & ~(HEADER_KEYED | HEADER_DIFF))
		return malformed(file, "its flags, with one that is unknown,", head->flags);
	if (head->version <= IMPOST_SNAPSHOT_VERSION &&
	    !snapshot_all_zero(head->reserved, sizeof(head->reserved)))
		return malformed(file, "something unknown", 1);
	if (diff == snapshot_all_zero(head->base_digest, SNAPSHOT_DIGEST))
		return malformed(file, diff ? "the base's digest" : "the word for a diff", 0);
	if (!diff && !snapshot_all_zero(head->base_id, sizeof(head->base_id)))
		return malformed(file, "the word for a diff", 0);
	if (head->memory_offset % SNAPSHOT_PAGE || head->memory_offset < head->header_bytes)
		return malformed(file, "the place of memory", head->memory_offset);
	if (head->memory_bytes % SNAPSHOT_PAGE || head->memory_offset > head->file_bytes ||
	    head->memory_bytes != head->file_bytes - head->memory_offset)
		return malformed(file, "the length of memory", head->memory_bytes);
	return 0;
}

/* --- the section table --- */

static bool is_name(const char name[64])
{
	size_t len = strnlen(name, sizeof(((struct snapshot_entry *)NULL)->name));

	if (len == 0 || len == 64 || !snapshot_all_zero(name + len, 64 - len))
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	return true;
}

static int bad_section(struct snapshot_file *file, uint32_t index, int err, const char *what)
{
	const char *name = file->entries[index].name;

	if (is_name(name))
		return snapshot_file_error(file, err, "section %s: %s", name, what);
	return snapshot_file_error(file, err, "section number %u: %s", index, what);
}

static int check_kind(struct snapshot_file *file, uint32_t index)
{
	static const char *const only_name[] = {
		[IMPOST_SNAPSHOT_STATE] = NULL,
		[IMPOST_SNAPSHOT_MEMORY] = "memory",
		[IMPOST_SNAPSHOT_BASE] = "base",
	};
	const struct snapshot_entry *entry = &file->entries[index];

	if (entry->flags & ~SECTION_OPTIONAL)
		return bad_section(file, index, -IMPOST_EFORMAT, "its flags are unknown");
	if (entry->kind == 0 || entry->kind >= ARRAY_SIZE(only_name)) {
		if (entry->flags & SECTION_OPTIONAL)
			return 0;
		return bad_section(file, index, -EPROTONOSUPPORT,
				   "its kind is unknown to this reader, and it is needed");
	}
	for (uint32_t kind = 0; kind < ARRAY_SIZE(only_name); kind++)
		if (only_name[kind] &&
		    (kind == entry->kind) != (strcmp(only_name[kind], entry->name) == 0))
			return bad_section(file, index, -IMPOST_EFORMAT,
					   "its name is not that of its kind");
	return 0;
}

static uint64_t section_most(const struct snapshot_file *file, const struct snapshot_entry *entry)
{
	uint64_t table =
		entry->kind == IMPOST_SNAPSHOT_MEMORY ? file->head.memory_bytes / SNAPSHOT_PAGE : 0;

	return SNAPSHOT_SECTION_MOST + table;
}

/* END is where what comes before it ends. */
static int check_place(struct snapshot_file *file, uint32_t index, uint64_t *end)
{
	const struct snapshot_entry *entry = &file->entries[index];

	if (entry->offset % SNAPSHOT_ALIGN)
		return bad_section(file, index, -IMPOST_EFORMAT, "its offset is not aligned");
	if (entry->offset < *end)
		return bad_section(file, index, -IMPOST_EFORMAT,
				   "it overlaps what comes before it");
	if (entry->offset > file->head.memory_offset ||
	    entry->bytes > file->head.memory_offset - entry->offset)
		return bad_section(file, index, -IMPOST_EFORMAT,
				   "it reaches into memory, or beyond the file's end");
	if (entry->bytes > section_most(file, entry))
		return bad_section(file, index, -IMPOST_EFORMAT, "it is too long");
	*end = entry->offset + entry->bytes;
	return 0;
}

static int check_entry(struct snapshot_file *file, uint32_t index, uint64_t *end)
{
	const struct snapshot_entry *entry = &file->entries[index];
	bool keyed = file->head.flags & HEADER_KEYED;
	int err;

	if (!is_name(entry->name))
		return bad_section(file, index, -IMPOST_EFORMAT, "its name is malformed");
	err = check_kind(file, index);
	if (!err)
		err = check_place(file, index, end);
	if (err)
		return err;
	if (file->head.version <= IMPOST_SNAPSHOT_VERSION && entry->reserved)
		return bad_section(file, index, -IMPOST_EFORMAT, "it says something unknown");
	if (!keyed && !snapshot_all_zero(entry->tag, SNAPSHOT_TAG))
		return bad_section(file, index, -IMPOST_EFORMAT,
				   "it has an authentication tag, and the header has none");
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(struct snapshot_file *file)
{
	uint32_t count = file->head.sections;
	bool memory = false, base = false;
	const char **names = calloc(count, sizeof(*names));
	int err = 0;

	if (!names)
		return snapshot_file_error(file, -ENOMEM, "no memory for %u sections", count);
	for (uint32_t i = 0; i < count; i++) {
		names[i] = file->entries[i].name;
		memory |= file->entries[i].kind == IMPOST_SNAPSHOT_MEMORY;
		base |= file->entries[i].kind == IMPOST_SNAPSHOT_BASE;
	}
	qsort(names, count, sizeof(*names), compare_names);
	for (uint32_t i = 1; i < count && !err; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			err = snapshot_file_error(file, -IMPOST_EFORMAT,
						  "section %s is there twice", names[i]);
	free(names);
	if (!err && !memory)
		err = snapshot_file_error(file, -IMPOST_EFORMAT, "section memory is missing");
	if (!err && base != !!(file->head.flags & HEADER_DIFF))
		err = snapshot_file_error(file, -IMPOST_EFORMAT,
					  "section base is what a diff has, and no other: here %s",
					  base ? "there is one" : "it is missing");
	return err;
}

static int take_table(struct snapshot_file *file, const uint8_t *raw)
{
	const struct snapshot_header *head = &file->head;
	uint64_t end = head->header_bytes;
	int err = 0;

	file->entries = calloc(head->sections, sizeof(*file->entries));
	if (!file->entries)
		return snapshot_file_error(file, -ENOMEM, "no memory for %u sections",
					   head->sections);
	for (uint32_t i = 0; i < head->sections && !err; i++) {
		memcpy(&file->entries[i], raw + head->head_bytes + (size_t)i * head->entry_bytes,
		       sizeof(*file->entries));
		err = check_entry(file, i, &end);
	}
	return err ? err : check_names(file);
}

static int read_header(struct snapshot_file *file, bool look)
{
	uint8_t *raw;
	int err = read_head(file);

	if (!err)
		err = check_version(file);
	if (!err)
		err = check_sizes(file);
	if (err)
		return err;
	raw = malloc(file->head.header_bytes);
	if (!raw)
		return snapshot_file_error(file, -ENOMEM, "no memory for the header");
	err = read_all(file, raw, file->head.header_bytes, 0, "the header");
	/* What was judged is what is verified, though the file be changed meanwhile. */
	if (!err && memcmp(raw, &file->head, sizeof(file->head)) != 0)
		err = snapshot_file_error(file, -ESTALE, "the file changes while it is read");
	if (!err)
		err = check_sums(file, raw, look);
	if (!err)
		err = check_head(file);
	if (!err)
		err = take_table(file, raw);
	free(raw);
	return err;
}

int snapshot_file_open(struct impost_context *ctx, const char *path,
		       const struct impost_snapshot_key *key, bool look,
		       struct snapshot_file **ret_file)
{
	struct snapshot_file *file = calloc(1, sizeof(*file));
	int err;

	if (!file)
		return impost_error_set(ctx, -ENOMEM, "no memory for a snapshot");
	file->ctx = ctx;
	file->fd = -1;
	file->path = strdup(path);
	err = file->path ? snapshot_hash_init(&file->hash, ctx, key)
			 : impost_error_set(ctx, -ENOMEM, "no memory for a snapshot");
	if (!err)
		err = open_file(file);
	if (!err)
		err = read_header(file, look);
	if (err) {
		snapshot_file_close(file);
		return err;
	}
	*ret_file = file;
	return 0;
}

void snapshot_file_close(struct snapshot_file *file)
{
	if (!file)
		return;
	if (file->fd >= 0)
		close(file->fd);
	sodium_memzero(&file->hash, sizeof(file->hash));
	free(file->entries);
	free(file->path);
	free(file);
}

/* --- sections --- */

static int verify_section(struct snapshot_file *file, uint32_t index, const void *data)
{
	const struct snapshot_entry *entry = &file->entries[index];
	uint8_t sum[SNAPSHOT_DIGEST], tag[SNAPSHOT_TAG];
	char what[80];

	snapshot_checksum(data, entry->bytes, sum);
	if (memcmp(sum, entry->checksum, SNAPSHOT_DIGEST) != 0)
		return bad_section(file, index, -EBADMSG,
				   "it is damaged: its checksum does not match");
	if (!file->hash.keyed)
		return 0;
	snprintf(what, sizeof(what), "section %s", entry->name);
	snapshot_tag(&file->hash, SNAPSHOT_SECTION_PART, data, entry->bytes, tag, sizeof(tag));
	return check_tag(file, tag, entry->tag, what);
}

int snapshot_file_section(struct snapshot_file *file, uint32_t index, void **ret_data)
{
	const struct snapshot_entry *entry = &file->entries[index];
	char what[80];
	void *data;
	int err;

	data = malloc(entry->bytes ? entry->bytes : 1);
	if (!data)
		return bad_section(file, index, -ENOMEM, "no memory to read it");
	snprintf(what, sizeof(what), "section %s", entry->name);
	err = read_all(file, data, entry->bytes, entry->offset, what);
	if (!err)
		err = verify_section(file, index, data);
	if (err) {
		free(data);
		return err;
	}
	*ret_data = data;
	return 0;
}

/* --- padding --- */

/* What of the file was never written need not be read. WHENCE: SEEK_DATA or SEEK_HOLE. A file
 * system that cannot tell has data everywhere. */
static uint64_t seek_from(const struct snapshot_file *file, uint64_t from, int whence)
{
	off_t to = lseek(file->fd, (off_t)from, whence);

	if (to >= 0)
		return (uint64_t)to;
	return whence == SEEK_DATA && errno != ENXIO ? from : UINT64_MAX;
}

static int read_zeros(struct snapshot_file *file, uint64_t from, uint64_t to)
{
	uint8_t buf[16384];
	uint64_t bytes;
	int err;

	for (; from < to; from += bytes) {
		bytes = to - from < sizeof(buf) ? to - from : sizeof(buf);
		err = read_all(file, buf, bytes, from, "padding");
		if (err)
			return err;
		if (!snapshot_all_zero(buf, bytes))
			return snapshot_file_error(file, -EBADMSG,
						   "it has something where only zeros may be: "
						   "behind byte %" PRIu64,
						   from);
	}
	return 0;
}

int snapshot_file_zeros(struct snapshot_file *file, uint64_t from, uint64_t to)
{
	uint64_t end;
	int err = 0;

	/* To read a page takes no longer than to ask. */
	while (!err && from < to && to - from > SNAPSHOT_PAGE) {
		from = seek_from(file, from, SEEK_DATA);
		if (from >= to)
			return 0;
		end = seek_from(file, from, SEEK_HOLE);
		if (end <= from || end > to)
			end = to;
		err = read_zeros(file, from, end);
		from = end;
	}
	return err ? err : read_zeros(file, from, to);
}

int snapshot_file_padding(struct snapshot_file *file)
{
	uint64_t end = file->head.header_bytes;
	int err = 0;

	for (uint32_t i = 0; i < file->head.sections && !err; i++) {
		err = snapshot_file_zeros(file, end, file->entries[i].offset);
		end = file->entries[i].offset + file->entries[i].bytes;
	}
	return err ? err : snapshot_file_zeros(file, end, file->head.memory_offset);
}
