/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock, and the TSCs of all vCPUs by one formula. A TSC is kept as what the guest reads at the
 * moment of the clock, so that a state says nothing of a host's TSC. It is loaded by how far the
 * clock has gone on since then (kernel, Documentation/virt/kvm/devices/vcpu.rst, 4.1):
 *
 *	value when loaded = value when taken + (clock when loaded - clock when taken) * rate
 */
#include <string.h>
#include <time.h>

#include "state_steps.h"
#include "vm.h"

/* --- clock --- */

static uint64_t realtime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Where guests execute, their time goes on with the host's, whoever tells it. */
int take_clock(struct state_work *work, uint32_t i)
{
	struct state_vm *vm = &work->parts->vm;
	struct impost_x86_clock *clock = vm->clock;
	int err = state_get_section(work, STATE_OF_VM, i, IMPOST_SECTION_CLOCK, clock,
				    sizeof(*clock), &vm->nclock);

	work->parts->machine.realtime_ns = realtime();
	if (err || !vm->nclock)
		return err;
	if (!(clock->flags & IMPOST_X86_CLOCK_REALTIME) &&
	    impost_caps_has(impost_vm_caps(work->vm), IMPOST_CAP_EXECUTES)) {
		clock->realtime_ns = work->parts->machine.realtime_ns;
		clock->flags |= IMPOST_X86_CLOCK_REALTIME;
	}
	return 0;
}

/* A state keeps no host's TSC, so that what is set says nothing of one. */
int load_clock(struct state_work *work, uint32_t i)
{
	struct impost_x86_clock clock = work->parts->vm.clock[0];

	clock.flags &= IMPOST_X86_CLOCK_REALTIME;
	clock.host_tsc = 0;
	return state_set_section(work, STATE_OF_VM, i, IMPOST_SECTION_CLOCK, &clock, sizeof(clock),
				 work->parts->vm.nclock);
}

/* --- TSC --- */

/* Rates that a kernel takes for the same: it does not scale for less than 250 ppm. */
static bool same_rate(uint32_t a, uint32_t b)
{
	uint32_t apart = a > b ? a - b : b - a;

	return (uint64_t)apart * 1000000 <= (uint64_t)b * 250;
}

/* DELTA ticks of the host, which may be negative, in ticks of a guest at KHZ. */
static uint64_t guest_ticks(uint64_t delta, uint32_t khz, uint32_t host_khz)
{
	if (!khz || !host_khz || same_rate(khz, host_khz))
		return delta;
	return (uint64_t)((__int128)(int64_t)delta * khz / host_khz);
}

static int get_tsc(struct state_work *work, uint32_t i, struct impost_x86_tsc *ret_tsc,
		   uint32_t *ret_there)
{
	*ret_tsc = (struct impost_x86_tsc){.size = 0};
	return state_get_section(work, STATE_OF_VCPU, i, IMPOST_SECTION_TSC, ret_tsc,
				 sizeof(*ret_tsc), ret_there);
}

/*
 * Of a guest whose rate is not the host's a TSC is read, not computed, so that TSCs which are one
 * come out a little apart: vCPUs that are within 10 us of the first have its value. A guest that
 * sets them apart on purpose uses IA32_TSC_ADJUST, and by more.
 */
static void join_scaled(struct state_work *work)
{
	uint32_t host_khz = work->parts->machine.host_tsc_khz;
	struct state_vcpu *vcpus = work->parts->vcpus;

	for (uint32_t i = 1; i < work->parts->machine.nvcpus; i++) {
		struct state_tsc *first = vcpus[0].tsc, *tsc = vcpus[i].tsc;
		uint64_t apart = tsc->value - first->value;

		if (!vcpus[0].ntsc || !vcpus[i].ntsc || !tsc->khz || tsc->khz != first->khz ||
		    same_rate(tsc->khz, host_khz))
			continue;
		if (apart + tsc->khz / 100 <= tsc->khz / 50)
			tsc->value = first->value;
	}
}

/* All at the moment of the clock, if that says when it was, or else of the first vCPU's. */
int take_tsc(struct state_work *work, uint32_t index)
{
	struct state_parts *parts = work->parts;
	struct impost_x86_clock *clock = parts->vm.clock;
	bool timed = parts->vm.nclock && (clock->flags & IMPOST_X86_CLOCK_HOST_TSC);
	uint64_t moment = timed ? clock->host_tsc : 0;

	(void)index;
	for (uint32_t i = 0; i < parts->machine.nvcpus; i++) {
		struct state_vcpu *v = &parts->vcpus[i];
		struct impost_x86_tsc tsc;
		int err = get_tsc(work, i, &tsc, &v->ntsc);

		if (err)
			return err;
		v->tsc[0] = (struct state_tsc){.value = tsc.value, .khz = tsc.khz};
		if (!v->ntsc || !(tsc.flags & IMPOST_X86_TSC_HOST))
			continue;
		if (!timed)
			moment = tsc.host_tsc;
		timed = true;
		v->tsc[0].value +=
			guest_ticks(moment - tsc.host_tsc, tsc.khz, parts->machine.host_tsc_khz);
	}
	join_scaled(work);
	clock->flags &= ~IMPOST_X86_CLOCK_HOST_TSC;
	clock->host_tsc = 0;
	return 0;
}

/* How far the clock is from where it was taken, and the host's TSC at that moment; with no host's
 * TSC, 0: the moment of each call. */
static int read_moment(struct state_work *work, int64_t *ret_gone_ns, uint64_t *ret_host_tsc,
		       uint32_t *ret_timed)
{
	struct impost_x86_clock now = {.size = 0};
	struct impost_x86_tsc tsc;
	uint32_t there = 0, has_tsc = 0;
	int err = 0;

	if (work->parts->vm.nclock)
		err = state_get_section(work, STATE_OF_VM, 0, IMPOST_SECTION_CLOCK, &now,
					sizeof(now), &there);
	if (err)
		return err;
	*ret_gone_ns = there ? (int64_t)(now.ns - work->parts->vm.clock[0].ns) : 0;
	if (there && (now.flags & IMPOST_X86_CLOCK_HOST_TSC)) {
		*ret_host_tsc = now.host_tsc;
		*ret_timed = IMPOST_X86_TSC_HOST;
		return 0;
	}
	err = get_tsc(work, 0, &tsc, &has_tsc);
	*ret_host_tsc = tsc.host_tsc;
	*ret_timed = has_tsc ? tsc.flags & IMPOST_X86_TSC_HOST : 0;
	return err;
}

int load_tsc(struct state_work *work, uint32_t index)
{
	const struct state_parts *parts = work->parts;
	int64_t gone_ns = 0;
	uint64_t host_tsc = 0;
	uint32_t flags = 0;
	int err = parts->machine.nvcpus ? read_moment(work, &gone_ns, &host_tsc, &flags) : 0;

	(void)index;
	for (uint32_t i = 0; !err && i < parts->machine.nvcpus; i++) {
		const struct state_tsc *from = parts->vcpus[i].tsc;
		struct impost_x86_tsc tsc = {
			.flags = flags,
			.value = from->value + (uint64_t)((__int128)gone_ns * from->khz / 1000000),
			.host_tsc = host_tsc,
			.khz = from->khz,
		};

		err = state_set_section(work, STATE_OF_VCPU, i, IMPOST_SECTION_TSC, &tsc,
					sizeof(tsc), parts->vcpus[i].ntsc);
	}
	return err;
}
