/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads against each other: texts, memory, kicks, vCPUs and interrupts. A plain program
 * (plain.h).
 *
 * Usage: threads PLUGIN-DIR BACKEND GUEST, where GUEST is a static ELF64 that never stops.
 */
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "plain.h"

#define THREADS 4
#define KICKS	500
#define MOST_MS 20000 /* no step takes this long unless something was lost */

static const char *guest;

static void run_all(void *(*fn)(void *), void *args, size_t bytes)
{
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		start(&threads[i], fn, (char *)args + i * bytes);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* Waits until *COUNTER is above SEEN; false when that never comes. */
static int wait_above(atomic_uint *counter, unsigned seen)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	for (int i = 0; i < MOST_MS; i++) {
		for (int spin = 0; spin < 1000; spin++)
			if (atomic_load(counter) > seen)
				return 1;
		nanosleep(&ms, NULL);
	}
	return 0;
}

/* --- each thread has its own error text --- */

struct fails {
	struct impost_memory *memory;
	uint64_t gpa;
};

static void *fail_often(void *arg)
{
	const struct fails *fails = arg;
	char wanted[32];
	void *hva;

	snprintf(wanted, sizeof(wanted), "0x%" PRIx64, fails->gpa);
	for (int i = 0; i < 2000; i++) {
		CHECK(impost_memory_ptr(fails->memory, fails->gpa, 1, &hva) == -EFAULT);
		CHECK(strstr(impost_error(ctx), wanted) != NULL);
	}
	return NULL;
}

static void texts(void)
{
	struct fails fails[THREADS];
	struct impost_memory *memory;

	CHECK(impost_memory_create(ctx, &memory) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		fails[i] = (struct fails){memory, UINT64_C(0x123000) + i * 0x1000};
	run_all(fail_often, fails, sizeof(fails[0]));
	impost_memory_destroy(memory);
}

/* --- memory is read while regions are added --- */

#define REGIONS 64

struct reader {
	struct impost_memory *memory;
	atomic_uint *added;
};

static void *read_what_is_there(void *arg)
{
	const struct reader *reader = arg;
	unsigned added;

	do {
		added = atomic_load(reader->added);
		for (uint64_t i = 0; i < added; i++) {
			uint64_t value = 1;

			CHECK(impost_memory_read(reader->memory, i * IMPOST_PAGE_SIZE, &value,
						 sizeof(value)) == 0);
			CHECK(value == 0);
		}
	} while (added < REGIONS);
	return NULL;
}

static void memory(void)
{
	struct reader reader[THREADS];
	struct impost_memory *memory;
	pthread_t threads[THREADS];
	atomic_uint added = 0;

	CHECK(impost_memory_create(ctx, &memory) == 0);
	for (unsigned i = 0; i < THREADS; i++) {
		reader[i] = (struct reader){memory, &added};
		start(&threads[i], read_what_is_there, &reader[i]);
	}
	for (unsigned i = 0; i < REGIONS; i++) {
		const struct impost_region region = {.size = sizeof(region),
						     .gpa = (uint64_t)i * IMPOST_PAGE_SIZE,
						     .bytes = IMPOST_PAGE_SIZE};

		CHECK(impost_memory_add(memory, &region) == 0);
		atomic_fetch_add(&added, 1);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	impost_memory_destroy(memory);
}

/* --- memory is read, by view and by call, while regions come and go --- */

#define ROUNDS 300

struct comes_and_goes {
	struct impost_memory *memory;
	atomic_uint *stop, *hits;
};

/* The region's bytes are those that it had while it was there, or it is not there. */
static void *read_what_comes_and_goes(void *arg)
{
	const struct comes_and_goes *at = arg;
	struct impost_view view;
	uint64_t value;

	while (!atomic_load(at->stop)) {
		CHECK(impost_view_begin(at->memory, &view) == 0);
		for (uint64_t gpa = 0; gpa < 4 * IMPOST_PAGE_SIZE; gpa += 512) {
			int err = impost_view_read_u64(&view, gpa, &value);

			CHECK(err == 0 ? value == UINT64_C(0x0101010101010101) : err == -EFAULT);
			if (!err)
				atomic_fetch_add(at->hits, 1);
		}
		impost_view_end(&view);
		value = UINT64_C(0x0101010101010101);
		impost_memory_read(at->memory, IMPOST_PAGE_SIZE, &value, sizeof(value));
		CHECK(value == UINT64_C(0x0101010101010101));
	}
	return NULL;
}

static void come_and_go(struct impost_memory *memory)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_POINTER,
				       .bytes = 4 * IMPOST_PAGE_SIZE};

	region.hva = aligned_alloc(IMPOST_PAGE_SIZE, region.bytes);
	CHECK(region.hva);
	memset(region.hva, 1, region.bytes);
	CHECK(impost_memory_add(memory, &region) == 0);
	sched_yield();
	CHECK(impost_memory_remove(memory, 0) == 0);
	memset(region.hva, 2, region.bytes); /* which nobody may see */
	free(region.hva);
}

