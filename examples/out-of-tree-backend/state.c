/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU's state: sections, MSRs and CPUID; got as they are kept, set when the rules allow. */
#include "toy.h"

#include <time.h>

#define X86_TSS_BUSY (IMPOST_X86_AR_P | 0xbu)
#define X86_LDT	     (IMPOST_X86_AR_P | 0x2u)
#define X86_CODE     (IMPOST_X86_AR_P | IMPOST_X86_AR_S | 0xbu)
#define X86_DATA     (IMPOST_X86_AR_P | IMPOST_X86_AR_S | 0x3u)

#define PAT	     UINT32_C(0x277)
#define PAT_RESET    UINT64_C(0x0007040600070406)
#define FS_BASE	     UINT32_C(0xc0000100)
#define GS_BASE	     UINT32_C(0xc0000101)

#define KNOWN_EVENTS \
	(IMPOST_X86_EVENTS_NMI_PENDING | IMPOST_X86_EVENTS_SHADOW | IMPOST_X86_EVENTS_WAITING)

/* As a processor comes out of reset (SDM vol. 3, table 9-1). */
void toy_reset(struct toy_vcpu *v)
{
	const struct impost_x86_segment data = {.limit = 0xffff, .access = X86_DATA};
	struct impost_x86_sregs *s = &v->sregs;

	v->regs = (struct impost_x86_regs){
		.size = sizeof(v->regs), .rip = 0xfff0, .rflags = 2, .rdx = 0x600};
	*s = (struct impost_x86_sregs){.size = sizeof(*s), .cr0 = CR0_CD | CR0_NW | 0x10};
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->cs = (struct impost_x86_segment){
		.base = 0xffff0000, .limit = 0xffff, .access = X86_CODE, .selector = 0xf000};
	s->tr = (struct impost_x86_segment){.limit = 0xffff, .access = X86_TSS_BUSY};
	s->ldtr = (struct impost_x86_segment){.limit = 0xffff, .access = X86_LDT};
	s->gdtr.limit = s->idtr.limit = 0xffff;
	v->debugregs = (struct impost_x86_debugregs){
		.size = sizeof(v->debugregs), .dr6 = 0xffff0ff0, .dr7 = 0x400};
	v->events = (struct impost_x86_events){.size = sizeof(v->events), .flags = KNOWN_EVENTS};
	v->tsc_offset = -toy_tsc(v);
	toy_msr_write(v, &(struct impost_x86_msr){.index = PAT, .value = PAT_RESET});
}

uint64_t toy_tsc(const struct toy_vcpu *v)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + v->tsc_offset;
}

/* --- what hardware refuses (SDM vol. 3, 27.3.1) --- */

static bool canonical(uint64_t address)
{
	return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* A condition, and what is said where it does not hold. */
struct rule {
	bool holds;
	const char *text;
};

/* The text of the first that does not hold; NULL: all do. */
static const char *broken(const struct rule *rules, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!rules[i].holds)
			return rules[i].text;
	return NULL;
}

/* 0, or the error that WRONG, if not NULL, is. */
static int32_t judge(const struct toy_vcpu *v, const char *wrong)
{
	return wrong ? impost_host_error(v->vm->host, -IMPOST_ESTATE, "vCPU %u: %s", v->id, wrong)
		     : 0;
}

static int32_t set_regs(struct toy_vcpu *v, const void *section)
{
	const struct impost_x86_regs *r = section;
	const struct rule rules[] = {
		{r->rflags & 2, "RFLAGS: bit 1 must be 1"},
		{!(r->rflags & ~UINT64_C(0x3f7fd7)), "RFLAGS: a reserved bit is set"},
	};
	int32_t err = judge(v, broken(rules, ARRAY_LEN(rules)));

	if (!err)
		v->regs = *r;
	return err;
}

