// SPDX-License-Identifier: Apache-2.0
/* Waiting for a descriptor, with a limit. */
#include "ready.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

#include "clock.h"

uint64_t ready_deadline(uint32_t timeout_ms)
{
	return clock_now_ns() + (uint64_t)timeout_ms * 1000000;
}

int ready_wait(int fd, int stop, short events, uint64_t until)
{
	struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = stop, .events = POLLIN}};

	for (;;) {
		uint64_t now = clock_now_ns();
		uint64_t left = until > now ? (until - now + 999999) / 1000000 : 0;
		int count = poll(fds, 2, (int)(left < INT_MAX ? left : INT_MAX));

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		return fds[1].revents ? -ECANCELED : fds[0].revents != 0;
	}
}
