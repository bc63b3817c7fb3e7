/* SPDX-License-Identifier: Apache-2.0 */
/* The guest that reads and writes an address without memory in every size, and tells what it read.
 */
#include "guest.h"

/* In the hole below 4 GiB; the test puts a latch at it, that gives back what was written last. */
#define LATCH 0xd0000000u

#define ACCESS(type, value, digits)                       \
	do {                                              \
		*(volatile type *)LATCH = (type)(value);  \
		put("mmio ");                             \
		put_hex(*(volatile type *)LATCH, digits); \
		put_char('\n');                           \
	} while (0)

void guest_main(const void *zero_page)
{
	(void)zero_page;
	serial_init();
	ACCESS(uint8_t, 0x5a, 2);
	ACCESS(uint16_t, 0xa55a, 4);
	ACCESS(uint32_t, 0xdeadbeef, 8);
	ACCESS(uint64_t, 0x0123456789abcdef, 16);
}
