/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an INI into the configuration. */
#include <impost/context.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ini_reader.h>

#include "context.h"
#include "text.h"

struct parse {
	struct impost_context *ctx;
	const char *name; /* of the INI */
	struct ini_item *items;
};

static void where(const struct parse *parse, unsigned line, char *buf, size_t size)
{
	snprintf(buf, size, "%.512s:%u", parse->name, line);
}

static bool continues(const char *section, const char *key)
{
	const struct config_key *row = config_key(section, key);

	return row && row->continues;
}

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for an INI");
}

static int too_long(struct impost_context *ctx, const char *name)
{
	return impost_error_set(ctx, -EFBIG, "%s: longer than %zu bytes", name, INI_MOST_BYTES);
}

/* Reads all lines. */
static int read_items(struct parse *parse, const char *text, size_t len)
{
	struct ini_error error;
	char place[600];

	switch (ini_read(text, len, continues, &parse->items, &error)) {
	case 0:
		return 0;
	case -EFBIG:
		return too_long(parse->ctx, parse->name);
	case -EINVAL:
		where(parse, error.line, place, sizeof(place));
		return config_error(parse->ctx, place, "%s", error.text);
	default:
		return no_memory(parse->ctx);
	}
}

/* --- from items to the configuration --- */

static int make_entry(struct parse *parse, const char *dirs, const char *base,
		      const struct ini_item *item, struct entry **ret_entry)
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
	const struct ini_item *item = ini_find(parse->items, "impost", "plugin_dir");
	const char *dirs = config_get(ctx, "impost", "plugin_dir");
	struct entry *entry = NULL;
	int err = 0;

	if (item && !config_find(ctx->config.set, "impost", "plugin_dir"))
		err = make_entry(parse, dirs, base, item, &entry);
	if (err)
		return err;
	*ret_dirs = strdup(entry ? entry->value : dirs);
	config_entries_free(entry);
	return *ret_dirs ? 0 : no_memory(ctx);
}

static int make_entries(struct parse *parse, const char *base, struct entry **ret_entries)
{
	struct entry *entries = NULL, **tail = &entries;
	const struct ini_item *item;
	char *dirs = NULL;
	int err = find_dirs(parse, base, &dirs);

	for (item = parse->items; !err && item; item = item->next) {
		err = make_entry(parse, dirs, base, item, tail);
		if (!err)
			tail = &(*tail)->next;
	}
	if (!err)
		err = config_check_plugins(parse->ctx, dirs, parse->ctx->config.set);
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
	struct parse parse = {.ctx = ctx, .name = name};
	struct entry *entries = NULL;
	int err;

	if (ctx->config.loaded)
		return impost_error_set(ctx, -EBUSY, "%s: an INI has been loaded already", name);
	if (ctx->registry.looked)
		return impost_error_set(ctx, -EBUSY,
					"%s: plugins have been looked for already: load it before",
					name);
	err = read_items(&parse, text, len);
	if (!err)
		err = make_entries(&parse, base, &entries);
	ini_items_free(parse.items);
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

	if (len > INI_MOST_BYTES)
		return too_long(ctx, name);
	current = getcwd(NULL, 0);
	if (!current)
		return impost_error_set(ctx, -errno, "the current folder: %m");
	base = strcmp(folder, ".") == 0 ? strdup(current) : text_join(current, folder);
	if (base) {
		pthread_mutex_lock(&ctx->lock);
		err = load_locked(ctx, name, base, text, len);
		pthread_mutex_unlock(&ctx->lock);
	} else {
		err = no_memory(ctx);
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
	char *text = NULL, *folder;
	size_t len = 0;
	int err;

	if (!path)
		return impost_error_set(ctx, -EINVAL, "path is NULL");
	folder = folder_of(path);
	if (!folder)
		return no_memory(ctx);
	err = ini_read_file(path, &text, &len);
	if (err == -EFBIG)
		too_long(ctx, path);
	else if (err)
		impost_error_set(ctx, err, "cannot read %s: %s", path, strerrordesc_np(-err));
	else
		err = load(ctx, path, folder, text, len);
	free(folder);
	free(text);
	return err;
}
