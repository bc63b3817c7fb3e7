/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose turn it is in a cassette: each call of the host waits until the cursor is at a call of its
 * lane, and must be that call. What is found wrong once stays wrong.
 *
 * Some recorded calls may be missing now, or be made where none was recorded, since hosts make them
 * or not as threads happen to meet: finishing an exit without running (a hold does it, or the next
 * run), a look whether an exit is pending (-EBUSY), a run that a kick ended at once.
 */
#include "cassette_play.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* --- what stops it --- */

int32_t play_stopped(struct mock_play *p)
{
	return mock_error(p->vm, p->err, "%s", p->text);
}

static void wake_all(struct mock_play *p)
{
	play_wake(&p->vm_lane);
	for (struct play_lane *lane = p->lanes; lane; lane = lane->next)
		play_wake(lane);
}

/* What fits: bytes of the path, and of what was wrong. */
#define PATH_SHOWN 300
#define TEXT_SHOWN 700

int32_t play_stop(struct mock_play *p, int32_t err, const char *fmt, ...)
{
	char text[sizeof(p->text)];
	va_list ap;

	if (p->err)
		return play_stopped(p);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->err = err;
	snprintf(p->text, sizeof(p->text), "cassette %.*s: %.*s", PATH_SHOWN, p->path, TEXT_SHOWN,
		 text);
	wake_all(p);
	return play_stopped(p);
}

int32_t play_broken(struct mock_play *p, int32_t err)
{
	const struct cassette_item *item;

	if (err == -ENOMEM || cassette_reader_peek(p->reader, &item))
		return play_stop(p, err, "out of memory");
	return play_stop(p, err, "call %llu, at byte %llu: it is damaged",
			 (unsigned long long)item->number, (unsigned long long)item->offset);
}

static int32_t unreadable(struct mock_play *p, int32_t err)
{
	return play_stop(p, err, "%s", cassette_reader_why(p->reader));
}

/* "vCPU 3, run" */
static void name_call(uint32_t lane, enum cassette_op op, char *text, size_t size)
{
	if (lane == CASSETTE_LANE_VM)
		snprintf(text, size, "VM, %s", cassette_op_name(op));
	else
		snprintf(text, size, "vCPU %u, %s", lane, cassette_op_name(op));
}

/* The same with the arguments. */
static void show_call(uint32_t lane, enum cassette_op op, struct cassette_span args, char *text,
		      size_t size)
{
	size_t len;

	name_call(lane, op, text, size);
	len = strlen(text);
	if (args.len && len + 3 < size) {
		memcpy(text + len, ": ", 3);
		cassette_show(args, text + len + 2, size - len - 2);
	}
}

static int32_t other_call(struct play_call *call, const struct cassette_item *item)
{
	char was[300], now[300];

	show_call(item->lane, item->op, item->args, was, sizeof(was));
	show_call(call->lane->id, call->op, call->args, now, sizeof(now));
	return play_stop(call->play, -IMPOST_EDIVERGED, "call %llu: recorded (%s), now (%s)",
			 (unsigned long long)item->number, was, now);
}

int32_t play_diverged(struct play_call *call, const struct cassette_item *item)
{
	char name[64], difference[512], now[300];

	if (item->kind == CASSETTE_END) {
		show_call(call->lane->id, call->op, call->args, now, sizeof(now));
		return play_stop(call->play, -IMPOST_EDIVERGED,
				 "recorded nothing more after call %llu, now (%s)",
				 (unsigned long long)item->number, now);
	}
	if (item->kind != CASSETTE_CALL) {
		show_call(call->lane->id, call->op, call->args, now, sizeof(now));
		return play_stop(call->play, -IMPOST_EDIVERGED,
				 "after call %llu: recorded that vCPU %u goes on, now (%s)",
				 (unsigned long long)item->number, item->lane, now);
	}
	if (item->lane != call->lane->id || item->op != call->op)
		return other_call(call, item);
	name_call(item->lane, item->op, name, sizeof(name));
	cassette_difference(item->args, call->args, difference, sizeof(difference));
	return play_stop(call->play, -IMPOST_EDIVERGED, "call %llu (%s): %s",
			 (unsigned long long)item->number, name, difference);
}

