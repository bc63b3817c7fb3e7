/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI: the FADT (5.2.9), with the checks of its registers, and the FACS (5.2.10). */
#include "acpi_tables.h"

#include <inttypes.h>
#include <string.h>

/* Generic address structure (5.2.3.2). */
struct gas {
	uint8_t space;
	uint8_t bits;
	uint8_t offset;
	uint8_t access;
	uint64_t address;
} __attribute__((packed));

/* The FADT after its header. */
struct fadt {
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t pm_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
	uint32_t gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_blk_len, gpe1_blk_len;
	uint8_t gpe1_base;
	uint8_t cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat;
	uint16_t flush_size, flush_stride;
	uint8_t duty_offset, duty_width;
	uint8_t day_alrm, mon_alrm, century;
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr;
	struct gas x_gpe0, x_gpe1;
	struct gas sleep_control, sleep_status;
	char hypervisor[8];
} __attribute__((packed));
static_assert(sizeof(struct fadt) == 276 - ACPI_HEADER_BYTES, "table 5.9");

#define FADT_MAJOR 6u
#define FADT_MINOR 5u

/* Flags (table 5.10). */
#define WBINVD	      (UINT32_C(1) << 0)
#define PROC_C1	      (UINT32_C(1) << 2)
#define PWR_BUTTON    (UINT32_C(1) << 4) /* 1: none in the PM1 registers; so are the next two */
#define SLP_BUTTON    (UINT32_C(1) << 5)
#define FIX_RTC	      (UINT32_C(1) << 6)
#define TMR_VAL_EXT   (UINT32_C(1) << 8)
#define RESET_REG_SUP (UINT32_C(1) << 10)
#define HEADLESS      (UINT32_C(1) << 12)
#define APIC_CLUSTER  (UINT32_C(1) << 18)
#define APIC_PHYSICAL (UINT32_C(1) << 19)
#define HW_REDUCED    (UINT32_C(1) << 20)

/* Latencies above which C2 and C3 count as not there (table 5.9). */
#define NO_C2 101u
#define NO_C3 1001u

/* Options of a PC's PM1 registers, which hardware-reduced ACPI has not. */
#define PM1_OPTIONS                                                                               \
	(IMPOST_X86_ACPI_POWER_BUTTON | IMPOST_X86_ACPI_SLEEP_BUTTON | IMPOST_X86_ACPI_RTC_WAKE | \
	 IMPOST_X86_ACPI_PM_TIMER_32)
#define OPTIONS                                                                  \
	(PM1_OPTIONS | IMPOST_X86_ACPI_HEADLESS | IMPOST_X86_ACPI_APIC_CLUSTER | \
	 IMPOST_X86_ACPI_APIC_PHYSICAL | IMPOST_X86_ACPI_DUAL_8259)
#define BOOT_ARCH 0x3fu

/* --- registers --- */

/* Which modes a register is for. */
#define REDUCED 1u
#define FULL	2u

