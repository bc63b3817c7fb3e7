// SPDX-License-Identifier: Apache-2.0
/* Connects, listens and accepts for a migration. No wait is without a limit. */
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "lookup.h"
#include "ready.h"

#define BACKLOG 64
/* How long who was refused may take to hear of it. */
#define LINGER_MS 1000u
/* Between two calls of one who has no room. */
#define RETRY_MS 10u

struct connection {
	struct connection *next;
	struct tls *tls; /* NULL: plain */
	int fd;
};

static int fail(const struct endpoint *endpoint, int err, const char *what)
{
	char text[ADDRESS_TEXT_SIZE];

	address_format(&endpoint->address, text);
	return impost_error_set(endpoint->ctx, err, "cannot %s %s: %s", what, text, strerror(-err));
}

/* --- waiting --- */

/* Waits for EVENTS of FD until UNTIL: 0, -ETIMEDOUT, -ECANCELED or another errno. */
static int wait_ready(const struct endpoint *endpoint, int fd, short events, uint64_t until)
{
	int ready = ready_wait(fd, endpoint->stop, events, until);

	return ready > 0 ? 0 : ready ? ready : -ETIMEDOUT;
}

static int look_up(const struct endpoint *endpoint, int flags, uint64_t until,
		   struct addrinfo **ret_list)
{
	const struct lookup what = {
		.host = endpoint->address.host,
		.port = endpoint->address.port,
		.flags = flags,
		.stop = endpoint->stop,
		.until = until,
	};

	return lookup(endpoint->ctx, &what, ret_list);
}

/* --- connecting --- */

static int finish_connecting(const struct endpoint *endpoint, int fd, uint64_t until)
{
	socklen_t len = sizeof(int);
	int err = wait_ready(endpoint, fd, POLLOUT, until), result = 0;

	if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &len) < 0)
		err = -errno;
	return err ? err : -result;
}

/* A UNIX socket with too many callers says EAGAIN, and that it has room cannot be polled for. */
static bool is_worth_waiting(const struct endpoint *endpoint, uint64_t until)
{
	uint64_t soon = ready_deadline(RETRY_MS);

	return wait_ready(endpoint, -1, 0, soon < until ? soon : until) == -ETIMEDOUT &&
	       clock_now_ns() < until;
}

/* Returns 0 with *RET_FD, or a negative errno. */
static int connect_to(const struct endpoint *endpoint, const struct sockaddr *to, socklen_t len,
		      uint64_t until, int *ret_fd)
{
	int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;

	if (fd < 0)
		return -errno;
	do
		err = connect(fd, to, len) == 0 ? 0 : -errno;
	while (err == -EAGAIN && is_worth_waiting(endpoint, until));
	if (err == -EINPROGRESS || err == -EINTR)
		err = finish_connecting(endpoint, fd, until);
	if (err == 0)
		*ret_fd = fd;
	else
		close(fd);
	return err;
}

static int connect_unix(const struct endpoint *endpoint, uint64_t until, int *ret_fd)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	memcpy(to.sun_path, endpoint->address.path, sizeof(to.sun_path));
	return connect_to(endpoint, (const struct sockaddr *)&to, sizeof(to), until, ret_fd);
}

static int connect_tcp(const struct endpoint *endpoint, uint64_t until, int *ret_fd)
{
	const struct addrinfo *at;
	struct addrinfo *list;
	int err = look_up(endpoint, AI_ADDRCONFIG, until, &list);

	if (err < 0)
		return err;
	err = -EHOSTUNREACH;
	for (at = list; at && err < 0 && err != -ECANCELED && err != -ETIMEDOUT; at = at->ai_next)
		err = connect_to(endpoint, at->ai_addr, at->ai_addrlen, until, ret_fd);
	freeaddrinfo(list);
	return err < 0 ? fail(endpoint, err, "connect to") : 0;
}

/* Nothing but what is connected, and a stream, will do. */
static int check_fd(const struct endpoint *endpoint)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer), size = sizeof(int);
	int fd = endpoint->address.fd, type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
	    getpeername(fd, (struct sockaddr *)&peer, &len) < 0)
		return fail(endpoint, -errno, "use");
	return type == SOCK_STREAM ? 0 : fail(endpoint, -EPROTOTYPE, "use");
}

