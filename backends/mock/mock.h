/* SPDX-License-Identifier: Apache-2.0 */
/* What the mock's plugin descriptor needs: its operations and its options. */
#ifndef MOCK_MOCK_H
#define MOCK_MOCK_H

#include <impost/backend.h>

extern const struct impost_backend_ops impost_mock_ops;
extern const struct impost_option_desc impost_mock_options[];
extern const uint32_t impost_mock_noptions;

#endif
