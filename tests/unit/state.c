/* SPDX-License-Identifier: Apache-2.0 */
/* States on the mock: what is taken is what is loaded, whoever's bytes are judged, shapes must
 * agree. */
#include "mock.h"
#include "state_random.h"

#define ROUNDS 20

static struct impost_state *take(struct mock *m)
{
	struct impost_state *state = NULL;

	OK(m->ctx, impost_state_take(m->vm, &state));
	return state;
}

/* The same sections, but for when they were taken. */
static void assert_same(struct mock *m, const struct impost_state *a, const struct impost_state *b)
{
	const void *a_data, *b_data;
	size_t a_len, b_len;
	const char *name;
	uint32_t i;

	for (i = 0; impost_state_at(a, i, &name, &a_data, &a_len) == 0; i++) {
		OK(m->ctx, impost_state_find(b, name, &b_data, &b_len));
		if (strcmp(name, "machine") == 0)
			continue;
		cr_assert_eq(a_len, b_len, "section %s: %zu and %zu bytes", name, a_len, b_len);
		cr_assert_arr_eq(a_data, b_data, a_len, "section %s", name);
	}
	cr_assert_eq(impost_state_at(b, i, NULL, NULL, NULL), -ENOENT);
}

/* A copy of A, made from its bytes, as a reader of files makes it. */
static struct impost_state *copy(struct mock *m, const struct impost_state *a, const char *without)
{
	struct impost_state *b = NULL;
	const char *name;
	const void *data;
	size_t len;

	OK(m->ctx, impost_state_create(m->ctx, &b));
	for (uint32_t i = 0; impost_state_at(a, i, &name, &data, &len) == 0; i++)
		if (!without || strcmp(name, without) != 0)
			OK(m->ctx, impost_state_add(b, name, data, len));
	return b;
}

static void taken_is_loaded(uint32_t irqchip, uint32_t cpus, const char *key, const char *value)
{
	struct impost_state *before, *read, *after;
	struct mock a, b;

	mock_open_with(&a, NULL, irqchip, cpus, key, value);
	mock_open_with(&b, NULL, irqchip, cpus, key, value);
	for (int i = 0; i < ROUNDS; i++) {
		random_vm(a.vm, 1);
		a.control->advance(a.handle, random64() & 0xffffffff);
		before = take(&a);
		read = copy(&b, before, NULL);
		OK(b.ctx, impost_state_load(read, b.vm));
		after = take(&b);
		assert_same(&b, before, after);
		impost_state_free(before);
		impost_state_free(read);
		impost_state_free(after);
	}
	mock_close(&a);
	mock_close(&b);
}

Test(state, taken_is_loaded_full)
{
	taken_is_loaded(IMPOST_IRQCHIP_FULL, 4, NULL, NULL);
}

Test(state, taken_is_loaded_lapic)
{
	taken_is_loaded(IMPOST_IRQCHIP_LAPIC, 2, NULL, NULL);
}

Test(state, taken_is_loaded_without_irqchip)
{
	taken_is_loaded(IMPOST_IRQCHIP_NONE, 1, NULL, NULL);
}

Test(state, says_what_the_vm_is)
{
	struct impost_region rom = {.size = sizeof(rom),
				    .gpa = 0xfffff000,
				    .bytes = 0x1000,
				    .flags = IMPOST_REGION_READONLY};
	struct impost_vm_config config = {.size = sizeof(config)};
	struct impost_state_region region;
	struct impost_state *state;
	struct mock m;
	uint32_t id = 99;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_LAPIC, 2, NULL, NULL);
	OK(m.ctx, impost_memory_add(impost_vm_memory(m.vm), &rom));
	state = take(&m);
	OK(m.ctx, impost_state_config(state, &config));
	cr_assert(config.cpus == 2 && config.irqchip == IMPOST_IRQCHIP_LAPIC);
	cr_assert_eq(config.memory, impost_vm_config(m.vm)->memory);
	cr_assert_str_eq(impost_state_backend(state), "mock");
	OK(m.ctx, impost_state_region(state, 0, &region));
	cr_assert(region.gpa == 0 && region.bytes == MEMORY && region.flags == 0);
	OK(m.ctx, impost_state_region(state, 1, &region));
	cr_assert(region.gpa == rom.gpa && region.flags == IMPOST_REGION_READONLY);
	cr_assert_eq(impost_state_region(state, 2, &region), -ENOENT);
	OK(m.ctx, impost_state_vcpu(state, 1, &id));
	cr_assert_eq(id, 1);
	cr_assert_eq(impost_state_vcpu(state, 2, &id), -ENOENT);
	impost_state_free(state);
	mock_close(&m);
}

