/* SPDX-License-Identifier: Apache-2.0 */
/* The mock's objects, and what its files offer to each other. */
#ifndef MOCK_INTERNAL_H
#define MOCK_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <impost/backend.h>
#include <impost/mock.h>

#include "script.h"
#include "steps.h"

#define MOCK_MAX_VCPUS	 1024u
#define MOCK_MAX_VCPU_ID 4095u /* topologies leave gaps between ids */
#define MOCK_MAX_SLOTS	 512u
#define MOCK_MAX_GSIS	 256u
#define MOCK_MAX_CPUID	 256u
#define MOCK_MAX_CLAIMS	 256u
#define MOCK_PHYS_BITS	 46u	     /* room for guests of many TiB */
#define MOCK_TSC_KHZ	 2000000u    /* the mock's own "host" TSC: two ticks a nanosecond */
#define MOCK_XCR0	 UINT64_C(7) /* x87, SSE, AVX */
#define MOCK_XSAVE_AREA	 832u	     /* bytes: legacy region, header, AVX */
#define MOCK_PAGE	 4096u

#define ARRAY_LEN(a)	 (sizeof(a) / sizeof((a)[0]))

struct cassette_header;
struct cassette_memory;
struct cassette_reader;
struct mock_play;

struct mock_backend {
	struct impost_host host;
	char *cassette;			/* the file; NULL: none */
	uint64_t cassette_wait;		/* ms */
	struct cassette_reader *reader; /* for its header */
	const struct cassette_header *header;
	struct mock_script *script; /* NULL: none */
	bool check_entry;
	bool claims; /* I/O ranges must be claimed */
	bool cpuid_per_vm;
	bool dirty_manual;
	bool dirty_initially_set;
	bool memory_moves;
};

/* What one vCPU id has to play. Lives as long as the VM; appended to by any thread. */
struct mock_tape {
	struct mock_tape *next;
	uint32_t id;
	bool ends; /* it came from a script: its end is an error */
	pthread_mutex_t lock;
	struct mock_steps steps;
	uint32_t at;
	uint64_t played;
};

struct mock_slot {
	struct mock_slot *next;
	struct impost_slot s;
	uint64_t *dirty; /* NULL: not logging */
	bool provided;	 /* hva is the mock's own mapping */
};

struct mock_claim {
	uint32_t space;
	uint64_t first, last;
};

struct mock_ioeventfd {
	struct mock_ioeventfd *next;
	struct impost_ioeventfd args;
	int fd; /* our duplicate */
};

struct mock_irqfd {
	struct mock_irqfd *next;
	uint32_t gsi;
	int32_t given; /* the host's descriptor */
	int fd;	       /* our duplicate */
};

struct mock_event {
	struct mock_event *next;
	struct impost_exit exit;
};

struct mock_vcpu;

struct mock_vm {
	const struct impost_vm_ops *ops; /* first: see ops.c */
	struct mock_backend *backend;
	struct mock_play *play; /* a cassette's; NULL: none is played */
	const struct impost_host *host;
	uint32_t max_vcpus;
	uint32_t irqchip;

	/* Guards all below but the atomics. Never held while run waits. */
	pthread_mutex_t lock;
	pthread_cond_t left_run; /* a vCPU left run: for pause */
	struct mock_vcpu *vcpus;
	uint32_t nvcpus;
	struct mock_tape *tapes;
	struct mock_slot *slots;
	atomic_uint slots_generation;
	atomic_bool paused;
	uint32_t running;
	bool has_run; /* any vCPU */

	struct mock_claim claims[MOCK_MAX_CLAIMS];
	uint32_t nclaims;
	struct mock_event *events;
	int event_fd;

	struct impost_gsi_route *routes;
	uint32_t nroutes;
	struct mock_ioeventfd *ioeventfds;
	struct impost_mock_irq *irqs;
	uint32_t nirqs;

	/* Taken before `lock`. The thread exists once there has been an irqfd. */
	pthread_mutex_t irqfd_lock;
	struct mock_irqfd *irqfds;
	bool irqfd_thread_up;
	pthread_t irqfd_thread;
	int irqfd_epoll;
	int irqfd_stop; /* eventfd: ends the thread */

	struct impost_msr_range *msr_ranges;
	uint32_t nmsr_ranges;
	uint32_t msr_unknown;

	struct impost_x86_cpuid *cpuid; /* cpuid_per_vm */
	uint32_t ncpuid;

