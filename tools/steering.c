// SPDX-License-Identifier: Apache-2.0
/*
 * Requests to a run, carried out. What can take long is done by a thread of its own, one at a time,
 * so that the guest's output, which a hold may have to wait for, goes on being written.
 */
#include "steering.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "json.h"
#include "outgoing.h"
#include "request.h"
#include "tool.h"

/* For a vCPU that does not come because nobody reads what its guest writes, in milliseconds. */
#define HOLD_TIMEOUT 10000u

/* A command: what it needs, and what carries it out. */
struct action {
	bool takes_long; /* a thread does it; there is one, so that it waits for no other either */
	bool alone;	 /* not while the thread is at work */
	bool alive;	 /* not when the guest has come to its end, or has not come yet */
	/* Adds members to the reply. Returns 0 or a negative error with its text on the context. */
	int (*perform)(struct steering *steering, const struct request *request,
		       struct json_object *reply);
};

/* What the thread is at. */
struct work {
	const struct action *action;
	struct request request;
	struct control_peer peer;
	pthread_t thread;
	struct json_object *reply;
	int err;
	char text[1024]; /* of ERR */
	atomic_bool over;
	atomic_bool cancelled;
	_Atomic uint64_t done, total; /* bytes; total 0: nothing to tell */
	atomic_bool migrates;	      /* so that there is more to tell */
};

struct steering {
	struct impost_context *ctx;
	struct control *control;
	struct machine *machine;
	struct saving *saving;
	struct incoming *incoming;
	struct outgoing outgoing;
	char *path;
	uint64_t begin;	   /* CLOCK_MONOTONIC, in ns; 0: the guest is not there yet */
	atomic_bool ended; /* this and PAUSED the thread looks at, too */
	atomic_bool paused;
	bool wants_end;
	bool unsettled; /* nobody knows whether the guest is elsewhere: it stands */
	bool moved;	/* it is */
	bool busy;	/* WORK is under way */
	int wake;	/* eventfd, of the thread's: it has something to tell */
	struct work work;
};

/* --- what can be asked for --- */

static const char *state_name(const struct steering *steering)
{
	if (!steering->begin)
		return atomic_load(&steering->incoming->seen) ? "receiving" : "waiting";
	if (atomic_load(&steering->ended))
		return "ended";
	if (steering->unsettled)
		return "unsettled";
	return atomic_load(&steering->paused) ? "paused" : "running";
}

/* Of those that there were, the one that matters now. */
static struct json_object *describe_migration(struct steering *steering)
{
	struct json_object *out = migration_describe(&steering->outgoing.migration);

	return out ? out : migration_describe(&steering->incoming->migration);
}

/* What is to be done when nobody here knows where the guest is, in SIZE bytes. */
static void explain_settling(const struct steering *steering, char *text, size_t size)
{
	snprintf(
		text, size,
		"whether the guest arrived at %s is not known, and it stands here. Look there; then "
		"'impost ctl %s settle leave' if it did, or 'impost ctl %s settle keep' if it did "
		"not",
		steering->outgoing.migration.where, steering->path, steering->path);
}

static void add_settling(const struct steering *steering, struct json_object *reply)
{
	char text[1024];

	explain_settling(steering, text, sizeof(text));
	json_add_string(reply, "settle", text);
}

/* What there is to be told of a guest alone. */
static void tell_machine(const struct steering *steering, struct json_object *reply)
{
	const struct impost_vm *vm = steering->machine->vm;

	json_add_string(reply, "backend", impost_vm_backend(vm));
	json_add_uint(reply, "cpus", steering->machine->ncpus);
	json_add_uint(reply, "memory", impost_vm_config(vm)->memory);
	json_add_uint(reply, "uptime_ms", (clock_now_ns() - steering->begin) / 1000000);
}

/* The snapshot that the next one can be a diff to, or NULL. */
static struct json_object *describe_saved(const struct saving *saving)
{
	struct json_object *object;
	char digest[SAVING_DIGEST_TEXT];

