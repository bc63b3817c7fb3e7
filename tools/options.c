// SPDX-License-Identifier: Apache-2.0
/* The command line of a subcommand: from the table in options.def to settings of the context. */
#include "tool.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tool_option {
	const char *name;
	const char *argument;
	int letter; /* 0: none */
	unsigned int commands;
	const char *section;
	const char *key;
	const char *help;
};

static const struct tool_option options[OPTION_COUNT] = {
#define OPTION(ID, name, letter, argument, commands, section, key, help) \
	[OPTION_##ID] = {name, argument, letter, commands, section, key, help},
#include "options.def"
#undef OPTION
};

/* getopt_long's value for option ID: clear of every letter. */
#define LONG_BASE 256

/* As getopt_long has it. */
static int has_argument(const struct tool_option *option)
{
	if (!option->argument)
		return no_argument;
	return option->argument[0] == '[' ? optional_argument : required_argument;
}

static bool may_be_repeated(const struct tool_option *option)
{
	const char *dots = option->argument ? strstr(option->argument, "...") : NULL;

	return dots && !dots[3];
}

/* Whether it is for what is not in this build. */
static bool lacks_state(const struct tool_option *option)
{
	return !HAS_STATE && option->commands & NEEDS_STATE;
}

static void print_help(const struct command *command)
{
	printf("Usage: impost %s %s\n%s\n\n", command->name, command->synopsis, command->summary);
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct tool_option *option = &options[i];
		char head[64];

		if (!(option->commands & command->flag) || lacks_state(option))
			continue;
		snprintf(head, sizeof(head), "--%s%s%s", option->name,
			 has_argument(option) == required_argument ? " " : "",
			 option->argument ? option->argument : "");
		printf("  %c%c%c %-24s %s\n", option->letter ? '-' : ' ',
		       option->letter ? option->letter : ' ', option->letter ? ',' : ' ', head,
		       option->help);
	}
	printf("\nThe manual is impost(1).\n");
}

/* Makes getopt_long's two descriptions of COMMAND's options. */
static void describe(const struct command *command, struct option *longs, char *shorts)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct tool_option *option = &options[i];

		if (!(option->commands & command->flag))
			continue;
		*longs++ = (struct option){
			.name = option->name,
			.has_arg = has_argument(option),
			.val = LONG_BASE + i,
		};
		if (!option->letter)
			continue;
		*shorts++ = (char)option->letter;
		if (option->argument)
			*shorts++ = ':';
	}
	*longs = (struct option){0};
	*shorts = '\0';
}

static int by_letter(int letter)
{
	for (int i = 0; i < OPTION_COUNT; i++)
		if (options[i].letter == letter)
			return i;
	return -1;
}

static int usage_hint(const struct command *command)
{
	fprintf(stderr, "Try 'impost %s --help'.\n", command->name);
	return STATUS_USAGE;
}

static int too_many(const struct command *command, const char *operand)
{
	if (command->most)
		complain("%s: what is '%s'? There is one too many", command->name, operand);
	else
		complain("%s: what is '%s'? This command takes options only", command->name,
			 operand);
	return usage_hint(command);
}

/* Keeps what was given; false, with a message: there is no room for it. */
static bool keep(struct invocation *invocation, int id, const char *value)
{
	if (id == OPTION_INCOMING && invocation_has(invocation, OPTION_INCOMING)) {
		complain("--incoming %s: there is one already: a run begins with one guest", value);
		return false;
	}
	invocation->values[id] = value;
	if (!may_be_repeated(&options[id]))
		return true;
	if (invocation->nrepeated == MOST_REPEATED) {
		complain("--%s %s: there are more than %d like it", options[id].name, value,
			 MOST_REPEATED);
		return false;
	}
	invocation->repeated[invocation->nrepeated].id = (enum tool_option_id)id;
	invocation->repeated[invocation->nrepeated++].value = value;
	return true;
}

int options_parse(const struct command *command, int argc, char **argv,
		  struct invocation *invocation)
{
	struct option longs[OPTION_COUNT + 1];
	char shorts[2 * OPTION_COUNT + 1];
	int value;

