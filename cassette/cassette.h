/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cassettes: what a backend was asked and what it said, as a CBOR sequence (RFC 8742). The `record`
 * layer writes them, the mock plays them. docs/cassette-format.md has the format.
 *
 * For each operation there is one function that turns its arguments into named values, and one for
 * its results, which both sides use: so two calls are the same when their encodings are, and where
 * they are not the difference is told by name.
 *
 * Nothing here locks. Every byte of a file is hostile to the reader: what it keeps is bounded by
 * CASSETTE_ITEM_MAX and by what the file really has, never by what the file says.
 */
#ifndef CASSETTE_H
#define CASSETTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/backend.h>

#define CASSETTE_VERSION	      1u
#define CASSETTE_ITEM_MAX	      (16u << 20) /* bytes of an item in the file */
#define CASSETTE_MEMORY_MAX	      (1u << 20)  /* bytes of a memory item, unpacked */
#define CASSETTE_SUM_PIECE	      (2u << 20)  /* bytes of memory that one checksum is of */
#define CASSETTE_TEXT_MAX	      1024u	  /* of an error */

#define CASSETTE_OP(NAME, name, lane) CASSETTE_##NAME,
enum cassette_op {
#include "ops.def"
	CASSETTE_OPS
};
#undef CASSETTE_OP

/* The name of OP, "?" if there is none. */
const char *cassette_op_name(enum cassette_op op);
/* The lane that OP's calls stand in: the VM's (true), or its vCPU's. */
bool cassette_op_is_vm(enum cassette_op op);

/* The VM's lane; the others are named by their vCPU's id. */
#define CASSETTE_LANE_VM UINT32_MAX

/* Encoded CBOR, somebody else's. */
struct cassette_span {
	const uint8_t *data;
	size_t len;
};

/* --- named values: the arguments or the results of one call --- */

#define CASSETTE_NAMES_MAX 24u

/* Zeroed to begin with. `bytes` is kept from call to call. */
struct cassette_values {
	uint8_t *bytes; /* values, then the map of them all */
	size_t len, capacity;
	struct {
		const char *name;
		size_t at, len;
	} value[CASSETTE_NAMES_MAX];
	uint32_t count;
	bool failed; /* there was no memory */
};

/* Empties VALUES. */
void cassette_values_begin(struct cassette_values *values);

/*
 * Gives the map of all values, with its keys in the order of deterministic CBOR; no bytes at all if
 * there are none. Holds until VALUES are begun again. -ENOMEM.
 */
int cassette_values_end(struct cassette_values *values, struct cassette_span *ret_map);

void cassette_values_free(struct cassette_values *values);

/* NAME is not copied. */
void cassette_put_uint(struct cassette_values *values, const char *name, uint64_t value);
void cassette_put_bool(struct cassette_values *values, const char *name, bool value);
void cassette_put_bytes(struct cassette_values *values, const char *name, const void *data,
			size_t len);
void cassette_put_text(struct cassette_values *values, const char *name, const char *text);

/*
 * What differs between the maps RECORDED and PRESENT, as text of SIZE bytes at most: "level:
 * recorded 1, now 0; ...". Returns the length of the whole, as snprintf does; 0: nothing differs.
 */
size_t cassette_difference(struct cassette_span recorded, struct cassette_span present, char *text,
			   size_t size);

/* The map as text, "gsi 4, level 1", in the same way. */
size_t cassette_show(struct cassette_span map, char *text, size_t size);

/*
 * --- arguments: between cassette_values_begin() and _end() ---
 *
 * Operations that are not here have none (vm_destroy, pause, resume, event, event_fd, vcpu_destroy,
 * nmi, cpuid_get).
 */
