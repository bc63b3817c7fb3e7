/* SPDX-License-Identifier: Apache-2.0 */
/* The host's end of the guest's serial line: standard input and output, and the terminal's mode. */
#ifndef TOOLS_CONSOLE_H
#define TOOLS_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_OUTPUT_SIZE 16384u
#define CONSOLE_INPUT_SIZE  16384u /* a paste, from a terminal; more is lost as on a real line */

/* What the user asked for with Ctrl-A, or what became of the input. */
enum console_request { CONSOLE_NOTHING, CONSOLE_LEAVE };

/* Made by console_open(). Input is for one thread; output is put by any, and written by one. */
struct console {
	bool terminal; /* standard input is one, so Ctrl-A is an escape */
	bool input_ended;
	bool escape; /* Ctrl-A was the last byte */
	size_t input_count;
	uint8_t input[CONSOLE_INPUT_SIZE]; /* read, and not yet taken by the guest */

	int timer; /* readable when output is to be written */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t room;
	bool output_closed; /* nobody reads it, or the guest has been stopped: drop */
	size_t output_count;
	uint8_t output[CONSOLE_OUTPUT_SIZE];
};

/* Puts the terminal, if there is one, into raw mode. Returns 0 or a negative errno. */
int console_open(struct console *console);

/* Restores the terminal. Output that is not written yet is dropped. */
void console_close(struct console *console);

/* Leaves the terminal as it was found, and takes it again; around a stop of the whole process. */
void console_suspend(void);
void console_resume(void);

/*
 * Whether standard input is to be polled now: it is ours to read, and there is room for it. A
 * terminal is read without, or Ctrl-A could not be heard behind what a guest does not take.
 */
bool console_wants_input(const struct console *console);

/* Reads standard input, which is readable, once. */
enum console_request console_read(struct console *console);

/* Takes TAKEN bytes off the front of the input. */
void console_consume(struct console *console, size_t taken);

/* Puts a byte of output; waits while the buffer is full. */
void console_put(struct console *console, uint8_t byte);

/* Whether there is output to be written. */
bool console_has_output(struct console *console);

/* Writes some output, which does not block when standard output polls as writable. -EPIPE and
 * others: it can take no more, ever. */
int console_write(struct console *console);

/* Ends waiting in console_put() for good: what comes from now on is dropped when the buffer is
 * full. */
void console_stop(struct console *console);

#endif
