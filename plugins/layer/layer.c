/* SPDX-License-Identifier: Apache-2.0 */
/* Operations that pass everything on, each through its layer's hook. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

/* --- names --- */

static const char *const names[LAYER_OPS] = {
#define LAYER_OP(scope, name, ...)   [layer_op_##scope##_##name] = #scope "." #name,
#define LAYER_MAKE(scope, name, ...) [layer_op_##scope##_##name] = #scope "." #name,
#define LAYER_END(scope, name)	     [layer_op_##scope##_##name] = #scope "." #name,
#define LAYER_OTHER(scope, name)
#include "ops.def"
#undef LAYER_OP
#undef LAYER_MAKE
#undef LAYER_END
#undef LAYER_OTHER
};

const char *layer_op_name(uint32_t op)
{
	return names[op];
}

int layer_op_is(uint32_t op, const char *word)
{
	return strcmp(names[op], word) == 0 || strcmp(strchr(names[op], '.') + 1, word) == 0;
}

/* --- objects --- */

/* Data lies at its own cache lines: vCPUs' are written by several threads at once. */
#define LINE	      ((size_t)64)
#define LINES_OF(len) (((len) + LINE - 1) / LINE * LINE)

/* Zeroed memory for an object of BYTES, with MORE after it at *RET_DATA. */
static void *make(size_t bytes, size_t more, void **ret_data)
{
	size_t head = LINES_OF(bytes), all = head + LINES_OF(more);
	char *memory = aligned_alloc(LINE, all);

	if (memory) {
		memset(memory, 0, all);
		*ret_data = memory + head;
	}
	return memory;
}

int32_t layer_open(const struct layer_kind *kind, const struct impost_open_args *args,
		   void **ret_layer)
{
	void *data;
	struct layer *layer = make(sizeof(*layer), kind->layer_bytes, &data);
	int32_t err;

	if (!layer)
		return impost_host_error(args->host, -ENOMEM, "no memory for a layer");
	*layer = (struct layer){
		.kind = kind,
		.host = args->host,
		.ops = args->below_ops,
		.below = args->below,
		.backend = args->backend,
		.backend_version = args->backend_version,
		.data = data,
	};
	err = kind->open ? kind->open(layer, args) : 0;
	if (err) {
		free(layer);
		return err;
	}
	*ret_layer = layer;
	return 0;
}

void layer_close(void *handle)
{
	struct layer *layer = handle;

	if (layer->kind->close)
		layer->kind->close(layer);
	free(layer);
}

const struct impost_option *layer_option(const struct impost_open_args *args, const char *key)
{
	for (uint32_t i = 0; i < args->noptions; i++)
		if (strcmp(args->options[i].key, key) == 0)
			return &args->options[i];
	return NULL;
}

static void free_vm(struct layer_vm *vm)
{
	if (vm->layer->kind->vm_free)
		vm->layer->kind->vm_free(vm);
	free(vm);
}

static void free_vcpu(struct layer_vcpu *vcpu)
{
	if (vcpu->vm->layer->kind->vcpu_free)
		vcpu->vm->layer->kind->vcpu_free(vcpu);
	free(vcpu);
}

/* --- calls that make objects, and end them --- */

static int32_t pass_vm_create(struct layer_call *call)
{
	const struct layer_args_backend_vm_create *args = call->args;

	return call->layer->ops->vm_create(call->layer->below, args->args, &call->vm->below);
}

int32_t layer_vm_create(void *handle, const struct impost_vm_args *args, void **ret_handle)
{
	struct layer *layer = handle;
	struct layer_args_backend_vm_create all = {args, ret_handle};
	void *data;
	struct layer_vm *vm = make(sizeof(*vm), layer->kind->vm_bytes, &data);
	struct layer_call call = {
		.op = layer_op_backend_vm_create,
		.layer = layer,
		.vm = vm,
		.args = &all,
		.pass = pass_vm_create,
	};
	int32_t err;

	if (!vm)
		return impost_host_error(layer->host, -ENOMEM, "no memory for a layer's VM");
	*vm = (struct layer_vm){
		.layer = layer, .host = args->host, .max_vcpus = args->max_vcpus, .data = data};
	err = layer->kind->call(&call);
	if (err)
		free_vm(vm);
	else
		*ret_handle = vm;
	return err;
}

static int32_t pass_vm_destroy(struct layer_call *call)
{
	call->layer->ops->vm->destroy(call->vm->below);
	return 0;
}

static void vm_destroy(void *handle)
{
	struct layer_vm *vm = handle;
	struct layer_call call = {
		.op = layer_op_vm_destroy,
		.layer = vm->layer,
		.vm = vm,
		.pass = pass_vm_destroy,
	};

	vm->layer->kind->call(&call);
	free_vm(vm);
}

static int32_t pass_vcpu_create(struct layer_call *call)
{
	const struct layer_args_vm_vcpu_create *args = call->args;

	return call->layer->ops->vm->vcpu_create(call->vm->below, args->id, &call->vcpu->below);
}

