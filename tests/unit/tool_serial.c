// SPDX-License-Identifier: Apache-2.0
/* The serial port by itself: what drivers probe for, and properties that hold whatever a guest
 * does. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "random.h"
#include "serial.h"

/* What the port is wired to here. */
struct bench {
	struct serial serial;
	uint8_t sent[4096];
	size_t nsent;
	unsigned int level;
	unsigned int rises;
	unsigned int rooms;
};

static void transmit(void *opaque, uint8_t byte)
{
	struct bench *bench = opaque;

	if (bench->nsent < sizeof(bench->sent))
		bench->sent[bench->nsent] = byte;
	bench->nsent++;
}

static void interrupt(void *opaque, unsigned int level)
{
	struct bench *bench = opaque;

	cr_assert_neq(level, bench->level, "the line is told of changes only");
	bench->level = level;
	bench->rises += level;
}

static void room(void *opaque)
{
	struct bench *bench = opaque;

	bench->rooms++;
}

static struct bench bench;

static void make(void)
{
	struct serial_wiring wiring = {transmit, interrupt, room, &bench};

	memset(&bench, 0, sizeof(bench));
	serial_init(&bench.serial, &wiring);
}

static void unmake(void)
{
	serial_destroy(&bench.serial);
}

TestSuite(serial, .init = make, .fini = unmake);

static uint8_t in(enum serial_register reg)
{
	return serial_read(&bench.serial, reg);
}

static void out(enum serial_register reg, uint8_t value)
{
	serial_write(&bench.serial, reg, value);
}

/*
 * The steps by which Linux's drivers/tty/serial/8250 finds out what a port is, in its order: that
 * there is one at all, that it answers in loopback, that it has working FIFOs, and that it is none
 * of the enhanced kinds.
 */
Test(serial, linux_finds_a_16550a)
{
	uint8_t first, second;

	out(SERIAL_IER, 0x00);
	cr_assert_eq(in(SERIAL_IER)&0x0f, 0x00, "is there a port");
	out(SERIAL_IER, 0x0f);
	cr_assert_eq(in(SERIAL_IER)&0x0f, 0x0f, "is there a port");
	out(SERIAL_IER, 0x00);

	out(SERIAL_MCR, 0x1a);
	cr_assert_eq(in(SERIAL_MSR)&0xf0, 0x90, "CTS and DCD follow RTS and OUT2 in loopback");
	out(SERIAL_MCR, 0x00);

	out(SERIAL_LCR, 0xbf);
	out(SERIAL_IIR, 0x00);
	out(SERIAL_LCR, 0x00);
	out(SERIAL_IIR, 0x01);
	cr_assert_eq(in(SERIAL_IIR) >> 6, 3, "FIFOs enabled and working");

	out(SERIAL_LCR, 0xbf);
	cr_assert_neq(in(SERIAL_IIR), 0, "an EFR that reads 0 would make it a 16650");
	out(SERIAL_LCR, 0x00);

	out(SERIAL_IIR, 0x21);
	first = in(SERIAL_IIR) >> 5;
	out(SERIAL_IIR, 0x01);
	out(SERIAL_LCR, 0x80);
	out(SERIAL_IIR, 0x21);
	second = in(SERIAL_IIR) >> 5;
	out(SERIAL_LCR, 0x00);
	cr_assert(first == 6 && second == 6, "a 16750 would show its 64-byte FIFO");

	out(SERIAL_IER, 0x40);
	cr_assert_eq(in(SERIAL_IER)&0x40, 0, "an XScale port would keep its unit enable");
	out(SERIAL_IER, 0x00);
	cr_assert_eq(bench.nsent, 0, "probing sends nothing");
}

/* Linux polls by a timer where the transmit interrupt does not come again when it is enabled again.
 */
Test(serial, linux_trusts_the_transmit_interrupt)
{
	out(SERIAL_MCR, 0x08);
	out(SERIAL_IER, 0x02);
	cr_assert_eq(in(SERIAL_IIR)&0x0f, 0x02);
	cr_assert_eq(in(SERIAL_IIR)&0x0f, 0x01, "reading IIR takes the cause away");
	out(SERIAL_IER, 0x00);
	out(SERIAL_IER, 0x02);
	cr_assert_eq(in(SERIAL_IIR)&0x0f, 0x02);
	out(SERIAL_IER, 0x00);
	cr_assert_eq(bench.rises, 2);
	cr_assert_eq(bench.level, 0);
}

