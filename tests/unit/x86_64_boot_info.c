/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest is told at its entry: the zero page for Linux, start_info for PVH. */
#include "x86_64.h"

#include "../golden/golden.h"

/* RAM in two pieces, what is always reserved, and a place outside RAM. */
static const struct impost_x86_e820 e820[] = {
	{0, 0x9fc00, IMPOST_X86_E820_RAM, 0},
	{0x9fc00, 0x60400, IMPOST_X86_E820_RESERVED, 0},
	{0x100000, 0xf00000, IMPOST_X86_E820_RAM, 0},
	{0xb0000000, 0x10000000, IMPOST_X86_E820_RESERVED, 0},
};

#define INFO(...)                                                                    \
	(&(struct impost_x86_boot_info){.size = sizeof(struct impost_x86_boot_info), \
					.e820 = e820,                                \
					.e820_count = 4,                             \
					__VA_ARGS__})

/* Parses the test's bzImage. */
static struct impost_x86_kernel kernel_make(void)
{
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct bz bz = bz_make();

	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 1024, sizeof(bz), &kernel), 0);
	return kernel;
}

static struct impost_x86_kernel pvh_make(void)
{
	return (struct impost_x86_kernel){
		.size = sizeof(struct impost_x86_kernel),
		.format = IMPOST_X86_FORMAT_ELF,
		.protocol = IMPOST_X86_PROTOCOL_PVH,
		.mode = IMPOST_X86_MODE_PROTECTED,
		.cmdline_max = 2047,
	};
}

static void assert_cmdline(struct ram *ram, const char *want)
{
	char got[16];

	cr_assert_eq(impost_memory_read(ram->memory, IMPOST_X86_CMDLINE_ADDR, got, sizeof(got)), 0);
	cr_assert_str_eq(got, want);
}

/* Asserts that every byte of the page at GPA, from OFFSET, is PATTERN. */
static void assert_untouched(struct ram *ram, uint64_t gpa, size_t offset)
{
	uint8_t got[4096];

	cr_assert_eq(impost_memory_read(ram->memory, gpa, got, sizeof(got)), 0);
	for (size_t i = offset; i < sizeof(got); i++)
		cr_assert_eq(got[i], PATTERN, "at 0x%zx", i);
}

/* --- zero page --- */

Test(zero_page, golden)
{
	struct impost_x86_initrd initrd = {.size = sizeof(initrd),
					   .gpa = UINT64_C(0x123456000),
					   .bytes = UINT64_C(0x200000001)};
	struct impost_x86_kernel kernel = kernel_make();
	struct ram ram = ram_make(16 * MIB);
	uint8_t got[4096];

	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, PATTERN, 4096), 0);
	cr_assert_eq(impost_x86_write_zero_page(
			     ram.memory, INFO(.kernel = &kernel, .initrd = &initrd,
					      .cmdline = "quiet", .rsdp = IMPOST_X86_ACPI_ADDR)),
		     0, "%s", impost_error(ram.ctx));
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, got, sizeof(got)),
		     0);
	golden_compare("zero_page.golden", got, sizeof(got));
	assert_cmdline(&ram, "quiet");
	ram_free(&ram);
}

/* Reads the zero page that is written for KERNEL with an RSDP. */
static struct boot_params written(struct ram *ram, const struct impost_x86_kernel *kernel)
{
	struct boot_params got;

	cr_assert_eq(impost_x86_write_zero_page(ram->memory,
						INFO(.kernel = kernel, .rsdp = 0x1234)),
		     0, "%s", impost_error(ram->ctx));
	cr_assert_eq(impost_memory_read(ram->memory, IMPOST_X86_ZERO_PAGE_ADDR, &got, sizeof(got)),
		     0);
	return got;
}

/* What the file says where the loader is to speak is not believed. */
Test(zero_page, the_file_does_not_speak_for_the_loader)
{
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct ram ram = ram_make(16 * MIB);
	struct bz bz = bz_make();
	struct boot_params got;

	bz.hdr.setup_data = 0x1234;
	bz.hdr.ramdisk_image = bz.hdr.ramdisk_size = 0x5678;
	bz.hdr.cmd_line_ptr = 0x9abc;
	bz.hdr.loadflags = 0xff;
	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 1024, sizeof(bz), &kernel), 0);
	got = written(&ram, &kernel);
	cr_assert_eq(got.hdr.setup_data, 0u);
	cr_assert_eq(got.hdr.ramdisk_image, 0u);
	cr_assert_eq(got.hdr.ramdisk_size, 0u);
	cr_assert_eq(got.hdr.cmd_line_ptr, 0x20000u);
	cr_assert_eq(got.hdr.loadflags, LOADED_HIGH);
	assert_cmdline(&ram, "");
	ram_free(&ram);
}

