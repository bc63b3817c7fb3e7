/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot's file: whole before it has its name. It has none at all while it is written
 * (O_TMPFILE), so that a crash leaves no litter but in the moment between the two calls that name
 * it; where the file system has no such files it has a name of its own in the same folder.
 */
#include "snapshot_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "region.h"
#include "text.h"

struct section_data {
	const void *data;
	uint64_t bytes;
};

struct snapshot_writer {
	struct impost_context *ctx;
	char *path;	    /* for texts */
	char *name;	    /* behind the last slash of `path` */
	int folder;	    /* what `path` lies in */
	int fd;		    /* the new file */
	char temporary[40]; /* its name while it has not `name`; "": none */
	struct snapshot_hash hash;
	struct snapshot_header head;
	struct snapshot_entry *entries;
	struct section_data *sections;
};

static int writer_error(struct snapshot_writer *writer, int err, const char *fmt, ...)
	IMPOST_PRINTF(3, 4);

static int writer_error(struct snapshot_writer *writer, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	impost_error_vset(writer->ctx, err, fmt, ap);
	va_end(ap);
	return impost_error_set(writer->ctx, err, "%.200s: %s", writer->path,
				impost_error(writer->ctx));
}

/* --- the new file --- */

static int find_place(struct snapshot_writer *writer, const char *path)
{
	char *slash;

	writer->path = strdup(path);
	if (!writer->path)
		return impost_error_set(writer->ctx, -ENOMEM, "no memory for a snapshot");
	slash = strrchr(writer->path, '/');
	writer->name = slash ? slash + 1 : writer->path;
	if (!*writer->name)
		return writer_error(writer, -EISDIR, "a snapshot is a file, and this a folder");
	return 0;
}

static int open_folder(struct snapshot_writer *writer)
{
	size_t len = (size_t)(writer->name - writer->path);
	char *folder = len ? strndup(writer->path, len) : strdup(".");

	if (!folder)
		return writer_error(writer, -ENOMEM, "no memory");
	writer->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	if (writer->folder < 0)
		return writer_error(writer, -errno, "the folder it is to lie in: %m");
	return 0;
}

/* rename(2) would replace a link itself, and who follows it would write where it was not told to:
 * neither is done unasked. */
static int check_replaced(struct snapshot_writer *writer)
{
	struct stat status;

	if (fstatat(writer->folder, writer->name, &status, AT_SYMLINK_NOFOLLOW)) {
		if (errno == ENOENT)
			return 0;
		return writer_error(writer, -errno, "%m");
	}
	if (S_ISDIR(status.st_mode))
		return writer_error(writer, -EISDIR, "a snapshot is a file, and this a folder");
	if (S_ISLNK(status.st_mode))
		return writer_error(writer, -EEXIST,
				    "what is there is a symbolic link, and is not replaced: name "
				    "the file that it stands for, or remove it");
	if (!S_ISREG(status.st_mode))
		return writer_error(writer, -EEXIST,
				    "what is there is no regular file, and is "
				    "not replaced");
	return 0;
}

static int make_name(struct snapshot_writer *writer)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return writer_error(writer, -EIO, "no random number: %m");
	snprintf(writer->temporary, sizeof(writer->temporary), ".impost-%016" PRIx64 ".tmp",
		 number);
	return 0;
}

/* What open(2) says where a file system, or a kernel, has no O_TMPFILE. */
static bool is_unknown(int err)
{
	return err == EOPNOTSUPP || err == EISDIR || err == ENOENT || err == EINVAL;
}

