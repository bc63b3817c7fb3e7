/* SPDX-License-Identifier: Apache-2.0 */
/* What is said on the wire of a migration, in docs/migration-format.md's terms. */
#ifndef CORE_MIGRATE_WIRE_H
#define CORE_MIGRATE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include <impost/memory.h>
#include <impost/range.h>

#include "migrate_link.h"

#define WIRE_VERSION 1u

enum wire_command {
	WIRE_START = 1,
	WIRE_CONFIG = 2,
	WIRE_STATE = 3,
	WIRE_MEMORY = 4,
	WIRE_COMPLETE = 5,
	WIRE_ABANDON = 6,
	WIRE_MEMORY_FD = 7,
	WIRE_JOIN = 0x4901,
	WIRE_POSTPONE = 0x4902,
	WIRE_FAULT = 0x4903,
	WIRE_RESUME = 0x4904,
};

enum wire_status {
	WIRE_OK = 1,
	WIRE_ERROR = 2,
};

#define WIRE_TEXT_MOST	  65536u	       /* bytes of an error's text */
#define WIRE_ROWS_MOST	  UINT64_C(65536)      /* of a table */
#define WIRE_PAYLOAD_MOST (UINT64_C(64) << 20) /* of a configuration or a state */
#define WIRE_ZSTD_MOST	  (UINT64_C(1) << 20)  /* bytes of memory in a row that is compressed */
#define WIRE_TOKEN	  16u

/* Flags in the low bits of a row's address. */
#define WIRE_ROW_ZERO  1u
#define WIRE_ROW_ZSTD  2u
#define WIRE_ROW_FLAGS 0xfffu

/* The flags of the features in use, which have the same bits. */
#define WIRE_FLAGS_OF(features) ((features) & (WIRE_ROW_ZERO | WIRE_ROW_ZSTD))
_Static_assert(WIRE_ROW_ZERO == IMPOST_MIGRATION_ZERO_PAGES, "bit 0 of a row is feature 0");
_Static_assert(WIRE_ROW_ZSTD == IMPOST_MIGRATION_ZSTD, "bit 1 of a row is feature 1");

/* Heads, in the host's byte order, which is the wire's. `code` is a command or a status. */
struct wire_head {
	uint16_t code;
	uint16_t version;  /* Start and its Ok; else 0 */
	uint32_t features; /* likewise; and Config's Ok: those that fall away */
	uint64_t length;
};

_Static_assert(sizeof(struct wire_head) == 16, "16 bytes of a request or a response");

/* A row of a table. */
struct wire_row {
	uint64_t gpa; /* with its flags */
	uint64_t bytes;
};

/* Where a table's rows may lie. */
struct wire_space {
	/* Bytes from GPA to the end of its region; 0: there is no memory. */
	uint64_t (*room)(const void *opaque, uint64_t gpa);
	const void *opaque;
	uint64_t bytes; /* in all */
};

/*
 * Whether COUNT rows of a table are whole pages, each within one region of SPACE, with one of FLAGS
 * at the most, and not more in all than there is, so that what a table costs is bounded: -EPROTO.
 */
int wire_check_rows(struct impost_context *ctx, const struct wire_row *rows, uint64_t count,
		    uint64_t flags, const struct wire_space *space);

/* "Config"; "an unknown command". */
const char *wire_command_name(uint32_t command);

/* --- the source --- */

/* A request with LENGTH bytes at PAYLOAD, which may be NULL; does not wait for the answer. */
int wire_send(struct link *link, uint16_t command, const void *payload, uint64_t length);

/*
 * Reads the answer to COMMAND, which has no payload unless it is an Error. -EREMOTEIO: Error; the
 * text has the peer's, whole lines of it, and all of it is in *ret_text, to be freed, unless
 * RET_TEXT is NULL; -EPROTO: anything else.
 */
int wire_read_answer(struct link *link, uint16_t command, struct wire_head *ret_head,
		     char **ret_text);

/* The same of an answer whose HEAD has been read. */
int wire_judge_answer(struct link *link, uint16_t command, const struct wire_head *head,
		      char **ret_text);

/* Sends, and reads the answer. */
int wire_ask(struct link *link, uint16_t command, const void *payload, uint64_t length);

/* --- the destination --- */

int wire_read_request(struct link *link, struct wire_head *ret_head);

/* -EPROTO, with a text: HEAD is not as its command is to be: header and length. */
int wire_check_request(struct link *link, const struct wire_head *head);

/*
 * Reads the LENGTH bytes behind a head, as they come: what is allocated is no more than twice what
 * has come. -EPROTO: more than WIRE_PAYLOAD_MOST. To be freed.
 */
int wire_read_payload(struct link *link, const char *what, uint64_t length, void **ret_payload);

int wire_answer_ok(struct link *link);

/* Error, with TEXT if the peer can read it; says nothing of its own errors. */
void wire_answer_error(struct link *link, uint32_t features, const char *text);

#endif
