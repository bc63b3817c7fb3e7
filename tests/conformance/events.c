/* SPDX-License-Identifier: Apache-2.0 */
/* Pending events and run states one by one: set, got, delivered, and refused where hardware would.
 */
#include "section.h"

static void open_events(struct box *box, union section *clean)
{
	box_open(box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(box, IMPOST_CAP_EVENTS);
	enter_long(box, box->vcpu, GUEST(0xf4));
	section_get(box, IMPOST_SECTION_EVENTS, clean);
}

/* An event is set, comes back as it is, and goes again. */
#define EVENT(name, field, ...)                                                                \
	Test(events, name)                                                                     \
	{                                                                                      \
		static union section clean, s, t;                                              \
		struct box box;                                                                \
                                                                                               \
		open_events(&box, &clean);                                                     \
		s = clean;                                                                     \
		__VA_ARGS__;                                                                   \
		section_set(&box, IMPOST_SECTION_EVENTS, &s);                                  \
		section_get(&box, IMPOST_SECTION_EVENTS, &t);                                  \
		cr_assert_arr_eq(&t.events.field, &s.events.field, sizeof(t.events.field));    \
		section_set(&box, IMPOST_SECTION_EVENTS, &clean);                              \
		section_get(&box, IMPOST_SECTION_EVENTS, &t);                                  \
		cr_assert_arr_eq(&t.events.field, &clean.events.field, sizeof(t.events.field), \
				 "it stays");                                                  \
		box_close(&box);                                                               \
	}

EVENT(nmi_masked, nmi.masked, s.events.nmi.masked = 1)
EVENT(nmi_pending, nmi.pending, s.events.nmi.pending = 1;
      s.events.flags |= IMPOST_X86_EVENTS_NMI_PENDING;
      clean.events.flags |= IMPOST_X86_EVENTS_NMI_PENDING)
EVENT(nmi_injected, nmi.injected, s.events.nmi.injected = 1)
EVENT(interrupt_injected, interrupt.injected, s.events.interrupt.injected = 1;
      s.events.interrupt.vector = 0x55)

#define EXCEPTION(name, number, error_code)                                 \
	EVENT(exception_##name, exception, s.events.exception.injected = 1; \
	      s.events.exception.vector = number;                           \
	      s.events.exception.has_error = (error_code) >= 0;             \
	      s.events.exception.error = (error_code) >= 0 ? (uint32_t)(error_code) : 0)
/* SDM vol. 3, 6.15; -1: it has no error code. */
EXCEPTION(divide_error, 0, -1)
EXCEPTION(invalid_opcode, 6, -1)
EXCEPTION(device_not_available, 7, -1)
EXCEPTION(double_fault, 8, 0)
EXCEPTION(invalid_tss, 10, 0x18)
EXCEPTION(segment_not_present, 11, 0x20)
EXCEPTION(stack_fault, 12, 0x28)
EXCEPTION(general_protection, 13, 0)
EXCEPTION(page_fault, 14, 7)
EXCEPTION(alignment_check, 17, 0)

/* A payload is still to be applied: DR6's bits, or CR2. */
static void payload(uint8_t vector, bool has_error, uint64_t value)
{
	static union section clean, s, t;
	struct box box;

	open_events(&box, &clean);
	box_need(&box, IMPOST_CAP_EVENT_PAYLOAD);
	s = clean;
	s.events.flags |= IMPOST_X86_EVENTS_PAYLOAD;
	s.events.exception.pending = 1;
	s.events.exception.vector = vector;
	s.events.exception.has_error = has_error;
	s.events.exception.error = has_error ? 2 : 0;
	s.events.exception.has_payload = 1;
	s.events.exception.payload = value;
	section_set(&box, IMPOST_SECTION_EVENTS, &s);
	section_get(&box, IMPOST_SECTION_EVENTS, &t);
	cr_assert_arr_eq(&t.events.exception, &s.events.exception, sizeof(s.events.exception));
	section_get(&box, IMPOST_SECTION_SREGS, &t);
	cr_assert_neq(t.sregs.cr2, value, "it was applied");
	box_close(&box);
}

Test(events, payload_of_a_page_fault)
{
	payload(14, true, 0x123000);
}

Test(events, payload_of_a_debug_exception)
{
	payload(1, false, 0x4000);
}

/* SVM has one shadow for STI and MOV SS (APM vol. 2, 15.21.5): what was set is among what is got.
 */
static void shadow(uint8_t bits)
{
	static union section clean, s, t;
	struct box box;

	open_events(&box, &clean);
	s = clean;
	s.events.interrupt.shadow = bits;
	s.events.flags |= IMPOST_X86_EVENTS_SHADOW;
	section_set(&box, IMPOST_SECTION_EVENTS, &s);
	section_get(&box, IMPOST_SECTION_EVENTS, &t);
	cr_assert_eq(t.events.interrupt.shadow & bits, bits);
	s.events.interrupt.shadow = 0;
	section_set(&box, IMPOST_SECTION_EVENTS, &s);
	section_get(&box, IMPOST_SECTION_EVENTS, &t);
	cr_assert_eq(t.events.interrupt.shadow, 0);
	box_close(&box);
}

Test(events, shadow_of_sti)
{
	shadow(IMPOST_X86_SHADOW_STI);
}

Test(events, shadow_of_mov_ss)
{
	shadow(IMPOST_X86_SHADOW_MOV_SS);
}

/* --- what cannot be --- */

#define BAD_EVENT(name, ...)                                                           \
	Test(events, refuses_##name)                                                   \
	{                                                                              \
		static union section s;                                                \
		struct box box;                                                        \
                                                                                       \
		open_events(&box, &s);                                                 \
		s.events.nmi.masked = 1;                                               \
		__VA_ARGS__;                                                           \
		section_refuse(&box, IMPOST_SECTION_EVENTS, &s, IMPOST_ESTATE, #name); \
		box_close(&box);                                                       \
	}
BAD_EVENT(exception_32, s.events.exception.injected = 1; s.events.exception.vector = 32)
BAD_EVENT(exception_255, s.events.exception.injected = 1; s.events.exception.vector = 255)
BAD_EVENT(nmi_as_an_exception, s.events.exception.injected = 1; s.events.exception.vector = 2)
BAD_EVENT(injected_and_pending, s.events.exception.injected = 1; s.events.exception.pending = 1;
	  s.events.exception.vector = 14; s.events.exception.has_error = 1;
	  s.events.flags |= IMPOST_X86_EVENTS_PAYLOAD)
BAD_EVENT(shadow_bit_2, s.events.interrupt.shadow = 4; s.events.flags |= IMPOST_X86_EVENTS_SHADOW)
BAD_EVENT(sipi_vector_256, s.events.sipi_vector = 256; s.events.flags |= IMPOST_X86_EVENTS_SIPI)

/* --- they reach the guest --- */

/* Real mode; the handler of VECTOR writes to port 0x81. */
static void delivered(uint8_t vector, const union section *events, struct box *box)
{
	struct impost_exit exit;

	OK(box, impost_memory_write(box->memory, HANDLER, (uint8_t[]){0xe6, 0x81, 0xcf}, 3));
	real_vector(box, vector, HANDLER);
	section_set(box, IMPOST_SECTION_EVENTS, events);
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x81u, "port 0x%x", exit.u.io.port);
	finish(box, box->vcpu);
	/* It is delivered once: behind IRET the guest goes on. */
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x80u, "port 0x%x", exit.u.io.port);
	finish(box, box->vcpu);
}

#define DELIVERED(name, vector, ...)                                 \
	Test(events, delivers_##name, .timeout = 60)                 \
	{                                                            \
		static union section s;                              \
		struct box box;                                      \
                                                                     \
		box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);           \
		box_need(&box, IMPOST_CAP_EXECUTES);                 \
		box_need(&box, IMPOST_CAP_EVENTS);                   \
		enter_real(&box, box.vcpu, GUEST(0xe6, 0x80, 0xf4)); \
		section_get(&box, IMPOST_SECTION_EVENTS, &s);        \
		__VA_ARGS__;                                         \
		delivered(vector, &s, &box);                         \
		box_close(&box);                                     \
	}
DELIVERED(an_injected_exception, 6, s.events.exception.injected = 1; s.events.exception.vector = 6)
DELIVERED(an_injected_nmi, 2, s.events.nmi.injected = 1)
DELIVERED(a_pending_nmi, 2, s.events.nmi.pending = 1;
	  s.events.flags |= IMPOST_X86_EVENTS_NMI_PENDING)
DELIVERED(an_injected_interrupt, 0x55, {
	struct impost_x86_regs regs = regs_of(&box, box.vcpu);

	regs.rflags |= 0x200;
	set_regs(&box, box.vcpu, &regs);
	s.events.interrupt.injected = 1;
	s.events.interrupt.vector = 0x55;
})

/* --- run states --- */

static void run_state(uint32_t state)
{
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_LAPIC);
	section_get(&box, IMPOST_SECTION_RUNSTATE, &s);
	cr_assert_eq(s.runstate.state, IMPOST_X86_RUNNING, "the first vCPU starts by itself");
	s.runstate.state = state;
	section_set(&box, IMPOST_SECTION_RUNSTATE, &s);
	section_get(&box, IMPOST_SECTION_RUNSTATE, &t);
	cr_assert_eq(t.runstate.state, state);
	s.runstate.state = IMPOST_X86_RUNNING;
	section_set(&box, IMPOST_SECTION_RUNSTATE, &s);
	section_get(&box, IMPOST_SECTION_RUNSTATE, &t);
	cr_assert_eq(t.runstate.state, IMPOST_X86_RUNNING);
	box_close(&box);
}

