/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the functions for a section of state, and does for all of them what lengths and answers ask
 * for. */
#include <string.h>

#include "internal.h"

/* A section of a vCPU or of a VM: `fixed` ones have bytes, the others do their own lengths. */
#define SECTION_OF(object)                                                                  \
	struct object##_section {                                                           \
		uint32_t bytes;                                                             \
		int32_t (*get)(struct object * o, void *buf);                               \
		int32_t (*set)(struct object * o, const void *buf);                         \
		int32_t (*get_varying)(struct object * o, void *buf, uint32_t capacity,     \
				       uint32_t *size);                                     \
		int32_t (*set_varying)(struct object * o, const void *buf, uint32_t bytes); \
	}
SECTION_OF(vcpu);
SECTION_OF(vm);

#define FIXED(name, type)                                                               \
	{                                                                               \
		.bytes = sizeof(type), .get = kvm_##name##_get, .set = kvm_##name##_set \
	}
#define VARIES(name)                                                             \
	{                                                                        \
		.get_varying = kvm_##name##_get, .set_varying = kvm_##name##_set \
	}

static const struct vcpu_section vcpu_sections[] = {
	[IMPOST_SECTION_REGS] = FIXED(regs, struct impost_x86_regs),
	[IMPOST_SECTION_SREGS] = FIXED(sregs, struct impost_x86_sregs),
	[IMPOST_SECTION_XSAVE] = VARIES(xsave),
	[IMPOST_SECTION_DEBUGREGS] = FIXED(debugregs, struct impost_x86_debugregs),
	[IMPOST_SECTION_LAPIC] = FIXED(lapic, struct impost_x86_lapic),
	[IMPOST_SECTION_EVENTS] = FIXED(events, struct impost_x86_events),
	[IMPOST_SECTION_RUNSTATE] = FIXED(runstate, struct impost_x86_runstate),
	[IMPOST_SECTION_TSC] = FIXED(tsc, struct impost_x86_tsc),
	[IMPOST_SECTION_VCPU_OPAQUE] = VARIES(nested),
};

static const struct vm_section vm_sections[] = {
	[IMPOST_SECTION_PIC] = FIXED(pic, struct impost_x86_pic),
	[IMPOST_SECTION_IOAPIC] = FIXED(ioapic, struct impost_x86_ioapic),
	[IMPOST_SECTION_PIT] = FIXED(pit, struct impost_x86_pit),
	[IMPOST_SECTION_CLOCK] = FIXED(clock, struct impost_x86_clock),
};

/* A whole section of fixed length. */
union section {
	uint32_t size;
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct impost_x86_debugregs debugregs;
	struct impost_x86_lapic lapic;
	struct impost_x86_events events;
	struct impost_x86_runstate runstate;
	struct impost_x86_tsc tsc;
	struct impost_x86_pic pic;
	struct impost_x86_ioapic ioapic;
	struct impost_x86_pit pit;
	struct impost_x86_clock clock;
};

static int32_t no_section(const struct impost_host *host, uint32_t section)
{
	return impost_host_error(host, -ENOTSUP, "KVM has no state section %u", section);
}

static int32_t too_small(const struct impost_host *host, uint32_t section, uint32_t bytes,
			 uint32_t capacity)
{
	return impost_host_error(host, -ENOSPC, "state section %u has %u bytes, not %u", section,
				 bytes, capacity);
}

/* A struct of which the caller has given BYTES, by the rule of state.h: what is missing is zero. */
static void read_section(union section *ret, const void *buf, uint32_t bytes, uint32_t known)
{
	uint32_t size = 0;

	memset(ret, 0, sizeof(*ret));
	if (bytes >= sizeof(size))
		memcpy(&size, buf, sizeof(size));
	if (size > bytes)
		size = bytes;
	memcpy(ret, buf, size < known ? size : known);
	ret->size = known;
}

int32_t kvm_vcpu_settled(const struct vcpu *v)
{
	if (!v->pending)
		return 0;
	return impost_host_error(v->host, -EBUSY,
				 "vCPU %u waits for the answer to its last exit: complete it first",
				 v->id);
}

int32_t kvm_vcpu_state_get(void *handle, uint32_t section, void *buf, uint32_t capacity,
			   uint32_t *ret_size)
{
	struct vcpu *v = handle;
	const struct vcpu_section *s = &vcpu_sections[0];
	union section whole = {.size = 0};
	int32_t r;

	if (section < sizeof(vcpu_sections) / sizeof(vcpu_sections[0]))
		s = &vcpu_sections[section];
	if (!s->get && !s->get_varying)
		return no_section(v->host, section);
	r = kvm_vcpu_settled(v);
	if (r)
		return r;
	if (s->get_varying)
		return s->get_varying(v, buf, capacity, ret_size);
	r = capacity < s->bytes ? too_small(v->host, section, s->bytes, capacity)
				: s->get(v, &whole);
	if (!r) {
		whole.size = s->bytes;
		memcpy(buf, &whole, s->bytes);
	}
	if (!r || r == -ENOSPC)
		*ret_size = s->bytes;
	return r;
}

int32_t kvm_vcpu_state_set(void *handle, uint32_t section, const void *buf, uint32_t bytes)
{
	struct vcpu *v = handle;
	const struct vcpu_section *s = &vcpu_sections[0];
	union section whole;
	int32_t r;

	if (section < sizeof(vcpu_sections) / sizeof(vcpu_sections[0]))
		s = &vcpu_sections[section];
	if (!s->set && !s->set_varying)
		return no_section(v->host, section);
	r = kvm_vcpu_settled(v);
	if (r)
		return r;
	/* What kvm_run says of interrupts is of the state before. */
	v->run->ready_for_interrupt_injection = 0;
	if (s->set_varying)
		return s->set_varying(v, buf, bytes);
	read_section(&whole, buf, bytes, s->bytes);
	return s->set(v, &whole);
}

int32_t kvm_vm_state_get(void *handle, uint32_t section, void *buf, uint32_t capacity,
			 uint32_t *ret_size)
{
	struct vm *vm = handle;
	const struct vm_section *s = &vm_sections[0];
	union section whole = {.size = 0};
	int32_t r;

	if (section < sizeof(vm_sections) / sizeof(vm_sections[0]))
		s = &vm_sections[section];
	if (!s->get)
		return no_section(vm->host, section);
	r = capacity < s->bytes ? too_small(vm->host, section, s->bytes, capacity)
				: s->get(vm, &whole);
	if (!r) {
		whole.size = s->bytes;
		memcpy(buf, &whole, s->bytes);
	}
	if (!r || r == -ENOSPC)
		*ret_size = s->bytes;
	return r;
}

int32_t kvm_vm_state_set(void *handle, uint32_t section, const void *buf, uint32_t bytes)
{
	struct vm *vm = handle;
	const struct vm_section *s = &vm_sections[0];
	union section whole;

	if (section < sizeof(vm_sections) / sizeof(vm_sections[0]))
		s = &vm_sections[section];
	if (!s->set)
		return no_section(vm->host, section);
	read_section(&whole, buf, bytes, s->bytes);
	return s->set(vm, &whole);
}
