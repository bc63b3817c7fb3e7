/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs and CPUID: which are taken, and in which of three steps an MSR is loaded. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/x86_64/cpuid.h>

#include "state_steps.h"
#include "text.h"
#include "vcpu.h"

/* --- how each is treated --- */

#define LEAVE	   STATE_MSR_LEAVE
#define FIRST	   STATE_MSR_FIRST
#define LATE	   STATE_MSR_LATE
#define HYPERVISOR STATE_MSR_HYPERVISOR
#define FIXED	   STATE_MSR_FIXED

static const struct treatment {
	uint32_t first, last;
	uint32_t treatment;
	uint64_t idle, mask;
	const char *field;
} treatments[] = {
#define STATE_MSR(first, last, treatment, idle, mask, field, why) \
	{first, last, treatment, idle, mask, field},
#include "state_msrs.def"
};

static const struct treatment *find(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(treatments); i++)
		if (index >= treatments[i].first && index <= treatments[i].last)
			return &treatments[i];
	return NULL;
}

uint32_t state_msr_treatment(uint32_t index)
{
	const struct treatment *t = find(index);
	const struct impost_x86_msr_info *info;

	if (t)
		return t->treatment;
	info = impost_x86_msr_info_at(index);
	return info && info->kind == IMPOST_X86_MSR_FEATURE ? FIRST : 0;
}

/* Whether V's guest has been given what comes with FIELD of CPUID. */
static bool is_given(const struct state_vcpu *v, const char *name)
{
	const struct impost_x86_cpuid_field *field = impost_x86_cpuid_field_find(name);

	return !field || impost_x86_cpuid_get_field(v->cpuid, v->ncpuid, field);
}

bool state_msr_idle(const struct state_vcpu *v, const struct impost_x86_msr *msr)
{
	const struct treatment *t = find(msr->index);

	if (!t)
		return msr->value == 0;
	return (msr->value & t->mask) == t->idle || (t->field && !is_given(v, t->field));
}

const char *state_msr_name(uint32_t index, char name[STATE_MSR_NAME])
{
	const struct impost_x86_msr_info *info = impost_x86_msr_info_at(index);

	if (info)
		snprintf(name, STATE_MSR_NAME, "%s", info->name);
	else
		snprintf(name, STATE_MSR_NAME, "MSR 0x%x", index);
	return name;
}

/* --- as numbers --- */

void state_count_words(struct state_vcpu *v)
{
	v->ncpuid_words = v->ncpuid * (uint32_t)STATE_CPUID_WORDS;
	v->nmsr_words = v->nmsrs * (uint32_t)STATE_MSR_WORDS;
	v->hypervisor.nwords = v->hypervisor.count * (uint32_t)STATE_MSR_WORDS;
}

static const char *judge_msrs(const struct impost_x86_msr *msrs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (msrs[i].reserved)
			return "an MSR's index is beyond 32 bits";
		if (i && msrs[i].index <= msrs[i - 1].index)
			return "MSRs are not in order of index";
	}
	return NULL;
}

const char *state_count_entries(struct state_vcpu *v)
{
	const char *wrong;

	if (v->ncpuid_words % STATE_CPUID_WORDS || v->nmsr_words % STATE_MSR_WORDS ||
	    v->hypervisor.nwords % STATE_MSR_WORDS)
		return "CPUID or MSRs are cut short";
	v->ncpuid = v->ncpuid_words / (uint32_t)STATE_CPUID_WORDS;
	v->nmsrs = v->nmsr_words / (uint32_t)STATE_MSR_WORDS;
	v->hypervisor.count = v->hypervisor.nwords / (uint32_t)STATE_MSR_WORDS;
	for (uint32_t i = 0; i < v->ncpuid; i++)
		if (v->cpuid[i].reserved)
			return "a number of CPUID that must be 0 is not";
	wrong = judge_msrs(v->msrs, v->nmsrs);
	return wrong ? wrong : judge_msrs(v->hypervisor.msrs, v->hypervisor.count);
}

/* --- taking --- */

static int no_memory(struct state_work *work)
{
	return impost_error_set(work->ctx, -ENOMEM, "no memory for a VM's state");
}

