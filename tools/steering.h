/* SPDX-License-Identifier: Apache-2.0 */
/* What a run does when it is told so from outside, by its control socket: hold, save, tell, end. */
#ifndef TOOLS_STEERING_H
#define TOOLS_STEERING_H

#include <poll.h>
#include <stdbool.h>

#include "control.h"
#include "incoming.h"
#include "machine.h"
#include "saving.h"

/* What is polled: the socket, and the thread that is at work for it. */
#define STEERING_FDS (CONTROL_FDS + 1)

struct steering;

/* What requests are about. It outlives the control socket. */
struct steered {
	struct machine *machine;   /* need not have been created yet */
	struct saving *saving;	   /* need not have begun */
	struct incoming *incoming; /* may be one that nobody asked for */
};

/* Makes the control socket at PATH. Returns 0 or a negative error with its text on CTX. */
int steering_open(struct impost_context *ctx, const char *path, const struct steered *steered,
		  struct steering **ret_steering);

/* Ends what is under way and removes the socket. NULL is fine. */
void steering_close(struct steering *steering);

/* The guest runs from now on; it has come to its end, and its vCPUs have been stopped. */
void steering_begin(struct steering *steering);
void steering_end(struct steering *steering);

/* Fills in what is to be polled, and deals with what poll said. STEERING NULL: nothing. */
void steering_poll(const struct steering *steering, struct pollfd *fds);
void steering_serve(struct steering *steering, const struct pollfd *fds);

/* Whether the run is to end: somebody said "quit". */
bool steering_wants_end(const struct steering *steering);

/* Where the guest went, if it did; "" if not. STEERING NULL: "". */
const char *steering_destination(const struct steering *steering);

/* Whether the guest runs elsewhere, and needs memory that is still here (post-copy). */
bool steering_is_needed(struct steering *steering);

/* Whether something is under way that the end of the run should wait for. */
bool steering_is_busy(const struct steering *steering);

#endif
