/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ICMP errors that others send about packets of a connection (dataplane.md §8). The quoted packet
 * names the connection, with the directions reversed: an error from the clients' side quotes an answer
 * (virtual address to client) and goes to the real server; one from a NAT real server's side quotes a
 * request (client to real server) and goes to the client. Queries, and errors about anything else, are
 * the stack's.
 */
#pragma once

#include "exchange.h"
#include "path.h"

#define PM_ICMP_SOURCE_QUENCH 4
#define PM_ICMPV6_INFO 128 /* RFC 4443 §2.1: error types are below */

/* Offsets in the frame: of the ICMP header, the quoted IP header, the quoted ports. */
struct pm_quote {
	__u32 icmp;
	__u32 ip;
	__u32 ports;
	__u32 handed_over; /* 1: the stack forwards the error, and takes one off its TTL itself */
};

pm_inline int pm_is_error(int family, __u8 type)
{
	if (family == 6)
		return type && type < PM_ICMPV6_INFO;
	return type == PM_ICMP_UNREACHABLE || type == PM_ICMP_SOURCE_QUENCH || type == PM_ICMP_TIME_EXCEEDED;
}

#define PM_NO_ERROR (~0ull)

/*
 * What an error is about, found by one function and used by another: the line in the low half; in the high half
 * the offset of the quoted ports, or packet, and above it the line's generation, since it may have another owner
 * by then.
 */
#define PM_ERROR_OWNER_SHIFT 16

pm_inline __u64 pm_found_error(__u32 offset, __u32 index, __u32 word)
{
	__u32 owner = (word & PM_CONN_GENERATIONS) / PM_CONN_GENERATION;

	return (__u64)(owner << PM_ERROR_OWNER_SHIFT | offset) << 32 | index;
}

pm_inline __u32 pm_error_offset(__u32 where)
{
	return where & ((1u << PM_ERROR_OWNER_SHIFT) - 1);
}

/* Whether the line is still that of whom the error is about. */
pm_inline int pm_error_owner(__u32 where, __u64 head)
{
	__u32 owner = ((__u32)head & PM_CONN_GENERATIONS) / PM_CONN_GENERATION;

	return pm_is_live(head) && owner == where >> PM_ERROR_OWNER_SHIFT;
}

/*
 * Whether the error came to who sent the quoted packet (`k` is that of packets to it): to the virtual address, or
 * to the client. One to anybody else is not about us.
 */
pm_inline int pm_error_is_for(struct pm_frame *f, int family, const struct pm_key *k)
{
	const __be32 *to;

	if (f->data + PM_ETH_LEN + PM_IPV6_LEN > f->end)
		return 0;
	if (family == 4)
		return ((struct pm_ipv4 *)(f->data + PM_ETH_LEN))->daddr == k->daddr[0];
	to = ((struct pm_ipv6 *)(f->data + PM_ETH_LEN))->daddr;
	return to[0] == k->daddr[0] && to[1] == k->daddr[1] && to[2] == k->daddr[2] && to[3] == k->daddr[3];
}

/*
 * The connection that an error is about, and where its ports are (pm_found_error); PM_NO_ERROR if there is
 * none. `icmp` is the offset of the ICMP header, `end` that of the packet's end.
 */
pm_inline __u64 pm_find_error(PM_HOST *host, int family, __u32 icmp, __u32 end)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_settings *set = pm_settings(0);
	__u32 ports, index = 0;
	struct pm_key k = {};
	struct pm_place at;
	struct pm_conn *c;
	__u64 line;

	ports = family == 4 ? pm_read_quote4(host, icmp + PM_ICMP_LEN, end, &k) :
			      pm_read_quote6(host, icmp + PM_ICMP_LEN, end, &k);
	if (!set || !ports)
		return PM_NO_ERROR;
	pm_reverse_key(&k);
	if (!pm_error_is_for(&f, family, &k))
		return PM_NO_ERROR;
	at = pm_place(family, set, &k);
	c = pm_find(family, set, &at, &k, &index, &line);
	if (!c || pm_over(family, c, index, line, pm_now()))
		return PM_NO_ERROR;
	return pm_found_error(ports, index, line);
}

PM_PART __u64 pm_find_error4(PM_HOST *host, __u32 icmp, __u32 end)
{
	return pm_find_error(host, 4, icmp, end);
}

PM_PART __u64 pm_find_error6(PM_HOST *host, __u32 icmp, __u32 end)
{
	return pm_find_error(host, 6, icmp, end);
}

