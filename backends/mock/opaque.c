/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is the mock's alone in a vCPU's state: how far its script has been played, and whatever else
 * a test has put there. Opaque things lie one after the other in the section.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static const char backend_name[16] = "mock", position_name[16] = "script";

#define VERSION 1u

/*
 * The position in a script, little-endian, with the loops' counts behind it. A script may have
 * grown since: its first `count` steps must be those that were there.
 */
struct position {
	uint64_t digest; /* of the first `count` steps */
	uint64_t played;
	uint64_t delay_ns; /* that are left of the delay under way; 0: none is */
	uint32_t count;
	uint32_t at;
	uint32_t written;
	uint32_t irq_pending;
	uint32_t sipi;
	uint32_t nloops;
};
static_assert(sizeof(struct position) == 48, "opaque version 1");

struct loop {
	uint32_t step;
	uint32_t reserved;
	uint64_t passed;
};
static_assert(sizeof(struct loop) == 16, "opaque version 1");

/* --- the digest of a script: FNV-1a, for mistakes and not against anybody --- */

static uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		digest = (digest ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
	return digest;
}

static uint64_t digest_number(uint64_t digest, uint64_t number)
{
	return digest_bytes(digest, &number, sizeof(number));
}

/* Of an exit what a script says: pointers are filled in when it is played. */
static uint64_t digest_exit(uint64_t digest, const struct impost_exit *x)
{
	digest = digest_number(digest, x->kind);
	switch (x->kind) {
	case IMPOST_EXIT_IO:
		digest = digest_number(digest, x->u.io.port);
		digest = digest_number(digest, x->u.io.size);
		digest = digest_number(digest, x->u.io.dir);
		return digest_number(digest, x->u.io.count);
	case IMPOST_EXIT_MMIO:
		digest = digest_number(digest, x->u.mmio.gpa);
		digest = digest_number(digest, x->u.mmio.size);
		digest = digest_number(digest, x->u.mmio.dir);
		return digest_number(digest, x->u.mmio.count);
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		return digest_number(digest, x->u.msr.index);
	case IMPOST_EXIT_HYPERCALL:
		digest = digest_number(digest, x->u.hypercall.number);
		digest = digest_number(digest, x->u.hypercall.long_mode);
		return digest_bytes(digest, x->u.hypercall.args, sizeof(x->u.hypercall.args));
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		digest = digest_number(digest, x->u.shutdown.reason);
		return digest_number(digest, x->u.shutdown.code);
	case IMPOST_EXIT_DEBUG:
		return digest_number(digest, x->u.debug.vector);
	case IMPOST_EXIT_FAIL_ENTRY:
	case IMPOST_EXIT_INTERNAL_ERROR:
		return digest_number(digest, x->u.failure.reason);
	case IMPOST_EXIT_OTHER:
		return digest_number(digest, x->u.other.number);
	default:
		return digest;
	}
}

static uint64_t digest_step(uint64_t digest, const struct impost_mock_step *step)
{
	digest = digest_number(digest, step->op);
	digest = digest_number(digest, step->gpa);
	/* A loop counts its passes here. */
	digest = digest_number(digest, step->op == MOCK_STEP_LOOP ? 0 : step->ns);
	digest = digest_number(digest, step->value);
	digest = digest_number(digest, step->reg);
	digest = digest_number(digest, step->has_expect);
	digest = digest_number(digest, step->expect);
	digest = digest_number(digest, step->bytes);
	if (step->data)
		digest = digest_bytes(digest, step->data, step->bytes);
	return step->op == IMPOST_MOCK_EXIT ? digest_exit(digest, &step->exit) : digest;
}

static uint64_t digest_steps(const struct mock_steps *steps, uint32_t count)
{
	uint64_t digest = UINT64_C(0xcbf29ce484222325);

	for (uint32_t i = 0; i < count; i++)
		digest = digest_step(digest, &steps->step[i]);
	return digest;
}

/* --- getting --- */

static bool in_loop(const struct impost_mock_step *step)
{
	return step->op == MOCK_STEP_LOOP && step->value && step->ns;
}

static uint32_t count_loops(const struct mock_steps *steps)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < steps->count; i++)
		count += in_loop(&steps->step[i]);
	return count;
}

/* Bytes of the item that holds the position; the tape is locked. 0: there is no script. */
static uint32_t position_bytes(const struct mock_tape *tape)
{
	size_t bytes = sizeof(struct impost_x86_opaque) + sizeof(struct position);

	if (!tape->steps.count)
		return 0;
	return (uint32_t)(bytes + count_loops(&tape->steps) * sizeof(struct loop));
}

