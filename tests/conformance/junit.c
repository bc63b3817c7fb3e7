/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps how each test ended until all have, and writes it as XML. */
#include "junit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *cases;
static size_t cases_bytes;
static FILE *stream;
static unsigned counts[3]; /* by CR_STATUS_* */

/* XML 1.0, 2.2 and 2.4: no control characters but white space, and none of the marks. */
static void put_escaped(const char *text)
{
	for (; *text; text++) {
		const unsigned char c = (unsigned char)*text;

		if (strchr("<>&\"", c))
			fprintf(stream, "&#%u;", c);
		else if (c == '\n' || c == '\t' || (c >= ' ' && c < 0x7f))
			fputc(c, stream);
		else
			fprintf(stream, "\\x%02x", c);
	}
}

static void put_failure(const struct criterion_test_stats *stats, const char *how)
{
	fputs("<failure message=\"", stream);
	put_escaped(*how ? how : "an assertion failed");
	fputs("\">", stream);
	for (const struct criterion_assert_stats *a = stats->asserts; a; a = a->next) {
		if (a->passed)
			continue;
		put_escaped(a->file);
		fprintf(stream, ":%u: ", a->line);
		put_escaped(a->message);
		fputc('\n', stream);
	}
	fputs("</failure>", stream);
}

void junit_add(const struct criterion_test_stats *stats, const char *how)
{
	enum criterion_test_status status = stats->test_status;

	if (!stream)
		stream = open_memstream(&cases, &cases_bytes);
	if (!stream)
		return;
	if (*how)
		status = CR_STATUS_FAILED;
	counts[status]++;
	fprintf(stream, "  <testcase classname=\"%s\" name=\"%s\" time=\"%.3f\">",
		stats->test->category, stats->test->name, (double)stats->elapsed_time);
	if (status == CR_STATUS_FAILED)
		put_failure(stats, how);
	if (status == CR_STATUS_SKIPPED) {
		fputs("<skipped message=\"", stream);
		put_escaped(stats->message ? stats->message : "");
		fputs("\"/>", stream);
	}
	fputs("</testcase>\n", stream);
}

int junit_write(const char *file, const char *backend, double seconds)
{
	FILE *out = fopen(file, "we");
	bool fine = out != NULL;

	if (stream)
		fclose(stream);
	if (out) {
		fprintf(out,
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"impost conform %s\" "
			"tests=\"%u\" failures=\"%u\" skipped=\"%u\" time=\"%.3f\">\n%s</testsuite>\n",
			backend, counts[0] + counts[1] + counts[2], counts[CR_STATUS_FAILED],
			counts[CR_STATUS_SKIPPED], seconds, cases ? cases : "");
		fine = !ferror(out);
		fine = fclose(out) == 0 && fine;
	}
	if (!fine)
		fprintf(stderr, "conformance: cannot write %s: %s\n", file, strerror(errno));
	free(cases);
	return fine ? 0 : -1;
}
