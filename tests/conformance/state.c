/* SPDX-License-Identifier: Apache-2.0 */
/* Every section of state: what is set is what is got, what hardware would refuse is refused and
 * changes nothing. */
#include "section.h"

#define ROUNDS 50

Test(state, general_registers)
{
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t *reg = &s.regs.rax;

		section_get(&box, IMPOST_SECTION_REGS, &s);
		for (size_t k = 0; k < 16; k++)
			reg[k] = random64();
		s.regs.rip = canonical(random64());
		/* CF to OF, but not TF, IOPL 0. */
		s.regs.rflags = 2 | (random64() & 0xcd5);
		section_set(&box, IMPOST_SECTION_REGS, &s);
		section_get(&box, IMPOST_SECTION_REGS, &t);
		cr_assert_arr_eq(&t, &s, sizeof(s.regs));
	}
	s.regs.rflags = 0;
	section_refuse(&box, IMPOST_SECTION_REGS, &s, IMPOST_ESTATE, "RFLAGS bit 1 clear");
	s.regs.rflags = 0x8002;
	section_refuse(&box, IMPOST_SECTION_REGS, &s, IMPOST_ESTATE, "RFLAGS bit 15 set");
	box_close(&box);
}

Test(state, a_shorter_section_reads_as_zero_behind)
{
	static union section s;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	section_get(&box, IMPOST_SECTION_DEBUGREGS, &s);
	s.debugregs.dr[0] = 0x1234;
	s.debugregs.dr[3] = 0x5678;
	section_set(&box, IMPOST_SECTION_DEBUGREGS, &s);
	s.size = offsetof(struct impost_x86_debugregs, dr) + 8;
	section_set(&box, IMPOST_SECTION_DEBUGREGS, &s);
	section_get(&box, IMPOST_SECTION_DEBUGREGS, &s);
	cr_assert_eq(s.debugregs.dr[0], 0x1234u);
	cr_assert_eq(s.debugregs.dr[3], 0u);
	box_close(&box);
}

Test(state, lengths_are_checked)
{
	struct impost_x86_regs regs = {.size = 0};
	uint32_t size = 0;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	REFUSED(&box, ENOSPC, impost_vcpu_get(box.vcpu, IMPOST_SECTION_REGS, &regs, 16, &size));
	cr_assert_eq(size, sizeof(regs));
	cr_assert_eq(regs.size, 0u);
	OK(&box, impost_vcpu_get_regs(box.vcpu, &regs));
	REFUSED(&box, EINVAL, impost_vcpu_set(box.vcpu, IMPOST_SECTION_REGS, &regs, 3));
	REFUSED(&box, EINVAL,
		impost_vcpu_set(box.vcpu, IMPOST_SECTION_REGS, &regs, sizeof(regs) - 8));
	cr_assert_lt(impost_vcpu_get(box.vcpu, 99, &regs, sizeof(regs), &size), 0);
	cr_assert_lt(impost_vcpu_get(box.vcpu, 0, &regs, sizeof(regs), &size), 0);
	box_close(&box);
}

Test(state, segments_and_control_registers)
{
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(&box, box.vcpu, GUEST(0xf4));
	section_get(&box, IMPOST_SECTION_SREGS, &s);
	for (int i = 0; i < ROUNDS; i++) {
		struct impost_x86_segment *data[] = {&s.sregs.ds, &s.sregs.es, &s.sregs.fs,
						     &s.sregs.gs};

		for (size_t k = 0; k < 4; k++) {
			data[k]->selector = (uint16_t)(random64() & 0xfff8);
			data[k]->base = k < 2 ? random64() & 0xffffffff : canonical(random64());
			data[k]->limit = (uint32_t)random64() | 0xfff;
			/* Read and write, accessed, S, P, G, AVL or not. */
			data[k]->access = 0xc093u | (random64() & 1 ? IMPOST_X86_AR_AVL : 0);
		}
		s.sregs.gdtr.base = canonical(random64());
		s.sregs.gdtr.limit = (uint16_t)random64();
		s.sregs.idtr.base = canonical(random64());
		s.sregs.idtr.limit = (uint16_t)random64();
		s.sregs.tr.base = canonical(random64());
		s.sregs.tr.limit = 0x67 + (uint32_t)(random64() & 0x7f);
		s.sregs.cr2 = canonical(random64());
		s.sregs.cr3 = random64() & 0xfffff000;
		s.sregs.cr8 = random64() & 15;
		section_set(&box, IMPOST_SECTION_SREGS, &s);
		section_get(&box, IMPOST_SECTION_SREGS, &t);
		cr_assert_arr_eq(&t, &s, sizeof(s.sregs));
	}
	box_close(&box);
}

