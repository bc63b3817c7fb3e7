/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plugin ABI: the only header that a plugin author needs. docs/plugin-abi.md maps each
 * operation to KVM, MSHV, Xen, NVMM and WHP.
 *
 * A plugin is a shared object that exports one symbol, `impost_plugin`, a const descriptor that is
 * plain data. The core reads and judges it before it calls anything. A plugin links no symbol of
 * the core: what it needs comes in struct impost_host.
 *
 * Rules that hold for every operation unless it says otherwise:
 *  - it returns 0 or a negative errno (or error.h) value, and on failure names what was wrong
 *    through host->error (impost_host_error() below); outputs are untouched and the object is as
 *    it was;
 *  - pointers given in are valid during the call only, pointers named `hva` and `handle` until
 *    told otherwise;
 *  - it may be called by any thread, and operations on different objects at once. The core
 *    serialises operations of one VM against its creation and destruction, and nothing else;
 *  - a NULL operation is one that the backend does not have; mandatory ones are marked. The core
 *    answers -ENOTSUP for those that are missing.
 *
 * Numbers are little-endian as the CPU has them; gpa and sizes are bytes.
 */
#ifndef IMPOST_BACKEND_H
#define IMPOST_BACKEND_H

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <impost/error.h>
#include <impost/exit.h>
#include <impost/log.h>
#include <impost/version.h>
#include <impost/x86_64/state.h>

/* Capability bits; impost_caps_has() tests one. */
#define IMPOST_CAP(bit, NAME, name, what) IMPOST_CAP_##NAME = bit,
enum impost_cap {
#include <impost/caps.def>
	IMPOST_CAP_COUNT
};
#undef IMPOST_CAP

/* Where interrupt controllers live. */
#define IMPOST_IRQCHIP_DEFAULT 0u /* what the backend's options say, or else the most it has */
#define IMPOST_IRQCHIP_NONE    1u
#define IMPOST_IRQCHIP_LAPIC   2u /* KVM: split irqchip */
#define IMPOST_IRQCHIP_FULL    3u

/* What a backend can do here, as data. */
struct impost_caps {
	uint32_t size;
	uint32_t irqchip; /* IMPOST_IRQCHIP_*: what IMPOST_IRQCHIP_DEFAULT comes to */
	uint64_t bits[2]; /* capability N is bit N % 64 of bits[N / 64] */
	uint32_t max_vcpus;
	uint32_t max_vcpu_id; /* highest vCPU (APIC) id */
	uint32_t max_slots;
	uint32_t max_gsis;	/* interrupt lines that routes can name */
	uint32_t max_io_claims; /* of each space; 0: no limit or no claims */
	uint32_t max_cpuid;	/* CPUID entries */
	uint32_t tsc_khz;   /* of the host; 0: not known before there is a vCPU, whose TSC has it */
	uint32_t phys_bits; /* guest-physical address width; 0: not known */
};
static_assert(sizeof(struct impost_caps) == 56, "ABI");

static inline int impost_caps_has(const struct impost_caps *caps, enum impost_cap cap)
{
	return (int)(caps->bits[(unsigned)cap / 64] >> ((unsigned)cap % 64) & 1);
}

static inline void impost_caps_add(struct impost_caps *caps, enum impost_cap cap)
{
	caps->bits[(unsigned)cap / 64] |= UINT64_C(1) << ((unsigned)cap % 64);
}

/*
 * What the core gives to a plugin. `ctx` is passed back as the first argument. Valid until the
 * object that it was given to is closed or destroyed. mem_* and answer are NULL in the struct given
 * to open.
 */
struct impost_host {
	uint32_t size;
	uint32_t abi_minor; /* of the core */
	void *ctx;

	/* Logs one line at IMPOST_LOG_*. Any thread. */
	void (*log)(void *ctx, uint32_t level, const char *text);

	/* Sets the calling thread's error text; copied. To be called only by an operation that then
	 * fails. */
	void (*error)(void *ctx, const char *text);

	/*
	 * The host address of guest memory at GPA, for LEN bytes, which must lie in one region:
	 * -EFAULT if not; -EIO: its file has become shorter. The address holds while the region
	 * stays; a write through it needs a region that the host may write.
	 */
	int32_t (*mem_lookup)(void *ctx, uint64_t gpa, uint64_t len, void **ret_hva);

