/* SPDX-License-Identifier: Apache-2.0 */
/* Config and State of a migration: what is encoded comes back, and nothing else does. */
#include "mock.h"

#include "core.h"
#include "migrate.h"

static const struct migrate_config plain = {.connections = 1, .token = {1, 2, 3}};

struct encoded {
	uint8_t *data;
	uint64_t len;
};

static struct impost_state *make_state(struct mock *m)
{
	static const uint8_t number[] = {7};
	struct impost_state *state = NULL;

	mock_open_with(m, NULL, IMPOST_IRQCHIP_FULL, 2, NULL, NULL);
	expect_ok(m->ctx, impost_state_take(m->vm, &state));
	/* Longer names come later in a map, wherever they are in a state. */
	expect_ok(m->ctx, impost_state_add(state, "host.a", number, 1));
	expect_ok(m->ctx, impost_state_add(state, "device.serial-of-a-kind.0", number, 1));
	return state;
}

static struct encoded encode(struct mock *m, const struct migrate_config *config,
			     const struct impost_state *state)
{
	struct encoded encoded = {NULL, 0};
	void *data = NULL;

	expect_ok(m->ctx, config ? migrate_encode_config(m->ctx, config, state, &data, &encoded.len)
				 : migrate_encode_state(m->ctx, state, &data, &encoded.len));
	encoded.data = data;
	return encoded;
}

static int decode(struct mock *m, bool config, const uint8_t *data, uint64_t len,
		  struct migrate_config *ret_config, struct impost_state **ret_state)
{
	return config ? migrate_decode_config(m->ctx, data, len, ret_config, ret_state)
		      : migrate_decode_state(m->ctx, data, len, ret_state);
}

/* What decodes is encoded as it was. */
static void expect_one_form(struct mock *m, bool config, const uint8_t *data, uint64_t len)
{
	struct migrate_config decoded = {.offsets = NULL};
	struct impost_state *state = NULL;
	struct encoded again;
	int err = decode(m, config, data, len, &decoded, &state);

	if (err) {
		cr_assert_eq(err, -IMPOST_EFORMAT, "%d: %s", err, impost_error(m->ctx));
		cr_expect(!state && !decoded.offsets);
		return;
	}
	again = encode(m, config ? &decoded : NULL, state);
	cr_expect(again.len == len && memcmp(again.data, data, len) == 0);
	free(again.data);
	impost_state_free(state);
	if (config)
		migrate_config_release(&decoded);
}

static void expect_error_of(struct mock *m, bool config, const void *data, uint64_t len,
			    const char *words)
{
	struct migrate_config decoded;
	struct impost_state *state;

	expect_error(m->ctx, decode(m, config, data, len, &decoded, &state), -IMPOST_EFORMAT,
		     words);
}

Test(migrate_config, round_trip)
{
	uint64_t offsets[] = {0x3000};
	const struct migrate_config configs[] = {
		plain,
		{.connections = 64, .token = {0xff, [15] = 0xff}},
		{.connections = 1, .local = 1, .noffsets = 1, .offsets = offsets},
	};
	struct mock m;
	struct impost_state *state = make_state(&m);

	for (size_t i = 0; i < 3; i++) {
		struct encoded encoded = encode(&m, &configs[i], state);
		struct migrate_config config;
		struct impost_state *back;

		expect_ok(m.ctx,
			  migrate_decode_config(m.ctx, encoded.data, encoded.len, &config, &back));
		cr_expect(config.version == 1 && config.connections == configs[i].connections);
		cr_expect(config.local == configs[i].local);
		cr_expect(memcmp(config.token, configs[i].token, WIRE_TOKEN) == 0);
		cr_assert(config.noffsets == configs[i].noffsets);
		cr_expect(!config.noffsets || config.offsets[0] == 0x3000);
		cr_expect(impost_state_diff(state, back, NULL, NULL) == 0);
		expect_one_form(&m, true, encoded.data, encoded.len);
		migrate_config_release(&config);
		impost_state_free(back);
		free(encoded.data);
	}
	impost_state_free(state);
	mock_close(&m);
}

/* Cut anywhere, or with any byte of it changed, it is refused, or is one of its own. */
static void try_all(bool config)
{
	struct mock m;
	struct impost_state *state = make_state(&m);
	struct encoded encoded = encode(&m, config ? &plain : NULL, state);
	struct migrate_config decoded;
	struct impost_state *back;

	for (uint64_t len = 0; len<encoded.len; len += len> 512 ? 8 : 1) {
		/* Of its own, so that a sanitizer sees what is read behind it. */
		uint8_t *cut = malloc(len + 1);

		memcpy(cut, encoded.data, len);
		cut = realloc(cut, len ? len : 1);
		cr_assert_eq(decode(&m, config, cut, len, &decoded, &back), -IMPOST_EFORMAT,
			     "%llu bytes of %llu", (unsigned long long)len,
			     (unsigned long long)encoded.len);
		free(cut);
	}
	for (uint64_t at = 0; at<encoded.len; at += at> 512 ? 8 : 1) {
		uint8_t was = encoded.data[at];

		encoded.data[at] ^= (uint8_t)(1u << at % 8);
		expect_one_form(&m, config, encoded.data, encoded.len);
		encoded.data[at] = was;
	}
	encoded.data = realloc(encoded.data, encoded.len + 1);
	encoded.data[encoded.len] = 0;
	expect_error_of(&m, config, encoded.data, encoded.len + 1, "bytes after the end");
	free(encoded.data);
	impost_state_free(state);
	mock_close(&m);
}

