/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `fault`: its rules, word by word, and what becomes of calls over the mock. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <impost/fault.h>
#include <impost/impost.h>

#include "fault.h"

/* --- the language --- */

static struct fault_rule rules[FAULT_MOST_RULES];
static char why[256];

Test(fault_rules, words)
{
	cr_assert(fault_read(" run#3  *~0.25=ENODEV+2ms\tvcpu.state_get=4007 msi+1us ", rules, why,
			     sizeof(why)) == 4,
		  "%s", why);
	cr_expect(rules[0].nth == 3 && rules[0].error == EIO && rules[0].chance == 1ull << 32);
	cr_expect(rules[0].op[layer_op_vcpu_run] && !rules[0].op[layer_op_vcpu_complete]);
	cr_expect(rules[1].error == ENODEV && rules[1].delay == 2000000 && !rules[1].nth);
	cr_expect(rules[1].chance == 1u << 30 && rules[1].op[layer_op_backend_caps]);
	cr_expect(!rules[1].op[layer_op_vm_destroy] && !rules[1].op[layer_op_vcpu_destroy]);
	cr_expect(rules[2].error == IMPOST_EDIVERGED && !rules[2].op[layer_op_vm_state_get]);
	cr_expect(rules[3].error == 0 && rules[3].delay == 1000);
	cr_expect(fault_read("state_get=ESTATE", rules, why, sizeof(why)) == 1);
	cr_expect(rules[0].op[layer_op_vm_state_get] && rules[0].op[layer_op_vcpu_state_get]);
	cr_expect(fault_read("", rules, why, sizeof(why)) == 0);
	cr_expect(fault_read("run~1 run~0 run~1.000", rules, why, sizeof(why)) == 3);
	cr_expect(rules[0].chance == 1ull << 32 && rules[1].chance == 0);
}

Test(fault_rules, what_is_wrong_is_named)
{
	static const struct {
		const char *text, *words;
	} wrong[] = {
		{"walk", "rule 'walk': there is no such operation that can fail"},
		{"vm.destroy", "there is no such operation that can fail"},
		{"vm.run", "there is no such operation"},
		{"=EIO", "there is no such operation"},
		{"run#", "from 1"},
		{"run#0", "from 1"},
		{"run#-1", "from 1"},
		{"run#1x", "from 1"},
		{"run#99999999999999999999", "from 1"},
		{"run#1#2", "'#' twice"},
		{"run~", "0 to 1"},
		{"run~1.5", "0 to 1"},
		{"run~2", "0 to 1"},
		{"run~.5", "0 to 1"},
		{"run~0.", "0 to 1"},
		{"run~0.0000000001", "0 to 1"},
		{"run~0.5x", "0 to 1"},
		{"run=", "an error's name"},
		{"run=EWHAT", "an error's name"},
		{"run=0", "an error's name"},
		{"run=4096", "an error's name"},
		{"run=EIO=EIO", "'=' twice"},
		{"run+", "a time of a minute at most"},
		{"run+1", "a time of a minute at most"},
		{"run+1h", "a time of a minute at most"},
		{"run+61s", "a time of a minute at most"},
		{"run+999999999999999s", "a time of a minute at most"},
		{"run msi#0", "rule 'msi#0'"},
	};
	char many[1024] = "";

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_expect(fault_read(wrong[i].text, rules, why, sizeof(why)) == -1, "%s",
			  wrong[i].text);
		cr_expect(strstr(why, wrong[i].words), "%s: %s", wrong[i].text, why);
	}
	for (uint32_t i = 0; i < FAULT_MOST_RULES; i++)
		strcat(many, "run ");
	cr_expect(fault_read(many, rules, why, sizeof(why)) == (int)FAULT_MOST_RULES);
	strcat(many, "run");
	cr_expect(fault_read(many, rules, why, sizeof(why)) == -1);
	memset(many, 'x', 100);
	many[100] = '\0';
	cr_expect(fault_read(many, rules, why, sizeof(why)) == -1);
	cr_expect(strstr(why, "a rule of 100 characters"), "%s", why);
}

/* --- calls --- */

static struct impost_context *ctx;
static struct impost_vm *vm;
static const struct impost_fault_control *fault;
static void *fault_handle;

static void set(const char *section, const char *key, const char *value)
{
	cr_assert(impost_context_set(ctx, section, key, value) == 0, "%s", impost_error(ctx));
}

static void begin(void)
{
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	set("impost", "plugin_dir", PLUGIN_DIR);
	set("impost", "backend", "mock");
	set("impost", "layers", "fault");
	set("backend.mock", "check_entry", "no");
}

static void end(void)
{
	cr_expect(impost_vm_destroy(vm) == 0);
	cr_expect(impost_context_close(ctx) == 0);
}

TestSuite(layer_fault, .init = begin, .fini = end, .timeout = 60);

static void create(void)
{
	const void *table;

	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	cr_assert(impost_vm_extension(vm, IMPOST_FAULT, &table, &fault_handle) == 0);
	fault = table;
}

static void use(const char *text)
{
	cr_assert(fault->set(fault_handle, text, 0) == 0, "%s", impost_error(ctx));
}

static struct impost_fault_counts counts(void)
{
	struct impost_fault_counts now = {.size = sizeof(now)};

	cr_assert(fault->counts(fault_handle, &now) == 0);
	return now;
}

Test(layer_fault, a_layer_is_named_once)
{
	struct impost_vm_config config;

	impost_vm_config_init(ctx, &config);
	config.layers = "fault:caps";
	cr_expect(impost_vm_create(ctx, &config, &vm) == -EIO);
	cr_expect(strncmp(impost_error(ctx), "layer fault: backend.caps, call 1 ", 34) == 0, "%s",
		  impost_error(ctx));
}

