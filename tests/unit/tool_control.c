// SPDX-License-Identifier: Apache-2.0
/* `impost run --control` and `impost ctl`: what is asked for is done, and no client can do harm. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

#include "random.h"
#include "tool_process.h"

#define PLUGINS "--plugin-dir", tool_env("IMPOST_PLUGINS")
/* A guest that never ends. */
#define SLEEPER "[vcpu 0]\nrepeat = forever\nhalt =\nend =\n"

#define CLIENTS 8      /* at a time */
#define LONGEST 65535u /* bytes of a request, without its newline */

TestSuite(control, .init = tool_files_make, .fini = tool_clean, .timeout = 60);

/* --- a run, and clients of it --- */

static bool exists(const char *name)
{
	return access(tool_path(name), F_OK) == 0;
}

/* What it runs has been written. */
static void start_run(void)
{
	const char *const args[] = {"run",	 "-c",	    "@mock.ini", PLUGINS,
				    "--control", "@socket", NULL};

	tool_start(args, NULL, NULL);
}

static int client(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = 20};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_lt((size_t)snprintf(to.sun_path, sizeof(to.sun_path), "%s", tool_path("socket")),
		     sizeof(to.sun_path));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	for (int i = 0; i < 2000; i++) {
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
			return fd;
		usleep(10000);
	}
	cr_assert_fail("cannot connect: %s", strerror(errno));
	return -1;
}

static void start(const char *script)
{
	tool_write_mock(script);
	start_run();
	close(client()); /* it listens */
}

static void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* The next line, parsed; NULL: the other side has hung up. */
static struct json_object *hear(int fd)
{
	static char line[262144];
	size_t len = 0;
	struct json_object *object;

	do {
		cr_assert_lt(len, sizeof(line) - 1);
		if (recv(fd, line + len, 1, 0) != 1)
			return NULL;
	} while (line[len++] != '\n');
	line[len] = '\0';
	object = json_tokener_parse(line);
	cr_assert_not_null(object, "no JSON: %s", line);
	return object;
}

static const char *member(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value)
							      : NULL;
}

/* Expects a reply whose member KEY is VALUE. */
static void expect(int fd, const char *key, const char *value)
{
	struct json_object *object = hear(fd);
	const char *got;

	cr_assert_not_null(object, "hung up");
	got = member(object, key);
	cr_assert(got && strcmp(got, value) == 0, "no %s %s: %s", key, value,
		  json_object_to_json_string(object));
	json_object_put(object);
}

/* JSON that is read strictly. */
static void check_utf8(const char *text)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *object;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tokener, text, (int)strlen(text));
	cr_assert_not_null(object, "%s: %s",
			   json_tokener_error_desc(json_tokener_get_error(tokener)), text);
	json_object_put(object);
	json_tokener_free(tokener);
}

/* Whether it still serves others. */
static void check_alive(void)
{
	int fd = client();

	say(fd, "{\"command\":\"status\",\"id\":42}\n");
	expect(fd, "id", "42");
	close(fd);
}

static void check_ctl(int status, const char *message, const char *command)
{
	const struct tool_result *result = TOOL_RUN("ctl", "@socket", command);

	cr_expect_eq(result->status, status, "%s: %d: %s", command, result->status, result->err);
	cr_expect(strstr(status ? result->err : result->out, message), "%s: no '%s' in %s%s",
		  command, message, result->out, result->err);
}

/* --- what is asked for --- */

Test(control, status_tells_of_the_run)
{
	const struct tool_result *result;
	struct json_object *object, *reply;
	char pid[16];

	start(SLEEPER);
	check_ctl(0, "state     running", "status");
	check_ctl(0, "mock, 1 vCPU, 16 MiB of RAM", "status");
	result = TOOL_RUN("ctl", "--json", "@socket", "status");
	cr_assert_eq(result->status, 0);
	object = json_tokener_parse(result->out);
	cr_assert(json_object_object_get_ex(object, "reply", &reply));
	snprintf(pid, sizeof(pid), "%d", (int)tool_pid);
	cr_expect_str_eq(member(reply, "pid"), pid);
	cr_expect_str_eq(member(reply, "backend"), "mock");
	cr_expect_str_eq(member(reply, "memory"), "16777216");
	cr_expect_str_eq(member(reply, "protocol"), "1");
	json_object_put(object);
}

