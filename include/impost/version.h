/* SPDX-License-Identifier: Apache-2.0 */
/* Version numbers: of the library, and of the ABI between the core and its plugins. */
#ifndef IMPOST_VERSION_H
#define IMPOST_VERSION_H

#include <stdint.h>

#define IMPOST_VERSION_MAJOR 0
#define IMPOST_VERSION_MINOR 1
#define IMPOST_VERSION_PATCH 0

/*
 * The plugin ABI (backend.h). A plugin of another major is refused. Minors only add: structs grow
 * at the end, so an older plugin lacks operations that are then NULL, and a newer one has
 * operations that are not called.
 */
#define IMPOST_PLUGIN_ABI_MAJOR 1
#define IMPOST_PLUGIN_ABI_MINOR 0

/* Marks a function as part of the public API; everything else in the library is hidden. */
#define IMPOST_API __attribute__((visibility("default")))

/*
 * Asks the compiler to check a printf-like function: FMT and FIRST are argument positions from 1.
 */
#define IMPOST_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the loaded library as "MAJOR.MINOR.PATCH"; static storage. Any thread. */
IMPOST_API const char *impost_version(void);

#ifdef __cplusplus
}
#endif

#endif