void cassette_args_vm_create(struct cassette_values *v, const struct impost_vm_args *args);
void cassette_args_vcpu_create(struct cassette_values *v, uint32_t id);
/* mem_add, mem_provide: of hva and fd, that they are there. */
void cassette_args_slot(struct cassette_values *v, const struct impost_slot *slot);
void cassette_args_mem_remove(struct cassette_values *v, uint32_t slot);
/* io_claim, io_release */
void cassette_args_io_range(struct cassette_values *v, uint32_t space, uint64_t first,
			    uint64_t last);
void cassette_args_irq_line(struct cassette_values *v, uint32_t gsi, uint32_t level);
void cassette_args_msi(struct cassette_values *v, uint64_t address, uint32_t data);
void cassette_args_gsi_routes(struct cassette_values *v, const struct impost_gsi_route *routes,
			      uint32_t count);
void cassette_args_msr_exits(struct cassette_values *v, const struct impost_msr_range *ranges,
			     uint32_t count, uint32_t unknown);
/* cpuid_set, vm_cpuid_set */
void cassette_args_cpuid(struct cassette_values *v, const struct impost_x86_cpuid *entries,
			 uint32_t count);
/* state_get, vm_state_get: the room for it is not compared. */
void cassette_args_state_get(struct cassette_values *v, uint32_t section);
/* state_set, vm_state_set */
void cassette_args_state_set(struct cassette_values *v, uint32_t section, const void *buf,
			     uint32_t bytes);
/*
 * run, complete: what the host has answered to PENDING, the exit that came last on this vCPU, whose
 * data is still there. NULL: none, or it was answered by an earlier call. A run that gave an INTR
 * which is not recorded leaves its answer to the next run or complete.
 */
void cassette_args_run(struct cassette_values *v, const struct impost_exit *pending);
void cassette_args_irq_inject(struct cassette_values *v, uint32_t vector);
void cassette_args_irq_window(struct cassette_values *v, uint32_t on);
void cassette_args_guest_debug(struct cassette_values *v, const struct impost_guest_debug *debug);
void cassette_args_translate(struct cassette_values *v, uint64_t gva);
void cassette_args_msrs_get(struct cassette_values *v, const struct impost_x86_msr *msrs,
			    uint32_t count);
void cassette_args_msrs_set(struct cassette_values *v, const struct impost_x86_msr *msrs,
			    uint32_t count);

/*
 * --- results: ERR is what the operation returned ---
 *
 * Each has a function that takes them out again. These return 0, or -IMPOST_EFORMAT: the results
 * are not those of such a call. Outputs are then untouched. Operations that are not here give
 * nothing but the error.
 */

/* state_get, vm_state_get. With -ENOSPC the size alone. */
void cassette_results_state_get(struct cassette_values *v, int32_t err, const void *buf,
				uint32_t size);
/* *RET_DATA is of the results'. With an error of the call *ret_size is set if it was recorded. */
int cassette_take_state_get(struct cassette_span results, int32_t err,
			    struct cassette_span *ret_data, uint32_t *ret_size);

/* msrs_get: values of the first DONE. msrs_set: how many. */
void cassette_results_msrs_get(struct cassette_values *v, const struct impost_x86_msr *msrs,
			       uint32_t done);
void cassette_results_msrs_set(struct cassette_values *v, uint32_t done);
/* *ret_done is never more than COUNT; the first *ret_done get their values. */
int cassette_take_msrs_get(struct cassette_span results, struct impost_x86_msr *msrs,
			   uint32_t count, uint32_t *ret_done);
int cassette_take_msrs_set(struct cassette_span results, uint32_t count, uint32_t *ret_done);

/* cpuid_get. With -ENOSPC the number alone, as with ENTRIES NULL. */
void cassette_results_cpuid_get(struct cassette_values *v, int32_t err,
				const struct impost_x86_cpuid *entries, uint32_t count);
/* ENTRIES of CAPACITY: -ENOSPC if there are more, with *ret_count set. ERR 0: all are there. */
int cassette_take_cpuid_get(struct cassette_span results, int32_t err,
			    struct impost_x86_cpuid *entries, uint32_t capacity,
			    uint32_t *ret_count);

