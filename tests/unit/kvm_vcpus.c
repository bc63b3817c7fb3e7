/* SPDX-License-Identifier: Apache-2.0 */
/* As many vCPUs as KVM says that it has, each set up as the one that it is. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <impost/impost.h>

#define CPUIDS 256
#define SPARE  64 /* descriptors that others need */

struct machine {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_caps caps;
	struct impost_x86_cpuid cpuid[CPUIDS];
	uint32_t ncpuid;
};

#define OK(m, call) cr_assert_eq((call), 0, #call ": %s", impost_error((m)->ctx))

/* Each vCPU is a descriptor: raises the soft limit as far as it goes. Returns how many there can
 * be. */
static uint32_t room_for(uint32_t vcpus)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return limit.rlim_cur < vcpus + SPARE ? (uint32_t)limit.rlim_cur - SPARE : vcpus;
}

/* Skips the test, saying why, where kvm cannot run. */
static void make(struct machine *m)
{
	struct impost_vm_config config;
	char why[512] = "";

	m->caps.size = sizeof(m->caps);
	cr_assert_eq(impost_context_open(NULL, NULL, &m->ctx), 0);
	OK(m, impost_context_set(m->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	if (impost_backend_probe(m->ctx, "kvm", &m->caps)) {
		snprintf(why, sizeof(why), "%s", impost_error(m->ctx));
		impost_context_close(m->ctx);
		cr_skip_test("%s", why);
	}
	OK(m, impost_vm_config_init(m->ctx, &config));
	config.backend = "kvm";
	config.cpus = m->caps.max_vcpus;
	OK(m, impost_vm_create(m->ctx, &config, &m->vm));
	OK(m, impost_vm_cpuid_supported(m->vm, m->cpuid, CPUIDS, &m->ncpuid));
}

static uint32_t register_at(const struct impost_x86_lapic *lapic, uint32_t reg)
{
	uint32_t value;

	memcpy(&value, lapic->regs + reg, sizeof(value));
	return value;
}

/* In x2APIC mode, as CPU ID: what KVM gives back is what the SDM has (vol. 3, 11.12.5.1). */
static void check_x2apic(struct machine *m, struct impost_vcpu *vcpu, uint32_t id)
{
	const struct impost_x86_runstate waits = {sizeof(waits), IMPOST_X86_WAIT_FOR_SIPI};
	struct impost_x86_lapic lapic;
	struct impost_x86_sregs sregs;
	uint32_t bytes;

	OK(m, impost_vcpu_set_cpuid(vcpu, m->cpuid, m->ncpuid));
	OK(m, impost_vcpu_get_sregs(vcpu, &sregs));
	OK(m, impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &bytes));
	impost_x86_setup_lapic(&lapic, id == 0);
	impost_x86_setup_x2apic(&sregs, &lapic, id);
	OK(m, impost_vcpu_set_sregs(vcpu, &sregs));
	OK(m, impost_vcpu_set(vcpu, IMPOST_SECTION_LAPIC, &lapic, bytes));
	OK(m, impost_vcpu_set(vcpu, IMPOST_SECTION_RUNSTATE, &waits, sizeof(waits)));
	OK(m, impost_vcpu_get_sregs(vcpu, &sregs));
	OK(m, impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &bytes));
	cr_assert_eq(sregs.apic_base & 0xc00, 0xc00u, "vCPU %u is not in x2APIC mode", id);
	cr_assert_eq(register_at(&lapic, 0x20), id);
	cr_assert_eq(register_at(&lapic, 0xd0), id >> 4 << 16 | 1u << (id & 15));
}

Test(kvm_vcpus, as_many_as_there_can_be, .timeout = 120)
{
	static struct machine m;
	struct impost_vcpu **vcpus, *more;
	uint32_t count;

	make(&m);
	count = room_for(m.caps.max_vcpus);
	vcpus = calloc(count, sizeof(struct impost_vcpu *));
	cr_assert_not_null(vcpus);
	for (uint32_t i = 0; i < count; i++)
		OK(&m, impost_vcpu_create(m.vm, i, &vcpus[i]));
	if (count == m.caps.max_vcpus)
		cr_assert_neq(impost_vcpu_create(m.vm, count, &more), 0);
	for (uint32_t i = 0; i < count; i += i < 250 ? 50 : 1) {
		if (i <= 254 || impost_caps_has(&m.caps, IMPOST_CAP_X2APIC_IDS))
			check_x2apic(&m, vcpus[i], i);
	}
	for (uint32_t i = 0; i < count; i++)
		OK(&m, impost_vcpu_destroy(vcpus[i]));
	free(vcpus);
	OK(&m, impost_vm_destroy(m.vm));
	OK(&m, impost_context_close(m.ctx));
}
