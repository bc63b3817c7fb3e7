/* SPDX-License-Identifier: Apache-2.0 */
/* Time: the TSC of a vCPU, and the clock of a VM. */
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <x86intrin.h>

#include "internal.h"

#define MSR_TSC	      0x10u
#define CHECK_SECONDS 10 /* of ticks: what a value may be off before it counts as not taken */

/* --- TSC --- */

static int32_t offset_get(const struct vcpu *v, uint64_t *ret_offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)ret_offset,
	};

	return kvm_ioctl(v->host, v->fd, KVM_GET_DEVICE_ATTR,
			 "KVM_GET_DEVICE_ATTR KVM_VCPU_TSC_OFFSET", &attr);
}

static int32_t offset_set(const struct vcpu *v, uint64_t offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	return kvm_ioctl(v->host, v->fd, KVM_SET_DEVICE_ATTR,
			 "KVM_SET_DEVICE_ATTR KVM_VCPU_TSC_OFFSET", &attr);
}

static bool has_offset(const struct vcpu *v)
{
	return impost_caps_has(&v->vm->backend->caps, IMPOST_CAP_TSC_OFFSET);
}

static bool has_scaling(const struct vcpu *v)
{
	return impost_caps_has(&v->vm->backend->caps, IMPOST_CAP_TSC_SCALING);
}

static uint32_t khz_get(const struct vcpu *v)
{
	int r = ioctl(v->fd, KVM_GET_TSC_KHZ, 0UL);

	return r > 0 ? (uint32_t)r : 0;
}

/* The kernel does not scale for less than 250 ppm (its parameter tsc_tolerance_ppm). */
static bool same_rate(uint32_t a, uint32_t b)
{
	uint32_t tolerance = (uint32_t)((uint64_t)b * 250 / 1000000);

	return a >= b - tolerance && a <= b + tolerance;
}

/*
 * The guest's TSC is the host's, scaled, plus the offset. When the rates differ the scale is the
 * kernel's secret (its number of fraction bits depends on the processor's maker), so guest and host
 * are then read one after the other: the tightest of a few readings.
 */
static int32_t read_pair(const struct vcpu *v, uint64_t *ret_guest, uint64_t *ret_host)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		struct impost_x86_msr msr = {.index = MSR_TSC};
		uint32_t done;
		uint64_t before = __rdtsc(), after;
		int32_t r = kvm_msrs_get((void *)(uintptr_t)v, &msr, 1, &done);

		after = __rdtsc();
		if (r)
			return r;
		if (after - before < best) {
			best = after - before;
			*ret_guest = msr.value;
			*ret_host = before + (after - before) / 2;
		}
	}
	return 0;
}

int32_t kvm_tsc_get(struct vcpu *v, void *buf)
{
	struct impost_x86_tsc *t = buf;
	uint32_t host_khz = v->vm->host_tsc_khz;
	uint64_t offset;
	int32_t r;

	t->khz = khz_get(v);
	t->flags = IMPOST_X86_TSC_HOST;
	if (!has_offset(v) || !same_rate(t->khz, host_khz))
		return read_pair(v, &t->value, &t->host_tsc);
	r = offset_get(v, &offset);
	if (r)
		return r;
	t->host_tsc = __rdtsc();
	t->value = t->host_tsc + offset;
	return 0;
}

static int32_t khz_set(const struct vcpu *v, uint32_t khz)
{
	uint32_t host_khz = v->vm->host_tsc_khz, now = khz_get(v);

	if (!khz || khz == now || same_rate(khz, now))
		return 0;
	if (!has_scaling(v) && !same_rate(khz, host_khz))
		return impost_host_error(v->host, -ENOTSUP,
					 "a TSC of %u kHz: this host's has %u kHz, and KVM cannot "
					 "scale it here (tsc-scaling)",
					 khz, host_khz);
	return KVM_IOCTL_VALUE(v->host, v->fd, KVM_SET_TSC_KHZ, khz);
}

/* HOST_DELTA cycles of the host in cycles of a guest at KHZ. */
static uint64_t scaled(const struct vcpu *v, uint64_t host_delta, uint32_t khz)
{
	if (same_rate(khz, v->vm->host_tsc_khz) || !v->vm->host_tsc_khz)
		return host_delta;
	return (uint64_t)((unsigned __int128)host_delta * khz / v->vm->host_tsc_khz);
}

/* What the guest's TSC, by this formula, is when the host's is HOST_TSC. */
static uint64_t value_at(const struct vcpu *v, const struct impost_x86_tsc *t, uint64_t set_at,
			 uint64_t host_tsc)
{
	uint32_t khz = khz_get(v);

	return t->value - scaled(v, set_at, khz) + scaled(v, host_tsc, khz);
}

