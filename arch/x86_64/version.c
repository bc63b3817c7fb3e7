/* SPDX-License-Identifier: Apache-2.0 */
#include <impost/backend.h>