Test(state, vcpus_are_in_order_of_id)
{
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 3, NULL, NULL);
	OK(m.ctx, impost_vcpu_destroy(m.cpu[0]));
	OK(m.ctx, impost_vcpu_create(m.vm, 7, &m.cpu[0]));
	cr_assert_eq(impost_vm_vcpu(m.vm, 0), m.cpu[1]);
	cr_assert_eq(impost_vm_vcpu(m.vm, 1), m.cpu[2]);
	cr_assert_eq(impost_vm_vcpu(m.vm, 2), m.cpu[0]);
	cr_assert_null(impost_vm_vcpu(m.vm, 3));
	mock_close(&m);
}

Test(state, interrupt_routes_travel)
{
	const struct impost_gsi_route routes[] = {
		{.gsi = 3, .type = IMPOST_ROUTE_IOAPIC, .pin = 5},
		{.gsi = 9, .type = IMPOST_ROUTE_MSI, .msi_address = 0xfee00000, .msi_data = 0x41},
	};
	struct impost_state *before, *after;
	struct mock a, b;

	mock_open(&a, NULL);
	mock_open(&b, NULL);
	OK(a.ctx, impost_vm_set_gsi_routes(a.vm, routes, 2));
	before = take(&a);
	OK(b.ctx, impost_state_load(before, b.vm));
	OK(b.ctx, impost_vm_irq_line(b.vm, 9, 1));
	after = take(&b);
	assert_same(&b, before, after);
	impost_state_free(before);
	impost_state_free(after);
	mock_close(&a);
	mock_close(&b);
}

/* --- time --- */

static struct impost_x86_tsc tsc_of(struct mock *m, uint32_t i)
{
	struct impost_x86_tsc tsc;
	uint32_t size;

	OK(m->ctx, impost_vcpu_get(m->cpu[i], IMPOST_SECTION_TSC, &tsc, sizeof(tsc), &size));
	return tsc;
}

static void set_tsc(struct mock *m, uint32_t i, uint64_t value)
{
	struct impost_x86_tsc tsc = {.size = sizeof(tsc), .value = value};

	OK(m->ctx, impost_vcpu_set(m->cpu[i], IMPOST_SECTION_TSC, &tsc, sizeof(tsc)));
}

Test(state, tscs_keep_their_distances_and_go_by_the_clock)
{
	struct impost_state *state;
	struct mock a, b;

	mock_open_with(&a, NULL, IMPOST_IRQCHIP_FULL, 3, NULL, NULL);
	mock_open_with(&b, NULL, IMPOST_IRQCHIP_FULL, 3, NULL, NULL);
	a.control->advance(a.handle, 123456789);
	set_tsc(&a, 0, 5000000);
	set_tsc(&a, 1, 5000000);
	set_tsc(&a, 2, 7000000);
	a.control->advance(a.handle, 1000000);
	state = take(&a);
	/* The mock that it goes to has been on for another time. */
	b.control->advance(b.handle, 77777777777);
	OK(b.ctx, impost_state_load(state, b.vm));
	for (uint32_t i = 0; i < 3; i++)
		cr_assert_eq(tsc_of(&b, i).value, tsc_of(&a, i).value, "vCPU %u", i);
	cr_assert_eq(tsc_of(&b, 0).value, tsc_of(&b, 1).value);
	impost_state_free(state);
	mock_close(&a);
	mock_close(&b);
}

