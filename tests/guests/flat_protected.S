/* SPDX-License-Identifier: Apache-2.0 */
/* A flat guest in protected mode: says so if all is as a flat binary may expect, and stops. */
#define COM1	    0x3f8
#define KBC_COMMAND 0x64
#define KBC_RESET   0xfe
#define CODE	    0x10
#define DATA	    0x18
#define TASK	    0x20
#define START_INFO  0x6000
#define CR0_PE_ET   0x11
#define RFLAGS_IF   0x200

	.code32
	.text
	.globl _start
_start:
	mov	$wrong, %esi
	cmp	$START_INFO, %ebx
	jne	say
	mov	%cr0, %eax
	cmp	$CR0_PE_ET, %eax
	jne	say
	mov	%cr4, %eax
	test	%eax, %eax
	jnz	say
	pushf			/* the stack is there; interrupts are off */
	pop	%eax
	test	$RFLAGS_IF, %eax
	jnz	say
	str	%ax
	cmp	$TASK, %ax
	jne	say
	/* Every segment again, now from the GDT. */
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	ljmp	$CODE, $1f
1:	push	%eax
	pop	%eax
	mov	$right, %esi
say:
	cld
	mov	$COM1, %edx
1:	lodsb
	test	%al, %al
	jz	2f
	outb	%al, %dx
	jmp	1b
2:	mov	$KBC_RESET, %al
	outb	%al, $KBC_COMMAND
3:	hlt
	jmp	3b

right:	.asciz	"Hello from protected mode\n"
wrong:	.asciz	"protected mode is not as it should be\n"

	.section .note.GNU-stack, "", @progbits
