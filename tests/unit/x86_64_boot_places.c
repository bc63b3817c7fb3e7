/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where impost_x86_boot() puts things, on the mock: what may not lie over what, what the host is
 * told of it, and which tables there are.
 */
#include "boot_machine.h"

/* What lies at WHAT in LAYOUT; bytes 0 if nothing does. */
static struct impost_x86_place place_of(const struct impost_x86_layout *layout, const char *what)
{
	for (uint32_t i = 0; i < layout->count; i++)
		if (!strcmp(layout->place[i].what, what))
			return layout->place[i];
	return (struct impost_x86_place){0};
}

/* A machine without devices. */
static const struct impost_x86_acpi_config bare = {.size = sizeof(bare), .hw_reduced = 1};

/* --- overlaps --- */

/* A flat binary at an address, or a place of the host's, that is taken already, and by whom. */
static const struct overlap {
	const char *mode;
	uint64_t address; /* of the binary; 0: where it goes by itself */
	uint64_t place;	  /* of the host's; 0: none */
	const char *words[2];
} overlaps[] = {
	{"long", 0x510, 0, {"kernel", "GDT, IDT and TSS"}},
	{"protected", 0x580, 0, {"kernel", "GDT, IDT and TSS"}},
	{"long", 0x6ffe, 0, {"kernel", "PVH start info"}},
	{"long", 0x8fe0, 0, {"kernel", "boot stack"}},
	{"protected", 0x1fffe, 0, {"kernel", "command line"}},
	{"long", 0x9010, 0, {"kernel", "page tables"}},
	{"real", 0x20000, 0x20000, {"kernel", "host's own"}},
	{"long", 0xe0000, 0, {"kernel", "ACPI tables"}},
	{"long", 0xf0000, 0, {"kernel", "MP table"}},
	{"long", 0xf4000, 0, {"kernel", "SMBIOS"}},
	{"long", 0, 0x500, {"host's own", "GDT, IDT and TSS"}},
	{"long", 0, 0x6000, {"host's own", "PVH start info"}},
	{"long", 0, 0x20000, {"host's own", "command line"}},
	{"long", 0, 0x100000, {"host's own", "kernel"}},
	{"long", 0, 0xe0000, {"host's own", "ACPI tables"}},
	{"long", 0, 0xf0000, {"host's own", "MP table"}},
	{"long", 0, 0xf4000, {"host's own", "SMBIOS"}},
};

static void check_overlap(struct machine *m, const struct overlap *overlap, int fd)
{
	struct impost_x86_layout layout, before;
	struct impost_x86_boot_config config = config_make(m->ctx, fd);
	int err;

	memset(&layout, 0, sizeof(layout));
	impost_x86_layout_init(&layout);
	if (overlap->place)
		cr_assert_eq(impost_x86_layout_claim(m->ctx, &layout, "host's own", overlap->place,
						     1, IMPOST_X86_E820_RESERVED),
			     0);
	before = layout;
	config.protocol = IMPOST_X86_PROTOCOL_FLAT;
	cr_assert_eq(impost_x86_mode_from_name(overlap->mode, &config.mode), 0);
	config.address = overlap->address;
	config.acpi = &bare;
	config.layout = &layout;
	err = impost_x86_boot(m->vm, m->vcpus, m->count, &config, NULL);
	cr_expect_eq(err, -EEXIST, "%s: %d %s", overlap->words[1], err, impost_error(m->ctx));
	for (size_t i = 0; i < 2; i++)
		cr_expect(strstr(impost_error(m->ctx), overlap->words[i]), "\"%s\" lacks \"%s\"",
			  impost_error(m->ctx), overlap->words[i]);
	cr_expect_arr_eq(&layout, &before, sizeof(layout), "the host's layout was changed");
}

/* Both sides are named, and the VM is good for the next boot. */
Test(places, overlaps)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	struct impost_x86_boot_config config;
	int fd = flat_file();

	for (size_t i = 0; i < sizeof(overlaps) / sizeof(overlaps[0]); i++)
		check_overlap(&m, &overlaps[i], fd);
	config = config_make(m.ctx, fd);
	config.protocol = IMPOST_X86_PROTOCOL_FLAT;
	boot_it(&m, &config);
	assert_runs(&m);
	close(fd);
	machine_free(&m);
}

