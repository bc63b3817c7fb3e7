/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID for one vCPU: its APIC id, and one package of CPUS cores with one thread each, said in
 * every leaf that says it (SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).
 */
#include <stddef.h>

#include <impost/x86_64/boot.h>

/* What the leaves are made from. */
struct topology {
	uint32_t id;
	uint32_t cpus;
	uint32_t id_bits; /* of an APIC id within the package */
	int lapic;	  /* the hypervisor has local APICs */
	int amd;
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

static void features(struct impost_x86_cpuid *e, const struct topology *t)
{
	set_bits(&e->ebx, 23, 16, t->cpus);	    /* addressable logical processors */
	e->ebx = (e->ebx & 0xffffff) | t->id << 24; /* initial APIC id: its low 8 bits */
	set_bit(&e->edx, 28, t->cpus > 1);	    /* HTT: bits 23:16 above are valid */
	set_bit(&e->ecx, 31, 1);		    /* a hypervisor is present */
	set_bit(&e->ecx, 24, t->lapic);		    /* TSC deadline */
	if (!t->lapic) {
		set_bit(&e->edx, 9, 0);	 /* APIC */
		set_bit(&e->ecx, 21, 0); /* x2APIC */
	}
}

/* One cache of leaf 4 or 0x8000001D; types of 0 end the list and have no other fields. */
static void cache(struct impost_x86_cpuid *e, const struct topology *t)
{
	uint32_t level = e->eax >> 5 & 7;

	if (!(e->eax & 0x1f))
		return;
	set_bits(&e->eax, 25, 14, level >= 3 ? t->cpus - 1 : 0); /* who shares it */
	if (e->leaf == 4)
		set_bits(&e->eax, 31, 26, t->cpus - 1); /* cores in the package */
}

/*
 * One level of leaf 0xB or 0x1F. The hypervisor may have blanked the leaf: it is written whole. A
 * sub-leaf that is beyond the last level says so with type 0.
 */
static void level(struct impost_x86_cpuid *e, const struct topology *t)
{
	enum { INVALID, THREAD, CORE };
	uint32_t type = e->subleaf == 0 ? THREAD : e->subleaf == 1 ? CORE : INVALID;

	e->eax = type == CORE ? t->id_bits : 0;
	e->ebx = type == CORE ? t->cpus : type == THREAD ? 1 : 0;
	e->ecx = (e->subleaf & 0xff) | type << 8;
	e->edx = t->id;
}

/* Reserved on other makers' CPUs. */
static void amd_features(struct impost_x86_cpuid *e, const struct topology *t)
{
	if (t->amd)
		set_bit(&e->ecx, 1, t->cpus > 1); /* CmpLegacy: HTT means cores, not threads */
}

static void amd_sizes(struct impost_x86_cpuid *e, const struct topology *t)
{
	if (!t->amd)
		return;
	set_bits(&e->ecx, 7, 0, t->cpus - 1);
	set_bits(&e->ecx, 15, 12, t->id_bits);
}

static void amd_topology(struct impost_x86_cpuid *e, const struct topology *t)
{
	e->eax = t->id;
	e->ebx = t->id & 0xff; /* core id; threads for each core less one: 0 */
	e->ecx = 0;	       /* one node */
}

/* Who rewrites which leaf. */
static const struct {
	uint32_t leaf;
	void (*rewrite)(struct impost_x86_cpuid *e, const struct topology *t);
} leaves[] = {
	{0x00000001, features}, {0x00000004, cache},	    {0x0000000b, level},
	{0x0000001f, level},	{0x80000001, amd_features}, {0x80000008, amd_sizes},
	{0x8000001d, cache},	{0x8000001e, amd_topology},
};

/* AMD, or Hygon, which has AMD's leaves: the first four letters of the name in leaf 0. */
static int is_amd(const struct impost_x86_cpuid *entries, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (entries[i].leaf == 0)
			return entries[i].ebx == UINT32_C(0x68747541) || /* "Auth" */
			       entries[i].ebx == UINT32_C(0x6f677948);	 /* "Hygo" */
	}
	return 0;
}

void impost_x86_setup_cpuid(struct impost_x86_cpuid *entries, uint32_t count, uint32_t id,
			    uint32_t cpus, uint32_t irqchip)
{
	struct topology t = {.id = id, .cpus = cpus ? cpus : 1};

	t.amd = is_amd(entries, count);
	t.lapic = irqchip == IMPOST_IRQCHIP_LAPIC || irqchip == IMPOST_IRQCHIP_FULL;
	while (t.id_bits < 31 && t.cpus > 1u << t.id_bits)
		t.id_bits++;
	for (uint32_t i = 0; i < count; i++) {
		for (size_t k = 0; k < sizeof(leaves) / sizeof(leaves[0]); k++) {
			if (leaves[k].leaf == entries[i].leaf)
				leaves[k].rewrite(&entries[i], &t);
		}
	}
}
