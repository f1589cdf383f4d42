/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Another IP header in front: ipip, ip6ip6 and the two mixed forms (RFC 2003, RFC 2473). */
#pragma once

#include "rewrite.h"

/* Bytes that the tunnel of this real server puts in front of the inner packet. */
pm_inline __u32 pm_tunnel_overhead(const struct pm_real *real)
{
	return real->family == 4 ? PM_IPV4_LEN : PM_IPV6_LEN;
}

/* The kernel gives up on paths that could not carry a minimal packet (RFC 791 §3.2, RFC 8200 §5). */
pm_inline __u32 pm_tunnel_limit_min(const struct pm_real *real)
{
	return real->family == 4 ? 68 : 1280;
}

pm_inline int pm_is_zero16(const __u8 *a)
{
	const __u32 *w = (const __u32 *)a;

	return !(w[0] | w[1] | w[2] | w[3]);
}

/*
 * The DS field of the outer header (RFC 2983 §3.1, uniform model); of its ECN bits, "congestion
 * experienced" goes out as ECT(0) as RFC 3168 §9.1.1 has it for the full-functionality option.
 */
pm_inline __u8 pm_outer_tos(__u8 inner)
{
	return (inner & 3) == 3 ? (inner & ~3) | 2 : inner;
}

/* The inner packet's TTL has been taken down already; the outer header repeats it. */
pm_inline enum pm_verdict pm_encapsulate(struct pm_frame *f, const struct pm_packet *p, int family,
					 const struct pm_settings *set, const struct pm_real *real,
					 const struct pm_conn *c)
{
	__u32 overhead = pm_tunnel_overhead(real);
	__u8 tos, ttl = p->ttl - 1;
	__be16 fragment = 0;

	if (pm_is_zero16(real->source))
		return PM_DROP_NO_TUNNEL_SOURCE;
	if (family == 4) {
		struct pm_ipv4 *inner = (void *)(f->data + PM_ETH_LEN);

		if ((__u8 *)(inner + 1) > f->end)
			return PM_DROP_MAP;
		tos = inner->tos;
		if (!(set->flags & PM_SETTING_NO_PMTU_DISC))
			fragment = inner->fragment & pm_htons(PM_IPV4_DF);
	} else {
		struct pm_ipv6 *inner = (void *)(f->data + PM_ETH_LEN);

		if ((__u8 *)(inner + 1) > f->end)
			return PM_DROP_MAP;
		tos = pm_ntohl(inner->flow) >> 20;
	}
	tos = pm_outer_tos(tos);

	if (real->family == 4) {
		struct pm_ipv4 *ip;

		if (pm_frame_move(f, -PM_IPV4_LEN))
			return PM_DROP_HEADROOM;
		ip = (void *)(f->data + PM_ETH_LEN);
		if ((__u8 *)(ip + 1) > f->end)
			return PM_DROP_MAP;
		ip->version_ihl = 0x45;
		ip->tos = tos;
		ip->length = pm_htons(p->ip_length + overhead);
		/* RFC 6864 §4.1: an atomic datagram needs no identification. */
		ip->id = fragment ? 0 : pm_htons(c->packets) ^ c->sport;
		ip->fragment = fragment;
		ip->ttl = ttl;
		ip->protocol = family == 4 ? PM_PROTO_IPIP : PM_PROTO_IPV6;
		ip->check = 0;
		ip->saddr = *(const __be32 *)real->source;
		ip->daddr = *(const __be32 *)real->addr;
		ip->check = ~pm_fold(pm_sum_ipv4(ip));
		return pm_address_frame(f, c, PM_ETHERTYPE_IPV4) ? PM_DROP_MAP : PM_FORWARD_TUN;
	} else {
		const __be32 *source = (const __be32 *)real->source, *addr = (const __be32 *)real->addr;
		struct pm_ipv6 *ip;

		if (pm_frame_move(f, -PM_IPV6_LEN))
			return PM_DROP_HEADROOM;
		ip = (void *)(f->data + PM_ETH_LEN);
		if ((__u8 *)(ip + 1) > f->end)
			return PM_DROP_MAP;
		ip->flow = pm_htonl(6u << 28 | (__u32)tos << 20);
		ip->payload = pm_htons(p->ip_length);
		ip->next = family == 4 ? PM_PROTO_IPIP : PM_PROTO_IPV6;
		ip->hops = ttl;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			ip->saddr[i] = source[i];
			ip->daddr[i] = addr[i];
		}
		return pm_address_frame(f, c, PM_ETHERTYPE_IPV6) ? PM_DROP_MAP : PM_FORWARD_TUN;
	}
}