static uint64_t delay_left(const struct mock_vcpu *v)
{
	uint64_t now = mock_now_ns();

	if (!v->delay_until)
		return 0;
	return v->delay_until > now ? v->delay_until - now : 1;
}

static void write_position(const struct mock_vcpu *v, uint32_t bytes, uint8_t *to)
{
	const struct mock_steps *steps = &v->tape->steps;
	struct impost_x86_opaque head = {
		.size = bytes,
		.version = VERSION,
		.data_size = bytes - (uint32_t)sizeof(head),
	};
	struct position p = {
		.digest = digest_steps(steps, steps->count),
		.played = v->tape->played,
		.delay_ns = delay_left(v),
		.count = steps->count,
		.at = v->tape->at,
		.written = v->written,
		.irq_pending = atomic_load(&v->irq_pending),
		.sipi = atomic_load(&v->sipi),
		.nloops = count_loops(steps),
	};

	memcpy(head.backend, backend_name, sizeof(head.backend));
	memcpy(head.what, position_name, sizeof(head.what));
	memcpy(to, &head, sizeof(head));
	memcpy(to + sizeof(head), &p, sizeof(p));
	to += sizeof(head) + sizeof(p);
	for (uint32_t i = 0; i < steps->count; i++) {
		struct loop loop = {.step = i, .passed = steps->step[i].ns};

		if (!in_loop(&steps->step[i]))
			continue;
		memcpy(to, &loop, sizeof(loop));
		to += sizeof(loop);
	}
}

int32_t mock_opaque_get(struct mock_vcpu *v, void *buf, uint32_t capacity, uint32_t *ret_size)
{
	uint32_t bytes, all;

	pthread_mutex_lock(&v->tape->lock);
	bytes = position_bytes(v->tape);
	all = bytes + v->opaque_bytes;
	if (all && all <= capacity) {
		if (bytes)
			write_position(v, bytes, buf);
		if (v->opaque_bytes)
			memcpy((uint8_t *)buf + bytes, v->opaque, v->opaque_bytes);
	}
	pthread_mutex_unlock(&v->tape->lock);
	if (!all)
		return mock_error(v->vm, -ENOENT, "vCPU %u has no state that is the mock's alone",
				  v->id);
	*ret_size = all;
	return all <= capacity ? 0
			       : mock_error(v->vm, -ENOSPC, "opaque state has %u bytes, not %u",
					    all, capacity);
}

/* --- setting --- */

/* What a section was found to hold. */
struct found {
	const uint8_t *position; /* its data, or NULL */
	uint32_t position_bytes;
	uint8_t *others; /* a copy of the other items */
	uint32_t others_bytes;
};

/* The head of the item at AT, of which LEFT bytes are there. */
static int32_t read_head(const struct mock_vcpu *v, const uint8_t *at, uint32_t left,
			 struct impost_x86_opaque *ret)
{
	if (left < sizeof(*ret))
		return mock_error(v->vm, -EINVAL, "an opaque section ends in %u bytes: cut", left);
	memcpy(ret, at, sizeof(*ret));
	if (ret->size < sizeof(*ret) || ret->size > left ||
	    ret->data_size > ret->size - sizeof(*ret))
		return mock_error(v->vm, -EINVAL,
				  "an opaque section with %u bytes left says %u and %u", left,
				  ret->size, ret->data_size);
	if (memcmp(ret->backend, backend_name, sizeof(backend_name)) != 0 ||
	    ret->version != VERSION)
		return mock_error(v->vm, -ENOTSUP,
				  "opaque state %.16s of %.16s, version %u: the mock reads its own "
				  "version %u alone",
				  ret->what, ret->backend, ret->version, VERSION);
	return 0;
}

/* Sorts the items of a section; FOUND->others has room for all of it. */
static int32_t sort_items(const struct mock_vcpu *v, const uint8_t *at, uint32_t left,
			  struct found *found)
{
	while (left) {
		struct impost_x86_opaque head;
		int32_t err = read_head(v, at, left, &head);

		if (err)
			return err;
		if (memcmp(head.what, position_name, sizeof(position_name)) != 0) {
			memcpy(found->others + found->others_bytes, at, head.size);
			found->others_bytes += head.size;
		} else if (found->position) {
			return mock_error(v->vm, -EINVAL, "two positions in one script");
		} else {
			found->position = at + sizeof(head);
			found->position_bytes = head.data_size;
		}
		at += head.size;
		left -= head.size;
	}
	return 0;
}

