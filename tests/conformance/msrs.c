/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs one by one: at legal edges, in the guest's own eyes, and with values that hardware refuses.
 */
#include "section.h"

struct msr_case {
	uint32_t index;
	uint64_t values[4]; /* legal ones */
	uint64_t bad;	    /* one that is refused; 0: none is on every processor */
	bool guest_writes;
};

static uint64_t get_msr(struct box *box, uint32_t index)
{
	struct impost_x86_msr msr = {.index = index, .value = 0xbad};
	uint32_t done = 0;

	OK(box, impost_vcpu_get_msrs(box->vcpu, &msr, 1, &done));
	cr_assert_eq(done, 1u);
	return msr.value;
}

static int set_msr(struct box *box, uint32_t index, uint64_t value, uint32_t *ret_done)
{
	const struct impost_x86_msr msr = {.index = index, .value = value};

	return impost_vcpu_set_msrs(box->vcpu, &msr, 1, ret_done);
}

static bool is_listed(struct box *box, uint32_t index)
{
	uint32_t indices[1024], count;

	OK(box, impost_vm_msr_list(box->vm, indices, 1024, &count));
	for (uint32_t i = 0; i < count; i++)
		if (indices[i] == index)
			return true;
	return false;
}

static void refused(struct box *box, const struct msr_case *c)
{
	const uint64_t before = get_msr(box, c->index);
	uint32_t done = 77;
	char word[16];
	int r = set_msr(box, c->index, c->bad, &done);

	cr_assert_eq(r, -IMPOST_ESTATE, "0x%llx: %s", (unsigned long long)c->bad,
		     r ? impost_error_name(r) : "taken");
	cr_assert_eq(done, 0u);
	snprintf(word, sizeof(word), "%x", c->index);
	cr_assert_not_null(strcasestr(impost_error(box->ctx), word), "names no 0x%s: %s", word,
			   impost_error(box->ctx));
	cr_assert_eq(get_msr(box, c->index), before, "refused, and yet it changed");
}

/* rdmsr; out 0x80, eax; mov eax, edi; mov edx, esi; wrmsr; out 0x80, al */
static void guest(struct box *box, const struct msr_case *c)
{
	struct impost_x86_regs regs = regs_of(box, box->vcpu);
	struct impost_exit exit;

	OK(box, set_msr(box, c->index, c->values[1], NULL));
	regs.rcx = c->index;
	regs.rdi = (uint32_t)c->values[2];
	regs.rsi = c->values[2] >> 32;
	set_regs(box, box->vcpu, &regs);
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
	regs = regs_of(box, box->vcpu);
	cr_assert_eq(regs.rdx << 32 | regs.rax, c->values[1], "the guest reads 0x%llx",
		     (unsigned long long)(regs.rdx << 32 | regs.rax));
	if (!c->guest_writes)
		return;
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
	cr_assert_eq(get_msr(box, c->index), c->values[2], "what the guest has written");
}

static void test_msr(const struct msr_case *c)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu,
		   GUEST(0x0f, 0x32, 0xe7, 0x80, 0x89, 0xf8, 0x89, 0xf2, 0x0f, 0x30, 0xe6, 0x80));
	if (!is_listed(&box, c->index)) {
		box_close(&box);
		cr_skip_test("%s: this MSR is none of its guests' state", backend_name());
	}
	for (size_t i = 0; i < sizeof(c->values) / sizeof(c->values[0]); i++) {
		uint32_t done = 0;

		OK(&box, set_msr(&box, c->index, c->values[i], &done));
		cr_assert_eq(done, 1u);
		cr_assert_eq(get_msr(&box, c->index), c->values[i], "0x%llx, not 0x%llx",
			     (unsigned long long)get_msr(&box, c->index),
			     (unsigned long long)c->values[i]);
	}
	if (c->bad)
		refused(&box, c);
	if (impost_caps_has(box.caps, IMPOST_CAP_EXECUTES))
		guest(&box, c);
	box_close(&box);
}

