/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 in text that anybody may have written. */
#ifndef TOOLS_UTF8_H
#define TOOLS_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character at TEXT, 1 to 4; 0: what is there is none. */
size_t utf8_length(const char *text);

/* Whether all of TEXT is UTF-8. */
bool utf8_is_valid(const char *text);

/* Whether the character at TEXT, of LENGTH bytes, is one that terminals obey: C0, DEL and C1. */
bool utf8_is_control(const char *text, size_t length);

/* Bytes of the longest beginning of TEXT that has MOST bytes at the most and cuts no character. */
size_t utf8_cut(const char *text, size_t most);

#endif
