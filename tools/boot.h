/* SPDX-License-Identifier: Apache-2.0 */
/* Booting the guest of `impost run` from the images that the configuration names. */
#ifndef TOOLS_BOOT_H
#define TOOLS_BOOT_H

#include "machine.h"
#include "tool.h"

/* Descriptors of the images; -1: none. */
struct boot_images {
	int kernel;
	int initrd;
};

/*
 * Checks what is asked for, and opens the images. Returns STATUS_OK or another status, with a
 * message printed. boot_close() follows in both cases.
 */
int boot_open(const struct invocation *invocation, struct boot_images *images);
void boot_close(struct boot_images *images);

/* Gives MACHINE its RAM and puts the images, the tables and the registers into it. Returns 0 or a
 * negative error with its text on the context. */
int boot_guest(struct machine *machine, const struct boot_images *images);

#endif
