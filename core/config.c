/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: the table of keys, the types of values, and what was set. */
#include <impost/context.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ini_reader.h>

#include "context.h"
#include "text.h"

/* A row: its section, and struct impost_option_desc from the type on. */
#define KEY(in_section, ...) \
	.section = in_section, .desc = {sizeof(struct impost_option_desc), __VA_ARGS__}

/* Everything that an INI can hold, but for plugins' sections, which the plugins describe. */
static const struct config_key keys[] = {
	{KEY("impost", CONFIG_NAMES, "backend", NULL, "kvm, mock",
	     "backends: the first that can run here is taken")},
	{KEY("impost", CONFIG_LAYERS, "layers", NULL, "",
	     "layers over the backend, the first nearest to the host: each a name, or NAME:VALUE")},
	{KEY("impost", CONFIG_PATHS, "plugin_dir", NULL, IMPOST_PLUGINDIR,
	     "folders that plugins are looked for in")},
	{KEY("impost", IMPOST_OPTION_ENUM, "log", "error|warn|info|debug", "warn",
	     "the least severity that is logged")},
	{KEY("vm", IMPOST_OPTION_SIZE, "memory", NULL, "256M", "guest memory"), .least = 4096,
	 .multiple = 4096},
	{KEY("vm", IMPOST_OPTION_UINT, "cpus", NULL, "1", "number of vCPUs"), .least = 1,
	 .most = UINT32_MAX},
	{KEY("memory", IMPOST_OPTION_ENUM, "backing", "anonymous|memfd|file", "anonymous",
	     "what guest memory is made of")},
	{KEY("memory", IMPOST_OPTION_PATH, "path", NULL, NULL, "the file that it is made of")},
	{KEY("memory", IMPOST_OPTION_BOOL, "shared", NULL, NULL,
	     "what the guest writes goes into the file")},
	{KEY("memory", IMPOST_OPTION_ENUM, "pages", "4K|2M|1G", NULL,
	     "size of the host's pages: huge ones must have been set aside")},
	{KEY("memory", IMPOST_OPTION_BOOL, "prefault", NULL, NULL,
	     "all pages are there before the guest runs")},
	{KEY("memory", IMPOST_OPTION_ENUM, "numa_policy", "default|preferred|bind|interleave",
	     "default", "how it is placed on the host's NUMA nodes")},
	{KEY("memory", CONFIG_NODES, "numa_nodes", NULL, NULL, "the host's nodes, such as 0-1,3")},
	{KEY("cpu", CONFIG_TOPOLOGY, "topology", NULL, NULL, "sockets:dies:cores:threads of each")},
	{KEY("cpu", CONFIG_TEMPLATE, "template", NULL, NULL,
	     "what of the CPU the guest sees: the name of a template that is shipped, or a file")},
	{KEY("cpu", CONFIG_TEXT, "brand", NULL, NULL, "processor brand string"), .least = 1,
	 .most = 47},
	{KEY("boot", IMPOST_OPTION_PATH, "kernel", NULL, NULL, "kernel image")},
	{KEY("boot", IMPOST_OPTION_PATH, "initrd", NULL, NULL, "initial RAM disk")},
	{KEY("boot", IMPOST_OPTION_STRING, "cmdline", NULL, NULL, "kernel command line"),
	 .continues = true},
	{KEY("boot", IMPOST_OPTION_ENUM, "protocol", "auto|linux64|linux32|pvh|flat", "auto",
	     "how the kernel is entered")},
	{KEY("boot", IMPOST_OPTION_ENUM, "mode", "real|protected|long", NULL,
	     "the CPU's mode when a flat binary is entered")},
	{KEY("boot", IMPOST_OPTION_SIZE, "address", NULL, NULL,
	     "where a flat binary is loaded and entered"),
	 .least = 1}, /* 0 is the library's word for the mode's own */
	{KEY("snapshot", IMPOST_OPTION_BOOL, "background", NULL, "yes",
	     "the guest runs on while a snapshot is written, where that can be")},
	{KEY("snapshot", IMPOST_OPTION_ENUM, "track", "after-save|always|never", "after-save",
	     "when what the guest writes is tracked, for diffs to the last snapshot")},
	{KEY("snapshot", IMPOST_OPTION_PATH, "key_file", NULL, NULL,
	     "the file of the key that snapshots are authenticated with")},
	{KEY("migration", IMPOST_OPTION_PATH, "tls_certificate", NULL, NULL,
	     "this host's certificate, for tls: addresses")},
	{KEY("migration", IMPOST_OPTION_PATH, "tls_key", NULL, NULL, "its private key")},
	{KEY("migration", IMPOST_OPTION_PATH, "tls_ca", NULL, NULL,
	     "the certificates that the other side's must come from")},
	{KEY("migration", IMPOST_OPTION_PATH, "tls_psk", NULL, NULL,
	     "keys that both sides have, in the place of certificates")},
	{KEY("migration", IMPOST_OPTION_UINT, "downtime", NULL, "300",
	     "milliseconds for which the guest may stand"),
	 .least = 1, .most = INT32_MAX},
	{KEY("migration", IMPOST_OPTION_UINT, "timeout", NULL, "0",
	     "seconds until the guest is held, which happens by then or never; 0: no limit"),
	 .most = INT32_MAX / 1000},
	{KEY("migration", IMPOST_OPTION_UINT, "silence", NULL, "10",
	     "longest time in seconds that the other side may say nothing"),
	 .least = 1, .most = INT32_MAX / 1000},
	{KEY("migration", IMPOST_OPTION_UINT, "connections", NULL, "0",
	     "connections that memory is sent over; 0: as many as are of use, up to 4"),
	 .most = 64},
	{KEY("migration", IMPOST_OPTION_UINT, "throttle", NULL, "0",
	     "highest percent of the time that vCPUs may be kept from running"),
	 .most = 99},
	{KEY("migration", IMPOST_OPTION_SIZE, "memory_max", NULL, NULL,
	     "guest memory that is taken from a source at the most"),
	 .least = 4096},
};

