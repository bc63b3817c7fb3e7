/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor of the layer `trace`. */
#include <impost/backend.h>

#include "trace.h"

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_LAYER,
	.name = "trace",
	.version = PLUGIN_VERSION,
	.summary = "counts calls of a backend, takes how long they last, and logs them",
	.capabilities = "those of what is below",
	.ops = &impost_trace_ops,
	.options = impost_trace_options,
	.noptions = IMPOST_TRACE_NOPTIONS,
};
