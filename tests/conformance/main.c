/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance program: chooses tests, tells them what to test, runs them. `impost conform`
 * starts it. */
#include <criterion/criterion.h>
#include <criterion/internal/ordered-set.h>
#include <criterion/options.h>

#include <fnmatch.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "settings.h"

/* As impost(1) has them. */
#define STATUS_OK     0
#define STATUS_FAILED 1
#define STATUS_USAGE  2
#define STATUS_HOST   3

/* Seconds for a test that says nothing of it. */
#define TIMEOUT 300

struct command_line {
	struct report report;
	double timeout; /* 0: as the tests have it */
	size_t jobs;
	bool list;
	char *const *patterns;
	int npatterns;
};

static int usage(const char *what, const char *text)
{
	fprintf(stderr,
		"conformance: %s%s\nUsage: conformance [-c FILE] [--plugin-dir DIR] [--log LEVEL] [--backend NAME]\n"
		"                   [--layer NAME]... [--set SECTION.KEY=VALUE]... [--junit FILE]\n"
		"                   [--jobs N] [--timeout SECONDS] [--verbose] [--list] [TEST...]\n",
		what, text);
	return STATUS_USAGE;
}

static int complain(const char *what, const char *pattern)
{
	fprintf(stderr, "conformance: %s%s; --list tells which there are\n", what, pattern);
	return STATUS_USAGE;
}

static int add_layer(const char *name)
{
	const char *before = getenv(ENV_LAYERS);
	char *all;
	int r;

	if (asprintf(&all, "%s%s%s", before ? before : "", before ? ", " : "", name) < 0)
		return -1;
	r = setenv(ENV_LAYERS, all, 1);
	free(all);
	return r;
}

/* The program may have gone elsewhere by the time that a test opens the file. */
static int set_path(const char *name, const char *file)
{
	char path[PATH_MAX];

	return setenv(name, realpath(file, path) ? path : file, 1);
}

static int set_plugin_dir(const char *dir)
{
	char text[PATH_MAX + 32];

	snprintf(text, sizeof(text), "impost.plugin_dir=%s", dir);
	return settings_add(text);
}

static int set_log(const char *level)
{
	char text[100];

	snprintf(text, sizeof(text), "impost.log=%s", level);
	return setenv(ENV_LOG, "1", 1) ? -1 : settings_add(text);
}

static int parse_number(const char *text, double most, double *ret_value)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 1 && value <= most))
		return -1;
	*ret_value = value;
	return 0;
}

static int parse_option(struct command_line *line, int option)
{
	double jobs;

	switch (option) {
	case 'c':
		return set_path(ENV_CONFIG, optarg);
	case 'd':
		return set_plugin_dir(optarg);
	case 'g':
		return set_log(optarg);
	case 'b':
		return setenv(ENV_BACKEND, optarg, 1);
	case 'y':
		return add_layer(optarg);
	case 's':
		return settings_add(optarg);
	case 'u':
		line->report.junit = optarg;
		return 0;
	case 'j':
		if (parse_number(optarg, 1024, &jobs))
			return -1;
		line->jobs = (size_t)jobs;
		return 0;
	case 't':
		return parse_number(optarg, 86400, &line->timeout);
	case 'v':
		line->report.verbose = true;
		return 0;
	case 'l':
		line->list = true;
		return 0;
	default:
		return -1;
	}
}

static const struct option options[] = {
	{"config", required_argument, NULL, 'c'},  {"plugin-dir", required_argument, NULL, 'd'},
	{"backend", required_argument, NULL, 'b'}, {"layer", required_argument, NULL, 'y'},
	{"set", required_argument, NULL, 's'},	   {"log", required_argument, NULL, 'g'},
	{"junit", required_argument, NULL, 'u'},   {"jobs", required_argument, NULL, 'j'},
	{"timeout", required_argument, NULL, 't'}, {"verbose", no_argument, NULL, 'v'},
	{"list", no_argument, NULL, 'l'},	   {NULL, 0, NULL, 0},
};

/* A pattern is for whole names, or for the names of suites. */
static bool is_of(const struct criterion_test *test, const char *pattern)
{
	char name[TEST_NAME_BYTES];

	return fnmatch(pattern, test_name(test, name), 0) == 0 ||
	       fnmatch(pattern, test->category, 0) == 0;
}

/* What "!PATTERN" leaves out is left out; of the rest all, or what the other patterns name. */
static bool is_chosen(const struct criterion_test *test, const struct command_line *line)
{
	bool named = false, any = false;

	for (int i = 0; i < line->npatterns; i++) {
		if (line->patterns[i][0] == '!') {
			if (is_of(test, line->patterns[i] + 1))
				return false;
			continue;
		}
		any = true;
		named |= is_of(test, line->patterns[i]);
	}
	return named || !any;
}

/* Marks the tests that are not to be run; gives the number of the others. */
static size_t choose(struct criterion_test_set *set, const struct command_line *line)
{
	size_t count = 0;

	FOREACH_SET(struct criterion_suite_set * suite, set->suites)
	FOREACH_SET(struct criterion_test * test, suite->tests)
	{
		char name[TEST_NAME_BYTES];

		test->data->disabled = !is_chosen(test, line);
		if (line->timeout > 0)
			test->data->timeout = line->timeout;
		else if (test->data->timeout <= 0)
			test->data->timeout = TIMEOUT;
		count += !test->data->disabled;
		if (line->list && !test->data->disabled)
			printf("%s\n", test_name(test, name));
	}
	return count;
}

static bool is_any(struct criterion_test_set *set, const char *pattern)
{
	FOREACH_SET(struct criterion_suite_set * suite, set->suites)
	FOREACH_SET(struct criterion_test * test, suite->tests)
	if (is_of(test, pattern))
		return true;
	return false;
}

/* A name that none has is a slip of the pen: what it was to test would not be missed. */
static int check_patterns(struct criterion_test_set *set, const struct command_line *line)
{
	for (int i = 0; i < line->npatterns; i++)
		if (!is_any(set, line->patterns[i] + (line->patterns[i][0] == '!')))
			return complain("there is no test ", line->patterns[i]);
	return STATUS_OK;
}

static int run(struct criterion_test_set *set, const struct command_line *line)
{
	int failed;

	criterion_options.logger = report_begin(&line->report);
	criterion_options.jobs = line->jobs;
	criterion_run_all_tests(set);
	failed = report_end();
	if (failed < 0)
		return STATUS_HOST;
	return failed ? STATUS_FAILED : STATUS_OK;
}

/* Criterion starts each test in a new process, which it keeps from running main: it has to find it.
 */
__attribute__((visibility("default"))) int main(int argc, char **argv)
{
	struct command_line line = {.jobs = 1};
	struct criterion_test_set *set;
	int option, status;

	while ((option = getopt_long(argc, argv, "c:j:", options, NULL)) != -1)
		if (parse_option(&line, option))
			return usage(option == 'j' || option == 't' ? "no number from 1 on: "
								    : "this is not understood: ",
				     option == '?' ? "" : optarg);
	line.patterns = argv + optind;
	line.npatterns = argc - optind;
	line.report.backend = getenv(ENV_BACKEND) ? getenv(ENV_BACKEND) : "mock";
	line.report.layers = getenv(ENV_LAYERS);
	set = criterion_initialize();
	status = check_patterns(set, &line);
	if (status == STATUS_OK)
		line.report.selected = choose(set, &line);
	if (status == STATUS_OK && !line.report.selected)
		status = complain("no test is left", "");
	else if (status == STATUS_OK && !line.list)
		status = run(set, &line);
	criterion_finalize(set);
	return status;
}