/* --- sleeping --- */

static int futex(atomic_uint *word, int op, unsigned value, const struct timespec *limit)
{
	return (int)syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, limit, NULL, 0);
}

void play_wake(struct play_lane *lane)
{
	int saved = errno;

	atomic_fetch_add(&lane->turn, 1);
	futex(&lane->turn, FUTEX_WAKE, INT_MAX, NULL);
	errno = saved;
}

bool play_sleep(struct mock_play *p, struct play_lane *lane, unsigned turn, uint64_t ns)
{
	const struct timespec limit = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
	bool signal;

	lane->waiting++;
	p->sleepers++;
	pthread_mutex_unlock(&p->lock);
	signal = futex(&lane->turn, FUTEX_WAIT, turn, &limit) < 0 && errno == EINTR;
	pthread_mutex_lock(&p->lock);
	p->sleepers--;
	lane->waiting--;
	return !signal;
}

uint64_t play_patience(struct play_call *call)
{
	struct mock_play *p = call->play;
	uint64_t now = mock_now_ns();

	if (!call->since || call->moves != p->moves) {
		call->since = now;
		call->moves = p->moves;
	}
	return now - call->since < p->limit_ns ? p->limit_ns - (now - call->since) : 0;
}

/* --- the cursor --- */

static struct play_lane *find_lane(struct mock_play *p, uint32_t id)
{
	struct play_lane *lane = p->lanes;

	if (id == CASSETTE_LANE_VM)
		return &p->vm_lane;
	while (lane && lane->id != id)
		lane = lane->next;
	return lane;
}

/* A call that nobody need make: nothing came of it. */
static bool is_idle(const struct cassette_item *item)
{
	struct impost_exit exit = {.kind = IMPOST_EXIT_INTR};
	struct cassette_exit_room room = {0};
	bool idle = false;

	if (item->op == CASSETTE_STATE_GET)
		return item->error == -EBUSY;
	if (item->op == CASSETTE_EVENT)
		return item->error == -EAGAIN;
	if (item->op != CASSETTE_COMPLETE || item->error || item->args.len)
		return false;
	idle = !cassette_take_exit(item->results, &room, &exit) && exit.kind == IMPOST_EXIT_NONE;
	cassette_exit_room_free(&room);
	return idle;
}

/* Wakes who waits for what stands at the cursor; all, where it may be for them to pass over. */
static void wake_next(struct mock_play *p)
{
	static const uint64_t one = 1;
	const struct cassette_item *item;
	struct play_lane *lane = NULL;

	if (!p->sleepers && !p->tells_events)
		return;
	if (cassette_reader_peek(p->reader, &item)) {
		wake_all(p); /* they find out */
		return;
	}
	if (item->kind == CASSETTE_CALL || item->kind == CASSETTE_SUMS)
		lane = find_lane(p, item->lane);
	if (!lane || lane->ended || (item->kind == CASSETTE_CALL && is_idle(item)))
		wake_all(p);
	else if (lane->waiting)
		play_wake(lane);
	if (p->tells_events && item->kind == CASSETTE_CALL && item->op == CASSETTE_EVENT &&
	    !item->error)
		(void)!write(p->vm->event_fd, &one, sizeof(one));
}

/* Checksums that were taken after what the call before did. */
static int32_t check_after(struct mock_play *p)
{
	const struct cassette_item *item;
	int32_t err = 0;

	while (!err && !cassette_reader_peek(p->reader, &item) && item->kind == CASSETTE_SUMS &&
	       item->when == CASSETTE_AFTER) {
		err = play_sums(p, item);
		if (!err)
			cassette_reader_next(p->reader);
	}
	return err;
}

void play_skip(struct mock_play *p)
{
	cassette_reader_next(p->reader);
	p->moves++;
	wake_next(p);
}

int32_t play_next(struct mock_play *p)
{
	int32_t err = play_memory(p);

	if (err)
		return err;
	cassette_reader_next(p->reader);
	p->played++;
	p->moves++;
	err = check_after(p);
	wake_next(p);
	return err;
}

