// SPDX-License-Identifier: Apache-2.0
/* Snapshots as the user of `impost` meets them: saved, looked at, compared, restored, refused. */
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <json-c/json.h>

#include "tool_process.h"

#define PLUGINS "--plugin-dir", tool_env("IMPOST_PLUGINS")

TestSuite(snapshot, .init = tool_files_make, .fini = tool_clean, .timeout = 120);

/* --- runs --- */

static const char *contents(const char *name)
{
	static char text[1u << 20];
	FILE *file = fopen(tool_path(name), "re");
	size_t len = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

	if (file)
		fclose(file);
	text[len] = '\0';
	return text;
}

/* Waits until TEXT is in the file. */
static void expect(const char *name, const char *text)
{
	for (int i = 0; i < 2000; i++) {
		if (strstr(contents(name), text))
			return;
		usleep(10000);
	}
	cr_assert_fail("no '%s' in '%s'", text, contents(name));
}

#define CHECK(status_, part, ...)                                                                 \
	do {                                                                                      \
		const struct tool_result *result_ = TOOL_RUN(__VA_ARGS__);                        \
		cr_assert_eq(result_->status, status_, "%d: %s%s", result_->status, result_->out, \
			     result_->err);                                                       \
		cr_assert(strstr(result_->out, part) || strstr(result_->err, part),               \
			  "no '%s' in %s%s", part, result_->out, result_->err);                   \
	} while (0)

/* Mock guests that set their serial port up, say something, and sleep. What wakes a restored one is
 * its new generation id (VMGenID): WAITER then looks whether the port is as it was. */
#define PROLOGUE               \
	"[vcpu 0]\n"           \
	"out = 0x3f9 1 0x01\n" \
	"out = 0x3fc 1 0x08\n" \
	"out = 0x3ff 1 0x5a\n" \
	"text = 0x3f8 \"first\\n\"\n"
#define SLEEPER PROLOGUE "repeat = forever\nhalt =\nend =\n"
#define WAITER                         \
	PROLOGUE                       \
	"halt =\n"                     \
	"in = 0x3ff 1 expect 0x5a\n"   \
	"in = 0x3f9 1 expect 0x01\n"   \
	"text = 0x3f8 \"second\\n\"\n" \
	"shutdown = guest\n"

static void start_mock(const char *script)
{
	const char *const args[] = {"run",	 "-c",	    "@mock.ini", PLUGINS,
				    "--control", "@socket", NULL};

	tool_write_mock(script);
	tool_start(args, NULL, "out");
	expect("out", "first\n");
}

/* --- saved and restored --- */

/* userfaultfd(2): by the device's mode, or as CAP_SYS_PTRACE allows. */
static bool has_uffd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || access("/dev/userfaultfd", R_OK | W_OK) == 0;
}

/* The guest and its serial port go on where they were, in another process. */
Test(snapshot, restored_run_goes_on)
{
	start_mock(WAITER);
	CHECK(0, "saved", "ctl", "@socket", "save", "@snap");
	CHECK(0, "running", "ctl", "@socket", "status");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	cr_assert_str_eq(contents("out"), "first\n");

	for (int i = 0; i < (has_uffd() ? 3 : 2); i++) {
		static const char *const ways[] = {"map", "copy", "lazy"};
		const char *const args[] = {"run",	 "-c",	  "@mock.ini",	      PLUGINS,
					    "--restore", "@snap", "--restore-memory", ways[i],
					    NULL};

		remove(tool_path("out"));
		tool_start(args, NULL, "out");
		cr_assert_eq(tool_ended(), 0, "%s", ways[i]);
		cr_assert_str_eq(contents("out"), "second\n");
	}
}

static void expect_running(void)
{
	for (int i = 0; i < 1000 && TOOL_RUN("ctl", "@socket", "status")->status; i++)
		usleep(10000);
}

/* Starts the counting guest on KVM, and waits until it counts. */
static void start_counting(const char *cmdline)
{
	const char *const args[] = {"run",	 PLUGINS, "--backend", "kvm",
				    "--memory",	 "32M",	  "--kernel",  tool_env("IMPOST_COUNT"),
				    "--cmdline", cmdline, "--control", "@socket",
				    NULL};

	tool_start(args, NULL, "out");
	expect("out", "round ");
}

/* What is typed reaches the serial port of a restored guest as it did that of the first: by an
 * interrupt, and not while it is paused. */
