/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The neutral exit: why a vCPU came back to the host. It crosses the plugin ABI, so its layout is
 * fixed: 128 bytes, whatever the kind; what a later minor adds takes the place of reserved bytes.
 */
#ifndef IMPOST_EXIT_H
#define IMPOST_EXIT_H

#include <assert.h>
#include <stddef.h>

#include <impost/version.h>

/* Kinds. Fixed numbers; exits.def holds number, name and what the host is to do. */
#define IMPOST_EXIT(number, NAME, name, what) IMPOST_EXIT_##NAME = number,
enum impost_exit_kind {
#include <impost/exits.def>
	IMPOST_EXIT_KINDS
};
#undef IMPOST_EXIT

/* Directions of IO, MMIO and MSR accesses, as the guest sees them. */
#define IMPOST_EXIT_READ  0u
#define IMPOST_EXIT_WRITE 1u

/* Why SHUTDOWN or RESET came. */
#define IMPOST_SHUTDOWN_TRIPLE_FAULT 1u /* SDM vol. 3, 6.15, "Interrupt 8": shutdown state */
#define IMPOST_SHUTDOWN_GUEST	     2u /* the guest asked through an interface of the hypervisor */
#define IMPOST_SHUTDOWN_CRASH	     3u /* the guest reported a crash through such an interface */

/* IMPOST_EXIT_IO: IN, OUT, INS, OUTS. */
struct impost_exit_io {
	uint16_t port;
	uint8_t size;	/* bytes of one access: 1, 2 or 4 */
	uint8_t dir;	/* IMPOST_EXIT_READ: the host fills data; IMPOST_EXIT_WRITE: it takes it */
	uint32_t count; /* accesses, at least 1; above 1 only for INS and OUTS */
	void *data;	/* size * count bytes, until the vCPU's next run, complete or destroy */
};

/* IMPOST_EXIT_MMIO: an access to a guest-physical address with no memory, or with write-trapping
 * memory. */
struct impost_exit_mmio {
	uint64_t gpa;
	uint8_t size; /* bytes: 1 to 8 */
	uint8_t dir;
	uint16_t reserved;
	uint32_t count; /* accesses at rising addresses; 1 but on hypervisors that hand over whole
			   string moves */
	void *data;	/* size * count bytes, as in impost_exit_io */
};

/* IMPOST_EXIT_RDMSR, IMPOST_EXIT_WRMSR. */
struct impost_exit_msr {
	uint32_t index;
	uint32_t reason;  /* IMPOST_MSR_REASON_* */
	uint64_t *value;  /* RDMSR: the host writes it; WRMSR: the value written */
	uint8_t *refused; /* the host writes 1 to raise #GP(0) in the guest, 0 to accept; 0 on
			     arrival */
};

#define IMPOST_MSR_REASON_ASKED	  1u /* within a range given to impost_vm_set_msr_exits() */
#define IMPOST_MSR_REASON_UNKNOWN 2u /* the hypervisor does not know the MSR */
#define IMPOST_MSR_REASON_INVALID 4u /* the hypervisor refuses the value */

/* IMPOST_EXIT_HYPERCALL. */
struct impost_exit_hypercall {
	uint64_t number;
	uint64_t args[6];
	uint64_t *result;   /* what the guest gets in RAX */
	uint32_t long_mode; /* 1: called from 64-bit mode */
	uint32_t reserved;
};

/* IMPOST_EXIT_SHUTDOWN, IMPOST_EXIT_RESET. */
struct impost_exit_shutdown {
	uint32_t reason; /* IMPOST_SHUTDOWN_* */
	uint32_t code;	 /* the hypervisor's own number, 0 if none */
};

/* IMPOST_EXIT_DEBUG (SDM vol. 3, 18.2). */
struct impost_exit_debug {
	uint64_t rip;
	uint64_t dr6;
	uint64_t dr7;
	uint32_t vector; /* 1 (#DB) or 3 (#BP) */
	uint32_t reserved;
};

/* IMPOST_EXIT_FAIL_ENTRY, IMPOST_EXIT_INTERNAL_ERROR. */
struct impost_exit_failure {
	uint64_t reason;  /* the hypervisor's or hardware's number */
	const char *text; /* what it means; never NULL, static storage of the backend */
	uint32_t ndata;	  /* further numbers from the hypervisor */
	uint32_t ninsn;	  /* bytes in insn; 0: not known */
	const uint64_t *data;
	uint8_t insn[16]; /* the bytes at RIP */
};

/* IMPOST_EXIT_OTHER: an exit of one hypervisor only. */
struct impost_exit_other {
	uint64_t number;
	const char *name; /* never NULL, static storage of the backend */
	const void *payload;
	uint64_t payload_size; /* bytes */
};

struct impost_exit {
	uint32_t size; /* bytes of this struct that the backend knows; set by the backend */
	uint32_t kind; /* IMPOST_EXIT_* */
	union {
		struct impost_exit_io io;
		struct impost_exit_mmio mmio;
		struct impost_exit_msr msr;
		struct impost_exit_hypercall hypercall;
		struct impost_exit_shutdown shutdown;
		struct impost_exit_debug debug;
		struct impost_exit_failure failure;
		struct impost_exit_other other;
		uint64_t reserved[15];
	} u;
};

static_assert(sizeof(struct impost_exit) == 128, "the exit crosses the plugin ABI");
static_assert(offsetof(struct impost_exit, u) == 8, "the exit crosses the plugin ABI");

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The name of EXIT's kind, "IO" to "INTERNAL_ERROR"; for OTHER the backend's own name for it; "?"
 * for a kind that this library does not know. Static storage, or the backend's. Any thread.
 */
IMPOST_API const char *impost_exit_name(const struct impost_exit *exit);

/*
 * Writes one line about EXIT, kind and particulars, into BUF of SIZE bytes, cut and terminated as
 * snprintf does. Returns the length of the whole line, as snprintf does. Reads EXIT's data, so only
 * while it is valid.
 */
IMPOST_API int impost_exit_format(const struct impost_exit *exit, char *buf, size_t size);

#ifdef __cplusplus
}
#endif

#endif
