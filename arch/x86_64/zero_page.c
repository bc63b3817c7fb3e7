/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zero page: what a boot loader tells Linux (kernel, zero-page.rst; boot.rst for each field).
 */
#include <asm/bootparam.h>
#include <assert.h>
#include <string.h>

#include <impost/x86_64/boot.h>

#define LOADER_UNDEFINED 0xffu	 /* type_of_loader: no id assigned */
#define VIDEO_NORMAL	 0xffffu /* vid_mode: "normal" */

static_assert(sizeof(struct boot_params) == IMPOST_PAGE_SIZE, "the zero page is a page");
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

static int fill_e820(struct boot_params *params, struct impost_memory *memory)
{
	struct impost_x86_e820 entries[IMPOST_X86_E820_MAX];
	uint32_t count;
	int err;

	err = impost_x86_e820(memory, NULL, entries, IMPOST_X86_E820_MAX, &count);
	if (err < 0)
		return err;
	for (uint32_t i = 0; i < count; i++)
		params->e820_table[i] =
			(struct boot_e820_entry){entries[i].gpa, entries[i].bytes, entries[i].type};
	params->e820_entries = (uint8_t)count;
	return 0;
}

int impost_x86_write_zero_page(struct impost_memory *memory, const struct impost_x86_kernel *kernel,
			       const char *cmdline, const struct impost_x86_initrd *initrd)
{
	struct boot_params params = {0};
	int err;

	if (kernel->setup_header_bytes > IMPOST_X86_SETUP_HEADER_MAX)
		return impost_error_set(impost_memory_context(memory), -EINVAL,
					"a setup header of %u bytes: %u can be",
					kernel->setup_header_bytes, IMPOST_X86_SETUP_HEADER_MAX);
	fill_header(&params, kernel);
	if (initrd)
		fill_initrd(&params, initrd);
	err = fill_e820(&params, memory);
	if (err == 0)
		err = impost_x86_write_cmdline(memory, kernel, cmdline);
	if (err == 0)
		err = impost_memory_write(memory, IMPOST_X86_ZERO_PAGE_ADDR, &params,
					  sizeof(params));
	return err;
}
