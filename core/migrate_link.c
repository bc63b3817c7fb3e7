/* SPDX-License-Identifier: Apache-2.0 */
/* A migration's connection. */
#include "migrate_link.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <impost/memory.h>
#include <impost/view.h>

#include "clock.h"
#include "huge.h"
#include "text.h"

/* What a channel's function is given to wait at the most, so that a cancel is seen; milliseconds.
 */
#define SLICE_MS 50u
/* Guest memory that one call sends or takes at the most: a view lasts as long as it does. */
#define CALL_BYTES (UINT64_C(4) << 20)
#define CALL_SPANS 256u
#define BOUNCE	   (256u << 10)
/* What a UNIX socket's sender may be ahead, of which the kernel makes twice as much, or what
 * net.core.wmem_max allows (socket(7)). With its default of 208 KiB the two sides wait for each
 * other at every few pages, which takes half as long again. TCP finds its own.
 */
#define SEND_AHEAD (1 << 20)

int link_check_channel(struct impost_context *ctx, const struct impost_migration_channel *channel)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (channel->fd < 0 && channel->read && channel->write)
		return 0;
	if (channel->fd < 0)
		return impost_error_set(ctx, -EINVAL,
					"a migration's channel has neither a descriptor nor both "
					"functions");
	if (getsockopt(channel->fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return impost_error_set(ctx, -errno, "a migration's channel, descriptor %d: %s",
					channel->fd, strerror(errno));
	if (type != SOCK_STREAM)
		return impost_error_set(ctx, -ENOTSOCK,
					"a migration's channel, descriptor %d: no stream socket",
					channel->fd);
	return 0;
}

static void prepare_socket(int fd)
{
	int on = 1, domain = 0, ahead = 0, wanted = SEND_AHEAD;
	socklen_t len = sizeof(domain);

	/* Who waits for an answer is not to wait for more to be said. Others than TCP have no such
	 * thing. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_UNIX)
		return;
	len = sizeof(ahead);
	if (!getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &ahead, &len) && ahead < wanted)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted));
}

int link_init(struct link *link, struct impost_context *ctx, const struct cancel *cancel,
	      const struct impost_migration_channel *channel, uint32_t silence_ms)
{
	/* Not its bytes, which others read, and which it may have of a stranger before it. */
	link->ctx = ctx;
	link->cancel = cancel;
	link->channel = *channel;
	link->silence_ms = silence_ms;
	link->has_ahead = false;
	link->bounce = NULL;
	if (channel->fd >= 0) {
		prepare_socket(channel->fd);
		return 0;
	}
	link->bounce = malloc(BOUNCE);
	return link->bounce ? 0 : impost_error_set(ctx, -ENOMEM, "no memory for a connection");
}

void link_release(struct link *link)
{
	free(link->bounce);
	link->bounce = NULL;
}

static bool is_cancelled(const struct link *link)
{
	return atomic_load(&link->cancel->wanted) && !atomic_load(&link->cancel->deaf);
}

static int cancelled(const struct link *link)
{
	return impost_error_set(link->ctx, -ECANCELED, "the migration was cancelled");
}

static int silent(const struct link *link)
{
	return impost_error_set(link->ctx, -ETIMEDOUT,
				"the other side of the migration was silent for %u ms",
				link->silence_ms);
}

static int ended(const struct link *link)
{
	return impost_error_set(link->ctx, -EPIPE,
				"the other side of the migration has ended the connection");
}

static int failed(const struct link *link, int err)
{
	if (err == -ECONNRESET || err == -EPIPE)
		return ended(link);
	return impost_error_set(link->ctx, err, "the connection of the migration: %s",
				strerror(-err));
}

static uint64_t now_ms(void)
{
	return clock_now_ns() / 1000000;
}

/* --- waiting --- */

/* Waits until the socket is ready for EVENTS, TIMEOUT_MS at the most: 1; 0: it is not. */
static int wait_ready(struct link *link, short events, uint32_t timeout_ms)
{
	uint64_t until = now_ms() + timeout_ms;

	for (;;) {
		struct pollfd fds[2] = {
			{.fd = link->channel.fd, .events = events},
			{.fd = atomic_load(&link->cancel->deaf) ? -1 : link->cancel->fd,
			 .events = POLLIN},
		};
		uint64_t now = now_ms(), left = until > now ? until - now : 0;
		int n = poll(fds, 2, (int)(left < INT_MAX ? left : INT_MAX));

		if (n < 0 && errno != EINTR)
			return failed(link, -errno);
		if (is_cancelled(link))
			return cancelled(link);
		/* Who says no more answers no more: what it has said last is there to be read. */
		if (n > 0 && events & POLLOUT && fds[0].revents & POLLRDHUP)
			return ended(link);
		if (n > 0 && fds[0].revents)
			return 1;
		if (n == 0)
			return 0;
	}
}

/* The same of the function, which can say it only by reading: a byte, for who reads next. */
static int wait_for_functions(struct link *link, uint32_t timeout_ms)
{
	const struct impost_migration_channel *channel = &link->channel;
	uint64_t until = now_ms() + timeout_ms;

	while (!link->has_ahead) {
		uint64_t now = now_ms(), left = until > now ? until - now : 0;
		int64_t n = channel->read(channel->opaque, &link->ahead, 1,
					  left < SLICE_MS ? (uint32_t)left : SLICE_MS);

		link->has_ahead = n == 1;
		if (n == 0)
			return 1;
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			return failed(link, (int)n);
		if (is_cancelled(link))
			return cancelled(link);
		if (n < 0 && left == 0)
			return 0;
	}
	return 1;
}

int link_wait(struct link *link, uint32_t timeout_ms)
{
	return link->channel.fd >= 0 ? wait_ready(link, POLLIN, timeout_ms)
				     : wait_for_functions(link, timeout_ms);
}

/* --- one call, of whichever kind of channel --- */

/* Moves some of IOV, of COUNT elements, by the socket: bytes, or 0 at the end of what comes. */
static int64_t move_socket(struct link *link, struct msghdr *message, bool out)
{
	for (;;) {
		ssize_t n =
			out ? sendmsg(link->channel.fd, message, MSG_DONTWAIT | MSG_NOSIGNAL)
			    : recvmsg(link->channel.fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int ready;

		if (n >= 0)
			return n;
		if (errno == EINTR)
			continue;
		if (errno == EFAULT)
			return -EFAULT; /* guest memory's; the caller knows whose */
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return failed(link, -errno);
		ready = wait_ready(link, out ? POLLOUT | POLLRDHUP : POLLIN, link->silence_ms);
		if (ready <= 0)
			return ready ? ready : silent(link);
	}
}

/* The same by the functions: of the first element alone. */
static int64_t move_by_functions(struct link *link, const struct iovec *iov, bool out)
{
	const struct impost_migration_channel *channel = &link->channel;
	uint64_t until = now_ms() + link->silence_ms;

	if (!out && link->has_ahead) {
		*(uint8_t *)iov->iov_base = link->ahead;
		link->has_ahead = false;
		return 1;
	}
	for (;;) {
		int64_t n =
			out ? channel->write(channel->opaque, iov->iov_base, iov->iov_len, SLICE_MS)
			    : channel->read(channel->opaque, iov->iov_base, iov->iov_len, SLICE_MS);

		if (n > (int64_t)iov->iov_len)
			return impost_error_set(link->ctx, -EIO,
						"a channel's function has moved more than it was "
						"given");
		if (n >= 0)
			return n;
		if (n != -EAGAIN && n != -EINTR)
			return failed(link, (int)n);
		if (is_cancelled(link))
			return cancelled(link);
		if (now_ms() > until)
			return silent(link);
	}
}

/* Takes N bytes off the front of *IOV, *COUNT. */
static void consume(struct iovec **iov, size_t *count, uint64_t n)
{
	while (*count > 0 && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		++*iov;
		--*count;
	}
	if (*count > 0) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

/* Moves all of IOV, which is used up. */
static int move_all(struct link *link, struct iovec *iov, size_t count, bool out)
{
	consume(&iov, &count, 0); /* empty ones in front */
	while (count > 0) {
		struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
		int64_t n;

		if (is_cancelled(link))
			return cancelled(link);
		n = link->channel.fd >= 0 ? move_socket(link, &message, out)
					  : move_by_functions(link, iov, out);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return ended(link);
		atomic_fetch_add(&link->bytes, (uint64_t)n);
		consume(&iov, &count, (uint64_t)n);
	}
	return 0;
}

int link_read(struct link *link, void *buf, uint64_t bytes)
{
	struct iovec iov = {.iov_base = buf, .iov_len = bytes};

	return move_all(link, &iov, 1, false);
}

int link_write(struct link *link, const void *buf, uint64_t bytes)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = bytes};

	return move_all(link, &iov, 1, true);
}

void link_send_last(struct link *link, const void *buf, uint64_t bytes)
{
	const struct impost_migration_channel *channel = &link->channel;

	if (channel->fd >= 0)
		(void)!send(channel->fd, buf, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		channel->write(channel->opaque, buf, bytes, SLICE_MS);
}

/* --- descriptors --- */

bool link_is_unix(const struct link *link)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return link->channel.fd >= 0 &&
	       getsockopt(link->channel.fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
	       domain == AF_UNIX;
}

/* Room for one descriptor, and for a second, that is not to be. */
union control {
	struct cmsghdr head;
	uint8_t bytes[CMSG_SPACE(2 * sizeof(int))];
};

int link_write_fd(struct link *link, const void *buf, uint64_t bytes, int fd)
{
	union control control = {.bytes = {0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = bytes};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(sizeof(int)),
	};
	int64_t n;

	if (!link_is_unix(link))
		return impost_error_set(link->ctx, -ENOTSUP,
					"memory can be handed over through a UNIX socket only");
	control.head = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	};
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	n = move_socket(link, &message, true);
	if (n <= 0)
		return n ? (int)n : ended(link);
	atomic_fetch_add(&link->bytes, (uint64_t)n);
	return link_write(link, (const uint8_t *)buf + n, bytes - (uint64_t)n);
}

/* The descriptors that come with some bytes: the first of them, and how many there were. */
struct came {
	int fd;
	uint32_t count;
};

/* Those of MESSAGE; all but the first are closed. */
static void take_fds(struct msghdr *message, struct came *came)
{
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head;
	     head = CMSG_NXTHDR(message, head)) {
		size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
			if (came->count++ == 0)
				came->fd = fd;
			else
				close(fd);
		}
	}
	/* There were more than there is room for, which the kernel has closed. */
	if (message->msg_flags & MSG_CTRUNC)
		came->count += 2;
}

