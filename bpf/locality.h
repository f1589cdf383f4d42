/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Schedulers that keep a destination at its real servers: lblc at one, lblcr at a set that grows with the load
 * and shrinks again (schedulers.md §10, §11). They are for caches, where a service of a firewall mark has many
 * destinations. What is remembered is bounded: a record is given up when it has not been used for the sysctl's
 * time, or for another destination if it is the one that has been unused longest of its eight.
 *
 * A record's word is its owner's version: what was read is good if the word is the same afterwards, and who
 * writes has swapped it for a held one.
 */
#pragma once

#include "chance.h"

#define PM_LOCALITY_LIVE 1u
#define PM_LOCALITY_HELD 2u
#define PM_LOCALITY_VERSION 4u /* increment */
#ifndef PM_LOCALITY_SETS
#define PM_LOCALITY_SETS (PM_LOCALITIES / PM_WAYS)
#endif
/* Held for so long, it was left behind by somebody who died. */
#define PM_LOCALITY_STALE 7152u /* 60 s, in ticks */

/* Index of the n-th record that may be this destination's. */
pm_inline __u32 pm_locality_nth(__u64 hash, __u32 n)
{
	return ((__u32)(n < PM_WAYS ? hash : hash >> 32) & (PM_LOCALITY_SETS - 1)) * PM_WAYS + n % PM_WAYS;
}

pm_inline __u64 pm_locality_hash(const struct pm_settings *set, __u32 order, const struct pm_key *k)
{
	__u64 h = pm_stir(set->hash_seed, (__u64)order << 32 | k->daddr[0]);

	h = pm_stir(h, (__u64)k->daddr[1] << 32 | k->daddr[2]);
	h = pm_stir(h, k->daddr[3]) * 0xBF58476D1CE4E5B9ull;
	return h ^ h >> 32;
}

pm_inline int pm_is_locality_of(const struct pm_locality *l, __u32 order, const struct pm_key *k)
{
	const pm_u32 *addr = (const pm_u32 *)l->addr;

	return l->order == order && addr[0] == k->daddr[0] && addr[1] == k->daddr[1] && addr[2] == k->daddr[2] &&
	       addr[3] == k->daddr[3];
}

/* The record of this destination: index in the low half, version in the high; PM_NO_LINE if there is none. */
PM_PART __u64 pm_find_locality(__u32 order, const struct pm_key *k, __u32 now, __u32 lapse)
{
	struct pm_settings *set = pm_settings(0);
	__u64 hash;

	if (!set || !k)
		return PM_NO_LINE;
	hash = pm_locality_hash(set, order, k);
	for (__u32 n = 0; n < 2 * PM_WAYS; n++) {
		__u32 index = pm_locality_nth(hash, n), word;
		struct pm_locality *l = pm_localities(index);

		if (!l)
			return PM_NO_LINE;
		word = pm_glance(l->word);
		if ((word & (PM_LOCALITY_LIVE | PM_LOCALITY_HELD)) == PM_LOCALITY_LIVE &&
		    pm_is_locality_of(pm_after(l, word), order, k) && now - pm_read(l->used) <= lapse)
			return (__u64)word << 32 | index;
	}
	return PM_NO_LINE;
}

/* A record for this destination, held and empty: index and version as above. */
PM_PART __u64 pm_claim_locality(__u32 order, const struct pm_key *k, __u32 now)
{
	struct pm_settings *set = pm_settings(0);
	__u32 best = PM_NONE, word = 0, longest = 0;
	struct pm_locality *l;
	__u64 hash;

	if (!set || !k)
		return PM_NO_LINE;
	hash = pm_locality_hash(set, order, k);
	for (__u32 n = 0; n < 2 * PM_WAYS; n++) {
		__u32 index = pm_locality_nth(hash, n), unused = 0xffffffffu, was;

		l = pm_localities(index);
		if (!l)
			return PM_NO_LINE;
		was = pm_glance(l->word);
		if (was & (PM_LOCALITY_LIVE | PM_LOCALITY_HELD))
			unused = now - pm_read(l->used);
		if ((was & PM_LOCALITY_HELD) && unused <= PM_LOCALITY_STALE)
			continue;
		if (best != PM_NONE && unused <= longest)
			continue;
		best = index;
		word = was;
		longest = unused;
	}
	l = pm_localities(best);
	if (!l)
		return PM_NO_LINE;
	hash = ((word | PM_LOCALITY_HELD) + PM_LOCALITY_VERSION) & ~PM_LOCALITY_LIVE;
	if (!pm_swap(&l->word, word, (__u32)hash))
		return PM_NO_LINE;
	l->used = now;
	l->order = order;
	l->changed = now;
	for (int i = 0; i < 4; i++)
		((pm_u32 *)l->addr)[i] = k->daddr[i];
	for (int i = 0; i < PM_LOCALITY_REALS; i++)
		l->reals[i] = PM_NONE;
	return hash << 32 | best;
}

