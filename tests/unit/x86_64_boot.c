/* SPDX-License-Identifier: Apache-2.0 */
/*
 * impost_x86_boot() as a whole, on the mock, whose entry checks and page walk must accept what it
 * set up, and on KVM where that works: both must give the same.
 */
#include "boot_machine.h"

#define CPUS 3u

static void assert_boot_cpu(struct machine *m, uint64_t entry)
{
	struct impost_x86_sregs sregs;
	struct impost_x86_lapic lapic;
	struct impost_x86_regs regs;
	struct impost_x86_xsave *xsave = aligned_alloc(64, IMPOST_X86_XSAVE_MAX);
	const uint8_t lint[][4] = {{0, 7, 0, 0}, {0, 4, 0, 0}};

	cr_assert_not_null(xsave);
	cr_assert_eq(impost_vcpu_get_regs(m->vcpus[0], &regs), 0);
	cr_assert_eq(regs.rip, entry);
	cr_assert_eq(regs.rsi, IMPOST_X86_ZERO_PAGE_ADDR);
	cr_assert_eq(regs.rflags, 2u);
	cr_assert_eq(impost_vcpu_get_sregs(m->vcpus[0], &sregs), 0);
	cr_assert_eq(sregs.cr3, IMPOST_X86_PAGE_TABLE_ADDR);
	cr_assert_eq(sregs.efer, 0x500u);
	cr_assert_eq(sregs.cs.selector, 0x10);
	cr_assert(sregs.apic_base & 0x100, "the boot CPU's BSP flag stays");
	get_section(m->vcpus[0], IMPOST_SECTION_XSAVE, xsave, IMPOST_X86_XSAVE_MAX);
	cr_assert_eq(xsave->area[0], 0x7f);
	cr_assert_eq(xsave->area[1], 0x03);
	get_section(m->vcpus[0], IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic));
	cr_assert_arr_eq(lapic.regs + 0x350, lint[0], 4);
	cr_assert_arr_eq(lapic.regs + 0x360, lint[1], 4);
	assert_runstate(m->vcpus[0], IMPOST_X86_RUNNING);
	free(xsave);
}

static void assert_every_cpu(struct machine *m)
{
	for (uint32_t i = 0; i < CPUS; i++) {
		struct impost_x86_msr msrs[] = {{.index = 0x1a0}, {.index = 0xc0000082}};

		cr_assert_eq(leaf_of(m->vcpus[i], 1, 0).ebx >> 24, i);
		cr_assert_eq(leaf_of(m->vcpus[i], 1, 0).ecx >> 31, 1u);
		cr_assert_eq(leaf_of(m->vcpus[i], 0xb, 0).edx, i);
		cr_assert_eq(leaf_of(m->vcpus[i], 0xb, 1).ebx, CPUS);
		cr_assert_eq(impost_vcpu_get_msrs(m->vcpus[i], msrs, 2, NULL), 0);
		cr_assert_eq(msrs[0].value & 1, 1u);
		cr_assert_eq(msrs[1].value, 0u);
	}
}

static void boots(const char *backend, int kernel_fd, uint64_t entry)
{
	struct machine m =
		machine_make(context_make(backend), 8 * MIB, IMPOST_IRQCHIP_DEFAULT, CPUS);
	struct impost_x86_boot_config config = config_make(m.ctx, kernel_fd);
	struct impost_x86_sregs before, after;
	struct impost_x86_boot_result result = {.size = sizeof(result)};
	int fds = count_fds();

	config.initrd_fd = file_make("initrd", 6);
	config.cmdline = "quiet";
	cr_assert_eq(impost_vcpu_get_sregs(m.vcpus[1], &before), 0);
	cr_assert_eq(impost_x86_boot(m.vm, m.vcpus, CPUS, &config, &result), 0, "%s",
		     impost_error(m.ctx));
	cr_assert_eq(result.entry, entry);
	cr_assert_eq(result.initrd_gpa, 8 * MIB - 4096);
	assert_boot_cpu(&m, entry);
	assert_every_cpu(&m);
	cr_assert_eq(impost_vcpu_get_sregs(m.vcpus[1], &after), 0);
	cr_assert_arr_eq(&before, &after, sizeof(before));
	for (uint32_t i = 1; i < CPUS; i++)
		assert_runstate(m.vcpus[i], IMPOST_X86_WAIT_FOR_SIPI);
	assert_runs(&m);
	close(config.initrd_fd);
	cr_assert_eq(count_fds(), fds);
	close(kernel_fd);
	machine_free(&m);
}

Test(boot, bzimage_on_mock)
{
	boots("mock", bz_file(), BZ_START + 0x200);
}

Test(boot, bzimage_on_kvm)
{
	boots("kvm", bz_file(), BZ_START + 0x200);
}

Test(boot, elf_on_mock)
{
	boots("mock", elf_file(), ELF_TEXT + 0x10);
}

Test(boot, elf_on_kvm)
{
	boots("kvm", elf_file(), ELF_TEXT + 0x10);
}

/* Without a local APIC nothing waits for SIPI, and the guest is told that it has none. */
static void boots_without_irqchip(const char *backend)
{
	struct machine m = machine_make(context_make(backend), 8 * MIB, IMPOST_IRQCHIP_NONE, CPUS);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());

	cr_assert_eq(impost_x86_boot(m.vm, m.vcpus, CPUS, &config, NULL), 0, "%s",
		     impost_error(m.ctx));
	cr_assert_eq(leaf_of(m.vcpus[0], 1, 0).ecx >> 24 & 1, 0u, "TSC deadline");
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