/* The registers of a configuration and where the FADT has them. */
static const struct reg {
	const char *name;
	uint16_t config; /* offset */
	uint16_t gas;	 /* offset in the FADT of the generic address */
	uint16_t legacy; /* of the port; 0: none */
	uint16_t length; /* of the length; 0: none */
	uint8_t bits;	 /* the width it must have; 0: a multiple of 16, half status, half enable */
	uint8_t modes;
	uint8_t needed; /* in FULL mode */
} registers[] = {
#define REG(name, config_, gas_, legacy_, length_, bits_, modes_, needed_)           \
	{                                                                            \
		name, offsetof(struct impost_x86_acpi_config, config_),              \
			offsetof(struct fadt, gas_), offsetof(struct fadt, legacy_), \
			offsetof(struct fadt, length_), bits_, modes_, needed_       \
	}
	REG("pm1a_event", pm1a_event, x_pm1a_evt, pm1a_evt_blk, pm1_evt_len, 32, FULL, 1),
	REG("pm1b_event", pm1b_event, x_pm1b_evt, pm1b_evt_blk, pm1_evt_len, 32, FULL, 0),
	REG("pm1a_control", pm1a_control, x_pm1a_cnt, pm1a_cnt_blk, pm1_cnt_len, 16, FULL, 1),
	REG("pm1b_control", pm1b_control, x_pm1b_cnt, pm1b_cnt_blk, pm1_cnt_len, 16, FULL, 0),
	REG("pm2_control", pm2_control, x_pm2_cnt, pm2_cnt_blk, pm2_cnt_len, 8, FULL, 0),
	REG("pm_timer", pm_timer, x_pm_tmr, pm_tmr_blk, pm_tmr_len, 32, FULL, 0),
	REG("gpe0", gpe0, x_gpe0, gpe0_blk, gpe0_blk_len, 0, FULL, 0),
	REG("gpe1", gpe1, x_gpe1, gpe1_blk, gpe1_blk_len, 0, FULL, 0),
	/* firmware_ctrl is at 0: these have no port and no length of their own. */
	REG("sleep_control", sleep_control, sleep_control, firmware_ctrl, firmware_ctrl, 8, REDUCED,
	    0),
	REG("sleep_status", sleep_status, sleep_status, firmware_ctrl, firmware_ctrl, 8, REDUCED,
	    0),
	REG("reset", reset, reset_reg, firmware_ctrl, firmware_ctrl, 8, REDUCED | FULL, 0),
#undef REG
};
#define REGISTERS (sizeof(registers) / sizeof(registers[0]))

static const struct impost_x86_acpi_gas *register_of(const struct acpi *acpi, const struct reg *reg)
{
	return (const void *)((const char *)&acpi->config + reg->config);
}

/* What is wrong with a register that is given; NULL: nothing. */
static const char *gas_wrong(const struct impost_x86_acpi_gas *gas, const struct reg *reg)
{
	uint64_t limit = gas->space == IMPOST_X86_ACPI_IO ? 0xffff : UINT64_MAX;

	if (gas->space > IMPOST_X86_ACPI_IO)
		return "its space is neither memory nor I/O";
	if (gas->offset || gas->reserved)
		return "its offset and reserved are 0";
	if (gas->access > 4)
		return "its access is 0 to 4";
	if (reg->bits ? gas->bits != reg->bits : gas->bits % 16)
		return "it has not the bits that it must have";
	if (!gas->address || gas->address > limit || gas->bits / 8u - 1u > limit - gas->address)
		return "its address is 0 or beyond the space";
	return NULL;
}

static int check_register(const struct acpi *acpi, const struct reg *reg)
{
	static const struct impost_x86_acpi_gas none;
	const struct impost_x86_acpi_gas *gas = register_of(acpi, reg);
	uint32_t mode = acpi->config.hw_reduced ? REDUCED : FULL;
	const char *wrong = NULL;

	if (gas->bits)
		wrong = !(reg->modes & mode) ? mode == REDUCED
						       ? "hardware-reduced ACPI has none"
						       : "only hardware-reduced ACPI has one"
					     : gas_wrong(gas, reg);
	else if (memcmp(gas, &none, sizeof(none)) != 0)
		wrong = "its bits are 0";
	else if (reg->needed && mode == FULL)
		wrong = "it must be there, or hw_reduced be set";
	if (wrong)
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: register %s (space %u, %u bits, 0x%" PRIx64 "): %s",
					reg->name, gas->space, gas->bits, gas->address, wrong);
	return 0;
}

