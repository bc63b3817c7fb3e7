/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory beside an array of bytes: one step draws a call of the API, makes it, and compares
 * what came of it with the array. For the property test, whose numbers are random, and for the fuzz
 * target, whose numbers are the input. The includer defines MODEL_CHECK(condition).
 */
#ifndef TESTS_UNIT_VIEW_MODEL_H
#define TESTS_UNIT_VIEW_MODEL_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <impost/impost.h>

#define MODEL_PAGE  IMPOST_PAGE_SIZE
#define MODEL_PAGES 48u
#define MODEL_BYTES (MODEL_PAGES * MODEL_PAGE)

struct model {
	struct impost_memory *memory;
	uint64_t (*draw)(void *source, uint64_t below); /* a number below that */
	void *source;
	uint64_t base; /* the guest address of the first byte */
	int fd;	       /* a file, for transfers */
	int zeros;     /* a file that could become shorter, for regions */
	struct impost_view view;
	uint32_t regions;	      /* made so far */
	uint32_t region[MODEL_PAGES]; /* the number of the page's; 0: no memory */
	void *own[MODEL_PAGES];	      /* the host's own memory of the region that begins here */
	uint8_t byte[MODEL_BYTES];
	uint8_t buf[MODEL_BYTES], before[MODEL_BYTES];
};

static inline uint64_t model_draw(const struct model *model, uint64_t below)
{
	return model->draw(model->source, below);
}

static inline void model_begin(struct model *model, struct impost_memory *of, uint64_t base)
{
	model->memory = of;
	model->base = base;
	model->fd = memfd_create("model", MFD_CLOEXEC);
	MODEL_CHECK(model->fd >= 0 && ftruncate(model->fd, MODEL_BYTES) == 0);
	model->zeros = memfd_create("zeros", MFD_CLOEXEC);
	MODEL_CHECK(model->zeros >= 0 && ftruncate(model->zeros, MODEL_BYTES) == 0);
	MODEL_CHECK(impost_view_begin(of, &model->view) == 0);
}

/* --- what the model knows --- */

/* How many of BYTES at offset AT are memory without a gap. */
static inline uint64_t model_reach(const struct model *model, uint64_t at, uint64_t bytes)
{
	uint64_t end = at;

	while (end < MODEL_BYTES && end - at < bytes && model->region[end / MODEL_PAGE])
		end = (end / MODEL_PAGE + 1) * MODEL_PAGE;
	return end - at < bytes ? end - at : bytes;
}

/* The same, in the region of the first. */
static inline uint64_t model_reach_region(const struct model *model, uint64_t at, uint64_t bytes)
{
	uint64_t end = at, reach = model_reach(model, at, bytes);

	while (end - at < reach &&
	       model->region[end / MODEL_PAGE] == model->region[at / MODEL_PAGE])
		end = (end / MODEL_PAGE + 1) * MODEL_PAGE;
	return end - at < reach ? end - at : reach;
}

/* --- what is drawn --- */

/* An offset: anywhere, or near a border of pages. */
static inline uint64_t model_place(const struct model *model)
{
	uint64_t page = model_draw(model, MODEL_PAGES);

	if (model_draw(model, 2))
		return page * MODEL_PAGE + model_draw(model, MODEL_PAGE);
	return page * MODEL_PAGE + (page ? model_draw(model, 32) - 16 : model_draw(model, 16));
}

/* A length: small, large, none. */
static inline uint64_t model_length(const struct model *model)
{
	switch (model_draw(model, 4)) {
	case 0:
		return model_draw(model, 6 * MODEL_PAGE);
	case 1:
		return model_draw(model, MODEL_BYTES);
	default:
		return model_draw(model, 40);
	}
}

/* Contents for the buffer, from few numbers. */
static inline void model_fill_buf(struct model *model, uint64_t bytes)
{
	uint8_t byte = (uint8_t)model_draw(model, 256), stride = (uint8_t)model_draw(model, 8);

	for (uint64_t i = 0; i < bytes; i++)
		model->buf[i] = (uint8_t)(byte + i * stride);
}