/* What can move does: initrd and page tables go around the host's places. */
Test(places, the_host_is_told_where_everything_is)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	struct impost_x86_boot_config config = config_make(m.ctx, bz_file());
	struct impost_x86_boot_result result;
	struct impost_x86_layout layout;

	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_layout_claim(m.ctx, &layout, "high", 15 * MIB, MIB,
					     IMPOST_X86_E820_RESERVED),
		     0);
	config.initrd_fd = file_make("initrd", 6);
	config.acpi = &bare;
	config.layout = &layout;
	result = boot_it(&m, &config);
	cr_expect_eq(place_of(&layout, "initrd").gpa, 15 * MIB - 4096);
	cr_expect_eq(result.initrd_gpa, 15 * MIB - 4096);
	cr_expect_eq(result.initrd_bytes, 6u);
	cr_expect_eq(place_of(&layout, "kernel").gpa, BZ_START);
	cr_expect_eq(result.kernel_start, BZ_START);
	cr_expect_eq(result.kernel_end, BZ_START + BZ_INIT_SIZE);
	cr_expect_eq(place_of(&layout, "zero page").gpa, IMPOST_X86_ZERO_PAGE_ADDR);
	cr_expect_eq(place_of(&layout, "page tables").gpa, result.cr3);
	cr_expect_eq(place_of(&layout, "ACPI tables").gpa, result.rsdp);
	cr_expect_eq(place_of(&layout, "MP table").gpa, IMPOST_X86_MPTABLE_ADDR);
	cr_expect_eq(place_of(&layout, "SMBIOS").gpa, IMPOST_X86_SMBIOS_ADDR);
	for (uint32_t i = 1; i < layout.count; i++)
		cr_expect_leq(layout.place[i - 1].gpa + layout.place[i - 1].bytes,
			      layout.place[i].gpa);
	close(config.initrd_fd);
	close(config.kernel_fd);
	machine_free(&m);
}

/* --- tables --- */

#define ALL_TABLES (IMPOST_X86_TABLE_ACPI | IMPOST_X86_TABLE_MP | IMPOST_X86_TABLE_SMBIOS)

static void assert_text(struct machine *m, uint64_t gpa, const char *text)
{
	char got[16] = {0};

	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), gpa, got, strlen(text)), 0);
	cr_expect_str_eq(got, text);
}

/* The type that the zero page's e820 map has at GPA. */
static uint32_t e820_type(struct machine *m, uint64_t gpa)
{
	struct boot_params params;

	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), IMPOST_X86_ZERO_PAGE_ADDR, &params,
					sizeof(params)),
		     0);
	for (uint8_t i = 0; i < params.e820_entries; i++) {
		const struct boot_e820_entry *entry = &params.e820_table[i];

		if (gpa >= entry->addr && gpa < entry->addr + entry->size)
			return entry->type;
	}
	return 0;
}

Test(places, tables_are_where_a_guest_looks)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	struct impost_x86_boot_config config = config_make(m.ctx, bz_file());
	struct impost_x86_boot_result result;

	config.acpi = &bare;
	result = boot_it(&m, &config);
	cr_expect_eq(result.tables, ALL_TABLES);
	assert_text(&m, result.rsdp, "RSD PTR ");
	assert_text(&m, IMPOST_X86_MPTABLE_ADDR, "_MP_");
	assert_text(&m, IMPOST_X86_SMBIOS_ADDR, "_SM3_");
	cr_expect_eq(e820_type(&m, result.rsdp), IMPOST_X86_E820_RESERVED);
	close(config.kernel_fd);
	machine_free(&m);
}

/* Which tables there are in a VM with one interrupt controller or another, for a host that says
 * what it has, or that does not. */
