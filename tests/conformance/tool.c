// SPDX-License-Identifier: Apache-2.0
/* `impost conform` as its user meets it: names, TAP, XML, settings, statuses. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../unit/tool_process.h"

#define CONFORM "conform", "--plugin-dir", tool_env("IMPOST_PLUGINS"), "--backend", "mock"

TestSuite(tool_conform, .init = tool_files_make, .fini = tool_files_remove, .timeout = 120);

static void check_status(const struct tool_result *result, int status, const char *out)
{
	cr_assert_eq(result->status, status, "status %d: %s%s", result->status, result->out,
		     result->err);
	cr_assert_not_null(strstr(result->out, out), "no '%s' in: %s", out, result->out);
}

Test(tool_conform, lists_what_is_named)
{
	const struct tool_result *result = TOOL_RUN(CONFORM, "--list", "threads", "li*[e]/noth*");

	check_status(result, 0, "threads/all_vcpus_stop_together\n");
	cr_assert_not_null(strstr(result->out, "life/nothing_is_left_behind\n"));
	cr_assert_null(strstr(result->out, "life/m"));
	result = TOOL_RUN(CONFORM, "--list", "!threads");
	check_status(result, 0, "life/nothing_is_left_behind\n");
	cr_assert_null(strstr(result->out, "threads/all"));
	check_status(TOOL_RUN(CONFORM, "--list", "life", "life/nonesuch"), 2, "");
	check_status(TOOL_RUN(CONFORM, "--list", "life", "!life"), 2, "");
}

Test(tool_conform, tells_of_each_test)
{
	const struct tool_result *result =
		TOOL_RUN(CONFORM, "life/nothing_is_left_behind", "threads/vcpus_run_side_by_side");

	check_status(result, 0, "TAP version 13\n1..2\n# backend mock\n");
	check_status(result, 0, "ok 1 - life/nothing_is_left_behind\n");
	check_status(result, 0,
		     "ok 2 - threads/vcpus_run_side_by_side # SKIP mock: has no executes here\n");
	check_status(result, 0, "# mock: 1 passed, 0 failed, 1 skipped; ");
}

Test(tool_conform, xml_is_well_formed)
{
	char line[4000];

	check_status(TOOL_RUN(CONFORM, "--junit", "@report.xml", "threads", "life"), 0, "skipped");
	snprintf(
		line, sizeof(line),
		"python3 -c 'import sys, xml.etree.ElementTree as E; t = E.parse(sys.argv[1]).getroot(); "
		"sys.exit(not (int(t.get(\"tests\")) == len(list(t)) > 4 "
		"and int(t.get(\"skipped\")) == len(t.findall(\".//skipped\")) > 1))' %s",
		tool_path("report.xml"));
	cr_assert_eq(tool_shell(line), 0);
	check_status(TOOL_RUN(CONFORM, "--junit", "/dev/null/x", "threads"), 3, "ok 1");
}

/* A setting and the INI reach the tests: with this one the log starts full. */
Test(tool_conform, settings_reach_the_tests)
{
	static const char name[] = "dirty/a_log_that_starts_full_is_cleared_by_the_page";

	check_status(TOOL_RUN(CONFORM, name), 0, "has no dirty-initially-set");
	check_status(TOOL_RUN(CONFORM, "--set", "backend.mock.dirty_initially_set=1", name), 0,
		     "1 passed");
	tool_write_text("full.ini", "[backend.mock]\ndirty_initially_set = yes\n");
	check_status(TOOL_RUN(CONFORM, "-c", "@full.ini", name), 0, "1 passed");
	check_status(TOOL_RUN(CONFORM, "-c", "@full.ini", "--set",
			      "backend.mock.dirty_initially_set=0", name),
		     0, "1 skipped");
}

Test(tool_conform, refuses)
{
	check_status(TOOL_RUN(CONFORM, "no/such_test"), 2, "");
	check_status(TOOL_RUN(CONFORM, "--set", "nonsense"), 2, "");
	check_status(TOOL_RUN(CONFORM, "--set", "backend.mock.nonsense=1"), 2, "");
	check_status(TOOL_RUN(CONFORM, "--jobs", "none"), 2, "");
	check_status(TOOL_RUN(CONFORM, "--backend", "nonesuch"), 3, "");
}
