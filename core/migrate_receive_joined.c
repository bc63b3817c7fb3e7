/* SPDX-License-Identifier: Apache-2.0 */
/* Further connections that memory comes on: each has a thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "context.h"
#include "crew.h"
#include "migrate_receive.h"

struct joiner {
	struct joined *joined;
	struct link *link;
	struct intake *intake;
	pthread_t thread;
};

struct joined {
	struct impost_migration *migration;
	struct impost_context *ctx;
	/* Ends the threads' waiting. They do not hear the migration's, which is theirs to use when
	 * one fails: then the thread of receive is to stop waiting. */
	struct cancel cancel;
	uint32_t count;
	struct joiner joiners[MIGRATE_CONNECTIONS_MOST];
	pthread_mutex_t lock; /* what follows */
	bool closed;	      /* no memory is taken any more */
	uint32_t busy;	      /* that are taking some */
	int err;	      /* the first */
	char text[1024];
};

/* --- a connection's thread --- */

/* Begins to touch guest memory; false: it is too late. */
static bool enter(struct joined *joined)
{
	bool open;

	pthread_mutex_lock(&joined->lock);
	open = !joined->closed;
	joined->busy += open;
	pthread_mutex_unlock(&joined->lock);
	return open;
}

static void leave(struct joined *joined)
{
	pthread_mutex_lock(&joined->lock);
	joined->busy--;
	pthread_mutex_unlock(&joined->lock);
}

/* Keeps the first error, and has the thread of receive look. */
static void fail(struct joined *joined, int err)
{
	bool first;

	pthread_mutex_lock(&joined->lock);
	first = !joined->closed && !joined->err && !atomic_load(&joined->cancel.wanted);
	if (first) {
		joined->err = err;
		snprintf(joined->text, sizeof(joined->text), "%s", impost_error(joined->ctx));
	}
	pthread_mutex_unlock(&joined->lock);
	if (first)
		impost_migration_cancel(joined->migration);
}

static int go_on(struct receiving *receiving)
{
	return atomic_load(&receiving->migration->joined->cancel.wanted) ? -ECANCELED : 0;
}

/* A request; how long the first connection may be silent, and with it the source, is for the thread
 * of receive to see. */
static int read_head(struct link *link, struct wire_head *head)
{
	int err;

	do
		err = link_read(link, head, 1);
	while (err == -ETIMEDOUT);
	if (!err)
		err = link_read(link, (uint8_t *)head + 1, sizeof(*head) - 1);
	return err ? err : wire_check_request(link, head);
}

static int take_request(struct joiner *joiner)
{
	struct wire_head head;
	int err = read_head(joiner->link, &head);

	if (err)
		return err;
	if (head.code != WIRE_MEMORY)
		return impost_error_set(joiner->joined->ctx, -EPROTO,
					"the source says %s on a further connection, which is for "
					"memory",
					wire_command_name(head.code));
	if (!enter(joiner->joined))
		return -ECANCELED;
	err = intake_memory(joiner->intake, &head, go_on);
	/* Before the answer, behind which Complete may come. */
	leave(joiner->joined);
	return err ? err : wire_answer_ok(joiner->link);
}

static void *serve(void *opaque)
{
	struct joiner *joiner = opaque;
	int err;

	do
		err = take_request(joiner);
	while (!err);
	fail(joiner->joined, err);
	return NULL;
}

/* --- joining --- */

/* -EAGAIN: the first connection has something to say. */
static int look_at_first(struct receiving *receiving)
{
	int err = migrate_tell(receiving->migration);

	if (!err && receiving->link->channel.fd >= 0)
		err = link_wait(receiving->link, 0);
	return err > 0 ? -EAGAIN : err;
}

static int none_came(const struct receiving *receiving)
{
	return impost_error_set(receiving->ctx, -ETIMEDOUT,
				"the source's further connections have not come within %u ms, but "
				"others",
				receiving->migration->config.silence_ms);
}

/* What is said first on LINK. */
static int read_join(struct receiving *receiving, struct link *link)
{
	uint8_t token[WIRE_TOKEN];
	struct wire_head head;
	int err = wire_read_request(link, &head);

	if (!err && head.code == WIRE_JOIN)
		err = link_read(link, token, sizeof(token));
	if (!err &&
	    (head.code != WIRE_JOIN || memcmp(token, receiving->config.token, sizeof(token)) != 0))
		err = impost_error_set(receiving->ctx, -EPROTO,
				       "a further connection is none of this migration: it does "
				       "not begin with Join and the token of Config");
	return err;
}

