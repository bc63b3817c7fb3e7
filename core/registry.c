/* SPDX-License-Identifier: Apache-2.0 */
/* The plugins of a context: found in the configured folders or built in, listed, opened. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "text.h"

#ifdef IMPOST_BUILTINS
#define BUILTIN(name) extern const struct impost_plugin impost_plugin_##name;
IMPOST_BUILTINS
#undef BUILTIN
#define BUILTIN(name) &impost_plugin_##name,
#else
#define IMPOST_BUILTINS
#endif

/* Backends that were compiled in; the list ends with NULL. */
static const struct impost_plugin *const builtins[] = {IMPOST_BUILTINS NULL};

/* --- what was looked at --- */

static void free_plugin(struct plugin *plugin)
{
	free(plugin->options);
	free(plugin->reason);
	free(plugin->file);
	free(plugin->name);
	free(plugin);
}

/* A plugin's record: FILE and the name that it must have. -ENOMEM: NULL, with a text. */
static struct plugin *new_plugin(struct impost_context *ctx, const char *file, const char *name,
				 size_t len)
{
	struct plugin *plugin = calloc(1, sizeof(*plugin));

	if (plugin) {
		plugin->file = strdup(file);
		plugin->name = strndup(name, len);
		if (plugin->file && plugin->name)
			return plugin;
		free_plugin(plugin);
	}
	impost_error_set(ctx, -ENOMEM, "no memory for plugin %s", file);
	return NULL;
}

/* Keeps PLUGIN with STATUS; the thread's error text is the reason when it is not 0. */
static int keep(struct impost_context *ctx, struct plugin *plugin, int status)
{
	plugin->status = status;
	plugin->reason = strdup(status ? impost_error(ctx) : "");
	if (!plugin->reason) {
		loader_unload(plugin->module);
		free_plugin(plugin);
		return impost_error_set(ctx, -ENOMEM, "no memory for a plugin's record");
	}
	plugin->next = ctx->registry.plugins;
	ctx->registry.plugins = plugin;
	return 0;
}

/* The record of FILE, which is NAME.so (LEN characters of it), made at the first time. */
static int look_at_file(struct impost_context *ctx, const char *file, const char *name, size_t len,
			struct plugin **ret_plugin)
{
	const struct impost_plugin *desc;
	struct plugin *plugin = ctx->registry.plugins;
	int err;

	while (plugin && strcmp(plugin->file, file) != 0)
		plugin = plugin->next;
	if (!plugin) {
		plugin = new_plugin(ctx, file, name, len);
		if (!plugin)
			return -ENOMEM;
		err = plugin_name_is_valid(name, len)
			      ? loader_load(ctx, plugin, &desc)
			      : impost_error_set(ctx, -IMPOST_EPLUGIN,
						 "its file name is not 1 to 15 of a-z, 0-9, '-' "
						 "and .so");
		if (!err)
			err = plugin_judge(ctx, plugin, desc);
		err = keep(ctx, plugin, err);
		if (err)
			return err;
	}
	*ret_plugin = plugin;
	return 0;
}

/* The record of builtin DESC. */
static int look_at_builtin(struct impost_context *ctx, const struct impost_plugin *desc,
			   struct plugin **ret_plugin)
{
	struct plugin *plugin = ctx->registry.plugins;
	int err;

	while (plugin &&
	       (strcmp(plugin->file, "builtin") != 0 || strcmp(plugin->name, desc->name) != 0))
		plugin = plugin->next;
	if (!plugin) {
		plugin = new_plugin(ctx, "builtin", desc->name, strlen(desc->name));
		if (!plugin)
			return -ENOMEM;
		err = keep(ctx, plugin, plugin_judge(ctx, plugin, desc));
		if (err)
			return err;
	}
	*ret_plugin = plugin;
	return 0;
}

/* --- finding one --- */

/*
 * Calls FN for each folder of DIRS until it returns other than 0. The folder that was compiled in
 * need not be there: nothing may have been installed.
 */
static int each_folder(struct impost_context *ctx, const char *dirs,
		       int (*fn)(struct impost_context *ctx, const char *dir, void *opaque),
		       void *opaque)
{
	bool compiled_in = strcmp(dirs, IMPOST_PLUGINDIR) == 0;
	char *copy = strdup(dirs), *rest = copy, *dir, *path;
	int err = copy ? 0 : impost_error_set(ctx, -ENOMEM, "no memory");

	while (!err && (dir = strsep(&rest, ":")) != NULL) {
		err = loader_folder(ctx, dir, &path);
		if (err == -ENOENT && compiled_in) {
			err = 0;
			continue;
		}
		if (err)
			break;
		err = fn(ctx, path, opaque);
		free(path);
	}
	free(copy);
	return err;
}

