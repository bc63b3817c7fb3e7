/* SPDX-License-Identifier: Apache-2.0 */
/* Names of boot protocols and of CPU modes. */
#include <string.h>

#include <impost/x86_64/kernel.h>

static const char *const protocols[] = {
	[IMPOST_X86_PROTOCOL_AUTO] = "auto",	   [IMPOST_X86_PROTOCOL_LINUX64] = "linux64",
	[IMPOST_X86_PROTOCOL_LINUX32] = "linux32", [IMPOST_X86_PROTOCOL_PVH] = "pvh",
	[IMPOST_X86_PROTOCOL_FLAT] = "flat",
};

static const char *const modes[] = {
	[IMPOST_X86_MODE_REAL] = "real",
	[IMPOST_X86_MODE_PROTECTED] = "protected",
	[IMPOST_X86_MODE_LONG] = "long",
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const char *name_of(const char *const *table, size_t count, uint32_t number)
{
	return number < count ? table[number] : NULL;
}

static int from_name(const char *const *table, size_t count, const char *name, uint32_t *ret_number)
{
	for (uint32_t i = 0; name && ret_number && i < count; i++) {
		if (table[i] && !strcmp(table[i], name)) {
			*ret_number = i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *impost_x86_protocol_name(uint32_t protocol)
{
	return name_of(protocols, COUNT(protocols), protocol);
}

int impost_x86_protocol_from_name(const char *name, uint32_t *ret_protocol)
{
	return from_name(protocols, COUNT(protocols), name, ret_protocol);
}

const char *impost_x86_mode_name(uint32_t mode)
{
	return name_of(modes, COUNT(modes), mode);
}

int impost_x86_mode_from_name(const char *name, uint32_t *ret_mode)
{
	return from_name(modes, COUNT(modes), name, ret_mode);
}
