/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What another CPU does at a moment of a packet: before its first step in memory that others see, its second, ... */
#pragma once

static unsigned step, moment;
static void (*other_cpu)(void); /* at `moment`; NULL: this one is alone */

static void any_cpu(void)
{
	void (*once)(void) = other_cpu;

	if (!once || step++ != moment)
		return;
	other_cpu = NULL;
	once();
	other_cpu = once;
}

#define PM_STEP() any_cpu()
