/* SPDX-License-Identifier: Apache-2.0 */
/* Post-copy: the VM goes first, and its memory comes after it, whatever becomes of connections. */
#include <errno.h>
#include <pthread.h>

#include "core.h"
#include "migrate_course.h"

#define SKIP_WITHOUT_UFFD()                                                                      \
	do {                                                                                     \
		if (!course_has_uffd()) {                                                        \
			fprintf(stderr, "# skipped: this process may not have a userfaultfd\n"); \
			cr_skip_test("this process may not have a userfaultfd");                 \
		}                                                                                \
	} while (0)

/* Many threads wait for pages when the first of what is left is sent, and all memory is right. */
static void touched(pair_wire_fn wire, const char *backing)
{
	struct course *course = malloc(sizeof(*course));
	struct impost_migration_status status;

	course_open(course, (struct pair_setup){.wire = wire, .cpus = 2});
	expect_ok(course->pair.destination_ctx,
		  impost_context_set(course->pair.destination_ctx, "memory", "backing", backing));
	course->gated = true;
	course_begin(course);
	cr_expect(course_status(course->pair.receiving).state == IMPOST_MIGRATION_POSTCOPYING);
	course_start_touchers(course);
	course_await_faults(course, TOUCHERS);
	sem_post(&course->gate);
	cr_expect_eq(course_end(course), 0);
	course_expect_all(course);
	status = course_status(course->pair.receiving);
	cr_expect(status.faults >= TOUCHERS);
	cr_expect(status.features & IMPOST_MIGRATION_POSTCOPY);
	status = course_status(course->pair.sending);
	cr_expect(status.faults >= TOUCHERS, "%llu", (unsigned long long)status.faults);
	cr_expect(status.pass == 1);
	course_close(course);
	free(course);
}

Test(migrate_postcopy, over_a_unix_socket)
{
	SKIP_WITHOUT_UFFD();
	touched(pair_wire_unix, "anonymous");
}

Test(migrate_postcopy, into_a_memfd)
{
	SKIP_WITHOUT_UFFD();
	touched(pair_wire_unix, "memfd");
}

Test(migrate_postcopy, over_tcp)
{
	SKIP_WITHOUT_UFFD();
	touched(pair_wire_tcp, "anonymous");
}

Test(migrate_postcopy, over_functions)
{
	SKIP_WITHOUT_UFFD();
	touched(course_wire, "anonymous");
}

/* Connections break at random places, and others take their place. */
Test(migrate_postcopy, connections_break, .timeout = 120)
{
	SKIP_WITHOUT_UFFD();
	for (uint32_t seed = 1; seed <= 12; seed++) {
		struct course *course = malloc(sizeof(*course));

		course_open(course, (struct pair_setup){.wire = course_wire,
							.source.silence_ms = 2000,
							.destination.silence_ms = 2000});
		course->state = seed;
		course->cuts = 1 + seed % 6;
		course_begin(course);
		course_start_touchers(course);
		cr_expect_eq(course_end(course), 0, "%s",
			     impost_error(course->pair.destination_ctx));
		cr_expect_eq(course->pair.sent, 0, "%s", course->pair.sent_text);
		course_expect_all(course);
		cr_expect(course->nwires > 1 || atomic_load(&course->cuts) > 0);
		course_close(course);
		free(course);
	}
}
