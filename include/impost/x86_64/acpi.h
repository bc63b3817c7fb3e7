/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI 6.5 tables: from a description of the machine to bytes that are right at a given
 * guest-physical address. Needs no VM and no guest memory. Section and table numbers without a name
 * are those of ACPI 6.5.
 *
 * The caller sets `size` in every struct that has one, the result too, to the struct's sizeof:
 * structs grow at their end, and no more than that is read or filled. -E2BIG: one asks for
 * something that this library does not know (error.h).
 */
#ifndef IMPOST_X86_64_ACPI_H
#define IMPOST_X86_64_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>
#include <impost/memory.h>
#include <impost/version.h>

/* CPUs that can be described: they are \_SB.C000 to \_SB.CFFF. */
#define IMPOST_X86_ACPI_CPUS_MAX 4096u

/* Of the others. */
#define IMPOST_X86_ACPI_DEVICES_MAX   1024u
#define IMPOST_X86_ACPI_RESOURCES_MAX 256u /* of a device */
#define IMPOST_X86_ACPI_TABLES_MAX    256u
#define IMPOST_X86_ACPI_ECAM_MAX      256u
#define IMPOST_X86_ACPI_NODES_MAX     1024u
#define IMPOST_X86_ACPI_MEMORY_MAX    4096u

/* Where a register is: a generic address structure (5.2.3.2). bits 0: there is no such register. */
struct impost_x86_acpi_gas {
	uint8_t space;	/* IMPOST_X86_ACPI_MEMORY or _IO */
	uint8_t bits;	/* its width: a multiple of 8; of a block, of all its registers together */
	uint8_t offset; /* 0 */
	uint8_t access; /* 0: any; 1 to 4: byte, word, dword, qword */
	uint32_t reserved; /* 0 */
	uint64_t address;
};
#define IMPOST_X86_ACPI_MEMORY 0u
#define IMPOST_X86_ACPI_IO     1u

/* What a device occupies. */
struct impost_x86_acpi_resource {
	uint32_t type;	/* IMPOST_X86_ACPI_RESOURCE_* */
	uint32_t flags; /* of an interrupt: IMPOST_AML_IRQ_*; else 0 */
	uint64_t base;	/* the first port, the first address, or the GSI */
	uint64_t bytes; /* ports or bytes; of an interrupt 0 */
};
#define IMPOST_X86_ACPI_RESOURCE_IO	1u
#define IMPOST_X86_ACPI_RESOURCE_MEMORY 2u /* writable, not cached */
#define IMPOST_X86_ACPI_RESOURCE_IRQ	3u

/* A device of the DSDT, in \_SB. */
struct impost_x86_acpi_device {
	uint32_t size; /* set by the caller to its sizeof; the same in all of them */
	uint32_t uid;  /* its _UID */
	char name[8];  /* 4 characters of A-Z, 0-9 and _, no digit first, then NULs */
	/* Its _HID: an EISA id ("PNP0501") is written in compressed form; else letters and digits
	 * ("ACPI0013"). */
	const char *hid;
	const char *cid; /* its _CID, in printable ASCII; NULL: none */
	const struct impost_x86_acpi_resource *resources; /* its _CRS; NULL: none */
	/* Further terms inside the device, encoded: the host's own, see aml.h. They are not looked
	 * into. */
	const void *aml;
	uint32_t nresources;
	uint32_t aml_bytes;
};

/* A table of the host's own, with its header; the checksum is computed. */
struct impost_x86_acpi_table {
	const void *data;
	uint32_t bytes;
	uint32_t reserved; /* 0 */
};

/* PCI Express configuration space in memory (PCI Firmware Specification 3.3, 4.1.2). */
struct impost_x86_acpi_ecam {
	uint64_t base; /* of bus 0 */
	uint16_t segment;
	uint8_t start_bus, end_bus;
	uint32_t reserved; /* 0 */
};

/* Memory of a NUMA node (5.2.16.2). */
struct impost_x86_acpi_memory {
	uint64_t gpa, bytes;
	uint32_t node;
	uint32_t flags; /* IMPOST_X86_ACPI_HOTPLUG, _NONVOLATILE */
};
#define IMPOST_X86_ACPI_HOTPLUG	    2u
#define IMPOST_X86_ACPI_NONVOLATILE 4u

/* An ISA interrupt that is not at the GSI of its number, or is signalled in another way than edge
 * and active high (5.2.12.5). */
struct impost_x86_acpi_override {
	uint32_t gsi;
	uint16_t flags;	  /* MPS INTI flags (table 5.26): polarity in bits 1:0, trigger in 3:2 */
	uint8_t isa_irq;  /* 0 to 15 */
	uint8_t reserved; /* 0 */
};

