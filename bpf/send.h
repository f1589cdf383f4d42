/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A packet of the client on its way to the real server: the next hop, the limits of the path, the headers
 * of the forwarding method; or the error that says why not.
 */
#pragma once

#include "own.h"

/* A packet on its way through the stages. */
struct pm_flow {
	struct pm_packet p;
	struct pm_settings *set;
	struct pm_place at; /* of p.key */
	__u32 now;
	__u32 index; /* of the line */
	struct pm_seen seen; /* what stands there */
};

/* Bytes that must fit the path: a super-packet is cut into segments later. */
pm_inline __u32 pm_wire_length(const struct pm_frame *f, const struct pm_packet *p)
{
	__u32 segment = pm_segment(f, p);

	return segment ? segment : p->ip_length;
}

/*
 * An error about a packet of this connection. With DR and TUN it counts as an answer of the service:
 * IPVS sees it leave, and what it quotes went to the virtual address (NAT would have to quote the real
 * server's). Where there is no real server the error's source would be a foreign address.
 */
pm_inline enum pm_verdict pm_refuse(struct pm_frame *f, int family, const struct pm_flow *flow,
				    const struct pm_conn *c, enum pm_verdict why, __u32 mtu)
{
	enum pm_verdict v;
	__u32 max = family == 4 ? PM_ICMP_MAX : PM_ICMPV6_MAX;
	__u32 length = flow->p.ip_length + (family == 4 ? PM_IPV4_LEN : PM_IPV6_LEN) + PM_ICMP_LEN;
	const struct pm_real *real = pm_reals(c->real);

	if (real && (real->flags & PM_REAL_BYPASS))
		return PM_DROP_NO_ROUTE;
	/* RFC 1122 §3.2.2: of a datagram its first fragment is answered. */
	if (flow->p.key.part == PM_PART_LATER)
		return PM_DROP_FRAGMENT_ALONE;
	v = pm_answer(f, family, flow->p.ip_length, why, mtu, flow->now);
	if (v == why && !pm_translates(pm_method_of(c->traits)))
		pm_account(c->real, length < max ? length : max, 1);
	return v;
}

/* Whether the packet has the real server's address and port already. */
pm_inline int pm_is_for(const struct pm_packet *p, int family, const struct pm_real *real, __be16 port)
{
	const __be32 *addr = (const __be32 *)real->addr;
	__be32 differs = addr[0] ^ p->key.daddr[0];

	if (family == 6)
		differs |= (addr[1] ^ p->key.daddr[1]) | (addr[2] ^ p->key.daddr[2]) | (addr[3] ^ p->key.daddr[3]);
	return !differs && port == p->key.dport;
}

