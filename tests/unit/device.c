/* SPDX-License-Identifier: Apache-2.0 */
/* Registering devices with a VM. */
#include "core.h"

struct thing {
	uint32_t value;
};

IMPOST_FIELDS(thing_fields, IMPOST_FIELD_UINT(struct thing, value, 1, 0, "A value"), )
IMPOST_RECORD(thing_record, "thing", struct thing, 1, 1, 1, thing_fields, "A thing")

struct tail {
	uint32_t count;
	uint8_t bytes[];
};

IMPOST_FIELDS(tail_fields, IMPOST_FIELD_TAIL_OF(struct tail, bytes, BYTES, count, 9, 1, "Some"), )
IMPOST_RECORD(tail_record, "tail", struct tail, 1, 1, 1, tail_fields, "What needs to be converted")

Test(device, what_cannot_be_registered_is_refused_by_name)
{
	struct impost_context *ctx = open_context();
	struct thing thing = {1};
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "irqchip-none", &fake);
	uint32_t none = UINT32_MAX;

	expect_error(ctx, impost_vm_add_device(vm, NULL, 0, &thing_record, &thing), -EINVAL,
		     "(NULL)");
	expect_error(ctx, impost_vm_add_device(vm, "", 0, &thing_record, &thing), -EINVAL, "name");
	expect_error(ctx, impost_vm_add_device(vm, "a.b", 0, &thing_record, &thing), -EINVAL,
		     "a.b");
	expect_error(ctx,
		     impost_vm_add_device(vm, "a234567890123456789012345678", 0, &thing_record,
					  &thing),
		     -EINVAL, "1 to 27");
	expect_error(ctx, impost_vm_add_device(vm, "a", none, &thing_record, &thing), -EINVAL,
		     "instance");
	expect_error(ctx, impost_vm_add_device(vm, "a", 0, NULL, &thing), -EINVAL, "description");
	expect_error(ctx, impost_vm_add_device(vm, "a", 0, &thing_record, NULL), -EINVAL, "NULL");
	expect_error(ctx, impost_vm_add_device(vm, "a", 0, &tail_record, &thing), -EINVAL,
		     "to_saved");
	expect_ok(ctx, impost_vm_add_device(vm, "a", 1, &thing_record, &thing));
	expect_ok(ctx, impost_vm_add_device(vm, "a", 0, &thing_record, &thing));
	expect_error(ctx, impost_vm_add_device(vm, "a", 1, &thing_record, &thing), -EEXIST, "a.1");
	expect_ok(ctx, impost_vm_remove_device(vm, "a", 1));
	expect_error(ctx, impost_vm_remove_device(vm, "a", 1), -ENOENT, "a.1");
	expect_ok(ctx, impost_vm_add_device(vm, "a", 1, &thing_record, &thing));
	/* What is registered still goes with the VM. */
	expect_ok(ctx, impost_vm_destroy(vm));
	impost_context_close(ctx);
}
