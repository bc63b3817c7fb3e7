/* SPDX-License-Identifier: Apache-2.0 */
/* Applying a CPU template to what a backend offers. */
#include "template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBLEAF IMPOST_X86_CPUID_SUBLEAF

/* An application under way. */
struct application {
	const struct impost_x86_template *tmpl;
	const struct impost_x86_cpuid *before;
	uint32_t before_count;
	struct template_work work; /* has room for an entry more for each register of tmpl */
	struct template_refusals refusals;
};

static bool had(const void *opaque, const struct impost_x86_cpuid_field *field)
{
	const struct application *a = opaque;

	return impost_x86_cpuid_get_field(a->before, a->before_count, field);
}

/* --- the maker --- */

static void check_vendor(struct application *a)
{
	const struct impost_x86_cpuid *leaf0 =
		impost_x86_cpuid_find(a->before, a->before_count, 0, 0);
	char vendor[13] = "";

	if (!a->tmpl->vendor[0])
		return;
	if (leaf0) {
		memcpy(vendor, &leaf0->ebx, 4);
		memcpy(vendor + 4, &leaf0->edx, 4);
		memcpy(vendor + 8, &leaf0->ecx, 4);
	}
	if (strcmp(vendor, a->tmpl->vendor) != 0)
		template_refuse(&a->refusals, "vendor",
				"the template is for %s, and the CPU here is %s", a->tmpl->vendor,
				vendor[0] ? vendor : "of no maker");
}

/* --- registers --- */

static struct impost_x86_cpuid *find_entry(struct template_work *work, uint32_t leaf,
					   uint32_t subleaf)
{
	for (uint32_t i = 0; i < work->count; i++) {
		struct impost_x86_cpuid *e = &work->entries[i];

		if (e->leaf != leaf)
			continue;
		if (e->flags & SUBLEAF ? e->subleaf == subleaf : subleaf == 0)
			return e;
	}
	return NULL;
}

/* The highest leaf of LEAF's range: basic, hypervisor's, extended. 0: the range is not there. */
static uint32_t highest_leaf(const struct template_work *work, uint32_t leaf)
{
	const struct impost_x86_cpuid *first =
		impost_x86_cpuid_find(work->entries, work->count, leaf & 0xffff0000, 0);

	return first ? first->eax : 0;
}

/* A new entry for R's leaf, all zeros. */
static struct impost_x86_cpuid *add_entry(struct template_work *work,
					  const struct template_register *r)
{
	struct impost_x86_cpuid *e = &work->entries[work->count++];

	*e = (struct impost_x86_cpuid){
		.leaf = r->leaf, .subleaf = r->subleaf, .flags = r->has_subleaf ? SUBLEAF : 0};
	return e;
}

/* What a component of XSAVE's area is like is the hardware's (SDM vol. 1, 13.4.2). */
static bool is_layout(const struct template_register *r)
{
	return r->leaf == 0xd && r->subleaf >= 2;
}

static void apply_register(struct application *a, const struct template_register *r)
{
	struct impost_x86_cpuid *e = find_entry(&a->work, r->leaf, r->subleaf);
	uint32_t have = e ? *impost_x86_cpuid_register(e, r->reg) : 0;
	uint64_t value;
	char name[TEMPLATE_NAME_MAX];

	if (is_layout(r))
		return;
	template_judge(r, have, &value, &a->refusals);
	if (value == have)
		return;
	if (!e && r->leaf > highest_leaf(&a->work, r->leaf)) {
		template_register_name(r, name);
		template_refuse(&a->refusals, name, "the backend has no leaf 0x%x", r->leaf);
		return;
	}
	if (!e)
		e = add_entry(&a->work, r);
	*impost_x86_cpuid_register(e, r->reg) = (uint32_t)value;
}

/* --- rest = clear --- */

/* Those of BITS of register R, of which the template says nothing, that `rest = clear` clears. */
static uint32_t rest_of(const struct template_register *r, uint32_t bits)
{
	bool follows = template_is_component_mask(r->leaf, r->subleaf, r->reg);

	for (uint32_t left = bits; left; left &= left - 1) {
		const uint32_t bit = (uint32_t)__builtin_ctz(left);
		const struct template_span span = template_span_at(r, bit);

		if (span.kind != IMPOST_X86_FIELD_FEATURE || (follows && span.name))
			bits &= ~(UINT32_C(1) << bit);
	}
	return bits && template_is_feature_register(r->leaf, r->subleaf, r->reg) ? bits : 0;
}

static void clear_rest(struct application *a)
{
	for (uint32_t i = 0; i < a->work.count; i++) {
		struct impost_x86_cpuid *e = &a->work.entries[i];

		for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++) {
			const struct template_register key = {
				.leaf = e->leaf,
				.subleaf = e->flags & SUBLEAF ? e->subleaf : 0,
				.reg = reg,
			};
			const struct template_register *r = template_find(a->tmpl, &key);
			uint32_t *value = impost_x86_cpuid_register(e, reg);

			*value &= ~rest_of(&key, *value & ~(r ? (uint32_t)r->named : 0));
		}
	}
}

