/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call of a backend fails in turn, by the layer `fault`, while vCPUs run on threads and their
 * VM is held, saved or migrated out: the error is named, nothing is left, and the VM runs on, or it
 * has moved. tests/unit/fault_sweep.c does the same with one thread, and has more operations. A
 * plain program (plain.h), on the mock.
 *
 * Threads are inside how many calls of an operation differs from one time to the next, so that
 * calls are numbered by operation: N goes up until the operation has ended before its N-th call.
 *
 * Usage: fault_sweep PLUGIN-DIR
 */
#include <dirent.h>
#include <string.h>
#include <sys/socket.h>

#include <impost/fault.h>
#include <impost/migrate.h>
#include <impost/trace.h>

#include "plain.h"

#define CPUS	 2u
#define RAM	 (UINT64_C(64) * IMPOST_PAGE_SIZE)
#define OPS	 64u
#define MOST	 300u
#define LONG_MS	 20000u
#define RUNS	 10u
#define SNAPSHOT "snapshot"

struct machine {
	struct impost_vm *vm, *arrived; /* by a migration */
	struct impost_vcpu *cpu[CPUS];
	pthread_t thread[CPUS];
	atomic_uint exits[CPUS];
	atomic_bool stop;
	const struct impost_fault_control *fault;
	const struct impost_trace_control *trace;
	void *fault_handle, *trace_handle;
	char text[512]; /* of the error that the operation ended with */
	size_t fds;	/* of the process, when nothing is under way; 0: not yet known */
};

struct of {
	struct machine *m;
	uint32_t id;
};

static const char *plugin_dir;
static char script_path[] = "/tmp/impost-sweep-script-XXXXXX";
static char folder[] = "/tmp/impost-sweep-XXXXXX";
static struct impost_context *there; /* where migrations go */

/* --- the VM, whose vCPUs run all the time --- */

/* As a processor writes: ThreadSanitizer sees nothing of a guest. */
__attribute__((no_sanitize("thread"))) static void store(volatile uint32_t *at, uint32_t value)
{
	*at = value;
}

/* A page of each vCPU's, while its exit is in hand: nobody holds the VM. */
static void write_page(struct machine *m, uint32_t id, uint32_t value)
{
	const uint64_t gpa = 0x10000 * (uint64_t)(id + 1);
	struct impost_view view;
	uint64_t bytes;
	void *page;

	CHECK(impost_view_begin(impost_vm_memory(m->vm), &view) == 0);
	CHECK(impost_view_span(&view, gpa, IMPOST_PAGE_SIZE, &page, &bytes) == 0);
	store(page, value);
	impost_view_mark_dirty(&view, gpa, IMPOST_PAGE_SIZE);
	impost_view_end(&view);
}

static void *run_cpu(void *arg)
{
	const struct of *of = arg;
	struct machine *m = of->m;
	uint32_t id = of->id;
	struct impost_exit exit;

	atomic_fetch_add(&m->exits[id], 1); /* OF is not looked at any more */
	while (!atomic_load(&m->stop)) {
		int err = impost_vcpu_run(m->cpu[id], &exit);

		if (err == -IMPOST_EMOVED)
			break;
		CHECK(!err || strstr(impost_error(ctx), "layer fault: vcpu."));
		if (err || exit.kind == IMPOST_EXIT_INTR)
			continue;
		CHECK(exit.kind == IMPOST_EXIT_IO && exit.u.io.port == 0x60);
		if (exit.kind != IMPOST_EXIT_IO)
			break;
		*(uint8_t *)exit.u.io.data = 0x42;
		write_page(m, id, atomic_fetch_add(&m->exits[id], 1));
	}
	return NULL;
}

/* Each vCPU has come to further exits. */
static void expect_goes_on(struct machine *m)
{
	for (uint32_t id = 0; id < CPUS; id++) {
		unsigned before = atomic_load(&m->exits[id]), ms = 0;

		while (atomic_load(&m->exits[id]) - before < 2 && ms < LONG_MS) {
			usleep(1000);
			ms++;
		}
		CHECK(ms < LONG_MS);
	}
}

static void find_controls(struct machine *m)
{
	const void *table;

	CHECK(impost_vm_extension(m->vm, IMPOST_TRACE, &table, &m->trace_handle) == 0);
	m->trace = table;
	CHECK(impost_vm_extension(m->vm, IMPOST_FAULT, &table, &m->fault_handle) == 0);
	m->fault = table;
}

