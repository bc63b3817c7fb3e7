/* SPDX-License-Identifier: Apache-2.0 */
/* Running the built `impost` from a test, with files made for it. */
#ifndef TESTS_UNIT_TOOL_PROCESS_H
#define TESTS_UNIT_TOOL_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

#define TOOL_OUTPUT_MAX 262144u
#define TOOL_ARGS_MAX	24

/* What a run of the tool came to. */
struct tool_result {
	int status; /* exit status, or -N when signal N ended it */
	size_t out_size;
	char out[TOOL_OUTPUT_MAX]; /* with a NUL behind */
	char err[TOOL_OUTPUT_MAX];
};

/* Makes a folder for one test's files; removes it with all that is in it. */
void tool_files_make(void);
void tool_files_remove(void);

/* The path of NAME in that folder; valid until the eighth call from now. */
const char *tool_path(const char *name);

/* Writes a file there. */
void tool_write(const char *name, const void *data, size_t size);
void tool_write_text(const char *name, const char *text);

/* Writes "kernel", an ELF64 image of one HLT at 1 MiB; enough for the mock to play on. */
void tool_write_kernel(void);

/* Writes "mock.ini", which boots it on the mock, playing SCRIPT. */
void tool_write_mock(const char *script);

/*
 * Runs the tool with ARGS (NULL at the end), an argument "@NAME" standing for the path of NAME.
 * Standard input is /dev/null. The result is valid until the next call.
 */
const struct tool_result *tool_run(const char *const *args);
#define TOOL_RUN(...) tool_run((const char *const[]){__VA_ARGS__, NULL})

/* Runs a line of shell; returns its exit status, or -1 when a signal ended it. */
int tool_shell(const char *line);

/* The environment variable NAME, which meson sets; the test fails where it is not set. */
const char *tool_env(const char *name);

/*
 * Starts the tool in the background, with standard input and output at files of that folder; NULL:
 * /dev/null. tool_ended() waits for it and returns what tool_result.status is. tool_clean() ends it
 * if it still runs, and removes the folder.
 */
extern pid_t tool_pid; /* of what was started last; 0: it has ended */
void tool_start(const char *const *args, const char *input, const char *output);
int tool_ended(void);
void tool_clean(void);

/* TERM of what is run from here on; "xterm" if nothing else is said. */
extern const char *tool_term;

/* Becomes the tool; for tests that fork by themselves. Does not return. */
void tool_exec(const char *const *args);

#endif