Test(state, debug_registers)
{
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_DEBUGREGS);
	for (int i = 0; i < ROUNDS; i++) {
		section_get(&box, IMPOST_SECTION_DEBUGREGS, &s);
		for (int k = 0; k < 4; k++)
			s.debugregs.dr[k] = canonical(random64());
		s.debugregs.dr6 = 0xffff0ff0 | (random64() & 0xe00f);
		s.debugregs.dr7 = 0x400 | (random64() & 0x2ff);
		section_set(&box, IMPOST_SECTION_DEBUGREGS, &s);
		section_get(&box, IMPOST_SECTION_DEBUGREGS, &t);
		cr_assert_arr_eq(&t, &s, sizeof(s.debugregs));
	}
	s.debugregs.dr7 |= UINT64_C(1) << 32;
	section_refuse(&box, IMPOST_SECTION_DEBUGREGS, &s, IMPOST_ESTATE, "DR7 bit 32");
	box_close(&box);
}

/* The components of the area that are compared: x87 without reserved bytes, XMM, and all from CPUID
 * leaf 0xD. */
static void fill_xsave(struct impost_x86_xsave *x)
{
	const uint64_t bv = x->xcr0 ? x->xcr0 : 3;
	const uint16_t fcw = 0x37f;
	const uint32_t mxcsr = 0x1f80;

	for (uint32_t reg = 0; reg < 8; reg++)
		for (uint32_t i = 0; i < 10; i++)
			x->area[32 + reg * 16 + i] = (uint8_t)random64();
	for (uint32_t i = 160; i < 416; i++)
		x->area[i] = (uint8_t)random64();
	memcpy(x->area, &fcw, sizeof(fcw));
	x->area[4] = 0xff;
	memcpy(x->area + 24, &mxcsr, sizeof(mxcsr));
	memcpy(x->area + 512, &bv, sizeof(bv));
	for (uint32_t c = 0; c < x->ncomponents; c++)
		if (x->component[c].id == 2)
			for (uint32_t i = 0; i < x->component[c].bytes; i++)
				x->area[x->component[c].offset + i] = (uint8_t)random64();
}

static void compare_xsave(const struct impost_x86_xsave *a, const struct impost_x86_xsave *b)
{
	cr_assert_eq(a->xcr0, b->xcr0);
	cr_assert_eq(a->area_size, b->area_size);
	cr_assert_arr_eq(a->area, b->area, 6);
	for (uint32_t reg = 0; reg < 8; reg++)
		cr_assert_arr_eq(a->area + 32 + reg * 16, b->area + 32 + reg * 16, 10);
	cr_assert_arr_eq(a->area + 24, b->area + 24, 4);
	cr_assert_arr_eq(a->area + 160, b->area + 160, 256);
	cr_assert_arr_eq(a->area + 512, b->area + 512, 8);
	for (uint32_t c = 0; c < a->ncomponents; c++)
		if (a->component[c].id == 2)
			cr_assert_arr_eq(a->area + a->component[c].offset,
					 b->area + b->component[c].offset, a->component[c].bytes);
}

/* XCR0 with all of x87, SSE and AVX that the vCPU may have. */
static uint64_t enable_avx(struct box *box, struct impost_vcpu *vcpu)
{
	struct impost_x86_cpuid entries[512];
	uint32_t count;
	uint64_t allowed = 3;

	OK(box, impost_vcpu_get_cpuid(vcpu, entries, 512, &count));
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].leaf == 0xd && entries[i].subleaf == 0)
			allowed |= entries[i].eax & 4;
	return allowed;
}

