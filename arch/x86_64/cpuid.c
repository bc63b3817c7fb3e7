/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID for one vCPU: its APIC id and the topology, said in every leaf that says it (SDM vol. 2,
 * CPUID, and vol. 3, 9.9; AMD APM vol. 3, appendix E), and what else depends on the VM.
 */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#include <impost/vm.h>

#include "cpuid_brand.h"
#include "structure.h"
#include "topology.h"

/* What the leaves are made from. */
struct guest {
	const struct impost_x86_cpuid_config *config;
	const struct impost_x86_topology *topology;
	struct shifts shifts;
	uint32_t id;	   /* APIC id */
	uint32_t per_core; /* CPUs of a core, a die, a socket */
	uint32_t per_die;
	uint32_t per_socket;
	uint32_t max_leaf; /* that the result will have */
	uint32_t edx_1;	   /* EDX of leaf 1, as rewritten */
	int lapic;	   /* the hypervisor has local APICs */
	int amd;
	int topoext; /* there is leaf 0x8000001E */
	struct brand brand;
};

static void set_bit(uint32_t *reg, unsigned int bit, int on)
{
	*reg = (*reg & ~(1u << bit)) | (on ? 1u << bit : 0u);
}

/* Sets bits HIGH:LOW of *REG to VALUE, or to all ones if it is too large. */
static void set_bits(uint32_t *reg, unsigned int high, unsigned int low, uint32_t value)
{
	uint32_t max = UINT32_MAX >> (31 - (high - low));

	*reg = (*reg & ~(max << low)) | (value < max ? value : max) << low;
}

#define LEAF_TOPOEXT 0x8000001eu
#define TOPOEXT_BIT  22 /* of 0x80000001.ECX */

/* --- who rewrites which leaf --- */

static void highest(struct impost_x86_cpuid *e, const struct guest *g)
{
	e->eax = g->max_leaf;
}

/* Intel counts ids that there can be, AMD counts processors. */
static void features(struct impost_x86_cpuid *e, const struct guest *g)
{
	set_bits(&e->ebx, 23, 16, g->amd ? g->per_socket : 1u << g->shifts.socket);
	e->ebx = (e->ebx & 0xffffff) | g->id << 24; /* initial APIC id: its low 8 bits */
	set_bit(&e->edx, 28, g->per_socket > 1);    /* HTT: bits 23:16 above are valid */
	set_bit(&e->ecx, 31, 1);		    /* a hypervisor is present */
	set_bit(&e->ecx, 27, 0);		    /* OSXSAVE: CR4's, while the guest runs */
	if (!g->lapic) {
		set_bit(&e->edx, 9, 0);	 /* APIC */
		set_bit(&e->ecx, 21, 0); /* x2APIC */
		set_bit(&e->ecx, 24, 0); /* TSC deadline */
	}
}

/*
 * One cache of leaf 4 or 0x8000001D; types of 0 end the list and have no other fields. Who shares
 * it is told by the ids that a core or a die has room for: both makers have software round the
 * number up to a power of two and shift ids by that many bits.
 */
static void cache(struct impost_x86_cpuid *e, const struct guest *g)
{
	uint32_t level = e->eax >> 5 & 7;

	if (!(e->eax & 0x1f))
		return;
	set_bits(&e->eax, 25, 14, (1u << (level < 3 ? g->shifts.core : g->shifts.die)) - 1);
	if (e->leaf == 4)
		set_bits(&e->eax, 31, 26, (1u << (g->shifts.socket - g->shifts.core)) - 1);
}

static void more_features(struct impost_x86_cpuid *e, const struct guest *g)
{
	(void)g;
	if (e->subleaf == 0)
		set_bit(&e->ecx, 4, 0); /* OSPKE: CR4's, while the guest runs */
}

static void key_locker(struct impost_x86_cpuid *e, const struct guest *g)
{
	(void)g;
	set_bit(&e->ebx, 0, 0); /* AESKLE: CR4's, while the guest runs */
}

