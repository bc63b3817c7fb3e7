/* SPDX-License-Identifier: Apache-2.0 */
/* What Config and State are made of: CBOR, as docs/migration-format.md has it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cbor.h"
#include "migrate.h"
#include "record.h"
#include "state.h"

#define KEY_STATE     "state"
#define KEY_MIGRATION "migration"

/* --- the record --- */

#define T migrate_config
IMPOST_FIELDS(migration_fields,
	      IMPOST_FIELD_UINT(struct T, connections, 1, 1,
				"Connections that memory goes over, the first among them",
				.max = MIGRATE_CONNECTIONS_MOST),
	      IMPOST_FIELD_BOOL(struct T, local, 1, 0,
				"Memory is handed over as descriptors, with MemoryFd"),
	      IMPOST_FIELD_BYTES(struct T, token, 1, "What Join and Resume are known by"),
	      IMPOST_FIELD_POINTER_TO(struct T, offsets, UINT, noffsets, STATE_SLOTS_MAX, 1,
				      "`local`: where in its file each region of `machine` begins, "
				      "in their order; else none"))
IMPOST_RECORD(migration_record, KEY_MIGRATION, struct T, 1, 1, 1, migration_fields,
	      "How the VM is sent.")
#undef T

const struct impost_record *const migrate_config_record = &migration_record;

static const char *wrong_migration(const struct migrate_config *config)
{
	if (config->connections == 0)
		return "there is to be no connection";
	if (config->noffsets && !config->local)
		return "it has offsets of files, and memory does not come in files";
	for (uint32_t i = 0; i < config->noffsets; i++)
		if (config->offsets[i] % IMPOST_PAGE_SIZE || config->offsets[i] > INT64_MAX)
			return "an offset in a file is none, or not of a page";
	return NULL;
}

/* --- encoding --- */

/* What a payload has: the sections of a state, in the order of their keys, and for Config the
 * record. */
struct payload {
	const struct state_section **sections;
	uint32_t count;
	const void *record; /* NULL: it is State's */
	size_t record_len;
};

static int by_key(const void *a, const void *b)
{
	const struct state_section *const *x = a, *const *y = b;

	return item_compare_keys((*x)->name, strlen((*x)->name), (*y)->name, strlen((*y)->name));
}

static void put_payload(struct item_writer *writer, const struct payload *payload)
{
	if (payload->record) {
		item_put(writer, ITEM_MAP, 2, NULL);
		item_put_text(writer, KEY_STATE);
	}
	item_put(writer, ITEM_MAP, payload->count, NULL);
	for (uint32_t i = 0; i < payload->count; i++) {
		const struct state_section *section = payload->sections[i];

		item_put_text(writer, section->name);
		item_put(writer, ITEM_BYTES, section->len, section->data);
	}
	if (payload->record) {
		item_put_text(writer, KEY_MIGRATION);
		item_put(writer, ITEM_BYTES, payload->record_len, payload->record);
	}
}

static int no_memory(struct impost_context *ctx)
{
	return impost_error_set(ctx, -ENOMEM, "no memory for what a migration sends");
}

/* Measures, allocates and writes. */
static int encode(struct impost_context *ctx, const struct payload *payload, void **ret_data,
		  uint64_t *ret_len)
{
	struct item_writer writer = {.buf = NULL};
	void *data;

	put_payload(&writer, payload);
	if (writer.len > WIRE_PAYLOAD_MOST)
		return impost_error_set(ctx, -E2BIG,
					"the state has %zu bytes: a migration takes %llu at the "
					"most",
					writer.len, (unsigned long long)WIRE_PAYLOAD_MOST);
	data = malloc(writer.len);
	if (!data)
		return no_memory(ctx);
	writer = (struct item_writer){.buf = data, .capacity = writer.len};
	put_payload(&writer, payload);
	*ret_data = data;
	*ret_len = writer.len;
	return 0;
}

static int encode_with(struct impost_context *ctx, const struct impost_state *state,
		       const void *record, size_t record_len, void **ret_data, uint64_t *ret_len)
{
	struct payload payload = {
		.count = state->count, .record = record, .record_len = record_len};
	int err;

	payload.sections = calloc((size_t)state->count + 1, sizeof(struct state_section *));
	if (!payload.sections)
		return no_memory(ctx);
	for (uint32_t i = 0; i < state->count; i++)
		payload.sections[i] = &state->sections[i];
	qsort(payload.sections, payload.count, sizeof(struct state_section *), by_key);
	err = encode(ctx, &payload, ret_data, ret_len);
	free(payload.sections);
	return err;
}

int migrate_encode_config(struct impost_context *ctx, const struct migrate_config *config,
			  const struct impost_state *state, void **ret_data, uint64_t *ret_len)
{
	void *record;
	size_t record_len;
	int err = record_encode_new(ctx, &migration_record, config, &record, &record_len);

	if (err)
		return err;
	err = encode_with(ctx, state, record, record_len, ret_data, ret_len);
	free(record);
	return err;
}

int migrate_encode_state(struct impost_context *ctx, const struct impost_state *state,
			 void **ret_data, uint64_t *ret_len)
{
	return encode_with(ctx, state, NULL, 0, ret_data, ret_len);
}

/* --- decoding --- */

