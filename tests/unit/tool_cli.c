// SPDX-License-Identifier: Apache-2.0
/* `impost` as its user meets it: statuses, messages, JSON, and what goes to which stream. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <json-c/json.h>

#include "tool_process.h"

#define PLUGINS "--plugin-dir", tool_env("IMPOST_PLUGINS")

/* What find_json() parsed last. */
static struct json_object *parsed;

static void clean(void)
{
	json_object_put(parsed);
	tool_files_remove();
}

TestSuite(tool, .init = tool_files_make, .fini = clean, .timeout = 60);

/* A command line that must be refused, and how. */
struct refusal {
	const char *args[8];
	int status;
	const char *message; /* part of standard error */
};

static void check_refusal(const char *const *args, int status, const char *message)
{
	const struct tool_result *result = tool_run(args);
	const char *what = args[0] ? args[0] : "(nothing)", *last = what;

	for (size_t i = 0; args[i]; i++)
		last = args[i];
	cr_expect_eq(result->status, status, "%s ... %s: status %d, %s", what, last, result->status,
		     result->err);
	cr_expect(strstr(result->err, message), "%s ... %s: no '%s' in: %s", what, last, message,
		  result->err);
	cr_expect_eq(result->out_size, 0, "%s ... %s: errors go to standard error alone", what,
		     last);
	cr_expect_null(strchr(result->err, '\033'), "no colours but on a terminal");
}

Test(tool, usage_errors)
{
	static const struct refusal refusals[] = {
		{{NULL}, 2, "Usage: impost COMMAND"},
		{{"frobnicate"}, 2, "there is no command 'frobnicate'"},
		{{"run", "--frobnicate"}, 2, "unrecognized option '--frobnicate'"},
		{{"run", "-x"}, 2, "invalid option -- 'x'"},
		{{"run", "--memory"}, 2, "requires an argument"},
		{{"run", "--stats=yes"}, 2, "doesn't allow an argument"},
		{{"run", "--dirty-rate="}, 2, "--dirty-rate=: there is nothing"},
		{{"run", "--dirty-rate=0"}, 2, "--dirty-rate=0: give milliseconds, from 1"},
		{{"run", "--dirty-rate=-1"}, 2, "--dirty-rate=-1: give milliseconds"},
		{{"run", "--dirty-rate=1s"}, 2, "--dirty-rate=1s: give milliseconds"},
		{{"run", "--dirty-rate=3600001"}, 2, "to 3600000"},
		{{"run", "kernel"}, 2, "what is 'kernel'?"},
		{{"run"}, 2, "no kernel: name one with --kernel"},
		{{"list", "--kernel", "x"}, 2, "unrecognized option '--kernel'"},
		{{"list", "--stats"}, 2, "Try 'impost list --help'"},
		{{"doctor", "kvm"}, 2, "what is 'kvm'?"},
		{{"run", "--memory", "0"}, 2, "memory"},
		{{"run", "--memory", "lots"}, 2, "memory"},
		{{"run", "--memory", "-1"}, 2, "memory"},
		{{"run", "--memory", "99999999999999999999G"}, 2, "memory"},
		{{"run", "--cpus", "0"}, 2, "cpus"},
		{{"run", "--cpus", "two"}, 2, "cpus"},
		{{"run", "--log", "loud"}, 2, "log"},
		{{"run", "--boot", "elf"}, 2, "auto|linux64|linux32|pvh|flat"},
		{{"run", "--flat-mode", "virtual"}, 2, "real|protected|long"},
		{{"run", "--flat-address", "high"}, 2, "address"},
		{{"run", "--flat-address", "0"}, 2, "must be 1 or more"},
		{{"run", "--cpu-template", ""}, 2, "a template's name"},
		{{"run", "--cpu-template", "a b"}, 2, "a template's name"},
		{{"run", "--topology", ""}, 2, "SOCKETS:DIES:CORES:THREADS"},
		{{"run", "--topology", "4294967297:1:1:1"}, 2, "SOCKETS:DIES:CORES:THREADS"},
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		check_refusal(refusals[i].args, refusals[i].status, refusals[i].message);
}

/* The same for runs that come as far as files and the host. "@" is a file of the test's folder. */
Test(tool, refused_runs)
{
	static const struct refusal refusals[] = {
		{{"--memory", "3"}, 2, "memory"},
		{{"--memory", "128T"}, 3, "address space"},
		{{"--memory-backing", "gold"}, 2, "anonymous|memfd|file"},
		{{"--memory-backing", "file"}, 3, "which file"},
		{{"--memory-shared"}, 3, "(--memory-backing)"},
		{{"--memory-path", "@empty"}, 3, "(--memory-backing file)"},
		{{"--numa-policy", "bind"}, 3, "(--numa-nodes)"},
		{{"--numa-nodes", "70"}, 2, "must be NUMA nodes"},
		{{"--numa-nodes", "0"}, 3, "and no policy"},
		{{"--memory", "4K"}, 3, "0x"},
		{{"--cpus", "100000"}, 3, "100000"},
		{{"--backend", "nosuch"}, 3, "nosuch"},
		{{"--kernel", "@missing"}, 3, "No such file"},
		{{"--kernel", "@."}, 3, "a folder"},
		{{"--kernel", "/dev/null"}, 3, "not a regular file"},
		{{"--kernel", "@empty"}, 3, "kernel"},
		{{"--kernel", "@garbage"}, 3, "kernel"},
		{{"--boot", "linux32"}, 3, "linux32"},
		{{"--boot", "pvh"}, 3, "PVH"},
		{{"--flat-mode", "real"}, 2, "--boot flat"},
		{{"--flat-address", "1M"}, 2, "--boot flat"},
		{{"--topology", "1:1:2"}, 2, "1:1:2"},
		{{"--topology", "1:1:2:1"}, 3, "1:1:2:1"},
		{{"--topology", "1:1:0:1"}, 2, "1:1:0:1"},
		{{"--cpu-template", "nosuch"}, 3, "nosuch"},
		{{"--cpu-template", "@missing.ini"}, 3, "missing.ini"},
		{{"--initrd", "@missing"}, 3, "cannot open the initrd"},
		{{"--initrd", "@empty"}, 3, "initrd"},
		{{"--initrd", "@."}, 3, "a folder"},
	};

	tool_write_mock("[vcpu 0]\nshutdown = guest\n");
	tool_write_text("empty", "");
	tool_write_text("garbage", "This is no kernel, though it is a little longer than nothing.");
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const char *args[] = {
			"run", "-c", "@mock.ini", PLUGINS, refusals[i].args[0], refusals[i].args[1],
			NULL};

		check_refusal(args, refusals[i].status, refusals[i].message);
	}
}

