/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs: which there are, what may be written to them, and which accesses exit. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#include <impost/x86_64/cpuid.h>

#include "rules.h"

static bool mtrr_type_ok(uint64_t type)
{
	return type <= 6 && type != 2 && type != 3;
}

static bool mtrr_types_ok(uint64_t x)
{
	unsigned i;

	for (i = 0; i < 64; i += 8)
		if (!mtrr_type_ok(x >> i & 0xff))
			return false;
	return true;
}

static bool pat_ok(uint64_t x)
{
	unsigned i;

	for (i = 0; i < 64; i += 8)
		if ((x >> i & 0xff) != 7 && !mtrr_type_ok(x >> i & 0xff))
			return false;
	return true;
}

/* clang-format off */
#define MSR_RULE(name, ok, text, section) \
	static bool ok_##name(const struct mock_vcpu *v, uint64_t x, uint64_t old, uint64_t phys) \
	{ (void)v; (void)x; (void)old; (void)phys; return ok; }
#include "msr_rules.def"

struct msr_rule {
	bool (*ok)(const struct mock_vcpu *v, uint64_t x, uint64_t old, uint64_t phys);
	const char *text, *section;
};

enum msr_rule_number {
#define MSR_RULE(name, ok, text, section) RULE_##name,
#include "msr_rules.def"
};

static const struct msr_rule rules[] = {
#define MSR_RULE(name, ok, text, section) {ok_##name, text, section},
#include "msr_rules.def"
};

static const struct msr {
	uint32_t index;
	enum msr_rule_number rule;
	uint64_t reset;
	const char *name;
} msrs[] = {
#define MSR(name, reset, rule) {IMPOST_X86_MSR_##name, RULE_##rule, reset, #name},
#include "msr.def"
};
/* clang-format on */
static_assert(ARRAY_LEN(msrs) <= MOCK_NMSRS_MAX, "room in struct mock_vcpu");

static const struct msr *find(uint32_t index)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(msrs); i++)
		if (msrs[i].index == index)
			return &msrs[i];
	return NULL;
}

/* Where an MSR's value is kept; NULL for the TSC, which is computed. */
static uint64_t *place(struct mock_vcpu *v, const struct msr *m)
{
	switch (m->index) {
	case IMPOST_X86_MSR_IA32_TIME_STAMP_COUNTER:
		return NULL;
	case IMPOST_X86_MSR_IA32_APIC_BASE:
		return &v->sregs.apic_base;
	case IMPOST_X86_MSR_IA32_EFER:
		return &v->sregs.efer;
	case IMPOST_X86_MSR_IA32_FS_BASE:
		return &v->sregs.fs.base;
	case IMPOST_X86_MSR_IA32_GS_BASE:
		return &v->sregs.gs.base;
	default:
		return &v->msrs[m - msrs];
	}
}

static uint64_t load(struct mock_vcpu *v, const struct msr *m)
{
	const uint64_t *p = place(v, m);

	return p ? *p : mock_vcpu_tsc(v);
}

static const struct msr_rule *broken_rule(struct mock_vcpu *v, const struct msr *m, uint64_t x)
{
	const struct msr_rule *rule = &rules[m->rule];
	uint64_t phys = ~((UINT64_C(1) << mock_cpuid_phys_bits(v)) - 1);

	return rule->ok(v, x, load(v, m), phys) ? NULL : rule;
}

static void store(struct mock_vcpu *v, const struct msr *m, uint64_t x)
{
	if (m->index == IMPOST_X86_MSR_IA32_TIME_STAMP_COUNTER)
		mock_vcpu_set_tsc(v, x);
	else
		*place(v, m) = x;
	v->checked = false;
}

void mock_msr_reset(struct mock_vcpu *v)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(msrs); i++)
		v->msrs[i] = msrs[i].reset;
}

/* --- for the host --- */

int32_t mock_msr_list(void *backend, uint32_t *indices, uint32_t capacity, uint32_t *ret_count)
{
	const struct mock_backend *b = backend;
	size_t i;

	*ret_count = ARRAY_LEN(msrs);
	if (capacity < ARRAY_LEN(msrs))
		return impost_host_error(&b->host, -ENOSPC, "there are %zu MSRs", ARRAY_LEN(msrs));
	for (i = 0; i < ARRAY_LEN(msrs); i++)
		indices[i] = msrs[i].index;
	return 0;
}

static bool tells_features(const struct msr *m)
{
	return m->rule == RULE_READ_ONLY;
}

