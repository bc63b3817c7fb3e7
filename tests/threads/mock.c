/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock's VM worked on by everybody at once: vCPUs that play, and threads that send interrupts,
 * move the clock and the memory, read the dirty log, append steps and pause. Then memory that is
 * taken away while a vCPU writes it. A plain program, as threads.c is.
 *
 * Usage: mock PLUGIN-DIR
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <impost/impost.h>
#include <impost/mock.h>

#define CPUS   3u
#define ROUNDS 300u
#define RAM    UINT64_C(0x100000)
#define WORDS  (RAM / 4096 / 64)

/* Of the host: no vCPU writes there. */
#define COUNTER UINT64_C(0x8000)

/* Memory that comes and goes. */
#define PASSING	      UINT64_C(0x200000)
#define PASSING_BYTES 0x4000u
#define VISITS	      200u
#define VISIT_WRITES  100u

static struct impost_context *ctx;
static struct impost_vm *vm;
static struct impost_vcpu *cpu[CPUS + 1]; /* the last one has nothing to play at first */
static const struct impost_mock_control *control;
static void *handle;
static int irqfd;
static atomic_uint failed, busy;

static void check(int ok, const char *what)
{
	if (ok)
		return;
	printf("# %s: %s\n", what, impost_error(ctx));
	atomic_store(&failed, 1);
}

/* --- what the threads do, a round of it at a time --- */

static void lines(unsigned i)
{
	check(!impost_vm_irq_line(vm, i % 24, 1), "irq_line");
	check(!impost_vm_irq_line(vm, i % 24, 0), "irq_line");
	check(!impost_vm_msi(vm, 0xfee00000 | (uint64_t)(i % CPUS) << 12, 0x30), "msi");
}

static void descriptors(unsigned i)
{
	struct impost_irqfd f = {.size = sizeof(f), .gsi = i % 24, .fd = irqfd, .resample_fd = -1};
	uint64_t one = 1;

	check(!impost_vm_irqfd(vm, &f), "irqfd");
	check(write(irqfd, &one, sizeof(one)) == sizeof(one), "write");
	f.remove = 1;
	check(!impost_vm_irqfd(vm, &f), "irqfd removal");
}

static void clocks(unsigned i)
{
	struct impost_x86_clock clock;
	struct impost_mock_irq irq;
	uint32_t size;

	check(!control->advance(handle, 1000), "advance");
	check(!impost_vm_get(vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock), &size), "clock");
	(void)control->irq(handle, i, &irq); /* there may be none yet */
}

static void dirty(unsigned i)
{
	uint64_t bitmap[WORDS] = {0};

	(void)i;
	check(!impost_vm_dirty_fetch(vm, 0, bitmap, WORDS), "dirty_fetch");
	check(!impost_vm_dirty_clear(vm, 0, 0, RAM / 4096, bitmap), "dirty_clear");
}

static void steps(unsigned i)
{
	static const uint8_t data[5000];
	const struct impost_mock_step write = {.size = sizeof(write),
					       .op = IMPOST_MOCK_WRITE,
					       .gpa = 0x10000 * (uint64_t)(1 + i % CPUS),
					       .bytes = sizeof(data),
					       .data = data};
	const struct impost_mock_step halt = {.size = sizeof(halt), .op = IMPOST_MOCK_HALT};
	uint64_t played;

	check(!control->append(handle, i % CPUS, (struct impost_mock_step[]){write, halt}, 2),
	      "append");
	check(!control->played(handle, i % CPUS, &played), "played");
}

static void pauses(unsigned i)
{
	(void)i;
	check(!impost_vm_pause(vm), "pause");
	check(!control->move(handle, 0), "move");
	check(!impost_vm_resume(vm), "resume");
}

/* What the host writes while memory moves is not lost. */
static void counts(unsigned i)
{
	uint32_t count;

	check(!impost_memory_read(impost_vm_memory(vm), COUNTER, &count, sizeof(count)), "read");
	check(count == i, "what was written before memory moved");
	count++;
	check(!impost_memory_write(impost_vm_memory(vm), COUNTER, &count, sizeof(count)), "write");
}

static void (*const works[])(unsigned i) = {lines, descriptors, clocks, dirty,
					    steps, pauses,	counts};
#define WORKS (sizeof(works) / sizeof(works[0]))

static void *work(void *arg)
{
	void (*const *fn)(unsigned i) = arg;
	unsigned i;

	for (i = 0; i < ROUNDS; i++)
		(*fn)(i);
	atomic_fetch_sub(&busy, 1);
	return NULL;
}

static void *play(void *arg)
{
	struct impost_exit exit;

	while (atomic_load(&busy)) {
		int err = impost_vcpu_run(arg, &exit);

		check(!err && exit.kind == IMPOST_EXIT_INTR, "run");
	}
	return NULL;
}

/* --- */

