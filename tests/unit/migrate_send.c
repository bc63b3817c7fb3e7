/* SPDX-License-Identifier: Apache-2.0 */
/*
 * impost_migration_send(), against a peer that is no engine: it reads what is said as
 * docs/migration-format.md has it, keeps the memory that comes, and answers each request as the
 * test wants, rightly or wrongly.
 */
#include <stddef.h>
#include <zstd.h>

#include "migrate_pair.h"

/* A peer that is silent is so for longer than a loaded machine takes for the rest. */
#define SILENT_MS 2000u

enum command {
	START = 1,
	CONFIG,
	STATE,
	MEMORY,
	COMPLETE,
	ABANDON,
	JOIN = 0x4901,
};

/* What the peer does about a request. */
enum reply {
	OK,
	REFUSE,	    /* Error, with text if that was agreed on */
	REFUSE_END, /* the same, and the connection ends */
	INVALID,    /* status 0 */
	LONG,	    /* Ok, with a length */
	WAIT,	    /* no answer, until the source goes away */
	END,	    /* the connection ends */
	CUT_ANSWER, /* after half of the answer */
	CUT_TEXT,   /* after half of an Error's text */
	BABBLE,	    /* Ok without end; and nothing is read any more */
	STOP,	    /* Error, at once; then nothing is said, and nothing read, any more */
};

struct head {
	uint16_t code, version;
	uint32_t features;
	uint64_t length;
};

struct row {
	uint64_t gpa, bytes;
};

/* One connection of the peer's. */
struct line {
	struct peer *peer;
	int fd;
	pthread_t thread;
};

struct peer {
	/* The request that is not answered with OK: the NTH of COMMAND, from 1. */
	uint16_t command;
	uint32_t nth;
	enum reply reply;
	const char *text;
	bool plain;	   /* knows the framing only */
	uint32_t features; /* that it agrees to, of what is offered; 0: all */
	uint32_t extra;	   /* and that were not */
	uint16_t version;  /* 0: the right one */
	/* Called for each request, by the thread that reads it. */
	void (*heard)(struct peer *peer, uint16_t command);

	struct pair pair;
	struct line lines[8];
	uint32_t nlines;
	pthread_mutex_t lock; /* what follows */
	uint32_t count[8], joins;
	uint32_t agreed;
	uint64_t zero_bytes, data_bytes;
	uint8_t *ram;			   /* what came, of RAM */
	bool came[PAIR_BYTES / PAIR_PAGE]; /* of the first pages */
	uint64_t begun_with;		   /* bytes that had come when State did */
};

