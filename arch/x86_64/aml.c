/* SPDX-License-Identifier: Apache-2.0 */
/* AML: the encoder's buffer, lengths, data, names and operators (ACPI 6.5, chapter 20). */
#include "aml_encoder.h"
#include "structure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PKG_LENGTH_MAX ((UINT32_C(1) << 28) - 1) /* 20.2.4 */
#define NAME_SEG       4u
#define SEGMENTS_MAX   255u

/* Opcodes that calls of their own write (20.3). */
enum {
	ZERO_OP = 0x00,
	ONE_OP = 0x01,
	NAME_OP = 0x08,
	BYTE_PREFIX = 0x0a,
	WORD_PREFIX = 0x0b,
	DWORD_PREFIX = 0x0c,
	STRING_PREFIX = 0x0d,
	QWORD_PREFIX = 0x0e,
	SCOPE_OP = 0x10,
	BUFFER_OP = 0x11,
	PACKAGE_OP = 0x12,
	METHOD_OP = 0x14,
	DUAL_NAME_PREFIX = 0x2e,
	MULTI_NAME_PREFIX = 0x2f,
	EXT_PREFIX = 0x5b,
	EXT_REGION_OP = 0x80,
	EXT_FIELD_OP = 0x81,
	EXT_DEVICE_OP = 0x82,
	LOCAL0_OP = 0x60,
	ARG0_OP = 0x68,
	IF_OP = 0xa0,
	ELSE_OP = 0xa1,
	WHILE_OP = 0xa2,
	ONES_OP = 0xff,
};

/* --- the encoder --- */

int impost_aml_create(struct impost_context *ctx, void *buf, size_t capacity,
		      struct impost_aml **ret_aml)
{
	struct impost_aml *aml;

	if (!ret_aml)
		return impost_error_set(ctx, -EINVAL, "AML: the encoder's out-parameter is NULL");
	aml = calloc(1, sizeof(*aml));
	if (!aml)
		return impost_error_set(ctx, -ENOMEM, "AML: no memory for an encoder");
	aml->ctx = ctx;
	aml->data = buf;
	aml->capacity = buf ? capacity : 0;
	aml->grows = !buf;
	*ret_aml = aml;
	return 0;
}

void impost_aml_destroy(struct impost_aml *aml)
{
	if (aml && aml->grows)
		free(aml->data);
	free(aml);
}

void aml_fail(struct impost_aml *aml, int err, const char *fmt, ...)
{
	va_list ap;

	if (aml->error)
		return;
	aml->error = err;
	va_start(ap, fmt);
	vsnprintf(aml->text, sizeof(aml->text), fmt, ap);
	va_end(ap);
}

int impost_aml_finish(struct impost_aml *aml, const void **ret_data, size_t *ret_bytes)
{
	if (aml->error)
		return impost_error_set(aml->ctx, aml->error, "AML: %s", aml->text);
	if (aml->depth)
		return impost_error_set(aml->ctx, -EINVAL,
					"AML: %u terms are still open: impost_aml_end() is missing",
					aml->depth);
	if (ret_data)
		*ret_data = aml->data;
	if (ret_bytes)
		*ret_bytes = aml->bytes;
	return 0;
}

/* --- the buffer --- */

/* Makes room for BYTES more. 0: there is none. */
static int make_room(struct impost_aml *aml, size_t bytes)
{
	size_t capacity = aml->capacity ? aml->capacity : 256;
	uint8_t *data;

	if (aml->error)
		return 0;
	if (bytes <= aml->capacity - aml->bytes)
		return 1;
	if (!aml->grows || bytes > PKG_LENGTH_MAX - aml->bytes) {
		aml_fail(aml, -ENOSPC, "the buffer of %zu bytes is full",
			 aml->grows ? (size_t)PKG_LENGTH_MAX : aml->capacity);
		return 0;
	}
	while (capacity - aml->bytes < bytes)
		capacity *= 2;
	data = realloc(aml->data, capacity);
	if (!data) {
		aml_fail(aml, -ENOMEM, "no memory for %zu bytes", capacity);
		return 0;
	}
	aml->data = data;
	aml->capacity = capacity;
	return 1;
}