	if (!saving->file)
		return NULL;
	object = json_object_new_object();
	saving_digest_text(saving->digest, digest);
	json_add_string(object, "file", saving->file);
	json_add_string(object, "digest", digest);
	json_add_bool(object, "diff", saving->is_diff);
	json_add_bool(object, "restored", saving->is_restored);
	json_add_uint(object, "age_ms", (clock_now_ns() - saving->at) / 1000000);
	json_add_bool(object, "tracked", saving->dirty != NULL);
	return object;
}

static int tell_status(struct steering *steering, const struct request *request,
		       struct json_object *reply)
{
	(void)request;
	json_add_string(reply, "state", state_name(steering));
	json_add_string(reply, "busy",
			steering->busy ? request_name(steering->work.request.command) : NULL);
	if (steering->begin)
		tell_machine(steering, reply);
	json_object_object_add(reply, "migration", describe_migration(steering));
	if (steering->unsettled)
		add_settling(steering, reply);
	json_add_uint(reply, "pid", (uint64_t)getpid());
	json_add_string(reply, "version", impost_version());
	json_add_uint(reply, "protocol", REQUEST_PROTOCOL);
	/* While it is being written, what is known of the last one changes. */
	if (!steering->busy && steering->begin)
		json_object_object_add(reply, "saved", describe_saved(steering->saving));
	return 0;
}

/* To be paused twice is to be paused. */
static int pause_vm(struct steering *steering, const struct request *request,
		    struct json_object *reply)
{
	int err;

	(void)request;
	if (!atomic_load(&steering->paused)) {
		machine_quiet(steering->machine, true);
		err = impost_vm_hold(steering->machine->vm, HOLD_TIMEOUT);
		if (err < 0) {
			machine_quiet(steering->machine, false);
			return err;
		}
		atomic_store(&steering->paused, true);
	}
	json_add_string(reply, "state", state_name(steering));
	return 0;
}

static int resume_vm(struct steering *steering, const struct request *request,
		     struct json_object *reply)
{
	int err;

	(void)request;
	if (atomic_load(&steering->paused)) {
		err = impost_vm_release(steering->machine->vm);
		if (err < 0)
			return err;
		atomic_store(&steering->paused, false);
		machine_quiet(steering->machine, false);
	}
	json_add_string(reply, "state", state_name(steering));
	return 0;
}

/* Called by the saving thread, which it must not hold up. */
static int on_progress(void *opaque, uint64_t done, uint64_t total)
{
	struct steering *steering = opaque;
	struct work *work = &steering->work;
	uint64_t before = atomic_load(&work->done);

	if (atomic_load(&work->cancelled))
		return 1;
	if (done < total && done - before < total / 100)
		return 0;
	atomic_store(&work->total, total);
	atomic_store(&work->done, done);
	eventfd_write(steering->wake, 1);
	return 0;
}

static int save(struct steering *steering, const struct request *request, struct json_object *reply)
{
	struct impost_snapshot_saved saved;
	char digest[SAVING_DIGEST_TEXT];
	uint64_t begin = clock_now_ns();
	int err = saving_save(steering->saving, request->file, request->base, on_progress, steering,
			      &saved);

	if (err < 0)
		return err;
	saving_digest_text(saved.digest, digest);
	json_add_string(reply, "file", request->file);
	json_add_string(reply, "digest", digest);
	json_add_bool(reply, "diff", request->base != NULL);
	json_add_bool(reply, "background", saved.flags & IMPOST_SNAPSHOT_BACKGROUND);
	json_add_uint(reply, "ms", (clock_now_ns() - begin) / 1000000);
	json_add_uint(reply, "held_us", saved.held_ns / 1000);
	json_add_uint(reply, "file_bytes", saved.file_bytes);
	json_add_uint(reply, "data_bytes", saved.data_bytes);
	json_add_uint(reply, "zero_bytes", saved.zero_bytes);
	return 0;
}

/* --- migrating --- */

