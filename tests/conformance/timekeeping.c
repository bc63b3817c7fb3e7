/* SPDX-License-Identifier: Apache-2.0 */
/* TSC and clock. */
#include <time.h>

#include "common.h"

static struct impost_x86_tsc tsc_of(struct box *box, struct impost_vcpu *vcpu)
{
	struct impost_x86_tsc tsc = {.size = 0};
	uint32_t size;

	OK(box, impost_vcpu_get(vcpu, IMPOST_SECTION_TSC, &tsc, sizeof(tsc), &size));
	return tsc;
}

/* What the guest's TSC was at the host's TSC 0, if both run at one rate. */
static uint64_t offset_of(const struct impost_x86_tsc *tsc)
{
	return tsc->value - tsc->host_tsc;
}

static struct impost_x86_clock clock_of(struct box *box)
{
	struct impost_x86_clock clock = {.size = 0};
	uint32_t size;

	OK(box, impost_vm_get(box->vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock), &size));
	return clock;
}

/* Equal to the cycle, or, where the host's own TSC is not to be trusted, to a second. */
static void expect_offset(struct box *box, const struct impost_x86_tsc *got,
			  const struct impost_x86_tsc *set)
{
	int64_t apart = (int64_t)(offset_of(got) - offset_of(set));
	int64_t allowed = 0;

	if (!(clock_of(box).flags & IMPOST_X86_CLOCK_STABLE))
		allowed = (int64_t)set->khz * 1000;
	cr_assert(apart >= -allowed && apart <= allowed, "%lld cycles apart", (long long)apart);
}

Test(timekeeping, tsc_of_all_vcpus_by_one_formula)
{
	struct impost_vcpu *second;
	struct box box;

	box_open(&box, 2, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_TSC_OFFSET);
	OK(&box, impost_vcpu_create(box.vm, 1, &second));
	for (int i = 0; i < 20; i++) {
		struct impost_x86_tsc a = tsc_of(&box, box.vcpu), b;

		if (!(a.flags & IMPOST_X86_TSC_HOST)) {
			OK(&box, impost_vcpu_destroy(second));
			box_close(&box);
			cr_skip_test("the backend tells no host TSC");
		}
		a.value = random64() >> 8;
		/* The capability is the hypervisor's word; where the processor's driver says
		 * otherwise, that shows here. */
		if (impost_vcpu_set(box.vcpu, IMPOST_SECTION_TSC, &a, sizeof(a)) == -ENOTSUP) {
			char why[300];

			snprintf(why, sizeof(why), "%s", impost_error(box.ctx));
			OK(&box, impost_vcpu_destroy(second));
			box_close(&box);
			cr_skip_test("%s", why);
		}
		OK(&box, impost_vcpu_set(box.vcpu, IMPOST_SECTION_TSC, &a, sizeof(a)));
		OK(&box, impost_vcpu_set(second, IMPOST_SECTION_TSC, &a, sizeof(a)));
		b = tsc_of(&box, second);
		expect_offset(&box, &b, &a);
		b = tsc_of(&box, box.vcpu);
		expect_offset(&box, &b, &a);
		cr_assert_eq(b.khz, a.khz);
	}
	OK(&box, impost_vcpu_destroy(second));
	box_close(&box);
}

/* Whatever the backend claims, a value is not taken and then forgotten. */
Test(timekeeping, tsc_is_set_or_refused)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	for (int i = 0; i < 5; i++) {
		struct impost_x86_tsc tsc = {.size = sizeof(tsc), .value = random64() >> 8};
		uint64_t before = tsc_of(&box, box.vcpu).value, from = tsc.value, got;
		uint64_t start = now_ns();
		int r = impost_vcpu_set(box.vcpu, IMPOST_SECTION_TSC, &tsc, sizeof(tsc));

		cr_assert(r == 0 || r == -ENOTSUP, "%s", impost_error(box.ctx));
		if (r)
			from = before;
		tsc = tsc_of(&box, box.vcpu);
		got = tsc.value;
		/* 10 s, for what an unstable host's TSC is corrected by. */
		cr_assert(got - from < tsc.khz * ((now_ns() - start) / 1000000 + 10000),
			  "%llu, not %llu", (unsigned long long)got, (unsigned long long)from);
	}
	box_close(&box);
}

