/* SPDX-License-Identifier: Apache-2.0 */
/* Between descriptors and guest memory: files, sockets, pipes; all and some; peers that are slow,
 * or gone. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "core.h"

#define PAGE   IMPOST_PAGE_SIZE
#define STREAM IMPOST_FD_STREAM
#define SOME   IMPOST_FD_SOME

/* Three adjoining regions; the first is at an odd page. */
#define START UINT64_C(0x3000)
#define BYTES (UINT64_C(5) << 20)

static struct impost_context *ctx;
static struct impost_memory *memory;
static uint8_t *pattern, *got;

static void add(uint64_t gpa, uint64_t bytes)
{
	struct impost_region region = {.size = sizeof(region), .gpa = gpa, .bytes = bytes};

	expect_ok(ctx, impost_memory_add(memory, &region));
}

static void begin(void)
{
	ctx = open_context();
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	add(START, 7 * PAGE);
	add(START + 7 * PAGE, PAGE);
	add(START + 8 * PAGE, BYTES - 8 * PAGE);
	pattern = malloc(BYTES);
	got = malloc(BYTES);
	for (uint64_t i = 0; i < BYTES; i++)
		pattern[i] = (uint8_t)(i * 31 + i / 251);
}

static void end(void)
{
	impost_memory_destroy(memory);
	cr_expect(impost_context_close(ctx) == 0);
	free(pattern);
	free(got);
}

TestSuite(transfer, .init = begin, .fini = end, .timeout = 60);

/* Both ends of a stream, of every kind that there is. */
static const char *const kinds[] = {"socket", "pipe", "socket, O_NONBLOCK", "pipe, O_NONBLOCK"};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void open_stream(size_t kind, int fds[2])
{
	int flags = kind >= 2 ? O_NONBLOCK : 0, pair[2];

	if (kind % 2) {
		cr_assert(pipe2(fds, flags | O_CLOEXEC) == 0);
		return;
	}
	cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (flags ? SOCK_NONBLOCK : 0), 0,
			     pair) == 0);
	fds[0] = pair[0];
	fds[1] = pair[1];
}

/* --- files --- */

Test(transfer, files_at_an_offset)
{
	int fd = memfd_create("transfer", MFD_CLOEXEC);
	uint64_t done = 0;

	expect_ok(ctx, impost_memory_write(memory, START, pattern, BYTES));
	expect_ok(ctx, impost_memory_store_fd(memory, START + 5, fd, 3, BYTES - 5, 0, &done));
	cr_expect(done == BYTES - 5 && lseek(fd, 0, SEEK_CUR) == 0);
	cr_expect(pread(fd, got, BYTES, 3) == (ssize_t)(BYTES - 5));
	cr_expect(memcmp(got, pattern + 5, BYTES - 5) == 0);
	expect_ok(ctx, impost_memory_fill(memory, START, 0, BYTES));
	expect_ok(ctx, impost_memory_load_fd(memory, START + 9, fd, 3, BYTES - 9, 0, &done));
	expect_ok(ctx, impost_memory_read(memory, START + 9, got, BYTES - 9));
	cr_expect(done == BYTES - 9 && memcmp(got, pattern + 5, BYTES - 9) == 0);
	close(fd);
}

Test(transfer, files_at_their_own_position)
{
	int fd = memfd_create("transfer", MFD_CLOEXEC);
	uint64_t done = 0;

	expect_ok(ctx, impost_memory_write(memory, START, pattern, BYTES));
	expect_ok(ctx, impost_memory_store_fd(memory, START, fd, STREAM, BYTES, 0, &done));
	cr_expect(done == BYTES && lseek(fd, 0, SEEK_CUR) == (off_t)BYTES);
	cr_assert(lseek(fd, 100, SEEK_SET) == 100);
	expect_error(ctx, impost_memory_load_fd(memory, START, fd, STREAM, BYTES, 0, &done),
		     -ENODATA, "the stream ends 100 bytes too early");
	cr_expect(done == BYTES - 100);
	expect_ok(ctx, impost_memory_read(memory, START, got, done));
	cr_expect(memcmp(got, pattern + 100, done) == 0);
	expect_ok(ctx, impost_memory_load_fd(memory, START, fd, STREAM, 1, SOME, &done));
	cr_expect(done == 0, "the end of the file");
	close(fd);
}

