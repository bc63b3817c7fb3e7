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
#include "request.h"

/* For a vCPU that does not come because nobody reads what its guest writes, in milliseconds. */
#define HOLD_TIMEOUT 10000u

/* A command: what it needs, and what carries it out. */
struct action {
	bool takes_long; /* a thread does it; there is one, so that it waits for no other either */
	bool alone;	 /* not while the thread is at work */
	bool alive;	 /* not when the guest has come to its end */
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
};

struct steering {
	struct impost_context *ctx;
	struct control *control;
	struct machine *machine;
	struct saving *saving;
	uint64_t begin;	   /* CLOCK_MONOTONIC, in ns */
	atomic_bool ended; /* this and PAUSED the thread looks at, too */
	atomic_bool paused;
	bool wants_end;
	bool busy; /* WORK is under way */
	int wake;  /* eventfd, of the thread's: it has something to tell */
	struct work work;
};

/* --- what can be asked for --- */

static const char *state_name(const struct steering *steering)
{
	return atomic_load(&steering->ended)	? "ended"
	       : atomic_load(&steering->paused) ? "paused"
						: "running";
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
	const struct impost_vm *vm = steering->machine->vm;

	(void)request;
	json_add_string(reply, "state", state_name(steering));
	json_add_string(reply, "busy",
			steering->busy ? request_name(steering->work.request.command) : NULL);
	json_add_string(reply, "backend", impost_vm_backend(vm));
	json_add_uint(reply, "cpus", steering->machine->ncpus);
	json_add_uint(reply, "memory", impost_vm_config(vm)->memory);
	json_add_uint(reply, "uptime_ms", (clock_now_ns() - steering->begin) / 1000000);
	json_add_uint(reply, "pid", (uint64_t)getpid());
	json_add_string(reply, "version", impost_version());
	json_add_uint(reply, "protocol", REQUEST_PROTOCOL);
	/* While it is being written, what is known of the last one changes. */
	if (!steering->busy)
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

static int quit(struct steering *steering, const struct request *request, struct json_object *reply)
{
	(void)request;
	(void)reply;
	steering->wants_end = true;
	return 0;
}

static const struct action actions[REQUEST_COMMANDS] = {
	[REQUEST_STATUS] = {.perform = tell_status},
	[REQUEST_PAUSE] = {.takes_long = true, .alone = true, .alive = true, .perform = pause_vm},
	[REQUEST_RESUME] = {.alone = true, .alive = true, .perform = resume_vm},
	[REQUEST_SAVE] = {.takes_long = true, .alone = true, .alive = true, .perform = save},
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
	atomic_store(&work->over, false);
	atomic_store(&work->cancelled, false);
	atomic_store(&work->done, 0);
	atomic_store(&work->total, 0);
	err = pthread_create(&work->thread, NULL, work_thread, steering);
	if (err)
		return impost_error_set(steering->ctx, -err, "cannot start a thread: %s",
					strerror(err));
	*request = (struct request){0};
	steering->busy = true;
	return 0;
}

/* Waits for the thread and sends its reply. */
static void finish_work(struct steering *steering)
{
	struct work *work = &steering->work;

	pthread_join(work->thread, NULL);
	steering->busy = false;
	if (work->err < 0) {
		json_object_put(work->reply);
		work->reply = reply_error(&work->request, work->err, work->text);
	}
	control_reply(steering->control, work->peer, work->reply);
	request_release(&work->request);
}

/* Whether ACTION can be now. */
static int check(const struct steering *steering, const struct action *action)
{
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

int steering_open(struct impost_context *ctx, const char *path, struct machine *machine,
		  struct saving *saving, struct steering **ret_steering)
{
	struct steering *steering = calloc(1, sizeof(*steering));
	int err;

	if (!steering)
		return impost_error_set(ctx, -ENOMEM, "no memory for the control socket");
	steering->ctx = ctx;
	steering->machine = machine;
	steering->saving = saving;
	steering->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = steering->wake < 0
		      ? impost_error_set(ctx, -errno, "cannot make an eventfd: %s", strerror(errno))
		      : control_open(ctx, path, take_line, steering, &steering->control);
	if (err == 0) {
		*ret_steering = steering;
		return 0;
	}
	if (steering->wake >= 0)
		close(steering->wake);
	free(steering);
	return err;
}

void steering_close(struct steering *steering)
{
	if (!steering)
		return;
	if (steering->busy) {
		atomic_store(&steering->work.cancelled, true);
		finish_work(steering);
	}
	control_close(steering->control);
	close(steering->wake);
	free(steering);
}

void steering_begin(struct steering *steering)
{
	if (steering)
		steering->begin = clock_now_ns();
}

void steering_end(struct steering *steering)
{
	if (steering)
		atomic_store(&steering->ended, true);
}

void steering_poll(const struct steering *steering, struct pollfd *fds)
{
	control_poll(steering ? steering->control : NULL, fds + 1);
	fds[0] = (struct pollfd){.fd = steering ? steering->wake : -1, .events = POLLIN};
}

static void tell_progress(struct steering *steering)
{
	struct work *work = &steering->work;
	uint64_t total = atomic_load(&work->total);

	if (total)
		control_tell(steering->control, work->peer,
			     reply_progress(&work->request, atomic_load(&work->done), total));
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

bool steering_is_busy(const struct steering *steering)
{
	return steering && steering->busy;
}
