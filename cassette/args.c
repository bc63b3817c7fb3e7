/* SPDX-License-Identifier: Apache-2.0 */
/* The arguments of each operation as named values. */
#include "values.h"

void cassette_args_vm_create(struct cassette_values *v, const struct impost_vm_args *args)
{
	cassette_put_uint(v, "max_vcpus", args->max_vcpus);
	cassette_put_uint(v, "irqchip", args->irqchip);
}

void cassette_args_vcpu_create(struct cassette_values *v, uint32_t id)
{
	cassette_put_uint(v, "id", id);
}

void cassette_args_slot(struct cassette_values *v, const struct impost_slot *slot)
{
	cassette_put_uint(v, "slot", slot->slot);
	cassette_put_uint(v, "gpa", slot->gpa);
	cassette_put_uint(v, "bytes", slot->bytes);
	cassette_put_uint(v, "flags", slot->flags);
	cassette_put_bool(v, "hva", slot->hva != NULL);
	cassette_put_bool(v, "file", slot->fd >= 0);
}

void cassette_args_mem_remove(struct cassette_values *v, uint32_t slot)
{
	cassette_put_uint(v, "slot", slot);
}

void cassette_args_io_range(struct cassette_values *v, uint32_t space, uint64_t first,
			    uint64_t last)
{
	cassette_put_uint(v, "space", space);
	cassette_put_uint(v, "first", first);
	cassette_put_uint(v, "last", last);
}

void cassette_args_irq_line(struct cassette_values *v, uint32_t gsi, uint32_t level)
{
	cassette_put_uint(v, "gsi", gsi);
	cassette_put_uint(v, "level", level);
}

void cassette_args_msi(struct cassette_values *v, uint64_t address, uint32_t data)
{
	cassette_put_uint(v, "address", address);
	cassette_put_uint(v, "data", data);
}

/* An array of COUNT numbers. */
static void put_numbers(struct item_writer *writer, const uint64_t *numbers, uint32_t count)
{
	cassette_item_put(writer, ITEM_ARRAY, count, NULL);
	for (uint32_t i = 0; i < count; i++)
		cassette_item_put(writer, ITEM_UINT, numbers[i], NULL);
}

#define PUT_NUMBERS(writer, ...)                               \
	put_numbers((writer), (const uint64_t[]){__VA_ARGS__}, \
		    (uint32_t)(sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)))

void cassette_args_gsi_routes(struct cassette_values *v, const struct impost_gsi_route *routes,
			      uint32_t count)
{
	struct item_writer writer = cassette_values_open(v, "routes");

	cassette_item_put(&writer, ITEM_ARRAY, count, NULL);
	for (const struct impost_gsi_route *r = routes; r < routes + count; r++)
		if (r->type == IMPOST_ROUTE_MSI)
			PUT_NUMBERS(&writer, r->gsi, r->type, r->msi_address, r->msi_data);
		else
			PUT_NUMBERS(&writer, r->gsi, r->type, r->pin);
	cassette_values_close(v, &writer);
}

void cassette_args_msr_exits(struct cassette_values *v, const struct impost_msr_range *ranges,
			     uint32_t count, uint32_t unknown)
{
	struct item_writer writer = cassette_values_open(v, "ranges");

	cassette_item_put(&writer, ITEM_ARRAY, count, NULL);
	for (const struct impost_msr_range *r = ranges; r < ranges + count; r++)
		PUT_NUMBERS(&writer, r->first, r->count, r->flags);
	cassette_values_close(v, &writer);
	cassette_put_uint(v, "unknown", unknown);
}

void cassette_item_put_cpuid(struct item_writer *writer, const struct impost_x86_cpuid *entries,
			     uint32_t count)
{
	cassette_item_put(writer, ITEM_ARRAY, count, NULL);
	for (const struct impost_x86_cpuid *e = entries; e < entries + count; e++)
		PUT_NUMBERS(writer, e->leaf, e->subleaf, e->flags, e->eax, e->ebx, e->ecx, e->edx);
}

