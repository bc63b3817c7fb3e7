/* SPDX-License-Identifier: Apache-2.0 */
/* Records: whether a description is one that encoding and decoding can work with. */
#include <inttypes.h>
#include <string.h>

#include "record.h"

#define NAME_BYTES 47u

struct verifier {
	struct impost_context *ctx;
	const struct impost_record *outermost;
};

/* Bytes of the struct that belong to something. */
struct extent {
	uint64_t offset, bytes;
};

static bool overlap(struct extent a, struct extent b)
{
	return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

static bool is_number(uint32_t type)
{
	return type == IMPOST_FIELD_TYPE_UINT || type == IMPOST_FIELD_TYPE_INT ||
	       type == IMPOST_FIELD_TYPE_BOOL;
}

static bool is_width(uint32_t bytes)
{
	return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

/* What a field has in the struct itself: the member and, [1], the counter. */
static void extents(const struct impost_field *field, struct extent pair[2])
{
	pair[0] = (struct extent){field->offset, sizeof(void *)};
	if (field->where == IMPOST_FIELD_IN_PLACE)
		pair[0].bytes = (uint64_t)field->bytes * field->count;
	if (field->where == IMPOST_FIELD_TAIL)
		pair[0].bytes = 0;
	pair[1] = (struct extent){field->count_offset, field->count_bytes};
}

static const char *bad_name(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	if (!len || len > NAME_BYTES)
		return "its name is not of 1 to 47 bytes";
	if (name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")])
		return "its name has other characters than letters, digits, '_', '.' and '-'";
	return NULL;
}

/* --- one field --- */

static const char *bad_value(const struct impost_field *field)
{
	uint64_t max = member_max(is_width(field->bytes) ? field->bytes : 8);

	if (is_number(field->type) && !is_width(field->bytes))
		return "a number is not of 1, 2, 4 or 8 bytes";
	if (field->type != IMPOST_FIELD_TYPE_UINT && field->max)
		return "it has a max, and is no unsigned integer";
	if (field->max > max)
		return "its max is more than its bytes can hold";
	if (!is_number(field->type) && field->fallback)
		return "it has a fallback, and is no number";
	if (field->type == IMPOST_FIELD_TYPE_UINT &&
	    field->fallback > (field->max ? field->max : max))
		return "its fallback is more than its max";
	if (field->type == IMPOST_FIELD_TYPE_BOOL && field->fallback > 1)
		return "its fallback is neither 0 nor 1";
	if (field->type == IMPOST_FIELD_TYPE_INT &&
	    ((int64_t)field->fallback > (int64_t)(max >> 1) ||
	     (int64_t)field->fallback < -1 - (int64_t)(max >> 1)))
		return "its bytes cannot hold its fallback";
	return NULL;
}

static const char *bad_type(const struct impost_field *field, uint32_t index)
{
	switch (field->type) {
	case IMPOST_FIELD_TYPE_UINT:
	case IMPOST_FIELD_TYPE_INT:
	case IMPOST_FIELD_TYPE_BOOL:
		break;
	case IMPOST_FIELD_TYPE_BYTES:
		if (field->bytes != 1)
			return "its elements are not of 1 byte";
		break;
	case IMPOST_FIELD_TYPE_TEXT:
		if (!field->bytes)
			return "there is no room for a NUL";
		break;
	case IMPOST_FIELD_TYPE_RECORD:
		if (!field->record)
			return "it nests no record";
		if (field->bytes != field->record->bytes)
			return "the record that it nests is of another size than its elements";
		break;
	case IMPOST_FIELD_TYPE_SIZE:
		if (index || field->bytes != 4 || field->where != IMPOST_FIELD_IN_PLACE ||
		    field->flags || field->since != 1 || field->until)
			return "a struct's size is its first field, a uint32_t, of every version";
		break;
	default:
		return "its type is unknown";
	}
	return bad_value(field);
}

static const char *bad_count(const struct impost_record *record, const struct impost_field *field,
			     uint32_t depth)
{
	bool is_array = field->flags & IMPOST_FIELD_IS_ARRAY ||
			field->type == IMPOST_FIELD_TYPE_BYTES;

	if (field->flags & ~(IMPOST_FIELD_HEX | IMPOST_FIELD_IS_ARRAY))
		return "it has flags that are unknown";
	if (field->where > IMPOST_FIELD_TAIL)
		return "it is nowhere that is known";
	if (!is_array && (field->count != 1 || field->count_bytes))
		return "it has a count, and is no array";
	if (!field->count)
		return "there may be no element of it at all";
	if (field->count_bytes && !is_width(field->count_bytes))
		return "its counter is not of 1, 2, 4 or 8 bytes";
	if (field->count_bytes && field->count > member_max(field->count_bytes))
		return "its counter cannot count as far";
	if (field->where != IMPOST_FIELD_IN_PLACE && (!is_array || !field->count_bytes))
		return "what is not in place is an array with a counter";
	if (field->where == IMPOST_FIELD_TAIL && (depth || field->offset > record->bytes))
		return "only the outermost struct has a tail, which begins at its end or before";
	return NULL;
}

static const char *bad_place(const struct impost_record *record, const struct impost_field *field,
			     uint32_t index)
{
	struct extent mine[2], other[2];

	extents(field, mine);
	for (int m = 0; m < 2; m++)
		if (mine[m].offset + mine[m].bytes > record->bytes)
			return "it is not in the struct whole";
	if (overlap(mine[0], mine[1]))
		return "its counter is part of it";
	for (uint32_t i = 0; i < index; i++) {
		extents(record_field(record, i), other);
		for (int m = 0; m < 2; m++)
			for (int o = 0; o < 2; o++)
				if (overlap(mine[m], other[o]))
					return "it, or its counter, lies over an earlier field's";
		if (field->where == IMPOST_FIELD_TAIL &&
		    record_field(record, i)->where == IMPOST_FIELD_TAIL)
			return "it is the second tail";
	}
	return NULL;
}

static const char *bad_field(const struct verifier *v, const struct impost_record *record,
			     uint32_t index, uint32_t depth)
{
	const struct impost_field *field = record_field(record, index);
	const char *bad = bad_name(field->name);

	for (uint32_t i = 0; !bad && i < index; i++)
		if (strcmp(field->name, record_field(record, i)->name) == 0)
			bad = "an earlier field has the same name";
	if (!bad && (!field->doc || !*field->doc))
		bad = "it has no doc";
	if (!bad && (!field->since || field->since > v->outermost->version))
		bad = "its `since` is no version up to the record's";
	if (!bad && field->until && field->until < field->since)
		bad = "its `until` is before its `since`";
	if (!bad)
		bad = bad_type(field, index);
	if (!bad)
		bad = bad_count(record, field, depth);
	return bad ? bad : bad_place(record, field, index);
}

/* --- a record --- */

static bool has_elsewhere(const struct impost_record *record, uint32_t depth)
{
	for (uint32_t i = 0; depth && i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);

		if (field->where != IMPOST_FIELD_IN_PLACE ||
		    (field->type == IMPOST_FIELD_TYPE_RECORD &&
		     has_elsewhere(field->record, depth - 1)))
			return true;
	}
	return false;
}

const char *record_bad_runtime(const struct impost_record *record)
{
	if (!record->to_saved != !record->from_saved)
		return "it has one of to_saved and from_saved: it needs both, or none";
	if (!record->to_saved && has_elsewhere(record, IMPOST_RECORD_DEPTH))
		return "it has POINTER or TAIL fields: it needs to_saved and from_saved to be "
		       "saved or loaded";
	return NULL;
}

static const char *bad_record(const struct impost_record *record)
{
	const char *bad = bad_name(record->name);

	if (bad)
		return bad;
	if (!record->doc || !*record->doc)
		return "it has no doc";
	if (!record->version || !record->oldest || !record->compatible ||
	    record->oldest > record->version || record->compatible > record->version)
		return "version, oldest and compatible are from 1, and none is above version";
	if (record->nfields && !record->fields)
		return "its fields are NULL";
	return NULL;
}

static int verify(const struct verifier *v, const struct impost_record *record, uint32_t depth)
{
	const char *bad;
	int err = record_check(v->ctx, record, depth);

	if (err)
		return err;
	bad = bad_record(record);
	if (bad)
		return impost_error_set(v->ctx, -EINVAL, "description of record %s: %s",
					record->name ? record->name : "(NULL)", bad);
	for (uint32_t i = 0; i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);
		const struct where where = {.name = field->name ? field->name : "(NULL)"};

		bad = bad_field(v, record, i, depth);
		if (bad)
			return record_fail(v->ctx, -EINVAL, record, &where, "description: %s", bad);
		if (field->type == IMPOST_FIELD_TYPE_RECORD)
			err = verify(v, field->record, depth + 1);
		if (err)
			return err;
	}
	return 0;
}

int impost_record_verify(struct impost_context *ctx, const struct impost_record *record)
{
	struct verifier v = {ctx, record};
	int err = verify(&v, record, 0);
	const char *bad;

	if (err)
		return err;
	bad = !record->to_saved != !record->from_saved ? record_bad_runtime(record) : NULL;
	return bad ? record_fail(ctx, -EINVAL, record, NULL, "description: %s", bad) : 0;
}