Test(tool, long_command_line_is_refused)
{
	static char cmdline[70000];
	const char *args[] = {"run", "-c", "@mock.ini", PLUGINS, "--cmdline", cmdline, NULL};

	tool_write_mock("[vcpu 0]\nshutdown = guest\n");
	memset(cmdline, 'x', sizeof(cmdline) - 1);
	check_refusal(args, 3, "command line");
}

/* An INI that must be refused, and what the message must have beside the file's name. */
Test(tool, bad_configurations)
{
	static const struct {
		const char *text;
		const char *message;
	} bad[] = {
		{"[impost]\ncolour = red\n", ":2"},
		{"[nonsense]\nx = y\n", ":"},
		{"[vm]\nmemory = 1G\n\nmemory = 2G\n", ":4"},
		{"[vm]\ncpus = many\n", ":2"},
		{"[vm]\n\nmemory = 0\n", ":3"},
		{"backend = kvm\n", ":1"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *args[] = {"list", "-c", "@bad.ini", NULL};

		tool_write_text("bad.ini", bad[i].text);
		check_refusal(args, 3, "bad.ini");
		check_refusal(args, 3, bad[i].message);
	}
	check_refusal((const char *const[]){"list", "-c", "@missing.ini", NULL}, 3, "missing.ini");
	check_refusal((const char *const[]){"list", "--plugin-dir", "@missing", NULL}, 3,
		      "missing");
	check_refusal((const char *const[]){"doctor", "--plugin-dir", "@missing", NULL}, 3,
		      "missing");
}

Test(tool, help_and_version)
{
	static const char *const commands[] = {"list", "doctor", "run"};
	const struct tool_result *result = TOOL_RUN("--help");

	cr_assert_eq(result->status, 0);
	for (size_t i = 0; i < 3; i++)
		cr_assert(strstr(result->out, commands[i]));
	for (size_t i = 0; i < 3; i++) {
		result = TOOL_RUN(commands[i], "--help");
		cr_assert_eq(result->status, 0);
		cr_assert(strstr(result->out, "Usage: impost "));
		cr_assert(strstr(result->out, "[--plugin-dir DIR] [--log LEVEL]"));
		cr_assert(strstr(result->out, "--plugin-dir DIR "));
		cr_assert_eq(!!strstr(result->out, "--kernel FILE"), i == 2);
		result = TOOL_RUN(commands[i], "--version");
		cr_assert_eq(result->status, 0);
		cr_assert_eq(strncmp(result->out, "impost ", 7), 0);
	}
	cr_assert_eq(TOOL_RUN("--version")->status, 0);
}

/* Returns how many options the command, of two words at the most, has. */
static unsigned int check_usage(const char *first, const char *second)
{
	char usage[4096];
	const struct tool_result *result = second ? TOOL_RUN(first, second, "--help")
						  : TOOL_RUN(first, "--help");
	const char *list = strstr(result->out, "\n\n"), *line = list;
	unsigned int options = 0;

	cr_assert_not_null(list);
	snprintf(usage, sizeof(usage), "%.*s", (int)(list - result->out), result->out);
	while ((line = strstr(line, "--")) != NULL) {
		size_t len = strcspn(line, " ");
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)len, line);
		if (strcmp(name, "--config") && strcmp(name, "--help") &&
		    strcmp(name, "--version") && strcmp(name, "--output"))
			cr_expect(strstr(usage, name), "%s is not in: %s", name, usage);
		line += len;
		options++;
	}
	return options;
}