Test(serial, sends_in_order)
{
	for (unsigned int i = 0; i < 1000; i++) {
		cr_assert_eq(in(SERIAL_LSR)&0x60, 0x60, "always ready");
		out(SERIAL_DATA, (uint8_t)(i * 7));
	}
	cr_assert_eq(bench.nsent, 1000);
	for (unsigned int i = 0; i < 1000; i++)
		cr_assert_eq(bench.sent[i], (uint8_t)(i * 7));
}

Test(serial, divisor_is_apart_from_data)
{
	out(SERIAL_IER, 0x05);
	out(SERIAL_LCR, 0x83);
	out(SERIAL_DATA, 0x0c);
	out(SERIAL_IER, 0x34);
	cr_assert_eq(in(SERIAL_DATA), 0x0c);
	cr_assert_eq(in(SERIAL_IER), 0x34);
	out(SERIAL_LCR, 0x03);
	cr_assert_eq(in(SERIAL_IER), 0x05);
	cr_assert_eq(bench.nsent, 0);
	out(SERIAL_SCR, 0xa5);
	cr_assert_eq(in(SERIAL_SCR), 0xa5);
}

Test(serial, loopback_hears_itself_alone)
{
	const uint8_t byte = 'x';

	out(SERIAL_MCR, 0x10);
	cr_assert_eq(serial_receive(&bench.serial, &byte, 1), 0, "the line is cut off");
	out(SERIAL_DATA, 'a');
	cr_assert_eq(in(SERIAL_LSR)&0x01, 0x01);
	out(SERIAL_DATA, 'b');
	cr_assert_eq(in(SERIAL_LSR)&0x02, 0x02, "no FIFO: the second byte overruns");
	cr_assert_eq(in(SERIAL_LSR)&0x02, 0, "reading clears the overrun");
	cr_assert_eq(in(SERIAL_DATA), 'a');
	cr_assert_eq(bench.nsent, 0);
	bench.rooms = 0;
	out(SERIAL_MCR, 0x00);
	cr_assert_eq(bench.rooms, 1, "input that was turned away is asked for again");
	cr_assert_eq(serial_receive(&bench.serial, &byte, 1), 1);
}

Test(serial, modem_deltas_tell_of_changes)
{
	in(SERIAL_MSR);
	cr_assert_eq(in(SERIAL_MSR), 0xb0, "a peer that is always there");
	out(SERIAL_MCR, 0x10); /* CTS, DSR and DCD drop */
	cr_assert_eq(in(SERIAL_MSR), 0x0b);
	out(SERIAL_MCR, 0x14); /* RI rises: no delta */
	cr_assert_eq(in(SERIAL_MSR), 0x40);
	out(SERIAL_MCR, 0x10); /* and falls */
	cr_assert_eq(in(SERIAL_MSR), 0x04);
	cr_assert_eq(in(SERIAL_MSR), 0x00);
}

Test(serial, interrupts_in_order_of_priority)
{
	out(SERIAL_IIR, 0x81); /* FIFO, trigger level 8 */
	out(SERIAL_MCR, 0x10);
	for (unsigned int i = 0; i < SERIAL_FIFO_SIZE + 1; i++)
		out(SERIAL_DATA, (uint8_t)i);
	out(SERIAL_IER, 0x0f);
	cr_assert_eq(bench.level, 0, "OUT2's pin is inactive in loopback");
	out(SERIAL_MCR, 0x08);
	cr_assert_eq(bench.level, 1);

	cr_assert_eq(in(SERIAL_IIR), 0xc6, "overrun");
	in(SERIAL_LSR);
	cr_assert_eq(in(SERIAL_IIR), 0xc4, "data above the trigger level");
	for (unsigned int i = 0; i < 9; i++)
		cr_assert_eq(in(SERIAL_DATA), i);
	cr_assert_eq(in(SERIAL_IIR), 0xcc, "data below it");
	for (unsigned int i = 9; i < SERIAL_FIFO_SIZE; i++)
		cr_assert_eq(in(SERIAL_DATA), i);
	cr_assert_eq(in(SERIAL_IIR), 0xc2, "the transmitter is empty");
	cr_assert_eq(in(SERIAL_IIR), 0xc0, "the modem's lines changed");
	cr_assert_eq(bench.level, 1);
	in(SERIAL_MSR);
	cr_assert_eq(in(SERIAL_IIR), 0xc1);
	cr_assert_eq(bench.level, 0);
	cr_assert_eq(bench.rises, 1);
}

