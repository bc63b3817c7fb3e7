/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of impost_x86_boot() share: a VM with vCPUs and RAM on one backend, and guests. */
#ifndef TESTS_UNIT_BOOT_MACHINE_H
#define TESTS_UNIT_BOOT_MACHINE_H

#include "x86_64.h"

#include <stdio.h>
#include <stdlib.h>

#include <impost/x86_64/boot.h>

/* mov $0x5a,%al; out %al,$0x80; hlt: the same bytes in all modes. */
static const uint8_t guest_code[] = {0xb0, 0x5a, 0xe6, 0x80, 0xf4};

struct machine {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu **vcpus;
	uint32_t count;
};

static inline void set_key(struct impost_context *ctx, const char *section, const char *key,
			   const char *value)
{
	cr_assert_eq(impost_context_set(ctx, section, key, value), 0, "%s", impost_error(ctx));
}

/* A context that knows the plugins; skips the test where BACKEND cannot run. */
static inline struct impost_context *context_make(const char *backend)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_context *ctx;
	char why[512];

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	set_key(ctx, "impost", "plugin_dir", PLUGIN_DIR);
	set_key(ctx, "impost", "backend", backend);
	if (!strcmp(backend, "mock"))
		set_key(ctx, "backend.mock", "script", SCRIPT);
	if (impost_backend_probe(ctx, backend, &caps) < 0) {
		cr_assert_str_neq(backend, "mock", "%s", impost_error(ctx));
		snprintf(why, sizeof(why), "%s", impost_error(ctx));
		impost_context_close(ctx);
		cr_skip_test("%s", why);
	}
	return ctx;
}

/* COUNT vCPUs, whose ids are those of `[cpu] topology` of CTX, and BYTES of RAM. */
static inline struct machine machine_make(struct impost_context *ctx, uint64_t bytes,
					  uint32_t irqchip, uint32_t count)
{
	struct machine m = {.ctx = ctx, .count = count};
	struct impost_x86_topology topology;
	struct impost_vm_config config;

	cr_assert_eq(impost_vm_config_init(ctx, &config), 0);
	config.cpus = count;
	config.irqchip = irqchip;
	cr_assert_eq(impost_vm_create(ctx, &config, &m.vm), 0, "%s", impost_error(ctx));
	cr_assert_eq(impost_x86_add_ram(impost_vm_memory(m.vm), bytes), 0, "%s", impost_error(ctx));
	cr_assert_eq(impost_x86_boot_topology(ctx, count, &topology), 0, "%s", impost_error(ctx));
	m.vcpus = calloc(count, sizeof(*m.vcpus));
	for (uint32_t i = 0; i < count; i++)
		cr_assert_eq(impost_vcpu_create(m.vm, impost_x86_apic_id(&topology, i),
						&m.vcpus[i]),
			     0, "%s", impost_error(ctx));
	return m;
}

static inline void machine_free(struct machine *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		cr_assert_eq(impost_vcpu_destroy(m->vcpus[i]), 0);
	free(m->vcpus);
	cr_assert_eq(impost_vm_destroy(m->vm), 0);
	cr_assert_eq(impost_context_close(m->ctx), 0);
}

static inline struct impost_x86_boot_config config_make(struct impost_context *ctx, int kernel_fd)
{
	struct impost_x86_boot_config config;

	impost_x86_boot_config_init(ctx, &config);
	cr_assert_eq(config.kernel_fd, -1);
	cr_assert_eq(config.initrd_fd, -1);
	config.kernel_fd = kernel_fd;
	return config;
}

/* Boots as CONFIG says, which must work. */
static inline struct impost_x86_boot_result boot_it(struct machine *m,
						    const struct impost_x86_boot_config *config)
{
	struct impost_x86_boot_result result = {.size = sizeof(result)};

	cr_assert_eq(impost_x86_boot(m->vm, m->vcpus, m->count, config, &result), 0, "%s",
		     impost_error(m->ctx));
	return result;
}

