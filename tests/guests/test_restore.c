/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest is saved and restored at random instants, again and again until it ends: what it says,
 * and the memory that it leaves, are those of a run that nobody disturbed. IMPOST_INSTANTS in the
 * environment: how many instants; IMPOST_SEED: of the random numbers.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <impost/impost.h>

#define MEMORY	   (UINT64_C(8) << 20)
#define LOG_BYTES  65536
#define COM1	   0x3f8
#define COM1_LSR   0x3fd
#define LSR_EMPTY  0x60
#define RESET_PORT 0x64
#define RESET	   0xfe

/* Of guest memory, what depends on time: see keep.c. */
#define SCRATCH	    0x3fe000u
#define SCRATCH_END 0x400000u

#define INSTANTS    40 /* where IMPOST_INSTANTS says nothing */

struct machine {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
	const char *backend;
	pthread_t thread;
	bool running;
	char output[LOG_BYTES]; /* on the serial port, of all that the guest was */
	size_t said;
	atomic_ulong exits; /* since the thread was started */
	atomic_bool stop;
	atomic_bool ended; /* by the guest itself */
};

/* What a run that nobody disturbs leaves. */
struct outcome {
	char output[LOG_BYTES];
	uint8_t memory[MEMORY];
	unsigned long exits;
};

#define OK(m, call) cr_assert_eq((call), 0, #call ": %s", impost_error((m)->ctx))

static uint64_t seed = 1;

/* Below LIMIT (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"). */
static unsigned long draw(unsigned long limit)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % limit;
}

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

static void nap(long ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* --- the machine --- */

static int on_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine *m = opaque;
	const struct impost_exit_io *io = &exit->u.io;
	uint8_t *data = io->data;

	(void)vcpu;
	atomic_fetch_add(&m->exits, 1);
	if (io->dir == IMPOST_EXIT_READ) {
		memset(data, io->port == COM1_LSR ? LSR_EMPTY : 0xff, (size_t)io->size * io->count);
	} else if (io->port == COM1) {
		cr_assert(m->said + io->count < LOG_BYTES, "the guest says too much");
		memcpy(m->output + m->said, data, io->count);
		m->said += io->count;
	} else if (io->port == RESET_PORT && *data == RESET) {
		atomic_store(&m->ended, true);
		return 1;
	}
	return 0;
}

static int on_intr(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine *m = opaque;

	(void)vcpu;
	(void)exit;
	return atomic_load(&m->stop);
}

static void *run(void *opaque)
{
	struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io, .intr = on_intr};
	struct machine *m = opaque;
	struct impost_exit exit;
	char line[256];

	OK(m, impost_vcpu_loop(m->vcpu, &handlers, m, &exit));
	impost_exit_format(&exit, line, sizeof(line));
	cr_assert(exit.kind == IMPOST_EXIT_IO || exit.kind == IMPOST_EXIT_INTR,
		  "the guest ended with %s, having said %zu bytes", line, m->said);
	/* The guest's last access needs no answer: nobody must wait for one. */
	if (exit.kind == IMPOST_EXIT_IO)
		OK(m, impost_vcpu_complete(m->vcpu, &exit));
	return NULL;
}

static void start(struct machine *m)
{
	atomic_store(&m->exits, 0);
	atomic_store(&m->stop, false);
	cr_assert_eq(pthread_create(&m->thread, NULL, run, m), 0);
	m->running = true;
}

static void join(struct machine *m)
{
	if (m->running)
		pthread_join(m->thread, NULL);
	m->running = false;
}

static void destroy_vm(struct machine *m)
{
	OK(m, impost_vcpu_destroy(m->vcpu));
	OK(m, impost_vm_destroy(m->vm));
}

