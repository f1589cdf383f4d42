/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Schedulers that draw lots: `twos` (schedulers.md §12), and two of our own, `random` and `wrandom`. Lots are a
 * hash of how many have been drawn from the schedule and of the client, so that the packet program gives the
 * same answer wherever it runs, and no two CPUs draw the same.
 */
#pragma once

#include "walk.h"

struct pm_draw {
	__u32 first;   /* in members */
	__u32 count;
	__u32 weights; /* bits of a weight that count, and what does beside: no branch for the verifier to follow */
	__u32 even;
	__u32 real;    /* index in reals, of the lot */
	__u32 weight;
	__u64 sum;     /* of what counts */
	__u64 lot;     /* what is left of it */
};

/* How many of the lots are the member's in this position, 0 if it can take no connection. */
pm_inline __u32 pm_lots_of(const struct pm_draw *d, __u32 i, __u32 *real)
{
	struct pm_member *m = pm_members(d->first + i);
	struct pm_live *live;

	if (!m)
		return 0;
	*real = m->real;
	live = pm_live(m->real);
	if (!live || m->weight <= 0 || pm_read(live->overloaded))
		return 0;
	return ((__u32)m->weight & d->weights) | d->even;
}

static long pm_sum_lots(__u32 i, void *arg)
{
	struct pm_draw *d = arg;
	__u32 real = PM_NONE;

	d->sum += pm_lots_of(d, i, &real);
	return 0;
}

/* Whose lot it is, counted from 1. One that nobody has any more is the last one's. */
static long pm_find_lot(__u32 i, void *arg)
{
	struct pm_draw *d = arg;
	__u32 real = PM_NONE, lots = pm_lots_of(d, i, &real);

	if (!lots)
		return 0;
	d->real = real;
	d->weight = lots;
	if (d->lot <= lots)
		return 1;
	d->lot -= lots;
	return 0;
}

pm_inline __u64 pm_lot(__u64 n)
{
	n = (n ^ n >> 30) * 0xBF58476D1CE4E5B9ull;
	n = (n ^ n >> 27) * 0x94D049BB133111EBull;
	return n ^ n >> 31;
}

/* Index in reals of the choice for this packet, or PM_NONE. */
PM_PART __u32 pm_pick_by_chance(__u32 slot, const struct pm_key *k)
{
	struct pm_service *service = pm_services(slot);
	struct pm_settings *set = pm_settings(0);
	struct pm_draw d = { .real = PM_NONE };
	struct pm_live *one, *two;
	struct pm_schedule *s;
	__u32 word, kind, first;
	__s32 weight;
	__u64 n;

	if (!service || !set || !k)
		return PM_NONE;
	word = pm_read(service->schedule);
	kind = word & 0xff;
	s = pm_schedules(slot * 2 + !!(word & PM_SCHEDULE_ACTIVE));
	if (!s)
		return PM_NONE;
	d.first = s->first;
	d.count = s->count;
	d.even = kind == PM_SCHEDULER_RANDOM;
	d.weights = d.even - 1;
	pm_loop(d.count, pm_sum_lots, &d);
	if (!d.sum)
		return PM_NONE;
	n = __sync_fetch_and_add(&s->cursor, 1) * 0x9E3779B97F4A7C15ull + set->hash_seed;
	n ^= (__u64)(k->saddr[0] ^ k->saddr[3]) << 32 | k->sport;
	if (kind != PM_SCHEDULER_TWOS) {
		d.lot = pm_lot(n) % d.sum + 1;
		pm_loop(d.count, pm_find_lot, &d);
		return d.real;
	}
	/* IPVS draws from 0, which is the first one's as 1 is. */
	d.lot = pm_lot(n) % (d.sum + 1);
	pm_loop(d.count, pm_find_lot, &d);
	first = d.real;
	weight = d.weight;
	d.lot = pm_lot(~n) % (d.sum + 1);
	pm_loop(d.count, pm_find_lot, &d);
	one = pm_live(first);
	two = pm_live(d.real);
	return one && two && pm_load(one) * d.weight > pm_load(two) * weight ? d.real : first;
}
