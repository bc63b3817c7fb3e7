/* SPDX-License-Identifier: Apache-2.0 */
/* The little that the subcommands need of json-c. What is written is UTF-8 in any case. */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* A member's value; 0, "" and false where there is none, or where it is of another type. */
static inline uint64_t json_get_uint(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_uint64(value) : 0;
}

static inline const char *json_get_string(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    json_object_get_type(value) != json_type_string)
		return "";
	return json_object_get_string(value);
}

static inline bool json_get_bool(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) && json_object_get_boolean(value);
}

/* OBJECT on a line of its own, of *RET_LEN bytes with the newline; NULL: no memory. To be freed. */
char *json_line(struct json_object *object, size_t *ret_len);

/* Prints {"version": ..., "abi": ..., KEY: VALUE} and releases VALUE. */
void json_print(const char *key, struct json_object *value);

#endif
