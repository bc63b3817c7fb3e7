/* SPDX-License-Identifier: Apache-2.0 */
/* How a test reaches into the fake backend: what its operations shall do, and what they were given.
 */
#ifndef TESTS_FAKE_H
#define TESTS_FAKE_H

#include <semaphore.h>
#include <stdatomic.h>

#include <impost/backend.h>

#define FAKE_CONTROL "fake.control"

/* What FAKE_CONTROL gives as its handle: one for each VM. */
struct fake {
	/* What shall happen. */
	const char *fail_op; /* this operation returns fail_with ... */
	int32_t fail_with;
	const char *fail_text;	     /* ... with this text, unless NULL */
	uint32_t fail_skip;	     /* so many calls of it work first */
	struct impost_exit exit[32]; /* what run returns, in order; then INTR */
	uint32_t exits;
	uint32_t ask;	   /* 1: run asks the host to answer an exit before it returns the next */
	uint32_t block;	   /* 1: run waits for its vCPU's `go` after it has posted `inside` */
	uint32_t stare;	   /* 1: state_get waits for its vCPU's `go` likewise */
	uint32_t lie;	   /* operations that give or do a number of things claim so many more */
	uint64_t log_word; /* what dirty_fetch gives as the first 64 pages: at first 5 */
	void *move_to;	   /* the host address of slot 0 when another slot is removed */

	/* What happened. */
	uint32_t played;
	int32_t answered; /* what the host's answer returned last */
	uint64_t dirty_gpa, dirty_bytes;
	uint32_t dirty_calls;
	uint32_t logs;		    /* dirty logs that are on */
	uint32_t paused;	    /* pauses that no resume has ended */
	struct impost_slot slot[8]; /* bytes 0: not there */
	uint64_t arg[4];	    /* of the last operation with numbers */
	uint32_t calls;		    /* operations called */
	atomic_uint kicks;
	uint64_t state[64]; /* the section set last */
	uint32_t state_bytes;
	const struct impost_host *host;
	sem_t inside, go[2]; /* `go`: of vCPU 0, and 1 */
};

#endif
