/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line: built without ever being cut, and written. Words are divided as Linux
 * divides them (lib/cmdline.c, next_arg()): at blanks outside of quotes, with no escapes.
 */
#include <string.h>

#include <impost/x86_64/kernel.h>

#include "structure.h"

/* What the first release knew of its struct: a caller's may be shorter or longer than ours. */
#define LEAST_CMDLINE	  (offsetof(struct impost_x86_cmdline, text) + sizeof(char *))

#define END_OF_PARAMETERS "--" /* what follows is for init */

/* Linux takes 0xa0, a no-break space in Latin-1, for a blank too (lib/ctype.c). */
static int is_blank(char c)
{
	return c == ' ' || (unsigned char)c == 0xa0;
}

static int has_blank(const char *text)
{
	for (; *text; text++) {
		if (is_blank(*text))
			return 1;
	}
	return 0;
}

static int has_control(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return 1;
	}
	return 0;
}

int impost_x86_cmdline_init(struct impost_x86_cmdline *ret_cmdline,
			    const struct impost_x86_kernel *kernel, char *buf, size_t buf_bytes)
{
	uint64_t capacity = kernel ? (uint64_t)kernel->cmdline_max + 1 : IMPOST_X86_CMDLINE_DEFAULT;
	struct impost_x86_cmdline cmdline = {.text = buf};

	if (!buf || !buf_bytes ||
	    structure_check_size(NULL, "impost_x86_cmdline", ret_cmdline, LEAST_CMDLINE) < 0)
		return -EINVAL;
	if (capacity > IMPOST_X86_CMDLINE_MAX)
		capacity = IMPOST_X86_CMDLINE_MAX;
	*buf = '\0';
	cmdline.capacity = (uint32_t)(buf_bytes < capacity ? buf_bytes : capacity);
	structure_give(ret_cmdline, &cmdline, sizeof(cmdline));
	return 0;
}

/* Refuses BYTES more if they do not fit. */
static int check_room(struct impost_context *ctx, const struct impost_x86_cmdline *cmdline,
		      size_t bytes)
{
	if (bytes < cmdline->capacity - cmdline->length)
		return 0;
	return impost_error_set(ctx, -E2BIG,
				"the command line would have %zu bytes: there is room for %u",
				cmdline->length + bytes, cmdline->capacity - 1);
}

int impost_x86_cmdline_append(struct impost_context *ctx, struct impost_x86_cmdline *cmdline,
			      const char *words)
{
	unsigned int quotes = 0;
	size_t bytes, gap;
	char *end;
	int err;

	if (!cmdline || !words)
		return impost_error_set(ctx, -EINVAL,
					"the command line: its struct or the words are NULL");
	bytes = strlen(words);
	gap = cmdline->length && bytes ? 1 : 0;
	end = cmdline->text + cmdline->length;
	if (has_control(words))
		return impost_error_set(ctx, -EINVAL,
					"the command line has a control character: %s", words);
	for (const char *at = words; *at; at++)
		quotes += *at == '"';
	if (quotes % 2)
		return impost_error_set(
			ctx, -EINVAL, "the command line has quotes that are not closed: %s", words);
	err = check_room(ctx, cmdline, gap + bytes);
	if (err < 0)
		return err;
	if (gap)
		*end++ = ' ';
	memcpy(end, words, bytes + 1);
	cmdline->length += (uint32_t)(gap + bytes);
	return 0;
}

/* Is the word at AT the one that ends the parameters? Linux takes it in quotes, too. */
static int ends_parameters(const char *at)
{
	static const char *const words[] = {END_OF_PARAMETERS, "\"" END_OF_PARAMETERS "\""};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t bytes = strlen(words[i]);

		if (!strncmp(at, words[i], bytes) && (!at[bytes] || is_blank(at[bytes])))
			return 1;
	}
	return 0;
}

/* Where in TEXT its parameters end: at such a word, or at its end. */
static size_t parameters_end(const char *text)
{
	int quoted = 0, begins = 1;
	const char *at = text;

	for (; *at; at++) {
		if (begins && ends_parameters(at))
			break;
		if (*at == '"')
			quoted = !quoted;
		begins = !quoted && is_blank(*at);
	}
	return (size_t)(at - text);
}

static int check_parameter(struct impost_context *ctx, const char *key, const char *value)
{
	const char *wrong = NULL;

	if (!*key)
		wrong = "an empty name";
	else if (has_blank(key) || strpbrk(key, "=\"") || has_control(key))
		wrong = "a blank, '=', '\"' or a control character in its name";
	else if (!strcmp(key, END_OF_PARAMETERS))
		wrong = "a name that ends the kernel's parameters";
	else if (value && strchr(value, '"'))
		wrong = "a '\"' in its value, which the kernel cannot be told";
	else if (value && has_control(value))
		wrong = "a control character in its value";
	if (wrong)
		return impost_error_set(ctx, -EINVAL, "the kernel parameter \"%s\" has %s", key,
					wrong);
	return 0;
}

/* Writes TEXT, without its NUL, at *AT and moves *AT behind it. */
static void put(char **at, const char *text)
{
	*at = mempcpy(*at, text, strlen(text));
}

int impost_x86_cmdline_set(struct impost_context *ctx, struct impost_x86_cmdline *cmdline,
			   const char *key, const char *value)
{
	const char *quote = value && has_blank(value) ? "\"" : "";
	const char *before, *behind;
	size_t bytes, end;
	char *at;
	int err;

	if (!cmdline || !key)
		return impost_error_set(ctx, -EINVAL,
					"the command line: its struct or a parameter's name is "
					"NULL");
	err = check_parameter(ctx, key, value);
	if (err < 0)
		return err;
	end = parameters_end(cmdline->text);
	before = end && !is_blank(cmdline->text[end - 1]) ? " " : "";
	behind = cmdline->text[end] ? " " : "";
	bytes = strlen(before) + strlen(key) + strlen(behind);
	bytes += value ? 1 + strlen(value) + 2 * strlen(quote) : 0;
	err = check_room(ctx, cmdline, bytes);
	if (err < 0)
		return err;
	at = cmdline->text + end;
	memmove(at + bytes, at, cmdline->length - end + 1);
	put(&at, before);
	put(&at, key);
	if (value) {
		put(&at, "=");
		put(&at, quote);
		put(&at, value);
		put(&at, quote);
	}
	put(&at, behind);
	cmdline->length += (uint32_t)bytes;
	return 0;
}

int impost_x86_write_cmdline(struct impost_memory *memory, const struct impost_x86_kernel *kernel,
			     const char *cmdline)
{
	uint64_t max = kernel->cmdline_max;
	size_t bytes = strlen(cmdline);

	if (max > IMPOST_X86_CMDLINE_MAX - 1)
		max = IMPOST_X86_CMDLINE_MAX - 1;
	if (bytes > max)
		return impost_error_set(impost_memory_context(memory), -E2BIG,
					"the command line has %zu bytes, the kernel takes %zu",
					bytes, (size_t)max);
	return impost_memory_write(memory, IMPOST_X86_CMDLINE_ADDR, cmdline, bytes + 1);
}
