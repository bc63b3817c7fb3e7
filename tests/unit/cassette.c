/* SPDX-License-Identifier: Apache-2.0 */
/* Cassettes: each call's arguments and results there and back, whole files, and files that are not.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <impost/error.h>

#include <cassette.h>

static char path[] = "/tmp/impost-cassette-XXXXXX";
static struct cassette_values args, results;

static void make_path(void)
{
	int fd = mkstemp(path);

	cr_assert(fd >= 0);
	close(fd);
}

static void remove_path(void)
{
	unlink(path);
	cassette_values_free(&args);
	cassette_values_free(&results);
}

TestSuite(cassette, .init = make_path, .fini = remove_path);

static struct cassette_span end(struct cassette_values *values)
{
	struct cassette_span span;

	cr_assert_eq(cassette_values_end(values, &span), 0);
	return span;
}

/* --- arguments --- */

/* What A and B, two calls' arguments, are told to differ in. */
#define DIFFERENCE(a, b)                                                              \
	({                                                                            \
		static char text_[512];                                               \
		cassette_values_begin(&args);                                         \
		cassette_values_begin(&results);                                      \
		struct cassette_values *v = &args;                                    \
		a;                                                                    \
		v = &results;                                                         \
		b;                                                                    \
		cassette_difference(end(&args), end(&results), text_, sizeof(text_)); \
		text_;                                                                \
	})

#define TELLS(expect, a, b)                            \
	do {                                           \
		const char *text__ = DIFFERENCE(a, b); \
		cr_expect_str_eq(text__, expect);      \
		text__ = DIFFERENCE(a, a);             \
		cr_expect_str_eq(text__, "");          \
	} while (0)

Test(cassette, differences_are_told_by_name)
{
	const struct impost_slot slot = {
		.slot = 1, .gpa = 0x1000, .bytes = 0x2000, .hva = path, .fd = -1};
	struct impost_slot other = slot;

	TELLS("level: recorded 1, now 0", cassette_args_irq_line(v, 4, 1),
	      cassette_args_irq_line(v, 4, 0));
	TELLS("gsi: recorded 4, now 5; level: recorded 1, now 0", cassette_args_irq_line(v, 4, 1),
	      cassette_args_irq_line(v, 5, 0));
	TELLS("address: recorded 0xfee00000, now 0xfee01000", cassette_args_msi(v, 0xfee00000, 7),
	      cassette_args_msi(v, 0xfee01000, 7));
	TELLS("id: recorded 0, now 1", cassette_args_vcpu_create(v, 0),
	      cassette_args_vcpu_create(v, 1));
	TELLS("last: recorded 0x3ff, now 0x3fe", cassette_args_io_range(v, 1, 0x3f8, 0x3ff),
	      cassette_args_io_range(v, 1, 0x3f8, 0x3fe));
	TELLS("slot: recorded 2, now 3", cassette_args_mem_remove(v, 2),
	      cassette_args_mem_remove(v, 3));
	TELLS("section: recorded 1, now 2", cassette_args_state_get(v, 1),
	      cassette_args_state_get(v, 2));
	TELLS("vector: recorded 0x20, now 0x21", cassette_args_irq_inject(v, 0x20),
	      cassette_args_irq_inject(v, 0x21));
	TELLS("on: recorded 1, now 0", cassette_args_irq_window(v, 1),
	      cassette_args_irq_window(v, 0));
	TELLS("gva: recorded 0x1000, now 0x2000", cassette_args_translate(v, 0x1000),
	      cassette_args_translate(v, 0x2000));
	other.hva = NULL;
	other.fd = 3;
	TELLS("hva: recorded yes, now no; file: recorded no, now yes", cassette_args_slot(v, &slot),
	      cassette_args_slot(v, &other));
}

Test(cassette, host_addresses_and_descriptors_are_not_compared)
{
	struct impost_slot slot = {.slot = 1, .gpa = 0x1000, .bytes = 0x2000, .hva = path, .fd = 3};
	struct impost_slot other = slot;

	other.hva = &slot;
	other.fd = 4;
	TELLS("", cassette_args_slot(v, &slot), cassette_args_slot(v, &other));
}