/* By the thread that sends, ten times a second. */
static void on_told(void *opaque)
{
	struct steering *steering = opaque;

	atomic_store(&steering->work.migrates, true);
	eventfd_write(steering->wake, 1);
}

static int migrate(struct steering *steering, const struct request *request,
		   struct json_object *reply)
{
	return outgoing_send(&steering->outgoing, request, reply);
}

/* Of what is under way, the last that was begun. */
static int cancel_migration(struct steering *steering, const struct request *request,
			    struct json_object *reply)
{
	(void)request;
	(void)reply;
	if (steering_is_needed(steering))
		return impost_error_set(
			steering->ctx, -EBUSY,
			"the guest runs elsewhere already, and needs memory that is "
			"still here: this cannot be cancelled any more");
	if (steering->busy && steering->work.request.command == REQUEST_MIGRATE) {
		migration_cancel(&steering->outgoing.migration);
		return 0;
	}
	if (!steering->begin) {
		migration_cancel(&steering->incoming->migration);
		return 0;
	}
	return impost_error_set(steering->ctx, -ENOENT, "there is no migration that is under way");
}

static int settle(struct steering *steering, const struct request *request,
		  struct json_object *reply)
{
	int err;

	if (!steering->unsettled)
		return impost_error_set(steering->ctx, -ENOENT, "there is nothing to be settled");
	err = outgoing_settle(&steering->outgoing, request->what);
	if (err < 0)
		return err;
	steering->unsettled = false;
	steering->moved = strcmp(request->what, "leave") == 0;
	json_add_string(reply, "state", steering->moved ? "ended" : state_name(steering));
	return 0;
}

static int quit(struct steering *steering, const struct request *request, struct json_object *reply)
{
	(void)request;
	(void)reply;
	if (steering_is_needed(steering))
		return impost_error_set(steering->ctx, -EBUSY,
					"the guest runs elsewhere, and needs memory that is still "
					"here: this ends when it is there");
	steering->wants_end = true;
	return 0;
}

static const struct action actions[REQUEST_COMMANDS] = {
	[REQUEST_STATUS] = {.perform = tell_status},
	[REQUEST_PAUSE] = {.takes_long = true, .alone = true, .alive = true, .perform = pause_vm},
	[REQUEST_RESUME] = {.alone = true, .alive = true, .perform = resume_vm},
	[REQUEST_SAVE] = {.takes_long = true, .alone = true, .alive = true, .perform = save},
	[REQUEST_MIGRATE] = {.takes_long = true, .alone = true, .alive = true, .perform = migrate},
	[REQUEST_MIGRATE_CANCEL] = {.perform = cancel_migration},
	[REQUEST_SETTLE] = {.alive = true, .perform = settle},
	[REQUEST_QUIT] = {.perform = quit},
};

/* --- carrying it out --- */

static void *work_thread(void *opaque)
{
	struct steering *steering = opaque;
	struct work *work = &steering->work;

	work->err = work->action->perform(steering, &work->request, work->reply);
	if (work->err < 0) /* the context has a text for each thread */
		snprintf(work->text, sizeof(work->text), "%s", impost_error(steering->ctx));
	atomic_store(&work->over, true);
	eventfd_write(steering->wake, 1);
	return NULL;
}

/* Hands REQUEST over to a thread. REPLY is released there, unless this fails. */
static int start_work(struct steering *steering, struct control_peer peer, struct request *request,
		      struct json_object *reply)
{
	struct work *work = &steering->work;
	int err;

	work->action = &actions[request->command];
	work->request = *request;
	work->peer = peer;
	work->reply = reply;
	*work->text = '\0';
	atomic_store(&work->over, false);
	atomic_store(&work->cancelled, false);
	atomic_store(&work->done, 0);
	atomic_store(&work->total, 0);
	atomic_store(&work->migrates, false);
	migration_rearm(&steering->outgoing.migration);
	err = pthread_create(&work->thread, NULL, work_thread, steering);
	if (err)
		return impost_error_set(steering->ctx, -err, "cannot start a thread: %s",
					strerror(err));
	*request = (struct request){0};
	steering->busy = true;
	return 0;
}

