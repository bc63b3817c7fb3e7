// SPDX-License-Identifier: Apache-2.0
/*
 * Migration as the user of `impost` meets it: two runs, and what `impost ctl` tells of them. Where
 * a destination is to misbehave, the test is that destination.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <json-c/json.h>

#include "tool_certificates.h"
#include "tool_process.h"

#define PLUGINS "--plugin-dir", tool_env("IMPOST_PLUGINS")
#define PIDS	8

/* A guest that says something, and then waits for a key to say the rest. */
#define PROLOGUE               \
	"[vcpu 0]\n"           \
	"out = 0x3f9 1 0x01\n" \
	"out = 0x3fc 1 0x08\n" \
	"out = 0x3ff 1 0x5a\n" \
	"text = 0x3f8 \"first\\n\"\n"
#define WAITER                         \
	PROLOGUE                       \
	"halt =\n"                     \
	"in = 0x3ff 1 expect 0x5a\n"   \
	"in = 0x3f8 1 expect 0x78\n"   \
	"text = 0x3f8 \"second\\n\"\n" \
	"shutdown = guest\n"

/* --- processes --- */

static pid_t pids[PIDS];
static size_t npids;

static void tear_down(void)
{
	for (size_t i = 0; i < npids; i++)
		if (pids[i] > 0) {
			kill(pids[i], SIGKILL);
			waitpid(pids[i], NULL, 0);
		}
	tool_clean();
}

static void set_up(void)
{
	tool_files_make();
	tool_write_mock(WAITER);
}

TestSuite(migrate, .init = set_up, .fini = tear_down, .timeout = 120);

static int open_at(const char *name, const char *what, int flags)
{
	char file[64];

	snprintf(file, sizeof(file), "%s.%s", name, what);
	return open(tool_path(file), flags | O_CLOEXEC, 0600);
}

/* Starts the tool with its output in NAME.out and NAME.err; KEYS: what it reads is NAME.keys. */
static pid_t start(const char *name, bool keys, const char *const *args)
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		dup2(keys ? open_at(name, "keys", O_RDWR) : null, STDIN_FILENO);
		dup2(open_at(name, "out", O_WRONLY | O_CREAT | O_APPEND), STDOUT_FILENO);
		dup2(open_at(name, "err", O_WRONLY | O_CREAT | O_APPEND), STDERR_FILENO);
		tool_exec(args);
	}
	cr_assert_lt(npids, (size_t)PIDS);
	pids[npids++] = pid;
	return pid;
}
#define START(name, keys, ...) start(name, keys, (const char *const[]){__VA_ARGS__, NULL})

/* Waits for it: what tool_result.status is. */
static int ended(pid_t pid)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	for (size_t i = 0; i < npids; i++)
		if (pids[i] == pid)
			pids[i] = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const char *contents(const char *name)
{
	static char texts[4][1u << 16];
	static unsigned int turn;
	char *text = texts[turn++ % 4];
	FILE *file = fopen(tool_path(name), "re");
	size_t len = file ? fread(text, 1, sizeof(texts[0]) - 1, file) : 0;

	if (file)
		fclose(file);
	text[len] = '\0';
	return text;
}

/* Waits until TEXT is in the file; returns what is behind it. */
static const char *expect(const char *name, const char *text)
{
	for (int i = 0; i < 4000; i++) {
		const char *found = strstr(contents(name), text);

		if (found)
			return found + strlen(text);
		usleep(10000);
	}
	cr_assert_fail("no '%s' in '%s'", text, contents(name));
	return "";
}

#define CHECK(status_, part, ...)                                                                 \
	do {                                                                                      \
		const struct tool_result *result_ = TOOL_RUN(__VA_ARGS__);                        \
		cr_assert_eq(result_->status, status_, "%d: %s%s", result_->status, result_->out, \
			     result_->err);                                                       \
		cr_assert(strstr(result_->out, part) || strstr(result_->err, part),               \
			  "no '%s' in %s%s", part, result_->out, result_->err);                   \
	} while (0)

/* Waits until the status of the run at SOCKET has TEXT in it. */
static void expect_status(const char *socket, const char *text)
{
	const struct tool_result *result = NULL;

	for (int i = 0; i < 1000; i++) {
		result = TOOL_RUN("ctl", socket, "status");
		if (strstr(result->out, text))
			return;
		usleep(10000);
	}
	cr_assert_fail("no '%s' in '%s'%s", text, result->out, result->err);
}

/* --- two runs --- */

/* Options of both, besides the INI's. */
static pid_t source, destination;

static void start_source(const char *ini)
{
	source = START("a", false, "run", "-c", ini, PLUGINS, "--control", "@a.sock");
	expect("a.out", "first\n");
}

/* Returns the address that it waits at, as it says it. */
static const char *start_destination(const char *ini, const char *at)
{
	static char address[256];

	cr_assert_eq(mkfifo(tool_path("b.keys"), 0600), 0);
	destination = START("b", true, "run", "-c", ini, PLUGINS, "--control", "@b.sock",
			    "--incoming", at);
	cr_assert_eq(sscanf(expect("b.err", "waiting for a guest at "), "%255s", address), 1);
	return address;
}