static void hypervisor(struct impost_x86_cpuid *e, const struct guest *g)
{
	const char *signature = g->config->signature;
	char name[12] = {0};

	if (!signature)
		return;
	for (size_t i = 0; i < sizeof(name) && signature[i]; i++)
		name[i] = signature[i];
	memcpy(&e->ebx, name, 4);
	memcpy(&e->ecx, name + 4, 4);
	memcpy(&e->edx, name + 8, 4);
}

static void highest_extended(struct impost_x86_cpuid *e, const struct guest *g)
{
	uint32_t last = g->topoext ? LEAF_TOPOEXT : BRAND_LAST;

	if (e->eax < last)
		e->eax = last;
}

/* On Intel's CPUs these bits are reserved, or other bits' own. */
static void amd_features(struct impost_x86_cpuid *e, const struct guest *g)
{
	const uint32_t copies = 0x0183f3ff; /* bits 24:23, 17:12 and 9:0 are those of leaf 1 */

	if (!g->amd)
		return;
	set_bit(&e->ecx, 1, g->per_socket > 1); /* CmpLegacy: HTT means cores, not threads */
	set_bit(&e->ecx, TOPOEXT_BIT, g->topoext);
	e->edx = (e->edx & ~copies) | (g->edx_1 & copies);
}

static void brand(struct impost_x86_cpuid *e, const struct guest *g)
{
	brand_put(&g->brand, e);
}

/*
 * First-level caches: those of the CPU below where the backend does not tell (KVM of Linux 6.1).
 * Without them Linux knows none of the caches.
 */
static void amd_first_caches(struct impost_x86_cpuid *e, const struct guest *g)
{
	if (g->amd && !e->eax && !e->ebx && !e->ecx && !e->edx)
		__get_cpuid(e->leaf, &e->eax, &e->ebx, &e->ecx, &e->edx);
}

static void amd_sizes(struct impost_x86_cpuid *e, const struct guest *g)
{
	if (!g->amd)
		return;
	set_bits(&e->ecx, 7, 0, g->per_socket - 1);
	set_bits(&e->ecx, 15, 12, g->shifts.socket);
}

/* A die is what AMD calls a node; nodes are numbered through all sockets. */
static void amd_topology(struct impost_x86_cpuid *e, const struct guest *g)
{
	uint32_t socket = g->id >> g->shifts.socket;
	uint32_t in_socket = g->id & ((1u << g->shifts.socket) - 1);

	e->eax = g->id;
	e->ebx = in_socket >> g->shifts.core & 0xff;
	set_bits(&e->ebx, 15, 8, g->per_core - 1);
	e->ecx = (socket * g->topology->dies + (in_socket >> g->shifts.die)) & 0xff;
	set_bits(&e->ecx, 10, 8, g->topology->dies - 1);
}

/* Leaf 1 stands before 0x80000001, which has copies of its bits. */
static const struct {
	uint32_t leaf;
	void (*rewrite)(struct impost_x86_cpuid *e, const struct guest *g);
} leaves[] = {
	{0x00000000, highest},		{0x00000001, features},	    {0x00000004, cache},
	{0x00000007, more_features},	{0x00000019, key_locker},   {0x40000000, hypervisor},
	{0x80000000, highest_extended}, {0x80000001, amd_features}, {BRAND_FIRST, brand},
	{BRAND_FIRST + 1, brand},	{BRAND_LAST, brand},	    {0x80000005, amd_first_caches},
	{0x80000008, amd_sizes},	{0x8000001d, cache},	    {LEAF_TOPOEXT, amd_topology},
};

static void rewrite(struct impost_x86_cpuid *entries, uint32_t count, struct guest *g)
{
	for (uint32_t i = 0; i < count; i++) {
		for (size_t k = 0; k < sizeof(leaves) / sizeof(leaves[0]); k++) {
			if (leaves[k].leaf == entries[i].leaf)
				leaves[k].rewrite(&entries[i], g);
		}
		if (entries[i].leaf == 1)
			g->edx_1 = entries[i].edx;
	}
}