/* What a command can be told is in its usage line: by its letter, or by its name. */
Test(tool, usage_names_every_option)
{
	static const char *const commands[][2] = {
		{"list"},
		{"doctor"},
		{"run"},
		{"ctl"},
		{"inspect"},
		{"diff"},
		{"check"},
		{"flatten"},
		{"conform"},
		{"cpu", "dump"},
		{"cpu", "compare"},
		{"cpu", "baseline"},
		{"cpu", "templates"},
		{"cpu", "fields"},
	};

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		cr_expect_geq(check_usage(commands[i][0], commands[i][1]), 2);
	cr_expect_gt(check_usage("run", NULL), 10);
}

/* --- list and doctor --- */

/* The element of the array KEY in TEXT whose "name" is NAME. Good until the next call. */
static struct json_object *find_json(const char *text, const char *key, const char *name)
{
	struct json_object *array, *element, *value;

	json_object_put(parsed);
	parsed = json_tokener_parse(text);
	cr_assert_not_null(parsed, "not JSON: %s", text);
	cr_assert(json_object_object_get_ex(parsed, key, &array));
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		element = json_object_array_get_idx(array, i);
		if (json_object_object_get_ex(element, "name", &value) && value &&
		    strcmp(json_object_get_string(value), name) == 0)
			return element;
	}
	cr_assert_fail("no %s in %s", name, text);
	return NULL;
}

static const char *member(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	cr_assert(json_object_object_get_ex(object, key, &value), "no %s", key);
	return value ? json_object_get_string(value) : "(null)";
}

Test(tool, list_names_what_is_there)
{
	const struct tool_result *result = TOOL_RUN("list", PLUGINS);
	struct json_object *mock;

	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert(strstr(result->out, "mock"));
	cr_assert(strstr(result->out, "kvm"));
	cr_assert_null(strchr(result->out, '\033'));

	result = TOOL_RUN("list", "--json", PLUGINS);
	cr_assert_eq(result->status, 0);
	mock = find_json(result->out, "plugins", "mock");
	cr_assert_str_eq(member(mock, "kind"), "backend");
	cr_assert_str_eq(member(mock, "usable"), "true");
	cr_assert_str_eq(member(mock, "reason"), "(null)");
	cr_assert_str_eq(member(mock, "abi"), "1.0");
	cr_assert(strstr(member(mock, "file"), "/mock.so"));
}

