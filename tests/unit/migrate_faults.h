/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that break: cut, stalled, or with a byte changed, at byte N of what one side says. As
 * the functions of a channel, where the byte is exact on whichever side one looks; and as a relay
 * between sockets, as a network is. And what must be left when all is over: nothing.
 */
#ifndef TESTS_UNIT_MIGRATE_FAULTS_H
#define TESTS_UNIT_MIGRATE_FAULTS_H

#include <signal.h>
#include <sys/eventfd.h>

#include "migrate_pair.h"

enum fault_kind {
	FAULT_NONE,
	FAULT_CUT_WRITER, /* the writer is told that it has ended when it has written N bytes */
	FAULT_CUT_READER, /* the reader has read N bytes; the writer may have written more */
	FAULT_STALL,	  /* no more than N bytes come */
	FAULT_FLIP,	  /* byte N is another */
	FAULT_KILL,	  /* a process dies when N bytes have come from SIDE; a relay's alone */
};

/* Which side's words. */
enum fault_side {
	FAULT_SOURCE,
	FAULT_DESTINATION,
};

struct fault {
	enum fault_kind kind;
	enum fault_side side;
	uint64_t at;
	uint8_t flip; /* is XORed; not 0 */
};

/* --- the functions of a channel --- */

#define FAULT_HEAD   16u
#define FAULT_WRITES 4096u

struct fault_wire {
	struct fault fault;
	int fds[2];
	atomic_bool met;
	bool completed; /* the source has begun to say Complete */
	/* By side: bytes that it has written, and those of it that have been read. */
	uint64_t written[2], read[2];
	uint64_t begins[FAULT_WRITES]; /* where the source's writes began */
	uint32_t nbegins;
	struct fault_end {
		struct fault_wire *wire;
		enum fault_side side;
	} ends[2];
};

static inline void fault_cut(struct fault_wire *wire)
{
	shutdown(wire->fds[0], SHUT_RDWR);
	shutdown(wire->fds[1], SHUT_RDWR);
}

/* Whether KIND happens to SIDE's words now. If it is to later, no more than what is before it goes.
 */
static inline bool fault_limits(struct fault_wire *wire, enum fault_side side, enum fault_kind kind,
				uint64_t done, uint64_t *bytes)
{
	const struct fault *fault = &wire->fault;

	if (fault->kind != kind || fault->side != side || done > fault->at)
		return false;
	if (*bytes > fault->at - done)
		*bytes = fault->at - done;
	if (*bytes == 0)
		atomic_store(&wire->met, true);
	return *bytes == 0;
}

/* Whether a source's request is Complete. */
static inline bool fault_is_complete(const uint8_t head[FAULT_HEAD])
{
	static const uint8_t complete[FAULT_HEAD] = {5};

	return memcmp(head, complete, FAULT_HEAD) == 0;
}

static inline int64_t fault_nothing(uint32_t timeout_ms)
{
	poll(NULL, 0, (int)timeout_ms);
	return -EAGAIN;
}

static inline int64_t fault_write(void *opaque, const void *buf, uint64_t bytes,
				  uint32_t timeout_ms)
{
	const struct fault_end *end = opaque;
	struct fault_wire *wire = end->wire;
	uint64_t *written = &wire->written[end->side];
	const void *what = buf;
	int64_t n;
	uint8_t other;

	if (end->side == FAULT_SOURCE && bytes == FAULT_HEAD && fault_is_complete(buf))
		wire->completed = true;
	if (fault_limits(wire, end->side, FAULT_CUT_WRITER, *written, &bytes)) {
		fault_cut(wire);
		return -EPIPE;
	}
	if (fault_limits(wire, end->side, FAULT_STALL, *written, &bytes))
		return fault_nothing(timeout_ms);
	if (fault_limits(wire, end->side, FAULT_FLIP, *written, &bytes)) {
		other = (uint8_t)(*(const uint8_t *)buf ^ wire->fault.flip);
		what = &other;
		bytes = 1;
	}
	if (end->side == FAULT_SOURCE && wire->nbegins < FAULT_WRITES)
		wire->begins[wire->nbegins++] = *written;
	n = pair_write_fd((void *)(intptr_t)wire->fds[end->side], what, bytes, timeout_ms);
	if (n > 0)
		*written += (uint64_t)n;
	return n;
}

