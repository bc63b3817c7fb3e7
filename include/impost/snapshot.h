/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: a VM in one file, and a VM from one. docs/snapshot-format.md has the file's layout.
 *
 * A full snapshot has the VM's state (state.h) and all of its memory; a diff has the state and the
 * pages that were written since another snapshot, its base, which it names by its digest and which
 * must lie in the same folder. Files are never changed: a snapshot that takes another's place is
 * written beside it and takes its name when it is whole, so that a crash at any instant leaves
 * the old one or the new one.
 *
 * A file is a stranger's until it has been checked. Checksums, and with a key the authentication
 * tag, of everything but memory are verified in impost_snapshot_open(), before a byte of it is
 * decoded, and what is allocated is bounded by the file's length. Checksums (XXH3, 128 bits) find
 * accidents; only a key (BLAKE2b, 256 bits) finds malice. It says nothing about secrecy: whoever
 * can read the file can read the guest's memory, so files are made for their owner alone (0600).
 *
 * Any thread may make these calls, several at once, but one at a time on the same snapshot. Texts
 * of errors are on the context.
 */
#ifndef IMPOST_SNAPSHOT_H
#define IMPOST_SNAPSHOT_H

#include <stdint.h>

#include <impost/context.h>
#include <impost/error.h>

struct impost_snapshot;

/* The newest version of the format that this library writes, and reads. It reads all since 1. */
#define IMPOST_SNAPSHOT_VERSION 1u

/* A key, made from a secret of any length: BLAKE2b-256 of its bytes. */
struct impost_snapshot_key {
	uint32_t size; /* set by the caller to sizeof(struct impost_snapshot_key) */
	uint32_t reserved;
	uint8_t bytes[32];
};

/* impost_snapshot_open(): flags. */

/* The header alone, for a look: no section is read, no base is opened, and without a key no tag is
 * verified. Only impost_snapshot_info() and impost_snapshot_section() are of use then. */
#define IMPOST_SNAPSHOT_HEADER 1u
/* Bases are not opened: of a diff the state can be read, its memory cannot. */
#define IMPOST_SNAPSHOT_ALONE 2u

struct impost_snapshot_open_options {
	uint32_t size;			       /* set by the caller to its sizeof */
	uint32_t flags;			       /* IMPOST_SNAPSHOT_HEADER, _ALONE */
	const struct impost_snapshot_key *key; /* NULL: none; of the bases too */
	const char *base_dir; /* where bases are looked for; NULL: in the folder of each diff */
};

/* `flags` of impost_snapshot_info. */
#define IMPOST_SNAPSHOT_IS_KEYED    1u /* it has authentication tags */
#define IMPOST_SNAPSHOT_IS_DIFF	    2u /* it needs its base */
#define IMPOST_SNAPSHOT_IS_VERIFIED 4u /* its tags were verified: it was opened with the key */

/* What a snapshot is. Strings are the snapshot's. */
struct impost_snapshot_info {
	uint32_t size;	     /* set by the caller to sizeof(struct impost_snapshot_info) */
	uint32_t version;    /* of the format, as it was written */
	uint32_t compatible; /* the oldest version of the format whose readers can read it */
	uint32_t flags;	     /* IMPOST_SNAPSHOT_IS_* */
	uint32_t sections;   /* for impost_snapshot_section() */
	uint32_t chain;	     /* files that were opened: 1, and its bases */
	uint64_t created_ns; /* nanoseconds since 1970 UTC, by the clock of the host that saved */
	uint64_t file_bytes; /* its length */
	uint64_t disk_bytes; /* what it takes of the disk: holes take nothing */
	uint64_t header_bytes;
	uint64_t state_bytes;  /* sum of the sections with state */
	uint64_t memory_bytes; /* of the memory area; with holes */
	uint8_t id[16];	       /* random */
	uint8_t digest[16];    /* of the header, and with it of all else: what a diff has of it */
	uint8_t base_id[16];   /* of a diff's base; zero */
	uint8_t base_digest[16];
	const char *path;
	const char *base; /* the base's file name; NULL: it is full, or only the header was read */
};

/* `kind` of a section. */
#define IMPOST_SNAPSHOT_STATE  1u /* a section of state.h: CBOR */
#define IMPOST_SNAPSHOT_MEMORY 2u /* the table of memory, "memory" */
#define IMPOST_SNAPSHOT_BASE   3u /* the base's file name, "base" */

struct impost_snapshot_section {
	uint32_t size;		/* set by the caller to sizeof(struct impost_snapshot_section) */
	uint32_t kind;		/* IMPOST_SNAPSHOT_STATE and so on; or one of a newer library */
	uint64_t offset, bytes; /* in the file */
	const char *name;	/* the snapshot's */
};

#ifdef __cplusplus
extern "C" {
#endif

/* --- keys --- */

/* A key from a secret of BYTES, 16 at least. Overwrite it when it is no longer needed. -EINVAL: a
 * secret that is too short. */
IMPOST_API int impost_snapshot_key_make(struct impost_context *ctx, const void *secret,
					uint64_t bytes, struct impost_snapshot_key *ret_key);

/*
 * The key whose secret is all that is in the file at PATH: 16 bytes to 64 KiB; `head -c 32
 * /dev/urandom` makes a good one. -EINVAL: too short, too long, or no regular file; -EPERM: others
 * than the owner may read or write it; or what open(2) and read(2) say.
 */
IMPOST_API int impost_snapshot_key_read(struct impost_context *ctx, const char *path,
					struct impost_snapshot_key *ret_key);

/* --- reading --- */

/*
 * Opens the snapshot at PATH, checks it and, of a diff, its bases, down to a full one. OPTIONS
 * NULL: no flags, no key. Whatever is wrong is refused here, by name, before anything is made of
 * it. CTX must outlive it. Free with impost_snapshot_close().
 *
 * -IMPOST_EFORMAT: it is no snapshot, or one that is malformed; -EPROTONOSUPPORT: one of a newer
 * format, that this library cannot read; -ENODATA: it is truncated; -EBADMSG: a checksum does not
 * match: it is damaged; -ENOKEY: it has tags, and there is no key; -EKEYREJECTED: a key is given,
 * and the tag is another's, or there is none; -ENOENT: PATH, or a base, is not there; -ESTALE:
 * the base is not the one that the diff was made from; or a file changed while it was being
 * read; -ELOOP: a chain that comes back to itself, or of more than 64 files; -EINVAL: unknown
 * flags, no regular file; -ENOMEM; or what open(2) and read(2) say.
 */
IMPOST_API int impost_snapshot_open(struct impost_context *ctx, const char *path,
				    const struct impost_snapshot_open_options *options,
				    struct impost_snapshot **ret_snapshot);

/* Closes it. NULL is fine. -EBUSY: a VM that was restored lazily still has memory to come. */
IMPOST_API int impost_snapshot_close(struct impost_snapshot *snapshot);

/* What it is. -EINVAL: a bad size. */
IMPOST_API int impost_snapshot_info(struct impost_snapshot *snapshot,
				    struct impost_snapshot_info *ret_info);

/* Section number INDEX, from 0, in the file's order. -ENOENT: no more. */
IMPOST_API int impost_snapshot_section(struct impost_snapshot *snapshot, uint32_t index,
				       struct impost_snapshot_section *ret_section);

#ifdef __cplusplus
}
#endif

#endif