/* The guest is at the destination, and does what it has still to do. */
static void finish(void)
{
	int keys = open(tool_path("b.keys"), O_WRONLY | O_CLOEXEC);

	cr_assert_eq(ended(source), 0, "%s", contents("a.err"));
	cr_expect(strstr(contents("a.err"), "the guest goes on at "), "%s", contents("a.err"));
	expect_status("@b.sock", "state     running");
	cr_assert_eq(write(keys, "x", 1), 1);
	cr_assert_eq(ended(destination), 0, "%s", contents("b.err"));
	close(keys);
	cr_assert_str_eq(contents("a.out"), "first\n");
	cr_assert_str_eq(contents("b.out"), "second\n");
	cr_expect_neq(access(tool_path("a.sock"), F_OK), 0);
	cr_expect_neq(access(tool_path("b.sock"), F_OK), 0);
}

static void unix_address(char text[256], const char *name)
{
	snprintf(text, 256, "unix:%s", tool_path(name));
}

Test(migrate, over_unix)
{
	char address[256];

	unix_address(address, "there");
	start_source("@mock.ini");
	start_destination("@mock.ini", address);
	CHECK(0, "state     waiting", "ctl", "@b.sock", "status");
	CHECK(1, "has not come yet", "ctl", "@b.sock", "pause");
	CHECK(0, " KiB of memory in ", "ctl", "@a.sock", "migrate", address);
	finish();
	cr_expect_neq(access(tool_path("there"), F_OK), 0);
}

Test(migrate, over_tcp)
{
	const char *address;

	start_source("@mock.ini");
	address = start_destination("@mock.ini", "tcp:127.0.0.1:0");
	CHECK(0, "the guest stood for", "ctl", "@a.sock", "migrate", address);
	finish();
}

Test(migrate, over_several_connections_compressed)
{
	const char *address;

	start_source("@mock.ini");
	address = start_destination("@mock.ini", "tcp:[::1]:0");
	CHECK(0, "migrated to tcp:[::1]:", "ctl", "@a.sock", "migrate", address, "--connections",
	      "3", "--compress", "--downtime", "1000", "--timeout", "60", "--throttle", "50",
	      "--finish");
	finish();
}

/* As many as there can be. */
Test(migrate, over_all_connections)
{
	char address[256];

	unix_address(address, "there");
	start_source("@mock.ini");
	start_destination("@mock.ini", address);
	CHECK(0, "migrated to unix:", "ctl", "@a.sock", "migrate", address, "--connections", "64");
	finish();
}

/* What is paused goes too, and runs there. */
Test(migrate, paused)
{
	char address[256];

	unix_address(address, "there");
	start_source("@mock.ini");
	start_destination("@mock.ini", address);
	CHECK(0, "", "ctl", "@a.sock", "pause");
	CHECK(1, "No such file", "ctl", "@a.sock", "migrate", "unix:/nowhere/at/all");
	CHECK(0, "state     paused", "ctl", "@a.sock", "status");
	CHECK(0, "migrated to unix:", "ctl", "@a.sock", "migrate", address);
	finish();
}

/* A socket that both were started with. */
Test(migrate, over_descriptors)
{
	char here[16], there[16];
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(here, sizeof(here), "fd:%d", fds[0]);
	snprintf(there, sizeof(there), "fd:%d", fds[1]);
	start_source("@mock.ini");
	start_destination("@mock.ini", there);
	close(fds[0]);
	close(fds[1]);
	CHECK(0, "migrated to fd:", "ctl", "@a.sock", "migrate", here);
	finish();
}

Test(migrate, json)
{
	const struct tool_result *result;
	struct json_object *object, *reply, *member;
	char address[256];

	unix_address(address, "there");
	start_source("@mock.ini");
	start_destination("@mock.ini", address);
	result = TOOL_RUN("ctl", "--json", "@a.sock", "migrate", address);
	cr_assert_eq(result->status, 0, "%s", result->err);
	object = json_tokener_parse(result->out);
	cr_assert(json_object_object_get_ex(object, "reply", &reply));
	cr_assert(json_object_object_get_ex(reply, "phase", &member));
	cr_expect_str_eq(json_object_get_string(member), "done");
	cr_assert(json_object_object_get_ex(reply, "guest_bytes", &member));
	cr_expect_eq(json_object_get_int64(member), 16 << 20);
	cr_assert(json_object_object_get_ex(reply, "data_bytes", &member));
	cr_expect_gt(json_object_get_int64(member), 0);
	cr_assert(json_object_object_get_ex(reply, "downtime_us", &member));
	cr_expect_gt(json_object_get_int64(member), 0);
	json_object_put(object);
	finish();
}

/* There, and back again. */
Test(migrate, to_and_fro)
{
	char there[256], here[256];
	pid_t third;

	unix_address(there, "there");
	unix_address(here, "here");
	start_source("@mock.ini");
	start_destination("@mock.ini", there);
	CHECK(0, "migrated", "ctl", "@a.sock", "migrate", there);
	cr_assert_eq(ended(source), 0);
	expect_status("@b.sock", "state     running");
	CHECK(0, "incoming", "ctl", "@b.sock", "status");
	cr_assert_eq(mkfifo(tool_path("c.keys"), 0600), 0);
	third = START("c", true, "run", "-c", "@mock.ini", PLUGINS, "--incoming", here);
	expect("c.err", "waiting for a guest");
	CHECK(0, "migrated", "ctl", "@b.sock", "migrate", here);
	cr_assert_eq(ended(destination), 0);
	cr_assert_eq(tool_shell("true"), 0);
	{
		int keys = open(tool_path("c.keys"), O_WRONLY | O_CLOEXEC);

		cr_assert_eq(write(keys, "x", 1), 1);
		cr_assert_eq(ended(third), 0, "%s", contents("c.err"));
		close(keys);
	}
	cr_assert_str_eq(contents("b.out"), "");
	cr_assert_str_eq(contents("c.out"), "second\n");
}