Test(snapshot, restored_run_hears_what_is_typed)
{
	static const char script[] = PROLOGUE "halt =\n"
					      "text = 0x3f8 \"awake\\n\"\n"
					      "halt =\n"
					      "in = 0x3fd 1 expect 0x61\n"
					      "in = 0x3f8 1 expect 0x78\n"
					      "text = 0x3f8 \"second\\n\"\n"
					      "shutdown = guest\n";
	const char *const args[] = {"run",   "-c",	  "@mock.ini", PLUGINS, "--restore",
				    "@snap", "--control", "@socket",   NULL};
	int keys;

	start_mock(script);
	CHECK(0, "saved", "ctl", "@socket", "save", "@snap");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	cr_assert_eq(mkfifo(tool_path("keys"), 0600), 0);
	tool_start(args, "keys", "out");
	expect("out", "awake\n");
	CHECK(0, "", "ctl", "@socket", "pause");
	keys = open(tool_path("keys"), O_WRONLY | O_CLOEXEC);
	cr_assert_eq(write(keys, "x", 1), 1);
	CHECK(0, "paused", "ctl", "@socket", "status");
	usleep(50000);
	CHECK(0, "", "ctl", "@socket", "resume");
	cr_assert_eq(tool_ended(), 0);
	close(keys);
	cr_assert_str_eq(contents("out"), "first\nawake\nsecond\n");
}

/* Executed, and not held up for longer than the state takes. */
Test(snapshot, counting_guest_goes_on_kvm)
{
	const char *const again[] = {"run",	  PLUGINS, "--backend", "kvm",
				     "--restore", "@snap", NULL};
	static char whole[8192];
	size_t len = 0;

	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("skipped: there is no /dev/kvm");
	for (int round = 10; round <= 400; round += 10)
		len += (size_t)snprintf(whole + len, sizeof(whole) - len, "round %d\n", round);
	start_counting("pages=64 rounds=400 every=10");
	CHECK(0, "", "ctl", "@socket", "pause");
	CHECK(0, "saved", "ctl", "@socket", "save", "@snap");
	CHECK(0, "paused", "ctl", "@socket", "status");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	tool_start(again, NULL, "out");
	cr_assert_eq(tool_ended(), 0);
	cr_assert_str_eq(contents("out"), whole);
}

/* What a guest does between two snapshots is seen: registers by name, memory by range. */
Test(snapshot, differences_are_told_kvm)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("skipped: there is no /dev/kvm");
	start_counting("pages=4 rounds=0 every=1000");
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	expect("out", "round 2000\n");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(1, "vcpu.0", "diff", "@a", "@b");
	/* The counters: four pages at 16 MiB. */
	CHECK(1, "memory     0x1000000-0x1003fff (4 pages)", "diff", "@a", "@b");
	CHECK(0, "", "diff", "@b", "@b");
}

/* As long as there is a socket the guest runs: then, a little later, its file is cut. */
static pid_t cut_when_it_runs(const char *name)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	for (int i = 0; i < 20000 && access(tool_path("socket"), F_OK) != 0; i++)
		usleep(1000);
	usleep(50000);
	_exit(truncate(tool_path(name), 4096) != 0);
}

/* The wrong one is blamed, and the host ended by SIGBUS, where nobody looks at the file. */
Test(snapshot, file_that_becomes_shorter_is_named_kvm)
{
	static const struct {
		const char *restored, *cut;
	} cases[] = {{"@c", "c"}, {"@b", "a"}};

	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("skipped: there is no /dev/kvm");
	start_counting("pages=64 rounds=0 every=1000");
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@c");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct tool_result *result;
		char part[64];
		int status;
		pid_t pid;

		pid = cut_when_it_runs(cases[i].cut);
		result = TOOL_RUN("run", PLUGINS, "--backend", "kvm", "--restore",
				  cases[i].restored, "--control", "@socket");
		snprintf(part, sizeof(part), "/%s: the file is 4096 bytes long now", cases[i].cut);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert_eq(status, 0);
		cr_expect_eq(result->status, 3, "%d: %s", result->status, result->err);
		cr_expect(strstr(result->err, part), "no '%s' in %s", part, result->err);
		cr_expect_neq(access(tool_path("socket"), F_OK), 0);
	}
}

/* --- what cannot be --- */

