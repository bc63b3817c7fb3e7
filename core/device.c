/* SPDX-License-Identifier: Apache-2.0 */
/* The devices that a host has registered: kept in order, saved and loaded together. */
#include <impost/device.h>

#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "record.h"
#include "vm.h"

struct device {
	struct device *next;
	char name[IMPOST_DEVICE_NAME_MAX];
	uint32_t instance;
	const struct impost_record *record;
	void *runtime;
};

/* --- the list --- */

/* Where the device is, or would be inserted: *ret_found tells which. Under the lock. */
static struct device **find(struct impost_vm *vm, const char *name, uint32_t instance,
			    bool *ret_found)
{
	struct device **at = &vm->devices.first;
	int order = 1;

	for (; *at; at = &(*at)->next) {
		order = strcmp((*at)->name, name);
		if (order == 0 && (*at)->instance != instance)
			order = (*at)->instance < instance ? -1 : 1;
		if (order >= 0)
			break;
	}
	*ret_found = *at && order == 0;
	return at;
}

static int check_name(struct impost_vm *vm, const char *name, uint32_t instance)
{
	size_t len = name ? strlen(name) : 0;

	if (!len || len >= IMPOST_DEVICE_NAME_MAX ||
	    name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			      "0123456789_-")])
		return impost_error_set(vm->ctx, -EINVAL,
					"device \"%.64s\": a name is 1 to %u letters, digits, '_' "
					"and '-'",
					name ? name : "(NULL)", IMPOST_DEVICE_NAME_MAX - 1);
	if (instance == UINT32_MAX)
		return impost_error_set(vm->ctx, -EINVAL, "device %s: there is no instance %u",
					name, instance);
	return 0;
}

static int check_record(struct impost_vm *vm, const char *name, const struct impost_record *record,
			const void *runtime)
{
	int err = impost_record_verify(vm->ctx, record);
	const char *bad = err ? NULL : record_bad_runtime(record);

	if (!err && !runtime)
		bad = "its runtime form is NULL";
	return bad ? impost_error_set(vm->ctx, -EINVAL, "device %s: record %s: %s", name,
				      record->name, bad)
		   : err;
}

static int in_use(struct impost_vm *vm, const char *name)
{
	return impost_error_set(vm->ctx, -EBUSY,
				"device %s: the VM's devices are being saved or loaded", name);
}

/* Under the lock. */
static int insert(struct impost_vm *vm, struct device *device)
{
	struct device **at;
	bool found;

	if (vm->devices.in_use)
		return in_use(vm, device->name);
	at = find(vm, device->name, device->instance, &found);
	if (found)
		return impost_error_set(vm->ctx, -EEXIST, "device %s.%u is registered already",
					device->name, device->instance);
	device->next = *at;
	*at = device;
	return 0;
}

int impost_vm_add_device(struct impost_vm *vm, const char *name, uint32_t instance,
			 const struct impost_record *record, void *runtime)
{
	struct device *device;
	int err = vm_check(vm);

	if (!err)
		err = check_name(vm, name, instance);
	if (!err)
		err = check_record(vm, name, record, runtime);
	if (err)
		return err;
	device = calloc(1, sizeof(*device));
	if (!device)
		return impost_error_set(vm->ctx, -ENOMEM, "no memory for a device");
	memcpy(device->name, name, strlen(name));
	device->instance = instance;
	device->record = record;
	device->runtime = runtime;
	pthread_mutex_lock(&vm->lock);
	err = insert(vm, device);
	pthread_mutex_unlock(&vm->lock);
	if (err)
		free(device);
	return err;
}

int impost_vm_remove_device(struct impost_vm *vm, const char *name, uint32_t instance)
{
	struct device **at, *device = NULL;
	int err = vm_check(vm);
	bool found;

	if (!err)
		err = check_name(vm, name, instance);
	if (err)
		return err;
	pthread_mutex_lock(&vm->lock);
	at = find(vm, name, instance, &found);
	if (found && !vm->devices.in_use) {
		device = *at;
		*at = device->next;
	}
	pthread_mutex_unlock(&vm->lock);
	free(device);
	if (!found)
		return impost_error_set(vm->ctx, -ENOENT, "device %s.%u is not registered", name,
					instance);
	return device ? 0 : in_use(vm, name);
}

void devices_free(struct impost_vm *vm)
{
	struct device *device = vm->devices.first, *next;

	for (; device; device = next) {
		next = device->next;
		free(device);
	}
	vm->devices.first = NULL;
}