static bool take(int fd, void *buf, size_t bytes)
{
	return bytes == 0 || recv(fd, buf, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static void give(int fd, const void *buf, size_t bytes)
{
	(void)!send(fd, buf, bytes, MSG_NOSIGNAL);
}

/* --- memory --- */

static void note_row(struct peer *peer, const struct row *row)
{
	uint64_t gpa = row->gpa & ~UINT64_C(0xfff), ram = peer->pair.setup.bytes;
	uint64_t flags = row->gpa & 0xfff;

	cr_assert(row->bytes > 0 && row->bytes % PAIR_PAGE == 0);
	cr_assert(gpa + row->bytes <= ram ||
		  (gpa >= PAIR_ROM && gpa + row->bytes <= PAIR_ROM + PAIR_ROM_BYTES));
	cr_assert(flags == 0 || (flags == 1 && peer->agreed & IMPOST_MIGRATION_ZERO_PAGES) ||
		  (flags == 2 && peer->agreed & IMPOST_MIGRATION_ZSTD &&
		   row->bytes <= UINT64_C(1) << 20));
	*(flags == 1 ? &peer->zero_bytes : &peer->data_bytes) += row->bytes;
	for (uint64_t at = gpa; at < gpa + row->bytes && at < PAIR_BYTES; at += PAIR_PAGE)
		peer->came[at / PAIR_PAGE] = true;
}

static bool take_frame(int fd, uint8_t *contents, uint64_t bytes)
{
	uint8_t *frame;
	uint64_t length;
	bool good;

	if (!take(fd, &length, sizeof(length)))
		return false;
	cr_assert(length + sizeof(length) < bytes, "a row that does not get smaller");
	frame = malloc(length);
	good = take(fd, frame, length);
	cr_assert(!good || ZSTD_decompress(contents, bytes, frame, length) == bytes);
	free(frame);
	return good;
}

static bool take_row(struct line *line, const struct row *row)
{
	struct peer *peer = line->peer;
	uint64_t gpa = row->gpa & ~UINT64_C(0xfff);
	uint8_t *contents = calloc(1, row->bytes);
	bool good = true;

	if (row->gpa & 2)
		good = take_frame(line->fd, contents, row->bytes);
	else if (!(row->gpa & 1))
		good = take(line->fd, contents, row->bytes);
	if (good && gpa < peer->pair.setup.bytes) {
		pthread_mutex_lock(&peer->lock);
		memcpy(peer->ram + gpa, contents, row->bytes);
		pthread_mutex_unlock(&peer->lock);
	}
	free(contents);
	return good;
}

static bool take_memory(struct line *line, uint64_t length)
{
	struct row *rows = malloc(length);
	bool good = take(line->fd, rows, length);

	cr_assert(length % sizeof(*rows) == 0 && length / sizeof(*rows) <= 65536);
	pthread_mutex_lock(&line->peer->lock);
	for (uint64_t i = 0; good && i < length / sizeof(*rows); i++)
		note_row(line->peer, &rows[i]);
	pthread_mutex_unlock(&line->peer->lock);
	for (uint64_t i = 0; good && i < length / sizeof(*rows); i++)
		good = take_row(line, &rows[i]);
	free(rows);
	return good;
}

/* --- answering --- */

static bool take_payload(struct line *line, const struct head *head)
{
	void *payload;
	bool good;

	if (head->code == MEMORY)
		return take_memory(line, head->length);
	payload = malloc(head->length + 1);
	good = take(line->fd, payload, head->length);
	free(payload);
	return good;
}

static void answer_ok(const struct line *line, const struct head *request)
{
	struct peer *peer = line->peer;
	struct head head = {.code = 1};

	if (request->code == START && !peer->plain) {
		head.version = peer->version ? peer->version : 1;
		head.features = request->features;
		if (peer->features)
			head.features &= peer->features;
		head.features |= peer->extra;
		peer->agreed = head.features;
	}
	give(line->fd, &head, sizeof(head));
}

static void refuse(const struct line *line, bool whole)
{
	const struct peer *peer = line->peer;
	const char *text = peer->agreed & IMPOST_MIGRATION_TEXTS && peer->text ? peer->text : "";
	const struct head head = {.code = 2, .length = strlen(text)};

	give(line->fd, &head, sizeof(head));
	give(line->fd, text, whole ? strlen(text) : strlen(text) / 2);
}

/* False: no more is read. */
static bool answer(const struct line *line, const struct head *request, enum reply reply)
{
	const struct head wrong[] = {[INVALID] = {.code = 0}, [LONG] = {.code = 1, .length = 1}};

	switch (reply) {
	case OK:
		answer_ok(line, request);
		return true;
	case REFUSE:
		refuse(line, true);
		return true;
	case REFUSE_END:
	case CUT_TEXT:
		refuse(line, reply == REFUSE_END);
		break;
	case INVALID:
	case LONG:
		give(line->fd, &wrong[reply], sizeof(wrong[reply]));
		return true;
	case BABBLE:
		shutdown(line->fd, SHUT_RD);
		while (send(line->fd, &(struct head){.code = 1}, sizeof(*request), MSG_NOSIGNAL) >
		       0)
			;
		return false;
	case WAIT:
	case STOP:
		return false;
	case CUT_ANSWER:
		give(line->fd, &(struct head){.code = 1}, 8);
		break;
	case END:
		break;
	}
	shutdown(line->fd, SHUT_RDWR);
	return false;
}

static enum reply note(struct peer *peer, const struct head *head)
{
	enum reply reply = OK;
	uint32_t count;

	pthread_mutex_lock(&peer->lock);
	count = head->code < 8 ? ++peer->count[head->code] : ++peer->joins;
	if (head->code == peer->command && count == peer->nth)
		reply = peer->reply;
	pthread_mutex_unlock(&peer->lock);
	return reply;
}

static void *read_line(void *arg)
{
	struct line *line = arg;
	struct peer *peer = line->peer;
	struct head head;

	while (take(line->fd, &head, sizeof(head))) {
		enum reply reply = note(peer, &head);

		if (peer->heard)
			peer->heard(peer, head.code);
		if (reply == STOP) {
			refuse(line, true);
			shutdown(line->fd, SHUT_WR);
			break;
		}
		if (!take_payload(line, &head))
			break;
		if (head.code != ABANDON && !answer(line, &head, reply))
			break;
	}
	return NULL;
}

/* --- a test --- */

static int connect_line(void *opaque, uint32_t timeout_ms,
			struct impost_migration_channel *ret_channel)
{
	struct peer *peer = (struct peer *)((char *)opaque - offsetof(struct peer, pair));
	struct line *line = &peer->lines[peer->nlines++];
	int fds[2];

	(void)timeout_ms;
	pair_sockets(&peer->pair, fds);
	*line = (struct line){.peer = peer, .fd = fds[1]};
	*ret_channel = pair_socket_channel(fds[0]);
	cr_assert_eq(pthread_create(&line->thread, NULL, read_line, line), 0);
	return 0;
}

/* Makes the source, and a migration that is connected to the peer. */
static void open_peer(struct peer *peer, const struct pair_setup *setup)
{
	struct impost_migration_channel channel;
	struct pair_setup filled = *setup;

	if (!filled.source.silence_ms)
		filled.source.silence_ms = peer->reply == WAIT ? SILENT_MS : PAIR_LONG_MS;
	pair_open(&peer->pair, &filled);
	pthread_mutex_init(&peer->lock, NULL);
	peer->ram = calloc(1, peer->pair.setup.bytes);
	connect_line(&peer->pair, 0, &channel);
	peer->pair.sending = pair_make(&peer->pair, peer->pair.source_ctx, &peer->pair.setup.source,
				       &channel, connect_line);
}

/* The migration is over; the peer hears of that. */
static void close_peer(struct peer *peer)
{
	impost_migration_destroy(peer->pair.sending);
	peer->pair.sending = NULL;
	for (uint32_t i = 0; i < peer->pair.nfds; i += 2)
		shutdown(peer->pair.fds[i], SHUT_RDWR);
	for (uint32_t i = 0; i < peer->nlines; i++)
		pthread_join(peer->lines[i].thread, NULL);
	pthread_mutex_destroy(&peer->lock);
	pair_close(&peer->pair);
	free(peer->ram);
}

static struct impost_migration_status status_of(const struct peer *peer)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	cr_assert_eq(impost_migration_status(peer->pair.sending, &status), 0);
	return status;
}

/* What has come is what the source has. */
static void expect_same_ram(const struct peer *peer)
{
	uint8_t page[PAIR_PAGE];

	for (uint64_t at = 0; at < peer->pair.setup.bytes; at += PAIR_PAGE) {
		expect_ok(peer->pair.source_ctx,
			  impost_memory_read(impost_vm_memory(peer->pair.vm), at, page, PAIR_PAGE));
		cr_assert(memcmp(page, peer->ram + at, PAIR_PAGE) == 0, "page at %#llx",
			  (unsigned long long)at);
	}
}

/* --- going --- */

Test(migrate_send, a_vm_goes)
{
	struct peer peer = {0};
	struct impost_migration_status status;

	open_peer(&peer, &(struct pair_setup){.cpus = 2});
	pair_start_guests(&peer.pair);
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	status = status_of(&peer);
	cr_assert_eq(status.state, IMPOST_MIGRATION_DONE);
	cr_assert_eq(status.guest_bytes, PAIR_BYTES + PAIR_ROM_BYTES);
	cr_assert_eq(status.left_bytes, 0);
	cr_assert_eq(status.data_bytes, peer.data_bytes);
	cr_assert_eq(status.zero_bytes, peer.zero_bytes);
	cr_assert(peer.data_bytes > 0 && peer.zero_bytes > 0);
	cr_assert(status.downtime_ns > 0 && status.downtime_ns <= status.elapsed_ns);
	cr_assert_null(impost_migration_refusal(peer.pair.sending));
	pair_expect_source_moved(&peer.pair);
	expect_same_ram(&peer);
	cr_assert_eq(peer.count[ABANDON], 0);
	close_peer(&peer);
}

/* A UNIX socket's sender may be further ahead than by default, as far as the host allows; what it
 * was is asked of a socket that nobody has touched. */
Test(migrate_send, a_unix_socket_has_room)
{
	int fresh[2], before = 0, after = 0, wanted = 1 << 20;
	socklen_t len = sizeof(int);
	struct peer peer = {0};

	expect_true(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fresh) == 0);
	setsockopt(fresh[0], SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted));
	expect_true(getsockopt(fresh[0], SOL_SOCKET, SO_SNDBUF, &wanted, &len) == 0);
	expect_true(getsockopt(fresh[1], SOL_SOCKET, SO_SNDBUF, &before, &len) == 0);
	close(fresh[0]);
	close(fresh[1]);
	open_peer(&peer, &(struct pair_setup){0});
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	expect_true(getsockopt(peer.pair.fds[0], SOL_SOCKET, SO_SNDBUF, &after, &len) == 0);
	cr_assert_eq(after, wanted > before ? wanted : before);
	close_peer(&peer);
}