/* --- TLS --- */

static const char *path_of(const char *name)
{
	return tool_path(name);
}

/* NAME.ini: mock.ini, with certificates, or TEXT, a file of keys. */
static void write_tls(const char *name, const char *certificate, const char *ca, const char *text)
{
	char ini[1024], file[64];

	if (text) {
		snprintf(file, sizeof(file), "%s.psk", name);
		tool_write_text(file, text);
		chmod(tool_path(file), 0600);
		snprintf(ini, sizeof(ini), "%s[migration]\ntls_psk = %s\n", contents("mock.ini"),
			 file);
	} else {
		snprintf(ini, sizeof(ini),
			 "%s[migration]\ntls_certificate = %s.pem\ntls_key = %s.key\n"
			 "tls_ca = %s.pem\n",
			 contents("mock.ini"), certificate, certificate, ca);
	}
	snprintf(file, sizeof(file), "%s.ini", name);
	tool_write_text(file, ini);
}

static void make_certificates(void)
{
	certificates_make(path_of);
}

Test(migrate, over_tls)
{
	const char *address;

	make_certificates();
	write_tls("a", "right", "ca", NULL);
	write_tls("b", "right", "ca", NULL);
	start_source("@a.ini");
	address = start_destination("@b.ini", "tls:localhost:0");
	CHECK(0, "migrated to tls:localhost:", "ctl", "@a.sock", "migrate", address,
	      "--connections", "2");
	finish();
}

#define KEY_A "0123456789abcdef0123456789abcdef"
#define KEY_B "ffffffffffffffffffffffffffffffff"

Test(migrate, over_tls_by_psk)
{
	const char *address;

	write_tls("a", NULL, NULL, "a:" KEY_A "\n");
	write_tls("b", NULL, NULL, "b:" KEY_B "\na:" KEY_A "\n");
	start_source("@a.ini");
	address = start_destination("@b.ini", "tls:127.0.0.1:0");
	CHECK(0, "migrated to tls:127.0.0.1:", "ctl", "@a.sock", "migrate", address);
	finish();
}

/* The source, whose files are those of INI, gets nowhere; then a right one, if BETTER, does. */
static void refuse_tls(const char *ini, const char *host, const char *message)
{
	const char *address;
	char other[256];

	start_source(ini);
	address = start_destination("@b.ini", "tls:127.0.0.1:0");
	snprintf(other, sizeof(other), "tls:%s%s", host, strrchr(address, ':'));
	CHECK(1, message, "ctl", "@a.sock", "migrate", other);
	CHECK(0, "state     running", "ctl", "@a.sock", "status");
	expect("b.err", "still waiting");
	CHECK(0, "state     waiting", "ctl", "@b.sock", "status");
	CHECK(0, "", "ctl", "@a.sock", "quit");
	cr_assert_eq(ended(source), 0);
	CHECK(0, "", "ctl", "@b.sock", "quit");
	cr_assert_eq(ended(destination), 0, "%s", contents("b.err"));
}

Test(migrate, tls_wrong_authority_of_the_destination)
{
	make_certificates();
	write_tls("a", "right", "foreign-ca", NULL);
	write_tls("b", "right", "ca", NULL);
	refuse_tls("@a.ini", "127.0.0.1", "NOT trusted");
}

Test(migrate, tls_wrong_name_of_the_destination)
{
	make_certificates();
	write_tls("a", "right", "ca", NULL);
	write_tls("b", "named", "ca", NULL);
	refuse_tls("@a.ini", "127.0.0.1", "does not match");
}

Test(migrate, tls_wrong_authority_of_the_source)
{
	make_certificates();
	write_tls("a", "foreign", "ca", NULL);
	write_tls("b", "right", "ca", NULL);
	refuse_tls("@a.ini", "127.0.0.1", "the other side refuses");
}

Test(migrate, tls_wrong_key)
{
	write_tls("a", NULL, NULL, "a:" KEY_A "\n");
	write_tls("b", NULL, NULL, "a:" KEY_B "\n");
	refuse_tls("@a.ini", "127.0.0.1", "the other side refuses");
}

/* --- a destination that the test is --- */

#define START_COMMAND	 1
#define CONFIG_COMMAND	 2
#define STATE_COMMAND	 3
#define MEMORY_COMMAND	 4
#define COMPLETE_COMMAND 5
#define ABANDON_COMMAND	 6
#define TEXTS		 16u

/* What it does at one request: answers all before it. */
struct fake {
	int listener, fd;
	uint16_t stop_at;    /* the command */
	const char *refusal; /* the answer; NULL: it hangs up, or HANGS */
	bool hangs;
	atomic_bool stopped; /* the request has come */
	bool abandoned;	     /* it was told so */
	pthread_t thread;
};

static void listen_fake(struct fake *fake, const char *name)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", tool_path(name));
	fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fake->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fake->listener, 4), 0);
}

static bool take(int fd, void *buf, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes;) {
		ssize_t count = recv(fd, (char *)buf + done, bytes - done, 0);

		if (count <= 0)
			return false;
		done += (uint64_t)count;
	}
	return true;
}

