/* SPDX-License-Identifier: Apache-2.0 */
/* The VM: its life, and its operations with their checks. */
#include <impost/vm.h>

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "text.h"
#include "vm.h"

/* --- calls of operations --- */

void vm_call_begin(struct vm_call *call, struct impost_vm *vm)
{
	call->vm = vm;
	call->serial = error_serial(vm->ctx);
}

int vm_call_end(const struct vm_call *call, int32_t result, const char *op)
{
	struct impost_context *ctx = call->vm->ctx;
	const char *name = call->vm->plugin->name;

	if (result == 0)
		return 0;
	if (result > 0)
		return impost_error_set(ctx, -EIO, "backend %s: %s returned %d, which is no result",
					name, op, result);
	if (error_serial(ctx) == call->serial)
		impost_error_set(ctx, result, "backend %s: %s failed: %s", name, op,
				 impost_error_name(result));
	return result;
}

int vm_give_count(struct impost_vm *vm, int err, const char *op, uint32_t count, uint32_t capacity,
		  uint32_t *ret_count)
{
	if (!err && count > capacity)
		return impost_error_set(
			vm->ctx, -EIO,
			"backend %s: %s says that it gave %u where there is room for %u",
			vm->plugin->name, op, count, capacity);
	if (!err || err == -ENOSPC)
		*ret_count = count;
	return err;
}

int vm_lacks(struct impost_vm *vm, enum impost_cap cap)
{
	return impost_error_set(vm->ctx, -ENOTSUP, "backend %s has no %s: %s", vm->plugin->name,
				impost_cap_name(cap), impost_cap_meaning(cap));
}

int vm_lacks_op(struct impost_vm *vm, const char *op)
{
	return impost_error_set(vm->ctx, -ENOTSUP, "backend %s has no operation %s",
				vm->plugin->name, op);
}

int vm_check(struct impost_vm *vm)
{
	return context_forked(vm->ctx) ? context_refuse_fork(vm->ctx) : 0;
}

int vm_needs(struct impost_vm *vm, enum impost_cap cap)
{
	int err = vm_check(vm);

	return err || impost_caps_has(&vm->caps, cap) ? err : vm_lacks(vm, cap);
}

#define CALL(vm, op, ...) VM_CALL(vm, (vm)->ops, (vm)->handle, op, ##__VA_ARGS__)

/* --- making one --- */

#define LEAST_CONFIG ABI_UP_TO(struct impost_vm_config, backend)

int impost_vm_config_fill(struct impost_context *ctx, struct impost_vm_config *config)
{
	struct impost_vm_config filled;
	int err = config ? abi_check(ctx, "impost_vm_config", config, LEAST_CONFIG)
			 : impost_error_set(ctx, -EINVAL, "impost_vm_config_fill: config is NULL");

	if (err)
		return err;
	pthread_mutex_lock(&ctx->lock);
	filled = (struct impost_vm_config){
		.cpus = (uint32_t)config_number(ctx, "vm", "cpus"),
		.memory = config_number(ctx, "vm", "memory"),
		.irqchip = IMPOST_IRQCHIP_DEFAULT,
		.kick_signal = (uint32_t)SIGRTMIN + 2,
	};
	pthread_mutex_unlock(&ctx->lock);
	abi_give(config, &filled, sizeof(filled));
	return 0;
}

/* Those between the standard and the real-time signals are the C library's own: it lets nobody
 * block or send them (signal(7)). */
static bool can_be_blocked(uint32_t signal)
{
	sigset_t set;

	sigemptyset(&set);
	return signal <= (uint32_t)SIGRTMAX && sigaddset(&set, (int)signal) == 0 &&
	       signal != SIGKILL && signal != SIGSTOP;
}

