/* SPDX-License-Identifier: Apache-2.0 */
/* Post-copy: the VM goes first, and its memory comes after it, whatever becomes of connections. */
#include <errno.h>
#include <pthread.h>

#include "core.h"
#include "migrate.h"
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

/* Memory that cannot come later at the destination, which says so when it has seen the VM: all of
 * it goes before, as ever. */
Test(migrate_postcopy, not_into_a_file)
{
	char path[] = "/tmp/impost-postcopy-XXXXXX";
	const struct pair_setup setup = {
		.bytes = COURSE_BYTES,
		.source = {.features = COURSE_FEATURES,
			   .flags = IMPOST_MIGRATION_FINISH,
			   .timeout_ms = 1},
		.destination.features = COURSE_FEATURES,
	};
	struct pair pair;
	int fd = mkstemp(path);

	cr_assert(fd >= 0 && ftruncate(fd, COURSE_BYTES + PAIR_ROM_BYTES) == 0);
	pair_open(&pair, &setup);
	expect_ok(pair.destination_ctx,
		  impost_context_set(pair.destination_ctx, "memory", "backing", "file"));
	expect_ok(pair.destination_ctx,
		  impost_context_set(pair.destination_ctx, "memory", "path", path));
	pair.device.save_ns = 3000000;
	pair_migrate(&pair);
	cr_expect_eq(pair.sent, 0, "%s; %s", pair.sent_text, pair.received_text);
	cr_expect(!(course_status(pair.sending).features & IMPOST_MIGRATION_POSTCOPY));
	cr_expect(!(course_status(pair.receiving).features & IMPOST_MIGRATION_POSTCOPY));
	cr_expect_eq(pair_judge(&pair), PAIR_MOVED);
	pair_close(&pair);
	close(fd);
	unlink(path);
}

/* What comes after the VM is compressed as what comes before it: most of it, and what does not get
 * smaller goes as it is. */
Test(migrate_postcopy, compressed)
{
	SKIP_WITHOUT_UFFD();
	for (int flat = 0; flat < 2; flat++) {
		struct course *course = malloc(sizeof(*course));
		struct impost_migration_status status;

		course_open(course,
			    (struct pair_setup){.source.features = IMPOST_MIGRATION_ZSTD,
						.destination.features = IMPOST_MIGRATION_ZSTD});
		course->flat = flat;
		course_begin(course);
		course_start_touchers(course);
		cr_expect_eq(course_end(course), 0);
		course_expect_all(course);
		status = course_status(course->pair.sending);
		cr_expect(status.features & IMPOST_MIGRATION_ZSTD);
		cr_expect(!flat || status.wire_bytes < status.data_bytes / 2, "%llu of %llu",
			  (unsigned long long)status.wire_bytes,
			  (unsigned long long)status.data_bytes);
		course_close(course);
		free(course);
	}
}

