// SPDX-License-Identifier: Apache-2.0
/* impost doctor: which backends can run here, and what to do about those that cannot. */
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

/* What was found out about one backend. */
struct finding {
	const char *name;
	bool usable;
	bool missing;	    /* there is no usable plugin of that name */
	const char *reason; /* when it is not usable */
	struct impost_caps caps;
};

static bool executes(const struct finding *finding)
{
	return finding->usable && impost_caps_has(&finding->caps, IMPOST_CAP_EXECUTES);
}

static void examine(const struct invocation *invocation, struct finding *finding)
{
	int err;

	finding->caps = (struct impost_caps){.size = sizeof(finding->caps)};
	err = impost_backend_probe(invocation->ctx, finding->name, &finding->caps);
	finding->usable = err == 0;
	finding->missing = err == -IMPOST_EPLUGIN;
	finding->reason = err == 0 ? NULL : impost_error(invocation->ctx);
}

static void print_text(const struct finding *finding)
{
	const char *off = colour(stdout, COLOUR_OFF);

	put_text(stdout, finding->name, 8);
	if (!finding->usable) {
		printf(" %scannot run here%s: ", colour(stdout, COLOUR_BAD), off);
		put_text(stdout, finding->reason, 0);
		printf("%s\n", finding->missing ? "; 'impost list' tells what is there" : "");
		return;
	}
	printf(" %scan run here%s, and %s; up to %u vCPUs\n", colour(stdout, COLOUR_GOOD), off,
	       executes(finding) ? "executes guests" : "plays guests from a script",
	       finding->caps.max_vcpus);
	printf("         has:  ");
	for (uint32_t cap = 0; cap < IMPOST_CAP_COUNT; cap++)
		if (impost_caps_has(&finding->caps, cap))
			printf(" %s", impost_cap_name(cap));
	printf("\n         lacks:");
	for (uint32_t cap = 0; cap < IMPOST_CAP_COUNT; cap++)
		if (!impost_caps_has(&finding->caps, cap))
			printf(" %s", impost_cap_name(cap));
	printf("\n");
}

static struct json_object *to_json(const struct finding *finding)
{
	struct json_object *object = json_object_new_object();
	struct json_object *caps;

	json_add_string(object, "name", finding->name);
	json_add_bool(object, "usable", finding->usable);
	json_add_string(object, "reason", finding->reason);
	json_add_bool(object, "executes", executes(finding));
	if (!finding->usable)
		return object;
	json_add_uint(object, "max_vcpus", finding->caps.max_vcpus);
	json_add_uint(object, "tsc_khz", finding->caps.tsc_khz);
	json_add_uint(object, "phys_bits", finding->caps.phys_bits);
	caps = json_object_new_array();
	for (uint32_t cap = 0; cap < IMPOST_CAP_COUNT; cap++)
		if (impost_caps_has(&finding->caps, cap))
			json_object_array_add(caps, json_object_new_string(impost_cap_name(cap)));
	json_object_object_add(object, "capabilities", caps);
	return object;
}

/* The findings so far, and how they are told. */
struct round {
	const struct invocation *invocation;
	struct json_object *backends; /* NULL: text */
	unsigned int count;
	unsigned int executing;
};

static void visit(struct round *round, const char *name)
{
	struct finding finding = {.name = name};

	examine(round->invocation, &finding);
	round->count++;
	round->executing += executes(&finding);
	if (round->backends)
		json_object_array_add(round->backends, to_json(&finding));
	else
		print_text(&finding);
}

/* The names of `--backend`. */
static int visit_named(struct round *round, const char *names)
{
	char *copy = strdup(names), *rest = copy, *name;

	if (!copy) {
		complain("no memory");
		return STATUS_HOST;
	}
	while ((name = strsep(&rest, ", \t")))
		if (*name)
			visit(round, name);
	free(copy);
	return STATUS_OK;
}

/* Every plugin that is a backend, or could be one but is broken. */
static int visit_all(struct round *round)
{
	struct impost_plugin_info info = {.size = sizeof(info)};
	uint32_t i;
	int err;

	for (i = 0; (err = impost_plugin_info(round->invocation->ctx, i, &info)) == 0; i++)
		if (info.kind != IMPOST_PLUGIN_LAYER)
			visit(round, info.name);
	return err == -ENOENT && i > 0 ? STATUS_OK : complain_no_plugins(round->invocation);
}

int command_doctor(const struct invocation *invocation)
{
	struct round round = {.invocation = invocation};
	int status;

	if (invocation_has(invocation, OPTION_JSON))
		round.backends = json_object_new_array();
	if (invocation_has(invocation, OPTION_BACKEND))
		status = visit_named(&round,
				     impost_context_get(invocation->ctx, "impost", "backend"));
	else
		status = visit_all(&round);
	if (status != STATUS_OK) {
		json_object_put(round.backends);
		return status;
	}
	if (round.backends)
		json_print("backends", round.backends);
	if (round.executing == 0)
		complain("no backend here executes guests");
	return finish_output(round.executing ? STATUS_OK : STATUS_FAILED);
}