/* IA-PC boot architecture flags (5.2.9.3). */
#define IMPOST_X86_ACPI_LEGACY_DEVICES                                                        \
	0x01u				  /* devices on ISA that users see: serial ports, ... \
					   */
#define IMPOST_X86_ACPI_8042	    0x02u /* a keyboard controller */
#define IMPOST_X86_ACPI_NO_VGA	    0x04u
#define IMPOST_X86_ACPI_NO_MSI	    0x08u
#define IMPOST_X86_ACPI_NO_ASPM	    0x10u
#define IMPOST_X86_ACPI_NO_CMOS_RTC 0x20u

/* What else the machine has (5.2.9, table 5.10). */
#define IMPOST_X86_ACPI_POWER_BUTTON  0x01u /* a power button in the PM1 registers */
#define IMPOST_X86_ACPI_SLEEP_BUTTON  0x02u /* a sleep button there */
#define IMPOST_X86_ACPI_RTC_WAKE      0x04u /* RTC wake status there */
#define IMPOST_X86_ACPI_PM_TIMER_32   0x08u /* the PM timer has 32 bits, not 24 */
#define IMPOST_X86_ACPI_HEADLESS      0x10u
#define IMPOST_X86_ACPI_APIC_CLUSTER  0x20u /* interrupts only by the cluster model */
#define IMPOST_X86_ACPI_APIC_PHYSICAL 0x40u /* interrupts only by physical APIC ids */
#define IMPOST_X86_ACPI_DUAL_8259     0x80u /* the host emulates the two PICs */

/*
 * The machine. What is 0 or NULL is left out or has the default that stands there. Everything
 * pointed to is the caller's, and used during the call only.
 */
struct impost_x86_acpi_config {
	uint32_t size; /* set by the caller to sizeof(struct impost_x86_acpi_config) */
	uint32_t cpus; /* 1 to IMPOST_X86_ACPI_CPUS_MAX; each is an ACPI0007 device */
	/* The APIC id of each CPU; NULL: their numbers. A CPU's number is its _UID; ids below 255
	 * are for the first 256 CPUs only (5.2.12.2 has a byte for the _UID). */
	const uint32_t *apic_ids;
	uint32_t irqchip;    /* IMPOST_IRQCHIP_*, not _DEFAULT: with _FULL there are an I/O APIC
				and two PICs */
	uint32_t has_ioapic; /* 1: there is an I/O APIC that the host emulates */
	uint32_t ioapic_id;  /* its id, below 255 */
	uint32_t ioapic_gpa; /* 0: IMPOST_X86_IOAPIC_ADDR */
	uint32_t lapic_gpa;  /* 0: IMPOST_X86_LAPIC_ADDR */
	uint32_t hw_reduced; /* 1: hardware-reduced ACPI (4.1): no PM1 registers, SCI, FACS */
	uint32_t options;    /* IMPOST_X86_ACPI_POWER_BUTTON, ... */
	uint16_t boot_arch;  /* IMPOST_X86_ACPI_LEGACY_DEVICES, ... */
	uint8_t pm_profile;  /* preferred power-management profile, 0 to 8 (5.2.9.1) */
	uint8_t reset_value; /* what is written to `reset` */
	uint8_t s5_type;     /* SLP_TYP for S5, below 8: \_S5 */
	uint8_t acpi_enable, acpi_disable; /* what is written to SMI_CMD */
	uint8_t gpe1_base;		   /* number of GPE1's first event */
	uint32_t smi_command; /* port of SMI_CMD; 0: the machine is always in ACPI mode */
	uint32_t sci;	      /* GSI of the SCI, without hw_reduced; 0: 9 */
	uint32_t reserved2;   /* 0 */
	/* The reset register: 8 bits wide. */
	struct impost_x86_acpi_gas reset;
	/* With hw_reduced: sleep control and status registers, 8 bits each; both or none. Without
	 * them there is no \_S5 (4.8.3.7). */
	struct impost_x86_acpi_gas sleep_control, sleep_status;
	/* Without hw_reduced (4.8.3, 4.8.4): PM1 events have 32 bits and PM1 control has 16, and
	 * those of PM1a must be there; PM2 control has 8, the PM timer 32; GPE blocks have as many
	 * status as enable bytes. */
	struct impost_x86_acpi_gas pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control;
	struct impost_x86_acpi_gas pm_timer, gpe0, gpe1;
	char hypervisor[8]; /* hypervisor vendor identity, filled up with NULs */
	char oem_id[6];	    /* printable ASCII, filled up with spaces or NULs; all NULs: "IMPOST" */
	char oem_table_id[8];  /* likewise */
	uint16_t reserved;     /* 0 */
	uint32_t oem_revision; /* 0: 1 */
	uint32_t ndevices;
	uint32_t ntables;
	uint32_t aml_bytes;
	const struct impost_x86_acpi_device *devices;
	const struct impost_x86_acpi_table *tables;
	const void *aml; /* further terms of the DSDT, encoded; they are not looked into */
	const struct impost_x86_acpi_ecam *ecam; /* MCFG */
	const struct impost_x86_acpi_override *overrides;
	uint32_t necam;
	uint32_t noverrides;
	/* NUMA: nodes 0 to nodes - 1; 0: none. */
	const uint32_t *cpu_nodes; /* the node of each CPU; must be there with nodes */
	const struct impost_x86_acpi_memory *memory; /* what lies in which node */
	/* Distances from node i to node j at [i * nodes + j] (5.2.17): 10 where i is j, else 11 to
	 * 254, or 255 for not reachable. NULL: no SLIT. */
	const uint8_t *distances;
	uint32_t nodes;
	uint32_t nmemory;
	/*
	 * The VM generation id (x86_64/vmgenid.h), a device \_SB.VGEN: where its 16 bytes lie, at a
	 * multiple of 8, best IMPOST_X86_VMGENID_ADDR; 0: none. The page is to be memory that the
	 * guest neither uses nor maps otherwise: impost_x86_boot() sees to that. Bytes there are
	 * not written here.
	 */
	uint64_t vmgenid_gpa;
	/* The interrupt, edge-triggered and of nothing else, that tells of a new one: a generic
	 * event device \_SB.VGED (5.6.9). Best one above 15: a guest without ACPI may have left the
	 * PICs' lines open. 0: none, and the guest sees the id when it boots only. */
	uint32_t vmgenid_gsi;
	uint32_t reserved3; /* 0 */
};

