// SPDX-License-Identifier: Apache-2.0
/* The serial port's record: what of it is saved, and what of a saved one can be. */
#include "serial.h"

#include <stdio.h>
#include <string.h>

#include "serial_bits.h"

/* What is saved. The FIFO's bytes are in order of arrival, wherever in the ring they were; the
 * interrupt line's level follows from the rest. */
struct serial_saved {
	uint8_t ier;
	uint8_t fcr;
	uint8_t lcr;
	uint8_t mcr;
	uint8_t scr;
	uint8_t divisor_low;
	uint8_t divisor_high;
	uint8_t overrun;
	uint8_t modem_deltas;
	uint8_t transmit_irq;
	uint8_t nreceived;
	uint8_t received[SERIAL_FIFO_SIZE];
};

#define REGISTER(member, ...) IMPOST_FIELD_HEX_UINT(struct serial_saved, member, 1, 0, __VA_ARGS__)

IMPOST_FIELDS(serial_fields, REGISTER(ier, "Interrupt Enable Register", .max = IER_MASK),
	      REGISTER(fcr, "FIFO Control Register, without the bits that clear themselves"),
	      REGISTER(lcr, "Line Control Register"),
	      REGISTER(mcr, "Modem Control Register", .max = MCR_MASK),
	      REGISTER(scr, "Scratch Register"), REGISTER(divisor_low, "Divisor Latch, low byte"),
	      REGISTER(divisor_high, "Divisor Latch, high byte"),
	      IMPOST_FIELD_BOOL(struct serial_saved, overrun, 1, 0,
				"A byte was lost, and LSR was not read since"),
	      REGISTER(modem_deltas,
		       "MSR bits 3:0: modem lines changed, and MSR was not read since", .max = 0xf),
	      IMPOST_FIELD_BOOL(struct serial_saved, transmit_irq, 1, 0,
				"The transmitter became empty, and IIR did not tell since"),
	      IMPOST_FIELD_BYTES(struct serial_saved, received, 1,
				 "Bytes that were received and not read yet, the oldest first",
				 IMPOST_COUNTED(struct serial_saved, nreceived)))

static int to_saved(const void *runtime, void *saved)
{
	const struct serial_state *s = &((const struct serial *)runtime)->state;
	struct serial_saved *to = saved;

	to->ier = s->ier;
	to->fcr = s->fcr;
	to->lcr = s->lcr;
	to->mcr = s->mcr;
	to->scr = s->scr;
	to->divisor_low = s->divisor_low;
	to->divisor_high = s->divisor_high;
	to->overrun = s->overrun;
	to->modem_deltas = s->modem_deltas;
	to->transmit_irq = s->transmit_irq;
	to->nreceived = s->rx_count;
	for (unsigned int i = 0; i < s->rx_count; i++)
		to->received[i] = s->rx[(s->rx_first + i) % SERIAL_FIFO_SIZE];
	return 0;
}

static int from_saved(const void *saved, void *runtime)
{
	const struct serial_saved *from = saved;
	struct serial_state *s = &((struct serial *)runtime)->state;

	s->ier = from->ier;
	s->fcr = from->fcr;
	s->lcr = from->lcr;
	s->mcr = from->mcr;
	s->scr = from->scr;
	s->divisor_low = from->divisor_low;
	s->divisor_high = from->divisor_high;
	s->overrun = from->overrun;
	s->modem_deltas = from->modem_deltas;
	s->transmit_irq = from->transmit_irq;
	s->rx_first = 0;
	s->rx_count = from->nreceived;
	memcpy(s->rx, from->received, SERIAL_FIFO_SIZE);
	return 0;
}

/* What no port of ours can have been in. */
static int check(const void *saved, char *text, size_t room)
{
	const struct serial_saved *s = saved;
	unsigned int depth = s->fcr & FCR_ENABLE ? SERIAL_FIFO_SIZE : 1;

	if (s->fcr & ~(FCR_ENABLE | FCR_TRIGGER) || (s->fcr && !(s->fcr & FCR_ENABLE))) {
		snprintf(text, room,
			 "fcr is 0x%02x: it has bits 7, 6 and 0, and others than bit 0 "
			 "with it alone",
			 s->fcr);
		return -IMPOST_EFORMAT;
	}
	if (s->nreceived > depth) {
		snprintf(text, room,
			 "there are %u bytes received, and with fcr 0x%02x there is "
			 "room for %u",
			 s->nreceived, s->fcr, depth);
		return -IMPOST_EFORMAT;
	}
	return 0;
}

/*
 * The hypervisor may keep the level of a line, or only what it made of its edges, which may have
 * come between the saving of its interrupt controllers and of this. So the line is driven anew.
 */
static int post_load(void *runtime, uint32_t version)
{
	(void)version;
	serial_drive(runtime);
	return 0;
}

IMPOST_RECORD(record, "16550A", struct serial_saved, 1, 1, 1, serial_fields,
	      "A 16550A serial port: registers by their names in the PC16550D data sheet.",
	      IMPOST_LOCK(struct serial, lock), .to_saved = to_saved, .from_saved = from_saved,
	      .check = check, .post_load = post_load)

const struct impost_record *serial_record(void)
{
	return &record;
}