const char *toy_sregs_wrong(const struct impost_x86_sregs *s)
{
	const uint32_t both = IMPOST_X86_AR_L | IMPOST_X86_AR_DB;
	bool lma = s->efer & EFER_LMA;
	const struct rule rules[] = {
		{!(s->cr0 >> 32), "CR0: bits 63:32 are reserved"},
		{!(s->cr0 & CR0_PG) || (s->cr0 & CR0_PE), "CR0: PG needs PE"},
		{!(s->cr0 & CR0_NW) || (s->cr0 & CR0_CD), "CR0: NW needs CD"},
		{!(s->cr4 & ~UINT64_C(0x7ff)), "CR4: a bit is set that the toy does not have"},
		{!(s->efer & ~UINT64_C(0xd01)), "EFER: a bit is set that the toy does not have"},
		{lma == ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)), "EFER: LMA is LME and PG"},
		{!lma || (s->cr4 & CR4_PAE), "CR4: long mode needs PAE"},
		{!(s->cr3 >> TOY_PHYS), "CR3: above the width of an address"},
		{s->cr8 <= 15, "CR8: bits 63:4 are reserved"},
		{!(s->apic_base & ~UINT64_C(0xfffffd00)), "IA32_APIC_BASE: a reserved bit is set"},
		{!lma || (s->cs.access & both) != both, "CS: L and D are both set"},
		{(s->apic_base & 0xc00) != 0x400, "IA32_APIC_BASE: EXTD needs EN"},
		{canonical(s->gdtr.base), "GDTR: not canonical"},
		{canonical(s->idtr.base), "IDTR: not canonical"},
		{canonical(s->fs.base), "FS: not canonical"},
		{canonical(s->gs.base), "GS: not canonical"},
		{canonical(s->tr.base), "TR: not canonical"},
		{canonical(s->ldtr.base), "LDTR: not canonical"},
	};

	return broken(rules, ARRAY_LEN(rules));
}

static int32_t set_sregs(struct toy_vcpu *v, const void *section)
{
	const struct impost_x86_sregs *s = section;
	int32_t err = judge(v, toy_sregs_wrong(s));

	if (!err && (s->flags & IMPOST_X86_SREGS_PDPTRS_VALID))
		err = impost_host_error(v->vm->host, -ENOTSUP,
					"vCPU %u: sregs-pdptrs: the toy has no PAE paging", v->id);
	if (!err)
		v->sregs = *s;
	return err;
}

static int32_t set_debugregs(struct toy_vcpu *v, const void *section)
{
	const struct impost_x86_debugregs *d = section;
	const struct rule rules[] = {
		{!(d->dr6 >> 32), "DR6: bits 63:32 are reserved"},
		{!(d->dr7 >> 32), "DR7: bits 63:32 are reserved"},
	};
	int32_t err = judge(v, broken(rules, ARRAY_LEN(rules)));

	if (!err)
		v->debugregs = *d;
	return err;
}

/* What the flags do not vouch for is left as it is. */
static int32_t set_events(struct toy_vcpu *v, const void *section)
{
	struct impost_x86_events e = *(const struct impost_x86_events *)section;
	bool exception = e.exception.injected;
	const struct rule rules[] = {
		{!exception || (e.exception.vector < 32 && e.exception.vector != 2),
		 "events: an exception has vector 0 to 31, and 2 is NMI"},
		{!exception || !(e.flags & IMPOST_X86_EVENTS_PAYLOAD) || !e.exception.pending,
		 "events: an exception is either injected or pending"},
		{!(e.flags & IMPOST_X86_EVENTS_SIPI) || e.sipi_vector <= 0xff,
		 "events: sipi_vector has 8 bits"},
		{e.exception.injected + e.nmi.injected + e.interrupt.injected <= 1,
		 "events: one at most is injected"},
		{!(e.flags & IMPOST_X86_EVENTS_SHADOW) || e.interrupt.shadow <= 3,
		 "events: interrupt.shadow: a reserved bit is set"},
		{!(e.flags & IMPOST_X86_EVENTS_WAITING) || e.waiting <= 1,
		 "events: waiting is 0 or 1"},
	};
	int32_t err = judge(v, broken(rules, ARRAY_LEN(rules)));

	if (err)
		return err;
	if ((e.flags & IMPOST_X86_EVENTS_PAYLOAD && e.exception.pending) ||
	    (e.flags & IMPOST_X86_EVENTS_SMM && (e.smi.smm || e.smi.pending)) ||
	    (e.flags & IMPOST_X86_EVENTS_TRIPLE_FAULT && e.triple_fault_pending))
		return impost_host_error(v->vm->host, -ENOTSUP,
					 "vCPU %u: events of a kind that the toy does not have",
					 v->id);
	if (!(e.flags & IMPOST_X86_EVENTS_NMI_PENDING))
		e.nmi.pending = v->events.nmi.pending;
	if (!(e.flags & IMPOST_X86_EVENTS_SHADOW))
		e.interrupt.shadow = v->events.interrupt.shadow;
	if (!(e.flags & IMPOST_X86_EVENTS_WAITING)) {
		e.waiting = v->events.waiting;
		e.waiting_vector = v->events.waiting_vector;
	}
	v->events = (struct impost_x86_events){.size = sizeof(e),
					       .flags = KNOWN_EVENTS,
					       .exception = e.exception,
					       .interrupt = e.interrupt,
					       .nmi = e.nmi,
					       .waiting = e.waiting,
					       .waiting_vector = e.waiting_vector};
	return 0;
}

