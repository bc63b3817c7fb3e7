/* SPDX-License-Identifier: Apache-2.0 */
/* The ABI as it was written down by hand in layout.def and numbers.def, against the headers. */
#include <criterion/criterion.h>
#include <string.h>

#include <impost/api.h>
#include <impost/cassette.h>
#include <impost/fault.h>
#include <impost/impost.h>
#include <impost/mock.h>
#include <impost/trace.h>

struct abi_struct {
	const char *name;
	size_t bytes;
	size_t pinned;
};

struct abi_member {
	const char *owner;
	const char *name;
	size_t offset, bytes;
	size_t pinned_offset, pinned_bytes;
	int overlay; /* lies over other members */
	int tail;    /* a flexible array */
};

#define ABI_STRUCT(s, size) {#s, sizeof(struct s), size},
#define ABI_MEMBER(s, m, offset, size)
#define ABI_UNION(s, m, offset, size)
#define ABI_TAIL(s, m, offset)
static const struct abi_struct structs[] = {
#include "layout.def"
};
#undef ABI_STRUCT
#undef ABI_MEMBER
#undef ABI_UNION
#undef ABI_TAIL

#define SIZE_OF(s, m) sizeof(((struct s *)NULL)->m)
#define ABI_STRUCT(s, size)
#define ABI_MEMBER(s, m, offset, size) \
	{#s, #m, offsetof(struct s, m), SIZE_OF(s, m), offset, size, 0, 0},
#define ABI_UNION(s, m, offset, size) \
	{#s, #m, offsetof(struct s, m), SIZE_OF(s, m), offset, size, 1, 0},
#define ABI_TAIL(s, m, offset) {#s, #m, offsetof(struct s, m), 0, offset, 0, 0, 1},
static const struct abi_member members[] = {
#include "layout.def"
};

#define ABI_NUMBER(name, value) {#name, (uint64_t)(name), UINT64_C(value)},
static const struct {
	const char *name;
	uint64_t value, pinned;
} numbers[] = {
#include "numbers.def"
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(layout, structs_have_their_size)
{
	for (size_t i = 0; i < COUNT(structs); i++)
		cr_expect_eq(structs[i].bytes, structs[i].pinned, "struct %s: %zu bytes, not %zu",
			     structs[i].name, structs[i].bytes, structs[i].pinned);
}

Test(layout, members_are_where_they_were)
{
	for (size_t i = 0; i < COUNT(members); i++) {
		const struct abi_member *m = &members[i];

		cr_expect(m->offset == m->pinned_offset && m->bytes == m->pinned_bytes,
			  "%s.%s: %zu bytes at %zu, not %zu at %zu", m->owner, m->name, m->bytes,
			  m->offset, m->pinned_bytes, m->pinned_offset);
	}
}

/* The end of the members of NAME that follow each other without a gap from 0. */
static size_t covered(const char *name)
{
	size_t end = 0;

	for (size_t i = 0; i < COUNT(members); i++) {
		const struct abi_member *m = &members[i];

		if (strcmp(m->owner, name) || m->overlay || m->tail)
			continue;
		cr_expect_eq(m->offset, end, "%s.%s: at %zu, but what is before ends at %zu", name,
			     m->name, m->offset, end);
		end = m->offset + m->bytes;
	}
	return end;
}

/*
 * Bytes that no member owns are set by nobody and could be used by nobody; and a member that the
 * table forgot shows as such a gap.
 */
Test(layout, every_byte_belongs_to_a_member)
{
	for (size_t i = 0; i < COUNT(structs); i++)
		cr_expect_eq(covered(structs[i].name), structs[i].bytes, "struct %s",
			     structs[i].name);
}

Test(numbers, are_what_they_were)
{
	for (size_t i = 0; i < COUNT(numbers); i++)
		cr_expect_eq(numbers[i].value, numbers[i].pinned, "%s is %#llx, not %#llx",
			     numbers[i].name, (unsigned long long)numbers[i].value,
			     (unsigned long long)numbers[i].pinned);
}

/* Whether numbers.def pins a number of this name. */
static int pinned(const char *name)
{
	for (size_t i = 0; i < COUNT(numbers); i++)
		if (!strcmp(numbers[i].name, name))
			return 1;
	return 0;
}

Test(numbers, every_capability_exit_and_section_is_pinned)
{
#define IMPOST_CAP(bit, NAME, name, what)	 cr_expect(pinned("IMPOST_CAP_" #NAME), #NAME);
#define IMPOST_EXIT(number, NAME, name, what)	 cr_expect(pinned("IMPOST_EXIT_" #NAME), #NAME);
#define IMPOST_VCPU_SECTION(n, NAME, name, t, v) cr_expect(pinned("IMPOST_SECTION_" #NAME), #NAME);
#define IMPOST_VM_SECTION(n, NAME, name, t, v)	 cr_expect(pinned("IMPOST_SECTION_" #NAME), #NAME);
#include <impost/caps.def>
#include <impost/exits.def>
#include <impost/x86_64/sections.def>
}

/* Capability bits and exit numbers are dense, so that COUNT and KINDS bound them. */
Test(numbers, capabilities_and_exits_have_no_holes)
{
	uint64_t caps[2] = {0}, exits = 0;

#undef IMPOST_CAP
#undef IMPOST_EXIT
#define IMPOST_CAP(bit, NAME, name, what)     caps[(bit) / 64] |= UINT64_C(1) << ((bit) % 64);
#define IMPOST_EXIT(number, NAME, name, what) exits |= UINT64_C(1) << (number);
#include <impost/caps.def>
#include <impost/exits.def>
	for (unsigned bit = 0; bit < IMPOST_CAP_COUNT; bit++)
		cr_expect(caps[bit / 64] >> (bit % 64) & 1, "capability %u", bit);
	cr_expect_eq(exits, (UINT64_C(1) << IMPOST_EXIT_KINDS) - 1);
}

/* The inline accessors agree with what the header says of the bit set. */
Test(layout, capability_bits_are_found_where_they_were_put)
{
	for (unsigned bit = 0; bit < IMPOST_CAP_COUNT; bit++) {
		struct impost_caps caps = {.size = sizeof(caps)};

		impost_caps_add(&caps, (enum impost_cap)bit);
		cr_expect_eq(caps.bits[bit / 64], UINT64_C(1) << (bit % 64));
		for (unsigned other = 0; other < IMPOST_CAP_COUNT; other++)
			cr_expect_eq(impost_caps_has(&caps, (enum impost_cap)other), other == bit);
	}
}