Test(cassette, arrays_differ_by_their_element)
{
	const struct impost_x86_msr msrs[] = {{.index = 0x10, .value = 1}, {.index = 0x174}};
	const struct impost_x86_msr others[] = {{.index = 0x10, .value = 1}, {.index = 0x175}};
	const struct impost_x86_cpuid one = {.leaf = 1, .eax = 5}, two = {.leaf = 1, .eax = 6};
	const struct impost_msr_range range = {.first = 1, .count = 2, .flags = 3};
	const struct impost_gsi_route msi = {.gsi = 4, .type = IMPOST_ROUTE_MSI, .msi_data = 9};
	const struct impost_gsi_route pin = {.gsi = 4, .type = IMPOST_ROUTE_IOAPIC, .pin = 9};

	TELLS("msrs: number 2 of 2 recorded 0x174, now 0x175", cassette_args_msrs_get(v, msrs, 2),
	      cassette_args_msrs_get(v, others, 2));
	TELLS("msrs: number 2 of 2 recorded [0x174, 0], now [0x175, 0]",
	      cassette_args_msrs_set(v, msrs, 2), cassette_args_msrs_set(v, others, 2));
	TELLS("msrs: recorded [[0x10, 1]], now [[0x10, 1], [0x174, 0]]",
	      cassette_args_msrs_set(v, msrs, 1), cassette_args_msrs_set(v, msrs, 2));
	TELLS("cpuid: number 1 of 1 recorded [1, 0, 0, 5, 0, 0, 0], now [1, 0, 0, 6, 0, 0, 0]",
	      cassette_args_cpuid(v, &one, 1), cassette_args_cpuid(v, &two, 1));
	TELLS("unknown: recorded 1, now 0", cassette_args_msr_exits(v, &range, 1, 1),
	      cassette_args_msr_exits(v, &range, 1, 0));
	TELLS("routes: number 1 of 1 recorded [4, 4, 0, 9], now [4, 3, 9]",
	      cassette_args_gsi_routes(v, &msi, 1), cassette_args_gsi_routes(v, &pin, 1));
}

Test(cassette, long_bytes_differ_by_their_place)
{
	uint8_t state[152] = {152}, other[152] = {152};

	other[0x90] = 7;
	TELLS("state: from byte 0x90 on recorded 8 bytes 00 00 00 00 00 00 00 00, now 8 bytes 07 00 "
	      "00 00 00 00 00 00",
	      cassette_args_state_set(v, 1, state, sizeof(state)),
	      cassette_args_state_set(v, 1, other, sizeof(other)));
	TELLS("state: recorded 2 bytes 98 00, now 1 byte 98",
	      cassette_args_state_set(v, 1, state, 2), cassette_args_state_set(v, 1, state, 1));
}

Test(cassette, debugging_is_compared_as_far_as_it_counts)
{
	const struct impost_guest_debug step = {.flags = IMPOST_DEBUG_SINGLE_STEP, .dr7 = 1};
	const struct impost_guest_debug same = {.flags = IMPOST_DEBUG_SINGLE_STEP, .dr7 = 2};
	const struct impost_guest_debug hw = {.flags = IMPOST_DEBUG_HW_BREAK, .dr7 = 2};

	TELLS("", cassette_args_guest_debug(v, &step), cassette_args_guest_debug(v, &same));
	TELLS("flags: recorded 1, now 4; dr: recorded nothing, now [0, 0, 0, 0]; dr7: recorded "
	      "nothing, now 2",
	      cassette_args_guest_debug(v, &step), cassette_args_guest_debug(v, &hw));
}

static struct impost_exit exit_in(uint8_t *data)
{
	return (struct impost_exit){.size = sizeof(struct impost_exit),
				    .kind = IMPOST_EXIT_IO,
				    .u.io = {.port = 0x3f8, .size = 1, .count = 1, .data = data}};
}

Test(cassette, answers_belong_to_the_next_run)
{
	uint8_t five = 5, six = 6, no = 0, yes = 1;
	uint64_t value = 9;
	const struct impost_exit in = exit_in(&five), in_other = exit_in(&six);
	const struct impost_exit out = {.kind = IMPOST_EXIT_IO,
					.u.io = {.dir = 1, .size = 1, .count = 1, .data = &five}};
	const struct impost_exit rdmsr = {.kind = IMPOST_EXIT_RDMSR,
					  .u.msr = {.value = &value, .refused = &no}};
	const struct impost_exit refused = {.kind = IMPOST_EXIT_RDMSR,
					    .u.msr = {.value = &value, .refused = &yes}};
	const struct impost_exit call = {.kind = IMPOST_EXIT_HYPERCALL,
					 .u.hypercall.result = &value};

	TELLS("answer: recorded 1 byte 05, now 1 byte 06", cassette_args_run(v, &in),
	      cassette_args_run(v, &in_other));
	TELLS("answer: recorded nothing, now 1 byte 05", cassette_args_run(v, &out),
	      cassette_args_run(v, &in));
	TELLS("", cassette_args_run(v, &out), cassette_args_run(v, NULL));
	TELLS("value: recorded 9, now nothing; refused: recorded no, now yes",
	      cassette_args_run(v, &rdmsr), cassette_args_run(v, &refused));
	TELLS("result: recorded 9, now nothing", cassette_args_run(v, &call),
	      cassette_args_run(v, NULL));
}