/* What follows a request; of Memory the contents, too. */
static bool take_rest(int fd, uint16_t command, uint64_t length)
{
	uint8_t *data = malloc(length + 1);
	bool taken = take(fd, data, length);
	uint64_t contents_bytes = 0, row[2];

	for (uint64_t at = 0; taken && command == MEMORY_COMMAND && at < length; at += 16) {
		memcpy(row, data + at, sizeof(row));
		contents_bytes += row[1];
	}
	free(data);
	data = malloc(contents_bytes + 1);
	taken = taken && take(fd, data, contents_bytes);
	free(data);
	return taken;
}

static bool answer(const struct fake *fake, uint16_t command, bool refuse)
{
	struct {
		uint16_t status, version;
		uint32_t features;
		uint64_t length;
	} response = {.status = refuse ? 2 : 1};
	size_t len = refuse ? strlen(fake->refusal) : 0;

	if (command == START_COMMAND) {
		response.version = 1;
		response.features = TEXTS;
	}
	response.length = len;
	return send(fake->fd, &response, sizeof(response), MSG_NOSIGNAL) ==
		       (ssize_t)sizeof(response) &&
	       (!len || send(fake->fd, fake->refusal, len, MSG_NOSIGNAL) == (ssize_t)len);
}

static void *fake_thread(void *opaque)
{
	struct fake *fake = opaque;
	struct {
		uint16_t command;
		uint8_t header[6];
		uint64_t length;
	} request;
	bool going = true;

	fake->fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
	while (going && take(fake->fd, &request, sizeof(request))) {
		bool stops = request.command == fake->stop_at;

		fake->abandoned |= request.command == ABANDON_COMMAND;
		if (stops)
			atomic_store(&fake->stopped, true);
		if (stops && fake->hangs) {
			going = take_rest(fake->fd, request.command, request.length);
			continue; /* reads on, for an Abandon */
		}
		going = take_rest(fake->fd, request.command, request.length) &&
			!(stops && !fake->refusal) && answer(fake, request.command, stops);
	}
	close(fake->fd);
	return NULL;
}

static void start_fake(struct fake *fake, const char *name)
{
	listen_fake(fake, name);
	cr_assert_eq(pthread_create(&fake->thread, NULL, fake_thread, fake), 0);
}

/* Waits until it has got the request. */
static void expect_stop(struct fake *fake)
{
	for (int i = 0; i < 4000 && !atomic_load(&fake->stopped); i++)
		usleep(10000);
	cr_assert(atomic_load(&fake->stopped));
}

static void end_fake(struct fake *fake)
{
	pthread_join(fake->thread, NULL);
	close(fake->listener);
}

/* All of its reasons, and the guest runs on. */
Test(migrate, destination_refuses)
{
	struct fake fake = {.stop_at = CONFIG_COMMAND,
			    .refusal = "cpuid lahf: not here\nmsr 0x10: nor this\n"};
	const struct tool_result *result;
	char address[256];

	unix_address(address, "there");
	start_fake(&fake, "there");
	start_source("@mock.ini");
	result = TOOL_RUN("ctl", "@a.sock", "migrate", address);
	end_fake(&fake);
	cr_expect_eq(result->status, 1);
	cr_expect_str_eq(result->err,
			 "impost: migrate: the other side of the migration refuses Config:\n"
			 "  cpuid lahf: not here\n  msr 0x10: nor this\n");
	CHECK(0, "state     running", "ctl", "@a.sock", "status");
	CHECK(0, "migration failed unix:", "ctl", "@a.sock", "status");
	CHECK(0, "", "ctl", "@a.sock", "pause");
	CHECK(0, "", "ctl", "@a.sock", "resume");
}

Test(migrate, destination_hangs_up)
{
	static const uint16_t commands[] = {START_COMMAND, CONFIG_COMMAND, MEMORY_COMMAND,
					    STATE_COMMAND};
	char address[256];

	start_source("@mock.ini");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		struct fake fake = {.stop_at = commands[i]};

		unix_address(address, "there");
		start_fake(&fake, "there");
		CHECK(1, "ended the connection", "ctl", "@a.sock", "migrate", address);
		end_fake(&fake);
		remove(tool_path("there"));
		CHECK(0, "state     running", "ctl", "@a.sock", "status");
	}
}

/* --- what cannot be known --- */

static void lose(struct fake *fake)
{
	char address[256];

	unix_address(address, "there");
	start_fake(fake, "there");
	start_source("@mock.ini");
	CHECK(1, "settle leave", "ctl", "@a.sock", "migrate", address);
	end_fake(fake);
	CHECK(0, "state     unsettled", "ctl", "@a.sock", "status");
	CHECK(0, "settle keep", "ctl", "@a.sock", "status");
	expect("a.err", "settle keep");
	CHECK(1, "settle keep", "ctl", "@a.sock", "resume");
	CHECK(1, "settle leave", "ctl", "@a.sock", "migrate", address);
}

Test(migrate, settle_leave)
{
	struct fake fake = {.stop_at = COMPLETE_COMMAND};

	lose(&fake);
	CHECK(0, "", "ctl", "@a.sock", "settle", "leave");
	cr_assert_eq(ended(source), 0, "%s", contents("a.err"));
	cr_expect(strstr(contents("a.err"), "the guest goes on at unix:"), "%s", contents("a.err"));
}

Test(migrate, settle_keep)
{
	struct fake fake = {.stop_at = COMPLETE_COMMAND};
	char address[256];

	lose(&fake);
	CHECK(0, "", "ctl", "@a.sock", "settle", "keep");
	CHECK(0, "state     running", "ctl", "@a.sock", "status");
	CHECK(1, "nothing to be settled", "ctl", "@a.sock", "settle", "keep");
	/* It can go elsewhere then. */
	unix_address(address, "elsewhere");
	start_destination("@mock.ini", address);
	CHECK(0, "migrated", "ctl", "@a.sock", "migrate", address);
	finish();
}

