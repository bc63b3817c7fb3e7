// SPDX-License-Identifier: Apache-2.0
/* impost ctl: sends one request to a run's control socket, and tells what came of it. */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "ctl.h"
#include "json.h"
#include "path.h"
#include "progress.h"
#include "request.h"
#include "socket.h"
#include "utf8.h"

/* How long a run may take to answer what it does at once, in seconds. */
#define ANSWER_S 10

/* --- the request --- */

/* What follows a command, if something does. */
static const struct {
	enum request_command command;
	const char *question, *usage;
} operands[] = {
	{REQUEST_SAVE, "save into which file?", "save FILE"},
	{REQUEST_MIGRATE, "migrate where?",
	 "migrate unix:PATH, or tcp:HOST:PORT, tls:HOST:PORT, fd:N"},
	{REQUEST_SETTLE, "settle how?", "settle keep, or settle leave"},
};

static int check_count(const struct invocation *invocation, enum request_command command)
{
	size_t i = 0;

	while (i < sizeof(operands) / sizeof(operands[0]) && operands[i].command != command)
		i++;
	if (i == sizeof(operands) / sizeof(operands[0])) {
		if (invocation->noperands <= 2)
			return STATUS_OK;
		complain("ctl: what is '%s'? There is one too many", invocation->operands[2]);
		return STATUS_USAGE;
	}
	if (invocation->noperands > 2)
		return STATUS_OK;
	complain("ctl: %s impost ctl SOCKET %s", operands[i].question, operands[i].usage);
	return STATUS_USAGE;
}

static int check_operands(const struct invocation *invocation, enum request_command *ret_command)
{
	const char *name = invocation->operands[1];
	int status;

	if (!request_find(name, ret_command)) {
		complain("ctl: what is '%s'? There are status, pause, resume, save FILE, "
			 "migrate ADDRESS, migrate-cancel, settle keep, settle leave and quit",
			 name);
		return STATUS_USAGE;
	}
	status = check_count(invocation, *ret_command);
	if (status != STATUS_OK)
		return status;
	if (*ret_command != REQUEST_SAVE && invocation_has(invocation, OPTION_DIFF)) {
		complain("ctl: --diff is for save");
		return STATUS_USAGE;
	}
	if (*ret_command == REQUEST_SETTLE && !request_can_settle(invocation->operands[2])) {
		complain("ctl: settle '%s': give keep, if the guest did not arrive, or leave, if "
			 "it did",
			 invocation->operands[2]);
		return STATUS_USAGE;
	}
	return ctl_check_migrate(invocation, *ret_command);
}

/* The other process has a current folder of its own. Returns false, with a message, if there is
 * none here, or if JSON cannot have the path: another file must not be written in its place. */
static bool add_path(struct json_object *request, const char *key, const char *path)
{
	char *whole = path_absolute(path);
	bool added = false;

	if (!whole)
		complain("ctl: the current folder: %s", strerror(errno));
	else if (!utf8_is_valid(whole))
		complain("ctl: the path %s is not UTF-8, as requests are", whole);
	else
		added = json_object_object_add(request, key, json_object_new_string(whole)) == 0;
	free(whole);
	return added;
}

static bool add_members(const struct invocation *invocation, enum request_command command,
			struct json_object *request)
{
	const char *base = invocation->values[OPTION_DIFF];

	switch (command) {
	case REQUEST_SAVE:
		return add_path(request, "file", invocation->operands[2]) &&
		       (!base || add_path(request, "base", base));
	case REQUEST_MIGRATE:
		return ctl_compose_migrate(invocation, request);
	case REQUEST_SETTLE:
		json_add_string(request, "what", invocation->operands[2]);
		return true;
	default:
		return true;
	}
}

static struct json_object *compose(const struct invocation *invocation,
				   enum request_command command)
{
	struct json_object *request = json_object_new_object();

	json_add_string(request, "command", request_name(command));
	if (add_members(invocation, command, request))
		return request;
	json_object_put(request);
	return NULL;
}

