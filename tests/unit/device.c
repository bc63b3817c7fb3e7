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

/* --- loading all or none --- */

struct step_log {
	struct impost_vm *vm;
	char text[512];
};

/* A device that can refuse what it is given, and writes down what it was asked. */
struct stubborn {
	uint32_t value;
	char name;
	const char *refuses; /* a step */
	struct step_log *log;
};

static int note(const struct stubborn *device, const char *step)
{
	struct step_log *log = device->log;
	size_t len = strlen(log->text);

	snprintf(log->text + len, sizeof(log->text) - len, "%c:%s ", device->name, step);
	return device->refuses && strcmp(device->refuses, step) == 0 ? -EIO : 0;
}

static int stubborn_to_saved(const void *runtime, void *saved)
{
	const struct stubborn *device = runtime;
	struct impost_vm *vm = device->log->vm;

	/* The list is in use, and says so. */
	if (vm) {
		cr_expect_eq(impost_vm_remove_device(vm, "b", 0), -EBUSY);
		cr_expect_eq(impost_vm_add_device(vm, "z", 0, &thing_record, saved), -EBUSY);
	}
	((struct thing *)saved)->value = device->value;
	return 0;
}

static int stubborn_from_saved(const void *saved, void *runtime)
{
	struct stubborn *device = runtime;
	int err = note(device, "from");

	device->refuses = err ? NULL : device->refuses;
	device->value = ((const struct thing *)saved)->value;
	return err;
}

static int stubborn_post_load(void *runtime, uint32_t version)
{
	(void)version;
	return note(runtime, "post");
}

static void stubborn_load_failed(void *runtime, int result)
{
	cr_expect_eq(result, -EIO);
	note(runtime, "failed");
}

static int stubborn_check(const void *saved, char *text, size_t room)
{
	snprintf(text, room, "666 is no value");
	return ((const struct thing *)saved)->value == 666 ? -EINVAL : 0;
}

IMPOST_RECORD(stubborn_record, "stubborn", struct thing, 1, 1, 1, thing_fields, "Stubborn",
	      .to_saved = stubborn_to_saved, .from_saved = stubborn_from_saved,
	      .post_load = stubborn_post_load, .load_failed = stubborn_load_failed,
	      .check = stubborn_check)

/* Loads a state in which the devices are 10, 20 and LAST into ones that are 1, 2 and 3, of which
 * the last one refuses a step. Returns what loading does. */
static int load_three(const char *refuses, uint32_t last, struct step_log *log,
		      struct stubborn devices[3], char *error, size_t room)
{
	struct impost_context *ctx = open_context();
	struct impost_state *state;
	struct impost_vm *vm;
	int err;

	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	expect_ok(ctx, impost_context_set(ctx, "impost", "backend", "mock"));
	expect_ok(ctx, impost_vm_create(ctx, NULL, &vm));
	for (uint32_t i = 0; i < 3; i++) {
		const char name[] = {(char)('a' + i), '\0'};

		devices[i] = (struct stubborn){
			.value = i == 2 ? last : 10 * (i + 1), .name = name[0], .log = log};
		expect_ok(ctx, impost_vm_add_device(vm, name, 0, &stubborn_record, &devices[i]));
	}
	log->vm = vm;
	expect_ok(ctx, impost_state_take(vm, &state));
	log->text[0] = '\0';
	for (uint32_t i = 0; i < 3; i++)
		devices[i].value = i + 1;
	devices[2].refuses = refuses;
	err = impost_state_load(state, vm);
	snprintf(error, room, "%s", impost_error(ctx));
	impost_state_free(state);
	expect_ok(ctx, impost_vm_remove_device(vm, "b", 0));
	expect_ok(ctx, impost_vm_destroy(vm));
	impost_context_close(ctx);
	return err;
}

Test(device, all_are_loaded_or_none)
{
	struct stubborn d[3];
	struct step_log log;
	char error[512];

	cr_expect_eq(load_three(NULL, 30, &log, d, error, sizeof(error)), 0, "%s", error);
	cr_expect(d[0].value == 10 && d[1].value == 20 && d[2].value == 30);
	cr_expect_str_eq(log.text, "a:from a:post b:from b:post c:from c:post ");

	cr_expect_eq(load_three("from", 30, &log, d, error, sizeof(error)), -EIO);
	cr_expect(d[0].value == 1 && d[1].value == 2 && d[2].value == 3);
	cr_expect_str_eq(log.text, "a:from a:post b:from b:post c:from c:from c:failed "
				   "b:from b:failed a:from a:failed ");

	cr_expect_eq(load_three("post", 30, &log, d, error, sizeof(error)), -EIO);
	cr_expect(d[0].value == 1 && d[1].value == 2 && d[2].value == 3);
	cr_expect(strstr(error, "post_load failed") && strstr(error, "c.0"), "%s", error);

	/* What is wrong in itself is seen before the first is touched. */
	cr_expect_eq(load_three(NULL, 666, &log, d, error, sizeof(error)), -IMPOST_EFORMAT);
	cr_expect(d[0].value == 1 && d[1].value == 2 && d[2].value == 3);
	cr_expect_str_eq(log.text, "");
	cr_expect(strstr(error, "666 is no value") && strstr(error, "c.0"), "%s", error);
}
