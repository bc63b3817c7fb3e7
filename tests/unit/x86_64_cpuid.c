/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID of one vCPU: golden tables, and for many topologies what software makes of the leaves that
 * tell the topology, by the makers' algorithms and as Linux does it.
 */
#include <cpuid.h>
#include <criterion/criterion.h>
#include <string.h>

#include <impost/context.h>
#include <impost/vm.h>
#include <impost/x86_64/cpuid.h>

#define SUB	    IMPOST_X86_CPUID_SUBLEAF

#define MAX_ENTRIES 64u

/* A table of entries, and what it is made for. */
struct table {
	struct impost_x86_cpuid entry[MAX_ENTRIES];
	uint32_t count;
};

#define VENDOR_INTEL 0x756e6547, 0x6c65746e, 0x49656e69
#define VENDOR_AMD   0x68747541, 0x444d4163, 0x69746e65

/* As a hypervisor gives it: topology blank or the host's, out of order, one entry twice. */
static const struct impost_x86_cpuid intel[] = {
	{0x80000000, 0, 0, 0x80000008, 0, 0, 0, 0},
	{0x80000001, 0, 0, 0, 0, 0x00000121, 0x2c100800, 0},
	{0x80000002, 0, 0, 0x20555043, 0x7420666f, 0x68206568, 0x0074736f,
	 0}, /* "CPU of the host" */
	{0x80000003, 0, 0, 0, 0, 0, 0, 0},
	{0x80000004, 0, 0, 0, 0, 0, 0, 0},
	{0x80000008, 0, 0, 0x302e, 0, 0x1f, 0, 0},
	{0x00000000, 0, 0, 0x16, VENDOR_INTEL, 0},
	{0x00000001, 0, 0, 0x000806f8, 0xaabb0800, 0x7ffef201, 0x0f8bfbff, 0},
	{0x00000004, 0, SUB, 0xfc01c121, 0x02c0003f, 0x3f, 0, 0},
	{0x00000004, 1, SUB, 0xfc01c122, 0x01c0003f, 0x3f, 0, 0},
	{0x00000004, 2, SUB, 0xfc01c143, 0x03c0003f, 0x7ff, 0, 0},
	{0x00000004, 3, SUB, 0xfc1fc163, 0x0380003f, 0xdfff, 4, 0},
	{0x00000004, 4, SUB, 0, 0, 0, 0, 0},
	{0x00000007, 0, SUB, 1, 0xf1bf2fbb, 0x1b415f7e, 0xa4004510, 0},
	{0x00000007, 1, SUB, 0x1c30, 0, 0, 0, 0},
	{0x00000001, 0, 0, 1, 2, 3, 4, 0},
	{0x0000000b, 0, SUB, 7, 9, 1, 99, 0},
	{0x0000000d, 0, SUB, 7, 0x340, 0x340, 0, 0},
	{0x00000015, 0, 0, 2, 0xa8, 25000000, 0, 0},
};

static const struct impost_x86_cpuid amd[] = {
	{0x00000000, 0, 0, 0xd, VENDOR_AMD, 0},
	{0x00000001, 0, 0, 0x00a00f11, 0x03040800, 0xf7fa3203, 0x178bfbff, 0},
	{0x00000007, 0, SUB, 0, 0x219c97a9, 0x40069c, 0x10, 0},
	{0x0000000b, 0, SUB, 0, 0, 0, 1, 0},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, 0}, /* KVMKVMKVM */
	{0x40000001, 0, 0, 0x01007efb, 0, 0, 0, 0},
	{0x80000000, 0, 0, 0x80000021, VENDOR_AMD, 0},
	{0x80000001, 0, 0, 0x00a00f11, 0x40000000, 0x004003f1, 0x2e500800, 0},
	{0x80000008, 0, 0, 0x3030, 0x111ef257, 0x7001, 0, 0},
	{0x8000001d, 0, SUB, 0x00004121, 0x01c0003f, 0x3f, 0, 0},
	{0x8000001d, 1, SUB, 0x00004122, 0x01c0003f, 0x3f, 0, 0},
	{0x8000001d, 2, SUB, 0x00004143, 0x01c0003f, 0x3ff, 2, 0},
	{0x8000001d, 3, SUB, 0x0003c163, 0x03c0003f, 0x7fff, 1, 0},
	{0x8000001d, 4, SUB, 0, 0, 0, 0, 0},
	{0x8000001e, 0, 0, 5, 0x105, 0x301, 0, 0},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct table from(const struct impost_x86_cpuid *entries, size_t count)
{
	struct table table = {.count = (uint32_t)count};

	memcpy(table.entry, entries, count * sizeof(*entries));
	return table;
}

static struct impost_x86_topology topology_of(uint32_t sockets, uint32_t dies, uint32_t cores,
					      uint32_t threads)
{
	return (struct impost_x86_topology){
		sizeof(struct impost_x86_topology), sockets, dies, cores, threads, 0};
}

