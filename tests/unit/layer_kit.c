/* SPDX-License-Identifier: Apache-2.0 */
/* The kit of layers: each operation comes through with its arguments and its result, once. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"

/* What was called below, last, and how often. */
static struct {
	uint32_t op, calls;
	void *handle;
	unsigned char args[64];
	int32_t result; /* to be given */
} below;

/* What the hook saw, last, and what it shall do. */
static struct {
	uint32_t op, calls;
	const struct layer *layer;
	const struct layer_vm *vm;
	const struct layer_vcpu *vcpu;
	int32_t refuse;
	uint32_t vms_freed, vcpus_freed, closed;
} hook;

static int layer_below, vm_below, vcpu_below; /* handles */

static int32_t note(uint32_t op, void *handle, const void *args, size_t bytes)
{
	below.op = op;
	below.calls++;
	below.handle = handle;
	memset(below.args, 0, sizeof(below.args));
	memcpy(below.args, args, bytes);
	return below.result;
}

/* --- operations below, made from the same table: what reaches them is compared with what was given
 * --- */

#define PARAMS_0()
#define PARAMS_1(t, n)	    , t n
#define PARAMS_2(t, n, ...) , t n PARAMS_1(__VA_ARGS__)
#define PARAMS_3(t, n, ...) , t n PARAMS_2(__VA_ARGS__)
#define PARAMS_4(t, n, ...) , t n PARAMS_3(__VA_ARGS__)
#define NAMES_0()
#define NAMES_1(t, n)	   n
#define NAMES_2(t, n, ...) n, NAMES_1(__VA_ARGS__)
#define NAMES_3(t, n, ...) n, NAMES_2(__VA_ARGS__)
#define NAMES_4(t, n, ...) n, NAMES_3(__VA_ARGS__)