static int check_config(struct impost_context *ctx, const struct impost_vm_config *config)
{
	if (config->cpus == 0)
		return impost_error_set(ctx, -EINVAL, "a VM of 0 vCPUs: it needs at least 1");
	if (config->memory == 0 || config->memory % IMPOST_PAGE_SIZE)
		return impost_error_set(ctx, -EINVAL,
					"a VM with %" PRIu64
					" bytes of memory: it must be a multiple of %u, and not 0",
					config->memory, IMPOST_PAGE_SIZE);
	if (config->irqchip > IMPOST_IRQCHIP_FULL)
		return impost_error_set(ctx, -EINVAL, "irqchip %u: unknown", config->irqchip);
	if (!can_be_blocked(config->kick_signal))
		return impost_error_set(ctx, -EINVAL,
					"kick signal %u: it must be one that can be blocked",
					config->kick_signal);
	if (config->kick_by > IMPOST_KICK_HANDLER)
		return impost_error_set(ctx, -EINVAL, "kick_by %u: unknown", config->kick_by);
	if (config->reserved)
		return impost_error_set(ctx, -EINVAL,
					"struct impost_vm_config: reserved is %u: it must be 0",
					config->reserved);
	return 0;
}

/* Checks the config against the backend that was opened. */
static int check_limits(struct impost_vm *vm)
{
	const char *name = vm->plugin->name;
	enum impost_cap cap;

	if (vm->config.cpus > vm->caps.max_vcpus)
		return impost_error_set(vm->ctx, -EINVAL,
					"a VM of %u vCPUs: backend %s has %u at the most",
					vm->config.cpus, name, vm->caps.max_vcpus);
	vm->irqchip = vm->config.irqchip ? vm->config.irqchip : vm->caps.irqchip;
	cap = (enum impost_cap)(IMPOST_CAP_IRQCHIP_NONE + vm->irqchip - IMPOST_IRQCHIP_NONE);
	return impost_caps_has(&vm->caps, cap) ? 0 : vm_lacks(vm, cap);
}

/* Remembers that backend NAME was passed over for the reason that is the thread's error text. */
static int pass_over(struct impost_vm *vm, const char *name)
{
	const char *reason = impost_error(vm->ctx);
	struct passed_over *grown, *added;

	grown = realloc(vm->passed_over, (vm->npassed_over + 1) * sizeof(*grown));
	if (!grown)
		return impost_error_set(vm->ctx, -ENOMEM, "no memory");
	vm->passed_over = grown;
	added = &grown[vm->npassed_over];
	added->name = strdup(name);
	added->reason = strdup(reason);
	vm->npassed_over++;
	if (!added->name || !added->reason)
		return impost_error_set(vm->ctx, -ENOMEM, "no memory");
	context_log(vm->ctx, IMPOST_LOG_INFO, "backend %s passed over: %s", name, reason);
	return 0;
}

/* The text when no backend is left. */
static int none_works(struct impost_vm *vm)
{
	char all[1024] = "";
	size_t len = 0;

	for (uint32_t i = 0; i < vm->npassed_over && len < sizeof(all); i++)
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s: %s", i ? "; " : "",
					vm->passed_over[i].name, vm->passed_over[i].reason);
	return impost_error_set(vm->ctx, -IMPOST_EPLUGIN, "no backend can run here: %s", all);
}

/* Opens the first backend of the list NAMES, which is cut up, that can run here. */
static int open_first(struct impost_vm *vm, char *names)
{
	char *rest = names, *name;
	int err;

	while ((name = strsep(&rest, ",")) != NULL) {
		name += strspn(name, " \t");
		name[strcspn(name, " \t")] = '\0';
		err = registry_open(vm->ctx, name, &vm->backend);
		/* A wrong option is the user's to put right: another backend must not hide it. */
		if (!err || err == -EINVAL || err == -ENOMEM)
			return err;
		err = pass_over(vm, name);
		if (err)
			return err;
	}
	return none_works(vm);
}

