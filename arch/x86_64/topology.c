/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, dies, cores and threads, and the APIC ids that tell them apart. */
#include <ctype.h>
#include <limits.h>

#include "structure.h"
#include "topology.h"

void impost_x86_topology_flat(struct impost_x86_topology *ret_topology, uint32_t cpus)
{
	*ret_topology = (struct impost_x86_topology){
		.size = sizeof(*ret_topology),
		.sockets = 1,
		.dies = 1,
		.cores = cpus,
		.threads = 1,
	};
}

/* Bits that the numbers 0 to COUNT - 1 need. */
static uint32_t bits_for(uint32_t count)
{
	uint32_t bits = 0;

	while (((uint64_t)count - 1) >> bits)
		bits++;
	return bits;
}

struct shifts topology_shifts(const struct impost_x86_topology *topology)
{
	struct shifts shifts;

	shifts.core = bits_for(topology->threads);
	shifts.die = shifts.core + bits_for(topology->cores);
	shifts.socket = shifts.die + bits_for(topology->dies);
	return shifts;
}

int topology_check_numbers(struct impost_context *ctx, const struct impost_x86_topology *topology)
{
	uint32_t bits;
	int err;

	if (!topology)
		return impost_error_set(ctx, -EINVAL, "topology: the pointer to it is NULL");
	err = structure_check_reserved(ctx, "impost_x86_topology", topology->reserved);
	if (topology->size != sizeof(*topology))
		return impost_error_set(ctx, -EINVAL, "topology: its size is %u, not %zu",
					topology->size, sizeof(*topology));
	if (err < 0)
		return err;
	if (!topology->sockets || !topology->dies || !topology->cores || !topology->threads)
		return impost_error_set(ctx, -EINVAL,
					"topology %u:%u:%u:%u: sockets, dies, cores and threads "
					"must be 1 at least",
					topology->sockets, topology->dies, topology->cores,
					topology->threads);
	bits = topology_shifts(topology).socket + bits_for(topology->sockets);
	if (bits > IMPOST_X86_APIC_ID_BITS)
		return impost_error_set(ctx, -EINVAL,
					"topology %u:%u:%u:%u: its APIC ids would need %u bits; "
					"there are %u",
					topology->sockets, topology->dies, topology->cores,
					topology->threads, bits, IMPOST_X86_APIC_ID_BITS);
	return 0;
}

int impost_x86_topology_check(struct impost_context *ctx,
			      const struct impost_x86_topology *topology, uint32_t cpus)
{
	int err = topology_check_numbers(ctx, topology);
	uint32_t product;

	if (err < 0)
		return err;
	product = topology->sockets * topology->dies * topology->cores * topology->threads;
	if (product != cpus)
		return impost_error_set(ctx, -EINVAL,
					"topology %u:%u:%u:%u makes %u CPUs, but there are %u",
					topology->sockets, topology->dies, topology->cores,
					topology->threads, product, cpus);
	return 0;
}

/* Reads a decimal number at *TEXT that fits, and moves on. */
static int number(const char **text, uint32_t *ret_number)
{
	uint64_t value = 0;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	for (; isdigit((unsigned char)**text); (*text)++) {
		value = value * 10 + (uint64_t)(**text - '0');
		if (value > UINT32_MAX)
			return -EINVAL;
	}
	*ret_number = (uint32_t)value;
	return 0;
}

int impost_x86_topology_parse(struct impost_context *ctx, const char *text,
			      struct impost_x86_topology *ret_topology)
{
	struct impost_x86_topology topology = {.size = sizeof(topology)};
	uint32_t *const part[] = {&topology.sockets, &topology.dies, &topology.cores,
				  &topology.threads};
	const char *at = text;
	int err = 0;

	if (!text || !ret_topology)
		return impost_error_set(ctx, -EINVAL, "topology: the text or its result is NULL");
	for (size_t i = 0; err == 0 && i < sizeof(part) / sizeof(part[0]); i++) {
		if (i && *at++ != ':')
			err = -EINVAL;
		else
			err = number(&at, part[i]);
	}
	if (err < 0 || *at)
		return impost_error_set(ctx, -EINVAL,
					"topology \"%s\": write SOCKETS:DIES:CORES:THREADS, such "
					"as 1:1:4:2",
					text);
	err = topology_check_numbers(ctx, &topology);
	if (err == 0)
		*ret_topology = topology;
	return err;
}

uint32_t impost_x86_apic_id(const struct impost_x86_topology *topology, uint32_t index)
{
	struct shifts shifts = topology_shifts(topology);
	uint32_t core = index / topology->threads;
	uint32_t die = core / topology->cores;
	uint32_t socket = die / topology->dies;

	return socket << shifts.socket | die % topology->dies << shifts.die |
	       core % topology->cores << shifts.core | index % topology->threads;
}
