/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures migrations, as it is asked (cases.h): each between two processes of this machine.
 *
 *   bench-migrate PLUGIN_DIR GUEST
 *
 * GUEST is tests/guests/spin. It exits once and stops: its vCPU stands idle in the guest. Its
 * memory is all populated, and random but for the first megabytes, which have the guest itself. A
 * case gives milliseconds that it took in all, milliseconds that the guest stood, and seconds of
 * CPU time of both processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "migrate.h"
#include "timing.h"

#define MIB	    (UINT64_C(1) << 20)
#define BEGIN	    (2 * MIB) /* of what is random */
#define DOWNTIME_MS 20u

enum carrier {
	OVER_UNIX,
	OVER_TCP,
};

static int control = -1; /* to the other process */
static int guest_fd = -1;

/* --- the guest --- */

struct guest {
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
	pthread_t thread;
	bool running;
	uint64_t bytes;
};

/* For a copy: made when one is needed, and gone when it was sent. */
static struct guest kept;

/* Memory of guests that are handed over, which is there again when they are gone. */
static struct {
	int fd;
	uint64_t bytes;
} shared = {.fd = -1};

/* Returns when the VM is elsewhere, or at an exit that has to do with its end. */
static void *run(void *arg)
{
	struct impost_exit exit;

	while (impost_vcpu_run(arg, &exit) == 0 &&
	       (exit.kind == IMPOST_EXIT_IO || exit.kind == IMPOST_EXIT_INTR))
		if (exit.kind == IMPOST_EXIT_INTR)
			break;
	return NULL;
}

static void destroy(struct guest *guest)
{
	if (guest->running) {
		impost_vcpu_kick(guest->vcpu);
		pthread_join(guest->thread, NULL);
	}
	impost_vcpu_destroy(guest->vcpu);
	impost_vm_destroy(guest->vm);
	*guest = (struct guest){.vm = NULL};
}

static int fill(struct impost_memory *memory, uint64_t bytes)
{
	uint64_t state = 1, page[IMPOST_PAGE_SIZE / sizeof(state)];
	int err = 0;

	for (uint64_t gpa = BEGIN; !err && gpa < bytes; gpa += IMPOST_PAGE_SIZE) {
		for (size_t i = 0; i < IMPOST_PAGE_SIZE / sizeof(state); i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			page[i] = state;
		}
		err = impost_memory_write(memory, gpa, page, sizeof(page));
	}
	return err;
}

/* A memfd with all its pages. */
static int make_shared(uint64_t bytes)
{
	if (shared.bytes == bytes)
		return 0;
	if (shared.fd >= 0)
		close(shared.fd);
	shared.bytes = 0;
	shared.fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shared.fd < 0 || ftruncate(shared.fd, (off_t)bytes) ||
	    fcntl(shared.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ||
	    fallocate(shared.fd, 0, 0, (off_t)bytes)) {
		perror("memory of a guest");
		return -1;
	}
	shared.bytes = bytes;
	return 0;
}

static int add_shared(struct impost_memory *memory, uint64_t bytes)
{
	struct impost_x86_range parts[2];
	uint64_t before = 0;
	int err = impost_x86_split_ram(bytes, IMPOST_X86_HOLE_START, IMPOST_X86_HOLE_END, parts);

	for (uint32_t i = 0; !err && i < 2 && parts[i].bytes > 0; i++) {
		const struct impost_region region = {.size = sizeof(region),
						     .kind = IMPOST_REGION_FD,
						     .gpa = parts[i].gpa,
						     .bytes = parts[i].bytes,
						     .flags = IMPOST_REGION_SHARED,
						     .fd = shared.fd,
						     .fd_offset = before};

		err = impost_memory_add(memory, &region);
		before += parts[i].bytes;
	}
	return err;
}

static int create(struct impost_context *ctx, uint64_t bytes, bool is_shared, struct guest *guest)
{
	struct impost_vm_config config;
	struct impost_x86_boot_config boot;
	struct impost_memory *memory;

	if ((is_shared && make_shared(bytes)) || impost_vm_config_init(ctx, &config))
		return failed(ctx, "configuration");
	config.backend = "kvm";
	config.memory = bytes;
	impost_x86_boot_config_init(ctx, &boot);
	boot.kernel_fd = guest_fd;
	boot.cmdline = "outs=1";
	if (impost_vm_create(ctx, &config, &guest->vm))
		return failed(ctx, "VM");
	memory = impost_vm_memory(guest->vm);
	if ((is_shared ? add_shared(memory, bytes)
		       : impost_x86_add_ram(memory, bytes) || fill(memory, bytes)) ||
	    impost_vcpu_create(guest->vm, 0, &guest->vcpu) ||
	    impost_x86_boot(guest->vm, &guest->vcpu, 1, &boot, NULL))
		return failed(ctx, "guest");
	guest->bytes = bytes;
	return 0;
}

