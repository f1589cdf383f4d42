/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Life of a connection line: claimed by compare-and-swap on its word, filled, published, followed
 * through the TCP states, freed. Whoever wins the swap owns the accounting that goes with it: packets
 * on any CPU and the daemon's sweeper (control/connections/sweep.ts) play by the same rules.
 */
#pragma once

#include "lookup.h"
#include "tcp-state.h"

pm_inline int pm_past(__u32 now, __u32 then)
{
	return (__s32)(now - then) > 0;
}

/* The line of the other direction, if it still belongs to this one. */
pm_inline struct pm_conn *pm_peer(int family, const struct pm_conn *c, __u32 index)
{
	struct pm_conn *peer;

	if (c->peer == PM_NONE)
		return PM_NULL;
	peer = pm_line(family, c->peer);
	if (!peer || (pm_read(peer->word) & PM_CONN_STATUS) != PM_CONN_LIVE || peer->peer != index)
		return PM_NULL;
	return peer;
}

/* The later of both directions' times counts. */
pm_inline int pm_expired(int family, const struct pm_conn *c, __u32 index, __u32 now)
{
	const struct pm_conn *peer;

	if (pm_likely(!pm_past(now, pm_read(c->expires))))
		return 0;
	peer = pm_peer(family, c, index);
	return !peer || pm_past(now, pm_read(peer->expires));
}

/*
 * dataplane.md §10.1: the overload flag changes when the count of connections reaches the upper
 * threshold, and when it falls below the lower one (three quarters of the upper if none is set).
 */
pm_inline void pm_bound(const struct pm_real *real, struct pm_live *live)
{
	if (pm_unlikely(real->upper) && live->active + live->inactive >= real->upper)
		pm_write(live->overloaded, 1);
}

pm_inline void pm_unbound(const struct pm_real *real, struct pm_live *live)
{
	__u32 total, lower;

	if (pm_likely(!pm_read(live->overloaded)))
		return;
	total = live->active + live->inactive;
	lower = real->lower ? real->lower : real->upper - real->upper / 4;
	if (total < lower && total < real->upper)
		pm_write(live->overloaded, 0);
}

pm_inline void pm_count(struct pm_live *live, int active, __s32 by)
{
	pm_add(active ? &live->active : &live->inactive, by);
}

/* Frees a line that this caller has claimed; settles the counts it stood for. */
pm_inline void pm_release(struct pm_conn *c)
{
	__u32 word = c->word;

	if (c->kind == PM_CONN_IN) {
		struct pm_real *real = pm_reals(c->real);
		struct pm_live *live = pm_live(c->real);

		if (real && live) {
			pm_count(live, pm_is_active(c->protocol, c->state), -1);
			pm_unbound(real, live);
		}
	}
	pm_publish(&c->word, (word & ~PM_CONN_STATUS) | PM_CONN_FREED);
}

pm_inline int pm_claim(struct pm_conn *c, __u32 word)
{
	return pm_swap(&c->word, word,
		       ((word & ~PM_CONN_STATUS) + PM_CONN_GENERATION) | PM_CONN_CLAIMED);
}

pm_inline void pm_forget_line(int family, __u32 index)
{
	struct pm_conn *c = pm_line(family, index), *peer;
	__u32 word;

	if (!c)
		return;
	word = pm_read(c->word);
	if ((word & PM_CONN_STATUS) != PM_CONN_LIVE)
		return;
	peer = pm_peer(family, c, index);
	if (!pm_claim(c, word))
		return;
	if (peer) {
		word = pm_read(peer->word);
		if ((word & PM_CONN_STATUS) == PM_CONN_LIVE && pm_claim(peer, word))
			pm_release(peer);
	}
	pm_release(c);
}

PM_PART int pm_forget4(__u32 index)
{
	pm_forget_line(4, index);
	return 0;
}

PM_PART int pm_forget6(__u32 index)
{
	pm_forget_line(6, index);
	return 0;
}

/* Takes a live connection, both lines, out of the table. Loses gracefully against another CPU. */
pm_inline void pm_forget(int family, __u32 index)
{
	if (family == 4)
		pm_forget4(index);
	else
		pm_forget6(index);
}

/*
 * What a look over the two sets of a key found. A line in use is claimed or live and not expired.
 */
struct pm_room {
	__u32 used1, used2; /* lines in use, by set */
	__u32 free1, free2; /* first line that may be taken, PM_NONE */
	__u32 victim;	    /* the half-open connection that ends soonest, PM_NONE */
};

pm_inline void pm_survey(int family, const struct pm_place *at, __u32 now, struct pm_room *room)
{
	__u32 victim_left = PM_NONE;

	room->used1 = room->used2 = 0;
	room->free1 = room->free2 = room->victim = PM_NONE;
	for (__u32 n = 0; n < PM_LINES; n++) {
		__u32 i = pm_nth(at, n), word;
		struct pm_conn *c = pm_line(family, i);
		int used = 1;

		if (!c)
			return;
		word = pm_read(c->word);
		if ((word & PM_CONN_STATUS) == PM_CONN_LIVE && !pm_expired(family, c, i, now)) {
			__u32 left = c->expires - now;

			if (c->kind == PM_CONN_IN && !(c->flags & PM_CONN_ASSURED) && left < victim_left) {
				room->victim = i;
				victim_left = left;
			}
		} else {
			used = (word & PM_CONN_STATUS) == PM_CONN_CLAIMED;
		}
		if (n < PM_WAYS) {
			room->used1 += used;
			if (!used && room->free1 == PM_NONE)
				room->free1 = i;
		} else {
			room->used2 += used;
			if (!used && room->free2 == PM_NONE)
				room->free2 = i;
		}
	}
}

