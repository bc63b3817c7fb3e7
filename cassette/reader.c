/* SPDX-License-Identifier: Apache-2.0 */
/* The reading side of a cassette: what each item of the sequence says. */
#include "reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include <impost/error.h>

#include "memory.h"

struct cassette_reader {
	struct stream stream;
	struct header header;
	cassette_host_fn host;
	void *host_opaque;

	bool peeked, broken;
	struct cassette_item item;
	struct item_writer kept; /* the item at the cursor, whose spans lead here */
	uint64_t calls;
	uint64_t memory_left; /* memory items of the call at the cursor */
	struct cassette_sum *sums;
	size_t sums_room;
	char text[CASSETTE_TEXT_MAX];
	uint8_t *unpacked;
	ZSTD_DCtx *zstd;
	char why[256];
};

const char *cassette_reader_why(const struct cassette_reader *reader)
{
	return reader->why;
}

const struct cassette_header *cassette_reader_header(const struct cassette_reader *reader)
{
	return &reader->header.header;
}

/* What is wrong with the item at OFFSET; for good. */
static int wrong(struct cassette_reader *reader, uint64_t offset, int err, const char *what)
{
	snprintf(reader->why, sizeof(reader->why),
		 "the item at byte %" PRIu64 " (after call %" PRIu64 "): %s", offset, reader->calls,
		 what);
	reader->broken = true;
	return err;
}

/* The item at the cursor is the end of the file. */
static int cut(struct cassette_reader *reader, enum stream_status status)
{
	snprintf(reader->why, sizeof(reader->why),
		 "the cassette ends at byte %" PRIu64 ", %s call %" PRIu64
		 ": it was not recorded to its end",
		 cassette_stream_size(&reader->stream),
		 status == STREAM_CUT ? "within an item after" : "after", reader->calls);
	reader->item.kind = CASSETTE_CUT;
	reader->item.number = reader->calls;
	reader->item.why = reader->why;
	return 0;
}

bool cassette_text_take(const struct item *item, char *text, size_t size)
{
	if (item->number >= size)
		return false;
	for (uint64_t i = 0; i < item->number; i++)
		if (item->data[i] < ' ' || item->data[i] == 0x7f)
			return false;
	if (item->number)
		memcpy(text, item->data, item->number);
	text[item->number] = '\0';
	return true;
}

/* --- calls --- */

static bool take_error_text(struct cassette_reader *reader, const struct item *item)
{
	if (item->number >= sizeof(reader->text))
		return false;
	cassette_item_copy_text(item, reader->text);
	return true;
}

static bool take_op(struct cassette_reader *reader, const struct item *item)
{
	if (item->number >= reader->header.nops || reader->header.ops[item->number] == CASSETTE_OPS)
		return false;
	reader->item.op = reader->header.ops[item->number];
	return true;
}

/* Takes the value of KEY, which the head ITEM begins and which is VALUE. False: it is wrong. */
static bool take_member(struct cassette_reader *reader, const struct item *key,
			const struct item *item, struct cassette_span value)
{
#define IS(name) (key->number == sizeof(name) - 1 && !memcmp(key->data, name, sizeof(name) - 1))
	if (IS("op"))
		return item->type == ITEM_UINT && take_op(reader, item);
	if (IS("vcpu")) {
		reader->item.lane = (uint32_t)item->number;
		return item->type == ITEM_UINT && item->number < CASSETTE_LANE_VM;
	}
	if (IS("error")) {
		reader->item.error = (int32_t)(-1 - (int64_t)item->number);
		return item->type == ITEM_NEGINT && item->number < INT32_MAX;
	}
	if (IS("text"))
		return item->type == ITEM_TEXT && take_error_text(reader, item);
	if (IS("memory")) {
		reader->memory_left = item->number;
		return item->type == ITEM_UINT;
	}
	if (IS("args"))
		reader->item.args = value;
	else if (IS("results"))
		reader->item.results = value;
	else
		return false;
	return item->type == ITEM_MAP;
#undef IS
}