struct search {
	const char *name;
	struct plugin *found;
};

/* Returns 1 when it is found. */
static int search_folder(struct impost_context *ctx, const char *dir, void *opaque)
{
	struct search *search = opaque;
	char *file = text_format("%s/%s.so", dir, search->name);
	int err;

	if (!file)
		return impost_error_set(ctx, -ENOMEM, "no memory");
	err = loader_exists(file)
		      ? look_at_file(ctx, file, search->name, strlen(search->name), &search->found)
		      : 0;
	free(file);
	return err ? err : search->found != NULL;
}

static int search_builtins(struct impost_context *ctx, struct search *search)
{
	for (size_t i = 0; builtins[i]; i++)
		if (strcmp(builtins[i]->name, search->name) == 0)
			return look_at_builtin(ctx, builtins[i], &search->found);
	return 0;
}

int registry_find(struct impost_context *ctx, const char *dirs, const char *name,
		  struct plugin **ret_plugin)
{
	struct search search = {.name = name};
	int err;

	if (!plugin_name_is_valid(name, strlen(name)))
		return impost_error_set(ctx, -IMPOST_EPLUGIN,
					"'%.64s' is no plugin's name: 1 to 15 of a-z, 0-9, '-'",
					name);
	err = search_builtins(ctx, &search);
	if (!err && !search.found)
		err = each_folder(ctx, dirs, search_folder, &search);
	if (err < 0)
		return err;
	if (!search.found)
		return impost_error_set(ctx, -IMPOST_EPLUGIN, "there is no plugin %s.so in %s",
					name, dirs);
	if (search.found->status)
		return impost_error_set(ctx, -IMPOST_EPLUGIN, "plugin %s: %s", search.found->file,
					search.found->reason);
	*ret_plugin = search.found;
	return 0;
}

int registry_find_kind(struct impost_context *ctx, const char *dirs, const char *name,
		       uint32_t kind, struct plugin **ret_plugin)
{
	struct plugin *plugin;
	int err = registry_find(ctx, dirs, name, &plugin);

	if (!err && plugin->desc.kind != kind)
		return impost_error_set(ctx, -IMPOST_EPLUGIN, "plugin %s is a %s, not a %s", name,
					plugin_kind(plugin),
					kind == IMPOST_PLUGIN_LAYER ? "layer" : "backend");
	if (!err)
		*ret_plugin = plugin;
	return err;
}

/* --- opening a backend, and layers over it --- */

static void host_log(void *ctx, uint32_t level, const char *text)
{
	context_log(ctx, level, "%s", text);
}

static void host_error(void *ctx, const char *text)
{
	impost_error_set(ctx, 0, "%s", text);
}

/* Judges RESULT of operation OP of a plugin with no VM. A layer's own words follow its name: they
 * are not to be taken for the backend's. */
static int called(struct impost_context *ctx, const struct plugin *plugin, uint64_t serial,
		  int32_t result, const char *op)
{
	const char *kind = plugin_kind(plugin);

	if (result > 0)
		return impost_error_set(ctx, -EIO, "%s %s: %s returned %d, which is no result",
					kind, plugin->name, op, result);
	if (result < 0 && error_serial(ctx) == serial)
		return impost_error_set(ctx, result, "%s %s: %s failed: %s", kind, plugin->name, op,
					impost_error_name(result));
	if (result < 0 && plugin->desc.kind == IMPOST_PLUGIN_LAYER) {
		char text[1024];

		snprintf(text, sizeof(text), "%s", impost_error(ctx));
		if (strncmp(text, "layer ", strlen("layer ")) != 0) /* it does not say so itself */
			impost_error_set(ctx, result, "layer %s: %s", plugin->name, text);
	}
	return result;
}

static int ask_caps(struct impost_context *ctx, const struct level *level,
		    struct impost_caps *ret_caps)
{
	uint64_t serial = error_serial(ctx);
	struct impost_caps caps = {.size = sizeof(caps)};
	int err = called(ctx, level->plugin, serial, level->ops.backend.caps(level->handle, &caps),
			 "caps");

	caps.size = sizeof(caps);
	if (!err)
		err = plugin_judge_caps(ctx, level->plugin, &level->ops, &caps);
	if (!err)
		*ret_caps = caps;
	return err;
}

/* Opens LEVEL, whose plugin is set, on what is below it. VALUE is what its first option is to be,
 * as WHERE has it; NULL: as the configuration has it. */
