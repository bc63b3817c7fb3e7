/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run of the suite tells: TAP as the tests end, a summary behind it, and JUnit's XML when
 * all is over. A test's name is SUITE/NAME, as it is asked for.
 */
#ifndef CONFORMANCE_REPORT_H
#define CONFORMANCE_REPORT_H

#include <criterion/criterion.h>

#include <stdbool.h>
#include <stddef.h>

struct criterion_logger;

struct report {
	const char *backend;
	const char *layers; /* NULL: none */
	const char *junit;  /* the file for the XML; NULL: none */
	size_t selected;    /* tests that will be run */
	bool verbose;	    /* tells of each test as it begins */
};

/* Begins the report of what is run next: gives what Criterion is to call. REPORT stays as it is. */
struct criterion_logger *report_begin(const struct report *report);

/* Ends it with the summary. Returns how many tests failed; -1: the file cannot be written. */
int report_end(void);

/* "SUITE/NAME" of TEST, in a buffer of the caller's. */
#define TEST_NAME_BYTES 200
const char *test_name(const struct criterion_test *test, char name[TEST_NAME_BYTES]);

#endif