Test(snapshot, options_that_a_snapshot_settles)
{
	static const struct {
		const char *option, *value, *part;
	} refusals[] = {
		{"--memory", "32M", "the guest's RAM"},
		{"--cpus", "2", "the guest's vCPUs"},
		{"--topology", "1:1:1:1", "the guest's vCPUs"},
		{"--cpu-template", "x86-64-v1", "the guest's vCPUs"},
		{"--kernel", "@kernel", "has been booted"},
		{"--initrd", "@kernel", "has been booted"},
		{"--cmdline", "x", "has been booted"},
		{"--boot", "flat", "has been booted"},
		{"--memory-backing", "memfd", "--restore-memory copy or lazy"},
		{"--memory-pages", "2M", "--restore-memory copy or lazy"},
		{"--restore-memory", "slow", "map, copy or lazy"},
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		CHECK(2, refusals[i].part, "run", PLUGINS, "--restore", "@none", refusals[i].option,
		      refusals[i].value);
	CHECK(2, "--restore FILE", "run", PLUGINS, "--restore-memory", "map");
	CHECK(3, "No such file", "run", PLUGINS, "--restore", "@none");
	CHECK(2, "into which file", "ctl", "@socket", "save");
	CHECK(2, "--diff is for save", "ctl", "@socket", "--diff", "x", "pause");
	CHECK(2, "there is one missing", "diff", "@none");
	CHECK(2, "there is one missing", "flatten", "@none");
	CHECK(2, "of what?", "inspect");
	CHECK(2, "of what?", "check");
}

/* All of it, however much there is: the mock has little of what KVM gave the guest. */
Test(snapshot, restore_tells_everything_that_is_in_the_way_kvm)
{
	static char found[TOOL_OUTPUT_MAX];

	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("skipped: there is no /dev/kvm");
	start_counting("pages=4 rounds=0 every=1000");
	CHECK(0, "saved", "ctl", "@socket", "save", "@snap");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(1, "", "check", PLUGINS, "--backend", "mock", "@snap");
	snprintf(found, sizeof(found), "%s",
		 TOOL_RUN("check", PLUGINS, "--backend", "mock", "@snap")->out);
	cr_assert_gt(strlen(found), 1024, "an error would have room for them");
	CHECK(3, found, "run", PLUGINS, "--backend", "mock", "--restore", "@snap");
	CHECK(3, "snap cannot be restored here, for these reasons\n", "run", PLUGINS, "--backend",
	      "mock", "--restore", "@snap");
}

/* What is no snapshot is refused by name, by every command, and nothing is made. */
Test(snapshot, files_that_are_none)
{
	tool_write_text("empty", "");
	tool_write_text("text", "This is no snapshot, though it is as long as some header may be.");
	mkdir(tool_path("folder"), 0700);
	for (int i = 0; i < 4; i++) {
		static const char *const names[] = {"@empty", "@text", "@folder", "@none"};

		CHECK(3, "impost:", "inspect", names[i]);
		CHECK(3, "impost:", "inspect", "--header", names[i]);
		CHECK(3, "impost:", "check", PLUGINS, names[i]);
		CHECK(3, "impost:", "diff", names[i], names[i]);
		CHECK(3, "impost:", "flatten", names[i], "@out");
		CHECK(3, "impost:", "run", PLUGINS, "--restore", names[i]);
		cr_assert_neq(access(tool_path("out"), F_OK), 0);
	}
}

/* A save that fails says why, and the guest runs on. */
Test(snapshot, saves_that_fail)
{
	start_mock(SLEEPER);
	CHECK(1, "No such file", "ctl", "@socket", "save", "@missing/snap");
	CHECK(1, "save it whole first", "ctl", "@socket", "save", "@snap", "--diff", "@base");
	mkdir(tool_path("folder"), 0700);
	CHECK(1, "impost: save:", "ctl", "@socket", "save", "@folder");
	CHECK(0, "running", "ctl", "@socket", "status");
	CHECK(0, "saved", "ctl", "@socket", "save", "@snap");
	CHECK(0, "/snap", "ctl", "@socket", "status");
}

/* Two requests at once: the save is whole, or as if it had not been asked for. */
Test(snapshot, quit_in_a_save)
{
	static const char request[] = "import socket, sys\n"
				      "s = socket.socket(socket.AF_UNIX)\n"
				      "s.connect(sys.argv[1])\n"
				      "s.send(b'{\"command\":\"save\",\"file\":\"%s\"}\\n'"
				      "b'{\"command\":\"quit\"}\\n' % sys.argv[2].encode())\n"
				      "while s.recv(4096): pass\n";
	char line[4096];

	tool_write_text("ask.py", request);
	for (int i = 0; i < 5; i++) {
		remove(tool_path("snap"));
		remove(tool_path("out"));
		start_mock(SLEEPER);
		snprintf(line, sizeof(line), "python3 %s %s %s", tool_path("ask.py"),
			 tool_path("socket"), tool_path("snap"));
		cr_assert_eq(tool_shell(line), 0);
		cr_assert_eq(tool_ended(), 0);
		if (access(tool_path("snap"), F_OK) == 0)
			CHECK(0, "", "check", "-c", "@mock.ini", PLUGINS, "--verify", "@snap");
	}
}

/* --- diffs --- */

Test(snapshot, chain_of_diffs)
{
	start_mock(SLEEPER);
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(1, "not what was saved last", "ctl", "@socket", "save", "@c", "--diff", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@c", "--diff", "@b");
	CHECK(1, "a cannot take the place of a base", "ctl", "@socket", "save", "@a");
	cr_assert_eq(symlink("a", tool_path("also")), 0);
	CHECK(1, "a base of the diff", "ctl", "@socket", "save", "@also");
	CHECK(1, "b cannot take the place of a base", "ctl", "@socket", "save", "@b");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(0, "diff to", "inspect", "--header", "@c");
	CHECK(0, "", "flatten", "@c", "@d");
	CHECK(0, "", "diff", "@c", "@d");
	remove(tool_path("a"));
	CHECK(3, "/a", "check", "-c", "@mock.ini", PLUGINS, "@c");
	CHECK(0, "rip", "inspect", "@c"); /* for its state the bases are not needed */
	CHECK(0, "can be restored", "check", "-c", "@mock.ini", PLUGINS, "--verify", "@d");
}

/* Over what the last one is a diff to, only when that is gone. */
Test(snapshot, whole_again_where_the_base_was)
{
	start_mock(SLEEPER);
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(1, "or remove the diff first", "ctl", "@socket", "save", "@a");
	remove(tool_path("b"));
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b"); /* in its own place */
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(0, "can be restored", "check", "-c", "@mock.ini", PLUGINS, "--verify", "@b");
}

/* What a run began with is told as others can open it. Without tracking there is no diff to it, but
 * one to what was saved since. */
Test(snapshot, diff_to_what_was_restored_untracked)
{
	const char *const args[] = {"run", "-c",	"@mock.ini", PLUGINS, "--restore",
				    "a",   "--control", "socket",    NULL};
	char line[4096];

	start_mock(SLEEPER);
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	cr_assert_eq(chdir(tool_path("")), 0);
	tool_start(args, NULL, "out");
	expect_running();
	snprintf(line, sizeof(line), "restored  %s\n", tool_path("a"));
	CHECK(0, line, "ctl", "@socket", "status");
	CHECK(0, "\"restored\":true", "ctl", "--json", "@socket", "status");
	CHECK(1, "track must be always", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@a"); /* which RAM is mapped from */
	CHECK(0, "saved     ", "ctl", "@socket", "status");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(1, "cannot take the place", "ctl", "@socket", "save", "@a", "--diff", "@b");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(0, "can be restored", "check", "-c", "@mock.ini", PLUGINS, "--verify", "@b");
}

/* A restored run can be saved as a diff to what it began with, where that is asked for. */
Test(snapshot, diff_to_what_was_restored)
{
	const char *const args[] = {"run", "-c",	"@always.ini", PLUGINS, "--restore",
				    "@a",  "--control", "@socket",     NULL};

	start_mock(SLEEPER);
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	tool_write_text("always.ini", "[impost]\nbackend = mock\n[backend.mock]\nscript = script\n"
				      "[snapshot]\ntrack = always\n");
	tool_start(args, NULL, "out");
	expect_running();
	CHECK(0, "saved", "ctl", "@socket", "save", "@b", "--diff", "@a");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(0, "can be restored", "check", "-c", "@mock.ini", PLUGINS, "--verify", "@b");
}

/* --- looked at --- */

Test(snapshot, inspected_and_compared)
{
	const struct tool_result *result;
	struct json_object *object, *snapshot, *value;

	start_mock(SLEEPER);
	CHECK(0, "saved", "ctl", "@socket", "save", "@a");
	CHECK(0, "saved", "ctl", "@socket", "save", "@b");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(0, "vcpu.0", "inspect", "@a");
	CHECK(0, "device.serial.0", "inspect", "@a");
	result = TOOL_RUN("inspect", "--header", "@a");
	cr_assert(strstr(result->out, "digest") && !strstr(result->out, "rip"));
	result = TOOL_RUN("inspect", "--json", "@a");
	cr_assert_eq(result->status, 0);
	object = json_tokener_parse(result->out);
	cr_assert(json_object_object_get_ex(object, "snapshot", &snapshot));
	cr_assert(json_object_object_get_ex(snapshot, "state", &value));
	cr_assert(json_object_object_get_ex(value, "device.serial.0", &value));
	json_object_put(object);
	/* Two of the same guest, one after the other: nothing but time has passed. */
	result = TOOL_RUN("diff", "@a", "@b");
	cr_assert(result->status == 0 || result->status == 1);
	cr_assert_null(strstr(result->out, "memory "), "%s", result->out);
	CHECK(0, "", "diff", "@a", "@a");
	result = TOOL_RUN("diff", "--json", "@a", "@a");
	cr_assert_eq(result->status, 0);
	object = json_tokener_parse(result->out);
	cr_assert(json_object_object_get_ex(object, "differences", &value));
	cr_assert(json_object_object_get_ex(value, "memory", &value));
	cr_assert_eq(json_object_array_length(value), 0);
	json_object_put(object);
}

/* --- keys --- */

Test(snapshot, keys)
{
	const char *const args[] = {"run",     "-c",	     "@mock.ini", PLUGINS, "--control",
				    "@socket", "--key-file", "@key",	  NULL};

	tool_write_mock(SLEEPER);
	tool_write_text("key", "a secret of enough bytes");
	tool_write_text("other", "another one of enough bytes");
	tool_write_text("short", "short");
	chmod(tool_path("key"), 0600);
	chmod(tool_path("other"), 0600);
	chmod(tool_path("short"), 0600);
	tool_start(args, NULL, "out");
	expect("out", "first\n");
	CHECK(0, "saved", "ctl", "@socket", "save", "@snap");
	CHECK(0, "", "ctl", "@socket", "quit");
	cr_assert_eq(tool_ended(), 0);
	CHECK(0, "verified with the key", "inspect", "--key-file", "@key", "@snap");
	CHECK(0, "not verified", "inspect", "--header", "@snap");
	CHECK(3, "impost:", "inspect", "@snap");
	CHECK(3, "impost:", "inspect", "--key-file", "@other", "@snap");
	CHECK(3, "impost:", "inspect", "--key-file", "@short", "@snap");
	CHECK(3, "impost:", "run", "-c", "@mock.ini", PLUGINS, "--restore", "@snap");
	chmod(tool_path("key"), 0644);
	CHECK(3, "impost:", "inspect", "--key-file", "@key", "@snap");
}

/* --- the terminal --- */

/* What the tool writes to a terminal. */
static const char *seen_on_terminal(const char *const *args)
{
	static char seen[65536];
	size_t len = 0;
	ssize_t count;
	int master;
	pid_t pid;

	pid = forkpty(&master, NULL, NULL, NULL);
	cr_assert_geq(pid, 0);
	if (pid == 0)
		tool_exec(args);
	while ((count = read(master, seen + len, sizeof(seen) - 1 - len)) > 0)
		len += (size_t)count;
	seen[len] = '\0';
	waitpid(pid, NULL, 0);
	close(master);
	return seen;
}

/* The bar is for people: not in what a program reads, nor where it could not be wiped out. */
Test(snapshot, progress_is_shown_on_a_terminal)
{
	const char *const args[] = {"ctl", "@socket", "save", "@snap", NULL};
	const char *seen;

	start_mock(SLEEPER);
	cr_assert_null(strstr(TOOL_RUN("ctl", "@socket", "save", "@snap")->err, "saving"));
	seen = seen_on_terminal(args);
	cr_assert(strstr(seen, "saving ["), "%s", seen);
	cr_assert(strstr(seen, "100 %"), "%s", seen);
	cr_assert(strstr(seen, "saved /"), "%s", seen);
	tool_term = "dumb";
	seen = seen_on_terminal(args);
	cr_assert_eq(strncmp(seen, "saved /", 7), 0, "%s", seen);
	cr_assert_null(strchr(seen, '\033'));
}
