/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zero page: what a boot loader tells Linux (kernel, zero-page.rst; boot.rst for each field).
 */
#include "boot_info.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <string.h>

#define LOADER_UNDEFINED 0xffu	 /* type_of_loader: no id assigned */
#define VIDEO_NORMAL	 0xffffu /* vid_mode: "normal" */
#define RSDP_SINCE	 0x020eu /* acpi_rsdp_addr; before, its place was unused */

static_assert(sizeof(struct boot_params) == BOOT_INFO_BLOCK_MAX, "the zero page is a page");
static_assert(E820_MAX_ENTRIES_ZEROPAGE == IMPOST_X86_E820_MAX, "zero-page.rst");
static_assert(offsetof(struct boot_params, hdr) + IMPOST_X86_SETUP_HEADER_MAX <=
		      offsetof(struct boot_params, edd_mbr_sig_buffer),
	      "every header fits");

/* Fills the fields that boot.rst makes obligatory for the loader. */
static void fill_header(struct boot_params *params, const struct impost_x86_kernel *kernel)
{
	memcpy(&params->hdr, kernel->setup_header, kernel->setup_header_bytes);
	params->hdr.type_of_loader = LOADER_UNDEFINED;
	params->hdr.vid_mode = VIDEO_NORMAL;
	params->hdr.cmd_line_ptr = (uint32_t)IMPOST_X86_CMDLINE_ADDR;
	/* The other flags are the loader's to set: no heap, segments as the kernel wants them. */
	params->hdr.loadflags &= LOADED_HIGH;
	params->hdr.setup_data = 0;
	params->hdr.ramdisk_image = 0;
	params->hdr.ramdisk_size = 0;
}

static void fill_initrd(struct boot_params *params, const struct impost_x86_initrd *initrd)
{
	params->hdr.ramdisk_image = (uint32_t)initrd->gpa;
	params->ext_ramdisk_image = (uint32_t)(initrd->gpa >> 32);
	params->hdr.ramdisk_size = (uint32_t)initrd->bytes;
	params->ext_ramdisk_size = (uint32_t)(initrd->bytes >> 32);
}

static void fill_e820(struct boot_params *params, const struct impost_x86_boot_info *info)
{
	for (uint32_t i = 0; i < info->e820_count; i++)
		params->e820_table[i] = (struct boot_e820_entry){
			info->e820[i].gpa, info->e820[i].bytes, info->e820[i].type};
	params->e820_entries = (uint8_t)info->e820_count;
}

static int check(struct impost_context *ctx, const struct impost_x86_boot_info *info)
{
	const struct impost_x86_kernel *kernel = info->kernel;

	if (kernel->setup_header_bytes > IMPOST_X86_SETUP_HEADER_MAX)
		return impost_error_set(ctx, -EINVAL, "a setup header of %u bytes: %u can be",
					kernel->setup_header_bytes, IMPOST_X86_SETUP_HEADER_MAX);
	switch (kernel->protocol) {
	case IMPOST_X86_PROTOCOL_LINUX64:
		return 0;
	case IMPOST_X86_PROTOCOL_LINUX32:
		return boot_info_check_initrd(ctx, info);
	default:
		return impost_error_set(ctx, -EINVAL,
					"a zero page is for the protocols linux64 and linux32: a "
					"kernel of another wants start_info");
	}
}

static size_t fill(void *block, const struct impost_x86_boot_info *info)
{
	struct boot_params *params = block;

	fill_header(params, info->kernel);
	if (info->initrd)
		fill_initrd(params, info->initrd);
	fill_e820(params, info);
	/* The kernel in an ELF file does not say its protocol; one that is older ignores it. */
	if (!info->kernel->version || info->kernel->version >= RSDP_SINCE)
		params->acpi_rsdp_addr = info->rsdp;
	return sizeof(*params);
}

int impost_x86_write_zero_page(struct impost_memory *memory,
			       const struct impost_x86_boot_info *info)
{
	static const struct boot_info_block zero_page = {IMPOST_X86_ZERO_PAGE_ADDR, check, fill};

	return boot_info_write(memory, info, &zero_page);
}