static int open_backend(struct impost_vm *vm)
{
	struct impost_context *ctx = vm->ctx;
	const char *wanted = vm->config.backend;
	char *names;
	int err;

	pthread_mutex_lock(&ctx->lock);
	ctx->registry.looked = true;
	vm->wanted = strdup(wanted ? wanted : config_get(ctx, "impost", "backend"));
	names = vm->wanted ? strdup(vm->wanted) : NULL;
	if (!names)
		err = impost_error_set(ctx, -ENOMEM, "no memory");
	else if (!names[strspn(names, " \t")])
		err = impost_error_set(ctx, -EINVAL, "the list of backends is empty: name one");
	else
		err = open_first(vm, names);
	if (!err)
		err = registry_open_layers(ctx, vm->config.layers, &vm->backend, &vm->layers);
	pthread_mutex_unlock(&ctx->lock);
	free(names);
	vm->config.backend = vm->wanted;
	vm->config.layers = vm->layers;
	if (err)
		return err;
	vm->plugin = vm->backend.plugin;
	vm->ops = &vm->backend.ops->vm;
	vm->vcpu_ops = &vm->backend.ops->vcpu;
	vm->caps = vm->backend.caps;
	return 0;
}

static int32_t host_mem_lookup(void *ctx, uint64_t gpa, uint64_t len, void **ret_hva)
{
	const struct impost_vm *vm = ctx;

	return memory_lookup(vm->memory, gpa, len, ret_hva);
}

static int32_t host_mem_moved(void *ctx, uint32_t slot, void *hva)
{
	const struct impost_vm *vm = ctx;

	return memory_moved(vm->memory, slot, hva);
}

static void host_log(void *ctx, uint32_t level, const char *text)
{
	const struct impost_vm *vm = ctx;

	vm->backend.host.log(vm->backend.host.ctx, level, text);
}

static void host_error(void *ctx, const char *text)
{
	const struct impost_vm *vm = ctx;

	vm->backend.host.error(vm->backend.host.ctx, text);
}

/* Has the backend make the VM. */
static int make(struct impost_vm *vm)
{
	const struct impost_backend_ops *ops = &vm->backend.ops->backend;
	struct impost_vm_args args = {
		.size = sizeof(args),
		.max_vcpus = vm->config.cpus,
		.irqchip = vm->irqchip,
		.kick_signal = vm->config.kick_signal,
		.kick_by = vm->config.kick_by,
		.host = &vm->host,
	};

	vm->host = (struct impost_host){
		.size = sizeof(vm->host),
		.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
		.ctx = vm,
		.log = host_log,
		.error = host_error,
		.mem_lookup = host_mem_lookup,
		.mem_moved = host_mem_moved,
		.answer = vcpu_answer,
	};
	return VM_CALL(vm, ops, vm->backend.handle, vm_create, &args, &vm->handle);
}

