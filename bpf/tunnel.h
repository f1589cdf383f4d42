/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Another IP header in front: ipip, ip6ip6 and the two mixed forms (RFC 2003, RFC 2473), with a UDP and
 * GUE header or a GRE header in between if the real server wants that.
 */
#pragma once

#include "rewrite.h"

/* Bytes between the outer IP header and the inner packet. */
pm_inline __u32 pm_shim_length(const struct pm_real *real)
{
	if (real->tunnel == PM_TUNNEL_GUE)
		return PM_UDP_LEN + sizeof(struct pm_gue);
	if (real->tunnel == PM_TUNNEL_GRE)
		return real->tunnel_flags & PM_TUNNEL_CSUM ? PM_GRE_CSUM_LEN : PM_GRE_LEN;
	return 0;
}

/* Bytes that the tunnel of this real server puts in front of the inner packet. */
pm_inline __u32 pm_tunnel_overhead(const struct pm_real *real)
{
	return (real->family == 4 ? PM_IPV4_LEN : PM_IPV6_LEN) + pm_shim_length(real);
}

/*
 * Whether the outer header carries a checksum over the whole packet. Remote checksum offload changes
 * nothing for packets whose own checksum is complete, and we get no others from a wire.
 */
pm_inline int pm_tunnel_sums(const struct pm_real *real)
{
	return real->tunnel != PM_TUNNEL_IPIP && real->tunnel_flags != PM_TUNNEL_NOCSUM;
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

/* Source ports of GUE: the range Linux gives to sockets by default (ip_local_port_range). */
#define PM_GUE_PORT_FIRST 32768u
#define PM_GUE_PORTS 28232u

/*
 * Fills the header between the outer IP header, which is complete, and the inner packet. `flow` is a
 * hash of the inner flow, `inner` its family. Non-zero if the frame is too short for it.
 */
PM_PART int pm_put_shim(PM_HOST *host, __u32 real_index, __u32 inner, __u32 flow)
{
	struct pm_real *real = pm_reals(real_index);
	struct pm_frame f = pm_frame_open(host);
	__u32 off, length;
	__u64 sum = 0;
	__u8 *shim;

	if (!real || f.data + PM_ETH_LEN + PM_IPV6_LEN + PM_UDP_LEN + sizeof(struct pm_gue) > f.end)
		return -1; /* every inner packet is long enough for this to hold */
	off = PM_ETH_LEN + (real->family == 4 ? PM_IPV4_LEN : PM_IPV6_LEN);
	length = f.length - off;
	shim = f.data + off;
	if (shim + PM_UDP_LEN + sizeof(struct pm_gue) > f.end)
		return -1;
	if (real->tunnel == PM_TUNNEL_GRE) {
		struct pm_gre *gre = (void *)shim;

		gre->flags = real->tunnel_flags & PM_TUNNEL_CSUM ? pm_htons(PM_GRE_CSUM) : 0;
		gre->type = inner == 4 ? pm_htons(PM_ETHERTYPE_IPV4) : pm_htons(PM_ETHERTYPE_IPV6);
		if (!gre->flags)
			return 0;
		gre->check = 0;
		gre->reserved = 0;
	} else {
		struct pm_udp *udp = (void *)shim;
		struct pm_gue *gue = (void *)(udp + 1);

		udp->sport = pm_htons(PM_GUE_PORT_FIRST + flow % PM_GUE_PORTS);
		udp->dport = real->tunnel_port;
		udp->length = pm_htons(length);
		udp->check = 0;
		gue->version_length = 0;
		gue->protocol = inner == 4 ? PM_PROTO_IPIP : PM_PROTO_IPV6;
		gue->flags = 0;
		if (real->tunnel_flags == PM_TUNNEL_NOCSUM)
			return 0;
		sum = pm_sum_pseudo((const __be32 *)real->source, (const __be32 *)real->addr,
				    real->family == 4 ? 1 : 4, PM_PROTO_UDP, length);
	}
	sum += pm_sum(&f, off, length);
	shim = f.data + off;
	if (shim + PM_UDP_LEN > f.end)
		return -1;
	if (real->tunnel == PM_TUNNEL_GRE)
		((struct pm_gre *)shim)->check = ~pm_fold(sum);
	else
		((struct pm_udp *)shim)->check = (__be16)~pm_fold(sum) ?: 0xffff;
	return 0;
}

/* Protocol number in the outer header. */
pm_inline __u8 pm_outer_protocol(const struct pm_real *real, int family)
{
	if (real->tunnel == PM_TUNNEL_GUE)
		return PM_PROTO_UDP;
	if (real->tunnel == PM_TUNNEL_GRE)
		return PM_PROTO_GRE;
	return family == 4 ? PM_PROTO_IPIP : PM_PROTO_IPV6;
}

/* The outer IP header, in the room in front of the inner packet. */
pm_inline int pm_put_outer4(struct pm_frame *f, const struct pm_real *real, __u32 length, __u8 tos, __u8 ttl,
			    __u8 protocol, __be16 fragment, __be16 id)
{
	struct pm_ipv4 *ip = (void *)(f->data + PM_ETH_LEN);

	if ((__u8 *)(ip + 1) > f->end)
		return -1;
	ip->version_ihl = 0x45;
	ip->tos = tos;
	ip->length = pm_htons(length);
	ip->id = fragment ? 0 : id; /* RFC 6864 §4.1: an atomic datagram needs no identification */
	ip->fragment = fragment;
	ip->ttl = ttl;
	ip->protocol = protocol;
	ip->check = 0;
	ip->saddr = *(const __be32 *)real->source;
	ip->daddr = *(const __be32 *)real->addr;
	ip->check = ~pm_fold(pm_sum_ipv4(ip));
	return 0;
}

pm_inline int pm_put_outer6(struct pm_frame *f, const struct pm_real *real, __u32 payload, __u8 tos, __u8 ttl,
			    __u8 protocol)
{
	const __be32 *source = (const __be32 *)real->source, *addr = (const __be32 *)real->addr;
	struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);

	if ((__u8 *)(ip + 1) > f->end)
		return -1;
	ip->flow = pm_htonl(6u << 28 | (__u32)tos << 20);
	ip->payload = pm_htons(payload);
	ip->next = protocol;
	ip->hops = ttl;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		ip->saddr[i] = source[i];
		ip->daddr[i] = addr[i];
	}
	return 0;
}

