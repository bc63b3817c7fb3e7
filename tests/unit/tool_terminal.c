// SPDX-License-Identifier: Apache-2.0
/* `impost run` on a pseudo-terminal: raw while it runs, as it was before whatever ends it. */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "tool_process.h"

/* A guest that turns its receive interrupt on, says so, and sleeps. */
#define PROLOGUE               \
	"[vcpu 0]\n"           \
	"out = 0x3f9 1 0x01\n" \
	"out = 0x3fc 1 0x08\n" \
	"text = 0x3f8 \"ready\\n\"\n"
#define SLEEPER		     PROLOGUE "repeat = forever\nhalt =\nin = 0x3f8 1\nend =\n"

#define SLEEPER_THAT_IS_DEAF PROLOGUE "repeat = forever\nhalt =\nend =\n"

/* The terminal and the tool on it. */
static int master;
static int slave;
static int output = -1; /* what is to be its standard output, if not the terminal */
static bool has_ram;	/* whether the guest's memory is the file "ram" */
static pid_t tool;
static struct termios before;
static char seen[65536];
static size_t nseen;

static void make(void)
{
	tool_files_make();
	cr_assert_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	cr_assert_eq(tcgetattr(slave, &before), 0);
	cr_assert(before.c_lflag & ICANON);
}

static void unmake(void)
{
	if (tool > 0 && waitpid(tool, NULL, WNOHANG) == 0) {
		kill(tool, SIGKILL);
		waitpid(tool, NULL, 0);
	}
	close(master);
	close(slave);
	tool_files_remove();
}

TestSuite(terminal, .init = make, .fini = unmake, .timeout = 60);

static void start(const char *script)
{
	const char *const args[] = {"run",
				    "-c",
				    "@mock.ini",
				    "--plugin-dir",
				    tool_env("IMPOST_PLUGINS"),
				    has_ram ? "--memory-backing" : NULL,
				    "file",
				    "--memory-path",
				    "@ram",
				    NULL};

	tool_write_mock(script);
	tool = fork();
	cr_assert_geq(tool, 0);
	if (tool == 0) {
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		for (int fd = 0; fd <= 2; fd++)
			dup2(fd == STDOUT_FILENO && output >= 0 ? output : slave, fd);
		close(master);
		/* The tool leaves alone what is ignored when it starts, as SIGINT is in a script's
		 * background. */
		for (int number = 1; number <= SIGRTMAX; number++)
			signal(number, SIG_DFL);
		tool_exec(args);
	}
}

/* Reads what the tool shows until TEXT was among it. */
static void expect(const char *text)
{
	struct pollfd poller = {.fd = master, .events = POLLIN};

	while (!memmem(seen, nseen, text, strlen(text))) {
		ssize_t count;

		cr_assert_eq(poll(&poller, 1, 20000), 1, "no '%s' in '%s'", text, seen);
		count = read(master, seen + nseen, sizeof(seen) - 1 - nseen);
		cr_assert_gt(count, 0);
		nseen += (size_t)count;
	}
	nseen = 0;
	memset(seen, 0, sizeof(seen));
}

static void type(const char *keys, size_t count)
{
	cr_assert_eq(write(master, keys, count), (ssize_t)count);
}

static bool is_raw(void)
{
	struct termios now;

	cr_assert_eq(tcgetattr(slave, &now), 0);
	return !(now.c_lflag & (ICANON | ECHO | ISIG));
}

static void assert_restored(void)
{
	struct termios now;

	cr_assert_eq(tcgetattr(slave, &now), 0);
	cr_assert_eq(now.c_lflag, before.c_lflag);
	cr_assert_eq(now.c_iflag, before.c_iflag);
	cr_assert_eq(now.c_oflag, before.c_oflag);
	cr_assert_eq(now.c_cflag, before.c_cflag);
	cr_assert_arr_eq(now.c_cc, before.c_cc, sizeof(now.c_cc));
}

/* Waits for the end; returns the exit status, or -N for signal N. What does not end is told of by
 * the line that waits, and not by the time limit. */