const struct config_key *config_key(const char *section, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].desc.key, key) == 0)
			return &keys[i];
	return NULL;
}

/* Sections that are plugins'. */
static const struct plugin_section {
	const char *prefix;
	uint32_t kind;
} plugin_sections[] = {
	{CONFIG_BACKEND, IMPOST_PLUGIN_BACKEND},
	{CONFIG_LAYER, IMPOST_PLUGIN_LAYER},
};

/* What SECTION is a section of; NULL: no plugin's. */
static const struct plugin_section *plugin_section(const char *section)
{
	for (size_t i = 0; i < ARRAY_SIZE(plugin_sections); i++)
		if (strncmp(section, plugin_sections[i].prefix,
			    strlen(plugin_sections[i].prefix)) == 0)
			return &plugin_sections[i];
	return NULL;
}

bool config_section_is_known(const char *section)
{
	const struct plugin_section *row = plugin_section(section);

	if (row) {
		section += strlen(row->prefix);
		return plugin_name_is_valid(section, strlen(section));
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i].section, section) == 0)
			return true;
	return false;
}

/* --- errors --- */

int config_error(struct impost_context *ctx, const char *where, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return impost_error_set(ctx, -IMPOST_ECONFIG, "%s: %s", where, text);
}

int config_unknown_section(struct impost_context *ctx, const char *where, const char *section)
{
	return config_error(
		ctx, where,
		"unknown section [%.64s]: sections are [impost], [vm], [memory], [cpu], "
		"[boot], [snapshot], [migration], and [backend.NAME] and [layer.NAME] with a "
		"plugin's name of 1 to 15 of a-z, 0-9, '-'",
		section);
}

/* What could have been meant by KEY: gathers names, and the nearest. */
struct meant {
	const char *key, *nearest;
	size_t edits;
	char all[512];
};

static void consider(struct meant *meant, const char *name)
{
	size_t edits = ini_distance(meant->key, name), len = strlen(meant->all);

	if (!meant->nearest || edits < meant->edits) {
		meant->nearest = name;
		meant->edits = edits;
	}
	snprintf(meant->all + len, sizeof(meant->all) - len, "%s%s", len ? ", " : "", name);
}

