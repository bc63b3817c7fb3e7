/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation id, on the mock: the first one, new ones, and what tells the guest. */
#include "boot_machine.h"

#include <impost/mock.h>
#include <impost/state.h>
#include <impost/x86_64/vmgenid.h>

#define GSI 5u

struct id {
	uint8_t bytes[IMPOST_X86_VMGENID_BYTES];
};

static struct id id_at(const struct machine *m, uint64_t gpa)
{
	struct id id;

	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), gpa, &id, sizeof(id)), 0);
	return id;
}

static int same(const struct id *a, const struct id *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* A machine whose tables tell of an id at GPA. */
static struct machine boot_with(uint64_t gpa, struct impost_x86_layout *layout)
{
	const struct impost_x86_acpi_config acpi = {
		.size = sizeof(acpi), .hw_reduced = 1, .vmgenid_gpa = gpa, .vmgenid_gsi = GSI};
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, flat_file());

	impost_x86_layout_init(layout);
	config.protocol = IMPOST_X86_PROTOCOL_FLAT;
	config.acpi = &acpi;
	config.layout = layout;
	boot_it(&m, &config);
	close(config.kernel_fd);
	return m;
}

static struct impost_x86_vmgenid at(uint64_t gpa)
{
	return (struct impost_x86_vmgenid){
		.size = sizeof(struct impost_x86_vmgenid), .gsi = GSI, .gpa = gpa};
}

/* The boot writes one, in a page that the guest is told to leave alone; each boot another. */
Test(vmgenid, the_boot_writes_the_first)
{
	static const uint64_t places[] = {IMPOST_X86_VMGENID_ADDR, 15 * MIB + 64};
	static const struct id none;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct impost_x86_layout layout;
		struct impost_x86_e820 map[IMPOST_X86_E820_MAX];
		struct machine one = boot_with(places[i], &layout);
		struct machine other = boot_with(places[i], &layout);
		struct id first = id_at(&one, places[i]), second = id_at(&other, places[i]);
		uint32_t count, found = 0;

		cr_expect(!same(&first, &none) && !same(&first, &second));
		cr_assert_eq(impost_x86_e820(impost_vm_memory(one.vm), &layout, map,
					     IMPOST_X86_E820_MAX, &count),
			     0);
		for (uint32_t k = 0; k < count; k++)
			found += map[k].type == IMPOST_X86_E820_RESERVED &&
				 map[k].gpa <= places[i] / 4096 * 4096 &&
				 map[k].gpa + map[k].bytes >= places[i] / 4096 * 4096 + 4096;
		cr_expect_eq(found, 1u, "the id at 0x%lx is not in reserved memory", places[i]);
		machine_free(&one);
		machine_free(&other);
	}
}

/* Where there is no memory, or something else, there can be none. */
Test(vmgenid, the_boot_refuses_a_place_that_is_none)
{
	static const struct {
		uint64_t gpa;
		int err;
	} bad[] = {{UINT64_C(0xd0000000), -EFAULT}, {IMPOST_X86_ACPI_ADDR + 8, -EEXIST}};
	struct machine m = machine_make(context_make("mock"), 16 * MIB, IMPOST_IRQCHIP_DEFAULT, 1);
	struct impost_x86_boot_config config = config_make(m.ctx, flat_file());

	config.protocol = IMPOST_X86_PROTOCOL_FLAT;
	for (size_t i = 0; i < 2; i++) {
		const struct impost_x86_acpi_config acpi = {
			.size = sizeof(acpi), .hw_reduced = 1, .vmgenid_gpa = bad[i].gpa};
		int err;

		config.acpi = &acpi;
		err = impost_x86_boot(m.vm, m.vcpus, m.count, &config, NULL);
		cr_expect_eq(err, bad[i].err, "%d: %s", err, impost_error(m.ctx));
	}
	close(config.kernel_fd);
	machine_free(&m);
}