Test(state, extended_state)
{
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_XSAVE);
	set_supported_cpuid(&box, box.vcpu);
	section_get(&box, IMPOST_SECTION_XSAVE, &s);
	cr_assert_neq(s.xsave.xcr0, 0u);
	s.xsave.xcr0 = enable_avx(&box, box.vcpu);
	section_set(&box, IMPOST_SECTION_XSAVE, &s);
	for (int i = 0; i < ROUNDS; i++) {
		section_get(&box, IMPOST_SECTION_XSAVE, &s);
		fill_xsave(&s.xsave);
		section_set(&box, IMPOST_SECTION_XSAVE, &s);
		section_get(&box, IMPOST_SECTION_XSAVE, &t);
		compare_xsave(&t.xsave, &s.xsave);
	}
	box_close(&box);
}

Test(state, extended_state_finds_its_components_wherever_they_lie)
{
	static union section s, t, moved;
	struct impost_x86_xcomponent *c = &moved.xsave.component[0];
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_XSAVE);
	set_supported_cpuid(&box, box.vcpu);
	section_get(&box, IMPOST_SECTION_XSAVE, &s);
	s.xsave.xcr0 = enable_avx(&box, box.vcpu);
	section_set(&box, IMPOST_SECTION_XSAVE, &s);
	section_get(&box, IMPOST_SECTION_XSAVE, &s);
	if (!s.xsave.ncomponents) {
		box_close(&box);
		cr_skip_test("the vCPU has no AVX");
	}
	fill_xsave(&s.xsave);
	moved = s;
	moved.xsave.area_size += 128;
	moved.size += 128;
	c->offset += 128;
	memset(moved.xsave.area + s.xsave.component[0].offset, 0, 128);
	memcpy(moved.xsave.area + c->offset, s.xsave.area + s.xsave.component[0].offset, c->bytes);
	section_set(&box, IMPOST_SECTION_XSAVE, &moved);
	section_get(&box, IMPOST_SECTION_XSAVE, &t);
	compare_xsave(&t.xsave, &s.xsave);
	box_close(&box);
}

#define XSAVE_CASE(text, err, ...)                                         \
	do {                                                               \
		section_get(&box, IMPOST_SECTION_XSAVE, &s);               \
		__VA_ARGS__;                                               \
		section_refuse(&box, IMPOST_SECTION_XSAVE, &s, err, text); \
	} while (0)

Test(state, extended_state_that_hardware_refuses)
{
	static union section s;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_XSAVE);
	set_supported_cpuid(&box, box.vcpu);
	XSAVE_CASE("MXCSR bit 31", IMPOST_ESTATE, s.xsave.area[27] = 0x80);
	XSAVE_CASE("XCR0 without x87", IMPOST_ESTATE, s.xsave.xcr0 = 2);
	XSAVE_CASE("XCR0 with AVX, without SSE", IMPOST_ESTATE, s.xsave.xcr0 = 5);
	XSAVE_CASE("XCR0 bit 62", IMPOST_ESTATE, s.xsave.xcr0 |= UINT64_C(1) << 62);
	XSAVE_CASE("XSTATE_BV bit 62", IMPOST_ESTATE, s.xsave.area[519] = 0x40);
	XSAVE_CASE("compacted", IMPOST_ESTATE, s.xsave.area[527] = 0x80);
	XSAVE_CASE("area of 8 bytes", EINVAL, s.xsave.area_size = 8);
	XSAVE_CASE("area beyond the section", EINVAL, s.xsave.area_size += 64);
	XSAVE_CASE("33 components", EINVAL, s.xsave.ncomponents = 33);
	XSAVE_CASE("component beyond the area", EINVAL, s.xsave.ncomponents = 1;
		   s.xsave.component[0] = (struct impost_x86_xcomponent){
			   .id = 2, .offset = 0xffffff00, .bytes = 0x200});
	box_close(&box);
}

/* MSRs that take any canonical address; on AMD the SYSENTER ones have 32 bits (APM vol. 2, 6.1.2).
 */
static const struct {
	uint32_t index, bits;
} free_msrs[] = {
	{0x175, 31},	  /* SYSENTER_ESP */
	{0x176, 31},	  /* SYSENTER_EIP */
	{0xc0000082, 48}, /* LSTAR */
	{0xc0000083, 48}, /* CSTAR */
	{0xc0000102, 48}, /* KERNEL_GS_BASE */
	{0xc0000081, 48}, /* STAR */
};
#define FREE_MSRS (sizeof(free_msrs) / sizeof(free_msrs[0]))

