/* SPDX-License-Identifier: Apache-2.0 */
/* The process that bench-migrate's guest comes to. See migrate.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cases.h"
#include "migrate.h"

/* --- memory that is held while nothing is moved: see migrate.h --- */

static struct {
	void *at;
	uint64_t bytes;
} held = {.at = MAP_FAILED};

static void give_held(void)
{
	if (held.at != MAP_FAILED)
		munmap(held.at, held.bytes);
	held.at = MAP_FAILED;
	held.bytes = 0;
}

/* BYTES, and some for what sockets and page tables take, in huge pages as the movers' memory. */
static void hold(uint64_t bytes)
{
	uint64_t want = bytes + bytes / 4;

	if (held.bytes >= want)
		return;
	give_held();
	held.at = mmap(NULL, want, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (held.at == MAP_FAILED)
		return; /* what is measured is then as it is */
	held.bytes = want;
	madvise(held.at, want, MADV_HUGEPAGE);
	madvise(held.at, want, MADV_POPULATE_WRITE);
}

/* Makes BYTES free that this machine has. */
static void make_room(uint64_t bytes)
{
	const struct timespec settle = {.tv_sec = 2, .tv_nsec = 500000000};

	if (bytes) {
		hold(bytes);
		nanosleep(&settle, NULL);
	}
	give_held();
}

/* --- orders and reports --- */

union control {
	struct cmsghdr head;
	uint8_t bytes[CMSG_SPACE(MOST_CONNECTIONS * sizeof(int))];
};

int there_order(int control, const struct order *order, const int *connections)
{
	struct order copy = *order;
	char ready;
	union control fds = {.bytes = {0}};
	struct iovec iov = {.iov_base = &copy, .iov_len = sizeof(copy)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (order->connections) {
		message.msg_control = &fds;
		message.msg_controllen = CMSG_SPACE(order->connections * sizeof(int));
	}
	fds.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(order->connections * sizeof(int)),
				    .cmsg_level = SOL_SOCKET,
				    .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&fds.head), connections, order->connections * sizeof(int));
	if (sendmsg(control, &message, MSG_NOSIGNAL) == sizeof(copy) &&
	    recv(control, &ready, sizeof(ready), 0) == sizeof(ready))
		return 0;
	perror("the other process");
	return -1;
}

/* 0: there is none any more. */
static int take_order(int control, struct order *order, int connections[MOST_CONNECTIONS])
{
	union control fds;
	struct iovec iov = {.iov_base = order, .iov_len = sizeof(*order)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &fds,
				 .msg_controllen = sizeof(fds)};
	ssize_t n = recvmsg(control, &message, MSG_CMSG_CLOEXEC);

	if (n == sizeof(*order) && order->connections <= MOST_CONNECTIONS)
		memcpy(connections, CMSG_DATA(&fds.head), order->connections * sizeof(int));
	return n == sizeof(*order);
}

int there_report(int control, struct report *ret_report)
{
	if (recv(control, ret_report, sizeof(*ret_report), 0) == sizeof(*ret_report))
		return ret_report->failed ? -1 : 0;
	fprintf(stderr, "the other process has ended\n");
	return -1;
}

/* --- receiving --- */

/* Into memory as a VM's is when it is new, with huge pages, as libimpost asks for them. */
static int receive_bare(const struct order *order, const int *connections, double *ret_cpu_s)
{
	double begin = cpu_seconds();
	uint8_t *memory = mmap(NULL, order->bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int err;

	if (memory == MAP_FAILED) {
		perror("mmap");
		return -1;
	}
	madvise(memory, order->bytes, MADV_HUGEPAGE);
	err = bare_receive(connections, order->connections, memory, order->bytes);
	*ret_cpu_s = cpu_seconds() - begin;
	munmap(memory, order->bytes);
	return err;
}

static void destroy(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;

	while (vm && (vcpu = impost_vm_vcpu(vm, 0)))
		impost_vcpu_destroy(vcpu);
	impost_vm_destroy(vm);
}

static int receive_vm(struct impost_context *ctx, const struct order *order, const int *connections,
		      double *ret_cpu_s)
{
	struct further further = {connections, 1, order->connections};
	struct impost_migration_channel channel = {.size = sizeof(channel), .fd = connections[0]};
	struct impost_migration_config config = {.size = sizeof(config),
						 .channel = &channel,
						 .connect = give_further,
						 .opaque = &further,
						 .backend = "kvm"};
	struct impost_migration *migration;
	struct impost_vm *vm = NULL;
	double begin = cpu_seconds();
	int err;

	if (impost_migration_create(ctx, &config, &migration))
		return failed(ctx, "impost_migration_create");
	err = impost_migration_receive(migration, &vm);
	*ret_cpu_s = cpu_seconds() - begin;
	if (err)
		failed(ctx, "impost_migration_receive");
	impost_migration_destroy(migration);
	destroy(vm);
	return err;
}

static void receive(struct impost_context *ctx, const struct order *order, const int *connections,
		    struct report *report)
{
	switch ((enum mover)order->mover) {
	case MOVE_BARE:
		report->failed = receive_bare(order, connections, &report->cpu_s);
		break;
	case MOVE_IMPOST:
		report->failed = receive_vm(ctx, order, connections, &report->cpu_s);
		break;
	case MOVE_NONE:
		break;
	}
}

static int serve(struct impost_context *ctx, int control)
{
	int connections[MOST_CONNECTIONS] = {-1};
	struct order order;

	while (take_order(control, &order, connections)) {
		struct report report = {.failed = 0};
		const char ready = 1;

		make_room(order.fresh);
		if (send(control, &ready, sizeof(ready), MSG_NOSIGNAL) != sizeof(ready))
			return -1;
		receive(ctx, &order, connections, &report);
		for (uint32_t i = 0; i < order.connections; i++)
			close(connections[i]);
		if (order.fresh && order.mover != MOVE_NONE)
			hold(order.fresh); /* before the host takes it */
		if (send(control, &report, sizeof(report), MSG_NOSIGNAL) != sizeof(report))
			return -1;
	}
	give_held();
	return 0;
}

int there_main(int control, const char *plugin_dir)
{
	struct impost_context *ctx;
	int err;

	if (impost_context_open(NULL, NULL, &ctx))
		return EXIT_FAILURE;
	err = impost_context_set(ctx, "impost", "plugin_dir", plugin_dir)
		      ? failed(ctx, "plugin_dir")
		      : serve(ctx, control);
	impost_context_close(ctx);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
