/* SPDX-License-Identifier: Apache-2.0 */
/* Saving over an older snapshot, when the process is killed, the disk is full, or fails. */
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "snapshot_faults.h"
#include "snapshot_made.h"
#include "snapshot_vm.h"

#define OLD  1u
#define NEW  2u
#define NAME "vm.snapshot"

TestSuite(snapshot_crash, .init = folder_begin, .fini = folder_end, .timeout = 240);

static const struct impost_snapshot_save_options one_thread = {
	.size = sizeof(one_thread),
	.threads = 1,
};

static void open_vm(struct mock *m, uint64_t seed)
{
	mock_open(m, NULL);
	write_pattern(m, PATTERN, MEMORY, seed);
}

static void save_old(void)
{
	struct mock m;

	open_vm(&m, OLD);
	expect_ok(m.ctx, impost_snapshot_save(m.vm, NAME, &one_thread, NULL));
	mock_close(&m);
}

/* Which of the two is there: it is whole, in any case. */
static uint64_t expect_whole(void)
{
	struct impost_snapshot *snapshot;
	struct impost_context *ctx;
	uint64_t number, seed;

	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	snapshot = open_snapshot(ctx, NAME);
	expect_ok(ctx, impost_snapshot_verify(snapshot, 1, NULL, NULL));
	expect_ok(ctx, impost_snapshot_read(snapshot, PATTERN, &number, sizeof(number)));
	for (seed = OLD; seed < NEW; seed++) {
		uint64_t page[PAGE / 8];

		pattern_page(PATTERN / PAGE, seed, page);
		if (page[0] == number)
			break;
	}
	expect_pattern(ctx, snapshot, PATTERN, MEMORY, seed);
	impost_snapshot_close(snapshot);
	cr_assert(impost_context_close(ctx) == 0);
	return seed;
}

/* --- death --- */

/* Saves in a process of its own, with a fault. Returns its status, and how many calls it made. */
static int save_in_child(enum fault_kind kind, long at, long *ret_calls)
{
	long *calls = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, err;
	pid_t pid;

	cr_assert(calls != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		struct mock m;

		open_vm(&m, NEW);
		fault_arm(kind, at, 0);
		err = impost_snapshot_save(m.vm, NAME, &one_thread, NULL);
		*calls = fault_disarm();
		_exit(err ? 1 : 0);
	}
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (ret_calls)
		*ret_calls = *calls;
	munmap(calls, PAGE);
	return status;
}

/* Removes what a writer that was killed has left: how many files. */
static size_t remove_litter(void)
{
	DIR *dir = opendir(".");
	struct dirent *entry;
	size_t count = 0;

	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' || strlen(entry->d_name) < 3)
			continue;
		cr_expect(strncmp(entry->d_name, ".impost-", 8) == 0, "%s", entry->d_name);
		cr_expect(unlink(entry->d_name) == 0);
		count++;
	}
	closedir(dir);
	return count;
}

#define POINTS 200
#define LAST   20 /* calls, each of which is a point before and a point after it */

struct tally {
	unsigned old, new, litter;
};

static void kill_at(enum fault_kind kind, long at, struct tally *tally)
{
	int status = save_in_child(kind, at, NULL);

	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "point %ld: status %#x", at,
		  (unsigned)status);
	tally->litter += (unsigned)remove_litter();
	cr_expect(count_names() == 1);
	if (expect_whole() == OLD) {
		tally->old++;
		return;
	}
	tally->new ++;
	save_old();
}

static void kill_everywhere(unsigned litter)
{
	struct tally tally = {0};
	long calls;

	save_old();
	cr_assert(save_in_child(FAULT_NONE, -1, &calls) == 0);
	cr_assert(expect_whole() == NEW);
	cr_assert(calls > 4 * LAST, "%ld calls", calls);
	save_old();
	for (long i = 0; i < POINTS - 2 * LAST; i++)
		kill_at(FAULT_KILL_BEFORE, i * calls / (POINTS - 2 * LAST), &tally);
	for (long i = 0; i < LAST; i++) {
		kill_at(FAULT_KILL_BEFORE, calls - 1 - i, &tally);
		kill_at(FAULT_KILL_AFTER, calls - 1 - i, &tally);
	}
	cr_expect(tally.old + tally.new == POINTS);
	/* The last two calls are rename(2) and the folder's fsync(2). */
	cr_expect(tally.new == 3, "%u times the new one", tally.new);
	cr_expect(tally.litter <= litter, "%u files were left", tally.litter);
}