static int ended(void)
{
	pid_t pid = 0;
	int status;

	for (unsigned int i = 0; i < 3000 && pid == 0; i++) {
		pid = waitpid(tool, &status, WNOHANG);
		if (pid == 0)
			usleep(10000);
	}
	cr_assert_eq(pid, tool, "the tool does not end");
	tool = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

Test(terminal, ctrl_a_x_leaves)
{
	start(SLEEPER);
	expect("ready");
	cr_assert(is_raw());
	type("\001x", 2);
	cr_assert_eq(ended(), 0);
	assert_restored();
}

/* A guest that takes nothing does not keep the escape key from being heard. */
Test(terminal, ctrl_a_x_leaves_behind_much_that_was_typed)
{
	char keys[1000];

	memset(keys, 'k', sizeof(keys));
	start(SLEEPER_THAT_IS_DEAF);
	expect("ready");
	for (size_t i = 0; i < 40; i++) {
		type(keys, sizeof(keys));
		type("\001?", 2);
		expect("Ctrl-A Ctrl-A");
	}
	type("\001x", 2);
	cr_assert_eq(ended(), 0);
	assert_restored();
}

Test(terminal, ctrl_a_question_mark_helps)
{
	start(SLEEPER);
	expect("ready");
	type("\001?", 2);
	expect("Ctrl-A Ctrl-A");
	type("\001x", 2);
	cr_assert_eq(ended(), 0);
}

/* Keys reach the guest as they are, Ctrl-C too; Ctrl-A Ctrl-A as one; other escapes not at all. */
Test(terminal, keys_reach_the_guest)
{
	start(PROLOGUE "halt =\n"
		       "in = 0x3f8 1 expect 0x61\n"
		       "text = 0x3f8 \"first\"\n"
		       "halt =\n"
		       "in = 0x3f8 1 expect 0x03\n"
		       "text = 0x3f8 \"second\"\n"
		       "halt =\n"
		       "in = 0x3f8 1 expect 0x01\n"
		       "shutdown = guest\n");
	expect("ready");
	type("a", 1);
	expect("first");
	type("\003", 1);
	expect("second");
	type("\001q\001\001", 4);
	cr_assert_eq(ended(), 0);
	assert_restored();
}

Test(terminal, restored_when_the_guest_ends)
{
	start(PROLOGUE "shutdown = guest\n");
	cr_assert_eq(ended(), 0);
	assert_restored();
}

Test(terminal, restored_when_the_guest_fails)
{
	start(PROLOGUE "internal-error = 1\n");
	cr_assert_eq(ended(), 1);
	assert_restored();
}

/* The guest's failure has no word of the file that is why; what is told after it has. */
Test(terminal, a_file_of_memory_that_became_shorter_is_named)
{
	has_ram = true;
	tool_write("ram", "", 0);
	cr_assert_eq(truncate(tool_path("ram"), 16 << 20), 0);
	start(PROLOGUE "halt =\nin = 0x3f8 1\ninternal-error = 1\n");
	expect("ready");
	cr_assert_eq(truncate(tool_path("ram"), 0), 0);
	type("k", 1);
	expect("/ram is 0 bytes long now");
	cr_assert_eq(ended(), 1);
	assert_restored();
}

Test(terminal, restored_when_a_signal_ends_it)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		start(SLEEPER);
		expect("ready");
		cr_assert(is_raw());
		kill(tool, signals[i]);
		cr_assert_eq(ended(), 128 + signals[i]);
		assert_restored();
	}
}

/* Left by key while its output is stuck, it waits for the reader; Ctrl-C ends that. */
Test(terminal, restored_while_output_is_stuck)
{
	char script[16384] = PROLOGUE;
	size_t length = strlen(script);
	int ends[2], status;

	cr_assert_eq(pipe(ends), 0);
	output = ends[1];
	cr_assert_eq(fcntl(output, F_SETPIPE_SZ, 4096), 4096);
	for (size_t i = 0; i < 60; i++)
		length += (size_t)sprintf(script + length, "text = 0x3f8 \"%0150d\"\n", 0);
	strcpy(script + length, "repeat = forever\nhalt =\nend =\n");
	start(script);
	for (unsigned int i = 0; i < 1000 && !is_raw(); i++)
		usleep(10000);
	usleep(100000);
	type("\001x", 2);
	for (unsigned int i = 0; i < 1000 && is_raw(); i++)
		usleep(10000);
	assert_restored();
	cr_assert_eq(waitpid(tool, NULL, WNOHANG), 0, "it waits for the reader");
	type("\003", 1);
	status = ended();
	cr_assert_eq(status, 128 + SIGINT, "%d", status);
	assert_restored();
}

/* What stops, goes on or does nothing by default; what cannot be caught; what comes as a status
 * (restored_when_a_signal_ends_it); SIGPIPE, which is ignored. */
static bool is_exempt(int number)
{
	static const int exempt[] = {SIGKILL, SIGSTOP,	SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGCHLD,
				     SIGURG,  SIGWINCH, SIGTERM, SIGINT,  SIGHUP,  SIGPIPE};

	for (size_t i = 0; i < sizeof(exempt) / sizeof(exempt[0]); i++)
		if (number == exempt[i])
			return true;
	return number > SIGSYS && number < SIGRTMIN; /* the C library's own */
}

/* A test for each signal that is neither exempt nor what a VM kicks with: a time limit of its own.
 */
ParameterizedTestParameters(terminal, restored_when_any_signal_kills_it)
{
	static int signals[NSIG];
	const int kick = SIGRTMIN + 2;
	size_t count = 0;

	for (int number = 1; number <= SIGRTMAX; number++)
		if (!is_exempt(number) && number != kick)
			signals[count++] = number;
	return cr_make_param_array(int, signals, count);
}

ParameterizedTest(const int *number, terminal, restored_when_any_signal_kills_it)
{
	/* 0 would still start a program that takes core dumps: core(5). */
	const struct rlimit no_core = {1, 1};

	setrlimit(RLIMIT_CORE, &no_core);
	start(SLEEPER);
	expect("ready");
	cr_assert(is_raw());
	kill(tool, *number);
	cr_assert_eq(ended(), -*number, "signal %d", *number);
	assert_restored();
}

/* Waits until the tool has stopped, and lets it go on. */
static void check_stop(void)
{
	int status;

	cr_assert_eq(waitpid(tool, &status, WUNTRACED), tool);
	cr_assert(WIFSTOPPED(status));
	assert_restored();
	kill(tool, SIGCONT);
	for (unsigned int i = 0; i < 1000 && !is_raw(); i++)
		usleep(10000);
	cr_assert(is_raw(), "taken again");
}

Test(terminal, restored_while_stopped)
{
	start(SLEEPER);
	expect("ready");
	kill(tool, SIGTSTP);
	check_stop();
	kill(tool, SIGTTIN);
	check_stop();
	type("\001x", 2);
	cr_assert_eq(ended(), 0);
	assert_restored();
}
