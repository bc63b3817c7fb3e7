/* SPDX-License-Identifier: Apache-2.0 */
/* What the set-up writes into guest memory: command line, zero page, GDT, page tables. */
#include "x86_64.h"

/* --- command line --- */

Test(cmdline, is_written_with_its_nul)
{
	struct impost_x86_kernel kernel = {.cmdline_max = 20};
	struct ram ram = ram_make(MIB);
	char got[16];

	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_CMDLINE_ADDR, PATTERN, 16), 0);
	cr_assert_eq(impost_x86_write_cmdline(ram.memory, &kernel, "console=ttyS0"), 0);
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_CMDLINE_ADDR, got, 16), 0);
	cr_assert_str_eq(got, "console=ttyS0");
	cr_assert_eq((uint8_t)got[14], PATTERN);
	ram_free(&ram);
}

Test(cmdline, one_byte_more_than_the_kernel_takes_is_refused)
{
	static const uint32_t limits[] = {0, 1, 255, 2047, IMPOST_X86_CMDLINE_MAX - 1, UINT32_MAX};
	static char text[IMPOST_X86_CMDLINE_MAX + 1];
	struct ram ram = ram_make(MIB);

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct impost_x86_kernel kernel = {.cmdline_max = limits[i]};
		size_t max = limits[i] < IMPOST_X86_CMDLINE_MAX ? limits[i]
								: IMPOST_X86_CMDLINE_MAX - 1;

		memset(text, 'x', sizeof(text));
		text[max] = '\0';
		cr_assert_eq(impost_x86_write_cmdline(ram.memory, &kernel, text), 0);
		text[max] = 'x';
		text[max + 1] = '\0';
		assert_refused(&ram, impost_x86_write_cmdline(ram.memory, &kernel, text), E2BIG,
			       "the kernel takes");
	}
	ram_free(&ram);
}

Test(cmdline, needs_memory)
{
	struct impost_x86_kernel kernel = {.cmdline_max = 20};
	struct ram ram = ram_make(IMPOST_X86_CMDLINE_ADDR);

	cr_assert_eq(impost_x86_write_cmdline(ram.memory, &kernel, ""), -EFAULT);
	ram_free(&ram);
}

/* --- zero page --- */

/* Parses the test's bzImage. */
static struct impost_x86_kernel kernel_make(void)
{
	struct impost_x86_kernel kernel;
	struct bz bz = bz_make();

	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 1024, sizeof(bz), &kernel), 0);
	return kernel;
}

/* Writes the zero page for what INFO has, and the e820 map of RAM's memory. */
static int write_zero_page(struct ram *ram, struct impost_x86_boot_info info)
{
	struct impost_x86_e820 e820[IMPOST_X86_E820_MAX];

	cr_assert_eq(impost_x86_e820(ram->memory, NULL, e820, IMPOST_X86_E820_MAX,
				     &info.e820_count),
		     0, "%s", impost_error(ram->ctx));
	info.size = sizeof(info);
	info.e820 = e820;
	return impost_x86_write_zero_page(ram->memory, &info);
}

#define ZERO_PAGE(ram, ...) write_zero_page(ram, (struct impost_x86_boot_info){__VA_ARGS__})

Test(zero_page, golden)
{
	struct impost_x86_initrd initrd = {.gpa = UINT64_C(0x123456000),
					   .bytes = UINT64_C(0x200000001)};
	struct impost_x86_kernel kernel = kernel_make();
	struct boot_params got, want = {0};
	struct ram ram = ram_make(16 * MIB);
	struct bz bz = bz_make();
	char cmdline[6];

	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, PATTERN, 4096), 0);
	cr_assert_eq(ZERO_PAGE(&ram, .kernel = &kernel, .cmdline = "quiet", .initrd = &initrd), 0,
		     "%s", impost_error(ram.ctx));
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, &got, sizeof(got)),
		     0);
	want.hdr = bz.hdr;
	want.hdr.type_of_loader = 0xff;
	want.hdr.vid_mode = 0xffff;
	want.hdr.cmd_line_ptr = 0x20000;
	want.hdr.ramdisk_image = 0x23456000;
	want.ext_ramdisk_image = 1;
	want.hdr.ramdisk_size = 1;
	want.ext_ramdisk_size = 2;
	want.e820_entries = 3;
	want.e820_table[0] = (struct boot_e820_entry){0, 0x9fc00, 1};
	want.e820_table[1] = (struct boot_e820_entry){0x9fc00, 0x100000 - 0x9fc00, 2};
	want.e820_table[2] = (struct boot_e820_entry){0x100000, 15 * MIB, 1};
	cr_assert_arr_eq(&got, &want, sizeof(got));
	cr_assert_eq(impost_memory_read(ram.memory, 0x20000, cmdline, sizeof(cmdline)), 0);
	cr_assert_str_eq(cmdline, "quiet");
	ram_free(&ram);
}