/* --- highest leaves and sub-leaves --- */

/* Whether EAX of the leaf's sub-leaf 0 is its highest sub-leaf (SDM vol. 2, CPUID). */
static bool counts_subleaves(uint32_t leaf)
{
	return leaf == 0x7 || leaf == 0x14 || leaf == 0x20 || leaf == 0x24;
}

/* How far the leaves and sub-leaves of an entry's kind went, and go now. */
static bool is_within(const struct template_work *work, const struct impost_x86_cpuid *e)
{
	const struct impost_x86_cpuid *first;

	if (e->leaf & 0xffff && highest_leaf(work, e->leaf) < e->leaf)
		return false;
	if (!counts_subleaves(e->leaf) || !(e->flags & SUBLEAF) || e->subleaf == 0)
		return true;
	first = impost_x86_cpuid_find(work->entries, work->count, e->leaf, 0);
	return first && e->subleaf <= first->eax;
}

/* Entries that were beyond the highest leaf before stay: they are none of the template's doing. */
static bool is_left(const void *opaque, const struct impost_x86_cpuid *entry)
{
	const struct application *a = opaque;
	const struct template_work before = {.entries = (struct impost_x86_cpuid *)a->before,
					     .count = a->before_count};

	return is_within(&a->work, entry) || !is_within(&before, entry);
}

/* The highest leaves are looked up while entries go: the copy that is looked into stays whole. */
static int cut_leaves(struct application *a)
{
	struct application copy = *a;
	size_t bytes = a->work.count * sizeof(*a->work.entries);

	copy.work.entries = malloc(bytes ? bytes : 1);
	if (!copy.work.entries)
		return -ENOMEM;
	memcpy(copy.work.entries, a->work.entries, bytes);
	template_keep(&a->work, is_left, &copy);
	free(copy.work.entries);
	return 0;
}

/* --- what must hold in the end --- */

/* Bits of register R that the template sets, the backend has, and something has cleared. */
static void check_set(struct application *a, const struct template_register *r)
{
	const struct impost_x86_cpuid *was =
		impost_x86_cpuid_find(a->before, a->before_count, r->leaf, r->subleaf);
	struct impost_x86_cpuid none = {0}, *is = find_entry(&a->work, r->leaf, r->subleaf);
	struct impost_x86_cpuid had_entry = was ? *was : none;
	uint32_t lost = (uint32_t)(r->mask & r->value) &
			*impost_x86_cpuid_register(&had_entry, r->reg) &
			~*impost_x86_cpuid_register(is ? is : &none, r->reg);

	for (; lost; lost &= lost - 1) {
		const uint32_t bit = (uint32_t)__builtin_ctz(lost);
		const struct template_span span = template_span_at(r, bit);
		char name[TEMPLATE_NAME_MAX], reason[160];

		if (span.kind != IMPOST_X86_FIELD_FEATURE)
			continue;
		template_span_name(r, &span, name);
		template_why_clear(&a->work, r, bit, reason, sizeof(reason));
		template_refuse(&a->refusals, name, "%s", reason);
	}
}

/* A component that is left must be as the template has it. */
static void check_layout(struct application *a, const struct template_register *r)
{
	struct impost_x86_cpuid *e = find_entry(&a->work, r->leaf, r->subleaf);
	char name[TEMPLATE_NAME_MAX];

	if (!e || !((*impost_x86_cpuid_register(e, r->reg) ^ r->value) & r->mask))
		return;
	template_register_name(r, name);
	template_refuse(&a->refusals, name,
			"component %u of the XSAVE area lies elsewhere here, and cannot be moved",
			r->subleaf);
}

static int run(struct application *a)
{
	const struct impost_x86_template *tmpl = a->tmpl;
	int err;

	check_vendor(a);
	for (uint32_t i = 0; i < tmpl->count; i++)
		if (!tmpl->registers[i].msr)
			apply_register(a, &tmpl->registers[i]);
	if (tmpl->rest_clear)
		clear_rest(a);
	err = cut_leaves(a);
	if (err)
		return err;
	template_settle(&a->work);
	template_settle_xsave(&a->work, a->before, a->before_count);
	for (uint32_t i = 0; i < tmpl->count; i++) {
		if (tmpl->registers[i].msr)
			continue;
		if (is_layout(&tmpl->registers[i]))
			check_layout(a, &tmpl->registers[i]);
		else
			check_set(a, &tmpl->registers[i]);
	}
	return 0;
}

