/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ICMP errors about our own tunnel packets (dataplane.md §8.3): they come to the director, whose address is the
 * outer source, but mean the client's packet inside. What the path takes is kept; the client is told in an
 * error of ours about the packet it sent. As in IPVS only where both headers are IPv4.
 */
#pragma once

#include "icmp-error.h"

#define PM_GUE_OPTIONS 0x1f /* length in words */

/*
 * Offset of the packet inside a quoted tunnel packet at `quote`, 0 if it is none of a kind that we make. With GUE
 * its port, in the high half.
 */
pm_inline __u64 pm_quoted_inside(struct pm_frame *f, __u32 quote)
{
	struct pm_ipv4 *ip = pm_at_offset(f, quote, PM_IPV4_LEN);
	__u32 at;

	if (!ip || ip->version_ihl >> 4 != 4 || (ip->version_ihl & 15) < 5 ||
	    (ip->fragment & pm_htons(PM_IPV4_OFFSET)))
		return 0;
	at = quote + (ip->version_ihl & 15) * 4;
	if (ip->protocol == PM_PROTO_IPIP)
		return at;
	if (ip->protocol == PM_PROTO_UDP) {
		struct pm_udp *udp = pm_at_offset(f, at, PM_UDP_LEN + sizeof(struct pm_gue));
		struct pm_gue *gue;

		if (!udp)
			return 0;
		gue = (void *)(udp + 1);
		/* Version 0, no control message. */
		if ((gue->version_length & ~PM_GUE_OPTIONS) || gue->protocol != PM_PROTO_IPIP)
			return 0;
		at += PM_UDP_LEN + sizeof(*gue) + (gue->version_length & PM_GUE_OPTIONS) * 4;
		return (__u64)udp->dport << 32 | at;
	}
	if (ip->protocol == PM_PROTO_GRE) {
		struct pm_gre *gre = pm_at_offset(f, at, PM_GRE_LEN);

		if (!gre || (gre->flags & ~pm_htons(PM_GRE_CSUM)) || gre->type != pm_htons(PM_ETHERTYPE_IPV4))
			return 0;
		return at + (gre->flags ? PM_GRE_CSUM_LEN : PM_GRE_LEN);
	}
	return 0;
}

/*
 * The connection whose packet was in the quoted tunnel packet, and where that is (pm_found_error); PM_NO_ERROR if
 * there is none.
 */
PM_PART __u64 pm_find_tunnel_error(PM_HOST *host, __u32 icmp, __u32 end)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_settings *set = pm_settings(0);
	struct pm_ipv4 *outer = (void *)(f.data + PM_ETH_LEN), *quoted;
	struct pm_key k = {};
	struct pm_place at;
	struct pm_icmp *head;
	struct pm_conn *c;
	__u32 index = 0, inside;
	__u64 line;

	head = pm_at_offset(&f, icmp, PM_ICMP_LEN);
	quoted = pm_at_offset(&f, icmp + PM_ICMP_LEN, PM_IPV4_LEN);
	if (!set || !head || !quoted || !pm_is_error(4, head->type) || (__u8 *)(outer + 1) > f.end)
		return PM_NO_ERROR;
	/* To us, about a packet of ours. */
	if (outer->daddr != quoted->saddr || !pm_is_local4(outer->daddr))
		return PM_NO_ERROR;
	inside = pm_quoted_inside(&f, icmp + PM_ICMP_LEN);
	if (!inside || !pm_read_quote4(host, inside, end, &k))
		return PM_NO_ERROR;
	at = pm_place(4, set, &k);
	c = pm_find(4, set, &at, &k, &index, &line);
	if (!c || pm_over(4, c, index, line, pm_now()))
		return PM_NO_ERROR;
	return pm_found_error(inside, index, line);
}

/* Whether the quoted tunnel packet is one to this real server. */
pm_inline int pm_quotes_tunnel(struct pm_frame *f, __u32 quote, const struct pm_real *real)
{
	struct pm_ipv4 *ip = pm_at_offset(f, quote, PM_IPV4_LEN);
	__u64 inside = pm_quoted_inside(f, quote);

	if (!ip || real->family != 4 || *(const __be32 *)real->addr != ip->daddr)
		return 0;
	switch (real->tunnel) {
	case PM_TUNNEL_IPIP:
		return ip->protocol == PM_PROTO_IPIP;
	case PM_TUNNEL_GUE:
		return ip->protocol == PM_PROTO_UDP && (__be16)(inside >> 32) == real->tunnel_port;
	default:
		return ip->protocol == PM_PROTO_GRE;
	}
}

