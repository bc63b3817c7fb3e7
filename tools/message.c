// SPDX-License-Identifier: Apache-2.0
/* What the tool says to its user, and in which colour. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "utf8.h"

/* Standard output was closed by who started us. */
static bool output_missing;

bool open_streams(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		if (open("/dev/null", O_RDWR) != fd)
			return false;
		if (fd == STDOUT_FILENO)
			output_missing = true;
	}
	return true;
}

void put_text(FILE *file, const char *text, int width)
{
	for (size_t length; *text; text += length, width--) {
		length = utf8_length(text);
		if (length && !utf8_is_control(text, length)) {
			fwrite(text, 1, length, file);
			continue;
		}
		length = length ? length : 1;
		for (size_t i = 0; i < length; i++, width -= 3)
			fprintf(file, "\\x%02x", (unsigned char)text[i]);
	}
	fprintf(file, "%*s", width > 0 ? width : 0, "");
}

int write_to_file(void *file, const char *text, size_t len)
{
	return fwrite(text, 1, len, file) == len ? 0 : -EIO;
}

void complain(const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%simpost:%s ", colour(stderr, COLOUR_BAD), colour(stderr, COLOUR_OFF));
	put_text(stderr, text, 0);
	fputc('\n', stderr);
}

int complain_error(const struct invocation *invocation, int err)
{
	const char *text = impost_error(invocation->ctx);

	complain("%s", *text ? text : impost_error_name(err));
	return STATUS_HOST;
}

int complain_no_plugins(const struct invocation *invocation)
{
	complain("%s: name the plugins' folder with --plugin-dir DIR, or with plugin_dir = DIR in "
		 "[impost] of the INI",
		 impost_error(invocation->ctx));
	return STATUS_HOST;
}

bool is_terminal(FILE *file)
{
	const char *term = getenv("TERM");

	return term && *term && strcmp(term, "dumb") != 0 && isatty(fileno(file));
}

const char *colour(FILE *file, enum colour which)
{
	static const char *const sequences[] = {
		[COLOUR_OFF] = "\033[m",  [COLOUR_GOOD] = "\033[32m", [COLOUR_BAD] = "\033[31m",
		[COLOUR_DIM] = "\033[2m", [COLOUR_BOLD] = "\033[1m",
	};
	const char *no_color = getenv("NO_COLOR");

	return is_terminal(file) && !(no_color && *no_color) ? sequences[which] : "";
}

int finish_output(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout) && !output_missing)
		return status;
	complain("cannot write to standard output%s", output_missing ? ": it is closed" : "");
	return STATUS_HOST;
}