Test(timekeeping, unknown_flags_are_refused)
{
	struct impost_x86_clock clock;
	struct impost_x86_tsc tsc;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	tsc = tsc_of(&box, box.vcpu);
	tsc.flags |= 0x80;
	REFUSED(&box, EINVAL, impost_vcpu_set(box.vcpu, IMPOST_SECTION_TSC, &tsc, sizeof(tsc)));
	box_need(&box, IMPOST_CAP_CLOCK);
	clock = clock_of(&box);
	clock.flags |= 0x80;
	REFUSED(&box, EINVAL, impost_vm_set(box.vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock)));
	box_close(&box);
}

Test(timekeeping, clock_goes_on_from_where_it_was_set)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_CLOCK);
	for (int i = 0; i < 20; i++) {
		struct impost_x86_clock set = {.size = sizeof(set), .ns = random64() >> 8}, got;

		OK(&box, impost_vm_set(box.vm, IMPOST_SECTION_CLOCK, &set, sizeof(set)));
		got = clock_of(&box);
		cr_assert_geq(got.ns, set.ns);
		cr_assert_lt(got.ns, set.ns + UINT64_C(2000000000));
	}
	box_close(&box);
}

Test(timekeeping, clock_never_goes_back)
{
	uint64_t last = 0;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_CLOCK);
	for (int i = 0; i < 1000; i++) {
		const uint64_t ns = clock_of(&box).ns;

		cr_assert_geq(ns, last);
		/* Time that was set is where it goes on from. */
		last = i == 500 ? UINT64_C(1) << 50 : ns;
		if (i == 500)
			OK(&box, impost_vm_set(box.vm, IMPOST_SECTION_CLOCK,
					       &(struct impost_x86_clock){
						       .size = sizeof(struct impost_x86_clock),
						       .ns = last},
					       sizeof(struct impost_x86_clock)));
	}
	box_close(&box);
}

Test(timekeeping, tsc_never_goes_back)
{
	uint64_t last = 0;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	for (int i = 0; i < 1000; i++) {
		const uint64_t value = tsc_of(&box, box.vcpu).value;

		cr_assert_geq(value, last);
		last = value;
	}
	box_close(&box);
}

/* While a VM is held its clock is what it was, or goes on: it does not fall back behind. */
Test(timekeeping, clock_outlives_a_hold)
{
	struct box box;
	uint64_t before;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_CLOCK);
	for (int i = 0; i < 10; i++) {
		before = clock_of(&box).ns;
		OK(&box, impost_vm_hold(box.vm, 20000));
		cr_assert_geq(clock_of(&box).ns, before);
		OK(&box, impost_vm_release(box.vm));
		cr_assert_geq(clock_of(&box).ns, before);
	}
	box_close(&box);
}

static uint64_t realtime(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* With the time of day beside it, the clock goes forward by what has gone since then. */
Test(timekeeping, clock_makes_up_for_time_that_is_gone)
{
	struct impost_x86_clock clock;
	uint64_t hour = UINT64_C(3600000000000), set_to;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_CLOCK);
	clock = clock_of(&box);
	if (!(clock.flags & IMPOST_X86_CLOCK_REALTIME)) {
		/* Some that do not tell it take it all the same; a clock that only a test moves
		 * cannot. */
		box_need(&box, IMPOST_CAP_EXECUTES);
		clock.realtime_ns = realtime();
	}
	clock.flags = IMPOST_X86_CLOCK_REALTIME;
	clock.realtime_ns -= hour;
	set_to = clock.ns;
	OK(&box, impost_vm_set(box.vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock)));
	clock = clock_of(&box);
	cr_assert_geq(clock.ns, set_to + hour);
	cr_assert_lt(clock.ns, set_to + hour + UINT64_C(5000000000));
	box_close(&box);
}
