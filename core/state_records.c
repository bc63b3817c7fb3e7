/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptions of every section of a state that is the library's own. */
#include "state.h"

#ifndef IMPOST_NO_STATE

#define UINT(member, doc_)	  IMPOST_FIELD_UINT(struct T, member, 1, 0, doc_)
#define HEX(member, doc_)	  IMPOST_FIELD_HEX_UINT(struct T, member, 1, 0, doc_)
#define UPTO(member, most, doc_)  IMPOST_FIELD_UINT(struct T, member, 1, 0, doc_, .max = (most))
#define BOOL(member, doc_)	  IMPOST_FIELD_BOOL(struct T, member, 1, 0, doc_)
#define TEXT(member, doc_)	  IMPOST_FIELD_TEXT(struct T, member, 1, doc_)
#define SUB(member, record, doc_) IMPOST_FIELD_RECORD(struct T, member, 1, &(record), doc_)
#define SIZE			  IMPOST_FIELD_SIZE(struct T, size)
/* A section that may be missing: an array of one element, or none. */
#define MAYBE(member, record_, doc_)                                                               \
	IMPOST_FIELD_ARRAY(struct T, member, RECORD, 1, doc_, IMPOST_COUNTED(struct T, n##member), \
			   .record = &(record_))
#define SOME(member, counter, most, record_, doc_)                                \
	IMPOST_FIELD_POINTER_TO(struct T, member, RECORD, counter, most, 1, doc_, \
				.record = &(record_))
/* Records inside of others have the version of those. */
#define INNER(symbol, name, fields, doc_) \
	IMPOST_RECORD(symbol, name, struct T, 1, 1, 1, fields, doc_)

/* --- vCPU --- */

#define T impost_x86_regs
IMPOST_FIELDS(regs_fields, SIZE, HEX(rax, "RAX"), HEX(rbx, "RBX"), HEX(rcx, "RCX"), HEX(rdx, "RDX"),
	      HEX(rsi, "RSI"), HEX(rdi, "RDI"), HEX(rsp, "RSP"), HEX(rbp, "RBP"), HEX(r8, "R8"),
	      HEX(r9, "R9"), HEX(r10, "R10"), HEX(r11, "R11"), HEX(r12, "R12"), HEX(r13, "R13"),
	      HEX(r14, "R14"), HEX(r15, "R15"), HEX(rip, "RIP"), HEX(rflags, "RFLAGS"))
INNER(regs_record, "regs", regs_fields, "General registers (SDM vol. 1, 3.4).")
#undef T

#define T impost_x86_segment
IMPOST_FIELDS(segment_fields, HEX(selector, "The visible part"), HEX(base, "Linear address"),
	      HEX(limit, "In bytes: with G set the low 12 bits are ones"),
	      HEX(access,
		  "Bits 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable"))
INNER(segment_record, "segment", segment_fields,
      "A segment register with its hidden part (SDM vol. 3, 3.4.3, table 25-2).")
#undef T

#define T impost_x86_table
IMPOST_FIELDS(table_fields, HEX(base, "Linear address"), HEX(limit, "Of the last byte"))
INNER(table_record, "table", table_fields, "GDTR or IDTR (SDM vol. 3, 2.4).")
#undef T

#define T impost_x86_sregs
IMPOST_FIELDS(
	sregs_fields, SIZE, HEX(flags, "Bit 0: `pdptr` is valid"), SUB(cs, segment_record, "CS"),
	SUB(ds, segment_record, "DS"), SUB(es, segment_record, "ES"), SUB(fs, segment_record, "FS"),
	SUB(gs, segment_record, "GS"), SUB(ss, segment_record, "SS"), SUB(tr, segment_record, "TR"),
	SUB(ldtr, segment_record, "LDTR"), SUB(gdtr, table_record, "GDTR"),
	SUB(idtr, table_record, "IDTR"), HEX(cr0, "CR0"), HEX(cr2, "CR2"), HEX(cr3, "CR3"),
	HEX(cr4, "CR4"), HEX(cr8, "CR8"), HEX(efer, "IA32_EFER"), HEX(apic_base, "IA32_APIC_BASE"),
	IMPOST_FIELD_HEX_ARRAY(struct T, pdptr, UINT, 1, "PAE PDPTE registers (SDM vol. 3, 4.4.1)"))
INNER(sregs_record, "sregs", sregs_fields,
      "Segments, tables and control registers (SDM vol. 3, 2.1 and 2.5).")
#undef T

#define T impost_x86_xcomponent
IMPOST_FIELDS(component_fields, UINT(id, "Bit in XCR0"),
	      UINT(offset, "Bytes from the area's start"), UINT(bytes, "Its length"))
INNER(component_record, "component", component_fields,
      "Where a component of the XSAVE area lies (CPUID leaf 0xD).")
#undef T

#define T state_xsave
IMPOST_FIELDS(xsave_fields, HEX(xcr0, "XCR0; 0: the vCPU has no XSAVE"),
	      IMPOST_FIELD_ARRAY(struct T, component, RECORD, 1,
				 "Components of ids 2 and up; 0 and 1 have fixed places",
				 IMPOST_COUNTED(struct T, ncomponents),
				 .record = &component_record),
	      IMPOST_FIELD_POINTER_TO(struct T, area, BYTES, nbytes, STATE_XSAVE_MAX, 1,
				      "The area: legacy region, header, components"))
INNER(xsave_record, "xsave", xsave_fields,
      "FPU, SSE, AVX and so on: the XSAVE area in the standard, not compacted, format (SDM vol. 1, "
      "chapter 13).")
#undef T

#define T impost_x86_debugregs
IMPOST_FIELDS(debugregs_fields, SIZE, IMPOST_FIELD_HEX_ARRAY(struct T, dr, UINT, 1, "DR0 to DR3"),
	      HEX(dr6, "DR6"), HEX(dr7, "DR7"))
INNER(debugregs_record, "debugregs", debugregs_fields, "Debug registers (SDM vol. 3, 18.2).")
#undef T

#define T impost_x86_lapic
IMPOST_FIELDS(lapic_fields, SIZE,
	      IMPOST_FIELD_BYTES(struct T, regs, 1,
				 "The register page: 32 bits little-endian at multiples of 16"))
INNER(lapic_record, "lapic", lapic_fields, "The local APIC (SDM vol. 3, table 11-1).")
#undef T

#define T impost_x86_events
IMPOST_FIELDS(
	events_fields, SIZE, HEX(flags, "What is known: IMPOST_X86_EVENTS_* of x86_64/state.h"),
	BOOL(exception.injected, "An exception's delivery has begun, and will be repeated"),
	BOOL(exception.pending, "An exception is recognised, its delivery has not begun"),
	UINT(exception.vector, "Its vector"), BOOL(exception.has_error, "It has an error code"),
	HEX(exception.error, "The error code"),
	BOOL(exception.has_payload, "The payload is still to be applied"),
	HEX(exception.payload, "Bits of DR6, or CR2"),
	BOOL(interrupt.injected, "An interrupt's delivery has begun"),
	UINT(interrupt.vector, "Its vector"), BOOL(interrupt.soft, "It is of an INT instruction"),
	UINT(interrupt.shadow, "Interrupts are blocked by STI (1) or MOV SS (2)"),
	BOOL(nmi.injected, "An NMI's delivery has begun"), UINT(nmi.pending, "NMIs that wait"),
	BOOL(nmi.masked, "An NMI is being handled"), BOOL(smi.smm, "In system-management mode"),
	UINT(smi.pending, "SMIs that wait"), BOOL(smi.inside_nmi, "The SMI came inside an NMI"),
	UINT(smi.latched_init, "An INIT waits for the end of system-management mode"),
	UINT(sipi_vector, "Vector of the startup IPI"),
	BOOL(triple_fault_pending, "A triple fault waits"),
	BOOL(waiting, "An interrupt that the host has injected waits until the guest can take it"),
	UINT(waiting_vector, "Its vector"))
INNER(events_record, "events", events_fields,
      "Events on their way into the vCPU (SDM vol. 3, 6.2 to 6.9, 25.8.3, 32.2).")
#undef T

#define T impost_x86_runstate
IMPOST_FIELDS(runstate_fields, SIZE,
	      UINT(state, "0 running, 1 waits for INIT, 2 waits for a startup IPI, 3 halted, 4 a "
			  "startup IPI has come, 5 stopped"))
INNER(runstate_record, "runstate", runstate_fields, "What the vCPU does when it may run.")
#undef T

#define T state_tsc
IMPOST_FIELDS(tsc_fields, UINT(value, "What the guest reads when the VM's clock is at `vm.clock`"),
	      UINT(khz, "Its rate; 0: not known"))
INNER(tsc_record, "tsc", tsc_fields, "The time-stamp counter (SDM vol. 3, 18.17).")
#undef T

#define T state_opaque
IMPOST_FIELDS(opaque_fields, TEXT(backend, "Who alone can read it"), TEXT(what, "What it is"),
	      UINT(version, "Its version, which is the backend's matter"),
	      IMPOST_FIELD_POINTER_TO(struct T, data, BYTES, nbytes, STATE_OPAQUE_MAX, 1,
				      "In the backend's own form"))
INNER(opaque_record, "opaque", opaque_fields, "State that has no neutral form.")
#undef T

/* Numbers of which several make an entry. */
#define WORDS(key, member, counter, most, doc_)                                               \
	{                                                                                     \
		.name = (key), .type = IMPOST_FIELD_TYPE_UINT, .where = IMPOST_FIELD_POINTER, \
		.offset = (uint32_t)offsetof(struct T, member),                               \
		.bytes = IMPOST_ELEMENT_BYTES_(struct T, member), .count = (uint32_t)(most),  \
		.flags = IMPOST_FIELD_IS_ARRAY | IMPOST_FIELD_HEX,                            \
		IMPOST_COUNTED(struct T, counter), .since = 1, .doc = (doc_)                  \
	}

#define T state_msrs
IMPOST_FIELDS(hypervisor_fields, TEXT(backend, "Whose they are"),
	      WORDS("msrs", words, nwords, STATE_MSRS_MAX *STATE_MSR_WORDS,
		    "Index and value of each, rising by index"))
INNER(hypervisor_record, "hypervisor", hypervisor_fields,
      "MSRs that no CPU has: 0x11, 0x12, 0x40000000 and up, 0x4b564d00 and up. On another backend "
      "they are dropped if the guest never used them, or the state is refused.")
#undef T

#define T state_vcpu
#define REGISTERS                                                                    \
	UINT(id, "APIC id"), SUB(regs, regs_record, "General registers"),            \
		SUB(sregs, sregs_record, "Segments, tables and control registers"),  \
		MAYBE(xsave, xsave_record, "Extended state"),                        \
		MAYBE(debugregs, debugregs_record, "Debug registers"),               \
		MAYBE(lapic, lapic_record, "Local APIC, if it is the hypervisor's"), \
		MAYBE(events, events_record, "Events"),                              \
		MAYBE(runstate, runstate_record, "Run state"),                       \
		MAYBE(tsc, tsc_record, "Time-stamp counter"),                        \
		SOME(opaque, nopaque, STATE_OPAQUES_MAX, opaque_record,              \
		     "Nested state, and what else the backend has")
IMPOST_FIELDS(vcpu_fields, REGISTERS,
	      WORDS("cpuid", cpuid_words, ncpuid_words, STATE_CPUID_MAX *STATE_CPUID_WORDS,
		    "CPUID (SDM vol. 2): leaf, sub-leaf, flags (bit 0: ECX selects), EAX, EBX, "
		    "ECX, EDX and 0 of each answer"),
	      WORDS("msrs", msr_words, nmsr_words, STATE_MSRS_MAX *STATE_MSR_WORDS,
		    "MSRs that no other field has: index and value of each, rising by index"),
	      SUB(hypervisor, hypervisor_record, "MSRs of the hypervisor"))
IMPOST_RECORD(vcpu_record, "vcpu", struct T, 1, 1, 1, vcpu_fields,
	      "A vCPU, in section `vcpu.N`, N being its APIC id.")
/* What is not shown by the names of MSRs and of fields of CPUID. */
IMPOST_FIELDS(registers_fields, REGISTERS)
IMPOST_RECORD(registers_record, "vcpu", struct T, 1, 1, 1, registers_fields, "A vCPU's registers.")
#undef T

/* --- VM --- */

#define T impost_x86_pic_chip
IMPOST_FIELDS(chip_fields, HEX(last_irr, "Levels seen last"), HEX(irr, "Requests"),
	      HEX(imr, "Mask"), HEX(isr, "In service"),
	      UINT(priority_add, "The highest priority's pin"), HEX(irq_base, "Vector of pin 0"),
	      UINT(read_reg_select, "Register read next"), UINT(poll, "Poll command given"),
	      UINT(special_mask, "Special mask mode"),
	      UINT(init_state, "ICW expected next; 0: operational"),
	      UINT(auto_eoi, "Automatic EOI"),
	      UINT(rotate_on_auto_eoi, "Rotation with automatic EOI"),
	      UINT(special_fully_nested, "Special fully nested mode"),
	      UINT(init4, "ICW4 is to come"), HEX(elcr, "Level-triggered pins"),
	      HEX(elcr_mask, "Pins that can be"))
INNER(chip_record, "chip", chip_fields, "An 8259A (Intel 8259A data sheet).")
#undef T

#define T impost_x86_pic
IMPOST_FIELDS(pic_fields, SIZE,
	      IMPOST_FIELD_ARRAY(struct T, chip, RECORD, 1, "Master and slave",
				 .record = &chip_record))
INNER(pic_record, "pic", pic_fields, "Both 8259A interrupt controllers.")
#undef T

#define T impost_x86_ioapic
IMPOST_FIELDS(ioapic_fields, SIZE, UINT(id, "Its id"), HEX(base, "Guest-physical address"),
	      HEX(ioregsel, "Register select"), HEX(irr, "Levels of the pins"),
	      IMPOST_FIELD_HEX_ARRAY(struct T, redirect, UINT, 1, "Redirection table"))
INNER(ioapic_record, "ioapic", ioapic_fields, "The I/O APIC (Intel 82093AA data sheet).")
#undef T

#define T impost_x86_pit_channel
IMPOST_FIELDS(channel_fields, UINT(count, "Reload value: 1 to 65536"),
	      UINT(latched_count, "Latched count"), UINT(count_latched, "What is latched"),
	      UINT(status_latched, "The status is latched"), HEX(status, "Latched status"),
	      UINT(read_state, "Byte read next"), UINT(write_state, "Byte written next"),
	      UINT(write_latch, "Byte written first"), UINT(rw_mode, "Access"), UINT(mode, "Mode"),
	      UINT(bcd, "Counts in BCD"), UINT(gate, "Gate"),
	      IMPOST_FIELD_INT(struct T, count_load_age_ns, 1, 0,
			       "How long ago counting began, nanoseconds"))
INNER(channel_record, "channel", channel_fields, "A channel of the 8254.")
#undef T

#define T impost_x86_pit
IMPOST_FIELDS(pit_fields, SIZE,
	      HEX(flags, "Bit 0: the HPET has channel 0's place; bit 1: the speaker is on"),
	      IMPOST_FIELD_ARRAY(struct T, channel, RECORD, 1, "Channels 0 to 2",
				 .record = &channel_record))
INNER(pit_record, "pit", pit_fields, "The 8254 timer (Intel 8254 data sheet).")
#undef T

#define T impost_x86_clock
IMPOST_FIELDS(clock_fields, SIZE,
	      HEX(flags, "Bit 0: `realtime_ns` is valid; bit 2: all vCPUs compute it from one set "
			 "of values"),
	      UINT(ns, "The guest's clock, nanoseconds"),
	      UINT(realtime_ns, "CLOCK_REALTIME of the host at that moment"))
INNER(clock_record, "clock", clock_fields, "The VM's paravirtual clock.")
#undef T

#define T state_vm
IMPOST_FIELDS(vm_fields, MAYBE(pic, pic_record, "PIC, if it is the hypervisor's"),
	      MAYBE(ioapic, ioapic_record, "I/O APIC, if it is the hypervisor's"),
	      MAYBE(pit, pit_record, "PIT, if it is the hypervisor's"),
	      MAYBE(clock, clock_record, "Clock"),
	      SOME(opaque, nopaque, STATE_OPAQUES_MAX, opaque_record,
		   "What the backend has besides"))
IMPOST_RECORD(vm_record, "vm", struct T, 1, 1, 1, vm_fields,
	      "What belongs to no vCPU, in section `vm`.")
#undef T

/* --- machine --- */

#define T impost_state_region
IMPOST_FIELDS(region_fields, HEX(gpa, "Guest-physical address"), UINT(bytes, "Length"),
	      HEX(flags, "Bit 0: the guest cannot write"))
INNER(region_record, "region", region_fields, "A region of guest memory.")
#undef T

#define T impost_gsi_route
IMPOST_FIELDS(route_fields, UINT(gsi, "Line"),
	      UINT(type, "Leads to: 1 PIC's master, 2 its slave, 3 I/O APIC, 4 message"),
	      UINT(pin, "Of the controller"), HEX(msi_address, "Of the message"),
	      HEX(msi_data, "Of the message"))
INNER(route_record, "route", route_fields, "Where an interrupt line leads.")
#undef T

#define T state_machine
IMPOST_FIELDS(machine_fields, TEXT(backend, "The backend that it was taken on"),
	      TEXT(library, "The library's version"),
	      UPTO(cpus, STATE_VCPUS_MAX, "vCPUs that the VM was made for"),
	      UINT(irqchip,
		   "Interrupt controllers in the hypervisor: 1 none, 2 local APICs, 3 all"),
	      UINT(memory, "Bytes of RAM"), UINT(host_tsc_khz, "The host's TSC rate; 0: not known"),
	      UINT(realtime_ns, "CLOCK_REALTIME of the host when it was taken"),
	      IMPOST_FIELD_POINTER_TO(struct T, vcpus, UINT, nvcpus, STATE_VCPUS_MAX, 1,
				      "APIC ids of the vCPUs, rising"),
	      SOME(regions, nregions, STATE_SLOTS_MAX, region_record, "Guest memory"),
	      SOME(routes, nroutes, STATE_ROUTES_MAX, route_record,
		   "Interrupt routes, if the host has set any"))
IMPOST_RECORD(machine_record, "machine", struct T, 1, 1, 1, machine_fields,
	      "What the VM is, in section `machine`.")
#undef T

const struct impost_record *const state_machine_record = &machine_record;
const struct impost_record *const state_vm_record = &vm_record;
const struct impost_record *const state_vcpu_record = &vcpu_record;
const struct impost_record *const state_registers_record = &registers_record;

#endif
