/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins as the core sees them: found, judged, and opened. */
#ifndef CORE_PLUGIN_H
#define CORE_PLUGIN_H

#include <stdbool.h>

#include <impost/backend.h>
#include <impost/context.h>

/* The operations of a plugin, or of a level of an open chain. */
struct ops {
	struct impost_backend_ops backend; /* its `vm` and `vcpu` are the next two */
	struct impost_vm_ops vm;
	struct impost_vcpu_ops vcpu;
};

/* A plugin that was looked at. All tables are the core's own copies. */
struct plugin {
	struct plugin *next;
	char *file; /* absolute path, or "builtin" */
	char *name; /* what its file name says */
	char *reason;
	int status;
	void *module; /* libltdl's handle */
	uint32_t users;
	struct impost_plugin desc;
	struct impost_option_desc *options;
	struct ops ops;
};

/* The plugins of a context. */
struct registry {
	struct plugin *plugins;	 /* every one that was looked at */
	struct plugin **listing; /* for impost_plugin_info(): sorted by name */
	uint32_t listed;
	bool looked; /* a VM, a probe or a listing was made: plugin_dir stands */
};

/* An open plugin of a chain: the backend, or a layer over what is below it. */
struct level {
	struct level *below;
	struct plugin *plugin;
	void *handle;
	struct ops ops; /* a layer's without those that are missing below it */
};

/* An open backend, with the layers that were opened over it. */
struct backend {
	struct plugin *plugin; /* the backend's own */
	struct level *top;
	const struct ops *ops; /* of the top, like what follows */
	void *handle;
	struct impost_caps caps;
	struct impost_host host;
};

/* --- judge.c --- */

/* Judges DESC and fills PLUGIN's tables from it. On failure a text says why. */
int plugin_judge(struct impost_context *ctx, struct plugin *plugin,
		 const struct impost_plugin *desc);

/* Whether what CAPS claims has the operations of OPS that it needs, and the numbers make sense. */
int plugin_judge_caps(struct impost_context *ctx, const struct plugin *plugin,
		      const struct ops *ops, const struct impost_caps *caps);

/* "backend" or "layer". */
const char *plugin_kind(const struct plugin *plugin);

/* Clears those operations of OPS that BELOW has not. */
void plugin_mask(struct ops *ops, const struct ops *below);

/* Whether NAME can be a plugin's: 1 to 15 characters, a-z, 0-9, '-'. */
bool plugin_name_is_valid(const char *name, size_t len);

/* --- elf_check.c --- */

/* Whether file PATH is a shared object that can be given to the dynamic linker: all of it is there.
 * -IMPOST_EPLUGIN, or what open(2) says; a text says why. */
int elf_check(struct impost_context *ctx, const char *path);

/* --- loader.c: files --- */

/* The canonical path of plugin folder DIR, to be freed, if it may be used. */
int loader_folder(struct impost_context *ctx, const char *dir, char **ret_dir);

/* Loads PLUGIN->file and finds its descriptor. On failure a text says why. */
int loader_load(struct impost_context *ctx, struct plugin *plugin,
		const struct impost_plugin **ret_desc);

/* Whether FILE is there, of whatever kind. */
bool loader_exists(const char *file);

/* Gives MODULE back; NULL is fine. */
void loader_unload(void *module);

/* --- registry.c; the context's lock is held --- */

/*
 * Finds plugin NAME among the builtin ones and in DIRS, folders separated by ':'. -IMPOST_EPLUGIN:
 * there is none, or it is not usable; -EACCES and others: a folder cannot be used.
 */
int registry_find(struct impost_context *ctx, const char *dirs, const char *name,
		  struct plugin **ret_plugin);

/* As registry_find(), of a plugin that must be of KIND (IMPOST_PLUGIN_*). */
int registry_find_kind(struct impost_context *ctx, const char *dirs, const char *name,
		       uint32_t kind, struct plugin **ret_plugin);

/* Opens backend NAME with its configuration, and no layer. */
int registry_open(struct impost_context *ctx, const char *name, struct backend *backend);

/*
 * Opens over BACKEND what TEXT, or if it is NULL `[impost] layers`, names: the last of it first.
 * *ret_text, to be freed, is TEXT with its paths joined. On failure BACKEND is as before.
 * -IMPOST_ECONFIG: TEXT is wrong, or a layer is missing; or what a layer's open says.
 */
int registry_open_layers(struct impost_context *ctx, const char *text, struct backend *backend,
			 char **ret_text);

/* Closes BACKEND and its layers, from the top down. */
void registry_close(struct backend *backend);

/* Frees everything. -EBUSY, and nothing done: a backend is open. */
int registry_release(struct impost_context *ctx);

#endif
