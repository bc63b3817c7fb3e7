/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend with no hypervisor, which does what a test tells it (fake.h). The build makes several
 * plugins of it, most of them spoilt in one way: see meson.build.
 */
#include "fake.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef FAKE_NAME
#define FAKE_NAME "fake"
#endif
#ifndef FAKE_MAGIC
#define FAKE_MAGIC IMPOST_PLUGIN_MAGIC
#endif
#ifndef FAKE_MAJOR
#define FAKE_MAJOR IMPOST_PLUGIN_ABI_MAJOR
#endif
#ifndef FAKE_MINOR
#define FAKE_MINOR IMPOST_PLUGIN_ABI_MINOR
#endif
#ifndef FAKE_KIND
#define FAKE_KIND IMPOST_PLUGIN_BACKEND
#endif
#ifndef FAKE_SIZE
#define FAKE_SIZE sizeof(struct impost_plugin)
#endif
#ifndef FAKE_VM_SIZE
#define FAKE_VM_SIZE sizeof(struct impost_vm_ops)
#endif
#ifndef FAKE_VCPU_SIZE
#define FAKE_VCPU_SIZE sizeof(struct impost_vcpu_ops)
#endif
#ifndef FAKE_RUN
#define FAKE_RUN vcpu_run
#endif
#ifndef FAKE_SYMBOL
#define FAKE_SYMBOL impost_plugin
#endif

/* The backend: what its options were. */
struct backend {
	const struct impost_host *host;
	struct impost_caps caps;
};

/* A vCPU is an index into its VM. */
struct vcpu {
	struct vm *vm;
	uint32_t id;
};

struct vm {
	struct fake fake;
	struct backend *backend;
	struct vcpu vcpu[8];
	uint32_t vcpus;
	uint32_t provided[8]; /* slots whose memory is ours */
};

/* Counts a call, notes its numbers, and returns what it shall return. */
static int32_t call(struct vm *vm, const char *op, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct fake *fake = &vm->fake;

	fake->calls++;
	fake->arg[0] = a;
	fake->arg[1] = b;
	fake->arg[2] = c;
	fake->arg[3] = d;
	if (!fake->fail_op || strcmp(fake->fail_op, op) != 0)
		return 0;
	if (fake->fail_skip > 0) {
		fake->fail_skip--;
		return 0;
	}
	if (fake->fail_text)
		return impost_host_error(fake->host, fake->fail_with, "%s", fake->fail_text);
	return fake->fail_with;
}

/* --- vCPU --- */

static void vcpu_destroy(void *handle)
{
	struct vcpu *vcpu = handle;

	vcpu->vm->vcpus--;
}

__attribute__((unused)) static int32_t vcpu_run(void *handle, struct impost_exit *ret_exit)
{
	struct vcpu *vcpu = handle;
	struct fake *fake = &vcpu->vm->fake;
	int32_t err = call(vcpu->vm, "run", vcpu->id, 0, 0, 0);

	if (err)
		return err;
	if (fake->block) {
		sem_post(&fake->inside);
		sem_wait(&fake->go[vcpu->id % 2]);
	}
	if (fake->ask && fake->played < fake->exits) {
		fake->answered =
			fake->host->answer(fake->host->ctx, vcpu->id, &fake->exit[fake->played++]);
		if (fake->answered < 0 && fake->answered != -ENOTSUP)
			return fake->answered;
	}
	if (fake->played < fake->exits) {
		*ret_exit = fake->exit[fake->played++];
		return 0;
	}
	*ret_exit = (struct impost_exit){.size = sizeof(*ret_exit), .kind = IMPOST_EXIT_INTR};
	return 0;
}

static int32_t vcpu_complete(void *handle, struct impost_exit *ret_exit)
{
	struct vcpu *vcpu = handle;

	*ret_exit = (struct impost_exit){.size = sizeof(*ret_exit)};
	return call(vcpu->vm, "complete", 0, 0, 0, 0);
}

static int32_t vcpu_kick(void *handle)
{
	struct vcpu *vcpu = handle;

	vcpu->vm->fake.kicks++;
	return call(vcpu->vm, "kick", vcpu->id, 0, 0, 0);
}

static int32_t vcpu_nmi(void *handle)
{
	struct vcpu *vcpu = handle;

	return call(vcpu->vm, "nmi", vcpu->id, 0, 0, 0);
}