/* Before 2.14 the field's place was not the loader's; an ELF file does not say its protocol. */
Test(zero_page, rsdp_for_kernels_that_have_a_place_for_it)
{
	static const struct {
		uint32_t version;
		uint64_t rsdp;
	} kernels[] = {{0, 0x1234}, {0x20a, 0}, {0x20d, 0}, {0x20e, 0x1234}, {0x20f, 0x1234}};
	struct ram ram = ram_make(16 * MIB);

	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		struct impost_x86_kernel kernel = kernel_make();

		kernel.version = kernels[i].version;
		cr_assert_eq(written(&ram, &kernel).acpi_rsdp_addr, kernels[i].rsdp);
	}
	ram_free(&ram);
}

/* --- start_info --- */

Test(start_info, golden)
{
	struct impost_x86_initrd initrd = {
		.size = sizeof(initrd), .gpa = 0x3456000, .bytes = 0x200001};
	struct impost_x86_kernel kernel = pvh_make();
	struct ram ram = ram_make(16 * MIB);
	uint8_t got[192];

	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_START_INFO_ADDR, PATTERN, 4096), 0);
	cr_assert_eq(impost_x86_write_start_info(
			     ram.memory, INFO(.kernel = &kernel, .initrd = &initrd,
					      .cmdline = "quiet", .rsdp = IMPOST_X86_ACPI_ADDR)),
		     0, "%s", impost_error(ram.ctx));
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_START_INFO_ADDR, got, sizeof(got)),
		     0);
	golden_compare("start_info.golden", got, sizeof(got));
	assert_untouched(&ram, IMPOST_X86_START_INFO_ADDR, sizeof(got));
	assert_cmdline(&ram, "quiet");
	ram_free(&ram);
}

/* An address of 0 says that there is none; a flat guest is told in the same way. */
Test(start_info, what_is_not_there_is_zero)
{
	struct impost_x86_kernel kernel = pvh_make();
	struct ram ram = ram_make(16 * MIB);
	uint32_t got[14];

	kernel.protocol = IMPOST_X86_PROTOCOL_FLAT;
	cr_assert_eq(impost_x86_write_start_info(ram.memory, INFO(.kernel = &kernel)), 0);
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_START_INFO_ADDR, got, sizeof(got)),
		     0);
	cr_assert_eq(got[3], 0u, "modules");
	cr_assert(got[4] == 0 && got[5] == 0, "module list");
	cr_assert(got[8] == 0 && got[9] == 0, "RSDP");
	assert_cmdline(&ram, "");
	ram_free(&ram);
}

Test(start_info, the_longest_map_fits)
{
	static struct impost_x86_e820 map[IMPOST_X86_E820_MAX];
	struct impost_x86_kernel kernel = pvh_make();
	struct impost_x86_boot_info info = *INFO(.kernel = &kernel);
	struct ram ram = ram_make(16 * MIB);

	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_ZERO_PAGE_ADDR, PATTERN, 4096), 0);
	info.e820 = map;
	info.e820_count = IMPOST_X86_E820_MAX;
	cr_assert_eq(impost_x86_write_start_info(ram.memory, &info), 0);
	assert_untouched(&ram, IMPOST_X86_ZERO_PAGE_ADDR, 0);
	ram_free(&ram);
}

/* --- refusals --- */

typedef int (*write_fn)(struct impost_memory *memory, const struct impost_x86_boot_info *info);

