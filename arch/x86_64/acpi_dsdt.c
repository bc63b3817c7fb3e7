/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI: the DSDT (5.2.11.1): sleep, the host's devices, the CPUs. */
#include "acpi_tables.h"

#include <impost/x86_64/aml.h>
#include <stdio.h>

#define DSDT_REVISION 2u /* integers have 64 bits (19.3.5) */

/* The package for S5: SLP_TYP of PM1a, or of the sleep control register, and of PM1b (7.4.2). */
static void put_s5(struct impost_aml *aml, const struct impost_x86_acpi_config *config)
{
	if (config->hw_reduced && !config->sleep_control.bits)
		return;
	impost_aml_name(aml, "_S5");
	impost_aml_package(aml);
	impost_aml_integer(aml, config->s5_type);
	impost_aml_integer(aml, config->s5_type);
	impost_aml_integer(aml, 0);
	impost_aml_integer(aml, 0);
	impost_aml_end(aml);
}

/* Ports: the small descriptor counts to 255. */
static void put_io(struct impost_aml *aml, const struct impost_x86_acpi_resource *resource)
{
	const struct impost_aml_window window = {
		.size = sizeof(window),
		.bits = 16,
		.type = IMPOST_AML_WINDOW_IO,
		.flags = IMPOST_AML_IO_ENTIRE,
		.consumer = 1,
		.min = resource->base,
		.max = resource->base + resource->bytes - 1,
	};
	uint16_t port = (uint16_t)resource->base;

	if (resource->bytes <= UINT8_MAX)
		impost_aml_io(aml, port, port, 1, (uint8_t)resource->bytes);
	else
		impost_aml_window(aml, &window);
}

static void put_memory(struct impost_aml *aml, const struct impost_x86_acpi_resource *resource)
{
	const struct impost_aml_window window = {
		.size = sizeof(window),
		.bits = 64,
		.type = IMPOST_AML_WINDOW_MEMORY,
		.flags = IMPOST_AML_MEMORY_WRITABLE,
		.consumer = 1,
		.min = resource->base,
		.max = resource->base + resource->bytes - 1,
	};

	if (window.max <= UINT32_MAX && resource->bytes <= UINT32_MAX)
		impost_aml_memory32(aml, (uint32_t)resource->base, (uint32_t)resource->bytes, 1);
	else
		impost_aml_window(aml, &window);
}

static void put_resource(struct impost_aml *aml, const struct impost_x86_acpi_resource *resource)
{
	uint32_t gsi = (uint32_t)resource->base;

	switch (resource->type) {
	case IMPOST_X86_ACPI_RESOURCE_IO:
		put_io(aml, resource);
		break;
	case IMPOST_X86_ACPI_RESOURCE_MEMORY:
		put_memory(aml, resource);
		break;
	default:
		impost_aml_interrupt(aml, &gsi, 1, resource->flags);
	}
}

static void put_device(struct impost_aml *aml, const struct impost_x86_acpi_device *device)
{
	impost_aml_device(aml, device->name);
	impost_aml_name(aml, "_HID");
	impost_aml_hid(aml, device->hid);
	if (device->cid) {
		impost_aml_name(aml, "_CID");
		impost_aml_hid(aml, device->cid);
	}
	impost_aml_name(aml, "_UID");
	impost_aml_integer(aml, device->uid);
	if (device->nresources) {
		impost_aml_name(aml, "_CRS");
		impost_aml_resources(aml);
		for (uint32_t i = 0; i < device->nresources; i++)
			put_resource(aml, &device->resources[i]);
		impost_aml_end(aml);
	}
	impost_aml_terms(aml, device->aml, device->aml_bytes);
	impost_aml_end(aml);
}

/* A processor device, whose _UID is that of the MADT's entry (8.4). */
static void put_cpu(struct impost_aml *aml, uint32_t cpu)
{
	char name[16];

	snprintf(name, sizeof(name), "C%03X", cpu);
	impost_aml_device(aml, name);
	impost_aml_name(aml, "_HID");
	impost_aml_string(aml, "ACPI0007");
	impost_aml_name(aml, "_UID");
	impost_aml_integer(aml, cpu);
	impost_aml_end(aml);
}

static void put_terms(struct impost_aml *aml, const struct acpi *acpi)
{
	put_s5(aml, &acpi->config);
	impost_aml_scope(aml, "_SB");
	for (uint32_t i = 0; i < acpi->config.ndevices; i++)
		put_device(aml, &acpi->devices[i]);
	acpi_put_vmgenid(aml, &acpi->config);
	for (uint32_t i = 0; i < acpi->config.cpus; i++)
		put_cpu(aml, i);
	impost_aml_end(aml);
	impost_aml_terms(aml, acpi->config.aml, acpi->config.aml_bytes);
}

int acpi_put_dsdt(struct acpi *acpi)
{
	struct impost_aml *aml;
	const void *terms;
	size_t bytes;
	int err;

	err = impost_aml_create(acpi->ctx, NULL, 0, &aml);
	if (err < 0)
		return err;
	put_terms(aml, acpi);
	err = impost_aml_finish(aml, &terms, &bytes);
	if (err == 0) {
		acpi_begin(acpi, "DSDT", DSDT_REVISION);
		acpi_put(acpi, terms, bytes);
		acpi->result.dsdt_gpa = acpi_end(acpi);
	}
	impost_aml_destroy(aml);
	return err;
}