/* Runs it until it stops: those are its two exits. */
static int start(struct impost_context *ctx, struct guest *guest)
{
	struct impost_exit exit;

	for (uint32_t i = 0; i < 2; i++)
		if (impost_vcpu_run(guest->vcpu, &exit) || exit.kind != IMPOST_EXIT_IO)
			return failed(ctx, "impost_vcpu_run");
	if (pthread_create(&guest->thread, NULL, run, guest->vcpu)) {
		fprintf(stderr, "no thread for a vCPU\n");
		return -1;
	}
	guest->running = true;
	return 0;
}

static int prepare(struct impost_context *ctx, uint64_t bytes, bool is_shared, struct guest *guest)
{
	int err = create(ctx, bytes, is_shared, guest);

	if (!err)
		err = start(ctx, guest);
	if (err)
		destroy(guest);
	return err;
}

/* --- connections --- */

static int connect_tcp(int fds[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	const int yes = 1;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener >= 0 && fds[0] >= 0 &&
	    !bind(listener, (const struct sockaddr *)&address, len) && !listen(listener, 1) &&
	    !getsockname(listener, (struct sockaddr *)&address, &len) &&
	    !connect(fds[0], (const struct sockaddr *)&address, len))
		fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	for (uint32_t i = 0; fds[1] >= 0 && i < 2; i++)
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (listener >= 0)
		close(listener);
	return fds[1] < 0 ? -1 : 0;
}

/* With the library's send buffer for the bare loop, too. */
static int connect_unix(int fds[2])
{
	const int ahead = 1 << 20;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -1;
	for (uint32_t i = 0; i < 2; i++)
		setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &ahead, sizeof(ahead));
	return 0;
}

static int connect_pair(enum carrier carrier, int fds[2])
{
	fds[0] = fds[1] = -1;
	return carrier == OVER_TCP ? connect_tcp(fds) : connect_unix(fds);
}

/* Gives the other process ORDER with its ends of new connections. Those that are open are to be
 * closed in any case. */
static int connect_all(enum carrier carrier, const struct order *order, int here[MOST_CONNECTIONS])
{
	int there[MOST_CONNECTIONS], fds[2], err = 0;
	uint32_t count = 0;

	for (uint32_t i = 0; i < MOST_CONNECTIONS; i++)
		here[i] = there[i] = -1;
	for (; !err && count < order->connections; count++) {
		err = connect_pair(carrier, fds);
		here[count] = fds[0];
		there[count] = fds[1];
	}
	err = err ? -1 : there_order(control, order, there);
	for (uint32_t i = 0; i < count; i++)
		if (there[i] >= 0)
			close(there[i]);
	if (err)
		perror("connections");
	return err;
}

/* --- moving --- */

static int send_bare(struct impost_context *ctx, const struct guest *guest, const int *connections,
		     uint32_t count)
{
	void *memory;

	if (impost_memory_ptr(impost_vm_memory(guest->vm), 0, guest->bytes, &memory))
		return failed(ctx, "impost_memory_ptr");
	return bare_send(connections, count, memory, guest->bytes);
}

static int send_vm(struct impost_context *ctx, const struct guest *guest, const int *connections,
		   uint32_t count, uint32_t flags, double *ret_downtime_ms)
{
	struct further further = {connections, 1, count};
	struct impost_migration_channel channel = {.size = sizeof(channel), .fd = connections[0]};
	struct impost_migration_config config = {.size = sizeof(config),
						 .flags = flags,
						 .channel = &channel,
						 .connect = give_further,
						 .opaque = &further,
						 .downtime_ms = DOWNTIME_MS,
						 .connections = count};
	struct impost_migration_status status = {.size = sizeof(status)};
	struct impost_migration *migration;
	int err;

	if (impost_migration_create(ctx, &config, &migration))
		return failed(ctx, "impost_migration_create");
	err = impost_migration_send(migration, guest->vm);
	if (err)
		failed(ctx, "impost_migration_send");
	else
		impost_migration_status(migration, &status);
	*ret_downtime_ms = (double)status.downtime_ns / 1e6;
	impost_migration_destroy(migration);
	return err;
}

/* A case: what moves how much, and how. */
struct move {
	enum mover mover;
	enum carrier carrier;
	uint32_t connections;
	uint32_t flags; /* of the migration */
	uint32_t mib;
};

