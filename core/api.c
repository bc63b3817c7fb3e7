/* SPDX-License-Identifier: Apache-2.0 */
/* The table with every public function, for hosts that open the library with dlopen(3). */
#include <impost/api.h>

#define IMPOST_API_FUNCTION(name) .name = impost_##name,
static const struct impost_api table = {
	.size = sizeof(table),
	.number = IMPOST_API_VERSION,
#include "api.def"
};
#undef IMPOST_API_FUNCTION

/* A member that api.def lacks would be NULL. */
#define IMPOST_API_FUNCTION(name) +sizeof(table.name)
_Static_assert(sizeof(table) == offsetof(struct impost_api, context_open)
#include "api.def"
		       ,
	       "api.def has every function of struct impost_api: run scripts/api-table");

const struct impost_api *impost_api(uint32_t version)
{
	return version == IMPOST_API_VERSION ? &table : NULL;
}
