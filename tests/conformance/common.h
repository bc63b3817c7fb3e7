/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every conformance test stands on: a VM of the backend under test with some RAM and a vCPU in
 * a known mode, and guests of a few bytes. Only the public headers are used, and no file but the
 * library and the plugin.
 *
 * Which backend it is, and what it is told, comes with settings.h.
 */
#ifndef CONFORMANCE_COMMON_H
#define CONFORMANCE_COMMON_H

#include <criterion/criterion.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <impost/impost.h>

/* Guest-physical addresses that the guests agree on. All below 640 KiB. */
#define RAM_BYTES   0x100000u
#define CODE	    0x1000u
#define PAGE_TABLES 0x2000u /* three pages */
#define HANDLER	    0x6000u
#define STACK_TOP   0x8000u
#define DATA	    0x10000u

/* Where there is no memory, in reach of the long-mode tables (1 GiB). */
#define HOLE UINT64_C(0x20000000)

struct box {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu; /* number 0 */
	struct impost_memory *memory;
	const struct impost_caps *caps;
	uint8_t *ram;
};

/* Fails the test with the library's own text if EXPR is not 0. */
#define OK(box, expr)                                                                         \
	do {                                                                                  \
		int ok_result = (expr);                                                       \
		cr_assert_eq(ok_result, 0, "%s: %s: %s", #expr, impost_error_name(ok_result), \
			     impost_error((box)->ctx));                                       \
	} while (0)

/* Fails the test unless EXPR is the negative error ERR, with a text. */
#define REFUSED(box, err, expr)                                                                    \
	do {                                                                                       \
		int refused_result = (expr);                                                       \
		cr_assert_eq(refused_result, -(err), "%s: %d (%s), not %s", #expr, refused_result, \
			     impost_error((box)->ctx), impost_error_name(err));                    \
		cr_assert(impost_error((box)->ctx)[0] != '\0', "%s: no error text", #expr);        \
	} while (0)

/* The backend under test. */
const char *backend_name(void);

/* Opens a context, or skips the test, visibly, where the backend cannot run. */
void box_context(struct box *box);

/* The same with a VM for CPUS vCPUs, RAM at 0, and vCPU 0. IRQCHIP: IMPOST_IRQCHIP_*; one that the
 * backend lacks skips. */
void box_open(struct box *box, uint32_t cpus, uint32_t irqchip);

/* The same with another way to kick than IMPOST_KICK_MASK. */
void box_open_kicked_by(struct box *box, uint32_t cpus, uint32_t irqchip, uint32_t kick_by);
void box_close(struct box *box);

/* Skips the test, visibly, if the backend has no such capability. */
void box_need(struct box *box, enum impost_cap cap);

/* Gives VCPU all the CPUID that there is. */
void set_supported_cpuid(struct box *box, struct impost_vcpu *vcpu);

/* Puts CODE's bytes in memory and VCPU before them, in real mode with flat segments, or in 64-bit
 * mode. */
void enter_real(struct box *box, struct impost_vcpu *vcpu, const void *code, size_t bytes);
void enter_long(struct box *box, struct impost_vcpu *vcpu, const void *code, size_t bytes);

/* Machine code as an array and its length. */
#define GUEST(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* Gets and sets registers, with OK(). */
struct impost_x86_regs regs_of(struct box *box, struct impost_vcpu *vcpu);
void set_regs(struct box *box, struct impost_vcpu *vcpu, const struct impost_x86_regs *regs);

/* Runs and asserts that an exit of KIND comes. */
void run_to(struct box *box, struct impost_vcpu *vcpu, uint32_t kind, struct impost_exit *ret_exit);

/* Finishes the exit at hand; asserts that nothing follows. */
void finish(struct box *box, struct impost_vcpu *vcpu);

/* Switches the local APIC on, with LINT0 as the PIC's input. */
void lapic_on(struct box *box, struct impost_vcpu *vcpu);

/* Points real-mode vector VECTOR at ADDRESS (SDM vol. 3, 21.1.4). */
void real_vector(struct box *box, uint8_t vector, uint16_t address);

/* Numbers that are the same in each run of the test. */
uint64_t random64(void);

/* Nanoseconds on a clock that only goes forward. */
uint64_t now_ns(void);

#endif
