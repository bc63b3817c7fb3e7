/* SPDX-License-Identifier: Apache-2.0 */
/* AMX's tile data: what a guest may have only if the process has asked. */
#ifndef KVM_AMX_H
#define KVM_AMX_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Asks, once in the life of the process and only on a CPU that has AMX, that its guests may have
 * tile data (kernel, Documentation/arch/x86/xstate.rst). What KVM then supports says whether it was
 * granted. That cannot be taken back, and is state of the process.
 */
void kvm_amx_ask(void);

/* Do the COUNT ENTRIES let a guest switch tile data on? */
bool kvm_amx_granted(const struct kvm_cpuid_entry2 *entries, uint32_t count);

/* Takes AMX out of ENTRIES: its instructions are announced even where its state is not. */
void kvm_amx_hide(struct kvm_cpuid_entry2 *entries, uint32_t count);

#endif
