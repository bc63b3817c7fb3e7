/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of the KVM backend, and what its files offer to one another. */
#ifndef KVM_INTERNAL_H
#define KVM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include <linux/kvm.h>

#include <impost/backend.h>

#include "kvm.h"

#define KVM_LIKELY(x)	__builtin_expect(!!(x), 1)
#define KVM_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The I/O APIC has 24 pins; with a split irqchip that many routes are kept for the host's. */
#define KVM_SPLIT_PINS 24

/* Entries that a CPUID table can have (the kernel's KVM_MAX_CPUID_ENTRIES since Linux 5.12). */
#define KVM_CPUID_ENTRIES 256

/* GSIs that are kept account of; kernels route 4096 (KVM_MAX_IRQ_ROUTES). */
#define KVM_GSIS 4096

/* A page of guest memory, as slots and dirty logs count them. */
#define KVM_PAGE 4096u

/* How the kernel keeps the dirty log of a VM's slots; see dirty.c. */
enum dirty_kind {
	DIRTY_AUTO, /* as an option: MANUAL where it is there, else BITMAP */
	DIRTY_MANUAL,
	DIRTY_BITMAP,
	DIRTY_RING,
};

union cpuid_table;

struct backend {
	const struct impost_host *host;
	int fd;
	uint32_t run_bytes;
	uint32_t clock_flags;	  /* KVM_CLOCK_* that the kernel takes */
	uint32_t nested_bytes;	  /* largest nested state; 0: none */
	bool amx;		  /* guests may have it */
	enum dirty_kind dirty;	  /* not AUTO */
	uint32_t manual_flags;	  /* of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2; with DIRTY_MANUAL */
	uint32_t ring_extension;  /* KVM_CAP_DIRTY_LOG_RING...; with DIRTY_RING */
	uint32_t ring_entries;	  /* of each vCPU's ring; with DIRTY_RING */
	union cpuid_table *cpuid; /* what guests can be given; NULL: the kernel did not tell */
	struct impost_caps caps;
};

struct slot {
	uint64_t gpa, bytes;
	void *hva;
	uint32_t flags; /* KVM_MEM_* */
	bool used;

	/* A bit for each page while there is a dirty log, else NULL. DIRTY_RING: what has been
	 * harvested and not fetched. Else room for the kernel's answer. */
	uint64_t *log;
	uint64_t first_word, end_word; /* DIRTY_RING: outside them the log is 0 */
};

/* A vCPU's dirty ring, which it shares with the kernel. */
struct ring {
	struct kvm_dirty_gfn *entry; /* NULL: none */
	uint32_t mask;		     /* number of entries - 1 */
	uint32_t next;		     /* to be harvested; counts on beyond the mask */
	uint32_t full_at;	     /* `next` after the last KVM_EXIT_DIRTY_RING_FULL */
	bool gaps;		     /* entries that are empty may lie before filled ones */
};

/* What was taken out of a ring. */
struct taken {
	uint32_t entries; /* for KVM_RESET_DIRTY_RINGS */
	uint32_t filled;  /* of them, by the kernel */
	uint32_t stray; /* of these, those that name no page of their slot: no kernel writes any */
};

struct vm {
	const struct backend *backend;
	const struct impost_host *host;
	int fd;
	pid_t pid;
	uint32_t irqchip; /* IMPOST_IRQCHIP_NONE, _LAPIC, _FULL */
	uint32_t max_vcpus;
	uint32_t kick_signal;
	uint32_t kick_by;	       /* IMPOST_KICK_* */
	_Atomic uint32_t host_tsc_khz; /* as a new vCPU has it; 0 before the first one */
	uint32_t xsave_bytes; /* of KVM_GET_XSAVE2; 0: the kernel has the 4 KiB call only */

	atomic_bool has_irqchip; /* the kernel has made what `irqchip` asks for */

	pthread_mutex_t lock; /* what follows */
	struct slot *slots;
	uint32_t nslots; /* room in slots */
	uint32_t nvcpus;
	struct vcpu *ringed;  /* vCPUs with a dirty ring */
	uint64_t harvested;   /* entries of theirs that the kernel has not taken back yet */
	const char *lost;     /* why it is not known what the guest wrote; NULL: it is */
	uint32_t msr_reasons; /* KVM_MSR_EXIT_REASON_* that exit */
	_Atomic uint64_t
		gsi_routed[KVM_GSIS / 64]; /* which GSIs lead somewhere; read without lock */
};