/* Litter: after linkat(2), and before renameat(2). */
Test(snapshot_crash, killed_at_200_points)
{
	kill_everywhere(4);
}

/* A file that has a name from the beginning is left whenever its writer is killed. */
Test(snapshot_crash, killed_at_200_points_without_unnamed_files)
{
	fault.no_unnamed_files = 1;
	kill_everywhere(POINTS);
}

/* --- errors --- */

/* A guest that runs while it is saved. */
struct runner {
	struct mock *m;
	pthread_t thread;
	atomic_ulong exits;
	atomic_bool end;
};

static void *run(void *opaque)
{
	const struct impost_mock_step halt = {
		.size = sizeof(halt), .op = IMPOST_MOCK_EXIT, .exit.kind = IMPOST_EXIT_HLT};
	struct runner *runner = opaque;
	struct impost_exit exit;

	while (!runner->end) {
		append(runner->m, 0, &halt, 1);
		cr_assert(impost_vcpu_run(runner->m->cpu[0], &exit) == 0);
		cr_assert(exit.kind == IMPOST_EXIT_HLT);
		runner->exits++;
		usleep(100);
	}
	return NULL;
}

static void start(struct runner *runner, struct mock *m)
{
	runner->m = m;
	runner->exits = 0;
	runner->end = false;
	cr_assert(pthread_create(&runner->thread, NULL, run, runner) == 0);
}

static void expect_runs(struct runner *runner)
{
	unsigned long before = runner->exits;

	while (runner->exits < before + 2) /* or the test's time is over */
		sched_yield();
}

static void stop(struct runner *runner)
{
	runner->end = true;
	pthread_join(runner->thread, NULL);
}

static void expect_same_file(const struct made *before)
{
	struct made now = made_read(NAME);

	cr_expect(now.len == before->len && memcmp(now.bytes, before->bytes, now.len) == 0);
	made_free(&now);
}

/* One call fails. Where it was the folder's fsync(2), the new file is there. */
static void fail_at(struct runner *runner, const struct made *before, long at, int error, bool last)
{
	struct mock *m = runner->m;

	fault_arm(FAULT_ERROR, at, error);
	expect_error(m->ctx, impost_snapshot_save(m->vm, NAME, &one_thread, NULL), -error,
		     strerror(error));
	fault_disarm();
	cr_expect(strstr(impost_error(m->ctx), NAME) || strstr(impost_error(m->ctx), "memory"),
		  "'%s' names no file", impost_error(m->ctx));
	cr_expect(count_names() == 1, "call %ld: files are left", at);
	expect_runs(runner);
	if (last)
		cr_expect(strstr(impost_error(m->ctx), "the folder") && expect_whole() == NEW);
	else
		expect_same_file(before);
}

static void fail_everywhere(void)
{
	static const int errors[] = {ENOSPC, EIO, EDQUOT};
	struct runner runner;
	struct mock m;
	struct made before;
	long calls;

	save_old();
	before = made_read(NAME);
	open_vm(&m, NEW);
	start(&runner, &m);
	fault_arm(FAULT_NONE, -1, 0);
	expect_ok(m.ctx, impost_snapshot_save(m.vm, NAME, &one_thread, NULL));
	calls = fault_disarm();
	made_write(&before, NAME);
	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (long at = 0; at < calls - 10; at += calls / 10)
			fail_at(&runner, &before, at, errors[e], false);
		for (long at = calls - 10; at < calls - 1; at++)
			fail_at(&runner, &before, at, errors[e], false);
	}
	fail_at(&runner, &before, calls - 1, EIO, true);
	stop(&runner);
	made_free(&before);
	mock_close(&m);
}

Test(snapshot_crash, errors_leave_the_old_one)
{
	fail_everywhere();
}

Test(snapshot_crash, errors_leave_the_old_one_without_unnamed_files)
{
	fault.no_unnamed_files = 1;
	fail_everywhere();
}

Test(snapshot_crash, short_and_interrupted_writes_go_on)
{
	struct mock m;

	open_vm(&m, NEW);
	fault_arm(FAULT_SHORT, 0, 0);
	expect_ok(m.ctx, impost_snapshot_save(m.vm, NAME, NULL, NULL));
	cr_expect(fault_disarm() > 100);
	cr_expect(expect_whole() == NEW);
	mock_close(&m);
}