/* Each is new, and an edge of the interrupt tells of it, and the page is dirty. */
Test(vmgenid, each_renewal_is_new_and_told)
{
	const struct impost_x86_vmgenid vmgenid = at(IMPOST_X86_VMGENID_ADDR);
	const struct impost_mock_control *control;
	struct impost_x86_layout layout;
	struct machine m = boot_with(vmgenid.gpa, &layout);
	struct impost_mock_irq irq;
	struct id ids[20];
	const void *table;
	void *handle;

	cr_assert_eq(impost_vm_extension(m.vm, IMPOST_MOCK_CONTROL, &table, &handle), 0);
	control = table;
	for (uint32_t i = 0; i < 20; i++) {
		cr_assert_eq(impost_x86_vmgenid_renew(m.vm, &vmgenid), 0, "%s",
			     impost_error(m.ctx));
		ids[i] = id_at(&m, vmgenid.gpa);
		for (uint32_t k = 0; k < i; k++)
			cr_assert(!same(&ids[i], &ids[k]));
		for (uint32_t level = 0; level < 2; level++) {
			cr_assert_eq(control->irq(handle, 2 * i + level, &irq), 0);
			cr_assert(irq.kind == IMPOST_MOCK_IRQ_LINE && irq.gsi == GSI &&
				  irq.level == !level);
		}
	}
	cr_assert_eq(control->irq(handle, 40, &irq), -ENOENT);
	machine_free(&m);
}

Test(vmgenid, what_is_wrong_is_refused_and_the_id_stays)
{
	struct impost_x86_layout layout;
	struct machine m = boot_with(IMPOST_X86_VMGENID_ADDR, &layout);
	struct impost_x86_vmgenid none = at(0), wrong = at(IMPOST_X86_VMGENID_ADDR);
	struct id before = id_at(&m, IMPOST_X86_VMGENID_ADDR), after;

	cr_expect_eq(impost_x86_vmgenid_renew(NULL, &wrong), -EINVAL);
	cr_expect_eq(impost_x86_vmgenid_renew(m.vm, NULL), -EINVAL);
	wrong.size = 8;
	cr_expect_eq(impost_x86_vmgenid_renew(m.vm, &wrong), -EINVAL);
	wrong = at(IMPOST_X86_VMGENID_ADDR - 4);
	cr_expect_eq(impost_x86_vmgenid_renew(m.vm, &wrong), -EINVAL);
	cr_expect(strstr(impost_error(m.ctx), "a multiple of 8"), "%s", impost_error(m.ctx));
	wrong = at(UINT64_C(0xd0000000));
	cr_expect_eq(impost_x86_vmgenid_renew(m.vm, &wrong), -EFAULT);
	cr_expect_eq(impost_x86_vmgenid_renew(m.vm, &none), 0, "there is none to renew");
	after = id_at(&m, IMPOST_X86_VMGENID_ADDR);
	cr_expect(same(&before, &after));
	machine_free(&m);
}

/* A state says where the id lies, and one that cannot be is refused. */
Test(vmgenid, its_place_is_in_the_state)
{
	struct impost_x86_vmgenid there = at(IMPOST_X86_VMGENID_ADDR), back = at(0);
	struct impost_x86_layout layout;
	struct machine one = boot_with(there.gpa, &layout);
	struct machine other = boot_with(there.gpa, &layout);
	struct impost_state *state;

	back.gsi = 0;
	cr_expect_eq(impost_x86_vmgenid_add(NULL, &there), -EINVAL);
	cr_expect_eq(impost_x86_vmgenid_add(one.vm, NULL), -EINVAL);
	cr_assert_eq(impost_x86_vmgenid_add(one.vm, &there), 0, "%s", impost_error(one.ctx));
	cr_expect_eq(impost_x86_vmgenid_add(one.vm, &there), -EEXIST);
	cr_assert_eq(impost_x86_vmgenid_add(other.vm, &back), 0, "%s", impost_error(other.ctx));
	cr_assert_eq(impost_state_take(one.vm, &state), 0, "%s", impost_error(one.ctx));
	cr_assert_eq(impost_state_load(state, other.vm), 0, "%s", impost_error(other.ctx));
	cr_expect(back.gpa == there.gpa && back.gsi == there.gsi && back.size == sizeof(back));
	impost_state_free(state);
	there.gpa++;
	cr_assert_eq(impost_state_take(one.vm, &state), 0, "%s", impost_error(one.ctx));
	cr_expect_neq(impost_state_load(state, other.vm), 0);
	cr_expect(back.gpa == IMPOST_X86_VMGENID_ADDR);
	impost_state_free(state);
	machine_free(&one);
	machine_free(&other);
}
