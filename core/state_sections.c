/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that take and load one section of x86_64/state.h each. */
#include <stdlib.h>
#include <string.h>

#include "state_steps.h"
#include "text.h"
#include "vm.h"

/* What a backend does not have it never will (docs/plugin-abi.md): it is asked once, for it makes a
 * text of that each time. */
static int get(struct state_work *work, uint32_t object, uint32_t i, uint32_t section, void *buf,
	       uint32_t capacity, uint32_t *ret_size)
{
	atomic_uint *lacks = &work->vm->lacks[object];
	int err;

	if (atomic_load_explicit(lacks, memory_order_relaxed) & 1u << section)
		return -ENOTSUP;
	err = object == STATE_OF_VM
		      ? impost_vm_get(work->vm, section, buf, capacity, ret_size)
		      : impost_vcpu_get(work->vcpus[i], section, buf, capacity, ret_size);
	if (err == -ENOTSUP)
		atomic_fetch_or_explicit(lacks, 1u << section, memory_order_relaxed);
	return err;
}

static int set(struct state_work *work, uint32_t object, uint32_t i, uint32_t section,
	       const void *buf, uint32_t bytes)
{
	return object == STATE_OF_VM ? impost_vm_set(work->vm, section, buf, bytes)
				     : impost_vcpu_set(work->vcpus[i], section, buf, bytes);
}

int state_get_section(struct state_work *work, uint32_t object, uint32_t i, uint32_t section,
		      void *ret, uint32_t room, uint32_t *ret_there)
{
	uint32_t size = 0;
	int err = get(work, object, i, section, work->scratch, STATE_SCRATCH, &size);

	if (err == -ENOTSUP || err == -ENOENT)
		return 0;
	if (err)
		return err;
	/* A backend of a later minor may know more of it. */
	abi_copy(ret, room, work->scratch, size < STATE_SCRATCH ? size : STATE_SCRATCH);
	memcpy(ret, &room, sizeof(room));
	*ret_there = 1;
	return 0;
}

int state_set_section(struct state_work *work, uint32_t object, uint32_t i, uint32_t section,
		      void *from, uint32_t bytes, uint32_t there)
{
	if (!there)
		return 0;
	memcpy(from, &bytes, sizeof(bytes));
	return set(work, object, i, section, from, bytes);
}

/* --- sections of a fixed length --- */

static struct state_vcpu *vcpu_of(struct state_work *work, uint32_t i)
{
	return &work->parts->vcpus[i];
}

