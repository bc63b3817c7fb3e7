/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the VMs that the conformance tests run in. */
#include <stdlib.h>
#include <time.h>

#include "common.h"
#include "settings.h"

const char *backend_name(void)
{
	const char *name = getenv(ENV_BACKEND);

	return name ? name : "mock";
}

static void skip(struct box *box, const char *why)
{
	char text[1200];

	snprintf(text, sizeof(text), "%s: %s", backend_name(), why);
	if (box->vcpu)
		impost_vcpu_destroy(box->vcpu);
	if (box->vm)
		impost_vm_destroy(box->vm);
	impost_context_close(box->ctx);
	memset(box, 0, sizeof(*box));
	cr_skip_test("%s", text);
}

static void print_log(void *opaque, uint32_t level, const char *text)
{
	(void)opaque;
	fprintf(stderr, "# %s: %s\n", impost_log_level_name(level), text);
}

void box_context(struct box *box)
{
	static struct impost_caps caps;
	int r;

	memset(box, 0, sizeof(*box));
	cr_assert_eq(impost_context_open(getenv(ENV_LOG) ? print_log : NULL, NULL, &box->ctx), 0);
	OK(box, settings_apply(box->ctx));
	caps.size = sizeof(caps);
	r = impost_backend_probe(box->ctx, backend_name(), &caps);
	cr_assert_neq(r, -IMPOST_EPLUGIN, "%s", impost_error(box->ctx));
	if (r)
		skip(box, impost_error(box->ctx));
	box->caps = &caps;
}

void box_need(struct box *box, enum impost_cap cap)
{
	char why[100];

	if (impost_caps_has(box->caps, cap))
		return;
	snprintf(why, sizeof(why), "has no %s here", impost_cap_name((uint32_t)cap));
	skip(box, why);
}

void box_open(struct box *box, uint32_t cpus, uint32_t irqchip)
{
	box_open_kicked_by(box, cpus, irqchip, IMPOST_KICK_MASK);
}

void box_open_kicked_by(struct box *box, uint32_t cpus, uint32_t irqchip, uint32_t kick_by)
{
	static const enum impost_cap chips[] = {
		[IMPOST_IRQCHIP_NONE] = IMPOST_CAP_IRQCHIP_NONE,
		[IMPOST_IRQCHIP_LAPIC] = IMPOST_CAP_IRQCHIP_LAPIC,
		[IMPOST_IRQCHIP_FULL] = IMPOST_CAP_IRQCHIP_FULL,
	};
	struct impost_region ram = {
		.size = sizeof(ram), .kind = IMPOST_REGION_ANONYMOUS, .bytes = RAM_BYTES};
	struct impost_vm_config config;
	void *hva;

	box_context(box);
	if (irqchip)
		box_need(box, chips[irqchip]);
	OK(box, impost_vm_config_init(box->ctx, &config));
	config.backend = backend_name();
	config.cpus = cpus;
	config.irqchip = irqchip;
	config.kick_by = kick_by;
	config.memory = RAM_BYTES;
	OK(box, impost_vm_create(box->ctx, &config, &box->vm));
	box->caps = impost_vm_caps(box->vm);
	box->memory = impost_vm_memory(box->vm);
	if (!impost_caps_has(box->caps, IMPOST_CAP_MEM_HOST))
		ram.kind = IMPOST_REGION_BACKEND;
	OK(box, impost_memory_add(box->memory, &ram));
	OK(box, impost_memory_ptr(box->memory, 0, RAM_BYTES, &hva));
	box->ram = hva;
	OK(box, impost_vcpu_create(box->vm, 0, &box->vcpu));
}

void box_close(struct box *box)
{
	OK(box, impost_vcpu_destroy(box->vcpu));
	OK(box, impost_vm_destroy(box->vm));
	cr_assert_eq(impost_context_close(box->ctx), 0);
}

void set_supported_cpuid(struct box *box, struct impost_vcpu *vcpu)
{
	struct impost_x86_cpuid entries[512];
	uint32_t count;

	OK(box, impost_vm_cpuid_supported(box->vm, entries, 512, &count));
	if (impost_caps_has(box->caps, IMPOST_CAP_CPUID_PER_VM))
		OK(box, impost_vm_set_cpuid(box->vm, entries, count));
	else
		OK(box, impost_vcpu_set_cpuid(vcpu, entries, count));
}

struct impost_x86_regs regs_of(struct box *box, struct impost_vcpu *vcpu)
{
	struct impost_x86_regs regs = {.size = 0};

	OK(box, impost_vcpu_get_regs(vcpu, &regs));
	return regs;
}

void set_regs(struct box *box, struct impost_vcpu *vcpu, const struct impost_x86_regs *regs)
{
	OK(box, impost_vcpu_set_regs(vcpu, regs));
}

static void place(struct box *box, struct impost_vcpu *vcpu, const void *code, size_t bytes)
{
	struct impost_x86_regs regs = {.rip = CODE, .rsp = STACK_TOP, .rflags = 2};

	OK(box, impost_memory_write(box->memory, CODE, code, bytes));
	set_regs(box, vcpu, &regs);
}

