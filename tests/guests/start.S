/* SPDX-License-Identifier: Apache-2.0 */
/* The first instructions of every guest: a stack, then guest_main(zero page), then a stop. */
	.section .text.start, "ax", @progbits
	.globl _start
	.type _start, @function
_start:
	cld
	lea	stack_top(%rip), %rsp
	xor	%ebp, %ebp
	/* The Linux 64-bit entry: RSI holds the zero page (kernel, boot.rst, "64-bit BOOT PROTOCOL"). */
	mov	%rsi, %rdi
	call	guest_main
	call	stop
	.size _start, . - _start

	.bss
	.balign	16
	.skip	16384
stack_top:

	.section .note.GNU-stack, "", @progbits