static int unknown_key(struct impost_context *ctx, const char *where, const char *section,
		       const struct meant *meant)
{
	if (!meant->nearest)
		return config_error(ctx, where, "unknown key '%.64s': [%s] has no keys", meant->key,
				    section);
	if (meant->edits <= 2)
		return config_error(ctx, where,
				    "unknown key '%.64s' in [%s]: did you mean %s? Keys are %s",
				    meant->key, section, meant->nearest, meant->all);
	return config_error(ctx, where, "unknown key '%.64s' in [%s]: keys are %s", meant->key,
			    section, meant->all);
}

/* --- values --- */

/* A value that is being checked. */
struct check {
	struct impost_context *ctx;
	const char *where, *base, *section, *text;
	const char *dirs; /* of plugins */
	const struct impost_option_desc *desc;
	const struct config_key *limits; /* NULL: none */
	char *value, *given;		 /* results: see struct entry */
};

static int wrong(const struct check *check, const char *right)
{
	return config_error(check->ctx, check->where, "[%s] %s = %.128s: %s", check->section,
			    check->desc->key, check->text, right);
}

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for the configuration");
}

#define DIGITS "0123456789"
#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* Decimal, or 0x and hexadecimal; *ret_end is what comes after. False: no number, or too large. */
static bool parse_number(const char *text, uint64_t *ret_number, const char **ret_end)
{
	int radix = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	const char *digits = radix == 16 ? text + 2 : text;
	char *end;

	if (!strchr(radix == 16 ? DIGITS "abcdefABCDEF" : DIGITS, digits[0]) || !digits[0])
		return false;
	errno = 0;
	*ret_number = strtoull(digits, &end, radix);
	*ret_end = end;
	return errno == 0;
}

static bool parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "KMGT";
	const char *end, *suffix;
	uint64_t number;
	unsigned shift = 0;

	if (!parse_number(text, &number, &end))
		return false;
	suffix = end[0] ? strchr(suffixes, end[0]) : NULL;
	if (suffix) {
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		end++;
	}
	if (end[0] || number > UINT64_MAX >> shift)
		return false;
	*ret_bytes = number << shift;
	return true;
}

static int check_limits(struct check *check, uint64_t number)
{
	const struct config_key *limits = check->limits;
	char right[96];

	if (!limits || (number >= limits->least && (!limits->most || number <= limits->most) &&
			(!limits->multiple || number % limits->multiple == 0)))
		return 0;
	if (limits->multiple)
		snprintf(right, sizeof(right), "must be a multiple of %" PRIu64 ", and not 0",
			 limits->multiple);
	else if (limits->most)
		snprintf(right, sizeof(right), "must be %" PRIu64 " to %" PRIu64, limits->least,
			 limits->most);
	else
		snprintf(right, sizeof(right), "must be %" PRIu64 " or more", limits->least);
	return wrong(check, right);
}

static int check_uint(struct check *check)
{
	const char *end;
	uint64_t number;

	if (!parse_number(check->text, &number, &end) || end[0])
		return wrong(check, "must be a number, decimal or 0x and hexadecimal, below 2^64");
	return check_limits(check, number);
}

static int check_size(struct check *check)
{
	uint64_t bytes;

	if (!parse_size(check->text, &bytes))
		return wrong(check,
			     "must be a number of bytes below 2^64, or one of K, M, G, T: 256M");
	check->given = text_format("%" PRIu64, bytes);
	return check->given ? check_limits(check, bytes) : no_memory(check->ctx);
}

static bool parse_bool(const char *text, bool *ret_value)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(text, words[i]) == 0) {
			*ret_value = i % 2;
			return true;
		}
	return false;
}

static int check_bool(struct check *check)
{
	bool value;

	if (parse_bool(check->text, &value)) {
		check->given = strdup(value ? "1" : "0");
		return check->given ? 0 : no_memory(check->ctx);
	}
	return wrong(check, "must be yes, no, true, false, on, off, 1 or 0");
}

static int check_enum(struct check *check)
{
	const char *choice = check->desc->choices;
	size_t len = strlen(check->text);
	char right[256];

	for (; choice; choice = strchr(choice, '|') ? strchr(choice, '|') + 1 : NULL)
		if (strcspn(choice, "|") == len && strncmp(choice, check->text, len) == 0)
			return 0;
	snprintf(right, sizeof(right), "must be one of %s", check->desc->choices);
	return wrong(check, right);
}

