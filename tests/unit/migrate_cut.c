/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection of a migration is cut, stalled, or changes a byte: at every byte of a short one,
 * and at many places of a long one. Each time exactly one side can run the VM, and nothing is left
 * of what failed.
 *
 * A byte that was changed can be seen only where it breaks a rule of the wire: one of memory's
 * contents, or of a register's value, arrives as it is. So of such a migration nothing is asked but
 * whose the VM is. Transports have checksums, and TLS more than that.
 */
#include "migrate_faults.h"

#include <sys/stat.h>

#define SILENCE_MS 30u

static char folder[] = "/tmp/impost-cut-XXXXXX";

/* What the library would leave on a disk would be here. */
static void begin(void)
{
	cr_assert(mkdtemp(folder) && chdir(folder) == 0, "%m");
	setenv("TMPDIR", folder, 1);
}

static void end(void)
{
	cr_expect(rmdir(folder) == 0, "%m");
}

TestSuite(migrate_cut, .init = begin, .fini = end, .timeout = 600);

/* --- a short one --- */

static struct fault_wire wire;
/* 0: the library's own. With zstd the page that has contents gets smaller. */
static uint32_t features;

static void open_short(struct pair *pair, uint32_t silence_ms)
{
	pair_open(pair, &(struct pair_setup){
				.bytes = 4 * PAIR_PAGE,
				.kind = IMPOST_REGION_MEMFD,
				.wire = fault_wire_functions,
				.source = {.silence_ms = silence_ms, .features = features},
				.destination = {.silence_ms = silence_ms,
						.features = features,
						.memory_max = 1 << 20},
				.opaque = &wire,
			});
	if (features & IMPOST_MIGRATION_ZSTD)
		expect_ok(pair->source_ctx, impost_memory_fill(impost_vm_memory(pair->vm),
							       PAIR_PAGE, 0x5a, PAIR_PAGE));
	/* One page has contents. */
	expect_ok(pair->source_ctx,
		  impost_memory_fill(impost_vm_memory(pair->vm), 2 * PAIR_PAGE, 0, PAIR_PAGE));
	expect_ok(pair->source_ctx,
		  impost_memory_fill(impost_vm_memory(pair->vm), PAIR_ROM, 0, PAIR_ROM_BYTES));
}

/* How a short one may end. */
static void judge_short(struct pair *pair)
{
	enum pair_end ended = wire.fault.kind == FAULT_FLIP ? pair_judge_owner(pair)
							    : pair_judge(pair);
	bool met = atomic_load(&wire.met);

	cr_assert(ended != PAIR_UNSETTLED || wire.completed, "unsettled before Complete: %s",
		  pair->sent_text);
	/* A busy machine is silent too, where that is not to last long. */
	cr_assert(met || ended == PAIR_MOVED || pair->setup.source.silence_ms == SILENCE_MS,
		  "without a fault: %s; %s", pair->sent_text, pair->received_text);
	cr_assert(!met || ended != PAIR_MOVED || wire.fault.kind == FAULT_FLIP,
		  "it has moved over what was cut at %zu", (size_t)wire.fault.at);
}

/* One migration with FAULT. Whether the VM has gone: then the pair is made again. */
static bool meet(struct pair *pair, struct fault fault)
{
	uint32_t silence_ms = pair->setup.source.silence_ms;

	wire.fault = fault;
	pair_migrate(pair);
	judge_short(pair);
	pair_forget(pair);
	if (pair->received)
		return false;
	pair_close(pair);
	open_short(pair, silence_ms);
	return true;
}

/* How many bytes SIDE says. */
static uint64_t count_bytes(struct pair *pair, enum fault_side side)
{
	meet(pair, (struct fault){.kind = FAULT_NONE});
	return wire.written[side];
}

/* From now on both sides wait no longer than MS for a word of the other. */
static void set_silence(struct pair *pair, uint32_t ms)
{
	pair->setup.source.silence_ms = pair->setup.destination.silence_ms = ms;
}