/* --- leaves that are made anew --- */

#define LEAF_LEVELS	0x0bu
#define LEAF_LEVELS_V2	0x1fu
#define LEAF_LEVELS_AMD 0x80000026u

/* Entries that are to be added. */
struct additions {
	struct impost_x86_cpuid entry[IMPOST_X86_CPUID_ADDED];
	uint32_t count;
};

static struct impost_x86_cpuid *add(struct additions *to, uint32_t leaf, uint32_t subleaf,
				    uint32_t flags)
{
	struct impost_x86_cpuid *e = &to->entry[to->count++];

	*e = (struct impost_x86_cpuid){.leaf = leaf, .subleaf = subleaf, .flags = flags};
	return e;
}

/* One level: its type, the bits below the next level's id, and the CPUs in it. */
struct level {
	uint32_t type;
	uint32_t shift;
	uint32_t cpus;
};

/* Adds LEAF with a sub-leaf for each level, and one more, of type 0, that ends the list. */
static void add_levels(struct additions *to, const struct guest *g, uint32_t leaf,
		       const struct level *levels, uint32_t count)
{
	for (uint32_t i = 0; i <= count; i++) {
		struct impost_x86_cpuid *e = add(to, leaf, i, IMPOST_X86_CPUID_SUBLEAF);

		e->ecx = i;
		e->edx = g->id;
		if (i < count) {
			e->eax = levels[i].shift;
			e->ebx = levels[i].cpus;
			e->ecx |= levels[i].type << 8;
		}
	}
}

static int has_leaf(const struct impost_x86_cpuid *entries, uint32_t count, uint32_t leaf)
{
	return impost_x86_cpuid_find(entries, count, leaf, 0) != NULL;
}

/*
 * The leaves that enumerate levels. Leaf 0xB knows threads and cores only, so that what it calls a
 * core's level goes up to the socket; dies are in 0x1F, which AMD does not have: nodes are theirs.
 */
static void add_topology(struct additions *to, const struct guest *g,
			 const struct impost_x86_cpuid *entries, uint32_t count)
{
	enum { THREAD = 1, CORE = 2, DIE = 5 };
	enum { AMD_CORE = 1, AMD_COMPLEX = 2, AMD_DIE = 3, AMD_SOCKET = 4 };
	const struct shifts *s = &g->shifts;
	const struct level all[] = {{THREAD, s->core, g->per_core},
				    {CORE, s->socket, g->per_socket}};
	const struct level dies[] = {{THREAD, s->core, g->per_core},
				     {CORE, s->die, g->per_die},
				     {DIE, s->socket, g->per_socket}};
	const struct level amd[] = {{AMD_CORE, s->core, g->per_core},
				    {AMD_COMPLEX, s->die, g->per_die},
				    {AMD_DIE, s->die, g->per_die},
				    {AMD_SOCKET, s->socket, g->per_socket}};

	if (g->max_leaf >= LEAF_LEVELS)
		add_levels(to, g, LEAF_LEVELS, all, 2);
	if (g->max_leaf >= LEAF_LEVELS_V2 &&
	    (has_leaf(entries, count, LEAF_LEVELS_V2) || g->topology->dies > 1))
		add_levels(to, g, LEAF_LEVELS_V2, dies, g->topology->dies > 1 ? 3 : 2);
	if (has_leaf(entries, count, LEAF_LEVELS_AMD))
		add_levels(to, g, LEAF_LEVELS_AMD, amd, 4);
}

static int is_made_anew(uint32_t leaf)
{
	return leaf == LEAF_LEVELS || leaf == LEAF_LEVELS_V2 || leaf == LEAF_LEVELS_AMD;
}

