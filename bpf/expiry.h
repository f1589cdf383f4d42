/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Expiry without a daemon. As long as it looks after the tables (pm_settings.swept), packets leave that to it;
 * when it has been silent for a while, whoever comes to start a connection looks at some lines first. So
 * counts fall and thresholds open again, also where nothing can be scheduled because they are reached.
 */
#pragma once

#include "room.h"

/* Lines for each tick since this CPU's last look, some 20 us of work in 8 ms; and at most, 0.3 ms. */
#define PM_SWEEP_LINES 2048u
#define PM_SWEEP_TICKS 16u
/* A line that has been claimed for so long belongs to nobody: writing one takes nanoseconds. */
#define PM_CLAIM_TICKS 7152u /* 60 s */

struct pm_expiring {
	__u32 first;
	__u32 now;
	__u32 level; /* all lines in use stand in it */
	__u32 gone; /* connections of removed real servers end too (sysctl expire_nodest_conn) */
};

pm_inline long pm_expire_line(int family, __u32 i, const struct pm_expiring *x)
{
	__u32 index = (x->first + i) & (pm_level_mask(family, x->level) * PM_WAYS + PM_WAYS - 1);
	struct pm_conn *c = pm_line(family, index);
	struct pm_real *real;
	__u64 head;

	if (!c)
		return 1;
	head = pm_head(c);
	if (pm_is_live(head)) {
		real = x->gone ? pm_reals(pm_glance(pm_after(c, head)->real)) : PM_NULL;
		if ((pm_over(family, c, index, head, x->now) || (real && real->slot == PM_SLOT_GONE)) &&
		    pm_end_over(family, c, index, head))
			pm_tally(PM_EXPIRED_BY_PACKET);
	} else if (pm_status(head) == PM_CONN_CLAIMED && pm_past(x->now, pm_until(head) + PM_CLAIM_TICKS)) {
		pm_free(c, head);
	}
	return 0;
}

static long pm_expire_line4(__u32 i, void *arg)
{
	return pm_expire_line(4, i, arg);
}

static long pm_expire_line6(__u32 i, void *arg)
{
	return pm_expire_line(6, i, arg);
}

PM_PART int pm_expire_some(__u32 now)
{
	struct pm_cpu_state *mine = pm_cpus(pm_cpu());
	struct pm_settings *set = pm_settings(0);
	struct pm_expiring x = { .now = now };
	__u32 ticks, lines;

	if (!mine || !set)
		return 0;
	ticks = now - mine->swept;
	if (!ticks)
		return 0;
	mine->swept = now;
	x.gone = set->flags & PM_SETTING_EXPIRE_NODEST;
	lines = (ticks < PM_SWEEP_TICKS ? ticks : PM_SWEEP_TICKS) * PM_SWEEP_LINES;
	if (set->flags & PM_SETTING_V4) {
		x.first = mine->sweep4;
		x.level = pm_largest_level(4, set);
		mine->sweep4 += lines;
		pm_loop(lines, pm_expire_line4, &x);
	}
	if (set->flags & PM_SETTING_V6) {
		x.first = mine->sweep6;
		x.level = pm_largest_level(6, set);
		mine->sweep6 += lines;
		pm_loop(lines, pm_expire_line6, &x);
	}
	return 1;
}

pm_inline void pm_expire(const struct pm_settings *set, __u32 now)
{
	if (pm_unlikely(!pm_daemon_is_there(set, now)))
		pm_expire_some(now);
}
