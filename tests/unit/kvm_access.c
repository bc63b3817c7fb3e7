/* SPDX-License-Identifier: Apache-2.0 */
/* What is advised to users whom the KVM device's mode keeps out, for each kind of mode and group.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "access.h"

static const struct {
	struct kvm_access access;
	const char *advice;
} rows[] = {
	/* The group can open it: join it. */
	{{.mode = S_IFCHR | 0660, .gid = 104, .group = "kvm"},
	 "it belongs to the group kvm: as root, add yourself with 'usermod -aG kvm USER'"},
	{{.mode = S_IFCHR | 0660, .gid = 36, .group = "vms"}, "usermod -aG vms USER"},
	{{.mode = S_IFCHR | 0660, .gid = 104, .group = "kvm", .listed = true},
	 "which you are in, but not this process: log in again"},
	/* It cannot, or is root's, or has no name: the mode and group must change. */
	{{.mode = S_IFCHR | 0600, .gid = 0, .group = "root"},
	 "its mode 0600 and group root (0) keep you out: as root, 'groupadd -f -r kvm && chgrp kvm "
	 "/dev/kvm && chmod 660 /dev/kvm'"},
	{{.mode = S_IFCHR | 0660, .gid = 0, .group = "root"}, "chgrp kvm /dev/kvm"},
	{{.mode = S_IFCHR | 0600, .gid = 104, .group = "kvm"}, "chmod 660 /dev/kvm"},
	{{.mode = S_IFCHR | 0640, .gid = 104, .group = "kvm"}, "chmod 660 /dev/kvm"},
	{{.mode = S_IFCHR | 0620, .gid = 104, .group = "kvm"}, "chmod 660 /dev/kvm"},
	{{.mode = S_IFCHR | 0600, .gid = 104, .group = "kvm", .member = true, .listed = true},
	 "chmod 660 /dev/kvm"},
	{{.mode = S_IFCHR | 0660, .gid = 65534}, "group without a name (65534)"},
	{{.mode = S_IFCHR | 0060, .gid = 104, .group = "kvm", .owner = true}, "chmod 660 /dev/kvm"},
	{{.mode = S_IFCHR | 0606, .gid = 104, .group = "kvm", .member = true},
	 "chmod 660 /dev/kvm"},
	/* The mode is not what refuses. */
	{{.mode = S_IFCHR | 0660, .gid = 104, .group = "kvm", .member = true, .listed = true},
	 "its mode 0660 allows it: a security module"},
	{{.mode = S_IFCHR | 0660, .gid = 0, .group = "root", .member = true},
	 "its mode 0660 allows it"},
	{{.mode = S_IFCHR | 0660, .gid = 104, .group = "kvm", .passed = true},
	 "its mode 0660 allows it"},
	{{.mode = S_IFCHR | 0666, .gid = 0, .group = "root"}, "its mode 0666 allows it"},
	{{.mode = S_IFCHR | 0600, .gid = 0, .group = "root", .owner = true},
	 "its mode 0600 allows it"},
};

Test(kvm_access, each_mode_and_group_has_its_advice)
{
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[512];

		kvm_access_advice("/dev/kvm", &rows[i].access, text, sizeof(text));
		cr_expect(strstr(text, rows[i].advice), "row %zu: \"%s\" has no \"%s\"", i, text,
			  rows[i].advice);
		cr_expect_null(strstr(text, "-aG root"), "row %zu: %s", i, text);
		/* The group kvm alone helps nobody who is not in it. */
		cr_expect(!strstr(text, "chgrp") || strstr(text, "-aG kvm USER"), "row %zu: %s", i,
			  text);
	}
}