	/*
	 * Backend memory in SLOT is at HVA from now on (IMPOST_CAP_MEM_MOVES). The VM must be
	 * paused. May be called inside mem_remove, for slots that stay. It waits for host threads
	 * that look at the memory, and these may be inside mark_dirty, dirty_fetch or dirty_clear:
	 * to be called with no lock held that those take. What was there before is not looked at
	 * any more when it returns.
	 */
	int32_t (*mem_moved)(void *ctx, uint32_t slot, void *hva);

	/*
	 * Asks the host to answer EXIT (IO, MMIO, RDMSR, WRMSR, HYPERCALL) in the middle of a run
	 * of vCPU ID (IMPOST_CAP_IO_CALLBACKS): for hypervisors that emulate instructions in user
	 * space. Called on the thread that runs the vCPU, inside run or complete. -ENOTSUP: the
	 * host does not use callbacks; the backend then returns the exit from run where it can, and
	 * fails where it cannot.
	 */
	int32_t (*answer)(void *ctx, uint32_t id, struct impost_exit *exit);
	/* ABI 1.0 ends here. */
};
static_assert(sizeof(struct impost_host) == 56, "ABI");

/* Formats an error text for HOST and returns ERR, for use as `return impost_host_error(host,
 * -EINVAL, ...)`. */
static inline int32_t impost_host_error(const struct impost_host *host, int32_t err,
					const char *fmt, ...) IMPOST_PRINTF(3, 4);
static inline int32_t impost_host_error(const struct impost_host *host, int32_t err,
					const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	host->error(host->ctx, text);
	return err;
}

#ifdef __clang_analyzer__
/* The analyzer does not look into variadic functions: it does not know that ERR comes back. */
#define impost_host_error(host, err, ...) (impost_host_error(host, err, __VA_ARGS__), (err))
#endif

/* Formats a log line for HOST. */
static inline void impost_host_log(const struct impost_host *host, uint32_t level, const char *fmt,
				   ...) IMPOST_PRINTF(3, 4);
static inline void impost_host_log(const struct impost_host *host, uint32_t level, const char *fmt,
				   ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	host->log(host->ctx, level, text);
}

/*
 * An option that a plugin takes: a key of its INI section, `[backend.NAME]` or `[layer.NAME]`. The
 * core refuses keys that are not described, and values of the wrong type, with file and line,
 * before the plugin is opened.
 */
#define IMPOST_OPTION_STRING 1u
/* Relative ones are taken from the INI file's folder; the plugin gets it joined. */
#define IMPOST_OPTION_PATH 2u
#define IMPOST_OPTION_ENUM 3u /* one of `choices`, words separated by '|' */
#define IMPOST_OPTION_UINT 4u /* decimal or 0x; handed over as written */
/* Bytes, with an optional suffix K, M, G, T (powers of 1024); handed over in bytes. */
#define IMPOST_OPTION_SIZE 5u
#define IMPOST_OPTION_BOOL 6u /* yes, no, true, false, on, off, 1, 0; handed over as "1" or "0" */

struct impost_option_desc {
	uint32_t size;
	uint32_t type; /* IMPOST_OPTION_* */
	const char *key;
	const char *choices;	   /* for IMPOST_OPTION_ENUM, else NULL */
	const char *default_value; /* text for the user; NULL: none */
	const char *help;	   /* one line */
};
static_assert(sizeof(struct impost_option_desc) == 40, "ABI");

/* An option that was given. `where` says where ("FILE:LINE" or "command line"), for error texts. */
struct impost_option {
	const char *key;
	const char *value;
	const char *where;
};

/* What open is given. */
struct impost_open_args {
	uint32_t size;
	uint32_t noptions;
	const struct impost_option *options; /* described ones only, each at most once */
	const struct impost_host *host;
	/*
	 * For a layer: the operations and the handle of the backend (or layer) under it, valid
	 * until close has returned; else NULL. What is NULL there the core makes NULL in this
	 * layer's tables too, but for `extension`.
	 */
	const struct impost_backend_ops *below_ops;
	void *below;
	/* For a layer: the name and version of the backend at the bottom; else NULL. */
	const char *backend;
	const char *backend_version;
};
static_assert(sizeof(struct impost_open_args) == 56, "ABI");

