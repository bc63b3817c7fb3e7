/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of encoded records: what printing and comparing share. */
#ifndef CORE_RECORD_TEXT_H
#define CORE_RECORD_TEXT_H

#include "cbor.h"
#include "record.h"

/* Where text goes. After an error nothing is written any more. */
struct out {
	impost_write_fn write;
	void *opaque;
	int err;
};

void out_put(struct out *out, const char *text, size_t len);

/* At one time this much at the most: names, numbers, rows of tables with their reasons. */
#define OUT_FORMAT_MAX 2048u
void out_format(struct out *out, const char *fmt, ...) IMPOST_PRINTF(2, 3);

/* Bytes of a byte string in one row; longer ones have several, of which rows of zeros are left out.
 */
#define ROW_BYTES 32u

/* A row: "00 01 02". */
void out_row(struct out *out, const uint8_t *data, size_t len);

/* One item that is not, or one that may be, an array or a map: as text, and as JSON. FIELD, which
 * may be NULL, is what it is of. The item must have been checked. */
void out_leaf(struct out *out, const struct item *item, const struct impost_field *field);
void out_json(struct out *out, struct item_reader *reader, const struct impost_record *record);

/* A name for paths from KEY, which may be any text: printable, and cut. */
#define KEY_NAME_MAX 64u
void key_name(const struct item *key, char name[KEY_NAME_MAX]);

/* Finds NAME in the COUNT pairs at READER, which then is at its value. */
bool map_find(struct item_reader *reader, uint64_t count, const char *name);

/* The field of RECORD, which may be NULL, that KEY names; NULL: there is none. */
const struct impost_field *key_field(const struct impost_record *record, const struct item *key);

/* The record's envelope, if READER is at one: READER then is at its contents. */
struct envelope {
	uint64_t compat, version;
};
bool envelope_open(struct item_reader *reader, struct envelope *ret_envelope);

/* Begins to read DATA, which must be one item of our form and nothing else. */
int text_begin(struct impost_context *ctx, const struct impost_record *record, const void *data,
	       size_t len, struct item_reader *ret_reader);

#endif
