/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor of the layer `fault`. */
#include <impost/backend.h>

#include "fault.h"

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_LAYER,
	.name = "fault",
	.version = PLUGIN_VERSION,
	.summary = "fails and delays calls of a backend, as rules say",
	.capabilities = "those of what is below",
	.ops = &impost_fault_ops,
	.options = impost_fault_options,
	.noptions = IMPOST_FAULT_NOPTIONS,
};
