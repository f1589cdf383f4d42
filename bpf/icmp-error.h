/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ICMP errors that others send about packets of a connection (dataplane.md §8). The quoted packet
 * names the connection, with the directions reversed: an error from the clients' side quotes an answer
 * (virtual address to client) and goes to the real server; one from a NAT real server's side quotes a
 * request (client to real server) and goes to the client. Queries, and errors about anything else, are
 * the stack's.
 */
#pragma once

#include "tunnel.h"

#define PM_ICMP_SOURCE_QUENCH 4
#define PM_ICMPV6_INFO 128 /* RFC 4443 §2.1: error types are below */
#define PM_IPV4_OFFSET 0x1fff

/* Offsets in the frame: of the ICMP header, the quoted IP header, the quoted ports. */
struct pm_quote {
	__u32 icmp;
	__u32 ip;
	__u32 ports;
};

#define PM_OFFSET_MAX 2047u

/* `size` bytes of the frame at an offset, or NULL. */
pm_inline void *pm_at_offset(struct pm_frame *f, __u32 off, __u32 size)
{
	__u8 *p;

	if (off > PM_OFFSET_MAX)
		return PM_NULL;
	/* The verifier forgets the test when the number was kept on the stack: mask it once more. */
	pm_opaque(off);
	p = f->data + (off & PM_OFFSET_MAX);
	return p + size <= f->end ? p : PM_NULL;
}

pm_inline int pm_is_error(int family, __u8 type)
{
	if (family == 6)
		return type && type < PM_ICMPV6_INFO;
	return type == PM_ICMP_UNREACHABLE || type == PM_ICMP_SOURCE_QUENCH || type == PM_ICMP_TIME_EXCEEDED;
}

#define PM_NO_ERROR (~0ull)

/*
 * The line of the connection that an error is about in the low half, the offset of the quoted ports in
 * the high half; PM_NO_ERROR if there is none. `icmp` is the offset of the ICMP header, `end` that of
 * the packet's end.
 */
pm_inline __u64 pm_find_error(PM_HOST *host, int family, __u32 icmp, __u32 end)
{
	__u32 quote = icmp + PM_ICMP_LEN, ports, index = 0;
	struct pm_frame f = pm_frame_open(host);
	struct pm_settings *set = pm_settings(0);
	struct pm_key k = {};
	struct pm_place at;
	struct pm_icmp *head;
	struct pm_conn *c;
	__be16 *port;
	__u64 line;

	head = pm_at_offset(&f, icmp, PM_ICMP_LEN);
	if (!set || !head || !pm_is_error(family, head->type) || f.data + PM_ETH_LEN + PM_IPV6_LEN > f.end)
		return PM_NO_ERROR;
	if (family == 4) {
		struct pm_ipv4 *ip = pm_at_offset(&f, quote, PM_IPV4_LEN);

		if (!ip || ip->version_ihl >> 4 != 4 || (ip->version_ihl & 15) < 5 ||
		    (ip->fragment & pm_htons(PM_IPV4_OFFSET)))
			return PM_NO_ERROR;
		k.saddr[0] = ip->daddr;
		k.daddr[0] = ip->saddr;
		k.protocol = ip->protocol;
		ports = quote + (ip->version_ihl & 15) * 4;
	} else {
		struct pm_ipv6 *ip = pm_at_offset(&f, quote, PM_IPV6_LEN);

		if (!ip || pm_ntohl(ip->flow) >> 28 != 6)
			return PM_NO_ERROR;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			k.saddr[i] = ip->daddr[i];
			k.daddr[i] = ip->saddr[i];
		}
		k.protocol = ip->next;
		ports = quote + PM_IPV6_LEN;
	}
	if ((k.protocol != PM_PROTO_TCP && k.protocol != PM_PROTO_UDP) || ports + 4 > end)
		return PM_NO_ERROR;
	port = pm_at_offset(&f, ports, 4);
	if (!port)
		return PM_NO_ERROR;
	k.sport = port[1];
	k.dport = port[0];
	at = pm_place(family, set, &k);
	c = pm_find(family, set, &at, &k, &index, &line);
	if (!c || pm_over(family, c, index, line, pm_now()))
		return PM_NO_ERROR;
	/* To the virtual address, or to the client: an error to anybody else is not about us. */
	if (family == 4) {
		if (((struct pm_ipv4 *)(f.data + PM_ETH_LEN))->daddr != k.daddr[0])
			return PM_NO_ERROR;
	} else {
		const __be32 *to = ((struct pm_ipv6 *)(f.data + PM_ETH_LEN))->daddr;

		if (to[0] != k.daddr[0] || to[1] != k.daddr[1] || to[2] != k.daddr[2] || to[3] != k.daddr[3])
			return PM_NO_ERROR;
	}
	return (__u64)ports << 32 | index;
}

