/* SPDX-License-Identifier: Apache-2.0 */
/* The sections of a vCPU's state: got as they are kept, set when the rules allow. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#include "rules.h"

#define ESTATE (-IMPOST_ESTATE)

int32_t mock_section_out(const void *from, uint32_t have, void *buf, uint32_t capacity,
			 uint32_t *ret_size)
{
	*ret_size = have;
	if (have > capacity)
		return -ENOSPC;
	memcpy(buf, from, have);
	return 0;
}

int32_t mock_section_in(const struct mock_vm *vm, void *to, uint32_t known, const void *buf,
			uint32_t bytes)
{
	uint32_t size = 0;

	if (bytes >= sizeof(size))
		memcpy(&size, buf, sizeof(size));
	if (size < 8 || size > bytes)
		return mock_error(vm, -EINVAL, "a section of %u bytes says that its size is %u",
				  bytes, size);
	memset(to, 0, known);
	memcpy(to, buf, size < known ? size : known);
	memcpy(to, &known, sizeof(known));
	return 0;
}

int32_t mock_opaque_in(const struct mock_vm *vm, struct impost_x86_opaque **opaque, const void *buf,
		       uint32_t bytes)
{
	struct impost_x86_opaque *copy, o = {0};

	memcpy(&o, buf, bytes < sizeof(o) ? bytes : sizeof(o));
	if (bytes < sizeof(o) || o.size < sizeof(o) || o.size > bytes ||
	    o.data_size > o.size - sizeof(o))
		return mock_error(vm, -EINVAL,
				  "an opaque section of %u bytes has other sizes inside", bytes);
	if (strncmp(o.backend, "mock", sizeof(o.backend)) || o.version != 1)
		return mock_error(
			vm, -ENOTSUP,
			"opaque state of %.16s, version %u: the mock reads its own version "
			"1 alone",
			o.backend, o.version);
	copy = malloc(o.size);
	if (!copy)
		return mock_error(vm, -ENOMEM, "out of memory");
	memcpy(copy, buf, o.size);
	free(*opaque);
	*opaque = copy;
	return 0;
}

/* --- setting: each takes a section in, judges it, and keeps it --- */

/*
 * The APIC id of V, if it is too large to be told in xAPIC mode, where 255 is all CPUs (SDM vol. 3,
 * 11.6.2.1), and there is a local APIC; else 0.
 */
static uint32_t hidden_id(const struct mock_vcpu *v)
{
	return v->id > 254 && v->vm->irqchip != IMPOST_IRQCHIP_NONE ? v->id : 0;
}

/* The guest as it would be; sections under test are put in by the caller. */
static struct mock_guest guest_of(struct mock_vcpu *v)
{
	return (struct mock_guest){
		.regs = &v->regs,
		.sregs = &v->sregs,
		.debugregs = &v->debugregs,
		.events = &v->events,
		.runstate = &v->runstate,
		.xsave = mock_vcpu_xsave(v),
		.area = mock_vcpu_xsave(v)->area,
		.phys = ~((UINT64_C(1) << mock_cpuid_phys_bits(v)) - 1),
		.v86 = v->regs.rflags & RFLAGS_VM,
		.la57 = mock_cpuid_has_la57(v),
		.hidden_id = hidden_id(v),
	};
}

const char *mock_entry_fault(struct mock_vcpu *v)
{
	const struct mock_guest g = guest_of(v);
	unsigned all = RULES_REGS | RULES_SREGS | RULES_SEGMENTS | RULES_DEBUGREGS | RULES_EVENTS |
		       RULES_RUNSTATE | RULES_XSAVE | RULES_LAPIC | RULES_ENTRY;

	return mock_rules_obeyed(&g, all, v->text, sizeof(v->text)) ? NULL : v->text;
}

static int32_t judge(const struct mock_vcpu *v, const struct mock_guest *g, unsigned sets)
{
	char text[512];

	if (mock_rules_obeyed(g, sets, text, sizeof(text)))
		return 0;
	return mock_error(v->vm, ESTATE, "vCPU %u: %s", v->id, text);
}

static int32_t set_regs(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	struct mock_guest g = guest_of(v);
	struct impost_x86_regs regs;
	int32_t err = mock_section_in(v->vm, &regs, sizeof(regs), buf, bytes);

	g.regs = &regs;
	if (!err)
		err = judge(v, &g, RULES_REGS);
	if (!err)
		v->regs = regs;
	return err;
}

