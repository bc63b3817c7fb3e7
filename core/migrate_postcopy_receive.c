/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination of a post-copy. Two threads are at work: the pager's, which is told of what is
 * touched, and says Fault; and one that reads what comes, fills it in, and where the connection
 * breaks waits for another.
 *
 * From Complete on memory may be touched, for loading state may do so; from its Ok on the VM is
 * here. Until then a connection that breaks ends it all; afterwards the source is waited for. Which
 * of the two it is, is settled under the lock that the Ok is written with.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <impost/vm.h>

#include "clock.h"
#include "context.h"
#include "crew.h"
#include "migrate_postcopy.h"
#include "migrate_squeeze.h"
#include "pager.h"

/* Contents that are read before they are filled in. */
#define PIECE_BYTES (UINT64_C(256) << 10)
/* Rows of one Fault. */
#define FAULT_ROWS 256u
/* How long is waited at a time, in milliseconds: for a first word, while cancelling is still
 * possible; for a connection; and before the next try. */
#define SLICE_MS   50u
#define CONNECT_MS 1000u
#define AGAIN_MS   20

struct postcopy {
	struct impost_migration *migration;
	struct impost_context *ctx;
	struct left *left; /* by which tables are judged */
	struct pager *pager;
	struct cancel cancel; /* the migration or the VM is being destroyed */
	pthread_t thread;
	bool started;
	uint8_t *piece;
	struct unsqueezer *unsqueezer;
	pthread_mutex_t lock; /* what follows, and whoever writes */
	pthread_cond_t ended;
	struct link *link;  /* the present connection; NULL: there is none */
	bool broken;	    /* a Fault could not be said: it is of no more use */
	bool answered;	    /* the VM is here */
	uint64_t wanted_ns; /* when something was asked for first, and not come; 0: nothing is */
	bool over;
	int result;
};

/* --- asking; with the lock --- */

struct fault {
	struct wire_head head;
	struct wire_row rows[FAULT_ROWS];
};

static void say_fault(struct postcopy *postcopy, struct fault *fault, uint64_t count)
{
	if (count == 0 || !postcopy->link || postcopy->broken)
		return;
	fault->head = (struct wire_head){
		.code = WIRE_FAULT,
		.length = count * sizeof(fault->rows[0]),
	};
	if (!postcopy->wanted_ns)
		postcopy->wanted_ns = clock_now_ns();
	if (link_write(postcopy->link, fault, sizeof(fault->head) + fault->head.length))
		postcopy->broken = true;
}

/* Adds RANGE to COUNT rows, or to the last of them, if they adjoin. */
static uint64_t add_row(struct fault *fault, uint64_t count, const struct impost_range *range)
{
	struct wire_row *last = count ? &fault->rows[count - 1] : NULL;

	if (last && last->gpa + last->bytes == range->gpa) {
		last->bytes += range->bytes;
		return count;
	}
	fault->rows[count] = (struct wire_row){range->gpa, range->bytes};
	return count + 1;
}

/* The pager's: what its thread has been told of. */
static void ask(void *opaque, const struct impost_range *ranges, uint32_t count)
{
	struct postcopy *postcopy = opaque;
	struct fault fault;
	uint64_t rows = 0;

	pthread_mutex_lock(&postcopy->lock);
	for (uint32_t i = 0; i < count; i++) {
		rows = add_row(&fault, rows, &ranges[i]);
		atomic_fetch_add(&postcopy->migration->faults, ranges[i].bytes / IMPOST_PAGE_SIZE);
	}
	say_fault(postcopy, &fault, rows);
	pthread_mutex_unlock(&postcopy->lock);
}

/* Asks again for all that somebody waits for: nobody has heard it. */
static void ask_again(struct postcopy *postcopy)
{
	struct impost_range range;
	struct fault fault;
	uint64_t gpa = 0, rows = 0;

	while (pager_missing(postcopy->pager, true, &gpa, &range)) {
		rows = add_row(&fault, rows, &range);
		if (rows == FAULT_ROWS) {
			say_fault(postcopy, &fault, rows);
			rows = 0;
		}
	}
	say_fault(postcopy, &fault, rows);
}

/* Ends all waiting. The pager's, too, when the memory is being destroyed. */
static void stop(void *opaque)
{
	struct postcopy *postcopy = opaque;

	atomic_store(&postcopy->cancel.wanted, true);
	eventfd_write(postcopy->cancel.fd, 1);
}

/* --- what comes --- */