/* It can be looked at and destroyed, and nothing else. */
Test(migrate_send, what_moved_is_gone_for_good)
{
	struct peer peer = {0};
	struct impost_context *ctx;
	struct impost_migration *again;
	struct impost_state *state;

	open_peer(&peer, &(struct pair_setup){0});
	ctx = peer.pair.source_ctx;
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	pair_expect_source_moved(&peer.pair);
	expect_error(ctx, impost_vm_hold(peer.pair.vm, 0), -IMPOST_EMOVED, "elsewhere");
	expect_error(ctx, impost_vm_release(peer.pair.vm), -IMPOST_EMOVED, "elsewhere");
	expect_error(ctx, impost_migration_send(peer.pair.sending, peer.pair.vm), -IMPOST_EMOVED,
		     "elsewhere");
	expect_ok(ctx, impost_state_take(peer.pair.vm, &state));
	impost_state_free(state);
	again = pair_make(
		&peer.pair, ctx, &peer.pair.setup.source,
		&(struct impost_migration_channel){.size = sizeof(struct impost_migration_channel),
						   .fd = peer.pair.fds[0]},
		connect_line);
	expect_error(ctx, impost_migration_send(again, peer.pair.vm), -IMPOST_EMOVED, "elsewhere");
	impost_migration_destroy(again);
	cr_assert_eq(peer.count[START], 1);
	close_peer(&peer);
}

