/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Making a connection: a line for the client's direction, and for NAT one for the replies. */
#pragma once

#include "send.h"

/* Fills a claimed line; the caller publishes it. */
pm_inline void pm_fill(int family, struct pm_conn *c, const struct pm_key *k, const __be32 *new_addr)
{
	c->sport = k->sport;
	c->dport = k->dport;
	c->protocol = k->protocol;
	c->mtu = 0;
	c->hop_epoch = 0;
	c->ifindex = 0;
	c->packets = 0;
	c->state = PM_TCP_NONE;
	if (family == 4) {
		struct pm_conn4 *l = (void *)c;

		l->saddr = k->saddr[0];
		l->daddr = k->daddr[0];
		l->new_addr = new_addr[0];
	} else {
		struct pm_conn6 *l = (void *)c;

		__builtin_memcpy(l->saddr, k->saddr, 16);
		__builtin_memcpy(l->daddr, k->daddr, 16);
		__builtin_memcpy(l->new_addr, new_addr, 16);
	}
}

pm_inline void pm_go_live(struct pm_conn *c)
{
	pm_publish(&c->word, (c->word & ~PM_CONN_STATUS) | PM_CONN_LIVE);
}

/* The connection exists: counted, and found by packets from now on. */
pm_inline void pm_begin(struct pm_conn *c)
{
	struct pm_counters *n = pm_counters(c->real * pm_limits.cpus + pm_cpu());
	struct pm_real *real = pm_reals(c->real);
	struct pm_live *live = pm_live(c->real);

	if (n)
		n->conns++;
	if (live && real) {
		pm_count(live, 0, 1);
		pm_bound(real, live);
	}
	pm_go_live(c);
}

/* The line of the client's direction; still claimed if a line for replies has to come. */
pm_inline __u32 pm_connect_client(int family, const struct pm_key *k, const struct pm_place *at,
				  __u32 real_index)
{
	struct pm_real *real = pm_reals(real_index);
	struct pm_settings *set = pm_settings(0);
	__u32 now = pm_now(), index;
	struct pm_conn *c;

	if (!real || !set || !k)
		return PM_NONE;
	index = pm_claim_at(family, at, now);
	c = pm_line(family, index);
	if (!c)
		return PM_NONE;
	pm_fill(family, c, k, (const __be32 *)real->addr);
	c->kind = PM_CONN_IN;
	c->method = real->method;
	c->real = real_index;
	c->peer = PM_NONE;
	c->new_port = real->port ? real->port : k->dport;
	c->flags = real->method == PM_METHOD_NAT ? 0 : PM_CONN_NO_OUTPUT;
	c->expires = now + set->timeouts[PM_TIMEOUT_INITIAL];
	if (real->method != PM_METHOD_NAT)
		pm_begin(c);
	return index;
}

PM_PART __u32 pm_connect_client4(const struct pm_key *k, const struct pm_place *at, __u32 real)
{
	return pm_connect_client(4, k, at, real);
}

PM_PART __u32 pm_connect_client6(const struct pm_key *k, const struct pm_place *at, __u32 real)
{
	return pm_connect_client(6, k, at, real);
}

/*
 * The line of a NAT connection's other direction, to the claimed line `index` of the client's. Gives
 * that up when there is no room; PM_NONE then.
 */
pm_inline __u32 pm_connect_reply(int family, const struct pm_key *k, __u32 index)
{
	struct pm_conn *c = pm_line(family, index), *peer;
	struct pm_settings *set = pm_settings(0);
	struct pm_key r = {};
	struct pm_place at;
	struct pm_real *real;
	__u32 found = 0;

	if (!c || !set || !k)
		return PM_NONE;
	real = pm_reals(c->real);
	if (!real)
		return PM_NONE;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (family == 6 || i == 0) {
			r.saddr[i] = ((const __be32 *)real->addr)[i];
			r.daddr[i] = k->saddr[i];
		}
	}
	r.sport = c->new_port;
	r.dport = k->sport;
	r.protocol = k->protocol;
	at = pm_place(family, set->hash_seed, &r);
	/*
	 * Two connections of one client port to one real server by different virtual addresses: replies
	 * belong to the newer one, as in IPVS.
	 */
	peer = pm_find(family, &at, &r, &found);
	if (peer) {
		if (peer->kind != PM_CONN_REPLY || !pm_claim(peer, pm_read(peer->word)))
			peer = PM_NULL;
	} else {
		found = pm_claim_at(family, &at, pm_now());
		peer = pm_line(family, found);
	}
	if (!peer) {
		pm_publish(&c->word, (c->word & ~PM_CONN_STATUS) | PM_CONN_FREED);
		return PM_NONE;
	}
	pm_fill(family, peer, &r, k->daddr);
	peer->kind = PM_CONN_REPLY;
	peer->method = PM_METHOD_NAT;
	peer->real = c->real;
	peer->peer = index;
	peer->new_port = k->dport;
	peer->flags = 0;
	peer->expires = c->expires;
	c->peer = found;
	pm_go_live(peer);
	pm_begin(c);
	return index;
}

PM_PART __u32 pm_connect_reply4(const struct pm_key *k, __u32 index)
{
	return pm_connect_reply(4, k, index);
}

PM_PART __u32 pm_connect_reply6(const struct pm_key *k, __u32 index)
{
	return pm_connect_reply(6, k, index);
}

/* A new connection of this key to that real server: its line, PM_NONE when the table has no room. */
pm_inline __u32 pm_connect(int family, const struct pm_flow *flow, __u32 real_index, const struct pm_real *real)
{
	const struct pm_key *k = &flow->p.key;
	__u32 index = family == 4 ? pm_connect_client4(k, &flow->at, real_index) :
				    pm_connect_client6(k, &flow->at, real_index);

	if (index == PM_NONE || real->method != PM_METHOD_NAT)
		return index;
	return family == 4 ? pm_connect_reply4(k, index) : pm_connect_reply6(k, index);
}
