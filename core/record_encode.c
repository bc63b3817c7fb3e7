/* SPDX-License-Identifier: Apache-2.0 */
/* Records: from a struct to CBOR. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cbor.h"
#include "record.h"
#include "text.h"

struct encoder {
	struct impost_context *ctx;
	const struct impost_record *record; /* the outermost */
	struct item_writer out;
	struct nested_orders orders;
};

static int encode_fields(struct encoder *e, const struct impost_record *record,
			 const struct field_order *order, const uint8_t *base,
			 const struct where *up, uint32_t depth);

static int encode_text(struct encoder *e, const struct impost_field *field, const uint8_t *at,
		       const struct where *where)
{
	size_t len = strnlen((const char *)at, field->bytes);

	if (len == field->bytes)
		return record_fail(e->ctx, -EINVAL, e->record, where,
				   "the text has no NUL in its %u bytes", field->bytes);
	if (!text_is_utf8(at, len))
		return record_fail(e->ctx, -EINVAL, e->record, where, "the text is no UTF-8");
	item_put(&e->out, ITEM_TEXT, len, at);
	return 0;
}

static int encode_number(struct encoder *e, const struct impost_field *field, const uint8_t *at,
			 const struct where *where)
{
	uint64_t value = member_load(at, field->bytes), max = field->max;
	uint32_t unused = 64 - 8 * field->bytes;
	int64_t number = (int64_t)(value << unused) >> unused;

	if (field->type == IMPOST_FIELD_TYPE_BOOL)
		max = 1;
	if (field->type == IMPOST_FIELD_TYPE_INT) {
		item_put(&e->out, number < 0 ? ITEM_NEGINT : ITEM_UINT,
			 (uint64_t)(number < 0 ? -1 - number : number), NULL);
		return 0;
	}
	if (max && value > max)
		return record_fail(e->ctx, -EINVAL, e->record, where,
				   "%" PRIu64 " is more than %" PRIu64, value, max);
	if (field->type == IMPOST_FIELD_TYPE_BOOL)
		item_put(&e->out, ITEM_BOOL, value, NULL);
	else
		item_put(&e->out, ITEM_UINT, value, NULL);
	return 0;
}

/* ORDER: of the field's record, if it is one. */
static int encode_value(struct encoder *e, const struct impost_field *field,
			const struct field_order *order, const uint8_t *at,
			const struct where *where, uint32_t depth)
{
	switch (field->type) {
	case IMPOST_FIELD_TYPE_UINT:
	case IMPOST_FIELD_TYPE_INT:
	case IMPOST_FIELD_TYPE_BOOL:
		return encode_number(e, field, at, where);
	case IMPOST_FIELD_TYPE_TEXT:
		return encode_text(e, field, at, where);
	case IMPOST_FIELD_TYPE_RECORD:
		return encode_fields(e, field->record, order, at, where, depth + 1);
	default:
		return record_fail(e->ctx, -EINVAL, e->record, where, "its type %u is unknown",
				   field->type);
	}
}

/* Whether the COUNT elements at AT can be. */
static int check_count(struct encoder *e, const struct impost_field *field, uint64_t count,
		       const uint8_t *at, const struct where *where)
{
	if (count > field->count)
		return record_fail(e->ctx, -EINVAL, e->record, where,
				   "it has %" PRIu64 " elements: %u at the most", count,
				   field->count);
	if (count && !at)
		return record_fail(e->ctx, -EINVAL, e->record, where,
				   "it has %" PRIu64 " elements, but points to NULL", count);
	return 0;
}

