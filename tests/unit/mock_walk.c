/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock's page-table walk, against a model: tables are built for random mappings in each paging
 * mode, and every address must lead where the model says.
 */
#include "mock.h"

#define TABLES	  UINT64_C(0x100000) /* page tables are made from here on */
#define NMAPPINGS 40u
#define NX	  (UINT64_C(1) << 63)
#define LA57	  (UINT64_C(1) << 12)

enum mode { NONE, BITS32, PAE, LEVEL4, LEVEL5 };

struct mapping {
	uint64_t gva, gpa, bytes;
};

struct model {
	struct mock m;
	enum mode mode;
	uint64_t root, next; /* table */
	struct mapping map[NMAPPINGS];
	unsigned count;
	uint64_t random;
};

static uint64_t rnd(struct model *k)
{
	k->random ^= k->random << 13;
	k->random ^= k->random >> 7;
	k->random ^= k->random << 17;
	return k->random;
}

static uint64_t read_entry(struct model *k, uint64_t at, unsigned bytes)
{
	uint64_t value = 0;

	cr_assert_eq(impost_memory_read(impost_vm_memory(k->m.vm), at, &value, bytes), 0);
	return value;
}

static void write_entry(struct model *k, uint64_t at, unsigned bytes, uint64_t value)
{
	cr_assert_eq(impost_memory_write(impost_vm_memory(k->m.vm), at, &value, bytes), 0);
}

static uint64_t new_table(struct model *k)
{
	uint64_t table = k->next;

	k->next += 4096;
	cr_assert_leq(k->next, MEMORY);
	return table;
}

/* Shifts of the index at each level of a mode, the root first; 0 ends. */
static const uint8_t *shifts(enum mode mode)
{
	static const uint8_t of[][6] = {[BITS32] = {22, 12},
					[PAE] = {30, 21, 12},
					[LEVEL4] = {39, 30, 21, 12},
					[LEVEL5] = {48, 39, 30, 21, 12}};

	return of[mode];
}

static unsigned entry_bytes(const struct model *k)
{
	return k->mode == BITS32 ? 4 : 8;
}

static uint64_t entry_at(const struct model *k, uint64_t table, unsigned shift, uint64_t gva)
{
	uint64_t mask = k->mode == BITS32 ? 0x3ff : k->mode == PAE && shift == 30 ? 3 : 0x1ff;

	return table + (gva >> shift & mask) * entry_bytes(k);
}

/* Maps BYTES at GVA to GPA, which do not meet anything that is mapped. */
static void map(struct model *k, uint64_t gva, uint64_t gpa, uint64_t bytes, uint64_t flags)
{
	uint64_t table = k->root;
	const uint8_t *shift;

	for (shift = shifts(k->mode);; shift++) {
		uint64_t at = entry_at(k, table, *shift, gva);
		uint64_t entry = read_entry(k, at, entry_bytes(k));

		if (bytes == UINT64_C(1) << *shift) {
			uint64_t large = *shift > 12 ? 0x80 : 0;
			uint64_t high = k->mode == BITS32 && large ? (gpa >> 32 & 0xff) << 13 : 0;

			cr_assert_eq(entry, 0);
			gpa = k->mode == BITS32 ? gpa & UINT32_MAX : gpa;
			write_entry(k, at, entry_bytes(k), gpa | high | large | flags);
			return;
		}
		if (!entry) {
			entry = new_table(k) | (k->mode == PAE && *shift == 30 ? 1 : 7);
			write_entry(k, at, entry_bytes(k), entry);
		}
		table = entry & ~UINT64_C(0xfff);
	}
}

static bool taken(const struct model *k, uint64_t gva, uint64_t bytes)
{
	unsigned i;

	for (i = 0; i < k->count; i++)
		if (gva < k->map[i].gva + k->map[i].bytes && k->map[i].gva < gva + bytes)
			return true;
	return false;
}

static uint64_t canonical(const struct model *k, uint64_t gva)
{
	unsigned shift = k->mode == LEVEL5 ? 7 : 16;

	if (k->mode < LEVEL4)
		return gva & UINT32_MAX;
	return (uint64_t)((int64_t)(gva << shift) >> shift);
}

