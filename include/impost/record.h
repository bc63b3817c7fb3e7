/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: a C struct, described once in a table, field by field. From the table come encoding and
 * decoding with bounds checks, versions, texts, comparison and documentation. docs/records.md shows
 * how a device is described.
 *
 * Encoded, a record is one CBOR item (RFC 8949) in deterministic form (4.2.1: shortest heads,
 * definite lengths, keys sorted and single), made of unsigned and negative integers of 64 bits,
 * byte strings, texts, booleans, arrays, and maps whose keys are texts:
 *
 *	{"compat": N, "version": N, "contents": {NAME: VALUE, ...}}
 *
 * A nested record is its fields' map alone, and its fields' `since` and `until` count the versions
 * of the outermost record. Decoding takes that form and no other, so what is accepted has one
 * encoding.
 *
 * Versions: a field is in the records of versions `since` to `until`. A record of an older version
 * lacks the later fields, which become their fallback. One of a newer version says in `compat`
 * which is the oldest version whose readers may read it; such a reader skips the fields that it
 * does not know. Anything else that is missing or unknown is refused.
 *
 * Descriptions are `static const` data of whoever writes them, and are trusted; encoded records are
 * not. Allocation is bounded by the input: an array takes as many elements as it has bytes at the
 * most. Nothing recurses deeper than IMPOST_RECORD_DEPTH.
 *
 * Unless a call says otherwise: any thread may make it, several at once; CTX may be NULL, then no
 * text is kept. Each can return -EINVAL for a description that impost_record_verify() refuses in
 * what that call needs of it, and -ENOMEM.
 *
 * A library that was built without state (-Dstate=disabled) has none of this: calls return
 * -ENOTSUP, and those that are given a context or a VM set a text. Its pkg-config file defines
 * IMPOST_NO_STATE, with which the macros below leave nothing in the object of who describes.
 */
#ifndef IMPOST_RECORD_H
#define IMPOST_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>

struct impost_record;

/* Takes LEN bytes of TEXT, which has no terminator. Any value but 0 ends the writing and is what
 * the call that writes returns. */
typedef int (*impost_write_fn)(void *opaque, const char *text, size_t len);

/* --- descriptions --- */

/* What a field is, in the struct and in CBOR. */
#define IMPOST_FIELD_TYPE_UINT	 1u /* uint8_t to uint64_t; an unsigned integer */
#define IMPOST_FIELD_TYPE_INT	 2u /* int8_t to int64_t; an integer */
#define IMPOST_FIELD_TYPE_BOOL	 3u /* bool, or an unsigned integer that is 0 or 1; false, true */
#define IMPOST_FIELD_TYPE_BYTES	 4u /* uint8_t[]; a byte string */
#define IMPOST_FIELD_TYPE_TEXT	 5u /* char[N], UTF-8, ends with a NUL, rest zeroed; a text */
#define IMPOST_FIELD_TYPE_RECORD 6u /* a struct with a description of its own; a map */
/*
 * uint32_t: bytes of the struct and its tail, as structs have it that begin with `size`. It is not
 * encoded; decoding sets it.
 */
#define IMPOST_FIELD_TYPE_SIZE 7u

/* Where the elements of a field are. */
#define IMPOST_FIELD_IN_PLACE 0u /* the member is the value, or an array of values */
#define IMPOST_FIELD_POINTER  1u /* the member points to them: malloc'd, NULL if there are none */
#define IMPOST_FIELD_TAIL     2u /* the member is a flexible array: of the outermost record only */

/* Texts show the value in base 16. */
#define IMPOST_FIELD_HEX 1u
/* The field is an array of one dimension, also if it has one element or none. */
#define IMPOST_FIELD_IS_ARRAY 2u

