/* SPDX-License-Identifier: Apache-2.0 */
/* What goes with a CPUID feature that is cleared: features, leaves, and XSAVE's components. */
#include "template.h"

#include <stdio.h>
#include <string.h>

/* The number of each field in the table of cpuid.h. */
#define IMPOST_X86_CPUID_FIELD(leaf, subleaf, reg, high, low, NAME, ...) FIELD_##NAME,
enum field_number {
#include <impost/x86_64/cpuid.def>
	FIELD_NONE
};

static const struct {
	enum field_number field, one, other;
} needs[] = {
#define NEEDS(FIELD, ONE, OTHER) {FIELD_##FIELD, FIELD_##ONE, FIELD_##OTHER},
#define LEAF_OF(leaf, FIELD)
#include "needs.def"
};

static const struct {
	uint32_t leaf;
	enum field_number field;
} leaves[] = {
#define NEEDS(FIELD, ONE, OTHER)
#define LEAF_OF(leaf, FIELD) {leaf, FIELD_##FIELD},
#include "needs.def"
};

#define LINEAR_BITS_4_LEVELS UINT32_C(48)

#define NNEEDS		     (sizeof(needs) / sizeof(needs[0]))
#define NLEAVES		     (sizeof(leaves) / sizeof(leaves[0]))

static const struct impost_x86_cpuid_field *field_of(enum field_number number)
{
	return number == FIELD_NONE ? NULL : impost_x86_cpuid_field((uint32_t)number);
}

static bool is_set(const struct template_work *work, const struct impost_x86_cpuid_field *field)
{
	return field && impost_x86_cpuid_get_field(work->entries, work->count, field);
}

/* Whether row I of `needs` finds nothing any more of what it needs. */
static bool bereft(const struct template_work *work, size_t i)
{
	const struct impost_x86_cpuid_field *one = field_of(needs[i].one);
	const struct impost_x86_cpuid_field *other = field_of(needs[i].other);

	if (is_set(work, one) || is_set(work, other))
		return false;
	return work->had(work->opaque, one) || (other && work->had(work->opaque, other));
}

static void clear_field(struct template_work *work, const struct impost_x86_cpuid_field *field)
{
	const struct template_span span = {.high = field->high, .low = field->low};

	for (uint32_t i = 0; i < work->count; i++) {
		struct impost_x86_cpuid *entry = &work->entries[i];
		uint32_t *reg = impost_x86_cpuid_register(entry, field->reg);

		if (entry->leaf == field->leaf && entry->subleaf == field->subleaf)
			*reg &= ~(uint32_t)span_bits(&span);
	}
}

void template_keep(struct template_work *work,
		   bool (*keep)(const void *opaque, const struct impost_x86_cpuid *entry),
		   const void *opaque)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < work->count; i++)
		if (keep(opaque, &work->entries[i]))
			work->entries[kept++] = work->entries[i];
	work->count = kept;
}

static bool is_other_leaf(const void *opaque, const struct impost_x86_cpuid *entry)
{
	const uint32_t *leaf = opaque;

	return entry->leaf != *leaf;
}

/* Whether row I of `leaves` has lost its feature. */
static bool leaf_is_lost(const struct template_work *work, size_t i)
{
	const struct impost_x86_cpuid_field *field = field_of(leaves[i].field);

	return !is_set(work, field) && work->had(work->opaque, field);
}

/* Without 5-level paging linear addresses have 48 bits (SDM vol. 3, 4.1.4). */
static void settle_linear_bits(struct template_work *work)
{
	const struct impost_x86_cpuid_field *la57 = field_of(FIELD_LA57);
	const struct impost_x86_cpuid_field *bits = field_of(FIELD_LINEAR_ADDR_BITS);

	if (is_set(work, la57) || !work->had(work->opaque, la57))
		return;
	for (uint32_t i = 0; i < work->count; i++) {
		struct impost_x86_cpuid *e = &work->entries[i];

		if (e->leaf == bits->leaf && (e->eax >> bits->low & 0xff) > LINEAR_BITS_4_LEVELS)
			e->eax = (e->eax & ~(UINT32_C(0xff) << bits->low)) | LINEAR_BITS_4_LEVELS
										     << bits->low;
	}
}

void template_settle(struct template_work *work)
{
	bool changed;

	do {
		changed = false;
		for (size_t i = 0; i < NNEEDS; i++) {
			const struct impost_x86_cpuid_field *field = field_of(needs[i].field);

			if (!is_set(work, field) || !bereft(work, i))
				continue;
			clear_field(work, field);
			changed = true;
		}
		for (size_t i = 0; i < NLEAVES; i++) {
			uint32_t count = work->count;

			if (leaf_is_lost(work, i))
				template_keep(work, is_other_leaf, &leaves[i].leaf);
			changed |= work->count != count;
		}
	} while (changed);
	settle_linear_bits(work);
}

