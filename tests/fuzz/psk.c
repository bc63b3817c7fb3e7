// SPDX-License-Identifier: Apache-2.0
/*
 * Fuzz target for files of keys (psktool(1)): any bytes are such a file, or are refused with a
 * sentence; and each name that a peer may come with has a key that GnuTLS takes, or none. The
 * reader is the tool's own, which has no header: it is here as a whole.
 */
#include "tls.c" /* NOLINT(bugprone-suspicious-include) */

#include <sys/mman.h>

#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct impost_context *ctx;
static int file = -1;

/* The input is a file that nobody else has, and the only one. */
static void set_up(void)
{
	char path[64];

	file = memfd_create("keys", MFD_CLOEXEC);
	MODEL_CHECK(file >= 0 && fchmod(file, 0600) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	MODEL_CHECK(impost_context_open(NULL, NULL, &ctx) == 0);
	MODEL_CHECK(impost_context_set(ctx, "migration", "tls_psk", path) == 0);
}

/* Who connects says a name, and gets a key or none. */
static void ask_for(const struct tls_credentials *credentials, const char *name)
{
	gnutls_session_t session;
	gnutls_datum_t key = {0};

	MODEL_CHECK(gnutls_init(&session, GNUTLS_SERVER) == 0);
	gnutls_session_set_ptr(session, (void *)(uintptr_t)credentials);
	if (find_key(session, name, &key) == 0) {
		MODEL_CHECK(key.size > 0);
		gnutls_free(key.data);
	}
	gnutls_deinit(session);
}

static void check(const struct tls_credentials *credentials)
{
	const char *at = credentials->keys;
	const char *const end = at + strlen(at);
	struct psk_line line;
	unsigned int asked = 0;

	while (next_line(&at, &line)) {
		MODEL_CHECK(*line.name && strlen(line.name) <= NAME_MOST);
		MODEL_CHECK(!strpbrk(line.name, ":\r\n") && *line.name != '#');
		MODEL_CHECK(line.hex_len > 0 && line.hex + line.hex_len <= end);
		MODEL_CHECK(!memchr(line.hex, '\n', line.hex_len) &&
			    !memchr(line.hex, '\r', line.hex_len));
		if (asked++ < 4)
			ask_for(credentials, line.name);
	}
	ask_for(credentials, "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_credentials *credentials = NULL;
	int err;

	if (!ctx)
		set_up();
	MODEL_CHECK(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
	err = tls_credentials_read(ctx, &credentials);
	MODEL_CHECK(!err == !!credentials);
	if (err < 0)
		MODEL_CHECK(err == -EINVAL && *impost_error(ctx));
	else
		check(credentials);
	tls_credentials_free(credentials);
	return 0;
}
