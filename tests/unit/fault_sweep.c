/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call of a backend fails in turn, by the layer `fault`, while a guest boots, runs, is saved,
 * restored and migrated, from either side: the error is named, nothing is left, and the VM is
 * usable or gone.
 *
 * Position N is the N-th call from where an operation begins; a sweep goes on until one ends with
 * no call having failed.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <impost/fault.h>
#include <impost/migrate.h>
#include <impost/x86_64/boot.h>
#include <impost/x86_64/layout.h>

#include "core.h"

#define RAM_BYTES     (UINT64_C(64) * IMPOST_PAGE_SIZE)
#define BOOT_BYTES    (UINT64_C(4) << 20)
#define CODE	      0x1000
#define MOST_CALLS    5000
#define LONG_MS	      20000
#define SNAPSHOT_FILE "snapshot"

/* An operation with a fault at position `nth`. */
struct trial {
	const char *backend;
	long nth;
	int socket[2];		       /* of a migration: source, destination */
	struct impost_context *ctx[2]; /* the second is a migration's destination's */
	struct impost_vm *vm, *arrived;
	int received;
	char received_text[512];
};

static char script[32];

/* --- the guest: reads a port for ever --- */

static const uint8_t code[] = {0xe4, 0x60, 0xeb, 0xfc}; /* in $0x60,%al; jmp to it */

/* The mock plays the same; the file has no name on a disk, and stays open. */
static void write_script(void)
{
	int fd = memfd_create("script", MFD_CLOEXEC);

	cr_assert(fd >= 0);
	dprintf(fd, "[vcpu 0]\nrepeat = forever\nin = 0x60 1\nend =\n");
	snprintf(script, sizeof(script), "/proc/self/fd/%d", fd);
}

/* A context whose VMs have the layer, with RULES. */
static struct impost_context *open_with(const struct trial *trial, const char *rules)
{
	const char *const options[][3] = {
		{"impost", "plugin_dir", PLUGIN_DIR},  {"impost", "backend", trial->backend},
		{"impost", "layers", "fault"},	       {"layer.fault", "rules", rules},
		{"backend.mock", "check_entry", "no"}, {"backend.mock", "script", script},
		{"memory", "backing", "memfd"}, /* whose mappings have a name */
	};
	struct impost_context *ctx = NULL;

	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		expect_ok(ctx,
			  impost_context_set(ctx, options[i][0], options[i][1], options[i][2]));
	return ctx;
}

/* The N-th call of all, or none, from the opening of the layer on. */
static struct impost_context *open_faulty(const struct trial *trial)
{
	char rules[32];

	snprintf(rules, sizeof(rules), "*#%ld", trial->nth);
	return open_with(trial, rules);
}

static void destroy_vm(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;

	while (vm && (vcpu = impost_vm_vcpu(vm, 0)))
		expect_ok(impost_vm_context(vm), impost_vcpu_destroy(vcpu));
	if (vm)
		expect_ok(impost_vm_context(vm), impost_vm_destroy(vm));
}