static inline int64_t fault_read(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	const struct fault_end *end = opaque;
	struct fault_wire *wire = end->wire;
	enum fault_side other = end->side == FAULT_SOURCE ? FAULT_DESTINATION : FAULT_SOURCE;
	int64_t n;

	if (fault_limits(wire, other, FAULT_CUT_READER, wire->read[other], &bytes)) {
		fault_cut(wire);
		return 0;
	}
	n = pair_read_fd((void *)(intptr_t)wire->fds[end->side], buf, bytes, timeout_ms);
	if (n > 0)
		wire->read[other] += (uint64_t)n;
	return n;
}

/* The wire of a pair whose test's own is a struct fault_wire, with its fault. */
static inline void fault_wire_functions(struct pair *pair,
					struct impost_migration_channel channels[2])
{
	struct fault_wire *wire = pair->setup.opaque;
	const struct fault fault = wire->fault;

	memset(wire, 0, sizeof(*wire));
	wire->fault = fault;
	pair_sockets(pair, wire->fds);
	for (int i = 0; i < 2; i++) {
		wire->ends[i] = (struct fault_end){wire, i ? FAULT_DESTINATION : FAULT_SOURCE};
		channels[i] = (struct impost_migration_channel){
			.size = sizeof(channels[i]),
			.fd = -1,
			.read = fault_read,
			.write = fault_write,
			.opaque = &wire->ends[i],
		};
	}
}

/* --- a relay between sockets --- */

#define RELAYS 8u

