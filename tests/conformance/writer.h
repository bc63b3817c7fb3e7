/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes where it is told to: by a few instructions, or, on the mock, by its script.
 */
#ifndef CONFORMANCE_WRITER_H
#define CONFORMANCE_WRITER_H

#include "common.h"

#define PAGE IMPOST_PAGE_SIZE

/* What one call can write, and how wide each write is. */
#define WRITER_MOST  2048u
#define WRITER_BYTES 8u

/* Vcpus that can write at once, each with a list of its own in RAM. */
#define WRITERS 4u

struct writer {
	struct box *box;
	struct impost_vcpu *vcpu;
	uint32_t id;				/* of the vCPU, below WRITERS */
	const struct impost_mock_control *mock; /* or NULL */
	void *handle;
};

/* Makes VCPU ready; skips the test where neither instructions nor a script is played. */
void writer_init(struct writer *w, struct box *box, struct impost_vcpu *vcpu);

/* Tells the guest to write 8 bytes at each of N addresses; it does so when it runs, and then exits
 * with a write to port 0x80. */
void writer_load(struct writer *w, const uint64_t *gpas, uint32_t n);

/* The same, and has it done. */
void writer_write(struct writer *w, const uint64_t *gpas, uint32_t n);

/* A region of NPAGES pages at GPA. */
void add_region(struct box *box, uint64_t gpa, uint64_t npages);

/* Starts the log of the region at GPA, and clears what it starts with: all of it with
 * dirty-initially-set, nothing without. */
void log_start(struct box *box, uint64_t gpa, uint64_t npages);

/* ORs the log into BITMAP, and clears what was fetched. */
void log_take(struct box *box, uint64_t gpa, uint64_t npages, uint64_t *bitmap);

/* The same; true if the hypervisor has lost track, and said so: see dirty_fetch in backend.h. */
bool log_take_or_lost(struct box *box, uint64_t gpa, uint64_t npages, uint64_t *bitmap);

static inline uint64_t words_for(uint64_t npages)
{
	return (npages + 63) / 64;
}

static inline void set_bit(uint64_t *bitmap, uint64_t page)
{
	bitmap[page / 64] |= UINT64_C(1) << (page % 64);
}

static inline int has_bit(const uint64_t *bitmap, uint64_t page)
{
	return (int)(bitmap[page / 64] >> (page % 64) & 1);
}

/* A sequence of its own for each starting value, which is not 0 (Marsaglia's xorshift64). */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

#endif
