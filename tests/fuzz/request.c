// SPDX-License-Identifier: Apache-2.0
/* Fuzz target for the control socket's requests: any line is one, or is refused with a sentence. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
	if (!condition)
		__builtin_trap();
}

static void check(const struct request *request)
{
	require(request->command < REQUEST_COMMANDS);
	require((request->command == REQUEST_SAVE) == (request->file != NULL));
	require(!request->file || request->file[0] == '/');
	require(!request->base || (request->file && request->base[0] == '/'));
	require((request->command == REQUEST_MIGRATE) == (request->address != NULL));
	require((request->command == REQUEST_SETTLE) == (request->what != NULL));
	for (int i = 0; i < REQUEST_FLAGS; i++)
		require(!request->flags[i] || request->command == REQUEST_MIGRATE);
	for (int i = 0; i < REQUEST_NUMBERS; i++)
		require(!request->has_number[i] || request->command == REQUEST_MIGRATE);
	require(request->number[REQUEST_CONNECTIONS] <= 64 &&
		request->number[REQUEST_THROTTLE] <= 99);
	require(!request->has_id || (request->id >= 0 && request->id <= (int64_t)1 << 53));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request request;
	char text[256] = "";
	int err = request_parse((const char *)data, size, &request, text, sizeof(text));

	if (err == 0) {
		check(&request);
	} else {
		require(err == -EINVAL && *text);
		json_object_put(reply_error(&request, err, text));
	}
	request_release(&request);
	require(!request.file && !request.base && !request.address && !request.what);
	return 0;
}