/* --- regions come and go --- */

static inline void model_remove(struct model *model, uint64_t page)
{
	bool starts = page == 0 || model->region[page - 1] != model->region[page];
	uint32_t old = model->region[page];
	uint64_t last = page;
	int err;

	impost_view_end(&model->view);
	err = impost_memory_remove(model->memory, model->base + page * MODEL_PAGE);
	MODEL_CHECK(err == (old && starts ? 0 : -ENOENT));
	MODEL_CHECK(impost_view_begin(model->memory, &model->view) == 0);
	while (!err && last < MODEL_PAGES && model->region[last] == old)
		model->region[last++] = 0;
	if (!err && model->own[page])
		MODEL_CHECK(munmap(model->own[page], (last - page) * MODEL_PAGE) == 0);
	model->own[page] = err ? model->own[page] : NULL;
}

static inline void model_add(struct model *model, uint64_t page, uint64_t pages)
{
	static const uint32_t kinds[] = {IMPOST_REGION_ANONYMOUS, IMPOST_REGION_POINTER,
					 IMPOST_REGION_MEMFD, IMPOST_REGION_FD};
	struct impost_region region = {.size = sizeof(region),
				       .kind = kinds[model_draw(model, 4)],
				       .fd = model->zeros,
				       .gpa = model->base + page * MODEL_PAGE,
				       .bytes = pages * MODEL_PAGE};
	bool room = page + pages <= MODEL_PAGES;
	int err;

	for (uint64_t i = page; room && i < page + pages; i++)
		room = !model->region[i];
	if (!room) {
		region.kind = IMPOST_REGION_ANONYMOUS;
		if (page + pages > MODEL_PAGES)
			return;
	}
	if (region.kind == IMPOST_REGION_POINTER) {
		region.hva = mmap(NULL, region.bytes, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MODEL_CHECK(region.hva != MAP_FAILED);
		model->own[page] = region.hva;
	}
	impost_view_end(&model->view);
	err = impost_memory_add(model->memory, &region);
	MODEL_CHECK(err == (room ? 0 : -EEXIST));
	MODEL_CHECK(impost_view_begin(model->memory, &model->view) == 0);
	model->regions++;
	for (uint64_t i = page; room && i < page + pages; i++) {
		model->region[i] = model->regions;
		memset(model->byte + i * MODEL_PAGE, 0, MODEL_PAGE);
	}
}

static inline void model_regions(struct model *model)
{
	uint64_t page = model_draw(model, MODEL_PAGES);

	if (model->region[page] || model_draw(model, 8) == 0)
		model_remove(model, page);
	else
		model_add(model, page, 1 + model_draw(model, 6));
}

/* --- copies --- */

static inline void model_read(struct model *model, uint64_t at, uint64_t bytes)
{
	uint64_t reach = model_reach(model, at, bytes), done = MODEL_BYTES + 1;
	uint64_t way = model_draw(model, 4), gpa = model->base + at;
	int wanted = reach == bytes ? 0 : -EFAULT, err;

	model_fill_buf(model, bytes);
	memcpy(model->before, model->buf, bytes);
	if (way == 0) {
		err = impost_view_read_some(&model->view, gpa, model->buf, bytes, &done);
		wanted = reach == 0 && bytes > 0 ? -EFAULT : 0;
		MODEL_CHECK(done == (wanted ? MODEL_BYTES + 1 : reach));
	} else if (way == 1) {
		err = impost_memory_read(model->memory, gpa, model->buf, bytes);
	} else {
		err = impost_view_read(&model->view, gpa, model->buf, bytes);
	}
	MODEL_CHECK(err == wanted);
	if (wanted)
		reach = 0;
	MODEL_CHECK(memcmp(model->buf, model->byte + at, reach) == 0);
	MODEL_CHECK(memcmp(model->buf + reach, model->before + reach, bytes - reach) == 0);
}

static inline void model_write(struct model *model, uint64_t at, uint64_t bytes)
{
	uint64_t reach = model_reach(model, at, bytes), done = MODEL_BYTES + 1;
	uint64_t way = model_draw(model, 6), gpa = model->base + at;
	int wanted = reach == bytes ? 0 : -EFAULT, err;

	model_fill_buf(model, bytes);
	switch (way) {
	case 0:
		err = impost_view_write_some(&model->view, gpa, model->buf, bytes, &done);
		wanted = reach == 0 && bytes > 0 ? -EFAULT : 0;
		MODEL_CHECK(done == (wanted ? MODEL_BYTES + 1 : reach));
		break;
	case 1:
		err = impost_memory_write(model->memory, gpa, model->buf, bytes);
		break;
	case 2:
		memset(model->buf, model->buf[0], bytes);
		err = impost_view_fill(&model->view, gpa, model->buf[0], bytes);
		break;
	case 3:
		memset(model->buf, model->buf[0], bytes);
		err = impost_memory_fill(model->memory, gpa, model->buf[0], bytes);
		break;
	default:
		err = impost_view_write(&model->view, gpa, model->buf, bytes);
	}
	MODEL_CHECK(err == wanted);
	if (!wanted)
		memcpy(model->byte + at, model->buf, reach);
}

/* Lengths that no memory has, and sums that wrap. */
static inline void model_beyond(struct model *model, uint64_t at)
{
	uint64_t bytes = UINT64_MAX - model_draw(model, 2 * MODEL_BYTES), gpa = model->base + at;
	void *hva;

	MODEL_CHECK(impost_view_read(&model->view, gpa, model->buf, bytes) == -EFAULT);
	MODEL_CHECK(impost_view_write(&model->view, gpa, model->buf, bytes) == -EFAULT);
	MODEL_CHECK(impost_view_fill(&model->view, gpa, 1, bytes) == -EFAULT);
	MODEL_CHECK(impost_view_ptr(&model->view, gpa, bytes, &hva) == -EFAULT);
	MODEL_CHECK(impost_view_mark_dirty(&model->view, gpa, bytes) == -EFAULT);
}

/* --- numbers --- */

/* impost_view_read_NAME() and write, of a number of so many bytes, which is its bytes reversed
 * if SWAP. */
#define MODEL_NUMBER(name, type)                                                               \
	static inline int model_get_##name(struct model *model, uint64_t gpa, uint64_t *value) \
	{                                                                                      \
		type got = 0;                                                                  \
		int err = impost_view_read_##name(&model->view, gpa, &got);                    \
                                                                                               \
		*value = got;                                                                  \
		return err;                                                                    \
	}                                                                                      \
                                                                                               \
	static inline int model_put_##name(struct model *model, uint64_t gpa, uint64_t value)  \
	{                                                                                      \
		return impost_view_write_##name(&model->view, gpa, (type)value);               \
	}
MODEL_NUMBER(u8, uint8_t)
MODEL_NUMBER(u16, uint16_t)
MODEL_NUMBER(u32, uint32_t)
MODEL_NUMBER(u64, uint64_t)
MODEL_NUMBER(le16, uint16_t)
MODEL_NUMBER(le32, uint32_t)
MODEL_NUMBER(le64, uint64_t)
MODEL_NUMBER(be16, uint16_t)
MODEL_NUMBER(be32, uint32_t)
MODEL_NUMBER(be64, uint64_t)
#undef MODEL_NUMBER

static const struct {
	uint32_t bytes;
	bool big;
	int (*get)(struct model *model, uint64_t gpa, uint64_t *value);
	int (*put)(struct model *model, uint64_t gpa, uint64_t value);
} model_numbers[] = {
	{1, false, model_get_u8, model_put_u8},	    {2, false, model_get_u16, model_put_u16},
	{4, false, model_get_u32, model_put_u32},   {8, false, model_get_u64, model_put_u64},
	{2, false, model_get_le16, model_put_le16}, {4, false, model_get_le32, model_put_le32},
	{8, false, model_get_le64, model_put_le64}, {2, true, model_get_be16, model_put_be16},
	{4, true, model_get_be32, model_put_be32},  {8, true, model_get_be64, model_put_be64},
};

/* The number at offset AT of the model. */
static inline uint64_t model_value(const struct model *model, uint64_t at, uint32_t bytes, bool big)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value = value << 8 | model->byte[big ? at + i : at + bytes - 1 - i];
	return value;
}

