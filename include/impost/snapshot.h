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
#include <impost/dirty.h>
#include <impost/error.h>
#include <impost/state.h>
#include <impost/vm.h>

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
	/* Bytes of guest memory: all; that are in the file; that are zero, and take nothing. In a
	 * diff the rest is the base's. 0 if only the header was read. */
	uint64_t guest_bytes, data_bytes, zero_bytes;
	uint8_t id[16];	     /* random */
	uint8_t digest[16];  /* of the header, and with it of all else: what a diff has of it */
	uint8_t base_id[16]; /* of a diff's base; zero */
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

/*
 * Told how far a call has come: DONE bytes of guest memory of TOTAL. Some hundred times at the
 * most, by the thread that made the call. Not 0: the call ends, with -ECANCELED, and leaves what a
 * failed one does. It must not call back into the library but for what any thread may.
 */
typedef int (*impost_snapshot_progress_fn)(void *opaque, uint64_t done, uint64_t total);

/* impost_snapshot_save() and flatten: flags. */

/* vCPUs run on as soon as their state is taken and memory is protected against changes: what the
 * guest wants to write is copied first. Where that cannot be had (the text in the log says why)
 * they stand until memory is written, as without this flag. */
#define IMPOST_SNAPSHOT_BACKGROUND 1u
/* What is written may be lost if the host's kernel, or its power, fails: nothing is waited for
 * (fsync(2)). The file still takes its name only when it is whole. */
#define IMPOST_SNAPSHOT_NO_SYNC 2u

struct impost_snapshot_save_options {
	uint32_t size;	  /* set by the caller to its sizeof */
	uint32_t flags;	  /* IMPOST_SNAPSHOT_BACKGROUND, _NO_SYNC */
	uint32_t threads; /* that read and write memory; 0: chosen */
	uint32_t hold_ms; /* how long impost_vm_hold() may take; 0: 10 seconds */
	/* For a diff: the path of the snapshot that it is to, or of a symbolic link to that, which
	 * is resolved; NULL: full. */
	const char *base;
	/*
	 * A reader of the VM's memory. For a diff: what it has to tell is what is written since
	 * BASE was saved, or restored; it must have been made before the VM ran on, or been given
	 * to the save of BASE. It is emptied, so that the next diff can be to this one. Full: NULL,
	 * or the reader for the first diff to this snapshot, emptied likewise.
	 */
	struct impost_dirty *since;
	const struct impost_snapshot_key *key; /* NULL: no tags. A diff has the key of its base */
	impost_snapshot_progress_fn progress;  /* NULL: none */
	void *opaque;
};

/* What was saved. */
struct impost_snapshot_saved {
	uint32_t size;	  /* set by the caller to its sizeof */
	uint32_t flags;	  /* IMPOST_SNAPSHOT_BACKGROUND: the VM ran on while memory was written */
	uint64_t held_ns; /* how long the VM was held; 0: the host held it */
	uint64_t file_bytes;
	uint64_t data_bytes, zero_bytes; /* of guest memory: written, and found to be zero */
	uint8_t id[16];
	uint8_t digest[16];
};

/* How memory comes back. */

/* MAP; of a snapshot with tags, COPY. */
#define IMPOST_SNAPSHOT_DEFAULT 0u
/*
 * Private mappings of the files: what is written makes a copy of its page, and what is not touched
 * is not read. It takes no time, whatever the size. The files must not be changed while the VM
 * lives; that they are replaced, as impost_snapshot_save() does, is no change. Checksums of
 * memory are not looked at (impost_snapshot_verify()); with tags all is verified first, which takes
 * as long as reading it. The kernel cannot write-protect such memory (userfaultfd(2)) unless the
 * files are on a tmpfs: later, IMPOST_SNAPSHOT_BACKGROUND holds the VM until all is written.
 */
#define IMPOST_SNAPSHOT_MAP 1u
/* Memory as `[memory]` of the configuration has it, read and verified before the call returns. */
#define IMPOST_SNAPSHOT_COPY 2u
/* Likewise, but read and verified when it is touched, and by and by (userfaultfd(2)). */
#define IMPOST_SNAPSHOT_LAZY 3u

/* impost_snapshot_restore(): flags. LAZY: only what is touched is read. */
#define IMPOST_SNAPSHOT_NO_PREFETCH 1u

