/* SPDX-License-Identifier: Apache-2.0 */
/* In what two states differ: fields by their path, MSRs and CPUID by their names. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <impost/x86_64/cpuid.h>

#include "record.h"
#include "state.h"

struct diff {
	struct impost_context *ctx;
	const char *section;
	impost_state_difference_fn tell;
	void *opaque;
	int count;
};

static int differs(void *opaque, const char *path, const char *a, const char *b)
{
	struct diff *d = opaque;

	if (d->tell)
		d->tell(d->opaque, d->section, path, a ? a : "-", b ? b : "-");
	d->count++;
	return 0;
}

/* --- MSRs: both are in order of index --- */

static const char *msr_text(const struct impost_x86_msr *msr, char text[24])
{
	if (!msr)
		return NULL;
	snprintf(text, 24, "0x%" PRIx64, msr->value);
	return text;
}

static void msr_differs(struct diff *d, uint32_t index, const struct impost_x86_msr *a,
			const struct impost_x86_msr *b)
{
	char name[STATE_MSR_NAME], path[STATE_MSR_NAME + 8], a_text[24], b_text[24];

	if (a && b && a->value == b->value)
		return;
	snprintf(path, sizeof(path), "msrs.%s", state_msr_name(index, name));
	differs(d, path, msr_text(a, a_text), msr_text(b, b_text));
}

static void diff_msrs(struct diff *d, const struct impost_x86_msr *a, uint32_t na,
		      const struct impost_x86_msr *b, uint32_t nb)
{
	uint32_t i = 0, k = 0;

	while (i < na || k < nb) {
		uint64_t next_a = i < na ? a[i].index : UINT64_MAX;
		uint64_t next_b = k < nb ? b[k].index : UINT64_MAX;
		uint64_t next = next_a < next_b ? next_a : next_b;

		msr_differs(d, (uint32_t)next, next_a == next ? &a[i] : NULL,
			    next_b == next ? &b[k] : NULL);
		i += next_a == next;
		k += next_b == next;
	}
}

/* --- CPUID --- */

static void bits_differ(struct diff *d, const char *path, uint32_t a, uint32_t b)
{
	char a_text[16], b_text[16];

	snprintf(a_text, sizeof(a_text), "0x%x", a);
	snprintf(b_text, sizeof(b_text), "0x%x", b);
	differs(d, path, a_text, b_text);
}

static void diff_register(struct diff *d, const struct impost_x86_cpuid *e, uint32_t reg,
			  uint32_t a, uint32_t b)
{
	static const char *const registers[] = {"EAX", "EBX", "ECX", "EDX"};
	uint32_t unnamed = 0;
	char path[96];

	for (uint32_t bit = 0; bit < 32; bit++) {
		const struct impost_x86_cpuid_field *f =
			impost_x86_cpuid_field_at(e->leaf, e->subleaf, reg, bit);
		uint32_t up, down;

		if (!f) {
			unnamed |= (a ^ b) & UINT32_C(1) << bit;
			continue;
		}
		up = 31 - f->high;
		down = up + f->low;
		/* A field of every sub-leaf has one name, and differs in each. */
		if (f->subleaf == IMPOST_X86_CPUID_EACH)
			snprintf(path, sizeof(path), "cpuid.%s[%u]", f->name, e->subleaf);
		else
			snprintf(path, sizeof(path), "cpuid.%s", f->name);
		if (a << up >> down != b << up >> down)
			bits_differ(d, path, a << up >> down, b << up >> down);
		bit = f->high;
	}
	snprintf(path, sizeof(path), "cpuid.0x%x.0x%x.%s", e->leaf, e->subleaf, registers[reg]);
	if (unnamed)
		bits_differ(d, path, a & unnamed, b & unnamed);
}

static const struct impost_x86_cpuid *find(const struct state_vcpu *v,
					   const struct impost_x86_cpuid *e)
{
	for (uint32_t i = 0; i < v->ncpuid; i++)
		if (v->cpuid[i].leaf == e->leaf && v->cpuid[i].subleaf == e->subleaf)
			return &v->cpuid[i];
	return NULL;
}

/* E is of one side; the other side has OTHER, or nothing. E_IS_A says which. */
static void diff_entry(struct diff *d, const struct impost_x86_cpuid *e,
		       const struct impost_x86_cpuid *other, bool e_is_a)
{
	struct impost_x86_cpuid none = {.leaf = 0}, mine = *e, theirs = other ? *other : none;

	for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++) {
		uint32_t x = *impost_x86_cpuid_register(&mine, reg);
		uint32_t y = *impost_x86_cpuid_register(&theirs, reg);

		if (x != y)
			diff_register(d, e, reg, e_is_a ? x : y, e_is_a ? y : x);
	}
}

static void diff_cpuid(struct diff *d, const struct state_vcpu *a, const struct state_vcpu *b)
{
	for (uint32_t i = 0; i < a->ncpuid; i++)
		diff_entry(d, &a->cpuid[i], find(b, &a->cpuid[i]), true);
	for (uint32_t i = 0; i < b->ncpuid; i++)
		if (!find(a, &b->cpuid[i]))
			diff_entry(d, &b->cpuid[i], NULL, false);
}

/* --- sections --- */

static int diff_vcpus(struct diff *d, const struct state_vcpu *a, const struct state_vcpu *b)
{
	int err = impost_record_diff(d->ctx, state_registers_record, a, b, differs, d);

	diff_msrs(d, a->msrs, a->nmsrs, b->msrs, b->nmsrs);
	diff_msrs(d, a->hypervisor.msrs, a->hypervisor.count, b->hypervisor.msrs,
		  b->hypervisor.count);
	diff_cpuid(d, a, b);
	return err;
}

static int diff_sections(struct diff *d, const struct state_section *a,
			 const struct state_section *b)
{
	d->section = a->name;
	switch (a->kind) {
	case STATE_MACHINE:
		return impost_record_diff(d->ctx, state_machine_record, a->decoded, b->decoded,
					  differs, d);
	case STATE_VM:
		return impost_record_diff(d->ctx, state_vm_record, a->decoded, b->decoded, differs,
					  d);
	case STATE_VCPU:
		return diff_vcpus(d, a->decoded, b->decoded);
	default:
		return impost_cbor_diff(d->ctx, NULL, a->data, a->len, b->data, b->len, differs, d);
	}
}

static const struct state_section *same_section(const struct impost_state *state, const char *name)
{
	for (uint32_t i = 0; i < state->count; i++)
		if (strcmp(state->sections[i].name, name) == 0)
			return &state->sections[i];
	return NULL;
}

static void lonely(struct diff *d, const struct state_section *s, const char *a, const char *b)
{
	d->section = s->name;
	differs(d, "", a, b);
}

int impost_state_diff(const struct impost_state *a, const struct impost_state *b,
		      impost_state_difference_fn difference, void *opaque)
{
	struct diff d = {.tell = difference, .opaque = opaque};
	int err = 0;

	if (!a || !b)
		return -EINVAL;
	d.ctx = a->ctx;
	for (uint32_t i = 0; i < a->count && !err; i++) {
		const struct state_section *other = same_section(b, a->sections[i].name);

		if (other)
			err = diff_sections(&d, &a->sections[i], other);
		else
			lonely(&d, &a->sections[i], "there", NULL);
	}
	for (uint32_t i = 0; i < b->count && !err; i++)
		if (!same_section(a, b->sections[i].name))
			lonely(&d, &b->sections[i], NULL, "there");
	return err ? err : d.count;
}
