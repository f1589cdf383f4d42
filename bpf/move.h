/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Moving a connection's line: from a level of the table that has been left to the one where new lines are, by
 * the packet that finds it there; or to the other set of its key, for another that has no room. At every moment a search finds one of the two:
 * the new line is live before the old one ends. The old one is held meanwhile, so that nobody ends it, and so
 * is the other line of a NAT connection, which leads to the new one from then on.
 */
#pragma once

#include "room.h"

pm_inline int pm_is_within(int family, const struct pm_place *at, __u32 index)
{
	__u32 set = index / PM_WAYS, mask = pm_level_mask(family, at->level);

	return set == (at->set[0] & mask) || set == (at->set[1] & mask);
}

/* A line is counted for as long as it is live, also while it is for a moment one of two; PM_NONE: of no count. */
pm_inline void pm_count_line(__u32 real, __u64 head, __u32 more)
{
	struct pm_live *live = pm_live(real);

	if (live)
		pm_add((__u32)head & PM_CONN_ACTIVE ? &live->active : &live->inactive, more);
}

/* Everything behind the head. */
pm_inline void pm_copy_line(int family, struct pm_conn *to, const struct pm_conn *from)
{
	const pm_u32 *f = (const pm_u32 *)from;
	pm_u32 *t = (pm_u32 *)to;
	const __u32 words = (family == 4 ? sizeof(struct pm_conn4) : sizeof(struct pm_conn6)) / 4;

#pragma unroll
	for (__u32 i = __builtin_offsetof(struct pm_conn, expires) / 4 + 1; i < words; i++)
		t[i] = f[i];
}

/* The head of a moved line: of its own, owner and epoch; of `from`, what the connection is. */
pm_inline __u64 pm_moved_head(__u32 own, __u64 from, __u32 until)
{
	return pm_head_of(pm_live_word(own, pm_state(from), pm_class(from),
				       (__u32)from & (PM_CONN_ACTIVE | PM_CONN_INPUT_ONLY)),
			  until);
}

/* What a packet has made of the old line after `was` was copied, made of the new one. */
PM_PART int pm_bring_over(struct pm_conn *to, __u32 real, __u32 own, __u64 was, __u64 is)
{
	__u32 moves = PM_CONN_EPOCHS | PM_CONN_HOLDS | PM_CONN_HELD;

	if (!to)
		return 0;
	for (int n = 0; n < PM_TRIES; n++) {
		__u64 head = pm_head(to), next;
		__u32 until = pm_until(is);

		if (!pm_same_owner(head, own))
			return 0;
		if (pm_past(pm_until(head), until))
			until = pm_until(head);
		next = ((__u32)was ^ (__u32)is) & ~moves ? pm_moved_head(head, is, until) | (head & PM_CONN_HELD) :
							    pm_head_of(head, until);
		if (next == head)
			return 0;
		if (pm_swap_head(to, head, next)) {
			if (((__u32)head ^ (__u32)next) & PM_CONN_ACTIVE) {
				pm_count_line(real, head, -1);
				pm_count_line(real, next, 1);
			}
			return 0;
		}
	}
	return 0;
}

/*
 * Tells searches that a line has two places, between it got the one and loses the other (pm_find_again). With
 * its result wanted, this is a full barrier in BPF too.
 */
pm_inline void pm_tell_searches(void)
{
	struct pm_settings *set = pm_settings(0);
	volatile __u32 before;

	if (set)
		before = __sync_fetch_and_add(&set->moves, 1);
	(void)before;
}

/* A connection's line on its way from one place to another. */
struct pm_moving {
	struct pm_conn *from; /* live, and held */
	struct pm_conn *to;   /* claimed */
	struct pm_conn *peer; /* of the other direction, held; NULL: there is none */
	__u32 index;	      /* of `from` */
	__u64 line;	      /* `to` as it was claimed */
};

/*
 * The line `to` takes the place of the line `from`; 1: it has, and that is free. The other direction's line
 * leads to one that is live at every moment.
 */
