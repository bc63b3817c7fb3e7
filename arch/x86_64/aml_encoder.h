/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the AML encoder share: its buffer, and the terms that are open. */
#ifndef ARCH_X86_64_AML_ENCODER_H
#define ARCH_X86_64_AML_ENCODER_H

#include <impost/x86_64/aml.h>

/* What may stand inside an open term. */
enum aml_inside { AML_TERMS, AML_PACKAGE, AML_FIELD, AML_RESOURCES };

struct aml_level {
	size_t start; /* where the PkgLength will be */
	enum aml_inside inside;
	uint32_t items;
};

struct impost_aml {
	struct impost_context *ctx;
	uint8_t *data;
	size_t bytes, capacity;
	int grows;
	int error; /* the first one, negative, with its text */
	char text[256];
	uint32_t depth;
	struct aml_level level[IMPOST_AML_DEPTH_MAX + 1]; /* [0]: what is in none */
};

/* Makes ERR with its text the encoder's error, unless there is one already. */
void aml_fail(struct impost_aml *aml, int err, const char *fmt, ...) IMPOST_PRINTF(3, 4);

/* Appends; nothing once there was an error. */
void aml_put(struct impost_aml *aml, const void *data, size_t bytes);
void aml_put_byte(struct impost_aml *aml, uint32_t byte);

/* Appends the lowest BYTES bytes of VALUE, little-endian. */
void aml_put_number(struct impost_aml *aml, uint64_t value, uint32_t bytes);

/* Begins an item that may stand in terms, or in INSIDE; WHAT is for the error text. 0: do not write
 * it, there is or was an error. */
int aml_begin(struct impost_aml *aml, enum aml_inside inside, const char *what);

/* Opens a level for what follows. */
void aml_open(struct impost_aml *aml, enum aml_inside inside);

#endif
