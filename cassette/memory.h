/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of guest memory, as the reader hands them on. */
#ifndef CASSETTE_MEMORY_H
#define CASSETTE_MEMORY_H

#include "item.h"

/* Whether it is an array of pieces, with nothing behind it. */
bool cassette_pieces_are_whole(struct cassette_span pieces);

/* Hands the pieces to FN, which are whole. Returns the first result of FN that is not 0. */
int cassette_pieces_hand(struct cassette_span pieces, cassette_memory_fn fn, void *opaque);

#endif
