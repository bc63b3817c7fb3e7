/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation id: a new one, and the interrupt that tells of it. */
#include <errno.h>
#include <impost/backend.h>
#include <impost/memory.h>
#include <impost/x86_64/vmgenid.h>
#include <inttypes.h>
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
