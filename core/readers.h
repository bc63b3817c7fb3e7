/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read sections: how threads look at an object that another replaces, without a lock. A reader
 * enters, loads the object's pointer, uses it and leaves; it never waits. A writer replaces the
 * pointer, and frees the old object when all who were inside have left.
 *
 * This is user-space RCU with one difference: a section names its subject (a memory map), so that a
 * writer waits for its own map's readers alone. docs/architecture.md says why it is not liburcu.
 */
#ifndef CORE_READERS_H
#define CORE_READERS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A thread. On a list that only grows; an ended thread's place is taken by a new one. */
struct reader {
	/* When the section under way began: an epoch; 0: none is. */
	_Alignas(64) _Atomic uint64_t since;
	/* What it looks at; NULL: at several things. Written before `since`. */
	_Atomic(const void *) subject;
	uint64_t serial; /* of the threads that had this place */
	uint32_t depth;	 /* of nested sections: the thread's own */
	atomic_bool taken;
	struct reader *next;
};

/* Initial-exec: the address is one load away, also when the library was dlopened. */
extern _Thread_local struct reader *reader_self __attribute__((tls_model("initial-exec")));
extern _Atomic uint64_t readers_epoch;
extern atomic_bool readers_fence;

/* Gives the calling thread its place. NULL: no memory for one. */
struct reader *reader_register(void);

/*
 * Enters a section that looks at SUBJECT; sections nest. NULL: no memory, at a thread's first. The
 * store of `since` need not be ordered before the loads that follow: writers see to that with
 * membarrier(2), or, where the kernel has none, every reader with a full barrier.
 */
static inline struct reader *reader_enter(const void *subject)
{
	struct reader *self = reader_self;
	uint64_t epoch;

	if (__builtin_expect(!self, 0) && !(self = reader_register()))
		return NULL;
	if (self->depth++ > 0) {
		if (atomic_load_explicit(&self->subject, memory_order_relaxed) != subject)
			atomic_store_explicit(&self->subject, NULL, memory_order_release);
		epoch = atomic_load_explicit(&self->since, memory_order_relaxed);
	} else {
		atomic_store_explicit(&self->subject, subject, memory_order_release);
		epoch = atomic_load_explicit(&readers_epoch, memory_order_relaxed);
		atomic_store_explicit(&self->since, epoch, memory_order_release);
	}
	if (__builtin_expect(atomic_load_explicit(&readers_fence, memory_order_relaxed), 0))
		atomic_exchange(&self->since, epoch);
	atomic_signal_fence(memory_order_seq_cst);
	return self;
}

static inline void reader_leave(struct reader *self)
{
	if (--self->depth == 0)
		atomic_store_explicit(&self->since, 0, memory_order_release);
}

/* Whether the calling thread is in a section, of whatever subject: it must not wait for others, who
 * may wait for it. */
bool readers_self_inside(void);

/* Begins an epoch, which is returned: sections that began before may see what a writer has just
 * replaced, those that begin from now on see what took its place. */
uint64_t readers_tick(void);

/* Whether all sections that look at SUBJECT and began before EPOCH have ended. Does not wait. */
bool readers_left(const void *subject, uint64_t epoch);

#endif