Test(places, tables_that_are_right)
{
	static const struct impost_x86_acpi_config with_ioapic = {
		.size = sizeof(with_ioapic), .hw_reduced = 1, .has_ioapic = 1};
	static const struct {
		uint32_t irqchip, cpus;
		const struct impost_x86_acpi_config *acpi;
		uint32_t tables;
	} rows[] = {
		{IMPOST_IRQCHIP_FULL, 2, NULL, IMPOST_X86_TABLE_MP},
		{IMPOST_IRQCHIP_FULL, 2, &bare, IMPOST_X86_TABLE_MP | IMPOST_X86_TABLE_ACPI},
		{IMPOST_IRQCHIP_FULL, 256, NULL, IMPOST_X86_TABLE_ACPI},
		{IMPOST_IRQCHIP_LAPIC, 2, NULL, IMPOST_X86_TABLE_ACPI},
		{IMPOST_IRQCHIP_LAPIC, 2, &bare, IMPOST_X86_TABLE_ACPI},
		{IMPOST_IRQCHIP_LAPIC, 2, &with_ioapic,
		 IMPOST_X86_TABLE_MP | IMPOST_X86_TABLE_ACPI},
		{IMPOST_IRQCHIP_NONE, 2, NULL, 0},
		{IMPOST_IRQCHIP_NONE, 2, &bare, IMPOST_X86_TABLE_ACPI},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct machine m =
			machine_make(context_make("mock"), 16 * MIB, rows[i].irqchip, rows[i].cpus);
		struct impost_x86_boot_config config = config_make(m.ctx, bz_file());

		config.acpi = rows[i].acpi;
		cr_expect_eq(boot_it(&m, &config).tables, rows[i].tables | IMPOST_X86_TABLE_SMBIOS,
			     "row %zu", i);
		close(config.kernel_fd);
		machine_free(&m);
	}
}

/* The I/O APIC's id in the MADT, and in the MP table. */
static void ioapic_ids(struct machine *m, uint8_t *ret_madt, uint8_t *ret_mp)
{
	static uint8_t area[0x20000];
	const uint8_t *madt, *mp = area + (IMPOST_X86_MPTABLE_ADDR - IMPOST_X86_ACPI_ADDR);

	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), IMPOST_X86_ACPI_ADDR, area,
					sizeof(area)),
		     0);
	madt = memmem(area, 0x10000, "APIC", 4);
	cr_assert_not_null(madt);
	madt += 44;
	while (*madt != 1)
		madt += madt[1];
	*ret_madt = madt[2];
	mp += 16 + 44;
	while (*mp != 2)
		mp += *mp == 0 ? 20 : 8;
	*ret_mp = mp[1];
}

/* It is one, and no CPU's: the lowest that is free, or the host's. */
Test(places, the_io_apic_has_one_id)
{
	struct impost_x86_acpi_config acpi = bare;
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 3);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());
	uint8_t madt, mp;

	config.acpi = &acpi;
	boot_it(&m, &config);
	ioapic_ids(&m, &madt, &mp);
	cr_expect(madt == 3 && mp == 3, "%u in the MADT, %u in the MP table", madt, mp);
	acpi.ioapic_id = 9;
	boot_it(&m, &config);
	ioapic_ids(&m, &madt, &mp);
	cr_expect(madt == 9 && mp == 9, "%u in the MADT, %u in the MP table", madt, mp);
	acpi.ioapic_id = 2;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 3, &config, NULL), EINVAL,
		       "I/O APIC id 2 is a CPU's");
	close(config.kernel_fd);
	machine_free(&m);
}

/* The structs are of another release, not of any size. */
Test(places, descriptions_of_another_size)
{
	struct {
		struct impost_x86_acpi_config known;
		uint64_t later;
	} acpi = {.known = bare, .later = ~UINT64_C(0)};
	struct {
		struct impost_x86_smbios_config known;
		uint64_t later;
	} smbios = {.later = ~UINT64_C(0)};
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());

	config.acpi = &acpi.known;
	config.smbios = &smbios.known;
	acpi.known.size = sizeof(acpi);
	smbios.known.size = sizeof(smbios);
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), E2BIG,
		       "impost_x86_acpi_config asks for something");
	acpi.later = 0;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), E2BIG,
		       "impost_x86_smbios_config asks for something");
	smbios.later = 0;
	boot_it(&m, &config);
	acpi.known.size = UINT32_MAX;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), EINVAL,
		       "impost_x86_acpi_config has size 4294967295");
	acpi.known.size = sizeof(acpi);
	smbios.known.size = UINT32_MAX;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), EINVAL,
		       "impost_x86_smbios_config has size 4294967295");
	smbios.known.size = 8;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), EINVAL,
		       "impost_x86_smbios_config has size 8");
	close(config.kernel_fd);
	machine_free(&m);
}

