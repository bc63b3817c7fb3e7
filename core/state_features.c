/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs that tell of features: what a guest was told by one that is otherwise on a host. */
#include "state_features.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <impost/x86_64/cpuid.h>

#include "text.h"

static const struct feature_msr {
	uint32_t first, last;
	uint64_t features, inverted; /* of the bits without a name */
} feature_msrs[] = {
#define STATE_FEATURES(first, last, features, inverted, source) {first, last, features, inverted},
#include "state_features.def"
};

static const struct feature_msr *find(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(feature_msrs); i++)
		if (index >= feature_msrs[i].first && index <= feature_msrs[i].last)
			return &feature_msrs[i];
	return NULL;
}

static const char missing[] = "the guest was told that it is there";
static const char needed[] = "the guest was told otherwise, and so it is here";

/* Why a guest that was told GUEST in field F cannot be where it is HOST; NULL: it can. */
static const char *why(const struct impost_x86_msr_field *f, uint64_t guest, uint64_t host)
{
	switch (f->kind) {
	case IMPOST_X86_FIELD_FEATURE:
		return guest & ~host ? missing : NULL;
	case IMPOST_X86_FIELD_INVERTED:
		return host & ~guest ? needed : NULL;
	case IMPOST_X86_FIELD_LIMIT:
		return guest > host ? "the guest was told of more" : NULL;
	case IMPOST_X86_FIELD_VALUE: /* a format: 0 is none */
		return guest && guest != host ? "it is another one" : NULL;
	default:
		return NULL;
	}
}

static uint64_t field_mask(const struct impost_x86_msr_field *f)
{
	return (UINT64_MAX >> (63 - (f->high - f->low))) << f->low;
}

static void tell_bits(uint32_t index, uint64_t bits, const char *reason, state_feature_fn tell,
		      void *opaque)
{
	const struct impost_x86_msr_info *info = impost_x86_msr_info_at(index);

	for (; bits; bits &= bits - 1) {
		char name[64];

		if (info)
			snprintf(name, sizeof(name), "%s bit %d", info->name,
				 __builtin_ctzll(bits));
		else
			snprintf(name, sizeof(name), "MSR 0x%x bit %d", index,
				 __builtin_ctzll(bits));
		tell(opaque, name, reason);
	}
}

void state_feature_differences(uint32_t index, uint64_t guest, uint64_t host, state_feature_fn tell,
			       void *opaque)
{
	const struct feature_msr *m = find(index);
	const struct impost_x86_msr_field *f;
	uint64_t named = 0;

	if (!m)
		return;
	for (uint32_t bit = 0; bit < 64; bit++) {
		const char *reason;
		char text[160];

		f = impost_x86_msr_field_at(index, bit);
		if (!f || f->low != bit)
			continue;
		named |= field_mask(f);
		reason =
			why(f, (guest & field_mask(f)) >> f->low, (host & field_mask(f)) >> f->low);
		if (!reason)
			continue;
		snprintf(text, sizeof(text), "%s: %s", f->meaning, reason);
		tell(opaque, f->name, text);
	}
	tell_bits(index, guest & ~host & m->features & ~named, missing, tell, opaque);
	tell_bits(index, host & ~guest & m->inverted & ~named, needed, tell, opaque);
}