static int32_t vcpu_irq_inject(void *handle, uint32_t vector)
{
	struct vcpu *vcpu = handle;

	return call(vcpu->vm, "irq_inject", vector, 0, 0, 0);
}

static int32_t vcpu_state_get(void *handle, uint32_t section, void *buf, uint32_t capacity,
			      uint32_t *ret_size)
{
	struct vcpu *vcpu = handle;
	struct fake *fake = &vcpu->vm->fake;
	int32_t err = call(vcpu->vm, "state_get", section, capacity, 0, 0);

	if (err)
		return err;
	if (fake->stare) {
		sem_post(&fake->inside);
		sem_wait(&fake->go[vcpu->id % 2]);
	}
	*ret_size = fake->state_bytes;
	if (fake->state_bytes > capacity)
		return -ENOSPC;
	memcpy(buf, fake->state, fake->state_bytes);
	*ret_size += fake->lie;
	return 0;
}

static int32_t vcpu_state_set(void *handle, uint32_t section, const void *buf, uint32_t bytes)
{
	struct vcpu *vcpu = handle;
	struct fake *fake = &vcpu->vm->fake;
	int32_t err = call(vcpu->vm, "state_set", section, bytes, 0, 0);

	if (err || bytes > sizeof(fake->state))
		return err ? err : -ENOSPC;
	memcpy(fake->state, buf, bytes);
	fake->state_bytes = bytes;
	return 0;
}

static int32_t vcpu_msrs_set(void *handle, const struct impost_x86_msr *msrs, uint32_t count,
			     uint32_t *ret_done)
{
	struct vcpu *vcpu = handle;

	int32_t err = call(vcpu->vm, "msrs_set", count ? msrs[0].index : 0, count, 0, 0);

	*ret_done = (err ? count / 2 : count) + vcpu->vm->fake.lie;
	return err;
}

static int32_t vcpu_cpuid_get(void *handle, struct impost_x86_cpuid *entries, uint32_t capacity,
			      uint32_t *ret_count)
{
	struct vcpu *vcpu = handle;

	*ret_count = 2 + vcpu->vm->fake.lie;
	if (capacity < 2)
		return -ENOSPC;
	memset(entries, 0, 2 * sizeof(*entries));
	return 0;
}

static const struct impost_vcpu_ops vcpu_ops = {
	.size = FAKE_VCPU_SIZE,
	.destroy = vcpu_destroy,
	.run = FAKE_RUN,
	.complete = vcpu_complete,
	.kick = vcpu_kick,
	.nmi = vcpu_nmi,
	.irq_inject = vcpu_irq_inject,
	.state_get = vcpu_state_get,
	.state_set = vcpu_state_set,
	.msrs_set = vcpu_msrs_set,
	.cpuid_get = vcpu_cpuid_get,
};

/* --- VM --- */

static void vm_destroy(void *handle)
{
	struct vm *vm = handle;

	for (size_t i = 0; i < 8; i++)
		if (vm->provided[i])
			munmap(vm->fake.slot[i].hva, vm->fake.slot[i].bytes);
	sem_destroy(&vm->fake.inside);
	for (int i = 0; i < 2; i++)
		sem_destroy(&vm->fake.go[i]);
	free(vm);
}

static int32_t vm_vcpu_create(void *handle, uint32_t id, void **ret_vcpu)
{
	struct vm *vm = handle;
	int32_t err = call(vm, "vcpu_create", id, 0, 0, 0);

	if (err)
		return err;
	vm->vcpu[id % 8] = (struct vcpu){vm, id};
	vm->vcpus++;
	*ret_vcpu = &vm->vcpu[id % 8];
	return 0;
}

static int32_t vm_mem_add(void *handle, const struct impost_slot *slot)
{
	struct vm *vm = handle;
	int32_t err = call(vm, "mem_add", slot->slot, slot->gpa, slot->bytes, slot->flags);

	if (!err)
		vm->fake.slot[slot->slot] = *slot;
	return err;
}

static int32_t vm_mem_provide(void *handle, const struct impost_slot *slot, void **ret_hva)
{
	struct vm *vm = handle;
	int32_t err = call(vm, "mem_provide", slot->slot, slot->gpa, slot->bytes, slot->flags);
	void *hva;

	if (err)
		return err;
	hva = mmap(NULL, slot->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hva == MAP_FAILED)
		return -ENOMEM;
	vm->fake.slot[slot->slot] = *slot;
	vm->fake.slot[slot->slot].hva = hva;
	vm->provided[slot->slot] = 1;
	*ret_hva = hva;
	return 0;
}