Test(serial, no_interrupt_without_out2)
{
	out(SERIAL_IER, 0x0f);
	serial_receive(&bench.serial, (const uint8_t *)"a", 1);
	cr_assert_eq(in(SERIAL_IIR)&1, 0);
	cr_assert_eq(bench.rises, 0);
}

Test(serial, works_without_an_interrupt_line)
{
	struct serial_wiring wiring = {transmit, NULL, room, &bench};
	struct serial polled;

	serial_init(&polled, &wiring);
	serial_write(&polled, SERIAL_MCR, 0x08);
	serial_write(&polled, SERIAL_IER, 0x03);
	cr_assert_eq(serial_receive(&polled, (const uint8_t *)"ab", 2), 1);
	cr_assert_eq(serial_read(&polled, SERIAL_LSR) & 1, 1);
	cr_assert_eq(serial_read(&polled, SERIAL_DATA), 'a');
	serial_destroy(&polled);
}

/* Whatever is pushed and read, in whatever portions: nothing is lost, doubled or reordered, and
 * whenever bytes were turned away and then one could come, room was called in between. */
Test(serial, input_is_a_queue)
{
	uint64_t seed = 1;
	uint8_t offered = 0, expected = 0;
	bool turned_away = false;

	out(SERIAL_IIR, 0x01);
	for (unsigned int step = 0; step < 100000; step++) {
		uint8_t portion[32];
		size_t count = random_below(&seed, sizeof(portion)), taken;

		for (size_t i = 0; i < count; i++)
			portion[i] = (uint8_t)(offered + i);
		taken = serial_receive(&bench.serial, portion, count);
		if (taken > 0 && turned_away)
			cr_assert_gt(bench.rooms, 0, "step %u", step);
		if (taken < count) {
			turned_away = true;
			bench.rooms = 0;
		} else if (taken > 0) {
			turned_away = false;
		}
		offered = (uint8_t)(offered + taken);
		for (size_t i = random_below(&seed, 24); i > 0 && in(SERIAL_LSR)&1; i--)
			cr_assert_eq(in(SERIAL_DATA), expected++, "step %u", step);
	}
	cr_assert_neq(offered, 0);
}

/* After any access to any register the line is what IIR says, gated by OUT2; and reserved bits are
 * 0. */
Test(serial, the_line_follows_iir)
{
	uint64_t seed = 7;
	unsigned int highs = 0;

	for (unsigned int step = 0; step < 200000; step++) {
		enum serial_register reg = random_below(&seed, SERIAL_REGISTERS);
		uint8_t value = (uint8_t)random_number(&seed);
		struct serial_state before;
		bool gate, pending;

		switch (random_below(&seed, 3)) {
		case 0:
			out(reg, value);
			break;
		case 1:
			in(reg);
			break;
		default:
			serial_receive(&bench.serial, &value, 1);
		}
		before = bench.serial.state;
		gate = (before.mcr & 0x18) == 0x08;
		cr_assert_eq(before.line, bench.level);
		pending = !(in(SERIAL_IIR)&1);
		cr_assert_eq(before.line, gate && pending, "step %u", step);
		highs += before.line;
		/* The look must not disturb what is looked at. */
		bench.serial.state.transmit_irq = before.transmit_irq;
		in(SERIAL_SCR);
		cr_assert_eq(in(SERIAL_MCR)&0xe0, 0);
		cr_assert_leq(bench.serial.state.rx_count, SERIAL_FIFO_SIZE);
	}
	cr_assert_gt(highs, 1000, "the interrupt was seen often enough to mean something");
}

/* --- the record --- */

static unsigned int other_level;

static void drive_other(void *opaque, unsigned int level)
{
	(void)opaque;
	other_level = level;
}

static void make_other(struct serial *other)
{
	struct serial_wiring wiring = {transmit, drive_other, room, &bench};

	other_level = 2;
	serial_init(other, &wiring);
}

static size_t save(struct serial *serial, uint8_t *bytes, size_t capacity)
{
	size_t len;

	cr_assert_eq(impost_record_save(NULL, serial_record(), serial, bytes, capacity, &len), 0);
	return len;
}

Test(serial, record_is_a_description)
{
	cr_assert_eq(impost_record_verify(NULL, serial_record()), 0);
}