static int set_up_vcpu(struct impost_vm *vm)
{
	struct impost_x86_regs regs = {.size = sizeof(regs), .rip = CODE, .rflags = 2};
	struct impost_x86_sregs sregs = {.size = sizeof(sregs)};
	struct impost_vcpu *vcpu;
	int err = impost_vcpu_create(vm, 0, &vcpu);

	if (!err)
		err = impost_vcpu_get_sregs(vcpu, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	if (!err)
		err = impost_vcpu_set_sregs(vcpu, &sregs);
	return err ? err : impost_vcpu_set_regs(vcpu, &regs);
}

/* A VM that is ready to run; what was made of one that fails is the caller's too. */
static int make_vm_of(struct impost_context *ctx, struct impost_vm **ret_vm)
{
	const struct impost_region ram = {
		.size = sizeof(ram), .kind = IMPOST_REGION_MEMFD, .bytes = RAM_BYTES};
	int err = impost_vm_create(ctx, NULL, ret_vm);

	if (!err)
		err = impost_memory_add(impost_vm_memory(*ret_vm), &ram);
	if (!err)
		err = impost_memory_write(impost_vm_memory(*ret_vm), CODE, code, sizeof(code));
	return err ? err : set_up_vcpu(*ret_vm);
}

/* Runs the guest to its next access, and answers that. Kicks of before are not looked at. */
static int run_once(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu = impost_vm_vcpu(vm, 0);
	struct impost_exit exit = {.size = sizeof(exit)};
	int err;

	do
		err = impost_vcpu_run(vcpu, &exit);
	while (!err && exit.kind == IMPOST_EXIT_INTR);
	if (err)
		return err;
	cr_assert(exit.kind == IMPOST_EXIT_IO && exit.u.io.port == 0x60, "%s",
		  impost_exit_name(&exit));
	*(uint8_t *)exit.u.io.data = 0x42;
	return impost_vcpu_complete(vcpu, &exit);
}

/* --- faults --- */

static const struct impost_fault_control *fault_of(struct impost_vm *vm, void **ret_handle)
{
	const void *table;

	expect_ok(impost_vm_context(vm), impost_vm_extension(vm, IMPOST_FAULT, &table, ret_handle));
	return table;
}

static void arm(struct impost_vm *vm, long nth)
{
	char rules[32] = "";
	void *handle;

	if (nth)
		snprintf(rules, sizeof(rules), "*#%ld", nth);
	expect_ok(impost_vm_context(vm), fault_of(vm, &handle)->set(handle, rules, 0));
}

/* Which call has failed since, NULL: none; none will from now on. */
static const char *disarm(struct impost_vm *vm)
{
	struct impost_fault_counts counts = {.size = sizeof(counts)};
	void *handle;

	cr_assert(fault_of(vm, &handle)->counts(handle, &counts) == 0);
	arm(vm, 0);
	return counts.last;
}

/* TEXT, of what ended with ERR, names the fault. */
static void expect_named(const struct trial *trial, int err, const char *text)
{
	cr_assert(err < 0 && err != -EFAULT, "position %ld: %d", trial->nth, err);
	cr_expect(strstr(text, "layer fault: "), "position %ld: '%s'", trial->nth, text);
}

/* How an operation on a VM ended that lives on whatever happens. */
static bool judge_living(const struct trial *trial, struct impost_vm *vm, int err)
{
	struct impost_context *ctx = impost_vm_context(vm);
	const char *text = impost_error(ctx), *failed = disarm(vm);

	cr_assert(failed || !err, "position %ld: %s", trial->nth, text);
	if (err && strcmp(failed, "vcpu.kick") != 0) /* that sets no text: vcpu.h */
		expect_named(trial, err, text);
	impost_vm_release(vm); /* which it did not, if that is what failed */
	expect_ok(ctx, run_once(vm));
	return failed != NULL;
}

/* And one that makes a VM, which is there only if it succeeded. */
static bool judge_made(const struct trial *trial, struct impost_vm *vm, int err, const char *text)
{
	if (!err)
		return judge_living(trial, vm, 0);
	expect_named(trial, err, text);
	return true;
}

/* --- the operations: whether a call failed --- */

/* The guest as a flat binary, entered in long mode, with all tables that a PC has. */
static int boot_flat(struct impost_vm *vm)
{
	struct impost_context *ctx = impost_vm_context(vm);
	struct impost_x86_boot_result result = {.size = sizeof(result)};
	struct impost_vcpu *const vcpu = impost_vm_vcpu(vm, 0);
	struct impost_x86_boot_config config;
	int err;

	impost_x86_boot_config_init(ctx, &config);
	config.protocol = IMPOST_X86_PROTOCOL_FLAT;
	config.kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
	cr_assert(write(config.kernel_fd, code, sizeof(code)) == (ssize_t)sizeof(code));
	err = impost_x86_boot(vm, &vcpu, 1, &config, &result);
	close(config.kernel_fd);
	return err;
}

static int make_and_boot(struct impost_context *ctx, struct impost_vm **ret_vm)
{
	struct impost_vcpu *vcpu;
	int err = impost_vm_create(ctx, NULL, ret_vm);

	if (!err)
		err = impost_x86_add_ram(impost_vm_memory(*ret_vm), BOOT_BYTES);
	if (!err)
		err = impost_vcpu_create(*ret_vm, 0, &vcpu);
	if (!err)
		err = boot_flat(*ret_vm);
	return err ? err : run_once(*ret_vm);
}

static bool boot(struct trial *trial)
{
	int err;

	trial->ctx[0] = open_faulty(trial);
	err = make_and_boot(trial->ctx[0], &trial->vm);
	return judge_made(trial, trial->vm, err, impost_error(trial->ctx[0]));
}

/* With a VM that works. */
static void prepare(struct trial *trial)
{
	trial->ctx[0] = open_with(trial, "");
	expect_ok(trial->ctx[0], make_vm_of(trial->ctx[0], &trial->vm));
	expect_ok(trial->ctx[0], run_once(trial->vm));
}

/* What a host does while a guest runs. */
static int use(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu = impost_vm_vcpu(vm, 0);
	struct impost_x86_regs regs = {.size = sizeof(regs)};
	struct impost_exit exit = {.size = sizeof(exit)};
	int err = run_once(vm);

	if (!err)
		err = impost_vcpu_kick(vcpu);
	if (!err)
		err = impost_vcpu_run(vcpu, &exit);
	if (!err)
		err = impost_vcpu_get_regs(vcpu, &regs);
	if (!err)
		err = impost_vcpu_set_regs(vcpu, &regs);
	if (!err)
		err = impost_vm_irq_line(vm, 4, 1);
	if (!err)
		err = impost_vm_irq_line(vm, 4, 0);
	if (!err)
		err = impost_vm_hold(vm, LONG_MS);
	if (!err)
		err = impost_vm_release(vm);
	return err ? err : run_once(vm);
}

static bool run(struct trial *trial)
{
	int err;

	prepare(trial);
	arm(trial->vm, trial->nth);
	err = use(trial->vm);
	return judge_living(trial, trial->vm, err);
}

static bool save(struct trial *trial)
{
	struct impost_snapshot_saved saved = {.size = sizeof(saved)};
	int err;

	prepare(trial);
	arm(trial->vm, trial->nth);
	err = impost_snapshot_save(trial->vm, SNAPSHOT_FILE, NULL, &saved);
	cr_expect(count_entries(".") == (err ? 2 : 3), "position %ld", trial->nth);
	unlink(SNAPSHOT_FILE);
	return judge_living(trial, trial->vm, err);
}

/* Restores what is in the folder. */
static int restore_into(struct impost_context *ctx, struct impost_vm **ret_vm)
{
	const struct impost_snapshot_restore_options options = {.size = sizeof(options),
								.memory = IMPOST_SNAPSHOT_COPY};
	struct impost_snapshot *snapshot;
	int err = impost_snapshot_open(ctx, SNAPSHOT_FILE, NULL, &snapshot);

	if (err)
		return err;
	err = impost_snapshot_restore(snapshot, &options, ret_vm);
	cr_expect(!err || !*ret_vm);
	if (!err)
		err = impost_snapshot_load(snapshot, *ret_vm);
	impost_snapshot_close(snapshot);
	return err;
}

static bool restore(struct trial *trial)
{
	struct impost_snapshot_saved saved = {.size = sizeof(saved)};
	char text[512];
	int err;

	if (access(SNAPSHOT_FILE, F_OK)) { /* the first time */
		prepare(trial);
		expect_ok(trial->ctx[0],
			  impost_snapshot_save(trial->vm, SNAPSHOT_FILE, NULL, &saved));
		destroy_vm(trial->vm);
		trial->vm = NULL;
		cr_assert(impost_context_close(trial->ctx[0]) == 0);
	}
	trial->ctx[0] = open_faulty(trial);
	err = restore_into(trial->ctx[0], &trial->vm);
	snprintf(text, sizeof(text), "%s", impost_error(trial->ctx[0]));
	return judge_made(trial, trial->vm, err, text);
}

/* --- migrations --- */

static struct impost_migration *make_migration(struct trial *trial, int side)
{
	const struct impost_migration_channel channel = {.size = sizeof(channel),
							 .fd = trial->socket[side]};
	const struct impost_migration_config config = {.size = sizeof(config), .channel = &channel};
	struct impost_migration *migration = NULL;

	expect_ok(trial->ctx[side], impost_migration_create(trial->ctx[side], &config, &migration));
	return migration;
}

static void *receive(void *arg)
{
	struct trial *trial = arg;
	struct impost_migration *migration = make_migration(trial, 1);

	trial->received = impost_migration_receive(migration, &trial->arrived);
	snprintf(trial->received_text, sizeof(trial->received_text), "%s",
		 trial->received ? impost_error(trial->ctx[1]) : "");
	if (trial->received)
		shutdown(trial->socket[1], SHUT_RDWR);
	impost_migration_destroy(migration);
	return NULL;
}

/* Moves the VM; returns what send does, with its text. */
static int migrate(struct trial *trial, char *text, size_t size)
{
	struct impost_migration *migration = make_migration(trial, 0);
	pthread_t receiver;
	int sent;

	cr_assert(pthread_create(&receiver, NULL, receive, trial) == 0);
	sent = impost_migration_send(migration, trial->vm);
	snprintf(text, size, "%s", sent ? impost_error(trial->ctx[0]) : "");
	if (sent)
		shutdown(trial->socket[0], SHUT_RDWR);
	pthread_join(receiver, NULL);
	impost_migration_destroy(migration);
	cr_assert(sent != -IMPOST_EUNSETTLED, "position %ld: %s", trial->nth, text);
	cr_assert((sent == 0) == (trial->received == 0), "position %ld: %s; %s", trial->nth, text,
		  trial->received_text);
	cr_assert((trial->received == 0) == (trial->arrived != NULL));
	return sent;
}

static void prepare_migration(struct trial *trial, bool faulty_destination)
{
	prepare(trial);
	trial->ctx[1] = faulty_destination ? open_faulty(trial) : open_with(trial, "");
	cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, trial->socket) == 0);
}