static int make(const char *plugins)
{
	struct impost_region ram = {
		.size = sizeof(ram), .kind = IMPOST_REGION_BACKEND, .bytes = RAM};
	struct impost_vm_config config;
	const void *table;
	uint32_t i;

	if (impost_context_open(NULL, NULL, &ctx) ||
	    impost_context_set(ctx, "impost", "plugin_dir", plugins) ||
	    impost_context_set(ctx, "backend.mock", "check_entry", "no") ||
	    impost_context_set(ctx, "backend.mock", "memory_moves", "yes") ||
	    impost_vm_config_init(ctx, &config))
		return -1;
	config.backend = "mock";
	config.cpus = CPUS + 1;
	if (impost_vm_create(ctx, &config, &vm) ||
	    impost_vm_extension(vm, IMPOST_MOCK_CONTROL, &table, &handle) ||
	    impost_memory_add(impost_vm_memory(vm), &ram) || impost_vm_dirty_start(vm, 0))
		return -1;
	control = table;
	irqfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (i = 0; i <= CPUS; i++) {
		struct impost_x86_runstate running = {sizeof(running), IMPOST_X86_RUNNING};

		if (impost_vcpu_create(vm, i, &cpu[i]) ||
		    impost_vcpu_set(cpu[i], IMPOST_SECTION_RUNSTATE, &running, sizeof(running)))
			return -1;
	}
	return irqfd;
}

static void run_all(void)
{
	pthread_t player[CPUS], worker[WORKS];
	size_t i;

	atomic_store(&busy, WORKS);
	for (i = 0; i < CPUS; i++)
		pthread_create(&player[i], NULL, play, cpu[i]);
	for (i = 0; i < WORKS; i++)
		pthread_create(&worker[i], NULL, work, (void *)(uintptr_t)&works[i]);
	for (i = 0; i < WORKS; i++)
		pthread_join(worker[i], NULL);
	for (i = 0; i < CPUS; i++) {
		impost_vcpu_kick(cpu[i]);
		pthread_join(player[i], NULL);
	}
}

/* --- memory that is taken away under a vCPU --- */

static atomic_uint passing; /* changes with each visit; 0: they are over */

/* A write to memory that is not there ends run, and is tried again. */
static void *write_passing(void *arg)
{
	static const uint8_t data[PASSING_BYTES / 2];
	const struct impost_mock_step write = {.size = sizeof(write),
					       .op = IMPOST_MOCK_WRITE,
					       .gpa = PASSING + PASSING_BYTES / 4,
					       .bytes = sizeof(data),
					       .data = data};
	const struct impost_mock_step out = {
		.size = sizeof(out), .op = IMPOST_MOCK_EXIT, .exit.kind = IMPOST_EXIT_HLT};
	struct impost_exit exit;
	unsigned visit, last = 0, left = 0; /* a script has an end */

	while ((visit = atomic_load(&passing))) {
		if (visit != last)
			left = VISIT_WRITES;
		last = visit;
		if (!left) {
			sched_yield();
			continue;
		}
		left--;
		check(!control->append(handle, CPUS, (struct impost_mock_step[]){write, out}, 2),
		      "append");
		do
			check(!impost_vcpu_run(arg, &exit), "run");
		while (exit.kind == IMPOST_EXIT_INTERNAL_ERROR && atomic_load(&passing));
	}
	return NULL;
}

/* Plain accesses of the host's after the removal: were a vCPU still there, that were a race. */
static void visits(void)
{
	void *hva = aligned_alloc(4096, PASSING_BYTES);
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_POINTER,
				       .gpa = PASSING,
				       .bytes = PASSING_BYTES,
				       .hva = hva};
	uint64_t bitmap = 0;
	pthread_t writer;
	unsigned i;

	atomic_store(&passing, 1);
	pthread_create(&writer, NULL, write_passing, cpu[CPUS]);
	for (i = 0; i < VISITS; i++) {
		memset(hva, (int)i, PASSING_BYTES);
		check(!impost_memory_add(impost_vm_memory(vm), &region), "add");
		check(!impost_vm_dirty_start(vm, PASSING), "dirty_start");
		atomic_store(&passing, i + 2);
		while (!bitmap && !atomic_load(&failed))
			check(!impost_vm_dirty_fetch(vm, PASSING, &bitmap, 1), "dirty_fetch");
		bitmap = 0;
		check(!impost_memory_remove(impost_vm_memory(vm), PASSING), "remove");
		memset(hva, 0xff, PASSING_BYTES);
	}
	atomic_store(&passing, 0);
	pthread_join(writer, NULL);
	free(hva);
}

int main(int argc, char **argv)
{
	struct impost_x86_clock clock = {0};
	struct impost_mock_irq irq;
	unsigned irqs[IMPOST_MOCK_IRQ_IRQFD + 1] = {0};
	uint32_t i, size;

	if (argc != 2 || make(argv[1]) < 0) {
		fprintf(stderr, "mock: %s\n", ctx ? impost_error(ctx) : "usage: mock PLUGIN-DIR");
		return 2;
	}
	run_all();
	/* Nothing was lost: each round left its interrupts and its time. */
	for (i = 0; !control->irq(handle, i, &irq); i++)
		irqs[irq.kind]++;
	check(irqs[IMPOST_MOCK_IRQ_LINE] == 2 * ROUNDS, "lines");
	check(irqs[IMPOST_MOCK_IRQ_MSI] == ROUNDS, "messages");
	check(irqs[IMPOST_MOCK_IRQ_IRQFD] == ROUNDS, "irqfds");
	check(!impost_vm_get(vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock), &size), "clock");
	check(clock.ns == UINT64_C(1000) * ROUNDS, "time");
	visits();
	for (i = 0; i <= CPUS; i++)
		check(!impost_vcpu_destroy(cpu[i]), "destroy");
	check(!impost_vm_destroy(vm) && !impost_context_close(ctx), "end");
	close(irqfd);
	printf("1..1\n%sok 1 - everybody works on one VM\n", failed ? "not " : "");
	return failed ? 1 : 0;
}
