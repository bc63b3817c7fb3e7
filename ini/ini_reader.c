/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the lines of an INI. */
#include "ini_reader.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * libinih reads the lines; this file gives them to it one by one, so that the line that an item
 * came from is known. What is so with libinih as Debian builds it, and is said in context.h and
 * impost.ini(5): a line has a limited length; `;` and `#` begin a comment at the start of a line,
 * and `;` also after white space; `:` stands for `=` too; a line that begins with white space goes
 * on with the value of the line before.
 */

struct parse {
	const char *at, *end;
	ini_continues_fn continues;
	unsigned line;
	bool indented; /* the line begins with white space */
	struct ini_item *items, **tail, *last;
	void *seen; /* a tree of the items with keys */
	struct ini_error *error;
	int err;
};

/* Notes an error in LINE, which ends the reading. */
static int fail(struct parse *parse, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct parse *parse, unsigned line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(parse->error->text, sizeof(parse->error->text), fmt, ap);
	va_end(ap);
	parse->error->line = line;
	parse->err = -EINVAL;
	return parse->err;
}

void ini_items_free(struct ini_item *items)
{
	struct ini_item *next;

	for (; items; items = next) {
		next = items->next;
		free(items->section);
		free(items->key);
		free(items->value);
		free(items);
	}
}

static int compare_items(const void *left, const void *right)
{
	const struct ini_item *a = left, *b = right;
	int order = strcmp(a->section, b->section);

	return order ? order : strcmp(a->key, b->key);
}

static const struct ini_item *find_seen(const struct parse *parse, const char *section,
					const char *key)
{
	const struct ini_item wanted = {.section = (char *)section, .key = (char *)key};
	void *node = tfind(&wanted, &parse->seen, compare_items);

	return node ? *(struct ini_item **)node : NULL;
}

static void leave_item(void *item)
{
	(void)item; /* the list has it */
}

static void add_item(struct parse *parse, const char *section, size_t len, const char *key,
		     const char *value)
{
	struct ini_item *item = calloc(1, sizeof(*item));

	if (item) {
		item->section = strndup(section, len);
		item->key = key ? strdup(key) : NULL;
		item->value = key ? strdup(value) : NULL;
		item->line = parse->line;
	}
	if (!item || !item->section || (key && (!item->key || !item->value))) {
		ini_items_free(item);
		parse->err = -ENOMEM;
		return;
	}
	*parse->tail = item;
	parse->tail = &item->next;
	parse->last = item;
	if (key && !tsearch(item, &parse->seen, compare_items))
		parse->err = -ENOMEM;
}

/* --- lines --- */

/* Notes the section that LINE begins, if it does. libinih tells of sections that have keys only. */
static void note_section(struct parse *parse, const char *line)
{
	const char *close;

	if (line[0] != '[')
		return;
	close = strchr(line, ']');
	if (!close)
		return; /* libinih tells of that */
	line++;
	add_item(parse, line, (size_t)(close - line), NULL, NULL);
	close += 1 + strspn(close + 1, " \t\r\n\v\f");
	if (!parse->err && close[0] && close[0] != ';' && close[0] != '#')
		fail(parse, parse->line, "nothing may follow the ']' of a section");
}

/* Gives libinih the next line; fgets()-like. */
static char *next_line(char *str, int num, void *stream)
{
	struct parse *parse = stream;
	const char *newline, *start;
	size_t len;

	if (parse->err || parse->at == parse->end)
		return NULL;
	parse->line++;
	newline = memchr(parse->at, '\n', (size_t)(parse->end - parse->at));
	len = newline ? (size_t)(newline + 1 - parse->at) : (size_t)(parse->end - parse->at);
	start = parse->at;
	parse->at += len;
	parse->indented = isspace((unsigned char)start[0]);
	while (len > 0 && isspace((unsigned char)start[0])) {
		start++;
		len--;
	}
	if (len == 0 || start[0] == ';' || start[0] == '#') {
		memcpy(str, "\n", 2);
		return str;
	}
	if (len + parse->indented >= (size_t)num) {
		fail(parse, parse->line, "the line is too long: %d bytes are the most%s", num - 2,
		     parse->continues ? "; a command line may go on in lines that begin with "
					"white space"
				      : "");
		return NULL;
	}
	str[0] = ' '; /* one of the white space */
	memcpy(str + parse->indented, start, len);
	str[len + parse->indented] = '\0';
	if (!parse->indented || !parse->last || !parse->last->key)
		note_section(parse, str + parse->indented);
	return parse->err ? NULL : str;
}

/* --- items --- */

