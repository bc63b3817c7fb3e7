/* SPDX-License-Identifier: Apache-2.0 */
/* General registers, segments, control registers and debug registers. */
#include <string.h>

#include "internal.h"

/* --- general registers: the kernel's struct is ours behind its head --- */

#define HEAD offsetof(struct impost_x86_regs, rax)
#define SAME(reg)                                                    \
	static_assert(offsetof(struct impost_x86_regs, reg) ==       \
			      HEAD + offsetof(struct kvm_regs, reg), \
		      #reg)
SAME(rax);
SAME(rbx);
SAME(rcx);
SAME(rdx);
SAME(rsi);
SAME(rdi);
SAME(rsp);
SAME(rbp);
SAME(r8);
SAME(r9);
SAME(r10);
SAME(r11);
SAME(r12);
SAME(r13);
SAME(r14);
SAME(r15);
SAME(rip);
SAME(rflags);
static_assert(sizeof(struct impost_x86_regs) == HEAD + sizeof(struct kvm_regs), "all registers");

#define RFLAGS_FIXED	UINT64_C(0x2)
#define RFLAGS_RESERVED (~UINT64_C(0x3fffff) | 0x8028u)

int32_t kvm_regs_get(struct vcpu *v, void *buf)
{
	return KVM_IOCTL(v->host, v->fd, KVM_GET_REGS, (uint8_t *)buf + HEAD);
}

int32_t kvm_regs_set(struct vcpu *v, const void *buf)
{
	const struct impost_x86_regs *regs = buf;

	/* The kernel would put it right without a word. */
	if ((regs->rflags & RFLAGS_RESERVED) || !(regs->rflags & RFLAGS_FIXED))
		return impost_host_error(v->host, -IMPOST_ESTATE,
					 "RFLAGS 0x%llx: bits 63:22, 15, 5 and 3 must be 0, and "
					 "bit 1 must be 1 (SDM vol. 3, 27.3.1.4)",
					 (unsigned long long)regs->rflags);
	return KVM_IOCTL(v->host, v->fd, KVM_SET_REGS, (const uint8_t *)buf + HEAD);
}

/* --- segments and control registers --- */

static void segment_from_kernel(const struct kvm_segment *k, struct impost_x86_segment *s)
{
	s->base = k->base;
	s->limit = k->limit;
	s->selector = k->selector;
	s->access = IMPOST_X86_AR_TYPE((uint32_t)k->type) | (k->s ? IMPOST_X86_AR_S : 0) |
		    (k->dpl & 3u) << IMPOST_X86_AR_DPL_SHIFT | (k->present ? IMPOST_X86_AR_P : 0) |
		    (k->avl ? IMPOST_X86_AR_AVL : 0) | (k->l ? IMPOST_X86_AR_L : 0) |
		    (k->db ? IMPOST_X86_AR_DB : 0) | (k->g ? IMPOST_X86_AR_G : 0) |
		    (k->unusable ? IMPOST_X86_AR_UNUSABLE : 0);
}

static void segment_to_kernel(const struct impost_x86_segment *s, struct kvm_segment *k)
{
	k->base = s->base;
	k->limit = s->limit;
	k->selector = s->selector;
	k->type = (uint8_t)IMPOST_X86_AR_TYPE(s->access);
	k->s = (s->access & IMPOST_X86_AR_S) != 0;
	k->dpl = (uint8_t)IMPOST_X86_AR_DPL(s->access);
	k->present = (s->access & IMPOST_X86_AR_P) != 0;
	k->avl = (s->access & IMPOST_X86_AR_AVL) != 0;
	k->l = (s->access & IMPOST_X86_AR_L) != 0;
	k->db = (s->access & IMPOST_X86_AR_DB) != 0;
	k->g = (s->access & IMPOST_X86_AR_G) != 0;
	k->unusable = (s->access & IMPOST_X86_AR_UNUSABLE) != 0;
}

/* Where a segment, or a control register, lies in ours and in the kernel's struct. */
struct pair {
	uint16_t ours, kernels;
};
#define PAIR(ours, kernels)                                                                   \
	{                                                                                     \
		offsetof(struct impost_x86_sregs, ours), offsetof(struct kvm_sregs2, kernels) \
	}

static const struct pair segments[] = {
	PAIR(cs, cs), PAIR(ds, ds), PAIR(es, es), PAIR(fs, fs),
	PAIR(gs, gs), PAIR(ss, ss), PAIR(tr, tr), PAIR(ldtr, ldt),
};

static const struct pair tables[] = {PAIR(gdtr, gdt), PAIR(idtr, idt)};

static const struct pair controls[] = {
	PAIR(cr0, cr0),
	PAIR(cr2, cr2),
	PAIR(cr3, cr3),
	PAIR(cr4, cr4),
	PAIR(cr8, cr8),
	PAIR(efer, efer),
	PAIR(apic_base, apic_base),
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* struct kvm_sregs begins as struct kvm_sregs2 does. */
#define COMMON offsetof(struct kvm_sregs2, flags)
static_assert(COMMON == offsetof(struct kvm_sregs, interrupt_bitmap), "common part");

static void sregs_from_kernel(const struct kvm_sregs2 *k, struct impost_x86_sregs *s)
{
	const uint8_t *from = (const uint8_t *)k;
	uint8_t *to = (uint8_t *)s;

	for (size_t i = 0; i < COUNT(segments); i++)
		segment_from_kernel((const void *)(from + segments[i].kernels),
				    (void *)(to + segments[i].ours));
	for (size_t i = 0; i < COUNT(tables); i++) {
		const struct kvm_dtable *t = (const void *)(from + tables[i].kernels);
		struct impost_x86_table *u = (void *)(to + tables[i].ours);

		u->base = t->base;
		u->limit = t->limit;
	}
	for (size_t i = 0; i < COUNT(controls); i++)
		memcpy(to + controls[i].ours, from + controls[i].kernels, sizeof(uint64_t));
	if (k->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) {
		s->flags |= IMPOST_X86_SREGS_PDPTRS_VALID;
		memcpy(s->pdptr, k->pdptrs, sizeof(s->pdptr));
	}
}

static void sregs_to_kernel(const struct impost_x86_sregs *s, struct kvm_sregs2 *k)
{
	const uint8_t *from = (const uint8_t *)s;
	uint8_t *to = (uint8_t *)k;

	for (size_t i = 0; i < COUNT(segments); i++)
		segment_to_kernel((const void *)(from + segments[i].ours),
				  (void *)(to + segments[i].kernels));
	for (size_t i = 0; i < COUNT(tables); i++) {
		const struct impost_x86_table *t = (const void *)(from + tables[i].ours);
		struct kvm_dtable *u = (void *)(to + tables[i].kernels);

		u->base = t->base;
		u->limit = t->limit;
	}
	for (size_t i = 0; i < COUNT(controls); i++)
		memcpy(to + controls[i].kernels, from + controls[i].ours, sizeof(uint64_t));
	if (s->flags & IMPOST_X86_SREGS_PDPTRS_VALID) {
		k->flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
		memcpy(k->pdptrs, s->pdptr, sizeof(s->pdptr));
	}
}

static bool has_sregs2(const struct vcpu *v)
{
	return impost_caps_has(&v->vm->backend->caps, IMPOST_CAP_SREGS_PDPTRS);
}

int32_t kvm_sregs_get(struct vcpu *v, void *buf)
{
	union {
		struct kvm_sregs old;
		struct kvm_sregs2 now;
	} k = {0};
	int32_t r = has_sregs2(v) ? KVM_IOCTL(v->host, v->fd, KVM_GET_SREGS2, &k.now)
				  : KVM_IOCTL(v->host, v->fd, KVM_GET_SREGS, &k.old);

	if (r)
		return r;
	if (!has_sregs2(v))
		k.now.flags = 0;
	sregs_from_kernel(&k.now, buf);
	return 0;
}

#define CR0_PE	 (1u << 0)
#define CR0_NW	 (1u << 29)
#define CR0_CD	 (1u << 30)
#define CR0_PG	 (1u << 31)
#define CR4_PAE	 (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
/* Those that some processor has: SCE, LME, LMA, NXE; SVME to TCE, MCOMMIT, INTWB, UAIE, AIBRSE. */
#define EFER_KNOWN UINT64_C(0x36fd01)
#define APIC_EXTD  (1u << 10)
#define APIC_EN	   (1u << 11)

static bool paging(const struct impost_x86_sregs *s)
{
	return s->cr0 & CR0_PG;
}

static bool long_mode(const struct impost_x86_sregs *s)
{
	return (s->efer & EFER_LME) && paging(s);
}

static bool cr0_high(const struct impost_x86_sregs *s)
{
	return s->cr0 >> 32;
}

static bool cr0_pg(const struct impost_x86_sregs *s)
{
	return paging(s) && !(s->cr0 & CR0_PE);
}

static bool cr0_nw(const struct impost_x86_sregs *s)
{
	return (s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD);
}

static bool cr4_pae(const struct impost_x86_sregs *s)
{
	return long_mode(s) && !(s->cr4 & CR4_PAE);
}

static bool efer_lma(const struct impost_x86_sregs *s)
{
	return long_mode(s) != ((s->efer & EFER_LMA) != 0);
}

static bool efer_reserved(const struct impost_x86_sregs *s)
{
	return s->efer & ~EFER_KNOWN;
}

static bool cs_both(const struct impost_x86_sregs *s)
{
	const uint32_t both = IMPOST_X86_AR_L | IMPOST_X86_AR_DB;

	return long_mode(s) && (s->cs.access & both) == both;
}

static bool cr8_high(const struct impost_x86_sregs *s)
{
	return s->cr8 > 15;
}

static bool apic_mode(const struct impost_x86_sregs *s)
{
	return (s->apic_base & APIC_EXTD) && !(s->apic_base & APIC_EN);
}

static bool pdptrs_idle(const struct impost_x86_sregs *s)
{
	return (s->flags & IMPOST_X86_SREGS_PDPTRS_VALID) &&
	       (!paging(s) || !(s->cr4 & CR4_PAE) || long_mode(s));
}

/* Rules that hold on every processor; what depends on its features is the kernel's to judge. */
static const struct {
	bool (*broken)(const struct impost_x86_sregs *s);
	const char *text;
} sregs_rules[] = {
	{cr0_high, "CR0: bits 63:32 must be 0 (SDM vol. 3, 2.5)"},
	{cr0_pg, "CR0: PG needs PE (SDM vol. 3, 27.3.1.1)"},
	{cr0_nw, "CR0: NW needs CD (SDM vol. 3, 2.5)"},
	{cr4_pae, "CR4: paging with EFER.LME needs PAE (SDM vol. 3, 27.3.1.1)"},
	{efer_lma, "EFER: LMA must be LME and CR0.PG (SDM vol. 3, 27.3.1.1)"},
	/* KVM_SET_SREGS does not look at them. */
	{efer_reserved, "EFER: bits 63:22, 19, 16, 9 and 7:1 must be 0 (APM vol. 2, 3.1.7)"},
	{cs_both, "CS: L and D/B exclude each other in IA-32e mode (SDM vol. 3, 27.3.1.2)"},
	{cr8_high, "CR8: bits 63:4 must be 0 (SDM vol. 3, 11.8.6)"},
	{apic_mode, "IA32_APIC_BASE: EXTD needs EN (SDM vol. 3, 11.12.1)"},
	{pdptrs_idle, "PDPTRs are there with PAE paging only (SDM vol. 3, 4.4.1)"},
};

static int32_t sregs_refused(const struct vcpu *v, const struct impost_x86_sregs *s,
			     const char *name)
{
	return impost_host_error(v->host, -IMPOST_ESTATE,
				 "%s: the kernel refuses these together: CR0 0x%llx, CR3 0x%llx, "
				 "CR4 0x%llx, EFER 0x%llx, IA32_APIC_BASE 0x%llx: a bit that the "
				 "vCPU's CPUID does not have, or an address that is too high",
				 name, (unsigned long long)s->cr0, (unsigned long long)s->cr3,
				 (unsigned long long)s->cr4, (unsigned long long)s->efer,
				 (unsigned long long)s->apic_base);
}

static int32_t sregs_to_vcpu(struct vcpu *v, const struct impost_x86_sregs *s)
{
	union {
		struct kvm_sregs old;
		struct kvm_sregs2 now;
	} k = {0};
	int32_t r;

	sregs_to_kernel(s, &k.now);
	if (has_sregs2(v)) {
		r = KVM_IOCTL(v->host, v->fd, KVM_SET_SREGS2, &k.now);
		return r == -EINVAL ? sregs_refused(v, s, "KVM_SET_SREGS2") : r;
	}
	/* PDPTRs are read from memory again then. No interrupt is injected through here. */
	memset(k.old.interrupt_bitmap, 0, sizeof(k.old.interrupt_bitmap));
	r = KVM_IOCTL(v->host, v->fd, KVM_SET_SREGS, &k.old);
	return r == -EINVAL ? sregs_refused(v, s, "KVM_SET_SREGS") : r;
}

/* A KVM whose guests' paging is always that of IA-32e mode clears CR0.PG without a word. */
static int32_t sregs_paged(struct vcpu *v, const struct impost_x86_sregs *s)
{
	struct impost_x86_sregs before = {.size = sizeof(before)}, now = before;
	int32_t r = kvm_sregs_get(v, &before);

	if (!r)
		r = sregs_to_vcpu(v, s);
	if (!r)
		r = kvm_sregs_get(v, &now);
	if (r || paging(&now))
		return r;
	r = sregs_to_vcpu(v, &before);
	return r ? r
		 : impost_host_error(
			   v->host, -ENOTSUP,
			   "CR0 0x%llx: the kernel has taken PG without effect: it knows no "
			   "paging outside IA-32e mode here",
			   (unsigned long long)s->cr0);
}

int32_t kvm_sregs_set(struct vcpu *v, const void *buf)
{
	const struct impost_x86_sregs *s = buf;

	for (size_t i = 0; i < COUNT(sregs_rules); i++)
		if (sregs_rules[i].broken(s))
			return impost_host_error(v->host, -IMPOST_ESTATE, "%s",
						 sregs_rules[i].text);
	return paging(s) && !long_mode(s) ? sregs_paged(v, s) : sregs_to_vcpu(v, s);
}

/* --- debug registers --- */

int32_t kvm_debugregs_get(struct vcpu *v, void *buf)
{
	struct impost_x86_debugregs *d = buf;
	struct kvm_debugregs k = {0};
	int32_t r = KVM_IOCTL(v->host, v->fd, KVM_GET_DEBUGREGS, &k);

	if (r)
		return r;
	memcpy(d->dr, k.db, sizeof(d->dr));
	d->dr6 = k.dr6;
	d->dr7 = k.dr7;
	return 0;
}

int32_t kvm_debugregs_set(struct vcpu *v, const void *buf)
{
	const struct impost_x86_debugregs *d = buf;
	struct kvm_debugregs k = {.dr6 = d->dr6, .dr7 = d->dr7};

	if (d->dr6 >> 32 || d->dr7 >> 32)
		return impost_host_error(v->host, -IMPOST_ESTATE,
					 "%s: bits 63:32 must be 0 (SDM vol. 3, 18.2)",
					 d->dr6 >> 32 ? "DR6" : "DR7");
	memcpy(k.db, d->dr, sizeof(k.db));
	return KVM_IOCTL(v->host, v->fd, KVM_SET_DEBUGREGS, &k);
}
