/* SPDX-License-Identifier: Apache-2.0 */
/* The largest CPU template that several CPUs, given as dumps, can all give. */
#include "template.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct baseline {
	const struct impost_x86_template *const *cpus;
	uint32_t count;
	struct impost_x86_template *tmpl;
};

static uint64_t value_in(const struct impost_x86_template *cpu, const struct template_register *key)
{
	const struct template_register *r = template_find(cpu, key);

	return r ? r->value : 0;
}

/* --- what goes in --- */

/* Whether CPU says of each feature bit, and each limit, what it is. */
static int check_dump(struct impost_context *ctx, const struct impost_x86_template *cpu)
{
	char name[TEMPLATE_NAME_MAX];

	if (!cpu->rest_clear)
		return impost_error_set(ctx, -EINVAL,
					"%.128s has rest = pass: a baseline is made of dumps "
					"(impost cpu dump)",
					cpu->name);
	for (uint32_t i = 0; i < cpu->count; i++) {
		const struct template_register *r = &cpu->registers[i];

		for (uint32_t bit = 0; bit < register_bits(r); bit++) {
			const struct template_span span = template_span_at(r, bit);

			if (r->mask >> bit & 1 || span.kind == IMPOST_X86_FIELD_MANAGED ||
			    span.kind == IMPOST_X86_FIELD_VALUE ||
			    (!(r->named >> bit & 1) && span.kind == IMPOST_X86_FIELD_FEATURE))
				continue;
			template_span_name(r, &span, name);
			return impost_error_set(ctx, -EINVAL,
						"%.128s leaves %s open: a baseline is made of "
						"dumps (impost cpu dump)",
						cpu->name, name);
		}
	}
	return 0;
}

/*
 * MSRs that tell what there is, and that hypervisors let nobody write (KVM, the mock). FOLLOWS:
 * they are made from what else a template says: the VMX controls from their TRUE ones, what CR0 and
 * CR4 may have from CPUID (SDM vol. 3, A.3 to A.5, A.7, A.8); a template passes them.
 */
static const struct {
	uint32_t first, last; /* indices */
	bool follows;
} fixed_msrs[] = {
	{IMPOST_X86_MSR_IA32_MTRRCAP, IMPOST_X86_MSR_IA32_MTRRCAP, false},
	{IMPOST_X86_MSR_IA32_MCG_CAP, IMPOST_X86_MSR_IA32_MCG_CAP, false},
	{IMPOST_X86_MSR_IA32_VMX_PINBASED_CTLS, IMPOST_X86_MSR_IA32_VMX_ENTRY_CTLS, true},
	{IMPOST_X86_MSR_IA32_VMX_CR0_FIXED1, IMPOST_X86_MSR_IA32_VMX_CR0_FIXED1, true},
	{IMPOST_X86_MSR_IA32_VMX_CR4_FIXED1, IMPOST_X86_MSR_IA32_VMX_CR4_FIXED1, true},
};
#define FIXED_MSRS (sizeof(fixed_msrs) / sizeof(fixed_msrs[0]))

static bool follows(const struct template_register *key)
{
	for (size_t i = 0; key->msr && i < FIXED_MSRS; i++)
		if (key->leaf >= fixed_msrs[i].first && key->leaf <= fixed_msrs[i].last)
			return fixed_msrs[i].follows;
	return false;
}

/* Two CPUs differ in an MSR that neither can be given otherwise: *ret_span is the first field. */
static bool differ(const struct template_register *r, const struct template_register *s,
		   struct template_span *ret_span)
{
	const uint64_t differing = r && s ? (r->value ^ s->value) & r->mask & s->mask : 0;

	if (differing)
		*ret_span = template_span_at(r, (uint32_t)__builtin_ctzll(differing));
	return differing;
}

static int check_fixed_msrs(struct impost_context *ctx, const struct impost_x86_template *one,
			    const struct impost_x86_template *other)
{
	struct template_span span;

	for (size_t i = 0; i < FIXED_MSRS; i++) {
		const struct template_register key = {.msr = true, .leaf = fixed_msrs[i].first};
		const struct template_register *r = template_find(one, &key);
		const struct template_register *s = template_find(other, &key);
		char name[TEMPLATE_NAME_MAX], msr[TEMPLATE_NAME_MAX];

		if (fixed_msrs[i].follows || !differ(r, s, &span))
			continue;
		template_span_name(r, &span, name);
		template_register_name(r, msr);
		return impost_error_set(
			ctx, -ENOTSUP,
			"%s is 0x%" PRIx64 " in %.128s and 0x%" PRIx64 " in %.128s, and cannot be "
			"changed: take %s out of one of them to leave it as each host has it",
			name, (r->value & span_bits(&span)) >> span.low, one->name,
			(s->value & span_bits(&span)) >> span.low, other->name, msr);
	}
	return 0;
}

