// SPDX-License-Identifier: Apache-2.0
/* TLS as a migration's channel: who gets in, that what goes in comes out, and that waits end. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tls.h"
#include "tool_certificates.h"

#define LIMIT_MS 20000u

static char folder[64];

static const char *path(const char *name)
{
	static char text[4][128];
	static unsigned int turn;
	char *at = text[turn++ % 4];

	snprintf(at, sizeof(text[0]), "%s/%s", folder, name);
	return at;
}

static void set_up(void)
{
	snprintf(folder, sizeof(folder), "/tmp/impost-tls.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	certificates_make(path);
}

static int remove_one(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(name);
}

static void tear_down(void)
{
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(tls, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- a side --- */

struct side {
	struct impost_context *ctx;
	struct tls_credentials *credentials;
	struct tls_peer peer;
	struct tls *tls;
	pthread_t thread;
	int err;
};

static void set(struct side *side, const char *key, const char *file)
{
	cr_assert_eq(impost_context_set(side->ctx, "migration", key, path(file)), 0, "%s",
		     impost_error(side->ctx));
}

static void set_x509(struct side *side, const char *name, const char *ca)
{
	char file[64];

	snprintf(file, sizeof(file), "%s.pem", name);
	set(side, "tls_certificate", file);
	snprintf(file, sizeof(file), "%s.key", name);
	set(side, "tls_key", file);
	set(side, "tls_ca", ca);
}