static void free_vm(struct impost_vm *vm)
{
	if (vm->handle)
		vm->ops->destroy(vm->handle);
	memory_destroy(vm->memory);
	if (vm->backend.plugin) {
		pthread_mutex_lock(&vm->ctx->lock);
		registry_close(&vm->backend);
		pthread_mutex_unlock(&vm->ctx->lock);
	}
	for (uint32_t i = 0; i < vm->npassed_over; i++) {
		free(vm->passed_over[i].name);
		free(vm->passed_over[i].reason);
	}
	free(vm->passed_over);
#ifndef IMPOST_NO_STATE
	devices_free(vm);
#endif
	free(vm->wanted);
	free(vm->layers);
	pthread_mutex_destroy(&vm->pause_lock);
	pthread_mutex_destroy(&vm->hold_lock);
	free(vm->routes);
	free(vm->given.entries);
	free(vm->msr_list);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

static int fill_vm(struct impost_vm *vm, const struct impost_vm_config *config, vm_judge_fn judge,
		   void *opaque)
{
	int err = config ? abi_take(vm->ctx, "impost_vm_config", &vm->config, sizeof(vm->config),
				    config, LEAST_CONFIG)
			 : impost_vm_config_init(vm->ctx, &vm->config);

	if (!err)
		err = check_config(vm->ctx, &vm->config);
	if (!err)
		err = open_backend(vm);
	if (!err && judge)
		err = judge(opaque, &vm->backend);
	if (!err)
		err = check_limits(vm);
	if (!err)
		err = memory_create(vm->ctx, vm, &vm->memory);
	return err ? err : make(vm);
}

int vm_create(struct impost_context *ctx, const struct impost_vm_config *config, vm_judge_fn judge,
	      void *opaque, struct impost_vm **ret_vm)
{
	struct impost_vm *vm;
	int err = context_forked(ctx) ? context_refuse_fork(ctx) : 0;

	if (err)
		return err;
	if (!ret_vm)
		return impost_error_set(ctx, -EINVAL, "impost_vm_create: ret_vm is NULL");
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return impost_error_set(ctx, -ENOMEM, "no memory for a VM");
	vm->ctx = ctx;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->pause_lock, NULL);
	pthread_mutex_init(&vm->hold_lock, NULL);
	err = fill_vm(vm, config, judge, opaque);
	if (err) {
		free_vm(vm);
		return err;
	}
	atomic_fetch_add(&ctx->vms, 1);
	context_log(ctx, IMPOST_LOG_INFO, "VM made with backend %s %s%s%s", vm->plugin->name,
		    vm->plugin->desc.version, vm->layers[0] ? ", layers: " : "", vm->layers);
	*ret_vm = vm;
	return 0;
}

int impost_vm_create(struct impost_context *ctx, const struct impost_vm_config *config,
		     struct impost_vm **ret_vm)
{
	return vm_create(ctx, config, NULL, NULL, ret_vm);
}

int impost_vm_destroy(struct impost_vm *vm)
{
	struct impost_context *ctx;
	uint32_t left;
	int err = vm ? vm_check(vm) : 0;

	if (!vm || err)
		return err;
	ctx = vm->ctx;
	pthread_mutex_lock(&vm->lock);
	left = vm->nvcpus;
	pthread_mutex_unlock(&vm->lock);
	if (left)
		return impost_error_set(ctx, -EBUSY,
					"%u vCPU%s of this VM still live: destroy them first", left,
					left == 1 ? "" : "s");
	err = dirty_busy(vm->memory, false, "impost_vm_destroy");
	if (err)
		return err;
	free_vm(vm);
	atomic_fetch_sub(&ctx->vms, 1);
	return 0;
}

/* --- what it is --- */

struct impost_context *impost_vm_context(const struct impost_vm *vm)
{
	return vm->ctx;
}

struct impost_memory *impost_vm_memory(struct impost_vm *vm)
{
	return vm->memory;
}

const char *impost_vm_backend(const struct impost_vm *vm)
{
	return vm->plugin->name;
}

const char *impost_vm_layers(const struct impost_vm *vm)
{
	return vm->layers;
}

const struct impost_caps *impost_vm_caps(const struct impost_vm *vm)
{
	return &vm->caps;
}

const struct impost_vm_config *impost_vm_config(const struct impost_vm *vm)
{
	return &vm->config;
}

uint32_t impost_vm_irqchip(const struct impost_vm *vm)
{
	return vm->irqchip;
}

int impost_vm_passed_over(const struct impost_vm *vm, uint32_t index, const char **ret_name,
			  const char **ret_reason)
{
	if (index >= vm->npassed_over)
		return impost_error_set(vm->ctx, -ENOENT, "%u backends were passed over",
					vm->npassed_over);
	*ret_name = vm->passed_over[index].name;
	*ret_reason = vm->passed_over[index].reason;
	return 0;
}

/* --- interrupts --- */

