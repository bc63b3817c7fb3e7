/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol of `impost run --control`: requests read, replies written. impost-control(7). */
#ifndef TOOLS_REQUEST_H
#define TOOLS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/version.h>
#include <json-c/json.h>

/* What "protocol" in the reply to "status" says; more when an older client would be misled. */
#define REQUEST_PROTOCOL 1u

/* The longest request, its newline with it: two paths, every byte of them escaped, and the rest. */
#define REQUEST_MAX 65536u
/* The longest reply. */
#define REPLY_MAX 65536u

enum request_command {
	REQUEST_STATUS,
	REQUEST_PAUSE,
	REQUEST_RESUME,
	REQUEST_SAVE,
	REQUEST_QUIT,
	REQUEST_COMMANDS
};

struct request {
	enum request_command command;
	bool has_id;
	int64_t id; /* comes back in the reply */
	char *file; /* save: absolute path */
	char *base; /* save: absolute path of what it is to be a diff to; NULL: a full one */
};

/* The name of COMMAND, as a request and a command line have it. */
const char *request_name(enum request_command command);

/* The command of that name; false: there is none. */
bool request_find(const char *name, enum request_command *ret_command);

/*
 * Reads a request from the LEN bytes at LINE, which are a stranger's. Returns 0, or -EINVAL or
 * -ENOMEM with a sentence in TEXT. request->has_id and id are set in any case, as far as the
 * request was understood. request_release() follows in both cases.
 */
int request_parse(const char *line, size_t len, struct request *request, char *text, size_t size);
void request_release(struct request *request);

/* A reply to REQUEST that things went well, to be added to. */
struct json_object *reply_ok(const struct request *request);

/* One that they did not: ERR's name and a sentence. */
struct json_object *reply_error(const struct request *request, int err, const char *text);

/* No reply yet: how far it got, in bytes. */
struct json_object *reply_progress(const struct request *request, uint64_t done, uint64_t total);

#endif
