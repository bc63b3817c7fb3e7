// SPDX-License-Identifier: Apache-2.0
/*
 * Which device answers at which I/O port. Where there is none, reads give ones and writes are lost.
 */
#include "ports.h"

#include <stdint.h>
#include <string.h>

struct port_device {
	uint16_t first;
	uint16_t last;
	uint8_t max_size; /* wider accesses go elsewhere: 0 for any */
	uint8_t (*read)(struct serial *serial, uint16_t offset);
	enum ports_event (*write)(struct serial *serial, uint16_t offset, uint8_t value);
};

static uint8_t com1_read(struct serial *serial, uint16_t offset)
{
	return serial_read(serial, (enum serial_register)offset);
}

static enum ports_event com1_write(struct serial *serial, uint16_t offset, uint8_t value)
{
	serial_write(serial, (enum serial_register)offset, value);
	return PORTS_NOTHING;
}

/*
 * The keyboard controller's status: ones, which a driver takes for a controller that never stops
 * sending and gives up on, but bit 1, "input buffer full", which Linux waits for to clear before it
 * asks for a reset: for seconds where exits are slow.
 */
static uint8_t keyboard_status(struct serial *serial, uint16_t offset)
{
	(void)serial;
	(void)offset;
	return 0xfd;
}

/* Commands 0xf0 to 0xff pulse the output lines whose bits are 0; line 0 is the reset line (IBM PC
 * AT Technical Reference, keyboard controller commands). */
static enum ports_event keyboard_command(struct serial *serial, uint16_t offset, uint8_t value)
{
	(void)serial;
	(void)offset;
	return (value & 0xf1u) == 0xf0u ? PORTS_RESET : PORTS_NOTHING;
}

/* The reset control register: bit 2 resets the CPU (Intel ICH9 data sheet, 13.7.5). */
static uint8_t read_zero(struct serial *serial, uint16_t offset)
{
	(void)serial;
	(void)offset;
	return 0;
}

static enum ports_event reset_write(struct serial *serial, uint16_t offset, uint8_t value)
{
	(void)serial;
	(void)offset;
	return value & 4u ? PORTS_RESET : PORTS_NOTHING;
}

/*
 * The sleep control register: with SLP_EN, bit 5, the machine enters the state whose type is in
 * bits 4:2 (ACPI 6.5, 4.8.3.7). There is one, S5.
 */
static enum ports_event sleep_write(struct serial *serial, uint16_t offset, uint8_t value)
{
	(void)serial;
	if (offset == 0 && value & 0x20u && (value >> 2 & 7u) == PORTS_SLEEP_TYPE_S5)
		return PORTS_POWER_OFF;
	return PORTS_NOTHING;
}

static enum ports_event write_nothing(struct serial *serial, uint16_t offset, uint8_t value)
{
	(void)serial;
	(void)offset;
	(void)value;
	return PORTS_NOTHING;
}

static const struct port_device devices[] = {
	{0x3f8, 0x3ff, 0, com1_read, com1_write},
	{0x064, 0x064, 0, keyboard_status, keyboard_command},
	/*
	 * The real-time clock's data: there is none. Ones would say "update in progress" for ever
	 * (bit 7 of register A, Motorola MC146818A data sheet), which Linux waits for a second each
	 * of a dozen times.
	 */
	{0x071, 0x071, 0, read_zero, write_nothing},
	{PORTS_SLEEP_CONTROL, PORTS_SLEEP_STATUS, 1, read_zero, sleep_write},
	/* A 32-bit access to 0xcf8 is PCI configuration and not for this register. */
	{PORTS_RESET_CONTROL, PORTS_RESET_CONTROL, 1, read_zero, reset_write},
};
#define DEVICES (sizeof(devices) / sizeof(devices[0]))

static const struct port_device *find(unsigned int port, unsigned int size)
{
	for (size_t i = 0; i < DEVICES; i++)
		if (port >= devices[i].first && port <= devices[i].last &&
		    (!devices[i].max_size || size <= devices[i].max_size))
			return &devices[i];
	return NULL;
}

int ports_claim(struct impost_vm *vm)
{
	for (size_t i = 0; i < DEVICES; i++) {
		int err =
			impost_vm_io_claim(vm, IMPOST_SPACE_PIO, devices[i].first, devices[i].last);

		if (err < 0)
			return err;
	}
	return 0;
}

/* One byte of an access: wide ones reach 8-bit devices as one for each byte, as on the ISA bus. */
static enum ports_event access_byte(struct serial *serial, const struct impost_exit_io *io,
				    unsigned int port, uint8_t *byte)
{
	const struct port_device *device = find(port, io->size);
	uint16_t offset;

	if (!device) {
		if (io->dir == IMPOST_EXIT_READ)
			*byte = 0xff;
		return PORTS_NOTHING;
	}
	offset = (uint16_t)(port - device->first);
	if (io->dir == IMPOST_EXIT_WRITE)
		return device->write(serial, offset, *byte);
	*byte = device->read(serial, offset);
	return PORTS_NOTHING;
}

enum ports_event ports_access(struct serial *serial, const struct impost_exit_io *io)
{
	enum ports_event event = PORTS_NOTHING, now;
	uint8_t *byte = io->data;

	for (uint32_t i = 0; i < io->count; i++)
		for (unsigned int j = 0; j < io->size; j++) {
			now = access_byte(serial, io, (io->port + j) & 0xffffu, byte++);
			event = event == PORTS_NOTHING ? now : event;
		}
	return event;
}
