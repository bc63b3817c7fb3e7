/* SPDX-License-Identifier: Apache-2.0 */
/* What the reader is made of: the file as a stream of whole items, and the header. */
#ifndef CASSETTE_READER_H
#define CASSETTE_READER_H

#include "item.h"

/* --- stream.c --- */

struct stream {
	int fd;
	int err; /* of read */
	uint8_t *buf;
	size_t at;   /* where the item begins that comes next */
	size_t have; /* bytes in buf */
	size_t capacity;
	uint64_t base; /* buf's place in the file */
	uint64_t item; /* the place of the last item that was asked for */
	bool ended;    /* the file has no more */
};

enum stream_status {
	STREAM_ITEM,
	STREAM_END,    /* of the file, behind an item */
	STREAM_CUT,    /* of the file, within one */
	STREAM_WRONG,  /* an item that cassettes do not have */
	STREAM_LONG,   /* it would be longer than CASSETTE_ITEM_MAX */
	STREAM_FAILED, /* reading, or there is no memory: `err` */
};

int cassette_stream_open(struct stream *stream, const char *path);
void cassette_stream_close(struct stream *stream);

/* The next item, which holds until the next call. The stream's place is behind it then; with any
 * other status it stays where it is. */
enum stream_status cassette_stream_next(struct stream *stream, struct cassette_span *ret_item);

/* The place of the item that cassette_stream_next() was about. */
uint64_t cassette_stream_offset(const struct stream *stream);

/* Bytes that were read. */
uint64_t cassette_stream_size(const struct stream *stream);

/* --- header.c --- */

#define OPS_MAX	    256u
#define HEADER_NAME 64u

struct header {
	struct cassette_header header;
	char backend[HEADER_NAME], version[HEADER_NAME];
	enum cassette_op ops[OPS_MAX]; /* by the file's number; CASSETTE_OPS: not known */
	uint64_t nops;
};

/* Takes the header that SPAN is. *RET_WHAT: what is wrong. */
int cassette_header_take(struct header *header, struct cassette_span span, const char **ret_what);
void cassette_header_free(struct header *header);

/* --- reader.c --- */

/* Copies a text of less than SIZE bytes, with no control characters. */
bool cassette_text_take(const struct item *item, char *text, size_t size);

#endif
