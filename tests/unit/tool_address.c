// SPDX-License-Identifier: Apache-2.0
/* The addresses of a migration: what is one, what is none and why, and that one is written as read.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "address.h"

static struct impost_context *ctx;

static void set_up(void)
{
	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
}

static void tear_down(void)
{
	impost_context_close(ctx);
}

TestSuite(address, .init = set_up, .fini = tear_down);

static void check_same(const char *text, enum address_use use)
{
	char written[ADDRESS_TEXT_SIZE];
	struct address address;

	cr_assert_eq(address_parse(ctx, text, use, &address), 0, "%s: %s", text, impost_error(ctx));
	address_format(&address, written);
	cr_expect_str_eq(written, text);
}

Test(address, is_written_as_it_was_read)
{
	static const char *const texts[] = {
		"unix:/run/vm.sock",
		"unix:vm sock:1",
		"tcp:127.0.0.1:1",
		"tcp:a:65535",
		"tls:[::1]:4444",
		"tcp:[fe80::1%eth0]:99",
		"fd:3",
		"fd:1048575",
		"tls:example.org:80",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		check_same(texts[i], ADDRESS_CONNECTS);
		check_same(texts[i], ADDRESS_LISTENS);
	}
	check_same("tcp:[::]:0", ADDRESS_LISTENS);
}

Test(address, parts)
{
	struct address address;

	cr_assert_eq(address_parse(ctx, "tls:[::1]:080", ADDRESS_CONNECTS, &address), 0);
	cr_expect_eq(address.kind, ADDRESS_TLS);
	cr_expect_str_eq(address.host, "::1");
	cr_expect_eq(address.port, 80);
	cr_assert_eq(address_parse(ctx, "unix:a", ADDRESS_CONNECTS, &address), 0);
	cr_expect_eq(address.kind, ADDRESS_UNIX);
	cr_expect_str_eq(address.path, "a");
	cr_assert_eq(address_parse(ctx, "fd:17", ADDRESS_CONNECTS, &address), 0);
	cr_expect_eq(address.kind, ADDRESS_FD);
	cr_expect_eq(address.fd, 17);
}

Test(address, what_is_none)
{
	static const struct {
		const char *text, *message;
	} wrong[] = {
		{"", "is no address"},
		{"tcp", "is no address"},
		{"udp:a:1", "is no address"},
		{" tcp:a:1", "is no address"},
		{"TCP:a:1", "is no address"},
		{"unix:", "1 to 107 bytes, not 0"},
		{"tcp:", "give HOST:PORT"},
		{"tcp:a", "give HOST:PORT"},
		{"tcp::1", "give HOST:PORT"},
		{"tcp:[]:1", "give HOST:PORT"},
		{"tcp:[::1]", "give HOST:PORT"},
		{"tcp:[::1:4", "give HOST:PORT"},
		{"tcp:[::1]4", "give HOST:PORT"},
		{"tcp:::1:4444", "in brackets"},
		{"tcp:[a]:1", "in brackets there is an IPv6 number"},
		{"tls:[[]:1", "in brackets there is an IPv6 number"},
		{"tcp:a:", "from 1 to 65535"},
		{"tcp:a:0", "from 1 to 65535"},
		{"tcp:a:65536", "from 1 to 65535"},
		{"tcp:a:99999999999999999999", "from 1 to 65535"},
		{"tcp:a:1-5", "from 1 to 65535"},
		{"tcp:a:+1", "from 1 to 65535"},
		{"tls:a: 1", "from 1 to 65535"},
		{"fd:", "connected socket"},
		{"fd:2", "3 or more"},
		{"fd:-1", "connected socket"},
		{"fd:1048576", "connected socket"},
		{"fd:3x", "connected socket"},
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct address address = {.port = 7};
		int err = address_parse(ctx, wrong[i].text, ADDRESS_CONNECTS, &address);

		cr_expect(err == -EINVAL || err == -ENAMETOOLONG, "%s: %d", wrong[i].text, err);
		cr_expect(strstr(impost_error(ctx), wrong[i].message), "%s: no '%s' in %s",
			  wrong[i].text, wrong[i].message, impost_error(ctx));
		cr_expect_eq(address.port, 7, "%s: the result was touched", wrong[i].text);
	}
}

/* The longest that there can be, and one byte more. */
static void check_longest(const char *before, const char *behind, size_t most)
{
	struct address address;
	char text[512];

	for (size_t more = 0; more < 2; more++) {
		size_t len = strlen(before);

		strcpy(text, before);
		memset(text + len, 'x', most + more);
		strcpy(text + len + most + more, behind);
		cr_expect_eq(address_parse(ctx, text, ADDRESS_CONNECTS, &address),
			     more ? -ENAMETOOLONG : 0, "%s", text);
	}
}

Test(address, lengths)
{
	check_longest("unix:", "", 107);
	check_longest("tcp:", ":1", 253);
	check_longest("tls:[:", "]:1", 252);
}
