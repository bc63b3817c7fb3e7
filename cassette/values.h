/* SPDX-License-Identifier: Apache-2.0 */
/* Values that are not one item: an encoder writes them itself, between open and close. */
#ifndef CASSETTE_VALUES_H
#define CASSETTE_VALUES_H

#include "item.h"

/* Begins the value NAME, which is what is written to the writer until cassette_values_close(). */
struct item_writer cassette_values_open(struct cassette_values *values, const char *name);
void cassette_values_close(struct cassette_values *values, const struct item_writer *writer);

/* Arrays of arrays: [leaf, subleaf, flags, eax, ebx, ecx, edx] and [index, value]. */
void cassette_item_put_cpuid(struct item_writer *writer, const struct impost_x86_cpuid *entries,
			     uint32_t count);
void cassette_item_put_msrs(struct item_writer *writer, const struct impost_x86_msr *msrs,
			    uint32_t count);
/* One of them, taken back. */
bool cassette_item_take_cpuid(struct item_reader *reader, struct impost_x86_cpuid *ret_entry);
bool cassette_item_take_msr(struct item_reader *reader, struct impost_x86_msr *ret_msr);

#endif