static void random_mapping(struct model *k)
{
	static const uint64_t sizes64[] = {0x1000, 0x200000, 0x40000000};
	uint64_t bytes = sizes64[rnd(k) % (k->mode == PAE ? 2 : 3)];
	uint64_t gva, gpa;

	if (k->mode == BITS32)
		bytes = rnd(k) & 1 ? 0x1000 : 0x400000;
	/* Half of them near to each other, so that tables are shared. */
	gva = canonical(k, rnd(k) & 1 ? rnd(k) & UINT64_C(0xffffffff) : rnd(k)) & ~(bytes - 1);
	/* A page of 4 MiB has 40 bits of address (SDM vol. 3, 4.3). */
	gpa = rnd(k) & ((UINT64_C(1) << (k->mode == BITS32 ? 40 : 46)) - 1) & ~(bytes - 1);
	if (k->mode == BITS32 && bytes == 0x1000)
		gpa &= UINT32_MAX;
	if (taken(k, gva, bytes) || k->next + 4 * 4096 > MEMORY)
		return;
	/* A large page must not cover a table that stands for smaller ones already. */
	if (bytes > 0x1000 && taken(k, gva & ~(bytes - 1), bytes))
		return;
	map(k, gva, gpa, bytes, 7);
	k->map[k->count++] = (struct mapping){gva, gpa, bytes};
}

static void set_mode(struct model *k)
{
	struct impost_x86_sregs s;

	cr_assert_eq(impost_vcpu_get_sregs(k->m.cpu[0], &s), 0);
	s.cr3 = k->root;
	s.cr4 = k->mode == BITS32 ? 0x10 : 0x20 | (k->mode == LEVEL5 ? LA57 : 0);
	s.efer = k->mode < LEVEL4 ? 0x800 : 0xd00;
	s.cs.access = k->mode < LEVEL4 ? 0xc09b : 0xa09b;
	if (k->mode == NONE)
		s.cr0 = 0x11;
	cr_assert_eq(impost_vcpu_set_sregs(k->m.cpu[0], &s), 0, "%s", impost_error(k->m.ctx));
}

static void expect_at(struct model *k, const struct mapping *map, uint64_t offset)
{
	uint64_t gpa = 0;
	int err = impost_vcpu_translate(k->m.cpu[0], map->gva + offset, &gpa);

	cr_assert_eq(err, 0, "mode %d: %#llx: %s", k->mode, (unsigned long long)map->gva,
		     impost_error(k->m.ctx));
	cr_assert_eq(gpa, map->gpa + offset, "mode %d: %#llx + %#llx leads to %#llx", k->mode,
		     (unsigned long long)map->gva, (unsigned long long)offset,
		     (unsigned long long)gpa);
}

static void check_model(struct model *k)
{
	uint64_t gpa = 0x1234;
	unsigned i;

	cr_assert_gt(k->count, 5);
	for (i = 0; i < k->count; i++) {
		expect_at(k, &k->map[i], 0);
		expect_at(k, &k->map[i], k->map[i].bytes - 1);
		expect_at(k, &k->map[i], rnd(k) & (k->map[i].bytes - 1));
	}
	for (i = 0; i < 500; i++) {
		uint64_t gva = canonical(k, i & 1 ? rnd(k) : rnd(k) & UINT32_MAX);

		if (taken(k, gva, 1))
			continue;
		cr_assert_eq(impost_vcpu_translate(k->m.cpu[0], gva, &gpa), -EFAULT,
			     "mode %d: %#llx leads to %#llx", k->mode, (unsigned long long)gva,
			     (unsigned long long)gpa);
		cr_assert_eq(gpa, 0x1234);
	}
}

static void model_open(struct model *k, enum mode mode, uint64_t seed)
{
	memset(k, 0, sizeof(*k));
	mock_open(&k->m, "[vcpu 0]\nrepeat = forever\nhlt =\nend =\n");
	k->mode = mode;
	k->next = TABLES;
	k->root = new_table(k);
	k->random = seed;
	set_mode(k);
}

Test(mock_walk, random_mappings_lead_where_the_model_says)
{
	static struct model k;
	enum mode mode;
	uint64_t seed;
	unsigned i;

	for (mode = BITS32; mode <= LEVEL5; mode++)
		for (seed = 1; seed < 20; seed++) {
			model_open(&k, mode, seed * UINT64_C(0x9e3779b97f4a7c15));
			for (i = 0; i < NMAPPINGS; i++)
				random_mapping(&k);
			check_model(&k);
			mock_close(&k.m);
		}
}