static bool is_field(const struct impost_x86_cpuid_field *field, const struct template_register *r,
		     uint32_t bit)
{
	return field->leaf == r->leaf && field->subleaf == r->subleaf && field->reg == r->reg &&
	       bit <= field->high && bit >= field->low;
}

void template_why_clear(const struct template_work *work, const struct template_register *r,
			uint32_t bit, char *reason, size_t size)
{
	for (size_t i = 0; i < NNEEDS; i++) {
		const struct impost_x86_cpuid_field *other = field_of(needs[i].other);

		if (!is_field(field_of(needs[i].field), r, bit) || !bereft(work, i))
			continue;
		snprintf(reason, size, "it needs %s%s%s, which this template does not leave",
			 field_of(needs[i].one)->name, other ? " or " : "",
			 other ? other->name : "");
		return;
	}
	for (size_t i = 0; i < NLEAVES; i++) {
		if (leaves[i].leaf != r->leaf || !leaf_is_lost(work, i))
			continue;
		snprintf(reason, size, "its leaf needs %s, which this template does not leave",
			 field_of(leaves[i].field)->name);
		return;
	}
	snprintf(reason, size, "its leaf is above the highest that this template leaves");
}

/* --- leaf 0xD (SDM vol. 2, CPUID; vol. 1, 13.4.3) --- */

#define LEAF_XSAVE	  0xdu
#define XSAVE_LEGACY	  576u /* legacy region and header */
#define COMPONENT_ALIGNED 2u   /* in ECX: at a multiple of 64 in the compacted format */

/* The components of XCR0 and IA32_XSS that ENTRIES offer. */
struct components {
	uint64_t user, supervisor;
	bool compacted; /* there are instructions for the compacted format */
};

static struct components components_of(const struct impost_x86_cpuid *entries, uint32_t count)
{
	const struct impost_x86_cpuid *user = impost_x86_cpuid_find(entries, count, LEAF_XSAVE, 0);
	const struct impost_x86_cpuid *more = impost_x86_cpuid_find(entries, count, LEAF_XSAVE, 1);
	const struct impost_x86_cpuid_field *xsavec = field_of(FIELD_XSAVEC);
	const struct impost_x86_cpuid_field *xsaves = field_of(FIELD_XSAVES);
	struct components c = {0};

	if (user)
		c.user = (uint64_t)user->edx << 32 | user->eax;
	if (more)
		c.supervisor = (uint64_t)more->edx << 32 | more->ecx;
	c.compacted = impost_x86_cpuid_get_field(entries, count, xsavec) ||
		      impost_x86_cpuid_get_field(entries, count, xsaves);
	return c;
}

static const struct impost_x86_cpuid *component(const struct template_work *work, uint32_t id)
{
	return impost_x86_cpuid_find(work->entries, work->count, LEAF_XSAVE, id);
}

/* Bytes of the area in the standard format with all of COMPONENTS. */
static uint32_t standard_bytes(const struct template_work *work, uint64_t components)
{
	uint32_t bytes = components ? XSAVE_LEGACY : 0;

	for (uint32_t id = 2; id < 63; id++) {
		const struct impost_x86_cpuid *e = components >> id & 1 ? component(work, id)
									: NULL;

		if (e && e->ebx + e->eax > bytes)
			bytes = e->ebx + e->eax;
	}
	return bytes;
}

static uint32_t compacted_bytes(const struct template_work *work, uint64_t components)
{
	uint32_t bytes = XSAVE_LEGACY;

	for (uint32_t id = 2; id < 63; id++) {
		const struct impost_x86_cpuid *e = components >> id & 1 ? component(work, id)
									: NULL;

		if (!e)
			continue;
		if (e->ecx & COMPONENT_ALIGNED)
			bytes = (bytes + 63) & ~63u;
		bytes += e->eax;
	}
	return bytes;
}

static bool has_component(const void *opaque, const struct impost_x86_cpuid *entry)
{
	const struct components *c = opaque;

	return entry->leaf != LEAF_XSAVE || entry->subleaf < 2 || entry->subleaf > 62 ||
	       ((c->user | c->supervisor) >> entry->subleaf & 1);
}

static void shrink(uint32_t *bytes, uint32_t most)
{
	if (*bytes > most)
		*bytes = most;
}

void template_settle_xsave(struct template_work *work, const struct impost_x86_cpuid *before,
			   uint32_t before_count)
{
	const struct components was = components_of(before, before_count);
	const struct components is = components_of(work->entries, work->count);

	if (was.user == is.user && was.supervisor == is.supervisor && was.compacted == is.compacted)
		return;
	template_keep(work, has_component, &is);
	for (uint32_t i = 0; i < work->count; i++) {
		struct impost_x86_cpuid *e = &work->entries[i];

		if (e->leaf != LEAF_XSAVE)
			continue;
		if (e->subleaf == 0) {
			e->ecx = standard_bytes(work, is.user);
			shrink(&e->ebx, e->ecx);
		} else if (e->subleaf == 1) {
			shrink(&e->ebx,
			       is.compacted ? compacted_bytes(work, is.user | is.supervisor) : 0);
		}
	}
}
