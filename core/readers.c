/* SPDX-License-Identifier: Apache-2.0 */
/* The list of threads that read, and what writers ask it. */
#include "readers.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Thread_local struct reader *reader_self __attribute__((tls_model("initial-exec")));
_Atomic uint64_t readers_epoch = 1;
atomic_bool readers_fence;

static struct reader *_Atomic readers;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;
static atomic_bool all_fence; /* readers_fence has been seen by all, and so writers need no more */

static int membarrier(int command)
{
	return (int)syscall(SYS_membarrier, command, 0, 0);
}

/* A place can be taken again. A section that its thread never ended ends here. */
static void give_back(struct reader *reader)
{
	reader->depth = 0;
	atomic_store_explicit(&reader->since, 0, memory_order_release);
	atomic_store_explicit(&reader->taken, false, memory_order_release);
}

static void thread_ends(void *reader)
{
	give_back(reader);
	reader_self = NULL;
}

/* Of the threads, a fork has only the one that called it. */
static void forked(void)
{
	for (struct reader *reader = readers; reader; reader = reader->next)
		if (reader != reader_self)
			give_back(reader);
}

static void start(void)
{
	key_error = pthread_key_create(&key, thread_ends);
	if (!key_error)
		key_error = pthread_atfork(NULL, NULL, forked);
	/* Without it (before Linux 4.14, or forbidden) readers do what it would have done. */
	if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)) {
		atomic_store(&readers_fence, true);
		atomic_store(&all_fence, true);
	}
}

static struct reader *take_place(void)
{
	struct reader *reader;

	for (reader = atomic_load(&readers); reader; reader = reader->next) {
		bool taken = false;

		if (atomic_compare_exchange_strong(&reader->taken, &taken, true))
			return reader;
	}
	reader = aligned_alloc(_Alignof(struct reader), sizeof(*reader));
	if (!reader)
		return NULL;
	*reader = (struct reader){.taken = true, .next = atomic_load(&readers)};
	while (!atomic_compare_exchange_weak(&readers, &reader->next, reader))
		;
	return reader;
}

struct reader *reader_register(void)
{
	struct reader *reader;

	pthread_once(&once, start);
	if (key_error)
		return NULL;
	reader = take_place();
	if (!reader)
		return NULL;
	if (pthread_setspecific(key, reader)) {
		give_back(reader);
		return NULL;
	}
	reader->serial++;
	reader_self = reader;
	return reader;
}

static bool inside(const struct reader *reader, const void *subject, uint64_t epoch)
{
	uint64_t since = atomic_load_explicit(&reader->since, memory_order_acquire);
	const void *at;

	if (since == 0 || since >= epoch)
		return false;
	at = atomic_load_explicit(&reader->subject, memory_order_acquire);
	return !at || at == subject;
}

bool readers_self_inside(void)
{
	return reader_self && reader_self->depth > 0;
}

/* A full barrier on every CPU that runs this process. */
static bool barrier_everywhere(void)
{
	/* A fork may have to register anew. */
	return !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
	       (!membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) &&
		!membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
}

/*
 * A sandbox that came later: from now on readers have their own barriers, and the stores of those
 * who were entering leave their CPU's buffer in far less than this, which each writer waits that
 * comes in the meantime.
 */
static void have_readers_fence(void)
{
	struct timespec left = {.tv_nsec = 20000000};

	atomic_store(&readers_fence, true);
	while (nanosleep(&left, &left) && errno == EINTR)
		;
	atomic_store(&all_fence, true);
}

uint64_t readers_tick(void)
{
	uint64_t epoch = atomic_fetch_add(&readers_epoch, 1) + 1;

	pthread_once(&once, start);
	if (!atomic_load(&all_fence) && !barrier_everywhere())
		have_readers_fence();
	return epoch;
}

bool readers_left(const void *subject, uint64_t epoch)
{
	for (const struct reader *reader = atomic_load(&readers); reader; reader = reader->next)
		if (inside(reader, subject, epoch))
			return false;
	return true;
}