Test(migrate_send, what_was_never_touched_is_not_sent)
{
	struct peer peer = {0};

	open_peer(&peer, &(struct pair_setup){0});
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	for (size_t i = 0; i < PAIR_BYTES / PAIR_PAGE; i++)
		cr_assert_eq(peer.came[i], i < PAIR_BYTES / PAIR_PAGE / 4 * 3, "page %zu", i);
	close_peer(&peer);
}

/* Who knows the framing only gets no header, no rows of zeros, and no second connection. */
Test(migrate_send, a_plain_peer_gets_plain_memory)
{
	struct peer peer = {.plain = true, .text = "not heard"};

	open_peer(&peer, &(struct pair_setup){.source = {.connections = 3}});
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	cr_assert_eq(status_of(&peer).features, 0);
	cr_assert_eq(peer.joins, 0);
	cr_assert_eq(peer.zero_bytes, 0);
	expect_same_ram(&peer);
	close_peer(&peer);
}

Test(migrate_send, memory_goes_over_all_connections)
{
	struct peer peer = {0};

	open_peer(&peer,
		  &(struct pair_setup){.bytes = 24 << 20, .cpus = 2, .source = {.connections = 3}});
	pair_start_guests(&peer.pair);
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	cr_assert_eq(peer.joins, 2);
	cr_assert_eq(status_of(&peer).connections, 3);
	pair_stop_guests(&peer.pair);
	expect_same_ram(&peer);
	close_peer(&peer);
}

