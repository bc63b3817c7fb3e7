/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest moves at random instants from one VM to another, in every way there is, again and again
 * until it ends; now and then the migration is given up half-way. What it says, and the memory that
 * it leaves, are those of a run that nobody disturbed: so it never ran in two VMs, nor lost
 * anything. IMPOST_INSTANTS in the environment: how many instants; IMPOST_SEED: of the random
 * numbers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "machine.h"

#define INSTANTS    40 /* where IMPOST_INSTANTS says nothing */
#define CONNECTIONS 3
#define SILENCE_MS  60000 /* a loaded machine is given time */

/* How a guest moves. */
static const struct way {
	const char *name;
	uint32_t flags;
	uint32_t features; /* beside ZERO_PAGES and TEXTS */
	uint32_t connections;
	int family;
	bool functions; /* the channels are functions */
	bool memfd;	/* it takes memory that can be handed over */
} ways[] = {
	{.name = "unix", .family = AF_UNIX},
	{.name = "tcp", .family = AF_INET},
	{.name = "functions", .family = AF_UNIX, .functions = true},
	{.name = "zstd", .family = AF_INET, .features = IMPOST_MIGRATION_ZSTD},
	{.name = "connections",
	 .family = AF_INET,
	 .features = IMPOST_MIGRATION_CONNECTIONS,
	 .connections = CONNECTIONS},
	{.name = "postcopy", .family = AF_UNIX, .features = IMPOST_MIGRATION_POSTCOPY},
	{.name = "postcopy-tcp",
	 .family = AF_INET,
	 .features = IMPOST_MIGRATION_POSTCOPY | IMPOST_MIGRATION_ZSTD},
	{.name = "local", .family = AF_UNIX, .flags = IMPOST_MIGRATION_LOCAL, .memfd = true},
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* --- connections --- */

#define ENDS ((CONNECTIONS + 2) * 2)

struct link {
	const struct way *way;
	int listener;
	int fds[ENDS]; /* both ends of all connections */
	atomic_uint ends;
};

struct move {
	struct machine *m;
	struct link link;
	struct impost_migration *source;
	struct impost_migration *destination;
	int received;
	char received_text[512];
	uint32_t give_up; /* in this state; IMPOST_MIGRATION_NEW: never */
};

static void listen_on(struct link *link, const struct way *way)
{
	const struct sockaddr_in in = {.sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr_un un = {.sun_family = AF_UNIX}; /* the kernel makes up a name */
	bool tcp = way->family == AF_INET;

	*link = (struct link){.way = way};
	link->listener = socket(way->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(link->listener, 0);
	cr_assert_eq(bind(link->listener, tcp ? (const void *)&in : &un,
			  tcp ? sizeof(in) : sizeof(un.sun_family)),
		     0, "%s", strerror(errno));
	cr_assert_eq(listen(link->listener, ENDS), 0);
}

static void hang_up(struct link *link)
{
	for (unsigned int i = 0; i < atomic_load(&link->ends); i++)
		close(link->fds[i]);
	close(link->listener);
}

/* Whether FD was ready within TIMEOUT_MS. */
static bool await(int fd, short events, uint32_t timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};

	return poll(&poll_fd, 1, (int)timeout_ms) > 0;
}

static int64_t channel_read(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	int fd = *(const int *)opaque;
	ssize_t got = await(fd, POLLIN, timeout_ms) ? read(fd, buf, bytes) : -EAGAIN;

	return got == -1 ? -errno : got;
}

static int64_t channel_write(void *opaque, const void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	int fd = *(const int *)opaque;
	ssize_t sent = await(fd, POLLOUT, timeout_ms)
			       ? send(fd, buf, bytes, MSG_DONTWAIT | MSG_NOSIGNAL)
			       : -EAGAIN;

	return sent == -1 ? -errno : sent;
}

static int make_channel(struct link *link, int fd, struct impost_migration_channel *ret_channel)
{
	int *kept = link->fds + atomic_fetch_add(&link->ends, 1);

	cr_assert(kept < link->fds + ENDS, "more connections are made than were asked for");
	*kept = fd;
	*ret_channel = (struct impost_migration_channel){.size = sizeof(*ret_channel), .fd = fd};
	if (link->way->functions) {
		ret_channel->fd = -1;
		ret_channel->read = channel_read;
		ret_channel->write = channel_write;
		ret_channel->opaque = kept;
	}
	return 0;
}

static int connect_source(void *opaque, uint32_t timeout_ms,
			  struct impost_migration_channel *ret_channel)
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof(address);
	struct link *link = &((struct move *)opaque)->link;
	int fd = socket(link->way->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)timeout_ms; /* what listens on this machine, and has room, is connected to at once */
	cr_assert_geq(fd, 0);
	cr_assert_eq(getsockname(link->listener, (struct sockaddr *)&address, &length), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, length), 0, "%s", strerror(errno));
	return make_channel(link, fd, ret_channel);
}

