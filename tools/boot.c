// SPDX-License-Identifier: Apache-2.0
/* The images that a guest is booted from: found, opened, and put where the guest starts. */
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tables.h"

/* Opens the file that `[boot] KEY` names. WHAT is for messages. */
static int open_image(const struct invocation *invocation, const char *key, const char *what,
		      int *ret_fd)
{
	const char *path = impost_context_get(invocation->ctx, "boot", key);
	struct stat st;
	int fd;

	if (!path || !*path)
		return 0;
	/* O_NONBLOCK: a FIFO with no writer must not hold us up. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		complain("cannot open the %s %s: %s", what, path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return STATUS_HOST;
	}
	if (!S_ISREG(st.st_mode)) {
		complain("the %s %s is %s: give the image's file", what, path,
			 S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
		close(fd);
		return STATUS_HOST;
	}
	*ret_fd = fd;
	return STATUS_OK;
}

/* Options for flat binaries alone mean nothing for a kernel that is entered otherwise. */
static int check_flat(const struct invocation *invocation)
{
	const char *protocol = impost_context_get(invocation->ctx, "boot", "protocol");
	const char *option = invocation_has(invocation, OPTION_FLAT_MODE)      ? "--flat-mode"
			     : invocation_has(invocation, OPTION_FLAT_ADDRESS) ? "--flat-address"
									       : NULL;

	if (!option || strcmp(protocol, "flat") == 0)
		return STATUS_OK;
	complain("%s is for flat binaries, and the protocol is %s: give --boot flat too, or leave "
		 "it out",
		 option, protocol);
	return STATUS_USAGE;
}

int boot_open(const struct invocation *invocation, struct boot_images *images)
{
	int status;

	*images = (struct boot_images){-1, -1};
	status = check_flat(invocation);
	if (status == STATUS_OK)
		status = open_image(invocation, "kernel", "kernel", &images->kernel);
	if (status != STATUS_OK)
		return status;
	if (images->kernel < 0) {
		complain(
			"no kernel: name one with --kernel FILE, or with kernel = FILE in [boot] of the INI");
		return STATUS_USAGE;
	}
	return open_image(invocation, "initrd", "initrd", &images->initrd);
}

void boot_close(struct boot_images *images)
{
	if (images->kernel >= 0)
		close(images->kernel);
	if (images->initrd >= 0)
		close(images->initrd);
	*images = (struct boot_images){-1, -1};
}

int boot_guest(struct machine *machine, const struct boot_images *images)
{
	struct impost_x86_boot_config config;
	struct impost_x86_acpi_config acpi;
	struct impost_vcpu **vcpus;
	int err;

	err = impost_x86_add_ram(impost_vm_memory(machine->vm),
				 impost_vm_config(machine->vm)->memory);
	if (err < 0)
		return err;
	impost_x86_boot_config_init(machine->ctx, &config);
	config.kernel_fd = images->kernel;
	config.initrd_fd = images->initrd;
	tables_describe(machine->vm, &acpi);
	config.acpi = &acpi;
	vcpus = calloc(machine->ncpus, sizeof(struct impost_vcpu *));
	if (!vcpus)
		return impost_error_set(machine->ctx, -ENOMEM, "no memory for a list of vCPUs");
	for (uint32_t i = 0; i < machine->ncpus; i++)
		vcpus[i] = machine->cpus[i].vcpu;
	err = impost_x86_boot(machine->vm, vcpus, machine->ncpus, &config, NULL);
	free(vcpus);
	return err;
}