Test(tool, list_tells_why_a_plugin_is_broken)
{
	const struct tool_result *result;

	tool_write_text("broken.so", "not a shared object");
	result = TOOL_RUN("list", "--plugin-dir", "@.");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert(strstr(result->out, "broken"));
	cr_assert(strstr(result->out, "reason: "));
	result = TOOL_RUN("list", "--json", "--plugin-dir", "@.");
	cr_assert_str_eq(member(find_json(result->out, "plugins", "broken"), "usable"), "false");
	cr_assert_gt(strlen(member(find_json(result->out, "plugins", "broken"), "reason")), 10);
}

/* A terminal obeys what is in names: C0 and, as one character or as a lone byte, C1. */
Test(tool, names_cannot_command_the_terminal)
{
	static const char *const commands[] = {"list", "doctor"};

	tool_write_text("e\033[31m\x9b\302\233\303\251.so", "not a shared object");
	for (size_t i = 0; i < 2; i++) {
		const struct tool_result *result = TOOL_RUN(commands[i], "--plugin-dir", "@.");

		cr_assert(strstr(result->out, "e\\x1b[31m\\x9b\\xc2\\x9b\303\251"), "%s",
			  result->out);
		cr_assert_null(strchr(result->out, '\033'));
		cr_assert_null(strchr(result->out, '\x9b'));
	}
}

/* Nor in JSON, which is UTF-8 whatever the names are made of (RFC 8259, 8.1). */
Test(tool, json_is_utf8)
{
	struct json_tokener *tokener = json_tokener_new();
	const struct tool_result *result;

	tool_write_text("\x9b\xe2\x82\302\233\x7f\303\251.so", "not a shared object");
	result = TOOL_RUN("list", "--json", "--plugin-dir", "@.");
	cr_assert(strstr(result->out,
			 "/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\\u009b\\u007f\303\251.so\""),
		  "%s", result->out);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	parsed = json_tokener_parse_ex(tokener, result->out, (int)result->out_size);
	cr_assert_not_null(parsed);
	json_tokener_free(tokener);
}

Test(tool, no_plugins_is_trouble)
{
	check_refusal((const char *const[]){"list", "--plugin-dir", "@.", NULL}, 3, "--plugin-dir");
	check_refusal((const char *const[]){"list", "--json", "--plugin-dir", "@.", NULL}, 3,
		      "--plugin-dir");
	check_refusal((const char *const[]){"doctor", "--plugin-dir", "@.", NULL}, 3,
		      "--plugin-dir");
}

Test(tool, doctor_judges_each_backend)
{
	const struct tool_result *result = TOOL_RUN("doctor", "--backend", "mock", PLUGINS);
	struct json_object *found;

	cr_assert_eq(result->status, 1, "the mock executes nothing: %s", result->err);
	cr_assert(strstr(result->out, "plays guests from a script"));
	cr_assert(strstr(result->err, "no backend here executes guests"));

	result = TOOL_RUN("doctor", "--backend", "nosuch", PLUGINS);
	cr_assert(strstr(result->out, "there is no plugin nosuch"), "%s", result->out);
	cr_assert(strstr(result->out, "'impost list'"), "%s", result->out);

	result = TOOL_RUN("doctor", "--backend", "mock,nosuch", "--json", PLUGINS);
	cr_assert_eq(result->status, 1);
	found = find_json(result->out, "backends", "nosuch");
	cr_assert_str_eq(member(found, "usable"), "false");
	cr_assert(strstr(member(found, "reason"), "nosuch"));
	found = find_json(result->out, "backends", "mock");
	cr_assert_str_eq(member(found, "executes"), "false");
	cr_assert(strstr(member(found, "capabilities"), "dirty-log"));
}

Test(tool, doctor_says_what_is_wrong_with_kvm)
{
	const struct tool_result *result;

	tool_write_text("null.ini", "[backend.kvm]\ndevice = /dev/null\n");
	result = TOOL_RUN("doctor", "-c", "@null.ini", "--backend", "kvm", PLUGINS);
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->out, "cannot run here"));
	cr_assert(strstr(result->out, "/dev/null"), "%s", result->out);
	tool_write_text("none.ini", "[backend.kvm]\ndevice = /nonexistent/kvm\n");
	result = TOOL_RUN("doctor", "-c", "@none.ini", "--backend", "kvm", PLUGINS);
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->out, "/nonexistent/kvm"));
}

/* --- run, played on the mock --- */

