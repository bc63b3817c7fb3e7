/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a snapshot: its layout, how it is read and verified, and how it is written so that a
 * crash leaves the old one or the new one. docs/snapshot-format.md says it for strangers.
 */
#ifndef CORE_SNAPSHOT_FILE_H
#define CORE_SNAPSHOT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <impost/snapshot.h>

#define SNAPSHOT_MAGIC	   "IMPOST\r\n"
#define SNAPSHOT_TAG	   32u
#define SNAPSHOT_DIGEST	   16u
#define SNAPSHOT_ALIGN	   8u	 /* of sections */
#define SNAPSHOT_PAGE	   4096u /* of the memory area; HUGE_PAGE where it is that long */
#define SNAPSHOT_SECTIONS  16384u
#define SNAPSHOT_BASE_NAME 255u
/* A file can be much longer than what it takes of the disk, and what is read takes memory: so no
 * section is longer than this; but the table of memory, which has less than a byte for each page,
 * may be by that much. */
#define SNAPSHOT_SECTION_MOST (UINT64_C(64) << 20)

/* `flags` of the header. */
#define HEADER_KEYED 1u
#define HEADER_DIFF  2u

/* `flags` of a section: who does not know its kind may pass it over. */
#define SECTION_OPTIONAL 1u

/* Little-endian, as the only hosts are. Readers take longer ones of newer formats. */
struct snapshot_header {
	char magic[8];
	uint32_t version, compatible;
	uint32_t head_bytes;  /* of this struct */
	uint32_t entry_bytes; /* of a row of the section table, which follows it */
	uint32_t sections;
	uint32_t flags;
	uint64_t header_bytes; /* of this struct and the section table */
	uint64_t file_bytes;
	uint64_t memory_offset, memory_bytes; /* the memory area, up to the file's end */
	uint64_t created_ns;
	uint8_t id[16];
	uint8_t base_id[16];
	uint8_t base_digest[SNAPSHOT_DIGEST];
	uint8_t reserved[88];
	uint8_t tag[SNAPSHOT_TAG];	   /* of the header with this and `checksum` zero */
	uint8_t checksum[SNAPSHOT_DIGEST]; /* of the header with this zero: the file's digest */
};
_Static_assert(sizeof(struct snapshot_header) == 256, "on disk");
_Static_assert(offsetof(struct snapshot_header, tag) == 208, "on disk");

struct snapshot_entry {
	char name[64]; /* printable ASCII; the rest is zero, the last byte always */
	uint32_t kind; /* IMPOST_SNAPSHOT_STATE and so on */
	uint32_t flags;
	uint64_t offset, bytes;
	uint64_t reserved;
	uint8_t checksum[SNAPSHOT_DIGEST];
	uint8_t tag[SNAPSHOT_TAG];
};
_Static_assert(sizeof(struct snapshot_entry) == 144, "on disk");

/* --- snapshot_key.c --- */

/* How what is in a file is checked: with a key or without. */
struct snapshot_hash {
	bool keyed;
	uint8_t key[32];
};

/* What a tag is of: the same bytes elsewhere have another. */
enum snapshot_part { SNAPSHOT_HEADER_PART, SNAPSHOT_SECTION_PART };

/* -EIO, with a text: libsodium does not work. To be called before the others. */
int snapshot_hash_init(struct snapshot_hash *hash, struct impost_context *ctx,
		       const struct impost_snapshot_key *key);

/* XXH3 of 128 bits, in its canonical form. */
void snapshot_checksum(const void *data, size_t bytes, uint8_t ret[SNAPSHOT_DIGEST]);

/* BLAKE2b with the key, of LEN bytes. */
void snapshot_tag(const struct snapshot_hash *hash, enum snapshot_part part, const void *data,
		  size_t bytes, uint8_t *ret, size_t len);

/* --- snapshot_file.c: reading --- */

/* What tells that a file is not what it was. */
struct snapshot_identity {
	uint64_t dev, ino, bytes;
	struct timespec modified, changed;
};

/* A file that is open, whose header was verified. */
struct snapshot_file {
	struct impost_context *ctx;
	int fd;
	char *path;
	struct snapshot_identity identity;
	uint64_t disk_bytes;
	struct snapshot_hash hash; /* keyed: the file's tags were verified */
	struct snapshot_header head;
	struct snapshot_entry *entries;
};

