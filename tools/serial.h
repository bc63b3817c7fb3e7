/* SPDX-License-Identifier: Apache-2.0 */
/* A 16550A serial port, as National Semiconductor's PC16550D data sheet describes it. */
#ifndef TOOLS_SERIAL_H
#define TOOLS_SERIAL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/record.h>

/* Registers, by offset from the base port. */
enum serial_register {
	SERIAL_DATA = 0, /* RBR, THR; with DLAB the divisor's low byte */
	SERIAL_IER = 1,	 /* with DLAB the divisor's high byte */
	SERIAL_IIR = 2,	 /* write: FCR */
	SERIAL_LCR = 3,
	SERIAL_MCR = 4,
	SERIAL_LSR = 5,
	SERIAL_MSR = 6,
	SERIAL_SCR = 7,
	SERIAL_REGISTERS = 8
};

#define SERIAL_FIFO_SIZE 16u

/* All that the guest can tell of the device: plain data, of which serial_record() saves all but
 * what follows from the rest. */
struct serial_state {
	uint8_t ier;
	uint8_t fcr; /* FIFO enable and trigger level; the reset bits clear themselves */
	uint8_t lcr;
	uint8_t mcr;
	uint8_t scr;
	uint8_t divisor_low;
	uint8_t divisor_high;
	uint8_t overrun;      /* LSR bit 1, until LSR is read */
	uint8_t modem_deltas; /* MSR bits 3:0, until MSR is read */
	uint8_t transmit_irq; /* the transmitter became empty, until IIR is read */
	uint8_t line;	      /* level of the interrupt line */
	uint8_t rx_count;
	uint8_t rx_first; /* index of the oldest byte in rx */
	uint8_t rx[SERIAL_FIFO_SIZE];
};

/*
 * What the port is wired to. transmit is called without the lock, so it may wait; interrupt (may be
 * NULL: the guest must poll) and room are called with it, and must not.
 */
struct serial_wiring {
	void (*transmit)(void *opaque, uint8_t byte);
	void (*interrupt)(void *opaque, unsigned int level);
	void (*room)(void *opaque); /* the receiver, full before, takes bytes again */
	void *opaque;
};

struct serial {
	pthread_mutex_t lock; /* held around every use of state */
	struct serial_state state;
	struct serial_wiring wiring;
};

/* Puts the port into the state after a hardware reset. */
void serial_init(struct serial *serial, const struct serial_wiring *wiring);
void serial_destroy(struct serial *serial);

/* The guest reads or writes a register. Any thread. */
uint8_t serial_read(struct serial *serial, enum serial_register reg);
void serial_write(struct serial *serial, enum serial_register reg, uint8_t value);

/* Bytes arrive on the line. Takes as many as fit, and returns how many. Any thread. */
size_t serial_receive(struct serial *serial, const uint8_t *bytes, size_t count);

/* Drives the interrupt line as the state has it, whether it was so before or not. */
void serial_drive(struct serial *serial);

/* The record of a struct serial: all that the guest can tell of it. In serial_state.c. */
const struct impost_record *serial_record(void);

#endif
