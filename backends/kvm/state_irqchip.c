/* SPDX-License-Identifier: Apache-2.0 */
/* The interrupt controllers and the timer that a VM with the full irqchip has in the kernel. */
#include <string.h>
#include <time.h>

#include "internal.h"

static int32_t need_full(struct vm *vm)
{
	if (vm->irqchip == IMPOST_IRQCHIP_FULL)
		return kvm_irqchip_need(vm);
	return impost_host_error(vm->host, -ENOENT,
				 "this VM has no PIC, I/O APIC and PIT in the kernel (irqchip is "
				 "not full)");
}

/* --- PIC --- */

#define SAME(ours, kernels)                                            \
	static_assert(offsetof(struct impost_x86_pic_chip, ours) ==    \
			      offsetof(struct kvm_pic_state, kernels), \
		      #ours)
SAME(last_irr, last_irr);
SAME(irr, irr);
SAME(imr, imr);
SAME(isr, isr);
SAME(priority_add, priority_add);
SAME(irq_base, irq_base);
SAME(read_reg_select, read_reg_select);
SAME(poll, poll);
SAME(special_mask, special_mask);
SAME(init_state, init_state);
SAME(auto_eoi, auto_eoi);
SAME(rotate_on_auto_eoi, rotate_on_auto_eoi);
SAME(special_fully_nested, special_fully_nested_mode);
SAME(init4, init4);
SAME(elcr, elcr);
SAME(elcr_mask, elcr_mask);
static_assert(sizeof(struct impost_x86_pic_chip) == sizeof(struct kvm_pic_state), "PIC");

/* Members with fewer values than a byte has; the kernel takes anything. */
static const struct {
	uint8_t offset, highest;
	const char *name;
} pic_bounds[] = {
#define BOUND(member, highest)                                                 \
	{                                                                      \
		offsetof(struct impost_x86_pic_chip, member), highest, #member \
	}
	BOUND(priority_add, 7),	      BOUND(read_reg_select, 1), BOUND(poll, 1),
	BOUND(special_mask, 1),	      BOUND(init_state, 3),	 BOUND(auto_eoi, 1),
	BOUND(rotate_on_auto_eoi, 1), BOUND(init4, 1),		 BOUND(special_fully_nested, 1),
#undef BOUND
};

static const uint32_t pic_ids[2] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE};

int32_t kvm_pic_get(struct vm *vm, void *buf)
{
	struct impost_x86_pic *pic = buf;
	int32_t r = need_full(vm);

	for (int i = 0; i < 2 && !r; i++) {
		struct kvm_irqchip chip = {.chip_id = pic_ids[i]};

		r = KVM_IOCTL(vm->host, vm->fd, KVM_GET_IRQCHIP, &chip);
		memcpy(&pic->chip[i], &chip.chip.pic, sizeof(pic->chip[i]));
	}
	return r;
}

static int32_t pic_check(const struct vm *vm, const struct impost_x86_pic *pic)
{
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < sizeof(pic_bounds) / sizeof(pic_bounds[0]); k++) {
			uint8_t value = ((const uint8_t *)&pic->chip[i])[pic_bounds[k].offset];

			if (value > pic_bounds[k].highest)
				return impost_host_error(vm->host, -IMPOST_ESTATE,
							 "PIC %d: %s is %u, above %u", i,
							 pic_bounds[k].name, value,
							 pic_bounds[k].highest);
		}
	return 0;
}

int32_t kvm_pic_set(struct vm *vm, const void *buf)
{
	const struct impost_x86_pic *pic = buf;
	int32_t r = need_full(vm);

	if (!r)
		r = pic_check(vm, pic);
	for (int i = 0; i < 2 && !r; i++) {
		struct kvm_irqchip chip = {.chip_id = pic_ids[i]};

		memcpy(&chip.chip.pic, &pic->chip[i], sizeof(chip.chip.pic));
		r = KVM_IOCTL(vm->host, vm->fd, KVM_SET_IRQCHIP, &chip);
	}
	return r;
}

/* --- I/O APIC --- */

static_assert(IMPOST_X86_IOAPIC_PINS == KVM_IOAPIC_NUM_PINS, "pins");

int32_t kvm_ioapic_get(struct vm *vm, void *buf)
{
	struct impost_x86_ioapic *io = buf;
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	int32_t r = need_full(vm);

	if (!r)
		r = KVM_IOCTL(vm->host, vm->fd, KVM_GET_IRQCHIP, &chip);
	if (r)
		return r;
	io->id = chip.chip.ioapic.id;
	io->base = chip.chip.ioapic.base_address;
	io->ioregsel = chip.chip.ioapic.ioregsel;
	io->irr = chip.chip.ioapic.irr;
	for (int i = 0; i < IMPOST_X86_IOAPIC_PINS; i++)
		io->redirect[i] = chip.chip.ioapic.redirtbl[i].bits;
	return 0;
}

