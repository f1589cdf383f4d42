/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Making a connection: a line for the client's direction, and for NAT one for the replies. */
#pragma once

#include "claim.h"
#include "full-nat.h"
#include "send.h"

/* Fills a claimed line. */
pm_inline void pm_fill(int family, struct pm_conn *c, const struct pm_key *k, __u8 traits)
{
	c->sport = k->sport;
	c->dport = k->dport;
	c->protocol = k->protocol;
	c->traits = traits;
	c->neighbour = 0;
	if (family == 4) {
		struct pm_conn4 *l = (void *)c;

		l->saddr = k->saddr[0];
		l->daddr = k->daddr[0];
	} else {
		struct pm_conn6 *l = (void *)c;

		__builtin_memcpy(l->saddr, k->saddr, 16);
		__builtin_memcpy(l->daddr, k->daddr, 16);
	}
}

/* Fills the claimed line of the client's direction. */
pm_inline void pm_fill_client(int family, const struct pm_key *k, __u32 index, __u32 real, __u8 traits)
{
	struct pm_conn *c = pm_line(family, index);

	if (!c || !k)
		return;
	pm_fill(family, c, k, traits);
	c->real = real;
	c->peer = PM_NONE;
}

PM_PART int pm_fill_client4(const struct pm_key *k, __u32 index, __u32 real, __u32 traits)
{
	pm_fill_client(4, k, index, real, traits);
	return 0;
}

PM_PART int pm_fill_client6(const struct pm_key *k, __u32 index, __u32 real, __u32 traits)
{
	pm_fill_client(6, k, index, real, traits);
	return 0;
}

/* The key of what a NAT real server answers to packets of `k`. */
pm_inline void pm_reply_key(int family, const struct pm_key *k, const struct pm_real *real, __be16 port,
			    struct pm_key *r)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (family == 6 || i == 0) {
			r->saddr[i] = ((const __be32 *)real->addr)[i];
			r->daddr[i] = k->saddr[i];
		}
	}
	r->sport = port;
	r->dport = k->sport;
	r->protocol = k->protocol;
}

/*
 * Where the line of a NAT connection's other direction may stand: into `at`, whose hash stays that of the
 * flow. If there is one of this key already, it is claimed and returned: two connections of one client port to
 * one real server by different virtual addresses, and replies belong to the newer one, as in IPVS. PM_NO_PORT: full
 * NAT has it for a client.
 */
pm_inline __u64 pm_seek_reply(int family, const struct pm_key *k, __u32 real_index, __u16 port, __u32 now,
			      struct pm_place *at)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_real *real = pm_reals(real_index);
	struct pm_key r = {};
	__u32 found = 0, hash;
	struct pm_conn *c;
	__u64 head, line;
	__u8 traits;

	if (!set || !real || !k || !at)
		return PM_NO_LINE;
	pm_reply_key(family, k, real, port, &r);
	hash = at->hash;
	*at = pm_place(family, set, &r);
	at->hash = hash;
	c = pm_find(family, set, at, &r, &found, &head);
	if (!c)
		return PM_NO_LINE;
	traits = pm_glance(pm_after(c, head)->traits);
	if (pm_kind_of(traits) != PM_CONN_REPLY)
		return PM_NO_LINE;
	/* A socket of this host has asked for a port that full NAT gives away: without answers the other could not go on. */
	if (pm_method_of(traits) == PM_METHOD_FULL_NAT)
		return PM_NO_PORT;
	for (int n = 0; n < PM_TRIES; n++) {
		__u64 again;

		line = pm_claimed(head, now);
		if (!((__u32)head & PM_CONN_HELD) && pm_swap_head(c, head, line))
			return (__u64)found << 32 | (__u32)line;
		again = pm_head(c);
		if (!pm_same_owner(again, head))
			break;
		head = again;
	}
	return PM_LINE_BUSY;
}

PM_PART __u64 pm_seek_reply4(const struct pm_key *k, __u64 which, __u32 now, struct pm_place *at)
{
	return pm_seek_reply(4, k, which >> 32, which, now, at);
}

PM_PART __u64 pm_seek_reply6(const struct pm_key *k, __u64 which, __u32 now, struct pm_place *at)
{
	return pm_seek_reply(6, k, which >> 32, which, now, at);
}

/*
 * Fills the claimed line for replies to line `index` of the client's, which is claimed too, where `at` is; 0 if it
 * cannot be: the addresses of full NAT have changed since one was found, and the line would be in the wrong place.
 */
