/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands of `impost` share: options, messages, colours, exit statuses. */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <stdbool.h>
#include <stdio.h>

#include <impost/impost.h>

/* Exit statuses, as impost(1) has them. A signal gives 128 and its number. */
#define STATUS_OK 0
/* The guest failed; doctor: nothing that executes guests can run here; ctl: refused. */
#define STATUS_FAILED	1
#define STATUS_USAGE	2
#define STATUS_HOST	3 /* configuration or host: nothing could be started, or a call failed */
#define STATUS_DIVERGED 4 /* replay: this host does otherwise than was recorded */

/* What options.def says, one index for each option. */
enum tool_option_id {
#define OPTION(ID, ...) OPTION_##ID,
#include "options.def"
#undef OPTION
	OPTION_COUNT
};

struct invocation;

/* A subcommand. */
struct command {
	const char *name;  /* one word, or two with a blank between them */
	unsigned int flag; /* COMMAND_*, in options.def's masks */
	const char *synopsis;
	const char *summary;
	int (*run)(const struct invocation *invocation);
	int least, most; /* operands */
};

#define COMMAND_LIST	      1u
#define COMMAND_DOCTOR	      2u
#define COMMAND_RUN	      4u
#define COMMAND_CPU_DUMP      8u
#define COMMAND_CPU_COMPARE   16u
#define COMMAND_CPU_BASELINE  32u
#define COMMAND_CPU_TEMPLATES 64u
#define COMMAND_CPU_FIELDS    128u
#define COMMAND_CTL	      256u
#define COMMAND_INSPECT	      512u
#define COMMAND_DIFF	      1024u
#define COMMAND_CHECK	      2048u
#define COMMAND_FLATTEN	      4096u
#define COMMAND_CONFORM	      8192u
#define COMMAND_REPLAY	      16384u
#define COMMAND_ALL	      32767u
/* Those that make a machine. */
#define COMMAND_MACHINE (COMMAND_RUN | COMMAND_REPLAY)
/* Those that read snapshots, or write them. */
#define COMMAND_KEYED \
	(COMMAND_RUN | COMMAND_INSPECT | COMMAND_DIFF | COMMAND_CHECK | COMMAND_FLATTEN)
/* Those that look for plugins. */
#define COMMAND_PLUGINS                                                                   \
	(COMMAND_LIST | COMMAND_DOCTOR | COMMAND_RUN | COMMAND_CPU_DUMP | COMMAND_CHECK | \
	 COMMAND_CONFORM | COMMAND_REPLAY)

/* Those that can do nothing where there is no state. */
#define COMMAND_STATE (COMMAND_INSPECT | COMMAND_DIFF | COMMAND_CHECK | COMMAND_FLATTEN)
/* In an option's mask: so can it. */
#define NEEDS_STATE (1u << 31)

/* What was built without state (-Dstate=disabled) has a library that saves and restores nothing. */
#ifdef IMPOST_NO_STATE
#define HAS_STATE      false
#define IF_STATE(text) ""
#else
#define HAS_STATE      true
#define IF_STATE(text) text
#endif
#define NO_STATE_TEXT "this impost was built without state (-Dstate=disabled)"

/* How often options that may be repeated can be given in all. */
#define MOST_REPEATED 64

/* A parsed command line, with the context that came of it. */
struct invocation {
	const struct command *command;
	/* What was given, the last if more than once: the argument, or "" if it has none. */
	const char *values[OPTION_COUNT];
	/* Options whose argument ends in "...", each time that they were given. */
	struct {
		enum tool_option_id id;
		const char *value;
	} repeated[MOST_REPEATED];
	int nrepeated;
	char *const *operands; /* what is no option */
	int noperands;
	struct impost_context *ctx;
};

static inline bool invocation_has(const struct invocation *invocation, enum tool_option_id id)
{
	return invocation->values[id] != NULL;
}

int command_list(const struct invocation *invocation);
int command_doctor(const struct invocation *invocation);
int command_run(const struct invocation *invocation);
int command_replay(const struct invocation *invocation);
int command_inspect(const struct invocation *invocation);
int command_diff(const struct invocation *invocation);
int command_check(const struct invocation *invocation);
int command_flatten(const struct invocation *invocation);
int command_ctl(const struct invocation *invocation);
int command_conform(const struct invocation *invocation);
int command_cpu_dump(const struct invocation *invocation);
int command_cpu_compare(const struct invocation *invocation);
int command_cpu_baseline(const struct invocation *invocation);
int command_cpu_templates(const struct invocation *invocation);
int command_cpu_fields(const struct invocation *invocation);

/*
 * Reads the options and operands of COMMAND. Returns -1 to go on, or the status to leave with at
 * once (usage errors, --help, --version).
 */
int options_parse(const struct command *command, int argc, char **argv,
		  struct invocation *invocation);

/* Loads the INI and puts the command line over it. Returns STATUS_OK or another status, with a
 * message printed. */
int options_apply(const struct invocation *invocation);

/* Whether the command line itself sets KEY of SECTION. */
bool options_has_set(const struct invocation *invocation, const char *section, const char *key);

/*
 * Puts /dev/null in the place of standard streams that are closed: the next file that is opened, a
 * kernel perhaps, would get the descriptor and be written to. Returns false when it cannot.
 */
bool open_streams(void);

/* Prints TEXT, what a terminal would obey written as \xHH, and blanks up to WIDTH columns. */
void put_text(FILE *file, const char *text, int width);

/* An impost_write_fn to a FILE. */
int write_to_file(void *file, const char *text, size_t len);

/* Prints "impost: " and a message to standard error. */
void complain(const char *fmt, ...) IMPOST_PRINTF(1, 2);

/* Prints the context's error text so and returns STATUS_HOST. */
int complain_error(const struct invocation *invocation, int err);

/* Prints the error text of a look for plugins that found none and returns STATUS_HOST. */
int complain_no_plugins(const struct invocation *invocation);

/* Whether FILE is a terminal that obeys escape sequences, as TERM has it. */
bool is_terminal(FILE *file);

/* Escape sequences for FILE, or "" where it is no terminal that wants colours. */
enum colour { COLOUR_OFF, COLOUR_GOOD, COLOUR_BAD, COLOUR_DIM, COLOUR_BOLD };
const char *colour(FILE *file, enum colour which);

/* Ends a command that wrote to standard output: STATUS_HOST when it could not all be written, or to
 * nowhere. */
int finish_output(int status);

#endif