Test(places, tables_that_are_not_wanted)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	struct impost_x86_boot_config config = config_make(m.ctx, bz_file());
	struct impost_x86_boot_result result;
	uint8_t byte;

	config.without = IMPOST_X86_TABLE_ACPI | IMPOST_X86_TABLE_MP | IMPOST_X86_TABLE_SMBIOS;
	result = boot_it(&m, &config);
	cr_expect_eq(result.tables, 0u);
	cr_expect_eq(result.rsdp, 0u);
	for (uint64_t gpa = IMPOST_X86_ACPI_ADDR; gpa < MIB; gpa++) {
		cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), gpa, &byte, 1), 0);
		cr_assert_eq(byte, 0, "at %#llx", (unsigned long long)gpa);
	}
	config.without = 8;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 2, &config, NULL), EINVAL, "0x8");
	close(config.kernel_fd);
	machine_free(&m);
}

/* Tables that are too many for the BIOS area lie in high RAM, and the e820 map says so. */
Test(places, many_acpi_tables)
{
	static struct {
		char signature[4];
		uint32_t bytes;
		uint8_t rest[70000];
	} ssdt = {.signature = {'S', 'S', 'D', 'T'}, .bytes = sizeof(ssdt)};
	const struct impost_x86_acpi_table table = {.data = &ssdt, .bytes = sizeof(ssdt)};
	const struct impost_x86_acpi_config acpi = {
		.size = sizeof(acpi), .hw_reduced = 1, .tables = &table, .ntables = 1};
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	struct impost_x86_boot_config config = config_make(m.ctx, bz_file());
	struct impost_x86_layout layout;
	struct impost_x86_place place;

	impost_x86_layout_init(&layout);
	config.acpi = &acpi;
	config.layout = &layout;
	boot_it(&m, &config);
	place = place_of(&layout, "ACPI tables");
	cr_expect_geq(place.gpa, MIB);
	cr_expect_geq(place.bytes, sizeof(ssdt));
	cr_expect_eq(e820_type(&m, place.gpa), IMPOST_X86_E820_ACPI);
	cr_expect_eq(place_of(&layout, "ACPI RSDP").gpa, IMPOST_X86_ACPI_ADDR);
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

/* So does SMBIOS with a processor for each of many sockets, but for its entry point. */
Test(places, many_sockets)
{
	struct impost_context *ctx = context_make("mock");
	struct machine m = machine_make(ctx, 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 700);
	struct impost_x86_boot_config config = config_make(ctx, bz_file());
	struct impost_x86_layout layout;
	struct impost_x86_place place;
	uint64_t table;

	set_key(ctx, "cpu", "topology", "700:1:1:1");
	impost_x86_layout_init(&layout);
	config.layout = &layout;
	boot_it(&m, &config);
	place = place_of(&layout, "SMBIOS");
	cr_expect_geq(place.gpa, MIB);
	cr_expect_gt(place.bytes, IMPOST_X86_SMBIOS_MAX);
	cr_expect_eq(e820_type(&m, place.gpa), IMPOST_X86_E820_RESERVED);
	cr_expect_eq(place_of(&layout, "SMBIOS entry point").gpa, IMPOST_X86_SMBIOS_ADDR);
	assert_text(&m, IMPOST_X86_SMBIOS_ADDR, "_SM3_");
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), IMPOST_X86_SMBIOS_ADDR + 16, &table,
					sizeof(table)),
		     0);
	cr_expect_gt(table, place.gpa);
	cr_expect_lt(table, place.gpa + place.bytes);
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

/* What the host gives must go with what is filled in. */
Test(places, acpi_that_cannot_be)
{
	struct impost_x86_acpi_config acpi = bare;
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());

	config.acpi = &acpi;
	acpi.cpus = 3;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 2, &config, NULL), EINVAL, "3 CPUs");
	acpi.cpus = 0;
	acpi.noverrides = 1;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 2, &config, NULL), EINVAL, "at NULL");
	acpi.noverrides = 0;
	acpi.size = 8;
	cr_expect_eq(impost_x86_boot(m.vm, m.vcpus, 2, &config, NULL), -EINVAL);
	acpi.size = sizeof(acpi);
	boot_it(&m, &config);
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

