/* SPDX-License-Identifier: Apache-2.0 */
/* The sections of a VM's state. The controllers are stored and have no life of their own. */
#include "internal.h"

#include <string.h>

static bool is_controller(uint32_t section)
{
	return section == IMPOST_SECTION_PIC || section == IMPOST_SECTION_IOAPIC ||
	       section == IMPOST_SECTION_PIT;
}

static int32_t need_controller(const struct mock_vm *vm, uint32_t section)
{
	if (is_controller(section) && vm->irqchip != IMPOST_IRQCHIP_FULL)
		return mock_error(vm, -ENOENT,
				  "the VM has no PIC, I/O APIC and PIT: its irqchip is "
				  "not full");
	return 0;
}

static uint64_t host_tsc(const struct mock_vm *vm)
{
	return (uint64_t)((unsigned __int128)vm->clock_ns * MOCK_TSC_KHZ / 1000000);
}

static struct impost_x86_clock clock_of(const struct mock_vm *vm)
{
	return (struct impost_x86_clock){
		.size = sizeof(struct impost_x86_clock),
		.flags = IMPOST_X86_CLOCK_HOST_TSC | IMPOST_X86_CLOCK_STABLE,
		.ns = vm->clock_ns + vm->clock_offset,
		.host_tsc = host_tsc(vm),
	};
}

int32_t mock_vm_state_get(void *handle, uint32_t section, void *buf, uint32_t capacity,
			  uint32_t *ret_size)
{
	struct mock_vm *vm = handle;
	int32_t err = need_controller(vm, section);
	struct impost_x86_clock clock;

	if (err)
		return err;
	pthread_mutex_lock(&vm->lock);
	clock = clock_of(vm);
	switch (section) {
	case IMPOST_SECTION_PIC:
		err = mock_section_out(&vm->pic, sizeof(vm->pic), buf, capacity, ret_size);
		break;
	case IMPOST_SECTION_IOAPIC:
		err = mock_section_out(&vm->ioapic, sizeof(vm->ioapic), buf, capacity, ret_size);
		break;
	case IMPOST_SECTION_PIT:
		err = mock_section_out(&vm->pit, sizeof(vm->pit), buf, capacity, ret_size);
		break;
	case IMPOST_SECTION_CLOCK:
		err = mock_section_out(&clock, sizeof(clock), buf, capacity, ret_size);
		break;
	case IMPOST_SECTION_VM_OPAQUE:
		err = -ENOENT;
		if (vm->opaque)
			err = mock_section_out(vm->opaque, vm->opaque->size, buf, capacity,
					       ret_size);
		break;
	default:
		err = -ENOTSUP;
		break;
	}
	pthread_mutex_unlock(&vm->lock);
	return err ? mock_error(vm, err, "VM section %u: %s", section, strerror(-err)) : 0;
}

/* A divisor of 0 stands for 65536, and modes end at 5 (8254 data sheet); 0xff: not programmed. */
static int32_t check_pit(const struct mock_vm *vm, const struct impost_x86_pit *pit)
{
	unsigned i;

	if (pit->flags & ~(IMPOST_X86_PIT_HPET_LEGACY | IMPOST_X86_PIT_SPEAKER_ON))
		return mock_error(vm, -IMPOST_ESTATE, "PIT: unknown flags %#x", pit->flags);
	for (i = 0; i < 3; i++) {
		const struct impost_x86_pit_channel *c = &pit->channel[i];

		if (!c->count || c->count > 0x10000)
			return mock_error(
				vm, -IMPOST_ESTATE,
				"PIT channel %u: count = %u: 1 to 65536 (8254 data sheet)", i,
				c->count);
		if (c->mode > 5 && c->mode != 0xff)
			return mock_error(vm, -IMPOST_ESTATE,
					  "PIT channel %u: mode = %u: 0 to 5 (8254 data sheet)", i,
					  c->mode);
		if (c->rw_mode > 3 || c->bcd > 1 || c->gate > 1 || c->count_load_age_ns < 0)
			return mock_error(
				vm, -IMPOST_ESTATE,
				"PIT channel %u: access %u (0 to 3), BCD %u or gate %u (0 "
				"or 1), or age %lld ns cannot be (8254 data sheet)",
				i, c->rw_mode, c->bcd, c->gate, (long long)c->count_load_age_ns);
	}
	return 0;
}

/* Members with fewer values than a byte has (8259A data sheet). */
static const struct {
	size_t offset;
	const char *name;
	uint8_t highest;
} pic_bounds[] = {
#define BOUND(member, highest)                                                 \
	{                                                                      \
		offsetof(struct impost_x86_pic_chip, member), #member, highest \
	}
	BOUND(priority_add, 7),	      BOUND(read_reg_select, 1),      BOUND(poll, 1),
	BOUND(special_mask, 1),	      BOUND(init_state, 3),	      BOUND(auto_eoi, 1),
	BOUND(rotate_on_auto_eoi, 1), BOUND(special_fully_nested, 1), BOUND(init4, 1),
#undef BOUND
};

