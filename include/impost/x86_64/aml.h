/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An encoder of AML, the byte code of ACPI's DSDT and SSDT (ACPI 6.5, chapter 20), for hosts that
 * describe devices. Terms are written in the order in which they stand in AML, operators before
 * their operands; what has a length is opened by one call and closed by impost_aml_end(), which
 * computes it:
 *
 *	impost_aml_device(aml, "COM1");
 *	impost_aml_name(aml, "_HID");
 *	impost_aml_eisaid(aml, "PNP0501");
 *	impost_aml_name(aml, "_CRS");
 *	impost_aml_resources(aml);
 *	impost_aml_io(aml, 0x3f8, 0x3f8, 1, 8);
 *	impost_aml_end(aml);
 *	impost_aml_end(aml);
 *
 * Nothing has to be checked in between: the first error stays, later calls do nothing, and
 * impost_aml_finish() returns it. The errors are:
 *
 *   -EINVAL: an argument is not what the call says, the text names it; or a term stands where it
 *	cannot: a resource descriptor outside impost_aml_resources(), a field unit outside
 *	impost_aml_field(), anything but data and names in a package.
 *   -E2BIG: as error.h has it.
 *   -ENOSPC: the caller's buffer is full; a term is longer than a PkgLength can say, 256 MiB less a
 *	byte (20.2.4); more than 255 elements in a package, or than IMPOST_AML_DEPTH_MAX levels.
 *   -ENOMEM.
 *
 * Whether operators have as many operands as they need is not checked. One thread at a time uses an
 * encoder; there is no state outside it.
 */
#ifndef IMPOST_X86_64_AML_H
#define IMPOST_X86_64_AML_H

#include <stddef.h>
#include <stdint.h>

#include <impost/error.h>
#include <impost/version.h>

struct impost_aml;

/* Terms that can be open at a time. */
#define IMPOST_AML_DEPTH_MAX 32u

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Makes an encoder that writes to the CAPACITY bytes at BUF, which stay the caller's, or, if BUF is
 * NULL, into memory of its own that grows (CAPACITY is ignored). CTX, which may be NULL, gets the
 * error text and must outlive the encoder. Free with impost_aml_destroy(). -ENOMEM; -EINVAL:
 * RET_AML is NULL.
 */
IMPOST_API int impost_aml_create(struct impost_context *ctx, void *buf, size_t capacity,
				 struct impost_aml **ret_aml);

/* Frees AML, which may be NULL, and what impost_aml_finish() gave if the memory is its own. */
IMPOST_API void impost_aml_destroy(struct impost_aml *aml);

/*
 * Returns the first error of all calls so far, with its text; -EINVAL also if a term is still open.
 * On success *ret_data is the AML, valid until the next call on AML, and *ret_bytes its length;
 * either may be NULL. Encoding can go on afterwards.
 */
IMPOST_API int impost_aml_finish(struct impost_aml *aml, const void **ret_data, size_t *ret_bytes);

/* --- data (20.2.3) --- */

/* VALUE in the shortest form: Zero, One, Ones, byte, word, dword or qword. What has more than 32
 * bits, and Ones, needs a table of revision 2 (19.3.5). */
IMPOST_API void impost_aml_integer(struct impost_aml *aml, uint64_t value);

/* VALUE as a constant of BYTES bytes, 1, 2, 4 or 8, whatever it is: for what is patched later. */
IMPOST_API void impost_aml_constant(struct impost_aml *aml, uint64_t value, uint32_t bytes);

/* TEXT in ASCII, without control characters. */
IMPOST_API void impost_aml_string(struct impost_aml *aml, const char *text);

/* A compressed EISA id such as "PNP0501": three capitals, four hexadecimal digits in capitals
 * (6.1.5, 19.6.36). */
IMPOST_API void impost_aml_eisaid(struct impost_aml *aml, const char *id);

/* ID as a hardware id: compressed if it is an EISA id, a string if not ("ACPI0013"). */
IMPOST_API void impost_aml_hid(struct impost_aml *aml, const char *id);

/* A buffer with the BYTES bytes at DATA. */
IMPOST_API void impost_aml_buffer(struct impost_aml *aml, const void *data, uint32_t bytes);

/* UUID ("33db4d5b-1ff7-401c-9657-7441c03dd766") as ToUUID makes a buffer of it (19.6.142). */
IMPOST_API void impost_aml_uuid(struct impost_aml *aml, const char *uuid);

