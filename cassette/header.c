/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a cassette: what the backend was that is recorded. */
#include <stdlib.h>
#include <string.h>

#include <impost/error.h>

#include "reader.h"
#include "values.h"

void cassette_header_free(struct header *header)
{
	free(header->header.cpuid);
	free(header->header.msrs);
	free(header->header.feature_msrs);
}

static bool take_texts(struct header *header, struct cassette_span span)
{
	struct item backend, version;

	if (!cassette_item_find_typed(span, "backend", ITEM_TEXT, &backend) ||
	    !cassette_item_find_typed(span, "version", ITEM_TEXT, &version) ||
	    !cassette_text_take(&backend, header->backend, sizeof(header->backend)) ||
	    !cassette_text_take(&version, header->version, sizeof(header->version)))
		return false;
	header->header.backend = header->backend;
	header->header.version = header->version;
	return true;
}

#define CAPS_NUMBERS 11u

static bool take_caps(struct header *header, struct cassette_span span)
{
	struct impost_caps *caps = &header->header.caps;
	uint64_t n[CAPS_NUMBERS], count;
	struct item_reader at;
	struct item item;

	if (!cassette_item_find_array(span, "caps", &at, &count) || count < CAPS_NUMBERS)
		return false;
	for (uint32_t i = 0; i < CAPS_NUMBERS; i++) {
		bool bits = i == 1 || i == 2;

		if (!cassette_item_take(&at, ITEM_UINT, &item) ||
		    (!bits && item.number > UINT32_MAX))
			return false;
		n[i] = item.number;
	}
	*caps = (struct impost_caps){
		.size = sizeof(*caps),
		.irqchip = (uint32_t)n[0],
		.bits = {n[1], n[2]},
		.max_vcpus = (uint32_t)n[3],
		.max_vcpu_id = (uint32_t)n[4],
		.max_slots = (uint32_t)n[5],
		.max_gsis = (uint32_t)n[6],
		.max_io_claims = (uint32_t)n[7],
		.max_cpuid = (uint32_t)n[8],
		.tsc_khz = (uint32_t)n[9],
		.phys_bits = (uint32_t)n[10],
	};
	return true;
}

/* The array of KEY, with room for its elements of BYTES each. */
static bool begin_array(struct cassette_span span, const char *key, size_t bytes,
			struct item_reader *ret_at, uint32_t *ret_count, void **ret_room)
{
	uint64_t count;

	/* Each element takes a byte of the item at least. */
	if (!cassette_item_find_array(span, key, ret_at, &count) || count > CASSETTE_ITEM_MAX)
		return false;
	*ret_room = calloc(count + 1, bytes);
	*ret_count = (uint32_t)count;
	return *ret_room;
}

static bool take_cpuid(struct header *header, struct cassette_span span)
{
	struct item_reader at;
	uint32_t count = 0;
	void *room = NULL;

	if (!begin_array(span, "cpuid", sizeof(struct impost_x86_cpuid), &at, &count, &room))
		return false;
	header->header.cpuid = room;
	header->header.ncpuid = count;
	for (uint32_t i = 0; i < count; i++)
		if (!cassette_item_take_cpuid(&at, &header->header.cpuid[i]))
			return false;
	return true;
}

static bool take_msrs(struct header *header, struct cassette_span span)
{
	struct item_reader at;
	uint32_t count = 0;
	void *room = NULL;
	struct item item;

	if (!begin_array(span, "msrs", sizeof(uint32_t), &at, &count, &room))
		return false;
	header->header.msrs = room;
	header->header.nmsrs = count;
	for (uint32_t i = 0; i < count; i++) {
		if (!cassette_item_take(&at, ITEM_UINT, &item) || item.number > UINT32_MAX)
			return false;
		header->header.msrs[i] = (uint32_t)item.number;
	}
	return true;
}

static bool take_feature_msrs(struct header *header, struct cassette_span span)
{
	struct item_reader at;
	uint32_t count = 0;
	void *room = NULL;

	if (!begin_array(span, "feature-msrs", sizeof(struct impost_x86_msr), &at, &count, &room))
		return false;
	header->header.feature_msrs = room;
	header->header.nfeature_msrs = count;
	for (uint32_t i = 0; i < count; i++)
		if (!cassette_item_take_msr(&at, &header->header.feature_msrs[i]))
			return false;
	return true;
}

static enum cassette_op op_named(const struct item *name)
{
	for (enum cassette_op op = 0; op < CASSETTE_OPS; op++)
		if (strlen(cassette_op_name(op)) == name->number &&
		    !memcmp(cassette_op_name(op), name->data, name->number))
			return op;
	return CASSETTE_OPS;
}

/* A name that is not known is that of a later version's operation, and may not be used. */
static bool take_ops(struct header *header, struct cassette_span span)
{
	struct item_reader at;
	struct item name;

	if (!cassette_item_find_array(span, "ops", &at, &header->nops) || header->nops > OPS_MAX)
		return false;
	for (uint64_t i = 0; i < header->nops; i++) {
		if (!cassette_item_take(&at, ITEM_TEXT, &name))
			return false;
		header->ops[i] = op_named(&name);
	}
	return true;
}

int cassette_header_take(struct header *header, struct cassette_span span, const char **ret_what)
{
	uint64_t version;

	*ret_what = "it is no header of a cassette";
	if (!cassette_item_find_uint(span, "impost-cassette", UINT64_MAX, &version))
		return -IMPOST_EFORMAT;
	*ret_what = "it is the header of a cassette of another version than 1";
	if (version != CASSETTE_VERSION)
		return -IMPOST_EFORMAT;
	*ret_what = "the header's `backend`, `version` or `caps` is not what it should be";
	if (!take_texts(header, span) || !take_caps(header, span))
		return -IMPOST_EFORMAT;
	*ret_what =
		"the header's `cpuid`, `msrs`, `feature-msrs` or `ops` is not what it should be";
	if (!take_cpuid(header, span) || !take_msrs(header, span) ||
	    !take_feature_msrs(header, span) || !take_ops(header, span))
		return -IMPOST_EFORMAT;
	return 0;
}