static int read_with_fds(struct link *link, uint8_t *buf, uint64_t bytes, struct came *came)
{
	while (bytes > 0) {
		union control control = {.bytes = {0}};
		struct iovec iov = {.iov_base = buf, .iov_len = bytes};
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		int64_t n = move_socket(link, &message, false);

		if (n <= 0)
			return n ? (int)n : ended(link);
		atomic_fetch_add(&link->bytes, (uint64_t)n);
		take_fds(&message, came);
		buf += n;
		bytes -= (uint64_t)n;
	}
	if (came->count == 1)
		return 0;
	return impost_error_set(link->ctx, -EPROTO, "%s came where one was to come",
				came->count ? "several descriptors" : "no descriptor");
}

int link_read_fd(struct link *link, void *buf, uint64_t bytes, int *ret_fd)
{
	struct came came = {.fd = -1};
	int err;

	if (!link_is_unix(link))
		return impost_error_set(link->ctx, -EPROTO,
					"memory was to be handed over through what is no UNIX "
					"socket");
	err = read_with_fds(link, buf, bytes, &came);
	if (err && came.fd >= 0)
		close(came.fd);
	if (!err)
		*ret_fd = came.fd;
	return err;
}

/* --- guest memory --- */

/* What is left of ranges of guest memory. */
struct cursor {
	struct impost_memory *memory;
	const struct impost_range *ranges;
	uint64_t count;
	uint64_t done; /* bytes of the first */
};

