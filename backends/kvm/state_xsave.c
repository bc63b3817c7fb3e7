/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended state: between the kernel's XSAVE area, laid out as CPUID leaf 0xD of the host says, and
 * the neutral one, which brings its own table of where each component lies (SDM vol. 1, chapter
 * 13).
 */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define LEGACY	   512u
#define HEADER	   64u
#define AREA_MIN   (LEGACY + HEADER)
#define BV_OFFSET  LEGACY
#define MXCSR	   24u
#define MXCSR_MASK 28u
#define OLD_BYTES  4096u /* of KVM_GET_XSAVE */
#define IDS	   63u	 /* of components: bit 63 is none (SDM vol. 1, 13.1) */

#define X87	   UINT64_C(1)
#define SSE	   UINT64_C(2)
#define AVX	   UINT64_C(4)

/* Room for the kernel's area, aligned as the processor wants it. */
static uint8_t *area_new(const struct vcpu *v, uint32_t *ret_bytes)
{
	uint32_t bytes = v->vm->xsave_bytes ? v->vm->xsave_bytes : OLD_BYTES;
	uint8_t *area = aligned_alloc(64, (bytes + 63u) & ~63u);

	if (!area) {
		kvm_error(v->host, ENOMEM, "XSAVE");
		return NULL;
	}
	memset(area, 0, bytes);
	*ret_bytes = bytes;
	return area;
}

static uint64_t bv_of(const uint8_t *area)
{
	uint64_t bv;

	memcpy(&bv, area + BV_OFFSET, sizeof(bv));
	return bv;
}

/* Where components lie on this host; `bytes` 0: it has none such in the standard format. */
static struct impost_x86_xcomponent layout[IDS];
static pthread_once_t layout_once = PTHREAD_ONCE_INIT;

static void read_layout(void)
{
	uint32_t eax, ebx, ecx, edx;
	uint64_t there = 0;

	if (__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx))
		there = (uint64_t)edx << 32 | eax;
	for (uint32_t id = 2; id < IDS; id++) {
		if (!(there >> id & 1) || !__get_cpuid_count(0xd, id, &eax, &ebx, &ecx, &edx) ||
		    ebx < AREA_MIN || (ecx & 1))
			continue;
		layout[id] = (struct impost_x86_xcomponent){.id = id, .offset = ebx, .bytes = eax};
	}
}

/* CPUID is asked once: in a virtual machine an answer takes longer than an ioctl. */
static bool host_component(uint32_t id, struct impost_x86_xcomponent *ret)
{
	pthread_once(&layout_once, read_layout);
	*ret = layout[id];
	return ret->bytes;
}

static int32_t area_get(const struct vcpu *v, uint8_t *area)
{
	return v->vm->xsave_bytes ? KVM_IOCTL(v->host, v->fd, KVM_GET_XSAVE2, area)
				  : KVM_IOCTL(v->host, v->fd, KVM_GET_XSAVE, area);
}

static bool has_xcrs(const struct vcpu *v)
{
	return impost_caps_has(&v->vm->backend->caps, IMPOST_CAP_XSAVE);
}

static int32_t xcr0_get(const struct vcpu *v, uint64_t *ret_xcr0)
{
	struct kvm_xcrs xcrs = {0};
	int32_t r;

	*ret_xcr0 = 0;
	if (!has_xcrs(v))
		return 0;
	r = KVM_IOCTL(v->host, v->fd, KVM_GET_XCRS, &xcrs);
	for (uint32_t i = 0; !r && i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (xcrs.xcrs[i].xcr == 0)
			*ret_xcr0 = xcrs.xcrs[i].value;
	return r;
}

static int32_t xcr0_set(const struct vcpu *v, uint64_t xcr0)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = xcr0}}};
	int32_t r = KVM_IOCTL(v->host, v->fd, KVM_SET_XCRS, &xcrs);

	if (r != -EINVAL)
		return r;
	return impost_host_error(v->host, -IMPOST_ESTATE,
				 "KVM_SET_XCRS: XCR0 0x%llx has components that are not in the "
				 "vCPU's CPUID, leaf 0xD (0x%llx), or that need others (SDM vol. "
				 "1, 13.3)",
				 (unsigned long long)xcr0, (unsigned long long)v->xcr0_allowed);
}