void aml_put(struct impost_aml *aml, const void *data, size_t bytes)
{
	if (!make_room(aml, bytes) || !bytes)
		return;
	memcpy(aml->data + aml->bytes, data, bytes);
	aml->bytes += bytes;
}

void aml_put_byte(struct impost_aml *aml, uint32_t byte)
{
	aml_put_number(aml, byte, 1);
}

/* Writes the lowest BYTES bytes of VALUE to TO, little-endian. */
static void encode_number(uint8_t *to, uint64_t value, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> 8 * i);
}

void aml_put_number(struct impost_aml *aml, uint64_t value, uint32_t bytes)
{
	uint8_t raw[8];

	encode_number(raw, value, bytes);
	aml_put(aml, raw, bytes);
}

/* Puts BYTES bytes in at AT and moves what is behind. */
static void insert(struct impost_aml *aml, size_t at, const void *data, size_t bytes)
{
	if (!make_room(aml, bytes))
		return;
	memmove(aml->data + at + bytes, aml->data + at, aml->bytes - at);
	memcpy(aml->data + at, data, bytes);
	aml->bytes += bytes;
}

/* --- lengths and levels --- */

/*
 * Encodes VALUE as a PkgLength; returns its bytes. Up to 63 it is one byte; else the top two bits
 * of the first tell how many follow, and its low four are the value's (20.2.4).
 */
static uint32_t encode_pkg_length(uint8_t to[4], uint32_t value)
{
	uint32_t more = value < 1u << 6 ? 0 : value < 1u << 12 ? 1 : value < 1u << 20 ? 2 : 3;

	if (!more) {
		to[0] = (uint8_t)value;
		return 1;
	}
	to[0] = (uint8_t)(more << 6 | (value & 0xf));
	encode_number(to + 1, value >> 4, more);
	return more + 1;
}

/* Puts the length of everything from AT on before it. The length counts its own bytes. */
static void insert_pkg_length(struct impost_aml *aml, size_t at)
{
	size_t content = aml->bytes - at;
	uint32_t bytes = content + 1 < 1u << 6	  ? 1
			 : content + 2 < 1u << 12 ? 2
			 : content + 3 < 1u << 20 ? 3
						  : 4;
	uint8_t length[4];

	if (content + bytes > PKG_LENGTH_MAX) {
		aml_fail(aml, -ENOSPC, "a term of %zu bytes: at most %u can be", content,
			 PKG_LENGTH_MAX);
		return;
	}
	encode_pkg_length(length, (uint32_t)content + bytes);
	insert(aml, at, length, bytes);
}

int aml_begin(struct impost_aml *aml, enum aml_inside inside, const char *what)
{
	static const char *const places[] = {"terms are", "a package is", "a field list is",
					     "a resource template is"};
	struct aml_level *level = &aml->level[aml->depth];
	int here = level->inside == inside || (inside == AML_PACKAGE && level->inside == AML_TERMS);

	if (aml->error)
		return 0;
	if (!here) {
		aml_fail(aml, -EINVAL, "%s cannot stand where %s open", what,
			 places[level->inside]);
		return 0;
	}
	level->items++;
	return 1;
}

void aml_open(struct impost_aml *aml, enum aml_inside inside)
{
	if (aml->error)
		return;
	if (aml->depth == IMPOST_AML_DEPTH_MAX) {
		aml_fail(aml, -ENOSPC, "more than %u terms are open", IMPOST_AML_DEPTH_MAX);
		return;
	}
	aml->level[++aml->depth] = (struct aml_level){aml->bytes, inside, 0};
}

/* The end tag (6.4.2.9) and, before all, the buffer's size: a byte or a word, as terms have it. */
static void close_resources(struct impost_aml *aml, size_t start)
{
	uint8_t size[5] = {BYTE_PREFIX};
	uint32_t bytes;
	size_t content;

	aml_put_byte(aml, 0x79);
	aml_put_byte(aml, structure_checksum(aml->data + start, aml->bytes - start));
	content = aml->bytes - start;
	bytes = content <= UINT8_MAX ? 1 : content <= UINT16_MAX ? 2 : 4;
	size[0] = bytes == 1 ? BYTE_PREFIX : bytes == 2 ? WORD_PREFIX : DWORD_PREFIX;
	encode_number(size + 1, content, bytes);
	insert(aml, start, size, bytes + 1);
}

