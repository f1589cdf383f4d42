/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How often each source may start connections to a service (how many it may have at a time: persist.h). A source is
 * what the service's prefix length leaves of a client's address. Its record says until when the time is taken up by
 * connections that it has started, each of which takes up 1/rate of a second; as long as that is no more than a second ahead, another one may start. So
 * after a pause it may start as many at once as otherwise in a second, and in T seconds never more than T + 1 times
 * the rate.
 *
 * A record whose time has come says nothing any more, and is anybody's: of sources that are within their rate none
 * is forgotten while there is room for those of the last second. If there is not, the one gives way that has least
 * to say, and may start a second's connections anew (PM_FORGOT_SOURCE).
 *
 * Nobody has to take records away, and nobody but packets writes them. Written for by control/apply/limits.ts.
 */
#pragma once

#include "filter.h"

/* A second in pm_source.busy: ticks of 2^23 ns, in the high half. */
#define PM_SOURCE_SECOND (1000000000ull << (32 - PM_TICK_SHIFT))

#define PM_SOURCE_LIVE 1u
#define PM_SOURCE_HELD 2u
#define PM_SOURCE_VERSION 4u /* increment */

struct pm_seeking {
	__be32 addr[4];
	__u32 order; /* of the service */
	__u32 what;  /* length and family */
	__u64 hash;
	__u64 now; /* as in pm_source.busy */
};

pm_inline __u32 pm_source_nth(__u64 hash, __u32 n)
{
	return ((__u32)(n < PM_WAYS ? hash : hash >> 32) & (PM_SOURCES / PM_WAYS - 1)) * PM_WAYS + n % PM_WAYS;
}

/*
 * How far ahead a record's time is; 0: it has come. No further than a second and one connection: what says so was
 * left behind long ago, when time meant something else.
 */
pm_inline __u64 pm_source_ahead(__u64 busy, __u64 now)
{
	__u64 ahead = busy - now;

	return ahead > 2 * PM_SOURCE_SECOND ? 0 : ahead;
}

/* The record of this source: index in the low half, version in the high; PM_NO_LINE if there is none. */
PM_PART __u64 pm_find_source(const struct pm_seeking *s)
{
	if (!s)
		return PM_NO_LINE;
	for (__u32 n = 0; n < 2 * PM_WAYS; n++) {
		__u32 index = pm_source_nth(s->hash, n), word;
		struct pm_source *r = pm_sources(index), *fields;

		if (!r)
			return PM_NO_LINE;
		word = pm_glance(r->word);
		if ((word & (PM_SOURCE_LIVE | PM_SOURCE_HELD)) != PM_SOURCE_LIVE)
			continue;
		fields = pm_after(r, word);
		if (pm_glance(fields->order) == s->order && pm_glance(fields->what) == s->what &&
		    pm_glance(fields->addr[0]) == s->addr[0] && pm_glance(fields->addr[1]) == s->addr[1] &&
		    pm_glance(fields->addr[2]) == s->addr[2] && pm_glance(fields->addr[3]) == s->addr[3])
			return (__u64)word << 32 | index;
	}
	return PM_NO_LINE;
}

/*
 * Of the records of one of its two sets, the one that has least to say: index and version as above. Into `ahead`,
 * how much that is, less than zero for each other one that has nothing to say: with equal sets, records of many
 * sources would stand in the first ones.
 */
PM_PART __u64 pm_least_source(const struct pm_seeking *s, __u32 set, __s64 *ahead)
{
	__u64 least = ~0ull >> 1, found = PM_NO_LINE;
	__s64 spare = 0;

	if (!s || !ahead)
		return PM_NO_LINE;
	for (__u32 way = 0; way < PM_WAYS; way++) {
		__u32 index = pm_source_nth(s->hash, set * PM_WAYS + way), word;
		struct pm_source *r = pm_sources(index);
		__u64 says = 0;

		if (!r)
			return PM_NO_LINE;
		word = pm_glance(r->word);
		if (word & (PM_SOURCE_LIVE | PM_SOURCE_HELD))
			says = pm_source_ahead(pm_read(pm_after(r, word)->busy), s->now);
		/* Held for longer than a second, it was left behind by somebody who died. */
		if ((word & PM_SOURCE_HELD) && says)
			continue;
		spare += !says;
		if (says >= least)
			continue;
		least = says;
		found = (__u64)word << 32 | index;
	}
	*ahead = least ? (__s64)least : -spare;
	return found;
}