/*
 * How a backend that kicks by a signal keeps that signal from doing anything else.
 *
 * MASK: the signal is blocked in each thread that runs a vCPU, from its first run on, and let
 * through only while the hypervisor runs the guest. No handler is needed, and none is ever called.
 * What else is let through then is what the thread's mask lets through at that first run.
 * On KVM each run then changes the thread's signal mask twice.
 *
 * HANDLER: the host has a handler for the signal, which may be empty, and does not block the signal
 * in the threads that run vCPUs. The handler is called once at the most for each kick, inside run.
 * Nothing is added to a run.
 */
#define IMPOST_KICK_MASK    0u
#define IMPOST_KICK_HANDLER 1u

/* What a VM is to be. */
struct impost_vm_args {
	uint32_t size;
	uint32_t max_vcpus;   /* vCPUs that will be created at the most: 1 to caps.max_vcpus */
	uint32_t irqchip;     /* IMPOST_IRQCHIP_* */
	uint32_t kick_signal; /* the backend may send it to a thread inside run; see kick */
	const struct impost_host *host; /* of this VM; valid until vm destroy returns */
	uint32_t kick_by;		/* IMPOST_KICK_* */
	uint32_t reserved;
};
static_assert(sizeof(struct impost_vm_args) == 32, "ABI");

/* A piece of guest memory. */
struct impost_slot {
	uint32_t size;
	uint32_t slot;	/* number chosen by the core, below caps.max_slots */
	uint64_t gpa;	/* multiple of 4096 */
	uint64_t bytes; /* multiple of 4096, not 0 */
	void *hva;	/* host's memory, page-aligned; ignored by mem_provide */
	uint32_t flags; /* IMPOST_SLOT_* */
	int32_t fd;	/* file behind hva and its offset, for hypervisors that map files; -1: none,
			 * or private: what is written there is not in it */
	uint64_t fd_offset;
};
static_assert(sizeof(struct impost_slot) == 48, "ABI");

#define IMPOST_SLOT_READONLY 1u /* guest writes exit as MMIO (IMPOST_CAP_MEM_READONLY) */
#define IMPOST_SLOT_ROM_DROP 2u /* guest writes are dropped (IMPOST_CAP_MEM_ROM_DROP) */

/* Address spaces of I/O. */
#define IMPOST_SPACE_PIO  1u
#define IMPOST_SPACE_MMIO 2u

/* One entry of the interrupt routing table: GSI leads to a pin of a controller, or to a message. */
struct impost_gsi_route {
	uint32_t gsi;
	uint32_t type; /* IMPOST_ROUTE_* */
	uint32_t pin;
	uint32_t msi_data;
	uint64_t msi_address;
};
static_assert(sizeof(struct impost_gsi_route) == 24, "ABI");

#define IMPOST_ROUTE_PIC_MASTER 1u
#define IMPOST_ROUTE_PIC_SLAVE	2u
#define IMPOST_ROUTE_IOAPIC	3u
#define IMPOST_ROUTE_MSI	4u

/* An eventfd that raises GSI. */
struct impost_irqfd {
	uint32_t size;
	uint32_t gsi;
	int32_t fd;
	int32_t resample_fd; /* signalled at EOI, for level-triggered lines; -1: edge-triggered */
	uint32_t remove;     /* 1: undo an earlier one with the same fd and gsi */
	uint32_t reserved;
};
static_assert(sizeof(struct impost_irqfd) == 24, "ABI");

/* An eventfd that is signalled when the guest writes. */
struct impost_ioeventfd {
	uint32_t size;
	uint32_t space; /* IMPOST_SPACE_* */
	uint64_t address;
	uint32_t bytes; /* width of the access: 1, 2, 4, 8; 0: any */
	int32_t fd;
	uint64_t match; /* only when this value is written, if has_match */
	uint32_t has_match;
	uint32_t remove; /* 1: undo an earlier one that was the same */
};
static_assert(sizeof(struct impost_ioeventfd) == 40, "ABI");

/* MSRs whose accesses exit to the host. */
struct impost_msr_range {
	uint32_t first;
	uint32_t count;
	uint32_t flags; /* IMPOST_MSR_EXIT_* */
	uint32_t reserved;
};
static_assert(sizeof(struct impost_msr_range) == 16, "ABI");