/* What both must refuse in the same way, with a KERNEL that is theirs. */
static void assert_refusals(struct ram *ram, write_fn write_info, struct impost_x86_kernel kernel)
{
	static const struct impost_x86_initrd beyond = {.gpa = 0xfffff000, .bytes = 0x1001};
	static const struct impost_x86_boot_info defaults = {
		.size = sizeof(defaults), .e820 = e820, .e820_count = 4};
	const struct {
		size_t offset;
		uint64_t value, bytes;
		const char *words;
	} wrong[] = {
		{offsetof(struct impost_x86_boot_info, size), 40, 4,
		 "impost_x86_boot_info has size 40"},
		{offsetof(struct impost_x86_boot_info, kernel), 0, 8, "without a kernel"},
		{offsetof(struct impost_x86_boot_info, e820), 0, 8, "without an e820 map"},
		{offsetof(struct impost_x86_boot_info, e820_count), 0, 4, "without an e820 map"},
	};
	struct {
		struct impost_x86_boot_info known;
		uint64_t later;
	} longer = {.known = defaults, .later = 1};
	static char text[2049];

	longer.known.size = sizeof(longer);
	longer.known.kernel = &kernel;
	assert_refused(ram, write_info(ram->memory, &longer.known), E2BIG,
		       "impost_x86_boot_info asks for something");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct impost_x86_boot_info info = defaults;

		info.kernel = &kernel;
		memcpy((uint8_t *)&info + wrong[i].offset, &wrong[i].value, wrong[i].bytes);
		assert_refused(ram, write_info(ram->memory, &info), EINVAL, wrong[i].words);
	}
	memset(text, 'x', 2048);
	assert_refused(ram, write_info(ram->memory, INFO(.kernel = &kernel, .cmdline = text)),
		       E2BIG, "2048 bytes");
	if (kernel.protocol != IMPOST_X86_PROTOCOL_LINUX64)
		assert_refused(ram,
			       write_info(ram->memory, INFO(.kernel = &kernel, .initrd = &beyond)),
			       EINVAL, "must end below 4 GiB");
	kernel.protocol = IMPOST_X86_PROTOCOL_AUTO;
	assert_refused(ram, write_info(ram->memory, INFO(.kernel = &kernel)), EINVAL,
		       "for the protocols");
}

/* The count is judged before the map is read: it has four entries here. */
static void assert_too_many(struct ram *ram, write_fn write_info,
			    const struct impost_x86_kernel *kernel)
{
	struct impost_x86_boot_info info = *INFO(.kernel = kernel);

	info.e820_count = IMPOST_X86_E820_MAX + 1;
	assert_refused(ram, write_info(ram->memory, &info), ENOSPC,
		       "129 entries, the guest has room for 128");
}

Test(boot_info, refusals_write_nothing)
{
	struct impost_x86_kernel pvh = pvh_make(), linux64 = kernel_make(), linux32 = linux64;
	struct ram ram = ram_make(MIB);

	linux32.protocol = IMPOST_X86_PROTOCOL_LINUX32;
	cr_assert_eq(impost_memory_fill(ram.memory, 0x6000, PATTERN, 0x2000), 0);
	assert_refusals(&ram, impost_x86_write_zero_page, linux64);
	assert_refusals(&ram, impost_x86_write_zero_page, linux32);
	assert_refusals(&ram, impost_x86_write_start_info, pvh);
	assert_too_many(&ram, impost_x86_write_zero_page, &linux64);
	assert_too_many(&ram, impost_x86_write_start_info, &pvh);
	assert_refused(&ram, impost_x86_write_zero_page(ram.memory, INFO(.kernel = &pvh)), EINVAL,
		       "wants start_info");
	assert_refused(&ram, impost_x86_write_start_info(ram.memory, INFO(.kernel = &linux64)),
		       EINVAL, "wants a zero page");
	linux64.setup_header_bytes = IMPOST_X86_SETUP_HEADER_MAX + 1;
	assert_refused(&ram, impost_x86_write_zero_page(ram.memory, INFO(.kernel = &linux64)),
		       EINVAL, "145 bytes");
	assert_untouched(&ram, IMPOST_X86_START_INFO_ADDR, 0);
	assert_untouched(&ram, IMPOST_X86_ZERO_PAGE_ADDR, 0);
	ram_free(&ram);
}

/* Without memory for the block the command line is not written alone. */
Test(boot_info, no_memory_writes_nothing)
{
	struct impost_x86_kernel pvh = pvh_make(), linux64 = kernel_make();
	struct ram ram = ram_make(0);
	uint8_t byte = 0;

	add_region(&ram, IMPOST_X86_CMDLINE_ADDR, IMPOST_X86_CMDLINE_MAX, 0);
	cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_CMDLINE_ADDR, PATTERN, 1), 0);
	cr_assert_eq(impost_x86_write_zero_page(ram.memory,
						INFO(.kernel = &linux64, .cmdline = "x")),
		     -EFAULT);
	cr_assert_eq(impost_x86_write_start_info(ram.memory, INFO(.kernel = &pvh, .cmdline = "x")),
		     -EFAULT);
	cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_CMDLINE_ADDR, &byte, 1), 0);
	cr_assert_eq(byte, PATTERN);
	ram_free(&ram);
}