static uint32_t cpus_of(const struct impost_x86_topology *t)
{
	return t->sockets * t->dies * t->cores * t->threads;
}

static struct impost_x86_cpuid_config config_for(const struct impost_x86_topology *t, uint32_t cpu)
{
	return (struct impost_x86_cpuid_config){
		.size = sizeof(struct impost_x86_cpuid_config),
		.irqchip = IMPOST_IRQCHIP_FULL,
		.apic_id = impost_x86_apic_id(t, cpu),
		.topology = t,
		.brand = "CPU of the test",
	};
}

/* What vCPU number CPU of T sees. */
static struct table set_up(const struct impost_x86_cpuid *entries, size_t count,
			   const struct impost_x86_topology *t, uint32_t cpu)
{
	struct impost_x86_cpuid_config config = config_for(t, cpu);
	struct table table = from(entries, count);

	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0);
	return table;
}

/* CPUID as the guest executes it. */
static struct impost_x86_cpuid cpuid(const struct table *table, uint32_t leaf, uint32_t subleaf)
{
	const struct impost_x86_cpuid *e =
		impost_x86_cpuid_find(table->entry, table->count, leaf, subleaf);

	return e ? *e : (struct impost_x86_cpuid){0};
}

/* --- golden tables --- */

static void assert_golden(const struct table *got, const struct impost_x86_cpuid *want,
			  size_t count)
{
	for (size_t i = 0; i < count && i < got->count; i++) {
		const struct impost_x86_cpuid *g = &got->entry[i], *w = &want[i];

		cr_expect(!memcmp(g, w, sizeof(*g)),
			  "got  %08x.%x f%u %08x %08x %08x %08x\nwant %08x.%x f%u %08x %08x %08x "
			  "%08x",
			  g->leaf, g->subleaf, g->flags, g->eax, g->ebx, g->ecx, g->edx, w->leaf,
			  w->subleaf, w->flags, w->eax, w->ebx, w->ecx, w->edx);
	}
	cr_expect_eq(got->count, count, "%u entries", got->count);
}

/* Two sockets of two dies of three cores of two threads: 1 + 2 + 1 bits. CPU 21 is the second
 * thread of the second core of the last die: socket 1, die 1, core 1, thread 1. */
Test(cpuid, golden_intel)
{
	static const struct impost_x86_cpuid want[] = {
		{0x00000000, 0, 0, 0x1f, VENDOR_INTEL, 0}, /* up to the leaf that has dies */
		/* id 0x1b, 16 ids in the socket; hypervisor, no OSXSAVE; HTT */
		{0x00000001, 0, 0, 0x000806f8, 0x1b100800, 0xf7fef201, 0x1f8bfbff, 0},
		/* 8 ids of cores; caches of 2 ids and 8 ids */
		{0x00000004, 0, SUB, 0x1c004121, 0x02c0003f, 0x3f, 0, 0},
		{0x00000004, 1, SUB, 0x1c004122, 0x01c0003f, 0x3f, 0, 0},
		{0x00000004, 2, SUB, 0x1c004143, 0x03c0003f, 0x7ff, 0, 0},
		{0x00000004, 3, SUB, 0x1c01c163, 0x0380003f, 0xdfff, 4, 0},
		{0x00000004, 4, SUB, 0, 0, 0, 0, 0},
		{0x00000007, 0, SUB, 1, 0xf1bf2fbb, 0x1b415f6e, 0xa4004510, 0}, /* no OSPKE */
		{0x00000007, 1, SUB, 0x1c30, 0, 0, 0, 0},
		{0x0000000b, 0, SUB, 1, 2, 0x100, 0x1b, 0},
		{0x0000000b, 1, SUB, 4, 12, 0x201, 0x1b, 0},
		{0x0000000b, 2, SUB, 0, 0, 2, 0x1b, 0},
		{0x0000000d, 0, SUB, 7, 0x340, 0x340, 0, 0},
		{0x00000015, 0, 0, 2, 0xa8, 25000000, 0, 0},
		{0x0000001f, 0, SUB, 1, 2, 0x100, 0x1b, 0},
		{0x0000001f, 1, SUB, 3, 6, 0x201, 0x1b, 0},
		{0x0000001f, 2, SUB, 4, 12, 0x502, 0x1b, 0},
		{0x0000001f, 3, SUB, 0, 0, 3, 0x1b, 0},
		{0x40000000, 0, 0, 0x40000000, 0x6f706d49, 0x6d497473, 0x74736f70, 0},
		{0x80000000, 0, 0, 0x80000008, 0, 0, 0, 0},
		{0x80000001, 0, 0, 0, 0, 0x00000121, 0x2c100800, 0},
		{0x80000002, 0, 0, 0x20555043, 0x7420666f, 0x74206568, 0x00747365, 0},
		{0x80000003, 0, 0, 0, 0, 0, 0, 0},
		{0x80000004, 0, 0, 0, 0, 0, 0, 0},
		{0x80000008, 0, 0, 0x302e, 0, 0x1f, 0, 0},
	};
	struct impost_x86_topology t = topology_of(2, 2, 3, 2);
	struct table got = set_up(intel, COUNT(intel), &t, 21);

	assert_golden(&got, want, COUNT(want));
}