Test(state, msrs)
{
	struct impost_x86_msr set_to[FREE_MSRS], got[FREE_MSRS];
	uint32_t done;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	set_supported_cpuid(&box, box.vcpu);
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < FREE_MSRS; i++) {
			uint64_t value = random64() & ((UINT64_C(1) << free_msrs[i].bits) - 1);

			set_to[i] = (struct impost_x86_msr){.index = free_msrs[i].index,
							    .value = canonical(value)};
			got[i] = (struct impost_x86_msr){.index = free_msrs[i].index};
		}
		OK(&box, impost_vcpu_set_msrs(box.vcpu, set_to, FREE_MSRS, &done));
		cr_assert_eq(done, FREE_MSRS);
		OK(&box, impost_vcpu_get_msrs(box.vcpu, got, FREE_MSRS, NULL));
		cr_assert_arr_eq(got, set_to, sizeof(got));
	}
	box_close(&box);
}

Test(state, msrs_stop_at_the_first_that_is_refused)
{
	struct impost_x86_msr msrs[] = {
		{.index = 0xc0000082, .value = 0x1000},
		{.index = 0xdead0001, .value = 1},
		{.index = 0xc0000083, .value = 0x2000},
	};
	uint32_t done = 77;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	set_supported_cpuid(&box, box.vcpu);
	cr_assert_lt(impost_vcpu_set_msrs(box.vcpu, msrs, 3, &done), 0);
	cr_assert_eq(done, 1u);
	cr_assert_not_null(strstr(impost_error(box.ctx), "dead0001"), "%s", impost_error(box.ctx));
	cr_assert_lt(impost_vcpu_get_msrs(box.vcpu, msrs + 1, 2, &done), 0);
	cr_assert_eq(done, 0u);
	msrs[2].value = 77;
	OK(&box, impost_vcpu_get_msrs(box.vcpu, msrs + 2, 1, &done));
	cr_assert_neq(msrs[2].value, 0x2000u, "the one behind was set");
	msrs[0].value = UINT64_C(0x8000000000000000);
	REFUSED(&box, IMPOST_ESTATE, impost_vcpu_set_msrs(box.vcpu, msrs, 1, &done));
	box_close(&box);
}

Test(state, every_msr_in_the_list_can_be_read)
{
	uint32_t indices[1024], count, done;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	set_supported_cpuid(&box, box.vcpu);
	REFUSED(&box, ENOSPC, impost_vm_msr_list(box.vm, indices, 1, &count));
	cr_assert_gt(count, 10u);
	OK(&box, impost_vm_msr_list(box.vm, indices, 1024, &count));
	for (uint32_t i = 0; i < count; i++) {
		struct impost_x86_msr msr = {.index = indices[i]};

		OK(&box, impost_vcpu_get_msrs(box.vcpu, &msr, 1, &done));
		for (uint32_t k = 0; k < i; k++)
			cr_assert_neq(indices[k], indices[i], "listed twice");
	}
	box_close(&box);
}

/* Whether an MSR counts on while nobody writes to it. */
static bool counts_time(uint32_t index)
{
	return index == IMPOST_X86_MSR_IA32_TIME_STAMP_COUNTER ||
	       index == IMPOST_X86_MSR_HV_VP_RUNTIME || index == IMPOST_X86_MSR_HV_TIME_REF_COUNT;
}

/* What is saved can be loaded: each value that was read, but for the time, is taken again. */
Test(state, every_msr_in_the_list_can_be_written_back)
{
	struct impost_x86_msr msrs[1024], again[1024];
	uint32_t indices[1024], count, listed, done;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	set_supported_cpuid(&box, box.vcpu);
	OK(&box, impost_vm_msr_list(box.vm, indices, 1024, &listed));
	count = 0;
	for (uint32_t i = 0; i < listed; i++)
		if (!counts_time(indices[i]))
			msrs[count++] = (struct impost_x86_msr){.index = indices[i]};
	OK(&box, impost_vcpu_get_msrs(box.vcpu, msrs, count, &done));
	cr_assert_eq(done, count);
	OK(&box, impost_vcpu_set_msrs(box.vcpu, msrs, count, &done));
	cr_assert_eq(done, count);
	memcpy(again, msrs, sizeof(again));
	OK(&box, impost_vcpu_get_msrs(box.vcpu, again, count, &done));
	for (uint32_t i = 0; i < count; i++)
		cr_assert_eq(again[i].value, msrs[i].value, "MSR 0x%x", msrs[i].index);
	box_close(&box);
}