static int32_t vm_vcpu_create(void *handle, uint32_t id, void **ret_handle)
{
	struct layer_vm *vm = handle;
	struct layer *layer = vm->layer;
	struct layer_args_vm_vcpu_create all = {id, ret_handle};
	void *data;
	struct layer_vcpu *vcpu = make(sizeof(*vcpu), layer->kind->vcpu_bytes, &data);
	struct layer_call call = {
		.op = layer_op_vm_vcpu_create,
		.layer = layer,
		.vm = vm,
		.vcpu = vcpu,
		.args = &all,
		.pass = pass_vcpu_create,
	};
	int32_t err;

	if (!vcpu)
		return impost_host_error(vm->host, -ENOMEM, "no memory for a layer's vCPU");
	*vcpu = (struct layer_vcpu){.vm = vm, .id = id, .data = data};
	err = layer->kind->call(&call);
	if (err)
		free_vcpu(vcpu);
	else
		*ret_handle = vcpu;
	return err;
}

static int32_t pass_vcpu_destroy(struct layer_call *call)
{
	call->layer->ops->vcpu->destroy(call->vcpu->below);
	return 0;
}

static void vcpu_destroy(void *handle)
{
	struct layer_vcpu *vcpu = handle;
	struct layer_call call = {
		.op = layer_op_vcpu_destroy,
		.layer = vcpu->vm->layer,
		.vm = vcpu->vm,
		.vcpu = vcpu,
		.pass = pass_vcpu_destroy,
	};

	call.layer->kind->call(&call);
	free_vcpu(vcpu);
}

/* The layer's own, else what is below: the core does not look whether there is any. */
static const void *vm_extension(void *handle, const char *name, void **ret_handle)
{
	struct layer_vm *vm = handle;
	const struct impost_vm_ops *ops = vm->layer->ops->vm;
	const void *table = NULL;

	if (vm->layer->kind->extension)
		table = vm->layer->kind->extension(vm, name, ret_handle);
	if (!table && ops->extension)
		table = ops->extension(vm->below, name, ret_handle);
	return table;
}

/* --- all others: from parameters to a struct of them, and below from it to parameters again --- */

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
#define FROM_0()
#define FROM_1(t, n)	  , args->n
#define FROM_2(t, n, ...) , args->n FROM_1(__VA_ARGS__)
#define FROM_3(t, n, ...) , args->n FROM_2(__VA_ARGS__)
#define FROM_4(t, n, ...) , args->n FROM_3(__VA_ARGS__)

/* By scope: what its handle is, what a call of it has, and what is called below, with what. */
#define OBJECT_backend	    struct layer
#define OBJECT_vm	    struct layer_vm
#define OBJECT_vcpu	    struct layer_vcpu
#define PLACE_backend(it)   .layer = (it)
#define PLACE_vm(it)	    .layer = (it)->layer, .vm = (it)
#define PLACE_vcpu(it)	    .layer = (it)->vm->layer, .vm = (it)->vm, .vcpu = (it)
#define OPS_backend(call)   (call)->layer->ops
#define OPS_vm(call)	    (call)->layer->ops->vm
#define OPS_vcpu(call)	    (call)->layer->ops->vcpu
#define BELOW_backend(call) (call)->layer->below
#define BELOW_vm(call)	    (call)->vm->below
#define BELOW_vcpu(call)    (call)->vcpu->below
#define NAMED_backend(name) int32_t layer_##name
#define NAMED_vm(name)	    static int32_t vm_##name
#define NAMED_vcpu(name)    static int32_t vcpu_##name

#define LAYER_OP(scope, name, count, ...)                                                      \
	static int32_t pass_##scope##_##name(struct layer_call *call)                          \
	{                                                                                      \
		const struct layer_args_##scope##_##name *args = call->args;                   \
                                                                                               \
		(void)args;                                                                    \
		return OPS_##scope(call)->name(BELOW_##scope(call) FROM_##count(__VA_ARGS__)); \
	}                                                                                      \
                                                                                               \
	NAMED_##scope(name)(void *handle PARAMS_##count(__VA_ARGS__))                          \
	{                                                                                      \
		OBJECT_##scope *it = handle;                                                   \
		struct layer_args_##scope##_##name args = {NAMES_##count(__VA_ARGS__)};        \
		struct layer_call call = {                                                     \
			.op = layer_op_##scope##_##name,                                       \
			PLACE_##scope(it),                                                     \
			.args = &args,                                                         \
			.pass = pass_##scope##_##name,                                         \
		};                                                                             \
                                                                                               \
		return call.layer->kind->call(&call);                                          \
	}
#define LAYER_MAKE(scope, name, ...)
#define LAYER_END(scope, name)
#define LAYER_OTHER(scope, name)
#include "ops.def"
#undef LAYER_OP
#undef LAYER_MAKE
#undef LAYER_END
#undef LAYER_OTHER

/* --- tables --- */

#define LAYER_OP(scope, name, ...)   MEMBER_##scope(name)
#define LAYER_MAKE(scope, name, ...) MEMBER_##scope(name)
#define LAYER_END(scope, name)	     MEMBER_##scope(name)
#define LAYER_OTHER(scope, name)     MEMBER_##scope(name)
#define MEMBER_backend(name)

const struct impost_vm_ops layer_vm_ops = {
	.size = sizeof(layer_vm_ops),
#define MEMBER_vm(name) .name = vm_##name,
#define MEMBER_vcpu(name)
#include "ops.def"
#undef MEMBER_vm
#undef MEMBER_vcpu
};

const struct impost_vcpu_ops layer_vcpu_ops = {
	.size = sizeof(layer_vcpu_ops),
#define MEMBER_vm(name)
#define MEMBER_vcpu(name) .name = vcpu_##name,
#include "ops.def"
};