static void removal(void)
{
	atomic_uint stop = 0, hits = 0;
	struct comes_and_goes at = {NULL, &stop, &hits};
	const struct timespec ms = {.tv_nsec = 1000000};
	struct impost_view view;
	pthread_t threads[THREADS];

	CHECK(impost_memory_create(ctx, &at.memory) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		start(&threads[i], read_what_comes_and_goes, &at);
	for (unsigned i = 0; i < ROUNDS || (!atomic_load(&hits) && i < MOST_MS); i++) {
		come_and_go(at.memory);
		nanosleep(&ms, NULL);
	}
	atomic_store(&stop, 1);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(atomic_load(&hits) > 0);
	CHECK(impost_view_begin(at.memory, &view) == 0);
	CHECK(impost_memory_remove(at.memory, 0) == -EDEADLK);
	impost_view_end(&view);
	impost_memory_destroy(at.memory);
}

/* --- descriptors are read and written while regions come and go --- */

struct moves {
	struct impost_memory *memory;
	atomic_uint *stop;
	atomic_uint *moved;
	int fd;
	int load;
};

/* One takes the first half of the region and the other the second: they are to meet the removal,
 * not each other. */
static void *move_what_is_there(void *arg)
{
	const struct moves *moves = arg;
	const uint64_t half = 2 * IMPOST_PAGE_SIZE;

	while (!atomic_load(moves->stop)) {
		int err = moves->load ? impost_memory_load_fd(moves->memory, half, moves->fd, half,
							      half, 0, NULL)
				      : impost_memory_store_fd(moves->memory, 0, moves->fd, 0, half,
							       0, NULL);

		CHECK(err == 0 || err == -EFAULT);
		if (!err)
			atomic_fetch_add(moves->moved, 1);
	}
	return NULL;
}

static void descriptors(void)
{
	atomic_uint stop = 0, moved = 0;
	struct impost_memory *memory;
	struct moves moves[2];
	pthread_t threads[2];
	int fd = memfd_create("moved", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, 4 * IMPOST_PAGE_SIZE) == 0);
	CHECK(impost_memory_create(ctx, &memory) == 0);
	for (int i = 0; i < 2; i++) {
		moves[i] = (struct moves){memory, &stop, &moved, fd, i};
		start(&threads[i], move_what_is_there, &moves[i]);
	}
	for (unsigned i = 0; i < ROUNDS || (!atomic_load(&moved) && i < MOST_MS); i++)
		come_and_go(memory);
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK(atomic_load(&moved) > 0);
	impost_memory_destroy(memory);
	close(fd);
}

/* --- a machine whose vCPUs run until they are kicked --- */

struct machine {
	struct impost_vm *vm;
	struct impost_vcpu *vcpu[THREADS];
	uint32_t count;
};

/* On the mock vCPUs halt, as often as they will be kicked. */
static void make(struct machine *machine, uint32_t count)
{
	const struct impost_mock_step halt = {.size = sizeof(halt), .op = IMPOST_MOCK_HALT};

	*machine = (struct machine){.count = count};
	machine->vm = make_vm(machine->vcpu, count, 32 << 20, guest, NULL);
	script(machine->vm, count, &halt, 2 * KICKS + 10);
}

static void unmake(struct machine *machine)
{
	for (uint32_t id = 0; id < machine->count; id++)
		CHECK(impost_vcpu_destroy(machine->vcpu[id]) == 0);
	CHECK(impost_vm_destroy(machine->vm) == 0);
}

struct runner {
	struct impost_vcpu *vcpu;
	atomic_uint interrupted; /* how often run has returned INTR */
	atomic_int stop;
	atomic_int ended;
};

static void *run_until_stopped(void *arg)
{
	struct runner *runner = arg;
	struct impost_exit exit;

	while (!atomic_load(&runner->stop)) {
		int err = impost_vcpu_run(runner->vcpu, &exit);

		if (err == -EBUSY) /* two_in_one() was inside */
			continue;
		if (err) {
			printf("# run: %s\n", impost_error(ctx));
			CHECK(!err);
			break;
		}
		if (exit.kind == IMPOST_EXIT_INTR)
			atomic_fetch_add(&runner->interrupted, 1);
	}
	atomic_store(&runner->ended, 1);
	return NULL;
}

static void *kick_each_once(void *arg)
{
	struct runner *runner = arg;

	for (int i = 0; i < KICKS && !atomic_load(&runner->ended); i++) {
		unsigned seen = atomic_load(&runner->interrupted);
		int came;

		CHECK(impost_vcpu_kick(runner->vcpu) == 0);
		came = wait_above(&runner->interrupted, seen);
		CHECK(came);
		if (!came)
			break;
	}
	return NULL;
}

