/* SPDX-License-Identifier: Apache-2.0 */
/* A script that is saved in its middle goes on in another VM of the mock, or is refused. */
#include "mock.h"

#define ROM   UINT64_C(0x800000)
#define EXITS 64u

static const char script[] =
	"[vcpu 0]\n"
	"out = 0x80 1 1\n"
	"repeat = 3\n"
	"in = 0x60 1\n"
	"repeat = 2\n"
	"mmio-read = 0xd0000000 4\n"
	"set = rbx 0x77\n"
	"end =\n"
	"delay = 1 us\n"
	"end =\n"
	"write = 0x20000 11 22 33 44\n"
	"write = 0x800010 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13\n"
	"out = 0x80 1 2\n"
	"hlt =\n";

/* A vCPU's whole state, and the exits that came. */
struct saved {
	uint8_t section[10][IMPOST_X86_XSAVE_MAX];
	uint32_t size[10];
	uint8_t ram[16];
};

static void open_machine(struct mock *m, const char *text)
{
	struct impost_region rom = {
		.size = sizeof(rom), .gpa = ROM, .bytes = 0x1000, .flags = IMPOST_REGION_READONLY};
	mock_open(m, text);
	cr_assert_eq(impost_memory_add(impost_vm_memory(m->vm), &rom), 0, "%s",
		     impost_error(m->ctx));
}

static void take(struct mock *m, struct saved *s)
{
	memset(s, 0, sizeof(*s));
	for (uint32_t i = IMPOST_SECTION_REGS; i <= IMPOST_SECTION_VCPU_OPAQUE; i++)
		cr_assert_eq(impost_vcpu_get(m->cpu[0], i, s->section[i], IMPOST_X86_XSAVE_MAX,
					     &s->size[i]),
			     0, "%s", impost_error(m->ctx));
	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), 0x20000, s->ram, sizeof(s->ram)),
		     0);
}

static void load(struct mock *m, const struct saved *s)
{
	for (uint32_t i = IMPOST_SECTION_REGS; i <= IMPOST_SECTION_VCPU_OPAQUE; i++)
		cr_assert_eq(impost_vcpu_set(m->cpu[0], i, s->section[i], s->size[i]), 0, "%s",
			     impost_error(m->ctx));
	cr_assert_eq(impost_memory_write(impost_vm_memory(m->vm), 0x20000, s->ram, sizeof(s->ram)),
		     0);
}

/* Runs to the next exit, answers it, and tells it as a line. */
static void one_exit(struct mock *m, unsigned number, char line[256])
{
	struct impost_exit x;

	cr_assert_eq(impost_vcpu_run(m->cpu[0], &x), 0, "%s", impost_error(m->ctx));
	if (x.kind == IMPOST_EXIT_IO && x.u.io.dir == IMPOST_EXIT_READ)
		memset(x.u.io.data, (int)number, 1);
	if (x.kind == IMPOST_EXIT_MMIO && x.u.mmio.dir == IMPOST_EXIT_READ)
		memset(x.u.mmio.data, (int)number, 4);
	impost_exit_format(&x, line, 256);
	cr_assert_eq(impost_vcpu_complete(m->cpu[0], &x), 0);
	cr_assert_eq(x.kind, IMPOST_EXIT_NONE);
}

Test(mock_position, goes_on_from_every_exit)
{
	static char all[EXITS][256];
	static struct saved at, end, again;
	unsigned count = 0;
	struct mock m;

	open_machine(&m, script);
	do
		one_exit(&m, count, all[count]);
	while (!strstr(all[count++], "HLT"));
	cr_assert_gt(count, 12u);
	take(&m, &end);
	mock_close(&m);
	for (unsigned stop = 0; stop <= count; stop++) {
		char line[256];
		struct mock from, to;

		open_machine(&from, script);
		open_machine(&to, script);
		for (unsigned i = 0; i < stop; i++)
			one_exit(&from, i, line);
		take(&from, &at);
		load(&to, &at);
		for (unsigned i = stop; i < count; i++) {
			one_exit(&to, i, line);
			cr_assert_str_eq(line, all[i], "saved after %u: exit %u", stop, i);
		}
		take(&to, &again);
		/* The clock stands still but for delays, which one of the VMs had before. */
		end.size[IMPOST_SECTION_TSC] = again.size[IMPOST_SECTION_TSC];
		memcpy(end.section[IMPOST_SECTION_TSC], again.section[IMPOST_SECTION_TSC],
		       sizeof(struct impost_x86_tsc));
		cr_assert_arr_eq(&again, &end, sizeof(again), "saved after %u", stop);
		mock_close(&from);
		mock_close(&to);
	}
}