int32_t kvm_ioapic_set(struct vm *vm, const void *buf)
{
	const struct impost_x86_ioapic *io = buf;
	struct kvm_irqchip chip = {
		.chip_id = KVM_IRQCHIP_IOAPIC,
		.chip.ioapic = {.base_address = io->base,
				.ioregsel = io->ioregsel,
				.id = io->id,
				.irr = io->irr},
	};
	int32_t r = need_full(vm);

	if (r)
		return r;
	if (io->id > 15 || io->ioregsel > 255 || io->irr >> IMPOST_X86_IOAPIC_PINS ||
	    io->base % 4096)
		return impost_host_error(vm->host, -IMPOST_ESTATE,
					 "I/O APIC: id 0x%x (4 bits), IOREGSEL 0x%x (8 bits), "
					 "levels 0x%x (24 pins) or base 0x%llx (a page) cannot be",
					 io->id, io->ioregsel, io->irr,
					 (unsigned long long)io->base);
	for (int i = 0; i < IMPOST_X86_IOAPIC_PINS; i++)
		chip.chip.ioapic.redirtbl[i].bits = io->redirect[i];
	return KVM_IOCTL(vm->host, vm->fd, KVM_SET_IRQCHIP, &chip);
}

/* --- PIT --- */

/* The kernel keeps when counting began, on CLOCK_MONOTONIC; another host's is another clock, so
 * ours is an age. */
static int64_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* All but the time is the same. */
#define PIT_COMMON offsetof(struct impost_x86_pit_channel, count_load_age_ns)
static_assert(PIT_COMMON == offsetof(struct kvm_pit_channel_state, count_load_time) &&
		      offsetof(struct impost_x86_pit_channel, latched_count) ==
			      offsetof(struct kvm_pit_channel_state, latched_count) &&
		      offsetof(struct impost_x86_pit_channel, status) ==
			      offsetof(struct kvm_pit_channel_state, status) &&
		      offsetof(struct impost_x86_pit_channel, rw_mode) ==
			      offsetof(struct kvm_pit_channel_state, rw_mode) &&
		      offsetof(struct impost_x86_pit_channel, gate) ==
			      offsetof(struct kvm_pit_channel_state, gate),
	      "PIT channels");

int32_t kvm_pit_get(struct vm *vm, void *buf)
{
	struct impost_x86_pit *pit = buf;
	struct kvm_pit_state2 k = {0};
	int32_t r = need_full(vm);
	int64_t now;

	if (!r)
		r = KVM_IOCTL(vm->host, vm->fd, KVM_GET_PIT2, &k);
	if (r)
		return r;
	now = monotonic();
	pit->flags = (k.flags & KVM_PIT_FLAGS_HPET_LEGACY ? IMPOST_X86_PIT_HPET_LEGACY : 0) |
		     (k.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON ? IMPOST_X86_PIT_SPEAKER_ON : 0);
	for (int i = 0; i < 3; i++) {
		memcpy(&pit->channel[i], &k.channels[i], PIT_COMMON);
		pit->channel[i].count_load_age_ns = now - k.channels[i].count_load_time;
	}
	return 0;
}

/* What a channel has for a mode before the guest has programmed it. */
#define PIT_NO_MODE 0xff

static int32_t pit_check(const struct vm *vm, const struct impost_x86_pit *pit)
{
	if (pit->flags & ~(IMPOST_X86_PIT_HPET_LEGACY | IMPOST_X86_PIT_SPEAKER_ON))
		return impost_host_error(vm->host, -IMPOST_ESTATE, "PIT: unknown flags 0x%x",
					 pit->flags);
	for (int i = 0; i < 3; i++) {
		const struct impost_x86_pit_channel *c = &pit->channel[i];

		if (!c->count || c->count > 65536 || (c->mode > 5 && c->mode != PIT_NO_MODE) ||
		    c->rw_mode > 3 || c->count_load_age_ns < 0 || c->gate > 1 || c->bcd > 1)
			return impost_host_error(vm->host, -IMPOST_ESTATE,
						 "PIT channel %d: count %u (1 to 65536), mode %u "
						 "(0 to 5), access %u (0 to 3), age %lld ns, gate "
						 "%u or BCD %u cannot be",
						 i, c->count, c->mode, c->rw_mode,
						 (long long)c->count_load_age_ns, c->gate, c->bcd);
	}
	return 0;
}

int32_t kvm_pit_set(struct vm *vm, const void *buf)
{
	const struct impost_x86_pit *pit = buf;
	struct kvm_pit_state2 k = {0};
	int32_t r = need_full(vm);
	int64_t now = monotonic();

	if (!r)
		r = pit_check(vm, pit);
	if (r)
		return r;
	k.flags = (pit->flags & IMPOST_X86_PIT_HPET_LEGACY ? KVM_PIT_FLAGS_HPET_LEGACY : 0u) |
		  (pit->flags & IMPOST_X86_PIT_SPEAKER_ON ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0u);
	for (int i = 0; i < 3; i++) {
		memcpy(&k.channels[i], &pit->channel[i], PIT_COMMON);
		k.channels[i].count_load_time = now - pit->channel[i].count_load_age_ns;
	}
	return KVM_IOCTL(vm->host, vm->fd, KVM_SET_PIT2, &k);
}