	_Atomic uint64_t clock_ns; /* since the VM was made */
	uint64_t clock_offset;
	struct impost_x86_pic pic;
	struct impost_x86_ioapic ioapic;
	struct impost_x86_pit pit;
	struct impost_x86_opaque *opaque;
};

/* The XSAVE section with the mock's area. */
#define MOCK_XSAVE_BYTES (sizeof(struct impost_x86_xsave) + MOCK_XSAVE_AREA)

#define MOCK_NMSRS_MAX	 128u

struct mock_vcpu {
	const struct impost_vcpu_ops *ops; /* first: see ops.c */
	struct mock_vcpu *next;
	struct mock_vm *vm;
	uint32_t id;
	struct mock_tape *tape;

	/* Written by any thread. */
	atomic_bool kicked;
	atomic_bool irq_pending;
	atomic_uint sipi; /* vector | SIPI_CAME */
	int wake_fd;	  /* readable when one of them, or the tape, changed */

	/* Of the thread inside. */
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct impost_x86_debugregs debugregs;
	struct impost_x86_lapic lapic;
	struct impost_x86_events events;
	struct impost_x86_runstate runstate;
	_Alignas(64) uint8_t xsave[MOCK_XSAVE_BYTES]; /* mock_vcpu_xsave() */
	uint8_t *opaque;			      /* items that the mock does not look into */
	uint32_t opaque_bytes;
	uint64_t tsc_base; /* guest's TSC at clock tsc_ns */
	uint64_t tsc_ns;
	uint32_t tsc_khz;
	uint64_t msrs[MOCK_NMSRS_MAX];
	struct impost_x86_cpuid *cpuid;
	uint32_t ncpuid;
	struct impost_guest_debug debug;
	uint32_t irq_window;
	int32_t vector; /* that the host has injected and the guest cannot take yet */

	bool has_run;
	bool checked; /* state passed the entry checks and has not changed */
	unsigned checked_generation;
	uint64_t delay_until; /* CLOCK_MONOTONIC, ns; 0: no delay is under way */
	uint32_t written;     /* bytes of the WRITE step under way that are done */

	/* The exit that waits for its answer. */
	bool pending;
	struct impost_mock_step pending_step;
	uint64_t answer; /* MSR, hypercall */
	uint8_t refused;
	_Alignas(8) uint8_t xfer[MOCK_XFER_MAX]; /* hosts read it as words */
	char text[512];				 /* of the last failure exit */
};

#define MOCK_SIPI_CAME 0x100u
#define MOCK_NO_VECTOR (-1)

static inline struct impost_x86_xsave *mock_vcpu_xsave(struct mock_vcpu *v)
{
	void *section = v->xsave;

	return section;
}

/* Text and error code in one: `return mock_error(vm, -EINVAL, "...")`. */
#define mock_error(vm, err, ...) impost_host_error((vm)->host, (err), __VA_ARGS__)

/* ops.c: what the core is given */
extern const struct impost_vm_ops mock_vm_ops;
extern const struct impost_vcpu_ops mock_vcpu_ops;

/* vm.c, vcpu.c: the mock's own */
extern const struct impost_vm_ops mock_own_vm_ops;
extern const struct impost_vcpu_ops mock_own_vcpu_ops;

/* cassette.c: the backend as a cassette has it. */
int32_t mock_cassette_open(struct mock_backend *b);
void mock_cassette_close(struct mock_backend *b);
int32_t mock_cassette_caps(const struct mock_backend *b, struct impost_caps *ret_caps);
int32_t mock_cassette_cpuid(const struct mock_backend *b, struct impost_x86_cpuid *entries,
			    uint32_t capacity, uint32_t *ret_count);
int32_t mock_cassette_msrs(const struct mock_backend *b, uint32_t *indices, uint32_t capacity,
			   uint32_t *ret_count);
int32_t mock_cassette_features(const struct mock_backend *b, struct impost_x86_msr *msrs,
			       uint32_t capacity, uint32_t *ret_count);

/* cassette_vm.c: makes VM one that plays its backend's cassette; _end also where that failed. */
int32_t mock_play_begin(struct mock_vm *vm, const struct impost_vm_args *args);
void mock_play_end(struct mock_vm *vm);

/* vm.c */
int32_t mock_vm_create(void *backend, const struct impost_vm_args *args, void **ret_vm);
void mock_vm_destroy(struct mock_vm *vm);
int32_t mock_vm_tape(struct mock_vm *vm, uint32_t id, struct mock_tape **ret_tape);
void mock_vm_wake_all(struct mock_vm *vm);

