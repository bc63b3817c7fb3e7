/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor of the layer that writes cassettes. */
#include <impost/backend.h>

#include "layer_record.h"

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_LAYER,
	.name = "record",
	.version = PLUGIN_VERSION,
	.summary = "writes a cassette of every call, which the mock replays",
	.capabilities = "what is below, but for irqfd, ioeventfd and a dirty log in two steps",
	.ops = &record_ops,
	.options = record_options,
	.noptions = RECORD_NOPTIONS,
};