/* --- the talk --- */

/* What the other side has sent and was not looked at yet. */
struct talk {
	int fd;
	size_t count, first;
	char bytes[REPLY_MAX + 1];
};

static int send_request(const struct talk *talk, struct json_object *request)
{
	size_t len;
	char *line = json_line(request, &len);
	ssize_t sent = 0;

	if (!line) {
		complain("no memory for the request");
		return STATUS_HOST;
	}
	for (size_t at = 0; sent >= 0 && at < len; at += (size_t)sent)
		sent = send(talk->fd, line + at, len - at, MSG_NOSIGNAL);
	if (sent < 0)
		complain("cannot send the request: %s", strerror(errno));
	free(line);
	return sent < 0 ? STATUS_HOST : STATUS_OK;
}

/* The next line; NULL, with a message: there is none. */
static char *receive_line(struct talk *talk)
{
	char *line, *newline;
	ssize_t count;

	memmove(talk->bytes, talk->bytes + talk->first, talk->count - talk->first);
	talk->count -= talk->first;
	talk->first = 0;
	while (!(newline = memchr(talk->bytes, '\n', talk->count))) {
		if (talk->count == REPLY_MAX) {
			complain("what answers is no impost: a line without end");
			return NULL;
		}
		count = recv(talk->fd, talk->bytes + talk->count, REPLY_MAX - talk->count, 0);
		if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			complain("the run has not answered for %d s: it is stopped, or its machine "
				 "has no time for it",
				 ANSWER_S);
			return NULL;
		}
		if (count <= 0) {
			complain("the connection was lost: %s", count < 0 && errno != ECONNRESET
									? strerror(errno)
									: "the run is over");
			return NULL;
		}
		talk->count += (size_t)count;
	}
	*newline = '\0';
	line = talk->bytes;
	talk->first = (size_t)(newline - line) + 1;
	return line;
}

static void show(struct progress *progress, struct json_object *value)
{
	char note[160] = "";

	if (*json_get_string(value, "phase"))
		ctl_note(value, note, sizeof(note));
	progress_show_with(progress, json_get_uint(value, "done"), json_get_uint(value, "total"),
			   note);
}

/* Looks at a line that came: 1: *RET_OBJECT is the reply; 0: go on; -1: it is from somebody else.
 */
static int take_line(struct progress *progress, const char *line, struct json_object **ret_object)
{
	struct json_object *object = json_tokener_parse(line), *value;
	int result = 0;

	if (json_object_object_get_ex(object, "id", NULL)) {
		/* What Ctrl-C asked for: whether that was in time, the reply says. */
		if (!json_get_bool(object, "ok")) {
			progress_wipe(progress);
			complain("%s", json_get_string(object, "text"));
		}
	} else if (json_object_object_get_ex(object, "ok", NULL)) {
		*ret_object = object;
		return 1;
	} else if (json_object_object_get_ex(object, "progress", &value)) {
		show(progress, value);
	} else {
		result = -1;
	}
	json_object_put(object);
	return result;
}

/* Shows progress until the reply comes. NULL, with a message: it is none. */
static struct json_object *receive_reply(struct talk *talk, enum request_command command)
{
	struct progress progress = {
		.what = command == REQUEST_MIGRATE ? "migrating" : "saving",
	};
	struct json_object *object = NULL;
	const char *line;
	int result = 0;

	while (result == 0 && (line = receive_line(talk)) != NULL) {
		result = take_line(&progress, line, &object);
		if (result < 0) {
			progress_wipe(&progress);
			complain("what answers is no impost: %.200s", line);
		}
	}
	progress_wipe(&progress);
	return object;
}

/* --- what is told --- */

static void print_row(const char *name, const char *value)
{
	printf("%-10s", name);
	put_text(stdout, value, 0);
	printf("\n");
}

