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
	char note[160];	      /* likewise */
};

/* Shows DONE of TOTAL bytes on standard error, and what is to be read beside it: as much of NOTE as
 * the line has room for. */
void progress_show_with(struct progress *progress, uint64_t done, uint64_t total, const char *note);

/* The same without. */
void progress_show(struct progress *progress, uint64_t done, uint64_t total);

/* Wipes the bar out, if there is one: to be called before anything else is printed. */
void progress_wipe(struct progress *progress);

#endif
