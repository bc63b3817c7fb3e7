// SPDX-License-Identifier: Apache-2.0
/* Standard input and output as a serial line, with the terminal put back whatever happens. */
#include "console.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#define CTRL_A 0x01u

/* How long output may wait for more of it. A person does not see a millisecond; a guest that prints
 * one byte an exit makes a hundred exits in it, which become one write. */
#define GATHER_NS 1000000
/* Above this it does not wait. Also the most that one write takes, because poll promises that much
 * room in a pipe. */
#define GATHER_BYTES ((size_t)PIPE_BUF)

/* The terminal's settings. Signal handlers restore from here, so it is static. */
static struct termios found;
static volatile sig_atomic_t is_raw;

/* Those whose default does not end the process, and those that no handler can be given. */
static const int harmless_signals[] = {SIGKILL, SIGSTOP, SIGCONT, SIGTSTP, SIGTTIN,
				       SIGTTOU, SIGCHLD, SIGURG,  SIGWINCH};
#define HARMLESS_SIGNALS (sizeof(harmless_signals) / sizeof(harmless_signals[0]))

/* Async-signal-safe. */
static void restore(void)
{
	if (!is_raw)
		return;
	/* In this order: another thread's signal may end the process in between. */
	tcsetattr(STDIN_FILENO, TCSANOW, &found);
	is_raw = 0;
}

/* The handler has been reset to the default: the signal that is raised again ends the process. */
static void on_end(int signal_number)
{
	restore();
	raise(signal_number);
}

/* What SIGTTIN does by itself, but for the terminal. SIGCONT takes it again. */
static void on_stop(int signal_number)
{
	int saved = errno;

	(void)signal_number;
	restore();
	raise(SIGSTOP);
	errno = saved;
}

/* What is ignored stays ignored, and a real-time signal with a handler is the kick. */
static bool ends_the_process(int number)
{
	struct sigaction now;

	for (size_t i = 0; i < HARMLESS_SIGNALS; i++)
		if (number == harmless_signals[i])
			return false;
	return sigaction(number, NULL, &now) == 0 && now.sa_handler != SIG_IGN &&
	       (number < SIGRTMIN || now.sa_handler == SIG_DFL);
}

