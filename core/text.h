/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers for strings and ABI structs. */
#ifndef CORE_TEXT_H
#define CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>
#include <impost/version.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* A printf-like text in memory of its own; NULL: no memory. */
char *text_format(const char *fmt, ...) IMPOST_PRINTF(1, 2);

/* Makes TEXT one line of printable UTF-8: each byte of what is no character, or a control
 * character, becomes '?'; a sequence cut short at the end goes. */
void text_clean(char *text);

/* Whether the LEN bytes at TEXT are well-formed UTF-8, of any characters. */
bool text_is_utf8(const void *text, size_t len);

/* The path TEXT, taken from folder BASE if it is relative; NULL: no memory. */
char *text_join(const char *base, const char *text);

/*
 * Copies an ABI struct that says it has SIZE bytes into one of ROOM bytes, which is zeroed first.
 * Only whole 8-byte members are taken. SRC is read for the smaller of the two.
 */
void abi_copy(void *dst, size_t room, const void *src, uint32_t size);

/*
 * Bytes of struct TYPE up to and with MEMBER: what the first minor that had the struct knew of it.
 */
#define ABI_UP_TO(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))

/* No struct will ever be longer: a `size` above was never set. */
#define ABI_MOST (UINT32_C(64) << 10)

/*
 * Structs that begin with a uint32_t `size` and that a host may have from another minor than this
 * library. abi_check: -EINVAL, with a text, if the struct NAME at STRUCTURE is NULL, shorter
 * than LEAST, or longer than any can be. abi_take, for what a host asks for, checks so and
 * copies it into DST of ROOM bytes, whose `size` becomes ROOM; -E2BIG, with a text: of what
 * STRUCTURE has beyond ROOM not all is 0. abi_give copies DST's `size` bytes of the struct of ROOM
 * bytes at SRC, zeroes what DST has beyond, and leaves its `size` alone.
 */
int abi_check(struct impost_context *ctx, const char *name, const void *structure, size_t least);
int abi_take(struct impost_context *ctx, const char *name, void *dst, size_t room, const void *src,
	     size_t least);
void abi_give(void *dst, const void *src, size_t room);

#endif
