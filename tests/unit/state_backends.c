/* SPDX-License-Identifier: Apache-2.0 */
/* Every register of every section, random, from one VM into another: mock to mock, KVM to KVM, and
 * both ways between them. What came over is read register by register, not from the state. */
#include <endian.h>
#include <unistd.h>

#include <impost/mock.h>

#include "state_random.h"

#define ROUNDS	5
#define MEMORY	UINT64_C(0x400000)
#define CPUS	2u
#define ENTRIES 512u

struct box {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *cpu[CPUS];
};

/* What the mock supports: KVM takes it on every processor of 64 bits that has AVX. */
static uint32_t mock_cpuid(struct impost_context *ctx, struct impost_x86_cpuid *entries)
{
	struct impost_vm_config config;
	struct impost_vm *vm = NULL;
	uint32_t count = 0;

	OK(ctx, impost_vm_config_init(ctx, &config));
	config.backend = "mock";
	OK(ctx, impost_vm_create(ctx, &config, &vm));
	OK(ctx, impost_vm_cpuid_supported(vm, entries, ENTRIES, &count));
	OK(ctx, impost_vm_destroy(vm));
	return count;
}

static void set_cpuid(struct box *b, uint32_t i)
{
	struct impost_x86_cpuid entries[ENTRIES];
	uint32_t count = mock_cpuid(b->ctx, entries);

	for (uint32_t k = 0; k < count; k++) {
		if (entries[k].leaf == 1) {
			entries[k].ebx = (entries[k].ebx & 0xffffff) | i << 24;
			entries[k].edx &= ~(1u << 14); /* MCA: the mock has no banks, KVM 32 */
		}
		if (entries[k].leaf == 0xb)
			entries[k].edx = i;
	}
	OK(b->ctx, impost_vcpu_set_cpuid(b->cpu[i], entries, count));
}

static int has_kvm(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

static void open_box(struct box *b, const char *backend, uint32_t irqchip, int with_cpuid)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = MEMORY};
	struct impost_vm_config config;

	memset(b, 0, sizeof(*b));
	OK(NULL, impost_context_open(NULL, NULL, &b->ctx));
	OK(b->ctx, impost_context_set(b->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	OK(b->ctx, impost_vm_config_init(b->ctx, &config));
	config.backend = backend;
	config.cpus = CPUS;
	config.irqchip = irqchip;
	OK(b->ctx, impost_vm_create(b->ctx, &config, &b->vm));
	OK(b->ctx, impost_memory_add(impost_vm_memory(b->vm), &ram));
	for (uint32_t i = 0; i < CPUS; i++) {
		OK(b->ctx, impost_vcpu_create(b->vm, i, &b->cpu[i]));
		if (with_cpuid)
			set_cpuid(b, i);
	}
}

static void close_box(struct box *b)
{
	for (uint32_t i = 0; i < CPUS; i++)
		OK(b->ctx, impost_vcpu_destroy(b->cpu[i]));
	OK(b->ctx, impost_vm_destroy(b->vm));
	OK(NULL, impost_context_close(b->ctx));
}

/* --- comparing --- */

static void compare_section(struct box *a, struct box *b, uint32_t i, uint32_t section,
			    const char *name)
{
	union section x, y;

	get_section(a->ctx, a->cpu[i], section, &x);
	get_section(b->ctx, b->cpu[i], section, &y);
	cr_assert_eq(x.size, y.size);
	for (uint32_t at = 0; at < x.size; at++)
		cr_assert_eq(x.bytes[at], y.bytes[at], "vCPU %u, %s: byte %u is 0x%x, was 0x%x", i,
			     name, at, y.bytes[at], x.bytes[at]);
}

/* Registers alone; not the version, which is the hypervisor's own, nor PPR, which follows from
 * others (SDM vol. 3, 11.8.3.1). */
static void compare_lapic(struct box *a, struct box *b, uint32_t i)
{
	union section x, y;

	get_section(a->ctx, a->cpu[i], IMPOST_SECTION_LAPIC, &x);
	get_section(b->ctx, b->cpu[i], IMPOST_SECTION_LAPIC, &y);
	for (uint32_t at = 0; at < sizeof(x.lapic.regs); at += 16)
		if (at != 0x30 && at != 0xa0)
			cr_assert_arr_eq(&x.lapic.regs[at], &y.lapic.regs[at], 4,
					 "vCPU %u: register 0x%x of the local APIC", i, at);
}

/* Flags say what a backend knows of events, and that is not the same everywhere. */
static void compare_events(struct box *a, struct box *b, uint32_t i)
{
	union section x, y;

	get_section(a->ctx, a->cpu[i], IMPOST_SECTION_EVENTS, &x);
	get_section(b->ctx, b->cpu[i], IMPOST_SECTION_EVENTS, &y);
	x.events.flags = y.events.flags = 0;
	cr_assert_arr_eq(&x, &y, sizeof(x.events), "vCPU %u: events", i);
}

/* The area may be longer here or there, and AVX may lie elsewhere. */
static void compare_xsave(struct box *a, struct box *b, uint32_t i)
{
	static const struct {
		uint32_t from, to;
	} kept[] = {{0, 6}, {24, 28}, {32, 42}, {48, 58}, {144, 154}, {160, 416}, {512, 520}};
	union section x, y;
	const struct impost_x86_xcomponent *p = x.xsave.component, *q = y.xsave.component;

	get_section(a->ctx, a->cpu[i], IMPOST_SECTION_XSAVE, &x);
	get_section(b->ctx, b->cpu[i], IMPOST_SECTION_XSAVE, &y);
	cr_assert_eq(x.xsave.xcr0, y.xsave.xcr0);
	for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++)
		cr_assert_arr_eq(x.xsave.area + kept[k].from, y.xsave.area + kept[k].from,
				 kept[k].to - kept[k].from, "vCPU %u: XSAVE from byte %u", i,
				 kept[k].from);
	cr_assert(p->id == 2 && q->id == 2 && p->bytes == q->bytes);
	cr_assert_arr_eq(x.xsave.area + p->offset, y.xsave.area + q->offset, p->bytes,
			 "vCPU %u: AVX", i);
}