/* Each kick, whenever it comes, makes the run under way or the next one return. */
static void kicks(void)
{
	struct runner runner = {0};
	struct machine machine;
	pthread_t thread;

	make(&machine, 1);
	runner.vcpu = machine.vcpu[0];
	start(&thread, run_until_stopped, &runner);
	kick_each_once(&runner);
	atomic_store(&runner.stop, 1);
	CHECK(impost_vcpu_kick(runner.vcpu) == 0);
	pthread_join(thread, NULL);
	unmake(&machine);
}

static void *kick_at_random(void *arg)
{
	struct runner *runner = arg;

	while (!atomic_load(&runner->stop))
		CHECK(impost_vcpu_kick(runner->vcpu) == 0);
	return NULL;
}

/* Kicks from several threads at once end runs, and nothing else. */
static void kick_storm(void)
{
	struct runner runner = {0};
	struct machine machine;
	pthread_t running, kicking[2];

	make(&machine, 1);
	runner.vcpu = machine.vcpu[0];
	start(&kicking[0], kick_at_random, &runner);
	start(&kicking[1], kick_at_random, &runner);
	start(&running, run_until_stopped, &runner);
	CHECK(wait_above(&runner.interrupted, KICKS));
	atomic_store(&runner.stop, 1);
	pthread_join(kicking[0], NULL);
	pthread_join(kicking[1], NULL);
	CHECK(impost_vcpu_kick(runner.vcpu) == 0);
	pthread_join(running, NULL);
	unmake(&machine);
}

/* A second thread in a vCPU is told so; afterwards the state can be read. */
static void two_in_one(void)
{
	struct runner runner = {0};
	struct impost_exit exit = {0};
	struct impost_x86_regs regs;
	struct machine machine;
	pthread_t thread;
	uint32_t size;
	int refused = 0;

	make(&machine, 1);
	runner.vcpu = machine.vcpu[0];
	start(&thread, run_until_stopped, &runner);
	for (int i = 0; i < MOST_MS * 100 && !refused; i++)
		refused = impost_vcpu_get(runner.vcpu, IMPOST_SECTION_REGS, &regs, sizeof(regs),
					  &size) == -EBUSY &&
			  strstr(impost_error(ctx), "another call");
	CHECK(refused);
	atomic_store(&runner.stop, 1);
	CHECK(impost_vcpu_kick(runner.vcpu) == 0);
	pthread_join(thread, NULL);
	do
		CHECK(impost_vcpu_complete(runner.vcpu, &exit) == 0);
	while (exit.kind != IMPOST_EXIT_NONE && !atomic_load(&failed));
	CHECK(impost_vcpu_get(runner.vcpu, IMPOST_SECTION_REGS, &regs, sizeof(regs), &size) == 0);
	unmake(&machine);
}

/* Several VMs at once, each made, run, kicked and ended by a thread of its own. */
static void *whole_life(void *arg)
{
	struct runner runner = {0};
	struct machine machine;
	pthread_t thread;

	(void)arg;
	make(&machine, 1);
	runner.vcpu = machine.vcpu[0];
	start(&thread, run_until_stopped, &runner);
	CHECK(impost_vcpu_kick(runner.vcpu) == 0);
	CHECK(wait_above(&runner.interrupted, 0));
	atomic_store(&runner.stop, 1);
	CHECK(impost_vcpu_kick(runner.vcpu) == 0);
	pthread_join(thread, NULL);
	unmake(&machine);
	return NULL;
}

static void machines(void)
{
	int none[THREADS];

	run_all(whole_life, none, sizeof(none[0]));
}

/* --- a sandbox that comes late --- */

/* From now on membarrier(2) is -EPERM, as a host's filter may have it. */
static int forbid_membarrier(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(rules) / sizeof(rules[0]), rules};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
	       syscall(SYS_membarrier, 0, 0, 0) < 0;
}

/* The last of the tests: there is no way back. */
static void sandbox(void)
{
	CHECK(forbid_membarrier());
	removal();
}

/* --- */

static const struct test tests[] = {
	{"each thread has its own error text", texts, NULL},
	{"memory is read while regions are added", memory, NULL},
	{"memory is read while regions come and go", removal, NULL},
	{"descriptors are moved while regions come and go", descriptors, NULL},
	{"no kick is lost", kicks, NULL},
	{"a storm of kicks ends runs and nothing else", kick_storm, NULL},
	{"a second thread in a vCPU is refused", two_in_one, NULL},
	{"several VMs live at once", machines, NULL},
	{"removal is safe where membarrier(2) is forbidden", sandbox, NULL},
};

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: threads PLUGIN-DIR BACKEND GUEST\n");
		return 1;
	}
	guest = argv[3];
	if (open_context("threads", argv[1], argv[2]))
		return 1;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), argv[2]);
}