static int32_t vm_mem_remove(void *handle, uint32_t slot)
{
	struct vm *vm = handle;
	struct fake *fake = &vm->fake;
	int32_t err = call(vm, "mem_remove", slot, 0, 0, 0);

	if (!err && fake->move_to)
		err = fake->host->mem_moved(fake->host->ctx, 0, fake->move_to);
	if (err)
		return err;
	if (vm->provided[slot])
		munmap(fake->slot[slot].hva, fake->slot[slot].bytes);
	vm->provided[slot] = 0;
	fake->slot[slot].bytes = 0;
	return 0;
}

static int32_t vm_mark_dirty(void *handle, uint64_t gpa, uint64_t bytes)
{
	struct vm *vm = handle;

	vm->fake.dirty_gpa = gpa;
	vm->fake.dirty_bytes = bytes;
	vm->fake.dirty_calls++;
	return call(vm, "mark_dirty", gpa, bytes, 0, 0);
}

static int32_t vm_dirty_start(void *handle, uint32_t slot)
{
	struct vm *vm = handle;
	int32_t result = call(vm, "dirty_start", slot, 0, 0, 0);

	vm->fake.logs += result == 0;
	return result;
}

static int32_t vm_dirty_stop(void *handle, uint32_t slot)
{
	struct vm *vm = handle;
	int32_t result = call(vm, "dirty_stop", slot, 0, 0, 0);

	vm->fake.logs -= result == 0;
	return result;
}

static int32_t vm_dirty_fetch(void *handle, uint32_t slot, uint64_t *bitmap, uint64_t nwords)
{
	struct vm *vm = handle;

	bitmap[0] |= vm->fake.log_word;
	return call(vm, "dirty_fetch", slot, nwords, 0, 0);
}

static int32_t vm_dirty_clear(void *handle, uint32_t slot, uint64_t first, uint64_t npages,
			      const uint64_t *bitmap)
{
	return call(handle, "dirty_clear", slot, first, npages, bitmap[0]);
}

static int32_t vm_irq_line(void *handle, uint32_t gsi, uint32_t level)
{
	return call(handle, "irq_line", gsi, level, 0, 0);
}

static int32_t vm_msi(void *handle, uint64_t address, uint32_t data)
{
	return call(handle, "msi", address, data, 0, 0);
}

static int32_t vm_pause(void *handle)
{
	struct vm *vm = handle;
	int32_t err = call(vm, "pause", 0, 0, 0, 0);

	vm->fake.paused += err == 0;
	return err;
}

static int32_t vm_resume(void *handle)
{
	struct vm *vm = handle;
	int32_t err = call(vm, "resume", 0, 0, 0, 0);

	vm->fake.paused -= err == 0;
	return err;
}

static int32_t vm_io_claim(void *handle, uint32_t space, uint64_t first, uint64_t last)
{
	return call(handle, "io_claim", space, first, last, 0);
}

static const void *vm_extension(void *handle, const char *name, void **ret_handle)
{
	struct vm *vm = handle;

	if (strcmp(name, FAKE_CONTROL) != 0)
		return NULL;
	*ret_handle = &vm->fake;
	return &vm->fake;
}

static const struct impost_vm_ops vm_ops = {
	.size = FAKE_VM_SIZE,
	.destroy = vm_destroy,
	.vcpu_create = vm_vcpu_create,
	.mem_add = vm_mem_add,
	.mem_provide = vm_mem_provide,
	.mem_remove = vm_mem_remove,
	.mark_dirty = vm_mark_dirty,
	.dirty_start = vm_dirty_start,
	.dirty_stop = vm_dirty_stop,
	.dirty_fetch = vm_dirty_fetch,
	.dirty_clear = vm_dirty_clear,
	.irq_line = vm_irq_line,
	.msi = vm_msi,
	.pause = vm_pause,
	.resume = vm_resume,
	.io_claim = vm_io_claim,
	.io_release = vm_io_claim,
	.extension = vm_extension,
};

/* --- backend --- */

#define IMPOST_CAP(bit, NAME, name, what) {IMPOST_CAP_##NAME, name},
static const struct {
	enum impost_cap cap;
	const char *name;
} caps[] = {
#include <impost/caps.def>
};
#undef IMPOST_CAP

