/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI: the device of the VM generation id, and the generic event device that tells of a new one
 * ("Virtual Machine Generation ID", Microsoft, 2012; ACPI 6.5, 5.6.9).
 */
#include <inttypes.h>
#include <string.h>

#include "acpi_tables.h"
#include <impost/x86_64/vmgenid.h>

#define DEVICE	     "VGEN"
#define EVENT_DEVICE "VGED"

/* What the specification has for a new id. */
#define NEW_ID 0x80u

/* --- checks --- */

static int check_device(const struct acpi *acpi, const struct impost_x86_acpi_device *device)
{
	uint32_t gsi = acpi->config.vmgenid_gsi;

	if (strcmp(device->name, DEVICE) == 0 || (gsi && strcmp(device->name, EVENT_DEVICE) == 0))
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: device %s (%s) has the name of a device of the VM "
					"generation id",
					device->name, device->hid);
	for (uint32_t i = 0; gsi && i < device->nresources; i++) {
		const struct impost_x86_acpi_resource *resource = &device->resources[i];

		if (resource->type == IMPOST_X86_ACPI_RESOURCE_IRQ && resource->base == gsi)
			return impost_error_set(acpi->ctx, -EINVAL,
						"ACPI: vmgenid_gsi is %u, which device %s has: it "
						"must be of nothing else",
						gsi, device->name);
	}
	return 0;
}

int acpi_check_vmgenid(const struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	int err = 0;

	if (config->reserved3 || (config->vmgenid_gsi && !config->vmgenid_gpa))
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: vmgenid_gsi is %u without vmgenid_gpa, or reserved3 "
					"is not 0",
					config->vmgenid_gsi);
	if (config->vmgenid_gpa % IMPOST_X86_VMGENID_ALIGN)
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: vmgenid_gpa is 0x%" PRIx64
					": a multiple of %u is needed",
					config->vmgenid_gpa, IMPOST_X86_VMGENID_ALIGN);
	if (config->vmgenid_gsi && !config->hw_reduced && config->vmgenid_gsi == acpi_sci(config))
		return impost_error_set(acpi->ctx, -EINVAL, "ACPI: vmgenid_gsi and sci are both %u",
					config->vmgenid_gsi);
	for (uint32_t i = 0; config->vmgenid_gpa && i < config->ndevices && err == 0; i++)
		err = check_device(acpi, &acpi->devices[i]);
	return err;
}

/* --- devices --- */

/*
 * The specification wants the compatible id VM_Gen_Counter, and ADDR to be a package of the lower
 * and the upper half of the address. VMGENCTR is the same device's name in fewer characters, which
 * newer guests look for (kernel, drivers/virt/vmgenid.c).
 */
static void put_id(struct impost_aml *aml, uint64_t gpa)
{
	impost_aml_device(aml, DEVICE);
	impost_aml_name(aml, "_HID");
	impost_aml_hid(aml, "IMPO0001");
	impost_aml_name(aml, "_CID");
	impost_aml_package(aml);
	impost_aml_string(aml, "VM_Gen_Counter");
	impost_aml_string(aml, "VMGENCTR");
	impost_aml_end(aml);
	impost_aml_name(aml, "_DDN");
	impost_aml_string(aml, "VM_Gen_Counter");
	impost_aml_name(aml, "ADDR");
	impost_aml_package(aml);
	impost_aml_integer(aml, (uint32_t)gpa);
	impost_aml_integer(aml, gpa >> 32);
	impost_aml_end(aml);
	impost_aml_end(aml);
}

/* Its _UID is a text, so that it is never that of another event device. */
static void put_event(struct impost_aml *aml, uint32_t gsi)
{
	impost_aml_device(aml, EVENT_DEVICE);
	impost_aml_name(aml, "_HID");
	impost_aml_hid(aml, "ACPI0013");
	impost_aml_name(aml, "_UID");
	impost_aml_string(aml, DEVICE);
	impost_aml_name(aml, "_CRS");
	impost_aml_resources(aml);
	impost_aml_interrupt(aml, &gsi, 1, IMPOST_AML_IRQ_EDGE);
	impost_aml_end(aml);
	/* Its argument is the GSI, and there is but one. */
	impost_aml_method(aml, "_EVT", 1, 1);
	impost_aml_op(aml, IMPOST_AML_NOTIFY);
	impost_aml_ref(aml, "\\_SB." DEVICE);
	impost_aml_integer(aml, NEW_ID);
	impost_aml_end(aml);
	impost_aml_end(aml);
}

void acpi_put_vmgenid(struct impost_aml *aml, const struct impost_x86_acpi_config *config)
{
	if (config->vmgenid_gpa)
		put_id(aml, config->vmgenid_gpa);
	if (config->vmgenid_gsi)
		put_event(aml, config->vmgenid_gsi);
}
