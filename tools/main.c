// SPDX-License-Identifier: Apache-2.0
/* The impost command: finds the subcommand and gives it a context. */
#include "tool.h"

#include <limits.h>
#include <string.h>

static const struct command commands[] = {
	{"list", COMMAND_LIST, "[-c FILE] [--plugin-dir DIR] [--log LEVEL] [--json]",
	 "Lists the plugins that were found: what each is, and whether it can be used.",
	 command_list, 0, 0},
	{"doctor", COMMAND_DOCTOR,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL]\n"
	 "                     [--backend NAME[,NAME]] [--json]",
	 "Tells of each backend whether it can run here, and if not, why and what to do.",
	 command_doctor, 0, 0},
	{"run", COMMAND_RUN,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL] [--backend NAME[,NAME]]\n"
	 "                  [--memory SIZE] [--memory-backing KIND] [--memory-path FILE]\n"
	 "                  [--memory-shared] [--memory-pages SIZE] [--memory-prefault]\n"
	 "                  [--numa-policy POLICY] [--numa-nodes LIST]\n"
	 "                  [--cpus N] [--topology S:D:C:T]\n"
	 "                  [--cpu-template NAME|FILE] --kernel FILE [--initrd FILE]\n"
	 "                  [--cmdline STRING] [--boot PROTOCOL] [--flat-mode MODE]\n"
	 "                  [--flat-address ADDRESS] [--stats] [--dirty-rate[=MS]]\n"
	 "                  [--control SOCKET] [--layer NAME[:VALUE]]...\n"
	 "                  [--set SECTION.KEY=VALUE]..." IF_STATE(
		 "\n                  [--restore FILE] [--restore-memory HOW]\n"
		 "                  [--key-file FILE] [--incoming ADDRESS]\n"
		 "                  [--tls-certificate FILE] [--tls-key FILE] [--tls-ca FILE]\n"
		 "                  [--tls-psk FILE]"),
	 "Boots a guest with its serial port on the terminal. Ctrl-A x leaves.", command_run, 0, 0},
	{"replay", COMMAND_REPLAY,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL] [--set SECTION.KEY=VALUE]...\n"
	 "                     [--layer NAME[:VALUE]]... [--memory SIZE]\n"
	 "                     [--memory-backing KIND] [--memory-path FILE] [--memory-shared]\n"
	 "                     [--memory-pages SIZE] [--memory-prefault]\n"
	 "                     [--numa-policy POLICY] [--numa-nodes LIST]\n"
	 "                     [--cpus N] [--topology S:D:C:T] [--cpu-template NAME|FILE]\n"
	 "                     [--kernel FILE] [--initrd FILE] [--cmdline STRING]\n"
	 "                     [--boot PROTOCOL] [--flat-mode MODE] [--flat-address ADDRESS]\n"
	 "                     [--stats] FILE",
	 "Runs a guest from a cassette, with no hypervisor, and tells where it differs.",
	 command_replay, 1, 1},
	{"ctl", COMMAND_CTL,
	 "[--json] SOCKET status | pause | resume | save FILE [--diff BASE] | quit\n"
	 "                  | migrate ADDRESS [--local] [--postcopy] [--compress] [--finish]\n"
	 "                    [--downtime MS] [--timeout S] [--connections N]\n"
	 "                    [--throttle PERCENT]\n"
	 "                  | migrate-cancel | settle keep | settle leave",
	 "Tells a run what to do, at the socket that its --control made.", command_ctl, 2, 3},
	{"inspect", COMMAND_INSPECT, "[--key-file FILE] [--header] [--json] FILE",
	 "Shows a snapshot, and every register in it by name; or what a cassette has.",
	 command_inspect, 1, 1},
	{"diff", COMMAND_DIFF, "[--key-file FILE] [--json] A B",
	 "Tells in what two snapshots differ: registers and devices by name, and memory.",
	 command_diff, 2, 2},
	{"check", COMMAND_CHECK,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL]\n"
	 "                    [--backend NAME[,NAME]] [--key-file FILE] [--verify] [--json] FILE",
	 "Tells whether a snapshot can be restored here, and else everything that is in the way.",
	 command_check, 1, 1},
	{"flatten", COMMAND_FLATTEN, "[--key-file FILE] FILE OUT",
	 "Writes a whole snapshot of one that is a diff to others.", command_flatten, 2, 2},
	{"conform", COMMAND_CONFORM,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL] [--backend NAME[,NAME]]\n"
	 "                      [--layer NAME[:VALUE]]... [--set SECTION.KEY=VALUE]...\n"
	 "                      [--junit FILE] [--jobs N] [--timeout S] [--verbose]\n"
	 "                      [--list] [TEST...]",
	 "Tests whether a backend does what the plugin ABI asks of it.", command_conform, 0,
	 INT_MAX},
	{"cpu dump", COMMAND_CPU_DUMP,
	 "[-c FILE] [--plugin-dir DIR] [--log LEVEL]\n"
	 "                       [--backend NAME[,NAME]] [--json | -o FILE]",
	 "Writes what this host offers as a CPU template: CPUID and feature MSRs.",
	 command_cpu_dump, 0, 0},
	{"cpu compare", COMMAND_CPU_COMPARE, "[--json] A B",
	 "Tells each field in which two CPU templates or dumps differ.", command_cpu_compare, 2, 2},
	{"cpu baseline", COMMAND_CPU_BASELINE, "[-o FILE] A [B...]",
	 "Writes the largest CPU template that all hosts can give, from their dumps.",
	 command_cpu_baseline, 1, INT_MAX},
	{"cpu templates", COMMAND_CPU_TEMPLATES, "[NAME]",
	 "Lists the CPU templates that there are, or writes one.", command_cpu_templates, 0, 1},
	{"cpu fields", COMMAND_CPU_FIELDS, "[--json]", "Lists the names that CPU templates know.",
	 command_cpu_fields, 0, 0},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* The length of NAME's first word, and the second one; NULL: it has one. */
