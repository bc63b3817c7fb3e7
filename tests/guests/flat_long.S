/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flat guest in long mode: says so if all is as a flat binary may expect, tells its x2APIC id if it
 * has one, and stops.
 */
#define COM1		0x3f8
#define KBC_COMMAND	0x64
#define KBC_RESET	0xfe
#define CODE		0x10
#define DATA		0x18
#define TASK		0x20
#define START_INFO	0x6000
#define LAST_WORD	0x3fffff8	/* of 64 MiB */
#define RFLAGS_IF	0x200
#define IA32_APIC_BASE	0x1b
#define APIC_EXTD	10		/* bit of it */
#define IA32_X2APIC_ID	0x802
#define IA32_EFER	0xc0000080
#define EFER_LME_LMA	0x500

	.code64
	.text
	.globl _start
_start:
	cld
	lea	wrong(%rip), %rsi
	cmp	$START_INFO, %rbx
	jne	say
	mov	$IA32_EFER, %ecx
	rdmsr
	cmp	$EFER_LME_LMA, %eax
	jne	say
	pushf			/* the stack is there; interrupts are off */
	pop	%rax
	test	$RFLAGS_IF, %eax
	jnz	say
	str	%ax
	cmp	$TASK, %ax
	jne	say
	/* The end of RAM is mapped to itself, and can be written. */
	mov	$LAST_WORD, %edi
	mov	%rsi, (%rdi)
	cmp	%rsi, (%rdi)
	jne	say
	/* Every segment again, now from the GDT. */
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	pushq	$CODE
	lea	1f(%rip), %rax
	push	%rax
	lretq
1:	lea	right(%rip), %rsi
say:
	call	put
	mov	$IA32_APIC_BASE, %ecx
	rdmsr
	bt	$APIC_EXTD, %eax
	jnc	stop
	lea	id(%rip), %rsi
	call	put
	mov	$IA32_X2APIC_ID, %ecx
	rdmsr
	call	put_hex
	lea	newline(%rip), %rsi
	call	put
stop:
	mov	$KBC_RESET, %al
	outb	%al, $KBC_COMMAND
1:	hlt
	jmp	1b

/* The text at RSI. */
put:
	mov	$COM1, %edx
1:	lodsb
	test	%al, %al
	jz	2f
	outb	%al, %dx
	jmp	1b
2:	ret

/* EAX in eight digits. */
put_hex:
	mov	%eax, %edi
	mov	$8, %ecx
	mov	$COM1, %edx
	lea	digits(%rip), %rsi
1:	rol	$4, %edi
	mov	%edi, %eax
	and	$15, %eax
	mov	(%rsi, %rax), %al
	outb	%al, %dx
	loop	1b
	ret

right:	.asciz	"Hello from long mode\n"
wrong:	.asciz	"long mode is not as it should be\n"
id:	.asciz	"x2APIC id "
newline: .asciz "\n"
digits:	.ascii	"0123456789abcdef"

	.section .note.GNU-stack, "", @progbits
