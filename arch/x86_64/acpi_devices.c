/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI: judges the host's devices: names, ids, and what they occupy. */
#include "acpi_tables.h"

#include <impost/x86_64/aml.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS	 "0123456789"
#define HEX	 "0123456789ABCDEF"

/* One device is not right, for WHY. */
static int refuse(const struct acpi *acpi, uint32_t number, const char *why)
{
	const struct impost_x86_acpi_device *device = &acpi->devices[number];

	return impost_error_set(acpi->ctx, -EINVAL, "ACPI: device number %u, \"%.4s\": %s", number,
				device->name, why);
}

/* Is NAME one that the DSDT gives to a CPU? */
static int is_cpu_name(const struct acpi *acpi, const char *name)
{
	return name[0] == 'C' && strspn(name + 1, HEX) == 3 &&
	       strtoul(name + 1, NULL, 16) < acpi->config.cpus;
}

static int check_names(const struct acpi *acpi, uint32_t number)
{
	const struct impost_x86_acpi_device *device = &acpi->devices[number];
	static const char nuls[4];

	if (memcmp(device->name + 4, nuls, sizeof(nuls)) != 0 || strlen(device->name) != 4 ||
	    strspn(device->name, CAPITALS DIGITS "_") != 4 || strspn(device->name, DIGITS))
		return refuse(acpi, number,
			      "its name must be four of A-Z, 0-9 and _, no digit first");
	if (is_cpu_name(acpi, device->name))
		return refuse(acpi, number, "that is the name of a CPU");
	if (!device->hid || !*device->hid ||
	    device->hid[strspn(device->hid, CAPITALS DIGITS "abcdefghijklmnopqrstuvwxyz")])
		return refuse(acpi, number, "its hid must be letters and digits");
	if (device->cid && !*device->cid)
		return refuse(acpi, number, "its cid is empty");
	for (const char *c = device->cid; c && *c; c++) {
		if (*c < 0x20 || *c > 0x7e)
			return refuse(acpi, number, "its cid is not printable ASCII");
	}
	if (device->aml_bytes && !device->aml)
		return refuse(acpi, number, "it has AML, but at NULL");
	return 0;
}

/* No two devices may have one name, or one _HID and _UID (6.1.12). */
static int check_doubles(const struct acpi *acpi, uint32_t number)
{
	const struct impost_x86_acpi_device *b = &acpi->devices[number];

	if (strcmp(b->hid, "ACPI0007") == 0 && b->uid < acpi->config.cpus)
		return refuse(acpi, number, "its hid and uid are those of a CPU");
	for (uint32_t i = 0; i < number; i++) {
		const struct impost_x86_acpi_device *a = &acpi->devices[i];

		if (strcmp(a->name, b->name) == 0)
			return impost_error_set(acpi->ctx, -EINVAL,
						"ACPI: devices number %u (%s) and %u (%s) are both "
						"named %s",
						i, a->hid, number, b->hid, b->name);
		if (a->uid == b->uid && strcmp(a->hid, b->hid) == 0)
			return impost_error_set(acpi->ctx, -EINVAL,
						"ACPI: devices %s and %s both have hid %s and uid "
						"%u",
						a->name, b->name, b->hid, b->uid);
	}
	return 0;
}

/* --- resources --- */

static const struct kind {
	const char *name;
	uint64_t max; /* the last number */
	uint32_t flags;
} kinds[] = {
	[IMPOST_X86_ACPI_RESOURCE_IO] = {"ports", UINT16_MAX, 0},
	[IMPOST_X86_ACPI_RESOURCE_MEMORY] = {"memory", UINT64_MAX, 0},
	[IMPOST_X86_ACPI_RESOURCE_IRQ] = {"interrupt", UINT32_MAX,
					  IMPOST_AML_IRQ_EDGE | IMPOST_AML_IRQ_LOW |
						  IMPOST_AML_IRQ_SHARED | IMPOST_AML_IRQ_WAKE},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* Bytes that count; an interrupt is one number. */
static uint64_t length_of(const struct impost_x86_acpi_resource *resource)
{
	return resource->type == IMPOST_X86_ACPI_RESOURCE_IRQ ? 1 : resource->bytes;
}

static int check_resource(const struct acpi *acpi, uint32_t number,
			  const struct impost_x86_acpi_resource *resource)
{
	uint64_t length = length_of(resource);
	const struct kind *kind = &kinds[resource->type < KINDS ? resource->type : 0];

	if (!kind->name)
		return refuse(acpi, number, "a resource's type is unknown");
	if (resource->flags & ~kind->flags)
		return refuse(acpi, number, "a resource's flags are unknown");
	if (resource->type == IMPOST_X86_ACPI_RESOURCE_IRQ && resource->bytes)
		return refuse(acpi, number, "an interrupt has bytes");
	if (resource->base > kind->max || !length || length - 1 > kind->max - resource->base)
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: device %s: %s of 0x%" PRIx64 " bytes at 0x%" PRIx64
					": empty, or it ends above 0x%" PRIx64,
					acpi->devices[number].name, kind->name, length,
					resource->base, kind->max);
	return 0;
}

