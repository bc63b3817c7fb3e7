/* SPDX-License-Identifier: Apache-2.0 */
/* AML: resource templates and their descriptors (ACPI 6.5, 6.4). */
#include "aml_encoder.h"
#include "structure.h"

#include <inttypes.h>
#include <string.h>

#define BUFFER_OP 0x11u

/* First bytes of the descriptors: type, and for small ones the length (6.4.2, 6.4.3). */
enum {
	IO_PORTS = 0x47,
	MEMORY32_FIXED = 0x86,
	DWORD_ADDRESS = 0x87,
	WORD_ADDRESS = 0x88,
	INTERRUPT = 0x89,
	QWORD_ADDRESS = 0x8a,
};

#define IRQ_FLAGS \
	(IMPOST_AML_IRQ_EDGE | IMPOST_AML_IRQ_LOW | IMPOST_AML_IRQ_SHARED | IMPOST_AML_IRQ_WAKE)

/* General flags of an address space and of an interrupt. */
#define CONSUMER  1u
#define MIN_FIXED (1u << 2)
#define MAX_FIXED (1u << 3)

void impost_aml_resources(struct impost_aml *aml)
{
	if (!aml_begin(aml, AML_PACKAGE, "a resource template"))
		return;
	aml_put_byte(aml, BUFFER_OP);
	aml_open(aml, AML_RESOURCES);
}

void impost_aml_io(struct impost_aml *aml, uint16_t min, uint16_t max, uint8_t align, uint8_t count)
{
	if (!aml_begin(aml, AML_RESOURCES, "an I/O descriptor"))
		return;
	if (min > max || !count || max + count > 0x10000) {
		aml_fail(aml, -EINVAL, "%u I/O ports from 0x%x to 0x%x cannot be", count, min, max);
		return;
	}
	aml_put_byte(aml, IO_PORTS);
	aml_put_byte(aml, 1); /* decodes 16 bits */
	aml_put_number(aml, min, 2);
	aml_put_number(aml, max, 2);
	aml_put_byte(aml, align);
	aml_put_byte(aml, count);
}

void impost_aml_memory32(struct impost_aml *aml, uint32_t gpa, uint32_t bytes, int writable)
{
	if (!aml_begin(aml, AML_RESOURCES, "a memory descriptor"))
		return;
	if (!bytes || bytes - 1 > UINT32_MAX - gpa) {
		aml_fail(aml, -EINVAL, "memory of 0x%x bytes at 0x%x does not end below 4 GiB",
			 bytes, gpa);
		return;
	}
	aml_put_byte(aml, MEMORY32_FIXED);
	aml_put_number(aml, 9, 2);
	aml_put_byte(aml, writable ? 1 : 0);
	aml_put_number(aml, gpa, 4);
	aml_put_number(aml, bytes, 4);
}

void impost_aml_interrupt(struct impost_aml *aml, const uint32_t *gsis, uint32_t count,
			  uint32_t flags)
{
	if (!aml_begin(aml, AML_RESOURCES, "an interrupt descriptor"))
		return;
	if (!gsis || !count || count > UINT8_MAX || flags & ~IRQ_FLAGS) {
		aml_fail(aml, -EINVAL,
			 "%u interrupts with flags 0x%x: 1 to 255, and IMPOST_AML_IRQ_*", count,
			 flags);
		return;
	}
	aml_put_byte(aml, INTERRUPT);
	aml_put_number(aml, 2 + 4 * (uint64_t)count, 2);
	aml_put_byte(aml, flags | CONSUMER);
	aml_put_byte(aml, count);
	for (uint32_t i = 0; i < count; i++)
		aml_put_number(aml, gsis[i], 4);
}

/* What the first release knew of its struct: a caller's may be shorter or longer than ours. */
#define LEAST_WINDOW (offsetof(struct impost_aml_window, translation) + sizeof(uint64_t))

/* Is WINDOW one that a descriptor can tell? */
static const char *window_wrong(const struct impost_aml_window *window)
{
	/* Flags of memory (6.4.3.5.5), I/O (without translation) and bus numbers. */
	static const uint32_t flags[] = {0x07, 0x03, 0x00};

	if (window->bits != 16 && window->bits != 32 && window->bits != 64)
		return "bits are 16, 32 or 64";
	if (window->type > IMPOST_AML_WINDOW_BUS)
		return "the type is none of IMPOST_AML_WINDOW_*";
	if (window->type == IMPOST_AML_WINDOW_MEMORY && window->bits == 16)
		return "memory takes 32 or 64 bits";
	if (window->flags & ~flags[window->type])
		return "the flags do not go with the type";
	if (window->consumer > 1 || window->reserved)
		return "consumer is 0 or 1, and reserved is 0";
	if (window->min > window->max)
		return "it ends before it begins";
	if (window->bits < 64 && (window->max | window->translation) >> window->bits)
		return "it does not fit into the bits";
	if (window->max - window->min == UINT64_MAX)
		return "its length does not fit into 64 bits";
	if (window->bits < 64 && (window->max - window->min + 1) >> window->bits)
		return "its length does not fit into the bits";
	return NULL;
}

void impost_aml_window(struct impost_aml *aml, const struct impost_aml_window *window)
{
	uint32_t bytes;
	const char *wrong;
	int err;

	if (!aml_begin(aml, AML_RESOURCES, "an address space descriptor"))
		return;
	err = structure_check_known(NULL, "impost_aml_window", window, sizeof(*window),
				    LEAST_WINDOW);
	if (err == -E2BIG) {
		aml_fail(aml, err,
			 "an address window asks for something that this version of the library "
			 "does not know: it knows %zu bytes of it, and what follows is not 0",
			 sizeof(*window));
		return;
	}
	if (err < 0) {
		aml_fail(aml, -EINVAL, "an address window's size is %u: set it to its sizeof",
			 window ? window->size : 0);
		return;
	}
	wrong = window_wrong(window);
	if (wrong) {
		aml_fail(aml, -EINVAL, "address window 0x%" PRIx64 " to 0x%" PRIx64 ": %s",
			 window->min, window->max, wrong);
		return;
	}
	bytes = window->bits / 8;
	aml_put_byte(aml, bytes == 2 ? WORD_ADDRESS : bytes == 4 ? DWORD_ADDRESS : QWORD_ADDRESS);
	aml_put_number(aml, 3 + 5 * (uint64_t)bytes, 2);
	aml_put_byte(aml, window->type);
	aml_put_byte(aml, MIN_FIXED | MAX_FIXED | (window->consumer ? CONSUMER : 0));
	aml_put_byte(aml, window->flags);
	aml_put_number(aml, 0, bytes); /* granularity: a fixed place has none */
	aml_put_number(aml, window->min, bytes);
	aml_put_number(aml, window->max, bytes);
	aml_put_number(aml, window->translation, bytes);
	aml_put_number(aml, window->max - window->min + 1, bytes);
}
