/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory, compressed (zstd) for rows that say so: docs/migration-format.md. */
#ifndef CORE_MIGRATE_SQUEEZE_H
#define CORE_MIGRATE_SQUEEZE_H

#include <stdint.h>

struct impost_context;
struct impost_memory;
struct link;

struct squeezer;

/* With room for ROOM bytes of guest memory. -ENOMEM. Free with squeezer_free(), NULL too. */
int squeezer_create(struct impost_context *ctx, uint64_t room, struct squeezer **ret_squeezer);
void squeezer_free(struct squeezer *squeezer);

/*
 * Appends BYTES (WIRE_ZSTD_MOST at the most) at GPA, as the contents of a row are: a length, and a
 * frame. They are copied before, for a guest may write them meanwhile. 1; 0: they do not get
 * smaller, and nothing is appended; or what impost_memory_read() says.
 */
int squeezer_add(struct squeezer *squeezer, struct impost_memory *memory, uint64_t gpa,
		 uint64_t bytes);

/* What was appended since the last call of this. It holds until the next squeezer_add(). */
uint64_t squeezer_take(struct squeezer *squeezer, const void **ret_data);

struct unsqueezer;

/*
 * Reads the contents of a row of BYTES (WIRE_ZSTD_MOST at the most) at GPA from LINK, and takes
 * them apart; they hold until the next call. *UNSQUEEZER, NULL at first, is made where the first
 * row comes; free with unsqueezer_free(), NULL too. -EPROTO: they are not what they are to be;
 * -ENOMEM; or what the connection says.
 */
int unsqueezer_read(struct unsqueezer **unsqueezer, struct link *link, uint64_t gpa, uint64_t bytes,
		    const uint8_t **ret_contents);
void unsqueezer_free(struct unsqueezer *unsqueezer);

#endif