/* Those that both have, but for time. */
static void compare_msrs(struct box *a, struct box *b, uint32_t i)
{
	uint32_t indices[2048], count = 0, done, compared = 0;

	OK(a->ctx, impost_vm_msr_list(a->vm, indices, 2048, &count));
	for (uint32_t k = 0; k < count; k++) {
		struct impost_x86_msr x = {.index = indices[k]}, y = x;

		if (x.index == IMPOST_X86_MSR_IA32_TIME_STAMP_COUNTER ||
		    x.index == IMPOST_X86_MSR_HV_TIME_REF_COUNT ||
		    x.index == IMPOST_X86_MSR_IA32_MCG_CAP || /* cannot be set */
		    impost_vcpu_get_msrs(a->cpu[i], &x, 1, &done) != 0 ||
		    impost_vcpu_get_msrs(b->cpu[i], &y, 1, &done) != 0)
			continue;
		cr_assert_eq(x.value, y.value, "vCPU %u: MSR 0x%x is 0x%llx, was 0x%llx", i,
			     x.index, (unsigned long long)y.value, (unsigned long long)x.value);
		compared++;
	}
	cr_assert_gt(compared, 30u);
}

static void compare_vm(struct box *a, struct box *b)
{
	struct impost_x86_pit pit_a, pit_b;
	uint8_t x[512] = {0}, y[512] = {0};
	uint32_t size;

	for (uint32_t section = IMPOST_SECTION_PIC; section <= IMPOST_SECTION_IOAPIC; section++) {
		OK(a->ctx, impost_vm_get(a->vm, section, x, sizeof(x), &size));
		OK(b->ctx, impost_vm_get(b->vm, section, y, sizeof(y), &size));
		cr_assert_arr_eq(x, y, size, "VM section %u", section);
	}
	OK(a->ctx, impost_vm_get(a->vm, IMPOST_SECTION_PIT, &pit_a, sizeof(pit_a), &size));
	OK(b->ctx, impost_vm_get(b->vm, IMPOST_SECTION_PIT, &pit_b, sizeof(pit_b), &size));
	for (int i = 0; i < 3; i++)
		pit_a.channel[i].count_load_age_ns = pit_b.channel[i].count_load_age_ns = 0;
	cr_assert_arr_eq(&pit_a, &pit_b, sizeof(pit_a), "PIT");
}

static void compare(struct box *a, struct box *b)
{
	for (uint32_t i = 0; i < CPUS; i++) {
		compare_section(a, b, i, IMPOST_SECTION_REGS, "regs");
		compare_section(a, b, i, IMPOST_SECTION_SREGS, "sregs");
		compare_section(a, b, i, IMPOST_SECTION_DEBUGREGS, "debugregs");
		compare_section(a, b, i, IMPOST_SECTION_RUNSTATE, "runstate");
		if (impost_vm_irqchip(a->vm) != IMPOST_IRQCHIP_NONE)
			compare_lapic(a, b, i);
		compare_xsave(a, b, i);
		compare_events(a, b, i);
		compare_msrs(a, b, i);
	}
	if (impost_vm_irqchip(a->vm) == IMPOST_IRQCHIP_FULL)
		compare_vm(a, b);
}

