/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device with a description, without (NOT_DESCRIBED), and with one that a library without state
 * makes nothing of (IMPOST_NO_STATE): free.py compares the objects.
 */
#include <pthread.h>

#include <impost/device.h>
#include <impost/record.h>

struct device {
	pthread_mutex_t lock;
	uint32_t value;
};

uint32_t device_value(const struct device *device);
uint32_t device_value(const struct device *device)
{
	return device->value;
}

#ifndef NOT_DESCRIBED
struct saved {
	uint32_t value;
	uint16_t parts[4];
	struct part {
		uint8_t one;
	} part;
};

IMPOST_FIELDS(part_fields, IMPOST_FIELD_UINT(struct part, one, 1, 0, "One part"), )
IMPOST_RECORD(part_record, "part", struct part, 1, 1, 1, part_fields, "A part")

IMPOST_FIELDS(saved_fields, IMPOST_FIELD_HEX_UINT(struct saved, value, 1, 0, "A value", .max = 9),
	      IMPOST_FIELD_ARRAY(struct saved, parts, UINT, 1, "Parts"),
	      IMPOST_FIELD_RECORD(struct saved, part, 1, &part_record, "A part"), )

static int to_saved(const void *runtime, void *saved)
{
	((struct saved *)saved)->value = ((const struct device *)runtime)->value;
	return 0;
}

static int from_saved(const void *saved, void *runtime)
{
	((struct device *)runtime)->value = ((const struct saved *)saved)->value;
	return 0;
}

IMPOST_RECORD(saved_record, "device", struct saved, 1, 1, 1, saved_fields, "A device",
	      IMPOST_LOCK(struct device, lock), .to_saved = to_saved, .from_saved = from_saved)

#ifndef IMPOST_NO_STATE
/* Who registers it; with IMPOST_NO_STATE a host leaves it out, or calls and is told -ENOTSUP. */
int device_register(struct impost_vm *vm, struct device *device);
int device_register(struct impost_vm *vm, struct device *device)
{
	return impost_vm_add_device(vm, "device", 0, &saved_record, device);
}
#endif
#endif
