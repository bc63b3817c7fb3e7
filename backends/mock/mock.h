/* SPDX-License-Identifier: Apache-2.0 */
/* What the mock's plugin descriptor needs: its operations and its options. */
#ifndef MOCK_MOCK_H
#define MOCK_MOCK_H

#include <impost/backend.h>

extern const struct impost_backend_ops impost_mock_ops;

/* The keys of `[backend.mock]`. A number for the descriptor, which is made at compile time. */
#define IMPOST_MOCK_NOPTIONS 9u
extern const struct impost_option_desc impost_mock_options[IMPOST_MOCK_NOPTIONS];

#endif
