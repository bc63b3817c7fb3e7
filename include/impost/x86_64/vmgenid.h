/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM generation id: 16 random bytes in guest memory that change when a VM is restored, so that
 * the guest knows that others may have gone on from the same instant and draws new random numbers
 * ("Virtual Machine Generation ID", Microsoft, 2012; kernel, drivers/virt/vmgenid.c).
 *
 * Where the id lies and which interrupt tells of it is in the guest's ACPI tables, as
 * `vmgenid_gpa` and `vmgenid_gsi` of struct impost_x86_acpi_config say; impost_x86_boot() then
 * writes the first id. A host that restores a VM calls impost_x86_vmgenid_renew() before the vCPUs
 * run again; one that moves a VM to another host, where it goes on once, does not.
 */
#ifndef IMPOST_X86_64_VMGENID_H
#define IMPOST_X86_64_VMGENID_H

#include <stdint.h>

#include <impost/version.h>
#include <impost/vm.h>

/* Bytes of an id, and what its address is a multiple of. */
#define IMPOST_X86_VMGENID_BYTES 16u
#define IMPOST_X86_VMGENID_ALIGN 8u

/* Where it lies, and what tells of a new one: as in struct impost_x86_acpi_config. */
struct impost_x86_vmgenid {
	uint32_t size; /* set by the caller to sizeof(struct impost_x86_vmgenid) */
	uint32_t gsi;  /* pulsed when there is a new id; 0: none */
	uint64_t gpa;  /* of the id; 0: there is none, and nothing to renew */
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Writes an id that was never there before (16 bytes of getrandom(2)) to guest memory, which marks
 * it dirty, and raises and lowers the interrupt, which is edge-triggered. Any thread, while VM is
 * held or before its vCPUs run: a guest that reads the id while it is written would see half of it.
 *
 * -EINVAL: VM is NULL, or a bad `size`, or an address that is no multiple of
 * IMPOST_X86_VMGENID_ALIGN; -EFAULT: there is no memory; -ENOTSUP: the backend has no interrupt
 * lines; or what impost_vm_irq_line() and getrandom(2) say. The id is as it was after all errors
 * but those of the interrupt.
 */
IMPOST_API int impost_x86_vmgenid_renew(struct impost_vm *vm,
					const struct impost_x86_vmgenid *vmgenid);

/*
 * Registers where the id lies as device "vmgenid", instance 0 (device.h): it is saved with the VM's
 * state, and loading a state sets VMGENID to what that has. VMGENID is the host's, and stays until
 * the VM is destroyed or the device removed. -EINVAL: as above; else as impost_vm_add_device().
 */
IMPOST_API int impost_x86_vmgenid_add(struct impost_vm *vm, struct impost_x86_vmgenid *vmgenid);

#ifdef __cplusplus
}
#endif

#endif
