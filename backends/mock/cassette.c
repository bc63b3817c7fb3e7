/* SPDX-License-Identifier: Apache-2.0 */
/* The backend as a cassette has it: its header says what the hypervisor could do. */
#include <cassette.h>

#include <string.h>

#include "internal.h"

int32_t mock_cassette_open(struct mock_backend *b)
{
	char why[512] = "";
	int err = cassette_reader_open(b->cassette, &b->reader, why, sizeof(why));
	const struct impost_caps *caps;

	if (err)
		return impost_host_error(&b->host, -EINVAL, "cassette %s: %s", b->cassette, why);
	b->header = cassette_reader_header(b->reader);
	caps = &b->header->caps;
	b->dirty_manual = impost_caps_has(caps, IMPOST_CAP_DIRTY_MANUAL);
	b->dirty_initially_set = impost_caps_has(caps, IMPOST_CAP_DIRTY_INITIALLY_SET);
	b->memory_moves = impost_caps_has(caps, IMPOST_CAP_MEM_MOVES);
	return 0;
}

void mock_cassette_close(struct mock_backend *b)
{
	cassette_reader_close(b->reader);
}

/* But for that nothing is executed. */
int32_t mock_cassette_caps(const struct mock_backend *b, struct impost_caps *ret_caps)
{
	struct impost_caps c = b->header->caps;
	uint32_t room = ret_caps->size;

	c.bits[IMPOST_CAP_EXECUTES / 64] &= ~(UINT64_C(1) << IMPOST_CAP_EXECUTES % 64);
	c.size = room < sizeof(c) ? room : (uint32_t)sizeof(c);
	memcpy(ret_caps, &c, c.size);
	return 0;
}

/* Copies COUNT of BYTES each, if there is room for them. */
static int32_t give(const struct mock_backend *b, const char *what, const void *from,
		    uint32_t count, size_t bytes, void *to, uint32_t capacity, uint32_t *ret_count)
{
	*ret_count = count;
	if (capacity < count)
		return impost_host_error(&b->host, -ENOSPC, "%s: there are %u", what, count);
	if (count)
		memcpy(to, from, count * bytes);
	return 0;
}

int32_t mock_cassette_cpuid(const struct mock_backend *b, struct impost_x86_cpuid *entries,
			    uint32_t capacity, uint32_t *ret_count)
{
	return give(b, "CPUID entries", b->header->cpuid, b->header->ncpuid, sizeof(*entries),
		    entries, capacity, ret_count);
}

int32_t mock_cassette_msrs(const struct mock_backend *b, uint32_t *indices, uint32_t capacity,
			   uint32_t *ret_count)
{
	return give(b, "MSRs", b->header->msrs, b->header->nmsrs, sizeof(*indices), indices,
		    capacity, ret_count);
}

int32_t mock_cassette_features(const struct mock_backend *b, struct impost_x86_msr *msrs,
			       uint32_t capacity, uint32_t *ret_count)
{
	return give(b, "MSRs of features", b->header->feature_msrs, b->header->nfeature_msrs,
		    sizeof(*msrs), msrs, capacity, ret_count);
}