/* One that is refused in the middle leaves those behind it to the next call. */
Test(state, msrs_go_on_behind_one_that_is_refused)
{
	struct impost_x86_msr msrs[] = {
		{.index = IMPOST_X86_MSR_IA32_SYSENTER_CS, .value = 0x11},
		{.index = 0x0dead000, .value = 1},
		{.index = IMPOST_X86_MSR_IA32_SYSENTER_ESP, .value = 0x22},
		{.index = IMPOST_X86_MSR_IA32_SYSENTER_EIP, .value = 0x33},
	};
	struct impost_x86_msr got[] = {msrs[0], msrs[2], msrs[3]};
	uint32_t done;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	REFUSED(&box, ENOENT, impost_vcpu_set_msrs(box.vcpu, msrs, 4, &done));
	cr_assert_eq(done, 1u);
	OK(&box, impost_vcpu_set_msrs(box.vcpu, msrs + 2, 2, &done));
	cr_assert_eq(done, 2u);
	for (uint32_t i = 0; i < 3; i++)
		got[i].value = 0;
	OK(&box, impost_vcpu_get_msrs(box.vcpu, got, 3, &done));
	for (uint32_t i = 0; i < 3; i++)
		cr_assert_eq(got[i].value, 0x11u * (i + 1));
	box_close(&box);
}

Test(state, cpuid)
{
	static struct impost_x86_cpuid offered[512], got[512];
	uint32_t noffered, ngot = 0, same = 0;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_CPUID_PER_VCPU);
	REFUSED(&box, ENOSPC, impost_vm_cpuid_supported(box.vm, offered, 1, &noffered));
	cr_assert_gt(noffered, 1u);
	OK(&box, impost_vm_cpuid_supported(box.vm, offered, 512, &noffered));
	OK(&box, impost_vcpu_set_cpuid(box.vcpu, offered, noffered));
	REFUSED(&box, ENOSPC, impost_vcpu_get_cpuid(box.vcpu, got, 1, &ngot));
	cr_assert_eq(ngot, noffered);
	OK(&box, impost_vcpu_get_cpuid(box.vcpu, got, 512, &ngot));
	cr_assert_eq(ngot, noffered);
	for (uint32_t i = 0; i < ngot; i++)
		same += memcmp(&got[i], &offered[i], sizeof(got[i])) == 0;
	/* A few depend on the vCPU's state: APIC id, OSXSAVE, XSAVE sizes. */
	cr_assert_geq(same + 8, ngot, "%u of %u entries came back", same, ngot);
	if (!impost_caps_has(box.caps, IMPOST_CAP_EXECUTES)) {
		box_close(&box);
		return;
	}
	enter_real(&box, box.vcpu, GUEST(0xe6, 0x80));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	REFUSED(&box, EBUSY, impost_vcpu_set_cpuid(box.vcpu, offered, noffered));
	box_close(&box);
}

/* What the guest sees is what was set. */
Test(state, the_guest_sees_its_cpuid)
{
	static struct impost_x86_cpuid entries[512];
	struct impost_x86_regs regs;
	struct impost_exit exit;
	uint32_t count;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_CPUID_PER_VCPU);
	enter_long(&box, box.vcpu, GUEST(0x0f, 0xa2, 0xe7, 0x80));
	OK(&box, impost_vm_cpuid_supported(box.vm, entries, 511, &count));
	entries[count++] = (struct impost_x86_cpuid){
		.leaf = 0x40000100, .eax = 1, .ebx = 0x706d6921, .ecx = 3, .edx = 4};
	OK(&box, impost_vcpu_set_cpuid(box.vcpu, entries, count));
	regs = regs_of(&box, box.vcpu);
	regs.rax = 0x40000100;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	finish(&box, box.vcpu);
	regs = regs_of(&box, box.vcpu);
	cr_assert_eq(regs.rax, 1u);
	cr_assert_eq(regs.rbx, 0x706d6921u);
	cr_assert_eq(regs.rcx, 3u);
	cr_assert_eq(regs.rdx, 4u);
	box_close(&box);
}