/* A descriptor that the process was started with; a copy, to be closed as others are. */
static int take_fd(const struct endpoint *endpoint, int *ret_fd)
{
	int fd;

	if (endpoint->connections)
		return fail(endpoint, -ENOTSUP, "connect again to");
	fd = fcntl(endpoint->address.fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return fail(endpoint, -errno, "use");
	*ret_fd = fd;
	return 0;
}

/* --- listening --- */

/* The port that the system has chosen. */
static unsigned int port_of(int fd)
{
	union {
		struct sockaddr_in6 v6;
		struct sockaddr_in v4;
		struct sockaddr any;
	} at = {.v6 = {.sin6_port = 0}};
	socklen_t len = sizeof(at);

	if (getsockname(fd, &at.any, &len) < 0)
		return 0;
	return ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
}

static int listen_at(const struct addrinfo *at, int *ret_fd)
{
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, err;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
		*ret_fd = fd;
		return 0;
	}
	err = -errno;
	close(fd);
	return err;
}

static int listen_tcp(struct endpoint *endpoint)
{
	const struct addrinfo *at;
	struct addrinfo *list;
	int err = look_up(endpoint, AI_PASSIVE, ready_deadline(endpoint->silence_ms), &list);

	if (err < 0)
		return err;
	err = -EHOSTUNREACH;
	for (at = list; at && err < 0; at = at->ai_next)
		err = listen_at(at, &endpoint->listener);
	freeaddrinfo(list);
	if (err < 0)
		return fail(endpoint, err, "listen at");
	endpoint->address.port = port_of(endpoint->listener);
	return 0;
}

static int listen_unix(struct endpoint *endpoint)
{
	int err = socket_listen(endpoint->ctx, endpoint->address.path, &endpoint->name);

	if (err == 0)
		endpoint->listener = endpoint->name.fd;
	return err;
}

/* A stranger who says nothing is to leave time for who is waited for: a part of it. */
#define STRANGERS_PART 4u

/* Whether who has come to FD begins to speak. Who goes again at once wanted to know only whether
 * somebody listens. */