int impost_vm_irq_line(struct impost_vm *vm, uint32_t gsi, uint32_t level)
{
	int err = vm_needs(vm, IMPOST_CAP_IRQ_LINE);

	if (!err && level > 1)
		err = impost_error_set(vm->ctx, -EINVAL, "level %u: a line is at 0 or 1", level);
	return err ? err : CALL(vm, irq_line, gsi, level);
}

int impost_vm_msi(struct impost_vm *vm, uint64_t address, uint32_t data)
{
	int err = vm_needs(vm, IMPOST_CAP_MSI);

	return err ? err : CALL(vm, msi, address, data);
}

/* What was set is kept, for a hypervisor does not tell it. */
static int set_routes(struct impost_vm *vm, const struct impost_gsi_route *routes, uint32_t count)
{
	struct impost_gsi_route *copy = calloc((size_t)count + 1, sizeof(*copy));
	int err;

	if (!copy)
		return impost_error_set(vm->ctx, -ENOMEM, "no memory for %u interrupt routes",
					count);
	if (count)
		memcpy(copy, routes, count * sizeof(*copy));
	pthread_mutex_lock(&vm->lock);
	err = CALL(vm, gsi_routes, routes, count);
	if (!err) {
		free(vm->routes);
		vm->routes = copy;
		vm->nroutes = count;
	}
	pthread_mutex_unlock(&vm->lock);
	if (err)
		free(copy);
	return err;
}

int impost_vm_set_gsi_routes(struct impost_vm *vm, const struct impost_gsi_route *routes,
			     uint32_t count)
{
	int err = vm_needs(vm, IMPOST_CAP_GSI_ROUTES);

	for (uint32_t i = 0; !err && i < count; i++)
		if (routes[i].gsi >= vm->caps.max_gsis ||
		    routes[i].type < IMPOST_ROUTE_PIC_MASTER || routes[i].type > IMPOST_ROUTE_MSI)
			err = impost_error_set(vm->ctx, -EINVAL,
					       "route %u: GSI %u of type %u: GSIs are below %u, "
					       "types %u to %u",
					       i, routes[i].gsi, routes[i].type, vm->caps.max_gsis,
					       IMPOST_ROUTE_PIC_MASTER, IMPOST_ROUTE_MSI);
	return err ? err : set_routes(vm, routes, count);
}

int impost_vm_irqfd(struct impost_vm *vm, const struct impost_irqfd *irqfd)
{
	struct impost_irqfd copy;
	int err = abi_take(vm->ctx, "impost_irqfd", &copy, sizeof(copy), irqfd,
			   ABI_UP_TO(struct impost_irqfd, reserved));

	if (!err)
		err = vm_needs(vm, IMPOST_CAP_IRQFD);
	if (!err && copy.resample_fd >= 0)
		err = vm_needs(vm, IMPOST_CAP_IRQFD_RESAMPLE);
	return err ? err : CALL(vm, irqfd, &copy);
}

int impost_vm_ioeventfd(struct impost_vm *vm, const struct impost_ioeventfd *ioeventfd)
{
	struct impost_ioeventfd copy;
	int err = vm_needs(vm, IMPOST_CAP_IOEVENTFD);
	uint32_t bytes;

	if (!err)
		err = abi_take(vm->ctx, "impost_ioeventfd", &copy, sizeof(copy), ioeventfd,
			       ABI_UP_TO(struct impost_ioeventfd, remove));
	if (err)
		return err;
	bytes = copy.bytes;
	if ((bytes > 8 || (bytes & (bytes - 1)) || (bytes == 0 && copy.has_match)))
		err = impost_error_set(
			vm->ctx, -EINVAL,
			"an ioeventfd of %u bytes%s: widths are 1, 2, 4, 8, or 0 for "
			"any with no value to match",
			bytes, copy.has_match ? " and a match" : "");
	return err ? err : CALL(vm, ioeventfd, &copy);
}

/* --- policy and the rest --- */