static int accept_destination(void *opaque, uint32_t timeout_ms,
			      struct impost_migration_channel *ret_channel)
{
	struct link *link = &((struct move *)opaque)->link;

	if (!await(link->listener, POLLIN, timeout_ms))
		return -ETIMEDOUT;
	return make_channel(link, accept4(link->listener, NULL, NULL, SOCK_CLOEXEC), ret_channel);
}

/* --- migrations --- */

static int progress(void *opaque, const struct impost_migration_status *status)
{
	const struct move *move = opaque;

	return move->give_up != IMPOST_MIGRATION_NEW && status->state == move->give_up;
}

static void create(struct move *move)
{
	const struct way *way = move->link.way;
	struct impost_migration_channel ends[2];
	struct impost_migration_config config = {
		.size = sizeof(config),
		.features = way->features | IMPOST_MIGRATION_ZERO_PAGES | IMPOST_MIGRATION_TEXTS,
		.silence_ms = SILENCE_MS,
		.opaque = move,
	};

	connect_source(move, SILENCE_MS, ends);
	cr_assert_eq(accept_destination(move, SILENCE_MS, ends + 1), 0);
	config.channel = ends + 1;
	config.connect = accept_destination;
	OK(move->m, impost_migration_create(move->m->ctx, &config, &move->destination));
	config.channel = ends;
	config.connect = connect_source;
	config.flags = way->flags | IMPOST_MIGRATION_FINISH;
	config.connections = way->connections;
	config.downtime_ms = 1;
	config.passes = 4;
	config.hold_ms = SILENCE_MS;
	config.progress = progress;
	OK(move->m, impost_migration_create(move->m->ctx, &config, &move->source));
}

/* The guest goes on in the VM that has arrived, at once: with post-copy before its memory is all
 * there. */
static void adopt(struct machine *m, struct impost_vm *vm)
{
	m->vm = vm;
	m->vcpu = impost_vm_vcpu(vm, 0);
	m->running = false;
	cr_assert_not_null(m->vcpu);
	if (!atomic_load(&m->ended))
		machine_start(m);
}

static void *receive(void *opaque)
{
	struct move *move = opaque;
	struct impost_vm *vm;

	move->received = impost_migration_receive(move->destination, &vm);
	if (move->received == 0) {
		adopt(move->m, vm);
		OK(move->m, impost_migration_wait(move->destination));
	} else {
		snprintf(move->received_text, sizeof(move->received_text), "%s",
			 impost_error(move->m->ctx));
	}
	return NULL;
}

static void expect_state(struct move *move, struct impost_migration *migration, uint32_t state)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	OK(move->m, impost_migration_status(migration, &status));
	cr_assert_eq(status.state, state, "%s: it is %s", move->link.way->name,
		     impost_migration_state_name(status.state));
	cr_assert(state != IMPOST_MIGRATION_DONE || status.downtime_ns > 0);
}

/* The VM that was left: nobody runs it any more. OLD has what M was. */
static void bury(struct machine *m, const struct machine *old)
{
	struct impost_exit exit;
	void *left_with = NULL;

	if (old->running) {
		pthread_join(old->thread, &left_with);
		/* The guest's last access may have been before the VM was held. */
		cr_assert((intptr_t)left_with == -IMPOST_EMOVED || atomic_load(&m->ended));
	}
	cr_assert_eq(impost_vcpu_run(old->vcpu, &exit), -IMPOST_EMOVED);
	OK(m, impost_vcpu_destroy(old->vcpu));
	OK(m, impost_vm_destroy(old->vm));
}

