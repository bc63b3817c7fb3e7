/* SPDX-License-Identifier: Apache-2.0 */
/* Why a user may not open the KVM device, and what lets them. */
#ifndef KVM_ACCESS_H
#define KVM_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* Who asks, seen from the device's group. */
struct kvm_access {
	mode_t mode;
	gid_t gid;
	const char *group; /* name of gid; NULL if it has none */
	bool passed;	   /* whatever refused came behind the mode */
	bool owner;	   /* the process is the device's owner */
	bool member;	   /* the process is in the group */
	bool listed;	   /* the group's list has the user */
};

/* Writes why DEVICE cannot be opened and the remedy to BUF. */
void kvm_access_advice(const char *device, const struct kvm_access *a, char *buf, size_t size);

#endif