#define IMPOST_MSR_EXIT_READ  1u
#define IMPOST_MSR_EXIT_WRITE 2u

/* What the host debugs in a vCPU. */
struct impost_guest_debug {
	uint32_t size;
	uint32_t flags; /* IMPOST_DEBUG_*; 0: nothing */
	uint64_t dr[4]; /* linear addresses (SDM vol. 3, 18.2.1) */
	uint64_t dr7;
};
static_assert(sizeof(struct impost_guest_debug) == 48, "ABI");

#define IMPOST_DEBUG_SINGLE_STEP 1u
#define IMPOST_DEBUG_SW_BREAK	 2u /* INT3 exits */
#define IMPOST_DEBUG_HW_BREAK	 4u /* dr and dr7 are used */

/*
 * Operations on a VM. `vm` is the handle that vm_create gave.
 */
struct impost_vm_ops {
	uint32_t size;
	uint32_t reserved;

	/* Mandatory. Ends the VM. No vCPU exists any more and no other call is under way. Cannot
	 * fail. */
	void (*destroy)(void *vm);

	/*
	 * Mandatory. Makes vCPU ID (its APIC id). Any thread; the thread that will run it need not
	 * be this one. -EEXIST: that id is taken; -EINVAL: too high; -ENOSPC: more than max_vcpus.
	 */
	int32_t (*vcpu_create)(void *vm, uint32_t id, void **ret_vcpu);

	/* --- memory --- */

	/*
	 * Puts the host's memory at slot->hva into the guest (IMPOST_CAP_MEM_HOST). The memory
	 * stays mapped until mem_remove. Legal while vCPUs run. The core has checked alignment and
	 * overlap.
	 */
	int32_t (*mem_add)(void *vm, const struct impost_slot *slot);

	/* Allocates guest memory and maps it for the host (IMPOST_CAP_MEM_BACKEND); *ret_hva holds
	 * until removed. */
	int32_t (*mem_provide)(void *vm, const struct impost_slot *slot, void **ret_hva);

	/*
	 * Takes a slot away; its dirty log ends, and what was in it is gone: a slot that gets the
	 * number later has nothing of it. When it returns no vCPU sees the memory any more.
	 * Legal while vCPUs run.
	 */
	int32_t (*mem_remove)(void *vm, uint32_t slot);

	/* The host wrote guest memory (IMPOST_CAP_MARK_DIRTY). */
	int32_t (*mark_dirty)(void *vm, uint64_t gpa, uint64_t bytes);

	/*
	 * --- dirty log (IMPOST_CAP_DIRTY_LOG), one for each slot; a bit is a 4096-byte page, bit 0
	 * of word 0 the first page of the slot ---
	 *
	 * All of it is legal while vCPUs run, by any thread, and at once with everything but
	 * mem_remove of the same slot. How a hypervisor keeps its log (a bitmap, rings of the pages
	 * that each vCPU wrote) stays behind these operations: a ring that is full is emptied
	 * inside run, without an exit.
	 */

	/*
	 * Starts logging. Without IMPOST_CAP_DIRTY_INITIALLY_SET the log is empty, but for what
	 * vCPUs inside run wrote just before; with it every page is dirty. What a vCPU writes after
	 * this has returned is logged. -EEXIST: the slot has a log; -ENOENT: there is no such slot.
	 */
	int32_t (*dirty_start)(void *vm, uint32_t slot);

	/* Ends logging; what is in the log is gone. -ENOENT: no such slot, or it has no log. */
	int32_t (*dirty_stop)(void *vm, uint32_t slot);

	/*
	 * ORs the slot's dirty pages into BITMAP of NWORDS words (enough for the slot: else
	 * -ENOSPC). Without IMPOST_CAP_DIRTY_MANUAL this also clears the log, before it returns:
	 * a page that is read after that, and written again, is in the next fetch. With it the
	 * pages stay dirty and write-unprotected until dirty_clear. What the backend itself writes
	 * on the guest's behalf (string input, an instruction emulated in user space) is in the log
	 * like the guest's own writes.
	 *
	 * Complete for each vCPU that is not inside run; writes of one that is may come with a
	 * later fetch (a processor may hold back what it logs until it leaves the guest). So the
	 * last fetch of a migration comes when the vCPUs have left run. Of vCPUs that were
	 * destroyed everything is there.
	 *
	 * -ENOENT: no such slot, or it has no log; -EIO: the hypervisor has lost track of what was
	 * written, and no log of the VM that is on now can be trusted, now or later. When all have
	 * been stopped, those that are started then can.
	 */
	int32_t (*dirty_fetch)(void *vm, uint32_t slot, uint64_t *bitmap, uint64_t nwords);

