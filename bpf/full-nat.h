/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Full NAT: towards the real server the client's address and port are ones of ours, so that answers come back
 * whatever routes the real server has. Both are nothing but the key of the line for answers: that this line is there
 * is what reserves them. So there is nothing to be given back, and nothing to be lost with a process.
 */
#pragma once

#include "room.h"

/* No line that was claimed, beside those of room.h: no port that was tried is free. */
#define PM_NO_PORT (~3ull)
/* There is no address of the family. */
#define PM_NO_SOURCE (~4ull)
/* Whether pm_connect has made a connection. */
#define pm_is_connected(line) ((line) < PM_NO_SOURCE)

/*
 * Ports that are tried for a connection, each a look at two sets. With four fifths of all ports to a real server
 * taken 3 of 100 connections find none, with two thirds 2 of 1,000, with half of them 2 of 100,000.
 */
#define PM_PORT_TRIES 16

/* How many addresses of the family there are. */
pm_inline __u32 pm_full_nats(int family, const struct pm_settings *set)
{
	return pm_read(set->full_nat) >> (family == 4 ? 0 : PM_FULL_NAT_SHIFT) & PM_FULL_NAT_COUNT;
}

/* One of our addresses: 1 if there is one in this place, and it was read as a whole. */
pm_inline int pm_read_full_nat(__u32 index, struct pm_full_nat *seen)
{
	const struct pm_full_nat *from = pm_full_nat(index);
	__u32 version, any;

	if (!from)
		return 0;
	version = pm_glance(from->version);
	from = pm_after(from, version);
	any = *(pm_u32 *)&seen->first = pm_glance(*(const pm_u32 *)&from->first);
#pragma unroll
	for (int i = 0; i < 4; i++)
		any |= seen->addr[i] = pm_glance(from->addr[i]);
	return !(version & 1) && pm_glance(pm_after(from, any)->version) == version && seen->ports;
}

/* What names the real server's side of a connection: its index in reals in the high half, protocol and port. */
#define PM_WHICH_PROTOCOL_SHIFT 16

pm_inline __u64 pm_which(const struct pm_key *k, __u32 real, __be16 port)
{
	return (__u64)real << 32 | (__u32)k->protocol << PM_WHICH_PROTOCOL_SHIFT | port;
}

/*
 * The key of what a real server answers to a flow with this hash, by the n-th of the addresses and ports that it may
 * have: 0 if there is none just now. `from`: pm_which.
 */
pm_inline int pm_full_nat_key(int family, __u64 from, __u32 hash, __u32 n, struct pm_key *r)
{
	const struct pm_settings *set = pm_settings(0);
	const struct pm_real *real = pm_reals(from >> 32);
	struct pm_full_nat ours = {};
	__u32 which, count;

	if (!set || !real || !r)
		return 0;
	count = pm_full_nats(family, set);
	if (!count)
		return 0;
	/* An odd step, another one for each flow. */
	which = hash + n * ((hash * 0x9E3779B1u) >> 8 | 1);
	if (!pm_read_full_nat((family == 4 ? 0 : PM_FULL_NATS) + which % count, &ours))
		return 0;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (family == 6 || i == 0) {
			r->saddr[i] = ((const __be32 *)real->addr)[i];
			r->daddr[i] = ours.addr[i];
		}
	}
	r->protocol = from >> PM_WHICH_PROTOCOL_SHIFT;
	r->sport = from;
	r->dport = pm_htons(ours.first + which / count % (ours.ports ?: 1));
	return 1;
}

PM_PART int pm_full_nat_key4(__u64 from, __u32 hash, __u32 n, struct pm_key *r)
{
	return pm_full_nat_key(4, from, hash, n, r);
}

PM_PART int pm_full_nat_key6(__u64 from, __u32 hash, __u32 n, struct pm_key *r)
{
	return pm_full_nat_key(6, from, hash, n, r);
}

/*
 * A live line of this key, other than `except`, in one level of the table: index in the high half, word in the low;
 * PM_NO_LINE, which nobody knows before the level has been read.
 */
pm_inline __u64 pm_other_at(int family, const struct pm_place *at, const struct pm_key *r, __u32 level, __u32 except)
{
	__u32 none, any = 0;

	if (!at || !r)
		return PM_NO_LINE;
	for (__u32 n = 0; n < PM_LINES; n++) {
		__u32 i = pm_nth(family, at, level, n);
		struct pm_conn *c = pm_line(family, i);
		__u64 head;

		if (!c)
			return PM_NO_LINE;
		head = pm_head(c);
		any |= head;
		if (i != except && pm_is_live(head) && pm_same_key(family, pm_after(c, head), r))
			return (__u64)i << 32 | (__u32)head;
	}
	none = (__u32)(unsigned long)pm_after((__u8 *)(unsigned long)PM_NONE, any);
	return (__u64)none << 32 | none;
}

PM_PART __u64 pm_other_at4(const struct pm_place *at, const struct pm_key *r, __u32 level, __u32 except)
{
	return pm_other_at(4, at, r, level, except);
}

PM_PART __u64 pm_other_at6(const struct pm_place *at, const struct pm_key *r, __u32 level, __u32 except)
{
	return pm_other_at(6, at, r, level, except);
}

