/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a CPU template from an INI: the grammar is in impost-cpu-template(5). */
#include "template.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini_reader.h>

/* Lines that named the bits of a register. */
struct lines {
	unsigned line[64];
};

struct loader {
	struct impost_context *ctx;
	const char *file;
	struct impost_x86_template *tmpl;
	struct lines *lines; /* of tmpl->registers */
};

static int fail(struct loader *loader, unsigned line, const char *fmt, ...) IMPOST_PRINTF(3, 4);
static int fail(struct loader *loader, unsigned line, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return impost_error_set(loader->ctx, -IMPOST_ECONFIG, "%.256s:%u: %s", loader->file, line,
				text);
}

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for a CPU template");
}

/* --- [template] --- */

static int take_text(struct loader *loader, const struct ini_item *item, char **place)
{
	char *copy;

	if (!template_text_ok(item->value))
		return fail(loader, item->line, "%s must be 1 to %u printable characters",
			    item->key, TEMPLATE_TEXT_MAX);
	copy = strdup(item->value);
	if (!copy)
		return no_memory(loader->ctx);
	free(*place);
	*place = copy;
	return 0;
}

static int take_name(struct loader *loader, const struct ini_item *item)
{
	return take_text(loader, item, &loader->tmpl->name);
}

static int take_summary(struct loader *loader, const struct ini_item *item)
{
	return take_text(loader, item, &loader->tmpl->summary);
}

static int take_vendor(struct loader *loader, const struct ini_item *item)
{
	if (strlen(item->value) != sizeof(loader->tmpl->vendor) - 1 ||
	    !template_text_ok(item->value))
		return fail(loader, item->line,
			    "vendor = %.64s: must be the 12 characters of CPUID leaf 0, such as "
			    "GenuineIntel or AuthenticAMD",
			    item->value);
	memcpy(loader->tmpl->vendor, item->value, sizeof(loader->tmpl->vendor));
	return 0;
}

static int take_rest(struct loader *loader, const struct ini_item *item)
{
	if (strcmp(item->value, "pass") != 0 && strcmp(item->value, "clear") != 0)
		return fail(loader, item->line, "rest = %.64s: must be pass or clear", item->value);
	loader->tmpl->rest_clear = item->value[0] == 'c';
	return 0;
}

static int take_head(struct loader *loader, const struct ini_item *item)
{
	static const struct {
		const char *key;
		int (*take)(struct loader *loader, const struct ini_item *item);
	} keys[] = {{"name", take_name},
		    {"summary", take_summary},
		    {"vendor", take_vendor},
		    {"rest", take_rest}};
	const char *meant = NULL;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i].key, item->key) == 0)
			return keys[i].take(loader, item);
		if (ini_distance(item->key, keys[i].key) <= 2)
			meant = keys[i].key;
	}
	return fail(loader, item->line,
		    "unknown key '%.64s' in [template]:%s%s%s keys are name, summary, vendor, rest",
		    item->key, meant ? " did you mean " : "", meant ? meant : "", meant ? "?" : "");
}

/* --- [cpuid] and [msr] --- */

/* What is computed for each vCPU cannot be fixed. */
static int check_managed(struct loader *loader, unsigned line, const struct template_register *r)
{
	for (uint64_t left = r->mask; left; left &= left - 1) {
		const struct template_span span =
			template_span_at(r, (uint32_t)__builtin_ctzll(left));
		char name[TEMPLATE_NAME_MAX];

		if (span.kind != IMPOST_X86_FIELD_MANAGED)
			continue;
		template_span_name(r, &span, name);
		if (r->msr)
			return fail(loader, line,
				    "%s is set for each vCPU as the kernel's entry needs it: leave "
				    "it out",
				    name);
		return fail(loader, line,
			    "%s (bits %u to %u) is computed for each vCPU: leave it out, or write "
			    "0b with x for its bits",
			    name, span.high, span.low);
	}
	return 0;
}

/* The register that R is about, added if it is new; NULL: there are too many. */
static struct template_register *find_or_add(struct loader *loader,
					     const struct template_register *r)
{
	struct impost_x86_template *tmpl = loader->tmpl;

	for (uint32_t i = 0; i < tmpl->count; i++)
		if (template_compare_registers(&tmpl->registers[i], r) == 0)
			return &tmpl->registers[i];
	if (tmpl->count == IMPOST_X86_TEMPLATE_MAX)
		return NULL;
	tmpl->registers[tmpl->count] = *r;
	tmpl->registers[tmpl->count].named = 0;
	tmpl->registers[tmpl->count].mask = 0;
	tmpl->registers[tmpl->count].value = 0;
	return &tmpl->registers[tmpl->count++];
}

