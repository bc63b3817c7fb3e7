/* SPDX-License-Identifier: Apache-2.0 */
/* Between file descriptors and guest memory, with no buffer between. */
#include <impost/view.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "access.h"
#include "huge.h"
#include "memory.h"
#include "view.h"

/* What one system call moves at most: a view lasts as long as it does. */
#define CHUNK	    (UINT64_C(1) << 20)
#define CHUNK_SPANS 16

/* One call of load_fd or store_fd. */
struct transfer {
	struct impost_memory *memory;
	uint64_t gpa, offset, bytes, done;
	int fd;
	bool load; /* into the guest */
	bool stream;
	bool some;
	/* Of streams: */
	bool waits;   /* the descriptor's own calls wait, as nobody has set O_NONBLOCK */
	bool is_file; /* never makes anybody wait for a peer */
	bool is_socket;
	bool is_pipe;
	bool asks; /* preadv2(2) with RWF_NOWAIT works on it, or has not been tried */
};

static void classify(struct transfer *transfer)
{
	int flags = fcntl(transfer->fd, F_GETFL);
	struct stat status;

	/* A bad descriptor is noticed by what comes next. */
	transfer->waits = flags < 0 || !(flags & O_NONBLOCK);
	transfer->asks = transfer->waits;
	if (fstat(transfer->fd, &status))
		return;
	transfer->is_file = S_ISREG(status.st_mode) || S_ISBLK(status.st_mode);
	transfer->is_socket = S_ISSOCK(status.st_mode);
	transfer->is_pipe = S_ISFIFO(status.st_mode);
}

/* --- one system call --- */

static ssize_t move_file(const struct transfer *transfer, const struct iovec *iov, int count)
{
	off_t offset = (off_t)(transfer->offset + transfer->done);

	if (transfer->stream)
		return transfer->load ? readv(transfer->fd, iov, count)
				      : writev(transfer->fd, iov, count);
	return transfer->load ? preadv(transfer->fd, iov, count, offset)
			      : pwritev(transfer->fd, iov, count, offset);
}

