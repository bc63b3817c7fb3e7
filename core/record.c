/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptions of structs: what they may say, and members by their description. */
#include "record.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cbor.h"
#include "text.h"

/* --- places and their errors --- */

void where_format(const struct where *where, char *text, size_t room)
{
	size_t len;

	text[0] = '\0';
	if (!where)
		return;
	where_format(where->up, text, room);
	len = strlen(text);
	if (where->name)
		snprintf(text + len, room - len, "%s%s", len ? "." : "", where->name);
	else
		snprintf(text + len, room - len, "[%" PRIu64 "]", where->index);
}

int record_fail(struct impost_context *ctx, int err, const struct impost_record *record,
		const struct where *where, const char *fmt, ...)
{
	char place[WHERE_MAX], what[512];
	va_list ap;

	where_format(where, place, sizeof(place));
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return impost_error_set(ctx, err, "record %s%s%s: %s", record->name,
				where ? ", field " : "", place, what);
}

/* --- members --- */

uint64_t field_count(const struct impost_field *field, const void *base)
{
	if (!field->count_bytes)
		return field->count;
	return member_load((const uint8_t *)base + field->count_offset, field->count_bytes);
}

void *field_elements(const struct impost_field *field, const void *base)
{
	void *at = (uint8_t *)(uintptr_t)base + field->offset;

	if (field->where == IMPOST_FIELD_POINTER)
		memcpy(&at, at, sizeof(at));
	return at;
}

/* As item_compare_keys() has it, which need not be asked for keys that differ in length. */
static bool is_greater(const struct field_order *order, const struct impost_record *record,
		       uint32_t a, uint32_t b)
{
	if (order->length[a] != order->length[b])
		return order->length[a] > order->length[b];
	return memcmp(record_field(record, order->index[a])->name,
		      record_field(record, order->index[b])->name, order->length[a]) > 0;
}

void field_order_make(const struct impost_record *record, struct field_order *ret_order)
{
	struct field_order *order = ret_order;

	order->count = 0;
	for (uint32_t i = 0; i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);
		uint32_t at = order->count;

		if (field->type == IMPOST_FIELD_TYPE_SIZE)
			continue;
		order->index[at] = (uint8_t)i;
		order->length[at] = (uint8_t)strlen(field->name);
		order->count++;
		/* Insertion: there are few, and mostly they are in order. */
		for (; at > 0 && is_greater(order, record, at - 1, at); at--) {
			uint8_t index = order->index[at], length = order->length[at];

			order->index[at] = order->index[at - 1];
			order->length[at] = order->length[at - 1];
			order->index[at - 1] = index;
			order->length[at - 1] = length;
		}
	}
}

/* --- freeing --- */

static void release(const struct impost_record *record, void *saved, uint32_t depth)
{
	for (uint32_t i = 0; depth && i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);
		uint8_t *elements;
		uint64_t count;

		if (field->type != IMPOST_FIELD_TYPE_RECORD && field->where != IMPOST_FIELD_POINTER)
			continue;
		elements = field_elements(field, saved);
		count = elements ? field_count(field, saved) : 0;
		if (field->type == IMPOST_FIELD_TYPE_RECORD)
			for (uint64_t at = 0; at < count; at++)
				release(field->record, elements + at * field->bytes, depth - 1);
		if (field->where != IMPOST_FIELD_POINTER)
			continue;
		free(elements);
		memset((uint8_t *)saved + field->offset, 0, sizeof(void *));
		member_store((uint8_t *)saved + field->count_offset, field->count_bytes, 0);
	}
}

void impost_record_release(const struct impost_record *record, void *saved)
{
	if (record && saved)
		release(record, saved, IMPOST_RECORD_DEPTH);
}

void record_free(const struct impost_record *record, void *saved)
{
	impost_record_release(record, saved);
	free(saved);
}

/* --- what a description may say --- */

int record_check(struct impost_context *ctx, const struct impost_record *record, uint32_t depth)
{
	if (!record)
		return impost_error_set(ctx, -EINVAL,
					"a record without a description: its pointer is NULL, as "
					"it is in programs that are built with IMPOST_NO_STATE");
	if (record->size != sizeof(*record) || record->field_bytes != sizeof(struct impost_field))
		return impost_error_set(ctx, -EINVAL,
					"a description whose size is %u, with fields of %u bytes: "
					"make it with IMPOST_RECORD",
					record->size, record->field_bytes);
	if (depth >= IMPOST_RECORD_DEPTH)
		return record_fail(ctx, -EINVAL, record, NULL,
				   "it is nested deeper than %u records", IMPOST_RECORD_DEPTH);
	if (record->nfields > IMPOST_RECORD_FIELDS)
		return record_fail(ctx, -EINVAL, record, NULL, "it has %u fields: %u at the most",
				   record->nfields, IMPOST_RECORD_FIELDS);
	return 0;
}