#define MSR(name, number, bad_value, writes, ...)                          \
	Test(msrs, name)                                                   \
	{                                                                  \
		static const struct msr_case c = {.index = number,         \
						  .values = {__VA_ARGS__}, \
						  .bad = bad_value,        \
						  .guest_writes = writes}; \
                                                                           \
		test_msr(&c);                                              \
	}

#define HIGHEST_LOW UINT64_C(0x00007fffffffffff)
#define LOWEST_HIGH UINT64_C(0xffff800000000000)
#define NO_ADDRESS  UINT64_C(0x8000000000000000)

/* On AMD SYSENTER's have 32 bits, and no canonical form (APM vol. 2, 6.1.2). */
MSR(sysenter_cs, IMPOST_X86_MSR_IA32_SYSENTER_CS, 0, true, 0, 8, 0xfff8, 0x10)
MSR(sysenter_esp, IMPOST_X86_MSR_IA32_SYSENTER_ESP, 0, true, 0, 0x7fffffff, 0x1000, 1)
MSR(sysenter_eip, IMPOST_X86_MSR_IA32_SYSENTER_EIP, 0, true, 0, 0x7fffffff, 0x2000, 1)
MSR(star, IMPOST_X86_MSR_IA32_STAR, 0, true, 0, UINT64_C(0x0023001000000000),
    UINT64_C(0x5b004800deadbeef), 1)
MSR(lstar, IMPOST_X86_MSR_IA32_LSTAR, NO_ADDRESS, true, 0, HIGHEST_LOW, LOWEST_HIGH, UINT64_MAX)
MSR(cstar, IMPOST_X86_MSR_IA32_CSTAR, NO_ADDRESS, true, 0, HIGHEST_LOW, LOWEST_HIGH, UINT64_MAX)
MSR(fmask, IMPOST_X86_MSR_IA32_FMASK, 0, true, 0, 0x47700, 0x300, 1)
MSR(fs_base, IMPOST_X86_MSR_IA32_FS_BASE, NO_ADDRESS, true, 0, HIGHEST_LOW, LOWEST_HIGH, 0x1234)
MSR(gs_base, IMPOST_X86_MSR_IA32_GS_BASE, NO_ADDRESS, true, 0, HIGHEST_LOW, LOWEST_HIGH, 0x1234)
MSR(kernel_gs_base, IMPOST_X86_MSR_IA32_KERNEL_GS_BASE, NO_ADDRESS, true, 0, HIGHEST_LOW,
    LOWEST_HIGH, 0x1234)
MSR(tsc_aux, IMPOST_X86_MSR_IA32_TSC_AUX, 0, true, 0, 1, 0xfff, 0x7fffffff)
/* SDM vol. 3, 12.12.2: eight memory types, of which 2 is none. */
MSR(pat, IMPOST_X86_MSR_IA32_PAT, UINT64_C(0x0202020202020202), true, UINT64_C(0x0007040600070406),
    0, UINT64_C(0x0706050401000706), UINT64_C(0x0606060606060606))
MSR(mtrr_def_type, IMPOST_X86_MSR_IA32_MTRR_DEF_TYPE, 0x1000, true, 0, 0xc06, 0x806, 0xc00)
MSR(mtrr_fix64k_00000, IMPOST_X86_MSR_IA32_MTRR_FIX64K_00000, 2, true, 0,
    UINT64_C(0x0606060606060606), UINT64_C(0x0001040506000606), 5)
MSR(mtrr_fix16k_80000, IMPOST_X86_MSR_IA32_MTRR_FIX16K_80000, 3, true, 0,
    UINT64_C(0x0606060606060606), 4, 1)
MSR(mtrr_fix4k_f8000, IMPOST_X86_MSR_IA32_MTRR_FIX4K_F8000, 7, true, 0,
    UINT64_C(0x0505050505050505), 6, 1)
