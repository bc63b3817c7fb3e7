/* SPDX-License-Identifier: Apache-2.0 */
/* A state as text and JSON, and the differences of two, by name. */
#include <json-c/json.h>

#include "mock.h"
#include "state_random.h"

struct text {
	char *bytes;
	size_t len, stop_at; /* writing fails there, if that is not 0 */
};

static int hear(void *opaque, const char *bytes, size_t len)
{
	struct text *text = opaque;

	if (text->stop_at && text->len + len > text->stop_at)
		return -77;
	text->bytes = realloc(text->bytes, text->len + len + 1);
	memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
	text->bytes[text->len] = '\0';
	return 0;
}

static struct impost_state *take(struct mock *m)
{
	struct impost_state *state = NULL;

	OK(m->ctx, impost_state_take(m->vm, &state));
	return state;
}

static void set_star(struct mock *m, uint64_t value)
{
	struct impost_x86_msr msr = {.index = IMPOST_X86_MSR_IA32_STAR, .value = value};
	uint32_t done;

	OK(m->ctx, impost_vcpu_set_msrs(m->cpu[1], &msr, 1, &done));
}

Test(state_show, text_has_every_register_by_name)
{
	static const char *const wanted[] = {
		"[machine]\n",	       "[vm]\n",
		"[vcpu.0]\n",	       "[vcpu.1]\n",
		"backend: \"mock\"\n", "msrs.IA32_STAR: 0x123456789abcdef0\n",
		"cpuid.0x7.0x0: ",     " AVX2",
		"regs.rip: ",	       "ioapic",
		"host.note",
	};
	struct impost_state *state;
	struct text text = {.len = 0}, cut = {.stop_at = 100};
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	set_star(&m, UINT64_C(0x123456789abcdef0));
	state = take(&m);
	OK(m.ctx, impost_state_add(state, "host.note", "\x63hey", 4));
	OK(m.ctx, impost_state_print(state, hear, &text));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		cr_assert(strstr(text.bytes, wanted[i]), "no \"%s\" in:\n%s", wanted[i],
			  text.bytes);
	cr_assert_eq(impost_state_print(state, hear, &cut), -77);
	cr_assert_eq(impost_state_json(state, hear, &cut), -77);
	cr_assert_eq(impost_state_print(NULL, hear, &cut), -EINVAL);
	cr_assert_eq(impost_state_print(state, NULL, NULL), -EINVAL);
	free(text.bytes);
	free(cut.bytes);
	impost_state_free(state);
	mock_close(&m);
}

/* The member at PATH, names with '/' between. */
static struct json_object *member(struct json_object *o, const char *path)
{
	char copy[128], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((name = strsep(&rest, "/")) != NULL)
		cr_assert(json_object_object_get_ex(o, name, &o), "no %s of %s", name, path);
	return o;
}

Test(state_show, json_is_json)
{
	struct impost_state *state;
	struct text text = {.len = 0};
	struct json_object *o;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	random_vm(m.vm, 1);
	set_star(&m, 0xabc);
	state = take(&m);
	OK(m.ctx, impost_state_add(state, "host.note", "\x63hey", 4));
	OK(m.ctx, impost_state_json(state, hear, &text));
	o = json_tokener_parse(text.bytes);
	cr_assert_not_null(o, "%s", text.bytes);
	cr_assert_eq(json_object_object_length(o), 5);
	cr_assert_str_eq(json_object_get_string(member(o, "vcpu.1/msrs/IA32_STAR")), "0xabc");
	cr_assert_str_eq(json_object_get_string(member(o, "machine/contents/backend")), "mock");
	cr_assert_str_eq(json_object_get_string(member(o, "host.note")), "hey");
	cr_assert_gt(json_object_array_length(member(o, "vcpu.0/cpuid")), 5u);
	member(o, "vcpu.0/registers/contents/regs/rip");
	json_object_put(o);
	free(text.bytes);
	impost_state_free(state);
	mock_close(&m);
}

struct heard {
	int count;
	char text[4096];
};

static void note(void *opaque, const char *section, const char *path, const char *a, const char *b)
{
	struct heard *heard = opaque;
	size_t len = strlen(heard->text);

	if (strcmp(path, "realtime_ns") == 0)
		return;
	snprintf(heard->text + len, sizeof(heard->text) - len, "%s %s %s %s\n", section, path, a,
		 b);
	heard->count++;
}

static void expect_heard(const struct impost_state *a, const struct impost_state *b,
			 const char *text)
{
	struct heard heard = {.count = 0};
	int n = impost_state_diff(a, b, note, &heard);

	cr_assert_geq(n, heard.count);
	cr_assert_str_eq(heard.text, text);
}

Test(state_show, differences_have_names)
{
	struct impost_x86_cpuid entries[128];
	struct impost_state *a, *b;
	struct impost_x86_regs regs;
	uint32_t count = 0;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	set_star(&m, 1);
	OK(m.ctx, impost_vcpu_get_regs(m.cpu[0], &regs));
	regs.rbx = 0x10;
	OK(m.ctx, impost_vcpu_set_regs(m.cpu[0], &regs));
	a = take(&m);
	expect_heard(a, a, "");
	regs.rbx = 0x11;
	OK(m.ctx, impost_vcpu_set_regs(m.cpu[0], &regs));
	set_star(&m, 2);
	OK(m.ctx, impost_vcpu_get_cpuid(m.cpu[1], entries, 128, &count));
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].leaf == 7)
			entries[i].ebx &= ~(1u << 5); /* AVX2 */
	OK(m.ctx, impost_vcpu_set_cpuid(m.cpu[1], entries, count));
	b = take(&m);
	OK(m.ctx, impost_state_add(b, "host.note", "\x63hey", 4));
	expect_heard(a, b,
		     "vcpu.0 regs.rbx 0x0000000000000010 0x0000000000000011\n"
		     "vcpu.1 msrs.IA32_STAR 0x1 0x2\n"
		     "vcpu.1 cpuid.AVX2 0x1 0x0\n"
		     "host.note  - there\n");
	cr_assert_eq(impost_state_diff(NULL, b, note, NULL), -EINVAL);
	impost_state_free(a);
	impost_state_free(b);
	mock_close(&m);
}