/* --- results --- */

#define RESULTS(call)                                 \
	({                                            \
		struct cassette_values *v = &results; \
		cassette_values_begin(v);             \
		call;                                 \
		end(v);                               \
	})

/* EXIT there and back. */
static struct impost_exit through(const struct impost_exit *exit, struct cassette_exit_room *room)
{
	struct impost_exit back;

	cr_assert_eq(cassette_take_exit(RESULTS(cassette_results_exit(v, exit)), room, &back), 0);
	cr_assert_eq(back.kind, exit->kind);
	cr_assert_eq(back.size, sizeof(back));
	return back;
}

Test(cassette, accesses_come_back)
{
	uint8_t data[64] = "sixty-four bytes, of which some are looked at";
	struct cassette_exit_room room = {0};
	struct impost_exit exit = {.kind = IMPOST_EXIT_IO}, back;

	for (uint8_t size = 1; size <= 4; size = (uint8_t)(2 * size))
		for (uint32_t count = 1; count <= 16; count += 15)
			for (uint8_t dir = 0; dir <= 1; dir++) {
				exit.u.io = (struct impost_exit_io){0xcf8, size, dir, count, data};
				back = through(&exit, &room);
				cr_expect_eq(back.u.io.port, 0xcf8);
				cr_expect_eq(back.u.io.size, size);
				cr_expect_eq(back.u.io.count, count);
				cr_expect_eq(back.u.io.dir, dir);
				cr_expect(!dir || !memcmp(back.u.io.data, data, size * count));
				memset(back.u.io.data, 1, size * count);
			}
	exit = (struct impost_exit){.kind = IMPOST_EXIT_MMIO};
	exit.u.mmio.gpa = UINT64_MAX - 8;
	exit.u.mmio.size = 5;
	exit.u.mmio.dir = IMPOST_EXIT_WRITE;
	exit.u.mmio.count = 1;
	exit.u.mmio.data = data;
	back = through(&exit, &room);
	cr_expect_eq(back.u.mmio.gpa, UINT64_MAX - 8);
	cr_expect_eq(back.u.mmio.size, 5);
	cr_expect_eq(back.u.mmio.dir, IMPOST_EXIT_WRITE);
	cr_expect_arr_eq(back.u.mmio.data, data, 5);
	cassette_exit_room_free(&room);
}

Test(cassette, msrs_and_hypercalls_come_back)
{
	uint64_t value = UINT64_MAX;
	uint8_t refused = 0;
	struct cassette_exit_room room = {0};
	struct impost_exit exit = {.kind = IMPOST_EXIT_WRMSR}, back;

	exit.u.msr = (struct impost_exit_msr){0xc0000080, 2, &value, &refused};
	back = through(&exit, &room);
	cr_expect_eq(back.u.msr.index, 0xc0000080);
	cr_expect_eq(back.u.msr.reason, 2);
	cr_expect_eq(*back.u.msr.value, UINT64_MAX);
	cr_expect_eq(*back.u.msr.refused, 0);
	exit.kind = IMPOST_EXIT_RDMSR;
	back = through(&exit, &room);
	cr_expect_eq(*back.u.msr.value, 0);
	exit = (struct impost_exit){.kind = IMPOST_EXIT_HYPERCALL};
	exit.u.hypercall = (struct impost_exit_hypercall){
		.number = 5, .args = {1, 2, 3, 4, 5, 6}, .result = &value, .long_mode = 1};
	back = through(&exit, &room);
	cr_expect_eq(back.u.hypercall.number, 5);
	cr_expect_arr_eq(back.u.hypercall.args, exit.u.hypercall.args, sizeof(uint64_t[6]));
	cr_expect_eq(back.u.hypercall.long_mode, 1);
	cr_expect_eq(*back.u.hypercall.result, 0);
	cassette_exit_room_free(&room);
}