static const uint8_t flips[] = {0x01, 0x80, 0xff, 0x10};

/* So many in a row that nobody has seen are of memory's contents, or the like. */
#define UNSEEN 64u
#define STRIDE 61u

/*
 * At every byte of what SIDE says. Where many changes in a row are not seen, one now and then is
 * enough, until one is: then those that were left out before it are not.
 */
static void meet_everywhere(enum fault_kind kind, enum fault_side side)
{
	uint64_t bytes, at = 0, last = 0;
	struct leftovers before;
	uint32_t unseen = 0;
	struct pair pair;

	open_short(&pair, PAIR_LONG_MS);
	bytes = count_bytes(&pair, side);
	if (kind == FAULT_FLIP)
		set_silence(&pair, SILENCE_MS);
	before = count_leftovers(folder);
	while (at < bytes) {
		bool gone = meet(&pair, (struct fault){kind, side, at, flips[at % sizeof(flips)]});

		if (at % 64 == 0 || at + 64 > bytes)
			expect_leftovers(before, folder);
		if (!gone && unseen > UNSEEN) {
			at = last + 1;
			unseen = 0;
			continue;
		}
		last = at;
		unseen = gone ? unseen + 1 : 0;
		at += unseen > UNSEEN ? STRIDE : 1;
	}
	expect_leftovers(before, folder);
	pair_close(&pair);
}

Test(migrate_cut, where_the_source_writes)
{
	meet_everywhere(FAULT_CUT_WRITER, FAULT_SOURCE);
}

Test(migrate_cut, where_the_destination_reads)
{
	meet_everywhere(FAULT_CUT_READER, FAULT_SOURCE);
}

Test(migrate_cut, where_the_destination_writes)
{
	meet_everywhere(FAULT_CUT_WRITER, FAULT_DESTINATION);
}

Test(migrate_cut, where_the_source_reads)
{
	meet_everywhere(FAULT_CUT_READER, FAULT_DESTINATION);
}

Test(migrate_cut, a_byte_of_the_source_changes)
{
	meet_everywhere(FAULT_FLIP, FAULT_SOURCE);
}

Test(migrate_cut, a_byte_of_the_destination_changes)
{
	meet_everywhere(FAULT_FLIP, FAULT_DESTINATION);
}

/* Rows that are compressed: a frame that is cut, or is another, is none. */
Test(migrate_cut, where_compressed_memory_is_cut)
{
	features = IMPOST_MIGRATION_FEATURES & ~IMPOST_MIGRATION_POSTCOPY;
	meet_everywhere(FAULT_CUT_READER, FAULT_SOURCE);
}

Test(migrate_cut, a_byte_of_compressed_memory_changes)
{
	features = IMPOST_MIGRATION_FEATURES & ~IMPOST_MIGRATION_POSTCOPY;
	meet_everywhere(FAULT_FLIP, FAULT_SOURCE);
}

/* Where the source begins a write, a byte before and behind, and anywhere. */
Test(migrate_cut, the_source_stalls)
{
	static uint64_t places[3 * FAULT_WRITES + 40];
	uint64_t state = 1, bytes;
	struct leftovers before;
	struct pair pair;
	size_t count = 0;

	open_short(&pair, PAIR_LONG_MS);
	bytes = count_bytes(&pair, FAULT_SOURCE);
	set_silence(&pair, SILENCE_MS);
	for (uint32_t i = 0; i < wire.nbegins; i++)
		for (int around = -1; around <= 1; around++)
			places[count++] = wire.begins[i] + (uint64_t)around;
	for (int i = 0; i < 40; i++)
		places[count++] = random_below(&state, (uint32_t)bytes);
	before = count_leftovers(folder);
	for (size_t i = 0; i < count; i++) {
		if (places[i] < bytes)
			meet(&pair, (struct fault){FAULT_STALL, FAULT_SOURCE, places[i], 0});
		expect_leftovers(before, folder);
	}
	pair_close(&pair);
}