/* Adds the capabilities named in WORDS. */
static int32_t add_caps(struct backend *backend, const char *words)
{
	while (*words) {
		size_t len = strcspn(words, ","), i = 0;

		while (i < IMPOST_CAP_COUNT &&
		       (strlen(caps[i].name) != len || strncmp(caps[i].name, words, len) != 0))
			i++;
		if (i == IMPOST_CAP_COUNT)
			return impost_host_error(backend->host, -EINVAL, "no capability %s", words);
		impost_caps_add(&backend->caps, caps[i].cap);
		words += len + (words[len] == ',');
	}
	return 0;
}

static int32_t backend_open(const struct impost_open_args *args, void **ret_backend)
{
	struct backend *backend = calloc(1, sizeof(*backend));
	const char *words = "mem-host,irqchip-none,irq-inject";
	int32_t err = backend ? 0 : -ENOMEM;

	for (uint32_t i = 0; !err && i < args->noptions; i++) {
		const struct impost_option *option = &args->options[i];

		if (strcmp(option->key, "caps") == 0)
			words = option->value;
		else if (strcmp(option->key, "fail") == 0)
			err = impost_host_error(args->host, -(int32_t)atoi(option->value),
						"it was to fail (%s)", option->where);
		else
			impost_host_log(args->host, IMPOST_LOG_INFO, "option %s = %s", option->key,
					option->value);
	}
	if (!err) {
		backend->host = args->host;
		backend->caps = (struct impost_caps){.irqchip = IMPOST_IRQCHIP_NONE,
						     .max_vcpus = 4,
						     .max_vcpu_id = 7,
						     .max_slots = 8,
						     .max_gsis = 24,
						     .phys_bits = 40};
		err = add_caps(backend, words);
	}
	if (err) {
		free(backend);
		return err;
	}
	*ret_backend = backend;
	return 0;
}

static void backend_close(void *handle)
{
	free(handle);
}

static int32_t backend_caps(void *handle, struct impost_caps *ret_caps)
{
	const struct backend *backend = handle;

	*ret_caps = backend->caps;
	return 0;
}

static int32_t backend_vm_create(void *handle, const struct impost_vm_args *args, void **ret_vm)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	vm->backend = handle;
	vm->fake.host = args->host;
	vm->fake.log_word = 5;
	sem_init(&vm->fake.inside, 0, 0);
	for (int i = 0; i < 2; i++)
		sem_init(&vm->fake.go[i], 0, 0);
	*ret_vm = vm;
	return 0;
}

static const struct impost_backend_ops backend_ops = {
	.size = sizeof(backend_ops),
	.vm = &vm_ops,
	.vcpu = &vcpu_ops,
	.open = backend_open,
	.close = backend_close,
	.caps = backend_caps,
	.vm_create = backend_vm_create,
};

static const struct impost_option_desc options[] = {
	{sizeof(options[0]), IMPOST_OPTION_STRING, "caps", NULL, NULL, "capabilities"},
	{sizeof(options[0]), IMPOST_OPTION_UINT, "fail", NULL, NULL, "open fails so"},
	{sizeof(options[0]), IMPOST_OPTION_PATH, "path", NULL, NULL, "a path"},
	{sizeof(options[0]), IMPOST_OPTION_ENUM, "colour", "red|green", "red", "a colour"},
	{sizeof(options[0]), IMPOST_OPTION_SIZE, "bytes", NULL, "4K", "a size"},
	{sizeof(options[0]), IMPOST_OPTION_BOOL, "flag", NULL, "no", "a flag"},
};

#ifdef FAKE_UNDEFINED
int nobody_defines_this(void);
int (*use_of_what_nobody_defines)(void) = nobody_defines_this;
#endif

/* The descriptor, with what a later minor might add to it. */
struct larger {
	struct impost_plugin plugin;
	uint64_t later[4];
};

IMPOST_API extern const struct larger FAKE_SYMBOL;
const struct larger FAKE_SYMBOL = {
	.plugin = {.size = FAKE_SIZE,
		   .magic = FAKE_MAGIC,
		   .abi_major = FAKE_MAJOR,
		   .abi_minor = FAKE_MINOR,
		   .kind = FAKE_KIND,
		   .name = FAKE_NAME,
		   .version = "1.2.3",
		   .summary = "a fake for tests",
		   .capabilities = "whatever a test asks for",
		   .ops = &backend_ops,
		   .options = options,
		   .noptions = sizeof(options) / sizeof(options[0])},
	.later = {~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0)},
};