Test(mock_walk, without_paging_an_address_is_itself)
{
	static struct model k;
	uint64_t gpa;

	model_open(&k, NONE, 1);
	cr_assert_eq(impost_vcpu_translate(k.m.cpu[0], 0xfee00123, &gpa), 0);
	cr_assert_eq(gpa, 0xfee00123);
	cr_assert_eq(impost_vcpu_translate(k.m.cpu[0], UINT64_C(1) << 32, &gpa), -EFAULT);
	mock_close(&k.m);
}

Test(mock_walk, an_address_that_is_not_canonical_leads_nowhere)
{
	static struct model k;
	uint64_t gpa;

	model_open(&k, LEVEL4, 1);
	cr_assert_eq(impost_vcpu_translate(k.m.cpu[0], UINT64_C(1) << 47, &gpa), -EFAULT);
	cr_assert(strstr(impost_error(k.m.ctx), "not canonical"));
	mock_close(&k.m);
	model_open(&k, LEVEL5, 1);
	map(&k, UINT64_C(1) << 47, 0x5000, 0x1000, 3);
	cr_assert_eq(impost_vcpu_translate(k.m.cpu[0], UINT64_C(1) << 47, &gpa), 0);
	cr_assert_eq(gpa, 0x5000);
	mock_close(&k.m);
}

/* Entries with FLAGS at the leaf of SIZE in MODE: NULL, or what entry must say. */
static const struct {
	enum mode mode;
	uint64_t bytes, flags;
	const char *text;
} leaves[] = {
	{LEVEL4, 0x1000, 3, NULL},
	{LEVEL4, 0x200000, 3, NULL},
	{LEVEL4, 0x40000000, 3, NULL},
	{LEVEL5, 0x1000, 3, NULL},
	{PAE, 0x1000, 3, NULL},
	{PAE, 0x200000, 3, NULL},
	{BITS32, 0x1000, 3, NULL},
	{BITS32, 0x400000, 3, NULL},
	{LEVEL4, 0x1000, 2, "not present"},
	{BITS32, 0x1000, 2, "not present"},
	{LEVEL4, 0x1000, 3 | NX, "not executable (XD)"},
	{LEVEL4, 0x200000, 3 | NX, "not executable (XD)"},
	{PAE, 0x1000, 3 | NX, "not executable (XD)"},
	{LEVEL4, 0x1000, 3 | UINT64_C(1) << 46, "reserved bits"},
	{LEVEL5, 0x1000, 3 | UINT64_C(1) << 51, "reserved bits"},
	{LEVEL4, 0x200000, 3 | 1 << 13, "reserved bits"},
	{LEVEL4, 0x40000000, 3 | 1 << 29, "reserved bits"},
	{PAE, 0x1000, 3 | UINT64_C(1) << 52, "reserved bits"},
	{PAE, 0x200000, 3 | 1 << 20, "reserved bits"},
	{BITS32, 0x400000, 3 | 1 << 21, "reserved bits"},
};

Test(mock_walk, rip_must_be_mapped_executable)
{
	static struct model k;
	struct impost_x86_regs regs = {.rip = 0x40000000 + CODE, .rflags = 2};
	size_t i;

	for (i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		struct impost_exit x;

		model_open(&k, leaves[i].mode, 1);
		map(&k, 0x40000000 + (CODE & ~(leaves[i].bytes - 1)), CODE & ~(leaves[i].bytes - 1),
		    leaves[i].bytes, leaves[i].flags);
		cr_assert_eq(impost_vcpu_set_regs(k.m.cpu[0], &regs), 0);
		cr_assert_eq(impost_vcpu_run(k.m.cpu[0], &x), 0);
		if (!leaves[i].text) {
			cr_expect_eq(x.kind, IMPOST_EXIT_HLT, "row %zu", i);
		} else {
			cr_assert_eq(x.kind, IMPOST_EXIT_FAIL_ENTRY, "row %zu", i);
			cr_expect(strstr(x.u.failure.text, leaves[i].text), "row %zu: %s", i,
				  x.u.failure.text);
			cr_expect_eq(x.u.failure.reason, 14);
		}
		mock_close(&k.m);
	}
}