Test(control, pause_and_resume)
{
	start(SLEEPER);
	for (int i = 0; i < 3; i++) {
		check_ctl(0, "", "pause");
		check_ctl(0, "state     paused", "status");
		check_ctl(0, "", "pause");
		check_ctl(0, "", "resume");
		check_ctl(0, "state     running", "status");
		check_ctl(0, "", "resume");
	}
}

/* A guest that is paused says nothing; resumed, it goes on where it was. */
Test(control, quit_ends_a_run_that_is_paused)
{
	start(SLEEPER);
	check_ctl(0, "", "pause");
	check_ctl(0, "", "quit");
	cr_assert_eq(tool_ended(), 0);
	cr_assert_not(exists("socket"));
}

Test(control, quit_ends_a_run)
{
	start(SLEEPER);
	check_ctl(0, "", "quit");
	cr_assert_eq(tool_ended(), 0);
	cr_assert_not(exists("socket"));
	check_ctl(3, "No such file", "status");
}

Test(control, socket_is_removed_when_a_signal_ends_the_run)
{
	start(SLEEPER);
	kill(tool_pid, SIGTERM);
	cr_assert_eq(tool_ended(), 128 + SIGTERM);
	cr_assert_not(exists("socket"));
}

/* As nohup(1) has it. */
Test(control, signals_that_are_ignored_stay_so)
{
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	start(SLEEPER);
	kill(tool_pid, SIGHUP);
	kill(tool_pid, SIGINT);
	check_ctl(0, "running", "status");
	kill(tool_pid, SIGTERM);
	cr_assert_eq(tool_ended(), 128 + SIGTERM);
}

Test(control, socket_is_removed_when_the_run_does_not_come_about)
{
	tool_write_text("nothing", "");
	cr_assert_eq(TOOL_RUN("run", PLUGINS, "--backend", "mock", "--kernel", "@nothing",
			      "--control", "@socket")
			     ->status,
		     3);
	cr_assert_not(exists("socket"));
}

/* --- the file --- */

/* No run comes about with its socket at PATH. */
static void check_path(const char *path, const char *message)
{
	const struct tool_result *result =
		TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--control", path);

	cr_expect_eq(result->status, 3);
	cr_expect(strstr(result->err, message), "no '%s' in %s", message, result->err);
}

Test(control, socket_is_for_its_owner_alone)
{
	struct stat st;

	umask(0);
	start(SLEEPER);
	cr_assert_eq(lstat(tool_path("socket"), &st), 0);
	cr_assert(S_ISSOCK(st.st_mode));
	cr_assert_eq(st.st_mode & 07777, 0600);
}

Test(control, socket_of_the_dead_makes_room)
{
	start(SLEEPER);
	kill(tool_pid, SIGKILL);
	cr_assert_eq(tool_ended(), -SIGKILL);
	cr_assert(exists("socket"), "nobody could remove it");
	check_ctl(3, "nobody listens", "status");
	start(SLEEPER);
	check_ctl(0, "running", "status");
}

Test(control, socket_of_the_living_stays)
{
	const struct tool_result *result;

	start(SLEEPER);
	result = TOOL_RUN("run", "-c", "@mock.ini", PLUGINS, "--control", "@socket");
	cr_assert_eq(result->status, 3);
	cr_assert(strstr(result->err, "somebody listens"), "%s", result->err);
	check_ctl(0, "running", "status");
}

/* Who is stopped, and has more callers than there is room for, lives. */
Test(control, socket_of_one_that_does_not_answer_stays)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

	tool_write_mock(SLEEPER);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", tool_path("socket"));
	cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 0), 0);
	do
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	while (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	cr_assert_eq(errno, EAGAIN);
	check_path("@socket", "somebody listens");
	cr_assert(exists("socket"));
}

