// SPDX-License-Identifier: Apache-2.0
/* impost run: boots a guest, and stands between its serial port and the user until it ends. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "console.h"
#include "dirty_rate.h"
#include "machine.h"
#include "report.h"
#include "tables.h"

/* Why the main loop ended. */
enum reason { STILL_RUNNING, GUEST_ENDED, USER_LEFT, OUTPUT_CLOSED, SIGNALLED };

/* A run. */
struct run {
	const struct invocation *invocation;
	struct machine machine;
	struct report_times times;
	struct dirty_rate dirty;
	uint32_t dirty_ms; /* 0: nobody asked for it */
	int kernel;
	int initrd;
	int signals; /* signalfd */
	int events;  /* of the VM; -1: none */
	enum reason reason;
	int signal;	  /* when SIGNALLED */
	int output_error; /* when OUTPUT_CLOSED: negative errno */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- set-up --- */

/* Opens the file that `[boot] KEY` names. WHAT is for messages. */
static int open_image(const struct invocation *invocation, const char *key, const char *what,
		      int *ret_fd)
{
	const char *path = impost_context_get(invocation->ctx, "boot", key);
	struct stat st;
	int fd;

	if (!path || !*path)
		return 0;
	/* O_NONBLOCK: a FIFO with no writer must not hold us up. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		complain("cannot open the %s %s: %s", what, path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return STATUS_HOST;
	}
	if (!S_ISREG(st.st_mode)) {
		complain("the %s %s is %s: give the image's file", what, path,
			 S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
		close(fd);
		return STATUS_HOST;
	}
	*ret_fd = fd;
	return STATUS_OK;
}

/* Options for flat binaries alone mean nothing for a kernel that is entered otherwise. */
static int check_flat(const struct invocation *invocation)
{
	const char *protocol = impost_context_get(invocation->ctx, "boot", "protocol");
	const char *option = invocation_has(invocation, OPTION_FLAT_MODE)      ? "--flat-mode"
			     : invocation_has(invocation, OPTION_FLAT_ADDRESS) ? "--flat-address"
									       : NULL;

	if (!option || strcmp(protocol, "flat") == 0)
		return STATUS_OK;
	complain("%s is for flat binaries, and the protocol is %s: give --boot flat too, or leave "
		 "it out",
		 option, protocol);
	return STATUS_USAGE;
}

static int check_dirty_rate(struct run *run)
{
	if (!invocation_has(run->invocation, OPTION_DIRTY_RATE))
		return STATUS_OK;
	run->dirty_ms = dirty_rate_interval(run->invocation);
	return run->dirty_ms ? STATUS_OK : STATUS_USAGE;
}

static int open_images(struct run *run)
{
	int status = open_image(run->invocation, "kernel", "kernel", &run->kernel);

	if (status != STATUS_OK)
		return status;
	if (run->kernel < 0) {
		complain(
			"no kernel: name one with --kernel FILE, or with kernel = FILE in [boot] of the INI");
		return STATUS_USAGE;
	}
	return open_image(run->invocation, "initrd", "initrd", &run->initrd);
}

static int boot(struct run *run)
{
	struct machine *machine = &run->machine;
	struct impost_x86_boot_config config;
	struct impost_x86_acpi_config acpi;
	struct impost_vcpu **vcpus;
	int err;

	err = impost_x86_add_ram(impost_vm_memory(machine->vm),
				 impost_vm_config(machine->vm)->memory);
	if (err < 0)
		return err;
	impost_x86_boot_config_init(machine->ctx, &config);
	config.kernel_fd = run->kernel;
	config.initrd_fd = run->initrd;
	tables_describe(machine->vm, &acpi);
	config.acpi = &acpi;
	vcpus = calloc(machine->ncpus, sizeof(struct impost_vcpu *));
	if (!vcpus)
		return impost_error_set(machine->ctx, -ENOMEM, "no memory for a list of vCPUs");
	for (uint32_t i = 0; i < machine->ncpus; i++)
		vcpus[i] = machine->cpus[i].vcpu;
	err = impost_x86_boot(machine->vm, vcpus, machine->ncpus, &config, NULL);
	free(vcpus);
	return err;
}

/* Creation and set-up, each timed. */
static int set_up(struct run *run)
{
	uint64_t start = now_ns(), created;
	int err = machine_create(&run->machine, run->invocation->ctx);

	if (err < 0)
		return err;
	created = now_ns();
	err = machine_add_devices(&run->machine);
	if (err == 0)
		err = boot(run);
	run->times.create = created - start;
	run->times.setup = now_ns() - created;
	return err;
}

/* --- signals --- */

/* Signals that end a run, and those that stop and continue the process, come through a descriptor:
 * so they are dealt with between two steps, and not in the middle of one. */
static int take_signals(struct run *run)
{
	static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigaddset(&set, taken[i]);
	run->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->signals < 0)
		return -errno;
	sigaddset(&set, SIGTTOU); /* the terminal's mode can be changed from the background too */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN); /* write's EPIPE says it */
	return 0;
}