static int check_path(struct check *check)
{
	if (!check->text[0])
		return wrong(check, "must be a path");
	check->value = text_join(check->base, check->text);
	return check->value ? 0 : no_memory(check->ctx);
}

/* The name of a template stays what it is; a file's is a path like others. */
static int check_template(struct check *check)
{
	const char *text = check->text;
	size_t len = strlen(text);

	if (strchr(text, '/') || (len > 4 && strcmp(text + len - 4, ".ini") == 0))
		return check_path(check);
	if (!len || text[strspn(text, LOWER UPPER DIGITS "-_.")])
		return wrong(check,
			     "must be a template's name, of letters, digits, '-', '_' and '.', or "
			     "a file: one with a '/' in its path, or whose name ends in .ini");
	return 0;
}

/* Four numbers; whether they go with the number of vCPUs is known when these are created. */
static int check_topology(struct check *check)
{
	const char *at = check->text;

	for (int i = 0; i < 4; i++) {
		size_t len = strspn(at, DIGITS);
		uint64_t number = len && len <= 5 ? strtoull(at, NULL, 10) : 0;

		if (number < 1 || number > UINT16_MAX || at[len] != (i < 3 ? ':' : '\0'))
			return wrong(check, "must be SOCKETS:DIES:CORES:THREADS, each of them 1 to "
					    "65535, such as 1:1:4:2");
		at += len + 1;
	}
	return 0;
}

static int check_nodes(struct check *check)
{
	uint64_t nodes;

	if (config_parse_nodes(check->text, &nodes))
		return 0;
	return wrong(check,
		     "must be NUMA nodes, 0 to 63, or ranges of them, separated by ',': 0-1,3");
}

static int check_text(struct check *check)
{
	const struct config_key *limits = check->limits;
	size_t len = strlen(check->text);
	char right[96];

	if (!limits) /* none of the core's own */
		return 0;
	for (size_t i = 0; i < len; i++)
		if (check->text[i] < ' ' || check->text[i] > '~')
			len = 0;
	if (len >= limits->least && len <= limits->most)
		return 0;
	snprintf(right, sizeof(right),
		 "must be %" PRIu64 " to %" PRIu64 " characters of printable ASCII", limits->least,
		 limits->most);
	return wrong(check, right);
}

static int check_paths(struct check *check)
{
	char *copy = strdup(check->text), *rest = copy, *dir, *joined = NULL, *path, *longer;
	int err = copy ? 0 : no_memory(check->ctx);

	while (!err && (dir = strsep(&rest, ":")) != NULL) {
		if (!dir[0]) {
			err = wrong(check, "must be folders separated by ':', none of them empty");
			break;
		}
		path = text_join(check->base, dir);
		longer = path ? text_format("%s%s%s", joined ? joined : "", joined ? ":" : "", path)
			      : NULL;
		free(path);
		free(joined);
		joined = longer;
		if (!joined)
			err = no_memory(check->ctx);
	}
	free(copy);
	check->value = joined;
	return err;
}

static int check_names(struct check *check)
{
	const char *at = check->text;

	if (!at[strspn(at, " \t")])
		return wrong(check, "the list is empty: name one backend at least");
	for (;;) {
		size_t len;

		at += strspn(at, " \t");
		len = strcspn(at, ", \t");
		if (!plugin_name_is_valid(at, len))
			return wrong(check, "must be backends' names (1 to 15 of a-z, 0-9, '-') "
					    "separated by commas");
		at += len + strspn(at + len, " \t");
		if (!at[0])
			return 0;
		if (at[0] != ',')
			return wrong(check, "names must be separated by commas");
		at++;
	}
}

static int check_layers(struct check *check)
{
	struct layers layers;
	int err = layers_parse(check->ctx, check->dirs, check->where, check->base, check->text,
			       &layers);

	if (err)
		return err;
	check->value = layers.text;
	layers.text = NULL;
	layers_free(&layers);
	return 0;
}

static int check_string(struct check *check)
{
	(void)check;
	return 0;
}

