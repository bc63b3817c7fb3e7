/* SPDX-License-Identifier: Apache-2.0 */
/* The guest that reads and writes MSRs, one of them unknown, and tells values and refusals. */
#include "guest.h"

#define GP_VECTOR 13
/* Length of RDMSR and WRMSR (SDM vol. 2): 0f 32 and 0f 30. */
#define INSN_BYTES 2

static volatile int refused;

__attribute__((interrupt)) static void general_protection(struct interrupt_frame *frame,
							  unsigned long error)
{
	(void)error;
	refused = 1;
	/* clang takes the frame for a copy of its own, and a store to it for a dead one. */
	*(volatile uint64_t *)&frame->rip += INSN_BYTES;
}

static uint64_t rdmsr(uint32_t index)
{
	uint32_t low = 0;
	uint32_t high = 0;

	refused = 0;
	__asm__ volatile("rdmsr" : "+a"(low), "+d"(high) : "c"(index) : "memory");
	return (uint64_t)high << 32 | low;
}

static void wrmsr(uint32_t index, uint64_t value)
{
	refused = 0;
	__asm__ volatile("wrmsr"
			 :
			 : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(index)
			 : "memory");
}

static void tell(const char *what, uint32_t index, uint64_t value)
{
	put(what);
	put_hex(index, 8);
	put_char(' ');
	if (refused)
		put("#GP");
	else
		put_hex(value, 16);
	put_char('\n');
}

static void read(uint32_t index)
{
	uint64_t value = rdmsr(index);

	tell("rdmsr ", index, value);
}

static void write(uint32_t index, uint64_t value)
{
	wrmsr(index, value);
	tell("wrmsr ", index, value);
	read(index);
}

void guest_main(const void *zero_page)
{
	uint64_t before;

	(void)zero_page;
	serial_init();
	set_vector(GP_VECTOR, (const void *)(uintptr_t)general_protection, 0);
	read(0xc0000080);		       /* EFER */
	read(0x1b);			       /* APIC_BASE */
	write(0x277, 0x0007040600070406);      /* PAT: its reset value */
	write(0xc0000080, 0x504);	       /* EFER with a reserved bit */
	write(0xc0000081, 0x0010000800000000); /* STAR */
	write(0xc0000102, 0x0000123456789000); /* KERNEL_GS_BASE */
	write(0x4321, 1);		       /* none of that number */
	before = rdmsr(0x10);		       /* TSC */
	put(rdmsr(0x10) > before && before != 0 ? "tsc runs\n" : "tsc stands\n");
}