/* control.c */
extern const struct impost_mock_control mock_control;

/* vcpu.c */
int32_t mock_vcpu_create(void *vm, uint32_t id, void **ret_vcpu);
void mock_vcpu_wake(struct mock_vcpu *v);
void mock_vcpu_interrupt(struct mock_vcpu *v);
uint64_t mock_vcpu_tsc(const struct mock_vcpu *v);
void mock_vcpu_set_tsc(struct mock_vcpu *v, uint64_t value);

/* reset.c */
void mock_reset_vcpu(struct mock_vcpu *v);
void mock_reset_vm(struct mock_vm *vm);
void mock_reset_sipi(struct mock_vcpu *v, uint8_t vector);

/* vcpu_state.c */
int32_t mock_state_get(void *vcpu, uint32_t section, void *buf, uint32_t capacity,
		       uint32_t *ret_size);
int32_t mock_state_set(void *vcpu, uint32_t section, const void *buf, uint32_t bytes);

/* NULL if the guest's state as a whole can be entered, or the rule that it breaks (in v->text). */
const char *mock_entry_fault(struct mock_vcpu *v);

/* vm_state.c */
int32_t mock_vm_state_get(void *vm, uint32_t section, void *buf, uint32_t capacity,
			  uint32_t *ret_size);
int32_t mock_vm_state_set(void *vm, uint32_t section, const void *buf, uint32_t bytes);

/* Copies a section of HAVE bytes out, as state_get does. */
int32_t mock_section_out(const void *from, uint32_t have, void *buf, uint32_t capacity,
			 uint32_t *ret_size);
/* Copies the BYTES of a section in, into KNOWN bytes at TO: what is missing reads as zero. */
int32_t mock_section_in(const struct mock_vm *vm, void *to, uint32_t known, const void *buf,
			uint32_t bytes);
/* Takes in the VM's opaque section, which must be one that the mock wrote. */
int32_t mock_opaque_in(const struct mock_vm *vm, struct impost_x86_opaque **opaque, const void *buf,
		       uint32_t bytes);

/* opaque.c: the section of what is the mock's alone in a vCPU. */
int32_t mock_opaque_get(struct mock_vcpu *v, void *buf, uint32_t capacity, uint32_t *ret_size);
int32_t mock_opaque_set(struct mock_vcpu *v, const void *buf, uint32_t bytes);

/* memory.c */
int32_t mock_mem_add(void *vm, const struct impost_slot *slot);
int32_t mock_mem_provide(void *vm, const struct impost_slot *slot, void **ret_hva);
int32_t mock_mem_remove(void *vm, uint32_t slot);
int32_t mock_mark_dirty(void *vm, uint64_t gpa, uint64_t bytes);
int32_t mock_dirty_start(void *vm, uint32_t slot);
int32_t mock_dirty_stop(void *vm, uint32_t slot);
int32_t mock_dirty_fetch(void *vm, uint32_t slot, uint64_t *bitmap, uint64_t nwords);
int32_t mock_dirty_clear(void *vm, uint32_t slot, uint64_t first, uint64_t npages,
			 const uint64_t *bitmap);
void mock_mem_free(struct mock_vm *vm);
int32_t mock_mem_move(void *vm, uint64_t gpa);
/*
 * A guest's write as it was recorded: LEN bytes of DATA, or NULL for zeroes; LEN 0: the page at GPA
 * counts as written. What the guest could write does not matter. *TOUCHED keeps which memory is
 * known to be there, from call to call: UINT64_MAX to begin with. False: there is no memory.
 */
bool mock_mem_play(struct mock_vm *vm, uint64_t gpa, const void *data, uint64_t len,
		   uint64_t *touched);
/* All slots, in an array to be freed. -ENOMEM; -EFAULT: the file of one has become shorter. */
int32_t mock_mem_list(struct mock_vm *vm, struct cassette_memory **ret_memory, size_t *ret_count);
/* Reads BYTES (1 to 8, not crossing a page) of guest memory in one access. False: no memory. */
bool mock_mem_read(struct mock_vm *vm, uint64_t gpa, unsigned bytes, uint64_t *ret_value);
/* What became of a guest's write. */
enum mock_write { MOCK_WRITE_DONE, MOCK_WRITE_MMIO, MOCK_WRITE_NOWHERE };
/* Writes as much as lies in one page; *ret_done is that much. */
enum mock_write mock_mem_write(struct mock_vm *vm, uint64_t gpa, const uint8_t *data,
			       uint32_t bytes, uint32_t *ret_done);

