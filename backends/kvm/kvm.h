/* SPDX-License-Identifier: Apache-2.0 */
/* What the kvm plugin's descriptor is made of; all that the rest of the tree sees of this backend.
 */
#ifndef IMPOST_BACKENDS_KVM_H
#define IMPOST_BACKENDS_KVM_H

#include <impost/backend.h>

extern const struct impost_backend_ops impost_kvm_ops;
#define IMPOST_KVM_NOPTIONS 5u /* a const descriptor needs a number, and not a variable */
extern const struct impost_option_desc impost_kvm_options[IMPOST_KVM_NOPTIONS];

#endif