	/*
	 * Clears pages FIRST to FIRST + NPAGES - 1 whose bit in BITMAP is set (bit 0 is FIRST;
	 * FIRST is a multiple of 64). Bits above NPAGES are not looked at. What is written to them
	 * after this has returned is logged. IMPOST_CAP_DIRTY_MANUAL. -EINVAL: pages beyond the
	 * slot, or FIRST; -ENOENT: no such slot, or it has no log.
	 */
	int32_t (*dirty_clear)(void *vm, uint32_t slot, uint64_t first, uint64_t npages,
			       const uint64_t *bitmap);

	/* --- running --- */

	/*
	 * Stops and lets go all vCPUs (IMPOST_CAP_VM_PAUSE). After pause, run returns INTR until
	 * resume. A VM is made at rest: until a vCPU is first run, state is reached without pause.
	 */
	int32_t (*pause)(void *vm);
	int32_t (*resume)(void *vm);

	/*
	 * Takes the next event of the VM: SHUTDOWN or RESET (IMPOST_CAP_VM_EVENTS). -EAGAIN: none.
	 */
	int32_t (*event)(void *vm, struct impost_exit *ret_exit);

	/*
	 * A descriptor that is readable when event has something; the backend's, not to be closed.
	 */
	int32_t (*event_fd)(void *vm, int32_t *ret_fd);

	/* Claims (or gives back) an I/O range, FIRST to LAST, in IMPOST_SPACE_*
	 * (IMPOST_CAP_IO_CLAIMS). */
	int32_t (*io_claim)(void *vm, uint32_t space, uint64_t first, uint64_t last);
	int32_t (*io_release)(void *vm, uint32_t space, uint64_t first, uint64_t last);

	/* --- interrupts --- */

	/* Sets line GSI to LEVEL 0 or 1. An edge is 1, then 0. */
	int32_t (*irq_line)(void *vm, uint32_t gsi, uint32_t level);

	/* Delivers a message (SDM vol. 3, 11.11). -EAGAIN: the guest blocks it. */
	int32_t (*msi)(void *vm, uint64_t address, uint32_t data);

	/* Replaces the whole routing table. */
	int32_t (*gsi_routes)(void *vm, const struct impost_gsi_route *routes, uint32_t nroutes);

	int32_t (*irqfd)(void *vm, const struct impost_irqfd *irqfd);
	int32_t (*ioeventfd)(void *vm, const struct impost_ioeventfd *ioeventfd);

	/* --- policy --- */

	/*
	 * Which MSRs exit: NRANGES ranges, and with UNKNOWN 1 also those that the hypervisor does
	 * not know. Replaces what was set before.
	 */
	int32_t (*msr_exits)(void *vm, const struct impost_msr_range *ranges, uint32_t nranges,
			     uint32_t unknown);

	/*
	 * CPUID of all vCPUs (IMPOST_CAP_CPUID_PER_VM). -EBUSY: a vCPU has run, or its state has
	 * been reached where that is when the hypervisor freezes policy: CPUID comes first.
	 */
	int32_t (*cpuid_set)(void *vm, const struct impost_x86_cpuid *entries, uint32_t count);

	/* --- state of the VM: IMPOST_VM_SECTION in x86_64/sections.def; same rules as for vCPUs,
	 * below --- */
	int32_t (*state_get)(void *vm, uint32_t section, void *buf, uint32_t capacity,
			     uint32_t *ret_size);
	int32_t (*state_set)(void *vm, uint32_t section, const void *buf, uint32_t bytes);

	/*
	 * An interface of this backend only, by name; NULL if it has none of that name. For tests.
	 */
	const void *(*extension)(void *vm, const char *name, void **ret_handle);
	/* ABI 1.0 ends here. */
};
static_assert(sizeof(struct impost_vm_ops) == 8 + 26 * 8, "ABI");

