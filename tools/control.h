/* SPDX-License-Identifier: Apache-2.0 */
/* A UNIX socket that other processes of the user speak to this one by: a line in, lines out. */
#ifndef TOOLS_CONTROL_H
#define TOOLS_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/context.h>
#include <json-c/json.h>

/* Clients at a time; others are told so and sent away. */
#define CONTROL_CLIENTS 8u
/* What control_poll() fills. */
#define CONTROL_FDS (CONTROL_CLIENTS + 1)

/* A client, for as long as it is connected: a place is given to others later. */
struct control_peer {
	unsigned int place;
	uint64_t number; /* never given twice */
};

/*
 * A line came, of LEN bytes without its newline, and is not to be kept. Every call is to be
 * followed by one control_reply(), now or later. Lines longer than REQUEST_MAX never come: such a
 * client is told and cut off.
 */
typedef void (*control_line_fn)(void *opaque, struct control_peer peer, const char *line,
				size_t len);

struct control;

/*
 * Makes the socket at PATH, with mode 0600, and listens. What is left of a process that is gone
 * makes room; a socket that somebody listens at, or a file of another kind, is an error. Returns 0
 * or a negative error with its text on CTX. The process has no other thread yet that makes files.
 */
int control_open(struct impost_context *ctx, const char *path, control_line_fn line, void *opaque,
		 struct control **ret_control);

/* Sends what can be sent at once, hangs up, and removes the socket, if it is still ours. NULL is
 * fine. */
void control_close(struct control *control);

/* Fills in what is to be polled. CONTROL NULL: nothing. */
void control_poll(const struct control *control, struct pollfd *fds);

/* Deals with what poll said. Does not block. */
void control_serve(struct control *control, const struct pollfd *fds);

/* Sends a reply, or a line before it, which is dropped where the client does not read fast enough.
 * Both release OBJECT. A peer that is gone is fine. */
void control_reply(struct control *control, struct control_peer peer, struct json_object *object);
void control_tell(struct control *control, struct control_peer peer, struct json_object *object);

#endif
