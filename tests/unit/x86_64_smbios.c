/* SPDX-License-Identifier: Apache-2.0 */
/* SMBIOS: golden bytes, a reader of its own, and dmidecode, to which nothing may look wrong. */
#include "../golden/golden.h"
#include "random.h"
#include "x86_64.h"

#include <impost/x86_64/layout.h>
#include <impost/x86_64/smbios.h>

#define TIB	     (UINT64_C(1) << 40)
#define TABLE_OFFSET 0x20u

static const char *const two_oem_strings[] = {"a=1", "b"};
static const struct impost_x86_range two_ranges[] = {{0, 3 * GIB}, {4 * TIB, 17 * GIB}};
static const uint8_t own_data[] = {221, 6, 0x00, 0x80, 1, 42, 'm', 'i', 'n', 'e', 0, 0};
static const struct impost_x86_smbios_structure own[] = {{own_data, sizeof(own_data), 0}};

static struct impost_x86_smbios_config config_make(void)
{
	return (struct impost_x86_smbios_config){
		.size = sizeof(struct impost_x86_smbios_config),
		.flags = IMPOST_X86_SMBIOS_ACPI,
		.bios_vendor = "Firm",
		.bios_version = "1.2",
		.bios_date = "02/29/2024",
		.manufacturer = "Maker",
		.product = "Product",
		.version = "Version",
		.serial = "Serial",
		.sku = "SKU",
		.family = "Family",
		.uuid = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb,
			 0xcc, 0xdd, 0xee, 0xff},
		.board_product = "Board",
		.chassis_asset_tag = "Tag",
		.cpu_manufacturer = "GenuineIntel",
		.cpu_brand = "A Brand",
		.cpu_signature = 0x000806f8,
		.cpu_features = 0x178bfbff,
		.cpu_family = 0xb3,
		.cpu_mhz = 2400,
		.sockets = 2,
		.cores = 300,
		.threads = 2,
		.noem_strings = 2,
		.oem_strings = two_oem_strings,
		.ram = two_ranges,
		.nram = 2,
		.nstructures = 1,
		.structures = own,
	};
}

Test(smbios, golden)
{
	struct impost_x86_smbios_config config = config_make();
	uint8_t buf[IMPOST_X86_SMBIOS_MAX];
	size_t bytes;

	cr_assert_eq(impost_x86_smbios_build(NULL, &config, IMPOST_X86_SMBIOS_ADDR, buf,
					     sizeof(buf), &bytes),
		     0);
	golden_compare("smbios.golden", buf, bytes);
}

/* --- a reader --- */

static uint64_t get(const uint8_t *at, unsigned int bytes)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

/* What the reader has found. */
struct seen {
	unsigned int count[256]; /* structures of each type */
	uint8_t handles[0x10000];
	uint16_t array, chassis; /* handles of types 16 and 3 */
	uint64_t device_bytes, mapped_bytes, largest_device;
	uint32_t array_devices, cores, threads;
	uint32_t family;    /* the last processor's */
	char text[256][80]; /* text N of the structure last read */
};

/* Reads the texts from AT on; returns where they end. Numbers are counted from 1. */
static const uint8_t *read_texts(struct seen *seen, const uint8_t *at, const uint8_t *end)
{
	unsigned int number = 0;

	memset(seen->text, 0, sizeof(seen->text));
	while (*at) {
		size_t bytes = strnlen((const char *)at, (size_t)(end - at));

		cr_assert_lt(at + bytes, end, "a text goes on beyond the table");
		snprintf(seen->text[++number], sizeof(seen->text[0]), "%s", (const char *)at);
		at += bytes + 1;
	}
	at += number ? 1 : 2;
	cr_assert_leq(at, end, "no NULs behind the last structure");
	cr_assert_eq(at[-1], 0);
	return at;
}