Test(migrate, unsettled_run_can_be_ended)
{
	struct fake fake = {.stop_at = COMPLETE_COMMAND};

	lose(&fake);
	CHECK(0, "", "ctl", "@a.sock", "quit");
	cr_assert_eq(ended(source), 0);
}

/* --- cancelled --- */

static void check_cancelled(struct fake *fake, pid_t ctl)
{
	cr_expect_eq(ended(ctl), 1);
	expect("ctl.err", "cancelled");
	end_fake(fake);
	cr_expect(fake->abandoned || fake->stop_at == START_COMMAND);
	CHECK(0, "state     running", "ctl", "@a.sock", "status");
	CHECK(1, "no migration", "ctl", "@a.sock", "migrate-cancel");
}

/* By a request, and by Ctrl-C in ctl. */
Test(migrate, cancelled)
{
	char address[256];

	start_source("@mock.ini");
	unix_address(address, "there");
	for (int i = 0; i < 2; i++) {
		struct fake fake = {.stop_at = MEMORY_COMMAND, .hangs = true};
		pid_t ctl;

		start_fake(&fake, "there");
		ctl = START("ctl", false, "ctl", "@a.sock", "migrate", address);
		expect_stop(&fake);
		CHECK(0, "busy with migrate", "ctl", "@a.sock", "status");
		if (i == 0)
			CHECK(0, "", "ctl", "@a.sock", "migrate-cancel");
		else
			kill(ctl, SIGINT);
		check_cancelled(&fake, ctl);
		remove(tool_path("there"));
		remove(tool_path("ctl.err"));
	}
}

/* Even while nobody has answered yet. */
Test(migrate, cancelled_in_a_handshake)
{
	struct fake fake = {.stop_at = START_COMMAND, .hangs = true};
	char address[256];
	pid_t ctl;

	start_source("@mock.ini");
	unix_address(address, "there");
	start_fake(&fake, "there");
	ctl = START("ctl", false, "ctl", "@a.sock", "migrate", address);
	expect_stop(&fake);
	CHECK(0, "", "ctl", "@a.sock", "migrate-cancel");
	check_cancelled(&fake, ctl);
}

/* A guest that ends here is no more to be moved, which is what is told. */
Test(migrate, guest_ends_meanwhile)
{
	struct fake fake = {.stop_at = MEMORY_COMMAND, .hangs = true};
	char address[256];
	pid_t ctl;
	int keys;

	cr_assert_eq(mkfifo(tool_path("a.keys"), 0600), 0);
	source = START("a", true, "run", "-c", "@mock.ini", PLUGINS, "--control", "@a.sock");
	expect("a.out", "first\n");
	unix_address(address, "there");
	start_fake(&fake, "there");
	ctl = START("ctl", false, "ctl", "@a.sock", "migrate", address);
	expect_stop(&fake);
	keys = open(tool_path("a.keys"), O_WRONLY | O_CLOEXEC);
	cr_assert_eq(write(keys, "x", 1), 1);
	cr_expect_eq(ended(source), 0, "%s", contents("a.err"));
	end_fake(&fake);
	cr_expect_eq(ended(ctl), 1);
	expect("ctl.err", "the guest has come to its end here");
	close(keys);
}

/* Who asks a run that is stopped is told, after a while. */
Test(migrate, stopped_run)
{
	start_source("@mock.ini");
	kill(source, SIGSTOP);
	CHECK(3, "has not answered for 10 s", "ctl", "@a.sock", "status");
	kill(source, SIGCONT);
	CHECK(0, "state     running", "ctl", "@a.sock", "status");
}

/* A run that ends takes its migration with it. */
Test(migrate, source_quits)
{
	struct fake fake = {.stop_at = MEMORY_COMMAND, .hangs = true};
	char address[256];
	pid_t ctl;

	start_source("@mock.ini");
	unix_address(address, "there");
	start_fake(&fake, "there");
	ctl = START("ctl", false, "ctl", "@a.sock", "migrate", address);
	expect_stop(&fake);
	CHECK(0, "", "ctl", "@a.sock", "quit");
	cr_assert_eq(ended(source), 0, "%s", contents("a.err"));
	end_fake(&fake);
	cr_expect_neq(ended(ctl), 0);
}

Test(migrate, waiting_is_ended)
{
	static const int statuses[] = {0, 3, 128 + SIGINT, 128 + SIGTERM};
	char address[256];

	unix_address(address, "there");
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		start_destination("@mock.ini", address);
		expect_status("@b.sock", "waiting");
		if (statuses[i] >= 128)
			kill(destination, statuses[i] - 128);
		else
			CHECK(0, "", "ctl", "@b.sock", statuses[i] ? "migrate-cancel" : "quit");
		cr_expect_eq(ended(destination), statuses[i], "%zu: %s", i, contents("b.err"));
		cr_expect_neq(access(tool_path("there"), F_OK), 0);
		cr_expect_neq(access(tool_path("b.sock"), F_OK), 0);
		remove(tool_path("b.keys"));
		remove(tool_path("b.err"));
	}
}