/* What the file says where the loader is to speak is not believed. */
Test(zero_page, the_file_does_not_speak_for_the_loader)
{
	struct impost_x86_kernel kernel;
	struct ram ram = ram_make(16 * MIB);
	struct bz bz = bz_make();
	struct boot_params got;

	bz.hdr.setup_data = 0x1234;
	bz.hdr.ramdisk_image = bz.hdr.ramdisk_size = 0x5678;
	bz.hdr.cmd_line_ptr = 0x9abc;
	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 1024, sizeof(bz), &kernel), 0);
	cr_assert_eq(ZERO_PAGE(&ram, .kernel = &kernel), 0);
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, &got, sizeof(got)),
		     0);
	cr_assert_eq(got.hdr.setup_data, 0u);
	cr_assert_eq(got.hdr.ramdisk_image, 0u);
	cr_assert_eq(got.hdr.ramdisk_size, 0u);
	cr_assert_eq(got.hdr.cmd_line_ptr, 0x20000u);
	ram_free(&ram);
}

Test(zero_page, refusals_write_nothing)
{
	struct impost_x86_kernel kernel = kernel_make();
	struct ram ram = ram_make(MIB);
	struct impost_x86_e820 e820[IMPOST_X86_E820_MAX + 1] = {{0}};
	struct impost_x86_boot_info info = {
		.size = sizeof(info), .e820 = e820, .e820_count = IMPOST_X86_E820_MAX + 1};
	char text[2049] = {0};
	uint8_t got[4096];

	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, PATTERN, 4096), 0);
	memset(text, 'x', 2048);
	assert_refused(&ram, ZERO_PAGE(&ram, .kernel = &kernel, .cmdline = text), E2BIG,
		       "2048 bytes");
	kernel.setup_header_bytes = IMPOST_X86_SETUP_HEADER_MAX + 1;
	assert_refused(&ram, ZERO_PAGE(&ram, .kernel = &kernel), EINVAL, "145 bytes");
	kernel = kernel_make();
	info.kernel = &kernel;
	assert_refused(&ram, impost_x86_write_zero_page(ram.memory, &info), ENOSPC, "room for 128");
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, got, 4096), 0);
	for (size_t i = 0; i < sizeof(got); i++)
		cr_assert_eq(got[i], PATTERN);
	ram_free(&ram);
}

/* --- GDT --- */

/* Decodes descriptor NUMBER of the GDT in guest memory (SDM vol. 3, figure 3-8). */
static struct impost_x86_segment decode(struct ram *ram, uint64_t gdt, uint16_t selector)
{
	struct impost_x86_segment segment = {.selector = selector};
	uint8_t d[8];

	cr_assert_eq(impost_memory_read(ram->memory, gdt + selector, d, 8), 0);
	segment.base = d[2] | (uint32_t)d[3] << 8 | (uint32_t)d[4] << 16 | (uint32_t)d[7] << 24;
	segment.limit = d[0] | (uint32_t)d[1] << 8 | (uint32_t)(d[6] & 0xf) << 16;
	segment.access = d[5] | (uint32_t)(d[6] & 0xf0) << 8;
	if (segment.access & IMPOST_X86_AR_G)
		segment.limit = segment.limit << 12 | 0xfff;
	return segment;
}

static void assert_agrees(struct ram *ram, const struct impost_x86_sregs *sregs,
			  const struct impost_x86_segment *segment)
{
	struct impost_x86_segment got = decode(ram, sregs->gdtr.base, segment->selector);

	cr_assert_leq(segment->selector + 7u, sregs->gdtr.limit);
	cr_assert_eq(got.base, segment->base);
	cr_assert_eq(got.limit, segment->limit);
	cr_assert_eq(got.access, segment->access);
}

/* boot.rst wants flat 4 GiB code at 0x10 and data at 0x18; the registers hold what the table says.
 */
Test(gdt, agrees_with_the_registers)
{
	static const uint64_t golden[] = {0,
					  0,
					  UINT64_C(0x00af9b000000ffff),
					  UINT64_C(0x00cf93000000ffff),
					  UINT64_C(0x00008b0005800067),
					  0};
	const struct impost_x86_paging paging = {.size = sizeof(paging), .levels = 4};
	struct impost_x86_sregs sregs = {0};
	struct ram ram = ram_make(MIB);
	uint64_t got[6];

	cr_assert_eq(impost_x86_setup_sregs(&sregs, IMPOST_X86_MODE_LONG, 0, &paging, 0x9000), 0);
	cr_assert_eq(impost_x86_write_gdt(ram.memory, IMPOST_X86_MODE_LONG), 0);
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_GDT_ADDR, got, sizeof(got)), 0);
	cr_assert_arr_eq(got, golden, sizeof(golden));
	cr_assert_eq(sregs.gdtr.limit, sizeof(golden) - 1);
	assert_agrees(&ram, &sregs, &sregs.cs);
	assert_agrees(&ram, &sregs, &sregs.ds);
	assert_agrees(&ram, &sregs, &sregs.es);
	assert_agrees(&ram, &sregs, &sregs.fs);
	assert_agrees(&ram, &sregs, &sregs.gs);
	assert_agrees(&ram, &sregs, &sregs.ss);
	assert_agrees(&ram, &sregs, &sregs.tr);
	ram_free(&ram);
}

Test(gdt, needs_memory)
{
	struct ram ram = ram_make(0);

	cr_assert_eq(impost_x86_write_gdt(ram.memory, IMPOST_X86_MODE_LONG), -EFAULT);
	ram_free(&ram);
}