/* --- moving --- */

/* Takes A, and loads what another reader makes of the bytes into B. */
static void move(struct box *a, struct box *b)
{
	struct impost_state *taken = NULL, *read = NULL;
	const char *name;
	const void *data;
	size_t len;

	OK(a->ctx, impost_state_take(a->vm, &taken));
	OK(b->ctx, impost_state_create(b->ctx, &read));
	for (uint32_t i = 0; impost_state_at(taken, i, &name, &data, &len) == 0; i++) {
		cr_assert_lt(len, 32768u, "section %s has %zu bytes", name, len);
		OK(b->ctx, impost_state_add(read, name, data, len));
	}
	OK(b->ctx, impost_state_load(read, b->vm));
	impost_state_free(taken);
	impost_state_free(read);
}

/* What KVM's vCPUs have from the start and the mock has not: model-specific, not told by CPUID. */
static void forget_model(struct box *b)
{
	const struct impost_x86_msr none = {.index = IMPOST_X86_MSR_MSR_PLATFORM_INFO};
	uint32_t done;

	for (uint32_t i = 0; i < CPUS; i++)
		OK(b->ctx, impost_vcpu_set_msrs(b->cpu[i], &none, 1, &done));
}

static void set_runstates(struct box *b)
{
	static const uint32_t states[] = {IMPOST_X86_RUNNING, IMPOST_X86_HALTED,
					  IMPOST_X86_WAIT_FOR_SIPI};
	uint32_t count = impost_vm_irqchip(b->vm) == IMPOST_IRQCHIP_NONE ? 1 : 3;

	for (uint32_t i = 0; i < CPUS; i++) {
		struct impost_x86_runstate s = {sizeof(s), states[random64() % count]};

		OK(b->ctx, impost_vcpu_set(b->cpu[i], IMPOST_SECTION_RUNSTATE, &s, sizeof(s)));
	}
}

/* The TSC of A's vCPUs becomes B's, in rate and value: there are KVMs that can set neither. */
static void borrow_tsc(struct box *a, struct box *b)
{
	union section s;

	get_section(b->ctx, b->cpu[0], IMPOST_SECTION_TSC, &s);
	s.tsc.flags = 0;
	for (uint32_t i = 0; i < CPUS; i++)
		set_section(a->ctx, a->cpu[i], IMPOST_SECTION_TSC, &s);
}

static void move_between(const char *from, const char *to, uint32_t irqchip)
{
	struct box a, b;

	if ((strcmp(from, "kvm") == 0 || strcmp(to, "kvm") == 0) && !has_kvm())
		cr_skip_test("no /dev/kvm");
	for (int round = 0; round < ROUNDS; round++) {
		open_box(&a, from, irqchip, 1);
		open_box(&b, to, irqchip, round & 1);
		if (strcmp(from, "kvm") == 0 && strcmp(to, "mock") == 0)
			forget_model(&a);
		if (strcmp(from, "mock") == 0)
			borrow_tsc(&a, &b);
		random_vm(a.vm, 1);
		set_runstates(&a);
		move(&a, &b);
		compare(&a, &b);
		if (strcmp(to, "kvm") == 0 && strcmp(from, "mock") == 0)
			forget_model(&b);
		move(&b, &a);
		compare(&b, &a);
		close_box(&a);
		close_box(&b);
	}
}