static void advance(struct cursor *cursor, uint64_t n)
{
	while (cursor->count > 0 && n >= cursor->ranges->bytes - cursor->done) {
		n -= cursor->ranges->bytes - cursor->done;
		cursor->done = 0;
		cursor->ranges++;
		cursor->count--;
	}
	cursor->done += n;
}

/* The next elements, at most CALL_SPANS behind those that IOV has, and CALL_BYTES. */
static int gather(struct impost_view *view, const struct cursor *cursor, struct iovec *iov,
		  size_t *count)
{
	uint64_t bytes = 0, at = cursor->done;

	for (uint64_t i = 0; i < cursor->count && bytes < CALL_BYTES && *count < CALL_SPANS;) {
		const struct impost_range *range = &cursor->ranges[i];
		uint64_t want = range->bytes - at, len;
		void *hva;
		int err;

		if (want > CALL_BYTES - bytes)
			want = CALL_BYTES - bytes;
		err = impost_view_span(view, range->gpa + at, want, &hva, &len);
		if (err)
			return err;
		iov[*count] = (struct iovec){.iov_base = hva, .iov_len = len};
		++*count;
		bytes += len;
		at += len;
		if (at == range->bytes) {
			at = 0;
			i++;
		}
	}
	return 0;
}

static void mark(struct impost_view *view, const struct cursor *cursor, uint64_t n)
{
	struct cursor left = *cursor;

	while (n > 0) {
		uint64_t len = left.ranges->bytes - left.done;

		if (len > n)
			len = n;
		impost_view_mark_dirty(view, left.ranges->gpa + left.done, len);
		advance(&left, len);
		n -= len;
	}
}