/*
 * Opens PATH and verifies its header. LOOK: a file with tags is taken without a key, and they are
 * not verified then. Errors as impost_snapshot_open() has them.
 */
int snapshot_file_open(struct impost_context *ctx, const char *path,
		       const struct impost_snapshot_key *key, bool look,
		       struct snapshot_file **ret_file);
void snapshot_file_close(struct snapshot_file *file);

/*
 * Reads section number INDEX into memory of its own, which the caller frees, and verifies it. Never
 * NULL, also of a section of no bytes. -EBADMSG, -EKEYREJECTED, -ENODATA, -ENOMEM.
 */
int snapshot_file_section(struct snapshot_file *file, uint32_t index, void **ret_data);

/*
 * Whether the file's bytes from FROM up to TO are zero, which no checksum says: holes are not read.
 * snapshot_file_padding: those before, between and behind the sections. -EBADMSG, with a text: some
 * are not; -ENODATA; or what read(2) says.
 */
int snapshot_file_zeros(struct snapshot_file *file, uint64_t from, uint64_t to);
int snapshot_file_padding(struct snapshot_file *file);

/* -ESTALE, with a text: the file is not what it was when it was opened. */
int snapshot_file_unchanged(struct snapshot_file *file);

/* Whether BYTES at DATA are all zero. */
bool snapshot_all_zero(const void *data, size_t bytes);

/* The same file, by two names or by one. */
bool snapshot_file_same(const struct snapshot_file *file, const struct stat *status);

/* The text "PATH: FMT", and ERR. */
int snapshot_file_error(struct snapshot_file *file, int err, const char *fmt, ...)
	IMPOST_PRINTF(3, 4);

#ifdef __clang_analyzer__
/* As with impost_error_set(). */
#define snapshot_file_error(file, err, ...) (snapshot_file_error(file, err, __VA_ARGS__), (err))
#endif

/* --- snapshot_write.c: writing --- */

struct snapshot_writer;

/*
 * A new file that is to take the name PATH, which may be there already. Nothing of that name
 * changes before snapshot_writer_finish(). KEY NULL: without tags. -EISDIR, -EEXIST: PATH is a
 * folder, or anything else but a file, such as a symbolic link; or what open(2) says of the folder.
 */
int snapshot_writer_open(struct impost_context *ctx, const char *path,
			 const struct impost_snapshot_key *key,
			 struct snapshot_writer **ret_writer);

/* Ends it. Without finish there is nothing left. NULL is fine. */
void snapshot_writer_free(struct snapshot_writer *writer);

/* It is a diff to BASE. */
void snapshot_writer_base(struct snapshot_writer *writer, const struct snapshot_file *base);

/* Adds a section, whose bytes are the caller's until the end and may be filled in until finish.
 * -EINVAL: a name that cannot be; -E2BIG: too many sections, or one that is too long; -ENOMEM. */
int snapshot_writer_add(struct snapshot_writer *writer, const char *name, uint32_t kind,
			const void *data, uint64_t bytes);

/* What section NAME, which was added with no data, is made of: as many bytes as were announced. */
void snapshot_writer_fill(struct snapshot_writer *writer, const char *name, const void *data);

/*
 * All sections are there: the file gets its whole length, with a memory area of BYTES at
 * *ret_offset, which is a hole. -EFBIG: a limit of the process, or of the file system; -ENOSPC.
 */
int snapshot_writer_begin_memory(struct snapshot_writer *writer, uint64_t bytes, int *ret_fd,
				 uint64_t *ret_offset);

/* Writes sections and header, and gives the file its name. SYNC: what is written is on the disk
 * before. On failure what was there is as it was. */
int snapshot_writer_finish(struct snapshot_writer *writer, bool sync);

/* The header, which is whole after finish. */
const struct snapshot_header *snapshot_writer_head(const struct snapshot_writer *writer);

/* Whether NAME, in the folder that the file will be in, is FILE, and no link to it. */
bool snapshot_writer_beside(const struct snapshot_writer *writer, const char *name,
			    const struct snapshot_file *file);

/* The hash by which memory's pieces are to be digested. */
const struct snapshot_hash *snapshot_writer_hash(const struct snapshot_writer *writer);

/* Whether the file at PATH, which is to be replaced, is FILE. */
bool snapshot_writer_replaces(const struct snapshot_writer *writer,
			      const struct snapshot_file *file);

#endif