/* The components that can hold something: enabled now, or saved and not in their initial state. */
static void describe(struct impost_x86_xsave *x, uint64_t components, uint32_t room)
{
	x->area_size = AREA_MIN;
	for (uint32_t id = 2; id < IDS; id++) {
		struct impost_x86_xcomponent c;
		uint32_t end;

		if (!(components >> id & 1) || !host_component(id, &c) ||
		    x->ncomponents == IMPOST_X86_XCOMPONENTS)
			continue;
		end = c.offset + c.bytes;
		if (end > room)
			continue;
		x->component[x->ncomponents++] = c;
		if (end > x->area_size)
			x->area_size = end;
	}
	x->size = (uint32_t)sizeof(*x) + x->area_size;
}

static int32_t give(const struct vcpu *v, uint8_t *area, uint32_t room, uint64_t xcr0, void *buf,
		    uint32_t capacity, uint32_t *ret_size)
{
	struct impost_x86_xsave x = {.xcr0 = xcr0};
	/* Kernels before 6.5 also show what the guest can never have. */
	uint64_t bv = bv_of(area) & (v->xcr0_allowed | xcr0 | X87 | SSE);

	describe(&x, xcr0 | bv, room);
	*ret_size = x.size;
	if (capacity < x.size)
		return impost_host_error(v->host, -ENOSPC, "extended state has %u bytes, not %u",
					 x.size, capacity);
	memcpy(area + BV_OFFSET, &bv, sizeof(bv));
	memcpy(buf, &x, sizeof(x));
	memcpy((uint8_t *)buf + sizeof(x), area, x.area_size);
	return 0;
}

int32_t kvm_xsave_get(struct vcpu *v, void *buf, uint32_t capacity, uint32_t *ret_size)
{
	uint64_t xcr0;
	uint32_t room;
	uint8_t *area = area_new(v, &room);
	int32_t r;

	if (!area)
		return -ENOMEM;
	r = area_get(v, area);
	if (!r)
		r = xcr0_get(v, &xcr0);
	if (!r)
		r = give(v, area, room, xcr0, buf, capacity, ret_size);
	free(area);
	return r;
}

/* --- setting --- */

static int32_t bad(const struct vcpu *v, const char *rule)
{
	return impost_host_error(v->host, -IMPOST_ESTATE, "XSAVE: %s", rule);
}

/* The lengths of a section that anybody may have written. X gets its head. */
static int32_t check_lengths(const struct vcpu *v, const void *buf, uint32_t bytes,
			     struct impost_x86_xsave *x)
{
	if (bytes < sizeof(*x))
		return impost_host_error(v->host, -EINVAL, "extended state of %u bytes: cut",
					 bytes);
	memcpy(x, buf, sizeof(*x));
	if (x->area_size < AREA_MIN || x->area_size > bytes - sizeof(*x) ||
	    x->ncomponents > IMPOST_X86_XCOMPONENTS)
		return impost_host_error(v->host, -EINVAL,
					 "extended state of %u bytes with an area of %u and %u "
					 "components: cut, or too many",
					 bytes, x->area_size, x->ncomponents);
	for (uint32_t i = 0; i < x->ncomponents; i++) {
		const struct impost_x86_xcomponent *c = &x->component[i];

		if (c->id < 2 || c->id >= IDS || c->offset < AREA_MIN || c->offset > x->area_size ||
		    c->bytes > x->area_size - c->offset)
			return impost_host_error(v->host, -EINVAL,
						 "extended state: component %u at %u, %u bytes, "
						 "lies outside the area of %u",
						 c->id, c->offset, c->bytes, x->area_size);
	}
	return 0;
}

/* What XRSTOR would fault on (SDM vol. 1, 13.8.1 and 10.2.3). KERNEL is an area as the kernel gives
 * it. */