static int take_call(struct cassette_reader *reader, struct cassette_span span)
{
	struct item_reader at = cassette_item_begin(span);
	struct cassette_span value;
	struct item head, key, item;
	size_t required;

	reader->item.kind = CASSETTE_CALL;
	reader->item.op = CASSETTE_OPS;
	reader->text[0] = '\0';
	reader->item.text = reader->text;
	if (!cassette_item_take(&at, ITEM_MAP, &head))
		return wrong(reader, reader->item.offset, -IMPOST_EFORMAT, "it is no map");
	for (uint64_t i = 0; i < head.number; i++) {
		struct item_reader first;

		if (!cassette_item_take(&at, ITEM_TEXT, &key))
			return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
				     "it has a key that is no text");
		first = at;
		if (cassette_item_read(&first, &item, &required) != ITEM_READ ||
		    !cassette_item_skip(&at, &value) || !take_member(reader, &key, &item, value))
			return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
				     "it is a call with a value that no call has, or an operation "
				     "that is not known here");
	}
	if (reader->item.op == CASSETTE_OPS ||
	    cassette_op_is_vm(reader->item.op) != (reader->item.lane == CASSETTE_LANE_VM))
		return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
			     "it is a call of an operation that its lane does not have");
	reader->item.number = ++reader->calls;
	return 0;
}

/* --- checksums --- */

static bool make_sums_room(struct cassette_reader *reader, uint64_t count)
{
	struct cassette_sum *sums;

	if (count <= reader->sums_room)
		return true;
	sums = realloc(reader->sums, count * sizeof(*sums));
	if (!sums)
		return false;
	reader->sums = sums;
	reader->sums_room = count;
	return true;
}

static bool take_sum(struct item_reader *at, struct cassette_sum *ret_sum)
{
	struct item head, gpa, sum;

	if (!cassette_item_take(at, ITEM_ARRAY, &head) || head.number != 2 ||
	    !cassette_item_take(at, ITEM_UINT, &gpa) || !cassette_item_take(at, ITEM_UINT, &sum))
		return false;
	*ret_sum = (struct cassette_sum){gpa.number, sum.number};
	return true;
}

static bool take_when(struct cassette_span span, enum cassette_when *ret_when)
{
	struct item when;

	if (!cassette_item_find_typed(span, "when", ITEM_TEXT, &when))
		return false;
	if (when.number == 6 && !memcmp(when.data, "before", 6))
		*ret_when = CASSETTE_BEFORE;
	else if (when.number == 5 && !memcmp(when.data, "after", 5))
		*ret_when = CASSETTE_AFTER;
	else
		return false;
	return true;
}

static int take_sums(struct cassette_reader *reader, struct cassette_span span)
{
	struct item_reader at;
	uint64_t count, lane;

	reader->item.kind = CASSETTE_SUMS;
	reader->item.number = reader->calls;
	if (!cassette_item_find_array(span, "sums", &at, &count) ||
	    !take_when(span, &reader->item.when) ||
	    !cassette_item_find_uint(span, "vcpu", CASSETTE_LANE_VM - 1, &lane))
		return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
			     "it is no item of checksums");
	if (!make_sums_room(reader, count))
		return wrong(reader, reader->item.offset, -ENOMEM, "no memory for its checksums");
	for (uint64_t i = 0; i < count; i++)
		if (!take_sum(&at, &reader->sums[i]))
			return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
				     "it has a checksum that is none");
	reader->item.lane = (uint32_t)lane;
	reader->item.sums = reader->sums;
	reader->item.nsums = count;
	return 0;
}

/* --- the host's values --- */

#define NAME_ROOM 64u

static int take_host(struct cassette_reader *reader, struct cassette_span span)
{
	char section[NAME_ROOM], key[NAME_ROOM], text[4096];
	struct item a, b, c;
	struct item_reader at;
	uint64_t count;

	if (!cassette_item_find_array(span, "host", &at, &count) || count != 3 ||
	    !cassette_item_take(&at, ITEM_TEXT, &a) || !cassette_item_take(&at, ITEM_TEXT, &b) ||
	    !cassette_item_take(&at, ITEM_TEXT, &c) ||
	    !cassette_text_take(&a, section, sizeof(section)) ||
	    !cassette_text_take(&b, key, sizeof(key)) ||
	    !cassette_text_take(&c, text, sizeof(text)))
		return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
			     "it is no value of the host's");
	return reader->host ? reader->host(reader->host_opaque, section, key, text) : 0;
}