Test(migrate_cut, the_destination_stalls)
{
	struct leftovers before;
	struct pair pair;
	uint64_t bytes;

	open_short(&pair, PAIR_LONG_MS);
	bytes = count_bytes(&pair, FAULT_DESTINATION);
	set_silence(&pair, SILENCE_MS);
	before = count_leftovers(folder);
	for (uint64_t at = 0; at < bytes; at += at % 16 == 0 || at % 16 == 15 ? 1 : 7) {
		meet(&pair, (struct fault){FAULT_STALL, FAULT_DESTINATION, at, 0});
		expect_leftovers(before, folder);
	}
	pair_close(&pair);
}

/* --- memory that is handed over --- */

static struct relays relays;

static void open_local(struct pair *pair, uint32_t silence_ms)
{
	relays.tcp = false;
	pair_open(pair,
		  &(struct pair_setup){
			  .bytes = 4 * PAIR_PAGE,
			  .kind = IMPOST_REGION_MEMFD,
			  .flags = IMPOST_REGION_SHARED,
			  .wire = relay_wire,
			  .source = {.flags = IMPOST_MIGRATION_LOCAL, .silence_ms = silence_ms},
			  .destination.silence_ms = silence_ms,
			  .opaque = &relays,
		  });
}

/* A sum of all memory of VM. */
static uint64_t sum_of(struct impost_vm *vm, uint64_t gpa, uint64_t bytes)
{
	uint64_t words[PAIR_PAGE / 8], sum = 0;

	for (uint64_t at = gpa; at < gpa + bytes; at += PAIR_PAGE) {
		expect_ok(impost_vm_context(vm),
			  impost_memory_read(impost_vm_memory(vm), at, words, PAIR_PAGE));
		for (size_t i = 0; i < PAIR_PAGE / 8; i++)
			sum = (sum ^ words[i]) * UINT64_C(0x100000001b3);
	}
	return sum;
}

/* The destination has had the source's memory in its hands, and has not touched it. */
static uint64_t meet_local(struct pair *pair, struct fault fault)
{
	uint64_t sum = sum_of(pair->vm, 0, pair->setup.bytes), bytes;
	uint32_t silence_ms = pair->setup.source.silence_ms;
	enum pair_end ended;

	relays.fault = fault;
	pair_migrate(pair);
	bytes = relays_end(&relays, FAULT_SOURCE);
	ended = fault.kind == FAULT_FLIP ? pair_judge_owner(pair) : pair_judge(pair);
	cr_assert(fault.kind != FAULT_NONE || ended == PAIR_MOVED, "without a fault: %s; %s",
		  pair->sent_text, pair->received_text);
	cr_assert_eq(sum_of(pair->vm, 0, pair->setup.bytes), sum);
	pair_forget(pair);
	if (pair->received == 0) {
		pair_close(pair);
		open_local(pair, silence_ms);
	}
	return bytes;
}

static void meet_local_everywhere(enum fault_kind kind)
{
	struct leftovers before;
	struct pair pair;
	uint64_t bytes;

	open_local(&pair, PAIR_LONG_MS);
	bytes = meet_local(&pair, (struct fault){.kind = FAULT_NONE});
	set_silence(&pair, SILENCE_MS);
	before = count_leftovers(folder);
	/* What is inside of Config and State is cut above. */
	for (uint64_t at = 0; at < bytes; at += at % 1024 < 32 || at + 64 > bytes ? 1 : 23) {
		meet_local(&pair,
			   (struct fault){kind, FAULT_SOURCE, at, flips[at % sizeof(flips)]});
		expect_leftovers(before, folder);
	}
	pair_close(&pair);
}

Test(migrate_cut, where_memory_is_handed_over)
{
	meet_local_everywhere(FAULT_CUT_READER);
}

