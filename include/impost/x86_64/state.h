/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The neutral x86_64 state: what a vCPU and a VM consist of, in architectural form and in no
 * hypervisor's. Every struct crosses the plugin ABI: fixed width, `size` first, growing at the end
 * only.
 *
 * Rule for all of them: `size` is the number of bytes of the whole section, set by whoever fills
 * the struct. A reader takes the smaller of `size` and what it knows, and reads what is missing as
 * zero.
 */
#ifndef IMPOST_X86_64_STATE_H
#define IMPOST_X86_64_STATE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define IMPOST_VCPU_SECTION(number, NAME, name, type, varies) IMPOST_SECTION_##NAME = number,
enum impost_vcpu_section {
	IMPOST_VCPU_SECTION_NONE = 0,
#include <impost/x86_64/sections.def>
};

#define IMPOST_VM_SECTION(number, NAME, name, type, varies) IMPOST_SECTION_##NAME = number,
enum impost_vm_section {
	IMPOST_VM_SECTION_NONE = 0,
#include <impost/x86_64/sections.def>
};

/* General registers, RIP and RFLAGS (SDM vol. 1, 3.4). */
struct impost_x86_regs {
	uint32_t size;
	uint32_t reserved;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
};
static_assert(sizeof(struct impost_x86_regs) == 152, "ABI");

/*
 * Access rights of a segment, in the layout that VMX uses (SDM vol. 3, table 25-2): bits 3:0 type,
 * 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable.
 */
#define IMPOST_X86_AR_TYPE(ar)	((ar)&0xfu)
#define IMPOST_X86_AR_S		(1u << 4)
#define IMPOST_X86_AR_DPL_SHIFT 5
#define IMPOST_X86_AR_DPL(ar)	(((ar) >> IMPOST_X86_AR_DPL_SHIFT) & 3u)
#define IMPOST_X86_AR_P		(1u << 7)
#define IMPOST_X86_AR_AVL	(1u << 12)
#define IMPOST_X86_AR_L		(1u << 13)
#define IMPOST_X86_AR_DB	(1u << 14)
#define IMPOST_X86_AR_G		(1u << 15)
#define IMPOST_X86_AR_UNUSABLE	(1u << 16)

/* A segment register with its hidden part. */
struct impost_x86_segment {
	uint64_t base;
	uint32_t limit;	 /* bytes, expanded: with G set the low 12 bits are ones */
	uint32_t access; /* IMPOST_X86_AR_* */
	uint16_t selector;
	uint16_t reserved[3];
};
static_assert(sizeof(struct impost_x86_segment) == 24, "ABI");

/* GDTR or IDTR. */
struct impost_x86_table {
	uint64_t base;
	uint16_t limit;
	uint16_t reserved[3];
};

/* Segments, tables and control registers (SDM vol. 3, 2.1 and 2.5). */
struct impost_x86_sregs {
	uint32_t size;
	uint32_t flags; /* IMPOST_X86_SREGS_* */
	struct impost_x86_segment cs, ds, es, fs, gs, ss, tr, ldtr;
	struct impost_x86_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer;
	uint64_t apic_base; /* IA32_APIC_BASE */
	uint64_t pdptr[4];  /* PAE PDPTE registers (SDM vol. 3, 4.4.1), if flags say so */
};
static_assert(sizeof(struct impost_x86_sregs) == 320, "ABI");

#define IMPOST_X86_SREGS_PDPTRS_VALID 1u

/* One component of the XSAVE area (CPUID leaf 0xD, sub-leaf `id`). */
struct impost_x86_xcomponent {
	uint32_t id;	 /* bit in XCR0 */
	uint32_t offset; /* bytes from the start of the area, standard format */
	uint32_t bytes;
	uint32_t reserved;
};

#define IMPOST_X86_XCOMPONENTS 32

/*
 * FPU, SSE, AVX and further extended state with XCR0 (SDM vol. 1, chapter 13): the XSAVE area in
 * the standard (not compacted) format, at `area`. Bytes 0..511 are the legacy region, 512..575 the
 * XSAVE header.
 */
__extension__ struct impost_x86_xsave { /* C++ has no flexible arrays, its compilers do */
	uint32_t size;			/* of this struct and the area */
	uint32_t area_size;		/* bytes in area: at least 576 */
	uint64_t xcr0; /* 0: the vCPU has no XSAVE; then only the legacy region counts */
	uint32_t ncomponents;
	uint32_t reserved;
	struct impost_x86_xcomponent
		component[IMPOST_X86_XCOMPONENTS]; /* of ids 2 and up; ids 0 and 1 are fixed */
	uint64_t reserved2[5]; /* up to area, which XSAVE wants at a multiple of 64 */
	uint8_t area[] __attribute__((aligned(64)));
};
static_assert(sizeof(struct impost_x86_xsave) == 576, "ABI");
static_assert(offsetof(struct impost_x86_xsave, area) == 576, "ABI");

