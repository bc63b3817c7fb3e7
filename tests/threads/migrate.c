/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrations while everybody is at work: guests that write, threads that look at both sides' status
 * and hold the VM, and one that cancels; over one connection and several, sockets and functions. A
 * plain program (plain.h).
 *
 * Usage: migrate PLUGIN-DIR
 */
#include "plain.h"

static const char *plugin_dir;

#define PLUGIN_DIR	       plugin_dir
#define expect_true(condition) CHECK(condition)
#define expect_ok(ctx_, call)                                                               \
	do {                                                                                \
		int err_ = (call);                                                          \
		if (err_)                                                                   \
			printf("# %s returned %d (%s)\n", #call, err_, impost_error(ctx_)); \
		CHECK(err_ == 0);                                                           \
	} while (0)

#include "../unit/migrate_pair.h"

#define ROUNDS 12

/* What the threads beside a migration share. */
struct beside {
	struct pair *pair;
	uint32_t cancel_us; /* 0: nobody cancels */
	atomic_bool over;
};

static void look(struct impost_migration *migration)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	CHECK(impost_migration_status(migration, &status) == 0);
	CHECK(impost_migration_state_name(status.state)[0] != '?');
	CHECK(status.connections >= 1 && status.left_bytes <= status.guest_bytes);
}

static void *watch(void *arg)
{
	struct beside *beside = arg;

	while (!atomic_load(&beside->over)) {
		look(beside->pair->sending);
		look(beside->pair->receiving);
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	return NULL;
}

static void *hold_often(void *arg)
{
	struct beside *beside = arg;

	while (!atomic_load(&beside->over)) {
		int err = impost_vm_hold(beside->pair->vm, PAIR_LONG_MS);

		if (!err)
			err = impost_vm_release(beside->pair->vm);
		CHECK(err == 0 || err == -IMPOST_EMOVED);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return NULL;
}

static void *cancel(void *arg)
{
	struct beside *beside = arg;

	nanosleep(&(struct timespec){.tv_nsec = (long)beside->cancel_us * 1000}, NULL);
	if (beside->cancel_us)
		impost_migration_cancel(beside->cancel_us % 2 ? beside->pair->sending
							      : beside->pair->receiving);
	return NULL;
}

static void *(*const works[])(void *) = {watch, hold_often, cancel};
#define WORKS (sizeof(works) / sizeof(works[0]))

/* One migration with all that beside it. Whether the VM has moved. */
static bool migrate_amid(struct pair *pair, uint32_t cancel_us)
{
	struct beside beside = {.pair = pair, .cancel_us = cancel_us};
	pthread_t threads[WORKS];
	bool moved;

	pair_begin(pair);
	for (size_t i = 0; i < WORKS; i++)
		start(&threads[i], works[i], &beside);
	pair_send(pair);
	pair_end(pair);
	atomic_store(&beside.over, true);
	for (size_t i = 0; i < WORKS; i++)
		pthread_join(threads[i], NULL);
	moved = pair_judge(pair) != PAIR_STAYED;
	pair_forget(pair);
	return moved;
}

static void migrate_often(uint32_t connections, pair_wire_fn wire, uint32_t features)
{
	const struct pair_setup setup = {
		.cpus = 3,
		.bytes = UINT64_C(2) << 20,
		.wire = wire,
		.source = {.flags = IMPOST_MIGRATION_FINISH,
			   .features = features,
			   .downtime_ms = 1,
			   .passes = 3,
			   .throttle = 60,
			   .connections = connections},
		.destination = {.features = features, .connections = connections},
	};
	uint64_t state = connections + features;
	uint32_t moved = 0;
	struct pair pair;

	pair_open(&pair, &setup);
	pair_start_guests(&pair);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		if (!migrate_amid(&pair, i % 3 ? 1 + random_below(&state, 20000) : 0))
			continue;
		moved++;
		pair_close(&pair);
		pair_open(&pair, &setup);
		pair_start_guests(&pair);
	}
	pair_close(&pair);
	printf("# %u of %u have moved\n", moved, ROUNDS);
	CHECK(moved >= ROUNDS / 3);
}

static void over_unix(void)
{
	migrate_often(1, pair_wire_unix, 0);
}

static void over_functions(void)
{
	migrate_often(1, pair_wire_functions, 0);
}

static void over_several(void)
{
	migrate_often(4, pair_wire_tcp, 0);
}

static const struct test tests[] = {
	{"one connection", over_unix, NULL},
	{"one connection of functions", over_functions, NULL},
	{"several connections", over_several, NULL},
};

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: migrate PLUGIN-DIR\n");
		return 1;
	}
	plugin_dir = argv[1];
	if (open_context("migrate", plugin_dir, "mock"))
		return 1;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), "mock");
}