Test(cassette, ends_and_failures_come_back)
{
	const uint64_t numbers[] = {1, UINT64_MAX, 3};
	struct cassette_exit_room room = {0};
	struct impost_exit exit = {.kind = IMPOST_EXIT_SHUTDOWN}, back;

	exit.u.shutdown = (struct impost_exit_shutdown){IMPOST_SHUTDOWN_TRIPLE_FAULT, 7};
	back = through(&exit, &room);
	cr_expect_eq(back.u.shutdown.reason, IMPOST_SHUTDOWN_TRIPLE_FAULT);
	cr_expect_eq(back.u.shutdown.code, 7);
	exit = (struct impost_exit){.kind = IMPOST_EXIT_DEBUG};
	exit.u.debug = (struct impost_exit_debug){1, 2, 3, 1, 0};
	back = through(&exit, &room);
	cr_expect_arr_eq(&back.u.debug, &exit.u.debug, sizeof(back.u.debug));
	exit = (struct impost_exit){.kind = IMPOST_EXIT_INTERNAL_ERROR};
	exit.u.failure = (struct impost_exit_failure){
		.reason = 3, .text = "it broke", .ndata = 3, .data = numbers, .ninsn = 2};
	exit.u.failure.insn[0] = 0x0f;
	exit.u.failure.insn[1] = 0x0b;
	back = through(&exit, &room);
	cr_expect_eq(back.u.failure.reason, 3);
	cr_expect_str_eq(back.u.failure.text, "it broke");
	cr_expect_eq(back.u.failure.ndata, 3);
	cr_expect_arr_eq(back.u.failure.data, numbers, sizeof(numbers));
	cr_expect_eq(back.u.failure.ninsn, 2);
	/* Nothing that a terminal heeds comes from a file. */
	exit.u.failure.text = "a\033[2J\nb";
	cr_expect_str_eq(through(&exit, &room).u.failure.text, "a?[2J\nb");
	cr_expect_arr_eq(back.u.failure.insn, exit.u.failure.insn, 16);
	exit = (struct impost_exit){.kind = IMPOST_EXIT_OTHER};
	exit.u.other = (struct impost_exit_other){77, "STRANGE", numbers, sizeof(numbers)};
	back = through(&exit, &room);
	cr_expect_eq(back.u.other.number, 77);
	cr_expect_str_eq(back.u.other.name, "STRANGE");
	cr_expect_eq(back.u.other.payload_size, sizeof(numbers));
	cr_expect_arr_eq(back.u.other.payload, numbers, sizeof(numbers));
	exit = (struct impost_exit){.kind = IMPOST_EXIT_HLT};
	through(&exit, &room);
	cassette_exit_room_free(&room);
}

Test(cassette, state_comes_back)
{
	const struct impost_x86_msr msrs[] = {{.index = 1, .value = 10}, {.index = 2, .value = 20}};
	const struct impost_x86_cpuid cpuid[] = {{.leaf = 1, .eax = 5},
						 {.leaf = 4, .subleaf = 2, .flags = 1, .edx = 6}};
	struct impost_x86_msr got[3] = {{.index = 1}, {.index = 2}, {.index = 3}};
	struct impost_x86_cpuid entries[2];
	uint8_t section[5] = "abcd";
	struct cassette_span span;
	uint32_t number = 99;
	uint64_t gpa;

	span = RESULTS(cassette_results_state_get(v, 0, section, 5));
	cr_assert_eq(cassette_take_state_get(span, 0, &span, &number), 0);
	cr_expect_eq(number, 5);
	cr_expect_arr_eq(span.data, section, 5);
	span = RESULTS(cassette_results_state_get(v, -ENOSPC, NULL, 4096));
	cr_assert_eq(cassette_take_state_get(span, -ENOSPC, &span, &number), 0);
	cr_expect_eq(number, 4096);
	span = RESULTS(cassette_results_msrs_get(v, msrs, 2));
	cr_expect_eq(cassette_take_msrs_get(span, got, 1, &number), -IMPOST_EFORMAT);
	cr_assert_eq(cassette_take_msrs_get(span, got, 3, &number), 0);
	cr_expect_eq(number, 2);
	cr_expect_eq(got[1].value, 20);
	cr_expect_eq(cassette_take_msrs_set(RESULTS(cassette_results_msrs_set(v, 2)), 3, &number),
		     0);
	cr_expect_eq(number, 2);
	span = RESULTS(cassette_results_cpuid_get(v, 0, cpuid, 2));
	cr_expect_eq(cassette_take_cpuid_get(span, 0, entries, 1, &number), -ENOSPC);
	cr_assert_eq(cassette_take_cpuid_get(span, 0, entries, 2, &number), 0);
	cr_expect_eq(number, 2);
	cr_expect_arr_eq(entries, cpuid, sizeof(cpuid));
	cr_expect_eq(cassette_take_translate(RESULTS(cassette_results_translate(v, 0x5000)), &gpa),
		     0);
	cr_expect_eq(gpa, 0x5000);
}