static int open_level(struct impost_context *ctx, struct backend *backend, struct level *level,
		      const char *value, const char *where)
{
	struct impost_option *options = NULL;
	struct impost_open_args args = {
		.size = sizeof(args),
		.host = &backend->host,
		.below_ops = level->below ? &level->below->ops.backend : NULL,
		.below = level->below ? level->below->handle : NULL,
		.backend = level->below ? backend->plugin->name : NULL,
		.backend_version = level->below ? backend->plugin->desc.version : NULL,
	};
	struct plugin *plugin = level->plugin;
	uint64_t serial = error_serial(ctx);
	int err = config_options(ctx, plugin, value, where, &options, &args.noptions);

	if (err)
		return err;
	args.options = options;
	level->ops = plugin->ops;
	level->ops.backend.vm = &level->ops.vm;
	level->ops.backend.vcpu = &level->ops.vcpu;
	if (level->below)
		plugin_mask(&level->ops, &level->below->ops);
	err = called(ctx, plugin, serial, level->ops.backend.open(&args, &level->handle), "open");
	free(options);
	if (err)
		return err;
	err = ask_caps(ctx, level, &backend->caps);
	if (err)
		level->ops.backend.close(level->handle);
	return err;
}

/* Makes TOP what is called. */
static void set_top(struct backend *backend, struct level *top)
{
	backend->top = top;
	backend->ops = &top->ops;
	backend->handle = top->handle;
}

/* Opens PLUGIN over what is open already. BACKEND is untouched on failure. */
static int push(struct impost_context *ctx, struct plugin *plugin, const char *value,
		const char *where, struct backend *backend)
{
	struct level *level = calloc(1, sizeof(*level));
	int err;

	if (!level)
		return impost_error_set(ctx, -ENOMEM, "no memory for %s %s", plugin_kind(plugin),
					plugin->name);
	level->plugin = plugin;
	level->below = backend->top;
	err = open_level(ctx, backend, level, value, where);
	if (err) {
		free(level);
		return err;
	}
	plugin->users++;
	set_top(backend, level);
	return 0;
}

static struct level *pop(struct backend *backend)
{
	struct level *level = backend->top, *below = level->below;

	level->ops.backend.close(level->handle);
	level->plugin->users--;
	free(level);
	return below;
}

int registry_open(struct impost_context *ctx, const char *name, struct backend *backend)
{
	struct plugin *plugin;
	int err = registry_find_kind(ctx, config_get(ctx, "impost", "plugin_dir"), name,
				     IMPOST_PLUGIN_BACKEND, &plugin);

	if (err)
		return err;
	*backend = (struct backend){
		.plugin = plugin,
		.host = {.size = sizeof(backend->host),
			 .abi_minor = IMPOST_PLUGIN_ABI_MINOR,
			 .ctx = ctx,
			 .log = host_log,
			 .error = host_error},
	};
	err = push(ctx, plugin, NULL, NULL, backend);
	if (err)
		*backend = (struct backend){0};
	return err;
}

int registry_open_layers(struct impost_context *ctx, const char *text, struct backend *backend,
			 char **ret_text)
{
	struct level *bottom = backend->top;
	struct impost_caps caps = backend->caps;
	struct layers layers;
	int err = config_layers(ctx, text, &layers);

	if (err)
		return err;
	for (uint32_t i = layers.count; !err && i > 0; i--)
		err = push(ctx, layers.layer[i - 1].plugin, layers.layer[i - 1].given, layers.where,
			   backend);
	if (err) {
		while (backend->top != bottom)
			set_top(backend, pop(backend));
		backend->caps = caps;
	} else {
		*ret_text = layers.text;
		layers.text = NULL;
	}
	layers_free(&layers);
	return err;
}

void registry_close(struct backend *backend)
{
	while (backend->top)
		backend->top = pop(backend);
}

int impost_backend_probe(struct impost_context *ctx, const char *name, struct impost_caps *ret_caps)
{
	struct backend backend = {0};
	int err = abi_check(ctx, "impost_caps", ret_caps, ABI_UP_TO(struct impost_caps, phys_bits));

	if (err)
		return err;
	if (!name)
		return impost_error_set(ctx, -EINVAL, "impost_backend_probe: name is NULL");
	if (context_forked(ctx))
		return context_refuse_fork(ctx);
	pthread_mutex_lock(&ctx->lock);
	ctx->registry.looked = true;
	err = registry_open(ctx, name, &backend);
	if (!err) {
		registry_close(&backend);
		abi_give(ret_caps, &backend.caps, sizeof(backend.caps));
	}
	pthread_mutex_unlock(&ctx->lock);
	return err;
}

/* --- listing --- */

