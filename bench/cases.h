/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that take measures one by one, as they are asked: each line of their input has the name
 * of a case, which is taken once, and answered with a line of numbers. bench/run asks a program and
 * its peers in turns.
 */
#ifndef IMPOST_BENCH_CASES_H
#define IMPOST_BENCH_CASES_H

#include <stdint.h>

#include <impost/impost.h>

#define MAX_NUMBERS 3u

/* Takes a case and gives its numbers in RET, unused ones 0. Which of a kind is ARG's to say. */
struct bench_case {
	const char *name; /* NULL: the end of a list */
	int (*take)(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS]);
	uint32_t arg;
};

/* Takes what the input asks for, of the COUNT lists at LISTS, until it ends or a case fails. */
int take_cases(struct impost_context *ctx, const struct bench_case *const *lists, uint32_t count);

/* -1, when WHAT and CTX's text of what was wrong with it have been printed. */
int failed(struct impost_context *ctx, const char *what);

#endif
