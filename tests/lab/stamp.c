/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies lines from stdin to stdout, each behind the time at which its end was read: seconds since
 * 1970 and microseconds. In the lab a shell takes too long for that. What has no end is followed by
 * @cut.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

int main(void)
{
	char line[4096];

	/* The guest and its VMM wait for this, where all have one CPU. */
	setpriority(PRIO_PROCESS, 0, -20);
	setvbuf(stdin, NULL, _IONBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		printf("%lld %ld %s", (long long)now.tv_sec, now.tv_nsec / 1000, line);
		if (!strchr(line, '\n'))
			puts(" @cut");
		fflush(stdout);
	}
	return 0;
}
