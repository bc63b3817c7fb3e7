/* SPDX-License-Identifier: Apache-2.0 */
/* What a host may tell SMBIOS of its machine: checks, and defaults. */
#ifndef ARCH_X86_64_SMBIOS_CHECKS_H
#define ARCH_X86_64_SMBIOS_CHECKS_H

#include <impost/x86_64/smbios.h>

/* What the first release knew: a host's struct may be shorter or longer than ours. */
#define SMBIOS_LEAST_CONFIG \
	(offsetof(struct impost_x86_smbios_config, structures) + sizeof(const void *))

/* Copies CONFIG to *ret_checked with its defaults set; refuses as impost_x86_smbios_build() does.
 */
int smbios_check(struct impost_context *ctx, const struct impost_x86_smbios_config *config,
		 struct impost_x86_smbios_config *ret_checked);

/* Whether there is such a text. */
static inline int is_given(const char *text)
{
	return text && text[0];
}

#endif
