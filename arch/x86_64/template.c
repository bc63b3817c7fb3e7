/* SPDX-License-Identifier: Apache-2.0 */
/* CPU templates as objects: made, looked into, and freed. */
#include "template.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct impost_x86_template *template_new(const char *name, uint32_t room)
{
	struct impost_x86_template *tmpl = calloc(1, sizeof(*tmpl));

	if (!tmpl)
		return NULL;
	tmpl->name = strdup(name);
	tmpl->registers = calloc((size_t)room + 1, sizeof(*tmpl->registers));
	if (tmpl->name && tmpl->registers)
		return tmpl;
	impost_x86_template_free(tmpl);
	return NULL;
}

void impost_x86_template_free(struct impost_x86_template *tmpl)
{
	if (!tmpl)
		return;
	free(tmpl->name);
	free(tmpl->summary);
	free(tmpl->registers);
	free(tmpl);
}

const char *impost_x86_template_name(const struct impost_x86_template *tmpl)
{
	return tmpl->name;
}

const char *impost_x86_template_summary(const struct impost_x86_template *tmpl)
{
	return tmpl->summary ? tmpl->summary : "";
}

int impost_x86_template_msr(const struct impost_x86_template *tmpl, uint32_t index,
			    uint32_t *ret_msr)
{
	for (uint32_t i = 0; tmpl && i < tmpl->count; i++) {
		if (!tmpl->registers[i].msr || index--)
			continue;
		*ret_msr = tmpl->registers[i].leaf;
		return 0;
	}
	return -ENOENT;
}

bool template_text_ok(const char *text)
{
	size_t len = strlen(text);

	/* White space at an end would go, and `;` behind white space begin a comment. */
	if (len == 0 || len > TEMPLATE_TEXT_MAX || text[0] == ' ' || text[len - 1] == ' ' ||
	    text[0] == ';')
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f ||
		    (text[i] == ';' && text[i - 1] == ' '))
			return false;
	return true;
}

/* --- registers --- */