/* A save that fails has not forgotten what was written before it. */
Test(snapshot_crash, dirty_pages_come_again)
{
	struct impost_snapshot_save_options options = {
		.size = sizeof(options), .threads = 1, .base = NAME};
	struct impost_snapshot *snapshot;
	struct mock m;
	long calls;

	open_vm(&m, OLD);
	expect_ok(m.ctx, impost_dirty_create(impost_vm_memory(m.vm), NULL, &options.since));
	options.base = NULL;
	expect_ok(m.ctx, impost_snapshot_save(m.vm, NAME, &options, NULL));
	options.base = NAME;
	write_pattern(&m, PATTERN, PATTERN + 100 * PAGE, NEW);
	fault_arm(FAULT_ERROR, 5, ENOSPC);
	expect_error(m.ctx, impost_snapshot_save(m.vm, "diff", &options, NULL), -ENOSPC, "");
	calls = fault_disarm();
	cr_expect(calls == 6 && count_names() == 1);
	write_pattern(&m, PATTERN + 200 * PAGE, PATTERN + 210 * PAGE, NEW);
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "diff", &options, NULL));
	snapshot = open_snapshot(m.ctx, "diff");
	expect_pattern(m.ctx, snapshot, PATTERN, PATTERN + 100 * PAGE, NEW);
	expect_pattern(m.ctx, snapshot, PATTERN + 100 * PAGE, PATTERN + 200 * PAGE, OLD);
	expect_pattern(m.ctx, snapshot, PATTERN + 200 * PAGE, PATTERN + 210 * PAGE, NEW);
	expect_pattern(m.ctx, snapshot, PATTERN + 210 * PAGE, MEMORY, OLD);
	impost_snapshot_close(snapshot);
	expect_ok(m.ctx, impost_dirty_destroy(options.since));
	mock_close(&m);
}

/* --- without the faults that are made up --- */

Test(snapshot_crash, full_disk)
{
	struct statvfs before, after;
	struct runner runner;
	struct mock m;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mkdir("small", 0700) || mount("none", "small", "tmpfs", 0, "size=1m"))
		cr_skip_test("a small file system cannot be mounted here: %s", strerror(errno));
	cr_assert(chdir("small") == 0 && statvfs(".", &before) == 0);
	open_vm(&m, NEW);
	start(&runner, &m);
	expect_error(m.ctx, impost_snapshot_save(m.vm, NAME, NULL, NULL), -ENOSPC,
		     strerror(ENOSPC));
	expect_runs(&runner);
	stop(&runner);
	cr_expect(count_names() == 0);
	cr_expect(statvfs(".", &after) == 0 && after.f_bfree == before.f_bfree);
	mock_close(&m);
	cr_assert(chdir("..") == 0 && umount("small") == 0);
}

Test(snapshot_crash, limit_of_the_process)
{
	const struct rlimit limit = {1 << 20, 1 << 20};
	struct made before;
	struct mock m;

	save_old();
	before = made_read(NAME);
	open_vm(&m, NEW);
	cr_assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	expect_error(m.ctx, impost_snapshot_save(m.vm, NAME, NULL, NULL), -EFBIG, "RLIMIT_FSIZE");
	expect_same_file(&before);
	cr_expect(count_names() == 1);
	made_free(&before);
	mock_close(&m);
}

static int cancel(void *opaque, uint64_t done, uint64_t total)
{
	(void)total;
	return done >= *(uint64_t *)opaque;
}

Test(snapshot_crash, progress_can_cancel)
{
	uint64_t most = MEMORY / 2;
	struct impost_snapshot_save_options options = {
		.size = sizeof(options), .progress = cancel, .opaque = &most};
	struct runner runner;
	struct made before;
	struct mock m;

	save_old();
	before = made_read(NAME);
	open_vm(&m, NEW);
	start(&runner, &m);
	for (options.flags = 0; options.flags <= IMPOST_SNAPSHOT_BACKGROUND; options.flags++) {
		expect_error(m.ctx, impost_snapshot_save(m.vm, NAME, &options, NULL), -ECANCELED,
			     "");
		expect_same_file(&before);
		expect_runs(&runner);
	}
	stop(&runner);
	made_free(&before);
	mock_close(&m);
}
