/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A post-copy of a pair, from its beginning to its end: memory is written so fast that the VM goes
 * first, threads touch it where it has arrived, and connections break at random places meanwhile.
 */
#ifndef TESTS_UNIT_MIGRATE_COURSE_H
#define TESTS_UNIT_MIGRATE_COURSE_H

#include <semaphore.h>

#include "migrate_pair.h"
#include "uffd.h"

#define COURSE_BYTES (UINT64_C(16) << 20) /* of RAM */
#define COURSE_FEATURES \
	(IMPOST_MIGRATION_ZERO_PAGES | IMPOST_MIGRATION_TEXTS | IMPOST_MIGRATION_POSTCOPY)
/* Threads that touch memory, each of its own pages, and how often. */
#define TOUCHERS 4u
#define TOUCHES	 150u
#define MARK_AT	 8u

struct course;

/* One side's end of a connection. */
struct course_end {
	struct course *course;
	uint32_t wire;
	int fd;
};

struct course_wire {
	int fds[2];
	struct course_end ends[2];
	_Atomic int64_t budget; /* bytes until it is cut */
};

struct toucher {
	struct course *course;
	uint32_t number;
	pthread_t thread;
	bool written[COURSE_BYTES / PAIR_PAGE];
	uint32_t wrong; /* pages that were not what they are to be */
	int failed;	/* the first error of an access */
};

struct course {
	struct pair pair; /* first: it is what functions get */
	bool gated;	  /* the source waits for `gate` before it sends what is left */
	sem_t gate;
	atomic_uint cuts; /* connections that are still to be cut */
	bool dead;	  /* no connection that is made from then on lives */
	bool flat; /* what is written before what is left is looked at is one byte all over a page
		    */
	bool dirtied, left;
	uint64_t state; /* of random numbers */
	pthread_t sender;
	struct course_wire wires[PAIR_WIRES];
	uint32_t nwires;
	struct toucher touchers[TOUCHERS];
};

/* --- connections --- */

static inline void course_cut(struct course_wire *wire)
{
	shutdown(wire->fds[0], SHUT_RDWR);
	shutdown(wire->fds[1], SHUT_RDWR);
}

/* Until the next cut, if there is to be another. */
static inline int64_t course_budget(struct course *course)
{
	uint32_t cuts = atomic_load(&course->cuts);

	if (!course->left || cuts == 0)
		return INT64_MAX;
	atomic_store(&course->cuts, cuts - 1);
	/* Now in the first words, and now in the midst of it. */
	return random_below(&course->state, cuts % 2 ? 200 : 3000000);
}

static inline int64_t course_write(void *opaque, const void *buf, uint64_t bytes,
				   uint32_t timeout_ms)
{
	struct course_end *end = opaque;
	struct course_wire *wire = &end->course->wires[end->wire];
	int64_t left = atomic_load(&wire->budget), n;

	if (left <= 0) {
		course_cut(wire);
		return -EPIPE;
	}
	if ((int64_t)bytes > left)
		bytes = (uint64_t)left;
	n = pair_write_fd((void *)(intptr_t)end->fd, buf, bytes, timeout_ms);
	if (n > 0 && left != INT64_MAX)
		atomic_fetch_sub(&wire->budget, n);
	return n;
}

static inline int64_t course_read(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	struct course_end *end = opaque;

	return pair_read_fd((void *)(intptr_t)end->fd, buf, bytes, timeout_ms);
}

static inline void course_wire(struct pair *pair, struct impost_migration_channel channels[2])
{
	struct course *course = (struct course *)pair;
	struct course_wire *wire = &course->wires[course->nwires];

	pair_sockets(pair, wire->fds);
	atomic_store(&wire->budget, course_budget(course));
	for (uint32_t i = 0; i < 2; i++) {
		wire->ends[i] = (struct course_end){course, course->nwires, wire->fds[i]};
		channels[i] = (struct impost_migration_channel){.size = sizeof(channels[i]),
								.fd = -1,
								.read = course_read,
								.write = course_write,
								.opaque = &wire->ends[i]};
	}
	course->nwires++;
	if (course->dead)
		course_cut(wire);
}

/* --- the source --- */

static inline void course_dirty(struct course *course, uint64_t gpa)
{
	struct impost_vm *vm = course->pair.vm;

	if (course->flat)
		expect_ok(course->pair.source_ctx,
			  impost_memory_fill(impost_vm_memory(vm), gpa, (uint8_t)(gpa / PAIR_PAGE),
					     PAIR_PAGE));
	else
		pair_write_page(vm, gpa, 2);
}

/* The state takes longer than copying may, so that the VM goes first; and all of RAM is written
 * before what is left is looked at. When it has gone connections begin to break. */
static inline int course_progress(void *opaque, const struct impost_migration_status *status)
{
	struct course *course = opaque;
	struct timespec until;

	if (status->state == IMPOST_MIGRATION_HELD && !course->dirtied) {
		course->dirtied = true;
		for (uint64_t at = 0; at < course->pair.setup.bytes; at += PAIR_PAGE)
			course_dirty(course, at);
	}
	if (status->state != IMPOST_MIGRATION_POSTCOPYING || course->left)
		return 0;
	course->left = true;
	if (course->nwires)
		atomic_store(&course->wires[0].budget, course_budget(course));
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PAIR_LONG_MS / 1000;
	while (course->gated && sem_timedwait(&course->gate, &until) && errno == EINTR)
		;
	return 0;
}

