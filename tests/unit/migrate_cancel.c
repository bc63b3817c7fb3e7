/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration is cancelled: in each of its states, on either side, by who is told how it goes, by
 * another thread, and by a signal's handler. Exactly one side has the VM, and nothing is left of
 * what was cancelled.
 */
#include <signal.h>

#include "migrate_faults.h"

TestSuite(migrate_cancel, .timeout = 300);

/* By whom. */
enum way {
	BY_PROGRESS, /* which returns something else than 0 */
	BY_CALL,     /* that it makes */
	BY_SIGNAL,
};

static enum way way;
static uint32_t cancel_in; /* the state */
static bool seen;
static struct impost_migration *_Atomic target;

/* The destination is told before the thread that has begun it could say which it is. */
static void cancel_target(void)
{
	struct impost_migration *migration;

	while (!(migration = atomic_load(&target)))
		;
	impost_migration_cancel(migration);
}

static void on_signal(int number)
{
	(void)number;
	cancel_target();
}

static int cancel_when_there(void *opaque, const struct impost_migration_status *status)
{
	(void)opaque;
	if (status->state != cancel_in || seen)
		return 0;
	seen = true;
	if (way == BY_PROGRESS)
		return 1;
	if (way == BY_CALL)
		cancel_target();
	else
		raise(SIGUSR1);
	return 0;
}

static void setup(void)
{
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal}, NULL);
}

/* Cancelled in STATE, by each way. Returns how many have moved all the same. */
static unsigned cancel_in_state(uint32_t state, bool by_source)
{
	unsigned moved = 0;

	cancel_in = state;
	for (way = BY_PROGRESS; way <= BY_SIGNAL; way++) {
		struct pair_setup wanted = {.kind = IMPOST_REGION_MEMFD};
		const bool late = state == IMPOST_MIGRATION_POSTCOPYING;
		struct leftovers before;
		struct pair pair;
		int err;

		(by_source ? &wanted.source : &wanted.destination)->progress = cancel_when_there;
		if (late) {
			wanted.source.features = wanted.destination.features =
				IMPOST_MIGRATION_FEATURES;
			wanted.source.timeout_ms = 1;
		}
		pair_open(&pair, &wanted);
		pair.device.save_ns = late ? 2000000 : 0;
		before = count_leftovers(NULL);
		seen = false;
		atomic_store(&target, NULL);
		pair_begin(&pair);
		atomic_store(&target, by_source ? pair.sending : pair.receiving);
		pair_send(&pair);
		pair_end(&pair);
		err = by_source ? pair.sent : pair.received;
		if (late && pair.received == 0)
			cr_expect_eq(impost_migration_wait(pair.receiving), 0);
		cr_assert(seen || late, "state %s was not there",
			  impost_migration_state_name(state));
		cr_expect(err == 0 || err == -ECANCELED, "%s: %s; %s",
			  impost_migration_state_name(state), pair.sent_text, pair.received_text);
		moved += pair_judge(&pair) != PAIR_STAYED;
		pair_forget(&pair);
		expect_leftovers(before, NULL);
		pair_close(&pair);
	}
	return moved;
}

Test(migrate_cancel, the_source, .init = setup)
{
	static const uint32_t early[] = {IMPOST_MIGRATION_STARTING, IMPOST_MIGRATION_COPYING,
					 IMPOST_MIGRATION_HELD};

	for (size_t i = 0; i < sizeof(early) / sizeof(early[0]); i++)
		cr_expect_eq(cancel_in_state(early[i], true), 0, "cancelled when %s",
			     impost_migration_state_name(early[i]));
	/* Complete is about to be said: either is right. Then it is too late. */
	cancel_in_state(IMPOST_MIGRATION_COMPLETING, true);
	cr_expect_eq(cancel_in_state(IMPOST_MIGRATION_DONE, true), 3);
	cr_expect_eq(cancel_in_state(IMPOST_MIGRATION_POSTCOPYING, true), 3);
	if (!seen)
		fprintf(stderr, "# skipped: post-copying: it cannot be had here\n");
}

Test(migrate_cancel, the_destination, .init = setup)
{
	cr_expect_eq(cancel_in_state(IMPOST_MIGRATION_STARTING, false), 0);
	cr_expect_eq(cancel_in_state(IMPOST_MIGRATION_COPYING, false), 0);
	cr_expect_eq(cancel_in_state(IMPOST_MIGRATION_DONE, false), 3);
	cr_expect_eq(cancel_in_state(IMPOST_MIGRATION_POSTCOPYING, false), 3);
	if (!seen)
		fprintf(stderr, "# skipped: post-copying: it cannot be had here\n");
}

/* Before it has begun. */
Test(migrate_cancel, at_once)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){0});
	pair_begin(&pair);
	impost_migration_cancel(pair.sending);
	pair_send(&pair);
	pair_end(&pair);
	cr_expect_eq(pair.sent, -ECANCELED, "%s", pair.sent_text);
	cr_expect_eq(pair_judge(&pair), PAIR_STAYED);
	pair_close(&pair);
}

/* --- at any time --- */

struct canceller {
	struct impost_migration *migration;
	uint32_t after_us;
};

static void *cancel_later(void *arg)
{
	const struct canceller *canceller = arg;
	struct impost_migration_status status = {.size = sizeof(status)};

	nanosleep(&(struct timespec){.tv_nsec = (long)canceller->after_us * 1000}, NULL);
	impost_migration_status(canceller->migration, &status);
	impost_migration_cancel(canceller->migration);
	return NULL;
}

static void open_busy(struct pair *pair)
{
	pair_open(
		pair,
		&(struct pair_setup){
			.cpus = 2,
			.bytes = UINT64_C(2) << 20,
			.kind = IMPOST_REGION_MEMFD,
			.source = {.flags = IMPOST_MIGRATION_FINISH, .downtime_ms = 1, .passes = 3},
		});
	pair_start_guests(pair);
}

/* Either side, by another thread, while the guest writes. */
Test(migrate_cancel, by_another_thread)
{
	struct leftovers before;
	uint64_t state = 1;
	struct pair pair;

	open_busy(&pair);
	before = count_leftovers(NULL);
	for (uint32_t i = 0; i < 150; i++) {
		struct canceller canceller = {.after_us = random_below(&state, 30 * (i + 1))};
		pthread_t thread;

		pair_begin(&pair);
		canceller.migration = i % 3 ? pair.sending : pair.receiving;
		cr_assert(pthread_create(&thread, NULL, cancel_later, &canceller) == 0);
		pair_send(&pair);
		pair_end(&pair);
		pthread_join(thread, NULL);
		pair_judge(&pair);
		pair_forget(&pair);
		if (pair.received == 0) {
			pair_close(&pair);
			open_busy(&pair);
		}
		expect_leftovers(before, NULL);
	}
	pair_close(&pair);
}
