/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest that waits in HLT for its local APIC's timer and tells each tick.
 * Option: ticks.
 */
#include "apic.h"

#define PERIOD 2000000 /* of the bus clock: 2 ms at 1 GHz */

static volatile uint64_t ticks;

__attribute__((interrupt)) static void tick(struct interrupt_frame *frame)
{
	(void)frame;
	ticks++;
	APIC(EOI) = 0;
}

void guest_main(const void *zero_page)
{
	uint64_t last = option(zero_page, "ticks", 5);

	serial_init();
	start_timer(tick, 0, PERIOD);
	for (uint64_t told = 0; told < last;) {
		/* STI takes effect behind the next instruction: no tick is lost before HLT. */
		__asm__ volatile("sti; hlt; cli" : : : "memory");
		while (told < ticks && told < last) {
			put("tick ");
			put_dec(++told);
			put_char('\n');
		}
	}
}
