/* SPDX-License-Identifier: Apache-2.0 */
/* x87 and SSE as a kernel expects to find them. */
#include <string.h>

#include <impost/x86_64/registers.h>

/* Places in the XSAVE area (SDM vol. 1, 10.5.1 and 13.4). */
#define FCW		 0u
#define MXCSR		 24u
#define MXCSR_MASK	 28u
#define MXCSR_MASK_BYTES 4u
#define LEGACY_BYTES	 512u
#define XSTATE_BV	 512u

#define FCW_FNINIT	 0x037fu
#define MXCSR_RESET	 0x1f80u
#define X87_AND_SSE	 UINT64_C(3)

void impost_x86_setup_fpu(struct impost_x86_xsave *xsave)
{
	const uint16_t fcw = FCW_FNINIT;
	const uint32_t mxcsr = MXCSR_RESET;
	/*
	 * Components whose bit is clear are in their initial state (SDM vol. 1, 13.6); one that
	 * XCR0 lacks, as it does SSE at reset, must have it clear (13.8.1).
	 */
	const uint64_t present = X87_AND_SSE & xsave->xcr0;
	uint8_t mask[MXCSR_MASK_BYTES];

	if (xsave->area_size < LEGACY_BYTES)
		return;
	memcpy(mask, xsave->area + MXCSR_MASK, sizeof(mask));
	memset(xsave->area, 0, xsave->area_size);
	memcpy(xsave->area + FCW, &fcw, sizeof(fcw));
	memcpy(xsave->area + MXCSR, &mxcsr, sizeof(mxcsr));
	memcpy(xsave->area + MXCSR_MASK, mask, sizeof(mask));
	if (xsave->area_size >= XSTATE_BV + sizeof(present))
		memcpy(xsave->area + XSTATE_BV, &present, sizeof(present));
}