/* Leaves that are rewritten, and so must be there. */
static void add_missing(struct additions *to, const struct guest *g,
			const struct impost_x86_cpuid *entries, uint32_t count)
{
	if (!has_leaf(entries, count, 0x40000000)) {
		struct impost_x86_cpuid *e = add(to, 0x40000000, 0, 0);

		e->eax = 0x40000000;
		memcpy(&e->ebx, "Impo", 4);
		memcpy(&e->ecx, "stIm", 4);
		memcpy(&e->edx, "post", 4);
	}
	for (uint32_t leaf = BRAND_FIRST; leaf <= BRAND_LAST; leaf++) {
		if (has_leaf(entries, count, 0x80000000) && !has_leaf(entries, count, leaf))
			add(to, leaf, 0, 0);
	}
	if (g->topoext && !has_leaf(entries, count, LEAF_TOPOEXT))
		add(to, LEAF_TOPOEXT, 0, 0);
}

/* --- the table as a whole --- */

/* Two entries that answer the same question. */
static int is_double(const struct impost_x86_cpuid *a, const struct impost_x86_cpuid *b)
{
	int any = !(a->flags & b->flags & IMPOST_X86_CPUID_SUBLEAF);

	return a->leaf == b->leaf && (any || a->subleaf == b->subleaf);
}

static int compare(const void *a, const void *b)
{
	const struct impost_x86_cpuid *x = a, *y = b;

	if (x->leaf != y->leaf)
		return x->leaf < y->leaf ? -1 : 1;
	return x->subleaf < y->subleaf ? -1 : x->subleaf > y->subleaf;
}

/* Puts together in TABLE what stays of ENTRIES, of doubles the first, and what is ADDED, in order.
 * Returns how many there are. */
static uint32_t merge(struct impost_x86_cpuid *table, const struct impost_x86_cpuid *entries,
		      uint32_t count, const struct additions *added)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		int stays = !is_made_anew(entries[i].leaf);

		for (uint32_t k = 0; stays && k < at; k++)
			stays = !is_double(&table[k], &entries[i]);
		if (stays)
			table[at++] = entries[i];
	}
	memcpy(table + at, added->entry, added->count * sizeof(*table));
	at += added->count;
	qsort(table, at, sizeof(*table), compare);
	return at;
}

/* AMD, or Hygon, which has AMD's leaves: the first four letters of the name in leaf 0. */
static int is_amd(const struct impost_x86_cpuid *entries, uint32_t count)
{
	const struct impost_x86_cpuid *e = impost_x86_cpuid_find(entries, count, 0, 0);

	return e && (!memcmp(&e->ebx, "Auth", 4) || !memcmp(&e->ebx, "Hygo", 4));
}

static int check_text(struct impost_context *ctx, const char *what, const char *text, size_t max)
{
	size_t length = strlen(text);

	if (!length || length > max)
		return impost_error_set(ctx, -EINVAL,
					"CPUID: the %s \"%.64s\" has %zu characters; "
					"it can have 1 to %zu",
					what, text, length, max);
	for (const char *c = text; *c; c++) {
		if (*c < ' ' || *c > '~')
			return impost_error_set(
				ctx, -EINVAL,
				"CPUID: the %s has a character that is not printable "
				"ASCII",
				what);
	}
	return 0;
}

/* That ID is one that the topology gives to a CPU, and not one that it leaves out. */
static int is_given(const struct impost_x86_topology *t, const struct shifts *s, uint32_t id)
{
	return id >> s->socket < t->sockets && (id & ((1u << s->socket) - 1)) >> s->die < t->dies &&
	       (id & ((1u << s->die) - 1)) >> s->core < t->cores &&
	       (id & ((1u << s->core) - 1)) < t->threads;
}