/*
 * RFC 6864 §4.3: the identification of a packet that may be fragmented differs from others between the same
 * two addresses; a real server's packets are counted per CPU.
 */
pm_inline __be16 pm_outer_id(const struct pm_conn *c)
{
	struct pm_counters *n = pm_counters(c->real * pm_limits.cpus + pm_cpu());

	return n ? pm_htons((__u16)(n->in_packets * pm_limits.cpus + pm_cpu())) : 0;
}

/* The inner packet's TTL has been taken down already; the outer header repeats it. */
pm_inline enum pm_verdict pm_encapsulate(struct pm_frame *f, const struct pm_packet *p, int family,
					 const struct pm_settings *set, const struct pm_real *real,
					 const struct pm_seen *seen, __u32 flow)
{
	__u32 overhead = pm_tunnel_overhead(real);
	__u8 tos, protocol, ttl = p->ttl - 1;
	__be16 fragment = 0;
	int err;

	if (pm_is_zero16(real->source))
		return PM_DROP_NO_TUNNEL_SOURCE;
	if (pm_tunnel_sums(real) && (PM_ETH_LEN + p->ip_length + overhead > PM_SUM_MAX || !pm_is_whole(f)))
		return PM_DROP_CHECKSUM_LIMIT;
	if (p->ip_length + overhead > 65535)
		return PM_DROP_FRAGMENTATION;
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
	protocol = pm_outer_protocol(real, family);
	if (pm_frame_encap(f, overhead, real))
		return PM_DROP_HEADROOM;
	if (real->family == 4)
		err = pm_put_outer4(f, real, p->ip_length + overhead, tos, ttl, protocol, fragment,
				    pm_outer_id(&seen->c));
	else
		err = pm_put_outer6(f, real, p->ip_length + overhead - PM_IPV6_LEN, tos, ttl, protocol);
	if (err || pm_address_frame(f, &seen->hop, real->family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6))
		return PM_DROP_MAP;
	if (real->tunnel != PM_TUNNEL_IPIP && pm_put_shim(f->host, seen->c.real, family, flow))
		return PM_DROP_MAP;
	return PM_FORWARD_TUN;
}
