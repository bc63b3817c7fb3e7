// SPDX-License-Identifier: Apache-2.0
/* impost ctl: sends one request to a run's control socket, and tells what came of it. */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "json.h"
#include "path.h"
#include "progress.h"
#include "request.h"
#include "socket.h"
#include "utf8.h"

/* --- the request --- */

static int check_operands(const struct invocation *invocation, enum request_command *ret_command)
{
	const char *name = invocation->operands[1];
	bool saves;

	if (!request_find(name, ret_command)) {
		complain("ctl: what is '%s'? There are status, pause, resume, save FILE and quit",
			 name);
		return STATUS_USAGE;
	}
	saves = *ret_command == REQUEST_SAVE;
	if (saves && invocation->noperands < 3) {
		complain("ctl: save into which file? impost ctl SOCKET save FILE");
		return STATUS_USAGE;
	}
	if (!saves && invocation->noperands > 2) {
		complain("ctl: what is '%s'? There is one too many", invocation->operands[2]);
		return STATUS_USAGE;
	}
	if (!saves && invocation_has(invocation, OPTION_DIFF)) {
		complain("ctl: --diff is for save");
		return STATUS_USAGE;
	}
	return STATUS_OK;
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

static struct json_object *compose(const struct invocation *invocation,
				   enum request_command command)
{
	struct json_object *request = json_object_new_object();
	const char *base = invocation->values[OPTION_DIFF];

	json_add_string(request, "command", request_name(command));
	if (command == REQUEST_SAVE && (!add_path(request, "file", invocation->operands[2]) ||
					(base && !add_path(request, "base", base)))) {
		json_object_put(request);
		return NULL;
	}
	return request;
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

static uint64_t number(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_uint64(value) : 0;
}

static const char *string(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    json_object_get_type(value) != json_type_string)
		return "";
	return json_object_get_string(value);
}

static bool is_true(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) && json_object_get_boolean(value);
}

/* Shows progress until the reply comes. NULL, with a message: it is none. */
static struct json_object *receive_reply(struct talk *talk)
{
	struct progress progress = {.what = "saving"};
	struct json_object *object = NULL, *value;
	const char *line;

	for (;;) {
		line = receive_line(talk);
		if (!line)
			break;
		object = json_tokener_parse(line);
		if (json_object_object_get_ex(object, "ok", &value))
			break;
		if (!json_object_object_get_ex(object, "progress", &value)) {
			json_object_put(object);
			object = NULL;
			complain("what answers is no impost: %.200s", line);
			break;
		}
		progress_show(&progress, number(value, "done"), number(value, "total"));
		json_object_put(object);
		object = NULL;
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

static void print_status(struct json_object *reply)
{
	struct json_object *last;
	char text[128];

	print_row("state", string(reply, "state"));
	if (*string(reply, "busy"))
		print_row("busy with", string(reply, "busy"));
	snprintf(text, sizeof(text), "%s, %" PRIu64 " vCPU%s, %.6g MiB of RAM",
		 string(reply, "backend"), number(reply, "cpus"),
		 number(reply, "cpus") == 1 ? "" : "s", (double)number(reply, "memory") / 1048576);
	print_row("machine", text);
	snprintf(text, sizeof(text), "%.1f s", (double)number(reply, "uptime_ms") / 1000);
	print_row("for", text);
	snprintf(text, sizeof(text), "%" PRIu64 ", impost %.32s", number(reply, "pid"),
		 string(reply, "version"));
	print_row("process", text);
	if (!json_object_object_get_ex(reply, "saved", &last) || !last)
		return;
	print_row(is_true(last, "restored") ? "restored" : "saved", string(last, "file"));
	snprintf(text, sizeof(text), "%.1f s ago, digest %.32s",
		 (double)number(last, "age_ms") / 1000, string(last, "digest"));
	print_row("", text);
}

static void print_save(struct json_object *reply)
{
	printf("saved ");
	put_text(stdout, string(reply, "file"), 0);
	printf(": %.6g MiB of memory in %.3f s; the guest stood for %.3f ms\n",
	       (double)number(reply, "data_bytes") / 1048576, (double)number(reply, "ms") / 1000,
	       (double)number(reply, "held_us") / 1000);
}

static int conclude(const struct invocation *invocation, enum request_command command,
		    struct json_object *reply)
{
	bool went_well = is_true(reply, "ok");

	if (invocation_has(invocation, OPTION_JSON))
		json_print("reply", json_object_get(reply));
	else if (!went_well)
		complain("%s: %s", request_name(command), string(reply, "text"));
	else if (command == REQUEST_STATUS)
		print_status(reply);
	else if (command == REQUEST_SAVE)
		print_save(reply);
	return finish_output(went_well ? STATUS_OK : STATUS_FAILED);
}

static int talk_once(const struct invocation *invocation, enum request_command command,
		     struct json_object *request)
{
	static struct talk talk;
	struct json_object *reply = NULL;
	int status, err = socket_connect(invocation->ctx, invocation->operands[0], &talk.fd);

	if (err < 0)
		return complain_error(invocation, err);
	status = send_request(&talk, request);
	if (status == STATUS_OK) {
		reply = receive_reply(&talk);
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