/* Where a kick stands; see run.c. */
enum kick {
	KICK_IDLE,    /* nobody runs, nobody kicked */
	KICK_RUNNING, /* a thread is inside run */
	KICK_SENDING, /* a kicker is about to signal that thread */
	KICK_KICKED,  /* the run under way, or else the next, is to end */
};

#define KVM_NO_VECTOR (-1)
#define KVM_NO_THREAD UINT64_MAX

struct vcpu {
	/* What each exit touches. What is first costs no offset. */
	_Atomic uint32_t kick; /* enum kick */
	int fd;
	struct kvm_run *run;
	uint64_t
		thread; /* serial of the thread that is prepared for running it, or KVM_NO_THREAD */
	int32_t vector; /* external interrupt that waits for a window, or KVM_NO_VECTOR */
	uint8_t pending; /* an exit waits for the host's answer */
	uint8_t ran;

	uint8_t window; /* the host wants IRQ_WINDOW */
	_Atomic pid_t tid;
	struct vm *vm;
	const struct impost_host *host;
	uint32_t id;
	union cpuid_table *cpuid; /* as it was set; NULL: not yet */
	uint64_t xcr0_allowed;	  /* by its CPUID, leaf 0xD */
	struct ring ring;	  /* guarded by the VM's lock, as is the next member */
	struct vcpu *next_ringed;
};

/* --- open.c --- */

/* ioctl that starts again after a signal; on failure the text is NAME and the kernel's reason. */
int32_t kvm_ioctl(const struct impost_host *host, int fd, unsigned long request, const char *name,
		  const void *arg);
#define KVM_IOCTL(host, fd, request, arg) kvm_ioctl(host, fd, request, #request, arg)

