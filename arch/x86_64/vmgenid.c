/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation id: a new one, the interrupt that tells of it, and its place in a VM's state.
 */
#include <errno.h>
#include <impost/backend.h>
#include <impost/device.h>
#include <impost/memory.h>
#include <impost/x86_64/vmgenid.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "structure.h"
#include "vmgenid_id.h"

/* What the first release knew of the struct. */
#define LEAST (offsetof(struct impost_x86_vmgenid, gpa) + sizeof(uint64_t))

int vmgenid_write(struct impost_memory *memory, uint64_t gpa)
{
	uint8_t id[IMPOST_X86_VMGENID_BYTES];
	ssize_t got;

	/* Up to 256 bytes come whole, but for a signal before the pool is ready (getrandom(2)). */
	do
		got = getrandom(id, sizeof(id), 0);
	while (got < 0 && errno == EINTR);
	if (got != (ssize_t)sizeof(id))
		return impost_error_set(impost_memory_context(memory), got < 0 ? -errno : -EIO,
					"VM generation id: no random bytes: %s",
					strerror(got < 0 ? errno : EIO));
	return impost_memory_write(memory, gpa, id, sizeof(id));
}

/* An edge. */
static int pulse(struct impost_vm *vm, uint32_t gsi)
{
	int err = impost_vm_irq_line(vm, gsi, 1);

	return err < 0 ? err : impost_vm_irq_line(vm, gsi, 0);
}

int impost_x86_vmgenid_renew(struct impost_vm *vm, const struct impost_x86_vmgenid *vmgenid)
{
	struct impost_x86_vmgenid where;
	struct impost_context *ctx;
	int err;

	if (!vm)
		return -EINVAL;
	ctx = impost_vm_context(vm);
	err = structure_take(ctx, "impost_x86_vmgenid", &where, sizeof(where), vmgenid, LEAST);
	if (err < 0 || !where.gpa)
		return err;
	if (where.gpa % IMPOST_X86_VMGENID_ALIGN)
		return impost_error_set(ctx, -EINVAL,
					"VM generation id at 0x%" PRIx64 ": a multiple of %u is "
					"needed",
					where.gpa, IMPOST_X86_VMGENID_ALIGN);
	err = vmgenid_write(impost_vm_memory(vm), where.gpa);
	return err < 0 || !where.gsi ? err : pulse(vm, where.gsi);
}

/* --- its record --- */

struct saved {
	uint64_t gpa;
	uint32_t gsi;
};

#ifndef IMPOST_NO_STATE
static int to_saved(const void *runtime, void *saved)
{
	const struct impost_x86_vmgenid *vmgenid = runtime;

	*(struct saved *)saved = (struct saved){.gpa = vmgenid->gpa, .gsi = vmgenid->gsi};
	return 0;
}

static int from_saved(const void *saved, void *runtime)
{
	const struct saved *from = saved;
	struct impost_x86_vmgenid *vmgenid = runtime;

	vmgenid->gpa = from->gpa;
	vmgenid->gsi = from->gsi;
	return 0;
}

static int check_saved(const void *saved, char *text, size_t room)
{
	const struct saved *from = saved;

	if (from->gpa % IMPOST_X86_VMGENID_ALIGN == 0)
		return 0;
	snprintf(text, room, "gpa 0x%" PRIx64 " is no multiple of %u", from->gpa,
		 IMPOST_X86_VMGENID_ALIGN);
	return -EINVAL;
}
#endif

IMPOST_FIELDS(fields,
	      IMPOST_FIELD_HEX_UINT(struct saved, gpa, 1, 0, "Where the 16 bytes lie; 0: nowhere"),
	      IMPOST_FIELD_UINT(struct saved, gsi, 1, 0,
				"The interrupt that tells of a new one; 0: none"))
IMPOST_RECORD(record, "vmgenid", struct saved, 1, 1, 1, fields, "The VM generation id",
	      .to_saved = to_saved, .from_saved = from_saved, .check = check_saved)

int impost_x86_vmgenid_add(struct impost_vm *vm, struct impost_x86_vmgenid *vmgenid)
{
	int err;

	if (!vm)
		return -EINVAL;
	err = structure_check_size(impost_vm_context(vm), "impost_x86_vmgenid", vmgenid, LEAST);
	return err < 0 ? err : impost_vm_add_device(vm, "vmgenid", 0, &record, vmgenid);
}