/* --- the cursor --- */

static int take_end(struct cassette_reader *reader, struct cassette_span span)
{
	struct cassette_span rest;
	uint64_t calls;

	if (!cassette_item_find_uint(span, "end", UINT64_MAX, &calls) || calls != reader->calls)
		return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
			     "it is the end after another number of calls");
	if (cassette_stream_next(&reader->stream, &rest) != STREAM_END)
		return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
			     "it is the end, and something is behind it");
	reader->item.kind = CASSETTE_END;
	reader->item.number = reader->calls;
	return 0;
}

static int stream_error(struct cassette_reader *reader, enum stream_status status)
{
	uint64_t offset = cassette_stream_offset(&reader->stream);

	switch (status) {
	case STREAM_FAILED:
		return wrong(reader, offset, reader->stream.err, strerror(-reader->stream.err));
	case STREAM_LONG:
		return wrong(reader, offset, -IMPOST_EFORMAT, "it is longer than any can be");
	default:
		return wrong(reader, offset, -IMPOST_EFORMAT,
			     "it is no CBOR that stands in cassettes");
	}
}

/* Keeps the item that SPAN is, so that reading on does not move it. */
static bool keep(struct cassette_reader *reader, struct cassette_span *span)
{
	reader->kept.len = 0;
	cassette_item_put_raw(&reader->kept, span->data, span->len);
	span->data = reader->kept.bytes;
	return !reader->kept.failed;
}

/* Takes the next item, whatever it is; *RET_HERE: it is for the cursor. */
static int take_next(struct cassette_reader *reader, bool *ret_here)
{
	struct cassette_span span, value;
	enum stream_status status = cassette_stream_next(&reader->stream, &span);

	reader->item = (struct cassette_item){
		.lane = CASSETTE_LANE_VM,
		.offset = cassette_stream_offset(&reader->stream),
	};
	reader->memory_left = 0;
	*ret_here = true;
	if (status == STREAM_END || status == STREAM_CUT)
		return cut(reader, status);
	if (status != STREAM_ITEM)
		return stream_error(reader, status);
	if (!keep(reader, &span))
		return wrong(reader, reader->item.offset, -ENOMEM, "no memory for it");
	if (cassette_item_find(span, "op", &value))
		return take_call(reader, span);
	if (cassette_item_find(span, "sums", &value))
		return take_sums(reader, span);
	if (cassette_item_find(span, "end", &value))
		return take_end(reader, span);
	*ret_here = false;
	if (cassette_item_find(span, "host", &value))
		return take_host(reader, span);
	return wrong(reader, reader->item.offset, -IMPOST_EFORMAT,
		     "it is neither a call nor anything else that stands here");
}

int cassette_reader_peek(struct cassette_reader *reader, const struct cassette_item **ret_item)
{
	bool here = reader->peeked;
	int err = reader->broken ? -IMPOST_EFORMAT : 0;

	while (!err && !here)
		err = take_next(reader, &here);
	if (err)
		return err;
	reader->peeked = true;
	*ret_item = &reader->item;
	return 0;
}

/* --- the guest's memory --- */

static int unpack(struct cassette_reader *reader, struct cassette_span *span)
{
	struct item packed;
	uint64_t bytes;
	size_t done;

	if (!cassette_item_find_typed(*span, "zstd", ITEM_BYTES, &packed))
		return 0;
	if (!cassette_item_find_uint(*span, "bytes", CASSETTE_MEMORY_MAX, &bytes))
		return -IMPOST_EFORMAT;
	if (!reader->zstd)
		reader->zstd = ZSTD_createDCtx();
	if (!reader->unpacked)
		reader->unpacked = malloc(CASSETTE_MEMORY_MAX);
	if (!reader->zstd || !reader->unpacked)
		return -ENOMEM;
	done = ZSTD_decompressDCtx(reader->zstd, reader->unpacked, bytes, packed.data,
				   packed.number);
	if (ZSTD_isError(done) || done != bytes)
		return -IMPOST_EFORMAT;
	*span = (struct cassette_span){reader->unpacked, bytes};
	return 0;
}

