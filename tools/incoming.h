/* SPDX-License-Identifier: Apache-2.0 */
/* `impost run --incoming`: a run that begins with a guest that comes from elsewhere. */
#ifndef TOOLS_INCOMING_H
#define TOOLS_INCOMING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "machine.h"
#include "migration.h"
#include "tool.h"

struct incoming {
	struct migration migration; /* first: it is what callbacks get */
	struct machine *machine;
	struct impost_vm_config vm_config;
	pthread_t thread;
	bool started;
	int wake;	     /* eventfd: the guest is there, or will not come */
	atomic_bool seen;    /* somebody has connected */
	atomic_bool over;    /* see incoming_is_over() */
	atomic_bool at_rest; /* the thread has nothing more to do */
	int stir;	     /* eventfd: look at what follows */
	atomic_bool settled; /* no memory will come any more */
	atomic_bool quits;   /* nor is it waited for */
	struct impost_vm *vm;
	int err;
	char text[1024]; /* of ERR */
};

/*
 * Checks the options, and listens; does nothing when none asks for it. Returns STATUS_OK or another
 * status, with a message printed. _close() follows in any case.
 */
int incoming_open(struct incoming *incoming, const struct invocation *invocation,
		  struct machine *machine);
void incoming_close(struct incoming *incoming);

/* Whether --incoming was given. */
static inline bool incoming_is_wanted(const struct invocation *invocation)
{
	return invocation_has(invocation, OPTION_INCOMING);
}

/* Begins to wait, in a thread, and says so on standard error. Returns 0 or a negative error with
 * its text on the context. */
int incoming_start(struct incoming *incoming);

/* Whether the wait is over, one way or the other; INCOMING.wake tells when. Then _take() gives the
 * guest to the machine. Returns 0 or a negative error with its text on the context. */
bool incoming_is_over(const struct incoming *incoming);
int incoming_take(struct incoming *incoming);

/* Ends it, and waits for that. Of a guest that runs, and some of whose memory has not come, it is
 * said that it is lost. */
void incoming_cancel(struct incoming *incoming);

/* Whether memory of a guest that runs is still coming (post-copy). */
bool incoming_is_filling(const struct incoming *incoming);

#endif
