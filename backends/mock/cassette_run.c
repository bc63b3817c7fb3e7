/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a vCPU that plays a cassette: the host's answer is compared, the recorded exit comes when
 * it is due, and kicks meet the INTRs that were recorded.
 *
 * A kick ends the run that is recorded to end with INTR, if there is one to come; else the run
 * under way. Threads do not meet as they did: a hold, say, kicks a vCPU or finds it outside. So a
 * kick may have met the INTR of another, which then comes later, and is waited for; and a
 * recorded INTR whose kick does not come is passed over if the host ran on after it; and a kicked
 * run that waits for others, who wait for it perhaps, does not do so for long.
 */
#include <string.h>

#include "cassette_play.h"

#define GRACE_NS UINT64_C(200000000)
#define AGAIN	 1

/* A run or complete that is under way. */
struct turn {
	struct play_call call; /* for what is told of it */
	struct play_vcpu *v;
	uint64_t passed; /* a recorded INTR that was passed over, which no kick has come for */
	uint64_t begun;
};

/* --- the host's answer --- */

static bool wants_answer(const struct impost_exit *exit)
{
	return exit->kind == IMPOST_EXIT_IO || exit->kind == IMPOST_EXIT_MMIO ||
	       exit->kind == IMPOST_EXIT_RDMSR || exit->kind == IMPOST_EXIT_WRMSR ||
	       exit->kind == IMPOST_EXIT_HYPERCALL;
}

/* Takes the answer to the last exit, unless that was done. */
static int32_t keep_answer(struct play_vcpu *v)
{
	int err;

	if (!v->pending)
		return 0;
	cassette_values_begin(&v->answer);
	cassette_args_run(&v->answer, &v->exit);
	err = cassette_values_end(&v->answer, &v->args);
	if (err)
		return mock_error(v->vm, err, "out of memory");
	v->pending = false;
	return 0;
}

int32_t play_take_answer(struct play_vcpu *v, const struct cassette_item *item)
{
	struct play_call call = {
		.play = v->vm->play, .lane = v->lane, .vcpu = v, .op = item->op, .args = v->args};

	if (item->args.len != v->args.len ||
	    (v->args.len && memcmp(item->args.data, v->args.data, v->args.len) != 0))
		return play_diverged(&call, item);
	v->args = (struct cassette_span){0};
	return 0;
}

/* --- exits --- */

static int32_t give_intr(struct impost_exit *ret_exit)
{
	memset(ret_exit, 0, sizeof(*ret_exit));
	ret_exit->size = sizeof(*ret_exit);
	ret_exit->kind = IMPOST_EXIT_INTR;
	return 0;
}

/* The recorded call is this one: takes its exit and goes on. */
static int32_t give_exit(struct play_vcpu *v, const struct cassette_item *item,
			 const struct impost_exit *exit, struct impost_exit *ret_exit)
{
	int32_t err = play_take_answer(v, item);

	if (!err)
		err = play_next(v->vm->play);
	if (err)
		return err;
	v->exit = *exit;
	v->pending = wants_answer(exit);
	v->spent = false;
	*ret_exit = *exit;
	return 0;
}

/* A recorded call that failed. The exit before is as it was, and may be answered again. */
static int32_t give_failure(struct turn *t, const struct cassette_item *item)
{
	bool answered = t->v->args.len;
	int32_t said, err = play_take_answer(t->v, item);

	if (err)
		return err;
	t->v->pending = answered;
	t->call.item = item;
	said = play_said(&t->call);
	err = play_next(t->call.play);
	return err ? err : said;
}

/* --- waiting --- */

static uint64_t grace_left(struct turn *t)
{
	uint64_t limit = t->call.play->limit_ns, now = mock_now_ns();

	if (limit > GRACE_NS)
		limit = GRACE_NS;
	if (!t->begun)
		t->begun = now;
	return now - t->begun < limit ? limit - (now - t->begun) : 0;
}

/* ITEM is what would have followed. */
static int32_t not_kicked(struct turn *t, const struct cassette_item *item)
{
	t->call.play->unstopped = item->kind == CASSETTE_CALL && item->op == CASSETTE_VCPU_DESTROY;
	return play_stop(t->call.play, -IMPOST_EDIVERGED,
			 "call %llu (vCPU %u, run): recorded INTR of a kick, now no kick came",
			 (unsigned long long)t->passed, t->v->lane->id);
}

/* Waits for the others, or for a kick. ITEM is due. */
static int32_t wait_on(struct turn *t, const struct cassette_item *item, unsigned turn,
		       struct impost_exit *ret_exit)
{
	bool kicked = atomic_load(&t->v->kicked);
	uint64_t ns = play_patience(&t->call);

	if (kicked && !grace_left(t)) {
		atomic_store(&t->v->kicked, false);
		t->v->owed = true;
		return give_intr(ret_exit);
	}
	if (!ns)
		return t->passed ? not_kicked(t, item) : play_diverged(&t->call, item);
	if (kicked && grace_left(t) < ns)
		ns = grace_left(t);
	return play_sleep(t->call.play, t->v->lane, turn, ns) ? AGAIN : give_intr(ret_exit);
}

/* The recorded run ended with INTR. */
static int32_t play_intr(struct turn *t, const struct cassette_item *item, unsigned turn,
			 struct impost_exit *ret_exit)
{
	struct play_vcpu *v = t->v;
	uint64_t ns = play_patience(&t->call);
	bool kicked = atomic_exchange(&v->kicked, false);
	int32_t err;