static int order(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

int template_compare_registers(const void *a, const void *b)
{
	const struct template_register *r = a, *s = b;
	int by = order(r->msr, s->msr);

	if (!by)
		by = order(r->leaf, s->leaf);
	if (!by)
		by = order(r->subleaf, s->subleaf);
	return by ? by : order(r->reg, s->reg);
}

void template_sort(struct impost_x86_template *tmpl)
{
	qsort(tmpl->registers, tmpl->count, sizeof(*tmpl->registers), template_compare_registers);
}

const struct template_register *template_find(const struct impost_x86_template *tmpl,
					      const struct template_register *key)
{
	return bsearch(key, tmpl->registers, tmpl->count, sizeof(*tmpl->registers),
		       template_compare_registers);
}

/* --- what comes with the library --- */

const char *impost_x86_template_shipped(uint32_t index)
{
	for (const struct template_file *file = template_files; file->name; file++)
		if (index-- == 0)
			return file->name;
	return NULL;
}

const char *impost_x86_template_shipped_text(const char *name)
{
	for (const struct template_file *file = template_files; name && file->name; file++)
		if (strcmp(file->name, name) == 0)
			return file->text;
	return NULL;
}

/* NAME with what stands for the maker of ENTRIES behind it; NAME, if there is no such. */
static void for_maker(const char *name, const struct impost_x86_cpuid *entries, uint32_t count,
		      char *buf, size_t size)
{
	static const struct {
		uint32_t ebx;
		const char *suffix;
	} makers[] = {{UINT32_C(0x756e6547), "intel"}, {UINT32_C(0x68747541), "amd"}};
	const struct impost_x86_cpuid *leaf0 = impost_x86_cpuid_find(entries, count, 0, 0);

	for (size_t i = 0; leaf0 && i < sizeof(makers) / sizeof(makers[0]); i++) {
		if (makers[i].ebx != leaf0->ebx)
			continue;
		snprintf(buf, size, "%.64s-%s", name, makers[i].suffix);
		if (impost_x86_template_shipped_text(buf))
			return;
	}
	snprintf(buf, size, "%.64s", name);
}

static int unknown_name(struct impost_context *ctx, const char *name)
{
	char names[512] = "";
	size_t len = 0;

	for (const struct template_file *file = template_files; file->name; file++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "",
					file->name);
	return impost_error_set(ctx, -ENOENT,
				"there is no CPU template '%.64s': there are %s; a file's name has "
				"a '/' in it or ends in .ini",
				name, names);
}

int impost_x86_template_open(struct impost_context *ctx, const char *name,
			     const struct impost_x86_cpuid *entries, uint32_t count,
			     struct impost_x86_template **ret_template)
{
	const char *dot, *text;
	char full[96];

	if (!name || !ret_template || (!entries && count))
		return impost_error_set(ctx, -EINVAL, "a CPU template: an argument is NULL");
	dot = strrchr(name, '.');
	if (strchr(name, '/') || (dot && strcmp(dot, ".ini") == 0))
		return impost_x86_template_load_file(ctx, name, ret_template);
	for_maker(name, entries, count, full, sizeof(full));
	text = impost_x86_template_shipped_text(full);
	if (!text)
		return unknown_name(ctx, name);
	return impost_x86_template_load_buffer(ctx, full, text, strlen(text), ret_template);
}

/* --- refusing --- */

/* For the error, as far as it has room: all are counted. */
static void add_other(struct template_refusals *refusals, const char *name)
{
	const size_t len = strlen(refusals->others), room = sizeof(refusals->others) - len;

	if (strlen(name) + 1 >= room)
		return;
	snprintf(refusals->others + len, room, " %s", name);
	refusals->named++;
}

void template_refuse(struct template_refusals *refusals, const char *name, const char *fmt, ...)
{
	char reason[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (refusals->count++ == 0)
		snprintf(refusals->first, sizeof(refusals->first), "%s: %s", name, reason);
	else
		add_other(refusals, name);
	if (refusals->tell)
		refusals->tell(refusals->opaque, name, reason);
}

int template_refused(struct impost_context *ctx, const struct impost_x86_template *tmpl,
		     const struct template_refusals *refusals)
{
	if (!refusals->count)
		return 0;
	if (refusals->count == 1)
		return impost_error_set(ctx, -ENOTSUP, "CPU template %.128s: %s", tmpl->name,
					refusals->first);
	return impost_error_set(ctx, -ENOTSUP, "CPU template %.128s: %s; and %u more:%s%s",
				tmpl->name, refusals->first, refusals->count - 1, refusals->others,
				refusals->named + 1 < refusals->count ? " ..." : "");
}

/* Why SPAN cannot change from HAVE to WANT, both shifted down; NULL: it can. */
static const char *obstacle(const struct template_span *span, uint64_t have, uint64_t want)
{
	switch (span->kind) {
	case IMPOST_X86_FIELD_FEATURE:
		return want & ~have ? "the backend does not offer it" : NULL;
	case IMPOST_X86_FIELD_INVERTED:
		return have & ~want ? "it cannot be cleared: set, it says that something is missing"
				    : NULL;
	case IMPOST_X86_FIELD_LIMIT:
		return want > have ? "the backend offers less" : NULL;
	default:
		return NULL;
	}
}

void template_judge(const struct template_register *r, uint64_t have, uint64_t *ret_value,
		    struct template_refusals *refusals)
{
	uint64_t result = have;
	struct template_span span;

	for (uint64_t left = r->mask; left; left &= ~span_bits(&span)) {
		uint64_t bits, want;
		const char *reason;
		char name[TEMPLATE_NAME_MAX];

		span = template_span_at(r, (uint32_t)__builtin_ctzll(left));
		bits = span_bits(&span);
		want = (have & ~r->mask) | (r->value & r->mask);
		reason = obstacle(&span, (have & bits) >> span.low, (want & bits) >> span.low);
		if (!reason) {
			result = (result & ~bits) | (want & bits);
			continue;
		}
		template_span_name(r, &span, name);
		if (span.kind == IMPOST_X86_FIELD_LIMIT)
			template_refuse(refusals, name,
					"%s: 0x%" PRIx64 " is asked for, 0x%" PRIx64 " is the most",
					reason, (want & bits) >> span.low,
					(have & bits) >> span.low);
		else
			template_refuse(refusals, name, "%s", reason);
	}
	*ret_value = result;
}