static void read_device(struct seen *seen, const uint8_t *s)
{
	uint64_t bytes = get(s + 0x3c, 8), size = get(s + 0x0c, 2);

	cr_assert_eq(get(s + 4, 2), seen->array);
	if (size == 0x7fff)
		size = get(s + 0x1c, 4);
	else
		cr_assert_eq(get(s + 0x1c, 4), 0u);
	cr_assert_eq(size * MIB, bytes);
	seen->device_bytes += bytes;
	if (bytes > seen->largest_device)
		seen->largest_device = bytes;
}

static void read_range(struct seen *seen, const uint8_t *s)
{
	uint64_t start = get(s + 4, 4) * 1024, end = (get(s + 8, 4) + 1) * 1024;

	cr_assert_eq(get(s + 0x0c, 2), seen->array);
	if (get(s + 4, 4) == UINT32_MAX) {
		cr_assert_eq(get(s + 8, 4), UINT32_MAX);
		start = get(s + 0x0f, 8);
		end = get(s + 0x17, 8) + 1;
	}
	seen->mapped_bytes += end - start;
}

/* A count in a byte, or in two where it does not fit. */
static uint32_t read_count(const uint8_t *s, unsigned int byte, unsigned int word)
{
	cr_assert(s[byte] == 0xff || s[byte] == get(s + word, 2));
	return (uint32_t)get(s + word, 2);
}

static void read_structure(struct seen *seen, const uint8_t *s)
{
	uint16_t handle = (uint16_t)get(s + 2, 2);

	cr_assert_eq(seen->handles[handle], 0, "handle 0x%x twice", handle);
	seen->handles[handle] = 1;
	seen->count[s[0]]++;
	switch (s[0]) {
	case 2:
		cr_assert_eq(get(s + 0x0b, 2), seen->chassis);
		break;
	case 3:
		seen->chassis = handle;
		break;
	case 4:
		seen->family = (uint32_t)get(s + 0x28, 2);
		cr_assert_eq(s[6], seen->family < 0xfe ? seen->family : 0xfe);
		seen->cores += read_count(s, 0x23, 0x2a);
		cr_assert_eq(read_count(s, 0x24, 0x2c), read_count(s, 0x23, 0x2a));
		seen->threads += read_count(s, 0x25, 0x2e);
		break;
	case 16:
		seen->array = handle;
		seen->array_devices = (uint32_t)get(s + 0x0d, 2);
		break;
	case 17:
		read_device(seen, s);
		break;
	case 19:
		read_range(seen, s);
		break;
	}
}

/* Reads what lies at the beginning of BUF and is for address GPA. */
static void read_table(struct seen *seen, const uint8_t *buf, size_t bytes, uint64_t gpa)
{
	const uint8_t *at = buf + (get(buf + 16, 8) - gpa), *end = at + get(buf + 12, 4);
	uint8_t type = 0, sum = 0;

	memset(seen, 0, sizeof(*seen));
	cr_assert_arr_eq(buf, "_SM3_", 5);
	for (unsigned int i = 0; i < buf[6]; i++)
		sum = (uint8_t)(sum + buf[i]);
	cr_assert_eq(sum, 0, "checksum");
	cr_assert_eq(end, buf + bytes);
	while (at < end) {
		cr_assert_neq(type, 127, "something stands behind the end");
		type = at[0];
		cr_assert_geq(at[1], 4);
		cr_assert_leq(at + at[1] + 2, end);
		read_structure(seen, at);
		at = read_texts(seen, at + at[1], end);
	}
	cr_assert_eq(type, 127, "no end");
}

/* Builds CONFIG in a buffer of just its size, into which nothing else may be written. */
static void build_and_read(const struct impost_x86_smbios_config *config, struct seen *seen)
{
	size_t bytes = 0, again = 0;
	uint8_t *buf;

	cr_assert_eq(impost_x86_smbios_build(NULL, config, 0xf4000, NULL, 0, &bytes), 0);
	buf = malloc(bytes + 1);
	cr_assert_not_null(buf);
	buf[bytes] = PATTERN;
	cr_assert_eq(impost_x86_smbios_build(NULL, config, 0xf4000, buf, bytes, &again), 0);
	cr_assert_eq(bytes, again);
	cr_assert_eq(buf[bytes], PATTERN);
	read_table(seen, buf, bytes, 0xf4000);
	free(buf);
}