static void on_signal(struct run *run)
{
	struct signalfd_siginfo info;

	while (read(run->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGTSTP:
			console_suspend();
			raise(SIGSTOP);
			break;
		case SIGCONT:
			console_resume();
			break;
		default:
			run->reason = SIGNALLED;
			run->signal = (int)info.ssi_signo;
			return;
		}
	}
}

/* --- the main loop --- */

/* What the loop waits for. */
enum {
	POLL_SIGNAL,
	POLL_WAKE,
	POLL_TIMER,
	POLL_EVENT,
	POLL_DIRTY,
	POLL_INPUT,
	POLL_OUTPUT,
	POLL_COUNT
};

static void on_wake(struct run *run)
{
	eventfd_t count;

	eventfd_read(run->machine.wake, &count);
	if (machine_ended(&run->machine) != MACHINE_RUNNING)
		run->reason = GUEST_ENDED;
	machine_feed_serial(&run->machine);
}

static void on_input(struct run *run)
{
	if (console_read(&run->machine.console) == CONSOLE_LEAVE)
		run->reason = USER_LEFT;
	machine_feed_serial(&run->machine);
}

/* Returns whether there is more to write. */
static bool on_output(struct run *run)
{
	run->output_error = console_write(&run->machine.console);
	if (run->output_error < 0)
		run->reason = OUTPUT_CLOSED;
	return console_has_output(&run->machine.console);
}

static bool on_timer(struct run *run)
{
	uint64_t expirations;

	return read(run->machine.console.timer, &expirations, sizeof(expirations)) > 0;
}

static void loop(struct run *run)
{
	struct console *console = &run->machine.console;
	struct pollfd fds[POLL_COUNT] = {
		[POLL_SIGNAL] = {.fd = run->signals, .events = POLLIN},
		[POLL_WAKE] = {.fd = run->machine.wake, .events = POLLIN},
		[POLL_TIMER] = {.fd = console->timer, .events = POLLIN},
		[POLL_EVENT] = {.fd = run->events, .events = POLLIN},
		[POLL_DIRTY] = {.events = POLLIN},
		[POLL_INPUT] = {.events = POLLIN},
		[POLL_OUTPUT] = {.events = POLLOUT},
	};
	bool writing = false;

	while (run->reason == STILL_RUNNING) {
		fds[POLL_INPUT].fd = console_wants_input(console) ? STDIN_FILENO : -1;
		fds[POLL_OUTPUT].fd = writing ? STDOUT_FILENO : -1;
		fds[POLL_DIRTY].fd = run->dirty.timer;
		if (poll(fds, POLL_COUNT, -1) < 0)
			continue; /* EINTR: nothing else can go wrong with these */
		if (fds[POLL_WAKE].revents)
			on_wake(run);
		if (fds[POLL_EVENT].revents)
			machine_take_event(&run->machine);
		if (fds[POLL_DIRTY].revents)
			dirty_rate_tick(&run->dirty, run->invocation);
		if (fds[POLL_INPUT].revents)
			on_input(run);
		if (fds[POLL_TIMER].revents)
			writing |= on_timer(run);
		if (fds[POLL_OUTPUT].revents)
			writing = on_output(run);
		if (fds[POLL_SIGNAL].revents)
			on_signal(run);
	}
}

