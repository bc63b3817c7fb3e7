/* SPDX-License-Identifier: Apache-2.0 */
/* Why a user may not open the KVM device, and what lets them: a function of its mode and group. */
#include "access.h"

#include <stdio.h>

#define READ_WRITE(mode, shift) (((mode) >> (shift)&6) == 6)

/* Whether the mode lets the process in (POSIX: only the first class that applies counts). */
static bool mode_allows(const struct kvm_access *a)
{
	if (a->passed)
		return true;
	if (a->owner)
		return READ_WRITE(a->mode, 6);
	return READ_WRITE(a->mode, a->member ? 3 : 0);
}

/* Whether being in the group helps, and is a thing to recommend: root's group never is. */
static bool group_helps(const struct kvm_access *a)
{
	return READ_WRITE(a->mode, 3) && a->gid && a->group && !a->member && !a->owner;
}

void kvm_access_advice(const char *device, const struct kvm_access *a, char *buf, size_t size)
{
	if (mode_allows(a))
		snprintf(buf, size,
			 "its mode %#o allows it: a security module, an access control list or a "
			 "container's device rules refuse it: allow %s there",
			 (unsigned)(a->mode & 0777), device);
	else if (group_helps(a) && a->listed)
		snprintf(buf, size,
			 "it belongs to the group %s, which you are in, but not this process: log "
			 "in again",
			 a->group);
	else if (group_helps(a))
		snprintf(buf, size,
			 "it belongs to the group %s: as root, add yourself with 'usermod -aG %s "
			 "USER' and log in again",
			 a->group, a->group);
	else
		snprintf(buf, size,
			 "its mode %#o and group %s (%u) keep you out: as root, 'groupadd -f -r "
			 "kvm && chgrp kvm %s && chmod 660 %s' (installing udev does this, too), "
			 "then 'usermod -aG kvm USER' and log in again",
			 (unsigned)(a->mode & 0777), a->group ? a->group : "without a name",
			 (unsigned)a->gid, device, device);
}
