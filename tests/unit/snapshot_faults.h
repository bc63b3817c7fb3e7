/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults of the file system, and death, at a chosen moment of writing: the calls that the library
 * makes of the C library to write files are here. A symbol of the program comes before a shared
 * library's.
 */
#ifndef TESTS_UNIT_SNAPSHOT_FAULTS_H
#define TESTS_UNIT_SNAPSHOT_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum fault_kind {
	FAULT_NONE,
	FAULT_ERROR,	   /* the call fails with `error` */
	FAULT_SHORT,	   /* every write writes half of what it should, and some are interrupted */
	FAULT_KILL_BEFORE, /* SIGKILL instead of the call; of a write, in the middle of it */
	FAULT_KILL_AFTER,
};

static struct {
	_Atomic enum fault_kind kind;
	long at; /* how many calls come before the one that it meets */
	int error;
	atomic_long calls;    /* so far */
	int no_unnamed_files; /* as of a file system that has no O_TMPFILE */
} fault;

/* Calls from now on are counted, and number AT, from 0, meets with KIND. */
static inline void fault_arm(enum fault_kind kind, long at, int error)
{
	fault.at = at;
	fault.error = error;
	fault.calls = 0;
	fault.kind = kind;
}

static inline long fault_disarm(void)
{
	fault.kind = FAULT_NONE;
	return fault.calls;
}

/* Whether this call is the one. */
static int fault_meets(void)
{
	return atomic_fetch_add(&fault.calls, 1) == fault.at;
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	pause();
}

/* Does SYSTEM_CALL, unless the fault is to be something else. */
#define FAULTY(system_call)                                  \
	({                                                   \
		int met_ = fault_meets();                    \
		long result_;                                \
		if (met_ && fault.kind == FAULT_KILL_BEFORE) \
			die();                               \
		if (met_ && fault.kind == FAULT_ERROR) {     \
			errno = fault.error;                 \
			result_ = -1;                        \
		} else {                                     \
			result_ = (system_call);             \
		}                                            \
		if (met_ && fault.kind == FAULT_KILL_AFTER)  \
			die();                               \
		result_;                                     \
	})

#define VISIBLE __attribute__((visibility("default")))

VISIBLE ssize_t fault_pwrite(int fd, const void *buf, size_t bytes,
			     off_t offset) __asm__("pwrite64");
VISIBLE int fault_ftruncate(int fd, off_t bytes) __asm__("ftruncate64");
VISIBLE int fault_fsync(int fd) __asm__("fsync");
VISIBLE int fault_openat(int dirfd, const char *path, int flags, ...) __asm__("openat64");
VISIBLE int fault_linkat(int from_fd, const char *from, int to_fd, const char *to,
			 int flags) __asm__("linkat");
VISIBLE int fault_renameat(int from_fd, const char *from, int to_fd,
			   const char *to) __asm__("renameat");

ssize_t fault_pwrite(int fd, const void *buf, size_t bytes, off_t offset)
{
	int met;

	if (fault.kind == FAULT_SHORT) {
		if (atomic_fetch_add(&fault.calls, 1) % 5 == 4) {
			errno = EINTR;
			return -1;
		}
		return syscall(SYS_pwrite64, fd, buf, (bytes + 1) / 2, offset);
	}
	met = fault_meets();
	if (met && fault.kind == FAULT_KILL_BEFORE) {
		syscall(SYS_pwrite64, fd, buf, bytes / 2, offset);
		die();
	}
	if (met && fault.kind == FAULT_ERROR) {
		if (bytes > 1) /* as a disk that becomes full: a part of it still fits */
			syscall(SYS_pwrite64, fd, buf, bytes / 2, offset);
		errno = fault.error;
		return -1;
	}
	bytes = (size_t)syscall(SYS_pwrite64, fd, buf, bytes, offset);
	if (met && fault.kind == FAULT_KILL_AFTER)
		die();
	return (ssize_t)bytes;
}

int fault_ftruncate(int fd, off_t bytes)
{
	return (int)FAULTY(syscall(SYS_ftruncate, fd, bytes));
}

int fault_fsync(int fd)
{
	return (int)FAULTY(syscall(SYS_fsync, fd));
}

/* Only what makes a file is counted. */
int fault_openat(int dirfd, const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	if ((flags & O_TMPFILE) == O_TMPFILE && fault.no_unnamed_files) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if ((flags & O_TMPFILE) != O_TMPFILE && !(flags & O_CREAT))
		return (int)syscall(SYS_openat, dirfd, path, flags, mode);
	return (int)FAULTY(syscall(SYS_openat, dirfd, path, flags, mode));
}

int fault_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	return (int)FAULTY(syscall(SYS_linkat, from_fd, from, to_fd, to, flags));
}

int fault_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return (int)FAULTY(syscall(SYS_renameat, from_fd, from, to_fd, to));
}

#endif
