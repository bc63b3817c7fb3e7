/* SPDX-License-Identifier: Apache-2.0 */
/* Names of error codes: a layer links nothing of the core, which has them too. */
#include "layer.h"

#include <string.h>

#define CODE(name)                   \
	{                            \
		IMPOST_##name, #name \
	}

/* The codes beyond errno's range: error.h. */
static const struct {
	int32_t number;
	const char *name;
} codes[] = {
	CODE(EABI),   CODE(EPLUGIN),   CODE(ECONFIG), CODE(EIMAGE), CODE(EFORKED),
	CODE(ESTATE), CODE(EDIVERGED), CODE(EFORMAT), CODE(EMOVED), CODE(EUNSETTLED),
};

#define LAST_ERRNO 133 /* EHWPOISON: errno(3) has none above */

const char *layer_error_name(int32_t err)
{
	const char *name;

	err = err < 0 ? -err : err;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].number == err)
			return codes[i].name;
	name = strerrorname_np(err);
	return name ? name : "E?";
}

int32_t layer_error_number(const char *name)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(codes[i].name, name) == 0)
			return codes[i].number;
	for (int32_t err = 1; err <= LAST_ERRNO; err++) {
		const char *known = strerrorname_np(err);

		if (known && strcmp(known, name) == 0)
			return err;
	}
	return 0;
}