/* Connects to where the destination waits, at "there". */
static int come(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", tool_path("there"));
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* Who goes again, and who says nothing, do not end the wait; nor does another run that is given the
 * same path. */
Test(migrate, silent_stranger)
{
	char address[256];
	int fd;

	unix_address(address, "there");
	start_source("@mock.ini");
	start_destination("@mock.ini", address);
	close(come());
	CHECK(3, "somebody listens", "run", "-c", "@mock.ini", PLUGINS, "--incoming", address);
	fd = come();
	CHECK(0, "migrated to unix:", "ctl", "@a.sock", "migrate", address);
	close(fd);
	finish();
}

/* What comes is no migration: it is told, and the wait goes on. */
Test(migrate, stranger)
{
	char address[256];
	int fd;

	unix_address(address, "there");
	start_destination("@mock.ini", address);
	fd = come();
	cr_assert_eq(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	expect("b.err", "still waiting");
	expect_status("@b.sock", "waiting");
	close(fd);
	start_source("@mock.ini");
	CHECK(0, "migrated to unix:", "ctl", "@a.sock", "migrate", address);
	finish();
}

/* --- on a terminal --- */

Test(migrate, bar)
{
	struct fake fake = {.stop_at = STATE_COMMAND};
	static char shown[65536];
	size_t len = 0;
	ssize_t count;
	char address[256];
	int master, status;
	pid_t pid;

	start_source("@mock.ini");
	unix_address(address, "there");
	start_fake(&fake, "there");
	pid = forkpty(&master, NULL, NULL, &(struct winsize){.ws_row = 24, .ws_col = 60});
	cr_assert_geq(pid, 0);
	if (pid == 0)
		tool_exec((const char *const[]){"ctl", "@a.sock", "migrate", address, NULL});
	while (len < sizeof(shown) - 1 &&
	       (count = read(master, shown + len, sizeof(shown) - 1 - len)) > 0)
		len += (size_t)count;
	shown[len] = '\0';
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	end_fake(&fake);
	close(master);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	cr_expect(strstr(shown, "migrating ["), "%s", shown);
	cr_expect(strstr(shown, "pass 1"), "%s", shown);
	cr_expect(strstr(shown, "\r\033[K"), "the bar was not wiped: %s", shown);
}

/* --- what cannot be --- */

Test(migrate, options_that_cannot_be)
{
	static const struct {
		const char *option, *value, *part;
	} refusals[] = {
		{"--memory", "32M", "the source has the guest's RAM"},
		{"--cpus", "2", "the source has the guest's vCPUs"},
		{"--kernel", "@kernel", "has been booted"},
		{"--restore", "@none", "does not go with --incoming"},
	};
	static const struct {
		const char *option, *value, *part;
	} numbers[] = {
		{"--downtime", "x", "--downtime 'x': give a whole number from 1 to 2147483647"},
		{"--downtime", "0", "--downtime '0': give a whole number from 1 to"},
		{"--downtime", "-1", "--downtime '-1'"},
		{"--downtime", "", "--downtime ''"},
		{"--timeout", "2147484", "from 0 to 2147483\n"},
		{"--connections", "65", "--connections '65': give a whole number from 1 to 64"},
		{"--throttle", "100", "--throttle '100': give a whole number from 0 to 99"},
		{"--throttle", "99999999999999999999", "from 0 to 99\n"},
	};
	static const struct {
		const char *address, *part;
	} addresses[] = {
		{"", "'' is no address: give unix:PATH, tcp:HOST:PORT"},
		{"here", "'here' is no address"},
		{"unix:", "a socket's path has 1 to 107 bytes, not 0"},
		{"tcp:localhost:0", "from 1 to 65535"},
		{"tcp:localhost", "give HOST:PORT"},
		{"fd:2", "3 or more"},
	};
	static const char *const wrong[] = {"tcp:a", "udp:a:1", "unix:", "fd:1", "tls:a:70000"};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		CHECK(2, refusals[i].part, "run", PLUGINS, "--incoming", "tcp:127.0.0.1:0",
		      refusals[i].option, refusals[i].value);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(2, "--incoming: ", "run", PLUGINS, "--incoming", wrong[i]);
	CHECK(2, "--tls-ca: nothing of this run goes over TLS", "run", PLUGINS, "--incoming",
	      "unix:a", "--tls-ca", "@none");
	CHECK(3, "or tls_psk", "run", PLUGINS, "--incoming", "tls:127.0.0.1:0");
	CHECK(3, "cannot use fd:999: Bad file descriptor", "run", PLUGINS, "--incoming", "fd:999");
	CHECK(3, "No such file", "run", PLUGINS, "--incoming", "tls:127.0.0.1:0",
	      "--tls-certificate", "@none", "--tls-key", "@none", "--tls-ca", "@none");
	CHECK(2, "migrate where?", "ctl", "@socket", "migrate");
	CHECK(2, "settle how?", "ctl", "@socket", "settle");
	CHECK(2, "--local is for migrate", "ctl", "@socket", "pause", "--local");
	CHECK(2, "--downtime is for migrate", "ctl", "@socket", "pause", "--downtime", "1");
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		CHECK(2, numbers[i].part, "ctl", "@socket", "migrate", "tcp:a:1", numbers[i].option,
		      numbers[i].value);
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
		CHECK(2, addresses[i].part, "ctl", "@socket", "migrate", addresses[i].address);
	CHECK(2, "a descriptor is one connection", "ctl", "@socket", "migrate", "fd:3",
	      "--connections", "4");
	CHECK(2, "on this host alone", "ctl", "@socket", "migrate", "tcp:a:1", "--local");
	CHECK(2, "--compress is for memory that is copied", "ctl", "@socket", "migrate", "unix:a",
	      "--local", "--compress");
	CHECK(2, "--connections is for memory that is copied", "ctl", "@socket", "migrate",
	      "unix:a", "--local", "--connections", "2");
	CHECK(2, "there is one already", "run", PLUGINS, "--incoming", "unix:a", "--incoming",
	      "unix:b");
	CHECK(2, "settle 'both': give keep", "ctl", "@socket", "settle", "both");
	CHECK(2, "settle '': give keep", "ctl", "@socket", "settle", "");
	CHECK(2, "--diff is for save", "ctl", "@socket", "migrate", "tcp:a:1", "--diff", "x");
}

Test(migrate, requests_that_cannot_be)
{
	char descriptor[16], said[128];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	snprintf(descriptor, sizeof(descriptor), "fd:%d", fds[0]);
	snprintf(said, sizeof(said), "cannot use %s: Socket operation on non-socket", descriptor);
	start_source("@mock.ini");
	CHECK(1, said, "ctl", "@a.sock", "migrate", descriptor);
	CHECK(1, "No such file", "ctl", "@a.sock", "migrate", "unix:/nowhere/at/all");
	CHECK(1, "refused", "ctl", "@a.sock", "migrate", "tcp:127.0.0.1:1");
	CHECK(1, "cannot use fd:999: Bad file descriptor", "ctl", "@a.sock", "migrate", "fd:999");
	CHECK(1, "cannot be handed over: that takes a run that was started with --memory-backing",
	      "ctl", "@a.sock", "migrate", "unix:/nowhere/at/all", "--local");
	CHECK(1, "needs tls_certificate", "ctl", "@a.sock", "migrate", "tls:127.0.0.1:1");
	CHECK(1, "nothing to be settled", "ctl", "@a.sock", "settle", "leave");
	CHECK(0, "state     running", "ctl", "@a.sock", "status");
}

/* --- guests that are executed --- */

static bool has_kvm(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

static void start_counting(const char *backing)
{
	source = START("a", false, "run", PLUGINS, "--backend", "kvm", "--memory", "64M",
		       "--memory-backing", backing, "--kernel", tool_env("IMPOST_COUNT"),
		       "--cmdline", "pages=64 rounds=0 every=1000", "--control", "@a.sock");
	expect("a.out", "round 1000\n");
}

/* Counts on from where it was; a page that is not as it was ends it with a message. */
static void check_counting(const char *how)
{
	char address[256];

	unix_address(address, "there");
	destination = START("b", false, "run", PLUGINS, "--backend", "kvm", "--control", "@b.sock",
			    "--incoming", address);
	expect("b.err", "waiting for a guest");
	CHECK(0, "migrated", "ctl", "@a.sock", "migrate", address, "--downtime", "2000", how);
	cr_assert_eq(ended(source), 0, "%s", contents("a.err"));
	expect("b.out", "round ");
	expect("b.out", "000\n");
	cr_expect_not(strstr(contents("b.out"), "holds"), "%s", contents("b.out"));
	cr_expect_not(strstr(contents("b.out"), "round 1000\n"), "it began anew");
	CHECK(0, "state     running", "ctl", "@b.sock", "status");
	CHECK(0, "", "ctl", "@b.sock", "quit");
	cr_assert_eq(ended(destination), 0, "%s", contents("b.err"));
}

Test(migrate, running_guest_kvm)
{
	if (!has_kvm())
		cr_skip_test("skipped: there is no /dev/kvm");
	start_counting("anonymous");
	check_counting("--finish");
}

Test(migrate, running_guest_local_kvm)
{
	if (!has_kvm())
		cr_skip_test("skipped: there is no /dev/kvm");
	start_counting("memfd");
	check_counting("--local");
}

/* All of its memory is written all the time, so that it cannot go in a millisecond. */
Test(migrate, running_guest_postcopy_kvm)
{
	const struct tool_result *result;
	char address[256];

	if (!has_kvm())
		cr_skip_test("skipped: there is no /dev/kvm");
	unix_address(address, "there");
	source = START("a", false, "run", PLUGINS, "--backend", "kvm", "--memory", "128M",
		       "--kernel", tool_env("IMPOST_COUNT"), "--cmdline",
		       "pages=16384 rounds=0 every=4", "--control", "@a.sock");
	expect("a.out", "round 4\n");
	destination = START("b", false, "run", PLUGINS, "--backend", "kvm", "--control", "@b.sock",
			    "--incoming", address);
	expect("b.err", "waiting for a guest");
	result = TOOL_RUN("ctl", "--json", "@a.sock", "migrate", address, "--postcopy",
			  "--downtime", "1");
	cr_assert_eq(result->status, 0, "%s%s", result->out, result->err);
	if (!strstr(result->out, "\"postcopy\""))
		fprintf(stderr, "tool-migrate: there is no userfaultfd here: plain\n");
	cr_assert_eq(ended(source), 0, "%s", contents("a.err"));
	expect("b.out", "round ");
	CHECK(0, "state     running", "ctl", "@b.sock", "status");
	expect_status("@b.sock", "incoming  done");
	cr_expect_not(strstr(contents("b.out"), "holds"), "%s", contents("b.out"));
	CHECK(0, "", "ctl", "@b.sock", "quit");
	cr_assert_eq(ended(destination), 0, "%s", contents("b.err"));
}

/* Between a source and the destination at "there": nothing more of the source gets there after the
 * word with which its guest goes. */
struct choke {
	int listener;
	atomic_bool choked;
	pthread_t thread;
};

static bool pass(int from, int to, uint64_t bytes)
{
	static uint8_t data[65536];

	while (bytes > 0) {
		size_t part = bytes < sizeof(data) ? (size_t)bytes : sizeof(data);

		if (!take(from, data, part) || send(to, data, part, MSG_NOSIGNAL) != (ssize_t)part)
			return false;
		bytes -= part;
	}
	return true;
}

/* The table of a Memory, and what is behind it; rows of zeros have nothing there. */
static bool pass_memory(int from, int to, uint64_t length)
{
	uint64_t *rows = malloc(length + 1), bytes = 0;
	bool passed = take(from, rows, length) &&
		      send(to, rows, length, MSG_NOSIGNAL) == (ssize_t)length;

	for (uint64_t i = 0; passed && i < length / 8; i += 2)
		bytes += rows[i] & 1 ? 0 : rows[i + 1];
	free(rows);
	return passed && pass(from, to, bytes);
}

static bool pass_request(struct choke *choke, int from, int to)
{
	struct {
		uint16_t command;
		uint8_t header[6];
		uint64_t length;
	} head;

	if (!take(from, &head, sizeof(head)))
		return false;
	if (head.command == COMPLETE_COMMAND)
		atomic_store(&choke->choked, true);
	if (send(to, &head, sizeof(head), MSG_NOSIGNAL) != (ssize_t)sizeof(head))
		return false;
	return head.command == MEMORY_COMMAND ? pass_memory(from, to, head.length)
					      : pass(from, to, head.length);
}

static void *choke_thread(void *opaque)
{
	struct choke *choke = opaque;
	int from = accept4(choke->listener, NULL, NULL, SOCK_CLOEXEC), to = come();
	struct pollfd fds[] = {{.fd = to, .events = POLLIN}, {.fd = from, .events = POLLIN}};
	bool going = true;

	while (going && poll(fds, 2, -1) > 0) {
		if (fds[0].revents)
			going = pass(to, from, 1);
		else if (fds[1].revents)
			going = pass_request(choke, from, to);
		if (atomic_load(&choke->choked))
			fds[1].fd = -1;
	}
	close(from);
	close(to);
	return NULL;
}

/* A run that is ended while memory of its guest is still to come ends at once, and says what that
 * means. The source learns of it, too. */
Test(migrate, postcopy_is_ended_kvm)
{
	struct fake listening;
	struct choke choke = {0};
	char there[256], relay[256];
	struct timespec begin, end;
	pid_t ctl;

	if (!has_kvm())
		cr_skip_test("skipped: there is no /dev/kvm");
	tool_write_text("long.ini", "[migration]\nsilence = 100\n");
	unix_address(there, "there");
	unix_address(relay, "relay");
	listen_fake(&listening, "relay");
	choke.listener = listening.listener;
	source = START("a", false, "run", "-c", "@long.ini", PLUGINS, "--backend", "kvm",
		       "--memory", "64M", "--kernel", tool_env("IMPOST_COUNT"), "--cmdline",
		       "pages=2048 rounds=0 every=4", "--control", "@a.sock");
	expect("a.out", "round 4\n");
	destination = START("b", false, "run", "-c", "@long.ini", PLUGINS, "--backend", "kvm",
			    "--control", "@b.sock", "--incoming", there);
	expect("b.err", "waiting for a guest");
	cr_assert_eq(pthread_create(&choke.thread, NULL, choke_thread, &choke), 0);
	ctl = START("ctl", false, "ctl", "--json", "@a.sock", "migrate", relay, "--postcopy",
		    "--downtime", "1", "--connections", "1");
	expect_status("@b.sock", "running");
	cr_assert(atomic_load(&choke.choked));
	if (strstr(TOOL_RUN("ctl", "@b.sock", "status")->out, "incoming  done"))
		cr_skip_test("skipped: there is no userfaultfd");
	expect_status("@b.sock", "incoming  post-copying");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	kill(destination, SIGTERM);
	cr_assert_eq(ended(destination), 128 + SIGTERM, "%s", contents("b.err"));
	clock_gettime(CLOCK_MONOTONIC, &end);
	cr_expect_lt(end.tv_sec - begin.tv_sec, 50);
	cr_expect(strstr(contents("b.err"), "KiB of the guest's memory have not come"), "%s",
		  contents("b.err"));
	pthread_join(choke.thread, NULL);
	cr_assert_neq(ended(source), 0);
	cr_expect(strstr(contents("a.err"), "lost"), "%s", contents("a.err"));
	cr_expect_neq(ended(ctl), 0);
	close(choke.listener);
}

/* All that is in the way, however much there is: the mock has little of what KVM gave the guest. */
Test(migrate, destination_cannot_have_it_kvm)
{
	const struct tool_result *result;
	char address[256];

	if (!has_kvm())
		cr_skip_test("skipped: there is no /dev/kvm");
	unix_address(address, "there");
	start_counting("anonymous");
	destination = START("b", false, "run", PLUGINS, "--backend", "mock", "--incoming", address);
	expect("b.err", "waiting for a guest");
	result = TOOL_RUN("ctl", "@a.sock", "migrate", address);
	cr_expect_eq(result->status, 1);
	cr_expect(strstr(result->err, "\n  "), "%s", result->err);
	cr_expect_eq(ended(destination), 3, "%s", contents("b.err"));
	CHECK(0, "state     running", "ctl", "@a.sock", "status");
}
