/* SPDX-License-Identifier: Apache-2.0 */
/* AMX in what KVM supports: found, and taken out whole. */
#include "amx.h"

#include <criterion/criterion.h>
#include <string.h>

enum {
	FEATURES,
	FEATURES_1,
	XSAVE,
	XSAVE_1,
	AVX,
	SUPERVISOR,
	TILECFG,
	TILEDATA,
	TILES,
	TMUL,
	OTHER,
	ENTRIES
};

/* A CPU with AVX, CET and AMX, as the kernel tells of it. */
static void make(struct kvm_cpuid_entry2 entries[ENTRIES])
{
	const struct kvm_cpuid_entry2 made[ENTRIES] = {
		[FEATURES] = {.function = 7, .ebx = 0x20, .edx = 0x03c00010},
		[FEATURES_1] = {.function = 7, .index = 1, .eax = 0x00200010, .edx = 0x110},
		[XSAVE] = {.function = 0xd, .eax = 0x60007, .ebx = 576, .ecx = 11008},
		[XSAVE_1] = {.function = 0xd, .index = 1, .eax = 15, .ebx = 11008, .ecx = 0x1800},
		[AVX] = {.function = 0xd, .index = 2, .eax = 256, .ebx = 576},
		[SUPERVISOR] = {.function = 0xd, .index = 11, .eax = 4096, .ecx = 1},
		[TILECFG] = {.function = 0xd, .index = 17, .eax = 64, .ebx = 2752},
		[TILEDATA] = {.function = 0xd, .index = 18, .eax = 8192, .ebx = 2816, .ecx = 6},
		[TILES] = {.function = 0x1d, .eax = 1},
		[TMUL] = {.function = 0x1e, .ebx = 0x4010},
		[OTHER] = {.function = 0x1f, .index = 18, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4},
	};

	memcpy(entries, made, sizeof(made));
}

Test(kvm_amx, is_granted_if_xcr0_can_have_both_components)
{
	struct kvm_cpuid_entry2 entries[ENTRIES];

	make(entries);
	cr_assert(kvm_amx_granted(entries, ENTRIES));
	cr_assert_not(kvm_amx_granted(entries, XSAVE), "no leaf 0xD at all");
	entries[XSAVE].eax = 0x20007;
	cr_assert_not(kvm_amx_granted(entries, ENTRIES));
}

Test(kvm_amx, is_taken_out_whole_and_nothing_else)
{
	struct kvm_cpuid_entry2 entries[ENTRIES], want[ENTRIES];

	make(entries);
	make(want);
	want[FEATURES].edx = 0x00800010; /* AVX512_FP16 is none of it */
	want[FEATURES_1].eax = want[FEATURES_1].edx = 0x10;
	want[XSAVE].eax = 7;
	want[XSAVE].ecx = 832; /* legacy region, header, AVX: the supervisor's is not in it */
	want[TILECFG].eax = want[TILECFG].ebx = 0;
	want[TILEDATA].eax = want[TILEDATA].ebx = want[TILEDATA].ecx = 0;
	want[TILES].eax = want[TMUL].ebx = 0;
	kvm_amx_hide(entries, ENTRIES);
	for (size_t i = 0; i < ENTRIES; i++)
		cr_assert_arr_eq(&entries[i], &want[i], sizeof(want[i]), "entry %zu", i);
	kvm_amx_hide(entries, ENTRIES);
	cr_assert_arr_eq(entries, want, sizeof(want), "twice is as good as once");
}

/* The kernel announces the instructions also to a process that did not ask for their state. */
Test(kvm_amx, the_instructions_go_where_the_state_was_refused)
{
	struct kvm_cpuid_entry2 entries[ENTRIES];

	make(entries);
	entries[XSAVE].eax = 7;
	entries[XSAVE].ecx = 900; /* the kernel's word stays */
	kvm_amx_hide(entries, ENTRIES);
	cr_assert_eq(entries[FEATURES].edx, 0x00800010u);
	cr_assert_eq(entries[XSAVE].ecx, 900u);
}