struct impost_snapshot_restore_options {
	uint32_t size;	  /* set by the caller to its sizeof */
	uint32_t memory;  /* IMPOST_SNAPSHOT_DEFAULT, _MAP, _COPY, _LAZY */
	uint32_t flags;	  /* IMPOST_SNAPSHOT_NO_PREFETCH */
	uint32_t threads; /* that read memory; 0: chosen */
	/* For what a snapshot says nothing about, such as the kick signal; NULL: as
	 * impost_vm_config_init() fills it. */
	const struct impost_vm_config *config;
	const char *backend; /* NULL: CONFIG's */
	impost_snapshot_progress_fn progress;
	void *opaque;
};

/* A region of guest memory in a snapshot. */
struct impost_snapshot_region {
	uint32_t size;	/* set by the caller to its sizeof */
	uint32_t flags; /* IMPOST_REGION_READONLY or 0 */
	uint64_t gpa, bytes;
};

/* `kind` of an extent. */
#define IMPOST_SNAPSHOT_DATA   1u /* its content is in the file */
#define IMPOST_SNAPSHOT_ZERO   2u
#define IMPOST_SNAPSHOT_ABSENT 3u /* of a diff: as in its base */

struct impost_snapshot_extent {
	uint32_t size; /* set by the caller to its sizeof */
	uint32_t kind; /* IMPOST_SNAPSHOT_DATA and so on */
	uint64_t gpa, bytes;
};

