// SPDX-License-Identifier: Apache-2.0
/* What a cassette is told of the machine that is recorded. */
#include "recording.h"

#include <stdio.h>

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

int recording_note(const struct machine *machine)
{
	const struct impost_cassette *record;
	const void *table;
	void *handle;
	int err = 0;

	if (impost_vm_extension(machine->vm, IMPOST_CASSETTE, &table, &handle) < 0)
		return 0;
	record = table;
	for (const struct recording_key *k = recording_keys; k->key && err == 0; k++) {
		const char *value = impost_context_get(machine->ctx, k->section, k->key);

		err = value ? record->host(handle, k->section, k->key, value) : 0;
	}
	return err < 0 ? err : note_id(machine, record, handle);
}
