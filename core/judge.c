/* SPDX-License-Identifier: Apache-2.0 */
/* Judging a plugin: its descriptor before anything of it is called, its capabilities after open. */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "plugin.h"
#include "text.h"

bool plugin_name_is_valid(const char *name, size_t len)
{
	if (len < 1 || len > 15)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-", name[i]))
			return false;
	return true;
}

/* An operation in one of the tables. */
struct op {
	size_t offset;
	const char *name;
};

#define OP(table, op)                           \
	{                                       \
		offsetof(struct table, op), #op \
	}

static const struct op backend_mandatory[] = {
	OP(impost_backend_ops, open),
	OP(impost_backend_ops, close),
	OP(impost_backend_ops, caps),
	OP(impost_backend_ops, vm_create),
};
static const struct op vm_mandatory[] = {
	OP(impost_vm_ops, destroy),
	OP(impost_vm_ops, vcpu_create),
};
static const struct op vcpu_mandatory[] = {
	OP(impost_vcpu_ops, destroy),	OP(impost_vcpu_ops, run),	OP(impost_vcpu_ops, kick),
	OP(impost_vcpu_ops, state_get), OP(impost_vcpu_ops, state_set),
};

/* Whether TABLE has no operation at OFFSET. */
static bool lacks(const void *table, size_t offset)
{
	void *op;

	memcpy(&op, (const char *)table + offset, sizeof(op));
	return !op;
}

static int judge_ops(struct impost_context *ctx, const char *what, const void *table,
		     const struct op *mandatory, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (lacks(table, mandatory[i].offset))
			return impost_error_set(ctx, -IMPOST_EABI,
						"its %s operations lack %s, which is mandatory",
						what, mandatory[i].name);
	return 0;
}

static int copy_ops(struct impost_context *ctx, struct plugin *plugin)
{
	const struct impost_backend_ops *ops = plugin->desc.ops;
	struct ops *own = &plugin->ops;
	int err;

	if (!ops)
		return impost_error_set(ctx, -IMPOST_EABI, "it has no operations");
	abi_copy(&own->backend, sizeof(own->backend), ops, ops->size);
	if (!own->backend.vm || !own->backend.vcpu)
		return impost_error_set(ctx, -IMPOST_EABI, "it has no %s operations",
					own->backend.vm ? "vCPU" : "VM");
	abi_copy(&own->vm, sizeof(own->vm), ops->vm, ops->vm->size);
	abi_copy(&own->vcpu, sizeof(own->vcpu), ops->vcpu, ops->vcpu->size);
	own->backend.size = sizeof(own->backend); /* as layers over it are to see them */
	own->vm.size = sizeof(own->vm);
	own->vcpu.size = sizeof(own->vcpu);
	own->backend.vm = &own->vm;
	own->backend.vcpu = &own->vcpu;
	err = judge_ops(ctx, "backend", &own->backend, backend_mandatory,
			ARRAY_SIZE(backend_mandatory));
	if (!err)
		err = judge_ops(ctx, "VM", &own->vm, vm_mandatory, ARRAY_SIZE(vm_mandatory));
	if (!err)
		err = judge_ops(ctx, "vCPU", &own->vcpu, vcpu_mandatory,
				ARRAY_SIZE(vcpu_mandatory));
	return err;
}

