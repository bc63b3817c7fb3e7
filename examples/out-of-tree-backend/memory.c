/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as the guest sees it: through its page tables; and what lies outside, by exits. */
#include "toy.h"

#define PF	    14u /* page fault, and its error code (SDM vol. 3, 4.7) */
#define PF_WRITE    2u
#define PF_FETCH    16u

#define PTE_PRESENT UINT64_C(1)
#define PTE_WRITE   UINT64_C(2)
#define PTE_LARGE   UINT64_C(0x80)
#define PTE_NX	    (UINT64_C(1) << 63)
#define PTE_ADDRESS (((UINT64_C(1) << TOY_PHYS) - 1) & ~UINT64_C(0xfff))

bool toy_is_long(const struct toy_vcpu *v)
{
	return (v->sregs.efer & EFER_LMA) && (v->sregs.cs.access & IMPOST_X86_AR_L);
}

enum toy_next toy_fault(struct toy_vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	v->fault.vector = vector;
	v->fault.has_error = has_error;
	v->fault.error = error;
	return TOY_FAULT;
}

/* --- paging --- */

static bool read_entry(struct toy_vm *vm, uint64_t gpa, uint64_t *ret_entry)
{
	const struct toy_slot *slot = toy_slot_at(vm, gpa);

	if (slot)
		memcpy(ret_entry, slot->hva + (gpa - slot->gpa), sizeof(*ret_entry));
	return slot != NULL;
}

/*
 * Four levels (SDM vol. 3, 4.5), for an access of PF_WRITE, PF_FETCH or 0. The toy knows no user
 * mode, and leaves accessed and dirty bits alone.
 */
static bool walk(struct toy_vcpu *v, uint64_t linear, uint32_t access, uint64_t *ret_gpa)
{
	bool needs_w = access == PF_WRITE && (v->sregs.cr0 & CR0_WP);
	bool needs_x = access == PF_FETCH && (v->sregs.efer & EFER_NXE);
	uint64_t table = v->sregs.cr3 & PTE_ADDRESS;

	if (!(v->sregs.cr0 & CR0_PG)) {
		*ret_gpa = linear;
		return true;
	}
	if ((uint64_t)((int64_t)(linear << 16) >> 16) != linear)
		return false;
	for (unsigned shift = 39;; shift -= 9) {
		uint64_t entry, below = (UINT64_C(1) << shift) - 1;

		if (!read_entry(v->vm, table + ((linear >> shift) & 511) * 8, &entry) ||
		    !(entry & PTE_PRESENT) || (needs_w && !(entry & PTE_WRITE)) ||
		    (needs_x && (entry & PTE_NX)))
			return false;
		table = entry & PTE_ADDRESS;
		if (shift == 12 || (shift < 39 && (entry & PTE_LARGE))) {
			*ret_gpa = (table & ~below) | (linear & below);
			return true;
		}
	}
}

int32_t toy_translate(void *vcpu, uint64_t gva, uint64_t *ret_gpa)
{
	struct toy_vcpu *v = vcpu;
	bool found;

	pthread_rwlock_rdlock(&v->vm->slots_lock);
	found = walk(v, gva, 0, ret_gpa);
	pthread_rwlock_unlock(&v->vm->slots_lock);
	if (found)
		return 0;
	return impost_host_error(v->vm->host, -EFAULT, "%#llx is not mapped",
				 (unsigned long long)gva);
}

unsigned toy_fetch(struct toy_vcpu *v, uint64_t linear, uint8_t *ret_code, unsigned bytes)
{
	unsigned done = 0;

	while (done < bytes) {
		unsigned room = TOY_PAGE - (unsigned)((linear + done) % TOY_PAGE);
		unsigned part = bytes - done < room ? bytes - done : room;
		const struct toy_slot *slot;
		uint64_t gpa;

		if (!walk(v, linear + done, PF_FETCH, &gpa) || !(slot = toy_slot_at(v->vm, gpa)))
			break;
		memcpy(ret_code + done, slot->hva + (gpa - slot->gpa), part);
		done += part;
	}
	return done;
}

/* --- what the host answers --- */