/*
 * Operations on a vCPU. One thread at a time is inside run, complete or any other of them; the core
 * sees to it. kick is the exception: any thread, any time.
 */
struct impost_vcpu_ops {
	uint32_t size;
	uint32_t reserved;

	/* Mandatory. Ends the vCPU; it is not running. Cannot fail. */
	void (*destroy)(void *vcpu);

	/*
	 * Mandatory. Runs the guest until something needs the host. Takes the answer to the exit
	 * before. Returns 0 and one exit. The exit's pointers hold until the next run, complete or
	 * destroy. INTR when kicked, or when a signal that is not blocked came for this thread. A
	 * negative value means that the hypervisor failed; an unrunnable guest is FAIL_ENTRY or
	 * INTERNAL_ERROR.
	 */
	int32_t (*run)(void *vcpu, struct impost_exit *ret_exit);

	/*
	 * Finishes pending I/O without running the guest: takes the answer to the last exit, so
	 * that state is whole. No exit pending: nothing happens. Mandatory where exits need an
	 * answer (IMPOST_CAP_COMPLETE). If finishing makes a further access necessary (a string or
	 * page-crossing access), 0 is returned and *ret_exit is that exit, to be answered before
	 * complete is called again; else its kind is NONE. A pause begins with it
	 * (impost_vm_hold()): on the thread that runs the vCPU, perhaps after the VM's pause.
	 */
	int32_t (*complete)(void *vcpu, struct impost_exit *ret_exit);

	/*
	 * Mandatory. Makes run return INTR: the run under way, or else the next one, at once. Never
	 * lost; kicks that meet before run returns count as one. Any thread; async-signal-safe.
	 */
	int32_t (*kick)(void *vcpu);

	/* Injects an NMI; a non-maskable interrupt line with memory of one. */
	int32_t (*nmi)(void *vcpu);

	/* Injects external interrupt VECTOR (IMPOST_CAP_IRQ_INJECT), which waits until the guest
	 * can take it. -EBUSY: one waits already. -ENOTSUP: not with this irqchip. */
	int32_t (*irq_inject)(void *vcpu, uint32_t vector);

	/*
	 * Asks (1) or ceases to ask (0) for IRQ_WINDOW as soon as the vCPU can take an interrupt.
	 */
	int32_t (*irq_window)(void *vcpu, uint32_t on);

	/* Sets what the host debugs. Replaces what was set before. */
	int32_t (*guest_debug)(void *vcpu, const struct impost_guest_debug *debug);

	/* Linear to physical address with the vCPU's present paging. -EFAULT: not mapped. */
	int32_t (*translate)(void *vcpu, uint64_t gva, uint64_t *ret_gpa);

	/* --- state; the vCPU has no I/O pending (see complete), or reading it is -EBUSY, which
	 * comes before -ENOSPC --- */

	/*
	 * Mandatory. Gets a section (IMPOST_VCPU_SECTION in x86_64/sections.def) into BUF.
	 * *ret_size is the section's bytes, also set with -ENOSPC, when they are more than
	 * CAPACITY. -ENOTSUP: the backend has no such section; -ENOENT: there is nothing in it.
	 */
	int32_t (*state_get)(void *vcpu, uint32_t section, void *buf, uint32_t capacity,
			     uint32_t *ret_size);

	/*
	 * Mandatory. Sets a section; its `size` has been checked against BYTES. -IMPOST_ESTATE: a
	 * value that hardware would refuse; the text names the register and the rule.
	 */
	int32_t (*state_set)(void *vcpu, uint32_t section, const void *buf, uint32_t bytes);

	/*
	 * Gets (indices given, values filled) and sets MSRs, in order. On failure *ret_done is the
	 * number done before the one that was refused, which the text names; those are done. On
	 * success it is COUNT.
	 */
	int32_t (*msrs_get)(void *vcpu, struct impost_x86_msr *msrs, uint32_t count,
			    uint32_t *ret_done);
	int32_t (*msrs_set)(void *vcpu, const struct impost_x86_msr *msrs, uint32_t count,
			    uint32_t *ret_done);

	/* CPUID of this vCPU (IMPOST_CAP_CPUID_PER_VCPU), before its first run: later -EBUSY. */
	int32_t (*cpuid_set)(void *vcpu, const struct impost_x86_cpuid *entries, uint32_t count);