static bool is_answered(struct postcopy *postcopy)
{
	bool answered;

	pthread_mutex_lock(&postcopy->lock);
	answered = postcopy->answered;
	pthread_mutex_unlock(&postcopy->lock);
	return answered;
}

/* Whether the source has left somebody waiting for too long. */
static bool is_silent(struct postcopy *postcopy)
{
	const uint64_t silence_ns = (uint64_t)postcopy->migration->config.silence_ms * 1000000;
	bool silent;

	pthread_mutex_lock(&postcopy->lock);
	silent = postcopy->wanted_ns && clock_now_ns() - postcopy->wanted_ns > silence_ns;
	pthread_mutex_unlock(&postcopy->lock);
	return silent;
}

/* Waits for the source's next word. Before the Ok it has none to say, unless it was asked. */
static int wait_for_word(struct postcopy *postcopy)
{
	struct impost_migration *migration = postcopy->migration;

	while (!is_answered(postcopy)) {
		int ready = link_wait(postcopy->link, SLICE_MS);

		if (ready)
			return ready < 0 ? ready : 0;
		if (atomic_load(&migration->cancel.wanted))
			return impost_error_set(postcopy->ctx, -ECANCELED,
						"the migration was cancelled");
		if (is_silent(postcopy))
			return impost_error_set(postcopy->ctx, -ETIMEDOUT,
						"the other side of the migration was silent for "
						"%u ms",
						migration->config.silence_ms);
	}
	return 0;
}

/* Something has come: a silence begins anew. And whether what was to be said could be. */
static int look_at_connection(struct postcopy *postcopy)
{
	bool broken;

	pthread_mutex_lock(&postcopy->lock);
	postcopy->wanted_ns = 0;
	broken = postcopy->broken;
	pthread_mutex_unlock(&postcopy->lock);
	return broken ? impost_error_set(postcopy->ctx, -EPIPE,
					 "the other side of the migration does not read any more")
		      : 0;
}

static int take_data(struct postcopy *postcopy, uint64_t gpa, uint64_t bytes)
{
	int err = 0;

	for (uint64_t done = 0, len; !err && done < bytes; done += len) {
		len = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
		err = link_read(postcopy->link, postcopy->piece, len);
		if (err)
			break;
		pager_bring(postcopy->pager, gpa + done, postcopy->piece, len);
		atomic_fetch_add(&postcopy->migration->data_bytes, len);
	}
	return err;
}

static int take_zstd(struct postcopy *postcopy, uint64_t gpa, uint64_t bytes)
{
	const uint8_t *contents;
	int err = unsqueezer_read(&postcopy->unsqueezer, postcopy->link, gpa, bytes, &contents);

	if (err)
		return err;
	pager_bring(postcopy->pager, gpa, contents, bytes);
	atomic_fetch_add(&postcopy->migration->data_bytes, bytes);
	return 0;
}

static int take_zeros(struct postcopy *postcopy, uint64_t gpa, uint64_t bytes)
{
	pager_bring(postcopy->pager, gpa, NULL, bytes);
	atomic_fetch_add(&postcopy->migration->zero_bytes, bytes);
	return 0;
}

static int take_rows(struct postcopy *postcopy, const struct wire_row *rows, uint64_t count)
{
	static int (*const takes[])(struct postcopy * postcopy, uint64_t gpa, uint64_t bytes) = {
		[0] = take_data, [WIRE_ROW_ZERO] = take_zeros, [WIRE_ROW_ZSTD] = take_zstd};
	int err = 0;

	for (uint64_t i = 0; !err && i < count; i++) {
		const uint64_t flags = rows[i].gpa & WIRE_ROW_FLAGS;

		err = takes[flags](postcopy, rows[i].gpa - flags, rows[i].bytes);
		atomic_store(&postcopy->migration->left_bytes, pager_left(postcopy->pager));
	}
	return err;
}

static int take_memory(struct postcopy *postcopy, const struct wire_head *head)
{
	uint64_t count = head->length / sizeof(struct wire_row);
	void *rows;
	int err = wire_read_payload(postcopy->link, "a table of memory", head->length, &rows);

	if (err)
		return err;
	err = left_check(postcopy->left, rows, count, WIRE_FLAGS_OF(postcopy->migration->features));
	if (!err)
		err = take_rows(postcopy, rows, count);
	free(rows);
	return err;
}