int impost_vm_set_msr_exits(struct impost_vm *vm, const struct impost_msr_range *ranges,
			    uint32_t count, uint32_t unknown)
{
	int err = vm_needs(vm, IMPOST_CAP_MSR_EXITS);

	return err ? err : CALL(vm, msr_exits, ranges, count, unknown != 0);
}

/* Checks an I/O range; *ret_needed is whether the backend wants to hear of it. */
static int check_claim(struct impost_vm *vm, uint32_t space, uint64_t first, uint64_t last,
		       bool *ret_needed)
{
	int err = vm_check(vm);

	if (err)
		return err;
	if ((space != IMPOST_SPACE_PIO && space != IMPOST_SPACE_MMIO) || first > last ||
	    (space == IMPOST_SPACE_PIO && last > UINT16_MAX))
		return impost_error_set(vm->ctx, -EINVAL,
					"I/O range 0x%" PRIx64 "-0x%" PRIx64
					" of space %u: there is no such range",
					first, last, space);
	*ret_needed = impost_caps_has(&vm->caps, IMPOST_CAP_IO_CLAIMS);
	return 0;
}

int impost_vm_io_claim(struct impost_vm *vm, uint32_t space, uint64_t first, uint64_t last)
{
	bool needed = false;
	int err = check_claim(vm, space, first, last, &needed);

	return err || !needed ? err : CALL(vm, io_claim, space, first, last);
}

int impost_vm_io_release(struct impost_vm *vm, uint32_t space, uint64_t first, uint64_t last)
{
	bool needed = false;
	int err = check_claim(vm, space, first, last, &needed);

	return err || !needed ? err : CALL(vm, io_release, space, first, last);
}

int impost_vm_pause(struct impost_vm *vm)
{
	int err = vm_needs(vm, IMPOST_CAP_VM_PAUSE);

	return err ? err : vm_pause_by(vm, PAUSED_BY_HOST);
}

int impost_vm_resume(struct impost_vm *vm)
{
	int err = vm_needs(vm, IMPOST_CAP_VM_PAUSE);

	if (!err)
		err = vm_check_here(vm);
	return err ? err : vm_resume_by(vm, PAUSED_BY_HOST);
}

int impost_vm_event(struct impost_vm *vm, struct impost_exit *ret_exit)
{
	int err = vm_needs(vm, IMPOST_CAP_VM_EVENTS);

	return err ? err : CALL(vm, event, ret_exit);
}

int impost_vm_event_fd(struct impost_vm *vm, int *ret_fd)
{
	int err = vm_needs(vm, IMPOST_CAP_VM_EVENTS);

	return err ? err : CALL(vm, event_fd, ret_fd);
}

int impost_vm_cpuid_supported(struct impost_vm *vm, struct impost_x86_cpuid *entries,
			      uint32_t capacity, uint32_t *ret_count)
{
	uint32_t count = 0;
	int err = vm_check(vm);

	if (!err)
		err = VM_CALL(vm, &vm->backend.ops->backend, vm->backend.handle, cpuid_supported,
			      entries, capacity, &count);
	return vm_give_count(vm, err, "cpuid_supported", count, capacity, ret_count);
}

int impost_vm_msr_list(struct impost_vm *vm, uint32_t *indices, uint32_t capacity,
		       uint32_t *ret_count)
{
	uint32_t count = 0;
	int err = vm_check(vm);

	if (!err)
		err = VM_CALL(vm, &vm->backend.ops->backend, vm->backend.handle, msr_list, indices,
			      capacity, &count);
	return vm_give_count(vm, err, "msr_list", count, capacity, ret_count);
}