struct decoding {
	struct impost_context *ctx;
	const char *what; /* "Config" */
	struct item_reader in;
};

static int malformed(const struct decoding *d, const char *why)
{
	return impost_error_set(d->ctx, -IMPOST_EFORMAT, "%s is malformed, at byte %zu: %s",
				d->what, (size_t)(d->in.at - d->in.start), why);
}

/* The next item, which is to be of TYPE. */
static int next(struct decoding *d, enum item_type type, struct item *ret_item)
{
	struct item item;

	if (item_next(&d->in, &item))
		return malformed(d, d->in.wrong);
	if (item.type != type) {
		char why[64];

		snprintf(why, sizeof(why), "%s, where %s was to be", item_type_name(item.type),
			 item_type_name(type));
		return malformed(d, why);
	}
	*ret_item = item;
	return 0;
}

/* Goes past KEY, which is to come next. */
static int need_key(struct decoding *d, const char *key)
{
	char why[64];
	struct item item;

	if (item_take_key(&d->in, key, strlen(key), &item))
		return 0;
	snprintf(why, sizeof(why), "there is no key \"%s\" there", key);
	return malformed(d, why);
}

static int take_section(struct decoding *d, const struct item *key, struct impost_state *state)
{
	char name[IMPOST_STATE_NAME_MAX];
	struct item data;
	int err = next(d, ITEM_BYTES, &data);

	if (err)
		return err;
	if (!key->data || key->number >= sizeof(name) || memchr(key->data, '\0', key->number))
		return malformed(d, "a name that no section of a state has");
	memcpy(name, key->data, key->number);
	name[key->number] = '\0';
	err = impost_state_add(state, name, data.data, data.number);
	/* A name that there is not, or too many of them. */
	return err == -EINVAL || err == -ENOSPC ? -IMPOST_EFORMAT : err;
}

static int take_sections(struct decoding *d, struct impost_state *state)
{
	struct item map, key = {.data = NULL};
	int err = next(d, ITEM_MAP, &map);

	for (uint64_t i = 0; !err && i < map.number; i++)
		err = item_next_key(&d->in, &key, &key) ? malformed(d, d->in.wrong)
							: take_section(d, &key, state);
	return err;
}

/* A map of the sections of a state, which is whole. */
static int take_state(struct decoding *d, struct impost_state **ret_state)
{
	struct impost_state *state;
	int err = impost_state_create(d->ctx, &state);

	if (err)
		return err;
	err = take_sections(d, state);
	if (!err)
		err = state_whole(state);
	if (err) {
		impost_state_free(state);
		return err;
	}
	*ret_state = state;
	return 0;
}

static int take_record(struct decoding *d, struct migrate_config *ret_config)
{
	struct migrate_config config;
	const char *wrong;
	struct item data;
	int err = next(d, ITEM_BYTES, &data);

	if (!err)
		err = impost_record_decode(d->ctx, &migration_record, data.data, data.number,
					   &config, sizeof(config), &config.version);
	if (err)
		return err;
	wrong = wrong_migration(&config);
	if (wrong) {
		migrate_config_release(&config);
		return malformed(d, wrong);
	}
	*ret_config = config;
	return 0;
}

static int end(struct decoding *d)
{
	return item_end(&d->in) ? malformed(d, d->in.wrong) : 0;
}

/* Whether each region has its offset. */
static int check_offsets(const struct decoding *d, const struct migrate_config *config,
			 const struct impost_state *state)
{
	return !config->local || config->noffsets == state_machine(state)->nregions
		       ? 0
		       : malformed(d, "there is not one offset for each region");
}

static int take_config(struct decoding *d, struct migrate_config *ret_config,
		       struct impost_state **ret_state)
{
	struct item map;
	int err = next(d, ITEM_MAP, &map);

	if (!err && map.number != 2)
		err = malformed(d, "a map of other than two");
	if (!err)
		err = need_key(d, KEY_STATE);
	if (!err)
		err = take_state(d, ret_state);
	if (!err)
		err = need_key(d, KEY_MIGRATION);
	return err ? err : take_record(d, ret_config);
}

int migrate_decode_config(struct impost_context *ctx, const void *data, uint64_t len,
			  struct migrate_config *ret_config, struct impost_state **ret_state)
{
	struct decoding d = {.ctx = ctx, .what = "Config"};
	struct migrate_config config = {.offsets = NULL};
	struct impost_state *state = NULL;
	int err;

	item_begin(&d.in, data, len);
	err = take_config(&d, &config, &state);
	if (!err)
		err = end(&d);
	if (!err)
		err = check_offsets(&d, &config, state);
	if (err) {
		migrate_config_release(&config);
		impost_state_free(state);
		return err;
	}
	*ret_config = config;
	*ret_state = state;
	return 0;
}

void migrate_config_release(struct migrate_config *config)
{
	impost_record_release(&migration_record, config);
}

int migrate_decode_state(struct impost_context *ctx, const void *data, uint64_t len,
			 struct impost_state **ret_state)
{
	struct decoding d = {.ctx = ctx, .what = "State"};
	struct impost_state *state;
	int err;

	item_begin(&d.in, data, len);
	err = take_state(&d, &state);
	if (err)
		return err;
	err = end(&d);
	if (err) {
		impost_state_free(state);
		return err;
	}
	*ret_state = state;
	return 0;
}