Test(cassette, results_of_another_call_are_refused)
{
	const struct cassette_span span = RESULTS(cassette_results_translate(v, 1));
	struct cassette_exit_room room = {0};
	struct cassette_span data;
	struct impost_exit exit;
	uint32_t number = 99;

	cr_expect_eq(cassette_take_exit(span, &room, &exit), -IMPOST_EFORMAT);
	cr_expect_eq(cassette_take_state_get(span, 0, &data, &number), -IMPOST_EFORMAT);
	cr_expect_eq(cassette_take_msrs_get(span, NULL, 0, &number), -IMPOST_EFORMAT);
	cr_expect_eq(cassette_take_msrs_set(span, 0, &number), -IMPOST_EFORMAT);
	cr_expect_eq(cassette_take_cpuid_get(span, 0, NULL, 0, &number), -IMPOST_EFORMAT);
	cr_expect_eq(number, 99);
	cassette_exit_room_free(&room);
}

Test(cassette, a_number_of_cpuid_entries_is_no_entries)
{
	const struct cassette_span span = RESULTS(cassette_results_cpuid_get(v, -ENOSPC, NULL, 2));
	struct impost_x86_cpuid entries[2];
	uint32_t number = 99;

	cr_expect_eq(cassette_take_cpuid_get(span, 0, entries, 2, &number), -IMPOST_EFORMAT);
	cr_expect_eq(number, 99);
	cr_expect_eq(cassette_take_cpuid_get(span, -ENOSPC, entries, 1, &number), 0);
	cr_expect_eq(number, 2);
}

/* --- files --- */

static const struct cassette_header header = {
	.backend = "kvm",
	.version = "1.2",
	.caps = {.size = sizeof(struct impost_caps), .bits = {UINT64_MAX, 5}, .max_vcpus = 8},
	.cpuid = (struct impost_x86_cpuid[]){{.leaf = 1, .ecx = 4}},
	.ncpuid = 1,
	.msrs = (uint32_t[]){0x10, 0x174},
	.nmsrs = 2,
	.feature_msrs = (struct impost_x86_msr[]){{.index = 0x10a, .value = 3}},
	.nfeature_msrs = 1,
};

#define PAGES 200u

/* A page of its own kind for each number. */
static void fill_page(uint32_t number, uint8_t page[4096])
{
	for (uint32_t i = 0; i < 4096; i++)
		page[i] = (uint8_t)(number * 31 + i * (number % 7));
}

/* Two memory items that follow one run. */
static void write_run(struct cassette_writer *writer)
{
	const struct impost_exit hlt = {.kind = IMPOST_EXIT_HLT};
	struct cassette_pieces pieces = {0};
	uint8_t page[4096];

	cr_assert_eq(cassette_write_call(writer, 3, CASSETTE_RUN, (struct cassette_span){0}, 0,
					 NULL, RESULTS(cassette_results_exit(v, &hlt)), 2),
		     0);
	for (uint32_t i = 0; i < PAGES; i++) {
		fill_page(i, page);
		cassette_pieces_data(&pieces, (uint64_t)i * 4096, page, sizeof(page));
		cr_assert(!cassette_pieces_full(&pieces));
	}
	cr_assert_eq(cassette_write_memory(writer, &pieces), 0);
	cassette_pieces_begin(&pieces);
	cassette_pieces_zero(&pieces, 0x200000, 0x100000);
	cassette_pieces_zero(&pieces, 0x300000, 0);
	cr_assert_eq(cassette_write_memory(writer, &pieces), 0);
	cassette_pieces_free(&pieces);
}

static void write_cassette(void)
{
	const struct cassette_sum sums[] = {{0, 1}, {0x200000, UINT64_MAX}};
	struct cassette_writer *writer;
	struct cassette_span span;

	cr_assert_eq(cassette_writer_open(path, &header, &writer), 0);
	cr_assert_eq(cassette_write_host(writer, "vm", "cpus", "4"), 0);
	cassette_values_begin(&args);
	cassette_args_irq_line(&args, 99, 1);
	span = end(&args);
	cr_assert_eq(cassette_write_call(writer, CASSETTE_LANE_VM, CASSETTE_IRQ_LINE, span, -EINVAL,
					 "no such line\x1b[", (struct cassette_span){0}, 0),
		     0);
	cr_assert_eq(cassette_write_sums(writer, 3, CASSETTE_BEFORE, sums, 2), 0);
	write_run(writer);
	cr_assert_eq(cassette_writer_close(writer), 0);
}

