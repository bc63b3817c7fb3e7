// SPDX-License-Identifier: Apache-2.0
/* impost ctl SOCKET migrate: options made into a request, and numbers made into words. */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "json.h"
#include "path.h"
#include "utf8.h"

#define MIB 1048576.0

/* --- the request --- */

static const struct {
	enum tool_option_id id;
	enum request_flag flag;
} flags[] = {
	{OPTION_LOCAL, REQUEST_LOCAL},
	{OPTION_POSTCOPY, REQUEST_POSTCOPY},
	{OPTION_COMPRESS, REQUEST_COMPRESS},
	{OPTION_FINISH, REQUEST_FINISH},
};

static const struct {
	enum tool_option_id id;
	enum request_number number;
} numbers[] = {
	{OPTION_DOWNTIME, REQUEST_DOWNTIME},
	{OPTION_TIMEOUT, REQUEST_TIMEOUT},
	{OPTION_CONNECTIONS, REQUEST_CONNECTIONS},
	{OPTION_THROTTLE, REQUEST_THROTTLE},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int not_for(const char *name)
{
	complain("ctl: --%s is for migrate", name);
	return STATUS_USAGE;
}

static int check_number(enum request_number number, const char *value)
{
	size_t len = strlen(value);
	uint32_t least, most;

	request_number_range(number, &least, &most);
	if (len > 0 && len < 19 && strspn(value, "0123456789") == len &&
	    strtoull(value, NULL, 10) >= least && strtoull(value, NULL, 10) <= most)
		return STATUS_OK;
	complain("ctl: --%s '%s': give a whole number from %u to %u", request_number_name(number),
		 value, least, most);
	return STATUS_USAGE;
}

static int check_options(const struct invocation *invocation, enum request_command command)
{
	int status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < COUNT(flags); i++)
		if (invocation_has(invocation, flags[i].id) && command != REQUEST_MIGRATE)
			status = not_for(request_flag_name(flags[i].flag));
	for (size_t i = 0; status == STATUS_OK && i < COUNT(numbers); i++) {
		const char *name = request_number_name(numbers[i].number);
		const char *value = invocation->values[numbers[i].id];

		if (value)
			status = command == REQUEST_MIGRATE ? check_number(numbers[i].number, value)
							    : not_for(name);
	}
	return status;
}

/* What is about memory that is copied. */
static const enum tool_option_id copying[] = {OPTION_COMPRESS, OPTION_POSTCOPY, OPTION_FINISH,
					      OPTION_CONNECTIONS, OPTION_THROTTLE};

static const char *name_of(enum tool_option_id id)
{
	for (size_t i = 0; i < COUNT(flags); i++)
		if (flags[i].id == id)
			return request_flag_name(flags[i].flag);
	for (size_t i = 0; i < COUNT(numbers); i++)
		if (numbers[i].id == id)
			return request_number_name(numbers[i].number);
	return "";
}

/* Whether the options go with ADDRESS, and with each other. */
static int check_together(const struct invocation *invocation, enum address_kind address)
{
	const char *connections = invocation->values[OPTION_CONNECTIONS];
	bool local = invocation_has(invocation, OPTION_LOCAL);

	if (address == ADDRESS_FD && connections && strtoull(connections, NULL, 10) > 1) {
		complain("ctl: --connections %s: a descriptor is one connection; a unix:, tcp: or "
			 "tls: address can have more",
			 connections);
		return STATUS_USAGE;
	}
	if (local && address != ADDRESS_UNIX && address != ADDRESS_FD) {
		complain("ctl: --local: memory is handed over on this host alone: give unix:PATH");
		return STATUS_USAGE;
	}
	for (size_t i = 0; local && i < COUNT(copying); i++)
		if (invocation_has(invocation, copying[i])) {
			complain("ctl: --%s is for memory that is copied, and --local copies none",
				 name_of(copying[i]));
			return STATUS_USAGE;
		}
	return STATUS_OK;
}

/* The other process has a current folder of its own. To be freed; NULL with a message printed. */
static char *whole_address(const char *address)
{
	static const char prefix[] = "unix:";
	char *path, *whole = NULL;

	if (strncmp(address, prefix, strlen(prefix)) != 0)
		whole = strdup(address);
	else if ((path = path_absolute(address + strlen(prefix))) != NULL) {
		if (asprintf(&whole, "%s%s", prefix, path) < 0)
			whole = NULL;
		free(path);
	}
	if (!whole) {
		complain("ctl: the address: %s", strerror(errno));
		return NULL;
	}
	if (utf8_is_valid(whole))
		return whole;
	complain("ctl: the address %s is not UTF-8, as requests are", whole);
	free(whole);
	return NULL;
}

/* As it was given, and then as the run will have it, whose paths are longer. */
static int check_address(const struct invocation *invocation)
{
	struct address parsed;
	char *whole;
	int err =
		address_parse(invocation->ctx, invocation->operands[2], ADDRESS_CONNECTS, &parsed);

	if (err == 0) {
		whole = whole_address(invocation->operands[2]);
		if (!whole)
			return STATUS_HOST;
		err = address_parse(invocation->ctx, whole, ADDRESS_CONNECTS, &parsed);
		free(whole);
	}
	if (err == 0)
		return check_together(invocation, parsed.kind);
	complain("ctl: migrate: %s", impost_error(invocation->ctx));
	return STATUS_USAGE;
}