/* Room for one descriptor. */
union relay_control {
	struct cmsghdr head;
	uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

struct relay {
	struct fault fault;
	int fds[2];		  /* towards the source, and towards the destination */
	int end;		  /* an eventfd: it is to end */
	uint64_t passed[2];	  /* by side */
	pid_t victim;		  /* who dies; of FAULT_KILL */
	uint8_t last[FAULT_HEAD]; /* the source's last bytes */
	pthread_t thread;
	uint8_t bytes[65536];
};

/* The test's own, of a pair with relays. */
struct relays {
	struct fault fault; /* of connection number `which` */
	uint32_t which;
	bool tcp;
	struct relay *relay[RELAYS];
	uint32_t count;
};

/* LAST is what was said last; now COUNT more. */
static inline void fault_remember(uint8_t last[FAULT_HEAD], const uint8_t *bytes, uint64_t count)
{
	if (count >= FAULT_HEAD) {
		memcpy(last, bytes + count - FAULT_HEAD, FAULT_HEAD);
		return;
	}
	memmove(last, last + count, FAULT_HEAD - count);
	memcpy(last + FAULT_HEAD - count, bytes, count);
}

/* Sends COUNT bytes, with the last of them descriptor PASSED if that is not -1. */
static inline bool relay_send(struct relay *relay, int fd, const uint8_t *bytes, uint64_t count,
			      int passed)
{
	struct pollfd fds[2] = {{.fd = fd, .events = POLLOUT}, {relay->end, POLLIN, 0}};

	while (count > 0) {
		union relay_control control = {
			.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
		struct iovec iov = {(void *)(uintptr_t)bytes,
				    passed >= 0 && count > 1 ? count - 1 : count};
		struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n;

		if (passed >= 0 && count == 1) {
			memcpy(CMSG_DATA(&control.head), &passed, sizeof(passed));
			message.msg_control = &control;
			message.msg_controllen = CMSG_SPACE(sizeof(int));
		}
		if (poll(fds, 2, -1) < 0 || fds[1].revents)
			return false;
		n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return false;
		bytes += n > 0 ? n : 0;
		count -= n > 0 ? (uint64_t)n : 0;
	}
	return true;
}

/* What has come from FD, and with it *ret_passed, or -1. */
static inline ssize_t relay_receive(struct relay *relay, int fd, int *ret_passed)
{
	union relay_control control = {.bytes = {0}};
	struct iovec iov = {relay->bytes, sizeof(relay->bytes)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	*ret_passed = -1;
	if (head && head->cmsg_type == SCM_RIGHTS)
		memcpy(ret_passed, CMSG_DATA(head), sizeof(*ret_passed));
	return n;
}

/* Does to COUNT bytes of SIDE's what the fault says. False: it is cut. *count: what goes on. */
static inline bool relay_meets(struct relay *relay, enum fault_side side, uint64_t *count)
{
	const struct fault *fault = &relay->fault;
	uint64_t from = relay->passed[side], to = from + *count;

	relay->passed[side] = to;
	if (fault->kind == FAULT_NONE || fault->side != side || to <= fault->at)
		return true;
	if (fault->kind == FAULT_FLIP) {
		if (from <= fault->at)
			relay->bytes[fault->at - from] ^= fault->flip;
		return true;
	}
	if (fault->kind == FAULT_KILL) {
		if (from <= fault->at)
			kill(relay->victim, SIGKILL);
		return true;
	}
	*count = from < fault->at ? fault->at - from : 0;
	return fault->kind == FAULT_STALL;
}

/* One way, as much as has come. False: the connection is over. */
static inline bool relay_pass(struct relay *relay, enum fault_side side)
{
	int passed;
	ssize_t n = relay_receive(relay, relay->fds[side], &passed);
	uint64_t count = n > 0 ? (uint64_t)n : 0, all = count;
	bool on;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	on = relay_meets(relay, side, &count);
	if (side == FAULT_SOURCE)
		fault_remember(relay->last, relay->bytes, count);
	on = relay_send(relay, relay->fds[!side], relay->bytes, count,
			count == all ? passed : -1) &&
	     on;
	if (passed >= 0)
		close(passed);
	return on;
}

static inline void *relay_run(void *arg)
{
	struct relay *relay = arg;
	struct pollfd fds[3] = {
		{relay->fds[0], POLLIN, 0}, {relay->fds[1], POLLIN, 0}, {relay->end, POLLIN, 0}};
	bool on = true;

	while (on && poll(fds, 3, -1) > 0 && !fds[2].revents)
		for (int side = 0; on && side < 2; side++)
			if (fds[side].revents)
				on = relay_pass(relay, side ? FAULT_DESTINATION : FAULT_SOURCE);
	shutdown(relay->fds[0], SHUT_RDWR);
	shutdown(relay->fds[1], SHUT_RDWR);
	return NULL;
}

/* The wire of a pair whose test's own is a struct relays. */
static inline void relay_wire(struct pair *pair, struct impost_migration_channel channels[2])
{
	pair_wire_fn wire = pair_wire_unix;
	struct relays *relays = pair->setup.opaque;
	struct relay *relay = calloc(1, sizeof(*relay));

	if (relays->tcp)
		wire = pair_wire_tcp;
	expect_true(relay && relays->count < RELAYS);
	for (int i = 0; i < 2; i++) {
		struct impost_migration_channel ends[2];

		wire(pair, ends);
		channels[i] = ends[i];
		relay->fds[i] = ends[!i].fd;
	}
	if (relays->count == relays->which)
		relay->fault = relays->fault;
	relay->end = eventfd(0, EFD_CLOEXEC);
	expect_true(pthread_create(&relay->thread, NULL, relay_run, relay) == 0);
	relays->relay[relays->count++] = relay;
}

/* Before pair_forget(). Returns how many bytes SIDE has said on the first connection. */
static inline uint64_t relays_end(struct relays *relays, enum fault_side side)
{
	uint64_t passed = 0;

	for (uint32_t i = 0; i < relays->count; i++) {
		eventfd_write(relays->relay[i]->end, 1);
		pthread_join(relays->relay[i]->thread, NULL);
		if (i == 0)
			passed = relays->relay[i]->passed[side];
		close(relays->relay[i]->end);
		free(relays->relay[i]);
	}
	relays->count = 0;
	return passed;
}

/* --- what may be left --- */

/* What a process has. Of mappings those of guest memory, which is in memfds: threads leave stacks
 * and arenas, which the C library keeps. */
struct leftovers {
	size_t fds, threads, mappings, files;
};

static inline struct leftovers count_leftovers(const char *folder)
{
	struct leftovers all = {
		.fds = count_entries("/proc/self/fd"),
		.threads = count_entries("/proc/self/task"),
		.files = folder ? count_entries(folder) : 0,
	};
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];

	while (fgets(line, sizeof(line), file))
		all.mappings += strstr(line, "/memfd:") != NULL;
	fclose(file);
	return all;
}

/* A thread that was joined is a task for a moment longer. */
static inline void expect_leftovers(struct leftovers before, const char *folder)
{
	struct leftovers now = count_leftovers(folder);

	for (unsigned ms = 0; ms < PAIR_LONG_MS && now.threads > before.threads; ms++) {
		poll(NULL, 0, 1);
		now = count_leftovers(folder);
	}
	if (now.threads < before.threads) /* one of them was such a task */
		now.threads = before.threads;
	if (memcmp(&now, &before, sizeof(now)) != 0)
		fprintf(stderr,
			"# %zu descriptors, %zu threads, %zu mappings, %zu files became "
			"%zu, %zu, %zu, %zu\n",
			before.fds, before.threads, before.mappings, before.files, now.fds,
			now.threads, now.mappings, now.files);
	expect_true(memcmp(&now, &before, sizeof(now)) == 0);
}

#endif
