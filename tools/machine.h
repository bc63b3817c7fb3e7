/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine that `impost run` gives a guest: vCPUs on threads, a serial port, and ways to reset.
 */
#ifndef TOOLS_MACHINE_H
#define TOOLS_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <impost/impost.h>

#include "console.h"
#include "serial.h"

/* How a run came to its end. */
enum machine_end {
	MACHINE_RUNNING,
	MACHINE_SHUT_DOWN,  /* cleanly: the guest shut down or reset, or halted for good */
	MACHINE_FAILED,	    /* the guest cannot go on */
	MACHINE_DIVERGED,   /* the backend expected another answer */
	MACHINE_HOST_ERROR, /* a call of the library failed */
	MACHINE_MOVED	    /* it goes on elsewhere */
};

struct machine;

/* A vCPU and its thread. */
struct machine_cpu {
	struct machine *machine;
	struct impost_vcpu *vcpu;
	pthread_t thread;
	bool started;
	uint64_t exits[IMPOST_EXIT_KINDS + 1]; /* by kind; the last: kinds of a newer library */
};

struct machine {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct machine_cpu *cpus;
	uint32_t ncpus;
	struct serial serial;
	struct impost_x86_vmgenid vmgenid;
	struct console console;
	int wake; /* eventfd: the run has ended, or the serial port takes input again */
	atomic_bool stopping;
	atomic_bool quiet; /* see machine_quiet() */

	pthread_mutex_t lock; /* of what follows */
	enum machine_end end;
	uint32_t end_cpu;	 /* index of the vCPU that ended the run */
	bool end_of_vm;		 /* an event of the VM ended it, not a vCPU */
	struct impost_exit exit; /* that ended it; its pointers are not to be followed */
	char text[512];		 /* what happened, in a sentence */
};

/*
 * Makes the VM and its vCPUs from CTX's configuration, and the devices; or has it from elsewhere:
 * _configure comes before the VM is made with *RET_CONFIG, and _take_cpus after machine->vm is
 * there with its vCPUs. Return 0 or a negative error with its text on CTX. machine_destroy()
 * follows in any case.
 */
int machine_create(struct machine *machine, struct impost_context *ctx);
int machine_configure(struct machine *machine, struct impost_context *ctx,
		      struct impost_vm_config *ret_config);
int machine_take_cpus(struct machine *machine);
int machine_add_devices(struct machine *machine);
void machine_destroy(struct machine *machine);
/* The vCPUs alone, which stand still. What is left is of no use but to be asked. */
void machine_destroy_cpus(struct machine *machine);

/* Starts a thread for each vCPU; stops and joins them all. */
int machine_start(struct machine *machine);
void machine_stop(struct machine *machine);

/* Takes an event of the VM, for backends whose shutdown is one. */
void machine_take_event(struct machine *machine);

/* Ends the run, for the host's reason TEXT. Any thread. */
void machine_fail(struct machine *machine, const char *text);

/* How the run ended, or MACHINE_RUNNING. */
enum machine_end machine_ended(struct machine *machine);

/* While QUIET is set the serial port gets no input: a VM that is held stays as it is. Any thread.
 */
void machine_quiet(struct machine *machine, bool quiet);

/* Offers the console's input to the serial port. */
void machine_feed_serial(struct machine *machine);

#endif