static const struct tool_result *play(const char *script)
{
	tool_write_mock(script);
	return TOOL_RUN("run", "-c", "@mock.ini", PLUGINS);
}

Test(tool, output_is_the_guests_alone)
{
	const struct tool_result *result = play("[vcpu 0]\n"
						"text = 0x3f8 \"one\\r\\ntwo\\0\\xff\"\n"
						"outs = 0x3f8 \"three\"\n"
						"shutdown = guest\n");

	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_eq(result->out_size, 15);
	cr_assert_arr_eq(result->out, "one\r\ntwo\0\xffthree", 15);
	cr_assert_str_eq(result->err, "impost: backend mock: played, not executed\n");
}

Test(tool, much_output_arrives_whole)
{
	const struct tool_result *result = play("[vcpu 0]\n"
						"repeat = 20000\n"
						"text = 0x3f8 \"0123456789\"\n"
						"end =\n"
						"shutdown = guest\n");

	cr_assert_eq(result->status, 0);
	cr_assert_eq(result->out_size, 200000);
	for (size_t i = 0; i < result->out_size; i++)
		cr_assert_eq(result->out[i], (char)('0' + i % 10), "at %zu", i);
}

Test(tool, clean_ends)
{
	static const char *const scripts[] = {
		"[vcpu 0]\nshutdown = guest\n",	  "[vcpu 0]\nreset = guest\n",
		"[vcpu 0]\nout = 0x64 1 0xfe\n",  "[vcpu 0]\nout = 0xcf9 1 0x06\n",
		"[vcpu 0]\nout = 0xcf9 1 0x0e\n", "[vcpu 0]\nhlt =\n",
		"[vcpu 0]\nout = 0x600 1 0x34\n",
	};

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		const struct tool_result *result = play(scripts[i]);

		cr_expect_eq(result->status, 0, "%s: %d, %s", scripts[i], result->status,
			     result->err);
	}
}

/* Of several ways to end, the one that the guest took. */
Test(tool, statistics_tell_how_the_guest_ended)
{
	static const struct {
		const char *script;
		const char *end;
	} ends[] = {
		{"[vcpu 0]\nout = 0x64 1 0xfe\n", "the guest reset the machine through port 0x64"},
		{"[vcpu 0]\nout = 0xcf9 1 0x06\n",
		 "the guest reset the machine through port 0xcf9"},
		{"[vcpu 0]\nout = 0x600 1 0x34\n",
		 "the guest switched the machine off through port 0x600"},
		{"[vcpu 0]\nhlt =\n", "HLT"},
	};
	char line[128];

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		const struct tool_result *result;

		tool_write_mock(ends[i].script);
		result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--stats");
		cr_expect_eq(result->status, 0, "%s", result->err);
		snprintf(line, sizeof(line), "  end       %s\n", ends[i].end);
		cr_expect(strstr(result->err, line), "no %s in %s", line, result->err);
	}
}

/* WORDS, each followed by what comes later, are in TEXT in that order. */
static void expect_in_order(const char *text, const char *const *words, size_t count)
{
	const char *at = text;

	for (size_t i = 0; i < count && at; i++) {
		at = strstr(at, words[i]);
		cr_expect(at, "no '%s' where it should be in:\n%s", words[i], text);
	}
}

Test(tool, layers_are_put_over_the_backend)
{
	static const char *const counted[] = {"  backend   mock",
					      "  layers    trace, trace\n",
					      "  trace     operation",
					      "backend.vm_create",
					      "vm.vcpu_create",
					      "vcpu.run",
					      "  end "};
	static const char *const timed[] = {"  layers    trace\n", "longest ns\n", "vcpu.run",
					    "us "};
	const struct tool_result *result;

	tool_write_mock("[vcpu 0]\ndelay = 10us\nout = 0x64 1 0xfe\n");
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--stats", "--layer", "trace",
			  "--layer", "trace");
	cr_expect_eq(result->status, 0, "%s", result->err);
	expect_in_order(result->err, counted, sizeof(counted) / sizeof(counted[0]));
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--stats", "--layer", "trace", "--set",
			  "layer.trace.times=yes");
	cr_expect_eq(result->status, 0, "%s", result->err);
	expect_in_order(result->err, timed, sizeof(timed) / sizeof(timed[0]));
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--stats", "--set",
			  "impost.layers=trace", "--layer", "");
	cr_expect_eq(result->status, 0, "%s", result->err);
	cr_expect(!strstr(result->err, "trace"), "%s", result->err);
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--layer", "mock");
	cr_expect_eq(result->status, 2);
	cr_expect(strstr(result->err, "layers: plugin mock is a backend, not a layer"), "%s",
		  result->err);
}

