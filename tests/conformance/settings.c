/* SPDX-License-Identifier: Apache-2.0 */
/* Carries settings to the tests' processes, and there to their contexts. */
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The '.' between section and key: the last one before the '='. */
static char *key_of(char *text, char **ret_value)
{
	char *value = strchr(text, '=');
	char *dot = value ? memrchr(text, '.', (size_t)(value - text)) : NULL;

	if (!dot || dot == text || dot + 1 == value)
		return NULL;
	*ret_value = value + 1;
	return dot;
}

static int apply_line(struct impost_context *ctx, char *line)
{
	char *value, *dot = key_of(line, &value);

	if (!dot)
		return -EINVAL;
	*dot = '\0';
	value[-1] = '\0';
	return impost_context_set(ctx, line, dot + 1, value);
}

int settings_apply(struct impost_context *ctx)
{
	const char *given = getenv(ENV_SETTINGS), *config = getenv(ENV_CONFIG);
	const char *layers = getenv(ENV_LAYERS);
	char *lines = strdup(given ? given : ""), *rest = lines, *line;
	int r = lines ? 0 : -ENOMEM;

	while (!r && (line = strsep(&rest, "\n")))
		if (*line)
			r = apply_line(ctx, line);
	free(lines);
	if (!r && layers)
		r = impost_context_set(ctx, "impost", "layers", layers);
	/* As in the tool: what was set by hand goes before what the file says. */
	return !r && config ? impost_context_load_file(ctx, config) : r;
}

int settings_add(const char *text)
{
	const char *before = getenv(ENV_SETTINGS);
	char *copy = strdup(text), *value, *all;
	int r = -1;

	if (copy && key_of(copy, &value) && !strchr(text, '\n') &&
	    asprintf(&all, "%s%s\n", before ? before : "", text) >= 0) {
		r = setenv(ENV_SETTINGS, all, 1);
		free(all);
	}
	free(copy);
	return r;
}