static bool has_svm(struct box *box)
{
	static struct impost_x86_cpuid entries[512];
	uint32_t count;

	OK(box, impost_vm_cpuid_supported(box->vm, entries, 512, &count));
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].leaf == 0x80000001)
			return entries[i].ecx >> 2 & 1;
	return false;
}

/* A guest that is no hypervisor has none; one that has cleared SVM's global interrupt flag has (APM
 * vol. 2, 15.17). */
Test(state, nested_state, .timeout = 60)
{
	static union section s, t;
	struct impost_exit exit;
	uint32_t size;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_NESTED);
	/* clgi; out 0x80, al; stgi; out 0x80, al */
	enter_long(&box, box.vcpu,
		   GUEST(0x0f, 0x01, 0xdd, 0xe6, 0x80, 0x0f, 0x01, 0xdc, 0xe6, 0x80));
	REFUSED(&box, ENOENT,
		impost_vcpu_get(box.vcpu, IMPOST_SECTION_VCPU_OPAQUE, &s, sizeof(s), &size));
	if (!has_svm(&box)) {
		box_close(&box);
		cr_skip_test("the guest's processor has no SVM");
	}
	section_get(&box, IMPOST_SECTION_SREGS, &s);
	s.sregs.efer |= 1u << 12;
	section_set(&box, IMPOST_SECTION_SREGS, &s);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	finish(&box, box.vcpu);
	section_get(&box, IMPOST_SECTION_VCPU_OPAQUE, &s);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	finish(&box, box.vcpu);
	REFUSED(&box, ENOENT,
		impost_vcpu_get(box.vcpu, IMPOST_SECTION_VCPU_OPAQUE, &t, sizeof(t), &size));
	/* A second item behind the first is not passed over. */
	t = s;
	memcpy((uint8_t *)&t + s.size, &s, s.size);
	REFUSED(&box, EINVAL,
		impost_vcpu_set(box.vcpu, IMPOST_SECTION_VCPU_OPAQUE, &t, 2 * s.size));
	REFUSED(&box, ENOENT,
		impost_vcpu_get(box.vcpu, IMPOST_SECTION_VCPU_OPAQUE, &t, sizeof(t), &size));
	section_set(&box, IMPOST_SECTION_VCPU_OPAQUE, &s);
	section_get(&box, IMPOST_SECTION_VCPU_OPAQUE, &t);
	cr_assert_arr_eq(&t, &s, s.size);
	box_close(&box);
}

/* --- of the VM --- */

Test(state, interrupt_controllers_of_the_vm)
{
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	for (int i = 0; i < ROUNDS; i++) {
		vm_section_get(&box, IMPOST_SECTION_PIC, &s);
		for (int k = 0; k < 2; k++) {
			s.pic.chip[k].imr = (uint8_t)random64();
			s.pic.chip[k].irq_base = (uint8_t)(random64() & 0xf8);
			s.pic.chip[k].isr = (uint8_t)random64();
			s.pic.chip[k].priority_add = (uint8_t)(random64() & 7);
			s.pic.chip[k].auto_eoi = (uint8_t)(random64() & 1);
		}
		OK(&box, impost_vm_set(box.vm, IMPOST_SECTION_PIC, &s, s.size));
		vm_section_get(&box, IMPOST_SECTION_PIC, &t);
		cr_assert_arr_eq(&t, &s, sizeof(s.pic));
		vm_section_get(&box, IMPOST_SECTION_IOAPIC, &s);
		s.ioapic.id = random64() & 15;
		s.ioapic.ioregsel = random64() & 0x3f;
		/* Masked, edge, fixed: vector and destination may be anything. */
		for (int k = 0; k < IMPOST_X86_IOAPIC_PINS; k++)
			s.ioapic.redirect[k] = (random64() & UINT64_C(0xff000000000000ff)) |
					       0x10000;
		OK(&box, impost_vm_set(box.vm, IMPOST_SECTION_IOAPIC, &s, s.size));
		vm_section_get(&box, IMPOST_SECTION_IOAPIC, &t);
		cr_assert_arr_eq(&t, &s, sizeof(s.ioapic));
	}
	s.ioapic.id = 16;
	REFUSED(&box, IMPOST_ESTATE, impost_vm_set(box.vm, IMPOST_SECTION_IOAPIC, &s, s.size));
	vm_section_get(&box, IMPOST_SECTION_PIC, &s);
	s.pic.chip[1].priority_add = 8;
	REFUSED(&box, IMPOST_ESTATE, impost_vm_set(box.vm, IMPOST_SECTION_PIC, &s, s.size));
	box_close(&box);
}

