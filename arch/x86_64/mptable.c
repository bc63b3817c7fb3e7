/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table (Intel, MultiProcessor Specification 1.4, chapter 4; tables are named from there).
 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include <impost/x86_64/layout.h>
#include <impost/x86_64/mptable.h>

#include "structure.h"

#define SPEC_REVISION	4    /* 1.4 */
#define LAPIC_VERSION	0x14 /* integrated, with 6 local vectors (SDM vol. 3, 11.4.8) */
#define IOAPIC_VERSION	0x11 /* 82093AA */
#define IOAPIC_PINS	24
#define IOAPIC_PINS_MAX 240 /* 82093AA, 3.2.2: what the version register can say */
#define SIGNATURE_MASK \
	UINT32_C(0xfff) /* table 4-4: stepping, model, family; the rest is reserved */
#define ISA_BUS	   0	/* its id: the only bus */
#define ALL_LAPICS 0xff

/* What the first release knew: a host's struct may be shorter or longer than ours. */
#define LEAST_CONFIG (offsetof(struct impost_x86_mptable_config, product) + sizeof(const void *))

/* Entry types (table 4-3). */
enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IRQ, ENTRY_LOCAL_IRQ };

/* Interrupt types (table 4-11). */
enum { IRQ_INT, IRQ_NMI, IRQ_SMI, IRQ_EXTINT };

#define CPU_ENABLED    1 /* table 4-4, CPU flags */
#define CPU_BOOT       2
#define IOAPIC_ENABLED 1

/* Table 4-1. */
struct floating_pointer {
	char signature[4];
	uint32_t table;
	uint8_t length; /* in 16 bytes */
	uint8_t revision;
	uint8_t checksum;
	uint8_t features[5]; /* all 0: there is a table, and no IMCR: virtual wire mode */
} __attribute__((packed));

/* Table 4-2. */
struct header {
	char signature[4];
	uint16_t bytes;
	uint8_t revision;
	uint8_t checksum;
	char oem[8]; /* padded with blanks, as the next */
	char product[12];
	uint32_t oem_table;
	uint16_t oem_table_bytes;
	uint16_t entries;
	uint32_t lapic_gpa;
	uint16_t extended_bytes;
	uint8_t extended_checksum;
	uint8_t reserved;
} __attribute__((packed));

/* Table 4-4. */
struct cpu_entry {
	uint8_t type;
	uint8_t apic_id;
	uint8_t apic_version;
	uint8_t flags;
	uint32_t signature;
	uint32_t features;
	uint32_t reserved[2];
} __attribute__((packed));

/* Table 4-5. */
struct bus_entry {
	uint8_t type;
	uint8_t id;
	char name[6];
} __attribute__((packed));

/* Table 4-7. */
struct ioapic_entry {
	uint8_t type;
	uint8_t id;
	uint8_t version;
	uint8_t flags;
	uint32_t addr;
} __attribute__((packed));

/* Tables 4-9 and 4-12. */
struct irq_entry {
	uint8_t type;
	uint8_t irq_type;
	uint16_t flags;
	uint8_t bus;
	uint8_t bus_irq;
	uint8_t apic_id;
	uint8_t pin;
} __attribute__((packed));

static_assert(sizeof(struct floating_pointer) == 16, "table 4-1");
static_assert(sizeof(struct header) == 44, "table 4-2");
static_assert(sizeof(struct cpu_entry) == 20, "table 4-4");
static_assert(sizeof(struct bus_entry) == 8 && sizeof(struct ioapic_entry) == 8 &&
		      sizeof(struct irq_entry) == 8,
	      "tables 4-5, 4-7, 4-9, 4-12");

#define CPUS_MAX (IMPOST_X86_MPTABLE_APIC_ID_MAX + 1)
#define ENTRIES_MAX                                                       \
	(CPUS_MAX * sizeof(struct cpu_entry) + sizeof(struct bus_entry) + \
	 sizeof(struct ioapic_entry) + (IMPOST_X86_ISA_IRQS + 2) * sizeof(struct irq_entry))

/* The whole, as it grows. */
struct image {
	struct floating_pointer floating;
	struct header header;
	uint8_t entries[ENTRIES_MAX];
} __attribute__((packed));