/* What a disk brought before it failed is told by no count. */
Test(transfer, a_load_that_fails_is_dirty)
{
	int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct impost_dirty *dirty;
	struct impost_range found[2];
	uint64_t count;

	expect_ok(ctx, impost_dirty_create(memory, NULL, &dirty));
	expect_error(ctx, impost_memory_load_fd(memory, START, folder, 0, 100, 0, NULL), -EISDIR,
		     "cannot read the file");
	expect_ok(ctx, impost_dirty_sync(dirty));
	expect_ok(ctx, impost_dirty_take(dirty, found, 2, &count));
	cr_assert(count == 1);
	cr_expect(found[0].gpa == START && found[0].bytes == PAGE);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	close(folder);
}

Test(transfer, what_is_wrong)
{
	int fd = memfd_create("transfer", MFD_CLOEXEC), fds[2];
	int read_only = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint64_t done = 77;

	open_stream(1, fds);
	expect_error(ctx, impost_memory_load_fd(memory, START, fd, 0, 1, 2, &done), -EINVAL,
		     "flags 0x2");
	expect_error(ctx, impost_memory_store_fd(memory, START, fd, INT64_MAX, 1, 0, &done),
		     -EINVAL, "no file is that long");
	expect_error(ctx, impost_memory_store_fd(memory, START, fd, 0, BYTES + 1, 0, &done),
		     -EFAULT, "no memory at 0x503000");
	cr_expect(done == 0 && lseek(fd, 0, SEEK_END) == 0, "nothing has been moved");
	expect_error(ctx, impost_memory_store_fd(memory, START, read_only, 0, 1, 0, &done), -EBADF,
		     "cannot write the file: Bad file descriptor");
	expect_error(ctx, impost_memory_store_fd(memory, START, read_only, STREAM, 1, 0, &done),
		     -EBADF, "cannot write the descriptor");
	expect_error(ctx, impost_memory_load_fd(memory, START, -1, STREAM, 1, 0, &done), -EBADF,
		     "cannot read the descriptor");
	expect_error(ctx, impost_memory_load_fd(memory, START, fds[0], 0, 1, 0, &done), -ESPIPE,
		     "Illegal seek");
	expect_error(ctx, impost_memory_load_fd(memory, 0, fds[0], STREAM, 1, SOME, &done), -EFAULT,
		     "no memory at 0x0");
	expect_ok(ctx, impost_memory_load_fd(memory, START, fds[0], STREAM, 0, 0, NULL));
	expect_ok(ctx, impost_memory_store_fd(memory, START, fd, 0, BYTES, SOME, &done));
	cr_expect(done > 0 && done <= BYTES);
}

/* --- streams --- */

/* The other side: moves all of the pattern, in pieces of odd sizes, with rests. */
struct peer {
	int fd;
	bool writes;
	uint64_t moved;
};

static void *be_peer(void *arg)
{
	struct peer *peer = arg;
	uint64_t piece = 1;

	while (peer->moved < BYTES) {
		uint64_t most = BYTES - peer->moved < piece ? BYTES - peer->moved : piece;
		ssize_t n = peer->writes ? write(peer->fd, pattern + peer->moved, most)
					 : read(peer->fd, got + peer->moved, most);

		if (n < 0 && errno != EAGAIN)
			break;
		if (n < 0)
			sched_yield();
		else
			peer->moved += (uint64_t)n;
		piece = piece * 7 % 100003;
	}
	close(peer->fd);
	return NULL;
}

static void move_all(size_t kind, bool load)
{
	struct peer peer = {.writes = load};
	uint64_t done = 0;
	pthread_t thread;
	int fds[2];

	open_stream(kind, fds);
	peer.fd = fds[load ? 1 : 0];
	cr_assert(pthread_create(&thread, NULL, be_peer, &peer) == 0);
	if (load)
		expect_ok(ctx,
			  impost_memory_load_fd(memory, START, fds[0], STREAM, BYTES, 0, &done));
	else
		expect_ok(ctx,
			  impost_memory_store_fd(memory, START, fds[1], STREAM, BYTES, 0, &done));
	pthread_join(thread, NULL);
	cr_expect(done == BYTES && peer.moved == BYTES, "%s", kinds[kind]);
	close(fds[load ? 0 : 1]);
}