Test(state, timer_of_the_vm)
{
	const int64_t age = INT64_C(5000000000);
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	vm_section_get(&box, IMPOST_SECTION_PIT, &s);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		s.pit.channel[0].mode = 2;
		s.pit.channel[0].rw_mode = 3;
		s.pit.channel[0].count_load_age_ns = age;
		for (int k = 0; k < 3; k++)
			s.pit.channel[k].count = 1000 + (uint32_t)(random64() % 64000);
		OK(&box, impost_vm_set(box.vm, IMPOST_SECTION_PIT, &s, s.size));
		vm_section_get(&box, IMPOST_SECTION_PIT, &t);
		for (int k = 0; k < 3; k++)
			cr_assert_arr_eq(&t.pit.channel[k], &s.pit.channel[k],
					 offsetof(struct impost_x86_pit_channel,
						  count_load_age_ns));
		cr_assert_geq(t.pit.channel[0].count_load_age_ns, age);
		cr_assert_lt(t.pit.channel[0].count_load_age_ns, age + INT64_C(2000000000));
	}
	s.pit.channel[1].count = 65537;
	REFUSED(&box, IMPOST_ESTATE, impost_vm_set(box.vm, IMPOST_SECTION_PIT, &s, s.size));
	s.pit.channel[1].count = 1;
	s.pit.channel[1].gate = 2;
	REFUSED(&box, IMPOST_ESTATE, impost_vm_set(box.vm, IMPOST_SECTION_PIT, &s, s.size));
	s.pit.channel[1].gate = 1;
	s.pit.flags = 0x80;
	REFUSED(&box, IMPOST_ESTATE, impost_vm_set(box.vm, IMPOST_SECTION_PIT, &s, s.size));
	box_close(&box);
}

Test(state, sections_that_a_vm_without_irqchip_lacks)
{
	static const uint32_t sections[] = {IMPOST_SECTION_PIC, IMPOST_SECTION_IOAPIC,
					    IMPOST_SECTION_PIT};
	static union section s;
	uint32_t size;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
		REFUSED(&box, ENOENT, impost_vm_get(box.vm, sections[i], &s, sizeof(s), &size));
	REFUSED(&box, ENOENT,
		impost_vcpu_get(box.vcpu, IMPOST_SECTION_LAPIC, &s, sizeof(s), &size));
	box_close(&box);
}

/* --- the whole --- */

#define WHOLE_BYTES (64u << 10)

struct whole {
	uint32_t size[2][16]; /* of the vCPU's and the VM's sections; 0: there is none */
	int missing[2][16];   /* why not */
	uint8_t bytes[2][16][WHOLE_BYTES];
};

/* Numbers of sections; TSC and clock go on by themselves. */
static const uint32_t vcpu_numbers[] = {IMPOST_SECTION_REGS,	 IMPOST_SECTION_SREGS,
					IMPOST_SECTION_XSAVE,	 IMPOST_SECTION_DEBUGREGS,
					IMPOST_SECTION_LAPIC,	 IMPOST_SECTION_EVENTS,
					IMPOST_SECTION_RUNSTATE, IMPOST_SECTION_VCPU_OPAQUE};
static const uint32_t vm_numbers[] = {IMPOST_SECTION_PIC, IMPOST_SECTION_IOAPIC,
				      IMPOST_SECTION_VM_OPAQUE};
#define NUMBERS(array) (sizeof(array) / sizeof((array)[0]))

static void may_be_missing(struct box *box, int err)
{
	cr_assert(!err || err == -ENOTSUP || err == -ENOENT, "%s", impost_error(box->ctx));
}