/* Connections break at random places, and others take their place. */
Test(migrate_postcopy, connections_break, .timeout = 120)
{
	SKIP_WITHOUT_UFFD();
	for (uint32_t seed = 1; seed <= 12; seed++) {
		const uint32_t zstd = seed % 3 ? 0 : IMPOST_MIGRATION_ZSTD;
		struct course *course = malloc(sizeof(*course));

		course_open(course, (struct pair_setup){
					    .wire = course_wire,
					    .source = {.silence_ms = 2000, .features = zstd},
					    .destination = {.silence_ms = 2000, .features = zstd}});
		course->flat = zstd;
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

/* --- the end of it --- */

/* No connection can be made any more: both sides say that the VM is lost, and so does who waits for
 * its memory. */
Test(migrate_postcopy, lost)
{
	struct course *course = malloc(sizeof(*course));
	struct impost_exit exit;
	uint8_t byte;

	SKIP_WITHOUT_UFFD();
	course_open(course, (struct pair_setup){.wire = course_wire,
						.source.silence_ms = 300,
						.destination.silence_ms = 300});
	course->gated = true;
	course_begin(course);
	course_start_touchers(course);
	course_await_faults(course, TOUCHERS);
	course->dead = true;
	course_cut(&course->wires[0]);
	sem_post(&course->gate);
	expect_error(course->pair.destination_ctx, course_end(course), -EIO, "lost");
	cr_expect_eq(course->pair.sent, -EIO);
	cr_expect(strstr(course->pair.sent_text, "lost"), "%s", course->pair.sent_text);
	cr_expect_eq(course_status(course->pair.sending).state, IMPOST_MIGRATION_LOST);
	cr_expect_eq(course_status(course->pair.receiving).state, IMPOST_MIGRATION_LOST);
	for (uint32_t i = 0; i < TOUCHERS; i++)
		cr_expect_eq(course->touchers[i].failed, -EIO);
	cr_expect_eq(impost_memory_read(impost_vm_memory(course->pair.arrived),
					COURSE_BYTES - PAIR_PAGE, &byte, 1),
		     -EIO);
	/* Nor does it run on, with whatever a hypervisor makes of memory that is not there. */
	expect_error(course->pair.destination_ctx,
		     impost_vcpu_run(impost_vm_vcpu(course->pair.arrived, 0), &exit), -EIO, "lost");
	expect_error(course->pair.destination_ctx, impost_vm_hold(course->pair.arrived, 0), -EIO,
		     "lost");
	pair_expect_source_moved(&course->pair);
	course_close(course);
	free(course);
}

static int cancel_at_once(void *opaque, const struct impost_migration_status *status)
{
	(void)opaque;
	(void)status;
	return 1;
}

/* A VM whose memory does not come cannot be sent on, and who waits for that hears of it. */
Test(migrate_postcopy, sent_on_too_early)
{
	struct course *course = malloc(sizeof(*course));
	struct pair *pair = &course->pair;
	struct impost_migration *onward;
	struct impost_exit exit;
	int fds[2];

	SKIP_WITHOUT_UFFD();
	course_open(course, (struct pair_setup){.wire = pair_wire_unix});
	course->gated = true;
	course_begin(course);
	pair_sockets(pair, fds);
	for (int cancels = 0; cancels < 2; cancels++) {
		struct impost_migration_channel channel = pair_socket_channel(fds[0]);
		const struct impost_migration_config config = {
			.size = sizeof(config),
			.channel = &channel,
			.silence_ms = cancels ? PAIR_LONG_MS : 100,
			.progress = cancels ? cancel_at_once : NULL,
		};

		expect_ok(pair->destination_ctx,
			  impost_migration_create(pair->destination_ctx, &config, &onward));
		expect_error(pair->destination_ctx, impost_migration_send(onward, pair->arrived),
			     cancels ? -ECANCELED : -ETIMEDOUT,
			     cancels ? "cancelled" : "not here yet");
		impost_migration_destroy(onward);
	}
	sem_post(&course->gate);
	cr_expect_eq(course_end(course), 0);
	course_expect_all(course);
	expect_ok(pair->destination_ctx, impost_vcpu_run(impost_vm_vcpu(pair->arrived, 0), &exit));
	course_close(course);
	free(course);
}

/* The migration, or the VM and then the migration, is destroyed while memory is missing: nobody
 * waits for ever, and the source is told. */
static void destroyed(bool vm_first)
{
	struct course *course = malloc(sizeof(*course));
	struct pair *pair = &course->pair;

	course_open(course, (struct pair_setup){.wire = pair_wire_unix});
	course->gated = true;
	course_begin(course);
	if (vm_first) {
		pair_destroy_vm(pair->arrived);
		pair->arrived = NULL;
		expect_error(pair->destination_ctx, impost_migration_wait(pair->receiving), -EIO,
			     "lost");
	} else {
		course_start_touchers(course);
		course_await_faults(course, TOUCHERS);
	}
	impost_migration_destroy(pair->receiving);
	pair->receiving = NULL;
	for (uint32_t i = 0; !vm_first && i < TOUCHERS; i++) {
		pthread_join(course->touchers[i].thread, NULL);
		cr_expect_eq(course->touchers[i].failed, -EIO);
	}
	sem_post(&course->gate);
	pthread_join(course->sender, NULL);
	cr_expect_eq(pair->sent, -EIO);
	cr_expect_eq(course_status(pair->sending).state, IMPOST_MIGRATION_LOST);
	course_close(course);
	free(course);
}

Test(migrate_postcopy, migration_destroyed)
{
	SKIP_WITHOUT_UFFD();
	destroyed(false);
}

Test(migrate_postcopy, vm_destroyed)
{
	SKIP_WITHOUT_UFFD();
	destroyed(true);
}

/* --- a source that a test speaks for --- */

struct talk {
	struct course course;
	int fd;
};

static void say(struct talk *talk, uint16_t command, const void *payload, uint64_t length)
{
	const struct wire_head head = {.code = command, .length = length};

	(void)!send(talk->fd, &head, sizeof(head), MSG_NOSIGNAL);
	if (length)
		(void)!send(talk->fd, payload, length, MSG_NOSIGNAL);
}

/* Rows, and one byte for all of what they have. */
static void say_memory(struct talk *talk, uint64_t gpa, uint64_t pages, uint8_t byte)
{
	const struct wire_row row = {gpa, pages * PAIR_PAGE};
	uint8_t page[PAIR_PAGE];

	memset(page, byte, sizeof(page));
	say(talk, WIRE_MEMORY, &row, sizeof(row));
	for (uint64_t i = 0; i < pages; i++)
		(void)!send(talk->fd, page, sizeof(page), MSG_NOSIGNAL);
}

/* What is said next, and what is behind it, at most ROOM bytes. */
static struct wire_head hear(struct talk *talk, void *payload, size_t room)
{
	struct wire_head head = {0};

	cr_assert_eq(recv(talk->fd, &head, sizeof(head), MSG_WAITALL), (ssize_t)sizeof(head));
	cr_assert(head.length <= room, "%u with %llu bytes", head.code,
		  (unsigned long long)head.length);
	if (head.length)
		cr_assert_eq(recv(talk->fd, payload, head.length, MSG_WAITALL),
			     (ssize_t)head.length);
	return head;
}

static void expect_said(struct talk *talk, uint16_t code, const char *words)
{
	char text[4096] = "";

	cr_expect_eq(hear(talk, text, sizeof(text) - 1).code, code, "%s", text);
	cr_expect(strstr(text, words), "'%s' has no '%s'", text, words);
}

static const uint8_t token[WIRE_TOKEN] = "a token of tests";

/* Until the VM stands. */
static void talk_open(struct talk *talk)
{
	const struct wire_head hello = {.code = WIRE_START,
					.version = WIRE_VERSION,
					.features = COURSE_FEATURES | IMPOST_MIGRATION_ZSTD};
	struct migrate_config config = {.version = WIRE_VERSION, .connections = 1};
	struct pair *pair = &talk->course.pair;
	struct impost_migration_channel channel;
	struct impost_state *state;
	uint64_t len;
	void *data;
	int fds[2];

	course_open(&talk->course,
		    (struct pair_setup){.destination = {.silence_ms = 2000,
							.features = IMPOST_MIGRATION_ZSTD}});
	memcpy(config.token, token, sizeof(token));
	pair_sockets(pair, fds);
	talk->fd = fds[0];
	channel = pair_socket_channel(fds[1]);
	pair->receiving = pair_make(pair, pair->destination_ctx, &pair->setup.destination, &channel,
				    pair_accept);
	cr_assert(pthread_create(&pair->receiver, NULL, pair_receive, pair) == 0);
	(void)!send(talk->fd, &hello, sizeof(hello), MSG_NOSIGNAL);
	cr_assert(hear(talk, NULL, 0).features & IMPOST_MIGRATION_POSTCOPY);
	expect_ok(pair->source_ctx, impost_vm_hold(pair->vm, PAIR_LONG_MS));
	expect_ok(pair->source_ctx, impost_state_take(pair->vm, &state));
	expect_ok(pair->source_ctx,
		  migrate_encode_config(pair->source_ctx, &config, state, &data, &len));
	say(talk, WIRE_CONFIG, data, len);
	free(data);
	expect_said(talk, WIRE_OK, "");
	say_memory(talk, 0, 16, 1);
	expect_said(talk, WIRE_OK, "");
	expect_ok(pair->source_ctx, migrate_encode_state(pair->source_ctx, state, &data, &len));
	say(talk, WIRE_STATE, data, len);
	free(data);
	impost_state_free(state);
	expect_said(talk, WIRE_OK, "");
}

static void talk_close(struct talk *talk)
{
	expect_ok(talk->course.pair.source_ctx, impost_vm_release(talk->course.pair.vm));
	course_close(&talk->course);
	free(talk);
}

/* Postpones COUNT rows, and lets the VM go. */
static void let_go(struct talk *talk, const struct wire_row *rows, uint64_t count)
{
	say(talk, WIRE_POSTPONE, rows, count * sizeof(*rows));
	expect_said(talk, WIRE_OK, "");
	say(talk, WIRE_COMPLETE, NULL, 0);
	expect_said(talk, WIRE_OK, "");
	pair_end(&talk->course.pair);
	cr_assert_eq(talk->course.pair.received, 0, "%s", talk->course.pair.received_text);
}

static void expect_byte(struct talk *talk, uint64_t page, uint8_t want)
{
	struct pair *pair = &talk->course.pair;
	uint8_t byte = 0xff;

	expect_ok(pair->destination_ctx, impost_memory_read(impost_vm_memory(pair->arrived),
							    page * PAIR_PAGE + 7, &byte, 1));
	cr_expect_eq(byte, want, "page %llu", (unsigned long long)page);
}

static void expect_complete(struct talk *talk)
{
	struct pair *pair = &talk->course.pair;

	say(talk, WIRE_COMPLETE, NULL, 0);
	expect_said(talk, WIRE_OK, "");
	expect_ok(pair->destination_ctx, impost_migration_wait(pair->receiving));
	cr_expect_eq(course_status(pair->receiving).state, IMPOST_MIGRATION_DONE);
}

Test(migrate_postcopy, nothing_left)
{
	struct talk *talk = malloc(sizeof(*talk));

	SKIP_WITHOUT_UFFD();
	talk_open(talk);
	let_go(talk, NULL, 0);
	expect_complete(talk);
	expect_byte(talk, 3, 1);
	talk_close(talk);
}

static void *touch_page_two(void *opaque)
{
	expect_byte(opaque, 2, 5);
	return NULL;
}

/* What comes twice, what was not postponed, and what is asked for. */
Test(migrate_postcopy, rows_and_faults)
{
	static const struct wire_row postponed[] = {
		{0, 4 * PAIR_PAGE}, {10 * PAIR_PAGE, PAIR_PAGE}, {2 * PAIR_PAGE, PAIR_PAGE}};
	const struct wire_row zero = {(10 * PAIR_PAGE) | WIRE_ROW_ZERO, PAIR_PAGE};
	struct talk *talk = malloc(sizeof(*talk));
	struct wire_row asked[2];
	struct wire_head head;
	pthread_t thread;

	SKIP_WITHOUT_UFFD();
	talk_open(talk);
	let_go(talk, postponed, 3);
	cr_expect_eq(course_status(talk->course.pair.receiving).left_bytes, 5 * PAIR_PAGE);
	say_memory(talk, 0, 1, 2);
	say_memory(talk, 0, 2, 3);
	say_memory(talk, 7 * PAIR_PAGE, 1, 4);
	cr_assert(pthread_create(&thread, NULL, touch_page_two, talk) == 0);
	head = hear(talk, asked, sizeof(asked));
	cr_expect(head.code == WIRE_FAULT && head.length == sizeof(asked[0]));
	cr_expect(asked[0].gpa == 2 * PAIR_PAGE && asked[0].bytes == PAIR_PAGE);
	say_memory(talk, 2 * PAIR_PAGE, 1, 5);
	pthread_join(thread, NULL);
	cr_expect_eq(course_status(talk->course.pair.receiving).faults, 1);
	say_memory(talk, 3 * PAIR_PAGE, 1, 6);
	say(talk, WIRE_MEMORY, &zero, sizeof(zero));
	expect_complete(talk);
	for (uint64_t page = 0; page < 11; page++)
		expect_byte(talk, page, (uint8_t[]){2, 3, 5, 6, 1, 1, 1, 1, 1, 1, 0}[page]);
	talk_close(talk);
}

/* A connection in the place of another: with the wrong token, and with the right one. */
Test(migrate_postcopy, resume)
{
	static const struct wire_row postponed[] = {{0, 4 * PAIR_PAGE}, {8 * PAIR_PAGE, PAIR_PAGE}};
	struct talk *talk = malloc(sizeof(*talk));
	struct pair *pair = &talk->course.pair;
	struct impost_migration_channel channel;
	struct wire_row lacks[4];
	struct wire_head head;
	pthread_t thread;

	SKIP_WITHOUT_UFFD();
	talk_open(talk);
	let_go(talk, postponed, 2);
	say_memory(talk, PAIR_PAGE, 1, 7);
	cr_assert(pthread_create(&thread, NULL, touch_page_two, talk) == 0);
	cr_expect_eq(hear(talk, lacks, sizeof(lacks)).code, WIRE_FAULT);
	for (int i = 0; i < 2; i++) {
		shutdown(talk->fd, SHUT_RDWR);
		cr_assert_eq(pair_connect(pair, 0, &channel), 0);
		talk->fd = channel.fd;
		say(talk, WIRE_RESUME, i ? token : (const uint8_t *)"some other token", WIRE_TOKEN);
		if (i == 0)
			expect_said(talk, WIRE_ERROR, "token");
	}
	head = hear(talk, lacks, sizeof(lacks));
	cr_assert(head.code == WIRE_OK && head.length == 3 * sizeof(lacks[0]));
	cr_expect(lacks[0].gpa == 0 && lacks[0].bytes == PAIR_PAGE);
	cr_expect(lacks[1].gpa == 2 * PAIR_PAGE && lacks[1].bytes == 2 * PAIR_PAGE);
	cr_expect(lacks[2].gpa == 8 * PAIR_PAGE && lacks[2].bytes == PAIR_PAGE);
	cr_expect_eq(hear(talk, lacks, sizeof(lacks)).code, WIRE_FAULT); /* once more */
	cr_expect(lacks[0].gpa == 2 * PAIR_PAGE && lacks[0].bytes == PAIR_PAGE);
	say_memory(talk, 0, 4, 5);
	pthread_join(thread, NULL);
	say_memory(talk, 8 * PAIR_PAGE, 1, 9);
	expect_complete(talk);
	expect_byte(talk, 0, 5);
	expect_byte(talk, 1, 7);
	expect_byte(talk, 8, 9);
	talk_close(talk);
}

/* What makes no sense before the VM has gone leaves nothing of it here. */
Test(migrate_postcopy, wrong_postpones)
{
	static const struct {
		struct wire_row row;
		uint16_t again; /* is said after it, if it is right */
		const char *words;
	} cases[] = {
		{{PAIR_PAGE | WIRE_ROW_ZERO, PAIR_PAGE}, 0, "flags"},
		{{PAIR_PAGE, 100}, 0, "whole pages"},
		{{COURSE_BYTES - PAIR_PAGE, 2 * PAIR_PAGE}, 0, "beyond"},
		{{COURSE_BYTES + PAIR_PAGE, PAIR_PAGE}, 0, "no memory"},
		{{PAIR_PAGE, PAIR_PAGE}, WIRE_POSTPONE, "Postpone out of its order"},
		{{PAIR_PAGE, PAIR_PAGE}, WIRE_MEMORY, "Memory out of its order"},
	};

	SKIP_WITHOUT_UFFD();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct talk *talk = malloc(sizeof(*talk));

		talk_open(talk);
		say(talk, WIRE_POSTPONE, &cases[i].row, sizeof(cases[i].row));
		if (cases[i].again) {
			expect_said(talk, WIRE_OK, "");
			say(talk, cases[i].again, &cases[i].row, sizeof(cases[i].row));
		}
		expect_said(talk, WIRE_ERROR, cases[i].words);
		pair_end(&talk->course.pair);
		cr_expect_eq(talk->course.pair.received, -EPROTO);
		cr_expect_eq(impost_migration_wait(talk->course.pair.receiving), -EINVAL);
		talk_close(talk);
	}
}

/* What is no frame is refused after it, too: the VM is lost. */
Test(migrate_postcopy, wrong_frame)
{
	static const struct wire_row row = {PAIR_PAGE, PAIR_PAGE},
				     squeezed = {PAIR_PAGE | WIRE_ROW_ZSTD, PAIR_PAGE};
	static const uint64_t frame[] = {8, 0};
	struct talk *talk = malloc(sizeof(*talk));

	SKIP_WITHOUT_UFFD();
	talk_open(talk);
	let_go(talk, &row, 1);
	say(talk, WIRE_MEMORY, &squeezed, sizeof(squeezed));
	(void)!send(talk->fd, frame, sizeof(frame), MSG_NOSIGNAL);
	expect_said(talk, WIRE_ERROR, "its frame is of another length, or is none");
	cr_expect_eq(impost_migration_wait(talk->course.pair.receiving), -EIO);
	talk_close(talk);
}

/* And after: the VM is lost. */
Test(migrate_postcopy, complete_before_all_is_there)
{
	static const struct wire_row row = {PAIR_PAGE, PAIR_PAGE};
	struct talk *talk = malloc(sizeof(*talk));

	SKIP_WITHOUT_UFFD();
	talk_open(talk);
	let_go(talk, &row, 1);
	say(talk, WIRE_COMPLETE, NULL, 0);
	expect_said(talk, WIRE_ERROR, "has not sent 4096 bytes");
	cr_expect_eq(impost_migration_wait(talk->course.pair.receiving), -EIO);
	cr_expect_eq(course_status(talk->course.pair.receiving).state, IMPOST_MIGRATION_LOST);
	talk_close(talk);
}
