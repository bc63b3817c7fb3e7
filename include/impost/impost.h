/* SPDX-License-Identifier: Apache-2.0 */
/* Everything a host needs, in one include. Plugins include backend.h alone. */
#ifndef IMPOST_IMPOST_H
#define IMPOST_IMPOST_H

#include <impost/backend.h>
#include <impost/context.h>
#include <impost/device.h>
#include <impost/dirty.h>
#include <impost/error.h>
#include <impost/exit.h>
#include <impost/log.h>
#include <impost/memory.h>
#include <impost/migrate.h>
#include <impost/pages.h>
#include <impost/range.h>
#include <impost/record.h>
#include <impost/snapshot.h>
#include <impost/state.h>
#include <impost/vcpu.h>
#include <impost/version.h>
#include <impost/view.h>
#include <impost/vm.h>
#include <impost/x86_64/acpi.h>
#include <impost/x86_64/aml.h>
#include <impost/x86_64/boot.h>
#include <impost/x86_64/cpuid.h>
#include <impost/x86_64/kernel.h>
#include <impost/x86_64/layout.h>
#include <impost/x86_64/mptable.h>
#include <impost/x86_64/registers.h>
#include <impost/x86_64/smbios.h>
#include <impost/x86_64/state.h>
#include <impost/x86_64/template.h>
#include <impost/x86_64/vmgenid.h>

#endif