/* The source has sent all. */
static int complete(struct postcopy *postcopy)
{
	uint64_t left = pager_left(postcopy->pager);
	int err = pager_error(postcopy->pager);

	if (err)
		return impost_error_set(postcopy->ctx, -EFAULT,
					"memory that has come cannot be put in its place: %s",
					strerror(-err));
	if (left > 0 || !is_answered(postcopy))
		return impost_error_set(postcopy->ctx, -EPROTO,
					"the other side of the migration says Complete, and has "
					"not sent %" PRIu64 " bytes of memory",
					left);
	pthread_mutex_lock(&postcopy->lock);
	err = wire_answer_ok(postcopy->link);
	pthread_mutex_unlock(&postcopy->lock);
	return err;
}

/* Takes in what comes over a connection until all is there. */
static int take_all(struct postcopy *postcopy)
{
	struct wire_head head;
	int err;

	for (;;) {
		err = wait_for_word(postcopy);
		if (!err)
			err = wire_read_request(postcopy->link, &head);
		if (!err && head.code == WIRE_COMPLETE)
			return complete(postcopy);
		if (!err && head.code != WIRE_MEMORY)
			err = impost_error_set(postcopy->ctx, -EPROTO,
					       "%s comes where there is only memory left to come",
					       wire_command_name(head.code));
		if (!err)
			err = take_memory(postcopy, &head);
		if (!err)
			err = look_at_connection(postcopy);
		if (err)
			return err;
		if (is_answered(postcopy))
			migrate_tell(postcopy->migration);
	}
}

/* --- another connection --- */

/* A table of what has not come. */
static int list_missing(struct postcopy *postcopy, struct wire_row **ret_rows, uint64_t *ret_count)
{
	struct impost_range range;
	uint64_t gpa = 0;

	left_clear(postcopy->left);
	while (pager_missing(postcopy->pager, false, &gpa, &range))
		left_set(postcopy->left, &range, true);
	return left_rows(postcopy->left, ret_rows, ret_count);
}

/* Says what lacks over LINK, and what of it is wanted at once; it is the present one then. */
static int answer_resume(struct postcopy *postcopy, struct link *link)
{
	struct wire_head head = {.code = WIRE_OK};
	struct wire_row *rows;
	uint64_t count;
	int err = list_missing(postcopy, &rows, &count);

	if (err)
		return err;
	head.length = count * sizeof(*rows);
	pthread_mutex_lock(&postcopy->lock);
	err = link_write(link, &head, sizeof(head));
	if (!err && count > 0)
		err = link_write(link, rows, head.length);
	if (!err) {
		postcopy->link = link;
		postcopy->broken = false;
		postcopy->wanted_ns = 0;
		ask_again(postcopy);
	}
	pthread_mutex_unlock(&postcopy->lock);
	free(rows);
	return err;
}

/* Hears who it is that has connected. */
static int read_resume(struct postcopy *postcopy, struct link *link, uint8_t token[WIRE_TOKEN])
{
	struct wire_head head;
	int err = wire_read_request(link, &head);

	if (!err && head.code != WIRE_RESUME)
		err = impost_error_set(postcopy->ctx, -EPROTO,
				       "%s comes where Resume is waited for",
				       wire_command_name(head.code));
	return err ? err : link_read(link, token, WIRE_TOKEN);
}

static int take_resume(struct postcopy *postcopy, struct link *link)
{
	const uint32_t silence_ms = link->silence_ms;
	uint8_t token[WIRE_TOKEN], differs = 0;
	int err;

	link->silence_ms = silence_ms / MIGRATE_STRANGERS_PART + 1;
	err = read_resume(postcopy, link, token);
	link->silence_ms = silence_ms;
	if (err)
		return err;
	for (uint32_t i = 0; i < WIRE_TOKEN; i++)
		differs |= token[i] ^ postcopy->migration->token[i];
	if (!differs)
		return answer_resume(postcopy, link);
	return impost_error_set(postcopy->ctx, -EPROTO,
				"Resume came with another token, not that of this VM");
}

/* The connection is lost, or the migration, of which the source is told if it can be. False: the VM
 * is not here. */
static bool drop_connection(struct postcopy *postcopy, int err)
{
	bool answered;

	pthread_mutex_lock(&postcopy->lock);
	answered = postcopy->answered;
	if (answered && postcopy->link && !postcopy->broken && !postcopy_is_loss(err))
		wire_answer_error(postcopy->link, postcopy->migration->features,
				  impost_error(postcopy->ctx));
	postcopy->link = NULL;
	if (!answered) /* nor will it be */
		postcopy->result = err;
	pthread_mutex_unlock(&postcopy->lock);
	return answered;
}

