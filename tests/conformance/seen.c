/* SPDX-License-Identifier: Apache-2.0 */
/* What the host sets the guest sees, and what the guest sets the host sees: each register by
 * itself. */
#include "section.h"

#define OUT   0xe6, 0x80
#define VALUE UINT64_C(0x123456789abc)

static void open_seen(struct box *box, union section *s, const void *code, size_t bytes)
{
	box_open(box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(box, IMPOST_CAP_EXECUTES);
	enter_long(box, box->vcpu, code, bytes);
	section_get(box, IMPOST_SECTION_SREGS, s);
}

static uint64_t run_for_rax(struct box *box)
{
	struct impost_exit exit;

	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
	return regs_of(box, box->vcpu).rax;
}

/* The guest's instructions bring FIELD, set to what it is to be, to RAX. */
#define SEEN(name, field, value, ...)                                     \
	Test(seen, name)                                                  \
	{                                                                 \
		static union section s;                                   \
		struct box box;                                           \
		uint64_t rax;                                             \
                                                                          \
		open_seen(&box, &s, GUEST(__VA_ARGS__, OUT));             \
		s.sregs.field = value;                                    \
		section_set(&box, IMPOST_SECTION_SREGS, &s);              \
		rax = run_for_rax(&box);                                  \
		cr_assert_eq(rax, s.sregs.field, "the guest sees 0x%llx", \
			     (unsigned long long)rax);                    \
		box_close(&box);                                          \
	}
SEEN(cr0, cr0, 0x80050033, 0x0f, 0x20, 0xc0)
SEEN(cr2, cr2, VALUE, 0x0f, 0x20, 0xd0)
SEEN(cr3, cr3, PAGE_TABLES | 0x18, 0x0f, 0x20, 0xd8)
SEEN(cr4, cr4, 0x6a8, 0x0f, 0x20, 0xe0)
SEEN(cr8, cr8, 9, 0x44, 0x0f, 0x20, 0xc0)
SEEN(cs, cs.selector, 0x18, 0x8c, 0xc8)
SEEN(ds, ds.selector, 0x28, 0x8c, 0xd8)
SEEN(es, es.selector, 0x38, 0x8c, 0xc0)
SEEN(fs, fs.selector, 0x48, 0x8c, 0xe0)
SEEN(gs, gs.selector, 0x58, 0x8c, 0xe8)
SEEN(ss, ss.selector, 0x68, 0x8c, 0xd0)
/* sldt eax; str eax */
SEEN(ldtr, ldtr.selector, 0x78, 0x0f, 0x00, 0xc0)
SEEN(tr, tr.selector, 0x88, 0x0f, 0x00, 0xc8)
/* mov ecx, 0xc0000080; rdmsr */
SEEN(efer, efer, 0xd01, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32)

/* The guest stores the table register at DATA. */
#define TABLE(name, opcode)                                                                        \
	Test(seen, name)                                                                           \
	{                                                                                          \
		struct {                                                                           \
			uint16_t limit;                                                            \
			uint64_t base;                                                             \
		} __attribute__((packed)) stored;                                                  \
		static union section s;                                                            \
		struct box box;                                                                    \
                                                                                                   \
		open_seen(&box, &s, GUEST(0x0f, 0x01, opcode, 0x25, 0x00, 0x00, 0x01, 0x00, OUT)); \
		s.sregs.name.base = VALUE;                                                         \
		s.sregs.name.limit = 0x4567;                                                       \
		section_set(&box, IMPOST_SECTION_SREGS, &s);                                       \
		run_for_rax(&box);                                                                 \
		OK(&box, impost_memory_read(box.memory, DATA, &stored, sizeof(stored)));           \
		cr_assert_eq(stored.limit, 0x4567);                                                \
		cr_assert_eq(stored.base, VALUE);                                                  \
		box_close(&box);                                                                   \
	}
TABLE(gdtr, 0x04)
TABLE(idtr, 0x0c)

/* mov rax, SEGMENT:[0] */
#define BASE(name, segment, prefix)                                                            \
	Test(seen, name)                                                                       \
	{                                                                                      \
		const uint64_t value = VALUE;                                                  \
		static union section s;                                                        \
		struct box box;                                                                \
                                                                                               \
		open_seen(&box, &s,                                                            \
			  GUEST(prefix, 0x48, 0x8b, 0x04, 0x25, 0x00, 0x00, 0x00, 0x00, OUT)); \
		s.sregs.segment.base = DATA + 8;                                               \
		section_set(&box, IMPOST_SECTION_SREGS, &s);                                   \
		OK(&box, impost_memory_write(box.memory, DATA + 8, &value, sizeof(value)));    \
		cr_assert_eq(run_for_rax(&box), VALUE);                                        \
		box_close(&box);                                                               \
	}
BASE(fs_base, fs, 0x64)
BASE(gs_base, gs, 0x65)

/* The guest brings RAX to FIELD. */
#define WRITTEN(name, field, value, ...)                                   \
	Test(written, name)                                                \
	{                                                                  \
		struct impost_x86_regs regs;                               \
		static union section s;                                    \
		struct box box;                                            \
                                                                           \
		open_seen(&box, &s, GUEST(__VA_ARGS__, OUT));              \
		regs = regs_of(&box, box.vcpu);                            \
		regs.rax = value;                                          \
		set_regs(&box, box.vcpu, &regs);                           \
		run_for_rax(&box);                                         \
		section_get(&box, IMPOST_SECTION_SREGS, &s);               \
		cr_assert_eq(s.sregs.field, value, "the host sees 0x%llx", \
			     (unsigned long long)s.sregs.field);           \
		box_close(&box);                                           \
	}
WRITTEN(cr0, cr0, 0x80010033, 0x0f, 0x22, 0xc0)
WRITTEN(cr2, cr2, VALUE, 0x0f, 0x22, 0xd0)
WRITTEN(cr3, cr3, PAGE_TABLES | 0x18, 0x0f, 0x22, 0xd8)
WRITTEN(cr4, cr4, 0x6a0, 0x0f, 0x22, 0xe0)
WRITTEN(cr8, cr8, 5, 0x44, 0x0f, 0x22, 0xc0)
/* mov ecx, 0xc0000080; cdq; wrmsr: EFER with SCE and NXE */
WRITTEN(efer, efer, 0xd01, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x99, 0x0f, 0x30)
/* mov ecx, 0xc0000100 or 0xc0000101; cdq; wrmsr */
WRITTEN(fs_base, fs.base, 0x12345678, 0xb9, 0x00, 0x01, 0x00, 0xc0, 0x99, 0x0f, 0x30)
WRITTEN(gs_base, gs.base, 0x12345678, 0xb9, 0x01, 0x01, 0x00, 0xc0, 0x99, 0x0f, 0x30)

/* lgdt and lidt take their operand from DATA. */
#define LOADED(name, opcode)                                                                       \
	Test(written, name)                                                                        \
	{                                                                                          \
		const struct {                                                                     \
			uint16_t limit;                                                            \
			uint64_t base;                                                             \
		} __attribute__((packed)) operand = {0x2345, VALUE};                               \
		static union section s;                                                            \
		struct box box;                                                                    \
                                                                                                   \
		open_seen(&box, &s, GUEST(0x0f, 0x01, opcode, 0x25, 0x00, 0x00, 0x01, 0x00, OUT)); \
		OK(&box, impost_memory_write(box.memory, DATA, &operand, sizeof(operand)));        \
		run_for_rax(&box);                                                                 \
		section_get(&box, IMPOST_SECTION_SREGS, &s);                                       \
		cr_assert_eq(s.sregs.name.limit, 0x2345);                                          \
		cr_assert_eq(s.sregs.name.base, VALUE);                                            \
		box_close(&box);                                                                   \
	}
LOADED(gdtr, 0x14)
LOADED(idtr, 0x1c)

/* --- debug registers --- */

static void debug_register(size_t offset, uint8_t modrm, uint64_t first, uint64_t second)
{
	static union section s, d;
	struct impost_x86_regs regs;
	uint64_t got;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_DEBUGREGS);
	section_get(&box, IMPOST_SECTION_DEBUGREGS, &d);
	memcpy((uint8_t *)&d + offset, &first, sizeof(first));
	section_set(&box, IMPOST_SECTION_DEBUGREGS, &d);
	section_get(&box, IMPOST_SECTION_DEBUGREGS, &s);
	cr_assert_arr_eq(&s, &d, d.size);
	if (impost_caps_has(box.caps, IMPOST_CAP_EXECUTES)) {
		/* mov rax, DR; mov DR, rbx */
		enter_long(&box, box.vcpu, GUEST(0x0f, 0x21, modrm, 0x0f, 0x23, modrm | 3, OUT));
		regs = regs_of(&box, box.vcpu);
		regs.rbx = second;
		set_regs(&box, box.vcpu, &regs);
		cr_assert_eq(run_for_rax(&box), first, "what the guest sees");
		section_get(&box, IMPOST_SECTION_DEBUGREGS, &d);
		memcpy(&got, (uint8_t *)&d + offset, sizeof(got));
		cr_assert_eq(got, second, "what the guest has set: 0x%llx",
			     (unsigned long long)got);
	}
	box_close(&box);
}

