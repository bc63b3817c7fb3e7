/* SPDX-License-Identifier: Apache-2.0 */
/* What each operation gave, but for exits, as named values, and back into C. */
#include <string.h>

#include <impost/error.h>

#include "values.h"

void cassette_results_state_get(struct cassette_values *v, int32_t err, const void *buf,
				uint32_t size)
{
	if (!err)
		cassette_put_bytes(v, "state", buf, size);
	else if (err == -ENOSPC)
		cassette_put_uint(v, "size", size);
}

int cassette_take_state_get(struct cassette_span results, int32_t err,
			    struct cassette_span *ret_data, uint32_t *ret_size)
{
	struct item item;
	uint64_t size;

	if (err) {
		if (cassette_item_find_uint(results, "size", UINT32_MAX, &size))
			*ret_size = (uint32_t)size;
		return 0;
	}
	if (!cassette_item_find_typed(results, "state", ITEM_BYTES, &item) ||
	    item.number > UINT32_MAX)
		return -IMPOST_EFORMAT;
	*ret_data = (struct cassette_span){item.data, item.number};
	*ret_size = (uint32_t)item.number;
	return 0;
}

void cassette_results_msrs_get(struct cassette_values *v, const struct impost_x86_msr *msrs,
			       uint32_t done)
{
	struct item_writer writer = cassette_values_open(v, "values");

	cassette_item_put(&writer, ITEM_ARRAY, done, NULL);
	for (uint32_t i = 0; i < done; i++)
		cassette_item_put(&writer, ITEM_UINT, msrs[i].value, NULL);
	cassette_values_close(v, &writer);
}

int cassette_take_msrs_get(struct cassette_span results, struct impost_x86_msr *msrs,
			   uint32_t count, uint32_t *ret_done)
{
	struct item_reader reader, check;
	struct item item;
	uint64_t done;

	if (!cassette_item_find_array(results, "values", &reader, &done) || done > count)
		return -IMPOST_EFORMAT;
	check = reader;
	for (uint64_t i = 0; i < done; i++)
		if (!cassette_item_take(&check, ITEM_UINT, &item))
			return -IMPOST_EFORMAT;
	for (uint64_t i = 0; i < done && cassette_item_take(&reader, ITEM_UINT, &item); i++)
		msrs[i].value = item.number;
	*ret_done = (uint32_t)done;
	return 0;
}

void cassette_results_msrs_set(struct cassette_values *v, uint32_t done)
{
	cassette_put_uint(v, "done", done);
}

int cassette_take_msrs_set(struct cassette_span results, uint32_t count, uint32_t *ret_done)
{
	uint64_t done;

	if (!cassette_item_find_uint(results, "done", count, &done))
		return -IMPOST_EFORMAT;
	*ret_done = (uint32_t)done;
	return 0;
}

/* COUNT numbers in an array of as many. */
static bool take_numbers(struct item_reader *reader, const uint64_t *max, uint64_t *ret_numbers,
			 uint32_t count)
{
	struct item item;

	if (!cassette_item_take(reader, ITEM_ARRAY, &item) || item.number != count)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (!cassette_item_take(reader, ITEM_UINT, &item) || item.number > max[i])
			return false;
		ret_numbers[i] = item.number;
	}
	return true;
}

bool cassette_item_take_cpuid(struct item_reader *reader, struct impost_x86_cpuid *ret_entry)
{
	static const uint64_t max[] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
				       UINT32_MAX, UINT32_MAX, UINT32_MAX};
	uint64_t n[7] = {0};

	if (!take_numbers(reader, max, n, 7))
		return false;
	*ret_entry = (struct impost_x86_cpuid){
		.leaf = (uint32_t)n[0],
		.subleaf = (uint32_t)n[1],
		.flags = (uint32_t)n[2],
		.eax = (uint32_t)n[3],
		.ebx = (uint32_t)n[4],
		.ecx = (uint32_t)n[5],
		.edx = (uint32_t)n[6],
	};
	return true;
}

bool cassette_item_take_msr(struct item_reader *reader, struct impost_x86_msr *ret_msr)
{
	static const uint64_t max[] = {UINT32_MAX, UINT64_MAX};
	uint64_t n[2] = {0};

	if (!take_numbers(reader, max, n, 2))
		return false;
	*ret_msr = (struct impost_x86_msr){.index = (uint32_t)n[0], .value = n[1]};
	return true;
}

void cassette_results_cpuid_get(struct cassette_values *v, int32_t err,
				const struct impost_x86_cpuid *entries, uint32_t count)
{
	struct item_writer writer;

	if (!err && entries) {
		writer = cassette_values_open(v, "cpuid");
		cassette_item_put_cpuid(&writer, entries, count);
		cassette_values_close(v, &writer);
	} else if (!err || err == -ENOSPC) {
		cassette_put_uint(v, "count", count);
	}
}

int cassette_take_cpuid_get(struct cassette_span results, int32_t err,
			    struct impost_x86_cpuid *entries, uint32_t capacity,
			    uint32_t *ret_count)
{
	struct item_reader reader, check;
	struct impost_x86_cpuid entry;
	uint64_t count;

	if (cassette_item_find_uint(results, "count", UINT32_MAX, &count)) {
		/* A number alone comes with an error, or there are none. */
		if (!err && count)
			return -IMPOST_EFORMAT;
		*ret_count = (uint32_t)count;
		return 0;
	}
	if (err)
		return 0;
	if (!cassette_item_find_array(results, "cpuid", &reader, &count) || count > UINT32_MAX)
		return -IMPOST_EFORMAT;
	check = reader;
	for (uint64_t i = 0; i < count; i++)
		if (!cassette_item_take_cpuid(&check, &entry))
			return -IMPOST_EFORMAT;
	*ret_count = (uint32_t)count;
	if (count > capacity)
		return -ENOSPC;
	for (uint64_t i = 0; i < count && cassette_item_take_cpuid(&reader, &entry); i++)
		entries[i] = entry;
	return 0;
}

void cassette_results_translate(struct cassette_values *v, uint64_t gpa)
{
	cassette_put_uint(v, "gpa", gpa);
}

int cassette_take_translate(struct cassette_span results, uint64_t *ret_gpa)
{
	return cassette_item_find_uint(results, "gpa", UINT64_MAX, ret_gpa) ? 0 : -IMPOST_EFORMAT;
}