static struct cassette_reader *open_it(void)
{
	struct cassette_reader *reader;
	char why[256] = "";

	cr_assert_eq(cassette_reader_open(path, &reader, why, sizeof(why)), 0, "%s", why);
	return reader;
}

static const struct cassette_item *peek(struct cassette_reader *reader)
{
	const struct cassette_item *item;

	cr_assert_eq(cassette_reader_peek(reader, &item), 0, "%s", cassette_reader_why(reader));
	return item;
}

static int count_memory(void *opaque, uint64_t gpa, const void *data, uint64_t len)
{
	uint32_t *count = opaque;
	uint8_t page[4096];

	if (*count < PAGES) {
		fill_page(*count, page);
		cr_expect_eq(gpa, (uint64_t)*count * 4096);
		cr_assert_eq(len, 4096);
		cr_expect_arr_eq(data, page, 4096);
	} else {
		cr_expect_null(data);
		cr_expect_eq(len, *count == PAGES ? 0x100000 : 0);
	}
	++*count;
	return 0;
}

Test(cassette, a_file_comes_back)
{
	const struct cassette_header *h;
	const struct cassette_item *item;
	struct cassette_reader *reader;
	uint32_t pieces = 0;
	char text[64];

	write_cassette();
	reader = open_it();
	h = cassette_reader_header(reader);
	cr_expect_str_eq(h->backend, "kvm");
	cr_expect_str_eq(h->version, "1.2");
	cr_expect_arr_eq(&h->caps, &header.caps, sizeof(h->caps));
	cr_expect_arr_eq(h->cpuid, header.cpuid, sizeof(*h->cpuid));
	cr_expect_arr_eq(h->msrs, header.msrs, 2 * sizeof(*h->msrs));
	cr_expect_arr_eq(h->feature_msrs, header.feature_msrs, sizeof(*h->feature_msrs));
	item = peek(reader);
	cr_expect_eq(item->kind, CASSETTE_CALL);
	cr_expect_eq(item->lane, CASSETTE_LANE_VM);
	cr_expect_eq(item->op, CASSETTE_IRQ_LINE);
	cr_expect_eq(item->error, -EINVAL);
	cr_expect_str_eq(item->text, "no such line?[");
	cr_expect_eq(item->number, 1);
	cassette_show(item->args, text, sizeof(text));
	cr_expect_str_eq(text, "gsi 0x63, level 1");
	cassette_reader_next(reader);
	item = peek(reader);
	cr_expect_eq(item->kind, CASSETTE_SUMS);
	cr_expect_eq(item->when, CASSETTE_BEFORE);
	cr_expect_eq(item->lane, 3);
	cr_assert_eq(item->nsums, 2);
	cr_expect_eq(item->sums[1].gpa, 0x200000);
	cr_expect_eq(item->sums[1].sum, UINT64_MAX);
	cassette_reader_next(reader);
	item = peek(reader);
	cr_expect_eq(item->op, CASSETTE_RUN);
	cr_expect_eq(item->lane, 3);
	cr_expect_eq(cassette_reader_memory(reader, count_memory, &pieces), 0);
	cr_expect_eq(pieces, PAGES + 2);
	cassette_show(peek(reader)->results, text, sizeof(text));
	cr_expect_str_eq(text, "exit 5");
	cassette_reader_next(reader);
	cr_expect_eq(peek(reader)->kind, CASSETTE_END);
	cassette_reader_next(reader);
	cr_expect_eq(peek(reader)->kind, CASSETTE_END);
	cassette_reader_close(reader);
}

Test(cassette, memory_may_be_passed_over)
{
	struct cassette_reader *reader;

	write_cassette();
	reader = open_it();
	for (int i = 0; i < 3; i++) {
		peek(reader);
		cassette_reader_next(reader);
	}
	cr_expect_eq(peek(reader)->kind, CASSETTE_END);
	cassette_reader_close(reader);
}

static int note_host(void *opaque, const char *section, const char *key, const char *text)
{
	snprintf(opaque, 64, "[%s] %s = %s", section, key, text);
	return 0;
}

static int stop_host(void *opaque, const char *section, const char *key, const char *text)
{
	(void)opaque, (void)section, (void)key, (void)text;
	return -E2BIG;
}

