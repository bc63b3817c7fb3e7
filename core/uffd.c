/* SPDX-License-Identifier: Apache-2.0 */
/* userfaultfd(2). */
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Since Linux 6.1, of /dev/userfaultfd, which an administrator can give to whom he will. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xaa, 0x00)
#endif

#define MOST_FAULTS 64u

/* The device first: what its mode allows is meant; the system call asks for CAP_SYS_PTRACE, or for
 * vm.unprivileged_userfaultfd. */
static int open_any(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(device);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int uffd_open(uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = open_any(), err;

	if (fd < 0 || !ioctl(fd, UFFDIO_API, &api))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int uffd_register(int fd, const void *at, uint64_t bytes, uint64_t mode)
{
	struct uffdio_register range = {.range = {(uintptr_t)at, bytes}, .mode = mode};

	return ioctl(fd, UFFDIO_REGISTER, &range) ? -errno : 0;
}

int uffd_unregister(int fd, const void *at, uint64_t bytes)
{
	struct uffdio_range range = {(uintptr_t)at, bytes};

	return ioctl(fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

int uffd_protect(int fd, const void *at, uint64_t bytes, int on)
{
	struct uffdio_writeprotect range = {.range = {(uintptr_t)at, bytes},
					    .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};

	/* -EAGAIN: another thread is changing this process's mappings just now. */
	while (ioctl(fd, UFFDIO_WRITEPROTECT, &range))
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	return 0;
}

/* A range of pages of PAGE bytes that is being filled. */
struct filling {
	uint64_t at, left, page;
	uint64_t most; /* of one call */
};

/* How far a call has come that returned RESULT, with DONE in its struct. Returns 0, or -errno if it
 * cannot go on. One call's pages must lie in one mapping, as the kernel sees it, and advice to it
 * (madvise(2)) cuts mappings: less is tried then. */
static int went(struct filling *filling, int result, int64_t done)
{
	const uint64_t len = filling->left < filling->most ? filling->left : filling->most;
	uint64_t gone = 0;

	if (!result)
		gone = len;
	else if (done > 0)
		gone = (uint64_t)done;
	else if (errno == EEXIST)
		gone = filling->page; /* filled in meanwhile */
	else if (errno == ENOENT && len > filling->page)
		filling->most = (len / 2 + filling->page - 1) / filling->page * filling->page;
	else if (errno != EAGAIN && errno != EINTR)
		return -errno;
	if (!result)
		filling->most = UINT64_MAX;
	filling->at += gone;
	filling->left -= gone;
	return 0;
}

int uffd_copy(int fd, void *to, const void *src, uint64_t bytes, uint64_t page)
{
	struct filling filling = {.left = bytes, .page = page, .most = UINT64_MAX};
	int err = 0;

	while (!err && filling.left > 0) {
		struct uffdio_copy copy = {
			.dst = (uintptr_t)to + filling.at,
			.src = (uintptr_t)src + filling.at,
			.len = filling.left < filling.most ? filling.left : filling.most,
		};
		int result = ioctl(fd, UFFDIO_COPY, &copy);

		err = went(&filling, result, copy.copy);
	}
	return err;
}

int uffd_zero(int fd, void *to, uint64_t bytes)
{
	struct filling filling = {.left = bytes, .page = 4096, .most = UINT64_MAX};
	int err = 0;

	while (!err && filling.left > 0) {
		const uint64_t len = filling.left < filling.most ? filling.left : filling.most;
		struct uffdio_zeropage zero = {.range = {(uintptr_t)to + filling.at, len}};
		int result = ioctl(fd, UFFDIO_ZEROPAGE, &zero);

		err = went(&filling, result, zero.zeropage);
	}
	return err;
}

int uffd_wake(int fd, const void *at, uint64_t bytes)
{
	struct uffdio_range range = {(uintptr_t)at, bytes};

	return ioctl(fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

int uffd_wait(int fd, int stop, int timeout_ms, uint64_t *at, unsigned capacity)
{
	struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
	struct uffd_msg faults[MOST_FAULTS];
	ssize_t n;
	int count = 0;

	if (poll(polled, 2, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (polled[1].revents)
		return -ECANCELED;
	if (!polled[0].revents)
		return 0;
	n = read(fd, faults, sizeof(faults[0]) * (capacity < MOST_FAULTS ? capacity : MOST_FAULTS));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; i < (size_t)n / sizeof(faults[0]); i++)
		if (faults[i].event == UFFD_EVENT_PAGEFAULT)
			at[count++] = faults[i].arg.pagefault.address;
	return count;
}