static ssize_t move_socket(const struct transfer *transfer, struct iovec *iov, int count)
{
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};

	return transfer->load ? recvmsg(transfer->fd, &message, MSG_DONTWAIT)
			      : sendmsg(transfer->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool is_ready(const struct transfer *transfer, int timeout)
{
	struct pollfd poll_fd = {.fd = transfer->fd, .events = transfer->load ? POLLIN : POLLOUT};

	/* What is an error, or hung up, is ready: the transfer says why. */
	return poll(&poll_fd, 1, timeout) != 0;
}

/* Makes the elements no more than BYTES together. Returns how many they are then. */
static int shorten(struct iovec *iov, int count, uint64_t bytes)
{
	int i;

	for (i = 0; i < count && bytes > 0; i++) {
		if (iov[i].iov_len > bytes)
			iov[i].iov_len = bytes;
		bytes -= iov[i].iov_len;
	}
	return i;
}

/*
 * A pipe, a terminal, a device: RWF_NOWAIT asks not to wait, where the kernel has that for it
 * (pipes: Linux 6.4). Elsewhere a call is made when poll(2) says that it will not wait, and it
 * writes no more than a pipe that is ready has room for (pipe(7), PIPE_BUF), unless it may be a
 * message.
 */
static ssize_t move_other(struct transfer *transfer, struct iovec *iov, int count)
{
	if (transfer->asks) {
		ssize_t n = transfer->load ? preadv2(transfer->fd, iov, count, -1, RWF_NOWAIT)
					   : pwritev2(transfer->fd, iov, count, -1, RWF_NOWAIT);

		if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
			return n;
		transfer->asks = false;
	}
	if (transfer->waits && !is_ready(transfer, 0)) {
		errno = EAGAIN;
		return -1;
	}
	if (transfer->waits && !transfer->load && (transfer->is_pipe || !transfer->some))
		count = shorten(iov, count, PIPE_BUF);
	return transfer->load ? readv(transfer->fd, iov, count) : writev(transfer->fd, iov, count);
}

/* The same with SIGPIPE, which the kernel sends to the thread that writes, held off and taken back.
 */
static ssize_t move_unsignalled(struct transfer *transfer, struct iovec *iov, int count)
{
	sigset_t pipe_only, before, pending;
	ssize_t n;
	int err;

	if (transfer->load)
		return move_other(transfer, iov, count);
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
	n = move_other(transfer, iov, count);
	err = errno;
	if (n < 0 && err == EPIPE && !sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe_only, NULL, &(const struct timespec){0});
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = err;
	return n;
}

static ssize_t move(struct transfer *transfer, struct iovec *iov, int count)
{
	ssize_t n;

	do {
		if (!transfer->stream || transfer->is_file)
			n = move_file(transfer, iov, count);
		else if (transfer->is_socket)
			n = move_socket(transfer, iov, count);
		else
			n = move_unsignalled(transfer, iov, count);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* --- one view --- */

/* BYTES at GPA, which are memory, as elements. Returns how many, which may be less than all take.
 */
static int make_iovec(const struct impost_view *view, uint64_t gpa, uint64_t bytes,
		      struct iovec *iov)
{
	uint64_t done, len;
	int count = 0;

	for (done = 0; done < bytes && count < CHUNK_SPANS; done += len) {
		const struct mapped *region = view_region(view, gpa, done);

		iov[count].iov_base = map_span(region, gpa + done, bytes - done, &len);
		iov[count++].iov_len = len;
	}
	return count;
}

/* Judges errno; BYTES at GPA were to be moved. */
static int failed(struct impost_view *view, const struct transfer *transfer, uint64_t gpa,
		  uint64_t bytes)
{
	const struct mapped *region = view_region(view, gpa, 0);
	int err = -errno;
	uint64_t len;

	if (err == -EAGAIN)
		return err;
	if (transfer->load)
		impost_view_mark_dirty(view, gpa, bytes); /* some may have come */
	if (err != -EFAULT)
		return impost_error_set(transfer->memory->ctx, err, "cannot %s %s: %s",
					transfer->load ? "read" : "write",
					transfer->stream ? "the descriptor" : "the file",
					strerror(-err));
	return access_failed(transfer->memory, region, map_span(region, gpa, bytes, &len));
}

static int move_in_view(struct impost_view *view, struct transfer *transfer, uint64_t *ret_moved)
{
	uint64_t gpa = transfer->gpa + transfer->done, left = transfer->bytes - transfer->done;
	struct iovec iov[CHUNK_SPANS];
	uint64_t reach;
	ssize_t n;
	int err;

	left = left < CHUNK ? left : CHUNK;
	err = view_reach(view, gpa, left, transfer->load, &reach);
	if (err && (reach == 0 || !transfer->some))
		return err == -EFAULT ? view_fault(view, gpa, left, gpa + reach) : err;
	n = move(transfer, iov, make_iovec(view, gpa, reach, iov));
	if (n < 0)
		return failed(view, transfer, gpa, reach);
	transfer->done += (uint64_t)n;
	*ret_moved = (uint64_t)n;
	return transfer->load ? impost_view_mark_dirty(view, gpa, (uint64_t)n) : 0;
}

static int move_chunk(struct transfer *transfer, uint64_t *ret_moved)
{
	struct impost_view view;
	int err = impost_view_begin(transfer->memory, &view);

	if (err)
		return err;
	err = move_in_view(&view, transfer, ret_moved);
	impost_view_end(&view);
	return err;
}

/* --- all of them --- */

static int ended(const struct transfer *transfer)
{
	uint64_t left = transfer->bytes - transfer->done;
	struct impost_context *ctx = transfer->memory->ctx;

	if (!transfer->load)
		return impost_error_set(ctx, -EIO,
					"the descriptor takes no more, %" PRIu64 " bytes too early",
					left);
	if (transfer->stream)
		return impost_error_set(ctx, -ENODATA,
					"the stream ends %" PRIu64 " bytes too early", left);
	return impost_error_set(ctx, -ENODATA,
				"the file ends at %" PRIu64 ", %" PRIu64 " bytes too early",
				transfer->offset + transfer->done, left);
}

static int move_all(struct transfer *transfer)
{
	int err = 0;

	while (!err && transfer->done < transfer->bytes) {
		uint64_t moved = 0;

		err = move_chunk(transfer, &moved);
		if (err == -EAGAIN && transfer->stream && (transfer->waits || !transfer->some)) {
			is_ready(transfer, -1);
			err = 0;
			continue;
		}
		if (err == -EAGAIN)
			return impost_error_set(transfer->memory->ctx, err,
						"nothing can be moved now, and the descriptor "
						"does not wait");
		if (err || transfer->some)
			return err;
		if (moved == 0)
			return ended(transfer);
	}
	return err;
}

/* Of all that is to be moved, before anything is. */
static int check_in_view(const struct impost_view *view, const struct transfer *transfer)
{
	int err = view_check(view, transfer->gpa, transfer->bytes, transfer->load);
	uint64_t done, len;

	for (done = 0; !err && transfer->load && done < transfer->bytes; done += len) {
		const struct mapped *region = view_region(view, transfer->gpa, done);

		map_span(region, transfer->gpa + done, transfer->bytes - done, &len);
		huge_advise(region, transfer->gpa + done, len);
	}
	return err;
}

static int check_all(const struct transfer *transfer)
{
	struct impost_view view;
	int err = impost_view_begin(transfer->memory, &view);

	if (err)
		return err;
	if (!transfer->some)
		err = check_in_view(&view, transfer);
	impost_view_end(&view);
	return err;
}

static int check(const struct transfer *transfer, uint32_t flags)
{
	struct impost_context *ctx = transfer->memory->ctx;

	if (flags & ~IMPOST_FD_SOME)
		return impost_error_set(
			ctx, -EINVAL, "flags 0x%x: unknown to this version of the library", flags);
	if (!transfer->stream &&
	    (transfer->offset > INT64_MAX || transfer->bytes > INT64_MAX - transfer->offset))
		return impost_error_set(ctx, -EINVAL,
					"%" PRIu64 " bytes at file offset %" PRIu64
					": no file is that long",
					transfer->bytes, transfer->offset);
	return check_all(transfer);
}

static int run(struct transfer *transfer, uint32_t flags, uint64_t *ret_done)
{
	int err = check(transfer, flags);

	if (!err) {
		classify(transfer);
		err = move_all(transfer);
	}
	if (ret_done)
		*ret_done = transfer->done;
	return err;
}

#define TRANSFER(is_load)                                                                 \
	{                                                                                 \
		.memory = memory, .gpa = gpa, .offset = offset, .bytes = bytes, .fd = fd, \
		.load = (is_load), .stream = offset == IMPOST_FD_STREAM,                  \
		.some = flags & IMPOST_FD_SOME,                                           \
	}

int impost_memory_load_fd(struct impost_memory *memory, uint64_t gpa, int fd, uint64_t offset,
			  uint64_t bytes, uint32_t flags, uint64_t *ret_done)
{
	struct transfer transfer = TRANSFER(true);

	return run(&transfer, flags, ret_done);
}

int impost_memory_store_fd(struct impost_memory *memory, uint64_t gpa, int fd, uint64_t offset,
			   uint64_t bytes, uint32_t flags, uint64_t *ret_done)
{
	struct transfer transfer = TRANSFER(false);

	return run(&transfer, flags, ret_done);
}
