/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `record` over the mock: what its cassettes have, and what it leaves as it is. */
#include "../dirty_model.h"
#include "mock.h"

#include <pthread.h>
#include <sys/stat.h>

#include <impost/cassette.h>

#include <cassette.h>

static char path[] = "/tmp/impost-record-XXXXXX";
static char layers[64];

static void begin(void)
{
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	snprintf(layers, sizeof(layers), "record:%s", path);
	mock_layers = layers;
}

static void end(void)
{
	unlink(path);
}

TestSuite(layer_record, .init = begin, .fini = end);

/* --- reading what was written --- */

/* Guest memory as a reader of the cassette has it. */
static uint8_t replica[MEMORY];

static int apply(void *opaque, uint64_t gpa, const void *data, uint64_t len)
{
	uint32_t *touched = opaque;

	cr_assert(gpa < MEMORY && len <= MEMORY - gpa);
	if (data)
		memcpy(replica + gpa, data, len);
	else
		memset(replica + gpa, 0, len);
	*touched += len == 0;
	return 0;
}

/* The checksums at the cursor are those of the replica. */
static void check_sums(const struct cassette_item *item)
{
	const struct cassette_memory memory = {0, MEMORY, replica};
	struct cassette_sum *sums;
	size_t count;

	cr_assert_eq(cassette_sum(&memory, 1, &sums, &count), 0);
	cr_assert_eq(item->nsums, count);
	for (size_t i = 0; i < count; i++) {
		cr_expect_eq(item->sums[i].gpa, sums[i].gpa);
		cr_expect_eq(item->sums[i].sum, sums[i].sum, "memory at %#llx",
			     (unsigned long long)sums[i].gpa);
	}
	free(sums);
}

struct found {
	uint32_t calls[CASSETTE_OPS];
	uint32_t sums, touched;
	char runs[4096]; /* arguments, results and error of each run and complete, a line each */
};

/* A line of a run or complete at the cursor. */
static void note_run(struct found *found, const struct cassette_item *item)
{
	size_t len = strlen(found->runs);
	char args[256], results[256];

	cassette_show(item->args, args, sizeof(args));
	cassette_show(item->results, results, sizeof(results));
	snprintf(found->runs + len, sizeof(found->runs) - len, "%u %s(%s) %s%s%d\n", item->lane,
		 cassette_op_name(item->op), args, results, *results ? " " : "", item->error);
}

/* Reads the whole cassette, whose memory begins as the replica. */
static struct found read_cassette(void)
{
	struct found found = {0};
	const struct cassette_item *item;
	struct cassette_reader *reader;
	char why[256] = "";

	cr_assert_eq(cassette_reader_open(path, &reader, why, sizeof(why)), 0, "%s", why);
	for (;; cassette_reader_next(reader)) {
		cr_assert_eq(cassette_reader_peek(reader, &item), 0, "%s",
			     cassette_reader_why(reader));
		cr_assert_neq(item->kind, CASSETTE_CUT, "%s", item->why);
		if (item->kind == CASSETTE_END)
			break;
		if (item->kind == CASSETTE_SUMS) {
			check_sums(item);
			found.sums++;
			continue;
		}
		found.calls[item->op]++;
		if (item->op == CASSETTE_RUN || item->op == CASSETTE_COMPLETE)
			note_run(&found, item);
		cr_assert_eq(cassette_reader_memory(reader, apply, &found.touched), 0);
	}
	cassette_reader_close(reader);
	return found;
}

/* Memory as it is now, before the guest has run, is what a replaying host would have filled. */
static void take_replica(struct mock *m)
{
	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), 0, replica, MEMORY), 0);
}

static void expect_replica(const uint8_t *memory)
{
	for (uint32_t page = 0; page < MEMORY / 4096; page++)
		cr_expect_arr_eq(replica + page * 4096, memory + page * 4096, 4096, "page %u",
				 page);
}

/* --- runs --- */