/* Whether ITEM is of a vCPU that is gone. Calls that say nothing of the guest are not missed. */
static bool is_over(struct mock_play *p, const struct cassette_item *item)
{
	const struct play_lane *lane = find_lane(p, item->lane);

	if (!lane || !lane->ended)
		return false;
	if (item->kind == CASSETTE_CALL && item->op != CASSETTE_VCPU_DESTROY &&
	    item->op != CASSETTE_VM_DESTROY && item->op != CASSETTE_COMPLETE)
		p->left++;
	return true;
}

/* 1: the item was passed over, look at the next. */
static int pass_over(struct mock_play *p, const struct play_lane *lane,
		     const struct cassette_item *item)
{
	if (item->kind == CASSETTE_CALL) {
		if (!is_idle(item) && !is_over(p, item))
			return 0;
		/* What the guest wrote until then it wrote all the same. */
		if (!p->left && play_memory(p))
			return 0;
	} else if (item->kind == CASSETTE_SUMS) {
		bool over = is_over(p, item);

		if (!over && item->lane != lane->id)
			return 0;
		/* Of a guest that was left before its end they say nothing. */
		if (!p->left && play_sums(p, item))
			return 0;
	} else {
		return 0;
	}
	play_skip(p);
	return 1;
}

enum play_look play_look(struct mock_play *p, const struct play_lane *lane,
			 const struct cassette_item **ret_item)
{
	const struct cassette_item *item;
	int err;

	do {
		err = p->err ? 0 : cassette_reader_peek(p->reader, &item);
		if (err)
			unreadable(p, err);
		if (p->err)
			return PLAY_STOPPED;
	} while (pass_over(p, lane, item));
	if (p->err)
		return PLAY_STOPPED;
	*ret_item = item;
	switch (item->kind) {
	case CASSETTE_CALL:
		return item->lane == lane->id ? PLAY_MINE : PLAY_OTHERS;
	case CASSETTE_SUMS:
		return PLAY_OTHERS;
	case CASSETTE_END:
		return PLAY_ENDED;
	default: /* not the host's doing, but there is nothing to go on with */
		play_stop(p, -IMPOST_EFORMAT, "%s", item->why);
		return PLAY_STOPPED;
	}
}

void play_settle(struct mock_play *p)
{
	const struct cassette_item *item;
	bool stopped = p->err;

	while (!p->err) {
		int err = cassette_reader_peek(p->reader, &item);

		if (err)
			unreadable(p, err);
		else if (!pass_over(p, &p->vm_lane, item))
			break;
	}
	p->untold |= p->err && !stopped;
}

/* --- calls --- */

static struct play_values *take_values(struct mock_play *p)
{
	struct play_values *values;

	pthread_mutex_lock(&p->lock);
	values = p->values;
	if (values)
		p->values = values->next;
	pthread_mutex_unlock(&p->lock);
	return values ? values : calloc(1, sizeof(*values));
}

/* With the lock. */
static void give_values(struct play_call *call)
{
	call->values->next = call->play->values;
	call->play->values = call->values;
	call->values = NULL;
}

struct cassette_values *play_begin(struct play_call *call, struct mock_vm *vm, struct play_vcpu *v,
				   enum cassette_op op)
{
	struct mock_play *p = vm->play;

	*call = (struct play_call){
		.play = p, .lane = v ? v->lane : &p->vm_lane, .vcpu = v, .op = op};
	call->values = take_values(p);
	if (!call->values) {
		mock_error(vm, -ENOMEM, "out of memory");
		return NULL;
	}
	cassette_values_begin(&call->values->values);
	return &call->values->values;
}

static bool same_args(struct cassette_span a, struct cassette_span b)
{
	return a.len == b.len && (!a.len || memcmp(a.data, b.data, a.len) == 0);
}

/*
 * What the vCPU's next recorded call is passed over for: a run that a kick ended, or an exit that
 * was finished, where the host has gone on to its next call already. 1: one was.
 */