Test(cassette, the_hosts_values_are_read_on_their_own)
{
	char line[64] = "", why[64];

	write_cassette();
	cr_assert_eq(cassette_read_host(path, note_host, line, why, sizeof(why)), 0);
	cr_expect_str_eq(line, "[vm] cpus = 4");
	cr_expect_eq(cassette_read_host(path, stop_host, NULL, why, sizeof(why)), -E2BIG);
}

static int take_any(void *opaque, uint64_t gpa, const void *data, uint64_t len)
{
	uint64_t *sum = opaque;

	*sum += gpa;
	for (uint64_t i = 0; data && i < len; i++)
		*sum += ((const uint8_t *)data)[i];
	return 0;
}

/* Reads all that there is. Gives the last item's kind, or CASSETTE_CUT for what was refused. */
static enum cassette_kind read_all(uint64_t *ret_calls)
{
	struct cassette_exit_room room = {0};
	const struct cassette_item *item;
	struct cassette_reader *reader;
	struct impost_exit exit;
	uint64_t sum = 0;
	char why[256] = "", text[64];
	int err;

	*ret_calls = 0;
	err = cassette_reader_open(path, &reader, why, sizeof(why));
	if (err) {
		cr_expect_eq(err, -IMPOST_EFORMAT, "%s", why);
		cr_expect_neq(*why, 0);
		return CASSETTE_CUT;
	}
	while (!(err = cassette_reader_peek(reader, &item)) && item->kind < CASSETTE_END) {
		*ret_calls += item->kind == CASSETTE_CALL;
		cassette_show(item->args, text, sizeof(text));
		if (item->kind == CASSETTE_CALL && !cassette_take_exit(item->results, &room, &exit))
			impost_exit_name(&exit);
		if (cassette_reader_memory(reader, take_any, &sum))
			--*ret_calls;
		cassette_reader_next(reader);
	}
	cr_expect(!err || *cassette_reader_why(reader) != 0);
	if (!err && item->kind == CASSETTE_CUT)
		cr_expect_neq(*item->why, 0);
	err = err || item->kind == CASSETTE_CUT;
	cassette_reader_close(reader);
	cassette_exit_room_free(&room);
	return err ? CASSETTE_CUT : CASSETTE_END;
}

static off_t file_size(void)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return st.st_size;
}

Test(cassette, a_file_that_ends_early_is_read_so_far, .timeout = 120)
{
	uint64_t calls, before = 2;

	write_cassette();
	cr_expect_eq(read_all(&calls), CASSETTE_END);
	cr_expect_eq(calls, 2);
	for (off_t size = file_size() - 1; size >= 0; size -= size > 4000 ? 97 : 1) {
		cr_assert_eq(truncate(path, size), 0);
		cr_expect_eq(read_all(&calls), CASSETTE_CUT);
		cr_expect(calls <= before);
		before = calls;
	}
	cr_expect_eq(before, 0);
}