static int hear_first(const struct endpoint *endpoint, int fd)
{
	int err = wait_ready(endpoint, fd, POLLIN,
			     ready_deadline(endpoint->silence_ms / STRANGERS_PART + 1));
	char byte;

	if (err == 0 && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
		err = -EPIPE;
	return err;
}

static int accept_one(const struct endpoint *endpoint, uint64_t until, int *ret_fd)
{
	for (;;) {
		int err = wait_ready(endpoint, endpoint->listener, POLLIN, until), fd;

		if (err < 0)
			return err;
		fd = accept4(endpoint->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			err = hear_first(endpoint, fd);
			if (err == 0) {
				*ret_fd = fd;
				return 0;
			}
			close(fd);
			if (err == -ECANCELED)
				return err;
			continue;
		}
		/* Who came has gone again. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			return -errno;
	}
}

/* --- connections --- */

static int make_socket(const struct endpoint *endpoint, uint64_t until, int *ret_fd)
{
	int err, on = 1;

	switch (endpoint->address.kind) {
	case ADDRESS_FD:
		return take_fd(endpoint, ret_fd);
	case ADDRESS_UNIX:
		err = endpoint->listener < 0 ? connect_unix(endpoint, until, ret_fd)
					     : accept_one(endpoint, until, ret_fd);
		break;
	default:
		if (endpoint->listener < 0)
			err = connect_tcp(endpoint, until, ret_fd);
		else
			err = accept_one(endpoint, until, ret_fd);
		/* Requests and answers are short, and waited for. */
		if (err == 0)
			setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (endpoint->listener < 0)
			return err;
		break;
	}
	if (err == -ECANCELED)
		return impost_error_set(endpoint->ctx, err, "the migration was cancelled");
	return err ? fail(endpoint, err, endpoint->listener < 0 ? "connect to" : "accept at") : 0;
}

/* What was said last to who is refused is lost where something of it comes after the close. */
static void linger(const struct endpoint *endpoint, int fd)
{
	uint64_t until = ready_deadline(LINGER_MS);
	char bin[4096];

	shutdown(fd, SHUT_WR);
	while (wait_ready(endpoint, fd, POLLIN, until) == 0 && recv(fd, bin, sizeof(bin), 0) > 0)
		;
}

static int start_tls(const struct endpoint *endpoint, struct connection *connection)
{
	const bool listens = endpoint->listener >= 0;
	const struct tls_peer peer = {
		.fd = connection->fd,
		.host = listens ? NULL : endpoint->address.host,
		.stop = endpoint->stop,
		.timeout_ms = listens ? endpoint->silence_ms / STRANGERS_PART + 1
				      : endpoint->silence_ms,
	};
	int err;

	if (endpoint->address.kind != ADDRESS_TLS)
		return 0;
	err = tls_open(endpoint->ctx, endpoint->credentials, &peer, &connection->tls);
	if (err < 0 && !peer.host)
		linger(endpoint, connection->fd);
	return err;
}

static void describe(const struct connection *connection,
		     struct impost_migration_channel *ret_channel)
{
	*ret_channel = (struct impost_migration_channel){
		.size = sizeof(*ret_channel),
		.fd = connection->fd,
	};
	if (!connection->tls)
		return;
	ret_channel->fd = -1;
	ret_channel->read = tls_read;
	ret_channel->write = tls_write;
	ret_channel->opaque = connection->tls;
}

int endpoint_connect(struct endpoint *endpoint, uint32_t timeout_ms,
		     struct impost_migration_channel *ret_channel)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	uint64_t until = ready_deadline(timeout_ms);
	int err;

	if (!connection)
		return impost_error_set(endpoint->ctx, -ENOMEM, "no memory for a connection");
	connection->fd = -1;
	err = make_socket(endpoint, until, &connection->fd);
	if (err == 0)
		err = start_tls(endpoint, connection);
	if (err < 0) {
		if (connection->fd >= 0)
			close(connection->fd);
		free(connection);
		return err;
	}
	connection->next = endpoint->connections;
	endpoint->connections = connection;
	describe(connection, ret_channel);
	return 0;
}

bool endpoint_failure(const struct endpoint *endpoint, char *text, size_t size)
{
	const struct connection *at;

	for (at = endpoint->connections; at; at = at->next)
		if (at->tls && tls_failure(at->tls, text, size))
			return true;
	return false;
}

/* --- life --- */

static int open_kind(struct endpoint *endpoint, enum address_use use)
{
	int err = 0;

	if (endpoint->address.kind == ADDRESS_TLS)
		err = tls_credentials_read(endpoint->ctx, &endpoint->credentials);
	if (endpoint->address.kind == ADDRESS_FD)
		return check_fd(endpoint);
	if (err < 0 || use == ADDRESS_CONNECTS)
		return err;
	return endpoint->address.kind == ADDRESS_UNIX ? listen_unix(endpoint)
						      : listen_tcp(endpoint);
}

int endpoint_open(struct impost_context *ctx, const char *text, enum address_use use, int stop,
		  struct endpoint *endpoint)
{
	struct address address;
	uint64_t silence = 0;
	int err = address_parse(ctx, text, use, &address);

	if (err < 0)
		return err;
	impost_context_get_number(ctx, "migration", "silence", &silence);
	*endpoint = (struct endpoint){
		.ctx = ctx,
		.address = address,
		.stop = stop,
		.silence_ms = (uint32_t)silence * 1000,
		.listener = -1,
	};
	err = open_kind(endpoint, use);
	if (err < 0)
		endpoint_close(endpoint);
	return err;
}

void endpoint_drop(struct endpoint *endpoint)
{
	struct connection *next;

	for (struct connection *at = endpoint->connections; at; at = next) {
		next = at->next;
		tls_close(at->tls);
		close(at->fd);
		free(at);
	}
	endpoint->connections = NULL;
}

void endpoint_close(struct endpoint *endpoint)
{
	if (!endpoint->ctx)
		return;
	endpoint_drop(endpoint);
	if (endpoint->name.path)
		socket_remove(&endpoint->name);
	else if (endpoint->listener >= 0)
		close(endpoint->listener);
	tls_credentials_free(endpoint->credentials);
	*endpoint = (struct endpoint){.listener = -1};
}