static size_t split(const char *name, const char **ret_second)
{
	const char *blank = strchr(name, ' ');

	*ret_second = blank ? blank + 1 : NULL;
	return blank ? (size_t)(blank - name) : strlen(name);
}

static bool begins_with(const struct command *command, const char *word)
{
	const char *second;
	size_t len = split(command->name, &second);

	return strlen(word) == len && strncmp(command->name, word, len) == 0;
}

/* Prints the commands that begin with GROUP; NULL: all. */
static void print_usage(FILE *file, const char *group)
{
	fprintf(file, "Usage: impost %s%sCOMMAND [OPTION...]\n\n", group ? group : "",
		group ? " " : "");
	for (size_t i = 0; i < COMMANDS; i++)
		if ((!group || begins_with(&commands[i], group)) &&
		    (HAS_STATE || !(commands[i].flag & COMMAND_STATE)))
			fprintf(file, "  %-13s %s\n", commands[i].name, commands[i].summary);
	fprintf(file, "\n'impost COMMAND --help' tells more, and so does impost(1).\n");
}

static bool is_group(const char *word)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strchr(commands[i].name, ' ') && begins_with(&commands[i], word))
			return true;
	return false;
}

/* The command that the first word, or the first two, of WORDS name. */
static const struct command *find_command(char *const *words, int *ret_count)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const char *second;

		split(commands[i].name, &second);
		if (!begins_with(&commands[i], words[0]) ||
		    (second && (!words[1] || strcmp(second, words[1]) != 0)))
			continue;
		*ret_count = second ? 2 : 1;
		return &commands[i];
	}
	return NULL;
}

static bool asks_for(const char *word, const char *option, const char *letter)
{
	return word && (strcmp(word, option) == 0 || strcmp(word, letter) == 0);
}

/* A command line that names no command. */
static int explain(char *const *words)
{
	const char *group = words[0] && is_group(words[0]) ? words[0] : NULL;

	if (asks_for(words[group ? 1 : 0], "--help", "-h")) {
		print_usage(stdout, group);
		return finish_output(STATUS_OK);
	}
	if (asks_for(words[0], "--version", "-V")) {
		printf("impost %s\n", impost_version());
		return finish_output(STATUS_OK);
	}
	if (group && words[1])
		complain("there is no command '%s %s'", group, words[1]);
	else if (group)
		complain("'%s' is several commands: say which", group);
	else if (words[0])
		complain("there is no command '%s'", words[0]);
	print_usage(stderr, group);
	return STATUS_USAGE;
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
	int status, words;

	if (!open_streams())
		return STATUS_HOST;
	command = argc >= 2 ? find_command(argv + 1, &words) : NULL;
	if (!command)
		return explain(argc >= 1 ? argv + 1 : argv);
	if (!HAS_STATE && command->flag & COMMAND_STATE) {
		complain("%s: " NO_STATE_TEXT, command->name);
		return STATUS_HOST;
	}
	/* getopt_long names its complaints after argv[0]. */
	snprintf(name, sizeof(name), "impost %s", command->name);
	argv[words] = name;
	status = options_parse(command, argc - words, argv + words, &invocation);
	return status >= 0 ? status : run_command(&invocation);
}
