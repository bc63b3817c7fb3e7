// SPDX-License-Identifier: Apache-2.0
/*
 * The 16550A: registers, FIFO and interrupt causes. Section numbers are the PC16550D data sheet's.
 */
#include "serial.h"

#include <stdbool.h>
#include <string.h>

#include "serial_bits.h"

#define LSR_DR	   0x01u
#define LSR_OE	   0x02u
#define LSR_THRE   0x20u
#define LSR_TEMT   0x40u

#define MSR_DELTAS 0x0bu /* DCTS, DDSR, DDCD */
#define MSR_TERI   0x04u
#define MSR_CTS	   0x10u
#define MSR_DSR	   0x20u
#define MSR_RI	   0x40u
#define MSR_DCD	   0x80u

/* IIR: table IV of the data sheet, highest priority first. */
#define IIR_LINE    0x06u
#define IIR_RX	    0x04u
#define IIR_TIMEOUT 0x0cu
#define IIR_TX	    0x02u
#define IIR_MODEM   0x00u
#define IIR_NONE    0x01u
#define IIR_FIFOS   0xc0u

static unsigned int fifo_depth(const struct serial_state *s)
{
	return s->fcr & FCR_ENABLE ? SERIAL_FIFO_SIZE : 1;
}

static unsigned int trigger_level(const struct serial_state *s)
{
	static const uint8_t levels[4] = {1, 4, 8, 14}; /* 8.4, FCR bits 7:6 */

	return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The modem's lines: a peer that is always ready, or in loopback our own outputs (8.6, bit 4). */
static uint8_t modem_lines(const struct serial_state *s)
{
	uint8_t lines = 0;

	if (!(s->mcr & MCR_LOOP))
		return MSR_DCD | MSR_DSR | MSR_CTS;
	if (s->mcr & MCR_RTS)
		lines |= MSR_CTS;
	if (s->mcr & MCR_DTR)
		lines |= MSR_DSR;
	if (s->mcr & MCR_OUT1)
		lines |= MSR_RI;
	if (s->mcr & MCR_OUT2)
		lines |= MSR_DCD;
	return lines;
}

/* The cause that IIR shows. Bytes below the trigger level count as timed out at once: no line is
 * that slow. */
static uint8_t interrupt_cause(const struct serial_state *s)
{
	if ((s->ier & IER_LINE) && s->overrun)
		return IIR_LINE;
	if ((s->ier & IER_RX) && s->rx_count)
		return s->rx_count >= trigger_level(s) ? IIR_RX : IIR_TIMEOUT;
	if ((s->ier & IER_TX) && s->transmit_irq)
		return IIR_TX;
	if ((s->ier & IER_MODEM) && s->modem_deltas)
		return IIR_MODEM;
	return IIR_NONE;
}

/* A PC gates the interrupt with OUT2, whose pin is inactive in loopback. */
static uint8_t line_level(const struct serial_state *s)
{
	bool gate = (s->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	return gate && interrupt_cause(s) != IIR_NONE;
}

static void update_line(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	uint8_t level = line_level(s);

	if (level == s->line)
		return;
	s->line = level;
	if (serial->wiring.interrupt)
		serial->wiring.interrupt(serial->wiring.opaque, level);
}

void serial_drive(struct serial *serial)
{
	struct serial_state *s = &serial->state;

	pthread_mutex_lock(&serial->lock);
	s->line = line_level(s);
	if (serial->wiring.interrupt)
		serial->wiring.interrupt(serial->wiring.opaque, s->line);
	serial->wiring.room(serial->wiring.opaque);
	pthread_mutex_unlock(&serial->lock);
}

static bool push_rx(struct serial_state *s, uint8_t byte)
{
	if (s->rx_count >= fifo_depth(s))
		return false;
	s->rx[(s->rx_first + s->rx_count) % SERIAL_FIFO_SIZE] = byte;
	s->rx_count++;
	return true;
}

static uint8_t pop_rx(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	bool was_full = s->rx_count >= fifo_depth(s);
	uint8_t byte;

	if (!s->rx_count)
		return 0;
	byte = s->rx[s->rx_first];
	s->rx_first = (uint8_t)((s->rx_first + 1u) % SERIAL_FIFO_SIZE);
	s->rx_count--;
	if (was_full)
		serial->wiring.room(serial->wiring.opaque);
	return byte;
}

static void clear_rx(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	bool was_full = s->rx_count >= fifo_depth(s);

	s->rx_count = 0;
	s->rx_first = 0;
	if (was_full)
		serial->wiring.room(serial->wiring.opaque);
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	struct serial_state *s = &serial->state;

	/*
	 * Switching the FIFOs on or off empties them (8.4, bit 0); the other bits need bit 0 set.
	 */
	if ((value ^ s->fcr) & FCR_ENABLE || (value & FCR_ENABLE && value & FCR_RESET_RX))
		clear_rx(serial);
	s->fcr = value & FCR_ENABLE ? value & (FCR_ENABLE | FCR_TRIGGER) : 0;
}

static void write_ier(struct serial_state *s, uint8_t value)
{
	/* Enabling the transmit interrupt while the transmitter is empty raises it (8.5). */
	if (value & ~s->ier & IER_TX)
		s->transmit_irq = 1;
	s->ier = value & IER_MASK;
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	struct serial_state *s = &serial->state;
	uint8_t before = modem_lines(s), after;
	bool was_loop = s->mcr & MCR_LOOP;

	s->mcr = value & MCR_MASK;
	after = modem_lines(s);
	s->modem_deltas |= (uint8_t)((before ^ after) >> 4 & MSR_DELTAS);
	if (before & ~after & MSR_RI) /* TERI tells of the trailing edge only (8.8) */
		s->modem_deltas |= MSR_TERI;
	if (was_loop && !(s->mcr & MCR_LOOP))
		serial->wiring.room(serial->wiring.opaque);
}

/*
 * Returns whether the byte leaves the port. It is gone at once, so the transmitter is empty again.
 */
static bool write_thr(struct serial_state *s, uint8_t value)
{
	s->transmit_irq = 1;
	if (!(s->mcr & MCR_LOOP))
		return true;
	if (!push_rx(s, value))
		s->overrun = 1;
	return false;
}

static uint8_t read_iir(struct serial_state *s)
{
	uint8_t cause = interrupt_cause(s);

	if (cause == IIR_TX) /* reading it as the source is what clears it (table IV) */
		s->transmit_irq = 0;
	return (uint8_t)(cause | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0));
}

static uint8_t read_lsr(struct serial_state *s)
{
	uint8_t lsr = LSR_THRE | LSR_TEMT;

	if (s->rx_count)
		lsr |= LSR_DR;
	if (s->overrun)
		lsr |= LSR_OE;
	s->overrun = 0;
	return lsr;
}

static uint8_t read_msr(struct serial_state *s)
{
	uint8_t msr = (uint8_t)(modem_lines(s) | s->modem_deltas);

	s->modem_deltas = 0;
	return msr;
}

static uint8_t read_register(struct serial *serial, enum serial_register reg)
{
	struct serial_state *s = &serial->state;
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case SERIAL_DATA:
		return dlab ? s->divisor_low : pop_rx(serial);
	case SERIAL_IER:
		return dlab ? s->divisor_high : s->ier;
	case SERIAL_IIR:
		return read_iir(s);
	case SERIAL_LCR:
		return s->lcr;
	case SERIAL_MCR:
		return s->mcr;
	case SERIAL_LSR:
		return read_lsr(s);
	case SERIAL_MSR:
		return read_msr(s);
	case SERIAL_SCR:
		return s->scr;
	case SERIAL_REGISTERS:
		break;
	}
	return 0xff;
}