/* Without a local APIC there is nobody to wait for: a halted vCPU is with the host. */
static int32_t set_runstate(struct toy_vcpu *v, const void *section)
{
	uint32_t state = ((const struct impost_x86_runstate *)section)->state;

	if (state == IMPOST_X86_RUNNING)
		return 0;
	return impost_host_error(v->vm->host,
				 state > IMPOST_X86_STOPPED ? -IMPOST_ESTATE : -ENOTSUP,
				 "vCPU %u: run state %u: the toy's vCPUs are always running", v->id,
				 state);
}

static int32_t set_tsc(struct toy_vcpu *v, const void *section)
{
	const struct impost_x86_tsc *tsc = section;

	if (tsc->flags & ~IMPOST_X86_TSC_HOST)
		return impost_host_error(v->vm->host, -EINVAL, "TSC: unknown flags %#x",
					 tsc->flags);
	if (tsc->flags & IMPOST_X86_TSC_HOST)
		return impost_host_error(v->vm->host, -ENOTSUP, "TSC: the toy has no tsc-offset");
	if (tsc->khz && tsc->khz != TOY_TSC_KHZ)
		return impost_host_error(v->vm->host, -ENOTSUP,
					 "TSC: %u kHz: the toy has %u, and no tsc-scaling",
					 tsc->khz, TOY_TSC_KHZ);
	v->tsc_offset = tsc->value - (toy_tsc(v) - v->tsc_offset);
	return 0;
}

/* --- sections --- */

union section {
	uint32_t size;
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct impost_x86_debugregs debugregs;
	struct impost_x86_events events;
	struct impost_x86_runstate runstate;
	struct impost_x86_tsc tsc;
};

static const struct {
	uint32_t bytes;
	int32_t (*set)(struct toy_vcpu *v, const void *section);
} sections[] = {
	[IMPOST_SECTION_REGS] = {sizeof(struct impost_x86_regs), set_regs},
	[IMPOST_SECTION_SREGS] = {sizeof(struct impost_x86_sregs), set_sregs},
	[IMPOST_SECTION_DEBUGREGS] = {sizeof(struct impost_x86_debugregs), set_debugregs},
	[IMPOST_SECTION_EVENTS] = {sizeof(struct impost_x86_events), set_events},
	[IMPOST_SECTION_RUNSTATE] = {sizeof(struct impost_x86_runstate), set_runstate},
	[IMPOST_SECTION_TSC] = {sizeof(struct impost_x86_tsc), set_tsc},
};

/* 0, or why the toy does not have SECTION. */
static int32_t check_section(const struct toy_vcpu *v, uint32_t section)
{
	if (section == IMPOST_SECTION_LAPIC)
		return impost_host_error(v->vm->host, -ENOENT, "vCPU %u has no local APIC", v->id);
	if (section == IMPOST_SECTION_XSAVE)
		return impost_host_error(v->vm->host, -ENOTSUP,
					 "vCPU %u: xsave: the toy has no FPU", v->id);
	if (section >= ARRAY_LEN(sections) || !sections[section].set)
		return impost_host_error(v->vm->host, -ENOTSUP, "the toy has no vCPU section %u",
					 section);
	return 0;
}

