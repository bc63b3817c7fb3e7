/* SPDX-License-Identifier: Apache-2.0 */
/* The reference of a record, in Markdown, from its description. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "record_text.h"

struct document {
	struct out out;
	/* Records that are, or have been, written. */
	const struct impost_record *told[IMPOST_RECORD_FIELDS];
	uint32_t ntold;
};

static void put(struct document *d, const char *text)
{
	out_put(&d->out, text, strlen(text));
}

/* "uint16", "text of up to 11 bytes", "[point](#point)". */
static void put_element(struct document *d, const struct impost_field *field)
{
	switch (field->type) {
	case IMPOST_FIELD_TYPE_UINT:
		out_format(&d->out, "uint%u", 8 * field->bytes);
		if (field->max)
			out_format(&d->out,
				   field->flags & IMPOST_FIELD_HEX ? ", at most 0x%" PRIx64
								   : ", at most %" PRIu64,
				   field->max);
		break;
	case IMPOST_FIELD_TYPE_INT:
		out_format(&d->out, "int%u", 8 * field->bytes);
		break;
	case IMPOST_FIELD_TYPE_BOOL:
		put(d, "bool");
		break;
	case IMPOST_FIELD_TYPE_TEXT:
		out_format(&d->out, "text of up to %u bytes", field->bytes - 1);
		break;
	case IMPOST_FIELD_TYPE_RECORD:
		out_format(&d->out, "[%s](#%s)", field->record->name, field->record->name);
		break;
	default:
		put(d, "bytes");
	}
}

static void put_type(struct document *d, const struct impost_field *field)
{
	const char *most = field->count_bytes ? "up to " : "";

	if (field->type == IMPOST_FIELD_TYPE_BYTES)
		out_format(&d->out, "%s%u bytes", most, field->count);
	else
		put_element(d, field);
	if (field->flags & IMPOST_FIELD_IS_ARRAY && field->type != IMPOST_FIELD_TYPE_BYTES)
		out_format(&d->out, "; %s%u of them", most, field->count);
}

static void put_versions(struct document *d, const struct impost_field *field)
{
	out_format(&d->out, "%u", field->since);
	if (field->until)
		out_format(&d->out, " to %u", field->until);
}

static void put_fallback(struct document *d, const struct impost_field *field)
{
	bool number = field->type == IMPOST_FIELD_TYPE_UINT ||
		      field->type == IMPOST_FIELD_TYPE_INT || field->type == IMPOST_FIELD_TYPE_BOOL;

	if (field->since == 1 && !field->until)
		return;
	if (!number || field->count_bytes)
		put(d, field->count_bytes ? "none" : "zeros");
	else if (field->type == IMPOST_FIELD_TYPE_BOOL)
		put(d, field->fallback ? "true" : "false");
	else if (field->type == IMPOST_FIELD_TYPE_INT)
		out_format(&d->out, "%" PRId64, (int64_t)field->fallback);
	else
		out_format(&d->out, "%" PRIu64, field->fallback);
}

static void put_row(struct document *d, const struct impost_field *field)
{
	if (field->type == IMPOST_FIELD_TYPE_SIZE)
		return;
	out_format(&d->out, "| `%s` | ", field->name);
	put_type(d, field);
	put(d, " | ");
	put_versions(d, field);
	put(d, " | ");
	put_fallback(d, field);
	put(d, " | ");
	put(d, field->doc);
	put(d, " |\n");
}

static void put_head(struct document *d, const struct impost_record *record)
{
	out_format(&d->out, "### %s\n\n", record->name);
	put(d, record->doc);
	put(d, "\n\n");
	if (d->ntold > 1)
		return;
	out_format(&d->out, "Version %u", record->version);
	if (record->oldest < record->version)
		out_format(&d->out, "; versions from %u on are read", record->oldest);
	if (record->compatible < record->version)
		out_format(&d->out, "; readers of version %u and later can read it",
			   record->compatible);
	put(d, ".\n\n");
}

static bool begin(struct document *d, const struct impost_record *record)
{
	for (uint32_t i = 0; i < d->ntold; i++)
		if (d->told[i] == record)
			return false;
	if (d->ntold == IMPOST_RECORD_FIELDS) {
		d->out.err = d->out.err ? d->out.err : -E2BIG;
		return false;
	}
	d->told[d->ntold++] = record;
	return true;
}

static void document(struct document *d, const struct impost_record *record)
{
	if (!begin(d, record))
		return;
	put_head(d, record);
	put(d, "| field | type | versions | without it | what it is |\n|---|---|---|---|---|\n");
	for (uint32_t i = 0; i < record->nfields; i++)
		put_row(d, record_field(record, i));
	put(d, "\n");
	for (uint32_t i = 0; i < record->nfields; i++)
		if (record_field(record, i)->type == IMPOST_FIELD_TYPE_RECORD)
			document(d, record_field(record, i)->record);
}

int impost_record_document(struct impost_context *ctx, const struct impost_record *record,
			   impost_write_fn write, void *opaque)
{
	struct document d = {.out = {.write = write, .opaque = opaque}};
	int err = impost_record_verify(ctx, record);

	if (err)
		return err;
	document(&d, record);
	return d.out.err;
}
