/* SPDX-License-Identifier: Apache-2.0 */
/* A long piece of work in equal parts, done by several threads. */
#include "crew.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include <impost/error.h>

#define MOST_THREADS 64u

/* How often the one who asks is told, at the most. */
#define MOST_TOLD 256u

struct shift {
	const struct crew *crew;
	_Atomic uint64_t next, done;
	atomic_bool stop;
	pthread_mutex_t lock; /* what follows */
	int err;
	char text[1024]; /* as long as any: error.h */
};

static void fail(struct shift *shift, int err)
{
	pthread_mutex_lock(&shift->lock);
	if (!shift->err) {
		shift->err = err;
		snprintf(shift->text, sizeof(shift->text), "%s", impost_error(shift->crew->ctx));
	}
	pthread_mutex_unlock(&shift->lock);
	atomic_store(&shift->stop, true);
}

/* One part after the other. CALLER: this is the thread that tells. */
static void take_parts(struct shift *shift, bool caller)
{
	const struct crew *crew = shift->crew;
	const uint64_t step = crew->parts / MOST_TOLD + 1;
	uint64_t part, done, told = 0;
	int err = 0;

	while (!err && !atomic_load(&shift->stop)) {
		part = atomic_fetch_add(&shift->next, 1);
		if (part >= crew->parts)
			return;
		err = crew->work(crew->opaque, part);
		if (err)
			break;
		done = atomic_fetch_add(&shift->done, 1) + 1;
		if (!caller || !crew->told || done - told < step)
			continue;
		told = done;
		err = crew->told(crew->opaque, done);
	}
	if (err)
		fail(shift, err);
}

static void *assist(void *opaque)
{
	take_parts(opaque, false);
	return NULL;
}

int crew_start(pthread_t *ret_thread, void *(*fn)(void *opaque), void *opaque)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(ret_thread, NULL, fn, opaque);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

/* How many threads are of use: one for each CPU that this one may run on. */
static uint32_t choose_threads(const struct crew *crew)
{
	uint64_t threads = crew->threads;
	cpu_set_t cpus;

	if (threads == 0) {
		threads = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1
								    : (uint64_t)CPU_COUNT(&cpus);
		threads = threads < 8 ? threads : 8;
	}
	threads = threads < MOST_THREADS ? threads : MOST_THREADS;
	return (uint32_t)(threads < crew->parts ? threads : crew->parts);
}

int crew_run(const struct crew *crew)
{
	struct shift shift = {.crew = crew, .lock = PTHREAD_MUTEX_INITIALIZER};
	uint32_t wanted = choose_threads(crew), count = 0;
	pthread_t threads[MOST_THREADS];

	/* With fewer than are wanted, down to none, it takes longer. */
	while (count + 1 < wanted && !crew_start(&threads[count], assist, &shift))
		count++;
	take_parts(&shift, true);
	while (count > 0)
		pthread_join(threads[--count], NULL);
	if (!shift.err && crew->told && crew->parts)
		shift.err = crew->told(crew->opaque, crew->parts);
	else if (shift.err)
		return impost_error_set(crew->ctx, shift.err, "%s", shift.text);
	return shift.err;
}
