/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migration needs of others fails: each call of the backend, on either side, and those from
 * there on; devices that cannot be saved or loaded; memory that changes its shape; a guest that
 * cannot be held, or writes too fast. Exactly one side has the VM, and nothing is left of what
 * failed.
 */
#include <limits.h>

#include "../plugin/faulty.h"

#include "migrate_faults.h"

TestSuite(migrate_fails, .timeout = 300);

#define MOST_CALLS 5000

/* --- the backend --- */

static void open_faulty(struct pair *pair, struct faulty **ret_faulty)
{
	const void *table;
	void *handle;

	pair_open(pair, &(struct pair_setup){
				.bytes = 8 * PAIR_PAGE,
				.kind = IMPOST_REGION_MEMFD,
				.plugins = FAKE_DIR,
			});
	expect_ok(pair->source_ctx, impost_vm_extension(pair->vm, FAULTY_CONTROL, &table, &handle));
	*ret_faulty = handle;
}

/* Calls FIRST to LAST fail. Returns whether there was one. */
static bool fail_calls(struct pair *pair, struct faulty *faulty, long first, long last)
{
	const char *operation;
	enum pair_end ended;

	atomic_store(&faulty->calls, 0);
	atomic_store(&faulty->operation, NULL);
	atomic_store(&faulty->last, last);
	atomic_store(&faulty->first, first);
	pair_migrate(pair);
	atomic_store(&faulty->first, -1);
	operation = atomic_load(&faulty->operation);
	ended = pair_judge(pair);
	cr_assert(operation || ended == PAIR_MOVED, "%s; %s", pair->sent_text, pair->received_text);
	cr_assert(ended != PAIR_UNSETTLED, "%s", pair->sent_text);
	if (ended == PAIR_STAYED)
		cr_expect(pair->sent_text[0] && pair->received_text[0], "%s has no text",
			  operation);
	pair_forget(pair);
	return operation != NULL;
}

static void fail_each(bool all_later)
{
	struct leftovers before;
	struct faulty *faulty;
	bool failed = true;
	struct pair pair;
	long first = 0;

	open_faulty(&pair, &faulty);
	fail_calls(&pair, faulty, LONG_MAX, LONG_MAX);
	pair_close(&pair);
	open_faulty(&pair, &faulty);
	before = count_leftovers(NULL);
	for (; failed && first < MOST_CALLS; first++) {
		failed = fail_calls(&pair, faulty, first, all_later ? LONG_MAX : first);
		if (pair.received == 0) { /* it can do without that call, or there was none */
			pair_close(&pair);
			open_faulty(&pair, &faulty);
		}
		expect_leftovers(before, NULL);
	}
	cr_expect(first > 30 && first < MOST_CALLS, "%ld calls can fail", first);
	pair_close(&pair);
}

Test(migrate_fails, each_call_of_the_backend)
{
	fail_each(false);
}

Test(migrate_fails, all_calls_of_the_backend_from_one_on)
{
	fail_each(true);
}

/* --- devices, and what the host does --- */

/* One migration that fails with these; then one that does not. */
static void expect_stays(struct pair *pair, int sent, int received)
{
	pair_migrate(pair);
	cr_expect(pair->sent == sent, "%d: %s", pair->sent, pair->sent_text);
	cr_expect(pair->received == received, "%d: %s", pair->received, pair->received_text);
	cr_expect_eq(pair_judge(pair), PAIR_STAYED);
	pair_forget(pair);
}

static void expect_moves(struct pair *pair)
{
	pair_migrate(pair);
	cr_expect_eq(pair_judge(pair), PAIR_MOVED, "%s; %s", pair->sent_text, pair->received_text);
	pair_close(pair);
}

Test(migrate_fails, a_device_is_not_saved)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){0});
	pair.device.save_fails = -EDOM;
	pair_migrate(&pair);
	cr_expect_eq(pair.sent, -EDOM, "%s", pair.sent_text);
	pair.device.save_fails = 0;
	cr_expect_eq(pair_judge(&pair), PAIR_STAYED);
	pair_forget(&pair);
	expect_moves(&pair);
}

