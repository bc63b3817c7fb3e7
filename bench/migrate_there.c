/* SPDX-License-Identifier: Apache-2.0 */
/* The process that bench-migrate's guest comes to. See migrate.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cases.h"
#include "migrate.h"

/* --- orders and reports --- */

union control {
	struct cmsghdr head;
	uint8_t bytes[CMSG_SPACE(MOST_CONNECTIONS * sizeof(int))];
};

int there_order(int control, const struct order *order, const int *connections)
{
	struct order copy = *order;
	union control fds = {.bytes = {0}};
	struct iovec iov = {.iov_base = &copy, .iov_len = sizeof(copy)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &fds,
				 .msg_controllen = CMSG_SPACE(order->connections * sizeof(int))};

	fds.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(order->connections * sizeof(int)),
				    .cmsg_level = SOL_SOCKET,
				    .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&fds.head), connections, order->connections * sizeof(int));
	if (sendmsg(control, &message, MSG_NOSIGNAL) == sizeof(copy))
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

static int serve(struct impost_context *ctx, int control)
{
	int connections[MOST_CONNECTIONS] = {-1};
	struct order order;

	while (take_order(control, &order, connections)) {
		struct report report = {.failed = 0};

		report.failed = order.mover == MOVE_BARE
					? receive_bare(&order, connections, &report.cpu_s)
					: receive_vm(ctx, &order, connections, &report.cpu_s);
		for (uint32_t i = 0; i < order.connections; i++)
			close(connections[i]);
		if (send(control, &report, sizeof(report), MSG_NOSIGNAL) != sizeof(report))
			return -1;
	}
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