/* irq.c */
int32_t mock_irq_line(void *vm, uint32_t gsi, uint32_t level);
int32_t mock_msi(void *vm, uint64_t address, uint32_t data);
int32_t mock_gsi_routes(void *vm, const struct impost_gsi_route *routes, uint32_t nroutes);
/* Makes the routing table that the VM starts with. */
int32_t mock_irq_default_routes(struct mock_vm *vm);
/* Adds to the interrupt log. -ENOSPC, -ENOMEM: no room; no error text. */
int32_t mock_irq_log(struct mock_vm *vm, const struct impost_mock_irq *irq);
/* Logs, and raises or lowers the line as its routes say. -EINVAL: none leads from it; no text. */
int32_t mock_irq_raise(struct mock_vm *vm, const struct impost_mock_irq *irq);

/* eventfd.c */
int32_t mock_irqfd(void *vm, const struct impost_irqfd *irqfd);
int32_t mock_ioeventfd(void *vm, const struct impost_ioeventfd *ioeventfd);
/* Signals an ioeventfd if one matches this write. */
bool mock_ioeventfd_hit(struct mock_vm *vm, uint32_t space, uint64_t address, uint32_t bytes,
			const uint8_t *data);
/* Raises what irqfds that are signalled now stand for. */
void mock_irqfd_poll(struct mock_vm *vm);
void mock_eventfd_free(struct mock_vm *vm);

/* msr.c */
int32_t mock_msr_list(void *backend, uint32_t *indices, uint32_t capacity, uint32_t *ret_count);
int32_t mock_feature_msrs(void *backend, struct impost_x86_msr *list, uint32_t capacity,
			  uint32_t *ret_count);
int32_t mock_msrs_get(void *vcpu, struct impost_x86_msr *msrs, uint32_t count, uint32_t *ret_done);
int32_t mock_msrs_set(void *vcpu, const struct impost_x86_msr *msrs, uint32_t count,
		      uint32_t *ret_done);
int32_t mock_msr_exits(void *vm, const struct impost_msr_range *ranges, uint32_t nranges,
		       uint32_t unknown);
/* IMPOST_MSR_REASON_* why a guest's access exits; 0: it does not. */
uint32_t mock_msr_exit_reason(struct mock_vm *vm, uint32_t index, uint32_t flag);
/* A guest's access. False: #GP. */
bool mock_msr_guest_read(struct mock_vcpu *v, uint32_t index, uint64_t *ret_value);
bool mock_msr_guest_may_write(struct mock_vcpu *v, uint32_t index, uint64_t value);
/* What the guest may write. */
void mock_msr_guest_write(struct mock_vcpu *v, uint32_t index, uint64_t value);
void mock_msr_reset(struct mock_vcpu *v);

/* cpuid.c */
int32_t mock_cpuid_supported(void *backend, struct impost_x86_cpuid *entries, uint32_t capacity,
			     uint32_t *ret_count);
int32_t mock_cpuid_set(void *vcpu, const struct impost_x86_cpuid *entries, uint32_t count);
int32_t mock_cpuid_get(void *vcpu, struct impost_x86_cpuid *entries, uint32_t capacity,
		       uint32_t *ret_count);
int32_t mock_vm_cpuid_set(void *vm, const struct impost_x86_cpuid *entries, uint32_t count);
int32_t mock_cpuid_default(struct mock_vcpu *v);
int32_t mock_cpuid_default_vm(struct mock_vm *vm);
uint32_t mock_cpuid_phys_bits(const struct mock_vcpu *v);
/* Does V have 57-bit linear addresses, and 1 GiB pages? */
bool mock_cpuid_has_la57(const struct mock_vcpu *v);
bool mock_cpuid_has_1g_pages(const struct mock_vcpu *v);

/* run.c */
int32_t mock_run(void *vcpu, struct impost_exit *ret_exit);
int32_t mock_complete(void *vcpu, struct impost_exit *ret_exit);
int32_t mock_translate(void *vcpu, uint64_t gva, uint64_t *ret_gpa);
/* Nanoseconds of the host's, by which delays are waited for. */
uint64_t mock_now_ns(void);

#endif