void cassette_results_translate(struct cassette_values *v, uint64_t gpa);
int cassette_take_translate(struct cassette_span results, uint64_t *ret_gpa);

/* run, complete, event. */
void cassette_results_exit(struct cassette_values *v, const struct impost_exit *exit);

/* Where the pointers of an exit lead. Zeroed to begin with; holds one exit at a time. */
struct cassette_exit_room {
	uint64_t *data; /* I/O data, payload, failure's numbers */
	size_t capacity;
	char *text; /* failure's text, other's name */
	uint64_t value;
	uint8_t refused;
};

/* *ret_exit points into ROOM. Also -ENOMEM. */
int cassette_take_exit(struct cassette_span results, struct cassette_exit_room *room,
		       struct impost_exit *ret_exit);
void cassette_exit_room_free(struct cassette_exit_room *room);

/* --- the header: what the backend is --- */

struct cassette_header {
	const char *backend, *version; /* the backend's */
	struct impost_caps caps;       /* as the recorded host saw them */
	struct impost_x86_cpuid *cpuid;
	uint32_t ncpuid;
	uint32_t *msrs;
	uint32_t nmsrs;
	struct impost_x86_msr *feature_msrs;
	uint32_t nfeature_msrs;
};

/* --- guest memory's checksums --- */

/* A piece of memory as the summing reads it. */
struct cassette_memory {
	uint64_t gpa, bytes;
	const void *hva;
};

struct cassette_sum {
	uint64_t gpa; /* where the piece begins; the next begins at a multiple of CASSETTE_SUM_PIECE
		       */
	uint64_t sum; /* XXH3, 64 bits, of its bytes */
};

/*
 * Checksums of MEMORY, COUNT pieces sorted by gpa: one for each part of CASSETTE_SUM_PIECE that is
 * not all zero. *RET_SUMS is to be freed by free(). -ENOMEM; -EFAULT: a file that is mapped there
 * has become shorter.
 */
int cassette_sum(const struct cassette_memory *memory, size_t count, struct cassette_sum **ret_sums,
		 size_t *ret_count);

/*
 * --- writing ---
 *
 * After a failure of the file each call returns it again: -ENOSPC, -EIO, ...; -ENOMEM. What was
 * whole in the file before stays readable.
 */
struct cassette_writer;

/*
 * Empties the file PATH, or creates it for its owner alone, and writes the header. -EBUSY: another
 * recording is being written to it, or it is being played; -ENXIO: a pipe that nobody reads.
 */
int cassette_writer_open(const char *path, const struct cassette_header *header,
			 struct cassette_writer **ret_writer);

/* What the host's own machine was: the value TEXT of KEY in [SECTION]. */
int cassette_write_host(struct cassette_writer *writer, const char *section, const char *key,
			const char *text);

/* A call, which MEMORY_ITEMS memory items follow. TEXT: the error's, or NULL. */
int cassette_write_call(struct cassette_writer *writer, uint32_t lane, enum cassette_op op,
			struct cassette_span args, int32_t error, const char *text,
			struct cassette_span results, uint32_t memory_items);

/* One of them: an array of pieces as cassette_pieces_*() make it. */
struct cassette_pieces {
	uint8_t *bytes;
	size_t len, capacity;
	uint32_t count;
	bool failed;
};
void cassette_pieces_begin(struct cassette_pieces *pieces);
/* DATA at GPA. LEN 4096 at the most. */
void cassette_pieces_data(struct cassette_pieces *pieces, uint64_t gpa, const void *data,
			  size_t len);