Test(cpuid, golden_amd)
{
	static const struct impost_x86_cpuid want[] = {
		{0x00000000, 0, 0, 0xd, VENDOR_AMD, 0},
		/* id 0x1b, 12 processors in the socket */
		{0x00000001, 0, 0, 0x00a00f11, 0x1b0c0800, 0xf7fa3203, 0x178bfbff, 0},
		{0x00000007, 0, SUB, 0, 0x219c97a9, 0x40068c, 0x10, 0},
		{0x0000000b, 0, SUB, 1, 2, 0x100, 0x1b, 0},
		{0x0000000b, 1, SUB, 4, 12, 0x201, 0x1b, 0},
		{0x0000000b, 2, SUB, 0, 0, 2, 0x1b, 0},
		{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, 0},
		{0x40000001, 0, 0, 0x01007efb, 0, 0, 0, 0},
		{0x80000000, 0, 0, 0x80000021, VENDOR_AMD, 0},
		/* CmpLegacy; copies of leaf 1 */
		{0x80000001, 0, 0, 0x00a00f11, 0x40000000, 0x004003f3, 0x2fd3fbff, 0},
		{0x80000002, 0, 0, 0x20555043, 0x7420666f, 0x74206568, 0x00747365, 0},
		{0x80000003, 0, 0, 0, 0, 0, 0, 0},
		{0x80000004, 0, 0, 0, 0, 0, 0, 0},
		{0x80000008, 0, 0, 0x3030, 0x111ef257, 0x400b, 0, 0}, /* 12 threads, 4 bits */
		{0x8000001d, 0, SUB, 0x00004121, 0x01c0003f, 0x3f, 0, 0},
		{0x8000001d, 1, SUB, 0x00004122, 0x01c0003f, 0x3f, 0, 0},
		{0x8000001d, 2, SUB, 0x00004143, 0x01c0003f, 0x3ff, 2, 0},
		{0x8000001d, 3, SUB, 0x0001c163, 0x03c0003f, 0x7fff, 1, 0},
		{0x8000001d, 4, SUB, 0, 0, 0, 0, 0},
		/* core 5 of its socket, two threads; node 3, two nodes */
		{0x8000001e, 0, 0, 0x1b, 0x105, 0x103, 0, 0},
	};
	struct impost_x86_topology t = topology_of(2, 2, 3, 2);
	struct table got = set_up(amd, COUNT(amd), &t, 21);

	assert_golden(&got, want, COUNT(want));
}

/* --- topologies, read back --- */

/* Where a CPU is. What a way of enumeration does not tell is 0. */
struct where {
	uint32_t socket, die, core, thread; /* numbers that are equal where the thing is the same */
	uint32_t in_core, in_die, in_socket; /* CPUs */
};

/*
 * The SDM's algorithm (vol. 3, 9.9.3.1): walk the sub-leaves until one has type 0; each shift gives
 * the id of the next level.
 */
static struct where by_levels(const struct table *table, uint32_t leaf)
{
	uint32_t die_shift = 0, core_shift = 0, socket_shift = 0, type, sub, id = 0;
	struct where where = {0};

	for (sub = 0; sub < 8; sub++) {
		struct impost_x86_cpuid e = cpuid(table, leaf, sub);

		type = e.ecx >> 8 & 0xff;
		cr_assert_eq(e.ecx & 0xff, sub);
		cr_assert(!sub || e.edx == id);
		id = e.edx;
		if (!type)
			break;
		cr_assert_neq(e.ebx, 0u);
		cr_assert_geq(e.eax, socket_shift, "shifts grow");
		socket_shift = e.eax;
		where.in_socket = e.ebx;
		if (type == 1) {
			die_shift = core_shift = e.eax;
			where.in_die = where.in_core = e.ebx;
		} else if (type == 2) {
			die_shift = e.eax;
			where.in_die = e.ebx;
		}
	}
	cr_assert_eq(type, 0u);
	cr_assert_geq(sub, 2u);
	where.socket = id >> socket_shift;
	where.die = id >> die_shift;
	where.core = id >> core_shift;
	where.thread = id & ((1u << core_shift) - 1);
	return where;
}

static uint32_t order(uint32_t count)
{
	uint32_t bits = 0;

	while (1u << bits < count)
		bits++;
	return bits;
}