MSR(mtrr_physbase0, IMPOST_X86_MSR_IA32_MTRR_PHYSBASE0, 2, true, 0, 0x80000006, 0xfffff000, 1)
MSR(mtrr_physmask0, IMPOST_X86_MSR_IA32_MTRR_PHYSMASK0, 1, true, 0, 0x80000800, 0xfff00800, 0x800)
MSR(mtrr_physbase7, IMPOST_X86_MSR_IA32_MTRR_PHYSBASE7, 7, true, 0, 0x80000005, 0x1000, 4)
MSR(mtrr_physmask7, IMPOST_X86_MSR_IA32_MTRR_PHYSMASK7, 0x400, true, 0, 0x40000800, 0xfff00000,
    0x1000)
MSR(tsc_deadline, IMPOST_X86_MSR_IA32_TSC_DEADLINE, 0, false, 0, 0, 0, 0)
MSR(mcg_status, IMPOST_X86_MSR_IA32_MCG_STATUS, 0, false, 0, 1, 5, 4)

/* SCE and NXE come and go in EFER; LMA stays what it is. */
Test(msrs, efer)
{
	uint32_t done;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	if (!is_listed(&box, IMPOST_X86_MSR_IA32_EFER)) {
		box_close(&box);
		cr_skip_test("%s: this MSR is none of its guests' state", backend_name());
	}
	for (uint64_t low = 0; low < 2; low++) {
		const uint64_t value = 0x500 | low | (1 - low) << 11;
		struct impost_x86_sregs sregs = {.size = 0};

		OK(&box, set_msr(&box, IMPOST_X86_MSR_IA32_EFER, value, &done));
		cr_assert_eq(get_msr(&box, IMPOST_X86_MSR_IA32_EFER), value);
		OK(&box, impost_vcpu_get_sregs(box.vcpu, &sregs));
		cr_assert_eq(sregs.efer, value, "the section says 0x%llx",
			     (unsigned long long)sregs.efer);
	}
	REFUSED(&box, IMPOST_ESTATE, set_msr(&box, IMPOST_X86_MSR_IA32_EFER, 0x502, &done));
	cr_assert_eq(get_msr(&box, IMPOST_X86_MSR_IA32_EFER), 0xd01u - 0x800u);
	box_close(&box);
}

/* FS_BASE and the FS segment's base are one register; GS likewise. */
Test(msrs, bases_are_those_of_the_segments)
{
	static union section s;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	OK(&box, set_msr(&box, IMPOST_X86_MSR_IA32_FS_BASE, 0x1122334455, NULL));
	OK(&box, set_msr(&box, IMPOST_X86_MSR_IA32_GS_BASE, 0x5544332211, NULL));
	section_get(&box, IMPOST_SECTION_SREGS, &s);
	cr_assert_eq(s.sregs.fs.base, UINT64_C(0x1122334455));
	cr_assert_eq(s.sregs.gs.base, UINT64_C(0x5544332211));
	s.sregs.fs.base = 0x42;
	s.sregs.gs.base = 0x43;
	section_set(&box, IMPOST_SECTION_SREGS, &s);
	cr_assert_eq(get_msr(&box, IMPOST_X86_MSR_IA32_FS_BASE), 0x42u);
	cr_assert_eq(get_msr(&box, IMPOST_X86_MSR_IA32_GS_BASE), 0x43u);
	box_close(&box);
}

/* What is not known is refused, to read and to write, by number. */
Test(msrs, unknown_ones_are_refused)
{
	struct impost_x86_msr msr = {.index = 0x0badbad0, .value = 0x77};
	uint32_t done = 9;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	REFUSED(&box, ENOENT, impost_vcpu_get_msrs(box.vcpu, &msr, 1, &done));
	cr_assert_eq(done, 0u);
	cr_assert_eq(msr.value, 0x77u, "a refused get has written");
	cr_assert_not_null(strcasestr(impost_error(box.ctx), "badbad0"), "%s",
			   impost_error(box.ctx));
	done = 9;
	REFUSED(&box, ENOENT, set_msr(&box, 0x0badbad0, 0, &done));
	cr_assert_eq(done, 0u);
	cr_assert_not_null(strcasestr(impost_error(box.ctx), "badbad0"), "%s",
			   impost_error(box.ctx));
	box_close(&box);
}