static void close_package(struct impost_aml *aml, const struct aml_level *level)
{
	uint8_t count = (uint8_t)level->items;

	if (level->items > UINT8_MAX)
		aml_fail(aml, -ENOSPC, "a package of %u elements: 255 can be", level->items);
	insert(aml, level->start, &count, 1);
}

void impost_aml_end(struct impost_aml *aml)
{
	struct aml_level level = aml->level[aml->depth];

	if (aml->error)
		return;
	if (!aml->depth) {
		aml_fail(aml, -EINVAL, "impost_aml_end(): no term is open");
		return;
	}
	if (level.inside == AML_RESOURCES)
		close_resources(aml, level.start);
	if (level.inside == AML_PACKAGE)
		close_package(aml, &level);
	if (!aml->error)
		insert_pkg_length(aml, level.start);
	aml->depth--;
}

/* --- names --- */

static int is_lead(char c)
{
	return (c >= 'A' && c <= 'Z') || c == '_';
}

static int is_name(char c)
{
	return is_lead(c) || (c >= '0' && c <= '9');
}

/* Bytes of the segment at the start of TEXT; 0: there is none that can be. */
static size_t segment_bytes(const char *text)
{
	size_t bytes = 0;

	if (!is_lead(text[0]))
		return 0;
	while (is_name(text[bytes]))
		bytes++;
	return bytes <= NAME_SEG ? bytes : 0;
}

/* Puts the segment of BYTES bytes at TEXT, filled up with underscores. */
static void put_segment(struct impost_aml *aml, const char *text, size_t bytes)
{
	char segment[NAME_SEG] = {'_', '_', '_', '_'};

	memcpy(segment, text, bytes);
	aml_put(aml, segment, NAME_SEG);
}

/* Counts the segments of PATH, which begins after its prefix; -1: not a path. */
static int count_segments(const char *path)
{
	int count = 0;

	if (!*path)
		return 0;
	for (;;) {
		size_t bytes = segment_bytes(path);

		if (!bytes || ++count > (int)SEGMENTS_MAX)
			return -1;
		path += bytes;
		if (!*path)
			return count;
		if (*path++ != '.')
			return -1;
	}
}

static void put_segments(struct impost_aml *aml, const char *path, int count)
{
	if (count == 0)
		aml_put_byte(aml, ZERO_OP); /* NullName */
	if (count == 2)
		aml_put_byte(aml, DUAL_NAME_PREFIX);
	if (count > 2) {
		aml_put_byte(aml, MULTI_NAME_PREFIX);
		aml_put_byte(aml, (uint32_t)count);
	}
	for (int i = 0; i < count; i++) {
		size_t bytes = segment_bytes(path);

		put_segment(aml, path, bytes);
		path += bytes + 1;
	}
}

/* Puts PATH as a NameString. */
static void put_path(struct impost_aml *aml, const char *path)
{
	size_t prefix = 0;
	int count;

	if (!path) {
		aml_fail(aml, -EINVAL, "a name is NULL");
		return;
	}
	if (path[0] == '\\')
		prefix = 1;
	else
		prefix = strspn(path, "^");
	count = count_segments(path + prefix);
	if (count < 0 || (count == 0 && prefix == 0)) {
		aml_fail(aml, -EINVAL,
			 "\"%.80s\" is no ACPI name: segments of up to four of A-Z, 0-9 and _, no "
			 "digit first, with dots between, after \\ or ^",
			 path);
		return;
	}
	aml_put(aml, path, prefix);
	put_segments(aml, path + prefix, count);
}

void impost_aml_ref(struct impost_aml *aml, const char *path)
{
	if (aml_begin(aml, AML_PACKAGE, "a name"))
		put_path(aml, path);
}

void impost_aml_name(struct impost_aml *aml, const char *path)
{
	if (!aml_begin(aml, AML_TERMS, "Name"))
		return;
	aml_put_byte(aml, NAME_OP);
	put_path(aml, path);
}