/*
 * NAT in an error: the outer address on our side, and the quoted address and port of that side. The
 * quoted transport checksum stays as it is. `reply`: from a real server, to a client.
 */
pm_inline enum pm_verdict pm_translate_error(struct pm_frame *f, int family, const struct pm_quote *q,
					     const __be32 *to, __be16 port, int reply)
{
	__u64 icmp_change = 0;
	struct pm_icmp *icmp;
	__be16 *ports;

	ports = pm_at_offset(f, q->ports, 4);
	if (!ports)
		return PM_DROP_MAP;
	ports += reply;
	icmp_change += pm_change16(*ports, port);
	*ports = port;
	if (family == 4) {
		struct pm_ipv4 *outer = (void *)(f->data + PM_ETH_LEN), *inner;
		__be32 quoted, mine;
		__be16 *word, was;

		inner = pm_at_offset(f, q->ip, PM_IPV4_LEN);
		if (!inner || (__u8 *)(outer + 1) > f->end)
			return PM_DROP_MAP;
		quoted = reply ? inner->daddr : inner->saddr;
		mine = reply ? outer->saddr : outer->daddr;
		was = inner->check;
		inner->check = pm_csum_change(was, pm_change32(quoted, to[0]));
		icmp_change += pm_change32(quoted, to[0]) + pm_change16(was, inner->check);
		if (reply) {
			inner->daddr = to[0];
			outer->saddr = to[0];
		} else {
			inner->saddr = to[0];
			outer->daddr = to[0];
		}
		word = (__be16 *)&outer->ttl;
		was = *word;
		outer->ttl -= !q->handed_over;
		outer->check = pm_csum_change(outer->check, pm_change32(mine, to[0]) + pm_change16(was, *word));
	} else {
		struct pm_ipv6 *outer = (void *)(f->data + PM_ETH_LEN), *inner;

		inner = pm_at_offset(f, q->ip, PM_IPV6_LEN);
		if (!inner || (__u8 *)(outer + 1) > f->end)
			return PM_DROP_MAP;
		outer->hops -= !q->handed_over;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			icmp_change += pm_change32(reply ? inner->daddr[i] : inner->saddr[i], to[i]) +
				       pm_change32(reply ? outer->saddr[i] : outer->daddr[i], to[i]);
			if (reply) {
				inner->daddr[i] = to[i];
				outer->saddr[i] = to[i];
			} else {
				inner->saddr[i] = to[i];
				outer->daddr[i] = to[i];
			}
		}
	}
	icmp = pm_at_offset(f, q->icmp, PM_ICMP_LEN);
	if (!icmp)
		return PM_DROP_MAP;
	icmp->check = pm_csum_change(icmp->check, icmp_change);
	return PM_CONTINUE;
}

/* A word of the frame for another; non-zero where it is out of reach. */
pm_inline int pm_put32(struct pm_frame *f, __u32 off, __be32 to, __u64 *change)
{
	pm_u32 *word = pm_at_offset(f, off, 4);

	if (!word)
		return -1;
	*change += pm_change32(pm_load32(word), to);
	pm_store32(word, to);
	return 0;
}

pm_inline int pm_put16(struct pm_frame *f, __u32 off, __be16 to, __u64 *change)
{
	__be16 *word = pm_at_offset(f, off, 2);

	if (!word)
		return -1;
	*change += pm_change16(*word, to);
	*word = to;
	return 0;
}

/* A checksum after such changes, which is one itself. */
pm_inline int pm_put_sum(struct pm_frame *f, __u32 off, __u64 by, __u64 *change)
{
	__be16 *check = pm_at_offset(f, off, 2), was;

	if (!check)
		return -1;
	was = *check;
	*check = pm_csum_change(was, by);
	*change += pm_change16(was, *check);
	return 0;
}

/*
 * The same of full NAT: one of both ends, outside and in what is quoted, whose ends are the other way round. The
 * destination comes first, and with it the TTL.
 */
