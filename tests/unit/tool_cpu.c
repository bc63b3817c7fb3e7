// SPDX-License-Identifier: Apache-2.0
/* `impost cpu`: dumps, differences, baselines, templates and names, as its user meets them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <json-c/json.h>

#include "tool_process.h"

#define PLUGINS "--plugin-dir", tool_env("IMPOST_PLUGINS")
#define MOCK	"--backend", "mock", PLUGINS

TestSuite(tool_cpu, .init = tool_files_make, .fini = tool_files_remove, .timeout = 60);

static void expect(const struct tool_result *result, int status, const char *out, const char *err)
{
	cr_expect_eq(result->status, status, "status %d: %s", result->status, result->err);
	cr_expect(strstr(result->out, out), "no '%s' in: %s", out, result->out);
	cr_expect(err ? strstr(result->err, err) != NULL : !result->err[0], "%s", result->err);
	cr_expect_null(strchr(result->out, '\033'), "no colours but on a terminal");
}

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = calloc(1, TOOL_OUTPUT_MAX);

	cr_assert(file && text, "%s", path);
	cr_assert_lt(fread(text, 1, TOOL_OUTPUT_MAX, file), TOOL_OUTPUT_MAX);
	fclose(file);
	return text;
}

/* The mock's CPU never changes by itself: `impost cpu dump --backend mock` made the file. */
Test(tool_cpu, the_mock_offers_what_it_did)
{
	char *golden = read_file(tool_env("IMPOST_CPU_GOLDEN"));
	const struct tool_result *result = TOOL_RUN("cpu", "dump", MOCK);

	expect(result, 0, "name = mock-host\n", NULL);
	cr_expect_str_eq(result->out, golden);
	free(golden);
}

Test(tool_cpu, a_dump_is_a_template)
{
	expect(TOOL_RUN("cpu", "dump", MOCK, "-o", "@a.ini"), 0, "", NULL);
	expect(TOOL_RUN("cpu", "dump", MOCK, "--output", "@b.ini"), 0, "", NULL);
	expect(TOOL_RUN("cpu", "compare", "@a.ini", "@b.ini"), 0, "", NULL);
	expect(TOOL_RUN("cpu", "baseline", "@a.ini", "@b.ini", "-o", "@c.ini"), 0, "", NULL);
	expect(TOOL_RUN("cpu", "baseline", "@c.ini"), 0, "name = baseline\n", NULL);
	expect(TOOL_RUN("cpu", "compare", "@a.ini", "@c.ini"), 1, "MODEL ", NULL);
}

Test(tool_cpu, differences)
{
	const struct tool_result *result;
	struct json_object *object, *list = NULL;

	tool_write_text("a.ini", "[cpuid]\nAVX = set\nFAMILY = 6\n");
	tool_write_text("b.ini", "[cpuid]\nAVX = clear\nFAMILY = 6\nPHYS_ADDR_BITS = 40\n");
	result = TOOL_RUN("cpu", "compare", "@a.ini", "@b.ini");
	expect(result, 1, "AVX                                      set                clear\n",
	       NULL);
	expect(result, 1, "PHYS_ADDR_BITS                           pass               0x28\n",
	       NULL);
	cr_expect_null(strstr(result->out, "FAMILY"));
	result = TOOL_RUN("cpu", "compare", "--json", "@a.ini", "@b.ini");
	cr_expect_eq(result->status, 1);
	object = json_tokener_parse(result->out);
	cr_assert(json_object_object_get_ex(object, "differences", &list), "%s", result->out);
	cr_expect_eq(json_object_array_length(list), 2);
	json_object_put(object);
}

Test(tool_cpu, json)
{
	static const char *const expected[] = {"AVX2", "SSE3", "rest", "MAX_LEAF"};
	struct json_object *object, *cpu = NULL, *fields = NULL, *value;

	object = json_tokener_parse(TOOL_RUN("cpu", "dump", "--json", MOCK)->out);
	cr_assert(json_object_object_get_ex(object, "cpu", &cpu));
	cr_assert(json_object_object_get_ex(cpu, "fields", &fields));
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		cr_expect(json_object_object_get_ex(fields, expected[i], &value), "%s",
			  expected[i]);
	json_object_put(object);
	object = json_tokener_parse(TOOL_RUN("cpu", "fields", "--json")->out);
	cr_assert(json_object_object_get_ex(object, "fields", &fields));
	cr_expect_gt(json_object_array_length(fields), 500);
	json_object_put(object);
}