static const char script[] = "[vcpu 0]\n"
			     "write = 0x5000 de ad be ef\n"
			     "out = 0x3f8 1 0x41\n"
			     "write = 0x5ffc 01 02 03 04 05 06 07 08\n"
			     "in = 0x60 2\n"
			     "mmio-read = 0xfee00000 4\n"
			     "mmio-write = 0xfee00000 8 0x1122334455667788\n"
			     "write = 0x5000 00 00 00 00\n"
			     "hypercall = 7 1 2\n"
			     "outs = 0x3f8 \"text\"\n"
			     "shutdown = triple-fault\n";

static const char expected[] =
	"0 run() data 1 byte 41, exit 1, port 0x3f8, size 1 0\n"
	"0 run() exit 1, port 0x60, size 2 0\n"
	"0 run(answer 2 bytes 34 12) gpa 0xfee00000, exit 2, size 4 0\n"
	"0 run(answer 4 bytes 78 56 34 12) gpa 0xfee00000, data 8 bytes 88 77 66 55 44 33 22 11, "
	"exit 2, size 8 0\n"
	"0 run() args [1, 2, 0, 0, 0, 0], exit 6, long yes, number 7 0\n"
	"0 complete(result 0x55) exit 0 0\n"
	"0 run() data 4 bytes 74 65 78 74, exit 1, port 0x3f8, size 1, count 4 0\n"
	"0 run() code 0, exit 9, reason 1 0\n";

/* Plays the script, and keeps what is in memory at its end. KEY and VALUE: an option of the mock.
 */
static void play(const char *key, const char *value, uint8_t *memory)
{
	struct impost_exit x;
	struct mock m;

	mock_open_with(&m, script, IMPOST_IRQCHIP_FULL, 1, key, value);
	take_replica(&m);
	run_to(&m, IMPOST_EXIT_IO);
	x = run_to(&m, IMPOST_EXIT_IO);
	memcpy(x.u.io.data, "\x34\x12", 2);
	x = run_to(&m, IMPOST_EXIT_MMIO);
	memcpy(x.u.mmio.data, "\x78\x56\x34\x12", 4);
	run_to(&m, IMPOST_EXIT_MMIO);
	x = run_to(&m, IMPOST_EXIT_HYPERCALL);
	*x.u.hypercall.result = 0x55;
	cr_assert_eq(impost_vcpu_complete(m.cpu[0], &x), 0);
	cr_expect_eq(rax(&m), 0x55);
	run_to(&m, IMPOST_EXIT_IO);
	run_to(&m, IMPOST_EXIT_SHUTDOWN);
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), 0, memory, MEMORY), 0);
	mock_close(&m);
}

Test(layer_record, runs_answers_and_memory_are_written)
{
	static const char *const logs[] = {"manual", "auto"};
	static uint8_t memory[MEMORY];

	for (size_t i = 0; i < 2; i++) {
		struct found found;

		play("dirty_log", logs[i], memory);
		found = read_cassette();
		cr_expect_str_eq(found.runs, expected, "%s", found.runs);
		expect_replica(memory);
		/* Before the first run, at the shutdown, and at the vCPU's end. */
		cr_expect_eq(found.sums, 3);
		cr_expect_eq(found.calls[CASSETTE_VM_CREATE], 1);
		cr_expect_eq(found.calls[CASSETTE_MEM_ADD], 1);
		cr_expect_eq(found.calls[CASSETTE_VCPU_DESTROY], 1);
		cr_expect_eq(found.calls[CASSETTE_VM_DESTROY], 1);
	}
}

Test(layer_record, memory_may_be_written_at_the_end_alone_or_never)
{
	static uint8_t memory[MEMORY], start[MEMORY];
	struct found found;

	mock_memory = "end";
	play(NULL, NULL, memory);
	found = read_cassette();
	cr_expect_str_eq(found.runs, expected, "%s", found.runs);
	cr_expect_eq(found.sums, 3);
	expect_replica(memory);

	mock_memory = "none";
	play(NULL, NULL, memory);
	memcpy(start, replica, MEMORY);
	found = read_cassette();
	cr_expect_str_eq(found.runs, expected, "%s", found.runs);
	cr_expect_eq(found.sums, 1);
	expect_replica(start);
}

