/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers over the mock while everybody is at work: vCPUs that play, threads that kick, hold, send
 * interrupts and read the dirty log, one that changes the faults and one that reads the counts. No
 * call is lost, each fault is told of, and what was recorded meanwhile replays. A plain program
 * (plain.h).
 *
 * Usage: layers PLUGIN-DIR
 */
#include <inttypes.h>
#include <string.h>

#include <impost/fault.h>
#include <impost/trace.h>

#include <cassette.h>

#include "plain.h"

#define CPUS	3u
#define RUNS	1500u /* accesses of each vCPU */
#define ROUNDS	150u  /* of each thread beside them */
#define RAM	UINT64_C(0x100000)
#define WORDS	(RAM / IMPOST_PAGE_SIZE / 64)
#define LINE	4u
#define LONG_MS 20000u

/* What the host counts, of each call that a layer counts too. */
enum { CALL_RUN, CALL_LINE, CALL_FETCH, CALLS };

static const char *const names[CALLS] = {"vcpu.run", "vm.irq_line", "vm.dirty_fetch"};

struct host {
	struct impost_context *outer;
	struct impost_vm *vm;
	struct impost_vcpu *cpu[CPUS];
	const struct impost_trace_control *trace;
	const struct impost_fault_control *fault; /* NULL: there is none */
	void *trace_handle, *fault_handle;
	atomic_uint_fast64_t called[CALLS], failed[CALLS];
	atomic_uint_fast64_t kicks, exits[CPUS];
	atomic_uint ended; /* vCPUs that have come to the end of what they play */
	atomic_bool over;
};

static const char *plugin_dir;
static char tape[] = "/tmp/impost-layers-XXXXXX";

/* --- machines --- */

/* A guest that writes a page and reads a port; each answer is the one that it expects. */
static void write_script(int fd)
{
	for (uint32_t id = 0; id < CPUS; id++)
		dprintf(fd,
			"[vcpu %u]\nrepeat = %u\nwrite = 0x%x %02x %02x\nin = 0x%x 1 expect 0x%x\n"
			"end =\nhlt =\n",
			id, RUNS, 0x10000 * (id + 1), id + 1, id + 2, 0x60 + id, 0x40 + id);
}

static void set(const char *section, const char *key, const char *value)
{
	CHECK(impost_context_set(ctx, section, key, value) == 0);
}

static void make_cpus(struct host *h)
{
	const struct impost_x86_runstate running = {sizeof(running), IMPOST_X86_RUNNING};

	for (uint32_t id = 0; id < CPUS; id++) {
		CHECK(impost_vcpu_create(h->vm, id, &h->cpu[id]) == 0);
		CHECK(impost_vcpu_set(h->cpu[id], IMPOST_SECTION_RUNSTATE, &running,
				      sizeof(running)) == 0);
	}
}

static void find_controls(struct host *h)
{
	const void *table;

	CHECK(impost_vm_extension(h->vm, IMPOST_TRACE, &table, &h->trace_handle) == 0);
	h->trace = table;
	if (impost_vm_extension(h->vm, IMPOST_FAULT, &table, &h->fault_handle) == 0)
		h->fault = table;
}

/* The guest of the script, or the one of the cassette if REPLAY, under LAYERS. */
static void make(struct host *h, const char *layers, bool replay)
{
	const struct impost_region ram = {.size = sizeof(ram), .bytes = RAM};
	struct impost_vm_config config;
	char script[] = "/tmp/impost-script-XXXXXX";
	int fd = mkstemp(script);

	memset(h, 0, sizeof(*h));
	h->outer = ctx;
	if (fd < 0 || open_context("layers", plugin_dir, "mock"))
		exit(2);
	write_script(fd);
	set("backend.mock", "check_entry", "no");
	set("backend.mock", replay ? "cassette" : "script", replay ? tape : script);
	CHECK(impost_vm_config_init(ctx, &config) == 0);
	config.cpus = CPUS;
	config.layers = layers;
	CHECK(impost_vm_create(ctx, &config, &h->vm) == 0);
	close(fd);
	unlink(script);
	if (!h->vm)
		exit(2);
	find_controls(h);
	CHECK(impost_memory_add(impost_vm_memory(h->vm), &ram) == 0);
	make_cpus(h);
	CHECK(impost_vm_dirty_start(h->vm, 0) == 0);
}

