/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a word to change (futex(2)): what a signal handler may end, as a condition may not.
 */
#ifndef CORE_FUTEX_H
#define CORE_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Waits while *WORD is VALUE, for TIMEOUT at the most (relative; NULL: without limit). -EINTR: a
 * signal came. Anything else may be for no reason: look again.
 */
static inline int futex_wait(atomic_uint *word, unsigned value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout) ? -errno : 0;
}

/* Changes *WORD and wakes all that wait for it. Async-signal-safe. */
static inline void futex_advance(atomic_uint *word)
{
	int saved = errno;

	atomic_fetch_add(word, 1);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX);
	errno = saved;
}

#endif
