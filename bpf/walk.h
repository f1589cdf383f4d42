/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Walks over a service's members, in IPVS's list order: the first that will do, the one that has the least to do. */
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

/* How a real server stands in a scheduler's eyes: who has the least load for its weight is chosen. */
struct pm_form {
	__u64 load;
	__s32 weight; /* 0: it takes no connection */
};

/* By enum pm_scheduler `kind`, one of those that count. */
pm_inline struct pm_form pm_form_of(const struct pm_member *m, __u32 kind)
{
	struct pm_form form = {};
	struct pm_live *live = m ? pm_live(m->real) : PM_NULL;
	__u32 active;

	if (!live || m->weight <= 0 || pm_read(live->overloaded))
		return form;
	form.weight = m->weight;
	active = pm_counted(&live->active);
	switch (kind) {
	case PM_SCHEDULER_LC:
		form.weight = 1;
		form.load = pm_load(live);
		break;
	case PM_SCHEDULER_NQ:
		form.load = active ? active + 1 : 0; /* the first that is idle, whatever its weight */
		break;
	case PM_SCHEDULER_SED:
		form.load = active + 1;
		break;
	case PM_SCHEDULER_OVF:
		if (active > (__u32)m->weight)
			form.weight = 0;
		form.load = 1; /* the heaviest */
		break;
	case PM_SCHEDULER_FO:
	case PM_SCHEDULER_RR:
	case PM_SCHEDULER_WRR:
		form.load = 1;
		break;
	default: /* wlc, and of destinations that lblc and lblcr do not know yet */
		form.load = pm_load(live);
		break;
	}
	return form;
}

/* Whether who comes later in the list is chosen rather than who comes earlier, who is in a tie. */
pm_inline int pm_outdoes(const struct pm_form *later, const struct pm_form *earlier)
{
	if (later->weight <= 0)
		return 0;
	return earlier->weight <= 0 || earlier->load * later->weight > later->load * earlier->weight;
}

/* The member that is chosen, for the schedulers that count connections. */
static long pm_walk_least(__u32 i, void *arg)
{
	struct pm_walk *w = arg;
	struct pm_member *m = pm_members(w->first + i);
	struct pm_form form, best = { .load = w->best_load, .weight = w->best_weight };

	if (!m)
		return 1;
	form = pm_form_of(m, w->kind);
	if (!pm_outdoes(&form, &best))
		return 0;
	w->real = m->real;
	w->best_load = form.load;
	w->best_weight = form.weight;
	return 0;
}

/* Number of the lowest bit that is set, of a word that is not 0. */
pm_inline __u32 pm_lowest_bit(__u64 word)
{
	__u32 n = 0;

	for (int half = 32; half; half /= 2) {
		if (!(word << (64 - half)))
			n += half, word >>= half;
	}
	return n;
}
