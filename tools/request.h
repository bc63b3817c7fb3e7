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
	REQUEST_MIGRATE,
	REQUEST_MIGRATE_CANCEL,
	REQUEST_SETTLE,
	REQUEST_QUIT,
	REQUEST_COMMANDS
};

/* Numbers of a migration, which the INI has too. */
enum request_number {
	REQUEST_DOWNTIME, /* milliseconds */
	REQUEST_TIMEOUT,  /* seconds */
	REQUEST_CONNECTIONS,
	REQUEST_THROTTLE, /* percent */
	REQUEST_NUMBERS
};

/* What else a migration is told. */
enum request_flag {
	REQUEST_LOCAL,
	REQUEST_POSTCOPY,
	REQUEST_COMPRESS,
	REQUEST_FINISH,
	REQUEST_FLAGS
};

struct request {
	enum request_command command;
	bool has_id;
	int64_t id;    /* comes back in the reply */
	char *file;    /* save: absolute path */
	char *base;    /* save: absolute path of what it is to be a diff to; NULL: a full one */
	char *address; /* migrate */
	char *what;    /* settle: "keep" or "leave" */
	bool flags[REQUEST_FLAGS];
	bool has_number[REQUEST_NUMBERS];
	uint32_t number[REQUEST_NUMBERS];
};

/* The name of a number and of a flag, as a request, the INI and a command line have it; and what a
 * number may be. */
const char *request_number_name(enum request_number number);
void request_number_range(enum request_number number, uint32_t *ret_least, uint32_t *ret_most);
const char *request_flag_name(enum request_flag flag);

/* The name of COMMAND, as a request and a command line have it. */
const char *request_name(enum request_command command);

/* The command of that name; false: there is none. */
bool request_find(const char *name, enum request_command *ret_command);

/* Whether WHAT is a way to settle. */
bool request_can_settle(const char *what);

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

/* No reply yet: how far it got, in bytes. More can be added to what is *RET_PROGRESS. */
struct json_object *reply_progress(const struct request *request, uint64_t done, uint64_t total,
				   struct json_object **ret_progress);

#endif
