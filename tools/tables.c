// SPDX-License-Identifier: Apache-2.0
/* What the guest's ACPI tables tell of this machine: its serial port, how it is switched off, and
 * where its generation id lies.
 */
#include "tables.h"

#include "ports.h"

/*
 * The serial port. Its line needs an I/O APIC, which this machine has where the hypervisor has one;
 * without a line the driver polls.
 */
static const struct impost_x86_acpi_resource com1_resources[] = {
	{.type = IMPOST_X86_ACPI_RESOURCE_IO, .base = PORTS_SERIAL, .bytes = 8},
	{.type = IMPOST_X86_ACPI_RESOURCE_IRQ,
	 .flags = IMPOST_AML_IRQ_EDGE,
	 .base = PORTS_SERIAL_IRQ},
};

static const struct impost_x86_acpi_device com1[] = {
	{
		.size = sizeof(com1[0]),
		.uid = 1,
		.name = "COM1",
		.hid = "PNP0501",
		.resources = com1_resources,
		.nresources = 2,
	},
};

static const struct impost_x86_acpi_device com1_polled[] = {
	{
		.size = sizeof(com1_polled[0]),
		.uid = 1,
		.name = "COM1",
		.hid = "PNP0501",
		.resources = com1_resources,
		.nresources = 1,
	},
};

static struct impost_x86_acpi_gas port(uint16_t number)
{
	return (struct impost_x86_acpi_gas){
		.space = IMPOST_X86_ACPI_IO, .bits = 8, .access = 1, .address = number};
}

/*
 * Hardware-reduced: there is nothing to emulate but two registers, and Linux, which then looks for
 * no PIT, SCI, PM timer or ISA device, boots with fewer exits and no complaint.
 */
void tables_describe(const struct impost_vm *vm, struct impost_x86_acpi_config *ret_acpi)
{
	int has_line = impost_vm_irqchip(vm) == IMPOST_IRQCHIP_FULL;

	*ret_acpi = (struct impost_x86_acpi_config){
		.size = sizeof(*ret_acpi),
		.hw_reduced = 1,
		.boot_arch = IMPOST_X86_ACPI_LEGACY_DEVICES | IMPOST_X86_ACPI_NO_VGA |
			     IMPOST_X86_ACPI_NO_CMOS_RTC,
		.options = IMPOST_X86_ACPI_HEADLESS,
		.reset = port(PORTS_RESET_CONTROL),
		.reset_value = PORTS_RESET_VALUE,
		.sleep_control = port(PORTS_SLEEP_CONTROL),
		.sleep_status = port(PORTS_SLEEP_STATUS),
		.s5_type = PORTS_SLEEP_TYPE_S5,
		.vmgenid_gpa = IMPOST_X86_VMGENID_ADDR,
		.vmgenid_gsi = has_line ? PORTS_VMGENID_IRQ : 0,
		.devices = has_line ? com1 : com1_polled,
		.ndevices = 1,
	};
}