/*
 * A buffer of this size holds every XSAVE section that is known today (AMX: 11008 bytes of area).
 */
#define IMPOST_X86_XSAVE_MAX 16384u

/* Debug registers (SDM vol. 3, 18.2). DR4 and DR5 are aliases. */
struct impost_x86_debugregs {
	uint32_t size;
	uint32_t reserved;
	uint64_t dr[4];
	uint64_t dr6, dr7;
};
static_assert(sizeof(struct impost_x86_debugregs) == 56, "ABI");

/*
 * The local APIC's register page (SDM vol. 3, table 11-1): register at offset N of the page is at
 * regs[N], each 32 bits little-endian at a multiple of 16. In x2APIC mode the ID register holds the
 * 32-bit id. The deadline of the TSC-deadline timer is an MSR, not here.
 */
struct impost_x86_lapic {
	uint32_t size;
	uint32_t reserved;
	uint8_t regs[1024];
};
static_assert(sizeof(struct impost_x86_lapic) == 1032, "ABI");

/*
 * Events on their way into the vCPU (SDM vol. 3, 6.2 to 6.9, 25.8.3, 32.2). Fields named injected,
 * pending, masked and soft, with or without something before, are 0 or 1.
 */
struct impost_x86_events {
	uint32_t size;
	uint32_t flags; /* IMPOST_X86_EVENTS_*: what is known */
	struct {
		uint8_t injected; /* delivery has begun and will be repeated */
		uint8_t pending;  /* recognised, not begun: DR6 or CR2 not yet changed */
		uint8_t vector;
		uint8_t has_error;
		uint32_t error;
		uint8_t has_payload; /* the payload (DR6 bits or CR2) is still to be applied */
		uint8_t reserved[7];
		uint64_t payload;
	} exception;
	struct {
		uint8_t injected;
		uint8_t vector;
		uint8_t soft;
		uint8_t shadow; /* IMPOST_X86_SHADOW_* */
	} interrupt;
	struct {
		uint8_t injected;
		uint8_t pending;
		uint8_t masked; /* an NMI is being handled */
		uint8_t reserved;
	} nmi;
	struct {
		uint8_t smm; /* in system-management mode */
		uint8_t pending;
		uint8_t inside_nmi;
		uint8_t latched_init;
	} smi;
	uint32_t sipi_vector;
	uint8_t triple_fault_pending;
	uint8_t waiting;	/* an external interrupt that the host has injected
				   (impost_vcpu_irq_inject()) waits until the guest can take it */
	uint8_t waiting_vector; /* its vector */
	uint8_t reserved[5];
};
static_assert(sizeof(struct impost_x86_events) == 56, "ABI");

#define IMPOST_X86_EVENTS_NMI_PENDING  1u  /* nmi.pending is valid */
#define IMPOST_X86_EVENTS_SIPI	       2u  /* sipi_vector is valid */
#define IMPOST_X86_EVENTS_SHADOW       4u  /* interrupt.shadow is valid */
#define IMPOST_X86_EVENTS_SMM	       8u  /* smi is valid */
#define IMPOST_X86_EVENTS_PAYLOAD      16u /* exception.pending, has_payload and payload are valid */
#define IMPOST_X86_EVENTS_TRIPLE_FAULT 32u /* triple_fault_pending is valid */
#define IMPOST_X86_EVENTS_WAITING      64u /* waiting and waiting_vector are valid */

#define IMPOST_X86_SHADOW_STI	       1u
#define IMPOST_X86_SHADOW_MOV_SS       2u

/* What the vCPU is doing when it is allowed to run. */
#define IMPOST_X86_RUNNING	 0u
#define IMPOST_X86_WAIT_FOR_INIT 1u /* not started: an AP before INIT */
#define IMPOST_X86_WAIT_FOR_SIPI 2u /* INIT received (SDM vol. 3, 9.4.3) */
#define IMPOST_X86_HALTED	 3u /* HLT executed, waiting for an interrupt */
#define IMPOST_X86_SIPI_RECEIVED 4u /* sipi_vector in the events section */
#define IMPOST_X86_STOPPED	 5u /* will not run again without the host's doing */

struct impost_x86_runstate {
	uint32_t size;
	uint32_t state;
};

/*
 * The time-stamp counter: the guest reads `value` at the moment when the host's TSC is `host_tsc`.
 * With IMPOST_X86_TSC_HOST clear, `value` stands for the moment of the call. Setting all vCPUs of a
 * VM from sections with one host_tsc gives them equal offsets, which setting IA32_TSC one by one
 * does not (kernel, Documentation/virt/kvm/devices/vcpu.rst).
 */
struct impost_x86_tsc {
	uint32_t size;
	uint32_t flags; /* IMPOST_X86_TSC_* */
	uint64_t value;
	uint64_t host_tsc;
	uint32_t khz; /* guest's rate; 0: not known (get), leave as it is (set) */
	uint32_t reserved;
};
static_assert(sizeof(struct impost_x86_tsc) == 32, "ABI");

