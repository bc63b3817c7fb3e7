/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs of every vCPU, as far as the backend has them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "boot_steps.h"
#include "ram.h"

#define MTRR_PAIRS 0xffu
#define BOOT_MSRS  32u

/* CPUID 1:EDX: memory type range registers. */
#define MTRR (1u << 12)

/* What every vCPU is given; those of the template stand together. */
struct msr_set {
	struct impost_x86_msr *msr;
	uint32_t count, capacity;
	uint32_t template_start, template_end;
};

struct msr_list {
	uint32_t *indices;
	uint32_t count;
};

/* Gets the MSRs that the backend says it has. Free the indices, also after a failure. */
static int get_msr_list(const struct boot *boot, struct msr_list *ret_list)
{
	uint32_t capacity = 256;
	int err;

	do {
		free(ret_list->indices);
		ret_list->count = capacity;
		ret_list->indices = calloc(capacity, sizeof(*ret_list->indices));
		if (!ret_list->indices)
			return impost_error_set(boot->ctx, -ENOMEM,
						"boot: no memory for %u MSR indices", capacity);
		err = impost_vm_msr_list(boot->vm, ret_list->indices, capacity, &ret_list->count);
	} while (err == -ENOSPC && ret_list->count > capacity && (capacity = ret_list->count));
	return err;
}

static int is_listed(const struct msr_list *list, uint32_t index)
{
	for (uint32_t i = 0; i < list->count; i++) {
		if (list->indices[i] == index)
			return 1;
	}
	return 0;
}

/* How many MSRs the template names. */
static uint32_t count_named(const struct boot *boot)
{
	uint32_t index, count = 0;

	while (boot->cpu_template &&
	       impost_x86_template_msr(boot->cpu_template, count, &index) == 0)
		count++;
	return count;
}

/*
 * Adds the template's MSRs to SET, of which it names NAMED: they are computed from what they are
 * here, in the room that is left behind them.
 */
static int add_template(struct boot *boot, uint32_t named, struct msr_set *set)
{
	struct impost_x86_msr *have = set->msr + set->capacity - named;
	uint32_t done, added = 0, count = 0;
	int err;

	if (!boot->cpu_template)
		return 0;
	for (uint32_t i = 0; i < named; i++) {
		impost_x86_template_msr(boot->cpu_template, i, &have[count].index);
		if (impost_vcpu_get_msrs(boot->vcpus[0], &have[count], 1, &done) == 0)
			count++;
	}
	err = impost_x86_template_msrs(boot->ctx, boot->cpu_template, have, count,
				       set->msr + set->count, named, &added, NULL, NULL);
	set->template_start = set->count;
	set->count += added;
	set->template_end = set->count;
	return err;
}

/* Where RAM ends below 4 GiB, or the hole begins, whichever is higher. */
static int find_hole(struct boot *boot, uint64_t *ret_start)
{
	uint64_t start = IMPOST_X86_HOLE_START;
	uint32_t cursor = 0;
	struct range run;
	int more;

	while ((more = ram_next(boot->memory, &cursor, &run)) > 0) {
		if (run.start < IMPOST_X86_HOLE_END && run.end > start)
			start = run.end < IMPOST_X86_HOLE_END ? run.end : IMPOST_X86_HOLE_END;
	}
	*ret_start = start;
	return more;
}

/* Adds the MTRRs to SET, if the CPU has them. */
static int add_mtrrs(struct boot *boot, struct msr_set *set)
{
	const struct impost_x86_cpuid *features =
		impost_x86_cpuid_find(boot->cpuid.entries, boot->cpuid.count, 1, 0);
	const struct impost_x86_cpuid *sizes =
		impost_x86_cpuid_find(boot->cpuid.entries, boot->cpuid.count, 0x80000008, 0);
	struct impost_x86_mtrr_config config = {.size = sizeof(config),
						.hole_end = IMPOST_X86_HOLE_END};
	struct impost_x86_msr cap = {.index = IMPOST_X86_MSR_IA32_MTRRCAP};
	uint32_t count = 0, done;
	int err;

	if (!features || !(features->edx & MTRR) || !sizes ||
	    impost_vcpu_get_msrs(boot->vcpus[0], &cap, 1, &done) < 0)
		return 0;
	config.phys_bits = sizes->eax & 0xff;
	config.variable = (uint32_t)(cap.value & MTRR_PAIRS);
	err = find_hole(boot, &config.hole_start);
	if (err == 0)
		err = impost_x86_setup_mtrrs(&config, set->msr + set->count,
					     set->capacity - set->count, &count);
	if (err < 0)
		return impost_error_set(
			boot->ctx, err,
			"boot: MTRRs: the %u variable ranges of this CPU, with %u bits of address, "
			"cannot make %#llx to %#llx uncached",
			config.variable, config.phys_bits, (unsigned long long)config.hole_start,
			(unsigned long long)config.hole_end);
	set->count += count;
	return 0;
}