static void destroy_cpus(struct host *h)
{
	for (uint32_t id = 0; id < CPUS; id++)
		CHECK(impost_vcpu_destroy(h->cpu[id]) == 0);
}

static void end(struct host *h)
{
	CHECK(impost_vm_destroy(h->vm) == 0);
	CHECK(impost_context_close(ctx) == 0);
	ctx = h->outer;
}

/* --- counting --- */

/* Counts a CALL that came to ERR: a fault, which is told of, is the only one that there may be. */
static void tally(struct host *h, unsigned call, int err)
{
	atomic_fetch_add(&h->called[call], 1);
	if (!err)
		return;
	atomic_fetch_add(&h->failed[call], 1);
	CHECK(h->fault && strstr(impost_error(ctx), "layer fault: "));
	CHECK(strstr(impost_error(ctx), names[call]));
}

static struct impost_trace_op traced(const struct host *h, const char *name)
{
	struct impost_trace_op op = {.size = sizeof(op)};
	uint32_t i = 0;
	int err;

	do
		err = h->trace->op(h->trace_handle, i++, &op);
	while (!err && strcmp(op.name, name) != 0);
	CHECK(!err);
	return op;
}

static uint64_t traced_exits(const struct host *h, uint32_t kind)
{
	uint64_t count = 0;

	CHECK(h->trace->exits(h->trace_handle, kind, &count) == 0);
	return count;
}

static uint64_t sum_exits(struct host *h)
{
	uint64_t sum = 0;

	for (uint32_t id = 0; id < CPUS; id++)
		sum += atomic_load(&h->exits[id]);
	return sum;
}

/* What TRACE counted is what the host called; if it stands BELOW the faults, without those. */
static void check_counts(struct host *h, bool below)
{
	struct impost_trace_op op = traced(h, "vcpu.run");

	CHECK(sum_exits(h) == CPUS * RUNS);
	CHECK(traced_exits(h, IMPOST_EXIT_IO) == CPUS * RUNS);
	CHECK(op.calls - op.failed == CPUS * (RUNS + 1) + traced_exits(h, IMPOST_EXIT_INTR));
	CHECK(op.failed == (below ? 0 : atomic_load(&h->failed[CALL_RUN])));
	for (unsigned call = CALL_LINE; call < CALLS; call++) {
		uint64_t called = atomic_load(&h->called[call]);
		uint64_t lost = atomic_load(&h->failed[call]);

		op = traced(h, names[call]);
		CHECK(op.calls == (below ? called - lost : called));
		CHECK(op.failed == (below ? 0 : lost));
	}
	CHECK(traced(h, "vcpu.kick").calls >= atomic_load(&h->kicks));
}

/* --- what the threads do --- */

struct of {
	struct host *h;
	uint32_t id;
};

static void *run_cpu(void *arg)
{
	const struct of *of = arg;
	struct host *h = of->h;
	struct impost_exit exit;

	for (;;) {
		int err = impost_vcpu_run(h->cpu[of->id], &exit);

		tally(h, CALL_RUN, err);
		if (atomic_load(&failed))
			break;
		if (err || exit.kind == IMPOST_EXIT_INTR)
			continue;
		if (exit.kind == IMPOST_EXIT_HLT)
			break;
		CHECK(exit.kind == IMPOST_EXIT_IO && exit.u.io.port == 0x60 + of->id);
		if (exit.kind != IMPOST_EXIT_IO)
			break;
		*(uint8_t *)exit.u.io.data = (uint8_t)(0x40 + of->id);
		atomic_fetch_add(&h->exits[of->id], 1);
	}
	atomic_fetch_add(&h->ended, 1);
	return NULL;
}