/* A record for this source, which has none: 1; 0: somebody was quicker, or all are being written. */
PM_PART int pm_make_source(const struct pm_seeking *s, __u64 busy)
{
	__s64 one = 0, other = 0;
	__u64 found = pm_least_source(s, 0, &one), second = pm_least_source(s, 1, &other);
	struct pm_source *r;
	__u32 was, held;

	if (found == PM_NO_LINE || (second != PM_NO_LINE && other < one))
		found = second;
	was = found >> 32;
	r = pm_sources(found);
	if (!s || found == PM_NO_LINE || !r)
		return 0;
	held = ((was | PM_SOURCE_HELD) + PM_SOURCE_VERSION) & ~PM_SOURCE_LIVE;
	if (!pm_swap(&r->word, was, held))
		return 0;
	if ((was & PM_SOURCE_LIVE) && pm_source_ahead(pm_read(r->busy), s->now))
		pm_tally(PM_FORGOT_SOURCE);
	pm_write(r->busy, busy);
	r->order = s->order;
	r->what = s->what;
	for (int i = 0; i < 4; i++)
		r->addr[i] = s->addr[i];
	/* Who has held it for a second has lost it to somebody else, and publishes nothing. */
	if (!pm_swap(&r->word, held, (held & ~PM_SOURCE_HELD) | PM_SOURCE_LIVE))
		return 0;
	/* Of two that make one at once, the first that is found is the source's. */
	found = pm_find_source(s);
	if (pm_sources(found) == r)
		return 1;
	(void)pm_swap(&r->word, (held & ~PM_SOURCE_HELD) | PM_SOURCE_LIVE, held & ~PM_SOURCE_HELD);
	return 0;
}

/* Counts a connection that this source wants to start; 1: it may; 0: not; PM_SOURCE_BUSY: others are at it. */
#define PM_SOURCE_BUSY 2
PM_PART int pm_take_source(const struct pm_seeking *s, __u64 found, __u64 cost)
{
	struct pm_source *r = pm_sources(found);
	__u32 word = found >> 32;
	__u64 was, ahead;

	if (!s || !r)
		return PM_SOURCE_BUSY;
	was = pm_read(r->busy);
	ahead = pm_source_ahead(was, s->now) + cost;
	if (ahead > PM_SOURCE_SECOND)
		return 0;
	if (!pm_swap(&r->busy, was, s->now + ahead) || pm_read(r->word) != word)
		return PM_SOURCE_BUSY;
	return 1;
}

/* Packets of one source that are counted at the same time, on as many CPUs. */
#define PM_SOURCE_TRIES 16

/* Whether a client of the service in this slot may start a connection: PM_CONTINUE, or why not. */
PM_PART __u32 pm_limit(const struct pm_key *k, __u32 slot, __u32 now, __u32 family)
{
	struct pm_seeking s = { .now = (__u64)now << 32 };
	const struct pm_gate *gate = pm_gate_of(slot);
	struct pm_settings *set = pm_settings(0);
	__u32 rate, length;
	__u64 cost;

	if (!gate || !set || !k)
		return PM_CONTINUE;
	rate = pm_read(gate->rate);
	if (!rate)
		return PM_CONTINUE;
	length = pm_read(gate->length);
	s.order = gate->order;
	s.what = length | family << 8;
#pragma unroll
	for (__u32 i = 0; i < 4; i++)
		s.addr[i] = pm_prefix_word(k->saddr[i], i, length);
	s.hash = pm_stir(set->hash_seed, (__u64)s.addr[0] << 32 | s.addr[1]);
	s.hash = pm_stir(s.hash, (__u64)s.addr[2] << 32 | s.addr[3]);
	s.hash = pm_stir(s.hash, (__u64)s.order << 32 | s.what) * 0xBF58476D1CE4E5B9ull;
	s.hash ^= s.hash >> 32;
	cost = PM_SOURCE_SECOND / rate;
	for (int n = 0; n < PM_SOURCE_TRIES; n++) {
		__u64 found = pm_find_source(&s);
		int taken;

		if (found == PM_NO_LINE) {
			if (pm_make_source(&s, s.now + cost))
				return PM_CONTINUE;
			continue;
		}
		taken = pm_take_source(&s, found, cost);
		if (taken != PM_SOURCE_BUSY)
			return taken ? PM_CONTINUE : PM_DROP_RATE;
	}
	return PM_DROP_CONNECTION_BUSY;
}
