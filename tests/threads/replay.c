/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cassette of several vCPUs, each on its thread: calls come in the recorded order whatever the
 * threads do, while the host reads memory and the dirty log, and holds the VM.
 *
 * Usage: replay PLUGIN-DIR
 */
#include <string.h>

#include "plain.h"

#include "../unit/cassette_tape.h"

#define CPUS  3u
#define RUNS  1500u /* of each vCPU */
#define LINES 7u    /* after so many exits a vCPU's thread sends an interrupt */
#define HOLDS 3
#define RAM   UINT64_C(0x100000)

static char path[] = "/tmp/impost-replay-XXXXXX";
static struct impost_vm *vm;
static struct impost_vcpu *cpu[CPUS];
static atomic_uint exits[CPUS];
static atomic_bool stop, over;

static uint8_t answer_of(uint32_t id, uint32_t run)
{
	return (uint8_t)(id * 85 + run * 7);
}

/* --- the cassette --- */

struct script {
	uint32_t run;	 /* that comes next */
	bool line;	 /* an interrupt is to come first */
	uint8_t answers; /* the byte that answers the last exit */
	struct impost_exit last;
};

static void write_counter(struct tape *t, uint32_t id, uint64_t value)
{
	cassette_pieces_begin(&t->pieces);
	cassette_pieces_data(&t->pieces, (uint64_t)id * 4096 + 64, &value, sizeof(value));
	tape_note(t, cassette_write_memory(t->writer, &t->pieces));
}

/* What vCPU ID does next. Its last run ends with the INTR of a kick. */
static void write_event(struct tape *t, uint32_t id, struct script *s)
{
	struct impost_exit exit;

	if (s->line) {
		cassette_args_irq_line(tape_args(t), id, s->run & 1);
		tape_vm(t, CASSETTE_IRQ_LINE);
		s->line = false;
		return;
	}
	exit = s->run < RUNS ? tape_in((uint16_t)(0x100 + id), &s->answers)
			     : tape_plain(IMPOST_EXIT_INTR);
	tape_run(t, id, s->run ? &s->last : NULL, &exit, 1);
	write_counter(t, id, s->run);
	s->last = exit;
	s->answers = answer_of(id, s->run++);
	s->line = s->run < RUNS && s->run % LINES == 0;
}

static void write_setup(struct tape *t)
{
	const struct impost_vm_args args = {.max_vcpus = CPUS, .irqchip = IMPOST_IRQCHIP_FULL};
	const struct impost_slot slot = {.bytes = RAM, .hva = path, .fd = -1};

	cassette_args_vm_create(tape_args(t), &args);
	tape_vm(t, CASSETTE_VM_CREATE);
	cassette_args_slot(tape_args(t), &slot);
	tape_vm(t, CASSETTE_MEM_ADD);
	for (uint32_t id = 0; id < CPUS; id++) {
		cassette_args_vcpu_create(tape_args(t), id);
		tape_vm(t, CASSETTE_VCPU_CREATE);
	}
}

static int write_tape(void)
{
	struct script scripts[CPUS] = {{0}};
	uint64_t random = 88172645463325252;
	struct tape t;

	tape_open(&t, path);
	write_setup(&t);
	for (uint32_t left = CPUS; left;) {
		uint32_t id;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		id = (uint32_t)(random % CPUS);
		if (scripts[id].run > RUNS)
			continue;
		write_event(&t, id, &scripts[id]);
		left -= scripts[id].run > RUNS;
	}
	for (uint32_t id = 0; id < CPUS; id++) {
		tape_args(&t);
		tape_call(&t, id, CASSETTE_VCPU_DESTROY, 0, NULL, 0);
	}
	tape_args(&t);
	tape_vm(&t, CASSETTE_VM_DESTROY);
	tape_close(&t);
	return t.err;
}

/* --- the host --- */

static void check_counter(uint32_t id, uint64_t run)
{
	uint64_t value = 0;

	CHECK(impost_memory_read(impost_vm_memory(vm), (uint64_t)id * 4096 + 64, &value, 8) == 0);
	CHECK(value == run);
}

static void *run_cpu(void *opaque)
{
	uint32_t id = (uint32_t)(uintptr_t)opaque, runs = 0;
	struct impost_exit exit;

	while (!atomic_load(&failed)) {
		CHECK(impost_vcpu_run(cpu[id], &exit) == 0);
		if (atomic_load(&failed))
			break;
		if (exit.kind == IMPOST_EXIT_INTR) {
			if (atomic_load(&stop))
				break;
			continue;
		}
		CHECK(exit.kind == IMPOST_EXIT_IO && exit.u.io.port == 0x100 + id);
		check_counter(id, runs);
		*(uint8_t *)exit.u.io.data = answer_of(id, runs++);
		if (runs < RUNS && runs % LINES == 0)
			CHECK(impost_vm_irq_line(vm, id, runs & 1) == 0);
		atomic_store(&exits[id], runs);
	}
	return NULL;
}