static int check(struct impost_context *ctx, const struct impost_x86_cpuid_config *config)
{
	const struct impost_x86_topology *t = config->topology;
	struct shifts shifts;
	int err;

	err = structure_check_reserved(ctx, "impost_x86_cpuid_config", config->reserved);
	if (err < 0)
		return err;
	if (config->irqchip < IMPOST_IRQCHIP_NONE || config->irqchip > IMPOST_IRQCHIP_FULL)
		return impost_error_set(ctx, -EINVAL, "CPUID: there is no irqchip %u",
					config->irqchip);
	if (!t)
		return impost_error_set(ctx, -EINVAL, "CPUID: no topology is given");
	err = topology_check_numbers(ctx, t);
	if (err < 0)
		return err;
	shifts = topology_shifts(t);
	if (!is_given(t, &shifts, config->apic_id))
		return impost_error_set(ctx, -EINVAL,
					"CPUID: no CPU of topology %u:%u:%u:%u has APIC id %u: "
					"create vCPUs with the ids of impost_x86_apic_id()",
					t->sockets, t->dies, t->cores, t->threads, config->apic_id);
	if (config->brand)
		err = check_text(ctx, "brand", config->brand, BRAND_BYTES - 1);
	if (err == 0 && config->signature)
		err = check_text(ctx, "signature", config->signature, 12);
	return err;
}

/*
 * Whether the guest has leaf 0x8000001E: where the backend has it, and where nothing else can tell
 * what is asked for: AMD has no other leaf for threads and nodes.
 */
static int has_topoext(const struct impost_x86_topology *t, const struct impost_x86_cpuid *entries,
		       uint32_t count)
{
	const struct impost_x86_cpuid *e = impost_x86_cpuid_find(entries, count, 0x80000001, 0);

	return e && (e->ecx >> TOPOEXT_BIT & 1 || t->threads > 1 || t->dies > 1);
}

static struct guest make_guest(const struct impost_x86_cpuid_config *config,
			       const struct impost_x86_cpuid *entries, uint32_t count)
{
	const struct impost_x86_topology *t = config->topology;
	const struct impost_x86_cpuid *first = impost_x86_cpuid_find(entries, count, 0, 0);
	struct guest g = {
		.config = config,
		.topology = t,
		.shifts = topology_shifts(t),
		.id = config->apic_id,
		.per_core = t->threads,
		.per_die = t->threads * t->cores,
		.per_socket = t->threads * t->cores * t->dies,
		.max_leaf = first ? first->eax : 0,
		.lapic = config->irqchip != IMPOST_IRQCHIP_NONE,
		.amd = is_amd(entries, count),
	};

	g.topoext = g.amd && has_topoext(t, entries, count);
	if (first && !g.amd && t->dies > 1 && g.max_leaf < LEAF_LEVELS_V2)
		g.max_leaf = LEAF_LEVELS_V2;
	brand_choose(&g.brand, config->brand, entries, count);
	return g;
}

/* What the first release knew of it: a caller's may be shorter or longer than ours. */
#define LEAST_CONFIG (offsetof(struct impost_x86_cpuid_config, signature) + sizeof(const char *))

int impost_x86_setup_cpuid(struct impost_context *ctx, const struct impost_x86_cpuid_config *config,
			   struct impost_x86_cpuid *entries, uint32_t capacity, uint32_t *count)
{
	struct impost_x86_cpuid_config whole;
	struct additions added = {.count = 0};
	struct impost_x86_cpuid *table;
	struct guest guest;
	uint32_t total;
	int err;

	err = structure_take(ctx, "impost_x86_cpuid_config", &whole, sizeof(whole), config,
			     LEAST_CONFIG);
	if (err == 0)
		err = check(ctx, &whole);
	if (err < 0)
		return err;
	table = calloc((size_t)*count + IMPOST_X86_CPUID_ADDED, sizeof(*table));
	if (!table)
		return impost_error_set(ctx, -ENOMEM, "CPUID: no memory for %u entries", *count);
	guest = make_guest(&whole, entries, *count);
	add_topology(&added, &guest, entries, *count);
	add_missing(&added, &guest, entries, *count);
	total = merge(table, entries, *count, &added);
	if (total > capacity) {
		err = impost_error_set(ctx, -ENOSPC, "CPUID: %u entries, but there is room for %u",
				       total, capacity);
	} else {
		rewrite(table, total, &guest);
		memcpy(entries, table, total * sizeof(*table));
		*count = total;
	}
	free(table);
	return err;
}
