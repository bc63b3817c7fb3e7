// SPDX-License-Identifier: Apache-2.0
/* impost run: boots a guest, and stands between its serial port and the user until it ends. */
#include "run.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "recording.h"
#include "restore.h"

/* --- set-up --- */

static int check_dirty_rate(struct run *run)
{
	if (!invocation_has(run->invocation, OPTION_DIRTY_RATE))
		return STATUS_OK;
	run->dirty_ms = dirty_rate_interval(run->invocation);
	return run->dirty_ms ? STATUS_OK : STATUS_USAGE;
}

static int open_control(struct run *run)
{
	const char *path = run->invocation->values[OPTION_CONTROL];
	const struct steered steered = {&run->machine, &run->saving, &run->incoming};

	return path ? steering_open(run->invocation->ctx, path, &steered, &run->steering) : 0;
}

/* From the second on a signal does not leave the control socket behind. */
static int be_reachable(struct run *run)
{
	int err = run_take_signals(run);

	if (err < 0)
		return impost_error_set(run->invocation->ctx, err, "cannot take signals: %s",
					strerror(-err));
	return open_control(run);
}

static int create(struct run *run)
{
	if (run->snapshot)
		return restore_machine(run->invocation, run->snapshot, &run->machine);
	return machine_create(&run->machine, run->invocation->ctx);
}

/* A guest that comes from elsewhere, ready to run. Returns 0 without one where something else has
 * ended the run. */
static int receive(struct run *run)
{
	uint64_t start = clock_now_ns();
	int err = be_reachable(run);

	if (err == 0)
		err = incoming_start(&run->incoming);
	if (err < 0)
		return err;
	run_wait(run);
	if (run->reason != STILL_RUNNING) {
		incoming_cancel(&run->incoming);
		return 0;
	}
	err = incoming_take(&run->incoming);
	if (err == 0)
		err = saving_begin(&run->saving, run->machine.vm, NULL);
	run->times.create = clock_now_ns() - start;
	return err;
}

/* Creation and set-up, each timed. */
static int set_up(struct run *run)
{
	struct machine *machine = &run->machine;
	uint64_t start = clock_now_ns(), created;
	int err = create(run);

	if (err < 0)
		return err;
	created = clock_now_ns();
	err = machine_add_devices(machine);
	if (err == 0)
		err = saving_begin(&run->saving, machine->vm, run->snapshot);
	if (err == 0 && !run->snapshot)
		err = recording_prepare(machine);
	if (err == 0)
		err = run->snapshot ? impost_snapshot_load(run->snapshot, machine->vm)
				    : boot_guest(machine, &run->images);
	if (err == 0)
		err = replay_finish_boot(&run->replay, machine);
	if (err == 0 && !run->snapshot)
		err = recording_note(machine);
	if (err == 0 && run->snapshot) /* others may go on from the same file */
		err = impost_x86_vmgenid_renew(machine->vm, &machine->vmgenid);
	run->times.create = created - start;
	run->times.setup = clock_now_ns() - created;
	return err;
}

/* A mock without a script stands halted, which looks like a guest that hangs. */
static void warn_of_silence(const struct run *run)
{
	const char *backend = impost_vm_backend(run->machine.vm);

	if (strcmp(backend, "mock") == 0 &&
	    !impost_context_get(run->invocation->ctx, "backend.mock", "script") &&
	    !impost_context_get(run->invocation->ctx, "backend.mock", "cassette"))
		complain("backend mock: nothing will be played, for it has no script: name one "
			 "with script = FILE in [backend.mock] of the INI");
}

static int start(struct run *run)
{
	int err;

	if (run->dirty_ms) {
		err = dirty_rate_open(&run->dirty, run->machine.vm, run->dirty_ms);
		if (err < 0)
			return err;
	}
	if (impost_caps_has(impost_vm_caps(run->machine.vm), IMPOST_CAP_VM_EVENTS)) {
		err = impost_vm_event_fd(run->machine.vm, &run->events);
		if (err < 0)
			return err;
	}
	err = incoming_is_wanted(run->invocation) ? 0 : be_reachable(run);
	if (err < 0)
		return err;
	warn_of_silence(run);
	err = console_open(&run->machine.console);
	if (err < 0)
		return impost_error_set(run->invocation->ctx, err, "cannot make a timer: %s",
					strerror(-err));
	return 0;
}

/* Runs the guest to its end. */
static int execute(struct run *run)
{
	uint64_t begin;
	int err = start(run);

	if (err < 0)
		return err;
	begin = clock_now_ns();
	steering_begin(run->steering);
	err = machine_start(&run->machine);
	if (err == 0)
		run_loop(run);
	/* A vCPU may be waiting for memory that is still to come, where no kick reaches it. */
	if (run->reason != GUEST_ENDED)
		incoming_cancel(&run->incoming);
	machine_stop(&run->machine);
	steering_end(run->steering);
	run->times.run = clock_now_ns() - begin;
	console_suspend(); /* from here on Ctrl-C is a signal again: nobody reads keys */
	if (err == 0)
		run_drain(run);
	console_close(&run->machine.console);
	return err;
}

/* --- the end --- */