Test(transfer, all_of_a_stream_into_the_guest)
{
	for (size_t kind = 0; kind < KINDS; kind++) {
		expect_ok(ctx, impost_memory_fill(memory, START, 0, BYTES));
		move_all(kind, true);
		expect_ok(ctx, impost_memory_read(memory, START, got, BYTES));
		cr_expect(memcmp(got, pattern, BYTES) == 0, "%s", kinds[kind]);
	}
}

Test(transfer, all_of_the_guest_into_a_stream)
{
	expect_ok(ctx, impost_memory_write(memory, START, pattern, BYTES));
	for (size_t kind = 0; kind < KINDS; kind++) {
		memset(got, 0, BYTES);
		move_all(kind, false);
		cr_expect(memcmp(got, pattern, BYTES) == 0, "%s", kinds[kind]);
	}
}

Test(transfer, some_of_a_stream)
{
	for (size_t kind = 0; kind < KINDS; kind++) {
		uint64_t done = 77;
		int fds[2];

		open_stream(kind, fds);
		if (kind >= 2) {
			expect_error(ctx,
				     impost_memory_load_fd(memory, START, fds[0], STREAM, BYTES,
							   SOME, &done),
				     -EAGAIN, "nothing can be moved now");
			cr_expect(done == 0);
		}
		cr_assert(write(fds[1], pattern, 10) == 10);
		expect_ok(ctx, impost_memory_load_fd(memory, START + 7 * PAGE - 3, fds[0], STREAM,
						     BYTES, SOME, &done));
		expect_ok(ctx, impost_memory_read(memory, START + 7 * PAGE - 3, got, 10));
		cr_expect(done == 10 && memcmp(got, pattern, 10) == 0, "%s", kinds[kind]);
		/* As far as there is memory. */
		cr_assert(write(fds[1], pattern, 10) == 10);
		expect_ok(ctx, impost_memory_load_fd(memory, START + BYTES - 4, fds[0], STREAM,
						     BYTES, SOME, &done));
		cr_expect(done == 4, "%s", kinds[kind]);
		close(fds[1]);
		expect_ok(ctx,
			  impost_memory_load_fd(memory, START, fds[0], STREAM, BYTES, SOME, &done));
		cr_expect(done == 6);
		expect_ok(ctx,
			  impost_memory_load_fd(memory, START, fds[0], STREAM, BYTES, SOME, &done));
		cr_expect(done == 0, "the end, %s", kinds[kind]);
		expect_error(ctx, impost_memory_load_fd(memory, START, fds[0], STREAM, 5, 0, &done),
			     -ENODATA, "the stream ends 5 bytes too early");
		close(fds[0]);
	}
}

/* Nobody reads any more: an error, and no signal. */
Test(transfer, a_reader_that_has_gone)
{
	for (size_t kind = 0; kind < KINDS; kind++) {
		sigset_t pending, blocked;
		uint64_t done = 77;
		int fds[2];

		open_stream(kind, fds);
		close(fds[0]);
		expect_error(ctx,
			     impost_memory_store_fd(memory, START, fds[1], STREAM, 9, 0, &done),
			     -EPIPE, "cannot write the descriptor: Broken pipe");
		cr_expect(done == 0);
		sigpending(&pending);
		pthread_sigmask(SIG_SETMASK, NULL, &blocked);
		cr_expect(!sigismember(&pending, SIGPIPE) && !sigismember(&blocked, SIGPIPE));
		close(fds[1]);
	}
}

