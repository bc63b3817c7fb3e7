/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-flight of what a guest was told of its CPU: CPUID bits and MSRs that the backend has not. */
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/x86_64/cpuid.h>

#include "state_check.h"
#include "state_features.h"

/* --- MSRs --- */

static_assert(offsetof(struct impost_x86_msr, index) == 0, "MSRs are sorted as numbers are");

int check_by_number(const void *a, const void *b)
{
	const uint32_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

static bool has_msr(const struct check *c, uint32_t index)
{
	return c->nmsrs && bsearch(&index, c->msrs, c->nmsrs, sizeof(*c->msrs), check_by_number);
}

/* An MSR that tells of features and that the guest was given: a mismatch for each field. */
struct feature_of {
	struct check *c;
	uint64_t guest, host;
};

static void tell_feature(void *opaque, const char *name, const char *reason)
{
	const struct feature_of *f = opaque;

	check_mismatch(f->c, "msr", name,
		       "%s: the guest's is 0x%" PRIx64 ", backend %s has 0x%" PRIx64, reason,
		       f->guest, f->c->name, f->host);
}

static void check_features(struct check *c, const struct state_vcpu *v,
			   const struct impost_x86_msr *msr)
{
	const struct impost_x86_msr *have =
		c->nfeatures ? bsearch(&msr->index, c->features, c->nfeatures, sizeof(*c->features),
				       check_by_number)
			     : NULL;

	if (!have || have->value == msr->value || state_msr_idle(v, msr))
		return;
	state_feature_differences(msr->index, msr->value, have->value, tell_feature,
				  &(struct feature_of){c, msr->value, have->value});
}

void check_msrs(struct check *c, const struct state_vcpu *v)
{
	const struct state_msrs *own = &v->hypervisor;
	bool native = strcmp(own->backend, c->name) == 0;
	char name[STATE_MSR_NAME];

	for (uint32_t i = 0; i < v->nmsrs && !check_is_over(c); i++) {
		check_features(c, v, &v->msrs[i]);
		if (!has_msr(c, v->msrs[i].index) && !state_msr_idle(v, &v->msrs[i]))
			check_mismatch(c, "msr", state_msr_name(v->msrs[i].index, name),
				       "it is 0x%" PRIx64 ", and backend %s has no such MSR here",
				       v->msrs[i].value, c->name);
	}
	for (uint32_t i = 0; i < own->count && !check_is_over(c); i++) {
		if (state_msr_idle(v, &own->msrs[i]))
			continue;
		if (!native)
			check_mismatch(c, "msr", state_msr_name(own->msrs[i].index, name),
				       "the guest uses it, it is of backend %s, and this is %s",
				       own->backend, c->name);
		else if (!has_msr(c, own->msrs[i].index))
			check_mismatch(c, "msr", state_msr_name(own->msrs[i].index, name),
				       "the guest uses it, and this %s has none such", c->name);
	}
}

/* --- CPUID --- */

static uint32_t field_mask(const struct impost_x86_cpuid_field *f)
{
	return (UINT32_MAX >> (31 - (f->high - f->low))) << f->low;
}

/* Whether F is of register REG of ENTRY. */
static bool is_of(const struct impost_x86_cpuid_field *f, const struct impost_x86_cpuid *entry,
		  uint32_t reg)
{
	if (f->leaf != entry->leaf || f->reg != reg)
		return false;
	return !(f->flags & IMPOST_X86_CPUID_SUBLEAF) || f->subleaf == IMPOST_X86_CPUID_EACH ||
	       f->subleaf == entry->subleaf;
}

/* Where components lie is the processor's, whatever the guest was told (SDM vol. 1, 13.4.3). */
static bool is_layout(const struct impost_x86_cpuid_field *f)
{
	return f->leaf == 0xd && f->subleaf >= 2 && f->subleaf < 64 &&
	       f->kind == IMPOST_X86_FIELD_VALUE;
}

static void check_field(struct check *c, const struct impost_x86_cpuid_field *f, uint32_t guest,
			uint32_t host)
{
	uint32_t have = (host & field_mask(f)) >> f->low;

	guest = (guest & field_mask(f)) >> f->low;
	if (f->kind == IMPOST_X86_FIELD_FEATURE && (guest & ~have))
		check_mismatch(c, "cpuid", f->name,
			       "the guest was given it (%s), and backend %s has it "
			       "not here",
			       f->meaning, c->name);
	else if (f->kind == IMPOST_X86_FIELD_INVERTED && (have & ~guest))
		check_mismatch(
			c, "cpuid", f->name,
			"%s: so it is with backend %s here, and the guest was told otherwise",
			f->meaning, c->name);
	else if (f->kind == IMPOST_X86_FIELD_LIMIT && guest > have)
		check_mismatch(c, "cpuid", f->name,
			       "the guest was given %u (%s), and backend %s has %u "
			       "here",
			       guest, f->meaning, c->name, have);
	else if (is_layout(f) && guest && guest != have)
		check_mismatch(c, "cpuid", f->name, "the guest was told %u (%s), and it is %u here",
			       guest, f->meaning, have);
}

/* Bits without a name, in a register that has features. */
static void check_unnamed(struct check *c, const struct impost_x86_cpuid *entry, uint32_t reg,
			  uint32_t missing)
{
	static const char *const registers[] = {"EAX", "EBX", "ECX", "EDX"};

	for (; missing; missing &= missing - 1) {
		char name[64];

		snprintf(name, sizeof(name), "CPUID 0x%x.0x%x %s bit %d", entry->leaf,
			 entry->subleaf, registers[reg], __builtin_ctz(missing));
		check_mismatch(c, "cpuid", name,
			       "the guest was given it, and backend %s has it not here", c->name);
	}
}

/* The first field of LEAF or of one above it: fields are in order of leaf. */
static uint32_t first_field(const struct check *c, uint32_t leaf)
{
	uint32_t from = 0, to = c->nfields;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;

		if (impost_x86_cpuid_field(middle)->leaf < leaf)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static void check_register(struct check *c, const struct impost_x86_cpuid *entry, uint32_t reg,
			   uint32_t guest, uint32_t host)
{
	const struct impost_x86_cpuid_field *f;
	uint32_t named = 0;
	bool features = false;

	for (uint32_t i = first_field(c, entry->leaf);
	     (f = impost_x86_cpuid_field(i)) != NULL && f->leaf == entry->leaf; i++) {
		if (!is_of(f, entry, reg))
			continue;
		named |= field_mask(f);
		features |= f->kind == IMPOST_X86_FIELD_FEATURE;
		check_field(c, f, guest, host);
	}
	if (features)
		check_unnamed(c, entry, reg, guest & ~host & ~named);
}

void check_cpuid(struct check *c, const struct state_vcpu *v)
{
	if (v->ncpuid > c->backend->caps.max_cpuid)
		check_mismatch(c, "cpuid", "entries", "there are %u, backend %s takes %u",
			       v->ncpuid, c->name, c->backend->caps.max_cpuid);
	for (uint32_t i = 0; i < v->ncpuid && !check_is_over(c); i++) {
		struct impost_x86_cpuid guest = v->cpuid[i], host = {.leaf = 0};
		const struct impost_x86_cpuid *found =
			impost_x86_cpuid_find(c->cpuid, c->ncpuid, guest.leaf, guest.subleaf);

		if (found)
			host = *found;
		for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++) {
			uint32_t a = *impost_x86_cpuid_register(&guest, reg);
			uint32_t b = *impost_x86_cpuid_register(&host, reg);

			if (a != b)
				check_register(c, &guest, reg, a, b);
		}
	}
}
