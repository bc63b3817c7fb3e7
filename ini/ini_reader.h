/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of an INI, strictly read: what libinih would cut, join or forget is an error here. The
 * meaning of sections, keys and values is the caller's.
 */
#ifndef INI_READER_H
#define INI_READER_H

#include <stdbool.h>
#include <stddef.h>

#define INI_MOST_BYTES ((size_t)1 << 20)

/* A key as it was read, or, with key NULL, the head of a section. */
struct ini_item {
	struct ini_item *next;
	char *section, *key, *value;
	unsigned line;
};

/* What was wrong, and in which line. */
struct ini_error {
	unsigned line;
	char text[512];
};

/* Whether the value of KEY in SECTION may go on in lines that begin with white space. */
typedef bool (*ini_continues_fn)(const char *section, const char *key);

/*
 * Reads LEN bytes of TEXT into a list of items in their order, to be freed with ini_items_free().
 * CONTINUES NULL: no value goes on. -EINVAL: RET_ERROR says what is wrong: a line that is too long,
 * that is neither section nor `key = value` nor comment, a key before any section or given before,
 * a NUL byte. -ENOMEM; -EFBIG: more than INI_MOST_BYTES.
 */
int ini_read(const char *text, size_t len, ini_continues_fn continues, struct ini_item **ret_items,
	     struct ini_error *ret_error);
void ini_items_free(struct ini_item *items);

/* The item of KEY in SECTION; NULL: none. */
const struct ini_item *ini_find(const struct ini_item *items, const char *section, const char *key);

/* Reads the file at PATH, whole, into memory to be freed. Negative errno; -EFBIG: longer than
 * INI_MOST_BYTES. */
int ini_read_file(const char *path, char **ret_text, size_t *ret_len);

/* Edits (insert, delete, replace a character) from A to B, of which 31 characters count: for "did
 * you mean". */
size_t ini_distance(const char *a, const char *b);

#endif
