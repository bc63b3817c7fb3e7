/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an INI into the configuration. */
#include <impost/context.h>

#include <ctype.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "context.h"
#include "text.h"

/*
 * libinih reads the lines; this file gives them to it one by one, so that the line that an item
 * came from is known. What is so with libinih as Debian builds it, and is said in context.h and
 * impost.ini(5): a line has a limited length; `;` and `#` begin a comment at the start of a line,
 * and `;` also after white space; `:` stands for `=` too; a line that begins with white space goes
 * on with the value of the line before.
 */

#define MOST_BYTES ((size_t)1 << 20)

/* A key as it was read, or, with key NULL, the head of a section. */
struct item {
	struct item *next;
	char *section, *key, *value;
	unsigned line;
};

struct parse {
	struct impost_context *ctx;
	const char *name; /* of the INI */
	const char *at, *end;
	unsigned line;
	bool indented; /* the line begins with white space */
	struct item *items, **tail, *last;
	int err;
};

static void where(const struct parse *parse, unsigned line, char *buf, size_t size)
{
	snprintf(buf, size, "%.512s:%u", parse->name, line);
}

/* Notes an error in LINE, which ends the reading. */
static int fail(struct parse *parse, unsigned line, const char *fmt, ...) IMPOST_PRINTF(3, 4);
static int fail(struct parse *parse, unsigned line, const char *fmt, ...)
{
	char text[512], place[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	where(parse, line, place, sizeof(place));
	parse->err = config_error(parse->ctx, place, "%s", text);
	return parse->err;
}

static void items_free(struct item *items)
{
	struct item *next;

	for (; items; items = next) {
		next = items->next;
		free(items->section);
		free(items->key);
		free(items->value);
		free(items);
	}
}

static void add_item(struct parse *parse, const char *section, size_t len, const char *key,
		     const char *value)
{
	struct item *item = calloc(1, sizeof(*item));

	if (item) {
		item->section = strndup(section, len);
		item->key = key ? strdup(key) : NULL;
		item->value = key ? strdup(value) : NULL;
		item->line = parse->line;
	}
	if (!item || !item->section || (key && (!item->key || !item->value))) {
		items_free(item);
		parse->err = impost_error_set(parse->ctx, -ENOMEM, "no memory for an INI");
		return;
	}
	*parse->tail = item;
	parse->tail = &item->next;
	parse->last = item;
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
		fail(parse, parse->line,
		     "the line is too long: %d bytes are the most; a command line may go on in "
		     "lines that begin with white space",
		     num - 2);
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

static struct item *find_item(struct item *items, const char *section, const char *key)
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
	struct item *last = parse->last;
	const struct config_key *row = config_key(last->section, last->key);
	char *longer;

	if (!row || !row->continues) {
		fail(parse, parse->line,
		     "the line begins with white space, which goes on with the value of %.64s: "
		     "begin it in the first column",
		     last->key);
		return;
	}
	longer = text_format("%s %.*s", last->value, without_comment(value), value);
	if (!longer) {
		parse->err = impost_error_set(parse->ctx, -ENOMEM, "no memory for an INI");
		return;
	}
	free(last->value);
	last->value = longer;
}

/* libinih's handler: not 0 to go on. */
static int take(void *user, const char *section, const char *key, const char *value)
{
	struct parse *parse = user;
	const struct item *first;

	if (parse->indented && parse->last && parse->last->key) {
		go_on(parse, value);
		return !parse->err;
	}
	first = find_item(parse->items, section, key);
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
		parse->err = impost_error_set(parse->ctx, -ENOMEM, "no memory for an INI");
	return parse->err;
}

/* --- from items to the configuration --- */

static int make_entry(struct parse *parse, const char *dirs, const char *base,
		      const struct item *item, struct entry **ret_entry)
{
	char place[600];

	where(parse, item->line, place, sizeof(place));
	return config_entry(parse->ctx, dirs, place, base, item->section, item->key, item->value,
			    ret_entry);
}

/* The folders that plugins are to be looked for in once this INI counts; to be freed. */
static int find_dirs(struct parse *parse, const char *base, char **ret_dirs)
{
	struct impost_context *ctx = parse->ctx;
	const struct item *item = find_item(parse->items, "impost", "plugin_dir");
	const char *dirs = config_get(ctx, "impost", "plugin_dir");
	struct entry *entry = NULL;
	int err = 0;

	if (item && !config_find(ctx->config.set, "impost", "plugin_dir"))
		err = make_entry(parse, dirs, base, item, &entry);
	if (err)
		return err;
	*ret_dirs = strdup(entry ? entry->value : dirs);
	config_entries_free(entry);
	return *ret_dirs ? 0 : impost_error_set(ctx, -ENOMEM, "no memory for an INI");
}

static int make_entries(struct parse *parse, const char *base, struct entry **ret_entries)
{
	struct entry *entries = NULL, **tail = &entries;
	const struct item *item;
	char *dirs = NULL;
	int err = find_dirs(parse, base, &dirs);

	for (item = parse->items; !err && item; item = item->next) {
		err = make_entry(parse, dirs, base, item, tail);
		if (!err)
			tail = &(*tail)->next;
	}
	if (!err)
		err = config_check_backends(parse->ctx, dirs, parse->ctx->config.set);
	free(dirs);
	if (err)
		config_entries_free(entries);
	else
		*ret_entries = entries;
	return err;
}

static int load_locked(struct impost_context *ctx, const char *name, const char *base,
		       const char *text, size_t len)
{
	struct parse parse = {.ctx = ctx, .name = name, .at = text, .end = text + len};
	struct entry *entries = NULL;
	int err;

	if (ctx->config.loaded)
		return impost_error_set(ctx, -EBUSY, "%s: an INI has been loaded already", name);
	if (ctx->registry.looked)
		return impost_error_set(ctx, -EBUSY,
					"%s: plugins have been looked for already: load it before",
					name);
	parse.tail = &parse.items;
	err = read_items(&parse);
	if (!err)
		err = make_entries(&parse, base, &entries);
	items_free(parse.items);
	if (err)
		return err;
	ctx->config.ini = entries;
	ctx->config.loaded = true;
	config_apply_log(ctx);
	return 0;
}

/* Loads LEN bytes of TEXT; relative paths in it are taken from FOLDER, itself taken from the
 * current one. */
static int load(struct impost_context *ctx, const char *name, const char *folder, const char *text,
		size_t len)
{
	char *current, *base;
	int err;

	if (len > MOST_BYTES)
		return impost_error_set(ctx, -EFBIG, "%s: longer than %zu bytes", name, MOST_BYTES);
	current = getcwd(NULL, 0);
	if (!current)
		return impost_error_set(ctx, -errno, "the current folder: %m");
	base = strcmp(folder, ".") == 0 ? strdup(current) : text_join(current, folder);
	if (base) {
		pthread_mutex_lock(&ctx->lock);
		err = load_locked(ctx, name, base, text, len);
		pthread_mutex_unlock(&ctx->lock);
	} else {
		err = impost_error_set(ctx, -ENOMEM, "no memory for an INI");
	}
	free(base);
	free(current);
	return err;
}

int impost_context_load_buffer(struct impost_context *ctx, const char *name, const char *text,
			       size_t len)
{
	if (!name || (!text && len))
		return impost_error_set(ctx, -EINVAL, "name or text is NULL");
	return load(ctx, name, ".", text ? text : "", len);
}

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

/* The folder of PATH, to be freed. */
static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

int impost_context_load_file(struct impost_context *ctx, const char *path)
{
	char *text, *folder;
	int fd, err = 0;
	ssize_t len;

	if (!path)
		return impost_error_set(ctx, -EINVAL, "path is NULL");
	text = malloc(MOST_BYTES + 1);
	folder = folder_of(path);
	if (!text || !folder) {
		err = impost_error_set(ctx, -ENOMEM, "no memory to read %s", path);
		goto out;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0) {
		err = impost_error_set(ctx, -errno, "cannot open %s: %m", path);
		goto out;
	}
	len = read_all(fd, text, MOST_BYTES + 1);
	close(fd);
	if (len < 0)
		err = impost_error_set(ctx, (int)len, "cannot read %s: %s", path,
				       strerrordesc_np((int)-len));
	else
		err = load(ctx, path, folder, text, (size_t)len);
out:
	free(folder);
	free(text);
	return err;
}
