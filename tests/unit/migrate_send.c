/* SPDX-License-Identifier: Apache-2.0 */
/*
 * impost_migration_send(), against a peer that is no engine: it reads what is said as
 * docs/migration-format.md has it, keeps the memory that comes, and answers each request as the
 * test wants, rightly or wrongly.
 */
#include "migrate_pair.h"

#define SILENCE_MS 300u

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
	INVALID,    /* status 0 */
	LONG,	    /* Ok, with a length */
	WAIT,	    /* no answer, until the source goes away */
	END,	    /* the connection ends */
	CUT_ANSWER, /* after half of the answer */
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
	uint64_t gpa = row->gpa & ~UINT64_C(0xfff);

	cr_assert(row->bytes > 0 && row->bytes % PAIR_PAGE == 0);
	cr_assert(gpa + row->bytes <= peer->pair.setup.bytes ||
		  (gpa >= PAIR_ROM && gpa + row->bytes <= PAIR_ROM + PAIR_ROM_BYTES));
	cr_assert((row->gpa & 0xfff) == 0 || peer->agreed & IMPOST_MIGRATION_ZERO_PAGES);
	for (uint64_t at = gpa; at < gpa + row->bytes && at < PAIR_BYTES; at += PAIR_PAGE)
		peer->came[at / PAIR_PAGE] = true;
}

static bool take_row(struct line *line, const struct row *row)
{
	static const uint8_t zeros[PAIR_PAGE];
	struct peer *peer = line->peer;
	uint64_t gpa = row->gpa & ~UINT64_C(0xfff);
	uint8_t page[PAIR_PAGE];

	for (uint64_t at = gpa; at < gpa + row->bytes; at += PAIR_PAGE) {
		bool zero = row->gpa & 1;

		if (!zero && !take(line->fd, page, sizeof(page)))
			return false;
		pthread_mutex_lock(&peer->lock);
		*(zero ? &peer->zero_bytes : &peer->data_bytes) += PAIR_PAGE;
		if (at < peer->pair.setup.bytes)
			memcpy(peer->ram + at, zero ? zeros : page, PAIR_PAGE);
		pthread_mutex_unlock(&peer->lock);
	}
	return true;
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
		head.version = 1;
		head.features = request->features;
		if (peer->features)
			head.features &= peer->features;
		peer->agreed = head.features;
	}
	give(line->fd, &head, sizeof(head));
}

static void refuse(const struct line *line)
{
	const struct peer *peer = line->peer;
	const char *text = peer->agreed & IMPOST_MIGRATION_TEXTS && peer->text ? peer->text : "";
	const struct head head = {.code = 2, .length = strlen(text)};

	give(line->fd, &head, sizeof(head));
	give(line->fd, text, strlen(text));
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
		refuse(line);
		return true;
	case INVALID:
	case LONG:
		give(line->fd, &wrong[reply], sizeof(wrong[reply]));
		return true;
	case WAIT:
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
	if (head->code == STATE)
		peer->begun_with = peer->data_bytes + peer->zero_bytes;
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
		filled.source.silence_ms = SILENCE_MS;
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
	pair_expect_source_moved(&peer.pair);
	expect_same_ram(&peer);
	cr_assert_eq(peer.count[ABANDON], 0);
	close_peer(&peer);
}