static int check_value(struct check *check)
{
	switch (check->desc->type) {
	case IMPOST_OPTION_PATH:
		return check_path(check);
	case IMPOST_OPTION_ENUM:
		return check_enum(check);
	case IMPOST_OPTION_UINT:
		return check_uint(check);
	case IMPOST_OPTION_SIZE:
		return check_size(check);
	case IMPOST_OPTION_BOOL:
		return check_bool(check);
	case CONFIG_NAMES:
		return check_names(check);
	case CONFIG_LAYERS:
		return check_layers(check);
	case CONFIG_PATHS:
		return check_paths(check);
	case CONFIG_TEMPLATE:
		return check_template(check);
	case CONFIG_TOPOLOGY:
		return check_topology(check);
	case CONFIG_NODES:
		return check_nodes(check);
	case CONFIG_TEXT:
		return check_text(check);
	default:
		return check_string(check);
	}
}

int config_value(struct impost_context *ctx, const char *where, const char *base,
		 const char *section, const struct impost_option_desc *desc, const char *text,
		 char **ret_value, char **ret_given)
{
	struct check check = {.ctx = ctx,
			      .where = where,
			      .base = base,
			      .section = section,
			      .text = text,
			      .desc = desc};
	int err = check_value(&check);

	if (!err && !check.value)
		check.value = strdup(text);
	if (!err && check.value && !check.given)
		check.given = strdup(check.value);
	if (!err && check.given) {
		*ret_value = check.value;
		*ret_given = check.given;
		return 0;
	}
	free(check.value);
	free(check.given);
	return err ? err : no_memory(ctx);
}

/* --- entries --- */

static void entry_free(struct entry *entry)
{
	if (!entry)
		return;
	free(entry->section);
	free(entry->key);
	free(entry->value);
	free(entry->given);
	free(entry->where);
	free(entry);
}

void config_entries_free(struct entry *entries)
{
	struct entry *next;

	for (; entries; entries = next) {
		next = entries->next;
		entry_free(entries);
	}
}

struct entry *config_find(struct entry *entries, const char *section, const char *key)
{
	for (; entries; entries = entries->next)
		if (entries->key && strcmp(entries->section, section) == 0 &&
		    strcmp(entries->key, key) == 0)
			return entries;
	return NULL;
}

/* The plugin whose section this is, as ROW says. */
static int find_plugin(struct check *check, const struct plugin_section *row,
		       struct plugin **ret_plugin)
{
	char reason[512];
	int err = registry_find_kind(check->ctx, check->dirs, check->section + strlen(row->prefix),
				     row->kind, ret_plugin);

	if (!err || err == -ENOMEM)
		return err;
	snprintf(reason, sizeof(reason), "%s", impost_error(check->ctx));
	return config_error(check->ctx, check->where, "[%s]: %s", check->section, reason);
}

static const struct impost_option_desc *option_desc(const struct plugin *plugin, const char *key)
{
	for (uint32_t i = 0; i < plugin->desc.noptions; i++)
		if (strcmp(plugin->options[i].key, key) == 0)
			return &plugin->options[i];
	return NULL;
}

/* Finds what describes CHECK's key. */
static int describe(struct check *check, const char *key)
{
	const struct plugin_section *row = plugin_section(check->section);
	struct meant meant = {.key = key};
	struct plugin *plugin = NULL;
	int err;

	if (!config_section_is_known(check->section))
		return config_unknown_section(check->ctx, check->where, check->section);
	if (row) {
		err = find_plugin(check, row, &plugin);
		if (err)
			return err;
		check->desc = key ? option_desc(plugin, key) : NULL;
	} else {
		check->limits = key ? config_key(check->section, key) : NULL;
		check->desc = check->limits ? &check->limits->desc : NULL;
	}
	if (check->desc || !key)
		return 0;
	for (uint32_t i = 0; plugin && i < plugin->desc.noptions; i++)
		consider(&meant, plugin->options[i].key);
	for (size_t i = 0; !plugin && i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i].section, check->section) == 0)
			consider(&meant, keys[i].desc.key);
	return unknown_key(check->ctx, check->where, check->section, &meant);
}

