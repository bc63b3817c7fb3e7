/* SPDX-License-Identifier: Apache-2.0 */
/* A bar that shows how far something got, on a terminal and nowhere else. */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* a word before the bar */
	bool shown;
	unsigned int percent; /* that is shown */
};

/* Shows DONE of TOTAL bytes on standard error. */
void progress_show(struct progress *progress, uint64_t done, uint64_t total);

/* Wipes the bar out, if there is one: to be called before anything else is printed. */
void progress_wipe(struct progress *progress);

#endif