static void *read_memory(void *opaque)
{
	uint64_t words[RAM / 4096 / 64], value;

	(void)opaque;
	while (!atomic_load(&over)) {
		memset(words, 0, sizeof(words));
		CHECK(impost_vm_dirty_fetch(vm, 0, words, RAM / 4096 / 64) == 0);
		CHECK((words[0] & ~UINT64_C(7)) == 0);
		for (uint32_t id = 0; id < CPUS; id++)
			CHECK(impost_memory_read(impost_vm_memory(vm), (uint64_t)id * 4096 + 64,
						 &value, 8) == 0);
		usleep(1000);
	}
	return NULL;
}

static bool all_done(void)
{
	for (uint32_t id = 0; id < CPUS; id++)
		if (atomic_load(&exits[id]) < RUNS)
			return false;
	return true;
}

static void make(void)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = RAM};
	struct impost_vm_config config;

	CHECK(impost_context_set(ctx, "backend.mock", "cassette", path) == 0);
	CHECK(impost_vm_config_init(ctx, &config) == 0);
	config.cpus = CPUS;
	CHECK(impost_vm_create(ctx, &config, &vm) == 0);
	CHECK(impost_memory_add(impost_vm_memory(vm), &ram) == 0);
	for (uint32_t id = 0; id < CPUS; id++) {
		CHECK(impost_vcpu_create(vm, id, &cpu[id]) == 0);
		atomic_store(&exits[id], 0);
	}
	CHECK(impost_vm_dirty_start(vm, 0) == 0);
	atomic_store(&stop, false);
	atomic_store(&over, false);
}

static void end(void)
{
	struct impost_mock_cassette_status status = {.size = sizeof(status)};
	const struct impost_mock_cassette *cassette;
	const void *table;
	void *handle;

	for (uint32_t id = CPUS; id-- > 0;) /* another order than recorded */
		CHECK(impost_vcpu_destroy(cpu[id]) == 0);
	CHECK(impost_vm_extension(vm, IMPOST_MOCK_CASSETTE, &table, &handle) == 0);
	cassette = table;
	CHECK(cassette->status(handle, &status) == 0);
	if (status.error)
		printf("# %s\n", status.text);
	CHECK(status.error == 0 && status.left == 0 && status.ended == 1);
	CHECK(impost_vm_destroy(vm) == 0);
}

/*
 * A vCPU's thread may wait for the turn of its interrupt, with an exit in its hands, behind a vCPU
 * that the hold keeps out. Such a hold ends well before the patience of who waits does.
 */
static void hold(void)
{
	int err;

	do
		err = impost_vm_hold(vm, 1000);
	while (err == -ETIMEDOUT && !atomic_load(&failed));
	CHECK(err == 0);
}

static void play(int holds)
{
	pthread_t thread[CPUS], reader;

	make();
	if (atomic_load(&failed))
		return;
	start(&reader, read_memory, NULL);
	for (uintptr_t id = 0; id < CPUS; id++)
		start(&thread[id], run_cpu, (void *)id);
	for (int i = 0; i < holds; i++) {
		hold();
		CHECK(impost_vm_release(vm) == 0);
	}
	while (!all_done() && !atomic_load(&failed))
		usleep(1000);
	atomic_store(&stop, true);
	for (uint32_t id = 0; id < CPUS; id++)
		CHECK(impost_vcpu_kick(cpu[id]) == 0);
	for (uint32_t id = 0; id < CPUS; id++)
		pthread_join(thread[id], NULL);
	atomic_store(&over, true);
	pthread_join(reader, NULL);
	end();
}

static void in_the_recorded_order(void)
{
	play(0);
}

static void with_holds(void)
{
	play(HOLDS);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{"several vCPUs play in the recorded order", in_the_recorded_order, NULL},
		{"and so they do while the VM is held now and then", with_holds, NULL},
	};
	int fd, status;

	if (argc != 2 || open_context("replay", argv[1], "mock"))
		return 2;
	fd = mkstemp(path);
	if (fd < 0 || write_tape()) {
		perror(path);
		return 2;
	}
	close(fd);
	status = run_tests(tests, sizeof(tests) / sizeof(tests[0]), NULL);
	unlink(path);
	return status;
}