static bool migrate_out(struct trial *trial)
{
	char text[512];
	int sent;

	prepare_migration(trial, false);
	arm(trial->vm, trial->nth);
	sent = migrate(trial, text, sizeof(text));
	if (sent) {
		expect_named(trial, sent, text);
		return judge_living(trial, trial->vm, 0);
	}
	expect_ok(trial->ctx[1], run_once(trial->arrived));
	return disarm(trial->vm) != NULL;
}

static bool migrate_in(struct trial *trial)
{
	char text[512];
	int sent;

	prepare_migration(trial, true);
	sent = migrate(trial, text, sizeof(text));
	if (sent) /* the source goes on as if nothing had been */
		expect_ok(trial->ctx[0], run_once(trial->vm));
	return judge_made(trial, trial->arrived, trial->received, trial->received_text);
}

/* --- sweeps --- */

/* What a process has; of mappings those with a name: of guest memory, and of vCPUs. */
struct owned {
	size_t fds, threads, maps;
};

static struct owned count_owned(void)
{
	struct owned owned = {count_entries("/proc/self/fd"), count_entries("/proc/self/task"), 0};
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];

	while (fgets(line, sizeof(line), file))
		owned.maps += strstr(line, "/memfd:") || strstr(line, "anon_inode:") ||
			      strstr(line, SNAPSHOT_FILE);
	fclose(file);
	return owned;
}

