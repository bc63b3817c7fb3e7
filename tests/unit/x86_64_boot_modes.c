/* SPDX-License-Identifier: Apache-2.0 */
/*
 * impost_x86_boot() by every protocol and in every mode, with few and many vCPUs and little and
 * much RAM: on the mock, whose entry checks must accept it, and on KVM, where the guest must run.
 */
#include "boot_machine.h"

/* --- protocols and modes --- */

/* A kernel, how it is asked for, and how it must be entered. */
static const struct entry {
	const char *name;
	int (*file)(void);
	const char *protocol, *mode; /* as in the INI; NULL: not set */
	uint32_t got_protocol, got_mode;
	uint64_t rip;
	uint64_t info; /* in RSI or RBX */
} entries[] = {
	{"bzImage", bz_file, NULL, NULL, IMPOST_X86_PROTOCOL_LINUX64, IMPOST_X86_MODE_LONG,
	 BZ_START + 0x200, IMPOST_X86_ZERO_PAGE_ADDR},
	{"bzImage, 32-bit", bz_file, "linux32", NULL, IMPOST_X86_PROTOCOL_LINUX32,
	 IMPOST_X86_MODE_PROTECTED, BZ_START, IMPOST_X86_ZERO_PAGE_ADDR},
	{"ELF", elf_file, NULL, NULL, IMPOST_X86_PROTOCOL_LINUX64, IMPOST_X86_MODE_LONG,
	 ELF_TEXT + 0x10, IMPOST_X86_ZERO_PAGE_ADDR},
	{"PVH", pvh_file, NULL, NULL, IMPOST_X86_PROTOCOL_PVH, IMPOST_X86_MODE_PROTECTED,
	 ELF_TEXT + 0x10, IMPOST_X86_START_INFO_ADDR},
	{"PVH entered as Linux", pvh_file, "linux64", NULL, IMPOST_X86_PROTOCOL_LINUX64,
	 IMPOST_X86_MODE_LONG, ELF_TEXT + 0x10, IMPOST_X86_ZERO_PAGE_ADDR},
	{"flat", flat_file, "flat", NULL, IMPOST_X86_PROTOCOL_FLAT, IMPOST_X86_MODE_LONG, MIB,
	 IMPOST_X86_START_INFO_ADDR},
	{"flat, protected", flat_file, "flat", "protected", IMPOST_X86_PROTOCOL_FLAT,
	 IMPOST_X86_MODE_PROTECTED, MIB, IMPOST_X86_START_INFO_ADDR},
	{"flat, real", flat_file, "flat", "real", IMPOST_X86_PROTOCOL_FLAT, IMPOST_X86_MODE_REAL, 0,
	 0},
};
#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

static void assert_entered(struct machine *m, const struct entry *entry)
{
	int is_linux = entry->info == IMPOST_X86_ZERO_PAGE_ADDR;
	struct impost_x86_sregs sregs;
	struct impost_x86_regs regs;

	cr_assert_eq(impost_vcpu_get_regs(m->vcpus[0], &regs), 0);
	cr_assert_eq(impost_vcpu_get_sregs(m->vcpus[0], &sregs), 0);
	cr_expect_eq(regs.rip, entry->rip, "%s", entry->name);
	cr_expect_eq(regs.rsi, is_linux ? entry->info : 0, "%s", entry->name);
	cr_expect_eq(regs.rbx, is_linux ? 0 : entry->info, "%s", entry->name);
	cr_expect_eq(sregs.cr0 & 1, entry->got_mode != IMPOST_X86_MODE_REAL, "%s", entry->name);
	cr_expect_eq(sregs.cr0 >> 31, entry->got_mode == IMPOST_X86_MODE_LONG, "%s", entry->name);
	cr_expect_eq(sregs.efer >> 10 & 1, entry->got_mode == IMPOST_X86_MODE_LONG, "%s",
		     entry->name);
}

static void enters(const char *backend, const struct entry *entry)
{
	struct impost_context *ctx = context_make(backend);
	struct impost_x86_boot_config config;
	struct impost_x86_boot_result result;
	struct machine m;

	if (entry->protocol)
		set_key(ctx, "boot", "protocol", entry->protocol);
	if (entry->mode)
		set_key(ctx, "boot", "mode", entry->mode);
	m = machine_make(ctx, 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	config = config_make(ctx, entry->file());
	result = boot_it(&m, &config);
	cr_expect_eq(result.protocol, entry->got_protocol, "%s", entry->name);
	cr_expect_eq(result.mode, entry->got_mode, "%s", entry->name);
	cr_expect_eq(result.info, entry->info, "%s", entry->name);
	assert_entered(&m, entry);
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

Test(modes, every_entry_on_mock)
{
	for (size_t i = 0; i < ENTRIES; i++)
		enters("mock", &entries[i]);
}

Test(modes, every_entry_on_kvm)
{
	for (size_t i = 0; i < ENTRIES; i++)
		enters("kvm", &entries[i]);
}

/* A flat binary's address is where it is loaded and entered. */
Test(modes, flat_addresses)
{
	static const struct {
		const char *mode, *address;
		uint64_t gpa, cs;
	} rows[] = {
		{"long", "12M", 12 * MIB, 0},
		{"protected", "0x200000", 2 * MIB, 0},
		{"real", "0x9000", 0x9000, 0x900},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_context *ctx = context_make("mock");
		struct impost_x86_boot_config config;
		struct impost_x86_sregs sregs;
		struct machine m;
		uint8_t code[sizeof(guest_code)];

		set_key(ctx, "boot", "protocol", "flat");
		set_key(ctx, "boot", "mode", rows[i].mode);
		set_key(ctx, "boot", "address", rows[i].address);
		m = machine_make(ctx, 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
		config = config_make(ctx, flat_file());
		cr_expect_eq(boot_it(&m, &config).kernel_start, rows[i].gpa);
		cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), rows[i].gpa, code,
						sizeof(code)),
			     0);
		cr_assert_arr_eq(code, guest_code, sizeof(code));
		cr_assert_eq(impost_vcpu_get_sregs(m.vcpus[0], &sregs), 0);
		if (rows[i].cs)
			cr_expect_eq(sregs.cs.selector, rows[i].cs);
		assert_runs(&m);
		close(config.kernel_fd);
		machine_free(&m);
	}
}