	if (!kicked && !v->owed && grace_left(t)) {
		if (grace_left(t) < ns)
			ns = grace_left(t);
		return play_sleep(t->call.play, v->lane, turn, ns) ? AGAIN : give_intr(ret_exit);
	}
	if (!kicked && !v->owed)
		t->passed = item->number;
	v->owed = false;
	v->spent = true;
	err = play_take_answer(v, item);
	if (!err)
		err = play_next(t->call.play);
	if (err)
		return err;
	return t->passed ? AGAIN : give_intr(ret_exit);
}

/* --- run --- */

/* The vCPU's own recorded call is due. */
static int32_t play_mine(struct turn *t, const struct cassette_item *item, unsigned turn,
			 struct impost_exit *ret_exit)
{
	struct play_vcpu *v = t->v;
	struct impost_exit exit;
	int32_t err;

	if (item->op != CASSETTE_RUN && item->op != CASSETTE_COMPLETE)
		return t->passed || v->spent ? wait_on(t, item, turn, ret_exit)
					     : play_diverged(&t->call, item);
	if (item->error)
		return item->op == CASSETTE_RUN ? give_failure(t, item)
						: play_diverged(&t->call, item);
	/* The exit before has been answered, so that its room is free. */
	err = cassette_take_exit(item->results, &v->room, &exit);
	if (err)
		return play_broken(t->call.play, err);
	if (item->op == CASSETTE_COMPLETE) {
		if (exit.kind != IMPOST_EXIT_NONE)
			return play_diverged(&t->call, item);
		err = play_take_answer(v, item);
		if (!err)
			err = play_next(t->call.play);
		return err ? err : AGAIN;
	}
	if (exit.kind == IMPOST_EXIT_NONE) /* which complete may give, and no run does */
		return play_broken(t->call.play, -IMPOST_EFORMAT);
	if (exit.kind == IMPOST_EXIT_INTR)
		return play_intr(t, item, turn, ret_exit);
	return give_exit(v, item, &exit, ret_exit);
}

/* Whether a kick ends this run and not a recorded one. */
static bool is_kicked_here(struct turn *t, const struct cassette_item *item)
{
	if (!atomic_load(&t->v->kicked))
		return false;
	return t->passed || !play_intr_ahead(t->call.play, t->v->lane,
					     item->number + (item->kind != CASSETTE_CALL));
}

static int32_t run_on(struct turn *t, struct impost_exit *ret_exit)
{
	struct mock_play *p = t->call.play;
	unsigned turn = atomic_load(&t->v->lane->turn);
	const struct cassette_item *item;

	switch (play_look(p, t->v->lane, &item)) {
	case PLAY_STOPPED:
		return play_stopped(p);
	case PLAY_ENDED:
		if (p->vcpus == 1 && !t->passed && !t->v->spent && !atomic_load(&t->v->kicked) &&
		    !atomic_load(&p->vm->paused))
			return play_diverged(&t->call, item);
		break;
	default:
		break;
	}
	if (atomic_load(&p->vm->paused))
		return give_intr(ret_exit);
	if (is_kicked_here(t, item)) {
		atomic_store(&t->v->kicked, false);
		return give_intr(ret_exit);
	}
	if (item->kind == CASSETTE_CALL && item->lane == t->v->lane->id)
		return play_mine(t, item, turn, ret_exit);
	return wait_on(t, item, turn, ret_exit);
}

static struct turn begin(struct play_vcpu *v, enum cassette_op op)
{
	return (struct turn){
		.call = {.play = v->vm->play, .lane = v->lane, .vcpu = v, .op = op},
		.v = v,
	};
}

int32_t play_run(void *vcpu, struct impost_exit *ret_exit)
{
	struct play_vcpu *v = vcpu;
	struct mock_play *p = v->vm->play;
	struct turn t = begin(v, CASSETTE_RUN);
	int32_t r = keep_answer(v);

	if (r)
		return r;
	t.call.args = v->args;
	pthread_mutex_lock(&p->lock);
	p->running++;
	do
		r = run_on(&t, ret_exit);
	while (r == AGAIN);
	p->running--;
	if (atomic_load(&p->vm->paused))
		pthread_cond_broadcast(&p->left_run);
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* --- complete --- */

static int32_t complete_on(struct turn *t, struct impost_exit *ret_exit)
{
	struct play_vcpu *v = t->v;
	struct mock_play *p = t->call.play;
	unsigned turn = atomic_load(&v->lane->turn);
	const struct cassette_item *item;
	struct impost_exit exit;
	int32_t err;

	switch (play_look(p, v->lane, &item)) {
	case PLAY_STOPPED:
		return play_stopped(p);
	case PLAY_MINE:
		if (item->op != CASSETTE_COMPLETE)
			return 0;
		if (item->error)
			return give_failure(t, item);
		err = cassette_take_exit(item->results, &v->room, &exit);
		return err ? play_broken(p, err) : give_exit(v, item, &exit, ret_exit);
	default:
		if (!v->args.len || !grace_left(t))
			return 0;
		play_sleep(p, v->lane, turn, grace_left(t));
		return AGAIN;
	}
}

/* One that was not recorded, or is not due soon, leaves its answer to the next run. */
int32_t play_complete(void *vcpu, struct impost_exit *ret_exit)
{
	struct play_vcpu *v = vcpu;
	struct mock_play *p = v->vm->play;
	struct turn t = begin(v, CASSETTE_COMPLETE);
	struct impost_exit exit = {.size = sizeof(exit), .kind = IMPOST_EXIT_NONE};
	int32_t r = keep_answer(v);

	if (r)
		return r;
	t.call.args = v->args;
	pthread_mutex_lock(&p->lock);
	do
		r = complete_on(&t, &exit);
	while (r == AGAIN);
	pthread_mutex_unlock(&p->lock);
	if (!r)
		*ret_exit = exit;
	return r;
}