/* One field: made by the macros below. */
struct impost_field {
	const char *name; /* the key: 1 to 47 of a-z, A-Z, 0-9, '_', '.' and '-' */
	const char *doc;  /* one line of Markdown */
	uint32_t type;	  /* IMPOST_FIELD_TYPE_* */
	uint32_t where;	  /* IMPOST_FIELD_IN_PLACE, _POINTER or _TAIL */
	uint32_t flags;	  /* IMPOST_FIELD_HEX, _IS_ARRAY */
	uint32_t offset;  /* of the member in the struct */
	uint32_t bytes;	  /* of one element; of BYTES: 1 */
	/* Elements: in place how many there is room for, else the most that are accepted, not 0. */
	uint32_t count;
	/* The unsigned integer member that says how many of them there are, which is no field of
	 * its own. count_bytes 0: there is none, they are always `count`. */
	uint32_t count_offset, count_bytes;
	uint32_t since;	   /* the version that added it: from 1 */
	uint32_t until;	   /* the last version that has it; 0: it is there still */
	uint64_t fallback; /* of UINT, INT (as int64_t), BOOL: the value for records without it */
	uint64_t max;	   /* of UINT: the largest value; 0: what its bytes can hold */
	const struct impost_record *record; /* of RECORD */
};

/* Limits of a description: records in records, and fields of one record. */
#define IMPOST_RECORD_DEPTH  8u
#define IMPOST_RECORD_FIELDS 128u

/*
 * The description of a struct, the *saved form*. What follows `nfields` is for objects that live,
 * the *runtime form*, which impost_record_save() and impost_record_load() convert from and to. Of
 * those all are optional. Steps return 0, or a negative value, which fails the save or load.
 */
struct impost_record {
	uint32_t size;	      /* of this struct: IMPOST_RECORD sets it */
	uint32_t field_bytes; /* sizeof(struct impost_field): likewise */
	uint32_t version;     /* that is written: from 1 */
	uint32_t oldest;      /* version that is read still */
	uint32_t compatible;  /* the oldest version whose readers can read what is written */
	uint32_t bytes;	      /* of the saved form, without its tail */
	const char *name;     /* as for fields */
	const char *doc;      /* a paragraph of Markdown */
	const struct impost_field *fields;
	uint32_t nfields;
	/*
	 * IMPOST_LOCK: a pthread_mutex_t in the runtime form, not a robust one; 0: none. It is held
	 * while to_saved or from_saved runs, or members are copied, and at no other time.
	 */
	uint32_t lock;
	/*
	 * Convert between the forms. Both or none: without them the runtime form is the saved form,
	 * of which the described members are copied; then none may be POINTER or TAIL.
	 *
	 * to_saved fills SAVED, which is zeroed and has room for the longest tail. What it leaves
	 * in POINTER members, also when it fails, must come from malloc(3): the library frees it.
	 *
	 * from_saved takes what it wants of SAVED, which stays the library's. When it fails, it is
	 * called again with what to_saved said before, so that it need not clear up; then it must
	 * not fail.
	 */
	int (*to_saved)(const void *runtime, void *saved);
	int (*from_saved)(const void *saved, void *runtime);
	/* Before the lock is taken to save, and when all is over (RESULT: 0 or why it failed), if
	 * pre_save succeeded. */
	int (*pre_save)(void *runtime);
	void (*post_save)(void *runtime, int result);
	/*
	 * Before the lock is taken to load, and after what was loaded is in place (VERSION: the
	 * record's). If post_load fails, what was before is put back. load_failed comes after
	 * pre_load succeeded and the load did not, when what was before is in place.
	 */
	int (*pre_load)(void *runtime);
	int (*post_load)(void *runtime, uint32_t version);
	void (*load_failed)(void *runtime, int result);
	/*
	 * Judges what was decoded, beyond what fields say, before anything is touched. TEXT has
	 * ROOM bytes for why it fails.
	 */
	int (*check)(const void *saved, char *text, size_t room);
};