/* A VM that has run goes back to what it was: its CPUID need not be set again. */
Test(state, is_loaded_where_the_guest_has_run)
{
	struct impost_mock_step step = {.size = sizeof(step), .op = IMPOST_MOCK_SET, .value = 77};
	struct impost_mock_step out = {
		.size = sizeof(out), .op = IMPOST_MOCK_EXIT, .exit = {.kind = IMPOST_EXIT_HLT}};
	struct impost_x86_cpuid entries[128];
	struct impost_state *before, *after;
	uint32_t count = 0;
	struct mock m;

	mock_open(&m, NULL);
	OK(m.ctx, impost_vcpu_get_cpuid(m.cpu[0], entries, 128, &count));
	OK(m.ctx, impost_vcpu_set_cpuid(m.cpu[0], entries, count));
	append(&m, 0, &step, 1);
	append(&m, 0, &out, 1);
	before = take(&m);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(rax(&m), 77u);
	cr_assert_lt(impost_vcpu_set_cpuid(m.cpu[0], entries, count), 0);
	OK(m.ctx, impost_state_load(before, m.vm));
	cr_assert_eq(rax(&m), 0u);
	after = take(&m);
	assert_same(&m, before, after);
	impost_state_free(before);
	impost_state_free(after);
	mock_close(&m);
}

/* --- what is refused --- */

Test(state, pending_answers_are_asked_for)
{
	struct impost_state *state = NULL;
	struct impost_mock_step in = {.size = sizeof(in),
				      .op = IMPOST_MOCK_EXIT,
				      .exit = {.kind = IMPOST_EXIT_IO,
					       .u.io = {.port = 0x60, .size = 1, .count = 1}}};
	struct mock m;
	struct impost_exit x;

	mock_open(&m, NULL);
	append(&m, 0, &in, 1);
	x = run_to(&m, IMPOST_EXIT_IO);
	*(uint8_t *)x.u.io.data = 0x5a;
	state = take(&m);
	cr_assert_eq(rax(&m) & 0xff, 0x5a);
	impost_state_free(state);
	mock_close(&m);
}

#define REFUSED(ctx, call, err)                                                                  \
	do {                                                                                     \
		int got_ = (call);                                                               \
		cr_assert_eq(got_, -(err), "%s: %s, not %s: %s", #call, impost_error_name(got_), \
			     impost_error_name(err), impost_error(ctx));                         \
	} while (0)

