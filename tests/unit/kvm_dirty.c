/* SPDX-License-Identifier: Apache-2.0 */
/* Which kind of dirty log the KVM backend has by its options, and which options it refuses. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <impost/impost.h>

static const struct {
	const char *kind, *entries; /* NULL: not given */
	int err;
	const char *text;    /* in the error */
	const char *lacking; /* in the error of a kernel that has no such log; NULL: all have it */
	int manual, ring;    /* capabilities; -1: whichever */
} rows[] = {
	{NULL, NULL, 0, NULL, NULL, -1, 0},
	{"auto", NULL, 0, NULL, NULL, -1, 0},
	{"bitmap", NULL, 0, NULL, NULL, 0, 0},
	{"manual", NULL, 0, NULL, "dirty_log = manual: this kernel's KVM lacks", 1, 0},
	{"ring", NULL, 0, NULL, "dirty_log = ring: this kernel's KVM has no", 0, 1},
	{"ring", "0x1000", 0, NULL, "dirty_log = ring: this kernel's KVM has no", 0, 1},
	{"ring", "1000", -EINVAL, "dirty_ring_entries = 1000: a power of two", "has no dirty rings",
	 0, 0},
	{"ring", "0x40000000", -EINVAL, "at the most", "has no dirty rings", 0, 0},
	{"ring", "16", -EINVAL, "refuses so small a ring", "has no dirty rings", 0, 0},
	{"ring", "0", -EINVAL, "a number above 0", NULL, 0, 0},
	{"ring", "4294967296", -EINVAL, "dirty_ring_entries = 4294967296", NULL, 0, 0},
	{"bitmap", "4096", -EINVAL, "there are no rings without dirty_log = ring", NULL, 0, 0},
	{NULL, "4096", -EINVAL, "there are no rings without dirty_log = ring", NULL, 0, 0},
};

static struct impost_context *context(void)
{
	struct impost_context *ctx;

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	cr_assert_eq(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR), 0, "%s",
		     impost_error(ctx));
	return ctx;
}

/* Skips the test, saying why, where kvm cannot run. */
static void need_kvm(void)
{
	struct impost_context *ctx = context();
	struct impost_caps caps = {.size = sizeof(caps)};
	char why[512];

	if (impost_backend_probe(ctx, "kvm", &caps)) {
		snprintf(why, sizeof(why), "%s", impost_error(ctx));
		impost_context_close(ctx);
		cr_skip_test("%s", why);
	}
	impost_context_close(ctx);
}

static void set(struct impost_context *ctx, const char *key, const char *value)
{
	if (value)
		cr_assert_eq(impost_context_set(ctx, "backend.kvm", key, value), 0, "%s",
			     impost_error(ctx));
}

Test(kvm_dirty, kinds_of_logs)
{
	need_kvm();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_context *ctx = context();
		struct impost_caps caps = {.size = sizeof(caps)};
		int r;

		set(ctx, "dirty_log", rows[i].kind);
		set(ctx, "dirty_ring_entries", rows[i].entries);
		r = impost_backend_probe(ctx, "kvm", &caps);
		if (r == -ENOTSUP && rows[i].lacking) {
			cr_assert(strstr(impost_error(ctx), rows[i].lacking), "row %zu: %s", i,
				  impost_error(ctx));
		} else {
			cr_assert_eq(r, rows[i].err, "row %zu: %d: %s", i, r, impost_error(ctx));
			if (r)
				cr_assert(strstr(impost_error(ctx), rows[i].text), "row %zu: %s", i,
					  impost_error(ctx));
			else if (rows[i].manual >= 0)
				cr_assert_eq(impost_caps_has(&caps, IMPOST_CAP_DIRTY_MANUAL),
					     rows[i].manual, "row %zu", i);
			if (!r)
				cr_assert_eq(impost_caps_has(&caps, IMPOST_CAP_DIRTY_RING),
					     rows[i].ring, "row %zu", i);
		}
		impost_context_close(ctx);
	}
}