	invocation->command = command;
	describe(command, longs, shorts);
	optind = 1;
	while ((value = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		int id = value >= LONG_BASE ? value - LONG_BASE : by_letter(value);

		if (id < 0)
			return usage_hint(command);
		if (options[id].argument && options[id].argument[0] == '[' && optarg && !*optarg) {
			complain("--%s=: there is nothing behind the '='", options[id].name);
			return usage_hint(command);
		}
		if (lacks_state(&options[id])) {
			complain("--%s: " NO_STATE_TEXT, options[id].name);
			return STATUS_HOST;
		}
		if (!keep(invocation, id, optarg ? optarg : ""))
			return usage_hint(command);
	}
	invocation->operands = argv + optind;
	invocation->noperands = argc - optind;
	if (invocation->noperands > command->most)
		return too_many(command, argv[optind + command->most]);
	if (invocation_has(invocation, OPTION_HELP)) {
		print_help(command);
		return finish_output(STATUS_OK);
	}
	if (invocation_has(invocation, OPTION_VERSION)) {
		printf("impost %s\n", impost_version());
		return finish_output(STATUS_OK);
	}
	if (invocation->noperands < command->least) {
		complain("%s: %s", command->name,
			 invocation->noperands ? "there is one missing" : "of what?");
		fprintf(stderr, "Usage: impost %s %s\n", command->name, command->synopsis);
		return usage_hint(command);
	}
	return -1;
}

/* SECTION.KEY=VALUE; a section's name may have dots, too. */
static int apply_setting(const struct invocation *invocation, const char *text)
{
	const char *value = strchr(text, '=');
	const char *dot = value ? memrchr(text, '.', (size_t)(value - text)) : NULL;
	char *copy;
	int err;

	if (!dot || dot == text || dot + 1 == value) {
		complain("--set %s: that is not SECTION.KEY=VALUE", text);
		return STATUS_USAGE;
	}
	copy = strdup(text);
	if (!copy) {
		complain("no memory");
		return STATUS_HOST;
	}
	copy[dot - text] = copy[value - text] = '\0';
	err = impost_context_set(invocation->ctx, copy, copy + (dot - text) + 1, value + 1);
	free(copy);
	if (err >= 0)
		return STATUS_OK;
	complain_error(invocation, err);
	return err == -IMPOST_ECONFIG ? STATUS_USAGE : STATUS_HOST;
}

static int apply_settings(const struct invocation *invocation)
{
	int status = STATUS_OK;

	for (int i = 0; i < invocation->nrepeated && status == STATUS_OK; i++)
		if (invocation->repeated[i].id == OPTION_SET)
			status = apply_setting(invocation, invocation->repeated[i].value);
	return status;
}

/* All of --layer as one list, to be freed; NULL: no memory. */
static char *join_layers(const struct invocation *invocation)
{
	char *all = NULL, *longer;

	for (int i = 0; i < invocation->nrepeated; i++) {
		if (invocation->repeated[i].id != OPTION_LAYER)
			continue;
		if (asprintf(&longer, "%s%s%s", all ? all : "", all ? "," : "",
			     invocation->repeated[i].value) < 0)
			longer = NULL;
		free(all);
		all = longer;
		if (!all)
			return NULL;
	}
	return all;
}

/* After the INI: which may say where the layers' plugins are. */
static int apply_layers(const struct invocation *invocation)
{
	char *layers;
	int err;

	if (!invocation_has(invocation, OPTION_LAYER))
		return STATUS_OK;
	layers = join_layers(invocation);
	if (!layers) {
		complain("no memory");
		return STATUS_HOST;
	}
	err = impost_context_set(invocation->ctx, "impost", "layers", layers);
	free(layers);
	if (err >= 0)
		return STATUS_OK;
	complain_error(invocation, err);
	return err == -IMPOST_ECONFIG ? STATUS_USAGE : STATUS_HOST;
}

/* Whether TEXT is SECTION.KEY=VALUE. */
static bool sets(const char *text, const char *section, const char *key)
{
	size_t n = strlen(section), m = strlen(key);

	return strncmp(text, section, n) == 0 && text[n] == '.' &&
	       strncmp(text + n + 1, key, m) == 0 && text[n + 1 + m] == '=';
}

bool options_has_set(const struct invocation *invocation, const char *section, const char *key)
{
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (options[i].key && invocation->values[i] &&
		    strcmp(options[i].section, section) == 0 && strcmp(options[i].key, key) == 0)
			return true;
	for (int i = 0; i < invocation->nrepeated; i++)
		if (invocation->repeated[i].id == OPTION_SET &&
		    sets(invocation->repeated[i].value, section, key))
			return true;
	return false;
}

int options_apply(const struct invocation *invocation)
{
	const char *config = invocation->values[OPTION_CONFIG];
	int err, status;

	/* First what was given here: the INI's plugin sections are judged by the plugins in
	 * --plugin-dir. */
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		if (!options[i].key || !invocation->values[i])
			continue;
		err = impost_context_set(invocation->ctx, options[i].section, options[i].key,
					 options[i].argument ? invocation->values[i] : "yes");
		if (err < 0) {
			complain_error(invocation, err);
			return err == -IMPOST_ECONFIG ? STATUS_USAGE : STATUS_HOST;
		}
	}
	status = apply_settings(invocation);
	if (status != STATUS_OK)
		return status;
	err = config ? impost_context_load_file(invocation->ctx, config) : 0;
	return err < 0 ? complain_error(invocation, err) : apply_layers(invocation);
}