static int pass_run(struct play_call *call, const struct cassette_item *item)
{
	struct play_vcpu *v = call->vcpu;
	struct cassette_exit_room room = {0};
	struct impost_exit exit;
	bool passes;

	if (!v || (item->op != CASSETTE_RUN && item->op != CASSETTE_COMPLETE) || item->error ||
	    v->pending)
		return 0;
	passes = !cassette_take_exit(item->results, &room, &exit) &&
		 (exit.kind == IMPOST_EXIT_INTR || exit.kind == IMPOST_EXIT_NONE);
	cassette_exit_room_free(&room);
	return passes && !play_take_answer(v, item) && !play_next(call->play);
}

/* Compares the call with what stands at the cursor. 0: it is that. 1: look again. */
static int32_t compare(struct play_call *call, enum play_look look,
		       const struct cassette_item *item)
{
	bool several = !call->vcpu && call->play->vcpus > 1;

	switch (look) {
	case PLAY_STOPPED:
		return play_stopped(call->play);
	case PLAY_MINE:
		if (item->op == call->op && same_args(item->args, call->args))
			return 0;
		if (item->op != call->op && pass_run(call, item))
			return 1;
		/* The VM's calls come from several threads: another may make this one first. */
		if (!several || call->play->err || !play_patience(call))
			return play_diverged(call, item);
		break;
	case PLAY_ENDED:
		return play_diverged(call, item);
	default:
		if (!play_patience(call))
			return play_diverged(call, item);
	}
	play_sleep(call->play, call->lane, atomic_load(&call->lane->turn), play_patience(call));
	return 1;
}

int32_t play_enter(struct play_call *call)
{
	struct mock_play *p = call->play;
	const struct cassette_item *item = NULL;
	int32_t r = cassette_values_end(&call->values->values, &call->args);

	pthread_mutex_lock(&p->lock);
	if (r)
		r = mock_error(p->vm, r, "out of memory");
	else
		do {
			enum play_look look = play_look(p, call->lane, &item);

			r = compare(call, look, item);
		} while (r > 0);
	if (!r && (!item || item->error > 0)) {
		r = -IMPOST_EFORMAT;
		play_broken(p, r);
	}
	call->item = item;
	return r ? play_leave(call, r) : 0;
}

int32_t play_leave(struct play_call *call, int32_t result)
{
	give_values(call);
	pthread_mutex_unlock(&call->play->lock);
	return result;
}

int32_t play_said(const struct play_call *call)
{
	const struct cassette_item *item = call->item;

	if (!item->error)
		return 0;
	return mock_error(call->play->vm, item->error, "%s",
			  *item->text ? item->text : "recorded without a text");
}

int32_t play_end(struct play_call *call, int32_t result)
{
	int32_t err = play_next(call->play);

	return play_leave(call, err ? err : result);
}

int32_t play_plain(struct play_call *call)
{
	int32_t err = play_enter(call);

	return err ? err : play_end(call, play_said(call));
}

/* --- what is still to come --- */

static void note_intr(struct mock_play *p, const struct cassette_item *item)
{
	struct cassette_exit_room room = {0};
	struct play_lane *lane = find_lane(p, item->lane);
	struct impost_exit exit;

	if (item->op != CASSETTE_RUN || item->error || !lane)
		return;
	if (!cassette_take_exit(item->results, &room, &exit) && exit.kind == IMPOST_EXIT_INTR)
		lane->last_intr = item->number;
	cassette_exit_room_free(&room);
}

/*
 * By a reader of its own, once, when the first kick comes: few hosts kick. Where the file cannot be
 * read to its end, there is nothing ahead in what cannot.
 */
static void look_for_intrs(struct mock_play *p)
{
	const struct cassette_item *item;
	struct cassette_reader *reader;
	char why[256];

	p->looked = true;
	if (cassette_reader_open(p->path, &reader, why, sizeof(why)))
		return;
	while (!cassette_reader_peek(reader, &item) && item->kind != CASSETTE_END &&
	       item->kind != CASSETTE_CUT) {
		if (item->kind == CASSETTE_CALL)
			note_intr(p, item);
		cassette_reader_next(reader);
	}
	cassette_reader_close(reader);
}

bool play_intr_ahead(struct mock_play *p, struct play_lane *lane, uint64_t number)
{
	if (!p->looked)
		look_for_intrs(p);
	return lane->last_intr >= number;
}
