// SPDX-License-Identifier: Apache-2.0
/* Requests of the control socket, which any process of the user may have written, and replies. */
#include "request.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/error.h>

#include "json.h"
#include "utf8.h"

/* Requests are one object of numbers and strings. */
#define DEPTH 4
/* Integers above are not the same number to every reader of JSON (RFC 8259, 6). */
#define MOST_ID ((int64_t)1 << 53)
/* Bytes of a strange member's name that are told. */
#define MOST_KEY 64

static const char *const names[REQUEST_COMMANDS] = {
	[REQUEST_STATUS] = "status",   [REQUEST_PAUSE] = "pause",
	[REQUEST_RESUME] = "resume",   [REQUEST_SAVE] = "save",
	[REQUEST_MIGRATE] = "migrate", [REQUEST_MIGRATE_CANCEL] = "migrate-cancel",
	[REQUEST_SETTLE] = "settle",   [REQUEST_QUIT] = "quit",
};

/* As core/config.c has them. */
static const struct {
	const char *name;
	uint32_t least, most;
} numbers[REQUEST_NUMBERS] = {
	[REQUEST_DOWNTIME] = {"downtime", 1, INT32_MAX},
	[REQUEST_TIMEOUT] = {"timeout", 0, INT32_MAX / 1000},
	[REQUEST_CONNECTIONS] = {"connections", 1, 64},
	[REQUEST_THROTTLE] = {"throttle", 0, 99},
};

static const char *const flags[REQUEST_FLAGS] = {
	[REQUEST_LOCAL] = "local",
	[REQUEST_POSTCOPY] = "postcopy",
	[REQUEST_COMPRESS] = "compress",
	[REQUEST_FINISH] = "finish",
};

const char *request_number_name(enum request_number number)
{
	return numbers[number].name;
}

void request_number_range(enum request_number number, uint32_t *ret_least, uint32_t *ret_most)
{
	*ret_least = numbers[number].least;
	*ret_most = numbers[number].most;
}

const char *request_flag_name(enum request_flag flag)
{
	return flags[flag];
}

const char *request_name(enum request_command command)
{
	return names[command];
}

bool request_find(const char *name, enum request_command *ret_command)
{
	for (size_t i = 0; i < REQUEST_COMMANDS; i++)
		if (strcmp(name, names[i]) == 0) {
			*ret_command = (enum request_command)i;
			return true;
		}
	return false;
}

bool request_can_settle(const char *what)
{
	return strcmp(what, "keep") == 0 || strcmp(what, "leave") == 0;
}

/* Where the sentence goes that says what is wrong. */
struct complaint {
	char *text;
	size_t size;
};

