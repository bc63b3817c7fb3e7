/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections of states: the first byte of the input says which, the rest is the section. What is
 * taken is checked, shown, compared, and loaded into a mock VM, which must then give it back.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <impost/impost.h>

static struct impost_context *ctx;
static struct impost_vm *vm;
static struct impost_state *whole;

static void check(int err)
{
	if (!err)
		return;
	fprintf(stderr, "%s\n", impost_error(ctx));
	abort();
}

/* A mock VM, whose state lends the sections that the input does not have. */
static void begin(void)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = 0x100000};
	struct impost_vm_config config;
	struct impost_vcpu *vcpu;

	check(impost_context_open(NULL, NULL, &ctx));
	check(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	check(impost_vm_config_init(ctx, &config));
	config.backend = "mock";
	check(impost_vm_create(ctx, &config, &vm));
	check(impost_memory_add(impost_vm_memory(vm), &ram));
	check(impost_vcpu_create(vm, 0, &vcpu));
	check(impost_state_take(vm, &whole));
}

static int swallow(void *opaque, const char *text, size_t len)
{
	(void)text;
	*(size_t *)opaque += len;
	return 0;
}

static void use(const struct impost_state *state)
{
	struct impost_state *again = NULL;
	size_t bytes = 0;

	check(impost_state_print(state, swallow, &bytes));
	check(impost_state_json(state, swallow, &bytes));
	if (impost_state_diff(whole, state, NULL, NULL) < 0)
		abort();
	(void)impost_state_check(state, "mock", NULL, NULL);
	if (impost_state_load(state, vm))
		return;
	check(impost_state_take(vm, &again));
	impost_state_free(again);
	check(impost_state_load(whole, vm));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"machine", "vm", "vcpu.0", "host.x", "device.x.0"};
	struct impost_state *state = NULL;
	const char *name, *other;
	const void *lent;
	size_t len;

	if (!ctx)
		begin();
	if (!size)
		return 0;
	name = names[data[0] % (sizeof(names) / sizeof(names[0]))];
	check(impost_state_create(ctx, &state));
	if (impost_state_add(state, name, data + 1, size - 1) == 0) {
		for (uint32_t i = 0; impost_state_at(whole, i, &other, &lent, &len) == 0; i++)
			(void)impost_state_add(state, other, lent, len);
		use(state);
	}
	impost_state_free(state);
	return 0;
}