static void handle_signals(void)
{
	struct sigaction end = {.sa_handler = on_end, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
	struct sigaction stop = {.sa_handler = on_stop};

	sigemptyset(&end.sa_mask);
	sigemptyset(&stop.sa_mask);
	for (int number = 1; number <= SIGRTMAX; number++)
		if (ends_the_process(number))
			sigaction(number, &end, NULL);
	sigaction(SIGTTIN, &stop, NULL);
}

/*
 * A background process must leave the terminal alone; it gets SIGCONT when it comes to the front.
 */
static bool in_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

void console_suspend(void)
{
	restore();
}

void console_resume(void)
{
	struct termios raw;

	if (is_raw || !isatty(STDIN_FILENO) || !in_foreground() ||
	    tcgetattr(STDIN_FILENO, &found) < 0)
		return;
	raw = found;
	cfmakeraw(&raw);
	/* Our own messages, and guests that end lines with a bare newline, need it. */
	raw.c_oflag |= OPOST | ONLCR;
	/* Before it is true, or a signal in between would leave it so. */
	is_raw = 1;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		is_raw = 0;
}

int console_open(struct console *console)
{
	memset(console, 0, sizeof(*console));
	console->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (console->timer < 0)
		return -errno;
	pthread_mutex_init(&console->lock, NULL);
	pthread_cond_init(&console->room, NULL);
	console->terminal = isatty(STDIN_FILENO);
	if (console->terminal) {
		handle_signals();
		atexit(restore);
		console_resume();
	}
	return 0;
}

void console_close(struct console *console)
{
	restore();
	close(console->timer);
	pthread_cond_destroy(&console->room);
	pthread_mutex_destroy(&console->lock);
}

bool console_wants_input(const struct console *console)
{
	if (console->input_ended)
		return false;
	return console->terminal ? is_raw : console->input_count < CONSOLE_INPUT_SIZE;
}

static void help(void)
{
	fputs("\nCtrl-A x       leave\n"
	      "Ctrl-A Ctrl-A  send Ctrl-A to the guest\n"
	      "Ctrl-A ?       this help\n",
	      stderr);
}

/* A byte for the guest, if there is room. */
static void keep_key(struct console *console, uint8_t key)
{
	if (console->input_count < CONSOLE_INPUT_SIZE)
		console->input[console->input_count++] = key;
}

/* A byte from the terminal. Unknown escapes are swallowed, so that a slip does no harm. */
static enum console_request take_key(struct console *console, uint8_t key)
{
	if (!console->escape && key == CTRL_A) {
		console->escape = true;
		return CONSOLE_NOTHING;
	}
	if (!console->escape) {
		keep_key(console, key);
		return CONSOLE_NOTHING;
	}
	console->escape = false;
	switch (key) {
	case CTRL_A:
		keep_key(console, key);
		break;
	case 'x':
	case 'X':
		return CONSOLE_LEAVE;
	case '?':
	case 'h':
		help();
		break;
	}
	return CONSOLE_NOTHING;
}

enum console_request console_read(struct console *console)
{
	uint8_t bytes[256];
	size_t space = sizeof(console->input) - console->input_count;
	ssize_t count = read(STDIN_FILENO, bytes,
			     console->terminal || space > sizeof(bytes) ? sizeof(bytes) : space);

	if (count < 0 && (errno == EINTR || errno == EAGAIN))
		return CONSOLE_NOTHING;
	if (count <= 0) { /* the end, or an input that is gone: the guest goes on without */
		console->input_ended = true;
		return CONSOLE_NOTHING;
	}
	if (!console->terminal) {
		memcpy(console->input + console->input_count, bytes, (size_t)count);
		console->input_count += (size_t)count;
		return CONSOLE_NOTHING;
	}
	for (ssize_t i = 0; i < count; i++)
		if (take_key(console, bytes[i]) == CONSOLE_LEAVE)
			return CONSOLE_LEAVE;
	return CONSOLE_NOTHING;
}

void console_consume(struct console *console, size_t taken)
{
	console->input_count -= taken;
	memmove(console->input, console->input + taken, console->input_count);
}

static void arm(const struct console *console, long ns)
{
	struct itimerspec when = {.it_value = {.tv_nsec = ns}};

	timerfd_settime(console->timer, 0, &when, NULL);
}

void console_put(struct console *console, uint8_t byte)
{
	pthread_mutex_lock(&console->lock);
	while (console->output_count == CONSOLE_OUTPUT_SIZE && !console->output_closed)
		pthread_cond_wait(&console->room, &console->lock);
	if (console->output_count < CONSOLE_OUTPUT_SIZE) {
		console->output[console->output_count++] = byte;
		if (console->output_count == 1)
			arm(console, GATHER_NS);
		else if (console->output_count == GATHER_BYTES)
			arm(console, 1);
	}
	pthread_mutex_unlock(&console->lock);
}

bool console_has_output(struct console *console)
{
	bool has;

	pthread_mutex_lock(&console->lock);
	has = console->output_count > 0;
	pthread_mutex_unlock(&console->lock);
	return has;
}

int console_write(struct console *console)
{
	uint8_t bytes[GATHER_BYTES];
	size_t count;
	ssize_t written;

	pthread_mutex_lock(&console->lock);
	count = console->output_count < GATHER_BYTES ? console->output_count : GATHER_BYTES;
	memcpy(bytes, console->output, count);
	pthread_mutex_unlock(&console->lock);

	written = write(STDOUT_FILENO, bytes, count);
	if (written < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;

	pthread_mutex_lock(&console->lock);
	console->output_count -= (size_t)written;
	memmove(console->output, console->output + written, console->output_count);
	pthread_cond_broadcast(&console->room);
	pthread_mutex_unlock(&console->lock);
	return 0;
}

void console_stop(struct console *console)
{
	pthread_mutex_lock(&console->lock);
	console->output_closed = true;
	pthread_cond_broadcast(&console->room);
	pthread_mutex_unlock(&console->lock);
}
