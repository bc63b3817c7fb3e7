/* SPDX-License-Identifier: Apache-2.0 */
/* What every guest needs: ports, the serial port, its options, and a way to stop. */
#ifndef IMPOST_TESTS_GUEST_H
#define IMPOST_TESTS_GUEST_H

#include <stdint.h>

#define COM1 0x3f8

/* A guest's own code; the runtime stops the guest when it returns. */
void guest_main(const void *zero_page);

/* Resets the machine through the keyboard controller, which is how these guests end. */
_Noreturn void stop(void);

/* Writes to COM1, whose FIFO serial_init() has switched on. */
void serial_init(void);
void put_char(char c);
void put(const char *text);
void put_hex(uint64_t value, unsigned int digits);
void put_dec(uint64_t value);

/* The number behind "NAME=" on the command line (decimal), or OTHERWISE if there is none. */
uint64_t option(const void *zero_page, const char *name, uint64_t otherwise);

/* Has interrupts and exceptions with VECTOR go to HANDLER (SDM vol. 3, 6.14.1), on stack number IST
 * of the TSS; 0: on the stack that is in use. */
void set_vector(unsigned int vector, const void *handler, unsigned int ist);

/* What the CPU pushes in 64-bit mode (SDM vol. 3, 6.14.2). */
struct interrupt_frame {
	uint64_t rip, cs, rflags, rsp, ss;
};

#define PORT_ACCESS(type, suffix)                                                                \
	static inline void out##suffix(uint16_t port, type value)                                \
	{                                                                                        \
		__asm__ volatile("out" #suffix " %0, %1" : : "a"(value), "Nd"(port) : "memory"); \
	}                                                                                        \
	static inline type in##suffix(uint16_t port)                                             \
	{                                                                                        \
		type value;                                                                      \
                                                                                                 \
		__asm__ volatile("in" #suffix " %1, %0" : "=a"(value) : "Nd"(port) : "memory");  \
		return value;                                                                    \
	}                                                                                        \
	static inline void outs##suffix(uint16_t port, const type *data, uint64_t count)         \
	{                                                                                        \
		__asm__ volatile("rep outs" #suffix                                              \
				 : "+S"(data), "+c"(count)                                       \
				 : "d"(port)                                                     \
				 : "memory");                                                    \
	}                                                                                        \
	static inline void ins##suffix(uint16_t port, type *data, uint64_t count)                \
	{                                                                                        \
		__asm__ volatile("rep ins" #suffix                                               \
				 : "+D"(data), "+c"(count)                                       \
				 : "d"(port)                                                     \
				 : "memory");                                                    \
	}
PORT_ACCESS(uint8_t, b)
PORT_ACCESS(uint16_t, w)
PORT_ACCESS(uint32_t, l)
#undef PORT_ACCESS

#endif