static void raise_lines(struct host *h, unsigned i)
{
	(void)i;
	tally(h, CALL_LINE, impost_vm_irq_line(h->vm, LINE, 1));
}

static void fetch(struct host *h, unsigned i)
{
	uint64_t words[WORDS] = {0};

	(void)i;
	tally(h, CALL_FETCH, impost_vm_dirty_fetch(h->vm, 0, words, WORDS));
	/* Pages 16, 32 and 48 are all that guests write. */
	for (size_t word = 0; word < WORDS; word++)
		CHECK((words[word] & ~(word ? 0 : UINT64_C(0x0001000100010000))) == 0);
}

static void kick(struct host *h, unsigned i)
{
	CHECK(impost_vcpu_kick(h->cpu[i % CPUS]) == 0);
	atomic_fetch_add(&h->kicks, 1);
}

/* Nobody is inside then: the host and the layer have counted the same. */
static void hold(struct host *h, unsigned i)
{
	if (i % 4)
		return;
	CHECK(impost_vm_hold(h->vm, LONG_MS) == 0);
	CHECK(traced_exits(h, IMPOST_EXIT_IO) == sum_exits(h));
	CHECK(impost_vm_release(h->vm) == 0);
}

/* Wrong ones leave things as they are. */
static void change_faults(struct host *h, unsigned i)
{
	static const char *const rules[] = {
		"run~0.05=EIO irq_line~0.1=EAGAIN+100us",
		"dirty_fetch~0.2=ENOMEM run~0.01+200us",
		"",
		"kick~0.1+50us irq_line~0.5 run#7=EINTR",
		"complete+20us pause+100us dirty_fetch#3=EDIVERGED",
	};
	struct impost_fault_counts counts = {.size = sizeof(counts)};

	if (!h->fault)
		return;
	CHECK(h->fault->set(h->fault_handle, rules[i % (sizeof(rules) / sizeof(rules[0]))], i) ==
	      0);
	CHECK(h->fault->set(h->fault_handle, "no_such_operation", 0) == -EINVAL);
	CHECK(h->fault->counts(h->fault_handle, &counts) == 0);
	CHECK((counts.failed == 0 || counts.last) && counts.failed <= counts.calls);
}

static void (*const works[])(struct host *h, unsigned i) = {raise_lines, fetch, kick, hold,
							    change_faults};
#define WORKS (sizeof(works) / sizeof(works[0]))

struct work {
	struct host *h;
	void (*fn)(struct host *h, unsigned i);
};

static void *work(void *arg)
{
	const struct work *w = arg;

	for (unsigned i = 0; i < ROUNDS && !atomic_load(&failed); i++) {
		w->fn(w->h, i);
		usleep(200);
	}
	return NULL;
}

/* Counts never go back, while vCPUs run and when they are destroyed. */
static void *read_counts(void *arg)
{
	struct host *h = arg;
	uint64_t runs = 0, exits = 0;

	while (!atomic_load(&h->over)) {
		uint64_t now = traced(h, "vcpu.run").calls;
		uint64_t io = traced_exits(h, IMPOST_EXIT_IO);

		CHECK(now >= runs && io >= exits);
		runs = now;
		exits = io;
		usleep(200);
	}
	return NULL;
}

/* --- all of them at once --- */

static void do_works(struct host *h)
{
	struct work w[WORKS];
	pthread_t thread[WORKS];

	for (size_t i = 0; i < WORKS; i++) {
		w[i] = (struct work){h, works[i]};
		start(&thread[i], work, &w[i]);
	}
	for (size_t i = 0; i < WORKS; i++)
		pthread_join(thread[i], NULL);
}