pm_inline int pm_fill_reply(int family, const struct pm_key *k, __u32 index, __u32 reply, const struct pm_place *at)
{
	struct pm_conn *c = pm_line(family, index), *peer = pm_line(family, reply);
	struct pm_settings *set = pm_settings(0);
	struct pm_key r = {};
	struct pm_real *real;
	__u32 method;
	__u8 flags;

	if (!c || !peer || !k || !set || !at)
		return 0;
	real = pm_reals(c->real);
	if (!real)
		return 0;
	method = pm_method_of(c->traits);
	flags = c->traits & PM_CONN_OTHER_PORT;
	if (pm_unlikely(method == PM_METHOD_FULL_NAT)) {
		__u64 which = pm_which(k, c->real, pm_real_port(real, k, c->traits));
		struct pm_place now;

		if (!(family == 4 ? pm_full_nat_key4(which, at->hash, at->nth, &r) :
				    pm_full_nat_key6(which, at->hash, at->nth, &r)))
			return 0;
		now = pm_place(family, set, &r);
		if (now.set[0] != at->set[0] || now.set[1] != at->set[1])
			return 0;
		flags = PM_CONN_OTHER_PORT;
	} else {
		pm_reply_key(family, k, real, pm_real_port(real, k, c->traits), &r);
	}
	pm_fill(family, peer, &r, pm_traits(PM_CONN_REPLY, method, flags));
	peer->real = c->real;
	peer->peer = index;
	c->peer = reply;
	return 1;
}

PM_PART int pm_fill_reply4(const struct pm_key *k, __u32 index, __u32 reply, const struct pm_place *at)
{
	return pm_fill_reply(4, k, index, reply, at);
}

PM_PART int pm_fill_reply6(const struct pm_key *k, __u32 index, __u32 reply, const struct pm_place *at)
{
	return pm_fill_reply(6, k, index, reply, at);
}

/* Gives back a line that was claimed at this time. */
pm_inline void pm_free_line(int family, __u64 line, __u32 now)
{
	struct pm_conn *c = pm_line(family, line >> 32);

	if (c)
		pm_free(c, pm_head_of(line, now));
}

/* The line for replies to line `index` of the client's, which is claimed; the flow's place is used up by it. */
pm_inline __u64 pm_connect_reply(int family, struct pm_flow *flow, __u32 index, const struct pm_conn *c)
{
	const struct pm_key *k = &flow->p.key;
	const struct pm_real *real = pm_reals(c->real);
	__u64 which, line;

	if (!real)
		return PM_NO_LINE;
	which = pm_which(k, c->real, pm_real_port(real, k, c->traits));
	if (pm_unlikely(pm_method_of(c->traits) == PM_METHOD_FULL_NAT))
		line = family == 4 ? pm_find_port4(which, flow->now, &flow->at) :
				     pm_find_port6(which, flow->now, &flow->at);
	else
		line = family == 4 ? pm_seek_reply4(k, which, flow->now, &flow->at) :
				     pm_seek_reply6(k, which, flow->now, &flow->at);
	if (line == PM_NO_LINE)
		line = pm_claim(family, &flow->at, flow->now, 1);
	if (!pm_is_connected(line))
		return line;
	if (family == 4 ? pm_fill_reply4(k, index, line >> 32, &flow->at) :
			  pm_fill_reply6(k, index, line >> 32, &flow->at))
		return line;
	pm_free_line(family, line, flow->now);
	return PM_LINE_BUSY;
}

/* Whether the line for replies would find a place, so that nobody gives way for half a connection. */
pm_inline int pm_reply_has_room(int family, const struct pm_key *k, __u32 real_index, __be16 port, __u32 now)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_real *real = pm_reals(real_index);
	struct pm_key r = {};
	struct pm_place at;

	if (!set || !real || !k)
		return 0;
	pm_reply_key(family, k, real, port, &r);
	at = pm_place(family, set, &r);
	return pm_has_room(family, &at, now);
}

PM_PART int pm_reply_has_room4(const struct pm_key *k, __u32 real_index, __u32 port, __u32 now)
{
	return pm_reply_has_room(4, k, real_index, port, now);
}

PM_PART int pm_reply_has_room6(const struct pm_key *k, __u32 real_index, __u32 port, __u32 now)
{
	return pm_reply_has_room(6, k, real_index, port, now);
}

/*
 * The same of full NAT, whose line's place is known (pm_find_port). `at` is the place of `k`, the flow's key, again
 * afterwards: the stack has no room for both.
 */
pm_inline int pm_port_has_room(int family, const struct pm_key *k, struct pm_place *at, __u32 now)
{
	struct pm_settings *set = pm_settings(0);
	int room;

	if (!set || !k || !at)
		return 0;
	room = pm_has_room(family, at, now);
	*at = pm_place(family, set, k);
	return room;
}

