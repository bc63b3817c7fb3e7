/* SPDX-License-Identifier: Apache-2.0 */
/* A VM that plays a cassette: its lanes, their turns, and what the files of it share. */
#ifndef MOCK_CASSETTE_PLAY_H
#define MOCK_CASSETTE_PLAY_H

#include <cassette.h>

#include "internal.h"

/*
 * A lane is what happens on one vCPU, or on the VM apart from its vCPUs. Its calls are made one
 * after the other; those of several lanes in the order in which they were recorded.
 */
struct play_lane {
	struct play_lane *next;
	uint32_t id;
	bool ended;	  /* its vCPU is gone: what is left of it is passed over */
	uint32_t waiting; /* calls that wait for their turn */
	atomic_uint turn; /* futex: changes when one of them should look again */
	uint64_t
		last_intr; /* number of the last call that gave INTR; once the tape was looked at */
};

/* What turns a call's arguments into a map; one for each call that is under way. */
struct play_values {
	struct play_values *next;
	struct cassette_values values;
};

struct mock_play {
	struct mock_vm *vm;
	const char *path;
	uint64_t limit_ns; /* how long a call waits for the others, while none of them moves */

	pthread_mutex_t lock; /* of all below, and of the lanes but for what is atomic */
	pthread_cond_t left_run;
	struct cassette_reader *reader;
	struct play_lane vm_lane;
	struct play_lane *lanes;    /* of vCPUs, also of those that are gone */
	struct play_values *values; /* not in use */
	uint32_t vcpus;		    /* that live */
	uint32_t running;
	uint32_t sleepers; /* calls that wait, in all lanes */
	bool tells_events; /* the VM's events make its event_fd readable */
	uint64_t moves;	   /* goes up when the cursor moves */
	uint64_t played, left;
	bool looked; /* for last_intr */
	int32_t err; /* what stopped it, or 0 */
	bool untold; /* no call has said so */
	/* It is that the recorded host had the guest stop, for good, and this one had not. */
	bool unstopped;
	char text[1024];
};

struct play_vcpu {
	const struct impost_vcpu_ops *ops; /* first: see ops.c */
	struct mock_vm *vm;
	struct play_lane *lane;

	atomic_bool kicked;
	/* The host has got an INTR in another place than the recording has it. */
	bool owed;
	/* The last run ended with a recorded INTR: perhaps of another kick than the one recorded.
	 */
	bool spent;

	/* Of the thread inside. */
	struct impost_exit exit; /* the last */
	bool pending;		 /* the host's answer to it has not been taken */
	struct cassette_exit_room room;
	struct cassette_values answer;
	struct cassette_span args; /* the answer that was taken, and has yet to be compared */
};

/* A call that the host makes. */
struct play_call {
	struct mock_play *play;
	struct play_lane *lane;
	struct play_vcpu *vcpu; /* NULL: of the VM */
	enum cassette_op op;
	struct play_values *values;
	struct cassette_span args;
	const struct cassette_item *item; /* what was recorded, while the lock is held */
	uint64_t moves, since;		  /* when the cursor was last seen to move */
};

/* --- cassette_turns.c --- */

/* Begins OP on VM, or on V of it. Its arguments are to be put into what is returned; NULL: there is
 * no memory, and the error text is set. */
struct cassette_values *play_begin(struct play_call *call, struct mock_vm *vm, struct play_vcpu *v,
				   enum cassette_op op);

/*
 * Waits for the call's turn and compares it. 0: the lock is held, call->item is what was recorded,
 * and play_end() follows. Else the error is the host's, its text is set, and the call is over.
 */
int32_t play_enter(struct play_call *call);

/* Goes on behind the call, whose result is RESULT, and lets go. Returns RESULT, or what is wrong.
 */
int32_t play_end(struct play_call *call, int32_t result);
/* Lets go with the cursor where it is. */
int32_t play_leave(struct play_call *call, int32_t result);

/* Both, for a call that gives nothing but its error. */
int32_t play_plain(struct play_call *call);

/* The recorded call's error with its text, or 0. */
int32_t play_said(const struct play_call *call);

/* The results of the call at the cursor are none: ERR of cassette_take_*(). Returns it. */
int32_t play_broken(struct mock_play *p, int32_t err);

/* What stands at the cursor, from LANE's side. The lock is held. */
enum play_look { PLAY_MINE, PLAY_OTHERS, PLAY_ENDED, PLAY_STOPPED };
enum play_look play_look(struct mock_play *p, const struct play_lane *lane,
			 const struct cassette_item **ret_item);

/* Goes on behind the item at the cursor; memory that the guest wrote becomes so. With the lock. */
int32_t play_next(struct mock_play *p);

/* Goes on behind it without a look at its memory. */
void play_skip(struct mock_play *p);

/* Sleeps until LANE should look again, which was last done when its turn was TURN, or NS have
 * passed. The lock is let go meanwhile. False: a signal came. */
bool play_sleep(struct mock_play *p, struct play_lane *lane, unsigned turn, uint64_t ns);

/* How long CALL may still wait, in ns; 0: no longer. */
uint64_t play_patience(struct play_call *call);

/* Wakes LANE. Async-signal-safe. */
void play_wake(struct play_lane *lane);

/* The host's CALL is not what was recorded, which ITEM is: stops the replay. */
int32_t play_diverged(struct play_call *call, const struct cassette_item *item);
/* Stops it with a sentence of its own. */
int32_t play_stop(struct mock_play *p, int32_t err, const char *fmt, ...) IMPOST_PRINTF(3, 4);
/* The error and the text that stopped it. */
int32_t play_stopped(struct mock_play *p);

/* Whether LANE's recorded calls from the one at the cursor on have an INTR among them. */
bool play_intr_ahead(struct mock_play *p, struct play_lane *lane, uint64_t number);

/* Passes over what is left, as far as its lanes have ended. */
void play_settle(struct mock_play *p);

/* --- cassette_memory.c --- */

/* Takes in what the guest wrote until the call at the cursor. */
int32_t play_memory(struct mock_play *p);
/* Compares memory with ITEM's checksums. */
int32_t play_sums(struct mock_play *p, const struct cassette_item *item);

/* --- cassette_vm.c, cassette_vcpu.c, cassette_run.c --- */
extern const struct impost_vm_ops play_vm_ops;
extern const struct impost_vcpu_ops play_vcpu_ops;

int32_t play_vcpu_create(void *vm, uint32_t id, void **ret_vcpu);
/* State of the VM (V NULL) or of V. */
int32_t play_state_get(struct mock_vm *vm, struct play_vcpu *v, uint32_t section, void *buf,
		       uint32_t capacity, uint32_t *ret_size);
int32_t play_run(void *vcpu, struct impost_exit *ret_exit);
int32_t play_complete(void *vcpu, struct impost_exit *ret_exit);
/* Compares the answer that V keeps with what ITEM, a run or complete, has. */
int32_t play_take_answer(struct play_vcpu *v, const struct cassette_item *item);

#endif