/* Writes what the guest has still said. A signal ends the wait for a reader that does not read. */
static void drain(struct run *run)
{
	struct pollfd fds[] = {
		{.fd = STDOUT_FILENO, .events = POLLOUT},
		{.fd = run->signals, .events = POLLIN},
	};

	while (run->reason != OUTPUT_CLOSED && run->reason != SIGNALLED &&
	       console_has_output(&run->machine.console)) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			on_output(run);
		if (fds[1].revents)
			on_signal(run);
	}
}

/* A mock without a script stands halted, which looks like a guest that hangs. */
static void warn_of_silence(const struct run *run)
{
	const char *backend = impost_vm_backend(run->machine.vm);

	if (strcmp(backend, "mock") == 0 &&
	    !impost_context_get(run->invocation->ctx, "backend.mock", "script"))
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
	err = take_signals(run);
	if (err < 0)
		return impost_error_set(run->invocation->ctx, err, "cannot take signals: %s",
					strerror(-err));
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
	begin = now_ns();
	err = machine_start(&run->machine);
	if (err == 0)
		loop(run);
	machine_stop(&run->machine);
	run->times.run = now_ns() - begin;
	console_suspend(); /* from here on Ctrl-C is a signal again: nobody reads keys */
	if (err == 0)
		drain(run);
	console_close(&run->machine.console);
	return err;
}

/* --- the end --- */

static int judge_guest(struct run *run)
{
	struct machine *machine = &run->machine;

	switch (machine_ended(machine)) {
	case MACHINE_FAILED:
		report_failure(machine);
		return STATUS_FAILED;
	case MACHINE_HOST_ERROR:
		complain("%s", machine->text);
		return STATUS_HOST;
	default:
		return STATUS_OK;
	}
}

static int conclude(struct run *run)
{
	int status = STATUS_OK;

	if (run->reason == SIGNALLED) {
		complain("stopped by signal %d (%s)", run->signal, strsignal(run->signal));
		status = 128 + run->signal;
	} else {
		status = judge_guest(run);
	}
	if (run->reason == OUTPUT_CLOSED && run->output_error != -EPIPE) {
		complain("cannot write to standard output: %s", strerror(-run->output_error));
		status = STATUS_HOST;
	}
	if (!impost_caps_has(impost_vm_caps(run->machine.vm), IMPOST_CAP_EXECUTES))
		fprintf(stderr, "impost: backend %s: played, not executed\n",
			impost_vm_backend(run->machine.vm));
	dirty_rate_total(&run->dirty, run->invocation);
	if (invocation_has(run->invocation, OPTION_STATS))
		report_stats(&run->machine, &run->times);
	return status;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* A run that did not come about. */
static int refuse(const struct invocation *invocation, int err)
{
	complain_error(invocation, err);
	if (err == -IMPOST_EPLUGIN)
		fprintf(stderr, "'impost doctor' tells what can run here.\n");
	return STATUS_HOST;
}

int command_run(const struct invocation *invocation)
{
	struct run run = {
		.invocation = invocation,
		.dirty = {.timer = -1},
		.kernel = -1,
		.initrd = -1,
		.signals = -1,
		.events = -1,
	};
	int status = check_flat(invocation), err;

	if (status == STATUS_OK)
		status = check_dirty_rate(&run);
	if (status == STATUS_OK)
		status = open_images(&run);
	if (status == STATUS_OK) {
		err = set_up(&run);
		if (err == 0)
			err = execute(&run);
		status = err < 0 ? refuse(invocation, err) : conclude(&run);
		dirty_rate_close(&run.dirty);
		machine_destroy(&run.machine);
	}
	close_fd(run.kernel);
	close_fd(run.initrd);
	close_fd(run.signals);
	return status;
}