/* The algorithm for processors without such leaves (SDM vol. 3, 9.9.3.2), while 8 bits do. */
static struct where by_old_leaves(const struct table *table)
{
	struct impost_x86_cpuid one = cpuid(table, 1, 0), four = cpuid(table, 4, 0);
	uint32_t id = one.ebx >> 24, cores = (four.eax >> 26) + 1;
	uint32_t ids = one.edx >> 28 & 1 ? one.ebx >> 16 & 0xff : 1;
	uint32_t socket_shift = order(ids), core_shift = order(ids / cores);

	return (struct where){
		.socket = id >> socket_shift,
		.core = id >> core_shift,
		.thread = id & ((1u << core_shift) - 1),
	};
}

/* AMD's (APM vol. 3, E.5, "Multiple Processor Calculation", and Fn8000_001E). */
static struct where by_amd_leaves(const struct table *table)
{
	struct impost_x86_cpuid sizes = cpuid(table, 0x80000008, 0);
	struct impost_x86_cpuid ids = cpuid(table, 0x8000001e, 0);
	uint32_t socket_shift = sizes.ecx >> 12 & 0xf;
	uint32_t threads = (ids.ebx >> 8 & 0xff) + 1;
	uint32_t nodes = (ids.ecx >> 8 & 7) + 1;
	struct where where = {
		.socket = ids.eax >> socket_shift,
		.die = ids.ecx & 0xff,
		.in_core = threads,
		.in_socket = (sizes.ecx & 0xff) + 1,
	};

	where.in_die = where.in_socket / nodes;
	where.core = where.socket << 8 | (ids.ebx & 0xff);
	where.thread = ids.eax & ((1u << order(threads)) - 1);
	return where;
}

/* Number of the last cache of LEVEL, as bits that an id is shifted by to tell who shares it. */
static uint32_t cache_shift(const struct table *table, uint32_t leaf, uint32_t level)
{
	for (uint32_t i = 0; i < 8; i++) {
		struct impost_x86_cpuid e = cpuid(table, leaf, i);

		if (e.eax & 0x1f && (e.eax >> 5 & 7) == level)
			return order((e.eax >> 14 & 0xfff) + 1);
	}
	cr_assert_fail("no cache of level %u", level);
	return 0;
}

/* All that is read from one CPU's leaves. */
struct reading {
	uint32_t id;
	struct where levels, v2, old, amd;
	uint32_t l1, l2, l3; /* numbers of the caches */
};

static struct reading read_intel(const struct impost_x86_topology *t, uint32_t cpu)
{
	struct table table = set_up(intel, COUNT(intel), t, cpu);
	struct reading r = {.id = cpuid(&table, 0xb, 0).edx};

	r.levels = by_levels(&table, 0xb);
	r.v2 = cpuid(&table, 0, 0).eax >= 0x1f && cpuid(&table, 0x1f, 0).ebx
		       ? by_levels(&table, 0x1f)
		       : r.levels;
	r.old = by_old_leaves(&table);
	r.amd = r.v2;
	r.l1 = r.id >> cache_shift(&table, 4, 1);
	r.l2 = r.id >> cache_shift(&table, 4, 2);
	r.l3 = r.id >> cache_shift(&table, 4, 3);
	return r;
}

static struct reading read_amd(const struct impost_x86_topology *t, uint32_t cpu)
{
	struct table table = set_up(amd, COUNT(amd), t, cpu);
	struct reading r = {.id = cpuid(&table, 0xb, 0).edx};

	r.levels = by_levels(&table, 0xb);
	r.amd = by_amd_leaves(&table);
	r.v2 = r.amd;
	r.old = r.levels;
	r.l1 = r.id >> cache_shift(&table, 0x8000001d, 1);
	r.l2 = r.id >> cache_shift(&table, 0x8000001d, 2);
	r.l3 = r.id >> cache_shift(&table, 0x8000001d, 3);
	return r;
}

static void assert_counts(const struct impost_x86_topology *t, const struct reading *r)
{
	uint32_t per_die = t->cores * t->threads;

	cr_assert_eq(r->levels.in_core, t->threads);
	cr_assert_eq(r->levels.in_socket, per_die * t->dies);
	cr_assert_eq(r->v2.in_core, t->threads);
	cr_assert_eq(r->v2.in_die, per_die);
	cr_assert_eq(r->v2.in_socket, per_die * t->dies);
}

/* Asserts that what is read of CPU number INDEX and of the one before it says in what they are
 * together: in a core, a die, a socket. Ids rise, so that neighbours are enough. */