static struct impost_x86_smbios_config config_empty(void)
{
	return (struct impost_x86_smbios_config){.size = sizeof(struct impost_x86_smbios_config)};
}

Test(smbios, nothing_but_its_size_is_enough)
{
	static const unsigned int types[] = {0, 1, 3, 4, 32, 127};
	struct impost_x86_smbios_config config = config_empty();
	unsigned int count = 0;
	struct seen seen;

	build_and_read(&config, &seen);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		cr_assert_eq(seen.count[types[i]], 1u, "type %u", types[i]);
	for (unsigned int i = 0; i < 256; i++)
		count += seen.count[i];
	cr_assert_eq(count, sizeof(types) / sizeof(types[0]));
	cr_assert_eq(seen.cores, 1u);
	cr_assert_eq(seen.threads, 1u);
}

/* A host that was compiled with a later release has a longer struct; what it asks for there is not
 * passed over. */
Test(smbios, what_a_later_release_added)
{
	struct {
		struct impost_x86_smbios_config config;
		uint64_t added;
	} later = {config_make(), UINT64_MAX};
	struct ram ram = ram_make(0);
	size_t bytes = 0;
	struct seen seen;

	later.config.size = sizeof(later);
	assert_refused(&ram,
		       impost_x86_smbios_build(ram.ctx, &later.config, 0xf4000, NULL, 0, &bytes),
		       E2BIG, "impost_x86_smbios_config asks for something");
	ram_free(&ram);
	later.added = 0;
	build_and_read(&later.config, &seen);
	cr_assert_eq(seen.count[221], 1u);
}

Test(smbios, memory_of_every_size)
{
	static const uint64_t sizes[] = {4096,
					 MIB - 4096,
					 16 * MIB,
					 64 * MIB + 4096,
					 16 * GIB - 4096,
					 16 * GIB,
					 TIB,
					 2 * TIB - GIB,
					 2 * TIB,
					 2 * TIB + 4096,
					 4 * TIB - 4096,
					 4 * TIB,
					 4 * TIB + 4096,
					 100 * TIB,
					 (UINT64_C(1) << 52) - GIB};
	struct impost_x86_smbios_config config = config_empty();

	config.nram = 1;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct impost_x86_range range = {GIB, sizes[i]};
		uint64_t rounded = (sizes[i] + MIB - 1) / MIB * MIB;
		struct seen seen;

		config.ram = &range;
		build_and_read(&config, &seen);
		cr_assert_eq(seen.mapped_bytes, sizes[i]);
		cr_assert_eq(seen.device_bytes, rounded);
		cr_assert_eq(seen.count[17], seen.array_devices);
		cr_assert_leq(seen.array_devices, 128u);
		cr_assert(seen.largest_device <= 16 * GIB || sizes[i] > 2 * TIB);
		cr_assert_eq(seen.count[16], 1u);
		cr_assert_eq(seen.count[19], 1u);
	}
}

Test(smbios, every_topology_that_can_be_told)
{
	static const uint32_t numbers[][3] = {{1, 1, 1},    {1, 254, 1},   {1, 255, 1},
					      {1, 256, 1},  {3, 127, 2},   {3, 128, 2},
					      {64, 1, 1},   {1, 65534, 1}, {2, 32767, 2},
					      {4096, 1, 16}};
	struct impost_x86_smbios_config config = config_empty();
	struct seen seen;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		config.sockets = numbers[i][0];
		config.cores = numbers[i][1];
		config.threads = numbers[i][2];
		build_and_read(&config, &seen);
		cr_assert_eq(seen.count[4], config.sockets);
		cr_assert_eq(seen.cores, config.sockets * config.cores);
		cr_assert_eq(seen.threads, config.sockets * config.cores * config.threads);
	}
}

Test(smbios, processor_families_of_one_byte_and_of_two)
{
	static const uint32_t families[] = {1, 0xb3, 0xfd, 0x100, 0xfffd};
	struct impost_x86_smbios_config config = config_empty();
	struct seen seen;

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		config.cpu_family = families[i];
		build_and_read(&config, &seen);
		cr_assert_eq(seen.family, families[i]);
	}
	config.cpu_family = 0;
	build_and_read(&config, &seen);
	cr_assert_eq(seen.family, 1u, "Other");
}