/* Opens a package: data and names, at most 255, up to impost_aml_end(). */
IMPOST_API void impost_aml_package(struct impost_aml *aml);

/* --- names (20.2.2) --- */

/*
 * The name PATH, where a name or an operand is wanted, or as a call of the method of that name with
 * its arguments after it. A path is `\` or a number of `^`, either or neither, and up to 255
 * segments with dots between; a segment is up to four of A-Z, 0-9 and _, and begins with no digit.
 */
IMPOST_API void impost_aml_ref(struct impost_aml *aml, const char *path);

/* Name(PATH, ...): the next term is the value. */
IMPOST_API void impost_aml_name(struct impost_aml *aml, const char *path);

/* Local0 to Local7, and Arg0 to Arg6. */
IMPOST_API void impost_aml_local(struct impost_aml *aml, uint32_t number);
IMPOST_API void impost_aml_arg(struct impost_aml *aml, uint32_t number);

/* --- terms that contain others (20.2.5) --- */

IMPOST_API void impost_aml_scope(struct impost_aml *aml, const char *path);
IMPOST_API void impost_aml_device(struct impost_aml *aml, const char *path);

/* A method of ARGS arguments, at most 7; SERIALIZED (0 or 1): one thread at a time, which a method
 * that makes named objects needs. */
IMPOST_API void impost_aml_method(struct impost_aml *aml, const char *path, uint32_t args,
				  int serialized);

/* The next term is the predicate, then come the terms to be run. An else follows the
 * impost_aml_end() of its if. */
IMPOST_API void impost_aml_if(struct impost_aml *aml);
IMPOST_API void impost_aml_else(struct impost_aml *aml);
IMPOST_API void impost_aml_while(struct impost_aml *aml);

/* Closes what was opened last. */
IMPOST_API void impost_aml_end(struct impost_aml *aml);

/* --- operation regions (19.6.101, 19.6.48) --- */

#define IMPOST_AML_SYSTEM_MEMORY 0u
#define IMPOST_AML_SYSTEM_IO	 1u
#define IMPOST_AML_PCI_CONFIG	 2u

/* OperationRegion(PATH, SPACE, OFFSET, BYTES); SPACE: IMPOST_AML_SYSTEM_* or another below 0x100.
 */
IMPOST_API void impost_aml_region(struct impost_aml *aml, const char *path, uint32_t space,
				  uint64_t offset, uint64_t bytes);

/* Access widths of a field (20.2.5.2), and what else may be added to them. */
#define IMPOST_AML_ANY_ACCESS	  0u
#define IMPOST_AML_BYTE_ACCESS	  1u
#define IMPOST_AML_WORD_ACCESS	  2u
#define IMPOST_AML_DWORD_ACCESS	  3u
#define IMPOST_AML_QWORD_ACCESS	  4u
#define IMPOST_AML_FIELD_LOCK	  0x10u
#define IMPOST_AML_WRITE_AS_ONES  0x20u
#define IMPOST_AML_WRITE_AS_ZEROS 0x40u

/* Opens a field list over REGION. */
IMPOST_API void impost_aml_field(struct impost_aml *aml, const char *region, uint32_t flags);

/* The next BITS bits, below 2^28, as NAME (one segment), or skipped if NAME is NULL. */
IMPOST_API void impost_aml_field_unit(struct impost_aml *aml, const char *name, uint32_t bits);

/* --- operators (20.2.5.3, 20.2.5.4), before their operands --- */