int ctl_check_migrate(const struct invocation *invocation, enum request_command command)
{
	int status = check_options(invocation, command);

	return status == STATUS_OK && command == REQUEST_MIGRATE ? check_address(invocation)
								 : status;
}

bool ctl_compose_migrate(const struct invocation *invocation, struct json_object *request)
{
	char *address = whole_address(invocation->operands[2]);

	if (!address)
		return false;
	json_add_string(request, "address", address);
	free(address);
	for (size_t i = 0; i < COUNT(flags); i++)
		if (invocation_has(invocation, flags[i].id))
			json_add_bool(request, request_flag_name(flags[i].flag), true);
	for (size_t i = 0; i < COUNT(numbers); i++) {
		const char *value = invocation->values[numbers[i].id];

		if (value)
			json_add_uint(request, request_number_name(numbers[i].number),
				      strtoull(value, NULL, 10));
	}
	return true;
}

/* --- Ctrl-C --- */

static volatile sig_atomic_t interrupt_fd;

static void on_interrupt(int number)
{
	static const char line[] = "{\"command\":\"migrate-cancel\",\"id\":1}\n";
	int saved = errno;

	(void)number;
	send(interrupt_fd, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	errno = saved;
}

void ctl_catch_interrupt(int fd)
{
	const struct sigaction action = {
		.sa_handler = on_interrupt,
		.sa_flags = (int)SA_RESETHAND | SA_RESTART,
	};
	struct sigaction before;

	interrupt_fd = fd;
	if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
		sigaction(SIGINT, &action, NULL);
}

/* --- words --- */

const char *ctl_size(uint64_t bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	static char texts[2][32];
	static unsigned int last;
	double number = (double)bytes;
	size_t unit = 0;

	for (; number >= 1024 && unit + 1 < COUNT(units); unit++)
		number /= 1024;
	last = !last;
	/* Nothing behind the point where there is nothing. */
	snprintf(texts[last], sizeof(texts[last]), "%.*f %s",
		 number - (double)(uint64_t)number >= 0.05, number, units[unit]);
	return texts[last];
}

static double mib(struct json_object *object, const char *key)
{
	return (double)json_get_uint(object, key) / MIB;
}

void ctl_note(struct json_object *progress, char *text, size_t size)
{
	uint64_t dirty = json_get_uint(progress, "dirty_rate");
	uint64_t us = json_get_uint(progress, "downtime_us");
	size_t len;

	snprintf(text, size, "pass %" PRIu64 "  %.0f MiB  %.0f MiB/s",
		 json_get_uint(progress, "pass"), mib(progress, "data_bytes"),
		 mib(progress, "rate"));
	len = strlen(text);
	if (dirty)
		snprintf(text + len, size - len, "  dirty %.0f MiB/s", (double)dirty / MIB);
	len = strlen(text);
	if (us)
		snprintf(text + len, size - len, "  %.0f ms", (double)us / 1000);
}

void ctl_print_migrated(struct json_object *reply)
{
	printf("migrated to ");
	put_text(stdout, json_get_string(reply, "address"), 0);
	printf(": %s of memory in %.3f s, %" PRIu64 " pass%s; the guest stood for %.3f ms\n",
	       ctl_size(json_get_uint(reply, "data_bytes")),
	       (double)json_get_uint(reply, "ms") / 1000, json_get_uint(reply, "pass"),
	       json_get_uint(reply, "pass") == 1 ? "" : "es",
	       (double)json_get_uint(reply, "downtime_us") / 1000);
}

/* The reasons of a refusal, or NULL. */
static struct json_object *reasons_of(struct json_object *reply)
{
	struct json_object *reasons;

	if (!json_object_object_get_ex(reply, "reasons", &reasons) ||
	    json_object_get_type(reasons) != json_type_array ||
	    json_object_array_length(reasons) == 0)
		return NULL;
	return reasons;
}

static const char *reason_at(struct json_object *reasons, size_t index)
{
	const char *reason = json_object_get_string(json_object_array_get_idx(reasons, index));

	return reason ? reason : "";
}

void ctl_print_refusal(const char *command, struct json_object *reply)
{
	struct json_object *reasons = reasons_of(reply);
	const char *text = json_get_string(reply, "text");
	const char *list = reasons ? strstr(text, reason_at(reasons, 0)) : NULL;

	size_t len = list ? (size_t)(list - text) : strlen(text);

	/* The sentence ends with them, in one line. */
	while (list && len && text[len - 1] == ' ')
		len--;
	complain("%s: %.*s", command, (int)len, text);
	for (size_t i = 0; reasons && i < json_object_array_length(reasons); i++) {
		fputs("  ", stderr);
		put_text(stderr, reason_at(reasons, i), 0);
		fputc('\n', stderr);
	}
}

void ctl_print_migration(struct json_object *migration)
{
	char note[160];
	bool in = strcmp(json_get_string(migration, "direction"), "in") == 0;

	printf("%-10s%s ", in ? "incoming" : "migration", json_get_string(migration, "phase"));
	put_text(stdout, json_get_string(migration, "address"), 0);
	ctl_note(migration, note, sizeof(note));
	printf("\n%-10s%s\n", "", note);
}