/* --- MTRRs --- */

/* The uncached range begins where RAM ends below 4 GiB, on all CPUs: a host may have a hole of its
 * own. */
Test(places, memory_types_follow_the_ram)
{
	static const struct {
		uint64_t ram, hole;
	} rows[] = {{16 * MIB, IMPOST_X86_HOLE_START}, {3 * GIB, 3 * GIB}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct machine m =
			machine_make(context_make("mock"), 4096, IMPOST_IRQCHIP_DEFAULT, 2);
		struct impost_region region = {.size = sizeof(region),
					       .gpa = 4096,
					       .bytes = rows[i].ram - 4096,
					       .flags = IMPOST_REGION_NORESERVE};
		struct impost_x86_boot_config config = config_make(m.ctx, elf_file());

		cr_assert_eq(impost_memory_add(impost_vm_memory(m.vm), &region), 0, "%s",
			     impost_error(m.ctx));
		boot_it(&m, &config);
		for (uint32_t cpu = 0; cpu < 2; cpu++) {
			struct impost_x86_msr msrs[] = {{.index = 0x200}, {.index = 0x2ff}};

			cr_assert_eq(impost_vcpu_get_msrs(m.vcpus[cpu], msrs, 2, NULL), 0);
			cr_expect_eq(msrs[0].value, rows[i].hole, "row %zu: %#llx", i,
				     (unsigned long long)msrs[0].value);
			cr_expect_eq(msrs[1].value, 0xc06u);
		}
		close(config.kernel_fd);
		machine_free(&m);
	}
}

/* --- templates --- */

static struct impost_x86_template *template_make(struct impost_context *ctx, const char *ini)
{
	struct impost_x86_template *made;

	cr_assert_eq(impost_x86_template_load_buffer(ctx, "ini", ini, strlen(ini), &made), 0, "%s",
		     impost_error(ctx));
	return made;
}

/* A feature is hidden from every vCPU; what the backend lacks is refused before any is touched. */
Test(places, templates)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 2);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());
	struct impost_x86_template *good, *bad, *bad_msr;

	good = template_make(m.ctx, "[template]\nname = good\n[cpuid]\nAVX = clear\n");
	bad = template_make(m.ctx, "[template]\nname = bad\n[cpuid]\nAVX512F = set\n");
	bad_msr = template_make(m.ctx, "[template]\nname = bad\n[msr]\n"
				       "IA32_ARCH_CAPABILITIES.RDCL_NO = set\n");
	config.cpu_template = bad;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 2, &config, NULL), ENOTSUP, "AVX512F");
	cr_expect(leaf_of(m.vcpus[0], 1, 0).ecx >> 28 & 1, "AVX is still there");
	config.cpu_template = bad_msr;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 2, &config, NULL), ENOTSUP,
		       "IA32_ARCH_CAPABILITIES");
	config.cpu_template = good;
	config.brand = "Impost CPU";
	boot_it(&m, &config);
	for (uint32_t i = 0; i < 2; i++) {
		struct impost_x86_cpuid brand = leaf_of(m.vcpus[i], 0x80000002, 0);

		cr_expect_eq(leaf_of(m.vcpus[i], 1, 0).ecx >> 28 & 1, 0u, "AVX");
		cr_expect(!memcmp(&brand.eax, "Impost CPU", 10));
	}
	assert_runs(&m);
	impost_x86_template_free(good);
	impost_x86_template_free(bad);
	impost_x86_template_free(bad_msr);
	close(config.kernel_fd);
	machine_free(&m);
}