Test(tool, layers_are_listed_as_such)
{
	const struct tool_result *result = TOOL_RUN("list", PLUGINS);

	cr_expect_eq(result->status, 0, "%s", result->err);
	cr_expect(strstr(result->out, "layer    trace "), "%s", result->out);
	result = TOOL_RUN("doctor", PLUGINS, "--backend", "mock");
	cr_expect(!strstr(result->out, "trace"), "%s", result->out);
}

/* Three pages in two intervals, one of them in both. The first interval ends in the first delay. */
Test(tool, dirty_rate)
{
	const struct tool_result *result;
	const char *at;

	tool_write_mock("[vcpu 0]\nwrite = 0x200000 01\nwrite = 0x201fff 01 02\ndelay = 150ms\n"
			"write = 0x200008 03\ndelay = 300ms\nout = 0x64 1 0xfe\n");
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--dirty-rate=100");
	cr_assert_eq(result->status, 0, "%s", result->err);
	at = strstr(result->err, "impost: dirty: 3 pages in 0.1");
	cr_assert(at, "%s", result->err);
	at = strstr(at, "impost: dirty: 1 page in 0.");
	cr_assert(at, "%s", result->err);
	at = strstr(at, "impost: dirty: 0 pages in 0.");
	cr_assert(at, "%s", result->err);
	cr_expect(strstr(at, "impost: dirty in all: 4 pages in 0."), "%s", result->err);
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--dirty-rate");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_expect(strstr(result->err, "impost: dirty in all: 3 pages in 0."), "%s", result->err);
	cr_expect(!strstr(result->err, "impost: dirty: "), "%s", result->err);
}

/* Bytes as they are: mov $0x34,%al; mov $0x600,%dx; out %al,(%dx); hlt, in any mode but for the
 * size of an immediate. */
Test(tool, flat_binaries)
{
	static const struct {
		const char *mode;
		const char *code;
		size_t bytes;
	} binaries[] = {
		{"real", "\xb0\x34\xba\x00\x06\xee\xf4", 7},
		{"protected", "\xb0\x34\xba\x00\x06\x00\x00\xee\xf4", 9},
		{"long", "\xb0\x34\xba\x00\x06\x00\x00\xee\xf4", 9},
	};

	tool_write_mock("[vcpu 0]\nout = 0x600 1 0x34\n");
	for (size_t i = 0; i < sizeof(binaries) / sizeof(binaries[0]); i++) {
		const struct tool_result *result;

		tool_write("flat", binaries[i].code, binaries[i].bytes);
		result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--backend", "kvm,mock",
				  "--kernel", "@flat", "--boot", "flat", "--flat-mode",
				  binaries[i].mode, "--cpus", "2", "--topology", "1:1:1:2");
		cr_expect_eq(result->status, 0, "%s: %s", binaries[i].mode, result->err);
	}
}

/* A template's file is taken from where it is named: a command line's from the current folder. */
Test(tool, cpu_templates)
{
	const struct tool_result *result;

	tool_write_mock("[vcpu 0]\nhlt =\n");
	tool_write_text("own.ini", "[template]\nname = own\n[cpuid]\nAVX = clear\n");
	tool_write_text("wrong.ini", "[template]\nname = wrong\n[cpuid]\nAVX512F = set\n");
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--cpu-template", "@own.ini");
	cr_expect_eq(result->status, 0, "%s", result->err);
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--cpu-template", "@wrong.ini");
	cr_expect_eq(result->status, 3, "%s", result->err);
	cr_expect(strstr(result->err, "AVX512F"), "%s", result->err);
}

