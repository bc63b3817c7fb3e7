// SPDX-License-Identifier: Apache-2.0
/* The bar of progress, on one line of a terminal that is written over and over. */
#include "progress.h"

#include <stdio.h>

#include "tool.h"

#define CELLS 40u
/* Clears to the end of the line; every terminal that has colours knows it. */
#define WIPE "\r\033[K"

static unsigned int part(uint64_t done, uint64_t total, unsigned int of)
{
	double share = total ? (double)done / (double)total : 1;

	return (unsigned int)(share >= 1 ? of : share * of);
}

void progress_show(struct progress *progress, uint64_t done, uint64_t total)
{
	static const char marks[CELLS + 1] = "########################################";
	unsigned int percent = part(done, total, 100), cells = part(done, total, CELLS);

	if (!is_terminal(stderr) || (progress->shown && percent == progress->percent))
		return;
	progress->shown = true;
	progress->percent = percent;
	fprintf(stderr, "\r%s [%s%.*s%s%*s] %3u %%", progress->what, colour(stderr, COLOUR_GOOD),
		(int)cells, marks, colour(stderr, COLOUR_OFF), (int)(CELLS - cells), "", percent);
	fflush(stderr);
}

void progress_wipe(struct progress *progress)
{
	if (!progress->shown)
		return;
	fputs(WIPE, stderr);
	fflush(stderr);
	progress->shown = false;
}
