/* SPDX-License-Identifier: Apache-2.0 */
/* The VM as the core sees it. */
#ifndef CORE_VM_H
#define CORE_VM_H

#include <pthread.h>
#include <stdatomic.h>

#include <impost/vm.h>

#include "context.h"
#include "device.h"

struct passed_over {
	char *name, *reason;
};

/* How far a hold of the VM has come. */
enum hold {
	HOLD_NONE,
	HOLD_BEGUN,
	HOLD_DONE,
	HOLD_ENDS,
};

/* Who holds the VM: it is released when nobody does any more. */
#define HELD_BY_HOST	  1u
#define HELD_BY_MIGRATION 2u
#define HELD_BY_THROTTLE  4u

/* Whose a VM is. */
enum owner {
	OWNER_HERE,
	OWNER_LEAVING, /* a migration has it, which may end either way */
	OWNER_MOVED,   /* it goes on elsewhere, and never again here */
	OWNER_LOST,    /* memory of it is gone: it never goes on */
};

/* Who wants the VM paused in the hypervisor. */
#define PAUSED_BY_HOST 1u
#define PAUSED_BY_HOLD 2u

/* CPUID as a host has set it: a hypervisor may tell something else. */
struct given_cpuid {
	struct impost_x86_cpuid *entries;
	uint32_t count;
};

/* An MSR that is taken with a state. */
struct listed_msr {
	uint32_t index;
	bool hypervisor; /* no CPU has it */
};

struct impost_vm {
	struct impost_context *ctx;
	struct backend backend;
	const struct impost_vm_ops *ops; /* the chain's tables, near at hand */
	const struct impost_vcpu_ops *vcpu_ops;
	const struct plugin *plugin; /* the backend's */
	void *handle;
	struct impost_caps caps;
	struct impost_host host;
	struct impost_vm_config config;
	char *wanted; /* config.backend */
	char *layers; /* config.layers */
	uint32_t irqchip;
	struct impost_memory *memory;
	struct passed_over *passed_over;
	uint32_t npassed_over;
	_Atomic uint32_t hold;	   /* enum hold; NONE again under the lock only */
	_Atomic uint32_t owner;	   /* enum owner */
	atomic_uint hold_turned;   /* changes when `hold_turns` has become false */
	pthread_mutex_t hold_lock; /* what follows */
	bool hold_turns;	   /* `hold` is on its way to DONE, or to NONE */
	uint32_t held_by;	   /* HELD_BY_* */
	uint32_t holding_by;	   /* those that are about to hold, or to release */
	atomic_uint settling;	   /* changes when a holder is to look at the vCPUs again */
	pthread_mutex_t pause_lock;
	uint32_t paused_by;	   /* PAUSED_BY_*; guarded by pause_lock */
	pthread_mutex_t lock;	   /* what follows */
	struct impost_vcpu *vcpus; /* in order of id */
	uint32_t nvcpus;
	struct impost_gsi_route *routes; /* that the host has set */
	uint32_t nroutes;
	struct devices devices;
	struct given_cpuid given;    /* to all vCPUs at once */
	struct listed_msr *msr_list; /* by rising index; made by state_msrs.c */
	uint32_t nmsr_list;
	/* Sections, by number, that the backend has said it does not have: of the VM, and of vCPUs.
	 */
	atomic_uint lacks[2];
};

/* A call of an operation, from before it to after it. */
struct vm_call {
	struct impost_vm *vm;
	uint64_t serial;
};

void vm_call_begin(struct vm_call *call, struct impost_vm *vm);

/* Judges what operation OP returned: 0 or a negative value, for which there is a text. */
int vm_call_end(const struct vm_call *call, int32_t result, const char *op);

/*
 * Ends a call that gave COUNT things to one who has room for CAPACITY: ERR, or -EIO if they cannot
 * have fitted. *ret_count is set on success, and with -ENOSPC to what is needed.
 */
int vm_give_count(struct impost_vm *vm, int err, const char *op, uint32_t count, uint32_t capacity,
		  uint32_t *ret_count);

/* Text and -ENOTSUP for a capability, or an operation, that the backend has not. */
int vm_lacks(struct impost_vm *vm, enum impost_cap cap);
int vm_lacks_op(struct impost_vm *vm, const char *op);