/* No two of the PM1 and GPE blocks may share a port or an address. */
static int check_blocks(const struct acpi *acpi)
{
	struct acpi_span spans[REGISTERS];
	const struct acpi_span *bad;

	for (uint8_t space = IMPOST_X86_ACPI_MEMORY; space <= IMPOST_X86_ACPI_IO; space++) {
		size_t count = 0;

		for (uint32_t i = 0; i < REGISTERS; i++) {
			const struct impost_x86_acpi_gas *gas = register_of(acpi, &registers[i]);

			if (registers[i].modes == FULL && gas->bits && gas->space == space)
				spans[count++] = (struct acpi_span){
					gas->address, gas->address + gas->bits / 8u - 1, i, 0};
		}
		bad = acpi_find_overlap(spans, count);
		if (bad)
			return impost_error_set(acpi->ctx, -EINVAL,
						"ACPI: registers %s (0x%" PRIx64 " to 0x%" PRIx64
						") and %s (0x%" PRIx64 " to 0x%" PRIx64 ") overlap",
						registers[bad[0].owner].name, bad[0].start,
						bad[0].last, registers[bad[1].owner].name,
						bad[1].start, bad[1].last);
	}
	return 0;
}

/* What is wrong among the FADT's other fields; NULL: nothing. */
static const char *fields_wrong(const struct impost_x86_acpi_config *config)
{
	const uint32_t models = IMPOST_X86_ACPI_APIC_CLUSTER | IMPOST_X86_ACPI_APIC_PHYSICAL;

	if (config->options & ~OPTIONS || config->boot_arch & ~BOOT_ARCH)
		return "options or boot_arch have bits without a meaning";
	if ((config->options & models) == models)
		return "APIC_CLUSTER and APIC_PHYSICAL exclude each other";
	if (config->options & IMPOST_X86_ACPI_PM_TIMER_32 && !config->pm_timer.bits)
		return "PM_TIMER_32 without pm_timer";
	if (config->hw_reduced && config->options & PM1_OPTIONS)
		return "hw_reduced has no POWER_BUTTON, SLEEP_BUTTON, RTC_WAKE, PM_TIMER_32";
	if (config->hw_reduced &&
	    (config->sci || config->smi_command || config->acpi_enable || config->acpi_disable))
		return "hw_reduced has no sci, smi_command, acpi_enable, acpi_disable";
	if (!config->smi_command != !config->acpi_enable ||
	    (config->acpi_disable && !config->smi_command))
		return "smi_command goes with acpi_enable, and acpi_disable with both";
	if (config->smi_command > UINT16_MAX || config->sci > UINT16_MAX)
		return "smi_command and sci have 16 bits";
	if (config->pm_profile > 8)
		return "pm_profile is 0 to 8";
	if (config->s5_type > 7)
		return "s5_type is 0 to 7";
	if (!config->sleep_control.bits != !config->sleep_status.bits)
		return "sleep_control and sleep_status go together";
	if (config->reset_value && !config->reset.bits)
		return "reset_value without reset";
	if (config->gpe1_base && !config->gpe1.bits)
		return "gpe1_base without gpe1";
	/* Half of the bits are status, a bit for each event. */
	if (config->gpe1.bits && config->gpe0.bits && config->gpe1_base < config->gpe0.bits / 2)
		return "gpe1_base is an event of gpe0";
	return NULL;
}

int acpi_check_fadt(const struct acpi *acpi)
{
	const char *wrong;
	int err = 0;

	for (size_t i = 0; i < REGISTERS && err == 0; i++)
		err = check_register(acpi, &registers[i]);
	if (err == 0)
		err = check_blocks(acpi);
	if (err < 0)
		return err;
	wrong = fields_wrong(&acpi->config);
	if (wrong)
		return impost_error_set(acpi->ctx, -EINVAL, "ACPI: FADT: %s", wrong);
	return 0;
}

/* --- the tables --- */

/* Fills a register in: its generic address, and the port that older systems read. */
static void fill_register(struct fadt *fadt, const struct impost_x86_acpi_gas *from,
			  const struct reg *reg)
{
	const struct gas gas = {from->space, from->bits, from->offset, from->access, from->address};
	uint32_t port = from->space == IMPOST_X86_ACPI_IO ? (uint32_t)from->address : 0;
	uint8_t *to = (uint8_t *)fadt;

	if (!from->bits)
		return;
	memcpy(to + reg->gas, &gas, sizeof(gas));
	if (!reg->legacy)
		return;
	memcpy(to + reg->legacy, &port, sizeof(port));
	to[reg->length] = from->bits / 8;
}

