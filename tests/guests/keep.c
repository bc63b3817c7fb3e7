/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest that keeps what it has: counters in memory, one a page, and the same number in
 * registers and MSRs that nothing else uses, all raised once a round, while the local APIC's timer
 * interrupts it. It tells what is not as it left it, so it notices what a restore lost.
 * Options: pages, rounds, every (rounds between two reports), timer (0: no interrupts).
 *
 * What depends on time lies from SCRATCH to ARENA, so that all other memory is the same in each
 * run.
 */
#include "apic.h"

#define SCRATCH	  0x3fe000u
#define ARENA	  0x400000u
#define PAGE_SIZE 4096u

#define PERIOD	  1000000 /* of the bus clock: 1 ms at 1 GHz */

/* Where the boot put the TSS (layout.h), and IST1 in it (SDM vol. 3, 8.7). */
#define TSS	   0x580u
#define TSS_IST1   36u
#define LATE_TICKS 3 /* that are waited for at the end: the timer goes on to the last */

static volatile struct scratch {
	uint64_t awaited; /* ticks that are still waited for */
	uint64_t tsc;	  /* at the last tick */
	uint64_t stepped_back;
} *const scratch = (volatile struct scratch *)SCRATCH;

__attribute__((interrupt)) static void tick(struct interrupt_frame *frame)
{
	uint32_t low, high;
	uint64_t now;

	(void)frame;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	now = (uint64_t)high << 32 | low;
	scratch->stepped_back |= now < scratch->tsc;
	scratch->tsc = now;
	if (scratch->awaited)
		scratch->awaited--;
	APIC(EOI) = 0;
}

static void start_ticking(void)
{
	/* volatile: compilers take addresses this low for mistakes */
	uint64_t *volatile ist1 = (uint64_t *)(TSS + TSS_IST1);

	*ist1 = ARENA;
	start_timer(tick, 1, PERIOD);
	__asm__ volatile("sti" : : : "memory");
}

/* --- what is kept --- */

static int differs(const char *what, uint64_t number, uint64_t got, uint64_t want)
{
	if (got == want)
		return 0;
	put(what);
	put_char(' ');
	put_hex(number, 8);
	put(" holds ");
	put_hex(got, 16);
	put(" and not ");
	put_hex(want, 16);
	put_char('\n');
	return 1;
}

/* MSRs that long mode has and this guest does not use: LSTAR, KERNEL_GS_BASE. */
static const uint32_t msrs[] = {0xc0000082, 0xc0000102};
#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

static uint64_t rdmsr(uint32_t index)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
	return (uint64_t)high << 32 | low;
}

static void wrmsr(uint32_t index, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static int raise_registers(uint64_t round)
{
	uint64_t value;
	int bad = 0;

	__asm__ volatile("mov %%dr0, %0" : "=r"(value));
	bad |= round > 1 && differs("dr", 0, value, round - 1);
	__asm__ volatile("mov %0, %%dr0" : : "r"(round));
	__asm__ volatile("mov %%cr2, %0" : "=r"(value));
	bad |= round > 1 && differs("cr", 2, value, round - 1);
	__asm__ volatile("mov %0, %%cr2" : : "r"(round));
	for (unsigned int i = 0; i < MSRS; i++) {
		bad |= round > 1 && differs("msr", msrs[i], rdmsr(msrs[i]), round - 1);
		wrmsr(msrs[i], round);
	}
	return bad;
}

/* A counter has its page's number in it: pages that were exchanged are noticed too. */
static int raise_pages(uint64_t pages, uint64_t round)
{
	int bad = 0;

	for (uint64_t page = 0; page < pages; page++) {
		volatile uint64_t *counter = (volatile uint64_t *)(ARENA + page * PAGE_SIZE);

		if (round > 1)
			bad |= differs("page", page, *counter, page << 32 | (round - 1));
		*counter = page << 32 | round;
	}
	return bad;
}

/* Times are in the handler's registers and on its stack alone. */
static void wait_for_ticks(void)
{
	scratch->awaited = LATE_TICKS;
	while (scratch->awaited)
		__asm__ volatile("hlt" : : : "memory");
	put("the timer ticks\n");
}

void guest_main(const void *zero_page)
{
	uint64_t pages = option(zero_page, "pages", 64);
	uint64_t rounds = option(zero_page, "rounds", 100);
	uint64_t every = option(zero_page, "every", 1);
	uint64_t timer = option(zero_page, "timer", 1);

	serial_init();
	if (timer)
		start_ticking();
	for (uint64_t round = 1; rounds == 0 || round <= rounds; round++) {
		if (raise_pages(pages, round) | raise_registers(round) |
		    differs("tsc stepped back", 0, scratch->stepped_back, 0))
			return;
		if (every != 0 && round % every == 0) {
			put("round ");
			put_dec(round);
			put_char('\n');
		}
	}
	if (timer)
		wait_for_ticks();
}