/*
 * The macros, which are for C alone: C++ (C++20 9.4.2) takes initializers by name only in the order
 * of the members. A host in C++ has its descriptions in a file in C.
 *
 * The last argument of each field is its doc, which further members may follow: `.flags =
 * IMPOST_FIELD_HEX`, `.max = 23`, IMPOST_COUNTED(...), `.until = 2`.
 *
 *	IMPOST_FIELDS(uart_fields,
 *		IMPOST_FIELD_UINT(struct uart_saved, lcr, 1, 0, "Line control", .max = 0x7f),
 *		IMPOST_FIELD_ARRAY(struct uart_saved, fifo, UINT, 1, "What was received",
 *				   IMPOST_COUNTED(struct uart_saved, nfifo)),
 *	)
 *	IMPOST_RECORD(uart_record, "uart", struct uart_saved, 2, 1, 1, uart_fields, "A 16550A",
 *		      IMPOST_LOCK(struct uart, lock), .to_saved = save, .from_saved = load)
 */
#define IMPOST_MEMBER_(type, member)	    (((type *)0)->member)
#define IMPOST_MEMBER_BYTES_(type, member)  ((uint32_t)sizeof(IMPOST_MEMBER_(type, member)))
#define IMPOST_ELEMENT_BYTES_(type, member) ((uint32_t)sizeof(IMPOST_MEMBER_(type, member)[0]))

#define IMPOST_FIELD_(type_, member, of, in, bytes_, count_, flags_)                       \
	.name = #member, .type = IMPOST_FIELD_TYPE_##of, .where = IMPOST_FIELD_##in,       \
	.offset = (uint32_t)offsetof(type_, member), .bytes = (bytes_), .count = (count_), \
	.flags = (flags_)

/* A number, a text or a record that is a member itself. Numbers and booleans have a fallback. */
#define IMPOST_FIELD_UINT(type, member, since_, fallback_, ...)                                    \
	{                                                                                          \
		IMPOST_FIELD_(type, member, UINT, IN_PLACE, IMPOST_MEMBER_BYTES_(type, member), 1, \
			      0),                                                                  \
			.since = (since_), .fallback = (fallback_), .doc = __VA_ARGS__             \
	}
/* The same, shown in base 16. */
#define IMPOST_FIELD_HEX_UINT(type, member, since_, fallback_, ...)                                \
	{                                                                                          \
		IMPOST_FIELD_(type, member, UINT, IN_PLACE, IMPOST_MEMBER_BYTES_(type, member), 1, \
			      IMPOST_FIELD_HEX),                                                   \
			.since = (since_), .fallback = (fallback_), .doc = __VA_ARGS__             \
	}
#define IMPOST_FIELD_INT(type, member, since_, fallback_, ...)                                    \
	{                                                                                         \
		IMPOST_FIELD_(type, member, INT, IN_PLACE, IMPOST_MEMBER_BYTES_(type, member), 1, \
			      0),                                                                 \
			.since = (since_), .fallback = (uint64_t)(fallback_), .doc = __VA_ARGS__  \
	}
#define IMPOST_FIELD_BOOL(type, member, since_, fallback_, ...)                                    \
	{                                                                                          \
		IMPOST_FIELD_(type, member, BOOL, IN_PLACE, IMPOST_MEMBER_BYTES_(type, member), 1, \
			      0),                                                                  \
			.since = (since_), .fallback = (fallback_), .doc = __VA_ARGS__             \
	}
#define IMPOST_FIELD_TEXT(type, member, since_, ...)                                               \
	{                                                                                          \
		IMPOST_FIELD_(type, member, TEXT, IN_PLACE, IMPOST_MEMBER_BYTES_(type, member), 1, \
			      0),                                                                  \
			.since = (since_), .doc = __VA_ARGS__                                      \
	}
#define IMPOST_FIELD_RECORD(type, member, since_, record_, ...)                                   \
	{                                                                                         \
		IMPOST_FIELD_(type, member, RECORD, IN_PLACE, IMPOST_MEMBER_BYTES_(type, member), \
			      1, 0),                                                              \
			.since = (since_), .record = (record_), .doc = __VA_ARGS__                \
	}