static uint32_t flags_of(const struct impost_x86_acpi_config *config)
{
	static const struct {
		uint32_t option, set, otherwise;
	} map[] = {
		{IMPOST_X86_ACPI_POWER_BUTTON, 0, PWR_BUTTON},
		{IMPOST_X86_ACPI_SLEEP_BUTTON, 0, SLP_BUTTON},
		{IMPOST_X86_ACPI_RTC_WAKE, 0, FIX_RTC},
		{IMPOST_X86_ACPI_PM_TIMER_32, TMR_VAL_EXT, 0},
		{IMPOST_X86_ACPI_HEADLESS, HEADLESS, 0},
		{IMPOST_X86_ACPI_APIC_CLUSTER, APIC_CLUSTER, 0},
		{IMPOST_X86_ACPI_APIC_PHYSICAL, APIC_PHYSICAL, 0},
	};
	uint32_t flags = WBINVD | PROC_C1;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		flags |= config->options & map[i].option ? map[i].set : map[i].otherwise;
	if (config->reset.bits)
		flags |= RESET_REG_SUP;
	if (config->hw_reduced)
		flags |= HW_REDUCED;
	return flags;
}

/* Where DSDT and FACS are. Of the FACS there is one address only: who finds two takes them for two
 * tables; both of the DSDT's must be equal. */
static void fill_pointers(struct fadt *fadt, const struct impost_x86_acpi_result *result)
{
	fadt->x_dsdt = result->dsdt_gpa;
	if (result->dsdt_gpa <= UINT32_MAX)
		fadt->dsdt = (uint32_t)result->dsdt_gpa;
	if (result->facs_gpa <= UINT32_MAX)
		fadt->firmware_ctrl = (uint32_t)result->facs_gpa;
	else
		fadt->x_firmware_ctrl = result->facs_gpa;
}

void acpi_put_fadt(struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	struct fadt fadt = {
		.pm_profile = config->pm_profile,
		.smi_cmd = config->smi_command,
		.acpi_enable = config->acpi_enable,
		.acpi_disable = config->acpi_disable,
		.gpe1_base = config->gpe1_base,
		.p_lvl2_lat = NO_C2,
		.p_lvl3_lat = NO_C3,
		.boot_arch = config->boot_arch,
		.flags = flags_of(config),
		.reset_value = config->reset_value,
		.minor = FADT_MINOR,
	};

	if (!config->hw_reduced)
		fadt.sci_int = (uint16_t)(acpi_sci(config));
	memcpy(fadt.hypervisor, config->hypervisor, sizeof(fadt.hypervisor));
	fill_pointers(&fadt, &acpi->result);
	for (size_t i = 0; i < REGISTERS; i++)
		fill_register(&fadt, register_of(acpi, &registers[i]), &registers[i]);
	acpi_begin(acpi, "FACP", FADT_MAJOR);
	acpi_put(acpi, &fadt, sizeof(fadt));
}

void acpi_put_facs(struct acpi *acpi)
{
	/* 5.2.10: no checksum, and no header as the others have it. */
	static const struct {
		char signature[4];
		uint32_t length;
		uint32_t hardware_signature, waking_vector, global_lock, flags;
		uint64_t x_waking_vector;
		uint8_t version;
		uint8_t reserved[31];
	} facs = {.signature = {'F', 'A', 'C', 'S'}, .length = 64, .version = 2};
	static_assert(sizeof(facs) == 64, "5.2.10");

	acpi->result.facs_gpa = acpi_align(acpi, 64);
	acpi_put(acpi, &facs, sizeof(facs));
}
