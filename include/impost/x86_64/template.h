/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU templates: which CPUID bits and MSRs a guest sees, in an INI, so that a guest can move among
 * hosts. impost-cpu-template(5) has the language and its rules. What a host offers is written in
 * the same language, every register whole: a dump is a template, and one that gives that CPU.
 *
 * A template never changes after it was made: any thread may use it, several at once. Texts of
 * errors go to the context of the call, which may be NULL.
 */
#ifndef IMPOST_X86_64_TEMPLATE_H
#define IMPOST_X86_64_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include <impost/context.h>
#include <impost/vm.h>
#include <impost/x86_64/state.h>

struct impost_x86_template;

/* Registers, of CPUID and MSRs together, that a template can name. */
#define IMPOST_X86_TEMPLATE_MAX 2048u

/* Told of each thing that cannot be had: its NAME, as the table of fields has it or by number, and
 * the REASON in words. Strings hold for the call. */
typedef void (*impost_x86_refused_fn)(void *opaque, const char *name, const char *reason);

/* Takes LEN bytes of text. Returns 0, or a negative error, which ends the writing. */
typedef int (*impost_x86_write_fn)(void *opaque, const char *text, size_t len);

/* Told of each difference: the field's name, and what A and B say of it: "set", "clear", "pass", a
 * number, or characters in quotes. Strings hold for the call. */
typedef void (*impost_x86_difference_fn)(void *opaque, const char *name, const char *a,
					 const char *b);

