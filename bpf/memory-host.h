/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the memory hosts export to their embedding; included by each once, behind its settings. */
#pragma once

#include "process.h"

/* Hands over a map's region: index in the order of PM_MAPS, `entries` zeroed or adopted records. */
PM_EXPORT void pm_map_set(__u32 index, void *base, __u32 entries)
{
	if (index >= PM_REGIONS)
		return;
	pm_regions[index].base = base;
	pm_regions[index].entries = entries;
}

/* The sizes the program reckons with: to be filled before the first frame. */
PM_EXPORT struct pm_limits *pm_limits_ptr(void)
{
	return &pm_limits;
}

/* The clock of the following frames, in ticks; the caller's thread only. */
PM_EXPORT void pm_set_now(__u32 ticks)
{
	pm_clock = ticks;
}

/* Row of the per-CPU maps that this thread writes. */
PM_EXPORT void pm_set_cpu(__u32 row)
{
	pm_row = row;
}

pm_inline void pm_run(struct pm_job *job)
{
	enum pm_verdict v;
	__u64 result;

	job->moved = 0;
	job->cut = 0;
	result = pm_process(job);
	v = (__u32)result;
	job->verdict = v;
	job->action = pm_act(v);
	if (job->action == PM_ACTION_SEND)
		job->ifindex = result >> 32;
	if (job->action != PM_ACTION_AGAIN)
		pm_tally(v);
}

/* Runs `count` frames in their order. */
PM_EXPORT void pm_run_batch(struct pm_job *jobs, __u32 count)
{
	for (__u32 i = 0; i < count; i++)
		pm_run(&jobs[i]);
}
