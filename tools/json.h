/* SPDX-License-Identifier: Apache-2.0 */
/* The little that the subcommands need of json-c. */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stdio.h>

#include <impost/version.h>
#include <json-c/json.h>

/* NULL and "" become null. */
static inline void json_add_string(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, value && *value ? json_object_new_string(value) : NULL);
}

static inline void json_add_bool(struct json_object *object, const char *key, bool value)
{
	json_object_object_add(object, key, json_object_new_boolean(value));
}

static inline void json_add_uint(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

/* Prints {"version": ..., "abi": ..., KEY: VALUE} and releases VALUE. */
static inline void json_print(const char *key, struct json_object *value)
{
	struct json_object *object = json_object_new_object();
	char abi[16];

	snprintf(abi, sizeof(abi), "%d.%d", IMPOST_PLUGIN_ABI_MAJOR, IMPOST_PLUGIN_ABI_MINOR);
	json_add_string(object, "version", impost_version());
	json_add_string(object, "abi", abi);
	json_object_object_add(object, key, value);
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
							    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

#endif
