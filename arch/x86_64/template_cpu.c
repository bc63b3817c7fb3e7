/* SPDX-License-Identifier: Apache-2.0 */
/* Dumps: what a backend offers, as the CPU template that gives just that. */
#include "template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/vcpu.h>

/* What R is to say, of VALUE: everything but what is computed for each vCPU. */
static void take_value(struct template_register *r, uint64_t value)
{
	struct template_span span;

	r->named = UINT64_MAX >> (64 - register_bits(r));
	for (uint32_t bit = 0; bit < register_bits(r); bit = span.high + 1) {
		span = template_span_at(r, bit);
		if (span.kind != IMPOST_X86_FIELD_MANAGED)
			r->mask |= span_bits(&span);
	}
	r->value = value & r->mask;
}

static void add_entry(struct impost_x86_template *tmpl, struct impost_x86_cpuid entry)
{
	for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++) {
		struct template_register *r = &tmpl->registers[tmpl->count++];

		r->leaf = entry.leaf;
		r->has_subleaf = entry.flags & IMPOST_X86_CPUID_SUBLEAF;
		r->subleaf = r->has_subleaf ? entry.subleaf : 0;
		r->reg = reg;
		take_value(r, *impost_x86_cpuid_register(&entry, reg));
	}
}

static void add_msr(struct impost_x86_template *tmpl, const struct impost_x86_msr *msr)
{
	struct template_register *r = &tmpl->registers[tmpl->count++];

	r->msr = true;
	r->leaf = msr->index;
	take_value(r, msr->value);
}

static void take_vendor(struct impost_x86_template *tmpl, const struct impost_x86_cpuid *entries,
			uint32_t count)
{
	const struct impost_x86_cpuid *leaf0 = impost_x86_cpuid_find(entries, count, 0, 0);

	if (!leaf0)
		return;
	memcpy(tmpl->vendor, &leaf0->ebx, 4);
	memcpy(tmpl->vendor + 4, &leaf0->edx, 4);
	memcpy(tmpl->vendor + 8, &leaf0->ecx, 4);
	/* Names that an INI cannot have count as none. */
	if (strlen(tmpl->vendor) != sizeof(tmpl->vendor) - 1 || !template_text_ok(tmpl->vendor))
		memset(tmpl->vendor, 0, sizeof(tmpl->vendor));
}

static int check_doubles(struct impost_context *ctx, const struct impost_x86_template *tmpl)
{
	char name[TEMPLATE_NAME_MAX];

	for (uint32_t i = 1; i < tmpl->count; i++) {
		if (template_compare_registers(&tmpl->registers[i - 1], &tmpl->registers[i]) != 0)
			continue;
		template_register_name(&tmpl->registers[i], name);
		return impost_error_set(ctx, -EINVAL, "a CPU's dump: %s is there twice", name);
	}
	return 0;
}

int impost_x86_template_from_cpu(struct impost_context *ctx, const char *name, const char *summary,
				 const struct impost_x86_cpuid *entries, uint32_t count,
				 const struct impost_x86_msr *msrs, uint32_t msr_count,
				 struct impost_x86_template **ret_template)
{
	struct impost_x86_template *tmpl;
	uint64_t registers = (uint64_t)count * 4 + msr_count;
	int err;

	if (!name || (!entries && count) || (!msrs && msr_count) || !ret_template)
		return impost_error_set(ctx, -EINVAL, "a CPU's dump: an argument is NULL");
	if (!template_text_ok(name) || (summary && !template_text_ok(summary)))
		return impost_error_set(ctx, -EINVAL,
					"a CPU's dump: the name and summary must be 1 to %u "
					"printable characters",
					TEMPLATE_TEXT_MAX);
	if (registers > IMPOST_X86_TEMPLATE_MAX)
		return impost_error_set(ctx, -E2BIG, "a CPU's dump: more than %u registers",
					IMPOST_X86_TEMPLATE_MAX);
	tmpl = template_new(name, (uint32_t)registers);
	if (tmpl && summary)
		tmpl->summary = strdup(summary);
	if (!tmpl || (summary && !tmpl->summary)) {
		impost_x86_template_free(tmpl);
		return impost_error_set(ctx, -ENOMEM, "no memory for a CPU's dump");
	}
	tmpl->rest_clear = true;
	take_vendor(tmpl, entries, count);
	for (uint32_t i = 0; i < count; i++)
		add_entry(tmpl, entries[i]);
	for (uint32_t i = 0; i < msr_count; i++)
		add_msr(tmpl, &msrs[i]);
	template_sort(tmpl);
	err = check_doubles(ctx, tmpl);
	if (err)
		impost_x86_template_free(tmpl);
	else
		*ret_template = tmpl;
	return err;
}