#ifdef __cplusplus
extern "C" {
#endif

/* --- saving --- */

/*
 * Saves VM to the file PATH; what has that name is replaced when the new one is whole, and is as it
 * was if the call fails. A VM that is not held (impost_vm_hold()) is, for as long as it takes, and
 * runs on afterwards whether or not the call failed; one that is held already stays so. OPTIONS
 * NULL: a full snapshot, without any of them. RET_SAVED may be NULL. Not for a thread that has an
 * exit in hand, as for impost_vm_hold().
 *
 * -EINVAL: unknown flags; a BASE without SINCE, that is not in the folder that PATH is in, or that
 * is what PATH would replace; regions of memory that are not those of BASE; -ESTALE: SINCE goes
 * from another snapshot than BASE; -E2BIG: more than 64 MiB in a section of the state; -ELOOP: the
 * chain would be too long: flatten it; -EISDIR,
 * -EEXIST: PATH is a folder, or no regular file, which a symbolic link is not; -EFBIG: a limit of
 * the process (RLIMIT_FSIZE) or the file system; -EFAULT: regions of memory were added or removed
 * meanwhile; -ENOSPC, -EIO and others: what the kernel says of the file; -ECANCELED; -ENOMEM; what
 * impost_vm_hold() and impost_state_take() say; and of BASE what impost_snapshot_open() says. After
 * -EIO whose text says that only the folder could not be synchronised, the new file is there.
 */
IMPOST_API int impost_snapshot_save(struct impost_vm *vm, const char *path,
				    const struct impost_snapshot_save_options *options,
				    struct impost_snapshot_saved *ret_saved);

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
 * match, or something is between sections or regions, where all must be zero: it is damaged;
 * -ENOKEY: it has tags, and there is no key; -EKEYREJECTED: a key is given, and the tag is
 * another's, or there is none; -ENOENT: PATH, or a base, is not there; -ESTALE: the base is not the
 * one that the diff was made from; or a file changed while it was being read; -ELOOP: a chain that
 * comes back to itself, or of more than 64 files; -EINVAL: unknown flags, no regular file; -ENOMEM;
 * or what open(2) and read(2) say.
 */
IMPOST_API int impost_snapshot_open(struct impost_context *ctx, const char *path,
				    const struct impost_snapshot_open_options *options,
				    struct impost_snapshot **ret_snapshot);

/* Closes it. NULL is fine. VMs that were restored from it live on. */
IMPOST_API void impost_snapshot_close(struct impost_snapshot *snapshot);

/* What it is. -EINVAL: a bad size. */
IMPOST_API int impost_snapshot_info(struct impost_snapshot *snapshot,
				    struct impost_snapshot_info *ret_info);

/* Section number INDEX, from 0, in the file's order. -ENOENT: no more. */
IMPOST_API int impost_snapshot_section(struct impost_snapshot *snapshot, uint32_t index,
				       struct impost_snapshot_section *ret_section);

/* The state in it. It is the snapshot's, and ends with it. NULL: only the header was read. */
IMPOST_API const struct impost_state *impost_snapshot_state(const struct impost_snapshot *snapshot);

/* Region number INDEX of guest memory, in order of address; -ENOENT: no more. The extent at *GPA
 * or, if no memory is there, the next one, which ends with its region; *GPA becomes its end. Of
 * this file alone: a diff's bases are not looked at. Begin with *GPA 0; -ENOENT: no more. */
IMPOST_API int impost_snapshot_region(struct impost_snapshot *snapshot, uint32_t index,
				      struct impost_snapshot_region *ret_region);
IMPOST_API int impost_snapshot_extent(struct impost_snapshot *snapshot, uint64_t *gpa,
				      struct impost_snapshot_extent *ret_extent);

/*
 * Reads BYTES of guest memory at GPA, in bases too where they have it; what is read is verified.
 * -EFAULT: not all of it is memory; -EBADMSG: a checksum, or a tag, does not match; -ESTALE: the
 * file was changed; -EINVAL: bases were not opened; or what read(2) says.
 */
IMPOST_API int impost_snapshot_read(struct impost_snapshot *snapshot, uint64_t gpa, void *buf,
				    uint64_t bytes);

/* Verifies the checksums, or tags, of all memory in the file and its bases, and that what is said
 * to be zero is not something else in the file (-EBADMSG too). THREADS 0: chosen;
 * PROGRESS may be NULL. Errors as impost_snapshot_read() has them; -ECANCELED. */
IMPOST_API int impost_snapshot_verify(struct impost_snapshot *snapshot, uint32_t threads,
				      impost_snapshot_progress_fn progress, void *opaque);

/* --- restoring --- */

/*
 * Pre-flight: whether it can be restored on backend BACKEND (NULL: the first that can run here) of
 * this host. As impost_state_check(), which says what is told to MISMATCH: returns the number of
 * what is in the way, or a negative error. -EINVAL: only the header was read.
 */
IMPOST_API int impost_snapshot_check(struct impost_snapshot *snapshot, const char *backend,
				     impost_state_mismatch_fn mismatch, void *opaque);

/*
 * Makes the VM that was saved: checks it as impost_snapshot_check() does, and then makes VM, memory
 * and vCPUs (impost_vm_vcpu()). Then the host registers its devices (device.h) and calls
 * impost_snapshot_load(), which sets the state of all; then vCPUs may run. OPTIONS NULL: all
 * defaults. The snapshot may be closed as soon as the state is loaded, also with LAZY.
 *
 * -ENOTSUP: something is in the way on this host, all of which the text names; or the backend
 * cannot have its memory this way; -ESTALE: a file was changed; -EINVAL: unknown flags, or only the
 * header was read, or no bases; -EBADMSG: memory is damaged; or what impost_vm_create(),
 * impost_memory_add() and impost_vcpu_create() say. On failure nothing is left.
 */
IMPOST_API int impost_snapshot_restore(struct impost_snapshot *snapshot,
				       const struct impost_snapshot_restore_options *options,
				       struct impost_vm **ret_vm);

/* Loads the state into VM, which impost_snapshot_restore() made, or which has the same regions and
 * vCPUs. Errors as impost_state_load() has them; -EINVAL: only the header was read. */
IMPOST_API int impost_snapshot_load(struct impost_snapshot *snapshot, struct impost_vm *vm);

/* --- chains --- */

/*
 * Writes a full snapshot of what a diff and its bases have to PATH, which may be any of these. Of
 * OPTIONS, which may be NULL, _NO_SYNC, threads, key (of the new file), progress and opaque are
 * looked at; the others must be 0. All of memory is verified on the way. Errors as
 * impost_snapshot_save() and impost_snapshot_read() have them.
 */
IMPOST_API int impost_snapshot_flatten(struct impost_snapshot *snapshot, const char *path,
				       const struct impost_snapshot_save_options *options,
				       struct impost_snapshot_saved *ret_saved);

#ifdef __cplusplus
}
#endif

#endif