#define IMPOST_X86_ACPI_RSDP_BYTES 36u /* revision 2 (5.2.5.3) */

/* What impost_x86_acpi_build() made. */
struct impost_x86_acpi_result {
	uint32_t size; /* set by the caller to sizeof(struct impost_x86_acpi_result) */
	uint8_t rsdp[IMPOST_X86_ACPI_RSDP_BYTES]; /* for rsdp_gpa */
	uint64_t bytes;				  /* that the tables take */
	uint64_t xsdt_gpa; /* where tables are, in the bytes from tables_gpa on */
	uint64_t fadt_gpa;
	uint64_t dsdt_gpa;
	uint64_t madt_gpa;
	uint64_t facs_gpa; /* 0: none */
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Builds the tables of CONFIG to be put at TABLES_GPA, a multiple of 64, into the CAPACITY bytes at
 * BUF: DSDT, FACS without hw_reduced, FADT, MADT, MCFG, SRAT, SLIT, the host's own, and XSDT, each
 * at a multiple of 16, the FACS of 64. The RSDP (revision 2, with no RSDT) is in *ret_result; it is
 * meant for RSDP_GPA, a multiple of 16, which must not lie in the tables. A guest without UEFI
 * looks for it at 0xe0000 to 0xfffff (5.2.5.1) unless the boot protocol tells it. The guest must
 * find the tables in memory of e820 type ACPI, NVS or reserved.
 *
 * BUF may be NULL, to learn their length first: all else in the result is as it will be, and
 * neither address is judged. The length is the same wherever they lie: about 50 bytes for each CPU,
 * 75 with nodes, and a few hundred. CTX, for error texts, may be NULL; so may RET_RESULT. Any
 * thread; on failure nothing was written.
 *
 * -EINVAL: something in CONFIG is not what it must be; the text names it, and both sides of what
 * does not go together: device names that are doubled or those of CPUs, devices of one _HID and
 * _UID, overlapping ports and memory of devices, an IRQ of several that do not all share it in the
 * same way, doubled APIC ids, ISA IRQs and GSIs of overrides, ECAM windows and memory of nodes that
 * overlap, tables of one signature (SSDTs aside) or whose header has another length, registers that
 * overlap, or that mode has none of. Or an address is not aligned, or wraps around; or *ret_result
 * has a size that cannot be. -ENOSPC: they do not fit into CAPACITY; the text has both. -ENOMEM.
 */
IMPOST_API int impost_x86_acpi_build(struct impost_context *ctx,
				     const struct impost_x86_acpi_config *config, uint64_t rsdp_gpa,
				     uint64_t tables_gpa, void *buf, size_t capacity,
				     struct impost_x86_acpi_result *ret_result);

/*
 * Builds the tables as impost_x86_acpi_build() does and writes them, and the RSDP, to MEMORY, whose
 * context gets the error text. RET_RESULT may be NULL. Errors as there, or -EFAULT: no memory at
 * one of the addresses; nothing was written then.
 */
IMPOST_API int impost_x86_write_acpi(struct impost_memory *memory,
				     const struct impost_x86_acpi_config *config, uint64_t rsdp_gpa,
				     uint64_t tables_gpa,
				     struct impost_x86_acpi_result *ret_result);

#ifdef __cplusplus
}
#endif

#endif