/* Bytes in an array that is a member: all of them, or with IMPOST_COUNTED the first ones. */
#define IMPOST_FIELD_BYTES(type, member, since_, ...)                 \
	{                                                             \
		IMPOST_FIELD_(type, member, BYTES, IN_PLACE, 1,       \
			      IMPOST_MEMBER_BYTES_(type, member), 0), \
			.since = (since_), .doc = __VA_ARGS__         \
	}
/* `size` at the start of the struct. */
#define IMPOST_FIELD_SIZE(type, member)                                                            \
	{                                                                                          \
		IMPOST_FIELD_(type, member, SIZE, IN_PLACE, IMPOST_MEMBER_BYTES_(type, member), 1, \
			      0),                                                                  \
			.since = 1, .doc = "Bytes of the struct in memory; not in the record"      \
	}

/*
 * Arrays of OF (UINT, INT, BOOL, TEXT or RECORD): a member that is an array; one that points to
 * COUNTER elements, of which there may be MOST; a flexible array likewise. For RECORD add
 * `.record =`. The pointer and the tail may be BYTES too.
 */
#define IMPOST_FIELD_ARRAY(type, member, of, since_, ...)                                      \
	{                                                                                      \
		IMPOST_FIELD_(type, member, of, IN_PLACE, IMPOST_ELEMENT_BYTES_(type, member), \
			      IMPOST_MEMBER_BYTES_(type, member) /                             \
				      IMPOST_ELEMENT_BYTES_(type, member),                     \
			      IMPOST_FIELD_IS_ARRAY),                                          \
			.since = (since_), .doc = __VA_ARGS__                                  \
	}
#define IMPOST_FIELD_HEX_ARRAY(type, member, of, since_, ...)                                  \
	{                                                                                      \
		IMPOST_FIELD_(type, member, of, IN_PLACE, IMPOST_ELEMENT_BYTES_(type, member), \
			      IMPOST_MEMBER_BYTES_(type, member) /                             \
				      IMPOST_ELEMENT_BYTES_(type, member),                     \
			      IMPOST_FIELD_IS_ARRAY | IMPOST_FIELD_HEX),                       \
			.since = (since_), .doc = __VA_ARGS__                                  \
	}
#define IMPOST_FIELD_POINTER_TO(type, member, of, counter, most, since_, ...)                 \
	{                                                                                     \
		IMPOST_FIELD_(type, member, of, POINTER, IMPOST_ELEMENT_BYTES_(type, member), \
			      most, IMPOST_FIELD_IS_ARRAY),                                   \
			IMPOST_COUNTED(type, counter), .since = (since_), .doc = __VA_ARGS__  \
	}
#define IMPOST_FIELD_TAIL_OF(type, member, of, counter, most, since_, ...)                       \
	{                                                                                        \
		IMPOST_FIELD_(type, member, of, TAIL, IMPOST_ELEMENT_BYTES_(type, member), most, \
			      IMPOST_FIELD_IS_ARRAY),                                            \
			IMPOST_COUNTED(type, counter), .since = (since_), .doc = __VA_ARGS__     \
	}

/* How many elements there are is in member COUNTER of the same struct. */
#define IMPOST_COUNTED(type, counter)                      \
	.count_offset = (uint32_t)offsetof(type, counter), \
	.count_bytes = IMPOST_MEMBER_BYTES_(type, counter)

/* The lock is member LOCK of the runtime struct TYPE. */
#define IMPOST_LOCK(type, lock_) .lock = (uint32_t)offsetof(type, lock_) + 1

/* The initializer of a struct impost_record, for those that are not static. */
#define IMPOST_RECORD_INIT(name_, type, version_, oldest_, compatible_, fields_, ...)              \
	{                                                                                          \
		.size = (uint32_t)sizeof(struct impost_record),                                    \
		.field_bytes = (uint32_t)sizeof(struct impost_field), .version = (version_),       \
		.oldest = (oldest_), .compatible = (compatible_), .bytes = (uint32_t)sizeof(type), \
		.name = (name_), .fields = (fields_),                                              \
		.nfields = (uint32_t)(sizeof(fields_) / sizeof((fields_)[0])), .doc = __VA_ARGS__  \
	}