Test(migrate_send, memory_goes_compressed)
{
	struct peer peer = {0};
	const uint32_t features = IMPOST_MIGRATION_FEATURES & ~IMPOST_MIGRATION_POSTCOPY;
	struct impost_migration_status status;

	open_peer(&peer, &(struct pair_setup){.bytes = 8 << 20, .source = {.features = features}});
	expect_ok(peer.pair.source_ctx,
		  impost_memory_fill(impost_vm_memory(peer.pair.vm), 0, 0xab, 4 << 20));
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	status = status_of(&peer);
	cr_assert(status.features & IMPOST_MIGRATION_ZSTD);
	cr_assert(status.data_bytes >= 4 << 20);
	/* What is random does not get smaller, the rest does. */
	cr_assert(status.wire_bytes < status.data_bytes - (3 << 20));
	expect_same_ram(&peer);
	close_peer(&peer);
}

/* --- refusing --- */

/* A migration fails at a request, and the VM runs on. */
static void expect_failure(uint16_t command, enum reply reply, int err)
{
	struct peer peer = {
		.command = command, .nth = 1, .reply = reply, .text = "no room\nno CPU"};
	bool heard = reply == REFUSE || reply == INVALID || reply == LONG;
	char text[64];

	snprintf(text, sizeof(text), "command %u, reply %u", command, reply);
	open_peer(&peer, &(struct pair_setup){.source = {.connections = 2}});
	pair_start_guests(&peer.pair);
	cr_assert_eq(pair_send(&peer.pair), err, "%s: %d: %s", text, peer.pair.sent,
		     peer.pair.sent_text);
	cr_assert_eq(status_of(&peer).state, IMPOST_MIGRATION_FAILED);
	pair_expect_source_runs(&peer.pair);
	if (err == -EREMOTEIO && command != START && reply != CUT_TEXT) {
		cr_assert_str_eq(impost_migration_refusal(peer.pair.sending), peer.text);
		cr_assert(strstr(peer.pair.sent_text, "no CPU"), "%s", peer.pair.sent_text);
	}
	close_peer(&peer);
	if (heard)
		cr_assert_eq(peer.count[ABANDON], command != COMPLETE, "%s", text);
}

/* It hears of no Error among them, and does not wait for one for ever. */
Test(migrate_send, ok_without_end)
{
	expect_failure(START, BABBLE, -EPIPE);
}

static const struct {
	enum reply reply;
	int err;
} failures[] = {
	{REFUSE, -EREMOTEIO}, {REFUSE_END, -EREMOTEIO}, {CUT_TEXT, -EREMOTEIO},
	{INVALID, -EPROTO},   {LONG, -EPROTO},		{WAIT, -ETIMEDOUT},
	{END, -EPIPE},	      {CUT_ANSWER, -EPIPE},
};

static void expect_failures(uint16_t command)
{
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		expect_failure(command, failures[i].reply, failures[i].err);
}

Test(migrate_send, start_is_answered_wrongly)
{
	expect_failures(START);
}

Test(migrate_send, config_is_answered_wrongly)
{
	expect_failures(CONFIG);
}

Test(migrate_send, join_is_answered_wrongly)
{
	expect_failures(JOIN);
}

Test(migrate_send, memory_is_answered_wrongly)
{
	expect_failures(MEMORY);
}

Test(migrate_send, state_is_answered_wrongly)
{
	expect_failures(STATE);
}

