// SPDX-License-Identifier: Apache-2.0
/* `impost replay`, and `impost inspect` of a cassette, as their user meets them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <json-c/json.h>

#include "tool_process.h"

#define PLUGINS "--plugin-dir", tool_env("IMPOST_PLUGINS")

TestSuite(tool_replay, .init = tool_files_make, .fini = tool_files_remove, .timeout = 120);

/* "hi" on the serial port, a read of its status, and the end. */
#define SCRIPT \
	"[vcpu 0]\ntext = 0x3f8 \"hi\\n\"\nin = 0x3fd 1\nwrite = 0x5000 01 02 03\nshutdown = guest\n"

static void expect(const struct tool_result *result, int status, const char *out, const char *err)
{
	cr_expect_eq(result->status, status, "status %d: %s", result->status, result->err);
	cr_expect(strstr(result->out, out), "no '%s' in: %s", out, result->out);
	cr_expect(strstr(result->err, err), "no '%s' in: %s", err, result->err);
}

/* "tape.cassette", of a run on the mock. */
static void record(void)
{
	char set[512];
	const struct tool_result *result;

	tool_write_kernel();
	tool_write_mock(SCRIPT);
	snprintf(set, sizeof(set), "impost.layers=record:%s", tool_path("tape.cassette"));
	result = TOOL_RUN("run", PLUGINS, "-c", "@mock.ini", "--set", set);
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_str_eq(result->out, "hi\n");
}

Test(tool_replay, the_same_machine_says_the_same)
{
	const struct tool_result *result;

	record();
	for (int i = 0; i < 2; i++) {
		result = TOOL_RUN("replay", PLUGINS, "@tape.cassette");
		expect(result, 0, "hi\n", "impost: replayed ");
		cr_expect_str_eq(result->out, "hi\n");
	}
	expect(TOOL_RUN("replay", PLUGINS, "--stats", "@tape.cassette"), 0, "hi\n",
	       "exits     IO 4");
}

Test(tool_replay, what_is_played_is_not_recorded_over)
{
	char layer[512];

	record();
	snprintf(layer, sizeof(layer), "record:%s", tool_path("tape.cassette"));
	expect(TOOL_RUN("replay", PLUGINS, "--layer", layer, "@tape.cassette"), 3, "",
	       "it is being played");
	expect(TOOL_RUN("replay", PLUGINS, "@tape.cassette"), 0, "hi\n", "impost: replayed ");
}

Test(tool_replay, another_machine_is_told_with_both_sides)
{
	record();
	expect(TOOL_RUN("replay", PLUGINS, "--cpus", "2", "@tape.cassette"), 4, "",
	       "max_vcpus: recorded 1, now 2");
	expect(TOOL_RUN("replay", PLUGINS, "-m", "64M", "@tape.cassette"), 4, "",
	       "mem_add): bytes: recorded 0x");
	expect(TOOL_RUN("replay", PLUGINS, "--cmdline", "other", "@tape.cassette"), 4, "",
	       "is not what was recorded");
	expect(TOOL_RUN("replay", PLUGINS, "--set", "vm.memory=64M", "@tape.cassette"), 4, "",
	       "mem_add): bytes: recorded 0x");
}

/* Its path is no more, but it lies beside the cassette, as in a repository. */
Test(tool_replay, the_kernel_is_looked_for_beside_the_cassette)
{
	char line[512];

	record();
	snprintf(line, sizeof(line), "mkdir %s && mv %s %s %s", tool_path("other"),
		 tool_path("kernel"), tool_path("tape.cassette"), tool_path("other"));
	cr_assert_eq(tool_shell(line), 0);
	expect(TOOL_RUN("replay", PLUGINS, "@other/tape.cassette"), 0, "hi\n", "replayed");
	snprintf(line, sizeof(line), "rm %s", tool_path("other/kernel"));
	cr_assert_eq(tool_shell(line), 0);
	expect(TOOL_RUN("replay", PLUGINS, "@other/tape.cassette"), 3, "", "kernel");
}

Test(tool_replay, what_is_no_cassette_or_breaks_off)
{
	char line[256];

	record();
	tool_write_text("text", "no cassette");
	expect(TOOL_RUN("replay", PLUGINS, "@text"), 3, "", "cannot replay");
	expect(TOOL_RUN("replay", PLUGINS, "@none"), 3, "", "No such file");
	expect(TOOL_RUN("replay", PLUGINS), 2, "", "of what?");
	snprintf(line, sizeof(line), "mkfifo %s", tool_path("fifo"));
	cr_assert_eq(tool_shell(line), 0);
	expect(TOOL_RUN("replay", PLUGINS, "@fifo"), 3, "", "it is no regular file");
	expect(TOOL_RUN("inspect", "@fifo"), 3, "", "no regular file");
	snprintf(line, sizeof(line), "truncate -s -40 %s", tool_path("tape.cassette"));
	cr_assert_eq(tool_shell(line), 0);
	expect(TOOL_RUN("replay", PLUGINS, "@tape.cassette"), 3, "", "not recorded to its end");
	expect(TOOL_RUN("inspect", "@tape.cassette"), 0, "not recorded to its end", "");
	snprintf(line, sizeof(line), "truncate -s 4000 %s", tool_path("tape.cassette"));
	cr_assert_eq(tool_shell(line), 0);
	expect(TOOL_RUN("replay", PLUGINS, "@tape.cassette"), 2, "", "does not tell the machine");
}

/* As Ctrl-A x or Ctrl-C stop it: the guest would go on, and nobody reads it any more. */
Test(tool_replay, what_was_stopped_is_replayed_to_there)
{
	char line[2048];

	tool_write_kernel();
	tool_write_mock("[vcpu 0]\nrepeat = forever\ntext = 0x3f8 \"hi\\n\"\nend =\n");
	snprintf(line, sizeof(line),
		 "%s run --plugin-dir %s -c %s --layer record:%s | head -n 1 >/dev/null",
		 tool_env("IMPOST_TOOL"), tool_env("IMPOST_PLUGINS"), tool_path("mock.ini"),
		 tool_path("tape.cassette"));
	cr_assert_eq(tool_shell(line), 0);
	expect(TOOL_RUN("replay", PLUGINS, "--set", "backend.mock.cassette_wait=300",
			"@tape.cassette"),
	       0, "hi\n", "to where the recorded run was stopped from outside");
}

Test(tool_replay, inspect_tells_what_a_cassette_has)
{
	struct json_object *object, *cassette, *ops, *value;
	const struct tool_result *result;

	record();
	expect(TOOL_RUN("inspect", "@tape.cassette"), 0, "end         as it should be", "");
	expect(TOOL_RUN("inspect", "--header", "@tape.cassette"), 2, "", "is a cassette");
	expect(TOOL_RUN("inspect", "--key-file", "@kernel", "@tape.cassette"), 2, "",
	       "is a cassette");
	result = TOOL_RUN("inspect", "--json", "@tape.cassette");
	cr_assert_eq(result->status, 0, "%s", result->err);
	object = json_tokener_parse(result->out);
	cr_assert(json_object_object_get_ex(object, "cassette", &cassette));
	cr_assert(json_object_object_get_ex(cassette, "ops", &ops));
	cr_assert(json_object_object_get_ex(ops, "run", &value));
	cr_expect_eq(json_object_get_int(value), 5);
	cr_assert(json_object_object_get_ex(cassette, "whole", &value));
	cr_expect(json_object_get_boolean(value));
	cr_assert(json_object_object_get_ex(cassette, "backend", &value));
	cr_expect_str_eq(json_object_get_string(value), "mock");
	json_object_put(object);
}