/* What a later version may use must be clear until then, or old hosts would give it a meaning. */
static int check_cpuid(struct impost_context *ctx, const struct impost_x86_cpuid *entries,
		       uint32_t count)
{
	if (!entries && count)
		return impost_error_set(ctx, -EINVAL, "%u CPUID entries, which are NULL", count);
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].reserved)
			return impost_error_set(ctx, -EINVAL,
						"CPUID leaf 0x%x, sub-leaf 0x%x: reserved is 0x%x: "
						"set it to 0",
						entries[i].leaf, entries[i].subleaf,
						entries[i].reserved);
	return 0;
}

int cpuid_copy(struct impost_vm *vm, const struct impost_x86_cpuid *entries, uint32_t count,
	       struct given_cpuid *ret_copy)
{
	int err = check_cpuid(vm->ctx, entries, count);
	struct impost_x86_cpuid *copy;

	if (err)
		return err;
	copy = calloc((size_t)count + 1, sizeof(*copy));
	if (!copy)
		return impost_error_set(vm->ctx, -ENOMEM, "no memory for %u CPUID entries", count);
	if (count)
		memcpy(copy, entries, count * sizeof(*copy));
	*ret_copy = (struct given_cpuid){copy, count};
	return 0;
}

int cpuid_keep(struct impost_vm *vm, struct given_cpuid *given, struct given_cpuid copy, int err)
{
	struct given_cpuid old = copy;

	if (!err) {
		pthread_mutex_lock(&vm->lock);
		old = *given;
		*given = copy;
		pthread_mutex_unlock(&vm->lock);
	}
	free(old.entries);
	return err;
}

int impost_vm_set_cpuid(struct impost_vm *vm, const struct impost_x86_cpuid *entries,
			uint32_t count)
{
	struct given_cpuid copy;
	int err = vm_needs(vm, IMPOST_CAP_CPUID_PER_VM);

	if (!err)
		err = cpuid_copy(vm, entries, count, &copy);
	return err ? err : cpuid_keep(vm, &vm->given, copy, CALL(vm, cpuid_set, entries, count));
}

/* --- state --- */

/* Capabilities that sections need. */
enum {
	NEED_PIC = -1,
	NEED_IOAPIC = -1,
	NEED_PIT = -1,
	NEED_CLOCK = IMPOST_CAP_CLOCK,
	NEED_VM_OPAQUE = -1,
};