static int shortened(const struct link *link, const struct cursor *cursor)
{
	return impost_error_set(link->ctx, -EIO,
				"guest memory at %#llx cannot be accessed: the file behind it has "
				"become shorter",
				(unsigned long long)(cursor->ranges->gpa + cursor->done));
}

/* Sends or takes what is in IOV, without waiting: bytes; -EAGAIN, with no text; or an error. */
static int64_t call_socket(struct link *link, struct msghdr *message, const struct cursor *cursor,
			   bool out)
{
	ssize_t n;

	do
		n = out ? sendmsg(link->channel.fd, message, MSG_DONTWAIT | MSG_NOSIGNAL)
			: recvmsg(link->channel.fd, message, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	if (n == 0)
		return ended(link);
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return -EAGAIN;
	return errno == EFAULT ? shortened(link, cursor) : failed(link, -errno);
}

/* One such call, of HEAD and what comes next. */
static int64_t move_once(struct link *link, const struct iovec *head, const struct cursor *cursor,
			 bool out)
{
	struct iovec iov[CALL_SPANS];
	struct msghdr message = {.msg_iov = iov};
	struct impost_view view;
	size_t count = 0;
	int64_t n = impost_view_begin(cursor->memory, &view);

	if (n < 0)
		return n;
	if (head->iov_len > 0)
		iov[count++] = *head;
	n = gather(&view, cursor, iov, &count);
	if (n == 0) {
		message.msg_iovlen = count;
		n = call_socket(link, &message, cursor, out);
	}
	if (n > 0 && !out)
		mark(&view, cursor, (uint64_t)n);
	impost_view_end(&view);
	return n;
}

static int move_memory_by_socket(struct link *link, struct iovec head, struct cursor *cursor,
				 bool out)
{
	while (head.iov_len > 0 || cursor->count > 0) {
		int64_t n = is_cancelled(link) ? cancelled(link)
					       : move_once(link, &head, cursor, out);
		uint64_t of_head;

		if (n == -EAGAIN) {
			int ready = wait_ready(link, out ? POLLOUT | POLLRDHUP : POLLIN,
					       link->silence_ms);

			if (ready > 0)
				continue;
			return ready ? ready : silent(link);
		}
		if (n < 0)
			return (int)n;
		of_head = (uint64_t)n < head.iov_len ? (uint64_t)n : head.iov_len;
		atomic_fetch_add(&link->bytes, (uint64_t)n);
		if (of_head)
			head.iov_base = (uint8_t *)head.iov_base + of_head;
		head.iov_len -= of_head;
		advance(cursor, (uint64_t)n - of_head);
	}
	return 0;
}

static int move_memory_by_functions(struct link *link, struct cursor *cursor, bool out)
{
	int err = 0;

	while (!err && cursor->count > 0) {
		uint64_t gpa = cursor->ranges->gpa + cursor->done;
		uint64_t bytes = cursor->ranges->bytes - cursor->done;

		if (bytes > BOUNCE)
			bytes = BOUNCE;
		err = out ? impost_memory_read(cursor->memory, gpa, link->bounce, bytes)
			  : link_read(link, link->bounce, bytes);
		if (!err)
			err = out ? link_write(link, link->bounce, bytes)
				  : impost_memory_write(cursor->memory, gpa, link->bounce, bytes);
		advance(cursor, bytes);
	}
	return err;
}

int link_write_memory(struct link *link, const void *head, uint64_t head_bytes,
		      struct impost_memory *memory, const struct impost_range *ranges,
		      uint64_t count)
{
	struct cursor cursor = {.memory = memory, .ranges = ranges, .count = count};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)head, .iov_len = head_bytes};
	int err;

	advance(&cursor, 0);
	if (link->channel.fd >= 0)
		return move_memory_by_socket(link, iov, &cursor, true);
	err = link_write(link, head, head_bytes);
	return err ? err : move_memory_by_functions(link, &cursor, true);
}

int link_read_memory(struct link *link, struct impost_memory *memory,
		     const struct impost_range *ranges, uint64_t count)
{
	struct cursor cursor = {.memory = memory, .ranges = ranges, .count = count};

	advance(&cursor, 0);
	huge_advise_ranges(memory, ranges, count);
	return link->channel.fd >= 0
		       ? move_memory_by_socket(link, (struct iovec){0}, &cursor, false)
		       : move_memory_by_functions(link, &cursor, false);
}
