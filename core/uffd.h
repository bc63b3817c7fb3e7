/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd(2): a thread of ours is told when somebody touches a page that is not there, or
 * writes one that is protected, and the one who did waits until the page is right. Calls return 0
 * or -errno, with no text.
 *
 * Rules: userfaultfd(2), ioctl_userfaultfd(2); Documentation/admin-guide/mm/userfaultfd.rst.
 */
#ifndef CORE_UFFD_H
#define CORE_UFFD_H

#include <linux/userfaultfd.h>
#include <stdint.h>

/* Since Linux 6.4; <linux/userfaultfd.h> is older in places. */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

/*
 * Opens one that hears of the kernel's own accesses too, which the hypervisor's are, and does not
 * block. FEATURES: UFFD_FEATURE_*, all of which the kernel must have: else -EINVAL. -EPERM: this
 * process may not; -ENOSYS: the kernel has none. Returns the descriptor.
 */
int uffd_open(uint64_t features);

/* MODE: UFFDIO_REGISTER_MODE_*. -EINVAL: not for this kind of memory. */
int uffd_register(int fd, const void *at, uint64_t bytes, uint64_t mode);
int uffd_unregister(int fd, const void *at, uint64_t bytes);

/* Protects pages against writing, or not any more, which wakes who waits. */
int uffd_protect(int fd, const void *at, uint64_t bytes, int on);

/* Fills missing pages, from SRC or with zeros, and wakes who waits. Pages that are there already
 * are passed over: those of a memfd may be another's work. PAGE: bytes of each; those that are
 * filled with zeros have 4096. */
int uffd_copy(int fd, void *at, const void *src, uint64_t bytes, uint64_t page);
int uffd_zero(int fd, void *at, uint64_t bytes);

/* Wakes who waits, to look again. */
int uffd_wake(int fd, const void *at, uint64_t bytes);

/*
 * Waits for faults, and for STOP, an eventfd(2), at most TIMEOUT_MS (-1: for ever). Gives the
 * addresses of at most CAPACITY faults in AT, and returns their number; 0: there are none now.
 * -ECANCELED: STOP was written to.
 */
int uffd_wait(int fd, int stop, int timeout_ms, uint64_t *at, unsigned capacity);

#endif