/* The first state was sent before memory. */
static int fail_when_held(void *opaque, const struct impost_migration_status *status)
{
	struct pair *pair = opaque;

	pair->device.save_fails = status->state == IMPOST_MIGRATION_HELD ? -EDOM : 0;
	return 0;
}

Test(migrate_fails, a_device_is_not_saved_the_second_time)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){.source.progress = fail_when_held});
	pair_migrate(&pair);
	cr_expect_eq(pair.sent, -EDOM, "%s", pair.sent_text);
	cr_expect_eq(pair.received, -EREMOTEIO, "%s", pair.received_text);
	pair.device.save_fails = 0;
	cr_expect_eq(pair_judge(&pair), PAIR_STAYED);
	pair_forget(&pair);
	pair.setup.source.progress = NULL;
	expect_moves(&pair);
}

Test(migrate_fails, a_device_is_not_loaded)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){0});
	pair.arrived_device.load_fails = -EDOM;
	expect_stays(&pair, -EREMOTEIO, -EDOM);
	expect_moves(&pair);
}

static int prepare_nothing(void *opaque, struct impost_vm *vm)
{
	(void)opaque;
	(void)vm;
	return 0;
}

static int prepare_fails(void *opaque, struct impost_vm *vm)
{
	(void)opaque;
	(void)vm;
	return -ENXIO;
}

Test(migrate_fails, the_destination_has_no_such_device)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){.destination.prepare = prepare_nothing});
	expect_stays(&pair, -EREMOTEIO, -EINVAL);
	pair.setup.destination.prepare = prepare_fails;
	expect_stays(&pair, -EREMOTEIO, -ENXIO);
	pair.setup.destination.prepare = NULL;
	expect_moves(&pair);
}

Test(migrate_fails, more_memory_than_is_taken)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){.destination.memory_max = PAIR_BYTES});
	expect_stays(&pair, -EREMOTEIO, -EFBIG);
	pair.setup.destination.memory_max = PAIR_BYTES + PAIR_ROM_BYTES;
	expect_moves(&pair);
}

/* --- memory changes its shape meanwhile --- */

#define LATER UINT64_C(0x100000000)

static const struct impost_region later = {
	.size = sizeof(later), .gpa = LATER, .bytes = 4 * PAIR_PAGE};
static uint32_t change_at; /* the state in which memory changes */
static bool changed;

/* The region appears, or goes if it is there. */
static int change_regions(void *opaque, const struct impost_migration_status *status)
{
	struct pair *pair = opaque;
	struct impost_memory *memory = impost_vm_memory(pair->vm);

	if (status->state != change_at || changed)
		return 0;
	changed = true;
	if (impost_memory_remove(memory, LATER))
		expect_ok(pair->source_ctx, impost_memory_add(memory, &later));
	return 0;
}

/* The destination was told of other memory: it must not get the VM. */
static void expect_no_change(bool is_there)
{
	static const uint32_t states[] = {IMPOST_MIGRATION_COPYING, IMPOST_MIGRATION_HELD};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		struct pair pair;

		pair_open(&pair, &(struct pair_setup){.source.progress = change_regions});
		if (is_there) {
			expect_ok(pair.source_ctx,
				  impost_memory_add(impost_vm_memory(pair.vm), &later));
			pair_write_page(pair.vm, LATER + PAIR_PAGE, 1);
		}
		change_at = states[i];
		changed = false;
		pair_migrate(&pair);
		cr_assert(changed);
		cr_expect_eq(pair_judge(&pair), PAIR_STAYED);
		cr_expect(pair.sent_text[0] && pair.received_text[0]);
		pair_close(&pair);
	}
}

Test(migrate_fails, memory_comes_meanwhile)
{
	expect_no_change(false);
}

Test(migrate_fails, memory_goes_meanwhile)
{
	expect_no_change(true);
}

/* --- the guest does not let itself be moved --- */

