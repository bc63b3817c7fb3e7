// SPDX-License-Identifier: Apache-2.0
/* impost inspect: what a snapshot file says of itself, and every register in it by name. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "json.h"
#include "saving.h"
#include "snapshots.h"
#include "tape.h"

/* Of the JSON that the library writes of a state; there is no deeper one. */
#define DEPTH 64

/* What of it is to be shown. */
struct look {
	const struct invocation *invocation;
	struct impost_snapshot *snapshot;
	struct impost_snapshot_info info;
	bool header; /* alone */
};

static const char *kind_name(uint32_t kind)
{
	return kind == IMPOST_SNAPSHOT_STATE	? "state"
	       : kind == IMPOST_SNAPSHOT_MEMORY ? "memory"
	       : kind == IMPOST_SNAPSHOT_BASE	? "base"
						: "unknown";
}

static const char *keyed_text(uint32_t flags)
{
	return !(flags & IMPOST_SNAPSHOT_IS_KEYED)   ? "none"
	       : flags & IMPOST_SNAPSHOT_IS_VERIFIED ? "verified with the key"
						     : "not verified: no key was given";
}

static void format_time(uint64_t ns, char *text, size_t size)
{
	time_t seconds = (time_t)(ns / 1000000000u);
	struct tm utc;

	if (!gmtime_r(&seconds, &utc) || !strftime(text, size, "%Y-%m-%dT%H:%M:%SZ", &utc))
		snprintf(text, size, "%" PRIu64 " ns", ns);
}

/* --- text --- */

static void print_row(const char *name, const char *fmt, ...) IMPOST_PRINTF(2, 3);