#define ACCESS_CODE (IMPOST_X86_AR_P | IMPOST_X86_AR_S | 0xbu)
#define ACCESS_DATA (IMPOST_X86_AR_P | IMPOST_X86_AR_S | 0x3u)
#define ACCESS_TSS  (IMPOST_X86_AR_P | 0xbu)
#define ACCESS_LDT  (IMPOST_X86_AR_P | 0x2u)

static void set_data_segments(struct impost_x86_sregs *s, const struct impost_x86_segment *data)
{
	s->ds = s->es = s->fs = s->gs = s->ss = *data;
	s->tr = (struct impost_x86_segment){.limit = 0xffff, .access = ACCESS_TSS};
	s->ldtr = (struct impost_x86_segment){.limit = 0xffff, .access = ACCESS_LDT};
}

void enter_real(struct box *box, struct impost_vcpu *vcpu, const void *code, size_t bytes)
{
	const struct impost_x86_segment data = {.limit = 0xffff, .access = ACCESS_DATA};
	struct impost_x86_sregs s = {.size = 0};

	OK(box, impost_vcpu_get_sregs(vcpu, &s));
	s.cs = (struct impost_x86_segment){.limit = 0xffff, .access = ACCESS_CODE};
	set_data_segments(&s, &data);
	s.gdtr = (struct impost_x86_table){.limit = 0xffff};
	s.idtr = (struct impost_x86_table){.limit = 0x3ff};
	OK(box, impost_vcpu_set_sregs(vcpu, &s));
	place(box, vcpu, code, bytes);
}

/* 1 GiB, one to one, in pages of 2 MiB (SDM vol. 3, 4.5). */
static void write_page_tables(struct box *box)
{
	const uint64_t present_writable = 3, large = 0x80;
	uint64_t table[512] = {PAGE_TABLES + 0x1000 + present_writable};

	OK(box, impost_memory_write(box->memory, PAGE_TABLES, table, sizeof(table)));
	table[0] = PAGE_TABLES + 0x2000 + present_writable;
	OK(box, impost_memory_write(box->memory, PAGE_TABLES + 0x1000, table, sizeof(table)));
	for (uint64_t i = 0; i < 512; i++)
		table[i] = i << 21 | large | present_writable;
	OK(box, impost_memory_write(box->memory, PAGE_TABLES + 0x2000, table, sizeof(table)));
}

void enter_long(struct box *box, struct impost_vcpu *vcpu, const void *code, size_t bytes)
{
	const uint64_t cr0 = 0x80000031, pae = 0x20, lme_lma = 0x500;
	const struct impost_x86_segment data = {.limit = 0xffffffff,
						.access = ACCESS_DATA | IMPOST_X86_AR_G |
							  IMPOST_X86_AR_DB,
						.selector = 16};
	struct impost_x86_sregs s = {.size = 0};

	set_supported_cpuid(box, vcpu);
	write_page_tables(box);
	OK(box, impost_vcpu_get_sregs(vcpu, &s));
	s.cs = (struct impost_x86_segment){.limit = 0xffffffff,
					   .access = ACCESS_CODE | IMPOST_X86_AR_G |
						     IMPOST_X86_AR_L,
					   .selector = 8};
	set_data_segments(&s, &data);
	s.gdtr = s.idtr = (struct impost_x86_table){.limit = 0};
	s.cr0 = cr0;
	s.cr3 = PAGE_TABLES;
	s.cr4 = pae;
	s.efer = lme_lma;
	OK(box, impost_vcpu_set_sregs(vcpu, &s));
	place(box, vcpu, code, bytes);
}

void run_to(struct box *box, struct impost_vcpu *vcpu, uint32_t kind, struct impost_exit *ret_exit)
{
	char line[300];

	OK(box, impost_vcpu_run(vcpu, ret_exit));
	impost_exit_format(ret_exit, line, sizeof(line));
	cr_assert_eq(ret_exit->kind, kind, "exit %s, not kind %u", line, kind);
}

void finish(struct box *box, struct impost_vcpu *vcpu)
{
	struct impost_exit exit;

	OK(box, impost_vcpu_complete(vcpu, &exit));
	cr_assert_eq(exit.kind, IMPOST_EXIT_NONE, "completing led to exit kind %u", exit.kind);
}

static void lapic_write(struct impost_x86_lapic *lapic, uint32_t reg, uint32_t value)
{
	memcpy(lapic->regs + reg, &value, sizeof(value));
}

void lapic_on(struct box *box, struct impost_vcpu *vcpu)
{
	struct impost_x86_lapic lapic;
	uint32_t size;

	OK(box, impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &size));
	lapic_write(&lapic, 0xf0, 0x1ff);
	lapic_write(&lapic, 0x350, 0x700);
	OK(box, impost_vcpu_set(vcpu, IMPOST_SECTION_LAPIC, &lapic, size));
}

void real_vector(struct box *box, uint8_t vector, uint16_t address)
{
	const uint16_t entry[2] = {address, 0};

	OK(box, impost_memory_write(box->memory, vector * 4u, entry, sizeof(entry)));
}

/* Marsaglia's xorshift64. */
uint64_t random64(void)
{
	static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
