/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over what is taken: a layout's places, and the area that a PC never gives to anybody. */
#include "places.h"

#include <string.h>

/* What the first release knew of it. */
#define LEAST_LAYOUT \
	(offsetof(struct impost_x86_layout, place) + sizeof(((struct impost_x86_layout *)0)->place))

int places_check(struct impost_context *ctx, const struct impost_x86_layout *layout)
{
	if (layout && (layout->size < LEAST_LAYOUT || layout->count > IMPOST_X86_PLACES_MAX))
		return impost_error_set(ctx, -EINVAL,
					"a layout of size %u with %u places: make it with "
					"impost_x86_layout_init()",
					layout->size, layout->count);
	return 0;
}

/* The first place of LAYOUT that WHICH allows and that begins at AT or behind it. */
static const struct impost_x86_place *first_at(const struct impost_x86_layout *layout,
					       enum places which, uint64_t at)
{
	for (uint32_t i = 0; layout && i < layout->count; i++) {
		const struct impost_x86_place *place = &layout->place[i];

		if (place->gpa >= at && (which == PLACES_ALL || place->type))
			return place;
	}
	return NULL;
}

int places_next(const struct impost_x86_layout *layout, enum places which, uint64_t at,
		struct range *ret_range, uint32_t *ret_type)
{
	const struct impost_x86_place *place = first_at(layout, which, at);
	uint64_t start = at > IMPOST_X86_EBDA_ADDR ? at : IMPOST_X86_EBDA_ADDR;
	uint64_t end = IMPOST_X86_HIGH_RAM;

	if (place && place->gpa < end)
		end = place->gpa;
	if (start < end) {
		*ret_range = (struct range){start, end};
		*ret_type = IMPOST_X86_E820_RESERVED;
		return 1;
	}
	if (!place)
		return 0;
	*ret_range = (struct range){place->gpa, place->gpa + place->bytes};
	*ret_type = place->type;
	return 1;
}

void places_copy(const struct impost_x86_layout *layout, struct impost_x86_layout *ret_copy)
{
	impost_x86_layout_init(ret_copy);
	if (!layout)
		return;
	ret_copy->count = layout->count;
	memcpy(ret_copy->place, layout->place, layout->count * sizeof(layout->place[0]));
}

void places_release(struct impost_x86_layout *layout, uint64_t gpa)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		struct impost_x86_place *place = &layout->place[i];

		if (place->gpa == gpa) {
			layout->count--;
			memmove(place, place + 1, (layout->count - i) * sizeof(*place));
			return;
		}
	}
}