/* 5 levels where the CPU has them; refused where it has not. */
Test(modes, five_levels)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());
	static const char ini[] = "[template]\nname = no-la57\n[cpuid]\nLA57 = clear\n";
	struct impost_x86_template *no_la57;
	struct impost_x86_sregs sregs;

	config.paging_levels = 5;
	boot_it(&m, &config);
	cr_assert_eq(impost_vcpu_get_sregs(m.vcpus[0], &sregs), 0);
	cr_expect(sregs.cr4 & 1u << 12);
	cr_assert_eq(impost_x86_template_load_buffer(m.ctx, "ini", ini, strlen(ini), &no_la57), 0,
		     "%s", impost_error(m.ctx));
	config.cpu_template = no_la57;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), ENOTSUP, "LA57");
	config.paging_levels = 3;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), EINVAL, "3");
	config.paging_levels = 4;
	boot_it(&m, &config);
	assert_runs(&m);
	impost_x86_template_free(no_la57);
	close(config.kernel_fd);
	machine_free(&m);
}

/* --- sizes --- */

/* RAM of each size: the last page of it is mapped, and told of. */
static void has_ram(uint64_t bytes)
{
	struct machine m = machine_make(context_make("mock"), bytes, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, bz_file());
	uint64_t last = bytes <= IMPOST_X86_HOLE_START
				? bytes - 4096
				: bytes - IMPOST_X86_HOLE_START + IMPOST_X86_HOLE_END - 4096;
	uint64_t gpa = 0, told = 0;
	uint8_t count;
	struct boot_e820_entry entry;

	boot_it(&m, &config);
	cr_assert_eq(impost_vcpu_translate(m.vcpus[0], last, &gpa), 0, "%s", impost_error(m.ctx));
	cr_expect_eq(gpa, last);
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), IMPOST_X86_ZERO_PAGE_ADDR + 0x1e8,
					&count, 1),
		     0);
	for (uint8_t i = 0; i < count; i++) {
		cr_assert_eq(
			impost_memory_read(impost_vm_memory(m.vm),
					   IMPOST_X86_ZERO_PAGE_ADDR + 0x2d0 + i * sizeof(entry),
					   &entry, sizeof(entry)),
			0);
		told += entry.addr <= last && last < entry.addr + entry.size && entry.type == 1;
	}
	cr_expect_eq(told, 1u);
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

Test(modes, ram_of_16_mib)
{
	has_ram(16 * MIB);
}

Test(modes, ram_of_4_gib)
{
	has_ram(4 * GIB);
}

Test(modes, ram_of_1_tib)
{
	has_ram(1024 * GIB);
}

/* Every CPU has its APIC id, and above 254 needs x2APIC mode; the MP table cannot name those. */
static void has_cpus(const char *topology, uint32_t count, int x2apic, int mptable)
{
	struct impost_context *ctx = context_make("mock");
	struct impost_x86_boot_config config;
	struct impost_x86_boot_result result;
	struct machine m;

	if (topology)
		set_key(ctx, "cpu", "topology", topology);
	m = machine_make(ctx, 64 * MIB, IMPOST_IRQCHIP_DEFAULT, count);
	config = config_make(ctx, elf_file());
	result = boot_it(&m, &config);
	cr_expect_eq(!!(result.tables & IMPOST_X86_TABLE_MP), mptable);
	cr_expect(result.tables & IMPOST_X86_TABLE_SMBIOS);
	for (uint32_t i = 0; i < count; i++) {
		struct impost_x86_sregs sregs;
		struct impost_x86_lapic lapic;
		uint32_t id;

		cr_assert_eq(impost_vcpu_get_sregs(m.vcpus[i], &sregs), 0);
		get_section(m.vcpus[i], IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic));
		memcpy(&id, lapic.regs + 0x20, sizeof(id));
		cr_assert_eq(sregs.apic_base >> 10 & 1, (uint64_t)x2apic, "vCPU %u", i);
		cr_assert_eq(x2apic ? id : id >> 24, impost_vcpu_id(m.vcpus[i]), "vCPU %u", i);
		cr_assert_eq(leaf_of(m.vcpus[i], 0xb, 0).edx, impost_vcpu_id(m.vcpus[i]));
		assert_runstate(m.vcpus[i], i ? IMPOST_X86_WAIT_FOR_SIPI : IMPOST_X86_RUNNING);
	}
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

Test(modes, cpus_300)
{
	has_cpus(NULL, 300, 1, 0);
}

/* 3 cores have 2 bits: the ids have gaps. */
Test(modes, cpus_with_gaps)
{
	has_cpus("2:1:3:2", 12, 0, 1);
}

Test(modes, cpus_254)
{
	has_cpus(NULL, 254, 0, 1);
}

/* No id below 255 is left for the MP table's I/O APIC. */
Test(modes, cpus_255)
{
	has_cpus(NULL, 255, 0, 0);
}

Test(modes, cpus_256)
{
	has_cpus(NULL, 256, 1, 0);
}
