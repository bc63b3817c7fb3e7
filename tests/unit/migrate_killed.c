/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of the two processes of a migration is killed when so many bytes have passed between them.
 * Who is left knows whose the VM is, or, between Complete and its answer, that it cannot know.
 */
#include <spawn.h>
#include <sys/wait.h>

#include "migrate_faults.h"

TestSuite(migrate_killed, .timeout = 300);

#define PLACES 30u
/* What side.c exits with. */
#define MOVED	  0
#define STAYED	  1
#define UNSETTLED 2

/* A process of the side WHAT, whose connection is FD. */
static pid_t spawn(const char *what, int fd)
{
	char *const argv[] = {(char *)(uintptr_t)SIDE, (char *)(uintptr_t)what, NULL};
	posix_spawn_file_actions_t actions;
	extern char **environ;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, 3);
	cr_assert(posix_spawn(&pid, SIDE, &actions, NULL, argv, environ) == 0, "%s", SIDE);
	posix_spawn_file_actions_destroy(&actions);
	close(fd);
	return pid;
}

/* What PID has exited with; -1: it was killed. */
static int status_of(pid_t pid)
{
	int status;

	cr_assert(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status)) {
		cr_assert_eq(WTERMSIG(status), SIGKILL, "signal %d", WTERMSIG(status));
		return -1;
	}
	return WEXITSTATUS(status);
}

struct outcome {
	int source, destination;
	uint64_t bytes; /* of the source's words */
	bool completed; /* it said Complete */
};

/* What the source has said, and nobody has taken. */
static void drain(struct relay *relay)
{
	ssize_t n;

	while ((n = recv(relay->fds[0], relay->bytes, sizeof(relay->bytes), MSG_DONTWAIT)) > 0)
		fault_remember(relay->last, relay->bytes, (uint64_t)n);
}

/* A source of kind WHAT; VICTIM dies when AT bytes of SIDE have come. */
static struct outcome run_both(const char *what, enum fault_side victim, struct fault fault)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	struct outcome outcome;
	int near[2], far[2];
	pid_t pids[2];

	cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, near) == 0);
	cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far) == 0);
	relay->fault = fault;
	relay->fds[0] = near[1];
	relay->fds[1] = far[1];
	relay->end = eventfd(0, EFD_CLOEXEC);
	pids[0] = spawn(what, near[0]);
	pids[1] = spawn("receive", far[0]);
	relay->victim = pids[victim];
	cr_assert(pthread_create(&relay->thread, NULL, relay_run, relay) == 0);
	pthread_join(relay->thread, NULL); /* it ends with the first of the two */
	outcome = (struct outcome){.source = status_of(pids[0]),
				   .destination = status_of(pids[1]),
				   .bytes = relay->passed[FAULT_SOURCE]};
	drain(relay);
	outcome.completed = fault_is_complete(relay->last);
	close(near[1]);
	close(far[1]);
	close(relay->end);
	free(relay);
	return outcome;
}

static void judge_survivor(const struct outcome *outcome)
{
	int source = outcome->source, destination = outcome->destination;

	cr_assert(source <= UNSETTLED && destination <= STAYED, "source %d, destination %d", source,
		  destination);
	if (!outcome->completed) { /* it cannot be anybody else's */
		cr_assert(source == -1 || source == STAYED, "source %d", source);
		cr_assert(destination == -1 || destination == STAYED, "destination %d",
			  destination);
		return;
	}
	/* Nobody says that it has stayed, who has said that it is the other's. */
	cr_assert(source != STAYED);
	cr_assert(source != MOVED || destination != STAYED);
}

static void kill_at_random(const char *what, enum fault_side victim, uint64_t seed)
{
	size_t before = count_entries("/proc/self/fd");
	struct outcome outcome = run_both(what, victim, (struct fault){.kind = FAULT_NONE});
	uint64_t bytes = outcome.bytes, state = seed;

	cr_assert(outcome.source == MOVED && outcome.destination == MOVED, "%d, %d", outcome.source,
		  outcome.destination);
	for (uint32_t i = 0; i < PLACES; i++) {
		/* Half of them at the end, where it becomes the other's. */
		uint64_t near = random_below(&state, 40),
			 far = random_below(&state, (uint32_t)bytes);
		struct fault fault = {
			.kind = FAULT_KILL, .side = FAULT_SOURCE, .at = i % 2 ? bytes - near : far};

		if (i % 4 == 3) { /* with an answer */
			fault.side = FAULT_DESTINATION;
			fault.at = 16 * (1 + near / 4);
		}
		outcome = run_both(what, victim, fault);
		judge_survivor(&outcome);
	}
	cr_expect_eq(count_entries("/proc/self/fd"), before);
}

Test(migrate_killed, the_source)
{
	kill_at_random("idle", FAULT_SOURCE, 1);
	kill_at_random("busy", FAULT_SOURCE, 2);
}

Test(migrate_killed, the_destination)
{
	kill_at_random("idle", FAULT_DESTINATION, 3);
	kill_at_random("busy", FAULT_DESTINATION, 4);
}
