/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Walks over a service's members, in IPVS's list order: the first that will do, the least loaded. */
#pragma once

#include "room.h"

/* A walk over a schedule: what pm_loop carries along. */
struct pm_walk {
	__u32 first; /* in members */
	__u32 count;
	__u32 start; /* position of the first look */
	__u32 kind;  /* enum pm_scheduler */
	__s32 floor; /* wrr: smallest weight that is good enough */
	__u32 found; /* position, PM_NONE */
	__u32 real;
	__s32 best_weight;
	__u64 best_load;
	__s32 heaviest; /* wrr: largest usable weight met */
};

/*
 * A count that others move. A connection ends on one CPU before another has counted what it became: for
 * nanoseconds a count may be below zero, and must not look like four thousand million.
 */
pm_inline __u32 pm_counted(const __u32 *count)
{
	__u32 n = pm_read(*count);

	return (__s32)n < 0 ? 0 : n;
}

/* IPVS: 256 * active + total; the two compare connections that do something with idle ones. */
pm_inline __u64 pm_load(const struct pm_live *live)
{
	return 257ull * pm_counted(&live->active) + pm_counted(&live->inactive);
}

/* The first usable member, for rr and wrr. */
static long pm_walk_first(__u32 i, void *arg)
{
	struct pm_walk *w = arg;
	__u32 at = w->start + i;
	struct pm_member *m;
	struct pm_live *live;
	__s32 weight;

	if (at >= w->count)
		at -= w->count;
	m = pm_members(w->first + at);
	if (!m)
		return 1;
	live = pm_live(m->real);
	if (!live)
		return 1;
	weight = m->weight;
	if (weight <= 0 || pm_read(live->overloaded))
		return 0;
	if (weight > w->heaviest)
		w->heaviest = weight;
	if (weight < w->floor)
		return 0;
	w->found = at;
	w->real = m->real;
	return 1;
}

/* The least loaded member, for the schedulers that count connections. Ties keep the earlier one. */
static long pm_walk_least(__u32 i, void *arg)
{
	struct pm_walk *w = arg;
	struct pm_member *m = pm_members(w->first + i);
	struct pm_live *live;
	__s32 weight;
	__u64 load;
	int better;

	if (!m)
		return 1;
	live = pm_live(m->real);
	if (!live)
		return 1;
	weight = m->weight;
	if (weight <= 0 || pm_read(live->overloaded))
		return 0;
	switch (w->kind) {
	case PM_SCHEDULER_LC:
		load = pm_load(live);
		better = load < w->best_load;
		break;
	case PM_SCHEDULER_WLC:
		load = pm_load(live);
		better = w->best_load * weight > load * w->best_weight;
		break;
	case PM_SCHEDULER_NQ:
		if (!pm_counted(&live->active)) {
			w->found = i;
			w->real = m->real;
			return 1;
		}
		load = pm_counted(&live->active) + 1;
		better = w->best_load * weight > load * w->best_weight;
		break;
	case PM_SCHEDULER_SED:
		load = pm_counted(&live->active) + 1;
		better = w->best_load * weight > load * w->best_weight;
		break;
	case PM_SCHEDULER_OVF:
		if (pm_counted(&live->active) > (__u32)weight)
			return 0;
		load = 0;
		better = weight > w->best_weight;
		break;
	default: /* fo */
		load = 0;
		better = weight > w->best_weight;
		break;
	}
	if (w->found != PM_NONE && !better)
		return 0;
	w->found = i;
	w->real = m->real;
	w->best_load = load;
	w->best_weight = weight;
	return 0;
}
