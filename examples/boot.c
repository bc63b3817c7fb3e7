// SPDX-License-Identifier: Apache-2.0
/*
 * The set-up of a machine with a device of its own: vCPUs by the INI's topology, a CPU template, an
 * ACPI device with a method, a table of the host's, and the device's window kept free. Prints where
 * everything went, and does not run the guest: hello.c does.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

/* A doorbell: a page of registers in the hole below 4 GiB, and an interrupt. */
#define DOORBELL_ADDR  UINT64_C(0xd0000000)
#define DOORBELL_BYTES UINT64_C(0x1000)
#define DOORBELL_IRQ   5u

static const struct impost_x86_acpi_resource resources[] = {
	{.type = IMPOST_X86_ACPI_RESOURCE_MEMORY, .base = DOORBELL_ADDR, .bytes = DOORBELL_BYTES},
	{.type = IMPOST_X86_ACPI_RESOURCE_IRQ, .flags = IMPOST_AML_IRQ_EDGE, .base = DOORBELL_IRQ},
};

/* What stands in the device besides names and resources: Method (_STA) { Return (0x0F) }. */
static int encode_status(struct impost_context *ctx, void *buf, size_t capacity, size_t *ret_bytes)
{
	struct impost_aml *aml = NULL;
	const void *data;
	int err = impost_aml_create(ctx, buf, capacity, &aml);

	if (err < 0)
		return err;
	impost_aml_method(aml, "_STA", 0, 0);
	impost_aml_op(aml, IMPOST_AML_RETURN);
	impost_aml_integer(aml, 0x0f);
	impost_aml_end(aml);
	err = impost_aml_finish(aml, &data, ret_bytes); /* the first error of all of these */
	impost_aml_destroy(aml);
	return err;
}

/* A table of ours, which a driver reads at /sys/firmware/acpi/tables/OEM1. */
static const struct {
	char signature[4];
	uint32_t bytes;
	uint8_t revision, checksum; /* the library computes the checksum */
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision, creator_id, creator_revision;
	char text[16];
} __attribute__((packed)) table = {
	.signature = {'O', 'E', 'M', '1'},
	.bytes = sizeof(table),
	.revision = 1,
	.oem_id = {'E', 'X', 'A', 'M', 'P', 'L'},
	.oem_table_id = {'D', 'O', 'O', 'R', 'B', 'E', 'L', 'L'},
	.text = "ring once",
};

static int boot(struct impost_vm *vm, struct impost_vcpu **vcpus, uint32_t count, int kernel_fd)
{
	struct impost_context *ctx = impost_vm_context(vm);
	const struct impost_x86_acpi_table tables[] = {{.data = &table, .bytes = sizeof(table)}};
	struct impost_x86_acpi_device device = {.size = sizeof(device),
						.uid = 0,
						.name = "DBEL",
						.hid = "IMPO0001",
						.resources = resources,
						.nresources = 2};
	struct impost_x86_acpi_config acpi = {.size = sizeof(acpi),
					      .hw_reduced = 1,
					      .devices = &device,
					      .ndevices = 1,
					      .tables = tables,
					      .ntables = 1};
	struct impost_x86_boot_result result = {.size = sizeof(result)};
	struct impost_x86_boot_config config;
	struct impost_x86_layout layout;
	uint8_t aml[64];
	size_t aml_bytes = 0;
	int err;

	impost_x86_layout_init(&layout);
	err = impost_x86_layout_claim(ctx, &layout, "doorbell", DOORBELL_ADDR, DOORBELL_BYTES,
				      IMPOST_X86_E820_RESERVED);
	if (err == 0)
		err = encode_status(ctx, aml, sizeof(aml), &aml_bytes);
	device.aml = aml;
	device.aml_bytes = (uint32_t)aml_bytes;
	impost_x86_boot_config_init(ctx, &config); /* [boot], and the template of [cpu] */
	config.kernel_fd = kernel_fd;
	config.acpi = &acpi;
	config.layout = &layout;
	if (err == 0)
		err = impost_x86_add_ram(impost_vm_memory(vm), impost_vm_config(vm)->memory);
	if (err == 0)
		err = impost_x86_boot(vm, vcpus, count, &config, &result);
	if (err < 0)
		return err;
	printf("%s, entered at %#" PRIx64 " in %s mode\n",
	       impost_x86_protocol_name(result.protocol), result.entry,
	       impost_x86_mode_name(result.mode));
	for (uint32_t i = 0; i < layout.count; i++)
		printf("%#11" PRIx64 " %#10" PRIx64 " %s\n", layout.place[i].gpa,
		       layout.place[i].bytes, layout.place[i].what);
	return 0;
}

/* Makes the vCPUs of the topology: their ids are its APIC ids. */
static int create_vcpus(struct impost_vm *vm, struct impost_vcpu **vcpus, uint32_t count)
{
	struct impost_x86_topology topology;
	int err = impost_x86_boot_topology(impost_vm_context(vm), count, &topology);

	for (uint32_t i = 0; err == 0 && i < count; i++)
		err = impost_vcpu_create(vm, impost_x86_apic_id(&topology, i), &vcpus[i]);
	for (uint32_t i = 0; err == 0 && i < count; i++)
		printf("CPU %u: APIC id %u\n", i, impost_vcpu_id(vcpus[i]));
	return err;
}

static int set_up(struct impost_vm *vm)
{
	struct impost_context *ctx = impost_vm_context(vm);
	const char *kernel = impost_context_get(ctx, "boot", "kernel");
	uint32_t count = impost_vm_config(vm)->cpus;
	struct impost_vcpu **vcpus = calloc(count, sizeof(struct impost_vcpu *));
	int fd = kernel ? open(kernel, O_RDONLY | O_CLOEXEC) : -1;
	int err = 0;

	if (!vcpus)
		err = impost_error_set(ctx, -ENOMEM, "no memory for %u vCPUs", count);
	else if (fd < 0)
		err = impost_error_set(ctx, -ENOENT, "[boot] kernel of the INI cannot be opened");
	if (err == 0)
		err = create_vcpus(vm, vcpus, count);
	if (err == 0)
		err = boot(vm, vcpus, count, fd);
	for (uint32_t i = 0; vcpus && i < count; i++)
		impost_vcpu_destroy(vcpus[i]);
	free(vcpus);
	if (fd >= 0)
		close(fd);
	return err;
}

int main(int argc, char **argv)
{
	struct impost_context *ctx = NULL;
	struct impost_vm *vm = NULL;
	int err = impost_context_open(NULL, NULL, &ctx);

	if (err == 0)
		err = impost_context_load_file(ctx, argc > 1 ? argv[1] : "examples/impost.ini");
	if (err == 0)
		err = impost_vm_create(ctx, NULL, &vm);
	if (err == 0)
		err = set_up(vm);
	if (err < 0)
		fprintf(stderr, "boot: %s\n", ctx ? impost_error(ctx) : impost_error_name(err));
	impost_vm_destroy(vm);
	impost_context_close(ctx);
	return err < 0;
}