/* --- the dirty log --- */

static void guest_writes(void *arg, const uint64_t *gpa, uint32_t count)
{
	static uint8_t byte;
	const struct impost_mock_step halt = {
		.size = sizeof(halt),
		.op = IMPOST_MOCK_EXIT,
		.exit = {.size = sizeof(halt.exit), .kind = IMPOST_EXIT_HLT},
	};
	struct mock *m = arg;

	for (uint32_t i = 0; i < count; i++) {
		const struct impost_mock_step write = {.size = sizeof(write),
						       .op = IMPOST_MOCK_WRITE,
						       .gpa = gpa[i],
						       .bytes = 1,
						       .data = &byte};

		byte++;
		append(m, 0, &write, 1);
	}
	append(m, 0, &halt, 1);
	run_to(m, IMPOST_EXIT_HLT);
}

static void walk(const char *log, uint64_t seed)
{
	static struct model model;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 1, "dirty_log", log);
	cr_expect(!impost_caps_has(impost_vm_caps(m.vm), IMPOST_CAP_DIRTY_MANUAL));
	model = (struct model){
		.ctx = m.ctx,
		.memory = impost_vm_memory(m.vm),
		.guest_writes = guest_writes,
		.arg = &m,
		.rom = true,
		.backend = true,
		.seed = seed,
	};
	model_begin(&model);
	model_walk(&model, 700);
	model_end(&model);
	mock_close(&m);
}

Test(layer_record, the_host_has_a_dirty_log_of_its_own, .timeout = 60)
{
	walk("manual", 1);
	walk("auto", 2);
}

Test(layer_record, a_page_that_was_written_with_what_it_had_is_told_to_who_looks)
{
	static const uint8_t byte;
	const struct impost_mock_step write = {.size = sizeof(write),
					       .op = IMPOST_MOCK_WRITE,
					       .gpa = 0x9000,
					       .bytes = 1,
					       .data = &byte};
	const struct impost_mock_step hlt = {
		.size = sizeof(hlt), .op = IMPOST_MOCK_EXIT, .exit.kind = IMPOST_EXIT_HLT};
	uint64_t bitmap[MEMORY / 4096 / 64] = {0};
	struct mock m;

	mock_open(&m, NULL);
	take_replica(&m);
	append(&m, 0, &write, 1);
	append(&m, 0, &hlt, 1);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vm_dirty_start(m.vm, 0), 0, "%s", impost_error(m.ctx));
	cr_assert_eq(impost_vm_dirty_fetch(m.vm, 0, bitmap, 16), 0);
	cr_expect_eq(bitmap[0], 0);
	append(&m, 0, &write, 1);
	append(&m, 0, &hlt, 1);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vm_dirty_fetch(m.vm, 0, bitmap, 16), 0);
	cr_expect_eq(bitmap[0], 1u << 9);
	cr_assert_eq(impost_vm_dirty_stop(m.vm, 0), 0);
	mock_close(&m);
	cr_expect_eq(read_cassette().touched, 1);
}

/* --- kicks, and what is not recorded --- */

Test(layer_record, an_interruption_is_written_when_it_was_a_kick)
{
	struct impost_exit x;
	struct found found;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nin = 1 1\nhlt =\n");
	take_replica(&m);
	x = run_to(&m, IMPOST_EXIT_IO);
	*(uint8_t *)x.u.io.data = 7;
	/* A pause ends the run that takes the answer: it belongs to the next. */
	cr_assert_eq(impost_vm_pause(m.vm), 0);
	run_to(&m, IMPOST_EXIT_INTR);
	cr_assert_eq(impost_vm_resume(m.vm), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_kick(m.cpu[0]), 0);
	run_to(&m, IMPOST_EXIT_INTR);
	mock_close(&m);
	found = read_cassette();
	cr_expect_str_eq(found.runs, "0 run() exit 1, port 1, size 1 0\n"
				     "0 run(answer 1 byte 07) exit 5 0\n"
				     "0 run() exit 8 0\n");
}

