// SPDX-License-Identifier: Apache-2.0
/* impost list: the plugins that were found. */
#include "tool.h"

#include <errno.h>
#include <json-c/json.h>

#include "json.h"

static const char *kind_name(uint32_t kind)
{
	switch (kind) {
	case IMPOST_PLUGIN_BACKEND:
		return "backend";
	case IMPOST_PLUGIN_LAYER:
		return "layer";
	default:
		return "unknown";
	}
}

static void print_line(const char *what, const char *text)
{
	printf("         %s", what);
	put_text(stdout, text, 0);
	printf("\n");
}

static void print_text(const struct impost_plugin_info *info)
{
	const char *off = colour(stdout, COLOUR_OFF);

	printf("%s%-8s ", colour(stdout, COLOUR_BOLD), kind_name(info->kind));
	put_text(stdout, info->name, 0);
	printf(" %s", off);
	if (info->status == 0) {
		put_text(stdout, info->version, 0);
		printf(", ABI %u.%u\n", info->abi_major, info->abi_minor);
		print_line("", info->summary);
		print_line("capabilities: ", info->capabilities);
	} else {
		printf("%sbroken%s\n", colour(stdout, COLOUR_BAD), off);
		print_line("reason: ", info->reason);
	}
	print_line("file: ", info->file);
}

static struct json_object *to_json(const struct impost_plugin_info *info)
{
	struct json_object *object = json_object_new_object();
	char abi[16];

	snprintf(abi, sizeof(abi), "%u.%u", info->abi_major, info->abi_minor);
	json_add_string(object, "kind", kind_name(info->kind));
	json_add_string(object, "name", info->name);
	json_add_string(object, "file", info->file);
	json_add_bool(object, "usable", info->status == 0);
	json_add_string(object, "reason", info->status ? info->reason : NULL);
	json_add_string(object, "version", info->version);
	json_add_string(object, "abi", info->status ? NULL : abi);
	json_add_string(object, "summary", info->summary);
	json_add_string(object, "capabilities", info->capabilities);
	return object;
}

int command_list(const struct invocation *invocation)
{
	bool json = invocation_has(invocation, OPTION_JSON);
	struct json_object *plugins = json ? json_object_new_array() : NULL;
	struct impost_plugin_info info = {.size = sizeof(info)};
	uint32_t count = 0;
	int err;

	while ((err = impost_plugin_info(invocation->ctx, count, &info)) == 0) {
		count++;
		if (json)
			json_object_array_add(plugins, to_json(&info));
		else
			print_text(&info);
	}
	/* Nothing found, and a folder that is not there, are the same trouble. */
	if (err != -ENOENT || count == 0) {
		json_object_put(plugins);
		return complain_no_plugins(invocation);
	}
	if (json)
		json_print("plugins", plugins);
	return finish_output(STATUS_OK);
}