PM_PART int pm_port_has_room4(const struct pm_key *k, struct pm_place *at, __u32 now)
{
	return pm_port_has_room(4, k, at, now);
}

PM_PART int pm_port_has_room6(const struct pm_key *k, struct pm_place *at, __u32 now)
{
	return pm_port_has_room(6, k, at, now);
}

/*
 * By which method connections to a real server begin: once, since the daemon may edit the record meanwhile. One that is
 * this host answers by no network, and its answers are found whomever they are for (outgoing.h).
 */
pm_inline __u32 pm_method_to(const struct pm_real *real)
{
	__u32 method = pm_read(real->method);

	return pm_unlikely(method == PM_METHOD_FULL_NAT) && (pm_read(real->flags) & PM_REAL_LOCAL) ? PM_METHOD_NAT : method;
}

/* Publishes a claimed line; 0 if somebody has taken it for abandoned meanwhile. */
pm_inline int pm_go_live(struct pm_conn *c, __u32 claimed, __u32 now, __u64 live)
{
	return pm_swap_head(c, pm_head_of(claimed, now), live);
}

/* For pm_connect, beside enum pm_conn_flag: no packet of the connection has been seen, only an error about one. */
#define PM_CONNECT_UNSEEN 0x100u
/* The client is this host: answers go to its sockets, whatever routes say. */
#define PM_CONNECT_OWN 0x200u
/* The service is tracked just enough, and this is what its tables say (untracked.h). */
#define PM_CONNECT_JUDGED 0x400u
/* Beside that: no line is wanted, the packet goes without one. */
#define PM_CONNECT_ALONE 0x800u
/* How a connection begins: its first packet's flags of TCP, the above, and the line's traits. */
#define PM_BIRTH_TRAITS_SHIFT 16

/*
 * The claimed lines become a connection: counted, and found by packets from now on. It begins in the state
 * that its first packet leads to. The client's line comes first: one for replies is never without it.
 */
pm_inline __u64 pm_begin(int family, __u64 line, __u64 reply, __u32 birth, __u32 now)
{
	struct pm_conn *c = pm_line(family, line >> 32), *peer = pm_line(family, reply >> 32);
	__u32 index = line >> 32, word = line, bits, real, row, template, class;
	struct pm_settings *set = pm_settings(0);
	struct pm_counters *n;
	__u64 live, copy;
	int known;

	if (!c || !set)
		return PM_NO_LINE;
	real = c->real;
	bits = pm_translates(pm_method_of(c->traits)) ? 0 : PM_CONN_INPUT_ONLY;
	live = pm_head_of(pm_live_word(word, PM_TCP_NONE, PM_CONN_NEW, bits), now);
	if (birth & PM_CONNECT_UNSEEN)
		live += (__u64)set->timeouts[PM_TIMEOUT_INITIAL] << 32;
	else
		live = pm_next_head(set, c->protocol, live, PM_DIR_IN, birth, now);
	/* One that has been there all along, and only now needs a line, is no newcomer. */
	known = (birth & PM_CONNECT_JUDGED) && !(birth & PM_TCP_SYN);
	class = known ? PM_CONN_RETURNED : PM_CONN_NEW;
	live = pm_head_of(((__u32)live & ~(PM_CONN_CLASS_MASK << PM_CONN_CLASS_SHIFT)) | class << PM_CONN_CLASS_SHIFT,
			  pm_until(live));
	copy = pm_head_of(pm_live_word(reply, pm_state(live), PM_CONN_NEW, 0), pm_until(live));
	template = pm_assured_by(family, c, index, 0, live, PM_DIR_IN);
	pm_settle(real, word, live);
	if (!pm_go_live(c, word, now, live)) {
		pm_settle(real, live, word);
		if (peer)
			pm_free(peer, pm_head_of(reply, now));
		return PM_NO_LINE;
	}
	if (pm_unlikely(template != PM_NONE))
		(void)(family == 4 ? pm_assure4(template) : pm_assure6(template));
	row = pm_cpu();
	n = pm_counters(real * pm_limits.cpus + row);
	if (n && !known)
		pm_count(row, &n->conns, 1);
	if (peer) {
		if (!pm_go_live(peer, reply, now, copy))
			pm_end(family, index, live);
		else if (!pm_same_owner(pm_head(c), live))
			pm_end(family, reply >> 32, copy); /* it had to give way already */
	}
	return (__u64)index << 32 | (__u32)live;
}

PM_PART __u64 pm_begin4(__u64 line, __u64 reply, __u32 birth, __u32 now)
{
	return pm_begin(4, line, reply, birth, now);
}

PM_PART __u64 pm_begin6(__u64 line, __u64 reply, __u32 birth, __u32 now)
{
	return pm_begin(6, line, reply, birth, now);
}

