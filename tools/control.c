// SPDX-License-Identifier: Apache-2.0
/* The clients of the control socket. None of them can hold up the run or have memory without end.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "json.h"
#include "request.h"
#include "socket.h"

/* Two: a reply to what came before may lie there when one to a save comes. */
#define OUT_SIZE ((size_t)2 * REPLY_MAX)

struct client {
	int fd; /* -1: this place is free */
	uint64_t number;
	unsigned int owed; /* replies */
	bool ended;	   /* it sends nothing more, or is not listened to any more */
	size_t in_count;
	size_t out_count;
	char in[REQUEST_MAX];
	char out[OUT_SIZE];
};

struct control {
	struct socket_name name;
	int spare; /* a descriptor to give up when there are no others: see turn_away() */
	uint64_t numbers;
	control_line_fn line;
	void *opaque;
	struct client clients[CONTROL_CLIENTS];
};

int control_open(struct impost_context *ctx, const char *path, control_line_fn line, void *opaque,
		 struct control **ret_control)
{
	struct control *control = calloc(1, sizeof(*control));
	int err;

	if (!control)
		return impost_error_set(ctx, -ENOMEM, "no memory for the control socket");
	err = socket_listen(ctx, path, &control->name);
	if (err < 0) {
		free(control);
		return err;
	}
	control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	control->line = line;
	control->opaque = opaque;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		control->clients[i].fd = -1;
	*ret_control = control;
	return 0;
}

static void hang_up(struct client *client)
{
	close(client->fd);
	client->fd = -1;
}

/* Sends what the client takes. */
static void flush(struct client *client)
{
	ssize_t sent;

	if (!client->out_count)
		return;
	sent = send(client->fd, client->out, client->out_count, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0) {
		if (errno != EAGAIN && errno != EINTR)
			hang_up(client);
		return;
	}
	client->out_count -= (size_t)sent;
	memmove(client->out, client->out + sent, client->out_count);
}

void control_close(struct control *control)
{
	if (!control)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *client = &control->clients[i];

		if (client->fd >= 0)
			flush(client);
		if (client->fd >= 0)
			hang_up(client);
	}
	socket_remove(&control->name);
	if (control->spare >= 0)
		close(control->spare);
	free(control);
}

static bool has_line(const struct client *client)
{
	return memchr(client->in, '\n', client->in_count) != NULL;
}

/* It wants nothing more, and has got all that it wanted. */
static void hang_up_if_over(struct client *client)
{
	if (client->fd >= 0 && client->ended && !client->owed && !client->out_count &&
	    !has_line(client))
		hang_up(client);
}

/* --- what goes out --- */

/* Returns false when it does not fit, or there is no memory. Releases OBJECT. */
static bool put(struct client *client, struct json_object *object)
{
	size_t len;
	char *line = json_line(object, &len);
	bool fits = line && len <= OUT_SIZE - client->out_count;

	if (fits) {
		memcpy(client->out + client->out_count, line, len);
		client->out_count += len;
	}
	free(line);
	json_object_put(object);
	return fits;
}

/* The client, if it is still there. */
static struct client *find(struct control *control, struct control_peer peer)
{
	struct client *client = &control->clients[peer.place];

	return client->fd >= 0 && client->number == peer.number ? client : NULL;
}

void control_reply(struct control *control, struct control_peer peer, struct json_object *object)
{
	struct client *client = find(control, peer);

	if (!client) {
		json_object_put(object);
		return;
	}
	client->owed--;
	if (put(client, object))
		flush(client);
	else
		hang_up(client);
	hang_up_if_over(client);
}

void control_tell(struct control *control, struct control_peer peer, struct json_object *object)
{
	struct client *client = find(control, peer);

	if (!client || client->out_count) {
		json_object_put(object);
		return;
	}
	put(client, object);
	flush(client);
}

/* --- what comes in --- */

static struct control_peer peer_of(const struct control *control, const struct client *client)
{
	return (struct control_peer){(unsigned int)(client - control->clients), client->number};
}

/* Hands out the lines that are whole. A client that does not read its replies is not served: what
 * it has to send waits in the socket. */
static void take_lines(struct control *control, struct client *client)
{
	char *newline;

	while (client->fd >= 0 && !client->out_count &&
	       (newline = memchr(client->in, '\n', client->in_count)) != NULL) {
		size_t len = (size_t)(newline - client->in);

		client->owed++;
		control->line(control->opaque, peer_of(control, client), client->in, len);
		client->in_count -= len + 1;
		memmove(client->in, newline + 1, client->in_count);
	}
}

/* Tells a client why it is not served, if it can be told at once, and hangs up. */
static void send_away(int fd, int err, const char *text)
{
	static const struct request none;
	struct json_object *object = reply_error(&none, err, text);
	size_t len;
	char *line = json_line(object, &len);

	if (line)
		send(fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(line);
	json_object_put(object);
	close(fd);
}

static void receive(struct control *control, struct client *client)
{
	ssize_t count = recv(client->fd, client->in + client->in_count,
			     sizeof(client->in) - client->in_count, MSG_DONTWAIT);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count < 0) {
		hang_up(client);
		return;
	}
	client->ended = count == 0;
	client->in_count += (size_t)count;
	take_lines(control, client);
	if (client->fd >= 0 && client->in_count == sizeof(client->in) && !has_line(client)) {
		send_away(client->fd, -EMSGSIZE, "this line is too long for a request");
		client->fd = -1;
	}
}

/* --- who comes and goes --- */

static struct client *free_place(struct control *control)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].fd < 0)
			return &control->clients[i];
	return NULL;
}

/*
 * Without a descriptor for it a client cannot even be sent away, and poll would tell of it again
 * and again. So there is one in reserve.
 */
static void turn_away(struct control *control)
{
	int fd;

	if (control->spare >= 0)
		close(control->spare);
	fd = accept4(control->name.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void welcome(struct control *control)
{
	int fd = accept4(control->name.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			turn_away(control);
		return;
	}
	client = free_place(control);
	if (!client) {
		send_away(fd, -EUSERS, "there are too many clients already");
		return;
	}
	client->fd = fd;
	client->number = ++control->numbers;
	client->owed = 0;
	client->ended = false;
	client->in_count = 0;
	client->out_count = 0;
}

void control_poll(const struct control *control, struct pollfd *fds)
{
	for (size_t i = 0; i < CONTROL_FDS; i++)
		fds[i] = (struct pollfd){.fd = -1};
	if (!control)
		return;
	fds[0] = (struct pollfd){.fd = control->name.fd, .events = POLLIN};
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		const struct client *client = &control->clients[i];
		short events = client->out_count || has_line(client) ? POLLOUT
			       : client->ended			     ? 0
								     : POLLIN;

		/* Of one that has ended and is owed a reply there is nothing to be told. */
		fds[i + 1] = (struct pollfd){.fd = events ? client->fd : -1, .events = events};
	}
}

static void serve(struct control *control, struct client *client, short events)
{
	if (events & (POLLOUT | POLLHUP | POLLERR)) /* of one that is gone, send's error tells */
		flush(client);
	if (client->fd >= 0)
		take_lines(control, client); /* those that waited for room */
	if (client->fd >= 0 && events & (POLLIN | POLLHUP | POLLERR) && !client->out_count)
		receive(control, client);
	hang_up_if_over(client);
}

void control_serve(struct control *control, const struct pollfd *fds)
{
	if (!control)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].fd >= 0 && fds[i + 1].fd == control->clients[i].fd &&
		    fds[i + 1].revents)
			serve(control, &control->clients[i], fds[i + 1].revents);
	if (fds[0].revents)
		welcome(control);
}
