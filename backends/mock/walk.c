/* SPDX-License-Identifier: Apache-2.0 */
/* Walks the guest's page tables in all of the paging modes (SDM vol. 3, chapter 4). */
#include "walk.h"

#include "rules.h"

#define PTE_P	UINT64_C(1)
#define PTE_U	(UINT64_C(1) << 2)
#define PTE_PS	(UINT64_C(1) << 7)
#define PTE_NX	(UINT64_C(1) << 63)
#define ADDRESS UINT64_C(0x000ffffffffff000)
#define ABOVE32 UINT64_C(0xffffffff00000000)
#define BITS51	UINT64_C(0x000fffffffffffff)

/* A walk under way. */
struct walk {
	const struct mock_walk *w;
	uint64_t gva;
	bool user, nx; /* so far: all levels are the user's; some level forbids execution */
	uint64_t at;   /* the entry looked at last */
};

/* How an entry is laid out. */
struct level {
	uint8_t shift; /* of the part of the address that indexes the table */
	uint8_t bits;  /* of the index */
	bool large;    /* PS may be set: the entry maps 2^shift bytes */
};

static const struct level levels64[] = {
	{12, 9, false}, {21, 9, true}, {30, 9, true}, {39, 9, false}, {48, 9, false}};
static const struct level levels32[] = {{12, 10, false}, {22, 10, true}};

static uint64_t low_bits(unsigned n)
{
	return (UINT64_C(1) << n) - 1;
}

/* Reserved bits of a present 64-bit entry at LEVEL (SDM vol. 3, tables 4-8 to 4-20). */
static uint64_t reserved64(const struct walk *k, const struct level *l, uint64_t entry)
{
	const struct impost_x86_sregs *s = k->w->sregs;
	uint64_t mask = k->w->phys & BITS51;

	if (!(s->efer & EFER_NXE))
		mask |= PTE_NX;
	if (!(s->efer & EFER_LMA)) /* PAE: bits 62:52 are reserved, too */
		mask |= UINT64_C(0x7ff0000000000000);
	if (l->shift > 12 && (!l->large || (l->shift == 30 && !k->w->huge)))
		mask |= PTE_PS;
	if (l->large && (entry & PTE_PS))
		mask |= low_bits(l->shift) & ~low_bits(13);
	return mask;
}

/* Takes rights from a present entry. NULL, or why it cannot be used. */
static const char *take_rights(struct walk *k, uint64_t entry, uint64_t reserved)
{
	if (entry & reserved)
		return "a page-table entry has reserved bits set";
	if (!(entry & PTE_U))
		k->user = false;
	if ((k->w->sregs->efer & EFER_NXE) && (entry & PTE_NX))
		k->nx = true;
	return NULL;
}

/* Reads the entry for k->gva in the table at TABLE. NULL, or why it cannot be used. */
static const char *read_entry(struct walk *k, uint64_t table, const struct level *l, unsigned bytes,
			      uint64_t *ret_entry)
{
	k->at = table + (k->gva >> l->shift & low_bits(l->bits)) * bytes;
	if (!k->w->read(k->w->opaque, k->at, bytes, ret_entry))
		return "a page-table entry lies where there is no memory";
	return *ret_entry & PTE_P ? NULL : "a page-table entry is not present";
}

/* 64-bit entries, from level TOP down, with the first table at TABLE. */
static const char *walk64(struct walk *k, unsigned top, uint64_t table, uint64_t *ret_gpa)
{
	const struct level *l = &levels64[top];

	for (;; l--) {
		uint64_t entry;
		const char *fault = read_entry(k, table, l, 8, &entry);

		if (!fault)
			fault = take_rights(k, entry, reserved64(k, l, entry));
		if (fault)
			return fault;
		if (l == levels64 || (l->large && (entry & PTE_PS))) {
			uint64_t offset = low_bits(l->shift);

			*ret_gpa = (entry & ADDRESS & ~offset) | (k->gva & offset);
			return NULL;
		}
		table = entry & ADDRESS;
	}
}

