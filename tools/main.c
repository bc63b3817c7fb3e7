// SPDX-License-Identifier: Apache-2.0
/* The impost command: finds the subcommand and gives it a context. */
#include "tool.h"

#include <string.h>

static const struct command commands[] = {
	{"list", COMMAND_LIST, "[-c FILE] [--plugin-dir DIR] [--log LEVEL] [--json]",
	 "Lists the plugins that were found: what each is, and whether it can be used.",
	 command_list},
	{"doctor", COMMAND_DOCTOR,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL]\n"
	 "                     [--backend NAME[,NAME]] [--json]",
	 "Tells of each backend whether it can run here, and if not, why and what to do.",
	 command_doctor},
	{"run", COMMAND_RUN,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL] [--backend NAME[,NAME]]\n"
	 "                  [--memory SIZE] [--cpus N] --kernel FILE [--initrd FILE]\n"
	 "                  [--cmdline STRING] [--stats]",
	 "Boots a guest with its serial port on the terminal. Ctrl-A x leaves.", command_run},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *file)
{
	fprintf(file, "Usage: impost COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(file, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fprintf(file, "\n'impost COMMAND --help' tells more, and so does impost(1).\n");
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void print_log(void *opaque, uint32_t level, const char *text)
{
	(void)opaque;
	fprintf(stderr, "%simpost: %s: %s%s\n", colour(stderr, COLOUR_DIM),
		impost_log_level_name(level), text, colour(stderr, COLOUR_OFF));
}

static int run_command(struct invocation *invocation)
{
	int err = impost_context_open(print_log, NULL, &invocation->ctx);
	int status;

	if (err < 0) {
		complain("cannot open a context: %s", impost_error_name(err));
		return STATUS_HOST;
	}
	status = options_apply(invocation);
	if (status == STATUS_OK)
		status = invocation->command->run(invocation);
	impost_context_close(invocation->ctx);
	return status;
}

int main(int argc, char **argv)
{
	struct invocation invocation = {0};
	const struct command *command;
	static char name[32];
	int status;

	if (!open_streams())
		return STATUS_HOST;
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_usage(stdout);
		return finish_output(STATUS_OK);
	}
	if (argc >= 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
		printf("impost %s\n", impost_version());
		return finish_output(STATUS_OK);
	}
	command = argc >= 2 ? find_command(argv[1]) : NULL;
	if (!command) {
		if (argc >= 2)
			complain("there is no command '%s'", argv[1]);
		print_usage(stderr);
		return STATUS_USAGE;
	}
	/* getopt_long names its complaints after argv[0]. */
	snprintf(name, sizeof(name), "impost %s", command->name);
	argv[1] = name;
	status = options_parse(command, argc - 1, argv + 1, &invocation);
	return status >= 0 ? status : run_command(&invocation);
}