Test(migrate_cut, a_byte_changes_where_memory_is_handed_over)
{
	meet_local_everywhere(FAULT_FLIP);
}

/* --- a long one --- */

#define LONG_BYTES	(UINT64_C(4) << 20)
#define PLACES		100u
#define LONG_SILENCE_MS 200u

/* Several passes, while two vCPUs write. */
static void open_long(struct pair *pair, uint32_t connections, uint32_t silence_ms)
{
	pair_open(pair, &(struct pair_setup){
				.cpus = 2,
				.bytes = LONG_BYTES,
				.kind = IMPOST_REGION_MEMFD,
				.wire = relay_wire,
				.source = {.flags = IMPOST_MIGRATION_FINISH,
					   .connections = connections,
					   .downtime_ms = 1,
					   .passes = 4,
					   .silence_ms = silence_ms},
				.destination = {.connections = connections,
						.silence_ms = silence_ms,
						.memory_max = 2 * LONG_BYTES},
				.opaque = &relays,
			});
	pair_start_guests(pair);
}

/* One migration with FAULT on connection WHICH. Returns how many bytes SIDE said there. */
static uint64_t meet_long(struct pair *pair, uint32_t which, struct fault fault)
{
	uint32_t connections = pair->setup.source.connections;
	uint32_t silence_ms = pair->setup.source.silence_ms;
	enum pair_end ended;
	uint64_t bytes;

	relays.fault = fault;
	relays.which = which;
	pair_migrate(pair);
	bytes = relays_end(&relays, fault.side);
	ended = fault.kind == FAULT_FLIP ? pair_judge_owner(pair) : pair_judge(pair);
	cr_assert(fault.kind != FAULT_NONE || ended == PAIR_MOVED, "without a fault: %s; %s",
		  pair->sent_text, pair->received_text);
	pair_forget(pair);
	if (pair->received == 0) {
		pair_close(pair);
		open_long(pair, connections, silence_ms);
	}
	return bytes;
}

/* At PLACES random bytes of one of CONNECTIONS. */
static void meet_at_random(uint32_t connections, bool tcp, enum fault_kind kind, uint64_t seed)
{
	uint64_t bytes, state = seed;
	struct leftovers before;
	struct pair pair;

	relays.tcp = tcp;
	open_long(&pair, connections, PAIR_LONG_MS);
	bytes = meet_long(&pair, 0, (struct fault){.kind = FAULT_NONE});
	set_silence(&pair, LONG_SILENCE_MS);
	before = count_leftovers(folder);
	for (uint32_t i = 0; i < PLACES; i++) {
		enum fault_side side = random_below(&state, 8) ? FAULT_SOURCE : FAULT_DESTINATION;
		uint32_t most = side == FAULT_SOURCE ? (uint32_t)bytes : 400;

		meet_long(&pair, random_below(&state, connections),
			  (struct fault){kind, side, random_below(&state, most),
					 flips[i % sizeof(flips)]});
		expect_leftovers(before, folder);
	}
	pair_close(&pair);
}

Test(migrate_cut, a_long_one_over_unix)
{
	meet_at_random(1, false, FAULT_CUT_READER, 11);
}

Test(migrate_cut, a_long_one_over_tcp)
{
	meet_at_random(1, true, FAULT_CUT_READER, 12);
}

Test(migrate_cut, a_long_one_over_several)
{
	meet_at_random(4, true, FAULT_CUT_READER, 13);
}

Test(migrate_cut, a_byte_of_a_long_one_changes)
{
	meet_at_random(1, false, FAULT_FLIP, 14);
}

Test(migrate_cut, a_byte_of_several_changes)
{
	meet_at_random(3, false, FAULT_FLIP, 15);
}

/* --- the VM goes first --- */

#define LATE_SILENCE_MS 300u

