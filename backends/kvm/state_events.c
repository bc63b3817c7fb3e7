/* SPDX-License-Identifier: Apache-2.0 */
/* Local APIC, pending events, run state, and nested state, which stays opaque. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --- local APIC --- */

static_assert(sizeof(struct kvm_lapic_state) == sizeof(((struct impost_x86_lapic *)NULL)->regs),
	      "the APIC page is handed through");

static int32_t need_lapic(const struct vcpu *v)
{
	if (v->vm->irqchip != IMPOST_IRQCHIP_NONE)
		return 0;
	return impost_host_error(v->host, -ENOENT,
				 "this VM has no local APIC in the kernel (irqchip = none)");
}

int32_t kvm_lapic_get(struct vcpu *v, void *buf)
{
	struct impost_x86_lapic *lapic = buf;
	int32_t r = need_lapic(v);

	return r ? r : KVM_IOCTL(v->host, v->fd, KVM_GET_LAPIC, lapic->regs);
}

int32_t kvm_lapic_set(struct vcpu *v, const void *buf)
{
	const struct impost_x86_lapic *lapic = buf;
	int32_t r = need_lapic(v);

	if (r)
		return r;
	r = KVM_IOCTL(v->host, v->fd, KVM_SET_LAPIC, lapic->regs);
	if (r != -EINVAL)
		return r;
	return impost_host_error(v->host, -IMPOST_ESTATE,
				 "KVM_SET_LAPIC: in x2APIC mode the ID register must hold this "
				 "vCPU's id, %u (SDM vol. 3, 11.12.5.1)",
				 v->id);
}

/* --- events --- */

/* Flags and interrupt shadows have other numbers there. */
static const struct {
	uint32_t ours, kernels;
} event_flags[] =
	{
		{IMPOST_X86_EVENTS_NMI_PENDING, KVM_VCPUEVENT_VALID_NMI_PENDING},
		{IMPOST_X86_EVENTS_SIPI, KVM_VCPUEVENT_VALID_SIPI_VECTOR},
		{IMPOST_X86_EVENTS_SHADOW, KVM_VCPUEVENT_VALID_SHADOW},
		{IMPOST_X86_EVENTS_SMM, KVM_VCPUEVENT_VALID_SMM},
		{IMPOST_X86_EVENTS_PAYLOAD, KVM_VCPUEVENT_VALID_PAYLOAD},
		{IMPOST_X86_EVENTS_TRIPLE_FAULT, KVM_VCPUEVENT_VALID_TRIPLE_FAULT},
},
  shadows[] = {
	  {IMPOST_X86_SHADOW_STI, KVM_X86_SHADOW_INT_STI},
	  {IMPOST_X86_SHADOW_MOV_SS, KVM_X86_SHADOW_INT_MOV_SS},
};

/* Bytes that are the same in both structs. */
static const struct {
	uint8_t ours, kernels;
} event_bytes[] = {
#define SAME(ours, kernels)                                       \
	{                                                         \
		offsetof(struct impost_x86_events, ours),         \
			offsetof(struct kvm_vcpu_events, kernels) \
	}
	SAME(exception.injected, exception.injected),
	SAME(exception.pending, exception.pending),
	SAME(exception.vector, exception.nr),
	SAME(exception.has_error, exception.has_error_code),
	SAME(exception.has_payload, exception_has_payload),
	SAME(interrupt.injected, interrupt.injected),
	SAME(interrupt.vector, interrupt.nr),
	SAME(interrupt.soft, interrupt.soft),
	SAME(nmi.injected, nmi.injected),
	SAME(nmi.pending, nmi.pending),
	SAME(nmi.masked, nmi.masked),
	SAME(smi.smm, smi.smm),
	SAME(smi.pending, smi.pending),
	SAME(smi.inside_nmi, smi.smm_inside_nmi),
	SAME(smi.latched_init, smi.latched_init),
	SAME(triple_fault_pending, triple_fault.pending),
#undef SAME
};

