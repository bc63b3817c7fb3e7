/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of records share: members of structs by their description, and loading in steps.
 */
#ifndef CORE_RECORD_H
#define CORE_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <impost/record.h>

/* The keys of a record's envelope. */
#define RECORD_COMPAT	"compat"
#define RECORD_VERSION	"version"
#define RECORD_CONTENTS "contents"

/* Where in a record something is: a field or, without a name, an element. */
struct where {
	const struct where *up; /* NULL: the outermost */
	const char *name;
	uint64_t index;
};

#define WHERE_MAX 256u

/* Writes WHERE as "a.b[3].c"; "" for none. Cut to what fits. */
void where_format(const struct where *where, char *text, size_t room);

/* ERR, with a text that begins with the record and the place. */
int record_fail(struct impost_context *ctx, int err, const struct impost_record *record,
		const struct where *where, const char *fmt, ...) IMPOST_PRINTF(5, 6);

/* Those of a record's fields that are encoded, in the order of their keys. */
struct field_order {
	uint32_t count;
	uint8_t index[IMPOST_RECORD_FIELDS];
	uint8_t length[IMPOST_RECORD_FIELDS]; /* of the key */
};

/* Whether RECORD has the form of a description at all, DEPTH records deep; -EINVAL if not. */
int record_check(struct impost_context *ctx, const struct impost_record *record, uint32_t depth);

/* Why RECORD cannot be saved from, or loaded into, a runtime form; NULL: it can. */
const char *record_bad_runtime(const struct impost_record *record);

/* The order of the record that was met last at each depth: fields in a row nest the same one. */
struct nested_orders {
	const struct impost_record *of[IMPOST_RECORD_DEPTH];
	struct field_order order[IMPOST_RECORD_DEPTH];
};

/* Makes the orders of RECORD, a description that never changes, and of all that it nests, for good.
 * One thread at a time. */
void record_keep_orders(const struct impost_record *record);

/* The order of RECORD, which is nested DEPTH records deep, when it has been checked; it is there
 * until another one is met at that depth. */
int nested_order(struct impost_context *ctx, struct nested_orders *orders,
		 const struct impost_record *record, uint32_t depth,
		 const struct field_order **ret_order);

static inline const struct impost_field *record_field(const struct impost_record *record,
						      uint32_t index)
{
	return (const void *)((const char *)record->fields + (size_t)index * record->field_bytes);
}

/* Whether FIELD is in records of VERSION. */
static inline bool field_present(const struct impost_field *field, uint32_t version)
{
	return field->since <= version && (!field->until || version <= field->until);
}

/* An unsigned integer of BYTES, 1, 2, 4 or 8, at AT, of any alignment. The lengths that numbers
 * have are written out: compilers make one instruction of each, where a call of memcpy() would take
 * longer than all else. */
static inline uint64_t member_load(const void *at, uint32_t bytes)
{
	uint64_t value = 0;

	switch (bytes) {
	case 1:
		memcpy(&value, at, 1); /* x86: the low bytes come first */
		break;
	case 2:
		memcpy(&value, at, 2);
		break;
	case 4:
		memcpy(&value, at, 4);
		break;
	case 8:
		memcpy(&value, at, 8);
		break;
	default:
		memcpy(&value, at, bytes);
		break;
	}
	return value;
}

static inline void member_store(void *at, uint32_t bytes, uint64_t value)
{
	switch (bytes) {
	case 1:
		memcpy(at, &value, 1);
		break;
	case 2:
		memcpy(at, &value, 2);
		break;
	case 4:
		memcpy(at, &value, 4);
		break;
	case 8:
		memcpy(at, &value, 8);
		break;
	default:
		memcpy(at, &value, bytes);
		break;
	}
}

/* The largest value of an unsigned integer of BYTES. */
static inline uint64_t member_max(uint32_t bytes)
{
	return UINT64_MAX >> (64 - 8 * bytes);
}

/* Elements of FIELD in the struct at BASE, as its count says, and where they are. */
uint64_t field_count(const struct impost_field *field, const void *base);
void *field_elements(const struct impost_field *field, const void *base);

/* Decodes into memory of its own, which record_free() frees: *ret_bytes with the tail. */
int record_decode_new(struct impost_context *ctx, const struct impost_record *record,
		      const void *data, size_t len, void **ret_saved, size_t *ret_bytes,
		      uint32_t *ret_version);
int record_encode_new(struct impost_context *ctx, const struct impost_record *record,
		      const void *saved, void **ret_data, size_t *ret_len);
/*
 * A load in steps, so that several objects are loaded or none: prepare touches nothing; apply
 * leaves the object as it was if it fails, and otherwise undo makes it so; end frees, and goes
 * with every prepare that succeeded.
 */
struct record_load {
	struct impost_context *ctx;
	const struct impost_record *record;
	void *runtime;
	uint32_t version;
	void *saved;  /* what is loaded */
	void *before; /* what was there; NULL: apply has not succeeded */
};

int record_load_prepare(struct impost_context *ctx, const struct impost_record *record,
			void *runtime, const void *data, size_t len, struct record_load *ret_load);
int record_load_apply(struct record_load *load);
void record_load_undo(struct record_load *load, int result);
void record_load_end(struct record_load *load);

void record_free(const struct impost_record *record, void *saved);

#endif