/* Until each vCPU has come to the end of what it plays, while BESIDE is done. */
static void run_all(struct host *h, void (*beside)(struct host *h))
{
	pthread_t thread[CPUS], reader;
	struct of of[CPUS];

	start(&reader, read_counts, h);
	for (uint32_t id = 0; id < CPUS; id++) {
		of[id] = (struct of){h, id};
		start(&thread[id], run_cpu, &of[id]);
	}
	beside(h);
	if (h->fault)
		CHECK(h->fault->set(h->fault_handle, "", 0) == 0);
	for (uint32_t id = 0; id < CPUS; id++)
		pthread_join(thread[id], NULL);
	destroy_cpus(h);
	atomic_store(&h->over, true);
	pthread_join(reader, NULL);
}

static void storm(const char *layers, bool below)
{
	struct host h;

	make(&h, layers, false);
	run_all(&h, do_works);
	check_counts(&h, below);
	printf("# %s: %" PRIuFAST64 " runs failed, %" PRIuFAST64 " lines, %" PRIuFAST64
	       " fetches\n",
	       layers, atomic_load(&h.failed[CALL_RUN]), atomic_load(&h.failed[CALL_LINE]),
	       atomic_load(&h.failed[CALL_FETCH]));
	end(&h);
}

static void trace_over_fault(void)
{
	storm("trace, fault", false);
}

static void fault_over_trace(void)
{
	storm("fault, trace", true);
}

static void deep(void)
{
	storm("trace, fault, trace, fault, trace", false);
}

/* --- with a recording --- */

/* Interrupts that came to what is recorded. */
static uint64_t recorded_lines;

/* The runs that the cassette has; -1: it is not whole. */
static int64_t count_recorded(void)
{
	const struct cassette_item *item;
	struct cassette_reader *reader;
	char why[256] = "";
	int64_t runs = 0;

	if (cassette_reader_open(tape, &reader, why, sizeof(why))) {
		printf("# %s\n", why);
		return -1;
	}
	for (;; cassette_reader_next(reader)) {
		int err = cassette_reader_peek(reader, &item);

		if (err || item->kind == CASSETTE_CUT)
			runs = -1;
		if (runs < 0 || item->kind == CASSETTE_END)
			break;
		runs += item->kind == CASSETTE_CALL && item->op == CASSETTE_RUN;
	}
	cassette_reader_close(reader);
	return runs;
}

/* Kicks come as long as it takes: an INTR that is recorded waits for one. */
static void *kick_on(void *arg)
{
	struct host *h = arg;

	while (atomic_load(&h->ended) < CPUS) {
		for (uint32_t id = 0; id < CPUS; id++)
			CHECK(impost_vcpu_kick(h->cpu[id]) == 0);
		usleep(200);
	}
	return NULL;
}

static void do_replay(struct host *h)
{
	pthread_t kicker;

	start(&kicker, kick_on, h);
	for (uint64_t i = 0; i < recorded_lines && !atomic_load(&failed); i++)
		CHECK(impost_vm_irq_line(h->vm, LINE, 1) == 0);
	pthread_join(kicker, NULL);
}

static void do_record(struct host *h)
{
	struct work w[] = {
		{h, raise_lines}, {h, fetch}, {h, kick}, {h, change_faults}}; /* no holds */
	pthread_t thread[sizeof(w) / sizeof(w[0])];

	for (size_t i = 0; i < sizeof(w) / sizeof(w[0]); i++)
		start(&thread[i], work, &w[i]);
	for (size_t i = 0; i < sizeof(w) / sizeof(w[0]); i++)
		pthread_join(thread[i], NULL);
}

static void replay(void)
{
	struct impost_mock_cassette_status status = {.size = sizeof(status)};
	const struct impost_mock_cassette *cassette;
	const void *table;
	struct host h;
	void *handle;

	make(&h, "trace", true);
	run_all(&h, do_replay);
	CHECK(traced_exits(&h, IMPOST_EXIT_IO) == CPUS * RUNS);
	CHECK(impost_vm_extension(h.vm, IMPOST_MOCK_CASSETTE, &table, &handle) == 0);
	cassette = table;
	CHECK(cassette->status(handle, &status) == 0);
	if (status.error)
		printf("# %s\n", status.text);
	CHECK(status.error == 0 && status.ended == 1);
	end(&h);
}

