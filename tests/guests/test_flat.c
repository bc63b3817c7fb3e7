/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flat binaries in real, protected and long mode, brought up step by step through the public
 * interface, on kvm and, by their scripts, on the mock. Each guest looks at its own registers.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#define MEMORY	   (UINT64_C(64) << 20)
#define PAGE_2M	   (UINT64_C(1) << 21)
#define PAGE_1G	   (UINT64_C(1) << 30)
#define CPUIDS	   256
#define LOG_BYTES  65536
#define SECONDS	   60 /* under emulation in the lab everything is slow */
#define COM1	   0x3f8
#define RESET_PORT 0x64
#define RESET	   0xfe

/* A guest's machine, and what came of it. */
struct machine {
	const char *backend;
	uint32_t mode;
	uint32_t id;
	struct impost_x86_paging paging; /* long mode; levels 0: what is chosen */
	char output[LOG_BYTES];
	char exits[LOG_BYTES];
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
	struct impost_x86_cpuid cpuid[CPUIDS];
	uint32_t ncpuid;
};

#define OK(m, call) cr_assert_eq((call), 0, #call ": %s", impost_error((m)->ctx))

static void append(char *log, const char *text, size_t bytes)
{
	size_t used = strlen(log);

	cr_assert(used + bytes < LOG_BYTES, "the guest says too much");
	memcpy(log + used, text, bytes);
	log[used + bytes] = '\0';
}

static int on_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	const struct impost_exit_io *io = &exit->u.io;
	const uint8_t *data = io->data;
	struct machine *m = opaque;
	char line[256];
	int length = impost_exit_format(exit, line, sizeof(line) - 1);

	(void)vcpu;
	cr_assert(length > 0 && (size_t)length < sizeof(line) - 1);
	line[length] = '\n';
	append(m->exits, line, (size_t)length + 1);
	cr_assert_eq(io->dir, (uint32_t)IMPOST_EXIT_WRITE, "%s", line);
	if (io->port == COM1)
		append(m->output, io->data, io->count);
	return io->port == RESET_PORT && *data == RESET;
}

/* --- the steps --- */

