// SPDX-License-Identifier: Apache-2.0
/* The main loop of a run: what comes from signals, the terminal, the guest and timers. */
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* --- signals --- */

/* As nohup(1) and shells have it for what runs on without a terminal. A signal that is blocked is
 * queued for a signalfd in spite of that. */
static bool is_ignored(int number)
{
	struct sigaction now;

	return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

int run_take_signals(struct run *run)
{
	static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (!is_ignored(taken[i]))
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
	POLL_STEERING,
	POLL_COUNT = POLL_STEERING + STEERING_FDS
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

static void steer(struct run *run, const struct pollfd *fds)
{
	steering_serve(run->steering, fds);
	if (run->reason == STILL_RUNNING && steering_wants_end(run->steering))
		run->reason = TOLD_TO_END;
}

void run_wait(struct run *run)
{
	struct pollfd fds[2 + STEERING_FDS] = {
		{.fd = run->signals, .events = POLLIN},
		{.fd = run->incoming.wake, .events = POLLIN},
	};

	while (run->reason == STILL_RUNNING && !incoming_is_over(&run->incoming)) {
		steering_poll(run->steering, fds + 2);
		if (poll(fds, 2 + STEERING_FDS, -1) < 0)
			continue;
		steer(run, fds + 2);
		if (fds[0].revents)
			on_signal(run);
	}
}

void run_loop(struct run *run)
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
		steering_poll(run->steering, fds + POLL_STEERING);
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
		steer(run, fds + POLL_STEERING);
		if (fds[POLL_SIGNAL].revents)
			on_signal(run);
	}
}

static bool is_drained(struct run *run)
{
	if (run->reason == SIGNALLED)
		return true;
	if (steering_is_busy(run->steering) && !steering_wants_end(run->steering))
		return false;
	return run->reason == OUTPUT_CLOSED || !console_has_output(&run->machine.console);
}

/* A guest that runs elsewhere without all of its memory is lost with what is here: so whoever ends
 * this says so twice. */
static void warn_once(struct run *run, enum run_reason before)
{
	if (run->reason != SIGNALLED || run->warned || !steering_is_needed(run->steering))
		return;
	run->warned = true;
	run->reason = before;
	complain("the guest runs elsewhere, and needs memory that is still here: another signal "
		 "ends both");
}

void run_drain(struct run *run)
{
	struct pollfd fds[2 + STEERING_FDS] = {
		{.fd = STDOUT_FILENO, .events = POLLOUT},
		{.fd = run->signals, .events = POLLIN},
	};

	warn_once(run, GUEST_ENDED);
	while (!is_drained(run)) {
		bool hurry = steering_wants_end(run->steering);
		enum run_reason before;
		int count;

		fds[0].fd = console_has_output(&run->machine.console) ? STDOUT_FILENO : -1;
		steering_poll(run->steering, fds + 2);
		count = poll(fds, 2 + STEERING_FDS, hurry ? 0 : -1);
		if (count < 0)
			continue;
		if (fds[0].revents)
			on_output(run);
		else if (hurry) /* nor is a client waited for that goes on asking */
			break;
		steer(run, fds + 2);
		before = run->reason;
		if (fds[1].revents)
			on_signal(run);
		warn_once(run, before);
	}
}