/* What a migration's end means for the run. */
static void judge_migration(struct steering *steering)
{
	struct work *work = &steering->work;
	struct impost_migration_status status;
	size_t len;

	if (work->err == -ECANCELED && atomic_load(&steering->ended)) {
		snprintf(work->text, sizeof(work->text),
			 "the guest has come to its end here: there is nothing to be moved");
		work->err = -ESHUTDOWN;
	}
	steering->moved = work->err == 0;
	steering->unsettled = work->err == -IMPOST_EUNSETTLED;
	migration_get_status(&steering->outgoing.migration, &status);
	if (status.state == IMPOST_MIGRATION_LOST)
		complain("the guest is lost: %s", work->text);
	if (!steering->unsettled)
		return;
	len = strlen(work->text);
	snprintf(work->text + len, sizeof(work->text) - len, "%s", len ? ": " : "");
	len = strlen(work->text);
	explain_settling(steering, work->text + len, sizeof(work->text) - len);
	complain("%s", work->text);
}

/* Waits for the thread and sends its reply. */
static void finish_work(struct steering *steering)
{
	struct work *work = &steering->work;
	bool migrated = work->request.command == REQUEST_MIGRATE;

	pthread_join(work->thread, NULL);
	steering->busy = false;
	if (migrated)
		judge_migration(steering);
	if (work->err < 0) {
		json_object_put(work->reply);
		work->reply = reply_error(&work->request, work->err, work->text);
		if (migrated)
			outgoing_add_reasons(&steering->outgoing, work->reply);
	}
	control_reply(steering->control, work->peer, work->reply);
	request_release(&work->request);
}

/* Whether ACTION can be now. */
static int check(const struct steering *steering, const struct action *action)
{
	char text[1024];

	if (action->alive && !steering->begin)
		return impost_error_set(steering->ctx, -EAGAIN,
					"the guest has not come yet: ask again when it has");
	if (action->alone && steering->unsettled) {
		explain_settling(steering, text, sizeof(text));
		return impost_error_set(steering->ctx, -EBUSY, "%s", text);
	}
	if (action->perform == migrate && incoming_is_filling(steering->incoming))
		return impost_error_set(steering->ctx, -EBUSY,
					"the guest's memory is still coming: ask again when it is "
					"there");
	if (action->alive && atomic_load(&steering->ended))
		return impost_error_set(steering->ctx, -ESHUTDOWN, "the guest has come to its end");
	if (action->alone && steering->busy)
		return impost_error_set(steering->ctx, -EBUSY,
					"a request to %s is being carried out: ask again when that "
					"is over",
					request_name(steering->work.request.command));
	return 0;
}

static void take_line(void *opaque, struct control_peer peer, const char *line, size_t len)
{
	struct steering *steering = opaque;
	const struct action *action;
	struct json_object *reply;
	struct request request;
	char text[256];
	int err = request_parse(line, len, &request, text, sizeof(text));

	if (err < 0) {
		control_reply(steering->control, peer, reply_error(&request, err, text));
		request_release(&request);
		return;
	}
	action = &actions[request.command];
	reply = reply_ok(&request);
	err = check(steering, action);
	if (err == 0)
		err = action->takes_long ? start_work(steering, peer, &request, reply)
					 : action->perform(steering, &request, reply);
	if (err < 0) {
		json_object_put(reply);
		reply = reply_error(&request, err, impost_error(steering->ctx));
	}
	if (err < 0 || !action->takes_long)
		control_reply(steering->control, peer, reply);
	request_release(&request);
}

/* --- life --- */

/* Of what is filled in so far. */
static void release(struct steering *steering)
{
	outgoing_release(&steering->outgoing);
	control_close(steering->control);
	if (steering->wake >= 0)
		close(steering->wake);
	free(steering->path);
	free(steering);
}