static void write_private(const char *name, const char *text)
{
	int fd = open(path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* By certificates if TEXT is NULL, which NAME and CA are for, or else by that file of keys. */
static void open_side(struct side *side, const char *name, const char *ca, const char *text)
{
	*side = (struct side){.peer = {.fd = -1, .stop = -1, .timeout_ms = LIMIT_MS}};
	cr_assert_eq(impost_context_open(NULL, NULL, &side->ctx), 0);
	if (text) {
		write_private(name, text);
		set(side, "tls_psk", name);
	} else {
		set_x509(side, name, ca);
	}
	cr_assert_eq(tls_credentials_read(side->ctx, &side->credentials), 0, "%s",
		     impost_error(side->ctx));
}

static void close_side(struct side *side)
{
	tls_close(side->tls);
	tls_credentials_free(side->credentials);
	if (side->peer.fd >= 0)
		close(side->peer.fd);
	impost_context_close(side->ctx);
}

static void *open_thread(void *opaque)
{
	struct side *side = opaque;

	side->err = tls_open(side->ctx, side->credentials, &side->peer, &side->tls);
	return NULL;
}

/* Shakes hands; the client expects HOST. What comes of it is in both sides' err. */
static void shake(struct side *client, struct side *server, const char *host)
{
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	client->peer.fd = fds[0];
	client->peer.host = host;
	server->peer.fd = fds[1];
	cr_assert_eq(pthread_create(&server->thread, NULL, open_thread, server), 0);
	open_thread(client);
	if (client->err < 0)
		shutdown(client->peer.fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
}

/* In TLS 1.3 the client is done before the server has judged it: it hears of that when it reads. */
static void check(const char *name, const char *ca, const char *host, int client_err,
		  int server_err)
{
	struct side client, server;
	char text[256] = "";
	uint8_t byte;

	open_side(&client, name, ca, NULL);
	open_side(&server, "right", "ca.pem", NULL);
	shake(&client, &server, host);
	cr_expect_eq(client.err, client_err, "client %s: %d %s", name, client.err,
		     impost_error(client.ctx));
	cr_expect_eq(server.err, server_err, "server, of %s: %d %s", name, server.err,
		     impost_error(server.ctx));
	if (client.err == 0 && server.err < 0) {
		cr_expect_lt(tls_read(client.tls, &byte, 1, LIMIT_MS), 0);
		cr_expect(tls_failure(client.tls, text, sizeof(text)));
		cr_expect(strstr(text, "the other side refuses"), "%s", text);
	}
	close_side(&client);
	close_side(&server);
}

/* --- who gets in --- */

Test(tls, both_are_who_they_should_be)
{
	check("right", "ca.pem", "localhost", 0, 0);
	check("right", "ca.pem", "127.0.0.1", 0, 0);
	check("named", "ca.pem", "localhost", 0, 0); /* whom a client's is for nobody asks */
}

Test(tls, server_has_another_name)
{
	check("right", "ca.pem", "elsewhere.example", -EACCES, -EACCES);
	check("right", "ca.pem", "127.0.0.2", -EACCES, -EACCES);
}

Test(tls, server_is_of_another_authority)
{
	check("right", "foreign-ca.pem", "localhost", -EACCES, -EACCES);
}

Test(tls, client_is_of_another_authority)
{
	check("foreign", "ca.pem", "localhost", 0, -EACCES);
}

Test(tls, client_is_out_of_date)
{
	check("old", "ca.pem", "localhost", 0, -EACCES);
}

static void expect_part(const struct side *side, const char *part)
{
	cr_expect(strstr(impost_error(side->ctx), part), "%s", impost_error(side->ctx));
	cr_expect(!strstr(impost_error(side->ctx), "nternal"), "%s", impost_error(side->ctx));
}

/* With KEYS each; the client takes its first. */
static void check_psk(const char *client_keys, const char *server_keys, bool works)
{
	struct side client, server;

	open_side(&client, "client.psk", NULL, client_keys);
	open_side(&server, "server.psk", NULL, server_keys);
	shake(&client, &server, "localhost");
	if (works) {
		cr_expect_eq(client.err, 0, "%s", impost_error(client.ctx));
		cr_expect_eq(server.err, 0, "%s", impost_error(server.ctx));
	} else {
		/* That there is no such name is told as a wrong key is. */
		cr_expect_eq(server.err, -EPROTO);
		cr_expect_eq(client.err, -EACCES);
		expect_part(&client, "must be in the destination's, of the same name");
	}
	close_side(&client);
	close_side(&server);
}

#define KEY_A "0123456789abcdef0123456789abcdef"
#define KEY_B "ffffffffffffffffffffffffffffffff"

Test(tls, psk)
{
	check_psk("a:" KEY_A "\n", "b:" KEY_B "\na:" KEY_A "\n", true);
	check_psk("# who\n\na:" KEY_A, "a:" KEY_A, true);
	check_psk("a:" KEY_A "\n", "a:" KEY_B "\n", false);
	check_psk("a:" KEY_A "\n", "b:" KEY_A "\n", false);
}

Test(tls, psk_against_certificates)
{
	struct side client, server;

	open_side(&client, "right", "ca.pem", NULL);
	open_side(&server, "server.psk", NULL, "a:" KEY_A "\n");
	shake(&client, &server, "localhost");
	cr_expect_lt(client.err, 0);
	cr_expect_lt(server.err, 0);
	close_side(&client);
	close_side(&server);
}

/* --- files --- */

static void refuse(struct impost_context *ctx, int err, const char *message)
{
	struct tls_credentials *credentials;

	cr_expect_eq(tls_credentials_read(ctx, &credentials), err, "%s", impost_error(ctx));
	cr_expect(strstr(impost_error(ctx), message), "no '%s' in %s", message, impost_error(ctx));
}

Test(tls, files_that_cannot_be)
{
	struct side side = {0};

	cr_assert_eq(impost_context_open(NULL, NULL, &side.ctx), 0);
	refuse(side.ctx, -EINVAL, "needs tls_certificate");
	set(&side, "tls_certificate", "right.pem");
	refuse(side.ctx, -EINVAL, "needs tls_key");
	set(&side, "tls_key", "named.key");
	refuse(side.ctx, -EINVAL, "needs tls_ca");
	set(&side, "tls_ca", "ca.pem");
	refuse(side.ctx, -EINVAL, "named.key");
	set(&side, "tls_key", "right.key");
	cr_assert_eq(chmod(path("right.key"), 0640), 0);
	refuse(side.ctx, -EPERM, "chmod 600");
	set(&side, "tls_key", "none");
	refuse(side.ctx, -ENOENT, "none");
	cr_assert_eq(chmod(path("right.key"), 0600), 0);
	set(&side, "tls_key", "right.key");
	set(&side, "tls_ca", "right.key");
	refuse(side.ctx, -EINVAL, "right.key");
	set(&side, "tls_psk", "right.key");
	refuse(side.ctx, -EINVAL, "not by both");
	impost_context_close(side.ctx);
}

Test(tls, psk_files_that_cannot_be)
{
	static const char *const texts[] = {"", "\n\n", "a\n", ":ff\n", "a:\n", "a:zz\n"};
	struct side side = {0};

	cr_assert_eq(impost_context_open(NULL, NULL, &side.ctx), 0);
	set(&side, "tls_psk", "psk");
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_private("psk", texts[i]);
		refuse(side.ctx, -EINVAL, "psk");
	}
	write_private("psk", "a:" KEY_A);
	cr_assert_eq(chmod(path("psk"), 0604), 0);
	refuse(side.ctx, -EPERM, "chmod 600");
	impost_context_close(side.ctx);
}

/* --- waits --- */

Test(tls, handshake_has_a_limit)
{
	struct side client;
	int fds[2];

	open_side(&client, "right", "ca.pem", NULL);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	client.peer.fd = fds[0];
	client.peer.host = "localhost";
	client.peer.timeout_ms = 20;
	open_thread(&client);
	cr_expect_eq(client.err, -ETIMEDOUT);
	client.peer.stop = eventfd(1, EFD_CLOEXEC);
	client.peer.timeout_ms = LIMIT_MS;
	open_thread(&client);
	cr_expect_eq(client.err, -ECANCELED);
	close(client.peer.stop);
	close(fds[1]);
	close_side(&client);
}

static void open_both(struct side *client, struct side *server)
{
	open_side(client, "right", "ca.pem", NULL);
	open_side(server, "right", "ca.pem", NULL);
	shake(client, server, "localhost");
	cr_assert_eq(client->err, 0, "%s", impost_error(client->ctx));
	cr_assert_eq(server->err, 0, "%s", impost_error(server->ctx));
}

Test(tls, reads_and_writes_have_limits)
{
	static uint8_t buf[1u << 20];
	struct side client, server;
	int64_t count;

	open_both(&client, &server);
	cr_expect_eq(tls_read(client.tls, buf, 1, 0), -EAGAIN);
	cr_expect_eq(tls_read(client.tls, buf, 1, 20), -EAGAIN);
	do
		count = tls_write(client.tls, buf, sizeof(buf), 0);
	while (count > 0);
	cr_expect_eq(count, -EAGAIN);
	cr_expect_eq(tls_write(client.tls, buf, sizeof(buf), 20), -EAGAIN);
	cr_expect_eq(tls_read(server.tls, buf, 7, LIMIT_MS), 7);
	close_side(&client);
	close_side(&server);
}

Test(tls, end_is_seen)
{
	struct side client, server;
	uint8_t byte = 1;
	char text[64];

	open_both(&client, &server);
	cr_expect_eq(tls_write(client.tls, &byte, 1, LIMIT_MS), 1);
	tls_close(client.tls);
	client.tls = NULL;
	cr_expect_eq(tls_read(server.tls, &byte, 1, LIMIT_MS), 1);
	cr_expect_eq(tls_read(server.tls, &byte, 1, LIMIT_MS), 0);
	cr_expect_not(tls_failure(server.tls, text, sizeof(text)));
	close_side(&client);
	close_side(&server);

	/* Without a goodbye. */
	open_both(&client, &server);
	shutdown(client.peer.fd, SHUT_RDWR);
	cr_expect_eq(tls_read(server.tls, &byte, 1, LIMIT_MS), 0);
	close_side(&client);
	close_side(&server);
}

/* What is changed on the way is found. */
Test(tls, garbage_is_refused)
{
	static const uint8_t garbage[64] = {23, 3, 3, 0, 59, 1, 2, 3};
	struct side client, server;
	uint8_t byte;
	char text[256];

	open_both(&client, &server);
	cr_assert_eq(send(client.peer.fd, garbage, sizeof(garbage), 0), (ssize_t)sizeof(garbage));
	cr_expect_eq(tls_read(server.tls, &byte, 1, LIMIT_MS), -EPROTO);
	cr_expect(tls_failure(server.tls, text, sizeof(text)));
	close_side(&client);
	close_side(&server);
}

/* --- both ways at once --- */

#define LONG	(UINT64_C(8) << 20)
#define LONGEST UINT64_C(70001) /* piece */

struct mover {
	struct tls *tls;
	bool writes;
	uint64_t wrong; /* bytes */
	int64_t last;
};

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at ^ at >> 8 ^ at >> 16);
}