void impost_aml_local(struct impost_aml *aml, uint32_t number)
{
	if (!aml_begin(aml, AML_TERMS, "a local variable"))
		return;
	if (number > 7)
		aml_fail(aml, -EINVAL, "Local%u: there are Local0 to Local7", number);
	aml_put_byte(aml, LOCAL0_OP + number);
}

void impost_aml_arg(struct impost_aml *aml, uint32_t number)
{
	if (!aml_begin(aml, AML_TERMS, "an argument"))
		return;
	if (number > 6)
		aml_fail(aml, -EINVAL, "Arg%u: there are Arg0 to Arg6", number);
	aml_put_byte(aml, ARG0_OP + number);
}

/* --- data --- */

static void put_constant(struct impost_aml *aml, uint64_t value, uint32_t bytes)
{
	aml_put_byte(aml, bytes == 1   ? BYTE_PREFIX
			  : bytes == 2 ? WORD_PREFIX
			  : bytes == 4 ? DWORD_PREFIX
				       : QWORD_PREFIX);
	aml_put_number(aml, value, bytes);
}

static void put_integer(struct impost_aml *aml, uint64_t value)
{
	if (value <= 1)
		aml_put_byte(aml, value ? ONE_OP : ZERO_OP);
	else if (value == UINT64_MAX)
		aml_put_byte(aml, ONES_OP);
	else
		put_constant(aml, value,
			     value <= UINT8_MAX	   ? 1
			     : value <= UINT16_MAX ? 2
			     : value <= UINT32_MAX ? 4
						   : 8);
}

void impost_aml_integer(struct impost_aml *aml, uint64_t value)
{
	if (aml_begin(aml, AML_PACKAGE, "an integer"))
		put_integer(aml, value);
}

void impost_aml_constant(struct impost_aml *aml, uint64_t value, uint32_t bytes)
{
	if (!aml_begin(aml, AML_PACKAGE, "an integer"))
		return;
	if ((bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) ||
	    (bytes < 8 && value >> 8 * bytes)) {
		aml_fail(aml, -EINVAL, "0x%llx is no constant of %u bytes",
			 (unsigned long long)value, bytes);
		return;
	}
	put_constant(aml, value, bytes);
}

void impost_aml_string(struct impost_aml *aml, const char *text)
{
	if (!aml_begin(aml, AML_PACKAGE, "a string"))
		return;
	for (const char *c = text; c && *c; c++) {
		if (*c < 0x20 || *c > 0x7e)
			aml_fail(aml, -EINVAL,
				 "byte 0x%02x of a string: it must be printable ASCII",
				 (unsigned char)*c);
	}
	if (!text) {
		aml_fail(aml, -EINVAL, "a string is NULL");
		return;
	}
	aml_put_byte(aml, STRING_PREFIX);
	aml_put(aml, text, strlen(text) + 1);
}

/* The value of a hexadecimal digit, if it is one: lower-case ones only if LOWER. -1: it is none. */
static int hex_value(char c, int lower)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return lower && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Compresses ID: five bits for each letter and four for each digit, the highest bits first
 * (6.1.5). 0: it is no EISA id.
 */
static uint32_t compress_eisaid(const char *id)
{
	uint32_t value = 0;

	if (!id || strlen(id) != 7)
		return 0;
	for (int i = 0; i < 7; i++) {
		int digit = hex_value(id[i], 0);

		if (i < 3 ? id[i] < 'A' || id[i] > 'Z' : digit < 0)
			return 0;
		value = i < 3 ? value << 5 | (uint32_t)(id[i] - 'A' + 1)
			      : value << 4 | (uint32_t)digit;
	}
	return value;
}

static void put_eisaid(struct impost_aml *aml, uint32_t value)
{
	aml_put_byte(aml, DWORD_PREFIX);
	aml_put_number(aml, __builtin_bswap32(value), 4);
}

