/* SPDX-License-Identifier: Apache-2.0 */
/* Memory goes while the guest runs, and again what was written meanwhile. */
#include "migrate_passes.h"

#include <inttypes.h>
#include <stdlib.h>

#include "clock.h"
#include "crew.h"
#include "migrate_rows.h"
#include "migrate_send.h"
#include "migrate_throttle.h"

/* A rate is of so long at least, and the older half as much as what is newer. */
#define RATE_NS	   UINT64_C(50000000)
#define RATE_BYTES (UINT64_C(16) << 20)

/* A pass that leaves more than this of what the one before left does not lead anywhere. */
#define SHRUNK(left) ((left) / 4 * 3)

/* Percent of the time that vCPUs are kept from running: at first, and more each time. */
#define THROTTLE_FIRST 20u
#define THROTTLE_STEP  10u

struct passes {
	struct impost_migration *migration;
	struct supply supply;
	struct rows *rows[MIGRATE_CONNECTIONS_MOST];
	uint32_t nrows;
	pthread_t caller;
	struct impost_vm *vm;
	struct throttle *throttle; /* NULL: not yet */
	bool late;		   /* the VM goes first */
	bool held;		   /* the guest stands: nothing ends this before all is sent */
	atomic_bool expired;	   /* time is up in the middle of a pass */
	atomic_bool failed;	   /* a thread has: the others need not go on */
	uint64_t overhead_ns;
	/* What the rate is of: sums that fade, and when and where the newest part began. */
	uint64_t sum_ns, sum_bytes, mark_ns, mark_bytes;
};

/* --- its life --- */

int passes_begin(struct impost_migration *migration, struct impost_vm *vm,
		 struct passes **ret_passes)
{
	struct impost_memory *memory = impost_vm_memory(vm);
	struct passes *passes = calloc(1, sizeof(*passes));
	int err;

	if (!passes)
		return impost_error_set(migration->ctx, -ENOMEM, "no memory for a migration");
	passes->migration = migration;
	passes->vm = vm;
	passes->caller = pthread_self();
	err = supply_init(&passes->supply, memory, &migration->guest_bytes, &migration->left_bytes);
	if (err) {
		free(passes);
		return err;
	}
	while (!err && passes->nrows < migration->nlinks) {
		err = rows_create(migration, &migration->links[passes->nrows], memory,
				  &passes->rows[passes->nrows]);
		passes->nrows += !err;
	}
	if (err)
		passes_end(passes);
	else
		*ret_passes = passes;
	return err;
}

static void stop_throttle(struct passes *passes)
{
	throttle_end(passes->throttle);
	passes->throttle = NULL;
	passes->migration->throttle = 0;
}

void passes_end(struct passes *passes)
{
	if (!passes)
		return;
	stop_throttle(passes);
	for (uint32_t i = 0; i < passes->nrows; i++)
		rows_free(passes->rows[i]);
	supply_release(&passes->supply);
	free(passes);
}

/* --- how fast it goes --- */

static void begin_rate(struct passes *passes)
{
	passes->mark_ns = clock_now_ns();
	passes->mark_bytes = passes->migration->data_bytes;
}

/* Adds what went since begin_rate() to the rate, if it is enough to tell, or ALL of it. */
static void note_rate(struct passes *passes, bool all)
{
	struct impost_migration *migration = passes->migration;
	uint64_t ns = clock_now_ns() - passes->mark_ns;
	uint64_t bytes = migration->data_bytes - passes->mark_bytes;
	bool enough = ns >= RATE_NS || bytes >= RATE_BYTES;

	if (bytes == 0 || (!enough && !all))
		return;
	passes->sum_ns = (enough ? passes->sum_ns / 2 : passes->sum_ns) + ns;
	passes->sum_bytes = (enough ? passes->sum_bytes / 2 : passes->sum_bytes) + bytes;
	migration->rate =
		(uint64_t)((double)passes->sum_bytes * 1e9 / (double)(passes->sum_ns | 1));
	begin_rate(passes);
}

/* How long what is left takes. */
static uint64_t rest_ns(const struct passes *passes)
{
	const struct impost_migration *migration = passes->migration;
	uint64_t left = migration->left_bytes, rate = migration->rate;

	if (left && !rate)
		return UINT64_MAX / 2;
	return left ? (uint64_t)((double)left * 1e9 / (double)rate) : 0;
}

/*
 * Whether the guest could stand for the rest. What takes as long however often memory is gone
 * through counts for half of that time at the most, or no pass would ever be the last; but where
 * the rest can follow the VM, there is no need to let it stand for longer (STRICTLY).
 */
static bool fits(const struct passes *passes, bool strictly)
{
	uint64_t may = (uint64_t)passes->migration->config.downtime_ms * 1000000;
	uint64_t overhead = passes->overhead_ns;

	if (!strictly && overhead > may / 2)
		overhead = may / 2;
	return overhead + rest_ns(passes) <= may;
}

/* --- a pass --- */

static bool is_time_up(struct passes *passes)
{
	const struct impost_migration *migration = passes->migration;
	uint64_t limit = (uint64_t)migration->config.timeout_ms * 1000000;

	if (limit && !passes->held && clock_now_ns() - migration->begin_ns >= limit)
		atomic_store(&passes->expired, true);
	return !passes->held && atomic_load(&passes->expired);
}

static int tell(struct passes *passes)
{
	if (!pthread_equal(pthread_self(), passes->caller))
		return 0;
	note_rate(passes, false);
	return migrate_tell(passes->migration);
}

