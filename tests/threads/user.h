/* SPDX-License-Identifier: Apache-2.0 */
/* A user of the library in a process that has others: a module, with a library and a VM of its own.
 */
#ifndef TESTS_THREADS_USER_H
#define TESTS_THREADS_USER_H

#include <stdint.h>

/* What a module exports as `user`. Calls return NULL, or what went wrong. */
struct user {
	/* Opens LIBRARY, a context from INI, a VM with one vCPU, and boots the kernel of INI. */
	const char *(*open)(const char *library, const char *ini);
	/* Runs the guest until it resets or stop() is called. */
	const char *(*run)(void);
	void (*stop)(void);
	/* How many accesses the guest has made so far; any thread. */
	uint64_t (*accesses)(void);
	/* What it sent to its serial port. */
	const char *(*said)(void);
	/* Makes a call that fails, whose text names FILE; the text that is kept. */
	void (*fail)(const char *file);
	const char *(*error)(void);
	const char *(*close)(void);
};

#endif