void impost_aml_eisaid(struct impost_aml *aml, const char *id)
{
	uint32_t value = compress_eisaid(id);

	if (!aml_begin(aml, AML_PACKAGE, "an EISA id"))
		return;
	if (!value) {
		aml_fail(aml, -EINVAL,
			 "\"%s\" is no EISA id: three capitals and four hexadecimal digits",
			 id ? id : "(NULL)");
		return;
	}
	put_eisaid(aml, value);
}

void impost_aml_hid(struct impost_aml *aml, const char *id)
{
	if (compress_eisaid(id))
		impost_aml_eisaid(aml, id);
	else
		impost_aml_string(aml, id);
}

void impost_aml_buffer(struct impost_aml *aml, const void *data, uint32_t bytes)
{
	size_t start;

	if (!aml_begin(aml, AML_PACKAGE, "a buffer"))
		return;
	if (!data && bytes) {
		aml_fail(aml, -EINVAL, "a buffer of %u bytes at NULL", bytes);
		return;
	}
	aml_put_byte(aml, BUFFER_OP);
	start = aml->bytes;
	put_integer(aml, bytes);
	aml_put(aml, data, bytes);
	if (!aml->error)
		insert_pkg_length(aml, start);
}

/* Digits of UUID's text in the order of the buffer's bytes (19.6.142). */
static int parse_uuid(const char *uuid, uint8_t ret_bytes[16])
{
	static const uint8_t at[16] = {6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34};

	if (!uuid || strlen(uuid) != 36 || uuid[8] != '-' || uuid[13] != '-' || uuid[18] != '-' ||
	    uuid[23] != '-')
		return -1;
	for (int i = 0; i < 16; i++) {
		int high = hex_value(uuid[at[i]], 1), low = hex_value(uuid[at[i] + 1], 1);

		if (high < 0 || low < 0)
			return -1;
		ret_bytes[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

void impost_aml_uuid(struct impost_aml *aml, const char *uuid)
{
	uint8_t bytes[16];

	if (parse_uuid(uuid, bytes) < 0)
		aml_fail(aml, -EINVAL, "\"%s\" is no UUID", uuid ? uuid : "(NULL)");
	else
		impost_aml_buffer(aml, bytes, sizeof(bytes));
}

void impost_aml_package(struct impost_aml *aml)
{
	if (!aml_begin(aml, AML_PACKAGE, "a package"))
		return;
	aml_put_byte(aml, PACKAGE_OP);
	aml_open(aml, AML_PACKAGE);
}

/* --- terms that contain others --- */

/* Begins a term with opcode OP and opens it. */
static void open_term(struct impost_aml *aml, uint32_t op, const char *what)
{
	if (!aml_begin(aml, AML_TERMS, what))
		return;
	aml_put_byte(aml, op);
	aml_open(aml, AML_TERMS);
}

void impost_aml_scope(struct impost_aml *aml, const char *path)
{
	open_term(aml, SCOPE_OP, "Scope");
	put_path(aml, path);
}

void impost_aml_device(struct impost_aml *aml, const char *path)
{
	if (!aml_begin(aml, AML_TERMS, "Device"))
		return;
	aml_put_byte(aml, EXT_PREFIX);
	aml_put_byte(aml, EXT_DEVICE_OP);
	aml_open(aml, AML_TERMS);
	put_path(aml, path);
}

void impost_aml_method(struct impost_aml *aml, const char *path, uint32_t args, int serialized)
{
	open_term(aml, METHOD_OP, "Method");
	put_path(aml, path);
	if (args > 7)
		aml_fail(aml, -EINVAL, "method %s has %u arguments: 7 can be", path, args);
	aml_put_byte(aml, args | (serialized ? 1u << 3 : 0));
}

void impost_aml_if(struct impost_aml *aml)
{
	open_term(aml, IF_OP, "If");
}

void impost_aml_else(struct impost_aml *aml)
{
	open_term(aml, ELSE_OP, "Else");
}

void impost_aml_while(struct impost_aml *aml)
{
	open_term(aml, WHILE_OP, "While");
}

/* --- operation regions --- */

void impost_aml_region(struct impost_aml *aml, const char *path, uint32_t space, uint64_t offset,
		       uint64_t bytes)
{
	if (!aml_begin(aml, AML_TERMS, "OperationRegion"))
		return;
	aml_put_byte(aml, EXT_PREFIX);
	aml_put_byte(aml, EXT_REGION_OP);
	put_path(aml, path);
	if (space > UINT8_MAX)
		aml_fail(aml, -EINVAL, "region %s is in address space 0x%x: 0xff is the last", path,
			 space);
	aml_put_byte(aml, space);
	put_integer(aml, offset);
	put_integer(aml, bytes);
}

void impost_aml_field(struct impost_aml *aml, const char *region, uint32_t flags)
{
	if (!aml_begin(aml, AML_TERMS, "Field"))
		return;
	aml_put_byte(aml, EXT_PREFIX);
	aml_put_byte(aml, EXT_FIELD_OP);
	aml_open(aml, AML_FIELD);
	put_path(aml, region);
	if (flags > 0x7f || (flags & 0xf) > IMPOST_AML_QWORD_ACCESS || (flags & 0x60) == 0x60)
		aml_fail(aml, -EINVAL, "a field over %s has flags 0x%x, which no field can have",
			 region, flags);
	aml_put_byte(aml, flags);
}

void impost_aml_field_unit(struct impost_aml *aml, const char *name, uint32_t bits)
{
	uint8_t length[4];

	if (!aml_begin(aml, AML_FIELD, "a field unit"))
		return;
	if (name && (!name[0] || segment_bytes(name) != strlen(name))) {
		aml_fail(aml, -EINVAL, "\"%s\" is no name of a field unit", name);
		return;
	}
	if (bits > PKG_LENGTH_MAX) {
		aml_fail(aml, -EINVAL, "a field unit of %u bits: at most %u can be", bits,
			 PKG_LENGTH_MAX);
		return;
	}
	if (name)
		put_segment(aml, name, strlen(name));
	else
		aml_put_byte(aml, 0);
	aml_put(aml, length, encode_pkg_length(length, bits));
}

/* --- operators --- */

static const uint8_t operators[] = {
	IMPOST_AML_NO_TARGET,
	IMPOST_AML_STORE,
	IMPOST_AML_ADD,
	IMPOST_AML_CONCATENATE,
	IMPOST_AML_SUBTRACT,
	IMPOST_AML_INCREMENT,
	IMPOST_AML_DECREMENT,
	IMPOST_AML_MULTIPLY,
	IMPOST_AML_SHIFT_LEFT,
	IMPOST_AML_SHIFT_RIGHT,
	IMPOST_AML_AND,
	IMPOST_AML_OR,
	IMPOST_AML_XOR,
	IMPOST_AML_NOT,
	IMPOST_AML_DEREF,
	IMPOST_AML_NOTIFY,
	IMPOST_AML_SIZEOF,
	IMPOST_AML_INDEX,
	IMPOST_AML_CREATE_DWORD_FIELD,
	IMPOST_AML_CREATE_WORD_FIELD,
	IMPOST_AML_CREATE_BYTE_FIELD,
	IMPOST_AML_CREATE_QWORD_FIELD,
	IMPOST_AML_LOGICAL_AND,
	IMPOST_AML_LOGICAL_OR,
	IMPOST_AML_LOGICAL_NOT,
	IMPOST_AML_EQUAL,
	IMPOST_AML_GREATER,
	IMPOST_AML_LESS,
	IMPOST_AML_RETURN,
	IMPOST_AML_BREAK,
};

void impost_aml_op(struct impost_aml *aml, uint32_t op)
{
	if (!aml_begin(aml, AML_TERMS, "an operator"))
		return;
	if (op > UINT8_MAX || !memchr(operators, (int)op, sizeof(operators))) {
		aml_fail(aml, -EINVAL, "0x%x is none of the operators", op);
		return;
	}
	aml_put_byte(aml, op);
}

void impost_aml_terms(struct impost_aml *aml, const void *data, size_t bytes)
{
	if (!data && bytes)
		aml_fail(aml, -EINVAL, "terms of %zu bytes at NULL", bytes);
	else if (aml_begin(aml, AML_TERMS, "a list of terms"))
		aml_put(aml, data, bytes);
}
