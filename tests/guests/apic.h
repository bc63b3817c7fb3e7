/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC (SDM vol. 3, 11) of guests that have its timer interrupt them. */
#ifndef IMPOST_TESTS_APIC_H
#define IMPOST_TESTS_APIC_H

#include "guest.h"

/*
 * Its registers (SDM vol. 3, table 11-1). A macro, because a handler can call no function without
 * saving what that one clobbers.
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

__attribute__((interrupt)) static void spurious(struct interrupt_frame *frame)
{
	(void)frame;
}

/* TICK is called every PERIOD of the bus clock, 1 ns at 1 GHz, on stack number IST of the TSS; 0:
 * on that of whom it interrupts. Interrupts are off yet. */
static inline void start_timer(void (*tick)(struct interrupt_frame *frame), unsigned int ist,
			       uint32_t period)
{
	set_vector(TIMER_VECTOR, (const void *)(uintptr_t)tick, ist);
	set_vector(SPURIOUS_VECTOR, (const void *)(uintptr_t)spurious, ist);
	APIC(SPURIOUS) = SOFT_ENABLE | SPURIOUS_VECTOR;
	APIC(DIVIDE) = DIVIDE_BY_1;
	APIC(LVT_TIMER) = PERIODIC | TIMER_VECTOR;
	APIC(INITIAL) = period;
}

#endif