/* Claims one line, after what stood in it is gone. 0 when somebody else was quicker. */
pm_inline int pm_take(int family, __u32 index)
{
	struct pm_conn *c = pm_line(family, index);
	__u32 word;

	if (!c)
		return 0;
	pm_forget(family, index);
	word = pm_read(c->word);
	return (word & PM_CONN_STATUS) < PM_CONN_CLAIMED && pm_claim(c, word);
}

/*
 * While the first set has room for a spare it is preferred, so that most hits are found there; then the
 * emptier one is. Simulated with half of all lines in use: both sets are full for 2 keys in 10,000.
 */
#define PM_WAYS_PREFERRED 3

pm_inline __u32 pm_claim_line(int family, const struct pm_place *at, __u32 now)
{
	struct pm_room room;
	__u32 first, second;

	if (!at)
		return PM_NONE;
	pm_survey(family, at, now, &room);
	first = room.free1;
	second = room.free2;
	if (room.used1 >= PM_WAYS_PREFERRED && room.used2 < room.used1) {
		first = room.free2;
		second = room.free1;
	}
	if (pm_take(family, first))
		return first;
	if (pm_take(family, second))
		return second;
	if (pm_take(family, room.victim))
		return room.victim;
	return PM_NONE;
}

PM_PART __u32 pm_claim4(const struct pm_place *at, __u32 now)
{
	return pm_claim_line(4, at, now);
}

PM_PART __u32 pm_claim6(const struct pm_place *at, __u32 now)
{
	return pm_claim_line(6, at, now);
}

/*
 * A line for a new key: the first that is free or expired, else the half-open one that ends soonest.
 * An assured connection (the client has answered) is never given up. The line is claimed; PM_NONE
 * when the sets are full.
 */
pm_inline __u32 pm_claim_at(int family, const struct pm_place *at, __u32 now)
{
	return family == 4 ? pm_claim4(at, now) : pm_claim6(at, now);
}

pm_inline void pm_change_state(int family, __u32 index, __u32 dir, __u32 tcp_flags, __u32 now)
{
	struct pm_conn *c = pm_line(family, index), *peer, *in;
	struct pm_settings *set = pm_settings(0);
	__u32 *box, old, new, expires;
	__u8 state, next;

	if (!c || !set)
		return;
	peer = pm_peer(family, c, index);
	in = c->kind == PM_CONN_IN ? c : peer;
	if (!in)
		return;
	/*
	 * The four bytes protocol, kind, method, state change as one word, so that of two packets on
	 * two CPUs only one moves the counts.
	 */
	box = (__u32 *)&in->protocol;
	old = pm_read(*box);
	state = old >> 24;
	next = pm_tcp_next(!!(set->flags & PM_SETTING_SECURE_TCP), dir, tcp_flags, state);
	new = (old & 0x00ffffff) | (__u32)next << 24;
	expires = now + set->timeouts[next & (PM_TIMEOUTS - 1)];
	if (state != next && pm_swap(box, old, new)) {
		int was = pm_is_active(PM_PROTO_TCP, state), is = pm_is_active(PM_PROTO_TCP, next);
		struct pm_live *live = pm_live(in->real);

		if (live && was != is) {
			pm_count(live, was, -1);
			pm_count(live, is, 1);
		}
	}
	pm_write(c->expires, expires);
	if (peer) {
		pm_write(peer->expires, expires);
		if (in == c)
			pm_write(peer->state, next);
		else
			pm_write(c->state, next);
	}
}

PM_PART int pm_change_state4(__u32 index, __u32 dir, __u32 tcp_flags, __u32 now)
{
	pm_change_state(4, index, dir, tcp_flags, now);
	return 0;
}

PM_PART int pm_change_state6(__u32 index, __u32 dir, __u32 tcp_flags, __u32 now)
{
	pm_change_state(6, index, dir, tcp_flags, now);
	return 0;
}

/*
 * Follows a packet in line `c`: new state, restarted timer. A NAT connection's state stands in both
 * lines, and the later of their timers counts, so that nearly every packet (an ACK of an established
 * connection, a datagram) touches only the line of its own direction.
 */
pm_inline void pm_follow(int family, const struct pm_settings *set, struct pm_conn *c, __u32 index,
			 enum pm_direction dir, __u8 tcp_flags, __u32 now)
{
	__u32 timeout = PM_TIMEOUT_UDP, expires;

	if (c->protocol == PM_PROTO_TCP) {
		if (pm_unlikely(c->state != PM_TCP_ESTABLISHED ||
				(tcp_flags & (PM_TCP_RST | PM_TCP_SYN | PM_TCP_FIN | PM_TCP_ACK)) !=
					PM_TCP_ACK)) {
			if (family == 4)
				pm_change_state4(index, dir, tcp_flags, now);
			else
				pm_change_state6(index, dir, tcp_flags, now);
			return;
		}
		timeout = PM_TCP_ESTABLISHED;
	}
	expires = now + set->timeouts[timeout];
	if (c->expires != expires)
		pm_write(c->expires, expires);
}

/* Counts a packet on its real server, in this CPU's record. */
pm_inline void pm_account(__u32 real, __u32 bytes, int reply)
{
	struct pm_counters *n = pm_counters(real * pm_limits.cpus + pm_cpu());

	if (!n)
		return;
	if (reply) {
		n->out_packets++;
		n->out_bytes += bytes;
	} else {
		n->in_packets++;
		n->in_bytes += bytes;
	}
}
