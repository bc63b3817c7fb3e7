/* SPDX-License-Identifier: Apache-2.0 */
/* What the builders of firmware tables share: configurations in, checksums and texts out. */
#ifndef ARCH_X86_64_STRUCTURE_H
#define ARCH_X86_64_STRUCTURE_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>

/*
 * Copies a caller's struct NAME, which begins with its `size`, to DST, which has ROOM bytes: what
 * the caller's is shorter by is 0. -EINVAL: it is NULL, or shorter than LEAST, the size of its
 * first version.
 */
int structure_take(struct impost_context *ctx, const char *name, void *dst, size_t room,
		   const void *src, size_t least);

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