/* Whether who has come is the source. Who is not is sent away: -EAGAIN. */
static int take_join(struct receiving *receiving, struct link *link)
{
	const uint32_t silence_ms = link->silence_ms;
	int err;

	link->silence_ms = silence_ms / MIGRATE_STRANGERS_PART + 1;
	err = read_join(receiving, link);
	link->silence_ms = silence_ms;
	if (!err)
		err = wire_answer_ok(link);
	if (!err || err == -ECANCELED)
		return err;
	context_log(receiving->ctx, IMPOST_LOG_WARN,
		    "a further connection of a migration was dropped: %s",
		    impost_error(receiving->ctx));
	migrate_disconnect(receiving->migration, link, impost_error(receiving->ctx));
	return -EAGAIN;
}

/* Another connection of the source's. -EAGAIN: the first one has something to say. */
static int get_link(struct receiving *receiving, struct link **ret_link)
{
	struct impost_migration *migration = receiving->migration;
	const uint64_t until = clock_now_ns() + UINT64_C(1000000) * migration->config.silence_ms;
	int err;

	for (;;) {
		err = migrate_connect(migration, RECEIVE_SLICE_MS, ret_link);
		if (!err)
			err = take_join(receiving, *ret_link);
		if (err != -ETIMEDOUT && err != -EAGAIN)
			return err;
		if (clock_now_ns() >= until)
			return err == -ETIMEDOUT ? err : none_came(receiving);
		err = look_at_first(receiving);
		if (err)
			return err;
	}
}

static int add_one(struct receiving *receiving, struct joined *joined)
{
	struct joiner *joiner = &joined->joiners[joined->count];
	int err = get_link(receiving, &joiner->link);

	if (!err)
		err = intake_create(receiving, joiner->link, &joiner->intake);
	if (err)
		return err;
	joiner->joined = joined;
	joiner->link->cancel = &joined->cancel;
	err = crew_start(&joiner->thread, serve, joiner);
	if (err) {
		intake_free(joiner->intake);
		return impost_error_set(receiving->ctx, -err, "no thread for a connection: %s",
					strerror(err));
	}
	joined->count++;
	return 0;
}

static int create(struct receiving *receiving, struct joined **ret_joined)
{
	struct joined *joined = calloc(1, sizeof(*joined));

	if (!joined)
		return impost_error_set(receiving->ctx, -ENOMEM, "no memory for connections");
	joined->migration = receiving->migration;
	joined->ctx = receiving->ctx;
	joined->cancel.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (joined->cancel.fd < 0) {
		int err = -errno;

		free(joined);
		return impost_error_set(receiving->ctx, err, "eventfd: %s", strerror(-err));
	}
	pthread_mutex_init(&joined->lock, NULL);
	*ret_joined = joined;
	return 0;
}

int joined_begin(struct receiving *receiving)
{
	int err = create(receiving, &receiving->migration->joined);

	for (uint32_t i = 1; !err && i < receiving->config.connections; i++)
		err = add_one(receiving, receiving->migration->joined);
	return err;
}

/* Has all threads end soon. */
static void wake(struct joined *joined)
{
	atomic_store(&joined->cancel.wanted, true);
	eventfd_write(joined->cancel.fd, 1);
}

int joined_close(struct joined *joined)
{
	int err = 0;

	if (!joined)
		return 0;
	pthread_mutex_lock(&joined->lock);
	if (joined->err)
		err = impost_error_set(joined->ctx, joined->err, "%s", joined->text);
	else if (joined->busy)
		err = impost_error_set(joined->ctx, -EPROTO,
				       "the source says Complete while memory comes on another "
				       "connection");
	joined->closed = !err;
	pthread_mutex_unlock(&joined->lock);
	if (!err)
		wake(joined);
	return err;
}

int joined_stop(struct joined *joined, int err)
{
	if (!joined)
		return err;
	wake(joined);
	for (uint32_t i = 0; i < joined->count; i++) {
		pthread_join(joined->joiners[i].thread, NULL);
		intake_free(joined->joiners[i].intake);
	}
	joined->count = 0;
	/* It is not the host that has cancelled. */
	if (err == -ECANCELED && joined->err)
		return impost_error_set(joined->ctx, joined->err, "%s", joined->text);
	return err;
}

void joined_free(struct joined *joined)
{
	if (!joined)
		return;
	/* A fork has no such threads, and what wakes them is its parent's. */
	if (!context_forked(joined->ctx))
		joined_stop(joined, 0);
	close(joined->cancel.fd);
	pthread_mutex_destroy(&joined->lock);
	free(joined);
}