static void make(struct machine *m)
{
	const struct impost_x86_runstate running = {sizeof(running), IMPOST_X86_RUNNING};
	const struct impost_region ram = {.size = sizeof(ram), .bytes = RAM};
	struct impost_vm_config config;
	struct of of[CPUS];

	*m = (struct machine){.fds = m->fds};
	CHECK(impost_vm_config_init(ctx, &config) == 0);
	config.cpus = CPUS;
	CHECK(impost_vm_create(ctx, &config, &m->vm) == 0);
	if (!m->vm)
		exit(2);
	find_controls(m);
	CHECK(impost_memory_add(impost_vm_memory(m->vm), &ram) == 0);
	for (uint32_t id = 0; id < CPUS; id++) {
		CHECK(impost_vcpu_create(m->vm, id, &m->cpu[id]) == 0);
		CHECK(impost_vcpu_set(m->cpu[id], IMPOST_SECTION_RUNSTATE, &running,
				      sizeof(running)) == 0);
		of[id] = (struct of){m, id};
		start(&m->thread[id], run_cpu, &of[id]);
	}
	expect_goes_on(m);
}

static void end(struct machine *m)
{
	atomic_store(&m->stop, true);
	for (uint32_t id = 0; id < CPUS; id++) {
		CHECK(impost_vcpu_kick(m->cpu[id]) == 0);
		pthread_join(m->thread[id], NULL);
		CHECK(impost_vcpu_destroy(m->cpu[id]) == 0);
	}
	CHECK(impost_vm_destroy(m->vm) == 0);
}

/* --- the operations: 0, or an error with the text of it --- */

static int note(struct machine *m, int err)
{
	snprintf(m->text, sizeof(m->text), "%s", err ? impost_error(ctx) : "");
	return err;
}

static int save(struct machine *m)
{
	struct impost_snapshot_saved saved = {.size = sizeof(saved)};
	int err = note(m, impost_snapshot_save(m->vm, SNAPSHOT, NULL, &saved));

	CHECK((unlink(SNAPSHOT) == 0) == !err);
	return err;
}

/* A hold of the host's is under way while it is saved. */
static int save_held(struct machine *m)
{
	int err = note(m, impost_vm_hold(m->vm, LONG_MS)), released;

	if (err)
		return err;
	err = save(m);
	released = impost_vm_release(m->vm);
	return err ? err : note(m, released);
}

struct receiving {
	int fd;
	struct impost_vm *vm;
	int err;
};

static struct impost_migration *make_migration(struct impost_context *in, int fd)
{
	const struct impost_migration_channel channel = {.size = sizeof(channel), .fd = fd};
	const struct impost_migration_config config = {.size = sizeof(config), .channel = &channel};
	struct impost_migration *migration = NULL;

	CHECK(impost_migration_create(in, &config, &migration) == 0);
	return migration;
}

static void *receive(void *arg)
{
	struct receiving *r = arg;
	struct impost_migration *migration = make_migration(there, r->fd);

	r->err = impost_migration_receive(migration, &r->vm);
	if (r->err)
		shutdown(r->fd, SHUT_RDWR);
	impost_migration_destroy(migration);
	return NULL;
}

