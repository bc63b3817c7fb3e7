/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the toy backend share: the VM, the vCPU, and who does what with them. */
#ifndef TOY_H
#define TOY_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include <impost/backend.h>

#define TOY_VCPUS	 64u	  /* ids 0 to 63: a bit each in toy_vm.ids */
#define TOY_SLOTS	 64u	  /* pieces of guest memory */
#define TOY_CPUID	 64u	  /* CPUID entries */
#define TOY_TSC_KHZ	 1000000u /* the toy's TSC counts nanoseconds */
#define TOY_PHYS	 36u	  /* bits of a guest-physical address */
#define TOY_PAGE	 4096u

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#define CR0_PE		 UINT64_C(1)
#define CR0_NW		 (UINT64_C(1) << 29)
#define CR0_CD		 (UINT64_C(1) << 30)
#define CR0_PG		 (UINT64_C(1) << 31)
#define CR0_WP		 (UINT64_C(1) << 16)
#define CR4_PAE		 (UINT64_C(1) << 5)
#define EFER_LME	 (UINT64_C(1) << 8)
#define EFER_LMA	 (UINT64_C(1) << 10)
#define EFER_NXE	 (UINT64_C(1) << 11)
#define RFLAGS_IF	 (UINT64_C(1) << 9)

struct toy_slot {
	uint64_t gpa, bytes; /* bytes 0: nothing is here */
	uint8_t *hva;
	uint32_t flags;	       /* IMPOST_SLOT_* */
	_Atomic uint64_t *log; /* a bit for each page that was written; NULL: nobody asks */
};

struct toy_vm {
	const struct impost_host *host; /* of this VM */
	uint32_t max_vcpus;

	pthread_mutex_t lock; /* of ids */
	uint64_t ids;	      /* vCPUs that there are */

	/* Guests run with it held for reading: memory that is gone for the host is for them. */
	pthread_rwlock_t slots_lock;
	struct toy_slot slots[TOY_SLOTS];
};

/* An access of the guest to what is outside its memory, and what the host answered. */
struct toy_access {
	uint64_t address;
	uint8_t data[8];
};

/* What comes after a step of the vCPU. */
enum toy_next {
	TOY_GO_ON,
	TOY_EXIT,  /* vcpu->exit is for the host */
	TOY_FAULT, /* vcpu->fault is for the guest */
};

struct toy_vcpu {
	struct toy_vm *vm;
	uint32_t id;
	_Atomic bool kicked;
	bool has_run;
	bool irq_window;

	/* State, kept as it is handed out. */
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct impost_x86_debugregs debugregs;
	struct impost_x86_events events; /* events.flags says what of it the toy knows */
	uint64_t tsc_offset;
	uint64_t msr[16];
	struct impost_x86_cpuid cpuid[TOY_CPUID];
	uint32_t ncpuid;

	/*
	 * The instruction at hand. An access to what is outside guest memory ends it, as if it had
	 * not begun, with an exit; once the host has answered it is done again from the start, with
	 * the answers that there are. It changes regs when it comes to its end, and not before.
	 */
	struct impost_x86_regs next;
	struct toy_access access[16];
	unsigned naccesses; /* answered */
	unsigned at;	    /* the one that is looked for next */
	bool pending;	    /* access[naccesses] is with the host */
	uint8_t insn[15];   /* its bytes; guests may change their code meanwhile */
	unsigned ninsn;	    /* of them were found in memory */
	struct impost_exit exit;
	struct {
		uint8_t vector, has_error;
		uint32_t error;
	} fault;
};

/* plugin.c: what a vCPU's CPUID is unless the host sets another. Returns how many entries. */
uint32_t toy_cpuid_default(struct impost_x86_cpuid *entries);

/* vm.c */
int32_t toy_vm_create(void *backend, const struct impost_vm_args *args, void **ret_vm);
extern const struct impost_vm_ops toy_vm_ops;
/* The slot that has GPA; NULL: none. With slots_lock held. */
struct toy_slot *toy_slot_at(struct toy_vm *vm, uint64_t gpa);
/* Tells SLOT's log of a write to the page of GPA. With slots_lock held. */
void toy_slot_written(struct toy_slot *slot, uint64_t gpa);

/* vcpu.c */
int32_t toy_vcpu_create(void *vm, uint32_t id, void **ret_vcpu);
extern const struct impost_vcpu_ops toy_vcpu_ops;
/* Makes v->exit one of KIND. */
enum toy_next toy_exit(struct toy_vcpu *v, uint32_t kind);
enum toy_next toy_give_up(struct toy_vcpu *v, const char *why);

/* memory.c: guest memory as the guest sees it. Linear addresses; with slots_lock held. */
enum toy_next toy_load(struct toy_vcpu *v, uint64_t linear, void *data, unsigned bytes);
enum toy_next toy_store(struct toy_vcpu *v, uint64_t linear, const void *data, unsigned bytes);
/* Up to BYTES of code; returns how many there are in memory. */
unsigned toy_fetch(struct toy_vcpu *v, uint64_t linear, uint8_t *ret_code, unsigned bytes);
/* A port. */
enum toy_next toy_port(struct toy_vcpu *v, uint16_t port, void *data, unsigned bytes, uint8_t dir);
enum toy_next toy_fault(struct toy_vcpu *v, uint8_t vector, bool has_error, uint32_t error);
bool toy_is_long(const struct toy_vcpu *v);
int32_t toy_translate(void *vcpu, uint64_t gva, uint64_t *ret_gpa);

/* cpu.c: the instruction at regs.rip, or the delivery of an event. With slots_lock held. */
enum toy_next toy_execute(struct toy_vcpu *v);
enum toy_next toy_deliver(struct toy_vcpu *v, uint8_t vector, bool has_error, uint32_t error);

/* state.c */
/* What of S hardware would refuse; NULL: nothing. */
const char *toy_sregs_wrong(const struct impost_x86_sregs *s);
void toy_reset(struct toy_vcpu *v);
uint64_t toy_tsc(const struct toy_vcpu *v);
/* False: there is no such MSR, or it does not take the value. */
bool toy_msr_read(struct toy_vcpu *v, struct impost_x86_msr *msr);
bool toy_msr_write(struct toy_vcpu *v, const struct impost_x86_msr *msr);
uint32_t toy_msr_list(uint32_t *indices, uint32_t capacity);
int32_t toy_state_get(void *vcpu, uint32_t section, void *buf, uint32_t capacity,
		      uint32_t *ret_size);
int32_t toy_state_set(void *vcpu, uint32_t section, const void *buf, uint32_t bytes);
int32_t toy_msrs_get(void *vcpu, struct impost_x86_msr *msrs, uint32_t count, uint32_t *ret_done);
int32_t toy_msrs_set(void *vcpu, const struct impost_x86_msr *msrs, uint32_t count,
		     uint32_t *ret_done);
int32_t toy_cpuid_set(void *vcpu, const struct impost_x86_cpuid *entries, uint32_t count);
int32_t toy_cpuid_get(void *vcpu, struct impost_x86_cpuid *entries, uint32_t capacity,
		      uint32_t *ret_count);

#endif