static int by_index(const void *a, const void *b)
{
	const uint32_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

/* Of the COUNT MSRs at INDICES, which it sorts, those that are taken, none twice. */
static uint32_t choose_listed(uint32_t *indices, uint32_t count, struct listed_msr *list)
{
	uint32_t kept = 0;

	qsort(indices, count, sizeof(*indices), by_index);
	for (uint32_t i = 0; i < count && kept < STATE_MSRS_MAX; i++) {
		uint32_t treatment = state_msr_treatment(indices[i]);

		if ((treatment & LEAVE) || (kept && list[kept - 1].index == indices[i]))
			continue;
		list[kept++] = (struct listed_msr){
			.index = indices[i],
			.hypervisor = treatment & HYPERVISOR,
		};
	}
	return kept;
}

/* Made once for a VM: it does not change. */
static int make_list(struct state_work *work)
{
	struct impost_vm *vm = work->vm;
	struct listed_msr *list;
	uint32_t count = 0, *indices;
	int err = impost_vm_msr_list(vm, NULL, 0, &count);

	if (err && err != -ENOSPC)
		return err == -ENOTSUP ? 0 : err;
	indices = malloc(((size_t)count + 1) * sizeof(*indices));
	list = malloc(((size_t)count + 1) * sizeof(*list));
	if (indices && list)
		err = impost_vm_msr_list(vm, indices, count, &count);
	else
		err = no_memory(work);
	if (!err)
		count = choose_listed(indices, count, list);
	free(indices);
	pthread_mutex_lock(&vm->lock);
	if (!err && !vm->msr_list) {
		vm->nmsr_list = count;
		vm->msr_list = list;
		list = NULL;
	}
	pthread_mutex_unlock(&vm->lock);
	free(list);
	return err;
}

static int need_list(struct state_work *work)
{
	bool there;

	pthread_mutex_lock(&work->vm->lock);
	there = work->vm->msr_list;
	pthread_mutex_unlock(&work->vm->lock);
	return there ? 0 : make_list(work);
}

/* Whether a vCPU that refused an MSR with ERR has no such one, which is no failure. */
static bool is_refusal(int err)
{
	return err == -ENOENT || err == -IMPOST_ESTATE || err == -EINVAL;
}

/* Reads *COUNT MSRs, and drops those that this vCPU has not. */
static int read_msrs(struct impost_vcpu *vcpu, struct impost_x86_msr *msrs, uint32_t *count)
{
	uint32_t done = 0, some;

	while (done < *count) {
		int err = impost_vcpu_get_msrs(vcpu, msrs + done, *count - done, &some);

		done += some;
		if (!err)
			break;
		if (!is_refusal(err))
			return err;
		--*count;
		memmove(&msrs[done], &msrs[done + 1], (*count - done) * sizeof(*msrs));
	}
	return 0;
}

/* Gives those of the hypervisor their own place. What is there is in the order of the list. */
static void part_msrs(struct state_work *work, struct state_vcpu *v)
{
	const struct impost_vm *vm = work->vm;
	struct state_msrs *own = &v->hypervisor;
	uint32_t kept = 0, at = 0;

	for (uint32_t i = 0; i < v->nmsrs; i++) {
		while (at + 1 < vm->nmsr_list && vm->msr_list[at].index < v->msrs[i].index)
			at++;
		if (vm->msr_list[at].hypervisor)
			own->msrs[own->count++] = v->msrs[i];
		else
			v->msrs[kept++] = v->msrs[i];
	}
	v->nmsrs = kept;
	if (own->count)
		snprintf(own->backend, sizeof(own->backend), "%s", impost_vm_backend(work->vm));
}

int take_msrs(struct state_work *work, uint32_t i)
{
	struct state_vcpu *v = &work->parts->vcpus[i];
	const struct impost_vm *vm = work->vm;
	int err = need_list(work);

	if (err || !vm->nmsr_list)
		return err;
	v->msrs = calloc(vm->nmsr_list, sizeof(*v->msrs));
	v->hypervisor.msrs = calloc(vm->nmsr_list, sizeof(*v->msrs));
	if (!v->msrs || !v->hypervisor.msrs)
		return no_memory(work);
	for (uint32_t k = 0; k < vm->nmsr_list; k++)
		v->msrs[k].index = vm->msr_list[k].index;
	v->nmsrs = vm->nmsr_list;
	err = read_msrs(work->vcpus[i], v->msrs, &v->nmsrs);
	if (!err)
		part_msrs(work, v);
	return err;
}

/* --- loading --- */

/* An MSR of the state that this vCPU has not. */
static int lacks(struct state_work *work, uint32_t i, const struct impost_x86_msr *msr)
{
	char name[STATE_MSR_NAME];

	if (state_msr_idle(&work->parts->vcpus[i], msr))
		return 0;
	return impost_error_set(work->ctx, -ENOTSUP,
				"vCPU %u: %s is 0x%" PRIx64 " in the state, and backend %s has no "
				"such MSR",
				impost_vcpu_id(work->vcpus[i]), state_msr_name(msr->index, name),
				msr->value, impost_vm_backend(work->vm));
}

/* Whether what cannot be set is there as much as is wanted. */
static bool is_enough(uint64_t have, uint64_t want)
{
	return (have & 0xff) >= (want & 0xff) && !(want & ~have & ~UINT64_C(0xff));
}

/* Whether MSR must be set where a vCPU has HAVE. */
static bool is_change(const struct state_vcpu *v, const struct impost_x86_msr *msr, uint64_t have)
{
	if (msr->value == have)
		return false;
	return !(state_msr_treatment(msr->index) & FIXED) ||
	       !(is_enough(have, msr->value) || state_msr_idle(v, msr));
}

/* Leaves of the COUNT MSRs in WANT those that this vCPU has with another value. */
static int keep_changes(struct state_work *work, uint32_t i, struct impost_x86_msr *want,
			uint32_t *count)
{
	struct impost_x86_msr *have = calloc(*count + 1, sizeof(*have));
	uint32_t had = *count, kept = 0, at = 0;
	int err;

	if (!have)
		return no_memory(work);
	for (uint32_t k = 0; k < had; k++)
		have[k].index = want[k].index;
	err = read_msrs(work->vcpus[i], have, &had);
	for (uint32_t k = 0; !err && k < *count; k++) {
		if (at == had || have[at].index != want[k].index)
			err = lacks(work, i, &want[k]);
		else if (is_change(&work->parts->vcpus[i], &want[k], have[at++].value))
			want[kept++] = want[k];
	}
	free(have);
	*count = kept;
	return err;
}

/* Whether a vCPU that refused MSR with ERR has it in name alone: KVM lists MSRs that are another
 * vendor's, gives 0 for them and takes 0 (kernel, x86.c, kvm_do_msr_access()). */
static bool is_hollow(struct state_work *work, uint32_t i, const struct impost_x86_msr *msr,
		      int err)
{
	struct impost_x86_msr have = {.index = msr->index};

	return is_refusal(err) && impost_vcpu_get_msrs(work->vcpus[i], &have, 1, NULL) == 0 &&
	       have.value == 0;
}

static int cannot_set(struct state_work *work, uint32_t i, const struct impost_x86_msr *msr,
		      int err)
{
	char name[STATE_MSR_NAME], reason[512];

	snprintf(reason, sizeof(reason), "%s", impost_error(work->ctx));
	if (is_hollow(work, i, msr, err) && !lacks(work, i, msr))
		return 0;
	return impost_error_set(work->ctx, err, "vCPU %u: %s cannot be set to 0x%" PRIx64 ": %s",
				impost_vcpu_id(work->vcpus[i]), state_msr_name(msr->index, name),
				msr->value, reason);
}

static int set_msrs(struct state_work *work, uint32_t i, const struct impost_x86_msr *msrs,
		    uint32_t count)
{
	uint32_t done = 0, some;
	int err = 0;

	while (!err && done < count) {
		err = impost_vcpu_set_msrs(work->vcpus[i], msrs + done, count - done, &some);
		done += some;
		if (!err || done >= count)
			break;
		err = cannot_set(work, i, &msrs[done++], err);
	}
	return err;
}

/* Those of the hypervisor, if it is another one's, must never have been used. */
static int check_foreign(struct state_work *work, uint32_t i)
{
	const struct state_vcpu *v = &work->parts->vcpus[i];
	const struct state_msrs *own = &v->hypervisor;
	char name[STATE_MSR_NAME];

	if (strcmp(own->backend, impost_vm_backend(work->vm)) == 0)
		return 0;
	for (uint32_t k = 0; k < own->count; k++)
		if (!state_msr_idle(v, &own->msrs[k]))
			return impost_error_set(
				work->ctx, -ENOTSUP,
				"vCPU %u: the guest uses %s of backend %s, which backend %s has "
				"not",
				impost_vcpu_id(work->vcpus[i]),
				state_msr_name(own->msrs[k].index, name), own->backend,
				impost_vm_backend(work->vm));
	return 0;
}

/* Adds those of COUNT MSRs that are loaded in STEP to WANT. */
static uint32_t choose(const struct impost_x86_msr *msrs, uint32_t count, uint32_t step,
		       struct impost_x86_msr *want)
{
	uint32_t chosen = 0;

	for (uint32_t k = 0; k < count; k++)
		if ((state_msr_treatment(msrs[k].index) & (FIRST | LATE)) == step)
			want[chosen++] = msrs[k];
	return chosen;
}

static int load_step(struct state_work *work, uint32_t i, uint32_t step)
{
	const struct state_vcpu *v = &work->parts->vcpus[i];
	const struct state_msrs *own = &v->hypervisor;
	bool native = strcmp(own->backend, impost_vm_backend(work->vm)) == 0;
	struct impost_x86_msr *want;
	uint32_t count;
	int err = check_foreign(work, i);

	if (err)
		return err;
	want = calloc((size_t)v->nmsrs + own->count + 1, sizeof(*want));
	if (!want)
		return no_memory(work);
	count = choose(v->msrs, v->nmsrs, step, want);
	if (native)
		count += choose(own->msrs, own->count, step, want + count);
	err = keep_changes(work, i, want, &count);
	if (!err)
		err = set_msrs(work, i, want, count);
	free(want);
	return err;
}

int load_first_msrs(struct state_work *work, uint32_t i)
{
	return load_step(work, i, FIRST);
}

int load_msrs(struct state_work *work, uint32_t i)
{
	return load_step(work, i, 0);
}

int load_late_msrs(struct state_work *work, uint32_t i)
{
	return load_step(work, i, LATE);
}

/* --- CPUID --- */

/* What no host has set is the backend's own. */
static int ask_cpuid(struct state_work *work, uint32_t i, struct state_vcpu *v)
{
	uint32_t room = 0, count = 0;
	int err = impost_vcpu_get_cpuid(work->vcpus[i], NULL, 0, &room);

	if (err == -ENOTSUP || (!err && !room))
		return 0;
	if (err && err != -ENOSPC)
		return err;
	if (room > STATE_CPUID_MAX)
		return impost_error_set(work->ctx, -EIO, "backend %s: %u CPUID entries",
					impost_vm_backend(work->vm), room);
	v->cpuid = calloc(room, sizeof(*v->cpuid));
	if (!v->cpuid)
		return no_memory(work);
	err = impost_vcpu_get_cpuid(work->vcpus[i], v->cpuid, room, &count);
	v->ncpuid = err ? 0 : count;
	return err;
}

/* What a host has set: for each vCPU, or for all at once. The VM's lock is held. */
static const struct given_cpuid *given_to(const struct state_work *work, uint32_t i)
{
	return impost_caps_has(&work->vm->caps, IMPOST_CAP_CPUID_PER_VCPU) ? &work->vcpus[i]->given
									   : &work->vm->given;
}

/*
 * What the host has set, not what the backend tells: that has bits that follow from registers, and
 * there are KVMs whose guests see more of the processor than they say that they support.
 */
int take_cpuid(struct state_work *work, uint32_t i)
{
	struct state_vcpu *v = &work->parts->vcpus[i];
	const struct given_cpuid *given = given_to(work, i);
	int err = 0;

	pthread_mutex_lock(&work->vm->lock);
	if (given->entries && given->count <= STATE_CPUID_MAX) {
		v->cpuid = calloc((size_t)given->count + 1, sizeof(*v->cpuid));
		v->ncpuid = v->cpuid ? given->count : 0;
		if (v->cpuid)
			memcpy(v->cpuid, given->entries, given->count * sizeof(*v->cpuid));
		else
			err = no_memory(work);
	}
	pthread_mutex_unlock(&work->vm->lock);
	return err || v->cpuid ? err : ask_cpuid(work, i, v);
}

/* A vCPU that has run takes no other CPUID, and need not if it has this one. */
static bool has_cpuid(struct state_work *work, uint32_t i)
{
	const struct state_vcpu *v = &work->parts->vcpus[i];
	const struct given_cpuid *given = given_to(work, i);
	bool same;

	pthread_mutex_lock(&work->vm->lock);
	same = given->entries && given->count == v->ncpuid &&
	       memcmp(given->entries, v->cpuid, v->ncpuid * sizeof(*v->cpuid)) == 0;
	pthread_mutex_unlock(&work->vm->lock);
	return same;
}

int load_cpuid(struct state_work *work, uint32_t i)
{
	const struct state_vcpu *v = &work->parts->vcpus[i];

	if (!v->ncpuid || has_cpuid(work, i))
		return 0;
	return impost_vcpu_set_cpuid(work->vcpus[i], v->cpuid, v->ncpuid);
}
