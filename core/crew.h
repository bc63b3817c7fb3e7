/* SPDX-License-Identifier: Apache-2.0 */
/* A long piece of work in equal parts, done by several threads, of which the caller is one. */
#ifndef CORE_CREW_H
#define CORE_CREW_H

#include <pthread.h>
#include <stdint.h>

struct impost_context;

struct crew {
	struct impost_context *ctx;
	uint32_t threads; /* 0: as many as there are CPUs, and 8 at the most */
	uint64_t parts;
	/* Does part number PART. 0, or a negative errno with a text on CTX: then no other part is
	 * begun. */
	int (*work)(void *opaque, uint64_t part);
	/* Told by the calling thread, between parts of its own, how many are done: some hundred
	 * times at the most. What it returns is as of WORK. NULL: nobody asks. */
	int (*told)(void *opaque, uint64_t done);
	void *opaque;
};

/* Does all parts: 0, or the first error, whose text the calling thread has then. No thread is left.
 * Signals are blocked in the threads that it makes: they are the host's to take. */
int crew_run(const struct crew *crew);

/* Starts a thread that blocks all signals. 0 or an errno, as pthread_create(3). */
int crew_start(pthread_t *ret_thread, void *(*fn)(void *opaque), void *opaque);

#endif