static inline void model_set(struct model *model, uint64_t at, uint32_t bytes, bool big,
			     uint64_t value)
{
	for (uint32_t i = 0; i < bytes; i++, value >>= 8)
		model->byte[big ? at + bytes - 1 - i : at + i] = (uint8_t)value;
}

static inline void model_number(struct model *model, uint64_t at)
{
	uint64_t which = model_draw(model, sizeof(model_numbers) / sizeof(model_numbers[0]));
	uint64_t bytes = model_numbers[which].bytes, value = model_draw(model, UINT64_MAX);
	int wanted = model_reach(model, at, bytes) == bytes ? 0 : -EFAULT;
	bool big = model_numbers[which].big;

	if (model_draw(model, 2)) {
		MODEL_CHECK(model_numbers[which].put(model, model->base + at, value) == wanted);
		if (!wanted)
			model_set(model, at, (uint32_t)bytes, big, value);
		return;
	}
	MODEL_CHECK(model_numbers[which].get(model, model->base + at, &value) == wanted);
	MODEL_CHECK(wanted || value == model_value(model, at, (uint32_t)bytes, big));
}

static inline uint64_t model_operate(uint32_t op, uint64_t old, uint64_t operand)
{
	switch (op) {
	case IMPOST_ATOMIC_LOAD:
		return old;
	case IMPOST_ATOMIC_ADD:
		return old + operand;
	case IMPOST_ATOMIC_AND:
		return old & operand;
	case IMPOST_ATOMIC_OR:
		return old | operand;
	case IMPOST_ATOMIC_XOR:
		return old ^ operand;
	default:
		return operand;
	}
}

