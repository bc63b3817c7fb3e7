/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest that waits in HLT for its local APIC's timer and tells each tick.
 * Option: ticks.
 */
#include "guest.h"

/*
 * The local APIC's registers (SDM vol. 3, table 11-1). A macro, because a handler can call no
 * function without saving what that one clobbers.
 */
#define APIC(reg)	(*(volatile uint32_t *)(0xfee00000u + (reg)))
#define EOI		0xb0
#define SPURIOUS	0xf0
#define SOFT_ENABLE	0x100
#define LVT_TIMER	0x320
#define PERIODIC	0x20000
#define INITIAL		0x380
#define DIVIDE		0x3e0
#define DIVIDE_BY_1	0xb

#define TIMER_VECTOR	0x40
#define SPURIOUS_VECTOR 0xff
#define PERIOD		2000000 /* of the bus clock: 2 ms at 1 GHz */

static volatile uint64_t ticks;

__attribute__((interrupt)) static void tick(struct interrupt_frame *frame)
{
	(void)frame;
	ticks++;
	APIC(EOI) = 0;
}

__attribute__((interrupt)) static void spurious(struct interrupt_frame *frame)
{
	(void)frame;
}

void guest_main(const void *zero_page)
{
	uint64_t last = option(zero_page, "ticks", 5);

	serial_init();
	set_vector(TIMER_VECTOR, (const void *)(uintptr_t)tick, 0);
	set_vector(SPURIOUS_VECTOR, (const void *)(uintptr_t)spurious, 0);
	APIC(SPURIOUS) = SOFT_ENABLE | SPURIOUS_VECTOR;
	APIC(DIVIDE) = DIVIDE_BY_1;
	APIC(LVT_TIMER) = PERIODIC | TIMER_VECTOR;
	APIC(INITIAL) = PERIOD;
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