static int check_resources(const struct acpi *acpi, uint32_t number)
{
	const struct impost_x86_acpi_device *device = &acpi->devices[number];
	int err = 0;

	if (device->nresources > IMPOST_X86_ACPI_RESOURCES_MAX ||
	    (device->nresources && !device->resources))
		return refuse(acpi, number, "its resources are at NULL, or more than can be");
	for (uint32_t i = 0; i < device->nresources && err == 0; i++)
		err = check_resource(acpi, number, &device->resources[i]);
	return err;
}

/* Collects the resources of TYPE. */
static size_t collect(const struct acpi *acpi, uint32_t type, struct acpi_span *spans)
{
	size_t count = 0;

	for (uint32_t i = 0; i < acpi->config.ndevices; i++) {
		for (uint32_t k = 0; k < acpi->devices[i].nresources; k++) {
			const struct impost_x86_acpi_resource *from =
				&acpi->devices[i].resources[k];

			if (from->type == type)
				spans[count++] = (struct acpi_span){
					from->base, from->base + (length_of(from) - 1), i,
					from->flags};
		}
	}
	return count;
}

/* Ports and memory are one device's alone; an interrupt may be shared, by all in one way. */
static int check_conflicts(const struct acpi *acpi, uint32_t type, struct acpi_span *spans)
{
	size_t count = collect(acpi, type, spans);
	const struct acpi_span *bad = acpi_find_overlap(spans, count);

	for (; type == IMPOST_X86_ACPI_RESOURCE_IRQ && bad; bad++) {
		if (bad + 1 == spans + count)
			return 0;
		if (bad[0].start == bad[1].start &&
		    (!(bad[0].flags & IMPOST_AML_IRQ_SHARED) ||
		     (bad[0].flags ^ bad[1].flags) & ~IMPOST_AML_IRQ_WAKE))
			break;
	}
	if (!bad)
		return 0;
	return impost_error_set(acpi->ctx, -EINVAL,
				"ACPI: %s of devices %s (0x%" PRIx64 " to 0x%" PRIx64
				") and %s (0x%" PRIx64 " to 0x%" PRIx64 ") overlap%s",
				kinds[type].name, acpi->devices[bad[0].owner].name, bad[0].start,
				bad[0].last, acpi->devices[bad[1].owner].name, bad[1].start,
				bad[1].last,
				type == IMPOST_X86_ACPI_RESOURCE_IRQ
					? ": all must have it as shared, with one trigger and "
					  "polarity"
					: "");
}

int acpi_check_devices(const struct acpi *acpi)
{
	struct acpi_span *spans;
	size_t count = 0;
	int err = 0;

	for (uint32_t i = 0; i < acpi->config.ndevices && err == 0; i++) {
		err = check_names(acpi, i);
		if (err == 0)
			err = check_doubles(acpi, i);
		if (err == 0)
			err = check_resources(acpi, i);
		count += acpi->devices[i].nresources;
	}
	if (err < 0)
		return err;
	if (acpi->config.aml_bytes && !acpi->config.aml)
		return impost_error_set(acpi->ctx, -EINVAL, "ACPI: AML of %u bytes at NULL",
					acpi->config.aml_bytes);
	spans = calloc(count ? count : 1, sizeof(*spans));
	if (!spans)
		return impost_error_set(acpi->ctx, -ENOMEM,
					"ACPI: no memory to check %zu resources", count);
	for (uint32_t type = 1; type < KINDS && err == 0; type++)
		err = check_conflicts(acpi, type, spans);
	free(spans);
	return err;
}