/*
 * There are KVMs whose guests read the host's TSC as it is: an offset, or a value of the MSR, is
 * taken and has no effect. On a host whose own TSC is unstable the kernel corrects the offset each
 * time that the vCPU is loaded: that is no failure.
 */
static int32_t value_check(const struct vcpu *v, const struct impost_x86_tsc *t, uint64_t set_at)
{
	uint64_t allowed = (uint64_t)v->vm->host_tsc_khz * 1000 * CHECK_SECONDS;
	uint64_t guest = 0, host = 0, expected, apart;
	int32_t r = read_pair(v, &guest, &host);

	if (r)
		return r;
	expected = value_at(v, t, set_at, host);
	apart = guest > expected ? guest - expected : expected - guest;
	if (apart <= allowed || !allowed)
		return 0;
	return impost_host_error(v->host, -ENOTSUP,
				 "TSC: taken by the kernel without effect: guests read the host's "
				 "TSC here");
}

static int32_t value_set(const struct vcpu *v, const struct impost_x86_tsc *t)
{
	uint64_t set_at = t->flags & IMPOST_X86_TSC_HOST ? t->host_tsc : __rdtsc();
	struct impost_x86_msr msr = {.index = MSR_TSC};
	uint32_t done;
	int32_t r;

	if (has_offset(v)) {
		r = offset_set(v, value_at(v, t, set_at, 0));
	} else {
		msr.value = value_at(v, t, set_at, __rdtsc());
		r = kvm_msrs_set((void *)(uintptr_t)v, &msr, 1, &done);
	}
	return r ? r : value_check(v, t, set_at);
}

int32_t kvm_tsc_set(struct vcpu *v, const void *buf)
{
	const struct impost_x86_tsc *t = buf;
	uint32_t before = khz_get(v);
	int32_t r;

	if (t->flags & ~IMPOST_X86_TSC_HOST)
		return impost_host_error(v->host, -EINVAL, "TSC: unknown flags 0x%x", t->flags);
	r = khz_set(v, t->khz);
	if (r)
		return r;
	r = value_set(v, t);
	if (r && khz_get(v) != before)
		ioctl(v->fd, KVM_SET_TSC_KHZ, (unsigned long)before);
	if (!r) /* time is set: whatever the guest was, it is so again after a while */
		kvm_tell_stopped(v);
	return r;
}

/* --- clock --- */

/* A guest without that clock is -EINVAL, and has no such watchdogs. */
void kvm_tell_stopped(const struct vcpu *v)
{
	ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0UL);
}

static const struct {
	uint32_t ours, kernels;
} clock_flags[] = {
	{IMPOST_X86_CLOCK_REALTIME, KVM_CLOCK_REALTIME},
	{IMPOST_X86_CLOCK_HOST_TSC, KVM_CLOCK_HOST_TSC},
	{IMPOST_X86_CLOCK_STABLE, KVM_CLOCK_TSC_STABLE},
};

int32_t kvm_clock_get(struct vm *vm, void *buf)
{
	struct impost_x86_clock *c = buf;
	struct kvm_clock_data k = {0};
	int32_t r = KVM_IOCTL(vm->host, vm->fd, KVM_GET_CLOCK, &k);

	if (r)
		return r;
	for (size_t i = 0; i < sizeof(clock_flags) / sizeof(clock_flags[0]); i++)
		if (k.flags & clock_flags[i].kernels)
			c->flags |= clock_flags[i].ours;
	c->ns = k.clock;
	c->realtime_ns = k.flags & KVM_CLOCK_REALTIME ? k.realtime : 0;
	c->host_tsc = k.flags & KVM_CLOCK_HOST_TSC ? k.host_tsc : 0;
	return 0;
}

static uint64_t realtime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int32_t kvm_clock_set(struct vm *vm, const void *buf)
{
	const struct impost_x86_clock *c = buf;
	struct kvm_clock_data k = {.clock = c->ns};
	uint64_t now;

	if (c->flags &
	    ~(IMPOST_X86_CLOCK_REALTIME | IMPOST_X86_CLOCK_HOST_TSC | IMPOST_X86_CLOCK_STABLE))
		return impost_host_error(vm->host, -EINVAL, "clock: unknown flags 0x%x", c->flags);
	if (c->flags & IMPOST_X86_CLOCK_REALTIME) {
		if (vm->backend->clock_flags & KVM_CLOCK_REALTIME) {
			k.flags = KVM_CLOCK_REALTIME;
			k.realtime = c->realtime_ns;
		} else {
			/* As the kernel does it since 5.16: forward only. */
			now = realtime();
			if (now > c->realtime_ns)
				k.clock += now - c->realtime_ns;
		}
	}
	return KVM_IOCTL(vm->host, vm->fd, KVM_SET_CLOCK, &k);
}