/* Adds PLUGIN to the listing; a name that is there already makes a file unusable. */
static int list(struct impost_context *ctx, struct plugin *plugin)
{
	struct registry *registry = &ctx->registry;
	struct plugin **grown;

	for (uint32_t i = 0; registry->listing && i < registry->listed; i++) {
		const struct plugin *other = registry->listing[i];
		char *reason;

		if (other == plugin)
			return 0;
		if (strcmp(other->name, plugin->name) != 0 || plugin->status)
			continue;
		reason = text_format("%s comes first and has the same name", other->file);
		if (!reason)
			return impost_error_set(ctx, -ENOMEM, "no memory");
		free(plugin->reason);
		plugin->reason = reason;
		plugin->status = -EEXIST;
	}
	grown = realloc(registry->listing, (registry->listed + 1) * sizeof(struct plugin *));
	if (!grown)
		return impost_error_set(ctx, -ENOMEM, "no memory for a list of plugins");
	registry->listing = grown;
	grown[registry->listed++] = plugin;
	return 0;
}

static int is_plugin_file(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 3 && entry->d_name[0] != '.' && strcmp(entry->d_name + len - 3, ".so") == 0;
}

static int list_file(struct impost_context *ctx, const char *dir, const char *name)
{
	char *file = text_format("%s/%s", dir, name);
	struct plugin *plugin;
	int err = file ? look_at_file(ctx, file, name, strlen(name) - strlen(".so"), &plugin)
		       : impost_error_set(ctx, -ENOMEM, "no memory");

	free(file);
	return err ? err : list(ctx, plugin);
}

static int list_folder(struct impost_context *ctx, const char *dir, void *opaque)
{
	struct dirent **entries;
	int count = scandir(dir, &entries, is_plugin_file, alphasort);
	int err = 0;

	(void)opaque;
	if (count < 0)
		return impost_error_set(ctx, -errno, "plugin folder %s: %m", dir);
	for (int i = 0; i < count; i++) {
		if (!err)
			err = list_file(ctx, dir, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return err;
}

static int by_name(const void *a, const void *b)
{
	const struct plugin *const *left = a, *const *right = b;
	int order = strcmp((*left)->name, (*right)->name);

	return order ? order : strcmp((*left)->file, (*right)->file);
}

static int make_listing(struct impost_context *ctx)
{
	struct plugin *plugin;
	int err = 0;

	ctx->registry.listed = 0;
	for (size_t i = 0; !err && builtins[i]; i++) {
		err = look_at_builtin(ctx, builtins[i], &plugin);
		if (!err)
			err = list(ctx, plugin);
	}
	if (!err)
		err = each_folder(ctx, config_get(ctx, "impost", "plugin_dir"), list_folder, NULL);
	if (err) {
		free(ctx->registry.listing);
		ctx->registry.listing = NULL;
		ctx->registry.listed = 0;
		return err;
	}
	if (ctx->registry.listed)
		qsort(ctx->registry.listing, ctx->registry.listed, sizeof(struct plugin *),
		      by_name);
	return 0;
}

static void tell(const struct plugin *plugin, struct impost_plugin_info *ret_info)
{
	const struct impost_plugin *desc = &plugin->desc;
	const struct impost_plugin_info info = {
		.kind = desc->kind,
		.status = plugin->status,
		.abi_major = desc->abi_major,
		.abi_minor = desc->abi_minor,
		.file = plugin->file,
		.name = plugin->name,
		.version = desc->version ? desc->version : "",
		.summary = desc->summary ? desc->summary : "",
		.capabilities = desc->capabilities ? desc->capabilities : "",
		.reason = plugin->reason,
	};

	abi_give(ret_info, &info, sizeof(info));
}

int impost_plugin_info(struct impost_context *ctx, uint32_t index,
		       struct impost_plugin_info *ret_info)
{
	int err = abi_check(ctx, "impost_plugin_info", ret_info,
			    ABI_UP_TO(struct impost_plugin_info, reason));

	if (err)
		return err;
	if (context_forked(ctx))
		return context_refuse_fork(ctx);
	pthread_mutex_lock(&ctx->lock);
	ctx->registry.looked = true;
	if (!ctx->registry.listing)
		err = make_listing(ctx);
	if (!err && (!ctx->registry.listing || index >= ctx->registry.listed))
		err = impost_error_set(ctx, -ENOENT, "there are %u plugins", ctx->registry.listed);
	if (!err)
		tell(ctx->registry.listing[index], ret_info);
	pthread_mutex_unlock(&ctx->lock);
	return err;
}

int registry_release(struct impost_context *ctx)
{
	struct plugin *plugin, *next;
	bool forked = context_forked(ctx);

	for (plugin = ctx->registry.plugins; plugin && !forked; plugin = plugin->next)
		if (plugin->users)
			return impost_error_set(ctx, -EBUSY, "plugin %s is in use", plugin->file);
	for (plugin = ctx->registry.plugins; plugin; plugin = next) {
		next = plugin->next;
		if (!forked) /* where the loader's lock may be held for ever */
			loader_unload(plugin->module);
		free_plugin(plugin);
	}
	free(ctx->registry.listing);
	ctx->registry = (struct registry){0};
	return 0;
}