/*
 * IMPOST_FIELDS(symbol, field, ...) and IMPOST_RECORD(symbol, name, type, version, oldest,
 * compatible, fields, doc, members...) define static tables. With IMPOST_NO_STATE the record's
 * address is NULL, and what the tables name is never used.
 */
#ifndef IMPOST_NO_STATE
#define IMPOST_FIELDS(symbol, ...) static const struct impost_field symbol[] = {__VA_ARGS__};
#define IMPOST_RECORD(symbol, name, type, version, oldest, compatible, fields, ...) \
	static const struct impost_record symbol =                                  \
		IMPOST_RECORD_INIT(name, type, version, oldest, compatible, fields, __VA_ARGS__);
#else
/* In functions that nobody calls: compilers check them, and leave them out. */
#define IMPOST_FIELDS(symbol, ...)                                                    \
	__attribute__((unused)) static inline const struct impost_field *symbol(void) \
	{                                                                             \
		static const struct impost_field fields_[] = {__VA_ARGS__};           \
		return fields_;                                                       \
	}
#define IMPOST_RECORD(symbol, name, type, version, oldest, compatible, fields, ...)       \
	extern const struct impost_record symbol __attribute__((weak));                   \
	__attribute__((unused)) static inline const struct impost_record *symbol##_(void) \
	{                                                                                 \
		static const struct impost_field none_[1];                                \
		static const struct impost_record record_ = IMPOST_RECORD_INIT(           \
			name, type, version, oldest, compatible, none_, __VA_ARGS__);     \
		return fields() ? &record_ : NULL;                                        \
	}
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Whether RECORD and all that it nests is a description that the other calls can work with.
 * -EINVAL: it is not; the text has the record, the field and the rule. Descriptions are data, so
 * one call in a test says it for good.
 */
IMPOST_API int impost_record_verify(struct impost_context *ctx, const struct impost_record *record);

/* --- encoding and decoding --- */

/*
 * Encodes the struct at SAVED into BUF, which has CAPACITY bytes; *ret_len is how many it took.
 * -ENOSPC: *ret_len is how many it takes, and BUF's contents are undefined; so CAPACITY 0, with BUF
 * NULL, asks for the length. -EINVAL: a value that could not be read again: above its max, a BOOL
 * that is neither 0 nor 1, a TEXT without its NUL or that is no UTF-8, more elements than there can
 * be, a NULL pointer to some.
 */
IMPOST_API int impost_record_encode(struct impost_context *ctx, const struct impost_record *record,
				    const void *saved, void *buf, size_t capacity, size_t *ret_len);

/*
 * Decodes the LEN bytes at DATA, which may be anybody's, into the struct at RET_SAVED, which has
 * CAPACITY bytes: of RECORD, and with a tail what impost_record_measure() says. What is not
 * described becomes 0. POINTER members are malloc'd: impost_record_release() frees them.
 * RET_VERSION, which may be NULL, gets the version of what was read. RET_SAVED is untouched on
 * failure.
 *
 * -IMPOST_EFORMAT: no record of this description: not the form that is described above, of a
 * version that cannot be read, or with a field that is missing, unknown, or of another type, a
 * value out of its bounds, more elements than there can be, or bytes after its end. The text has
 * the record, the field and what is wrong. -ENOSPC: CAPACITY is too little.
 */
IMPOST_API int impost_record_decode(struct impost_context *ctx, const struct impost_record *record,
				    const void *data, size_t len, void *ret_saved, size_t capacity,
				    uint32_t *ret_version);

/* Bytes that the decoded struct takes with its tail. Fails as impost_record_decode() does. */
IMPOST_API int impost_record_measure(struct impost_context *ctx, const struct impost_record *record,
				     const void *data, size_t len, size_t *ret_bytes);