int32_t kvm_events_get(struct vcpu *v, void *buf)
{
	struct impost_x86_events *e = buf;
	struct kvm_vcpu_events k = {0};
	int32_t r = KVM_IOCTL(v->host, v->fd, KVM_GET_VCPU_EVENTS, &k);

	if (r)
		return r;
	for (size_t i = 0; i < COUNT(event_bytes); i++)
		((uint8_t *)e)[event_bytes[i].ours] = ((uint8_t *)&k)[event_bytes[i].kernels];
	for (size_t i = 0; i < COUNT(event_flags); i++)
		if (k.flags & event_flags[i].kernels)
			e->flags |= event_flags[i].ours;
	for (size_t i = 0; i < COUNT(shadows); i++)
		if (k.interrupt.shadow & shadows[i].kernels)
			e->interrupt.shadow |= (uint8_t)shadows[i].ours;
	e->exception.error = k.exception.error_code;
	e->exception.payload = k.exception_payload;
	e->sipi_vector = k.sipi_vector;
	kvm_vector_get(v, e);
	return 0;
}

static int32_t event_bad(const struct vcpu *v, const char *rule)
{
	return impost_host_error(v->host, -IMPOST_ESTATE, "events: %s", rule);
}

static int32_t events_check(const struct vcpu *v, const struct impost_x86_events *e)
{
	const struct impost_caps *caps = &v->vm->backend->caps;
	uint32_t known = IMPOST_X86_EVENTS_WAITING;

	for (size_t i = 0; i < COUNT(event_flags); i++)
		known |= event_flags[i].ours;
	if (e->flags & ~known)
		return event_bad(v, "unknown flags");
	if ((e->exception.injected || e->exception.pending) &&
	    (e->exception.vector > 31 || e->exception.vector == 2))
		return event_bad(v, "an exception's vector is 0 to 31, and not 2 (SDM vol. 3, "
				    "27.2.1.3)");
	if (e->exception.injected && e->exception.pending)
		return event_bad(v, "an exception is injected or pending, not both");
	if (e->interrupt.shadow & ~(IMPOST_X86_SHADOW_STI | IMPOST_X86_SHADOW_MOV_SS))
		return event_bad(v, "interrupt.shadow has unknown bits (SDM vol. 3, table 25-3)");
	if (e->sipi_vector > 255)
		return event_bad(v, "sipi_vector is 0 to 255 (SDM vol. 3, 9.4.4.1)");
	if ((e->flags & IMPOST_X86_EVENTS_SMM) && (e->smi.smm || e->smi.pending) &&
	    !impost_caps_has(caps, IMPOST_CAP_SMM))
		return impost_host_error(v->host, -ENOTSUP, "events: this KVM has no SMM");
	if (e->exception.pending && !impost_caps_has(caps, IMPOST_CAP_EVENT_PAYLOAD))
		return impost_host_error(v->host, -ENOTSUP,
					 "events: this KVM cannot hold an exception pending "
					 "(event-payload)");
	return 0;
}

/* Flags without a capability here are left out if there is nothing behind them, and else refused.
 */