static void assert_apart(const struct impost_x86_topology *t, uint32_t index,
			 const struct reading *before, const struct reading *r)
{
	int core = index % t->threads != 0;
	int die = index % (t->threads * t->cores) != 0;
	int socket = index % (t->threads * t->cores * t->dies) != 0;

	cr_assert_lt(before->id, r->id);
	cr_assert_eq(before->levels.core == r->levels.core, core);
	cr_assert_eq(before->levels.socket == r->levels.socket, socket);
	cr_assert_eq(before->v2.core == r->v2.core, core);
	cr_assert_eq(before->v2.die == r->v2.die, die);
	cr_assert_eq(before->v2.socket == r->v2.socket, socket);
	cr_assert_eq(before->amd.core == r->amd.core, core);
	cr_assert_eq(before->old.core == r->old.core, core);
	cr_assert_eq(before->old.socket == r->old.socket, socket);
	cr_assert_eq(before->l1 == r->l1, core, "L1 is a core's");
	cr_assert_eq(before->l2 == r->l2, core, "L2 is a core's");
	cr_assert_eq(before->l3 == r->l3, die, "L3 is a die's");
}

static void assert_topology(const struct impost_x86_topology *t,
			    struct reading (*read)(const struct impost_x86_topology *, uint32_t))
{
	struct reading before = {0};

	for (uint32_t i = 0; i < cpus_of(t); i++) {
		struct reading r = read(t, i);

		cr_assert_eq(r.levels.thread, i % t->threads);
		cr_assert_eq(r.old.thread, i % t->threads);
		cr_assert_eq(r.amd.thread, i % t->threads);
		cr_assert_eq(r.levels.socket, i / (cpus_of(t) / t->sockets), "numbered from 0");
		assert_counts(t, &r);
		if (i)
			assert_apart(t, i, &before, &r);
		before = r;
	}
}

static void assert_topologies(struct reading (*read)(const struct impost_x86_topology *, uint32_t))
{
	for (uint32_t s = 1; s <= 3; s++)
		for (uint32_t d = 1; d <= 3; d++)
			for (uint32_t c = 1; c <= 6; c++)
				for (uint32_t h = 1; h <= 3; h++) {
					struct impost_x86_topology t = topology_of(s, d, c, h);

					assert_topology(&t, read);
				}
}

Test(cpuid, topologies_are_read_back_on_intel)
{
	assert_topologies(read_intel);
}

Test(cpuid, topologies_are_read_back_on_amd)
{
	assert_topologies(read_amd);
}

/* --- as Linux 6.1 has it (arch/x86/kernel/cpu) --- */

/* What its /proc/cpuinfo and sysfs tell. */
struct linux_cpu {
	uint32_t package, die, core;
	uint32_t siblings; /* smp_num_siblings */
	uint32_t cores;	   /* x86_max_cores: of a package, or a die where it knows dies */
	uint32_t llc;	   /* who shares the last-level cache */
	uint32_t dies;
};

/* Leaf 0x1F, else 0xB, by the same walk; then the cache's id. */
static struct linux_cpu linux_sees(const struct table *table, int on_amd)
{
	int v2 = cpuid(table, 0, 0).eax >= 0x1f && cpuid(table, 0x1f, 0).ebx;
	struct where where = by_levels(table, v2 ? 0x1f : 0xb);
	struct impost_x86_cpuid node = cpuid(table, 0x8000001e, 0);
	uint32_t id = cpuid(table, 0xb, 0).edx, caches = 0;
	struct linux_cpu cpu = {
		.package = where.socket,
		.core = where.core,
		.siblings = on_amd ? (node.ebx >> 8 & 0xff) + 1 : where.in_core,
		.dies = where.in_socket / where.in_die,
		.die = on_amd ? node.ecx & 0xff : where.die,
	};

	cpu.cores = where.in_die / cpu.siblings;
	while (cpuid(table, on_amd ? 0x8000001d : 4, caches).eax & 0x1f)
		caches++;
	node = cpuid(table, on_amd ? 0x8000001d : 4, caches - 1);
	cpu.llc = id >> order((node.eax >> 14 & 0xfff) + 1);
	return cpu;
}

Test(cpuid, linux_shows_what_was_asked_for)
{
	static const uint32_t asked[][4] = {{1, 1, 1, 1}, {1, 1, 4, 1}, {1, 1, 4, 2},
					    {2, 1, 3, 2}, {1, 2, 3, 1}, {2, 2, 4, 2},
					    {4, 1, 1, 1}, {1, 1, 65, 2}};

	for (size_t k = 0; k < COUNT(asked); k++) {
		struct impost_x86_topology t =
			topology_of(asked[k][0], asked[k][1], asked[k][2], asked[k][3]);

		for (uint32_t i = 0; i < cpus_of(&t); i++) {
			struct table on_intel = set_up(intel, COUNT(intel), &t, i);
			struct table on_amd = set_up(amd, COUNT(amd), &t, i);
			struct linux_cpu a = linux_sees(&on_intel, 0), b = linux_sees(&on_amd, 1);
			uint32_t die = i / (t.cores * t.threads);

			cr_assert_eq(a.package, die / t.dies);
			cr_assert_eq(b.package, die / t.dies);
			cr_assert_eq(a.siblings, t.threads);
			cr_assert_eq(b.siblings, t.threads);
			cr_assert_eq(a.dies, t.dies);
			cr_assert_eq(a.cores, t.cores);
			cr_assert_eq(b.cores, t.cores * t.dies);
			cr_assert_eq(b.die, die, "nodes are numbered through");
			cr_assert_eq(a.llc, b.llc);
			cr_assert_eq(a.llc, a.die);
		}
	}
}

