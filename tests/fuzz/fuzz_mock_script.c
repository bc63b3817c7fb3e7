/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds bytes to the mock's script reader: it takes them or names a line, and never more. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../backends/mock/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mock_script *script = NULL;
	char error[256] = "";
	int err =
		mock_script_parse("fuzz", (const char *)data, size, &script, error, sizeof(error));

	if (err ? script || !error[0] || strncmp(error, "fuzz:", 5) : !script || error[0])
		abort();
	mock_script_free(script);
	return 0;
}
