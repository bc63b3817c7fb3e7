/* SPDX-License-Identifier: Apache-2.0 */
/* Reading scripts; docs/mock.md has the language. */
#ifndef MOCK_SCRIPT_H
#define MOCK_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

#include "steps.h"

/* The steps of one `[vcpu N]`. */
struct mock_part {
	uint32_t id;
	struct mock_steps steps;
};

struct mock_script {
	struct mock_part *part;
	uint32_t count;
};

/*
 * Reads LEN bytes at TEXT, called NAME in error texts, which go to ERROR (cut at ERROR_SIZE).
 * -EINVAL: a bad line; -ENOMEM. On failure nothing is kept.
 */
int mock_script_parse(const char *name, const char *text, size_t len,
		      struct mock_script **ret_script, char *error, size_t error_size);

/* Reads a file of at most 4 MiB. As above, or what open and read say. */
int mock_script_load(const char *path, struct mock_script **ret_script, char *error,
		     size_t error_size);

/* NULL is fine. */
void mock_script_free(struct mock_script *script);

#endif