#define IMPOST_AML_NO_TARGET	      0x00u /* for a target that is not wanted */
#define IMPOST_AML_STORE	      0x70u /* source, target */
#define IMPOST_AML_ADD		      0x72u /* a, b, target */
#define IMPOST_AML_CONCATENATE	      0x73u /* a, b, target */
#define IMPOST_AML_SUBTRACT	      0x74u /* a, b, target */
#define IMPOST_AML_INCREMENT	      0x75u /* target */
#define IMPOST_AML_DECREMENT	      0x76u /* target */
#define IMPOST_AML_MULTIPLY	      0x77u /* a, b, target */
#define IMPOST_AML_SHIFT_LEFT	      0x79u /* value, bits, target */
#define IMPOST_AML_SHIFT_RIGHT	      0x7au /* value, bits, target */
#define IMPOST_AML_AND		      0x7bu /* a, b, target */
#define IMPOST_AML_OR		      0x7du /* a, b, target */
#define IMPOST_AML_XOR		      0x7fu /* a, b, target */
#define IMPOST_AML_NOT		      0x80u /* a, target */
#define IMPOST_AML_DEREF	      0x83u /* reference */
#define IMPOST_AML_NOTIFY	      0x86u /* device, value */
#define IMPOST_AML_SIZEOF	      0x87u /* object */
#define IMPOST_AML_INDEX	      0x88u /* object, index, target */
#define IMPOST_AML_CREATE_DWORD_FIELD 0x8au /* buffer, byte offset, name */
#define IMPOST_AML_CREATE_WORD_FIELD  0x8bu /* buffer, byte offset, name */
#define IMPOST_AML_CREATE_BYTE_FIELD  0x8cu /* buffer, byte offset, name */
#define IMPOST_AML_CREATE_QWORD_FIELD 0x8fu /* buffer, byte offset, name */
#define IMPOST_AML_LOGICAL_AND	      0x90u /* a, b */
#define IMPOST_AML_LOGICAL_OR	      0x91u /* a, b */
#define IMPOST_AML_LOGICAL_NOT	      0x92u /* a */
#define IMPOST_AML_EQUAL	      0x93u /* a, b */
#define IMPOST_AML_GREATER	      0x94u /* a, b */
#define IMPOST_AML_LESS		      0x95u /* a, b */
#define IMPOST_AML_RETURN	      0xa4u /* value */
#define IMPOST_AML_BREAK	      0xa5u

/* The operator OP, one of those above. */
IMPOST_API void impost_aml_op(struct impost_aml *aml, uint32_t op);

/* --- resource templates (6.4) --- */

/* Opens a resource template, a buffer: descriptors up to impost_aml_end(), which adds the end tag
 * with its checksum. */
IMPOST_API void impost_aml_resources(struct impost_aml *aml);

/* COUNT I/O ports, decoded with 16 bits, from MIN to MAX at a multiple of ALIGN (6.4.2.5). */
IMPOST_API void impost_aml_io(struct impost_aml *aml, uint16_t min, uint16_t max, uint8_t align,
			      uint8_t count);

/* Memory at a fixed place below 4 GiB (6.4.3.4); WRITABLE is 0 or 1. */
IMPOST_API void impost_aml_memory32(struct impost_aml *aml, uint32_t gpa, uint32_t bytes,
				    int writable);

/* How an interrupt is signalled (6.4.3.6): level-triggered, active high and exclusive if none of
 * these is set. */
#define IMPOST_AML_IRQ_EDGE   0x02u
#define IMPOST_AML_IRQ_LOW    0x04u /* active low */
#define IMPOST_AML_IRQ_SHARED 0x08u
#define IMPOST_AML_IRQ_WAKE   0x10u /* can wake the machine */

/* COUNT interrupts, 1 to 255, by GSI: an extended interrupt descriptor. */
IMPOST_API void impost_aml_interrupt(struct impost_aml *aml, const uint32_t *gsis, uint32_t count,
				     uint32_t flags);

#define IMPOST_AML_WINDOW_MEMORY 0u
#define IMPOST_AML_WINDOW_IO	 1u
#define IMPOST_AML_WINDOW_BUS	 2u

/* Type-specific flags (6.4.3.5.5). */
#define IMPOST_AML_MEMORY_WRITABLE     1u
#define IMPOST_AML_MEMORY_CACHEABLE    2u
#define IMPOST_AML_MEMORY_PREFETCHABLE 6u
#define IMPOST_AML_IO_ENTIRE	       3u /* ISA and non-ISA ports */

/* A range of addresses at a fixed place (6.4.3.5). */
struct impost_aml_window {
	uint32_t size;	      /* set by the caller to sizeof(struct impost_aml_window) */
	uint32_t bits;	      /* 16, 32 or 64: which descriptor */
	uint32_t type;	      /* IMPOST_AML_WINDOW_* */
	uint32_t flags;	      /* IMPOST_AML_MEMORY_*, IMPOST_AML_IO_*, as TYPE has it */
	uint32_t consumer;    /* 0: handed on to devices behind a bridge; 1: used by the device */
	uint32_t reserved;    /* 0 */
	uint64_t min, max;    /* the first and last address */
	uint64_t translation; /* added to an address to get the one on the other side */
};
IMPOST_API void impost_aml_window(struct impost_aml *aml, const struct impost_aml_window *window);

/* --- what is encoded already --- */

/* BYTES bytes at DATA as they are: terms from another encoder. They are not looked into. */
IMPOST_API void impost_aml_terms(struct impost_aml *aml, const void *data, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