const struct ini_item *ini_find(const struct ini_item *items, const char *section, const char *key)
{
	for (; items; items = items->next)
		if (items->key && strcmp(items->section, section) == 0 &&
		    strcmp(items->key, key) == 0)
			return items;
	return NULL;
}

/* Bytes of VALUE before its comment: libinih does not look for one in a line that goes on. */
static int without_comment(const char *value)
{
	size_t len = strlen(value);

	for (size_t i = 1; i < len; i++)
		if (value[i] == ';' && isspace((unsigned char)value[i - 1]))
			len = i;
	while (len > 0 && isspace((unsigned char)value[len - 1]))
		len--;
	return (int)len;
}

/* Adds VALUE to that of the line before. */
static void go_on(struct parse *parse, const char *value)
{
	struct ini_item *last = parse->last;
	char *longer;

	if (!parse->continues || !parse->continues(last->section, last->key)) {
		fail(parse, parse->line,
		     "the line begins with white space, which goes on with the value of %.64s: "
		     "begin it in the first column",
		     last->key);
		return;
	}
	if (asprintf(&longer, "%s %.*s", last->value, without_comment(value), value) < 0) {
		parse->err = -ENOMEM;
		return;
	}
	free(last->value);
	last->value = longer;
}

/* libinih's handler: not 0 to go on. */
static int take(void *user, const char *section, const char *key, const char *value)
{
	struct parse *parse = user;
	const struct ini_item *first;

	if (parse->indented && parse->last && parse->last->key) {
		go_on(parse, value);
		return !parse->err;
	}
	first = find_seen(parse, section, key);
	if (first)
		fail(parse, parse->line, "key '%.64s' of [%.64s] was given before, in line %u", key,
		     section, first->line);
	else if (!section[0])
		fail(parse, parse->line, "key '%.64s' comes before any [section]", key);
	else
		add_item(parse, section, strlen(section), key, value);
	return !parse->err;
}

/* Reads all lines. */
static int read_items(struct parse *parse)
{
	const char *nul = memchr(parse->at, '\0', (size_t)(parse->end - parse->at));
	unsigned line = 1;
	int wrong;

	if (parse->end - parse->at >= 3 && memcmp(parse->at, "\xef\xbb\xbf", 3) == 0)
		parse->at += 3; /* a byte-order mark */
	for (const char *at = parse->at; nul && at < nul; at++)
		line += *at == '\n';
	if (nul)
		return fail(parse, line, "there is a NUL byte: an INI is text");
	wrong = ini_parse_stream(next_line, parse, take, parse);
	/* libinih reads on after a malformed line, so that one may come before what was noted. */
	if (wrong > 0 && (!parse->err || (unsigned)wrong < parse->line))
		fail(parse, (unsigned)wrong, "neither `[section]` nor `key = value` nor a comment");
	if (!parse->err && wrong < 0)
		parse->err = -ENOMEM;
	return parse->err;
}

int ini_read(const char *text, size_t len, ini_continues_fn continues, struct ini_item **ret_items,
	     struct ini_error *ret_error)
{
	struct parse parse = {
		.at = text, .end = text + len, .continues = continues, .error = ret_error};
	int err;

	if (len > INI_MOST_BYTES)
		return -EFBIG;
	parse.tail = &parse.items;
	err = read_items(&parse);
	tdestroy(parse.seen, leave_item);
	if (err)
		ini_items_free(parse.items);
	else
		*ret_items = parse.items;
	return err;
}

/* --- files --- */

/* Reads FD to its end, but not more than ROOM bytes. */
static ssize_t read_all(int fd, char *buf, size_t room)
{
	size_t len = 0;

	while (len < room) {
		ssize_t n = read(fd, buf + len, room - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

int ini_read_file(const char *path, char **ret_text, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *text;
	ssize_t len;

	if (fd < 0)
		return -errno;
	text = malloc(INI_MOST_BYTES + 1);
	len = text ? read_all(fd, text, INI_MOST_BYTES + 1) : -ENOMEM;
	close(fd);
	if (len > (ssize_t)INI_MOST_BYTES)
		len = -EFBIG;
	if (len < 0) {
		free(text);
		return (int)len;
	}
	*ret_text = text;
	*ret_len = (size_t)len;
	return 0;
}

/* --- suggestions --- */

size_t ini_distance(const char *a, const char *b)
{
	enum { MOST = 31 };
	size_t row[MOST + 1], len = strnlen(b, MOST);

	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < len; j++) {
			size_t edit = corner + (a[i] != b[j]);

			corner = row[j + 1];
			if (corner + 1 < edit)
				edit = corner + 1;
			row[j + 1] = row[j] + 1 < edit ? row[j] + 1 : edit;
		}
	}
	return row[len];
}