/* --- probing --- */

#define MOST_ENTRIES 512u
#define MOST_MSRS    64u

/* What is read from a backend. */
struct probe {
	struct impost_vm *vm;
	struct impost_x86_cpuid entries[MOST_ENTRIES];
	struct impost_x86_msr msrs[MOST_MSRS];
	uint32_t count, msr_count;
};

/* Reads the feature MSRs that there are. */
static int read_msrs(struct probe *probe, struct impost_vcpu *vcpu)
{
	const struct impost_x86_msr_info *info;

	for (uint32_t i = 0; (info = impost_x86_msr_info(i)) != NULL; i++) {
		struct impost_x86_msr msr = {.index = info->index};
		int err;

		if (info->kind != IMPOST_X86_MSR_FEATURE || probe->msr_count == MOST_MSRS)
			continue;
		err = impost_vcpu_get_msrs(vcpu, &msr, 1, NULL);
		if (err == -ENOENT)
			continue;
		if (err)
			return err;
		probe->msrs[probe->msr_count++] = msr;
	}
	return 0;
}

static int give_cpuid(struct probe *probe, struct impost_vcpu *vcpu)
{
	if (impost_caps_has(impost_vm_caps(probe->vm), IMPOST_CAP_CPUID_PER_VM))
		return impost_vm_set_cpuid(probe->vm, probe->entries, probe->count);
	return impost_vcpu_set_cpuid(vcpu, probe->entries, probe->count);
}

static int read_backend(struct probe *probe)
{
	struct impost_vcpu *vcpu = NULL;
	int err = impost_vm_cpuid_supported(probe->vm, probe->entries, MOST_ENTRIES, &probe->count);

	if (!err)
		err = impost_vcpu_create(probe->vm, 0, &vcpu);
	if (!err)
		err = give_cpuid(probe, vcpu);
	if (!err)
		err = read_msrs(probe, vcpu);
	impost_vcpu_destroy(vcpu);
	return err;
}

/* "BACKEND on BRAND": the brand string's words, one blank between them. */
static void summarize(const struct probe *probe, char *text, size_t size)
{
	size_t len = (size_t)snprintf(text, size, "what %s offers", impost_vm_backend(probe->vm));
	const char *between = " on ";
	char brand[49] = "", *rest = brand, *word;

	for (uint32_t leaf = 0; leaf < 3; leaf++) {
		const struct impost_x86_cpuid *e =
			impost_x86_cpuid_find(probe->entries, probe->count, 0x80000002 + leaf, 0);

		if (e)
			memcpy(brand + (size_t)leaf * 16, &e->eax, 16);
	}
	while ((word = strsep(&rest, " ")) != NULL) {
		if (!word[0])
			continue;
		len += (size_t)snprintf(text + len, size - len, "%s%s", between, word);
		between = " ";
	}
	if (!template_text_ok(text))
		snprintf(text, size, "what %s offers", impost_vm_backend(probe->vm));
}

int impost_x86_template_probe(struct impost_vm *vm, struct impost_x86_template **ret_template)
{
	struct probe *probe;
	char summary[128], name[32];
	int err;

	if (!vm || !ret_template)
		return -EINVAL;
	probe = calloc(1, sizeof(*probe));
	if (!probe)
		return impost_error_set(impost_vm_context(vm), -ENOMEM,
					"no memory for a CPU's dump");
	probe->vm = vm;
	err = read_backend(probe);
	if (!err) {
		summarize(probe, summary, sizeof(summary));
		snprintf(name, sizeof(name), "%.15s-host", impost_vm_backend(vm));
		err = impost_x86_template_from_cpu(impost_vm_context(vm), name, summary,
						   probe->entries, probe->count, probe->msrs,
						   probe->msr_count, ret_template);
	}
	free(probe);
	return err;
}
