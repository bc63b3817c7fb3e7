/* SPDX-License-Identifier: Apache-2.0 */
/* In which fields two CPU templates differ. */
#include "template.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 40u

/* What a template says of a span: some bits, or nothing, which passes it. */
struct saying {
	uint64_t mask, value;
};

/* A dump names all that there is, the maker as well: a leaf that it does not name is not there. */
static bool is_dump(const struct impost_x86_template *tmpl)
{
	const struct template_register maker = {.leaf = 0, .reg = IMPOST_X86_EBX};
	const struct template_register *r = template_find(tmpl, &maker);

	return tmpl->rest_clear && r && r->mask == UINT32_MAX;
}

static bool names_leaf(const struct impost_x86_template *tmpl, const struct template_register *key)
{
	for (uint32_t i = 0; i < tmpl->count; i++)
		if (!tmpl->registers[i].msr && tmpl->registers[i].leaf == key->leaf &&
		    tmpl->registers[i].subleaf == key->subleaf)
			return true;
	return false;
}

static struct saying say(const struct impost_x86_template *tmpl,
			 const struct template_register *key, const struct template_span *span)
{
	const struct template_register *r = template_find(tmpl, key);
	const uint64_t bits = span_bits(span);
	struct saying s = {0};

	if (r && r->named & bits) {
		s.mask = (r->mask & bits) >> span->low;
		s.value = (r->value & bits) >> span->low;
	} else if (tmpl->rest_clear && !key->msr) {
		bool cleared = span->kind == IMPOST_X86_FIELD_FEATURE &&
			       template_is_feature_register(key->leaf, key->subleaf, key->reg) &&
			       !(span->name &&
				 template_is_component_mask(key->leaf, key->subleaf, key->reg));

		if (cleared || (is_dump(tmpl) && !names_leaf(tmpl, key)))
			s.mask = bits >> span->low;
	}
	return s;
}

/* Whether the field is characters. */
static bool is_text(const struct template_span *span)
{
	return span->name &&
	       (strncmp(span->name, "BRAND_", 6) == 0 || strncmp(span->name, "VENDOR_", 7) == 0 ||
		strncmp(span->name, "EXT_VENDOR_", 11) == 0) &&
	       span->high - span->low == 31;
}

static void put_characters(uint64_t value, char text[TEXT_MAX])
{
	size_t len = 0;

	text[len++] = '\'';
	for (int i = 0; i < 4 && (value >> 8 * i & 0xff); i++) {
		char c = (char)(value >> 8 * i & 0xff);

		text[len++] = isprint((unsigned char)c) ? c : '?';
	}
	text[len++] = '\'';
	text[len] = '\0';
}

static void put_saying(const struct template_span *span, const struct saying *s,
		       char text[TEXT_MAX])
{
	uint64_t all = span_bits(span) >> span->low;

	if (!s->mask)
		snprintf(text, TEXT_MAX, "pass");
	else if (s->mask != all)
		snprintf(text, TEXT_MAX, "0x%" PRIx64 " of 0x%" PRIx64, s->value, s->mask);
	else if (all == 1)
		snprintf(text, TEXT_MAX, "%s", s->value ? "set" : "clear");
	else if (is_text(span))
		put_characters(s->value, text);
	else
		snprintf(text, TEXT_MAX, "0x%" PRIx64, s->value);
}

/* --- walking --- */

struct comparison {
	const struct impost_x86_template *a, *b;
	impost_x86_difference_fn tell;
	void *opaque;
	int count;
};

static void differ(struct comparison *c, const char *name, const char *a, const char *b)
{
	c->count++;
	if (c->tell)
		c->tell(c->opaque, name, a, b);
}

static void compare_register(struct comparison *c, const struct template_register *key)
{
	struct template_span span;

	for (uint32_t bit = 0; bit < register_bits(key); bit = span.high + 1) {
		struct saying a, b;
		char name[TEMPLATE_NAME_MAX], of_a[TEXT_MAX], of_b[TEXT_MAX];

		span = template_span_at(key, bit);
		if (span.kind == IMPOST_X86_FIELD_MANAGED)
			continue;
		a = say(c->a, key, &span);
		b = say(c->b, key, &span);
		if (a.mask == b.mask && a.value == b.value)
			continue;
		template_span_name(key, &span, name);
		put_saying(&span, &a, of_a);
		put_saying(&span, &b, of_b);
		differ(c, name, of_a, of_b);
	}
}

static void compare_heads(struct comparison *c)
{
	const struct impost_x86_template *a = c->a, *b = c->b;

	if (strcmp(a->vendor, b->vendor) != 0)
		differ(c, "vendor", a->vendor[0] ? a->vendor : "pass",
		       b->vendor[0] ? b->vendor : "pass");
	if (a->rest_clear != b->rest_clear)
		differ(c, "rest", a->rest_clear ? "clear" : "pass",
		       b->rest_clear ? "clear" : "pass");
}

int impost_x86_template_compare(const struct impost_x86_template *a,
				const struct impost_x86_template *b,
				impost_x86_difference_fn difference, void *opaque)
{
	struct comparison c = {.a = a, .b = b, .tell = difference, .opaque = opaque};
	uint32_t i = 0, k = 0;

	if (!a || !b)
		return -EINVAL;
	compare_heads(&c);
	while (i < a->count || k < b->count) {
		int by = i == a->count ? 1
			 : k == b->count
				 ? -1
				 : template_compare_registers(&a->registers[i], &b->registers[k]);

		compare_register(&c, by <= 0 ? &a->registers[i] : &b->registers[k]);
		i += by <= 0;
		k += by >= 0;
	}
	return c.count;
}