static int32_t events_flags(const struct vcpu *v, const struct impost_x86_events *e,
			    uint32_t *ret_flags)
{
	const struct backend *b = v->vm->backend;
	uint32_t flags = 0;

	for (size_t i = 0; i < COUNT(event_flags); i++)
		if (e->flags & event_flags[i].ours)
			flags |= event_flags[i].kernels;
	if (!impost_caps_has(&b->caps, IMPOST_CAP_SMM))
		flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_SMM;
	if (!impost_caps_has(&b->caps, IMPOST_CAP_EVENT_PAYLOAD))
		flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_PAYLOAD;
	if (!kvm_extension(b->fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT)) {
		if ((e->flags & IMPOST_X86_EVENTS_TRIPLE_FAULT) && e->triple_fault_pending)
			return impost_host_error(v->host, -ENOTSUP,
						 "events: this KVM cannot hold a triple fault "
						 "pending");
		flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	*ret_flags = flags;
	return 0;
}

int32_t kvm_events_set(struct vcpu *v, const void *buf)
{
	const struct impost_x86_events *e = buf;
	struct kvm_vcpu_events k = {0};
	int32_t r = events_check(v, e);

	if (!r)
		r = kvm_vector_check(v, e);
	if (!r)
		r = events_flags(v, e, &k.flags);
	if (r)
		return r;
	for (size_t i = 0; i < COUNT(event_bytes); i++)
		((uint8_t *)&k)[event_bytes[i].kernels] = ((const uint8_t *)e)[event_bytes[i].ours];
	for (size_t i = 0; i < COUNT(shadows); i++)
		if (e->interrupt.shadow & shadows[i].ours)
			k.interrupt.shadow |= (uint8_t)shadows[i].kernels;
	k.exception.error_code = e->exception.error;
	k.exception_payload = e->exception.payload;
	k.sipi_vector = e->sipi_vector;
	/* Without the flag these are not looked at, but must be of the old form: pending 0. */
	if (!(k.flags & KVM_VCPUEVENT_VALID_PAYLOAD))
		k.exception.pending = k.exception_has_payload = 0;
	r = KVM_IOCTL(v->host, v->fd, KVM_SET_VCPU_EVENTS, &k);
	if (r == -EINVAL)
		return event_bad(v, "KVM_SET_VCPU_EVENTS: the kernel refuses these together");
	if (!r)
		kvm_vector_set(v, e);
	return r;
}

/* --- run state --- */

static const struct {
	uint32_t ours, kernels;
} run_states[] = {
	{IMPOST_X86_RUNNING, KVM_MP_STATE_RUNNABLE},
	{IMPOST_X86_WAIT_FOR_INIT, KVM_MP_STATE_UNINITIALIZED},
	{IMPOST_X86_WAIT_FOR_SIPI, KVM_MP_STATE_INIT_RECEIVED},
	{IMPOST_X86_HALTED, KVM_MP_STATE_HALTED},
	{IMPOST_X86_SIPI_RECEIVED, KVM_MP_STATE_SIPI_RECEIVED},
};

int32_t kvm_runstate_get(struct vcpu *v, void *buf)
{
	struct impost_x86_runstate *s = buf;
	struct kvm_mp_state mp = {0};
	int32_t r = KVM_IOCTL(v->host, v->fd, KVM_GET_MP_STATE, &mp);

	if (r)
		return r;
	for (size_t i = 0; i < COUNT(run_states); i++)
		if (mp.mp_state == run_states[i].kernels) {
			s->state = run_states[i].ours;
			return 0;
		}
	return impost_host_error(v->host, -EIO, "KVM_GET_MP_STATE: unknown state %u", mp.mp_state);
}

int32_t kvm_runstate_set(struct vcpu *v, const void *buf)
{
	const struct impost_x86_runstate *s = buf;

	for (size_t i = 0; i < COUNT(run_states); i++) {
		struct kvm_mp_state mp = {.mp_state = run_states[i].kernels};
		int32_t r;

		if (s->state != run_states[i].ours)
			continue;
		r = KVM_IOCTL(v->host, v->fd, KVM_SET_MP_STATE, &mp);
		return r == -EINVAL && v->vm->irqchip == IMPOST_IRQCHIP_NONE
			       ? impost_host_error(v->host, -ENOTSUP,
						   "KVM_SET_MP_STATE: without local APICs in the "
						   "kernel a vCPU is always running")
			       : r;
	}
	return impost_host_error(v->host,
				 s->state == IMPOST_X86_STOPPED ? -ENOTSUP : -IMPOST_ESTATE,
				 "run state %u: KVM has none such", s->state);
}

/* --- nested state: in the kernel's own form --- */

#define NESTED_VERSION 1
#define HEADER	       sizeof(struct kvm_nested_state)

static const char backend_name[16] = "kvm", nested_name[16] = "nested";

static int32_t need_nested(const struct vcpu *v)
{
	return v->vm->backend->nested_bytes >= HEADER
		       ? 0
		       : impost_host_error(v->host, -ENOTSUP, "this KVM has no nested state");
}

/*
 * The guest has not entered VMX operation, or runs no guest of its own under SVM: the kernel gives
 * a header with nothing in it. Under SVM the global interrupt flag is set then, unless the guest
 * cleared it (APM vol. 2, 15.17), and that is state.
 */
static bool nested_empty(const struct kvm_nested_state *k)
{
	if (k->size > HEADER)
		return false;
	if (k->format == KVM_STATE_NESTED_FORMAT_SVM)
		return k->flags == KVM_STATE_NESTED_GIF_SET;
	return !k->flags && k->hdr.vmx.vmxon_pa == UINT64_MAX;
}

static int32_t nested_give(const struct vcpu *v, const struct kvm_nested_state *k, void *buf,
			   uint32_t capacity, uint32_t *ret_size)
{
	struct impost_x86_opaque o = {.version = NESTED_VERSION, .data_size = k->size};

	if (nested_empty(k))
		return impost_host_error(v->host, -ENOENT, "the guest has no nested state");
	o.size = (uint32_t)sizeof(o) + k->size;
	memcpy(o.backend, backend_name, sizeof(o.backend));
	memcpy(o.what, nested_name, sizeof(o.what));
	*ret_size = o.size;
	if (capacity < o.size)
		return impost_host_error(v->host, -ENOSPC, "nested state has %u bytes, not %u",
					 o.size, capacity);
	memcpy(buf, &o, sizeof(o));
	memcpy((uint8_t *)buf + sizeof(o), k, k->size);
	return 0;
}

int32_t kvm_nested_get(struct vcpu *v, void *buf, uint32_t capacity, uint32_t *ret_size)
{
	struct kvm_nested_state *k;
	int32_t r = need_nested(v);

	if (r)
		return r;
	k = calloc(1, v->vm->backend->nested_bytes);
	if (!k)
		return kvm_error(v->host, ENOMEM, "nested state");
	k->size = v->vm->backend->nested_bytes;
	r = KVM_IOCTL(v->host, v->fd, KVM_GET_NESTED_STATE, k);
	if (!r)
		r = nested_give(v, k, buf, capacity, ret_size);
	free(k);
	return r;
}

static int32_t nested_check(const struct vcpu *v, const void *buf, uint32_t bytes,
			    struct impost_x86_opaque *o)
{
	uint32_t inner;

	if (bytes < sizeof(*o) + HEADER)
		return impost_host_error(v->host, -EINVAL, "nested state of %u bytes: cut", bytes);
	memcpy(o, buf, sizeof(*o));
	if (memcmp(o->backend, backend_name, sizeof(o->backend)) != 0 ||
	    memcmp(o->what, nested_name, sizeof(o->what)) != 0 || o->version != NESTED_VERSION)
		return impost_host_error(v->host, -ENOTSUP,
					 "opaque state %.16s of backend %.16s, version %u: this is "
					 "kvm, which reads nested, version %u",
					 o->what, o->backend, o->version, NESTED_VERSION);
	/* Nothing of what is to be set may be passed over in silence. */
	if (o->size != bytes)
		return impost_host_error(
			v->host, -EINVAL,
			"opaque state of %u bytes: nested state is %u of them, and "
			"kvm reads nothing else",
			bytes, o->size);
	memcpy(&inner, (const uint8_t *)buf + sizeof(*o) + offsetof(struct kvm_nested_state, size),
	       sizeof(inner));
	if (o->data_size != bytes - sizeof(*o) || inner != o->data_size || inner < HEADER ||
	    inner > v->vm->backend->nested_bytes)
		return impost_host_error(v->host, -EINVAL,
					 "nested state of %u bytes says %u and %u", bytes,
					 o->data_size, inner);
	return 0;
}

int32_t kvm_nested_set(struct vcpu *v, const void *buf, uint32_t bytes)
{
	struct impost_x86_opaque o;
	struct kvm_nested_state *k;
	int32_t r = need_nested(v);

	if (!r)
		r = nested_check(v, buf, bytes, &o);
	if (r)
		return r;
	k = malloc(o.data_size);
	if (!k)
		return kvm_error(v->host, ENOMEM, "nested state");
	memcpy(k, (const uint8_t *)buf + sizeof(o), o.data_size);
	r = KVM_IOCTL(v->host, v->fd, KVM_SET_NESTED_STATE, k);
	free(k);
	return r;
}