/* Each is a no: the VM stays here, and nothing is said after it. */
/* While the source waits for room for memory. */
Test(migrate_send, an_error_is_heard_in_the_middle_of_a_request)
{
	const struct pair_setup setup = {.bytes = UINT64_C(8) << 20};
	struct peer peer = {.command = MEMORY, .nth = 1, .reply = STOP, .text = "no more room"};

	open_peer(&peer, &setup);
	cr_assert_eq(pair_send(&peer.pair), -EREMOTEIO, "%s", peer.pair.sent_text);
	cr_expect(strstr(peer.pair.sent_text, "no more room"), "%s", peer.pair.sent_text);
	cr_expect_lt(status_of(&peer).elapsed_ns, UINT64_C(500000) * PAIR_LONG_MS);
	pair_expect_source_runs(&peer.pair);
	close_peer(&peer);
}

Test(migrate_send, complete_is_refused)
{
	expect_failure(COMPLETE, REFUSE, -EREMOTEIO);
	expect_failure(COMPLETE, REFUSE_END, -EREMOTEIO);
	expect_failure(COMPLETE, CUT_TEXT, -EREMOTEIO);
}

Test(migrate_send, another_version_or_feature_is_no_answer)
{
	struct peer peers[] = {{.version = 2}, {.extra = 1u << 20}, {.version = 0xffff}};

	for (size_t i = 0; i < 3; i++) {
		open_peer(&peers[i], &(struct pair_setup){0});
		cr_assert_eq(pair_send(&peers[i].pair), -EPROTO, "%s", peers[i].pair.sent_text);
		pair_expect_source_runs(&peers[i].pair);
		close_peer(&peers[i]);
		cr_assert_eq(peers[i].count[CONFIG], 0);
	}
}

/* --- nobody knows whose it is --- */

static void expect_unsettled(enum reply reply, uint32_t what)
{
	struct peer peer = {.command = COMPLETE, .nth = 1, .reply = reply};
	struct impost_context *ctx;

	open_peer(&peer, &(struct pair_setup){.cpus = 2});
	ctx = peer.pair.source_ctx;
	expect_error(ctx, impost_migration_settle(peer.pair.sending, what), -EINVAL, "new");
	pair_start_guests(&peer.pair);
	expect_error(ctx, pair_send(&peer.pair), -IMPOST_EUNSETTLED, "settle");
	cr_assert_eq(status_of(&peer).state, IMPOST_MIGRATION_UNSETTLED);
	expect_error(ctx, impost_vm_release(peer.pair.vm), -EINVAL, "not held");
	expect_error(ctx, impost_migration_settle(peer.pair.sending, 3), -EINVAL, "keep or leave");
	expect_ok(ctx, impost_migration_settle(peer.pair.sending, what));
	expect_error(ctx, impost_migration_settle(peer.pair.sending, what), -EINVAL,
		     what == IMPOST_MIGRATION_KEEP ? "failed" : "done");
	if (what == IMPOST_MIGRATION_KEEP)
		pair_expect_source_runs(&peer.pair);
	else
		pair_expect_source_moved(&peer.pair);
	close_peer(&peer);
	cr_assert_eq(peer.count[ABANDON], 0);
}

Test(migrate_send, nobody_says_who_has_it)
{
	static const enum reply replies[] = {INVALID, LONG, WAIT, END, CUT_ANSWER};

	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		expect_unsettled(replies[i], IMPOST_MIGRATION_KEEP);
		expect_unsettled(replies[i], IMPOST_MIGRATION_LEAVE);
	}
}

/* Its vCPUs wait, and it can be destroyed. */
Test(migrate_send, what_is_never_settled_stays_held)
{
	struct peer peer = {.command = COMPLETE, .nth = 1, .reply = END};
	struct impost_exit exit;

	open_peer(&peer, &(struct pair_setup){0});
	cr_assert_eq(pair_send(&peer.pair), -IMPOST_EUNSETTLED);
	expect_ok(peer.pair.source_ctx, impost_vcpu_kick(peer.pair.cpu[0]));
	expect_ok(peer.pair.source_ctx, impost_vcpu_run(peer.pair.cpu[0], &exit));
	cr_assert_eq(exit.kind, IMPOST_EXIT_INTR, "it ran");
	close_peer(&peer);
}

/* --- a guest that writes much --- */