/* One that the backend has but does not list, and that is read-only, is refused, not left out. */
Test(places, an_msr_of_a_template_that_a_vcpu_refuses)
{
	struct machine m = machine_make(context_make("kvm"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());
	struct impost_x86_template *same, *other;

	same = template_make(m.ctx, "[msr]\nIA32_MTRRCAP = pass\n");
	other = template_make(m.ctx, "[template]\nname = odd\n[msr]\nIA32_MTRRCAP = 0x501\n");
	config.cpu_template = other;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), IMPOST_ESTATE,
		       "CPU template odd: vCPU 0 cannot have IA32_MTRRCAP = 0x501: ");
	config.cpu_template = same;
	boot_it(&m, &config);
	impost_x86_template_free(same);
	impost_x86_template_free(other);
	close(config.kernel_fd);
	machine_free(&m);
}

/* A CPU that cannot enter the kernel, or reach the memory, and the words that say so. */
static const struct {
	const char *ini;
	uint64_t ram;
	uint32_t mode; /* of a flat binary */
	const char *words;
} small_cpus[] = {
	{"LM = clear", 16 * MIB, IMPOST_X86_MODE_LONG, "in long mode, and the CPU has no LM"},
	{"LM = clear", 16 * MIB, IMPOST_X86_MODE_PROTECTED, NULL},
	{"PAE = clear", 16 * MIB, IMPOST_X86_MODE_LONG, "in long mode, and the CPU has no "},
	{"PAE = clear", 16 * MIB, IMPOST_X86_MODE_REAL, NULL},
	{"MSR = clear", 16 * MIB, IMPOST_X86_MODE_LONG, "in long mode, and the CPU has no MSR"},
	{"PHYS_ADDR_BITS = 0", 16 * MIB, IMPOST_X86_MODE_LONG, "PHYS_ADDR_BITS = 0"},
	{"PHYS_ADDR_BITS = 31", 16 * MIB, IMPOST_X86_MODE_REAL,
	 "up to 0xffffffff, which takes 32 bits of address, and the CPU has PHYS_ADDR_BITS = 31"},
	{"PHYS_ADDR_BITS = 32", 16 * MIB, IMPOST_X86_MODE_LONG, NULL},
	{"PHYS_ADDR_BITS = 32", 4 * GIB, IMPOST_X86_MODE_PROTECTED,
	 "takes 33 bits of address, and the CPU has PHYS_ADDR_BITS = 32"},
	{"PHYS_ADDR_BITS = 36", 64 * GIB, IMPOST_X86_MODE_LONG, "takes 37 bits"},
	{"PHYS_ADDR_BITS = 36", 62 * GIB, IMPOST_X86_MODE_LONG, NULL},
	{"MAX_EXT_LEAF = 0x80000007", 62 * GIB, IMPOST_X86_MODE_LONG, NULL},
	{"MAX_EXT_LEAF = 0x80000007", 64 * GIB, IMPOST_X86_MODE_LONG, "PHYS_ADDR_BITS = 36"},
};

Test(places, templates_that_leave_too_little)
{
	for (size_t i = 0; i < sizeof(small_cpus) / sizeof(small_cpus[0]); i++) {
		struct machine m = machine_make(context_make("mock"), small_cpus[i].ram,
						IMPOST_IRQCHIP_DEFAULT, 1);
		struct impost_x86_boot_config config = config_make(m.ctx, flat_file());
		struct impost_x86_template *tmpl;
		char ini[128];

		snprintf(ini, sizeof(ini), "[template]\nname = small\n[cpuid]\n%s\n",
			 small_cpus[i].ini);
		tmpl = template_make(m.ctx, ini);
		config.cpu_template = tmpl;
		config.protocol = IMPOST_X86_PROTOCOL_FLAT;
		config.mode = small_cpus[i].mode;
		if (small_cpus[i].words) {
			assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL),
				       ENOTSUP, small_cpus[i].words);
			cr_expect(strstr(impost_error(m.ctx), ": see CPU template small"));
			config.cpu_template = NULL;
		}
		boot_it(&m, &config);
		impost_x86_template_free(tmpl);
		close(config.kernel_fd);
		machine_free(&m);
	}
}

/* A name is that of a shipped template, or a file's. */
Test(places, templates_by_name)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());

	config.template_name = "x86-64-v1";
	boot_it(&m, &config);
	cr_expect_eq(leaf_of(m.vcpus[0], 1, 0).ecx >> 20 & 1, 0u, "SSE4.2 is not of level 1");
	config.template_name = "nosuch";
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), ENOENT, "nosuch");
	config.template_name = "/nosuch.ini";
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), ENOENT, "nosuch.ini");
	close(config.kernel_fd);
	machine_free(&m);
}

