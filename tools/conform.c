// SPDX-License-Identifier: Apache-2.0
/* impost conform: starts the conformance program, which has the tests, on a backend that can run.
 */
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the program is started with: its name, two words for each option, "--", tests, NULL. */
struct words {
	char **words;
	int n;
};

static void add(struct words *words, const char *word)
{
	words->words[words->n++] = (char *)(uintptr_t)word;
}

/* The options that are the program's as well. */
static void add_options(struct words *words, const struct invocation *invocation)
{
	static const struct {
		enum tool_option_id id;
		const char *name;
		bool has_value;
	} same[] = {
		{OPTION_CONFIG, "--config", true}, {OPTION_PLUGIN_DIR, "--plugin-dir", true},
		{OPTION_LOG, "--log", true},	   {OPTION_JUNIT, "--junit", true},
		{OPTION_JOBS, "--jobs", true},	   {OPTION_TEST_TIMEOUT, "--timeout", true},
		{OPTION_LIST, "--list", false},	   {OPTION_VERBOSE, "--verbose", false},
	};

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		if (!invocation_has(invocation, same[i].id))
			continue;
		add(words, same[i].name);
		if (same[i].has_value)
			add(words, invocation->values[same[i].id]);
	}
	for (int i = 0; i < invocation->nrepeated; i++) {
		add(words, invocation->repeated[i].id == OPTION_SET ? "--set" : "--layer");
		add(words, invocation->repeated[i].value);
	}
}

static char **make_words(const struct invocation *invocation, const char *program,
			 const char *backend)
{
	const int most = 2 * OPTION_COUNT + 2 * invocation->nrepeated + invocation->noperands + 5;
	struct words words = {.words = calloc((size_t)most, sizeof(char *))};

	if (!words.words)
		return NULL;
	add(&words, program);
	if (backend) {
		add(&words, "--backend");
		add(&words, backend);
	}
	add_options(&words, invocation);
	add(&words, "--");
	for (int i = 0; i < invocation->noperands; i++)
		add(&words, invocation->operands[i]);
	return words.words;
}

/*
 * The program, in PATH: in the build folder that this tool is in, or in the prefix that it is in,
 * be that where it was meant to be or not.
 */
static bool find_program(char path[PATH_MAX])
{
	const bool absolute = IMPOST_LIBEXECDIR[0] == '/';
	char self[PATH_MAX / 2], places[2][PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	if (strrchr(self, '/'))
		*strrchr(self, '/') = '\0';
	snprintf(places[0], PATH_MAX, "%s/../tests/conformance/conformance", self);
	snprintf(places[1], PATH_MAX, "%s%s%s/impost/conformance", absolute ? "" : self,
		 absolute ? "" : "/../", IMPOST_LIBEXECDIR);
	for (size_t i = 0; i < 2; i++)
		if (realpath(places[i], path) && access(path, X_OK) == 0)
			return true;
	snprintf(path, PATH_MAX, "%s", places[1]);
	return false;
}

/* The first backend that can run here, in NAMES, of which it makes words. */
static const char *choose_backend(const struct invocation *invocation, char *names)
{
	char *name;

	while ((name = strsep(&names, ", \t"))) {
		struct impost_caps caps = {.size = sizeof(caps)};

		if (*name && impost_backend_probe(invocation->ctx, name, &caps) == 0)
			return name;
	}
	return NULL;
}

static int start(const struct invocation *invocation, const char *backend)
{
	char program[PATH_MAX], **words;

	if (!find_program(program)) {
		complain("conform: %s is not there: it is built and installed with -Dtests=true",
			 program);
		return STATUS_HOST;
	}
	/* Started by a test that runs under Criterion, as the program's own do: it would take
	 * itself for that test. */
	unsetenv("BXFI_MAP");
	words = make_words(invocation, program, backend);
	if (words) {
		fflush(stdout);
		execv(program, words);
	}
	complain("conform: cannot start %s: %s", program, strerror(words ? errno : ENOMEM));
	free(words);
	return STATUS_HOST;
}

int command_conform(const struct invocation *invocation)
{
	const char *given = impost_context_get(invocation->ctx, "impost", "backend");
	const char *backend;
	char *names;
	int status;

	if (invocation_has(invocation, OPTION_LIST))
		return start(invocation, NULL);
	names = strdup(given ? given : "");
	backend = names ? choose_backend(invocation, names) : NULL;
	if (backend)
		status = start(invocation, backend);
	else
		status = complain_error(invocation, -ENOMEM);
	free(names);
	return status;
}