/* Whether RFLAGS.VM will be set is not known yet: segments made for that mode are judged by it. */
static int32_t set_sregs(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	struct mock_guest g = guest_of(v);
	struct impost_x86_sregs sregs;
	int32_t err = mock_section_in(v->vm, &sregs, sizeof(sregs), buf, bytes);

	g.sregs = &sregs;
	g.v86 = mock_rules_v86(&sregs);
	if (!err)
		err = judge(v, &g, RULES_SREGS | RULES_SEGMENTS);
	if (!err)
		v->sregs = sregs;
	return err;
}

static int32_t set_debugregs(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	struct mock_guest g = guest_of(v);
	struct impost_x86_debugregs regs;
	int32_t err = mock_section_in(v->vm, &regs, sizeof(regs), buf, bytes);

	g.debugregs = &regs;
	if (!err)
		err = judge(v, &g, RULES_DEBUGREGS);
	if (!err)
		v->debugregs = regs;
	return err;
}

/* What the flags do not vouch for reads as nothing. */
static void drop_unknown(struct impost_x86_events *e)
{
	if (!(e->flags & IMPOST_X86_EVENTS_NMI_PENDING))
		e->nmi.pending = 0;
	if (!(e->flags & IMPOST_X86_EVENTS_SIPI))
		e->sipi_vector = 0;
	if (!(e->flags & IMPOST_X86_EVENTS_SHADOW))
		e->interrupt.shadow = 0;
	if (!(e->flags & IMPOST_X86_EVENTS_SMM))
		memset(&e->smi, 0, sizeof(e->smi));
	if (!(e->flags & IMPOST_X86_EVENTS_PAYLOAD)) {
		e->exception.pending = 0;
		e->exception.has_payload = 0;
		e->exception.payload = 0;
	}
	if (!(e->flags & IMPOST_X86_EVENTS_TRIPLE_FAULT))
		e->triple_fault_pending = 0;
}

static int32_t set_events(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	struct mock_guest g = guest_of(v);
	struct impost_x86_events events;
	int32_t err = mock_section_in(v->vm, &events, sizeof(events), buf, bytes);

	if (err)
		return err;
	drop_unknown(&events);
	if (events.flags & IMPOST_X86_EVENTS_WAITING && events.waiting &&
	    v->vm->irqchip != IMPOST_IRQCHIP_NONE)
		return mock_error(v->vm, -ENOTSUP,
				  "vCPU %u: vector %u waits: that is for a VM without an irqchip",
				  v->id, events.waiting_vector);
	if (events.smi.smm || events.smi.pending)
		return mock_error(v->vm, -ENOTSUP, "vCPU %u: the mock's CPU has no SMM", v->id);
	g.events = &events;
	err = judge(v, &g, RULES_EVENTS);
	if (err)
		return err;
	if (events.flags & IMPOST_X86_EVENTS_WAITING)
		v->vector = events.waiting ? events.waiting_vector : MOCK_NO_VECTOR;
	v->events = events;
	return 0;
}

static int32_t set_runstate(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	struct mock_guest g = guest_of(v);
	struct impost_x86_runstate state;
	int32_t err = mock_section_in(v->vm, &state, sizeof(state), buf, bytes);

	g.runstate = &state;
	if (!err)
		err = judge(v, &g, RULES_RUNSTATE);
	if (!err)
		v->runstate = state;
	return err;
}

/* In x2APIC mode the id is the hardware's, and read-only (SDM vol. 3, 11.12.5.1). */
static int32_t set_lapic(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	const struct mock_guest g = guest_of(v);
	struct impost_x86_lapic lapic;
	uint32_t id;
	int32_t err;

	if (v->vm->irqchip == IMPOST_IRQCHIP_NONE)
		return mock_error(v->vm, -ENOENT, "vCPU %u has no local APIC: irqchip none", v->id);
	err = mock_section_in(v->vm, &lapic, sizeof(lapic), buf, bytes);
	if (err)
		return err;
	err = judge(v, &g, RULES_LAPIC);
	if (err)
		return err;
	memcpy(&id, lapic.regs + 0x20, sizeof(id));
	if ((v->sregs.apic_base & APIC_EXTD) && id != v->id)
		return mock_error(v->vm, ESTATE,
				  "vCPU %u: x2APIC ID = %#x: it is read-only and the vCPU's id "
				  "(SDM vol. 3, 11.12.5.1)",
				  v->id, id);
	v->lapic = lapic;
	return 0;
}