void cassette_item_put_msrs(struct item_writer *writer, const struct impost_x86_msr *msrs,
			    uint32_t count)
{
	cassette_item_put(writer, ITEM_ARRAY, count, NULL);
	for (const struct impost_x86_msr *m = msrs; m < msrs + count; m++)
		PUT_NUMBERS(writer, m->index, m->value);
}

void cassette_args_cpuid(struct cassette_values *v, const struct impost_x86_cpuid *entries,
			 uint32_t count)
{
	struct item_writer writer = cassette_values_open(v, "cpuid");

	cassette_item_put_cpuid(&writer, entries, count);
	cassette_values_close(v, &writer);
}

void cassette_args_state_get(struct cassette_values *v, uint32_t section)
{
	cassette_put_uint(v, "section", section);
}

void cassette_args_state_set(struct cassette_values *v, uint32_t section, const void *buf,
			     uint32_t bytes)
{
	cassette_put_uint(v, "section", section);
	cassette_put_bytes(v, "state", buf, bytes);
}

void cassette_args_run(struct cassette_values *v, const struct impost_exit *pending)
{
	switch (pending ? pending->kind : IMPOST_EXIT_NONE) {
	case IMPOST_EXIT_IO:
		if (pending->u.io.dir == IMPOST_EXIT_READ)
			cassette_put_bytes(v, "answer", pending->u.io.data,
					   (size_t)pending->u.io.size * pending->u.io.count);
		break;
	case IMPOST_EXIT_MMIO:
		if (pending->u.mmio.dir == IMPOST_EXIT_READ)
			cassette_put_bytes(v, "answer", pending->u.mmio.data,
					   (size_t)pending->u.mmio.size * pending->u.mmio.count);
		break;
	case IMPOST_EXIT_RDMSR:
		if (!*pending->u.msr.refused)
			cassette_put_uint(v, "value", *pending->u.msr.value);
		cassette_put_bool(v, "refused", *pending->u.msr.refused);
		break;
	case IMPOST_EXIT_WRMSR:
		cassette_put_bool(v, "refused", *pending->u.msr.refused);
		break;
	case IMPOST_EXIT_HYPERCALL:
		cassette_put_uint(v, "result", *pending->u.hypercall.result);
		break;
	default:
		break;
	}
}

void cassette_args_irq_inject(struct cassette_values *v, uint32_t vector)
{
	cassette_put_uint(v, "vector", vector);
}

void cassette_args_irq_window(struct cassette_values *v, uint32_t on)
{
	cassette_put_uint(v, "on", on);
}

void cassette_args_guest_debug(struct cassette_values *v, const struct impost_guest_debug *debug)
{
	struct item_writer writer;

	cassette_put_uint(v, "flags", debug->flags);
	if (!(debug->flags & IMPOST_DEBUG_HW_BREAK))
		return;
	cassette_put_uint(v, "dr7", debug->dr7);
	writer = cassette_values_open(v, "dr");
	PUT_NUMBERS(&writer, debug->dr[0], debug->dr[1], debug->dr[2], debug->dr[3]);
	cassette_values_close(v, &writer);
}

void cassette_args_translate(struct cassette_values *v, uint64_t gva)
{
	cassette_put_uint(v, "gva", gva);
}

void cassette_args_msrs_get(struct cassette_values *v, const struct impost_x86_msr *msrs,
			    uint32_t count)
{
	struct item_writer writer = cassette_values_open(v, "msrs");

	cassette_item_put(&writer, ITEM_ARRAY, count, NULL);
	for (uint32_t i = 0; i < count; i++)
		cassette_item_put(&writer, ITEM_UINT, msrs[i].index, NULL);
	cassette_values_close(v, &writer);
}

void cassette_args_msrs_set(struct cassette_values *v, const struct impost_x86_msr *msrs,
			    uint32_t count)
{
	struct item_writer writer = cassette_values_open(v, "msrs");

	cassette_item_put_msrs(&writer, msrs, count);
	cassette_values_close(v, &writer);
}