static void print_row(const char *name, const char *fmt, ...)
{
	char text[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("%-12s", name);
	put_text(stdout, text, 0);
	printf("\n");
}

static void print_sections(const struct look *look)
{
	struct impost_snapshot_section section = {.size = sizeof(section)};

	for (uint32_t i = 0; impost_snapshot_section(look->snapshot, i, &section) == 0; i++)
		print_row(i ? "" : "sections", "%-24s %-7s %10" PRIu64 " bytes at 0x%" PRIx64,
			  section.name, kind_name(section.kind), section.bytes, section.offset);
}

static void print_header(const struct look *look)
{
	const struct impost_snapshot_info *info = &look->info;
	char digest[SAVING_DIGEST_TEXT], time[64];

	print_row("snapshot", "%s", info->path);
	print_row("format", "version %u; readers of %u can read it", info->version,
		  info->compatible);
	format_time(info->created_ns, time, sizeof(time));
	print_row("created", "%s", time);
	saving_digest_text(info->id, digest);
	print_row("id", "%s", digest);
	saving_digest_text(info->digest, digest);
	print_row("digest", "%s", digest);
	if (info->flags & IMPOST_SNAPSHOT_IS_DIFF) {
		saving_digest_text(info->base_digest, digest);
		print_row("diff to", "%s%s%s", info->base ? info->base : "",
			  info->base ? ", digest " : "digest ", digest);
	}
	print_row("key", "%s", keyed_text(info->flags));
	print_row("size",
		  "%" PRIu64 " bytes, %" PRIu64 " on disk: header %" PRIu64 ", state %" PRIu64
		  ", memory %" PRIu64 " with its holes",
		  info->file_bytes, info->disk_bytes, info->header_bytes, info->state_bytes,
		  info->memory_bytes);
	print_sections(look);
}

static int show_text(const struct look *look)
{
	int err;

	print_header(look);
	if (look->header)
		return finish_output(STATUS_OK);
	printf("\n");
	err = impost_state_print(impost_snapshot_state(look->snapshot), write_to_file, stdout);
	if (err < 0 && !ferror(stdout))
		return complain_error(look->invocation, err);
	return finish_output(STATUS_OK);
}

/* --- JSON --- */

static void add_digest(struct json_object *object, const char *key, const uint8_t digest[16])
{
	char text[SAVING_DIGEST_TEXT];

	saving_digest_text(digest, text);
	json_add_string(object, key, text);
}

static struct json_object *describe_sections(const struct look *look)
{
	struct impost_snapshot_section section = {.size = sizeof(section)};
	struct json_object *array = json_object_new_array(), *object;

	for (uint32_t i = 0; impost_snapshot_section(look->snapshot, i, &section) == 0; i++) {
		object = json_object_new_object();
		json_add_string(object, "name", section.name);
		json_add_string(object, "kind", kind_name(section.kind));
		json_add_uint(object, "offset", section.offset);
		json_add_uint(object, "bytes", section.bytes);
		json_object_array_add(array, object);
	}
	return array;
}

static struct json_object *describe_header(const struct look *look)
{
	const struct impost_snapshot_info *info = &look->info;
	struct json_object *object = json_object_new_object();

	json_add_string(object, "path", info->path);
	json_add_uint(object, "format", info->version);
	json_add_uint(object, "compatible", info->compatible);
	json_add_uint(object, "created_ns", info->created_ns);
	add_digest(object, "id", info->id);
	add_digest(object, "digest", info->digest);
	json_add_bool(object, "diff", info->flags & IMPOST_SNAPSHOT_IS_DIFF);
	if (info->flags & IMPOST_SNAPSHOT_IS_DIFF) {
		json_add_string(object, "base", info->base);
		add_digest(object, "base_digest", info->base_digest);
	}
	json_add_bool(object, "keyed", info->flags & IMPOST_SNAPSHOT_IS_KEYED);
	json_add_bool(object, "verified", info->flags & IMPOST_SNAPSHOT_IS_VERIFIED);
	json_add_uint(object, "file_bytes", info->file_bytes);
	json_add_uint(object, "disk_bytes", info->disk_bytes);
	json_add_uint(object, "header_bytes", info->header_bytes);
	json_add_uint(object, "state_bytes", info->state_bytes);
	json_add_uint(object, "memory_bytes", info->memory_bytes);
	json_object_object_add(object, "sections", describe_sections(look));
	return object;
}

/* The library writes JSON itself: it is read here, to be one object with the rest. */
static int read_state(const struct look *look, struct json_object **ret_object)
{
	struct json_tokener *tokener;
	size_t len = 0;
	char *text = NULL;
	FILE *file = open_memstream(&text, &len);
	int err;

	if (!file)
		return impost_error_set(look->invocation->ctx, -ENOMEM, "no memory for JSON");
	err = impost_state_json(impost_snapshot_state(look->snapshot), write_to_file, file);
	if (fclose(file) != 0 && err == 0)
		err = impost_error_set(look->invocation->ctx, -ENOMEM, "no memory for JSON");
	tokener = err == 0 && len < INT_MAX ? json_tokener_new_ex(DEPTH) : NULL;
	if (tokener) {
		*ret_object = json_tokener_parse_ex(tokener, text, (int)len + 1);
		json_tokener_free(tokener);
	}
	if (err == 0 && !*ret_object)
		err = impost_error_set(look->invocation->ctx, -EOVERFLOW,
				       "the state is too much for one JSON object: %zu bytes", len);
	free(text);
	return err;
}

static int show_json(const struct look *look)
{
	struct json_object *object = describe_header(look), *state = NULL;
	int err = look->header ? 0 : read_state(look, &state);

	if (err < 0) {
		json_object_put(object);
		return complain_error(look->invocation, err);
	}
	if (!look->header)
		json_object_object_add(object, "state", state);
	json_print("snapshot", object);
	return finish_output(STATUS_OK);
}

/* A cassette has neither a key nor a header of a snapshot's. */
static int show_tape(const struct invocation *invocation)
{
	if (!invocation_has(invocation, OPTION_HEADER) &&
	    !invocation_has(invocation, OPTION_KEY_FILE))
		return tape_show(invocation, invocation->operands[0]);
	complain("inspect: %s is a cassette: --header and --key-file are for snapshots",
		 invocation->operands[0]);
	return STATUS_USAGE;
}

int command_inspect(const struct invocation *invocation)
{
	struct look look = {
		.invocation = invocation,
		.info = {.size = sizeof(look.info)},
		.header = invocation_has(invocation, OPTION_HEADER),
	};
	uint32_t flags = look.header ? IMPOST_SNAPSHOT_HEADER : IMPOST_SNAPSHOT_ALONE;
	int status, err;

	if (tape_is_one(invocation->operands[0]))
		return show_tape(invocation);
	status = snapshots_open(invocation, invocation->operands[0], flags, &look.snapshot);
	if (status != STATUS_OK)
		return status;
	err = impost_snapshot_info(look.snapshot, &look.info);
	status = err < 0				   ? complain_error(invocation, err)
		 : invocation_has(invocation, OPTION_JSON) ? show_json(&look)
							   : show_text(&look);
	impost_snapshot_close(look.snapshot);
	return status;
}