Test(layer_record, errors_are_written_with_their_text)
{
	const struct impost_x86_msr msr = {.index = 0x1234567};
	const struct cassette_item *item;
	struct cassette_reader *reader;
	uint32_t done = 0;
	char why[256];
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_lt(impost_vcpu_set_msrs(m.cpu[0], &msr, 1, &done), 0);
	mock_close(&m);
	cr_assert_eq(cassette_reader_open(path, &reader, why, sizeof(why)), 0);
	do {
		cr_assert_eq(cassette_reader_peek(reader, &item), 0);
		cr_assert_eq(item->kind, CASSETTE_CALL);
		if (item->error)
			break;
		cassette_reader_next(reader);
	} while (1);
	cr_expect_eq(item->op, CASSETTE_MSRS_SET);
	cr_expect_not_null(strstr(item->text, "0x1234567"), "%s", item->text);
	cr_expect_eq(cassette_take_msrs_set(item->results, 1, &done), 0);
	cr_expect_eq(done, 0);
	cassette_reader_close(reader);
}

Test(layer_record, eventfds_are_refused_by_name)
{
	const struct impost_irqfd irqfd = {.size = sizeof(irqfd), .gsi = 4, .resample_fd = -1};
	struct mock m;

	mock_open(&m, NULL);
	cr_expect_eq(impost_vm_irqfd(m.vm, &irqfd), -ENOTSUP);
	cr_expect_not_null(strstr(impost_error(m.ctx), "irqfd"), "%s", impost_error(m.ctx));
	mock_close(&m);
}

Test(layer_record, memory_comes_and_goes)
{
	static uint8_t memory[MEMORY];
	struct impost_region more = {.size = sizeof(more), .gpa = MEMORY, .bytes = 0x10000};
	const uint8_t byte = 0x77;
	struct impost_mock_step write = {.size = sizeof(write),
					 .op = IMPOST_MOCK_WRITE,
					 .gpa = MEMORY,
					 .bytes = 1,
					 .data = &byte};
	const struct impost_mock_step hlt = {
		.size = sizeof(hlt), .op = IMPOST_MOCK_EXIT, .exit.kind = IMPOST_EXIT_HLT};
	struct found found;
	struct mock m;

	mock_open(&m, NULL);
	take_replica(&m);
	append(&m, 0, &hlt, 1);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_memory_add(impost_vm_memory(m.vm), &more), 0, "%s",
		     impost_error(m.ctx));
	cr_assert_eq(impost_memory_remove(impost_vm_memory(m.vm), MEMORY), 0, "%s",
		     impost_error(m.ctx));
	write.gpa = 0x7000;
	append(&m, 0, &write, 1);
	append(&m, 0, &hlt, 1);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), 0, memory, MEMORY), 0);
	mock_close(&m);
	found = read_cassette();
	cr_expect_eq(found.calls[CASSETTE_MEM_ADD], 2);
	cr_expect_eq(found.calls[CASSETTE_MEM_REMOVE], 1);
	cr_expect_eq(memory[0x7000], 0x77);
	expect_replica(memory);
}

/* --- the file --- */

static void expect_refused(int err, const char *what)
{
	struct mock m;

	cr_expect_eq(mock_try(&m, NULL, IMPOST_IRQCHIP_FULL, 1, NULL, NULL), err, "%s",
		     impost_error(m.ctx));
	cr_expect_not_null(strstr(impost_error(m.ctx), what), "%s", impost_error(m.ctx));
	cr_assert_eq(impost_context_close(m.ctx), 0);
}

Test(layer_record, a_file_that_cannot_be_written_is_refused)
{
	struct mock m;

	mock_layers = "record";
	expect_refused(-EINVAL, "no file to write");
	mock_layers = "record:/nowhere/at/all";
	expect_refused(-ENOENT, "/nowhere/at/all");
	mock_layers = layers;
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	expect_refused(-ENXIO, path);
	cr_assert_eq(unlink(path), 0);
	mock_open(&m, NULL);
	expect_refused(-EBUSY, path);
	mock_close(&m);
	cr_expect_eq(read_cassette().calls[CASSETTE_VM_CREATE], 1);
}

