/* SPDX-License-Identifier: Apache-2.0 */
/* The backend as a whole: its options, its capabilities, its operations. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#include "mock.h"

const struct impost_option_desc impost_mock_options[] = {
	{sizeof(struct impost_option_desc), IMPOST_OPTION_PATH, "script", NULL, NULL,
	 "the script that the vCPUs play"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_BOOL, "check_entry", NULL, "yes",
	 "check the guest's state as hardware does at VM entry"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_ENUM, "cpuid", "vcpu|vm", "vcpu",
	 "whether CPUID is set on each vCPU or once for the VM"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_ENUM, "dirty_log", "manual|auto",
	 "manual", "whether fetching the dirty log leaves clearing it to a second step"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_BOOL, "dirty_initially_set", NULL, "no",
	 "whether a dirty log starts with every page dirty"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_BOOL, "memory_moves", NULL, "no",
	 "whether memory that the mock provides can move in the host"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_BOOL, "io_claims", NULL, "no",
	 "whether I/O ranges must be claimed before their accesses exit"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_PATH, "cassette", NULL, NULL,
	 "the cassette that the VM plays"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_UINT, "cassette_wait", NULL, "10000",
	 "how many ms a call waits for its turn in the cassette"},
};
static_assert(ARRAY_LEN(impost_mock_options) == IMPOST_MOCK_NOPTIONS, "all of them");

/* ms: an hour */
#define WAIT_MAX 3600000u

static const uint8_t capabilities[] = {
	IMPOST_CAP_MEM_HOST,	  IMPOST_CAP_MEM_BACKEND,   IMPOST_CAP_MEM_PINNABLE,
	IMPOST_CAP_MEM_ALIAS,	  IMPOST_CAP_MEM_READONLY,  IMPOST_CAP_MEM_ROM_DROP,
	IMPOST_CAP_DIRTY_LOG,	  IMPOST_CAP_MARK_DIRTY,    IMPOST_CAP_IRQCHIP_NONE,
	IMPOST_CAP_IRQCHIP_LAPIC, IMPOST_CAP_IRQCHIP_FULL,  IMPOST_CAP_IRQ_LINE,
	IMPOST_CAP_MSI,		  IMPOST_CAP_NMI,	    IMPOST_CAP_IRQ_INJECT,
	IMPOST_CAP_IRQ_WINDOW,	  IMPOST_CAP_GSI_ROUTES,    IMPOST_CAP_IRQFD,
	IMPOST_CAP_IOEVENTFD,	  IMPOST_CAP_MSR_EXITS,	    IMPOST_CAP_GUEST_DEBUG,
	IMPOST_CAP_TRANSLATE,	  IMPOST_CAP_VM_PAUSE,	    IMPOST_CAP_VM_EVENTS,
	IMPOST_CAP_COMPLETE,	  IMPOST_CAP_XSAVE,	    IMPOST_CAP_DEBUGREGS,
	IMPOST_CAP_EVENTS,	  IMPOST_CAP_EVENT_PAYLOAD, IMPOST_CAP_SREGS_PDPTRS,
	IMPOST_CAP_CLOCK,	  IMPOST_CAP_TSC_OFFSET,    IMPOST_CAP_TSC_SCALING,
	IMPOST_CAP_X2APIC_IDS,
};

static int32_t take_wait(struct mock_backend *b, const struct impost_option *o)
{
	b->cassette_wait = strtoull(o->value, NULL, 0);
	if (b->cassette_wait <= WAIT_MAX)
		return 0;
	return impost_host_error(&b->host, -EINVAL, "%s: cassette_wait = %s: it is %u ms at most",
				 o->where, o->value, WAIT_MAX);
}

/* Values have the type that the table above says: the core has seen to it. */
static int32_t take_option(struct mock_backend *b, const struct impost_option *o)
{
	char text[1024];
	int err;

	if (!strcmp(o->key, "check_entry"))
		b->check_entry = !strcmp(o->value, "1");
	else if (!strcmp(o->key, "cpuid"))
		b->cpuid_per_vm = !strcmp(o->value, "vm");
	else if (!strcmp(o->key, "dirty_log"))
		b->dirty_manual = !strcmp(o->value, "manual");
	else if (!strcmp(o->key, "dirty_initially_set"))
		b->dirty_initially_set = !strcmp(o->value, "1");
	else if (!strcmp(o->key, "memory_moves"))
		b->memory_moves = !strcmp(o->value, "1");
	else if (!strcmp(o->key, "io_claims"))
		b->claims = !strcmp(o->value, "1");
	else if (!strcmp(o->key, "cassette_wait"))
		return take_wait(b, o);
	else if (!strcmp(o->key, "cassette"))
		b->cassette = strdup(o->value);
	if (!strcmp(o->key, "cassette") && !b->cassette)
		return impost_host_error(&b->host, -ENOMEM, "out of memory");
	if (strcmp(o->key, "script"))
		return 0;
	err = mock_script_load(o->value, &b->script, text, sizeof(text));
	return err ? impost_host_error(&b->host, err, "%s", text) : 0;
}