static void open_machine(struct machine *m, const char *backend, const char *script)
{
	memset(m, 0, sizeof(*m));
	m->backend = backend;
	cr_assert_eq(impost_context_open(NULL, NULL, &m->ctx), 0);
	OK(m, impost_context_set(m->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	OK(m, impost_context_set(m->ctx, "impost", "backend", backend));
	if (script)
		OK(m, impost_context_set(m->ctx, "backend.mock", "script", script));
}

static void close_machine(struct machine *m)
{
	destroy_vm(m);
	OK(m, impost_context_close(m->ctx));
}

static void boot(struct machine *m, const char *cmdline)
{
	struct impost_x86_boot_config boot;
	struct impost_vm_config config;

	OK(m, impost_vm_config_init(m->ctx, &config));
	config.memory = MEMORY;
	OK(m, impost_vm_create(m->ctx, &config, &m->vm));
	OK(m, impost_x86_add_ram(impost_vm_memory(m->vm), MEMORY));
	OK(m, impost_vcpu_create(m->vm, 0, &m->vcpu));
	impost_x86_boot_config_init(m->ctx, &boot);
	boot.kernel_fd = open(GUEST_DIR "/keep", O_RDONLY | O_CLOEXEC);
	cr_assert_geq(boot.kernel_fd, 0);
	boot.cmdline = cmdline;
	OK(m, impost_x86_boot(m->vm, &m->vcpu, 1, &boot, NULL));
	close(boot.kernel_fd);
}

/* --- save and restore --- */

static void save(struct machine *m, const char *path)
{
	const struct impost_snapshot_save_options options = {
		.size = sizeof(options),
		.flags = IMPOST_SNAPSHOT_NO_SYNC,
	};

	OK(m, impost_snapshot_save(m->vm, path, &options, NULL));
}

static void restore(struct machine *m, const char *path, uint32_t memory)
{
	const struct impost_snapshot_restore_options options = {.size = sizeof(options),
								.memory = memory};
	struct impost_snapshot *snapshot;

	OK(m, impost_snapshot_open(m->ctx, path, NULL, &snapshot));
	OK(m, impost_snapshot_restore(snapshot, &options, &m->vm));
	OK(m, impost_snapshot_load(snapshot, m->vm));
	impost_snapshot_close(snapshot);
	m->vcpu = impost_vm_vcpu(m->vm, 0);
	cr_assert_not_null(m->vcpu);
}

/* Lets the guest run for about EXITS exits and a bit. Says whether it lives. */
static bool run_for(struct machine *m, unsigned long exits)
{
	start(m);
	while (atomic_load(&m->exits) < exits && !atomic_load(&m->ended))
		nap(1000);
	nap((long)draw(200000));
	return !atomic_load(&m->ended);
}

/*
 * The VM is saved as it is when the hold catches it. Then it is thrown away, and goes on from the
 * file. Says whether it did: the guest may have come to its end before.
 */
static bool move(struct machine *m, const char *path, uint32_t memory)
{
	OK(m, impost_vm_hold(m->vm, 10000));
	if (atomic_load(&m->ended))
		return false;
	save(m, path);
	atomic_store(&m->stop, true);
	OK(m, impost_vcpu_kick(m->vcpu));
	join(m);
	destroy_vm(m);
	restore(m, path, memory);
	return true;
}

/* --- outcomes --- */

static void take_outcome(struct machine *m, struct outcome *outcome)
{
	memcpy(outcome->output, m->output, sizeof(outcome->output));
	OK(m, impost_memory_read(impost_vm_memory(m->vm), 0, outcome->memory, MEMORY));
	memset(outcome->memory + SCRATCH, 0, SCRATCH_END - SCRATCH);
}

static void expect_same(const struct outcome *got, const struct outcome *want, const char *how)
{
	size_t same = 0;

	while (got->output[same] && got->output[same] == want->output[same])
		same++;
	cr_assert_str_eq(got->output, want->output, "%s: after %zu bytes the guest says: %.60s",
			 how, same, got->output + same);
	for (uint64_t gpa = 0; gpa < MEMORY; gpa += 8)
		cr_assert_eq(memcmp(got->memory + gpa, want->memory + gpa, 8), 0,
			     "%s: memory at 0x%lx is not what it is in other runs", how, gpa);
}

/* A guest that is left alone, twice: but for SCRATCH nothing depends on when. */
static void learn(const char *backend, const char *script, const char *cmdline,
		  struct outcome *outcome)
{
	static struct outcome again;
	static struct machine m;

	for (int i = 0; i < 2; i++) {
		open_machine(&m, backend, script);
		boot(&m, cmdline);
		start(&m);
		join(&m);
		take_outcome(&m, i ? &again : outcome);
		outcome->exits = atomic_load(&m.exits);
		close_machine(&m);
	}
	expect_same(&again, outcome, "undisturbed");
}

/* Runs guests, each of which moves at a few random instants, until INSTANTS were seen. */
static void check_instants(const char *backend, const char *script, const char *cmdline)
{
	static const uint32_t kinds[] = {IMPOST_SNAPSHOT_MAP, IMPOST_SNAPSHOT_COPY};
	unsigned long instants = from_environment("IMPOST_INSTANTS", INSTANTS), seen = 0;
	char path[] = "/tmp/impost-restore-XXXXXX", how[128];
	static struct outcome want, got;
	static struct machine m;
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	seed = from_environment("IMPOST_SEED", 1);
	learn(backend, script, cmdline, &want);
	while (seen < instants) {
		unsigned long before = seen, first = seed;

		open_machine(&m, backend, script);
		boot(&m, cmdline);
		while (run_for(&m, draw(want.exits / 4)) && move(&m, path, kinds[draw(2)]))
			seen++;
		join(&m);
		snprintf(how, sizeof(how), "%lu instants, IMPOST_SEED=%lu", seen - before, first);
		take_outcome(&m, &got);
		close_machine(&m);
		expect_same(&got, &want, how);
	}
	unlink(path);
	fprintf(stderr, "%s: %lu instants\n", backend, seen);
}

/* --- tests --- */

/* Skips the test, saying why, where BACKEND cannot run. */
static void need(const char *backend)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_context *ctx;
	char why[512] = "";

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	cr_assert_eq(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	if (impost_backend_probe(ctx, backend, &caps))
		snprintf(why, sizeof(why), "%s", impost_error(ctx));
	impost_context_close(ctx);
	if (*why)
		cr_skip_test("%s", why);
}

TestSuite(restore, .timeout = 600);

/* Memory, registers, MSRs, the local APIC with its timer, and what is on the way to the serial
 * port. */
Test(restore, a_guest_on_kvm_does_not_notice)
{
	need("kvm");
	check_instants("kvm", NULL, "pages=64 rounds=100");
}

/* A script of rounds, each with its own number: in memory, in a register, on the serial port. */
static void write_script(FILE *file)
{
	fputs("[vcpu 0]\n", file);
	for (unsigned int round = 1; round <= 100; round++) {
		for (unsigned int page = 0; page < 16; page++)
			fprintf(file, "write = 0x%x %02x %02x\n", SCRATCH_END + page * 4096, page,
				round);
		fprintf(file, "set = rbx %u\ndelay = 10us\n", round);
		fprintf(file, "in = 0x3fd 1 expect 0x60\ntext = 0x3f8 \"round %u\\n\"\n", round);
	}
	fputs("out = 0x64 1 0xfe\n", file);
}

Test(restore, a_script_on_the_mock_goes_on_where_it_was)
{
	char script[] = "/tmp/impost-restore-XXXXXX";
	int fd = mkstemp(script);
	FILE *file = fdopen(fd, "w");

	cr_assert_not_null(file);
	write_script(file);
	cr_assert_eq(fclose(file), 0);
	check_instants("mock", script, NULL);
	unlink(script);
}