/* The peer is slow, and meanwhile all of memory is written: what is left takes 5 ms at least. */
static void write_all(struct peer *peer, uint16_t command)
{
	if (command != MEMORY || peer->count[STATE])
		return;
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	for (uint64_t at = 0; at < PAIR_BYTES; at += PAIR_PAGE)
		pair_write_page(peer->pair.vm, at, at + peer->count[MEMORY]);
}

static void open_busy(struct peer *peer, struct impost_migration_config config)
{
	*peer = (struct peer){.heard = write_all};
	config.downtime_ms = 1;
	open_peer(peer, &(struct pair_setup){.source = config});
}

Test(migrate_send, it_is_given_up_after_so_many_passes)
{
	struct peer peer;

	open_busy(&peer, (struct impost_migration_config){.passes = 3});
	cr_assert_eq(pair_send(&peer.pair), -EBUSY, "%s", peer.pair.sent_text);
	cr_assert(strstr(peer.pair.sent_text, "after 3 passes"), "%s", peer.pair.sent_text);
	cr_assert_eq(status_of(&peer).pass, 3);
	cr_assert(status_of(&peer).dirty_rate > 0);
	pair_expect_source_runs(&peer.pair);
	close_peer(&peer);
	cr_assert_eq(peer.count[ABANDON], 1);
}

Test(migrate_send, it_is_finished_after_so_many_passes)
{
	struct peer peer;

	open_busy(&peer,
		  (struct impost_migration_config){.passes = 3, .flags = IMPOST_MIGRATION_FINISH});
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	cr_assert_eq(status_of(&peer).pass, 3);
	expect_same_ram(&peer);
	close_peer(&peer);
}

Test(migrate_send, it_is_given_up_after_some_time)
{
	struct peer peer;

	open_busy(&peer, (struct impost_migration_config){.timeout_ms = 20});
	cr_assert_eq(pair_send(&peer.pair), -EBUSY, "%s", peer.pair.sent_text);
	pair_expect_source_runs(&peer.pair);
	close_peer(&peer);
}

/* In the middle of a pass: the rest of it goes when the guest stands. */
Test(migrate_send, it_is_finished_after_some_time)
{
	struct peer peer;

	open_busy(&peer, (struct impost_migration_config){.timeout_ms = 1,
							  .flags = IMPOST_MIGRATION_FINISH});
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	expect_same_ram(&peer);
	close_peer(&peer);
}

static atomic_uint throttled;

static int note_throttle(void *opaque, const struct impost_migration_status *status)
{
	(void)opaque;
	if (status->throttle > throttled)
		throttled = status->throttle;
	return 0;
}

/* As much as was asked for, and not at all when it is over. */
Test(migrate_send, a_guest_is_throttled)
{
	struct peer peer;

	throttled = 0;
	open_busy(&peer, (struct impost_migration_config){
				 .passes = 60, .throttle = 40, .progress = note_throttle});
	pair_start_guests(&peer.pair);
	cr_assert_eq(pair_send(&peer.pair), -EBUSY, "%s", peer.pair.sent_text);
	cr_assert_eq(throttled, 40);
	cr_assert_eq(status_of(&peer).throttle, 0);
	pair_expect_source_runs(&peer.pair);
	close_peer(&peer);
}

/* --- the host meanwhile --- */

/* It holds when memory goes and releases when the guest is to stand: that is not its to say. */
static void hold_and_release(struct peer *peer, uint16_t command)
{
	if (command == MEMORY && peer->count[MEMORY] == 1)
		expect_ok(peer->pair.source_ctx, impost_vm_hold(peer->pair.vm, PAIR_LONG_MS));
	if (command == STATE)
		expect_ok(peer->pair.source_ctx, impost_vm_release(peer->pair.vm));
}

Test(migrate_send, the_host_releases_when_the_vm_is_to_stand)
{
	struct peer peer = {.heard = hold_and_release};

	open_peer(&peer, &(struct pair_setup){.cpus = 2});
	pair_start_guests(&peer.pair);
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	pair_expect_source_moved(&peer.pair);
	expect_same_ram(&peer);
	close_peer(&peer);
}