static void print_machine(struct json_object *reply)
{
	char text[128];

	snprintf(text, sizeof(text), "%s, %" PRIu64 " vCPU%s, %s of RAM",
		 json_get_string(reply, "backend"), json_get_uint(reply, "cpus"),
		 json_get_uint(reply, "cpus") == 1 ? "" : "s",
		 ctl_size(json_get_uint(reply, "memory")));
	print_row("machine", text);
	snprintf(text, sizeof(text), "%.1f s", (double)json_get_uint(reply, "uptime_ms") / 1000);
	print_row("for", text);
}

static void print_saved(struct json_object *last)
{
	char text[128];

	print_row(json_get_bool(last, "restored") ? "restored" : "saved",
		  json_get_string(last, "file"));
	snprintf(text, sizeof(text), "%.1f s ago, digest %.32s",
		 (double)json_get_uint(last, "age_ms") / 1000, json_get_string(last, "digest"));
	print_row("", text);
}

static void print_status(struct json_object *reply)
{
	struct json_object *member;
	char text[128];

	print_row("state", json_get_string(reply, "state"));
	if (*json_get_string(reply, "busy"))
		print_row("busy with", json_get_string(reply, "busy"));
	if (*json_get_string(reply, "backend"))
		print_machine(reply);
	snprintf(text, sizeof(text), "%" PRIu64 ", impost %.32s", json_get_uint(reply, "pid"),
		 json_get_string(reply, "version"));
	print_row("process", text);
	if (json_object_object_get_ex(reply, "migration", &member) && member)
		ctl_print_migration(member);
	if (*json_get_string(reply, "settle"))
		print_row("settle", json_get_string(reply, "settle"));
	if (json_object_object_get_ex(reply, "saved", &member) && member)
		print_saved(member);
}

static void print_save(struct json_object *reply)
{
	printf("saved ");
	put_text(stdout, json_get_string(reply, "file"), 0);
	printf(": %s of memory in %.3f s; the guest stood for %.3f ms\n",
	       ctl_size(json_get_uint(reply, "data_bytes")),
	       (double)json_get_uint(reply, "ms") / 1000,
	       (double)json_get_uint(reply, "held_us") / 1000);
}

static int conclude(const struct invocation *invocation, enum request_command command,
		    struct json_object *reply)
{
	bool went_well = json_get_bool(reply, "ok");

	if (invocation_has(invocation, OPTION_JSON))
		json_print("reply", json_object_get(reply));
	else if (!went_well)
		ctl_print_refusal(request_name(command), reply);
	else if (command == REQUEST_STATUS)
		print_status(reply);
	else if (command == REQUEST_MIGRATE)
		ctl_print_migrated(reply);
	else if (command == REQUEST_SAVE)
		print_save(reply);
	return finish_output(went_well ? STATUS_OK : STATUS_FAILED);
}

/* Others hold the guest, and may have to wait for it. */
static bool is_done_at_once(enum request_command command)
{
	return command != REQUEST_PAUSE && command != REQUEST_SAVE && command != REQUEST_MIGRATE;
}

static int talk_once(const struct invocation *invocation, enum request_command command,
		     struct json_object *request)
{
	static const struct timeval limit = {.tv_sec = ANSWER_S};
	static struct talk talk;
	struct json_object *reply = NULL;
	int status, err = socket_connect(invocation->ctx, invocation->operands[0], &talk.fd);

	if (err < 0)
		return complain_error(invocation, err);
	if (is_done_at_once(command))
		setsockopt(talk.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (command == REQUEST_MIGRATE)
		ctl_catch_interrupt(talk.fd);
	status = send_request(&talk, request);
	if (status == STATUS_OK) {
		reply = receive_reply(&talk, command);
		status = reply ? conclude(invocation, command, reply) : STATUS_HOST;
	}
	json_object_put(reply);
	close(talk.fd);
	return status;
}

int command_ctl(const struct invocation *invocation)
{
	enum request_command command;
	struct json_object *request;
	int status = check_operands(invocation, &command);

	if (status != STATUS_OK)
		return status;
	request = compose(invocation, command);
	if (!request)
		return STATUS_HOST;
	status = talk_once(invocation, command, request);
	json_object_put(request);
	return status;
}
