/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock backend's own interface, for tests: scripts, clocks, interrupt log. Got with
 * impost_vm_extension(vm, IMPOST_MOCK_CONTROL, ...). See docs/mock.md for the script's language.
 */
#ifndef IMPOST_MOCK_H
#define IMPOST_MOCK_H

#include <stdint.h>

#include <impost/exit.h>

#define IMPOST_MOCK_CONTROL "mock.control/1"

/* What a step of a script does. */
/* Run returns `exit`, and what the host answers is compared if has_expect. */
#define IMPOST_MOCK_EXIT 1u
/* The guest writes `bytes` from `data` to guest memory at `gpa`: dirties pages. */
#define IMPOST_MOCK_WRITE 2u
/* Lasts `ns` nanoseconds, then the mock's clock has moved by as much; a kick ends run before it is
 * over, and the next run waits for the rest. */
#define IMPOST_MOCK_DELAY 3u
/* Waits until an interrupt, a message or an NMI is sent to the vCPU; one that came before, and
 * ended no other wait, counts. */
#define IMPOST_MOCK_HALT 4u
/* General register number `reg` (order of struct impost_x86_regs) becomes `value`. */
#define IMPOST_MOCK_SET 5u
/* VCPU `reg` gets a startup IPI with vector `value` (SDM vol. 3, 9.4.3). */
#define IMPOST_MOCK_SIPI 6u

struct impost_mock_step {
	uint32_t size;
	uint32_t op;		 /* IMPOST_MOCK_* */
	struct impost_exit exit; /* EXIT: kind and particulars; pointers in it are not looked at */
	uint64_t gpa;
	uint64_t ns;
	uint64_t value; /* SET, SIPI; EXIT of RDMSR and WRMSR with has_expect: 1: the host must
			   refuse, 0: it must not */
	uint32_t reg;
	uint32_t bytes;
	uint32_t has_expect; /* EXIT of a read: the host must answer `expect` (little-endian), or
				run fails with -IMPOST_EDIVERGED */
	uint32_t reserved;
	uint64_t expect;
	const void *data; /* `bytes` bytes, copied: what WRITE, IO, MMIO, WRMSR write; or NULL */
};

/* One entry of the interrupt log, in order of arrival. */
#define IMPOST_MOCK_IRQ_LINE   1u
#define IMPOST_MOCK_IRQ_MSI    2u
#define IMPOST_MOCK_IRQ_NMI    3u
#define IMPOST_MOCK_IRQ_INJECT 4u
#define IMPOST_MOCK_IRQ_IRQFD  5u

struct impost_mock_irq {
	uint32_t kind; /* IMPOST_MOCK_IRQ_* */
	uint32_t vcpu; /* NMI, INJECT */
	uint32_t gsi;  /* LINE, IRQFD */
	uint32_t level;
	uint64_t address; /* MSI */
	uint32_t data;	  /* MSI: data; INJECT: vector */
	uint32_t reserved;
};

/* Functions take the handle that came with the table. Any thread. 0 or a negative errno value. */
struct impost_mock_control {
	uint32_t size;
	uint32_t reserved;

	/*
	 * Adds steps at the end of vCPU ID's script; the vCPU may be made later, and may be inside
	 * run. -EINVAL: a malformed step (nothing is added); -ENOSPC: the script is too long.
	 */
	int32_t (*append)(void *handle, uint32_t id, const struct impost_mock_step *steps,
			  uint32_t count);

	/* Moves the clock: guest time and TSC go forward by NS. They never move by themselves. */
	int32_t (*advance)(void *handle, uint64_t ns);

	/* Gives entry INDEX of the interrupt log. -ENOENT: no more. */
	int32_t (*irq)(void *handle, uint32_t index, struct impost_mock_irq *ret_irq);

	/* How many steps of vCPU ID's script have been played. */
	int32_t (*played)(void *handle, uint32_t id, uint64_t *ret_steps);

	/* Adds an event of the VM for impost_vm_event(). */
	int32_t (*post_event)(void *handle, const struct impost_exit *event);

	/*
	 * Moves the memory at GPA, which the mock has provided, to another host address, as some
	 * hypervisors do; what is in it stays. The VM is paused, and no view is open in the calling
	 * thread. -ENOENT: no such memory; -ENOTSUP: without memory_moves = yes; -EBUSY: not
	 * paused; -EDEADLK: a view is open.
	 */
	int32_t (*move)(void *handle, uint64_t gpa);
};

/*
 * How far a cassette has been played: impost_vm_extension(vm, IMPOST_MOCK_CASSETTE, ...). It is
 * there where `[backend.mock] cassette` names one; mock.control/1 is not there then.
 */
#define IMPOST_MOCK_CASSETTE "mock.cassette/1"

struct impost_mock_cassette_status {
	uint32_t size;
	int32_t error; /* -IMPOST_EDIVERGED, -IMPOST_EFORMAT, ...: why it stopped; 0: it did not */
	uint64_t played; /* calls */
	uint64_t left;	 /* recorded calls of vCPUs that were destroyed before they came to them */
	uint32_t ended;	 /* 1: nothing of it is left but the end of the VM. With EDIVERGED: the
			  * recorded host had its guest stop here, by a kick, and this one had not */
	uint32_t reserved;
	char text[1024]; /* about the error: both sides */
};

/* Any thread. 0 or a negative errno value. */
struct impost_mock_cassette {
	uint32_t size;
	uint32_t reserved;

	/* Fills *RET_STATUS, whose size is set. -EINVAL: it is less than what this mock fills. */
	int32_t (*status)(void *handle, struct impost_mock_cassette_status *ret_status);
};

#endif
