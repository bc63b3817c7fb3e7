/* SPDX-License-Identifier: Apache-2.0 */
/* What commands tell row by row: columns for people, objects for programs. */
#ifndef TOOLS_ROW_H
#define TOOLS_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <json-c/json.h>

struct row_cell {
	const char *key; /* the object's member */
	const char *text;
	int width;	    /* columns that it is filled up to */
	const char *behind; /* what follows it on the line */
	bool bold;	    /* on a terminal */
};

/* Adds a row to ARRAY as an object of strings; ARRAY NULL: prints it to FILE. */
void row_tell(struct json_object *array, FILE *file, const struct row_cell *cells, size_t count);
#define ROW_TELL(array, file, ...)                                    \
	row_tell(array, file, (const struct row_cell[]){__VA_ARGS__}, \
		 sizeof((const struct row_cell[]){__VA_ARGS__}) / sizeof(struct row_cell))

#endif
