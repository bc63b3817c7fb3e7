/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that other processes can use. */
#ifndef TOOLS_PATH_H
#define TOOLS_PATH_H

/* PATH from the root on; links in it stay. NULL: errno says why. To be freed. */
char *path_absolute(const char *path);

#endif