static void close_backend(void *backend)
{
	struct mock_backend *b = backend;

	mock_script_free(b->script);
	mock_cassette_close(b);
	free(b->cassette);
	free(b);
}

static int32_t open_backend(const struct impost_open_args *args, void **ret_backend)
{
	struct mock_backend *b = calloc(1, sizeof(*b));
	int32_t err = 0;
	uint32_t i;

	if (!b)
		return impost_host_error(args->host, -ENOMEM, "out of memory");
	b->host = *args->host;
	b->check_entry = true;
	b->dirty_manual = true;
	b->cassette_wait = 10000;
	for (i = 0; i < args->noptions && !err; i++)
		err = take_option(b, &args->options[i]);
	if (!err && b->cassette)
		err = b->script ? impost_host_error(&b->host, -EINVAL,
						    "cassette and script: the mock plays one of "
						    "the two")
				: mock_cassette_open(b);
	if (err) {
		close_backend(b);
		return err;
	}
	*ret_backend = b;
	return 0;
}

static int32_t caps(void *backend, struct impost_caps *ret_caps)
{
	const struct mock_backend *b = backend;
	struct impost_caps c = {
		.irqchip = IMPOST_IRQCHIP_FULL,
		.max_vcpus = MOCK_MAX_VCPUS,
		.max_vcpu_id = MOCK_MAX_VCPU_ID,
		.max_slots = MOCK_MAX_SLOTS,
		.max_gsis = MOCK_MAX_GSIS,
		.max_io_claims = b->claims ? MOCK_MAX_CLAIMS : 0,
		.max_cpuid = MOCK_MAX_CPUID,
		.tsc_khz = MOCK_TSC_KHZ,
		.phys_bits = MOCK_PHYS_BITS,
	};
	uint32_t room = ret_caps->size;
	size_t i;

	if (b->header)
		return mock_cassette_caps(b, ret_caps);
	for (i = 0; i < ARRAY_LEN(capabilities); i++)
		impost_caps_add(&c, (enum impost_cap)capabilities[i]);
	impost_caps_add(&c, b->cpuid_per_vm ? IMPOST_CAP_CPUID_PER_VM : IMPOST_CAP_CPUID_PER_VCPU);
	if (b->dirty_manual)
		impost_caps_add(&c, IMPOST_CAP_DIRTY_MANUAL);
	if (b->dirty_initially_set)
		impost_caps_add(&c, IMPOST_CAP_DIRTY_INITIALLY_SET);
	if (b->memory_moves)
		impost_caps_add(&c, IMPOST_CAP_MEM_MOVES);
	if (b->claims)
		impost_caps_add(&c, IMPOST_CAP_IO_CLAIMS);
	c.size = room < sizeof(c) ? room : (uint32_t)sizeof(c);
	memcpy(ret_caps, &c, c.size);
	return 0;
}

/* --- what there is: the mock's own, or a cassette's --- */

static int32_t cpuid_supported(void *backend, struct impost_x86_cpuid *entries, uint32_t capacity,
			       uint32_t *ret_count)
{
	const struct mock_backend *b = backend;

	return b->header ? mock_cassette_cpuid(b, entries, capacity, ret_count)
			 : mock_cpuid_supported(backend, entries, capacity, ret_count);
}

static int32_t msr_list(void *backend, uint32_t *indices, uint32_t capacity, uint32_t *ret_count)
{
	const struct mock_backend *b = backend;

	return b->header ? mock_cassette_msrs(b, indices, capacity, ret_count)
			 : mock_msr_list(backend, indices, capacity, ret_count);
}

static int32_t feature_msrs(void *backend, struct impost_x86_msr *list, uint32_t capacity,
			    uint32_t *ret_count)
{
	const struct mock_backend *b = backend;

	return b->header ? mock_cassette_features(b, list, capacity, ret_count)
			 : mock_feature_msrs(backend, list, capacity, ret_count);
}

const struct impost_backend_ops impost_mock_ops = {
	.size = sizeof(impost_mock_ops),
	.vm = &mock_vm_ops,
	.vcpu = &mock_vcpu_ops,
	.open = open_backend,
	.close = close_backend,
	.caps = caps,
	.vm_create = mock_vm_create,
	.cpuid_supported = cpuid_supported,
	.msr_list = msr_list,
	.feature_msrs = feature_msrs,
};
