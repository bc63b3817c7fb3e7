/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination of a migration: the input is all that a source says, on one connection or on
 * several, and then it ends the first. Whatever it is, the call returns, with a VM whose last word
 * to the source was Ok, or with an error and nothing. Mutations keep the framing mostly whole, or
 * nothing would be found behind it.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <impost/impost.h>
#include <impost/migrate.h>

#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* --- the destination --- */

static struct impost_context *ctx;

/* What the source says on a connection, and the last head that it heard. */
struct source {
	struct input input;
	bool joins; /* it is not the first: it falls silent in the end */
	uint8_t heard[16];
};

#define SOURCES 8u

struct sources {
	struct source source[SOURCES];
	uint32_t count, taken;
};

/* Between what is said on one connection and on the next: a frame that there is not. */
static const uint8_t next_connection[16] = {0xff, 0x49};

static void add_source(struct sources *sources, const uint8_t *data, size_t size)
{
	sources->source[sources->count] =
		(struct source){.input = {data, size}, .joins = sources->count > 0};
	sources->count++;
}

static void split(struct sources *sources, const uint8_t *data, size_t size)
{
	const uint8_t *end;

	while (sources->count < SOURCES - 1 &&
	       (end = memmem(data, size, next_connection, sizeof(next_connection)))) {
		size_t bytes = (size_t)(end - data);

		add_source(sources, data, bytes);
		data = end + sizeof(next_connection);
		size -= bytes + sizeof(next_connection);
	}
	add_source(sources, data, size);
}

static int64_t read_input(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	struct source *source = opaque;
	uint64_t n = bytes < source->input.size ? bytes : source->input.size;

	if (n == 0 && source->joins) {
		poll(NULL, 0, timeout_ms ? 1 : 0);
		return -EAGAIN;
	}
	memcpy(buf, source->input.data, n);
	source->input.data += n;
	source->input.size -= n;
	return (int64_t)n;
}

static int64_t write_nowhere(void *opaque, const void *buf, uint64_t bytes, uint32_t timeout_ms)
{
	struct source *source = opaque;

	(void)timeout_ms;
	if (bytes >= sizeof(source->heard))
		memcpy(source->heard, buf, sizeof(source->heard));
	return (int64_t)bytes;
}

static struct impost_migration_channel channel_of(struct source *source)
{
	return (struct impost_migration_channel){
		.size = sizeof(struct impost_migration_channel),
		.fd = -1,
		.read = read_input,
		.write = write_nowhere,
		.opaque = source,
	};
}

/* Called by one thread after the other. */
static int connect_next(void *opaque, uint32_t timeout_ms,
			struct impost_migration_channel *ret_channel)
{
	struct sources *sources = opaque;

	(void)timeout_ms;
	if (sources->taken == sources->count)
		return -ETIMEDOUT;
	*ret_channel = channel_of(&sources->source[sources->taken++]);
	return 0;
}

static void set_up(void)
{
	MODEL_CHECK(impost_context_open(NULL, NULL, &ctx) == 0);
	MODEL_CHECK(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR) == 0);
	MODEL_CHECK(impost_context_set(ctx, "impost", "backend", "mock") == 0);
}

/* The VM is whole: its state can be taken. */
static void use(struct impost_vm *vm)
{
	struct impost_state *state = NULL;
	struct impost_vcpu *vcpu;

	MODEL_CHECK(impost_state_take(vm, &state) == 0);
	impost_state_free(state);
	while ((vcpu = impost_vm_vcpu(vm, 0)))
		MODEL_CHECK(impost_vcpu_destroy(vcpu) == 0);
	MODEL_CHECK(impost_vm_destroy(vm) == 0);
}

