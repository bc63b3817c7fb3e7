/* SPDX-License-Identifier: Apache-2.0 */
/* Topologies: what is one, how one is written, and the APIC ids that come from it. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <impost/context.h>
#include <impost/x86_64/cpuid.h>

static struct impost_x86_topology make(uint32_t sockets, uint32_t dies, uint32_t cores,
				       uint32_t threads)
{
	return (struct impost_x86_topology){
		sizeof(struct impost_x86_topology), sockets, dies, cores, threads, 0};
}

static uint32_t cpus_of(const struct impost_x86_topology *t)
{
	return t->sockets * t->dies * t->cores * t->threads;
}

Test(topology, flat_is_one_socket_of_cores)
{
	struct impost_x86_topology t;

	impost_x86_topology_flat(&t, 7);
	cr_assert_eq(t.size, sizeof(t));
	cr_assert_eq(t.sockets, 1u);
	cr_assert_eq(t.dies, 1u);
	cr_assert_eq(t.cores, 7u);
	cr_assert_eq(t.threads, 1u);
	cr_assert_eq(impost_x86_topology_check(NULL, &t, 7), 0);
	for (uint32_t i = 0; i < 7; i++)
		cr_assert_eq(impost_x86_apic_id(&t, i), i);
}

/* Bits that tell COUNT things apart, by trying. */
static uint32_t width(uint32_t count)
{
	uint32_t bits = 0;

	while (1u << bits < count)
		bits++;
	return bits;
}

/* Ids rise with the number, and taken apart at the levels' borders say where the CPU is. */
static void assert_ids(const struct impost_x86_topology *t)
{
	uint32_t thread_bits = width(t->threads), core_bits = width(t->cores);
	uint32_t die_bits = width(t->dies), before = 0, index = 0;

	for (uint32_t s = 0; s < t->sockets; s++)
		for (uint32_t d = 0; d < t->dies; d++)
			for (uint32_t c = 0; c < t->cores; c++)
				for (uint32_t h = 0; h < t->threads; h++, index++) {
					uint32_t id = impost_x86_apic_id(t, index), at = id;

					cr_assert(!index || before < id);
					before = id;
					cr_assert_eq(at & ((1u << thread_bits) - 1), h);
					at >>= thread_bits;
					cr_assert_eq(at & ((1u << core_bits) - 1), c);
					at >>= core_bits;
					cr_assert_eq(at & ((1u << die_bits) - 1), d);
					cr_assert_eq(at >> die_bits, s);
				}
	cr_assert_eq(index, cpus_of(t));
}

Test(topology, apic_ids_tell_all_levels)
{
	for (uint32_t s = 1; s <= 5; s++)
		for (uint32_t d = 1; d <= 4; d++)
			for (uint32_t c = 1; c <= 9; c++)
				for (uint32_t h = 1; h <= 3; h++) {
					struct impost_x86_topology t = make(s, d, c, h);

					cr_assert_eq(impost_x86_topology_check(NULL, &t,
									       cpus_of(&t)),
						     0);
					assert_ids(&t);
				}
}

Test(topology, what_cannot_be_is_refused)
{
	static const struct {
		struct impost_x86_topology topology;
		uint32_t cpus;
		const char *words;
	} wrong[] = {
		{{8, 1, 1, 1, 1, 0}, 1, "size is 8"},
		{{28, 1, 1, 1, 1, 0}, 1, "size is 28"},
		{{24, 1, 1, 1, 1, 5}, 1, "reserved is 5"},
		{{24, 0, 1, 1, 1, 0}, 0, "at least"},
		{{24, 1, 0, 1, 1, 0}, 0, "at least"},
		{{24, 1, 1, 0, 1, 0}, 0, "at least"},
		{{24, 1, 1, 1, 0, 0}, 0, "at least"},
		{{24, 1, 1, 4, 2, 0}, 6, "makes 8 CPUs, but there are 6"},
		{{24, 2, 1, 16385, 1, 0}, 32770, "need 16 bits"},
		{{24, 65536, 1, 65536, 1, 0}, 0, "need 32 bits"}, /* the product wraps to 0 */
		{{24, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0}, 1, "need 128 bits"},
	};
	struct impost_context *ctx;

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_assert_eq(impost_x86_topology_check(ctx, &wrong[i].topology, wrong[i].cpus),
			     -EINVAL);
		cr_assert(strstr(impost_error(ctx), wrong[i].words), "\"%s\" lacks \"%s\"",
			  impost_error(ctx), wrong[i].words);
	}
	cr_assert_eq(impost_x86_topology_check(ctx, NULL, 1), -EINVAL);
	cr_assert(strstr(impost_error(ctx), "NULL"), "%s", impost_error(ctx));
	cr_assert_eq(impost_context_close(ctx), 0);
}

Test(topology, is_written_as_four_numbers)
{
	static const char *const wrong[] = {
		"",
		"1",
		"1:1:4",
		"1:1:4:2:1",
		"1:1:4:2 ",
		" 1:1:4:2",
		"1::4:2",
		"1:1:4:",
		"a:1:4:2",
		"-1:1:4:2",
		"+1:1:4:2",
		"1,1,4,2",
		"0x1:1:4:2",
		"1:1:0:2",
		"1:1:32769:1",
		"1:1:4:4294967297",
		"1:1:4:99999999999999999999",
	};
	struct impost_x86_topology t, before;

	cr_assert_eq(impost_x86_topology_parse(NULL, "2:3:4:5", &t), 0);
	cr_assert_eq(t.size, sizeof(t));
	cr_assert_eq(t.sockets, 2u);
	cr_assert_eq(t.dies, 3u);
	cr_assert_eq(t.cores, 4u);
	cr_assert_eq(t.threads, 5u);
	cr_assert_eq(impost_x86_topology_parse(NULL, "1:1:32768:1", &t), 0);
	before = t;
	cr_assert_eq(impost_x86_topology_parse(NULL, NULL, &t), -EINVAL);
	cr_assert_eq(impost_x86_topology_parse(NULL, "1:1:1:1", NULL), -EINVAL);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_assert_eq(impost_x86_topology_parse(NULL, wrong[i], &t), -EINVAL, "\"%s\"",
			     wrong[i]);
		cr_assert_arr_eq(&t, &before, sizeof(t));
	}
}