static int check_cpus(struct impost_context *ctx, const struct baseline *b)
{
	for (uint32_t i = 0; i < b->count; i++) {
		int err;

		if (!b->cpus[i])
			return impost_error_set(ctx, -EINVAL, "a baseline: CPU %u is NULL", i);
		err = check_dump(ctx, b->cpus[i]);
		if (err)
			return err;
		if (strcmp(b->cpus[i]->vendor, b->cpus[0]->vendor) != 0)
			return impost_error_set(
				ctx, -ENOTSUP,
				"%.128s is of %s and %.128s of %s: no guest moves "
				"between CPUs of two makers",
				b->cpus[0]->name,
				b->cpus[0]->vendor[0] ? b->cpus[0]->vendor : "no maker",
				b->cpus[i]->name,
				b->cpus[i]->vendor[0] ? b->cpus[i]->vendor : "no maker");
		err = check_fixed_msrs(ctx, b->cpus[0], b->cpus[i]);
		if (err)
			return err;
	}
	return 0;
}

/* --- registers --- */

/* What all CPUs can have of SPAN of register KEY, in place. */
static uint64_t join(const struct baseline *b, const struct template_register *key,
		     const struct template_span *span)
{
	const uint64_t bits = span_bits(span);
	uint64_t result = value_in(b->cpus[0], key) & bits;

	for (uint32_t i = 1; i < b->count; i++) {
		uint64_t value = value_in(b->cpus[i], key) & bits;

		if (span->kind == IMPOST_X86_FIELD_INVERTED)
			result |= value;
		else if (span->kind == IMPOST_X86_FIELD_FEATURE)
			result &= value;
		else if (value < result)
			result = value;
	}
	return result;
}

static bool is_open(uint32_t kind)
{
	return kind == IMPOST_X86_FIELD_VALUE || kind == IMPOST_X86_FIELD_MANAGED;
}

static void join_register(struct baseline *b, const struct template_register *key)
{
	struct template_register *r = &b->tmpl->registers[b->tmpl->count++];
	struct template_span span;

	*r = *key;
	r->mask = 0;
	r->value = 0;
	r->named = UINT64_MAX >> (64 - register_bits(r));
	for (uint32_t bit = 0; bit < register_bits(r); bit = span.high + 1) {
		span = template_span_at(r, bit);
		if (is_open(span.kind))
			continue;
		r->mask |= span_bits(&span);
		r->value |= join(b, key, &span);
	}
}

/* Every CPUID register that one has, and every MSR that all have and that can be given. */
static void join_registers(struct baseline *b)
{
	struct impost_x86_template *tmpl = b->tmpl;

	for (uint32_t i = 0; i < b->count; i++) {
		for (uint32_t k = 0; k < b->cpus[i]->count; k++) {
			const struct template_register *key = &b->cpus[i]->registers[k];
			uint32_t have = 0;
			bool done = false;

			for (uint32_t j = 0; j < b->count; j++) {
				bool there = template_find(b->cpus[j], key);

				have += there;
				done |= there && j < i;
			}
			if (!done && !follows(key) && (!key->msr || have == b->count))
				join_register(b, key);
		}
	}
	template_sort(tmpl);
}

/* --- dependencies --- */

static bool one_had(const void *opaque, const struct impost_x86_cpuid_field *field)
{
	const struct baseline *b = opaque;
	const struct template_span span = {.high = field->high, .low = field->low};
	const struct template_register key = {
		.leaf = field->leaf, .subleaf = field->subleaf, .reg = field->reg};

	for (uint32_t i = 0; i < b->count; i++)
		if (value_in(b->cpus[i], &key) & span_bits(&span))
			return true;
	return false;
}

/*
 * A component that does not lie where it does on the other CPUs cannot be had: what a guest saved
 * on one could not be restored on another.
 */
static bool layouts_agree(const struct baseline *b, uint32_t component)
{
	for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_ECX; reg++) {
		const struct template_register key = {
			.leaf = 0xd, .subleaf = component, .reg = reg};

		for (uint32_t i = 1; i < b->count; i++)
			if (value_in(b->cpus[i], &key) != value_in(b->cpus[0], &key))
				return false;
	}
	return true;
}

static struct template_register *register_at(struct impost_x86_template *tmpl, uint32_t leaf,
					     uint32_t subleaf, uint32_t reg)
{
	const struct template_register key = {.leaf = leaf, .subleaf = subleaf, .reg = reg};

	return (struct template_register *)template_find(tmpl, &key);
}

static void drop_component(struct impost_x86_template *tmpl, uint32_t component)
{
	const struct {
		uint32_t subleaf, reg;
	} masks[] = {{0, component < 32 ? IMPOST_X86_EAX : IMPOST_X86_EDX},
		     {1, component < 32 ? IMPOST_X86_ECX : IMPOST_X86_EDX}};

	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		struct template_register *r =
			register_at(tmpl, 0xd, masks[i].subleaf, masks[i].reg);

		if (r)
			r->value &= ~(UINT64_C(1) << component % 32);
	}
}

