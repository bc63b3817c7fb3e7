/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for CPU templates: any bytes are refused with a line, or make a template that is
 * written and read to the same, and that is applied to a CPU whole or not at all.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/impost.h>

#define ROOM 64u
#define SUB  IMPOST_X86_CPUID_SUBLEAF

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Enough for each rule: features, components, limits, an extended leaf. */
static const struct impost_x86_cpuid cpu[] = {
	{0x0, 0, 0, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69, 0},
	{0x1, 0, 0, 0x611, 0x800, 0xfffa3223, 0x1f83fbff, 0},
	{0x7, 0, SUB, 1, 0xffffffff, 0xffffffff, 0xffffffff, 0},
	{0x7, 1, SUB, 0x30, 0, 0, 0, 0},
	{0xd, 0, SUB, 0x2e7, 2696, 2696, 0, 0},
	{0xd, 1, SUB, 0xf, 2440, 0, 0, 0},
	{0xd, 2, SUB, 256, 576, 0, 0, 0},
	{0xd, 5, SUB, 64, 1088, 0, 0, 0},
	{0xd, 6, SUB, 512, 1152, 0, 0, 0},
	{0xd, 7, SUB, 1024, 1664, 0, 0, 0},
	{0xd, 9, SUB, 8, 2688, 0, 0, 0},
	{0x80000000, 0, 0, 0x80000008, 0, 0, 0, 0},
	{0x80000001, 0, 0, 0, 0, 0x121, 0x2c100800, 0},
	{0x80000008, 0, 0, 0x302e, 0, 0, 0, 0},
};
#define CPU_ENTRIES (sizeof(cpu) / sizeof(cpu[0]))

static struct impost_context *ctx;

/* What must hold, or the reader is wrong. */
static void require(int condition)
{
	if (!condition)
		__builtin_trap();
}

static int gather(void *opaque, const char *text, size_t len)
{
	return fwrite(text, 1, len, opaque) == len ? 0 : -EIO;
}

static void write_and_read(const struct impost_x86_template *tmpl)
{
	struct impost_x86_template *again = NULL;
	char *text = NULL;
	size_t len = 0;
	FILE *file = open_memstream(&text, &len);

	require(file != NULL);
	require(impost_x86_template_write(tmpl, gather, file) == 0);
	require(fclose(file) == 0);
	require(impost_x86_template_load_buffer(ctx, "again", text, len, &again) == 0);
	require(impost_x86_template_compare(tmpl, again, NULL, NULL) == 0);
	impost_x86_template_free(again);
	free(text);
}

static void apply(const struct impost_x86_template *tmpl)
{
	struct impost_x86_cpuid entries[ROOM], again[ROOM];
	uint32_t count = CPU_ENTRIES, recount;
	int err;

	memset(entries, 0, sizeof(entries));
	memcpy(entries, cpu, sizeof(cpu));
	err = impost_x86_template_apply(ctx, tmpl, entries, ROOM, &count, NULL, NULL);
	require(err == 0 || err == -ENOTSUP || err == -ENOSPC);
	if (err) {
		require(*impost_error(ctx) != '\0');
		require(count == CPU_ENTRIES && memcmp(entries, cpu, sizeof(cpu)) == 0);
		return;
	}
	require(count <= ROOM);
	/* Nothing is left to do a second time. */
	memcpy(again, entries, sizeof(again));
	recount = count;
	err = impost_x86_template_apply(ctx, tmpl, again, ROOM, &recount, NULL, NULL);
	require(err == 0 || err == -ENOTSUP);
	if (err == 0)
		require(recount == count && memcmp(again, entries, count * sizeof(*again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct impost_x86_msr have = {.index = IMPOST_X86_MSR_IA32_ARCH_CAPABILITIES, .value = 0xb};
	struct impost_x86_template *tmpl = NULL;
	struct impost_x86_msr msrs[1];
	uint32_t count;
	int err;

	if (!ctx)
		require(impost_context_open(NULL, NULL, &ctx) == 0);
	err = impost_x86_template_load_buffer(ctx, "t.ini", (const char *)data, size, &tmpl);
	if (err < 0) {
		require(err == -IMPOST_ECONFIG && !tmpl);
		require(strncmp(impost_error(ctx), "t.ini:", 6) == 0);
		return 0;
	}
	write_and_read(tmpl);
	apply(tmpl);
	err = impost_x86_template_msrs(ctx, tmpl, &have, 1, msrs, 1, &count, NULL, NULL);
	require(err == -ENOTSUP || (err == 0 && count <= 1));
	impost_x86_template_free(tmpl);
	return 0;
}