static int32_t check_values(const struct vcpu *v, const struct impost_x86_xsave *x,
			    const uint8_t *area, const uint8_t *kernel)
{
	static const uint8_t zero[HEADER - 8];
	uint64_t bv = bv_of(area), allowed = v->xcr0_allowed | X87 | SSE;
	uint32_t mxcsr, mask;

	memcpy(&mxcsr, area + MXCSR, sizeof(mxcsr));
	memcpy(&mask, kernel + MXCSR_MASK, sizeof(mask));
	if (mxcsr & ~(mask ? mask : 0xffbfu))
		return bad(v, "MXCSR has reserved bits set (SDM vol. 1, 10.2.3)");
	if (!x->xcr0)
		return 0;
	if (!has_xcrs(v))
		return impost_host_error(v->host, -ENOTSUP,
					 "XCR0 is given, but this KVM has no XSAVE");
	if (!(x->xcr0 & X87))
		return bad(v, "XCR0: bit 0 must be 1 (SDM vol. 1, 13.3)");
	if ((x->xcr0 & AVX) && !(x->xcr0 & SSE))
		return bad(v, "XCR0: AVX needs SSE (SDM vol. 1, 13.3)");
	if (memcmp(area + BV_OFFSET + 8, zero, sizeof(zero)) != 0)
		return bad(v, "header: XCOMP_BV and the reserved bytes must be 0: the format is "
			      "the standard one (SDM vol. 1, 13.4.2)");
	if (bv & ~allowed)
		return impost_host_error(v->host, -IMPOST_ESTATE,
					 "XSAVE: XSTATE_BV 0x%llx has components that are not in "
					 "the vCPU's CPUID, leaf 0xD (0x%llx)",
					 (unsigned long long)bv, (unsigned long long)allowed);
	return 0;
}

/* Copies each component that is not in its initial state to where this host has it. */
static int32_t place(const struct vcpu *v, const struct impost_x86_xsave *x, const uint8_t *area,
		     uint8_t *kernel, uint32_t room)
{
	uint64_t bv = bv_of(area);

	for (uint32_t i = 0; i < x->ncomponents; i++) {
		const struct impost_x86_xcomponent *c = &x->component[i];
		struct impost_x86_xcomponent host;

		if (!(bv >> c->id & 1))
			continue;
		if (!host_component(c->id, &host) || host.bytes != c->bytes ||
		    host.offset + host.bytes > room)
			return impost_host_error(v->host, -ENOTSUP,
						 "XSAVE: this host has no component %u of %u bytes",
						 c->id, c->bytes);
		memcpy(kernel + host.offset, area + c->offset, c->bytes);
		bv &= ~(UINT64_C(1) << c->id);
	}
	if (bv & ~(X87 | SSE))
		return bad(v, "XSTATE_BV has a component that the table leaves out");
	return 0;
}

static int32_t build(const struct vcpu *v, const struct impost_x86_xsave *x, const uint8_t *area,
		     uint8_t *kernel, uint32_t room)
{
	/* Without XSAVE only the legacy region counts, and all of it. */
	uint64_t bv = x->xcr0 ? bv_of(area) : X87 | SSE;
	int32_t r = area_get(v, kernel);

	if (!r)
		r = check_values(v, x, area, kernel);
	if (r)
		return r;
	memset(kernel, 0, room);
	memcpy(kernel, area, LEGACY);
	memcpy(kernel + BV_OFFSET, &bv, sizeof(bv));
	return x->xcr0 ? place(v, x, area, kernel, room) : 0;
}

/* XCR0 and the area together, or neither. */
static int32_t load(const struct vcpu *v, uint64_t xcr0, const uint8_t *kernel)
{
	uint64_t before;
	int32_t r = xcr0_get(v, &before);

	if (!r && xcr0 && xcr0 != before)
		r = xcr0_set(v, xcr0);
	if (r)
		return r;
	r = KVM_IOCTL(v->host, v->fd, KVM_SET_XSAVE, kernel);
	if (r) {
		if (xcr0 && xcr0 != before)
			xcr0_set(v, before);
		return kvm_error(v->host, -r, "KVM_SET_XSAVE");
	}
	return 0;
}

int32_t kvm_xsave_set(struct vcpu *v, const void *buf, uint32_t bytes)
{
	const uint8_t *area = (const uint8_t *)buf + sizeof(struct impost_x86_xsave);
	struct impost_x86_xsave x;
	uint8_t *kernel;
	uint32_t room;
	int32_t r = check_lengths(v, buf, bytes, &x);

	if (r)
		return r;
	kernel = area_new(v, &room);
	if (!kernel)
		return -ENOMEM;
	r = build(v, &x, area, kernel, room);
	if (!r)
		r = load(v, x.xcr0, kernel);
	free(kernel);
	return r;
}