PM_PART __u64 pm_find_error4(PM_HOST *host, __u32 icmp, __u32 end)
{
	return pm_find_error(host, 4, icmp, end);
}

PM_PART __u64 pm_find_error6(PM_HOST *host, __u32 icmp, __u32 end)
{
	return pm_find_error(host, 6, icmp, end);
}

/* RFC 792, RFC 4443 §2.3: whether the sum over the message (IPv6: and the pseudo header) is right. */
pm_inline int pm_icmp_intact(struct pm_frame *f, int family, __u32 icmp, __u32 end)
{
	__u64 sum = 0;

	if (family == 6) {
		const struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);

		if ((__u8 *)(ip + 1) > f->end)
			return 0;
		sum = pm_sum_pseudo(ip->saddr, ip->daddr, 4, PM_PROTO_ICMPV6, end - icmp);
	}
	return pm_fold(sum + pm_sum(f, icmp, end - icmp)) == 0xffff;
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
		outer->ttl--;
		outer->check = pm_csum_change(outer->check, pm_change32(mine, to[0]) + pm_change16(was, *word));
	} else {
		struct pm_ipv6 *outer = (void *)(f->data + PM_ETH_LEN), *inner;

		inner = pm_at_offset(f, q->ip, PM_IPV6_LEN);
		if (!inner || (__u8 *)(outer + 1) > f->end)
			return PM_DROP_MAP;
		outer->hops--;
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

/* Sends an error about an answer on to the real server, by the connection's method. */
pm_inline enum pm_verdict pm_error_in(struct pm_frame *f, int family, struct pm_seen *seen, __u32 index,
				      struct pm_packet *p, const struct pm_quote *q)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_conn *c = &seen->c;
	struct pm_real *real = pm_reals(c->real);
	__u32 end = PM_ETH_LEN + p->ip_length, limit;
	int stack_only = 0;
	__u32 epoch;

	if (!set || !real)
		return PM_DROP_MAP;
	if (real->slot != PM_SLOT_LIVE)
		return PM_DROP_REAL_SERVER_GONE;
	pm_account(c->real, p->ip_length, 0);
	epoch = pm_epoch(set, pm_now());
	if (!pm_hop_known(c, epoch)) {
		switch (pm_route(f->host, family, seen, &p->key, index, epoch)) {
		case PM_FIB_OK:
			break;
		case PM_FIB_STACK_ONLY:
			stack_only = 1;
			break;
		case PM_FIB_NO_NEIGHBOUR:
			return PM_DROP_NEXT_HOP_UNRESOLVED;
		case PM_FIB_LOCAL:
			return PM_PASS_LOCAL_NODE;
		default:
			return PM_DROP_NO_ROUTE;
		}
	}
	if (p->ttl <= 1)
		return PM_DROP_ICMP_TTL;
	limit = pm_path_limit(c, real);
	if (!stack_only && p->ip_length > limit)
		return PM_DROP_FRAGMENTATION;
	if (c->method != PM_METHOD_TUN)
		pm_cut_padding(f, p, PM_ETH_MIN);
	switch (c->method) {
	case PM_METHOD_NAT: {
		enum pm_verdict v;

		if (end > PM_SUM_MAX)
			return PM_DROP_CHECKSUM_LIMIT;
		if (!pm_icmp_intact(f, family, q->icmp, end))
			return PM_DROP_ICMP_CHECKSUM;
		v = pm_translate_error(f, family, q, (const __be32 *)real->addr, c->new_port, 0);
		if (v != PM_CONTINUE)
			return v;
		/* As in pm_hand_over; that the TTL goes down twice harms no error. */
		if (stack_only || !pm_host_takes(f->host, c->ifindex))
			return PM_PASS_EGRESS;
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
			enum pm_verdict v = pm_encapsulate(f, p, family, set, real, c, index);

			return v == PM_FORWARD_TUN ? PM_FORWARD_ICMP : v;
		}
	default:
		return PM_PASS_UNSUPPORTED;
	}
	return pm_address_frame(f, c, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ? PM_DROP_MAP :
											     PM_FORWARD_ICMP;
}

/* Sends an error about a request that was translated on to the client. */
pm_inline enum pm_verdict pm_error_out(struct pm_frame *f, int family, struct pm_seen *seen, __u32 index,
				       struct pm_packet *p, const struct pm_quote *q)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_conn *c = &seen->c;
	struct pm_real *real = pm_reals(c->real);
	__u32 hop = PM_FIB_OK;
	enum pm_verdict v;
	__u32 epoch;

	if (!set || !real)
		return PM_DROP_MAP;
	if (p->ttl <= 1)
		return PM_PASS_REPLY_TTL;
	epoch = pm_epoch(set, pm_now());
	if (!pm_hop_known(c, epoch))
		hop = pm_route(f->host, family, seen, &p->key, index, epoch);
	if (hop != PM_FIB_OK && hop != PM_FIB_STACK_ONLY)
		return PM_PASS_NO_ROUTE_REPLY;
	if (hop == PM_FIB_OK && p->ip_length > c->mtu)
		return PM_PASS_REPLY_MTU;
	if (PM_ETH_LEN + p->ip_length > PM_SUM_MAX)
		return PM_DROP_CHECKSUM_LIMIT;
	if (!pm_icmp_intact(f, family, q->icmp, PM_ETH_LEN + p->ip_length))
		return PM_DROP_ICMP_CHECKSUM;
	if (real->slot == PM_SLOT_LIVE)
		pm_account(c->real, p->ip_length, 1);
	pm_cut_padding(f, p, PM_ETH_MIN);
	v = pm_translate_error(f, family, q, seen->new_addr, c->new_port, 1);
	if (v != PM_CONTINUE)
		return v;
	if (family == 6 && (hop == PM_FIB_STACK_ONLY || !pm_host_takes(f->host, c->ifindex)))
		return PM_PASS_EGRESS;
	return pm_address_frame(f, c, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ?
		       PM_DROP_MAP :
		       PM_FORWARD_ICMP_REPLY;
}

/* Verdict, and in the high half the interface the frame leaves by. */
pm_inline __u64 pm_send_error(PM_HOST *host, int family, __u32 index, __u32 icmp, __u32 ports, __u32 ip_length)
{
	struct pm_conn *c = pm_line(family, index);
	struct pm_frame f = pm_frame_open(host);
	struct pm_quote q = { .icmp = icmp, .ip = icmp + PM_ICMP_LEN, .ports = ports };
	struct pm_packet p = { .ip_length = ip_length };
	struct pm_seen seen = {};
	enum pm_verdict v;
	__u64 head;

	if (!c || f.data + PM_ETH_LEN + PM_IPV6_LEN > f.end)
		return PM_DROP_MAP;
	head = pm_head(c);
	pm_line_key(family, pm_after(c, head), &p.key);
	/* It may have ended since it was found: then the error is about nothing of ours. */
	if (!pm_is_live(head) || !pm_look(family, c, head, &seen))
		return PM_PASS_ICMP;
	p.ttl = family == 4 ? ((struct pm_ipv4 *)(f.data + PM_ETH_LEN))->ttl :
			      ((struct pm_ipv6 *)(f.data + PM_ETH_LEN))->hops;
	if (seen.c.kind == PM_CONN_IN)
		v = pm_error_in(&f, family, &seen, index, &p, &q);
	else
		v = pm_error_out(&f, family, &seen, index, &p, &q);
	return (__u64)f.ifindex << 32 | v;
}

PM_PART __u64 pm_send_error4(PM_HOST *host, __u32 index, __u32 icmp, __u32 ports, __u32 ip_length)
{
	return pm_send_error(host, 4, index, icmp, ports, ip_length);
}

PM_PART __u64 pm_send_error6(PM_HOST *host, __u32 index, __u32 icmp, __u32 ports, __u32 ip_length)
{
	return pm_send_error(host, 6, index, icmp, ports, ip_length);
}

/*
 * An ICMP message that was parsed as far as its header: `where` has the header's offset in the frame in
 * its high half, the IP packet's length in the low half. Verdict and interface.
 */
pm_inline __u64 pm_icmp_error(PM_HOST *host, int family, __u32 where)
{
	__u32 icmp = where >> 16, ip_length = where & 0xffff, end = PM_ETH_LEN + ip_length;
	struct pm_frame f = pm_frame_open(host);
	__u64 found;

	if (icmp + PM_ICMP_LEN > end)
		return PM_PASS_ICMP;
	/* The message is summed before it is translated; and nothing has been counted yet. */
	if (pm_reach(&f) < end)
		return PM_WANT_PAYLOAD;
	found = family == 4 ? pm_find_error4(host, icmp, end) : pm_find_error6(host, icmp, end);
	if (found == PM_NO_ERROR)
		return PM_PASS_ICMP;
	return family == 4 ? pm_send_error4(host, (__u32)found, icmp, found >> 32, ip_length) :
			     pm_send_error6(host, (__u32)found, icmp, found >> 32, ip_length);
}
