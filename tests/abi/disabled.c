/* SPDX-License-Identifier: Apache-2.0 */
/* A library without state: it works, and each call about state says that it has none. */
#include <criterion/criterion.h>

#include <impost/impost.h>

/* Nothing is ever read of it. */
IMPOST_FIELDS(fields, IMPOST_FIELD_UINT(struct impost_range, gpa, 1, 0, "An address"), )
IMPOST_RECORD(record, "range", struct impost_range, 1, 1, 1, fields, "A range")

Test(disabled, descriptions_compile_and_calls_say_that_there_is_no_state)
{
	struct impost_range range = {0, 0};
	struct impost_context *ctx;
	struct impost_vm *vm;
	size_t len = 7;
	char byte;

	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	cr_expect_null(&record);
	cr_expect_eq(impost_record_verify(ctx, &record), -ENOTSUP);
	cr_expect_eq(impost_record_encode(ctx, &record, &range, &byte, 1, &len), -ENOTSUP);
	cr_expect_eq(impost_cbor_check(ctx, &byte, 1), -ENOTSUP);
	cr_expect_eq(len, 7);
	impost_record_release(&record, &range);
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR) == 0);
	cr_assert(impost_context_set(ctx, "impost", "backend", "mock") == 0);
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	cr_expect_eq(impost_vm_add_device(vm, "range", 0, &record, &range), -ENOTSUP);
	cr_expect_eq(impost_vm_destroy(vm), 0);
	cr_expect_eq(impost_context_close(ctx), 0);
}