/* Frees what the POINTER members of the struct at SAVED point to, and makes them NULL and their
 * counts 0. SAVED NULL is fine. */
IMPOST_API void impost_record_release(const struct impost_record *record, void *saved);

/* --- objects that live --- */

/*
 * Saves the runtime form at RUNTIME: pre_save, lock, to_saved, unlock, encode, post_save. Otherwise
 * as impost_record_encode(), and each fails as a whole; besides, what a step returns. A step that
 * fails has a text that names it.
 *
 * impost_record_save_new() allocates: *ret_data is freed with free(3).
 */
IMPOST_API int impost_record_save(struct impost_context *ctx, const struct impost_record *record,
				  void *runtime, void *buf, size_t capacity, size_t *ret_len);
IMPOST_API int impost_record_save_new(struct impost_context *ctx,
				      const struct impost_record *record, void *runtime,
				      void **ret_data, size_t *ret_len);

/*
 * Loads a record into the runtime form at RUNTIME: decode, check, pre_load, lock, to_saved (what is
 * given back if a later step fails), from_saved, unlock, post_load. On failure RUNTIME is as it
 * was. Errors are impost_record_decode()'s, -IMPOST_EFORMAT with the text of check, and what a step
 * returns.
 */
IMPOST_API int impost_record_load(struct impost_context *ctx, const struct impost_record *record,
				  void *runtime, const void *data, size_t len);

/* --- texts --- */

/*
 * Writes the struct at SAVED: _print as lines `path: value`, in the order of the description, with
 * rows of long byte strings that are all zero left out; _json as one JSON object without a newline,
 * byte strings as hexadecimal digits. -EINVAL: as impost_record_encode(); or what WRITE returned.
 */
IMPOST_API int impost_record_print(struct impost_context *ctx, const struct impost_record *record,
				   const void *saved, impost_write_fn write, void *opaque);
IMPOST_API int impost_record_json(struct impost_context *ctx, const struct impost_record *record,
				  const void *saved, impost_write_fn write, void *opaque);

/* One difference: PATH names the field; A or B is NULL where that side has none. Any value but 0
 * ends the comparison, which returns it. */
typedef int (*impost_difference_fn)(void *opaque, const char *path, const char *a, const char *b);

/* Tells FN of every field whose values differ between the structs at A and B. -EINVAL: as
 * impost_record_encode(). */
IMPOST_API int impost_record_diff(struct impost_context *ctx, const struct impost_record *record,
				  const void *a, const void *b, impost_difference_fn fn,
				  void *opaque);

/*
 * The same of encoded records, which may be of any version and of anybody's. RECORD NULL: nobody
 * described it; fields come in the order of their encoding. Otherwise RECORD gives order and bases
 * to what it knows. -IMPOST_EFORMAT: not one item of the form above; nothing was written. It need
 * not be a record: any item is fine. impost_cbor_check() says only that.
 */
IMPOST_API int impost_cbor_check(struct impost_context *ctx, const void *data, size_t len);
IMPOST_API int impost_cbor_print(struct impost_context *ctx, const struct impost_record *record,
				 const void *data, size_t len, impost_write_fn write, void *opaque);
IMPOST_API int impost_cbor_json(struct impost_context *ctx, const struct impost_record *record,
				const void *data, size_t len, impost_write_fn write, void *opaque);
IMPOST_API int impost_cbor_diff(struct impost_context *ctx, const struct impost_record *record,
				const void *a, size_t a_len, const void *b, size_t b_len,
				impost_difference_fn fn, void *opaque);

/* Writes RECORD's documentation in Markdown: a heading of level 3, its doc, its versions and a
 * table of its fields; then the same of each record that it nests, once. -E2BIG: it nests more than
 * 127 kinds; or what WRITE returned. */
IMPOST_API int impost_record_document(struct impost_context *ctx,
				      const struct impost_record *record, impost_write_fn write,
				      void *opaque);

#ifdef __cplusplus
}
#endif

#endif