static int set_opaque(struct mock *m, const uint8_t *bytes, uint32_t len)
{
	return impost_vcpu_set(m->cpu[0], IMPOST_SECTION_VCPU_OPAQUE, bytes, len);
}

static uint32_t get_opaque(struct mock *m, uint8_t *bytes)
{
	uint32_t len = 0;

	cr_assert_eq(impost_vcpu_get(m->cpu[0], IMPOST_SECTION_VCPU_OPAQUE, bytes, 4096, &len), 0,
		     "%s", impost_error(m->ctx));
	return len;
}

Test(mock_position, of_another_script_is_refused)
{
	uint8_t opaque[4096], before[4096], after[4096];
	struct impost_mock_step more = {
		.size = sizeof(more), .op = IMPOST_MOCK_EXIT, .exit.kind = IMPOST_EXIT_HLT};
	char line[256];
	struct mock m;
	uint32_t len;

	open_machine(&m, script);
	for (unsigned i = 0; i < 4; i++)
		one_exit(&m, i, line);
	len = get_opaque(&m, opaque);
	/* A script that has grown since is the same as far as it was played. */
	append(&m, 0, &more, 1);
	cr_assert_eq(set_opaque(&m, opaque, len), 0);
	mock_close(&m);
	open_machine(&m, "[vcpu 0]\nout = 0x80 1 1\nout = 0x80 1 2\n");
	get_opaque(&m, before);
	cr_assert_eq(set_opaque(&m, opaque, len), -IMPOST_ESTATE);
	cr_assert(strstr(impost_error(m.ctx), "another one"), "%s", impost_error(m.ctx));
	len = get_opaque(&m, after);
	cr_assert_arr_eq(before, after, len);
	mock_close(&m);
	open_machine(&m, NULL);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, after, sizeof(after),
				     &len),
		     -ENOENT, "no script, no position");
	mock_close(&m);
}

/* Every byte is hostile: it is taken, or refused and nothing has changed. */
Test(mock_position, broken_ones_are_refused)
{
	uint8_t opaque[4096], broken[4096], now[4096];
	unsigned refused = 0;
	char line[256];
	struct mock m;
	uint32_t len;

	open_machine(&m, script);
	for (unsigned i = 0; i < 4; i++)
		one_exit(&m, i, line);
	len = get_opaque(&m, opaque);
	for (uint32_t cut = 8; cut < len; cut++) {
		memcpy(broken, opaque, len);
		memcpy(broken, &cut, sizeof(cut));
		cr_assert_neq(set_opaque(&m, broken, cut), 0, "cut at %u", cut);
		cr_assert_neq(set_opaque(&m, opaque, cut), 0, "cut at %u", cut);
	}
	for (uint32_t at = 0; at < len; at++)
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(broken, opaque, len);
			broken[at] ^= (uint8_t)(1u << bit);
			if (set_opaque(&m, broken, len) == 0) {
				cr_assert_eq(set_opaque(&m, opaque, len), 0);
				continue;
			}
			refused++;
			cr_assert_eq(get_opaque(&m, now), len);
			cr_assert_arr_eq(now, opaque, len, "byte %u", at);
		}
	cr_assert_gt(refused, len * 4);
	mock_close(&m);
}

/* Other things of the mock's lie beside the position and are kept. */
Test(mock_position, beside_other_things)
{
	struct impost_x86_opaque other = {.size = sizeof(other) + 8,
					  .version = 1,
					  .backend = "mock",
					  .what = "test",
					  .data_size = 8};
	uint8_t opaque[4096], both[4096];
	uint32_t len;
	struct mock m;

	open_machine(&m, script);
	len = get_opaque(&m, opaque);
	memcpy(opaque + len, &other, sizeof(other));
	memcpy(opaque + len + sizeof(other), "12345678", 8);
	cr_assert_eq(set_opaque(&m, opaque, len + other.size), 0, "%s", impost_error(m.ctx));
	cr_assert_eq(get_opaque(&m, both), len + other.size);
	cr_assert_arr_eq(both, opaque, len + other.size);
	memcpy(opaque + len, opaque, len);
	cr_assert_eq(set_opaque(&m, opaque, 2 * len), -EINVAL, "two positions");
	mock_close(&m);
}
