// SPDX-License-Identifier: Apache-2.0
/* impost cpu templates: those that come with the library. */
#include "cpu.h"

static int list(const struct invocation *invocation)
{
	const char *name;

	for (uint32_t i = 0; (name = impost_x86_template_shipped(i)) != NULL; i++) {
		struct impost_x86_template *tmpl = NULL;
		int status = cpu_open(invocation, name, &tmpl);

		if (status != STATUS_OK)
			return status;
		printf("%s%-16s%s %s\n", colour(stdout, COLOUR_BOLD), name,
		       colour(stdout, COLOUR_OFF), impost_x86_template_summary(tmpl));
		impost_x86_template_free(tmpl);
	}
	return finish_output(STATUS_OK);
}

int command_cpu_templates(const struct invocation *invocation)
{
	const char *text;

	if (!invocation->noperands)
		return list(invocation);
	text = impost_x86_template_shipped_text(invocation->operands[0]);
	if (!text) {
		complain("there is no CPU template '%s': `impost cpu templates` lists them",
			 invocation->operands[0]);
		return STATUS_HOST;
	}
	fputs(text, stdout);
	return finish_output(STATUS_OK);
}
