// SPDX-License-Identifier: Apache-2.0
/*
 * getaddrinfo(3) in a thread of its own, which cannot be ended, and is not waited for when time is
 * up: then it frees what it has found.
 */
#include "lookup.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ready.h"

/* What the thread and who waits for it have in common. */
struct query {
	atomic_uint users;
	int done; /* eventfd */
	char *host;
	char port[8];
	struct addrinfo hints;
	int result; /* getaddrinfo's; EAI_SYSTEM: and ERR */
	int err;
	struct addrinfo *list;
};

static void release(struct query *query)
{
	if (atomic_fetch_sub(&query->users, 1) != 1)
		return;
	if (query->list)
		freeaddrinfo(query->list);
	if (query->done >= 0)
		close(query->done);
	free(query->host);
	free(query);
}

static void ask(struct query *query)
{
	query->result = getaddrinfo(query->host, query->port, &query->hints, &query->list);
	query->err = query->result == EAI_SYSTEM ? -errno : 0;
	if (query->result)
		query->list = NULL;
}

static void *ask_thread(void *opaque)
{
	struct query *query = opaque;

	ask(query);
	eventfd_write(query->done, 1);
	release(query);
	return NULL;
}

static struct query *make(const struct lookup *what)
{
	struct query *query = calloc(1, sizeof(*query));

	if (!query)
		return NULL;
	query->users = 1;
	query->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	query->host = strdup(what->host);
	snprintf(query->port, sizeof(query->port), "%u", what->port);
	query->hints = (struct addrinfo){
		.ai_flags = AI_NUMERICSERV | what->flags,
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	if (query->host && query->done >= 0)
		return query;
	release(query);
	return NULL;
}

/* Signals are for others. */
static int start(struct query *query)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;
	int err;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setsigmask_np(&attr, &all);
	atomic_fetch_add(&query->users, 1);
	err = -pthread_create(&thread, &attr, ask_thread, query);
	if (err)
		atomic_fetch_sub(&query->users, 1);
	pthread_attr_destroy(&attr);
	return err;
}

static int judge(struct impost_context *ctx, struct query *query, struct addrinfo **ret_list)
{
	if (query->result == 0) {
		*ret_list = query->list;
		query->list = NULL;
		return 0;
	}
	if (query->result == EAI_SYSTEM)
		return impost_error_set(ctx, query->err, "cannot look up %s: %s", query->host,
					strerror(-query->err));
	return impost_error_set(ctx, query->result == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH,
				"cannot look up %s: %s", query->host, gai_strerror(query->result));
}

static int wait_for(struct impost_context *ctx, const struct lookup *what, struct query *query,
		    struct addrinfo **ret_list)
{
	int err = start(query), ready;

	if (err)
		return impost_error_set(ctx, err, "cannot start a thread: %s", strerror(-err));
	ready = ready_wait(query->done, what->stop, POLLIN, what->until);
	if (ready > 0)
		return judge(ctx, query, ret_list);
	if (ready == -ECANCELED)
		return impost_error_set(ctx, ready, "the migration was cancelled");
	err = ready ? ready : -ETIMEDOUT;
	return impost_error_set(ctx, err, "cannot look up %s: %s", what->host, strerror(-err));
}

int lookup(struct impost_context *ctx, const struct lookup *what, struct addrinfo **ret_list)
{
	struct query *query = make(what);
	int err;

	if (!query)
		return impost_error_set(ctx, -ENOMEM, "cannot look up %s: %s", what->host,
					strerror(ENOMEM));
	query->hints.ai_flags |= AI_NUMERICHOST;
	ask(query);
	if (query->result == 0) {
		err = judge(ctx, query, ret_list);
	} else {
		query->hints.ai_flags &= ~AI_NUMERICHOST;
		err = wait_for(ctx, what, query, ret_list);
	}
	release(query);
	return err;
}
