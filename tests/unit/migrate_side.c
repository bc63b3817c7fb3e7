/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a migration in a process of its own, which a test kills: a source whose guest writes
 * its memory or stands still, or a destination. The connection is descriptor 3.
 *
 * Usage: migrate-side busy | idle | receive
 *
 * Exit status: 0: the VM is the destination's; 1: it is the source's; 2: the source does not know;
 * 3: something else is wrong.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#define expect_true(condition)                                                          \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(3);                                                       \
		}                                                                       \
	} while (0)
#define expect_ok(ctx, call)                                                                      \
	do {                                                                                      \
		int err_ = (call);                                                                \
		if (err_) {                                                                       \
			fprintf(stderr, "%s returned %d (%s)\n", #call, err_, impost_error(ctx)); \
			_exit(3);                                                                 \
		}                                                                                 \
	} while (0)

#include "migrate_pair.h"

#define CONNECTION 3

static int send_it(struct pair *pair, const struct impost_migration_channel *channel)
{
	int status = 0;

	pair->sending =
		pair_make(pair, pair->source_ctx, &pair->setup.source, channel, pair_connect);
	pair_send(pair);
	if (pair->sent == -IMPOST_EUNSETTLED) {
		pair_expect_source_held(pair);
		status = 2;
		expect_ok(pair->source_ctx,
			  impost_migration_settle(pair->sending, IMPOST_MIGRATION_LEAVE));
	} else if (pair->sent) {
		pair_expect_source_runs(pair);
		return 1;
	}
	pair_expect_source_moved(pair);
	return status;
}

static int receive_it(struct pair *pair, const struct impost_migration_channel *channel)
{
	struct impost_vcpu *vcpu;

	pair->receiving = pair_make(pair, pair->destination_ctx, &pair->setup.destination, channel,
				    pair_accept);
	pair_receive(pair);
	if (pair->received)
		return 1;
	for (uint32_t i = 0; (vcpu = impost_vm_vcpu(pair->arrived, i)); i++)
		pair_expect_runs(pair->destination_ctx, vcpu);
	return 0;
}

int main(int argc, char **argv)
{
	const struct impost_migration_channel channel = pair_socket_channel(CONNECTION);
	struct pair pair;
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	expect_true(argc == 2);
	pair_open(
		&pair,
		&(struct pair_setup){
			.cpus = 2,
			.bytes = UINT64_C(1) << 20,
			.source = {.flags = IMPOST_MIGRATION_FINISH, .downtime_ms = 1, .passes = 4},
		});
	if (strcmp(argv[1], "busy") == 0)
		pair_start_guests(&pair);
	status = strcmp(argv[1], "receive") == 0 ? receive_it(&pair, &channel)
						 : send_it(&pair, &channel);
	pair_close(&pair);
	return status;
}
