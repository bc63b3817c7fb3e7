/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and keys that tests of `tls:` addresses need, made when they are. */
#ifndef TESTS_UNIT_TOOL_CERTIFICATES_H
#define TESTS_UNIT_TOOL_CERTIFICATES_H

#include <stddef.h>

/* Where a file goes, by name. The text is the callee's. */
typedef const char *(*certificates_path_fn)(const char *name);

/*
 * Writes, in PEM, a NAME.pem and a NAME.key, which only its owner can read, for each of
 *  ca     an authority; right, named and old are its
 *  right  for localhost and 127.0.0.1
 *  named  for elsewhere.example
 *  old    as right, but its time is over
 *  foreign-ca, foreign   another authority, and one of it that is for localhost
 */
void certificates_make(certificates_path_fn path);

#endif