/* The next memory item, unpacked and judged. */
static int next_memory(struct cassette_reader *reader, struct cassette_span *ret_pieces)
{
	enum stream_status status = cassette_stream_next(&reader->stream, ret_pieces);
	uint64_t offset = cassette_stream_offset(&reader->stream);
	int err;

	if (status == STREAM_END || status == STREAM_CUT)
		return wrong(reader, offset, -IMPOST_EFORMAT,
			     "the cassette ends within the memory of the call");
	if (status != STREAM_ITEM)
		return stream_error(reader, status);
	err = unpack(reader, ret_pieces);
	if (err == -ENOMEM)
		return wrong(reader, offset, err, "no memory to unpack it");
	if (err || !cassette_pieces_are_whole(*ret_pieces))
		return wrong(reader, offset, -IMPOST_EFORMAT, "it is no item of guest memory");
	return 0;
}

int cassette_reader_memory(struct cassette_reader *reader, cassette_memory_fn fn, void *opaque)
{
	struct cassette_span pieces;
	int err = reader->broken ? -IMPOST_EFORMAT : 0;

	while (!err && reader->peeked && reader->memory_left) {
		err = next_memory(reader, &pieces);
		if (err)
			break;
		reader->memory_left--;
		err = cassette_pieces_hand(pieces, fn, opaque);
	}
	return err;
}

void cassette_reader_next(struct cassette_reader *reader)
{
	struct cassette_span pieces;

	if (!reader->peeked || reader->item.kind == CASSETTE_END ||
	    reader->item.kind == CASSETTE_CUT)
		return;
	while (!reader->broken && reader->memory_left && !next_memory(reader, &pieces))
		reader->memory_left--;
	reader->peeked = false;
}

/* --- opening --- */

void cassette_reader_close(struct cassette_reader *reader)
{
	if (!reader)
		return;
	cassette_stream_close(&reader->stream);
	cassette_header_free(&reader->header);
	ZSTD_freeDCtx(reader->zstd);
	free(reader->unpacked);
	free(reader->sums);
	free(reader->kept.bytes);
	free(reader);
}

static int open_reader(struct cassette_reader *reader, const char *path)
{
	struct cassette_span span;
	enum stream_status status;
	const char *what;
	int err = cassette_stream_open(&reader->stream, path);

	if (err) {
		snprintf(reader->why, sizeof(reader->why), "cannot open it: %s",
			 err == -IMPOST_EFORMAT ? "it is no regular file" : strerror(-err));
		return err;
	}
	status = cassette_stream_next(&reader->stream, &span);
	if (status == STREAM_FAILED)
		return stream_error(reader, status);
	if (status != STREAM_ITEM)
		return wrong(reader, 0, -IMPOST_EFORMAT, "it is no header of a cassette");
	err = cassette_header_take(&reader->header, span, &what);
	return err ? wrong(reader, 0, err, what) : 0;
}

int cassette_reader_open(const char *path, struct cassette_reader **ret_reader, char *why,
			 size_t size)
{
	struct cassette_reader *reader = calloc(1, sizeof(*reader));
	int err;

	if (!reader) {
		snprintf(why, size, "no memory for a reader");
		return -ENOMEM;
	}
	err = open_reader(reader, path);
	if (err) {
		snprintf(why, size, "%s", reader->why);
		cassette_reader_close(reader);
		return err;
	}
	*ret_reader = reader;
	return 0;
}

/* Goes as far as the host's values stand. */
static int pass_host(struct cassette_reader *reader)
{
	const struct cassette_item *item;

	for (;;) {
		int err = cassette_reader_peek(reader, &item);

		if (err || item->kind == CASSETTE_END || item->kind == CASSETTE_CUT)
			return err;
		if (item->kind == CASSETTE_CALL && item->op == CASSETTE_RUN)
			return 0;
		cassette_reader_next(reader);
	}
}

int cassette_read_host(const char *path, cassette_host_fn fn, void *opaque, char *why, size_t size)
{
	struct cassette_reader *reader;
	int err = cassette_reader_open(path, &reader, why, size);

	if (err)
		return err;
	reader->host = fn;
	reader->host_opaque = opaque;
	err = pass_host(reader);
	if (err)
		snprintf(why, size, "%s", reader->why);
	cassette_reader_close(reader);
	return err;
}