Test(tool_cpu, templates)
{
	const struct tool_result *result = TOOL_RUN("cpu", "templates");

	expect(result, 0, "x86-64-v1-intel  x86-64-v1, on CPUs of Intel: any 64-bit CPU\n", NULL);
	expect(TOOL_RUN("cpu", "templates", "x86-64-v4-amd"), 0, "AVX512F = set\n", NULL);
	expect(TOOL_RUN("cpu", "templates", "x86-64-v9"), 3, "",
	       "there is no CPU template 'x86-64-v9': `impost cpu templates` lists them");
	expect(TOOL_RUN("cpu", "fields"), 0,
	       "0x7.0.ebx            5      AVX2                         feature  AVX2 instr",
	       NULL);
	expect(TOOL_RUN("cpu", "compare", "x86-64-v2", "x86-64-v3"), 1, "AVX2 ", NULL);
}

static const struct {
	const char *args[6];
	int status;
	const char *message;
} refusals[] = {
	{{"cpu"}, 2, "'cpu' is several commands: say which"},
	{{"cpu", "frobnicate"}, 2, "there is no command 'cpu frobnicate'"},
	{{"cpu", "compare"}, 2, "cpu compare: of what?"},
	{{"cpu", "compare", "x86-64-v1"},
	 2,
	 "cpu compare: there is one missing\nUsage: impost cpu compare [--json] A B"},
	{{"cpu", "compare", "a", "b", "c"}, 2, "cpu compare: what is 'c'? There is one too many"},
	{{"cpu", "compare", "a", "b", "--stats"}, 2, "unrecognized option '--stats'"},
	{{"cpu", "compare", "nothing", "x86-64-v1"}, 3, "there is no file 'nothing', and no CPU"},
	{{"cpu", "baseline"}, 2, "cpu baseline: of what?"},
	{{"cpu", "baseline", "x86-64-v1"}, 3, "x86-64-v1 leaves PCID open: a baseline"},
	{{"cpu", "baseline", "@wrong.ini"}, 3, "wrong.ini:2: AVX3: no CPUID field has this name"},
	{{"cpu", "dump", "x"}, 2, "what is 'x'? This command takes options only"},
	{{"cpu", "dump", "--json", "-o", "x"}, 2, "leave out --output"},
	{{"cpu", "fields", "x"}, 2, "takes options only"},
	{{"cpu", "templates", "x", "y"}, 2, "what is 'y'?"},
};

Test(tool_cpu, refusals)
{
	tool_write_text("wrong.ini", "[cpuid]\nAVX3 = set\n");
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct tool_result *result = tool_run(refusals[i].args);

		expect(result, refusals[i].status, "", refusals[i].message);
		cr_expect_eq(result->out_size, 0);
	}
	expect(TOOL_RUN("cpu", "dump", MOCK, "-o", "@none/x.ini"), 3, "", "cannot write ");
}

Test(tool_cpu, help)
{
	static const char *const commands[] = {"dump", "compare", "baseline", "templates",
					       "fields"};
	char synopsis[64];

	expect(TOOL_RUN("cpu", "--help"), 0, "Usage: impost cpu COMMAND", NULL);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		snprintf(synopsis, sizeof(synopsis), "Usage: impost cpu %s [", commands[i]);
		expect(TOOL_RUN("cpu", commands[i], "--help"), 0, synopsis, NULL);
		expect(TOOL_RUN("cpu", "-h"), 0, commands[i], NULL);
	}
}

/* What this host offers, twice the same, and it takes its own baseline. */
Test(tool_cpu, this_host)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("there is no /dev/kvm to use");
	expect(TOOL_RUN("cpu", "dump", "--backend", "kvm", PLUGINS, "-o", "@a.ini"), 0, "", NULL);
	expect(TOOL_RUN("cpu", "dump", "--backend", "kvm", PLUGINS, "-o", "@b.ini"), 0, "", NULL);
	expect(TOOL_RUN("cpu", "compare", "@a.ini", "@b.ini"), 0, "", NULL);
	expect(TOOL_RUN("cpu", "baseline", "@a.ini", "@b.ini"), 0, "rest = clear\n", NULL);
}
