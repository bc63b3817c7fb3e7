/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of guest memory: an array of [gpa, bytes] and [gpa, length], gathered one by one. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include <impost/error.h>

/* What a page's pieces come to at the most: its bytes, and a head of each piece. */
#define PAGE_PIECES_MAX (4u * 4096u)
#define PAGE		4096u

void cassette_pieces_begin(struct cassette_pieces *pieces)
{
	pieces->len = 0;
	pieces->count = 0;
	pieces->failed = false;
}

void cassette_pieces_free(struct cassette_pieces *pieces)
{
	free(pieces->bytes);
	*pieces = (struct cassette_pieces){0};
}

static void put(struct cassette_pieces *pieces, uint64_t gpa, enum item_type type, uint64_t number,
		const void *data)
{
	struct item_writer writer = {pieces->bytes, pieces->len, pieces->capacity, pieces->failed};

	cassette_item_put(&writer, ITEM_ARRAY, 2, NULL);
	cassette_item_put(&writer, ITEM_UINT, gpa, NULL);
	cassette_item_put(&writer, type, number, data);
	pieces->bytes = writer.bytes;
	pieces->len = writer.len;
	pieces->capacity = writer.capacity;
	pieces->failed = writer.failed;
	pieces->count++;
}

void cassette_pieces_data(struct cassette_pieces *pieces, uint64_t gpa, const void *data,
			  size_t len)
{
	put(pieces, gpa, ITEM_BYTES, len, data);
}

void cassette_pieces_zero(struct cassette_pieces *pieces, uint64_t gpa, uint64_t len)
{
	put(pieces, gpa, ITEM_UINT, len, NULL);
}

bool cassette_pieces_full(const struct cassette_pieces *pieces)
{
	/* The array's head is before them in the item. */
	return pieces->len > CASSETTE_MEMORY_MAX - PAGE_PIECES_MAX - 16;
}

/* One piece, as FN takes it. */
static bool take_piece(struct item_reader *reader, uint64_t *ret_gpa, struct item *ret_piece)
{
	struct item head, gpa, piece;
	size_t required;

	if (!cassette_item_take(reader, ITEM_ARRAY, &head) || head.number != 2 ||
	    !cassette_item_take(reader, ITEM_UINT, &gpa) ||
	    cassette_item_read(reader, &piece, &required) != ITEM_READ)
		return false;
	if (piece.number && gpa.number + piece.number - 1 < gpa.number)
		return false;
	if (piece.type != ITEM_UINT &&
	    (piece.type != ITEM_BYTES || !piece.number || gpa.number % PAGE + piece.number > PAGE))
		return false;
	*ret_gpa = gpa.number;
	*ret_piece = piece;
	return true;
}

/* Takes all of them; FN is called for each unless it is NULL. */
static int take_pieces(struct cassette_span pieces, cassette_memory_fn fn, void *opaque)
{
	struct item_reader reader = cassette_item_begin(pieces);
	struct item head, piece;
	uint64_t gpa;
	int err = 0;

	if (!cassette_item_take(&reader, ITEM_ARRAY, &head))
		return -IMPOST_EFORMAT;
	for (uint64_t i = 0; !err && i < head.number; i++) {
		if (!take_piece(&reader, &gpa, &piece))
			return -IMPOST_EFORMAT;
		if (fn)
			err = fn(opaque, gpa, piece.type == ITEM_BYTES ? piece.data : NULL,
				 piece.number);
	}
	return err || reader.at == reader.end ? err : -IMPOST_EFORMAT;
}

bool cassette_pieces_are_whole(struct cassette_span pieces)
{
	return take_pieces(pieces, NULL, NULL) == 0;
}

int cassette_pieces_hand(struct cassette_span pieces, cassette_memory_fn fn, void *opaque)
{
	return take_pieces(pieces, fn, opaque);
}