static int32_t bad_position(const struct mock_vcpu *v, const char *what)
{
	return mock_error(v->vm, -EINVAL, "vCPU %u: a position in its script: %s", v->id, what);
}

static struct loop loop_at(const struct found *found, uint32_t i)
{
	struct loop loop;

	memcpy(&loop, found->position + sizeof(struct position) + i * sizeof(loop), sizeof(loop));
	return loop;
}

static int32_t check_loops(const struct mock_vcpu *v, const struct position *p,
			   const struct found *found)
{
	for (uint32_t i = 0; i < p->nloops; i++) {
		const struct impost_mock_step *steps = v->tape->steps.step;
		struct loop loop = loop_at(found, i);

		if (loop.step >= p->count || steps[loop.step].op != MOCK_STEP_LOOP ||
		    loop.passed >= steps[loop.step].value)
			return bad_position(v, "a loop that is not there, or passed too often");
	}
	return 0;
}

/* The step that is under way. */
static int32_t check_step(const struct mock_vcpu *v, const struct position *p)
{
	static const struct impost_mock_step none;
	const struct impost_mock_step *step = p->at < p->count ? &v->tape->steps.step[p->at]
							       : &none;

	if (p->written && (step->op != IMPOST_MOCK_WRITE || p->written >= step->bytes))
		return bad_position(v, "in a write that is not there, or behind its end");
	if (p->delay_ns && (step->op != IMPOST_MOCK_DELAY || p->delay_ns > step->ns))
		return bad_position(v, "in a delay that is not there, or longer");
	return 0;
}

/* Reads and judges the position that was found; the tape is locked. */
static int32_t check_position(const struct mock_vcpu *v, const struct found *found,
			      struct position *ret)
{
	int32_t err;

	if (found->position_bytes < sizeof(*ret))
		return bad_position(v, "cut");
	memcpy(ret, found->position, sizeof(*ret));
	if (ret->nloops > MOCK_STEPS_MAX ||
	    found->position_bytes != sizeof(*ret) + ret->nloops * sizeof(struct loop))
		return bad_position(v, "of another length than it says");
	if (ret->count > v->tape->steps.count ||
	    digest_steps(&v->tape->steps, ret->count) != ret->digest)
		return mock_error(v->vm, -IMPOST_ESTATE,
				  "vCPU %u: its script is another one than that which was saved, "
				  "of %u steps",
				  v->id, ret->count);
	if (ret->at > ret->count || ret->irq_pending > 1 || ret->sipi > (MOCK_SIPI_CAME | 0xff) ||
	    (ret->sipi && !(ret->sipi & MOCK_SIPI_CAME)))
		return bad_position(v, "behind its end, or with an interrupt that cannot be");
	err = check_loops(v, ret, found);
	return err ? err : check_step(v, ret);
}

static void take_position(struct mock_vcpu *v, const struct position *p, const struct found *found)
{
	struct mock_steps *steps = &v->tape->steps;

	v->tape->at = p->at;
	v->tape->played = p->played;
	v->written = p->written;
	v->delay_until = p->delay_ns ? mock_now_ns() + p->delay_ns : 0;
	atomic_store(&v->irq_pending, p->irq_pending);
	atomic_store(&v->sipi, p->sipi);
	for (uint32_t i = 0; i < steps->count; i++)
		if (steps->step[i].op == MOCK_STEP_LOOP)
			steps->step[i].ns = 0;
	for (uint32_t i = 0; i < p->nloops; i++)
		steps->step[loop_at(found, i).step].ns = loop_at(found, i).passed;
}

static int32_t set_position(struct mock_vcpu *v, const struct found *found)
{
	struct position p;
	int32_t err;

	if (!found->position)
		return 0;
	pthread_mutex_lock(&v->tape->lock);
	err = check_position(v, found, &p);
	if (!err)
		take_position(v, &p, found);
	pthread_mutex_unlock(&v->tape->lock);
	return err;
}

int32_t mock_opaque_set(struct mock_vcpu *v, const void *buf, uint32_t bytes)
{
	struct found found = {.others = malloc(bytes ? bytes : 1)};
	int32_t err;

	if (!found.others)
		return mock_error(v->vm, -ENOMEM, "out of memory");
	err = sort_items(v, buf, bytes, &found);
	if (!err)
		err = set_position(v, &found);
	if (err) {
		free(found.others);
		return err;
	}
	free(v->opaque);
	v->opaque = found.others;
	v->opaque_bytes = found.others_bytes;
	return 0;
}