/* --- what is given --- */

/* vCPUs must be those of the topology, one by one. */
Test(places, ids_must_be_the_topologys)
{
	struct impost_context *ctx = context_make("mock");
	struct impost_x86_boot_config config;
	struct impost_x86_topology topology;
	struct machine m = machine_make(ctx, 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 6);

	config = config_make(ctx, elf_file());
	cr_assert_eq(impost_x86_topology_parse(ctx, "2:1:3:1", &topology), 0);
	config.topology = &topology;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 6, &config, NULL), EINVAL,
		       "vCPU number 3 has id 3, but in topology 2:1:3:1 its APIC id is 4");
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 5, &config, NULL), EINVAL, "5");
	set_key(ctx, "cpu", "topology", "1:1:5:1");
	config.topology = NULL;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 6, &config, NULL), EINVAL, "6");
	set_key(ctx, "cpu", "topology", "1:1:3:2");
	boot_it(&m, &config);
	close(config.kernel_fd);
	machine_free(&m);
}

Test(places, null_is_refused)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, elf_file());

	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, NULL, NULL), EINVAL, "NULL");
	assert_refused(&m, impost_x86_boot(m.vm, NULL, 1, &config, NULL), EINVAL, "no vCPU");
	boot_it(&m, &config);
	close(config.kernel_fd);
	machine_free(&m);
}

/* A binary in real mode cannot be told of what goes into a block of information. */
Test(places, real_mode_has_no_block_of_information)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, flat_file());

	config.protocol = IMPOST_X86_PROTOCOL_FLAT;
	config.mode = IMPOST_X86_MODE_REAL;
	config.cmdline = "quiet";
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), EINVAL,
		       "command line");
	config.cmdline = NULL;
	config.initrd_fd = config.kernel_fd;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config, NULL), EINVAL, "initrd");
	config.initrd_fd = -1;
	cr_expect_eq(boot_it(&m, &config).info, 0u);
	assert_runs(&m);
	close(config.kernel_fd);
	machine_free(&m);
}

/* Configuration and result may be those of another release: shorter, or longer. */
Test(places, structs_of_another_release)
{
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct {
		struct impost_x86_boot_config known;
		uint64_t later;
	} config = {.known = config_make(m.ctx, elf_file()), .later = 1};
	struct {
		struct impost_x86_boot_result known;
		uint64_t later;
	} result = {.later = ~UINT64_C(0)};
	struct impost_x86_layout layout;

	config.known.size = offsetof(struct impost_x86_boot_config, reserved);
	result.known.size = sizeof(result);
	cr_assert_eq(impost_x86_boot(m.vm, m.vcpus, 1, &config.known, &result.known), 0, "%s",
		     impost_error(m.ctx));
	cr_expect_eq(result.known.size, sizeof(result));
	cr_expect_eq(result.known.entry, ELF_TEXT + 0x10);
	cr_expect_eq(result.later, 0u);
	config.known.size = sizeof(config);
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config.known, &result.known), E2BIG,
		       "impost_x86_boot_config asks for something");
	config.later = 0;
	result.known.size = offsetof(struct impost_x86_boot_result, info);
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config.known, &result.known), EINVAL,
		       "impost_x86_boot_result has size");
	config.known.reserved = 7;
	result.known.size = sizeof(result.known);
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config.known, &result.known), EINVAL,
		       "reserved is 7");
	config.known.reserved = 0;
	impost_x86_layout_init(&layout);
	layout.count = IMPOST_X86_PLACES_MAX + 1;
	config.known.layout = &layout;
	assert_refused(&m, impost_x86_boot(m.vm, m.vcpus, 1, &config.known, &result.known), EINVAL,
		       "a layout of size");
	layout.count = 0;
	cr_assert_eq(impost_x86_boot(m.vm, m.vcpus, 1, &config.known, &result.known), 0, "%s",
		     impost_error(m.ctx));
	cr_expect_neq(layout.count, 0u);
	assert_runs(&m);
	close(config.known.kernel_fd);
	machine_free(&m);
}