Test(migrate_config, cut_and_changed_config)
{
	try_all(true);
}

Test(migrate_config, cut_and_changed_state)
{
	try_all(false);
}

Test(migrate_config, wrong_forms)
{
	static const struct {
		bool config;
		const char *data, *words;
	} cases[] = {
		{false, "\x80", "an array, where a map was to be"},
		{false, "\xa0", "section machine: it is missing"},
		{false, "\xa1\x61x\x40", "is no section of a state"},
		{false, "\xa1\x61x\x60", "a text, where a byte string was to be"},
		{false,
		 "\xa2\x63"
		 "foo\x40\x62vm\x40",
		 "is no section"},
		{false, "\xa2\x66host.b\x41\x01\x66host.a\x41\x01", "order of deterministic"},
		{false, "\xbf\xff", "indefinite"},
		{false, "\xba\xff\xff\xff\xff", "a map that is longer than the input"},
		{false,
		 "\xa1\x78\x30"
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x40",
		 "a name that no section"},
		{true, "\xa1\x65state\xa0", "other than two"},
		{true, "\xa2\x65stats\xa0\x69migration\x40", "no key \"state\""},
		{true, "\xa2\x65state\xa0\x69migration\x40", "section machine: it is missing"},
	};
	struct mock m;

	mock_open(&m, NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_error_of(&m, cases[i].config, cases[i].data, strlen(cases[i].data),
				cases[i].words);
	mock_close(&m);
}

Test(migrate_config, wrong_records)
{
	uint64_t offsets[] = {0x3000, 0}, odd[] = {0x3001}, far[] = {UINT64_C(1) << 63};
	const struct {
		struct migrate_config config;
		const char *words;
	} cases[] = {
		{{.connections = 0}, "no connection"},
		{{.connections = 1, .noffsets = 1, .offsets = offsets}, "does not come in files"},
		{{.connections = 1, .local = 1, .noffsets = 1, .offsets = odd}, "offset"},
		{{.connections = 1, .local = 1, .noffsets = 1, .offsets = far}, "offset"},
		{{.connections = 1, .local = 1, .noffsets = 2, .offsets = offsets},
		 "one offset for each region"},
		{{.connections = 1, .local = 1}, "one offset for each region"},
	};
	struct mock m;
	struct impost_state *state = make_state(&m);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct encoded encoded = encode(&m, &cases[i].config, state);

		expect_error_of(&m, true, encoded.data, encoded.len, cases[i].words);
		free(encoded.data);
	}
	impost_state_free(state);
	mock_close(&m);
}

Test(migrate_config, too_much)
{
	const struct migrate_config config = {.connections = 65};
	struct mock m;
	struct impost_state *state = make_state(&m);
	uint8_t *most = calloc(1, (64u << 20) + 5);
	uint64_t len;
	void *data;

	expect_error(m.ctx, migrate_encode_config(m.ctx, &config, state, &data, &len), -EINVAL,
		     "connections");
	/* A byte string of 64 MiB. */
	memcpy(most, "\x5a\x04\x00\x00\x00", 5);
	expect_ok(m.ctx, impost_state_add(state, "host.most", most, (64u << 20) + 5));
	free(most);
	expect_error(m.ctx, migrate_encode_state(m.ctx, state, &data, &len), -E2BIG, "at the most");
	impost_state_free(state);
	mock_close(&m);
}

/* --- the description --- */

struct text {
	char data[8192];
	size_t len;
};

static int append_text(void *opaque, const char *data, size_t len)
{
	struct text *text = opaque;

	cr_assert(text->len + len < sizeof(text->data));
	memcpy(text->data + text->len, data, len);
	text->len += len;
	text->data[text->len] = '\0';
	return 0;
}

Test(migrate_config, documented)
{
	FILE *file = fopen(FORMAT, "re");
	static char format[1 << 16];
	struct text text = {.len = 0};

	cr_assert(file && fread(format, 1, sizeof(format) - 1, file) > 0);
	fclose(file);
	cr_assert_eq(impost_record_verify(NULL, migrate_config_record), 0);
	cr_assert_eq(impost_record_document(NULL, migrate_config_record, append_text, &text), 0);
	cr_expect(strstr(format, text.data), "%s is to have this:\n%s", FORMAT, text.data);
}