/* A piece of LENGTH bytes, from AT on, with as many short waits as it takes. */
static bool move_piece(struct mover *mover, uint8_t *buf, uint64_t at, uint64_t length)
{
	for (uint64_t i = 0; mover->writes && i < length; i++)
		buf[i] = pattern(at + i);
	for (uint64_t done = 0; done < length;) {
		int64_t count = mover->writes ? tls_write(mover->tls, buf + done, length - done, 5)
					      : tls_read(mover->tls, buf + done, length - done, 5);

		mover->last = count;
		if (count <= 0 && count != -EAGAIN)
			return false;
		done += count > 0 ? (uint64_t)count : 0;
	}
	for (uint64_t i = 0; !mover->writes && i < length; i++)
		mover->wrong += buf[i] != pattern(at + i);
	return true;
}

/* Pieces of all lengths. */
static void *move(void *opaque)
{
	struct mover *mover = opaque;
	uint8_t *buf = malloc(LONGEST);
	uint64_t length = 1;

	for (uint64_t at = 0; at < LONG; at += length) {
		length = length * 7 % LONGEST + 1;
		length = length < LONG - at ? length : LONG - at;
		if (!move_piece(mover, buf, at, length))
			break;
	}
	free(buf);
	return NULL;
}

Test(tls, one_reads_and_another_writes)
{
	struct side client, server;
	struct mover movers[4];
	pthread_t threads[4];

	open_both(&client, &server);
	for (size_t i = 0; i < 4; i++) {
		movers[i] = (struct mover){.tls = i & 1 ? client.tls : server.tls, .writes = i & 2};
		cr_assert_eq(pthread_create(&threads[i], NULL, move, &movers[i]), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		cr_expect_gt(movers[i].last, 0, "%zu: %lld", i, (long long)movers[i].last);
		cr_expect_eq(movers[i].wrong, 0);
	}
	close_side(&client);
	close_side(&server);
}