/* All memory is written when the state is about to be read, so that all of it is left. */
static int dirty_when_held(void *opaque, const struct impost_migration_status *status)
{
	struct pair *pair = opaque;

	for (uint64_t at = 0; status->state == IMPOST_MIGRATION_HELD && at < pair->setup.bytes;
	     at += PAIR_PAGE)
		pair_write_page(pair->vm, at, 3);
	return 0;
}

/* Its state takes longer than copying may. */
static void open_late(struct pair *pair, uint32_t silence_ms)
{
	relays.tcp = false;
	pair_open(pair, &(struct pair_setup){
				.bytes = 4 * PAIR_PAGE,
				.wire = relay_wire,
				.source = {.features = IMPOST_MIGRATION_FEATURES,
					   .progress = dirty_when_held,
					   .timeout_ms = 1,
					   .silence_ms = silence_ms},
				.destination = {.features = IMPOST_MIGRATION_FEATURES,
						.silence_ms = silence_ms},
				.opaque = &relays,
			});
	pair->device.save_ns = 2000000;
}

/*
 * One migration with FAULT on its first connection; others can take its place. Whose the VM is, is
 * as ever: and if the source knows that it is the destination's, all of its memory gets there.
 * Where the Ok to Complete was lost there is nobody who would send the rest. Returns how many bytes
 * SIDE has said; 0: there is no post-copy here.
 */
static uint64_t meet_late(struct pair *pair, struct fault fault)
{
	struct impost_migration_status status = {.size = sizeof(status)};
	uint32_t silence_ms = pair->setup.source.silence_ms;
	enum pair_end ended;
	uint64_t bytes;
	int there = 0;

	relays.fault = fault;
	relays.which = 0;
	pair_migrate(pair);
	if (pair->received == 0)
		there = impost_migration_wait(pair->receiving);
	bytes = relays_end(&relays, fault.side);
	ended = there ? pair_judge_owner(pair) : pair_judge(pair);
	cr_assert(fault.kind != FAULT_NONE || ended == PAIR_MOVED, "without a fault: %s; %s",
		  pair->sent_text, pair->received_text);
	cr_assert(there == 0 || (there == -EIO && ended == PAIR_UNSETTLED), "at %zu: %d, %d",
		  (size_t)fault.at, there, ended);
	expect_ok(pair->source_ctx, impost_migration_status(pair->sending, &status));
	pair_forget(pair);
	if (pair->received == 0) {
		pair_close(pair);
		open_late(pair, silence_ms);
	}
	return status.features & IMPOST_MIGRATION_POSTCOPY ? bytes : 0;
}

static void meet_late_everywhere(enum fault_side side)
{
	struct leftovers before;
	struct pair pair;
	uint64_t bytes;

	open_late(&pair, PAIR_LONG_MS);
	bytes = meet_late(&pair, (struct fault){.kind = FAULT_NONE, .side = side});
	set_silence(&pair, LATE_SILENCE_MS);
	before = count_leftovers(folder);
	/* Before State it is as any other; behind it are a few heads, and the pages that are left.
	 */
	for (uint64_t at = bytes > 5 * PAIR_PAGE ? bytes - 5 * PAIR_PAGE : 0; at < bytes;
	     at += side == FAULT_DESTINATION || at + 64 > bytes ? 1 : 61) {
		meet_late(&pair, (struct fault){FAULT_CUT_READER, side, at, 0});
		expect_leftovers(before, folder);
	}
	pair_close(&pair);
	if (bytes == 0) {
		fprintf(stderr, "# skipped: there is no post-copy here\n");
		cr_skip_test("there is no post-copy here");
	}
}

Test(migrate_cut, where_the_source_of_a_late_memory_is_cut)
{
	meet_late_everywhere(FAULT_SOURCE);
}

Test(migrate_cut, where_the_destination_of_a_late_memory_is_cut)
{
	meet_late_everywhere(FAULT_DESTINATION);
}
