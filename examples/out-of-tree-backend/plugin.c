/* SPDX-License-Identifier: Apache-2.0 */
/* The toy's descriptor, and the backend as a whole: what it can do here, which is the same
 * everywhere. */
#include "toy.h"

#include <stdlib.h>

/* The headers and the pkg-config file are of one installation. */
static_assert(IMPOST_PLUGIN_ABI_MAJOR == TOY_ABI_MAJOR, "impost.pc and the headers differ");
static_assert(IMPOST_PLUGIN_ABI_MINOR == TOY_ABI_MINOR, "impost.pc and the headers differ");

struct toy_backend {
	const struct impost_host *host;
};

static int32_t open_backend(const struct impost_open_args *args, void **ret_backend)
{
	struct toy_backend *b = calloc(1, sizeof(*b));

	if (!b)
		return impost_host_error(args->host, -ENOMEM, "out of memory");
	b->host = args->host;
	*ret_backend = b;
	return 0;
}

static void close_backend(void *backend)
{
	free(backend);
}

/* What is claimed is tested by conformance; what is not claimed the core refuses by name. */
static const uint8_t capabilities[] = {
	IMPOST_CAP_EXECUTES,	   IMPOST_CAP_MEM_HOST,	    IMPOST_CAP_MEM_PINNABLE,
	IMPOST_CAP_MEM_ALIAS,	   IMPOST_CAP_MEM_READONLY, IMPOST_CAP_DIRTY_LOG,
	IMPOST_CAP_IRQCHIP_NONE,   IMPOST_CAP_NMI,	    IMPOST_CAP_IRQ_INJECT,
	IMPOST_CAP_IRQ_WINDOW,	   IMPOST_CAP_COMPLETE,	    IMPOST_CAP_TRANSLATE,
	IMPOST_CAP_CPUID_PER_VCPU, IMPOST_CAP_DEBUGREGS,    IMPOST_CAP_EVENTS,
};

static int32_t caps(void *backend, struct impost_caps *ret_caps)
{
	struct impost_caps c = {
		.irqchip = IMPOST_IRQCHIP_NONE,
		.max_vcpus = TOY_VCPUS,
		.max_vcpu_id = TOY_VCPUS - 1,
		.max_slots = TOY_SLOTS,
		.max_cpuid = TOY_CPUID,
		.tsc_khz = TOY_TSC_KHZ,
		.phys_bits = TOY_PHYS,
	};
	uint32_t room = ret_caps->size;

	(void)backend;
	for (size_t i = 0; i < ARRAY_LEN(capabilities); i++)
		impost_caps_add(&c, (enum impost_cap)capabilities[i]);
	c.size = room < sizeof(c) ? room : (uint32_t)sizeof(c);
	memcpy(ret_caps, &c, c.size);
	return 0;
}

/* DE, PSE, TSC, MSR, PAE, PGE in leaf 1; NX, long mode in 0x80000001; widths in 0x80000008 (SDM
 * vol. 2, CPUID). */
static const struct impost_x86_cpuid cpuid[] = {
	{.leaf = 0, .eax = 1, .ebx = 0x6d49796f, .edx = 0x74736f70, .ecx = 0x796f542e},
	{.leaf = 1, .eax = 0x600, .edx = 0x207c},
	{.leaf = 0x80000000, .eax = 0x80000008},
	{.leaf = 0x80000001, .edx = 0x20100000},
	{.leaf = 0x80000008, .eax = 48u << 8 | TOY_PHYS},
};

uint32_t toy_cpuid_default(struct impost_x86_cpuid *entries)
{
	memcpy(entries, cpuid, sizeof(cpuid));
	return ARRAY_LEN(cpuid);
}

static int32_t cpuid_supported(void *backend, struct impost_x86_cpuid *entries, uint32_t capacity,
			       uint32_t *ret_count)
{
	const struct toy_backend *b = backend;

	*ret_count = ARRAY_LEN(cpuid);
	if (capacity < ARRAY_LEN(cpuid))
		return impost_host_error(b->host, -ENOSPC, "there are %zu CPUID entries",
					 ARRAY_LEN(cpuid));
	toy_cpuid_default(entries);
	return 0;
}

static int32_t msr_list(void *backend, uint32_t *indices, uint32_t capacity, uint32_t *ret_count)
{
	const struct toy_backend *b = backend;

	*ret_count = toy_msr_list(indices, capacity);
	if (*ret_count > capacity)
		return impost_host_error(b->host, -ENOSPC, "there are %u MSRs", *ret_count);
	return 0;
}

static const struct impost_backend_ops ops = {
	.size = sizeof(ops),
	.vm = &toy_vm_ops,
	.vcpu = &toy_vcpu_ops,
	.open = open_backend,
	.close = close_backend,
	.caps = caps,
	.vm_create = toy_vm_create,
	.cpuid_supported = cpuid_supported,
	.msr_list = msr_list,
};

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_BACKEND,
	.name = "toy",
	.version = TOY_VERSION,
	.summary = "interprets a few x86 instructions: an example of a backend",
	.capabilities = "executes real and 64-bit mode; no interrupt controller; dirty log",
	.ops = &ops,
};