#define IMPOST_X86_TSC_HOST 1u /* host_tsc is valid */

/* State with no neutral form: only the backend that wrote it, in a version that it knows, can read
 * it. */
__extension__ struct impost_x86_opaque {
	uint32_t size; /* of this struct and the data */
	uint32_t version;
	char backend[16]; /* name, NUL-padded */
	char what[16];	  /* "nested", ...; NUL-padded; all zero: there is nothing */
	uint32_t data_size;
	uint32_t reserved;
	uint8_t data[];
};
static_assert(sizeof(struct impost_x86_opaque) == 48, "ABI");

/* Both 8259A interrupt controllers; [0] is the master (Intel 8259A data sheet). */
struct impost_x86_pic_chip {
	uint8_t last_irr; /* levels seen last, for edge detection */
	uint8_t irr, imr, isr;
	uint8_t priority_add; /* the highest priority's pin */
	uint8_t irq_base;     /* vector of pin 0 */
	uint8_t read_reg_select;
	uint8_t poll;
	uint8_t special_mask;
	uint8_t init_state; /* ICW expected next; 0: operational */
	uint8_t auto_eoi;
	uint8_t rotate_on_auto_eoi;
	uint8_t special_fully_nested;
	uint8_t init4; /* ICW4 is to come */
	uint8_t elcr;
	uint8_t elcr_mask;
};

struct impost_x86_pic {
	uint32_t size;
	uint32_t reserved;
	struct impost_x86_pic_chip chip[2];
};
static_assert(sizeof(struct impost_x86_pic) == 40, "ABI");

#define IMPOST_X86_IOAPIC_PINS 24

/* The I/O APIC (Intel 82093AA data sheet). */
struct impost_x86_ioapic {
	uint32_t size;
	uint32_t id;
	uint64_t base; /* gpa */
	uint32_t ioregsel;
	uint32_t irr;				   /* levels of the pins */
	uint64_t redirect[IMPOST_X86_IOAPIC_PINS]; /* redirection table entries as the data sheet
						      has them */
};
static_assert(sizeof(struct impost_x86_ioapic) == 216, "ABI");

/* One channel of the 8254 timer (Intel 8254 data sheet). */
struct impost_x86_pit_channel {
	uint32_t count; /* reload value: 1 to 65536 */
	uint16_t latched_count;
	uint8_t count_latched;
	uint8_t status_latched;
	uint8_t status;
	uint8_t read_state;
	uint8_t write_state;
	uint8_t write_latch;
	uint8_t rw_mode;
	uint8_t mode;
	uint8_t bcd;
	uint8_t gate;
	int64_t count_load_age_ns; /* how long ago, at the time of the call, counting began */
};

struct impost_x86_pit {
	uint32_t size;
	uint32_t flags; /* IMPOST_X86_PIT_* */
	struct impost_x86_pit_channel channel[3];
};
static_assert(sizeof(struct impost_x86_pit) == 80, "ABI");

#define IMPOST_X86_PIT_HPET_LEGACY \
	1u /* channel 0's interrupt is off, the HPET has taken its place */
#define IMPOST_X86_PIT_SPEAKER_ON 2u

/* The VM's paravirtual clock: guest time in nanoseconds since an epoch of the VM. */
struct impost_x86_clock {
	uint32_t size;
	uint32_t flags;	      /* IMPOST_X86_CLOCK_* */
	uint64_t ns;	      /* the guest's clock */
	uint64_t realtime_ns; /* the host's CLOCK_REALTIME at that moment, if flags say so */
	uint64_t host_tsc;    /* the host's TSC at that moment, if flags say so */
};
static_assert(sizeof(struct impost_x86_clock) == 32, "ABI");

#define IMPOST_X86_CLOCK_REALTIME \
	1u /* get: realtime_ns is valid; set: advance by the time gone since then */
#define IMPOST_X86_CLOCK_HOST_TSC 2u
#define IMPOST_X86_CLOCK_STABLE \
	4u /* get only: every vCPU computes its clock from one set of values */

/* A model-specific register (SDM vol. 4). */
struct impost_x86_msr {
	uint32_t index;
	uint32_t reserved;
	uint64_t value;
};
static_assert(sizeof(struct impost_x86_msr) == 16, "ABI");

/* One CPUID result (SDM vol. 2, CPUID). */
struct impost_x86_cpuid {
	uint32_t leaf;
	uint32_t subleaf;
	uint32_t flags; /* IMPOST_X86_CPUID_* */
	uint32_t eax, ebx, ecx, edx;
	uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct impost_x86_cpuid) == 32, "ABI");

#define IMPOST_X86_CPUID_SUBLEAF 1u /* ECX selects: the entry answers for `subleaf` only */

#endif