/* The next answer, if it is for ADDRESS. It is given even if there is memory by now. */
static bool answered(struct toy_vcpu *v, uint64_t address, void *data, unsigned bytes, uint8_t dir)
{
	if (v->at == v->naccesses || v->access[v->at].address != address)
		return false;
	if (dir == IMPOST_EXIT_READ)
		memcpy(data, v->access[v->at].data, bytes);
	v->at++;
	return true;
}

/* Asks the host: DATA lie in the access, where the answer comes too. */
static enum toy_next ask(struct toy_vcpu *v, uint32_t kind, uint64_t address, const void *data,
			 unsigned bytes, uint8_t dir)
{
	struct toy_access *access = &v->access[v->naccesses];

	if (v->naccesses == ARRAY_LEN(v->access))
		return toy_give_up(v, "an instruction with too many accesses to the host");
	*access = (struct toy_access){.address = address};
	if (dir == IMPOST_EXIT_WRITE)
		memcpy(access->data, data, bytes);
	v->pending = true;
	toy_exit(v, kind);
	if (kind == IMPOST_EXIT_IO)
		v->exit.u.io = (struct impost_exit_io){.port = (uint16_t)address,
						       .size = (uint8_t)bytes,
						       .dir = dir,
						       .count = 1,
						       .data = access->data};
	else
		v->exit.u.mmio = (struct impost_exit_mmio){.gpa = address,
							   .size = (uint8_t)bytes,
							   .dir = dir,
							   .count = 1,
							   .data = access->data};
	return TOY_EXIT;
}

enum toy_next toy_port(struct toy_vcpu *v, uint16_t port, void *data, unsigned bytes, uint8_t dir)
{
	if (answered(v, port, data, bytes, dir))
		return TOY_GO_ON;
	return ask(v, IMPOST_EXIT_IO, port, data, bytes, dir);
}

/* --- accesses --- */

/* Whole and at once where the size and the address allow it, as a processor's (SDM vol. 3, 8.1.1).
 */
static void copy(void *to, const void *from, unsigned bytes)
{
	switch (bytes) {
	case 2:
		memcpy(to, from, 2);
		break;
	case 4:
		memcpy(to, from, 4);
		break;
	case 8:
		memcpy(to, from, 8);
		break;
	default:
		memcpy(to, from, bytes);
	}
}

/* BYTES within a page. */
static enum toy_next access_page(struct toy_vcpu *v, uint64_t gpa, void *data, unsigned bytes,
				 uint8_t dir)
{
	struct toy_slot *slot;

	if (answered(v, gpa, data, bytes, dir))
		return TOY_GO_ON;
	slot = toy_slot_at(v->vm, gpa);
	if (!slot || (dir == IMPOST_EXIT_WRITE && (slot->flags & IMPOST_SLOT_READONLY)))
		return ask(v, IMPOST_EXIT_MMIO, gpa, data, bytes, dir);
	if (dir == IMPOST_EXIT_READ) {
		copy(data, slot->hva + (gpa - slot->gpa), bytes);
	} else {
		copy(slot->hva + (gpa - slot->gpa), data, bytes);
		toy_slot_written(slot, gpa);
	}
	return TOY_GO_ON;
}

/* An access over the border of two pages is two. */
static enum toy_next access_linear(struct toy_vcpu *v, uint64_t linear, void *data, unsigned bytes,
				   uint8_t dir)
{
	uint32_t access = dir == IMPOST_EXIT_WRITE ? PF_WRITE : 0;
	enum toy_next next = TOY_GO_ON;
	unsigned done = 0;

	while (done < bytes && next == TOY_GO_ON) {
		uint64_t gpa, at = linear + done;
		unsigned room = TOY_PAGE - (unsigned)(at % TOY_PAGE);
		unsigned part = bytes - done < room ? bytes - done : room;

		if (!walk(v, at, access, &gpa)) {
			v->sregs.cr2 = at;
			return toy_fault(v, PF, true, access);
		}
		next = access_page(v, gpa, (uint8_t *)data + done, part, dir);
		done += part;
	}
	return next;
}

enum toy_next toy_load(struct toy_vcpu *v, uint64_t linear, void *data, unsigned bytes)
{
	return access_linear(v, linear, data, bytes, IMPOST_EXIT_READ);
}

enum toy_next toy_store(struct toy_vcpu *v, uint64_t linear, const void *data, unsigned bytes)
{
	return access_linear(v, linear, (void *)(uintptr_t)data, bytes, IMPOST_EXIT_WRITE);
}