static int migrate_out(struct machine *m)
{
	struct receiving r = {0};
	struct impost_migration *migration;
	pthread_t receiver;
	int fds[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		exit(2);
	r.fd = fds[1];
	migration = make_migration(ctx, fds[0]);
	start(&receiver, receive, &r);
	err = note(m, impost_migration_send(migration, m->vm));
	if (err)
		shutdown(fds[0], SHUT_RDWR);
	pthread_join(receiver, NULL);
	impost_migration_destroy(migration);
	close(fds[0]);
	close(fds[1]);
	CHECK(err != -IMPOST_EUNSETTLED);
	CHECK(!err == !r.err && !r.err == !!r.vm);
	m->arrived = r.vm;
	return err;
}

/* --- how they ended --- */

static size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	while (dir && readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void run_arrived(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;
	struct impost_exit exit;

	while ((vcpu = impost_vm_vcpu(vm, 0))) {
		exit.kind = IMPOST_EXIT_NONE;
		do
			CHECK(impost_vcpu_run(vcpu, &exit) == 0);
		while (exit.kind == IMPOST_EXIT_INTR);
		CHECK(exit.kind == IMPOST_EXIT_IO);
		CHECK(impost_vcpu_destroy(vcpu) == 0);
	}
	CHECK(impost_vm_destroy(vm) == 0);
}

/* The VM runs on here, or it has moved: another takes its place. */
static void go_on(struct machine *m)
{
	if (!m->arrived) {
		impost_vm_release(m->vm); /* which it did not, if that is what failed */
		expect_goes_on(m);
		return;
	}
	run_arrived(m->arrived);
	end(m);
	make(m);
}

static void arm(struct machine *m, const char *op, unsigned nth)
{
	char rule[64] = "";

	if (op)
		snprintf(rule, sizeof(rule), "%s#%u", op, nth);
	CHECK(m->fault->set(m->fault_handle, rule, 0) == 0);
}

/* Whether OPERATION made an NTH call of OP, which failed. */
static bool try(struct machine *m, int (*operation)(struct machine *m), const char *op,
		unsigned nth)
{
	struct impost_fault_counts counts = {.size = sizeof(counts)};
	int err;

	arm(m, op, nth);
	err = operation(m);
	CHECK(m->fault->counts(m->fault_handle, &counts) == 0);
	arm(m, NULL, 0);
	CHECK(counts.failed <= 1 && (counts.failed || !err));
	/* A kick that fails has no text: vcpu.h. */
	CHECK(!err || strcmp(op, "vcpu.kick") == 0 || strstr(m->text, "layer fault: "));
	CHECK(err != -EFAULT);
	go_on(m);
	CHECK(count_fds() == m->fds);
	if (atomic_load(&failed))
		printf("# %s, call %u: %d: %s\n", op, nth, err, m->text);
	return counts.failed && !atomic_load(&failed);
}

/* --- sweeps --- */

/* How often each operation was called until now. */
static uint32_t read_calls(const struct machine *m, uint64_t calls[OPS], const char *names[OPS])
{
	struct impost_trace_op op = {.size = sizeof(op)};
	uint32_t count = 0;

	while (count < OPS && m->trace->op(m->trace_handle, count, &op) == 0) {
		calls[count] = op.calls;
		names[count++] = op.name;
	}
	return count;
}

/* What OPERATION calls with no fault. What guests do all the time is none of it. */
static uint32_t find_ops(struct machine *m, int (*operation)(struct machine *m),
			 const char *names[OPS])
{
	uint64_t before[OPS], after[OPS];
	uint32_t count = read_calls(m, before, names), found = 0;

	CHECK(operation(m) == 0);
	read_calls(m, after, names);
	for (uint32_t i = 0; i < count; i++)
		if (after[i] != before[i] && strcmp(names[i], "vcpu.run") != 0 &&
		    strcmp(names[i], "vm.mark_dirty") != 0)
			names[found++] = names[i];
	go_on(m);
	m->fds = count_fds();
	return found;
}

static void sweep(int (*operation)(struct machine *m), unsigned least)
{
	const char *names[OPS];
	struct machine m = {0};
	unsigned count, nth, all = 0;

	make(&m);
	count = find_ops(&m, operation, names);
	for (unsigned i = 0; i < count; i++) {
		for (nth = 1; nth < MOST && try(&m, operation, names[i], nth); nth++)
			all++;
		CHECK(nth < MOST);
	}
	end(&m);
	printf("# %u calls of %u operations failed in turn\n", all, count);
	CHECK(all >= least);
}

static void sweep_save(void)
{
	sweep(save, 30);
}

static void sweep_save_held(void)
{
	sweep(save_held, 30);
}

static void sweep_migrate(void)
{
	sweep(migrate_out, 30);
}

/* It is the vCPU's thread that is told, and the save goes well. */
static void failing_runs(void)
{
	struct machine m = {0};

	make(&m);
	for (unsigned nth = 1; nth <= RUNS; nth++) {
		struct impost_fault_counts counts = {.size = sizeof(counts)};

		arm(&m, "vcpu.run", nth);
		CHECK(save(&m) == 0);
		while (!counts.failed && !atomic_load(&failed)) {
			expect_goes_on(&m);
			CHECK(m.fault->counts(m.fault_handle, &counts) == 0);
		}
	}
	end(&m);
}

static const struct test tests[] = {
	{"a VM that runs is saved", sweep_save, NULL},
	{"a VM that is held is saved", sweep_save_held, NULL},
	{"a VM that runs is migrated", sweep_migrate, NULL},
	{"runs fail while a VM is saved", failing_runs, NULL},
};

/* --- */

/* A guest that reads a port, for ever. */
static int write_script(void)
{
	int fd = mkstemp(script_path);

	for (uint32_t id = 0; fd >= 0 && id < CPUS; id++)
		dprintf(fd,
			"[vcpu %u]\nrepeat = forever\ndelay = 50us\n"
			"in = 0x60 1\nend =\n",
			id);
	close(fd);
	return fd;
}

static int open_contexts(void)
{
	static const char *const options[][3] = {{"backend.mock", "check_entry", "no"},
						 {"backend.mock", "script", script_path}};
	struct impost_context *source;

	if (open_context("fault_sweep", plugin_dir, "mock"))
		return -1;
	there = ctx;
	if (open_context("fault_sweep", plugin_dir, "mock"))
		return -1;
	source = ctx;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (impost_context_set(source, options[i][0], options[i][1], options[i][2]) ||
		    impost_context_set(there, options[i][0], options[i][1], options[i][2]))
			return -1;
	return impost_context_set(source, "impost", "layers", "trace, fault");
}

int main(int argc, char **argv)
{
	int status;

	if (argc != 2) {
		fprintf(stderr, "usage: fault_sweep PLUGIN-DIR\n");
		return 1;
	}
	plugin_dir = argv[1];
	if (write_script() < 0 || !mkdtemp(folder) || open_contexts()) {
		perror("fault_sweep");
		return 1;
	}
	if (chdir(folder))
		return 1;
	status = run_tests(tests, sizeof(tests) / sizeof(tests[0]), "mock");
	status |= impost_context_close(there) != 0;
	unlink(script_path);
	/* Of a save that failed nothing is left there. */
	if (rmdir(folder)) {
		perror(folder);
		status = 1;
	}
	return status;
}
