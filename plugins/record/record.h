/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `record`: its objects, and what its files offer to each other. */
#ifndef RECORD_H
#define RECORD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <impost/backend.h>

#include <cassette.h>

#include "layer.h"
#include "layer_record.h"

#define PAGE 4096u

/* What of the guest's memory is recorded, and when. */
enum memory_mode { MEMORY_EXITS, MEMORY_END, MEMORY_NONE };

/* The data of an open layer. */
struct record {
	char *file;
	enum memory_mode memory;
	bool manual;	  /* below fetches and clears in two steps */
	atomic_bool used; /* there is, or was, a VM: its cassette is the file */
};

/* A piece of guest memory. */
struct slot {
	struct slot *next; /* by gpa */
	struct impost_slot s;
	uint64_t pages;
	bool writable;	    /* by the guest */
	bool provided;	    /* by what is below: it goes when the slot does */
	bool going;	    /* it is being removed: nothing below is asked about it */
	uint8_t *shadow;    /* what the cassette says that is there; NULL: not yet known */
	uint64_t *pending;  /* pages that the guest wrote since the shadow was made right */
	uint64_t *host_log; /* the host's dirty log; NULL: it has none */
};

/* The data of a VM. */
struct record_vm {
	struct layer_vm *vm;
	struct impost_host host; /* that below is given */
	pthread_mutex_t lock;	 /* of all below */
	struct cassette_writer *writer;
	bool failed; /* the file cannot be written any more; it has been said */
	bool started;
	bool ran;	 /* since the guest's writes were last looked for */
	uint32_t inside; /* vCPUs inside run or complete */
	uint32_t nvcpus;
	uint64_t flushed; /* when the file was written to last; ns of CLOCK_MONOTONIC */
	struct slot *slots;
	struct cassette_pieces pieces;
};

/* The data of a vCPU. Of its thread, but for `kicked`. */
struct record_vcpu {
	atomic_bool kicked; /* since the last INTR */
	bool pending;	    /* `exit` has not been answered by a call yet */
	bool carried;	    /* `args` are those of a run that is not recorded */
	struct impost_exit exit;
	struct cassette_values args, results;
};

/* calls.c: how each operation is recorded. */
struct call {
	enum cassette_op op;
	void (*args)(const struct layer_call *call, struct cassette_values *v);
	void (*results)(const struct layer_call *call, int32_t err, struct cassette_values *v);
};

/* NULL: calls of OP are not recorded. */
const struct call *record_call(uint32_t op);

/*
 * memory.c: the guest's memory, and who wrote it. The lock is held, but where it says otherwise.
 */

/* The slot of mem_add and mem_provide, HVA known or not. NULL: no memory. No lock. */
struct slot *memory_slot(struct record_vm *rec, const struct impost_slot *args);
void memory_free(struct slot *slot);
/* The slot that has been added is one of the VM's from now on. */
void memory_join(struct record_vm *rec, struct slot *slot);
struct slot *memory_find(struct record_vm *rec, uint32_t number);
void memory_leave(struct record_vm *rec, struct slot *slot);

/* Makes SLOT's shadow what is in memory now. Of a slot that nobody else knows: no lock. */
void memory_copy(struct slot *slot);

/* Asks below what the guest wrote. Into each slot's `pending` and `host_log`. */
int32_t memory_fetch(struct record_vm *rec, struct slot *slot);

/* Looks for what differs from the shadow, at the end of a recording in mode `end`. */
void memory_compare(struct record_vm *rec);

/* How many items the pending pages are written in. The first is made then. */
uint32_t memory_items(struct record_vm *rec);
/* Writes them; what is pending is none then. */
int memory_write(struct record_vm *rec, uint32_t items);

/* Writes the checksums. */
int memory_sums(struct record_vm *rec, uint32_t lane, enum cassette_when when);

/* The operations of the dirty log, the layer's own. They take the lock. */
int32_t memory_dirty(struct layer_call *call);

#endif