int config_entry(struct impost_context *ctx, const char *dirs, const char *where, const char *base,
		 const char *section, const char *key, const char *text, struct entry **ret_entry)
{
	struct check check = {.ctx = ctx,
			      .where = where,
			      .base = base,
			      .section = section,
			      .text = text,
			      .dirs = dirs};
	struct entry *entry;
	int err = describe(&check, key);

	if (!err && check.desc)
		err = check_value(&check);
	entry = err ? NULL : calloc(1, sizeof(*entry));
	if (!entry) {
		free(check.value);
		free(check.given);
		return err ? err : no_memory(ctx);
	}
	entry->section = strdup(section);
	entry->key = key ? strdup(key) : NULL;
	entry->where = strdup(where);
	entry->value = check.value || !key ? check.value : strdup(text);
	entry->given = check.given || !key ? check.given : strdup(entry->value ? entry->value : "");
	if (!entry->section || !entry->where ||
	    (key && (!entry->key || !entry->value || !entry->given))) {
		entry_free(entry);
		return no_memory(ctx);
	}
	*ret_entry = entry;
	return 0;
}

/* Whether plugins say what ENTRY may be. */
static bool is_plugins(const struct entry *entry)
{
	return plugin_section(entry->section) || (strcmp(entry->section, "impost") == 0 &&
						  entry->key && strcmp(entry->key, "layers") == 0);
}

int config_check_plugins(struct impost_context *ctx, const char *dirs, const struct entry *entries)
{
	struct entry *again;
	int err = 0;

	for (; !err && entries; entries = entries->next) {
		if (!is_plugins(entries))
			continue;
		err = config_entry(ctx, dirs, entries->where, "/", entries->section, entries->key,
				   entries->value, &again);
		if (!err)
			config_entries_free(again);
	}
	return err;
}

/* --- asking --- */

/* The entry that counts for KEY. */
static const struct entry *effective(struct impost_context *ctx, const char *section,
				     const char *key)
{
	const struct entry *entry = config_find(ctx->config.set, section, key);

	return entry ? entry : config_find(ctx->config.ini, section, key);
}

const char *config_get(struct impost_context *ctx, const char *section, const char *key)
{
	const struct entry *entry = effective(ctx, section, key);
	const struct config_key *row = config_key(section, key);

	if (entry)
		return entry->value;
	return row ? row->desc.default_value : NULL;
}

uint64_t config_number(struct impost_context *ctx, const char *section, const char *key)
{
	uint64_t number = 0;

	parse_size(config_get(ctx, section, key), &number);
	return number;
}

bool config_bool(struct impost_context *ctx, const char *section, const char *key)
{
	const char *value = config_get(ctx, section, key);
	bool is = false;

	if (value)
		parse_bool(value, &is);
	return is;
}

const char *impost_context_get(struct impost_context *ctx, const char *section, const char *key)
{
	const char *value;

	pthread_mutex_lock(&ctx->lock);
	value = config_get(ctx, section, key);
	pthread_mutex_unlock(&ctx->lock);
	return value;
}

int impost_context_get_number(struct impost_context *ctx, const char *section, const char *key,
			      uint64_t *ret_number)
{
	const char *value;
	uint64_t number;
	int err = 0;

	pthread_mutex_lock(&ctx->lock);
	value = config_get(ctx, section, key);
	if (!value)
		err = impost_error_set(ctx, -ENOENT, "[%.64s] %.64s has no value", section, key);
	else if (!parse_size(value, &number))
		err = impost_error_set(ctx, -EINVAL, "[%.64s] %.64s = %.128s is no number", section,
				       key, value);
	else
		*ret_number = number;
	pthread_mutex_unlock(&ctx->lock);
	return err;
}

/* The section of PLUGIN, to be freed; NULL: no memory. */
static char *section_of(const struct plugin *plugin)
{
	return text_format("%s%s",
			   plugin->desc.kind == IMPOST_PLUGIN_LAYER ? CONFIG_LAYER : CONFIG_BACKEND,
			   plugin->name);
}