/* Where an ISA line goes. */
struct line {
	uint32_t pin;
	uint16_t flags;
	uint8_t moved; /* by an override */
	uint8_t absent;
};

/* What is built, checked. */
struct plan {
	struct impost_x86_mptable_config config;
	uint8_t ioapic_id;
	struct line lines[IMPOST_X86_ISA_IRQS];
};

/* --- checks --- */

/* Checks the CPUs' ids, and finds the I/O APIC's. */
static int plan_ids(struct impost_context *ctx, struct plan *plan)
{
	const struct impost_x86_mptable_config *config = &plan->config;
	uint8_t taken[CPUS_MAX + 1] = {0};
	uint32_t id = 0;

	if (config->cpus == 0)
		return impost_error_set(ctx, -EINVAL, "MP table: there is no CPU");
	for (uint32_t i = 0; i < config->cpus; i++) {
		id = config->apic_ids[i];
		if (id > IMPOST_X86_MPTABLE_APIC_ID_MAX)
			return impost_error_set(ctx, -EINVAL,
						"MP table: CPU %u has APIC id %u, the table can "
						"name ids up to %u: use ACPI",
						i, id, IMPOST_X86_MPTABLE_APIC_ID_MAX);
		if (taken[id])
			return impost_error_set(ctx, -EINVAL,
						"MP table: CPU %u has APIC id %u, as one before it",
						i, id);
		taken[id] = 1;
	}
	for (id = 0; taken[id]; id++)
		;
	if (config->has_ioapic && config->ioapic_id) {
		id = config->ioapic_id;
		if (id > IMPOST_X86_MPTABLE_APIC_ID_MAX || taken[id])
			return impost_error_set(
				ctx, -EINVAL,
				"MP table: I/O APIC id %u is %s: leave it to the "
				"table, with 0",
				id, id > IMPOST_X86_MPTABLE_APIC_ID_MAX ? "above 254" : "a CPU's");
	}
	if (config->has_ioapic && id > IMPOST_X86_MPTABLE_APIC_ID_MAX)
		return impost_error_set(ctx, -EINVAL,
					"MP table: %u CPUs leave no id for the I/O APIC: use ACPI",
					config->cpus);
	plan->ioapic_id = (uint8_t)id;
	return 0;
}

static int flags_are_known(uint32_t flags)
{
	uint32_t polarity = flags & IMPOST_X86_MPTABLE_ACTIVE_LOW;
	uint32_t trigger = flags & IMPOST_X86_MPTABLE_LEVEL;

	return (polarity | trigger) == flags && polarity != 2 && trigger != 8;
}

static int plan_override(struct impost_context *ctx, struct plan *plan,
			 const struct impost_x86_mptable_override *override)
{
	int err = structure_check_reserved(ctx, "impost_x86_mptable_override", override->reserved);

	if (err)
		return err;
	if (override->isa_irq >= IMPOST_X86_ISA_IRQS || override->pin >= plan->config.ioapic_pins)
		return impost_error_set(ctx, -EINVAL,
					"MP table: an override of ISA IRQ %u to pin %u: there are "
					"%u IRQs and %u pins",
					override->isa_irq, override->pin, IMPOST_X86_ISA_IRQS,
					plan->config.ioapic_pins);
	if (!flags_are_known(override->flags))
		return impost_error_set(ctx, -EINVAL,
					"MP table: the override of ISA IRQ %u has flags 0x%x, "
					"which are none",
					override->isa_irq, override->flags);
	if (plan->lines[override->isa_irq].moved)
		return impost_error_set(ctx, -EINVAL, "MP table: two overrides of ISA IRQ %u",
					override->isa_irq);
	for (uint32_t irq = 0; irq < IMPOST_X86_ISA_IRQS; irq++)
		if (plan->lines[irq].moved && plan->lines[irq].pin == override->pin)
			return impost_error_set(ctx, -EINVAL,
						"MP table: overrides put ISA IRQs %u and %u on pin "
						"%u",
						irq, override->isa_irq, override->pin);
	plan->lines[override->isa_irq] =
		(struct line){override->pin, (uint16_t) override->flags, 1, 0};
	return 0;
}