/* The same for a value in place of a pointer. */
#define KVM_IOCTL_VALUE(host, fd, request, value) \
	kvm_ioctl(host, fd, request, #request, (const void *)(uintptr_t)(value))

/* KVM_CHECK_EXTENSION: 0 when the kernel lacks it. */
uint32_t kvm_extension(int fd, uint32_t extension);

/* Sets the text "WHAT: reason of ERR (a positive errno)" and returns -ERR. */
int32_t kvm_error(const struct impost_host *host, int err, const char *what);

/* --- caps.c --- */
void kvm_caps_fill(struct backend *b);
int32_t kvm_caps(void *backend, struct impost_caps *ret_caps);

/* --- vm.c, vcpu.c --- */
extern const struct impost_vm_ops kvm_vm_ops;
extern const struct impost_vcpu_ops kvm_vcpu_ops;
int32_t kvm_vm_create(void *backend, const struct impost_vm_args *args, void **ret_vm);
int32_t kvm_vcpu_create(void *vm, uint32_t id, void **ret_vcpu);

/* Makes the VM's interrupt controllers, if they are not there yet. */
int32_t kvm_irqchip_need(struct vm *vm);

/* --- mem.c --- */
int32_t kvm_mem_add(void *vm, const struct impost_slot *slot);
int32_t kvm_mem_remove(void *vm, uint32_t slot);

/* The slot NUMBER, which must exist, or NULL with a text. The VM's lock is held. */
struct slot *kvm_slot_find(const struct vm *vm, uint32_t number);

/* Sets slot NUMBER in the kernel; bytes 0 removes it. */
int32_t kvm_slot_set(const struct vm *vm, uint32_t number, const struct slot *s, uint64_t bytes);

/* --- dirty.c --- */
int32_t kvm_dirty_start(void *vm, uint32_t slot);
int32_t kvm_dirty_stop(void *vm, uint32_t slot);
int32_t kvm_dirty_fetch(void *vm, uint32_t slot, uint64_t *bitmap, uint64_t nwords);
int32_t kvm_dirty_clear(void *vm, uint32_t slot, uint64_t first, uint64_t npages,
			const uint64_t *bitmap);

/* Takes the kind of log that was asked for, if the kernel has it, into B and its capabilities.
 * RING_ENTRIES 0: as many as are usual. */
int32_t kvm_dirty_choose(struct backend *b, enum dirty_kind kind, uint32_t ring_entries);

/* Makes a new VM's slots have logs of that kind. */
int32_t kvm_dirty_enable(const struct vm *vm);

/* --- ring.c; nothing happens where the VM has no rings --- */

/* Maps a new vCPU's ring. */
int32_t kvm_ring_map(struct vcpu *vcpu);

/* Harvests the ring of a vCPU that ends, and unmaps it. */
void kvm_ring_unmap(struct vcpu *vcpu);

/* Harvests all rings into the slots' logs and has the kernel protect those pages again. -EIO once
 * pages are lost, until the next kvm_ring_renew. The VM's lock is held. */
int32_t kvm_ring_harvest(struct vm *vm);

/* The same after a slot's log has ended: what the rings have of it goes. The VM's lock is held. */
void kvm_ring_drop(struct vm *vm);

/* Makes good that pages are lost, if any are. The VM's lock is held, and no slot has a log. */
int32_t kvm_ring_renew(struct vm *vm);

/* Makes room in a ring that is full: KVM_EXIT_DIRTY_RING_FULL, in the vCPU's own thread. */
int32_t kvm_ring_relieve(struct vcpu *vcpu);

/* --- ring_entries.c --- */

/*
 * Takes what the kernel has put into RING, in order, to be given back to the kernel. Each page
 * becomes a bit in its slot's log; a slot without log does not count.
 */
struct taken kvm_ring_take(struct ring *ring, struct slot *slots, uint32_t nslots);

/*
 * Gives COUNT entries of RING to the kernel to take back, from the one that is FROM behind `next`
 * on, and none else; and, kvm_ring_lend_filled, all that are filled but the one at `next`. Then
 * comes KVM_RESET_DIRTY_RINGS, and then kvm_ring_settle. Meanwhile the kernel must not write into
 * the ring. The pages in it are lost.
 */
void kvm_ring_lend(struct ring *ring, uint32_t from, uint32_t count);
void kvm_ring_lend_filled(struct ring *ring);

/* Puts `next` behind what the kernel took back, if it did, and empties RING. Did it? */
bool kvm_ring_settle(struct ring *ring);

/* --- irq.c --- */
void kvm_routes_default(struct vm *vm);
int32_t kvm_irq_line(void *vm, uint32_t gsi, uint32_t level);
int32_t kvm_msi(void *vm, uint64_t address, uint32_t data);
int32_t kvm_gsi_routes(void *vm, const struct impost_gsi_route *routes, uint32_t nroutes);
int32_t kvm_irqfd(void *vm, const struct impost_irqfd *irqfd);
int32_t kvm_ioeventfd(void *vm, const struct impost_ioeventfd *ioeventfd);
int32_t kvm_nmi(void *vcpu);
int32_t kvm_irq_inject(void *vcpu, uint32_t vector);
int32_t kvm_irq_window(void *vcpu, uint32_t on);

/* Gives the waiting vector to the guest, or asks for a window to do so. */
int32_t kvm_vector_offer(struct vcpu *vcpu);

/* Its part of the events section. */
void kvm_vector_get(const struct vcpu *vcpu, struct impost_x86_events *events);
int32_t kvm_vector_check(const struct vcpu *vcpu, const struct impost_x86_events *events);
void kvm_vector_set(struct vcpu *vcpu, const struct impost_x86_events *events);

/* --- policy.c --- */
int32_t kvm_msr_exits(void *vm, const struct impost_msr_range *ranges, uint32_t nranges,
		      uint32_t unknown);
int32_t kvm_cpuid_supported(void *backend, struct impost_x86_cpuid *entries, uint32_t capacity,
			    uint32_t *ret_count);
int32_t kvm_cpuid_set(void *vcpu, const struct impost_x86_cpuid *entries, uint32_t count);
int32_t kvm_cpuid_get(void *vcpu, struct impost_x86_cpuid *entries, uint32_t capacity,
		      uint32_t *ret_count);

/* Fills in b->cpuid and b->caps.phys_bits. */
void kvm_cpuid_probe(struct backend *b);

/* --- state_msrs.c --- */
int32_t kvm_msr_list(void *backend, uint32_t *indices, uint32_t capacity, uint32_t *ret_count);
int32_t kvm_feature_msrs(void *backend, struct impost_x86_msr *msrs, uint32_t capacity,
			 uint32_t *ret_count);

/* What the kernel lists in answer to REQUEST; to be freed. */
int32_t kvm_kernel_msrs(const struct backend *b, unsigned long request, const char *name,
			struct kvm_msr_list **ret_known);
#define KVM_MSR_LIST(b, request, ret_known) kvm_kernel_msrs(b, request, #request, ret_known)

int32_t kvm_msrs_get(void *vcpu, struct impost_x86_msr *msrs, uint32_t count, uint32_t *ret_done);
int32_t kvm_msrs_set(void *vcpu, const struct impost_x86_msr *msrs, uint32_t count,
		     uint32_t *ret_done);

/* --- state_time.c --- */

/*
 * Tells a guest with the paravirtual clock that it has been stopped, before it runs on: its
 * watchdogs then do not take the time that is gone for a hang (kernel,
 * Documentation/virt/kvm/api.rst, KVM_KVMCLOCK_CTRL).
 */
void kvm_tell_stopped(const struct vcpu *vcpu);

/* --- run.c --- */
int32_t kvm_run(void *vcpu, struct impost_exit *ret_exit);
int32_t kvm_complete(void *vcpu, struct impost_exit *ret_exit);
int32_t kvm_kick(void *vcpu);

/* --- exit.c --- */

/* Translates what is in kvm_run, but for the accesses below. */
void kvm_exit_translate(struct vcpu *vcpu, struct impost_exit *ret_exit);

/*
 * Ports and memory: the exits that are counted in millions, so they are translated in place.
 * Nothing is copied: the data stays in kvm_run. False: it is another exit.
 */
static_assert(KVM_EXIT_IO_IN == IMPOST_EXIT_READ && KVM_EXIT_IO_OUT == IMPOST_EXIT_WRITE,
	      "directions are handed through");

static inline __attribute__((always_inline)) bool kvm_exit_access(struct vcpu *v,
								  struct impost_exit *exit)
{
	struct kvm_run *run = v->run;

	if (KVM_LIKELY(run->exit_reason == KVM_EXIT_IO)) {
		exit->kind = IMPOST_EXIT_IO;
		exit->u.io.port = run->io.port;
		exit->u.io.size = run->io.size;
		exit->u.io.dir = run->io.direction;
		exit->u.io.count = run->io.count;
		exit->u.io.data = (uint8_t *)run + run->io.data_offset;
	} else if (KVM_LIKELY(run->exit_reason == KVM_EXIT_MMIO)) {
		exit->kind = IMPOST_EXIT_MMIO;
		exit->u.mmio.gpa = run->mmio.phys_addr;
		exit->u.mmio.size = (uint8_t)run->mmio.len;
		exit->u.mmio.dir = run->mmio.is_write;
		exit->u.mmio.reserved = 0;
		exit->u.mmio.count = 1;
		exit->u.mmio.data = run->mmio.data;
	} else {
		return false;
	}
	exit->size = sizeof(*exit);
	v->pending = 1;
	return true;
}

/* --- state.c: sections; the tables in it lead to the functions below --- */
int32_t kvm_vcpu_state_get(void *vcpu, uint32_t section, void *buf, uint32_t capacity,
			   uint32_t *ret_size);
int32_t kvm_vcpu_state_set(void *vcpu, uint32_t section, const void *buf, uint32_t bytes);
int32_t kvm_vm_state_get(void *vm, uint32_t section, void *buf, uint32_t capacity,
			 uint32_t *ret_size);
int32_t kvm_vm_state_set(void *vm, uint32_t section, const void *buf, uint32_t bytes);

/* 0, or -EBUSY with a text while an exit waits for its answer. */
int32_t kvm_vcpu_settled(const struct vcpu *vcpu);

/*
 * Sections of fixed length: get fills a zeroed struct (but for `size`), set takes a whole one.
 * Those that vary do their own lengths, and their buffers may be unaligned.
 */
#define KVM_SECTION_FIXED(object, name)                        \
	int32_t kvm_##name##_get(struct object *o, void *buf); \
	int32_t kvm_##name##_set(struct object *o, const void *buf)
#define KVM_SECTION_VARIES(object, name)                                                          \
	int32_t kvm_##name##_get(struct object *o, void *buf, uint32_t capacity, uint32_t *size); \
	int32_t kvm_##name##_set(struct object *o, const void *buf, uint32_t bytes)

KVM_SECTION_FIXED(vcpu, regs);
KVM_SECTION_FIXED(vcpu, sregs);
KVM_SECTION_FIXED(vcpu, debugregs);
KVM_SECTION_FIXED(vcpu, lapic);
KVM_SECTION_FIXED(vcpu, events);
KVM_SECTION_FIXED(vcpu, runstate);
KVM_SECTION_FIXED(vcpu, tsc);
KVM_SECTION_VARIES(vcpu, xsave);
KVM_SECTION_VARIES(vcpu, nested);
KVM_SECTION_FIXED(vm, pic);
KVM_SECTION_FIXED(vm, ioapic);
KVM_SECTION_FIXED(vm, pit);
KVM_SECTION_FIXED(vm, clock);

#endif