static inline void *course_send(void *arg)
{
	struct course *course = arg;

	pair_send(&course->pair);
	return NULL;
}

/* What SETUP leaves open is the course's. */
static inline void course_open(struct course *course, struct pair_setup setup)
{
	setup.bytes = COURSE_BYTES;
	setup.source.features |= COURSE_FEATURES;
	setup.destination.features |= COURSE_FEATURES;
	setup.source.timeout_ms = 1;
	setup.source.progress = course_progress;
	memset(course, 0, sizeof(*course));
	sem_init(&course->gate, 0, 0);
	course->state = 1;
	pair_open(&course->pair, &setup);
	course->pair.device.save_ns = 3000000;
}

static inline void course_close(struct course *course)
{
	pair_close(&course->pair);
	sem_destroy(&course->gate);
}

/* Until the VM has arrived. */
static inline void course_begin(struct course *course)
{
	pair_begin(&course->pair);
	expect_true(pthread_create(&course->sender, NULL, course_send, course) == 0);
	pair_end(&course->pair);
	if (course->pair.received)
		fprintf(stderr, "# %s\n", course->pair.received_text);
	expect_true(course->pair.received == 0);
}

/* --- who touches memory --- */

static inline bool course_is_right(struct toucher *toucher, uint64_t page)
{
	struct pair *pair = &toucher->course->pair;
	const uint64_t mark = page;
	uint8_t x[PAIR_PAGE], y[PAIR_PAGE];
	int err =
		impost_memory_read(impost_vm_memory(pair->arrived), page * PAIR_PAGE, y, PAIR_PAGE);

	if (!err)
		err = impost_memory_read(impost_vm_memory(pair->vm), page * PAIR_PAGE, x,
					 PAIR_PAGE);
	if (err && !toucher->failed)
		toucher->failed = err;
	if (toucher->written[page])
		memcpy(x + MARK_AT, &mark, sizeof(mark));
	return err || memcmp(x, y, PAIR_PAGE) == 0;
}

static inline void *course_touch(void *arg)
{
	struct toucher *toucher = arg;
	struct pair *pair = &toucher->course->pair;
	uint64_t state = toucher->number + 1;
	const uint32_t pages = (uint32_t)(COURSE_BYTES / PAIR_PAGE / TOUCHERS);

	for (uint32_t i = 0; i < TOUCHES; i++) {
		uint64_t page = (uint64_t)random_below(&state, pages) * TOUCHERS + toucher->number;
		int err;

		toucher->wrong += !course_is_right(toucher, page);
		if (i % 2)
			continue;
		err = impost_memory_write(impost_vm_memory(pair->arrived),
					  page * PAIR_PAGE + MARK_AT, &page, sizeof(page));
		if (err && !toucher->failed)
			toucher->failed = err;
		toucher->written[page] = toucher->written[page] || !err;
	}
	return NULL;
}

static inline void course_start_touchers(struct course *course)
{
	for (uint32_t i = 0; i < TOUCHERS; i++) {
		struct toucher *toucher = &course->touchers[i];

		toucher->course = course;
		toucher->number = i;
		expect_true(pthread_create(&toucher->thread, NULL, course_touch, toucher) == 0);
	}
}

static inline struct impost_migration_status course_status(struct impost_migration *migration)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	expect_true(impost_migration_status(migration, &status) == 0);
	return status;
}

/* Until so many pages were asked for. */
static inline void course_await_faults(struct course *course, uint64_t faults)
{
	const struct timespec nap = {.tv_nsec = 1000000};

	for (uint32_t ms = 0; ms < PAIR_LONG_MS; ms++) {
		if (course_status(course->pair.receiving).faults >= faults)
			return;
		nanosleep(&nap, NULL);
	}
	expect_true(false);
}

/* Until all has come, or is lost: what impost_migration_wait() says. */
static inline int course_end(struct course *course)
{
	int err = impost_migration_wait(course->pair.receiving);

	for (uint32_t i = 0; i < TOUCHERS; i++)
		if (course->touchers[i].course)
			pthread_join(course->touchers[i].thread, NULL);
	pthread_join(course->sender, NULL);
	return err;
}

/* All memory is what it is to be, on the one side that runs. */
static inline void course_expect_all(struct course *course)
{
	struct pair *pair = &course->pair;

	expect_true(pair->sent == 0);
	expect_true(course_status(pair->sending).state == IMPOST_MIGRATION_DONE);
	expect_true(course_status(pair->receiving).state == IMPOST_MIGRATION_DONE);
	expect_true(course_status(pair->sending).left_bytes == 0);
	expect_true(course_status(pair->receiving).left_bytes == 0);
	for (uint64_t page = 0; page < COURSE_BYTES / PAIR_PAGE; page++) {
		struct toucher *toucher = &course->touchers[page % TOUCHERS];

		toucher->course = course;
		expect_true(course_is_right(toucher, page));
	}
	for (uint32_t i = 0; i < TOUCHERS; i++)
		expect_true(!course->touchers[i].wrong && !course->touchers[i].failed);
	pair_expect_same_memory(pair->vm, pair->arrived, PAIR_ROM, PAIR_ROM_BYTES);
	expect_true(pair_judge_owner(pair) == PAIR_MOVED);
}

static inline bool course_has_uffd(void)
{
	int fd = uffd_open(0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

#endif