#define RUN_STATE(name, state)    \
	Test(run_states, name)    \
	{                         \
		run_state(state); \
	}
RUN_STATE(wait_for_init, IMPOST_X86_WAIT_FOR_INIT)
RUN_STATE(wait_for_sipi, IMPOST_X86_WAIT_FOR_SIPI)
RUN_STATE(halted, IMPOST_X86_HALTED)

#define BAD_RUN_STATE(name, value)                                                       \
	Test(run_states, refuses_##name)                                                 \
	{                                                                                \
		static union section s;                                                  \
		struct box box;                                                          \
                                                                                         \
		box_open(&box, 1, IMPOST_IRQCHIP_LAPIC);                                 \
		section_get(&box, IMPOST_SECTION_RUNSTATE, &s);                          \
		s.runstate.state = value;                                                \
		section_refuse(&box, IMPOST_SECTION_RUNSTATE, &s, IMPOST_ESTATE, #name); \
		box_close(&box);                                                         \
	}
BAD_RUN_STATE(one_above_the_last, IMPOST_X86_STOPPED + 1)
BAD_RUN_STATE(the_highest, UINT32_MAX)

Test(run_states, others_wait_for_init)
{
	struct impost_vcpu *second;
	struct impost_x86_runstate state;
	uint32_t size;
	struct box box;

	box_open(&box, 2, IMPOST_IRQCHIP_LAPIC);
	OK(&box, impost_vcpu_create(box.vm, 1, &second));
	OK(&box, impost_vcpu_get(second, IMPOST_SECTION_RUNSTATE, &state, sizeof(state), &size));
	cr_assert_eq(state.state, IMPOST_X86_WAIT_FOR_INIT);
	OK(&box, impost_vcpu_destroy(second));
	box_close(&box);
}

/* One that is set halted does not run; one that is set running goes on where RIP is. */
Test(run_states, a_halted_vcpu_does_not_run, .timeout = 60)
{
	static union section s;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_LAPIC);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_real(&box, box.vcpu, GUEST(0xe6, 0x80, 0xf4));
	section_get(&box, IMPOST_SECTION_RUNSTATE, &s);
	s.runstate.state = IMPOST_X86_HALTED;
	section_set(&box, IMPOST_SECTION_RUNSTATE, &s);
	OK(&box, impost_vcpu_kick(box.vcpu));
	run_to(&box, box.vcpu, IMPOST_EXIT_INTR, &exit);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE);
	s.runstate.state = IMPOST_X86_RUNNING;
	section_set(&box, IMPOST_SECTION_RUNSTATE, &s);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	finish(&box, box.vcpu);
	box_close(&box);
}