#define IMPOST_VM_SECTION(number, NAME, name, type, varies) \
	[number] = {#name, sizeof(type), varies, NEED_##NAME},
static const struct section sections[] = {
#include <impost/x86_64/sections.def>
};

int section_check_get(struct impost_vm *vm, const struct section *table, uint32_t count,
		      uint32_t section)
{
	int err = vm_check(vm);

	if (err)
		return err;
	if (section >= count || table[section].bytes == 0)
		return impost_error_set(vm->ctx, -EINVAL, "state section %u: there is none such",
					section);
	if (table[section].cap >= 0 &&
	    !impost_caps_has(&vm->caps, (enum impost_cap)table[section].cap))
		return vm_lacks(vm, (enum impost_cap)table[section].cap);
	return 0;
}

int section_check_set(struct impost_vm *vm, const struct section *table, uint32_t count,
		      uint32_t section, const void *buf, uint32_t bytes)
{
	int err = section_check_get(vm, table, count, section);
	uint32_t least, size = 0;

	if (err)
		return err;
	least = table[section].varies ? table[section].bytes : 2 * (uint32_t)sizeof(uint32_t);
	if (bytes >= sizeof(size))
		memcpy(&size, buf, sizeof(size));
	if (size < least || size > bytes)
		return impost_error_set(vm->ctx, -EINVAL,
					"state section %s: its size member says %u in %u bytes; it "
					"must be %u at least, and fit",
					table[section].name, size, bytes, least);
	return 0;
}

int impost_vm_get(struct impost_vm *vm, uint32_t section, void *buf, uint32_t capacity,
		  uint32_t *ret_size)
{
	uint32_t size = 0;
	int err = section_check_get(vm, sections, ARRAY_SIZE(sections), section);

	if (!err)
		err = CALL(vm, state_get, section, buf, capacity, &size);
	return vm_give_count(vm, err, "state_get", size, capacity, ret_size);
}

int impost_vm_set(struct impost_vm *vm, uint32_t section, const void *buf, uint32_t bytes)
{
	int err = section_check_set(vm, sections, ARRAY_SIZE(sections), section, buf, bytes);

	return err ? err : CALL(vm, state_set, section, buf, bytes);
}

/* --- dirty log --- */

/* The slot of the region at GPA, if its dirty log can be asked for. */
static int dirty_slot(struct impost_vm *vm, enum impost_cap cap, uint64_t gpa, uint32_t *ret_slot,
		      uint64_t *ret_pages)
{
	uint64_t bytes;
	int err = vm_needs(vm, cap);

	if (!err)
		err = dirty_busy(vm->memory, true, "the hypervisor's dirty log");
	if (!err)
		err = memory_slot(vm->memory, gpa, ret_slot, &bytes);
	if (!err)
		*ret_pages = bytes / IMPOST_PAGE_SIZE;
	return err;
}

int impost_vm_dirty_start(struct impost_vm *vm, uint64_t gpa)
{
	uint64_t pages;
	uint32_t slot;
	int err = dirty_slot(vm, IMPOST_CAP_DIRTY_LOG, gpa, &slot, &pages);

	return err ? err : CALL(vm, dirty_start, slot);
}

int impost_vm_dirty_stop(struct impost_vm *vm, uint64_t gpa)
{
	uint64_t pages;
	uint32_t slot;
	int err = dirty_slot(vm, IMPOST_CAP_DIRTY_LOG, gpa, &slot, &pages);

	return err ? err : CALL(vm, dirty_stop, slot);
}

int impost_vm_dirty_fetch(struct impost_vm *vm, uint64_t gpa, uint64_t *bitmap, uint64_t nwords)
{
	uint64_t pages;
	uint32_t slot;
	int err = dirty_slot(vm, IMPOST_CAP_DIRTY_LOG, gpa, &slot, &pages);

	if (!err && nwords < pages / 64 + (pages % 64 != 0))
		err = impost_error_set(vm->ctx, -ENOSPC,
				       "a bitmap of %" PRIu64 " words for %" PRIu64
				       " pages: one bit a page",
				       nwords, pages);
	if (!err && !bitmap)
		err = impost_error_set(vm->ctx, -EINVAL, "impost_vm_dirty_fetch: bitmap is NULL");
	return err ? err : CALL(vm, dirty_fetch, slot, bitmap, nwords);
}

int impost_vm_dirty_clear(struct impost_vm *vm, uint64_t gpa, uint64_t first, uint64_t npages,
			  const uint64_t *bitmap)
{
	uint64_t pages;
	uint32_t slot;
	int err = dirty_slot(vm, IMPOST_CAP_DIRTY_MANUAL, gpa, &slot, &pages);

	if (!err && (first % 64 || first > pages || npages > pages - first))
		err = impost_error_set(vm->ctx, -EINVAL,
				       "%" PRIu64 " pages from page %" PRIu64 " of %" PRIu64
				       ": the first must be a multiple of 64, and all within",
				       npages, first, pages);
	return err ? err : CALL(vm, dirty_clear, slot, first, npages, bitmap);
}

int impost_vm_extension(struct impost_vm *vm, const char *name, const void **ret_table,
			void **ret_handle)
{
	const void *table = NULL;
	void *handle = NULL;
	int err = vm_check(vm);

	if (err)
		return err;
	if (vm->ops->extension)
		table = vm->ops->extension(vm->handle, name, &handle);
	if (!table)
		return impost_error_set(vm->ctx, -ENOENT, "backend %s has no extension %s",
					vm->plugin->name, name);
	*ret_table = table;
	*ret_handle = handle;
	return 0;
}