/* Takes another connection in the place of the one that broke with ERR, which is returned where
 * there is none within the time of a silence. */
static int reconnect(struct postcopy *postcopy, int err)
{
	struct impost_migration *migration = postcopy->migration;
	const uint64_t until = clock_now_ns() + (uint64_t)migration->config.silence_ms * 1000000;
	struct pollfd stopped = {.fd = postcopy->cancel.fd, .events = POLLIN};

	context_log(postcopy->ctx, IMPOST_LOG_WARN,
		    "post-copy: the connection is lost (%s), and %" PRIu64
		    " bytes have not come: waiting for another",
		    impost_error(postcopy->ctx), pager_left(postcopy->pager));
	while (!atomic_load(&postcopy->cancel.wanted)) {
		uint64_t now = clock_now_ns(), left = until > now ? (until - now) / 1000000 : 0;
		struct link *link;
		int again;

		if (left == 0)
			return err;
		again = migrate_connect(migration, left < CONNECT_MS ? (uint32_t)left : CONNECT_MS,
					&link);
		if (!again) {
			link->cancel = &postcopy->cancel;
			again = take_resume(postcopy, link);
			if (!again)
				return 0;
			/* The source itself may have been too late: it tries again. */
			migrate_disconnect(migration, link,
					   again == -EPROTO ? impost_error(postcopy->ctx) : NULL);
		}
		if (again == -ENOTSUP)
			return err;
		poll(&stopped, 1, AGAIN_MS);
	}
	return impost_error_set(postcopy->ctx, -ECANCELED, "the migration was ended");
}

/* --- the thread --- */

static void end(struct postcopy *postcopy, int err)
{
	struct impost_migration *migration = postcopy->migration;
	bool answered;

	pager_fail(postcopy->pager, err ? err : -EIO); /* waits where nothing is missing */
	err = pager_result(postcopy->pager);
	answered = is_answered(postcopy);
	if (answered) {
		atomic_store(&migration->left_bytes, pager_left(postcopy->pager));
		migrate_enter(migration, err ? IMPOST_MIGRATION_LOST : IMPOST_MIGRATION_DONE);
	}
	pthread_mutex_lock(&postcopy->lock);
	if (answered || !postcopy->result)
		postcopy->result = err;
	postcopy->over = true;
	pthread_cond_broadcast(&postcopy->ended);
	pthread_mutex_unlock(&postcopy->lock);
}

static void *run(void *opaque)
{
	struct postcopy *postcopy = opaque;
	int err;

	do {
		err = take_all(postcopy);
		if (!err || !drop_connection(postcopy, err) || !postcopy_is_loss(err))
			break;
		err = reconnect(postcopy, err);
	} while (!err);
	end(postcopy, err);
	return NULL;
}

/* --- the beginning --- */

static const char fails[] = "memory cannot come after the VM (post-copy)";

bool postcopy_is_possible(struct impost_context *ctx)
{
	return pager_probe(ctx, fails) == 0;
}

bool postcopy_takes(struct impost_memory *memory)
{
	return pager_takes(memory, IMPOST_PAGE_SIZE);
}

static int postpone_rows(struct postcopy *postcopy, const struct wire_row *rows, uint64_t count)
{
	int err = left_check(postcopy->left, rows, count, 0);

	for (uint64_t i = 0; !err && i < count; i++) {
		const struct impost_range range = {rows[i].gpa, rows[i].bytes};

		err = pager_postpone(postcopy->pager, &range);
	}
	atomic_store(&postcopy->migration->left_bytes, pager_left(postcopy->pager));
	return err ? err : pager_begin(postcopy->pager);
}

static int create(struct impost_migration *migration, struct impost_vm *vm,
		  struct postcopy **ret_postcopy)
{
	struct postcopy *postcopy = calloc(1, sizeof(*postcopy));

	if (!postcopy)
		return impost_error_set(migration->ctx, -ENOMEM, "no memory for a migration");
	*ret_postcopy = postcopy;
	postcopy->migration = migration;
	postcopy->ctx = migration->ctx;
	pthread_mutex_init(&postcopy->lock, NULL);
	pthread_cond_init(&postcopy->ended, NULL);
	postcopy->cancel.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (postcopy->cancel.fd < 0)
		return impost_error_set(migration->ctx, -errno, "eventfd: %s", strerror(errno));
	postcopy->piece = malloc(PIECE_BYTES);
	if (!postcopy->piece)
		return impost_error_set(migration->ctx, -ENOMEM, "no memory for a migration");
	return left_create(impost_vm_memory(vm), &postcopy->left);
}

