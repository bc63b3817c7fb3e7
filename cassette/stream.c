/* SPDX-License-Identifier: Apache-2.0 */
/* A file as a sequence of CBOR items, each read until it is whole, and never more than is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <impost/error.h>

#include "reader.h"

#define READ_AT_ONCE ((size_t)64 << 10)

/* An item that is being looked through: how many items are left at each depth. */
struct scan {
	size_t at; /* behind what was looked at, from the item's beginning */
	size_t required;
	uint64_t left[ITEM_DEPTH + 1];
	uint32_t depth;
};

int cassette_stream_open(struct stream *stream, const char *path)
{
	struct stat st;

	/* Nobody waits for the other end of a pipe, which could not be read twice either. */
	stream->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (stream->fd < 0 || fstat(stream->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -IMPOST_EFORMAT;
	/* Keeps a recording from emptying what is played. One that is being written can be read: no
	 * matter. */
	flock(stream->fd, LOCK_SH | LOCK_NB);
	return 0;
}

void cassette_stream_close(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	free(stream->buf);
}

uint64_t cassette_stream_offset(const struct stream *stream)
{
	return stream->item;
}

uint64_t cassette_stream_size(const struct stream *stream)
{
	return stream->base + stream->have;
}

/* Makes room for more behind what is there. */
static bool make_room(struct stream *stream)
{
	size_t capacity = stream->capacity ? 2 * stream->capacity : 2 * READ_AT_ONCE;
	uint8_t *buf;

	if (stream->at) {
		memmove(stream->buf, stream->buf + stream->at, stream->have - stream->at);
		stream->base += stream->at;
		stream->have -= stream->at;
		stream->at = 0;
	}
	if (stream->capacity - stream->have >= READ_AT_ONCE)
		return true;
	buf = realloc(stream->buf, capacity);
	if (!buf)
		return false;
	stream->buf = buf;
	stream->capacity = capacity;
	return true;
}

/* Reads more. STREAM_ITEM: there is more. */
static enum stream_status fill(struct stream *stream)
{
	ssize_t got;

	if (stream->ended)
		return stream->at == stream->have ? STREAM_END : STREAM_CUT;
	if (!make_room(stream)) {
		stream->err = -ENOMEM;
		return STREAM_FAILED;
	}
	do {
		got = read(stream->fd, stream->buf + stream->have, stream->capacity - stream->have);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		stream->err = -errno;
		return STREAM_FAILED;
	}
	if (!got) {
		stream->ended = true;
		return stream->at == stream->have ? STREAM_END : STREAM_CUT;
	}
	stream->have += (size_t)got;
	return STREAM_ITEM;
}

/* Items that come inside of the one whose head ITEM is. */
static uint64_t inside(const struct item *item)
{
	if (item->type == ITEM_ARRAY)
		return item->number;
	if (item->type == ITEM_MAP)
		return item->number > UINT64_MAX / 2 ? UINT64_MAX : 2 * item->number;
	return 0;
}

/* Looks on through what is there. STREAM_CUT: it goes on behind. */
static enum stream_status scan_on(const struct stream *stream, struct scan *scan)
{
	const uint8_t *start;
	struct item_reader reader;
	struct item item;

	if (!stream->buf) /* before the first read there is nothing to point into */
		return STREAM_CUT;
	start = stream->buf + stream->at;
	reader = (struct item_reader){start + scan->at, stream->buf + stream->have};
	while (scan->depth || scan->left[0]) {
		enum item_status status = cassette_item_read(&reader, &item, &scan->required);

		if (status != ITEM_READ)
			return status == ITEM_SHORT ? STREAM_CUT : STREAM_WRONG;
		scan->at = (size_t)(reader.at - start);
		scan->left[scan->depth]--;
		if (inside(&item)) {
			if (scan->depth == ITEM_DEPTH)
				return STREAM_WRONG;
			scan->left[++scan->depth] = inside(&item);
		}
		while (scan->depth && !scan->left[scan->depth])
			scan->depth--;
	}
	return STREAM_ITEM;
}

enum stream_status cassette_stream_next(struct stream *stream, struct cassette_span *ret_item)
{
	struct scan scan = {.left = {1}};
	enum stream_status status;

	stream->item = stream->base + stream->at;
	for (;;) {
		status = scan_on(stream, &scan);
		if (scan.at > CASSETTE_ITEM_MAX ||
		    (status == STREAM_CUT && scan.required > CASSETTE_ITEM_MAX - scan.at))
			return STREAM_LONG;
		if (status != STREAM_CUT)
			break;
		status = fill(stream);
		if (status != STREAM_ITEM)
			return status;
	}
	if (status != STREAM_ITEM)
		return status;
	*ret_item = (struct cassette_span){stream->buf + stream->at, scan.at};
	stream->at += scan.at;
	return STREAM_ITEM;
}
