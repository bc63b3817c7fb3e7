// SPDX-License-Identifier: Apache-2.0
/*
 * JSON as it is written: UTF-8 whatever the strings in it were made of, such as names of files, and
 * nothing in it that a terminal obeys. json-c writes bytes as they are.
 */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>

#include "tool.h"
#include "utf8.h"

/* U+FFFD, which stands for what is no character. */
#define REPLACEMENT "\xef\xbf\xbd"

/* The character at AT, as JSON has it; returns the bytes that it was of. */
static size_t put_character(FILE *file, const char *at)
{
	size_t length = utf8_length(at);

	if (!length) {
		fputs(REPLACEMENT, file);
		return 1;
	}
	/* C0 is escaped already, or between the members. */
	if (utf8_is_control(at, length) && (unsigned char)*at >= 0x20)
		fprintf(file, "\\u%04x", (unsigned char)at[length - 1]);
	else
		fwrite(at, 1, length, file);
	return length;
}

/* OBJECT and a newline; NULL: no memory. */
static char *serialize(struct json_object *object, int flags, size_t *ret_len)
{
	const char *at = json_object_to_json_string_ext(object, flags);
	char *text = NULL;
	FILE *file = at ? open_memstream(&text, ret_len) : NULL;

	if (!file)
		return NULL;
	while (*at)
		at += put_character(file, at);
	fputc('\n', file);
	if (fclose(file) == 0)
		return text;
	free(text);
	return NULL;
}

char *json_line(struct json_object *object, size_t *ret_len)
{
	return serialize(object, JSON_C_TO_STRING_NOSLASHESCAPE, ret_len);
}

void json_print(const char *key, struct json_object *value)
{
	struct json_object *object = json_object_new_object();
	char abi[16], *text;
	size_t len;

	snprintf(abi, sizeof(abi), "%d.%d", IMPOST_PLUGIN_ABI_MAJOR, IMPOST_PLUGIN_ABI_MINOR);
	json_add_string(object, "version", impost_version());
	json_add_string(object, "abi", abi);
	json_object_object_add(object, key, value);
	text = serialize(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	json_object_put(object);
	if (!text) {
		complain("no memory for JSON");
		exit(STATUS_HOST);
	}
	fwrite(text, 1, len, stdout);
	free(text);
}