Test(cassette, spoilt_files_are_read_or_refused, .timeout = 120)
{
	uint64_t calls;
	uint8_t byte;
	int fd;

	write_cassette();
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert(fd >= 0);
	for (off_t at = 0; at<file_size(); at += at> 3000 ? 41 : 1) {
		cr_assert_eq(pread(fd, &byte, 1, at), 1);
		for (int how = 0; how < 3; how++) {
			uint8_t spoilt = (uint8_t)(how == 0   ? byte ^ 0xff
						   : how == 1 ? 0x5f
							      : byte + 1);

			cr_assert_eq(pwrite(fd, &spoilt, 1, at), 1);
			read_all(&calls);
		}
		cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
	cr_expect_eq(read_all(&calls), CASSETTE_END);
}

/* What is written behind a header that is right. */
static void append(const char *bytes, size_t len)
{
	struct cassette_writer *writer;
	off_t size;
	int fd;

	cr_assert_eq(cassette_writer_open(path, &header, &writer), 0);
	size = file_size();
	cr_assert_eq(cassette_writer_close(writer), 0);
	cr_assert_eq(truncate(path, size), 0);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

static void refuse(const char *bytes, size_t len, const char *what)
{
	const struct cassette_item *item;
	struct cassette_reader *reader;

	append(bytes, len);
	reader = open_it();
	cr_expect_eq(cassette_reader_peek(reader, &item), -IMPOST_EFORMAT, "%s", what);
	cr_expect_not_null(strstr(cassette_reader_why(reader), what), "%s, not %s",
			   cassette_reader_why(reader), what);
	cr_expect_eq(cassette_reader_peek(reader, &item), -IMPOST_EFORMAT);
	cassette_reader_close(reader);
}

#define REFUSED(bytes, what) refuse(bytes, sizeof(bytes) - 1, what)

Test(cassette, what_stands_in_no_cassette_is_refused)
{
	REFUSED("\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "longer than any");
	REFUSED("\x5a\x10\x00\x00\x00", "longer than any");
	/* With its head, more than a size_t has. */
	REFUSED("\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "longer than any");
	REFUSED("\xc0\x01", "no CBOR");
	REFUSED("\x81\x81\x81\x81\x81\x81\x81\x81\x01", "no CBOR");
	REFUSED("\xfa\x00\x00\x00\x00", "no CBOR");
	REFUSED("\x01", "neither a call");
	REFUSED("\xa1\x62op\x18\xff", "not known here");
	REFUSED("\xa1\x62op\x18\x14", "its lane");
	REFUSED("\xa2\x62op\x14\x64vcpu\x1a\xff\xff\xff\xff", "not known here");
	REFUSED("\xa2\x62op\x01\x65"
		"error\x3a\xff\xff\xff\xff",
		"not known here");
	REFUSED("\xa2\x62op\x01\x64"
		"args\x01",
		"not known here");
	REFUSED("\xa1\x63"
		"end\x05",
		"another number of calls");
	REFUSED("\xa1\x63"
		"end\x00\x00",
		"something is behind");
	REFUSED("\xa3\x64sums\x81\x01\x64vcpu\x00\x64when\x66"
		"before",
		"none");
	REFUSED("\xa1\x64host\x83\x61x\x61y\x61\x1b", "host's");
}

static void refuse_memory(const char *bytes, size_t len)
{
	struct cassette_reader *reader;
	uint64_t sum = 0;

	append(bytes, len);
	reader = open_it();
	cr_expect_eq(peek(reader)->kind, CASSETTE_CALL);
	cr_expect_eq(cassette_reader_memory(reader, take_any, &sum), -IMPOST_EFORMAT);
	cr_expect_eq(sum, 0);
	cr_expect_not_null(strstr(cassette_reader_why(reader), "no item of guest memory"), "%s",
			   cassette_reader_why(reader));
	cassette_reader_close(reader);
}

#define RUN_WITH_MEMORY "\xa3\x62op\x14\x64vcpu\x00\x66memory\x01"
#define REFUSED_MEMORY(bytes) \
	refuse_memory(RUN_WITH_MEMORY bytes, sizeof(RUN_WITH_MEMORY bytes) - 1)

Test(cassette, memory_that_is_none_is_refused)
{
	/* A piece that is no pair; no gpa; over a page's border; around the end of addresses. */
	REFUSED_MEMORY("\x81\x01");
	REFUSED_MEMORY("\x81\x82\x41\x00\x41\x00");
	REFUSED_MEMORY("\x81\x82\x19\x0f\xff\x42\x00\x01");
	REFUSED_MEMORY("\x81\x82\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x02");
	/* Packed: more than there may be, and no such thing. */
	REFUSED_MEMORY("\xa2\x64zstd\x41\x00\x65"
		       "bytes\x1a\x7f\xff\xff\xff");
	REFUSED_MEMORY("\xa2\x64zstd\x41\x00\x65"
		       "bytes\x05");
}

Test(cassette, sums_are_of_what_is_not_zero)
{
	uint8_t *memory = calloc(1, 3 * CASSETTE_SUM_PIECE);
	struct cassette_memory piece = {0x1000, 3 * CASSETTE_SUM_PIECE, memory};
	struct cassette_sum *sums, *again;
	size_t count, count_again;

	memory[0] = 1;
	memory[2 * CASSETTE_SUM_PIECE] = 1;
	cr_assert_eq(cassette_sum(&piece, 1, &sums, &count), 0);
	cr_assert_eq(count, 2);
	cr_expect_eq(sums[0].gpa, 0x1000);
	cr_expect_eq(sums[1].gpa, 2 * CASSETTE_SUM_PIECE);
	memory[2 * CASSETTE_SUM_PIECE] = 2;
	cr_assert_eq(cassette_sum(&piece, 1, &again, &count_again), 0);
	cr_expect_eq(again[0].sum, sums[0].sum);
	cr_expect_neq(again[1].sum, sums[1].sum);
	free(again);
	free(sums);
	free(memory);
}

Test(cassette, a_full_disk_is_told)
{
	struct cassette_writer *writer;

	if (access("/dev/full", W_OK))
		cr_skip_test("there is no /dev/full");
	cr_expect_eq(cassette_writer_open("/dev/full", &header, &writer), -ENOSPC);
	cr_expect_eq(cassette_writer_open("/nowhere/x", &header, &writer), -ENOENT);
}
