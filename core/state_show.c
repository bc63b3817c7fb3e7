/* SPDX-License-Identifier: Apache-2.0 */
/* A state as text and as JSON: records by their descriptions, MSRs and CPUID by their names. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <impost/x86_64/cpuid.h>

#include "record.h"
#include "record_text.h"
#include "state.h"

static const struct impost_record *record_of(enum state_kind kind)
{
	return kind == STATE_MACHINE ? state_machine_record : state_vm_record;
}

/* Tells EACH of every field of ENTRY that is not 0; bits without a name are told together. */
static void each_field(const struct impost_x86_cpuid *entry,
		       void (*each)(void *opaque, const char *name, uint32_t value), void *opaque)
{
	static const char *const registers[] = {"EAX", "EBX", "ECX", "EDX"};
	struct impost_x86_cpuid copy = *entry;

	for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++) {
		uint32_t value = *impost_x86_cpuid_register(&copy, reg), unnamed = 0;

		for (uint32_t bit = 0; bit < 32; bit++) {
			const struct impost_x86_cpuid_field *f =
				impost_x86_cpuid_field_at(entry->leaf, entry->subleaf, reg, bit);
			uint32_t part;

			if (!f) {
				unnamed |= value & UINT32_C(1) << bit;
				continue;
			}
			part = value << (31 - f->high) >> (31 - f->high + f->low);
			if (part)
				each(opaque, f->name, part);
			bit = f->high;
		}
		if (unnamed)
			each(opaque, registers[reg], unnamed);
	}
}

/* --- text --- */

static void print_msrs(struct out *out, const char *title, const struct impost_x86_msr *msrs,
		       uint32_t count)
{
	char name[STATE_MSR_NAME];

	for (uint32_t i = 0; i < count; i++)
		out_format(out, "%s.%s: 0x%" PRIx64 "\n", title,
			   state_msr_name(msrs[i].index, name), msrs[i].value);
}

static void print_field(void *opaque, const char *name, uint32_t value)
{
	if (value == 1)
		out_format(opaque, " %s", name);
	else
		out_format(opaque, " %s=0x%x", name, value);
}

static void print_cpuid(struct out *out, const struct state_vcpu *v)
{
	for (uint32_t i = 0; i < v->ncpuid; i++) {
		const struct impost_x86_cpuid *e = &v->cpuid[i];

		out_format(out, "cpuid.0x%x.0x%x: 0x%08x 0x%08x 0x%08x 0x%08x", e->leaf, e->subleaf,
			   e->eax, e->ebx, e->ecx, e->edx);
		each_field(e, print_field, out);
		out_format(out, "\n");
	}
}

static void print_vcpu(struct impost_context *ctx, struct out *out, const struct state_vcpu *v)
{
	if (!out->err)
		out->err = impost_record_print(ctx, state_registers_record, v, out->write,
					       out->opaque);
	print_msrs(out, "msrs", v->msrs, v->nmsrs);
	print_msrs(out, "hypervisor.msrs", v->hypervisor.msrs, v->hypervisor.count);
	print_cpuid(out, v);
}

int impost_state_print(const struct impost_state *state, impost_write_fn write, void *opaque)
{
	struct out out = {.write = write, .opaque = opaque};

	if (!state || !write)
		return -EINVAL;
	for (uint32_t i = 0; i < state->count && !out.err; i++) {
		const struct state_section *s = &state->sections[i];

		out_format(&out, "%s[%s]\n", i ? "\n" : "", s->name);
		if (s->kind == STATE_VCPU)
			print_vcpu(state->ctx, &out, s->decoded);
		else if (s->decoded && !out.err)
			out.err = impost_record_print(state->ctx, record_of(s->kind), s->decoded,
						      write, opaque);
		else if (!out.err)
			out.err =
				impost_cbor_print(state->ctx, NULL, s->data, s->len, write, opaque);
	}
	return out.err;
}

/* --- JSON --- */

static void json_msrs(struct out *out, const struct impost_x86_msr *msrs, uint32_t count)
{
	char name[STATE_MSR_NAME];

	for (uint32_t i = 0; i < count; i++)
		out_format(out, "%s\"%s\": \"0x%" PRIx64 "\"", i ? ", " : "",
			   state_msr_name(msrs[i].index, name), msrs[i].value);
}

struct json_fields {
	struct out *out;
	const char *comma;
};

static void json_field(void *opaque, const char *name, uint32_t value)
{
	struct json_fields *fields = opaque;

	out_format(fields->out, "%s\"%s\": %u", fields->comma, name, value);
	fields->comma = ", ";
}

static void json_cpuid(struct out *out, const struct state_vcpu *v)
{
	for (uint32_t i = 0; i < v->ncpuid; i++) {
		const struct impost_x86_cpuid *e = &v->cpuid[i];
		struct json_fields fields = {.out = out, .comma = ""};

		out_format(
			out,
			"%s{\"leaf\": \"0x%x\", \"subleaf\": \"0x%x\", \"eax\": \"0x%x\", \"ebx\": "
			"\"0x%x\", \"ecx\": \"0x%x\", \"edx\": \"0x%x\", \"fields\": {",
			i ? ", " : "", e->leaf, e->subleaf, e->eax, e->ebx, e->ecx, e->edx);
		each_field(e, json_field, &fields);
		out_format(out, "}}");
	}
}

static void json_vcpu(struct impost_context *ctx, struct out *out, const struct state_vcpu *v)
{
	out_format(out, "{\"registers\": ");
	if (!out->err)
		out->err =
			impost_record_json(ctx, state_registers_record, v, out->write, out->opaque);
	out_format(out, ", \"msrs\": {");
	json_msrs(out, v->msrs, v->nmsrs);
	out_format(out, "}, \"hypervisor_msrs\": {");
	json_msrs(out, v->hypervisor.msrs, v->hypervisor.count);
	out_format(out, "}, \"cpuid\": [");
	json_cpuid(out, v);
	out_format(out, "]}");
}

int impost_state_json(const struct impost_state *state, impost_write_fn write, void *opaque)
{
	struct out out = {.write = write, .opaque = opaque};

	if (!state || !write)
		return -EINVAL;
	out_format(&out, "{");
	for (uint32_t i = 0; i < state->count && !out.err; i++) {
		const struct state_section *s = &state->sections[i];

		out_format(&out, "%s\"%s\": ", i ? ", " : "", s->name);
		if (s->kind == STATE_VCPU)
			json_vcpu(state->ctx, &out, s->decoded);
		else if (s->decoded && !out.err)
			out.err = impost_record_json(state->ctx, record_of(s->kind), s->decoded,
						     write, opaque);
		else if (!out.err)
			out.err =
				impost_cbor_json(state->ctx, NULL, s->data, s->len, write, opaque);
	}
	out_format(&out, "}");
	return out.err;
}
