/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MP table: which processors and interrupt wires there are, for a guest without ACPI (Intel,
 * MultiProcessor Specification 1.4, chapter 4). Pure: from a description to bytes that are right at
 * one address. Any thread. -E2BIG is as error.h has it.
 */
#ifndef IMPOST_X86_64_MPTABLE_H
#define IMPOST_X86_64_MPTABLE_H

#include <stddef.h>

#include <impost/error.h>

/* The highest local APIC id that an MP table can name: ids have a byte, and 255 means all. */
#define IMPOST_X86_MPTABLE_APIC_ID_MAX 254u

/* The lines of the ISA bus. */
#define IMPOST_X86_ISA_IRQS 16u

/* How a line works; 0: as its bus does, which is edge-triggered and active high for ISA (table
 * 4-10). The bits are those of ACPI's MADT, too. */
#define IMPOST_X86_MPTABLE_ACTIVE_HIGH 0x1u
#define IMPOST_X86_MPTABLE_ACTIVE_LOW  0x3u
#define IMPOST_X86_MPTABLE_EDGE	       0x4u
#define IMPOST_X86_MPTABLE_LEVEL       0xcu

/* An ISA line that is not on the I/O APIC pin of its own number. */
struct impost_x86_mptable_override {
	uint32_t isa_irq;  /* 0 to 15 */
	uint32_t pin;	   /* of the I/O APIC */
	uint32_t flags;	   /* IMPOST_X86_MPTABLE_*: one of ACTIVE_*, one of EDGE and LEVEL, or 0 */
	uint32_t reserved; /* 0 */
};

/* What the MP table tells. 0 and NULL are good for all but `size`, `cpus` and `apic_ids`. */
struct impost_x86_mptable_config {
	uint32_t size; /* set by the caller to sizeof(struct impost_x86_mptable_config) */
	uint32_t cpus;
	const uint32_t *apic_ids; /* of each CPU; the first is the boot CPU's */
	uint32_t cpu_signature;	  /* EAX of CPUID leaf 1: family, model, stepping */
	uint32_t cpu_features;	  /* EDX of CPUID leaf 1 */
	uint32_t lapic_gpa;	  /* 0: IMPOST_X86_LAPIC_ADDR */
	uint32_t has_ioapic;	  /* 0: no I/O APIC, and no line of the ISA bus is told of */
	uint32_t ioapic_gpa;	  /* 0: IMPOST_X86_IOAPIC_ADDR */
	uint32_t ioapic_pins;	  /* 16 to 240; 0: 24 */
	uint32_t noverrides;
	uint32_t ioapic_id; /* 1 to 254; 0: the lowest that no CPU has */
	const struct impost_x86_mptable_override *overrides;
	const char *oem;     /* up to 8 printable ASCII characters; NULL: "IMPOST" */
	const char *product; /* up to 12; NULL: "VM" */
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Writes the MP table for guest-physical address GPA into BUF: the floating pointer, and behind it
 * the configuration table with the processors, the ISA bus, the I/O APIC, the ISA lines, and each
 * processor's local interrupts (ExtINT on the boot CPU's LINT0, NMI on every LINT1: virtual wire
 * mode, 3.6.2.2). An operating system finds it where it lies on 16 bytes in 0xf0000 to 0xfffff:
 * IMPOST_X86_MPTABLE_ADDR is meant for it. Linux reads it where it is built with
 * CONFIG_X86_MPPARSE, and is given no ACPI tables, or acpi=off.
 *
 * ISA line N is on pin N, as the hypervisors' own default routing has it, where no override moves
 * it. A line whose pin is taken by an override of another line is left out, as IRQ 2, the cascade,
 * is where IRQ 0 is on pin 2. The I/O APIC's id must be no CPU's (3.6.6).
 *
 * *ret_bytes is what it takes; with BUF NULL nothing is written, and CAPACITY is not looked at. The
 * table has a few KiB at the most. CTX, for error texts, may be NULL.
 *
 * -EINVAL: a wrong `size`, or `reserved` of an override; no CPU, or an APIC id twice or above
 * IMPOST_X86_MPTABLE_APIC_ID_MAX (use ACPI, then); no id left for the I/O APIC, or one that cannot
 * be; GPA no multiple of 16, or the table not below 4 GiB; an address of an APIC that is no
 * multiple of 4096; a number of pins, an override or a text that cannot be, two overrides for one
 * line or one pin, or overrides without an I/O APIC; NULL where something is counted. -ENOSPC: it
 * needs more than CAPACITY bytes. BUF and *ret_bytes are left alone then; the text names what was
 * wrong.
 */
IMPOST_API int impost_x86_mptable_build(struct impost_context *ctx,
					const struct impost_x86_mptable_config *config,
					uint64_t gpa, void *buf, size_t capacity,
					size_t *ret_bytes);

#ifdef __cplusplus
}
#endif

#endif
