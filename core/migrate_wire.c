/* SPDX-License-Identifier: Apache-2.0 */
/* What is said on the wire of a migration. */
#include "migrate_wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* A request's shape. */
static const struct shape {
	uint16_t command;
	const char *name;
	bool greets; /* its header is a version and features */
	uint64_t least, most, multiple;
} shapes[] = {
	{WIRE_START, "Start", true, 0, 0, 1},
	{WIRE_CONFIG, "Config", false, 1, WIRE_PAYLOAD_MOST, 1},
	{WIRE_STATE, "State", false, 1, WIRE_PAYLOAD_MOST, 1},
	{WIRE_MEMORY, "Memory", false, 16, WIRE_ROWS_MOST * 16, 16},
	{WIRE_COMPLETE, "Complete", false, 0, 0, 1},
	{WIRE_ABANDON, "Abandon", false, 0, 0, 1},
	{WIRE_MEMORY_FD, "MemoryFd", false, 4, 4, 1},
	{WIRE_JOIN, "Join", false, WIRE_TOKEN, WIRE_TOKEN, 1},
	{WIRE_POSTPONE, "Postpone", false, 0, WIRE_PAYLOAD_MOST, 16},
	{WIRE_FAULT, "Fault", false, 16, WIRE_ROWS_MOST * 16, 16},
	{WIRE_RESUME, "Resume", false, WIRE_TOKEN, WIRE_TOKEN, 1},
};

static const struct shape *find_shape(uint32_t command)
{
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		if (shapes[i].command == command)
			return &shapes[i];
	return NULL;
}

const char *wire_command_name(uint32_t command)
{
	const struct shape *shape = find_shape(command);

	return shape ? shape->name : "an unknown command";
}

/* --- tables --- */

static const char *wrong_row(const struct wire_row *row, uint64_t flags,
			     const struct wire_space *space)
{
	const uint64_t has = row->gpa & WIRE_ROW_FLAGS;
	uint64_t room;

	if (has & ~flags || has & (has - 1))
		return "it has flags that were not agreed on";
	if (row->bytes == 0 || row->bytes % IMPOST_PAGE_SIZE)
		return "it is not whole pages";
	if (has == WIRE_ROW_ZSTD && row->bytes > WIRE_ZSTD_MOST)
		return "it is too long for a row that is compressed";
	room = space->room(space->opaque, row->gpa - has);
	if (room == 0)
		return "there is no memory";
	return row->bytes > room ? "it goes beyond its region of memory" : NULL;
}

int wire_check_rows(struct impost_context *ctx, const struct wire_row *rows, uint64_t count,
		    uint64_t flags, const struct wire_space *space)
{
	uint64_t left = space->bytes;

	for (uint64_t i = 0; i < count; i++) {
		const char *wrong = wrong_row(&rows[i], flags, space);

		if (!wrong && rows[i].bytes > left)
			wrong = "with those before it that is more than there is of memory";
		if (wrong)
			return impost_error_set(ctx, -EPROTO,
						"row %llu of a table of memory, %#llx and %llu "
						"bytes: %s",
						(unsigned long long)i,
						(unsigned long long)rows[i].gpa,
						(unsigned long long)rows[i].bytes, wrong);
		left -= rows[i].bytes;
	}
	return 0;
}

/* --- the source --- */

int wire_send(struct link *link, uint16_t command, const void *payload, uint64_t length)
{
	const struct wire_head head = {.code = command, .length = length};
	int err = link_write(link, &head, sizeof(head));

	return err || !length ? err : link_write(link, payload, length);
}

/* The LENGTH bytes of an Error's text, as lines of printable UTF-8. NULL: no memory, with ERR. */
static int read_text(struct link *link, uint64_t length, char **ret_text)
{
	char *text = malloc(length + 1), *line, *end;
	int err = text ? link_read(link, text, length)
		       : impost_error_set(link->ctx, -ENOMEM, "no memory for an error's text");

	if (err) {
		free(text);
		return err;
	}
	for (uint64_t i = 0; i < length; i++) /* a text has no NUL */
		if (text[i] == '\0')
			text[i] = '?';
	text[length] = '\0';
	for (line = text; *line; line = end + (end - line > 0 || *end)) {
		end = strchrnul(line, '\n');
		if (!*end) {
			text_clean(line);
			break;
		}
		*end = '\0';
		text_clean(line); /* no longer than it was, mostly as long */
		memset(line + strlen(line), ' ', (size_t)(end - line) - strlen(line));
		*end = '\n';
	}
	*ret_text = text;
	return 0;
}

static int refused(struct link *link, uint16_t command, const char *text)
{
	char line[900];
	size_t len = 0;

	/* The text of an error is one line. */
	for (; text && *text && len + 3 < sizeof(line); text++) {
		line[len++] = *text == '\n' ? ';' : *text;
		if (*text == '\n')
			line[len++] = ' ';
	}
	line[len] = '\0';
	return impost_error_set(link->ctx, -EREMOTEIO,
				"the other side of the migration refuses %s%s%s",
				wire_command_name(command), len ? ": " : "", line);
}

