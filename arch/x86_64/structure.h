/* SPDX-License-Identifier: Apache-2.0 */
/* What the builders share: callers' structs in and out, checks, checksums. */
#ifndef ARCH_X86_64_STRUCTURE_H
#define ARCH_X86_64_STRUCTURE_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>

/* Refuses (-EINVAL) a caller's struct NAME that is NULL, or whose `size`, its first member, is less
 * than LEAST, that of its first version, or was never set. */
int structure_check_size(struct impost_context *ctx, const char *name, const void *structure,
			 size_t least);

/* Refuses a struct that asks for something, too if it asks for what is not known (-E2BIG): of what
 * it has beyond the ROOM bytes that are, not all is 0. */
int structure_check_known(struct impost_context *ctx, const char *name, const void *structure,
			  size_t room, size_t least);

/* Copies such a struct, checked so, to DST, which has ROOM bytes: what the caller's is shorter by
 * is 0. */
int structure_take(struct impost_context *ctx, const char *name, void *dst, size_t room,
		   const void *src, size_t least);

/* Fills such a struct, checked before, from SRC, which has BYTES bytes, as far as its `size` goes,
 * which is kept: what the caller's is longer by is 0. */
void structure_give(void *dst, const void *src, size_t bytes);

/* Refuses (-EINVAL) a struct NAME whose member `reserved` is not 0: it may mean something later. */
int structure_check_reserved(struct impost_context *ctx, const char *name, uint32_t reserved);

/* The byte that makes the sum of BYTES of DATA 0, in which it is still 0. */
uint8_t structure_checksum(const void *data, size_t bytes);

/* Refuses (-EINVAL) a TEXT, called NAME, that is longer than MAX or not printable ASCII. */
int structure_check_text(struct impost_context *ctx, const char *name, const char *text,
			 size_t max);

/* Refuses (-EINVAL) COUNT things, called WHAT, of TABLE, that are nowhere. */
int structure_check_counted(struct impost_context *ctx, const char *table, const char *what,
			    uint32_t count, const void *at);

/* Refuses (-ENOSPC) TABLE, which needs BYTES, where there are but CAPACITY at BUF; NULL: it is only
 * measured. */
int structure_check_room(struct impost_context *ctx, const char *table, size_t bytes,
			 const void *buf, size_t capacity);

#endif
