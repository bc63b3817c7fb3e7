/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a CPU template as an INI, with the names of fields in comments. */
#include "template.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS 96

/* Gathers text in lines, and gives it away. */
struct writer {
	impost_x86_write_fn write;
	void *opaque;
	int err;
	size_t column; /* of the comment that is being written */
};

static void put(struct writer *w, const char *fmt, ...) IMPOST_PRINTF(2, 3);
static void put(struct writer *w, const char *fmt, ...)
{
	char text[2 * TEMPLATE_TEXT_MAX];
	va_list ap;
	int len;

	if (w->err)
		return;
	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	w->err = w->write(w->opaque, text, (size_t)len);
}

/* Adds WORD to a comment, in a further line where this one is full. */
static void put_word(struct writer *w, const char *word)
{
	size_t len = strlen(word);

	if (w->column && w->column + 1 + len > COLUMNS) {
		put(w, "\n");
		w->column = 0;
	}
	put(w, "%s %s", w->column ? "" : ";", word);
	w->column += (w->column ? 1 : 2) + len;
}

static void end_comment(struct writer *w)
{
	if (w->column)
		put(w, "\n");
	w->column = 0;
}

/* The name of a field that is set, or its number. */
static void put_field(struct writer *w, const struct template_register *r,
		      const struct template_span *span, uint64_t value)
{
	char name[TEMPLATE_NAME_MAX], word[TEMPLATE_NAME_MAX + 24];

	if (!span->name || !value)
		return;
	template_span_name(r, span, name);
	if (span->high == span->low)
		snprintf(word, sizeof(word), "%s", name);
	else
		snprintf(word, sizeof(word), "%s=0x%" PRIx64, name, value);
	put_word(w, word);
}

static void put_fields(struct writer *w, const struct template_register *r)
{
	struct template_span span;

	for (uint32_t bit = 0; bit < register_bits(r); bit = span.high + 1) {
		uint64_t bits;

		span = template_span_at(r, bit);
		bits = span_bits(&span);
		if ((r->mask & bits) == bits)
			put_field(w, r, &span, (r->value & bits) >> span.low);
	}
	end_comment(w);
}

/* The value of the bits from HIGH to LOW of R, which are named. */
static void put_value(struct writer *w, const struct template_register *r, uint32_t high,
		      uint32_t low)
{
	const struct template_span span = {.high = high, .low = low};
	const uint64_t mask = (r->mask & span_bits(&span)) >> low;
	const uint64_t value = (r->value & span_bits(&span)) >> low;
	const uint32_t width = high - low + 1;
	char text[64 + 16 + 8] = "0b";
	size_t len = 2;

	if (!mask)
		put(w, "pass\n");
	else if (mask == UINT64_MAX >> (64 - width))
		put(w, "0x%0*" PRIx64 "\n", (int)(width + 3) / 4, value);
	if (!mask || mask == UINT64_MAX >> (64 - width))
		return;
	for (uint32_t bit = width; bit-- > 0;) {
		text[len++] = !(mask >> bit & 1) ? 'x' : value >> bit & 1 ? '1' : '0';
		if (bit && bit % 4 == 0)
			text[len++] = '_';
	}
	text[len] = '\0';
	put(w, "%s\n", text);
}

/* A line for each run of named bits; one for the whole register if all are. */
static void put_register(struct writer *w, const struct template_register *r)
{
	char name[TEMPLATE_NAME_MAX];

	put_fields(w, r);
	for (uint32_t low = 0, high; low < register_bits(r); low = high + 1) {
		const struct template_span one = {.high = low, .low = low};

		high = low;
		if (!(r->named & span_bits(&one)))
			continue;
		while (high + 1 < register_bits(r) && r->named >> (high + 1) & 1)
			high++;
		template_register_name(r, name);
		if (high - low + 1 == register_bits(r))
			put(w, "%s = ", name);
		else if (high == low)
			put(w, "%s.%" PRIu32 " = ", name, low);
		else
			put(w, "%s.%" PRIu32 "-%" PRIu32 " = ", name, high, low);
		put_value(w, r, high, low);
	}
}

int impost_x86_template_write(const struct impost_x86_template *tmpl, impost_x86_write_fn write,
			      void *opaque)
{
	struct writer w = {.write = write, .opaque = opaque};
	const struct template_register *last = NULL;

	if (!tmpl || !write)
		return -EINVAL;
	put(&w, "[template]\n");
	if (template_text_ok(tmpl->name))
		put(&w, "name = %s\n", tmpl->name);
	if (tmpl->summary)
		put(&w, "summary = %s\n", tmpl->summary);
	if (tmpl->vendor[0])
		put(&w, "vendor = %s\n", tmpl->vendor);
	put(&w, "rest = %s\n", tmpl->rest_clear ? "clear" : "pass");
	for (uint32_t i = 0; i < tmpl->count; i++) {
		const struct template_register *r = &tmpl->registers[i];

		if (!last || last->msr != r->msr)
			put(&w, "\n[%s]\n", r->msr ? "msr" : "cpuid");
		else if (last->leaf != r->leaf || last->subleaf != r->subleaf)
			put(&w, "\n");
		put_register(&w, r);
		last = r;
	}
	return w.err;
}