/* --- single rules --- */

Test(cpuid, without_a_local_apic)
{
	struct impost_x86_topology t = topology_of(1, 1, 1, 1);
	struct impost_x86_cpuid_config config = config_for(&t, 0);
	struct table table = from(amd, COUNT(amd));

	config.irqchip = IMPOST_IRQCHIP_NONE;
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0);
	cr_assert_eq(cpuid(&table, 1, 0).edx >> 9 & 1, 0u);
	cr_assert_eq(cpuid(&table, 1, 0).ecx >> 21 & 1, 0u);
	cr_assert_eq(cpuid(&table, 1, 0).ecx >> 24 & 1, 0u);
	cr_assert_eq(cpuid(&table, 0x80000001, 0).edx >> 9 & 1, 0u, "AMD's copy");
}

/* One CPU has no neighbours, and no leaf says that it had. */
Test(cpuid, one_cpu_is_alone)
{
	struct impost_x86_topology t = topology_of(1, 1, 1, 1);
	struct table a = set_up(intel, COUNT(intel), &t, 0);
	struct table b = set_up(amd, COUNT(amd), &t, 0);

	cr_assert_eq(cpuid(&a, 1, 0).ebx, 0x00010800u);
	cr_assert_eq(cpuid(&a, 1, 0).edx >> 28 & 1, 0u);
	cr_assert_eq(cpuid(&a, 4, 3).eax, 0x163u);
	cr_assert_eq(cpuid(&a, 0, 0).eax, 0x16u);
	cr_assert_eq(cpuid(&a, 0x1f, 0).eax + cpuid(&a, 0x1f, 0).ebx, 0u);
	cr_assert_eq(cpuid(&b, 0x80000001, 0).ecx >> 1 & 1, 0u);
	cr_assert_eq(cpuid(&b, 0x80000008, 0).ecx & 0xf0ff, 0u);
	cr_assert_eq(cpuid(&b, 0x8000001e, 0).ebx, 0u);
}

/* Fields that are too narrow are full, never wrapped. */
Test(cpuid, more_cpus_than_the_old_fields_hold)
{
	struct impost_x86_topology t = topology_of(1, 1, 300, 1);
	struct table a = set_up(intel, COUNT(intel), &t, 299);
	struct table b = set_up(amd, COUNT(amd), &t, 299);

	cr_assert_eq(cpuid(&a, 1, 0).ebx, 0x2bff0800u);
	cr_assert_eq(cpuid(&a, 4, 0).eax >> 26, 63u);
	cr_assert_eq(cpuid(&a, 4, 3).eax >> 14 & 0xfff, 511u);
	cr_assert_eq(cpuid(&a, 0xb, 1).eax, 9u);
	cr_assert_eq(cpuid(&a, 0xb, 1).ebx, 300u);
	cr_assert_eq(cpuid(&a, 0xb, 1).edx, 299u);
	cr_assert_eq(cpuid(&b, 0x80000008, 0).ecx & 0xff, 255u);
	cr_assert_eq(cpuid(&b, 0x80000008, 0).ecx >> 12, 9u);
}

/* AMD tells threads and nodes in a leaf that TOPOEXT announces: it comes where they are asked for.
 */
Test(cpuid, amd_topoext_where_it_is_needed)
{
	static const struct impost_x86_cpuid old[] = {
		{0x00000000, 0, 0, 0xd, VENDOR_AMD, 0},
		{0x00000001, 0, 0, 0x00600f12, 0x00010800, 0x00802009, 0x178bfbff, 0},
		{0x80000000, 0, 0, 0x8000000a, VENDOR_AMD, 0},
		{0x80000001, 0, 0, 0x00600f12, 0, 0x000001f1, 0x2fd3fbff, 0},
	};
	struct impost_x86_topology flat = topology_of(2, 1, 4, 1);
	struct impost_x86_topology threads = topology_of(1, 1, 4, 2),
				   dies = topology_of(1, 2, 4, 1);
	struct table table = set_up(old, COUNT(old), &flat, 7);

	cr_assert_eq(cpuid(&table, 0x80000000, 0).eax, 0x8000000au);
	cr_assert_eq(cpuid(&table, 0x80000001, 0).ecx, 0x000001f3u);
	cr_assert_eq(table.entry[table.count - 1].leaf, 0x80000004u);
	table = set_up(old, COUNT(old), &threads, 7);
	cr_assert_eq(cpuid(&table, 0x80000000, 0).eax, 0x8000001eu);
	cr_assert_eq(cpuid(&table, 0x80000001, 0).ecx, 0x004001f3u);
	cr_assert_eq(cpuid(&table, 0x8000001e, 0).eax, 7u);
	cr_assert_eq(cpuid(&table, 0x8000001e, 0).ebx, 0x103u);
	table = set_up(old, COUNT(old), &dies, 7);
	cr_assert_eq(cpuid(&table, 0x80000001, 0).ecx, 0x004001f3u);
	cr_assert_eq(cpuid(&table, 0x8000001e, 0).ecx, 0x101u);
}

