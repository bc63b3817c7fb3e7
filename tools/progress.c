// SPDX-License-Identifier: Apache-2.0
/* The bar of progress, on one line of a terminal that is written over and over. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool.h"

#define CELLS	  40u
#define FEW_CELLS 10u /* of a bar that has a note beside it */
/* Clears to the end of the line; every terminal that has colours knows it. */
#define CLEAR "\033[K"
#define WIPE  "\r" CLEAR

static unsigned int part(uint64_t done, uint64_t total, unsigned int of)
{
	double share = total ? (double)done / (double)total : 1;

	return (unsigned int)(share >= 1 ? of : share * of);
}

/* Columns of the terminal that is standard error. */
static int columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

/* Written behind what has WIDTH columns; the last column stays free, or the line would wrap. */
static void show_note(const char *note, size_t width)
{
	int room = columns() - (int)width - 3;

	if (room > 0)
		fprintf(stderr, "  %.*s", room, note);
	fputs(CLEAR, stderr);
}

void progress_show_with(struct progress *progress, uint64_t done, uint64_t total, const char *note)
{
	static const char marks[CELLS + 1] = "########################################";
	unsigned int most = *note ? FEW_CELLS : CELLS;
	unsigned int percent = part(done, total, 100), cells = part(done, total, most);

	if (!is_terminal(stderr) ||
	    (progress->shown && percent == progress->percent && strcmp(note, progress->note) == 0))
		return;
	progress->shown = true;
	progress->percent = percent;
	snprintf(progress->note, sizeof(progress->note), "%s", note);
	fprintf(stderr, "\r%s [%s%.*s%s%*s] %3u %%", progress->what, colour(stderr, COLOUR_GOOD),
		(int)cells, marks, colour(stderr, COLOUR_OFF), (int)(most - cells), "", percent);
	if (*note)
		show_note(note, strlen(progress->what) + most + strlen(" [] 100 %"));
	fflush(stderr);
}

void progress_show(struct progress *progress, uint64_t done, uint64_t total)
{
	progress_show_with(progress, done, total, "");
}

void progress_wipe(struct progress *progress)
{
	if (!progress->shown)
		return;
	fputs(WIPE, stderr);
	fflush(stderr);
	progress->shown = false;
}