#define DEBUG_REGISTER(name, field, modrm, first, second)                                  \
	Test(debug_registers, name)                                                        \
	{                                                                                  \
		debug_register(offsetof(struct impost_x86_debugregs, field), modrm, first, \
			       second);                                                    \
	}
DEBUG_REGISTER(dr0, dr[0], 0xc0, UINT64_C(0x7fffffffffff), 1)
DEBUG_REGISTER(dr1, dr[1], 0xc8, UINT64_C(0xffff800000000000), 2)
DEBUG_REGISTER(dr2, dr[2], 0xd0, UINT64_C(0x5555), UINT64_C(0xffffffffffff0000))
DEBUG_REGISTER(dr3, dr[3], 0xd8, UINT64_C(0xfffffffffffffff0), 0)
DEBUG_REGISTER(dr6, dr6, 0xf0, 0xffff4ff1, 0xffff0ff2)
DEBUG_REGISTER(dr7, dr7, 0xf8, 0x00000600, 0x00000500)

static void bad_debug_register(size_t offset, uint64_t value, const char *word)
{
	static union section d;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_DEBUGREGS);
	section_get(&box, IMPOST_SECTION_DEBUGREGS, &d);
	d.debugregs.dr[1] = 0x1234;
	memcpy((uint8_t *)&d + offset, &value, sizeof(value));
	section_refuse(&box, IMPOST_SECTION_DEBUGREGS, &d, IMPOST_ESTATE, word);
	cr_assert_not_null(strcasestr(impost_error(box.ctx), word), "names no %s: %s", word,
			   impost_error(box.ctx));
	box_close(&box);
}

Test(debug_registers, refuses_dr6_bit_32)
{
	bad_debug_register(offsetof(struct impost_x86_debugregs, dr6), UINT64_C(0x1ffff0ff0),
			   "DR6");
}

Test(debug_registers, refuses_dr7_bit_32)
{
	bad_debug_register(offsetof(struct impost_x86_debugregs, dr7), UINT64_C(0x100000400),
			   "DR7");
}

Test(debug_registers, refuses_dr7_bit_63)
{
	bad_debug_register(offsetof(struct impost_x86_debugregs, dr7), UINT64_C(0x8000000000000400),
			   "DR7");
}