static void get_whole(struct box *box, struct whole *w)
{
	memset(w, 0, sizeof(*w));
	for (size_t i = 0; i < NUMBERS(vcpu_numbers); i++) {
		w->missing[0][i] = impost_vcpu_get(box->vcpu, vcpu_numbers[i], w->bytes[0][i],
						   WHOLE_BYTES, &w->size[0][i]);
		may_be_missing(box, w->missing[0][i]);
	}
	for (size_t i = 0; i < NUMBERS(vm_numbers); i++) {
		w->missing[1][i] = impost_vm_get(box->vm, vm_numbers[i], w->bytes[1][i],
						 WHOLE_BYTES, &w->size[1][i]);
		may_be_missing(box, w->missing[1][i]);
	}
}

static void set_whole(struct box *box, const struct whole *w)
{
	for (size_t i = 0; i < NUMBERS(vcpu_numbers); i++)
		if (!w->missing[0][i])
			OK(box, impost_vcpu_set(box->vcpu, vcpu_numbers[i], w->bytes[0][i],
						w->size[0][i]));
	for (size_t i = 0; i < NUMBERS(vm_numbers); i++)
		if (!w->missing[1][i])
			OK(box,
			   impost_vm_set(box->vm, vm_numbers[i], w->bytes[1][i], w->size[1][i]));
}

static void same_whole(const struct whole *a, const struct whole *b, const char *when)
{
	for (int of = 0; of < 2; of++)
		for (size_t i = 0; i < 16; i++) {
			cr_assert_eq(a->missing[of][i], b->missing[of][i]);
			cr_assert_eq(a->size[of][i], b->size[of][i]);
			cr_assert_arr_eq(a->bytes[of][i], b->bytes[of][i], WHOLE_BYTES,
					 "%s: number %zu of the %s's sections is another", when, i,
					 of ? "VM" : "vCPU");
		}
}

/* Of a guest that has run, where backends can run one. */
static void run_a_little(struct box *box)
{
	struct impost_exit exit;

	if (!impost_caps_has(box->caps, IMPOST_CAP_EXECUTES))
		return;
	/* mov eax, 0x1234; push rax; out 0x80, al */
	enter_long(box, box->vcpu, GUEST(0xb8, 0x34, 0x12, 0x00, 0x00, 0x50, 0xe6, 0x80, 0xf4));
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
}

static void whole(uint32_t irqchip)
{
	static struct whole first, held, later, back;
	struct box box;

	box_open(&box, 1, irqchip);
	run_a_little(&box);
	get_whole(&box, &first);
	OK(&box, impost_vm_hold(box.vm, 1000));
	get_whole(&box, &held);
	same_whole(&first, &held, "held");
	OK(&box, impost_vm_release(box.vm));
	get_whole(&box, &later);
	same_whole(&first, &later, "after the hold");
	set_whole(&box, &first);
	get_whole(&box, &back);
	same_whole(&first, &back, "set again");
	box_close(&box);
}

Test(state, every_section_with_the_full_irqchip)
{
	whole(IMPOST_IRQCHIP_FULL);
}

Test(state, every_section_with_local_apics)
{
	whole(IMPOST_IRQCHIP_LAPIC);
}

Test(state, every_section_without_irqchip)
{
	whole(IMPOST_IRQCHIP_NONE);
}

/* --- pre-flight --- */

static void hear(void *opaque, const char *kind, const char *name, const char *reason)
{
	char *told = opaque;
	size_t len = strlen(told);

	snprintf(told + len, 4096 - len, "%s %s: %s\n", kind, name, reason);
}

/* What guests have here they can be given here, whether the host set CPUID or not. */
Test(state, nothing_is_in_the_way_of_its_own)
{
	struct impost_state *state;
	char told[4096] = "";
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	for (int with_cpuid = 0; with_cpuid < 2; with_cpuid++) {
		int err;

		if (with_cpuid)
			set_supported_cpuid(&box, box.vcpu);
		err = impost_state_take(box.vm, &state);
		if (err == -ENOTSUP)
			cr_skip_test("%s", impost_error(box.ctx));
		OK(&box, err);
		err = impost_state_check(state, backend_name(), hear, told);
		cr_expect_eq(err, 0, "%d: %s%s", err, told, err < 0 ? impost_error(box.ctx) : "");
		impost_state_free(state);
	}
	box_close(&box);
}
