/* SPDX-License-Identifier: Apache-2.0 */
/* What booting puts into memory for the kernel: itself, its initrd, and what its entry needs. */
#include <string.h>

#include "boot_steps.h"

#define STACK_START UINT64_C(0x8000)
#define STACK_END   UINT64_C(0x9000) /* above IMPOST_X86_BOOT_STACK */

/* CPUID 7.0:ECX: 57-bit linear addresses. */
#define LA57 (1u << 16)

static int is_linux(const struct boot *boot)
{
	return boot->kernel.protocol == IMPOST_X86_PROTOCOL_LINUX64 ||
	       boot->kernel.protocol == IMPOST_X86_PROTOCOL_LINUX32;
}

static const char *cmdline_of(const struct boot *boot)
{
	return boot->config.cmdline ? boot->config.cmdline : "";
}

/* A binary in real mode gets no block of information: what could only stand there is refused. */
static int check_real_mode(const struct boot *boot)
{
	const char *what = cmdline_of(boot)[0] ? "a command line" : "an initrd";

	if (boot->kernel.mode != IMPOST_X86_MODE_REAL ||
	    (!cmdline_of(boot)[0] && boot->config.initrd_fd < 0))
		return 0;
	return impost_error_set(boot->ctx, -EINVAL,
				"boot: a flat binary in real mode cannot be told of %s: leave it "
				"out, or take protected or long mode",
				what);
}

/* Claims what is at a fixed place, so that no file and no host's area lies over it. */
static int claim_low_memory(struct boot *boot)
{
	const struct {
		const char *what;
		uint64_t gpa, bytes;
	} places[] = {
		{"GDT, IDT and TSS", IMPOST_X86_GDT_ADDR,
		 IMPOST_X86_TSS_ADDR + 0x80 - IMPOST_X86_GDT_ADDR},
		{"boot stack", STACK_START, STACK_END - STACK_START},
		{"command line", IMPOST_X86_CMDLINE_ADDR, strlen(cmdline_of(boot)) + 1},
		{is_linux(boot) ? "zero page" : "PVH start info",
		 is_linux(boot) ? IMPOST_X86_ZERO_PAGE_ADDR : IMPOST_X86_START_INFO_ADDR, 0x1000},
	};
	int err = 0;

	if (boot->kernel.mode == IMPOST_X86_MODE_REAL)
		return 0;
	for (size_t i = 0; err == 0 && i < sizeof(places) / sizeof(places[0]); i++)
		err = impost_x86_layout_claim(boot->ctx, &boot->layout, places[i].what,
					      places[i].gpa, places[i].bytes, 0);
	return err;
}

int boot_load(struct boot *boot)
{
	const struct impost_x86_kernel_want want = {
		.size = sizeof(want),
		.protocol = boot->config.protocol,
		.mode = boot->config.mode,
		.address = boot->config.address,
	};
	int fd = boot->config.kernel_fd;
	int err;

	boot->kernel.size = sizeof(boot->kernel);
	boot->initrd.size = sizeof(boot->initrd);
	err = impost_x86_kernel_read(boot->ctx, fd, &want, &boot->kernel);
	if (err == 0)
		err = check_real_mode(boot);
	if (err == 0)
		err = claim_low_memory(boot);
	if (err == 0)
		err = impost_x86_kernel_load(boot->memory, &boot->layout, fd, &boot->kernel);
	if (err == 0 && boot->config.initrd_fd >= 0)
		err = impost_x86_load_initrd(boot->memory, &boot->layout, boot->config.initrd_fd,
					     &boot->kernel, &boot->initrd);
	return err;
}

static int has_la57(const struct boot *boot)
{
	const struct impost_x86_cpuid *leaf =
		impost_x86_cpuid_find(boot->cpuid.entries, boot->cpuid.count, 7, 0);

	return leaf && leaf->ecx & LA57;
}

/* Page tables, with as many levels as the host wants. */
static int write_paging(struct boot *boot)
{
	int err;

	boot->paging.size = sizeof(boot->paging);
	err = impost_x86_paging_for(boot->memory, boot->cpuid.entries, boot->cpuid.count,
				    &boot->paging);
	if (err < 0)
		return err;
	if (boot->config.paging_levels)
		boot->paging.levels = boot->config.paging_levels;
	if (boot->paging.levels == 5 && !has_la57(boot))
		return impost_error_set(boot->ctx, -ENOTSUP,
					"boot: 5 levels of page tables: this CPU has no LA57 "
					"(CPUID 7.0:ECX[16])");
	return impost_x86_write_page_tables(boot->memory, &boot->layout, &boot->paging, &boot->cr3);
}

/* The block that tells the guest: zero page or start info. */
static int write_info(struct boot *boot)
{
	struct impost_x86_e820 e820[IMPOST_X86_E820_MAX];
	struct impost_x86_boot_info info = {
		.size = sizeof(info),
		.e820 = e820,
		.kernel = &boot->kernel,
		.initrd = boot->initrd.bytes ? &boot->initrd : NULL,
		.cmdline = cmdline_of(boot),
		.rsdp = boot->rsdp,
	};
	int err;

	err = impost_x86_e820(boot->memory, &boot->layout, e820, IMPOST_X86_E820_MAX,
			      &info.e820_count);
	if (err < 0)
		return err;
	if (is_linux(boot)) {
		boot->info = IMPOST_X86_ZERO_PAGE_ADDR;
		return impost_x86_write_zero_page(boot->memory, &info);
	}
	boot->info = IMPOST_X86_START_INFO_ADDR;
	return impost_x86_write_start_info(boot->memory, &info);
}

int boot_write_entry(struct boot *boot)
{
	uint32_t mode = boot->kernel.mode;
	int err;

	err = impost_x86_write_gdt(boot->memory, mode);
	if (err == 0 && mode == IMPOST_X86_MODE_LONG)
		err = write_paging(boot);
	if (err == 0 && mode != IMPOST_X86_MODE_REAL)
		err = write_info(boot);
	return err;
}
