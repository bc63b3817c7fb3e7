/* SPDX-License-Identifier: Apache-2.0 */
/* The report as JUnit's XML, which CI systems read. */
#ifndef CONFORMANCE_JUNIT_H
#define CONFORMANCE_JUNIT_H

#include <criterion/criterion.h>
#include <criterion/stats.h>

/* Takes down how a test ended; HOW: its end if it did not come there by itself, or "". */
void junit_add(const struct criterion_test_stats *stats, const char *how);

/* Writes FILE; -1, with a message: it cannot. */
int junit_write(const char *file, const char *backend, double seconds);

#endif
