/* SPDX-License-Identifier: Apache-2.0 */
/* Gets and sets sections of the first vCPU and of the VM. */
#include "section.h"

void section_get(struct box *box, uint32_t section, union section *ret_s)
{
	uint32_t size = 0;

	memset(ret_s, 0, sizeof(*ret_s));
	OK(box, impost_vcpu_get(box->vcpu, section, ret_s, sizeof(*ret_s), &size));
	cr_assert_eq(ret_s->size, size, "the section says %u bytes, the call %u", ret_s->size,
		     size);
}

void section_set(struct box *box, uint32_t section, const union section *s)
{
	OK(box, impost_vcpu_set(box->vcpu, section, s, s->size));
}

static void expect_refusal(struct box *box, int r, int err, const char *what)
{
	cr_assert_eq(r, -err, "%s: %s, not %s", what, r ? impost_error_name(r) : "taken",
		     impost_error_name(err));
	cr_assert_neq(impost_error(box->ctx)[0], '\0', "%s: no text", what);
}

void section_refuse(struct box *box, uint32_t section, const union section *bad, int err,
		    const char *what)
{
	static union section before, after;

	section_get(box, section, &before);
	expect_refusal(box, impost_vcpu_set(box->vcpu, section, bad, bad->size), err, what);
	section_get(box, section, &after);
	cr_assert_arr_eq(&after, &before, before.size, "%s: refused, and yet it changed", what);
}

void vm_section_get(struct box *box, uint32_t section, union section *ret_s)
{
	uint32_t size = 0;

	memset(ret_s, 0, sizeof(*ret_s));
	OK(box, impost_vm_get(box->vm, section, ret_s, sizeof(*ret_s), &size));
	cr_assert_eq(ret_s->size, size, "the section says %u bytes, the call %u", ret_s->size,
		     size);
}

void vm_section_set(struct box *box, uint32_t section, const union section *s)
{
	OK(box, impost_vm_set(box->vm, section, s, s->size));
}

void vm_section_refuse(struct box *box, uint32_t section, const union section *bad, int err,
		       const char *what)
{
	static union section before, after;

	vm_section_get(box, section, &before);
	expect_refusal(box, impost_vm_set(box->vm, section, bad, bad->size), err, what);
	vm_section_get(box, section, &after);
	if (section != IMPOST_SECTION_CLOCK && section != IMPOST_SECTION_PIT)
		cr_assert_arr_eq(&after, &before, before.size, "%s: refused, and yet it changed",
				 what);
}