int impost_x86_template_apply(struct impost_context *ctx, const struct impost_x86_template *tmpl,
			      struct impost_x86_cpuid *entries, uint32_t capacity, uint32_t *count,
			      impost_x86_refused_fn refused, void *opaque)
{
	struct application a = {.tmpl = tmpl, .refusals = {.tell = refused, .opaque = opaque}};
	int err;

	if (!tmpl || !count || (!entries && (*count || capacity)))
		return impost_error_set(ctx, -EINVAL, "a CPU template: an argument is NULL");
	a.before = entries;
	a.before_count = *count;
	a.work = (struct template_work){.count = *count, .had = had, .opaque = &a};
	a.work.entries = calloc((size_t)*count + tmpl->count + 1, sizeof(*entries));
	if (!a.work.entries)
		return impost_error_set(ctx, -ENOMEM, "no memory for a CPU template");
	if (*count)
		memcpy(a.work.entries, entries, *count * sizeof(*entries));
	err = run(&a);
	if (err)
		impost_error_set(ctx, err, "no memory for a CPU template");
	else
		err = template_refused(ctx, tmpl, &a.refusals);
	if (!err && a.work.count > capacity)
		err = impost_error_set(ctx, -ENOSPC,
				       "CPU template %.128s makes %u CPUID entries, and there is "
				       "room for %u",
				       tmpl->name, a.work.count, capacity);
	if (!err && a.work.count)
		memcpy(entries, a.work.entries, a.work.count * sizeof(*entries));
	if (!err)
		*count = a.work.count;
	free(a.work.entries);
	return err;
}

/* --- MSRs --- */

static const struct impost_x86_msr *find_msr(const struct impost_x86_msr *have, uint32_t count,
					     uint32_t index)
{
	for (uint32_t i = 0; i < count; i++)
		if (have[i].index == index)
			return &have[i];
	return NULL;
}

/* What the template makes of HAVE's MSR that R names. */
static uint64_t msr_value(const struct impost_x86_template *tmpl, const struct template_register *r,
			  uint64_t have, struct template_refusals *refusals)
{
	const struct impost_x86_msr_info *info = impost_x86_msr_info_at(r->leaf);
	uint64_t value;

	template_judge(r, have, &value, refusals);
	if (!tmpl->rest_clear || !info || info->kind != IMPOST_X86_MSR_FEATURE)
		return value;
	for (uint32_t bit = 0; bit < 64; bit++)
		if (!(r->named >> bit & 1) &&
		    template_span_at(r, bit).kind == IMPOST_X86_FIELD_FEATURE)
			value &= ~(UINT64_C(1) << bit);
	return value;
}

/* Refuses a PAT of anything but memory types (SDM vol. 3, 12.12.2): not every hypervisor does. */
static void check_pat(uint64_t value, struct template_refusals *refusals)
{
	for (uint32_t entry = 0; entry < 8; entry++) {
		const uint32_t type = (uint32_t)(value >> 8 * entry & 0xff);

		if (type <= 7 && type != 2 && type != 3)
			continue;
		template_refuse(refusals, "IA32_PAT",
				"entry %u is %u: memory types are 0, 1 and 4 to 7", entry, type);
		return;
	}
}

/* One walk over the MSRs that are named: judges them, counts those that change, and, if RET_MSRS is
 * not NULL, fills them in. */
static uint32_t walk_msrs(const struct impost_x86_template *tmpl, const struct impost_x86_msr *have,
			  uint32_t have_count, struct impost_x86_msr *ret_msrs,
			  struct template_refusals *refusals)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < tmpl->count; i++) {
		const struct template_register *r = &tmpl->registers[i];
		const struct impost_x86_msr *msr = r->msr ? find_msr(have, have_count, r->leaf)
							  : NULL;
		char name[TEMPLATE_NAME_MAX];
		uint64_t value;

		if (r->msr && !msr && r->mask) {
			template_register_name(r, name);
			template_refuse(refusals, name, "the backend has no such MSR");
		}
		value = msr ? msr_value(tmpl, r, msr->value, refusals) : 0;
		if (!msr || value == msr->value)
			continue;
		if (r->leaf == IMPOST_X86_MSR_IA32_PAT)
			check_pat(value, refusals);
		if (ret_msrs)
			ret_msrs[count] = (struct impost_x86_msr){.index = r->leaf, .value = value};
		count++;
	}
	return count;
}

int impost_x86_template_msrs(struct impost_context *ctx, const struct impost_x86_template *tmpl,
			     const struct impost_x86_msr *have, uint32_t have_count,
			     struct impost_x86_msr *ret_msrs, uint32_t capacity,
			     uint32_t *ret_count, impost_x86_refused_fn refused, void *opaque)
{
	struct template_refusals refusals = {.tell = refused, .opaque = opaque};
	uint32_t count;
	int err;

	if (!tmpl || !ret_count || (!have && have_count) || (!ret_msrs && capacity))
		return impost_error_set(ctx, -EINVAL, "a CPU template: an argument is NULL");
	count = walk_msrs(tmpl, have, have_count, NULL, &refusals);
	err = template_refused(ctx, tmpl, &refusals);
	if (err)
		return err;
	*ret_count = count;
	if (count > capacity)
		return impost_error_set(
			ctx, -ENOSPC, "CPU template %.128s sets %u MSRs, and there is room for %u",
			tmpl->name, count, capacity);
	if (count)
		walk_msrs(tmpl, have, have_count, ret_msrs, &refusals);
	return 0;
}
