/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context: configuration, log, error texts, and the plugins that were found. A host opens one,
 * loads an INI if it has one, and makes VMs from it. Several contexts in one process do not disturb
 * each other.
 */
#ifndef IMPOST_CONTEXT_H
#define IMPOST_CONTEXT_H

#include <stddef.h>

#include <impost/backend.h>
#include <impost/error.h>
#include <impost/log.h>

struct impost_context;

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Opens a context. LOG may be NULL: nothing is logged. LOG gets lines of severity `[impost] log`
 * and above (default: warn). Free with impost_context_close(). -ENOMEM; -EINVAL: ret_ctx is NULL,
 * or the kernel is older than 4.14 and cannot tell a fork from its parent (madvise(2),
 * MADV_WIPEONFORK).
 */
IMPOST_API int impost_context_open(impost_log_fn log, void *opaque,
				   struct impost_context **ret_ctx);

/*
 * Closes CTX, which may be NULL. No other thread may be using it. -EBUSY: VMs made from it still
 * live (nothing is done). In a fork of the process that opened it, it releases memory only,
 * whatever lives: VMs made from it must not be touched any more there.
 */
IMPOST_API int impost_context_close(struct impost_context *ctx);

/* --- configuration: impost.ini(5) --- */

/*
 * An INI here is what libinih reads. A comment begins with `;` or `#` at the start of a line, or
 * with `;` after white space. `key = value` may be `key: value`. A line has 198 bytes at the most,
 * comments aside; only the value of `[boot] cmdline` may go on in further lines, which begin with
 * white space and are joined with one space each. A section may stand twice, a key in it may not.
 * The section of a backend, chosen or not, is checked against what its plugin describes, so the
 * plugin must be there, in `[impost] plugin_dir` as it is set or as this INI has it.
 */

/*
 * Reads an INI from a file, or from LEN bytes at TEXT under the NAME that error texts shall use.
 * Before the first VM or plugin look-up; at most once a context: -EBUSY. Nothing of a refused INI
 * stays. -IMPOST_ECONFIG: unknown section or key, doubled key, bad value, line too long, NUL byte;
 * the text has file, line and what would be right. -ENOENT, -EACCES, ...: the file cannot be read.
 * -EFBIG: above 1 MiB; -EINVAL: an argument is NULL. Relative paths in a file are taken from the
 * file's folder; in a buffer, from the current one.
 */
IMPOST_API int impost_context_load_file(struct impost_context *ctx, const char *path);
IMPOST_API int impost_context_load_buffer(struct impost_context *ctx, const char *name,
					  const char *text, size_t len);

/*
 * Sets KEY in SECTION ("impost", "vm", "cpu", "boot", "backend.kvm") as a command line does: it
 * beats the INI, whether loaded before or after. Relative paths are taken from the current folder.
 * A backend's keys need its plugin to be found: set plugin_dir, or load the INI that has it, first.
 * -IMPOST_ECONFIG as above, for plugin_dir also when the plugins there do not take what backends
 * have been given; -EINVAL: an argument is NULL; -EBUSY: plugin_dir after the first VM or
 * plugin look-up.
 */
IMPOST_API int impost_context_set(struct impost_context *ctx, const char *section, const char *key,
				  const char *value);

/*
 * The value of KEY in SECTION: what was set, else what the INI says, else the default; NULL if
 * there is none of these, or no such key. Paths are joined with their base. Owned by CTX; valid
 * until it is set again.
 */
IMPOST_API const char *impost_context_get(struct impost_context *ctx, const char *section,
					  const char *key);

/*
 * The same as a number: of a key that is one, or a size, where 1K is 1024. -ENOENT: there is no
 * value; -EINVAL: it is no number, or not below 2^64.
 */
IMPOST_API int impost_context_get_number(struct impost_context *ctx, const char *section,
					 const char *key, uint64_t *ret_number);

/* --- plugins --- */

/*
 * Where plugins come from: the backends that were compiled in, then the folders of `[impost]
 * plugin_dir` in order, NAME.so in each; the first of a name counts. Folder and file must belong to
 * root or to the user, and nobody else may be able to write them; a file is no symbolic link. They
 * are loaded with libltdl, under one lock of this library: a host that uses libltdl itself must not
 * do so at the same time. A plugin once loaded stays in memory. In a fork of the process that
 * opened the context, calls that look for plugins return -IMPOST_EFORKED.
 */

/* A plugin file that was found, usable or not. Strings are CTX's and live as long. */
struct impost_plugin_info {
	uint32_t size;	/* set by the caller to sizeof(struct impost_plugin_info) */
	uint32_t kind;	/* IMPOST_PLUGIN_*; 0 when the file could not be read */
	int32_t status; /* 0: usable; else a negative error */
	uint16_t abi_major;
	uint16_t abi_minor;
	const char *file; /* absolute path, or "builtin" */
	const char *name;
	const char *version;
	const char *summary;
	const char *capabilities;
	const char *reason; /* why it is not usable; "" if it is */
};

/*
 * Tells of the plugin number INDEX (from 0, sorted by name) in the configured folders. The first
 * call looks; later ones remember. -ENOENT: no more; -EACCES, -ENOENT with a text: a configured
 * folder cannot be used. Not to be called by two threads at once on one context.
 */
IMPOST_API int impost_plugin_info(struct impost_context *ctx, uint32_t index,
				  struct impost_plugin_info *ret_info);

/*
 * Opens backend NAME to see whether it can run here, and closes it again. On success RET_CAPS,
 * whose `size` the caller has set, says what it can do. Else a negative error, and impost_error()
 * is a sentence with the reason and what to do. -IMPOST_EPLUGIN: no usable plugin of that name;
 * others: see open in backend.h.
 */
IMPOST_API int impost_backend_probe(struct impost_context *ctx, const char *name,
				    struct impost_caps *ret_caps);

/* The name and meaning of a capability, from caps.def; NULL for an unknown one. Any thread. */
IMPOST_API const char *impost_cap_name(uint32_t cap);
IMPOST_API const char *impost_cap_meaning(uint32_t cap);

#ifdef __cplusplus
}
#endif

#endif
