/* SPDX-License-Identifier: Apache-2.0 */
/* What the descriptor of the layer `record` points to. */
#ifndef LAYER_RECORD_H
#define LAYER_RECORD_H

#include <impost/backend.h>

#define RECORD_NOPTIONS 2

extern const struct impost_backend_ops record_ops;
extern const struct impost_option_desc record_options[RECORD_NOPTIONS];

#endif
