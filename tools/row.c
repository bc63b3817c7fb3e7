// SPDX-License-Identifier: Apache-2.0
/* Rows as text and as JSON. */
#include "row.h"

#include "json.h"
#include "tool.h"

static void print(FILE *file, const struct row_cell *cells, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		fputs(cells[i].bold ? colour(file, COLOUR_BOLD) : "", file);
		put_text(file, cells[i].text, cells[i].width);
		fputs(cells[i].bold ? colour(file, COLOUR_OFF) : "", file);
		fputs(cells[i].behind, file);
	}
	fputc('\n', file);
}

void row_tell(struct json_object *array, FILE *file, const struct row_cell *cells, size_t count)
{
	struct json_object *object;

	if (!array) {
		print(file, cells, count);
		return;
	}
	object = json_object_new_object();
	for (size_t i = 0; i < count; i++)
		json_add_string(object, cells[i].key, cells[i].text);
	json_object_array_add(array, object);
}