pm_inline enum pm_verdict pm_exchange_error(PM_HOST *host, int family, __u32 index, __u32 word,
					    const struct pm_quote *q, __u32 source)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_end end = {};
	__u64 change = 0, inner = 0, outer = 0;

	if (!q)
		return PM_DROP_MAP;
	if (!(family == 4 ? pm_look_end4(index, word, source, &end) : pm_look_end6(index, word, source, &end)))
		return PM_DROP_CONNECTION_BUSY;
	if (pm_put16(&f, q->ports + (source ? 2 : 0), end.port, &change))
		return PM_DROP_MAP;
	if (family == 4) {
		struct pm_ipv4 *ip = (void *)(f.data + PM_ETH_LEN);
		const __u32 check = __builtin_offsetof(struct pm_ipv4, check);
		__u32 s = __builtin_offsetof(struct pm_ipv4, saddr), d = __builtin_offsetof(struct pm_ipv4, daddr);

		if ((__u8 *)(ip + 1) > f.end)
			return PM_DROP_MAP;
		if (!source && !q->handed_over) {
			__be16 *ttl = (__be16 *)&ip->ttl, was = *ttl;

			ip->ttl--;
			outer += pm_change16(was, *ttl);
		}
		if (pm_put32(&f, q->ip + (source ? d : s), end.addr[0], &inner) ||
		    pm_put_sum(&f, q->ip + check, inner, &change) ||
		    pm_put32(&f, PM_ETH_LEN + (source ? s : d), end.addr[0], &outer) ||
		    pm_put_sum(&f, PM_ETH_LEN + check, outer, &outer))
			return PM_DROP_MAP;
		change += inner;
	} else {
		struct pm_ipv6 *ip = (void *)(f.data + PM_ETH_LEN);
		__u32 s = __builtin_offsetof(struct pm_ipv6, saddr), d = __builtin_offsetof(struct pm_ipv6, daddr);

		if ((__u8 *)(ip + 1) > f.end)
			return PM_DROP_MAP;
		ip->hops -= !source && !q->handed_over;
		/* RFC 4443 §2.3: the outer addresses are in the sum, too. */
		for (int i = 0; i < 4; i++)
			if (pm_put32(&f, q->ip + (source ? d : s) + 4 * i, end.addr[i], &change) ||
			    pm_put32(&f, PM_ETH_LEN + (source ? s : d) + 4 * i, end.addr[i], &change))
				return PM_DROP_MAP;
	}
	if (pm_put_sum(&f, q->icmp + __builtin_offsetof(struct pm_icmp, check), change, &outer))
		return PM_DROP_MAP;
	return PM_CONTINUE;
}

PM_PART __u32 pm_exchange_error4(PM_HOST *host, __u32 index, __u32 word, const struct pm_quote *q, __u32 source)
{
	return pm_exchange_error(host, 4, index, word, q, source);
}

PM_PART __u32 pm_exchange_error6(PM_HOST *host, __u32 index, __u32 word, const struct pm_quote *q, __u32 source)
{
	return pm_exchange_error(host, 6, index, word, q, source);
}

pm_inline enum pm_verdict pm_exchange_quote(struct pm_frame *f, int family, __u32 index, __u32 word,
					    const struct pm_quote *q)
{
	enum pm_verdict v = family == 4 ? pm_exchange_error4(f->host, index, word, q, 0) :
					  pm_exchange_error6(f->host, index, word, q, 0);

	if (v == PM_CONTINUE)
		v = family == 4 ? pm_exchange_error4(f->host, index, word, q, PM_SOURCE) :
				  pm_exchange_error6(f->host, index, word, q, PM_SOURCE);
	pm_frame_load(f);
	return v;
}

/* Takes DF out of an IPv4 header. */
pm_inline int pm_allow_fragments(struct pm_frame *f)
{
	struct pm_ipv4 *ip = (void *)(f->data + PM_ETH_LEN);
	__be16 was;

	if ((__u8 *)(ip + 1) > f->end)
		return -1;
	was = ip->fragment;
	ip->fragment &= ~pm_htons(PM_IPV4_DF);
	ip->check = pm_csum_change(ip->check, pm_change16(was, ip->fragment));
	return 0;
}