/* One that was moved away and replaced is not this run's to remove. */
Test(control, file_of_another_is_not_removed)
{
	start(SLEEPER);
	cr_assert_eq(rename(tool_path("socket"), tool_path("moved")), 0);
	tool_write_text("socket", "mine");
	kill(tool_pid, SIGTERM);
	cr_assert_eq(tool_ended(), 128 + SIGTERM);
	cr_assert(exists("socket"));
}

Test(control, paths_that_cannot_be)
{
	char name[200];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	tool_write_mock(SLEEPER);
	tool_write_text("file", "mine");
	check_path("@file", "no socket");
	check_path("@.", "no socket");
	check_path("@missing/socket", "No such file");
	check_path(name, "must have 1 to 107 bytes");
	check_path("", "must have 1 to 107 bytes");
	cr_expect(exists("file"));
}

/* Of two that start at once, beside a dead socket, one gets it. */
Test(control, one_of_two_gets_the_socket)
{
	tool_write_mock(SLEEPER);
	for (int i = 0; i < 5; i++) {
		pid_t first, refused;
		int status;

		start_run();
		first = tool_pid;
		start_run();
		refused = waitpid(-1, &status, 0);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3);
		if (refused == tool_pid)
			tool_pid = first;
		check_alive();
		kill(tool_pid, SIGKILL);
		tool_ended();
	}
}

/* --- what clients can do --- */

Test(control, wrong_requests_are_refused_by_name)
{
	static const struct {
		const char *line, *part;
	} wrongs[] = {
		{"", "not complete"},
		{"status", "JSON object"},
		{"null", "not complete"},
		{"[]", "another"},
		{"{}", "no \"command\""},
		{"{\"command\":1}", "\"command\" must be one of"},
		{"{\"command\":\"Status\"}", "\"command\" must be one of"},
		{"{\"command\":\"status\\u0000\"}", "\"command\" must be one of"},
		{"{'command':'status'}", "JSON object"},
		{"{\"command\":\"status\"} x", "JSON object"},
		{"{\"command\":\"status\",\"more\":1}", "no member \"more\""},
		{"{\"command\":\"status\",\"id\":-1}", "\"id\" must be"},
		{"{\"command\":\"status\",\"id\":9007199254740993}", "\"id\" must be"},
		{"{\"command\":\"status\",\"id\":\"1\"}", "\"id\" must be"},
		{"{\"command\":\"status\",\"id\":[[[[[[[[1]]]]]]]]}", "JSON object"},
		{"{\"command\":\"\xff\"}", "JSON object"},
		{"{\"command\":\"migrate\",\"address\":\"tcp:a:1\",\"connections\":65}",
		 "\"connections\" must be a whole number from 1 to 64"},
		{"{\"command\":\"migrate\",\"address\":\"tcp:a:1\",\"throttle\":100}",
		 "\"throttle\" must be a whole number from 0 to 99"},
		{"{\"command\":\"migrate\",\"address\":\"tcp:a:1\",\"downtime\":0}",
		 "\"downtime\" must be a whole number from 1 to"},
		{"{\"command\":\"migrate\",\"address\":\"here\"}", "is no address"},
		{"{\"command\":\"quit\",\"command\":\"status\"}", "there twice"},
		{"{\"command\":\"status\",\"id\":1,\"id\":1}", "there twice"},
		{"{\"command\":[{\"a\":1}],\"command\":\"status\"}", "there twice"},
		{"{\"c\\u006fmmand\":\"quit\",\"command\":\"status\"}", "there twice"},
	};
	int fd;

	start(SLEEPER);
	fd = client();
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		struct json_object *object;

		say(fd, wrongs[i].line);
		say(fd, "\n");
		object = hear(fd);
		cr_assert_not_null(object, "%s: hung up", wrongs[i].line);
		cr_expect_str_eq(member(object, "ok"), "false");
		cr_expect_str_eq(member(object, "error"), "EINVAL");
		cr_expect(strstr(member(object, "text"), wrongs[i].part), "%s: no '%s' in %s",
			  wrongs[i].line, wrongs[i].part, member(object, "text"));
		json_object_put(object);
	}
	/* What is in a string is no member. */
	say(fd, "{ \"file\" : \"/none:\\\"\\\\\\\":/snap\", \"command\" :\"save\" }\n");
	expect(fd, "error", "ENOENT");
	/* The connection is as good as before. */
	say(fd, "{\"command\":\"status\"}\n");
	expect(fd, "ok", "true");
	close(fd);
}

