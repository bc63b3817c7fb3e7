// SPDX-License-Identifier: Apache-2.0
/* impost run --dirty-rate: pages written in each interval, on standard error. */
#include "dirty_rate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define RANGES 512u
#define MOST   3600000ul /* milliseconds: an hour */

uint32_t dirty_rate_interval(const struct invocation *invocation)
{
	const char *given = invocation->values[OPTION_DIRTY_RATE];
	unsigned long ms = 1000;
	char *end = NULL;

	if (*given) {
		errno = 0;
		ms = strtoul(given, &end, 10);
	}
	/* strtoul takes blanks and signs, too. */
	if (end && (*end || given[strspn(given, "0123456789")] || errno || ms == 0 || ms > MOST)) {
		complain("--dirty-rate=%s: give milliseconds, from 1 to %lu", given, MOST);
		return 0;
	}
	return (uint32_t)ms;
}

int dirty_rate_open(struct dirty_rate *rate, struct impost_vm *vm, uint32_t ms)
{
	const struct timespec interval = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	const struct itimerspec spec = {.it_interval = interval, .it_value = interval};
	int err = impost_dirty_create(impost_vm_memory(vm), NULL, &rate->dirty);

	if (err < 0)
		return err;
	rate->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (rate->timer < 0 || timerfd_settime(rate->timer, 0, &spec, NULL) < 0)
		return impost_error_set(impost_vm_context(vm), -errno, "cannot make a timer: %s",
					strerror(errno));
	return 0;
}

/* Pulls what was written, and has it protected again. */
static int pass(struct dirty_rate *rate)
{
	struct impost_range ranges[RANGES];
	uint64_t count = RANGES;
	int err = impost_dirty_sync(rate->dirty);

	while (err == 0 && count == RANGES)
		err = impost_dirty_take(rate->dirty, ranges, RANGES, &count);
	return err;
}

/* Makes a pass and counts. Returns false, and nothing more will be told, when that fails. */
static bool measure(struct dirty_rate *rate, const struct invocation *invocation,
		    struct impost_dirty_stats *ret_stats)
{
	int err = pass(rate);

	ret_stats->size = sizeof(*ret_stats);
	if (err == 0)
		err = impost_dirty_stats(rate->dirty, ret_stats);
	if (err == 0)
		return true;
	complain_error(invocation, err);
	dirty_rate_close(rate);
	return false;
}

static void print(const char *when, uint64_t pages, uint64_t ns, uint64_t per_second)
{
	fprintf(stderr,
		"impost: dirty%s: %" PRIu64 " page%s in %.3f s, %" PRIu64 " pages/s, %.1f MiB/s\n",
		when, pages, pages == 1 ? "" : "s", (double)ns / 1e9, per_second,
		(double)per_second * IMPOST_PAGE_SIZE / 1048576);
}

void dirty_rate_tick(struct dirty_rate *rate, const struct invocation *invocation)
{
	struct impost_dirty_stats stats;
	uint64_t expirations;

	if (read(rate->timer, &expirations, sizeof(expirations)) < 0 ||
	    !measure(rate, invocation, &stats))
		return;
	print("", stats.last_pages, stats.last_ns, stats.last_rate);
}

void dirty_rate_total(struct dirty_rate *rate, const struct invocation *invocation)
{
	struct impost_dirty_stats stats;

	if (rate->dirty && measure(rate, invocation, &stats))
		print(" in all", stats.all_pages, stats.all_ns, stats.all_rate);
}

void dirty_rate_close(struct dirty_rate *rate)
{
	impost_dirty_destroy(rate->dirty);
	rate->dirty = NULL;
	if (rate->timer >= 0)
		close(rate->timer);
	rate->timer = -1;
}
