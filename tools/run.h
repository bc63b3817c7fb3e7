/* SPDX-License-Identifier: Apache-2.0 */
/* A run of a guest, as the parts of `impost run` share it. */
#ifndef TOOLS_RUN_H
#define TOOLS_RUN_H

#include "boot.h"
#include "dirty_rate.h"
#include "incoming.h"
#include "machine.h"
#include "replay.h"
#include "report.h"
#include "saving.h"
#include "steering.h"
#include "tool.h"

/* Why the main loop ended. */
enum run_reason { STILL_RUNNING, GUEST_ENDED, USER_LEFT, TOLD_TO_END, OUTPUT_CLOSED, SIGNALLED };

struct run {
	const struct invocation *invocation;
	struct machine machine;
	struct report_times times;
	struct dirty_rate dirty;
	uint32_t dirty_ms; /* 0: nobody asked for it */
	struct boot_images images;
	struct impost_snapshot *snapshot; /* to begin with; NULL: the images are booted */
	struct replay replay;
	struct saving saving;
	struct incoming incoming;  /* where the guest comes from, if it does */
	struct steering *steering; /* NULL: there is no control socket */
	int signals;		   /* signalfd */
	int events;		   /* of the VM; -1: none */
	enum run_reason reason;
	int signal;	  /* when SIGNALLED */
	bool warned;	  /* of what a signal would end */
	int output_error; /* when OUTPUT_CLOSED: negative errno */
};

/*
 * Signals that end a run, and those that stop and continue the process, come through a descriptor
 * from here on: so they are dealt with between two steps, and not in the middle of one. Those that
 * are ignored stay so. Returns 0 or a negative errno.
 */
int run_take_signals(struct run *run);

/* Waits until the guest has come, or will not, or there is a reason to end. */
void run_wait(struct run *run);

/* Serves the guest, the terminal and timers until there is a reason to end. */
void run_loop(struct run *run);

/* Writes what the guest has still said, and finishes what was asked for at the control socket. A
 * signal, or the request to quit, ends the wait for a reader that does not read. */
void run_drain(struct run *run);

#endif