static int move(struct impost_context *ctx, const struct move *move, const struct guest *guest,
		double ret[MAX_NUMBERS])
{
	bool is_local = move->flags & IMPOST_MIGRATION_LOCAL;
	const struct order order = {move->mover, move->connections, guest->bytes,
				    is_local ? 0 : guest->bytes};
	struct report report;
	int here[MOST_CONNECTIONS], err = connect_all(move->carrier, &order, here);
	double cpu_s = cpu_seconds(), start = now_ns();

	if (!err)
		err = move->mover == MOVE_BARE
			      ? send_bare(ctx, guest, here, move->connections)
			      : send_vm(ctx, guest, here, move->connections, move->flags, &ret[1]);
	ret[0] = (now_ns() - start) / 1e6;
	ret[2] = cpu_seconds() - cpu_s;
	for (uint32_t i = 0; i < MOST_CONNECTIONS; i++)
		if (here[i] >= 0)
			close(here[i]);
	if (!err)
		err = there_report(control, &report);
	if (!err)
		ret[2] += report.cpu_s;
	return err;
}

static const struct move moves[] = {
	{MOVE_BARE, OVER_UNIX, 1, 0, 1024},
	{MOVE_BARE, OVER_TCP, 1, 0, 1024},
	{MOVE_BARE, OVER_UNIX, 2, 0, 1024},
	{MOVE_BARE, OVER_TCP, 2, 0, 1024},
	{MOVE_IMPOST, OVER_UNIX, 1, 0, 1024},
	{MOVE_IMPOST, OVER_TCP, 1, 0, 1024},
	{MOVE_IMPOST, OVER_UNIX, 2, 0, 1024},
	{MOVE_IMPOST, OVER_TCP, 2, 0, 1024},
	{MOVE_IMPOST, OVER_UNIX, 1, IMPOST_MIGRATION_LOCAL, 1024},
	{MOVE_IMPOST, OVER_UNIX, 1, IMPOST_MIGRATION_LOCAL, 8192},
	{MOVE_IMPOST, OVER_UNIX, 3, 0, 1024},
	{MOVE_IMPOST, OVER_UNIX, 4, 0, 1024},
};

static int take_move(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	const struct move *at = &moves[arg];
	bool is_shared = at->flags & IMPOST_MIGRATION_LOCAL;
	struct guest handed = {.vm = NULL}, *guest = is_shared ? &handed : &kept;
	int err = 0;

	if (!guest->vm)
		err = prepare(ctx, at->mib * MIB, is_shared, guest);
	if (!err)
		err = move(ctx, at, guest, ret);
	if (err || at->mover == MOVE_IMPOST)
		destroy(guest);
	return err;
}

/* Gives memory free, of ARG MiB, for what is not moved from here. */
static int take_room(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	const struct order order = {.mover = MOVE_NONE, .fresh = arg * MIB};
	struct report report;

	(void)ctx;
	(void)ret;
	return there_order(control, &order, NULL) ? -1 : there_report(control, &report);
}

static const struct bench_case cases[] = {
	{"bare-unix-1", take_move, 0},	{"bare-tcp-1", take_move, 1},
	{"bare-unix-2", take_move, 2},	{"bare-tcp-2", take_move, 3},
	{"unix-1", take_move, 4},	{"tcp-1", take_move, 5},
	{"unix-2", take_move, 6},	{"tcp-2", take_move, 7},
	{"local-1024", take_move, 8},	{"local-8192", take_move, 9},
	{"unix-3", take_move, 10},	{"unix-4", take_move, 11},
	{"room-1024", take_room, 1024}, {NULL, NULL, 0},
};

static int serve(const char *plugin_dir)
{
	static const struct bench_case *const lists[] = {cases};
	struct impost_context *ctx;
	int err;

	if (impost_context_open(NULL, NULL, &ctx))
		return -1;
	err = impost_context_set(ctx, "impost", "plugin_dir", plugin_dir)
		      ? failed(ctx, "plugin_dir")
		      : take_cases(ctx, lists, 1);
	destroy(&kept);
	if (shared.fd >= 0)
		close(shared.fd);
	impost_context_close(ctx);
	return err;
}

/* Forks before there is a context: a fork cannot use what its parent opened. */
static pid_t fork_other(const char *plugin_dir)
{
	int fds[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -1;
	child = fork();
	if (child == 0) {
		close(fds[0]);
		_exit(there_main(fds[1], plugin_dir));
	}
	close(fds[1]);
	control = fds[0];
	return child;
}

int main(int argc, char **argv)
{
	pid_t other;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: %s PLUGIN_DIR GUEST\n", argv[0]);
		return EXIT_FAILURE;
	}
	guest_fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (guest_fd < 0) {
		perror(argv[2]);
		return EXIT_FAILURE;
	}
	other = fork_other(argv[1]);
	if (other < 0) {
		perror("the other process");
		close(guest_fd);
		return EXIT_FAILURE;
	}
	err = serve(argv[1]);
	close(control);
	close(guest_fd);
	waitpid(other, NULL, 0);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
