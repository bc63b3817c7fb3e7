// SPDX-License-Identifier: Apache-2.0
/* impost cpu fields: the names of CPUID's and MSRs' bits. */
#include <inttypes.h>

#include "cpu.h"
#include "json.h"

static const char *const registers[] = {"eax", "ebx", "ecx", "edx"};

static const char *kind_name(uint32_t kind)
{
	static const char *const names[] = {
		[IMPOST_X86_FIELD_FEATURE] = "feature", [IMPOST_X86_FIELD_INVERTED] = "inverted",
		[IMPOST_X86_FIELD_LIMIT] = "limit",	[IMPOST_X86_FIELD_VALUE] = "value",
		[IMPOST_X86_FIELD_MANAGED] = "managed",
	};

	return kind < sizeof(names) / sizeof(names[0]) && names[kind] ? names[kind] : "unknown";
}

/* --- text --- */

static void print_row(const char *place, uint32_t high, uint32_t low, const char *name,
		      uint32_t kind, const char *meaning)
{
	char bits[16];

	snprintf(bits, sizeof(bits), high == low ? "%" PRIu32 : "%" PRIu32 "-%" PRIu32, high, low);
	printf("%-20s %-6s %s%-28s%s %-8s %s\n", place, bits, colour(stdout, COLOUR_BOLD), name,
	       colour(stdout, COLOUR_OFF), kind_name(kind), meaning);
}

static void print_fields(void)
{
	const struct impost_x86_cpuid_field *f;
	const struct impost_x86_msr_field *m;
	char place[32];

	for (uint32_t i = 0; (f = impost_x86_cpuid_field(i)) != NULL; i++) {
		if (f->subleaf == IMPOST_X86_CPUID_EACH)
			snprintf(place, sizeof(place), "0x%" PRIx32 ".*.%s", f->leaf,
				 registers[f->reg]);
		else if (f->flags & IMPOST_X86_CPUID_SUBLEAF)
			snprintf(place, sizeof(place), "0x%" PRIx32 ".%" PRIu32 ".%s", f->leaf,
				 f->subleaf, registers[f->reg]);
		else
			snprintf(place, sizeof(place), "0x%" PRIx32 ".%s", f->leaf,
				 registers[f->reg]);
		print_row(place, f->high, f->low, f->name, f->kind, f->meaning);
	}
	for (uint32_t i = 0; (m = impost_x86_msr_field(i)) != NULL; i++) {
		snprintf(place, sizeof(place), "0x%" PRIx32, m->index);
		print_row(place, m->high, m->low, m->name, m->kind, m->meaning);
	}
}

/* --- JSON --- */

static struct json_object *row(const char *name, uint32_t high, uint32_t low, uint32_t kind,
			       const char *meaning)
{
	struct json_object *object = json_object_new_object();

	json_add_string(object, "name", name);
	json_add_uint(object, "high", high);
	json_add_uint(object, "low", low);
	json_add_string(object, "kind", kind_name(kind));
	json_add_string(object, "meaning", meaning);
	return object;
}

static void print_json(void)
{
	struct json_object *object, *fields = json_object_new_array();
	const struct impost_x86_cpuid_field *f;
	const struct impost_x86_msr_field *m;

	for (uint32_t i = 0; (f = impost_x86_cpuid_field(i)) != NULL; i++) {
		object = row(f->name, f->high, f->low, f->kind, f->meaning);
		json_add_uint(object, "leaf", f->leaf);
		if (f->subleaf != IMPOST_X86_CPUID_EACH && f->flags & IMPOST_X86_CPUID_SUBLEAF)
			json_add_uint(object, "subleaf", f->subleaf);
		json_add_string(object, "register", registers[f->reg]);
		json_add_string(object, "linux", f->linux_flag);
		json_object_array_add(fields, object);
	}
	for (uint32_t i = 0; (m = impost_x86_msr_field(i)) != NULL; i++) {
		object = row(m->name, m->high, m->low, m->kind, m->meaning);
		json_add_uint(object, "msr", m->index);
		json_object_array_add(fields, object);
	}
	json_print("fields", fields);
}

int command_cpu_fields(const struct invocation *invocation)
{
	if (invocation_has(invocation, OPTION_JSON))
		print_json();
	else
		print_fields();
	return finish_output(STATUS_OK);
}