/* A thread that was joined may still be listed for a moment. */
static void expect_owned(const struct trial *trial, struct owned before)
{
	struct owned now = count_owned();

	for (int i = 0; i < 5000 && now.threads != before.threads; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		now = count_owned();
	}
	cr_assert(now.fds == before.fds && now.threads == before.threads && now.maps == before.maps,
		  "position %ld: %zu descriptors, %zu threads, %zu mappings became %zu, %zu, %zu",
		  trial->nth, before.fds, before.threads, before.maps, now.fds, now.threads,
		  now.maps);
}

static void clean_up(struct trial *trial)
{
	destroy_vm(trial->arrived);
	destroy_vm(trial->vm);
	for (int i = 0; i < 2; i++) {
		cr_assert(impost_context_close(trial->ctx[i]) == 0);
		if (trial->socket[i] >= 0)
			close(trial->socket[i]);
	}
}

/* Whether a call failed in OPERATION with a fault at position NTH. */
static bool try(const char *backend, bool (*operation)(struct trial *trial), long nth)
{
	struct trial trial = {.backend = backend, .nth = nth, .socket = {-1, -1}};
	bool failed = operation(&trial);

	clean_up(&trial);
	return failed;
}

static void skip_without(const char *backend)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	struct trial trial = {.backend = backend};
	struct impost_context *ctx = open_with(&trial, "");
	char why[512] = "";

	if (impost_backend_probe(ctx, backend, &caps))
		snprintf(why, sizeof(why), "%s", impost_error(ctx));
	impost_context_close(ctx);
	if (*why)
		cr_skip_test("%s", why);
}

static void sweep(const char *backend, bool (*operation)(struct trial *trial), long least)
{
	long nth = 1;
	struct trial last = {.backend = backend};
	struct owned before;

	skip_without(backend);
	try(backend, operation, MOST_CALLS * 10); /* what is made once is there */
	before = count_owned();
	while (nth < MOST_CALLS && try(backend, operation, nth)) {
		last.nth = nth;
		expect_owned(&last, before);
		nth++;
	}
	cr_log_info("%ld calls failed in turn", nth - 1);
	cr_expect(nth > least && nth < MOST_CALLS, "%ld calls can fail", nth);
}

static char folder[] = "/tmp/impost-sweep-XXXXXX";

static void begin(void)
{
	cr_assert(mkdtemp(folder) && chdir(folder) == 0, "%m");
	write_script();
}

static void end(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_expect(system(command) == 0);
}

TestSuite(fault_sweep, .init = begin, .fini = end, .timeout = 600);

/* Each operation, and the calls that it makes at the least. */
#define SWEEP(operation, least)                  \
	Test(fault_sweep, operation##_mock)      \
	{                                        \
		sweep("mock", operation, least); \
	}                                        \
	Test(fault_sweep, operation##_kvm)       \
	{                                        \
		sweep("kvm", operation, least);  \
	}

SWEEP(boot, 15)
SWEEP(run, 8)
SWEEP(save, 20)
SWEEP(restore, 25)
SWEEP(migrate_out, 20)
SWEEP(migrate_in, 25)