IMPOST_PRINTF(2, 3) static int wrong(const struct complaint *complaint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(complaint->text, complaint->size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* --- members --- */

/* A string that has no NUL in it, which JSON may: "\\u0000". NULL: it is none. */
static const char *string_of(struct json_object *value)
{
	const char *text = json_object_get_string(value);

	if (json_object_get_type(value) != json_type_string ||
	    strlen(text) != (size_t)json_object_get_string_len(value))
		return NULL;
	return text;
}

/* A member of a request: where it goes. */
struct member;
typedef int (*take_fn)(const struct member *member, struct request *request,
		       struct json_object *value, const struct complaint *complaint);

struct member {
	const char *name;
	take_fn take;
	unsigned int index;    /* of a flag or a number */
	size_t offset;	       /* of a string */
	unsigned int commands; /* that may have it, a bit for each; 0: all */
	bool needed;	       /* by these */
};

static int take_command(const struct member *member, struct request *request,
			struct json_object *value, const struct complaint *complaint)
{
	char list[256];
	size_t len = 0;

	(void)member;
	if (string_of(value) && request_find(json_object_get_string(value), &request->command))
		return 0;
	for (size_t i = 0; i < REQUEST_COMMANDS; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
					names[i]);
	return wrong(complaint, "\"command\" must be one of %s", list);
}

static int take_id(const struct member *member, struct request *request, struct json_object *value,
		   const struct complaint *complaint)
{
	int64_t id = json_object_get_int64(value);

	(void)member;
	if (json_object_get_type(value) != json_type_int || id < 0 || id > MOST_ID)
		return wrong(complaint, "\"id\" must be a whole number from 0 to 2^53");
	request->has_id = true;
	request->id = id;
	return 0;
}

static int keep_string(const struct member *member, struct request *request, const char *text,
		       const struct complaint *complaint)
{
	char **place = (char **)((char *)request + member->offset);

	free(*place);
	*place = strdup(text);
	if (*place)
		return 0;
	wrong(complaint, "no memory");
	return -ENOMEM;
}

/* This process has a current folder of its own, which the other one does not know. */
static int take_path(const struct member *member, struct request *request,
		     struct json_object *value, const struct complaint *complaint)
{
	const char *text = string_of(value);

	if (!text || text[0] != '/')
		return wrong(complaint, "\"%s\" must be a path that begins with a '/'",
			     member->name);
	return keep_string(member, request, text, complaint);
}

static int take_string(const struct member *member, struct request *request,
		       struct json_object *value, const struct complaint *complaint)
{
	const char *text = string_of(value);

	if (!text)
		return wrong(complaint, "\"%s\" must be a string", member->name);
	return keep_string(member, request, text, complaint);
}

static int take_flag(const struct member *member, struct request *request,
		     struct json_object *value, const struct complaint *complaint)
{
	if (json_object_get_type(value) != json_type_boolean)
		return wrong(complaint, "\"%s\" must be true or false", member->name);
	request->flags[member->index] = json_object_get_boolean(value);
	return 0;
}

static int take_number(const struct member *member, struct request *request,
		       struct json_object *value, const struct complaint *complaint)
{
	uint32_t least = numbers[member->index].least, most = numbers[member->index].most;
	int64_t number = json_object_get_int64(value);

	if (json_object_get_type(value) != json_type_int || number < least || number > most)
		return wrong(complaint, "\"%s\" must be a whole number from %u to %u", member->name,
			     least, most);
	request->has_number[member->index] = true;
	request->number[member->index] = (uint32_t)number;
	return 0;
}

#define OF(command)    (1u << REQUEST_##command)
#define STRING(member) .offset = offsetof(struct request, member)

static const struct member members[] = {
	/* First, so that what is wrong with the others is told with it. */
	{"id", take_id, .commands = 0},
	{"command", take_command, .commands = 0},
	{"file", take_path, STRING(file), .commands = OF(SAVE), .needed = true},
	{"base", take_path, STRING(base), .commands = OF(SAVE)},
	{"address", take_string, STRING(address), .commands = OF(MIGRATE), .needed = true},
	{"what", take_string, STRING(what), .commands = OF(SETTLE), .needed = true},
	{"local", take_flag, REQUEST_LOCAL, .commands = OF(MIGRATE)},
	{"postcopy", take_flag, REQUEST_POSTCOPY, .commands = OF(MIGRATE)},
	{"compress", take_flag, REQUEST_COMPRESS, .commands = OF(MIGRATE)},
	{"finish", take_flag, REQUEST_FINISH, .commands = OF(MIGRATE)},
	{"downtime", take_number, REQUEST_DOWNTIME, .commands = OF(MIGRATE)},
	{"timeout", take_number, REQUEST_TIMEOUT, .commands = OF(MIGRATE)},
	{"connections", take_number, REQUEST_CONNECTIONS, .commands = OF(MIGRATE)},
	{"throttle", take_number, REQUEST_THROTTLE, .commands = OF(MIGRATE)},
};
#define MEMBERS (sizeof(members) / sizeof(members[0]))

/* --- requests --- */

static int refuse_others(struct json_object *object, const struct complaint *complaint)
{
	json_object_object_foreach(object, key, value)
	{
		size_t i = 0;

		(void)value;
		while (i < MEMBERS && strcmp(key, members[i].name) != 0)
			i++;
		if (i == MEMBERS)
			return wrong(complaint, "a request has no member \"%.*s\"",
				     (int)utf8_cut(key, MOST_KEY), key);
	}
	return 0;
}

/* Of members of one name json-c keeps the last, and does not tell. Where no value has members of
 * its own, which take_members() has found, each has one colon that is not in a string. */
static int refuse_twice(struct json_object *object, const char *line, size_t len,
			const struct complaint *complaint)
{
	bool in_string = false;
	int colons = 0;

	for (size_t i = 0; i < len; i++) {
		if (line[i] == '"')
			in_string = !in_string;
		else if (in_string && line[i] == '\\')
			i++; /* what it escapes may be a quotation mark */
		else if (!in_string && line[i] == ':')
			colons++;
	}
	if (colons == json_object_object_length(object))
		return 0;
	return wrong(complaint, "a request has each member at most once: one is there twice");
}

/* Whether MEMBER is there, or not, as the command has it. */
static int match_command(const struct member *member, const struct request *request, bool is_there,
			 const struct complaint *complaint)
{
	bool belongs = !member->commands || member->commands & 1u << request->command;

	if (is_there && !belongs)
		return wrong(complaint, "%s takes no \"%s\"", names[request->command],
			     member->name);
	if (!is_there && belongs && member->needed)
		return wrong(complaint, "%s: there is no \"%s\"", names[request->command],
			     member->name);
	return 0;
}

static int take_members(struct request *request, struct json_object *object,
			const struct complaint *complaint)
{
	struct json_object *value;
	int err = 0;

	request->command = REQUEST_COMMANDS;
	for (size_t i = 0; err == 0 && i < MEMBERS; i++)
		if (json_object_object_get_ex(object, members[i].name, &value))
			err = members[i].take(&members[i], request, value, complaint);
	if (err == 0)
		err = refuse_others(object, complaint);
	if (err == 0 && request->command == REQUEST_COMMANDS)
		err = wrong(complaint, "there is no \"command\"");
	for (size_t i = 0; err == 0 && i < MEMBERS; i++)
		err = match_command(&members[i], request,
				    json_object_object_get_ex(object, members[i].name, &value),
				    complaint);
	return err;
}

/* The object in the LEN bytes at LINE; NULL with a complaint. */
static struct json_object *read_object(const char *line, size_t len,
				       const struct complaint *complaint)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH);
	struct json_object *object;
	enum json_tokener_error error;

	if (!tokener) {
		wrong(complaint, "no memory");
		return NULL;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tokener, line, (int)len);
	error = json_tokener_get_error(tokener);
	json_tokener_free(tokener);
	if (error != json_tokener_success)
		wrong(complaint, "a request is one line with a JSON object: %s",
		      error == json_tokener_continue ? "this one is not complete"
						     : json_tokener_error_desc(error));
	else if (json_object_get_type(object) != json_type_object)
		wrong(complaint, "a request is one line with a JSON object, and this is another");
	else
		return object;
	json_object_put(object);
	return NULL;
}

