// SPDX-License-Identifier: Apache-2.0
/* What a cassette is told of the machine that is recorded. */
#include "recording.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/cassette.h>

/*
 * Nothing that names a file to be written to, and nothing that is this host's: a cassette may come
 * from anywhere.
 */
const struct recording_key recording_keys[] = {
	{"vm", "cpus", false},
	{"vm", "memory", false},
	{"cpu", "topology", false},
	{"memory", "backing", false},
	{"cpu", "brand", false},
	{"cpu", "template", true},
	{"boot", "kernel", true},
	{"boot", "initrd", true},
	{"boot", "cmdline", false},
	{"boot", "protocol", false},
	{"boot", "mode", false},
	{"boot", "address", false},
	{0},
};

static int note_id(const struct machine *machine, const struct impost_cassette *record,
		   void *handle)
{
	uint8_t id[IMPOST_X86_VMGENID_BYTES];
	char text[2 * sizeof(id) + 1];
	int err = impost_memory_read(impost_vm_memory(machine->vm), machine->vmgenid.gpa, id,
				     sizeof(id));

	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	return err < 0 ? err : record->host(handle, RECORDING_BOOT, RECORDING_ID, text);
}

/* The brand string's leaves (SDM vol. 2, CPUID). */
#define BRAND_FIRST 0x80000002u
#define BRAND_LEAFS 3u
#define BRAND_BYTES 48u

/* The leaf of what the backend can give, or of this CPU. */
static struct impost_x86_cpuid brand_leaf(const struct impost_x86_cpuid *entries, uint32_t count,
					  uint32_t leaf, bool here)
{
	struct impost_x86_cpuid e = {.leaf = leaf};

	for (uint32_t i = 0; !here && i < count; i++)
		if (entries[i].leaf == leaf)
			return entries[i];
	if (here)
		__get_cpuid(leaf, &e.eax, &e.ebx, &e.ecx, &e.edx);
	return e;
}

/* The brand string that a guest is given where nothing is configured. "": there is none. */
static int find_brand(const struct machine *machine, char text[BRAND_BYTES + 1])
{
	uint32_t count = impost_vm_caps(machine->vm)->max_cpuid;
	struct impost_x86_cpuid *entries = calloc((size_t)count + 1, sizeof(*entries));
	int err = entries ? impost_vm_cpuid_supported(machine->vm, entries, count, &count)
			  : impost_error_set(machine->ctx, -ENOMEM, "no memory");

	for (int here = 0; err >= 0 && here < 2 && text[strspn(text, " ")] == '\0'; here++)
		for (uint32_t i = 0; i < BRAND_LEAFS; i++) {
			struct impost_x86_cpuid e =
				brand_leaf(entries, count, BRAND_FIRST + i, here);
			const uint32_t regs[] = {e.eax, e.ebx, e.ecx, e.edx};

			memcpy(text + i * sizeof(regs), regs, sizeof(regs));
		}
	text[BRAND_BYTES - 1] = '\0';
	free(entries);
	return err;
}

static bool is_recorded(const struct machine *machine, const struct impost_cassette **ret_record,
			void **ret_handle)
{
	const void *table;

	if (impost_vm_extension(machine->vm, IMPOST_CASSETTE, &table, ret_handle) < 0)
		return false;
	*ret_record = table;
	return true;
}

int recording_prepare(const struct machine *machine)
{
	const struct impost_cassette *record;
	char text[BRAND_BYTES + 1] = "";
	void *handle;
	int err;

	if (!is_recorded(machine, &record, &handle) ||
	    impost_context_get(machine->ctx, "cpu", "brand"))
		return 0;
	err = find_brand(machine, text);
	return err < 0 || !*text ? err : impost_context_set(machine->ctx, "cpu", "brand", text);
}

int recording_note(const struct machine *machine)
{
	const struct impost_cassette *record;
	void *handle;
	int err = 0;

	if (!is_recorded(machine, &record, &handle))
		return 0;
	for (const struct recording_key *k = recording_keys; k->key && err == 0; k++) {
		const char *value = impost_context_get(machine->ctx, k->section, k->key);

		err = value ? record->host(handle, k->section, k->key, value) : 0;
	}
	return err < 0 ? err : note_id(machine, record, handle);
}