int wire_judge_answer(struct link *link, uint16_t command, const struct wire_head *head,
		      char **ret_text)
{
	const bool ok = head->code == WIRE_OK;
	char *text = NULL;
	int err;

	if ((head->version && !(ok && command == WIRE_START)) ||
	    (head->features && !(ok && (command == WIRE_START || command == WIRE_CONFIG))))
		return impost_error_set(link->ctx, -EPROTO,
					"the other side of the migration answers %s with a header "
					"that is not zero",
					wire_command_name(command));
	if (head->code == WIRE_ERROR && head->length <= WIRE_TEXT_MOST) {
		/* It says no, whether or not its reasons come too. */
		if (head->length && read_text(link, head->length, &text))
			text = NULL;
		err = refused(link, command, text);
		if (ret_text)
			*ret_text = text;
		else
			free(text);
		return err;
	}
	if (!ok || (head->length && command != WIRE_RESUME))
		return impost_error_set(link->ctx, -EPROTO,
					"the other side of the migration answers %s with status "
					"%u and %llu bytes, which is no answer to it",
					wire_command_name(command), head->code,
					(unsigned long long)head->length);
	return 0;
}

int wire_read_answer(struct link *link, uint16_t command, struct wire_head *ret_head,
		     char **ret_text)
{
	struct wire_head head;
	int err = link_read(link, &head, sizeof(head));

	if (!err)
		err = wire_judge_answer(link, command, &head, ret_text);
	if (!err)
		*ret_head = head;
	return err;
}

int wire_ask(struct link *link, uint16_t command, const void *payload, uint64_t length)
{
	struct wire_head head;
	int err = wire_send(link, command, payload, length);

	return err ? err : wire_read_answer(link, command, &head, NULL);
}

/* --- the destination --- */

int wire_read_request(struct link *link, struct wire_head *ret_head)
{
	int err = link_read(link, ret_head, sizeof(*ret_head));

	return err ? err : wire_check_request(link, ret_head);
}

int wire_check_request(struct link *link, const struct wire_head *head)
{
	const struct shape *shape = find_shape(head->code);

	if (!shape)
		return impost_error_set(link->ctx, -EPROTO,
					"the other side of the migration says command %#x, which "
					"there is not",
					head->code);
	if (!shape->greets && (head->version || head->features))
		return impost_error_set(link->ctx, -EPROTO,
					"%s came with a header that is not zero", shape->name);
	if (head->length < shape->least || head->length > shape->most ||
	    head->length % shape->multiple)
		return impost_error_set(
			link->ctx, -EPROTO,
			"%s came with a length of %llu: it has %llu to %llu bytes, in units of "
			"%llu",
			shape->name, (unsigned long long)head->length,
			(unsigned long long)shape->least, (unsigned long long)shape->most,
			(unsigned long long)shape->multiple);
	return 0;
}

/* What is made room for at first. */
#define FIRST_ROOM 65536u

int wire_read_payload(struct link *link, const char *what, uint64_t length, void **ret_payload)
{
	uint8_t *payload = NULL;
	uint64_t have = 0, room = 0;
	int err = 0;

	if (length > WIRE_PAYLOAD_MOST)
		return impost_error_set(link->ctx, -EPROTO, "%s of %llu bytes is too long", what,
					(unsigned long long)length);
	while (!err && have < length) {
		uint8_t *more;

		room = have ? 2 * have : FIRST_ROOM;
		if (room > length)
			room = length;
		more = realloc(payload, room);
		if (!more) {
			err = impost_error_set(link->ctx, -ENOMEM, "no memory for %s", what);
			break;
		}
		payload = more;
		err = link_read(link, payload + have, room - have);
		have = room;
	}
	if (err) {
		free(payload);
		return err;
	}
	*ret_payload = payload;
	return 0;
}

int wire_answer_ok(struct link *link)
{
	const struct wire_head head = {.code = WIRE_OK};

	return link_write(link, &head, sizeof(head));
}

void wire_answer_error(struct link *link, uint32_t features, const char *text)
{
	struct {
		struct wire_head head;
		char text[WIRE_TEXT_MOST];
	} *answer = calloc(1, sizeof(*answer));
	const struct wire_head bare = {.code = WIRE_ERROR};

	if (!answer || !(features & IMPOST_MIGRATION_TEXTS)) {
		free(answer);
		link_send_last(link, &bare, sizeof(bare));
		return;
	}
	answer->head.code = WIRE_ERROR;
	answer->head.length = strnlen(text, WIRE_TEXT_MOST);
	memcpy(answer->text, text, answer->head.length);
	link_send_last(link, answer, sizeof(answer->head) + answer->head.length);
	free(answer);
}