static inline bool model_has_order(uint32_t op, uint32_t order)
{
	if (op > IMPOST_ATOMIC_XOR || order > IMPOST_ORDER_SEQ_CST)
		return false;
	if (op == IMPOST_ATOMIC_LOAD)
		return order != IMPOST_ORDER_RELEASE && order != IMPOST_ORDER_ACQ_REL;
	return op != IMPOST_ATOMIC_STORE ||
	       (order != IMPOST_ORDER_ACQUIRE && order != IMPOST_ORDER_ACQ_REL);
}

static inline void model_atomic(struct model *model, uint64_t at)
{
	uint32_t bytes = (uint32_t)model_draw(model, 4) ? 1u << model_draw(model, 4)
							: (uint32_t)model_draw(model, 20);
	uint32_t op = (uint32_t)model_draw(model, 8), order = (uint32_t)model_draw(model, 6);
	uint64_t operand = model_draw(model, UINT64_MAX), old = 0, was, expected;
	bool sized = bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
	bool exchange = model_draw(model, 4) == 0;
	int err, wanted = 0;

	if (sized && model_draw(model, 8))
		at -= at % bytes;
	if (!sized || at % bytes || !model_has_order(exchange ? IMPOST_ATOMIC_ADD : op, order))
		wanted = -EINVAL;
	else if (model_reach(model, at, bytes) < bytes)
		wanted = -EFAULT;
	was = wanted ? 0 : model_value(model, at, bytes, false);
	expected = was ^ (model_draw(model, 2) ? 1 : 0);
	if (exchange)
		err = impost_view_compare_exchange(&model->view, model->base + at, bytes, order,
						   expected, operand, &old);
	else
		err = impost_view_atomic(&model->view, model->base + at, bytes, op, order, operand,
					 &old);
	MODEL_CHECK(err == wanted && old == was);
	if (!err && (!exchange || expected == was))
		model_set(model, at, bytes, false,
			  exchange ? operand : model_operate(op, was, operand));
}

/* --- strings, pointers, vectors --- */