/* Each message is one, also across regions. */
Test(transfer, messages_stay_whole)
{
	uint64_t done;
	int fds[2];

	cr_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
	expect_ok(ctx, impost_memory_write(memory, START, pattern, 10 * PAGE));
	expect_ok(ctx, impost_memory_store_fd(memory, START + 6 * PAGE, fds[0], STREAM, 3 * PAGE,
					      SOME, &done));
	cr_expect(done == 3 * PAGE);
	expect_ok(ctx, impost_memory_store_fd(memory, START, fds[0], STREAM, 5, SOME, &done));
	cr_expect(recv(fds[1], got, BYTES, 0) == 3 * PAGE);
	cr_expect(memcmp(got, pattern + 6 * PAGE, 3 * PAGE) == 0);
	cr_expect(recv(fds[1], got, BYTES, 0) == 5);
}

/* --- while the other side keeps us waiting --- */

struct waiter {
	int fd, err;
	bool load;
	uint64_t done;
	pthread_t thread;
	atomic_int ended;
};

static void *wait_long(void *arg)
{
	struct waiter *waiter = arg;

	waiter->err = waiter->load ? impost_memory_load_fd(memory, START, waiter->fd, STREAM, BYTES,
							   0, &waiter->done)
				   : impost_memory_store_fd(memory, START, waiter->fd, STREAM,
							    BYTES, 0, &waiter->done);
	waiter->ended = 1;
	return NULL;
}

static void nothing(int signal)
{
	(void)signal;
}

/* A peer that neither reads nor writes, nor goes, holds off no removal; and signals end nothing. */
static void keep_waiting(size_t kind, bool load)
{
	const struct sigaction action = {.sa_handler = nothing}; /* and no SA_RESTART */
	const struct timespec rest = {.tv_nsec = 20000000};
	struct waiter waiter = {.load = load};
	int fds[2];

	cr_assert(sigaction(SIGUSR1, &action, NULL) == 0);
	open_stream(kind, fds);
	waiter.fd = fds[load ? 0 : 1];
	cr_assert(pthread_create(&waiter.thread, NULL, wait_long, &waiter) == 0);
	nanosleep(&rest, NULL);
	pthread_kill(waiter.thread, SIGUSR1);
	nanosleep(&rest, NULL);
	cr_expect(!waiter.ended, "%s", kinds[kind]);
	/* This would wait for ever. */
	expect_ok(ctx, impost_memory_remove(memory, START + 8 * PAGE));
	add(START + 8 * PAGE, BYTES - 8 * PAGE);
	cr_expect(!waiter.ended, "%s", kinds[kind]);
	close(fds[load ? 1 : 0]);
	pthread_join(waiter.thread, NULL);
	cr_expect(waiter.err == (load ? -ENODATA : -EPIPE), "%s: %d", kinds[kind], waiter.err);
	close(waiter.fd);
}

Test(transfer, waiting_for_data_holds_off_no_removal)
{
	for (size_t kind = 0; kind < KINDS; kind++)
		keep_waiting(kind, true);
}

Test(transfer, waiting_for_room_holds_off_no_removal)
{
	for (size_t kind = 0; kind < KINDS; kind++)
		keep_waiting(kind, false);
}

/* A region that goes in the middle of a transfer is an error, and what was moved is told. */
Test(transfer, a_region_that_goes_meanwhile)
{
	struct waiter waiter = {.load = true};
	int fds[2], left;

	open_stream(0, fds);
	waiter.fd = fds[0];
	cr_assert(pthread_create(&waiter.thread, NULL, wait_long, &waiter) == 0);
	cr_assert(write(fds[1], pattern, 7 * PAGE) == 7 * PAGE);
	do /* until it was read: which removal then waits for */
		cr_assert(sched_yield() == 0 && ioctl(fds[0], FIONREAD, &left) == 0);
	while (left > 0);
	expect_ok(ctx, impost_memory_remove(memory, START + 7 * PAGE));
	cr_assert(write(fds[1], pattern, 1) == 1);
	pthread_join(waiter.thread, NULL);
	cr_expect(waiter.err == -EFAULT && waiter.done == 7 * PAGE);
	expect_ok(ctx, impost_memory_read(memory, START, got, 7 * PAGE));
	cr_expect(memcmp(got, pattern, 7 * PAGE) == 0);
	close(fds[0]);
	close(fds[1]);
}
