/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptions of structs: what they may say, and members by their description. */
#include "record.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
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

#define HEAD_BYTES 7u

/* A key's length and first bytes as one number, which is in the order of item_compare_keys(). */
static uint64_t key_head(const char *name, uint8_t *ret_length)
{
	uint64_t head = 0;
	uint8_t length = 0;

	while (name[length] && length < HEAD_BYTES)
		head = head << 8 | (uint8_t)name[length++];
	head <<= 8 * (HEAD_BYTES - length);
	if (name[length])
		length = (uint8_t)strlen(name);
	*ret_length = length;
	return (uint64_t)length << 8 * HEAD_BYTES | head;
}

/* Whether the key of field A is greater than B's; their heads are mostly enough. */
static bool is_greater(const struct impost_record *record, const uint64_t *heads, uint32_t a,
		       uint32_t b)
{
	if (heads[a] != heads[b])
		return heads[a] > heads[b];
	return strcmp(record_field(record, a)->name, record_field(record, b)->name) > 0;
}

static void field_order_make(const struct impost_record *record, struct field_order *order)
{
	uint64_t heads[IMPOST_RECORD_FIELDS]; /* of field I */
	uint8_t lengths[IMPOST_RECORD_FIELDS];

	order->count = 0;
	for (uint32_t i = 0; i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);
		uint32_t at = order->count;

		if (field->type == IMPOST_FIELD_TYPE_SIZE)
			continue;
		heads[i] = key_head(field->name, &lengths[i]);
		/* Insertion: there are few, and mostly they are in order. */
		for (; at > 0 && is_greater(record, heads, order->index[at - 1], i); at--)
			order->index[at] = order->index[at - 1];
		order->index[at] = (uint8_t)i;
		order->count++;
	}
	for (uint32_t i = 0; i < order->count; i++)
		order->length[i] = lengths[order->index[i]];
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

#define MOST_KEPT 32u

/* The first `nkept` stay as they are. */
static struct {
	const struct impost_record *of;
	struct field_order order;
} kept[MOST_KEPT];
static atomic_uint nkept;

static const struct field_order *kept_order(const struct impost_record *record)
{
	uint32_t count = atomic_load_explicit(&nkept, memory_order_acquire);

	for (uint32_t i = 0; i < count; i++)
		if (kept[i].of == record)
			return &kept[i].order;
	return NULL;
}

static void keep_orders(const struct impost_record *record, uint32_t depth)
{
	uint32_t count = atomic_load_explicit(&nkept, memory_order_relaxed);

	if (depth == IMPOST_RECORD_DEPTH || count == MOST_KEPT || kept_order(record))
		return;
	kept[count].of = record;
	field_order_make(record, &kept[count].order);
	atomic_store_explicit(&nkept, count + 1, memory_order_release);
	for (uint32_t i = 0; i < record->nfields; i++)
		if (record_field(record, i)->type == IMPOST_FIELD_TYPE_RECORD)
			keep_orders(record_field(record, i)->record, depth + 1);
}

void record_keep_orders(const struct impost_record *record)
{
	keep_orders(record, 0);
}

int nested_order(struct impost_context *ctx, struct nested_orders *orders,
		 const struct impost_record *record, uint32_t depth,
		 const struct field_order **ret_order)
{
	int err = record_check(ctx, record, depth);

	if (err)
		return err;
	*ret_order = kept_order(record);
	if (*ret_order)
		return 0;
	if (orders->of[depth] != record)
		field_order_make(record, &orders->order[depth]);
	orders->of[depth] = record;
	*ret_order = &orders->order[depth];
	return 0;
}