/* Wherever in a long name it is cut. */
Test(control, replies_are_utf8)
{
	char name[160], line[256];
	int fd;

	start(SLEEPER);
	fd = client();
	for (size_t ascii = 0; ascii < 4; ascii++) {
		static char answer[4096];
		ssize_t count;

		memset(name, 'a', ascii);
		for (size_t i = 0; i < 50; i++)
			memcpy(name + ascii + 3 * i, "\xe2\x82\xac", 4);
		snprintf(line, sizeof(line), "{\"%s\":1}\n", name);
		say(fd, line);
		count = recv(fd, answer, sizeof(answer) - 1, 0);
		cr_assert_gt(count, 0);
		answer[count] = '\0';
		cr_assert(strstr(answer, "no member"), "%s", answer);
		cr_assert_null(strstr(answer, "\xef\xbf\xbd"), "nothing is cut: %s", answer);
		check_utf8(answer);
	}
	close(fd);
}

/* Replies come in order; what is sent before the end of a client's talk is answered. */
Test(control, requests_in_one_piece_and_in_many)
{
	int fd;

	start(SLEEPER);
	fd = client();
	say(fd, "{\"command\":\"status\",\"id\":1}\n{\"command\":\"status\",\"id\":2}\n"
		"{\"command\":\"sta");
	usleep(20000);
	say(fd, "tus\",\"id\":3}\n");
	shutdown(fd, SHUT_WR);
	expect(fd, "id", "1");
	expect(fd, "id", "2");
	expect(fd, "id", "3");
	cr_assert_null(hear(fd), "it has hung up");
	close(fd);
}

Test(control, line_without_end)
{
	static char line[LONGEST + 2];
	int fd;

	start(SLEEPER);
	fd = client();
	memset(line, ' ', sizeof(line));
	cr_assert_eq(send(fd, line, LONGEST - 20, MSG_NOSIGNAL), (ssize_t)LONGEST - 20);
	say(fd, "{\"command\":\"status\"}\n");
	expect(fd, "ok", "true"); /* the longest */
	cr_assert_eq(send(fd, line, sizeof(line), MSG_NOSIGNAL), (ssize_t)sizeof(line));
	expect(fd, "error", "EMSGSIZE");
	cr_assert_null(hear(fd), "it has hung up");
	close(fd);
	check_alive();
}

Test(control, several_clients)
{
	int fds[CLIENTS], other;

	start(SLEEPER);
	for (int i = 0; i < CLIENTS; i++)
		fds[i] = client();
	for (int i = CLIENTS - 1; i >= 0; i--)
		say(fds[i], "{\"command\":\"status\"}\n");
	for (int i = 0; i < CLIENTS; i++)
		expect(fds[i], "ok", "true");
	other = client();
	expect(other, "error", "EUSERS");
	cr_assert_null(hear(other));
	close(other);
	close(fds[3]);
	/* Its place is free as soon as the run has noticed. */
	for (int i = 0; i < 100; i++) {
		struct json_object *object;
		bool served;

		other = client();
		send(other, "{\"command\":\"status\"}\n", 21, MSG_NOSIGNAL);
		object = hear(other);
		served = object && strcmp(member(object, "ok"), "true") == 0;
		json_object_put(object);
		close(other);
		if (served)
			return;
		usleep(10000);
	}
	cr_assert_fail("the place was not given to another");
}

/* Asks until nothing more is taken, and reads no reply; *RET_COUNT times. */
static int ask_without_end(size_t *ret_count)
{
	static const char request[] = "{\"command\":\"status\"}\n";
	int fd = client();
	size_t sent = 0;

	cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	for (int idle = 0; idle < 20;) {
		if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0) {
			sent++;
			idle = 0;
		} else {
			usleep(5000);
			idle++;
		}
		cr_assert_lt(sent, 1000000u, "it takes requests without end");
	}
	*ret_count = sent;
	return fd;
}