static void judge(const struct source *source, struct impost_migration *migration, int err,
		  struct impost_vm *vm)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	MODEL_CHECK(impost_migration_status(migration, &status) == 0);
	MODEL_CHECK(err <= 0);
	MODEL_CHECK(!err == !!vm);
	/* Error's status is 2. A source that has given up hears no more, and one that sends memory
	 * after its VM may have been asked for some. */
	if (!err && status.features & IMPOST_MIGRATION_POSTCOPY)
		return;
	if (!err)
		MODEL_CHECK(source->heard[0] == 1 && source->heard[1] == 0);
	else if (err != -EREMOTEIO)
		MODEL_CHECK(source->heard[0] == 2 && impost_error(ctx)[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sources sources = {.taken = 1};
	const struct impost_migration_channel channel = channel_of(&sources.source[0]);
	const struct impost_migration_config config = {
		.size = sizeof(config),
		.features = IMPOST_MIGRATION_FEATURES,
		.silence_ms = 1,
		.channel = &channel,
		.connect = connect_next,
		.opaque = &sources,
		.memory_max = UINT64_C(16) << 20,
	};
	struct impost_migration *migration = NULL;
	struct impost_vm *vm = NULL;
	int err;

	if (!ctx)
		set_up();
	split(&sources, data, size);
	MODEL_CHECK(impost_migration_create(ctx, &config, &migration) == 0);
	err = impost_migration_receive(migration, &vm);
	judge(&sources.source[0], migration, err, vm);
	if (vm) { /* what there is left to come ends with the input */
		err = impost_migration_wait(migration);
		MODEL_CHECK(err == 0 || err == -EIO);
	}
	impost_migration_destroy(migration);
	if (vm)
		use(vm);
	return 0;
}

/* --- mutation: offsets are those of docs/migration-format.md --- */

#define HEAD   16u
#define MEMORY 4u
#define FRAMES 64u

struct frame {
	size_t at, payload, behind; /* bytes: where; of its payload; and of contents behind that */
};

static uint64_t get(const uint8_t *at, size_t width)
{
	uint64_t value = 0;

	memcpy(&value, at, width);
	return value;
}

/* Bytes behind the table of BYTES at ROWS, of which LEFT are there. */
static size_t contents_of(const uint8_t *rows, size_t bytes, size_t left)
{
	uint64_t sum = 0;

	for (size_t i = 0; i + 16 <= bytes && sum <= left; i += 16) {
		uint64_t gpa = get(rows + i, 8), length = get(rows + i + 8, 8);

		if (gpa % 4096 == 2 && sum + 8 <= left)
			sum += 8 + get(rows + bytes + sum, 8) % 65536;
		else if (gpa % 4096 == 0)
			sum += length < left ? length : left;
	}
	return sum < left ? sum : left;
}

/* The frames of DATA, as far as it has some; the last may be cut short. */
static uint32_t find_frames(const uint8_t *data, size_t size, struct frame frames[FRAMES])
{
	uint32_t count = 0;

	for (size_t at = 0; at + HEAD <= size && count < FRAMES;) {
		size_t left = size - at - HEAD;
		uint64_t length = get(data + at + 8, 8);
		struct frame *frame = &frames[count++];

		frame->at = at;
		frame->payload = length < left ? length : left;
		left -= frame->payload;
		frame->behind = get(data + at, 2) == MEMORY
					? contents_of(data + at + HEAD, frame->payload, left)
					: 0;
		at += HEAD + frame->payload + frame->behind;
	}
	return count;
}

static size_t frame_bytes(const struct frame *frame)
{
	return HEAD + frame->payload + frame->behind;
}

/* Puts BYTES at FROM, which is not of DATA, in the place of LEN bytes at AT. 0: there is no room.
 */
static size_t splice(uint8_t *data, size_t size, size_t max, size_t at, size_t len,
		     const uint8_t *from, size_t bytes)
{
	if (size - len + bytes > max)
		return 0;
	memmove(data + at + bytes, data + at + len, size - at - len);
	if (bytes)
		memcpy(data + at, from, bytes);
	return size - len + bytes;
}

/* FRAME again, in front of OTHER. */
static size_t repeat(uint8_t *data, size_t size, size_t max, const struct frame *frame,
		     const struct frame *other)
{
	size_t bytes = frame_bytes(frame), grown;
	uint8_t *copy = malloc(bytes);

	MODEL_CHECK(copy);
	memcpy(copy, data + frame->at, bytes);
	grown = splice(data, size, max, other->at, 0, copy, bytes);
	free(copy);
	return grown;
}

/* A request with no payload, or with one of zeros as long as its command has it. */
static size_t insert(uint8_t *data, size_t size, size_t max, const struct frame *before,
		     unsigned random)
{
	static const struct {
		uint16_t command;
		uint8_t length;
	} requests[] = {
		{0x49ff, 0}, {1, 0},	   {4, 16},	 {5, 0},       {6, 0},	     {7, 4},
		{3, 1},	     {0x4901, 16}, {0x4902, 16}, {0x4903, 16}, {0x4904, 16},
	};
	unsigned which = random % (sizeof(requests) / sizeof(requests[0]));
	uint8_t frame[HEAD + 16] = {0};

	memcpy(frame, &requests[which].command, 2);
	frame[8] = requests[which].length;
	return splice(data, size, max, before->at, 0, frame, HEAD + requests[which].length);
}

/* FRAME's payload changed by libFuzzer, and its length made good. */
static size_t change_payload(uint8_t *data, size_t size, size_t max, const struct frame *frame)
{
	size_t room = frame->payload + 64, bytes, grown;
	uint8_t *copy = malloc(room);
	uint64_t length;

	MODEL_CHECK(copy);
	memcpy(copy, data + frame->at + HEAD, frame->payload);
	length = bytes = LLVMFuzzerMutate(copy, frame->payload, room);
	grown = splice(data, size, max, frame->at + HEAD, frame->payload, copy, bytes);
	if (grown)
		memcpy(data + frame->at + 8, &length, 8);
	free(copy);
	return grown;
}

/* A row of FRAME's table becomes another that could be. */
static size_t change_row(uint8_t *data, size_t size, const struct frame *frame, unsigned random)
{
	static const uint64_t lengths[] = {
		0, 4096, 8192, 0x10000, 100000, UINT64_MAX - 4095, 1u << 20, 0x20000};
	uint8_t *row = data + frame->at + HEAD + random % (frame->payload / 16) * 16;
	uint64_t gpa = (uint64_t)(random >> 8) % 24 * 4096 |
		       ((random >> 4) % 8 < 4 ? (random >> 4) % 4 : 0);

	if (random & 1)
		memcpy(row, &gpa, 8);
	else
		memcpy(row + 8, &lengths[(random >> 4) % 8], 8);
	return size;
}

static size_t mutate_frames(uint8_t *data, size_t size, size_t max, unsigned random,
			    const struct frame *frames, uint32_t count)
{
	const struct frame *frame = &frames[random % count];
	const struct frame *other = &frames[(random >> 8) % count];

	switch ((random >> 16) % 6) {
	case 0:
		return splice(data, size, max, frame->at, frame_bytes(frame), NULL, 0);
	case 1:
		return repeat(data, size, max, frame, other);
	case 2:
		return insert(data, size, max, frame, random >> 20);
	case 3:
		if (get(data + frame->at, 2) == MEMORY && frame->payload >= 16)
			return change_row(data, size, frame, random >> 8);
		return 0;
	case 4: /* its head alone */
		LLVMFuzzerMutate(data + frame->at, HEAD, HEAD);
		return size;
	default:
		return change_payload(data, size, max, frame);
	}
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	struct frame frames[FRAMES];
	unsigned random = seed * 2654435761u;
	uint32_t count = find_frames(data, size, frames);
	size_t changed = 0;

	if (count && random >> 28)
		changed = mutate_frames(data, size, max, random ^ random >> 15, frames, count);
	return changed ? changed : LLVMFuzzerMutate(data, size, max);
}
