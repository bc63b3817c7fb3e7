/* SPDX-License-Identifier: Apache-2.0 */
/* The guests' runtime: see guest.h. */
#include "guest.h"

/* Registers of the 16550A, from its data sheet. */
#define FCR	   (COM1 + 2)
#define FCR_ENABLE 1
#define LSR	   (COM1 + 5)
#define LSR_THRE   0x20
#define FIFO_BYTES 16

/* The keyboard controller's command port, and its command that pulses the reset line. */
#define KBC_COMMAND 0x64
#define KBC_RESET   0xfe

/* struct boot_params (kernel, boot.rst): cmd_line_ptr of the setup header. */
#define CMD_LINE_PTR 0x228

/* Selector of the 64-bit code segment that the Linux entry gives (boot.rst). */
#define CODE_SELECTOR	   0x10
#define GATE_INTERRUPT	   0x8e00
#define IDT_VECTORS	   256
#define GATE_OFFSET_MIDDLE 16
#define GATE_OFFSET_HIGH   32

static unsigned int fifo_room;

void stop(void)
{
	outb(KBC_COMMAND, KBC_RESET);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void serial_init(void)
{
	outb(FCR, FCR_ENABLE);
	fifo_room = 0;
}

/* With THRE set, the whole FIFO is empty: one look suffices for 16 bytes. */
void put_char(char c)
{
	if (fifo_room == 0) {
		while (!(inb(LSR) & LSR_THRE))
			;
		fifo_room = FIFO_BYTES;
	}
	fifo_room--;
	outb(COM1, (uint8_t)c);
}

void put(const char *text)
{
	while (*text)
		put_char(*text++);
}

void put_hex(uint64_t value, unsigned int digits)
{
	while (digits-- > 0)
		put_char("0123456789abcdef"[value >> (4 * digits) & 0xf]);
}

void put_dec(uint64_t value)
{
	if (value >= 10)
		put_dec(value / 10);
	put_char((char)('0' + value % 10));
}

/* What follows WORD in TEXT, if TEXT begins with it. */
static const char *after(const char *text, const char *word)
{
	while (*word)
		if (*text++ != *word++)
			return 0;
	return text;
}

uint64_t option(const void *zero_page, const char *name, uint64_t otherwise)
{
	uint32_t address = *(const uint32_t *)((const char *)zero_page + CMD_LINE_PTR);
	const char *text = (const char *)(uintptr_t)address;
	const char *value;
	uint64_t number = 0;

	if (!text)
		return otherwise;
	for (; *text; text++) {
		value = after(text, name);
		if (!value || *value != '=')
			continue;
		for (value++; *value >= '0' && *value <= '9'; value++)
			number = number * 10 + (uint64_t)(*value - '0');
		return number;
	}
	return otherwise;
}

struct gate {
	uint16_t offset_low, selector, type, offset_middle;
	uint32_t offset_high, reserved;
};

void set_vector(unsigned int vector, const void *handler, unsigned int ist)
{
	static struct gate idt[IDT_VECTORS];
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = {sizeof(idt) - 1, (uintptr_t)idt};
	uint64_t offset = (uintptr_t)handler;

	idt[vector].offset_low = (uint16_t)offset;
	idt[vector].offset_middle = (uint16_t)(offset >> GATE_OFFSET_MIDDLE);
	idt[vector].offset_high = (uint32_t)(offset >> GATE_OFFSET_HIGH);
	idt[vector].selector = CODE_SELECTOR;
	idt[vector].type = (uint16_t)(GATE_INTERRUPT | ist);
	__asm__ volatile("lidt %0" : : "m"(idtr));
}