static int encode_field(struct encoder *e, const struct impost_field *field, const uint8_t *base,
			const struct where *up, uint32_t depth)
{
	const struct where where = {.up = up, .name = field->name};
	struct where element = {.up = &where};
	const uint8_t *at = field_elements(field, base);
	uint64_t count = field_count(field, base);
	const struct field_order *order = NULL;
	int err = check_count(e, field, count, at, &where);

	if (!err && field->type == IMPOST_FIELD_TYPE_RECORD)
		err = nested_order(e->ctx, &e->orders, field->record, depth + 1, &order);
	if (err)
		return err;
	if (field->type == IMPOST_FIELD_TYPE_BYTES) {
		item_put(&e->out, ITEM_BYTES, count, at);
		return 0;
	}
	if (!(field->flags & IMPOST_FIELD_IS_ARRAY))
		return encode_value(e, field, order, at, &where, depth);
	item_put(&e->out, ITEM_ARRAY, count, NULL);
	if (field->type == IMPOST_FIELD_TYPE_UINT && !field->max) {
		/* None of them can be wrong. */
		item_put_uints(&e->out, at, field->bytes, count);
		return 0;
	}
	for (; !err && element.index < count; element.index++, at += field->bytes)
		err = encode_value(e, field, order, at, &element, depth);
	return err;
}

static int encode_fields(struct encoder *e, const struct impost_record *record,
			 const struct field_order *order, const uint8_t *base,
			 const struct where *up, uint32_t depth)
{
	uint32_t version = e->record->version, present = 0;
	int err = 0;

	for (uint32_t i = 0; i < order->count; i++)
		present += field_present(record_field(record, order->index[i]), version);
	item_put(&e->out, ITEM_MAP, present, NULL);
	for (uint32_t i = 0; !err && i < order->count; i++) {
		const struct impost_field *field = record_field(record, order->index[i]);

		if (!field_present(field, version))
			continue;
		item_put(&e->out, ITEM_TEXT, order->length[i], field->name);
		err = encode_field(e, field, base, up, depth);
	}
	return err;
}

int impost_record_encode(struct impost_context *ctx, const struct impost_record *record,
			 const void *saved, void *buf, size_t capacity, size_t *ret_len)
{
	const struct field_order *order;
	struct encoder e; /* of which the orders are long, and nothing before they are made */
	int err;

	e.ctx = ctx;
	e.record = record;
	e.out = (struct item_writer){.buf = buf, .capacity = capacity};
	memset(e.orders.of, 0, sizeof(e.orders.of));
	err = nested_order(ctx, &e.orders, record, 0, &order);
	if (err)
		return err;
	item_put(&e.out, ITEM_MAP, 3, NULL);
	item_put_text(&e.out, RECORD_COMPAT);
	item_put(&e.out, ITEM_UINT, record->compatible, NULL);
	item_put_text(&e.out, RECORD_VERSION);
	item_put(&e.out, ITEM_UINT, record->version, NULL);
	item_put_text(&e.out, RECORD_CONTENTS);
	err = encode_fields(&e, record, order, saved, NULL, 0);
	if (err)
		return err;
	*ret_len = e.out.len;
	if (e.out.len > capacity)
		return record_fail(ctx, -ENOSPC, record, NULL,
				   "it takes %zu bytes encoded, and there is room for %zu",
				   e.out.len, capacity);
	return 0;
}

/* Nearly all records are shorter, and are encoded once. */
#define LIKELY_BYTES 32768u

int record_encode_new(struct impost_context *ctx, const struct impost_record *record,
		      const void *saved, void **ret_data, size_t *ret_len)
{
	size_t len = 0, capacity = LIKELY_BYTES;
	void *data, *cut;
	int err;

	for (;;) {
		data = malloc(capacity);
		if (!data)
			return impost_error_set(ctx, -ENOMEM, "no memory");
		err = impost_record_encode(ctx, record, saved, data, capacity, &len);
		if (!err) {
			cut = realloc(data, len);
			*ret_data = cut ? cut : data;
			*ret_len = len;
			return 0;
		}
		free(data);
		if (err != -ENOSPC)
			return err;
		capacity = len > 2 * capacity ? len : 2 * capacity;
	}
}