/* While any use is under way the list does not change, and is read without the lock: the steps of
 * devices may be long. */
static void use(struct impost_vm *vm, int by)
{
	pthread_mutex_lock(&vm->lock);
	vm->devices.in_use += (uint32_t)by;
	pthread_mutex_unlock(&vm->lock);
}

/* ERR, with a text that says which device it was of: others may have the same record. */
static int name_device(struct impost_vm *vm, const struct device *device, int err)
{
	return impost_error_set(vm->ctx, err, "device %s.%u: %s", device->name, device->instance,
				impost_error(vm->ctx));
}

/* --- saving --- */

int devices_save(struct impost_vm *vm, device_add_fn add, void *opaque)
{
	const struct device *device;
	int err = 0;

	use(vm, 1);
	for (device = vm->devices.first; device && !err; device = device->next) {
		void *data;
		size_t len;

		err = impost_record_save_new(vm->ctx, device->record, device->runtime, &data, &len);
		if (err) {
			err = name_device(vm, device, err);
			break;
		}
		err = add(opaque, device->name, device->instance, data, len);
		free(data);
	}
	use(vm, -1);
	return err;
}

/* --- loading --- */

struct devices_load {
	struct impost_vm *vm;
	uint32_t count;
	struct device_load {
		const struct device *device;
		struct record_load load;
	} loads[];
};

/* The record of DEVICE, which must be there once; NULL, with a text, if it is not. */
static const struct device_record *match(struct impost_vm *vm, const struct device *device,
					 const struct device_record *records, uint32_t count)
{
	const struct device_record *found = NULL;
	uint32_t times = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (records[i].instance != device->instance ||
		    strcmp(records[i].name, device->name) != 0)
			continue;
		found = &records[i];
		times++;
	}
	if (times == 1)
		return found;
	impost_error_set(vm->ctx, -EINVAL, "the state has %s device %s.%u",
			 times ? "twice or more" : "no", device->name, device->instance);
	return NULL;
}

/* Every record has its device. */
static int check_records(struct impost_vm *vm, const struct device_record *records, uint32_t count)
{
	bool found = true;
	uint32_t i;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < count && found; i++)
		find(vm, records[i].name, records[i].instance, &found);
	pthread_mutex_unlock(&vm->lock);
	return found ? 0
		     : impost_error_set(vm->ctx, -EINVAL,
					"the state has device %.64s.%u, which is not registered "
					"with the VM",
					records[i - 1].name, records[i - 1].instance);
}

static int prepare(struct devices_load *load, const struct device_record *records, uint32_t count)
{
	struct impost_vm *vm = load->vm;
	const struct device_record *record;
	int err = check_records(vm, records, count);

	for (struct device *device = vm->devices.first; device && !err; device = device->next) {
		record = match(vm, device, records, count);
		if (!record)
			return -EINVAL;
		err = record_load_prepare(vm->ctx, device->record, device->runtime, record->data,
					  record->len, &load->loads[load->count].load);
		if (err)
			return name_device(vm, device, err);
		load->loads[load->count++].device = device;
	}
	return err;
}

int devices_prepare(struct impost_vm *vm, const struct device_record *records, uint32_t count,
		    struct devices_load **ret_load)
{
	struct devices_load *load;
	uint32_t ndevices = 0;
	int err;

	use(vm, 1);
	for (const struct device *device = vm->devices.first; device; device = device->next)
		ndevices++;
	load = calloc(1, sizeof(*load) + ndevices * sizeof(load->loads[0]));
	if (!load) {
		use(vm, -1);
		return impost_error_set(vm->ctx, -ENOMEM, "no memory to load devices");
	}
	load->vm = vm;
	err = prepare(load, records, count);
	if (err)
		devices_end(load);
	else
		*ret_load = load;
	return err;
}

int devices_apply(struct devices_load *load)
{
	int err;

	for (uint32_t i = 0; i < load->count; i++) {
		err = record_load_apply(&load->loads[i].load);
		if (err) {
			err = name_device(load->vm, load->loads[i].device, err);
			devices_undo(load, err);
			return err;
		}
	}
	return 0;
}

void devices_undo(struct devices_load *load, int result)
{
	/* The other way round: what depends on another was loaded after it. */
	for (uint32_t i = load->count; i-- > 0;)
		record_load_undo(&load->loads[i].load, result);
}

void devices_end(struct devices_load *load)
{
	if (!load)
		return;
	for (uint32_t i = 0; i < load->count; i++)
		record_load_end(&load->loads[i].load);
	use(load->vm, -1);
	free(load);
}