/* One connection's part of a pass: what it takes until there is no more. */
static int send_some(struct passes *passes, struct rows *rows)
{
	struct impost_range ranges[ROWS_MOST];
	uint64_t count;
	int err = 0;

	while (!err && !atomic_load(&passes->failed) && !is_time_up(passes)) {
		err = supply_take(&passes->supply, ranges, ROWS_MOST, ROWS_BYTES, &count);
		if (!err && count == 0)
			break;
		if (!err)
			err = rows_send(rows, ranges, count);
		if (!err)
			err = tell(passes);
	}
	return err ? err : rows_settle(rows);
}

static int do_part(void *opaque, uint64_t part)
{
	struct passes *passes = opaque;
	int err = send_some(passes, passes->rows[part]);

	if (err)
		atomic_store(&passes->failed, true);
	return err;
}

/* How many connections are of use. */
static uint32_t choose_parts(const struct passes *passes)
{
	uint64_t parts = passes->migration->left_bytes / ROWS_BYTES + 1;

	return parts < passes->nrows ? (uint32_t)parts : passes->nrows;
}

/* Sends what the supply has, or as much of it as there is time for. All is answered then. */
static int run_pass(struct passes *passes)
{
	uint32_t parts = choose_parts(passes);
	const struct crew crew = {
		.ctx = passes->migration->ctx,
		.threads = parts,
		.parts = parts,
		.work = do_part,
		.opaque = passes,
	};
	int err;

	begin_rate(passes);
	err = crew_run(&crew);
	if (err)
		return source_hear_elsewhere(passes->migration, err);
	note_rate(passes, true);
	return 0;
}

/* What was written since is what is left. */
static int begin_next(struct passes *passes)
{
	struct impost_migration *migration = passes->migration;
	int err = supply_sync(&passes->supply);

	if (err)
		return err;
	migration->dirty_rate = passes->supply.stats.last_rate * IMPOST_PAGE_SIZE;
	migration->downtime_ns = passes->overhead_ns + rest_ns(passes);
	return migrate_tell(migration);
}

/* Slows the guest down, where what is left has not shrunk from what it was BEFORE. */
static int adjust_throttle(struct passes *passes, uint64_t before)
{
	struct impost_migration *migration = passes->migration;
	uint32_t most = migration->config.throttle, percent = migration->throttle;

	if (migration->left_bytes <= SHRUNK(before) || percent == most)
		return 0;
	percent = percent ? percent + THROTTLE_STEP : THROTTLE_FIRST;
	migration->throttle = percent < most ? percent : most;
	if (!passes->throttle)
		return throttle_begin(passes->vm, migration->throttle, &passes->throttle);
	throttle_set(passes->throttle, migration->throttle);
	return 0;
}

/* --- */

#define MIB (UINT64_C(1) << 20)

/* It does not come to an end by itself. */
static int give_up(const struct passes *passes)
{
	const struct impost_migration *migration = passes->migration;
	const struct impost_migration_config *config = &migration->config;
	uint64_t ns = clock_now_ns() - migration->begin_ns;

	if (config->flags & IMPOST_MIGRATION_FINISH)
		return 0;
	return impost_error_set(
		migration->ctx, -EBUSY,
		"the guest writes its memory too fast: after %u passes and %" PRIu64 " ms %" PRIu64
		" MiB are left, at %" PRIu64 " MiB/s, and it writes %" PRIu64
		" MiB/s; it may stand for %u ms. Let it stand longer (downtime), have it "
		"throttled, or have the rest sent all the same (finish)",
		(unsigned)migration->pass, ns / 1000000, migration->left_bytes / MIB,
		migration->rate / MIB, migration->dirty_rate / MIB, config->downtime_ms);
}

/* What is left is more than fits. True: it can come after the VM, so that one pass is enough. */
static bool go_late(struct passes *passes)
{
	passes->late = passes->migration->features & IMPOST_MIGRATION_POSTCOPY;
	return passes->late;
}

int passes_run(struct passes *passes, uint64_t overhead_ns)
{
	struct impost_migration *migration = passes->migration;
	const struct impost_migration_config *config = &migration->config;
	uint64_t before;
	int err;

	passes->overhead_ns = overhead_ns;
	for (migration->pass = 1;; migration->pass++) {
		before = migration->left_bytes;
		err = run_pass(passes);
		if (!err && atomic_load(&passes->expired))
			return go_late(passes) ? 0 : give_up(passes);
		if (!err)
			err = begin_next(passes);
		if (err || fits(passes, true) || go_late(passes) || fits(passes, false))
			return err;
		if (migration->pass >= config->passes)
			return give_up(passes);
		err = adjust_throttle(passes, before);
		if (err)
			return err;
	}
}

int passes_finish(struct passes *passes)
{
	int err = 0;

	passes->held = true;
	stop_throttle(passes);		   /* the VM is held without it */
	if (atomic_load(&passes->expired)) /* the rest of that pass */
		err = run_pass(passes);
	if (!err)
		err = supply_sync(&passes->supply);
	if (!err)
		err = run_pass(passes);
	return err ? err : supply_check(&passes->supply);
}

bool passes_are_late(const struct passes *passes)
{
	return passes->late;
}

int passes_postpone(struct passes *passes, struct leaving *leaving)
{
	struct supply *supply = &passes->supply;
	int err = leaving_begin(leaving, passes->migration, supply->memory);

	passes->held = true;
	if (!err) /* what LEAVING is made of is what SUPPLY has */
		err = supply_check(supply);
	if (!err && atomic_load(&passes->expired)) /* the rest of that pass */
		err = leaving_take(leaving, supply);
	if (!err)
		err = supply_sync(supply);
	if (!err)
		err = leaving_take(leaving, supply);
	if (!err)
		err = supply_check(supply);
	return err ? err : leaving_postpone(leaving);
}
