/* SPDX-License-Identifier: Apache-2.0 */
/* The reference of a state's format, written from the tables that states are made by. */
#include <stdio.h>

#include "record_text.h"
#include "state.h"
#include "text.h"

static const char *const head =
	"<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
	"<!-- Made from core/state_records.c, core/state_order.def and core/state_msrs.def. -->\n"
	"# The format of a state\n\n"
	"A state is what a VM is and holds, but for its memory: sections with names, each one record in CBOR "
	"(RFC 8949, deterministic form), as `record.h` describes them. A snapshot has each as a section of its "
	"file. Numbers are those of the architecture, whatever backend they were taken on.\n\n"
	"| section | is |\n"
	"|---|---|\n"
	"| `machine` | what the VM is |\n"
	"| `vm` | what belongs to no vCPU |\n"
	"| `vcpu.N` | the vCPU with APIC id N |\n"
	"| `device.NAME.INSTANCE` | a device of the host's, in a record of its own |\n"
	"| `host.NAME` | what the host has added: any CBOR item |\n\n"
	"What a backend lacks is an empty array. Fields that are texts end with their contents: no NUL is "
	"encoded.\n\n"
	"## Records\n\n";

static const char *const order_head =
	"## Order\n\n"
	"State is taken and loaded step by step; a step of a vCPU is done for all vCPUs before the next step. "
	"This is the order of loading, with the place that each step has in taking.\n\n"
	"| | step | of | taken | why here | source |\n"
	"|---|---|---|---|---|---|\n";

static void put_order(struct out *out)
{
	const struct state_step *load[STATE_STEPS], *take[STATE_STEPS];
	uint32_t nload = state_order(true, load), ntake = state_order(false, take);

	out_format(out, "%s", order_head);
	for (uint32_t i = 0; i < nload; i++) {
		char place[16] = "";

		for (uint32_t k = 0; k < ntake; k++)
			if (take[k] == load[i])
				snprintf(place, sizeof(place), "%u", k + 1);
		out_format(out, "| %u | `%s` | %s | %s | %s | %s |\n", i + 1, load[i]->name,
			   load[i]->object == STATE_OF_VM ? "VM" : "vCPU", place, load[i]->reason,
			   load[i]->source);
	}
	for (uint32_t k = 0; k < ntake; k++)
		if (!take[k]->load)
			out_format(out, "| | `%s` | %s | %u | %s | %s |\n", take[k]->name,
				   take[k]->object == STATE_OF_VM ? "VM" : "vCPU", k + 1,
				   take[k]->reason, take[k]->source);
}

#define LEAVE	   STATE_MSR_LEAVE
#define FIRST	   STATE_MSR_FIRST
#define LATE	   STATE_MSR_LATE
#define HYPERVISOR STATE_MSR_HYPERVISOR
#define FIXED	   STATE_MSR_FIXED

static const struct row {
	uint32_t first, last, treatment;
	const char *field, *why;
} rows[] = {
#define STATE_MSR(first, last, treatment, idle, mask, field, why) \
	{first, last, treatment, field, why},
#include "state_msrs.def"
};

static const char *const msrs_head =
	"\n## MSRs\n\n"
	"All MSRs that the backend lists and the vCPU has are in a state, but for those below that are in other "
	"fields or are no state. One that is missing where the state is loaded is passed over if the guest has "
	"not used it, or was not given it: its value is 0, or as after reset, or the CPUID field beside it is "
	"clear.\n\n"
	"| MSR | treatment | CPUID field | |\n"
	"|---|---|---|---|\n";

static void put_treatment(struct out *out, uint32_t treatment)
{
	static const struct {
		uint32_t bit;
		const char *text;
	} texts[] = {
		{LEAVE, "not taken"},	      {FIRST, "`first_msrs`"},
		{LATE, "`late_msrs`"},	      {HYPERVISOR, "the backend's own"},
		{FIXED, "compared, not set"},
	};
	const char *comma = "";

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (!(treatment & texts[i].bit))
			continue;
		out_format(out, "%s%s", comma, texts[i].text);
		comma = ", ";
	}
}

static void put_msrs(struct out *out)
{
	out_format(out, "%s", msrs_head);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		out_format(out, "| 0x%x", rows[i].first);
		if (rows[i].last != rows[i].first)
			out_format(out, " to 0x%x", rows[i].last);
		out_format(out, " | ");
		put_treatment(out, rows[i].treatment);
		out_format(out, " | %s | %s |\n", rows[i].field ? rows[i].field : "", rows[i].why);
	}
}

int impost_state_document(impost_write_fn write, void *opaque)
{
	const struct impost_record *const records[] = {state_machine_record, state_vm_record,
						       state_vcpu_record};
	struct out out = {.write = write, .opaque = opaque};

	if (!write)
		return -EINVAL;
	out_format(&out, "%s", head);
	for (size_t i = 0; i < ARRAY_SIZE(records) && !out.err; i++) {
		out.err = impost_record_document(NULL, records[i], write, opaque);
		out_format(&out, "\n");
	}
	put_order(&out);
	put_msrs(&out);
	return out.err;
}