pm_inline int pm_replace(const struct pm_moving *m, __u32 real, __u32 until, __u32 now)
{
	struct pm_conn *c = m->from, *to = m->to;
	__u32 claimed = m->line;
	__u64 head = pm_head(c), live;

	if (pm_past(pm_until(head), until))
		until = pm_until(head);
	live = pm_moved_head((claimed & ~PM_CONN_EPOCHS) | ((__u32)head & PM_CONN_EPOCHS), head, until);
	pm_count_line(real, live, 1);
	if (!pm_swap_head(to, pm_head_of(claimed, now), live)) {
		pm_count_line(real, live, -1);
		return 0;
	}
	if (m->peer)
		pm_write(m->peer->peer, m->line >> 32);
	pm_tell_searches();
	for (int n = 0; n < PM_TRIES; n++) {
		__u64 taken = pm_claimed(head, now), again;

		if (pm_swap_head(c, head, taken)) {
			pm_count_line(real, head, -1);
			pm_free(c, taken);
			return 1;
		}
		again = pm_head(c);
		/* Let go by who took it for abandoned, and ended since: so has the connection. */
		if (!pm_same_owner(again, head))
			break;
		(void)pm_bring_over(to, real, live, head, again);
		head = again;
	}
	/* Or others are too busy with the old one: it stays. */
	if (m->peer)
		pm_write(m->peer->peer, m->index);
	for (int n = 0; n < PM_TRIES; n++) {
		__u64 mine = pm_head(to), taken = pm_claimed(mine, now);

		if (!pm_same_owner(mine, live))
			break;
		if (!((__u32)mine & PM_CONN_HELD) && pm_swap_head(to, mine, taken)) {
			pm_count_line(real, mine, -1);
			pm_free(to, taken);
			break;
		}
	}
	return 0;
}

/* Lets go of the lines that a move has held and claimed. */
pm_inline void pm_stay(struct pm_conn *c, struct pm_conn *to, __u32 claimed, __u32 now)
{
	pm_release(c);
	if (to)
		pm_free(to, pm_head_of(claimed, now));
}

/*
 * Whether the held line of a client's, whose answers' line is not its own, is without one for good: answers belong
 * to a newer connection, or to nobody. One that is claimed may be about to lead here. A line for answers without its
 * connection is over.
 */
pm_inline int pm_moves_alone(int family, const struct pm_conn *c, __u32 peer_index)
{
	const struct pm_conn *peer = pm_line(family, peer_index);

	return pm_kind_of(c->traits) == PM_CONN_IN && (!peer || pm_status(pm_head(peer)) != PM_CONN_CLAIMED);
}

/*
 * Moves the live line `index` with this word to `line`, which is claimed. The index of where it stands
 * afterwards. `now` is the time of the claim.
 */
pm_inline __u32 pm_move_line(int family, __u32 index, __u32 word, __u64 line, __u32 now)
{
	struct pm_conn *c = pm_line(family, index), *to = pm_line(family, line >> 32), *peer = PM_NULL;
	struct pm_moving moving;
	__u32 until, peer_index, real;
	__u64 other = 0;
	int moved, late = 0;

	if (!c || !to)
		return index;
	if (!pm_hold(c, word)) {
		pm_free(to, pm_head_of(line, now));
		return index;
	}
	/* The daemon knows its own by where they stand, connections their template. */
	if ((c->traits & PM_CONN_CHECK) || pm_kind_of(c->traits) == PM_CONN_TEMPLATE) {
		pm_stay(c, to, line, now);
		return index;
	}
	until = pm_until(pm_head(c));
	peer_index = c->peer;
	if (peer_index != PM_NONE) {
		peer = pm_peer(family, index, peer_index, &other);
		if (peer ? !pm_hold(peer, other) : !pm_moves_alone(family, c, peer_index)) {
			pm_stay(c, to, line, now);
			return index;
		}
	}
	if (peer) {
		/* The later of both counts, and nobody may think that the new one's is over. */
		late = pm_past(pm_until(other), until);
		if (late)
			until = pm_until(other);
	}
	pm_copy_line(family, to, c);
	/* As pm_moved_by_other. */
	if (late && !pm_is_given(to->neighbour))
		to->neighbour = 0;
	if (!peer)
		to->peer = PM_NONE;
	if (c->traits & PM_CONN_CONTROLLED)
		pm_copy_control(family, index, line >> 32);
	moving = (struct pm_moving){ .from = c, .to = to, .peer = peer, .index = index, .line = line };
	/* Once: whoever takes the new line for abandoned may fill it anew. */
	real = pm_kind_of(c->traits) == PM_CONN_IN ? c->real : PM_NONE;
	moved = pm_replace(&moving, real, until, now);
	if (peer)
		pm_release(peer);
	/* It was counted twice for a moment. */
	pm_challenge_seat(real);
	if (moved)
		return line >> 32;
	pm_stay(c, PM_NULL, 0, now);
	return index;
}

