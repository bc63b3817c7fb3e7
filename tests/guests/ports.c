/* SPDX-License-Identifier: Apache-2.0 */
/* The guest that does port I/O of every size, single and string, and tells what it read. */
#include "guest.h"

/* Nothing lives there on a PC: the test puts a latch at it, that gives back what was written last.
 */
#define LATCH 0x600
#define COUNT 4

static void tell(const char *what, uint64_t value, unsigned int digits)
{
	put(what);
	put_char(' ');
	put_hex(value, digits);
	put_char('\n');
}

void guest_main(const void *zero_page)
{
	static const uint8_t bytes[COUNT] = {1, 2, 3, 4};
	static const uint16_t words[COUNT] = {0x101, 0x202, 0x303, 0x404};
	static const uint32_t longs[COUNT] = {0x1010101, 0x2020202, 0x3030303, 0x4040404};
	static uint8_t bytes_in[COUNT];
	static uint16_t words_in[COUNT];
	static uint32_t longs_in[COUNT];

	(void)zero_page;
	serial_init();
	outb(LATCH, 0x5a);
	tell("inb", inb(LATCH), 2);
	outw(LATCH, 0xa55a);
	tell("inw", inw(LATCH), 4);
	outl(LATCH, 0xdeadbeef);
	tell("inl", inl(LATCH), 8);

	outsb(LATCH, bytes, COUNT);
	insb(LATCH, bytes_in, COUNT);
	outsw(LATCH, words, COUNT);
	insw(LATCH, words_in, COUNT);
	outsl(LATCH, longs, COUNT);
	insl(LATCH, longs_in, COUNT);
	for (unsigned int i = 0; i < COUNT; i++) {
		tell("insb", bytes_in[i], 2);
		tell("insw", words_in[i], 4);
		tell("insl", longs_in[i], 8);
	}
}