static inline void model_string(struct model *model, uint64_t at)
{
	uint64_t capacity = model_draw(model, 4 * MODEL_PAGE), length = MODEL_BYTES;
	uint64_t reach = model_reach(model, at, capacity);
	const uint8_t *end = memchr(model->byte + at, '\0', reach);
	int wanted = end ? 0 : reach < capacity ? -EFAULT : -EOVERFLOW;

	model_fill_buf(model, capacity);
	memcpy(model->before, model->buf, capacity);
	MODEL_CHECK(impost_view_read_string(&model->view, model->base + at, (char *)model->buf,
					    capacity, &length) == wanted);
	if (!wanted)
		memcpy(model->before, model->byte + at, (uint64_t)(end - model->byte) - at + 1);
	MODEL_CHECK(memcmp(model->buf, model->before, capacity) == 0);
	MODEL_CHECK(length == (wanted ? MODEL_BYTES : (uint64_t)(end - model->byte) - at));
}

static inline void model_pointer(struct model *model, uint64_t at, uint64_t bytes)
{
	uint64_t here = model_reach_region(model, at, bytes), len = 0, gpa = model->base + at;
	uint64_t way = model_draw(model, 3);
	void *hva = NULL;
	int err;

	if (way == 0) {
		err = impost_view_span(&model->view, gpa, bytes, &hva, &len);
		MODEL_CHECK(err == (here ? 0 : -EFAULT) && len == here);
	} else {
		err = way == 1 ? impost_view_ptr(&model->view, gpa, bytes, &hva)
			       : impost_memory_ptr(model->memory, gpa, bytes, &hva);
		MODEL_CHECK(err == (bytes > 0 && here == bytes ? 0 : -EFAULT));
	}
	if (err)
		return;
	MODEL_CHECK(memcmp(hva, model->byte + at, here) == 0);
	memset(hva, (int)(here & 0xff), here);
	memset(model->byte + at, (int)(here & 0xff), here);
	MODEL_CHECK(impost_view_mark_dirty(&model->view, gpa, here) == 0);
}

#define MODEL_RANGES 5u

/* How many elements the ranges are. *ERR: -EFAULT if not all is memory. */
static inline uint64_t model_elements(const struct model *model, const struct impost_range *ranges,
				      uint64_t count, int *err)
{
	uint64_t need = 0;

	*err = 0;
	for (uint64_t i = 0; i < count; i++)
		for (uint64_t done = 0, len; done < ranges[i].bytes; done += len, need++) {
			len = model_reach_region(model, ranges[i].gpa - model->base + done,
						 ranges[i].bytes - done);
			if (len == 0) {
				*err = -EFAULT;
				return 0;
			}
		}
	return need;
}

static inline void model_iovec(struct model *model)
{
	uint64_t count = model_draw(model, MODEL_RANGES + 1), need, got = UINT64_MAX;
	uint64_t capacity = model_draw(model, 24), i = 0;
	struct impost_range ranges[MODEL_RANGES];
	struct iovec iov[24];
	int wanted;

	for (uint64_t range = 0; range < count; range++)
		ranges[range] = (struct impost_range){model->base + model_place(model),
						      model_draw(model, 3 * MODEL_PAGE)};
	need = model_elements(model, ranges, count, &wanted);
	if (!wanted && need > capacity)
		wanted = -ENOSPC;
	MODEL_CHECK(impost_view_iovec(&model->view, ranges, count, iov, capacity, &got) == wanted);
	MODEL_CHECK(got == (wanted == -EFAULT ? UINT64_MAX : need));
	for (uint64_t range = 0; !wanted && range < count; range++)
		for (uint64_t done = 0; done < ranges[range].bytes; done += iov[i++].iov_len)
			MODEL_CHECK(memcmp(iov[i].iov_base,
					   model->byte + (ranges[range].gpa - model->base) + done,
					   iov[i].iov_len) == 0);
	MODEL_CHECK(wanted || i == need);
}

/* --- files --- */