/* What is no reset, and what is nobody's port or address. A wrong answer ends the script. */
Test(tool, the_machine_answers_as_it_should)
{
	const struct tool_result *result =
		play("[vcpu 0]\n"
		     "out = 0xcf8 4 0x80000600\n"
		     "out = 0xcf9 1 0x02\n"
		     "out = 0x64 1 0xff\n"
		     "out = 0x600 1 0x14\n" /* S5, but not now */
		     "out = 0x600 1 0x20\n" /* now, but S0 */
		     "out = 0x600 4 0x34\n"
		     "out = 0x601 1 0x34\n"
		     "in = 0x601 1 expect 0\n"
		     "in = 0x64 1 expect 0xfd\n"
		     "in = 0x60 1 expect 0xff\n"
		     "in = 0xcfc 4 expect 0xffffffff\n"
		     "in = 0x1234 2 expect 0xffff\n"
		     "out = 0x3ff 1 0x5a\n"
		     "in = 0x3fd 1 expect 0x60\n"
		     "in = 0x3fe 2 expect 0x5ab0\n"
		     "mmio-read = 0xd0000000 8 expect 0xffffffffffffffff\n"
		     "mmio-write = 0xd0000000 4 1\n"
		     "text = 0x3f8 \"end\"\n"
		     "shutdown = guest\n");

	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_str_eq(result->out, "end");
}

Test(tool, failures_are_told_with_particulars)
{
	static const struct {
		const char *script;
		const char *messages[3];
	} failures[] = {
		{"[vcpu 0]\nset = rbx 0xfeedface\ninternal-error = 77\n",
		 {"INTERNAL_ERROR", "0x4d", "00000000feedface"}},
		{"[vcpu 0]\nfail-entry = 33\n", {"FAIL_ENTRY", "0x21", "cr0"}},
		{"[vcpu 0]\nshutdown = triple-fault\n", {"SHUTDOWN", "reboot=k", "rip"}},
		{"[vcpu 0]\nshutdown = crash\n", {"SHUTDOWN", "rflags", "gdtr"}},
		{"[vcpu 0]\ndebug = bp\n", {"DEBUG", "rip", "efer"}},
		{"[vcpu 0]\nother = 12345\n", {"vCPU 0", "12345", "rip"}},
		{"[vcpu 0]\ntext = 0x3f8 \"x\"\n",
		 {"INTERNAL_ERROR", "the script has ended", "rip"}},
	};

	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		const struct tool_result *result = play(failures[i].script);

		cr_expect_eq(result->status, 1, "%s: %d", failures[i].script, result->status);
		cr_expect(strstr(result->err, "the guest failed"));
		cr_expect(strstr(result->err, "code at 0000000000100000: f4 eb fd 0f 0b 0f 0b cc"),
			  "%s", result->err);
		for (size_t j = 0; j < 3; j++)
			cr_expect(strstr(result->err, failures[i].messages[j]), "%s: no %s in %s",
				  failures[i].script, failures[i].messages[j], result->err);
	}
}

Test(tool, wrong_answers_fail_the_played_guest)
{
	const struct tool_result *result = play("[vcpu 0]\nin = 0x3fd 1 expect 0x61\nhlt =\n");

	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "0x61"), "%s", result->err);
	cr_assert(strstr(result->err, "no registers: "), "%s", result->err);
	cr_assert_null(strstr(result->err, "pending"), "%s", result->err);
}

Test(tool, statistics)
{
	const struct tool_result *result;

	tool_write_mock("[vcpu 0]\ntext = 0x3f8 \"12345\"\nmmio-write = 0xd0000000 4 1\nhlt =\n");
	tool_write_text(
		"null.ini",
		"[impost]\nbackend = kvm, mock\n[vm]\nmemory = 16M\n[boot]\nkernel = kernel\n"
		"[backend.kvm]\ndevice = /dev/null\n[backend.mock]\nscript = script\n");
	result = TOOL_RUN("run", "-c", "@null.ini", PLUGINS, "--stats");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_str_eq(result->out, "12345");
	cr_assert(strstr(result->err, "backend   mock (played, not executed)"));
	cr_assert(strstr(result->err, "not       kvm: "));
	cr_assert(strstr(result->err, "/dev/null"));
	cr_assert(strstr(result->err, "IO 5 MMIO 1 HLT 1"), "%s", result->err);
	cr_assert(strstr(result->err, "creation"));
	cr_assert(strstr(result->err, "set-up"));
}

