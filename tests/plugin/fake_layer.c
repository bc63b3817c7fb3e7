/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer for the tests of chains: it logs what it is asked as "NAME VALUE: OP", passes a few
 * operations on, and has others that must never be called. The build makes several of it.
 */
#include <stdlib.h>
#include <string.h>

#include <impost/backend.h>

#ifndef FAKE_FIRST
#define FAKE_FIRST IMPOST_OPTION_STRING
#endif
#ifndef FAKE_NOPTIONS
#define FAKE_NOPTIONS 4
#endif

/* The layer, and what it makes: a handle below, with the operations that it takes. */
struct layer {
	const struct impost_backend_ops *ops;
	void *below;
	const struct impost_host *host;
	char value[64];
	uint32_t drop, claim; /* capabilities, by number and 1; 0: none */
};

struct vm {
	const struct layer *layer;
	void *below;
};

struct vcpu {
	const struct layer *layer;
	void *below;
};

static void tell(const struct layer *layer, const char *op)
{
	impost_host_log(layer->host, IMPOST_LOG_INFO, "%s %s: %s", FAKE_NAME, layer->value, op);
}

/* --- vCPU --- */

static void vcpu_destroy(void *handle)
{
	struct vcpu *vcpu = handle;

	tell(vcpu->layer, "vcpu destroy");
	vcpu->layer->ops->vcpu->destroy(vcpu->below);
	free(vcpu);
}

static int32_t vcpu_run(void *handle, struct impost_exit *ret_exit)
{
	struct vcpu *vcpu = handle;

	tell(vcpu->layer, "run");
	return vcpu->layer->ops->vcpu->run(vcpu->below, ret_exit);
}

static int32_t vcpu_kick(void *handle)
{
	struct vcpu *vcpu = handle;

	return vcpu->layer->ops->vcpu->kick(vcpu->below);
}

static int32_t vcpu_irq_inject(void *handle, uint32_t vector)
{
	struct vcpu *vcpu = handle;

	tell(vcpu->layer, "irq_inject");
	return vcpu->layer->ops->vcpu->irq_inject(vcpu->below, vector);
}

/* The fake has none: the core must not call it. */
static int32_t vcpu_translate(void *handle, uint64_t gva, uint64_t *ret_gpa)
{
	struct vcpu *vcpu = handle;

	return vcpu->layer->ops->vcpu->translate(vcpu->below, gva, ret_gpa);
}

static int32_t vcpu_state_get(void *handle, uint32_t section, void *buf, uint32_t capacity,
			      uint32_t *ret_size)
{
	struct vcpu *vcpu = handle;

	return vcpu->layer->ops->vcpu->state_get(vcpu->below, section, buf, capacity, ret_size);
}

static int32_t vcpu_state_set(void *handle, uint32_t section, const void *buf, uint32_t bytes)
{
	struct vcpu *vcpu = handle;

	return vcpu->layer->ops->vcpu->state_set(vcpu->below, section, buf, bytes);
}

static const struct impost_vcpu_ops vcpu_ops = {
	.size = sizeof(vcpu_ops),
	.destroy = vcpu_destroy,
	.run = vcpu_run,
	.kick = vcpu_kick,
	.irq_inject = vcpu_irq_inject,
	.translate = vcpu_translate,
	.state_get = vcpu_state_get,
	.state_set = vcpu_state_set,
};

/* --- VM --- */

static void vm_destroy(void *handle)
{
	struct vm *vm = handle;

	tell(vm->layer, "vm destroy");
	vm->layer->ops->vm->destroy(vm->below);
	free(vm);
}

static int32_t vm_vcpu_create(void *handle, uint32_t id, void **ret_vcpu)
{
	struct vm *vm = handle;
	struct vcpu *vcpu = malloc(sizeof(*vcpu));
	int32_t err = vcpu ? 0 : -ENOMEM;

	tell(vm->layer, "vcpu_create");
	if (!err)
		err = vm->layer->ops->vm->vcpu_create(vm->below, id, &vcpu->below);
	if (err) {
		free(vcpu);
		return err;
	}
	vcpu->layer = vm->layer;
	*ret_vcpu = vcpu;
	return 0;
}

static int32_t vm_mem_add(void *handle, const struct impost_slot *slot)
{
	struct vm *vm = handle;

	return vm->layer->ops->vm->mem_add(vm->below, slot);
}

static int32_t vm_mem_remove(void *handle, uint32_t slot)
{
	struct vm *vm = handle;

	return vm->layer->ops->vm->mem_remove(vm->below, slot);
}

static int32_t vm_irq_line(void *handle, uint32_t gsi, uint32_t level)
{
	struct vm *vm = handle;

	tell(vm->layer, "irq_line");
	return vm->layer->ops->vm->irq_line(vm->below, gsi, level);
}