/* Leaf 0x80000026 is written where the backend has it, up to the socket. */
Test(cpuid, amd_levels_where_they_were)
{
	static const struct impost_x86_cpuid want[] = {
		{0x80000026, 0, SUB, 1, 2, 0x100, 0x1b, 0},
		{0x80000026, 1, SUB, 3, 6, 0x201, 0x1b, 0},
		{0x80000026, 2, SUB, 3, 6, 0x302, 0x1b, 0},
		{0x80000026, 3, SUB, 4, 12, 0x403, 0x1b, 0},
		{0x80000026, 4, SUB, 0, 0, 4, 0x1b, 0},
	};
	struct impost_x86_topology t = topology_of(2, 2, 3, 2);
	struct impost_x86_cpuid_config config = config_for(&t, 21);
	struct table table = from(amd, COUNT(amd));

	table.entry[table.count++] = (struct impost_x86_cpuid){.leaf = 0x80000026, .flags = SUB};
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0);
	cr_assert_arr_eq(&table.entry[table.count - COUNT(want)], want, sizeof(want));
}

/* The brand of TABLE as the guest reads it. */
static const char *brand_of(const struct table *table)
{
	static char brand[49];

	for (uint32_t i = 0; i < 3; i++) {
		struct impost_x86_cpuid e = cpuid(table, 0x80000002 + i, 0);
		uint32_t regs[4] = {e.eax, e.ebx, e.ecx, e.edx};

		memcpy(brand + i * sizeof(regs), regs, sizeof(regs));
	}
	return brand;
}

Test(cpuid, brand)
{
	static const char longest[] = "0123456789abcdef0123456789ABCDEF0123456789abcde";
	struct impost_x86_topology t = topology_of(1, 1, 1, 1);
	struct impost_x86_cpuid_config config = config_for(&t, 0);
	struct table table = from(intel, COUNT(intel));

	config.brand = longest;
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0);
	cr_assert_str_eq(brand_of(&table), longest);
	config.brand = NULL;
	table = from(intel, COUNT(intel));
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0);
	cr_assert_str_eq(brand_of(&table), "CPU of the host", "the backend's");
	/* the table for AMD has none: that of the processor under the test */
	table = from(amd, COUNT(amd));
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0);
	for (uint32_t i = 0; i < 3; i++) {
		struct impost_x86_cpuid e = cpuid(&table, 0x80000002 + i, 0), here = e;

		__get_cpuid(here.leaf, &here.eax, &here.ebx, &here.ecx, &here.edx);
		cr_assert_arr_eq(&e, &here, sizeof(e));
	}
}

/*
 * AMD's first-level caches, where the backend tells none, are those of the processor under the
 * test; what it tells is left as it is, and so is another maker's leaf, which has nothing to say
 * there.
 */
Test(cpuid, first_caches_of_amd)
{
	static const struct impost_x86_cpuid blank = {.leaf = 0x80000005};
	static const struct impost_x86_cpuid told[] = {
		{0x80000005, 0, 0, 0xff40ff40, 0xff40ff40, 0x20080140, 0x20080140, 0},
		{0x80000005, 0, 0, 1, 0, 0, 0, 0},
		{0x80000005, 0, 0, 0, 1, 0, 0, 0},
		{0x80000005, 0, 0, 0, 0, 1, 0, 0},
		{0x80000005, 0, 0, 0, 0, 0, 1, 0},
	};
	struct impost_x86_topology t = topology_of(1, 1, 2, 1);
	struct impost_x86_cpuid with[MAX_ENTRIES], got, here = blank;
	struct table table;

	memcpy(with, amd, sizeof(amd));
	with[COUNT(amd)] = blank;
	table = set_up(with, COUNT(amd) + 1, &t, 1);
	got = cpuid(&table, blank.leaf, 0);
	__get_cpuid(here.leaf, &here.eax, &here.ebx, &here.ecx, &here.edx);
	cr_expect_arr_eq(&got, &here, sizeof(here));
	for (size_t i = 0; i < COUNT(told); i++) {
		with[COUNT(amd)] = told[i];
		table = set_up(with, COUNT(amd) + 1, &t, 1);
		got = cpuid(&table, blank.leaf, 0);
		cr_expect_arr_eq(&got, &told[i], sizeof(got), "row %zu", i);
	}
	memcpy(with, intel, sizeof(intel));
	with[COUNT(intel)] = blank;
	table = set_up(with, COUNT(intel) + 1, &t, 1);
	got = cpuid(&table, blank.leaf, 0);
	cr_expect_arr_eq(&got, &blank, sizeof(blank), "Intel's");
}

