/* SPDX-License-Identifier: Apache-2.0 */
/* What the KVM backend says of a device that is not KVM's: the setting is at fault, not the CPU. */
#include <criterion/criterion.h>
#include <string.h>

#include <impost/impost.h>

static const struct {
	const char *device, *error;
} rows[] = {
	{"/nonexistent/kvm", "cannot open /nonexistent/kvm: no such device: check device = "},
	{"/dev/null", "/dev/null is no KVM: KVM_GET_API_VERSION: Inappropriate ioctl for device: "
		      "check device = in [backend.kvm]: KVM's is /dev/kvm"},
	{"/proc/self/stat", "/proc/self/stat is no KVM: it is not a device: check device = "},
	{"/dev/null/kvm", "cannot open /dev/null/kvm: no such device: check device = "},
};

Test(kvm_device, a_device_that_is_not_kvm_is_the_settings_fault)
{
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_caps caps = {.size = sizeof(caps)};
		struct impost_context *ctx;

		cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
		cr_assert_eq(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
		cr_assert_eq(impost_context_set(ctx, "backend.kvm", "device", rows[i].device), 0,
			     "%s", impost_error(ctx));
		cr_expect_lt(impost_backend_probe(ctx, "kvm", &caps), 0, "%s", rows[i].device);
		cr_expect(strstr(impost_error(ctx), rows[i].error), "\"%s\" has no \"%s\"",
			  impost_error(ctx), rows[i].error);
		cr_expect_null(strstr(impost_error(ctx), "processor"), "%s", impost_error(ctx));
		cr_assert_eq(impost_context_close(ctx), 0);
	}
}