/* Moves the guest, or does not where it is given up; never both. Says whether it moved. */
static bool migrate(struct machine *m, const struct way *way, uint32_t give_up)
{
	const struct machine old = {
		.vm = m->vm, .vcpu = m->vcpu, .thread = m->thread, .running = m->running};
	struct move move = {.m = m, .give_up = give_up};
	uint32_t state = IMPOST_MIGRATION_DONE;
	pthread_t receiver;
	int sent;

	listen_on(&move.link, way);
	create(&move);
	cr_assert_eq(pthread_create(&receiver, NULL, receive, &move), 0);
	sent = impost_migration_send(move.source, old.vm);
	cr_assert(sent == 0 || (sent == -ECANCELED && give_up != IMPOST_MIGRATION_NEW),
		  "%s: %d: %s", way->name, sent, impost_error(m->ctx));
	if (sent)
		shutdown(move.link.fds[0], SHUT_RDWR); /* as who closes it */
	pthread_join(receiver, NULL);
	cr_assert_eq(sent == 0, move.received == 0, "%s: sent: %d, received: %d: %s", way->name,
		     sent, move.received, move.received_text);
	if (sent == 0)
		bury(m, &old);
	else
		state = IMPOST_MIGRATION_FAILED;
	expect_state(&move, move.source, state);
	expect_state(&move, move.destination, state);
	impost_migration_destroy(move.source);
	impost_migration_destroy(move.destination);
	hang_up(&move.link);
	return sent == 0;
}

/* Moves the guest in the next way of all; one time in eight it is given up in a state that is
 * drawn. */
static bool migrate_somehow(struct machine *m, bool memfd, unsigned long moved[WAYS])
{
	static size_t next;
	uint32_t give_up = IMPOST_MIGRATION_NEW;
	size_t i = next++ % WAYS;
	bool done;

	while (ways[i].memfd && !memfd)
		i = next++ % WAYS;
	if (draw(8) == 0)
		give_up = IMPOST_MIGRATION_STARTING + (uint32_t)draw(3);
	done = migrate(m, ways + i, give_up);
	moved[i] += done;
	return done;
}

/* Runs guests, each of which moves at a few random instants, until INSTANTS were seen. */
static void check_instants(const char *backend, const char *script, const char *cmdline)
{
	unsigned long instants = instants_wanted(INSTANTS), seen = 0, moved[WAYS] = {0};
	static struct outcome want, got;
	static struct machine m;
	char how[128];

	seed_from_environment();
	outcome_learn(backend, script, cmdline, &want);
	while (seen < instants) {
		unsigned long before = seen, first = seed_now();
		bool memfd = draw(2);

		machine_open(&m, backend, script);
		OK(&m,
		   impost_context_set(m.ctx, "memory", "backing", memfd ? "memfd" : "anonymous"));
		machine_boot(&m, cmdline);
		while (machine_run_for(&m, draw(want.exits / 4)))
			seen += migrate_somehow(&m, memfd, moved);
		machine_join(&m);
		snprintf(how, sizeof(how), "%lu instants, IMPOST_SEED=%lu", seen - before, first);
		outcome_take(&m, &got);
		machine_close(&m);
		outcome_expect(&got, &want, how);
	}
	for (size_t i = 0; i < WAYS; i++)
		fprintf(stderr, "%s, %s: %lu\n", backend, ways[i].name, moved[i]);
}

TestSuite(migrate, .timeout = 600);

/* Memory, registers, MSRs, the local APIC with its timer, and what is on the way to the serial
 * port. */
Test(migrate, a_guest_on_kvm_does_not_notice)
{
	need_backend("kvm");
	check_instants("kvm", NULL, "pages=64 rounds=100");
}

Test(migrate, a_script_on_the_mock_goes_on_where_it_was)
{
	char script[] = "/tmp/impost-migrate-XXXXXX";

	write_rounds(script);
	check_instants("mock", script, NULL);
	unlink(script);
}