/* PAE: the top level is four registers, or their image in memory (SDM vol. 3, 4.4.1). */
static const char *walk_pae(struct walk *k, uint64_t *ret_gpa)
{
	const struct impost_x86_sregs *s = k->w->sregs;
	unsigned i = (unsigned)(k->gva >> 30 & 3);
	uint64_t pdpte = s->pdptr[i];

	k->at = (s->cr3 & ~UINT64_C(0x1f) & UINT32_MAX) + UINT64_C(8) * i;
	if (!(s->flags & IMPOST_X86_SREGS_PDPTRS_VALID) &&
	    !k->w->read(k->w->opaque, k->at, 8, &pdpte))
		return "the page-directory-pointer table lies where there is no memory";
	if (!(pdpte & PTE_P))
		return "the page-directory-pointer-table entry is not present";
	if (pdpte & (UINT64_C(0x1e6) | k->w->phys))
		return "the page-directory-pointer-table entry has reserved bits set";
	return walk64(k, 1, pdpte & ADDRESS, ret_gpa);
}

/* A 4 MiB page: bits 20:13 of the entry are bits 39:32 of the address, bit 21 is reserved. */
static const char *large32(struct walk *k, uint64_t entry, uint64_t *ret_gpa)
{
	uint64_t high = (entry >> 13 & 0xff) << 32;

	if ((entry & UINT64_C(1) << 21) || (high & k->w->phys))
		return "a page-table entry has reserved bits set";
	*ret_gpa = high | (entry & UINT64_C(0xffc00000)) | (k->gva & low_bits(22));
	return NULL;
}

static const char *walk32(struct walk *k, uint64_t *ret_gpa)
{
	const struct impost_x86_sregs *s = k->w->sregs;
	uint64_t entry;
	const char *fault = read_entry(k, s->cr3 & UINT64_C(0xfffff000), &levels32[1], 4, &entry);

	if (!fault)
		fault = take_rights(k, entry, 0);
	if (fault)
		return fault;
	if ((entry & PTE_PS) && (s->cr4 & CR4_PSE))
		return large32(k, entry, ret_gpa);
	fault = read_entry(k, entry & UINT64_C(0xfffff000), &levels32[0], 4, &entry);
	if (!fault)
		fault = take_rights(k, entry, 0);
	if (fault)
		return fault;
	*ret_gpa = (entry & UINT64_C(0xfffff000)) | (k->gva & low_bits(12));
	return NULL;
}

static const char *walk_mode(struct walk *k, uint64_t *ret_gpa)
{
	const struct impost_x86_sregs *s = k->w->sregs;

	if ((s->efer & EFER_LMA) && !is_canonical(k->gva, s->cr4))
		return "the address is not canonical";
	if (!(s->efer & EFER_LMA) && (k->gva & ABOVE32))
		return "the address is above 4 GiB outside IA-32e mode";
	if (s->efer & EFER_LMA)
		return walk64(k, s->cr4 & CR4_LA57 ? 4 : 3, s->cr3 & ADDRESS, ret_gpa);
	return s->cr4 & CR4_PAE ? walk_pae(k, ret_gpa) : walk32(k, ret_gpa);
}

/* Whether the privilege level lets the guest fetch from here (SDM vol. 3, 4.6.1). */
static const char *fetch_fault(const struct walk *k)
{
	const struct impost_x86_sregs *s = k->w->sregs;
	bool cpl3 = IMPOST_X86_AR_DPL(s->ss.access) == 3;

	if (k->nx)
		return "the page is not executable (XD)";
	if (cpl3 && !k->user)
		return "the page is the supervisor's, and CPL is 3";
	if (!cpl3 && k->user && (s->cr4 & CR4_SMEP))
		return "the page is the user's, and SMEP forbids the supervisor to execute it";
	return NULL;
}

const char *mock_walk_translate(const struct mock_walk *w, uint64_t gva, bool fetch,
				uint64_t *ret_gpa, uint64_t *ret_at)
{
	struct walk k = {.w = w, .gva = gva, .user = true};
	uint64_t gpa = gva;
	const char *fault = NULL;

	if (w->sregs->cr0 & CR0_PG) {
		fault = walk_mode(&k, &gpa);
		if (!fault && fetch)
			fault = fetch_fault(&k);
	} else if (gva & ABOVE32) {
		fault = "the address is above 4 GiB, and paging is off";
	}
	*ret_at = k.at;
	if (!fault)
		*ret_gpa = gpa;
	return fault;
}