/* What the guest, or the line, does at random. */
static unsigned int act(struct serial *serial, uint64_t *seed)
{
	enum serial_register reg = random_below(seed, SERIAL_REGISTERS);
	uint8_t value = (uint8_t)random_number(seed);

	switch (random_below(seed, 4)) {
	case 0:
		serial_write(serial, reg, value);
		return 0;
	case 1:
		return serial_read(serial, reg);
	default:
		return (unsigned int)serial_receive(serial, &value, 1);
	}
}

/* Saved at any instant and loaded into another port, that one cannot be told from the first. */
Test(serial, another_port_goes_on_with_the_record)
{
	uint64_t seed = 11, same;
	uint8_t bytes[512], again[512];
	unsigned int filled = 0;

	for (unsigned int turn = 0; turn < 2000; turn++) {
		struct serial other;
		size_t len;

		for (unsigned int i = random_below(&seed, 40); i > 0; i--)
			act(&bench.serial, &seed);
		filled += bench.serial.state.rx_count > 1;
		len = save(&bench.serial, bytes, sizeof(bytes));
		make_other(&other);
		act(&other, &seed);
		cr_assert_eq(impost_record_load(NULL, serial_record(), &other, bytes, len), 0);
		cr_assert_eq(other_level, bench.level, "the line is driven, whatever it was");
		cr_assert_eq(save(&other, again, sizeof(again)), len);
		cr_assert_arr_eq(again, bytes, len);
		same = seed;
		for (unsigned int i = 0; i < 30; i++) {
			cr_assert_eq(act(&bench.serial, &seed), act(&other, &same));
			cr_assert_eq(other_level, bench.level);
		}
		serial_destroy(&other);
	}
	cr_assert_gt(filled, 100, "the FIFO was in use often enough to mean something");
}

/* Bytes that are wrong leave the port as it was; those that are taken give a port that can be saved
 * and loaded. */
Test(serial, any_bytes_for_a_record)
{
	uint64_t seed = 13;
	uint8_t good[512], bytes[512], again[512];
	unsigned int refused = 0;
	size_t len;

	out(SERIAL_IIR, 0xc1);
	out(SERIAL_IER, 0x03);
	serial_receive(&bench.serial, (const uint8_t *)"impost", 6);
	len = save(&bench.serial, good, sizeof(good));
	for (unsigned int turn = 0; turn < 20000; turn++) {
		struct serial other;
		struct serial_state before;
		size_t count = random_below(&seed, 4) ? len : random_below(&seed, (uint32_t)len);

		memcpy(bytes, good, len);
		for (unsigned int i = random_below(&seed, 3) + 1; i > 0; i--)
			bytes[random_below(&seed, (uint32_t)len)] = (uint8_t)random_number(&seed);
		make_other(&other);
		before = other.state;
		if (impost_record_load(NULL, serial_record(), &other, bytes, count) < 0) {
			refused++;
			cr_assert_arr_eq(&other.state, &before, sizeof(before));
			cr_assert_eq(other_level, 2, "nor is the line driven");
		} else {
			/* But for the version, which may be a newer one that is compatible. */
			count = save(&other, again, sizeof(again));
			cr_assert_eq(
				impost_record_load(NULL, serial_record(), &other, again, count), 0);
			cr_assert_eq(save(&other, bytes, sizeof(bytes)), count);
			cr_assert_arr_eq(again, bytes, count);
		}
		serial_destroy(&other);
	}
	cr_assert_gt(refused, 10000);
	cr_assert_lt(refused, 20000);
}

/* States that no port can be in. */
Test(serial, states_that_cannot_be)
{
	static const struct {
		uint8_t fcr, count;
	} states[] = {{0x40, 0}, {0x02, 0}, {0x03, 0}, {0x00, 2}};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		uint8_t bytes[512];
		struct serial other;
		size_t len;
		int err;

		bench.serial.state.fcr = states[i].fcr;
		bench.serial.state.rx_count = states[i].count;
		len = save(&bench.serial, bytes, sizeof(bytes));
		make_other(&other);
		err = impost_record_load(NULL, serial_record(), &other, bytes, len);
		cr_expect_eq(err, -IMPOST_EFORMAT, "fcr 0x%02x, %u bytes", states[i].fcr,
			     states[i].count);
		serial_destroy(&other);
	}
}
