/* SPDX-License-Identifier: Apache-2.0 */
/* Tells what Criterion says of each test as TAP, which goes out as the tests end. */
#include "report.h"

#include <criterion/logging.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common.h"
#include "junit.h"

static const struct report *report;
static size_t passed, skipped, failed, incomplete;
static uint64_t begun_ns;

const char *test_name(const struct criterion_test *test, char name[TEST_NAME_BYTES])
{
	snprintf(name, TEST_NAME_BYTES, "%s/%s", test->category, test->name);
	return name;
}

/* TEXT's lines as lines of a comment. */
static void print_comment(const char *text)
{
	printf("#   ");
	for (; *text; text++) {
		putchar(*text);
		if (*text == '\n' && text[1])
			printf("#   ");
	}
	putchar('\n');
}

static void print_asserts(const struct criterion_test_stats *stats)
{
	char text[2400];

	for (const struct criterion_assert_stats *a = stats->asserts; a; a = a->next) {
		if (a->passed)
			continue;
		snprintf(text, sizeof(text), "%s:%u: %s", a->file, a->line, a->message);
		print_comment(text);
	}
}

/* How TEST came to its end, where it did not come there by itself; "": it did. */
static const char *ending(const struct criterion_test_stats *stats, char *text, size_t size)
{
	text[0] = '\0';
	if (stats->timed_out)
		snprintf(text, size, "did not end within %.0f s", stats->test->data->timeout);
	else if (stats->signal)
		snprintf(text, size, "ended by signal %d", stats->signal);
	else if (stats->exit_code)
		snprintf(text, size, "left with status %d", stats->exit_code);
	return text;
}

/* Criterion may tell of one end twice: of a failed assertion, and of a crash behind it. */
static bool is_first_word(const struct criterion_test_stats *stats)
{
	static char told;

	if (stats->test->data->data == &told)
		return false;
	stats->test->data->data = &told;
	return true;
}

static void tell(struct criterion_test_stats *stats)
{
	const char *reason = stats->message ? stats->message : "no reason was given";
	char name[TEST_NAME_BYTES], how[100];

	if (!is_first_word(stats))
		return;
	ending(stats, how, sizeof(how));
	test_name(stats->test, name);
	if (stats->test_status == CR_STATUS_SKIPPED) {
		printf("ok %zu - %s # SKIP %s\n", passed + ++skipped + failed, name, reason);
	} else if (stats->test_status == CR_STATUS_PASSED && !*how) {
		printf("ok %zu - %s\n", ++passed + skipped + failed, name);
	} else {
		printf("not ok %zu - %s\n", passed + skipped + ++failed, name);
		print_asserts(stats);
		if (*how)
			print_comment(how);
	}
	fflush(stdout);
	junit_add(stats, how);
}

static void tell_begin(struct criterion_suite *suite, struct criterion_test *test)
{
	char name[TEST_NAME_BYTES];

	(void)suite;
	if (!report->verbose || test->data->disabled)
		return;
	printf("# begins: %s\n", test_name(test, name));
	fflush(stdout);
}

static void tell_message(enum criterion_severity severity, const char *text)
{
	if (severity != CR_LOG_INFO)
		print_comment(text);
}

struct criterion_logger *report_begin(const struct report *what)
{
	static struct criterion_logger logger = {
		.log_pre_init = tell_begin,
		.log_post_test = tell,
		.log_test_timeout = tell,
		.log_test_crash = tell,
		.log_other_crash = tell,
		.log_message = tell_message,
	};

	report = what;
	begun_ns = now_ns();
	printf("TAP version 13\n1..%zu\n", report->selected);
	printf("# backend %s%s%s\n", report->backend, report->layers ? ", under " : "",
	       report->layers ? report->layers : "");
	fflush(stdout);
	return &logger;
}

static const char *colour(const char *sequence)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if (!isatty(STDOUT_FILENO) || (no_color && *no_color) || !term || !strcmp(term, "dumb"))
		return "";
	return sequence;
}

int report_end(void)
{
	const double seconds = (double)(now_ns() - begun_ns) / 1e9;

	incomplete = report->selected - passed - skipped - failed;
	printf("%s# %s: %zu passed, %zu failed, %zu skipped",
	       colour(failed ? "\033[31m" : "\033[32m"), report->backend, passed, failed, skipped);
	if (incomplete)
		printf(", %zu did not come to an end", incomplete);
	printf("; %.1f s%s\n", seconds, colour("\033[m"));
	fflush(stdout);
	if (report->junit && junit_write(report->junit, report->backend, seconds))
		return -1;
	return (int)(failed + incomplete);
}