/* Sends an error about an answer on to the real server, by the connection's method. */
pm_inline enum pm_verdict pm_error_in(struct pm_frame *f, int family, struct pm_seen *seen, __u32 index,
				      struct pm_packet *p, struct pm_quote *q)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_conn *c = &seen->c;
	struct pm_real *real = pm_reals(c->real);
	__u32 end = PM_ETH_LEN + p->ip_length, limit, method = pm_method_of(c->traits);
	int stack_only = 0, local = 0;
	__u32 epoch, now;

	if (!set || !real)
		return PM_DROP_MAP;
	if (real->slot != PM_SLOT_LIVE)
		return PM_DROP_REAL_SERVER_GONE;
	if (!pm_is_resumed(f))
		pm_account(c->real, p->ip_length, 0);
	pm_frame_counted(f);
	now = pm_now();
	epoch = pm_epoch(set, now);
	if (!pm_hop_in(set, seen, epoch, now)) {
		switch (pm_route(f->host, family, seen, &p->key, index, epoch)) {
		case PM_FIB_OK:
			break;
		case PM_FIB_STACK_ONLY:
			stack_only = 1;
			break;
		case PM_FIB_NO_NEIGHBOUR:
			if (pm_host_resolves(f, &seen->hop))
				break;
			return PM_DROP_NEXT_HOP_UNRESOLVED;
		case PM_FIB_FORWARDING_OFF:
			return PM_DROP_FORWARDING_OFF;
		case PM_FIB_LOCAL:
			if (method != PM_METHOD_NAT || !(set->flags & PM_SETTING_ANSWERS))
				return PM_PASS_LOCAL_NODE;
			stack_only = local = 1;
			break;
		default:
			return PM_DROP_NO_ROUTE;
		}
	}
	if (p->ttl <= 1 && !local)
		return PM_DROP_ICMP_TTL;
	limit = pm_path_limit(set, seen, real, now);
	if (!stack_only && p->ip_length > limit) {
		/* An error is fragmented whatever its own DF says, as IPVS does; else by the stack, where that can. */
		if (family == 6)
			return PM_DROP_FRAGMENTATION;
		if (!pm_host_cuts(f, limit + (method == PM_METHOD_TUN ? pm_tunnel_overhead(real) : 0))) {
			if (method != PM_METHOD_NAT)
				return pm_uncut(f, set, PM_CUT_COUNTED);
			if (pm_allow_fragments(f))
				return PM_DROP_FRAGMENTATION;
			stack_only = 1;
		}
	}
	if (method != PM_METHOD_TUN)
		pm_cut_padding(f, p, PM_ETH_MIN);
	switch (method) {
	case PM_METHOD_NAT:
	case PM_METHOD_FULL_NAT: {
		enum pm_verdict v;

		if (end > PM_SUM_MAX)
			return PM_DROP_CHECKSUM_LIMIT;
		if (!pm_icmp_intact(f, family, q->icmp, end))
			return PM_DROP_ICMP_CHECKSUM;
		q->handed_over = stack_only || !pm_host_takes(f->host, seen->hop.ifindex);
		if (method == PM_METHOD_NAT)
			v = pm_translate_error(f, family, q, (const __be32 *)real->addr,
					       pm_real_port(real, &p->key, c->traits), 0);
		else if (q->handed_over && family == 4)
			v = PM_DROP_EGRESS; /* as pm_send_in has it */
		else
			v = pm_exchange_quote(f, family, index, c->word, q);
		if (v != PM_CONTINUE)
			return v;
		if (q->handed_over)
			return local ? PM_PASS_LOCAL_NODE : PM_PASS_EGRESS;
		break;
	}
	case PM_METHOD_DR:
		if (pm_decrement_ttl(f, family))
			return PM_DROP_MAP;
		break;
	case PM_METHOD_TUN:
		pm_cut_padding(f, p, 0);
		if (pm_decrement_ttl(f, family))
			return PM_DROP_MAP;
		{
			enum pm_verdict v = pm_encapsulate(f, p, family, set, real, seen, index);

			return v == PM_FORWARD_TUN ? PM_FORWARD_ICMP : v;
		}
	default:
		return PM_PASS_UNSUPPORTED;
	}
	return pm_address_frame(f, &seen->hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ? PM_DROP_MAP :
											     PM_FORWARD_ICMP;
}