/* A real server that is remembered, if it is still this service's and has a weight. */
pm_inline const struct pm_real *pm_remembered(__u32 slot, __u32 index)
{
	const struct pm_real *real = pm_reals(index);

	return real && real->slot != PM_SLOT_FREE && real->service == slot && pm_read(real->weight) > 0 ? real :
													  PM_NULL;
}

/* Of a set, who has the least load for its weight; for `most`, who has the largest, whether available or not. */
PM_PART __u32 pm_locality_pick(__u32 index, __u32 slot, int most)
{
	struct pm_locality *l = pm_localities(index);
	__u32 found = PM_NONE;
	__u64 found_load = 0;
	__s32 found_weight = 0;

	if (!l)
		return PM_NONE;
	for (__u32 i = 0; i < PM_LOCALITY_REALS; i++) {
		__u32 at = pm_read(l->reals[i]);
		const struct pm_real *real = pm_remembered(slot, at);
		struct pm_live *live = pm_live(at);
		__u64 load;

		if (!real || !live || (!most && (real->slot != PM_SLOT_LIVE || pm_read(live->overloaded))))
			continue;
		load = pm_load(live);
		if (found != PM_NONE && !(most ? found_load * real->weight < load * found_weight :
						 found_load * real->weight > load * found_weight))
			continue;
		found = at;
		found_load = load;
		found_weight = real->weight;
	}
	return found;
}

/* Holds a record for a change, if it is still of this version; 0: it is not. */
pm_inline int pm_hold_locality(struct pm_locality *l, __u32 word)
{
	return pm_swap(&l->word, word, word | PM_LOCALITY_HELD);
}

/* Lets go of a record that was held with this version. */
pm_inline void pm_keep_locality(struct pm_locality *l, __u32 word)
{
	pm_publish(&l->word, ((word & ~PM_LOCALITY_HELD) + PM_LOCALITY_VERSION) | PM_LOCALITY_LIVE);
}

/* Takes a real server out of a set. */
PM_PART int pm_shrink_locality(__u32 index, __u32 word, __u32 real, __u32 now)
{
	struct pm_locality *l = pm_localities(index);
	__u32 to = 0;

	if (!l || !pm_hold_locality(l, word))
		return 0;
	for (__u32 i = 0; i < PM_LOCALITY_REALS; i++) {
		__u32 at = l->reals[i];

		l->reals[i] = PM_NONE;
		if (at != real && to < PM_LOCALITY_REALS)
			l->reals[to++] = at;
	}
	l->changed = now;
	pm_keep_locality(l, word);
	return 1;
}

/* Puts a real server in front of a record that is held: in place of what was there, or before it (lblcr). */
PM_PART int pm_grow_locality(__u32 index, __u32 real, int replicate, __u32 now)
{
	struct pm_locality *l = pm_localities(index);
	__u32 carried = real;

	if (!l)
		return 0;
	if (!replicate) {
		l->reals[0] = real;
		return 1;
	}
	for (__u32 i = 0; i < PM_LOCALITY_REALS; i++)
		if (l->reals[i] == real)
			return 1;
	for (__u32 i = 0; i < PM_LOCALITY_REALS; i++) {
		__u32 at = l->reals[i];

		l->reals[i] = carried;
		carried = at;
	}
	l->changed = now;
	return 1;
}

struct pm_spare {
	__u32 first; /* in members */
	__u32 found;
};