/* --- dmidecode --- */

/* A file with what CONFIG makes: dmidecode takes addresses for offsets in it. */
static void dump_make(const struct impost_x86_smbios_config *config, const char *path)
{
	static uint8_t buf[1 << 20];
	FILE *file = fopen(path, "we");
	size_t bytes;

	cr_assert_not_null(file);
	cr_assert_eq(impost_x86_smbios_build(NULL, config, 0, buf, sizeof(buf), &bytes), 0);
	cr_assert_eq(fwrite(buf, 1, bytes, file), bytes);
	cr_assert_eq(fclose(file), 0);
}

/* What dmidecode says of CONFIG, from the line with the version of SMBIOS on. */
static const char *dmidecode(const struct impost_x86_smbios_config *config)
{
	static char text[1 << 20];
	char path[] = "/tmp/impost-smbios-XXXXXX", command[256];
	int fd = mkstemp(path);
	size_t bytes;
	FILE *out;

	cr_assert_geq(fd, 0);
	close(fd);
	dump_make(config, path);
	snprintf(command, sizeof(command), "LC_ALL=C exec " DMIDECODE " --from-dump %s 2>&1", path);
	out = popen(command, "re");
	cr_assert_not_null(out);
	bytes = fread(text, 1, sizeof(text) - 1, out);
	text[bytes] = '\0';
	cr_assert_eq(pclose(out), 0, "%s", text);
	unlink(path);
	cr_assert_not_null(strstr(text, "\nSMBIOS 3.3.0 present.\n"), "%s", text);
	return strstr(text, "SMBIOS 3.3.0 present.");
}

static void need_dmidecode(void)
{
	if (!DMIDECODE[0])
		cr_skip_test("dmidecode is not installed");
}

Test(smbios_dmidecode, whole_text)
{
	struct impost_x86_smbios_config config = config_make();
	static char want[1 << 16];
	const char *got;
	size_t bytes;
	FILE *file;

	need_dmidecode();
	file = fopen(GOLDEN_DIR "/smbios.dmidecode", "re");
	cr_assert_not_null(file);
	bytes = fread(want, 1, sizeof(want) - 1, file);
	want[bytes] = '\0';
	fclose(file);
	got = dmidecode(&config);
	for (size_t at = 0; at <= bytes; at++)
		if (got[at] != want[at])
			cr_assert_fail("from byte %zu on it should be \"%.60s\", and is \"%.60s\"",
				       at, want + at, got + at);
}

/* A random text, sometimes none. */
static const char *random_text(uint64_t *state)
{
	static char texts[64][IMPOST_X86_SMBIOS_STRING_MAX + 1];
	char *text = texts[random_below(state, 64)];
	uint32_t bytes = 1 + random_below(state, IMPOST_X86_SMBIOS_STRING_MAX);

	if (random_below(state, 4) == 0)
		return random_below(state, 2) ? "" : NULL;
	for (uint32_t i = 0; i < bytes; i++)
		text[i] = (char)('!' + random_below(state, '~' - '!' + 1));
	text[bytes] = '\0';
	return text;
}

static void random_texts(struct impost_x86_smbios_config *config, uint64_t *state)
{
	const char **texts[] = {&config->bios_vendor,
				&config->bios_version,
				&config->manufacturer,
				&config->product,
				&config->version,
				&config->serial,
				&config->sku,
				&config->family,
				&config->board_manufacturer,
				&config->board_product,
				&config->board_version,
				&config->board_serial,
				&config->board_asset_tag,
				&config->chassis_version,
				&config->chassis_manufacturer,
				&config->chassis_serial,
				&config->chassis_sku,
				&config->chassis_asset_tag,
				&config->cpu_manufacturer,
				&config->cpu_brand};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		*texts[i] = random_text(state);
	for (size_t i = 0; i < sizeof(config->uuid); i++)
		config->uuid[i] = (uint8_t)random_below(state, 256);
}