/* The same of a connection of one line, which is filled here, too: a call less for every one of them. */
PM_PART __u64 pm_begin_alone4(const struct pm_key *k, __u64 line, __u32 real, __u32 birth, __u32 now)
{
	pm_fill_client(4, k, line >> 32, real, birth >> PM_BIRTH_TRAITS_SHIFT);
	return pm_begin(4, line, PM_NO_LINE, birth, now);
}

PM_PART __u64 pm_begin_alone6(const struct pm_key *k, __u64 line, __u32 real, __u32 birth, __u32 now)
{
	pm_fill_client(6, k, line >> 32, real, birth >> PM_BIRTH_TRAITS_SHIFT);
	return pm_begin(6, line, PM_NO_LINE, birth, now);
}

/* What a new connection is to be. */
struct pm_plan {
	__u32 real;	/* index in reals */
	__u32 template; /* the line that has counted it, PM_NONE */
	__u32 flags;	/* enum pm_conn_flag, PM_CONNECT_UNSEEN */
	__be16 port;	/* of the real server */
	__u16 pad;
};

/* What becomes of a packet that has got no connection. */
pm_inline enum pm_verdict pm_not_connected(__u64 line)
{
	if (line == PM_NO_PORT)
		return PM_DROP_PORTS_TAKEN;
	/* A rule that is kept, and no more. */
	if (line == PM_NO_SOURCE)
		return PM_PASS_UNSUPPORTED;
	return line == PM_LINE_BUSY ? PM_DROP_CONNECTION_BUSY : PM_DROP_TABLE_FULL;
}

/* The claimed line for answers leads to the sockets of this host. */
pm_inline void pm_lead_home(int family, __u32 reply)
{
	struct pm_conn *c = pm_line(family, reply);

	if (c)
		c->neighbour = PM_NEIGHBOUR_OWN;
}

/*
 * A new connection of this flow's key: its line and word; PM_NO_LINE when the table has no room, PM_LINE_BUSY,
 * PM_NO_PORT, PM_NO_SOURCE.
 */
pm_inline __u64 pm_connect(int family, struct pm_flow *flow, const struct pm_plan *plan)
{
	const struct pm_key *k = &flow->p.key;
	__u32 now = flow->now, index = plan->real, method, birth;
	const struct pm_real *real = pm_reals(index);
	__u64 line, reply;
	struct pm_conn *c;
	__u8 traits;

	if (!real)
		return PM_NO_LINE;
	method = pm_method_to(real);
	traits = pm_traits(PM_CONN_IN, method, plan->flags);
	line = pm_claim(family, &flow->at, now, 0);
	if (pm_unlikely(line == PM_ONLY_BY_FORCE)) {
		if (method == PM_METHOD_NAT && !(family == 4 ? pm_reply_has_room4(k, index, plan->port, now) :
							       pm_reply_has_room6(k, index, plan->port, now)))
			return PM_NO_LINE;
		if (method == PM_METHOD_FULL_NAT) {
			line = family == 4 ? pm_find_port4(pm_which(k, index, plan->port), now, &flow->at) :
					     pm_find_port6(pm_which(k, index, plan->port), now, &flow->at);
			if (line != PM_NO_LINE)
				return line;
			if (!(family == 4 ? pm_port_has_room4(k, &flow->at, now) : pm_port_has_room6(k, &flow->at, now)))
				return PM_NO_LINE;
		}
		line = pm_claim(family, &flow->at, now, 1);
	}
	c = pm_line(family, line >> 32);
	if (!c)
		return PM_NO_LINE;
	if (plan->flags & PM_CONN_CONTROLLED)
		pm_set_control(family, line >> 32, plan->template);
	birth = flow->p.tcp_flags | (plan->flags & (PM_CONNECT_UNSEEN | PM_CONNECT_JUDGED)) | (__u32)traits << PM_BIRTH_TRAITS_SHIFT;
	if (!pm_translates(method))
		return family == 4 ? pm_begin_alone4(k, line, index, birth, now) :
				     pm_begin_alone6(k, line, index, birth, now);
	if (family == 4)
		pm_fill_client4(k, line >> 32, index, traits);
	else
		pm_fill_client6(k, line >> 32, index, traits);
	reply = pm_connect_reply(family, flow, line >> 32, c);
	if (!pm_is_connected(reply)) {
		pm_free(c, pm_head_of(line, now));
		return reply;
	}
	if (plan->flags & PM_CONNECT_OWN)
		pm_lead_home(family, reply >> 32);
	return family == 4 ? pm_begin4(line, reply, birth, now) : pm_begin6(line, reply, birth, now);
}