static int judge_option(struct impost_context *ctx, const struct impost_option_desc *option)
{
	const char *key = option->key;

	if (!key || !key[0] || strlen(key) > 31 ||
	    key[strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_-")])
		return impost_error_set(ctx, -IMPOST_EABI,
					"an option's key is not 1 to 31 of a-z, 0-9, '_', '-'");
	if (option->type < IMPOST_OPTION_STRING || option->type > IMPOST_OPTION_BOOL)
		return impost_error_set(ctx, -IMPOST_EABI, "option %s is of unknown type %u", key,
					option->type);
	if (option->type == IMPOST_OPTION_ENUM && !option->choices)
		return impost_error_set(ctx, -IMPOST_EABI, "option %s has no choices", key);
	return 0;
}

/* Elements of an array that a later minor made longer stand at the plugin's distance. */
static int copy_options(struct impost_context *ctx, struct plugin *plugin)
{
	const struct impost_option_desc *first = plugin->desc.options;
	uint32_t count = plugin->desc.noptions;
	int err = 0;

	if (count == 0)
		return 0;
	if (!first || count > 1000 || first->size < offsetof(struct impost_option_desc, choices) ||
	    first->size % sizeof(void *))
		return impost_error_set(ctx, -IMPOST_EABI, "its options are malformed");
	plugin->options = calloc(count, sizeof(*plugin->options));
	if (!plugin->options)
		return impost_error_set(ctx, -ENOMEM, "no memory for its options");
	for (uint32_t i = 0; !err && i < count; i++) {
		abi_copy(&plugin->options[i], sizeof(*plugin->options),
			 (const char *)first + (size_t)i * first->size, first->size);
		err = judge_option(ctx, &plugin->options[i]);
	}
	return err;
}

static int judge_names(struct impost_context *ctx, struct plugin *plugin)
{
	struct impost_plugin *desc = &plugin->desc;

	if (desc->kind != IMPOST_PLUGIN_BACKEND && desc->kind != IMPOST_PLUGIN_LAYER)
		return impost_error_set(ctx, -IMPOST_EABI, "it is of unknown kind %u", desc->kind);
	if (!desc->name || !plugin_name_is_valid(desc->name, strnlen(desc->name, 16)))
		return impost_error_set(ctx, -IMPOST_EABI,
					"its name is not 1 to 15 of a-z, 0-9, '-'");
	if (plugin->name && strcmp(plugin->name, desc->name) != 0)
		return impost_error_set(ctx, -IMPOST_EABI,
					"it calls itself %s: the file must be %s.so", desc->name,
					desc->name);
	return 0;
}

int plugin_judge(struct impost_context *ctx, struct plugin *plugin,
		 const struct impost_plugin *desc)
{
	struct impost_plugin *copy = &plugin->desc;
	int err;

	if (desc->magic != IMPOST_PLUGIN_MAGIC)
		return impost_error_set(ctx, -IMPOST_EABI,
					"its descriptor has magic 0x%08x: it is no plugin, or was "
					"built with a broken compiler",
					desc->magic);
	if (desc->abi_major != IMPOST_PLUGIN_ABI_MAJOR)
		return impost_error_set(ctx, -IMPOST_EABI,
					"it speaks plugin ABI %u.%u, and this library %u.%u: build "
					"it for this library",
					desc->abi_major, desc->abi_minor, IMPOST_PLUGIN_ABI_MAJOR,
					IMPOST_PLUGIN_ABI_MINOR);
	abi_copy(copy, sizeof(*copy), desc, desc->size);
	err = judge_names(ctx, plugin);
	if (!err)
		err = copy_ops(ctx, plugin);
	if (!err)
		err = copy_options(ctx, plugin);
	copy->version = copy->version ? copy->version : "";
	copy->summary = copy->summary ? copy->summary : "";
	copy->capabilities = copy->capabilities ? copy->capabilities : "";
	return err;
}

/* Operations that a capability promises. */
#define VM   offsetof(struct ops, vm)
#define VCPU offsetof(struct ops, vcpu)
#define PROMISE(CAP, base, table, op)                            \
	{                                                        \
		IMPOST_CAP_##CAP,                                \
		{                                                \
			(base) + offsetof(struct table, op), #op \
		}                                                \
	}

static const struct {
	enum impost_cap cap;
	struct op op;
} promises[] = {
	PROMISE(MEM_HOST, VM, impost_vm_ops, mem_add),
	PROMISE(MEM_HOST, VM, impost_vm_ops, mem_remove),
	PROMISE(MEM_BACKEND, VM, impost_vm_ops, mem_provide),
	PROMISE(MEM_BACKEND, VM, impost_vm_ops, mem_remove),
	PROMISE(DIRTY_LOG, VM, impost_vm_ops, dirty_start),
	PROMISE(DIRTY_LOG, VM, impost_vm_ops, dirty_stop),
	PROMISE(DIRTY_LOG, VM, impost_vm_ops, dirty_fetch),
	PROMISE(DIRTY_MANUAL, VM, impost_vm_ops, dirty_clear),
	PROMISE(MARK_DIRTY, VM, impost_vm_ops, mark_dirty),
	PROMISE(IRQ_LINE, VM, impost_vm_ops, irq_line),
	PROMISE(MSI, VM, impost_vm_ops, msi),
	PROMISE(NMI, VCPU, impost_vcpu_ops, nmi),
	PROMISE(IRQ_INJECT, VCPU, impost_vcpu_ops, irq_inject),
	PROMISE(IRQ_WINDOW, VCPU, impost_vcpu_ops, irq_window),
	PROMISE(GSI_ROUTES, VM, impost_vm_ops, gsi_routes),
	PROMISE(IRQFD, VM, impost_vm_ops, irqfd),
	PROMISE(IOEVENTFD, VM, impost_vm_ops, ioeventfd),
	PROMISE(CPUID_PER_VCPU, VCPU, impost_vcpu_ops, cpuid_set),
	PROMISE(CPUID_PER_VM, VM, impost_vm_ops, cpuid_set),
	PROMISE(MSR_EXITS, VM, impost_vm_ops, msr_exits),
	PROMISE(GUEST_DEBUG, VCPU, impost_vcpu_ops, guest_debug),
	PROMISE(TRANSLATE, VCPU, impost_vcpu_ops, translate),
	PROMISE(VM_PAUSE, VM, impost_vm_ops, pause),
	PROMISE(VM_PAUSE, VM, impost_vm_ops, resume),
	PROMISE(VM_EVENTS, VM, impost_vm_ops, event),
	PROMISE(VM_EVENTS, VM, impost_vm_ops, event_fd),
	PROMISE(IO_CLAIMS, VM, impost_vm_ops, io_claim),
	PROMISE(IO_CLAIMS, VM, impost_vm_ops, io_release),
	PROMISE(COMPLETE, VCPU, impost_vcpu_ops, complete),
};

int plugin_judge_caps(struct impost_context *ctx, const struct plugin *plugin,
		      const struct ops *ops, const struct impost_caps *caps)
{
	const char *kind = plugin_kind(plugin);

	for (size_t i = 0; i < ARRAY_SIZE(promises); i++)
		if (impost_caps_has(caps, promises[i].cap) && lacks(ops, promises[i].op.offset))
			return impost_error_set(
				ctx, -IMPOST_EABI, "%s %s claims %s and has no operation %s%s",
				kind, plugin->name, impost_cap_name(promises[i].cap),
				promises[i].op.name,
				lacks(&plugin->ops, promises[i].op.offset) ? "" : " below it");
	if (caps->max_vcpus == 0 || caps->irqchip < IMPOST_IRQCHIP_NONE ||
	    caps->irqchip > IMPOST_IRQCHIP_FULL)
		return impost_error_set(ctx, -IMPOST_EABI,
					"%s %s claims %u vCPUs and irqchip %u, which cannot be",
					kind, plugin->name, caps->max_vcpus, caps->irqchip);
	return 0;
}

/* --- layers --- */

const char *plugin_kind(const struct plugin *plugin)
{
	return plugin->desc.kind == IMPOST_PLUGIN_LAYER ? "layer" : "backend";
}

/* Clears the pointers from byte FIRST to END of TABLE that are NULL in BELOW. */
static void mask(void *table, const void *below, size_t first, size_t end)
{
	for (size_t at = first; at < end; at += sizeof(void *))
		if (lacks(below, at))
			memset((char *)table + at, 0, sizeof(void *));
}

void plugin_mask(struct ops *ops, const struct ops *below)
{
	__typeof__(ops->vm.extension) extension = ops->vm.extension;

	mask(&ops->backend, &below->backend, offsetof(struct impost_backend_ops, open),
	     sizeof(ops->backend));
	mask(&ops->vm, &below->vm, offsetof(struct impost_vm_ops, destroy), sizeof(ops->vm));
	mask(&ops->vcpu, &below->vcpu, offsetof(struct impost_vcpu_ops, destroy),
	     sizeof(ops->vcpu));
	ops->vm.extension = extension; /* a layer's own do not need one below */
}