Test(boot, without_irqchip_on_mock)
{
	boots_without_irqchip("mock");
}

Test(boot, without_irqchip_on_kvm)
{
	boots_without_irqchip("kvm");
}

Test(boot, cpuid_for_the_whole_vm)
{
	struct impost_context *ctx = context_make("mock");
	struct impost_x86_boot_config config;
	struct machine m;

	set_key(ctx, "backend.mock", "cpuid", "vm");
	m = machine_make(ctx, 8 * MIB, IMPOST_IRQCHIP_DEFAULT, CPUS);
	config = config_make(ctx, elf_file());
	cr_assert_eq(impost_x86_boot(m.vm, m.vcpus, CPUS, &config, NULL), 0, "%s",
		     impost_error(ctx));
	cr_assert_eq(leaf_of(m.vcpus[2], 0xb, 1).ebx, CPUS);
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

Test(boot, command_line_of_the_configuration)
{
	struct impost_context *ctx = context_make("mock");
	struct impost_x86_boot_config config;
	struct machine m;
	char got[8];

	set_key(ctx, "boot", "cmdline", "panic=1");
	m = machine_make(ctx, 8 * MIB, IMPOST_IRQCHIP_DEFAULT, CPUS);
	config = config_make(ctx, elf_file());
	cr_assert_eq(impost_x86_boot(m.vm, m.vcpus, CPUS, &config, NULL), 0);
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), IMPOST_X86_CMDLINE_ADDR, got, 8),
		     0);
	cr_assert_str_eq(got, "panic=1");
	close(config.kernel_fd);
	machine_free(&m);
}

/* Each step's refusal comes through, leaks nothing, and the next boot works. */
Test(boot, refusals)
{
	struct machine m =
		machine_make(context_make("mock"), 8 * MIB, IMPOST_IRQCHIP_DEFAULT, CPUS);
	struct machine other =
		machine_make(context_make("mock"), MIB, IMPOST_IRQCHIP_DEFAULT, CPUS);
	struct impost_x86_boot_config good = config_make(m.ctx, elf_file()), bad;
	struct impost_vcpu *swapped[] = {m.vcpus[1], m.vcpus[0]};
	struct impost_vcpu *foreign[] = {m.vcpus[0], other.vcpus[1]};
	struct impost_vcpu *missing[] = {m.vcpus[0], NULL};
	int text = file_make("text", 4), huge = file_make("x", 1), fds;
	char cmdline[4096];

	cr_assert_eq(ftruncate(huge, 16 << 20), 0);
	memset(cmdline, 'x', sizeof(cmdline) - 1);
	cmdline[sizeof(cmdline) - 1] = '\0';
	fds = count_fds();

	bad = good;
	bad.size = 8;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, CPUS, &bad, NULL), EINVAL, "has size 8");
	bad = good;
	bad.kernel_fd = -1;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, CPUS, &bad, NULL), EINVAL, "no kernel");
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 0, &good, NULL), EINVAL, "no vCPU");
	assert_refused(&m, impost_x86_boot(m.vm, swapped, 2, &good, NULL), EINVAL, "number 0");
	assert_refused(&m, impost_x86_boot(m.vm, foreign, 2, &good, NULL), EINVAL, "another VM");
	assert_refused(&m, impost_x86_boot(m.vm, missing, 2, &good, NULL), EINVAL, "1 is NULL");
	bad = good;
	bad.kernel_fd = text;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, CPUS, &bad, NULL), IMPOST_EIMAGE,
		       "no known format");
	bad = good;
	bad.initrd_fd = huge;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, CPUS, &bad, NULL), EFBIG, "initrd");
	bad = good;
	bad.cmdline = cmdline;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, CPUS, &bad, NULL), E2BIG, "4095 bytes");

	cr_assert_eq(count_fds(), fds);
	cr_assert_eq(impost_x86_boot(m.vm, m.vcpus, CPUS, &good, NULL), 0, "%s",
		     impost_error(m.ctx));
	assert_runs(&m);
	close(good.kernel_fd);
	close(text);
	close(huge);
	machine_free(&other);
	machine_free(&m);
}

/* A host of another release has a shorter or longer configuration: no more than it has is filled.
 */
Test(boot, a_configuration_of_another_release)
{
	struct impost_x86_boot_config config[2];
	struct impost_context *ctx = context_make("mock");
	unsigned char *bytes = (unsigned char *)config;
	const size_t shorter = offsetof(struct impost_x86_boot_config, cmdline);

	set_key(ctx, "boot", "cmdline", "quiet");
	memset(config, 0xee, sizeof(config));
	config[0].size = (uint32_t)shorter;
	impost_x86_boot_config_fill(ctx, config);
	cr_assert(config[0].size == shorter && config[0].kernel_fd == -1);
	cr_assert(config[0].initrd_fd == -1 && bytes[shorter] == 0xee);
	config[0].size = sizeof(config[0]) + 8;
	impost_x86_boot_config_fill(ctx, config);
	cr_assert_str_eq(config[0].cmdline, "quiet");
	cr_assert(bytes[sizeof(config[0])] == 0 && bytes[sizeof(config[0]) + 8] == 0xee);
	impost_context_close(ctx);
}
