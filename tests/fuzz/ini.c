/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target for the INI reader: any bytes are taken, or refused with a text and leave nothing. */
#include <stdint.h>

#include <impost/context.h>
#include <impost/vm.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
	if (!condition)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct impost_vm_config config;
	struct impost_context *ctx;
	int err;

	require(impost_context_open(NULL, NULL, &ctx) == 0);
	err = impost_context_load_buffer(ctx, "fuzz.ini", (const char *)data, size);
	if (err < 0) {
		require(err == -IMPOST_ECONFIG || err == -EFBIG);
		require(*impost_error(ctx) != '\0');
		require(impost_context_get(ctx, "boot", "cmdline") == NULL);
		/* Nothing stays of it: a right one is taken. */
		require(impost_context_load_buffer(ctx, "good.ini", "", 0) == 0);
	}
	require(impost_vm_config_init(ctx, &config) == 0);
	require(config.cpus > 0 && config.memory > 0 && config.memory % 4096 == 0);
	require(impost_context_close(ctx) == 0);
	return 0;
}
