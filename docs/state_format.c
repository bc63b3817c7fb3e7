/* SPDX-License-Identifier: Apache-2.0 */
/* Writes state-format.md: what impost_state_document() says. */
#include <stdio.h>

#include <impost/state.h>

static int write_text(void *opaque, const char *text, size_t len)
{
	return fwrite(text, 1, len, opaque) == len ? 0 : -1;
}

int main(void)
{
	return impost_state_document(write_text, stdout) || fflush(stdout);
}