static inline void get_section(struct impost_vcpu *vcpu, uint32_t section, void *buf,
			       uint32_t capacity)
{
	uint32_t bytes;

	cr_assert_eq(impost_vcpu_get(vcpu, section, buf, capacity, &bytes), 0, "%s",
		     impost_error(impost_vm_context(impost_vcpu_vm(vcpu))));
}

static inline void assert_runstate(struct impost_vcpu *vcpu, uint32_t want)
{
	struct impost_x86_runstate runstate;

	get_section(vcpu, IMPOST_SECTION_RUNSTATE, &runstate, sizeof(runstate));
	cr_assert_eq(runstate.state, want);
}

/* Leaf LEAF, sub-leaf SUBLEAF of VCPU's CPUID; all zero if there is none. */
static inline struct impost_x86_cpuid leaf_of(struct impost_vcpu *vcpu, uint32_t leaf,
					      uint32_t subleaf)
{
	static struct impost_x86_cpuid entries[512];
	const struct impost_x86_cpuid *found;
	uint32_t count;

	cr_assert_eq(impost_vcpu_get_cpuid(vcpu, entries, 512, &count), 0);
	found = impost_x86_cpuid_find(entries, count, leaf, subleaf);
	return found ? *found : (struct impost_x86_cpuid){0};
}

/* Runs the boot CPU to the guest's byte on port 0x80. */
static inline void assert_runs(struct machine *m)
{
	struct impost_exit exit;
	char text[256];

	cr_assert_eq(impost_vcpu_run(m->vcpus[0], &exit), 0, "%s", impost_error(m->ctx));
	impost_exit_format(&exit, text, sizeof(text));
	cr_assert_eq(exit.kind, IMPOST_EXIT_IO, "%s", text);
	cr_assert_eq(exit.u.io.port, 0x80);
	cr_assert_eq(exit.u.io.dir, IMPOST_EXIT_WRITE);
	cr_assert_eq(*(const uint8_t *)exit.u.io.data, 0x5a);
}

/* --- kernels whose entry is guest_code --- */

/* At START, with the code at both its 32-bit and its 64-bit entry. */
static inline int bz_file(void)
{
	struct bz bz = bz_make();

	memcpy(bz.bytes + BZ_SETUP_BYTES, guest_code, sizeof(guest_code));
	memcpy(bz.bytes + BZ_SETUP_BYTES + 0x200, guest_code, sizeof(guest_code));
	return file_make(&bz, sizeof(bz));
}

static inline int elf_file(void)
{
	struct elf elf = elf_make();

	memcpy(elf.text + 0x10, guest_code, sizeof(guest_code));
	return file_make(&elf, sizeof(elf));
}

/* The same with a PVH entry, at the code: XEN_ELFNOTE_PHYS32_ENTRY. */
static inline int pvh_file(void)
{
	struct {
		struct elf elf;
		Elf64_Phdr phdr[3];
		Elf64_Nhdr nhdr;
		char name[4];
		uint32_t entry;
	} __attribute__((packed)) pvh = {
		.elf = elf_make(),
		.nhdr = {.n_namesz = 4, .n_descsz = 4, .n_type = 18},
		.name = "Xen",
		.entry = (uint32_t)ELF_TEXT + 0x10,
	};
	const size_t note = offsetof(__typeof__(pvh), nhdr);

	memcpy(pvh.elf.text + 0x10, guest_code, sizeof(guest_code));
	memcpy(pvh.phdr, pvh.elf.phdr, sizeof(pvh.elf.phdr));
	pvh.phdr[2] = (Elf64_Phdr){.p_type = PT_NOTE,
				   .p_offset = note,
				   .p_filesz = sizeof(pvh) - note,
				   .p_memsz = sizeof(pvh) - note,
				   .p_align = 4};
	pvh.elf.ehdr.e_phoff = offsetof(__typeof__(pvh), phdr);
	pvh.elf.ehdr.e_phnum = 3;
	return file_make(&pvh, sizeof(pvh));
}

static inline int flat_file(void)
{
	return file_make(guest_code, sizeof(guest_code));
}

#endif
