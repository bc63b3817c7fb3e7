/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration as the core sees it. */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include <impost/backend.h>

struct plugin;
struct impost_context;

/* A key with its value. */
struct entry {
	struct entry *next;
	char *section;
	char *key;   /* NULL: the section stands there, with or without keys */
	char *value; /* as it was written, with paths joined to their base */
	char *given; /* as a plugin gets it */
	char *where; /* "FILE:LINE" or "command line" */
};

struct config {
	struct entry *set; /* these beat the INI's */
	struct entry *ini;
	bool loaded;
};

#define CONFIG_BACKEND "backend."
#define CONFIG_LAYER   "layer."

/* A key of a section that is the core's own. */
struct config_key {
	const char *section;
	struct impost_option_desc desc;
	uint64_t least, most; /* of a number, of a text's length; most 0: no limit */
	uint64_t multiple;    /* of a number; 0: any */
	bool continues;	      /* the value may go on in the next line */
};

/* The core's own types of values, beyond IMPOST_OPTION_*. */
#define CONFIG_NAMES	100u /* names of backends, separated by commas */
#define CONFIG_PATHS	101u /* folders, separated by ':' */
#define CONFIG_TEMPLATE 102u /* a name, or a path: with a '/' or ending in ".ini" */
#define CONFIG_TOPOLOGY 103u /* four numbers, separated by ':' */
#define CONFIG_TEXT	104u /* printable ASCII, as long as the limits say */
#define CONFIG_NODES	105u /* the host's NUMA nodes */
#define CONFIG_LAYERS	106u /* names of layers, or NAME:VALUE, separated by commas */

/* The row of KEY in SECTION; NULL: none. */
const struct config_key *config_key(const char *section, const char *key);

/* Whether SECTION can be: a core section, or "backend." or "layer." and a
 * plugin's name. */
bool config_section_is_known(const char *section);

/* The value of KEY in SECTION; NULL: none. The context's lock is held. */
const char *config_get(struct impost_context *ctx, const char *section, const char *key);

/* A number of a key whose value config_get() gives and which has been checked. */
uint64_t config_number(struct impost_context *ctx, const char *section, const char *key);

/* A bool of such a key; one without a value is false. */
bool config_bool(struct impost_context *ctx, const char *section, const char *key);

/* The nodes in TEXT, such as "0-1,3", bit N for node N, which is below 64. False: it is none such.
 * In region_config.c. */
bool config_parse_nodes(const char *text, uint64_t *ret_nodes);

/* An error at WHERE: returns -IMPOST_ECONFIG. */
int config_error(struct impost_context *ctx, const char *where, const char *fmt, ...)
	IMPOST_PRINTF(3, 4);
int config_unknown_section(struct impost_context *ctx, const char *where, const char *section);

/*
 * Checks SECTION, KEY and TEXT, a plugin's against the plugin found in DIRS, and makes an entry of
 * them. BASE is what relative paths are taken from.
 */
int config_entry(struct impost_context *ctx, const char *dirs, const char *where, const char *base,
		 const char *section, const char *key, const char *text, struct entry **ret_entry);
void config_entries_free(struct entry *entries);

/* Whether those of ENTRIES that are plugins' are right for the plugins in DIRS too. */
int config_check_plugins(struct impost_context *ctx, const char *dirs, const struct entry *entries);

/* The entry of KEY of SECTION in ENTRIES; NULL: none. */
struct entry *config_find(struct entry *entries, const char *section, const char *key);

/* The options of PLUGIN, to be freed; the first is VALUE, given at WHERE, unless that is NULL.
 * -ENOMEM. */
int config_options(struct impost_context *ctx, const struct plugin *plugin, const char *value,
		   const char *where, struct impost_option **ret_options, uint32_t *ret_count);

/*
 * Checks TEXT, the value of an option that DESC describes. *ret_value and *ret_given, to be freed,
 * are what struct entry has of those names.
 */
int config_value(struct impost_context *ctx, const char *where, const char *base,
		 const char *section, const struct impost_option_desc *desc, const char *text,
		 char **ret_value, char **ret_given);

/* A layer that is asked for: NAME, or NAME:VALUE. */
struct layer {
	struct plugin *plugin;
	char *value, *given; /* of its first option, as in struct entry; NULL: none */
};

struct layers {
	struct layer *layer; /* the first is nearest to the host */
	uint32_t count;
	char *text;  /* as it was written, with paths joined */
	char *where; /* it was written */
};

/* layers.c: what TEXT asks for, of the plugins in DIRS. -IMPOST_ECONFIG, with WHERE in its text. */
int layers_parse(struct impost_context *ctx, const char *dirs, const char *where, const char *base,
		 const char *text, struct layers *ret_layers);
void layers_free(struct layers *layers);

/* The layers that TEXT, or if it is NULL the configuration, asks for. */
int config_layers(struct impost_context *ctx, const char *text, struct layers *ret_layers);

/* Makes `[impost] log` count. */
void config_apply_log(struct impost_context *ctx);

void config_release(struct config *config);

#endif
