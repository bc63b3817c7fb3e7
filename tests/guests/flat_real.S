/* SPDX-License-Identifier: Apache-2.0 */
/* A flat guest in real mode: says so if all is as a flat binary may expect, and stops. */
#define COM1	     0x3f8
#define KBC_COMMAND  0x64
#define KBC_RESET    0xfe
#define VECTOR	     0x20
#define VECTOR_PLACE (VECTOR * 4)

	.code16
	.text
	.globl _start
_start:
	mov	$wrong, %si
	mov	%cs, %ax
	mov	%ds, %bx
	cmp	%ax, %bx
	jne	say
	mov	%es, %bx
	cmp	%ax, %bx
	jne	say
	mov	%ss, %bx
	cmp	%ax, %bx
	jne	say
	smsw	%bx		/* CR0: PE must be clear (SDM vol. 3, 2.5) */
	test	$1, %bl
	jnz	say
	pushf			/* the stack is there; interrupts are off */
	pop	%bx
	test	$0x200, %bx
	jnz	say
	mov	%ax, %ds	/* loading a segment changes nothing */
	/* A vector of the table at 0 (SDM vol. 3, 21.1.4). */
	xor	%bx, %bx
	mov	%bx, %es
	movw	$handler, %es:VECTOR_PLACE
	mov	%ax, %es:VECTOR_PLACE + 2
	int	$VECTOR
say:
	cld
	mov	$COM1, %dx
1:	lodsb
	test	%al, %al
	jz	2f
	outb	%al, %dx
	jmp	1b
2:	mov	$KBC_RESET, %al
	outb	%al, $KBC_COMMAND
3:	hlt
	jmp	3b

handler:
	mov	$right, %si
	iret

right:	.asciz	"Hello from real mode\n"
wrong:	.asciz	"real mode is not as it should be\n"

	.section .note.GNU-stack, "", @progbits