#define VCPU_STEP(name, NAME)                                                                    \
	int take_##name(struct state_work *work, uint32_t i)                                     \
	{                                                                                        \
		struct state_vcpu *v = vcpu_of(work, i);                                         \
		return state_get_section(work, STATE_OF_VCPU, i, IMPOST_SECTION_##NAME, v->name, \
					 sizeof(v->name[0]), &v->n##name);                       \
	}                                                                                        \
	int load_##name(struct state_work *work, uint32_t i)                                     \
	{                                                                                        \
		struct state_vcpu *v = vcpu_of(work, i);                                         \
		return state_set_section(work, STATE_OF_VCPU, i, IMPOST_SECTION_##NAME, v->name, \
					 sizeof(v->name[0]), v->n##name);                        \
	}
VCPU_STEP(debugregs, DEBUGREGS)
VCPU_STEP(events, EVENTS)
VCPU_STEP(runstate, RUNSTATE)

/* What lies between the registers is nobody's, and not the same twice. */
int take_lapic(struct state_work *work, uint32_t i)
{
	struct state_vcpu *v = vcpu_of(work, i);
	struct impost_x86_lapic *lapic = v->lapic;
	int err = state_get_section(work, STATE_OF_VCPU, i, IMPOST_SECTION_LAPIC, lapic,
				    sizeof(*lapic), &v->nlapic);

	for (uint32_t at = 0; at < sizeof(lapic->regs); at += 16)
		memset(&lapic->regs[at + 4], 0, 12);
	return err;
}

int load_lapic(struct state_work *work, uint32_t i)
{
	struct state_vcpu *v = vcpu_of(work, i);

	return state_set_section(work, STATE_OF_VCPU, i, IMPOST_SECTION_LAPIC, v->lapic,
				 sizeof(v->lapic[0]), v->nlapic);
}

#define VM_STEP(name, NAME)                                                                     \
	int take_##name(struct state_work *work, uint32_t i)                                    \
	{                                                                                       \
		struct state_vm *vm = &work->parts->vm;                                         \
		return state_get_section(work, STATE_OF_VM, i, IMPOST_SECTION_##NAME, vm->name, \
					 sizeof(vm->name[0]), &vm->n##name);                    \
	}                                                                                       \
	int load_##name(struct state_work *work, uint32_t i)                                    \
	{                                                                                       \
		struct state_vm *vm = &work->parts->vm;                                         \
		return state_set_section(work, STATE_OF_VM, i, IMPOST_SECTION_##NAME, vm->name, \
					 sizeof(vm->name[0]), vm->n##name);                     \
	}
VM_STEP(pic, PIC)
VM_STEP(ioapic, IOAPIC)
VM_STEP(pit, PIT)

/* These two every vCPU has. */
#define REGISTER_STEP(name)                                                             \
	int take_##name(struct state_work *work, uint32_t i)                            \
	{                                                                               \
		return impost_vcpu_get_##name(work->vcpus[i], &vcpu_of(work, i)->name); \
	}                                                                               \
	int load_##name(struct state_work *work, uint32_t i)                            \
	{                                                                               \
		return impost_vcpu_set_##name(work->vcpus[i], &vcpu_of(work, i)->name); \
	}
REGISTER_STEP(regs)
REGISTER_STEP(sregs)

/* --- extended state --- */

static int no_memory(struct state_work *work)
{
	return impost_error_set(work->ctx, -ENOMEM, "no memory for a VM's state");
}

/* A backend says what cannot be of section WHAT. */
static int malformed(struct state_work *work, const char *what)
{
	return impost_error_set(work->ctx, -EIO,
				"backend %s: section %s has lengths that do not go together",
				impost_vm_backend(work->vm), what);
}

int take_xsave(struct state_work *work, uint32_t i)
{
	struct state_vcpu *v = vcpu_of(work, i);
	const struct impost_x86_xsave *x = work->scratch;
	struct state_xsave *ret = v->xsave;
	uint32_t size = 0;
	int err = impost_vcpu_get(work->vcpus[i], IMPOST_SECTION_XSAVE, work->scratch,
				  STATE_SCRATCH, &size);

	if (err == -ENOTSUP || err == -ENOENT)
		return 0;
	if (err)
		return err;
	if (size < sizeof(*x) || x->area_size > size - sizeof(*x) ||
	    x->area_size > STATE_XSAVE_MAX || x->ncomponents > IMPOST_X86_XCOMPONENTS)
		return malformed(work, "xsave");
	ret->area = malloc(x->area_size + 1);
	if (!ret->area)
		return no_memory(work);
	memcpy(ret->area, x->area, x->area_size);
	memcpy(ret->component, x->component, x->ncomponents * sizeof(x->component[0]));
	ret->ncomponents = x->ncomponents;
	ret->nbytes = x->area_size;
	ret->xcr0 = x->xcr0;
	v->nxsave = 1;
	return 0;
}

int load_xsave(struct state_work *work, uint32_t i)
{
	const struct state_xsave *from = vcpu_of(work, i)->xsave;
	struct impost_x86_xsave *x = work->scratch;

	if (!vcpu_of(work, i)->nxsave)
		return 0;
	memset(x, 0, sizeof(*x));
	x->size = (uint32_t)sizeof(*x) + from->nbytes;
	x->area_size = from->nbytes;
	x->xcr0 = from->xcr0;
	x->ncomponents = from->ncomponents;
	memcpy(x->component, from->component, from->ncomponents * sizeof(x->component[0]));
	if (from->nbytes)
		memcpy(x->area, from->area, from->nbytes);
	return impost_vcpu_set(work->vcpus[i], IMPOST_SECTION_XSAVE, x, x->size);
}

/* --- what has no neutral form --- */

static int copy_item(struct state_work *work, const uint8_t *at,
		     const struct impost_x86_opaque *head, struct state_opaque *ret)
{
	*ret = (struct state_opaque){.version = head->version, .nbytes = head->data_size};
	ret->data = malloc((size_t)head->data_size + 1);
	if (!ret->data)
		return no_memory(work);
	memcpy(ret->data, at + sizeof(*head), head->data_size);
	memcpy(ret->backend, head->backend, sizeof(head->backend));
	memcpy(ret->what, head->what, sizeof(head->what));
	return 0;
}

/* The items that lie, one after the other, in the SIZE bytes of the scratch. */
static int copy_items(struct state_work *work, uint32_t size, struct state_opaque *items,
		      uint32_t *count)
{
	const uint8_t *at = work->scratch;
	struct impost_x86_opaque head;

	for (; size; at += head.size, size -= head.size) {
		int err;

		if (size < sizeof(head) || *count == STATE_OPAQUES_MAX)
			return malformed(work, "opaque");
		memcpy(&head, at, sizeof(head));
		if (head.size < sizeof(head) || head.size > size ||
		    head.data_size > head.size - sizeof(head) || head.data_size > STATE_OPAQUE_MAX)
			return malformed(work, "opaque");
		err = copy_item(work, at, &head, &items[*count]);
		if (err)
			return err;
		++*count;
	}
	return 0;
}

static int take_opaque(struct state_work *work, uint32_t object, uint32_t i, uint32_t section,
		       struct state_opaque **ret_items, uint32_t *ret_count)
{
	uint32_t size = 0;
	int err = get(work, object, i, section, work->scratch, STATE_SCRATCH, &size);

	if (err == -ENOTSUP || err == -ENOENT)
		return 0;
	if (err)
		return err;
	*ret_items = calloc(STATE_OPAQUES_MAX, sizeof(**ret_items));
	if (!*ret_items)
		return no_memory(work);
	return copy_items(work, size, *ret_items, ret_count);
}

/* Writes ITEM at AT, and returns how many bytes it takes. */
static uint32_t put_item(const struct state_opaque *item, uint8_t *at)
{
	struct impost_x86_opaque head = {
		.size = (uint32_t)sizeof(head) + item->nbytes,
		.version = item->version,
		.data_size = item->nbytes,
	};

	memcpy(head.backend, item->backend, sizeof(head.backend));
	memcpy(head.what, item->what, sizeof(head.what));
	memcpy(at, &head, sizeof(head));
	if (item->nbytes)
		memcpy(at + sizeof(head), item->data, item->nbytes);
	return head.size;
}

static int load_opaque(struct state_work *work, uint32_t object, uint32_t i, uint32_t section,
		       const struct state_opaque *items, uint32_t count)
{
	const char *backend = impost_vm_backend(work->vm);
	uint32_t bytes = 0;

	for (uint32_t k = 0; k < count; k++) {
		if (strcmp(items[k].backend, backend) != 0)
			return impost_error_set(work->ctx, -ENOTSUP,
						"the state has \"%s\" of backend %s, which "
						"backend %s cannot read",
						items[k].what, items[k].backend, backend);
		bytes += put_item(&items[k], (uint8_t *)work->scratch + bytes);
	}
	return count ? set(work, object, i, section, work->scratch, bytes) : 0;
}

int take_vcpu_opaque(struct state_work *work, uint32_t i)
{
	struct state_vcpu *v = vcpu_of(work, i);

	return take_opaque(work, STATE_OF_VCPU, i, IMPOST_SECTION_VCPU_OPAQUE, &v->opaque,
			   &v->nopaque);
}

int load_vcpu_opaque(struct state_work *work, uint32_t i)
{
	const struct state_vcpu *v = vcpu_of(work, i);

	return load_opaque(work, STATE_OF_VCPU, i, IMPOST_SECTION_VCPU_OPAQUE, v->opaque,
			   v->nopaque);
}

int take_vm_opaque(struct state_work *work, uint32_t i)
{
	struct state_vm *vm = &work->parts->vm;

	return take_opaque(work, STATE_OF_VM, i, IMPOST_SECTION_VM_OPAQUE, &vm->opaque,
			   &vm->nopaque);
}

int load_vm_opaque(struct state_work *work, uint32_t i)
{
	const struct state_vm *vm = &work->parts->vm;

	return load_opaque(work, STATE_OF_VM, i, IMPOST_SECTION_VM_OPAQUE, vm->opaque, vm->nopaque);
}