/* An exit whose answer is not taken yet: registers are those of before its instruction. */
static int32_t check_whole(const struct toy_vcpu *v)
{
	if (!v->pending && !v->naccesses)
		return 0;
	return impost_host_error(v->vm->host, -EBUSY, "vCPU %u: I/O is pending: complete it first",
				 v->id);
}

static void section_of(const struct toy_vcpu *v, uint32_t section, union section *s)
{
	switch (section) {
	case IMPOST_SECTION_REGS:
		s->regs = v->regs;
		break;
	case IMPOST_SECTION_SREGS:
		s->sregs = v->sregs;
		break;
	case IMPOST_SECTION_DEBUGREGS:
		s->debugregs = v->debugregs;
		break;
	case IMPOST_SECTION_EVENTS:
		s->events = v->events;
		break;
	case IMPOST_SECTION_RUNSTATE:
		s->runstate = (struct impost_x86_runstate){.size = sizeof(s->runstate)};
		break;
	default:
		s->tsc = (struct impost_x86_tsc){
			.size = sizeof(s->tsc), .value = toy_tsc(v), .khz = TOY_TSC_KHZ};
	}
}

int32_t toy_state_get(void *vcpu, uint32_t section, void *buf, uint32_t capacity,
		      uint32_t *ret_size)
{
	struct toy_vcpu *v = vcpu;
	int32_t err = check_whole(v);
	union section s;

	if (!err)
		err = check_section(v, section);
	if (err)
		return err;
	section_of(v, section, &s);
	*ret_size = s.size;
	if (s.size > capacity)
		return impost_host_error(v->vm->host, -ENOSPC, "section %u has %u bytes", section,
					 s.size);
	memcpy(buf, &s, s.size);
	return 0;
}

/* Sections of another ABI minor are shorter, and read as zero behind, or longer, and are cut. */
int32_t toy_state_set(void *vcpu, uint32_t section, const void *buf, uint32_t bytes)
{
	struct toy_vcpu *v = vcpu;
	int32_t err = check_whole(v);
	union section s;
	uint32_t size = 0;

	if (!err)
		err = check_section(v, section);
	if (err)
		return err;
	if (bytes >= sizeof(size))
		memcpy(&size, buf, sizeof(size));
	if (size < 8 || size > bytes)
		return impost_host_error(v->vm->host, -EINVAL,
					 "a section of %u bytes says that its size is %u", bytes,
					 size);
	memset(&s, 0, sizeof(s));
	memcpy(&s, buf, size < sections[section].bytes ? size : sections[section].bytes);
	s.size = sections[section].bytes;
	return sections[section].set(v, &s);
}

/* --- MSRs --- */

static const struct {
	uint32_t index;
	bool address; /* takes canonical addresses alone */
} msrs[] = {
	{0x174, false},	     {0x175, true},	  {0x176, true},      /* SYSENTER_CS, ESP, EIP */
	{PAT, false},	     {0xc0000081, false}, {0xc0000082, true}, /* STAR, LSTAR */
	{0xc0000083, true},  {0xc0000084, false},		      /* CSTAR, FMASK */
	{FS_BASE, true},     {GS_BASE, true},	  {0xc0000102, true},
	{0xc0000103, false}, /* KERNEL_GS_BASE, TSC_AUX */
};
static_assert(ARRAY_LEN(msrs) <= ARRAY_LEN(((struct toy_vcpu *)NULL)->msr), "room for all");

uint32_t toy_msr_list(uint32_t *indices, uint32_t capacity)
{
	if (capacity >= ARRAY_LEN(msrs))
		for (size_t i = 0; i < ARRAY_LEN(msrs); i++)
			indices[i] = msrs[i].index;
	return ARRAY_LEN(msrs);
}