/* Of a replay what was recorded counts, which the guest's failure may be. */
static int judge_replay(struct run *run, int status)
{
	int judged = replay_judge(&run->replay, &run->machine);

	return run->reason == SIGNALLED ? status : judged;
}

/* What a guest that failed has to say, unless it is this host that does otherwise than recorded. */
static int judge_guest(struct run *run)
{
	struct machine *machine = &run->machine;
	enum machine_end end = machine_ended(machine);

	if (end == MACHINE_DIVERGED && run->replay.path)
		return STATUS_DIVERGED;

	if ((end == MACHINE_FAILED || end == MACHINE_HOST_ERROR) &&
	    sources_check(&run->saving.sources, machine->ctx) < 0) {
		complain_error(run->invocation, -EIO);
		complain("of that the guest failed: %s", machine->text);
		return STATUS_HOST;
	}
	switch (end) {
	case MACHINE_DIVERGED:
	case MACHINE_FAILED:
		report_failure(machine);
		report_lost_memory(machine);
		return STATUS_FAILED;
	case MACHINE_HOST_ERROR:
		complain("%s", machine->text);
		report_lost_memory(machine);
		return STATUS_HOST;
	default:
		return STATUS_OK;
	}
}

/* Where the guest is now, if it is not over. One that moved and is nowhere was lost on the way
 * (post-copy), which has been told. */
static int judge_destination(struct run *run, int status)
{
	const char *where = steering_destination(run->steering);

	if (*where)
		fprintf(stderr, "impost: the guest goes on at %s\n", where);
	else if (status == STATUS_OK && machine_ended(&run->machine) == MACHINE_MOVED)
		status = STATUS_HOST;
	return status;
}

static int conclude(struct run *run)
{
	int status = STATUS_OK;

	if (run->reason == SIGNALLED) {
		complain("stopped by signal %d (%s)", run->signal, strsignal(run->signal));
		status = 128 + run->signal;
	}
	if (!run->machine.vm) /* it never came */
		return status;
	if (run->reason != SIGNALLED)
		status = judge_guest(run);
	status = judge_destination(run, status);
	if (run->reason == OUTPUT_CLOSED && run->output_error != -EPIPE) {
		complain("cannot write to standard output: %s", strerror(-run->output_error));
		status = STATUS_HOST;
	}
	if (run->replay.path)
		status = judge_replay(run, status);
	else if (!impost_caps_has(impost_vm_caps(run->machine.vm), IMPOST_CAP_EXECUTES))
		fprintf(stderr, "impost: backend %s: played, not executed\n",
			impost_vm_backend(run->machine.vm));
	dirty_rate_total(&run->dirty, run->invocation);
	if (invocation_has(run->invocation, OPTION_STATS))
		report_stats(&run->machine, &run->times);
	return status;
}

/* A run that did not come about. */
static int refuse(const struct run *run, int err)
{
	complain_error(run->invocation, err);
	if (err == -IMPOST_EPLUGIN)
		fprintf(stderr, "'impost doctor' tells what can run here.\n");
	return replay_differs(&run->replay, err) ? STATUS_DIVERGED : STATUS_HOST;
}

/* What can be refused before anything is made. */
static int prepare(struct run *run)
{
	const struct invocation *invocation = run->invocation;
	int status = check_dirty_rate(run), err;

	if (status != STATUS_OK)
		return status;
	err = saving_configure(&run->saving, invocation->ctx);
	if (err < 0)
		return complain_error(invocation, err);
	status = incoming_open(&run->incoming, invocation, &run->machine);
	if (status == STATUS_OK)
		status = restore_open(invocation, &run->saving, &run->snapshot);
	if (status == STATUS_OK && !run->snapshot && !incoming_is_wanted(invocation))
		status = boot_open(invocation, &run->images);
	return status;
}

static void release(struct run *run)
{
	steering_close(run->steering);
	incoming_close(&run->incoming);
	saving_release(&run->saving);
	dirty_rate_close(&run->dirty);
	machine_destroy(&run->machine);
	impost_snapshot_close(run->snapshot);
	boot_close(&run->images);
	if (run->signals >= 0)
		close(run->signals);
}

static int command(const struct invocation *invocation, const struct replay *replay)
{
	struct run run = {
		.invocation = invocation,
		.machine = {.wake = -1},
		.incoming = {.wake = -1, .stir = -1},
		.dirty = {.timer = -1},
		.images = {-1, -1},
		.signals = -1,
		.events = -1,
		.replay = *replay,
	};
	int status = prepare(&run), err;

	if (status == STATUS_OK) {
		err = incoming_is_wanted(invocation) ? receive(&run) : set_up(&run);
		if (err == 0 && run.reason == STILL_RUNNING)
			err = execute(&run);
		status = err < 0 ? refuse(&run, err) : conclude(&run);
	}
	release(&run);
	return status;
}

int command_run(const struct invocation *invocation)
{
	return command(invocation, &(struct replay){.path = NULL});
}

int command_replay(const struct invocation *invocation)
{
	struct replay replay = {.path = NULL};
	int status = replay_open(invocation, &replay);

	return status == STATUS_OK ? command(invocation, &replay) : status;
}