#define PAIR(from, to, chip, name)                                   \
	Test(state_backends, from##_to_##to##_##name, .timeout = 60) \
	{                                                            \
		move_between(#from, #to, IMPOST_IRQCHIP_##chip);     \
	}
PAIR(mock, mock, FULL, full)
PAIR(mock, mock, NONE, none)
PAIR(kvm, kvm, FULL, full)
PAIR(kvm, kvm, LAPIC, lapic)
PAIR(kvm, kvm, NONE, none)
PAIR(mock, kvm, FULL, full)
PAIR(mock, kvm, LAPIC, lapic)
PAIR(mock, kvm, NONE, none)
PAIR(kvm, mock, FULL, full)
PAIR(kvm, mock, LAPIC, lapic)
PAIR(kvm, mock, NONE, none)

/* --- pre-flight --- */

struct told {
	char text[32768];
};

static void hear(void *opaque, const char *kind, const char *name, const char *reason)
{
	struct told *told = opaque;
	size_t len = strlen(told->text);

	snprintf(told->text + len, sizeof(told->text) - len, "%s %s: %s\n", kind, name, reason);
}

static void set_supported(struct box *b)
{
	static struct impost_x86_cpuid entries[ENTRIES];
	uint32_t count = 0;

	OK(b->ctx, impost_vm_cpuid_supported(b->vm, entries, ENTRIES, &count));
	for (uint32_t i = 0; i < CPUS; i++)
		OK(b->ctx, impost_vcpu_set_cpuid(b->cpu[i], entries, count));
}

/* A copy of A, in whose section vcpu.0 the four bytes of `khz` are twice as much. */
static struct impost_state *at_twice_the_rate(struct box *b, const struct impost_state *a)
{
	static const uint8_t key[] = {0x63, 'k', 'h', 'z', 0x1a};
	struct impost_state *made = NULL;
	uint8_t copied[65536], *at;
	uint32_t khz;
	const char *name;
	const void *data;
	size_t len;

	OK(b->ctx, impost_state_create(b->ctx, &made));
	for (uint32_t i = 0; impost_state_at(a, i, &name, &data, &len) == 0; i++) {
		cr_assert_leq(len, sizeof(copied));
		memcpy(copied, data, len);
		at = strcmp(name, "vcpu.0") == 0 ? memmem(copied, len, key, sizeof(key)) : NULL;
		if (at) {
			memcpy(&khz, at + sizeof(key), sizeof(khz));
			khz = htobe32(2 * be32toh(khz));
			memcpy(at + sizeof(key), &khz, sizeof(khz));
		}
		OK(b->ctx, impost_state_add(made, name, copied, len));
	}
	return made;
}

/* Nothing is amiss with what KVM has itself: MSRs of features, and the rate of the TSC, which the
 * processor may not tell, so that a vCPU must. */
Test(state_backends, kvm_takes_its_own_and_no_other_rate)
{
	static struct told told;
	struct impost_state *state = NULL, *fast;
	struct impost_caps caps = {.size = sizeof(caps)};
	struct box b;
	int n;

	if (!has_kvm())
		cr_skip_test("/dev/kvm is not there, or not for us");
	open_box(&b, "kvm", IMPOST_IRQCHIP_DEFAULT, 0);
	set_supported(&b);
	OK(b.ctx, impost_backend_probe(b.ctx, "kvm", &caps));
	OK(b.ctx, impost_state_take(b.vm, &state));
	n = impost_state_check(state, "kvm", hear, &told);
	cr_assert_eq(n, 0, "%d: %s%s", n, told.text, impost_error(b.ctx));
	fast = at_twice_the_rate(&b, state);
	n = impost_state_check(fast, "kvm", hear, &told);
	if (impost_caps_has(&caps, IMPOST_CAP_TSC_SCALING))
		cr_assert_eq(n, 0, "%d: %s", n, told.text);
	else
		cr_assert(n == 1 && strstr(told.text, "tsc rate: "), "%d: %s", n, told.text);
	impost_state_free(fast);
	impost_state_free(state);
	close_box(&b);
}

/* A guest of the mock's that was told of more memory type ranges than KVM has. */
Test(state_backends, kvm_has_no_more_than_its_msrs_tell)
{
	static const uint8_t had[] = {0x18, 0xfe, 0x19, 0x05, 0x08};
	static struct told told;
	struct impost_state *state = NULL, *more = NULL;
	uint8_t copied[65536], *at;
	const char *name;
	const void *data;
	struct box b;
	size_t len;

	if (!has_kvm())
		cr_skip_test("/dev/kvm is not there, or not for us");
	open_box(&b, "mock", IMPOST_IRQCHIP_FULL, 1);
	OK(b.ctx, impost_state_take(b.vm, &state));
	OK(b.ctx, impost_state_create(b.ctx, &more));
	for (uint32_t i = 0; impost_state_at(state, i, &name, &data, &len) == 0; i++) {
		cr_assert_leq(len, sizeof(copied));
		memcpy(copied, data, len);
		at = memmem(copied, len, had, sizeof(had));
		if (at)
			at[sizeof(had) - 1] = 0x0a;
		OK(b.ctx, impost_state_add(more, name, copied, len));
	}
	cr_assert_geq(impost_state_check(more, "kvm", hear, &told), 1, "%s", impost_error(b.ctx));
	cr_assert(strstr(told.text, "msr IA32_MTRRCAP.VCNT: "), "%s", told.text);
	impost_state_free(more);
	impost_state_free(state);
	close_box(&b);
}