/* R is in a leaf that goes with a feature: a CPU that has it without the feature is to clear it. */
static void lose(struct template_register *r)
{
	for (uint32_t bit = 0; bit < register_bits(r); bit++)
		if (template_span_at(r, bit).kind == IMPOST_X86_FIELD_INVERTED)
			r->mask &= ~(UINT64_C(1) << bit);
	r->value = 0;
}

/* B's CPUID registers as entries, to settle them, and back. */
static int settle(struct baseline *b)
{
	struct impost_x86_template *tmpl = b->tmpl;
	struct template_work work = {.had = one_had, .opaque = b};
	struct impost_x86_cpuid *e = NULL;

	work.entries = calloc((size_t)tmpl->count + 1, sizeof(*work.entries));
	if (!work.entries)
		return -ENOMEM;
	for (uint32_t i = 0; i < tmpl->count && !tmpl->registers[i].msr; i++) {
		const struct template_register *r = &tmpl->registers[i];

		if (!e || e->leaf != r->leaf || e->subleaf != r->subleaf) {
			e = &work.entries[work.count++];
			e->leaf = r->leaf;
			e->subleaf = r->subleaf;
			e->flags = IMPOST_X86_CPUID_SUBLEAF;
		}
		*impost_x86_cpuid_register(e, r->reg) = (uint32_t)r->value;
	}
	template_settle(&work);
	for (uint32_t i = 0; i < tmpl->count && !tmpl->registers[i].msr; i++) {
		struct template_register *r = &tmpl->registers[i];

		e = (struct impost_x86_cpuid *)impost_x86_cpuid_find(work.entries, work.count,
								     r->leaf, r->subleaf);
		if (e)
			r->value = *impost_x86_cpuid_register(e, r->reg) & r->mask;
		else
			lose(r);
	}
	free(work.entries);
	return 0;
}

/* --- what is beyond the highest leaves, or says nothing --- */

static bool is_beyond(struct impost_x86_template *tmpl, const struct template_register *r)
{
	const struct template_register *first =
		register_at(tmpl, r->leaf & 0xffff0000, 0, IMPOST_X86_EAX);
	const struct template_register *subleaves = register_at(tmpl, r->leaf, 0, IMPOST_X86_EAX);

	if (r->leaf & 0xffff && first && first->mask && r->leaf > first->value)
		return true;
	return r->leaf == 0x7 && subleaves && r->subleaf > subleaves->value;
}

static int tidy(struct impost_x86_template *tmpl)
{
	struct template_register *kept = calloc((size_t)tmpl->count + 1, sizeof(*kept));
	uint32_t count = 0;

	if (!kept)
		return -ENOMEM;
	for (uint32_t i = 0; i < tmpl->count; i++) {
		const struct template_register *r = &tmpl->registers[i];

		if (r->mask && (r->msr || !is_beyond(tmpl, r)))
			kept[count++] = *r;
	}
	free(tmpl->registers);
	tmpl->registers = kept;
	tmpl->count = count;
	return 0;
}

static int make(struct baseline *b)
{
	int err;

	b->tmpl->rest_clear = true;
	memcpy(b->tmpl->vendor, b->cpus[0]->vendor, sizeof(b->tmpl->vendor));
	join_registers(b);
	for (uint32_t component = 2; component < 63; component++)
		if (!layouts_agree(b, component))
			drop_component(b->tmpl, component);
	err = settle(b);
	return err ? err : tidy(b->tmpl);
}

int impost_x86_template_baseline(struct impost_context *ctx, const char *name,
				 const struct impost_x86_template *const *cpus, uint32_t count,
				 struct impost_x86_template **ret_template)
{
	struct baseline b = {.cpus = cpus, .count = count};
	uint64_t room = 0;
	int err;

	if (!name || !cpus || !count || !ret_template || !template_text_ok(name))
		return impost_error_set(ctx, -EINVAL,
					"a baseline needs a CPU, and a name of 1 to %u printable "
					"characters",
					TEMPLATE_TEXT_MAX);
	err = check_cpus(ctx, &b);
	if (err)
		return err;
	for (uint32_t i = 0; i < count; i++)
		room += cpus[i]->count;
	if (room > UINT32_MAX / sizeof(struct template_register))
		return impost_error_set(ctx, -ENOMEM, "no memory for a baseline of %u CPUs", count);
	b.tmpl = template_new(name, (uint32_t)room);
	err = b.tmpl ? make(&b) : -ENOMEM;
	if (err) {
		impost_x86_template_free(b.tmpl);
		return impost_error_set(ctx, err, "no memory for a baseline of %u CPUs", count);
	}
	*ret_template = b.tmpl;
	return 0;
}