static int open_file(struct snapshot_writer *writer)
{
	int err;

	/* Without /proc such a file could not be given a name: see name_file(). */
	if (access("/proc/self/fd", X_OK) == 0) {
		writer->fd = openat(writer->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (writer->fd >= 0)
			return 0;
		if (!is_unknown(errno))
			return writer_error(writer, -errno, "cannot be made: %m");
	}
	err = make_name(writer);
	if (err)
		return err;
	writer->fd = openat(writer->folder, writer->temporary,
			    O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (writer->fd >= 0)
		return 0;
	err = writer_error(writer, -errno, "cannot be made: %m");
	writer->temporary[0] = '\0';
	return err;
}

static int fill_head(struct snapshot_writer *writer)
{
	struct snapshot_header *head = &writer->head;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*head = (struct snapshot_header){
		.version = IMPOST_SNAPSHOT_VERSION,
		.compatible = 1,
		.head_bytes = sizeof(*head),
		.entry_bytes = sizeof(struct snapshot_entry),
		.flags = writer->hash.keyed ? HEADER_KEYED : 0,
		.created_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec,
	};
	memcpy(head->magic, SNAPSHOT_MAGIC, sizeof(head->magic));
	if (getrandom(head->id, sizeof(head->id), 0) != sizeof(head->id))
		return writer_error(writer, -EIO, "no random number: %m");
	return 0;
}

int snapshot_writer_open(struct impost_context *ctx, const char *path,
			 const struct impost_snapshot_key *key, struct snapshot_writer **ret_writer)
{
	struct snapshot_writer *writer = calloc(1, sizeof(*writer));
	int err;

	if (!writer)
		return impost_error_set(ctx, -ENOMEM, "no memory for a snapshot");
	writer->ctx = ctx;
	writer->folder = writer->fd = -1;
	err = snapshot_hash_init(&writer->hash, ctx, key);
	if (!err)
		err = find_place(writer, path);
	if (!err)
		err = open_folder(writer);
	if (!err)
		err = check_replaced(writer);
	if (!err)
		err = fill_head(writer);
	if (!err)
		err = open_file(writer);
	if (err) {
		snapshot_writer_free(writer);
		return err;
	}
	*ret_writer = writer;
	return 0;
}

void snapshot_writer_free(struct snapshot_writer *writer)
{
	if (!writer)
		return;
	if (writer->temporary[0])
		unlinkat(writer->folder, writer->temporary, 0);
	if (writer->fd >= 0)
		close(writer->fd);
	if (writer->folder >= 0)
		close(writer->folder);
	sodium_memzero(&writer->hash, sizeof(writer->hash));
	free(writer->entries);
	free(writer->sections);
	free(writer->path);
	free(writer);
}

const struct snapshot_hash *snapshot_writer_hash(const struct snapshot_writer *writer)
{
	return &writer->hash;
}

const struct snapshot_header *snapshot_writer_head(const struct snapshot_writer *writer)
{
	return &writer->head;
}

bool snapshot_writer_beside(const struct snapshot_writer *writer, const char *name,
			    const struct snapshot_file *file)
{
	struct stat status;

	return fstatat(writer->folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       snapshot_file_same(file, &status);
}

bool snapshot_writer_replaces(const struct snapshot_writer *writer,
			      const struct snapshot_file *file)
{
	return snapshot_writer_beside(writer, writer->name, file);
}

/* --- what is in it --- */

void snapshot_writer_base(struct snapshot_writer *writer, const struct snapshot_file *base)
{
	writer->head.flags |= HEADER_DIFF;
	memcpy(writer->head.base_id, base->head.id, sizeof(base->head.id));
	memcpy(writer->head.base_digest, base->head.checksum, SNAPSHOT_DIGEST);
}

static int grow(struct snapshot_writer *writer)
{
	uint32_t count = writer->head.sections + 1;
	struct section_data *sections;
	struct snapshot_entry *entries;

	if (count > SNAPSHOT_SECTIONS)
		return writer_error(writer, -E2BIG, "a snapshot has %u sections at most",
				    SNAPSHOT_SECTIONS);
	sections = reallocarray(writer->sections, count, sizeof(*sections));
	if (sections)
		writer->sections = sections;
	entries = reallocarray(writer->entries, count, sizeof(*entries));
	if (entries)
		writer->entries = entries;
	if (!sections || !entries)
		return writer_error(writer, -ENOMEM, "no memory for %u sections", count);
	return 0;
}

int snapshot_writer_add(struct snapshot_writer *writer, const char *name, uint32_t kind,
			const void *data, uint64_t bytes)
{
	struct snapshot_entry *entry;
	size_t len = strlen(name);
	int err;

	if (len == 0 || len >= sizeof(entry->name))
		return writer_error(writer, -EINVAL, "section %s: a name has 1 to %zu characters",
				    name, sizeof(entry->name) - 1);
	if (kind != IMPOST_SNAPSHOT_MEMORY && bytes > SNAPSHOT_SECTION_MOST)
		return writer_error(writer, -E2BIG,
				    "section %s has %" PRIu64 " bytes, and may have %" PRIu64, name,
				    bytes, SNAPSHOT_SECTION_MOST);
	err = grow(writer);
	if (err)
		return err;
	entry = &writer->entries[writer->head.sections];
	*entry = (struct snapshot_entry){.kind = kind, .bytes = bytes};
	memcpy(entry->name, name, len);
	writer->sections[writer->head.sections++] = (struct section_data){data, bytes};
	return 0;
}

void snapshot_writer_fill(struct snapshot_writer *writer, const char *name, const void *data)
{
	for (uint32_t i = 0; i < writer->head.sections; i++)
		if (strcmp(writer->entries[i].name, name) == 0)
			writer->sections[i].data = data;
}

static uint64_t align(uint64_t offset, uint64_t to)
{
	return (offset + to - 1) / to * to;
}

/* Making a file longer than the process may is a signal that kills: setrlimit(2). */
static int check_limit(struct snapshot_writer *writer)
{
	struct rlimit limit = {.rlim_cur = RLIM_INFINITY};

	getrlimit(RLIMIT_FSIZE, &limit);
	if (writer->head.file_bytes <= limit.rlim_cur && writer->head.file_bytes <= INT64_MAX)
		return 0;
	return writer_error(writer, -EFBIG,
			    "a snapshot of %" PRIu64 " bytes: this process may make files of "
			    "%" PRIu64 " at most (RLIMIT_FSIZE)",
			    writer->head.file_bytes, (uint64_t)limit.rlim_cur);
}

int snapshot_writer_begin_memory(struct snapshot_writer *writer, uint64_t bytes, int *ret_fd,
				 uint64_t *ret_offset)
{
	struct snapshot_header *head = &writer->head;
	uint64_t end;
	int err;

	head->header_bytes = sizeof(*head) + (uint64_t)head->sections * sizeof(*writer->entries);
	end = head->header_bytes;
	for (uint32_t i = 0; i < head->sections; i++) {
		writer->entries[i].offset = align(end, SNAPSHOT_ALIGN);
		end = writer->entries[i].offset + writer->entries[i].bytes;
	}
	/* So that what is mapped can be of huge pages. */
	head->memory_offset = align(end, bytes < HUGE_PAGE ? SNAPSHOT_PAGE : HUGE_PAGE);
	head->memory_bytes = bytes;
	head->file_bytes = head->memory_offset + bytes;
	err = check_limit(writer);
	if (err)
		return err;
	if (ftruncate(writer->fd, (off_t)head->file_bytes))
		return writer_error(writer, -errno, "a file of %" PRIu64 " bytes: %m",
				    head->file_bytes);
	*ret_fd = writer->fd;
	*ret_offset = head->memory_offset;
	return 0;
}

/* --- the end --- */

static int write_all(struct snapshot_writer *writer, const void *data, uint64_t bytes,
		     uint64_t offset)
{
	uint64_t done = 0;
	ssize_t len;

	while (done < bytes) {
		len = pwrite(writer->fd, (const uint8_t *)data + done, bytes - done,
			     (off_t)(offset + done));
		if (len < 0 && errno == EINTR)
			continue;
		if (len == 0)
			errno = EIO; /* write(2) has no other reason for nothing */
		if (len <= 0)
			return writer_error(writer, -errno, "cannot be written: %m");
		done += (uint64_t)len;
	}
	return 0;
}

static int write_sections(struct snapshot_writer *writer)
{
	int err = 0;

	for (uint32_t i = 0; i < writer->head.sections && !err; i++) {
		struct snapshot_entry *entry = &writer->entries[i];
		const struct section_data *section = &writer->sections[i];

		snapshot_checksum(section->data, section->bytes, entry->checksum);
		if (writer->hash.keyed)
			snapshot_tag(&writer->hash, SNAPSHOT_SECTION_PART, section->data,
				     section->bytes, entry->tag, sizeof(entry->tag));
		err = write_all(writer, section->data, section->bytes, entry->offset);
	}
	return err;
}

static int write_header(struct snapshot_writer *writer)
{
	struct snapshot_header *head = &writer->head;
	uint8_t *raw = malloc(head->header_bytes);
	int err;

	if (!raw)
		return writer_error(writer, -ENOMEM, "no memory for the header");
	memcpy(raw, head, sizeof(*head));
	memcpy(raw + sizeof(*head), writer->entries, head->header_bytes - sizeof(*head));
	if (writer->hash.keyed)
		snapshot_tag(&writer->hash, SNAPSHOT_HEADER_PART, raw, head->header_bytes,
			     head->tag, sizeof(head->tag));
	memcpy(raw + offsetof(struct snapshot_header, tag), head->tag, sizeof(head->tag));
	snapshot_checksum(raw, head->header_bytes, head->checksum);
	memcpy(raw + offsetof(struct snapshot_header, checksum), head->checksum,
	       sizeof(head->checksum));
	err = write_all(writer, raw, head->header_bytes, 0);
	free(raw);
	return err;
}

/* linkat(2) replaces nothing, so that the file has a name of its own before it has PATH's. */
static int name_file(struct snapshot_writer *writer)
{
	char link[32];
	int err;

	if (!writer->temporary[0]) {
		err = make_name(writer);
		if (err)
			return err;
		/* By number alone (AT_EMPTY_PATH) it would take a capability. */
		snprintf(link, sizeof(link), "/proc/self/fd/%d", writer->fd);
		if (linkat(AT_FDCWD, link, writer->folder, writer->temporary, AT_SYMLINK_FOLLOW)) {
			err = writer_error(writer, -errno, "cannot be given a name: %m");
			writer->temporary[0] = '\0';
			return err;
		}
	}
	if (renameat(writer->folder, writer->temporary, writer->folder, writer->name))
		return writer_error(writer, -errno, "cannot take the place of what is there: %m");
	writer->temporary[0] = '\0';
	return 0;
}

int snapshot_writer_finish(struct snapshot_writer *writer, bool sync)
{
	int err = write_sections(writer);

	if (!err)
		err = write_header(writer);
	if (!err && sync && fsync(writer->fd))
		err = writer_error(writer, -errno, "cannot be brought to the disk: %m");
	if (!err)
		err = check_replaced(writer);
	if (!err)
		err = name_file(writer);
	if (err)
		return err;
	if (sync && fsync(writer->folder))
		return writer_error(writer, -errno,
				    "the snapshot is there, but its name is not on the disk for "
				    "certain: the folder: %m");
	return 0;
}