/* Records what is done by BESIDE, with layers BEFORE and AFTER the one that records. */
static void record(const char *before, const char *after, void (*beside)(struct host *h))
{
	char layers[128];
	struct host h;

	snprintf(layers, sizeof(layers), "%srecord:%s%s", before, tape, after);
	make(&h, layers, false);
	run_all(&h, beside);
	CHECK(sum_exits(&h) == CPUS * RUNS);
	recorded_lines = atomic_load(&h.called[CALL_LINE]) - atomic_load(&h.failed[CALL_LINE]);
	end(&h);
	CHECK(count_recorded() >= CPUS * (RUNS + 1));
}

static void record_below_faults(void)
{
	record("trace, fault, ", "", do_record);
	replay();
}

static void record_over_trace(void)
{
	record("", ", trace", do_record);
	replay();
}

static void record_between(void)
{
	record("trace, ", ", trace", do_record);
	replay();
}

/* A hold stops each vCPU where it is just then: not at the same place when it is replayed. */
static void record_holds(void)
{
	record("trace, fault, ", "", do_works);
	record("", ", trace", do_works);
}

/* --- one fault, and several threads --- */

#define LINES 400u
#define NTH   700u

static void *send_lines(void *arg)
{
	struct host *h = arg;

	for (unsigned i = 0; i < LINES; i++)
		tally(h, CALL_LINE, impost_vm_irq_line(h->vm, LINE, i & 1));
	return NULL;
}

/* Of all that threads call at once one call is the seven hundredth. */
static void numbered(void)
{
	struct impost_fault_counts counts = {.size = sizeof(counts)};
	pthread_t thread[CPUS];
	char rule[32];
	struct host h;

	make(&h, "trace, fault", false);
	snprintf(rule, sizeof(rule), "irq_line#%u=EBUSY", NTH);
	CHECK(h.fault->set(h.fault_handle, rule, 0) == 0);
	for (uint32_t i = 0; i < CPUS; i++)
		start(&thread[i], send_lines, &h);
	for (uint32_t i = 0; i < CPUS; i++)
		pthread_join(thread[i], NULL);
	CHECK(h.fault->counts(h.fault_handle, &counts) == 0);
	CHECK(counts.calls == CPUS * LINES && counts.failed == 1);
	CHECK(strcmp(counts.last, "vm.irq_line") == 0);
	CHECK(atomic_load(&h.failed[CALL_LINE]) == 1);
	CHECK(traced(&h, "vm.irq_line").calls == CPUS * LINES);
	destroy_cpus(&h);
	end(&h);
}

static const struct test tests[] = {
	{"trace over fault: all calls are counted", trace_over_fault, NULL},
	{"fault over trace: all but those that failed are", fault_over_trace, NULL},
	{"five layers", deep, NULL},
	{"a rule's number is that of one call", numbered, NULL},
	{"what is recorded below faults replays", record_below_faults, NULL},
	{"what is recorded over trace replays", record_over_trace, NULL},
	{"what is recorded between two replays", record_between, NULL},
	{"what is recorded with holds is whole", record_holds, NULL},
};

int main(int argc, char **argv)
{
	int fd, status;

	if (argc != 2) {
		fprintf(stderr, "usage: layers PLUGIN-DIR\n");
		return 1;
	}
	plugin_dir = argv[1];
	fd = mkstemp(tape);
	if (fd < 0 || open_context("layers", plugin_dir, "mock"))
		return 1;
	close(fd);
	status = run_tests(tests, sizeof(tests) / sizeof(tests[0]), "mock");
	unlink(tape);
	return status;
}