int request_parse(const char *line, size_t len, struct request *request, char *text, size_t size)
{
	const struct complaint complaint = {text, size};
	struct json_object *object;
	int err;

	*request = (struct request){0};
	if (len >= REQUEST_MAX)
		return wrong(&complaint, "a request has at most %u bytes", REQUEST_MAX - 1);
	if (memchr(line, '\0', len)) /* where json-c would stop */
		return wrong(&complaint, "a request has no NUL byte");
	object = read_object(line, len, &complaint);
	if (!object)
		return -EINVAL;
	err = take_members(request, object, &complaint);
	if (err == 0)
		err = refuse_twice(object, line, len, &complaint);
	json_object_put(object);
	return err;
}

void request_release(struct request *request)
{
	for (size_t i = 0; i < MEMBERS; i++) {
		char **place = (char **)((char *)request + members[i].offset);

		if (!members[i].offset)
			continue;
		free(*place);
		*place = NULL;
	}
}

/* --- replies --- */

static struct json_object *reply(const struct request *request)
{
	struct json_object *object = json_object_new_object();

	if (request->has_id)
		json_object_object_add(object, "id", json_object_new_int64(request->id));
	return object;
}

struct json_object *reply_ok(const struct request *request)
{
	struct json_object *object = reply(request);

	json_add_bool(object, "ok", true);
	return object;
}

struct json_object *reply_error(const struct request *request, int err, const char *text)
{
	struct json_object *object = reply(request);

	json_add_bool(object, "ok", false);
	json_add_string(object, "error", impost_error_name(err));
	json_add_string(object, "text", text);
	return object;
}

struct json_object *reply_progress(const struct request *request, uint64_t done, uint64_t total,
				   struct json_object **ret_progress)
{
	struct json_object *object = reply(request), *progress = json_object_new_object();

	json_add_uint(progress, "done", done);
	json_add_uint(progress, "total", total);
	json_object_object_add(object, "progress", progress);
	*ret_progress = progress;
	return object;
}