/* Its last exit is in the host's hands. */
Test(migrate_fails, it_cannot_be_held)
{
	struct impost_exit exit;
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){.source.hold_ms = 20});
	expect_ok(pair.source_ctx, impost_vcpu_run(pair.cpu[0], &exit));
	cr_assert(exit.kind == IMPOST_EXIT_IO);
	pair_migrate(&pair);
	expect_ok(pair.source_ctx, impost_vcpu_complete(pair.cpu[0], &exit));
	cr_expect_eq(pair_judge(&pair), PAIR_STAYED);
	cr_expect_eq(pair.received, -EREMOTEIO, "%s", pair.received_text);
	pair_forget(&pair);
	expect_moves(&pair);
}

/* 64 MiB a second at the most, however fast the machine is. */
static int64_t write_slowly(void *opaque, const void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	const uint64_t most = UINT64_C(64) << 10;

	poll(NULL, 0, 1);
	return pair_write_fd(opaque, buf, bytes < most ? bytes : most, timeout_ms);
}

static void wire_slowly(struct pair *pair, struct impost_migration_channel channels[2])
{
	pair_wire_functions(pair, channels);
	channels[0].write = write_slowly;
}

/* A pass takes a quarter of a second, in which each guest writes far more than goes in the one
 * millisecond that it may stand.
 */
Test(migrate_fails, it_writes_too_fast)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){
				 .cpus = 2,
				 .bytes = UINT64_C(16) << 20,
				 .wire = wire_slowly,
				 .source = {.downtime_ms = 1, .passes = 2},
			 });
	pair_start_guests(&pair);
	pair_migrate(&pair);
	cr_expect_eq(pair.sent, -EBUSY, "%s", pair.sent_text);
	cr_expect_eq(pair.received, -EREMOTEIO, "%s", pair.received_text);
	cr_expect_eq(pair_judge(&pair), PAIR_STAYED);
	pair_forget(&pair);
	pair.setup.source.flags = IMPOST_MIGRATION_FINISH;
	expect_moves(&pair);
}

/* --- the host holds it, too --- */

Test(migrate_fails, it_is_held_by_the_host)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){0});
	expect_ok(pair.source_ctx, impost_vm_hold(pair.vm, PAIR_LONG_MS));
	pair.arrived_device.load_fails = -EDOM;
	pair_migrate(&pair);
	cr_expect_eq(pair.sent, -EREMOTEIO, "%s", pair.sent_text);
	expect_error(pair.source_ctx, impost_vm_hold(pair.vm, 0), -EALREADY, "");
	expect_ok(pair.source_ctx, impost_vm_release(pair.vm));
	cr_expect_eq(pair_judge(&pair), PAIR_STAYED);
	pair_forget(&pair);
	expect_ok(pair.source_ctx, impost_vm_hold(pair.vm, PAIR_LONG_MS));
	expect_moves(&pair);
}

static void *hold_often(void *arg)
{
	struct pair *pair = arg;
	int err = 0;

	while (!err || err == -EALREADY) {
		err = impost_vm_hold(pair->vm, PAIR_LONG_MS);
		if (!err)
			err = impost_vm_release(pair->vm);
		poll(NULL, 0, 1);
	}
	return (void *)(intptr_t)err;
}

Test(migrate_fails, it_is_held_now_and_then)
{
	pthread_t holder;
	struct pair pair;
	void *err;

	pair_open(&pair, &(struct pair_setup){
				 .cpus = 2,
				 .bytes = UINT64_C(4) << 20,
				 .source = {.flags = IMPOST_MIGRATION_FINISH, .downtime_ms = 1},
			 });
	pair_start_guests(&pair);
	cr_assert(pthread_create(&holder, NULL, hold_often, &pair) == 0);
	pair_migrate(&pair);
	pthread_join(holder, &err);
	cr_expect_eq((intptr_t)err, -IMPOST_EMOVED, "%ld", (long)(intptr_t)err);
	cr_expect_eq(pair_judge(&pair), PAIR_MOVED, "%s; %s", pair.sent_text, pair.received_text);
	pair_close(&pair);
}
