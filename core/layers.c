/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of layers: from "NAME, NAME:VALUE" to plugins and what their first options are to be. */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "text.h"

/* What is being read. */
struct reading {
	struct impost_context *ctx;
	const char *dirs, *base;
	struct layers layers;
};

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for a list of layers");
}

void layers_free(struct layers *layers)
{
	for (uint32_t i = 0; i < layers->count; i++) {
		free(layers->layer[i].value);
		free(layers->layer[i].given);
	}
	free(layers->layer);
	free(layers->text);
	free(layers->where);
}

/* Cuts the blanks around TEXT. */
static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t");
	for (len = strlen(text); len && strchr(" \t", text[len - 1]);)
		text[--len] = '\0';
	return text;
}

static int find(const struct reading *reading, const char *name, struct plugin **ret_plugin)
{
	char reason[512];
	int err = registry_find_kind(reading->ctx, reading->dirs, name, IMPOST_PLUGIN_LAYER,
				     ret_plugin);

	if (!err || err == -ENOMEM)
		return err;
	snprintf(reason, sizeof(reason), "%s", impost_error(reading->ctx));
	return config_error(reading->ctx, reading->layers.where, "layers: %s", reason);
}

/* Checks VALUE as the first option of LAYER. */
static int take_value(const struct reading *reading, struct layer *layer, const char *value)
{
	const struct plugin *plugin = layer->plugin;
	char section[32];

	if (!plugin->desc.noptions)
		return config_error(reading->ctx, reading->layers.where,
				    "layers: %s takes no value, and is given '%.128s'",
				    plugin->name, value);
	snprintf(section, sizeof(section), CONFIG_LAYER "%s", plugin->name);
	return config_value(reading->ctx, reading->layers.where, reading->base, section,
			    &plugin->options[0], value, &layer->value, &layer->given);
}

/* Adds LAYER to the text. */
static int write_down(struct reading *reading, const struct layer *layer)
{
	char *old = reading->layers.text;

	reading->layers.text = text_format("%s%s%s%s%s", old ? old : "", old ? ", " : "",
					   layer->plugin->name, layer->value ? ":" : "",
					   layer->value ? layer->value : "");
	free(old);
	return reading->layers.text ? 0 : no_memory(reading->ctx);
}

/* Adds what ITEM, which is cut up, asks for. */
static int add(struct reading *reading, char *item)
{
	struct layers *layers = &reading->layers;
	char *value = item, *name = trim(strsep(&value, ":"));
	struct layer *grown, *layer;
	int err;

	grown = realloc(layers->layer, (layers->count + 1) * sizeof(*grown));
	if (!grown)
		return no_memory(reading->ctx);
	layers->layer = grown;
	layer = &grown[layers->count++];
	*layer = (struct layer){0};
	err = find(reading, name, &layer->plugin);
	if (!err && value)
		err = take_value(reading, layer, trim(value));
	return err ? err : write_down(reading, layer);
}

int layers_parse(struct impost_context *ctx, const char *dirs, const char *where, const char *base,
		 const char *text, struct layers *ret_layers)
{
	struct reading reading = {.ctx = ctx, .dirs = dirs, .base = base};
	char *copy = strdup(text), *rest = copy, *item;
	int err = 0;

	reading.layers.where = strdup(where);
	if (!text[strspn(text, " \t")]) {
		rest = NULL;
		reading.layers.text = strdup("");
	}
	if (!copy || !reading.layers.where || (!rest && !reading.layers.text))
		err = no_memory(ctx);
	while (!err && (item = strsep(&rest, ",")) != NULL)
		err = add(&reading, item);
	free(copy);
	if (err)
		layers_free(&reading.layers);
	else
		*ret_layers = reading.layers;
	return err;
}