/* Its own requests wait, and nobody else's; and they are dropped when it hangs up. */
Test(control, client_that_does_not_read)
{
	size_t count;

	start(SLEEPER);
	for (int i = 0; i <= CLIENTS; i++) {
		int fd = ask_without_end(&count);

		check_alive();
		close(fd);
	}
	check_alive();
}

/* Replies are owed to one that says no more: all that it asked for, when it reads at last. */
Test(control, client_that_reads_late)
{
	struct json_object *object;
	size_t count, replies = 0;
	int fd;

	start(SLEEPER);
	fd = ask_without_end(&count);
	shutdown(fd, SHUT_WR);
	check_alive();
	cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
	while ((object = hear(fd)) != NULL) {
		cr_assert_str_eq(member(object, "ok"), "true");
		json_object_put(object);
		replies++;
	}
	cr_assert_eq(replies, count);
	close(fd);
}

/* Any bytes at all: each whole line is answered or the client is cut off, and the run lives. */
Test(control, random_bytes)
{
	static const char alphabet[] = "{}[]\",:\\\n\n 01u\xc3\xa9\"command\"status";
	uint64_t state = 0x5eed;

	start(SLEEPER);
	for (int i = 0; i < 200; i++) {
		char bytes[512];
		int fd = client();

		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = alphabet[random_below(&state, sizeof(alphabet) - 1)];
		send(fd, bytes, random_below(&state, sizeof(bytes)), MSG_NOSIGNAL);
		close(fd);
	}
	check_alive();
}

/* --- impost ctl --- */

Test(control, ctl_refuses)
{
	static const struct {
		const char *args[6];
		const char *part;
	} refusals[] = {
		{{"ctl"}, "of what?"},
		{{"ctl", "@socket"}, "there is one missing"},
		{{"ctl", "@socket", "start"}, "what is 'start'?"},
		{{"ctl", "@socket", "status", "now"}, "what is 'now'?"},
		{{"ctl", "@socket", "status", "--stats"}, "unrecognized option"},
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct tool_result *result = tool_run(refusals[i].args);

		cr_expect_eq(result->status, 2);
		cr_expect(strstr(result->err, refusals[i].part), "no '%s' in %s", refusals[i].part,
			  result->err);
		cr_expect(!strstr(result->err, "\\x"), "%s", result->err);
	}
}

/* What JSON cannot have in it would be another file's name. */
Test(control, ctl_saves_under_no_other_name)
{
	const struct tool_result *result;

	start(SLEEPER);
	result = TOOL_RUN("ctl", "@socket", "save", "@caf\xe9");
	cr_assert_eq(result->status, 3);
	cr_assert(strstr(result->err, "caf\\xe9 is not UTF-8"), "%s", result->err);
	result = TOOL_RUN("ctl", "@socket", "save", "@caf\xc3\xa9 \x7f\xc2\x9b");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert(exists("caf\xc3\xa9 \x7f\xc2\x9b"));
	result = TOOL_RUN("ctl", "--json", "@socket", "status");
	cr_assert(strstr(result->out, "caf\xc3\xa9 \\u007f\\u009b\""), "%s", result->out);
}

/* What answers need not be an impost. */
Test(control, ctl_bears_with_any_server)
{
	static const struct {
		const char *answer, *part;
	} servers[] = {
		{"", "connection was lost"},
		{"hello\n", "no impost"},
		{"[]\n", "no impost"},
		{"{\"ok\":true", "connection was lost"},
	};

	for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
		struct sockaddr_un at = {.sun_family = AF_UNIX};
		int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
		char bytes[256];
		pid_t pid;

		snprintf(at.sun_path, sizeof(at.sun_path), "%s", tool_path("socket"));
		cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
		cr_assert_eq(listen(listener, 1), 0);
		pid = fork();
		if (pid == 0) {
			fd = accept(listener, NULL, NULL);
			recv(fd, bytes, sizeof(bytes), 0);
			send(fd, servers[i].answer, strlen(servers[i].answer), MSG_NOSIGNAL);
			_exit(0);
		}
		check_ctl(3, servers[i].part, "status");
		waitpid(pid, NULL, 0);
		close(listener);
		unlink(tool_path("socket"));
	}
}