static long pm_look_for_spare(__u32 i, void *arg)
{
	struct pm_spare *s = arg;
	struct pm_member *m = pm_members(s->first + i);
	struct pm_live *live = m ? pm_live(m->real) : PM_NULL;

	if (!m || !live)
		return 1;
	s->found = m->weight > 0 && 2ull * pm_counted(&live->active) < (__u32)m->weight;
	return s->found;
}

/* Whether a real server has more to do than its weight, while another is at less than half of its own. */
PM_PART int pm_is_strained(__u32 schedule, __u32 index)
{
	struct pm_schedule *s = pm_schedules(schedule);
	const struct pm_real *real = pm_reals(index);
	struct pm_live *live = pm_live(index);
	struct pm_spare spare = {};

	if (!s || !real || !live || (__s32)pm_counted(&live->active) <= pm_read(real->weight))
		return 0;
	spare.first = s->first;
	pm_loop(s->count, pm_look_for_spare, &spare);
	return spare.found;
}

/* Where this destination has gone, unless that one has too much to do; PM_NONE. */
PM_PART __u32 pm_recall(__u32 slot, const struct pm_key *k, __u32 now)
{
	struct pm_service *service = pm_services(slot);
	struct pm_settings *set = pm_settings(0);
	__u32 word, lapse, index, version, real;
	struct pm_locality *l;
	__u64 found;

	if (!service || !set)
		return PM_NONE;
	word = pm_read(service->schedule);
	lapse = set->timeouts[(word & 0xff) == PM_SCHEDULER_LBLC ? PM_TIMEOUT_LBLC : PM_TIMEOUT_LBLCR];
	found = pm_find_locality(service->order, k, now, lapse);
	index = found;
	version = found >> 32;
	l = pm_localities(index);
	if (!l)
		return PM_NONE;
	if ((word & 0xff) == PM_SCHEDULER_LBLC) {
		const struct pm_real *r;

		real = pm_read(l->reals[0]);
		r = pm_remembered(slot, real);
		if (!r || r->slot != PM_SLOT_LIVE)
			real = PM_NONE;
	} else {
		real = pm_locality_pick(index, slot, 0);
		if (pm_read(l->reals[1]) != PM_NONE && now - pm_read(l->changed) > lapse &&
		    pm_shrink_locality(index, version, pm_locality_pick(index, slot, 1), now))
			version += PM_LOCALITY_VERSION;
	}
	/* Else another destination has got the record meanwhile. */
	if (pm_glance(pm_after(l, real)->word) != version)
		return PM_NONE;
	pm_write(l->used, now);
	if (real != PM_NONE && pm_is_strained(slot * 2 + !!(word & PM_SCHEDULE_ACTIVE), real))
		return PM_NONE;
	return real;
}

/* Remembers where this destination goes from now on; of several packets at once, one of them does. */
PM_PART int pm_remember(__u32 slot, const struct pm_key *k, __u32 real, __u32 now)
{
	struct pm_service *service = pm_services(slot);
	struct pm_settings *set = pm_settings(0);
	__u32 kind, version;
	struct pm_locality *l;
	__u64 record;

	if (!service || !set)
		return 0;
	kind = pm_read(service->schedule) & 0xff;
	record = pm_find_locality(service->order, k, now,
				  set->timeouts[kind == PM_SCHEDULER_LBLC ? PM_TIMEOUT_LBLC : PM_TIMEOUT_LBLCR]);
	if (record == PM_NO_LINE) {
		record = pm_claim_locality(service->order, k, now);
		l = pm_localities(record);
		if (!l)
			return 0;
	} else {
		l = pm_localities(record);
		if (!l || !pm_hold_locality(l, record >> 32))
			return 0;
	}
	version = record >> 32;
	pm_grow_locality(record, real, kind == PM_SCHEDULER_LBLCR, now);
	pm_keep_locality(l, version);
	return 1;
}

pm_inline int pm_keeps_localities(const struct pm_service *service)
{
	__u32 kind = pm_read(service->schedule) & 0xff;

	return kind == PM_SCHEDULER_LBLC || kind == PM_SCHEDULER_LBLCR;
}
