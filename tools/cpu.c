// SPDX-License-Identifier: Apache-2.0
/* impost cpu dump, compare and baseline: what hosts offer, and what they have in common. */
#include "cpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "row.h"

int cpu_open(const struct invocation *invocation, const char *operand,
	     struct impost_x86_template **ret_template)
{
	int err;

	if (impost_x86_template_shipped_text(operand))
		err = impost_x86_template_open(invocation->ctx, operand, NULL, 0, ret_template);
	else
		err = impost_x86_template_load_file(invocation->ctx, operand, ret_template);
	if (err == -ENOENT && !strchr(operand, '/')) {
		complain("there is no file '%s', and no CPU template of this name: `impost cpu "
			 "dump -o FILE` makes a file, and `impost cpu templates` lists the others",
			 operand);
		return STATUS_HOST;
	}
	return err < 0 ? complain_error(invocation, err) : STATUS_OK;
}

/* --- writing --- */

int cpu_write(const struct invocation *invocation, const struct impost_x86_template *tmpl)
{
	const char *path = invocation->values[OPTION_OUTPUT];
	FILE *file;
	int err;

	if (!path) {
		impost_x86_template_write(tmpl, write_to_file, stdout);
		return finish_output(STATUS_OK);
	}
	file = fopen(path, "we");
	if (!file) {
		complain("cannot write %s: %s", path, strerror(errno));
		return STATUS_HOST;
	}
	err = impost_x86_template_write(tmpl, write_to_file, file);
	if (fclose(file) != 0 || err < 0) {
		complain("cannot write all of %s: what is there now is no template", path);
		return STATUS_HOST;
	}
	return STATUS_OK;
}

/* --- dump --- */

/* "set" and "clear" become booleans, numbers numbers. */
static struct json_object *to_json(const char *value)
{
	char *end;
	uint64_t number = strtoull(value, &end, 0);

	if (strcmp(value, "set") == 0 || strcmp(value, "clear") == 0)
		return json_object_new_boolean(value[0] == 's');
	if (value[0] == '0' && !*end)
		return json_object_new_uint64(number);
	return json_object_new_string(value);
}

static void add_field(void *opaque, const char *name, const char *value, const char *other)
{
	(void)other;
	/* Of what has no name, only what is set says something. */
	if (name[0] == '0' && strcmp(value, "clear") == 0)
		return;
	json_object_object_add(opaque, name,
			       strcmp(name, "rest") == 0 ? json_object_new_string(value)
							 : to_json(value));
}

/* Every field is one in which it differs from a template that says nothing. */
static int write_json(const struct invocation *invocation, const struct impost_x86_template *tmpl)
{
	struct json_object *object, *fields;
	struct impost_x86_template *nothing = NULL;
	int err = impost_x86_template_load_buffer(invocation->ctx, "nothing", "", 0, &nothing);

	if (err < 0)
		return complain_error(invocation, err);
	object = json_object_new_object();
	fields = json_object_new_object();
	json_add_string(object, "name", impost_x86_template_name(tmpl));
	json_add_string(object, "summary", impost_x86_template_summary(tmpl));
	impost_x86_template_compare(tmpl, nothing, add_field, fields);
	json_object_object_add(object, "fields", fields);
	json_print("cpu", object);
	impost_x86_template_free(nothing);
	return finish_output(STATUS_OK);
}

static int probe(const struct invocation *invocation, struct impost_x86_template **ret_template)
{
	struct impost_vm_config config;
	struct impost_vm *vm = NULL;
	int err = impost_vm_config_init(invocation->ctx, &config);

	config.cpus = 1;
	if (!err)
		err = impost_vm_create(invocation->ctx, &config, &vm);
	if (!err)
		err = impost_x86_template_probe(vm, ret_template);
	impost_vm_destroy(vm);
	return err < 0 ? complain_error(invocation, err) : STATUS_OK;
}

int command_cpu_dump(const struct invocation *invocation)
{
	struct impost_x86_template *tmpl = NULL;
	int status;

	if (invocation_has(invocation, OPTION_JSON) && invocation_has(invocation, OPTION_OUTPUT)) {
		complain("cpu dump: --json goes to standard output: leave out --output");
		return STATUS_USAGE;
	}
	status = probe(invocation, &tmpl);
	if (status == STATUS_OK)
		status = invocation_has(invocation, OPTION_JSON) ? write_json(invocation, tmpl)
								 : cpu_write(invocation, tmpl);
	impost_x86_template_free(tmpl);
	return status;
}

/* --- compare --- */

static void on_difference(void *differences, const char *name, const char *a, const char *b)
{
	ROW_TELL(differences, stdout, {"name", name, 40, " ", true}, {"a", a, 18, " ", false},
		 {"b", b, 0, "", false});
}

static int compare(const struct invocation *invocation, const struct impost_x86_template *a,
		   const struct impost_x86_template *b)
{
	struct json_object *differences =
		invocation_has(invocation, OPTION_JSON) ? json_object_new_array() : NULL;
	int count = impost_x86_template_compare(a, b, NULL, NULL);

	if (count && !differences)
		on_difference(NULL, "", invocation->operands[0], invocation->operands[1]);
	impost_x86_template_compare(a, b, on_difference, differences);
	if (differences)
		json_print("differences", differences);
	return finish_output(count ? STATUS_FAILED : STATUS_OK);
}

int command_cpu_compare(const struct invocation *invocation)
{
	struct impost_x86_template *a = NULL, *b = NULL;
	int status = cpu_open(invocation, invocation->operands[0], &a);

	if (status == STATUS_OK)
		status = cpu_open(invocation, invocation->operands[1], &b);
	if (status == STATUS_OK)
		status = compare(invocation, a, b);
	impost_x86_template_free(a);
	impost_x86_template_free(b);
	return status;
}

/* --- baseline --- */

static int join(const struct invocation *invocation, struct impost_x86_template *const *cpus,
		uint32_t count)
{
	struct impost_x86_template *tmpl = NULL;
	int status, err;

	err = impost_x86_template_baseline(invocation->ctx, "baseline",
					   (const struct impost_x86_template *const *)cpus, count,
					   &tmpl);
	if (err < 0)
		return complain_error(invocation, err);
	status = cpu_write(invocation, tmpl);
	impost_x86_template_free(tmpl);
	return status;
}

int command_cpu_baseline(const struct invocation *invocation)
{
	uint32_t count = (uint32_t)invocation->noperands;
	struct impost_x86_template **cpus = calloc(count, sizeof(struct impost_x86_template *));
	int status = STATUS_OK;

	if (!cpus) {
		complain("no memory for %u CPU templates", count);
		return STATUS_HOST;
	}
	for (uint32_t i = 0; status == STATUS_OK && i < count; i++)
		status = cpu_open(invocation, invocation->operands[i], &cpus[i]);
	if (status == STATUS_OK)
		status = join(invocation, cpus, count);
	for (uint32_t i = 0; i < count; i++)
		impost_x86_template_free(cpus[i]);
	free(cpus);
	return status;
}