Test(mock_walk, privilege_decides_who_may_fetch)
{
	static struct model k;
	struct impost_x86_regs regs = {.rip = 0x40000000, .rflags = 2};
	struct impost_x86_sregs s;

	model_open(&k, LEVEL4, 1);
	map(&k, 0x40000000, CODE, 0x1000, 7);
	map(&k, 0x40001000, CODE, 0x1000, 3);
	cr_assert_eq(impost_vcpu_set_regs(k.m.cpu[0], &regs), 0);
	run_to(&k.m, IMPOST_EXIT_HLT); /* the supervisor on a user's page */
	cr_assert_eq(impost_vcpu_get_sregs(k.m.cpu[0], &s), 0);
	s.cr4 |= 1 << 20;
	cr_assert_eq(impost_vcpu_set_sregs(k.m.cpu[0], &s), 0);
	run_expecting(&k.m, IMPOST_EXIT_FAIL_ENTRY, "SMEP");
	s.cs.access = 0xa0fb;
	s.ss.access = 0xc0f3;
	cr_assert_eq(impost_vcpu_set_sregs(k.m.cpu[0], &s), 0);
	run_to(&k.m, IMPOST_EXIT_HLT); /* the user on a user's page */
	regs.rip = 0x40001000;
	cr_assert_eq(impost_vcpu_set_regs(k.m.cpu[0], &regs), 0);
	run_expecting(&k.m, IMPOST_EXIT_FAIL_ENTRY, "CPL is 3");
	mock_close(&k.m);
}

Test(mock_walk, without_nxe_the_top_bit_is_reserved)
{
	static struct model k;
	struct impost_x86_regs regs = {.rip = 0x40000000, .rflags = 2};
	struct impost_x86_sregs s;

	model_open(&k, LEVEL4, 1);
	map(&k, 0x40000000, CODE, 0x1000, 3 | NX);
	cr_assert_eq(impost_vcpu_get_sregs(k.m.cpu[0], &s), 0);
	s.efer = 0x500;
	cr_assert_eq(impost_vcpu_set_sregs(k.m.cpu[0], &s), 0);
	cr_assert_eq(impost_vcpu_set_regs(k.m.cpu[0], &regs), 0);
	run_expecting(&k.m, IMPOST_EXIT_FAIL_ENTRY, "reserved bits");
	mock_close(&k.m);
}

Test(mock_walk, pae_takes_its_registers_before_memory)
{
	static struct model k;
	struct impost_x86_sregs s;
	uint64_t gpa, table;

	model_open(&k, PAE, 1);
	map(&k, 0x1000, 0x5000, 0x1000, 3);
	table = read_entry(&k, k.root, 8);
	cr_assert_eq(impost_vcpu_get_sregs(k.m.cpu[0], &s), 0);
	s.flags = IMPOST_X86_SREGS_PDPTRS_VALID;
	s.pdptr[3] = table;
	cr_assert_eq(impost_vcpu_set_sregs(k.m.cpu[0], &s), 0, "%s", impost_error(k.m.ctx));
	cr_assert_eq(impost_vcpu_translate(k.m.cpu[0], 0x1000, &gpa), -EFAULT);
	cr_assert_eq(impost_vcpu_translate(k.m.cpu[0], 0xc0001000, &gpa), 0);
	cr_assert_eq(gpa, 0x5000);
	mock_close(&k.m);
}

Test(mock_walk, a_change_of_memory_is_judged_again)
{
	struct impost_region more = {.size = sizeof(more), .gpa = 0x40000000, .bytes = 0x1000};
	struct impost_x86_regs regs = {.rip = 0x40000000, .rflags = 2};
	struct mock m;

	mock_open(&m, "[vcpu 0]\nrepeat = forever\nhlt =\nend =\n");
	put64(&m, PDPT + 8, 0x40000083); /* 1 GiB */
	cr_assert_eq(impost_vcpu_set_regs(m.cpu[0], &regs), 0);
	run_expecting(&m, IMPOST_EXIT_FAIL_ENTRY, "0x40000000, where there is no memory");
	cr_assert_eq(impost_memory_add(impost_vm_memory(m.vm), &more), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_memory_remove(impost_vm_memory(m.vm), more.gpa), 0);
	run_to(&m, IMPOST_EXIT_FAIL_ENTRY);
	mock_close(&m);
}
