/* SPDX-License-Identifier: Apache-2.0 */
/* The devices that a host has registered, to save and load all of them. */
#ifndef CORE_DEVICE_H
#define CORE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

struct impost_vm;

/* Those of a VM, in order of name, then instance. All is guarded by the VM's lock. */
struct devices {
	struct device *first;
	uint32_t in_use; /* saves and loads under way: the list stays as it is */
};

/* Takes all out, at the VM's end. */
void devices_free(struct impost_vm *vm);

/* Saves each device, in order, and gives its record to ADD, which copies it. Ends with the first
 * error of a device or of ADD. */
typedef int (*device_add_fn)(void *opaque, const char *name, uint32_t instance, const void *data,
			     size_t len);
int devices_save(struct impost_vm *vm, device_add_fn add, void *opaque);

/* A record that is to be loaded: the bytes must stay until the load is prepared. */
struct device_record {
	const char *name;
	uint32_t instance;
	const void *data;
	size_t len;
};

/*
 * Loads devices in steps. prepare decodes and checks every record and touches nothing: -EINVAL if
 * not each record has its device and each device one record. apply loads all or none. undo puts
 * back what apply replaced, because what came after it failed with RESULT. end frees, and goes with
 * each prepare that succeeded.
 */
struct devices_load;
int devices_prepare(struct impost_vm *vm, const struct device_record *records, uint32_t count,
		    struct devices_load **ret_load);
int devices_apply(struct devices_load *load);
void devices_undo(struct devices_load *load, int result);
void devices_end(struct devices_load *load);

#endif
