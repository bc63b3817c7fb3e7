/* SPDX-License-Identifier: Apache-2.0 */
/* The cases that bench-state takes. */
#ifndef IMPOST_BENCH_STATE_H
#define IMPOST_BENCH_STATE_H

#include "cases.h"

extern const struct bench_case state_cases[], pause_cases[], snapshot_cases[];

/* The guest's ELF file, open, and the folder that files go to. */
extern int state_guest;
extern const char *state_folder;

/* Releases what the cases keep from one time to the next. */
void state_cases_end(void);
void pause_cases_end(void);
void snapshot_cases_end(void);

#endif