/* Which of the list was taken, and why each other one was not, in the list's order. */
Test(tool, statistics_name_every_backend_of_the_list)
{
	const struct tool_result *result;
	const char *before, *after;

	tool_write_mock("[vcpu 0]\nhlt =\n");
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--stats", "--backend",
			  "none, mock ,kvm,\tother");
	cr_assert_eq(result->status, 0, "%s", result->err);
	before = strstr(result->err, "not       none: there is no plugin");
	after = strstr(result->err,
		       "not       kvm: not tried: mock comes first and can run here\n"
		       "  not       other: not tried: mock comes first and can run here\n");
	cr_assert(before && after && before < after, "%s", result->err);
	cr_assert(!strstr(result->err, "not       mock"), "%s", result->err);
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--stats");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert(!strstr(result->err, "  not "), "%s", result->err);
}

/* --- streams --- */

/* `impost COMMAND` on mock.ini through the shell, which has the words for closed and piped streams.
 */
static int shell(const char *command, const char *rest)
{
	char line[4096];

	snprintf(line, sizeof(line), "'%s' %s -c '%s' --plugin-dir '%s' 2>/dev/null %s",
		 tool_env("IMPOST_TOOL"), command, tool_path("mock.ini"),
		 tool_env("IMPOST_PLUGINS"), rest);
	return tool_shell(line);
}

Test(tool, closed_streams)
{
	static const char *const closed[] = {"<&- >/dev/null", ">&-", "<&- >&-", "<&- >&- 2>&-"};

	tool_write_mock("[vcpu 0]\ntext = 0x3f8 \"hello\"\nshutdown = guest\n");
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
		cr_expect_eq(shell("run", closed[i]), 0, "%s", closed[i]);
}

/* A guest may go unheard, but a command whose output is all its purpose has failed. */
Test(tool, output_to_nowhere_is_an_error)
{
	static const char *const commands[] = {"list", "list --json", "doctor --backend mock",
					       "list --version", "run --help"};

	tool_write_mock("[vcpu 0]\nshutdown = guest\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		cr_expect_eq(shell(commands[i], ">&-"), 3, "%s", commands[i]);
}

/* The pipe's status is head's: that it comes at all shows that the tool has ended. */
Test(tool, a_reader_that_leaves_ends_the_run)
{
	tool_write_mock("[vcpu 0]\nrepeat = forever\ntext = 0x3f8 \"hello\\n\"\nend =\n");
	cr_assert_eq(shell("run", "| head -n 1 >/dev/null"), 0);
}

Test(tool, a_full_disk_is_an_error)
{
	tool_write_mock("[vcpu 0]\ntext = 0x3f8 \"hello\\n\"\nshutdown = guest\n");
	cr_assert_eq(shell("run", ">/dev/full"), 3);
	cr_assert_eq(shell("list", ">/dev/full"), 3);
}

/* Input that is no terminal does not end a run: the signal does. */
Test(tool, a_mock_without_a_script_says_so)
{
	const char *const args[] = {"run", PLUGINS,    "--backend", "mock", "-m",
				    "16M", "--kernel", "@kernel",   NULL};
	char text[512] = "";
	size_t length = 0;
	int err[2], status;
	pid_t pid;

	tool_write_kernel();
	cr_assert_eq(pipe(err), 0);
	pid = fork();
	if (pid == 0) {
		dup2(err[1], STDERR_FILENO);
		tool_exec(args);
	}
	while (!strstr(text, "script = FILE in [backend.mock]")) {
		ssize_t count = read(err[0], text + length, sizeof(text) - 1 - length);

		cr_assert_gt(count, 0, "%s", text);
		length += (size_t)count;
	}
	cr_assert_eq(kill(pid, SIGTERM), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 128 + SIGTERM);
}

/* A reader that does not read must not make the tool deaf to signals. */
Test(tool, a_stalled_reader_does_not_hold_it)
{
	const char *const args[] = {"run", "-c", "@mock.ini", PLUGINS, NULL};
	int out[2], status;
	pid_t pid;

	tool_write_mock("[vcpu 0]\nrepeat = forever\ntext = 0x3f8 \"hello\\n\"\nend =\n");
	cr_assert_eq(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		tool_exec(args);
	}
	sleep(1); /* long enough to fill the pipe; the result does not depend on it */
	cr_assert_eq(kill(pid, SIGTERM), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 128 + SIGTERM);
}