/* Client to real server, connection known: the next hop, the limits, the method's headers. */
pm_inline enum pm_verdict pm_send_in(struct pm_frame *f, int family, struct pm_flow *flow,
				     const struct pm_real *real)
{
	struct pm_conn *c = &flow->seen.c;
	struct pm_packet *p = &flow->p;
	__u32 epoch = pm_epoch(flow->set, flow->now), method = pm_method_of(c->traits);
	int stack_only = 0, local = 0;
	__u32 limit;

	if (pm_unlikely(!pm_hop_in(flow->set, &flow->seen, epoch, flow->now))) {
		switch (pm_route(f->host, family, &flow->seen, &p->key, flow->index, epoch)) {
		case PM_FIB_OK:
			break;
		case PM_FIB_STACK_ONLY:
			stack_only = 1;
			break;
		case PM_FIB_NO_NEIGHBOUR:
			if (pm_host_resolves(f, &flow->seen.hop))
				break;
			return PM_DROP_NEXT_HOP_UNRESOLVED;
		case PM_FIB_FORWARDING_OFF:
			return PM_DROP_FORWARDING_OFF;
		case PM_FIB_LOCAL:
			/* Its answers would go to the stack itself, which knows nothing of the connection. */
			if (method == PM_METHOD_FULL_NAT)
				return PM_PASS_UNSUPPORTED;
			if (method != PM_METHOD_NAT || pm_is_for(p, family, real, pm_real_port(real, &p->key, c->traits)))
				return PM_PASS_LOCAL_NODE;
			/* 127/8 must not be reached from outside (RFC 1122 §3.2.1.3). */
			if (family == 4 && real->addr[0] == 127)
				return PM_DROP_NO_ROUTE;
			/* Where nobody sees what local sockets send, nobody would translate the answer back. */
			if (!(flow->set->flags & PM_SETTING_ANSWERS))
				return PM_PASS_UNSUPPORTED;
			stack_only = local = 1;
			break;
		default:
			return pm_refuse(f, family, flow, c, PM_ANSWER_HOST_UNREACHABLE, 0);
		}
	}
	/* A packet that has arrived needs no time to live any more. */
	if (pm_unlikely(p->ttl <= 1) && !local)
		return pm_refuse(f, family, flow, c, PM_ANSWER_TIME_EXCEEDED, 0);
	limit = pm_path_limit(flow->set, &flow->seen, real, flow->now);
	if (pm_unlikely(!stack_only && pm_wire_length(f, p) > limit)) {
		if (method == PM_METHOD_TUN && limit < pm_tunnel_limit_min(real))
			return PM_DROP_NO_ROUTE;
		if (pm_unfragmentable(f, family) &&
		    !(method == PM_METHOD_TUN && family == 4 && (flow->set->flags & PM_SETTING_NO_PMTU_DISC))) {
			/* The quote shows the TTL already taken down. Do that only once the whole packet is here. */
			if (pm_reach(f) < f->length)
				return PM_WANT_PAYLOAD;
			if (pm_decrement_ttl(f, family))
				return PM_DROP_MAP;
			return pm_refuse(f, family, flow, c, PM_ANSWER_TOO_BIG,
					 pm_own_limit(flow->set, family, f->ifindex, limit));
		}
		if (!pm_host_cuts(f, limit + (method == PM_METHOD_TUN ? pm_tunnel_overhead(real) : 0))) {
			if (method != PM_METHOD_NAT)
				return pm_uncut(f, flow->set, flow->index);
			/* What goes to another address the stack forwards, and fragments. */
			stack_only = 1;
		}
	}
	if (method == PM_METHOD_TUN && pm_tunnel_sums(real) && pm_reach(f) < PM_ETH_LEN + p->ip_length)
		return PM_WANT_PAYLOAD;
	if (method != PM_METHOD_TUN)
		pm_cut_padding(f, p, PM_ETH_MIN);
	if (!pm_translates(method)) {
		enum pm_verdict v = pm_own_source(f, family, flow->set, p, c->real);

		if (pm_unlikely(v != PM_CONTINUE))
			return v;
	}
	switch (method) {
	case PM_METHOD_NAT: {
		struct pm_nat nat = { .addr = (const __be32 *)real->addr, .port = pm_real_port(real, &p->key, c->traits),
				      .decrement = 1 };
		enum pm_verdict v;

		if (pm_unlikely(stack_only || !pm_host_takes(f->host, flow->seen.hop.ifindex))) {
			v = pm_hand_over(f, p, family, &nat);
			return local && v == PM_PASS_EGRESS ? PM_PASS_LOCAL_NODE : v;
		}
		v = pm_translate(f, p, family, &nat);
		if (v != PM_CONTINUE)
			return v;
		return pm_address_frame(f, &flow->seen.hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ?
			       PM_DROP_MAP :
			       PM_FORWARD_NAT;
	}
	case PM_METHOD_FULL_NAT: {
		enum pm_verdict v;

		stack_only |= !pm_host_takes(f->host, flow->seen.hop.ifindex);
		/* By IPv4 the stack takes no packet from outside whose source is an address of its own. */
		if (family == 4 && stack_only)
			return PM_DROP_EGRESS;
		v = pm_exchange_ends(f, family, p, flow->index, c, !stack_only);
		if (v != PM_CONTINUE)
			return v;
		if (stack_only)
			return PM_PASS_EGRESS;
		return pm_address_frame(f, &flow->seen.hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ?
			       PM_DROP_MAP :
			       PM_FORWARD_NAT;
	}
	case PM_METHOD_DR:
		if (pm_decrement_ttl(f, family) ||
		    pm_address_frame(f, &flow->seen.hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6))
			return PM_DROP_MAP;
		return PM_FORWARD_DR;
	case PM_METHOD_TUN:
		pm_cut_padding(f, p, 0);
		if (pm_decrement_ttl(f, family))
			return PM_DROP_MAP;
		return pm_encapsulate(f, p, family, flow->set, real, &flow->seen, flow->at.hash);
	default:
		return PM_PASS_UNSUPPORTED;
	}
}

/* The same, and the end of a connection that was for one datagram only (dataplane.md §3.4). */
pm_inline enum pm_verdict pm_send(struct pm_frame *f, int family, struct pm_flow *flow, const struct pm_real *real)
{
	enum pm_verdict v = pm_send_in(f, family, flow, real);

	if (pm_unlikely(flow->seen.c.traits & PM_CONN_ONE_PACKET) && v != PM_WANT_PAYLOAD && v != PM_WANT_CUT)
		pm_forget(family, flow->index, flow->seen.c.word);
	return v;
}
