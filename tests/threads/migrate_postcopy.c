/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a post-copy against each other: who sends, who receives, who is told of touches, who
 * touches; with connections that break. */
#include <stdio.h>
#include <stdlib.h>

#define expect_ok(context, call)                                                     \
	do {                                                                         \
		if ((call) != 0) {                                                   \
			fprintf(stderr, "# %s: %s\n", #call, impost_error(context)); \
			_Exit(1);                                                    \
		}                                                                    \
	} while (0)
#define expect_true(condition)                                                            \
	do {                                                                              \
		if (!(condition)) {                                                       \
			fprintf(stderr, "# %s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_Exit(1);                                                         \
		}                                                                         \
	} while (0)
static const char *plugin_dir;
#define PLUGIN_DIR plugin_dir
#include "../unit/migrate_course.h"

static struct course course;

/* A whole one, with CUTS connections cut while threads touch its memory. */
static void move(pair_wire_fn wire, uint32_t cuts)
{
	course_open(&course, (struct pair_setup){.wire = wire, .cpus = 2});
	course.cuts = cuts;
	course_begin(&course);
	course_start_touchers(&course);
	expect_true(course_end(&course) == 0);
	course_expect_all(&course);
	course_close(&course);
}

static void whole(void)
{
	move(pair_wire_unix, 0);
}

static void broken(void)
{
	move(course_wire, 3);
}

/* The migration is destroyed while memory is touched. */
static void destroyed(void)
{
	course_open(&course, (struct pair_setup){.wire = pair_wire_unix});
	course.gated = true;
	course_begin(&course);
	course_start_touchers(&course);
	course_await_faults(&course, TOUCHERS);
	impost_migration_destroy(course.pair.receiving);
	course.pair.receiving = NULL;
	sem_post(&course.gate);
	for (uint32_t i = 0; i < TOUCHERS; i++)
		pthread_join(course.touchers[i].thread, NULL);
	pthread_join(course.sender, NULL);
	expect_true(course.pair.sent == -EIO);
	course_close(&course);
}

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
	{"memory follows while threads use it", whole},
	{"connections break meanwhile", broken},
	{"it is given up meanwhile", destroyed},
};

int main(int argc, char **argv)
{
	const size_t count = sizeof(tests) / sizeof(tests[0]);

	if (argc != 2) {
		fprintf(stderr, "usage: migrate_postcopy PLUGIN-DIR\n");
		return 1;
	}
	plugin_dir = argv[1];
	if (!course_has_uffd()) {
		printf("1..0 # SKIP this process may not have a userfaultfd\n");
		return 0;
	}
	printf("1..%zu\n", count);
	for (size_t i = 0; i < count; i++) {
		tests[i].fn(); /* ends the program where it fails */
		printf("ok %zu - %s\n", i + 1, tests[i].name);
		fflush(stdout);
	}
	return 0;
}