/* Ranges in order, in whole pages. */
static void random_ranges(struct impost_x86_range *ranges, uint32_t count, uint64_t *state)
{
	uint64_t gpa = 0;

	for (uint32_t i = 0; i < count; i++) {
		unsigned int shift = 12 + random_below(state, 30);

		gpa += (uint64_t)random_below(state, 1024) << shift;
		ranges[i].gpa = gpa;
		ranges[i].bytes = (uint64_t)(1 + random_below(state, 1024)) << shift;
		gpa += ranges[i].bytes;
	}
}

Test(smbios_dmidecode, nothing_looks_wrong, .timeout = 60)
{
	static const char *const bad[] = {"<OUT OF SPEC>", "<BAD INDEX>", "Wrong DMI",
					  "broken",	   "Invalid",	  "Table is",
					  "Inactive",	   "<TRUNCATED>"};
	struct impost_x86_range ranges[8];
	uint64_t state = 1;

	need_dmidecode();
	for (unsigned int round = 0; round < 100; round++) {
		struct impost_x86_smbios_config config = config_empty();
		const char *text;

		random_texts(&config, &state);
		config.flags = random_below(&state, 2);
		config.sockets = random_below(&state, 5);
		config.cores = random_below(&state, 600);
		config.threads = random_below(&state, 5);
		config.cpu_mhz = random_below(&state, 0x10000);
		config.cpu_signature = random_below(&state, UINT32_MAX);
		config.cpu_features = random_below(&state, UINT32_MAX);
		config.ram = ranges;
		config.nram = random_below(&state, 9);
		random_ranges(ranges, config.nram, &state);
		config.noem_strings = random_below(&state, 3);
		config.oem_strings = two_oem_strings;
		config.structures = own;
		config.nstructures = random_below(&state, 2);
		text = dmidecode(&config);
		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
			cr_assert_null(strstr(text, bad[i]), "\"%s\" in %s", bad[i], text);
		cr_assert_not_null(strstr(text, "End Of Table"), "%s", text);
	}
}

/* --- refusals --- */

/* What is wrong in CONFIG, by changing one that is right. */
#define WRONG(words, ...)                                                                     \
	do {                                                                                  \
		struct impost_x86_smbios_config config = good;                                \
		__VA_ARGS__;                                                                  \
		assert_refused(&ram,                                                          \
			       impost_x86_smbios_build(ram.ctx, &config, 0, buf, sizeof(buf), \
						       &bytes),                               \
			       EINVAL, words);                                                \
	} while (0)