static int set_up(struct steering *steering, const char *path)
{
	int err;

	steering->path = strdup(path);
	if (!steering->path)
		return impost_error_set(steering->ctx, -ENOMEM, "no memory for a path");
	steering->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (steering->wake < 0)
		return impost_error_set(steering->ctx, -errno, "cannot make an eventfd: %s",
					strerror(errno));
	err = outgoing_init(&steering->outgoing, steering->ctx, steering->machine);
	steering->outgoing.told = on_told;
	steering->outgoing.opaque = steering;
	if (err == 0)
		err = control_open(steering->ctx, path, take_line, steering, &steering->control);
	return err;
}

int steering_open(struct impost_context *ctx, const char *path, const struct steered *steered,
		  struct steering **ret_steering)
{
	struct steering *steering = calloc(1, sizeof(*steering));
	int err;

	if (!steering)
		return impost_error_set(ctx, -ENOMEM, "no memory for the control socket");
	steering->ctx = ctx;
	steering->machine = steered->machine;
	steering->saving = steered->saving;
	steering->incoming = steered->incoming;
	steering->wake = -1;
	err = set_up(steering, path);
	if (err == 0)
		*ret_steering = steering;
	else
		release(steering);
	return err;
}

void steering_close(struct steering *steering)
{
	if (!steering)
		return;
	if (steering->busy) {
		atomic_store(&steering->work.cancelled, true);
		migration_cancel(&steering->outgoing.migration);
		finish_work(steering);
	}
	release(steering);
}

void steering_begin(struct steering *steering)
{
	if (steering)
		steering->begin = clock_now_ns();
}

void steering_end(struct steering *steering)
{
	if (!steering)
		return;
	atomic_store(&steering->ended, true);
	/* What has come to its end here is not to go on elsewhere. */
	if (steering->busy && steering->work.request.command == REQUEST_MIGRATE &&
	    machine_ended(steering->machine) != MACHINE_MOVED)
		migration_cancel(&steering->outgoing.migration);
}

void steering_poll(const struct steering *steering, struct pollfd *fds)
{
	control_poll(steering ? steering->control : NULL, fds + 1);
	fds[0] = (struct pollfd){.fd = steering ? steering->wake : -1, .events = POLLIN};
}

static void tell_progress(struct steering *steering)
{
	struct work *work = &steering->work;
	uint64_t done = atomic_load(&work->done), total = atomic_load(&work->total);
	struct impost_migration_status status = {0};
	struct json_object *object, *progress;

	if (atomic_load(&work->migrates)) {
		migration_get_status(&steering->outgoing.migration, &status);
		total = status.guest_bytes;
		done = total - (status.left_bytes < total ? status.left_bytes : total);
	}
	if (!total)
		return;
	object = reply_progress(&work->request, done, total, &progress);
	if (status.size)
		migration_add_status(progress, &status);
	control_tell(steering->control, work->peer, object);
}

void steering_serve(struct steering *steering, const struct pollfd *fds)
{
	eventfd_t count;

	if (!steering)
		return;
	if (fds[0].revents) {
		eventfd_read(steering->wake, &count);
		if (steering->busy && atomic_load(&steering->work.over))
			finish_work(steering);
		else if (steering->busy)
			tell_progress(steering);
	}
	control_serve(steering->control, fds + 1);
}

bool steering_wants_end(const struct steering *steering)
{
	return steering && steering->wants_end;
}

const char *steering_destination(const struct steering *steering)
{
	return steering && steering->moved ? steering->outgoing.migration.where : "";
}

bool steering_is_needed(struct steering *steering)
{
	struct impost_migration_status status;

	if (!steering || !steering->busy || steering->work.request.command != REQUEST_MIGRATE)
		return false;
	migration_get_status(&steering->outgoing.migration, &status);
	return status.state == IMPOST_MIGRATION_POSTCOPYING;
}

bool steering_is_busy(const struct steering *steering)
{
	return steering && steering->busy;
}