#ifdef __cplusplus
extern "C" {
#endif

/* --- making and freeing --- */

/*
 * Reads a template from a file, or from LEN bytes at TEXT under the NAME that error texts shall
 * use. Free it with impost_x86_template_free(). -IMPOST_ECONFIG: unknown section, key or field, a
 * bit that two lines name, a value that does not fit, a field that is computed for each vCPU
 * (IMPOST_X86_FIELD_MANAGED), more than IMPOST_X86_TEMPLATE_MAX registers; the text has file, line
 * and what would be right. -ENOENT, -EACCES, ...: the file cannot be read. -EFBIG: above 1 MiB.
 * -EINVAL: an argument is NULL. -ENOMEM.
 */
IMPOST_API int impost_x86_template_load_file(struct impost_context *ctx, const char *path,
					     struct impost_x86_template **ret_template);
IMPOST_API int impost_x86_template_load_buffer(struct impost_context *ctx, const char *name,
					       const char *text, size_t len,
					       struct impost_x86_template **ret_template);

/*
 * Opens the template NAME: a file, where NAME has a '/' or ends in ".ini", else one of those that
 * come with the library. "x86-64-v2" without a maker is the one for the maker that the COUNT
 * ENTRIES of CPUID name, if there is one. -ENOENT: there is none of that name; the text lists
 * those there are. Else as impost_x86_template_load_file().
 */
IMPOST_API int impost_x86_template_open(struct impost_context *ctx, const char *name,
					const struct impost_x86_cpuid *entries, uint32_t count,
					struct impost_x86_template **ret_template);

/* The name of the template number INDEX, from 0, of those that come with the library; NULL: no
 * more. Static storage. */
IMPOST_API const char *impost_x86_template_shipped(uint32_t index);

/* Its INI; NULL: there is none of that name. Static storage. */
IMPOST_API const char *impost_x86_template_shipped_text(const char *name);

/*
 * Makes the template that gives just the CPU of COUNT ENTRIES and MSR_COUNT MSRS: every register
 * whole, fields that are computed for each vCPU passed, `rest = clear`. NAME and SUMMARY are what
 * it says of itself; SUMMARY may be NULL. -EINVAL: an argument is NULL, two entries answer for one
 * question, or NAME or SUMMARY is no line of an INI; -E2BIG: more than IMPOST_X86_TEMPLATE_MAX
 * registers; -ENOMEM.
 */
IMPOST_API int impost_x86_template_from_cpu(struct impost_context *ctx, const char *name,
					    const char *summary,
					    const struct impost_x86_cpuid *entries, uint32_t count,
					    const struct impost_x86_msr *msrs, uint32_t msr_count,
					    struct impost_x86_template **ret_template);

/*
 * The same of what VM's backend offers here: the CPUID that guests can be given, and the MSRs of
 * kind IMPOST_X86_MSR_FEATURE as a vCPU with that CPUID has them. VM must have no vCPU 0 yet: it is
 * made for this and destroyed, and as some hypervisors give no id twice, VM is good for nothing
 * else afterwards. -EINVAL: an argument is NULL; else errors are those of these calls.
 */
IMPOST_API int impost_x86_template_probe(struct impost_vm *vm,
					 struct impost_x86_template **ret_template);

/*
 * The largest template that COUNT CPUS, which are dumps, can all give: a feature bit is set where
 * all have it, an inverted one where one has it, a limit is the least of theirs; numbers without
 * meaning for compatibility (family, model, brand, caches) are passed, and all else is clear.
 * Adding a CPU only clears features. NAME is what it says of itself. -EINVAL: no CPU, an argument
 * is NULL, one of them is no dump (`rest` is not clear, or it leaves feature bits open), or NAME is
 * no line of an INI; -ENOTSUP: they are not of one maker, or differ in
 * an MSR that no hypervisor lets be changed (IA32_MTRRCAP, IA32_MCG_CAP) and that all of them have;
 * -ENOMEM.
 */
IMPOST_API int impost_x86_template_baseline(struct impost_context *ctx, const char *name,
					    const struct impost_x86_template *const *cpus,
					    uint32_t count,
					    struct impost_x86_template **ret_template);

/* NULL is fine. */
IMPOST_API void impost_x86_template_free(struct impost_x86_template *tmpl);

/* --- using --- */

/* What it says of itself: `name`, or what it was loaded from; `summary`, or "". */
IMPOST_API const char *impost_x86_template_name(const struct impost_x86_template *tmpl);
IMPOST_API const char *impost_x86_template_summary(const struct impost_x86_template *tmpl);

/*
 * Applies it to what a backend offers (impost_vm_cpuid_supported()), in place, before
 * impost_x86_setup_cpuid(): *COUNT entries of which there is room for CAPACITY. Features that
 * depend on cleared ones are cleared with them, and XSAVE's components and sizes follow. -ENOTSUP:
 * another maker, or something that the backend lacks; the text has the first and how many more, and
 * REFUSED, which may be NULL, is told of each with OPAQUE. -ENOSPC: more than CAPACITY. -EINVAL: an
 * argument is NULL. -ENOMEM. On failure nothing is changed.
 */
IMPOST_API int impost_x86_template_apply(struct impost_context *ctx,
					 const struct impost_x86_template *tmpl,
					 struct impost_x86_cpuid *entries, uint32_t capacity,
					 uint32_t *count, impost_x86_refused_fn refused,
					 void *opaque);

/* The MSR number INDEX, from 0, of those that it names, in *ret_msr. -ENOENT: no more. */
IMPOST_API int impost_x86_template_msr(const struct impost_x86_template *tmpl, uint32_t index,
				       uint32_t *ret_msr);

/*
 * Computes the values of the MSRs that it names, for impost_vcpu_set_msrs(), from the HAVE_COUNT
 * values HAVE that they have on this backend; what is not among them does not exist there. MSRs
 * that have the value already are left out. -ENOTSUP and REFUSED as above; -ENOSPC: more than
 * CAPACITY, *ret_count is what is needed; -EINVAL: an argument is NULL.
 */
IMPOST_API int impost_x86_template_msrs(struct impost_context *ctx,
					const struct impost_x86_template *tmpl,
					const struct impost_x86_msr *have, uint32_t have_count,
					struct impost_x86_msr *ret_msrs, uint32_t capacity,
					uint32_t *ret_count, impost_x86_refused_fn refused,
					void *opaque);

/* --- showing --- */

/* Writes it as an INI, with the names of fields in comments. Returns what WRITE returned, if not
 * 0; -EINVAL: an argument is NULL. */
IMPOST_API int impost_x86_template_write(const struct impost_x86_template *tmpl,
					 impost_x86_write_fn write, void *opaque);

/* Tells DIFFERENCE, which may be NULL, of each field in which A and B differ, in order of leaf,
 * sub-leaf, register and bit, then of MSRs. Fields that are computed for each vCPU do not count.
 * Returns the number of differences; -EINVAL: A or B is NULL. */
IMPOST_API int impost_x86_template_compare(const struct impost_x86_template *a,
					   const struct impost_x86_template *b,
					   impost_x86_difference_fn difference, void *opaque);

#ifdef __cplusplus
}
#endif

#endif