/* LEN zero bytes at GPA; LEN 0: the page of GPA was written, and is as it was. */
void cassette_pieces_zero(struct cassette_pieces *pieces, uint64_t gpa, uint64_t len);
/* Whether another page's pieces have room in this item. */
bool cassette_pieces_full(const struct cassette_pieces *pieces);
void cassette_pieces_free(struct cassette_pieces *pieces);
int cassette_write_memory(struct cassette_writer *writer, const struct cassette_pieces *pieces);

/* When the checksums were taken: before the first run, which that lane's next run is, goes in; or
 * after what the call just before did. */
enum cassette_when { CASSETTE_BEFORE, CASSETTE_AFTER };
int cassette_write_sums(struct cassette_writer *writer, uint32_t lane, enum cassette_when when,
			const struct cassette_sum *sums, size_t count);

/* Hands what was written to the kernel: it outlives the process. */
int cassette_writer_flush(struct cassette_writer *writer);

/* Marks the end and closes. Returns the first failure there was; WRITER is gone anyway. NULL: 0. */
int cassette_writer_close(struct cassette_writer *writer);

/* --- reading --- */

struct cassette_reader;

enum cassette_kind {
	CASSETTE_CALL,
	CASSETTE_SUMS,
	CASSETTE_END, /* the recording was ended as it should be */
	CASSETTE_CUT, /* the file ends without that: `why` says where */
};

/* What stands at the cursor. Its pointers hold until cassette_reader_next(). */
struct cassette_item {
	enum cassette_kind kind;
	uint64_t number; /* of the call, from 1; of others: of the call before */
	uint64_t offset; /* in the file */
	uint32_t lane;	 /* CALL, SUMS */

	/* CALL */
	enum cassette_op op;
	int32_t error;
	const char *text; /* of the error; "" if there is none */
	struct cassette_span args, results;

	/* SUMS */
	enum cassette_when when;
	const struct cassette_sum *sums;
	size_t nsums;

	/* CUT */
	const char *why;
};

/*
 * Opens PATH and reads the header. -IMPOST_EFORMAT: no cassette, or one of a later version; errno
 * values of open and read; -ENOMEM. On failure WHY of SIZE bytes says what is wrong.
 */
int cassette_reader_open(const char *path, struct cassette_reader **ret_reader, char *why,
			 size_t size);
void cassette_reader_close(struct cassette_reader *reader);

/* Lives as long as the reader. */
const struct cassette_header *cassette_reader_header(const struct cassette_reader *reader);

/*
 * The host's values, which stand before the first run: FN is called for each, in order; what it
 * returns other than 0 ends it and is returned. A reader of its own: PATH is opened for it. Else as
 * cassette_reader_open().
 */
typedef int (*cassette_host_fn)(void *opaque, const char *section, const char *key,
				const char *text);
int cassette_read_host(const char *path, cassette_host_fn fn, void *opaque, char *why, size_t size);

/*
 * What stands at the cursor: the same until cassette_reader_next(). The file's order is that in
 * which the calls ended; a lane's next call is the first of that lane from the cursor on, and is
 * due when the cursor is there. -IMPOST_EFORMAT, -EIO, -ENOMEM: cassette_reader_why().
 */
int cassette_reader_peek(struct cassette_reader *reader, const struct cassette_item **ret_item);

/*
 * The memory that the guest wrote until the call at the cursor returned: FN is called for each
 * piece, in order. DATA NULL: LEN zero bytes, or with LEN 0 the page was written and is as it was.
 * A piece with DATA lies in one page. Once for each call, or never. Errors as peek's, or what FN
 * returned.
 */
typedef int (*cassette_memory_fn)(void *opaque, uint64_t gpa, const void *data, uint64_t len);
int cassette_reader_memory(struct cassette_reader *reader, cassette_memory_fn fn, void *opaque);

/* Goes on behind the item and its memory. Not behind END and CUT. Errors show at the next peek. */
void cassette_reader_next(struct cassette_reader *reader);

/* What was wrong with the file when a call failed, and where in it. */
const char *cassette_reader_why(const struct cassette_reader *reader);

#endif