static int32_t set_tsc(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	struct impost_x86_tsc tsc;
	uint64_t now = atomic_load(&v->vm->clock_ns);
	uint64_t value;
	int32_t err = mock_section_in(v->vm, &tsc, sizeof(tsc), buf, bytes);

	if (err)
		return err;
	if (tsc.flags & ~IMPOST_X86_TSC_HOST)
		return mock_error(v->vm, -EINVAL, "vCPU %u: TSC: unknown flags %#x", v->id,
				  tsc.flags);
	if (tsc.khz)
		v->tsc_khz = tsc.khz;
	value = tsc.value;
	if (tsc.flags & IMPOST_X86_TSC_HOST) {
		/* The mock's host TSC is its clock; the guest's has run at its own rate since, or
		 * has so far to go until then. */
		unsigned __int128 host = (unsigned __int128)now * MOCK_TSC_KHZ / 1000000;
		__int128 gone = (int64_t)((uint64_t)host - tsc.host_tsc);

		value += (uint64_t)(gone * v->tsc_khz / MOCK_TSC_KHZ);
	}
	mock_vcpu_set_tsc(v, value);
	return 0;
}

static int32_t check_xsave_sizes(const struct mock_vcpu *v, const struct impost_x86_xsave *x,
				 uint32_t bytes)
{
	uint32_t i;

	if (bytes < sizeof(*x) || x->size > bytes || x->size < sizeof(*x) ||
	    x->area_size > x->size - sizeof(*x) || x->area_size < 576 ||
	    x->ncomponents > IMPOST_X86_XCOMPONENTS)
		return mock_error(
			v->vm, -EINVAL,
			"vCPU %u: an XSAVE section of %u bytes has other sizes inside, or "
			"an area below 576 bytes",
			v->id, bytes);
	for (i = 0; i < x->ncomponents; i++) {
		const struct impost_x86_xcomponent *c = &x->component[i];

		if (c->id < 2 || c->offset < 576 || c->offset > x->area_size ||
		    c->bytes > x->area_size - c->offset)
			return mock_error(v->vm, -EINVAL,
					  "vCPU %u: XSAVE component %u lies outside its area",
					  v->id, c->id);
	}
	return 0;
}

/* AVX is where the section's own table says. NULL: it is not in it. */
static const struct impost_x86_xcomponent *find_avx(const struct impost_x86_xsave *x)
{
	uint32_t i;

	for (i = 0; i < x->ncomponents; i++)
		if (x->component[i].id == 2)
			return &x->component[i];
	return NULL;
}

/* Which components are kept, from a section whose head is X and whose area is at FROM. */
static void keep_xsave(struct mock_vcpu *v, const struct impost_x86_xsave *x,
		       const struct impost_x86_xcomponent *avx, const uint8_t *from)
{
	struct impost_x86_xsave *own = mock_vcpu_xsave(v);

	memset(own->area, 0, MOCK_XSAVE_AREA);
	if (!x->xcr0) { /* only the legacy region counts */
		memcpy(own->area, from, 512);
		own->area[512] = 3;
		own->xcr0 = 1;
		return;
	}
	memcpy(own->area, from, 576);
	if (avx && avx->bytes == 256)
		memcpy(own->area + 576, from + avx->offset, 256);
	own->xcr0 = x->xcr0;
}

static int32_t set_xsave(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	const struct impost_x86_xcomponent *avx;
	struct mock_guest g = guest_of(v);
	struct impost_x86_xsave x = {0};
	bool wants_avx;
	int32_t err;

	memcpy(&x, buf, bytes < sizeof(x) ? bytes : sizeof(x));
	err = check_xsave_sizes(v, &x, bytes);
	if (err)
		return err;
	g.xsave = &x;
	g.area = (const uint8_t *)buf + sizeof(x);
	err = judge(v, &g, RULES_XSAVE);
	if (err)
		return err;
	/* A guest that has switched AVX off in XCR0 can still have its registers' contents. */
	avx = find_avx(&x);
	wants_avx = (x.xcr0 & 4) || (x.xcr0 && (g.area[512] & 4));
	if (wants_avx && (!avx || avx->bytes != 256))
		return mock_error(
			v->vm, ESTATE,
			"vCPU %u: XCR0 = %#llx, XSTATE_BV = %#x: AVX needs a component of "
			"256 bytes (SDM vol. 1, 13.4.3)",
			v->id, (unsigned long long)x.xcr0, g.area[512]);
	keep_xsave(v, &x, avx, g.area);
	return 0;
}