#define LAYER_OP(scope, name, count, ...)                                                \
	static int32_t below_##scope##_##name(void *handle PARAMS_##count(__VA_ARGS__))  \
	{                                                                                \
		struct layer_args_##scope##_##name args;                                 \
                                                                                         \
		memset(&args, 0, sizeof(args)); /* holes too */                          \
		args = (struct layer_args_##scope##_##name){NAMES_##count(__VA_ARGS__)}; \
		return note(layer_op_##scope##_##name, handle, &args, sizeof(args));     \
	}
#define LAYER_MAKE(scope, name, ...)
#define LAYER_END(scope, name)                                  \
	static void below_##scope##_##name(void *handle)        \
	{                                                       \
		note(layer_op_##scope##_##name, handle, "", 0); \
	}
#define LAYER_OTHER(scope, name)
#include "../../plugins/layer/ops.def"
#undef LAYER_OP
#undef LAYER_MAKE
#undef LAYER_END

static int32_t below_backend_vm_create(void *handle, const struct impost_vm_args *args,
				       void **ret_handle)
{
	int32_t err = note(layer_op_backend_vm_create, handle, &args, sizeof(void *));

	if (!err)
		*ret_handle = &vm_below;
	return err;
}

static int32_t below_vm_vcpu_create(void *handle, uint32_t id, void **ret_handle)
{
	int32_t err = note(layer_op_vm_vcpu_create, handle, &id, sizeof(id));

	if (!err)
		*ret_handle = &vcpu_below;
	return err;
}

static const void *below_vm_extension(void *handle, const char *name, void **ret_handle)
{
	cr_expect(handle == &vm_below);
	*ret_handle = handle;
	return strcmp(name, "below") == 0 ? "table" : NULL;
}

#define LAYER_OP(scope, name, ...)   MEMBER_##scope(name)
#define LAYER_MAKE(scope, name, ...) MEMBER_##scope(name)
#define LAYER_END(scope, name)	     MEMBER_##scope(name)
#undef LAYER_OTHER
#define LAYER_OTHER(scope, name) OTHER_##scope(name)
#define MEMBER_backend(name)
#define OTHER_backend(name)
static const struct impost_vm_ops below_vm_ops = {
	.size = sizeof(below_vm_ops),
#define MEMBER_vm(name) .name = below_vm_##name,
#define OTHER_vm(name)	.name = below_vm_##name,
#define MEMBER_vcpu(name)
#include "../../plugins/layer/ops.def"
#undef MEMBER_vm
#undef OTHER_vm
#undef MEMBER_vcpu
};
static const struct impost_vcpu_ops below_vcpu_ops = {
	.size = sizeof(below_vcpu_ops),
#define MEMBER_vm(name)
#define OTHER_vm(name)
#define MEMBER_vcpu(name) .name = below_vcpu_##name,
#include "../../plugins/layer/ops.def"
#undef MEMBER_vm
#undef MEMBER_vcpu
#undef MEMBER_backend
};
static const struct impost_backend_ops below_ops = {
	.size = sizeof(below_ops),
	.vm = &below_vm_ops,
	.vcpu = &below_vcpu_ops,
#define MEMBER_backend(name) .name = below_backend_##name,
#define MEMBER_vm(name)
#define MEMBER_vcpu(name)
#include "../../plugins/layer/ops.def"
#undef LAYER_OP
#undef LAYER_MAKE
#undef LAYER_END
#undef LAYER_OTHER
};

/* --- the layer --- */

static int32_t on_open(struct layer *layer, const struct impost_open_args *args)
{
	const struct impost_option *option = layer_option(args, "fail");

	cr_expect(!layer_option(args, "other"));
	*(uint64_t *)layer->data = 1;
	return option ? -atoi(option->value) : 0;
}

static void on_close(struct layer *layer)
{
	cr_expect(*(uint64_t *)layer->data == 1);
	hook.closed++;
}

static int32_t on_call(struct layer_call *call)
{
	hook.op = call->op;
	hook.calls++;
	hook.layer = call->layer;
	hook.vm = call->vm;
	hook.vcpu = call->vcpu;
	return hook.refuse ? hook.refuse : layer_pass(call);
}

static void on_vm_free(struct layer_vm *vm)
{
	cr_expect((uintptr_t)vm->data % 64 == 0 && *(uint64_t *)vm->data == 0);
	hook.vms_freed++;
}

static void on_vcpu_free(struct layer_vcpu *vcpu)
{
	cr_expect((uintptr_t)vcpu->data % 64 == 0 && ((char *)vcpu->data)[99] == 0);
	hook.vcpus_freed++;
}

static const void *on_extension(struct layer_vm *vm, const char *name, void **ret_handle)
{
	*ret_handle = vm;
	return strcmp(name, "own") == 0 ? "own table" : NULL;
}

static const struct layer_kind kind = {
	.layer_bytes = 8,
	.vm_bytes = 8,
	.vcpu_bytes = 100,
	.open = on_open,
	.close = on_close,
	.call = on_call,
	.vm_free = on_vm_free,
	.vcpu_free = on_vcpu_free,
	.extension = on_extension,
};

static int32_t open_layer(const struct impost_open_args *args, void **ret_layer)
{
	return layer_open(&kind, args, ret_layer);
}

static const struct impost_backend_ops ops = LAYER_BACKEND_OPS(open_layer);

/* --- a chain of it --- */

static char said[256];

static void error(void *ctx, const char *text)
{
	(void)ctx;
	snprintf(said, sizeof(said), "%s", text);
}

static const struct impost_host host = {.size = sizeof(host), .error = error};
static const struct impost_open_args open_args = {
	.size = sizeof(open_args),
	.host = &host,
	.below_ops = &below_ops,
	.below = &layer_below,
	.backend = "below",
	.backend_version = "1",
};
static const struct impost_vm_args vm_args = {
	.size = sizeof(vm_args), .max_vcpus = 3, .host = &host};
static void *layer, *vm, *vcpu;

static void begin(void)
{
	cr_assert(ops.open(&open_args, &layer) == 0);
	cr_assert(ops.vm_create(layer, &vm_args, &vm) == 0);
	cr_assert(ops.vm->vcpu_create(vm, 7, &vcpu) == 0);
}

static void end(void)
{
	ops.vcpu->destroy(vcpu);
	cr_expect(below.op == layer_op_vcpu_destroy && below.handle == &vcpu_below);
	ops.vm->destroy(vm);
	cr_expect(below.op == layer_op_vm_destroy && below.handle == &vm_below);
	ops.close(layer);
	cr_expect(hook.closed == 1);
}

TestSuite(layer_kit, .init = begin, .fini = end);

/* Arguments that differ from each other, of any type. */
#define GIVEN(t, n, i) args.n = (t)(uintptr_t)(0x1100 + (i));
#define FILL_0()
#define FILL_1(t, n)	  GIVEN(t, n, 1)
#define FILL_2(t, n, ...) GIVEN(t, n, 2) FILL_1(__VA_ARGS__)
#define FILL_3(t, n, ...) GIVEN(t, n, 3) FILL_2(__VA_ARGS__)
#define FILL_4(t, n, ...) GIVEN(t, n, 4) FILL_3(__VA_ARGS__)
#define FROM_0()
#define FROM_1(t, n)	  , args.n
#define FROM_2(t, n, ...) , args.n FROM_1(__VA_ARGS__)
#define FROM_3(t, n, ...) , args.n FROM_2(__VA_ARGS__)
#define FROM_4(t, n, ...) , args.n FROM_3(__VA_ARGS__)

#define TABLE_backend	  ops
#define TABLE_vm	  layer_vm_ops
#define TABLE_vcpu	  layer_vcpu_ops
#define HANDLE_backend	  layer
#define HANDLE_vm	  vm
#define HANDLE_vcpu	  vcpu
#define BELOW_backend	  layer_below
#define BELOW_vm	  vm_below
#define BELOW_vcpu	  vcpu_below

/* It came through once, to HANDLE, with ARGS; RESULT came back. */
static void expect_passed(uint32_t op, const void *handle, const void *args, size_t bytes,
			  int32_t result)
{
	const char *name = layer_op_name(op);

	cr_expect(result == -77, "%s: %d", name, result);
	cr_expect(below.op == op && below.calls == 1 && below.handle == handle, "%s", name);
	cr_expect(memcmp(below.args, args, bytes) == 0, "%s: its arguments", name);
	cr_expect(hook.op == op && hook.calls == 1 && hook.layer == layer, "%s: hook", name);
	below.calls = hook.calls = 0;
}

/* A hook that refuses: nothing comes through. */
static void expect_refused(uint32_t op, int32_t result)
{
	cr_expect(result == -5 && below.calls == 0 && hook.calls == 1, "%s", layer_op_name(op));
	hook.calls = 0;
	hook.refuse = 0;
}

static uint32_t rows;

#define LAYER_OP(scope, name, count, ...)                                                     \
	static void try_##scope##_##name(void)                                                \
	{                                                                                     \
		struct layer_args_##scope##_##name args;                                      \
		int32_t result;                                                               \
                                                                                              \
		memset(&args, 0, sizeof(args));                                               \
		FILL_##count(__VA_ARGS__);                                                    \
		result = TABLE_##scope.name(HANDLE_##scope FROM_##count(__VA_ARGS__));        \
		expect_passed(layer_op_##scope##_##name, &BELOW_##scope, &args, sizeof(args), \
			      result);                                                        \
		hook.refuse = -5;                                                             \
		result = TABLE_##scope.name(HANDLE_##scope FROM_##count(__VA_ARGS__));        \
		expect_refused(layer_op_##scope##_##name, result);                            \
		rows++;                                                                       \
	}
#define LAYER_MAKE(scope, name, ...)
#define LAYER_END(scope, name)
#define LAYER_OTHER(scope, name)
#include "../../plugins/layer/ops.def"
#undef LAYER_OP

Test(layer_kit, operations_come_through)
{
	below.result = -77;
	below.calls = hook.calls = 0;
#define LAYER_OP(scope, name, ...) try_##scope##_##name();
#include "../../plugins/layer/ops.def"
#undef LAYER_OP
#undef LAYER_MAKE
#undef LAYER_END
#undef LAYER_OTHER
	cr_expect(rows == LAYER_OPS - 4, "%u", rows); /* two that make, two that end */
	below.result = 0;
}

Test(layer_kit, the_hook_knows_where_it_is)
{
	cr_expect(ops.cpuid_supported(layer, NULL, 0, NULL) == 0);
	cr_expect(hook.layer == layer && !hook.vm && !hook.vcpu);
	cr_expect(layer_vm_ops.pause(vm) == 0);
	cr_expect(hook.layer == layer && hook.vm == vm && !hook.vcpu);
	cr_expect(layer_vcpu_ops.kick(vcpu) == 0);
	cr_expect(hook.layer == layer && hook.vm == vm && hook.vcpu == vcpu);
	cr_expect(hook.vm->max_vcpus == 3 && hook.vm->host == &host && hook.vcpu->id == 7);
	cr_expect(strcmp(hook.layer->backend, "below") == 0);
}

/* Whether it is the layer or what is below that refuses, what was made for it is gone. */
Test(layer_kit, what_is_not_made_is_freed)
{
	void *other = NULL;

	below.result = -12;
	cr_expect(ops.vm_create(layer, &vm_args, &other) == -12 && !other);
	cr_expect(hook.vms_freed == 1);
	cr_expect(ops.vm->vcpu_create(vm, 1, &other) == -12 && !other);
	cr_expect(hook.vcpus_freed == 1 && hook.vm == vm && hook.vcpu);
	below.result = 0;
	hook.refuse = -5;
	below.calls = 0;
	cr_expect(ops.vm_create(layer, &vm_args, &other) == -5 && !other);
	cr_expect(ops.vm->vcpu_create(vm, 1, &other) == -5 && !other);
	cr_expect(hook.vms_freed == 2 && hook.vcpus_freed == 2 && below.calls == 0);
	hook.refuse = 0;
}

Test(layer_kit, an_open_that_fails)
{
	static const struct impost_option fail = {"fail", "22", "here"};
	struct impost_open_args args = open_args;
	void *other = NULL;

	args.options = &fail;
	args.noptions = 1;
	cr_expect(ops.open(&args, &other) == -22 && !other && hook.closed == 0);
}

Test(layer_kit, extensions)
{
	void *handle = NULL;
	const void *table;

	table = layer_vm_ops.extension(vm, "own", &handle);
	cr_expect(table && strcmp(table, "own table") == 0 && handle == vm);
	table = layer_vm_ops.extension(vm, "below", &handle);
	cr_expect(table && strcmp(table, "table") == 0 && handle == &vm_below);
	cr_expect(!layer_vm_ops.extension(vm, "none", &handle));
}

Test(layer_kit, names)
{
	cr_expect(strcmp(layer_op_name(layer_op_vcpu_run), "vcpu.run") == 0);
	cr_expect(layer_op_is(layer_op_vcpu_run, "run") &&
		  layer_op_is(layer_op_vcpu_run, "vcpu.run"));
	cr_expect(!layer_op_is(layer_op_vcpu_run, "vm.run") &&
		  !layer_op_is(layer_op_vcpu_run, "r"));
	cr_expect(layer_op_is(layer_op_vm_state_get, "state_get"));
	cr_expect(layer_op_is(layer_op_vcpu_state_get, "state_get"));
	cr_expect(!layer_op_is(layer_op_vm_state_get, "vcpu.state_get"));
}