static void make(struct machine *m)
{
	struct impost_vm_config config;
	char script[512];

	cr_assert_eq(impost_context_open(NULL, NULL, &m->ctx), 0);
	OK(m, impost_context_set(m->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	snprintf(script, sizeof(script), "%s/flat_%s.script", SOURCE_DIR,
		 impost_x86_mode_name(m->mode));
	OK(m, impost_context_set(m->ctx, "backend.mock", "script", script));
	OK(m, impost_vm_config_init(m->ctx, &config));
	config.backend = m->backend;
	config.memory = MEMORY;
	OK(m, impost_vm_create(m->ctx, &config, &m->vm));
	OK(m, impost_x86_add_ram(impost_vm_memory(m->vm), MEMORY));
	OK(m, impost_vcpu_create(m->vm, m->id, &m->vcpu));
	OK(m, impost_vm_cpuid_supported(m->vm, m->cpuid, CPUIDS, &m->ncpuid));
	OK(m, impost_vcpu_set_cpuid(m->vcpu, m->cpuid, m->ncpuid));
}

/* Loads the guest, and says where it starts. */
static struct impost_x86_kernel load(struct machine *m, struct impost_x86_layout *layout)
{
	const struct impost_x86_kernel_want want = {
		.size = sizeof(want), .protocol = IMPOST_X86_PROTOCOL_FLAT, .mode = m->mode};
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/flat_%s.bin", GUEST_DIR, impost_x86_mode_name(m->mode));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0, "%s", path);
	OK(m, impost_x86_kernel_read(m->ctx, fd, &want, &kernel));
	OK(m, impost_x86_kernel_load(impost_vm_memory(m->vm), layout, fd, &kernel));
	close(fd);
	return kernel;
}

static void set_registers(struct machine *m, const struct impost_x86_kernel *kernel, uint64_t cr3)
{
	const struct impost_x86_runstate runs = {sizeof(runs), IMPOST_X86_RUNNING};
	struct impost_x86_lapic lapic;
	struct impost_x86_sregs sregs;
	struct impost_x86_regs regs;
	uint32_t bytes;

	OK(m, impost_vcpu_get_sregs(m->vcpu, &sregs));
	OK(m, impost_vcpu_get(m->vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &bytes));
	OK(m, impost_x86_setup_sregs(&sregs, m->mode, kernel->entry, &m->paging, cr3));
	impost_x86_setup_lapic(&lapic, m->id == 0);
	if (m->id > 254)
		impost_x86_setup_x2apic(&sregs, &lapic, m->id);
	impost_x86_setup_regs(&regs, kernel, IMPOST_X86_START_INFO_ADDR);
	OK(m, impost_vcpu_set_sregs(m->vcpu, &sregs));
	OK(m, impost_vcpu_set_regs(m->vcpu, &regs));
	OK(m, impost_vcpu_set(m->vcpu, IMPOST_SECTION_LAPIC, &lapic, bytes));
	OK(m, impost_vcpu_set(m->vcpu, IMPOST_SECTION_RUNSTATE, &runs, sizeof(runs)));
}

static void set_up(struct machine *m)
{
	struct impost_memory *memory = impost_vm_memory(m->vm);
	struct impost_x86_layout layout;
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	uint64_t cr3 = 0;

	impost_x86_layout_init(&layout);
	kernel = load(m, &layout);
	OK(m, impost_x86_write_gdt(memory, m->mode));
	if (!m->paging.levels) {
		m->paging.size = sizeof(m->paging);
		OK(m, impost_x86_paging_for(memory, m->cpuid, m->ncpuid, &m->paging));
	}
	if (m->mode == IMPOST_X86_MODE_LONG)
		OK(m, impost_x86_write_page_tables(memory, &layout, &m->paging, &cr3));
	set_registers(m, &kernel, cr3);
}

static void run(struct machine *m)
{
	const struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io};
	struct impost_exit exit;
	char line[512];

	OK(m, impost_vcpu_loop(m->vcpu, &handlers, m, &exit));
	impost_exit_format(&exit, line, sizeof(line));
	cr_assert_eq(exit.kind, (uint32_t)IMPOST_EXIT_IO,
		     "the guest ended with %s, having said: %s", line, m->output);
	OK(m, impost_vcpu_destroy(m->vcpu));
	OK(m, impost_vm_destroy(m->vm));
	OK(m, impost_context_close(m->ctx));
}

static void play(struct machine *m)
{
	make(m);
	set_up(m);
	run(m);
}

/* --- where it cannot be --- */

/* Skips the test, saying why, where kvm cannot run. */
static void need_kvm(void)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_context *ctx;
	char why[512] = "";

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	cr_assert_eq(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	if (impost_backend_probe(ctx, "kvm", &caps))
		snprintf(why, sizeof(why), "%s", impost_error(ctx));
	impost_context_close(ctx);
	if (*why)
		cr_skip_test("%s", why);
}

static int has(const struct machine *m, uint32_t leaf, int edx, uint32_t bit)
{
	for (uint32_t i = 0; i < m->ncpuid; i++) {
		if (m->cpuid[i].leaf == leaf && m->cpuid[i].subleaf == 0)
			return (edx ? m->cpuid[i].edx : m->cpuid[i].ecx) >> bit & 1;
	}
	return 0;
}

/* --- the tests --- */

TestSuite(flat, .timeout = SECONDS);

static const struct {
	uint32_t mode;
	const char *says;
} modes[] = {
	{IMPOST_X86_MODE_REAL, "Hello from real mode\n"},
	{IMPOST_X86_MODE_PROTECTED, "Hello from protected mode\n"},
	{IMPOST_X86_MODE_LONG, "Hello from long mode\n"},
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

/* The mock's checks of the entry let each in. */
Test(flat, each_mode_plays_on_the_mock)
{
	static struct machine m;

	for (size_t i = 0; i < MODES; i++) {
		m = (struct machine){.backend = "mock", .mode = modes[i].mode};
		play(&m);
		cr_assert_str_eq(m.output, modes[i].says);
	}
}

Test(flat, each_mode_runs_on_kvm)
{
	static struct machine m;

	need_kvm();
	for (size_t i = 0; i < MODES; i++) {
		m = (struct machine){.backend = "kvm", .mode = modes[i].mode};
		play(&m);
		cr_assert_str_eq(m.output, modes[i].says, "the guest says:\n%s", m.output);
	}
}

/* The scripts are true: whatever devices see of a guest on kvm they see of its script. */
Test(flat, each_mode_is_the_same_on_kvm_and_mock)
{
	static struct machine kvm, mock;

	need_kvm();
	for (size_t i = 0; i < MODES; i++) {
		kvm = (struct machine){.backend = "kvm", .mode = modes[i].mode};
		mock = (struct machine){.backend = "mock", .mode = modes[i].mode};
		play(&kvm);
		play(&mock);
		cr_assert_str_eq(kvm.exits, mock.exits, "on kvm:\n%s\non the mock:\n%s", kvm.exits,
				 mock.exits);
	}
}

/* Long mode with LEVELS levels and pages of PAGE_BYTES, where CPUID bit says that there are such.
 */
static void paging(uint32_t levels, uint64_t page_bytes, uint32_t leaf, int edx, uint32_t bit,
		   const char *lacks)
{
	static struct machine m;

	need_kvm();
	m = (struct machine){
		.backend = "kvm",
		.mode = IMPOST_X86_MODE_LONG,
		.paging = {sizeof(m.paging), levels, page_bytes, 2 * 4 * PAGE_1G},
	};
	make(&m);
	if (!has(&m, leaf, edx, bit))
		cr_skip_test("%s", lacks);
	set_up(&m);
	run(&m);
	cr_assert_str_eq(m.output, "Hello from long mode\n");
}

Test(flat, long_mode_with_pages_of_2_mib)
{
	paging(4, PAGE_2M, 0x80000001, 1, 29, "this CPU has no long mode");
}

Test(flat, long_mode_with_pages_of_1_gib)
{
	paging(4, PAGE_1G, 0x80000001, 1, 26, "this CPU has no 1 GiB pages");
}

Test(flat, long_mode_with_5_levels)
{
	paging(5, PAGE_2M, 7, 0, 16, "this CPU has no 5-level paging (LA57)");
}

/* The guest reads its id back: all 32 bits of it. */
Test(flat, an_apic_id_above_254)
{
	static struct machine m = {.backend = "kvm", .mode = IMPOST_X86_MODE_LONG, .id = 300};
	struct impost_caps caps = {.size = sizeof(caps)};
	char why[128] = "";

	need_kvm();
	cr_assert_eq(impost_context_open(NULL, NULL, &m.ctx), 0);
	OK(&m, impost_context_set(m.ctx, "impost", "plugin_dir", PLUGIN_DIR));
	OK(&m, impost_backend_probe(m.ctx, "kvm", &caps));
	if (!impost_caps_has(&caps, IMPOST_CAP_X2APIC_IDS) || caps.max_vcpu_id < m.id)
		snprintf(why, sizeof(why), "this KVM has vCPU ids up to %u, or no x2APIC ids",
			 caps.max_vcpu_id);
	OK(&m, impost_context_close(m.ctx));
	if (*why)
		cr_skip_test("%s", why);
	play(&m);
	cr_assert_str_eq(m.output, "Hello from long mode\nx2APIC id 0000012c\n");
}