static inline void model_load(struct model *model, uint64_t at, uint64_t bytes)
{
	uint64_t offset = model_draw(model, MODEL_BYTES), here = MODEL_BYTES - offset, done = 0;
	uint64_t reach = model_reach(model, at, bytes), most = reach < here ? reach : here;
	uint32_t some = (uint32_t)model_draw(model, 2);
	int err, wanted = reach < bytes ? -EFAULT : bytes > here ? -ENODATA : 0;

	model_fill_buf(model, MODEL_BYTES);
	MODEL_CHECK(pwrite(model->fd, model->buf, MODEL_BYTES, 0) == MODEL_BYTES);
	impost_view_end(&model->view);
	err = impost_memory_load_fd(model->memory, model->base + at, model->fd, offset, bytes,
				    some ? IMPOST_FD_SOME : 0, &done);
	MODEL_CHECK(impost_view_begin(model->memory, &model->view) == 0);
	if (some)
		wanted = bytes > 0 && reach == 0 ? -EFAULT : 0;
	MODEL_CHECK(err == wanted && done <= most);
	MODEL_CHECK(some || err == -EFAULT || done == most);
	MODEL_CHECK(err != -EFAULT || done == 0);
	MODEL_CHECK(!some || err || most == 0 || done > 0);
	memcpy(model->byte + at, model->buf + offset, done);
}

static inline void model_store(struct model *model, uint64_t at, uint64_t bytes)
{
	uint64_t offset = model_draw(model, 100), done = 0, reach = model_reach(model, at, bytes);
	uint32_t some = (uint32_t)model_draw(model, 2);
	int err, wanted = reach == bytes || (some && reach) ? 0 : -EFAULT;

	impost_view_end(&model->view);
	err = impost_memory_store_fd(model->memory, model->base + at, model->fd, offset, bytes,
				     some ? IMPOST_FD_SOME : 0, &done);
	MODEL_CHECK(impost_view_begin(model->memory, &model->view) == 0);
	MODEL_CHECK(err == wanted && done <= reach);
	MODEL_CHECK(err || (some && reach ? done > 0 : done == bytes));
	MODEL_CHECK(pread(model->fd, model->buf, done, (off_t)offset) == (ssize_t)done);
	MODEL_CHECK(memcmp(model->buf, model->byte + at, done) == 0);
	MODEL_CHECK(ftruncate(model->fd, MODEL_BYTES) == 0);
}

/* --- all of them --- */

static inline void model_step(struct model *model)
{
	uint64_t at = model_place(model), bytes = model_length(model);

	if (bytes > MODEL_BYTES - at)
		bytes = MODEL_BYTES - at + model_draw(model, 2); /* one that is beyond */
	if (bytes > MODEL_BYTES)
		bytes = MODEL_BYTES;
	switch (model_draw(model, 14)) {
	case 0:
	case 1:
		model_regions(model);
		break;
	case 2:
	case 3:
		model_read(model, at, bytes);
		break;
	case 4:
	case 5:
		model_write(model, at, bytes);
		break;
	case 6:
	case 7:
		model_number(model, at);
		break;
	case 8:
		model_atomic(model, at);
		break;
	case 9:
		model_string(model, at);
		break;
	case 10:
		model_pointer(model, at, bytes);
		break;
	case 11:
		model_iovec(model);
		break;
	case 12:
		if (model_draw(model, 2))
			model_load(model, at, bytes);
		else
			model_store(model, at, bytes);
		break;
	default:
		model_beyond(model, at);
	}
}

/* All of memory is as the model has it; then everything goes. */
static inline void model_end(struct model *model)
{
	for (uint64_t page = 0; page < MODEL_PAGES; page++)
		if (model->region[page]) {
			MODEL_CHECK(impost_view_read(&model->view, model->base + page * MODEL_PAGE,
						     model->buf, MODEL_PAGE) == 0);
			MODEL_CHECK(memcmp(model->buf, model->byte + page * MODEL_PAGE,
					   MODEL_PAGE) == 0);
		}
	for (uint64_t page = 0; page < MODEL_PAGES; page++)
		if (model->region[page])
			model_remove(model, page);
	impost_view_end(&model->view);
	close(model->fd);
	close(model->zeros);
}

#endif
