/* SPDX-License-Identifier: Apache-2.0 */
/* Copies out of and into guest memory: what the inline calls of view.h fall back on, fill and
 * strings. */
#include <impost/view.h>

#include <inttypes.h>

#include "access.h"
#include "memory.h"
#include "view.h"

/* What is copied: the host's side of it, or with neither buffer the byte to fill with. */
struct copy {
	uint8_t *out;
	const uint8_t *in;
	uint8_t byte;
	bool number; /* all of it is one access, in whatever memory */
};

/* Those of BYTES at GPA that are in REGION, as the bytes of COPY from DONE on. */
static inline int copy_piece(struct impost_memory *memory, const struct mapped *region,
			     uint64_t gpa, uint64_t bytes, const struct copy *copy, uint64_t done)
{
	uint64_t len;
	uint8_t *hva = map_span(region, gpa, bytes, &len);
	int err;

	if (copy->number && copy->out)
		return access_probed(memory, region, hva, copy->out, len, false);
	if (copy->out)
		return access_read(memory, region, hva, copy->out + done, len);
	if (copy->number)
		err = access_probed(memory, region, hva, (void *)(uintptr_t)copy->in, len, true);
	else if (copy->in)
		err = access_write(memory, region, hva, copy->in + done, len);
	else
		err = access_fill(memory, region, hva, copy->byte, len);
	view_mark(region, gpa, len); /* also what an error left behind */
	return err;
}

/* After view_check(); *ret_done is what was copied before an error. */
static int copy_pieces(struct impost_view *view, uint64_t gpa, uint64_t bytes,
		       const struct copy *copy, uint64_t *ret_done)
{
	const struct mapped *region = NULL;
	uint64_t done, len;
	int err = 0;

	for (done = 0; done < bytes; done += len) {
		region = view_region(view, gpa, done);
		map_span(region, gpa + done, bytes - done, &len);
		err = copy_piece(view->memory, region, gpa + done, len, copy, done);
		if (err)
			break;
	}
	*ret_done = done;
	return err;
}

static int tell(const struct impost_view *view, uint64_t gpa, uint64_t bytes,
		const struct copy *copy)
{
	return copy->out ? 0 : view_tell(view, gpa, bytes);
}

/* All or nothing. Most copies lie in one region. */
static int copy_all(struct impost_view *view, uint64_t gpa, uint64_t bytes, const struct copy *copy)
{
	const struct map *map = view_map(view);
	const struct mapped *region;
	uint64_t done;
	int err, told;

	if (!map)
		return -EINVAL;
	region = map_at(map, gpa);
	if (region && bytes > 0 && bytes - 1 <= region->last - gpa) {
		err = view_check_piece(view, region, gpa, bytes, !copy->out);
		if (err)
			return err;
		err = copy_piece(view->memory, region, gpa, bytes, copy, 0);
	} else {
		err = view_check(view, gpa, bytes, !copy->out);
		if (err)
			return err;
		err = copy_pieces(view, gpa, bytes, copy, &done);
	}
	told = tell(view, gpa, bytes, copy); /* also of what an error left behind */
	return err ? err : told;
}

static int copy_some(struct impost_view *view, uint64_t gpa, uint64_t bytes,
		     const struct copy *copy, uint64_t *ret_done)
{
	uint64_t reach, done;
	int err = view_reach(view, gpa, bytes, !copy->out, &reach), told;

	if (err && reach == 0)
		return err == -EFAULT ? view_fault(view, gpa, bytes, gpa) : err;
	err = copy_pieces(view, gpa, reach, copy, &done);
	told = tell(view, gpa, reach, copy);
	if (done == 0 && err)
		return err;
	if (!told)
		*ret_done = done;
	return told;
}

int impost_view_read_any(struct impost_view *view, uint64_t gpa, void *buf, uint64_t bytes)
{
	const uint8_t *hva = impost_view_readable(view, gpa, bytes);

	if (!hva || bytes == 0)
		return copy_all(view, gpa, bytes, &(struct copy){.out = buf});
	access_copy_out(buf, hva, bytes);
	return 0;
}

int impost_view_write_any(struct impost_view *view, uint64_t gpa, const void *buf, uint64_t bytes)
{
	uint8_t *hva = impost_view_writable(view, gpa, bytes);

	if (!hva || bytes == 0)
		return copy_all(view, gpa, bytes, &(struct copy){.in = buf});
	access_copy_in(hva, buf, bytes);
	return 0;
}

/* An aligned number lies in one page, and so in one region. */
static bool is_aligned_number(uint64_t gpa, uint32_t bytes)
{
	return (bytes == 2 || bytes == 4 || bytes == 8) && gpa % bytes == 0;
}

int impost_view_load_any(struct impost_view *view, uint64_t gpa, void *ret_value, uint32_t bytes)
{
	const struct copy copy = {.out = ret_value, .number = is_aligned_number(gpa, bytes)};

	return copy_all(view, gpa, bytes, &copy);
}

int impost_view_store_any(struct impost_view *view, uint64_t gpa, const void *value, uint32_t bytes)
{
	const struct copy copy = {.in = value, .number = is_aligned_number(gpa, bytes)};

	return copy_all(view, gpa, bytes, &copy);
}

int impost_view_fill(struct impost_view *view, uint64_t gpa, uint8_t byte, uint64_t bytes)
{
	return copy_all(view, gpa, bytes, &(struct copy){.byte = byte});
}

int impost_view_read_some(struct impost_view *view, uint64_t gpa, void *buf, uint64_t bytes,
			  uint64_t *ret_done)
{
	return copy_some(view, gpa, bytes, &(struct copy){.out = buf}, ret_done);
}

int impost_view_write_some(struct impost_view *view, uint64_t gpa, const void *buf, uint64_t bytes,
			   uint64_t *ret_done)
{
	return copy_some(view, gpa, bytes, &(struct copy){.in = buf}, ret_done);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How long the string at GPA is; CAPACITY if it is longer. It may end with the last page that a
 * file has, and so no read goes over a page's end. */
static int string_length(struct impost_view *view, uint64_t gpa, uint64_t capacity,
			 uint64_t *ret_length)
{
	char chunk[256];
	uint64_t at, some = 0;
	int err;

	for (at = 0; at < capacity; at += some) {
		uint64_t page = IMPOST_PAGE_SIZE - (gpa + at) % IMPOST_PAGE_SIZE;
		uint64_t most = least(least(capacity - at, sizeof(chunk)), page);
		const char *end;

		if (gpa + at < gpa)
			return view_fault(view, gpa, at + 1, gpa + at);
		err = impost_view_read_some(view, gpa + at, chunk, most, &some);
		if (err)
			return err;
		end = memchr(chunk, '\0', some);
		if (end) {
			*ret_length = at + (uint64_t)(end - chunk);
			return 0;
		}
	}
	*ret_length = capacity;
	return 0;
}

int impost_view_read_string(struct impost_view *view, uint64_t gpa, char *buf, uint64_t capacity,
			    uint64_t *ret_length)
{
	uint64_t length = 0;
	int err = string_length(view, gpa, capacity, &length);

	if (err)
		return err;
	if (!view_map(view))
		return -EINVAL;
	if (length == capacity)
		return impost_error_set(view->memory->ctx, -EOVERFLOW,
					"the string at 0x%" PRIx64 " has no end within %" PRIu64
					" bytes",
					gpa, capacity);
	err = impost_view_read_any(view, gpa, buf, length);
	if (err)
		return err;
	/* The guest may have shortened it meanwhile. */
	buf[length] = '\0';
	*ret_length = strlen(buf);
	return 0;
}