	/* What the vCPU's CPUID is. *ret_count is the number there are, also with -ENOSPC. */
	int32_t (*cpuid_get)(void *vcpu, struct impost_x86_cpuid *entries, uint32_t capacity,
			     uint32_t *ret_count);
	/* ABI 1.0 ends here. */
};
static_assert(sizeof(struct impost_vcpu_ops) == 8 + 15 * 8, "ABI");

/* Operations of a backend as a whole. */
struct impost_backend_ops {
	uint32_t size;
	uint32_t reserved;
	const struct impost_vm_ops *vm;	    /* mandatory */
	const struct impost_vcpu_ops *vcpu; /* mandatory */

	/*
	 * Mandatory. Opens the backend, if it can run here: no guest is made. If it cannot, the
	 * error text is a sentence for the user, the reason and what to do about it: "cannot open
	 * /dev/kvm: permission denied: add yourself to the group kvm". -ENODEV, -ENOENT: no such
	 * hypervisor here; -EACCES: no permission; -ENOTSUP: it lacks something necessary; -EINVAL:
	 * an option is wrong.
	 */
	int32_t (*open)(const struct impost_open_args *args, void **ret_backend);

	/* Mandatory. No VM of it lives any more. Cannot fail. */
	void (*close)(void *backend);

	/* Mandatory. What it can do here. `ret_caps->size` says how much room there is. */
	int32_t (*caps)(void *backend, struct impost_caps *ret_caps);

	/* Mandatory. -EINVAL, -ENOMEM, or what the hypervisor says. */
	int32_t (*vm_create)(void *backend, const struct impost_vm_args *args, void **ret_vm);

	/* CPUID that guests can be given here. As cpuid_get. */
	int32_t (*cpuid_supported)(void *backend, struct impost_x86_cpuid *entries,
				   uint32_t capacity, uint32_t *ret_count);

	/* Indices of the MSRs that can be got and set. *ret_count is the number there are, also
	 * with -ENOSPC. */
	int32_t (*msr_list)(void *backend, uint32_t *indices, uint32_t capacity,
			    uint32_t *ret_count);

	/*
	 * MSRs that tell of features (msrs.def: FEATURE) with the most that each tells of in guests
	 * here, as far as that is known before there is a guest; none twice. State whose guest was
	 * told of more is refused beforehand; what is not among them shows when state is loaded.
	 * *ret_count is the number there are, also with -ENOSPC.
	 */
	int32_t (*feature_msrs)(void *backend, struct impost_x86_msr *msrs, uint32_t capacity,
				uint32_t *ret_count);
	/* ABI 1.0 ends here. */
};
static_assert(sizeof(struct impost_backend_ops) == 8 + 9 * 8, "ABI");

/* What a plugin is. */
#define IMPOST_PLUGIN_BACKEND 1u
#define IMPOST_PLUGIN_LAYER   2u

#define IMPOST_PLUGIN_MAGIC   UINT32_C(0x54504d49) /* "IMPT" */

/*
 * The descriptor: what the plugin exports, `const`, as `impost_plugin`. A change in the order or
 * meaning of the first five members, or in the ops above, needs another ABI major.
 */
struct impost_plugin {
	uint32_t size;
	uint32_t magic; /* IMPOST_PLUGIN_MAGIC */
	uint16_t abi_major;
	uint16_t abi_minor;
	uint32_t kind;		  /* IMPOST_PLUGIN_BACKEND or _LAYER */
	const char *name;	  /* 1 to 15 characters: a-z, 0-9, '-'; the file is NAME.so */
	const char *version;	  /* the plugin's own */
	const char *summary;	  /* one line */
	const char *capabilities; /* one line of words for people; what holds here is in caps */
	const struct impost_backend_ops *ops;
	const struct impost_option_desc *options;
	uint32_t noptions;
	uint32_t reserved;
	/* ABI 1.0 ends here. */
};
static_assert(sizeof(struct impost_plugin) == 72, "ABI");
static_assert(offsetof(struct impost_plugin, name) == 16, "ABI");

/* The symbol's name. */
#define IMPOST_PLUGIN_SYMBOL "impost_plugin"

#endif
