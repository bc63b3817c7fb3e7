// SPDX-License-Identifier: Apache-2.0
/* Looking up a name, where the resolver is the test: it answers when it is told to. */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "lookup.h"
#include "ready.h"

#define LONG_MS 20000u

static struct impost_context *ctx;
static sem_t told, answered;
static int answer; /* getaddrinfo's */
static atomic_int lists;

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **ret_list)
{
	bool number = hints->ai_flags & AI_NUMERICHOST;
	int result = answer;

	cr_assert_str_eq(port, "4444");
	if (number && strcmp(host, "192.0.2.1") != 0)
		return EAI_NONAME;
	if (!number)
		while (sem_wait(&told) && errno == EINTR)
			;
	if (number || result == 0) {
		*ret_list = calloc(1, sizeof(**ret_list));
		atomic_fetch_add(&lists, 1);
		result = 0;
	}
	if (!number)
		sem_post(&answered);
	return result;
}

void freeaddrinfo(struct addrinfo *list)
{
	atomic_fetch_sub(&lists, 1);
	free(list);
}

static void set_up(void)
{
	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	sem_init(&told, 0, 0);
	sem_init(&answered, 0, 0);
}

static void tear_down(void)
{
	impost_context_close(ctx);
}

TestSuite(lookup, .init = set_up, .fini = tear_down, .timeout = 60);

static int look_up(const char *host, int stop, uint32_t timeout_ms, struct addrinfo **ret_list)
{
	const struct lookup what = {
		.host = host, .port = 4444, .stop = stop, .until = ready_deadline(timeout_ms)};

	return lookup(ctx, &what, ret_list);
}

/* No list is anybody's. It is freed by a thread that is not waited for. */
static void expect_none_left(void)
{
	for (int i = 0; i < 2000 && atomic_load(&lists) > 0; i++)
		usleep(10000);
	cr_expect_eq(atomic_load(&lists), 0);
}

Test(lookup, finds)
{
	struct addrinfo *list = NULL;

	sem_post(&told);
	cr_assert_eq(look_up("example.org", -1, LONG_MS, &list), 0, "%s", impost_error(ctx));
	cr_assert(list);
	freeaddrinfo(list);
	expect_none_left();
}

/* The resolver would not answer. */
Test(lookup, a_number_is_not_waited_for)
{
	struct addrinfo *list = NULL;

	cr_assert_eq(look_up("192.0.2.1", -1, 0, &list), 0, "%s", impost_error(ctx));
	freeaddrinfo(list);
	expect_none_left();
}

Test(lookup, fails)
{
	static const struct {
		int answer, err;
	} cases[] = {
		{EAI_NONAME, -EHOSTUNREACH}, {EAI_AGAIN, -EHOSTUNREACH}, {EAI_MEMORY, -ENOMEM}};
	struct addrinfo *list = NULL;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		answer = cases[i].answer;
		sem_post(&told);
		cr_expect_eq(look_up("example.org", -1, LONG_MS, &list), cases[i].err);
		cr_expect(strstr(impost_error(ctx), "cannot look up example.org: "), "%s",
			  impost_error(ctx));
		cr_expect(!list);
	}
}

/* What is found too late is freed by who has found it. */
Test(lookup, has_a_limit)
{
	struct addrinfo *list = NULL;

	cr_expect_eq(look_up("example.org", -1, 20, &list), -ETIMEDOUT);
	cr_expect(strstr(impost_error(ctx), "cannot look up example.org: Connection timed out"),
		  "%s", impost_error(ctx));
	sem_post(&told);
	sem_wait(&answered);
	cr_expect(!list);
	expect_none_left();
}

Test(lookup, is_cancelled)
{
	struct addrinfo *list = NULL;
	int stop = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	cr_expect_eq(look_up("example.org", stop, LONG_MS, &list), -ECANCELED);
	sem_post(&told);
	sem_wait(&answered);
	cr_expect(!list);
	expect_none_left();
	close(stop);
}