/* What the fake has not, like translate. */
static int32_t vm_gsi_routes(void *handle, const struct impost_gsi_route *routes, uint32_t nroutes)
{
	struct vm *vm = handle;

	return vm->layer->ops->vm->gsi_routes(vm->below, routes, nroutes);
}

/* Its own by its name; what is below by theirs. */
static const void *vm_extension(void *handle, const char *name, void **ret_handle)
{
	struct vm *vm = handle;

	if (strcmp(name, FAKE_NAME) == 0) {
		*ret_handle = (void *)(uintptr_t)vm->layer->value;
		return FAKE_NAME;
	}
	if (!vm->layer->ops->vm->extension)
		return NULL;
	return vm->layer->ops->vm->extension(vm->below, name, ret_handle);
}

static const struct impost_vm_ops vm_ops = {
	.size = sizeof(vm_ops),
	.destroy = vm_destroy,
	.vcpu_create = vm_vcpu_create,
	.mem_add = vm_mem_add,
	.mem_remove = vm_mem_remove,
	.irq_line = vm_irq_line,
	.gsi_routes = vm_gsi_routes,
	.extension = vm_extension,
};

/* --- the layer --- */

static int32_t layer_open(const struct impost_open_args *args, void **ret_layer)
{
	struct layer *layer = calloc(1, sizeof(*layer));
	int32_t err = layer ? 0 : -ENOMEM;

	for (uint32_t i = 0; !err && i < args->noptions; i++) {
		const struct impost_option *option = &args->options[i];

		if (strcmp(option->key, "value") == 0)
			snprintf(layer->value, sizeof(layer->value), "%s", option->value);
		else if (strcmp(option->key, "fail") == 0)
			err = impost_host_error(args->host, -(int32_t)atoi(option->value),
						"it was to fail (%s)", option->where);
		else if (strcmp(option->key, "drop") == 0)
			layer->drop = (uint32_t)atoi(option->value) + 1;
		else if (strcmp(option->key, "claim") == 0)
			layer->claim = (uint32_t)atoi(option->value) + 1;
	}
	if (err) {
		free(layer);
		return err;
	}
	if (args->size < sizeof(*args) || strcmp(args->backend_version, "1.2.3") != 0 ||
	    (strcmp(args->backend, "fake") != 0 && strcmp(args->backend, "smaller") != 0)) {
		free(layer);
		return impost_host_error(args->host, -EINVAL, "the backend has no name");
	}
	layer->ops = args->below_ops;
	layer->below = args->below;
	layer->host = args->host;
	tell(layer, "open");
	*ret_layer = layer;
	return 0;
}

static void layer_close(void *handle)
{
	tell(handle, "close");
	free(handle);
}

static int32_t layer_caps(void *handle, struct impost_caps *ret_caps)
{
	const struct layer *layer = handle;
	int32_t err = layer->ops->caps(layer->below, ret_caps);
	uint64_t bit;

	if (!err && layer->drop) {
		bit = layer->drop - 1;
		ret_caps->bits[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
	}
	if (!err && layer->claim)
		impost_caps_add(ret_caps, (enum impost_cap)(layer->claim - 1));
	return err;
}

static int32_t layer_vm_create(void *handle, const struct impost_vm_args *args, void **ret_vm)
{
	const struct layer *layer = handle;
	struct vm *vm = malloc(sizeof(*vm));
	int32_t err = vm ? 0 : -ENOMEM;

	tell(layer, "vm_create");
	if (!err)
		err = layer->ops->vm_create(layer->below, args, &vm->below);
	if (err) {
		free(vm);
		return err;
	}
	vm->layer = layer;
	*ret_vm = vm;
	return 0;
}

static const struct impost_backend_ops layer_ops = {
	.size = sizeof(layer_ops),
	.vm = &vm_ops,
	.vcpu = &vcpu_ops,
	.open = layer_open,
	.close = layer_close,
	.caps = layer_caps,
	.vm_create = layer_vm_create,
};

static const struct impost_option_desc options[] = {
	{sizeof(options[0]), FAKE_FIRST, "value", NULL, NULL, "what is logged"},
	{sizeof(options[0]), IMPOST_OPTION_UINT, "fail", NULL, NULL, "open fails so"},
	{sizeof(options[0]), IMPOST_OPTION_UINT, "drop", NULL, NULL, "a capability to take away"},
	{sizeof(options[0]), IMPOST_OPTION_UINT, "claim", NULL, NULL, "a capability to claim"},
};

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_LAYER,
	.name = FAKE_NAME,
	.version = "1.2.3",
	.summary = "a layer for tests",
	.ops = &layer_ops,
	.options = options,
	.noptions = FAKE_NOPTIONS,
};