/* Returns whether VALUE is to be transmitted. */
static bool write_register(struct serial *serial, enum serial_register reg, uint8_t value)
{
	struct serial_state *s = &serial->state;
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case SERIAL_DATA:
		if (!dlab)
			return write_thr(s, value);
		s->divisor_low = value;
		break;
	case SERIAL_IER:
		if (dlab)
			s->divisor_high = value;
		else
			write_ier(s, value);
		break;
	case SERIAL_IIR:
		write_fcr(serial, value);
		break;
	case SERIAL_LCR:
		s->lcr = value;
		break;
	case SERIAL_MCR:
		write_mcr(serial, value);
		break;
	case SERIAL_SCR:
		s->scr = value;
		break;
	case SERIAL_LSR: /* for factory test only, and read-only for everybody else (8.2) */
	case SERIAL_MSR:
	case SERIAL_REGISTERS:
		break;
	}
	return false;
}

void serial_init(struct serial *serial, const struct serial_wiring *wiring)
{
	memset(serial, 0, sizeof(*serial));
	pthread_mutex_init(&serial->lock, NULL);
	serial->wiring = *wiring;
	serial->state.transmit_irq = 1;
}

void serial_destroy(struct serial *serial)
{
	pthread_mutex_destroy(&serial->lock);
}

uint8_t serial_read(struct serial *serial, enum serial_register reg)
{
	uint8_t value;

	pthread_mutex_lock(&serial->lock);
	value = read_register(serial, reg);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

void serial_write(struct serial *serial, enum serial_register reg, uint8_t value)
{
	bool transmit;

	pthread_mutex_lock(&serial->lock);
	transmit = write_register(serial, reg, value);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	if (transmit)
		serial->wiring.transmit(serial->wiring.opaque, value);
}

size_t serial_receive(struct serial *serial, const uint8_t *bytes, size_t count)
{
	struct serial_state *s = &serial->state;
	size_t taken = 0;

	pthread_mutex_lock(&serial->lock);
	/* In loopback the receiver hears the transmitter alone (8.6, bit 4). */
	while (!(s->mcr & MCR_LOOP) && taken < count && push_rx(s, bytes[taken]))
		taken++;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}