Test(state, names_are_judged)
{
	static const char *const bad[] = {
		"",
		"x",
		"vcpu.",
		"vcpu.-1",
		"vcpu.01",
		"vcpu.1x",
		"vcpu.99999999999",
		"machine.1",
		"vm2",
		"device.",
		"device.x",
		"device.x.y",
		"device..1",
		"host.",
		"host.a b",
		"host.\xc3\xa9",
		"host.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	const uint8_t null_map[] = {0xa0};
	struct impost_state *state;
	struct mock m;

	mock_open(&m, NULL);
	OK(m.ctx, impost_state_create(m.ctx, &state));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		REFUSED(m.ctx, impost_state_add(state, bad[i], null_map, 1), EINVAL);
	OK(m.ctx, impost_state_add(state, "host.fine", null_map, 1));
	OK(m.ctx, impost_state_add(state, "device.a.b.12", null_map, 1));
	REFUSED(m.ctx, impost_state_add(state, "host.fine", null_map, 1), EEXIST);
	REFUSED(m.ctx, impost_state_add(state, "host.bad", "\xff", 1), IMPOST_EFORMAT);
	REFUSED(m.ctx, impost_state_add(state, "host.long", "\xa0\xa0", 2), IMPOST_EFORMAT);
	REFUSED(m.ctx, impost_state_add(state, "host.none", "", 0), IMPOST_EFORMAT);
	REFUSED(m.ctx, impost_state_add(state, "vm", null_map, 1), IMPOST_EFORMAT);
	REFUSED(m.ctx, impost_state_add(state, "vcpu.0", null_map, 1), IMPOST_EFORMAT);
	REFUSED(m.ctx, impost_state_add(state, "machine", null_map, 1), IMPOST_EFORMAT);
	REFUSED(m.ctx, impost_state_load(state, m.vm), IMPOST_EFORMAT);
	impost_state_free(state);
	impost_state_free(NULL);
	mock_close(&m);
}

Test(state, sections_go_together)
{
	struct impost_state *whole, *part;
	const void *data;
	struct mock m;
	size_t len;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	whole = take(&m);
	for (int i = 0; i < 4; i++) {
		static const char *const without[] = {"machine", "vm", "vcpu.0", "vcpu.1"};

		part = copy(&m, whole, without[i]);
		REFUSED(m.ctx, impost_state_load(part, m.vm), IMPOST_EFORMAT);
		REFUSED(m.ctx, impost_state_check(part, "mock", NULL, NULL), IMPOST_EFORMAT);
		impost_state_free(part);
	}
	/* One vCPU's section under another's name. */
	OK(m.ctx, impost_state_find(whole, "vcpu.1", &data, &len));
	part = copy(&m, whole, "vcpu.0");
	REFUSED(m.ctx, impost_state_add(part, "vcpu.0", data, len), IMPOST_EFORMAT);
	REFUSED(m.ctx, impost_state_add(part, "vcpu.2", data, len), IMPOST_EFORMAT);
	impost_state_free(part);
	impost_state_free(whole);
	mock_close(&m);
}

/* Every byte of every section changed: refused, or another state that can be loaded or is refused.
 */
Test(state, changed_bytes_do_no_harm, .timeout = 120)
{
	struct impost_state *whole, *part;
	static const char *const names[] = {"machine", "vm", "vcpu.0"};
	uint8_t copied[32768];
	const void *data;
	struct mock m;
	size_t len;

	mock_open(&m, NULL);
	random_vm(m.vm, 1);
	whole = take(&m);
	for (int n = 0; n < 3; n++) {
		OK(m.ctx, impost_state_find(whole, names[n], &data, &len));
		cr_assert_leq(len, sizeof(copied));
		for (size_t at = 0; at < len; at++) {
			int err;

			memcpy(copied, data, len);
			copied[at] ^= (uint8_t)(1u << (random64() & 7));
			OK(m.ctx, impost_state_create(m.ctx, &part));
			err = impost_state_add(part, names[n], copied, len);
			cr_assert(err == 0 || err == -IMPOST_EFORMAT, "%d", err);
			err = impost_state_add(part, names[n], copied, at);
			cr_assert(err == -EEXIST || err == -IMPOST_EFORMAT, "%d", err);
			impost_state_free(part);
		}
	}
	impost_state_free(whole);
	mock_close(&m);
}

Test(state, shapes_must_agree)
{
	struct impost_region more = {.size = sizeof(more), .gpa = 0x10000000, .bytes = 0x1000};
	struct impost_state *state;
	struct mock a, b;

	mock_open_with(&a, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	state = take(&a);

	mock_open_with(&b, NULL, IMPOST_IRQCHIP_FULL, 1, NULL, NULL);
	REFUSED(b.ctx, impost_state_load(state, b.vm), EINVAL);
	mock_close(&b);
	mock_open_with(&b, NULL, IMPOST_IRQCHIP_FULL, 3, NULL, NULL);
	REFUSED(b.ctx, impost_state_load(state, b.vm), EINVAL);
	mock_close(&b);
	mock_open_with(&b, NULL, IMPOST_IRQCHIP_LAPIC, 2, NULL, NULL);
	REFUSED(b.ctx, impost_state_load(state, b.vm), EINVAL);
	mock_close(&b);
	mock_open_with(&b, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	OK(b.ctx, impost_memory_add(impost_vm_memory(b.vm), &more));
	REFUSED(b.ctx, impost_state_load(state, b.vm), EINVAL);
	cr_assert(strstr(impost_error(b.ctx), "0x10000000"), "%s", impost_error(b.ctx));
	OK(b.ctx, impost_memory_remove(impost_vm_memory(b.vm), more.gpa));
	OK(b.ctx, impost_state_load(state, b.vm));
	mock_close(&b);
	impost_state_free(state);
	mock_close(&a);
}

/* In A's section NAME, the value behind KEY, which has two bytes, becomes VALUE. */
static struct impost_state *with_value(struct mock *m, const struct impost_state *a,
				       const char *name, const char *key, uint16_t value)
{
	struct impost_state *b = copy(m, a, name);
	uint8_t copied[32768], *at;
	const void *data;
	size_t len;

	OK(m->ctx, impost_state_find(a, name, &data, &len));
	memcpy(copied, data, len);
	at = memmem(copied, len, key, strlen(key));
	cr_assert_not_null(at);
	at += strlen(key);
	cr_assert_eq(at[0], 0x19, "the value of %s has not two bytes", key);
	at[1] = (uint8_t)(value >> 8);
	at[2] = (uint8_t)value;
	OK(m->ctx, impost_state_add(b, name, copied, len));
	return b;
}

/* Others of the vCPUs, and registers, have been loaded when the mock refuses bit 15 of RFLAGS. */
Test(state, a_failed_load_changes_nothing)
{
	struct impost_state *good, *bad, *before, *after;
	struct impost_x86_regs regs = {.rip = CODE, .rflags = 0x202};
	struct mock a, b;

	mock_open_with(&a, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	mock_open_with(&b, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	random_vm(a.vm, 1);
	random_vm(b.vm, 1);
	OK(a.ctx, impost_vcpu_set_regs(a.cpu[1], &regs));
	good = take(&a);
	before = take(&b);
	bad = with_value(&a, good, "vcpu.1", "rflags", 0x8202);
	REFUSED(b.ctx, impost_state_load(bad, b.vm), IMPOST_ESTATE);
	cr_assert(strstr(impost_error(b.ctx), "RFLAGS"), "%s", impost_error(b.ctx));
	after = take(&b);
	assert_same(&b, before, after);
	OK(b.ctx, impost_state_load(good, b.vm));
	impost_state_free(after);
	impost_state_free(before);
	impost_state_free(bad);
	impost_state_free(good);
	mock_close(&a);
	mock_close(&b);
}

/* --- pre-flight --- */

struct told {
	int count;
	char text[65536];
};

static void hear(void *opaque, const char *kind, const char *name, const char *reason)
{
	struct told *told = opaque;
	size_t len = strlen(told->text);

	snprintf(told->text + len, sizeof(told->text) - len, "%s %s: %s\n", kind, name, reason);
	told->count++;
}

static void expect_told(struct mock *m, const struct impost_state *state, const char *const *what)
{
	static struct told told;
	int n;

	memset(&told, 0, sizeof(told));
	n = impost_state_check(state, "mock", hear, &told);
	cr_assert_geq(n, 0, "%s", impost_error(m->ctx));
	cr_assert_eq(n, told.count);
	cr_assert_eq(n, impost_state_check(state, "mock", NULL, NULL));
	for (n = 0; what[n]; n++)
		cr_assert(strstr(told.text, what[n]), "nothing of \"%s\" in:\n%s", what[n],
			  told.text);
	cr_assert_eq(told.count, n, "%s", told.text);
}

Test(state, the_mock_takes_its_own)
{
	struct impost_state *state;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	random_vm(m.vm, 1);
	state = take(&m);
	expect_told(&m, state, (const char *const[]){NULL});
	impost_state_free(state);
	mock_close(&m);
}

static struct impost_x86_cpuid *leaf_of(struct impost_x86_cpuid *entries, uint32_t count,
					uint32_t leaf)
{
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].leaf == leaf)
			return &entries[i];
	cr_assert_fail("no leaf 0x%x", leaf);
	return NULL;
}

Test(state, features_that_are_missing_are_named)
{
	struct impost_x86_cpuid entries[128];
	struct impost_state *state;
	uint32_t count;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	OK(m.ctx, impost_vcpu_get_cpuid(m.cpu[1], entries, 128, &count));
	leaf_of(entries, count, 7)->ebx |= 1u << 16; /* AVX512F */
	leaf_of(entries, count, 1)->ecx |= 1u << 6;  /* SMX */
	OK(m.ctx, impost_vcpu_set_cpuid(m.cpu[1], entries, count));
	state = take(&m);
	expect_told(&m, state, (const char *const[]){"cpuid AVX512F:", "cpuid SMX:", NULL});
	impost_state_free(state);
	mock_close(&m);
}

/* Adds A's section NAME to B with COUNT other MSRs, from index FIRST on, each 1. Numbers are in
 * CBOR's shortest form: FIRST is 0x10000 or more, and COUNT above 127. */
static int with_msrs(struct mock *m, struct impost_state *b, const struct impost_state *a,
		     const char *name, uint32_t first, uint32_t count)
{
	static const uint8_t key[] = {0x64, 'm', 's', 'r', 's'};
	static uint8_t made[2 << 20];
	const uint8_t *from, *at, *end;
	uint32_t words = 0;
	const void *data;
	size_t len, n;

	OK(m->ctx, impost_state_find(a, name, &data, &len));
	end = (const uint8_t *)data + len;
	for (from = data; !words; from = at) {
		at = memmem(from, (size_t)(end - from), key, sizeof(key));
		cr_assert_not_null(at);
		at += sizeof(key);
		words = *at == 0x98 ? at[1] : *at == 0x99 ? (uint32_t)at[1] << 8 | at[2] : 0;
	}
	n = (size_t)(at - (const uint8_t *)data);
	memcpy(made, data, n);
	/* Numbers of CBOR: below 24 in the first byte, else in 1, 2, 4 or 8 behind it (RFC 8949).
	 */
	for (at += *at == 0x98 ? 2 : 3; words; words--)
		at += *at < 24 ? 1 : 1 + (1 << (*at - 24));
	made[n++] = 2 * count > UINT16_MAX ? 0x9a : 0x99;
	for (int shift = 2 * count > UINT16_MAX ? 24 : 8; shift >= 0; shift -= 8)
		made[n++] = (uint8_t)(2 * count >> shift);
	for (uint32_t i = 0; i < count; i++) {
		made[n++] = 0x1a;
		for (int shift = 24; shift >= 0; shift -= 8)
			made[n++] = (uint8_t)((first + i) >> shift);
		made[n++] = 1;
	}
	memcpy(made + n, at, (size_t)(end - at));
	n += (size_t)(end - at);
	return impost_state_add(b, name, made, n);
}

/* However many MSRs a state says that there are, each is told once, and at the most so many are
 * looked at as a vCPU can have. */
Test(state, msrs_without_number)
{
	struct impost_state *state, *without, *bad;
	static struct told told;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	state = take(&m);
	without = copy(&m, state, "vcpu.0");
	bad = copy(&m, without, "vcpu.1");
	REFUSED(m.ctx, with_msrs(&m, bad, state, "vcpu.0", 0x10000, 100000), IMPOST_EFORMAT);
	cr_assert(strstr(impost_error(m.ctx), "msrs"), "%s", impost_error(m.ctx));
	OK(m.ctx, with_msrs(&m, bad, state, "vcpu.1", 0x10100, 1000));
	OK(m.ctx, with_msrs(&m, bad, state, "vcpu.0", 0x10000, 1000));
	memset(&told, 0, sizeof(told));
	cr_assert_eq(impost_state_check(bad, "mock", hear, &told), 1256);
	cr_assert_eq(told.count, 1256);
	cr_assert(strstr(told.text, "msr MSR 0x10000: it is 0x1, and backend mock has no such"),
		  "%.200s", told.text);
	impost_state_free(bad);
	bad = copy(&m, without, "vcpu.1");
	OK(m.ctx, with_msrs(&m, bad, state, "vcpu.1", 0x20000, 4096));
	OK(m.ctx, with_msrs(&m, bad, state, "vcpu.0", 0x10000, 4096));
	cr_assert_eq(impost_state_check(bad, "mock", NULL, NULL), 4096, "as many as are told");
	impost_state_free(bad);
	impost_state_free(without);
	impost_state_free(state);
	mock_close(&m);
}

/* Ten variable ranges where there are eight; a feature with a name, and one without. */
Test(state, features_that_msrs_tell_of_are_named)
{
	static const uint8_t had[] = {0x18, 0xfe, 0x19, 0x05, 0x08};
	static const uint8_t wanted[] = {0x18, 0xfe, 0x19, 0x17, 0x0a};
	struct impost_state *state, *more;
	uint8_t copied[32768], *at;
	const void *data;
	struct mock m;
	size_t len;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	state = take(&m);
	more = copy(&m, state, "vcpu.1");
	OK(m.ctx, impost_state_find(state, "vcpu.1", &data, &len));
	memcpy(copied, data, len);
	at = memmem(copied, len, had, sizeof(had));
	cr_assert_not_null(at, "no IA32_MTRRCAP of 0x508");
	memcpy(at, wanted, sizeof(wanted));
	OK(m.ctx, impost_state_add(more, "vcpu.1", copied, len));
	expect_told(
		&m, more,
		(const char *const[]){
			"msr IA32_MTRRCAP.VCNT: variable ranges: the guest was told of more",
			"msr IA32_MTRRCAP.PRMRR: protected range: the guest was told that it is "
			"there: the guest's is 0x170a, backend mock has 0x508",
			"msr IA32_MTRRCAP bit 9:", NULL});
	impost_state_free(more);
	impost_state_free(state);
	mock_close(&m);
}

/* --- size --- */

Test(state, is_small)
{
	struct impost_state *state;
	const char *name;
	struct mock m;
	size_t len;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 4, NULL, NULL);
	random_vm(m.vm, 1);
	state = take(&m);
	for (uint32_t i = 0; impost_state_at(state, i, &name, NULL, &len) == 0; i++)
		cr_assert_lt(len, 32768u, "section %s has %zu bytes", name, len);
	impost_state_free(state);
	mock_close(&m);
}

/* --- what is a backend's own --- */

/* Puts an item called WHAT, of BYTES, at AT; returns its length. */
static uint32_t put_item(uint8_t *at, const char *what, uint32_t bytes)
{
	struct impost_x86_opaque head = {
		.size = (uint32_t)sizeof(head) + bytes,
		.version = 1,
		.backend = "mock",
		.data_size = bytes,
	};

	memcpy(head.what, what, strlen(what));
	memcpy(at, &head, sizeof(head));
	memset(at + sizeof(head), what[0], bytes);
	return head.size;
}

/* Lengths that leave items at addresses of no alignment; the script's position is one more. */
Test(state, all_items_of_an_opaque_section_are_kept)
{
	static const char script[] = "[vcpu 0]\nout = 0x80 1 1\nhlt =\n";
	uint8_t own[1024], from[1024], to[1024];
	uint32_t own_len, from_len, to_len;
	struct impost_state *state, *read;
	struct mock a, b;

	own_len = put_item(own, "first", 3);
	own_len += put_item(own + own_len, "second", 0);
	own_len += put_item(own + own_len, "third", 77);
	mock_open(&a, script);
	mock_open(&b, script);
	OK(a.ctx, impost_vcpu_set(a.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, own, own_len));
	state = take(&a);
	read = copy(&b, state, NULL);
	OK(b.ctx, impost_state_load(read, b.vm));
	OK(a.ctx,
	   impost_vcpu_get(a.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, from, sizeof(from), &from_len));
	OK(b.ctx, impost_vcpu_get(b.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, to, sizeof(to), &to_len));
	cr_assert_gt(from_len, own_len);
	cr_assert_eq(from_len, to_len);
	cr_assert_arr_eq(from, to, from_len);
	impost_state_free(state);
	impost_state_free(read);
	mock_close(&a);
	mock_close(&b);
}

/* --- devices --- */

struct knob {
	uint32_t position;
};

static int judge_knob(const void *saved, char *text, size_t room)
{
	if (((const struct knob *)saved)->position <= 10)
		return 0;
	snprintf(text, room, "the knob goes to 10");
	return -EINVAL;
}

IMPOST_FIELDS(knob_fields, IMPOST_FIELD_UINT(struct knob, position, 1, 0, "Of the knob"))
IMPOST_RECORD(knob_record, "knob", struct knob, 1, 1, 1, knob_fields, "A knob", .check = judge_knob)
/* One that goes further, as another release of the host has it. */
IMPOST_RECORD(long_knob_record, "knob", struct knob, 1, 1, 1, knob_fields, "A long knob")

Test(state, devices_come_with_the_vm)
{
	struct knob from[2] = {{3}, {4}}, to[2] = {{0}, {0}};
	struct impost_state *state;
	const void *data;
	struct mock a, b;
	size_t len;

	mock_open(&a, NULL);
	mock_open(&b, NULL);
	for (uint32_t i = 0; i < 2; i++) {
		OK(a.ctx, impost_vm_add_device(a.vm, "knob", i, &knob_record, &from[i]));
		OK(b.ctx, impost_vm_add_device(b.vm, "knob", i, &knob_record, &to[i]));
	}
	state = take(&a);
	OK(a.ctx, impost_state_find(state, "device.knob.1", &data, &len));
	OK(b.ctx, impost_state_load(state, b.vm));
	cr_assert(to[0].position == 3 && to[1].position == 4);
	/* A device that is not there, and one that the state has not. */
	OK(b.ctx, impost_vm_remove_device(b.vm, "knob", 0));
	REFUSED(b.ctx, impost_state_load(state, b.vm), EINVAL);
	OK(b.ctx, impost_vm_add_device(b.vm, "knob", 0, &knob_record, &to[0]));
	OK(b.ctx, impost_vm_add_device(b.vm, "knob", 2, &knob_record, &to[0]));
	REFUSED(b.ctx, impost_state_load(state, b.vm), EINVAL);
	impost_state_free(state);
	mock_close(&a);
	mock_close(&b);
}

/* It is judged before the first register is touched. */
Test(state, a_device_that_refuses_keeps_the_vm_as_it_was)
{
	struct knob from = {11}, to = {5};
	struct impost_state *state, *before, *after;
	struct mock a, b;

	mock_open(&a, NULL);
	mock_open(&b, NULL);
	random_vm(a.vm, 1);
	OK(a.ctx, impost_vm_add_device(a.vm, "knob", 0, &long_knob_record, &from));
	OK(b.ctx, impost_vm_add_device(b.vm, "knob", 0, &knob_record, &to));
	state = take(&a);
	before = take(&b);
	REFUSED(b.ctx, impost_state_load(state, b.vm), IMPOST_EFORMAT);
	cr_assert(strstr(impost_error(b.ctx), "the knob goes to 10"), "%s", impost_error(b.ctx));
	after = take(&b);
	assert_same(&b, before, after);
	cr_assert_eq(to.position, 5u);
	impost_state_free(state);
	impost_state_free(before);
	impost_state_free(after);
	mock_close(&a);
	mock_close(&b);
}
