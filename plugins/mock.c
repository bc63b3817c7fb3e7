/* SPDX-License-Identifier: Apache-2.0 */
/* The mock backend's plugin descriptor. */
#include <impost/backend.h>

#include "mock.h"

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_BACKEND,
	.name = "mock",
	.version = PLUGIN_VERSION,
	.summary =
		"no hypervisor: plays exits from a script, and refuses what hardware would refuse",
	.capabilities = "plays guests; any interrupt controllers; irqfd, ioeventfd; dirty log",
	.ops = &impost_mock_ops,
	.options = impost_mock_options,
	.noptions = IMPOST_MOCK_NOPTIONS,
};
