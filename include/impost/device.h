/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's devices, whose state is saved and restored with the VM's. The host describes each
 * device's state (record.h; docs/records.md shows how), and registers the device once it is made.
 * From then on a state of the VM (state.h) has its record.
 *
 * Loading is all or nothing: the records of all devices are decoded and checked before the first is
 * touched, and where one refuses what it is given, those that were loaded before get back what they
 * had.
 *
 * Any thread may make these calls. In a fork they return -IMPOST_EFORKED; in a library that was
 * built without state -ENOTSUP.
 */
#ifndef IMPOST_DEVICE_H
#define IMPOST_DEVICE_H

#include <stdint.h>

#include <impost/record.h>
#include <impost/vm.h>

/* Bytes of a device's name, with its NUL. */
#define IMPOST_DEVICE_NAME_MAX 28u

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Registers the device at RUNTIME as instance number INSTANCE of NAME (letters, digits, '_', '-'),
 * which is copied. RECORD describes it. RECORD and RUNTIME are the host's, and must stay until the
 * device is removed or the VM destroyed. RECORD's steps are called by the thread that saves or
 * loads, while no vCPU runs, and must not register or remove devices.
 *
 * -EINVAL: no such name, RUNTIME is NULL, INSTANCE is UINT32_MAX, or RECORD is one that
 * impost_record_verify() refuses or that cannot be saved and loaded; -EEXIST: there is one of that
 * name and instance; -EBUSY: devices are being saved or loaded; -ENOMEM.
 */
IMPOST_API int impost_vm_add_device(struct impost_vm *vm, const char *name, uint32_t instance,
				    const struct impost_record *record, void *runtime);

/* Takes a device out again. -ENOENT: there is none; -EBUSY: devices are being saved or loaded. */
IMPOST_API int impost_vm_remove_device(struct impost_vm *vm, const char *name, uint32_t instance);

#ifdef __cplusplus
}
#endif

#endif
