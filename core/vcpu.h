/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU as the core sees it. */
#ifndef CORE_VCPU_H
#define CORE_VCPU_H

#include <stdatomic.h>
#include <stdbool.h>

#include <impost/vcpu.h>

#include "vm.h"

/*
 * What run must look at before and after the backend's. Each kick is marked here before the backend
 * hears of it, so that an INTR of the backend's with no mark is not the host's.
 */
enum attention {
	ATTENTION_KICKED = 1, /* the host has kicked, and no INTR has been returned for it yet */
	ATTENTION_STRAY = 2,  /* the backend may return an INTR that the host is not to see */
	ATTENTION_HELD = 4,   /* the guest is not to run */
};

/* Whether a thread is inside. */
enum busy {
	BUSY_NOT,
	BUSY_INSIDE,
	BUSY_HELD, /* its call began while the vCPU was held, and so does not run the guest */
};

struct impost_vcpu {
	/* What run needs, in one cache line. What is first costs no offset. */
	atomic_uint busy;      /* enum busy */
	atomic_uint attention; /* enum attention */
	void *handle;
	int32_t (*run)(void *vcpu, struct impost_exit *ret_exit);
	const uint32_t *alive;	  /* the context's */
	struct impost_exit *exit; /* of the run under way */
	struct impost_vm *vm;
	struct impost_context *ctx;
	uint32_t id;

	const struct impost_vcpu_ops *ops;
	struct impost_vcpu *next;

	/* What the host has set; guarded by the VM's lock. */
	struct given_cpuid given;

	/* impost_vcpu_loop() is under way: between its runs others can be inside too. */
	atomic_bool looping;
	/* What it is running with; NULL outside. Only its thread looks. */
	const struct impost_handlers *handlers;
	void *opaque;
	int answered; /* what a handler said in the middle of a run, if it was not to go on */
	struct impost_exit answered_exit;

	/* Of a thread that waits in run while the VM is held; see hold.c. */
	atomic_bool waiting;  /* there is one */
	atomic_bool wants_in; /* it waits for another call to end */
	atomic_bool settled;  /* no I/O is pending */
	atomic_uint turn;     /* changes when it is to look again */
};

/* --- vcpu.c --- */

/* Goes inside VCPU, unless another thread is. */
static inline bool vcpu_enter(struct impost_vcpu *vcpu)
{
	bool held = atomic_load(&vcpu->attention) & ATTENTION_HELD;
	unsigned not = BUSY_NOT;

	return atomic_compare_exchange_strong(&vcpu->busy, &not, held ? BUSY_HELD : BUSY_INSIDE);
}

/* The error of one who finds another thread inside. */
int vcpu_busy(struct impost_vcpu *vcpu);

#define VCPU_CALL(vcpu, op, ...) VM_CALL((vcpu)->vm, (vcpu)->ops, (vcpu)->handle, op, ##__VA_ARGS__)

/* --- hold.c --- */

/* Leaves VCPU, and tells those who wait for that while the VM is held. */
void vcpu_leave(struct impost_vcpu *vcpu);

/* Goes inside VCPU for a call that does not run it. While the VM is held, another thread that is
 * inside is waited for: it cannot be long. -EBUSY. */
int vcpu_begin(struct impost_vcpu *vcpu);

/* Waits a little, the TURNth time, for a thread that has a few instructions to go. */
void vcpu_yield(unsigned turn);

/* The host kicks VCPU: a thread that waits in run is woken. Async-signal-safe. */
void vcpu_mark_kick(struct impost_vcpu *vcpu);

/*
 * What a run does while VCPU is held: finishes pending I/O and waits. VCPU_RELEASED: it is held no
 * more, and the guest may run; else what run returns: an error, or 0 with an exit.
 */
#define VCPU_RELEASED 1
int vcpu_wait(struct impost_vcpu *vcpu, struct impost_exit *ret_exit);

/* VCPU is put into the VM's list, whose lock is held: it is held as the others are. */
void vcpu_join(struct impost_vcpu *vcpu);

#endif