/* Whether calls on VM may be made here: -IMPOST_EFORKED. And whether one that needs CAP may be. */
int vm_check(struct impost_vm *vm);
int vm_needs(struct impost_vm *vm, enum impost_cap cap);

/*
 * Makes a call of an operation of the VM or, with ops and handle of one, of a vCPU: checks that it
 * is there, and judges the result.
 */
#define VM_CALL(vm_, ops_, handle_, op, ...)                                                 \
	({                                                                                   \
		struct vm_call call_;                                                        \
		int err_;                                                                    \
		if (!(ops_)->op) {                                                           \
			err_ = vm_lacks_op(vm_, #op);                                        \
		} else {                                                                     \
			vm_call_begin(&call_, vm_);                                          \
			err_ = vm_call_end(&call_, (ops_)->op(handle_, ##__VA_ARGS__), #op); \
		}                                                                            \
		err_;                                                                        \
	})

/*
 * hold.c: impost_vm_hold() and release() as several can call them, each for itself: HELD_BY_*. A VM
 * that one holds already is held at once for another, and runs on when the last has released it.
 */
int vm_hold_by(struct impost_vm *vm, uint32_t who, uint32_t timeout_ms);
int vm_release_by(struct impost_vm *vm, uint32_t who);

/* What WHO holds, and could not release, the host holds from now on. */
void vm_hand_hold(struct impost_vm *vm, uint32_t who);

/* VM, which is held, goes on elsewhere: its runs return -IMPOST_EMOVED for good. */
void vm_give_up(struct impost_vm *vm);

/*
 * Memory that VM needs will never come: its runs return -EIO for good. To be called before those
 * who wait for that memory are let go: what the hypervisor makes of it (ones, where it emulates an
 * instruction) nobody is to see.
 */
void vm_lose(struct impost_vm *vm);

/* 0; or -IMPOST_EMOVED, or -EIO of one that is lost, with its text. */
int vm_check_here(struct impost_vm *vm);

/* hold.c: pauses the VM in the hypervisor, and resumes it when nobody wants it paused any more. */
int vm_pause_by(struct impost_vm *vm, uint32_t who);
int vm_resume_by(struct impost_vm *vm, uint32_t who);

static inline bool vm_is_lost(const struct impost_vm *vm)
{
	return atomic_load(&vm->owner) == OWNER_LOST;
}

/* Whether the VM is held (impost_vm_hold()). */
static inline bool vm_is_held(const struct impost_vm *vm)
{
	return atomic_load(&vm->hold) == HOLD_DONE;
}

/* Keeps in GIVEN, under VM's lock, what was set if ERR is 0, and returns ERR. COPY is what
 * cpuid_copy() has made of it before. */
int cpuid_copy(struct impost_vm *vm, const struct impost_x86_cpuid *entries, uint32_t count,
	       struct given_cpuid *ret_copy);
int cpuid_keep(struct impost_vm *vm, struct given_cpuid *given, struct given_cpuid copy, int err);

/* The struct of a state section, and the capability without which there is none. */
struct section {
	const char *name;
	uint32_t bytes; /* 0: no such section */
	uint32_t varies;
	int cap; /* -1: none needed */
};

/* Checks a call on a section, and what set is given: -IMPOST_EFORKED, -EINVAL or -ENOTSUP. */
int section_check_set(struct impost_vm *vm, const struct section *table, uint32_t count,
		      uint32_t section, const void *buf, uint32_t bytes);
int section_check_get(struct impost_vm *vm, const struct section *table, uint32_t count,
		      uint32_t section);

/* vcpu.c: answers an access in the middle of a run, for backends with io-callbacks. */
int32_t vcpu_answer(void *vm, uint32_t id, struct impost_exit *exit);

/* What a VM's maker has to say of the BACKEND that was opened for it, with nothing made: 0, or an
 * error of its own. */
typedef int (*vm_judge_fn)(void *opaque, const struct backend *backend);

/* impost_vm_create() with such a one; NULL: without. */
int vm_create(struct impost_context *ctx, const struct impost_vm_config *config, vm_judge_fn judge,
	      void *opaque, struct impost_vm **ret_vm);

#endif