static int32_t (*const setters[])(struct mock_vcpu *v, const void *buf, uint32_t bytes) = {
	[IMPOST_SECTION_REGS] = set_regs,
	[IMPOST_SECTION_SREGS] = set_sregs,
	[IMPOST_SECTION_XSAVE] = set_xsave,
	[IMPOST_SECTION_DEBUGREGS] = set_debugregs,
	[IMPOST_SECTION_LAPIC] = set_lapic,
	[IMPOST_SECTION_EVENTS] = set_events,
	[IMPOST_SECTION_RUNSTATE] = set_runstate,
	[IMPOST_SECTION_TSC] = set_tsc,
	[IMPOST_SECTION_VCPU_OPAQUE] = mock_opaque_set,
};

int32_t mock_state_set(void *handle, uint32_t section, const void *buf, uint32_t bytes)
{
	struct mock_vcpu *v = handle;
	int32_t err;

	if (section >= ARRAY_LEN(setters) || !setters[section])
		return mock_error(v->vm, -ENOTSUP, "the mock has no vCPU section %u", section);
	err = setters[section](v, buf, bytes);
	if (!err)
		v->checked = false;
	return err;
}

/* --- getting --- */

static struct impost_x86_tsc tsc_of(const struct mock_vcpu *v)
{
	uint64_t now = atomic_load(&v->vm->clock_ns);

	return (struct impost_x86_tsc){
		.size = sizeof(struct impost_x86_tsc),
		.flags = IMPOST_X86_TSC_HOST,
		.value = mock_vcpu_tsc(v),
		.host_tsc = (uint64_t)((unsigned __int128)now * MOCK_TSC_KHZ / 1000000),
		.khz = v->tsc_khz,
	};
}

/* A section's place and length; not of the opaque one. -ENOENT: there is nothing in it. */
static int32_t find_section(struct mock_vcpu *v, uint32_t section, struct impost_x86_tsc *tsc,
			    const void **ret_from, uint32_t *ret_have)
{
	const struct {
		const void *from;
		uint32_t have;
	} table[] = {
		[IMPOST_SECTION_REGS] = {&v->regs, sizeof(v->regs)},
		[IMPOST_SECTION_SREGS] = {&v->sregs, sizeof(v->sregs)},
		[IMPOST_SECTION_XSAVE] = {v->xsave, sizeof(v->xsave)},
		[IMPOST_SECTION_DEBUGREGS] = {&v->debugregs, sizeof(v->debugregs)},
		[IMPOST_SECTION_LAPIC] = {&v->lapic, sizeof(v->lapic)},
		[IMPOST_SECTION_EVENTS] = {&v->events, sizeof(v->events)},
		[IMPOST_SECTION_RUNSTATE] = {&v->runstate, sizeof(v->runstate)},
		[IMPOST_SECTION_TSC] = {tsc, sizeof(*tsc)},
	};

	if (section >= ARRAY_LEN(table) || !table[section].from)
		return mock_error(v->vm, -ENOTSUP, "the mock has no vCPU section %u", section);
	if (section == IMPOST_SECTION_LAPIC && v->vm->irqchip == IMPOST_IRQCHIP_NONE)
		return mock_error(v->vm, -ENOENT, "vCPU %u has no local APIC: irqchip none", v->id);
	*ret_from = table[section].from;
	*ret_have = table[section].have;
	return 0;
}

int32_t mock_state_get(void *handle, uint32_t section, void *buf, uint32_t capacity,
		       uint32_t *ret_size)
{
	struct mock_vcpu *v = handle;
	struct impost_x86_tsc tsc = tsc_of(v);
	const void *from = NULL;
	uint32_t have = 0;
	int32_t err;

	if (v->pending)
		return mock_error(v->vm, -EBUSY, "vCPU %u: I/O is pending: complete it first",
				  v->id);
	if (section == IMPOST_SECTION_VCPU_OPAQUE)
		return mock_opaque_get(v, buf, capacity, ret_size);
	err = find_section(v, section, &tsc, &from, &have);
	if (err)
		return err;
	v->events.flags = IMPOST_X86_EVENTS_NMI_PENDING | IMPOST_X86_EVENTS_SIPI |
			  IMPOST_X86_EVENTS_SHADOW | IMPOST_X86_EVENTS_PAYLOAD |
			  IMPOST_X86_EVENTS_TRIPLE_FAULT | IMPOST_X86_EVENTS_WAITING;
	v->events.waiting = v->vector != MOCK_NO_VECTOR;
	v->events.waiting_vector = v->events.waiting ? (uint8_t)v->vector : 0;
	err = mock_section_out(from, have, buf, capacity, ret_size);
	return err ? mock_error(v->vm, err, "section %u has %u bytes", section, have) : 0;
}
