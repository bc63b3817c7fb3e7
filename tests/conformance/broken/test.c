// SPDX-License-Identifier: Apache-2.0
/* Each way to be wrong is found by the test that ways.def names, and who is not wrong passes them
 * all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../../unit/tool_process.h"

TestSuite(broken, .init = tool_files_make, .fini = tool_files_remove, .timeout = 300);

/* Where the suite has skipped the test the backend cannot run here, and nothing is shown. */
static bool is_there(const char *backend)
{
	return TOOL_RUN("doctor", "--plugin-dir", tool_env("IMPOST_PLUGINS"), "--backend", backend)
			       ->status == 0 ||
	       strcmp(backend, "mock") == 0;
}

static const struct tool_result *conform(const char *backend, const char *way, const char *test)
{
	char dirs[4096], setting[100];

	snprintf(dirs, sizeof(dirs), "%s:%s", tool_env("IMPOST_PLUGINS"),
		 tool_env("IMPOST_BROKEN"));
	snprintf(setting, sizeof(setting), "layer.broken.way=%s", way);
	/* What is lost is waited for: not for long. */
	return TOOL_RUN("conform", "--plugin-dir", dirs, "--backend", backend, "--set",
			"impost.layers=broken", "--set", setting, "--timeout",
			strcmp(way, "none") ? "10" : "200", test);
}

/* The same where the test is to fail: it frees nothing then, which is no finding of
 * LeakSanitizer's.
 */
static const struct tool_result *conform_to_fail(const char *backend, const char *way,
						 const char *test)
{
	const char *options = getenv("ASAN_OPTIONS");
	const struct tool_result *result;
	char before[1000], now[1100];

	snprintf(before, sizeof(before), "%s", options ? options : "");
	snprintf(now, sizeof(now), "%s:detect_leaks=0", before);
	cr_assert_eq(setenv("ASAN_OPTIONS", now, 1), 0);
	result = conform(backend, way, test);
	cr_assert_eq(setenv("ASAN_OPTIONS", before, 1), 0);
	return result;
}

static void must_be_found(const char *backend, const char *way, const char *test, const char *what)
{
	const struct tool_result *result;
	char line[200];

	if (!test)
		cr_skip_test("%s cannot show that %s", backend, what);
	if (!is_there(backend))
		cr_skip_test("%s cannot run here", backend);
	result = conform_to_fail(backend, way, test);
	cr_assert_eq(result->status, 1, "%s, and %s does not mind: status %d: %s%s", what, test,
		     result->status, result->out, result->err);
	snprintf(line, sizeof(line), "not ok 1 - %s\n", test);
	cr_assert_not_null(strstr(result->out, line), "%s", result->out);
	result = conform(backend, "none", test);
	cr_assert_eq(result->status, 0, "%s fails all the same: %s%s", test, result->out,
		     result->err);
	cr_assert_not_null(strstr(result->out, "1 passed"), "%s", result->out);
}

#define WAY(name, op, mock_test, kvm_test, what)               \
	Test(broken, mock_##name)                              \
	{                                                      \
		must_be_found("mock", #name, mock_test, what); \
	}                                                      \
	Test(broken, kvm_##name)                               \
	{                                                      \
		must_be_found("kvm", #name, kvm_test, what);   \
	}
#include "ways.def"
