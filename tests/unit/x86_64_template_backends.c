/* SPDX-License-Identifier: Apache-2.0 */
/* CPU templates on each backend that works here: what it offers, dumped, and applied to itself. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#define MOST 512u

/* A VM on a backend, and what that offers. */
struct host {
	struct impost_context *ctx;
	struct impost_vm *vm;
	uint32_t count;
	struct impost_x86_cpuid entries[MOST];
};

static void make(struct host *host, const char *backend, const char *ini)
{
	struct impost_vm_config config;

	memset(host, 0, sizeof(*host));
	cr_assert_eq(impost_context_open(NULL, NULL, &host->ctx), 0);
	cr_assert_eq(impost_context_set(host->ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	cr_assert_eq(impost_context_load_buffer(host->ctx, "x.ini", ini, strlen(ini)), 0, "%s",
		     impost_error(host->ctx));
	cr_assert_eq(impost_vm_config_init(host->ctx, &config), 0);
	config.backend = backend;
	config.cpus = 2;
	cr_assert_eq(impost_vm_create(host->ctx, &config, &host->vm), 0, "%s",
		     impost_error(host->ctx));
	cr_assert_eq(impost_vm_cpuid_supported(host->vm, host->entries, MOST, &host->count), 0);
}

static void destroy(struct host *host)
{
	cr_expect_eq(impost_vm_destroy(host->vm), 0);
	cr_expect_eq(impost_context_close(host->ctx), 0);
}

static void expect_no_msrs(struct host *host, const struct impost_x86_template *tmpl)
{
	struct impost_vcpu *vcpu = NULL;
	struct impost_x86_msr have[64], set[1];
	uint32_t count = 0, changed = 1;

	/* vCPU 0 was the probe's: KVM gives no id twice. */
	cr_assert_eq(impost_vcpu_create(host->vm, 1, &vcpu), 0, "%s", impost_error(host->ctx));
	while (count < 64 && impost_x86_template_msr(tmpl, count, &have[count].index) == 0)
		count++;
	cr_assert_eq(impost_vcpu_get_msrs(vcpu, have, count, NULL), 0, "%s",
		     impost_error(host->ctx));
	cr_expect_eq(impost_x86_template_msrs(host->ctx, tmpl, have, count, set, 1, &changed, NULL,
					      NULL),
		     0, "%s", impost_error(host->ctx));
	cr_expect_eq(changed, 0);
	cr_expect_eq(impost_vcpu_destroy(vcpu), 0);
}

/* The backend's own dump changes nothing there, and neither does the baseline of that alone. */
static void dumps(const char *backend, const char *ini)
{
	static struct host host;
	struct impost_x86_template *dump = NULL, *baseline = NULL;
	struct impost_x86_cpuid entries[MOST];
	uint32_t count;

	make(&host, backend, ini);
	count = host.count;
	memcpy(entries, host.entries, sizeof(entries));
	cr_assert_eq(impost_x86_template_probe(host.vm, &dump), 0, "%s", impost_error(host.ctx));
	cr_expect_eq(impost_x86_template_apply(host.ctx, dump, entries, MOST, &count, NULL, NULL),
		     0, "%s", impost_error(host.ctx));
	cr_expect_eq(impost_x86_template_baseline(host.ctx, "same",
						  (const struct impost_x86_template *const *)&dump,
						  1, &baseline),
		     0, "%s", impost_error(host.ctx));
	cr_expect_eq(impost_x86_template_apply(host.ctx, baseline, entries, MOST, &count, NULL,
					       NULL),
		     0, "%s", impost_error(host.ctx));
	cr_expect_eq(count, host.count);
	cr_expect_eq(memcmp(entries, host.entries, sizeof(entries)), 0);
	expect_no_msrs(&host, dump);
	impost_x86_template_free(dump);
	impost_x86_template_free(baseline);
	destroy(&host);
}

/* Template NAME is taken, and a vCPU takes what it makes; or it is refused, as LEVEL says. */
static void levels(const char *backend, unsigned level)
{
	for (unsigned wanted = 1; wanted <= 4; wanted++) {
		static struct host host;
		struct impost_x86_template *tmpl = NULL;
		struct impost_vcpu *vcpu = NULL;
		char name[16];
		int err;

		make(&host, backend, "");
		snprintf(name, sizeof(name), "x86-64-v%u", wanted);
		cr_assert_eq(impost_x86_template_open(host.ctx, name, host.entries, host.count,
						      &tmpl),
			     0, "%s", impost_error(host.ctx));
		err = impost_x86_template_apply(host.ctx, tmpl, host.entries, MOST, &host.count,
						NULL, NULL);
		cr_expect_eq(err, wanted <= level ? 0 : -ENOTSUP, "%s: %s", name,
			     impost_error(host.ctx));
		cr_assert_eq(impost_vcpu_create(host.vm, 0, &vcpu), 0);
		cr_expect_eq(impost_vcpu_set_cpuid(vcpu, host.entries, host.count), 0, "%s: %s",
			     name, impost_error(host.ctx));
		cr_expect_eq(impost_vcpu_destroy(vcpu), 0);
		impost_x86_template_free(tmpl);
		destroy(&host);
	}
}

Test(template_backends, mock_dumps)
{
	dumps("mock", "");
	dumps("mock", "[backend.mock]\ncpuid = vm\n");
}

/* The mock's CPU is x86-64-v3. */
Test(template_backends, mock_levels)
{
	levels("mock", 3);
}

static void need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("there is no /dev/kvm to use");
}

Test(template_backends, kvm_dumps)
{
	need_kvm();
	dumps("kvm", "");
}

/* What level KVM has here, told by the fields that the levels begin with. */
Test(template_backends, kvm_levels)
{
	static const char *const first[] = {"LM", "SSSE3", "AVX2", "AVX512F"};
	static struct host host;
	unsigned level = 0;

	need_kvm();
	make(&host, "kvm", "");
	while (level < 4 && impost_x86_cpuid_get_field(host.entries, host.count,
						       impost_x86_cpuid_field_find(first[level])))
		level++;
	destroy(&host);
	cr_assert_gt(level, 0);
	levels("kvm", level);
}

Test(template_backends, a_vm_without_room_for_a_vcpu)
{
	static struct host host;
	struct impost_x86_template *tmpl = NULL;
	struct impost_vcpu *vcpu = NULL;

	make(&host, "mock", "");
	cr_assert_eq(impost_vcpu_create(host.vm, 0, &vcpu), 0);
	cr_expect_eq(impost_x86_template_probe(host.vm, &tmpl), -EEXIST);
	cr_expect_null(tmpl);
	cr_expect_eq(impost_x86_template_probe(NULL, &tmpl), -EINVAL);
	cr_expect_eq(impost_vcpu_destroy(vcpu), 0);
	destroy(&host);
}