static int merge(struct loader *loader, const struct ini_item *item,
		 const struct template_register *r)
{
	struct template_register *to = find_or_add(loader, r);
	char name[TEMPLATE_NAME_MAX];
	unsigned *lines;

	if (!to)
		return fail(loader, item->line, "more than %u registers", IMPOST_X86_TEMPLATE_MAX);
	lines = loader->lines[to - loader->tmpl->registers].line;
	if (to->named & r->named) {
		uint32_t bit = (uint32_t)__builtin_ctzll(to->named & r->named);

		template_register_name(r, name);
		return fail(loader, item->line, "%.64s: line %u has bit %u of %s already",
			    item->key, lines[bit], bit, name);
	}
	for (uint32_t bit = 0; bit < 64; bit++)
		if (r->named >> bit & 1)
			lines[bit] = item->line;
	to->has_subleaf |= r->has_subleaf;
	to->named |= r->named;
	to->mask |= r->mask;
	to->value |= r->value;
	return 0;
}

static int take_register(struct loader *loader, const struct ini_item *item, bool msr)
{
	struct template_register r;
	char reason[256];
	int err = template_parse_key(item->key, msr, &r, reason, sizeof(reason));

	if (err)
		return fail(loader, item->line, "%.64s: %s", item->key, reason);
	err = template_parse_value(item->value, &r, reason, sizeof(reason));
	if (err)
		return fail(loader, item->line, "%.64s = %.80s: %s", item->key, item->value,
			    reason);
	err = check_managed(loader, item->line, &r);
	return err ? err : merge(loader, item, &r);
}

static int take(struct loader *loader, const struct ini_item *item)
{
	bool head = strcmp(item->section, "template") == 0;
	bool cpuid = strcmp(item->section, "cpuid") == 0;

	if (!head && !cpuid && strcmp(item->section, "msr") != 0)
		return fail(loader, item->line,
			    "unknown section [%.64s]: sections are [template], [cpuid] and [msr]",
			    item->section);
	if (!item->key)
		return 0;
	return head ? take_head(loader, item) : take_register(loader, item, !cpuid);
}

static int take_all(struct loader *loader, const struct ini_item *items)
{
	uint32_t room = 0;
	int err = 0;

	for (const struct ini_item *i = items; i && room < IMPOST_X86_TEMPLATE_MAX; i = i->next)
		room++;
	loader->lines = calloc(room + 1, sizeof(*loader->lines));
	loader->tmpl = template_new(loader->file, room);
	if (!loader->lines || !loader->tmpl)
		err = no_memory(loader->ctx);
	for (; !err && items; items = items->next)
		err = take(loader, items);
	free(loader->lines);
	return err;
}

int impost_x86_template_load_buffer(struct impost_context *ctx, const char *name, const char *text,
				    size_t len, struct impost_x86_template **ret_template)
{
	struct loader loader = {.ctx = ctx, .file = name};
	struct ini_item *items = NULL;
	struct ini_error error;
	int err;

	if (!name || (!text && len) || !ret_template)
		return impost_error_set(ctx, -EINVAL, "a CPU template: an argument is NULL");
	err = ini_read(text ? text : "", len, NULL, &items, &error);
	if (err == -EFBIG)
		return impost_error_set(ctx, err, "%s: longer than %zu bytes", name,
					INI_MOST_BYTES);
	if (err)
		return err == -EINVAL ? fail(&loader, error.line, "%s", error.text)
				      : no_memory(ctx);
	err = take_all(&loader, items);
	ini_items_free(items);
	if (err) {
		impost_x86_template_free(loader.tmpl);
		return err;
	}
	template_sort(loader.tmpl);
	*ret_template = loader.tmpl;
	return 0;
}

int impost_x86_template_load_file(struct impost_context *ctx, const char *path,
				  struct impost_x86_template **ret_template)
{
	size_t len = 0;
	char *text;
	int err;

	if (!path || !ret_template)
		return impost_error_set(ctx, -EINVAL, "a CPU template: an argument is NULL");
	err = ini_read_file(path, &text, &len);
	if (err == -EFBIG)
		return impost_error_set(ctx, err, "%s: longer than %zu bytes", path,
					INI_MOST_BYTES);
	if (err)
		return impost_error_set(ctx, err, "cannot read the CPU template %s: %s", path,
					strerrordesc_np(-err));
	err = impost_x86_template_load_buffer(ctx, path, text, len, ret_template);
	free(text);
	return err;
}
