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
	bool (*write)(struct serial *serial, uint16_t offset, uint8_t value);
};

static uint8_t com1_read(struct serial *serial, uint16_t offset)
{
	return serial_read(serial, (enum serial_register)offset);
}

static bool com1_write(struct serial *serial, uint16_t offset, uint8_t value)
{
	serial_write(serial, (enum serial_register)offset, value);
	return false;
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
static bool keyboard_command(struct serial *serial, uint16_t offset, uint8_t value)
{
	(void)serial;
	(void)offset;
	return (value & 0xf1u) == 0xf0u;
}

/* The reset control register: bit 2 resets the CPU (Intel ICH9 data sheet, 13.7.5). */
static uint8_t reset_read(struct serial *serial, uint16_t offset)
{
	(void)serial;
	(void)offset;
	return 0;
}

static bool reset_write(struct serial *serial, uint16_t offset, uint8_t value)
{
	(void)serial;
	(void)offset;
	return value & 4u;
}

/*
 * The real-time clock's data: there is none. Ones would say "update in progress" for ever (bit 7 of
 * register A, Motorola MC146818A data sheet), which Linux waits for a second each of a dozen times.
 */
static uint8_t no_clock_read(struct serial *serial, uint16_t offset)
{
	(void)serial;
	(void)offset;
	return 0;
}

static bool no_clock_write(struct serial *serial, uint16_t offset, uint8_t value)
{
	(void)serial;
	(void)offset;
	(void)value;
	return false;
}

static const struct port_device devices[] = {
	{0x3f8, 0x3ff, 0, com1_read, com1_write},
	{0x064, 0x064, 0, keyboard_status, keyboard_command},
	{0x071, 0x071, 0, no_clock_read, no_clock_write},
	/* A 32-bit access to 0xcf8 is PCI configuration and not for this register. */
	{0xcf9, 0xcf9, 1, reset_read, reset_write},
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
static bool access_byte(struct serial *serial, const struct impost_exit_io *io, unsigned int port,
			uint8_t *byte)
{
	const struct port_device *device = find(port, io->size);
	uint16_t offset;

	if (!device) {
		if (io->dir == IMPOST_EXIT_READ)
			*byte = 0xff;
		return false;
	}
	offset = (uint16_t)(port - device->first);
	if (io->dir == IMPOST_EXIT_WRITE)
		return device->write(serial, offset, *byte);
	*byte = device->read(serial, offset);
	return false;
}

bool ports_access(struct serial *serial, const struct impost_exit_io *io)
{
	uint8_t *byte = io->data;
	bool reset = false;

	for (uint32_t i = 0; i < io->count; i++)
		for (unsigned int j = 0; j < io->size; j++)
			reset |= access_byte(serial, io, (io->port + j) & 0xffffu, byte++);
	return reset;
}