/* The same in all levels, for as long as lines are moved meanwhile (pm_search); PM_LINE_BUSY: nobody can tell. */
pm_inline __u64 pm_other(int family, const struct pm_place *at, const struct pm_key *r, __u32 except)
{
	struct pm_settings *set = pm_settings(0);

	if (!set || !at)
		return PM_NO_LINE;
	for (int n = 0; n < PM_SEARCHES; n++) {
		__u32 moves = pm_glance(set->moves);
		const struct pm_place *then = pm_after(at, moves);
		__u32 levels = pm_levels_in_use(pm_read(*pm_levels(family, set)));
		__u64 found, read = 0;

		for (__u32 level = 0; level < PM_LEVELS; level++) {
			if (!(levels >> level & 1))
				continue;
			found = family == 4 ? pm_other_at4(then, r, level, except) : pm_other_at6(then, r, level, except);
			read |= found;
			pm_opaque(read);
			if (found != PM_NO_LINE)
				return found;
		}
		if (pm_likely(pm_glance(pm_after(set, read)->moves) == moves))
			return PM_NO_LINE;
	}
	return PM_LINE_BUSY;
}

PM_PART __u64 pm_other4(const struct pm_place *at, const struct pm_key *r, __u32 except)
{
	return pm_other(4, at, r, except);
}

PM_PART __u64 pm_other6(const struct pm_place *at, const struct pm_key *r, __u32 except)
{
	return pm_other(6, at, r, except);
}

/* Whether the connection with this line for answers is over, and is not there any more. */
pm_inline int pm_gives_back(int family, __u64 line, __u32 now)
{
	struct pm_conn *c = pm_line(family, line >> 32);
	__u64 head;

	if (!c)
		return 0;
	head = pm_head(c);
	return pm_same_owner(head, line) && pm_over(family, c, line >> 32, head, now) &&
	       pm_end_over(family, c, line >> 32, head);
}

PM_PART int pm_gives_back4(__u64 line, __u32 now)
{
	return pm_gives_back(4, line, now);
}

PM_PART int pm_gives_back6(__u64 line, __u32 now)
{
	return pm_gives_back(6, line, now);
}

/*
 * Tries the n-th of the addresses and ports that a flow may have: its line, live, if a connection has it; PM_NO_LINE,
 * and `at` is where the line for answers may stand; PM_NO_PORT: there is none.
 * `which`: pm_which. A part: the verifier would follow it for each of them.
 */
pm_inline __u64 pm_try_port(int family, __u64 which, __u32 n, struct pm_place *at)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_key r = {};
	__u32 hash;

	if (!set || !at)
		return PM_NO_PORT;
	hash = at->hash;
	if (!(family == 4 ? pm_full_nat_key4(which, hash, n, &r) : pm_full_nat_key6(which, hash, n, &r)))
		return PM_NO_PORT;
	*at = pm_place(family, set, &r);
	at->hash = hash;
	at->nth = n;
	return family == 4 ? pm_other4(at, &r, PM_NONE) : pm_other6(at, &r, PM_NONE);
}

PM_PART __u64 pm_try_port4(__u64 which, __u32 n, struct pm_place *at)
{
	return pm_try_port(4, which, n, at);
}

PM_PART __u64 pm_try_port6(__u64 which, __u32 n, struct pm_place *at)
{
	return pm_try_port(6, which, n, at);
}

/*
 * An address and port that no connection to the real server has: PM_NO_LINE, and `at` is where the line for answers
 * may stand, its hash that of the flow, and `nth` says which of the flow's they are; PM_NO_PORT, PM_NO_SOURCE.
 */
pm_inline __u64 pm_find_port(int family, __u64 which, __u32 now, struct pm_place *at)
{
	const struct pm_settings *set = pm_settings(0);

	if (!set || !pm_full_nats(family, set))
		return PM_NO_SOURCE;
	for (__u32 n = 0; n < PM_PORT_TRIES; n++) {
		__u64 line = family == 4 ? pm_try_port4(which, n, at) : pm_try_port6(which, n, at);

		if (line == PM_NO_LINE)
			return line;
		if (line < PM_NO_SOURCE && (family == 4 ? pm_gives_back4(line, now) : pm_gives_back6(line, now)))
			return PM_NO_LINE;
	}
	return PM_NO_PORT;
}

PM_PART __u64 pm_find_port4(__u64 which, __u32 now, struct pm_place *at)
{
	return pm_find_port(4, which, now, at);
}

PM_PART __u64 pm_find_port6(__u64 which, __u32 now, struct pm_place *at)
{
	return pm_find_port(6, which, now, at);
}

/*
 * Whether a connection that has been made is the only one with its address and port: another CPU may have found the
 * same ones free. Of two that have made their lines live at least one sees the other's here, and gives way.
 */
pm_inline int pm_is_alone(int family, __u32 index)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_conn *c = pm_line(family, index);
	struct pm_key r = {};
	struct pm_place at;
	__u64 head;
	__u32 peer;

	if (!set || !c)
		return 0;
	peer = pm_glance(c->peer);
	c = pm_peer_as(family, index, peer, PM_CONN_REPLY, &head);
	if (!c)
		return 0;
	pm_line_key(family, pm_after(c, head), &r);
	at = pm_place(family, set, &r);
	return (family == 4 ? pm_other4(&at, &r, peer) : pm_other6(&at, &r, peer)) == PM_NO_LINE;
}

PM_PART int pm_is_alone4(__u32 index)
{
	return pm_is_alone(4, index);
}

PM_PART int pm_is_alone6(__u32 index)
{
	return pm_is_alone(6, index);
}

/* To be asked of every new connection of these traits: 0 if it is to be given up. */
pm_inline int pm_keeps_port(int family, __u8 traits, __u32 index)
{
	return pm_likely(pm_method_of(traits) != PM_METHOD_FULL_NAT) ||
	       (family == 4 ? pm_is_alone4(index) : pm_is_alone6(index));
}