/* Those that nobody can set: any other takes what a guest was told elsewhere. */
int32_t mock_feature_msrs(void *backend, struct impost_x86_msr *list, uint32_t capacity,
			  uint32_t *ret_count)
{
	const struct mock_backend *b = backend;
	uint32_t count = 0;
	size_t i;

	for (i = 0; i < ARRAY_LEN(msrs); i++)
		count += tells_features(&msrs[i]);
	*ret_count = count;
	if (capacity < count)
		return impost_host_error(&b->host, -ENOSPC, "there are %u MSRs of features", count);
	for (i = 0, count = 0; i < ARRAY_LEN(msrs); i++)
		if (tells_features(&msrs[i]))
			list[count++] = (struct impost_x86_msr){.index = msrs[i].index,
								.value = msrs[i].reset};
	return 0;
}

int32_t mock_msrs_get(void *handle, struct impost_x86_msr *list, uint32_t count, uint32_t *ret_done)
{
	struct mock_vcpu *v = handle;
	uint32_t i;

	for (i = 0; i < count; i++) {
		const struct msr *m = find(list[i].index);

		*ret_done = i;
		if (!m)
			return mock_error(v->vm, -ENOENT, "MSR %#x: the mock's CPU has no such MSR",
					  list[i].index);
		list[i].value = load(v, m);
	}
	*ret_done = count;
	return 0;
}

int32_t mock_msrs_set(void *handle, const struct impost_x86_msr *list, uint32_t count,
		      uint32_t *ret_done)
{
	struct mock_vcpu *v = handle;
	uint32_t i;

	for (i = 0; i < count; i++) {
		const struct msr *m = find(list[i].index);
		const struct msr_rule *rule;

		*ret_done = i;
		if (!m)
			return mock_error(v->vm, -ENOENT, "MSR %#x: the mock's CPU has no such MSR",
					  list[i].index);
		rule = broken_rule(v, m, list[i].value);
		if (rule)
			return mock_error(v->vm, -IMPOST_ESTATE, "MSR %#x (%s) = %#llx: %s (%s)",
					  m->index, m->name, (unsigned long long)list[i].value,
					  rule->text, rule->section);
		store(v, m, list[i].value);
	}
	*ret_done = count;
	return 0;
}

/* --- for the guest --- */

int32_t mock_msr_exits(void *handle, const struct impost_msr_range *ranges, uint32_t nranges,
		       uint32_t unknown)
{
	struct mock_vm *vm = handle;
	struct impost_msr_range *copy;
	uint32_t i;

	for (i = 0; i < nranges; i++)
		if (!ranges[i].count || ranges[i].first + (ranges[i].count - 1) < ranges[i].first ||
		    !ranges[i].flags ||
		    (ranges[i].flags & ~(IMPOST_MSR_EXIT_READ | IMPOST_MSR_EXIT_WRITE)))
			return mock_error(
				vm, -EINVAL,
				"MSR exits: range %u is empty, wraps around, or has flags "
				"other than read and write",
				i);
	copy = calloc((size_t)nranges + 1, sizeof(*copy));
	if (!copy)
		return mock_error(vm, -ENOMEM, "out of memory");
	if (nranges)
		memcpy(copy, ranges, nranges * sizeof(*copy));
	pthread_mutex_lock(&vm->lock);
	free(vm->msr_ranges);
	vm->msr_ranges = copy;
	vm->nmsr_ranges = nranges;
	vm->msr_unknown = unknown;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

uint32_t mock_msr_exit_reason(struct mock_vm *vm, uint32_t index, uint32_t flag)
{
	uint32_t reason = 0;
	uint32_t i;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < vm->nmsr_ranges && !reason; i++)
		if (index - vm->msr_ranges[i].first < vm->msr_ranges[i].count &&
		    (vm->msr_ranges[i].flags & flag))
			reason = IMPOST_MSR_REASON_ASKED;
	if (!reason && vm->msr_unknown && !find(index))
		reason = IMPOST_MSR_REASON_UNKNOWN;
	pthread_mutex_unlock(&vm->lock);
	return reason;
}

bool mock_msr_guest_read(struct mock_vcpu *v, uint32_t index, uint64_t *ret_value)
{
	const struct msr *m = find(index);

	if (m)
		*ret_value = load(v, m);
	return m;
}

bool mock_msr_guest_may_write(struct mock_vcpu *v, uint32_t index, uint64_t value)
{
	const struct msr *m = find(index);

	return m && !broken_rule(v, m, value);
}

void mock_msr_guest_write(struct mock_vcpu *v, uint32_t index, uint64_t value)
{
	store(v, find(index), value);
}