/* Sends an error about a request that was translated on to the client. */
pm_inline enum pm_verdict pm_error_out(struct pm_frame *f, int family, struct pm_seen *seen, __u32 index,
				       struct pm_packet *p, struct pm_quote *q)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_conn *c = &seen->c;
	struct pm_real *real = pm_reals(c->real);
	__u32 hop = PM_FIB_OK, now = pm_now(), epoch;
	enum pm_verdict v;

	if (!set || !real)
		return PM_DROP_MAP;
	if (p->ttl <= 1)
		return PM_PASS_REPLY_TTL;
	epoch = pm_epoch(set, now);
	if (!pm_neighbour_known(set, seen, epoch, now))
		hop = pm_route(f->host, family, seen, &p->key, index, epoch);
	if (hop == PM_FIB_NO_NEIGHBOUR && pm_host_resolves(f, &seen->hop))
		hop = PM_FIB_OK;
	/* As of answers: nothing may leave with the real server's own address. */
	if (hop == PM_FIB_NO_NEIGHBOUR)
		return PM_DROP_NEXT_HOP_UNRESOLVED;
	if (hop == PM_FIB_FORWARDING_OFF)
		return PM_DROP_FORWARDING_OFF;
	if (hop != PM_FIB_OK && hop != PM_FIB_STACK_ONLY)
		return PM_PASS_NO_ROUTE_REPLY;
	if (hop == PM_FIB_OK && p->ip_length > seen->hop.mtu) {
		/* The stack would fragment it as it is, and forward it from the real server's own address. */
		if (pm_unfragmentable(f, family))
			return PM_PASS_REPLY_MTU;
		if (!pm_host_cuts(f, seen->hop.mtu))
			return pm_uncut(f, set, PM_CUT_UNCOUNTED);
	}
	if (PM_ETH_LEN + p->ip_length > PM_SUM_MAX)
		return PM_DROP_CHECKSUM_LIMIT;
	if (!pm_icmp_intact(f, family, q->icmp, PM_ETH_LEN + p->ip_length))
		return PM_DROP_ICMP_CHECKSUM;
	if (real->slot == PM_SLOT_LIVE)
		pm_account(c->real, p->ip_length, 1);
	pm_cut_padding(f, p, PM_ETH_MIN);
	q->handed_over = family == 6 && (hop == PM_FIB_STACK_ONLY || !pm_host_takes(f->host, seen->hop.ifindex));
	v = pm_method_of(c->traits) == PM_METHOD_FULL_NAT ?
		    pm_exchange_quote(f, family, index, c->word, q) :
		    pm_translate_error(f, family, q, seen->addr, seen->port, 1);
	if (v != PM_CONTINUE)
		return v;
	if (q->handed_over)
		return PM_PASS_EGRESS;
	return pm_address_frame(f, &seen->hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ?
		       PM_DROP_MAP :
		       PM_FORWARD_ICMP_REPLY;
}

/* Verdict, and in the high half the interface the frame leaves by. `where`: the high half of what was found. */
pm_inline __u64 pm_send_error(PM_HOST *host, int family, __u32 index, __u32 icmp, __u32 where, __u32 ip_length)
{
	struct pm_conn *c = pm_line(family, index);
	struct pm_frame f = pm_frame_open(host);
	struct pm_quote q = { .icmp = icmp, .ip = icmp + PM_ICMP_LEN, .ports = pm_error_offset(where) };
	struct pm_packet p = { .ip_length = ip_length };
	struct pm_seen seen = {};
	enum pm_verdict v;
	__u64 head;

	if (!c || f.data + PM_ETH_LEN + PM_IPV6_LEN > f.end)
		return PM_DROP_MAP;
	head = pm_head(c);
	pm_line_key(family, pm_after(c, head), &p.key);
	/* It may have ended since it was found: then the error is about nothing of ours. */
	if (!pm_error_owner(where, head) || !pm_look(c, head, &seen))
		return PM_PASS_ICMP;
	p.ttl = family == 4 ? ((struct pm_ipv4 *)(f.data + PM_ETH_LEN))->ttl :
			      ((struct pm_ipv6 *)(f.data + PM_ETH_LEN))->hops;
	if (pm_kind_of(seen.c.traits) == PM_CONN_IN)
		v = pm_error_in(&f, family, &seen, index, &p, &q);
	else if (!pm_look_virtual(family, index, &seen))
		v = PM_PASS_ICMP;
	else
		v = pm_error_out(&f, family, &seen, index, &p, &q);
	/* Made for this error (schedule_icmp), and for no other packet. */
	if (seen.c.traits & PM_CONN_ONE_PACKET)
		pm_forget(family, index, seen.c.word);
	return (__u64)f.ifindex << 32 | v;
}

PM_PART __u64 pm_send_error4(PM_HOST *host, __u32 index, __u32 icmp, __u32 where, __u32 ip_length)
{
	return pm_send_error(host, 4, index, icmp, where, ip_length);
}

PM_PART __u64 pm_send_error6(PM_HOST *host, __u32 index, __u32 icmp, __u32 where, __u32 ip_length)
{
	return pm_send_error(host, 6, index, icmp, where, ip_length);
}