/* Puts each line on its pin. */
static int plan_lines(struct impost_context *ctx, struct plan *plan)
{
	const struct impost_x86_mptable_config *config = &plan->config;
	int err = structure_check_counted(ctx, "MP table", "overrides", config->noverrides,
					  config->overrides);

	for (uint32_t irq = 0; irq < IMPOST_X86_ISA_IRQS; irq++)
		plan->lines[irq] = (struct line){irq, 0, 0, 0};
	for (uint32_t i = 0; !err && i < config->noverrides; i++)
		err = plan_override(ctx, plan, &config->overrides[i]);
	for (uint32_t irq = 0; irq < IMPOST_X86_ISA_IRQS; irq++) {
		uint32_t pin = plan->lines[irq].pin;

		if (plan->lines[irq].moved && pin < IMPOST_X86_ISA_IRQS && !plan->lines[pin].moved)
			plan->lines[pin].absent = 1;
	}
	return err;
}

static int check_addresses(struct impost_context *ctx,
			   const struct impost_x86_mptable_config *config)
{
	if (config->lapic_gpa % 4096 || config->ioapic_gpa % 4096)
		return impost_error_set(ctx, -EINVAL,
					"MP table: local APICs at 0x%x, I/O APIC at 0x%x: an APIC "
					"is at a multiple of 4096",
					config->lapic_gpa, config->ioapic_gpa);
	if (config->ioapic_pins < IMPOST_X86_ISA_IRQS || config->ioapic_pins > IOAPIC_PINS_MAX)
		return impost_error_set(ctx, -EINVAL,
					"MP table: an I/O APIC of %u pins; it may have %u to %u",
					config->ioapic_pins, IMPOST_X86_ISA_IRQS, IOAPIC_PINS_MAX);
	if (config->noverrides && !config->has_ioapic)
		return impost_error_set(ctx, -EINVAL, "MP table: overrides, but no I/O APIC");
	return 0;
}

static void set_defaults(struct impost_x86_mptable_config *config)
{
	if (!config->lapic_gpa)
		config->lapic_gpa = (uint32_t)IMPOST_X86_LAPIC_ADDR;
	if (!config->ioapic_gpa)
		config->ioapic_gpa = (uint32_t)IMPOST_X86_IOAPIC_ADDR;
	if (!config->ioapic_pins)
		config->ioapic_pins = IOAPIC_PINS;
	if (!config->oem)
		config->oem = "IMPOST";
	if (!config->product)
		config->product = "VM";
}

static int plan_make(struct impost_context *ctx, const struct impost_x86_mptable_config *from,
		     struct plan *plan)
{
	struct impost_x86_mptable_config *config = &plan->config;
	int err = structure_take(ctx, "impost_x86_mptable_config", config, sizeof(*config), from,
				 LEAST_CONFIG);

	if (err)
		return err;
	set_defaults(config);
	err = structure_check_counted(ctx, "MP table", "CPUs", config->cpus, config->apic_ids);
	if (!err)
		err = plan_ids(ctx, plan);
	if (!err)
		err = check_addresses(ctx, config);
	if (!err)
		err = plan_lines(ctx, plan);
	if (!err)
		err = structure_check_text(ctx, "MP table: oem", config->oem,
					   sizeof(((struct header *)0)->oem));
	if (!err)
		err = structure_check_text(ctx, "MP table: product", config->product,
					   sizeof(((struct header *)0)->product));
	return err;
}

/* --- building --- */

/* Texts of the table are not ended, but padded. */
static void pad(char *dst, size_t room, const char *text)
{
	for (size_t i = 0; i < room; i++)
		dst[i] = *text ? *text++ : ' ';
}

static void add(struct image *image, const void *entry, size_t bytes)
{
	size_t used = image->header.bytes - sizeof(image->header);

	memcpy(image->entries + used, entry, bytes);
	image->header.bytes = (uint16_t)(image->header.bytes + bytes);
	image->header.entries++;
}