Test(migrate_send, a_vm_that_is_held_goes)
{
	struct peer peer = {0};

	open_peer(&peer, &(struct pair_setup){0});
	expect_ok(peer.pair.source_ctx, impost_vm_hold(peer.pair.vm, PAIR_LONG_MS));
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	pair_expect_source_moved(&peer.pair);
	expect_same_ram(&peer);
	close_peer(&peer);
}

/* And stays held by the host, when it does not go. */
Test(migrate_send, a_vm_that_is_held_stays_held)
{
	struct peer peer = {.command = STATE, .nth = 1, .reply = REFUSE};

	open_peer(&peer, &(struct pair_setup){0});
	expect_ok(peer.pair.source_ctx, impost_vm_hold(peer.pair.vm, PAIR_LONG_MS));
	cr_assert_eq(pair_send(&peer.pair), -EREMOTEIO, "%s", peer.pair.sent_text);
	expect_error(peer.pair.source_ctx, impost_vm_hold(peer.pair.vm, 0), -EALREADY, "held");
	expect_ok(peer.pair.source_ctx, impost_vm_release(peer.pair.vm));
	pair_expect_source_runs(&peer.pair);
	close_peer(&peer);
}

/* --- cancelling --- */

static atomic_uint cancel_in;

static int cancel_state(void *opaque, const struct impost_migration_status *status)
{
	(void)opaque;
	return status->state == cancel_in;
}

Test(migrate_send, it_is_cancelled_in_each_state)
{
	for (uint32_t state = IMPOST_MIGRATION_STARTING; state <= IMPOST_MIGRATION_COMPLETING;
	     state++) {
		struct peer peer = {0};

		cancel_in = state;
		open_peer(&peer, &(struct pair_setup){.source = {.progress = cancel_state}});
		pair_start_guests(&peer.pair);
		cr_assert_eq(pair_send(&peer.pair), -ECANCELED, "%s", peer.pair.sent_text);
		cr_assert_eq(status_of(&peer).state, IMPOST_MIGRATION_FAILED);
		pair_expect_source_runs(&peer.pair);
		close_peer(&peer);
		cr_assert_eq(peer.count[COMPLETE], 0);
		cr_assert_eq(peer.count[ABANDON], 1);
	}
}

static void cancel_late(struct peer *peer, uint16_t command)
{
	if (command == COMPLETE)
		impost_migration_cancel(peer->pair.sending);
}

Test(migrate_send, it_cannot_be_cancelled_once_it_may_be_the_other_s)
{
	struct peer peer = {.heard = cancel_late};

	open_peer(&peer, &(struct pair_setup){0});
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	pair_expect_source_moved(&peer.pair);
	close_peer(&peer);
}

static void cancel_soon(struct peer *peer, uint16_t command)
{
	if (command == CONFIG)
		impost_migration_cancel(peer->pair.sending);
}

/* While it waits for an answer that does not come. */
Test(migrate_send, it_is_cancelled_while_the_peer_is_silent)
{
	struct peer peer = {.heard = cancel_soon, .command = CONFIG, .nth = 1, .reply = WAIT};

	open_peer(&peer, &(struct pair_setup){.source = {.silence_ms = INT32_MAX}});
	cr_assert_eq(pair_send(&peer.pair), -ECANCELED, "%s", peer.pair.sent_text);
	pair_expect_source_runs(&peer.pair);
	close_peer(&peer);
}

Test(migrate_send, arguments_are_checked)
{
	struct peer peer = {0};
	struct pair other;
	struct impost_context *ctx;

	open_peer(&peer, &(struct pair_setup){0});
	pair_open(&other, &(struct pair_setup){0});
	ctx = peer.pair.source_ctx;
	expect_error(ctx, impost_migration_send(peer.pair.sending, NULL), -EINVAL, "no VM");
	expect_error(ctx, impost_migration_send(peer.pair.sending, other.vm), -EINVAL, "context");
	cr_assert_eq(pair_send(&peer.pair), 0, "%s", peer.pair.sent_text);
	pair_close(&other);
	close_peer(&peer);
}