/* What a template names was there, and is what its author asked for: it cannot be left out. */
static int is_of_template(const struct msr_set *set, uint32_t i)
{
	return i >= set->template_start && i < set->template_end;
}

/* The template's MSR cannot be had on VCPU: names both; WHY may be the context's own text. */
static int refuse(const struct boot *boot, const struct impost_vcpu *vcpu,
		  const struct impost_x86_msr *msr, int err, const char *why)
{
	const struct impost_x86_msr_info *info = impost_x86_msr_info_at(msr->index);
	char name[48], text[256];

	snprintf(text, sizeof(text), "%s", why);
	snprintf(name, sizeof(name), "0x%" PRIx32, msr->index);
	return impost_error_set(boot->ctx, err,
				"CPU template %.128s: vCPU %" PRIu32 " cannot have %s = 0x%" PRIx64
				": %s",
				impost_x86_template_name(boot->cpu_template), impost_vcpu_id(vcpu),
				info ? info->name : name, msr->value, text);
}

/*
 * Sets SET on VCPU. What only booting wants, and the backend neither lists (lists are incomplete)
 * nor takes, does not exist here.
 */
static int set_msrs(const struct boot *boot, struct impost_vcpu *vcpu, const struct msr_set *set,
		    const struct msr_list *list)
{
	uint32_t done, at = 0;
	int err = 0;

	while (err == 0 && at < set->count) {
		done = 0;
		err = impost_vcpu_set_msrs(vcpu, set->msr + at, set->count - at, &done);
		at += done;
		if (err == 0 || at >= set->count)
			continue;
		if (is_of_template(set, at))
			return refuse(boot, vcpu, &set->msr[at], err, impost_error(boot->ctx));
		if (!is_listed(list, set->msr[at].index)) {
			err = 0;
			at++;
		}
	}
	return err;
}

/* Some hypervisors drop a value without a word: the template's are looked at again. */
static int check_kept(const struct boot *boot, struct impost_vcpu *vcpu, const struct msr_set *set)
{
	for (uint32_t i = set->template_start; i < set->template_end; i++) {
		struct impost_x86_msr is = {.index = set->msr[i].index};
		int err = impost_vcpu_get_msrs(vcpu, &is, 1, NULL);

		if (err < 0)
			return err;
		if (is.value != set->msr[i].value)
			return refuse(boot, vcpu, &set->msr[i], -ENOTSUP,
				      "it took the value, and has another");
	}
	return 0;
}

int boot_set_msrs(struct boot *boot)
{
	uint32_t named = count_named(boot);
	struct msr_set set = {.capacity = BOOT_MSRS + IMPOST_X86_MTRRS(MTRR_PAIRS) + 2 * named};
	struct msr_list list = {NULL, 0};
	int err;

	err = get_msr_list(boot, &list);
	set.msr = calloc(set.capacity, sizeof(*set.msr));
	if (err == 0 && !set.msr)
		err = impost_error_set(boot->ctx, -ENOMEM, "boot: no memory for %u MSRs",
				       set.capacity);
	if (err == 0)
		err = impost_x86_setup_msrs(set.msr, BOOT_MSRS, &set.count);
	if (err == 0)
		err = add_template(boot, named, &set);
	if (err == 0)
		err = add_mtrrs(boot, &set);
	for (uint32_t i = 0; err == 0 && i < boot->count; i++) {
		err = set_msrs(boot, boot->vcpus[i], &set, &list);
		if (err == 0)
			err = check_kept(boot, boot->vcpus[i], &set);
	}
	free(set.msr);
	free(list.indices);
	return err;
}