/* Cuts off everything in front of the packet at `inside`: it stands behind the Ethernet header then. */
PM_PART int pm_bare(PM_HOST *host, __u32 inside)
{
	struct pm_frame f = pm_frame_open(host);
	__u16 eth[PM_ETH_LEN / 2];

	if (f.data + PM_ETH_LEN > f.end || inside > PM_OFFSET_MAX || inside < PM_ETH_LEN)
		return -1;
#pragma unroll
	for (int i = 0; i < PM_ETH_LEN / 2; i++)
		eth[i] = ((const __u16 *)f.data)[i];
	if (pm_frame_move(&f, (int)inside - PM_ETH_LEN) || f.data + PM_ETH_LEN > f.end)
		return -1;
#pragma unroll
	for (int i = 0; i < PM_ETH_LEN / 2; i++)
		((__u16 *)f.data)[i] = eth[i];
	return 0;
}

/*
 * Tells the client. The first time that a path is found to be narrower it is told of the limit as it was until
 * then, as IPVS does: its next packet that does not fit either is answered with the new one.
 */
PM_PART __u64 pm_relay_error(PM_HOST *host, __u32 index, __u32 icmp, __u32 where, __u32 end)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_frame f = pm_frame_open(host);
	struct pm_conn *c = pm_line(4, index);
	struct pm_ipv4 *inner;
	struct pm_seen seen = {};
	__u32 inside = pm_error_offset(where), length = end - inside;
	__u32 now = pm_now(), what, rest, limit;
	struct pm_real *real;
	struct pm_icmp *head;
	__u64 line;
	int narrow;

	if (!set || !c)
		return PM_DROP_MAP;
	line = pm_head(c);
	if (!pm_error_owner(where, line) || !pm_look(c, line, &seen) || pm_kind_of(seen.c.traits) != PM_CONN_IN ||
	    pm_method_of(seen.c.traits) != PM_METHOD_TUN)
		return PM_PASS_ICMP;
	real = pm_reals(seen.c.real);
	if (!real)
		return PM_DROP_MAP;
	if (!pm_quotes_tunnel(&f, icmp + PM_ICMP_LEN, real))
		return PM_PASS_ICMP;
	if (end > PM_SUM_MAX)
		return PM_DROP_CHECKSUM_LIMIT;
	if (!pm_icmp_intact(&f, 4, icmp, end))
		return PM_DROP_ICMP_CHECKSUM;
	head = pm_at_offset(&f, icmp, PM_ICMP_LEN);
	inner = pm_at_offset(&f, inside, PM_IPV4_LEN);
	if (!head || !inner)
		return PM_DROP_MAP;
	what = head->type << 8 | head->code;
	rest = (__u32)pm_ntohs(head->unused) << 16 | pm_ntohs(head->mtu);
	narrow = what == (PM_ICMP_UNREACHABLE << 8 | PM_ICMP_FRAG_NEEDED);
	if (narrow) {
		__u32 overhead = pm_tunnel_overhead(real);

		limit = pm_hop_in(set, &seen, pm_epoch(set, now), now) ? pm_path_limit(set, &seen, real, now) : 0;
		/* Without DF nothing is asked of the client: its packets are fragmented (drop_fragmentation). */
		pm_learn_mtu(seen.c.real, rest & 0xffff, limit ? limit + overhead : 65535, now);
		if (!(inner->fragment & pm_htons(PM_IPV4_DF)))
			return PM_DROP_ICMP_TAKEN;
		rest = limit ? limit : rest & 0xffff;
	}
	if (!pm_answer_allowed(host, 4, inside, narrow ? PM_ANSWER_TOO_BIG : PM_ANSWER_HOST_UNREACHABLE, now))
		return PM_DROP_ANSWER_LIMIT;
	if (pm_bare(host, inside))
		return PM_DROP_ANSWER_FAILED;
	index = pm_turn4(host, PM_NONE);
	if (!index || pm_answer4(host, length, what, rest, PM_NONE))
		return PM_DROP_ANSWER_FAILED;
	length += PM_IPV4_LEN + PM_ICMP_LEN;
	if (real->slot == PM_SLOT_LIVE)
		pm_account(seen.c.real, length < PM_ICMP_MAX ? length : PM_ICMP_MAX, 1);
	return (__u64)index << 32 | PM_FORWARD_ICMP_REPLY;
}
