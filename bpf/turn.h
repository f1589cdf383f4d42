/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * `rr` and `wrr` of many real servers: whose turn it is, without a look at all that cannot take a connection, or are
 * not heavy enough. Their bracket (bpf/bracket.h) is won by the heaviest that can take one, so that each of its
 * matches says whether anybody will do among those that it is about. It is challenged by who gets or is no more
 * overloaded, not by every connection, and asked only when the next in the list will not do.
 */
#pragma once

#include "walk.h"

/* No real server: the bracket has not been played through, and members are to be walked over. */
#define PM_UNPLAYED 0xfffffffeu

/* A look for the first that will do, in list order, from a seat on: seats count from the list's end. */
struct pm_seek {
	__u32 first; /* in members */
	__u32 count;
	__u32 table; /* the bracket, in members */
	__u32 leaves;
	__u32 node; /* a match, or a seat behind them */
	__s32 floor; /* smallest weight that is good enough */
	__u32 down; /* whether somebody who will do is below `node`; else who was there will not */
	__u32 seat; /* found; 0 */
};

/* Up from a seat and down to another: further when those that were found are overloaded meanwhile. */
#define PM_SEEK_STEPS (4 * PM_BRACKET_MAX)

pm_inline struct pm_member *pm_seated(const struct pm_seek *k, __u32 seat)
{
	return seat - 1 < k->count ? pm_members(k->first + k->count - seat) : PM_NULL;
}

/* Weight of the heaviest below a node that can take a connection. */
pm_inline __s32 pm_heaviest(const struct pm_seek *k, __u32 node)
{
	const struct pm_member *m;
	const pm_u64 *match;
	__u32 seat = node + 1 - k->leaves;

	if (node < k->leaves) {
		match = (const pm_u64 *)pm_members(k->table + node);
		seat = match ? (__u32)pm_read(*match) : 0;
	}
	m = pm_seated(k, seat);
	return m ? m->weight : 0;
}

/* Whether who has this seat will do. */
pm_inline int pm_will_do(const struct pm_seek *k, __u32 seat)
{
	const struct pm_member *m = pm_seated(k, seat);
	const struct pm_live *live = m ? pm_live(m->real) : PM_NULL;

	return live && m->weight >= k->floor && !pm_read(live->overloaded);
}

static long pm_seek_on(__u32 i, void *arg)
{
	struct pm_seek *k = arg;
	__u32 node = k->node, right;

	(void)i;
	if (!k->down) {
		if (node <= 1)
			return 1;
		/* On the left of it are those that come after it. */
		k->node = node >> 1;
		if ((node & 1) && pm_heaviest(k, node - 1) >= k->floor) {
			k->node = node - 1;
			k->down = 1;
		}
		return 0;
	}
	if (node < k->leaves) {
		right = 2 * node + 1;
		k->node = right - (pm_heaviest(k, right) < k->floor);
		return 0;
	}
	if (pm_will_do(k, node + 1 - k->leaves)) {
		k->seat = node + 1 - k->leaves;
		return 1;
	}
	k->down = 0;
	return 0;
}

/* Whether the bracket says how things are. */
pm_inline int pm_is_played(const struct pm_schedule *s)
{
	const pm_u64 *any = pm_bracket_word(s, 0);

	return any && !pm_read(s->unplayed) && !pm_read(*any);
}

/* Seat of the first who will do from a position in the list on; 0: nobody. */
PM_PART __u32 pm_seek_from(const struct pm_seek *like, __u32 position)
{
	struct pm_seek k;

	if (!like)
		return 0;
	k = *like;
	k.node = k.leaves + k.count - 1 - position;
	k.down = 1;
	k.seat = 0;
	pm_unknown(k.down, k.leaves);
	pm_unknown(k.seat, k.leaves);
	pm_loop(PM_SEEK_STEPS, pm_seek_on, &k);
	return k.seat;
}

/*
 * From the head of the list on: wrr's current weight as it is then. Passes that could find nobody are skipped: it falls
 * at once to where the heaviest is heavy enough (schedulers.md §3, and pm_try_wrr).
 */
pm_inline __s32 pm_seek_anew(struct pm_seek *k, __s32 cw, __s32 step, __u32 *seat)
{
	__s32 heaviest = pm_heaviest(k, 1);

	if (cw > heaviest) {
		cw -= (__s32)(((__u32)(cw - heaviest) + (__u32)step - 1) / (__u32)step) * step;
		k->floor = cw > 0 ? cw : 1;
	}
	if (heaviest > 0)
		*seat = pm_seek_from(k, 0);
	return cw;
}

/* No real server: another CPU has moved the cursor meanwhile. */
#define PM_NOT_IN_TURN 0xfffffffdu

enum pm_turning {
	PM_TURNING_PLAYED = 1, /* the bracket has been played through for this packet */
	PM_TURNING_LAST = 2,   /* a choice that loses the race for the cursor is taken as it is */
};

/*
 * Index in reals of the next one, by one attempt; PM_NONE, PM_NOT_IN_TURN. PM_UNPLAYED: the bracket is to be played
 * through first, or members to be walked over.
 */
PM_PART __u32 pm_try_turn(__u32 schedule, __u32 kind, __u32 turning)
{
	struct pm_schedule *s = pm_schedules(schedule);
	__u32 start, seat = 0;
	struct pm_member *m;
	struct pm_seek k = {};
	__s32 cw = 0;
	__u64 cursor;

	if (!s)
		return PM_NONE;
	k.first = s->first;
	k.count = s->count;
	k.table = s->table_first;
	k.leaves = 1u << (s->bracket & 31);
	k.floor = 1;
	cursor = pm_read(s->cursor);
	start = cursor;
	if (kind == PM_SCHEDULER_WRR) {
		if (s->weight_max <= 0 || s->weight_step <= 0)
			return PM_NONE;
		k.floor = cw = (__s32)(cursor >> 32);
	} else if (start >= k.count) {
		start = 0;
	}
	if (start < k.count && k.floor > 0) {
		if (pm_will_do(&k, k.count - start))
			seat = k.count - start;
		else if ((turning & PM_TURNING_PLAYED) || pm_is_played(s))
			seat = pm_seek_from(&k, start);
		else
			return PM_UNPLAYED;
	}
	if (!seat) {
		if (kind == PM_SCHEDULER_WRR)
			k.floor = cw = cw > s->weight_step ? cw - s->weight_step : s->weight_max;
		if (pm_will_do(&k, k.count))
			seat = k.count;
		else if ((turning & PM_TURNING_PLAYED) || pm_is_played(s))
			cw = pm_seek_anew(&k, cw, s->weight_step, &seat);
		else
			return PM_UNPLAYED;
	}
	if (!seat)
		return pm_heaviest(&k, 1) > 0 ? PM_UNPLAYED : PM_NONE;
	m = pm_seated(&k, seat);
	if (!m)
		return PM_NONE;
	if (pm_swap(&s->cursor, cursor, (__u64)(__u32)cw << 32 | (k.count - seat + 1)) || (turning & PM_TURNING_LAST))
		return m->real;
	return PM_NOT_IN_TURN;
}

pm_inline __u32 pm_in_turn(__u32 schedule, __u32 kind, __u32 turning)
{
	__u32 real = pm_try_turn(schedule, kind, turning);

	if (pm_unlikely(real == PM_NOT_IN_TURN))
		real = pm_try_turn(schedule, kind, turning);
	if (pm_unlikely(real == PM_NOT_IN_TURN))
		real = pm_try_turn(schedule, kind, turning | PM_TURNING_LAST);
	return real;
}