Test(cpuid, signature)
{
	struct impost_x86_topology t = topology_of(1, 1, 1, 1);
	struct impost_x86_cpuid_config config = config_for(&t, 0);
	struct table table = from(amd, COUNT(amd));

	config.signature = "TwelveLetter";
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0);
	cr_assert_eq(cpuid(&table, 0x40000000, 0).eax, 0x40000001u, "leaves stay");
	cr_assert_eq(cpuid(&table, 0x40000000, 0).ebx, 0x6c657754u);
	cr_assert_eq(cpuid(&table, 0x40000000, 0).ecx, 0x654c6576u);
	cr_assert_eq(cpuid(&table, 0x40000000, 0).edx, 0x72657474u);
}

/* What has been set up is set up: once more changes nothing. */
Test(cpuid, is_idempotent)
{
	struct impost_x86_topology t = topology_of(2, 3, 3, 2);
	struct impost_x86_cpuid_config config = config_for(&t, 17);
	struct table once = set_up(intel, COUNT(intel), &t, 17), twice = once;

	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, twice.entry, MAX_ENTRIES, &twice.count),
		     0);
	cr_assert_eq(once.count, twice.count);
	cr_assert_arr_eq(once.entry, twice.entry, sizeof(once.entry));
}

/* --- refusals --- */

/* Asserts that CONFIG and CAPACITY are refused with WORDS, and nothing is changed. */
static void assert_refused(const struct impost_x86_cpuid_config *config, uint32_t capacity, int err,
			   const char *words)
{
	struct table table = from(intel, COUNT(intel)), before = table;
	struct impost_context *ctx;

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	cr_assert_eq(impost_x86_setup_cpuid(ctx, config, table.entry, capacity, &table.count), -err,
		     "%s", words);
	cr_assert(strstr(impost_error(ctx), words), "\"%s\" lacks \"%s\"", impost_error(ctx),
		  words);
	cr_assert_arr_eq(&table, &before, sizeof(table));
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* A newer host's configuration is longer; only what asks for nothing there is taken. */
Test(cpuid, a_configuration_of_another_size)
{
	struct impost_x86_topology t = topology_of(2, 1, 3, 2);
	struct {
		struct impost_x86_cpuid_config known;
		uint64_t later;
	} config = {.known = config_for(&t, 0), .later = 1};
	struct table table = from(intel, COUNT(intel));

	config.known.size = sizeof(config);
	assert_refused(&config.known, MAX_ENTRIES, E2BIG, "asks for something");
	config.later = 0;
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config.known, table.entry, MAX_ENTRIES,
					    &table.count),
		     0);
}

Test(cpuid, what_cannot_be_is_refused)
{
	struct impost_x86_topology t = topology_of(2, 1, 3, 2), none = topology_of(1, 0, 1, 1);
	struct impost_x86_cpuid_config config = config_for(&t, 0), wrong;

	wrong = config;
	wrong.size = 8;
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "size 8");
	wrong.size = UINT32_MAX;
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "set it to its sizeof");
	wrong = config;
	wrong.reserved = 1;
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "reserved is 1");
	wrong = config;
	wrong.irqchip = IMPOST_IRQCHIP_DEFAULT;
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "irqchip 0");
	wrong = config;
	wrong.topology = NULL;
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "no topology");
	wrong.topology = &none;
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "at least");
	wrong = config;
	wrong.apic_id = 6; /* core 3 of socket 0 */
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "APIC id 6");
	wrong.apic_id = 16; /* socket 2 */
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "APIC id 16");
	wrong = config;
	wrong.brand = "0123456789abcdef0123456789abcdef0123456789abcdef";
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "brand");
	wrong.brand = "";
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "brand");
	wrong.brand = "a\tb";
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "brand");
	wrong = config;
	wrong.signature = "ThirteenChars";
	assert_refused(&wrong, MAX_ENTRIES, EINVAL, "signature");
}

/* It takes as much room as it needs, and no more than is promised. */
Test(cpuid, room)
{
	struct impost_x86_topology t = topology_of(1, 2, 1, 1);
	struct impost_x86_cpuid_config config = config_for(&t, 0);
	struct table table = set_up(intel, COUNT(intel), &t, 0);
	uint32_t need = table.count;

	cr_assert_leq(need, COUNT(intel) + IMPOST_X86_CPUID_ADDED);
	table = from(intel, COUNT(intel));
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, need, &table.count), 0);
	assert_refused(&config, need - 1, ENOSPC, "room for");
	table.count = 0;
	cr_assert_eq(impost_x86_setup_cpuid(NULL, &config, table.entry, MAX_ENTRIES, &table.count),
		     0, "an empty table");
}
