/* SPDX-License-Identifier: Apache-2.0 */
/* The table of impost_api(): every function, at the place that api.def gives it. */
#include <criterion/criterion.h>
#include <string.h>

#include <impost/api.h>

typedef void (*function)(void);

/* A place in the table, as api.def has it, and what is to be there. */
static const struct place {
	const char *name;
	size_t offset;
	function function;
} places[] = {
#define IMPOST_API_FUNCTION(name) \
	{#name, offsetof(struct impost_api, name), (function)impost_##name},
#include "api.def"
#undef IMPOST_API_FUNCTION
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(api, has_every_function_where_it_was_adopted)
{
	const struct impost_api *api = impost_api(IMPOST_API_VERSION);
	size_t next = 2 * sizeof(uint32_t);
	function found;

	cr_assert_not_null(api);
	cr_expect_eq(api->number, IMPOST_API_VERSION);
	for (size_t i = 0; i < COUNT(places); i++, next += sizeof(found)) {
		memcpy(&found, (const char *)api + places[i].offset, sizeof(found));
		cr_expect_eq(places[i].offset, next, "%s is at %zu, and number %zu in api.def",
			     places[i].name, places[i].offset, i);
		cr_expect_eq(found, places[i].function, "%s leads elsewhere", places[i].name);
	}
	cr_expect_eq(api->size, next);
	cr_expect_eq(sizeof(*api), next);
}

Test(api, other_versions_are_none)
{
	cr_expect_null(impost_api(0));
	cr_expect_null(impost_api(IMPOST_API_VERSION + 1));
	cr_expect_null(impost_api(UINT32_MAX));
}

Test(api, what_an_older_library_lacks_is_found_out)
{
	struct impost_api older = *impost_api(IMPOST_API_VERSION);

	cr_expect(IMPOST_API_HAS(&older, context_open));
	cr_expect(IMPOST_API_HAS(&older, x86_boot));
	older.size = offsetof(struct impost_api, x86_boot) + sizeof(older.x86_boot) - 1;
	cr_expect_not(IMPOST_API_HAS(&older, x86_boot));
	cr_expect(IMPOST_API_HAS(&older, context_open));
}

Test(api, calls_work)
{
	const struct impost_api *api = impost_api(IMPOST_API_VERSION);
	struct impost_context *ctx;

	cr_assert_eq(api->context_open(NULL, NULL, &ctx), 0);
	cr_expect_eq(api->context_set(ctx, "vm", "cpus", "3"), 0);
	cr_expect_str_eq(api->context_get(ctx, "vm", "cpus"), "3");
	cr_expect_eq(api->error_set(ctx, -EIO, "number %d", 7), -EIO);
	cr_expect_str_eq(api->error(ctx), "number 7");
	cr_expect_eq(api->context_close(ctx), 0);
}