static int32_t check_pic(const struct mock_vm *vm, const struct impost_x86_pic *pic)
{
	for (size_t i = 0; i < 2 * ARRAY_LEN(pic_bounds); i++) {
		const uint8_t *chip = (const uint8_t *)&pic->chip[i % 2];
		uint8_t value = chip[pic_bounds[i / 2].offset];

		if (value > pic_bounds[i / 2].highest)
			return mock_error(vm, -IMPOST_ESTATE,
					  "PIC %zu: %s = %u: 0 to %u (8259A data sheet)", i % 2,
					  pic_bounds[i / 2].name, value, pic_bounds[i / 2].highest);
	}
	return 0;
}

static int32_t check_ioapic(const struct mock_vm *vm, const struct impost_x86_ioapic *ioapic)
{
	unsigned i;

	if (ioapic->id > 15)
		return mock_error(vm, -IMPOST_ESTATE,
				  "I/O APIC: id = %u: it has 4 bits (82093AA data sheet, 3.2.1)",
				  ioapic->id);
	for (i = 0; i < IMPOST_X86_IOAPIC_PINS; i++)
		if ((ioapic->redirect[i] >> 8 & 7) == 3 || (ioapic->redirect[i] >> 8 & 7) == 6)
			return mock_error(
				vm, -IMPOST_ESTATE,
				"I/O APIC: redirection entry %u = %#llx: delivery modes 3 "
				"and 6 are reserved (82093AA data sheet, 3.2.4)",
				i, (unsigned long long)ioapic->redirect[i]);
	return 0;
}

static int32_t check_clock(const struct mock_vm *vm, const struct impost_x86_clock *clock)
{
	const uint32_t known = IMPOST_X86_CLOCK_REALTIME | IMPOST_X86_CLOCK_HOST_TSC |
			       IMPOST_X86_CLOCK_STABLE;

	if (clock->flags & ~known)
		return mock_error(vm, -EINVAL, "clock: unknown flags %#x", clock->flags);
	return 0;
}

/* The guest's clock; with HOST_TSC it was so at that moment, and has gone on since. */
static void set_clock(struct mock_vm *vm, const struct impost_x86_clock *clock)
{
	uint64_t ns = clock->ns;

	/* It may lie ahead of the mock's own. */
	if (clock->flags & IMPOST_X86_CLOCK_HOST_TSC)
		ns += (uint64_t)((__int128)(int64_t)(host_tsc(vm) - clock->host_tsc) * 1000000 /
				 MOCK_TSC_KHZ);
	vm->clock_offset = ns - vm->clock_ns;
}

int32_t mock_vm_state_set(void *handle, uint32_t section, const void *buf, uint32_t bytes)
{
	union {
		struct impost_x86_pic pic;
		struct impost_x86_ioapic ioapic;
		struct impost_x86_pit pit;
		struct impost_x86_clock clock;
	} in;
	static const uint32_t sizes[] = {
		[IMPOST_SECTION_PIC] = sizeof(in.pic),
		[IMPOST_SECTION_IOAPIC] = sizeof(in.ioapic),
		[IMPOST_SECTION_PIT] = sizeof(in.pit),
		[IMPOST_SECTION_CLOCK] = sizeof(in.clock),
	};
	struct mock_vm *vm = handle;
	int32_t err = need_controller(vm, section);

	if (err)
		return err;
	if (section == IMPOST_SECTION_VM_OPAQUE) {
		pthread_mutex_lock(&vm->lock);
		err = mock_opaque_in(vm, &vm->opaque, buf, bytes);
		pthread_mutex_unlock(&vm->lock);
		return err;
	}
	if (!section || section >= ARRAY_LEN(sizes))
		return mock_error(vm, -ENOTSUP, "the mock has no VM section %u", section);
	err = mock_section_in(vm, &in, sizes[section], buf, bytes);
	if (!err && section == IMPOST_SECTION_PIC)
		err = check_pic(vm, &in.pic);
	if (!err && section == IMPOST_SECTION_PIT)
		err = check_pit(vm, &in.pit);
	if (!err && section == IMPOST_SECTION_IOAPIC)
		err = check_ioapic(vm, &in.ioapic);
	if (!err && section == IMPOST_SECTION_CLOCK)
		err = check_clock(vm, &in.clock);
	if (err)
		return err;
	pthread_mutex_lock(&vm->lock);
	if (section == IMPOST_SECTION_PIC)
		vm->pic = in.pic;
	else if (section == IMPOST_SECTION_IOAPIC)
		vm->ioapic = in.ioapic;
	else if (section == IMPOST_SECTION_PIT)
		vm->pit = in.pit;
	else
		set_clock(vm, &in.clock);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}