Test(smbios, wrong_descriptions_are_refused_by_name)
{
	static const char *const hollow[] = {"a", NULL}, *const empty[] = {"a", "b", ""};
	static const char *const control[] = {"a\tb"};
	static char long_text[IMPOST_X86_SMBIOS_OEM_STRING_MAX + 2];
	const char *const longest[] = {long_text};
	struct impost_x86_smbios_config good = config_make();
	struct ram ram = ram_make(0);
	uint8_t buf[1024] = {PATTERN};
	size_t bytes = 1;

	memset(long_text, 'x', sizeof(long_text) - 1);
	WRONG("struct impost_x86_smbios_config has size 16", config.size = 16);
	WRONG("flags 0x3", config.flags = 3);
	WRONG("SMBIOS: serial: character 1 is 0x0a", config.serial = "1\n");
	WRONG("SMBIOS: sku: character 0 is 0x7f", config.sku = "\x7f");
	WRONG("SMBIOS: cpu_brand: character 3 is 0xc3", config.cpu_brand = "Gro\xc3\x9f");
	WRONG("SMBIOS: product has 4097 characters, it may have 64", config.product = long_text);
	WRONG("bios_date \"2024-02-29\"", config.bios_date = "2024-02-29");
	WRONG("bios_date \"13/01/2024\"", config.bios_date = "13/01/2024");
	WRONG("bios_date \"00/01/2024\"", config.bios_date = "00/01/2024");
	WRONG("bios_date \"01/32/2024\"", config.bios_date = "01/32/2024");
	WRONG("bios_date \"01/00/2024\"", config.bios_date = "01/00/2024");
	WRONG("bios_date \"01/01/202\"", config.bios_date = "01/01/202");
	WRONG("bios_date \"01/01/20240\"", config.bios_date = "01/01/20240");
	WRONG("256 OEM strings, there may be 255", config.noem_strings = 256);
	WRONG("2 OEM strings, but the pointer is NULL", config.oem_strings = NULL);
	WRONG("OEM string 1 is NULL", config.oem_strings = hollow);
	WRONG("OEM string 2 is empty", config.oem_strings = empty, config.noem_strings = 3);
	WRONG("character 1 is 0x09", config.oem_strings = control, config.noem_strings = 1);
	WRONG("4097 characters, it may have 4096", config.oem_strings = longest,
	      config.noem_strings = 1);
	WRONG("4097 sockets", config.sockets = 4097);
	WRONG("of 65535 cores", config.cores = 65535, config.threads = 1);
	WRONG("of 4294967295 threads", config.cores = UINT32_MAX, config.threads = UINT32_MAX);
	WRONG("cpu_family 0xfe is", config.cpu_family = 0xfe);
	WRONG("cpu_family 0xff is", config.cpu_family = 0xff);
	WRONG("cpu_family 0x10000 is", config.cpu_family = 0x10000);
	WRONG("cpu_mhz 65536", config.cpu_mhz = 65536);
	WRONG("2 ranges of RAM, but the pointer is NULL", config.ram = NULL);
	WRONG("4097 ranges", config.nram = 4097);
	WRONG("1 own structures, but the pointer", config.structures = NULL);
	assert_refused(&ram, impost_x86_smbios_build(ram.ctx, NULL, 0, buf, 1024, &bytes), EINVAL,
		       "the pointer to it is NULL");
	cr_assert_eq(buf[0], PATTERN);
	cr_assert_eq(bytes, 1u);
	ram_free(&ram);
}

Test(smbios, wrong_ram_is_refused)
{
	static const struct {
		struct impost_x86_range ranges[2];
		const char *words;
	} wrong[] = {
		{{{0, 0}, {4096, 4096}}, "RAM of 0x0 bytes at 0x0"},
		{{{0, 4096}, {8193, 4096}}, "at 0x2001"},
		{{{0, 4096}, {8192, 4097}}, "RAM of 0x1001 bytes"},
		{{{0, 4096}, {UINT64_C(1) << 52, 4096}}, "below 2^52"},
		{{{0, 4096}, {4096, UINT64_C(1) << 52}}, "below 2^52"},
		{{{0, 4096}, {UINT64_MAX - 4095, 4096}}, "below 2^52"},
		{{{0, 8192}, {4096, 4096}}, "RAM at 0x1000 stands behind RAM that ends at 0x2000"},
		{{{8192, 4096}, {0, 4096}}, "RAM at 0x0 stands behind RAM that ends at 0x3000"},
	};
	struct impost_x86_smbios_config config = config_make();
	struct ram ram = ram_make(0);
	size_t bytes;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		config.ram = wrong[i].ranges;
		assert_refused(&ram, impost_x86_smbios_build(ram.ctx, &config, 0, NULL, 0, &bytes),
			       EINVAL, wrong[i].words);
	}
	ram_free(&ram);
}

/* Structures of the host's own, as text with its NULs. */
#define OWN(literal) literal, sizeof(literal) - 1

