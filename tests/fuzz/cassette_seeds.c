/* SPDX-License-Identifier: Apache-2.0 */
/* Writes cassettes for the fuzz target to start from. Usage: cassette_seeds FOLDER */
#include <stdio.h>
#include <sys/stat.h>

#include "cassette_session.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	mkdir(argv[1], 0777);
	for (unsigned i = 0; i < 8; i++) {
		char path[4096];
		struct tape t;

		snprintf(path, sizeof(path), "%s/cassette-%u", argv[1], i);
		tape_open(&t, path);
		if (t.err)
			return 1;
		session_write(&t, i & 1, i & 2, i & 4);
		tape_close(&t);
		if (t.err)
			return 1;
	}
	return 0;
}
