/* SPDX-License-Identifier: Apache-2.0 */
/* A library without state: it works, and each call about state says that it has none. */
#include <criterion/criterion.h>

#include <string.h>

#include <impost/impost.h>

/* Nothing is ever read of it. */
IMPOST_FIELDS(fields, IMPOST_FIELD_UINT(struct impost_range, gpa, 1, 0, "An address"), )
IMPOST_RECORD(record, "range", struct impost_range, 1, 1, 1, fields, "A range")

/* ERR is what a call says that can reach CTX, on which something else was said before. */
static void expect_disabled(struct impost_context *ctx, int err)
{
	cr_expect_eq(err, -ENOTSUP);
	cr_expect(strstr(impost_error(ctx), "-Dstate=disabled"), "%s", impost_error(ctx));
	impost_error_set(ctx, -EINVAL, "something else");
}

Test(disabled, descriptions_compile_and_calls_say_that_there_is_no_state)
{
	struct impost_range range = {0, 0};
	struct impost_snapshot *snapshot;
	struct impost_state *state;
	struct impost_context *ctx;
	struct impost_vm *vm;
	size_t len = 7;
	char byte;

	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	cr_expect_null(&record);
	expect_disabled(ctx, impost_record_verify(ctx, &record));
	expect_disabled(ctx, impost_record_encode(ctx, &record, &range, &byte, 1, &len));
	expect_disabled(ctx, impost_cbor_check(ctx, &byte, 1));
	cr_expect_eq(len, 7);
	impost_record_release(&record, &range);
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR) == 0);
	cr_assert(impost_context_set(ctx, "impost", "backend", "mock") == 0);
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	expect_disabled(ctx, impost_vm_add_device(vm, "range", 0, &record, &range));
	expect_disabled(ctx, impost_state_take(vm, &state));
	expect_disabled(ctx, impost_snapshot_save(vm, "none", NULL, NULL));
	expect_disabled(ctx, impost_snapshot_open(ctx, "none", NULL, &snapshot));
	cr_expect_eq(impost_record_verify(NULL, &record), -ENOTSUP);
	cr_expect_eq(impost_vm_destroy(vm), 0);
	cr_expect_eq(impost_context_close(ctx), 0);
}