PM_PART __u32 pm_move4(__u32 index, __u32 word, __u64 line, __u32 now)
{
	return pm_move_line(4, index, word, line, now);
}

PM_PART __u32 pm_move6(__u32 index, __u32 word, __u64 line, __u32 now)
{
	return pm_move_line(6, index, word, line, now);
}

/*
 * The line of a key that was found with this head, where new lines are placed: moved there if it was not.
 * NULL: its owner has gone meanwhile.
 */
pm_inline struct pm_conn *pm_at_home(int family, struct pm_conn *c, const struct pm_place *at,
				     const struct pm_key *k, __u32 *index, __u64 *head)
{
	__u32 now, moved;
	__u64 line;

	if (pm_likely(pm_is_within(family, at, *index)))
		return c;
	if (pm_glance(pm_after(c, *head)->traits) & PM_CONN_CHECK)
		return c; /* as pm_move_line has it */
	now = pm_now();
	line = family == 4 ? pm_claim_free4(at, now) : pm_claim_free6(at, now);
	if (line == PM_NO_LINE)
		return c;
	moved = family == 4 ? pm_move4(*index, *head, line, now) : pm_move6(*index, *head, line, now);
	c = pm_line(family, moved);
	if (!c)
		return PM_NULL;
	*index = moved;
	*head = pm_head(c);
	return pm_is_live(*head) && pm_same_key(family, pm_after(c, *head), k) ? c : PM_NULL;
}

/* A line that is to be moved, and a claimed one for it. */
struct pm_displaced {
	__u64 line;
	__u32 index;
	__u32 word;
};

/* A free line for one of the first, full set in the other set of its key: 1 if that has one, never used or given back. */
pm_inline int pm_find_other(int family, const struct pm_place *at, __u32 way, __u32 now, struct pm_displaced *d)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_key k = {};
	struct pm_place home;
	struct pm_conn *c;
	__u32 index;
	__u64 head;

	if (!set || !at || !d)
		return 0;
	index = pm_nth(family, at, at->level, way % PM_WAYS);
	c = pm_line(family, index);
	if (!c)
		return 0;
	head = pm_head(c);
	if (!pm_is_live(head))
		return 0;
	pm_line_key(family, pm_after(c, head), &k);
	home = pm_place(family, set, &k);
#pragma unroll /* Linux 6.1 refuses what the compiler makes of the loop (test/packets/flow.ts) */
	for (__u32 n = 0; n < PM_LINES; n++) {
		__u32 other = pm_nth(family, &home, home.level, n);
		struct pm_conn *to = pm_line(family, other);

		if (to && other / PM_WAYS != index / PM_WAYS) {
			__u64 was = pm_head(to), claimed = pm_claimed(was, now);

			if (pm_status(was) < PM_CONN_CLAIMED && pm_swap_head(to, was, claimed)) {
				d->line = (__u64)other << 32 | (__u32)claimed;
				d->index = index;
				d->word = head;
				return 1;
			}
		}
	}
	return 0;
}

PM_PART int pm_find_other4(const struct pm_place *at, __u32 way, __u32 now, struct pm_displaced *d)
{
	return pm_find_other(4, at, way, now, d);
}

PM_PART int pm_find_other6(const struct pm_place *at, __u32 way, __u32 now, struct pm_displaced *d)
{
	return pm_find_other(6, at, way, now, d);
}

/* Moves a line of the first, full set to the other set of its key: 1 if that had room. */
pm_inline int pm_displace(int family, const struct pm_place *at, __u32 way, __u32 now)
{
	struct pm_displaced d = {};

	if (!(family == 4 ? pm_find_other4(at, way, now, &d) : pm_find_other6(at, way, now, &d)))
		return 0;
	return (family == 4 ? pm_move4(d.index, d.word, d.line, now) : pm_move6(d.index, d.word, d.line, now)) ==
	       d.line >> 32;
}
