/* SPDX-License-Identifier: Apache-2.0 */
/* The kvm backend's plugin descriptor. */
#include <impost/backend.h>

#include "kvm.h"

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_BACKEND,
	.name = "kvm",
	.version = PLUGIN_VERSION,
	.summary = "Linux KVM through /dev/kvm",
	.capabilities =
		"executes guests; in-kernel, split or no interrupt controllers; irqfd, ioeventfd; dirty log",
	.ops = &impost_kvm_ops,
	.options = impost_kvm_options,
	.noptions = IMPOST_KVM_NOPTIONS,
};