Test(smbios, wrong_structures_are_refused)
{
	static const struct {
		const char *data;
		uint32_t bytes;
		const char *words;
		uint32_t reserved;
	} wrong[] = {
		{OWN("\xdd\x04\x01\x80\0\0"), "smbios_structure: reserved is 1", 1},
		{NULL, 12, "own structure 1 of 12 bytes is cut", 0},
		{OWN("\xdd\x04\x01\x80\0"), "of 5 bytes is cut", 0},
		{OWN("\xdd\x03\x01\x80\0\0"), "is cut, or its length", 0},
		{OWN("\xdd\x05\x01\x80\0\0"), "is cut, or its length", 0},
		{OWN("\xdd\xff\x01\x80\0\0"), "is cut, or its length", 0},
		{OWN("\xdd\x04\x01\x80\0x"), "does not end", 0},
		{OWN("\xdd\x04\x01\x80\0\0\0"), "does not end", 0},
		{OWN("\xdd\x04\x01\x80xx"), "does not end", 0},
		{OWN("\xdd\x04\x01\x80x\0"), "does not end", 0},
		{OWN("\xdd\x04\x01\x80x\0y\0"), "does not end", 0},
		{OWN("\xdd\x04\x01\x80x\0\0\0"), "does not end", 0},
		{OWN("\xdd\x04\x01\x80x\0\0y\0\0"), "does not end", 0},
		{OWN("\xdd\x04\x01\x80\n\0\0"), "printable", 0},
		{OWN("\xdd\x04\x01\x80\xff\0\0"), "printable", 0},
		{OWN("\x00\x04\x01\x80\0\0"), "of type 0", 0},
		{OWN("\x01\x04\x01\x80\0\0"), "of type 1", 0},
		{OWN("\x20\x04\x01\x80\0\0"), "of type 32", 0},
		{OWN("\x7f\x04\x01\x80\0\0"), "of type 127", 0},
		{OWN("\xdd\x04\xff\x7f\0\0"), "has handle 0x7fff", 0},
		{OWN("\xdd\x04\x00\xff\0\0"), "has handle 0xff00", 0},
		{OWN("\xdd\x04\x00\x80\0\0"), "has handle 0x8000, as one before it", 0},
	};
	struct impost_x86_smbios_config config = config_make();
	struct ram ram = ram_make(0);
	size_t bytes;

	config.nstructures = 2;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct impost_x86_smbios_structure structures[] = {
			own[0], {wrong[i].data, wrong[i].bytes, wrong[i].reserved}};

		config.structures = structures;
		assert_refused(&ram, impost_x86_smbios_build(ram.ctx, &config, 0, NULL, 0, &bytes),
			       EINVAL, wrong[i].words);
	}
	ram_free(&ram);
}

/* A structure can have so many texts that they are just counted in a byte. */
Test(smbios, texts_of_the_host_are_counted)
{
	uint8_t data[4 + 2 * 256 + 1] = {221, 4, 0, 0x80};
	struct impost_x86_smbios_structure structure = {data, 4 + 2 * 255 + 1, 0};
	struct impost_x86_smbios_config config = config_make();
	struct ram ram = ram_make(0);
	struct seen seen;
	size_t bytes;

	for (size_t i = 0; i < 255; i++)
		data[4 + 2 * i] = 'x';
	config.structures = &structure;
	build_and_read(&config, &seen);
	cr_assert_eq(seen.count[221], 1u);
	data[4 + 2 * 255] = 'x';
	structure.bytes += 2;
	assert_refused(&ram, impost_x86_smbios_build(ram.ctx, &config, 0, NULL, 0, &bytes), EINVAL,
		       "does not end");
	ram_free(&ram);
}

Test(smbios, wrong_places_are_refused)
{
	static const uint64_t wrong[] = {8, 0xf4001, UINT64_MAX - 15};
	struct impost_x86_smbios_config config = config_make();
	struct ram ram = ram_make(0);
	static uint8_t buf[689];
	size_t bytes = 1;

	memset(buf, PATTERN, sizeof(buf));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused(&ram,
			       impost_x86_smbios_build(ram.ctx, &config, wrong[i], buf, sizeof(buf),
						       &bytes),
			       EINVAL, "at a multiple of 16, and does not wrap around");
	assert_refused(&ram, impost_x86_smbios_build(ram.ctx, &config, 0, buf, 687, &bytes), ENOSPC,
		       "needs 688 bytes, there is room for 687");
	for (size_t i = 0; i < sizeof(buf); i++)
		cr_assert_eq(buf[i], PATTERN);
	cr_assert_eq(bytes, 1u);
	ram_free(&ram);
}