/* The row of the table that has MSR INDEX; ARRAY_LEN(msrs): there is none. */
static size_t find_msr(uint32_t index)
{
	size_t i = 0;

	while (i < ARRAY_LEN(msrs) && msrs[i].index != index)
		i++;
	return i;
}

/* Where the MSR of row ROW is kept. */
static uint64_t *msr_place(struct toy_vcpu *v, size_t row)
{
	if (msrs[row].index == FS_BASE)
		return &v->sregs.fs.base;
	return msrs[row].index == GS_BASE ? &v->sregs.gs.base : &v->msr[row];
}

/* Memory types 0, 1, 4 to 7 in each byte (SDM vol. 3, 12.12.2). */
static bool good_pat(uint64_t value)
{
	for (; value; value >>= 8)
		if ((value & 0xff) > 7 || (value & 0xff) == 2 || (value & 0xff) == 3)
			return false;
	return true;
}

bool toy_msr_read(struct toy_vcpu *v, struct impost_x86_msr *msr)
{
	size_t row = find_msr(msr->index);

	if (row < ARRAY_LEN(msrs))
		msr->value = *msr_place(v, row);
	return row < ARRAY_LEN(msrs);
}

bool toy_msr_write(struct toy_vcpu *v, const struct impost_x86_msr *msr)
{
	size_t row = find_msr(msr->index);

	if (row == ARRAY_LEN(msrs) || (msrs[row].address && !canonical(msr->value)) ||
	    (msr->index == PAT && !good_pat(msr->value)))
		return false;
	*msr_place(v, row) = msr->value;
	return true;
}

static int32_t no_msr(const struct toy_vcpu *v, uint32_t index)
{
	return impost_host_error(v->vm->host, -ENOENT, "vCPU %u has no MSR %#x", v->id, index);
}

int32_t toy_msrs_get(void *vcpu, struct impost_x86_msr *list, uint32_t count, uint32_t *ret_done)
{
	struct toy_vcpu *v = vcpu;

	for (*ret_done = 0; *ret_done < count; ++*ret_done)
		if (!toy_msr_read(v, &list[*ret_done]))
			return no_msr(v, list[*ret_done].index);
	return 0;
}

int32_t toy_msrs_set(void *vcpu, const struct impost_x86_msr *list, uint32_t count,
		     uint32_t *ret_done)
{
	struct toy_vcpu *v = vcpu;

	for (*ret_done = 0; *ret_done < count; ++*ret_done) {
		const struct impost_x86_msr *msr = &list[*ret_done];

		if (find_msr(msr->index) == ARRAY_LEN(msrs))
			return no_msr(v, msr->index);
		if (!toy_msr_write(v, msr))
			return impost_host_error(v->vm->host, -IMPOST_ESTATE,
						 "vCPU %u: MSR %#x = %#llx: no value that it takes",
						 v->id, msr->index, (unsigned long long)msr->value);
	}
	return 0;
}

/* --- CPUID --- */

int32_t toy_cpuid_set(void *vcpu, const struct impost_x86_cpuid *entries, uint32_t count)
{
	struct toy_vcpu *v = vcpu;

	if (v->has_run)
		return impost_host_error(v->vm->host, -EBUSY,
					 "vCPU %u has run: CPUID comes before that", v->id);
	if (count > TOY_CPUID)
		return impost_host_error(v->vm->host, -EINVAL, "%u CPUID entries: %u at the most",
					 count, TOY_CPUID);
	memcpy(v->cpuid, entries, count * sizeof(*entries));
	v->ncpuid = count;
	return 0;
}

int32_t toy_cpuid_get(void *vcpu, struct impost_x86_cpuid *entries, uint32_t capacity,
		      uint32_t *ret_count)
{
	const struct toy_vcpu *v = vcpu;

	*ret_count = v->ncpuid;
	if (v->ncpuid > capacity)
		return impost_host_error(v->vm->host, -ENOSPC, "there are %u CPUID entries",
					 v->ncpuid);
	memcpy(entries, v->cpuid, v->ncpuid * sizeof(*entries));
	return 0;
}
