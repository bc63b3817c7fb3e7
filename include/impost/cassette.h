/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface of the layer `record`, which writes a cassette: what the VM was asked and what it
 * said. Got with impost_vm_extension(vm, IMPOST_CASSETTE, ...). The mock replays cassettes; see
 * docs/cassette-format.md.
 */
#ifndef IMPOST_CASSETTE_H
#define IMPOST_CASSETTE_H

#include <stdint.h>

#define IMPOST_CASSETTE "impost.cassette/1"

/* Functions take the handle that came with the table. Any thread. 0 or a negative errno value. */
struct impost_cassette {
	uint32_t size;
	uint32_t reserved;

	/*
	 * Notes what the host's machine is: VALUE of KEY in SECTION of its configuration, so that a
	 * host that replays can make the same one. Copied. -EBUSY: the guest has run; -EINVAL: a
	 * name of more than 63 bytes, a value of more than 4095, or control characters; else what
	 * writing to the file gave.
	 */
	int32_t (*host)(void *handle, const char *section, const char *key, const char *value);
};

#endif
