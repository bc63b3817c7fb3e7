/* SPDX-License-Identifier: Apache-2.0 */
/* The library's version. */
#include <impost/version.h>

#define TEXT(x)	 #x
#define VALUE(x) TEXT(x)

const char *impost_version(void)
{
	return VALUE(IMPOST_VERSION_MAJOR) "." VALUE(IMPOST_VERSION_MINOR) "." VALUE(
		IMPOST_VERSION_PATCH);
}