int postcopy_postpone(struct impost_migration *migration, struct impost_vm *vm,
		      const struct wire_head *head)
{
	struct postcopy *postcopy;
	struct pager_source source = {
		.fails = fails,
		.lost = "some of the memory, which was to come after the VM (post-copy), is lost",
		.unit = IMPOST_PAGE_SIZE,
		.ask = ask,
		.end = stop,
	};
	void *rows;
	int err;

	if (migration->postcopy)
		return impost_error_set(migration->ctx, -EPROTO, "Postpone comes a second time");
	err = wire_read_payload(&migration->links[0], "a table of memory", head->length, &rows);
	if (err)
		return err;
	err = create(migration, vm, &migration->postcopy);
	postcopy = migration->postcopy;
	if (!err) {
		source.opaque = postcopy;
		err = pager_open(impost_vm_memory(vm), &source, &postcopy->pager);
	}
	if (!err)
		err = postpone_rows(postcopy, rows, head->length / sizeof(struct wire_row));
	free(rows);
	return err;
}

int postcopy_begin(struct impost_migration *migration)
{
	struct postcopy *postcopy = migration->postcopy;
	int err;

	migration->links[0].cancel = &postcopy->cancel;
	pthread_mutex_lock(&postcopy->lock);
	postcopy->link = &migration->links[0];
	ask_again(postcopy);
	pthread_mutex_unlock(&postcopy->lock);
	err = -crew_start(&postcopy->thread, run, postcopy);
	if (err)
		return impost_error_set(migration->ctx, err, "no thread can be started: %s",
					strerror(-err));
	postcopy->started = true;
	return 0;
}

int postcopy_answer(struct impost_migration *migration)
{
	struct postcopy *postcopy = migration->postcopy;
	int err = migrate_enter(migration, IMPOST_MIGRATION_POSTCOPYING);

	if (err)
		return err;
	if (pager_left(postcopy->pager) > 0)
		context_log(
			migration->ctx, IMPOST_LOG_WARN,
			"post-copy: the VM runs here, and %" PRIu64
			" bytes of its memory have not come yet: if the connection is lost, and no "
			"other can be made, so is the VM",
			pager_left(postcopy->pager));
	pthread_mutex_lock(&postcopy->lock);
	if (postcopy->link && !postcopy->broken)
		err = wire_answer_ok(postcopy->link);
	else
		err = impost_error_set(migration->ctx, postcopy->result ? postcopy->result : -EPIPE,
				       "the connection of the migration was lost before it was "
				       "said that the VM is here");
	postcopy->answered = !err;
	pthread_mutex_unlock(&postcopy->lock);
	return err;
}

/* --- the end --- */

void postcopy_free(struct postcopy *postcopy)
{
	if (!postcopy)
		return;
	/* A fork has no such threads, and what it writes to is its parent's. */
	if (!context_forked(postcopy->ctx)) {
		if (postcopy->cancel.fd >= 0)
			stop(postcopy);
		if (postcopy->started)
			pthread_join(postcopy->thread, NULL);
		if (postcopy->pager)
			pager_fail(postcopy->pager, -EIO);
	}
	postcopy->migration->links[0].cancel = &postcopy->migration->cancel;
	pager_unref(postcopy->pager);
	left_free(postcopy->left);
	if (postcopy->cancel.fd >= 0)
		close(postcopy->cancel.fd);
	pthread_cond_destroy(&postcopy->ended);
	pthread_mutex_destroy(&postcopy->lock);
	free(postcopy->piece);
	unsqueezer_free(postcopy->unsqueezer);
	free(postcopy);
}

static int wait_until_over(struct postcopy *postcopy)
{
	int result;

	pthread_mutex_lock(&postcopy->lock);
	while (!postcopy->over)
		pthread_cond_wait(&postcopy->ended, &postcopy->lock);
	result = postcopy->result;
	pthread_mutex_unlock(&postcopy->lock);
	if (!result)
		return 0;
	return impost_error_set(postcopy->ctx, result,
				"some of the VM's memory is lost: its source has not sent it, and "
				"the connection to it is gone");
}

int impost_migration_wait(struct impost_migration *migration)
{
	if (context_forked(migration->ctx))
		return context_refuse_fork(migration->ctx);
	if (migration->postcopy)
		return wait_until_over(migration->postcopy);
	if (migration->received)
		return 0;
	return impost_error_set(migration->ctx, -EINVAL, "this migration has received no VM");
}