Test(layer_fault, the_nth_call_fails)
{
	struct impost_fault_counts now;

	create();
	use("irq_line#2=ENODEV");
	cr_expect(impost_vm_irq_line(vm, 1, 1) == 0);
	cr_expect(impost_vm_irq_line(vm, 1, 0) == -ENODEV);
	cr_expect(
		strstr(impost_error(ctx),
		       "layer fault: vm.irq_line, call 2 of all: ENODEV, as rule 'irq_line#2=ENODEV'"),
		"%s", impost_error(ctx));
	cr_expect(impost_vm_irq_line(vm, 1, 0) == 0);
	now = counts();
	cr_expect(now.calls == 3 && now.failed == 1 && now.delayed == 0);
	cr_expect(strcmp(now.last, "vm.irq_line") == 0);
	use("");
	now = counts();
	cr_expect(now.calls == 0 && now.failed == 0 && !now.last);
	cr_expect(impost_vm_irq_line(vm, 1, 1) == 0);
}

/* `*` counts all operations together; what fails did not reach the mock. */
Test(layer_fault, any_operation)
{
	struct impost_vcpu *vcpu = NULL;

	create();
	use("*#1=ENOMEM *#3");
	cr_expect(impost_vcpu_create(vm, 0, &vcpu) == -ENOMEM && !vcpu);
	cr_expect(impost_vm_irq_line(vm, 1, 1) == 0);
	cr_expect(impost_vcpu_create(vm, 0, &vcpu) == -EIO && !vcpu);
	cr_assert(impost_vcpu_create(vm, 0, &vcpu) == 0, "%s", impost_error(ctx));
	cr_expect(counts().failed == 2);
	cr_expect(impost_vcpu_destroy(vcpu) == 0);
}

Test(layer_fault, the_first_of_two_rules_names_the_error)
{
	create();
	use("irq_line=EAGAIN *=EPERM");
	cr_expect(impost_vm_irq_line(vm, 1, 1) == -EAGAIN);
}

Test(layer_fault, msrs_that_fail_are_none_done)
{
	struct impost_x86_msr msr = {.index = 0x10};
	struct impost_vcpu *vcpu;
	uint32_t done = 77;

	create();
	cr_assert(impost_vcpu_create(vm, 0, &vcpu) == 0);
	use("msrs_get");
	cr_expect(impost_vcpu_get_msrs(vcpu, &msr, 1, &done) == -EIO && done == 0);
	cr_expect(impost_vcpu_destroy(vcpu) == 0);
}

static uint32_t failures(uint64_t seed, char *pattern)
{
	uint32_t failed = 0;

	cr_assert(fault->set(fault_handle, "irq_line~0.25", seed) == 0);
	for (int i = 0; i < 1000; i++) {
		pattern[i] = impost_vm_irq_line(vm, 1, (uint32_t)i & 1) ? 'x' : '.';
		failed += pattern[i] == 'x';
	}
	return failed;
}

/* The same seed fails the same calls. */
Test(layer_fault, a_probability)
{
	char first[1000], again[1000], other[1000];
	uint32_t failed;

	create();
	failed = failures(7, first);
	cr_expect(failed > 180 && failed < 320, "%u", failed);
	failures(7, again);
	failures(8, other);
	cr_expect(memcmp(first, again, sizeof(first)) == 0);
	cr_expect(memcmp(first, other, sizeof(first)) != 0);
}

Test(layer_fault, a_delay)
{
	struct timespec from, to;

	create();
	use("irq_line#2+20ms");
	cr_expect(impost_vm_irq_line(vm, 1, 1) == 0 && counts().delayed == 0);
	clock_gettime(CLOCK_MONOTONIC, &from);
	cr_expect(impost_vm_irq_line(vm, 1, 0) == 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	cr_expect((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec >= 20000000);
	cr_expect(counts().delayed == 1 && counts().failed == 0);
}

/* Rules that were wrong change nothing. */
Test(layer_fault, wrong_rules_are_refused)
{
	create();
	use("irq_line#2");
	cr_expect(impost_vm_irq_line(vm, 1, 1) == 0);
	cr_expect(fault->set(fault_handle, "irq_line walk", 0) == -EINVAL);
	cr_expect(strstr(impost_error(ctx), "rule 'walk'"), "%s", impost_error(ctx));
	cr_expect(fault->set(fault_handle, NULL, 0) == -EINVAL);
	cr_expect(impost_vm_irq_line(vm, 1, 0) == -EIO);
}

Test(layer_fault, rules_from_the_configuration)
{
	struct impost_fault_counts small = {.size = 8};

	set("impost", "layers", "fault:walk");
	cr_expect(impost_vm_create(ctx, NULL, &vm) == -EINVAL);
	cr_expect(strstr(impost_error(ctx), "layer fault: command line: rule 'walk'"), "%s",
		  impost_error(ctx));
	set("impost", "layers", "fault:vm_create#1=EPERM");
	cr_expect(impost_vm_create(ctx, NULL, &vm) == -EPERM);
	set("impost", "layers", "fault");
	set("layer.fault", "rules", "caps");
	cr_expect(impost_vm_create(ctx, NULL, &vm) == -EIO);
	cr_expect(strstr(impost_error(ctx), "backend.caps"), "%s", impost_error(ctx));
	set("layer.fault", "rules", "irq_line");
	create();
	cr_expect(impost_vm_irq_line(vm, 1, 1) == -EIO);
	cr_expect(fault->counts(fault_handle, &small) == -EINVAL);
}