int config_options(struct impost_context *ctx, const struct plugin *plugin, const char *value,
		   const char *where, struct impost_option **ret_options, uint32_t *ret_count)
{
	struct impost_option *options = calloc(plugin->desc.noptions + 1, sizeof(*options));
	char *section = section_of(plugin);
	uint32_t count = 0;

	if (!options || !section) {
		free(options);
		free(section);
		return no_memory(ctx);
	}
	for (uint32_t i = 0; i < plugin->desc.noptions; i++) {
		const char *key = plugin->options[i].key;
		const struct entry *entry = effective(ctx, section, key);

		if (i == 0 && value)
			options[count++] = (struct impost_option){key, value, where};
		else if (entry)
			options[count++] =
				(struct impost_option){entry->key, entry->given, entry->where};
	}
	free(section);
	*ret_options = options;
	*ret_count = count;
	return 0;
}

int config_layers(struct impost_context *ctx, const char *text, struct layers *ret_layers)
{
	const char *dirs = config_get(ctx, "impost", "plugin_dir");
	const struct entry *entry = effective(ctx, "impost", "layers");
	char *base;
	int err;

	if (!text)
		return layers_parse(ctx, dirs, entry ? entry->where : "default", "/",
				    entry ? entry->value : "", ret_layers);
	base = getcwd(NULL, 0);
	if (!base)
		return impost_error_set(ctx, -errno, "the current folder: %m");
	err = layers_parse(ctx, dirs, "struct impost_vm_config", base, text, ret_layers);
	free(base);
	return err;
}

/* --- setting --- */

static void put(struct config *config, struct entry *entry)
{
	struct entry **at = &config->set;

	while (*at &&
	       (strcmp((*at)->section, entry->section) != 0 || strcmp((*at)->key, entry->key) != 0))
		at = &(*at)->next;
	if (*at) {
		struct entry *old = *at;

		entry->next = old->next;
		*at = entry;
		entry_free(old);
	} else {
		*at = entry;
	}
}

void config_apply_log(struct impost_context *ctx)
{
	const char *name = config_get(ctx, "impost", "log");

	for (uint32_t level = IMPOST_LOG_ERROR; level <= IMPOST_LOG_DEBUG; level++)
		if (strcmp(name, impost_log_level_name(level)) == 0)
			ctx->log_level = level;
}

/* Makes ENTRY from what is given to impost_context_set(). */
static int make_set(struct impost_context *ctx, const char *base, const char *section,
		    const char *key, const char *value, struct entry **ret_entry)
{
	bool is_dir = strcmp(section, "impost") == 0 && strcmp(key, "plugin_dir") == 0;
	struct entry *entry;
	int err;

	if (is_dir && ctx->registry.looked)
		return impost_error_set(ctx, -EBUSY,
					"plugin_dir: plugins have been looked for already: set it "
					"before");
	err = config_entry(ctx, config_get(ctx, "impost", "plugin_dir"), "command line", base,
			   section, key, value, &entry);
	if (err)
		return err;
	if (is_dir) {
		err = config_check_plugins(ctx, entry->value, ctx->config.set);
		if (!err)
			err = config_check_plugins(ctx, entry->value, ctx->config.ini);
	}
	if (err)
		entry_free(entry);
	else
		*ret_entry = entry;
	return err;
}

static int set_locked(struct impost_context *ctx, const char *section, const char *key,
		      const char *value)
{
	char *base = getcwd(NULL, 0);
	struct entry *entry = NULL;
	int err;

	if (!base)
		return impost_error_set(ctx, -errno, "the current folder: %m");
	err = make_set(ctx, base, section, key, value, &entry);
	free(base);
	if (err)
		return err;
	put(&ctx->config, entry);
	config_apply_log(ctx);
	return 0;
}

int impost_context_set(struct impost_context *ctx, const char *section, const char *key,
		       const char *value)
{
	int err;

	if (!section || !key || !value)
		return impost_error_set(ctx, -EINVAL, "section, key or value is NULL");
	pthread_mutex_lock(&ctx->lock);
	err = set_locked(ctx, section, key, value);
	pthread_mutex_unlock(&ctx->lock);
	return err;
}

void config_release(struct config *config)
{
	config_entries_free(config->set);
	config_entries_free(config->ini);
	*config = (struct config){0};
}