Test(layer_record, a_disk_that_becomes_full_stops_the_recording_alone)
{
	struct mock m;

	if (access("/dev/full", W_OK))
		cr_skip_test("there is no /dev/full");
	mock_layers = "record:/dev/full";
	expect_refused(-ENOSPC, "/dev/full");
	mock_layers = layers;
	mock_open(&m, "[vcpu 0]\nhlt =\nhlt =\n");
	run_to(&m, IMPOST_EXIT_HLT);
	run_to(&m, IMPOST_EXIT_HLT);
	mock_close(&m);
}

static int note(void *opaque, const char *section, const char *key, const char *value)
{
	snprintf(opaque, 64, "%s.%s=%s", section, key, value);
	return 0;
}

Test(layer_record, the_host_notes_what_its_machine_is)
{
	const struct impost_cassette *record;
	const void *table;
	char line[64] = "", why[256];
	struct mock m;
	void *handle;

	mock_open(&m, "[vcpu 0]\nhlt =\n");
	cr_assert_eq(impost_vm_extension(m.vm, IMPOST_CASSETTE, &table, &handle), 0);
	record = table;
	cr_expect_eq(record->host(handle, "vm", "cpus", "4"), 0);
	cr_expect_eq(record->host(handle, "vm", "cpus", "4\n[vm]"), -EINVAL);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_expect_eq(record->host(handle, "vm", "cpus", "5"), -EBUSY);
	cr_expect(strstr(impost_error(m.ctx), "[vm] cpus: the guest has run"), "%s",
		  impost_error(m.ctx));
	mock_close(&m);
	cr_assert_eq(cassette_read_host(path, note, line, why, sizeof(why)), 0, "%s", why);
	cr_expect_str_eq(line, "vm.cpus=4");
}

/* --- threads --- */

#define ROUNDS 300

static void *spin_lines(void *arg)
{
	struct mock *m = arg;

	for (int i = 0; i < ROUNDS; i++)
		impost_vm_irq_line(m->vm, 5, (uint32_t)i & 1);
	return NULL;
}

static void *run_all(void *arg)
{
	struct impost_exit x;

	for (int i = 0; i < ROUNDS; i++)
		if (impost_vcpu_run(arg, &x) || x.kind != IMPOST_EXIT_IO)
			return arg;
	return NULL;
}

Test(layer_record, vcpus_and_lines_are_written_in_one_order, .timeout = 60)
{
	static uint8_t memory[MEMORY];
	pthread_t threads[MOST];
	struct found found;
	struct mock m;
	void *failed;

	mock_open_with(&m,
		       "[vcpu 0]\nrepeat = 300\nwrite = 0x100000 01\nout = 1 1 1\nwrite = 0x100000 "
		       "02\nend =\n"
		       "[vcpu 1]\nrepeat = 300\nwrite = 0x101000 01\nout = 1 1 1\nwrite = 0x101008 "
		       "02\nend =\n"
		       "[vcpu 2]\nrepeat = 300\nwrite = 0x102000 01\nout = 1 1 1\nwrite = 0x100800 "
		       "02\nend =\n",
		       IMPOST_IRQCHIP_FULL, 3, NULL, NULL);
	take_replica(&m);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, run_all, m.cpu[i]), 0);
	cr_assert_eq(pthread_create(&threads[3], NULL, spin_lines, &m), 0);
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(pthread_join(threads[i], &failed), 0);
		cr_expect_null(failed);
	}
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), 0, memory, MEMORY), 0);
	mock_close(&m);
	found = read_cassette();
	cr_expect_eq(found.calls[CASSETTE_RUN], 3 * ROUNDS);
	cr_expect_eq(found.calls[CASSETTE_IRQ_LINE], ROUNDS);
	cr_expect_eq(found.sums, 2);
	expect_replica(memory);
}