static void add_cpus(struct image *image, const struct impost_x86_mptable_config *config)
{
	for (uint32_t i = 0; i < config->cpus; i++) {
		struct cpu_entry cpu = {
			.type = ENTRY_CPU,
			.apic_id = (uint8_t)config->apic_ids[i],
			.apic_version = LAPIC_VERSION,
			.flags = i == 0 ? CPU_ENABLED | CPU_BOOT : CPU_ENABLED,
			.signature = config->cpu_signature & SIGNATURE_MASK,
			.features = config->cpu_features,
		};

		add(image, &cpu, sizeof(cpu));
	}
}

static void add_ioapic(struct image *image, const struct plan *plan)
{
	struct ioapic_entry ioapic = {ENTRY_IOAPIC, plan->ioapic_id, IOAPIC_VERSION, IOAPIC_ENABLED,
				      plan->config.ioapic_gpa};

	add(image, &ioapic, sizeof(ioapic));
	for (uint32_t irq = 0; irq < IMPOST_X86_ISA_IRQS; irq++) {
		const struct line *line = &plan->lines[irq];
		struct irq_entry entry = {
			ENTRY_IRQ,    IRQ_INT,	       line->flags,	   ISA_BUS,
			(uint8_t)irq, plan->ioapic_id, (uint8_t)line->pin,
		};

		if (!line->absent)
			add(image, &entry, sizeof(entry));
	}
}

/* Virtual wire mode (3.6.2.2), as impost_x86_setup_lapic() sets the boot CPU's APIC up. */
static void add_local_irqs(struct image *image, uint8_t boot_apic_id)
{
	struct irq_entry extint = {ENTRY_LOCAL_IRQ, IRQ_EXTINT, 0, ISA_BUS, 0, boot_apic_id, 0};
	struct irq_entry nmi = {ENTRY_LOCAL_IRQ, IRQ_NMI, 0, ISA_BUS, 0, ALL_LAPICS, 1};

	add(image, &extint, sizeof(extint));
	add(image, &nmi, sizeof(nmi));
}

/* Entries are in order of type (4.3). */
static void image_make(struct image *image, const struct plan *plan, uint64_t gpa)
{
	struct bus_entry bus = {ENTRY_BUS, ISA_BUS, {'I', 'S', 'A', ' ', ' ', ' '}};

	*image = (struct image){
		.floating = {.signature = {'_', 'M', 'P', '_'},
			     .table = (uint32_t)(gpa + sizeof(image->floating)),
			     .length = sizeof(image->floating) / 16,
			     .revision = SPEC_REVISION},
		.header = {.signature = {'P', 'C', 'M', 'P'},
			   .bytes = sizeof(image->header),
			   .revision = SPEC_REVISION,
			   .lapic_gpa = plan->config.lapic_gpa},
	};
	pad(image->header.oem, sizeof(image->header.oem), plan->config.oem);
	pad(image->header.product, sizeof(image->header.product), plan->config.product);
	add_cpus(image, &plan->config);
	add(image, &bus, sizeof(bus));
	if (plan->config.has_ioapic)
		add_ioapic(image, plan);
	add_local_irqs(image, (uint8_t)plan->config.apic_ids[0]);
	image->header.checksum = structure_checksum(&image->header, image->header.bytes);
	image->floating.checksum = structure_checksum(&image->floating, sizeof(image->floating));
}

int impost_x86_mptable_build(struct impost_context *ctx,
			     const struct impost_x86_mptable_config *config, uint64_t gpa,
			     void *buf, size_t capacity, size_t *ret_bytes)
{
	struct image image;
	struct plan plan;
	size_t bytes;
	int err;

	err = plan_make(ctx, config, &plan);
	if (err)
		return err;
	image_make(&image, &plan, gpa);
	bytes = sizeof(image.floating) + image.header.bytes;
	if (gpa % 16 || gpa > UINT32_MAX || gpa + bytes - 1 > UINT32_MAX)
		return impost_error_set(ctx, -EINVAL,
					"MP table: %zu bytes at 0x%" PRIx64
					": it lies at a multiple of 16, below 4 GiB",
					bytes, gpa);
	err = structure_check_room(ctx, "MP table", bytes, buf, capacity);
	if (err)
		return err;
	if (buf)
		memcpy(buf, &image, bytes);
	*ret_bytes = bytes;
	return 0;
}
